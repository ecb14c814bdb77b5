"""``np.packbits`` and ``np.unpackbits``: the eight bits of a byte are an axis of their own."""

from typing import Any

import numpy as np

from fusec.trace.functions_pad import in_order
from fusec.trace.session import Session
from fusec.trace.table import ToHost, implements, plain
from fusec.trace.tracer import Tracer, as_tracer, fresh


def _weights(bitorder: str) -> np.ndarray:
    powers = np.uint8(1) << np.arange(8, dtype=np.uint8)
    return powers if bitorder == "little" else powers[::-1]


def _along(x: Tracer, axis: Any) -> tuple[Any, int]:
    """x with the axis, or all of it, as the last one, and where that goes back to."""
    if axis is None or not x.ndim:
        return x.reshape(-1), -1
    return np.moveaxis(x, axis, -1), axis


def _made(session: Session, y: Any, axis: int, like: np.ndarray) -> Tracer:
    node = np.moveaxis(y, -1, axis).node
    return fresh(session, node, in_order(node, like))


@implements(np.packbits)
def packbits(session: Session, a: Any, /, axis: Any = None, bitorder: Any = "big") -> Tracer:
    """A sum of powers of two over an axis of eight; what is missing at the end is 0."""
    x, axis = as_tracer(session, a), plain(axis)
    np.packbits(np.empty((1,) * x._like.ndim, x.dtype), axis, bitorder)  # raises for bad arguments
    moved, back = _along(x, axis)
    *rows, length = moved.shape
    filled = np.pad(moved != 0, [(0, 0)] * len(rows) + [(0, -length % 8)])
    bits = filled.reshape(*rows, -(-length // 8), 8) * _weights(bitorder)
    return _made(session, bits.sum(axis=-1, dtype=np.uint8), back, x._like)


@implements(np.unpackbits)
def unpackbits(
    session: Session, a: Any, /, axis: Any = None, count: Any = None, bitorder: Any = "big"
) -> Tracer:
    """Which powers of two each byte has; NumPy cuts and fills up to a ``count``."""
    x, axis = as_tracer(session, a), plain(axis)
    if count is not None:
        raise ToHost
    np.unpackbits(np.empty((1,) * x._like.ndim, x.dtype), axis, None, bitorder)  # as above
    moved, back = _along(x, axis)
    bits = (moved[..., None] & _weights(bitorder)) != 0
    *rows, length = moved.shape
    return _made(session, bits.astype(np.uint8).reshape(*rows, 8 * length), back, x._like)
