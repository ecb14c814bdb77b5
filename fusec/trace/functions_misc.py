"""Choice by condition, rounding, comparison of whole arrays, and facts about arrays."""

from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from fusec.errors import UnsupportedError
from fusec.ir.aval import is_number, kind_of
from fusec.ops.elementwise_math import crossed as crossed_op
from fusec.ops.elementwise_math import erf as erf_op
from fusec.ops.elementwise_math import scaled as scaled_op
from fusec.ops.shape import positions
from fusec.trace import views
from fusec.trace.functions_shape import integers
from fusec.trace.pynumbers import python_number
from fusec.trace.session import Session
from fusec.trace.table import (
    BOOL,
    FUNCTIONS,
    ToHost,
    as_dtype,
    as_kind,
    as_unsafe,
    common_dtype,
    data_dependent,
    implements,
    iota,
    number,
    number_of,
    plain,
    sample,
    wrap,
)
from fusec.trace.tracer import Tracer, as_tracer, fresh
from fusec.trace.ufuncs import store_out, weak_type


@implements(np.where)
def where(session: Session, condition: Any, /, *choices: Any) -> Tracer:
    """``np.where`` with three arguments."""
    if not choices:
        if type(plain(condition)) is Tracer:
            raise data_dependent(session, "np.where(condition)")
        return np.nonzero(condition)
    if len(choices) != 2:
        raise ValueError("either both or neither of x and y should be given")
    x, y = choices
    dtype = common_dtype(session, x, y)
    nodes = [as_dtype(session, condition, BOOL), *[as_unsafe(session, v, dtype) for v in (x, y)]]
    shape = np.broadcast_shapes(*[n.shape for n in nodes])
    nodes[1] = session.broadcast(nodes[1], shape)
    node = session.make("where", *nodes)
    from fusec.trace.standin import result_like

    likes = [as_kind(v) for v in (condition, x, y) if not weak_type(v)]
    return fresh(session, node, result_like(shape, dtype, likes))


@implements(np.clip)
def clip(session: Session, a: Any, a_min: Any = np._NoValue, a_max: Any = np._NoValue,
         out: Any = None, *, min: Any = np._NoValue, max: Any = np._NoValue,
         **kwargs: Any) -> Any:
    """``np.clip``: bounds beyond an integer dtype's range are no bounds."""
    if a_min is np._NoValue and a_max is np._NoValue:
        a_min = None if min is np._NoValue else min
        a_max = None if max is np._NoValue else max
    elif a_min is np._NoValue or a_max is np._NoValue:
        missing = "a_min" if a_min is np._NoValue else "a_max"
        raise TypeError(f"clip() missing 1 required positional argument: '{missing}'")
    elif min is not np._NoValue or max is not np._NoValue:
        raise ValueError("Passing `min` or `max` keyword argument when `a_min` and `a_max` are "
                         "provided is forbidden.")
    return clipped(session, a, a_min, a_max, out, **kwargs)


def weak_int(value: Any) -> bool:
    """Whether ``value`` is a Python int that is known now."""
    return weak_type(value) is int and type(value) is not Tracer


def clipped(session: Session, a: Any, min: Any = None, max: Any = None, out: Any = None,
            **kwargs: Any) -> Any:
    """``x.clip``."""
    x = as_tracer(session, a)
    if x.dtype.kind in "iu":
        info = np.iinfo(x.dtype)
        if weak_int(min) and number_of(min) <= info.min:
            min = number(min) and None
        if weak_int(max) and number_of(max) >= info.max:
            max = number(max) and None
    if min is None and max is None:
        return np.positive(x, out=out, **kwargs)
    if min is None:
        return np.minimum(x, max, out=out, **kwargs)
    if max is None:
        return np.maximum(x, min, out=out, **kwargs)
    return np._core.umath.clip(x, min, max, out=out, **kwargs)


@implements(np.round, np.around)
def round_(session: Session, a: Any, decimals: Any = 0, out: Any = None) -> Any:
    """``np.round``: scaled by a power of ten, rounded half to even, scaled back."""
    x, places = as_tracer(session, a), integers(decimals)
    if x.dtype.kind in "iu" and places >= 0:
        return _into(session, x if x._scalar else wrap(session, x.node, views.copy(x)._like), out)
    if x.dtype.kind == "c":
        parts = [round_(session, p, places) for p in (x.real, x.imag)]
        node = session.make("make_complex", *[p.node for p in parts])
        return _into(session, wrap(session, node, views.copy(x)._like), out)
    if x.dtype.kind == "b":
        raise ToHost
    if places == 0:
        return np.rint(x, out=out)
    wide = x.astype(np.float64) if x.dtype.kind in "iu" else x
    factor = float(10.0 ** abs(places))
    down, up = (np.multiply, np.divide) if places > 0 else (np.divide, np.multiply)
    result = up(np.rint(down(wide, factor)), factor).astype(x.dtype)
    like = views.copy(x, "A")._like
    return _into(session, wrap(session, result.node, like), out)


