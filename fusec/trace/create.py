"""Arrays that a traced function makes itself: ``np.zeros(n)``, ``np.array([a, b])``, ``np.arange``.

They take no traced argument, so NumPy's protocols do not see them; ``overrides`` puts these in
their place. A filled array is a broadcast constant and costs no memory until it is written to.
Lengths stay arguments of the kernels; contents that are known are constants.
"""

import itertools
import operator
from typing import Any

import numpy as np

from fusec.errors import UnsupportedError
from fusec.ir.aval import is_number
from fusec.ir.graph import Node
from fusec.trace.scalars import PyScalar, is_sized, sized
from fusec.trace.session import Session, Source
from fusec.trace.standin import copy_like, stand_in
from fusec.trace.table import (
    INT,
    as_dtype,
    common_dtype,
    copied,
    dim,
    implements,
    iota,
    number,
    plain,
)
from fusec.trace.table import (
    zeros as filled_node,
)
from fusec.trace.tracer import ROWS, Tracer, as_tracer, contains_traced, fresh
from fusec.trace.ufuncs import as_element, weak_type

SMALL = 64  # elements of a constant that is part of the graph; larger ones become hidden inputs


def as_shape(shape: Any) -> tuple[int, ...]:
    """A shape argument as a tuple of ints; negative lengths raise as in NumPy."""
    shape = plain(shape)
    if hasattr(shape, "__index__") and np.ndim(shape) == 0:
        shape = (shape,)
    lengths = tuple([operator.index(n) for n in shape])
    if any(n < 0 for n in lengths):
        raise ValueError("negative dimensions are not allowed")
    return lengths


def constant(session: Session, value: np.ndarray) -> Tracer:
    """A real array as a traced one; large ones are hidden inputs that never change."""
    if not is_number(value.dtype):
        raise UnsupportedError(f"fusec does not trace values of dtype {value.dtype}")
    value = np.asarray(value, value.dtype.newbyteorder("="))
    if value.size > SMALL:
        frozen = value.copy()
        frozen.setflags(write=False)
        tracer = session.array_param(frozen, Source("constant", frozen, "constant"))
        return fresh(session, tracer.node)
    return fresh(session, session.const(value), copy_like(value))


def _like_order(session: Session, node: Node, order: str, operand: Tracer | None = None) -> Tracer:
    like = None
    if order == "F" or (order == "A" and operand is not None and operand._like.flags.fnc):
        like = stand_in(node.shape[::-1], node.dtype).T
    elif order == "K" and operand is not None and operand._like.shape == node.shape:
        like = copy_like(operand._like, node.dtype)
    return fresh(session, node, like)


def _checked(dtype: Any) -> np.dtype:
    dtype = np.dtype(dtype)
    if not is_number(dtype) or not dtype.isnative:
        raise UnsupportedError(f"fusec does not trace values of dtype {dtype}")
    return dtype


def zeros(session: Session, shape: Any, dtype: Any = float, order: str = "C", *,
          device: Any = None, like: Any = None) -> Tracer:
    """``np.zeros``; ``np.empty`` too, whose contents are anything."""
    dtype = float if dtype is None else dtype
    return _like_order(session, filled_node(session, as_shape(shape), _checked(dtype)), order)


def ndarray(session: Session, shape: Any, dtype: Any = float, *memory: Any, order: Any = None,
            **named: Any) -> Any:
    """``np.ndarray(shape, dtype)``, which is ``np.empty``; over a buffer it is NumPy's own."""
    if memory or named:
        return np.ndarray(shape, dtype, *memory, order=order, **named)
    return zeros(session, shape, dtype, order or "C")


def ones(session: Session, shape: Any, dtype: Any = None, order: str = "C", *,
         device: Any = None, like: Any = None) -> Tracer:
    """``np.ones``."""
    dtype = float if dtype is None else dtype
    return _like_order(session, filled_node(session, as_shape(shape), _checked(dtype), 1), order)


def full(session: Session, shape: Any, fill_value: Any, dtype: Any = None, order: str = "C", *,
         device: Any = None, like: Any = None) -> Tracer:
    """``np.full``, of a plain or a traced value."""
    shape = as_shape(shape)
    return _filled(session, shape, fill_value, dtype, order, None)


