"""Exponentials, logarithms, powers, roots, trigonometry: elementwise ops with a derivative.

A derivative rule is ``(g, y, *inputs) -> gradient``, in plain NumPy so that it can be traced and
can be tested on arrays. The inputs have the loop's dtypes; what broadcasting and casts did is
undone by the caller.

Complex convention: a cotangent ``g`` stands for the linear map ``dy -> Re(sum(g * dy))``, with no
conjugate anywhere. A holomorphic function therefore multiplies by its derivative, and the gradient
of a real loss in ``z = x + iy`` is ``dL/dx - i dL/dy``.

A zero cotangent gives a zero gradient in every rule (:func:`scaled`), so that the branch of a
``where`` that was not taken lets no NaN through. Choices where a derivative does not exist:
``sqrt`` and ``cbrt`` are infinite at 0; ``arctan2`` and ``hypot`` have 0 at the origin; in ``a**b``
the gradient in ``a`` is 0 where ``b == 0``, the one in ``b`` is 0 where ``a == 0`` and NaN where a
real ``a`` is negative.
"""

import math
from typing import Any

import numpy as np

from fusec.errors import DTypeError
from fusec.ir.aval import Aval
from fusec.ops.registry import COSTLY, MEDIUM, Op, broadcast_shape, elementwise, register

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

    It is an op because a ``where`` would be wrong in second derivatives: at ``g == 0`` the
    derivative in ``g`` is still ``d``.

    >>> scaled(np.array([0.0, 2.0]), np.array([np.inf, 3.0]))
    array([0., 6.])
    """
    if g.dtype != d.dtype:
        dtype = np.result_type(g.dtype, d.dtype)
        return scaled(g.astype(dtype), d.astype(dtype))
    traced = dispatch(scaled, g, d)
    if traced is not None:
        return traced
    with np.errstate(invalid="ignore"):
        return np.where(g == 0, g.dtype.type(0), g * d)


def infer_same(x: Aval, *others: Aval) -> Aval:
    """The broadcast shape, with the first input's dtype."""
    return Aval(broadcast_shape(x.shape, *[a.shape for a in others]), x.dtype)


register(
    Op(
        name="scaled",
        family="elementwise",
        impl=scaled,
        infer_aval=infer_same,
        vjp=(lambda h, y, g, d: scaled(h, d), lambda h, y, g, d: scaled(h, g)),
        expr={"f": "fscaled({0}, {1})", "c": "cscaled({0}, {1})"},
        sample=((0.5, 4.0), (-4.0, 4.0)),
    )
)

# Exponentials and logarithms.

elementwise("exp", np.exp, vjp=(lambda g, y, x: scaled(g, y),), cost=COSTLY, f="exp({0})")
elementwise("exp2", np.exp2, vjp=(lambda g, y, x: scaled(g, y * LN2),), cost=COSTLY, f="exp2({0})")
elementwise("expm1", np.expm1, vjp=(lambda g, y, x: scaled(g, y + 1),), cost=COSTLY, f="expm1({0})")
_POSITIVE = ((0.1, 4.0),)
elementwise(
    "log",
    np.log,
    vjp=(lambda g, y, x: scaled(g, 1 / x),),
    cost=COSTLY,
    sample=_POSITIVE,
    f="log({0})",
)
elementwise(
    "log2",
    np.log2,
    vjp=(lambda g, y, x: scaled(g, (1 / LN2) / x),),
    cost=COSTLY,
    sample=_POSITIVE,
    f="log2({0})",
)
elementwise(
    "log10",
    np.log10,
    vjp=(lambda g, y, x: scaled(g, (1 / LN10) / x),),
    cost=COSTLY,
    sample=_POSITIVE,
    f="log10({0})",
)
elementwise(
    "log1p",
    np.log1p,
    vjp=(lambda g, y, x: scaled(g, 1 / (1 + x)),),
    cost=COSTLY,
    sample=((-0.9, 4.0),),
    f="log1p({0})",
)


def _difference(b: Any, a: Any) -> Any:
    """``b - a``, with 0 for equal infinities."""
    return np.where(np.isinf(a) & (a == b), 0, b - a)


elementwise(
    "logaddexp",
    np.logaddexp,
    vjp=(
        lambda g, y, a, b: scaled(g, 1 / (1 + np.exp(_difference(b, a)))),
        lambda g, y, a, b: scaled(g, 1 / (1 + np.exp(_difference(a, b)))),
    ),
    cost=COSTLY,
    sample=((-4.0, 4.0), (-4.0, 4.0)),
    f="select({0} == {1}, {0} + cast_{to}(0.6931471805599453), "
    "fmaximum({0}, {1}) + log1p(exp(-fabs({0} - {1}))))",
)
elementwise(
    "logaddexp2",
    np.logaddexp2,
    vjp=(
        lambda g, y, a, b: scaled(g, 1 / (1 + np.exp2(_difference(b, a)))),
        lambda g, y, a, b: scaled(g, 1 / (1 + np.exp2(_difference(a, b)))),
    ),
    cost=COSTLY,
    sample=((-4.0, 4.0), (-4.0, 4.0)),
    f="select({0} == {1}, {0} + cast_{to}(1.0), fmaximum({0}, {1})"
    " + cast_{to}(1.4426950408889634) * log1p(exp2(-fabs({0} - {1}))))",
)

# Powers and roots.


