"""``x[i : i + 3]`` with a computed ``i``: a view of known length at a place that is not known.

Where it would reach over an end of ``x`` NumPy's slice is shorter: then NumPy runs the function.
Bounds at a distance that is not known either are decided on, see ``decisions``.
"""

from collections import Counter
from typing import Any

import numpy as np

from fusec.errors import ConcreteValueError, DataDependentShapeError
from fusec.ir.graph import Graph, Node
from fusec.ir.rewrite import rebuild
from fusec.trace.scalars import sized
from fusec.trace.session import Session
from fusec.trace.tracer import Tracer, as_tracer, fresh
from fusec.trace.values import guarded

INT = np.dtype(np.int64)


def windowed(x: Tracer, index: Any) -> tuple[Tracer, Any]:
    """The view of all slices whose bounds are computed, and the rest of the index."""
    items = list(index) if isinstance(index, tuple) else [index]
    moving = [k for k, item in enumerate(items) if isinstance(item, slice) and _moves(item)]
    for k in moving:
        widths = [_axes(i) for i in items]
        rest = x._like.ndim - sum(widths)
        found = _window(x, sum(widths[:k]) + rest * any(i is ... for i in items[:k]), items[k])
        x, items[k] = (found, slice(None)) if found is not None else (x, _decided(items[k]))
    return x, tuple(items) if moving else index


def _axes(item: Any) -> int:
    """How many axes an item of an index takes, besides those that an Ellipsis fills."""
    if item is None or item is ...:
        return 0
    return np.ndim(item) if getattr(item, "dtype", None) == np.dtype(bool) else 1


def _moves(item: slice) -> bool:
    for p in (item.start, item.stop, item.step):
        if type(p) is Tracer and guarded(p._session, p.node) is None:
            return True
    return False


def _decided(item: slice) -> slice:
    """A slice whose bounds are numbers."""
    parts = (item.start, item.stop, item.step)
    try:
        return slice(*[p.__index__() if type(p) is Tracer else p for p in parts])
    except ConcreteValueError as error:
        session = next(p for p in parts if type(p) is Tracer)._session
        raise DataDependentShapeError(
            f"{session.location()}: the length of this slice depends on the data. Write "
            "x[i : i + 3] with a length that is a number, or keep the shape: "
            "np.where(np.arange(len(x)) < i, x, 0)"
        ) from error


def _window(x: Tracer, axis: int, item: slice) -> Tracer | None:
    session, n = x._session, x._like.shape[axis]
    bounds, width = (item.start, item.stop), None
    for p in [p for p in bounds if type(p) is Tracer]:
        one = np.zeros((1,) * p._like.ndim, p.dtype)
        np.empty(0)[one[()] if p._scalar else one :]  # raises unless it is an integer
    if not any(p is None for p in bounds) and (item.step is None or item.step.__index__() == 1):
        start, stop = [session.cast(as_tracer(session, p).node, INT) for p in bounds]
        width = _distance(session, start, stop)
    if width is None or not 0 < width <= n:
        return None
    at, end, length = fresh(session, start), fresh(session, stop), sized(n, session)
    fits = (at >= 0) & (at <= length - width) | (at >= -length) & (at < -width)
    fits &= end == at + width  # no integer has wrapped
    line = fresh(session, session.make("iota", shape=(width,), axis=0))
    place = fresh(session, session.make("check", start, fits.node)) + line
    size = session.make("dim", value=int(n))
    parts = []
    shape = (*x._like.shape[:axis], width, *x._like.shape[axis + 1 :])
    for k, m in enumerate(shape):
        if k == axis:
            part = session.make("wrap_index", place.node, size)
        else:
            part = session.make("iota", shape=(m,), axis=0)
        parts.append(session.reshape(part, (m,) + (1,) * (len(shape) - k - 1)))
    like = x._like[(slice(None),) * axis + (slice(width),)]
    attrs = {"parts": parts, "shape": shape, "of": None, "items": ()}
    return x.step(like, ("gather", attrs))


def _distance(session: Session, start: Node, stop: Node) -> int | None:
    """``stop - start``, if that is a number."""
    first, last = rebuild(Graph(session.params, [start, stop])).outputs
    terms: Counter[Node | None] = Counter()
    _collect(session, last, 1, terms)
    _collect(session, first, -1, terms)
    number = terms.pop(None, 0)
    return None if any(terms.values()) else number


def _collect(session: Session, node: Node, sign: int, terms: Counter[Node | None]) -> None:
    """Add the terms of a sum to ``terms``; numbers stand under None."""
    name, kind = node.op.name, node.dtype.kind
    widens = name == "cast" and np.can_cast(node.inputs[0].dtype, node.dtype)
    if kind in "iu" and (name in ("const", "dim") or node in session.numbers):
        found = guarded(session, node)
        assert found is not None
        terms[None] += sign * int(found)
    elif kind in "iu" and (widens or name in ("add", "subtract", "negative")):
        _collect(session, node.inputs[0], -sign if name == "negative" else sign, terms)
        for other in node.inputs[1:]:
            _collect(session, other, sign if name == "add" else -sign, terms)
    else:
        terms[node] += sign
