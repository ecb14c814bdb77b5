"""Loops of Python under ``grad``: the way back is a loop as the way there is."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

import fusec
from fusec.ir.graph import evaluate

RNG = np.random.default_rng(11)


def uniform(*shape):
    return RNG.random(shape) - 0.5


def heston(z):
    v, s = np.full(z.shape[1], 0.04), np.ones(z.shape[1])
    for t in range(len(z)):
        w = np.maximum(v, 1e-6)
        s = s * np.exp(-0.05 * w + np.sqrt(w * 0.1) * z[t])
        v = v + 0.2 * (0.04 - w) + 0.3 * np.sqrt(w * 0.1) * z[t]
    return np.maximum(s - 1, 0).mean()


def columns(x):
    s, cost = np.zeros(len(x)), 0.0
    for t in range(x.shape[1]):
        s = np.tanh(0.9 * s + x[:, t])
        cost = cost + (s * s).mean()
    return cost


def two_ago(x):
    e = x[0] * x[1]
    for t in range(2, len(x)):
        e = e + np.log(1 + (x[t] - 0.5 * x[t - 1] - 0.1 * x[t - 2]) ** 2)
    return e


def garch(p, returns):
    v, cost = 0.3, 0.0
    for t in range(len(returns)):
        cost = cost + np.log(v) + returns[t] ** 2 / v
        v = p[0] + p[1] * returns[t] ** 2 + p[2] * v
    return cost


def windows(x):
    s = np.zeros(8)
    for t in range(len(x) - 8):
        s = np.tanh(0.9 * s + x[t : t + 8])
    return (s * s).sum()


def recurrent(x, into, again):
    h = np.zeros((x.shape[1], 4))
    for t in range(len(x)):
        h = np.tanh(x[t] @ into + h @ again)
    return (h * h).sum()


def stacked(x, into, again):
    h, rows = np.zeros((x.shape[1], 4)), []
    for t in range(len(x)):
        h = np.tanh(x[t] @ into + h @ again)
        rows.append(h)
    return (np.stack(rows) ** 2).mean()


def heat(u):
    u = u.copy()
    for _ in range(100):
        u[1:-1] = u[1:-1] + 0.1 * (u[2:] - 2 * u[1:-1] + u[:-2])
    return (u * u).sum()


def runge_kutta(y):
    x, v, h = y, y * 0.5, 0.05

    def slope(x, v):
        return v, -x - 0.3 * v * x * x

    for _ in range(100):
        a = slope(x, v)
        b = slope(x + h * a[0], v + h * a[1])
        x, v = x + h / 2 * (a[0] + b[0]), v + h / 2 * (a[1] + b[1])
    return (x * x + v * v).mean()


LOOPS = [  # function, arguments, loops, nodes at most
    (heston, [uniform(100, 60)], 2, 150),
    (columns, [uniform(50, 100)], 2, 300),
    (two_ago, [uniform(300)], 2, 60),
    (garch, [np.array([0.1, 0.1, 0.8]), uniform(300)], 2, 120),
    (windows, [uniform(200)], 2, 60),
    (recurrent, [uniform(150, 3, 5), uniform(5, 4), uniform(4, 4)], 3, 60),
    (stacked, [uniform(150, 3, 5), uniform(5, 4), uniform(4, 4)], 2, 60),
    (heat, [uniform(64)], 2, 60),
    (runge_kutta, [uniform(20)], 2, 200),
]


@pytest.mark.parametrize("fn, args, loops, most", LOOPS, ids=[row[0].__name__ for row in LOOPS])
def test_the_way_back_is_a_loop(fn, args, loops, most):
    low = fusec.grad(fn).lower(*args)
    nodes = low.graph.nodes()
    assert sum(n.op.name in ("loop", "recurrence") for n in nodes) == loops
    assert len(nodes) <= most
    x, *others = args
    g, way = fusec.grad(fn)(*args), uniform(*x.shape)
    (single,) = evaluate(low.traced.graph, args)
    assert_allclose(g, single, 1e-9, 1e-12)
    moved = (fn(x + 1e-6 * way, *others) - fn(x - 1e-6 * way, *others)) / 2e-6
    assert_allclose((g * way).sum(), moved, 1e-5, 1e-7)


def parts(x):
    return np.tanh(x[2]) @ x[0] + (x[1:3] ** 3).sum() + (x[2] * x[3]).sum() + (x**2).sum()


def strided(x):
    return (x[::2] * x[1::2]).sum() + (x[::-1][0] ** 2).sum() + (x[:, 1:3] ** 3).sum()


def corners(x):
    return x[0, 1] * x[1, 0] + x[0, 1] ** 2 * x[3, 4] + (x[1] * x[:, 2].sum()).sum()


def gaps(x):
    return (x[1] * x[4]).sum() + (x[4] ** 2).sum()


def read_whole_first(x):
    total = 0.0
    for t in range(len(x)):
        total = total + (x * x[t]).sum() + x[t : t + 2].sum() ** 2
    return total


@pytest.mark.parametrize("fn", [parts, strided, corners, gaps, read_whole_first])
@pytest.mark.parametrize("dtype", ["f8", "c16"])
def test_parts_of_an_array(fn, dtype):
    x = uniform(6, 5).astype(dtype)
    if dtype == "c16":
        x = x + 1j * uniform(6, 5)
        fusec.check_grads(lambda x: np.real(fn(x)), (x,), order=2)
    else:
        fusec.check_grads(fn, (x,), order=2)


def test_parts_that_lie_apart_are_put_together():
    def halves(x):
        return (np.sin(x[:3]) * 2).sum() + (x[3:] ** 2).sum()

    ops = [n.op.name for n in fusec.grad(halves).trace(uniform(6)).graph.nodes()]
    assert "concatenate" in ops and "slice_update" not in ops


def test_many_parts_that_calls_compute():
    def loss(x, w):
        s = np.zeros((x.shape[1], w.shape[1]))
        for t in range(len(x)):
            s = s + x[t] @ w
        return (s * s).sum()

    x, w = uniform(110, 8, 5), uniform(5, 4)
    low = fusec.grad(loss).lower(x, w)
    assert 0 < len(low.kernels) <= 4
    assert_allclose(fusec.grad(loss)(x, w), np.broadcast_to(2 * (x.sum(0) @ w) @ w.T, x.shape))
