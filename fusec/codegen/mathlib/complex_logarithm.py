"""Complex logarithms, roots, inverse functions and powers.

All for float64; complex64 is computed in it. Squared sizes are summed in three numbers, so that
log|z| keeps its digits on the unit circle. The inverse sine and cosine are W. Kahan's formulas of
square roots ("Branch cuts for complex elementary functions", 1987), whose sums do not cancel.
"""

import math

from fusec.codegen.mathlib.complex_exponential import Pair, endless, finite, swapped
from fusec.codegen.mathlib.double import Two, choose, two_product, two_sum
from fusec.codegen.mathlib.dsl import INF, NAN, Val, constant, fast_two_sum, fma, where
from fusec.codegen.mathlib.inverse import angle
from fusec.codegen.mathlib.logarithm import asinh, one_plus, wide_log

# Numbers beyond these are scaled by 2**-STEP and 2**STEP before they are squared.
LARGE, SMALL, STEP = 2.0**500, 2.0**-450, 552


def _scale(x: Val, y: Val) -> tuple[Val, Val]:
    """(scale, k) with scale = 2**-k, so that the larger square is an ordinary number."""
    big = where(abs(x) > abs(y), abs(x), abs(y))
    down, up = big > LARGE, big < SMALL
    k = where(down, x.const(STEP), where(up, x.const(-STEP), 0.0))
    scale = where(down, x.const(2.0**-STEP), where(up, x.const(2.0**STEP), 1.0))
    return scale, k


def log_size(x: Two, y: Val) -> Two:
    """log|x + iy|: squares and their errors are added up to three numbers, largest first."""
    scale, k = _scale(x.hi, y)
    (a, a_low), b = x.scaled(scale), y * scale
    (p, p_low), (q, q_low) = two_product(a, a), two_product(b, b)
    high, rest = two_sum(p, q)
    low, lowest = two_sum(p_low, q_low)
    low, lost = two_sum(rest, low)
    lowest = lowest + lost
    if a_low is not None:
        cross, cross_low = two_product(a + a, a_low)
        low, lost = two_sum(low, cross)
        lowest = lowest + fma(a_low, a_low, cross_low + lost)
    high, low = fast_two_sum(high, low)
    out = wide_log(high, low, lowest, k + k).scaled(0.5)
    wild = endless(x.hi) | endless(y)
    return Two(where(wild, INF, out.hi), where(wild, 0.0, out.low()))


def clog(x: Val, y: Val) -> Pair:
    """log|z| + i arg(z)."""
    return log_size(Two(x), y).rounded(), angle(Two(y), Two(x)).rounded()


def clog1p(x: Val, y: Val) -> Pair:
    """The logarithm of 1 + z, where 1 + x is a sum and its rounding error."""
    u, low = one_plus(x)
    one = Two(u, where(finite(x), low, 0.0))
    return log_size(one, y).rounded(), angle(Two(y), one).rounded()


def _log_times(x: Val, y: Val, name: str) -> Pair:
    high, low, _ = constant(x, name)
    factor = Two(x.const(high), x.const(low))
    re, im = log_size(Two(x), y), (angle(Two(y), Two(x)) * factor).rounded()
    return where(finite(re.hi), (re * factor).rounded(), re.hi), im


def clog2(x: Val, y: Val) -> Pair:
    """log(z) / log(2)."""
    return _log_times(x, y, "log2(e)")


def clog10(x: Val, y: Val) -> Pair:
    """log(z) / log(10)."""
    return _log_times(x, y, "log10(e)")


