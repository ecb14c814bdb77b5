"""Reductions that skip nan, and weighted means."""

from typing import Any

import numpy as np

from fusec.trace import functions_reduce as base
from fusec.trace.session import Session
from fusec.trace.table import NoValue, apply, check, fresh, implements
from fusec.trace.tracer import Tracer, as_tracer


def _numbers(x: Tracer) -> Tracer:
    """True where ``x`` is not nan."""
    return np.logical_not(np.isnan(x))


def _inexact(x: Tracer) -> bool:
    return x.dtype.kind in "fc"


def _replaced(session: Session, a: Any, value: float) -> Tracer:
    x = as_tracer(session, a)
    return np.where(np.isnan(x), x.dtype.type(value), x) if _inexact(x) else x


def _like(x: Tracer, a: Any, session: Session) -> Tracer:
    """``x`` with the memory order of ``a``, which NumPy's copy keeps."""
    return fresh(session, x.node, as_tracer(session, a).copy()._like)


@implements(np.nansum)
def nansum(session: Session, a: Any, axis: Any = None, dtype: Any = None, out: Any = None,
           keepdims: Any = NoValue, initial: Any = NoValue, where: Any = NoValue) -> Any:
    """``np.nansum``."""
    x = _replaced(session, a, 0)
    return base.sum_(session, x, axis, dtype, out, keepdims, initial, where)


@implements(np.nanprod)
def nanprod(session: Session, a: Any, axis: Any = None, dtype: Any = None, out: Any = None,
            keepdims: Any = NoValue, initial: Any = NoValue, where: Any = NoValue) -> Any:
    """``np.nanprod``."""
    x = _replaced(session, a, 1)
    return base.prod(session, x, axis, dtype, out, keepdims, initial, where)


@implements(np.nancumsum)
def nancumsum(session: Session, a: Any, axis: Any = None, dtype: Any = None,
              out: Any = None) -> Any:
    """``np.nancumsum``."""
    return base.cumsum(session, _replaced(session, a, 0), axis, dtype, out)


@implements(np.nancumprod)
def nancumprod(session: Session, a: Any, axis: Any = None, dtype: Any = None,
               out: Any = None) -> Any:
    """``np.nancumprod``."""
    return base.cumprod(session, _replaced(session, a, 1), axis, dtype, out)


@implements(np.nanmax)
def nanmax(session: Session, a: Any, axis: Any = None, out: Any = None, keepdims: Any = NoValue,
           initial: Any = NoValue, where: Any = NoValue) -> Any:
    """``np.nanmax``: nan where there is nothing but nan."""
    return base.fold(session, np.fmax, a, axis, None, out, keepdims, initial, where)


@implements(np.nanmin)
def nanmin(session: Session, a: Any, axis: Any = None, out: Any = None, keepdims: Any = NoValue,
           initial: Any = NoValue, where: Any = NoValue) -> Any:
    """``np.nanmin``."""
    return base.fold(session, np.fmin, a, axis, None, out, keepdims, initial, where)


def _mask(session: Session, x: Tracer, where: Any) -> Tracer:
    return _numbers(x) if where is NoValue or where is True else _numbers(x) & where


@implements(np.nanmean)
def nanmean(session: Session, a: Any, axis: Any = None, dtype: Any = None, out: Any = None,
            keepdims: Any = NoValue, *, where: Any = NoValue) -> Any:
    """``np.nanmean``."""
    x = as_tracer(session, a)
    if not _inexact(x):
        return base.mean(session, x, axis, dtype, out, keepdims, where=where)
    if dtype is not None and np.dtype(dtype).kind not in "fc":
        raise TypeError("If a is inexact, then dtype must be inexact")
    if out is not None and out.dtype.kind not in "fc":
        raise TypeError("If a is inexact, then out must be inexact")
    count = base.sum_(session, _mask(session, x, where), axis, np.intp, None, keepdims)
    total = base.sum_(session, _replaced(session, x, 0), axis, dtype, None, keepdims, where=where)
    return base._given_out(session, base._divided(session, total, count), out)


