"""Creation and movement: ops that compute no numbers and vanish in code generation.

A movement op says where an element of its result comes from; ``passes/access.py`` turns chains of
them into strides and index arithmetic.
"""

from math import prod
from typing import Any

import numpy as np

from fusec.errors import ShapeError
from fusec.ir.aval import Aval
from fusec.ir.graph import Literal
from fusec.ops.elementwise_math import dispatch
from fusec.ops.registry import NONDIFFERENTIABLE, Op, broadcast_shape, register

Shape = tuple[int, ...]


def _movement(name: str, impl: Any, infer: Any, vjp: Any, family: str = "movement") -> Op:
    return register(Op(name=name, family=family, impl=impl, infer_aval=infer, vjp=vjp))


def positions(x: Any, axis: int) -> Any:
    """The index along ``axis`` of each element of ``x``.

    >>> positions(np.zeros((2, 3)), 1)
    array([[0, 1, 2],
           [0, 1, 2]])
    """
    traced = dispatch(positions, x, axis)
    return _iota(x.shape, axis) if traced is None else traced


def summed_to(g: Any, shape: Shape) -> Any:
    """What broadcasting ``shape`` to that of ``g`` did, undone for a cotangent.

    >>> summed_to(np.ones((4, 3)), (3,))
    array([4., 4., 4.])
    """
    lead = g.ndim - len(shape)
    kept = [k for k, n in enumerate(shape) if n != g.shape[lead + k]]
    axes = (*range(lead), *[lead + k for k in kept])
    return np.reshape(np.sum(g, axes, dtype=g.dtype), shape) if axes else g


def index_of(start: Shape, step: Shape, shape: Shape) -> tuple[slice, ...]:
    """The slices that ``start``, ``step`` and the length of each axis stand for."""
    found = []
    for first, stride, n in zip(start, step, shape):
        stop: int | None = first + stride * n
        if stride < 0 and stop is not None and stop < 0:
            stop = None
        found.append(slice(first, stop, stride))
    return tuple(found)


def c_strides(shape: Shape, itemsize: int) -> Shape:
    """The strides of C order, in bytes."""
    return tuple([itemsize * prod(shape[k + 1 :]) for k in range(len(shape))])


def _slice(x: Any, start: Shape, step: Shape, shape: Shape) -> Any:
    whole = x if isinstance(x, np.ndarray) else np.asarray(x)
    return whole[index_of(start, step, shape)]


def _slice_update(x: Any, v: Any, start: Shape, step: Shape, joined: bool = False) -> Any:
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


def _broadcast_to(x: Any, shape: Shape, writeable: bool = False) -> Any:
    """Read-only, or ``writeable`` as of ``np.broadcast_arrays``: NumPy warns of what is written."""
    if writeable:
        return np.broadcast_arrays(x, np.broadcast_to(0, shape))[0]
    return np.broadcast_to(x, shape)


def _infer_windows(x: Aval, shape: Shape, axes: Shape, writeable: bool = False) -> Aval:
    places = list(x.shape)
    for axis, n in zip(axes, shape):
        places[axis] -= n - 1
    return Aval((*places, *shape), x.dtype)


def _infer_pad(x: Aval, value: Aval, before: Shape, after: Shape) -> Aval:
    return Aval(tuple(b + n + a for b, n, a in zip(before, x.shape, after)), x.dtype)


def _infer_concatenate(*xs: Aval, axis: int, joined: bool = False) -> Aval:
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

# A stack of arrays: each entry is a node of the batch's shape, whose axes come before those of the
# entries' places, or, if these are ``first``, behind them. Made by passes only.
entries = register(
    Op(
        name="entries",
        family="create",
        impl=lambda *parts, core, first=False: (
            np.stack(parts).reshape(core + parts[0].shape)
            if first
            else np.stack(parts, -1).reshape(parts[0].shape + core)
        ),
        infer_aval=lambda part, *others, core, first=False: Aval(
            core + part.shape if first else part.shape + core, part.dtype
        ),
        vjp=NONDIFFERENTIABLE,
    )
)

# Derivatives. A rule may write into arrays of its own, as any traced code.


