"""The table of NumPy's functions that have an implementation on traced values.

``FUNCTIONS`` maps a NumPy function to ``implementation(session, *args, **kwargs)`` with NumPy's own
parameters. An implementation that meets options it has no ops for raises ``ToHost``: then NumPy's
function runs in the middle of the program.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fusec.errors import DataDependentShapeError
from fusec.ir.graph import Loc, Node
from fusec.trace.scalars import PyScalar
from fusec.trace.session import Session
from fusec.trace.standin import stand_in
from fusec.trace.tracer import Tracer, as_tracer, fresh
from fusec.trace.ufuncs import as_loop, elementwise, need_array, weak_type

__all__ = ["need_array", "weak_type"]
Implementation = Callable[..., Any]
FUNCTIONS: dict[Any, Implementation] = {}
NoValue = np._NoValue
INT = np.dtype(np.int64)
BOOL = np.dtype(bool)


class ToHost(Exception):
    """Raised by an implementation that leaves these arguments to NumPy at run time."""


def implements(*functions: Any) -> Callable[[Implementation], Implementation]:
    """Register the decorated function for ``functions``."""

    def register(implementation: Implementation) -> Implementation:
        for function in functions:
            FUNCTIONS[function] = implementation
        implementation.__qualname__ = functions[0].__name__  # as errors of its arguments say
        return implementation

    return register


def given(value: Any) -> bool:
    return value is not None and value is not NoValue


def apply(session: Session, ufunc: np.ufunc, *inputs: Any, **kwargs: Any) -> Tracer:
    """One elementwise ufunc on traced or plain values."""
    return elementwise(session, ufunc, inputs, **kwargs)


def common_dtype(session: Session, *values: Any) -> np.dtype:
    """``np.result_type`` of traced values, arrays and (weak) Python numbers."""
    return np.result_type(*[_weak_sample(session, v) for v in values])


def _weak_sample(session: Session, value: Any) -> Any:
    kind = weak_type(value)
    if kind is not None:
        return np.dtype(bool) if kind is bool else kind(1)
    return as_tracer(session, value).dtype


def as_dtype(session: Session, value: Any, dtype: np.dtype) -> Node:
    """A traced value, array or Python number as a node of ``dtype``."""
    if weak_type(value) is not None:
        return as_loop(session, value, dtype)
    return session.cast(as_tracer(session, value).node, dtype)


def _where_wraps() -> bool:
    try:
        return bool(np.where(True, np.uint8(0), 300) == 0)
    except OverflowError:
        return False


_WHERE_WRAPS = _where_wraps()  # as NumPy did before version 2.5


def as_unsafe(session: Session, value: Any, dtype: np.dtype) -> Node:
    """As ``as_dtype``, but a Python number out of range wraps where the installed NumPy does so."""
    kind = weak_type(value)
    if kind is None or not _WHERE_WRAPS:
        return as_dtype(session, value, dtype)
    known = kind if type(value) is Tracer else np.array(number_of(value)).dtype
    return session.cast(as_loop(session, value, np.dtype(known)), dtype)


def number_of(value: Any) -> Any:
    """The value of a Python number, traced or not, without a guard."""
    return getattr(value, "_value", value)


def sample(value: Any) -> Any:
    """A Python number in place of ``value``, itself where it is known."""
    return weak_type(value)(1) if type(value) is Tracer else number(value)  # type: ignore[misc]


def copied(session: Session, value: Any) -> Any:
    """What ``np.copyto`` copies: of Python's numbers only integers have to fit."""
    if weak_type(value) is int:
        return value
    return fresh(session, as_tracer(session, value).node)


def as_kind(x: Any) -> np.ndarray:
    """Something with the shape of ``x``, without reading it."""
    return x._like if type(x) is Tracer else np.asarray(x)


def wrap(session: Session, node: Node, like: np.ndarray | None = None) -> Tracer:
    """A fresh result; NumPy returns scalars in place of 0-d arrays."""
    return fresh(session, node, like, scalar=node.aval.ndim == 0)


def merged_like(node: Node, operands: list[np.ndarray]) -> np.ndarray:
    """The memory order in which NumPy joins ``operands``: an axis of length 1 says nothing."""
    if all(o.flags.c_contiguous for o in operands) or math.prod(node.shape) == 0:
        return stand_in(node.shape, node.dtype)
    order: list[int] = []  # from the longest strides to the shortest
    for axis in range(len(node.shape)):
        place = len(order)
        for k in reversed(range(place)):
            longer = [
                abs(o.strides[axis]) > abs(o.strides[order[k]])
                for o in operands
                if o.shape[axis] != 1 and o.shape[order[k]] != 1
            ]
            if longer and not all(longer):
                break
            place = k if longer else place
        order.insert(place, axis)
    like = stand_in(tuple([node.shape[k] for k in order]), node.dtype)
    return like.transpose(np.argsort(order))


def zeros(session: Session, shape: tuple[int, ...], dtype: Any, value: Any = 0) -> Node:
    """``value`` everywhere, without memory."""
    return session.broadcast(session.const(value, np.dtype(dtype)), shape)


def dim(session: Session, n: int) -> Node:
    """A length as a value of the graph: an argument of the kernels."""
    return session.make("dim", value=int(n))


def iota(session: Session, shape: tuple[int, ...], axis: int) -> Node:
    """The index along ``axis``, broadcast over the other axes."""
    line = session.make("iota", shape=(shape[axis],), axis=0)
    line = session.reshape(line, (shape[axis],) + (1,) * (len(shape) - axis - 1))
    return session.broadcast(line, shape)


def check(session: Session, value: Node, ok: Node) -> Node:
    """``value``; where ``ok`` is false at run time NumPy runs instead, and raises."""
    return session.make("check", value, ok)


def number(value: Any) -> Any:
    """A plain Python number; the value of a traced Python number becomes a guard."""
    return value._concrete() if type(value) is PyScalar else value


def plain(value: Any) -> Any:
    """``value`` with the values of constant tracers in place of the tracers."""
    if type(value) is Tracer:
        found = value.concrete()
        if found is None:
            return value
        return found[()] if value._scalar else found
    if isinstance(value, list | tuple):
        made = [plain(v) for v in value]
        return made if isinstance(value, list) else tuple(made)
    return number(value)


def data_dependent(
    session: Session, name: str, advice: str = "", loc: Loc | None = None
) -> DataDependentShapeError:
    """The error of a result whose shape depends on the data."""
    advice = advice or (
        "Use np.where(condition, x, other) to keep the shape, reduce a selection at once "
        "(x[mask].sum()), or call it outside the jitted function."
    )
    where = loc or session.location()
    return DataDependentShapeError(
        f"{where}: the shape of the result of {name} depends on the data. {advice}"
    )
