"""CUDA maps of which some arrays lie the other way round: through tiles in shared memory.

A block of 32 x 8 threads takes a tile of 32 x 32 elements. What is contiguous along an outer axis
is first copied into shared memory by threads that are neighbours along that axis, then read from
there by threads that are neighbours along the inner one. Rows of 33 keep the banks apart::

    for k in range(0, 32, 8):
        i0 = first_i0 + threadIdx_x()
        i1 = first_i1 + threadIdx_y() + k
        if (i0 < n_i0) & (i1 < n_i1):
            tile_v0[(threadIdx_y() + k) * 33 + threadIdx_x()] = x0[i0 + i1 * x0_s1]
    syncthreads()
    for k in range(0, 32, 8):
        i0 = first_i0 + threadIdx_y() + k
        i1 = first_i1 + threadIdx_x()
        if (i0 < n_i0) & (i1 < n_i1):
            y0[i0 * y0_s0 + i1] = tile_v0[threadIdx_x() * 33 + threadIdx_y() + k] * c0
    syncthreads()
"""

from collections.abc import Iterator
from contextlib import contextmanager

from fusec.codegen.emit import KernelSource, cell, loaded, stored
from fusec.codegen.emit_cuda import MAX_Y, CudaEmitter, CudaLimits
from fusec.codegen.loops import Line
from fusec.codegen.schedule import Schedule, stage_targets

TILE, DOWN = 32, 8  # elements along both sides of a tile, threads along y of a block
PITCH = TILE + 1
TILE_CELLS = TILE * PITCH
MAX_BYTES = 40 << 10  # of tiles in shared memory, of which a block has 48 KiB


class CudaTileEmitter(CudaEmitter):
    """See the module. axis, loads: from ``turned``."""

    def __init__(self, plan: Schedule, limits: CudaLimits, axis: str, loads: list[Line]) -> None:
        super().__init__(plan, limits)
        self.axis, self.loads = axis, loads

    def emit(self) -> KernelSource:
        plan, axis, vector = self.plan, self.axis, self.plan.reduced[0]
        extents = self.body.extents
        self.invariants()
        tiles = -(-extents[axis] // TILE)
        others = [name for name in plan.outer if name != axis]
        rows, across = self.count(others) * tiles, -(-extents[vector] // TILE)
        places = {}
        for line in self.loads:
            letters = cell(line.dtype)
            places[line] = f"tile_{line.name}"
            self.scratches.append((places[line], f"shared_{letters}({TILE * PITCH})"))
        self.w(f"first_{vector} = blockIdx_x() * {TILE}")
        with self.strided("row", "blockIdx_y()", self.int_arg("rows", rows), "gridDim_y()"):
            name = self.int_arg("tiles", tiles)
            self.w(f"first_{axis} = remainder(row, {name}) * {TILE}")
            self.w(f"other = quotient(row, {name})")
            self.rows(others, "other")
            with self._elements(axis, vector):
                for line, place in places.items():
                    value = stored(line.dtype, self.expression(line))
                    self.w(f"{place}[(threadIdx_y() + k) * {PITCH} + threadIdx_x()] = {value}")
            self.w("syncthreads()")
            with self._elements(vector, axis):
                for line, place in places.items():
                    text = f"{place}[threadIdx_x() * {PITCH} + threadIdx_y() + k]"
                    self.known[line] = loaded(line.dtype, text)
                self.row_lines(0)
                self.inner(0, stage_targets(plan, 0))
                self.stores(0, inner=True)
            self.w("syncthreads()")
        return self.launch("tiles", (across, min(rows, MAX_Y)), (TILE, DOWN))

    @contextmanager
    def _elements(self, along: str, down: str) -> Iterator[None]:
        """The elements of a tile that a thread has; ``along``: the axis of neighbouring threads."""
        inside = f"({along} < {self.size(along)}) & ({down} < {self.size(down)})"
        with self.w.block(f"for k in range(0, {TILE}, {DOWN}):"):
            self.w(f"{along} = first_{along} + threadIdx_x()")
            self.w(f"{down} = first_{down} + threadIdx_y() + k")
            with self.w.block(f"if {inside}:"):
                yield
