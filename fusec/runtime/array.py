"""``fusec.Array``: shape, dtype and strides over the memory of a device.

This module knows metadata and copies. What computes (operators, NumPy functions, methods such as
``sum``) is attached by ``fusec/arrays.py``.
"""

from __future__ import annotations

import math
from contextvars import ContextVar
from typing import Any, NamedTuple

import numpy as np

from fusec.errors import DeviceError, UnsupportedError
from fusec.ir.aval import is_number
from fusec.runtime.device import Buffer, Device, Stream
from fusec.runtime.shadow import extent, shadow
from fusec.runtime.transfers import transferred

recording: ContextVar[Any] = ContextVar("fusec recording", default=None)  # of a Tape
_SPAN = 2  # a strided array is read whole where that is at most so many times its own bytes
_SMALL = 1 << 16  # bytes below which it always is


class Flags(NamedTuple):
    """The flags that NumPy's ``ndarray.flags`` shares."""

    c_contiguous: bool
    f_contiguous: bool
    writeable: bool = True


class Array(np.lib.mixins.NDArrayOperatorsMixin):
    """An array in the memory of a device. Made by ``fusec.to_device`` and by jitted functions.

    shape, strides (bytes), dtype, ndim, size, nbytes, T: as NumPy's. device: its name.
    Operators, NumPy functions and methods run on the device, one compiled op at a time; a jitted
    function fuses them. Basic indexing gives views. A view keeps the memory alive.

    >>> import numpy as np, fusec
    >>> x = fusec.to_device(np.ones((3, 4), "f4"), "null")
    >>> x, x.T[1:].shape, len(x), x.nbytes
    (<fusec.Array float32[3,4] on null>, (3, 3), 3, 48)
    """

    __slots__ = ("__weakref__", "buffer", "dtype", "offset", "shape", "strides", "waits")
    __fusec_array__ = True
    __array_priority__ = 500
    __hash__ = None  # type: ignore[assignment]

    def __init__(
        self,
        buffer: Buffer,
        offset: int,
        shape: tuple[int, ...],
        dtype: np.dtype,
        strides: tuple[int, ...],
    ) -> None:
        self.buffer, self.offset, self.shape = buffer, offset, shape
        self.dtype, self.strides = dtype, strides
        self.waits: Any = None  # the recording that will give it memory

    def __getattr__(self, name: str) -> Any:
        if name not in ("buffer", "offset"):
            raise AttributeError(f"'Array' object has no attribute {name!r}")
        self.waits.flush()
        return getattr(self, name)

    device = property(lambda self: self.buffer.device.name)
    place = property(lambda self: (self.buffer, self.offset))

    @property
    def extent(self) -> tuple[int, int]:
        """Its lowest byte relative to its first element, and the bytes from there to its last."""
        return extent(self.shape, self.strides, self.dtype)

    @property
    def flags(self) -> Flags:
        flags = self.like.flags
        return Flags(flags.c_contiguous, flags.f_contiguous)

    @property
    def like(self) -> np.ndarray:
        """An array of the same layout over memory that holds nothing."""
        return shadow(self.shape, self.dtype, self.strides)

    @property
    def host(self) -> np.ndarray:
        """NumPy's view of an array in the memory of the host."""
        self.resolve()
        if not self.size:
            return np.empty(self.shape, self.dtype)
        return np.ndarray(self.shape, self.dtype, self.buffer.owner, self.offset, self.strides)

    ndim = property(lambda self: len(self.shape))
    size = property(lambda self: math.prod(self.shape))
    itemsize = property(lambda self: self.dtype.itemsize)
    nbytes = property(lambda self: math.prod(self.shape) * self.dtype.itemsize)

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of unsized object")
        return self.shape[0]

    def __repr__(self) -> str:
        sizes = ",".join(map(str, self.shape))
        return f"<fusec.Array {self.dtype.name}[{sizes}] on {self.device}>"

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        return NotImplemented

    # -- views ----------------------------------------------------------------------------------

    def view_as(self, like: np.ndarray, of: np.ndarray) -> Array | None:
        """The same view of this array as ``like`` is of ``of``; None where NumPy copied."""
        if like.size and (like is not of) and not np.may_share_memory(like, of):
            return None
        offset = like.ctypes.data - of.ctypes.data if like.size else 0
        return Array(self.buffer, self.offset + offset, like.shape, like.dtype, like.strides)

    def __getitem__(self, index: Any) -> Any:
        items = index if isinstance(index, tuple) else (index,)
        if recording.get() is not None or not all(is_basic(i) for i in items):
            return self._select(index)
        of = self.like
        return self.view_as(of[(*items, ...) if ... not in items else items], of)

    def _select(self, index: Any) -> Any:
        raise UnsupportedError("indexing by arrays")

    _method: Any = None  # likewise

    def transpose(self, *axes: Any) -> Any:
        """The axes in another order, as a view."""
        if recording.get() is not None:
            return self._method("transpose", *axes)
        of = self.like
        return self.view_as(of.transpose(*axes), of)

    T = property(lambda self: self.transpose())
    mT = property(lambda self: self.swapaxes(-1, -2))

    # -- to the host ----------------------------------------------------------------------------

    def copy_to_host(self, out: np.ndarray | None = None, stream: Any = None) -> Any:
        """A NumPy array with the same values; waits for them.

        out: receives the values, of this shape and dtype. With ``out`` and ``stream`` the copy only
        starts: ``out`` is complete after ``stream.synchronize()``; pinned memory lets it overlap.
        Raises what a kernel that computed the values found wrong.

        >>> import numpy as np, fusec
        >>> fusec.to_device(np.ones(2), "null").copy_to_host().shape
        (2,)
        """
        on = None if stream is None else self.buffer.device.stream(stream)
        return self._to_host("copy_to_host", "", out, on)

    def _to_host(
        self, name: str, hidden: str, out: np.ndarray | None = None, stream: Stream | None = None
    ) -> np.ndarray:
        if out is not None and (out.shape != self.shape or out.dtype != self.dtype):
            raise ValueError(f"out is {out.dtype.name}{out.shape}, not {self!r}")
        self.resolve()
        low, span = self.extent
        if span > _SPAN * self.nbytes and span > _SMALL:
            return self.copy("K")._to_host(name, hidden, out, stream)  # type: ignore[no-any-return]
        transferred("to host", name, span, hidden)
        device = self.buffer.device
        on = stream or device.current()
        self.buffer.reading(on)
        direct = out is not None and span == self.nbytes and out.strides == self.strides
        memory = bytes_of(out, low, span) if direct else np.empty(span, np.uint8)
        if span:
            device._download(memory, (self.buffer, self.offset + low), on)
        if not (direct and stream):
            device._sync(on)
        if direct:
            return out  # type: ignore[return-value]
        found = np.ndarray(self.shape, self.dtype, memory, -low, self.strides)
        if out is None:
            return found if span == self.nbytes else found.copy("K")
        out[...] = found
        return out

    def resolve(self) -> None:
        """Raise what the kernels that computed this array found wrong."""
        checks, self.buffer.checks = self.buffer.checks, ()
        for k, check in enumerate(checks):
            try:
                check.resolve()
            except BaseException:
                self.buffer.checks = checks[k:]
                raise

    def __bytes__(self) -> bytes:
        return np.asarray(self).tobytes()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError(f"{self!r} is in another memory: np.asarray copies it to the host")
        found = self._to_host("np.asarray", "")
        return found if dtype is None else found.astype(dtype, copy=False)

    def item(self, *index: int) -> Any:
        """The only element, or the one at ``index``, as a Python number."""
        if index:
            return self[index].item()
        if self.size != 1:
            raise ValueError("can only convert an array of size 1 to a Python scalar")
        return self._to_host("item", "").item()

    def tolist(self) -> Any:
        """Nested lists of Python numbers."""
        return self._to_host("tolist", "").tolist()

    def __bool__(self) -> bool:
        if self.size != 1:
            raise ValueError(
                "The truth value of an array with more than one element is ambiguous. "
                "Use a.any() or a.all()"
            )
        return bool(self.item())

    def _number(self) -> Any:
        if self.ndim:
            raise TypeError("only 0-dimensional arrays can be converted to Python scalars")
        return self.item()

    def __float__(self) -> float:
        return float(self._number())

    def __int__(self) -> int:
        return int(self._number())

    def __complex__(self) -> complex:
        return complex(self._number())

    def __index__(self) -> int:
        if self.ndim or self.dtype.kind not in "iu":
            raise TypeError("only integer scalar arrays can be converted to a scalar index")
        return int(self.item())

    # -- shared without a copy ------------------------------------------------------------------

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        if not hasattr(self.buffer.device, "export"):
            raise AttributeError(f"{self!r} is not in the memory of a GPU")
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self.buffer.address + self.offset if self.size else 0, False),
            "strides": None if self.flags.c_contiguous else self.strides,
            "version": 3,
            "stream": self._settled().native.__cuda_stream__()[1] or 1,
        }

    def _settled(self) -> Stream:
        """The current stream, behind everything that wrote this array."""
        self.resolve()
        stream = self.buffer.device.current()
        self.buffer.writing(stream)
        return stream

    def __dlpack_device__(self) -> tuple[int, int]:
        device = self.buffer.device
        return (1, 0) if device.on_host else (2, getattr(device, "number", 0))

    def __dlpack__(self, **options: Any) -> Any:
        device: Any = self.buffer.device
        if device.on_host:
            return self.host.__dlpack__(**{k: v for k, v in options.items() if k != "stream"})
        if not hasattr(device, "export"):
            raise BufferError(f"{self!r} has no memory to share")
        return device.export(self, self._settled(), options)


