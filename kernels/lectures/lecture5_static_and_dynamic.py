"""Lecture 5: static against dynamic graphs.

A framework may build the graph anew at every step, or once. The training step of lecture 2 is
traced on every call, recorded on every call by a ``Tape`` (which finds its compiled program by what
was recorded), and compiled once. The table shows what each costs; the losses are the same.
"""

import time
from importlib.util import find_spec

import numpy as np

import fusec
from kernels.lectures.two_layer_net import step, taped, train


def traced(*args):
    return fusec.jit(lambda *again: step(*again))(*args)


def main(steps: int = 25) -> list[float]:
    if find_spec("rich") is None:
        raise SystemExit("the table is printed by rich: pip install rich")
    from rich import print as show
    from rich.table import Table

    table = Table("the graph is", "ms a step", "loss")
    ways = {"traced on every call": traced, "recorded on every call": taped}
    wanted: list[float] = []
    for name, update in {**ways, "compiled once": fusec.jit(step)}.items():
        train(update, 1, "cpu")  # compiles
        start = time.perf_counter()
        losses = train(update, steps, "cpu")
        took = (time.perf_counter() - start) / steps
        table.add_row(name, f"{took * 1e3:.2f}", f"{losses[0]:.2f} -> {losses[-1]:.2f}")
        wanted = wanted or losses
        np.testing.assert_allclose(losses, wanted, rtol=1e-3)
    assert losses[-1] < losses[0] / 2
    show(table)
    return losses


if __name__ == "__main__":
    main()