def _root(x: Two, y: Val) -> tuple[Two, Two]:
    """Real part and size of the imaginary part of sqrt(x + iy): t and |y| / 2 t, or exchanged."""
    scale, k = _scale(x.hi, y)
    down, up = k > 0.0, k < 0.0
    root = 2.0 ** (STEP // 2)
    back = where(down, k.const(root), where(up, k.const(1.0 / root), 1.0))
    a, b = x.scaled(scale).flip(x.hi.signbit()), Two(y * scale)
    t = (((a * a + b * b).sqrt() + a).scaled(0.5)).sqrt().scaled(back)
    none = (x.hi == 0.0) & (y == 0.0)
    t, other = (choose(none, Two(abs(y)), v) for v in (t, Two(abs(y)) / (t + t)))
    left = x.hi < 0.0
    return choose(left, other, t), choose(left, t, other)


def csqrt(x: Val, y: Val) -> Pair:
    """The square root with a positive real part."""
    root = _root(Two(x), y)
    re, im = (v.rounded() for v in root)
    wild = endless(x)
    none, up = x.const(0.0), x < 0.0
    rest = where(finite(y), none, NAN)
    re = where(wild, where(up, rest, INF), re)
    im = where(wild, where(up, x.const(INF), rest), im)
    return where(endless(y), INF, re), where(endless(y), INF, im).copysign(y)


def _arc(x: Val, y: Val) -> tuple[tuple[Two, Two], tuple[Two, Two], Val]:
    """The roots of 1 - |x| - i|y| and 1 + |x| + i|y| (sizes), and |Im arcsin(z)|."""
    one, size = Two(x.const(1.0)), Two(abs(x))
    minus, plus = _root(one - size, y), _root(one + size, y)
    im = asinh((minus[0] * plus[1] + minus[1] * plus[0]).rounded())
    return minus, plus, where(endless(x) | endless(y), INF, im)


def casin(x: Val, y: Val) -> Pair:
    """atan(x / Re(sqrt(1 - z) sqrt(1 + z))) and its imaginary part."""
    (a, b), (c, d), im = _arc(x, y)
    across = a * c + b * d
    wild = endless(x) | endless(y)
    re = angle(Two(abs(x)), choose(wild, Two(abs(y)), across)).rounded()
    return where(x == 0.0, 0.0, re).copysign(x), im.copysign(y)


def cacos(x: Val, y: Val) -> Pair:
    """2 atan(Re sqrt(1 - z) / Re sqrt(1 + z)) and minus the imaginary part of arcsin."""
    (a, _), (c, _), im = _arc(x, y)
    wild, left = endless(x) | endless(y), x < 0.0
    over = choose(wild, Two(abs(y)), choose(left, c, a))
    under = choose(wild, Two(x), choose(left, a, c))
    re = angle(over, under).rounded()
    re = where(wild, re, re * 2.0)
    return where(x == 0.0, math.pi / 2, re), -im.copysign(y)


def casinh(x: Val, y: Val) -> Pair:
    """arcsin with real and imaginary part exchanged."""
    return swapped(casin(y, x))


def cacosh(x: Val, y: Val) -> Pair:
    """arccos times i or -i, with a positive real part."""
    re, im = cacos(x, y)
    return abs(im), re.copysign(y)


def catanh(x: Val, y: Val) -> Pair:
    """log1p(4 x / |1 - z|**2) / 4 and the angle of (1 - z conj(z)) + 2 i y, halved."""
    one, a = Two(x.const(1.0)), Two(abs(x))
    less, more = one - a, one + a
    scale, k = _scale(less.hi, y)
    less, more = less.scaled(scale), more.scaled(scale)
    v = Two(y * scale)
    q = Two(abs(x) * scale * 4.0) / (less * less + v * v)
    up, down = k < 0.0, k > 0.0
    q = q.scaled(where(down, scale, 1.0))
    u, low = one_plus(q.hi)
    high, rest = where(up, q.hi, u), where(up, q.low(), low + q.low())
    rest = where(q.hi < INF, rest, 0.0)
    size = wide_log(*fast_two_sum(high, rest), x.const(0.0), where(up, x.const(STEP), 0.0))
    im = angle(v.scaled(scale * 2.0), less * more - v * v)
    wild, steep = endless(x) | endless(y), where(endless(y) | (y == y), y.const(math.pi / 2), y)
    re = where(wild | (x == 0.0), 0.0, size.rounded() * 0.25)
    return re.copysign(x), where(wild, steep.copysign(y), im.rounded() * 0.5)


def catan(x: Val, y: Val) -> Pair:
    """arctanh with real and imaginary part exchanged."""
    return swapped(catanh(y, x))


def crint(x: Val, y: Val) -> Pair:
    """The nearest integers, halves to even."""
    return x.intrinsic("llvm.rint"), y.intrinsic("llvm.rint")
