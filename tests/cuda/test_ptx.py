"""CUDA kernels without a GPU: PTX of the whole suite, assembled, and what must stand in it."""

import re
from threading import RLock
from types import SimpleNamespace

import numpy as np
import pytest
from simulated import program

import fusec
import kernels
from fusec.codegen.ptxas import occupancy, tool
from fusec.errors import DeviceError, UnsupportedError
from fusec.runtime.cuda import CudaDevice, newest

ARCHITECTURES = ("sm_80", "sm_90")
#: kernels of the suite that may spill registers, and why
SPILLING: dict[str, str] = {}
#: kernels whose registers leave few warps on a multiprocessor, and why
CROWDED = {"exponential_average": "all time steps of a series are results of one kernel"}
#: kernels whose float32 code computes with float64 at some place, and why
FLOAT64 = {
    "haversine": "sine and cosine reduce huge arguments in float64",
}


def assembler():
    try:
        return tool("ptxas")
    except UnsupportedError:
        return None


needs_ptxas = pytest.mark.skipif(assembler() is None, reason="needs ptxas")


def compiled(function, *args, arch="sm_90"):
    return fusec.jit(function).lower(*args, target=f"cuda:{arch}").compile()


@needs_ptxas
@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("kernel", kernels.suite(), ids=lambda k: k.name)
@pytest.mark.parametrize(("size", "dtype"), [("S", "f4"), ("M", "f8")])
def test_the_suite_assembles_without_spills(kernel, size, dtype, arch):
    all_of_them = compiled(kernel.function, *kernel.args(size, dtype), arch=arch).kernels
    for made in {k.source: k for k in all_of_them}.values():
        found = made.resources
        assert len(made.cubin) > 500
        if kernel.name not in SPILLING:
            assert (found.stack, found.spill_stores, found.spill_loads) == (0, 0, 0)
        # the matrix product keeps its sums in registers: few warps that each have much to do
        crowded = made.title == "matmul" or kernel.name in CROWDED
        assert found.occupancy >= (0.125 if crowded else 0.25)


@pytest.mark.parametrize("kernel", kernels.suite(), ids=lambda k: k.name)
def test_float32_kernels_compute_in_float32(kernel):
    args = list(kernel.args("S", "f4"))
    if not all(isinstance(a, np.ndarray) and a.dtype == np.float32 for a in args):
        pytest.skip("has arguments of other dtypes")
    for made in compiled(kernel.function, *args).kernels:
        wide = re.findall(r"(?:add|sub|mul|div|fma|sqrt)[.\w]*\.f64", made.ptx)
        numbers = [line for line in made.source.splitlines() if "cast_f8" in line]
        if kernel.name not in FLOAT64 and not numbers:
            assert not wide
        assert ".local" not in made.ptx


X = fusec.ShapeDtype((1 << 20,), "f4")
ROWS = fusec.ShapeDtype((512, 4096), "f4")


def test_elementwise_kernels_load_and_store_128_bits():
    (kernel,) = compiled(lambda x, y: x * 2 + y, X, X).kernels
    assert kernel.ptx.count("ld.global.nc.v4.b32") + kernel.ptx.count("ld.global.v4.b32") >= 2
    assert "st.global.v4.b32" in kernel.ptx
    assert (kernel.grid, kernel.block) == ((1024, 1), (256, 1))


def test_float16_is_loaded_wide_and_rounded_after_every_op():
    half = fusec.ShapeDtype((1 << 20,), "f2")
    (kernel,) = compiled(lambda x, y: np.exp(x * y) + y, half, half).kernels
    assert "ld.global.nc.v2.b32" in kernel.ptx or "ld.global.v2.b32" in kernel.ptx  # four of them
    assert kernel.source.count("cast_f2") == 2 * 3  # in the loop and in its tail
    assert "cvt.rn.f16.f32" in kernel.ptx and ".f64" not in kernel.ptx
    square = fusec.ShapeDtype((64, 64), "f2")
    (product,) = compiled(lambda x, y: x @ y, square, square).kernels
    assert "fma.rn.f32" in product.ptx and "fma.rn.f16" not in product.ptx


