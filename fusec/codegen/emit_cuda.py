"""CUDA kernels of elementwise groups, and what all CUDA forms share.

A map over one merged axis, four elements a thread so that loads are 128 bits wide::

    e = 4 * grid()
    while e < (n_i0 - (n_i0 & 3)):
        for k in range(4):
            i0 = e + k
            v0 = x0[i0]
            y0[i0] = v0 * c0
        e += 4 * gridsize()
    i0 = (n_i0 - (n_i0 & 3)) + grid()
    if i0 < n_i0:
        ...                                   # the last elements, one a thread

With an outer axis the rows lie along y of the grid. Where the inner axis is short, one number
counts through all axes and is taken apart with quotients. The texts use only ``cuda_threads`` and
``primitives``: they compile to PTX anywhere and run in Numba's CUDA simulator.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

from fusec.codegen.emit import CUDA_HEADER, KernelSource
from fusec.codegen.emit_loop import LoopEmitter
from fusec.codegen.loops import TURN, Body
from fusec.codegen.schedule import Schedule, all_lines, memory, schedule, stage_targets, turned
from fusec.passes.access import Index, bounds

MAX_PARAMETERS = 4096 // 8  # CUDA passes at most 4096 bytes of arguments

WARP = 32
MAX_Y = 65_535  # blocks along y of a grid
VECTOR_BYTES = 16  # of the widest load
LIMIT = 1 << 31  # elements that a position in 32 bits tells apart
MAX_COPIES = 240  # lines of a loop body times its copies, so that registers suffice


@dataclass(frozen=True)
class CudaLimits:
    """Sizes that kernels are written for. threads: of a block, a multiple of 32.

    chunk: elements that a block reduces before the result is combined with others; shared: bytes of
    shared memory a block uses to keep a row; short: rows up to this length take one warp; serial:
    additions at places that data choose up to which one thread makes them; each: items of a thread
    that sorts; blocks: that keep all multiprocessors busy, four for each of an H100.
    """

    threads: int = 256
    chunk: int = 1 << 14
    shared: int = 40 << 10
    short: int = 512
    serial: int = 1024
    each: int = 16
    blocks: int = 528

    @property
    def warps(self) -> int:
        return self.threads // WARP


def emit_cuda(body: Body, split: bool, limits: CudaLimits) -> list[KernelSource]:
    """The CUDA kernels of one group: one; two when its reduction is split; those of a scatter."""
    from fusec.codegen.emit_cuda_columns import CudaColumnEmitter
    from fusec.codegen.emit_cuda_rows import CudaFinishEmitter, CudaRowEmitter
    from fusec.codegen.emit_cuda_scatter import emit_cuda_scatter
    from fusec.codegen.emit_cuda_tiles import MAX_BYTES, TILE_CELLS, CudaTileEmitter
    from fusec.codegen.emit_recur import CudaRoundsEmitter

    if body.first is not None:
        return emit_cuda_scatter(body, limits)
    plan = schedule(body)
    if TURN in body.extents:
        return [CudaRoundsEmitter(plan, limits).emit()]
    if not body.reduced:
        axis, loads = turned(plan, TILE_CELLS, MAX_BYTES)
        if axis:
            return [CudaTileEmitter(plan, limits, axis, loads).emit()]
        return [CudaMapEmitter(plan, limits).emit()]
    first: CudaColumnEmitter | CudaRowEmitter
    if plan.column:
        first = CudaColumnEmitter(plan, limits, split)
        split = first.split
    else:
        first = CudaRowEmitter(plan, limits, split)
    kernels = [first.emit()]
    if split:
        kernels.append(CudaFinishEmitter(plan, limits, first.partials, first.groups).emit())
    return kernels


class CudaEmitter(LoopEmitter):
    """Loops over threads and vector loads."""

    imports = CUDA_HEADER
    grid_args = ()
    short_strides = False

    def __init__(self, plan: Schedule, limits: CudaLimits) -> None:
        super().__init__(plan)
        self.limits = limits
        self.aligned = False
        self.vector = 1  # neighbours that are loaded at once

    @contextmanager
    def strided(self, name: str, first: str, last: str, step: str) -> Iterator[None]:
        """A loop of one thread over its share of ``first <= name < last``."""
        self.w(f"{name} = {first}")
        with self.w.block(f"while {name} < {last}:"):
            yield
            self.w(f"{name} += {step}")

    @cached_property
    def near(self) -> bool:
        """Whether the elements of all buffers are so few that positions fit in 32 bits."""
        ends = [bounds(i._replace(const=0), self.body.extents) for i in memory(self.body)]
        return all(low >= -LIMIT and high < LIMIT for low, high in ends)

    def position(self, parts: list[tuple[str, bool]]) -> str:
        """Products are computed in 32 bits where they fit, by one instruction instead of four.

        What has the stride 1 is added in 64 bits, so that LLVM sees neighbours as neighbours.
        """
        products = [text for text, scaled in parts if scaled]
        if not products or not self.near:
            return super().position(parts)
        plain = [text for text, scaled in parts if not scaled]
        return " + ".join([f"low32({' + '.join(products)})", *plain])

    def bits(self, value: Index) -> str:
        low, high = bounds(value, self.body.extents)
        return "_u4" if low >= 0 and high < 1 << 32 else ""

    def division(self, names: list[str]) -> str:
        """In 32 bits where they fit: a GPU divides 64 bits by a long routine, behind a branch."""
        return "_u4" if self.count(names) < 1 << 32 else ""

    def launch(self, name: str, grid: tuple[int, int], block: tuple[int, int]) -> KernelSource:
        """The finished kernel with its launch."""
        kernel = self.finish(name, 1, self.work())
        kernel.grid, kernel.block, kernel.aligned = grid, block, self.aligned
        return kernel

    def spread(self, name: str, total: int) -> KernelSource:
        """The finished kernel with a thread for each of ``total``."""
        threads = self.limits.threads
        return self.launch(name, (max(1, _ceil(total, threads)), 1), (threads, 1))

    def width(self, name: str) -> int:
        """Neighbours along ``name`` that a thread takes at once: 1 where loads can't be wide."""
        lines = list(all_lines(self.body))
        memory = [(x.index, x.buffer) for x in lines if x.kind == "load"]
        memory += [(s.index, s.buffer) for s in self.body.stores]
        if any(x.kind in ("branch", "scan") or x.data for x in lines):
            return 1
        moving = [(i, b.dtype) for i, b in memory if i is not None and b is not None]
        kinds = [d for i, d in moving if name in i.variables()]
        if not kinds or any(d.kind == "c" for d in kinds):
            return 1
        width = min(4, VECTOR_BYTES // max([d.itemsize for d in kinds]))
        while width > 1 and width * len(lines) > MAX_COPIES:
            width //= 2
        if width > 1 and all(_wide(i, name, d.itemsize) for i, d in moving):
            self.vector = width
        return self.vector

    def stride(self, stem: str, value: int) -> str:
        """Strides of wide loads are multiples of their width, which LLVM has to see."""
        if self.vector == 1 or value % self.vector:
            return super().stride(stem, value)
        return f"{self.int_arg(stem, value // self.vector)} * {self.vector}"

    @contextmanager
    def share(self, name: str, count: str, width: int, first: str, step: str) -> Iterator[None]:
        """A thread's share of ``0 <= name < count``; the body is written for one element.

        width: neighbours taken at once; the elements behind the last whole vector follow singly.
        """
        if width == 1:
            with self.strided(name, first, count, step):
                yield
            return
        self.aligned = True
        whole = f"({count} - ({count} & {width - 1}))"
        with (
            self.strided("e", f"{width} * {first}", whole, f"{width} * {step}"),
            self.w.block(f"for k in range({width}):"),
        ):
            self.w(f"{name} = e + k")
            begin = len(self.w.lines)
            yield
            body = self.w.lines[begin:]
            depth = self.w.depth
        self.w(f"{name} = {whole} + {first}")
        with self.w.block(f"if {name} < {count}:"):
            self.w.lines += [x[4 * (depth - self.w.depth) :] for x in body]


def _wide(index: Index, name: str, itemsize: int) -> bool:
    """Whether neighbours along ``name`` lie side by side, from a multiple of 16 bytes on."""
    terms = dict(index.terms)
    if name not in index.variables():
        return True
    plain = all(isinstance(atom, str) for atom in terms) and terms.get(name) == 1
    others = [c for atom, c in terms.items() if atom != name] + [index.const]
    return plain and all(c * itemsize % VECTOR_BYTES == 0 for c in others)


class CudaMapEmitter(CudaEmitter):
    """Elementwise groups."""

    def emit(self) -> KernelSource:
        plan, threads = self.plan, self.limits.threads
        self.invariants()
        if not plan.reduced:
            with self.w.block("if grid() == 0:"):
                self._element()
            return self.launch("map", (1, 1), (WARP, 1))
        vector = plan.reduced[0]
        n = self.body.extents[vector]
        if not plan.outer:
            width = self.width(vector)
            with self.share(vector, self.size(vector), width, "grid()", "gridsize()"):
                self._element()
            return self.launch("map", (_ceil(n, width * threads), 1), (threads, 1))
        if n < WARP:
            return self._flat(vector)
        rows, width = self.count(plan.outer), self.width(vector)
        across = min(threads, _ceil(_ceil(n, width), WARP) * WARP)
        down = threads // across
        first = "blockIdx_y() * blockDim_y() + threadIdx_y()"
        last = self.int_arg("rows", rows)
        with self.strided("row", first, last, "gridDim_y() * blockDim_y()"):
            self.rows(plan.outer, "row")
            self.row_lines(0)
            with self.share(vector, self.size(vector), width, "grid()", "gridsize()"):
                self._element()
        grid = _ceil(n, width * across), min(_ceil(rows, down), MAX_Y)
        return self.launch("map", grid, (across, down))

    def _flat(self, vector: str) -> KernelSource:
        """One number for all axes: the inner one is too short for the threads of a warp."""
        names = [*self.plan.outer, vector]
        total = self.count(names)
        with self.strided("e", "grid()", self.int_arg("total", total), "gridsize()"):
            self.rows(names, "e")
            self.row_lines(0)
            self._element()
        return self.spread("map", total)

    def _element(self) -> None:
        self.inner(0, stage_targets(self.plan, 0))
        self.stores(0, inner=True)


def _ceil(n: int, by: int) -> int:
    return -(-n // by)
