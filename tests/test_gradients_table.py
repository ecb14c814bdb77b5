"""Gradients of a table of functions against autograd and JAX, and against differences.

Every row is the number ``sum(weights * fn(arrays))``; weights differ from element to element, so
that what goes to a wrong place is seen.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from rows_gradients import ROWS, weighted

import fusec

TOLERANCE = 1e-9


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


JAX = """
import sys
import jax
import numpy as np
from rows_gradients import ROWS, weighted

jax.config.update("jax_enable_x64", True)
found = {}
for row in ROWS:
    if "jax" not in row.without:
        places = tuple(range(len(row.args)))
        grads = jax.grad(weighted(jax.numpy, row.fn), places)(*map(jax.numpy.asarray, row.args))
        found |= {f"{row.id}/{k}": np.asarray(g) for k, g in enumerate(grads)}
np.savez(sys.argv[1], **found)
"""


def test_gradients_against_jax(tmp_path, monkeypatch):
    """In a process of its own: JAX's threads do not go with tests that fork."""
    if importlib.util.find_spec("jax") is None:
        pytest.skip("JAX is not installed")
    path = tmp_path / "found.npz"
    here = Path(__file__).parent
    subprocess.run([sys.executable, "-c", JAX, str(path)], cwd=here, check=True, env=os.environ)
    wanted = np.load(path)
    monkeypatch.setattr(fusec.config, "disable", True)  # the kernels are the other test's
    wrong = []
    for row in [r for r in ROWS if "jax" not in r.without]:
        got = fusec.grad(weighted(np, row.fn), everything(row))(*row.args)
        try:
            compare(got, [wanted[f"{row.id}/{k}"] for k in range(len(got))])
        except AssertionError as error:
            wrong.append(f"{row.id}: {error}")
    assert not wrong, "\n".join(wrong)
