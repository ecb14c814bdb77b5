"""Float primitives whose results are exact, with NumPy's choices for NaN and signed zero.

``maximum`` and ``minimum`` keep the second of two equal zeros, as NumPy does and as the vector
instructions of x86 do; so they are plain selects and not ``llvm.maximum``.
"""

import math
from typing import Any

from llvmlite import ir
from numba.core import types

from fusec.codegen.intrinsic import call, intrinsic, names_of
from fusec.codegen.mathlib.dsl import Val
from fusec.codegen.mathlib.rare import patched

_BITS = {"float": ir.IntType(32), "double": ir.IntType(64)}


def is_nan(b: Any, x: Any) -> Any:
    return b.fcmp_unordered("uno", x, x)


def propagate(b: Any, sign: str, x: Any, y: Any) -> Any:
    """``x if x sign y else y``, NaN if one is; in this form LLVM finds the max instruction."""
    other = b.select(is_nan(b, x), x, y)
    return b.select(b.fcmp_ordered(sign, x, other), x, other)


def bounded(b: Any, sign: str, x: Any, y: Any) -> Any:
    """``propagate``, but one instruction where y turns out to be constant.

    Unless it is nan, or 0: of two zeros the sign decides.
    """
    asked = ir.FunctionType(ir.IntType(1), [y.type])
    constant = b.call(b.module.declare_intrinsic("llvm.is.constant", [y.type], asked), [y])
    plain = b.and_(constant, b.fcmp_ordered("!=", y, y.type(0.0)))
    chosen = b.select(b.fcmp_unordered(sign, x, y), x, y)
    return b.select(plain, chosen, propagate(b, sign, x, y))


def ignore(b: Any, sign: str, x: Any, y: Any) -> Any:
    """``x if x sign y else y``, NaN only if both are."""
    other = b.select(is_nan(b, y), x, y)
    return b.select(b.fcmp_ordered(sign, x, other), x, other)


@intrinsic(2)
def fmaximum(b: Any, t: Any, x: Any, y: Any) -> Any:
    """The larger; a NaN wins, x's before y's."""
    return bounded(b, ">", x, y)


@intrinsic(2)
def fminimum(b: Any, t: Any, x: Any, y: Any) -> Any:
    """The smaller; a NaN wins, x's before y's."""
    return bounded(b, "<", x, y)


@intrinsic(2)
def fmax(b: Any, t: Any, x: Any, y: Any) -> Any:
    """The larger; a NaN loses."""
    return ignore(b, ">", x, y)


@intrinsic(2)
def fmin(b: Any, t: Any, x: Any, y: Any) -> Any:
    """The smaller; a NaN loses."""
    return ignore(b, "<", x, y)


@intrinsic(1)
def fsign(b: Any, t: Any, x: Any) -> Any:
    """-1, 0 or 1; NaN for NaN."""
    zero = x.type(0.0)
    rest = b.select(b.fcmp_ordered("==", x, zero), zero, x)
    below = b.select(b.fcmp_ordered("<", x, zero), x.type(-1.0), rest)
    return b.select(b.fcmp_ordered(">", x, zero), x.type(1.0), below)


@intrinsic(2)
def heaviside(b: Any, t: Any, x: Any, h: Any) -> Any:
    """0 below 0, h at 0, 1 above; NaN for NaN x."""
    zero = x.type(0.0)
    step = b.select(b.fcmp_ordered("<", x, zero), zero, x.type(1.0))
    return b.select(b.fcmp_ordered("==", x, zero), h, b.select(is_nan(b, x), x, step))


@intrinsic(1)
def freciprocal(b: Any, t: Any, x: Any) -> Any:
    """1 / x."""
    return b.fdiv(x.type(1.0), x)


@intrinsic(2)
def fscaled(b: Any, t: Any, g: Any, d: Any) -> Any:
    """g * d, but 0 where one of them is 0, unless g is nan."""
    zero = g.type(0.0)
    still = b.and_(b.fcmp_ordered("==", d, zero), b.fcmp_ordered("ord", g, g))
    none = b.or_(b.fcmp_ordered("==", g, zero), still)
    return b.select(none, zero, b.fmul(g, d))


