"""Plans of a function that decides on computed values (``if np.any(x < 0)``): a tree.

A ``Decided`` runs the program of one decision and has the plans for each answer, which are kept
like those of a signature: a list, of which the first that matches is taken. ``Route`` is the way
of one call through it, made longer while the call is traced.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from fusec import fastcall
from fusec.device_plan import Elsewhere, is_remote
from fusec.errors import ConcreteValueError, DataDependentShapeError, UnsupportedError
from fusec.plan import Asked
from fusec.runtime.array import Array
from fusec.runtime.executor import KernelError
from fusec.runtime.native import ERROR, MISS
from fusec.trace.run import Trace

MOST_DECISIONS = 16  # of one call
MOST_OF_A_LINE = 8
MOST_ANSWERS = 8  # to one decision: an `int(x.sum())` has many
MOST_WAYS = 64  # through the decisions of a signature, each with programs of its own
MAX_FAST = 4  # native entries that a call tries in turn
MAX_PLANS = 256  # signatures kept for one function, and plans for one; the oldest goes
ADVICE = (
    "Choose between arrays with np.where, pass a number as an argument, or jit what is inside a "
    "loop and not the loop"
)

Build = Callable[[Trace, list[Any]], Any]
Run = Callable[[Any, list[Any]], Any]


class Undecided(UnsupportedError):
    """Python decides on more than there can be programs for."""


WARNED = (DataDependentShapeError, ConcreteValueError, Undecided)
"""Errors of which a call only hears as a warning: NumPy runs the function."""


class Decided:
    """A decision: ``plan`` gives the answer and what the plans after it are handed.

    It has an ``Asked`` for a plan in the call that is traced, and takes part in no other yet.
    """

    def __init__(self, plan: Any) -> None:
        self.answers: dict[bytes, list[Any]] = {}
        self.entry: fastcall.Fast = (None, self.call)
        self._own: fastcall.Fast | None = None
        self._after: dict[bytes, list[fastcall.Fast]] = {}
        self.take(plan)

    def take(self, plan: Any) -> None:
        """Let this plan find the answer."""
        self.plan, self.matches = plan, plan.matches

    # -- the short way, see ``fastcall`` ----------------------------------------------------------

    def hasten(self, answer: bytes, fast: fastcall.Fast, *call: Any) -> bool:
        """Take ``fast`` after this answer; call: tree, leaves, arrays and static leaves."""
        if not self.plan.hastened:
            self.plan.hastened.append(fastcall.make(self.plan, *call))
        self._own = self.plan.hastened[0]
        known = self._after.get(answer, [])
        if fast not in known:
            self._after[answer] = [fast, *known[: MAX_FAST - 1]]
        return self._own is not None

    def call(self, args: Any, kwargs: Any, handed: tuple[Any, ...] = ()) -> Any:
        """The result of a call, MISS or ERROR."""
        assert self._own is not None
        made = enter(self._own, args, kwargs, handed)
        if made is MISS or made is ERROR:
            return made
        for fast in self._after.get(made[0].tobytes(), ()):
            result = enter(fast, args, kwargs, (*handed, *made[1:]))
            if result is not MISS:
                return result
        return MISS


def enter(fast: fastcall.Fast, args: Any, kwargs: Any, handed: tuple[Any, ...]) -> Any:
    """The result of a short way, MISS or ERROR."""
    fetch, entry = fast
    if fetch is None:
        return entry(args, kwargs, handed)
    return MISS if kwargs or fetch(()) is None else entry(*args)


class Fallback:
    """Stands for a plan where tracing can't express the function: NumPy runs it."""

    def __init__(self, reason: str) -> None:
        self.reason = reason


def keep(plans: list[Any], plan: Any) -> None:
    """Let a plan be the first that is tried."""
    plans.insert(0, plan)
    del plans[MAX_PLANS:]


def ways(plans: list[Any]) -> int:
    """How many chains of answers end in these plans."""
    forks = [p for p in plans if isinstance(p, Decided)]
    return sum(ways(a) for p in forks for a in p.answers.values()) + (len(forks) < len(plans))


class _Step(NamedTuple):
    """One decision on the way of a call. handed: how many arrays there were before."""

    plan: Decided
    answer: bytes
    loc: Any
    handed: int


