"""What a device is: memory, copies, streams and launches, behind one interface.

There are three kinds. ``cuda:0`` is a GPU (``cuda.py``); ``simulator`` runs kernels one thread
after the other in host memory (``simulator.py``); ``null`` allocates and launches nothing and
records what it was asked for (``null.py``). Work on a device is ordered by streams. A ``Buffer``
remembers the streams that used it, so that work on another stream, and freeing, wait for them.
"""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

import numpy as np

from fusec.errors import DeviceError

Place = tuple["Buffer", int]  # memory and an offset in bytes
Launcher = Callable[[Sequence[Place], "Buffer", "Stream"], None]  # pointers, status word, stream
MAX_PENDING = 64  # runs whose errors were not asked for yet, and which keep their inputs alive
LISTED = 8  # buffers that the message of an exhausted device names
LARGE = 4096  # bytes from which the line that made a buffer is kept
_LEGACY = (0, 1)  # handles of the legacy default stream
_PER_THREAD = 2  # handle of each thread's own default stream
_ATTRIBUTES = ("cuda_stream", "ptr")  # PyTorch's and CuPy's
_SMALL = ("a small buffer", 0)
_PACKAGE = str(Path(__file__).parents[1])


class OutOfMemory(Exception):
    """A device has no room; ``Device.allocate`` makes a DeviceError of it."""


class Memory(NamedTuple):
    """Bytes of a device's memory that fusec holds now, and held at most; how many buffers."""

    live: int
    peak: int
    buffers: int


class Stream:
    """A queue of work on one device; ``with stream:`` makes it the current one.

    Work on one stream runs in order; work on different streams may overlap. Arrays may be used on
    any stream: the second stream waits for what the first has done to them.

    >>> import numpy as np, fusec
    >>> with fusec.stream("null") as s:
    ...     x = fusec.to_device(np.ones(3), "null")
    >>> s.synchronize()
    """

    __slots__ = ("__weakref__", "device", "native")

    def __init__(self, device: Device, native: Any = None) -> None:
        self.device = device
        self.native = native

    def synchronize(self) -> None:
        """Wait until all work on this stream is done; raises the errors that it found."""
        self.device._sync(self)
        self.device.settle()

    def wait(self, other: Stream) -> None:
        """Let later work on this stream wait for what is on ``other`` now."""
        self.device._wait(self, other)

    def __enter__(self) -> Stream:
        _streams.set((*_streams.get(), self))
        return self

    def __exit__(self, *_: object) -> None:
        _streams.set(_streams.get()[:-1])

    def __cuda_stream__(self) -> tuple[int, int]:
        return self.native.__cuda_stream__()  # type: ignore[no-any-return]

    def __repr__(self) -> str:
        return f"<fusec stream of {self.device.name}>"


_streams: ContextVar[tuple[Stream, ...]] = ContextVar("fusec streams", default=())


class Buffer:
    """Memory of a device, freed with its last reference.

    owner: what keeps the memory: the device's own object, or somebody else's array.
    checks: runs that wrote it and whose kernels may still report an error.
    """

    __slots__ = ("address", "checks", "device", "nbytes", "number", "owner", "readers", "writer")

    def __init__(
        self, device: Device, address: int, nbytes: int, owner: Any, stream: Stream, number: int = 0
    ) -> None:
        self.device, self.address, self.nbytes, self.owner = device, address, nbytes, owner
        self.writer = stream
        self.readers: list[Stream] = []
        self.checks: tuple[Any, ...] = ()
        self.number = number  # 0: the memory is somebody else's

    def reading(self, stream: Stream) -> None:
        """``stream`` is about to read this memory."""
        if self.writer is not stream and stream not in self.readers:
            stream.wait(self.writer)
            self.readers.append(stream)

    def writing(self, stream: Stream) -> None:
        """``stream`` is about to write this memory."""
        for other in (self.writer, *self.readers):
            if other is not stream:
                stream.wait(other)
        self.writer, self.readers = stream, []

    def __del__(self) -> None:
        if not (sys.is_finalizing() or self.device.lost):
            (self.device._freed if self.number else self.device._left)(self)


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
    replays = False  # programs are worth capturing
    lost = False  # a forked process cannot use it

    def __init__(self) -> None:
        self.lock = threading.RLock()  # a collected buffer may be freed while it is held
        self.held: dict[int, tuple[int, str, int]] = {}  # number -> bytes, file, line
        self.live = self.peak = self._count = 0
        self.pending: list[Any] = []
        self.default_stream = Stream(self)
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

    def allocate(self, nbytes: int, stream: Stream) -> Buffer:
        """Fresh memory, ordered on ``stream``. Raises DeviceError when there is none left."""
        try:
            address, owner = self._allocate(nbytes, stream)
        except OutOfMemory:
            gc.collect()
            self._sync(None)
            try:
                address, owner = self._allocate(nbytes, stream)
            except OutOfMemory:
                raise DeviceError(self._exhausted(nbytes)) from None
        with self.lock:
            self._count += 1
            self.held[self._count] = (nbytes, *(_user_line() if nbytes >= LARGE else _SMALL))
            self.live += nbytes
            self.peak = max(self.peak, self.live)
            return Buffer(self, address, nbytes, owner, stream, self._count)

    def _freed(self, buffer: Buffer) -> None:
        with self.lock:
            self.live -= self.held.pop(buffer.number)[0]
        for reader in buffer.readers:
            buffer.writer.wait(reader)
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
        for stream in reversed(_streams.get()):
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
        handle = _handle(given)
        if handle in _LEGACY:
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


def _handle(stream: Any) -> int:
    """The address of a ``cudaStream_t``, as the libraries of Python give it."""
    if hasattr(stream, "__cuda_stream__"):
        said = stream.__cuda_stream__
        found = (said() if callable(said) else said)[1]
    else:
        found = next((getattr(stream, n) for n in _ATTRIBUTES if hasattr(stream, n)), stream)
    if isinstance(found, bool) or not isinstance(found, int):
        raise DeviceError(f"{stream!r} is no CUDA stream")
    if found == _PER_THREAD:
        raise DeviceError("a thread's default stream is another one in each thread: make a stream")
    return found


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
    """The device called "cuda", "cuda:1", "null" or "simulator".

    Raises DeviceError when there is no such device, saying what to install or to type.
    """
    if isinstance(name, Device):
        return name
    found = _known.get(name)
    if found is not None:
        return found
    kind, colon, number = str(name).partition(":")
    if kind not in ("cuda", "null", "simulator") or (colon and not number.isdecimal()):
        raise DeviceError(f'no device {name!r}: write "cuda", "cuda:1", "simulator" or "null"')
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
    if kind == "simulator":
        from fusec.runtime.simulator import SimulatorDevice

        return SimulatorDevice()
    from fusec.runtime.cuda import CudaDevice

    return CudaDevice(number)


def known_devices() -> list[Device]:
    """The devices that were used so far."""
    return list(dict.fromkeys(_known.values()))
