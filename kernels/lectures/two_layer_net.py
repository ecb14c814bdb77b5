"""The net of lectures 2 and 5: two layers, a ReLU, the squared error, random data."""

import numpy as np

import fusec

N, D, H, RATE = 64, 1000, 100, np.float32(0.03)
SHAPES = (D, H), (H, D), (N, D), (N, D)  #: of both layers' weights, the data, and what is wanted


def relu(h):
    return np.maximum(h, 0)


def loss(w1, w2, x, y, relu=relu):
    return ((relu(x @ w1) @ w2 - y) ** 2).sum(axis=1).mean()


def step(w1, w2, x, y, relu=relu):
    value, (g1, g2) = fusec.value_and_grad(loss, (0, 1))(w1, w2, x, y, relu)
    return w1 - RATE * g1, w2 - RATE * g2, value


def taped(w1, w2, x, y):
    with fusec.Tape() as tape:
        value = loss(w1, w2, x, y)
    g1, g2 = tape.gradient(value, [w1, w2])
    return w1 - RATE * g1, w2 - RATE * g2, value


def train(update, steps, device=None):
    """The losses of ``steps`` updates, always from the same weights."""
    rng, scales, losses = np.random.default_rng(0), (1, H**-0.5, D**-0.5, 1), []
    data = [(rng.standard_normal(s) * k).astype("f4") for s, k in zip(SHAPES, scales)]
    *w, x, y = [fusec.to_device(a, device) for a in data] if device else data
    for _ in range(steps):
        *w, value = update(*w, x, y)
        losses.append(float(value))
    return losses
