"""Layouts of arrays, and memory that holds nothing for those that only have one."""

from __future__ import annotations

import mmap
import sys
from typing import Any

import numpy as np

_reserve: mmap.mmap | None = None
_FLAGS: Any = {}
if hasattr(mmap, "MAP_PRIVATE"):
    no_reserve = getattr(mmap, "MAP_NORESERVE", 0x4000 if sys.platform == "linux" else 0)
    _FLAGS["flags"] = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | no_reserve


def shadow(shape: tuple[int, ...], dtype: np.dtype, strides: tuple[int, ...]) -> np.ndarray:
    """An array that NumPy may view, and even read, without memory behind it.

    It is writeable for NumPy, so that traced functions may change what it stands for.
    """
    global _reserve
    low, span = extent(shape, strides, dtype)
    if _reserve is None or len(_reserve) < span:
        size = max(2 * span, 1 << 33)
        _reserve = mmap.mmap(-1, size, **_FLAGS)
    return np.ndarray(shape, dtype, _reserve, -low, strides)


def extent(shape: tuple[int, ...], strides: tuple[int, ...], dtype: np.dtype) -> tuple[int, int]:
    """The lowest byte relative to the first element, and the bytes from there to the last."""
    if 0 in shape:
        return 0, 0
    steps = [(n - 1) * s for n, s in zip(shape, strides)]
    low = sum([s for s in steps if s < 0])
    return low, sum([s for s in steps if s > 0]) - low + dtype.itemsize
