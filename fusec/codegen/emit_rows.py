"""Row programs: one loop over the row for each stage.

A block of 256 elements is folded in a fixed order: from memory or, where the elements are cheap to
compute, in the loop that computes them (see ``lanes``). The blocks are combined by a pairwise tree.
A log-sum-exp::

    for i0 in range(start, stop):
        r0 = row_max(at(x0, i0 * x0_s0), n_i1, p_r0)
        for b in range(0, n_i1, 256):
            m = min(n_i1 - b, 256)
            for i1 in range(b, b + m):
                t_r1[i1 - b] = exp(x0[i0 * x0_s0 + i1] - r0)
            p_r1[b >> 8] = fold_sum(t_r1, m)
        r1 = tree_sum(p_r1, (n_i1 + 255) >> 8)
        y0[i0] = log(r1) + r0

A reduction that finds the first place of something (the second half of an argmax) ends with the
block where it is.

Few long rows are split: one kernel fills the partial results of all blocks, a second one
(``emit_finish``) combines them.
"""

from functools import partial

from fusec.codegen.emit import KernelSource, cell, loaded, pair, stored
from fusec.codegen.emit_ahead import ask_ahead, asked_scan
from fusec.codegen.emit_gathers import Gathers
from fusec.codegen.emit_spans import SpanEmitter
from fusec.codegen.emit_streams import streamed, streams
from fusec.codegen.loops import BLOCK, LANES, Buffer, Fold, Line, closure
from fusec.codegen.schedule import (
    Schedule,
    count_in_32_bits,
    inner_stores,
    is_inner,
    stage_targets,
)
from fusec.ir.aval import short
from fusec.ops.registry import COSTLY, OPS
from fusec.passes.access import keeps, var

GROUP = 16  # blocks that one row of a split reduction folds


