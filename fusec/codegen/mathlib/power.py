"""pow, cbrt, hypot: logarithm and exponential in two numbers, and roots.

``whole_power_6(x)`` and ``inverse_power_6(x)`` multiply out x**6 and x**-6, each product kept with
its rounding error, so that they round about once.
"""

from collections.abc import Callable

from fusec.codegen.mathlib.dsl import (
    F64,
    INF,
    NAN,
    Val,
    at_most,
    constant,
    fast_two_sum,
    fma,
    horner,
    polynomial,
    where,
)
from fusec.codegen.mathlib.exponential import EXP2_MOST, exp2_parts
from fusec.codegen.mathlib.instructions import exponential, kept, root, split


def _log2_of_sum(x: Val) -> tuple[Val, Val]:
    """log2 of a positive number as high + low, to about 2**-64 (float32: 2**-34).

    With s = f / (2 + f): log2(1 + f) = s * (2/ln2 + s**2 * (2/(3 ln2) + s**2 * q(s**2))).
    """
    e, m = split(x)
    f = m - 1.0
    den = f + 2.0
    den_low = f - (den - 2.0)
    inverse = 1.0 / den
    s = f * inverse
    s_low = fma(-s, den_low, fma(-s, den, f)) * inverse
    z = s * s
    z_low = fma(s + s, s_low, fma(s, s, -z))
    first, first_low, _ = constant(x, "2/ln2")
    third, third_low, _ = constant(x, "2/(3 ln2)")
    g, g_low = fast_two_sum(x.const(third), z * polynomial(z, "log2_tail"))
    inner = z * g
    inner_low = fma(z_low, g, fma(z, g_low + third_low, fma(z, g, -inner)))
    w, w_low = fast_two_sum(x.const(first), inner)
    w_low = w_low + (inner_low + first_low)
    main = s * w
    main_low = fma(s_low, w, fma(s, w_low, fma(s, w, -main)))
    high, low = fast_two_sum(e, main)
    return high, low + main_low


def _power_of_size(a: Val, y: Val) -> Val:
    """a**y for a >= 0 other than 1, and y other than 0; nan of either goes through.

    The product with y saturates where it would overflow.
    """
    high, low = _log2_of_sum(a)
    product = y * high
    tail = fma(y, low, fma(y, high, -product))
    exponent = at_most(product, EXP2_MOST[a.kind.name])
    n, p = exp2_parts(exponent, where(exponent == product, tail, 0.0))
    return exponential(p + 1.0, n)


def pow_(x: Val, y: Val) -> Val:
    """C99's pow, whose special values are NumPy's."""
    return _pow(x, y, kept("pow_sign", _sign, y), kept("pow_least", _least, y))


def root_pow(x: Val, y: Val) -> Val:
    """``pow_``, but the square root for y == 0.5: of -0.0 and -infinity they differ."""
    sign = kept("root_sign", lambda y: where(y == 0.5, -0.0, _sign(y)), y)
    return _pow(x, y, sign, kept("root_least", lambda y: where(y == 0.5, NAN, _least(y)), y))


def _pow(x: Val, y: Val, sign: Val, least: Val) -> Val:
    size = _power_of_size(abs(x), y)
    size = where(abs(x) == 1.0, 1.0, size)
    # Tests come last, and those of y are numbers: registers for conditions are few.
    usual, one = kept("pow_usual", _usual, y), kept("pow_one", _one, y)
    size = ((size.bits() & usual.bits()) | one.bits()).real()
    size = size.flip(x.bits() & sign.bits())
    return where((x < 0.0) & ~(x <= least), NAN, size)


def _whole(y: Val) -> Val:
    return y == y.intrinsic("llvm.rint")


def _usual(y: Val) -> Val:
    """The bits of a power that stay: none for y == 0."""
    return where(y == 0.0, y.bits().const(0), -1).real()


def _one(y: Val) -> Val:
    """The power for y == 0, else 0."""
    return where(y == 0.0, y.const(1.0), 0.0)


def _sign(y: Val) -> Val:
    """The sign bit where y is odd."""
    half = y * 0.5
    odd = _whole(y) & (half != half.intrinsic("llvm.rint"))
    return where(odd, y.const(-0.0), 0.0)


def _least(y: Val) -> Val:
    """Powers of numbers between it and 0 are undefined; nan: of all numbers below 0."""
    return where(_whole(y), y.const(0.0), -INF)


Parts = tuple[Val, Val | None]  # a number as high + low; None: high alone


def _times(a: Parts, b: Parts) -> Parts:
    """The product of two numbers, each high + low."""
    (h, low), (g, other) = a, b
    p = h * g
    miss = fma(h, g, -p)
    if a is b:
        return p, miss if low is None else fma(h + h, low, miss)
    miss = miss if other is None else fma(h, other, miss)
    return p, miss if low is None else fma(low, g, miss)


