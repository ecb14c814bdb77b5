"""Gradients of a table of functions against autograd and JAX, and against differences.

Every row is the number ``sum(weights * fn(arrays))``; weights differ from element to element, so
that what goes to a wrong place is seen.
"""

import numpy as np
import pytest
from rows_gradients import ROWS

import fusec

TOLERANCE = 1e-9


def weighted(module, fn):
    """A number from the result: the same for every library."""

    def loss(*arrays):
        y = fn(module, *arrays)
        weights = np.cos(np.arange(y.size) * 0.7 + 0.3).reshape(y.shape)
        return (y * weights).sum()

    return loss


def everything(row):
    return tuple(range(len(row.args)))


def compare(got, wanted):
    for a, b in zip(got, wanted):
        np.testing.assert_allclose(a, b, rtol=TOLERANCE, atol=TOLERANCE * (1 + np.abs(b).max()))


@pytest.mark.parametrize("row", ROWS, ids=lambda r: r.id)
def test_gradient_against_autograd(row):
    autograd = pytest.importorskip("autograd")
    import autograd.numpy as anp

    if "autograd" in row.without:
        pytest.skip("autograd lacks it")
    wanted = autograd.grad(weighted(anp, row.fn), everything(row))(*row.args)
    compare(fusec.grad(weighted(np, row.fn), everything(row))(*row.args), wanted)


@pytest.fixture(scope="module")
def jax():
    module = pytest.importorskip("jax")
    with module.enable_x64(True):
        yield module


@pytest.mark.parametrize("row", ROWS, ids=lambda r: r.id)
def test_gradient_against_jax(row, jax, monkeypatch):
    if "jax" in row.without:
        pytest.skip("JAX lacks it")
    arrays = [jax.numpy.asarray(a) for a in row.args]
    wanted = jax.grad(weighted(jax.numpy, row.fn), everything(row))(*arrays)
    monkeypatch.setattr(fusec.config, "disable", True)  # the kernels are the other test's
    compare(fusec.grad(weighted(np, row.fn), everything(row))(*row.args), wanted)