class Route:
    """The way of one call through the plans of its signature: to ``plan``, with hidden arrays.

    build: the plan of a trace, given its hidden arrays. run: what a plan gives, with hidden arrays.
    patient: NumPy finds new decisions at first, which are compiled when the way has an end.
    """

    def __init__(
        self, plans: list[Any], leaves: Sequence[Any], build: Build, run: Run, patient: bool = False
    ) -> None:
        self.plan: Any = None
        self.hidden: list[Any] = []
        self.levels = [plans]
        self.steps: list[_Step] = []
        self.handed: list[Any] = []
        self.leaves, self.build, self._run, self.patient = leaves, build, run, patient
        self.failed = False  # NumPy raises what the value of a decision depends on
        self._asked: list[tuple[int, Decided, list[Any]]] = []  # made here, with hidden arrays
        self._refused: str | None = None
        self._numpys: type[Exception] = Exception if patient else KernelError

    def ends(self, plan: Any, hidden: list[Any] | None = None) -> Route:
        """Set where the way ends."""
        self.plan, self.hidden = plan, hidden or []
        return self

    def back_to(self, number: int) -> None:
        """Forget the decisions from this one on."""
        if number < len(self.steps):
            del self.handed[self.steps[number].handed :]
        del self.levels[number + 1 :], self.steps[number:]
        self._asked = [asked for asked in self._asked if asked[0] < number]

    def find(self) -> bool:
        """Go as far as there are plans; whether one was found.

        Raises Undecided where a value has too many answers.
        """
        for plan in self.levels[-1]:
            if isinstance(plan, Fallback):
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
            return self.find()
        return False

    def _matching(self, plan: Any) -> list[Any] | None:
        found: list[Any] | None = plan.matches(self.leaves, self.handed)
        return found

    def _step(self, plan: Decided, hidden: list[Any], loc: Any = None) -> np.ndarray:
        value, *more = self._run(plan.plan, hidden)
        if type(value) is Array:
            value = value._to_host("a value", "the function decides on it")
        answer = np.asarray(value).tobytes()
        if answer not in plan.answers and len(plan.answers) == MOST_ANSWERS:
            where = plan.plan.trace.graph.outputs[0].loc
            why = f"a number that has more than {MOST_ANSWERS} values, at {where}"
            self._refuse(why, len(self.steps))
        self.levels.append(plan.answers.setdefault(answer, []))
        self.steps.append(_Step(plan, answer, loc, len(self.handed)))
        self.handed += more
        return np.asarray(value)

    def answer(self, number: int, trace: Trace) -> np.ndarray:
        """The value that decision ``number`` of this call is about; trace: its program."""
        if self._refused:  # which the function has caught
            raise Undecided(self._refused)
        self.back_to(number)
        if number == MOST_DECISIONS:
            self._refuse(f"more than {MOST_DECISIONS} values", 0)
        loc, locs = trace.graph.outputs[0].loc, [s.loc for s in self.steps]
        if locs.count(loc) == MOST_OF_A_LINE:
            self._refuse(f"values more than {MOST_OF_A_LINE} times at {loc}", locs.index(loc))
        plan, hidden = self._decision(trace)
        try:
            return self._step(plan, hidden, loc)
        except UnsupportedError:
            raise
        except self._numpys as error:
            self.failed = True
            raise UnsupportedError("NumPy raises what a decision depends on") from error

    def _decision(self, trace: Trace) -> tuple[Decided, list[Any]]:
        for plan in self.levels[-1]:
            hidden = self._matching(plan) if isinstance(plan, Decided) else None
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
                self.back_to(number)
                raise
            made.take(plan)
            keep(self.levels[number], made)

    def refuse_more_ways(self) -> None:
        """Raise Undecided where there are as many ways as there may be."""
        if ways(self.levels[0]) >= MOST_WAYS:
            self.find()
            if self.steps:
                self._refuse(f"its values in more than {MOST_WAYS} ways", len(self.steps))

    def _refuse(self, why: str, number: int) -> None:
        """NumPy runs all calls that come to this decision."""
        self.back_to(number)
        self._refused = f"It decides on {why}. {ADVICE}"
        raise Undecided(self._refused)

    def hasten(self, fast: fastcall.Fast, *call: Any) -> fastcall.Fast | None:
        """The short way of the whole call, where ``fast`` is that of its last part."""
        for step in reversed(self.steps):
            if not step.plan.hasten(step.answer, fast, *call):
                return None
            fast = step.plan.entry
        return fast
