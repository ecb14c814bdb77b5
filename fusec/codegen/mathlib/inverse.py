"""asin, acos, atan, atan2: one odd polynomial each, behind an identity that keeps it short."""

from fusec.codegen.mathlib.dsl import Val, constant, fma, polynomial, where


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


def atan2(y: Val, x: Val) -> Val:
    """The angle of (x, y): multiples of pi/2 plus or minus atan(min / max)."""
    across, up = abs(x), abs(y)
    steep = up > across
    num, den = where(steep, across, up), where(steep, up, across)
    equal = where(num == 0.0, num, 1.0)
    t = where(num == den, equal, num / den)
    tail = _atan_tail(t)
    negative = x.signbit()
    left = negative != 0
    turns = where(steep, x.const(1.0), where(left, x.const(2.0), 0.0))
    sign = where(steep, negative ^ x.kind.sign, negative)
    high, low = _half_pi(x)
    angle = fma(turns, high, t.flip(sign)) + fma(turns, low, tail.flip(sign))
    return angle.copysign(y)