def is_basic(i: Any) -> bool:
    """Whether an index selects a view; what is no index at all is left to NumPy to refuse."""
    if isinstance(i, np.generic):
        return not isinstance(i, np.bool)
    return not isinstance(i, bool | list | tuple) and not hasattr(type(i), "__array__")


def bytes_of(array: Any, low: int, span: int) -> np.ndarray:
    """The bytes of a dense host array."""
    order = sorted(range(array.ndim), key=lambda k: -abs(array.strides[k]))
    turned = array[(*[slice(None, None, -1 if s < 0 else 1) for s in array.strides], ...)]
    return turned.transpose(order).reshape(-1).view(np.uint8)  # type: ignore[no-any-return]


# -- making arrays --------------------------------------------------------------------------------


def empty(
    device: Device,
    shape: tuple[int, ...],
    dtype: np.dtype,
    strides: tuple[int, ...],
    stream: Stream | None = None,
) -> Array:
    """Fresh memory of a device for an array with these strides (bytes)."""
    low, span = extent(shape, strides, dtype)
    buffer = device.allocate(span, stream or device.current())
    return Array(buffer, -low, shape, dtype, strides)


def upload(
    device: Device, x: Any, name: str, hidden: str = "", stream: Stream | None = None
) -> Array:
    """A host array on a device, in the same order of axes.

    Without ``stream`` the values are taken when this returns. Raises UnsupportedError for dtypes
    that no device has.
    """
    x = np.asarray(x)
    if not is_number(x.dtype):
        raise UnsupportedError(f"{name} has dtype {x.dtype}: a device holds numbers and booleans")
    order, strides = dense_strides(x)
    turned = x.transpose(order)
    dense = np.ascontiguousarray(turned, x.dtype.newbyteorder("=")).reshape(turned.shape)
    transferred("to device", name, dense.nbytes, hidden)
    on = stream or device.current()
    made = Array(device.allocate(dense.nbytes, on), 0, x.shape, dense.dtype, strides)
    if dense.nbytes:
        device._upload((made.buffer, 0), dense.reshape(-1).view(np.uint8), on)
        if stream is None:
            device._sync(on)
    return made


