"""Stand-ins: real NumPy arrays with the shape, strides and dtype of a traced value, and no memory.

Views of a traced array are views of its stand-in, made by NumPy itself, so that shapes, strides,
errors and the question whether ``reshape`` copies are NumPy's answers and not ours. All stand-ins
look into one reserved address range that nobody writes to.
"""

import contextlib
import functools
import mmap
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from fusec.ir.aval import Aval

_RESERVE = 1 << 33  # bytes reserved at first; address space only, no memory behind it
LARGE = 1 << 30  # bytes of a result whose strides are not asked of NumPy, which would allocate it
_FLAGS = getattr(mmap, "MAP_PRIVATE", 0) | getattr(mmap, "MAP_ANONYMOUS", 0)
_FLAGS |= getattr(mmap, "MAP_NORESERVE", 0x4000 if sys.platform == "linux" else 0)


class _Arena:
    """The address range, replaced by a larger one when a stand-in needs more."""

    def __init__(self) -> None:
        self.memory: mmap.mmap | None = None

    def at_least(self, nbytes: int) -> mmap.mmap:
        if self.memory is None or len(self.memory) < nbytes:
            stand_in.cache_clear()
            size = max(nbytes * 2, _RESERVE if self.memory is None else 0)
            try:
                self.memory = self._map(size)
            except (OSError, ValueError):
                self.memory = self._map(nbytes)
        return self.memory

    @staticmethod
    def _map(size: int) -> mmap.mmap:
        if hasattr(mmap, "MAP_PRIVATE"):
            return mmap.mmap(-1, size, flags=_FLAGS, prot=mmap.PROT_READ)
        return mmap.mmap(-1, size, access=mmap.ACCESS_READ)


_arena = _Arena()


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """While NumPy is asked what it would give, it warns of nothing."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield


@functools.lru_cache(1024)
def stand_in(
    shape: tuple[int, ...], dtype: np.dtype, strides: tuple[int, ...] | None = None
) -> np.ndarray:
    """An array of this shape, dtype and strides (bytes; C order by default) without memory."""
    low = high = 0
    if strides is not None:
        for n, s in zip(shape, strides):
            low += min(0, (n - 1) * s)
            high += max(0, (n - 1) * s)
    size = high - low + dtype.itemsize if strides is not None else Aval(shape, dtype).nbytes
    memory = _arena.at_least(max(size, 1))
    return np.ndarray(shape, dtype, memory, -low, strides)


def is_stand_in(array: np.ndarray) -> bool:
    """Whether an array has no memory of its own: it may be written, and shares none."""
    return isinstance(array.base, mmap.mmap) and array.base is _arena.memory


def like_array(array: np.ndarray) -> np.ndarray:
    """The stand-in of a real array."""
    if array.flags.c_contiguous:
        return stand_in(array.shape, array.dtype)
    return stand_in(array.shape, array.dtype, array.strides)


def is_native(array: np.ndarray) -> bool:
    """Whether kernels can read it: aligned, native byte order, strides of whole elements."""
    dtype, flags = array.dtype, array.flags
    whole = not any(s % dtype.itemsize for s in array.strides if dtype.itemsize)
    return flags.aligned and dtype.isnative and whole


def result_like(shape: tuple[int, ...], dtype: np.dtype, operands: list[np.ndarray]) -> np.ndarray:
    """The stand-in of an elementwise result: NumPy's K order over the operands' strides."""
    if not shape or all(o.flags.c_contiguous for o in operands) or 0 in shape:
        return stand_in(shape, dtype)
    return _in_k_order(shape, dtype, *[(o.shape, o.dtype, o.strides) for o in operands])


@functools.lru_cache(1024)
def _in_k_order(shape: tuple[int, ...], dtype: np.dtype, *layouts: Any) -> np.ndarray:
    operands = [stand_in(*layout) for layout in layouts]
    if Aval(shape, dtype).nbytes > LARGE:
        corners = [o[(slice(2),) * o.ndim] for o in operands]
        small = result_like(tuple([min(n, 2) for n in shape]), dtype, corners)
        return in_order(shape, dtype, small.strides)
    it = np.nditer(
        [*operands, None],
        flags=["zerosize_ok", "refs_ok", "delay_bufalloc", "buffered", "grow_inner"],
        op_flags=[["readonly"]] * len(operands) + [["writeonly", "allocate"]],
        op_dtypes=[*[o.dtype for o in operands], dtype],
        order="K",
    )
    out = it.operands[-1]
    return stand_in(shape, dtype, out.strides)


def copy_like(like: np.ndarray, dtype: np.dtype | None = None) -> np.ndarray:
    """The stand-in of a fresh copy in K order: ``np.empty_like``'s strides."""
    dtype = like.dtype if dtype is None else dtype
    if like.flags.c_contiguous or Aval(like.shape, dtype).nbytes > LARGE:
        return in_order(like.shape, dtype, like.strides)
    return stand_in(like.shape, dtype, np.empty_like(like, dtype).strides)


def in_order(shape: tuple[int, ...], dtype: np.dtype, strides: tuple[int, ...]) -> np.ndarray:
    """The stand-in of contiguous memory whose axes lie in the order that ``strides`` have.

    >>> in_order((2, 3), np.dtype("f8"), (1, 100)).strides
    (8, 16)
    """
    place = sorted(range(len(shape)), key=lambda k: -abs(strides[k]))
    like = stand_in(tuple([shape[k] for k in place]), dtype)
    return like.transpose(np.argsort(place))
