"""sin, cos, tan: the argument minus the nearest multiple of pi (tan: pi / 2), then a polynomial.

Ordinary arguments take three products with parts of pi, by fma. Beyond ``FAST`` a call computes
the function from 192 binary digits of 1/pi; see ``rare`` for how it stays out of the way.
"""

from collections.abc import Callable
from typing import NamedTuple

from llvmlite import ir

from fusec.codegen.mathlib.coefficients import INVERSE_PI
from fusec.codegen.mathlib.double import Two, choose, two_sum
from fusec.codegen.mathlib.dsl import (
    F64,
    INF,
    NAN,
    Val,
    constant,
    fast_two_sum,
    fma,
    polynomial,
    where,
)
from fusec.codegen.mathlib.rare import patched

# Up to here n * pi loses nothing that matters in three parts.
FAST = {"f32": 2.0**16, "f64": 2.0**30}
I64, I128 = ir.IntType(64), ir.IntType(128)


class Reduced(NamedTuple):
    """x = n * period + r + low; sign bits: ``odd`` where n is odd, ``far`` where n & 2 is set."""

    r: Val
    low: Val
    odd: Val
    far: Val


def _multiple(x: Val, per_pi: float, half: bool = False) -> tuple[Val, Val, Val]:
    """n, odd and far (see ``Reduced``) for the n or n + 1/2 nearest to x * per_pi / pi."""
    kind = x.kind
    inverse = constant(x, "1/pi")[0] * per_pi
    if half:
        shifted = fma(x, inverse, -0.5) + kind.magic
        n = (shifted - kind.magic) + 0.5
    else:
        shifted = fma(x, inverse, kind.magic)
        n = shifted - kind.magic
    bits, top = shifted.bits(), kind.integer.width - 1
    return n, bits << top, (bits << (top - 1)) & kind.sign


def _reduce(x: Val, half: bool = False) -> Reduced:
    """x - n * pi: the first difference is exact, the second rounds once."""
    n, odd, far = _multiple(x, 1.0, half)
    first, second, third = constant(x, "pi")
    return Reduced(fma(n, -second, fma(n, -first, x)), n * -third, odd, far)


def _reduce_quarter(x: Val) -> Reduced:
    """x - n * pi / 2 with the rounding error of the second difference too."""
    n, odd, far = _multiple(x, 2.0)
    first, second, third = (p * 0.5 for p in constant(x, "pi"))
    start, product = fma(n, -first, x), n * second
    r = start - product
    low = ((start - r) - product) - fma(n, second, -product)
    return Reduced(r, fma(n, -third, low), odd, far)


def _sine(a: Reduced) -> Val:
    """sin(n * pi + r + low); low matters only where r is small.

    Near pi / 2 the cubic term is half the result, hence the rounding error of r * r.
    """
    z = a.r * a.r
    z_low = fma(a.r, a.r, -z)
    q = a.r * polynomial(z, "sin")
    return (a.r + fma(z, q, fma(z_low, q, a.low))).flip(a.odd)


def _quarters(a: Reduced) -> tuple[Two, Two]:
    """sin and cos of n * pi / 2 + r + low, up to the sign, with their errors."""
    z = a.r * a.r
    s_tail = fma(z * a.r, polynomial(z, "sin_quarter"), a.low)
    c_tail = fma(z * z, polynomial(z, "cos_quarter"), fma(-a.r, a.low, z * -0.5))
    s, c = a.r + s_tail, c_tail + 1.0
    s_low, c_low = (a.r - s) + s_tail, (1.0 - c) + c_tail
    odd, sine, cosine = a.odd != 0, Two(s, s_low), Two(c, c_low)
    return choose(odd, cosine, sine), choose(odd, sine, cosine)


def _tangent(a: Reduced) -> Val:
    """tan(n * pi / 2 + r + low): sin / cos or -cos / sin, all three with their errors."""
    num, den = _quarters(a)
    inverse = 1.0 / den.hi
    q = num.hi * inverse
    rest = fma(-q, den.hi, num.hi) + fma(-q, den.low(), num.low())
    return fma(rest, inverse, q).flip(a.odd)


def _sin_cos(a: Reduced) -> tuple[Two, Two]:
    """sin and cos of n * pi / 2 + r + low with their errors."""
    sine, cosine = _quarters(a)
    return sine.flip(a.far), cosine.flip(a.far ^ a.odd)


def _digits(x: Val) -> Val:
    """|x| / pi mod 2 as a 128-bit integer in units of 2**-127, for |x| >= 2**-10."""
    bits = x.bits()
    m = (bits & ((1 << 52) - 1)) | (1 << 52)
    position = ((bits >> 52) & 0x7FF) - (1075 - 63)
    words = [_word(x, (position >> 6) + k) for k in range(4)]
    high, middle, low = (_funnel(words[k], words[k + 1], position & 63) for k in range(3))
    wide = m.convert("zext", I128)
    top = (m * high).convert("zext", I128) << 64
    carried = (wide * low.convert("zext", I128)) >> 64
    return top + wide * middle.convert("zext", I128) + carried


