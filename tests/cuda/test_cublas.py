"""What cuBLAS is told of a matrix product, without cuBLAS: a fake computes what the calls mean."""

import ctypes
import itertools
from threading import RLock
from types import SimpleNamespace

import ml_dtypes
import numpy as np
import pytest
from simulated import program

import fusec
from fusec.codegen.cuda_matmul import matmul_kernel
from fusec.runtime import cublas
from fusec.runtime.cuda import CudaDevice
from fusec.runtime.device import get_device

RNG = np.random.default_rng(0)
DTYPES = {"bf2": np.dtype(ml_dtypes.bfloat16)}


class Library:
    """cuBLAS over host memory: columns first, and as strict about its arguments."""

    def __init__(self, memory):
        self.spans = [(x.ctypes.data, x.ctypes.data + x.nbytes) for x in memory]
        self.calls, self.stream, self.workspace = [], None, None

    def create(self):
        return 7

    def destroy(self, handle):
        assert handle == 7

    def set_stream(self, handle, stream):
        self.stream, self.workspace = stream, None  # as cuBLAS does

    def set_workspace(self, handle, address, nbytes):
        self.workspace = (address, nbytes)

    def matrix(self, address, dtype, rows, columns, leading, step, count):
        assert leading >= max(1, rows)
        size = dtype.itemsize
        strides = (step * size, size, leading * size)
        last = sum((n - 1) * s for n, s in zip((count, rows, columns), strides)) + size
        assert any(a <= address and address + last <= b for a, b in self.spans)
        memory = (ctypes.c_uint8 * last).from_address(address)
        return np.ndarray((count, rows, columns), dtype, memory, 0, strides)

    def gemm_strided_batched_ex(
        self, handle, turn_a, turn_b, m, n, k, alpha, a, kind_a, lead_a, step_a,
        b, kind_b, lead_b, step_b, beta, c, kind_c, lead_c, step_c, count, compute, algorithm,
    ):  # fmt: skip
        assert handle == 7 and self.workspace is not None and kind_a == kind_b
        name, kind = next((x, y) for x, y in cublas.KINDS.items() if y.data == kind_a)
        assert kind_c == kind.result
        factor, dtype = np.dtype(kind.factor), DTYPES.get(name, np.dtype(name.removeprefix("b")))
        for address, value in ((alpha, 1), (beta, 0)):
            memory = (ctypes.c_uint8 * factor.itemsize).from_address(address)
            assert np.frombuffer(memory, factor)[0] == value
        shapes = [(k, m) if turn_a else (m, k), (n, k) if turn_b else (k, n)]
        x = self.matrix(a, dtype, *shapes[0], lead_a, step_a, count)
        y = self.matrix(b, dtype, *shapes[1], lead_b, step_b, count)
        x, y = (v.swapaxes(1, 2) if turn else v for v, turn in ((x, turn_a), (y, turn_b)))
        given = dtype if kind_a == kind_c else np.dtype("f4")
        result = self.matrix(c, given, m, n, lead_c, step_c, count)
        result[...] = (x.astype(factor) @ y.astype(factor)).astype(given)
        self.calls.append((m, n, k, count, compute))


def device(library):
    """A device as far as products need it."""
    made = SimpleNamespace(
        name="cuda:0", arch="sm_90", lock=RLock(), _use=lambda: None, blas=None
    )
    made.blas = cublas.Handles(made, library)
    return made


