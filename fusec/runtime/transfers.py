"""Copies between host and device, counted; those that nobody asked for can warn or fail."""

from __future__ import annotations

import threading
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from fusec.config import config
from fusec.errors import DeviceError, TransferWarning
from fusec.runtime.device import size

_lock = threading.Lock()
_open: list[Transfers] = []


class Transfers:
    """Copies between host and device while a ``with fusec.transfers()`` block runs.

    to_device, to_host: number of copies; to_device_bytes, to_host_bytes: their bytes; hidden: how
    many of them nobody asked for; by_name: (direction, name) -> bytes, where the name is an
    argument's, or what asked for the copy. All threads are counted; numbers that are passed to
    kernels are not.

    >>> import numpy as np, fusec
    >>> with fusec.transfers() as moved:
    ...     x = fusec.to_device(np.ones(1000), "null")
    >>> moved
    Transfers(to device: 1 of 8.00 kB, to host: 0 of 0 bytes, hidden: 0)
    """

    def __init__(self) -> None:
        self.to_device = self.to_device_bytes = self.to_host = self.to_host_bytes = self.hidden = 0
        self.by_name: Counter[tuple[str, str]] = Counter()

    def _add(self, direction: str, name: str, nbytes: int, hidden: bool) -> None:
        if direction == "to device":
            self.to_device += 1
            self.to_device_bytes += nbytes
        else:
            self.to_host += 1
            self.to_host_bytes += nbytes
        self.hidden += hidden
        self.by_name[direction, name] += nbytes

    def __repr__(self) -> str:
        return (
            f"Transfers(to device: {self.to_device} of {size(self.to_device_bytes)}, "
            f"to host: {self.to_host} of {size(self.to_host_bytes)}, hidden: {self.hidden})"
        )


@contextmanager
def transfers() -> Iterator[Transfers]:
    """Count the copies between host and device inside a ``with`` block; see ``Transfers``."""
    counter = Transfers()
    with _lock:
        _open.append(counter)
    try:
        yield counter
    finally:
        with _lock:
            _open.remove(counter)


def transferred(direction: str, name: str, nbytes: int, hidden: str = "") -> None:
    """Count one copy, before it is made.

    hidden: for a copy that nobody asked for, what it is and how to avoid it; with
    ``config.transfers`` it warns or raises DeviceError.
    """
    if hidden and config.transfers != "allow":
        message = f"{name} ({size(nbytes)}) is copied {direction}: {hidden}"
        if config.transfers == "fail":
            raise DeviceError(message)
        warnings.warn(message, TransferWarning, stacklevel=2)
    if _open:
        with _lock:
            for counter in _open:
                counter._add(direction, name, nbytes, bool(hidden))
