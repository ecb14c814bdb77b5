"""Movement: NumPy's functions that only rearrange elements, as views and concatenations."""

import operator
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index, normalize_axis_tuple

from fusec.errors import UnsupportedError
from fusec.ir.graph import Node
from fusec.trace import views
from fusec.trace.create import as_shape, asarray, triangle
from fusec.trace.session import Session
from fusec.trace.standin import copy_like, result_like, stand_in
from fusec.trace.table import (
    INT,
    ToHost,
    data_dependent,
    implements,
    iota,
    merged_like,
    plain,
)
from fusec.trace.tracer import ROWS, Tracer, as_tracer, fresh
from fusec.trace.ufuncs import store_out, weak_type


def integers(value: Any) -> Any:
    """An axis, a shape or a count: one int or a tuple of ints."""
    value = plain(value)
    if value is None or np.ndim(value) == 0:
        return value if value is None else operator.index(value)
    return tuple([operator.index(v) for v in value])


@implements(np.reshape)
def reshape(session: Session, a: Any, shape: Any, order: str = "C", *, copy: Any = None) -> Tracer:
    """``np.reshape``: a view where NumPy gives one."""
    x = as_tracer(session, a)
    made = views.reshape(x, integers(shape), order)
    if copy is False and made._storage is not x._storage:
        raise ValueError("Unable to avoid creating a copy while reshaping.")
    return views.copy(made, "C") if copy is True else made


@implements(np.ravel)
def ravel(session: Session, a: Any, order: str = "C") -> Tracer:
    """``np.ravel``: a view of contiguous arrays, else a copy."""
    x = as_tracer(session, a)
    np.empty(0).ravel(order)  # raises for orders that there are not
    if order == "A":
        order = "F" if x._like.flags.fnc else "C"
    if order == "K":
        strides = [abs(s) for s in x._like.strides]
        x = views.transpose(x, sorted(range(x._like.ndim), key=lambda k: -strides[k]))
    elif order == "F":
        x = views.transpose(x)
    flat = views.reshape(x, (x._like.size,))
    if flat._storage is x._storage and not x._like.flags.c_contiguous and x._like.size:
        return views.copy(flat, "C")
    return flat


def flatten(session: Session, a: Any, order: str = "C") -> Tracer:
    """``x.flatten()``: always a copy."""
    return views.copy(ravel(session, a, order), "C")


@implements(np.transpose, np.permute_dims)
def transpose(session: Session, a: Any, axes: Any = None) -> Tracer:
    """``np.transpose``."""
    return views.transpose(as_tracer(session, a), integers(axes))


@implements(np.swapaxes)
def swapaxes(session: Session, a: Any, axis1: Any, axis2: Any) -> Tracer:
    """``np.swapaxes``."""
    x = as_tracer(session, a)
    first = normalize_axis_index(integers(axis1), x._like.ndim, "axis1")
    second = normalize_axis_index(integers(axis2), x._like.ndim, "axis2")
    perm = list(range(x._like.ndim))
    perm[first], perm[second] = second, first
    return views.transpose(x, perm)


@implements(np.squeeze)
def squeeze(session: Session, a: Any, axis: Any = None) -> Tracer:
    """``np.squeeze``."""
    x = as_tracer(session, a)
    like = np.squeeze(x._like, integers(axis))
    return x if axis is None and like.ndim == x._like.ndim else views.with_shape(x, like)


@implements(np.broadcast_to)
def broadcast_to(session: Session, array: Any, shape: Any, subok: bool = False) -> Tracer:
    """``np.broadcast_to``: a read-only view."""
    return views.broadcast_to(as_tracer(session, array), as_shape(shape))


@implements(np.broadcast_arrays)
def broadcast_arrays(session: Session, *args: Any, subok: bool = False) -> tuple[Any, ...]:
    """``np.broadcast_arrays``."""
    arrays = [asarray(session, a) for a in args]
    shape = np.broadcast_shapes(*[x._like.shape for x in arrays])
    return tuple([
        x if x._like.shape == shape else views.broadcast_to(x, shape, writeable=True)
        for x in arrays
    ])


