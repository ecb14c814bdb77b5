"""What traced code gets instead of functions that NumPy's protocols do not reach.

Creation functions, ``math``, and the builtins that would ask for a value. ``override`` is asked for
each name that a traced function reads; it answers None for all others.
"""

import builtins
import functools
import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from fusec.errors import UnsupportedError
from fusec.ir.aval import is_number
from fusec.trace import create, flat, functions_shape, methods
from fusec.trace.extremes import extreme
from fusec.trace.pynumbers import python_number, rounded, to_whole
from fusec.trace.scalars import PyScalar, is_instance, py_apply, sized, type_of
from fusec.trace.selection import Selection
from fusec.trace.session import Session
from fusec.trace.table import BOOL, as_dtype, check, common_dtype, plain
from fusec.trace.tracer import ROWS, Tracer, as_tracer, contains_traced, fresh
from fusec.trace.tree import flatten

Override = Callable[..., Any]
LOUD = {"raise", "call", "log", "print"}  # of np.errstate


def override(session: Session, name: str) -> Override | None:
    """What stands for the function or type with this qualified name; None: what is there."""
    made = _OVERRIDES.get(name) or (None if session.own_types else _TYPES.get(name))
    if made is not None:
        return made(session)
    module, _, own_name = name.rpartition(".")
    value = getattr(_MODULES.get(module), own_name, None)
    if isinstance(value, np.ufunc):
        return _Ufunc(session, value)
    fixed = name in _KNOWN
    is_plain = hasattr(value, "_implementation") or fixed
    return _plain_function(session, value, fixed) if is_plain else None


_MODULES = {"numpy": np, "numpy.linalg": np.linalg, "numpy.fft": np.fft}
_KNOWN = frozenset({
    "numpy.hanning", "numpy.hamming", "numpy.bartlett", "numpy.blackman", "numpy.kaiser",
    "numpy.tril_indices", "numpy.triu_indices", "numpy.diag_indices",
    "numpy.frombuffer", "numpy.fromstring", "numpy.fft.fftfreq", "numpy.fft.rfftfreq",
})  # fmt: skip
"""Functions outside NumPy's protocol whose results are constants."""

# -- NumPy ----------------------------------------------------------------------------------------

CREATION: dict[str, Override] = {
    "zeros": create.zeros, "empty": create.zeros, "ones": create.ones, "full": create.full,
    "array": create.array, "asarray": create.asarray, "asanyarray": create.asarray,
    "ascontiguousarray": create.ascontiguousarray, "asfortranarray": create.asfortranarray,
    "require": create.require, "arange": create.arange, "linspace": create.linspace,
    "eye": create.eye, "identity": create.identity, "tri": create.tri, "indices": create.grid,
    "fromfunction": create.fromfunction, "fromiter": create.fromiter,
    "vectorize": flat.vectorize, "nditer": flat.nditer, "ndenumerate": flat.ndenumerate,
}  # fmt: skip
def _plain_function(session: Session, function: Any, fixed: bool) -> Override:
    """A function of NumPy's that also takes lists of traced values, which its protocol misses.

    Without traced arguments its results are constants.

    fixed: it makes arrays of numbers, whose values are used.
    """

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if fixed and not any(type(a) is Tracer for a in [*args, *kwargs.values()]):
            args, kwargs = plain(args), {k: plain(v) for k, v in kwargs.items()}
        if contains_traced([*args, *kwargs.values()]):
            return session.function(function, args, kwargs)
        result = function(*args, **kwargs)
        return traced_constants(session, result)

    return call


