"""CUDA row programs: a warp for a short row, a block for a long one, several for few long rows.

Each thread accumulates its share of the row in registers; the threads' results are combined by a
tree in a fixed order, first within warps by shuffles, then across warps through shared memory, so
that every thread has the result. A row that several stages read is kept in shared memory where it
fits, each element by the thread that uses it. Softmax::

    row = blockIdx_x()
    while row < rows:
        a_r0 = cast_f4(-inf)
        i1 = threadIdx_x()
        while i1 < n_i1:
            v0 = x0[i1 + row * x0_s0]
            w_v0[i1] = v0
            a_r0 = fmaximum(a_r0, v0)
            i1 += blockDim_x()
        a_r0 = fmaximum(a_r0, shfl_xor(a_r0, 16))    # 8, 4, 2, 1
        ...
        r0 = a_r0
        ...
        row += gridDim_x()
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from fusec.codegen.emit import KernelSource, cell, loaded, pair, stored
from fusec.codegen.emit_cuda import WARP, CudaEmitter, CudaLimits
from fusec.codegen.loops import Buffer, Fold, Line, closure, ordered
from fusec.codegen.schedule import Schedule, is_inner, row_stores, stage_targets

MAX_X = 1 << 20  # blocks along x of a grid; more rows are taken in turns
CHAIN = 64  # additions in a row before a thread starts a new partial sum


class CudaReducer(CudaEmitter):
    """Combines what the threads of a warp or a block have."""

    lane, row_threads = "threadIdx_x()", WARP

    def __init__(self, plan: Schedule, limits: CudaLimits) -> None:
        super().__init__(plan, limits)
        self.partials: dict[Fold, Buffer] = {}

    def shared(self, name: str, line: Line | Fold, count: int) -> str:
        """An array in shared memory, declared on top of the kernel."""
        dtype = line.dtype if isinstance(line, Line) else line.value.dtype
        letters = cell(dtype)
        declared = (name, f"shared_{letters}({count})")
        if declared not in self.scratches:
            self.scratches.append(declared)
        return name

    def carries(self, need: set[Line]) -> None:
        """Where the running sums among ``need`` start."""
        for line in self.body.lines:
            if line.kind == "scan" and line in need:
                assert line.buffer is not None
                self.w(f"carry_{line.name} = {line.buffer.name}")

    @contextmanager
    def chained(
        self, folds: list[Fold], first: str, last: str, length: int, threads: int
    ) -> Iterator[tuple[str, str]]:
        """Around the loop that computes ``a_<result>``: over what span it goes.

        Sums whose order shows have a new start for every CHAIN additions of a thread, if there are
        more in ``length``; threads: that share a row, 0 where it is cut already.
        """
        for fold in folds:
            self.w(f"a_{fold.result.name} = {fold.identity}")
        share = threads * CHAIN
        if not share or length <= share or not any(map(ordered, folds)):
            yield first, last
            return
        with self.strided("first", first, last, str(share)):
            for fold in folds:
                self.w(f"b_{fold.result.name} = a_{fold.result.name}")
                self.w(f"a_{fold.result.name} = {fold.identity}")
            self.w(f"last = min(first + {share}, {last})")
            yield "first", "last"
            for fold in folds:
                a, b = f"a_{fold.result.name}", f"b_{fold.result.name}"
                self.w(f"{a} = {pair(fold, b, a)}")

    def accumulate(self, folds: list[Fold]) -> None:
        """Add an element to ``a_<result>``."""
        for fold in folds:
            a = f"a_{fold.result.name}"
            self.w(f"{a} = {pair(fold, a, self.read(fold.value))}")

    def hand_on(self, fold: Fold, count: int, place: str, condition: str) -> None:
        """Store a result for a second kernel, which combines ``count`` of them."""
        buffer = Buffer(f"p_{fold.result.name}", fold.value.dtype, (), "partial")
        self.partials[fold] = buffer
        self.partial[buffer.name] = count
        with self.w.block(f"if {condition}:"):
            value = stored(fold.value.dtype, fold.result.name)
            self.w(f"{self.pointer(buffer, 0).name}[{place}] = {value}")

    def tree(self, fold: Fold) -> None:
        """All threads get the combination of ``a_<result>``."""
        a = f"a_{fold.result.name}"
        self._butterfly(fold, a, WARP)
        if self.row_threads > WARP:
            dtype, warps = fold.value.dtype, self.row_threads // WARP
            place = self.shared(f"s_{fold.result.name}", fold, WARP)
            with self.w.block("if threadIdx_x() & 31 == 0:"):
                self.w(f"{place}[threadIdx_x() >> 5] = {stored(dtype, a)}")
            self.w("syncthreads()")
            self.w(f"{a} = {loaded(dtype, f'{place}[threadIdx_x() & {warps - 1}]')}")
            self._butterfly(fold, a, warps)
            self.w("syncthreads()")
        self.w(f"{fold.result.name} = {a}")

    def _butterfly(self, fold: Fold, a: str, lanes: int) -> None:
        lanes //= 2
        while lanes:
            self.w(f"{a} = {pair(fold, a, f'shfl_xor({a}, {lanes})')}")
            lanes //= 2


class CudaRowEmitter(CudaReducer):
    """Rows with reductions along them."""

    def __init__(self, plan: Schedule, limits: CudaLimits, split: bool) -> None:
        super().__init__(plan, limits)
        self.split = split
        self.length = self.count(plan.reduced)
        self.groups = -(-self.length // limits.chunk) if split else 1
        short_row = self.length <= limits.short and not split
        self.row_threads = WARP if short_row else limits.threads
        self.kept_bytes = 0  # of shared memory
        self.kept: dict[str, Line] = {}  # what it holds

    def emit(self) -> KernelSource:
        plan, limits = self.plan, self.limits
        self.invariants()
        rows = self.count(plan.outer) * self.groups
        several = limits.warps if self.row_threads == WARP else 1
        self.n = self.int_arg("n", self.length) if len(plan.reduced) > 1 else (
            self.size(plan.reduced[0])
        )  # fmt: skip
        first, step = "blockIdx_x()", "gridDim_x()"
        if several > 1:
            first, step = f"{first} * {several} + threadIdx_y()", f"{step} * {several}"
        self.wide = self.width(plan.reduced[0]) if len(plan.reduced) == 1 else 1
        with self.strided("row", first, self.int_arg("rows", rows), step):
            kept = "row"
            if self.split:
                name = self.int_arg("groups", self.groups)
                self.w(f"begin = remainder(row, {name}) * {limits.chunk}")
                self.w(f"end = min(begin + {limits.chunk}, {self.n})")
                self.w(f"kept = quotient(row, {name})")
                kept = "kept"
            self.rows(plan.outer, kept)
            for stage in range(1 if self.split else plan.stages):
                self.row_lines(stage)
                self.stage(stage)
                if not self.split:
                    self._row_stores(stage)
        grid = (min(-(-rows // several), MAX_X), 1)
        return self.launch("row", grid, (self.row_threads, several))

    def _row_stores(self, stage: int) -> None:
        if row_stores(self.plan, stage):
            with self.w.block(f"if {self.lane} == 0:"):
                self.stores(stage, inner=False)

    # -- one stage ------------------------------------------------------------------------------

    def stage(self, stage: int) -> None:
        folds = [f for f in self.body.folds if f.value.stage == stage]
        targets = stage_targets(self.plan, stage)
        if not targets and not folds:
            return
        need = closure(targets, set(self.known))
        if any(x.kind == "scan" for x in need):
            self._scanned(stage, folds, need)
            return
        keep = self._keep(stage)
        self._accumulate(stage, folds, keep)
        for line, place in keep.items():
            self.known[line] = loaded(line.dtype, place)
        for fold in folds:
            self.tree(fold)
            if self.split:
                count = self.count(self.plan.outer) * self.groups
                self.hand_on(fold, count, "row", f"{self.lane} == 0")

    def _accumulate(self, stage: int, folds: list[Fold], keep: dict[Line, str]) -> None:
        span = ("begin", "end") if self.split else ("0", self.n)
        threads = 0 if self.split else self.row_threads
        with self.chained(folds, *span, self.length, threads) as span:
            self._loop(stage, folds, keep, *span)

    def _loop(
        self, stage: int, folds: list[Fold], keep: dict[Line, str], begin: str, end: str
    ) -> None:
        name = self.plan.reduced[0] if len(self.plan.reduced) == 1 else "p"
        step = str(self.row_threads)
        if begin == "0":
            with self.share(name, end, self.wide, self.lane, step):
                self._element(stage, folds, keep)
            return
        with self.share("q", f"({end} - {begin})", self.wide, self.lane, step):
            self.w(f"{name} = {begin} + q")
            self._element(stage, folds, keep)

    def _element(self, stage: int, folds: list[Fold], keep: dict[Line, str]) -> None:
        if len(self.plan.reduced) > 1:
            self.rows(self.plan.reduced, "p")
        self.inner(stage, [*stage_targets(self.plan, stage), *keep])
        for line, place in keep.items():
            self.w(f"{place} = {stored(line.dtype, line.name)}")
        self.accumulate(folds)
        self.stores(stage, inner=True)

    def _keep(self, stage: int) -> dict[Line, str]:
        """What later stages read again, as far as shared memory takes it, and where it is kept."""
        later: set[Line] = set()
        for k in range(stage + 1, self.plan.stages):
            later |= closure(stage_targets(self.plan, k), set(self.known))
        now = closure(stage_targets(self.plan, stage), set(self.known)) - set(self.known)
        wanted = [x for x in self.plan.saved if x.stage == stage and x not in self.known]
        wanted += [x for x in self.body.lines if x.kind == "load" and x in later and x in now]
        count = 1 << max(self.length - 1, 1).bit_length()
        several = self.limits.warps if self.row_threads == WARP else 1
        at = self.plan.reduced[0] if len(self.plan.reduced) == 1 else "p"
        row = f"threadIdx_y() * {count} + " if several > 1 else ""
        keep: dict[Line, str] = {}
        for line in wanted:
            size = count * several * line.dtype.itemsize
            if self.split or not is_inner(line, self.plan) or line in keep:
                continue
            name = self._free(stage, {*self.known, *keep, *wanted}, line.dtype)
            if not name:
                if size + self.kept_bytes > self.limits.shared:
                    continue
                self.kept_bytes += size
                name = self.shared(f"w_{line.name}", line, count * several)
            self.kept[name] = line
            keep[line] = f"{name}[{row}{at}]"
        return keep

    def _free(self, stage: int, known: set[Line], dtype: np.dtype) -> str:
        """Shared memory whose values no later stage reads; a thread overwrites only its own."""
        read: set[Line] = set()
        for k in range(stage + 1, self.plan.stages):
            targets = stage_targets(self.plan, k)
            read |= {a for x in closure(targets, known) for a in x.args} | {*targets}
        for name, line in self.kept.items():
            if line.stage < stage and line.dtype == dtype and line not in read:
                return name
        return ""

    # -- scans --------------------------------------------------------------------------------

    def _scanned(self, stage: int, folds: list[Fold], need: set[Line]) -> None:
        """A stage with running sums: the threads take neighbours and scan them together.

        need: the lines of the stage. Sums of an earlier stage that it reads are formed again.
        """
        self.carries(need)
        for fold in folds:
            self.w(f"a_{fold.result.name} = {fold.identity}")
        name = self.plan.reduced[0] if len(self.plan.reduced) == 1 else "p"
        with self.strided("base", "0", self.n, str(self.row_threads)):
            self.w(f"{name} = min(base + {self.lane}, {self.n} - 1)")
            self.w(f"inside = base + {self.lane} < {self.n}")
            if len(self.plan.reduced) > 1:
                self.rows(self.plan.reduced, "p")
            for line in self.body.lines:
                if not is_inner(line, self.plan) or line not in need:
                    continue
                if line.kind == "scan":
                    self._scan(line)
                else:
                    self.line(line)
            with self.w.block("if inside:"):
                self.accumulate(folds)
                self.stores(stage, inner=True)
        for fold in folds:
            self.tree(fold)

    def _scan(self, line: Line) -> None:
        """``line`` becomes the running value at every thread's element, carry included."""
        assert line.buffer is not None
        q, start = line.name, line.buffer.name
        both = line.text.format
        self.w(f"{q} = {self.read(line.args[0])}")
        with self.w.block("if not inside:"):
            self.w(f"{q} = {start}")
        for by in (1, 2, 4, 8, 16):
            self.w(f"u_{q} = shfl_up({q}, {by})")
            with self.w.block(f"if {self.lane} & 31 >= {by}:"):
                self.w(f"{q} = {both(q, carry=f'u_{q}')}")
        if self.row_threads == WARP:
            self.w(f"{q} = {both(q, carry=f'carry_{q}')}")
            self.w(f"carry_{q} = shfl_xor({q}, 31 ^ {self.lane})")
            return
        place = self.shared(f"s_{q}", line, WARP)
        with self.w.block("if threadIdx_x() & 31 == 31:"):
            self.w(f"{place}[threadIdx_x() >> 5] = {q}")
        self.w("syncthreads()")
        self.w(f"before_{q} = carry_{q}")
        with self.w.block(f"for k in range({self.row_threads // WARP}):"):
            with self.w.block("if k == threadIdx_x() >> 5:"):
                self.w(f"before_{q} = carry_{q}")
            self.w(f"carry_{q} = {both(f'{place}[k]', carry=f'carry_{q}')}")
        self.w(f"{q} = {both(q, carry=f'before_{q}')}")
        self.w("syncthreads()")


