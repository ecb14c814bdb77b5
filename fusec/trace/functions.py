"""NumPy's functions on traced values: look up an implementation, else call NumPy at run time.

The implementations are in ``functions_reduce``, ``functions_shape``, ``functions_linalg`` and
``functions_misc``; ``compose`` runs what NumPy itself writes in Python over other functions.
"""

from typing import Any

import numpy as np

from fusec.errors import DataDependentShapeError, UnsupportedError, unsupported
from fusec.ops.registry import loop_dtypes
from fusec.trace import (  # noqa: F401  (each registers its functions)
    compose,
    functions_bits,
    functions_index,
    functions_linalg,
    functions_misc,
    functions_nan,
    functions_pad,
    functions_reduce,
    functions_search,
    functions_shape,
)
from fusec.trace.functions_index import of_constants
from fusec.trace.hostcalls import host_call
from fusec.trace.session import Session
from fusec.trace.standin import result_like
from fusec.trace.table import (
    FUNCTIONS,
    ToHost,
    apply,
    need_array,
    number,
    wrap,
)
from fusec.trace.tracer import Tracer, as_tracer, k_like
from fusec.trace.ufuncs import store_out, weak_type

__all__ = ["FUNCTIONS", "call_function", "call_special_ufunc", "call_ufunc_method"]

DATA_DEPENDENT = frozenset([
        "unique", "unique_all", "unique_counts", "unique_inverse", "unique_values",
        "nonzero", "flatnonzero", "argwhere", "setdiff1d",
        "setxor1d", "intersect1d", "union1d", "trim_zeros", "mask_indices",
])  # fmt: skip
"""Functions whose result shape depends on data."""

_IMPURE = frozenset(["save", "savez", "savez_compressed", "savetxt"])
_TEXT = frozenset(["array2string", "array_repr", "array_str", "datetime_as_string"])


