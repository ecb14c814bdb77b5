"""CPU kernels: range kernels over rows, with the last loop left to LLVM's vectoriser.

A map over one merged axis::

    for i0 in range(start, stop):
        v0 = x0[i0]
        y0[i0] = v0 * c0

A row program (softmax): one loop over the row for each stage; a block of 256 elements is filled and
folded in a fixed order, the blocks are combined by a pairwise tree::

    for i0 in range(start, stop):
        for b in range(0, n_i1, 256):
            m = min(n_i1 - b, 256)
            p0[b >> 8] = fold_max(at(x0, i0 * x0_s0 + b), m)
        r0 = tree_max(p0, (n_i1 + 255) >> 8)
        ...

Few long rows are split: one kernel fills the partial results of all blocks, a second one finishes.
"""

from collections.abc import Iterable

import numpy as np

from fusec.codegen.emit import Emitter, KernelSource, loaded, stored
from fusec.codegen.loops import Body, Bound, Buffer, Fold, Line, closure
from fusec.codegen.schedule import (
    Schedule,
    all_lines,
    inner_stores,
    is_inner,
    row_stores,
    schedule,
    stage_targets,
)

BLOCK = 256  # elements of one fold; the order of every reduction depends on it
MAX_LINES = 400  # scalar lines of a kernel whose loops have been cut
MAX_SPLITS = 3  # branches for which the inner loop is cut into spans; each may triple the code
GROUP = 16  # blocks that one row of a split reduction folds


def emit(body: Body, split: bool) -> list[KernelSource]:
    """The CPU kernels of one group: one, or two when its reduction is split."""
    plan = schedule(body)
    if not body.reduced:
        return [MapEmitter(plan).emit()]
    if plan.column:
        from fusec.codegen.emit_columns import ColumnEmitter

        first: Emitter = ColumnEmitter(plan, split)
    else:
        first = RowEmitter(plan, split)
    kernels = [first.emit()]  # type: ignore[attr-defined]
    if split:
        kernels.append(FinishEmitter(plan, first.partials).emit())  # type: ignore[attr-defined]
    return kernels


class CpuEmitter(Emitter):
    """Rows, levels and stores, shared by the forms of CPU kernels."""

    def rows(self, names: list[str], row: str = "row") -> None:
        """Take the row number apart into its loop variables, fastest last."""
        if not names:
            return
        if len(names) == 1:
            if names[0] != row:
                self.w(f"{names[0]} = {row}")
            return
        rest = row
        for name in reversed(names[1:]):
            self.w(f"{name} = remainder({rest}, {self.size(name)})")
            self.w(f"rest = quotient({rest}, {self.size(name)})")
            rest = "rest"
        self.w(f"{names[0]} = rest")

    def count(self, names: Iterable[str]) -> int:
        total = 1
        for name in names:
            total *= self.body.extents[name]
        return total

    def invariants(self) -> None:
        for line in self.body.lines:
            if not line.variables and line.stage == 0 and not is_inner(line, self.plan):
                self.line(line)

    def row_lines(self, stage: int) -> None:
        """Values that change with the row only, once their folds are done."""
        for line in self.body.lines:
            launch = not line.variables and line.stage == 0
            if line.stage == stage and not launch and not is_inner(line, self.plan):
                self.line(line)

    def inner(self, stage: int, targets: list[Line]) -> None:
        """The lines inside the loop of ``stage``."""
        need = closure(targets, set(self.known))
        for line in self.body.lines:
            if is_inner(line, self.plan) and (line in need or (line.effect and line in targets)):
                self.line(line)

    def stores(self, stage: int, inner: bool) -> None:
        for store in (inner_stores if inner else row_stores)(self.plan, stage):
            pointer, where = self.address(store.buffer, store.index)
            self.w(f"{pointer}[{where}] = {stored(store.buffer.dtype, self.read(store.value))}")

    def work(self) -> float:
        """Estimated nanoseconds of one pass of the innermost loops of a row."""
        ops = sum(x.cost for x in self.body.lines if x.kind not in ("fold", "scan"))
        memory = sum(x.dtype.itemsize for x in self.body.lines if x.kind == "load")
        memory += sum(s.buffer.dtype.itemsize for s in self.body.stores)
        return 0.05 * ops + 0.1 * memory


