"""Elements by index: take, put, choose, and writes through masks."""

import operator
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from fusec.trace.functions_shape import integers, ravel
from fusec.trace.hostcalls import host_call
from fusec.trace.indexing import advanced, assigned, is_basic, is_mask, normalise
from fusec.trace.session import Session
from fusec.trace.standin import silent, stand_in
from fusec.trace.table import (
    BOOL,
    INT,
    ToHost,
    as_dtype,
    common_dtype,
    copied,
    data_dependent,
    dim,
    implements,
    iota,
    plain,
    sample,
    wrap,
)
from fusec.trace.tracer import Tracer, as_tracer, contains_traced, fresh
from fusec.trace.ufuncs import as_element, store_out, weak_type
from fusec.trace.views import assign


@implements(np.bincount)
def bincount(session: Session, x: Any, weights: Any = None, minlength: Any = 0) -> Any:
    """``np.bincount``: planned for ``minlength`` counts; NumPy runs where the data need more.

    Where there is none, how many of them there are is a decision on a value.
    """
    n, places = operator.index(minlength), as_tracer(session, x)
    if not n and session.ask and places.dtype.kind in "iu" and places._like.size:
        n = max(int(places.max()) + 1, 0)
    if not n:
        raise data_dependent(session, "np.bincount", "Say how many counts there are: minlength=n.")
    if not places._like.size:
        weights = None
    values = places if weights is None else as_tracer(session, weights)
    safe = np.can_cast(places.dtype, INT) and np.can_cast(values.dtype, np.float64)
    if n < 0 or not safe or places._like.ndim != 1 or values._like.shape != places._like.shape:
        like = stand_in((n,), np.dtype(np.intp if weights is None else np.float64))
        return host_call(session, np.bincount, (x, weights, n), {}, [like])
    index = bounded(session, places, n, "raise")
    one = session.const(1, INT) if weights is None else session.cast(values.node, np.dtype("f8"))
    zero = session.const(0, one.dtype)
    zeros, added = session.broadcast(zero, (n,)), session.broadcast(one, places._like.shape)
    return wrap(session, session.make("scatter_add", zeros, added, index))


def add_at(x: Tracer, index: Any, value: Any, less: bool) -> bool:
    """``np.add.at(x, index, value)``, or ``np.subtract.at``; False where NumPy has to do it.

    NumPy adds in the dtype of the sum, and rounds each time: only integers may be cast before.
    """
    items = normalise(x, index)
    whole = any(is_mask(i) for i in items) or all(is_basic(i) for i in items)
    value = as_tracer(x._session, value, x.dtype if weak_type(value) else None)
    if whole or x.dtype.kind == "b" or not np.can_cast(value.dtype, x.dtype, "same_kind"):
        return False
    if x.dtype.kind not in "iu" and np.result_type(x.dtype, value.dtype) != x.dtype:
        return False
    value = np.negative(value.astype(x.dtype)) if less else value
    base, parts, shape = advanced(x, items)
    new = assigned(x, value, shape)
    base.write(x._session.make("scatter_add", base.node, new, *parts))
    return True


@implements(np.choose)
def choose(session: Session, a: Any, choices: Any, out: Any = None, mode: str = "raise") -> Any:
    """``np.choose``: a chain of ``where``; an index out of range raises at run time."""
    x = as_tracer(session, a)
    items = list(choices if isinstance(choices, list | tuple) else as_tracer(session, choices))
    if x.dtype.kind not in "iub" or len(items) > 32:
        raise ToHost
    dtype = common_dtype(session, *items)
    nodes = [session.cast(as_tracer(session, c).node, dtype) for c in items]
    shape = np.broadcast_shapes(x._like.shape, *[n.shape for n in nodes])
    index = bounded(session, x, len(items), mode)
    node = session.broadcast(nodes[0], shape)
    for k in range(1, len(items)):
        chosen = session.make("equal", index, session.const(k, INT))
        node = session.make("where", chosen, session.broadcast(nodes[k], shape), node)
    if out is not None:
        return store_out(session, node, out, True, [], "unsafe")
    return wrap(session, node)


def bounded(session: Session, x: Tracer, n: int, mode: str) -> Any:
    """An index node in ``[0, n)`` by NumPy's ``mode``; negatives are out of range."""
    index = session.cast(x.node, INT)
    size = dim(session, n)
    if mode == "wrap":
        return session.make("remainder", index, size)
    if mode == "raise":
        return session.make("count_index", index, size)
    positive = session.make("maximum", index, session.const(0, INT))
    return session.make("minimum", positive, dim(session, n - 1))



