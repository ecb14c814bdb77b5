"""NumPy's ufuncs on traced values: dtypes from NumPy's own loops, then one node.

Python scalars are weak (NEP 50): ``float32 + 1.0`` is float32, ``uint8 + 300`` raises.
"""

from contextlib import suppress
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np

from fusec.ir.aval import Aval
from fusec.ir.graph import Node
from fusec.ops.registry import BY_UFUNC, DTypeError, broadcast_shape, loop_dtypes, shown_shape
from fusec.trace.flags import is_writeable
from fusec.trace.scalars import NUMBERS, PyScalar
from fusec.trace.session import Session
from fusec.trace.standin import silent
from fusec.trace.tracer import PYTHON, Tracer, as_tracer, contains_traced, fresh, k_like

COMPARISONS = {np.less, np.less_equal, np.greater, np.greater_equal, np.equal, np.not_equal}


def weak_type(value: Any) -> type | None:
    """int, float, complex or bool when ``value`` is a Python number, traced or not."""
    if type(value) is Tracer:
        kind = value.dtype.kind
        return PYTHON[kind] if value._storage.item else None
    kind = type(value._value) if type(value) is PyScalar else type(value)
    return kind if kind in NUMBERS else None


def call_ufunc(
    session: Session, ufunc: np.ufunc, method: str, inputs: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """What ``getattr(ufunc, method)(*inputs, **kwargs)`` gives for traced values."""
    if method != "__call__":
        from fusec.trace.functions import call_ufunc_method

        return call_ufunc_method(session, ufunc, method, inputs, kwargs)
    out = kwargs.pop("out", None)
    kwargs.pop("subok", None)
    if ufunc.signature is not None or ufunc.nout > 1 or ufunc not in BY_UFUNC:
        from fusec.trace.functions import call_special_ufunc

        return call_special_ufunc(session, ufunc, inputs, out, kwargs)
    target = out[0] if isinstance(out, tuple) else out
    need_array(target)
    return elementwise(session, ufunc, inputs, target, **kwargs)


Session.ufunc = call_ufunc


def need_array(out: Any) -> None:
    """Raise what NumPy raises for an ``out`` that is no array."""
    if out is not None and not isinstance(out, np.ndarray | np.generic):
        raise TypeError("return arrays must be of ArrayType")


def elementwise(
    session: Session,
    ufunc: np.ufunc,
    inputs: tuple[Any, ...],
    out: Any = None,
    where: Any = True,
    casting: str = "same_kind",
    dtype: Any = None,
    order: str = "K",
    signature: Any = None,
    roots: bool = True,
) -> Any:
    """One elementwise ufunc call: cast the operands to the loop's dtypes and make the node.

    roots: whether an exponent that is 0.5 for all takes the root, as it does in ``np.power``.
    """
    operands = [
        v if type(v) is Tracer or weak_type(v) else as_tracer(session, v) for v in inputs
    ]
    if any(type(v) is Tracer and v._storage.choice is not None for v in operands):
        operands = _alike(ufunc, operands)
    loop = _loop(ufunc, operands, out, casting, dtype, signature)
    if ufunc in COMPARISONS:
        known = _out_of_range(session, ufunc, operands, loop)
        if known is not None:
            return known
    nodes = [as_loop(session, v, t) for v, t in zip(operands, loop)]
    tracers = [v for v in operands if type(v) is Tracer]
    by_one = roots and ufunc is np.power and _is_one(nodes[1].aval, nodes[0].aval.size)
    if not roots and _is_half(nodes[1]):
        result = _power_of_half(session, nodes[0])
    else:
        result = session.make("scalar_power" if by_one else BY_UFUNC[ufunc], *nodes)
    if out is None and where is True:
        like = k_like(result, tracers) if order == "K" else None
        return fresh(session, result, like, scalar=result.aval.ndim == 0)
    return store_out(session, result, out, where, tracers, casting)


def _alike(ufunc: np.ufunc, operands: list[Any]) -> list[Any]:
    """The operands; numbers that ``max`` gave stay undecided where each choice has one loop, and
    no choice is among Python numbers alone, whose operators give others."""
    kinds = list(product(*map(_choices, operands)))
    python = {all(isinstance(kind, type) for kind in given) for given in kinds}
    with suppress(DTypeError):
        if len(python) == len({loop_dtypes(ufunc, _kinds(*given)) for given in kinds}) == 1:
            return list(map(undecided, operands))
    return operands


def _choices(value: Any) -> list[Any]:
    """What ``value`` may be to a loop: dtypes, and types of Python numbers."""
    choice = value._storage.choice if type(value) is Tracer else None
    return [weak_type(v) or v.dtype for v in (choice[1].values() if choice else [value])]


def undecided(x: Any) -> Any:
    """A number of several types as what they have in common, and as nothing else."""
    if type(x) is not Tracer or x._storage.choice is None:
        return x
    made = fresh(x._session, x._storage.node, scalar=True)
    made._storage.item = x._storage.item
    return made


def _is_half(exponent: Node) -> bool:
    if exponent.op.name != "const" or exponent.dtype.kind != "f":
        return False
    return bool(np.all(exponent.attrs["value"].value == 0.5))


def _power_of_half(session: Session, x: Node) -> Node:
    """C's ``pow(x, 0.5)``: the root, but 0 of -0 and inf of -inf."""
    zero, inf, least = [session.const(v, x.dtype) for v in (0.0, np.inf, -np.inf)]
    root = session.make("add", session.make("sqrt", x), zero)
    return session.make("where", session.make("equal", x, least), inf, root)


def _is_one(exponent: Aval, size: int) -> bool:
    """Whether NumPy sees that an exponent is the same for all of ``size`` numbers."""
    return exponent.dtype.char in "fd" and (exponent.ndim == 0 or exponent.size == 1 < size)


def store_out(
    session: Session,
    result: Node,
    out: Any,
    where: Any,
    tracers: list[Tracer],
    casting: str = "same_kind",
) -> Any:
    """Put ``result`` into ``out`` (where ``where`` holds), as the ``out=`` argument does."""
    if out is None:  # where= without out= leaves the rest undefined; zeros are as good as any
        like = k_like(result, tracers)
        out = fresh(session, session.broadcast(session.const(0, result.dtype), like.shape), like)
    target = as_tracer(session, out)
    shape = broadcast_shape(result.shape, target._like.shape)
    if shape != target._like.shape:
        raise ValueError(
            f"non-broadcastable output operand with shape {shown_shape(target._like.shape)} "
            f"doesn't match the broadcast shape {shown_shape(shape)}"
        )
    value = session.broadcast(session.cast(result, target.dtype), shape)
    if where is not True:
        mask = session.cast(as_tracer(session, where).node, np.dtype(bool))
        value = session.make("where", mask, value, target.node)
    if not is_writeable(target):
        raise ValueError("output array is read-only")
    target.write(value)
    return out


def as_loop(session: Session, value: Any, dtype: np.dtype) -> Node:
    """An operand as a node of the loop's dtype."""
    if type(value) is Tracer:
        return (_fitted if value._storage.item else Session.cast)(session, value.node, dtype)
    if type(value) is PyScalar:
        if type(value._value) is float and value._recipe[0] == "arg":
            return session.cast(session.scalar_param(value, np.dtype("f8")), dtype)
        return session.scalar_param(value, dtype)
    return session.const(value, dtype)


def as_element(session: Session, value: Any, dtype: np.dtype, item: bool = False) -> Node:
    """``value`` as NumPy puts it into an array of ``dtype``.

    Arrays are cast, Python numbers have to fit. So do NumPy's numbers in signed integers where
    they are one ``item``: ``x[0] = np.float64("nan")`` raises, ``x[[0]] = ...`` does not.
    """
    if type(value) is Tracer:
        if value._storage.item:
            np.array(PYTHON[value.dtype.kind](1), dtype)  # raises for complex numbers
            return _fitted(session, value.node, dtype)
        signed = item and value._scalar and dtype.kind == "i" and value.dtype.kind in "iuf"
        return (_fitted if signed else Session.cast)(session, value.node, dtype)
    kind = weak_type(value)
    if type(value) is PyScalar and (kind is int or dtype.kind not in "iub"):
        return as_loop(session, value, dtype)
    if isinstance(value, np.ndarray) or (kind is None and contains_traced(value)):
        return session.cast(as_tracer(session, value, dtype).node, dtype)
    value = value._concrete() if type(value) is PyScalar else value
    made = np.array(value, dtype)
    if item and isinstance(value, np.generic):
        made[()] = value
    return as_tracer(session, made).node


def _fitted(session: Session, node: Node, dtype: np.dtype) -> Node:
    """A cast to ``dtype``; where that is an integer which can't hold the number NumPy raises."""
    made = session.cast(node, dtype)
    if dtype.kind not in "iu" or np.can_cast(node.dtype, dtype):
        return made
    whole, back = np.trunc(fresh(session, node)), fresh(session, session.cast(made, node.dtype))
    fits = (back == whole) & ((fresh(session, made) < 0) == (whole < 0))
    return session.make("check", made, fits.node)


@lru_cache(1024)
def _kinds(*kinds: Any) -> tuple[Any, ...]:
    """Booleans are never weak, and of weak numbers alone none is."""
    if all(isinstance(k, type) for k in kinds):
        return tuple([np.dtype(k) for k in kinds])
    return tuple([np.dtype(bool) if k is bool else k for k in kinds])


def _loop(
    ufunc: np.ufunc, operands: list[Any], out: Any, casting: str, dtype: Any, signature: Any
) -> tuple[np.dtype, ...]:
    if isinstance(dtype, type) and issubclass(dtype, np.dtype):
        dtype = dtype()
    kinds = _kinds(*[weak_type(v) or v.dtype for v in operands])
    if dtype is None and signature is None and out is None:
        return loop_dtypes(ufunc, kinds)
    if dtype is None and signature is None:
        _may_store(ufunc, kinds, casting, out.dtype)
        return loop_dtypes(ufunc, kinds)
    names = {"dtype": dtype, "signature": signature}
    _may_store.__wrapped__(
        ufunc, kinds, casting, None if out is None else out.dtype,
        **{k: v for k, v in names.items() if v is not None},
    )  # fmt: skip
    wanted = signature if signature is not None else (None,) * ufunc.nin + (np.dtype(dtype),)
    return ufunc.resolve_dtypes((*kinds, None), signature=wanted, casting=casting)


@lru_cache(1024)
def _may_store(ufunc: np.ufunc, kinds: Any, casting: str, out: Any = None, **given: Any) -> None:
    """NumPy decides, and raises, on arrays that hold nothing. out: the dtype of what is there."""
    empty = [np.empty(0, k) if isinstance(k, np.dtype) else k(1) for k in kinds]
    if out is not None:
        given["out"] = np.empty(0, out)
    with silent():
        ufunc(*empty, casting=casting, **given)


def _out_of_range(
    session: Session, ufunc: np.ufunc, operands: list[Any], loop: tuple[np.dtype, ...]
) -> Any:
    """Comparisons with a Python int that the dtype cannot hold have a known answer."""
    for value, dtype in zip(operands, loop):
        if weak_type(value) is not int or dtype.kind not in "iu" or type(value) is Tracer:
            continue
        number = value._value if type(value) is PyScalar else value
        info = np.iinfo(dtype)
        if info.min <= number <= info.max:
            continue
        if type(value) is PyScalar:
            value._concrete()
        other = next(o for o in operands if type(o) is Tracer)
        tiny = [np.zeros((), o.dtype) if type(o) is Tracer else number for o in operands]
        answer = session.const(bool(ufunc(*tiny)))
        node = session.broadcast(answer, other._like.shape)
        return fresh(session, node, k_like(node, [other]), scalar=other._like.ndim == 0)
    return None