class MapEmitter(CpuEmitter):
    """Elementwise groups."""

    def emit(self) -> KernelSource:
        plan, w = self.plan, self.w
        self.invariants()
        if not plan.reduced:
            with w.block("for row in range(start, stop):"):
                self._element()
            return self.finish("map", 1, self.work())
        vector = plan.reduced[0]
        if not plan.outer:
            self.spans("start", "stop", self.splits())
            return self.finish("map", self.body.extents[vector], self.work())
        row = plan.outer[0] if len(plan.outer) == 1 else "row"
        with w.block(f"for {row} in range(start, stop):"):
            self.rows(plan.outer, row)
            self.row_lines(0)
            self.spans("0", self.size(vector), self.splits())
        return self.finish("map", self.count(plan.outer), self.work() * self.body.extents[vector])

    def splits(self) -> int:
        """For how many branches the loop may be cut: the code triples each time."""
        lines = sum(1 for _ in all_lines(self.body))
        return sum(lines * 3**k <= MAX_LINES for k in range(1, MAX_SPLITS + 1))

    def spans(self, first: str, last: str, splits: int) -> None:
        """The inner loop, cut where a branch changes sides so that no span has the branch."""
        found = self._cuttable() if splits else None
        if found is None:
            self._span(first, last)
            return
        line, along, outside = found
        depth = len(self.sides)
        if outside:
            with self.w.block(f"if {self.condition(outside)}:"):
                self._cut(line, along, first, last, splits - 1, depth)
            with self.w.block("else:"):
                self._side(line, 1, first, last, splits - 1)
        else:
            self._cut(line, along, first, last, splits - 1, depth)

    def _span(self, first: str, last: str) -> None:
        """One loop. What the chosen sides made the same for the whole span stands before it.

        LLVM would see that too, but takes exponential time over long chains of such values.
        """
        loop = f"for {self.plan.reduced[0]} in range({first}, {last}):"
        fixed = self._fixed() if self.sides else []
        if not fixed:
            with self.w.block(loop):
                self._element()
            return
        with self.w.block(f"if {first} < {last}:"):
            for line in fixed:
                self.line(line)
                self.known[line] = line.name
            with self.w.block(loop):
                self._element()
        for line in fixed:
            del self.known[line]

    def _fixed(self) -> list[Line]:
        """The lines that read a value behind a chosen side and stay the same along the row."""
        vector, moving, fixed = self.plan.reduced[0], set[Line](), list[Line]()
        need, plain = closure(stage_targets(self.plan, 0), set(self.known)), {*self.body.lines}

        def visit(line: Line) -> None:
            parts = [*line.args, *line.data.values()]
            if line in self.sides:
                assert line.blocks is not None
                block = line.blocks[self.sides[line]]
                for inner in block.lines:
                    visit(inner)
                parts = [block.value]
                moves = False
            elif line.index is not None:
                moves = vector in line.index.variables()
            else:
                moves = not parts and vector in line.variables
            free = line.kind == "branch" and line not in self.sides
            if moves or free or line.effect or any(a in moving for a in parts):
                moving.add(line)
            elif vector in line.variables or line not in plain:
                fixed.append(line)

        for line in self.body.lines:
            if line in need:
                visit(line)
        return fixed

    def _cut(
        self, line: Line, along: list[Bound], first: str, last: str, splits: int, depth: int
    ) -> None:
        low, high = f"low{depth}", f"high{depth}"
        self.w(f"{low} = {first}")
        self.w(f"{high} = {last}")
        for bound in along:
            if bound.low is not None:
                edge = self.int_arg("lo", bound.low - bound.index.const)
                self.w(f"{low} = min(max({low}, {edge}), {last})")
            if bound.high is not None:
                edge = self.int_arg("hi", bound.high - bound.index.const)
                self.w(f"{high} = max(min({high}, {edge}), {low})")
        if any(b.low is not None for b in along):
            self._side(line, 1, first, low, splits)
        self._side(line, 0, low, high, splits)
        if any(b.high is not None for b in along):
            self._side(line, 1, high, last, splits)

    def _side(self, line: Line, side: int, first: str, last: str, splits: int) -> None:
        self.sides[line] = side
        self.spans(first, last, splits)
        del self.sides[line]

    def _cuttable(self) -> tuple[Line, list[Bound], list[Bound]] | None:
        """A branch that depends on the place in the row only; its bounds along it and others."""
        vector = self.plan.reduced[0]
        stack = [x for x in self.body.lines if x.kind == "branch"]
        while stack:
            line = stack.pop(0)
            assert line.blocks is not None
            if line in self.sides:
                stack += [x for x in line.blocks[self.sides[line]].lines if x.kind == "branch"]
                continue
            along = [b for b in line.guard if vector in b.index.variables()]
            plain = all(b.index.terms == ((vector, 1),) and b.step == 1 for b in along)
            outside = [b for b in line.guard if b not in along]
            if plain and not line.data:
                return line, along, outside
        return None

    def _element(self) -> None:
        self.inner(0, stage_targets(self.plan, 0))
        self.stores(0, inner=True)


