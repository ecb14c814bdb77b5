"""Variances and covariances of large arrays read them once (`passes/centred.py`)."""

import itertools

import numpy as np
import pytest

import fusec
from fusec.passes import centred

RNG = np.random.default_rng(11)


def covariance(x):
    y = np.abs(x)
    return ((x - x.mean()) * (y - y.mean())).sum() / x.size


def correlation(x, y):
    a, b = x - x.mean(), y - y.mean()
    return (a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum())


def line(x, y):
    """Least squares: slope and intercept."""
    slope = ((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum()
    return slope, y.mean() - slope * x.mean()


def both(x):
    return np.mean(x), np.std(x), np.sum(x)


#: function, shapes of its arguments, how often memory is read and written
CASES = {
    "var": (np.var, [(300_000,)], 1),
    "left-over": (np.var, [(300_007,)], 1),
    "std": (lambda x: np.std(x, ddof=1), [(600, 500)], 1),
    "many-axes": (np.var, [(7, 11, 13, 301)], 1),
    "long-rows": (lambda x: np.var(x, axis=1, keepdims=True), [(7, 50_001)], 1),
    "outer-axis": (lambda x: np.var(x, axis=(0, 2, 3)), [(20, 3, 40, 120)], 1),
    "axis-of-one": (lambda x: np.var(x, axis=0), [(300_000, 1)], 1),
    "by-hand": (lambda x: ((x - x.mean()) ** 2).mean(), [(300_000,)], 1),
    "computed": (lambda x: np.var(np.abs(x) + 1), [(300_000,)], 1),
    "covariance": (covariance, [(300_000,)], 1),
    "correlation": (correlation, [(300_000,)] * 2, 2),
    "line": (line, [(300_000,)] * 2, 2),
    "mean-too": (both, [(300_000,)], 1),
    "standardised": (lambda x: (x - x.mean()) / x.std(), [(300_000,)], 3),
    "columns": (lambda x: np.var(x, axis=0), [(3000, 100)], 2),
}


@pytest.mark.parametrize("name", CASES)
def test_memory_is_read_once(name):
    f, shapes, passes = CASES[name]
    args = [RNG.normal(3, 2, shape) for shape in shapes]
    low = fusec.jit(f).lower(*args)
    assert passes <= low.explain().bytes_moved / args[0].nbytes < passes + 0.05
    for got, want in zip(np.atleast_1d(low.compile()(*args)), np.atleast_1d(f(*args))):
        np.testing.assert_allclose(got, want, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("dtype", ["f4", "f8", "i4"])
@pytest.mark.parametrize("shape", [(9001,), (3, 4100), (5, 3, 40, 41), (4200, 1, 2), (1, 257, 17)])
def test_blocks_of_all_axes(shape, dtype, monkeypatch):
    monkeypatch.setattr(centred, "FAR", 0)
    x = RNG.normal(100, 20, shape).astype(dtype)
    for count in range(1, len(shape) + 1):
        for axes in itertools.combinations(range(len(shape)), count):
            f = fusec.jit(lambda x, axes=axes: (np.var(x, axis=axes), np.mean(x, axis=axes)))
            for got, want in zip(f(x), (np.var(x, axis=axes), np.mean(x, axis=axes))):
                assert got.dtype == want.dtype and got.shape == want.shape
                loose = 2e-5 if dtype == "f4" else 1e-12
                np.testing.assert_allclose(got, want, rtol=loose, atol=loose)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_nothing_large_cancels(dtype):
    """A mean far from 0, a slope, and one element beyond all others."""
    eps, n = np.finfo(dtype).eps, 700_001
    noise = RNG.normal(size=n)
    far, alone = noise + 0.01 / eps**0.5, noise + 1e9 * (noise > 4.5)
    for x in (far, np.sort(noise), np.cumsum(noise), alone):
        x = x.astype(dtype)
        true = np.var(x.astype(np.longdouble))
        assert abs(fusec.jit(np.var)(x) - true) <= 8 * eps * true


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("kind", ["inf", "-inf", "nan", "largest", "sum overflows", "equal"])
def test_special_values(kind, dtype):
    big = np.finfo(dtype).max
    x = np.full(600_000, {"sum overflows": big / 3, "equal": 0.25}.get(kind, 1), dtype)
    if kind in ("inf", "-inf", "nan", "largest"):
        x[70_000] = {"largest": big}.get(kind) or float(kind)
    with np.errstate(all="ignore"):
        want = np.var(x), np.std(x, ddof=1)
    np.testing.assert_array_equal(fusec.jit(lambda x: (np.var(x), np.std(x, ddof=1)))(x), want)


def about_a_number(x, y):
    return ((x - x.mean()) * (y - 0.5)).sum()


def about_a_finite_mean(x, y):
    return ((x - np.nan_to_num(x.mean())) ** 2).sum()


def about_a_mean_in_bounds(x, y):
    return ((x - np.clip(x.mean(), -1, 1)) ** 2).mean()


def covariance(x, y):
    return ((x - x.mean()) * (y - y.mean())).sum()


@pytest.mark.parametrize("first", [0, np.inf, -np.inf, 1.7e308])
@pytest.mark.parametrize("second", [0, np.inf, 1.7e308])
@pytest.mark.parametrize(
    "function", [about_a_number, about_a_finite_mean, about_a_mean_in_bounds, covariance]
)
def test_centres_that_are_no_means(function, first, second):
    """An infinite element may leave them finite: then the sum is infinite, not NaN."""
    x, y = RNG.normal(size=(2, 600_000))
    x[70_000:70_200], y[70_000:70_200] = first, second
    with np.errstate(all="ignore"):
        want = function(x, y)
    np.testing.assert_allclose(fusec.jit(function)(x, y), want, rtol=1e-9)


def test_gradient_of_a_large_variance():
    x = RNG.normal(3, 2, 300_000)
    gradient = fusec.grad(lambda x: np.std(x) + np.mean(x))(x)
    want = (x - x.mean()) / (x.size * x.std()) + 1 / x.size
    np.testing.assert_allclose(gradient, want, rtol=1e-9, atol=1e-18)


def test_rows_on_a_gpu_stay_whole():
    spec = fusec.ShapeDtype((500, 8192), "f4")
    f = fusec.jit(lambda x: (x - x.mean(axis=1, keepdims=True)) / x.std(axis=1, keepdims=True))
    assert len(f.lower(spec, target="cuda:sm_90").kernels) == 1
