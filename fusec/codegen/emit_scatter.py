"""Scatters on the CPU: additions at places that data choose, in an order that no thread changes.

Each element of the result is added to in the order of the values, as ``np.add.at`` does it. Threads
share the axes that the result has from the values, such as the columns of rows added whole::

    for i0 in range(n_i0):
        v0 = x0[i0]
        for i1 in range(begin, end):
            v1 = x1[i0 * x1_s0 + i1]
            place = v0 * s + i1
            y0[place] = (y0[place] + v1)

Integers may be added in any order: chunks of the values have counters of their own, which a second
kernel adds to the result. Floats without such an axis are one thread's work.
"""

from contextlib import ExitStack

import numpy as np

from fusec.codegen.emit import KernelSource, loaded, stored
from fusec.codegen.emit_columns import CPUS
from fusec.codegen.emit_gathers import Gathers
from fusec.codegen.emit_loop import LoopEmitter
from fusec.codegen.emit_map import MapEmitter
from fusec.codegen.loops import Body, Buffer, Line, Store, closure
from fusec.codegen.schedule import Schedule, is_inner, schedule, schedule_scatter
from fusec.ir.aval import short
from fusec.ops import OPS
from fusec.ops.elementwise import expression

CHUNK = 1 << 14  # values for which counters of their own are worth their sum
CHUNKS = 64  # at most: enough for the threads of any CPU to end together
SUMS = "sums of the chunks of scatter_add"
BLOCK = 256  # values whose places are computed as vectors, so that they stay in the L1 cache
CACHE_LINE = 64  # bytes
ADD_NS = 1.0  # a load, an addition and a store at a place that is not known in advance


def emit_scatter(body: Body) -> list[KernelSource]:
    """What is there first, the additions and, of chunks, their sum."""
    assert body.first is not None
    first = [MapEmitter(schedule(body.first)).emit()] if body.first.stores else []
    adding = ScatterEmitter(schedule_scatter(body))
    kernels = [*first, adding.emit()]
    return kernels if adding.chunks == 1 else [*kernels, adding.total()]


def added(dtype: np.dtype, place: str, value: str) -> str:
    """``place += value`` as a line of a kernel."""
    text = expression(OPS["add"], (loaded(dtype, place), value), (dtype, dtype), dtype)
    assert text is not None
    return f"{place} = {stored(dtype, text)}"


class Scattering(LoopEmitter):
    """The lines of one addition, for the kernels of all targets."""

    @property
    def store(self) -> Store:
        return self.body.stores[0]

    @property
    def dtype(self) -> np.dtype:
        return self.store.buffer.dtype

    @property
    def effects(self) -> list[Line]:
        """The lines that may report an error."""
        return [x for x in self.body.lines if x.effect]

    @property
    def length(self) -> int:
        """Values that each element of the kept axes may be given."""
        return self.count(self.plan.reduced)

    @property
    def size_of_result(self) -> int:
        node = self.store.buffer.node
        assert node is not None
        return node.aval.size

    @property
    def dense(self) -> bool:
        """Whether the elements of the result lie side by side, in whatever order."""
        node, strides = self.store.buffer.node, self.store.buffer.strides
        assert node is not None
        reach = 1 + sum([s * (n - 1) for s, n in zip(strides, node.shape)])
        return min(strides) >= 0 and reach == node.aval.size

    def put(self, place: str, value: str) -> str:
        """What happens at a place, as a line of a kernel."""
        if self.store.adds:
            return added(self.dtype, place, value)
        return f"{place} = {stored(self.dtype, value)}"

    def place(self, buffer: Buffer, base: str = "") -> str:
        """The element that is added to; its position is written as a line."""
        self.data = self.store.data
        pointer, where = self.address(buffer, self.store.index)
        self.w(f"place = {where}")
        return f"{pointer}[{base}place]"