def _filled(session: Session, shape: tuple[int, ...], value: Any, dtype: Any, order: str,
            operand: Tracer | None) -> Tracer:
    from fusec.trace.indexing import assigned

    if dtype is None:
        dtype = as_tracer(session, value).dtype if weak_type(value) is None else _own_dtype(value)
    sample = fresh(session, filled_node(session, shape, _checked(dtype)))
    value = copied(session, value)
    return _like_order(session, assigned(sample, value, shape), order, operand)


def _like_maker(value: Any) -> Any:
    def make(session: Session, a: Any, dtype: Any = None, order: str = "K", subok: bool = True,
             shape: Any = None, *, device: Any = None) -> Tracer:
        x = as_tracer(session, a)
        shape = x._like.shape if shape is None else as_shape(shape)
        dtype = x.dtype if dtype is None else _checked(dtype)
        return _like_order(session, filled_node(session, shape, dtype, value), order, x)

    return make


zeros_like = implements(np.zeros_like, np.empty_like)(_like_maker(0))
ones_like = implements(np.ones_like)(_like_maker(1))


@implements(np.full_like)
def full_like(session: Session, a: Any, fill_value: Any, dtype: Any = None, order: str = "K",
              subok: bool = True, shape: Any = None, *, device: Any = None) -> Tracer:
    """``np.full_like``."""
    x = as_tracer(session, a)
    shape = x._like.shape if shape is None else as_shape(shape)
    return _filled(session, shape, fill_value, x.dtype if dtype is None else dtype, order, x)


# -- from values ----------------------------------------------------------------------------------


def array(session: Session, object: Any, dtype: Any = None, *, copy: Any = True,
          order: str = "K", subok: bool = False, ndmin: int = 0, ndmax: int = 0,
          like: Any = None) -> Tracer:
    """``np.array`` of anything: a traced array, or nested lists of traced values and numbers."""
    if type(object) is Tracer:
        made = _converted(session, object, dtype, copy, order)
    elif contains_traced(object) and type(object) is not PyScalar:
        made = fresh(session, _stacked(session, object, dtype))
    elif type(object) is PyScalar:
        kind = np.dtype(dtype) if dtype is not None else _own_dtype(object)
        made = fresh(session, as_element(session, object, kind))
    else:
        real = np.array(object, dtype=dtype, order=order)
        made = _like_order(session, constant(session, real).node, "F" if real.flags.fnc else "C")
    missing = number(ndmin) - made._like.ndim
    return made.reshape((1,) * missing + made._like.shape) if missing > 0 else made


def _converted(session: Session, x: Tracer, dtype: Any, copy: Any, order: str) -> Tracer:
    wanted = x.dtype if dtype is None else _checked(dtype)
    flags = x._like.flags
    fits = {"C": flags.c_contiguous, "F": flags.f_contiguous}.get(order, True)
    if wanted == x.dtype and fits and copy is not True:
        return x if not x._scalar else fresh(session, x.node)
    if copy is False:
        raise ValueError(
            "Unable to avoid copy while creating an array as requested.\nIf using "
            "`np.array(obj, copy=False)` replace it with `np.asarray(obj)`"
        )
    return _like_order(session, session.cast(x.node, wanted), order, x)


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, ROWS):
        return [leaf for item in value for leaf in _leaves(item)]
    return [value]


def _own_dtype(value: Any) -> np.dtype:
    """The dtype that NumPy finds for one value: ints of 64 bits and more have others."""
    if type(value) is Tracer:
        return value.dtype
    number = value._value if type(value) is PyScalar else value
    if type(number) is int and not -(2**63) <= number < 2**63:
        number = value._concrete() if type(value) is PyScalar else value
        return _checked(np.asarray(number).dtype)
    return np.dtype(weak_type(value) or np.asarray(value).dtype)


def _stacked(session: Session, value: Any, dtype: Any) -> Node:
    """Nested sequences as one node: traced parts are stacked, the dtype is NumPy's common one."""
    if dtype is None:
        dtype = np.result_type(*map(_own_dtype, _leaves(value)))
    return _stack(session, value, _checked(dtype))


