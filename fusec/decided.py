"""Plans of a function that decides on computed values (``if np.any(x < 0)``): a tree.

A ``Decided`` runs the program of one decision and has the plans for each answer, which are kept
like those of a signature: a list, of which the first that matches is taken. ``route`` has the way
of one call through it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fusec import fastcall
from fusec.errors import (
    ConcreteValueError,
    DataDependentShapeError,
    ProgramSizeError,
    UnsupportedError,
)
from fusec.runtime.native import ERROR, MISS
from fusec.trace.rounds import Pattern

MOST_DECISIONS = 16  # of one call
MOST_OF_A_LINE = 8
MOST_ANSWERS = 8  # to one decision: an `int(x.sum())` has many
MOST_COUNTS = 1000  # of rounds of one loop
MOST_NEW = 32  # of them that follow each other and were not there before; or of their limits
MOST_FALLBACKS = 4  # of one signature, each for other numbers or other things outside the function
MOST_VAIN = 32  # calls that decide although NumPy runs them all
MOST_WAYS = 64  # through the decisions of a signature, each with programs of its own
MAX_FAST = 4  # native entries that a call tries in turn
MAX_PLANS = 256  # signatures kept for one function, and plans for one; the oldest goes


class Undecided(UnsupportedError):
    """Python decides on more than there can be programs for."""


WARNED = (DataDependentShapeError, ConcreteValueError, ProgramSizeError, Undecided)
"""Errors of which a call only hears as a warning: NumPy runs the function."""


class Decided:
    """A decision: ``plan`` gives the answer and what the plans after it are handed.

    It has an ``Asked`` for a plan in the call that is traced, and takes part in no other yet. vain:
    how many calls NumPy ran after all.
    """

    def __init__(self, plan: Any) -> None:
        self.vain = 0
        self.answers: dict[bytes, list[Any]] = {}
        self.entry: fastcall.Fast = (None, self.call)
        self._own: fastcall.Fast | None = None
        self._after: dict[bytes, list[fastcall.Fast]] = {}
        self.take(plan)

    def take(self, plan: Any) -> None:
        """Let this plan find the answer."""
        self.plan = plan

    @property
    def most(self) -> int:
        """How many answers there may be."""
        return MOST_ANSWERS

    def matches(self, leaves: Sequence[Any], handed: Sequence[Any] = ()) -> list[Any] | None:
        """The hidden arrays of this call, or None when the decision is not for it."""
        found: list[Any] | None = self.plan.matches(leaves, handed)
        return found

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
        return made if made is MISS or made is ERROR else self._follow(made, args, kwargs, handed)

    def _follow(self, made: Any, args: Any, kwargs: Any, handed: tuple[Any, ...]) -> Any:
        for fast in self._after.get(made[0].tobytes(), ()):
            result = enter(fast, args, kwargs, (*handed, *made[1:]))
            if result is not MISS:
                return result
        return MISS


class Until(Decided):
    """A loop: its answer is how many decisions its rounds were, less than 0 where none ended it.

    pattern: what a round does. limit: the most rounds of Python, where that is known; if not, there
    may be some more than were ever traced, so that a trace can tell. new: how many of the last
    calls had counts that no call had before, long ones count for several. limits: how often Python
    had another limit.
    """

    def __init__(self, plan: Any, pattern: Pattern, rounds: int) -> None:
        super().__init__(plan)
        self.pattern, self.new, self.limits = pattern, 0, 0
        self.allow(4 * rounds)

    def allow(self, rounds: int) -> None:
        """Let it run so often at most."""
        self.limit = np.array(rounds)

    @property
    def most(self) -> int:
        """How many answers there may be."""
        return MOST_COUNTS

    def matches(self, leaves: Sequence[Any], handed: Sequence[Any] = ()) -> list[Any] | None:
        """As of any decision; its program is told the limit."""
        return super().matches(leaves, (*handed, self.limit))

    def call(self, args: Any, kwargs: Any, handed: tuple[Any, ...] = ()) -> Any:
        """The result of a call, MISS or ERROR."""
        assert self._own is not None
        made = enter(self._own, args, kwargs, (*handed, self.limit))
        result = made if made is MISS or made is ERROR else self._follow(made, args, kwargs, handed)
        self.new = self.new if result is MISS else 0
        return result


def enter(fast: fastcall.Fast, args: Any, kwargs: Any, handed: tuple[Any, ...]) -> Any:
    """The result of a short way, MISS or ERROR."""
    fetch, entry = fast
    if fetch is None:
        return entry(args, kwargs, handed)
    return MISS if kwargs or fetch(()) is None else entry(*args)


class Fallback:
    """Stands for a plan where tracing can't express the function: NumPy runs it.

    facts: for which calls that is (None: all); another may take a way that tracing can express.
    """

    def __init__(self, reason: str, facts: Any = None) -> None:
        self.reason, self.facts = reason, facts

    def matches(self, leaves: Sequence[Any]) -> bool:
        return self.facts is None or self.facts.hold(leaves)


def keep(plans: list[Any], plan: Any) -> None:
    """Let a plan be the first that is tried; after many fallbacks, NumPy runs what is new."""
    if isinstance(plan, Fallback) and sum(isinstance(p, Fallback) for p in plans) >= MOST_FALLBACKS:
        plan.facts = None
        plans.append(plan)
        return
    plans.insert(0, plan)
    del plans[MAX_PLANS:]


def leads_on(plan: Any) -> bool:
    """Whether a plan is compiled, or one after some answer to a decision."""
    if not isinstance(plan, Decided):
        return not isinstance(plan, Fallback)
    return any(leads_on(p) for after in plan.answers.values() for p in after)


def ways(plans: list[Any]) -> int:
    """How many chains of answers end in these plans."""
    forks = [p for p in plans if isinstance(p, Decided)]
    found = [[ways(a) for a in p.answers.values()] for p in forks]
    several = [max(n, default=0) if type(p) is Until else sum(n) for p, n in zip(forks, found)]
    return sum(several) + (len(forks) < len(plans))
