"""One kernel serves all lengths, also where the function uses its sizes as numbers."""

import math

import numpy as np
import pytest

import fusec
from fusec.runtime.cache import cache


def centred(x):
    made = np.zeros(len(x))
    made[1:-1] = (x[2:] - x[:-2]) * (len(x) - 1) / 2
    made[0] = x.size
    return made


def gap(x):
    whole, rest = divmod(len(x), 3)
    return x * whole - rest


FUNCTIONS = {
    "mean-by-shape": lambda x: x.sum() / x.shape[0],
    "mean-by-len": lambda x: x.sum() / len(x),
    "mean-by-size": lambda x: x.sum() / x.size,
    "mean-by-prod": lambda x: x.sum() / np.prod(x.shape),
    "mean-by-functions": lambda x: x.sum() / np.size(x) + np.shape(x)[0],
    "inverse-times-sum": lambda x: (1 / x.shape[0]) * x.sum(),
    "inverse": lambda x: x * (1.0 / x.shape[0]),
    "float-of-len": lambda x: x / float(len(x)),
    "float64-of-len": lambda x: x / np.float64(len(x)),
    "numpy-sqrt": lambda x: x / np.sqrt(x.shape[0]),
    "numpy-log": lambda x: x * np.log(len(x)),
    "math-sqrt": lambda x: x / math.sqrt(len(x)),
    "math-ceil": lambda x: x * math.ceil(len(x) / 4),
    "power": lambda x: x / x.shape[0] ** 0.5,
    "polynomial": lambda x: x * (len(x) ** 2 + 3 * len(x) - 1),
    "less-one": lambda x: x * (x.shape[0] - 1),
    "half": lambda x: x * (0.5 * len(x)) + round(len(x) * 0.3),
    "half-of-it": lambda x: x[: len(x) // 2].sum() / (len(x) // 2),
    "divmod": gap,
    "at-least": lambda x: x / max(len(x), 2),
    "standard-error": lambda x: x.std(ddof=1) / np.sqrt(len(x)),
    "arange": lambda x: np.arange(x.shape[0]) * x,
    "arange-from-one": lambda x: np.cumsum(x) / np.arange(1, len(x) + 1),
    "arange-down": lambda x: np.arange(x.shape[0], 0, -1) * x,
    "arange-step": lambda x: np.arange(0, 1, 1 / len(x))[:3] + x[:3],
    "linspace": lambda x: np.linspace(0, 1, x.shape[0]) * x,
    "full": lambda x: np.full(x.shape, 1 / x.size),
    "array-of": lambda x: np.array([len(x), x.sum(), 1 / len(x)]),
    "window": lambda x: x * (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(len(x)) / (len(x) - 1))),
    "eye": lambda x: np.eye(len(x)) * x / len(x),
    "diagonal": lambda x: np.outer(x, x).diagonal() / len(x),
    "gradient": lambda x: np.gradient(x, 1 / (len(x) - 1)),
    "derivative": centred,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_twenty_lengths_compile_what_one_compiles(name):
    function = FUNCTIONS[name]
    compiled = fusec.jit(function)
    counts = []
    for n in range(20, 40):
        x = np.random.default_rng(n).standard_normal(n)
        want, got = function(x), compiled(x)
        assert type(got) is type(want) and got.dtype == want.dtype
        np.testing.assert_allclose(got, want, rtol=1e-11, atol=1e-13)
        counts.append(cache.stats())
    kernels = [c["compiled"] + c["disk_hits"] for c in counts]
    assert kernels[-1] == kernels[0]


def test_sizes_are_handed_over_as_numbers():
    f = fusec.jit(lambda x: (x.shape, len(x), 1 / x.size, x.ndim, divmod(len(x), 2), len(x) > 2))
    for n in (2, 3, 5):
        got = f(np.ones(n))
        assert got == ((n,), n, 1 / n, 1, (n // 2, n % 2), n > 2)
        assert [type(v) for v in got] == [tuple, int, float, int, tuple, bool]
