"""Vector math: branch-light functions for float32 and float64, written as LLVM IR.

LLVM has no vector ``exp`` without a vendor's library, and calls stop its loop vectoriser. These
functions are straight-line arithmetic that is inlined into the kernel, so the vectoriser sees it.
Errors are at most 2 ULP over all inputs (docs/math.md); special values are NumPy's. Functions of
complex numbers are written over their two parts, in sums of two float64 (``double``).

The Numba intrinsics (``mathlib.exp`` ...) are loaded on first use, because numba is slow to
import and a process that finds its kernels in the cache never needs them.

>>> from fusec.codegen import mathlib
>>> len(mathlib.code_hash())
32
"""

import importlib
from typing import Any

from fusec.codegen.mathlib.version import code_hash

__all__ = ["code_hash"]


def __getattr__(name: str) -> Any:
    if name.startswith("_"):
        raise AttributeError(name)
    intrinsics = importlib.import_module(f"{__name__}.intrinsics")
    return getattr(intrinsics, name)
