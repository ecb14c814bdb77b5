"""A training step of the two-layer net under fusec, JAX and torch, side by side.

    python -m benchmarks.training

float32, D=1000 inputs and outputs, H=100, a batch of 64 or 1024; forward, backward and update of
both weights. Every way first has to give the same loss and weights. Then all are timed in turns in
one process. fusec gets NumPy's arrays and, as ``Tape``, ``fusec.Array``s on the CPU; the others
get arrays of their own. torch runs eagerly and, where it can compile here, compiled.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np

import fusec
from benchmarks.harness import Timing, alternate, print_table, require_rich
from kernels.lectures.two_layer_net import RATE, D, H, step, taped

Way = Callable[[], Any]  # gives both weights and the loss
SIZES = (64, 1024)


def data(n: int) -> list[np.ndarray]:
    """Both weights, the inputs and what is wanted."""
    rng = np.random.default_rng(0)
    shapes = {(D, H): 1.0, (H, D): H**-0.5, (n, D): D**-0.5}
    w1, w2, x = [(rng.standard_normal(s) * k).astype("f4") for s, k in shapes.items()]
    return [w1, w2, x, rng.standard_normal((n, D)).astype("f4")]


def with_fusec(arrays: list[np.ndarray]) -> dict[str, Way]:
    compiled = fusec.jit(step)
    ours = [fusec.to_device(a, "cpu") for a in arrays]

    def tape() -> Any:
        *w, loss = taped(*ours)
        return [np.asarray(a) for a in (*w, loss)]

    return {"fusec": lambda: compiled(*arrays), "fusec, Tape": tape}


def with_jax(arrays: list[np.ndarray]) -> dict[str, Way]:
    import jax
    import jax.numpy as jnp

    def loss(w1: Any, w2: Any, x: Any, y: Any) -> Any:
        return ((jnp.maximum(x @ w1, 0) @ w2 - y) ** 2).sum(axis=1).mean()

    @jax.jit
    def update(w1: Any, w2: Any, x: Any, y: Any) -> Any:
        value, (g1, g2) = jax.value_and_grad(loss, (0, 1))(w1, w2, x, y)
        return w1 - RATE * g1, w2 - RATE * g2, value

    theirs = [jnp.asarray(a) for a in arrays]
    return {"JAX": lambda: jax.block_until_ready(update(*theirs))}


def with_torch(arrays: list[np.ndarray]) -> dict[str, Way]:
    import torch

    theirs = [torch.from_numpy(a.copy()) for a in arrays]
    weights = [w.requires_grad_() for w in theirs[:2]]
    rate = float(RATE)

    def loss(w1: Any, w2: Any, x: Any, y: Any) -> Any:
        return ((torch.relu(x @ w1) @ w2 - y) ** 2).sum(dim=1).mean()

    def update(forward: Any) -> Any:
        value = forward(*theirs)
        grads = torch.autograd.grad(value, weights)
        with torch.no_grad():
            return [w - rate * g for w, g in zip(weights, grads)] + [value.detach()]

    compiled = torch.compile(loss)
    return {"torch": lambda: update(loss), "torch.compile": lambda: update(compiled)}


def works(name: str, way: Way, wanted: list[np.ndarray]) -> bool:
    """Whether a way runs here; one that gives another result ends the benchmark."""
    try:
        found = way()
    except Exception as error:  # no C++ compiler for torch.compile, for example
        print(f"{name} does not run here: {type(error).__name__}")
        return False
    for a, b in zip(found, wanted):
        np.testing.assert_allclose(np.asarray(a), b, rtol=1e-3, atol=1e-4, err_msg=name)
    return True


def measure(n: int, budget: float) -> list[list[str]]:
    """One row for each way: name, milliseconds (median, best), spread, and its time by fusec's."""
    arrays = data(n)
    ways = with_fusec(arrays)
    for module, make in (("jax", with_jax), ("torch", with_torch)):
        if find_spec(module) is not None:
            ways |= make(arrays)
    wanted = [np.asarray(a) for a in step_in_numpy(*[a.astype("f8") for a in arrays])]
    times = alternate({k: w for k, w in ways.items() if works(k, w, wanted)}, budget)
    ours = times["fusec"].median
    return [
        [name, *_figures(t), f"{t.median / ours:.2f}"]
        for name, t in times.items()
    ]


def _figures(t: Timing) -> list[str]:
    return [f"{t.median * 1e3:.3f}", f"{t.best * 1e3:.3f}", f"{t.spread:.0%}"]


def step_in_numpy(w1: Any, w2: Any, x: Any, y: Any) -> tuple[Any, Any, Any]:
    """The step by hand, in float64."""
    h = np.maximum(x @ w1, 0)
    difference = h @ w2 - y
    g = 2 / len(x) * difference
    g1 = x.T @ np.where(h > 0, g @ w2.T, 0)
    rate = float(RATE)
    return w1 - rate * g1, w2 - rate * (h.T @ g), (difference**2).sum(axis=1).mean()


def main(budget: float = 10.0) -> None:
    """Measure and print a table for each batch."""
    require_rich()
    for n in SIZES:
        rows = measure(n, budget)
        print_table(f"one training step, N={n}", ("", "ms", "best", "spread", "by fusec's"), rows)


if __name__ == "__main__":
    main()