def call_function(session: Session, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """What ``func(*args, **kwargs)`` gives for traced values (``__array_function__``)."""
    implementation = FUNCTIONS.get(func)
    if implementation is not None:
        try:
            return implementation(session, *args, **kwargs)
        except ToHost:
            return host_call(session, func, args, kwargs)
    if compose.covers(func):
        first, known = len(session.checks), len(unsupported())
        try:
            return compose.call(session, func, args, kwargs)
        except DataDependentShapeError:
            raise
        except (UnsupportedError, ToHost, *compose.UNFIT):
            del session.checks[first:], unsupported()[known:]
            return host_call(session, func, args, kwargs)
    name = getattr(func, "__name__", str(func))
    module = getattr(func, "__module__", "")
    if module.startswith("numpy.random") or name in _IMPURE:
        return session.forbid(f"{module}.{name}")
    if name in DATA_DEPENDENT:
        return of_constants(session, func, args, kwargs)
    if name in _TEXT:
        raise UnsupportedError(f"{session.location()}: np.{name} of a traced array has no value")
    return host_call(session, func, args, kwargs)


# -- methods of ufuncs ----------------------------------------------------------------------------


def call_ufunc_method(
    session: Session, ufunc: np.ufunc, method: str, inputs: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """``np.add.reduce(x)``, ``np.add.outer(a, b)`` and the like."""
    try:
        return _METHODS[method](session, ufunc, inputs, kwargs)
    except ToHost:
        return host_call(session, getattr(ufunc, method), inputs, kwargs)


def _along(implementation: Any, *names: str) -> Any:
    """``reduce`` and ``accumulate``: along the first axis unless told otherwise."""

    def call(session: Session, ufunc: np.ufunc, inputs: Any, kwargs: dict[str, Any]) -> Any:
        args = {"axis": 0, **dict(zip(("a", "axis", "dtype", "out", *names), inputs)), **kwargs}
        if isinstance(args.get("out"), tuple):
            args["out"] = args["out"][0]
        return implementation(session, ufunc, **args)

    return call


def _outer(session: Session, ufunc: np.ufunc, inputs: Any, kwargs: dict[str, Any]) -> Any:
    a, b = inputs
    if weak_type(a) is None and weak_type(b) is None:
        a, b = as_tracer(session, a), as_tracer(session, b)
        a = a.reshape(a._like.shape + (1,) * b._like.ndim)
    return ufunc(a, b, **kwargs)


def _at(session: Session, ufunc: np.ufunc, inputs: Any, kwargs: dict[str, Any]) -> None:
    target = as_tracer(session, inputs[0])
    less = ufunc is np.subtract
    if (less or ufunc is np.add) and functions_index.add_at(target, *inputs[1:], less):
        return

    def at(x: Any, *rest: Any) -> Any:
        out = np.array(x)
        ufunc.at(out, *rest)
        return out

    at.__qualname__ = f"{ufunc.__name__}.at"
    done = host_call(session, at, (target, *inputs[1:]), kwargs, likes=[target._like])
    target.write(session.cast(done.node, target.dtype))


def _to_host(session: Session, ufunc: np.ufunc, inputs: Any, kwargs: dict[str, Any]) -> Any:
    raise ToHost


_METHODS = {
    "reduce": _along(functions_reduce.fold, "keepdims", "initial", "where"),
    "accumulate": _along(functions_reduce.accumulate),
    "outer": _outer,
    "at": _at,
    "reduceat": _to_host,
}

# -- ufuncs that are no elementwise op ------------------------------------------------------------


def call_special_ufunc(
    session: Session, ufunc: np.ufunc, inputs: tuple[Any, ...], out: Any, kwargs: dict[str, Any]
) -> Any:
    """Ufuncs with a core signature or several results, and ufuncs that have no op."""
    outs = out if isinstance(out, tuple) else (out,) * ufunc.nout
    special = _SPECIAL.get(ufunc.__name__)
    try:
        if special is None or kwargs.keys() - {"where", "casting"}:
            raise ToHost
        results = special(session, *inputs)
    except ToHost:
        results = _host_ufunc(session, ufunc, inputs, kwargs)
    if ufunc.nout == 1 and not isinstance(results, tuple):
        results = (results,)
    for target in outs:
        need_array(target)
    if len(outs) > 1 and any(o is not None and o.shape != r.shape for r, o in zip(results, outs)):
        raise UnsupportedError(f"{session.location()}: np.{ufunc.__name__} with a larger out=")
    results = tuple([_into(session, r, o, kwargs) for r, o in zip(results, outs)])
    return results[0] if ufunc.nout == 1 else results


def _into(session: Session, result: Any, out: Any, kwargs: dict[str, Any]) -> Any:
    where = kwargs.get("where", True)
    if out is None and where is True:
        return result
    casting = kwargs.get("casting", "same_kind")
    if out is not None and not np.can_cast(result.dtype, out.dtype, casting):
        raise np._core._exceptions.UFuncTypeError(np.positive) from None
    return store_out(session, result.node, out, where, [result])


def _host_ufunc(
    session: Session, ufunc: np.ufunc, inputs: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    kwargs = {k: v for k, v in kwargs.items() if k != "where"}
    if ufunc.signature is not None:
        return host_call(session, ufunc, inputs, kwargs)
    values = [v if weak_type(v) else as_tracer(session, v) for v in inputs]
    shape = np.broadcast_shapes(*[v._like.shape for v in values if type(v) is Tracer])
    tiny = [np.ones((0,), v.dtype) if type(v) is Tracer else number(v) for v in values]
    probe = ufunc(*tiny, **kwargs)
    probes = probe if isinstance(probe, tuple) else (probe,)
    operands = [v._like for v in values if type(v) is Tracer]
    likes = [result_like(shape, p.dtype, operands) for p in probes]
    return host_call(session, ufunc, tuple(values), kwargs, likes=likes)


def _divmod(session: Session, a: Any, b: Any) -> Any:
    return apply(session, np.floor_divide, a, b), apply(session, np.remainder, a, b)


def _modf(session: Session, x: Any) -> Any:
    x = as_tracer(session, x)
    if x.dtype.kind != "f":
        x = x.astype(np.modf(np.ones((0,), x.dtype))[0].dtype)
    whole = apply(session, np.trunc, x)
    rest = np.where(np.isinf(x), x.dtype.type(0), x - whole)
    return apply(session, np.copysign, rest, x), whole


def _frexp(session: Session, x: Any) -> Any:
    x = as_tracer(session, x)
    node = session.cast(x.node, loop_dtypes(np.frexp, (x.dtype,))[0])
    parts = [session.make(f"frexp_{name}", node) for name in ("mantissa", "exponent")]
    return tuple([wrap(session, part, k_like(part, [x])) for part in parts])


def _erf(session: Session, x: Any) -> Any:
    x = as_tracer(session, x)
    if x.dtype.kind not in "fiub" or x.dtype == np.float16 or x._like.size == 0:
        raise ToHost
    x = x.astype(x.dtype if x.dtype.kind == "f" else np.float64)
    return wrap(session, session.make("erf", x.node))


_SPECIAL = {
    "matmul": functions_linalg.matmul,
    "vecdot": functions_linalg.vecdot,
    "matvec": functions_linalg.matvec,
    "vecmat": functions_linalg.vecmat,
    "divmod": _divmod,
    "modf": _modf,
    "frexp": _frexp,
    "erf": _erf,
}

