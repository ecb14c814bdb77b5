"""Matrix products on the CPU: by a kernel of ours where vectors are wider than those of BLAS.

A row of the kernel is a strip of the result, two vectors wide. A part of the second matrix that the
L1 cache holds is packed, and all rows of the first one are multiplied with it (``products``)::

    for row in range(start, stop):
        ...
        for begin in range(0, k, 256):
            depth = min(k - begin, 256)
            source = at(b, b_at + begin * b_down)
            status |= pack_strip(packed, source, depth, width, b_down, b_across)
            source = at(a, a_at + begin * a_across)
            status |= add_tiles(rows, width, depth, source, a_down, a_across, packed, 32,
                                at(y, y_at), y_down, begin > 0)

A second matrix of a few kB is read where it lies. NumPy's OpenBLAS chooses its own kernels by the
name of the processor, and takes older ones for what it does not know yet.
"""

import ctypes
from functools import cache

import numpy as np

from fusec.codegen import blas
from fusec.codegen.emit import HEADER, KernelSource, Pointer
from fusec.codegen.loops import Buffer
from fusec.codegen.matrices import Layout, Problem, batch_places, problem
from fusec.codegen.target import host, lanes_of, offers, wide
from fusec.codegen.writer import Writer

DEPTH = 256  # rows of the second matrix at a time
PANEL = 512  # rows of the result, at most: what they read of the first matrix stays in a cache
NEAR = 16 << 10  # bytes of a second matrix that is read where it lies
SMALL = 32**3  # multiplications that take less time than a call of BLAS
FLOPS_PER_NS = 100.0  # of one core, roughly
CORE = "scipy_openblas_get_corename64_"
WIDE_CORES = ("SkylakeX", "Cooperlake", "SapphireRapids", "Zen5")
"""Kernels of OpenBLAS that have vectors of 512 bits."""


@cache
def _narrow_blas() -> bool:
    """Whether this processor's vectors are wider than those of NumPy's BLAS."""
    name = getattr(ctypes.CDLL(np._core._multiarray_umath.__file__), CORE, None)  # type: ignore[attr-defined]
    if not wide() or name is None:
        return False
    name.restype = ctypes.c_char_p
    return name().decode() not in WIDE_CORES


def product(a: Layout, b: Layout, out: Layout, dtype: np.dtype) -> KernelSource | None:
    """The step of ``out = a @ b``; None where NumPy has to do it.

    a, b, out: shape and strides (in elements), all with as many axes.
    """
    if dtype.str[1:] not in blas.LETTERS or not dtype.isnative or not all(map(all, (a[0], b[0]))):
        return None
    of = problem(a, b, out, dtype)
    plain = min(of.result.rows, of.result.columns) > 1 and of.result.across == 1
    if plain and offers(host().triple, "fma") and (of.work <= SMALL or _narrow_blas()):
        return _kernel(of)
    return blas.product(of)


def _kernel(of: Problem) -> KernelSource:
    first, second, result, order, batch, dtype = of
    (m, n), k, pitch = result[:2], first.columns, 2 * lanes_of(8 * dtype.itemsize)
    near = second.across == 1 and k * n * dtype.itemsize <= NEAR
    strips = -(-n // pitch)
    panel = min(m, PANEL)
    panels = -(-m // panel)
    ints = [("m", m), ("n", n), ("k", k), ("strips", strips), ("panels", panels), ("panel", panel),
            ("a_down", first.down), ("a_across", first.across), ("b_down", second.down),
            ("b_across", second.across), ("y_down", result.down), *of.batch_ints]  # fmt: skip
    rows = strips * panels * of.products
    work = 10.0 + 2.0 * min(m, panel) * min(n, pitch) * k / FLOPS_PER_NS
    names = [name for name, _ in ints]
    text = _text(order, names, len(batch), dtype, near, pitch)
    buffers = [Buffer(name, dtype, (), role) for name, role in zip("aby", ("in", "in", "out"))]
    pointers = [Pointer(x.name, x, 0) for x in buffers]
    scratch = 0 if near else DEPTH * pitch * dtype.itemsize
    return KernelSource("matmul", text, ints, pointers, rows, work, scratch)


def _text(
    order: str, names: list[str], axes: int, dtype: np.dtype, near: bool, pitch: int
) -> str:
    p, q, w, letters = order[0], order[1], Writer(), dtype.str[1:]
    given = ["start", "stop", *names, "a", "b", "y", *["scratch"] * (not near)]
    with w.block(f"def kernel({', '.join(given)}):"):
        w("status = 0")
        if not near:
            w(f"packed = scratch_{letters}(scratch, 0)")
        with w.block("for row in range(start, stop):"):
            w(f"first = remainder(row, strips) * {pitch}")
            w("panel_number = quotient(row, strips)")
            w("top = remainder(panel_number, panels) * panel")
            w("number = quotient(panel_number, panels)")
            batch_places(w, axes)
            w(f"width = min(n - first, {pitch})")
            w("rows = min(m - top, panel)")
            w(f"{p}_at += top * a_down")
            w(f"{q}_at += first * b_across")
            w("y_at += top * y_down + first")
            if near:
                w(f"source = at({p}, {p}_at)")
                w(f"strip = at({q}, {q}_at)")
                w("status |= add_tiles(rows, width, k, source, a_down, a_across, strip, b_down, "
                  "at(y, y_at), y_down, False)")  # fmt: skip
            else:
                with w.block(f"for begin in range(0, k, {DEPTH}):"):
                    w(f"depth = min(k - begin, {DEPTH})")
                    w(f"strip = at({q}, {q}_at + begin * b_down)")
                    w("status |= pack_strip(packed, strip, depth, width, b_down, b_across)")
                    w(f"source = at({p}, {p}_at + begin * a_across)")
                    w("status |= add_tiles(rows, width, depth, source, a_down, a_across, packed, "
                      f"{pitch}, at(y, y_at), y_down, begin > 0)")  # fmt: skip
        w("return status")
    return f"# matmul {letters}\n{HEADER}\n\n{w.text()}\n"