class _Ufunc:
    """A ufunc that also takes lists of traced values."""

    __slots__ = ("_real", "_session")

    def __init__(self, session: Session, real: np.ufunc) -> None:
        self._real, self._session = real, session

    @property
    def __class__(self) -> type:  # type: ignore[override]
        return np.ufunc

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._real(*self._arrays(args), **kwargs)

    def _arrays(self, args: Any) -> Any:
        return [
            as_tracer(self._session, a) if isinstance(a, ROWS) and contains_traced(a) else a
            for a in args
        ]

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._real, name)
        if name not in ("reduce", "accumulate", "outer", "reduceat"):
            return value  # the index of `at` may be a tuple of arrays
        return lambda *args, **kwargs: value(*self._arrays(args), **kwargs)

    def __eq__(self, other: object) -> bool:
        return other is self._real or getattr(other, "_real", None) is self._real

    def __hash__(self) -> int:
        return hash(self._real)

    def __repr__(self) -> str:
        return repr(self._real)


def traced_constants(session: Session, result: Any) -> Any:
    """Real arrays, alone or in a tuple, as traced constants."""
    if isinstance(result, tuple | list):
        return type(result)([traced_constants(session, r) for r in result])
    if type(result) is np.ndarray and is_number(result.dtype):
        return create.constant(session, result)
    return result


class _Grid:
    """``np.mgrid`` and ``np.ogrid``."""

    def __init__(self, session: Session, real: Any) -> None:
        self._session, self._real = session, real

    def __getitem__(self, key: Any) -> Any:
        parts = key if isinstance(key, tuple) else (key,)
        parts = [slice(plain(s.start), plain(s.stop), plain(s.step)) for s in parts]
        made = self._real[tuple(parts) if isinstance(key, tuple) else parts[0]]
        return traced_constants(self._session, made)


class _Joined:
    """``np.r_`` and ``np.c_``."""

    def __init__(self, session: Session, real: Any, columns: bool) -> None:
        self._session, self._real, self._columns = session, real, columns

    def __getitem__(self, key: Any) -> Any:
        parts = key if isinstance(key, tuple) else (key,)
        if not contains_traced(list(parts)):
            return traced_constants(self._session, self._real[key])
        if any(isinstance(p, str) for p in parts):
            raise UnsupportedError("np.r_ and np.c_ with a directive on traced arrays")
        arrays = [self._real[p] if isinstance(p, slice) else p for p in parts]
        dtype = common_dtype(self._session, *arrays)
        made = [create.array(self._session, a, dtype, copy=None) for a in arrays]
        if not self._columns:
            return np.concatenate([np.atleast_1d(a) for a in made])
        tall = [np.atleast_2d(t).T if t._like.ndim < 2 else t for t in made]
        return np.concatenate(tall, axis=-1)


def _scalar_type(kind: type) -> Callable[[Session], Override]:
    """``np.float32(x)`` and the like."""
    dtype = np.dtype(kind)

    def bind(session: Session) -> Override:
        def convert(*args: Any, **kwargs: Any) -> Any:
            if len(args) != 1 or kwargs or not contains_traced(args[0]):
                return kind(*args, **kwargs)
            x = args[0] if type(args[0]) is PyScalar else as_tracer(session, args[0])
            node = as_dtype(session, x, dtype)
            return fresh(session, node, scalar=node.aval.ndim == 0)

        return convert

    return bind


# -- Python's numbers -----------------------------------------------------------------------------

_UFUNCS = {
    "acos": np.arccos, "acosh": np.arccosh, "asin": np.arcsin, "asinh": np.arcsinh,
    "atan": np.arctan, "atan2": np.arctan2, "atanh": np.arctanh, "pow": np.power,
    "isnan": np.isnan, "isinf": np.isinf, "isfinite": np.isfinite, "fabs": np.fabs,
}  # fmt: skip
for _same in [
    "exp", "exp2", "expm1", "log2", "log10", "log1p", "sqrt", "cbrt", "sin", "cos", "tan",
    "sinh", "cosh", "tanh", "hypot", "copysign", "fmod", "degrees", "radians", "nextafter",
]:  # fmt: skip
    _UFUNCS[_same] = getattr(np, _same)


