"""The kernel suite: NumPy functions that are examples, test subjects and benchmarks at once.

>>> import kernels
>>> kernels.get("softmax").family, kernels.get("softmax").bound
('rows', 'transcendental')
"""

from kernels import (
    elementwise,
    gathers,
    linalg,
    mapreduce,
    programs,
    recurrences,
    reductions,
    rows,
    scans,
    stencils,
    views,
)
from kernels.registry import BOUNDS, DTYPES, FAMILIES, SIZES, Kernel, get, kernel, suite

__all__ = [
    "BOUNDS",
    "DTYPES",
    "FAMILIES",
    "SIZES",
    "Kernel",
    "elementwise",
    "gathers",
    "get",
    "kernel",
    "linalg",
    "mapreduce",
    "programs",
    "recurrences",
    "reductions",
    "rows",
    "scans",
    "stencils",
    "suite",
    "views",
]
