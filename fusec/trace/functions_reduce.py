"""Reductions and scans: NumPy's accumulator dtypes, errors and layouts, on reduction ops.

What NumPy would raise for an axis, an empty array or an ``out`` is raised by NumPy itself, on an
array of the same number of axes, each of length 0 or 1.
"""

from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from fusec.ir.aval import is_number
from fusec.ir.graph import Node
from fusec.trace.session import Session
from fusec.trace.standin import result_like, silent, stand_in
from fusec.trace.table import (
    BOOL,
    INT,
    NoValue,
    ToHost,
    apply,
    as_dtype,
    dim,
    given,
    implements,
    need_array,
    number,
    sample,
)
from fusec.trace.tracer import Tracer, as_tracer, fresh
from fusec.trace.ufuncs import store_out

_OPS: dict[np.ufunc, tuple[str, str]] = {
    np.add: ("sum", "any"),
    np.multiply: ("prod", "all"),
    np.maximum: ("max", "any"),
    np.minimum: ("min", "all"),
    np.fmax: ("fmax", "any"),
    np.fmin: ("fmin", "all"),
    np.logical_or: ("any", "any"),
    np.logical_and: ("all", "all"),
}
"""ufunc -> the reduction it is, and the one it is on bools."""

_ORDERING = (np.maximum, np.minimum, np.fmax, np.fmin)
_LOGICAL = (np.logical_or, np.logical_and)


def tiny_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple([min(n, 1) for n in shape])


def axes_of(x: Tracer, axis: Any) -> tuple[int, ...]:
    """The axes that ``axis`` names, in order; NumPy has already accepted them."""
    ndim = x._like.ndim
    if axis is None:
        return tuple(range(ndim))
    return tuple(sorted(normalize_axis_tuple(axis, ndim))) if ndim else ()


def _probe(ufunc: np.ufunc, x: Tracer, axis: Any, dtype: Any, out: Any, **options: Any) -> Any:
    """The reduction on a tiny array: for its dtype and its exceptions."""
    tiny = np.ones(tiny_shape(x._like.shape), x.dtype)
    if given(options.get("initial")):
        value = options["initial"]
        known = isinstance(value, np.ndarray | np.generic)
        options["initial"] = np.ones((), value.dtype)[()] if known else sample(value)
    else:
        options.pop("initial", None)
    if options.get("where") is not True:
        options["where"] = np.True_
    with silent():
        result = ufunc.reduce(tiny, axis=axis, dtype=dtype, **options)
        if out is not None:
            empty = np.empty(np.shape(result), out.dtype)
            ufunc.reduce(tiny, axis=axis, dtype=dtype, out=empty, **options)
    return result


def fold(
    session: Session,
    ufunc: np.ufunc,
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    keepdims: Any = False,
    initial: Any = NoValue,
    where: Any = True,
) -> Any:
    """``ufunc.reduce``."""
    x = as_tracer(session, a)
    where = True if where is NoValue else where
    need_array(out)
    keepdims = keepdims is not NoValue and bool(keepdims)
    ordered = ufunc in _ORDERING
    if not is_number(x.dtype) or ufunc not in _OPS or (x.dtype.kind == "c" and ordered):
        raise ToHost
    if dtype is not None and ufunc in _LOGICAL:
        raise ToHost
    result = _probe(ufunc, x, axis, dtype, out, initial=initial, where=where, keepdims=keepdims)
    acc = result.dtype
    if out is not None and dtype is None and ufunc not in _LOGICAL:
        acc = ufunc.resolve_dtypes((out.dtype, x.dtype, None), reduction=True, casting="unsafe")[-1]
    axes = axes_of(x, axis)
    node = session.cast(x.node, acc)
    name = _OPS[ufunc][acc == BOOL]
    if where is not True:
        node, x = masked(session, node, x, where, _neutral(name, acc))
    if axes:
        node = session.make(f"reduce_{name}", node, axes=axes)
    if given(initial):
        node = session.make(ufunc.__name__, as_dtype(session, initial, acc), node)
    return finish(session, node, x, axes, keepdims, out)


def _neutral(name: str, dtype: np.dtype) -> Any:
    from fusec.ops.reduce import IDENTITY

    return IDENTITY[name](dtype)


def masked(
    session: Session, node: Node, x: Tracer, where: Any, neutral: Any
) -> tuple[Node, Tracer]:
    """``node`` with ``neutral`` where ``where`` is false, broadcast against the mask."""
    mask = as_dtype(session, where, BOOL)
    shape = np.broadcast_shapes(node.shape, mask.shape)
    if shape != node.shape:
        raise ToHost
    return session.make("where", mask, node, session.const(neutral, node.dtype)), x


def finish(
    session: Session, node: Node, x: Tracer, axes: tuple[int, ...], keepdims: bool, out: Any = None
) -> Any:
    """The result of a reduction of ``x``: axes kept or dropped, memory order from ``x``."""
    if keepdims:
        shape = tuple([1 if k in axes else n for k, n in enumerate(x._like.shape)])
        node = session.reshape(node, shape)
    if out is not None:
        need_array(out)
        if out.shape != node.shape:
            raise ValueError(
                f"output parameter for reduction has shape {out.shape}, not {node.shape}"
            )
        return store_out(session, node, out, True, [], "unsafe")
    return fresh(session, node, _like(node, x, axes, keepdims), scalar=node.aval.ndim == 0)