def _stack(session: Session, value: Any, dtype: np.dtype) -> Node:
    if not isinstance(value, ROWS):
        return as_element(session, value, dtype, item=True)
    if not contains_traced(value):
        return constant(session, np.array(value, dtype)).node
    parts = [_stack(session, item, dtype) for item in value]
    if any(p.shape != parts[0].shape for p in parts):
        raise ValueError(
            "setting an array element with a sequence. The requested array has an inhomogeneous "
            f"shape after 1 dimensions. The detected shape was ({len(parts)},) + inhomogeneous "
            "part."
        )
    parts = [session.reshape(p, (1, *p.shape)) for p in parts]
    return session.make("concatenate", *parts, axis=0) if len(parts) > 1 else parts[0]


def asarray(session: Session, a: Any, dtype: Any = None, order: Any = None, *,
            device: Any = None, copy: Any = None, like: Any = None) -> Tracer:
    """``np.asarray``: the same array where that is possible."""
    return array(session, a, dtype, copy=copy, order=order or "K")


def ascontiguousarray(session: Session, a: Any, dtype: Any = None, *, like: Any = None) -> Tracer:
    """``np.ascontiguousarray``."""
    return array(session, a, dtype, copy=None, order="C", ndmin=1)


def asfortranarray(session: Session, a: Any, dtype: Any = None, *, like: Any = None) -> Tracer:
    """``np.asfortranarray``."""
    return array(session, a, dtype, copy=None, order="F", ndmin=1)


def require(session: Session, a: Any, dtype: Any = None, requirements: Any = None, *,
            like: Any = None) -> Tracer:
    """``np.require``; memory is always ours, aligned and writeable."""
    wants = {str(r).upper()[0] for r in requirements or ()}
    order = "F" if "F" in wants else "C" if "C" in wants else "A"
    return array(session, a, dtype, copy=None, order=order)


@implements(np.copy)
def copy(session: Session, a: Any, order: str = "K", subok: bool = False) -> Tracer:
    """``np.copy``."""
    return array(session, a, order=order, copy=True)


# -- ranges and grids -----------------------------------------------------------------------------


def arange(session: Session, *args: Any, dtype: Any = None, device: Any = None, like: Any = None,
           **named: Any) -> Tracer:
    """``np.arange``: start + index * step, in the result's dtype as NumPy computes it."""
    if len(args) == 4:
        *args, dtype = args  # type: ignore[assignment]
    parts = dict(zip(("stop",) if len(args) == 1 else ("start", "stop", "step"), args)) | named
    real = np.arange(**{k: plain(v) for k, v in parts.items()}, dtype=dtype)
    if real.dtype == bool or not is_number(real.dtype):
        return constant(session, real)
    first, step = _first_and_step(real)
    node = session.cast(iota(session, real.shape, 0), real.dtype)
    start_varies = is_sized(parts.get("start"))
    if step != 1:
        varies = start_varies or is_sized(parts.get("step"))
        node = session.make("multiply", node, _known(session, step, varies))
    if first != 0 or real.dtype.kind in "fc":
        node = session.make("add", node, _known(session, first, start_varies))
    return fresh(session, node)


def _known(session: Session, value: np.generic, varies: bool) -> Node:
    """A number of NumPy's that is known; an argument of the kernels where it ``varies`` by size."""
    if varies:
        return session.scalar_param(sized(value.item(), session), value.dtype)
    return session.const(value)


def _first_and_step(real: np.ndarray) -> tuple[Any, Any]:
    """What NumPy fills a range from: the first element and the difference to the second."""
    if real.size == 0:
        return real.dtype.type(0), real.dtype.type(1)
    with np.errstate(all="ignore"):
        return real[0], real[1] - real[0] if real.size > 1 else real.dtype.type(1)


def grid(session: Session, dimensions: Any, dtype: Any = int, sparse: bool = False) -> Any:
    """``np.indices``."""
    shape = as_shape(dimensions)
    parts = [session.cast(iota(session, shape, k), np.dtype(dtype)) for k in range(len(shape))]
    if sparse:
        keep = [(1,) * k + (n,) + (1,) * (len(shape) - k - 1) for k, n in enumerate(shape)]
        lines = [session.make("iota", shape=(n,), axis=0) for n in shape]
        parts = [session.cast(session.reshape(x, s), np.dtype(dtype)) for x, s in zip(lines, keep)]
        return tuple([fresh(session, p) for p in parts])
    if not parts:
        return constant(session, np.indices((), dtype))
    return np.stack([fresh(session, p) for p in parts])


