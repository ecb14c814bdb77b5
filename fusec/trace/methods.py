"""Methods of traced arrays and NumPy scalars: each is one of NumPy's functions, or close to it."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from fusec.trace import (
    create,
    flags,
    functions,
    functions_index,
    functions_misc,
    functions_position,
    functions_reduce,
    functions_shape,
    indexing,
    pynumbers,
    views,
)
from fusec.trace.flags import is_writeable
from fusec.trace.hostcalls import host_call
from fusec.trace.session import Session
from fusec.trace.table import ToHost, plain
from fusec.trace.tracer import Tracer, fresh

METHODS: dict[str, Callable[..., Any]] = {}


def _by_function(name: str, implementation: Callable[..., Any]) -> Callable[..., Any]:
    def method(x: Tracer, *args: Any, **kwargs: Any) -> Any:
        try:
            return implementation(x._session, x, *args, **kwargs)
        except ToHost:
            return host_call(x._session, _Named(name), (x, *args), kwargs)

    return method


class _Named:
    """Calls a method of its first argument, array or NumPy scalar, by name."""

    def __init__(self, name: str) -> None:
        self.__name__ = name

    def __call__(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        return getattr(x, self.__name__)(*args, **kwargs)


def _through_numpy(function: Any) -> Callable[..., Any]:
    """A method that is NumPy's function of the same arguments, whatever that needs."""
    return lambda x, *args, **kwargs: functions.call_function(
        x._session, function, (x, *args), kwargs
    )


def _method(function: Callable[..., Any]) -> Callable[..., Any]:
    METHODS[function.__name__.strip("_")] = function
    return function


for _name, _implementation in {
    "sum": functions_reduce.sum_, "prod": functions_reduce.prod, "max": functions_reduce.max_,
    "min": functions_reduce.min_, "any": functions_reduce.any_, "all": functions_reduce.all_,
    "mean": functions_reduce.mean, "var": functions_reduce.var, "std": functions_reduce.std,
    "argmax": functions_position.argmax, "argmin": functions_position.argmin,
    "cumsum": functions_reduce.cumsum, "cumprod": functions_reduce.cumprod,
    "clip": functions_misc.clipped, "round": functions_misc.round_, "take": functions_index.take,
    "put": functions_index.put, "choose": functions_index.choose, "astype": functions_misc.astype,
    "ravel": functions_shape.ravel, "flatten": functions_shape.flatten,
    "swapaxes": functions_shape.swapaxes, "squeeze": functions_shape.squeeze,
    "repeat": functions_shape.repeat, "diagonal": functions_shape.diagonal,
    "trace": functions_shape.trace,
}.items():  # fmt: skip
    METHODS[_name] = _by_function(_name, _implementation)
for _name in ("dot", "argsort", "argpartition", "searchsorted"):
    METHODS[_name] = _through_numpy(getattr(np, _name))


@_method
def conjugate(x: Tracer, out: Any = None) -> Any:
    """``x.conjugate()``: real arrays and numbers themselves."""
    if x.dtype.kind != "c" and out is None:
        return x
    made = np.conjugate(x, out=out)
    return pynumbers.python_number(made) if x._storage.item else made


METHODS["conj"] = METHODS["conjugate"]


@_method
def reshape(x: Tracer, *shape: Any, order: str = "C", copy: Any = None) -> Tracer:
    """``x.reshape(3, 4)`` or ``x.reshape((3, 4))``."""
    wanted = shape[0] if len(shape) == 1 else shape
    if not shape:
        raise TypeError("reshape() takes exactly 1 argument (0 given)")
    return functions_shape.reshape(x._session, x, wanted, order, copy=copy)


METHODS["item"] = pynumbers.item


@_method
def transpose(x: Tracer, *axes: Any) -> Tracer:
    """``x.transpose(1, 0)``, ``x.transpose((1, 0))`` or ``x.transpose()``."""
    wanted: Any = axes or None
    if len(axes) == 1 and (axes[0] is None or np.ndim(plain(axes[0]))):
        wanted = axes[0]
    return functions_shape.transpose(x._session, x, wanted)


@_method
def copy(x: Tracer, order: str = "C") -> Tracer:
    """``x.copy()``: C order unless asked otherwise; NumPy scalars stay scalars."""
    np.empty(0).copy(order)  # raises for orders that there are not
    made = views.copy(x, order)
    return fresh(x._session, made.node, made._like, scalar=x._scalar)


@_method
def fill(x: Tracer, value: Any) -> None:
    """``x.fill(value)``."""
    x[...] = indexing.single(x, value)


@_method
def sort(x: Tracer, axis: Any = -1, kind: Any = None, order: Any = None, *,
         stable: Any = None) -> None:
    """``x.sort()``, in place."""
    _write_result(x, np.sort, axis, kind=kind, stable=stable)


@_method
def partition(x: Tracer, kth: Any, axis: Any = -1, kind: str = "introselect",
              order: Any = None) -> None:
    """``x.partition(kth)``, in place."""
    _write_result(x, np.partition, kth, axis=axis, kind=kind)


def _write_result(x: Tracer, function: Any, *args: Any, **kwargs: Any) -> None:
    if not is_writeable(x):
        raise ValueError(f"{function.__name__} array is read-only")
    x.write(functions.call_function(x._session, function, (x, *args), kwargs).node)


METHODS["nonzero"] = _through_numpy(np.nonzero)
METHODS["compress"] = lambda x, condition, *args, **kwargs: np.compress(
    condition, x, *args, **kwargs
)


@_method
def setflags(x: Tracer, write: Any = None, align: Any = None, uic: Any = None) -> None:
    """``x.setflags(write=...)``."""
    if write is not None:
        flags.set_writeable(x, write)


@_method
def byteswap(x: Tracer, inplace: bool = False) -> Tracer:
    """``x.byteswap()``, by NumPy."""
    done = host_call(x._session, _Named("byteswap"), (x,), {}, likes=[x.copy("K")._like])
    if inplace:
        x.write(done.node)
        return x
    return done


def ndarray(session: Session) -> Callable[..., Any]:
    """``np.ndarray(shape, dtype)``, and its methods as functions: ``np.ndarray.sum(x)``."""
    made = functools.partial(create.ndarray, session)
    made.attributes = {  # type: ignore[attr-defined]
        name: _unbound(name) for name in vars(np.ndarray) if name[0] != "_"
    }
    return made


def _unbound(name: str) -> Callable[..., Any]:
    real = getattr(np.ndarray, name)

    def call(x: Any, *args: Any, **kwargs: Any) -> Any:
        method = functools.partial(real, x) if type(x) is not Tracer else getattr(x, name)
        return method(*args, **kwargs)

    return call if callable(real) else real
