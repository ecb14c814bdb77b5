"""One row of the suite: a kernel checked against NumPy, then timed beside it."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from benchmarks import harness
from kernels import Kernel

HEADERS = ("kernel", "size", "dtype", "NumPy ms", "fusec ms", "spread", "ratio", "GB/s",
           "% copy", "kernels", "first ms", "check")  # fmt: skip


@dataclass
class Result:
    """What was measured of one kernel at one size and dtype.

    Times are in milliseconds and are medians; spread is relative. bandwidth (GB/s) counts the
    kernel's least possible bytes; of_copy is its percentage of a copy's and is filled in last,
    when the copy has been timed before and after. error is '' when all is well.
    """

    kernel: str
    size: str
    dtype: str
    numpy_ms: float = 0.0
    fusec_ms: float = 0.0
    numpy_spread: float = 0.0
    fusec_spread: float = 0.0
    ratio: float = 0.0
    bandwidth: float = 0.0
    of_copy: float = 0.0
    kernels: int = 0
    first_ms: float = 0.0
    error: str = ""

    def cells(self) -> tuple[str, ...]:
        """The row of the table."""
        name = (self.kernel, self.size, self.dtype)
        if self.error:
            return (*name, *[""] * 8, f"[red]{self.error.splitlines()[0][:50]}[/red]")
        return (
            *name,
            f"{self.numpy_ms:.3f}",
            f"{self.fusec_ms:.3f}",
            f"{self.fusec_spread:.0%}",
            f"{self.ratio:.1f}x",
            f"{self.bandwidth:.1f}",
            f"{self.of_copy:.0f}",
            str(self.kernels),
            f"{self.first_ms:.0f}",
            "ok",
        )

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def flat(tree: Any) -> Iterator[Any]:
    """The arrays and scalars of nested results."""
    if isinstance(tree, (tuple, list)):
        for item in tree:
            yield from flat(item)
    elif tree is not None:
        yield tree


def wide(value: Any) -> Any:
    """A float array in float64; anything else as it is."""
    floats = isinstance(value, np.ndarray) and value.dtype.kind == "f"
    return value.astype(np.float64) if floats else value


def copies(args: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(a.copy() if isinstance(a, np.ndarray) else a for a in args)


def problem(kernel: Kernel, dtype: str, compiled: Any, args: tuple[Any, ...]) -> str:
    """Why fusec's answer is not NumPy's, or ''.

    The values are compared with a float64 run: within the kernel's tolerance, or at most twice
    as far from it as NumPy in the same dtype is. Updated arguments count as results.
    """
    ours, theirs, exact = copies(args), copies(args), tuple(wide(a) for a in args)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        got = (compiled(*ours), ours)
        want = (kernel.function(*theirs), theirs)
        true = (kernel.function(*exact), exact)
    for g, w, t in zip(flat(got), flat(want), flat(true)):
        if found := _difference(kernel, dtype, g, w, t):
            return found
    return ""


def _difference(kernel: Kernel, dtype: str, got: Any, want: Any, true: Any) -> str:
    if type(got) is not type(want):
        return f"{type(got).__name__} for {type(want).__name__}"
    if not isinstance(want, (np.ndarray, np.generic)):
        return "" if got == want else f"{got!r} for {want!r}"
    if (got.dtype, got.shape) != (want.dtype, want.shape):
        return f"{got.dtype}{got.shape} for {want.dtype}{want.shape}"
    if want.dtype.kind != "f":
        share = float(np.mean(got != want))
        return "" if share <= kernel.mismatch else f"{share:.2%} of the integers differ"
    allowed = kernel.rtol[dtype] * float(np.max(np.abs(true), initial=0))
    error, numpys = _distance(got, true), _distance(want, true)
    return "" if error <= max(allowed, 2 * numpys) else f"off by {error:.2g} (NumPy {numpys:.2g})"


def _distance(got: Any, true: Any) -> float:
    """The largest difference from the true values; inf where only one of them is nan."""
    if not np.array_equal(np.isnan(got), np.isnan(true)):
        return float("inf")
    with np.errstate(invalid="ignore"):
        return float(np.nanmax(np.abs(got - true), initial=0))


def measure(kernel: Kernel, size: str, dtype: str, budget: float) -> Result:
    """Check one kernel and time it for about `budget` seconds."""
    import fusec

    args = kernel.args(size, dtype)
    compiled = fusec.jit(kernel.function)
    result = Result(kernel.name, size, dtype)
    start = time.perf_counter()
    compiled(*copies(args))
    result.first_ms = (time.perf_counter() - start) * 1e3
    result.error = problem(kernel, dtype, compiled, args)
    if result.error:
        return result
    result.kernels = len(compiled.lower(*args).kernels)
    with np.errstate(all="ignore"):
        times = harness.alternate(
            {"NumPy": lambda: kernel.function(*args), "fusec": lambda: compiled(*args)}, budget
        )
    return _filled(result, kernel.bytes(*args), times)


def _filled(result: Result, moved: int, times: dict[str, harness.Timing]) -> Result:
    numpys, ours = times["NumPy"], times["fusec"]
    result.numpy_ms, result.fusec_ms = numpys.median * 1e3, ours.median * 1e3
    result.numpy_spread, result.fusec_spread = numpys.spread, ours.spread
    result.ratio = numpys.median / ours.median
    result.bandwidth = moved / ours.median / 1e9
    return result


def measured(kernel: Kernel, size: str, dtype: str, budget: float) -> Result:
    """As `measure`; a kernel that fails becomes a row that says so."""
    try:
        return measure(kernel, size, dtype, budget)
    except Exception as error:
        return Result(kernel.name, size, dtype, error=f"{type(error).__name__}: {error}")


def geometric_mean(results: list[Result]) -> float:
    """Of the speed-ups over NumPy."""
    ratios = [r.ratio for r in results if not r.error]
    return float(np.exp(np.mean(np.log(ratios)))) if ratios else 0.0
