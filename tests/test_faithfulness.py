"""`numpy_faithfulness.md`, row by row: what NumPy does is what fusec does.

The rows are in `rows_*.py`; `oracle.check` says what is compared.
"""

import warnings

import numpy as np
import pytest
import rows_arithmetic
import rows_arrays
import rows_everyday
import rows_objects
import rows_reductions
import rows_updates
from oracle import check
from table import ramp

import fusec
from fusec.errors import ImpureError

ALL = [
    pytest.param(row, id=row.id)
    for rows in (
        rows_arithmetic, rows_reductions, rows_arrays, rows_updates, rows_everyday, rows_objects,
    )
    for row in rows.ROWS
]


@pytest.mark.filterwarnings("ignore::fusec.errors.FallbackWarning")
@pytest.mark.parametrize("row", ALL)
def test_as_numpy(row):
    check(row.fn, *row.args, ulp=row.ulp, rel=row.rel, refuse=row.refuse)


def test_enough_rows():
    assert len(ALL) >= 250


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_sums_are_as_accurate_as_pairwise(dtype):
    rng = np.random.default_rng(0)
    x = (rng.standard_normal(1_000_003) + 3).astype(dtype)
    exact = x.astype(np.longdouble)
    for name in ("sum", "mean", "var", "std"):
        fn = getattr(np, name)
        got, want, true = fusec.jit(lambda x, fn=fn: fn(x))(x), fn(x), fn(exact)
        assert got.dtype == want.dtype
        slack = 4 * np.finfo(dtype).eps * abs(true)
        assert abs(got - true) <= max(2 * abs(want - true), slack), name


def test_sums_do_not_depend_on_layout():
    x = ramp("f4", 6000) * np.float32(1.37)
    wide = np.zeros((6000, 2), "f4")
    wide[:, 0] = x
    total = fusec.jit(lambda x: x.sum())
    assert total(x) == total(wide[:, 0]) == total(x[::-1].copy()[::-1])


@pytest.mark.parametrize("mode", ["r", "c", "r+"])
def test_memory_mapped(tmp_path, mode):
    values = ramp("f4", 100)
    for name in ("numpy", "fusec"):
        values.tofile(tmp_path / name)

    def scale(x):
        x *= 2
        return x + 1

    def outcome(fn, name):
        x = np.memmap(tmp_path / name, "f4", mode)
        try:
            return np.array(fn(x)), np.array(x)
        except ValueError as error:
            return type(error), np.array(x)

    want, got = outcome(scale, "numpy"), outcome(fusec.jit(scale), "fusec")
    np.testing.assert_array_equal(got[1], want[1])
    if mode == "r":
        assert issubclass(got[0], want[0])
    else:
        np.testing.assert_array_equal(got[0], want[0])
    x = np.memmap(tmp_path / "fusec", "f4", "r")
    assert type(fusec.jit(lambda x: x + 1)(x)) is np.ndarray
    assert type(fusec.jit(lambda x: x[2:])(x)) is type(x[2:])


def test_no_floating_point_warnings_but_errstate_raises():
    divide = fusec.jit(lambda x: 1 / x)
    zeros = np.zeros(3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isinf(divide(zeros)).all()
    with np.errstate(divide="raise"), pytest.raises(FloatingPointError):
        divide(zeros)
    assert np.isinf(divide(zeros)).all()


def test_nothing_is_left_behind_by_a_failed_call():
    gather = fusec.jit(lambda x, i: x[i] * 2)
    x = ramp("f4")
    with pytest.raises(IndexError):
        gather(x, np.array([99]))
    np.testing.assert_array_equal(gather(x, np.array([3])), x[[3]] * 2)


EFFECTS = {
    "random": (lambda x: x + np.random.rand(3), r"numpy.random.rand .* its result be frozen"),
    "random of an array": (lambda x: np.random.permutation(x), r"permutation .* frozen"),
    "load": (lambda x: x + np.load("x.npy"), r"numpy.load .* frozen"),
    "save": (lambda x: np.save("x.npy", x), r"numpy.save .* not at each call. Return the array"),
    "savetxt": (lambda x: np.savetxt("x", x), r"numpy.savetxt .* not at each call"),
}


@pytest.mark.parametrize("fn, message", EFFECTS.values(), ids=EFFECTS)
def test_effects_say_what_to_do(fn, message):
    with pytest.raises(ImpureError, match=message):
        fusec.jit(fn)(np.ones(3))


def test_sums_of_negative_zeros_keep_the_sign():
    """As the README says; NumPy gives 0.0."""
    for x in (np.full(5, -0.0), np.full((300, 4), -0.0, "f4")):
        assert np.signbit(fusec.jit(lambda x: x.sum())(x)) and not np.signbit(x.sum())
        assert not np.signbit(fusec.jit(lambda x: x.sum())(-x))


def late_index(x, i):
    x += 1
    return x[i]


def late_shape(x, i):
    x += 1
    return x + np.ones(99)


def late_dtype(x, i):
    x += 1
    return np.sqrt(x, dtype="i4")


def late_member(p, i):
    p["a"] = i + 1
    return p["x"].reshape(7)


@pytest.mark.parametrize("fn", [late_index, late_shape, late_dtype])
def test_arguments_after_an_exception(fn):
    """As the README says: NumPy runs the function where its arguments have changed before."""
    x, want = np.zeros(3), np.zeros(3)
    for call, array in ((fn, want), (fusec.jit(fn), x)):
        with pytest.raises((IndexError, ValueError, TypeError)) as caught:
            call(array, np.array([7]))
    assert not isinstance(caught.value, fusec.errors.FusecError)
    np.testing.assert_array_equal(x, want)


def test_containers_after_an_exception():
    given = {"x": np.zeros(3)}
    with pytest.raises(ValueError, match="reshape"):
        fusec.jit(late_member)(given, np.array([7]))
    np.testing.assert_array_equal(given["a"], 8)


@pytest.mark.parametrize("function", [
    lambda x: x.mean(), lambda x: np.mean(x, axis=0), lambda x: x.var(),
    lambda x: np.std(np.ones(3), ddof=3) + x.sum(), lambda x: np.mean(x.astype(int)),
])  # fmt: skip
def test_a_mean_of_nothing_warns(function):
    heard = []
    for f in (function, fusec.jit(function)):
        with pytest.warns(RuntimeWarning) as found:
            f(np.zeros(0))
        texts = {str(w.message) for w in found}
        heard.append({t for t in texts if "slice" in t})
    assert heard[0] and heard[0] == heard[1]