@implements(np.nanvar)
def nanvar(session: Session, a: Any, axis: Any = None, dtype: Any = None, out: Any = None,
           ddof: Any = 0, keepdims: Any = NoValue, *, where: Any = NoValue, mean: Any = NoValue,
           correction: Any = NoValue) -> Any:
    """``np.nanvar``: nan where no degrees of freedom are left."""
    x = as_tracer(session, a)
    if not _inexact(x):
        return base.var(session, x, axis, dtype, out, ddof, keepdims, where=where, mean=mean,
                        correction=correction)
    if dtype is not None and np.dtype(dtype).kind not in "fc":
        raise TypeError("If a is inexact, then dtype must be inexact")
    ddof = ddof if correction is NoValue else correction
    numbers = _mask(session, x, where)
    filled = _replaced(session, x, 0)
    count = base.sum_(session, numbers, axis, np.intp, None, True)
    if mean is NoValue:
        total = base.sum_(session, filled, axis, dtype, None, True, where=where)
        mean = base._divided(session, total, count)
    apart = np.where(numbers, filled - mean, mean.dtype.type(0))
    square = (apart * apart.conj()).real
    spread = base.sum_(session, square, axis, dtype, None, keepdims, where=where)
    count = base.sum_(session, numbers, axis, np.intp, None, keepdims)
    freedom = apply(session, np.subtract, count, ddof)
    result = base._quotient(session, spread, freedom)
    result = np.where(freedom <= 0, result.dtype.type(np.nan), result)
    result = fresh(session, result.node, spread._like, scalar=spread._scalar)
    return base._given_out(session, result, out)


@implements(np.nanstd)
def nanstd(session: Session, a: Any, axis: Any = None, dtype: Any = None, out: Any = None,
           ddof: Any = 0, keepdims: Any = NoValue, *, where: Any = NoValue, mean: Any = NoValue,
           correction: Any = NoValue) -> Any:
    """``np.nanstd``."""
    spread = nanvar(session, a, axis, dtype, None, ddof, keepdims, where=where, mean=mean,
                    correction=correction)
    return base._given_out(session, apply(session, np.sqrt, spread).astype(spread.dtype), out)


def _nan_position(session: Session, name: str, a: Any, axis: Any, out: Any, keepdims: Any) -> Any:
    """As ``argmax`` with nan replaced; a slice of nothing but nan is an error."""
    x = as_tracer(session, a)
    replaced = _replaced(session, x, -np.inf if name == "max" else np.inf)
    result = base._position(session, name, replaced, axis, None, keepdims)
    if _inexact(x):
        numbers = base.fold(session, np.logical_or, _numbers(x), axis, keepdims=keepdims)
        node = check(session, result.node, numbers.node)
        result = fresh(session, node, result._like, scalar=result._scalar)
    return base._given_out(session, result, out)


@implements(np.nanargmax)
def nanargmax(session: Session, a: Any, axis: Any = None, out: Any = None, *,
              keepdims: Any = NoValue) -> Any:
    """``np.nanargmax``."""
    return _nan_position(session, "max", a, axis, out, keepdims)


@implements(np.nanargmin)
def nanargmin(session: Session, a: Any, axis: Any = None, out: Any = None, *,
              keepdims: Any = NoValue) -> Any:
    """``np.nanargmin``."""
    return _nan_position(session, "min", a, axis, out, keepdims)


@implements(np.average)
def average(session: Session, a: Any, axis: Any = None, weights: Any = None,
            returned: bool = False, *, keepdims: Any = NoValue) -> Any:
    """``np.average``; weights that sum to zero raise ZeroDivisionError at run time."""
    x = as_tracer(session, a)
    if weights is None:
        result = base.mean(session, x, axis, keepdims=keepdims)
        count = base._count(session, x, axis, keepdims, True)
        scale = fresh(session, session.cast(count.node, result.dtype), scalar=True)
    else:
        result, scale = _weighted(session, x, axis, _fitting(session, x, axis, weights), keepdims)
    if not returned:
        return result
    shape = result._like.shape
    return result, scale if scale._like.shape == shape else np.broadcast_to(scale, shape).copy()


def _fitting(session: Session, x: Tracer, axis: Any, weights: Any) -> Tracer:
    """Weights with the shape of ``x``, or one that broadcasts to it."""
    w = as_tracer(session, weights)
    if w._like.shape == x._like.shape:
        return w
    if axis is None:
        raise TypeError("Axis must be specified when shapes of a and weights differ.")
    axes = np.lib.array_utils.normalize_axis_tuple(axis, x._like.ndim, argname="axis")
    if w._like.shape != tuple([x._like.shape[k] for k in axes]):
        raise ValueError(
            "Shape of weights must be consistent with shape of a along specified axis."
        )
    w = w.transpose(np.argsort(axes))
    return w.reshape(tuple([n if k in axes else 1 for k, n in enumerate(x._like.shape)]))


def _weighted(session: Session, x: Tracer, axis: Any, w: Tracer, keepdims: Any) -> Any:
    wanted = np.result_type(x.dtype, w.dtype, *(["f8"] if x.dtype.kind in "iub" else []))
    scale = base.sum_(session, w, axis, wanted, None, keepdims)
    total = base.sum_(session, apply(session, np.multiply, x, w, dtype=wanted), axis, None, None,
                      keepdims)
    quotient = total / scale
    node = check(session, quotient.node, np.not_equal(scale, 0.0).node)
    return fresh(session, node, quotient._like, scalar=quotient._scalar), scale