def _like(node: Node, x: Tracer, axes: tuple[int, ...], keepdims: bool) -> np.ndarray:
    if x._like.flags.c_contiguous or node.aval.size == 0:
        return stand_in(node.shape, node.dtype)
    pick = tuple([0 if k in axes else slice(None) for k in range(x._like.ndim)])
    kept = np.asarray(x._like[pick])
    like = result_like(kept.shape, node.dtype, [kept])
    return np.expand_dims(like, axes) if keepdims else like


def _arithmetic(ufunc: np.ufunc) -> Any:
    """``np.sum`` and ``np.prod``."""

    def reduction(session: Session, a: Any, axis: Any = None, dtype: Any = None, out: Any = None,
                  keepdims: Any = NoValue, initial: Any = NoValue, where: Any = NoValue) -> Any:
        return fold(session, ufunc, a, axis, dtype, out, keepdims, initial, where)

    return reduction


def extreme(ufunc: np.ufunc) -> Any:
    """``np.max``, ``np.min`` and their variants that skip nan."""

    def reduction(session: Session, a: Any, axis: Any = None, out: Any = None,
                  keepdims: Any = NoValue, initial: Any = NoValue, where: Any = NoValue) -> Any:
        return fold(session, ufunc, a, axis, None, out, keepdims, initial, where)

    return reduction


def _logical(ufunc: np.ufunc) -> Any:
    """``np.any`` and ``np.all``."""

    def reduction(session: Session, a: Any, axis: Any = None, out: Any = None,
                  keepdims: Any = NoValue, *, where: Any = NoValue) -> Any:
        return fold(session, ufunc, a, axis, None, out, keepdims, NoValue, where)

    return reduction


sum_ = implements(np.sum)(_arithmetic(np.add))
prod = implements(np.prod)(_arithmetic(np.multiply))
max_ = implements(np.max, np.amax)(extreme(np.maximum))
min_ = implements(np.min, np.amin)(extreme(np.minimum))
any_ = implements(np.any)(_logical(np.logical_or))
all_ = implements(np.all)(_logical(np.logical_and))


@implements(np.ptp)
def ptp(session: Session, a: Any, axis: Any = None, out: Any = None,
        keepdims: Any = NoValue) -> Any:
    """``np.ptp``."""
    high = max_(session, a, axis, keepdims=keepdims)
    low = min_(session, a, axis, keepdims=keepdims)
    return apply(session, np.subtract, high, low, out=out)


@implements(np.count_nonzero)
def count_nonzero(session: Session, a: Any, axis: Any = None, *, keepdims: bool = False) -> Any:
    """``np.count_nonzero``; a count over everything is a NumPy integer."""
    x = as_tracer(session, a)
    return sum_(session, x.astype(bool), axis, np.intp, keepdims=keepdims)


# -- mean and variance ----------------------------------------------------------------------------


def element_count(session: Session, x: Tracer, axis: Any, keepdims: Any, where: Any) -> Tracer:
    """How many elements each result is made of."""
    if where is True or where is NoValue:
        n = 1
        axes = axes_of(x, None) if axis is None else normalize_axis_tuple(axis, x._like.ndim)
        for k in axes:
            n *= x._like.shape[k]
        return fresh(session, dim(session, n), scalar=True)
    mask = np.broadcast_to(as_tracer(session, where), x._like.shape)
    return sum_(session, mask, axis, np.intp, keepdims=keepdims)


def divided(session: Session, total: Tracer, n: Tracer) -> Tracer:
    """``total / n`` by NumPy's loop for the two, back in ``total``'s dtype."""
    kinds = np.divide.resolve_dtypes((total.dtype, INT, None))
    left, right = session.cast(total.node, kinds[0]), session.cast(n.node, kinds[1])
    node = session.cast(session.make("divide", left, right), total.dtype)
    return fresh(session, node, total._like, scalar=total._scalar)


def given_out(session: Session, result: Tracer, out: Any, dtype: Any = None) -> Any:
    if out is None:
        return result
    need_array(out)
    if out.shape != result.shape:
        raise ValueError(f"output has shape {out.shape}, the result {result.shape}")
    return store_out(session, result.node, out, True, [], "unsafe")


@implements(np.mean)
def mean(session: Session, a: Any, axis: Any = None, dtype: Any = None, out: Any = None,
         keepdims: Any = NoValue, *, where: Any = NoValue) -> Any:
    """``np.mean``: the sum in float64 for integers and float32 for float16, then a division."""
    x = as_tracer(session, a)
    half = dtype is None and x.dtype == np.float16
    if dtype is None and x.dtype.kind in "iub":
        dtype = np.float64
    total = sum_(session, x, axis, np.float32 if half else dtype, None, keepdims, where=where)
    count = element_count(session, x, axis, keepdims, where)
    warn_of_none(session, count, "Mean of empty slice")
    result = divided(session, total, count)
    return given_out(session, result.astype(np.float16) if half else result, out)