def _parts(x: Parts, n: int) -> Parts:
    """x**n by squaring."""
    if n == 1:
        return x
    if n % 2:
        return _times(_parts(x, n - 1), x)
    half = _parts(x, n // 2)
    return _times(half, half)


def _factors(x: Parts, n: int) -> tuple[Val, Val, Val]:
    """x**n as a product h * g and what that leaves out; n > 2 if x has no low part.

    x**6 is (x * x)**3 without the rounding of (x * x)**2, which counts once: 1.5 ULP.
    """
    if n == 6 and x[1] is None:
        square, low = _times(x, x)
        assert low is not None
        fourth = square * square
        return fourth, square, fourth * (low * 3.0)
    if n % 2 == 0:
        h, low = _parts(x, n // 2)
        assert low is not None
        return h, h, (h + h) * low
    (h, low), (g, other) = _parts(x, n - 1), x
    assert low is not None
    return h, g, low * g if other is None else fma(h, other, low * g)


def _powers(n: int) -> tuple[Callable[[Val], Val], Callable[[Val], Val]]:
    """The last product is rounded once, together with what its factors leave out.

    That says nothing where x**n overflows (beyond ``limit``, and there no product needs it) or is
    infinite.
    """

    def whole_power(x: Val) -> Val:
        if n == 2:
            return x * x
        limit = 2.0 ** ((x.kind.bias + 1) / n) * (1 + 1e-6)
        h, g, missing = _factors((x, None), n)
        if n % 2 == 0:  # what is not below infinity is one instruction
            low = -(2.0**x.kind.bias)
            return fma(h, g, where(missing > low, missing, low))
        return fma(h, g, where(abs(x) < limit, missing, 0.0))

    def inverse_power(x: Val) -> Val:
        r = 1.0 / x
        low = fma(-r, x, 1.0) * r
        h, g, missing = _factors((r, low), n)
        high = h * g
        return where((abs(high) < INF) & (high != 0.0), fma(h, g, missing), high)

    return whole_power, inverse_power


MOST_POWER = 12
POWERS = [f"{kind}_power_{n}" for n in range(2, MOST_POWER + 1) for kind in ("whole", "inverse")]
for _n in range(2, MOST_POWER + 1):
    globals()[f"whole_power_{_n}"], globals()[f"inverse_power_{_n}"] = _powers(_n)


def _inverse_root(m: Val) -> Val:
    """About m**(-1/3), within 2**-15: from the bits of m, which are nearly its logarithm.

    Divided by -3 they are those of the result, to 4 %; the series of (1 - h)**(-1/3) does the rest.
    """
    kind = m.kind
    drop, base = m.bits().v.type.width - kind.mantissa, 2.0**kind.mantissa
    start = 2.0 ** (kind.mantissa - drop) * (4 / 3 * kind.bias - 0.0675)
    high = ((m.bits() >> drop) | kind.bits_of(base)).real()  # base and the bits
    r = (fma(high, -1.0 / 3.0, base * (4 / 3) + start).bits() << drop).real()
    h = fma(-m * r, r * r, 1.0)
    return fma(r * h, horner(h, (1 / 3, 2 / 9, 14 / 81)), r)


def cbrt(x: Val) -> Val:
    """y = m * (m**(-1/3))**2, corrected by its exact residual, so that it rounds about once."""
    kind, a = x.kind, abs(x)
    subnormal = a < kind.tiny
    lift = 3 * ((kind.mantissa + 3) // 3)
    m = where(subnormal, a * 2.0**lift, a)
    r = _inverse_root(m)
    if kind is F64:
        h = fma(-m * r, r * r, 1.0)
        r = fma(r * h, fma(h, 2 / 9, 1 / 3), r)
    square = r * r
    y = m * square
    y = fma(fma(-(y * y), y, m), square * (1 / 3), y)
    y = where(subnormal, y * 2.0 ** (-lift // 3), y)
    return where(a < INF, y, a).copysign(x)


def hypot(x: Val, y: Val) -> Val:
    """sqrt(x**2 + y**2) of numbers scaled by a power of two; inf wins over nan."""
    a, b = abs(x), abs(y)
    swap = b > a
    big, small = where(swap, b, a), where(swap, a, b)
    far = 2.0 ** (x.kind.bias // 2 - 4)
    step = 2.0 ** (x.kind.bias // 2 + 40 if x.kind.mantissa > 30 else 90)
    down, up = big > far, big < 1.0 / far
    scale = where(down, x.const(1.0 / step), where(up, x.const(step), 1.0))
    back = where(down, x.const(step), where(up, x.const(1.0 / step), 1.0))
    big, small = big * scale, small * scale
    h = root(fma(big, big, small * small)) * back
    return where((a == INF) | (b == INF), INF, h)
