"""Matrix products: BLAS is called by the program itself, over every layout it has words for."""

import ctypes
import itertools
import mmap
import sys

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

import fusec
from fusec.codegen import blas, matmul
from fusec.codegen.steps import Launch, Product
from fusec.runtime.cache import cache

SHAPES = [
    ((2, 3, 0), (0, 4)),
    ((3, 4), (4, 5)), ((1, 4), (4, 5)), ((3, 4), (4, 1)), ((1, 4), (4, 1)), ((3, 1), (1, 5)),
    ((4,), (4, 5)), ((3, 4), (4,)), ((4,), (4,)), ((2, 3, 4), (4,)), ((2, 3, 4), (4, 5)),
    ((2, 3, 4), (2, 4, 5)), ((3, 4), (2, 4, 5)), ((2, 1, 3, 4), (5, 4, 2)), ((2, 1, 4), (4, 3)),
    ((0, 4), (4, 5)), ((3, 0), (0, 5)), ((64, 48), (48, 80)),
]  # fmt: skip
LAYOUTS = {
    "C": lambda x: x,
    "Fortran": np.asfortranarray,
    "part": lambda x: np.tile(x, 2)[..., : x.shape[-1]],
    "every second": lambda x: np.repeat(x, 2, axis=-1)[..., ::2],
    "reversed": lambda x: x[..., ::-1].copy()[..., ::-1],
    "transposed": lambda x: np.ascontiguousarray(np.swapaxes(x, 0, -1)).swapaxes(0, -1),
    "broadcast": lambda x: np.broadcast_to(x[..., :1], x.shape),
}
DTYPES = {"f4": 1e-5, "f8": 1e-13, "c8": 1e-5, "c16": 1e-13, "i4": 0, "u1": 0}


def made(shape, dtype, layout, seed):
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 9, shape).astype(dtype) if dtype in ("i4", "u1") else rng.normal(size=shape)
    return LAYOUTS[layout](x.astype(dtype))


def check(function, *args, rtol):
    got, want = fusec.jit(function)(*args), function(*args)
    assert (type(got), got.dtype, got.shape) == (type(want), want.dtype, want.shape)
    assert got.ndim == 0 or got.strides == want.strides
    np.testing.assert_allclose(got, want, rtol=rtol, atol=rtol * 10)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("a, b", SHAPES)
def test_every_layout(a, b, dtype):
    pairs = itertools.product(LAYOUTS, LAYOUTS) if dtype in ("f4", "f8") else [("C", "Fortran")]
    for left, right in pairs:
        x, y = made(a, dtype, left, 1), made(b, dtype, right, 2)
        check(lambda x, y: x @ y, x, y, rtol=DTYPES[dtype])


@pytest.fixture
def by_blas(monkeypatch):
    """BLAS does all products that it has words for."""
    monkeypatch.setattr(matmul, "_narrow_blas", lambda: False)
    monkeypatch.setattr(matmul, "SMALL", 0)
    monkeypatch.setattr(matmul, "LARGE", 1 << 62)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("ours", [False, True])
def test_sizes_around_vectors_tiles_and_blocks(dtype, ours, monkeypatch):
    """By BLAS and by the kernel, whichever this machine prefers."""
    monkeypatch.setattr(matmul, "_narrow_blas", lambda: ours)
    monkeypatch.setattr(matmul, "SMALL", 0)
    rng = np.random.default_rng(0)
    for m, k, n in [
        (2, 1, 2), (7, 5, 15), (8, 255, 16), (9, 256, 17), (15, 257, 31), (16, 300, 32),
        (17, 512, 33), (3, 600, 100), (513, 20, 40), (1030, 3, 2), (40, 64, 64), (5, 4000, 70),
        (300, 517, 203), (1100, 130, 65),
    ]:  # fmt: skip
        x, y = rng.normal(size=(m, k)).astype(dtype), rng.normal(size=(k, n)).astype(dtype)
        for a, b in ((x, y), (np.stack([x, -x, x * 2]), np.stack([y, y + 1, -y]))):
            forms = [
                (a, b), (a, np.swapaxes(np.swapaxes(b, -1, -2).copy(), -1, -2)),
                (np.swapaxes(np.swapaxes(a, -1, -2).copy(), -1, -2), b),
                (np.repeat(a, 2, axis=-1)[..., ::2], np.repeat(b, 3, axis=-1)[..., ::3]),
            ]  # fmt: skip
            wanted = a.astype("g") @ b.astype("g")
            bound = np.abs(a) @ np.abs(b) * np.finfo(dtype).eps * 2 * np.sqrt(k)
            for one, two in forms:
                assert (np.abs(fusec.jit(lambda x, y: x @ y)(one, two) - wanted) <= bound).all()