def layout(x, axes):
    lead = axes - x.ndim
    return (1,) * lead + x.shape, (0,) * lead + tuple([s // x.itemsize for s in x.strides])


def root(x):
    while x.base is not None:
        x = x.base
    return x


def multiply(a, b, out, fastmath=False):
    """``out[...] = a @ b`` by calls of the fake, or None where our kernel has to."""
    kernel = matmul_kernel(*[layout(x, out.ndim) for x in (a, b, out)], a.dtype)
    library = Library([root(x) for x in (a, b, out)])
    made = cublas.product(device(library), kernel, fastmath)
    if made is None:
        return None
    places = [(SimpleNamespace(address=x.ctypes.data), 0) for x in (a, b, out)]
    room = (SimpleNamespace(address=1 << 20), 0)
    stream = SimpleNamespace(native=SimpleNamespace(handle=5))
    made([*places, room], None, stream)
    assert library.stream == 5 and library.workspace == (1 << 20, 32 << 20)
    return library.calls


def sample(*shape, dtype="f8"):
    values = RNG.integers(-4, 5, shape).astype(dtype)
    return values + 1j * values[::-1] if np.dtype(dtype).kind == "c" else values


def result(a, b):
    shape = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    dtype = "f4" if a.dtype == DTYPES["bf2"] else a.dtype
    return np.full((*shape, a.shape[-2], b.shape[-1]), 99, dtype)


#: name: (operands, calls), with the products that one call does
LAYOUTS = {
    "plain": (lambda: (sample(3, 4), sample(4, 5)), 1),
    "first transposed": (lambda: (sample(4, 3).T, sample(4, 5)), 1),
    "second transposed": (lambda: (sample(3, 4), sample(5, 4).T), 1),
    "both transposed": (lambda: (sample(4, 3).T, sample(5, 4).T), 1),
    "with itself": (lambda: (lambda x: (x, x.T))(sample(3, 4)), 1),
    "parts of rows": (lambda: (sample(3, 9)[:, 2:6], sample(4, 9)[:, 3:8]), 1),
    "parts of columns": (lambda: (sample(9, 3).T[:, 2:6], sample(9, 9).T[1:5, 2:]), 1),
    "every other row": (lambda: (sample(6, 4)[::2], sample(8, 5)[::2]), 1),
    "every other column": (lambda: (sample(3, 8)[:, ::2], sample(4, 5)), None),
    "backwards": (lambda: (sample(3, 4)[::-1], sample(4, 5)), None),
    "overlapping rows": (
        lambda: (np.lib.stride_tricks.sliding_window_view(sample(6), 4), sample(4, 5)), None,
    ),
    "broadcast rows": (lambda: (np.broadcast_to(sample(4), (3, 4)), sample(4, 5)), None),
    "row": (lambda: (sample(1, 4), sample(4, 5)), 1),
    "column": (lambda: (sample(3, 4), sample(4, 1)), 1),
    "outer": (lambda: (sample(3, 1), sample(1, 5)), 1),
    "number": (lambda: (sample(1, 1), sample(1, 1)), 1),
    "column of a matrix": (lambda: (sample(3, 4), sample(4, 7)[:, 2:3]), 1),
    "row with gaps": (lambda: (sample(9, 4).T[1:2, ::2][:, :4], sample(4, 5)), 1),
    "batch": (lambda: (sample(6, 3, 4), sample(6, 4, 5)), 1),
    "batches": (lambda: (sample(2, 3, 3, 4), sample(2, 3, 4, 5)), 1),
    "batch with weights": (lambda: (sample(6, 3, 4), sample(4, 5)), 1),
    "batches with weights": (lambda: (sample(2, 3, 1, 4), sample(4, 5)), 1),
    "weights with a batch": (lambda: (sample(3, 4), sample(6, 4, 5)), 1),
    "every other of a batch": (lambda: (sample(6, 3, 4)[::2], sample(3, 4, 5)), 1),
    "backwards batch": (lambda: (sample(6, 3, 4)[::-1], sample(6, 4, 5)), 6),
    "heads": (
        lambda: tuple(sample(2, 5, 3, 4).transpose(0, 2, *t) for t in ((1, 3), (3, 1))), 2,
    ),
    "crossed batches": (lambda: (sample(2, 1, 3, 4), sample(5, 4, 2)), 2),
    "too many calls": (lambda: (sample(70, 1, 3, 4)[::-1], sample(70, 4, 2)), 70),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts(name):
    make, count = LAYOUTS[name]
    a, b = make()
    out = result(a, b)
    calls = multiply(a, b, out)
    assert (None if calls is None else len(calls)) == (count if count != 70 else None)
    if calls is not None:
        np.testing.assert_array_equal(out, a @ b)


@pytest.mark.parametrize("order", [*itertools.permutations(range(3))], ids=str)
def test_operands_and_results_in_every_order_of_axes(order):
    found = 0
    for other in itertools.permutations(range(3)):
        a, b = (
            sample(*[n[k] for k in o]).transpose(np.argsort(o))
            for n, o in (((2, 3, 4), order), ((2, 4, 5), other))
        )
        for last in itertools.permutations(range(3)):
            out = np.empty([(2, 3, 5)[k] for k in last]).transpose(np.argsort(last))
            if multiply(a, b, out) is not None:
                np.testing.assert_array_equal(out, a @ b)
                found += 1
    assert found == (0 if order[-1] == 0 else 16)  # of 36: those whose matrices have unit steps


@pytest.mark.parametrize("dtype", ["f2", "bfloat16", "f4", "f8", "c8", "c16"])
@pytest.mark.parametrize("fastmath", [False, True])
def test_dtypes_and_their_arithmetic(dtype, fastmath):
    a, b = sample(3, 4, dtype=dtype), sample(4, 5, dtype=dtype)
    out = result(a, b)
    ((*_, compute),) = multiply(a, b, out, fastmath)
    np.testing.assert_array_equal(out, a @ b)
    assert (compute == 77) is (fastmath and dtype in ("f4", "c8"))  # TF32 when asked for


@pytest.mark.parametrize("dtype", ["i4", "u1"])
def test_integers_are_for_our_kernel(dtype):
    a = sample(3, 3, dtype=dtype)
    assert multiply(a, a, result(a, a)) is None


def test_sizes_beyond_what_the_library_counts():
    a, b = ((2, 1 << 31), (1 << 31, 1)), ((1 << 31, 2), (2, 1))
    assert cublas.gemm(a, b, ((2, 2), (2, 1))) is None


def test_numbers_are_those_of_the_binding():
    binding = pytest.importorskip("nvmath.bindings.cublas")
    from nvmath import CudaDataType

    names = {"f2": "R_16F", "bf2": "R_16BF", "f4": "R_32F", "f8": "R_64F", "c8": "C_32F",
             "c16": "C_64F"}  # fmt: skip
    for name, kind in cublas.KINDS.items():
        assert kind.data == CudaDataType[f"CUDA_{names[name]}"]
        given = "R_32F" if name == "bf2" else names[name]
        assert kind.result == CudaDataType[f"CUDA_{given}"]
        assert kind.compute == binding.ComputeType[
            "COMPUTE_64F" if name in ("f8", "c16") else "COMPUTE_32F"
        ]
        if kind.fast != kind.compute:
            assert kind.fast == binding.ComputeType.COMPUTE_32F_FAST_TF32
    assert binding.GemmAlgo.DEFAULT == cublas.GEMM_DEFAULT
    assert (binding.Operation.N, binding.Operation.T) == (0, 1)
    said = binding.gemm_strided_batched_ex.__doc__
    assert said.count(",") == 22  # as many arguments as the fake has


def test_without_the_library_our_kernel_runs(monkeypatch):
    def missing():
        raise ImportError("nvmath")

    monkeypatch.setattr(cublas, "binding", missing)
    made = object.__new__(CudaDevice)
    made.name, made.arch, made.lock, made.blas = "cuda:0", "sm_90", RLock(), None
    kernel = program(lambda x: x @ x, np.ones((4, 4)), target="cuda").kernels[0]
    launcher = made.prepare(kernel, False)
    assert made.blas is False and launcher.kernel is kernel
    assert made.prepare(kernel, False).kernel is kernel  # and it is not looked for again


def test_its_memory_is_the_programs(monkeypatch):
    """A temporary of the executor, so that runs on other streams wait for it."""
    null = get_device("null:990")
    prepare, seen = null.prepare, []

    def with_room(kernel, fastmath):
        launch = prepare(kernel, fastmath)

        def call(pointers, status, stream):
            seen.append([buffer.nbytes for buffer, _ in pointers])
            launch(pointers, status, stream)

        call.workspace = 4096 if kernel.product else 0
        return call

    monkeypatch.setattr(null, "prepare", with_room)
    x = fusec.to_device(np.ones((3, 3)), null)
    f = fusec.jit(lambda x: (x @ x).sum(axis=0) @ x)
    for _ in range(3):
        f(x)
    assert {len(sizes) for sizes in seen} == {2, 4}
    assert all(sizes[-1] >= 4096 for sizes in seen if len(sizes) == 4)
