"""Complex primitives, for complex64 (two float32) and complex128, in NumPy's algorithms.

A complex value is the LLVM struct ``{float, float}`` or ``{double, double}``.
"""

from typing import Any

from numba.core import types

from fusec.codegen.floats import finite, infinite, is_nan
from fusec.codegen.intrinsic import call, intrinsic, join, names_of, parts
from fusec.codegen.mathlib.dsl import KINDS
from fusec.codegen.mathlib.emit import COMPLEX, arity, define


@intrinsic(2, to=lambda re, im: types.complex64 if re.bitwidth == 32 else types.complex128)
def cmake(b: Any, t: Any, re: Any, im: Any) -> Any:
    """The complex number re + im i."""
    return join(b, re, im)


@intrinsic(1, to=lambda z: z.underlying_float)
def creal(b: Any, t: Any, z: Any) -> Any:
    """Real part."""
    return parts(b, z)[0]


@intrinsic(1, to=lambda z: z.underlying_float)
def cimag(b: Any, t: Any, z: Any) -> Any:
    """Imaginary part."""
    return parts(b, z)[1]


@intrinsic(1)
def conj(b: Any, t: Any, z: Any) -> Any:
    """The conjugate."""
    re, im = parts(b, z)
    return join(b, re, b.fneg(im))


@intrinsic(1)
def cneg(b: Any, t: Any, z: Any) -> Any:
    """-z."""
    re, im = parts(b, z)
    return join(b, b.fneg(re), b.fneg(im))


def _math(b: Any, name: str, *zs: Any) -> Any:
    """A function of the math library over the parts of complex numbers."""
    given = [part for z in zs for part in parts(b, z)]
    kind = KINDS["f32" if str(given[0].type) == "float" else "f64"]
    return b.call(define(b.module, name, kind), given)


