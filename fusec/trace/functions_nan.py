"""Reductions that skip nan, and weighted means."""

from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from fusec.trace import functions_reduce as base
from fusec.trace.functions_position import arg_reduction, position
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


def _filling(implementation: Any, value: float) -> Any:
    """A reduction or scan that sees ``value`` in place of nan."""
    return lambda session, a, *args, **kwargs: implementation(
        session, _replaced(session, a, value), *args, **kwargs
    )


for _name, _implementation, _neutral in (
    ("sum", base.sum_, 0), ("prod", base.prod, 1), ("cumsum", base.cumsum, 0),
    ("cumprod", base.cumprod, 1),
):  # fmt: skip
    implements(getattr(np, f"nan{_name}"))(_filling(_implementation, _neutral))
implements(np.nanmax)(base.extreme(np.fmax))
implements(np.nanmin)(base.extreme(np.fmin))


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
    return base.given_out(session, base.divided(session, total, count), out)


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
        mean = base.divided(session, total, count)
    apart = np.where(numbers, filled - mean, mean.dtype.type(0))
    square = (apart * apart.conj()).real
    spread = base.sum_(session, square, axis, dtype, None, keepdims, where=where)
    count = base.sum_(session, numbers, axis, np.intp, None, keepdims)
    freedom = apply(session, np.subtract, count, ddof)
    most = base.freedom_left(session, x, axis, keepdims, True, ddof)
    base.warn_of_none(session, most, "Degrees of freedom <= 0 for slice.")
    result = base.quotient(session, spread, freedom)
    result = np.where(freedom <= 0, result.dtype.type(np.nan), result)
    result = fresh(session, result.node, spread._like, scalar=spread._scalar)
    return base.given_out(session, result, out)


@implements(np.nanstd)
def nanstd(session: Session, a: Any, axis: Any = None, dtype: Any = None, out: Any = None,
           ddof: Any = 0, keepdims: Any = NoValue, *, where: Any = NoValue, mean: Any = NoValue,
           correction: Any = NoValue) -> Any:
    """``np.nanstd``."""
    spread = nanvar(session, a, axis, dtype, None, ddof, keepdims, where=where, mean=mean,
                    correction=correction)
    return base.given_out(session, apply(session, np.sqrt, spread).astype(spread.dtype), out)


def _nan_position(session: Session, name: str, a: Any, axis: Any, out: Any, keepdims: Any) -> Any:
    """As ``argmax`` with nan replaced; a slice of nothing but nan is an error."""
    x = as_tracer(session, a)
    replaced = _replaced(session, x, -np.inf if name == "max" else np.inf)
    result = position(session, name, replaced, axis, None, keepdims)
    if _inexact(x):
        numbers = base.fold(session, np.logical_or, _numbers(x), axis, keepdims=keepdims)
        node = check(session, result.node, numbers.node)
        result = fresh(session, node, result._like, scalar=result._scalar)
    return base.given_out(session, result, out)


implements(np.nanargmax)(arg_reduction(_nan_position, "max"))
implements(np.nanargmin)(arg_reduction(_nan_position, "min"))


@implements(np.average)
def average(session: Session, a: Any, axis: Any = None, weights: Any = None,
            returned: bool = False, *, keepdims: Any = NoValue) -> Any:
    """``np.average``; weights that sum to zero raise ZeroDivisionError at run time."""
    x = as_tracer(session, a)
    if axis is not None:
        axis = normalize_axis_tuple(axis, x._like.ndim, argname="axis")
    if weights is None:
        result = base.mean(session, x, axis, keepdims=keepdims)
        if result._like.size == 0:
            raise ZeroDivisionError("division by zero")
        count = base.element_count(session, x, axis, keepdims, True)
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
    if w._like.shape != tuple([x._like.shape[k] for k in axis]):
        raise ValueError(
            "Shape of weights must be consistent with shape of a along specified axis."
        )
    w = w.transpose(np.argsort(axis))
    return w.reshape(tuple([n if k in axis else 1 for k, n in enumerate(x._like.shape)]))


def _weighted(session: Session, x: Tracer, axis: Any, w: Tracer, keepdims: Any) -> Any:
    wanted = np.result_type(x.dtype, w.dtype, *(["f8"] if x.dtype.kind in "iub" else []))
    scale = base.sum_(session, w, axis, wanted, None, keepdims)
    total = base.sum_(session, apply(session, np.multiply, x, w, dtype=wanted), axis, None, None,
                      keepdims)
    quotient = total / scale
    node = check(session, quotient.node, np.not_equal(scale, 0.0).node)
    return fresh(session, node, quotient._like, scalar=quotient._scalar), scale


