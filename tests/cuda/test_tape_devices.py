"""``fusec.Tape`` on devices: values in the simulator, launches on the null device."""

import os

import numpy as np
import pytest

import fusec
from fusec.runtime.device import get_device

RNG = np.random.default_rng(0)
W, X = RNG.standard_normal((4, 3)), RNG.standard_normal((5, 4))


def loss(w, x):
    return (np.tanh(x[:, ::-1] @ w) ** 2).sum() + w[0].mean()


@pytest.mark.skipif(not os.environ.get("NUMBA_ENABLE_CUDASIM"), reason="needs the simulator")
def test_gradients_in_the_simulator():
    w, x = [fusec.to_device(a, "simulator") for a in (W, X)]
    with fusec.Tape() as outer:
        with fusec.Tape() as tape:
            value = loss(w, x)
        grad = tape.gradient(value, w)
        size = (grad**2).sum()
    second = outer.gradient(size, w)
    wanted = fusec.grad(loss)(W, X)
    np.testing.assert_allclose(np.asarray(grad), wanted, rtol=1e-9)
    again = fusec.grad(lambda w: (fusec.grad(loss)(w, X) ** 2).sum())(W)
    np.testing.assert_allclose(np.asarray(second), again, rtol=1e-9)


def test_nothing_runs_before_the_gradient():
    device = get_device("null:31")
    w, x = [fusec.to_device(a, device) for a in (W, X)]
    with fusec.Tape() as tape:
        value = loss(w, x)
    assert (device.count("launch"), device.count("replay")) == (0, 0)
    tape.gradient(value, w)
    first = device.count("launch") + device.count("replay")
    assert first > 0
    assert fusec.memory(device).live < 4096