def test_shifted_views_do_without_wide_loads():
    (kernel,) = compiled(lambda x: x[1:] - x[:-1], X).kernels
    assert ".v4" not in kernel.ptx
    assert ".v2" not in kernel.ptx


def test_nothing_is_contracted_unless_asked_for():
    def axpy(x, y):
        return x * y + 1

    (exact,) = compiled(axpy, X, X).kernels
    assert "fma.rn.f32" not in exact.ptx
    (fast,) = fusec.jit(axpy, fastmath=True).lower(X, X, target="cuda:sm_90").compile().kernels
    assert "fma.rn.f32" in fast.ptx


def test_division_and_square_root_are_correctly_rounded():
    (kernel,) = compiled(lambda x, y: np.sqrt(x) / y, X, X).kernels
    assert "div.rn.f32" in kernel.ptx
    assert "sqrt.rn.f32" in kernel.ptx
    assert ".ftz" not in kernel.ptx
    assert ".approx" not in kernel.ptx


def test_transposes_go_through_shared_memory_without_bank_conflicts():
    square = fusec.ShapeDtype((1024, 1024), "f4")
    (kernel,) = compiled(lambda x: np.ascontiguousarray(x.T) + 1, square).kernels
    assert "shared_f4(1056)" in kernel.source
    assert (kernel.grid, kernel.block) == ((32, 32), (32, 8))
    assert kernel.ptx.count("ld.global") == kernel.ptx.count("st.global") == 4


@pytest.mark.parametrize("name", ["softmax", "layer_norm", "logsumexp", "cross_entropy"])
def test_row_programs_are_one_kernel(name):
    kernel = kernels.get(name)
    assert len(compiled(kernel.function, *kernel.args("S", "f4")).kernels) == 1


def test_softmax_reads_its_row_once():
    def softmax(x):
        e = np.exp(x - x.max(axis=-1, keepdims=True))
        return e / e.sum(axis=-1, keepdims=True)

    (kernel,) = compiled(softmax, ROWS).kernels
    assert kernel.block == (256, 1)
    loads = [x for x in kernel.source.splitlines() if "= x0[" in x]
    assert len(loads) == 2  # of the vector loop and of its tail
    assert len(re.findall(r"w_\w+ = shared_f4", kernel.source)) == 1
    assert "shfl.sync.bfly" in kernel.ptx


def test_matrix_products_are_kernels_that_read_operands_where_they_lie():
    w = fusec.ShapeDtype((64, 4096), "f4")
    low = fusec.jit(lambda x, w: np.maximum(x @ w.T + 1, 0)).lower(ROWS, w, target="cuda")
    assert len(low.kernels) == len(low.program.steps) == 2
    assert [k.block for k in low.kernels] == [(256, 1), (256, 1)]


def test_full_reductions_are_two_kernels_without_atomics():
    made = compiled(lambda x: x.sum(), X).kernels
    assert len(made) == 2
    assert not any("atom" in k.ptx for k in made)


def test_rows_are_counted_in_32_bits_where_they_fit():
    def shifted(x):
        return x + x[:1]

    few, many = (
        compiled(shifted, fusec.ShapeDtype((n, 5), "i1")).kernels[0] for n in (1000, 1 << 30)
    )
    assert "remainder_u4" in few.source and "div.u64" not in few.ptx and "rem.u64" not in few.ptx
    assert "remainder(" in many.source and "u4" not in many.source


def test_one_text_serves_all_sizes():
    texts = {program(lambda x: np.exp(x) + 1, np.ones(n, "f4"), target="cuda").kernels[0].text
             for n in (5, 1000, 100_001)}  # fmt: skip
    assert len(texts) == 1


def test_too_many_arguments_are_refused():
    from fusec.codegen.numba_cuda import compile_ptx

    names = tuple([f"n{k}" for k in range(600)])
    with pytest.raises(UnsupportedError, match="CUDA takes 511"):
        compile_ptx(f"def kernel({', '.join(names)}): return 0", names, ())


