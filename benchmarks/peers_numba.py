"""Hand-written Numba beside fusec: the loops of `benchmarks.loops`, compiled as one would.

    python -m benchmarks.peers_numba        # compiles all of them both ways and checks them

Numba is imported when a loop is compiled, not before.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

import kernels
from benchmarks.loops import HELPERS, LOOPS, NANS

__all__ = ["LOOPS", "compiled", "main"]

#: All that `fastmath=True` allows, but for assuming that there are no NaNs and infinities.
FAST_WITH_NANS = frozenset({"nsz", "arcp", "contract", "afn", "reassoc"})


@cache
def compiled(name: str, fastmath: bool = True) -> Callable[..., Any]:
    """The loop of a kernel as a Numba function with parallel loops.

    fastmath: let LLVM reorder sums, contract and approximate; without it the order of the
    source is kept. Division never raises, as in NumPy, which is what lets it vectorise. A scalar
    result comes back as a Python number.

    >>> import numpy as np
    >>> float(compiled("sum_all")(np.ones(10)))
    10.0
    """
    import numba

    flags: Any = set(FAST_WITH_NANS) if fastmath and name in NANS else fastmath

    def jit(function: Callable[..., Any]) -> Any:
        parallel = "prange" in function.__code__.co_names
        return numba.njit(
            _within(function, scope), parallel=parallel, fastmath=flags, error_model="numpy",
            cache=False,
        )  # fmt: skip

    scope = {**LOOPS[name].__globals__, "prange": numba.prange}
    scope |= {n: jit(f) for n, f in HELPERS.items() if n in scope}
    return jit(LOOPS[name])


def _within(function: Callable[..., Any], scope: dict[str, Any]) -> Callable[..., Any]:
    """The same code with other globals: those in which `prange` is Numba's."""
    made = types.FunctionType(function.__code__, scope, function.__name__)
    made.__module__ = function.__module__
    return made


def difference(name: str, size: str, dtype: str, fastmath: bool = True) -> str:
    """How far a loop is from the kernel's own function, or '' when all is within bounds.

    Relative to the largest value, ten times what the kernel allows fusec: a plain loop sums
    less accurately.
    """
    kernel = kernels.get(name)
    theirs, ours = kernel.args(size, dtype), kernel.args(size, dtype)
    with np.errstate(all="ignore"):
        want = kernel.function(*theirs)
        got = compiled(name, fastmath)(*ours)
    if want is None:
        want, got = theirs, ours
    pairs = list(zip(want, got)) if isinstance(want, tuple) else [(want, got)]
    found = [_distance(w, g, 10 * kernel.rtol[dtype], kernel.mismatch) for w, g in pairs]
    return "; ".join(f for f in found if f)


def _distance(want: Any, got: Any, rtol: float, mismatch: float) -> str:
    w, g = np.asarray(want), np.asarray(got)
    if w.shape != g.shape or (w.ndim and w.dtype != g.dtype):
        return f"{g.dtype}{g.shape} for {w.dtype}{w.shape}"
    if w.dtype.kind not in "fc":
        share = float(np.mean(w != g))
        return "" if share <= mismatch else f"{share:.2%} of the integers differ"
    error = float(np.max(np.abs(w - g)) / np.max(np.abs(w)))
    return "" if error <= rtol else f"off by {error:.2g} of the largest value"


def main(names: list[str]) -> int:
    """Compile loops both ways, check them at two sizes, and print what is wrong."""
    failed = 0
    for name in names or LOOPS:
        found = [
            f"{size} {dtype} {'fast' if fast else 'strict'}: {problem}"
            for size in "SM" for dtype in kernels.DTYPES for fast in (True, False)
            if (problem := difference(name, size, dtype, fast))
        ]  # fmt: skip
        failed += bool(found)
        print(f"{name:24} {'; '.join(found) or 'ok'}", flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