def test_products_are_as_accurate_as_numpys(monkeypatch):
    """The root of the mean square of their errors."""
    monkeypatch.setattr(matmul, "_narrow_blas", lambda: True)
    rng = np.random.default_rng(1)
    for k in (10, 300, 3000):
        x, y = rng.normal(size=(90, k)).astype("f4"), rng.normal(size=(k, 90)).astype("f4")
        true = x.astype("f8") @ y
        ours, numpys = [np.std(z - true) for z in (fusec.jit(lambda x, y: x @ y)(x, y), x @ y)]
        assert ours <= 1.25 * numpys


def test_infinities_stay_in_their_elements(monkeypatch):
    monkeypatch.setattr(matmul, "_narrow_blas", lambda: True)
    x, y = np.ones((9, 300)), np.ones((300, 37))
    x[3, 299], y[0, 36], y[7, 20] = np.inf, -np.inf, np.nan
    with np.errstate(invalid="ignore"):
        check(lambda x, y: x @ y, x, y, rtol=1e-13)


@pytest.mark.skipif(sys.platform != "linux", reason="mprotect of Linux")
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("turned", [False, True])
def test_nothing_behind_an_operand_is_read(dtype, turned, monkeypatch):
    """A page that must not be read begins where the operand ends, whatever its last strip is."""
    monkeypatch.setattr(matmul, "_narrow_blas", lambda: True)
    k, page, f = 300, mmap.PAGESIZE, fusec.jit(lambda x, y: x @ y)
    for n in (15, 17, 33, 65):
        size = k * n * np.dtype(dtype).itemsize
        pages = -(-size // page)
        memory = mmap.mmap(-1, (pages + 1) * page)
        place = np.frombuffer(memory, "u1").ctypes.data + pages * page
        assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(place), page, 0) == 0
        y = np.frombuffer(memory, dtype, k * n, pages * page - size)
        y[:] = np.arange(k * n) % 9
        y = y.reshape(n, k).T if turned else y.reshape(k, n)
        x = np.ones((40, k), dtype)
        np.testing.assert_array_equal(f(x, y), x @ y)


@pytest.mark.parametrize(
    "how",
    [
        "x @ w.T", "x.T @ w", "np.dot(w, x[0])", "np.einsum('ij,kj->ki', x, w)",
        "(x[:, ::-1] @ w.T)[1:]", "np.tensordot(x, w, axes=([1], [1]))",
        "(np.maximum(x @ w.T, 0) @ x).T", "x.reshape(2, 2, 4) @ w.T", "np.asfortranarray(x) @ w.T",
    ],
)  # fmt: skip
def test_views_of_operands_and_results(how):
    x, w = made((4, 4), "f8", "C", 1), made((4, 4), "f8", "part", 2)
    check(eval(f"lambda x, w: {how}", {"np": np}), x, w, rtol=1e-13)


def test_a_program_with_products_is_one_native_call():
    def step(x, w, y):
        return (x @ w - y) @ x * 2.0

    compiled = fusec.jit(step)
    args = np.ones((8, 8)), np.ones(8), np.ones(8)
    low = compiled.lower(*args)
    assert [s.name if hasattr(s, "name") else "kernel" for s in low.program.steps] == [
        "matmul", "kernel", "matmul", "kernel",
    ]  # fmt: skip
    assert "a part of the program itself" in str(low.explain())
    for _ in range(3):
        np.testing.assert_array_equal(compiled(*args), step(*args))
    ((plan,),) = compiled._plans.values()
    assert plan.hastened[0] is not None