def fromfunction(session: Session, function: Any, shape: Any, *, dtype: Any = float,
                 like: Any = None, **kwargs: Any) -> Any:
    """``np.fromfunction``: the function sees whole index arrays, as in NumPy."""
    return function(*grid(session, as_shape(shape), dtype=dtype), **kwargs)


def fromiter(session: Session, iter: Any, dtype: Any, count: Any = -1, *,
             like: Any = None) -> Tracer:
    """``np.fromiter``."""
    count = operator.index(count)
    items = list(iter if count < 0 else itertools.islice(iter, count))
    if len(items) < count:
        raise ValueError(
            f"iterator too short: Expected {count} but iterator had only {len(items)} items."
        )
    return array(session, items, dtype)


def eye(session: Session, N: Any, M: Any = None, k: Any = 0, dtype: Any = float,
        order: str = "C", *, device: Any = None, like: Any = None) -> Tracer:
    """``np.eye``."""
    rows = as_shape(N)[0]
    shape = (rows, rows if M is None else as_shape(M)[0])
    row = session.make("add", iota(session, shape, 0), session.const(operator.index(k), INT))
    node = session.make("equal", row, iota(session, shape, 1))
    node = session.cast(node, _checked(float if dtype is None else dtype))
    return _like_order(session, node, order)


def identity(session: Session, n: Any, dtype: Any = None, *, like: Any = None) -> Tracer:
    """``np.identity``."""
    return eye(session, n, dtype=dtype)


def tri(session: Session, N: Any, M: Any = None, k: Any = 0, dtype: Any = float, *,
        like: Any = None) -> Tracer:
    """``np.tri``."""
    rows = as_shape(N)[0]
    shape = (rows, rows if M is None else as_shape(M)[0])
    node = triangle(session, shape, operator.index(k))
    return fresh(session, session.cast(node, _checked(float if dtype is None else dtype)))


def triangle(session: Session, shape: tuple[int, ...], k: int) -> Node:
    """True on and below the ``k``-th diagonal."""
    row = session.make("add", iota(session, shape, 0), session.const(k, INT))
    return session.make("greater_equal", row, iota(session, shape, 1))


@implements(np.linspace)
def linspace(session: Session, start: Any, stop: Any, num: Any = 50, endpoint: bool = True,
             retstep: bool = False, dtype: Any = None, axis: int = 0, *,
             device: Any = None) -> Any:
    """``np.linspace``; the step is computed in the program, so that ``num`` stays an argument."""
    start, stop, count = plain(start), plain(stop), operator.index(plain(num))
    if count < 0:
        raise ValueError(f"Number of samples, {count}, must be non-negative.")
    kind = common_dtype(session, start, stop, 1.0)
    first, last = [_end(session, v, kind) for v in (start, stop)]
    made, step = _between(session, first, last, count, endpoint)
    wanted = made.dtype if dtype is None else _checked(dtype)
    if wanted.kind in "iu":
        made = np.floor(made)
    made = np.moveaxis(made, 0, axis).astype(wanted, copy=False)
    return (made, step) if retstep else made


def _end(session: Session, value: Any, dtype: np.dtype) -> Tracer:
    if weak_type(value):
        return _value(session, as_dtype(session, value, dtype))
    return as_tracer(session, value).astype(dtype, copy=False)


def _value(session: Session, node: Node) -> Tracer:
    return fresh(session, node, scalar=node.aval.ndim == 0)


def _between(
    session: Session, first: Tracer, last: Tracer, num: int, endpoint: bool
) -> tuple[Any, Any]:
    """``num`` equal steps from ``first`` along a new first axis, and the step."""
    delta = last - first
    parts = num - 1 if endpoint else num
    place = fresh(session, session.make("iota", shape=(num,), axis=0))
    place = place.reshape((num,) + (1,) * delta._like.ndim)
    index = place.astype(delta.dtype)
    if parts <= 0:
        return index * delta + first, _value(session, session.const(np.nan))
    count = _value(session, session.cast(dim(session, parts), delta.dtype))
    step = delta / count
    flat = plain(step == 0)
    made = index * step
    if type(flat) is Tracer or np.any(flat):
        node = np.where(step == 0, index / count * delta, made).node
        made = fresh(session, node, made._like)
    made = made + first
    if endpoint and num > 1:
        node = np.where(place == sized(parts, session), last, made).node
        made = fresh(session, node, made._like)
    return made, step
