"""Lecture 2: a two-layer net (N=64, D=1000, H=100) trained five ways with the same losses.

By hand, as one does in NumPy; ``value_and_grad`` in one compiled step, whose weights stay on the
device and are donated; the ``Tape`` of PyTorch and TensorFlow 2; a ReLU whose backward pass is
one's own; and the static graph of TensorFlow 1, built once from placeholders and fed many times.
"""

import numpy as np

import fusec
from kernels.lectures.two_layer_net import RATE, SHAPES, loss, relu, step, taped, train


def by_hand(w1, w2, x, y):
    h = relu(x @ w1)
    g = 2 / np.float32(len(x)) * (h @ w2 - y)
    g1 = x.T @ np.where(h > 0, g @ w2.T, 0)
    return w1 - RATE * g1, w2 - RATE * (h.T @ g), loss(w1, w2, x, y)


my_relu = fusec.custom_vjp(relu)
my_relu.defvjp(lambda h: (relu(h), h > 0), lambda positive, g: (np.where(positive, g, 0),))


def main(steps: int = 60) -> list[float]:
    device = "cuda" if fusec.devices() else "cpu"
    placeholders = [fusec.ShapeDtype(s, "f4") for s in SHAPES]
    ways = {
        "by hand": (by_hand, steps),
        "compiled, weights donated": (fusec.jit(step, donate_argnums=(0, 1)), steps, device),
        "Tape": (taped, steps, device),
        "a ReLU of one's own": (fusec.jit(lambda *args: step(*args, my_relu)), steps),
        "static graph": (fusec.jit(step).lower(*placeholders).compile(), steps),
    }
    losses = {name: train(*way) for name, way in ways.items()}
    for name, found in losses.items():
        np.testing.assert_allclose(found, losses["by hand"], rtol=1e-3)
        print(f"{name:26}{found[0]:10.3f} -> {found[-1]:.3f}")
    assert found[-1] < found[0] / 8
    return found


if __name__ == "__main__":
    main()
