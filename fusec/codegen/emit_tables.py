"""Tables: columns so long that threads share them, or so few that a row is shorter than a vector.

Rows of few columns that lie one after the other are one long vector: the lanes of a block, 32 rows,
are added as they lie in memory. What belongs to a column is written out for 32 rows before::

    pitch = width
    wide = (width + 31) & -32
    for b in range(0, n, 256):
        m = min(n - b, 256)
        if m == 256:
            for i1 in range(begin, begin + 32 * width):
                i0 = (b + 0)
                sum_r0 = x0[i0 * x0_s0 + i1]
                i0 = (b + 32)
                sum_r0 = sum_r0 + x0[i0 * x0_s0 + i1]
                ...
                a_r0[i1 - begin] = sum_r0
            halves_sum(a_r0, pitch)
        ...
        for k in range(width):
            p_r0[(b >> 8) * wide + k] = a_r0[k]
    pairs_sum(p_r0, (n + 255) >> 8, wide, wide)
"""

from math import prod

from fusec.codegen.emit import KernelSource, loaded, stored
from fusec.codegen.emit_columns import STRIPS, WIDE, ColumnEmitter, whole_lanes
from fusec.codegen.loops import BLOCK, LANES, Fold, Line, closure, operands
from fusec.codegen.schedule import Schedule, inner_stores, one_loop, stage_targets
from fusec.passes.groups import FEW_ROWS

LONG_STRIP = 4 << 20  # bytes of a strip from which several threads share it: some 100 us of one
NARROW = 2 * LANES  # columns


def narrow(plan: Schedule) -> bool:
    """Whether all that is read lies in short rows, one after the other, or belongs to a column."""
    body, col = plan.body, plan.column
    if len(plan.reduced) != 1 or not LANES // 8 < body.extents[col] <= NARROW or plan.saved:
        return False
    (row,) = plan.reduced
    width = body.extents[col]
    if body.extents[row] < BLOCK:
        return False
    for line in body.lines:
        if row not in line.variables:
            continue
        terms = dict(line.index.terms) if line.index else {}
        beside = terms.get(row) == width and terms.get(col) == 1 and not line.data
        if line.kind != "op" and not (line.kind == "load" and beside):
            return False
        if line.effect or col not in line.variables:
            return False
    moving = all({row, col} <= f.value.variables for f in body.folds)
    return moving and not any(inner_stores(plan, k) for k in range(plan.stages))


class NarrowEmitter(ColumnEmitter):
    """Tables of few columns; see the module."""

    pitch, between, apart = "width", "wide", True

    @staticmethod
    def laned(folds: list[Fold]) -> bool:
        return bool(folds)  # also those whose order doesn't show: a lane is a register

    def stage(self, stage: int) -> None:
        folds = [f for f in self.body.folds if f.value.stage == stage]
        self.written: list[Line] = []
        if folds:
            self.w(f"wide = {WIDE}")
            self.w(f"lanes = {LANES}")
        if self.plain(stage, stage_targets(self.plan, stage), folds, []):
            self.write_out([f.value for f in folds])
        super().stage(stage)

    def write_out(self, values: list[Line]) -> None:
        """What ``values`` need of a column, for each lane."""
        along = {*self.plan.reduced}
        need = [x for x in closure(values, set(self.known)) if x.variables & along]
        read = {a for x in need for a in operands(x)}
        lines = [x for x in self.body.lines if x in read and not x.variables & along]
        self.written = [x for x in lines if self.col in x.variables]
        for line in self.written:
            self.scratch(f"c_{line.name}", line.dtype, LANES * NARROW)
        if self.written:
            with (
                self.w.block("for lane in range(lanes):"),
                self.w.block(f"for {self.col} in range(begin, begin + width):"),
            ):
                self.columns(self.written)
                for line in self.written:
                    value = stored(line.dtype, self.read(line))
                    self.w(f"c_{line.name}[lane * width + {self.at}] = {value}")

    def whole_block(self, targets: list[Line], folds: list[Fold]) -> None:
        w, known = self.w, {**self.known}
        for line in self.written:
            self.known[line] = loaded(line.dtype, f"c_{line.name}[{self.at}]")
        with w.block(f"for {self.col} in range(begin, begin + lanes * width):"):
            self.turns(targets, folds, "b")
            for fold in folds:
                place = f"a_{fold.result.name}[{self.at}]"
                w(f"{place} = {stored(fold.value.dtype, f'sum_{fold.result.name}')}")
        for fold in folds:
            w(f"halves_{fold.op}(a_{fold.result.name}, pitch)")
        self.known.clear()
        self.known.update(known)

    def lanes(self, folds: list[Fold]) -> str:
        return super().lanes(folds) if self.laned(folds) else "wide"

    def direct(self, fold: Fold) -> bool:
        return False


class ColumnFinishEmitter(ColumnEmitter):
    """The second kernel of a split reduction: pairs of blocks, then values of the columns."""

    def __init__(self, plan: Schedule, first: ColumnEmitter) -> None:
        super().__init__(plan, split=True)
        self.partials, self.blocks = first.partials, first.blocks

    def emit(self) -> KernelSource:
        plan, w = self.plan, self.w
        self.invariants()
        total = self.body.extents[self.col]
        strips = -(-total // self.strip)
        with w.block("for row in range(start, stop):"):
            w(f"kept = {self.strips('row', strips)}")
            self.rows(plan.outer, "kept")
            w(f"wide = (width + {LANES - 1}) & {-LANES}")
            blocks, across = (
                self.int_arg("blocks", self.blocks),
                self.int_arg("across", whole_lanes(total)),
            )
            for fold, buffer in self.partials.items():
                place = f"kept * {blocks} * {across} + begin"
                w(f"p_{fold.result.name} = at({self.pointer(buffer, 0).name}, {place})")
                w(f"pairs_{fold.op}(p_{fold.result.name}, {blocks}, {across}, wide)")
                text = f"p_{fold.result.name}[{self.at}]"
                self.known[fold.result] = loaded(fold.value.dtype, text)
            self.outside({*plan.reduced, self.col})
            for stage in range(plan.stages):
                self.strip_stores(stage)
        work = 0.1 * self.blocks * min(total, self.strip)
        return self.finish("finish", self.count(plan.outer) * strips, work)


def long_strips(plan: Schedule) -> bool:
    """Whether too few strips of columns are too long to be left to a thread each."""
    body = plan.body
    rows = [body.extents[v] for v in plan.outer]
    total = body.extents[plan.column]
    wide = min(total, STRIPS[0])
    width = max([f.value.dtype.itemsize for f in body.folds], default=0)
    length = prod([body.extents[v] for v in plan.reduced])
    few = prod(rows) * -(-total // STRIPS[0]) < FEW_ROWS
    return few and wide * length * width >= LONG_STRIP and length > BLOCK and one_loop(plan)
