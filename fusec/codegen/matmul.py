"""Matrix products on the CPU: by a kernel of ours where it is faster than BLAS (``_faster``).

A row of the kernel is a block of the result. Of the second matrix 256 rows at a time are packed in
strips of two vectors, which the L1 cache holds one by one, and then of the first one a panel at a
time, which the L2 cache holds (``products``; after Goto and van de Geijn, "Anatomy of
High-Performance Matrix Multiplication", 2008)::

    for begin in range(0, k, 256):
        depth = min(k - begin, 256)
        ...
        status |= pack_strips(packed, strips, depth, ends - begins, b_down, b_across)
        for line in range(0, rows, 256):
            ...
            status |= pack_rows(left, lines, depth, height, a_across, a_down)
            for first in range(begins, ends, 32):
                width = min(n - first, 32)
                status |= add_tiles(height, width, depth, left, 8 * (depth + 1), 1, 8,
                                    at(packed, (first - begins) * (depth + 1)), 32,
                                    at(y, y_at + line * y_down + first), y_down, begin > 0)

A second matrix that the L1 cache holds is read where it lies, and so is a first one that the L2
cache holds or that few columns use. NumPy's OpenBLAS chooses its own kernels by the name of the
processor, and takes older ones for what it does not know yet.
"""

import ctypes
from contextlib import ExitStack
from functools import cache

import numpy as np

from fusec.codegen import blas
from fusec.codegen.emit import HEADER, KernelSource, Pointer
from fusec.codegen.emit_columns import CPUS
from fusec.codegen.loops import Buffer
from fusec.codegen.matrices import Layout, Problem, batch_places, problem
from fusec.codegen.target import host, lanes_of, offers, side, wide
from fusec.codegen.writer import Writer

DEPTH = 256  # rows of the second matrix at a time
PANEL = 512  # bytes of a column of the first matrix: a panel is 128 kB of an L2 cache
LEAST = 64  # rows of a panel, and columns of a group: each is packed for those of the other
MANY = 512  # rows for which packing strips once more costs little
GROUP = 8 << 10  # bytes of a row of the second matrix that are packed together, at most
NEAR = 40 << 10  # bytes of a second matrix that is read where it lies
FAR = 256 << 10  # bytes of a first matrix that does not stay in a cache if it is read where it lies
SMALL = 32**3  # multiplications that take less time than a call of BLAS
LARGE = 1 << 20  # multiplications from which BLAS with vectors as wide is no faster
HUGE = 1500  # rows, columns and terms, all of them, from which that BLAS is faster again
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
    if plain and offers(host().triple, "fma") and _faster(of):
        return _kernel(of)
    return blas.product(of)


def _faster(of: Problem) -> bool:
    """Whether BLAS is slower: it has kernels for what is neither tiny nor worth packing."""
    if of.work <= SMALL or _narrow_blas():
        return True
    return wide() and of.work >= LARGE and min(*of.result[:2], of.first.columns) < HUGE