@intrinsic(2)
def fcrossed(b: Any, t: Any, g: Any, h: Any) -> Any:
    """g * h, but 0 where one of them is 0."""
    zero = g.type(0.0)
    none = b.or_(b.fcmp_ordered("==", g, zero), b.fcmp_ordered("==", h, zero))
    return b.select(none, zero, b.fmul(g, h))


def _constant_factor(name: str, single: float, double: float) -> Any:
    def emit(b: Any, t: Any, x: Any) -> Any:
        return b.fmul(x, x.type(single if t.bitwidth == 32 else double))

    return intrinsic(1, name=name, doc=f"x * {double}.")(emit)


# pi / 180 and 180 / pi, computed in the type itself as NumPy does.
deg2rad = _constant_factor("deg2rad", 0.01745329238474369, math.pi / 180.0)
rad2deg = _constant_factor("rad2deg", 57.295776367187500, 180.0 / math.pi)


# Tests of the bits; finite(b, x) and the like are shared with complex numbers.


def finite(b: Any, x: Any) -> Any:
    return b.fcmp_ordered("<", call(b, "llvm.fabs", x), x.type(float("inf")))


def infinite(b: Any, x: Any) -> Any:
    return b.fcmp_ordered("==", call(b, "llvm.fabs", x), x.type(float("inf")))


@intrinsic(1, to=types.boolean)
def signbit(b: Any, t: Any, x: Any) -> Any:
    """Is the sign bit set?"""
    bits = _BITS[str(x.type)]
    return b.icmp_signed("<", b.bitcast(x, bits), bits(0))


# Numbers as sign, exponent and mantissa.


def _layout(x: Any) -> tuple[Any, int, int]:
    """The integer type of x's bits, the bits of its mantissa, and its exponent's bias."""
    bits = _BITS[str(x.type)]
    return (bits, 23, 127) if bits.width == 32 else (bits, 52, 1023)


def _split(b: Any, x: Any) -> tuple[Any, Any]:
    """m and e with x == m * 2**e and 0.5 <= abs(m) < 1; x and 0 for zero, infinity and NaN."""
    bits, digits, bias = _layout(x)
    size = call(b, "llvm.fabs", x)
    tiny = b.fcmp_ordered("<", size, x.type(2.0 ** (1 - bias)))
    normal = b.bitcast(b.select(tiny, b.fmul(x, x.type(2.0**digits)), x), bits)
    field = bits((2 * bias + 1) << digits)
    exponent = b.sub(b.lshr(b.and_(normal, field), bits(digits)), bits(bias - 1))
    exponent = b.sub(exponent, b.select(tiny, bits(digits), bits(0)))
    half = b.or_(b.and_(normal, b.not_(field)), bits((bias - 1) << digits))
    keep = b.or_(b.fcmp_ordered("==", x, x.type(0.0)), b.not_(finite(b, x)))
    exponent = b.select(keep, bits(0), exponent)
    small = exponent if bits.width == 32 else b.trunc(exponent, ir.IntType(32))
    return b.select(keep, x, b.bitcast(half, x.type)), small


@intrinsic(1)
def frexp_mantissa(b: Any, t: Any, x: Any) -> Any:
    """m of x == m * 2**e with 0.5 <= abs(m) < 1; x itself for zero, infinity and NaN."""
    return _split(b, x)[0]


@intrinsic(1, to=types.int32)
def frexp_exponent(b: Any, t: Any, x: Any) -> Any:
    """e of x == m * 2**e with 0.5 <= abs(m) < 1, as int32; 0 for zero, infinity and NaN."""
    return _split(b, x)[1]


def _between(b: Any, low: int, n: Any, high: int) -> Any:
    n = b.select(b.icmp_signed("<", n, n.type(low)), n.type(low), n)
    return b.select(b.icmp_signed(">", n, n.type(high)), n.type(high), n)


