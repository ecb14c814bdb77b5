"""``np.searchsorted`` and ``np.digitize`` of many numbers are kernels, with NumPy's answers."""

import itertools

import numpy as np
import pytest

import fusec

TABLE = np.sort(np.random.default_rng(0).standard_normal(77))
KEYS = np.random.default_rng(1).standard_normal((40, 60))
SPECIAL = (np.nan, np.inf, -np.inf, 0.0, -0.0)


def _calls(f, *args):
    """Host calls of a program."""
    return [line for line in str(fusec.jit(f).lower(*args)).splitlines() if " call " in line]


@pytest.mark.parametrize("table", ["f8", "f4", "i8", "i4", "u4", "i2"])
@pytest.mark.parametrize("keys", ["f8", "f4", "i8", "u1"])
def test_every_place_is_numpys(table, keys):
    rng = np.random.default_rng(5)
    sides = ("left", "right")
    jitted = {s: fusec.jit(lambda a, v, s=s: np.searchsorted(a, v, side=s)) for s in sides}
    for n, side in itertools.product((1, 2, 3, 7, 8, 9, 64, 1000), jitted):
        a = np.sort((rng.standard_normal(n) * 20).astype(table))
        v = (rng.standard_normal(1500) * 20).astype(keys)
        v[::3] = rng.choice(a, 500).astype(keys)
        if v.dtype.kind == "f":
            v[1::7] = np.resize(SPECIAL, len(v[1::7]))
        if a.dtype.kind == "f" and n > 5:
            a[0], a[-3:] = -np.inf, (np.inf, np.nan, np.nan)
        found, wanted = jitted[side](a, v), np.searchsorted(a, v, side=side)
        assert found.dtype == wanted.dtype
        np.testing.assert_array_equal(found, wanted)


FORMS = {
    "a list": lambda x: np.searchsorted([-1.0, 0.0, 1.5], x),
    "a global": lambda x: np.searchsorted(TABLE, x, side="right"),
    "a method": lambda x: TABLE[::2].searchsorted(x[::2, 1:]),
    "a computed table": lambda x: np.searchsorted(np.cumsum(np.abs(TABLE)), x * 10),
    "traced numbers": lambda x: np.searchsorted([x.min(), x.mean(), x.max()], x),
    "counts": lambda x: np.bincount(np.searchsorted(TABLE, x).ravel(), minlength=78),
    "lookup": lambda x: np.arange(78.0)[np.searchsorted(TABLE, x)] * 2,
    "bins": lambda x: np.digitize(x, TABLE),
    "bins to the right": lambda x: np.digitize(x, [-1, 0, 2], right=True),
    "descending bins": lambda x: np.digitize(x, TABLE[::-1].copy()),
    "an unsorted table": lambda x: np.searchsorted(np.abs(TABLE), x),
    "numbers behind nan": lambda x: np.searchsorted(np.append(np.nan, TABLE), x),
    "a sorter": lambda x: np.searchsorted(TABLE[::-1], x, sorter=np.arange(77)[::-1]),
    "complex numbers": lambda x: np.searchsorted(TABLE, x + 0j),
    "truths": lambda x: np.searchsorted(TABLE, x > 0),
    "an empty table": lambda x: np.searchsorted(TABLE[:0], x),
    "a side by its letter": lambda x: np.searchsorted(TABLE, x, side="l"),
    "a table of two axes": lambda x: np.searchsorted(x, x),
    "bins that turn back": lambda x: np.digitize(x, [0, 2, 1]),
    "no such side": lambda x: np.searchsorted(TABLE, x, side="middle"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("form", FORMS)
def test_forms(form):
    f, found, wanted = FORMS[form], None, None
    try:
        wanted = f(KEYS)
    except Exception as error:
        with pytest.raises(type(error)):
            fusec.jit(f)(KEYS)
        return
    found = fusec.jit(f)(KEYS)
    assert found.dtype == wanted.dtype
    np.testing.assert_array_equal(found, wanted)


def test_a_table_that_changes_is_checked_at_each_call():
    f, table = fusec.jit(lambda x, t: np.searchsorted(t, x)), TABLE.copy()
    for k in range(3):
        np.testing.assert_array_equal(f(KEYS, table), np.searchsorted(table, KEYS))
        table[5] = (9, -9, 0)[k]


def test_what_follows_is_in_the_same_kernel():
    few = fusec.ShapeDtype((999,), "f8")
    f = lambda t, x: np.exp(t[np.searchsorted(t, x) - 1] * x)
    low = fusec.jit(f).lower(fusec.ShapeDtype((1000,), "f8"), fusec.ShapeDtype((50, 100), "f8"))
    assert not _calls(f, TABLE, KEYS) and _calls(f, TABLE, few)  # few numbers are NumPy's
    assert len([k for k in low.kernels if k.bytes_written]) == 2  # one counts what is no nan
    assert "exp(" in low.kernels[-1].source


def test_transforms():
    tables = np.sort(np.random.default_rng(2).standard_normal((3, 50)), axis=1)
    keys = np.random.default_rng(3).standard_normal((3, 40, 60))
    each = fusec.vmap(lambda t, x: np.searchsorted(t, x))
    np.testing.assert_array_equal(each(tables, keys), list(map(np.searchsorted, tables, keys)))
    slope = fusec.grad(lambda x: (x * np.arange(78.0)[np.searchsorted(TABLE, x)]).sum())
    np.testing.assert_array_equal(slope(KEYS), np.searchsorted(TABLE, KEYS))
    with pytest.raises(ValueError, match="sorted tables only"):
        each(tables[:, ::-1], keys)