class RowEmitter(SpanEmitter):
    """Rows with reductions along them, vectorised along the reduced axis."""

    def __init__(self, plan: Schedule, split: bool) -> None:
        super().__init__(plan)
        count_in_32_bits(plan.body)
        self.split = split
        self.length = self.count(plan.reduced)
        self.blocks = -(-self.length // BLOCK)
        self.one_block = self.blocks <= 1 and not split
        self.partials: dict[Fold, Buffer] = {}
        self.trees: dict[Fold, str] = {}

    def emit(self) -> KernelSource:
        plan, w = self.plan, self.w
        self.invariants()
        rows = self.count(plan.outer)
        row = plan.outer[0] if len(plan.outer) == 1 else "row"
        work = self.work() * self.length
        several = len(plan.reduced) > 1
        self.n = self.int_arg("n", self.length) if several else self.size(plan.reduced[0])
        self.b, self.m = ("0", self.n) if self.one_block else ("b", "m")
        if self.split:
            groups = -(-self.blocks // GROUP)
            name = self.int_arg("groups", groups)
            with w.block("for row in range(start, stop):"):
                w(f"first = remainder(row, {name}) * {BLOCK * GROUP}")
                w(f"kept = quotient(row, {name})")
                self.rows(plan.outer, "kept")
                self.row_lines(0)
                self.stage(0)
            rows, work = rows * groups, work / groups
        else:
            self.whole_rows(row)
        return self.finish("row", rows, work)

    def whole_rows(self, row: str) -> None:
        """All stages of a row before the next row."""
        with self.w.block(f"for {row} in range(start, stop):"):
            self.rows(self.plan.outer, row)
            self.row_lines(0)
            for stage in range(self.plan.stages):
                self.part(stage)

    def part(self, stage: int) -> None:
        """One stage of a row, and what follows from it before the next loop along the row."""
        self.stage(stage)
        self.stores(stage, inner=False)
        self.row_lines(stage + 1)

    # -- one stage ----------------------------------------------------------------------------

    def stage(self, stage: int) -> None:
        body, plan = self.body, self.plan
        folds = [f for f in body.folds if f.value.stage == stage]
        targets = stage_targets(plan, stage)
        if not targets and not folds:
            return
        if found := self.search(folds, targets):
            self.w(found)
            return
        for fold in folds if not self.one_block else ():
            self.tree(fold)
        if texts := self.whole_folds(folds, targets) if not self.one_block else ():
            for text in texts:
                self.w(text)
            return
        for line in body.lines:
            if line.kind == "scan" and line.stage == stage:
                assert line.buffer is not None
                self.w(f"carry_{line.name} = {line.buffer.name}")
        keep = [x for x in plan.saved if x.stage == stage]
        for line in keep:
            self.keep_row(line, self.length)
        if folds and self.one_block:
            self.block(stage, folds, keep, targets)
        elif folds:
            group = "first", f"min(first + {BLOCK * GROUP}, {self.n})"
            begin, end = group if self.split else ("0", self.n)
            early = self.early_end(folds, targets)
            if early:
                self.w("seen = 0")
            with self.w.block(f"for b in range({begin}, {end}, {BLOCK}):"):
                self.w(f"m = min({self.n} - b, {BLOCK})")
                self.block(stage, folds, keep, targets)
                if early:
                    self.w("seen = (b >> 8) + 1")
                    with self.w.block(f"if {early}:"):
                        self.w("break")
        else:
            self.loop("0", self.n, targets, stage, [], keep)
        for line in keep:
            self.known[line] = loaded(line.dtype, f"w_{line.name}[{self.flat()}]")
        if not self.split and not self.one_block:
            for fold in folds:
                count = "seen" if early else f"({self.n} + {BLOCK - 1}) >> 8"
                tree = f"tree_{fold.op}({self.trees[fold]}, {count})"
                self.w(f"{fold.result.name} = {loaded(fold.result.dtype, tree)}")

    def whole_folds(self, folds: list[Fold], targets: list[Line]) -> list[str]:
        """The lines of a stage that does nothing but fold rows that lie in memory; else none."""
        texts = []
        for fold in folds:
            value, result, place = fold.value, fold.result, self.in_memory(fold.value, "0")
            if self.split or not place or value.dtype != result.dtype or len(targets) > len(folds):
                return []
            text = f"row_{fold.op}({place}, {self.n}, {self.trees[fold]})"
            texts.append(f"{result.name} = {loaded(result.dtype, text)}")
        return texts

    def search(self, folds: list[Fold], targets: list[Line]) -> str:
        """``min(where(x == r, position, n))`` with x in memory, as a search that ends at the first.

        What ``argmax`` of a row is, once its largest element is known.
        """
        value = self.first_place(folds, targets)
        if value is None:
            return ""
        condition, position, none = value.args
        while position.kind == "op":
            (position,) = position.args
        both = condition.text == OPS["logical_or"].expr["b"]
        equal = condition.args[0] if both else condition
        if equal.text not in OPS["equal"].expr.values() or position.index != var(self.flat()):
            return ""
        x, wanted = equal.args
        nan = both and condition.args[1].text == "isnan({0})" and condition.args[1].args == (x,)
        plain = x.dtype.kind in "iu" and not both
        real = x.dtype.kind == "f" and x.dtype.itemsize >= 4 and nan
        end = none.args[0] if none.text.startswith("cast_") else none
        counts = end.kind == "size" and end.text == str(self.length)
        place = self.in_memory(x, "0")
        if not (plain or real) or is_inner(wanted, self.plan) or not place or not counts:
            return ""
        found = f"first_equal({place}, {self.n}, {self.read(wanted)})"
        return f"{folds[0].result.name} = cast_{short(folds[0].result.dtype)}({found})"

    def first_place(self, folds: list[Fold], targets: list[Line]) -> Line | None:
        """The value of a stage that is ``min(where(condition, position, none))``."""
        if self.split or len(folds) != 1 or len(targets) != 1 or folds[0].op != "min":
            return None
        value, reduced = folds[0].value, self.plan.reduced
        if not value.text.startswith("select(") or len(reduced) != 1:
            return None
        _, position, none = value.args
        kinds = {position.dtype}
        while position.kind == "op" and position.text.startswith("cast_") and position.args:
            (position,) = position.args
            kinds.add(position.dtype)
        if position.kind != "index" or position.index is None or none.variables & {*reduced}:
            return None
        at, extents = position.index, self.body.extents
        whole = all(k.kind == "f" or keeps(k, at, extents) for k in kinds)
        return value if at.terms == ((reduced[0], 1),) and whole else None

    def early_end(self, folds: list[Fold], targets: list[Line]) -> str:
        """When later blocks can't change the first place of something, as source.

        Positions grow along the row, so a block whose result is below ``none`` has the first one.
        """
        value = self.first_place(folds, targets)
        if value is None:
            return ""
        return f"{self.trees[folds[0]]}[b >> 8] < {self.read(value.args[2])}"

    def tree(self, fold: Fold) -> None:
        """Where the results of the blocks go: scratch, or memory that a second kernel reads."""
        name = f"p_{fold.result.name}"
        if self.split:
            buffer = Buffer(name, fold.result.dtype, (), "partial")
            self.partial[name] = self.count(self.plan.outer) * self.blocks
            self.partials[fold] = buffer
            blocks = self.int_arg("blocks", self.blocks)
            kept = "kept * " + blocks if self.plan.outer else "0"
            self.trees[fold] = f"{self.pointer(buffer, 0).name}[{kept} + (b >> 8)]"
        else:
            self.trees[fold] = self.scratch(name, fold.result.dtype, self.blocks)

    def block(self, stage: int, folds: list[Fold], keep: list[Line], targets: list[Line]) -> None:
        direct = {f: text for f in folds if (text := self.direct(f, keep))}
        if len(direct) < len(folds) and not keep and self.laned(folds, targets):
            self.lanes(stage, folds, targets)
            return
        filled = [f for f in folds if f not in direct]
        for fold in filled:
            self.scratch(f"t_{fold.result.name}", fold.value.dtype, BLOCK)
        stores = inner_stores(self.plan, stage)
        effects = [t for t in targets if t.effect]
        need = [f.value for f in filled] + keep + [s.value for s in stores] + effects
        if need:
            self.loop(self.b, self.m, need, stage, filled, keep)
        for fold in folds:
            source = direct.get(fold, f"t_{fold.result.name}")
            self.reduced(fold, f"fold_{fold.op}({source}, {self.m})")

    def reduced(self, fold: Fold, text: str) -> None:
        """Put the result of a block where the tree looks for it; the only one is the row's."""
        dtype = fold.result.dtype
        if fold.value.dtype != dtype:
            text = f"cast_{short(dtype)}({text})"
        if self.one_block:
            self.w(f"{fold.result.name} = {loaded(dtype, text)}")
            return
        place = self.trees[fold] if self.split else f"{self.trees[fold]}[b >> 8]"
        self.w(f"{place} = {stored(dtype, text)}")

    # -- blocks of what is cheap to compute: partial results in registers -----------------------

    def laned(self, folds: list[Fold], targets: list[Line]) -> bool:
        """Whether the loop is so cheap that storing its values for the fold would show."""
        need = closure([*targets, *[f.value for f in folds]], set(self.known))
        inner = [x for x in need if is_inner(x, self.plan)]
        plain = not any(x.effect or x.kind in ("scan", "branch") for x in need)
        real = all(f.value.dtype.kind != "c" for f in folds)
        cheap = sum(x.cost for x in inner) < COSTLY
        return len(self.plan.reduced) == 1 and plain and real and cheap

    def lanes(self, stage: int, folds: list[Fold], targets: list[Line]) -> None:
        """Lane k of a block takes elements k, k + 32, ...: whole groups of lanes, then the rest."""
        w, (axis,), b, m = self.w, self.plan.reduced, self.b, self.m
        names = [(f.result.name, f.value.dtype) for f in folds]
        for fold, (name, dtype) in zip(folds, names):
            w(f"a_{name} = start_{fold.op}_{cell(dtype)}()")
        end = m if self.one_block else f"{b} + {m}"
        with w.block(f"for g in range({b}, {end} - {LANES - 1}, LANES):"):
            self.ahead(stage)
            with w.block("for k in range(LANES):"):
                w(f"{axis} = g + k")
                self.accumulate(stage, folds, targets, "a_{0}[k]")
                w("write_out(k)")
        with w.block(f"if {m} & {LANES - 1}:"):
            w(f"rest = ({end}) & -{LANES}" if b == "b" else f"rest = {m} & -{LANES}")
            with w.block("for k in range(LANES):"):
                w(f"{axis} = rest + k")
                for name, _ in names:
                    w(f"l_{name} = a_{name}[k]")
                with w.block(f"if {axis} < {end}:"):
                    self.depth += 1
                    self.accumulate(stage, folds, targets, "l_{0}")
                    self.depth -= 1
                for name, _ in names:
                    w(f"a_{name}[k] = l_{name}")
                w("write_out(k)")
        for fold, (name, _) in zip(folds, names):
            self.reduced(fold, f"total_{fold.op}(a_{name})")

    def ahead(self, stage: int) -> None:
        """Ask for what is read next where lanes ``g`` of this row are computed."""
        ask_ahead(self, self.plan)

    def accumulate(self, stage: int, folds: list[Fold], targets: list[Line], lane: str) -> None:
        """One element: its lines, and what it adds to its lane."""
        self.inner(stage, targets)
        for fold in folds:
            place, dtype = lane.format(fold.result.name), fold.value.dtype
            both = pair(fold, loaded(dtype, place), self.read(fold.value))
            self.w(f"{place} = {stored(dtype, both)}")
        self.stores(stage, inner=True)

    def direct(self, fold: Fold, keep: list[Line]) -> str:
        """The contiguous memory that already holds what is folded, if there is any."""
        value = fold.value
        if value not in keep:
            return self.in_memory(value, self.b)
        return f"w_{value.name}" if self.one_block else f"at(w_{value.name}, b)"

    def in_memory(self, value: Line, first: str) -> str:
        """Where ``value`` lies in memory from element ``first`` of the row on, if it does."""
        reduced = self.plan.reduced
        if value.kind != "load" or len(reduced) != 1 or value in self.known:
            return ""
        assert value.index is not None and value.buffer is not None
        if dict(value.index.terms).get(reduced[0]) != 1 or value.data:
            return ""
        pointer, where = self.address(value.buffer, value.index)
        return f"at({pointer}, {where.replace(reduced[0], first).removesuffix(' + 0')})"

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
        (*outer, axis), w = self.plan.reduced, self.w

        def write(first: str, last: str) -> None:
            with w.block(f"for {axis} in range({'' if first == '0' else f'{first}, '}{last}):"):
                if outer:
                    w(f"e = done + {axis} - begin")
                self.element(targets, stage, fills, keep)

        cut = self.cuts(targets, write)
        last = f"{first} + {count}" if first != "0" else count
        if not outer:
            element = None if cut else partial(self.element, targets, stage, fills, keep)
            part = first != "0" or cut or fills or keep
            if part or not self.outgrown(stage, last, targets):
                Gathers(self).write(first, last, element, self.spans)
            return
        w(f"done = {first}")
        w(f"stop_at = {last}")
        with w.block("while done < stop_at:"):
            w(f"begin = remainder(done, {self.size(axis)})")
            w(f"outer = quotient(done, {self.size(axis)})")
            self.rows(outer, "outer")
            w(f"run = min({self.size(axis)} - begin, stop_at - done)")
            self.spans("begin", "begin + run")
            w("done += run")

    def outgrown(self, stage: int, last: str, targets: list[Line]) -> bool:
        """Write the loop over a row whose results outgrow the caches, if they do."""
        need = closure(targets, {*self.known})
        stores = inner_stores(self.plan, stage)
        element = partial(self.element, targets, stage, [], [])
        if any(x.data for x in need):
            return False
        if any(x.kind == "scan" for x in need):
            return asked_scan(self, self.plan, stores, last, element)
        if past := streams(self, stores=stores):
            streamed(self, past, "0", last, element)
        return bool(past)

    def element(self, targets: list[Line], stage: int, fills: list[Fold], keep: list[Line]) -> None:
        self.inner(stage, targets)
        for fold in fills:
            value = stored(fold.value.dtype, self.read(fold.value))
            place = self.flat() if self.one_block else f"{self.flat()} - b"
            self.w(f"t_{fold.result.name}[{place}] = {value}")
        for line in keep:
            self.w(f"w_{line.name}[{self.flat()}] = {stored(line.dtype, line.name)}")
        self.stores(stage, inner=True)
        if self.few:
            self.w(f"one_by_one({self.plan.reduced[-1]})")
        elif not self.lone and not self.grouped:
            self.interleave(targets, self.plan.reduced[-1])
