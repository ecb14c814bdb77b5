"""Complex exponentials and what is made of them: e**x, sinh, cosh times sines and cosines.

All for float64; complex64 is computed in it. The factors are ``Two``, so that a product rounds
once, and 2**n is multiplied last, because e**x may overflow where e**x * cos(y) does not. Each
function ends with the special values of NumPy (C99, Annex G, as glibc has them).
"""

from fusec.codegen.mathlib.double import Two, choose, two_product, two_sum
from fusec.codegen.mathlib.dsl import INF, NAN, Val, constant, fast_two_sum, fma, polynomial, where
from fusec.codegen.mathlib.exponential import clamp, power_of_two
from fusec.codegen.mathlib.instructions import scaled
from fusec.codegen.mathlib.trigonometric import sin_cos

Pair = tuple[Val, Val]
# e**x times any float64 is 0 below and inf above; from FAR on, 2**n is split once more.
LEAST, FAR, MOST = -746.0, 700.0, 1460.0
# e**-x does not change e**x beyond.
ALONE = 20.0
# tanh(x + iy) is 1 + 0i beyond.
TANH_MOST = 400.0


def finite(x: Val) -> Val:
    """Neither infinite nor nan."""
    return abs(x) < INF


def endless(x: Val) -> Val:
    """Infinite."""
    return abs(x) == INF


def _grown(v: Two, n: Val, size: Val) -> Val:
    """v * 2**n where 2**n is about e**size."""
    far = size > FAR
    y = v.rounded() * where(far, size.const(2.0**128), 1.0)
    return scaled(y, where(far, n - 128, n))


def _exp(x: Two) -> tuple[Two, Val, Val]:
    """(e, n, size) with e**x = e * 2**n to about 2**-57, as ``_grown`` takes them."""
    size = clamp(x.hi, (LEAST, MOST))
    shifted = fma(size, constant(size, "log2(e)")[0], size.kind.magic)
    n = shifted - size.kind.magic
    high, low, _ = constant(size, "ln2")
    whole, lost = two_product(n, size.const(high))
    r, r_low = fast_two_sum(size - whole, -fma(n, low, lost))
    if x.lo is not None:
        r, lost = two_sum(r, where(size == x.hi, x.lo, 0.0))
        r_low = r_low + lost
    e, e_low = fast_two_sum(r.const(1.0), r)
    tail = fma(r * r, polynomial(r, "exp"), fma(r, r_low, r_low))
    return Two(*fast_two_sum(e, e_low + tail)), shifted.bits(), size


def rotated(x: Two, y: Two) -> Pair:
    """e**(x + iy) but for special values."""
    e, n, size = _exp(x)
    s, c = sin_cos(y)
    return _grown(e * c, n, size), _grown(e * s, n, size)


def exp_special(x: Val, y: Val, re: Val, im: Val) -> Pair:
    """(re, im) = e**(x + iy), with its special values."""
    wild = endless(x) & ~finite(y)
    none = wild & (x < 0.0)
    re = where(wild, where(none, x.const(0.0), INF), re)
    im = where(none, x.const(0.0).copysign(y), im)
    return re, where(y == 0.0, y, im)


def cexp(x: Val, y: Val) -> Pair:
    """e**x * (cos(y) + i sin(y))."""
    return exp_special(x, y, *rotated(Two(x), Two(y)))


def _times_ln2(x: Val) -> Two:
    high, low, _ = constant(x, "ln2")
    product = Two(x) * Two(x.const(high), x.const(low))
    return product._replace(lo=where(finite(product.hi), product.low(), 0.0))


def cexp2(x: Val, y: Val) -> Pair:
    """e**(z * ln2)."""
    re, im = rotated(_times_ln2(x), _times_ln2(y))
    return exp_special(x, y, re, im)


def cexpm1(x: Val, y: Val) -> Pair:
    """(e**x cos(y) - 1, e**x sin(y)), where 1 - cos(y) = sin(y)**2 / (1 + cos(y)) for small y."""
    e, n, size = _exp(Two(x))
    s, c = sin_cos(Two(y))
    re, im = _grown(e * c, n, size), _grown(e * s, n, size)
    one, near = Two(x.const(1.0)), abs(size) < FAR
    grown = e.scaled(where(near, power_of_two(n), 0.0)) - one
    fall = choose(c.hi > 0.0, s * s / (one + c), one - c)
    im = where((x == INF) & (y == 0.0), NAN, im)
    re = where(size < FAR, (grown * c - fall).rounded(), re)
    return where((x == 0.0) & (y == 0.0), x, re), im


def _sinh_cosh(x: Val) -> tuple[Two, Two, Val, Val]:
    """(s, c, n, size) with sinh(x) = s * 2**n and cosh(x) = c * 2**n."""
    e, n, size = _exp(Two(abs(x)))
    inverse = Two(power_of_two(-(n + n))) / e
    near = size < ALONE
    inverse = Two(where(near, inverse.hi, 0.0), where(near, inverse.low(), 0.0))
    z = size * size
    small = Two(*fast_two_sum(size, z * size * polynomial(z, "sinh")))
    small = small.scaled(power_of_two(-n, 1))
    s = choose(size < 1.0, small, e - inverse)
    return s.flip(x.signbit()), e + inverse, n - 1, size


def csinh(x: Val, y: Val) -> Pair:
    """sinh(x) cos(y) + i cosh(x) sin(y)."""
    sh, ch, n, size = _sinh_cosh(x)
    s, c = sin_cos(Two(y))
    re = where(x == 0.0, x.flip(c.hi.signbit()), _grown(sh * c, n, size))
    im = where(y == 0.0, y, _grown(ch * s, n, size))
    return where(endless(x) & ~finite(y), INF, re), im


def ccosh(x: Val, y: Val) -> Pair:
    """cosh(x) cos(y) + i sinh(x) sin(y)."""
    sh, ch, n, size = _sinh_cosh(x)
    s, c = sin_cos(Two(y))
    zero = where(finite(y), x.const(0.0).copysign(x).flip(s.hi.signbit()), 0.0)
    zero = where(x != x, y, zero)
    im = where((x == 0.0) | (y == 0.0), zero, _grown(sh * s, n, size))
    return where(endless(x) & ~finite(y), INF, _grown(ch * c, n, size)), im


def ctanh(x: Val, y: Val) -> Pair:
    """(sinh(x) cosh(x) + i sin(y) cos(y)) / (sinh(x)**2 + cos(y)**2), divided by 4**n."""
    sh, ch, n, _ = _sinh_cosh(where(abs(x) > TANH_MOST, x.const(TANH_MOST).copysign(x), x))
    s, c = sin_cos(Two(y))
    down = power_of_two(-n)
    s, c = s.scaled(down), c.scaled(down)
    size = sh * sh + c * c
    re, im = (sh * ch / size).rounded(), (s * c / size).rounded()
    re = where(endless(x) & ~finite(y), x.const(1.0).copysign(x), re)
    im = where(endless(x) & ~finite(y), y.const(0.0).copysign(y), im)
    return where(x == 0.0, x, re), where(y == 0.0, y, im)


def swapped(pair: Pair) -> Pair:
    """f(x + iy) of an odd function from its hyperbolic twin at y + ix."""
    return pair[1], pair[0]


def csin(x: Val, y: Val) -> Pair:
    """sinh with real and imaginary part exchanged."""
    return swapped(csinh(y, x))


def ccos(x: Val, y: Val) -> Pair:
    """cosh(i z)."""
    return ccosh(-y, x)


def ctan(x: Val, y: Val) -> Pair:
    """tanh with real and imaginary part exchanged."""
    return swapped(ctanh(y, x))