def _math(name: str) -> Callable[[Session], Override]:
    real = getattr(math, name)

    def bind(session: Session) -> Override:
        @functools.wraps(real)
        def call(*args: Any, **kwargs: Any) -> Any:
            if any(type(a) is Tracer for a in flatten((args, kwargs))[0]):
                return _traced_math(session, name, real, args, kwargs)
            if any(type(a) is PyScalar for a in args) and not kwargs:
                return py_apply(real, session, *args)
            return real(*args, **kwargs)

        return call

    return bind


def _traced_math(session: Session, name: str, real: Any, args: Any, kwargs: Any) -> Any:
    """A function of ``math`` as float64 arithmetic; its domain errors are run-time checks."""
    values = [a if type(a) is PyScalar else plain(a) for a in args]
    if not any(type(v) is Tracer for v in flatten((values, kwargs))[0]):
        return real(*values, **kwargs)
    known = name in ("log", "floor", "ceil", "trunc") or (
        name in _UFUNCS and _UFUNCS[name].nin == len(values)
    )
    if kwargs or not known:
        raise UnsupportedError(f"{session.location()}: math.{name} needs the values of arrays")
    if name in ("floor", "ceil", "trunc"):
        return to_int(session, getattr(np, name)(to_float(session, values[0])))
    numbers = [to_float(session, v) for v in values]
    if name == "log":
        logs = [
            _checked(session, np.log(x), [x]) if type(x) is Tracer else math.log(x) for x in numbers
        ]
        return logs[0] / logs[1] if args[1:] else logs[0]
    result = _UFUNCS[name](*numbers)
    return python_number(result) if result.dtype == BOOL else _checked(session, result, numbers)


def _checked(session: Session, result: Tracer, inputs: list[Any]) -> Tracer:
    """Python raises where finite numbers give nan or infinity, and where infinity gives nan."""
    ok = np.isfinite(result)
    for x in inputs:
        ok = ok | np.isnan(x) | (np.isinf(x) & ~np.isnan(result))
    return python_number(fresh(session, check(session, result.node, ok.node), scalar=True))


def to_float(session: Session, value: Any = 0.0) -> Any:
    """``float(x)``: a Python number at run time when ``x`` is traced."""
    if type(value) is PyScalar:
        return py_apply(float, session, value)
    if type(value) is not Tracer:
        return float(value)
    known = plain(value)
    if type(known) is not Tracer:
        return float(known)
    _one_number(value, float)
    return python_number(fresh(session, session.cast(value.node, np.dtype(np.float64))))


def to_int(session: Session, value: Any = 0, *base: Any) -> Any:
    """``int(x)``: as ``to_float``; nan, inf and huge values raise."""
    if type(value) is PyScalar and not base:
        return py_apply(int, session, value)
    if type(value) is not Tracer:
        return int(value, *base) if base else int(value)
    known = plain(value)
    if type(known) is not Tracer:
        return int(known)
    _one_number(value, int)
    return to_whole(value)


def to_complex(session: Session, *args: Any) -> Any:
    """``complex(x)`` and ``complex(re, im)``."""
    if not any(type(a) is Tracer for a in args):
        if any(type(a) is PyScalar for a in args):
            return py_apply(complex, session, *args)
        return complex(*args)
    parts = [a if type(a) is PyScalar else as_tracer(session, a) for a in args]
    nodes = [as_dtype(session, p, np.dtype(np.complex128)) for p in parts]
    total = fresh(session, nodes[0], scalar=True)
    if len(nodes) > 1:
        total = total + fresh(session, nodes[1], scalar=True) * 1j
    return python_number(total)


def to_bool(session: Session, value: Any = False) -> Any:
    """``bool(x)``: a traced bool, which no ``if`` can look at."""
    if type(value) is not Tracer or value._like.size != 1 or value.concrete() is not None:
        return bool(value)
    return python_number(value.reshape(()).astype(BOOL))


