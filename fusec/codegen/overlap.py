"""Kernels that read the memory which they change: ``t[:-1] = t[1:]``.

Old values are read before the loop comes to the places where they are overwritten: a block of new
values is computed into scratch, then stored::

    for b in range(0, n_i0, 256):
        for i0 in range(b, min(b + 256, n_i0)):
            v0 = x0[i0 + o]
            new0[i0 - b] = v0
        for i0 in range(b, min(b + 256, n_i0)):
            x0[i0] = new0[i0 - b]

All that shares memory has one pointer, since LLVM is told that pointers lie apart. Where a row
reads of other rows, one thread does all of them, in order.
"""

from contextlib import ExitStack
from typing import Any

from fusec.codegen.emit import KernelSource, loaded, stored
from fusec.codegen.emit_map import MapEmitter
from fusec.codegen.loops import Buffer, Line, closure
from fusec.codegen.schedule import Schedule, all_lines, inner_stores, row_stores, stage_targets
from fusec.ops.registry import COSTLY
from fusec.passes.access import Extents, Index, bounds
from fusec.passes.updates import Overlap

BLOCK = 256  # values that are computed before they are stored: they stay in the L1 cache


def rows_that_meet(plan: Schedule) -> list[tuple[int, ...]] | None:
    """How many rounds of each loop, the outermost first, after old values they are overwritten.

    None: each is overwritten by the round that reads it. Raises Overlap where one is too early, or
    where one thread would have much to compute.
    """
    body, found = plan.body, set[tuple[int, ...]]()
    loops = [*plan.outer, *plan.reduced, *[plan.column] * bool(plan.column)]
    changing = [s for s in body.stores if s.inside]
    loads = [x for x in all_lines(body) if x.kind == "load"]
    for store in changing:
        others = [s for s in body.stores if s.buffer is store.buffer and s is not store]
        meeting = any(_steps(store.index, s.index, body.extents) for s in others)
        reads = [x for x in loads if x.buffer is store.buffer and x.index != store.index]
        later = _after(plan, store.value.stage)
        if meeting or any(x.buffer is store.buffer for x in later):
            raise Overlap
        for line in reads:
            assert line.index is not None
            steps = _steps(line.index, store.index, body.extents)
            found |= {tuple([step.get(name, 0) for name in loops]) for step in steps}
    long = sum([x.cost for x in all_lines(body)]) >= COSTLY  # better done by all threads
    if any(way < (0,) * len(loops) for way in found) or (found and (body.reduced or long)):
        raise Overlap
    return sorted(found) or None


def _after(plan: Schedule, stage: int) -> set[Line]:
    """What is computed behind the loop of a stage: its sums may be calls that read memory again."""
    targets = [f.value for f in plan.body.folds if f.value.stage == stage]
    for later in range(stage + 1, plan.stages):
        targets += stage_targets(plan, later) + [s.value for s in row_stores(plan, later)]
    return closure(targets, {*plan.saved})


def _steps(read: Index, written: Index, extents: Extents) -> list[dict[str, int]]:
    """How many rounds of each loop may lie between a read and a write of one place.

    Raises Overlap where that is not known.
    """
    (low, high), (least, most) = bounds(read, extents), bounds(written, extents)
    if high < least or most < low:
        return []
    terms: list[Any] = sorted(written.terms, key=lambda term: -abs(term[1]))
    if read.terms != written.terms or not all(isinstance(name, str) for name, _ in terms):
        raise Overlap
    found: list[tuple[int, dict[str, int]]] = [(read.const - written.const, {})]
    for k, (name, c) in enumerate(terms):
        rest = sum([abs(s) * (extents[v] - 1) for v, s in terms[k + 1 :]])
        n, size, way = extents[name] - 1, abs(c), 1 if c > 0 else -1
        found = [
            (far - size * d, {**steps, name: d * way})
            for far, steps in found
            for d in range(max(-n, -((rest - far) // size)), min(n, (far + rest) // size) + 1)
        ]
    return [steps for far, steps in found if not far]


class OverlapEmitter(MapEmitter):
    """See the module. alone: one thread does all rows."""

    def __init__(self, plan: Schedule, alone: bool) -> None:
        super().__init__(plan)
        self.alone = alone
        self.shared = {s.buffer for s in self.body.stores if s.inside}

    def emit(self) -> KernelSource:
        plan = self.plan
        if not self.alone:
            return super().emit()
        self.invariants()
        (vector,) = plan.reduced
        with ExitStack() as loops:
            for name in plan.outer:
                loops.enter_context(self.w.block(f"for {name} in range({self.size(name)}):"))
            self.row_lines(0)
            self.vectors("0", self.size(vector))
        return self.finish("map", 1, self.work() * self.count([*plan.outer, vector]))

    def divided(self, stage: int) -> frozenset[Line]:
        return frozenset()  # what it reads it may have overwritten

    def vectors(self, first: str, last: str) -> None:
        w, (name,) = self.w, self.plan.reduced
        stores = inner_stores(self.plan, 0)
        values = [self.scratch(f"new{k}", s.buffer.dtype, BLOCK) for k, s in enumerate(stores)]
        loop = f"for {name} in range(b, min(b + {BLOCK}, {last})):"
        with w.block(f"for b in range({first}, {last}, {BLOCK}):"):
            with w.block(loop):
                self.inner(0, stage_targets(self.plan, 0))
                for store, value in zip(stores, values):
                    text = stored(store.buffer.dtype, self.read(store.value))
                    w(f"{value}[{name} - b] = {text}")
                self.interleave(stage_targets(self.plan, 0), name)
            for store, value in zip(stores, values):
                with w.block(loop):
                    pointer, where = self.address(store.buffer, store.index)
                    text = loaded(store.buffer.dtype, f"{value}[{name} - b]")
                    w(f"{pointer}[{where}] = {stored(store.buffer.dtype, text)}")

    def address(self, buffer: Buffer, index: Index) -> tuple[str, str]:
        if buffer not in self.shared or not index.const:
            return super().address(buffer, index)
        pointer, where = super().address(buffer, Index(index.terms))
        return pointer, f"{where} + {self.int_arg('o', index.const)}"
