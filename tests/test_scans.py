"""Scans along rows: tiles of 16 rows, what is left over, and the same answers as one by one."""

import re

import numpy as np
import pytest

import fusec
from fusec.codegen import emit_ahead, emit_scans, emit_streams

SHAPES = ((16, 16), (17, 64), (33, 100), (64, 65), (40, 128), (31, 79), (20, 1000))
FORMS = {
    "sum": lambda x: np.cumsum(x, axis=1),
    "product": lambda x: np.cumprod(1 + x * x.dtype.type(0.01), axis=1) - 1,
    "largest": lambda x: np.maximum.accumulate(x, axis=1) - x,
    "from the right": lambda x: np.cumsum(x[:, ::-1], axis=1)[:, ::-1],
    "read from the right": lambda x: np.cumsum(np.abs(x[:, ::-1]), axis=1),
    "rows upwards": lambda x: np.cumsum(x[::-1] * 2, axis=1),
    "weights of columns": lambda x: np.cumsum(x * np.linspace(0, 1, x.shape[1]), axis=1),
    "counts": lambda x: np.cumsum(x > 0, axis=1),
    "short integers": lambda x: np.cumsum(x.astype("i1"), axis=1, dtype="i2"),
    "two": lambda x: (np.cumsum(x + 1, axis=1), np.cumprod(x / 4, axis=1)),
    "of a sum": lambda x: np.cumsum(np.cumsum(x + 1, axis=1), axis=1),
    "windows": lambda x: np.cumsum(
        np.lib.stride_tricks.sliding_window_view(x.ravel()[:200], 80) * 2, axis=1),
    "beside others": lambda x: np.concatenate([x, np.cumsum(x + 1, axis=1), x], axis=1),
}  # fmt: skip


@pytest.fixture(params=["in a cache", "past the caches"])
def _caches(request, monkeypatch):
    if request.param == "past the caches":
        monkeypatch.setattr(emit_scans, "MOVED", 0)
        monkeypatch.setattr(emit_streams, "SHORT", 16)


def _source(f, *args):
    return "".join(k.source for k in fusec.jit(f).lower(*args).kernels)


@pytest.mark.usefixtures("_caches")
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", ["f4", "f8", "i4"])
def test_forms(form, shape, dtype):
    """Every bit of NumPy's, wherever rows begin in a line of memory."""
    f, x = FORMS[form], (np.random.default_rng(3).standard_normal(shape) * 3).astype(dtype)
    jitted, wanted = fusec.jit(f), f(x)
    for _ in range(2):
        found = jitted(x)
        pairs = zip(found, wanted) if type(wanted) is tuple else [(found, wanted)]
        for a, b in pairs:
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)


def test_special_values():
    """NaN, infinities and the sign of zero go along a row as they do in NumPy."""
    x = np.random.default_rng(0).choice([0.0, -0.0, 1e300, np.inf, -np.inf, np.nan], (40, 70))
    f = lambda x: (np.cumsum(x + 0, axis=1), np.cumprod(x + 0, axis=1), -np.cumsum(-x, axis=1))
    with np.errstate(all="ignore"):
        for found, wanted in zip(fusec.jit(f)(x), f(x)):
            np.testing.assert_array_equal(found, wanted)
            signs = (np.signbit(y) & (y == 0) for y in (found, wanted))
            np.testing.assert_array_equal(*signs)


@pytest.mark.parametrize("length", [1, 31, 32, 33, 5000])
@pytest.mark.parametrize("dtype", ["f4", "f8", "i8"])
def test_one_long_row_asks_for_what_comes(length, dtype, monkeypatch):
    monkeypatch.setattr(emit_ahead, "LONG", 0)
    x = (np.random.default_rng(length).standard_normal(length) * 9).astype(dtype)
    for f in (np.cumsum, lambda x: np.cumsum(x[::-1] * 2)[::-1], lambda x: x * np.cumprod(x / 8)):
        np.testing.assert_array_equal(fusec.jit(f)(x), f(x))
        assert ("prefetch(" in _source(f, x)) == (length > 1)


@pytest.mark.usefixtures("_caches")
def test_in_its_own_memory():
    """The second tile has columns in common with the first, which are sums already."""
    for dtype in ("f4", "f8"):
        x = np.random.default_rng(1).standard_normal((50, 77)).astype(dtype)
        found, wanted = x.copy(), x.copy()

        def f(x):
            np.cumsum(x * 2, axis=1, out=x)

        fusec.jit(f)(found)
        f(wanted)
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize(
    "rows, columns, tiles",
    [(16, 16, True), (15, 100, False), (100, 15, False), (4096, 1024, True)],
)
def test_tiles_need_sixteen_of_both(rows, columns, tiles):
    x = fusec.ShapeDtype((rows, columns), "f4")
    assert ("turn(" in _source(FORMS["sum"], x)) == tiles


def test_only_long_results_go_past_the_caches():
    for rows, past in ((64, False), (4096, True)):
        x = fusec.ShapeDtype((rows, 1024), "f4")
        assert ("stream_back(" in _source(FORMS["sum"], x)) == past
    ragged = fusec.ShapeDtype((4096, 1025), "f4")  # rows begin at other places in a line
    assert "stream_back(" not in _source(FORMS["sum"], ragged)


def test_what_goes_along_a_row_stays_in_registers():
    """The loop over the columns of a tile has one load, one addition and one store a vector."""
    (kernel,) = fusec.jit(FORMS["sum"]).lower(np.zeros((64, 64), "f4")).compile().kernels
    if "avx512f" not in kernel.asm and "zmm" not in kernel.asm:
        pytest.skip("needs vectors of 512 bits")
    loops = re.findall(r"^(\.LBB\d+_\d+):\n((?:\t.*\n)+?)\tj\w+\s+\1$", kernel.asm, re.M)
    bodies = [body for _, body in loops if "vaddps" in body and "zmm" in body]
    assert any(body.count("zmm") <= 4 for body in bodies), bodies
