"""Exponentials, logarithms, powers, roots, trigonometry: elementwise ops with a derivative.

A derivative rule is ``(g, y, *inputs) -> gradient``, in plain NumPy so that it can be traced and
can be tested on arrays. The inputs have the loop's dtypes; what broadcasting and casts did is
undone by the caller.

Complex convention: a cotangent ``g`` stands for the linear map ``dy -> Re(sum(g * dy))``, with no
conjugate anywhere. A holomorphic function therefore multiplies by its derivative, and the gradient
of a real loss in ``z = x + iy`` is ``dL/dx - i dL/dy``.

A zero cotangent gives a zero gradient in every rule (:func:`scaled`), so that NaN in the branch of
a ``where`` that was not taken stops at the next elementwise op. Choices where a derivative does not
exist: ``sqrt`` and ``cbrt`` are infinite at 0 (a norm has 0 there); ``arctan2`` and ``hypot`` have
0 at the origin; in ``a**b`` the gradient in ``a`` is 0 where ``b == 0``, the one in ``b`` is 0
where ``a == 0`` and NaN where a real ``a`` is negative.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from fusec.errors import DTypeError
from fusec.ir.aval import Aval
from fusec.ops.registry import (
    COSTLY,
    MEDIUM,
    NONDIFFERENTIABLE,
    OPS,
    Op,
    broadcast_shape,
    elementwise,
    register,
)

_ufunc: np.ufunc
LN2 = math.log(2.0)
LN10 = math.log(10.0)
DEGREE = math.pi / 180.0


def dispatch(function: Any, *args: Any) -> Any:
    """Offer the call to the first argument that is foreign to NumPy (NEP 18), else None."""
    for x in args:
        handler = getattr(type(x), "__array_function__", None)
        if handler is not None and handler is not np.ndarray.__array_function__:
            return x.__array_function__(function, (type(x),), args, {})
    return None


def scaled(g: Any, d: Any) -> Any:
    """``g * d``, but 0 where ``g`` is 0, even against inf and nan; what derivative rules use.

    An infinite ``g`` against ``d == 0`` gives 0 too: so ``sqrt(x * x)``, and with it every norm,
    has the gradient 0 at 0. It is an op because a ``where`` would be wrong in second derivatives:
    at ``g == 0`` the derivative in ``g`` is still ``d``.

    >>> scaled(np.array([0.0, 2.0, np.inf]), np.array([np.inf, 3.0, 0.0]))
    array([0., 6., 0.])
    """
    if g.dtype != d.dtype:
        dtype = np.result_type(g.dtype, d.dtype)
        return scaled(g.astype(dtype), d.astype(dtype))
    traced = dispatch(scaled, g, d)
    if traced is not None:
        return traced
    with np.errstate(invalid="ignore"):
        return np.where((g == 0) | ((d == 0) & (g == g)), g.dtype.type(0), g * d)


def crossed(g: Any, h: Any) -> Any:
    """``g * h``, but 0 where either is 0, even against inf and nan.

    The derivative of ``scaled(g, d)`` in ``d``: it is 0 where ``g`` is 0, since ``d`` does not
    matter there, and where the cotangent ``h`` is.

    >>> crossed(np.array([0.0, np.nan, 2.0]), np.array([np.nan, 0.0, 3.0]))
    array([0., 0., 6.])
    """
    traced = dispatch(crossed, g, h)
    if traced is not None:
        return traced
    with np.errstate(invalid="ignore"):
        return np.where((g == 0) | (h == 0), g.dtype.type(0), g * h)


def infer_same(x: Aval, *others: Aval) -> Aval:
    """The broadcast shape, with the first input's dtype."""
    return Aval(broadcast_shape(x.shape, *[a.shape for a in others]), x.dtype)


register(
    Op(
        name="scaled",
        family="elementwise",
        impl=scaled,
        infer_aval=infer_same,
        vjp=(lambda h, y, g, d: scaled(h, d), lambda h, y, g, d: crossed(g, h)),
        expr={"f": "fscaled({0}, {1})", "c": "cscaled({0}, {1})"},
        sample=((0.5, 4.0), (-4.0, 4.0)),
    )
)
register(
    Op(
        name="crossed",
        family="elementwise",
        impl=crossed,
        infer_aval=infer_same,
        vjp=(lambda k, y, g, h: crossed(k, h), lambda k, y, g, h: crossed(g, k)),
        expr={"f": "fcrossed({0}, {1})", "c": "ccrossed({0}, {1})"},
        sample=((0.5, 4.0), (-4.0, 4.0)),
    )
)


