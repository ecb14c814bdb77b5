"""Short axes are straight lines, short strides are numbers, whole powers are products."""

import itertools
import re

import mpmath
import numpy as np
import pytest

import fusec
from fusec.codegen import target
from fusec.codegen.unroll import fixed
from fusec.passes.access import Data, Index, Quotient, Remainder

RNG = np.random.default_rng(5)
P = RNG.normal(size=(200, 3))
Q = RNG.normal(size=(50, 3))
V = np.array([1.0, -2.0, 0.5])


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def values(n, *shape):
    return RNG.normal(size=(*shape, n))


#: function, arguments, does a reduction of its own remain
PROGRAMS = {
    "pairwise distances": (lambda a, b: np.sqrt(((a[:, None] - b) ** 2).sum(-1)), (P, Q), False),
    "dot of rows": (lambda a, b: (a * b).sum(axis=1), (P, P[::-1]), False),
    "norms": (lambda a: np.linalg.norm(a, axis=1), (P,), False),
    "softmax of five": (lambda x: np.exp(x - x.max(-1, keepdims=True)), (values(5, 60),), False),
    "variance of seven": (lambda x: x.var(axis=-1), (values(7, 60),), False),
    "argmax of four": (lambda x: x.argmax(axis=-1), (values(4, 60),), False),
    "nanmax": (lambda x: np.nanmax(np.where(x > 0, x, np.nan), axis=1), (abs(P) - 0.001,), False),
    "any of rows": (lambda x: (x > 1).any(axis=1), (P,), False),
    "both axes": (lambda x: x.sum(axis=(1, 2)), (values(2, 30, 3),), False),
    "ten in pairs": (lambda x: x.sum(axis=1), (values(10, 40),), False),
    "seventeen are a loop": (lambda x: x.sum(axis=1), (values(17, 40),), True),
    "column sums": (lambda x: x.sum(axis=0), (P,), True),
    "row offset": (lambda x, v: x * v + 1, (P, V), False),
    "stack last": (lambda x: np.stack([x[:, 0], x[:, 1] * 2, x[:, 0] - 1], -1), (P,), False),
    "stack and reduce": (lambda x: np.stack([x, x * x], -1).max(-1), (values(40),), False),
    "rotation": (
        lambda p, a: np.stack([p[:, 0] * a - p[:, 1], p[:, 1] * a + p[:, 0]], axis=1), (P, 0.3),
        False,
    ),
    "cross product": (lambda a, v: np.cross(a, v), (P, V), False),
    "roll along a short axis": (lambda x: np.roll(x, 1, axis=1) - x, (P,), False),
    "gather of rows": (lambda x, i: (x[i] ** 2).sum(1), (P, np.array([3, 1, 3, 199])), False),
    "gather along rows": (
        lambda x, i: np.take_along_axis(x, i, axis=1), (P, np.argsort(P, axis=1)), False,
    ),
    "reshape": (lambda x: (x.reshape(-1, 2) + 1).reshape(-1, 3).sum(1), (P,), False),
    "forces": (
        lambda p: (((p - p[:, None]) ** 2).sum(-1)[..., None] * (p - p[:, None])).sum(axis=1),
        (Q,), True,
    ),
    "nearest": (lambda a, b: ((a[:, None] - b) ** 2).sum(-1).argmin(1), (P, Q), True),
    "nearest of few": (lambda a, b: ((a[:, None] - b) ** 2).sum(-1).argmin(1), (P, Q[:8]), True),
    "largest of a table": (lambda a, b: (a[:, :1] * b[:, 0]).max(1) + a[:, 1], (P, Q), True),
}  # fmt: skip
LAYOUTS = {
    "C": lambda x: x,
    "Fortran": lambda x: np.asfortranarray(x),
    "strided": lambda x: np.repeat(x, 2, axis=-1)[..., ::2],
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_with_short_axes(name, dtype, layout):
    function, args, _ = PROGRAMS[name]
    args = [LAYOUTS[layout](a.astype(dtype)) if isinstance(a, np.ndarray) and a.dtype.kind == "f"
            else a for a in args]  # fmt: skip
    with np.errstate(all="ignore"):
        want = function(*args)
    got = fusec.jit(function)(*args)
    assert (got.dtype, got.shape, got.strides) == (want.dtype, want.shape, want.strides)
    tolerance = {"f4": 2e-5, "f8": 1e-12}[dtype]
    np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", PROGRAMS)
def test_no_loop_remains_over_short_axes(name):
    function, args, remains = PROGRAMS[name]
    kernels = fusec.jit(function).lower(*args).kernels
    loops = ("fold_", "total_", "strips")
    assert any(x in k.source for k in kernels for x in loops) == remains


def test_sums_of_fewer_than_eight_are_numpys_bit_for_bit():
    f = fusec.jit(lambda x: x.sum(axis=-1))
    for n, dtype in itertools.product(range(1, 8), ("f4", "f8")):
        x = (RNG.normal(size=(100, n)) * 10.0 ** RNG.integers(-6, 6, (100, n))).astype(dtype)
        np.testing.assert_array_equal(f(x), x.sum(axis=-1))


def test_the_layout_does_not_show_in_the_bits():
    f = fusec.jit(lambda x: (x * x).sum(axis=(1, 2)))
    x = RNG.normal(size=(40, 2, 3))
    turned = np.ascontiguousarray(x.transpose(2, 0, 1)).transpose(1, 2, 0)
    np.testing.assert_array_equal(f(x), f(turned))


def test_channels_are_read_through_one_pointer():
    luma = fusec.jit(lambda c: c[..., 0] * 0.2 + c[..., 1] * 0.7 + c[..., 2] * 0.1)
    (kernel,) = luma.lower(fusec.ShapeDtype((64, 64, 3), "f4")).kernels
    assert "x0[i1 * 3]" in kernel.source
    assert "x0[i1 * 3 + 2]" in kernel.source
    assert not kernel.ints


def test_records_are_read_through_one_pointer_and_columns_keep_their_stride():
    table = fusec.ShapeDtype((100, 8), "f4")
    (kernel,) = fusec.jit(lambda x: x.sum(axis=1)).lower(table).kernels
    assert "x0[i0 * 8 + 7]" in kernel.source
    (kernel,) = fusec.jit(lambda x: x[:, 5] * x[:, 2]).lower(table).kernels
    assert " 8" not in kernel.source


@pytest.mark.parametrize("n", [5, 6, 7, 10, 16])
def test_records_of_any_length_are_vectors(n):
    low = fusec.jit(softmax).lower(fusec.ShapeDtype((100, n), "f4"))
    assert f"x0[i0 * {n} + 1]" in low.kernels[0].source
    (kernel,) = low.compile().kernels
    if "+avx512f" in target.host().features:
        assert "fdiv <16 x float>" in kernel.llvm
        assert "vgather" not in kernel.asm and "vscatter" not in kernel.asm


def test_what_computes_little_leaves_long_records_to_llvm():
    table = fusec.ShapeDtype((100, 10), "f4")
    little, much = (lambda x: x / x.sum(axis=1, keepdims=True)), softmax
    for f, fixed_stride in ((little, False), (much, True)):
        (kernel,) = fusec.jit(f).lower(table).kernels
        assert ("i0 * 10 + 1]" in kernel.source) == fixed_stride


def test_fixed_places():
    i, j = Index((("i", 6), ("j", 1))), Index((("j", 1),))
    extents, one = {"i": 5, "j": 7}, Index((), 1)
    assert fixed(i, "j", Index((), 2), extents) == Index((("i", 6),), 2)
    parts = Index(((Quotient(j, 2), 5), (Remainder(j, 2), 1)))
    assert fixed(parts, "j", Index((), 3), extents) == Index((), 6)
    data = Data(None, (j,), 9)
    assert fixed(Index(((data, 1),)), "j", one, extents) == Index(((Data(None, (one,), 9), 1),))
    assert fixed(Index(((Quotient(i, 3), 1),)), "j", one, extents) == Index((("i", 2),))
    assert fixed(Index(((Quotient(i, 4), 1),)), "j", one, extents).terms[0][0].value.const == 1
    pairs = Index((("j", 2),), 1)
    assert fixed(Index(((Remainder(j, 2), 1),)), "j", pairs, extents) == one
    assert fixed(Index(((Quotient(j, 2), 1),)), "j", pairs, extents) == j


POWERS = [*range(2, 13), *range(-12, -1)]


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("n", POWERS)
def test_whole_powers(n, dtype):
    f, info = fusec.jit(lambda x: x**n), np.finfo(dtype)
    edges = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1, -1, info.tiny, -info.tiny,
                      info.smallest_subnormal, info.max, -info.max], dtype)  # fmt: skip
    with np.errstate(all="ignore"):
        want = edges ** np.dtype(dtype).type(n)
    np.testing.assert_array_equal(f(edges), want)
    known = ~np.isnan(want)
    np.testing.assert_array_equal(np.signbit(f(edges))[known], np.signbit(want)[known])
    reach = np.log(float(info.max)) / abs(n)
    x = np.exp(RNG.uniform(-reach, reach, 300)).astype(dtype)
    with mpmath.workprec(300):
        for a, y in zip(x, f(x)):
            true = mpmath.mpf(float(a)) ** n
            if np.isfinite(y):
                assert abs(mpmath.mpf(float(y)) - true) <= 2 * float(np.spacing(abs(y)))