def _power_of_two(b: Any, n: Any) -> Any:
    """2.0**n for n in the range of normal float64 numbers."""
    wide = n if n.type.width == 64 else b.sext(n, _BITS["double"])
    return b.bitcast(b.shl(b.add(wide, wide.type(1023)), wide.type(52)), ir.DoubleType())


@intrinsic(2, to=lambda x, n: x, mixed=True)
def ldexp(b: Any, t: Any, x: Any, n: Any) -> Any:
    """x * 2**n, rounded once; n is int32 or int64.

    float32 is scaled in float64. In float64 the scaling goes in steps that stay exact: one down
    leaves 53 bits above the smallest normal number, so only the last one rounds.
    """
    if str(x.type) == "float":
        factor = _power_of_two(b, _between(b, -300, n, 300))
        return b.fptrunc(b.fmul(b.fpext(x, factor.type), factor), x.type)
    rest = _between(b, -2200, n, 2200)
    for _ in range(2):
        part = _between(b, 53 - 1022, rest, 1023)
        within = b.icmp_signed("==", rest, _between(b, -1022, rest, 1023))
        part = b.select(within, part.type(0), part)
        x, rest = b.fmul(x, _power_of_two(b, part)), b.sub(rest, part)
    return b.fmul(x, _power_of_two(b, _between(b, -1022, rest, 1023)))


def _step(b: Any, x: Any, by: Any) -> Any:
    """The float whose bits are x's plus ``by``: away from zero by 1, towards it by -1."""
    bits = _BITS[str(x.type)]
    return b.bitcast(b.add(b.bitcast(x, bits), by), x.type)


@intrinsic(2)
def nextafter(b: Any, t: Any, x: Any, y: Any) -> Any:
    """The next float from x towards y; y where they are equal, NaN if one is NaN."""
    bits, zero = _BITS[str(x.type)], x.type(0.0)
    least = b.bitcast(bits(1), x.type)
    inwards = b.xor(b.fcmp_ordered(">", y, x), b.fcmp_ordered(">", x, zero))
    moved = _step(b, x, b.select(inwards, bits(-1), bits(1)))
    start = b.fcmp_ordered("==", x, zero)
    moved = b.select(start, call(b, "llvm.copysign", least, y), moved)
    moved = b.select(b.fcmp_ordered("==", x, y), y, moved)
    return b.select(b.fcmp_unordered("uno", x, y), x.type(float("nan")), moved)


@intrinsic(1)
def spacing(b: Any, t: Any, x: Any) -> Any:
    """From x to the next float away from zero, with x's sign; NaN for infinity and NaN."""
    size = b.select(b.fcmp_ordered("==", x, x.type(0.0)), x.type(0.0), x)
    return b.fsub(_step(b, size, _BITS[str(x.type)](1)), size)


# Division with a remainder.

# Quotients of at most this many bits leave ``n - trunc(n / d) * d`` exact: for float32 because
# it is computed in float64, for float64 because the product is not rounded before the sum (fma).
_QUOTIENT_BITS = {"float": 28, "double": 51}


def _fmod(b: Any, x: Any, y: Any) -> Any:
    """C's fmod: x - trunc(x / y) * y exactly, with the sign of x."""
    name, double = str(x.type), ir.DoubleType()
    n, d = (call(b, "llvm.fabs", b.fpext(v, double) if name == "float" else v) for v in (x, y))
    unbounded = b.fcmp_unordered(">=", d, double(float("inf")))
    invalid = b.or_(b.fcmp_ordered("==", d, double(0.0)), b.not_(finite(b, n)))
    special = b.or_(unbounded, invalid)
    safe_n, safe_d = b.select(special, double(0.0), n), b.select(special, double(1.0), d)
    rest = _remainder(b, safe_n, safe_d, _QUOTIENT_BITS[name])
    rest = b.fptrunc(rest, x.type) if name == "float" else rest
    rest = b.select(b.fcmp_ordered("==", d, double(float("inf"))), call(b, "llvm.fabs", x), rest)
    invalid = b.or_(invalid, is_nan(b, y))
    return b.select(invalid, x.type(float("nan")), call(b, "llvm.copysign", rest, x))