def test_occupancy_follows_registers_and_shared_memory():
    assert occupancy(32, 0, 256, "sm_90") == 1
    assert occupancy(255, 0, 256, "sm_90") == 0.125
    assert occupancy(32, 100 << 10, 256, "sm_80") == 0.125


def test_ptx_is_found_in_the_cache(tmp_path):
    from fusec.runtime.cache import KernelCache

    first, again = KernelCache(tmp_path), KernelCache(tmp_path)
    text = "from fusec.codegen.cuda_threads import *\ndef kernel(y):\n y[grid()] = 1\n return 0"
    one = first.ptx(text, (), (("y", "<i8"),), "sm_80")
    assert again.ptx(text, (), (("y", "<i8"),), "sm_80") == one
    assert again.stats()["disk_hits"] == 1
    assert first.ptx(text, (), (("y", "<i8"),), "sm_90")[1] != one[1]


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("fastmath", [False, True])
def test_the_driver_gets_the_code_that_was_asked_for(aligned, fastmath):
    given = []

    class Code:
        @staticmethod
        def from_ptx(ptx, name):
            given.append(ptx.decode())
            limits = SimpleNamespace(max_threads_per_block=1024)
            loaded = SimpleNamespace(attributes={None: limits}, handle=1)
            return SimpleNamespace(get_kernel=lambda symbol: loaded)

    device = object.__new__(CudaDevice)  # as far as it works without a driver
    device.name, device.arch, device.lock, device._kernels = "cuda:0", "sm_90", RLock(), {}
    device._use, device._core = lambda: None, SimpleNamespace(ObjectCode=Code)
    device._driver = SimpleNamespace(CUfunction=int)
    made = program(lambda x: x * x + x, np.ones(1000, "f4"), target="cuda")
    device.function(made.kernels[0], aligned, fastmath)
    assert ("fma.rn.f32" in given[0]) is fastmath
    assert ("ld.global.v4" in given[0]) is aligned


@needs_ptxas
@pytest.mark.parametrize("dtype", ["f8", "c16"])
def test_many_arrays_fit_shared_memory(dtype):
    def turned(y, *arrays):
        for x in arrays:
            y = y + x.T
        return y

    def columns(x):
        return [(x * k).sum(axis=0) for k in range(30)]

    x = fusec.ShapeDtype((100, 100), dtype)
    for made in (*compiled(turned, *[x] * 9).kernels, *compiled(columns, x).kernels):
        assert 0 < made.resources.shared <= 48 << 10


def disassembler():
    try:
        return assembler() and tool("nvdisasm")
    except UnsupportedError:
        return None


@pytest.mark.skipif(disassembler() is None, reason="needs ptxas and nvdisasm")
def test_machine_code_is_shown():
    (kernel,) = compiled(lambda x, y: x * 3 + y, X, X).kernels
    assert "LDG.E.128" in kernel.sass
    assert "FMUL" in kernel.sass
    assert "FFMA" not in kernel.sass


class Builder:
    """A graph builder whose capture the driver may refuse."""

    def __init__(self, refuses):
        self.refuses, self.stream, self.calls = refuses, "capturing", []

    def begin_building(self):
        self.calls.append("begin")

    def end_building(self):
        self.calls.append("end")
        if self.refuses == "end":
            raise RuntimeError("CUDA_ERROR_STREAM_CAPTURE_INVALIDATED: ...\nmore")

    def complete(self):
        if self.refuses == "complete":
            raise RuntimeError("Instantiation failed")
        return SimpleNamespace(launch=lambda stream: self.calls.append(stream))


def capturing(builder):
    """A device as far as capturing needs it."""
    device = object.__new__(CudaDevice)
    device.name, device.blas = "cuda:0", SimpleNamespace(get=lambda: builder.calls.append("handle"))
    device._use = lambda: SimpleNamespace(create_graph_builder=lambda: builder)
    return device


