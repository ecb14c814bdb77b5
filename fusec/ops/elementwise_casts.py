"""Elementwise ops that are no ufuncs: casts, parts of complex numbers, selection and checks.

Derivative rules follow ``elementwise_math``; ``where`` gives its condition no gradient.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from fusec.ir.aval import Aval, short
from fusec.ops.elementwise_math import infer_same, scaled
from fusec.ops.registry import NONDIFFERENTIABLE, Op, broadcast_shape, register


def _statement(
    name: str,
    impl: Callable[..., Any],
    infer: Callable[..., Aval],
    vjp: Any,
    expr: dict[str, str],
    sample: tuple[tuple[float, float], ...] = ((-4.0, 4.0),),
) -> Op:
    return register(
        Op(
            name=name,
            family="elementwise",
            impl=impl,
            infer_aval=infer,
            vjp=vjp,
            expr=expr,
            sample=sample,
            checked="biufc" if "!" in expr else "",
        )
    )


def _cast(x: Any, dtype: np.dtype) -> Any:
    if x.dtype.kind == "c" and dtype.kind != "c":
        x = x.real if dtype.kind != "b" else x != 0
    with np.errstate(invalid="ignore", over="ignore"):
        return x.astype(dtype)


def _cast_vjp(g: Any, y: Any, x: Any, dtype: np.dtype) -> Any:
    if x.dtype.kind != "c" and g.dtype.kind == "c":
        g = np.real(g)
    return g.astype(x.dtype)


_REAL: dict[str, np.dtype] = {"c8": np.dtype("f4"), "c16": np.dtype("f8")}
_COMPLEX: dict[str, np.dtype] = {"f4": np.dtype("c8"), "f8": np.dtype("c16")}


def _infer_part(z: Aval) -> Aval:
    return Aval(z.shape, _REAL[short(z.dtype)])


def _make_complex(re: Any, im: Any) -> Any:
    z = np.empty(np.broadcast_shapes(re.shape, im.shape), np.result_type(re.dtype, "c8"))
    z.real, z.imag = re, im
    return z


def _infer_make(re: Aval, im: Aval) -> Aval:
    return Aval(broadcast_shape(re.shape, im.shape), _COMPLEX[short(re.dtype)])


_statement(
    "cast",
    _cast,
    lambda x, dtype: Aval(x.shape, dtype),
    (_cast_vjp,),
    dict.fromkeys("biufc", "cast_{to}({0})"),
)
_statement("real", np.real, _infer_part, (lambda g, y, z: g.astype(z.dtype),), {"c": "creal({0})"})
_statement("imag", np.imag, _infer_part, (lambda g, y, z: -1j * g,), {"c": "cimag({0})"})
_statement(
    "make_complex",
    _make_complex,
    _infer_make,
    (lambda g, y, re, im: np.real(g), lambda g, y, re, im: -np.imag(g)),
    {"f": "cmake({0}, {1})"},
    ((-4.0, 4.0), (-4.0, 4.0)),
)
_statement(
    "multiply_add",  # two roundings, as the two ops have
    lambda a, b, c: a * b + c,
    infer_same,
    (
        lambda g, y, a, b, c: scaled(g, b),
        lambda g, y, a, b, c: scaled(g, a),
        lambda g, y, a, b, c: g,
    ),
    {"b": "(({0} & {1}) | {2})", "f": "(({0} * {1}) + {2})", "c": "cadd(cmul({0}, {1}), {2})"}
    | dict.fromkeys("iu", "iadd(imul({0}, {1}), {2})"),
    ((-4.0, 4.0), (-4.0, 4.0), (-4.0, 4.0)),
)
_statement(
    "where",
    np.where,
    lambda c, a, b: infer_same(a, b, c),
    (None, lambda g, y, c, a, b: np.where(c, g, 0), lambda g, y, c, a, b: np.where(c, 0, g)),
    {"b": "select({0}, {1}, {2})"},
    ((-1.0, 1.0), (-4.0, 4.0), (-4.0, 4.0)),
)


# ``identity`` tells the inputs of one differentiation from all else that has their value;
# ``stop_gradient`` is a constant to differentiation. The passes take both away; they make
# an ``identity`` themselves where they want a copy.
for _name, _rule in (("identity", (lambda g, y, x: g,)), ("stop_gradient", NONDIFFERENTIABLE)):
    _statement(_name, lambda x: x, lambda x: x, _rule, dict.fromkeys("biufc", "{0}"))


def _wrap_index(index: Any, n: Any) -> Any:
    index, n = np.broadcast_arrays(index, n)
    bad = (index < -n) | (index >= n)
    if bad.any():
        raise IndexError(f"index {index[bad][0]} is out of bounds for an axis of size {n[bad][0]}")
    return np.where(index < 0, index + n, index)


def _count_index(index: Any, n: Any) -> Any:
    if np.any(index < 0):
        raise ValueError("an index must not be negative")
    return _wrap_index(index, n)


def _check(value: Any, condition: Any) -> Any:
    if not np.all(condition):
        text = "a checked condition does not hold"
        raise ValueError(f"{text}: np.searchsorted under vmap or grad takes sorted tables only")
    return np.broadcast_arrays(value, condition)[0]


register(
    Op(
        name="bitcast",
        family="elementwise",
        impl=lambda x, dtype: x.view(dtype),
        infer_aval=lambda x, dtype: Aval(x.shape, dtype),
        vjp=NONDIFFERENTIABLE,
        expr=dict.fromkeys("iuf", "bits_{to}({0})"),
    )
)
# Indices of an axis of n elements: negative ones count from its end, or are errors.
for _name, _impl, _bad in (
    ("wrap_index", _wrap_index, "index_bad"),
    ("count_index", _count_index, "count_bad"),
):
    register(
        Op(
            name=_name,
            family="elementwise",
            impl=_impl,
            infer_aval=infer_same,
            vjp=NONDIFFERENTIABLE,
            expr={"i": f"{_name}({{0}}, {{1}})", "!": f"{_bad}({{0}}, {{1}})"},
            checked="i",
            sample=((-8.0 if _impl is _wrap_index else 0.0, 8.0), (8.0, 9.0)),
        )
    )
_statement(
    "check",
    _check,
    infer_same,
    (lambda g, y, value, condition: g, None),
    {**dict.fromkeys("biufc", "{0}"), "!": "(not {1})"},
)
