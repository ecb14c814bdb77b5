"""Elementwise groups: range kernels over rows, with the last loop left to LLVM's vectoriser.

A map over one merged axis::

    for i0 in range(start, stop):
        v0 = x0[i0]
        y0[i0] = v0 * c0

A loop with a branch on the place in the row (a pad, a concatenation) is cut into spans without one.
"""

from contextlib import nullcontext

from fusec.codegen.emit import KernelSource, loaded
from fusec.codegen.emit_gathers import Gathers
from fusec.codegen.emit_loop import LoopEmitter
from fusec.codegen.emit_streams import streamed, streams
from fusec.codegen.loops import Bound, Buffer, Line, closure
from fusec.codegen.schedule import all_lines, stage_targets
from fusec.ops.registry import COSTLY
from fusec.passes.access import Index, make, var

MAX_LINES = 400  # scalar lines of a kernel whose loops have been cut
FEW = 16  # elements of a span at the edge that is not worth vectors


class MapEmitter(LoopEmitter):
    """Elementwise groups."""

    few = False  # the span that is written has some elements at most
    most: int | None = None  # bytes that are moved without going past the caches, if not the usual

    def emit(self) -> KernelSource:
        plan, w = self.plan, self.w
        self.invariants()
        if not plan.reduced:
            with w.block("for row in range(start, stop):"):
                self._element()
            return self.finish("map", 1, self.work())
        vector = plan.reduced[0]
        if not plan.outer:
            last, rows = "stop", self.body.extents[vector]
            if left := self.left():
                last = "whole"
                w(f"whole = min(stop, {self.int_arg('periods', rows)})")
            self.vectors("start", last)
            if left:
                with w.block("if stop > whole:"):
                    self.behind()
            return self.finish("map", rows + (left > 0), self.work())
        row = plan.outer[0] if len(plan.outer) == 1 else "row"
        with w.block(f"for {row} in range(start, stop):"):
            self.rows(plan.outer, row)
            self.row_lines(0)
            self.places_by_row()
            self.vectors("0", self.size(vector))
            self.behind()
        return self.finish("map", self.count(plan.outer), self.work() * self.body.extents[vector])

    def vectors(self, first: str, last: str) -> None:
        """The innermost loop."""
        element = self._element if self._cuttable() is None else None
        Gathers(self).write(first, last, element, lambda a, b: self.spans(a, b, self.copies()))

    def left(self) -> int:
        """How many elements of a row stand behind its last whole period."""
        rest = self.plan.rest
        return 0 if rest is None else rest.body.extents[rest.reduced[0]] % self.plan.period

    def behind(self) -> None:
        """The elements behind the last whole period of a row, one by one."""
        plan, left = self.plan, self.left()
        if not left or plan.rest is None:
            return
        self.plan, self.body = plan.rest, plan.rest.body
        (vector,) = plan.reduced
        end = self.body.extents[vector]
        span = f"{self.int_arg('tail', end - left)}, {self.int_arg('end', end)}"
        with self.w.block(f"for {vector} in range({span}):"):
            self.inner(0, stage_targets(self.plan, 0))
            self.stores(0, inner=True)
            self.w(f"one_by_one({vector})")
        self.plan, self.body = plan, plan.body

    def places_by_row(self) -> None:
        """A choice between two places in one buffer by the row alone is made once for the row."""
        vector = self.plan.reduced[0]
        for line in self.body.lines:
            if line.kind != "branch" or line.data:
                continue
            assert line.blocks is not None
            (first, rest), (second, other) = [_beside(b.value, vector) for b in line.blocks]
            fixed = not any(vector in bound.index.variables() for bound in line.guard)
            if first is None or first is not second or not fixed:
                continue
            for head, index in ((f"if {self.condition(line.guard)}:", rest), ("else:", other)):
                with self.w.block(head):
                    self.w(f"at_{line.name} = {self.number(index)}")
            place = f"{self.pointer(first, 0).name}[at_{line.name} + {vector}]"
            self.known[line] = loaded(line.dtype, place)

    def copies(self) -> int:
        """How often the loop may be written, for the spans that it is cut into."""
        return MAX_LINES // max(1, sum(1 for _ in all_lines(self.body)))

    def spans(self, first: str, last: str, copies: int) -> None:
        """The inner loop, cut where a branch changes sides so that no span has the branch."""
        found = self._cuttable()
        pieces = _pieces(found) if found is not None else 0
        if found is None or pieces > copies:
            self._span(first, last)
            return
        line, along, outside = found
        share = copies // pieces if pieces > 2 or outside or not self._ends(line) else copies
        depth, steps = len(self.sides), any(b.step != 1 for b in along)
        if along and not (steps and outside):
            self._cut(line, along, outside, first, last, share, depth)
            return
        with self.w.block(f"if {self.condition(outside)}:"):
            if steps:
                self._cut(line, along, [], first, last, share, depth)
            else:
                self._side(line, 0, first, last, share)
        with self.w.block("else:"):
            self._side(line, 1, first, last, share)

    def _ends(self, line: Line) -> bool:
        """Whether the first side of a branch has no other: a chain of them is as many loops."""
        self.sides[line] = 0
        last = self._cuttable() is None
        del self.sides[line]
        return last

    def _span(self, first: str, last: str) -> None:
        """One loop. What the chosen sides made the same for the whole span stands before it.

        LLVM would see that too, but takes exponential time over long chains of such values.
        """
        fixed = self._fixed() if self.sides else []
        if not fixed:
            self._loop(first, last)
            return
        with self.w.block(f"if {first} < {last}:"):
            for line in fixed:
                self.line(line)
                self.known[line] = line.name
            self._loop(first, last)
        for line in fixed:
            del self.known[line]

    def _loop(self, first: str, last: str) -> None:
        """One loop."""
        stores = [] if self.few or self.far() else streams(self, self.most)
        if stores:
            streamed(self, stores, first, last, self._element)
            return
        with self.w.block(f"for {self.plan.reduced[0]} in range({first}, {last}):"):
            self._element()

    def _fixed(self) -> list[Line]:
        """The lines that read a value behind a chosen side and stay the same along the row."""
        vector, fixed = self.plan.reduced[0], list[Line]()
        moving = {line for line in self.known if vector in line.variables}
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
        self,
        line: Line,
        along: list[Bound],
        outside: list[Bound],
        first: str,
        last: str,
        copies: int,
        depth: int,
    ) -> None:
        """Up to three spans; where the row is ``outside``, all of it is the first or last one."""
        low, high = f"low{depth}", f"high{depth}"
        lows = [b.low - b.index.const for b in along if b.low is not None]
        highs = [b.high - b.index.const for b in along if b.high is not None]
        with self.w.block(f"if {self.condition(outside)}:") if outside else nullcontext():
            self.w(f"{low} = {first}")
            self.w(f"{high} = {last}")
            for edge in lows:
                self.w(f"{low} = min(max({low}, {self.int_arg('lo', edge)}), {last})")
            for edge in highs:
                self.w(f"{high} = max(min({high}, {self.int_arg('hi', edge)}), {low})")
        if outside:
            with self.w.block("else:"):
                self.w(f"{low} = {last if lows else first}")
                self.w(f"{high} = {low}")
        length = self.body.extents[self.plan.reduced[0]]
        if lows:
            self._side(line, 1, first, low, copies, not outside and max(lows) <= FEW)
        stepped = [b for b in along if b.step != 1]
        if stepped:
            self._steps(line, stepped[0], low, high, copies, depth)
        else:
            self._side(line, 0, low, high, copies, bool(highs and not lows) and min(highs) <= FEW)
        if highs:
            few = length - min(highs) <= FEW and bool(lows or not outside)
            self._side(line, 1, high, last, copies, few)

    def _steps(
        self, line: Line, bound: Bound, low: str, high: str, copies: int, depth: int
    ) -> None:
        """Spans between the places that a branch with a long step takes, and these places."""
        at, step = f"at{depth}", self.int_arg("step", bound.step)
        place = self.number(bound.index.plus(var(self.plan.reduced[0]), -1).plus(var(low)))
        self.w(f"{at} = {low} + remainder({step} - remainder({place}, {step}), {step})")
        self._side(line, 1, low, f"min({at}, {high})", copies)
        with self.w.block(f"while {at} < {high}:"):
            self._side(line, 0, at, f"{at} + 1", copies, few=True)
            self._side(line, 1, f"{at} + 1", f"min({at} + {step}, {high})", copies)
            self.w(f"{at} += {step}")

    def _side(
        self, line: Line, side: int, first: str, last: str, copies: int, few: bool = False
    ) -> None:
        """The spans where a branch takes one side; few: they have some elements at most."""
        before, self.few = self.few, self.few or few
        self.sides[line] = side
        self.spans(first, last, copies)
        del self.sides[line]
        self.few = before

    def _cuttable(self) -> tuple[Line, list[Bound], list[Bound]] | None:
        """A branch that depends on the place in the row only; its bounds along it and others."""
        vector = self.plan.reduced[0]
        stack = [x for x in self.body.lines if x.kind == "branch" and x not in self.known]
        while stack:
            line = stack.pop(0)
            assert line.blocks is not None
            if line in self.sides:
                stack += [x for x in line.blocks[self.sides[line]].lines if x.kind == "branch"]
                continue
            along = [b for b in line.guard if vector in b.index.variables()]
            plain = all(_plain(b, vector) for b in along) and sum(b.step > 1 for b in along) < 2
            outside = [b for b in line.guard if b not in along]
            if plain and not line.data:
                return line, along, outside
        return None

    def _element(self) -> None:
        self.inner(0, stage_targets(self.plan, 0))
        self.stores(0, inner=True)
        if self.lone or self.gathered:
            return
        if self.few or self.far():
            self.w(f"one_by_one({self.plan.reduced[0]})")
        elif self.plan.reduced:
            self.interleave(stage_targets(self.plan, 0), self.plan.reduced[0])

    def far(self) -> bool:
        """Whether most of the work is to read at places that are themselves far apart in memory.

        Vectors would be put together twice, and wait; scalars keep more reads under way.
        """
        lines = [x for x in all_lines(self.body) if x not in self.known]
        chosen = 0
        for line in lines:
            need = closure([*line.data.values()], set())
            places = [x.index for x in need if x.kind == "load" and x.index is not None]
            chosen += any(abs(dict(i.terms).get(self.vector_axis, 0)) > 1 for i in places)
        return sum(x.cost for x in lines) < COSTLY * chosen


def _pieces(cut: tuple[Line, list[Bound], list[Bound]]) -> int:
    """How many loops a cut makes of one."""
    _, along, outside = cut
    lows, highs = any(b.low is not None for b in along), any(b.high is not None for b in along)
    steps = any(b.step != 1 for b in along)
    return 1 + lows + highs + 2 * steps + (bool(outside) and (steps or not lows + highs))


def _plain(bound: Bound, vector: str) -> bool:
    """Whether the places inside a bound follow from its numbers, or step from a row's first."""
    limits = bound.low is not None or bound.high is not None
    one = [a for a, c in bound.index.terms if c == 1]
    return bound.index.terms == ((vector, 1),) or (vector in one and not limits)


def _beside(line: Line, vector: str) -> tuple[Buffer | None, Index]:
    """What a load reads along ``vector``, else None; its place without ``vector``."""
    index = line.index or Index()
    rest = make({a: c for a, c in index.terms if a != vector}, index.const)
    plain = line.kind == "load" and not line.data and dict(index.terms).get(vector) == 1
    return (line.buffer if plain and vector not in rest.variables() else None), rest
