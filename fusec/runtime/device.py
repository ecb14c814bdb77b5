"""What a device is: memory, copies, streams and launches, behind one interface.

There are four kinds. ``cuda:0`` is a GPU (``cuda.py``); ``cpu`` is the host (``host.py``);
``simulator`` runs kernels one thread after the other in host memory (``simulator.py``); ``null``
allocates and launches nothing and records what it was asked for (``null.py``). Work on a device
is ordered by streams. A ``Buffer`` remembers the streams that used it, so that work on another
stream, and freeing, wait for them.
"""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from weakref import WeakSet, WeakValueDictionary

import numpy as np

from fusec.errors import DeviceError
from fusec.runtime.streams import LEGACY, Stream, entered, handle_of

Place = tuple["Buffer", int]  # memory and an offset in bytes
Launcher = Callable[[Sequence[Place], "Buffer", "Stream"], None]  # pointers, status word, stream
MAX_PENDING = 64  # runs whose errors were not asked for yet, and which keep their inputs alive
MAX_SPARE = 2  # buffers kept for one result of a program
SPARED = 64 << 20  # bytes up to which they are kept; larger ones take longer to fill than to get
LISTED = 8  # buffers that the message of an exhausted device names
LARGE = 4096  # bytes from which the line that made a buffer is kept
_SMALL = ("a small buffer", 0)
_PACKAGE = str(Path(__file__).parents[1])


class OutOfMemory(Exception):
    """A device has no room; ``Device.allocate`` makes a DeviceError of it."""


class Memory(NamedTuple):
    """Bytes of a device's memory that fusec holds now, and held at most; how many buffers."""

    live: int
    peak: int
    buffers: int


class Buffer:
    """Memory of a device, freed with its last reference.

    owner: what keeps the memory: the device's own object, or somebody else's array.
    checks: runs that wrote it and whose kernels may still report an error.
    spare: takes the memory when nobody needs it any more.
    """

    __slots__ = (
        "address", "checks", "device", "nbytes", "number", "owner", "readers", "spare", "version",
        "writer",
    )  # fmt: skip

    def __init__(
        self, device: Device, address: int, nbytes: int, owner: Any, stream: Stream, number: int = 0
    ) -> None:
        self.spare: Spare | None = None
        self.device, self.address, self.nbytes, self.owner = device, address, nbytes, owner
        self.writer = stream
        self.readers: list[Stream] = []
        self.checks: tuple[Any, ...] = ()
        self.number = number  # 0: the memory is somebody else's
        self.version = 0  # how often it was written

    def reading(self, stream: Stream) -> None:
        """``stream`` is about to read this memory."""
        if self.writer is not stream and stream not in self.readers:
            stream.wait(self.writer)
            self.readers.append(stream)

    def writing(self, stream: Stream) -> None:
        """``stream`` is about to write this memory."""
        self.version += 1
        for other in (self.writer, *self.readers):
            if other is not stream:
                stream.wait(other)
        self.writer, self.readers = stream, []

    def __del__(self) -> None:
        if not (sys.is_finalizing() or self.device.lost):
            (self.device._freed if self.number else self.device._left)(self)


class Spare:
    """Memory of a program's earlier results, for its next ones: the same addresses come again.

    Captured programs are found by their addresses, and need no allocation then.
    """

    def __init__(self, device: Device) -> None:
        self.device = device
        self.items: list[tuple[int, Any, Stream]] = []  # address, owner, stream that used it last
        device.spares.add(self)

    def take(self, stream: Stream) -> tuple[int, Any] | None:
        """Memory that was last used on ``stream``, and so is free there."""
        with self.device.lock:
            free = [k for k, item in enumerate(self.items) if item[2] is stream]
            return self.items.pop(free[-1])[:2] if free else None

    def put(self, buffer: Buffer) -> None:
        """Keep the memory of a buffer that is gone."""
        with self.device.lock:
            self.items.append((buffer.address, buffer.owner, buffer.writer))
        self.clear(MAX_SPARE)

    def clear(self, keep: int = 0) -> None:
        """Give back what was kept longest."""
        while len(self.items) > keep:
            _, owner, stream = self.items.pop(0)
            self.device._release(owner, stream)

    def __del__(self) -> None:
        if not (sys.is_finalizing() or self.device.lost):
            self.clear()


