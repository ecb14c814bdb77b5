"""exp and what is made of it: e**x = 2**n * (1 + p), with p = expm1(r) and |r| <= ln2 / 2.

The rounding to n is an addition of 1.5 * 2**mantissa, which also leaves n as an integer in the
low bits; no conversion instruction is needed. Results that overflow or become subnormal are
scaled in two steps, so that they round once.
"""

from fusec.codegen.mathlib.dsl import (
    Val,
    at_least,
    at_most,
    constant,
    fma,
    polynomial,
    where,
)
from fusec.codegen.mathlib.instructions import exponential

# e**x and 2**x round to inf above; a little beyond the edges.
EXP_MOST = {"f32": 89.0, "f64": 710.0}
EXP2_MOST = {"f32": 129.0, "f64": 1025.0}
# expm1 rounds to -1 below these.
EXPM1_LEAST = {"f32": -20.0, "f64": -42.0}
# sinh and cosh overflow just below these.
SINH_MOST = {"f32": 89.5, "f64": 710.6}
# tanh is 1 and erf is 1 from here on.
TANH_MOST = {"f32": 10.0, "f64": 20.0}
ERF_MOST = 6.0


def clamp(x: Val, limits: tuple[float, float]) -> Val:
    """x between the limits; nan stays."""
    return at_most(at_least(x, limits[0]), limits[1])


def expm1_reduced(r: Val) -> Val:
    """expm1 for |r| <= ln2 / 2."""
    return fma(r * r, polynomial(r, "exp"), r)


def exp_reduced(x: Val) -> tuple[Val, Val]:
    """(an integer with n in its low bits, r) with e**x = 2**n * e**r."""
    shifted = fma(x, constant(x, "log2(e)")[0], x.kind.magic)
    n = shifted - x.kind.magic
    high, low, _ = constant(x, "ln2")
    return shifted.bits(), fma(n, -low, fma(n, -high, x))


def exp_parts(x: Val) -> tuple[Val, Val]:
    """(an integer with n in its low bits, p) with e**x = 2**n * (1 + p)."""
    n, r = exp_reduced(x)
    return n, expm1_reduced(r)


def power_of_two(n: Val, add: int = 0) -> Val:
    """2**(n + add) as a normal number, from an integer with n in its low bits."""
    return ((n << n.kind.mantissa) + (n.kind.one + (add << n.kind.mantissa))).real()


def exp(x: Val) -> Val:
    """e**x."""
    n, p = exp_parts(at_most(x, EXP_MOST[x.kind.name]))
    return exponential(p + 1.0, n)


def exp_unscaled(x: Val) -> Val:
    """e**x where neither overflow nor underflow can occur."""
    n, p = exp_parts(x)
    s = power_of_two(n)
    return fma(s, p, s)


def exp2_parts(x: Val, tail: Val | None = None) -> tuple[Val, Val]:
    """(integer with n in its low bits, p) with 2**(x + tail) = 2**n * (1 + p)."""
    shifted = x + x.kind.magic
    r = x - (shifted - x.kind.magic)
    if tail is not None:
        r = r + tail
    return shifted.bits(), expm1_reduced(r * constant(x, "ln2")[0])


def exp2(x: Val) -> Val:
    """2**x: the rounding to n is exact, so only r is scaled by ln 2."""
    n, p = exp2_parts(at_most(x, EXP2_MOST[x.kind.name]))
    return exponential(p + 1.0, n)


def expm1(x: Val) -> Val:
    """2**n * e**r - 1, with (2**n - 1) exact; all halved, so that 2**1024 is not needed."""
    least, most = EXPM1_LEAST[x.kind.name], EXP_MOST[x.kind.name]
    n, r = exp_reduced(clamp(x, (least, most)))
    half = power_of_two(n, -1)
    y = fma(half, r * r * polynomial(r, "exp"), fma(half, r, half - 0.5))
    return (y * 2.0).copysign(x)


def _sinh_cosh(x: Val) -> tuple[Val, Val, Val]:
    """(s, p, q) with e**|x| / 4 = s * (1 + p) and e**-|x| / 4 = q."""
    n, p = exp_parts(at_most(abs(x), SINH_MOST[x.kind.name]))
    s = power_of_two(n, -2)
    return s, p, x.const(0.0625) / fma(s, p, s)


def sinh(x: Val) -> Val:
    """(e**|x| - e**-|x|) / 2 from 1 on, an odd polynomial below."""
    s, p, q = _sinh_cosh(x)
    z = x * x
    large = (s + fma(s, p, -q)) * 2.0
    small = fma(z * x, polynomial(z, "sinh"), x)
    return where(abs(x) < 1.0, small, large).copysign(x)


def cosh(x: Val) -> Val:
    """(e**|x| + e**-|x|) / 2."""
    s, p, q = _sinh_cosh(x)
    return (s + fma(s, p, q)) * 2.0


def tanh(x: Val) -> Val:
    """m / (m + 2) for m = e**2|x| - 1, which rounds thrice; x + x**3 * T(x**2) below 0.3."""
    z = x * x
    small = fma(z * x, polynomial(z, "tanh"), x)
    a = at_most(abs(x), TANH_MOST[x.kind.name])
    n, p = exp_parts(a + a)
    s = power_of_two(n)
    m = fma(s, p, s - 1.0)
    return where(abs(x) < 0.3, small, m / (m + 2.0)).copysign(x)


def erf(x: Val) -> Val:
    """x + x * E(x**2) below 1, then 1 - exp(-x**2 + x * Q(x))."""
    small = fma(x, polynomial(x * x, "erf"), x)
    a = at_most(abs(x), ERF_MOST)
    large = 1.0 - exp_unscaled(a * (polynomial(a, "erf_tail") - a))
    return where(abs(x) < 1.0, small, large).copysign(x)
