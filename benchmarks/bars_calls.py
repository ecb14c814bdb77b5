"""Bars that are measured in this process: overhead, lengths, and the speed of three kernels."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import kernels
from benchmarks import harness, peers
from benchmarks.bar import Bar, rounds

#: JAX's time over NumPy's, from the project's measurements, where JAX is not installed.
JAX_OVER_NUMPY = {"softmax": 1.8 / 7.3, "layer_norm": None}
NEW_LENGTHS = range(1000, 1050)


def overhead() -> Iterator[Bar]:
    """A call on arrays of 8 elements, in microseconds."""
    import fusec

    a, b, c, d = (np.arange(8.0) + i for i in range(4))
    rows: tuple[tuple[float, Callable[..., Any], tuple[Any, ...]], ...] = (
        (1.5, lambda a: a * 2 + 1, (a,)),
        (2.0, lambda a, b: a * 2 + b, (a, b)),
        (3.0, lambda a, b, c, d: a * b + c * d, (a, b, c, d)),
    )
    for limit, fn, args in rows:
        compiled = fusec.jit(fn)
        calls = {"fusec": lambda f=compiled, a=args: f(*a), "NumPy": lambda f=fn, a=args: f(*a)}
        times = harness.alternate(calls, budget=2, least=15, most=50)
        empty = harness.alternate({"": lambda a=args: None}, budget=0.1)[""].best
        ours = times["fusec"]
        yield Bar(
            f"call overhead, 8 elements, {len(args)} array{'s' * (len(args) > 1)}",
            (ours.best - empty) * 1e6, limit, "us", ours.spread,
            f"NumPy {(times['NumPy'].best - empty) * 1e6:.2f} us",
        )  # fmt: skip


def lengths() -> Iterator[Bar]:
    """Fifty lengths of one function: kernels compiled, and time for each new length."""
    import fusec
    from fusec.runtime.cache import cache

    f = fusec.jit(lambda x, y: np.exp(-x * x) * y + np.tanh(y) / (1 + np.abs(x)))
    before = cache.stats()["compiled"]
    f(np.ones(500), np.ones(500))
    seconds = []
    for n in NEW_LENGTHS:
        x = np.ones(n)
        start = time.perf_counter()
        f(x, x)
        seconds.append((time.perf_counter() - start) * 1e3)
    compiled = cache.stats()["compiled"] - before
    middle, spread = rounds(seconds)
    yield Bar("50 lengths: kernels compiled", compiled, 1)
    yield Bar("50 lengths: each new length", middle, 3.0, "ms", spread,
              f"longest {max(seconds):.2f} ms")  # fmt: skip


def gelu() -> Iterator[Bar]:
    """gelu of 4 M float32, beside NumPy and whoever is installed."""
    import fusec

    kernel = kernels.get("gelu")
    (x,) = kernel.args("L", "f4")
    compiled = fusec.jit(kernel.function)
    calls = {"NumPy": lambda: kernel.function(x), "fusec": lambda: compiled(x)}
    calls |= peers.calls(kernel.function, (x,))
    times = harness.alternate(calls, budget=6, least=9, most=40)
    yield Bar("gelu, 4 M float32", times["fusec"].median * 1e3, 2.5, "ms",
              times["fusec"].spread, _beside(times, "fusec"))  # fmt: skip
    yield Bar("gelu, NumPy's time over fusec's", times["NumPy"].median / times["fusec"].median,
              None, "x", times["NumPy"].spread)  # fmt: skip


def row_programs() -> Iterator[Bar]:
    """Softmax and layer norm, 4096 x 1024 float32: one kernel each, and time against JAX."""
    import fusec

    for name in ("softmax", "layer_norm"):
        kernel = kernels.get(name)
        args = kernel.args("L", "f4")
        compiled = fusec.jit(kernel.function)
        count = len(compiled.lower(*args).kernels)
        yield Bar(f"{name}, 4096 x 1024 float32: kernels", count, 1)
        yield _row_program(name, kernel.function, compiled, args)


def _row_program(
    name: str, fn: Callable[..., Any], compiled: Callable[..., Any], args: tuple[Any, ...]
) -> Bar:
    calls = {"NumPy": lambda: fn(*args), "fusec": lambda: compiled(*args)}
    calls |= peers.calls(fn, args)
    times = harness.alternate(calls, budget=6, least=9, most=40)
    ours = times["fusec"]
    if "JAX" in times:
        figure, limit, unit = ours.median / times["JAX"].median, 1.2, "x JAX"
    elif ratio := JAX_OVER_NUMPY[name]:
        figure, limit, unit = ours.median / times["NumPy"].median, 1.2 * ratio, "x NumPy"
    else:
        figure, limit, unit = ours.median / times["NumPy"].median, None, "x NumPy"
    beside = f"fusec {ours.median * 1e3:.2f} ms, {_beside(times, 'fusec')}"
    return Bar(f"{name}: time", figure, limit, unit, ours.spread, beside)


def _beside(times: dict[str, harness.Timing], but: str) -> str:
    return ", ".join(f"{n} {t.median * 1e3:.2f} ms" for n, t in times.items() if n != but)
