"""Scatters on the CPU: additions at places that data choose, in an order that no thread changes.

Each element of the result is added to in the order of the values, as ``np.add.at`` does it. Threads
share the axes that the result has from the values, such as the columns of rows added whole::

    for i0 in range(n_i0):
        v0 = x0[i0]
        for i1 in range(start, stop):
            v1 = x1[i0 * x1_s0 + i1]
            place = v0 * s + i1
            y0[place] = (y0[place] + v1)

Integers may be added in any order: chunks of the values have counters of their own, which a second
kernel adds to the result. Floats without such an axis are one thread's work.
"""

from contextlib import ExitStack

import numpy as np

from fusec.codegen.emit import KernelSource, loaded, stored
from fusec.codegen.emit_map import LoopEmitter, MapEmitter
from fusec.codegen.loops import Body, Buffer, Store, closure
from fusec.codegen.schedule import Schedule, schedule, schedule_scatter
from fusec.ir.aval import short
from fusec.ops import OPS
from fusec.ops.elementwise import expression

CHUNK = 1 << 14  # values for which counters of their own are worth their sum
CHUNKS = 64  # at most: enough for the threads of any CPU to end together
SUMS = "sums of the chunks of scatter_add"
ADD_NS = 1.0  # a load, an addition and a store at a place that is not known in advance


def emit_scatter(body: Body) -> list[KernelSource]:
    """What is there first, the additions and, of chunks, their sum."""
    assert body.first is not None
    first = MapEmitter(schedule(body.first)).emit()
    adding = ScatterEmitter(schedule_scatter(body))
    kernels = [first, adding.emit()]
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

    def place(self, buffer: Buffer) -> str:
        """The element that is added to; its position is written as a line."""
        self.data = self.store.data
        pointer, where = self.address(buffer, self.store.index)
        self.w(f"place = {where}")
        return f"{pointer}[place]"


class ScatterEmitter(Scattering):
    """See the module."""

    def __init__(self, plan: Schedule) -> None:
        super().__init__(plan)
        step = max(CHUNK, -(-self.length // CHUNKS), 4 * self.size_of_result)
        alone = plan.outer or plan.column or self.dtype.kind not in "iu" or not self.dense
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
            self._additions("start", "stop")
            return self.finish("scatter", self.body.extents[plan.column], work)
        row = plan.outer[0] if len(plan.outer) == 1 else "row"
        with w.block(f"for {row} in range(start, stop):"):
            self.rows(plan.outer, row)
            self.row_lines(0)
            self._additions("0", self.size(plan.column) if plan.column else "")
        across = self.body.extents[plan.column] if plan.column else 1
        return self.finish("scatter", self.count(plan.outer), work * across)

    def _lines(self, columns: bool) -> None:
        """What changes with the values, but (or only) with the column."""
        need = closure([self.store.value, *self.store.data.values()], set(self.known))
        along = {*self.plan.reduced} | ({self.plan.column} if columns else set())
        for line in self.body.lines:
            mine = line.variables & along and (self.plan.column in line.variables) == columns
            if mine and (line in need or line.effect):
                self.line(line)

    def _additions(self, first: str, last: str) -> None:
        with ExitStack() as loops:
            for name in self.plan.reduced:
                loops.enter_context(self.w.block(f"for {name} in range({self.size(name)}):"))
            self._lines(columns=False)
            if self.plan.column:
                loop = f"for {self.plan.column} in range({first}, {last}):"
                loops.enter_context(self.w.block(loop))
                self._lines(columns=True)
            self.w(added(self.dtype, self.place(self.store.buffer), self.read(self.store.value)))

    def _chunk(self) -> None:
        """The counters of a chunk."""
        w, slowest = self.w, self.plan.reduced[0]
        self.partial[self.partial_buffer.name] = self.chunks * self.size_of_result
        pointer = self.pointer(self.partial_buffer, 0).name
        n, step = self.int_arg("n", self.size_of_result), self.int_arg("step", self.step)
        with w.block("for row in range(start, stop):"), ExitStack() as loops:
            w(f"base = row * {n}")
            with w.block(f"for k in range({n}):"):
                w(f"{pointer}[base + k] = cast_{short(self.dtype)}(0)")
            for name in self.plan.reduced:
                size = self.size(name)
                ends = f"row * {step}, min(row * {step} + {step}, {size})"
                loop = f"for {name} in range({ends if name == slowest else size}):"
                loops.enter_context(w.block(loop))
            self._lines(columns=False)
            place = self.place(self.partial_buffer).replace("[place]", "[base + place]")
            w(added(self.dtype, place, self.read(self.store.value)))

    def total(self) -> KernelSource:
        """The kernel that adds the counters of the chunks to the result."""
        sums = LoopEmitter(Schedule(Body({}, (), [], [], [], SUMS), [], []))
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
