"""The kernel suite: NumPy functions that are examples, test subjects and benchmarks at once.

>>> import kernels
>>> kernels.get("softmax").family
'rows'
"""

from kernels import elementwise, linalg, programs, reductions, rows, stencils
from kernels.registry import DTYPES, SIZES, Kernel, get, kernel, suite

__all__ = [
    "DTYPES",
    "SIZES",
    "Kernel",
    "elementwise",
    "get",
    "kernel",
    "linalg",
    "programs",
    "reductions",
    "rows",
    "stencils",
    "suite",
]