class CudaFinishEmitter(CudaReducer):
    """The second kernel of a split reduction: a block combines the partial results of a row."""

    def __init__(
        self, plan: Schedule, limits: CudaLimits, partials: dict[Fold, Buffer], groups: int
    ) -> None:
        super().__init__(plan, limits)
        self.partials, self.groups = partials, groups
        self.row_threads = limits.threads if groups > WARP else WARP

    def emit(self) -> KernelSource:
        kept = [*self.plan.outer, *([self.plan.column] if self.plan.column else [])]
        rows = self.count(kept)
        self.invariants()
        groups = self.int_arg("groups", self.groups)
        with self.strided("row", "blockIdx_x()", self.int_arg("rows", rows), "gridDim_x()"):
            self.rows(kept, "row")
            for fold, buffer in self.partials.items():
                a, pointer = f"a_{fold.result.name}", self.pointer(buffer, 0).name
                self.w(f"{a} = {fold.identity}")
                with self.strided("e", self.lane, groups, str(self.row_threads)):
                    value = loaded(fold.value.dtype, f"{pointer}[row * {groups} + e]")
                    self.w(f"{a} = {pair(fold, a, value)}")
                self.tree(fold)
            self.outside({*self.plan.reduced})
            with self.w.block(f"if {self.lane} == 0:"):
                for stage in range(self.plan.stages):
                    self.stores(stage, inner=False)
        return self.launch("finish", (min(rows, MAX_X), 1), (self.row_threads, 1))