def _power_base(g: Any, y: Any, a: Any, b: Any) -> Any:
    return scaled(g, scaled(b, a ** (b - 1)))


def _power_exponent(g: Any, y: Any, a: Any, b: Any) -> Any:
    return scaled(g, np.where(a == 0, 0, y * np.log(np.where(a == 0, 1, a))))


_POWER_SAMPLE = ((0.1, 4.0), (-3.0, 3.0))
elementwise(
    "power",
    np.power,
    vjp=(_power_base, _power_exponent),
    cost=COSTLY,
    checked=True,
    sample=_POWER_SAMPLE,
    iu="ipow({0}, {1})",
    f="pow_({0}, {1})",
    **{"!": "exponent_bad({1})"},
)
elementwise(
    "float_power",
    np.float_power,
    vjp=(_power_base, _power_exponent),
    cost=COSTLY,
    sample=_POWER_SAMPLE,
    f="pow_({0}, {1})",
)
elementwise(
    "sqrt",
    np.sqrt,
    vjp=(lambda g, y, x: scaled(g, 0.5 / y),),
    cost=MEDIUM,
    sample=_POSITIVE,
    f="sqrt({0})",
)
elementwise(
    "cbrt",
    np.cbrt,
    vjp=(lambda g, y, x: scaled(g, 1 / (3 * y * y)),),
    cost=COSTLY,
    sample=_POSITIVE,
    f="cbrt({0})",
)
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
    sample=_POSITIVE,
    iu="cast_{to}(freciprocal(cast_f8({0})))",
    f="freciprocal({0})",
    c="creciprocal({0})",
)


def _over(x: Any, y: Any) -> Any:
    """``x / y`` with 0 at the origin, for y >= 0."""
    return x / np.where(y == 0, 1, y)


elementwise(
    "hypot",
    np.hypot,
    vjp=(lambda g, y, a, b: scaled(g, _over(a, y)), lambda g, y, a, b: scaled(g, _over(b, y))),
    cost=COSTLY,
    sample=((0.1, 4.0), (-4.0, -0.1)),
    f="hypot({0}, {1})",
)

# Trigonometry.

elementwise("sin", np.sin, vjp=(lambda g, y, x: scaled(g, np.cos(x)),), cost=COSTLY, f="sin({0})")
elementwise("cos", np.cos, vjp=(lambda g, y, x: scaled(g, -np.sin(x)),), cost=COSTLY, f="cos({0})")
_TAN_RANGE = ((-1.2, 1.2),)
elementwise(
    "tan",
    np.tan,
    vjp=(lambda g, y, x: scaled(g, 1 + y * y),),
    cost=COSTLY,
    sample=_TAN_RANGE,
    f="tan({0})",
)
_UNIT = ((-0.9, 0.9),)
elementwise(
    "arcsin",
    np.arcsin,
    vjp=(lambda g, y, x: scaled(g, 1 / np.sqrt((1 - x) * (1 + x))),),
    cost=COSTLY,
    sample=_UNIT,
    f="asin({0})",
)
elementwise(
    "arccos",
    np.arccos,
    vjp=(lambda g, y, x: scaled(g, -1 / np.sqrt((1 - x) * (1 + x))),),
    cost=COSTLY,
    sample=_UNIT,
    f="acos({0})",
)
elementwise(
    "arctan",
    np.arctan,
    vjp=(lambda g, y, x: scaled(g, 1 / (1 + x * x)),),
    cost=COSTLY,
    f="atan({0})",
)


def _arctan2(numerator: Any, a: Any, b: Any) -> Any:
    radius = np.hypot(a, b)
    return _over(_over(numerator, radius), radius)


elementwise(
    "arctan2",
    np.arctan2,
    vjp=(
        lambda g, y, a, b: scaled(g, _arctan2(b, a, b)),
        lambda g, y, a, b: scaled(g, _arctan2(-a, a, b)),
    ),
    cost=COSTLY,
    sample=((0.1, 4.0), (-4.0, 4.0)),
    f="atan2({0}, {1})",
)
elementwise(
    "sinh", np.sinh, vjp=(lambda g, y, x: scaled(g, np.cosh(x)),), cost=COSTLY, f="sinh({0})"
)
elementwise(
    "cosh", np.cosh, vjp=(lambda g, y, x: scaled(g, np.sinh(x)),), cost=COSTLY, f="cosh({0})"
)
elementwise(
    "tanh",
    np.tanh,
    vjp=(lambda g, y, x: scaled(g, (1 - y) * (1 + y)),),
    cost=COSTLY,
    f="tanh({0})",
)
elementwise(
    "arcsinh",
    np.arcsinh,
    vjp=(lambda g, y, x: scaled(g, 1 / np.sqrt(1 + x * x)),),
    cost=COSTLY,
    f="asinh({0})",
)
elementwise(
    "arccosh",
    np.arccosh,
    vjp=(lambda g, y, x: scaled(g, 1 / (np.sqrt(x - 1) * np.sqrt(x + 1))),),
    cost=COSTLY,
    sample=((1.5, 4.0),),
    f="acosh({0})",
)
elementwise(
    "arctanh",
    np.arctanh,
    vjp=(lambda g, y, x: scaled(g, 1 / ((1 - x) * (1 + x))),),
    cost=COSTLY,
    sample=_UNIT,
    f="atanh({0})",
)
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
