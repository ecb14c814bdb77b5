"""Rows of `numpy_faithfulness.md` about values and dtypes: one element at a time."""

import collections
import fractions
import math

import numpy as np
from table import (
    COMPLEX,
    FLOATS,
    INTS,
    Table,
    extremes,
    near_multiples,
    pairs,
    positive,
    ramp,
    special,
)

ROWS = Table()
row = ROWS.row


def exponents(dtype):
    """Powers of two that reach, and miss, both ends of the float formats."""
    if dtype == "f4":
        return ramp(dtype)
    far = [n for n in (-1030, -1074, -149, -130, 127, 200, 1100, 2100) if n > 0 or dtype[0] == "i"]
    return np.append(extremes(dtype), np.array(far).astype(dtype))


# --- fix, cbrt, sign, heaviside, clip
for d in FLOATS:
    row(f"fix-{d}", lambda x: np.fix(x), special(d))
    row(f"rounding-{d}",
        lambda x: (np.floor(x), np.ceil(x), np.trunc(x), np.rint(x), np.round(x)), special(d))
    row(f"round-decimals-{d}", lambda x: np.round(x, 2), positive(d), ulp=1)
    row(f"cbrt-{d}", lambda x: np.cbrt(x), special(d), ulp=4)
    row(f"sign-{d}", lambda x: np.sign(x), special(d))
    row(f"signbit-copysign-{d}", lambda x, y: (np.signbit(x), np.copysign(x, y)),
        *pairs(special(d)))
    row(f"heaviside-{d}", lambda x, h: np.heaviside(x, h), *pairs(special(d)))
    row(f"heaviside-scalar-{d}", lambda x: np.heaviside(x, 0.5), special(d))
    row(f"clip-nan-{d}", lambda x: np.clip(x, -1, 1), special(d))
    row(f"clip-nan-bound-{d}", lambda x: np.clip(x, np.nan, 1), ramp(d))
    row(f"clip-crossed-{d}", lambda x: np.clip(x, 2, -2), ramp(d))
    row(f"nextafter-spacing-{d}", lambda x: (np.nextafter(x, 1), np.spacing(x)), special(d))
    row(f"nan-to-num-{d}", lambda x: np.nan_to_num(x), special(d))
    row(f"nan-to-num-given-{d}",
        lambda x: np.nan_to_num(x, nan=3.0, posinf=5.0, neginf=-5.0), special(d))
    row(f"tests-{d}", lambda x: (np.isnan(x), np.isinf(x), np.isfinite(x), x == x), special(d))
    row(f"isclose-{d}", lambda x, y: np.isclose(x, y), *pairs(special(d)))
    row(f"isclose-equal-nan-{d}", lambda x, y: np.isclose(x, y, equal_nan=True),
        *pairs(special(d)))
    row(f"frexp-modf-{d}", lambda x: (np.frexp(x), np.modf(x)), special(d))
    row(f"frexp-strided-{d}", lambda x: np.frexp(x.T[::-1]), ramp(d, 3, 4))
    row(f"frexp-0-d-{d}", lambda x: (np.frexp(x.max()), np.frexp(x[:0])), ramp(d))
    row(f"nextafter-{d}", lambda x, y: np.nextafter(x, y), *pairs(special(d)))
    row(f"ldexp-{d}", lambda x: np.ldexp(x, 3), special(d))
    for n in ("i1", "u2", "i4", "i8", "u8", "f4"):
        row(f"ldexp-{d}-{n}", lambda x, n: np.ldexp(x, n), *pairs(special(d), exponents(n)))

def clip_zeros(x):
    """Of two zeros it takes x, but the bound where that is an array of float32 or float64."""
    bounds = [0.0, -0.0, np.full(1, 0.0, x.dtype), np.full(1, -0.0, x.dtype),
              np.zeros_like(x), -np.zeros_like(x), np.zeros_like(x[:, :1])]  # fmt: skip
    return [np.clip(y, low, high) for y in (x, x[0, 0], x[1, :1], x[:1, 1:2])
            for low in (-2.0, *bounds) for high in (2.0, *bounds)]  # fmt: skip


