"""Lecture 4: a softmax classifier, 784 to 100 ReLU to 10, on handwritten digits.

The digits come with scikit-learn, 1,797 images of 8 by 8 pixels. To have MNIST's 784 features each
pixel becomes 3 by 3, with a margin of 2 pixels around the image: 28 by 28. 297 of them, drawn
at random, are for the test. Cross-entropy, its gradients and the update are one program.
"""

from importlib.util import find_spec

import numpy as np

import fusec


def digits():
    if find_spec("sklearn") is None:
        raise SystemExit("the digits come with scikit-learn: pip install scikit-learn")
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    large = np.kron(images.reshape(-1, 8, 8) / 16, np.ones((1, 3, 3)))
    x = np.pad(large, ((0, 0), (2, 2), (2, 2))).reshape(-1, 784).astype("f4")
    order = np.random.default_rng(0).permutation(len(x))
    return x[order], labels[order]


def logits(w, x):
    return np.maximum(x @ w["hidden"] + w["b"], 0) @ w["out"]


def loss(w, x, labels):
    z = logits(w, x)
    z = z - z.max(axis=1, keepdims=True)
    return (np.log(np.exp(z).sum(axis=1)) - z[np.arange(len(labels)), labels]).mean()


@fusec.jit
def step(w, x, labels, rate):
    value, grads = fusec.value_and_grad(loss)(w, x, labels)
    return {name: w[name] - rate * grads[name] for name in w}, value


def main(epochs: int = 10, batch: int = 50, rate: float = 0.4) -> list[float]:
    x, labels = digits()
    rng, f4 = np.random.default_rng(0), np.float32
    w = {"hidden": (rng.standard_normal((784, 100)) / 28).astype(f4), "b": np.zeros(100, f4),
         "out": (rng.standard_normal((100, 10)) / 10).astype(f4)}  # fmt: skip
    losses = []
    for _ in range(epochs):
        losses.append(0.0)
        for chosen in rng.permutation(1500).reshape(-1, batch):
            w, value = step(w, x[chosen], labels[chosen], rate)
            losses[-1] += float(value) * batch / 1500
    accuracy = (logits(w, x[1500:]).argmax(axis=1) == labels[1500:]).mean()
    print(f"loss {losses[0]:.3f} -> {losses[-1]:.3f}, test accuracy {accuracy:.1%}")
    assert accuracy > 0.95 and losses[-1] < 0.05
    return losses


if __name__ == "__main__":
    main()
