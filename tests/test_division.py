"""Rows divided by one number: the bits of NumPy's division, by multiplications where that works."""

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fusec


def largest(x):
    """Never -0.0: which of two zeros is the larger depends on where they stand."""
    return np.max(x, axis=-1, keepdims=True) + np.zeros((), x.dtype)


def by_largest(x):
    return x / largest(x)


def in_place(x, y):
    x /= largest(y)
    return x


def centred(x, w):
    return (x - x[:, :1]) / largest(x) * w


def two_results(x):
    top = largest(x)
    return x / top, np.maximum(x, 0) / (top * top)


def kept(x, w):
    """The first quotients are kept for the second."""
    y = x / w
    return y / largest(y)


def by_first(x):
    return x / x[:1, :1]


def by_first_in_place(x, y):
    x /= y[:1, :1]
    return x


def by_numbers(x):
    return x[1:] / 3.0 - x[:-1] / -1e-3, x.ravel() / 7


def by_last(x):
    return x / x[:, -1:]


def every_second(x):
    """The last one stands behind the whole periods."""
    y = x.ravel()[1:].copy()
    y[::2] /= -3
    return y


def by_row(x):
    return x / x[0]


def by_two_rows(x):
    """The divisors differ; places in pairs are written out over one period."""
    return x / x[0] - np.abs(x) / x[1], x[:, ::2].repeat(2, axis=1)[:, : x.shape[1]] / x[0]


def by_row_in_place(x, y):
    x /= y[0]
    return x


def by_largest_of_columns(x):
    return x / (np.max(np.abs(x), axis=0) + np.zeros((), x.dtype))


BY_ROWS = (by_row, by_two_rows, by_row_in_place, by_largest_of_columns)
IN_PLACE = (in_place, by_first_in_place, by_row_in_place)
FUNCTIONS = (by_largest, in_place, centred, two_results, kept)
MAPS = (by_first, by_first_in_place, by_numbers, by_last, every_second)
COMPILED = {f: fusec.jit(f) for f in (*FUNCTIONS, *MAPS, *BY_ROWS)}


def compare(fn, *args):
    """The same bits; of a NaN only that it is one."""
    with np.errstate(all="ignore"):
        expected = fn(*[a.copy() for a in args])
    results = COMPILED[fn](*[a.copy() for a in args])
    if not isinstance(expected, tuple):
        expected, results = (expected,), (results,)
    for want, got in zip(expected, results, strict=True):
        assert want.dtype == got.dtype
        bits = f"u{want.itemsize}"
        same = (want.view(bits) == got.view(bits)) | (np.isnan(want) & np.isnan(got))
        assert same.all(), (want[~same][:3], got[~same][:3])


def near_the_middle(divisor, bits):
    """Significands whose quotients by ``divisor`` are as near to the middle of two floats as any.

    x * 2**e = (2 * q + 1) * divisor - c for a small c: that is solved for q, for each c.
    """
    found = []
    for e in (bits, bits + 1):
        for c in (k for k in range(-7, 8) if k % 2):
            odd = c * pow(divisor, -1, 1 << e) % (1 << e)
            for q in range(odd, 1 << (bits + 1), 1 << e):
                x = (q * divisor - c) >> e
                if q >> bits and x >> (bits - 1) == 1 and (x >= divisor) == (e == bits):
                    found.append(x)
    return found


@pytest.mark.parametrize("dtype, bits, rows", [("f4", 24, 3000), ("f8", 53, 1500)])
def test_quotients_near_the_middle_of_two_floats(dtype, bits, rows):
    rng = np.random.default_rng(0)
    divisors = rng.integers(1 << (bits - 1), 1 << bits, rows) | 1
    x = np.zeros((rows, 33), dtype)
    for row, divisor in zip(x, divisors, strict=True):
        hard = near_the_middle(int(divisor), bits)
        row[1 : len(hard) + 1] = np.array(hard, float) / 2
        row[0] = divisor
    assert (x != 0).sum() > 5 * rows
    compare(by_largest, x)
    compare(by_largest, x * np.dtype(dtype).type(2.0**-40))
    compare(by_row, x.T.copy())
    compare(by_largest_of_columns, x.T.copy())


