"""Division by what stays the same along a loop is multiplication where that is exact.

Such loops come in pairs (see ``division``): the second one divides where the first may be wrong.
``x / d`` along one axis::

    for piece in range(start, stop, 4096):
        end = min(piece + 4096, stop)
        if flagged():
            clear_flags()
        if apart(x0, y0):
            for i0 in range(piece, end):
                y0[i0] = fquotient(x0[i0], v1)
        if (not (apart(x0, y0))) | flagged():
            for i0 in range(piece, end):
                y0[i0] = x0[i0] / v1
"""

import math
import re
from collections.abc import Callable
from contextlib import nullcontext
from itertools import product

from fusec.codegen.emit_loop import LoopEmitter
from fusec.codegen.loops import Line, closure
from fusec.codegen.schedule import Schedule, inner_stores, is_inner, stage_targets
from fusec.ops.registry import COSTLY, OPS


class QuotientEmitter(LoopEmitter):
    """quotients: the divisions of a loop that are written as multiplications."""

    quotients: frozenset[Line] = frozenset()

    def attempts(self, stage: int, quotients: frozenset[Line], write: Callable[[], None]) -> None:
        """Write a loop; twice if it has quotients."""
        if not quotients:
            write()
            return
        with self.w.block("if flagged():"):
            self.w("clear_flags()")
        apart = self.twice(stage)
        with self.w.block(f"if {apart}:") if apart else nullcontext():
            self.quotients = quotients
            write()
            self.quotients = frozenset()
        with self.w.block(f"if (not ({apart})) | flagged():" if apart else "if flagged():"):
            write()

    def divided(self, stage: int) -> frozenset[Line]:
        """The lines of a loop that divide floats by a value of the row, if it may run twice."""
        need = closure(stage_targets(self.plan, stage), self.at_hand(stage))
        inner = [x for x in need if is_inner(x, self.plan) and x not in self.at_hand(stage)]
        plain = all(x.kind in ("op", "load", "index") and not x.effect for x in inner)
        cheap = all(x.cost < COSTLY for x in inner)
        others = (*self.plan.saved, *[f.value for f in self.body.folds])
        ends = any(x.stage == stage for x in others)
        found = [x for x in inner if divides(x, self.plan)]
        return frozenset(found if plain and cheap and not ends else ())

    def at_hand(self, stage: int) -> set[Line]:
        """What a stage need not compute."""
        return {*self.known, *[x for x in self.plan.saved if x.stage < stage]}

    def twice(self, stage: int) -> str:
        """Whether the loop may run twice, as source: no store overwrites what it reads."""
        need = closure(stage_targets(self.plan, stage), self.at_hand(stage))
        found: dict[str, None] = {}
        for load, store in product(self.body.lines, inner_stores(self.plan, stage)):
            if load.kind != "load" or load not in need or load in self.at_hand(stage):
                continue
            assert load.buffer is not None and load.index is not None
            if load.index.variables() == store.index.variables():
                self.data = load.data
                source, _ = self.address(load.buffer, load.index)
                target, _ = self.address(store.buffer, store.index)
                found[f"apart({source}, {target})"] = None
        return " & ".join(found)

    def expression(self, line: Line) -> str:
        if line in self.quotients:
            return "fquotient({}, {})".format(*[self.read(a) for a in line.args])
        return super().expression(line)


def divides(line: Line, plan: Schedule) -> bool:
    """Whether a line divides floats by what stays the same along the loop."""
    moves = [is_inner(a, plan) for a in line.args]
    wide = line.dtype.kind == "f" and line.dtype.itemsize >= 4
    found = line.text == OPS["divide"].expr["f"] and wide and moves == [True, False]
    return found and not _power_of_two(line.args[1])


def _power_of_two(line: Line) -> bool:
    """Of a literal: by that LLVM multiplies anyway."""
    literal = re.fullmatch(r"(?:cast_f4\()?(-?\d[-+.e\d]*)\)?", line.text or line.name)
    return literal is not None and abs(math.frexp(float(literal[1]))[0]) == 0.5
