"""log and what is made of it: x = 2**e * m with m near 1, and log(m) = f + t for f = m - 1.

The argument may be a sum hi + lo, as in log1p, so that the inverse hyperbolic functions lose
nothing on the way; t collects the small terms and is added last but one.
"""

from fusec.codegen.mathlib.double import Two, two_product
from fusec.codegen.mathlib.dsl import (
    F32,
    INF,
    NAN,
    Val,
    constant,
    fast_two_sum,
    fma,
    polynomial,
    where,
)
from fusec.codegen.mathlib.instructions import root, split

# From here on log(2 x) replaces asinh and acosh: 1 / x**2 is below half an ULP.
ASINH_LARGE = {"f32": 8192.0, "f64": 2.0**28}


def log_tail(f: Val) -> Val:
    """t with log(1 + f) = f + t.

    In float64, with s = f / (2 + f): log(1 + f) = 2 s + s * z * q(z) for z = s**2, where 2 s is
    f - f**2 / 2 + s * f**2 / 2. A processor divides while it does other things.
    """
    square = f * f
    half = square * 0.5
    if f.kind is F32:
        return fma(f * square, polynomial(f, "log"), -half)
    s = f / (f + 2.0)
    z = s * s
    return fma(s, fma(z, polynomial(z, "log_ratio"), half), -half)


def log(x: Val) -> Val:
    """e * ln2 + f + t."""
    e, m = split(x)
    f = m - 1.0
    high, low, _ = constant(x, "ln2 below")
    return fma(e, high, f + fma(e, low, log_tail(f)))


def log2(x: Val) -> Val:
    """(e + f) + f * (log2(e) - 1) + t * log2(e): e + f is exact where it cancels."""
    e, m = split(x)
    f = m - 1.0
    high, low, _ = constant(x, "log2(e)")
    return (e + f) + fma(f, high - 1.0, fma(log_tail(f), high, f * low))


def log10(x: Val) -> Val:
    """e * log10(2) + (f + t) * log10(e), both constants in two parts."""
    e, m = split(x)
    f = m - 1.0
    high, low, _ = constant(x, "log10(e)")
    two, two_low, _ = constant(x, "log10(2) below")
    small = fma(log_tail(f), high, fma(f, low, e * two_low))
    return fma(e, two, fma(f, high, small))


def _terms(high: Val, low: Val, lowest: Val | None = None) -> tuple[Val, Val, Val]:
    """(e, f, rest): log(high + low + lowest) = e * ln2 + f + rest, low below half an ULP.

    ``rest`` is finite unless ``low`` is not. 2**(1 - e) may be 2**(1 - 1024), which is made 0.
    """
    e, m = split(high)
    kind = high.kind
    one_less = high.const(2.0**kind.mantissa + (kind.bias + 1)) - e
    half = (one_less.bits() << kind.mantissa).real() * 0.5
    f, f_low = fast_two_sum(m - 1.0, low * half)
    f_low = f_low if lowest is None else fma(lowest, half, f_low)
    return e, f, log_tail(f) + f_low


def log_of_sum(high: Val, low: Val, doubled: Val | None = None) -> Val:
    """log(high + low), |low| below half an ULP of high; plus log(2) where ``doubled``."""
    e, f, rest = _terms(high, where(high < INF, low, 0.0))
    if doubled is not None:
        e = where(doubled, e + 1.0, e)
    two, two_low, _ = constant(high, "ln2 below")
    return fma(e, two, f + fma(e, two_low, rest))


def wide_log(high: Val, low: Val, lowest: Val, plus: Val) -> Two:
    """log(high + low + lowest) + plus * ln2 with its rounding error."""
    e, f, rest = _terms(high, low, lowest)
    e = e + plus
    two, two_low, _ = constant(high, "ln2 below")
    whole, main_low = two_product(e, high.const(two))
    main, lost = fast_two_sum(whole, f)
    y, y_low = fast_two_sum(main, fma(e, two_low, rest) + (main_low + lost))
    plain = (high > 0.0) & (high < INF)
    return Two(where(plain, y, whole), where(plain, y_low, 0.0))


def one_plus(y: Val) -> tuple[Val, Val]:
    """1 + y as a sum and its rounding error, for any y."""
    u = y + 1.0
    v = u - y
    return u, (y - (u - v)) + (1.0 - v)


def log1p(x: Val) -> Val:
    """log of the sum 1 + x and its rounding error."""
    u, low = one_plus(x)
    return log_of_sum(u, low).copysign(x)


def asinh(x: Val) -> Val:
    """log(1 + a + a**2 / (1 + sqrt(1 + a**2))) for a = |x|."""
    a = abs(x)
    z = a * a
    y, y_low = fast_two_sum(a, z / (root(fma(a, a, 1.0)) + 1.0))
    u, low = one_plus(y)
    large = a > ASINH_LARGE[x.kind.name]
    high = where(large, a, u)
    return log_of_sum(high, where(large, 0.0, low + y_low), large).copysign(x)


def acosh(x: Val) -> Val:
    """log(1 + t + sqrt(2 t + t**2)) for t = x - 1."""
    t = x - 1.0
    r = root(fma(t, t, t + t))
    y = r + t
    y_low = (r - y) + t
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
