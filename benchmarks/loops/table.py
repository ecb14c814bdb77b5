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