def _function(name: str) -> Any:
    def emit(b: Any, t: Any, *zs: Any) -> Any:
        return _math(b, name, *zs)

    return intrinsic(arity(name) // 2, name=name)(emit)


globals().update({name: _function(name) for name in COMPLEX})


@intrinsic(1, to=lambda z: z.underlying_float)
def cabs(b: Any, t: Any, z: Any) -> Any:
    """The magnitude, without overflow on the way."""
    return _math(b, "hypot", z)


@intrinsic(1)
def csign(b: Any, t: Any, z: Any) -> Any:
    """z / abs(z), 0 for 0; with one infinite part its direction, NaN with two."""
    radius, each = _math(b, "hypot", z), parts(b, z)
    zero, one = radius.type(0.0), radius.type(1.0)
    none, endless = b.fcmp_ordered("==", radius, zero), infinite(b, radius)
    wild = [infinite(b, v) for v in each]
    lost = b.or_(has_nan(b, z), b.and_(*wild))
    signs = []
    for part, is_wild in zip(each, wild):
        direction = b.select(is_wild, call(b, "llvm.copysign", one, part), zero)
        sign = b.select(endless, direction, b.fdiv(part, radius))
        sign = b.select(none, zero, sign)
        signs.append(b.select(lost, zero.type(float("nan")), sign))
    return join(b, *signs)


def add(b: Any, x: Any, y: Any) -> Any:
    """x + y, also used by the folds."""
    (a, c), (d, e) = parts(b, x), parts(b, y)
    return join(b, b.fadd(a, d), b.fadd(c, e))


def mul(b: Any, x: Any, y: Any) -> Any:
    """x * y by the plain formula, which NumPy's products of many numbers use."""
    (a, c), (d, e) = parts(b, x), parts(b, y)
    re = b.fsub(b.fmul(a, d), b.fmul(c, e))
    return join(b, re, b.fadd(b.fmul(a, e), b.fmul(c, d)))


@intrinsic(2)
def cadd(b: Any, t: Any, x: Any, y: Any) -> Any:
    """x + y."""
    return add(b, x, y)


@intrinsic(2)
def csub(b: Any, t: Any, x: Any, y: Any) -> Any:
    """x - y."""
    (a, c), (d, e) = parts(b, x), parts(b, y)
    return join(b, b.fsub(a, d), b.fsub(c, e))


@intrinsic(2)
def cmul(b: Any, t: Any, x: Any, y: Any) -> Any:
    """x * y with one rounding less in each part, as NumPy's vectors multiply."""
    (a, c), (d, e) = parts(b, x), parts(b, y)
    return join(b, b.fma(a, d, b.fneg(b.fmul(c, e))), b.fma(a, e, b.fmul(c, d)))


@intrinsic(2)
def cscaled(b: Any, t: Any, g: Any, d: Any) -> Any:
    """g * d, but 0 where one of them is 0, unless g is nan."""
    re, im = parts(b, g)
    zero = re.type(0.0)
    still = b.and_(_is_zero(b, d), b.fcmp_ordered("ord", re, im))
    none = b.or_(_is_zero(b, g), still)
    return _select(b, none, join(b, zero, zero), mul(b, g, d))


@intrinsic(2)
def ccrossed(b: Any, t: Any, g: Any, h: Any) -> Any:
    """g * h, but 0 where one of them is 0."""
    zero = parts(b, g)[0].type(0.0)
    none = b.or_(_is_zero(b, g), _is_zero(b, h))
    return _select(b, none, join(b, zero, zero), mul(b, g, h))


def _is_zero(b: Any, z: Any) -> Any:
    re, im = parts(b, z)
    zero = re.type(0.0)
    return b.and_(b.fcmp_ordered("==", re, zero), b.fcmp_ordered("==", im, zero))


def _select(b: Any, condition: Any, x: Any, y: Any) -> Any:
    pairs = zip(parts(b, x), parts(b, y))
    return join(b, *[b.select(condition, v, w) for v, w in pairs])


def _larger_real(b: Any, z: Any, sign: str) -> tuple[Any, Any, Any]:
    """Is |re| ``sign`` |im|, then the part of larger magnitude and the smaller's ratio to it."""
    re, im = parts(b, z)
    real = b.fcmp_ordered(sign, call(b, "llvm.fabs", re), call(b, "llvm.fabs", im))
    large, small = b.select(real, re, im), b.select(real, im, re)
    return real, large, b.fdiv(small, large)


@intrinsic(2)
def cdiv(b: Any, t: Any, x: Any, y: Any) -> Any:
    """x / y by Smith's method (R. L. Smith, CACM 5(8), 1962); x / |0| for y == 0."""
    (a, c), (d, e) = parts(b, x), parts(b, y)
    real, large, ratio = _larger_real(b, y, ">=")
    small = b.select(real, e, d)
    scale = b.fdiv(large.type(1.0), b.fadd(large, b.fmul(small, ratio)))
    first, second = b.select(real, a, c), b.select(real, c, a)
    re = b.fadd(first, b.fmul(second, ratio))
    crossed = b.fmul(first, ratio)
    im = b.select(real, b.fsub(second, crossed), b.fsub(crossed, second))
    zero = b.and_(real, b.fcmp_ordered("==", call(b, "llvm.fabs", large), large.type(0.0)))
    by_zero = [b.fmul(v, v.type(float("inf"))) for v in (a, c)]
    return _select(b, zero, join(b, *by_zero), join(b, b.fmul(re, scale), b.fmul(im, scale)))


@intrinsic(1)
def creciprocal(b: Any, t: Any, z: Any) -> Any:
    """1 / z by Smith's method."""
    re, im = parts(b, z)
    real, large, ratio = _larger_real(b, z, ">=")
    small = b.select(real, im, re)
    scale = b.fadd(large, b.fmul(small, ratio))
    one = b.fdiv(re.type(1.0), scale)
    other = b.fdiv(ratio, scale)
    minus = b.fdiv(b.fneg(ratio), scale), b.fdiv(re.type(-1.0), scale)
    return join(b, b.select(real, one, other), b.select(real, minus[0], minus[1]))


# Order is lexicographic; comparisons with a NaN are false.


def ordered(b: Any, sign: str, x: Any, y: Any) -> Any:
    """``x sign y`` for sign among < <= > >=."""
    (a, c), (d, e) = parts(b, x), parts(b, y)
    strict = b.fcmp_ordered(sign[0], a, d)
    first = b.and_(strict, b.fcmp_ordered("ord", c, e))
    return b.or_(first, b.and_(b.fcmp_ordered("==", a, d), b.fcmp_ordered(sign, c, e)))


def has_nan(b: Any, z: Any) -> Any:
    re, im = parts(b, z)
    return b.fcmp_unordered("uno", re, im)


@intrinsic(2)
def cmaximum(b: Any, t: Any, x: Any, y: Any) -> Any:
    """The larger; a NaN wins."""
    return _select(b, b.or_(ordered(b, ">=", x, y), has_nan(b, x)), x, y)


@intrinsic(2)
def cminimum(b: Any, t: Any, x: Any, y: Any) -> Any:
    """The smaller; a NaN wins."""
    return _select(b, b.or_(ordered(b, "<=", x, y), has_nan(b, x)), x, y)


@intrinsic(2)
def cfmax(b: Any, t: Any, x: Any, y: Any) -> Any:
    """The larger; a NaN loses."""
    return _select(b, b.or_(ordered(b, ">=", x, y), has_nan(b, y)), x, y)


@intrinsic(2)
def cfmin(b: Any, t: Any, x: Any, y: Any) -> Any:
    """The smaller; a NaN loses."""
    return _select(b, b.or_(ordered(b, "<=", x, y), has_nan(b, y)), x, y)


def _clipped(b: Any, sign: str, x: Any, bound: Any) -> Any:
    """x if x is NaN or ``x sign bound``, where a NaN in ``bound`` is not looked for, else bound."""
    (a, c), (d, e) = parts(b, x), parts(b, bound)
    tied = b.fcmp_ordered("==", a, d)
    inside = b.select(tied, b.fcmp_ordered(sign, c, e), b.fcmp_ordered(sign, a, d))
    return _select(b, b.or_(has_nan(b, x), inside), x, bound)


@intrinsic(3)
def cclip(b: Any, t: Any, x: Any, low: Any, high: Any) -> Any:
    """The smaller of high and the larger of low and x."""
    return _clipped(b, "<", _clipped(b, ">", x, low), high)


# Tests of floats and complex numbers.


def _either(b: Any, t: Any, x: Any, test: Any, combine: Any) -> Any:
    if isinstance(t, types.Complex):
        return combine(*[test(b, part) for part in parts(b, x)])
    return test(b, x)


@intrinsic(1, to=types.boolean)
def isnan(b: Any, t: Any, x: Any) -> Any:
    """Is x, or a part of it, NaN?"""
    return _either(b, t, x, is_nan, b.or_)


@intrinsic(1, to=types.boolean)
def isinf(b: Any, t: Any, x: Any) -> Any:
    """Is x, or a part of it, infinite?"""
    return _either(b, t, x, infinite, b.or_)


@intrinsic(1, to=types.boolean)
def isfinite(b: Any, t: Any, x: Any) -> Any:
    """Is x, and each part of it, finite?"""
    return _either(b, t, x, finite, b.and_)


__all__ = names_of(globals())