def dense_strides(x: np.ndarray) -> tuple[list[int], tuple[int, ...]]:
    """The axes of an array from the slowest, and the strides of a copy without gaps."""
    order = sorted(range(x.ndim), key=lambda k: -abs(x.strides[k]))
    strides, step = [0] * x.ndim, x.itemsize
    for k in reversed(order):
        strides[k] = step
        step *= max(1, x.shape[k])
    return order, tuple(strides)


def overwrite(target: Array, source: Array, stream: Stream) -> bool:
    """Copy bytes between arrays of one layout; False where a kernel has to do it."""
    low, span = target.extent
    if source.dtype != target.dtype or source.shape != target.shape:
        return False
    if target.buffer.device.native:
        target.buffer.writing(stream)
        target.host[...] = source.host
        return True
    if span != target.nbytes or (source.strides != target.strides and target.size > 1):
        return False
    if span:
        source.buffer.reading(stream)
        target.buffer.writing(stream)
        target.buffer.device._copy(
            (target.buffer, target.offset + low), (source.buffer, source.offset + low), span, stream
        )
    target.buffer.checks = tuple({*target.buffer.checks, *source.buffer.checks})
    return True


def overlap(a: Array, b: Array) -> bool:
    """Whether two arrays may share memory; somebody else's may lie in any buffer."""
    if a.buffer is not b.buffer and a.buffer.number and b.buffer.number:
        return False
    if a.buffer.device is not b.buffer.device:
        return False
    n, n2 = [x.extent[1] for x in (a, b)]
    first, second = [x.buffer.address + x.offset + x.extent[0] for x in (a, b)]
    return first < second + n2 and second < first + n


def same_device(arrays: Any) -> Device | None:
    """The device of all arrays, or None without any. Raises DeviceError for two devices."""
    devices = {a.buffer.device.name: a.buffer.device for a in arrays}
    if len(devices) > 1:
        raise DeviceError(
            f"arrays on {' and '.join(sorted(devices))} in one call: move one of them, "
            f'fusec.to_device(x, "{min(devices)}")'
        )
    return next(iter(devices.values()), None)
