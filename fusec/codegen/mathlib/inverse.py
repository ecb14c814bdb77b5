"""asin, acos, atan, atan2: one odd polynomial each, behind an identity that keeps it short."""

from fusec.codegen.mathlib.double import Two
from fusec.codegen.mathlib.dsl import INF, Val, constant, fast_two_sum, fma, polynomial, where


def _half_pi(x: Val, times: float = 0.5) -> tuple[float, float]:
    high, low, _ = constant(x, "pi")
    return high * times, low * times


def _asin_parts(x: Val) -> tuple[Val, Val, Val]:
    """(large, s, t): asin of |x|, or of sqrt((1 - |x|) / 2) where |x| is large, is s + t."""
    a = abs(x)
    large = a > 0.5
    half = fma(a, -0.5, 0.5)
    z = where(large, half, a * a)
    s = where(large, half.intrinsic("llvm.sqrt"), a)
    return large, s, (z * s) * polynomial(z, "asin")


def asin(x: Val) -> Val:
    """pi/2 - 2 asin(sqrt((1 - x) / 2)) above 1/2."""
    large, s, t = _asin_parts(x)
    high, low = _half_pi(x)
    main = fma(s, -2.0, high)
    lost = fma(s, -2.0, high - main)
    beyond = main + (fma(t, -2.0, low) + lost)
    return where(large, beyond, s + t).copysign(x)


def acos(x: Val) -> Val:
    """2 asin(sqrt((1 - x) / 2)) above 1/2, pi minus it below -1/2, pi/2 - asin(x) between."""
    large, s, t = _asin_parts(x)
    negative = x < 0.0
    times = where(large, x.const(-2.0), 1.0)
    times = where(negative, -times, times)
    turns = where(large, where(negative, x.const(2.0), 0.0), 1.0)
    high, low = _half_pi(x)
    main = fma(turns, high, -(s * times))
    return main + fma(turns, low, -(t * times))


def atan(x: Val) -> Val:
    """pi/2 - atan(1 / x) above 1."""
    a = abs(x)
    large = a > 1.0
    t = where(large, 1.0 / a, a)
    tail = _atan_tail(t)
    high, low = _half_pi(x)
    return where(large, (high - t) + (low - tail), t + tail).copysign(x)


def _atan_tail(t: Val) -> Val:
    """atan(t) - t for 0 <= t <= 1."""
    z = t * t
    return (z * t) * polynomial(z, "atan")


def _steep(y: Val, x: Val) -> tuple[Val, Val, Val]:
    """Is |y| > |x|, then the smaller and the larger size."""
    across, up = abs(x), abs(y)
    steep = up > across
    return steep, where(steep, across, up), where(steep, up, across)


def _unfolding(steep: Val, x: Val) -> tuple[Val, Val]:
    """(n, sign): the angle of (x, |y|) is n * pi/2 plus atan(smaller / larger) of that sign."""
    negative = x.signbit()
    turns = where(steep, x.const(1.0), where(negative != 0, x.const(2.0), 0.0))
    return turns, where(steep, negative ^ x.kind.sign, negative)


def atan2(y: Val, x: Val) -> Val:
    """The angle of (x, y): multiples of pi/2 plus or minus atan(min / max)."""
    steep, num, den = _steep(y, x)
    equal = where(num == 0.0, num, 1.0)
    t = where(num == den, equal, num / den)
    tail = _atan_tail(t)
    turns, sign = _unfolding(steep, x)
    high, low = _half_pi(x)
    angle = fma(turns, high, t.flip(sign)) + fma(turns, low, tail.flip(sign))
    return angle.copysign(y)


def angle(y: Two, x: Two) -> Two:
    """``atan2`` with its rounding error, and of numbers with theirs."""
    steep, num, den = _steep(y.hi, x.hi)
    up, across = (v.low().flip(v.hi.signbit()) for v in (y, x))
    t = Two(num, where(steep, across, up)) / Two(den, where(steep, up, across))
    equal = num == den
    main = where(equal, where(num == 0.0, num, 1.0), t.hi)
    plain = (den < INF) & (den > 0.0) & ((main > 0.0) | ~equal)
    slope = fma(main * main, -0.5, 1.0)
    tail = _atan_tail(main) + where(plain, t.low(), 0.0) * slope
    turns, sign = _unfolding(steep, x.hi)
    high, low = _half_pi(x.hi)
    main, lost = fast_two_sum(turns * high, main.flip(sign))
    main, rest = fast_two_sum(main, fma(turns, low, tail.flip(sign)) + lost)
    return Two(main.copysign(y.hi), rest.flip(y.hi.signbit()))