@pytest.mark.parametrize(
    "how, kernels",
    [
        ("np.zeros((3, 6)) @ x", 1), ("np.ones((2, 6)) @ x", 1), ("x @ np.ones((6, 3))", 1),
        ("x[::-1] @ w", 1), ("x[:, ::2] @ w[:3]", 1), ("x[::2] @ w[:, ::-1]", 1),
        ("sliding_window_view(x, (3, 3)).reshape(-1, 9) @ w.reshape(-1, 4)", 1),
        ("sliding_window_view(x[0], 4) @ w[:4]", 1), ("x * (x @ np.zeros(6))", 2),
        ("x @ w[:, :1]", 0), ("x.T @ w[:, 2:4]", 0),
        ("x[1:, 2:] @ w[:4, 1:]", 0), ("x.reshape(2, 3, 6) @ w", 0), ("x[:0] @ w", 0),
        ("np.broadcast_to(x, (4, 6, 6)) @ w", 0),
    ],
)  # fmt: skip
def test_what_blas_cannot_read_is_stored_by_a_kernel(how, kernels):
    function = eval(f"lambda x, w: {how}", {"np": np, "sliding_window_view": sliding_window_view})
    x, w = made((6, 6), "f8", "C", 1), made((6, 6), "f8", "C", 2)
    steps = fusec.jit(function).lower(x, w).program.steps
    assert all(isinstance(s, Launch | Product) for s in steps)
    assert sum(isinstance(s, Launch) for s in steps) == kernels
    check(function, x, w, rtol=1e-13)


def test_all_sizes_share_one_text():
    f = fusec.jit(lambda x, w: x @ w)
    f(np.ones((3, 4)), np.ones((4, 5)))
    before = cache.stats()["compiled"]
    for m, k, n in [(7, 2, 9), (30, 40, 50), (2, 300, 2)]:
        f(np.ones((m, k)), np.ones((k, n)))
    assert cache.stats()["compiled"] == before


def test_a_product_with_its_transpose_is_symmetric():
    x = np.random.default_rng(0).normal(size=(40, 30))
    y = fusec.jit(lambda x: x @ x.T)(x)
    np.testing.assert_array_equal(y, y.T)
    np.testing.assert_array_equal(y, x @ x.T)


def test_numpy_runs_what_blas_is_not_found_for(monkeypatch, by_blas):
    monkeypatch.setattr(blas, "address", lambda routine: 0)
    low = fusec.jit(lambda x, w: np.tanh(x @ w.T)).lower(np.ones((3, 4)), np.ones((5, 4)))
    assert [s.name for s in low.program.steps if hasattr(s, "view")] == ["transpose", "matmul"]
    check(lambda x, w: np.tanh(x @ w.T), np.ones((3, 4)), np.ones((5, 4)), rtol=1e-13)


def test_large_products_are_shared_out_to_our_threads(monkeypatch):
    monkeypatch.setattr(matmul, "_narrow_blas", lambda: True)
    x = np.random.default_rng(0).standard_normal((300, 300))
    f = fusec.jit(lambda x: x @ x)
    (step,) = f.lower(x).program.steps
    assert step.chunk < step.kernel.rows and not step.kernel.threads
    with fusec.threads(1):
        alone = f(x)
    with fusec.threads(2):
        assert f(x).tobytes() == alone.tobytes()


@pytest.mark.parametrize(
    ("m", "narrow", "ours"),
    [(20, False, True), (80, False, False), (80, True, True), (128, False, True),
     (1500, False, False), (1500, True, True)],
)  # fmt: skip
def test_who_multiplies_where_vectors_have_512_bits(m, narrow, ours, monkeypatch):
    monkeypatch.setattr(matmul, "wide", lambda: True)
    monkeypatch.setattr(matmul, "_narrow_blas", lambda: narrow)
    (step,) = fusec.jit(lambda x: x @ x).lower(np.ones((m, m))).program.steps
    assert ("add_tiles" in step.kernel.text) == ours


def test_batches_over_one_matrix_are_more_rows():
    low = fusec.jit(lambda x, w: x @ w).lower(np.ones((8, 3, 4)), np.ones((4, 5)))
    (step,) = low.program.steps
    assert step.kernel.rows == 1
    assert dict(step.kernel.ints)["m"] == 24


@pytest.mark.parametrize(("shape", "shared"), [((100, 32, 32), True), ((4, 128, 128), False)])
def test_stacks_of_small_products_are_shared_out_to_our_threads(shape, shared, by_blas):
    x = np.random.default_rng(0).standard_normal(shape).astype("f4")
    f = fusec.jit(lambda x: x @ x)
    (step,) = f.lower(x).program.steps
    assert (step.chunk < shape[0], step.kernel.threads) == (shared, not shared)
    with fusec.threads(1):
        alone = f(x)
    with fusec.threads(2):
        assert f(x).tobytes() == alone.tobytes()
