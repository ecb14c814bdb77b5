"""Block folds and trees: bits against a NumPy model of their order, accuracy, and pointers.

The elementwise primitives are tested through the op table (test_ops_table.py).
"""

import functools

import numpy as np
import pytest
from test_ops_table import run

FLOATS, INTS = ("f4", "f8"), ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8")
COMPLEX = ("c8", "c16")
UFUNCS = {
    "sum": np.add,
    "prod": np.multiply,
    "max": np.maximum,
    "min": np.minimum,
    "fmax": np.fmax,
    "fmin": np.fmin,
    "any": np.logical_or,
    "all": np.logical_and,
}
CASES = [
    *[(op, d) for op in ("sum", "prod") for d in (*FLOATS, *INTS, *COMPLEX)],
    *[(op, d) for op in ("max", "min", "fmax", "fmin") for d in (*FLOATS, *INTS)],
    *[(op, "?") for op in ("any", "all")],
]
SIZES = (1, 2, 3, 31, 32, 33, 63, 64, 65, 100, 255, 256, 257, 1000, 256 * 67 + 5)
BLOCK, LANES = 256, 32


def pair(op, x, y):
    if op == "prod" and x.dtype.kind == "c":  # NumPy's own product may be fused
        z = np.empty_like(x)
        z.real = x.real * y.real - x.imag * y.imag
        z.imag = x.real * y.imag + x.imag * y.real
        return z
    return UFUNCS[op](x, y, dtype=None if x.dtype == bool else x.dtype)


def reference_fold(op, x):
    """One block: LANES lanes in increasing index, then the lanes by halves."""
    lanes = [
        functools.reduce(functools.partial(pair, op), x[k::LANES])
        for k in range(min(LANES, len(x)))
    ]
    half = LANES // 2
    while half:
        upper = lanes[half:]
        lanes = [pair(op, v, upper[k]) if k < len(upper) else v for k, v in enumerate(lanes[:half])]
        half //= 2
    return lanes[0]


def reference_tree(op, x):
    """Adjacent pairs, repeatedly; an odd one is carried up."""
    while len(x) > 1:
        even = len(x) // 2 * 2
        x = np.concatenate([pair(op, x[0:even:2], x[1:even:2]), x[even:]])
    return x[0]


def blocks(x):
    return [x[k : k + BLOCK] for k in range(0, len(x), BLOCK)]


def reference(op, x):
    return reference_tree(op, np.array([reference_fold(op, b) for b in blocks(x)]))


def kernel_text(op, dtype):
    store = "cast_u1({})" if dtype.kind == "b" else "{}"
    fold = store.format(f"fold_{op}(at(x, k), min({BLOCK}, n - k))")
    tree = store.format(f"tree_{op}(p, (n + {BLOCK - 1}) >> 8)")
    return f"    for k in range(0, n, {BLOCK}):\n        p[k >> 8] = {fold}\n    y[0] = {tree}\n"


def fold(op, x):
    """Blocks and tree through a kernel."""
    pointers = [(name, x.dtype.str) for name in "xpy"]
    y, partials = np.empty(1, x.dtype), np.empty(-(-len(x) // BLOCK), x.dtype)
    run(kernel_text(op, x.dtype), {"n": len(x)}, pointers, [x, partials, y])
    return y[0]


def samples(dtype, n, rng):
    dtype = np.dtype(dtype)
    if dtype.kind == "b":
        return rng.random(n) < 0.5
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        return rng.integers(info.min, info.max, n, dtype=dtype, endpoint=True)
    x = rng.normal(0, 1.2, n)
    return (x + 1j * rng.normal(0, 0.5, n) if dtype.kind == "c" else x).astype(dtype)


def assert_same_bits(got, want):
    if got.dtype.kind in "fc" and np.isnan(want):
        assert np.isnan(got)
    else:
        assert got.tobytes() == want.astype(got.dtype).tobytes(), (got, want)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("op, dtype", CASES)
def test_order_is_the_models(op, dtype):
    rng = np.random.default_rng(5)
    for n in SIZES:
        x = samples(dtype, n, rng)
        assert_same_bits(fold(op, x), reference(op, x))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("op, dtype", [c for c in CASES if c[1] in (*FLOATS, *COMPLEX)])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -0.0])
def test_special_values(op, dtype, value):
    rng = np.random.default_rng(5)
    for n, at in ((1, 0), (7, 3), (32, 31), (100, 99), (300, 5)):
        x = samples(dtype, n, rng)
        x[at] = value
        assert_same_bits(fold(op, x), reference(op, x))
        every = np.full(n, value, dtype)
        assert_same_bits(fold(op, every), reference(op, every))


@pytest.mark.parametrize("op", ["any", "all"])
def test_one_that_differs(op):
    for n in SIZES:
        for at in {0, n // 2, n - 1}:
            x = np.full(n, op == "all")
            assert fold(op, x) == (op == "all")
            x[at] = not x[at]
            assert fold(op, x) == (op == "any")


@pytest.mark.parametrize("dtype", FLOATS)
def test_sum_error_is_that_of_pairwise_sums(dtype):
    """Fewer roundings lie on an element's way than in NumPy: 8 + 5 + log2(n / 256) against
    16 + 3 + log2(n / 128). The root mean square is within a quarter of NumPy's: better or worse
    with the size, for our tree is less balanced just above a power of two.
    """
    rng = np.random.default_rng(11)
    ours = numpys = 0.0
    for n in (1_000_000, 1 << 20, 10_000) * 12:
        x = rng.random(n).astype(dtype)
        exact = np.sum(x.astype(np.longdouble))
        scale = np.spacing(np.sum(x))
        ours += float(((fold("sum", x) - exact) / scale) ** 2)
        numpys += float(((np.sum(x) - exact) / scale) ** 2)
    assert ours <= 1.25**2 * numpys


def test_arguments_of_two_types_are_an_error():
    from fusec.codegen.target import KernelCompileError

    with pytest.raises(KernelCompileError, match="iadd"):
        run("    x[0] = iadd(x[0], 1)\n", {}, [("x", "<i4")], [np.zeros(1, "i4")])
