"""A GPU, through NVIDIA's cuda.core.

Memory comes from the driver's stream-ordered pool; nothing is taken in advance. The default
stream is CUDA's legacy one, which CuPy, PyTorch and Numba use too, so that arrays shared with
them need no more ordering. Kernels are PTX that the driver assembles. A launch's integers and the
table of its arguments are packed once; a call writes its addresses into them.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fusec.codegen.ptxas import PROCESSORS
from fusec.errors import DeviceError, UnsupportedError
from fusec.ir.aval import is_bfloat
from fusec.runtime import cublas
from fusec.runtime.array import Array
from fusec.runtime.device import Buffer, Device, Launcher, OutOfMemory, Place, Stream

VECTOR = 16  # bytes that addresses of vector loads are multiples of
PRODUCTS = (cublas.product,)
"""What may do a matrix product, in order; where none does, our tiled kernel."""
BFLOAT = "NumPy knows bfloat16 from ml_dtypes: pip install 'fusec[bfloat16]'"
INSTALL = "pip install 'fusec[cuda12]' or 'fusec[cuda13]', whichever nvidia-smi shows"


def core() -> Any:
    """The module cuda.core. Raises DeviceError where it is not installed."""
    try:
        import cuda.core as module
    except ImportError as error:
        raise DeviceError(f"CUDA needs cuda.core ({error}): {INSTALL}") from None
    return module


def count() -> int:
    """How many GPUs the driver shows. Raises DeviceError where there is no driver."""
    module = core()
    try:
        return len(module.Device.get_all_devices())
    except Exception as error:
        raise DeviceError(
            f"no CUDA driver: {first_line(error)} Install NVIDIA's display driver (it is not a "
            "package of pip), or use the device 'simulator'; kernels can be compiled and read "
            "without one: f.lower(x, target='cuda:sm_90').compile()"
        ) from None


def newest(capability: int) -> str:
    """The newest architecture known here that a GPU runs; PTX of an older one is compiled too.

    >>> newest(90), newest(121)
    ('sm_90', 'sm_120')
    """
    known = [int(name[3:]) for name in PROCESSORS]
    return f"sm_{max([n for n in known if n <= capability], default=capability)}"


def first_line(error: BaseException) -> str:
    return str(error).strip().split("\n", 1)[0]


class Pinned:
    """Page-locked host memory that NumPy arrays look into."""

    def __init__(self, nbytes: int) -> None:
        self.buffer = core().LegacyPinnedMemoryResource().allocate(max(1, nbytes))
        self.__array_interface__ = {
            "shape": (nbytes,), "typestr": "|u1", "data": (int(self.buffer.handle), False),
            "version": 3,
        }  # fmt: skip


class _Foreign:
    """Another library's stream, kept alive for as long as ours is."""

    def __init__(self, handle: int, owner: Any) -> None:
        self.handle, self.owner = handle, owner

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self.handle


