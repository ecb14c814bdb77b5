"""Changed arguments that a kernel with several loops writes where they lie."""

import numpy as np
import pytest

import fusec


def old_times_sum(x, y):
    r = x * y.sum(axis=1, keepdims=True)
    x += 1
    return r


def old_times_sum_of_columns(x, y):
    r = x * y.sum(axis=0)
    x += y
    return r


def old_over_variance(x, y):
    old = x.copy()
    x *= y
    return old / y.var(axis=1, keepdims=True)


def old_and_running_sum(x, y):
    c = np.cumsum(y, axis=1)
    r = x - c
    x *= 2
    return r, c.sum(axis=1, keepdims=True) + x


def scaled(x, y):
    x *= y.sum(axis=1, keepdims=True)
    y += 1


def clipped_momentum(x, y):
    scale = 1 / np.sqrt((y * y).sum(axis=1, keepdims=True))
    x *= 0.9
    x += scale * y
    y -= 0.1 * x


FUNCTIONS = [
    old_times_sum, old_times_sum_of_columns, old_over_variance, old_and_running_sum, scaled,
    clipped_momentum,
]  # fmt: skip


@pytest.mark.parametrize("shape", [(3, 5), (7, 300), (40, 33)])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_old_values_are_read_before_new_ones_are_written(function, shape):
    rng = np.random.default_rng(0)
    mine = [rng.normal(size=shape) for _ in range(2)]
    plain = [a.copy() for a in mine]
    got, want = fusec.jit(function)(*mine), function(*plain)
    for a, b in zip(mine, plain):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)
    for a, b in zip(*[r if isinstance(r, tuple) else (r,) for r in (got, want)]):
        if b is not None:
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


def test_values_that_the_last_loop_alone_reads_are_written_in_place():
    x, y = np.ones((8, 100)), np.ones((8, 100))
    shown = str(fusec.jit(clipped_momentum).lower(x, y))
    assert "out   x: f8[8,100]" in shown
    assert "out   y: f8[8,100]" in shown
    assert "out   x" not in str(fusec.jit(old_times_sum).lower(x, y))


STATE = np.arange(4.0)


def test_an_array_from_outside_that_has_become_read_only_is_not_written():
    def step(by):
        STATE[...] = STATE + by

    compiled = fusec.jit(step)
    compiled(1.0)
    STATE.flags.writeable = False
    try:
        with pytest.raises(ValueError, match="read-only"):
            compiled(1.0)
    finally:
        STATE.flags.writeable = True
    compiled(1.0)
    assert np.array_equal(STATE, [2.0, 3.0, 4.0, 5.0])


def computed_reduction(a, b):
    d = a @ b - 1
    return (d * d).sum(), d @ b


def read_later(a, b):
    p = a @ b
    return np.tanh(p) @ b + p


def reduced_before(a, b):
    p = a @ b
    return p.sum(axis=1), (p - 1) @ b


def read_turned(a, b):
    p = a @ b
    return (p + p.T) @ b


def read_twice(a, b):
    p = a @ b
    return p / p.sum(axis=1, keepdims=True) @ b


def read_by_a_call(a, b):
    p = a @ b
    return np.sort(p, axis=0), np.exp(p) @ b


def read_as_a_part(a, b):
    p = np.cumsum(a, axis=1)
    c = np.concatenate([p, p + 1])
    d = np.exp(c)
    return c @ b, d @ b, p * (d @ b).sum()


def read_as_a_part_elsewhere(a, b):
    p = np.cumsum(a, axis=1)
    c = np.concatenate([p, p + 1])
    d = np.exp(c) + np.concatenate([p[::-1], p])
    return c @ b, d @ b


@pytest.mark.parametrize(
    ("f", "over"),
    [
        (read_as_a_part, 0),
        (read_as_a_part_elsewhere, 0),
        (lambda a, b: np.tanh(a @ b) @ b, 1),
        (lambda a, b: np.maximum(np.tanh(a @ b) @ b, 0) @ b, 2),
        (computed_reduction, 1),
        (read_later, 0),
        (reduced_before, 1),  # by a kernel of its own
        (read_turned, 0),
        (read_twice, 0),
        (read_by_a_call, 0),
    ],
)
@pytest.mark.parametrize("n", [5, 150])
def test_temporaries_that_nothing_reads_again_are_written_over(f, over, n):
    rng = np.random.default_rng(n)
    a, b = rng.normal(size=(2, n, n)) / n
    for got, want in zip(fusec.jit(f)(a, b), f(a, b)):
        np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-12)
    assert len(fusec.jit(f).lower(a, b).program.over) == over


def one_hot(y, k, v):
    z = np.zeros((k.size, 7))
    z[np.arange(k.size), k % 7] = v
    return z


def assigned(y, k, v):
    y[k] = v
    return y * 2


def masked_rows(y, k, v):
    z = np.zeros((9, 4, 5), bool)
    z[:, k % 4, 1:3] = (v > 0)[:, None]
    return z


def swapped_rows(y, k, v):
    x = np.outer(y, v[:3])
    x[k[0]], x[k[1]] = x[k[1]].copy(), x[k[0]].copy()
    x[y.argmax()] *= 2
    return x


@pytest.mark.parametrize("dtype", ["f4", "f8", "i8", "u1"])
@pytest.mark.parametrize("program", [one_hot, assigned, masked_rows, swapped_rows])
def test_fancy_assignments_are_kernels(program, dtype):
    f = fusec.jit(program)
    for n in (3, 40, 700):
        k = np.arange(n) * 7919 % 33 - 16  # many equal places: the last one wins
        y, v = np.arange(33).astype(dtype), np.sin(np.arange(n))
        mine, numpys = y.copy(), y.copy()
        got, want = f(mine, k, v), program(numpys, k, v)
        assert got.dtype == want.dtype
        np.testing.assert_array_equal(got, want)
        np.testing.assert_array_equal(mine, numpys)
        assert "call " not in str(f.lower(y.copy(), k, v))


def test_a_place_outside_raises():
    y, f = np.zeros(5), fusec.jit(assigned)
    with pytest.raises(IndexError, match="index 7 is out of bounds for axis 0 with size 5"):
        f(y, np.array([1, 7, 2]), np.ones(3))
