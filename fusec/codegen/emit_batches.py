"""Rows that are cheap, or divided: a few take each stage together, so that none waits for itself.

What a later stage reads of a row is kept in an array ``k_<name>``, and the elements of these rows
one row behind the other in ``w_<name>_all``. ``x / np.max(x, axis=1, keepdims=True)``, with a
division that is multiplication where it can be (``emit_quotients``)::

    first = start
    while first < stop:
        last = min(first + batch, stop)
        for i0 in range(first, last):
            ...
            k_r0[i0 - first] = r0
        if flagged():
            clear_flags()
        if apart(x0, y0):
            for i0 in range(first, last):
                r0 = k_r0[i0 - first]
                for i1 in range(n_i1):
                    v0 = x0[i0 * x0_s0 + i1]
                    t0 = fquotient(v0, r0)
                    y0[i0 * y0_s0 + i1] = t0
        if (not (apart(x0, y0))) | flagged():
            ...                                # the same with v0 / r0
        first = last
"""

import re

import numpy as np

from fusec.codegen.emit import loaded, stored
from fusec.codegen.emit_ahead import follows
from fusec.codegen.emit_quotients import divides
from fusec.codegen.emit_rows import RowEmitter
from fusec.codegen.loops import Fold, Line, closure, operands
from fusec.codegen.schedule import Schedule, is_inner, row_stores, stage_targets
from fusec.ops.registry import COSTLY
from fusec.passes.groups import CACHE

ROWS = 8  # rows that take a stage together, at most
NEAR = 16 << 10  # bytes of these rows, which have to stay in the L1 cache
ARRIVING = 8 << 10  # the same where rows come from beyond the L2 cache: there is room for the next


def waits(plan: Schedule) -> bool:
    """Whether the end of a reduction takes as long as the loop along a short row."""
    inner = [x for x in plan.body.lines if is_inner(x, plan)]
    cheap = sum(x.cost for x in inner) < COSTLY and not plan.saved
    return bool(plan.outer) and plan.stages > 1 and cheap


def divides_saved(plan: Schedule) -> bool:
    """Whether the last loop divides what is kept of a row, as it took long to compute.

    It stands alone then: what computing notes would be taken for a wrong quotient.
    """
    inner = [x for x in plan.body.lines if is_inner(x, plan)]
    last = closure(stage_targets(plan, plan.stages - 1), {*plan.saved})
    plain = all(x.kind in ("op", "load", "index") and not x.effect for x in inner)
    cheap = sum(x.cost for x in inner if x in last) < COSTLY
    if not (plan.outer and plain and cheap and len(plan.reduced) == 1):
        return False
    return any(x.args[0] in plan.saved for x in inner if divides(x, plan))


