"""Lecture 1: a computation is a graph, and its gradients are more of it.

``x * y + z``, summed, has the gradients ``y``, ``x`` and 1. They come out of one program together
with the value, on the CPU, and on a GPU where there is one. The graph is drawn as Graphviz' DOT.
The sum goes down along the gradient in ``x`` by ``rate * (y * y).sum()`` a step.
"""

import numpy as np

import fusec


@fusec.jit
def f(x, y, z):
    return (x * y + z).sum()


def main(steps: int = 10, rate: float = 0.1) -> list[float]:
    x, y, z = np.random.default_rng(0).standard_normal((3, 3, 4))
    for device in ("cpu", "cuda") if fusec.devices() else ("cpu",):
        at = [fusec.to_device(a, device) for a in (x, y, z)]
        value, grads = fusec.value_and_grad(f, (0, 1, 2))(*at)
        np.testing.assert_allclose(float(value), (x * y + z).sum())
        for found, by_hand in zip(grads, (y, x, np.ones_like(z))):
            np.testing.assert_allclose(np.asarray(found), by_hand)
    print(f.trace(x, y, z).dot())
    losses = []
    for _ in range(steps):
        losses.append(float(f(x, y, z)))
        x -= rate * fusec.grad(f)(x, y, z)
    np.testing.assert_allclose(losses[-1], losses[0] - (steps - 1) * rate * (y * y).sum())
    print(f"{losses[0]:.3f} before, {losses[-1]:.3f} after {steps - 1} steps")
    return losses


if __name__ == "__main__":
    main()