# -- joining --------------------------------------------------------------------------------------


def join(session: Session, parts: list[Node], axis: int) -> Node:
    """Nodes of one dtype one after another along ``axis``."""
    parts = [p for p in parts if p.shape[axis]] or parts[:1]
    return session.make("concatenate", *parts, axis=axis) if len(parts) > 1 else parts[0]


@implements(np.concatenate)
def concatenate(session: Session, arrays: Any, axis: Any = 0, out: Any = None, *,
                dtype: Any = None, casting: str = "same_kind") -> Any:
    """``np.concatenate``."""
    if not isinstance(arrays, ROWS):
        arrays = list(as_tracer(session, arrays))
    if not arrays:
        raise ValueError("need at least one array to concatenate")
    samples = [v if weak_type(v) else as_tracer(session, v) for v in arrays]
    tracers = [as_tracer(session, v) for v in samples]
    if axis is None:
        tracers, axis = [ravel(session, t) for t in tracers], 0
    hollow = [np.broadcast_to(np.empty((), t.dtype), t._like.shape) for t in tracers]
    _check_joined([h.shape for h in hollow], axis)
    wanted = out.dtype if out is not None and dtype is None else dtype
    kinds = [t.dtype for t in tracers]
    wanted = np.result_type(*kinds) if wanted is None else np.dtype(wanted)
    for kind in kinds:
        if not np.can_cast(kind, wanted, casting):
            raise TypeError(
                f"Cannot cast array data from {kind!r} to {wanted!r} according to the rule "
                f"'{casting}'"
            )
    axis = normalize_axis_index(integers(axis), tracers[0]._like.ndim)
    node = join(session, [session.cast(t.node, wanted) for t in tracers], axis)
    if out is not None:
        return store_out(session, node, out, True, [], "unsafe")
    likes = [t._like for t in tracers]
    spread = any(s == 0 and n > 1 for s, n in zip(likes[0].strides, likes[0].shape))
    if spread and all(o.strides == likes[0].strides for o in likes):  # sorted as a copy's are
        whole = np.lib.stride_tricks.as_strided(likes[0], node.shape, likes[0].strides)
        return fresh(session, node, copy_like(whole, node.dtype))
    return fresh(session, node, merged_like(node, likes))


def _check_joined(shapes: list[tuple[int, ...]], axis: Any) -> None:
    """Raise what NumPy raises for shapes that do not fit, on short arrays."""
    ndim = len(shapes[0])
    axis_index = None if ndim == 0 else integers(axis)
    lengths = {s[k] for s in shapes for k in range(len(s))}
    order = {n: i for i, n in enumerate(sorted(lengths))}
    if len(order) > 8 and axis_index is not None:
        k = normalize_axis_index(axis_index, ndim)
        if all(s[:k] + s[k + 1 :] == shapes[0][:k] + shapes[0][k + 1 :] for s in shapes):
            return
    small = [np.empty([order[n] for n in s], bool) for s in shapes]
    axis_index = 0 if axis_index is None else axis_index
    try:
        np.concatenate(small, axis=axis_index)
    except ValueError:
        np.concatenate([np.broadcast_to(np.True_, s) for s in shapes], axis=axis_index)


@implements(np.tile)
def tile(session: Session, A: Any, reps: Any) -> Tracer:
    """``np.tile``: a copy, repeated along new axes that are then merged."""
    x = as_tracer(session, A)
    counts = integers(reps)
    counts = (counts,) if isinstance(counts, int) else counts
    shape = (1,) * (len(counts) - x._like.ndim) + x._like.shape
    counts = (1,) * (len(shape) - len(counts)) + counts
    if all(c == 1 for c in counts):
        return views.reshape(views.copy(x), shape)
    thin = tuple([k for n in shape for k in (1, n)])
    wide = tuple([k for c, n in zip(counts, shape) for k in (c, n)])
    node = session.broadcast(session.reshape(x.node, thin), wide)
    return fresh(session, session.reshape(node, tuple([c * n for c, n in zip(counts, shape)])))