def _slice_vjp(g: Any, y: Any, x: Any, start: Shape, step: Shape, shape: Shape) -> Any:
    grad = np.zeros_like(g, shape=x.shape)
    grad[index_of(start, step, shape)] = g
    return grad


def _diagonal_vjp(g: Any, y: Any, x: Any) -> Any:
    grad = np.zeros_like(g, shape=x.shape)
    n = x.shape[-1]
    grad.reshape((*x.shape[:-2], n * n))[..., :: n + 1] = g
    return grad


def _inside(x: Any, before: Shape) -> tuple[slice, ...]:
    return tuple([slice(b, b + n) for b, n in zip(before, x.shape)])


def _windows_vjp(
    g: Any, y: Any, x: Any, shape: Shape, axes: Shape, writeable: bool = False
) -> Any:
    """Each place of the window gives its gradient to the elements that it has passed over."""
    parts = []
    for place in np.ndindex(*shape):
        part, before = g[(..., *place)], [0] * x.ndim
        for axis, k in zip(axes, place):
            before[axis] += k
        parts.append(np.pad(part, [(b, n - m - b) for b, n, m in zip(before, x.shape, part.shape)]))
    return sum(parts[1:], parts[0])


def _pad_vjp(g: Any, y: Any, x: Any, value: Any, before: Shape, after: Shape) -> Any:
    return g[_inside(x, before)]


def _pad_value_vjp(g: Any, y: Any, x: Any, value: Any, before: Shape, after: Shape) -> Any:
    outside = g.copy()
    outside[_inside(x, before)] = 0
    return np.sum(outside, dtype=g.dtype)


def _part_vjp(k: int) -> Any:
    def rule(g: Any, y: Any, *xs: Any, axis: int) -> Any:
        first = sum([x.shape[axis] for x in xs[:k]])
        return g[(slice(None),) * axis + (slice(first, first + xs[k].shape[axis]),)]

    return rule


def _updated_vjp(g: Any, y: Any, x: Any, v: Any, start: Shape, step: Shape) -> Any:
    kept = g.copy()
    kept[index_of(start, step, v.shape)] = 0
    return kept


slice_ = _movement("slice", _slice, _infer_slice, (_slice_vjp,))
transpose = _movement(
    "transpose",
    lambda x, perm: np.transpose(x, perm),
    lambda x, perm: Aval(tuple(x.shape[p] for p in perm), x.dtype),
    (lambda g, y, x, perm: np.transpose(g, tuple(np.argsort(perm).tolist())),),
)
reshape = _movement(
    "reshape",
    lambda x, shape: np.reshape(x, shape),
    _infer_reshape,
    (lambda g, y, x, shape: np.reshape(g, x.shape),),
)
broadcast_to = _movement(
    "broadcast_to",
    _broadcast_to,
    lambda x, shape: Aval(broadcast_shape(x.shape, shape), x.dtype),
    (lambda g, y, x, shape: summed_to(g, x.shape),),
)
# The diagonal of the last two axes, which are equally long, as a new last axis. NumPy gives a
# read-only view from `np.diagonal`, and a view of which that is made from `np.einsum`.
diagonal = _movement(
    "diagonal",
    lambda x: np.einsum("...ii->...i", x),
    lambda x: Aval(x.shape[:-1], x.dtype),
    (_diagonal_vjp,),
)
# One window of `shape` at every place of `axes` (one may occur twice) where it fits: new last axes.
windows = _movement("windows", _windows, _infer_windows, (_windows_vjp,))
pad = _movement("pad", _pad, _infer_pad, (_pad_vjp, _pad_value_vjp))
# `joined`: the parts are computed in its memory (`passes/parts.py`, `passes/updates.py`).
concatenate = _movement(
    "concatenate",
    lambda *xs, axis, joined=False: np.concatenate(xs, axis),
    _infer_concatenate,
    _part_vjp,
)
slice_update = _movement(
    "slice_update",
    _slice_update,
    lambda x, v, start, step, joined=False: x,
    (_updated_vjp, lambda g, y, x, v, start, step: g[index_of(start, step, v.shape)]),
    family="update",
)
