"""Python's ``min`` and ``max`` of traced numbers.

They give one of their arguments, of its own type. Of arguments of several types (an int and a
float, NumPy's number and Python's) which one it is may have to be decided. That waits until the
type is asked for: ``x / max(x.sum(), 1)`` is the same array either way.
"""

import functools
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from fusec.trace.decisions import decided
from fusec.trace.pynumbers import EXACT, refuse_large
from fusec.trace.scalars import NUMBERS, PyScalar
from fusec.trace.session import Session
from fusec.trace.tracer import Tracer, as_tracer, fresh
from fusec.trace.ufuncs import undecided, weak_type
from fusec.trace.values import guarded


def extreme(real: Any, better: Callable[[Any, Any], Any]) -> Callable[[Session], Any]:
    """``min`` and ``max``: a later argument wins only if it compares as better."""

    def bind(session: Session) -> Any:
        @functools.wraps(real)
        def call(*args: Any, **kwargs: Any) -> Any:
            items = list(args[0]) if len(args) == 1 else list(args)
            if kwargs or not all(map(_is_number, items)) or Tracer not in map(type, items):
                return real(*args, **kwargs) if len(args) > 1 else real(items, **kwargs)
            best = items[0]
            for item in items[1:]:
                refuse_large(session, real.__name__, (item, best))
                best = _better(session, better(_plain(item), _plain(best)), item, best)
            return best

        return call

    return bind


def _is_number(x: Any) -> bool:
    plain = type(x) in (PyScalar, *NUMBERS) or isinstance(x, np.generic)
    return x._scalar or x._like.ndim == 0 if type(x) is Tracer else plain


def _plain(x: Any) -> Any:
    """A number undecided, if as a float it compares as each of what it may be."""
    values = _choice(x)[1].values()
    exact = all(type(v) is int and abs(v) <= EXACT for v in values if weak_type(v) is int)
    return undecided(x) if exact else x


def _better(session: Session, wins: Any, item: Any, best: Any) -> Any:
    """``item`` where it ``wins``; of several types what all have in common, and a choice."""
    if type(wins) is not Tracer:
        return item if wins else best
    (kind, values), (other, others) = _choice(item), _choice(best)
    both = {k: _where(wins, values[k], others[k]) for k in values if k in others}
    if len(values | others) == 1:
        return both[kind]
    made = _where(wins, undecided(item), undecided(best))
    made._storage.choice = (np.where(wins, kind, other), values | others | both)
    return made


def _where(wins: Tracer, item: Any, best: Any) -> Tracer:
    made = fresh(wins._session, np.where(wins, item, best).node, scalar=True)
    made._storage.item = None not in (weak_type(item), weak_type(best))
    return made


def _choice(value: Any) -> tuple[Any, dict[int, Any]]:
    """Which type a number has, and its value if it has it, by the types' numbers."""
    if type(value) is Tracer and value._storage.choice is not None:
        return value._storage.choice
    kind = weak_type(value)
    number = 2 * np.dtype(kind or value.dtype).num + (kind is not None)
    return number, {number: value}


def settle(leaves: Iterable[Any]) -> None:
    """Make numbers what they are, where values of this call are at hand."""
    for x in leaves:
        if type(x) is Tracer and x._storage.choice is not None:
            _settle(x, *x._storage.choice)


def _settle(x: Tracer, which: Tracer, values: dict[int, Any]) -> None:
    session, storage = x._session, x._storage
    storage.choice, found = None, guarded(session, which.node)
    found = decided(session, which.node) if found is None else found
    if found is not None:
        value = values[int(found)]
        chosen = as_tracer(session, value)
        storage.node, storage.like = chosen.node, chosen._like
        storage.item = weak_type(value) is not None
        x._sample, x._cache = chosen._like, None
