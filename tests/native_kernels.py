"""Kernels with the uniform entry signature, for tests of the launch path; made on first import."""

import ctypes
import threading

from numba import cfunc
from numba import types as t

_SIGNATURE = t.int64(t.int64, t.int64, t.CPointer(t.int64), t.CPointer(t.CPointer(t.float64)))
_WORDS = t.int64(t.int64, t.int64, t.CPointer(t.int64), t.CPointer(t.CPointer(t.int64)))
_self = ctypes.CDLL(None).pthread_self
_self.restype, _self.argtypes = ctypes.c_int64, []


@cfunc(_SIGNATURE)
def axpb(start, stop, ints, ptrs):
    """y = ints[0] * x + ints[1] over float64."""
    x, y = ptrs[0], ptrs[1]
    for i in range(start, stop):
        y[i] = x[i] * ints[0] + ints[1]
    return 0


@cfunc(_SIGNATURE)
def add(start, stop, ints, ptrs):
    """y = a + b[0] * ints[0]; b is a scalar buffer."""
    for i in range(start, stop):
        ptrs[2][i] = ptrs[0][i] + ptrs[1][0] * ints[0]
    return 0


@cfunc(_SIGNATURE)
def total(start, stop, ints, ptrs):
    """y[0] = sum of ints[0] items of x."""
    s = 0.0
    for i in range(ints[0]):
        s += ptrs[0][i]
    ptrs[1][0] = s
    return 0


@cfunc(_SIGNATURE)
def reversed_by_scratch(start, stop, ints, ptrs):
    """y[row] = row of x reversed, by way of scratch, which is pointer 1."""
    x, scratch, y, n = ptrs[0], ptrs[1], ptrs[2], ints[0]
    for row in range(start, stop):
        for j in range(n):
            scratch[n - 1 - j] = x[row * n + j]
        for j in range(n):
            y[row * n + j] = scratch[j]
    return 0


@cfunc(_WORDS)
def copy(start, stop, ints, ptrs):
    """y = x, as 8-byte words."""
    for i in range(start, stop):
        ptrs[1][i] = ptrs[0][i]
    return 0


@cfunc(_WORDS)
def visit(start, stop, ints, ptrs):
    """counts[i] += 1 and threads[i] = id of the thread, after some work per row (ints[0])."""
    for i in range(start, stop):
        s = 0.0
        for _ in range(ints[0]):
            s = s * 0.999 + 0.5
        ptrs[0][i] += 1 + (s < 0)
        ptrs[1][i] = _self()
    return 0


@cfunc(_WORDS)
def fail_at(start, stop, ints, ptrs):
    """Counts rows; status 7 when row ints[0] is among them."""
    for i in range(start, stop):
        ptrs[0][i] += 1
        if i == ints[0]:
            return 7
    return 0


def in_threads(count, work):
    """Run ``work(number)`` in ``count`` threads at once and re-raise what any of them raised."""
    errors = []

    def body(number):
        try:
            work(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=body, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    if errors:
        raise errors[0]
