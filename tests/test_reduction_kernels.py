"""What the kernels of reductions hold: registers, passes over memory, values computed again."""

import numpy as np
import pytest

import fusec
from fusec.codegen import numba_cpu


def machine_code(f, *args):
    kernel = fusec.jit(f).lower(*args).kernels[0]._kernel
    return numba_cpu.compile_kernel(kernel.text, kernel.int_names, kernel.ptr_types).llvm


@pytest.mark.parametrize("dtype", ["f4", "f8", "i4", "i8"])
@pytest.mark.parametrize(
    "f",
    [
        lambda x: (x * x).sum(axis=-1),
        lambda x: (x + x).max(axis=-1),
        lambda x: (x * 3).prod(axis=-1),
        lambda x: (x > 2).any(axis=-1),
        lambda x: ((x * x).sum(axis=-1), (x > 0).sum(axis=-1)),
    ],
)
def test_lanes_stay_in_registers(f, dtype):
    assert "alloca" not in machine_code(f, np.ones((40, 300), dtype))


@pytest.mark.parametrize("length", [0, 1, 31, 32, 33, 255, 256, 257, 300, 1000])
def test_a_sum_of_computed_elements_has_the_bits_of_a_sum_of_stored_ones(length):
    x = np.random.default_rng(length).normal(size=(3, length)).astype("f4")
    fused = fusec.jit(lambda x: (x * x + x).sum(axis=1))
    stored = fusec.jit(lambda y: y.sum(axis=1))
    assert fused(x).tobytes() == stored(x * x + x).tobytes()


def standardise(x):
    return (x - x.mean(axis=0)) / x.std(axis=0)


@pytest.mark.parametrize(
    ("shape", "kernels", "passes"),
    [
        ((100, 300), 1, 2),  # a strip of columns stays in the cache: read once, written once
        ((5000, 300), 5, 4),  # it would not: sums and squares in blocks of rows, then the result
        ((300_000,), 5, 4),  # one row, shared by all threads
    ],
)
def test_passes_over_memory(shape, kernels, passes):
    low = fusec.jit(standardise).lower(fusec.ShapeDtype(shape, "f4"))
    array = 4 * np.prod(shape)
    assert len(low.kernels) == kernels
    assert passes * array <= low.explain().bytes_moved < (passes + 0.1) * array


def test_a_cheap_value_is_computed_again_instead_of_stored():
    low = fusec.jit(standardise).lower(fusec.ShapeDtype((300_000,), "f4"))
    assert low.explain().bytes_peak < 1.1 * 4 * 300_000  # the result, and no differences


@pytest.mark.parametrize("dtype", ["f4", "f8", "c8", "f2", "i8"])
@pytest.mark.parametrize("rows, columns", [
    (255, 8), (256, 5), (1000, 7), (5001, 33), (70_001, 20), (3000, 64), (3000, 65), (9000, 300),
])  # fmt: skip
def test_sums_of_columns_have_the_bits_of_sums_of_rows(rows, columns, dtype):
    """Narrow tables, long ones that threads share, and others; a value of each column goes in."""
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((rows, columns)) * 100).astype(dtype)
    w = x[:1].copy()

    @fusec.jit
    def sums(x, w):
        return x.sum(axis=0), ((x - w) * (x - w)).sum(axis=0), (x * 2 + x).sum(axis=0)

    @fusec.jit
    def across(x, w):
        return x.sum(axis=1), ((x - w) * (x - w)).sum(axis=1), (x * 2 + x).sum(axis=1)

    found, expected = sums(x, w), across(x.T.copy(), w.T.copy())
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == b.dtype and a.tobytes() == b.tobytes()
    if dtype != "f2":  # which NumPy adds one after the other
        np.testing.assert_allclose(found[0], x.sum(axis=0), rtol=1e-3)


def test_rows_shorter_than_a_vector_are_read_as_one():
    def packed(fn, *args):
        return any("lanes * width" in k.source for k in fusec.jit(fn).lower(*args).kernels)

    x = np.ones((3000, 8), "f4")
    assert packed(lambda x: x.sum(axis=0), x)
    assert packed(lambda x: x.std(axis=0), x)
    assert not packed(lambda x: x[:, :7].sum(axis=0), x)  # others lie between
    assert not packed(lambda x, w: (x * w).sum(axis=0), x, x[:, :1].copy())  # a value of each row
    assert packed(lambda x: x.max(axis=0), x)
    assert packed(lambda x: ((x > 2).any(axis=0), (x > 2).sum(axis=0)), x)