for d in ("f2", "f4", "f8"):
    row(f"clip-zeros-{d}", clip_zeros, np.array([[0.0, -0.0], [-0.0, 0.0], [1.0, -1.0]], d))
row("clip-int8-outside", lambda x: np.clip(x, -1000, 1000), ramp("i1"))
row("clip-uint8-negative", lambda x: np.clip(x, -1, 5), ramp("u1"))
row("clip-int-bounds", lambda x: x.clip(-3, 4), ramp("i4"))
row("clip-one-sided", lambda x: (np.clip(x, None, 4), np.clip(x, 0, None)), ramp("i4"))
row("clip-float-bounds-of-int", lambda x: np.clip(x, -2.5, 2.5), ramp("i4"))
row("clip-arrays", lambda x, lo, hi: np.clip(x, lo, hi), ramp("f8", 3, 4), ramp("f8", 4),
    ramp("f8", 3, 1) + 5)
row("sign-ints", lambda x: np.sign(x), extremes("i2"))
row("sign-complex", lambda x: np.sign(x), ramp("c16"), ulp=4)

# --- square, reciprocal, divide, power of integers; unsigned and mixed arithmetic
for d in INTS:
    row(f"unary-{d}", lambda x: (np.square(x), -x, abs(x), np.positive(x), ~x), extremes(d))
    row(f"reciprocal-{d}", lambda x: np.reciprocal(x), extremes(d))
    row(f"divide-{d}", lambda x, y: x / y, *pairs(extremes(d)))
    row(f"floor-divide-{d}", lambda x, y: (x // y, x % y), *pairs(extremes(d)))
    row(f"fmod-divmod-{d}", lambda x, y: (np.fmod(x, y), np.divmod(x, y), np.remainder(x, y)),
        *pairs(extremes(d)))
    row(f"divide-near-multiples-{d}", lambda x, y: (x // y, x % y, np.fmod(x, y)),
        *near_multiples(d))
    row(f"divide-by-one-number-{d}", lambda x, y: (x // y, x % y, np.fmod(x, y)),
        near_multiples(d)[0], near_multiples(d)[1][20])
    row(f"wrap-{d}", lambda x, y: (x + y, x - y, x * y), *pairs(extremes(d)))
    row(f"compare-{d}", lambda x, y: (x < y, x <= y, x == y, x != y, np.maximum(x, y)),
        *pairs(extremes(d)))
    row(f"bits-{d}", lambda x, y: (x & y, x | y, x ^ y, np.logical_xor(x, y)),
        *pairs(extremes(d)))
    row(f"power-{d}", lambda x: (x**2, x**3, x**0), extremes(d))
    row(f"power-array-{d}", lambda x, y: x**y, *pairs(ramp(d)[ramp(d) >= 0]))
    row(f"negative-power-{d}", lambda x: x**-1, ramp(d))
    width = np.dtype(d).itemsize * 8
    counts = np.array([0, 1, width - 1, width, width + 1, 100, 127], d)
    if d[0] == "i":
        counts = np.append(counts, np.array([-1, -5], d))
    left, right = np.repeat(extremes(d), len(counts)), np.tile(counts, len(extremes(d)))
    row(f"shifts-{d}", lambda x, y: (x << y, x >> y), left, right)
    row(f"gcd-lcm-{d}", lambda x, y: (np.gcd(x, y), np.lcm(x, y)),
        *pairs(np.append(extremes(d), ramp(d))))
    row(f"gcd-literal-{d}", lambda x: (np.gcd(x, 12), np.lcm(0, x), np.gcd.reduce(x)), ramp(d))
    row(f"frexp-ldexp-{d}", lambda x: (np.frexp(x), np.ldexp(x, 2)), extremes(d))
    row(f"invert-shift-scalar-{d}", lambda x: ((x << 1) ^ (x >> 2), ~x & 5), extremes(d))
    row(f"int-in-math-{d}", lambda x: (np.sqrt(x), np.exp(x), np.sin(x)), ramp(d) % 5, ulp=4)
    row(f"int-to-bool-{d}", lambda x: (np.logical_not(x), x.astype(bool), x > 0), extremes(d))
    row(f"popcount-{d}", lambda x: np.bitwise_count(x), extremes(d))
    row(f"round-{d}", lambda x: (np.round(x), np.floor(x), np.trunc(x), np.rint(x)), extremes(d))
row("negative-power-array", lambda x, y: x**y, ramp("i4"), ramp("i4"))
row("power-array-of-float", lambda x, y: x**y, positive("f4"), ramp("i4"), ulp=4)
row("divmod-by-literal", lambda x: (x // 3, x % 3, x // -3, x % -3), extremes("i4"))
row("divide-by-literal-zero", lambda x: (x // 0, x % 0, x / 0), extremes("i4"))
row("floor-divide-by-power-of-two", lambda x: (x // 8, x % 8), extremes("i8"))
row("uint64-against-int64", lambda x, y: (x == y, x < y, x > y, x != y),
    np.array([2**53 + 1, 2**63, 0, 5], "u8"), np.array([2**53, -1, -5, 5], "i8"))
row("uint64-plus-int64", lambda x, y: x + y, extremes("u8")[:8], extremes("i8")[:8])
row("int64-min-floor-divide", lambda x: (x // -1, x % -1), extremes("i8"))
for a in INTS:
    for b in INTS:
        if a != b:
            row(f"mixed-{a}-{b}",
                lambda x, y: (x + y, x - y, x * y, x < y, x == y, np.maximum(x, y), x // y),
                ramp(a) * 5, ramp(b)[::-1] * 3)
for a, b in [(i, f) for i in INTS for f in FLOATS] + [
    ("f4", "f8"), ("f2", "f4"), ("f2", "i2"), ("?", "f4"), ("?", "i1"), ("?", "?"),
]:
    row(f"promote-{a}-{b}", lambda x, y: (x + y, x * y, x / (y + 9), np.minimum(x, y)),
        ramp(a), ramp(b))
for a, b in [("c8", "f4"), ("c8", "f8"), ("c16", "f4"), ("i4", "c8"), ("c8", "c16"), ("?", "c8")]:
    row(f"promote-{a}-{b}", lambda x, y: (x + y, x * y, x - y, x == y), ramp(a), ramp(b), ulp=4)
for d in COMPLEX:
    row(f"complex-parts-{d}", lambda x: (x.real, x.imag, x.conj(), np.conj(x), -x), ramp(d))
    row(f"complex-abs-angle-{d}", lambda x: (np.abs(x), np.angle(x)), ramp(d), ulp=4)
    row(f"complex-divide-{d}", lambda x, y: x / (y + 30), ramp(d), ramp(d)[::-1], ulp=6)
    row(f"complex-special-{d}", lambda x, y: (x + y, x == y, np.isnan(x), np.isfinite(x)),
        *pairs(np.array([np.nan, np.inf, -np.inf, 1j * np.inf, complex(-0.0, -0.0), 1 + 2j], d)))
    row(f"complex-divide-special-{d}", lambda x, y: x / y,
        *pairs(np.array([np.nan, complex(0, np.nan), complex(np.nan, -0.0), 0, 1 + 2j], d)), ulp=6)
    row(f"complex-math-{d}", lambda x: (np.exp(x * 0.1), np.sqrt(x), np.square(x)), ramp(d), ulp=8)
    edges = np.array([complex(a, b) for a in (-0.0, 0.0, -np.inf, np.inf, np.nan, -1.5, 2.0)
                      for b in (0.0, -0.0, 1.3, -np.inf, np.nan)], d)
    for shape in ((35,), ()):  # NumPy has ufuncs of their own for 2, -1 and 0.5 behind **
        row(f"complex-powers-{d}-{len(shape)}",
            lambda x: (x**2, x**-1, x**0.5, x**1, x**2.0, x**-1.0, x**0),
            edges if shape else edges[16].reshape(()), ulp=8)
    row(f"complex-order-{d}", lambda x, y: (x < y, np.maximum(x, y)), ramp(d), ramp(d)[::-1])
    row(f"complex-to-real-part-in-place-{d}", lambda x: x.real.sum() + 0 * x.imag[0], ramp(d),
        rel=1e-5)
row("bool-arithmetic", lambda x, y: (x + y, x * y, x & y, x | y, x ^ y, ~x), ramp("?"),
    ramp("?")[::-1])
row("bool-minus", lambda x, y: x - y, ramp("?"), ramp("?"))
row("bool-negative", lambda x: -x, ramp("?"))
row("bool-divide", lambda x, y: x / (y + 1), ramp("?"), ramp("?"))
row("bool-plus-int", lambda x: (x + 1, x * 2.5, x / 2), ramp("?"))

# --- Python scalars are weak
WEAK = {
    "f4+1.0": (lambda x, s: x + s, "f4", 1.0),
    "f4+1": (lambda x, s: x * s, "f4", 3),
    "f4-overflow": (lambda x, s: x * s, "f4", 1e300),
    "f2+1.0": (lambda x, s: x + s, "f2", 1.5),
    "i4+1.5": (lambda x, s: x + s, "i4", 1.5),
    "u1+100": (lambda x, s: x + s, "u1", 100),
    "u1+300": (lambda x, s: x + s, "u1", 300),
    "u1-minus-1": (lambda x, s: x * s, "u1", -1),
    "i1*-129": (lambda x, s: x * s, "i1", -129),
    "i8+2**63": (lambda x, s: x + s, "i8", 2**63),
    "u8+2**63": (lambda x, s: x + s, "u8", 2**63),
    "f8+2**70": (lambda x, s: x + s, "f8", 2**70),
    "b+1": (lambda x, s: x + s, "?", 1),
    "b*1.5": (lambda x, s: x * s, "?", 1.5),
    "c8+1j": (lambda x, s: x + s, "c8", 1j),
    "f4*1j": (lambda x, s: x * s, "f4", 1j),
    "f4*True": (lambda x, s: x * s, "f4", True),
    "i8+True": (lambda x, s: x + s, "i8", True),
    "u1<300": (lambda x, s: x < s, "u1", 300),
    "u1==-1": (lambda x, s: x == s, "u1", -1),
    "i1>-1000": (lambda x, s: x > s, "i1", -1000),
    "u8<-1": (lambda x, s: x < s, "u8", -1),
    "f4/0": (lambda x, s: x / s, "f4", 0),
    "i4//0": (lambda x, s: x // s, "i4", 0),
    "i4%3": (lambda x, s: x % s, "i4", 3),
    "f4-right": (lambda x, s: s / (x + 5), "f4", 1),
    "i4<<3": (lambda x, s: x << s, "i4", 3),
    "maximum": (lambda x, s: np.maximum(x, s), "f4", 0),
    "f4+np.float64": (lambda x, s: x + s, "f4", np.float64(1)),
    "f4+np.float32": (lambda x, s: x + s, "f4", np.float32(1)),
    "u1+np.int16": (lambda x, s: x + s, "u1", np.int16(300)),
    "f4+0-d": (lambda x, s: x + s, "f4", np.array(1.0)),
    "i4+0-d-f4": (lambda x, s: x + s, "i4", np.array(1, "f4")),
}
for name, (fn, d, s) in WEAK.items():
    row(f"weak-argument {name}", fn, ramp(d), s)
    row(f"weak-literal {name}", lambda x, fn=fn, s=s: fn(x, s), ramp(d))
row("weak-only-scalars", lambda a, b: (a + b, a * b, a / b, a // b), 7, 2)
row("weak-float-and-int", lambda a, b: (a + b, a * b), 7, 2.5)
row("weak-ufunc-of-scalars", lambda a, b: (np.add(a, b), np.sqrt(b)), 7, 2.5, ulp=1)
row("weak-scalar-passed-through", lambda x, s: (x * s, s), ramp("f4"), 2.5)
row("where-weak", lambda x: np.where(x > 0, 1, 0), ramp("f4"))
row("where-weak-float", lambda x: np.where(x > 0, x, 0.0), ramp("f4"))
row("where-weak-int-into-f4", lambda x: np.where(x > 0, x, 7), ramp("f4"))
row("where-weak-both", lambda x: np.where(x > 0, 1.5, 2), ramp("f4"))
row("where-weak-u1", lambda x: np.where(x > 5, x, -1), ramp("u1"))
row("where-weak-u1-too-large", lambda x: np.where(x > 5, x, 300), ramp("u1"))
row("where-weak-argument", lambda x, a, b: np.where(x > 5, a, np.where(x > 9, x, b)), ramp("u1"),
    300, -1)
row("where-weak-too-large-of-none", lambda x: np.where(x > 5, x, 300), ramp("u1", 0))
row("where-weak-int-of-data", lambda x, y: np.where(x > 5, x, int(y.max())), ramp("u1"),
    ramp("i4") + 300)
row("where-weak-int8-too-large", lambda x: np.where(x > 5, 200, x), ramp("i1"))
row("where-weak-bool", lambda x: np.where(x > 0, True, False), ramp("f4"))
row("where-arguments", lambda x, a, b: np.where(x > 0, a, b), ramp("f4"), 1, 2.5)
row("where-numpy-scalar", lambda x: np.where(x > 0, x, np.float64(1)), ramp("f4"))
row("where-mixed", lambda x, y: np.where(x > y, x, y), ramp("i4"), ramp("f4"))
row("where-int-condition", lambda x, y: np.where(x, x, y), ramp("i4"), ramp("i8"))
row("where-broadcast", lambda m, x, y: np.where(m, x, y), ramp("?", 3, 1), ramp("f4", 4),
    ramp("f8", 3, 4))
row("scalar-argument-types", lambda x: (x + np.int8(1), x + np.uint64(1), x * np.complex64(1)),
    ramp("i4"))

# --- nothing is simplified that changes a value
for d in FLOATS:
    v = special(d)
    row(f"log-exp-{d}", lambda x: np.log(np.exp(x)), np.array([100.0, 1000.0, -1000.0, 1.0], d)
        if d == "f8" else np.array([80.0, 1000.0, -1000.0, 1.0], d), rel=1e-6)
    row(f"identities-{d}", lambda x: (x + 0, x - 0, x * 1, x / 1, 0 + x, 1 * x, +x, x + 0.0), v)
    row(f"inverses-{d}", lambda x: (x - x, x * 0, x / x, 0 / x, 0 * x, 0 - x), v)
    row(f"not-associative-{d}", lambda x: ((x + 1) - 1, x * 2 / 2, x * 1e-30 * 1e30), v)
    row(f"twice-{d}", lambda x: (-(-x), abs(abs(x)), np.sqrt(x) ** 2, np.sqrt(x * x)), v)
    row(f"power-identities-{d}", lambda x: (x**1, x**2, x**0, x**0.5, x**-1), v, ulp=4)
    row(f"power-half-{d}", lambda x, p, q: (np.power(x, 0.5), x**p, x**q, x**np.float32(0.5),
        x[:3] ** np.full(3, 0.5), x.max() ** 0.5), np.array([-0.0, 0, -np.inf, np.inf, 4, -1], d),
        0.5, np.array([0.5], d), ulp=2)
    row(f"power-half-of-one-{d}", lambda x, y: (x**0.5, np.power(x, 0.5), y**0.5, x[()] ** 0.5),
        np.array(-0.0, d), np.array([-0.0], d))
    row(f"roots-of-numbers-{d}", lambda x: [x[k] ** 0.5 for k in range(40)],
        np.geomspace(1, 4, 40, dtype=d))
    for k in range(5):
        row(f"power-half-of-number-{k}-{d}", lambda x, y: (x**0.5, np.power(x, 0.5), x**y, y**y,
            np.power(x, y), x ** np.array(0.5), x**-0.5, float(x) ** 0.5, x[...] ** 0.5, 0.5**y),
            np.array([-0.0, 0, -np.inf, np.inf, 4], d)[k], np.array(0.5, d)[()], ulp=2)
    row(f"power-special-{d}", lambda x, y: x**y, *pairs(v[:13]), ulp=4)
    row(f"pythagoras-{d}", lambda x: np.sin(x) ** 2 + np.cos(x) ** 2, ramp(d), rel=1e-6)
    row(f"divide-special-{d}", lambda x, y: (x / y, x * y, x + y, x - y), *pairs(v))
    row(f"float-remainder-{d}", lambda x, y: (x % y, np.fmod(x, y), x // y, np.divmod(x, y)),
        *pairs(v))
    row(f"compare-special-{d}", lambda x, y: (x < y, x <= y, x == y, x != y, x > y), *pairs(v))
    row(f"subnormal-{d}", lambda x: (x * 0.5, x * 2, x + x), v)
    row(f"minus-zero-{d}", lambda x: (abs(x), np.copysign(x, -1), -x, np.sqrt(x), x * 1), v[3:5])
    row(f"minus-zero-minmax-{d}", lambda x: (np.minimum(x, 1), np.maximum(x, -1), x.min()),
        np.full(9, -0.0, d))
    row(f"minmax-nan-{d}",
        lambda x, y: (np.minimum(x, y), np.maximum(x, y), np.fmin(x, y), np.fmax(x, y)),
        *[p[pairs(np.arange(18))[0] > 1] for p in pairs(np.delete(v, (3, 4)))])
    row(f"minmax-bounds-{d}", lambda x: (np.maximum(x, -1), np.minimum(x, 3), np.maximum(x, 0),
        np.minimum(x, -0.0), np.maximum(x, np.nan), np.minimum(x, np.inf), np.clip(x, -2, 3)),
        np.tile(v, 4))
    row(f"hypot-special-{d}", lambda x, y: (np.hypot(x, y), np.arctan2(x, y)), *pairs(v), ulp=4)
    for fn in (np.exp, np.exp2, np.expm1, np.log, np.log2, np.log10, np.log1p, np.sin, np.cos,
               np.tan, np.arcsin, np.arccos, np.arctan, np.sinh, np.cosh, np.tanh, np.arcsinh,
               np.arccosh, np.arctanh, np.sqrt):
        row(f"{fn.__name__}-{d}", lambda x, fn=fn: fn(x),
            np.concatenate([v[:-3], positive(d), ramp(d)]), ulp=0 if fn is np.sqrt else 4)
    row(f"logaddexp-{d}", lambda x, y: (np.logaddexp(x, y), np.logaddexp2(x, y)), ramp(d),
        positive(d), ulp=16)
    row(f"degrees-{d}", lambda x: (np.deg2rad(x), np.rad2deg(x), np.sinc(x)), ramp(d), ulp=8)
row("float16-scalars", lambda x: (x.max() - 1, 3 / (x.max() + 1), np.where(x[1] > 0, x[1], 1)),
    ramp("f2"))
row("complex-power-of-a-scalar", lambda x: x.sum() / x.mean() ** 1.5, ramp("c16"), rel=1e-12)
row("float16-through", lambda x: (x * 2, np.exp(x), x.sum(), x.astype("f4")), ramp("f2"), ulp=4)

# --- casts
for a in (*INTS, "f4", "f8", "?"):
    row(f"casts-from-{a}", lambda x: tuple(
        x.astype(t) for t in ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8", "?")
    ), extremes(a) if a in INTS else np.abs(ramp(a).astype("f8")).astype(a))
row("cast-complex", lambda x: (x.astype("c8"), x.astype("c16")), ramp("f8"))
row("cast-f8-to-f4-overflow", lambda x: x.astype(np.float32), special("f8"))
for a in ("i8", "u8"):  # 64 bits are more than a double holds
    row(f"cast-{a}-and-back", lambda x: x.astype(float).astype(x.dtype), extremes(a) // 4 + 77)
row("cast-truncates", lambda x: x.astype(np.int32), np.array([1.9, -1.9, 2.5, -0.5]))
row("cast-float16", lambda x: x.astype(np.float16), ramp("f4"))
row("cast-same-is-a-copy", lambda x: x.astype(x.dtype), ramp("f4"))
row("cast-same-no-copy", lambda x: x.astype(x.dtype, copy=False), ramp("f4"))
row("cast-ufunc-dtype", lambda x: np.add(x, 1, dtype=np.float64), ramp("f4"))
row("cast-ufunc-dtype-refused", lambda x: np.add(x, 1, dtype=np.int32), ramp("f4"))
row("view-as-other-dtype", lambda x: x.view(np.int32), ramp("f4"))


def loud(x):
    with np.errstate(divide="raise"):
        return 1 / x


row("errstate-raise-inside", loud, np.array([1.0, 0.0]))
row("errstate-raise-inside-quiet", loud, np.array([1.0, 2.0]))


# --- Python numbers of traced values are weak, their arithmetic is Python's
for dtype in ("f4", "f8", "i1", "f2"):
    for name, fn in {
        "float": lambda x: (x * float(x.max()), float(x.sum()), x / float(x.max()) - 1),
        "int": lambda x: (x + int(x[1]), int(x.sum()), x == int(x.max()), -int(x[0]) * x),
        "item": lambda x: (x * x.max().item(), x.item(2), x.sum().item() ** 2),
        "bool": lambda x: (bool(x.any()), x * bool(x.all()), bool(x.any()) + bool(x.all())),
        "bool-first": lambda x: [
            (b * (x > 0), b - x, b ** (x > 0), b + np.bool_(b), b * [1]) for b in [bool(x.any())]
        ],
        "math": lambda x: (x * math.floor(x[1]), x + math.sqrt(abs(float(x[0])))),
        "arithmetic": lambda x: x * ((float(x[0]) + 1) * 2 - float(x[1]) / 3 + int(x[2]) // 2),
        "round": lambda x: (x * round(float(x[1]) / 3, 1), round(x[1]), divmod(float(x[1]), 2)),
        "nothing": lambda x: [collections.defaultdict(k)["b"] + x for k in (int, float)],
        "extremes": lambda x: (x * max(float(x[0]), 1.5), min(int(x[1]), 2)),
        "extremes-of-types": lambda x: (max(int(x[2]), 2.5), min(1.0, int(x[0])), max([x[3], 2]),
            x * min(int(x[1]), 2.5), max(bool(x[0]), 0), min(x[1], 2.5, int(x[0])),
            np.arange(3) * max(int(x[0]), x[2].item()), np.array([max(2, float(x[0]))]),
            x / max(1, x[2]), max(int(x[2]), 2.5) // 2, type(max(x[0], 1)),
            max(int(x[1]) + 2**53, 2.0**53), [max(v, 3) + 1 for v in x], x * (max(x[1], 1) * 2),
            np.append(np.arange(2), max(int(x[0]), 0.5)), max(x[1], np.float16(0))[None],
            min(x[1], 1, 2.5) / 2, divmod(min(x[1], 1), 2), max(x[0], fractions.Fraction(1, 2)),
        ),
        "extreme-of-none": lambda x: min(x[0], None),
        "list": lambda x: (x * sum([float(v) for v in x]), np.array([float(x[0]), 1])),
        "filled": lambda x: (np.full(2, float(x[0])), np.where(x > 1, float(x[0]), x)),
        "in-place": lambda x: x.__setitem__(0, float(x.max())),
        "shift": lambda x: (int(x[1]) << 2, ~int(x[1]), 3 >> int(x[1])),
    }.items():
        row(f"python-{name}-{dtype}", fn, np.array([1.25, 2, 3.5, 0]).astype(dtype), rel=1e-3)
for name, fn in {
    "division": lambda x: float(x[1]) / float(x[0]), "remainder": lambda x: 5 % int(x[0]),
    "divmod": lambda x: divmod(5, float(x[0]))[1] + x, "divmod-array": lambda x: divmod(5, x[0]),
    "power": lambda x: float(x[0]) ** -1, "complex-power": lambda x: (-float(x[1])) ** 0.5,
    "shift": lambda x: 1 << int(x[2]), "too-large": lambda x: x.astype("u1") + int(x[2]),
    "item-of-many": lambda x: x.item(), "numpy-division": lambda x: x[1] / x[0],
}.items():
    row(f"python-raises-{name}", fn, np.array([0.0, 2.0, 300.0]), rel=1e-15)

# --- Python's ints have any size
LARGE = np.array([9, -7, 0, 2**62, -(2**63), 2**63 - 1, 2**53 + 1])
for name, fn in {
    "branch": lambda k: k + 1 if int(k[0]) * 10**10 * 10**10 > 5 else k - 1,
    "add": lambda k: (int(k[5]) + 1, int(k[3]) + int(k[3])), "sum": lambda k: sum(map(int, k)),
    "sub": lambda k: (int(k[4]) - 1, -2 - int(k[5])), "mul": lambda k: int(k[3]) * 2,
    "neg": lambda k: (-int(k[4]), -int(k[5])), "abs": lambda k: abs(int(k[4])),
    "power": lambda k: [int(k[0]) ** n for n in (2, 19, 20)], "power-of": lambda k: 2 ** int(k[0]),
    "power-of-three": lambda k: pow(int(k[0]), 3, 7), "negative": lambda k: int(k[0]) ** int(k[1]),
    "shift": lambda k: (int(k[1]) << 61, int(k[2]) << 99), "shifted-out": lambda k: int(k[0]) << 60,
    "shift-back": lambda k: int(k[2]) << int(k[1]), "shift-down": lambda k: 1 >> int(k[1]),
    "quotient": lambda k: int(k[4]) // -1, "divmod": lambda k: divmod(int(k[4]), int(k[1]) + 6),
    "division": lambda k: (int(k[5]) / 3, int(k[0]) / int(k[1])),
    "division-of-literal": lambda k: [(2**62 + n) / (int(k[0]) - 2) for n in range(900, 1100, 7)],
    "compare-above-floats": lambda k: int(k[6]) == float(k[6]),
    "literal": lambda k: (int(k[0]) + 10**30, 10**30 % int(k[0]), int(k[0]) & 2**64),
    "compare": lambda k: (int(k[0]) < 10**30, int(k[0]) == 10**19, int(k[4]) > -(10**19)),
    "compare-float": lambda k: (int(k[5]) == 2.0**63, int(k[6]) == float(k[6]), int(k[0]) < 0.5),
    "float-and-literal": lambda k: (float(k[0]) < 10**400, float(k[0]) + 10**30),
    "extreme": lambda k: max(int(k[3]), 2**63) * 1.0, "of-float": lambda k: int(3e18) * int(k[0]),
    "into-array": lambda k: k.__setitem__(0, int(k[3]) * 2),
    "with-array": lambda k: k + int(k[3]) * 2,
    "generator": lambda k: [s for s in [int(k[0])] for _ in range(4)
        for s in [(6364136223846793005 * s + 1442695040888963407) % 2**64]],
    "congruential": lambda k: [s for s in [int(k[0])] for _ in range(4)
        for s in [(1664525 * s + 1013904223) % 2**32]],
    "methods": lambda k: (int(k[0]).bit_length(), int(k[0]).to_bytes(2, "big"), int(k[0]).real),
}.items():
    row(f"python-int-{name}", fn, LARGE)
for dtype in ("u1", "u4", "u8", "i1"):
    for name, fn in {
        "below-zero": lambda x: (x[0].item() - 5, -x[0].item(), ~x[1].item(), x[0].item() * -1),
        "large": lambda x: (x[1].item() + 1, x[1].item() * x[1].item(), x[1].item()),
        "array": lambda x: (np.array(x[0].item()), np.zeros(2) + x[1].item(), x * x[0].item()),
    }.items():
        row(f"python-int-{name}-{dtype}", fn, np.array([3, np.iinfo(dtype).max], dtype))
for name, fn in {
    "parts": lambda z: (z.item().real, z.item().imag, z.item().conjugate()),
    "parts-of-real": lambda z: (lambda x: (x.real, x.imag, x.conjugate()))(float(z.imag)),
    "methods": lambda z: (z.real.item().is_integer(), z.imag.item().as_integer_ratio()),
    "hypot": lambda z: math.hypot(float(z.real), float(z.imag), 1),
}.items():
    row(f"python-number-{name}", fn, np.array(2.5 + 4j), rel=1e-15)
row("python-int-beside-bool", lambda k: (k[0] > 0).item() == 2**63, LARGE)
row("python-int-argument-and-float", lambda k, n: float(k[6]) == n, LARGE, 2**53 + 1)
row("python-int-moments", lambda k: (np.timedelta64(int(k[0]), "D") / np.timedelta64(1, "h"),
    np.datetime64(int(k[0]), "D") > np.datetime64("1970-01-02")), LARGE)
row("python-int-moment-of-argument", lambda k, n: k + int(np.timedelta64(n, "D").astype(int)),
    LARGE, 3)
row("python-int-argument", lambda k, n: (int(k[0]) + n, int(k[0]) < n), LARGE, 2**70)