class Device:
    """One device; see the module. Subclasses give memory, copies, streams and launches.

    name: "cuda:0"; arch: "sm_90"; multiprocessors: number of SMs; total: bytes of memory.
    """

    name = ""
    arch = "sm_90"
    multiprocessors = 1
    total = 0
    target = "cuda"  # what programs are lowered for
    on_host = False  # its memory is the host's
    native = False  # the kernels for NumPy's arrays run on it
    replays = False  # programs are worth capturing
    lost = False  # a forked process cannot use it

    def __init__(self) -> None:
        self.lock = threading.RLock()  # a collected buffer may be freed while it is held
        self.held: dict[int, tuple[int, str, int]] = {}  # number -> bytes, file, line
        self.live = self.peak = self._count = 0
        self.pending: list[Any] = []
        self.default_stream = Stream(self)
        self.spares: WeakSet[Spare] = WeakSet()
        self._foreigners: WeakValueDictionary[int, Stream] = WeakValueDictionary()

    def __repr__(self) -> str:
        return f"<fusec device {self.name}: {self.arch}>"

    # -- what subclasses do ---------------------------------------------------------------------

    def _allocate(self, nbytes: int, stream: Stream) -> tuple[int, Any]:
        """Address and owner of fresh memory; raises OutOfMemory."""
        raise NotImplementedError

    def _release(self, owner: Any, stream: Stream) -> None:
        """Free memory when ``stream`` has come so far."""

    def _upload(self, place: Place, data: np.ndarray, stream: Stream) -> None:
        """Copy contiguous bytes to the device; they may change afterwards unless pinned."""
        raise NotImplementedError

    def _download(self, data: np.ndarray, place: Place, stream: Stream) -> None:
        """Copy to contiguous bytes of the host; complete after ``_sync``."""
        raise NotImplementedError

    def _copy(self, target: Place, source: Place, nbytes: int, stream: Stream) -> None:
        raise NotImplementedError

    def _zero(self, buffer: Buffer, stream: Stream) -> None:
        raise NotImplementedError

    def _wait(self, stream: Stream, other: Stream) -> None:
        """Order ``stream`` after what is on ``other`` now."""

    def _sync(self, stream: Stream | None) -> None:
        """Wait for a stream, or for all."""

    def mark(self, stream: Stream) -> Callable[[], None]:
        """A function that waits for what is on ``stream`` now."""
        return lambda: None

    def enter(self) -> None:
        """Let the calling thread launch: a thread that has done nothing yet has no device."""

    def new_stream(self) -> Stream:
        return Stream(self)

    def pinned(self, nbytes: int) -> np.ndarray:
        """Bytes of host memory that copies need not stage."""
        return np.empty(nbytes, np.uint8)

    def prepare(self, kernel: Any, fastmath: bool) -> Launcher:
        """Compile or load a kernel; its ints, grid and block are packed here, once."""
        raise NotImplementedError

    def capture(self, work: Callable[[Stream], None]) -> Callable[[Stream], None]:
        """``work`` recorded, so that it is submitted as one piece."""
        return work

    # -- memory ---------------------------------------------------------------------------------

    def allocate(self, nbytes: int, stream: Stream, spare: Spare | None = None) -> Buffer:
        """Memory that is free on ``stream``. Raises DeviceError when there is none left.

        spare: memory of this size that may be taken, and where it goes when it is free again.
        """
        found = spare.take(stream) if spare is not None else None
        address, owner = found or self._obtain(nbytes, stream)
        with self.lock:
            self._count += 1
            self.held[self._count] = (nbytes, *(_user_line() if nbytes >= LARGE else _SMALL))
            self.live += nbytes
            self.peak = max(self.peak, self.live)
            made = Buffer(self, address, nbytes, owner, stream, self._count)
        made.spare = spare
        return made

    def _obtain(self, nbytes: int, stream: Stream) -> tuple[int, Any]:
        """Fresh memory, after what is not needed was given back if there was none."""
        try:
            return self._allocate(nbytes, stream)
        except OutOfMemory:
            gc.collect()
            for spare in list(self.spares):
                spare.clear()
            self._sync(None)
        try:
            return self._allocate(nbytes, stream)
        except OutOfMemory:
            raise DeviceError(self._exhausted(nbytes)) from None

    def _freed(self, buffer: Buffer) -> None:
        with self.lock:
            self.live -= self.held.pop(buffer.number)[0]
        for reader in buffer.readers:
            buffer.writer.wait(reader)
        if buffer.spare is not None:
            buffer.spare.put(buffer)
        else:
            self._release(buffer.owner, buffer.writer)

    def _left(self, buffer: Buffer) -> None:
        """Somebody else's memory may be used again, by work on the default stream."""
        for other in (buffer.writer, *buffer.readers):
            if other is not self.default_stream:
                self.default_stream.wait(other)

    def memory(self) -> Memory:
        return Memory(self.live, self.peak, len(self.held))

    def _exhausted(self, nbytes: int) -> str:
        with self.lock:
            largest = sorted(self.held.values(), reverse=True)
        lines = [
            f"{self.name} has no room for {size(nbytes)}; fusec holds {size(self.live)} in "
            f"{len(largest)} buffers"
            + (f" of {size(self.total)}" if self.total else "")
            + ". Delete arrays, use smaller batches, or donate_argnums. The largest:"
        ]
        lines += [f"  {size(n):>10}  made at {file}:{line}" for n, file, line in largest[:LISTED]]
        return "\n".join(lines)

    # -- order ----------------------------------------------------------------------------------

    def current(self) -> Stream:
        """The stream of the innermost ``with stream:`` for this device, or the default one."""
        for stream in reversed(entered.get()):
            if stream.device is self:
                return stream
        return self.default_stream

    def stream(self, given: Any) -> Stream:
        """``given`` as one of our streams: that of CuPy, PyTorch or another library, or a handle.

        Raises DeviceError for a stream of another device and for what is no stream.
        """
        if isinstance(given, Stream):
            if given.device is not self:
                raise DeviceError(f"a stream of {given.device.name} for work on {self.name}")
            return given
        handle = handle_of(given)
        if handle in LEGACY:
            return self.default_stream
        with self.lock:
            known = self._foreigners.get(handle)
            if known is None:
                known = self._foreigners[handle] = Stream(self, self._foreign(handle, given))
            return known

    def _foreign(self, handle: int, owner: Any) -> Any:
        """The native stream of a handle that belongs to ``owner``."""
        return owner

    def owes(self, check: Any) -> None:
        """Remember a run that may have failed; ask the oldest when there are many."""
        with self.lock:
            self.pending.append(check)
            oldest = self.pending.pop(0) if len(self.pending) > MAX_PENDING else None
        if oldest is not None:
            oldest.settle()

    def forget(self, check: Any) -> None:
        """Somebody has been told of this run."""
        with self.lock:
            if check in self.pending:
                self.pending.remove(check)

    def settle(self) -> None:
        """Learn the outcome of every run so far; raises the first error."""
        self.learn()
        with self.lock:
            checks, self.pending = self.pending, []
        for check in checks:
            check.resolve()

    def learn(self) -> None:
        """Learn the outcome of every run so far, before memory that they read is written."""
        for check in list(self.pending):
            check.settle()

    def synchronize(self) -> None:
        """Wait for all work; raises the errors that it found."""
        self._sync(None)
        self.settle()