class BatchEmitter(RowEmitter):
    """See the module."""

    quotients: frozenset[Line] = frozenset()  # divisions that are written as multiplications
    row = together = ""  # the number of the row, and how many take a stage together

    def whole_rows(self, row: str) -> None:
        w, plan = self.w, self.plan
        stages = plan.stages - (not stage_targets(plan, plan.stages - 1))
        if stages == 1:
            super().whole_rows(row)
            return
        count = self.batch()
        self.row, self.together = row, self.int_arg("batch", count)
        reads = [self.read_by(stage) for stage in range(stages)]
        quotients = [self.divided(stage) for stage in range(stages)]
        w("first = start")
        with w.block("while first < stop:"):
            w(f"last = min(first + {self.together}, stop)")
            for stage in range(stages):
                later = set().union(*reads[stage + 1 :])
                kept = [x for x in self.row_values() if x in later and self.ready(x) == stage]
                for line in kept:
                    self.scratch(f"k_{line.name}", line.dtype, count)
                for line in plan.saved:
                    if line.stage == stage:
                        self.scratch(f"w_{line.name}_all", line.dtype, count * self.length)

                def write(stage: int = stage, kept: list[Line] = kept) -> None:
                    with w.block(f"for {row} in range(first, last):"):
                        self.stage_of_row(row, stage, reads[stage], kept)
                        if stage + 2 == plan.stages > stages:
                            self.stores(stage + 1, inner=False)

                self.attempts(stage, quotients[stage], write)
            w("first = last")

    def batch(self) -> int:
        """How many rows stay in the cache."""
        along = {*self.plan.outer}
        loads = [x for x in self.body.lines if x.kind == "load" and x.variables & along]
        width = sum(x.dtype.itemsize for x in loads)
        stores = [s for s in self.body.stores if {*s.index.variables()} - along]
        width += sum(s.buffer.dtype.itemsize for s in stores)
        width += sum(x.dtype.itemsize for x in self.plan.saved)
        row = max(1, width * self.length)
        near = row * self.count(self.plan.outer) <= CACHE or self.plan.saved
        room = NEAR if near else ARRIVING
        return int(np.clip(room // row, 1, ROWS))

    def keep_row(self, line: Line, length: int) -> None:
        """Rows that take a stage together have room one behind the other."""

    def stage_of_row(self, row: str, stage: int, reads: set[Line], kept: list[Line]) -> None:
        """A stage of one row; reads: what it reads of earlier ones; kept: what later ones read."""
        self.rows(self.plan.outer, row)
        if not stage:
            self.row_lines(0)
        for line in self.row_values():
            if line in reads and line.stage <= stage > 0:
                value = loaded(line.dtype, f"k_{line.name}[{row} - first]")
                self.w(f"{line.name} = {value}")
        for line in self.plan.saved:
            if line.stage <= stage:
                self.w(f"w_{line.name} = at(w_{line.name}_all, ({row} - first) * {self.n})")
        self.part(stage)
        for line in kept:
            self.w(f"k_{line.name}[{row} - first] = {stored(line.dtype, line.name)}")

    def ahead(self, stage: int) -> None:
        """Later stages find their rows near: meanwhile those come that the first one reads next."""
        if not stage or not self.together:
            super().ahead(stage)
            return
        for text in self.asked():
            self.w(text)

    def asked(self) -> list[str]:
        """Requests for what the first stage of the next rows reads from element ``g`` on."""
        (axis,), first = self.plan.reduced, [f.value for f in self.body.folds if not f.value.stage]
        need, texts = closure(first, set()), []
        for line in self.body.lines:  # in their order: the text is a key of the cache
            beside = line.variables == {self.row, axis} or follows(line, self.plan)
            if line not in need or line.kind != "load" or line.data or not beside:
                continue
            assert line.buffer is not None and line.index is not None
            pointer, place = self.address(line.buffer, line.index)
            place = re.sub(rf"\b{axis}\b", "g", place)
            if self.row in line.variables:
                place = re.sub(rf"\b{self.row}\b", f"({self.row} + {self.together})", place)
            else:
                place += f" + {self.together} * {self.n}"
            texts.append(f"prefetch(at({pointer}, {place}))")
        return texts

    def loop(
        self,
        first: str,
        count: str,
        targets: list[Line],
        stage: int,
        fills: list[Fold],
        keep: list[Line],
    ) -> None:
        """While a block is computed that takes long, what is read next arrives."""
        texts = self.asked() if keep and stage and self.together else []
        if texts:
            end = count if first == "0" else f"{first} + {count}"
            with self.w.block(f"for g in range({first}, {end}, LANES):"):
                for text in texts:
                    self.w(text)
        super().loop(first, count, targets, stage, fills, keep)

    def row_values(self) -> list[Line]:
        """What changes with the row only."""
        rows = [x for x in self.body.lines if x.variables or x.stage]
        return [x for x in rows if not is_inner(x, self.plan) and not x.effect]

    def ready(self, line: Line) -> int:
        """The stage that a value of the row follows from."""
        return max(line.stage, 1) - 1

    def read_by(self, stage: int) -> set[Line]:
        """What the loop of a stage, and the values of the row that follow it, read directly."""
        targets = stage_targets(self.plan, stage)
        need = [x for x in closure(targets, set()) if is_inner(x, self.plan)]
        need += [x for x in self.row_values() if x.stage == stage + 1]
        read = {a for x in need for a in (*operands(x), *x.data.values())} | {*targets}
        return read | {s.value for s in row_stores(self.plan, stage)}