@pytest.mark.parametrize("dtype", ["f4", "f8", "i2", "i8", "u1", "?"])
@pytest.mark.parametrize("columns", [5, 8, 33, 64])
@pytest.mark.parametrize("rows", [256, 300, 1025])
def test_a_table_of_few_columns(rows, columns, dtype):
    x = np.random.default_rng(rows).normal(size=(rows, columns)) * 20
    x = (x > 0 if dtype == "?" else abs(x)).astype(dtype)
    if dtype == "f4":
        x[rows // 2, 1], x[-1, 2] = np.nan, np.inf
    for fn in (lambda x: x.max(axis=0), lambda x: x.min(axis=0), lambda x: x.argmax(axis=0),
               lambda x: (x > 30).any(axis=0), lambda x: (x < 30).all(axis=0),
               lambda x: (x > 20).sum(axis=0), lambda x: x.astype("i8").prod(axis=0)):  # fmt: skip
        with np.errstate(invalid="ignore"):
            wanted, found = fn(x), fusec.jit(fn)(x)
        assert wanted.dtype == found.dtype
        np.testing.assert_array_equal(wanted, found)


@pytest.mark.parametrize("shape", [(255, 40), (256, 40), (2000, 40), (700, 130)])
def test_costly_values_of_columns_are_read_again_where_they_were_stored(shape):
    x = np.random.default_rng(7).random(shape)
    for fn in (lambda x: np.sqrt(x).var(axis=0), lambda x: np.exp(x.T).std(axis=-1),
               lambda x: (np.tanh(x) - np.tanh(x).mean(axis=0)).sum(axis=0) + 1):  # fmt: skip
        np.testing.assert_allclose(fusec.jit(fn)(x), fn(x), rtol=1e-10)


FREE = [
    ("max", lambda x: x.max(), True),
    ("any", lambda x: (x > 2).any(), True),
    ("count", lambda x: np.count_nonzero(x), True),
    ("sum of integers", lambda x: (x > 2).sum(), True),
    ("sum", lambda x: x.sum(), False),
]


@pytest.mark.parametrize(("f", "free"), [row[1:] for row in FREE], ids=[row[0] for row in FREE])
def test_where_the_order_does_not_show_memory_is_read_as_it_lies(f, free):
    turned = np.arange(6000, dtype="f8").reshape(50, 120).T
    text = fusec.jit(f).lower(turned).kernels[0].source
    assert ("x0_s" not in text and "remainder" not in text) == free
    assert fusec.jit(f)(turned) == f(turned)


@pytest.mark.parametrize("dtype", ["f4", "f8", "i1", "i8", "u2"])
@pytest.mark.parametrize("n", [1, 9, 31, 32, 33, 64, 257, 600])
def test_the_place_of_an_extreme_is_searched_for_in_memory(dtype, n):
    x = (np.arange(40 * n).reshape(40, n) * 7919 % 5).astype(dtype)
    if dtype[0] == "f":
        x[::7, n // 2], x[3], x[6], x[6, n // 3] = np.nan, np.nan, -0.0, 0.0
    for find in (np.argmax, np.argmin):
        f = fusec.jit(lambda x, find=find: find(x, axis=1))
        assert np.array_equal(f(x), find(x, axis=1))
        assert ("first_equal(" in f.lower(x).kernels[0].source) == (n > 16)


@pytest.mark.parametrize("first", [0, 1, 5])
def test_a_search_counts_from_where_the_positions_begin(first):
    def program(x):
        n = x.shape[1]
        largest = x == x.max(axis=1, keepdims=True)
        return np.where(largest, np.arange(n + first)[first:], n).min(axis=1)

    x = np.arange(6 * 40).reshape(6, 40) * 7919 % 31
    f = fusec.jit(program)
    assert np.array_equal(f(x), program(x))
    assert ("first_equal(" in f.lower(x).kernels[0].source) == (first == 0)


def test_a_row_of_one_block_has_no_loop_over_blocks():
    def text(length):
        low = fusec.jit(lambda x: x.var(axis=1)).lower(fusec.ShapeDtype((40, length), "f4"))
        return low.kernels[0].source

    assert "fold_sum(at(x0, i0 * x0_s0), n_i1)" in text(256) and "tree_" not in text(256)
    assert "row_sum(at(x0, i0 * x0_s0), n_i1, " in text(257) and "tree_sum" in text(257)


@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "u4", "i8", "f2", "f4", "f8"])
@pytest.mark.parametrize("length", [1, 17, 31, 33, 63, 255, 257, 300])
def test_what_is_left_over_behind_whole_groups_counts_once(length, dtype):
    x = (np.arange(5 * length) * 7 % 11 - 5).astype(dtype).reshape(5, length)

    def f(x):
        y = x + x
        return y.sum(axis=1), y.max(axis=1), y.min(axis=1), (y > 9).any(axis=1), (x * x).argmax(1)

    for found, wanted in zip(fusec.jit(f)(x), f(x), strict=True):
        assert found.dtype == wanted.dtype
        np.testing.assert_array_equal(found, wanted)


