"""Matrix products through cuBLAS, which nvmath-python binds.

cuBLAS computes ``C = op(A) op(B)`` over matrices whose columns are contiguous. Strides decide what
it is told: a matrix with contiguous rows is called transposed, and a result with contiguous rows
is computed as ``C^T = B^T A^T``. So views and batches are read where they lie. float32 is not
rounded to TF32 unless ``fastmath`` says so. The memory it works in belongs to the program, so that
captured calls are ordered like all others. What cuBLAS cannot be told takes our tiled kernel.
"""

from __future__ import annotations

import itertools
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fusec.codegen.cuda_matmul import Layout
from fusec.config import log
from fusec.errors import DeviceError
from fusec.ir.aval import short
from fusec.runtime.device import Buffer, Place, Stream

if TYPE_CHECKING:
    from fusec.runtime.cuda import CudaDevice

MAX_CALLS = 64  # of one product whose batch axes have no common stride
LIMIT = 1 << 31  # sizes are C's int
GEMM_DEFAULT = -1  # cublasGemmAlgo_t


class Kind(NamedTuple):
    """How cuBLAS computes a dtype: cudaDataType_t, cublasComputeType_t, the factors' dtype.

    fast: the compute type that ``fastmath`` allows. result: the result's cudaDataType_t.
    """

    data: int
    compute: int
    fast: int
    factor: str
    result: int


KINDS = {
    "bf2": Kind(14, 68, 68, "f4", 0),  # CUDA_R_16BF, summed and given in float32
    "f2": Kind(2, 68, 68, "f4", 2),  # CUDA_R_16F, summed in float32
    "f4": Kind(0, 68, 77, "f4", 0),  # CUDA_R_32F; fast: COMPUTE_32F_FAST_TF32
    "f8": Kind(1, 70, 70, "f8", 1),  # CUDA_R_64F
    "c8": Kind(4, 68, 77, "c8", 4),  # CUDA_C_32F
    "c16": Kind(5, 70, 70, "c16", 5),  # CUDA_C_64F
}


@dataclass(frozen=True)
class Gemm:
    """What cublasGemmStridedBatchedEx is told; sizes and steps in elements.

    swapped: its first operand is our second. transposed, leading: of A and B; of A, B and C.
    steps: of A, B and C from one matrix of the batch to the next. offsets: of A, B and C, a call
    for each.
    """

    swapped: bool
    transposed: tuple[int, int]
    sizes: tuple[int, int, int]
    leading: tuple[int, int, int]
    steps: tuple[int, int, int]
    count: int
    offsets: tuple[tuple[int, int, int], ...]


def gemm(a: Layout, b: Layout, out: Layout) -> Gemm | None:
    """The calls for ``out = a @ b``; None where cuBLAS has no words for the strides.

    a, b, out: shape and strides (in elements), all with as many axes.

    >>> one = gemm(((2, 3), (3, 1)), ((3, 4), (4, 1)), ((2, 4), (4, 1)))
    >>> one.swapped, one.sizes, one.leading
    (True, (4, 2, 3), (4, 3, 4))
    """
    batch = _merged(a, b, out)
    first, second, result = [(x[0][-2:], x[1][-2:]) for x in (a, b, out)]
    (rows, _), (down_a, across_a), (down, across) = first[0], first[1], result[1]
    for axis in [x for x in batch if x[2] == 0]:  # one matrix for all: the batch is more rows
        size, step_a, _, step = axis
        if rows == 1 or (step_a == rows * down_a and step == rows * down):
            (down_a, down) = (step_a, step) if rows == 1 else (down_a, down)
            rows *= size
            batch.remove(axis)
            break
    first = (rows, first[0][1]), (down_a, across_a)
    result = (rows, result[0][1]), (down, across)
    found = _told(first, second, result, batch, False)
    if found is None:
        turned = [(s[::-1], t[::-1]) for s, t in (second, first, result)]
        found = _told(*turned, [(n, y, x, z) for n, x, y, z in batch], True)  # type: ignore[arg-type]
    return found


def _merged(a: Layout, b: Layout, out: Layout) -> list[tuple[int, int, int, int]]:
    """The batch axes as (size, steps of a, b and out), joined where one step leads through both."""
    found: list[tuple[int, int, int, int]] = []
    for axis, size in enumerate(out[0][:-2]):
        steps = [t[axis] if s[axis] > 1 else 0 for s, t in (a, b, out)]
        if size == 1:
            continue
        if found and all(last == step * size for last, step in zip(found[-1][1:], steps)):
            size *= found.pop()[0]
        found.append((size, *steps))
    return found


