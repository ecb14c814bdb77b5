"""log and what is made of it: x = 2**e * m with m near 1, and log(m) = f + t for f = m - 1.

The argument may be a sum hi + lo, as in log1p, so that the inverse hyperbolic functions lose
nothing on the way; t collects the small terms and is added last but one.
"""

from fusec.codegen.mathlib.double import Two, two_product
from fusec.codegen.mathlib.dsl import (
    INF,
    NAN,
    Val,
    constant,
    fast_two_sum,
    fma,
    polynomial,
    where,
)

# From here on log(2 x) replaces asinh and acosh: 1 / x**2 is below half an ULP.
ASINH_LARGE = {"f32": 8192.0, "f64": 2.0**28}
SQRT_HALF = 0.7071067811865476


def split(x: Val) -> tuple[Val, Val, Val]:
    """(e, m, 2**(1 - e)) of a positive x: m in [sqrt(1/2), sqrt(2)); subnormals are scaled first.

    2**(1 - e) is right where x is normal, and 0 where it would be subnormal.
    """
    kind = x.kind
    lift = kind.mantissa + 1
    subnormal = x < kind.tiny
    scaled = where(subnormal, x * 2.0**lift, x)
    offset = kind.bits_of(SQRT_HALF)
    shifted = scaled.bits() + (kind.one - offset)
    m = ((shifted & ((1 << kind.mantissa) - 1)) + offset).real()
    biased = shifted >> kind.mantissa
    base = 2.0**kind.mantissa
    e = (biased | kind.bits_of(base)).real() - where(
        subnormal, x.const(base + kind.bias + lift), base + kind.bias
    )
    inverse = ((biased.const(2 * kind.bias + 1) - biased) << kind.mantissa).real()
    return e, m, inverse


def log_tail(f: Val) -> Val:
    """t with log(1 + f) = f + t."""
    z = f * f
    return fma(f * z, polynomial(f, "log"), z * -0.5)


def with_special(x: Val, y: Val) -> Val:
    """y = log(x), with the values for x = 0, x < 0, inf and nan."""
    y = where(x < INF, y, x)
    y = where(x < 0.0, NAN, y)
    return where(x == 0.0, -INF, y)


def log(x: Val) -> Val:
    """e * ln2 + f + t."""
    e, m, _ = split(x)
    f = m - 1.0
    high, low, _ = constant(x, "ln2")
    y = fma(e, high, f + fma(e, low, log_tail(f)))
    return with_special(x, y)


def log2(x: Val) -> Val:
    """e + (f + t) * log2(e), the constant in two parts."""
    e, m, _ = split(x)
    f = m - 1.0
    high, low, _ = constant(x, "log2(e)")
    return with_special(x, e + fma(f, high, fma(log_tail(f), high, f * low)))


def log10(x: Val) -> Val:
    """e * log10(2) + (f + t) * log10(e), both constants in two parts."""
    e, m, _ = split(x)
    f = m - 1.0
    high, low, _ = constant(x, "log10(e)")
    two, two_low, _ = constant(x, "log10(2)")
    small = fma(log_tail(f), high, fma(f, low, e * two_low))
    main = e * two
    small = small + fma(e, two, -main)
    return with_special(x, main + fma(f, high, small))


def _terms(high: Val, low: Val, lowest: Val | None = None) -> tuple[Val, Val, Val]:
    """(e, f, rest): log(high + low + lowest) = e * ln2 + f + rest, low below half an ULP."""
    e, m, inverse = split(high)
    half = inverse * 0.5
    f, f_low = fast_two_sum(m - 1.0, low * half)
    f_low = f_low if lowest is None else fma(lowest, half, f_low)
    return e, f, log_tail(f) + f_low


def log_of_sum(high: Val, low: Val, doubled: Val | None = None) -> Val:
    """log(high + low), |low| below half an ULP of high; plus log(2) where ``doubled``."""
    e, f, rest = _terms(high, low)
    if doubled is not None:
        e = where(doubled, e + 1.0, e)
    two, two_low, _ = constant(high, "ln2")
    return with_special(high, fma(e, two, f + fma(e, two_low, rest)))


def wide_log(high: Val, low: Val, lowest: Val, plus: Val) -> Two:
    """log(high + low + lowest) + plus * ln2 with its rounding error."""
    e, f, rest = _terms(high, low, lowest)
    e = e + plus
    two, two_low, _ = constant(high, "ln2")
    main, main_low = two_product(e, high.const(two))
    main, lost = fast_two_sum(main, f)
    y, y_low = fast_two_sum(main, fma(e, two_low, rest) + (main_low + lost))
    return Two(with_special(high, y), where((high > 0.0) & (high < INF), y_low, 0.0))


def one_plus(y: Val) -> tuple[Val, Val]:
    """1 + y as a sum and its rounding error, for any y."""
    u = y + 1.0
    v = u - y
    return u, (y - (u - v)) + (1.0 - v)


def log1p(x: Val) -> Val:
    """log of the sum 1 + x and its rounding error."""
    u, low = one_plus(x)
    return log_of_sum(u, where(abs(x) < INF, low, 0.0)).copysign(x)


def asinh(x: Val) -> Val:
    """log(1 + a + a**2 / (1 + sqrt(1 + a**2))) for a = |x|."""
    a = abs(x)
    z = a * a
    y, y_low = fast_two_sum(a, z / (fma(a, a, 1.0).intrinsic("llvm.sqrt") + 1.0))
    u, low = one_plus(y)
    large = a > ASINH_LARGE[x.kind.name]
    high = where(large, a, u)
    return log_of_sum(high, where(large, 0.0, low + y_low), large).copysign(x)


def acosh(x: Val) -> Val:
    """log(1 + t + sqrt(2 t + t**2)) for t = x - 1."""
    t = x - 1.0
    root = fma(t, t, t + t).intrinsic("llvm.sqrt")
    y = root + t
    y_low = (root - y) + t
    u, low = one_plus(y)
    large = x > ASINH_LARGE[x.kind.name]
    high = where(large, x, u)
    y = log_of_sum(high, where(large, 0.0, low + y_low), large)
    return where(x < 1.0, NAN, y)


def atanh(x: Val) -> Val:
    """log(1 + 2 a / (1 - a)) / 2 for a = |x|, the quotient with its rounding error."""
    a = abs(x)
    den = 1.0 - a
    den_low = (1.0 - den) - a
    inverse = 1.0 / den
    q = (a + a) * inverse
    q_low = (fma(-q, den, a + a) - q * den_low) * inverse
    u, low = one_plus(q)
    return (log_of_sum(u, low + q_low) * 0.5).copysign(x)
