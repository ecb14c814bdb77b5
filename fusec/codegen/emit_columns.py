"""Column programs: reductions whose kept axis is the contiguous one.

A row of the grid is a strip of columns. Values without the reduced axes are small arrays over the
strip; every loop over the reduced axis has an inner, vectorised loop over the strip::

    for row in range(start, stop):
        begin = row * strip
        width = min(n_i1 - begin, strip)
        for b in range(0, n_i0, 256):              # sums: 32 lanes a block, as fold_sum has
            ...
            for i0 in range(b, b + m):
                lane = ((i0 - b) & 31) * width
                for i1 in range(begin, begin + width):
                    a_r0[lane + i1 - begin] = a_r0[lane + i1 - begin] + x0[i0 * x0_s0 + i1]
            ...

The order of every sum is that of a row program, so the bits do not depend on the layout.
"""

import os

from fusec.codegen.emit import KernelSource, loaded, ordered, pair, stored
from fusec.codegen.emit_map import LoopEmitter
from fusec.codegen.emit_rows import BLOCK, GROUP, LANES
from fusec.codegen.loops import Buffer, Fold, Line, closure, operands
from fusec.codegen.lower import IDENTITY
from fusec.codegen.schedule import Schedule, inner_stores, row_stores, stage_targets
from fusec.ir.aval import short
from fusec.ops.registry import MEDIUM

# Columns of one grid row: half a page of float32 streams well; less leaves work for more threads,
# and a strip in the cache for the loops that read it again to write a result of its size.
STRIPS = (512, 256, 128)
CPUS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
CHEAP_LANE = 8  # additions an element may cost for a block to be written out eight times


