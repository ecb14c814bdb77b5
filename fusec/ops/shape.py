"""Creation and movement: ops that compute no numbers and vanish in code generation.

A movement op says where an element of its result comes from; ``passes/access.py`` turns chains of
them into strides and index arithmetic.
"""

from typing import Any

import numpy as np

from fusec.errors import ShapeError
from fusec.ir.aval import Aval
from fusec.ir.graph import Literal
from fusec.ops.registry import Op, broadcast_shape, register

Shape = tuple[int, ...]


def _movement(name: str, impl: Any, infer: Any, family: str = "movement") -> Op:
    return register(Op(name=name, family=family, impl=impl, infer_aval=infer))


def index_of(start: Shape, step: Shape, shape: Shape) -> tuple[slice, ...]:
    """The slices that ``start``, ``step`` and the length of each axis stand for."""
    found = []
    for first, stride, n in zip(start, step, shape):
        stop: int | None = first + stride * n
        if stride < 0 and stop is not None and stop < 0:
            stop = None
        found.append(slice(first, stop, stride))
    return tuple(found)


def _slice(x: Any, start: Shape, step: Shape, shape: Shape) -> Any:
    whole = x if isinstance(x, np.ndarray) else np.asarray(x)
    return whole[index_of(start, step, shape)]


def _slice_update(x: Any, v: Any, start: Shape, step: Shape) -> Any:
    out = np.array(x)
    out[index_of(start, step, v.shape)] = v
    return out


def _infer_slice(x: Aval, start: Shape, step: Shape, shape: Shape) -> Aval:
    return Aval(shape, x.dtype)


def _infer_reshape(x: Aval, shape: Shape) -> Aval:
    out = Aval(shape, x.dtype)
    if out.size != x.size:
        raise ShapeError(f"cannot reshape array of size {x.size} into shape {shape}")
    return out


def _windows(x: Any, shape: Shape, axes: Shape, writeable: bool = False) -> Any:
    return np.lib.stride_tricks.sliding_window_view(x, shape, axes, writeable=writeable)


def _infer_windows(x: Aval, shape: Shape, axes: Shape, writeable: bool = False) -> Aval:
    places = list(x.shape)
    for axis, n in zip(axes, shape):
        places[axis] -= n - 1
    return Aval((*places, *shape), x.dtype)


def _infer_pad(x: Aval, value: Aval, before: Shape, after: Shape) -> Aval:
    return Aval(tuple(b + n + a for b, n, a in zip(before, x.shape, after)), x.dtype)


def _infer_concatenate(*xs: Aval, axis: int) -> Aval:
    shape = list(xs[0].shape)
    shape[axis] = sum(x.shape[axis] for x in xs)
    return Aval(tuple(shape), xs[0].dtype)


def _pad(x: Any, value: Any, before: Shape, after: Shape) -> Any:
    return np.pad(x, tuple(zip(before, after)), constant_values=value)


def _iota(shape: Shape, axis: int) -> Any:
    line = np.arange(shape[axis]).reshape([-1 if k == axis else 1 for k in range(len(shape))])
    return np.broadcast_to(line, shape)


def _literal(value: Literal) -> Any:
    return value.value


def _no_value(**attrs: Any) -> Any:
    raise AssertionError("a param has no value of its own")


param = register(
    Op(
        name="param",
        family="create",
        impl=_no_value,
        infer_aval=lambda name, aval: aval,
    )
)
const = register(
    Op(
        name="const",
        family="create",
        impl=_literal,
        infer_aval=lambda value: Aval(value.value.shape, value.value.dtype),
    )
)
# A 0-d integer that comes from a shape: an argument of the kernel, never a literal in its source.
dim = register(
    Op(
        name="dim",
        family="create",
        impl=lambda value: np.asarray(value, np.int64),
        infer_aval=lambda value: Aval((), np.dtype(np.int64)),
    )
)
iota = register(
    Op(
        name="iota",
        family="create",
        impl=_iota,
        infer_aval=lambda shape, axis: Aval(shape, np.dtype(np.int64)),
    )
)

slice_ = _movement("slice", _slice, _infer_slice)
transpose = _movement(
    "transpose",
    lambda x, perm: np.transpose(x, perm),
    lambda x, perm: Aval(tuple(x.shape[p] for p in perm), x.dtype),
)
reshape = _movement("reshape", lambda x, shape: np.reshape(x, shape), _infer_reshape)
broadcast_to = _movement(
    "broadcast_to",
    lambda x, shape: np.broadcast_to(x, shape),
    lambda x, shape: Aval(broadcast_shape(x.shape, shape), x.dtype),
)
# The diagonal of the last two axes, which are equally long, as a new last axis. NumPy gives a
# read-only view from `np.diagonal`, and a view of which that is made from `np.einsum`.
diagonal = _movement(
    "diagonal",
    lambda x: np.einsum("...ii->...i", x),
    lambda x: Aval(x.shape[:-1], x.dtype),
)
# One window of `shape` at every place of `axes` (one may occur twice) where it fits: new last axes.
windows = _movement("windows", _windows, _infer_windows)
pad = _movement("pad", _pad, _infer_pad)
concatenate = _movement(
    "concatenate", lambda *xs, axis: np.concatenate(xs, axis), _infer_concatenate
)
slice_update = _movement(
    "slice_update", _slice_update, lambda x, v, start, step: x, family="update"
)