@implements(np.repeat)
def repeat(session: Session, a: Any, repeats: Any, axis: Any = None) -> Tracer:
    """``np.repeat``, of counts that are known."""
    x = as_tracer(session, a)
    counts = plain(repeats)
    if type(counts) is Tracer and counts._scalar:
        counts = counts._value("A count", counts._OUT)[()]
    if type(counts) is Tracer:
        raise data_dependent(session, "np.repeat", "Give the counts as numbers.")
    if axis is None or x._like.ndim == 0:
        x, axis = ravel(session, x), axis or 0
    axis = normalize_axis_index(integers(axis), x._like.ndim)
    n = x._like.shape[axis]
    index = np.repeat(np.empty(n, np.bool), counts)
    if np.size(counts) != 1:
        index = np.repeat(np.arange(n), counts)
        return x[(slice(None),) * axis + (index,)]
    times, shape = len(index) // n if n else 0, x._like.shape
    thin = (*shape[: axis + 1], 1, *shape[axis + 1 :])
    wide = (*shape[: axis + 1], times, *shape[axis + 1 :])
    node = session.broadcast(session.reshape(x.node, thin), wide)
    return fresh(session, session.reshape(node, (*shape[:axis], n * times, *shape[axis + 1 :])))


@implements(np.roll)
def roll(session: Session, a: Any, shift: Any, axis: Any = None) -> Tracer:
    """``np.roll``: each axis is cut in two and joined the other way round."""
    x = as_tracer(session, a)
    shifts, shape = plain(shift), x._like.shape
    if type(shifts) is Tracer:
        return _roll_traced(session, x, shifts, axis)
    if axis is None:
        return views.reshape(roll(session, ravel(session, x), shift, 0), shape)
    axes = normalize_axis_tuple(integers(axis), len(shape), allow_duplicate=True)
    node = x.node
    for step, k in zip(*[n.ravel().tolist() for n in np.broadcast_arrays(shifts, axes)]):
        n = shape[k]
        by = int(step) % n if n else 0
        if by:
            low, high = cut(session, node, k, 0, n - by), cut(session, node, k, n - by, n)
            node = join(session, [high, low], k)
    return fresh(session, node, result_like(shape, x.dtype, [x._like]))


def _roll_traced(session: Session, x: Tracer, shift: Tracer, axis: Any) -> Tracer:
    """By a traced amount: the index is computed."""
    if axis is None:
        flat = ravel(session, x)
        return views.reshape(_roll_traced(session, flat, shift, 0), x._like.shape)
    axis = integers(axis)
    if not isinstance(axis, int) or shift._like.ndim or shift.dtype.kind not in "iu":
        raise ToHost
    axis = normalize_axis_index(axis, x._like.ndim)
    n = x._like.shape[axis]
    index = (fresh(session, iota(session, (n,), 0)) - shift) % x.shape[axis]
    return x[(slice(None),) * axis + (index,)]


def cut(session: Session, node: Node, axis: int, first: int, last: int) -> Node:
    """Elements ``first`` to ``last`` along ``axis``."""
    if first == 0 and last == node.shape[axis]:
        return node
    start = tuple([first if k == axis else 0 for k in range(node.aval.ndim)])
    shape = tuple([last - first if k == axis else n for k, n in enumerate(node.shape)])
    return session.make("slice", node, start=start, step=(1,) * len(shape), shape=shape)


@implements(np.lib.stride_tricks.sliding_window_view)
def sliding_window_view(session: Session, x: Any, window_shape: Any, axis: Any = None, *,
                        subok: bool = False, writeable: bool = False) -> Tracer:
    """``np.lib.stride_tricks.sliding_window_view``: a view in which elements occur many times."""
    x, shape, axis = as_tracer(session, x), integers(window_shape), integers(axis)
    like = np.lib.stride_tricks.sliding_window_view(x._like, shape, axis)
    axes = range(x._like.ndim) if axis is None else axis
    axes = normalize_axis_tuple(axes, x._like.ndim, allow_duplicate=True)
    attrs = {"shape": like.shape[x._like.ndim :], "axes": axes, "writeable": bool(writeable)}
    return x.step(like, ("windows", attrs))