class ScatterEmitter(Scattering):
    """See the module."""

    def __init__(self, plan: Schedule) -> None:
        super().__init__(plan)
        step = max(CHUNK, -(-self.length // CHUNKS), 4 * self.size_of_result)
        alone = plan.outer or plan.column or self.dtype.kind not in "iu" or not self.dense
        alone = alone or not self.store.adds
        self.chunks = 1 if alone else max(1, -(-self.length // step))
        self.step = -(-self.body.extents[plan.reduced[0]] // self.chunks) if self.chunks > 1 else 0
        self.partial_buffer = Buffer("p0", self.dtype, (), "partial")

    def emit(self) -> KernelSource:
        plan, w = self.plan, self.w
        self.invariants()
        work = (self.work() + ADD_NS) * self.length
        if self.chunks > 1:
            self._chunk()
            return self.finish("scatter", self.chunks, work / self.chunks)
        if plan.column and not plan.outer:
            across = self.body.extents[plan.column]
            strip = self._strip(across)
            step = self.int_arg("strip", strip)
            with w.block("for row in range(start, stop):"):
                w(f"begin = row * {step}")
                w(f"end = min(begin + {step}, {self.size(plan.column)})")
                self._additions("begin", "end")
            return self.finish("scatter", -(-across // strip), work * min(strip, across))
        row = plan.outer[0] if len(plan.outer) == 1 else "row"
        with w.block(f"for {row} in range(start, stop):"):
            self.rows(plan.outer, row)
            self.row_lines(0)
            self._additions("0", self.size(plan.column) if plan.column else "")
        across = self.body.extents[plan.column] if plan.column else 1
        return self.finish("scatter", self.count(plan.outer), work * across)

    def _strip(self, across: int) -> int:
        """Columns of a thread: whole lines of the cache, since two threads can't write one."""
        line = CACHE_LINE // self.dtype.itemsize
        return -(-across // (CPUS * line)) * line

    def _lines(self, columns: bool) -> None:
        """What changes with the values, but (or only) with the column."""
        targets = [self.store.value, *self.store.data.values(), *self.effects]
        need = closure(targets, set(self.known))
        along = {*self.plan.reduced} | ({self.plan.column} if columns else set())
        for line in self.body.lines:
            mine = line.variables & along and (self.plan.column in line.variables) == columns
            if mine and line in need:
                self.line(line)

    def _additions(self, first: str, last: str) -> None:
        """All values, for the columns from ``first`` to ``last``."""
        with ExitStack() as loops:
            for name in self.plan.reduced[:-1]:
                loops.enter_context(self.w.block(f"for {name} in range({self.size(name)}):"))
            size = self.size(self.plan.reduced[-1]) if self.plan.reduced else ""
            if not self.plan.column:
                return self._line("0", size, self.store.buffer, "")
            if size:
                loop = f"for {self.plan.reduced[-1]} in range({size}):"
                loops.enter_context(self.w.block(loop))
            self._lines(columns=False)
            loop = f"for {self.plan.column} in range({first}, {last}):"
            loops.enter_context(self.w.block(loop))
            self._lines(columns=True)
            self.w(self.put(self.place(self.store.buffer), self.read(self.store.value)))

    def _line(self, first: str, last: str, buffer: Buffer, base: str) -> None:
        """The innermost loop over the values; ``base`` is put in front of their positions.

        Places and values that are computed, or checked, are so for a block of them, as vectors::

            for b in range(first, last, 256):
                for i0 in range(b, min(b + 256, last)):
                    ...
                    w_place[i0 - b] = place
                    w_value[i0 - b] = t4
                for k in range(min(last - b, 256)):
                    y0[w_place[k]] = (y0[w_place[k]] + w_value[k])
        """
        w, value, name = self.w, self.store.value, next(iter(self.plan.reduced[-1:]), "")
        if not name:
            return self._element(buffer, base)
        if all(x.kind in ("load", "index") for x in self.body.lines if is_inner(x, self.plan)):
            with w.block(f"for {name} in range({first}, {last}):"):
                self._element(buffer, base)
            return None
        gathers = Gathers(self)
        if gathers.places and gathers.cheap:
            gathers.groups(first, last, lambda: self._element(buffer, base))
            return None
        places = self.scratch("w_place", np.dtype("i8"), BLOCK)
        values = self.scratch("w_value", self.dtype, BLOCK) if is_inner(value, self.plan) else ""
        with w.block(f"for b in range({first}, {last}, {BLOCK}):"):
            with w.block(f"for {name} in range(b, min(b + {BLOCK}, {last})):"):
                self._lines(columns=False)
                pointer = self.place(buffer, base).partition("[")[0]
                w(f"{places}[{name} - b] = {base}place")
                if values:
                    w(f"{values}[{name} - b] = {stored(self.dtype, self.read(value))}")
            with w.block(f"for k in range(min({last} - b, {BLOCK})):"):
                each = loaded(self.dtype, f"{values}[k]") if values else self.read(value)
                w(self.put(f"{pointer}[{places}[k]]", each))

    def _element(self, buffer: Buffer, base: str) -> None:
        """One addition."""
        self._lines(columns=False)
        self.w(self.put(self.place(buffer, base), self.read(self.store.value)))

    def _chunk(self) -> None:
        """The counters of a chunk."""
        w, names = self.w, self.plan.reduced
        self.partial[self.partial_buffer.name] = self.chunks * self.size_of_result
        pointer = self.pointer(self.partial_buffer, 0).name
        n, step = self.int_arg("n", self.size_of_result), self.int_arg("step", self.step)
        with w.block("for row in range(start, stop):"), ExitStack() as loops:
            w(f"base = row * {n}")
            with w.block(f"for k in range({n}):"):
                w(f"{pointer}[base + k] = cast_{short(self.dtype)}(0)")
            w(f"first = row * {step}")
            w(f"last = min(first + {step}, {self.size(names[0])})")
            ends = [("first", "last"), *[("0", self.size(name)) for name in names[1:]]]
            for name, (begin, end) in list(zip(names, ends))[:-1]:
                loops.enter_context(w.block(f"for {name} in range({begin}, {end}):"))
            self._line(*ends[-1], self.partial_buffer, "base + ")

    def total(self) -> KernelSource:
        """The kernel that adds the counters of the chunks to the result."""
        sums = LoopEmitter(Schedule(Body({}, (), [], [], [], SUMS, self.body.notes), [], []))
        n, rows = sums.int_arg("n", self.size_of_result), sums.int_arg("rows", self.chunks)
        result = sums.pointer(self.store.buffer, 0).name
        chunks = sums.pointer(self.partial_buffer, 0).name
        with (
            sums.w.block(f"for row in range({rows}):"),
            sums.w.block("for k in range(start, stop):"),
        ):
            sums.w(added(self.dtype, f"{result}[k]", f"{chunks}[row * {n} + k]"))
        kernel = sums.finish("finish", self.size_of_result, 0.5 * self.chunks)
        kernel.partial = self.partial
        return kernel
