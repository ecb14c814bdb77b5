"""Matrix products on CUDA without cuBLAS: one tiled kernel for every layout.

A block of 256 threads computes 64 x 64 elements; both operands pass through shared memory 16
columns at a time, and each thread keeps 4 x 4 sums in registers. The strides are arguments, so
transposed and batched operands, broadcast ones too, are read where they lie::

    for p in range(16):
        a0 = tile_a[p * 68 + down]
        ...
        c00 = fma(a0, b0, c00)
"""

import numpy as np

from fusec.codegen.emit import CUDA_HEADER, KernelSource, Pointer
from fusec.codegen.loops import Buffer
from fusec.codegen.matrices import batch_places
from fusec.codegen.writer import Writer
from fusec.ir.aval import is_bfloat, kind_of, short
from fusec.ops.elementwise import WIDENING, is_narrow

TILE, DEPTH, EACH = 64, 16, 4  # side of a tile, columns at a time, sums along both sides
PITCH = TILE + 4  # of a column in shared memory, so that neighbours meet other banks
THREADS = (TILE // EACH) ** 2
MAX_Y = 65_535  # blocks along y of a grid
KINDS = "iufc"

Layout = tuple[tuple[int, ...], tuple[int, ...]]


def matmul_kernel(a: Layout, b: Layout, out: Layout, dtype: np.dtype) -> KernelSource | None:
    """The kernel of ``out = a @ b``; None for other dtypes and for empty operands.

    a, b, out: shape and strides (in elements), all with as many axes; batch axes of length 1 are
    broadcast. dtype: integers, floats or complex numbers, of all three; bfloat16 gives float32.
    """
    if kind_of(dtype) not in KINDS or not all(map(all, (a[0], b[0]))):
        return None
    batch, (m, n), k = out[0][:-2], out[0][-2:], a[0][-1]
    ints = [("m", m), ("n", n), ("k", k), ("tiles", -(-n // TILE))]
    ints += [(f"batch{axis}", size) for axis, size in enumerate(batch)]
    for name, (shape, strides) in (("a", a), ("b", b), ("y", out)):
        steps = [0 if size == 1 else step for size, step in zip(shape, strides)]
        ints += [(f"{name}_batch{axis}", s) for axis, s in enumerate(steps[:-2])]
        ints += [(f"{name}_down", steps[-2]), (f"{name}_across", steps[-1])]
    count = int(np.prod(batch, dtype=np.int64))
    ints.append(("count", count))
    names = [name for name, _ in ints] + ["a", "b", "y"]
    w = Writer()
    with w.block(f"def kernel({', '.join(names)}):"):
        _text(w, dtype, len(batch), a[1][-1] == 1, b[1][-1] == 1)
    text = f"# matmul {dtype}\n{CUDA_HEADER}\n\n{w.text()}\n"
    given = np.dtype("f4") if is_bfloat(dtype) else dtype
    buffers = [
        Buffer("a", dtype, (), "in"), Buffer("b", dtype, (), "in"), Buffer("y", given, (), "out")
    ]  # fmt: skip
    made = KernelSource("matmul", text, ints, [Pointer(x.name, x, 0) for x in buffers], 1, 1.0)
    blocks = -(-m // TILE) * -(-n // TILE)
    made.grid, made.block = (max(blocks, 1), max(min(count, MAX_Y), 1)), (THREADS, 1)
    made.product = (a, b, out)
    return made


def _text(w: Writer, dtype: np.dtype, axes: int, a_rows: bool, b_rows: bool) -> None:
    narrow = is_narrow(dtype)  # added up in float32
    letters = "f4" if narrow else short(dtype)
    load = WIDENING[short(dtype)] + "({})" if narrow else "{}"
    store = "cast_f2({})" if dtype == np.float16 else "{}"
    zero = f"cast_{letters}(0)"
    w("status = 0")
    w(f"tile_a = shared_{letters}({DEPTH * PITCH})")
    w(f"tile_b = shared_{letters}({DEPTH * PITCH})")
    w(f"zero = {zero}")
    w("thread = threadIdx_x()")
    w(f"top = quotient(blockIdx_x(), tiles) * {TILE}")
    w(f"left = remainder(blockIdx_x(), tiles) * {TILE}")
    w(f"down = (thread >> 4) * {EACH}")
    w(f"across = (thread & 15) * {EACH}")
    w("number = blockIdx_y()")
    with w.block("while number < count:"):
        batch_places(w, axes)
        for i in range(EACH):
            for j in range(EACH):
                w(f"c{i}{j} = zero")
        w("first = 0")
        with w.block("while first < k:"):
            _fill(w, "a", load, a_rows, "top", "m", "a_down", "a_across")
            _fill(w, "b", load, not b_rows, "left", "n", "b_across", "b_down")
            w("syncthreads()")
            _products(w, kind_of(dtype))
            w("syncthreads()")
            w(f"first += {DEPTH}")
        _store(w, store)
        w("number += gridDim_y()")
    w("return status")


def _fill(
    w: Writer, name: str, load: str, deep: bool, side: str, limit: str, step: str, along: str
) -> None:
    """Copy a strip of ``name`` into shared memory; ``deep``: neighbours lie along k."""
    shift = DEPTH.bit_length() - 1 if deep else TILE.bit_length() - 1
    low, high = ("p", "q") if deep else ("q", "p")
    with w.block(f"for turn in range({TILE * DEPTH // THREADS}):"):
        w(f"e = thread + turn * {THREADS}")
        w(f"{low} = e & {(1 << shift) - 1}")
        w(f"{high} = e >> {shift}")
        w("value = zero")
        with w.block(f"if ({side} + q < {limit}) & (first + p < k):"):
            place = f"{name}[{name}_at + ({side} + q) * {step} + (first + p) * {along}]"
            w(f"value = {load.format(place)}")
        w(f"tile_{name}[p * {PITCH} + q] = value")


def _products(w: Writer, kind: str) -> None:
    with w.block(f"for p in range({DEPTH}):"):
        for i in range(EACH):
            w(f"a{i} = tile_a[p * {PITCH} + down + {i}]")
            w(f"b{i} = tile_b[p * {PITCH} + across + {i}]")
        for i in range(EACH):
            for j in range(EACH):
                c, x, y = f"c{i}{j}", f"a{i}", f"b{j}"
                text = {"f": f"fma({x}, {y}, {c})", "c": f"cadd({c}, cmul({x}, {y}))"}
                w(f"{c} = {text.get(kind, f'iadd({c}, imul({x}, {y}))')}")


def _store(w: Writer, store: str) -> None:
    for i in range(EACH):
        with w.block(f"if top + down + {i} < m:"):
            for j in range(EACH):
                with w.block(f"if left + across + {j} < n:"):
                    where = f"(top + down + {i}) * y_down + (left + across + {j}) * y_across"
                    w(f"y[y_at + {where}] = {store.format(f'c{i}{j}')}")