def test_work_is_captured_and_replayed():
    builder, seen = Builder(None), []
    replay = capturing(builder).capture(lambda on: seen.append(on.native))
    replay(SimpleNamespace(native="stream"))
    assert seen == ["capturing"]
    assert builder.calls == ["handle", "begin", "end", "stream"]  # no handle is made in between


@pytest.mark.parametrize("refuses", ["end", "complete", "work"])
def test_what_cannot_be_captured_is_a_device_error(refuses):
    builder = Builder(refuses)

    def work(on):
        if refuses == "work":
            raise DeviceError("not in a graph")

    with pytest.raises(DeviceError, match="cuda:0: "):
        capturing(builder).capture(work)
    assert builder.calls[-1] == "end"


def test_newer_processors_run_what_is_known():
    assert [newest(n) for n in (90, 100, 121, 88)] == ["sm_90", "sm_100", "sm_120", "sm_87"]


@pytest.mark.parametrize(
    ("function", "shapes", "least"),
    [
        (lambda x: x + x[:, :1], [(512, 4096), (64, 8192), (1 << 21, 1 << 12)], 4),
        (lambda x: x / x.sum(axis=1, keepdims=True), [(512, 4096), (64, 4000), (1 << 21, 4096)], 2),
        (lambda x: x[1:-1, 2:] - x[2:, 2:] * x[:-2, :-2],
         [(512, 4096), (64, 8192), (1 << 21, 4096)], 1),
    ],
)  # fmt: skip
def test_positions_have_32_bits_where_the_elements_are_few(function, shapes, least):
    """One text for all small arrays and one for all large ones; products of 64 bits are saved."""
    found = [compiled(function, fusec.ShapeDtype(s, "f4")).kernels for s in shapes]
    texts = [[k.source for k in kernels] for kernels in found]
    assert texts[0] == texts[1]
    assert ("low32(" in "".join(texts[0]), "low32(" in "".join(texts[2])) == (True, False)
    near, _, far = [
        sum(len(re.findall(r"(?:mul|mad)\.lo\.s64", k.ptx)) for k in kernels) for kernels in found
    ]
    assert near <= far - least
    wide = [sum(k.ptx.count(".v4.b32") for k in kernels) for kernels in found]
    assert wide[0] == wide[1] == wide[2]  # neighbours are still loaded at once


def test_explanations_name_who_computes_on_a_gpu():
    """A product is no call of NumPy; a real call waits for copies."""
    x, w = fusec.ShapeDtype((64, 32), "f4"), fusec.ShapeDtype((32, 16), "f4")
    low = fusec.jit(lambda x, w: np.sort(np.tanh(x @ w))).lower(x, w, target="cuda:sm_90")
    found = low.explain()
    product, call = [e.reason for e in found.edges]
    assert product == "matmul gives whole arrays: cuBLAS or a tiled kernel of ours computes it"
    assert call == "sort reads whole arrays: NumPy runs it"
    assert "copied to the host and back" in found.calls[0].why
    here = fusec.jit(lambda x, w: np.sort(x @ w)).lower(x, w).explain()
    assert not any("host" in c.why for c in here.calls)


def test_what_reads_a_scatter_waits_for_it():
    i, v = fusec.ShapeDtype((64,), "i8"), fusec.ShapeDtype((64,), "f8")
    low = fusec.jit(lambda i, v: np.bincount(i, v, 9) * 2).lower(i, v, target="cuda:sm_90")
    (edge,) = low.explain().edges
    assert edge.reason == "scatter_add is finished when it has added everything"


@pytest.mark.parametrize("shape, kernels", [((4096, 1024), 2), ((100_000, 40), 2),
    ((16384, 16384), 1), ((300, 64), 1)])  # fmt: skip
def test_few_columns_are_shared_by_blocks(shape, kernels):
    """A block has 32 columns; where there are few, each takes some of the rows."""
    x = fusec.ShapeDtype(shape, "f4")
    low = fusec.jit(lambda x: x.sum(axis=0)).lower(x, target="cuda:sm_90")
    assert len(low.kernels) == kernels
    across, down = low.kernels[0]._kernel.grid
    assert across * down > 200 or kernels == 1
