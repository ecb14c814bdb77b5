"""Column programs: reductions whose kept axis is the contiguous one.

A row of the grid is a strip of columns. Values without the reduced axes are small arrays over the
strip; every loop over the reduced axis has an inner, vectorised loop over the strip::

    for row in range(start, stop):
        begin = remainder(row, strips) * strip
        width = min(n_i1 - begin, strip)
        pitch = (width + 31) & -32
        for b in range(0, n, 256):               # sums: 32 lanes a block, as fold_sum has
            m = min(n - b, 256)
            a_r0 = at(p_r0, (b >> 8) * pitch)    # the first lane is where the result will be
            fill_sum(a_r0, 32 * pitch)
            for i0 in range(b, b + m):
                for i1 in range(begin, begin + width):
                    v0 = x0[i0 * x0_s0 + i1]
                    lane = ((i0 - b) & 31) * pitch
                    a_r0[lane + i1 - begin] = a_r0[lane + i1 - begin] + (v0 * v0)
            halves_sum(a_r0, pitch)
        pairs_sum(p_r0, (n + 255) >> 8, pitch, pitch)

Few long strips are split: a row of the grid is one block of one, and a second kernel combines the
blocks. What is only read and added is left to ``lanes_sum``. ``column_folds`` has these functions.
The order of every sum is that of a row program, so the bits do not depend on the layout.
"""

import os
from functools import partial

from fusec.codegen.emit import KernelSource, loaded, pair, stored
from fusec.codegen.emit_quotients import ROWS
from fusec.codegen.emit_spans import SpanEmitter
from fusec.codegen.loops import BLOCK, LANES, Buffer, Fold, Line, closure, operands, ordered
from fusec.codegen.schedule import Schedule, inner_stores, row_stores, stage_targets
from fusec.ops.registry import MEDIUM

# Columns of one grid row: half a page of float32 streams well; less leaves work for more threads,
# and a strip in the cache for the loops that read it again to write a result of its size.
STRIPS = (512, 256, 128)
CPUS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
WIDE = f"(width + {LANES - 1}) & {-LANES}"  # whole vectors
CHEAP_LANE = 8  # additions an element may cost for a block to be written out eight times