def _kernel(of: Problem) -> KernelSource:
    first, second, result, order, batch, dtype = of
    (m, n), k, size = result[:2], first.columns, dtype.itemsize
    pitch = 2 * lanes_of(8 * size)
    near = second.across == 1 and k * n * size <= NEAR
    turned = m * k * size > FAR and n >= LEAST and not near
    share, group = _shares(of, pitch, turned)
    groups, shares = -(-n // group), -(-m // share)
    ints = [("m", m), ("n", n), ("k", k), ("groups", groups), ("group", group), ("shares", shares),
            ("share", share), ("a_down", first.down), ("a_across", first.across),
            ("b_down", second.down), ("b_across", second.across), ("y_down", result.down),
            *of.batch_ints]  # fmt: skip
    packed = 0 if near else (min(k, DEPTH) + 1) * group * size
    left = turned * (min(k, DEPTH) + 1) * min(PANEL // size, share) * size
    if turned:
        ints.append(("left_at", packed))
    text = _text(order, [name for name, _ in ints], len(batch), dtype, near, turned)
    buffers = [Buffer(name, dtype, (), role) for name, role in zip("aby", ("in", "in", "out"))]
    pointers = [Pointer(x.name, x, 0) for x in buffers]
    work = 10.0 + 2.0 * share * group * k / FLOPS_PER_NS
    rows = groups * shares * of.products
    return KernelSource("matmul", text, ints, pointers, rows, work, packed + left)


def _shares(of: Problem, pitch: int, turned: bool) -> tuple[int, int]:
    """Rows of a share and columns of a group: one for every processor, or two if they last.

    Strips are packed for each share, and rows, if they are ``turned``, for each group.
    """
    (m, n), size = of.result[:2], of.dtype.itemsize
    each = -(-m * of.products // CPUS)
    most = max(min(each, max(each // 2, MANY)), LEAST) if turned else 8 * PANEL // size
    share = _even(m, most, PANEL // size if most > PANEL // size else side())
    most = -(-m // share) * of.products * n // (CPUS if turned else 2 * CPUS)
    return share, _even(n, min(max(most, LEAST if turned else 1), GROUP // size), pitch)


def _even(n: int, most: int, unit: int) -> int:
    """About equal parts of n, of at most so many, in whole units."""
    parts = -(-n // most)
    return -(-n // (parts * unit)) * unit


def _text(
    order: str, names: list[str], axes: int, dtype: np.dtype, near: bool, turned: bool
) -> str:
    p, q, w, letters = order[0], order[1], Writer(), dtype.str[1:]
    given = ["start", "stop", *names, "a", "b", "y", *["scratch"] * (not near)]
    with w.block(f"def kernel({', '.join(given)}):"):
        w("status = 0")
        if not near:
            w(f"packed = scratch_{letters}(scratch, 0)")
        if turned:
            w(f"left = scratch_{letters}(scratch, left_at)")
        with w.block("for row in range(start, stop):"):
            w("begins = remainder(row, groups) * group")
            w("ends = min(n, begins + group)")
            w("share_number = quotient(row, groups)")
            w("top = remainder(share_number, shares) * share")
            w("rows = min(m - top, share)")
            w("number = quotient(share_number, shares)")
            batch_places(w, axes)
            w(f"{p}_at += top * a_down")
            w(f"{q}_at += begins * b_across")
            w("y_at += top * y_down")
            with w.block(f"for begin in range(0, k, {DEPTH}):"):
                w(f"depth = min(k - begin, {DEPTH})")
                w(f"source = at({p}, {p}_at + begin * a_across)")
                w(f"strips = at({q}, {q}_at + begin * b_down)")
                if not near:
                    w("status |= pack_strips(packed, strips, depth, ends - begins, "
                      "b_down, b_across)")  # fmt: skip
                _tiles(w, 2 * lanes_of(8 * dtype.itemsize), near, turned * PANEL // dtype.itemsize)
        w("return status")
    return f"# matmul {letters}\n{HEADER}\n\n{w.text()}\n"


def _tiles(w: Writer, pitch: int, near: bool, panel: int) -> None:
    """The rows of a share times the strips of a group, a panel of so many at a time, or all."""
    column = "at(strips, first - begins), b_down"
    if not near:
        column = f"at(packed, (first - begins) * (depth + 1)), {pitch}"
    tile, place = f"rows, width, depth, source, {side()} * a_down, a_down, a_across", "y_at + first"
    with ExitStack() as stack:
        if panel:
            stack.enter_context(w.block(f"for line in range(0, rows, {panel}):"))
            w(f"height = min(rows - line, {panel})")
            w("lines = at(source, line * a_down)")
            w("status |= pack_rows(left, lines, depth, height, a_across, a_down)")
            tile = f"height, width, depth, left, {side()} * (depth + 1), 1, {side()}"
            place = "y_at + line * y_down + first"
        with w.block(f"for first in range(begins, ends, {pitch}):"):
            w(f"width = min(n - first, {pitch})")
            w(f"status |= add_tiles({tile}, {column}, at(y, {place}), y_down, begin > 0)")
