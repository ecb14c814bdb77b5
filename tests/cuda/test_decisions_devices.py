"""Python decisions on values that are on a device: values in the simulator, copies anywhere."""

import os

import numpy as np
import pytest

import fusec

X = np.linspace(-1.0, 2.0, 50)


def scaled(x, w):
    s = (x * w).sum()
    if s > 0:
        return x / s
    if np.isnan(s):
        raise ValueError("nan")
    return x @ np.outer(x, w)


@pytest.mark.skipif(not os.environ.get("NUMBA_ENABLE_CUDASIM"), reason="needs the simulator")
def test_every_branch_in_the_simulator():
    jitted = fusec.jit(scaled)
    for _ in range(2):
        for sign in (1, -1):
            x, w = [fusec.to_device(a, "simulator") for a in (X, sign * X)]
            got = jitted(x, w)
            assert type(got) is fusec.Array
            np.testing.assert_allclose(got.copy_to_host(), scaled(X, sign * X), rtol=1e-12)
        with pytest.raises(ValueError, match="nan"):
            jitted(x, fusec.to_device(X * np.nan, "simulator"))


def test_the_value_is_a_copy_that_is_counted():
    jitted = fusec.jit(scaled)
    x, w = [fusec.to_device(a, "null") for a in (X, X)]
    jitted(x, w)
    with fusec.transfers() as found:
        jitted(x, w)  # nothing runs there: a sum is 0, and both answers are no
    assert (found.to_host, found.to_host_bytes, found.hidden, found.to_device) == (2, 2, 2, 0)