class RowEmitter(CpuEmitter):
    """Rows with reductions along them, vectorised along the reduced axis."""

    def __init__(self, plan: Schedule, split: bool) -> None:
        super().__init__(plan)
        self.split = split
        self.length = self.count(plan.reduced)
        self.blocks = -(-self.length // BLOCK)
        self.partials: dict[Fold, Buffer] = {}
        self.trees: dict[Fold, str] = {}

    def emit(self) -> KernelSource:
        plan, w = self.plan, self.w
        self.invariants()
        rows = self.count(plan.outer)
        row = plan.outer[0] if len(plan.outer) == 1 and not self.split else "row"
        work = self.work() * self.length
        self.n = (
            self.int_arg("n", self.length) if len(plan.reduced) > 1 else self.size(plan.reduced[0])
        )
        with w.block(f"for {row} in range(start, stop):"):
            if self.split:
                groups = -(-self.blocks // GROUP)
                name = self.int_arg("groups", groups)
                w(f"first = remainder(row, {name}) * {BLOCK * GROUP}")
                w(f"kept = quotient(row, {name})")
                self.rows(plan.outer, "kept")
                rows, work = rows * groups, work / groups
            else:
                self.rows(plan.outer, row)
            for stage in range(1 if self.split else plan.stages):
                self.row_lines(stage)
                self.stage(stage)
                if not self.split:
                    self.stores(stage, inner=False)
        return self.finish("row", rows, work)

    # -- one stage ----------------------------------------------------------------------------

    def stage(self, stage: int) -> None:
        body, plan = self.body, self.plan
        folds = [f for f in body.folds if f.value.stage == stage]
        targets = stage_targets(plan, stage)
        if not targets and not folds:
            return
        for fold in folds:
            self.tree(fold)
        for line in body.lines:
            if line.kind == "scan" and line.stage == stage:
                assert line.buffer is not None
                self.w(f"carry_{line.name} = {line.buffer.name}")
        keep = [x for x in plan.saved if x.stage == stage]
        for line in keep:
            self.scratch(f"w_{line.name}", line.dtype, self.length)
        if folds:
            begin, end = (
                ("first", f"min(first + {BLOCK * GROUP}, {self.n})")
                if self.split
                else ("0", self.n)
            )
            with self.w.block(f"for b in range({begin}, {end}, {BLOCK}):"):
                self.w(f"m = min({self.n} - b, {BLOCK})")
                self.block(stage, folds, keep, targets)
        else:
            self.loop("0", self.n, targets, stage, [], keep)
        for line in keep:
            self.known[line] = loaded(line.dtype, f"w_{line.name}[{self.flat()}]")
        if not self.split:
            for fold in folds:
                count = f"({self.n} + {BLOCK - 1}) >> 8"
                tree = f"tree_{fold.op}({self.trees[fold]}, {count})"
                self.w(f"{fold.result.name} = {loaded(fold.value.dtype, tree)}")

    def tree(self, fold: Fold) -> None:
        """Where the results of the blocks go: scratch, or memory that a second kernel reads."""
        name = f"p_{fold.result.name}"
        if self.split:
            buffer = Buffer(name, fold.value.dtype, (), "partial")
            self.partials[fold] = buffer
            blocks = self.int_arg("blocks", self.blocks)
            kept = "kept * " + blocks if self.plan.outer else "0"
            self.trees[fold] = f"{self.pointer(buffer, 0).name}[{kept} + (b >> 8)]"
        else:
            self.trees[fold] = self.scratch(name, fold.value.dtype, self.blocks)

    def block(self, stage: int, folds: list[Fold], keep: list[Line], targets: list[Line]) -> None:
        direct = {f: text for f in folds if (text := self.direct(f, keep))}
        filled = [f for f in folds if f not in direct]
        for fold in filled:
            self.scratch(f"t_{fold.result.name}", fold.value.dtype, BLOCK)
        stores = inner_stores(self.plan, stage)
        effects = [t for t in targets if t.effect]
        need = [f.value for f in filled] + keep + [s.value for s in stores] + effects
        if need:
            self.loop("b", "m", need, stage, filled, keep)
        for fold in folds:
            source = direct.get(fold, f"t_{fold.result.name}")
            place = self.trees[fold] if self.split else f"{self.trees[fold]}[b >> 8]"
            self.w(f"{place} = {_narrow(fold, f'fold_{fold.op}({source}, m)')}")

    def direct(self, fold: Fold, keep: list[Line]) -> str:
        """The contiguous memory that already holds what is folded, if there is any."""
        value, reduced = fold.value, self.plan.reduced
        if value in keep:
            return f"at(w_{value.name}, b)"
        if value.kind != "load" or len(reduced) != 1 or value in self.known:
            return ""
        assert value.index is not None and value.buffer is not None
        if dict(value.index.terms).get(reduced[0]) != 1 or value.data:
            return ""
        pointer, where = self.address(value.buffer, value.index)
        return f"at({pointer}, {where.replace(reduced[0], 'b')})"

    def flat(self) -> str:
        """The position in the row, in logical order."""
        return self.plan.reduced[0] if len(self.plan.reduced) == 1 else "e"

    def loop(
        self,
        first: str,
        count: str,
        targets: list[Line],
        stage: int,
        fills: list[Fold],
        keep: list[Line],
    ) -> None:
        """A loop over ``count`` elements of the row from ``first`` on."""
        reduced, w = self.plan.reduced, self.w
        if len(reduced) == 1:
            span = f"{first}, {first} + {count}" if first != "0" else count
            with w.block(f"for {reduced[0]} in range({span}):"):
                self.element(targets, stage, fills, keep)
            return
        last = reduced[-1]
        w(f"done = {first}")
        w(f"stop_at = {first} + {count}" if first != "0" else f"stop_at = {count}")
        with w.block("while done < stop_at:"):
            w(f"begin = remainder(done, {self.size(last)})")
            w(f"outer = quotient(done, {self.size(last)})")
            self.rows(reduced[:-1], "outer")
            w(f"run = min({self.size(last)} - begin, stop_at - done)")
            with w.block("for k in range(run):"):
                w(f"{last} = begin + k")
                w("e = done + k")
                self.element(targets, stage, fills, keep)
            w("done += run")

    def element(self, targets: list[Line], stage: int, fills: list[Fold], keep: list[Line]) -> None:
        self.inner(stage, targets)
        for fold in fills:
            value = stored(fold.value.dtype, self.read(fold.value))
            self.w(f"t_{fold.result.name}[{self.flat()} - b] = {value}")
        for line in keep:
            self.w(f"w_{line.name}[{self.flat()}] = {stored(line.dtype, line.name)}")
        self.stores(stage, inner=True)


class FinishEmitter(CpuEmitter):
    """The second kernel of a split reduction: trees over the blocks, then values of the row."""

    def __init__(self, plan: Schedule, partials: dict[Fold, Buffer]) -> None:
        super().__init__(plan)
        self.partials = partials

    def emit(self) -> KernelSource:
        kept = [*self.plan.outer, *([self.plan.column] if self.plan.column else [])]
        length = self.count(self.plan.reduced)
        self.invariants()
        blocks = self.int_arg("blocks", -(-length // BLOCK))
        for name in kept:
            self.size(name)
        with self.w.block("for kept in range(start, stop):"):
            self.rows(kept, "kept")
            for fold, buffer in self.partials.items():
                pointer = self.pointer(buffer, 0).name
                text = f"tree_{fold.op}(at({pointer}, kept * {blocks}), {blocks})"
                self.w(f"{fold.result.name} = {loaded(fold.value.dtype, text)}")
            along = set(self.plan.reduced)
            for line in self.body.lines:
                launch = not line.variables and line.stage == 0
                if line.kind != "fold" and not launch and not line.variables & along:
                    self.line(line)
            for stage in range(self.plan.stages):
                self.stores(stage, inner=False)
        return self.finish("finish", self.count(kept), 10.0 * length / BLOCK)


def _narrow(fold: Fold, text: str) -> str:
    return stored(fold.value.dtype, text)


def chunk_rows(kernel: KernelSource, grain_ns: float = 40_000.0) -> int:
    """Rows that are worth waking a thread for."""
    return int(np.clip(grain_ns / max(kernel.work, 1e-3), 1, max(kernel.rows, 1)))
