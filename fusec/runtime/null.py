"""A device that allocates and launches nothing and records what it was asked for.

Tests read ``log``: how many launches, copies and bytes a program takes, without a GPU. What is
read back from it is zeros. ``limit`` makes it run out of memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fusec.runtime.device import Buffer, Device, Launcher, OutOfMemory, Place, Stream


class NullDevice(Device):
    """See the module. log: (what, detail) in order; details are bytes or a kernel's name."""

    multiprocessors = 132
    total = 80_000_000_000
    replays = True

    def __init__(self) -> None:
        super().__init__()
        self.limit = self.total
        self.log: list[tuple[str, Any]] = []
        self._next = 1 << 20
        self._free: dict[int, list[int]] = {}  # by size: memory is used again, as in a pool

    def count(self, what: str) -> int:
        """How many times something was recorded."""
        return sum(name == what for name, _ in self.log)

    def _allocate(self, nbytes: int, stream: Stream) -> tuple[int, Any]:
        if self.live + nbytes > self.limit:
            raise OutOfMemory
        self.log.append(("allocate", nbytes))
        with self.lock:
            room = (nbytes | 255) + 1
            known = self._free.setdefault(room, [])
            address = known.pop() if known else self._next
            self._next = max(self._next, address + room)
        return address, (room, address)

    def _release(self, owner: Any, stream: Stream) -> None:
        self.log.append(("free", stream))
        self._free[owner[0]].append(owner[1])

    def _upload(self, place: Place, data: np.ndarray, stream: Stream) -> None:
        self.log.append(("upload", data.nbytes))

    def _download(self, data: np.ndarray, place: Place, stream: Stream) -> None:
        self.log.append(("download", data.nbytes))
        data[...] = 0

    def _copy(self, target: Place, source: Place, nbytes: int, stream: Stream) -> None:
        self.log.append(("copy", nbytes))

    def _zero(self, buffer: Buffer, stream: Stream) -> None:
        self.log.append(("zero", buffer.nbytes))

    def _wait(self, stream: Stream, other: Stream) -> None:
        self.log.append(("wait", (stream, other)))

    def prepare(self, kernel: Any, fastmath: bool) -> Launcher:
        def launch(pointers: Sequence[Place], status: Buffer, stream: Stream) -> None:
            self.log.append(("launch", kernel.name))

        return launch

    def capture(self, work: Callable[[Stream], None]) -> Callable[[Stream], None]:
        began = len(self.log)
        work(self.default_stream)
        recorded = self.log[began:]
        del self.log[began:]
        self.log.append(("capture", len(recorded)))
        return lambda stream: self.log.append(("replay", recorded))
