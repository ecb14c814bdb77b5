"""What the files of loops share: their table, and names that Numba replaces."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

#: Loop by name of the kernel.
LOOPS: dict[str, Callable[..., Any]] = {}
#: Functions that loops call, by name: they are compiled, too.
HELPERS: dict[str, Callable[..., Any]] = {}
#: Kernels whose arrays hold NaN, which `fastmath=True` may assume away.
NANS = frozenset({"nanmean"})
#: Elements that one step of a parallel loop adds up.
CHUNK = 4096
#: Numba's parallel range takes this place when a loop is compiled.
prange = range


def loop(function: Callable[..., Any]) -> Callable[..., Any]:
    """Enter a loop in the table under its own name."""
    LOOPS[function.__name__] = function
    return function


def helper(function: Callable[..., Any]) -> Callable[..., Any]:
    """Enter a function that loops call."""
    HELPERS[function.__name__] = function
    return function


@helper
def highest(x):
    """The largest element: LLVM leaves one running maximum scalar; eight hide each other's wait."""
    a = b = c = d = e = f = g = h = x[0]
    whole = x.size // 8 * 8
    for i in range(0, whole, 8):
        a, b, c, d = max(a, x[i]), max(b, x[i + 1]), max(c, x[i + 2]), max(d, x[i + 3])
        e, f, g, h = max(e, x[i + 4]), max(f, x[i + 5]), max(g, x[i + 6]), max(h, x[i + 7])
    top = max(max(max(a, b), max(c, d)), max(max(e, f), max(g, h)))
    for i in range(whole, x.size):
        top = max(top, x[i])
    return top