def _told(
    a: Layout, b: Layout, out: Layout, batch: list[tuple[int, int, int, int]], swapped: bool
) -> Gemm | None:
    leading = _leading(out)
    given = [_operand(a), _operand(b)]
    if leading is None or None in given:
        return None
    (turned_a, leading_a), (turned_b, leading_b) = given  # type: ignore[misc]
    even = [x for x in batch if min(x[1:]) >= 0 and x[3] > 0]
    inner = max(even, default=(1, 0, 0, 0))
    outer = [x for x in batch if x is not inner]
    calls = int(np.prod([size for size, *_ in outer], dtype=np.int64))
    sizes = (out[0][0], out[0][1], a[0][1])
    if calls > MAX_CALLS or max(*sizes, leading_a, leading_b, leading, inner[0]) >= LIMIT:
        return None
    places = itertools.product(*[range(size) for size, *_ in outer])
    offsets = [
        tuple([sum([i * axis[k] for i, axis in zip(place, outer)]) for k in (1, 2, 3)])
        for place in places
    ]
    return Gemm(
        swapped,
        (turned_a, turned_b),
        sizes,
        (leading_a, leading_b, leading),
        inner[1:],
        inner[0],
        tuple(offsets),  # type: ignore[arg-type]
    )


def _operand(x: Layout) -> tuple[int, int] | None:
    """Whether a matrix is told transposed, and its leading dimension."""
    plain, turned = _leading(x), _leading((x[0][::-1], x[1][::-1]))
    return (0, plain) if plain is not None else (1, turned) if turned is not None else None


def _leading(x: Layout) -> int | None:
    """The elements from column to column, where columns are contiguous and do not overlap."""
    (rows, columns), (down, across) = x
    if rows > 1 and down != 1:
        return None
    if columns == 1:
        return rows
    return across if across >= rows else None


# -- the library ----------------------------------------------------------------------------------


def binding() -> Any:
    """nvmath's binding, with cuBLAS loaded. Raises ImportError and what nvmath raises."""
    from cuda.pathfinder import load_nvidia_dynamic_lib
    from nvmath.bindings import cublas

    load_nvidia_dynamic_lib("cublas")
    return cublas


class Handles:
    """cuBLAS on one device: a handle for each thread, since a handle has a stream."""

    def __init__(self, device: CudaDevice, library: Any) -> None:
        self.device, self.library = device, library
        self.local = threading.local()

    def get(self) -> int:
        """This thread's handle."""
        if not hasattr(self.local, "handle"):
            self.local.handle = _Handle(self.library)
        return self.local.handle.value  # type: ignore[no-any-return]


class _Handle:
    """Destroyed with its thread."""

    def __init__(self, library: Any) -> None:
        self.library, self.value = library, library.create()

    def __del__(self) -> None:
        if hasattr(self, "value") and not sys.is_finalizing():
            self.library.destroy(self.value)


def product(device: CudaDevice, kernel: Any, fastmath: bool) -> Product | None:
    """The calls that do what a matrix product's kernel does; None where our kernel has to."""
    kind = KINDS.get(short(kernel.pointers[0].dtype))
    told = gemm(*kernel.product)
    if kind is None or told is None:
        return None
    with device.lock:
        if device.blas is None:
            try:
                handles = Handles(device, binding())
                handles.get()
                device.blas = handles
            except Exception as error:
                log("launch", "matrix products without cuBLAS: %s", error)
                device.blas = False
    if not device.blas:
        return None
    sizes = [kernel.pointers[k].dtype.itemsize for k in (0, 2)]
    return Product(device.blas, told, kind, kind.fast if fastmath else kind.compute, *sizes)


class Product:
    """One matrix product of a program; its executor lets one thread at a time call it.

    workspace: bytes that the last pointer leads to; NVIDIA's recommendation.
    """

    def __init__(
        self, handles: Handles, told: Gemm, kind: Kind, compute: int, itemsize: int, given: int
    ) -> None:
        self.handles, self.told, self.kind = handles, told, kind
        self.compute, self.itemsize, self.given = compute, itemsize, given
        self.factors = np.array([1, 0], kind.factor)
        self.workspace = (32 if int(handles.device.arch[3:]) >= 90 else 4) << 20

    def __call__(self, pointers: Sequence[Place], status: Buffer, stream: Stream) -> None:
        handles, told, kind = self.handles, self.told, self.kind
        handles.device._use()
        first, second, out, room = [buffer.address + offset for buffer, offset in pointers]
        a, b = (second, first) if told.swapped else (first, second)
        one = self.factors.ctypes.data
        zero, size = one + self.factors.itemsize, self.itemsize
        library = handles.library
        try:
            handle = handles.get()
            library.set_stream(handle, int(stream.native.handle))
            library.set_workspace(handle, room, self.workspace)  # a new stream has forgotten it
            for at_a, at_b, at_c in told.offsets:
                library.gemm_strided_batched_ex(
                    handle, *told.transposed, *told.sizes, one,
                    a + at_a * size, kind.data, told.leading[0], told.steps[0],
                    b + at_b * size, kind.data, told.leading[1], told.steps[1], zero,
                    out + at_c * self.given, kind.result, told.leading[2], told.steps[2],
                    told.count, self.compute, GEMM_DEFAULT,
                )  # fmt: skip
        except Exception as error:
            raise DeviceError(f"{handles.device.name}: a matrix product: {error}") from None