def squares(x):
    return (x * x).sum(axis=-1)


def softmax(x):
    e = np.exp(x - np.max(x, axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def asked(f, *args):
    """Where the first kernel's text asks for data that it reads later."""
    text = fusec.jit(f).lower(*args).kernels[0].source
    return [line.split("prefetch")[1] for line in text.splitlines() if "prefetch(" in line]


@pytest.mark.parametrize(
    ("f", "shapes", "expected"),
    [
        (np.nanmean, [(10_000,)], []),  # it lies in the L1 cache
        (np.nanmean, [(100_000,)], ["(at(x0, g + 2048))"]),
        (np.nanmean, [(1_000_000,)], ["(at(x0, g + 2048))"]),
        (squares, [(1_000_000,)], []),  # so little work that the processor sees far enough
        (squares, [(10_000_000,)], ["(at(x0, g + 2048))"]),
        (squares, [(4000, 100)], ["(at(x0, i0 * x0_s0 + g + 2048))"]),
        (lambda x: squares(x[:, :90]), [(4000, 100)], []),  # the next row does not follow
        (lambda x: squares(x.T), [(300, 4000)], []),
        (
            lambda x, y: (x * y + y).sum(axis=1),
            [(4000, 100)] * 2,
            [f"(at(x{k}, i0 * x{k}_s0 + g + 2048 * crosses(x0)))" for k in (0, 1)],
        ),
        (
            lambda x, y, z: (x * y + z).var(axis=1),  # the second sum asks, in a fixed order
            [(4000, 100)] * 3,
            [f"(at(x{k}, (i0 + batch) * x{k}_s0 + g))" for k in (0, 1, 2)],
        ),
        (softmax, [(4000, 100)], ["(at(x0, (i0 + batch) * x0_s0 + g))"]),
        (
            lambda x, y: softmax(x + y),
            [(40, 100, 100), (100, 100)],  # rows of y come again, rows of x follow each other
            ["(at(x0, i0 * x0_s0 + i1 * x0_s1 + g + batch * n_i2))"],
        ),
    ],
)
def test_sums_ask_for_what_comes_from_beyond_the_L1_cache(f, shapes, expected):
    assert asked(f, *[fusec.ShapeDtype(shape, "f4") for shape in shapes]) == expected


@pytest.mark.parametrize("shape", [(300_001,), (3001, 130)])
@pytest.mark.parametrize("place", [0, 16, 36])
def test_bits_do_not_depend_on_where_an_array_lies(shape, place):
    x = np.random.default_rng(0).standard_normal(shape).astype("f4")
    memory = np.empty(x.nbytes + 128, "u1")
    first = -memory.ctypes.data % 64 + place
    y = memory[first : first + x.nbytes].view("f4").reshape(shape)
    y[...] = x
    cosine = fusec.jit(lambda x, y: ((x * y).sum(-1), (x * x).sum(-1), (y * y).sum(-1)))
    wanted = fusec.jit(lambda z: z.sum(-1))(x * x).tobytes()
    assert asked(cosine, x, y) and [r.tobytes() for r in cosine(x, y)] == [wanted] * 3


def test_sums_of_columns_ask_for_what_they_read_soon():
    code = machine_code(lambda x: x.sum(axis=0), np.ones((3000, 1000), "f4"))
    assert "call void @llvm.prefetch" in code
