"""Assignments into containers that are arguments, whose arrays are on a GPU: in the simulator."""

import os

import numpy as np
import pytest
from test_writeback import REFUSED, ROWS, on_device, snapshot, told

import fusec

pytestmark = pytest.mark.skipif(
    not os.environ.get("NUMBA_ENABLE_CUDASIM"), reason="needs NUMBA_ENABLE_CUDASIM=1"
)


@pytest.mark.parametrize("name", [name for name in ROWS if name not in REFUSED])
def test_as_numpy(name):
    fn, args = ROWS[name]
    given = on_device(args(), "simulator")
    assert told(fn, args(), True, 2) == told(fusec.jit(fn), given, True, 2)


def test_numpy_arguments_of_a_function_for_a_device():
    @fusec.jit(device="simulator")
    def step(p, g):
        p["w"] = p["w"] - 0.5 * g
        p["g"], p["t"] = g, p["t"] + 1
        return p

    p, g = {"w": np.ones(4), "t": 0}, np.ones(4)
    assert step(p, g) is p and p["g"] is g and p["t"] == 1
    assert type(p["w"]) is fusec.Array
    step(p, g)
    np.testing.assert_array_equal(p["w"], np.zeros(4))


def test_an_error_of_a_kernel_comes_before_anything_is_changed():
    @fusec.jit
    def f(p, i):
        p["w"], p["n"] = p["w"][i], 1

    (p, i) = on_device(({"w": np.arange(3.0)}, np.array([1, 7])), "simulator")
    known = [p, p["w"]]
    before = snapshot([p], list(known), True)
    with pytest.raises(IndexError):
        f(p, i)
    assert snapshot([p], list(known), True) == before


def test_donated_members_are_taken():
    @fusec.jit(donate_argnums=0)
    def f(p, x):
        p["w"] = p["w"] - x
        p["old"] = p["g"]

    p, x = on_device(({"w": np.ones(4), "g": np.ones(4)}, np.ones(4)), "simulator")
    buffers = p["w"].buffer, p["g"].buffer
    f(p, x)
    assert (p["w"].buffer, p["old"].buffer) == buffers and p["g"] is p["old"]
    np.testing.assert_array_equal(p["w"], np.zeros(4))