class CudaDevice(Device):
    """See the module."""

    replays = True

    def __init__(self, number: int) -> None:
        module = core()
        available = count()
        if number >= available:
            raise DeviceError(
                f"no device cuda:{number}: the driver shows {available} "
                "(CUDA_VISIBLE_DEVICES limits them)"
            )
        from cuda.bindings import driver

        super().__init__()
        self.number = number
        self._core, self._driver = module, driver
        os.register_at_fork(after_in_child=self._fork)
        device = self._use()
        self.arch = newest(int(device.arch))
        self.multiprocessors = device.properties.multiprocessor_count
        self.total = self._call(driver.cuDeviceTotalMem(device.device_id))
        self._pool = module.DeviceMemoryResource(number)
        self._kernels: dict[str, Any] = {}
        self.blas: Any = None  # cuBLAS' handles once they were asked for; False without it
        self.default_stream = Stream(self, module.LEGACY_DEFAULT_STREAM)

    def _fork(self) -> None:
        self.lost = True

    def _use(self) -> Any:
        """cuda.core's device of this thread, made current."""
        if self.lost:
            raise DeviceError("CUDA does not survive fork: start processes with 'spawn'")
        device = self._core.Device(self.number)
        device.set_current()
        return device

    def _call(self, result: tuple[Any, ...]) -> Any:
        """The value of a call of the driver. Raises DeviceError when it failed."""
        if int(result[0]):
            raise DeviceError(f"{self.name}: the driver reports {result[0].name}")
        return result[1] if len(result) > 1 else None

    # -- memory ---------------------------------------------------------------------------------

    def _allocate(self, nbytes: int, stream: Stream) -> tuple[int, Any]:
        self._use()
        try:
            owner = self._pool.allocate(max(1, nbytes), stream=stream.native)
        except Exception as error:
            if "OUT_OF_MEMORY" in str(error):
                raise OutOfMemory from None
            raise DeviceError(f"{self.name}: {first_line(error)}") from None
        return int(owner.handle), owner

    def _release(self, owner: Any, stream: Stream) -> None:
        self._use()
        owner.close(stream.native)

    def _upload(self, place: Place, data: np.ndarray, stream: Stream) -> None:
        self._use()
        target, source = place[0].address + place[1], data.ctypes.data
        handle = stream.native.handle
        self._call(self._driver.cuMemcpyHtoDAsync(target, source, data.nbytes, handle))

    def _download(self, data: np.ndarray, place: Place, stream: Stream) -> None:
        self._use()
        target, source = data.ctypes.data, place[0].address + place[1]
        handle = stream.native.handle
        self._call(self._driver.cuMemcpyDtoHAsync(target, source, data.nbytes, handle))

    def _copy(self, target: Place, source: Place, nbytes: int, stream: Stream) -> None:
        self._use()
        to, origin = target[0].address + target[1], source[0].address + source[1]
        self._call(self._driver.cuMemcpyDtoDAsync(to, origin, nbytes, stream.native.handle))

    def _zero(self, buffer: Buffer, stream: Stream) -> None:
        self._use()
        handle = stream.native.handle
        self._call(self._driver.cuMemsetD8Async(buffer.address, 0, buffer.nbytes, handle))

    def pinned(self, nbytes: int) -> np.ndarray:
        self._use()
        return np.asarray(Pinned(nbytes))

    # -- order ----------------------------------------------------------------------------------

    def _wait(self, stream: Stream, other: Stream) -> None:
        self._use()
        stream.native.wait(other.native)

    def _sync(self, stream: Stream | None) -> None:
        self._use()
        driver = self._driver
        if stream is None:
            self._call(driver.cuCtxSynchronize())
        else:
            self._call(driver.cuStreamSynchronize(stream.native.handle))

    def mark(self, stream: Stream) -> Callable[[], None]:
        self._use()
        event = stream.native.record()
        return lambda: event.sync()

    def enter(self) -> None:
        self._use()

    def new_stream(self) -> Stream:
        return Stream(self, self._use().create_stream())

    def _foreign(self, handle: int, owner: Any) -> Any:
        return self._use().create_stream(_Foreign(handle, owner))

    # -- kernels --------------------------------------------------------------------------------

    def prepare(self, kernel: Any, fastmath: bool) -> Launcher:
        for make in PRODUCTS if kernel.product else ():
            made = make(self, kernel, fastmath)
            if made is not None:
                return made
        return _Launch(self, kernel, fastmath)

    def function(self, kernel: Any, aligned: bool, fastmath: bool) -> Any:
        """The driver's handle of a kernel, compiled or found in the cache."""
        from fusec.runtime.cache import cache

        device = self._use()
        symbol, ptx = cache.ptx(
            kernel.text,
            kernel.int_names,
            kernel.ptr_types,
            self.arch,
            fastmath=fastmath,
            aligned=aligned,
        )
        with self.lock:
            if ptx not in self._kernels:
                try:
                    code = self._core.ObjectCode.from_ptx(ptx.encode(), name=symbol)
                    self._kernels[ptx] = code.get_kernel(symbol)
                except Exception as error:
                    raise DeviceError(
                        f"{self.name}: the driver refuses kernel {kernel.name} for {self.arch} "
                        f"({first_line(error)}); update the driver if it is older than the GPU"
                    ) from None
            loaded = self._kernels[ptx]
        most = loaded.attributes[device].max_threads_per_block
        if kernel.block[0] * kernel.block[1] > most:
            raise DeviceError(
                f"{self.name}: kernel {kernel.name} has blocks of {kernel.block} threads and the "
                f"device can run {most} of them"
            )
        return self._driver.CUfunction(int(loaded.handle))

    def capture(self, work: Callable[[Stream], None]) -> Callable[[Stream], None]:
        if self.blas:
            self.blas.get()  # a new handle allocates, which no graph can hold
        builder = self._use().create_graph_builder()
        try:
            builder.begin_building()
            try:
                work(Stream(self, builder.stream))
            finally:
                builder.end_building()  # raises where the work was not to be captured
            graph = builder.complete()
        except Exception as error:
            # Never collected: before 1.3 cuda.core frees the graph of an invalid capture twice.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(builder))
            raise DeviceError(f"{self.name}: {first_line(error)}") from None

        def replay(stream: Stream) -> None:
            self._use()
            graph.launch(stream.native)

        return replay

    def export(self, array: Array, stream: Stream, options: dict[str, Any]) -> Any:
        """A DLPack capsule of an array whose values are ready on ``stream``."""
        self._use()
        if options.pop("dl_device", None) not in (None, array.__dlpack_device__()):
            raise BufferError(f"{array!r} is shared where it is: copy_to_host brings it home")
        if options.pop("copy", None):
            array = array.copy("K")  # type: ignore[attr-defined]
        consumer = options.get("stream")
        if consumer != -1:  # -1: the consumer orders itself; None: the legacy default stream
            other = self._core.Stream.from_handle(consumer or 1)
            if consumer not in (None, 1) or stream is not self.default_stream:
                other.wait(stream.native)
        low, span = array.extent
        start = array.buffer.address + array.offset
        memory = self._core.Buffer.from_handle(start, span + low, owner=array)
        strides = tuple([s // array.itemsize for s in array.strides])
        bfloat = is_bfloat(array.dtype)  # which cuda.core reads but does not export
        view = self._core.utils.StridedMemoryView.from_buffer(
            memory, array.shape, strides, dtype=np.dtype(np.uint16) if bfloat else array.dtype
        )
        capsule = view.__dlpack__(**options)
        return as_bfloat(capsule) if bfloat else capsule


def as_bfloat(capsule: Any) -> Any:
    """A DLPack capsule of 16-bit integers as one of bfloat16.

    The byte that tells its kind stands 20 bytes into the DLTensor, which is the first thing in a
    managed tensor and, since version 1 of DLPack, stands behind 32 bytes about it.
    """
    api, of = ctypes.pythonapi, ctypes.py_object(capsule)
    api.PyCapsule_GetPointer.restype = ctypes.c_void_p
    for name, place in ((b"dltensor", 20), (b"dltensor_versioned", 52)):
        if api.PyCapsule_IsValid(of, name):
            tensor = api.PyCapsule_GetPointer(of, name)
            ctypes.c_uint8.from_address(tensor + place).value = 4  # kDLBfloat
    return capsule


def adopt(x: Any) -> Array:
    """Somebody else's array on a GPU over the same memory, in order with the current stream.

    x: has ``__dlpack__`` or ``__cuda_array_interface__``. Raises DeviceError for other memory.
    """
    from fusec.runtime.device import get_device

    view_of = core().utils.StridedMemoryView
    shown = x.__dlpack_device__() if hasattr(x, "__dlpack_device__") else (2, _device_of(x))
    if shown[0] not in (2, 13):  # DLPack's numbers for CUDA and its managed memory
        raise DeviceError(f"{type(x).__name__} is not in the memory of a GPU")
    device = get_device(f"cuda:{int(shown[1])}")
    stream = device.current()
    handle = stream.native.__cuda_stream__()[1]
    view = view_of.from_any_interface(x, stream_ptr=handle)
    strides = view.strides
    if strides is None:
        strides = c_order(view.shape)
    try:
        dtype = np.dtype(view.dtype)
    except NotImplementedError as error:  # bfloat16 without ml_dtypes
        raise UnsupportedError(f"{type(x).__name__}: {first_line(error)} {BFLOAT}") from None
    buffer = Buffer(device, int(view.ptr), 0, view, stream)
    return Array(buffer, 0, tuple(view.shape), dtype, tuple([s * dtype.itemsize for s in strides]))


def _device_of(x: Any) -> int:
    """The number of the GPU that holds ``x``."""
    from cuda.bindings import driver

    attribute = driver.CUpointer_attribute.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL
    address = x.__cuda_array_interface__["data"][0]
    if not address:  # an array without elements
        return 0
    error, number = driver.cuPointerGetAttribute(attribute, address)
    if int(error):
        raise DeviceError(f"{type(x).__name__} is not in the memory of a GPU: {error.name}")
    return int(number)


def c_order(shape: Sequence[int]) -> tuple[int, ...]:
    """The strides of C order, in elements."""
    steps = np.cumprod([1, *[max(1, n) for n in reversed(shape)]])[:-1]
    return tuple([int(n) for n in reversed(steps)])


class _Launch:
    """One launch of a program; its executor lets one thread at a time call it."""

    def __init__(self, device: CudaDevice, kernel: Any, fastmath: bool) -> None:
        ints = [value for _, value in kernel.ints]
        total = len(ints) + len(kernel.ptr_types) + 1
        self.values = (ctypes.c_int64 * total)(*ints)
        base = ctypes.addressof(self.values)
        self.table = (ctypes.c_void_p * total)(*[base + 8 * k for k in range(total)])
        self.first = len(ints)
        self.device, self.kernel, self.fastmath = device, kernel, fastmath
        self.shape = (*kernel.grid, 1, *kernel.block, 1, 0)
        self.functions: dict[bool, Any] = {}  # by whether all addresses allow vector loads

    def __call__(self, pointers: Sequence[Place], status: Buffer, stream: Stream) -> None:
        low = 0
        for k, (buffer, offset) in enumerate(pointers, self.first):
            self.values[k] = address = buffer.address + offset
            low |= address
        self.values[len(self.values) - 1] = status.address
        aligned = self.kernel.aligned and low % VECTOR == 0
        function = self.functions.get(aligned)
        if function is None:
            function = self.device.function(self.kernel, aligned, self.fastmath)
            self.functions[aligned] = function
        (error,) = self.device._driver.cuLaunchKernel(
            function, *self.shape, stream.native.handle, ctypes.addressof(self.table), 0
        )
        if int(error):
            raise DeviceError(
                f"{self.device.name}: kernel {self.kernel.name} with grid {self.kernel.grid} and "
                f"block {self.kernel.block}: {error.name}"
            )