def _one_number(x: Tracer, kind: type) -> None:
    """Raise what Python raises for arrays, and for complex numbers."""
    if x._like.ndim or (x.dtype.kind == "c" and not x._scalar):
        kind(np.zeros([min(n, 2) for n in x._like.shape], x.dtype))


def _sum(session: Session) -> Override:
    def call(iterable: Any, /, start: Any = 0) -> Any:
        if type(iterable) is not Tracer or iterable._like.ndim == 0 or not len(iterable):
            return sum(iterable, start)
        dtype = np.int64 if iterable.dtype == BOOL else iterable.dtype
        return start + np.add.accumulate(iterable, axis=0, dtype=dtype)[-1]  # one after the other

    return call


def _len(session: Session) -> Override:
    def call(value: Any, /) -> Any:
        return sized(len(value), session) if type(value) is Tracer else len(value)

    return call


def _round(session: Session) -> Override:
    def call(number: Any, ndigits: Any = None) -> Any:
        if type(number) is PyScalar:
            return py_apply(round, session, number, *([] if ndigits is None else [ndigits]))
        if type(number) is not Tracer or not number._scalar:
            return round(number) if ndigits is None else round(number, ndigits)
        if ndigits is None:
            return to_int(session, np.rint(number))
        return rounded(number, ndigits)

    return call


def _type(session: Session) -> Override:
    def call(*args: Any) -> Any:
        if len(args) == 1 and type(args[0]) in (Tracer, PyScalar, Selection):
            return type_of(args[0])
        return type(*args)

    return call


def errstate(session: Session, **kwargs: Any) -> Any:
    """``np.errstate``, unless it asks for what only NumPy's own loops can do."""
    if LOUD & {v for v in kwargs.values() if isinstance(v, str)}:
        raise UnsupportedError(f"{session.location()}: NumPy raises or reports errors")
    return np.errstate(**kwargs)


def _bound(function: Override) -> Callable[[Session], Override]:
    return lambda session: functools.partial(function, session)


_OVERRIDES: dict[str, Callable[[Session], Any]] = {
    "builtins.float": _bound(to_float),
    "builtins.int": _bound(to_int),
    "builtins.bool": _bound(to_bool),
    "builtins.complex": _bound(to_complex),
    "builtins.min": extreme(builtins.min, operator.lt),
    "builtins.max": extreme(builtins.max, operator.gt),
    "builtins.sum": _sum,
    "builtins.len": _len,
    "builtins.round": _round,
    "builtins.type": _type,
    "builtins.isinstance": lambda session: is_instance,
    "numpy.errstate": _bound(errstate),
    "numpy.lib.stride_tricks.as_strided": _bound(functions_shape.as_strided),
    "numpy.mgrid": lambda session: _Grid(session, np.mgrid),
    "numpy.ogrid": lambda session: _Grid(session, np.ogrid),
    "numpy.r_": lambda session: _Joined(session, np.r_, False),
    "numpy.c_": lambda session: _Joined(session, np.c_, True),
}
for _name, _function in CREATION.items():
    _OVERRIDES[f"numpy.{_name}"] = _bound(_function)
for _name in [n for n in vars(math) if callable(getattr(math, n)) and n[0] != "_"]:
    _OVERRIDES[f"math.{_name}"] = _math(_name)
_TYPES: dict[str, Callable[[Session], Any]] = {
    "numpy.ndarray": methods.ndarray,
    "numpy.datetime64": _bound(functools.partial(flat.moment, np.datetime64)),
    "numpy.timedelta64": _bound(functools.partial(flat.moment, np.timedelta64)),
}
_KINDS = {np.dtype(_char).type for _char in "?efdFD" + np.typecodes["AllInteger"]}
for _name, _kind in vars(np).items():
    if isinstance(_kind, type) and _kind in _KINDS:
        _TYPES[f"numpy.{_name}"] = _scalar_type(_kind)
