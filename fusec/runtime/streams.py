"""Streams: queues of work on a device, ours and those of other libraries."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from fusec.errors import DeviceError

if TYPE_CHECKING:
    from fusec.runtime.device import Device

LEGACY = (0, 1)  # handles of the legacy default stream
PER_THREAD = 2  # handle of each thread's own default stream
_ATTRIBUTES = ("cuda_stream", "ptr")  # PyTorch's and CuPy's


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
        entered.set((*entered.get(), self))
        return self

    def __exit__(self, *_: object) -> None:
        entered.set(entered.get()[:-1])

    def __cuda_stream__(self) -> tuple[int, int]:
        return self.native.__cuda_stream__()  # type: ignore[no-any-return]

    def __repr__(self) -> str:
        return f"<fusec stream of {self.device.name}>"


entered: ContextVar[tuple[Stream, ...]] = ContextVar("fusec streams", default=())


def handle_of(stream: Any) -> int:
    """The address of a ``cudaStream_t``, as the libraries of Python give it."""
    if hasattr(stream, "__cuda_stream__"):
        said = stream.__cuda_stream__
        found = (said() if callable(said) else said)[1]
    else:
        found = next((getattr(stream, n) for n in _ATTRIBUTES if hasattr(stream, n)), stream)
    if isinstance(found, bool) or not isinstance(found, int):
        raise DeviceError(f"{stream!r} is no CUDA stream")
    if found == PER_THREAD:
        raise DeviceError("a thread's default stream is another one in each thread: make a stream")
    return found