@pytest.mark.parametrize("divisor", [3, 5, 0.1875, 1000, 4095, 3 * 2.0**40, (1 << 40) - 1])
def test_quotients_by_short_literals(divisor):
    """Of all float32 significands, and of float64 ones as near to the middle as there are."""
    f = fusec.jit(lambda x: x / divisor)
    x = (np.arange(1 << 23, 1 << 24) / 2.0**20).astype("f4")
    np.testing.assert_array_equal(f(x), x / divisor)
    odd, _ = divisor.as_integer_ratio()
    odd //= odd & -odd
    rng, near = np.random.default_rng(3), []
    for middle in (2 * rng.integers(1 << 52, 1 << 53, 20_000) + 1).tolist():
        exact = middle * odd
        down = exact.bit_length() - 53
        near += [(exact >> down) + k for k in (-1, 0, 1, 2)]
    x = np.array([n for n in near if n >> 52 == 1], float)
    assert x.size > 50_000
    np.testing.assert_array_equal(f(x), x / divisor)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("fn", [by_largest, in_place, two_results, kept, *MAPS, *BY_ROWS])
def test_what_can_go_wrong_with_a_product(fn, dtype):
    """Overflow, underflow, infinities, NaN, zeros of both signs, negative and tiny divisors."""

    def check(fn, x):
        rows = [x] * (fn in IN_PLACE)
        compare(fn, x, *rows, *[np.linspace(1, 2, x.shape[1], dtype=dtype)] * (fn is kept))

    rng, limits = np.random.default_rng(1), np.finfo(dtype)
    x = rng.standard_normal((40, 100)).astype(dtype)
    tiny = limits.tiny
    for scale in (1, tiny, tiny * 2**9, limits.smallest_subnormal * 7, limits.max / 8):
        check(fn, x * limits.dtype.type(scale))
        check(fn, -np.abs(x) * limits.dtype.type(scale))
    for special in (0.0, -0.0, np.inf, -np.inf, np.nan, limits.tiny, limits.smallest_subnormal):
        y = x.copy()
        y[rng.random(x.shape) < 0.01] = special
        check(fn, y)
        check(fn, np.full((3, 33), special, dtype))
    wide = np.exp(rng.uniform(np.log(limits.tiny) - 9, np.log(limits.max), x.shape)).astype(dtype)
    check(fn, wide * np.sign(x))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_any_floats(dtype):
    shapes = st.tuples(st.integers(1, 12), st.integers(1, 70))

    @settings(deadline=None)
    @given(st.data(), shapes, st.sampled_from([by_largest, in_place, *MAPS]))
    def run(data, shape, fn):
        numbers = st.floats(width=8 * np.dtype(dtype).itemsize)
        x = data.draw(arrays.arrays(dtype, shape, elements=numbers))
        compare(fn, x, *[x] * (fn in IN_PLACE))
        compare(centred, x, np.linspace(-1, 2, shape[1], dtype=dtype))

    run()


def test_what_is_multiplied():
    """In pairs of loops; not where a loop also reduces, nor complex numbers, nor with exp."""

    def text(fn, *args):
        return "\n".join(k.source for k in fusec.jit(fn).lower(*args).kernels)

    x = np.ones((40, 64), "f4")
    one, two, by_exp = ([x], 1), ([x], 2), lambda x: by_largest(np.exp(x))
    table = {by_largest: one, centred: ([x, x[0]], 1), two_results: two, by_first: one, by_exp: one}
    for fn in (by_row, by_largest_of_columns):
        assert text(fn, x).count("fquotient_by(") == 1
        assert "fquotient" not in text(fn, x[:20])
    assert text(by_numbers, x).count("fquotient_short(") == 2
    for fn, (args, count) in {**table, by_numbers: one, every_second: one, by_last: one}.items():
        assert text(fn, *args).count("fquotient(") == count
        assert "flagged():" in text(fn, *args) and "clear_flags()" in text(fn, *args)
    for made in (text(by_exp, x), text(kept, x, x[0])):
        assert "fquotient(w_" in made
    assert "fquotient" not in text(by_largest, x.astype("c8"))
    assert "fquotient" not in text(lambda x: np.log(by_exp(x)), x)
    assert "fquotient" not in text(lambda x: by_largest(x).sum(axis=1), x)
    assert "fquotient" not in text(lambda x: np.exp(x / 3), x)
    assert "fquotient" not in text(lambda x: 3 / x + x / 4, x)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("scale", [1, 200, 2000])
def test_rows_of_what_is_costly(dtype, scale):
    """The quotients are those of what was computed, also where that is tiny or 0."""

    def shares(x):
        e = np.exp(x - largest(x))
        return e, e / e.sum(axis=1, keepdims=True)

    x = (np.random.default_rng(2).standard_normal((50, 77)) * scale).astype(dtype)
    e, got = fusec.jit(shares)(x)
    total = fusec.jit(lambda e: e.sum(axis=1, keepdims=True))(e)
    np.testing.assert_array_equal(got.view(f"u{e.itemsize}"), (e / total).view(f"u{e.itemsize}"))
