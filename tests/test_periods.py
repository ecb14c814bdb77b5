"""Long axes whose places are told apart by a remainder: ``y[::2] = x``, ``np.tile``, diagonals."""

import re

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fusec

RNG = np.random.default_rng(8)


def interleaved(x):
    y = np.empty(2 * x.shape[0], x.dtype)
    y[::2] = x
    y[1::2] = -x
    return y


def checkerboard(x):
    y = np.zeros((x.shape[0], 2 * x.shape[0] + 1), int)
    y[1::2, ::2] = 1
    y[::2, 1::2] = 1
    return y


def upsampled(x):
    y = np.zeros((2 * x.shape[0], 2 * x.shape[0]), x.dtype)
    y[::2, ::2] = y[1::2, ::2] = y[::2, 1::2] = x
    y[1::2, 1::2] = x[:, None]
    return y


def relaxed(x):
    u = x[:, None] * x
    u[1:-1:2, 1:-1:2] = (u[:-2:2, 1:-1:2] + u[2::2, 1:-1:2] + u[1:-1:2, :-2:2]) / 3
    return u


def two_phases(x):
    y = x.copy()
    y[::7] = 1
    y[3::7] *= 2
    return y


def far_steps(x):
    y = x * 2
    y[5::19] = 0
    y[:-3:100] -= 1
    return y


def both_steps(x):
    y = x.copy()
    y[::2] = 1
    y[::100] = 2
    return y


def diagonal(x):
    y = x[:, None] + x
    flat = y.reshape(-1)
    flat[:: x.shape[0] + 1] = 0
    return y


def backwards(x):
    y = np.zeros_like(x)
    y[::-3] = x[::-3]
    y[-2:0:-2] += 1
    return y


PROGRAMS = [
    interleaved, checkerboard, upsampled, relaxed, two_phases, far_steps, both_steps, diagonal,
    backwards, lambda x: np.repeat(x, 3) * 2, lambda x: np.tile(x, 4) + 1,
    lambda x: np.where(np.arange(x.shape[0]) % 3 == 1, x, -x), lambda x: np.kron(x, np.ones(5)),
    lambda x: np.tile(x[:, None] * x, (2, 3)), lambda x: (x[:, None] + x[:20]).reshape(-1) * 2,
]  # fmt: skip


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda f: f.__name__)
def test_programs_with_periods(program, dtype):
    f = fusec.jit(program)
    for n in (1, 5, 16, 38, 101, 240):
        x = RNG.normal(size=n).astype(dtype)
        want, got = program(x), f(x)
        assert (got.dtype, got.shape, got.strides) == (want.dtype, want.shape, want.strides), n
        np.testing.assert_array_equal(got, want, err_msg=str(n))


#: function, length, whether remainders are taken of each element
LOOPS = {
    "interleaved": (interleaved, 100, False),
    "up to the last": (two_phases, 700, False),
    "behind the last": (two_phases, 701, True),
    "repeated": (lambda x: np.repeat(x, 2), 100, False),
    "tiled": (lambda x: np.tile(x, 3), 100, False),
}


@pytest.mark.parametrize("name", LOOPS)
def test_no_remainder_is_taken_in_a_loop_over_whole_periods(name):
    function, n, remains = LOOPS[name]
    text = "".join([k.source for k in fusec.jit(function).lower(np.ones(n)).kernels])
    assert bool(re.search("remainder|quotient", text)) == remains, text


def test_reversed_rows_are_read_as_vectors():
    (kernel,) = fusec.jit(lambda x: x + x[::-1]).lower(np.ones(100)).kernels
    assert "[i0 * -1]" in kernel.source, kernel.source


def test_a_reduction_has_no_branch_for_every_other_element():
    def program(x):
        y = x.copy()
        y[:, ::2] *= 2
        return y.sum(axis=1)

    kernels = fusec.jit(program).lower(np.ones((30, 100))).kernels
    assert len(kernels) == 2
    assert not any("if (" in k.source for k in kernels)


def test_a_reduction_over_blocks_takes_no_remainder_of_each_element():
    def program(x):
        return x.reshape(4, 10, 3, 10).transpose(0, 2, 1, 3).reshape(-1, 100).mean(1)

    x = RNG.normal(size=(40, 30))
    (kernel,) = (f := fusec.jit(program)).lower(x).kernels
    assert not re.search(r"(remainder|quotient)\((i1|e)\b", kernel.source), kernel.source
    np.testing.assert_allclose(f(x), program(x), rtol=1e-14)


def slices(n):
    step = st.sampled_from([1, 2, 3, 4, 5, 7, 8, 16, 17, 20, 50, -1, -2, -3])
    edge = st.one_of(st.none(), st.integers(-n - 2, n + 2))
    return st.builds(slice, edge, edge, step)


@st.composite
def updates(draw):
    shape = draw(st.lists(st.sampled_from([1, 2, 5, 16, 17, 33, 60]), min_size=1, max_size=3))
    steps = st.tuples(st.sampled_from("=+*"), st.tuples(*map(slices, shape)))
    return tuple(shape), draw(st.lists(steps, min_size=1, max_size=4))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(updates())
def test_any_updates_of_slices(case):
    shape, steps = case

    def program(x):
        y = x.copy()
        for k, (how, where) in enumerate(steps):
            if how == "=":
                y[where] = k
            elif how == "+":
                y[where] += x[where] * 2
            else:
                y[where] *= 3
        return y

    x = np.arange(np.prod(shape), dtype="f8").reshape(shape)
    np.testing.assert_array_equal(fusec.jit(program)(x), program(x))


@pytest.mark.parametrize("rows", [slice(2, None, 3), slice(None, 1, -49)])
@pytest.mark.parametrize("n", [8, 33, 100])
@pytest.mark.parametrize("fastmath", [False, True])
def test_rows_at_regular_places_whose_first_vector_is_cut(rows, n, fastmath):
    """The place in the row before is a division inside a branch that masks a vector's start."""

    def program(x):
        y = np.zeros_like(x)
        y[rows, 4:] += x[rows, 4:]
        return y.max(), y

    x = np.arange(500.0 * n).reshape(500, n) + 1000
    for got, expected in zip(fusec.jit(program, fastmath=fastmath)(x), program(x)):
        np.testing.assert_array_equal(got, expected)
