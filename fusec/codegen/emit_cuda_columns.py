"""CUDA column programs: reductions whose kept axis is the contiguous one.

A block has 32 columns and 8 threads for each of them, so that a warp reads neighbours; the 8
results are combined through shared memory in a fixed order::

    i1 = min(blockIdx_x() * 32 + threadIdx_x(), n_i1 - 1)
    a_r0 = cast_f4(-0.0)
    e = threadIdx_y()
    while e < n:
        a_r0 = a_r0 + x0[e * x0_s0 + i1]
        e += 8
    s_f4[threadIdx_y() * 32 + threadIdx_x()] = a_r0
    ...

Threads beyond the last column compute it too and store nothing. Running sums take one thread a
column. Few columns with many rows are split into chunks, which a second kernel combines.
"""

from fusec.codegen.emit import KernelSource, loaded, pair, stored
from fusec.codegen.emit_cuda import MAX_Y, WARP, CudaLimits
from fusec.codegen.emit_cuda_rows import CHAIN, CudaReducer
from fusec.codegen.loops import Fold, closure
from fusec.codegen.schedule import Schedule, is_inner, one_loop, row_stores, stage_targets
from fusec.ir.aval import short


class CudaColumnEmitter(CudaReducer):
    """See the module."""

    def __init__(self, plan: Schedule, limits: CudaLimits, split: bool) -> None:
        super().__init__(plan, limits)
        self.length = self.count(plan.reduced)
        scans = any(x.kind == "scan" for x in self.body.lines)
        self.down = 1 if scans else limits.warps
        self.col = plan.column
        blocks = -(-self.body.extents[self.col] // WARP) * self.count(plan.outer)
        least = self.down * CHAIN  # rows that are worth a block
        self.chunk = min(max(-(-self.length * blocks // limits.blocks), least), limits.chunk)
        self.split = split or (2 * self.chunk <= self.length and one_loop(plan))
        self.groups = -(-self.length // self.chunk) if self.split else 1

    def emit(self) -> KernelSource:
        plan = self.plan
        self.invariants()
        columns, rows = self.body.extents[self.col], self.count(plan.outer) * self.groups
        self.n = self.int_arg("n", self.length)
        self.w(f"place = blockIdx_x() * {WARP} + threadIdx_x()")
        self.w(f"{self.col} = min(place, {self.size(self.col)} - 1)")
        with self.strided("row", "blockIdx_y()", self.int_arg("rows", rows), "gridDim_y()"):
            kept, self.begin, self.end = "row", "0", self.n
            if self.split:
                name = self.int_arg("groups", self.groups)
                self.w(f"group = remainder(row, {name})")
                chunk = self.int_arg("chunk", self.chunk)
                self.w(f"begin = group * {chunk}")
                self.w(f"end = min(begin + {chunk}, {self.n})")
                self.w(f"kept = quotient(row, {name})")
                kept, self.begin, self.end = "kept", "begin", "end"
            self.rows(plan.outer, kept)
            for stage in range(1 if self.split else plan.stages):
                self.row_lines(stage)
                self._column_lines(stage)
                self._stage(stage)
                if not self.split:
                    self._column_stores(stage)
        grid = (-(-columns // WARP), min(rows, MAX_Y))
        return self.launch("columns", grid, (WARP, self.down))

    def _column_lines(self, stage: int) -> None:
        """Values of a column that do not change along the reduced axes."""
        along = set(self.plan.reduced)
        for line in self.body.lines:
            mine = line.stage == stage and self.col in line.variables
            if mine and not line.variables & along and line.kind != "fold":
                self.line(line)

    def _column_stores(self, stage: int) -> None:
        if row_stores(self.plan, stage):
            inside = f"(place < {self.size(self.col)})"
            with self.w.block(f"if {inside} & (threadIdx_y() == 0):"):
                self.stores(stage, inner=False)

    def _stage(self, stage: int) -> None:
        folds = [f for f in self.body.folds if f.value.stage == stage]
        targets = stage_targets(self.plan, stage)
        if not targets and not folds:
            return
        self.carries(closure(targets, set(self.known)))
        with self.chained(folds, self.begin, self.end, self.length, self.down) as span:
            self._loop(stage, folds, *span)
        for fold in folds:
            self._combine(fold)

    def _loop(self, stage: int, folds: list[Fold], first: str, last: str) -> None:
        along = set(self.plan.reduced)
        targets = stage_targets(self.plan, stage)
        need = closure(targets, set(self.known))
        with self.strided("e", f"{first} + threadIdx_y()", last, str(self.down)):
            self.rows(self.plan.reduced, "e")
            for line in self.body.lines:
                moving = is_inner(line, self.plan) and line.variables & along
                if moving and (line in need or (line.effect and line in targets)):
                    self.line(line)
            self.accumulate(folds)
            with self.w.block(f"if place < {self.size(self.col)}:"):
                self.stores(stage, inner=True)

    def _combine(self, fold: Fold) -> None:
        """The threads of a column by halves; all of them get the result."""
        name, dtype = fold.result.name, fold.value.dtype
        if self.down == 1:
            self.w(f"{name} = a_{name}")
        else:
            place = self.shared(f"s_{short(dtype)}", fold, WARP * self.down)
            self.w("spot = threadIdx_y() * 32 + threadIdx_x()")
            self.w(f"{place}[spot] = {stored(dtype, f'a_{name}')}")
            self.w("syncthreads()")
            half = self.down // 2
            while half:
                with self.w.block(f"if threadIdx_y() < {half}:"):
                    both = (
                        loaded(dtype, f"{place}[spot]"),
                        loaded(dtype, f"{place}[spot + {half * WARP}]"),
                    )
                    self.w(f"{place}[spot] = {stored(dtype, pair(fold, *both))}")
                self.w("syncthreads()")
                half //= 2
            self.w(f"{name} = {loaded(dtype, f'{place}[threadIdx_x()]')}")
            self.w("syncthreads()")
        if self.split:
            count = self.count([*self.plan.outer, self.col]) * self.groups
            columns, groups = self.size(self.col), self.int_arg("groups", self.groups)
            where = f"(kept * {columns} + {self.col}) * {groups} + group"
            self.hand_on(fold, count, where, f"(place < {columns}) & (threadIdx_y() == 0)")
