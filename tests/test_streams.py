"""Results that no cache would keep are stored past them."""

import re

import numpy as np
import pytest

import fusec
from fusec.codegen import emit_ahead, emit_recur, emit_streams, emit_tiles

LENGTHS = (512, 513, 600, 1000, 1024, 4097)


@pytest.fixture(autouse=True)
def small_caches(monkeypatch):
    monkeypatch.setattr(emit_streams, "LAST_CACHE", 0)
    monkeypatch.setattr(emit_streams, "SHORT", 64)
    monkeypatch.setattr(emit_tiles, "MOVED", 0)
    monkeypatch.setattr(emit_recur, "MOVED", 0)
    monkeypatch.setattr(emit_recur, "LONG_ROW", 64)


def _line(x):
    return x * 2 + 1


def _two(x):
    return x + 1, x.astype("f4") * 3


def _compared(x):
    return x > 1, x == x, (x * 3).astype("i2")


def _padded(x):
    return np.pad(x, 3) * 2


def _joined(x):
    return np.concatenate([x, x * 2, x[::2]])


def _stencil(x):
    y = x.copy()
    y[1:-1] = (x[:-2] + x[2:]) / 2
    return y


def _root(x):
    return np.sqrt(np.abs(x)) / (1 + x * x)


def _rows(x):
    return x[: len(x) // 3 * 3].reshape(3, -1) * np.array([[1], [2], [3]], x.dtype)


def _scaled(x):
    rows = x[: len(x) // 3 * 3].reshape(3, -1)
    low, high = rows.min(axis=1, keepdims=True), rows.max(axis=1, keepdims=True)
    return (rows - low) / (high - low), rows < high


def _chosen(x):
    return x[: len(x) // 3 * 3].reshape(3, -1)[np.array([2, 0, -1, 1])] * 2


def _added(x):
    y = x * 2
    np.add.at(y, np.arange(len(x)) % 7, x)
    return y


FORMS = (
    _line, _two, _compared, _padded, _joined, _stencil, _root, _rows, _scaled, _chosen, _added,
)  # fmt: skip


def _streams(f, *args):
    return "stream(" in "".join(k.source for k in fusec.jit(f).lower(*args).kernels)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("form", FORMS, ids=lambda f: f.__name__[1:])
@pytest.mark.parametrize("dtype", ["f4", "f8", "i8"])
def test_forms(form, length, dtype):
    """Whatever stands before the first line of memory and behind the last is right as well."""
    x = (np.random.default_rng(length).standard_normal(length) * 9).astype(dtype)
    wanted = form(x)
    f = fusec.jit(form)
    for _ in range(3):  # results begin at other places in a line
        found = f(x)
        pairs = zip(found, wanted) if type(wanted) is tuple else [(found, wanted)]
        for a, b in pairs:
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)
    assert _streams(form, x) or length // 3 < emit_streams.SHORT


@pytest.mark.parametrize("dtype", ["?", "i1", "u2", "i4", "f2"])
def test_small_dtypes(dtype):
    x = (np.random.default_rng(3).standard_normal(5000) * 9).astype(dtype)
    for f in (lambda x: x + x, lambda x: np.where(x > 1, x, 0)):
        np.testing.assert_array_equal(fusec.jit(f)(x), f(x))
        assert _streams(f, x)


@pytest.mark.parametrize("dtype", ["f4", "f8", "i2", "u1", "?"])
@pytest.mark.parametrize("shape", [(64, 64), (70, 130), (128, 96), (17, 256), (1030, 80), (33, 65)])
def test_what_lies_the_other_way_round(shape, dtype):
    """Tiles begin where lines of the result do, if they can."""
    x = (np.random.default_rng(1).standard_normal(shape) * 9).astype(dtype)
    y = np.asfortranarray(x[::-1])
    f = fusec.jit(lambda x, y: (x | y, y ^ x) if x.dtype.kind in "biu" else (x + y, y * 2 - x))
    for _ in range(3):
        for a, b in zip(f(x, y), f.__wrapped__(x, y)):
            np.testing.assert_array_equal(a, b)
    square = x[:64, :64] if min(shape) >= 64 else x[:16, :16]
    g = fusec.jit(lambda x: np.where(x, x.T, x))
    np.testing.assert_array_equal(g(square), np.where(square, square.T, square))


def _listed(x, a):
    y, rows = x[0], []
    for t in range(len(x)):
        y = y + a * (x[t] - y)
        rows.append(y)
    return np.stack(rows)


def _kept(x, a):
    low, high = np.zeros_like(x[0]), np.ones_like(x[0])
    lows, signs = np.empty_like(x), np.empty(x.shape, "?")
    for t in range(len(x)):
        low, high = low * a + x[t], high + low * a
        lows[t], signs[t] = low, high > x[t]
    return lows, signs, high


@pytest.mark.parametrize("f", [_listed, _kept])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("length", [64, 513, 1000, 5003])
def test_rows_of_rounds(f, dtype, length):
    """What each round of a loop stores in a row of its own."""
    x = np.random.default_rng(length).standard_normal((40, length)).astype(dtype)
    a = x.dtype.type(0.2)
    jitted = fusec.jit(f)
    for _ in range(3):
        for found, wanted in zip(jitted(x, a), f(x, a)):
            np.testing.assert_array_equal(found, wanted)
    assert _streams(f, x, a)


def test_only_tiles_of_whole_lines_are_streams():
    f = fusec.jit(lambda x, y: x + y.T)
    for n, streams in ((1024, True), (1030, False)):
        x = fusec.ShapeDtype((n, n), "f8")
        (kernel,) = f.lower(x, x).kernels
        assert "turn(" in kernel.source and ("stream(" in kernel.source) == streams


@pytest.mark.parametrize("past", [0, 1 << 40])
@pytest.mark.parametrize("n", [64, 65, 127, 128, 200, 321])
@pytest.mark.parametrize("dtype", ["f4", "f8", "i2"])
def test_tiles_across_the_diagonal_follow_each_other(n, dtype, past, monkeypatch):
    monkeypatch.setattr(emit_tiles, "HELD", 0)
    monkeypatch.setattr(emit_tiles, "MOVED", past)
    wide = np.random.default_rng(n).integers(-99, 99, (3, n + 5, n + 9)).astype(dtype)
    cases = {
        "sum": (lambda x: x + x.swapaxes(-1, -2), True),
        "stacked": (lambda x: (x - x.swapaxes(-1, -2), x * x.swapaxes(-1, -2)), True),
        "another": (lambda x: x[..., ::-1] + x.swapaxes(-1, -2), False),
        "alone": (lambda x: x.swapaxes(-1, -2) * 2, False),
    }
    for f, paired in cases.values():
        for x in (wide[0, :n, :n], wide[:, :n, 3 : n + 3], wide[1, :n, :n].copy()):
            for threads in (1, 2):
                with fusec.threads(threads):
                    np.testing.assert_array_equal(fusec.jit(f)(x), f(x))
            assert ("for pair in" in fusec.jit(f).lower(x).kernels[0].source) == paired


def test_machine_code_stores_past_the_caches():
    (kernel,) = fusec.jit(_line).lower(np.zeros(1000)).compile().kernels
    assert re.search("movnt|stnp", kernel.asm)


@pytest.mark.parametrize("f", [
    lambda x: np.add(x, 1, out=x),  # in its own memory
    lambda x: x[::2] * 2 + x[::2].sum(),
    lambda x: np.exp(x) + 1,  # bound by what it computes
    lambda x: np.cumsum(x),
])
def test_other_stores_stay(f):  # fmt: skip
    x = np.random.default_rng(0).standard_normal(2000)
    found, wanted = x.copy(), x.copy()
    np.testing.assert_allclose(fusec.jit(f)(found), f(wanted))
    np.testing.assert_array_equal(found, wanted)


def test_all_threads_see_what_was_stored():
    """A later kernel of the program reads what other threads have stored past the caches."""
    x = np.random.default_rng(0).standard_normal((64, 5000))

    def f(x):
        y = x * 2 + 1
        return y, y[::-1].sum(axis=0), y.T.copy()

    jitted = fusec.jit(f)
    for _ in range(20):
        found = jitted(x)
        for a, b in zip(found, f(x)):
            np.testing.assert_allclose(a, b)


def _asks(f, *args):
    return "prefetch(" in "".join(k.source for k in fusec.jit(f).lower(*args).kernels)


@pytest.mark.parametrize("length", [127, 128, 129, 191, 192, 1000])
@pytest.mark.parametrize("form", FORMS, ids=lambda f: f.__name__[1:])
@pytest.mark.parametrize("dtype", ["f4", "f8", "i2"])
def test_groups_that_ask_for_what_they_store_to(form, length, dtype, monkeypatch):
    """Where results stay in the caches: whole groups of lanes, and the elements behind them."""
    monkeypatch.setattr(emit_streams, "LAST_CACHE", 1 << 40)
    monkeypatch.setattr(emit_ahead, "CACHE", 0)
    monkeypatch.setattr(emit_ahead, "LEAST", 16)
    x = (np.random.default_rng(length).standard_normal(length) * 9).astype(dtype)
    found, wanted = fusec.jit(form)(x), form(x)
    for a, b in zip(*[r if type(r) is tuple else (r,) for r in (found, wanted)], strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def test_what_is_stored_is_asked_for_where_memory_takes_longer_than_computing(monkeypatch):
    monkeypatch.setattr(emit_streams, "LAST_CACHE", 1 << 40)
    large, small = (fusec.ShapeDtype((n,), "f8") for n in (100_000, 50_000))
    line = lambda x: x * 2 + 1
    assert _asks(line, large) and not _asks(line, small)
    z = np.random.default_rng(1).standard_normal(140_002).view("c16")
    np.testing.assert_array_equal(fusec.jit(line)(z.astype("c8")), line(z.astype("c8")))
    np.testing.assert_array_equal(fusec.jit(line)(z), line(z))
    for f in (np.exp, lambda x: np.add(x, 1, out=x), lambda x: x > 1):
        assert not _asks(f, large)


def test_only_what_outgrows_the_last_cache(monkeypatch):
    monkeypatch.setattr(emit_streams, "LAST_CACHE", 32 << 20)
    small, large = (fusec.ShapeDtype((n,), "f8") for n in (1_000_000, 4_000_000))
    assert not _streams(_line, small) and _streams(_line, large)


def test_shorter_rows_where_each_begins_a_line(monkeypatch):
    monkeypatch.setattr(emit_streams, "SHORT", 512)
    f = fusec.jit(lambda x: x + np.arange(x.shape[1]))
    for width, past in ((64, True), (128, True), (120, True), (100, False), (56, False)):
        x = np.random.default_rng(width).standard_normal((300, width + 1))[:, 1:]
        np.testing.assert_array_equal(f(x), f.__wrapped__(x))
        assert _streams(f.__wrapped__, x) == past


def test_what_a_loop_moves_is_counted_once(monkeypatch):
    """Rows of one array that a loop reads at several places, and neighbours in one row."""
    x, places = fusec.ShapeDtype((8, 5000), "f8"), fusec.ShapeDtype((20,), "i8")
    for f, nbytes in (
        (lambda x: np.stack([x[k] * 2 for k in range(8)]), 2 * 8 * 5000 * 8),
        (lambda x: x[0, :-2] + x[0, 1:-1] + x[0, 2:], (5000 + 4998) * 8),
        (lambda x: np.roll(x, (1, 2), (0, 1)), 2 * 8 * 5000 * 8),
        (lambda x: x - x.max(axis=1, keepdims=True), 2 * 8 * 5000 * 8),
        (lambda x, i: x[i] * 2, (8 + 20) * 5000 * 8 + 20 * 8),  # at most all of x
    ):
        for most, past in ((nbytes - 1, True), (nbytes, False)):
            monkeypatch.setattr(emit_streams, "LAST_CACHE", most)
            given = (x, places)[: f.__code__.co_argcount]
            assert _streams(f, *given) == past