def _into(session: Session, result: Tracer, out: Any) -> Any:
    return result if out is None else store_out(session, result.node, out, True, [])


@implements(np.fix)
def fix(session: Session, x: Any, out: Any = None) -> Any:
    """``np.fix``."""
    return np.trunc(as_tracer(session, x), out=out)


@implements(np.astype)
def astype(session: Session, x: Any, dtype: Any, order: str = "K", casting: str = "unsafe",
           subok: bool = True, copy: bool = True, *, device: Any = None) -> Tracer:
    """``x.astype``."""
    x = as_tracer(session, x)
    dtype = np.dtype(dtype)
    if not is_number(dtype) or not dtype.isnative:
        raise UnsupportedError(f"{session.location()}: fusec does not trace dtype {dtype}")
    np.empty(0, x.dtype).astype(dtype, casting=casting) if casting != "unsafe" else None
    if not copy and dtype == x.dtype and order in "KA":
        return x
    node = session.cast(x.node, dtype)
    made = fresh(session, node, x._like, scalar=x._scalar)
    like = views.copy(made, order)._like
    return fresh(session, node, _recast(like, dtype), scalar=x._scalar)


def _recast(like: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """A fresh stand-in in the same memory order, of another dtype."""
    from fusec.trace.standin import copy_like

    return copy_like(like, dtype)


# -- comparison of whole arrays -------------------------------------------------------------------


@implements(np.allclose)
def allclose(session: Session, a: Any, b: Any, rtol: Any = 1e-5, atol: Any = 1e-8,
             equal_nan: bool = False) -> Tracer:
    """``np.allclose``, a traced bool."""
    return python_number(np.all(np.isclose(a, b, rtol=rtol, atol=atol, equal_nan=equal_nan)))


def _same_shape(session: Session, a: Any, b: Any, equal_nan: bool = False) -> Tracer:
    x, y = as_tracer(session, a), as_tracer(session, b)
    equal = x == y
    if equal_nan and kind_of(x.dtype) in "fc" and kind_of(y.dtype) in "fc":
        equal = equal | (np.isnan(x) & np.isnan(y))
    return python_number(np.all(equal))


@implements(np.array_equal)
def array_equal(session: Session, a1: Any, a2: Any, equal_nan: bool = False) -> Any:
    """``np.array_equal``; False at once for unequal shapes."""
    x, y = as_tracer(session, a1), as_tracer(session, a2)
    if x._like.shape != y._like.shape:
        return False
    return _same_shape(session, x, y, equal_nan)


@implements(np.array_equiv)
def array_equiv(session: Session, a1: Any, a2: Any) -> Any:
    """``np.array_equiv``."""
    x, y = as_tracer(session, a1), as_tracer(session, a2)
    try:
        np.broadcast_shapes(x._like.shape, y._like.shape)
    except ValueError:
        return False
    return _same_shape(session, x, y)


# -- choices --------------------------------------------------------------------------------------


@implements(np.select)
def select(session: Session, condlist: Any, choicelist: Any, default: Any = 0) -> Tracer:
    """``np.select``: a chain of ``where``."""
    if len(condlist) != len(choicelist):
        raise ValueError("list of cases must be same length as list of conditions")
    if len(condlist) == 0:
        raise ValueError("select with an empty condition list is not possible")
    dtype = common_dtype(session, *choicelist, default)
    conditions = [as_tracer(session, c) for c in condlist]
    for k, c in enumerate(conditions):
        if c.dtype != BOOL:
            raise TypeError(f"invalid entry {k} in condlist: should be boolean ndarray")
    arrays = [as_tracer(session, c) for c in (*choicelist, default)]
    for choice in arrays[:-1]:
        np.copyto(np.zeros(1, dtype), np.zeros(1, choice.dtype))  # raises for 3 among uint8
    choices = [session.cast(x.node, dtype) for x in arrays]
    shape = np.broadcast_shapes(*[c._like.shape for c in conditions], *[c.shape for c in choices])
    node = session.broadcast(choices[-1], shape)
    for condition, choice in zip(conditions[::-1], choices[-2::-1]):
        node = session.make("where", condition.node, session.broadcast(choice, shape), node)
    return fresh(session, node)


@implements(np.piecewise)
def piecewise(session: Session, x: Any, condlist: Any, funclist: Any, *args: Any,
              **kw: Any) -> Tracer:
    """``np.piecewise``: each function sees the elements that its condition selects."""
    x = as_tracer(session, x)
    single = not isinstance(condlist, list | tuple) or (
        not isinstance(condlist[0], list | tuple)
        and np.ndim(as_kind(condlist[0])) == 0 and x._like.ndim != 0
    )
    conditions = [as_tracer(session, c).astype(bool) for c in ([condlist] if single else condlist)]
    if len(funclist) == len(conditions) + 1:
        rest = ~conditions[0]
        for c in conditions[1:]:
            rest = rest & ~c
        conditions.append(rest)
    elif len(funclist) != len(conditions):
        n = len(conditions)
        raise ValueError(f"with {n} condition(s), either {n} or {n + 1} functions are expected")
    result = np.zeros_like(x)
    for condition, function in zip(conditions, funclist):
        value = function(x[condition], *args, **kw) if callable(function) else function
        result[condition] = value
    return result


# -- facts about arrays ---------------------------------------------------------------------------


def _fact(function: Any) -> None:
    """Functions that look at shapes and dtypes only: run on stand-ins."""

    def answer(session: Session, *args: Any, **kwargs: Any) -> Any:
        return function(*[_sample(session, a) for a in args], **kwargs)

    FUNCTIONS[function] = answer


def _sample(session: Session, value: Any) -> Any:
    if weak_type(value) is not None:
        return sample(value)
    if isinstance(value, np.dtype | type | str) or value is None:
        return value
    like = as_tracer(session, value)._like
    return np.empty(like.shape[:0] or (0,) if like.ndim else (), like.dtype)


for _function in (np.can_cast, np.result_type, np.min_scalar_type, np.common_type,
                  np.iscomplexobj, np.isrealobj):  # fmt: skip
    _fact(_function)
for _function in (np.shape, np.ndim, np.size, np.real, np.imag):
    FUNCTIONS[_function] = lambda session, a, *rest, _f=_function, **named: _f._implementation(
        as_tracer(session, a), *rest, **named
    )


@implements(np.may_share_memory, np.shares_memory)
def shares_memory(session: Session, a: Any, b: Any, /, max_work: Any = None) -> bool:
    """Whether two arrays may share memory: views of one storage, unless their bounds differ."""
    x, y = as_tracer(session, a), as_tracer(session, b)
    return x._storage is y._storage and np.may_share_memory(x._like, y._like)


@implements(np.apply_along_axis)
def apply_along_axis(session: Session, func1d: Any, axis: Any, arr: Any, *args: Any,
                     **kwargs: Any) -> Tracer:
    """``np.apply_along_axis``: the function is traced for each slice, the first has the dtype."""
    x = as_tracer(session, arr)
    axis = normalize_axis_index(integers(axis), x._like.ndim)
    lines = np.moveaxis(x, axis, -1)
    outer = lines._like.shape[:-1]
    if not 1 <= int(np.prod(outer)) <= 1024:
        np.apply_along_axis(sum, axis, np.empty((0,) * x._like.ndim)) if 0 in outer else None
        raise UnsupportedError(
            f"{session.location()}: np.apply_along_axis over {int(np.prod(outer))} slices; write "
            "the function for whole arrays with an axis argument"
        )
    made = [as_tracer(session, func1d(lines[k], *args, **kwargs)) for k in np.ndindex(outer)]
    first, inner = made[0], made[0]._like.ndim
    rest = [np.broadcast_to(m, first._like.shape).astype(first.dtype) for m in made[1:]]
    whole = np.stack([first, *rest]).reshape(outer + first._like.shape)
    order = list(range(axis)) + list(range(len(outer), len(outer) + inner)) + list(
        range(axis, len(outer)))
    return np.transpose(whole, order)


def _unary_op(name: str) -> Any:
    def call(session: Session, *args: Any) -> Tracer:
        dtype = common_dtype(session, *args)
        dtype = dtype if dtype.kind in "fc" else np.dtype(np.float64)
        return wrap(session, session.make(name, *[as_dtype(session, a, dtype) for a in args]))

    return call


FUNCTIONS[erf_op] = _unary_op("erf")
FUNCTIONS[scaled_op] = _unary_op("scaled")
FUNCTIONS[crossed_op] = _unary_op("crossed")
FUNCTIONS[positions] = lambda session, x, axis: wrap(session, iota(session, x._like.shape, axis))

