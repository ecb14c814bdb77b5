"""``np.pad``: constants around an array, or pieces of the array itself."""

from typing import Any

import numpy as np

from fusec.ir.graph import Node
from fusec.trace.functions_shape import cut, join
from fusec.trace.session import Session
from fusec.trace.standin import stand_in
from fusec.trace.table import (
    ToHost,
    implements,
    plain,
)
from fusec.trace.tracer import Tracer, as_tracer, fresh
from fusec.trace.ufuncs import as_element


def in_order(node: Node, like: np.ndarray) -> np.ndarray:
    """Fortran order for Fortran arrays, else C: as ``np.pad`` allocates."""
    if like.flags.fnc:
        return stand_in(node.shape[::-1], node.dtype).T
    return stand_in(node.shape, node.dtype)


@implements(np.pad)
def pad(session: Session, array: Any, pad_width: Any, mode: Any = "constant",
        **kwargs: Any) -> Tracer:
    """``np.pad`` for constants, edges, reflections and wrapping."""
    x = as_tracer(session, array)
    ndim = x._like.ndim
    if mode not in ("constant", "edge", "reflect", "symmetric", "wrap", "empty"):
        raise ToHost
    if kwargs.keys() - {"constant_values"} or (kwargs and mode != "constant"):
        raise ToHost
    widths = plain(pad_width)
    np.pad(np.empty((1,) * ndim, bool), widths, mode="empty")  # raises for bad widths
    if isinstance(widths, dict):
        widths = [widths.get(k, widths.get(k - ndim, (0, 0))) for k in range(ndim)]
    pairs = np.broadcast_to(np.asarray(widths), (ndim, 2)).astype(int).tolist()
    if mode in ("constant", "empty"):
        return _pad_constant(session, x, pairs, kwargs.get("constant_values", 0))
    node = x.node
    for k, (before, after) in enumerate(pairs):
        n = node.shape[k]
        if n == 0 and before + after:
            np.pad(np.empty(x._like.shape, x.dtype), pairs, mode=mode)
        node = _pad_copies(session, node, k, before, after, mode)
    return fresh(session, node, in_order(node, x._like))


def _pad_constant(session: Session, x: Tracer, pairs: list[list[int]], values: Any) -> Tracer:
    node = x.node
    values = as_tracer(session, values)
    if values._like.ndim == 0:
        value = _constant(session, values, x)
        before, after = tuple([p[0] for p in pairs]), tuple([p[1] for p in pairs])
        node = session.make("pad", node, value, before=before, after=after)
        return fresh(session, node, in_order(node, x._like))
    values = np.broadcast_to(values, (len(pairs), 2))
    for k, pair in enumerate(pairs):
        ends = []
        for side, width in enumerate(pair):
            shape = tuple([width if j == k else n for j, n in enumerate(node.shape)])
            ends.append(session.broadcast(_constant(session, values[k, side], x), shape))
        node = join(session, [ends[0], node, ends[1]], k)
    return fresh(session, node, in_order(node, x._like))


def _constant(session: Session, value: Tracer, x: Tracer) -> Node:
    return as_element(session, fresh(session, value.node, scalar=True), x.dtype, item=True)


def _pad_copies(session: Session, node: Node, axis: int, before: int, after: int,
                mode: str) -> Node:
    """One axis extended with copies of itself: pieces of the (mirrored) periodic line."""
    n = node.shape[axis]
    if mode == "edge" or (n == 1 and before + after):
        low, high = cut(session, node, axis, 0, 1), cut(session, node, axis, n - 1, n)
        sides = [_stretched(session, e, axis, w) for e, w in ((low, before), (high, after))]
        return join(session, [sides[0], node, sides[1]], axis)
    period = _period(session, node, axis, mode)
    length = period.shape[axis]
    pieces = []
    place, stop = -before, n + after
    while place < stop:
        first = place % length
        last = min(length, first + stop - place)
        pieces.append(cut(session, period, axis, first, last))
        place += last - first
    return join(session, pieces, axis)


def _period(session: Session, node: Node, axis: int, mode: str) -> Node:
    """What repeats: the line itself, or it and its mirror image."""
    n = node.shape[axis]
    if mode == "wrap":
        return node
    flipped = session.make(
        "slice", node,
        start=tuple([n - 1 if k == axis else 0 for k in range(node.aval.ndim)]),
        step=tuple([-1 if k == axis else 1 for k in range(node.aval.ndim)]), shape=node.shape,
    )  # fmt: skip
    if mode == "reflect":
        flipped = cut(session, flipped, axis, 1, n - 1)
    return join(session, [node, flipped], axis)


def _stretched(session: Session, line: Node, axis: int, width: int) -> Node:
    shape = tuple([width if k == axis else n for k, n in enumerate(line.shape)])
    return session.broadcast(line, shape)