def _remainder(b: Any, n: Any, d: Any, bits: int) -> Any:
    """The remainder of n / d: one step, for quotients of more bits a long division."""

    def slow(quotient: Val, n: Val, d: Val) -> Val:
        return Val(n.b, _long_division(n.b, n.v, d.v, 2.0**bits))

    quotient, usual = Val(b, b.fdiv(n, d)), Val(b, _small_remainder(b, n, d))
    return patched(f"fmod{bits}", quotient, usual, slow, 2.0**bits, (Val(b, n), Val(b, d))).v


def _long_division(b: Any, n: Any, d: Any, digit: float) -> Any:
    """The remainder of n / d in base ``digit``, a power of two."""
    before, up, down, after = (
        b.block,
        *[b.append_basic_block(f"fmod.{name}") for name in ("up", "down", "end")],
    )
    b.branch(up)
    b.position_at_end(up)
    unit = b.phi(n.type)
    larger = b.fmul(unit, n.type(digit))
    b.cbranch(b.fcmp_ordered(">=", b.fdiv(n, unit), n.type(digit)), up, down)
    unit.add_incoming(d, before)
    unit.add_incoming(larger, up)
    b.position_at_end(down)
    divisor, rest = b.phi(n.type), b.phi(n.type)
    less = _small_remainder(b, rest, divisor)
    smaller = b.fmul(divisor, n.type(1.0 / digit))
    b.cbranch(b.fcmp_ordered(">=", smaller, d), down, after)
    for phi, first, following in ((divisor, unit, smaller), (rest, n, less)):
        phi.add_incoming(first, up)
        phi.add_incoming(following, down)
    b.position_at_end(after)
    return less


def _small_remainder(b: Any, n: Any, d: Any) -> Any:
    """The remainder of n / d; the rounded quotient may be one too large."""
    rest = b.fma(b.fneg(call(b, "llvm.trunc", b.fdiv(n, d))), d, n)
    return b.select(b.fcmp_ordered("<", rest, rest.type(0.0)), b.fadd(rest, d), rest)


@intrinsic(2)
def ffmod(b: Any, t: Any, x: Any, y: Any) -> Any:
    """C's fmod, exact, with the sign of x."""
    return _fmod(b, x, y)


def _floor_mod(b: Any, x: Any, y: Any) -> tuple[Any, Any, Any]:
    """The remainder with the sign of y, C's remainder, and whether the two differ."""
    rest, zero = _fmod(b, x, y), x.type(0.0)
    nonzero = b.fcmp_unordered("!=", rest, zero)
    opposite = b.xor(b.fcmp_ordered("<", y, zero), b.fcmp_ordered("<", rest, zero))
    moved = b.and_(nonzero, opposite)
    shifted = b.select(moved, b.fadd(rest, y), rest)
    return b.select(nonzero, shifted, call(b, "llvm.copysign", zero, y)), rest, moved


@intrinsic(2)
def fremainder(b: Any, t: Any, x: Any, y: Any) -> Any:
    """x % y with the sign of y; NaN for y == 0."""
    wrapped, rest, _ = _floor_mod(b, x, y)
    return b.select(b.fcmp_ordered("==", y, y.type(0.0)), rest, wrapped)


@intrinsic(2)
def ffloordiv(b: Any, t: Any, x: Any, y: Any) -> Any:
    """x // y consistent with fremainder; x / y for y == 0."""
    zero, one = x.type(0.0), x.type(1.0)
    _, rest, moved = _floor_mod(b, x, y)
    quotient = b.fdiv(x, y)
    whole = b.fdiv(b.fsub(x, rest), y)
    whole = b.select(moved, b.fsub(whole, one), whole)
    down = call(b, "llvm.floor", whole)
    late = b.fcmp_ordered(">", b.fsub(whole, down), x.type(0.5))
    down = b.select(late, b.fadd(down, one), down)
    signed_zero = call(b, "llvm.copysign", zero, quotient)
    result = b.select(b.fcmp_unordered("!=", whole, zero), down, signed_zero)
    return b.select(b.fcmp_ordered("==", y, zero), quotient, result)


__all__ = names_of(globals())
