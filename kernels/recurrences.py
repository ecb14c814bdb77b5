"""Loops over many steps: a thousand copies of one step in the trace, one loop in the program."""

import numpy as np

from kernels.registry import kernel, normal, scalar, uniform

CELLS = {"S": (4, 4), "M": (40, 40), "L": (250, 250)}
SIGNALS = {"S": (256, 4), "M": (256, 400), "L": (256, 15_625)}
SEQUENCES = {"S": (256, 1, 4), "M": (256, 8, 48), "L": (256, 128, 122)}
WEIGHTS = {"S": (4, 4), "M": (48, 48), "L": (122, 122)}
POINTS = {"S": (5, 2), "M": (50, 10), "L": (500, 40)}
LABELS = {"S": (5,), "M": (50,), "L": (500,)}


@kernel(
    name="heat_equation",
    family="recurrences",
    bound="arithmetic",
    inputs={"u": normal(CELLS), "rate": scalar(0.1)},
    bytes=lambda u, rate: 2 * u.nbytes,
    flops=lambda u, rate: 64 * 7 * u.size,
    teaches="64 time steps are one kernel, run again and again over two arrays",
)
def heat_equation(u, rate):
    for _ in range(64):
        near = np.roll(u, 1, 0) + np.roll(u, -1, 0) + np.roll(u, 1, 1) + np.roll(u, -1, 1)
        u = u + rate * (near - 4 * u)
    return u


@kernel(
    name="low_pass",
    family="recurrences",
    bound="memory",
    inputs={"x": normal(SIGNALS), "alpha": scalar(0.2)},
    bytes=lambda x, alpha: 2 * x.nbytes,
    flops=lambda x, alpha: 3 * x.size,
    teaches="each round reads a row of one array and computes a row of another where it lies",
)
def low_pass(x, alpha):
    y = x[0]
    rows = [y]
    for t in range(1, len(x)):
        y = y + alpha * (x[t] - y)
        rows.append(y)
    return np.stack(rows)


@kernel(
    name="recurrent_network",
    family="recurrences",
    bound="blas",
    inputs={"x": normal(SEQUENCES), "w": normal(WEIGHTS, 0.1), "u": normal(WEIGHTS, 0.1)},
    bytes=lambda x, w, u: x.nbytes + w.nbytes + u.nbytes,
    flops=lambda x, w, u: 4 * x.size * len(w) + 2 * x.size,
    teaches="products and an activation for each step of a sequence, without Python in between",
)
def recurrent_network(x, w, u):
    h = np.zeros_like(x[0])
    for t in range(len(x)):
        h = np.tanh(x[t] @ w + h @ u)
    return h


@kernel(
    name="logistic_regression",
    family="recurrences",
    bound="blas",
    inputs={"x": normal(POINTS), "y": uniform(LABELS, 0.0, 1.0), "rate": scalar(0.1)},
    bytes=lambda x, y, rate: x.nbytes + y.nbytes,
    flops=lambda x, y, rate: 200 * (4 * x.size + 5 * y.size),
    teaches="two hundred steps of gradient descent: the weights stay where they are",
)
def logistic_regression(x, y, rate):
    w = np.zeros_like(x[0])
    for _ in range(200):
        p = 1 / (1 + np.exp(-(x @ w)))
        w = w - rate / len(y) * (x.T @ (p - y))
    return w