def test_whole_powers_call_no_pow():
    (kernel,) = fusec.jit(lambda x: x**6 + x**-2).lower(np.ones(9)).kernels
    assert "pow_" not in kernel.source.replace("power_", "")


def nearest(points, centres):
    return np.argmin(((points[:, None] - centres) ** 2).sum(-1), axis=1)


@pytest.mark.parametrize("centres", [2, 8, 9, 50, 65])
@pytest.mark.parametrize("points", [3, 64, 200, 1000])
def test_nearest_of_a_few_is_the_first_of_equals_or_nan(points, centres):
    rng = np.random.default_rng(points)
    a, b = rng.integers(0, 3, (points, 3)) * 1.0, rng.integers(0, 3, (centres, 3)) * 1.0
    a[rng.random(points) < 0.2] = np.nan
    for right in (b, np.where(np.arange(centres)[:, None] == centres // 2, np.nan, b)):
        got = fusec.jit(nearest)(a, right)
        assert got.dtype == np.intp
        np.testing.assert_array_equal(got, nearest(a, right))


def test_columns_of_a_table_of_distances_are_vectors():
    """What is read of a point is read once, whatever the number of centres."""
    (kernel,) = fusec.jit(nearest).lower(P, Q).kernels
    text = kernel.source
    assert "z_v0_0" in text and "for i0 in range(begin, begin + width)" in text


def test_places_that_are_far_apart_are_read_one_at_a_time():
    """Not whole rows."""
    table, places = np.ones(1000, "f4"), np.zeros((400, 4), "i8")

    def alone(fn, *args):
        (kernel,) = fusec.jit(fn).lower(*args).kernels
        return "one_by_one" in kernel.source

    assert alone(lambda t, i: t[i].sum(axis=1), table, places)
    assert alone(lambda t, i: t[i[:, 1]] * 2, table, places)
    assert not alone(lambda t, i: t[i[:, 1]], table.reshape(100, 10), places)


@pytest.mark.parametrize("dtype", ["f4", "f8", "i1", "u2", "i8", "c16"])
@pytest.mark.parametrize("length", [5, 7, 9, 15, 16, 31])
def test_rows_of_a_few_elements_are_a_vector_under_a_mask(length, dtype):
    x = (np.arange(21 * length) % 19 - 3).astype(dtype).reshape(21, length)
    y = np.zeros_like(x)

    def f(x, y):
        y[1:] = x[1:] * x[0] + x[:-1]
        y[::2, 1:] += x[::2, :-1]
        return np.where(x > 2, x, x[0]), np.roll(x, 1, axis=1) + x, y

    jitted, low = fusec.jit(f), fusec.jit(lambda x: x * x[0]).lower(x)
    for found, wanted in zip(jitted(x, y.copy()), f(x, y.copy()), strict=True):
        np.testing.assert_array_equal(found, wanted, strict=True)
    assert ("few(" in low.kernels[0].source) == (length * x.itemsize < 64)


@pytest.mark.parametrize(
    "f",
    [
        lambda x, y: np.concatenate([x, y * 2, x]),
        lambda x, y: np.roll(x, 7, axis=0),
        lambda x, y: np.pad(x, ((2, 3), (0, 0))),
        lambda x, y: np.concatenate([x[k : k + 3] for k in range(12)] + [y]),
        lambda x, y: np.stack([x, x * 2]),
    ],
)
def test_short_rows_with_a_branch_between_them_are_one_long_row(f):
    x, y = RNG.normal(size=(40, 5)), RNG.normal(size=(30, 5))
    (kernel,) = fusec.jit(f).lower(x, y).kernels
    assert len({*re.findall(r"for (\w+) in", kernel.source)}) == 1 and "else" not in kernel.source
    np.testing.assert_array_equal(fusec.jit(f)(x, y), f(x, y))


@pytest.mark.parametrize(
    "turn",
    [lambda a: np.tile(a, (2, 1)), lambda a: np.repeat(a, 2, axis=0),
     lambda a: np.roll(np.tile(a, (2, 1)), 2, axis=0)],
)  # fmt: skip
def test_a_branch_that_comes_again_is_no_edge_between_rows(turn):
    def f(x, s):
        a, b = np.broadcast_to(s, (3, 5)), np.broadcast_to(-s, (4, 5))
        return turn(np.concatenate([a, b])) + x, turn(np.pad(a, ((1, 3), (0, 0)))) * x

    x, s = RNG.normal(size=(14, 5)), np.array(2.5)
    for found, wanted in zip(fusec.jit(f)(x, s), f(x, s)):
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("dtype", ["f8", "f4", "f2"])
def test_what_only_a_branch_between_rows_tells_apart_is_computed_in_the_long_row(dtype):
    def f(x, s):
        y = np.concatenate([np.broadcast_to(s, (3, 5)), np.broadcast_to(s * 2, (4, 5))]) + s
        return y - y.sum(), np.sqrt(y) * 3, (y > 4).any(), np.roll(y, 1, axis=0).max(), x + y

    x, s = np.ones((7, 5), dtype), np.array(2, dtype)
    for found, wanted in zip(fusec.jit(f)(x, s), f(x, s)):
        np.testing.assert_allclose(found, wanted, strict=True, rtol=1e-6)


@pytest.mark.parametrize("n", [15, 17, 24, 31, 100, 128])
def test_costly_rows_end_under_a_mask(n):
    x = RNG.normal(size=(50, n)).astype("f4")
    for f in (softmax, lambda x: softmax(x.T).T, lambda x: np.exp(x - x[:1]) * x[:, :1]):
        text = "".join(k.source for k in fusec.jit(f).lower(x).kernels)
        written_out = f is softmax and n < 16
        assert ("few(" in text) == (n % 16 >= 4 and not written_out)
        np.testing.assert_allclose(fusec.jit(f)(x), f(x), rtol=1e-4)