def _unary(
    ufunc: np.ufunc,
    derivative: Callable[[Any, Any], Any],
    low: float = -4.0,
    high: float = 4.0,
    cost: int = COSTLY,
) -> None:
    """State a function by its derivative ``(y, x)``, sampled between ``low`` and ``high``."""
    name = ufunc.__name__.replace("arc", "a")
    kinds: dict[str, Any] = {"c": f"c{name}({{0}})"} if "D->D" in ufunc.types else {}
    elementwise(
        ufunc.__name__,
        ufunc,
        vjp=(lambda g, y, x: scaled(g, derivative(y, x)),),
        cost=cost,
        sample=((low, high),),
        f=f"{name}({{0}})",
        **kinds,
    )


def _binary(
    ufunc: np.ufunc,
    first: Callable[[Any, Any, Any], Any],
    second: Callable[[Any, Any, Any], Any],
    expr: str,
    sample: tuple[tuple[float, float], ...],
    **more: Any,
) -> None:
    """State a function of two numbers by its derivatives ``(y, a, b)`` in each."""
    elementwise(
        ufunc.__name__,
        ufunc,
        vjp=(
            lambda g, y, a, b: scaled(g, first(y, a, b)),
            lambda g, y, a, b: scaled(g, second(y, a, b)),
        ),
        cost=COSTLY,
        sample=sample,
        f=expr,
        **more,
    )


# Exponentials and logarithms.

_unary(np.exp, lambda y, x: y)
_unary(np.exp2, lambda y, x: y * LN2)
_unary(np.expm1, lambda y, x: y + 1)
_unary(np.log, lambda y, x: 1 / x, 0.1)
_unary(np.log2, lambda y, x: (1 / LN2) / x, 0.1)
_unary(np.log10, lambda y, x: (1 / LN10) / x, 0.1)
_unary(np.log1p, lambda y, x: 1 / (1 + x), -0.9)


def _difference(b: Any, a: Any) -> Any:
    """``b - a``, with 0 for equal infinities."""
    return np.where(np.isinf(a) & (a == b), 0, b - a)


_PAIR = ((-4.0, 4.0), (-4.0, 4.0))
_binary(
    np.logaddexp,
    lambda y, a, b: 1 / (1 + np.exp(_difference(b, a))),
    lambda y, a, b: 1 / (1 + np.exp(_difference(a, b))),
    "select({0} == {1}, {0} + cast_{to}(0.6931471805599453), "
    "fmaximum({0}, {1}) + log1p(exp(-fabs({0} - {1}))))",
    _PAIR,
)
_binary(
    np.logaddexp2,
    lambda y, a, b: 1 / (1 + np.exp2(_difference(b, a))),
    lambda y, a, b: 1 / (1 + np.exp2(_difference(a, b))),
    "select({0} == {1}, {0} + cast_{to}(1.0), fmaximum({0}, {1})"
    " + cast_{to}(1.4426950408889634) * log1p(exp2(-fabs({0} - {1}))))",
    _PAIR,
)

# Powers and roots.


def _power_base(y: Any, a: Any, b: Any) -> Any:
    return scaled(b, a ** (b - 1))


def _power_exponent(y: Any, a: Any, b: Any) -> Any:
    return np.where(a == 0, 0, y * np.log(np.where(a == 0, 1, a)))


_POWER = (_power_base, _power_exponent, "pow_({0}, {1})", ((0.1, 4.0), (-3.0, 3.0)))
_CHECK: dict[str, Any] = {"!": "exponent_bad({1})"}
_COMPLEX_POWER = "cpow({0}, {1})"
_binary(np.power, *_POWER, checked="i", iu="ipow({0}, {1})", c=_COMPLEX_POWER, **_CHECK)
_binary(np.float_power, *_POWER, c=_COMPLEX_POWER)
def _scalar_power(x: Any, y: Any) -> Any:
    """Where the exponent of all elements is 0.5 NumPy takes the root: of -0.0 that is -0.0."""
    return np.where(y == 0.5, np.sqrt(np.where(y == 0.5, x, 0)), np.power(x, y))


_BY_ONE: dict[str, Any] = {"impl": _scalar_power, "expr": {"f": "root_pow({0}, {1})"}}
register(replace(OPS["power"], name="scalar_power", ufunc=None, checked="", **_BY_ONE))


def _whole_power(name: str, sign: int) -> None:
    """``x**n`` or ``x**-n`` for an n that is part of the program; a pass makes it of ``power``."""
    register(
        Op(
            name=name,
            family="elementwise",
            impl=lambda x, n: np.power(x, x.dtype.type(sign * n)),
            infer_aval=lambda x, n: x,
            vjp=NONDIFFERENTIABLE,  # passes run after differentiation
            expr={"f": f"{name}{{n}}({{0}})"},
            cost=MEDIUM,
            sample=((-2.0, 2.0),),
        )
    )


