"""Division by what stays the same along a loop is multiplication where that is exact.

Such loops come in pairs (see ``division``): the second one divides where the first may be wrong.
Some thousand elements are tried together, since reading the flags waits for all that is under way.
``x / d`` along one axis::

    piece = start
    while piece < stop:
        limit = min(piece + 4096, stop)
        before = flagged()
        if before:
            clear_flags()
        if apart(x0, y0) & (not before):
            for i0 in range(piece, limit):
                y0[i0] = fquotient(x0[i0], v1)
        if (not (apart(x0, y0))) | before | flagged():
            for i0 in range(piece, limit):
                y0[i0] = x0[i0] / v1
        piece = limit

Rows that are divided by the same row, element by element, share what products need of it::

    for i1 in range(n_i1):
        d_v1[i1] = usual_divisor(x1[i1])
        r_v1[i1] = usual_inverse(x1[i1])
    ...
                    t0 = fquotient_by(v0, d_v1[i1], r_v1[i1])
"""

import math
import re
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from itertools import product

from fusec.codegen.emit_loop import LoopEmitter
from fusec.codegen.loops import Line, closure
from fusec.codegen.schedule import Schedule, inner_stores, is_inner, stage_targets
from fusec.ops.registry import COSTLY, OPS

SHORT = {4: 12, 8: 40}  # significant bits of a literal, by the bytes of the quotient
ROWS = 32  # that share a divisor, at least
NEAR = 64 << 10  # bytes of what they share, at most: it stays in a cache


class QuotientEmitter(LoopEmitter):
    """quotients: the divisions of a loop that are written as multiplications.

    in_pieces: there are only such loops. Behind one that was flagged when it divided the next is
    not tried: what is flagged each time, as subnormal numbers are, takes 100 cycles each time.
    divisors: that change along a row, and where they and their inverses are.
    """

    quotients: frozenset[Line] = frozenset()
    in_pieces = False
    divisors: Mapping[Line, str] = {}

    def attempts(self, stage: int, quotients: frozenset[Line], write: Callable[[], None]) -> None:
        """Write a loop; twice if it has quotients."""
        if not quotients:
            write()
            return
        apart, before = self.twice(stage), "flagged()"
        tried, failed = ([apart], [f"(not ({apart}))"]) if apart else ([], [])
        if self.in_pieces:
            self.w("before = flagged()")
            before, tried, failed = "before", [*tried, "(not before)"], [*failed, "before"]
        with self.w.block(f"if {before}:"):
            self.w("clear_flags()")
        with self.w.block(f"if {' & '.join(tried)}:") if tried else nullcontext():
            self.quotients = quotients
            write()
            self.quotients = frozenset()
        with self.w.block(f"if {' | '.join([*failed, 'flagged()'])}:"):
            write()

    def share(self, stage: int, axis: str, span: tuple[str, str], at: str, room: int) -> None:
        """Compute once what products need of the divisors of a stage that all rows share.

        axis: of the row, from and to ``span``; at: the place in it; room: for so many elements.
        """
        lines = [x for x in self._repeatable(stage) if _divides(x) and x.variables != {axis}]
        found = [x for x in dict.fromkeys([x.args[1] for x in lines]) if x.variables == {axis}]
        need = closure(found, self.at_hand(stage))
        size = 2 * room * sum(x.dtype.itemsize for x in found)
        simple = all(x.kind in ("op", "load", "index") and x.variables <= {axis} for x in need)
        if not found or not simple or size > NEAR:
            return
        names = {x: [self.scratch(f"{k}_{x.name}", x.dtype, room) for k in "dr"] for x in found}
        with self.w.block(f"for {axis} in range({', '.join(span)}):"):
            for line in self.body.lines:
                if line in need and axis in line.variables:
                    self.line(line)
            for line, (divisor, inverse) in names.items():
                self.w(f"{divisor}[{at}] = usual_divisor({self.read(line)})")
                self.w(f"{inverse}[{at}] = usual_inverse({self.read(line)})")
        self.divisors = {x: f"d_{x.name}[{at}], r_{x.name}[{at}]" for x in found}

    def divided(self, stage: int) -> frozenset[Line]:
        """The lines of a loop that divide floats by a value of the row, if it may run twice."""
        lines = self._repeatable(stage)
        shared = [x for x in lines if _divides(x) and x.args[1] in self.divisors]
        return frozenset([*shared, *[x for x in lines if divides(x, self.plan)]])

    def _repeatable(self, stage: int) -> list[Line]:
        """The lines of a loop, if it may run twice."""
        need = closure(stage_targets(self.plan, stage), self.at_hand(stage))
        inner = [x for x in need if is_inner(x, self.plan) and x not in self.at_hand(stage)]
        plain = all(x.kind in ("op", "load", "index") and not x.effect for x in inner)
        cheap = all(x.cost < COSTLY and not x.data for x in inner)
        others = (*self.plan.saved, *[f.value for f in self.body.folds])
        ends = any(x.stage == stage for x in others)
        return inner if plain and cheap and not ends else []

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
        if line in self.quotients and line.args[1] in self.divisors:
            return f"fquotient_by({self.read(line.args[0])}, {self.divisors[line.args[1]]})"
        if line in self.quotients:
            kind = "_short" if _significant_bits(line.args[1]) <= SHORT[line.dtype.itemsize] else ""
            return f"fquotient{kind}({', '.join([self.read(a) for a in line.args])})"
        return super().expression(line)


def divides(line: Line, plan: Schedule) -> bool:
    """Whether a line divides floats by what stays the same along the loop."""
    moves = [is_inner(a, plan) for a in line.args]
    return _divides(line) and moves == [True, False] and _significant_bits(line.args[1]) > 1


def _divides(line: Line) -> bool:
    wide = line.dtype.kind == "f" and line.dtype.itemsize >= 4
    return wide and line.text == OPS["divide"].expr["f"]


def _significant_bits(line: Line) -> float:
    """Of a literal above 0 that is neither tiny nor huge, else inf; 1: LLVM multiplies anyway."""
    literal = re.fullmatch(r"(?:cast_f4\()?(\d[-+.e\d]*)\)?", line.text or line.name)
    if literal is None or not 1e-20 < float(literal[1]) < 1e20:
        return math.inf
    above, _ = float(literal[1]).as_integer_ratio()
    return (above // (above & -above)).bit_length()
