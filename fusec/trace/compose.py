"""Functions that NumPy writes in Python over other functions, run as NumPy wrote them.

``np.gradient`` or ``np.tensordot`` are Python code over slices, products and ``asarray``. A twin of
that code, whose globals map the creation functions to those for traced values, gives NumPy's own
semantics, errors included, for the installed version. What a twin cannot run is a host call.
"""

import builtins
import threading
import types
from collections.abc import Callable
from typing import Any

import numpy as np

from fusec.errors import ConcreteValueError, TracerBoolError
from fusec.trace.extremes import settle
from fusec.trace.scalars import sized
from fusec.trace.session import Session
from fusec.trace.tracer import Tracer, as_tracer, contains_traced
from fusec.trace.tree import flatten
from fusec.trace.ufuncs import weak_type

UNFIT = (ConcreteValueError, TracerBoolError)
"""What a twin raises where NumPy's code looks at values."""

COMPOSED = frozenset([
        "angle", "append", "apply_over_axes", "array_split", "astype", "atleast_1d",
        "atleast_2d", "atleast_3d", "block", "column_stack", "cov", "corrcoef",
        "cumulative_prod", "cumulative_sum", "delete", "diagflat", "diff", "dsplit",
        "dstack", "ediff1d", "expand_dims", "flip", "fliplr", "flipud", "gradient", "hsplit",
        "hstack", "i0", "insert", "iscomplex", "isneginf", "isposinf", "isreal", "ix_",
        "kron", "logspace", "geomspace", "matrix_power", "matrix_transpose",
        "meshgrid", "moveaxis", "multi_dot", "nan_to_num", "norm", "outer", "polyadd",
        "polyder", "polyint", "polymul", "polysub", "polyval", "put_along_axis", "resize",
        "rollaxis", "rot90", "sinc", "split", "stack", "take_along_axis", "tensordot",
        "trapezoid", "unstack", "unwrap", "vander", "vsplit", "vstack", "fftshift",
        "ifftshift", "vector_norm", "matrix_norm", "vecdot", "cross", "isclose", "matmul",
        "trace", "diagonal", "diag_indices_from", "tril_indices_from", "triu_indices_from",
])  # fmt: skip
"""Names of the functions that are composed; the same names in ``numpy.linalg`` too."""

_current = threading.local()
_twins: dict[int, tuple[Any, Any]] = {}
_namespaces: dict[int, dict[str, Any]] = {}


def covers(func: Any) -> bool:
    """Whether ``func`` is NumPy's Python code that a twin can run."""
    inner = getattr(func, "_implementation", None)
    return isinstance(inner, types.FunctionType) and func.__name__ in COMPOSED


def call(session: Session, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Run the twin of ``func`` in ``session``."""
    settle(flatten((args, kwargs))[0])
    before = getattr(_current, "session", None)
    _current.session = session
    ask, session.ask = session.ask, None  # NumPy decides on values of its own when it is called
    try:
        return _twin(func._implementation)(*args, **kwargs)
    finally:
        _current.session, session.ask = before, ask


def _twin(function: types.FunctionType) -> Callable[..., Any]:
    found = _twins.get(id(function))
    if found is None:
        names = _namespace(function.__globals__)
        made = types.FunctionType(
            function.__code__, names, function.__name__, function.__defaults__, function.__closure__
        )
        made.__kwdefaults__ = function.__kwdefaults__
        found = _twins[id(function)] = (function, made)
    return found[1]


def _namespace(real: dict[str, Any]) -> dict[str, Any]:
    """The globals of a NumPy module with the functions below in place of NumPy's own."""
    found = _namespaces.get(id(real))
    if found is None:
        found = _namespaces[id(real)] = {"len": _len}
        for name, value in list(real.items()):
            found[name] = _mapped(value)
    return found


def _mapped(value: Any) -> Any:
    if isinstance(value, types.ModuleType):
        return _Module(value) if value.__name__.startswith("numpy") else value
    stand_in = _CREATION.get(id(value))
    if stand_in is not None:
        return stand_in[1]
    if isinstance(value, types.FunctionType) and value.__module__.startswith("numpy"):
        return _Lazy(value)
    return value


class _Module:
    """A NumPy module seen from a twin."""

    def __init__(self, module: types.ModuleType) -> None:
        self.__dict__["_fusec_module"] = module

    def __getattr__(self, name: str) -> Any:
        return _mapped(getattr(self._fusec_module, name))


class _Lazy:
    """A helper of NumPy's, whose twin is made when it is called."""

    def __init__(self, function: types.FunctionType) -> None:
        self._function = function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return _twin(self._function)(*args, **kwargs)


def _len(value: Any) -> Any:
    n = builtins.len(value)
    return sized(n, value._session) if type(value) is Tracer else n


def _creation() -> dict[int, tuple[Any, Any]]:
    """NumPy's creation functions and what stands for them in a twin, by identity."""
    table: dict[int, tuple[Any, Any]] = {}
    for name in ("zeros", "empty", "ones", "full", "arange", "eye", "identity", "tri", "indices"):
        table[id(getattr(np, name))] = (getattr(np, name), _Creation(name, always=True))
    for function in vars(np).values():  # the C code behind the protocol, which some modules call
        inner = getattr(function, "_implementation", None)
        if isinstance(inner, types.BuiltinFunctionType):
            table[id(inner)] = (inner, function)
    for name in ("array", "asarray", "asanyarray", "ascontiguousarray", "asfortranarray"):
        table[id(getattr(np, name))] = (getattr(np, name), _Creation(name, always=False))
    return table


class _Creation:
    """A creation function inside a twin: traced where it has to be, NumPy's otherwise."""

    def __init__(self, name: str, always: bool) -> None:
        self.name = name
        self.always = always

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        from fusec.trace.overrides import CREATION

        if not self.always and not contains_traced(args[0]):
            return getattr(np, self.name)(*args, **kwargs)
        return CREATION[self.name](_current.session, *args, **kwargs)


class _Converter:
    """Stands for NumPy's own ``_array_converter``: what it turned into arrays, it turns back."""

    def __init__(self, *args: Any) -> None:
        session = _current.session
        self.args = args
        self.arrays = tuple([as_tracer(session, a) for a in args])
        self.scalar_input = tuple([
            weak_type(a) is not None or getattr(a, "_scalar", isinstance(a, np.generic))
            for a in args
        ])  # fmt: skip

    def as_arrays(self, subok: bool = True, pyscalars: str = "convert") -> tuple[Any, ...]:
        return self.arrays

    def __getitem__(self, index: Any) -> Any:
        return self.arrays[index]

    def __len__(self) -> int:
        return len(self.arrays)

    def result_type(self, extra_dtype: Any = None, ensure_inexact: bool = False) -> np.dtype:
        samples = [
            weak_type(a)(1) if weak_type(a) not in (None, bool) else x.dtype
            for a, x in zip(self.args, self.arrays)
        ]
        samples += [] if extra_dtype is None else [extra_dtype]
        return np.result_type(*samples, *([1.0] if ensure_inexact else []))

    def wrap(self, array: Any, to_scalar: Any = None) -> Any:
        single = all(self.scalar_input) if to_scalar is None else to_scalar
        return array[()] if single and np.ndim(array) == 0 else array


_CREATION = _creation()
_real = np.lib._function_base_impl._array_converter
_CREATION[id(_real)] = (_real, _Converter)
