"""The way of one call through the plans of its signature, see ``decided``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import takewhile
from math import inf
from typing import Any, NamedTuple

import numpy as np

from fusec import decided, fastcall
from fusec.decided import Decided, Fallback, Undecided, Until, keep, ways
from fusec.device_plan import Elsewhere, is_remote
from fusec.errors import UnsupportedError
from fusec.ir.graph import Loc
from fusec.plan import Asked, Given
from fusec.runtime.array import Array
from fusec.runtime.executor import KernelError
from fusec.trace.decisions import MOST_ROUNDS, Pinned
from fusec.trace.rounds import Found
from fusec.trace.run import Trace

ADVICE = (
    "Choose between arrays with np.where, pass a number as an argument, or jit what is inside a "
    "loop and not the loop"
)

MOST_TRACES = 8  # of a call, each of which may find a loop, or something about one
Build = Callable[[Trace, list[Any]], Any]
Run = Callable[[Any, list[Any]], Any]


class _Step(NamedTuple):
    """One decision, or loop, on the way of a call. handed: how many arrays there were before.

    number: of the first decision; turns: how many decisions it is, less than 0 as in ``Until``.
    """

    plan: Any
    answer: bytes
    loc: Any
    handed: int
    number: int = 0
    turns: int = 1


class Route:
    """The way of one call through the plans of its signature: to ``plan``, with hidden arrays.

    build: the plan of a trace, given its hidden arrays. run: what a plan gives, with hidden arrays.
    patient: NumPy finds new decisions at first, which are compiled when the way has an end.
    loops: whether loops are looked for; again: one was found, or more is known of one, so the
    function has to be traced again.
    """

    def __init__(
        self, plans: list[Any], leaves: Sequence[Any], build: Build, run: Run,
        patient: bool = False, loops: bool = False, most_nodes: float = inf,
    ) -> None:  # fmt: skip
        self.plan: Any = None
        self.hidden: list[Any] = []
        self.levels = [plans]
        self.steps: list[_Step] = []
        self.handed: list[Any] = []
        self.leaves, self.build, self._run, self.patient = leaves, build, run, patient
        self.failed = self.again = False
        self.loops, self.most_nodes = loops, most_nodes
        self._found: tuple[Found, Trace] | None = None
        self._asked: list[tuple[int, Decided, list[Any]]] = []  # made here, with hidden arrays
        self._refused: str | None = None
        self._numpys: type[Exception] = Exception if patient else KernelError

    def ends(self, plan: Any, hidden: list[Any] | None = None) -> Route:
        """Set where the way ends."""
        self.plan, self.hidden = plan, hidden or []
        return self

    def back_to(self, number: int) -> None:
        """Forget the decisions from this one on."""
        first = sum([step.number < number for step in self.steps])
        if first < len(self.steps):
            del self.handed[self.steps[first].handed :]
        del self.levels[first + 1 :], self.steps[first:]
        self._asked = [asked for asked in self._asked if asked[0] < first]

    def find(self) -> bool:
        """Go as far as there are plans; whether one was found.

        Raises Undecided where a value has too many answers.
        """
        for plan in self.levels[-1]:
            if isinstance(plan, Fallback):
                if not plan.matches(self.leaves):
                    continue
                self.ends(plan)
                return True
            hidden = self._matching(plan)
            if hidden is None:
                continue
            if not isinstance(plan, Decided):
                self.ends(plan, hidden)
                return True
            try:
                self._step(plan, hidden)
            except KernelError as error:
                self.ends(Fallback(str(error)))
                return True
            if type(plan) is Until and self.levels[-1]:
                plan.new = 0
            return self.find()
        return False

    def _matching(self, plan: Any) -> list[Any] | None:
        found: list[Any] | None = plan.matches(self.leaves, self.handed)
        return found

    def _step(
        self, plan: Decided, hidden: list[Any], loc: Any = None, number: int = 0
    ) -> np.ndarray:
        value, *more = self._run(plan.plan, hidden)
        if type(value) is Array:
            value = value._to_host("a value", "the function decides on it")
        answer = np.asarray(value).tobytes()
        if answer not in plan.answers and len(plan.answers) == plan.most:
            where = plan.plan.trace.graph.outputs[0].loc
            self._refuse(f"a number that has more than {plan.most} values, at {where}")
        self.levels.append(plan.answers.setdefault(answer, []))
        turns = int(value) if isinstance(plan, Until) else 1
        self.steps.append(_Step(plan, answer, loc, len(self.handed), number, turns))
        self.handed += more
        return np.asarray(value)

    def answer(self, number: int, trace: Trace) -> np.ndarray:
        """The value that decision ``number`` of this call is about; trace: its program."""
        if self._refused:  # which the function has caught
            raise Undecided(self._refused)
        self.back_to(number)
        if len(self.steps) == decided.MOST_DECISIONS:
            self._refuse(f"more than {decided.MOST_DECISIONS} values", 0)
        loc = trace.graph.outputs[0].loc
        alone = takewhile(lambda step: type(step.plan) is Decided, reversed(self.steps))
        if [s.loc for s in alone].count(loc) == decided.MOST_OF_A_LINE:
            self.undecided(loc)
        return self._answered(*self._decision(trace), loc, number)

    def _answered(self, plan: Decided, hidden: list[Any], loc: Any, number: int) -> np.ndarray:
        try:
            return self._step(plan, hidden, loc, number)
        except UnsupportedError:
            raise
        except self._numpys as error:
            self.failed = True
            raise UnsupportedError("NumPy raises what a decision depends on") from error

    # -- loops ------------------------------------------------------------------------------------

    @property
    def most(self) -> int:
        """How often a line may decide with programs of their own."""
        return decided.MOST_OF_A_LINE

    def inputs(self, trace: Trace) -> list[Any]:
        """The values of a program's params in this call."""
        hidden = trace.guards.arrays(self.leaves) + self.handed
        if any(map(is_remote, hidden)):
            self.undecided(trace.graph.outputs[0].loc)
        return list(self._run(Given(trace), hidden))

    def undecided(self, loc: Loc | None) -> None:
        """Raise that a line decides too often."""
        numbers = [s.number for s in self.steps if s.loc == loc]
        self._refuse(f"values more than {self.most} times at {loc}", min(numbers, default=0))

    def pinned(self, number: int, loc: Loc | None) -> Pinned | None:
        """The value of decision ``number``, where a loop has found it."""
        if self._refused or not self.loops:
            return None
        step = self._last_loop(number)
        here = step is not None and step.plan.pattern.decision(number - step.number)[1] == loc
        if step is None:
            self.back_to(number)
        elif here and 0 < -step.turns <= number - step.number:
            self.back_to(step.number)  # Python goes on where the program had to end
            step.plan.allow(-4 * step.turns // len(step.plan.pattern.stops))
            if -step.turns >= MOST_ROUNDS:
                self.undecided(loc)
            step = self._loop(step.number, step.loc)
        if step is None or number - step.number >= abs(step.turns):
            step = self._loop(number, loc)
        elif not here:
            self.ended(number)
        if step is None:
            return None
        plan, k = step.plan, number - step.number
        value = np.array(plan.pattern.decision(k)[2] is not (step.turns == k + 1))
        return Pinned(value, step.number, plan.pattern, plan.plan.trace)

    def _last_loop(self, number: int) -> _Step | None:
        step = self.steps[-1] if self.steps else None
        loop = step is not None and type(step.plan) is Until and step.number <= number
        return step if loop else None

    def _loop(self, number: int, loc: Loc | None) -> _Step | None:
        """Run the loop that begins with this decision, if one is known."""
        for plan in self.levels[-1]:
            hidden = self._matching(plan) if type(plan) is Until else None
            if hidden is not None:
                self._answered(plan, hidden, loc, number)
                if not self.levels[-1]:  # many rounds take long to trace
                    plan.new += min(1 + abs(self.steps[-1].turns) // 128, 8)
                if plan.new > decided.MOST_NEW:
                    why = f"how often a loop runs, at {loc}, which is new in each call"
                    self._refuse(why, number)
                return self.steps[-1]
        return None

    def ended(self, number: int) -> None:
        """There are no more decisions of a loop; raises where it had found more answers."""
        step = self._last_loop(number)
        if step is not None and 0 < number - step.number < abs(step.turns):
            step.plan.allow(max((number - step.number) // len(step.plan.pattern.stops), 1))
            step.plan.limits += 1
            if step.plan.limits > decided.MOST_NEW:
                why = f"how often a loop runs, at {step.loc}, whose limit is new again and again"
                self._refuse(why, step.number)
            self.again = True
            raise UnsupportedError("Python ends a loop earlier than its values do")

    def found(self, found: Found, trace: Trace) -> None:
        """There is a loop, and this is its program; the function is to be traced again."""
        if not self._refused:
            self._found, self.again = (found, trace), True

    def learn(self) -> bool:
        """Keep a loop that was found, for later calls and traces; whether that is possible."""
        if self._found is None:
            return True
        found, trace = self._found
        self.back_to(found.first)
        try:
            self.settle()
            plan = self.build(trace, [])
            plan.prepare()
        except UnsupportedError:
            return False
        old = [p for p in self.levels[-1] if type(p) is Until and self._matching(p) is not None]
        self.levels[-1][:] = [p for p in self.levels[-1] if p not in old]
        keep(self.levels[-1], Until(plan, found.pattern, found.rounds))
        return True

    def _decision(self, trace: Trace) -> tuple[Decided, list[Any]]:
        for plan in self.levels[-1]:
            hidden = self._matching(plan) if type(plan) is Decided else None
            if hidden is not None:
                return plan, hidden
        hidden = trace.guards.arrays(self.leaves) + self.handed
        made = Decided(Asked(trace))
        self._asked.append((len(self.steps), made, hidden))
        if not self.patient or any(map(is_remote, hidden)):
            self.settle()
        return made, hidden

    def settle(self) -> None:
        """Compile what NumPy has found until now, for later calls."""
        for number, made, hidden in [*self._asked]:
            self._asked = self._asked[1:]
            try:
                plan = self.build(made.plan.trace, hidden)
                if isinstance(plan, Elsewhere):
                    raise UnsupportedError("it decides on arrays that it finds on a device")
                plan.prepare()
            except UnsupportedError:
                self.back_to(self.steps[number].number if number < len(self.steps) else 1 << 32)
                raise
            made.take(plan)
            keep(self.levels[number], made)

    def refuse_more_ways(self) -> None:
        """Raise Undecided where there are as many ways as there may be."""
        if ways(self.levels[0]) >= decided.MOST_WAYS:
            self.find()
            if self.steps:
                self._refuse(f"its values in more than {decided.MOST_WAYS} ways")

    def _refuse(self, why: str, number: int = 1 << 32) -> None:
        """NumPy runs all calls that come to this decision."""
        self.back_to(number)
        self._refused = f"It decides on {why}. {ADVICE}"
        raise Undecided(self._refused)

    def give_up(self) -> None:
        """Decide no more where calls have done so often, and NumPy ran them all from the start."""
        plans, kept = self.levels[0], self.plan in self.levels[-1]
        if self.steps and kept and plans == [self.steps[0].plan]:
            plans[0].vain += 1
            if plans[0].vain >= decided.MOST_VAIN and not decided.leads_on(plans[0]):
                plans[:] = [self.plan]

    def hasten(self, fast: fastcall.Fast, *call: Any) -> fastcall.Fast | None:
        """The short way of the whole call, where ``fast`` is that of its last part."""
        for step in reversed(self.steps):
            if not step.plan.hasten(step.answer, fast, *call):
                return None
            fast = step.plan.entry
        return fast