_whole_power("whole_power_", 1)
_whole_power("inverse_power_", -1)
_unary(np.sqrt, lambda y, x: 0.5 / y, 0.1, cost=MEDIUM)
_unary(np.cbrt, lambda y, x: 1 / (3 * y * y), 0.1)
elementwise(
    "square",
    np.square,
    vjp=(lambda g, y, x: scaled(g, 2 * x),),
    iu="imul({0}, {0})",
    f="({0} * {0})",
    c="cmul({0}, {0})",
)
elementwise(
    "reciprocal",
    np.reciprocal,
    vjp=(lambda g, y, x: scaled(g, -y * y),),
    cost=MEDIUM,
    sample=((0.1, 4.0),),
    iu="cast_{to}(freciprocal(cast_f8({0})))",
    f="freciprocal({0})",
    c="creciprocal({0})",
)


def _over(x: Any, y: Any) -> Any:
    """``x / y`` with 0 at the origin, for y >= 0."""
    return x / np.where(y == 0, 1, y)


_binary(
    np.hypot,
    lambda y, a, b: _over(a, y),
    lambda y, a, b: _over(b, y),
    "hypot({0}, {1})",
    ((0.1, 4.0), (-4.0, -0.1)),
)

# Trigonometry.


def _turn(numerator: Any, a: Any, b: Any) -> Any:
    """``numerator / (a * a + b * b)`` without overflow on the way."""
    radius = np.hypot(a, b)
    return _over(_over(numerator, radius), radius)


_unary(np.sin, lambda y, x: np.cos(x))
_unary(np.cos, lambda y, x: -np.sin(x))
_unary(np.tan, lambda y, x: 1 + y * y, -1.2, 1.2)
_unary(np.arcsin, lambda y, x: 1 / np.sqrt((1 - x) * (1 + x)), -0.9, 0.9)
_unary(np.arccos, lambda y, x: -1 / np.sqrt((1 - x) * (1 + x)), -0.9, 0.9)
_unary(np.arctan, lambda y, x: 1 / (1 + x * x))
_binary(
    np.arctan2,
    lambda y, a, b: _turn(b, a, b),
    lambda y, a, b: _turn(-a, a, b),
    "atan2({0}, {1})",
    ((0.1, 4.0), (-4.0, 4.0)),
)
_unary(np.sinh, lambda y, x: np.cosh(x))
_unary(np.cosh, lambda y, x: np.sinh(x))
_unary(np.tanh, lambda y, x: (1 - y) * (1 + y))
_unary(np.arcsinh, lambda y, x: 1 / np.sqrt(1 + x * x))
_unary(np.arccosh, lambda y, x: 1 / (np.sqrt(x - 1) * np.sqrt(x + 1)), 1.5)
_unary(np.arctanh, lambda y, x: 1 / ((1 - x) * (1 + x)), -0.9, 0.9)
for _ufunc in (np.deg2rad, np.radians):
    elementwise(_ufunc.__name__, _ufunc, vjp=(lambda g, y, x: g * DEGREE,), f="deg2rad({0})")
for _ufunc in (np.rad2deg, np.degrees):
    elementwise(_ufunc.__name__, _ufunc, vjp=(lambda g, y, x: g / DEGREE,), f="rad2deg({0})")

# The error function, which NumPy lacks.

_erf = np.frompyfunc(math.erf, 1, 1)


def erf(x: Any) -> Any:
    """The error function of a float32 or float64 array, computed in float64 by ``math.erf``.

    >>> erf(np.array([0.0, 1.0]))
    array([0.        , 0.84270079])
    """
    traced = dispatch(erf, x)
    if traced is not None:
        return traced
    return np.asarray(_erf(np.asarray(x, "f8")), "f8").astype(x.dtype)


def _infer_erf(x: Aval) -> Aval:
    if x.dtype not in (np.float32, np.float64):
        raise DTypeError(f"erf takes float32 and float64, not {x.dtype}")
    return x


register(
    Op(
        name="erf",
        family="elementwise",
        impl=erf,
        infer_aval=_infer_erf,
        vjp=(lambda g, y, x: scaled(g, (2 / math.sqrt(math.pi)) * np.exp(-x * x)),),
        expr={"f": "erf({0})"},
        cost=COSTLY,
        sample=((-3.0, 3.0),),
    )
)
