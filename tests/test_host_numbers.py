"""Python numbers that decide the shape of what a library call gives: each call has its own."""

import numpy as np
import pytest

import fusec

LINE = np.arange(12.0)
FUNCTIONS = {
    "windows": lambda x, n: np.lib.stride_tricks.sliding_window_view(x, n).sum(axis=1),
    "windows-mean": lambda x, n: np.lib.stride_tricks.sliding_window_view(x, n).mean(1).shape,
    "fft": lambda x, n: np.fft.fft(x, n),
    "partition": lambda x, n: np.partition(x, n)[n],
    "histogram": lambda x, n: np.histogram(x, n)[0],
    "moving-average": lambda x, n: np.convolve(x, np.ones(n) / n, "valid"),
    "polyfit": lambda x, n: np.polyfit(x, x * x, n).shape,
    "quantile": lambda x, n: np.quantile(x, n / 10),
    "split": lambda x, n: np.array_split(x, n)[-1],
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_another_number_gives_another_shape(name):
    function = FUNCTIONS[name]
    compiled = fusec.jit(function)
    for n in (3, 5, 2, 3):
        want, got = function(LINE, n), compiled(LINE, n)
        assert np.shape(got) == np.shape(want)
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("function", "numbers"),
    [
        (lambda x, n: (type(2**n), x), (3, -1, 4)),
        (lambda x, n: isinstance(n**0.5, float), (2.0, -1.0, 4.0)),
        (lambda x, n: n / (int(x[2]) + 5), (3, 2**62 + 3, -(2**62) - 907, 10**40, 5)),
        (lambda x, n: float(x[2]) + 2.0**53 < n, (3, 2**53 + 1, 2**60, 10**40)),
        (lambda x, n: x * n**0.5, (2.0, 3.0, -1.0, 0.0)),
        (lambda x, n: (n**0.5, 2**n), (2.0, -1.0)),
        (lambda x, n: x * 2**n, (3, 5, -1, 0)),
        (lambda x, n: int(x[1]) + n, (3, 10**30, -4)),
        (lambda x, n: (int(x[2]) < n, max(int(x[3]), n) * 1.0), (3, 2**63, -(10**30))),
    ],
    ids=["type", "checked", "quotient", "equal", "root", "returned", "power", "sum", "order"],
)
def test_a_later_number_may_make_another_type(function, numbers):
    compiled = fusec.jit(function)
    for n in numbers:
        want, got = function(LINE.astype(int), n), compiled(LINE.astype(int), n)
        assert repr(got) == repr(want)