class ColumnEmitter(LoopEmitter):
    """See the module."""

    def __init__(self, plan: Schedule, split: bool) -> None:
        super().__init__(plan)
        self.split = split
        self.length = self.count(plan.reduced)
        self.blocks = -(-self.length // BLOCK)
        self.partials: dict[Fold, Buffer] = {}
        self.col = plan.column
        rows = self.count(plan.outer)
        enough = [n for n in STRIPS if rows * (self.body.extents[self.col] // n) >= CPUS]
        again = any(inner_stores(plan, k) for k in range(1, plan.stages))
        self.strip = enough[0] if enough and not (plan.saved or again) else STRIPS[-1]
        self.at = f"{self.col} - begin"

    def emit(self) -> KernelSource:
        plan, w = self.plan, self.w
        self.invariants()
        total = self.body.extents[self.col]
        strips = -(-total // self.strip)
        rows = self.count(plan.outer) * strips
        work = self.work() * self.length * min(total, self.strip)
        self.n = self.int_arg("n", self.length)
        with w.block("for row in range(start, stop):"):
            rest = "row"
            if self.split:
                groups = self.int_arg("groups", -(-self.blocks // GROUP))
                w(f"first = remainder(row, {groups}) * {BLOCK * GROUP}")
                w(f"rest = quotient(row, {groups})")
                rows, rest = rows * self.ints["groups"], "rest"
                work /= self.ints["groups"]
            name = self.int_arg("strips", strips)
            strip = self.int_arg("strip", self.strip)
            w(f"begin = remainder({rest}, {name}) * {strip}")
            w(f"width = min({self.size(self.col)} - begin, {strip})")
            w(f"kept = quotient({rest}, {name})")
            self.rows(plan.outer, "kept")
            for stage in range(1 if self.split else plan.stages):
                self.row_lines(stage)
                self.strip_lines(stage)
                self.stage(stage)
                if not self.split:
                    self.strip_stores(stage)
        return self.finish("columns", rows, work)

    # -- values over the strip ---------------------------------------------------------------------

    def strip_lines(self, stage: int) -> None:
        """Costly values of a column that its elements need: computed once, kept over the strip.

        So are those that are far apart in memory, or at places given by data.
        """
        along, known = set(self.plan.reduced), set(self.known)
        later = [t for k in range(stage, self.plan.stages) for t in stage_targets(self.plan, k)]
        need = closure(later, known)
        read = {a for x in need if x.variables & along for a in operands(x)}
        found: list[Line] = []
        for line in self.body.lines:
            mine = line.stage == stage and self.col in line.variables and line in read - known
            if mine and not line.variables & along and line.kind in ("op", "load"):
                parts = closure([line], known)
                price = sum(MEDIUM if self.apart(x) else x.cost for x in parts)
                if price >= MEDIUM and not line.effect:
                    found.append(line)
        if not found:
            return
        for line in found:
            self.scratch(f"z_{line.name}", line.dtype, self.strip)
        with self.w.block(f"for {self.col} in range(begin, begin + width):"):
            self.columns(found)
            for line in found:
                self.w(f"z_{line.name}[{self.at}] = {stored(line.dtype, line.name)}")
        for line in found:
            self.known[line] = loaded(line.dtype, f"z_{line.name}[{self.at}]")

    def apart(self, line: Line) -> bool:
        """Whether the values of neighbouring columns are loaded one by one."""
        if line.kind != "load" or line.index is None:
            return False
        return bool(line.data) or abs(dict(line.index.terms).get(self.col, 1)) != 1

    def columns(self, targets: list[Line]) -> None:
        """Lines of a column outside the loops over the reduced axes."""
        need = closure(targets, set(self.known))
        for line in self.body.lines:
            if self.col in line.variables and line in need:
                self.line(line)

    def across(self, targets: list[Line]) -> None:
        """Lines that are the same for all columns of one element of the reduced axes."""
        need = closure(targets, set(self.known))
        along = set(self.plan.reduced)
        for line in self.body.lines:
            if line in need and line.variables & along and self.col not in line.variables:
                self.line(line)

    def strip_stores(self, stage: int) -> None:
        stores = row_stores(self.plan, stage)
        if not stores:
            return
        with self.w.block(f"for {self.col} in range(begin, begin + width):"):
            self.columns([s.value for s in stores])
            self.stores(stage, inner=False)

    # -- one stage ------------------------------------------------------------------------------

    def stage(self, stage: int) -> None:
        folds = [f for f in self.body.folds if f.value.stage == stage]
        targets = stage_targets(self.plan, stage)
        if not targets and not folds:
            return
        keep = [x for x in self.plan.saved if x.stage == stage]
        for line in keep:
            self.scratch(f"w_{line.name}", line.dtype, self.length * self.strip)
        for line in self.body.lines:
            if line.kind == "scan" and line.stage == stage:
                self.carry(line)
        for fold in folds:
            self.scratch(
                f"a_{fold.result.name}",
                fold.value.dtype,
                self.strip * (LANES if self.laned(folds) else 1),
            )
            self.scratch(
                f"p_{fold.result.name}",
                fold.value.dtype,
                self.strip * (1 if self.split else self.blocks),
            )
        begin, end = "0", self.n
        if self.split:
            begin, end = "first", f"min(first + {BLOCK * GROUP}, {self.n})"
        if folds and (self.laned(folds) or self.split):
            with self.w.block(f"for b in range({begin}, {end}, {BLOCK}):"):
                self.w(f"m = min({self.n} - b, {BLOCK})")
                if self.plain(stage, targets, folds, keep):
                    with self.w.block(f"if m == {BLOCK}:"):
                        self.whole_block(targets, folds)
                    with self.w.block("else:"):
                        self.fill(folds)
                        self.loop("b", "b + m", stage, targets, folds, keep)
                else:
                    self.fill(folds)
                    self.loop("b", "b + m", stage, targets, folds, keep)
                self.combine(folds)
            if not self.split:
                self.tree(folds)
        else:
            self.fill(folds)
            self.loop(begin, end, stage, targets, folds, keep)
            for fold in folds:
                self.known[fold.result] = loaded(
                    fold.value.dtype, f"a_{fold.result.name}[{self.at}]"
                )
        for line in keep:
            self.known[line] = loaded(line.dtype, f"w_{line.name}[e * width + {self.at}]")

    @staticmethod
    def laned(folds: list[Fold]) -> bool:
        return any(map(ordered, folds))

    def lanes(self, folds: list[Fold]) -> str:
        return f"{LANES} * width" if self.laned(folds) else "width"

    def fill(self, folds: list[Fold]) -> None:
        for fold in folds:
            identity = f"cast_{short(fold.value.dtype)}({IDENTITY[fold.op](fold.value.dtype)})"
            with self.w.block(f"for k in range({self.lanes(folds)}):"):
                self.w(f"a_{fold.result.name}[k] = {stored(fold.value.dtype, identity)}")

    def loop(
        self,
        first: str,
        last: str,
        stage: int,
        targets: list[Line],
        folds: list[Fold],
        keep: list[Line],
    ) -> None:
        reduced, w = self.plan.reduced, self.w
        lane = (
            f"((e - {first if first == 'b' else 0}) & {LANES - 1}) * width + "
            if self.laned(folds)
            else ""
        )
        with w.block(f"for e in range({first}, {last}):"):
            self.rows(reduced, "e")
            self.across([*targets, *[f.value for f in folds]])
            with w.block(f"for {self.col} in range(begin, begin + width):"):
                self.columns([*targets, *[f.value for f in folds]])
                for fold in folds:
                    place = f"a_{fold.result.name}[{lane}{self.at}]"
                    text = pair(fold, loaded(fold.value.dtype, place), self.read(fold.value))
                    w(f"{place} = {stored(fold.value.dtype, text)}")
                for line in keep:
                    w(f"w_{line.name}[e * width + {self.at}] = {stored(line.dtype, line.name)}")
                for store in inner_stores(self.plan, stage):
                    pointer, where = self.address(store.buffer, store.index)
                    w(f"{pointer}[{where}] = {stored(store.buffer.dtype, self.read(store.value))}")

    def plain(self, stage: int, targets: list[Line], folds: list[Fold], keep: list[Line]) -> bool:
        """Whether a block is worth a second form that keeps each lane in a register."""
        need = closure([f.value for f in folds], set(self.known))
        effects = any(t.effect for t in targets) or any(x.kind == "scan" for x in need)
        return (
            self.laned(folds)
            and not keep
            and not effects
            and not inner_stores(self.plan, stage)
            and sum(x.cost for x in need) <= CHEAP_LANE
        )

    def whole_block(self, targets: list[Line], folds: list[Fold]) -> None:
        """A full block: each lane adds its elements in a register and is stored once."""
        w, turns = self.w, BLOCK // LANES
        w(f"lanes = {LANES}")
        with (
            w.block("for lane in range(lanes):"),
            w.block(f"for {self.col} in range(begin, begin + width):"),
        ):
            for turn in range(turns):
                self.rows(self.plan.reduced, f"(b + lane + {turn * LANES})")
                self.across([*targets, *[f.value for f in folds]])
                self.columns([*targets, *[f.value for f in folds]])
                for fold in folds:
                    total, value = f"sum_{fold.result.name}", self.read(fold.value)
                    w(f"{total} = {value if turn == 0 else pair(fold, total, value)}")
            for fold in folds:
                place = f"a_{fold.result.name}[lane * width + {self.at}]"
                w(f"{place} = {stored(fold.value.dtype, f'sum_{fold.result.name}')}")

    def combine(self, folds: list[Fold]) -> None:
        """The lanes of a block by halves, then into the partial results."""
        for fold in folds:
            a, dtype = f"a_{fold.result.name}", fold.value.dtype
            if self.laned(folds):
                self.w(f"half = {LANES // 2}")
                with self.w.block("while half > 0:"):
                    with self.w.block("for k in range(half * width):"):
                        both = (loaded(dtype, f"{a}[k]"), loaded(dtype, f"{a}[k + half * width]"))
                        self.w(f"{a}[k] = {stored(dtype, pair(fold, *both))}")
                    self.w("half = half >> 1")
            with self.w.block("for k in range(width):"):
                if self.split:
                    buffer = self.partials.setdefault(
                        fold, Buffer(f"p_{fold.result.name}_all", dtype, (), "partial")
                    )
                    kept = self.count([*self.plan.outer, self.col])
                    self.partial[buffer.name] = kept * self.blocks
                    blocks = self.int_arg("blocks", self.blocks)
                    place = f"(kept * {self.size(self.col)} + begin + k) * {blocks} + (b >> 8)"
                    self.w(f"{self.pointer(buffer, 0).name}[{place}] = {a}[k]")
                else:
                    self.w(f"p_{fold.result.name}[(b >> 8) * width + k] = {a}[k]")

    def tree(self, folds: list[Fold]) -> None:
        """Adjacent blocks are combined until one is left, an odd one carried up."""
        for fold in folds:
            p, dtype = f"p_{fold.result.name}", fold.value.dtype
            self.w(f"left = ({self.n} + {BLOCK - 1}) >> 8")
            with self.w.block("while left > 1:"):
                with (
                    self.w.block("for q in range(left >> 1):"),
                    self.w.block("for k in range(width):"),
                ):
                    both = (
                        loaded(dtype, f"{p}[2 * q * width + k]"),
                        loaded(dtype, f"{p}[(2 * q + 1) * width + k]"),
                    )
                    self.w(f"{p}[q * width + k] = {stored(dtype, pair(fold, *both))}")
                with self.w.block("if left & 1:"), self.w.block("for k in range(width):"):
                    self.w(f"{p}[(left >> 1) * width + k] = {p}[(left - 1) * width + k]")
                self.w("left = (left + 1) >> 1")
            self.known[fold.result] = loaded(dtype, f"{p}[{self.at}]")

    def carry(self, line: Line) -> None:
        """A scan down the columns: one running value for each of them."""
        assert line.buffer is not None
        name = self.scratch(f"s_{line.name}", line.dtype, self.strip)
        with self.w.block("for k in range(width):"):
            self.w(f"{name}[k] = {line.buffer.name}")

    def line(self, line: Line) -> None:
        if line.kind != "scan" or line in self.known:
            return super().line(line)
        place = f"s_{line.name}[{self.at}]"
        args = [self.read(a) for a in line.args]
        self.w(f"{line.name} = {line.text.format(*args, carry=place)}")
        self.w(f"{place} = {line.name}")
        return None
