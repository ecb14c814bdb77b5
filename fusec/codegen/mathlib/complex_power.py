"""Complex powers as NumPy has them: small integer exponents by products, the rest by e**(b log a).

The second way is the C library's cpow with its product of infinite numbers (C99, G.5.1), but the
logarithm and the product carry their rounding errors.
"""

from fusec.codegen.mathlib.complex_exponential import Pair, endless, exp_special, finite, rotated
from fusec.codegen.mathlib.complex_logarithm import log_size
from fusec.codegen.mathlib.double import Two, choose
from fusec.codegen.mathlib.dsl import INF, NAN, Val, where
from fusec.codegen.mathlib.inverse import angle

# NumPy multiplies for exponents below this size, which have so many binary digits.
INTEGERS, DIGITS = 100.0, 7


def pick(condition: Val, yes: Pair, no: Pair) -> Pair:
    """``where`` for pairs."""
    return where(condition, yes[0], no[0]), where(condition, yes[1], no[1])


def _product(a: Pair, b: Pair) -> Pair:
    return a[0] * b[0] - a[1] * b[1], a[0] * b[1] + a[1] * b[0]


def _inverse(z: Pair) -> Pair:
    """1 / z in the order of NumPy's division, so that what is infinite or nan agrees."""
    re, im = z
    real = abs(re) >= abs(im)
    large, small = where(real, re, im), where(real, im, re)
    ratio = small / large
    scale = 1.0 / (large + small * ratio)
    one, none = re.const(1.0), re.const(0.0)
    first, second = where(real, one, none), where(real, none, one)
    crossed = first * ratio
    out = (first + second * ratio) * scale, where(real, second - crossed, crossed - second) * scale
    zero = (re == 0.0) & (im == 0.0)
    return pick(zero, (one / abs(re), none / abs(re)), out)


def _whole_power(a: Pair, n: Val) -> Pair:
    """a**n for integers 0 < |n| < INTEGERS, by squaring."""
    size, zero = abs(n), n.const(0.0)
    power, out = a, (n.const(1.0), zero)
    squares = [a]
    for k in range(DIGITS):
        half = size * 0.5
        rest = half.intrinsic("llvm.floor")
        out = pick(half != rest, _product(out, power), out)
        power, size = (_product(power, power), rest) if k < DIGITS - 1 else (power, rest)
        squares.append(power)
    out = pick(n < 0.0, _inverse(out), out)
    out = pick(n == 3.0, _product(a, squares[1]), out)
    out = pick(n == 2.0, squares[1], out)
    return pick(n == 1.0, a, out)


def _boxed(z: Pair, wild: Val) -> Pair:
    """An infinite number as a corner of the unit box, where ``wild``."""
    parts = [where(endless(v), v.const(1.0), 0.0).copysign(v) for v in z]
    return pick(wild, (parts[0], parts[1]), z)


def _without_nan(z: Pair, wild: Val) -> Pair:
    parts = [where(wild & (v != v), v.const(0.0).copysign(v), v) for v in z]
    return parts[0], parts[1]


def _general_power(a: Pair, b: Pair) -> Pair:
    """e**(b * log(a))."""
    size, arg = log_size(Two(a[0]), a[1]), angle(Two(a[1]), Two(a[0]))
    wide = [Two(v) for v in b]
    re, im = wide[0] * size - wide[1] * arg, wide[0] * arg + wide[1] * size
    plain = _product(b, (size.hi, arg.hi))
    clean = [choose(finite(p) & (v.hi != 0.0), v, Two(p)) for p, v in zip(plain, (re, im))]
    log = size.hi, arg.hi
    lost = (plain[0] != plain[0]) & (plain[1] != plain[1])
    first, second = endless(b[0]) | endless(b[1]), endless(log[0]) | endless(log[1])
    x, y = _boxed(b, first), _boxed(log, second)
    x, y = _without_nan(x, second), _without_nan(y, first)
    box = [v * INF for v in _product(x, y)]
    again = lost & (first | second)
    clean = [Two(where(again, w, v.hi), where(again, 0.0, v.low())) for v, w in zip(clean, box)]
    return exp_special(clean[0].hi, clean[1].hi, *rotated(*clean))


def cpow(x: Val, y: Val, u: Val, v: Val) -> Pair:
    """(x + iy)**(u + iv)."""
    a, b = (x, y), (u, v)
    whole = (v == 0.0) & (abs(u) < INTEGERS) & (u == u.intrinsic("llvm.trunc"))
    out = pick(whole, _whole_power(a, u), _general_power(a, b))
    at_zero = where(u > 0.0, x.const(0.0), NAN)
    out = pick((x == 0.0) & (y == 0.0), (at_zero, at_zero), out)
    return pick((u == 0.0) & (v == 0.0), (x.const(1.0), x.const(0.0)), out)
