"""Loops with branches on the place along them are cut into spans without one.

A pad, a concatenation, updates at edges::

    for i1 in range(n_i1):                      low0 = min(max(0, 1), n_i1)
        if (i1 >= 1) & (i1 < 9):                high0 = max(min(n_i1, 9), low0)
            w0 = a                              for i1 in range(0, low0):
        else:                         ->            y0[i1] = b
            w0 = b                              for i1 in range(low0, high0):
        y0[i1] = w0                                 y0[i1] = a
                                                for i1 in range(high0, n_i1):
                                                    y0[i1] = b
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext

from fusec.codegen.emit_quotients import QuotientEmitter
from fusec.codegen.loops import Bound, Line, closure
from fusec.codegen.schedule import is_inner
from fusec.passes.access import var

MAX_LINES = 400  # scalar lines that cutting loops may add to a kernel
FEW = 16  # elements of a span at the edge that is not worth vectors

Cut = tuple[Line, list[Bound], list[Bound]]
"""A branch, its bounds along the loop, and those that hold for all of it."""


class SpanEmitter(QuotientEmitter):
    """Loops over spans. here: the lines of the loop; once: writes the loop over one span."""

    here: Sequence[Line] = ()
    once: Callable[[str, str], None]
    few = False  # the span that is written has some elements at most

    def invariants(self) -> None:
        """What no loop changes, also where it stands in a branch.

        There LLVM would compute it for each element that may need it, an update's one cosine too.
        """
        super().invariants()
        self._unmoved(self.body.lines, {x for x in self.body.lines if self._launch(x)})

    def _launch(self, line: Line) -> bool:
        return not line.variables and line.stage == 0

    def _unmoved(self, lines: Sequence[Line], known: set[Line]) -> None:
        for line in lines:
            for block in line.blocks or ():
                self._unmoved(block.lines, known)
            plain = line.kind in ("op", "load") and not line.effect and not line.data
            if plain and self._launch(line) and line not in known and known.issuperset(line.args):
                self.line(line)
                self.known[line] = line.name
                known.add(line)

    def cuts(self, targets: list[Line], once: Callable[[str, str], None]) -> bool:
        """Begin a loop that computes ``targets``; whether there is a branch to cut it at."""
        need = closure(targets, set(self.known))
        self.here = [x for x in self.body.lines if x in need and self.in_loop(x)]
        self.once = once
        return self._cuttable() is not None

    def in_loop(self, line: Line) -> bool:
        """Whether such a loop computes the line, if it needs it."""
        return is_inner(line, self.plan)

    def spans(self, first: str, last: str, room: int = MAX_LINES) -> None:
        """The inner loop, cut where a branch changes sides so that no span has the branch.

        room: scalar lines that cutting may add. The spans with branches left share what remains:
        of a chain of updates at edges only one has, so it is cut however long it is.
        """
        found = self._cuttable()
        added, going = (0, 0) if found is None else self._added(found)
        if found is None or added > room:
            self._span(first, last)
            return
        line, along, outside = found
        room = (room - added) // max(1, going)
        depth, steps = len(self.sides), any(b.step != 1 for b in along)
        if along and not (steps and outside):
            self._cut(line, along, outside, first, last, room, depth)
            return
        with self.w.block(f"if {self.condition(outside)}:"):
            if steps:
                self._cut(line, along, [], first, last, room, depth)
            else:
                self._side(line, 0, first, last, room)
        with self.w.block("else:"):
            self._side(line, 1, first, last, room)

    def _added(self, cut: Cut) -> tuple[int, int]:
        """The scalar lines that a cut adds, and how many of its spans have branches to cut."""
        lines, going = -self._lines(self.here), 0
        for side, spans in enumerate(_pieces(cut)):
            self.sides[cut[0]] = side
            lines += spans * self._lines(self.here)
            going += spans * (self._cuttable() is not None)
            del self.sides[cut[0]]
        return lines, going

    def _lines(self, lines: Sequence[Line]) -> int:
        """Scalar lines, of branches whose side is chosen those of that side."""
        total = len(lines)
        for line in lines:
            blocks = line.blocks or ()
            chosen = blocks[self.sides[line] :][:1] if line in self.sides else blocks
            total += sum([self._lines(b.lines) for b in chosen])
        return total

    def _span(self, first: str, last: str) -> None:
        """One loop. What the chosen sides made the same for the whole span stands before it.

        LLVM would see that too, but takes exponential time over long chains of such values.
        """
        fixed = self._fixed() if self.sides else []
        if not fixed:
            self.once(first, last)
            return
        with self.w.block(f"if {first} < {last}:"):
            for line in fixed:
                self.line(line)
                self.known[line] = line.name
            self.once(first, last)
        for line in fixed:
            del self.known[line]

    def _fixed(self) -> list[Line]:
        """The lines that read a value behind a chosen side and stay the same along the row."""
        vector, fixed = self.vector_axis, list[Line]()
        moving = {line for line in self.known if vector in line.variables}
        plain = {*self.body.lines}

        def visit(line: Line) -> None:
            if line in self.known:
                return
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
            free = line.kind == "scan" or (line.kind == "branch" and line not in self.sides)
            if moves or free or line.effect or any(a in moving for a in parts):
                moving.add(line)
            elif self.in_loop(line) or line not in plain:
                fixed.append(line)

        for line in self.here:
            visit(line)
        return fixed

    def _cut(
        self,
        line: Line,
        along: list[Bound],
        outside: list[Bound],
        first: str,
        last: str,
        room: int,
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
        length = self.body.extents[self.vector_axis]
        if lows:
            self._side(line, 1, first, low, room, not outside and max(lows) <= FEW)
        stepped = [b for b in along if b.step != 1]
        if stepped:
            self._steps(line, stepped[0], low, high, room, depth)
        else:
            self._side(line, 0, low, high, room, bool(highs and not lows) and min(highs) <= FEW)
        if highs:
            few = length - min(highs) <= FEW and bool(lows or not outside)
            self._side(line, 1, high, last, room, few)

    def _steps(
        self, line: Line, bound: Bound, low: str, high: str, room: int, depth: int
    ) -> None:
        """Spans between the places that a branch with a long step takes, and these places."""
        at, step = f"at{depth}", self.int_arg("step", bound.step)
        place = self.number(bound.index.plus(var(self.vector_axis), -1).plus(var(low)))
        self.w(f"{at} = {low} + remainder({step} - remainder({place}, {step}), {step})")
        self._side(line, 1, low, f"min({at}, {high})", room)
        with self.w.block(f"while {at} < {high}:"):
            self._side(line, 0, at, f"{at} + 1", room, few=True)
            self._side(line, 1, f"{at} + 1", f"min({at} + {step}, {high})", room)
            self.w(f"{at} += {step}")

    def _side(
        self, line: Line, side: int, first: str, last: str, room: int, few: bool = False
    ) -> None:
        """The spans where a branch takes one side; few: they have some elements at most."""
        before, self.few = self.few, self.few or few
        self.sides[line] = side
        self.spans(first, last, room)
        del self.sides[line]
        self.few = before

    def _cuttable(self) -> Cut | None:
        """A branch that depends on the place in the row only; its bounds along it and others."""
        vector = self.vector_axis
        stack = [x for x in self.here if x.kind == "branch" and x not in self.known]
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


def _pieces(cut: Cut) -> tuple[int, int]:
    """How many loops a cut makes of one, on each side of the branch."""
    _, along, outside = cut
    lows, highs = any(b.low is not None for b in along), any(b.high is not None for b in along)
    steps = any(b.step != 1 for b in along)
    return 1, lows + highs + 2 * steps + (bool(outside) and (steps or not lows + highs))


def _plain(bound: Bound, vector: str) -> bool:
    """Whether the places inside a bound follow from its numbers, or step from a row's first."""
    limits = bound.low is not None or bound.high is not None
    one = [a for a, c in bound.index.terms if c == 1]
    return bound.index.terms == ((vector, 1),) or (vector in one and not limits)
