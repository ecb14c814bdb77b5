"""Loops that read at places which data choose, whose places are checked a group at a time."""

import numpy as np
import pytest

import fusec

LENGTHS = (0, 1, 7, 8, 9, 31, 32, 33, 40, 255, 256, 257, 1000)
SIZE = 50


def _picked(x, i, y):
    return x[i]


def _times(x, i, y):
    return x[i] * y


def _exponential(x, i, y):
    return np.exp(x[i] * 0.1) * np.cos(x[i]) + np.sin(y)


def _both(x, i, y):
    return x[i] + x[::-1][i] - x[np.abs(i)]


def _computed(x, i, y):
    return x[(i * 3 + 1) % SIZE] - x[i // 2]


def _chained(x, i, y):
    return x[i[i % max(len(i), 1)]] + y


def _sum(x, i, y):
    return (x[i] * y).sum(), x[i].max(initial=-9)


def _costly_sum(x, i, y):
    return np.exp(x[i] * 0.1 + np.sin(y)).sum()


def _table(x, i, y):
    return x.reshape(5, 10)[i // 10, i % 10] * y


def _outside(x, i, y):
    return np.where(y > 0, x[i], y), np.concatenate([x[i], y]) * 2


def _counted(x, i, y):
    out = np.zeros(SIZE, int)
    np.add.at(out, i, 1)
    return out


def _added(x, i, y):
    out = x * 1
    np.add.at(out, i, y)
    return out


FORMS = (
    _picked, _times, _exponential, _both, _computed, _chained, _sum, _costly_sum, _table, _outside,
    _counted, _added,
)  # fmt: skip


def _check(f, *args):
    """NumPy's results, or its exception."""
    try:
        wanted = f(*args)
    except IndexError as error:
        with pytest.raises(IndexError, match="out of bounds"):
            fusec.jit(f)(*args)
        assert "out of bounds" in str(error)
        return
    found = fusec.jit(f)(*args)
    pairs = zip(found, wanted) if isinstance(wanted, tuple) else [(found, wanted)]
    for one, two in pairs:
        assert one.dtype == two.dtype
        np.testing.assert_allclose(one, two, rtol=1e-3 if one.dtype == "f2" else 1e-5, atol=1e-5)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("form", FORMS, ids=lambda f: f.__name__[1:])
def test_forms(form, length):
    """Lengths around whole groups and blocks; negative places in none, some and all groups."""
    rng = np.random.default_rng(length)
    x, y = rng.standard_normal(SIZE), rng.standard_normal(length)
    inside = rng.integers(0, SIZE, length)
    for share in (0, 0.02, 1):
        negative = rng.random(length) < share
        places = np.where(negative & (inside > 0), -inside, inside)
        if form is not _table or share == 0:
            _check(form, x, places, y)


@pytest.mark.parametrize("at", [0, 7, 8, 63, 511, 515])
@pytest.mark.parametrize("value", [SIZE, -SIZE - 1, 2**62, -(2**63)])
@pytest.mark.parametrize("form", [_picked, _exponential, _sum, _both], ids=lambda f: f.__name__[1:])
def test_a_place_out_of_bounds(form, value, at):
    """Wherever in a group it is, it raises, and a later call is right."""
    rng = np.random.default_rng(at)
    x, y, places = rng.standard_normal(SIZE), rng.standard_normal(516), rng.integers(0, SIZE, 516)
    f = fusec.jit(form)
    f(x, places, y)
    wrong = places.copy()
    wrong[at] = value
    with pytest.raises(IndexError, match="out of bounds"):
        f(x, wrong, y)
    _check(form, x, places, y)


@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "u2", "i4", "u4", "i8"])
@pytest.mark.parametrize("layout", ["plain", "stepped", "reversed", "few", "record", "column"])
def test_layouts(dtype, layout):
    """Places of all dtypes, one after the other in memory or not."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal(100).astype("f4")
    places = rng.integers(0, 100, (90, 8)).astype(dtype)
    chosen = {
        "plain": places.ravel(),
        "stepped": places.ravel()[::2],
        "reversed": places.ravel()[::-1],
        "few": places[:, :3].copy(),
        "record": places,
        "column": np.asfortranarray(places),
    }[layout]
    _check(lambda x, i: x[i].sum(axis=-1) * 2, x, chosen)
    _check(lambda x, i: x[i] + x[i % 7], x, chosen)


@pytest.mark.parametrize("dtype", ["?", "i1", "i8", "f2", "f8", "c16"])
def test_dtypes(dtype):
    rng = np.random.default_rng(1)
    x, i = (rng.standard_normal(70) * 3).astype(dtype), rng.integers(-70, 70, 300)
    _check(lambda x, i: x[i], x, i)
    _check(lambda x, i: np.cos(x[i] * 1.5) * np.exp(x[i] * 0.5) + np.sin(x[i]), x, i)


@pytest.mark.parametrize("count", [1, 8, 11, 12, 13, 15, 18, 25, 40, 60])
@pytest.mark.parametrize("op", [np.add, np.remainder])
def test_groups_of_many_lines_are_smaller(op, count):
    """Elements behind the last whole group are read, and checked, whatever its size."""

    def f(x, i, y):
        v = x[i]
        for k in range(count):
            v = op(v, y + k)
        return v

    rng = np.random.default_rng(count)
    x = rng.standard_normal(SIZE) + 9
    for length in (40, 257, 1000, 1001):
        y, i = rng.random(length) + 99, rng.integers(0, SIZE, length)
        _check(f, x, i, y)
        i[-1] = SIZE
        _check(f, x, i, y)


def test_places_are_checked_in_groups_and_taken_as_they_are():
    x, i = np.zeros(10), np.zeros(1000, int)
    (kernel,) = fusec.jit(lambda x, i: x[i]).lower(x, i).kernels
    assert "if all_within(at(x0, i0), 8, d0):" in kernel.source
    (kernel,) = fusec.jit(lambda x, i: x[i].sum(axis=1)).lower(x, i.reshape(-1, 8)).kernels
    assert "if all_within(at(x0, i0 * 8), 8, d0):" in kernel.source
    (kernel,) = fusec.jit(lambda x, i: x[i % 7]).lower(x, i).kernels
    assert "if within(far_d0, d0):" in kernel.source


def test_what_is_computed_of_much_stays_vectors():
    x, i = np.zeros(10), np.zeros(1000, int)
    (kernel,) = fusec.jit(lambda x, i: np.exp(x[i]) * np.cos(x[i])).lower(x, i).kernels
    reads, rest = kernel.source.split("for i0 in range(chunk, end):")
    assert "one_by_one" in reads and " exp(" not in reads
    assert "one_by_one" not in rest and " exp(" in rest


def test_all_machine_code_of_a_group_is_scalar():
    """LLVM would put the places into vectors and take them out again."""
    x, i = np.zeros(10, "f4"), np.zeros((1000, 8), int)
    low = fusec.jit(lambda x, i: x[i].sum(axis=1)).lower(x, i)
    (kernel,) = low.compile().kernels
    fast = kernel.asm.partition("kortest")[0]
    assert "vpextrq" not in fast and "gather" not in kernel.asm