@implements(np.take)
def take(session: Session, a: Any, indices: Any, axis: Any = None, out: Any = None,
         mode: str = "raise") -> Any:
    """``np.take``."""
    x = as_tracer(session, a)
    index = as_tracer(session, indices)
    if index._like.size == 0 and not contains_traced(indices) and not hasattr(indices, "dtype"):
        index = index.astype(INT)
    if not np.can_cast(index.dtype, INT, "same_kind"):
        raise TypeError(
            f"Cannot cast array data from {index.dtype!r} to {INT!r} according to the rule 'safe'"
        )
    if axis is None:
        x, axis = ravel(session, x), 0
    x = x.reshape(1) if x._like.ndim == 0 else x
    axis = normalize_axis_index(integers(axis), x._like.ndim)
    if x._like.shape[axis] == 0 and index._like.size:
        raise IndexError("cannot do a non-empty take from an empty axes.")
    index = fresh(session, session.cast(index.node, INT))
    if mode != "raise":
        index = fresh(session, bounded(session, index, x._like.shape[axis], mode))
    result = x[(slice(None),) * axis + (index,)]
    result = wrap(session, result.node)
    return result if out is None else store_out(session, result.node, out, True, [])


@implements(np.put)
def put(session: Session, a: Any, ind: Any, v: Any, mode: str = "raise") -> None:
    """``np.put``: values repeat to the number of indices."""
    x, index = as_tracer(session, a), as_tracer(session, ind).astype(INT).ravel()
    values = fresh(session, as_element(session, v, x.dtype)).ravel()
    count = index._like.size
    if count == 0 or (values._like.size == 0 and x._like.size):
        return
    node = index.node
    if mode != "raise":
        node = bounded(session, index, x._like.size, mode)
    where_ = session.make("wrap_index", node, dim(session, x._like.size))
    values = np.resize(values, count) if values._like.size != count else values
    x.write(session.make("scatter_flat", x.node, where_, values.node))


@implements(np.copyto)
def copyto(session: Session, dst: Any, src: Any, casting: str = "same_kind",
           where: Any = True) -> None:
    """``np.copyto``."""
    target = as_tracer(session, dst)
    source = sample(src) if weak_type(src) else _nothing(as_tracer(session, src))
    with silent():
        np.copyto(np.zeros((), target.dtype), source, casting)  # raises
    value = assigned(target, copied(session, src), target._like.shape)
    if where is not True:
        mask = session.broadcast(as_dtype(session, where, BOOL), target._like.shape)
        value = session.make("where", mask, value, target.node)
    assign(target, src, value)


def _nothing(x: Tracer) -> np.ndarray:
    """An array of ``x``'s dtype for NumPy to judge a cast by; it tells numbers from arrays."""
    return np.zeros((1,) * min(x._like.ndim, 1), x.dtype)


def _safely(session: Session, values: Any, x: Tracer) -> Tracer:
    """``values`` as ``np.putmask`` and ``np.place`` put them into ``x``: arrays have to be safe."""
    if isinstance(values, np.ndarray):
        np.copyto(np.zeros(1, x.dtype), _nothing(as_tracer(session, values)), "safe")
    return fresh(session, as_element(session, values, x.dtype))


@implements(np.putmask)
def putmask(session: Session, a: Any, /, mask: Any, values: Any) -> None:
    """``np.putmask``: values repeat to the size of the array."""
    x = as_tracer(session, a)
    source = _safely(session, values, x)
    if source._like.size == 0:
        return
    if source._like.shape != x._like.shape:
        source = np.resize(source, x._like.shape) if source._like.size > 1 else source.ravel()[0]
    condition = as_tracer(session, mask).astype(bool).reshape(x._like.shape)
    copyto(session, x, source, "unsafe", condition)


@implements(np.place)
def place(session: Session, arr: Any, mask: Any, vals: Any) -> None:
    """``np.place``: with several values, the n-th true element gets the n-th value."""
    x = as_tracer(session, arr)
    values = _safely(session, vals, x).ravel()
    condition = as_tracer(session, mask).astype(bool).reshape(x._like.shape)
    if values._like.size == 0:
        raise ValueError("Cannot insert from an empty array!")
    if values._like.size == 1:
        return copyto(session, x, values[0], "unsafe", condition)
    number_of = np.cumsum(condition).reshape(x._like.shape) - 1
    chosen = values[number_of % values.shape[0]]
    return copyto(session, x, chosen, "unsafe", condition)


