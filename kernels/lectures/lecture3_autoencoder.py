"""Lecture 3: an autoencoder whose updates are inside the program.

The step function captures its weights and changes them in place. In a graph framework the
assignments are results of their own, and a program that fetches only the loss trains nothing: the
weights stay what they were and nobody says so. Here a function is compiled with all its effects, so
the loss alone is fetched, or not even that, and the weights have moved all the same.
"""

import numpy as np

import fusec

N, D, H = 64, 100, 20


def loss(encoder, decoder, x):
    return ((np.maximum(x @ encoder, 0) @ decoder - x) ** 2).sum(axis=1).mean()


def main(steps: int = 200, rate: float = 0.2) -> list[float]:
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((N, 5)) @ rng.standard_normal((5, D)) / D**0.5).astype("f4")
    encoder = (rng.standard_normal((D, H)) / D**0.5).astype("f4")
    decoder = (rng.standard_normal((H, D)) / H**0.5).astype("f4")

    @fusec.jit
    def step(x):
        value, (g1, g2) = fusec.value_and_grad(loss, (0, 1))(encoder, decoder, x)
        encoder[...] -= rate * g1
        decoder[...] -= rate * g2
        return value

    before = encoder.copy()
    losses = [float(step(x))]  # nothing but the loss is fetched
    assert not np.array_equal(encoder, before)
    step(x)  # nothing is fetched at all
    losses += [float(step(x)) for _ in range(steps - 2)]
    np.testing.assert_array_less(losses[1], losses[0])
    assert losses[-1] < 0.05 * losses[0]
    print(f"{losses[0]:.3f} -> {losses[-1]:.3f} after {steps} steps")
    return losses


if __name__ == "__main__":
    main()