def _user_line() -> tuple[str, int]:
    """File and line of the caller outside fusec."""
    frame: Any = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
    return frame.f_code.co_filename, frame.f_lineno


def size(nbytes: int) -> str:
    """Bytes in words.

    >>> size(123), size(4_000_000)
    ('123 bytes', '4.00 MB')
    """
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if nbytes >= scale:
            return f"{nbytes / scale:.2f} {unit}"
    return f"{nbytes} bytes"


# -- the devices of this process ------------------------------------------------------------------

_known: dict[str, Device] = {}
_making = threading.RLock()


def get_device(name: str | Device) -> Device:
    """The device called "cuda", "cuda:1", "cpu", "null" or "simulator".

    Raises DeviceError when there is no such device, saying what to install or to type.
    """
    if isinstance(name, Device):
        return name
    found = _known.get(name)
    if found is not None:
        return found
    kind, colon, number = str(name).partition(":")
    if kind not in ("cuda", "cpu", "null", "simulator") or (colon and not number.isdecimal()):
        raise DeviceError(f'no device {name!r}: write "cuda", "cuda:1" or "cpu"')
    with _making:
        full = f"{kind}:{int(number or 0)}" if kind == "cuda" or colon else kind
        made = _known.get(full) or _make(kind, int(number or 0))
        made.name = full
        _known[full] = _known[str(name)] = made
    return made


def _make(kind: str, number: int) -> Device:
    if kind == "null":
        from fusec.runtime.null import NullDevice

        return NullDevice()
    if kind == "cpu":
        from fusec.runtime.host import HostDevice

        return HostDevice()
    if kind == "simulator":
        from fusec.runtime.simulator import SimulatorDevice

        return SimulatorDevice()
    from fusec.runtime.cuda import CudaDevice

    return CudaDevice(number)


def known_devices() -> list[Device]:
    """The devices that were used so far."""
    return list(dict.fromkeys(_known.values()))