def warn_of_none(session: Session, count: Tracer, text: str) -> None:
    """NumPy's warning about a mean or a variance of nothing, when it is traced."""
    if count.node.op.name == "dim" and count.node.attrs["value"] == 0:
        session.warn(text, RuntimeWarning)


@implements(np.var)
def var(session: Session, a: Any, axis: Any = None, dtype: Any = None, out: Any = None,
        ddof: Any = 0, keepdims: Any = NoValue, *, where: Any = NoValue, mean: Any = NoValue,
        correction: Any = NoValue) -> Any:
    """``np.var``: NumPy's two passes."""
    x = as_tracer(session, a)
    if correction is not NoValue:
        if number(ddof) != 0:
            raise ValueError("ddof and correction can't be provided simultaneously.")
        ddof = correction
    if dtype is None and x.dtype.kind in "iub":
        dtype = np.float64
    middle = mean
    if not given(mean):
        total = sum_(session, x, axis, dtype, None, True, where=where)
        middle = divided(session, total, element_count(session, x, axis, True, where))
    apart = apply(session, np.subtract, x, middle)
    if apart.dtype.kind == "c":
        square = apart.real * apart.real + apart.imag * apart.imag
        dtype = None if dtype is None or np.dtype(dtype).kind == "c" else dtype
    else:
        square = apart * apart
    total = sum_(session, square, axis, dtype, None, keepdims, where=where)
    freedom = freedom_left(session, x, axis, keepdims, where, ddof)
    warn_of_none(session, freedom, "Degrees of freedom <= 0 for slice")
    return given_out(session, quotient(session, total, freedom), out)


def freedom_left(
    session: Session, x: Tracer, axis: Any, keepdims: Any, where: Any, ddof: Any
) -> Tracer:
    """The count less ``ddof``, at least 0; one length where both are known."""
    count, less = element_count(session, x, axis, keepdims, where), number(ddof)
    if count.node.op.name == "dim" and type(less) in (int, float) and less == int(less):
        known = max(count.node.attrs["value"] - int(less), 0)
        return fresh(session, dim(session, known), scalar=True)
    return apply(session, np.maximum, apply(session, np.subtract, count, less), 0)


def quotient(session: Session, total: Tracer, n: Tracer) -> Tracer:
    if n.dtype == INT:
        return divided(session, total, n)
    return (total / n).astype(total.dtype)


@implements(np.std)
def std(session: Session, a: Any, axis: Any = None, dtype: Any = None, out: Any = None,
        ddof: Any = 0, keepdims: Any = NoValue, *, where: Any = NoValue, mean: Any = NoValue,
        correction: Any = NoValue) -> Any:
    """``np.std``."""
    spread = var(session, a, axis, dtype, None, ddof, keepdims, where=where, mean=mean,
                 correction=correction)
    root = apply(session, np.sqrt, spread)
    return given_out(session, root.astype(spread.dtype), out)


# -- scans ----------------------------------------------------------------------------------------

_SCANS = {np.add: "scan_sum", np.multiply: "scan_prod", np.maximum: "scan_max",
          np.minimum: "scan_min"}  # fmt: skip


def accumulate(session: Session, ufunc: np.ufunc, array: Any = None, axis: Any = 0,
               dtype: Any = None, out: Any = None, a: Any = None) -> Any:
    """``ufunc.accumulate``."""
    x = as_tracer(session, a if array is None else array)
    with silent():
        tiny = ufunc.accumulate(np.ones(tiny_shape(x._like.shape), x.dtype), axis=axis, dtype=dtype)
    acc = tiny.dtype
    if out is not None and dtype is None:
        acc = ufunc.resolve_dtypes((out.dtype, x.dtype, None), reduction=True, casting="unsafe")[-1]
    if ufunc not in _SCANS or acc == BOOL or (acc.kind == "c" and ufunc in _ORDERING):
        raise ToHost
    (axis,) = normalize_axis_tuple(0 if axis is None else axis, x._like.ndim)
    node = session.make(_SCANS[ufunc], session.cast(x.node, acc), axis=axis)
    if out is not None:
        return given_out(session, fresh(session, node), out)
    return fresh(session, node, result_like(node.shape, acc, [x._like]))


def _cumulative(ufunc: np.ufunc) -> Any:
    """``np.cumsum`` and ``np.cumprod``."""

    def scan(session: Session, a: Any, axis: Any = None, dtype: Any = None, out: Any = None) -> Any:
        x = as_tracer(session, a)
        np.cumsum(np.ones(tiny_shape(x._like.shape)), axis=axis)  # raises for other axes
        if axis is None or x._like.ndim == 0:
            x, axis = x.reshape(-1), 0
        return accumulate(session, ufunc, x, axis, dtype, out)

    return scan


cumsum = implements(np.cumsum)(_cumulative(np.add))
cumprod = implements(np.cumprod)(_cumulative(np.multiply))
