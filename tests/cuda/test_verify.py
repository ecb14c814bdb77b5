"""``fusec.verify`` where kernels run on a device: right ones in the simulator, none on ``null``."""

import os
import warnings

import numpy as np
import pytest

import fusec
from fusec.errors import VerifyError, VerifyWarning

simulated = pytest.mark.skipif(
    not os.environ.get("NUMBA_ENABLE_CUDASIM"), reason="needs NUMBA_ENABLE_CUDASIM=1"
)
X = np.random.default_rng(0).standard_normal((5, 6)).astype("f4")


def softmax(x):
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def _shift(a, b):
    a[...] = b * 2
    return a.sum()


def _reads_a_device_array(place):
    w = place(X)

    def step(x):
        w[...] = w + x
        return w * x, w.sum()

    return step


#: name: what is verified, given what moves an array to the device
CASES = {
    "an argument there": lambda place, name: (softmax, place(X)),
    "a device of the function's own": lambda place, name: (fusec.jit(softmax, device=name), X),
    "arguments of both kinds": lambda place, name: (lambda x, y: x @ y.T + 1, place(X), X),
    "views": lambda place, name: (lambda x: (x.sum(), x.T, x, 3), place(X)[::-1, ::2]),
    "changed arguments": lambda place, name: (_shift, place(X), place(X + 1)),
    "changed arguments that overlap": lambda place, name: (
        lambda x: _shift(x[1:], x[:-1]) + x, place(X),
    ),
    "donated memory": lambda place, name: (
        fusec.jit(lambda x: x + 1, donate_argnums=0), place(X),
    ),
    "arrays from outside": lambda place, name: (_reads_a_device_array(place), place(X)),
    "arrays from outside alone": lambda place, name: (_reads_a_device_array(place), X),
    "the same exception": lambda place, name: (lambda x, i: x[i], place(X), np.array([9])),
}  # fmt: skip


def verified(name, device):
    function, *args = CASES[name](lambda x: fusec.to_device(x, device), device)
    return fusec.verify(function, *args), args


@simulated
@pytest.mark.parametrize("name", CASES)
def test_kernels_agree_and_nothing_is_changed(name):
    report, args = verified(name, "simulator")
    assert report, str(report)
    assert report.comparisons or "IndexError" in report.notes[0]
    for x in args:
        assert type(x) is fusec.Array or isinstance(x, np.ndarray)
        assert np.asarray(x).any()


@pytest.mark.parametrize("name", ["an argument there", "a device of the function's own"])
def test_differences_are_found_and_named(name):
    report, _ = verified(name, "null")  # which computes nothing and gives zeros
    assert not report
    assert "test_verify.py" in report.first
    with pytest.raises(VerifyError, match="DIFFERS"):
        fusec.verify(lambda x: x + 1, fusec.to_device(X, "null"), raise_on_difference=True)


def test_the_first_call_is_compared_where_that_is_asked_for(monkeypatch):
    monkeypatch.setattr(fusec.config, "verify", True)
    x, f = fusec.to_device(X, "null"), fusec.jit(lambda x: x + 1)
    with pytest.warns(VerifyWarning, match=r"first op that differs: add"):
        f(x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        f(x)