def _funnel(high: Val, low: Val, shift: Val) -> Val:
    """The upper word of the two words shifted left by less than 64."""
    kind = ir.FunctionType(I64, [I64] * 3)
    function = high.b.module.declare_intrinsic("llvm.fshl", [I64], kind)
    return Val(high.b, high.b.call(function, [high.v, low.v, shift.v]))


def _word(x: Val, index: Val) -> Val:
    """A word of the digits of 1/pi, from a table in the module."""
    module = x.b.module
    kind = ir.ArrayType(I64, len(INVERSE_PI))
    table = module.globals.get("fusec.inverse_pi")
    if table is None:
        table = ir.GlobalVariable(module, kind, "fusec.inverse_pi")
        table.linkage, table.global_constant = "internal", True
        table.initializer = ir.Constant(kind, [ir.Constant(I64, w) for w in INVERSE_PI])
    return Val(x.b, x.b.load(x.b.gep(table, [I64(0), index.v])))


def _reduce_huge(x: Val) -> Reduced:
    """|x| minus a multiple of pi / 2 for any |x| >= 2**-10, in integers."""
    turns = _digits(x)
    n = ((turns + (1 << 125)) >> 64).convert("trunc", I64)
    part = turns << 2
    upper, lower = (part >> 64).convert("trunc", I64), part.convert("trunc", I64)
    top = (upper & ~0x7FF).convert("sitofp", F64.real) * 2.0**-64
    rest = ((upper << 53) | (lower >> 11)).convert("uitofp", F64.real) * 2.0**-117
    top, rest = fast_two_sum(top, rest)
    high, low, _ = (p / 2 for p in constant(x, "pi"))
    r = top * high
    r, r_low = fast_two_sum(r, fma(top, high, -r) + fma(top, low, rest * high))
    return Reduced(r, r_low, (n << 1) & F64.sign, n & F64.sign)


def _with_huge(name: str, x: Val, usual: Val, slow: Callable[[Val], Val]) -> Val:
    """``usual``, or ``slow(x)`` for huge x, in float64 always."""
    kind = x.kind

    def finite(value: Val) -> Val:
        wide = value if kind is F64 else value.convert("fpext", F64.real)
        y = where(abs(wide) < INF, slow(wide), NAN)
        return y if kind is F64 else y.convert("fptrunc", kind.real)

    return patched(name, x, usual, finite, FAST[kind.name])


def _huge_sin(x: Val) -> Val:
    return _sin_cos(_reduce_huge(x))[0].hi.flip(x.signbit())


def _huge_cos(x: Val) -> Val:
    return _sin_cos(_reduce_huge(x))[1].hi


def _huge_tan(x: Val) -> Val:
    return _tangent(_reduce_huge(x)).flip(x.signbit())


def sin(x: Val) -> Val:
    """The sine, with -0.0 kept."""
    return _with_huge("sin", x, where(x == 0.0, x, _sine(_reduce(x))), _huge_sin)


def cos(x: Val) -> Val:
    """The cosine, from the nearest odd multiple of pi / 2."""
    return _with_huge("cos", x, -_sine(_reduce(x, half=True)), _huge_cos)


def tan(x: Val) -> Val:
    """The tangent, with -0.0 kept."""
    return _with_huge("tan", x, where(x == 0.0, x, _tangent(_reduce_quarter(x))), _huge_tan)


def _packed(a: Reduced) -> Val:
    """``low``, with the quadrant in its last two bits."""
    return ((a.low.bits() & ~3) | (a.far >> 62) | (a.odd >> 63)).real()


def _huge_turn(x: Val) -> Reduced:
    a, sign = _reduce_huge(x), x.signbit()
    return Reduced(a.r.flip(sign), a.low.flip(sign), a.odd, a.far ^ (a.odd & sign))


def sin_cos(x: Two) -> tuple[Two, Two]:
    """Sine and cosine of float64 from one reduction, to 0.1 ULP before they are rounded.

    What is below an ULP of x counts only where the reduction is the fast one.
    """
    y, a = x.hi, _reduce_quarter(x.hi)
    r = _with_huge("turn", y, a.r, lambda v: _huge_turn(v).r)
    low = _with_huge("turn_low", y, _packed(a), lambda v: _packed(_huge_turn(v)))
    bits = low.bits()
    if x.lo is not None:
        r, lost = two_sum(r, where(abs(y) <= FAST["f64"], x.lo, 0.0))
        low = low + lost
    s, c = _sin_cos(Reduced(r, low, bits << 63, (bits << 62) & F64.sign))
    return s._replace(hi=where(y == 0.0, y, s.hi)), c
