"""The CPU as a device: the host's own memory, on which the kernels for NumPy's arrays run.

Nothing is copied between ``fusec.to_device(x, "cpu")`` and what runs on it. The simulator has its
memory from here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from fusec.runtime.array import Array, bytes_of
from fusec.runtime.device import Buffer, Device, Place, Stream
from fusec.runtime.executor import BYTE
from fusec.runtime.native import empty
from fusec.runtime.shadow import extent


class HostDevice(Device):
    """See the module."""

    arch = "cpu"
    target = "cpu"
    on_host = native = True

    def _allocate(self, nbytes: int, stream: Stream) -> tuple[int, Any]:
        memory = empty(((nbytes | 255) + 1,), BYTE)
        return memory.ctypes.data, memory

    def _upload(self, place: Place, data: np.ndarray, stream: Stream) -> None:
        view(place, data.nbytes)[...] = data

    def _download(self, data: np.ndarray, place: Place, stream: Stream) -> None:
        data[...] = view(place, data.nbytes)

    def _copy(self, target: Place, source: Place, nbytes: int, stream: Stream) -> None:
        view(target, nbytes)[...] = view(source, nbytes)

    def _zero(self, buffer: Buffer, stream: Stream) -> None:
        buffer.owner[...] = 0


def view(place: Place, nbytes: int) -> Any:
    """The bytes at a place."""
    buffer, offset = place
    return buffer.owner[offset : offset + nbytes]


def owners(arrays: Iterable[Array]) -> dict[int, Buffer]:
    """The buffers of arrays, found by the identity of the memory that they keep."""
    return {id(x.buffer.owner): x.buffer for x in arrays}


def shared(device: Device, x: np.ndarray, known: dict[int, Buffer]) -> Array:
    """An array of NumPy's over the same memory, in the buffer that it is a view of."""
    root = x
    while isinstance(root.base, np.ndarray):
        root = root.base
    buffer = known.get(id(root))
    if buffer is None:
        low, span = extent(root.shape, root.strides, root.dtype)
        if span != root.nbytes:  # broadcast: nothing but its elements is shared
            return shared(device, x.copy(), known)
        memory = bytes_of(root, low, span)
        address = root.ctypes.data + low if span else 0
        buffer = known[id(root)] = Buffer(device, address, span, memory, device.current())
    offset = x.ctypes.data - buffer.address if x.size else 0
    return Array(buffer, offset, x.shape, x.dtype, x.strides)
