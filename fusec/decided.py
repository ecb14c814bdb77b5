"""Plans of a function that decides on computed values (``if np.any(x < 0)``): a tree.

A ``Decided`` runs the program of one decision and has the plans for each answer, which are kept
like those of a signature: a list, of which the first that matches is taken. ``Route`` is the way
of one call through it, made longer while the call is traced.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fusec import fastcall
from fusec.device_plan import Elsewhere
from fusec.errors import UnsupportedError
from fusec.runtime.array import Array
from fusec.runtime.executor import KernelError
from fusec.runtime.native import ERROR, MISS
from fusec.trace.run import Trace

MOST_DECISIONS = 16  # of one call
MOST_OF_A_LINE = 8
MOST_ANSWERS = 8  # to one decision: an `int(x.sum())` has many
ADVICE = (
    "Choose between arrays with np.where, pass a number as an argument, or jit what is inside a "
    "loop and not the loop"
)

Build = Callable[[Trace, list[Any]], Any]
Run = Callable[[Any, list[Any]], Any]


class Undecided(UnsupportedError):
    """Python decides on more than there can be programs for."""


class Decided:
    """A decision: ``run`` gives the answer and what the plans after it are handed."""

    def __init__(self, plan: Any) -> None:
        self.plan, self.matches = plan, plan.matches
        self.answers: dict[bytes, list[Any]] = {}
        self.entry: fastcall.Fast = (None, self.call)
        self._own: fastcall.Fast | None = None
        self._after: dict[bytes, fastcall.Fast] = {}

    # -- the short way, see ``fastcall`` ----------------------------------------------------------

    def hasten(self, answer: bytes, fast: fastcall.Fast, *call: Any) -> bool:
        """Take ``fast`` after this answer; call: tree, leaves, arrays and static leaves."""
        if self._own is None:
            self._own = fastcall.make(self.plan, *call)
        self._after[answer] = fast
        return self._own is not None

    def call(self, args: Any, kwargs: Any, handed: tuple[Any, ...] = ()) -> Any:
        """The result of a call, MISS or ERROR."""
        assert self._own is not None
        made = enter(self._own, args, kwargs, handed)
        if made is MISS or made is ERROR:
            return made
        fast = self._after.get(made[0].tobytes())
        return MISS if fast is None else enter(fast, args, kwargs, (*handed, *made[1:]))


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


class Route:
    """The way of one call through the plans of its signature: to ``plan``, with hidden arrays.

    build: the plan of a trace, given its hidden arrays. run: what a plan gives, with hidden arrays.
    """

    def __init__(self, plans: list[Any], leaves: Sequence[Any], build: Build, run: Run) -> None:
        self.plan: Any = None
        self.hidden: list[Any] = []
        self.levels = [plans]
        self.steps: list[tuple[Decided, bytes]] = []
        self.handed: list[Any] = []
        self.leaves, self.build, self._run = leaves, build, run
        self._lines: Counter[Any] = Counter()

    def ends(self, plan: Any, hidden: list[Any] | None = None) -> Route:
        """Set where the way ends."""
        self.plan, self.hidden = plan, hidden or []
        return self

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

    def _step(self, plan: Decided, hidden: list[Any]) -> np.ndarray:
        value, *more = self._run(plan.plan, hidden)
        if type(value) is Array:
            value = value._to_host("a value", "the function decides on it")
        answer = np.asarray(value).tobytes()
        if answer not in plan.answers and len(plan.answers) == MOST_ANSWERS:
            self._refuse(f"a number that has more than {MOST_ANSWERS} values")
        self.levels.append(plan.answers.setdefault(answer, []))
        self.steps.append((plan, answer))
        self.handed += more
        return np.asarray(value)

    def answer(self, number: int, trace: Trace) -> np.ndarray:
        """The value that decision ``number`` of this call is about; trace: its program."""
        if number == 0:
            del self.levels[1:], self.steps[:], self.handed[:]
            self._lines.clear()
        if number == MOST_DECISIONS:
            self._refuse(f"more than {MOST_DECISIONS} values")
        loc = trace.graph.outputs[0].loc
        self._lines[loc] += 1
        if self._lines[loc] > MOST_OF_A_LINE:
            self._refuse(f"more than {MOST_OF_A_LINE} times at {loc}")
        for plan in self.levels[number]:
            hidden = self._matching(plan) if isinstance(plan, Decided) else None
            if hidden is not None:
                break
        else:
            hidden = trace.guards.arrays(self.leaves) + self.handed
            made = self.build(trace, hidden)
            if isinstance(made, Elsewhere):
                raise UnsupportedError("it decides on arrays that it finds on a device")
            plan = Decided(made)
            plan.plan.prepare()
            self.levels[number].insert(0, plan)
        try:
            return self._step(plan, hidden)
        except KernelError as error:
            raise UnsupportedError("NumPy raises what a decision depends on") from error

    def _refuse(self, why: str) -> None:
        del self.levels[1:]  # NumPy runs all calls of the signature
        raise Undecided(f"it decides on {why}. {ADVICE}")

    def hasten(self, fast: fastcall.Fast, *call: Any) -> fastcall.Fast | None:
        """The short way of the whole call, where ``fast`` is that of its last part."""
        for plan, answer in reversed(self.steps):
            if not plan.hasten(answer, fast, *call):
                return None
            fast = plan.entry
        return fast