def as_strided(session: Session, x: Any, *args: Any, **kwargs: Any) -> Any:
    """``np.lib.stride_tricks.as_strided``: of a traced array, NumPy runs the whole function."""
    if type(x) is not Tracer:
        return np.lib.stride_tricks.as_strided(x, *args, **kwargs)
    raise UnsupportedError(
        f"{session.location()}: np.lib.stride_tricks.as_strided is not traced, sliding_window_view "
        "is: NumPy runs the function"
    )


# -- diagonals and triangles ----------------------------------------------------------------------


def diagonal_view(x: Tracer, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tracer:
    """The diagonal as a view of a square that is cut out."""
    like = np.diagonal(x._like, offset, axis1, axis2)
    ndim = x._like.ndim
    first, second = normalize_axis_index(axis1, ndim), normalize_axis_index(axis2, ndim)
    rest = [k for k in range(ndim) if k not in (first, second)]
    n, batch = like.shape[-1], like.shape[:-1]
    zero, one = (0,) * len(batch), (1,) * len(batch)
    corner = (max(-offset, 0), max(offset, 0)) if n else (0, 0)
    steps = [
        ("transpose", {"perm": (*rest, first, second)}),
        ("slice", {"start": (*zero, *corner), "step": (*one, 1, 1), "shape": (*batch, n, n)}),
        ("diagonal", {}),
    ]
    return x.step(like, *steps)


@implements(np.diagonal)
def diagonal(session: Session, a: Any, offset: Any = 0, axis1: Any = 0, axis2: Any = 1) -> Tracer:
    """``np.diagonal``: a read-only view."""
    x = as_tracer(session, a)
    view = diagonal_view(x, integers(offset), integers(axis1), integers(axis2))
    return views.broadcast_to(view, view._like.shape)


@implements(np.trace)
def trace(session: Session, a: Any, offset: Any = 0, axis1: Any = 0, axis2: Any = 1,
          dtype: Any = None, out: Any = None) -> Any:
    """``np.trace``."""
    return np.sum(diagonal(session, a, offset, axis1, axis2), axis=-1, dtype=dtype, out=out)


@implements(np.diag)
def diag(session: Session, v: Any, k: Any = 0) -> Tracer:
    """``np.diag``: a diagonal of a matrix, or the matrix with this diagonal."""
    x, k = as_tracer(session, v), integers(k)
    if x._like.ndim == 2:
        return diagonal(session, x, k)
    if x._like.ndim != 1:
        raise ValueError("Input must be 1- or 2-d.")
    n = x._like.shape[0] + abs(k)
    row = session.make("add", iota(session, (n, n), 0), session.const(k, INT))
    on = session.make("equal", row, iota(session, (n, n), 1))
    zero = session.const(0, x.dtype)
    column = session.make("pad", x.node, zero, before=(0 if k > 0 else -k,), after=(max(k, 0),))
    column = session.broadcast(session.reshape(column, (n, 1)), (n, n))
    return fresh(session, session.make("where", on, column, zero))


def _triangular(session: Session, m: Any, k: int, lower: bool) -> Tracer:
    x = as_tracer(session, m)
    if x._like.ndim == 0:
        np.tril(np.empty(()))
    shape = x._like.shape if x._like.ndim > 1 else x._like.shape * 2
    inside = triangle(session, shape[-2:], k)
    zero, node = session.const(0, x.dtype), session.broadcast(x.node, shape)
    pair = (node, zero) if lower else (zero, node)
    node = session.make("where", inside, *pair)
    mask = stand_in(shape[-2:], np.dtype(bool))
    like = result_like(shape, x.dtype, [mask, x._like]) if x._like.ndim > 1 else None
    return fresh(session, node, like)


@implements(np.tril)
def tril(session: Session, m: Any, k: Any = 0) -> Tracer:
    """``np.tril``."""
    return _triangular(session, m, integers(k), True)


@implements(np.triu)
def triu(session: Session, m: Any, k: Any = 0) -> Tracer:
    """``np.triu``."""
    return _triangular(session, m, integers(k) - 1, False)