@implements(np.compress)
def compress(session: Session, condition: Any, a: Any, axis: Any = None, out: Any = None) -> Any:
    """``np.compress``, where the condition is known while tracing."""
    known = plain(condition)
    if contains_traced([known]):
        raise data_dependent(session, "np.compress")
    if np.ndim(known) != 1:
        raise ValueError("condition must be a 1-d array")
    return np.take(as_tracer(session, a), np.flatnonzero(known), axis=axis, out=out)


@implements(np.extract)
def extract(session: Session, condition: Any, arr: Any) -> Any:
    """``np.extract``, where the condition is known while tracing."""
    known = plain(condition)
    if contains_traced([known]):
        raise data_dependent(session, "np.extract")
    return np.take(np.ravel(as_tracer(session, arr)), np.flatnonzero(known))


@implements(np.fill_diagonal)
def fill_diagonal(session: Session, a: Any, val: Any, wrap: bool = False) -> None:
    """``np.fill_diagonal``: the values are used again from the first one on where they end."""
    x = as_tracer(session, a)
    shape = x._like.shape
    if len(shape) < 2:
        raise ValueError("array must be at least 2-d")
    values = fresh(session, as_element(session, val, x.dtype))
    if not values._like.size:
        return None
    if len(shape) == 2 and not wrap and not values._like.ndim:
        from fusec.trace.create import arange, eye

        if x.node.op.name == "param":  # all of which would be read and stored
            x[(arange(session, min(shape)),) * 2] = values
            return None
        return copyto(session, x, values, "unsafe", eye(session, *shape, dtype=bool))
    diagonal, number_of = np.zeros(shape, bool), np.zeros(shape, INT)
    np.fill_diagonal(diagonal, True, wrap)
    number_of[diagonal] = np.arange(np.count_nonzero(diagonal)) % values._like.size
    chosen = values.ravel()[number_of]
    return copyto(session, x, chosen, "unsafe", as_tracer(session, diagonal))


def of_constants(session: Session, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """A function whose result shape depends on data, which are known if they are constants."""
    values, options = plain(list(args)), {k: plain(v) for k, v in kwargs.items()}
    if contains_traced([*values, *options.values()]):
        raise data_dependent(session, f"np.{func.__name__}")
    result = func(*values, **options)
    if isinstance(result, tuple):
        return tuple([as_tracer(session, r) for r in result])
    return as_tracer(session, result)


MANY = 4096  # elements; of fewer NumPy is done before a decision is


@implements(np.flatnonzero)
def flatnonzero(session: Session, a: Any) -> Any:
    """``np.flatnonzero``: those of all places that the elements select."""
    from fusec.trace.selection import Selection

    mask = ravel(session, as_tracer(session, a) != 0)
    if session.ask is None or mask.concrete() is not None:
        return of_constants(session, np.flatnonzero, (a,), {})
    return Selection(fresh(session, iota(session, mask._like.shape, 0)), mask)


@implements(np.unique)
def unique(session: Session, ar: Any, return_index: bool = False, return_inverse: bool = False,
           return_counts: bool = False, axis: Any = None, **options: Any) -> Any:
    """``np.unique``, which NumPy does; how many there are is a decision on a value."""
    x = as_tracer(session, ar)
    options |= {"axis": axis, "return_index": return_index, "return_inverse": return_inverse,
                "return_counts": return_counts}  # fmt: skip
    if session.ask is None or axis is not None or x._like.size < MANY or x.concrete() is not None:
        return of_constants(session, np.unique, (x,), options)
    size = (x._like.size,)
    shapes = {"return_index": size, "return_inverse": x._like.shape, "return_counts": size}
    more = [stand_in(shape, INT) for name, shape in shapes.items() if options[name]]
    likes = [stand_in((), INT), stand_in(size, x.dtype), *more]
    count, *found = host_call(session, _unique, (x,), options, likes)
    session.checks += [v.node for v in found]  # the decision hands them on
    n = int(count)
    whole = 1 + bool(return_index) if return_inverse else 0
    made = [v if k and k == whole else v[:n].copy() for k, v in enumerate(found)]
    return tuple(made) if len(made) > 1 else made[0]


def _unique(x: np.ndarray, **options: Any) -> tuple[Any, ...]:
    """How many there are, and NumPy's results with places for as many as there may be."""
    found = np.unique(x, **options)
    parts = found if isinstance(found, tuple) else (found,)
    n, made = len(parts[0]), []
    for part in parts:
        made.append(np.empty(x.size, part.dtype) if part.shape == (n,) else part)
        made[-1].ravel()[: part.size] = part.ravel()
    return (np.intp(n), *made)
