"""Loops that a good Numba user writes by hand for kernels of the suite.

Each is an ordinary Python function with the kernel's name, arguments and results, so that it
runs, slowly, without Numba; `benchmarks.peers_numba` compiles it. They allocate what they
return, compute in the dtype of their arrays (`f(0.5)`: a literal alone is float64 to Numba and
takes all arithmetic with it), share rows or chunks among threads and add up in chunks, so that
float32 sums stay accurate.
"""

from benchmarks.loops import (
    elementwise,
    linalg,
    mapreduce,
    movement,
    programs,
    reductions,
    rows,
    stencils,
)
from benchmarks.loops.table import CHUNK, HELPERS, LOOPS, NANS

__all__ = [
    "CHUNK",
    "HELPERS",
    "LOOPS",
    "NANS",
    "elementwise",
    "linalg",
    "mapreduce",
    "movement",
    "programs",
    "reductions",
    "rows",
    "stencils",
]