class ColumnEmitter(SpanEmitter):
    """See the module. pitch: between the lanes of a block; between: the results of blocks.

    apart: whether the lanes of a block do not lie where its result will.
    """

    pitch, between, apart = WIDE, "pitch", False
    nested = True

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
        wide = enough and not (plan.saved or again)
        self.strip = STRIPS[0] if split else enough[0] if wide else STRIPS[-1]
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
            rest = self.strips("row", strips)
            if self.split:
                blocks = self.int_arg("blocks", self.blocks)
                w(f"b = remainder({rest}, {blocks}) * {BLOCK}")
                w(f"m = min({self.n} - b, {BLOCK})")
                rest = f"quotient({rest}, {blocks})"
                rows, work = rows * self.blocks, work / self.blocks
            w(f"kept = {rest}")
            if self.body.folds:
                w(f"pitch = {self.pitch}")
            self.rows(plan.outer, "kept")
            for stage in range(1 if self.split else plan.stages):
                self.row_lines(stage)
                self.strip_lines(stage)
                self.stage(stage)
                if not self.split:
                    self.strip_stores(stage)
        return self.finish("columns", rows, work)

    def strips(self, row: str, count: int) -> str:
        """Which columns a row of the grid has; gives what is left of its number."""
        name, strip = self.int_arg("strips", count), self.int_arg("strip", self.strip)
        self.w(f"begin = remainder({row}, {name}) * {strip}")
        self.w(f"width = min({self.size(self.col)} - begin, {strip})")
        return f"quotient({row}, {name})"

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
                price = sum(MEDIUM if self.scattered(x) else x.cost for x in parts)
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

    def scattered(self, line: Line) -> bool:
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
            self.interleave([s.value for s in stores], self.col)

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
        laned = self.laned(folds)
        rows = LANES if laned else 1
        within = laned and not self.split and not self.apart
        for fold in folds:
            name, count = ("p", self.blocks - 1 + rows) if within else ("a", rows)
            self.scratch(f"{name}_{fold.result.name}", fold.value.dtype, self.strip * count)
            if self.apart and laned and not self.split:
                size = self.strip * self.blocks
                self.scratch(f"p_{fold.result.name}", fold.value.dtype, size)
        if folds and self.split:
            self.block(stage, targets, folds, keep)
        elif laned:
            with self.w.block(f"for b in range(0, {self.n}, {BLOCK}):"):
                self.w(f"m = min({self.n} - b, {BLOCK})")
                for fold in folds if within else ():
                    self.w(f"a_{fold.result.name} = at(p_{fold.result.name}, (b >> 8) * pitch)")
                self.block(stage, targets, folds, keep)
            self.tree(folds)
        else:
            self.fill(folds)
            if not folds and self.length >= ROWS:
                self.share(stage, self.col, ("begin", "begin + width"), self.at, self.strip)
            loop = partial(self.loop, "0", self.n, stage, targets, folds, keep)
            self.attempts(stage, self.divided(stage), loop)
            for fold in folds:
                self.known[fold.result] = loaded(
                    fold.value.dtype, f"a_{fold.result.name}[{self.at}]"
                )
        for line in keep:
            self.known[line] = loaded(line.dtype, f"w_{line.name}[e * width + {self.at}]")

    def block(
        self, stage: int, targets: list[Line], folds: list[Fold], keep: list[Line]
    ) -> None:
        """The lanes of m rows from row b on, and their halves."""
        plain = self.plain(stage, targets, folds, keep)
        if plain and all(map(self.direct, folds)):
            self.lanes_in_memory(folds)
        elif plain:
            with self.w.block(f"if m == {BLOCK}:"):
                self.whole_block(targets, folds)
            with self.w.block("else:"):
                self.added(stage, targets, folds, keep)
        else:
            self.added(stage, targets, folds, keep)
        self.combine(folds)

    def added(
        self, stage: int, targets: list[Line], folds: list[Fold], keep: list[Line]
    ) -> None:
        """A block whose lanes are in memory while rows are added to them."""
        self.fill(folds)
        self.loop("b", "b + m", stage, targets, folds, keep)
        for fold in folds if self.laned(folds) else ():
            self.w(f"halves_{fold.op}(a_{fold.result.name}, pitch)")

    @staticmethod
    def laned(folds: list[Fold]) -> bool:
        return any(map(ordered, folds))

    def lanes(self, folds: list[Fold]) -> str:
        return f"{LANES} * pitch" if self.laned(folds) else "pitch"

    def fill(self, folds: list[Fold]) -> None:
        for fold in folds:
            self.w(f"fill_{fold.op}(a_{fold.result.name}, {self.lanes(folds)})")

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
            f"((e - {first if first == 'b' else 0}) & {LANES - 1}) * pitch + "
            if self.laned(folds)
            else ""
        )
        values = [*targets, *[f.value for f in folds]]

        def write(first: str, last: str) -> None:
            with w.block(f"for {self.col} in range({first}, {last}):"):
                self.columns(values)
                for fold in folds:
                    place = f"a_{fold.result.name}[{lane}{self.at}]"
                    text = pair(fold, loaded(fold.value.dtype, place), self.read(fold.value))
                    w(f"{place} = {stored(fold.value.dtype, text)}")
                for line in keep:
                    w(f"w_{line.name}[e * width + {self.at}] = {stored(line.dtype, line.name)}")
                for store in inner_stores(self.plan, stage):
                    pointer, where = self.address(store.buffer, store.index)
                    w(f"{pointer}[{where}] = {stored(store.buffer.dtype, self.read(store.value))}")
                if self.few:
                    w(f"one_by_one({self.col})")
                else:
                    self.interleave(values, self.col)

        with w.block(f"for e in range({first}, {last}):"):
            self.rows(reduced, "e")
            self.across(values)
            self.cuts(values, write)
            self.spans("begin", "begin + width")

    def in_loop(self, line: Line) -> bool:
        return self.col in line.variables

    def plain(self, stage: int, targets: list[Line], folds: list[Fold], keep: list[Line]) -> bool:
        """Whether a block is worth a second form that keeps each lane in a register."""
        need = closure([f.value for f in folds], set(self.known))
        effects = any(t.effect for t in targets) or any(x.kind == "scan" for x in need)
        return (
            self.laned(folds)
            and not keep
            and not any(self.col in b.index.variables() for x in need for b in x.guard)
            and not effects
            and not inner_stores(self.plan, stage)
            and sum(x.cost for x in need) <= CHEAP_LANE
        )

    def direct(self, fold: Fold) -> bool:
        """Whether what is folded lies in memory, row by row."""
        value, reduced = fold.value, self.plan.reduced
        if value.kind != "load" or len(reduced) != 1 or value in self.known or value.data:
            return False
        assert value.index is not None
        terms = dict(value.index.terms)
        plain = all(isinstance(atom, str) for atom in terms)
        return plain and terms.get(self.col) == 1 and reduced[0] in terms

    def lanes_in_memory(self, folds: list[Fold]) -> None:
        (row,) = self.plan.reduced
        self.w(f"{row} = b")
        self.w(f"{self.col} = begin")
        for fold in folds:
            buffer, index = fold.value.buffer, fold.value.index
            assert buffer is not None and index is not None
            pointer, where = self.address(buffer, index)
            stride = self._stride_of(buffer, row, row, dict(index.terms)[row])
            lanes = f"a_{fold.result.name}, at({pointer}, {where}), {stride}, m, width"
            self.w(f"lanes_{fold.op}({lanes})")

    def whole_block(self, targets: list[Line], folds: list[Fold]) -> None:
        """A full block: each lane adds its elements in a register and is stored once."""
        w = self.w
        w(f"lanes = {LANES}")
        with w.block("for lane in range(lanes):"):
            with w.block(f"for {self.col} in range(begin, begin + width):"):
                self.turns(targets, folds, "b + lane")
                for fold in folds:
                    place = f"a_{fold.result.name}[lane * pitch + {self.at}]"
                    w(f"{place} = {stored(fold.value.dtype, f'sum_{fold.result.name}')}")
            for fold in folds:
                w(f"carry_{fold.op}(a_{fold.result.name}, pitch, lane)")

    def turns(self, targets: list[Line], folds: list[Fold], first: str) -> None:
        """The sums over row ``first`` of a block and every 32nd after it."""
        kept = any(x in self.known for x in self.plan.saved)  # they lie at row e
        for turn in range(BLOCK // LANES):
            self.rows(self.plan.reduced, f"({first} + {turn * LANES})")
            if kept:
                self.w(f"e = {first} + {turn * LANES}")
            self.across([*targets, *[f.value for f in folds]])
            self.columns([*targets, *[f.value for f in folds]])
            for fold in folds:
                total, value = f"sum_{fold.result.name}", self.read(fold.value)
                self.w(f"{total} = {value if turn == 0 else pair(fold, total, value)}")

    def combine(self, folds: list[Fold]) -> None:
        """The result of a block, its first lane, to where a second kernel reads it."""
        for fold in folds:
            a = f"a_{fold.result.name}"
            if self.split:
                buffer = Buffer(f"p_{fold.result.name}_all", fold.value.dtype, (), "partial")
                self.partials[fold] = buffer
                across = whole_lanes(self.body.extents[self.col])
                self.partial[buffer.name] = self.count(self.plan.outer) * self.blocks * across
                row = f"(kept * {self.int_arg('blocks', self.blocks)} + (b >> 8))"
                place = f"{row} * {self.int_arg('across', across)} + begin + k"
                with self.w.block("for k in range(width):"):
                    self.w(f"{self.pointer(buffer, 0).name}[{place}] = {a}[k]")
            elif self.apart:
                with self.w.block("for k in range(width):"):
                    place = f"(b >> 8) * {self.between} + k"
                    self.w(f"p_{fold.result.name}[{place}] = {a}[k]")

    def tree(self, folds: list[Fold]) -> None:
        """Adjacent blocks are combined until one is left, an odd one carried up."""
        for fold in folds:
            p = f"p_{fold.result.name}"
            count, row = f"({self.n} + {BLOCK - 1}) >> 8", self.between
            self.w(f"pairs_{fold.op}({p}, {count}, {row}, {row})")
            self.known[fold.result] = loaded(fold.value.dtype, f"{p}[{self.at}]")

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


def whole_lanes(n: int) -> int:
    """n rounded up to whole vectors."""
    return -(-n // LANES) * LANES
