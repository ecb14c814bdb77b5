"""`python -m benchmarks.device`: what a GPU reaches, as a part of what its own memory reaches.

Every row is checked against NumPy on small arrays, then timed on large ones: calls are queued until
`SECONDS` have gone by and waited for once. The copy that the others are compared with is a copy
within the device's memory, timed in the same run. torch takes part where it is installed.
`--device null` runs all of it with nothing behind it, to see that it would run.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

import fusec
from benchmarks import harness
from benchmarks.bar import HEADERS, Bar, rounds
from fusec.runtime.array import overwrite

SECONDS, ROUNDS = 0.2, 7
SMALL = (1 << 15,)  # elements: a sum of them takes two kernels
LINE, ROWS, SQUARE, PRODUCT = (64 << 20,), (32_768, 4096), (16_384, 16_384), (8192, 8192)


def chain(x: Any, y: Any) -> Any:
    """An elementwise chain."""
    return np.tanh(x * y + 1) * 0.5 + np.sqrt(np.abs(x))


def softmax(x: Any) -> Any:
    """Softmax of rows."""
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def layer_norm(x: Any) -> Any:
    """Layer norm of rows."""
    centred = x - x.mean(axis=-1, keepdims=True)
    return centred / np.sqrt((centred * centred).mean(axis=-1, keepdims=True) + 1e-5)


def small_kernels(x: Any) -> Any:
    """Ten kernels or so that have to wait for each other."""
    for _ in range(5):
        x = x - x.mean()
    return x


@dataclass(frozen=True)
class Row:
    """A function with the shapes of its float32 arguments and the part of a copy it must reach.

    moved: least bytes, as multiples of an argument's.
    """

    name: str
    function: Callable[..., Any]
    shape: tuple[int, ...]
    arguments: int
    moved: float
    part: float


TABLE = (
    Row("elementwise chain, 64 M", chain, LINE, 2, 3, 0.90),
    Row("softmax, 32768 x 4096", softmax, ROWS, 1, 2, 0.85),
    Row("layer norm, 32768 x 4096", layer_norm, ROWS, 1, 2, 0.85),
    Row("sum of 256 M", lambda x: x.sum(), (256 << 20,), 1, 1, 0.85),
    Row("column sum, 16384 x 16384", lambda x: x.sum(axis=0), SQUARE, 1, 1, 0.85),
    Row("transpose, 16384 x 16384", lambda x: np.ascontiguousarray(x.T), SQUARE, 1, 2, 0.75),
)


def timed(call: Callable[[], Any], device: str) -> tuple[float, float]:
    """Seconds of a call, when many are queued, and their spread."""
    call()
    fusec.synchronize(device)
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < SECONDS / 4 and count < 10_000:
        call()
        count += 1
        fusec.synchronize(device)
    found = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for _ in range(count):
            call()
        fusec.synchronize(device)
        found.append((time.perf_counter() - start) / count)
    return rounds(found)


def checked(function: Callable[..., Any], shape: tuple[int, ...], count: int, device: str) -> Any:
    """The compiled function, after its result on a small array was compared with NumPy's."""
    compiled = fusec.jit(function)
    if device.partition(":")[0] == "null":
        return compiled
    small = tuple([min(n, 300) for n in shape])
    rng = np.random.default_rng(0)
    args = [rng.standard_normal(small, dtype="f4") for _ in range(count)]
    got = np.asarray(compiled(*[fusec.to_device(a, device) for a in args]))
    np.testing.assert_allclose(got, function(*args), rtol=1e-4, atol=1e-4)
    return compiled


def made(shape: tuple[int, ...], device: str, scale: int) -> Any:
    """A large array of float32."""
    sizes = (shape[0] // scale, *shape[1:])
    return fusec.to_device(np.random.default_rng(0).standard_normal(sizes, dtype="f4"), device)


def measure(device: str, scale: int) -> Iterator[Bar]:
    """All figures. scale: the largest arrays are shorter by this factor."""
    source = made(LINE, device, scale)
    target = source * 0
    stream = target.buffer.device.default_stream
    seconds, spread = timed(lambda t=target, s=source: overwrite(t, s, stream), device)
    bandwidth = 2 * source.nbytes / seconds
    yield Bar("copy within the device", bandwidth / 1e9, None, "GB/s", spread)
    del source, target
    for row in TABLE:
        compiled = checked(row.function, row.shape, row.arguments, device)
        args = [made(row.shape, device, scale) for _ in range(row.arguments)]
        seconds, spread = timed(lambda f=compiled, a=args: f(*a), device)
        ideal = row.moved * args[0].nbytes / bandwidth
        beside = f"{seconds * 1e3:.3f} ms, {ideal / seconds:.0%} of a copy"
        limit = 1 / row.part
        yield Bar(row.name, seconds / ideal, limit, "x a copy", spread, beside)
    x = made(SMALL, device, 1)
    compiled = checked(small_kernels, SMALL, 1, device)
    seconds, spread = timed(lambda: compiled(x), device)
    kernels = len(compiled.lower(fusec.ShapeDtype(SMALL, "f4"), target="cuda").kernels)
    yield Bar(f"{kernels} small kernels, replayed", seconds * 1e6, 15.0, "us", spread)
    yield from product(device, scale)


def product(device: str, scale: int) -> Iterator[Bar]:
    """A matrix product, beside torch's."""
    x = made(PRODUCT, device, scale)
    compiled = checked(lambda x: x @ x.T, PRODUCT, 1, device)
    seconds, spread = timed(lambda: compiled(x), device)
    flops = 2 * x.shape[0] ** 2 * x.shape[1]
    beside = f"{flops / seconds / 1e12:.1f} Tflop/s"
    try:
        import torch

        theirs = torch.randn(*x.shape, device=device)
    except (ImportError, RuntimeError):  # not installed, or it knows no such device
        yield Bar("matrix product of 8192, float32", seconds * 1e3, None, "ms", spread, beside)
        return
    torch.backends.cuda.matmul.allow_tf32 = False

    def call() -> None:
        theirs @ theirs.T
        torch.cuda.synchronize()

    other, _ = timed(call, device)
    yield Bar("matrix product of 8192, float32", seconds / other, 1.03, "x torch", spread, beside)


def main(words: list[str] | None = None) -> int:
    """Measure and print; exit status 1 when a bar is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.device", description=__doc__)
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, null or simulator")
    parser.add_argument("--scale", type=int, default=1, help="divide the largest sizes by this")
    given = parser.parse_args(words)
    harness.require_rich()
    found = list(measure(given.device, given.scale))
    title = f"{given.device}, fusec on {harness.machine()['versions']}"
    harness.print_table(title, HEADERS, [bar.cells() for bar in found], left=2)
    return int(not all(bar.passed for bar in found))


if __name__ == "__main__":
    raise SystemExit(main())
