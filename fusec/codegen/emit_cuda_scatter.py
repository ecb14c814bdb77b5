"""Scatters on CUDA: additions at places that data choose, with the same result in every run.

Integers are added by atomic operations, whose order does not show; few counters lie in shared
memory first::

    k = threadIdx_x()
    while k < n:
        s_i8[k] = cast_i8(0)
        k += blockDim_x()
    syncthreads()
    e = grid()
    while e < total:
        ...
        atomic_add(s_i8, place, c0)
        e += gridsize()

Floats are added in an order that is fixed. A thread takes one element of the kept axes (the columns
of a table whose rows are added), a chunk of the values and some of the places, and goes through its
chunk in order. Chunks have results of their own, added up in their order; only where there are none
are the bits those of NumPy, too. Where a result is too large for several of it, there are owners::

    for r in range(0, n):
        v0 = x0[r]
        if remainder(v0, owners) == owner:
            place = v0 * s + i1
            y0[place] = (y0[place] + x1[r * x1_s0 + i1])

Where that would leave a thread too much to do, or too many results, the additions are ordered by
place instead (``emit_cuda_sorted``). What is assigned (``y[index] = values``) goes the same ways in
one chunk, so that the last of equal places wins.
"""

from fusec.codegen.emit import KernelSource
from fusec.codegen.emit_cuda import CudaEmitter, CudaLimits, CudaMapEmitter
from fusec.codegen.emit_scatter import SUMS, Scattering, added
from fusec.codegen.loops import Body, Buffer, Line, closure
from fusec.codegen.schedule import Schedule, is_inner, schedule, schedule_scatter
from fusec.ir.aval import short
from fusec.ir.graph import Loc

BINS = 2048  # counters in shared memory at most: 16 kB, so that many blocks share a multiprocessor
EACH = 16  # additions of a thread for which counters in shared memory are worth their sum
CHUNK = 256  # values for which a result of their own is worth its sum
CHUNKS = 4096  # of all columns together: a thread that adds the chunks up reads so many values
COPIES = 4  # elements that the results of all chunks may have for each value that is added
RESULTS = 32 << 20  # bytes of all chunks' results that stay in the L2 cache
PLACES = 4096  # that threads look at for additions while one thread makes one
THREADS = 128  # blocks of threads that a GPU should have to do


def emit_cuda_scatter(body: Body, limits: CudaLimits) -> list[KernelSource]:
    """What is there first, the additions and what stands around them."""
    from fusec.codegen.emit_cuda_sorted import emit_cuda_sorted, keys_of

    assert body.first is not None
    first = CudaMapEmitter(schedule(body.first), limits).emit()
    adding = CudaScatterEmitter(schedule_scatter(body), limits)
    if adding.store.adds and adding.dtype.kind in "iu" and adding.dtype.itemsize >= 4:
        return [first, adding.atomic()]
    keys = keys_of(adding) if adding.moves else None
    if keys is not None and _sorting_pays(adding, keys.count * adding.count(keys.columns)):
        return [first, *emit_cuda_sorted(adding, keys)]
    if adding.chunks == 1:
        return [first, adding.ordered()]
    return [first, adding.begun(), adding.ordered(), adding.total()]


def _sorting_pays(adding: "CudaScatterEmitter", places: int) -> bool:
    """Whether to order the additions by place, with a thread for each of ``places``.

    That takes seven launches or ten, which are most of its time up to a million additions, and
    reads each value once. Without it there are two launches or four, but the additions of a thread
    wait for each other, and the results of all chunks are written, added to and read.
    """
    steps = -(-adding.length // adding.chunks)
    results = adding.chunks * adding.size_of_result * adding.dtype.itemsize
    many = steps > adding.limits.serial or (adding.chunks > 1 and results > RESULTS)
    return many and places <= PLACES * steps


def bare(title: str, notes: list[tuple[str, Loc | None]], limits: CudaLimits) -> CudaEmitter:
    """A kernel that computes nothing yet."""
    return CudaEmitter(Schedule(Body({}, (), [], [], [], title, notes), [], []), limits)


class CudaAdditions(Scattering, CudaEmitter):
    """What all forms share."""

    @property
    def kept(self) -> list[str]:
        return [*self.plan.outer, *([self.plan.column] if self.plan.column else [])]

    def lines(self, targets: list[Line], known: set[Line], effects: list[Line]) -> set[Line]:
        """Write what changes with the values; gives all that is known then."""
        need = closure([*targets, *effects], known)
        for line in self.body.lines:
            if line in need and is_inner(line, self.plan):
                self.line(line)
        return known | need


class CudaScatterEmitter(CudaAdditions):
    """See the module."""

    def __init__(self, plan: Schedule, limits: CudaLimits) -> None:
        super().__init__(plan, limits)
        size = max(self.size_of_result, 1)
        across = self.count(self.kept)
        copies = COPIES * self.length * across // size if self.dense else 1
        chunks = min(self.length // CHUNK, copies, CHUNKS // max(across, 1))
        self.chunks = max(1, chunks) if self.store.adds else 1
        threads = THREADS * limits.threads // max(self.chunks * across, 1)
        self.moves = bool(self.store.data) and self.length > 1
        self.owners = max(1, min(threads, size // max(across, 1))) if self.moves else 1
        self.chunk_results = Buffer("p0", self.dtype, (), "partial")

    # -- integers ---------------------------------------------------------------------------------

    def atomic(self) -> KernelSource:
        names, size = [*self.kept, *self.plan.reduced], self.size_of_result
        total, threads = self.count(names), self.limits.threads
        shared = self.dense and size <= BINS and total >= EACH * threads
        letters = short(self.dtype)
        result = self.pointer(self.store.buffer, 0).name
        if shared:
            n = self.int_arg("n", size)
            self.w(f"bins = shared_{letters}({BINS})")
            with self.strided("k", "threadIdx_x()", n, "blockDim_x()"):
                self.w(f"bins[k] = cast_{letters}(0)")
            self.w("syncthreads()")
        self.invariants()
        with self.strided("e", "grid()", self.int_arg("total", total), "gridsize()"):
            self.rows(names, "e")
            self.row_lines(0)
            self.lines([self.store.value, *self.store.data.values()], set(), self.effects)
            self.place(self.store.buffer)
            constant = self.store.index.const
            at = f"place + {self.int_arg('o', constant)}" if constant else "place"
            self.w(f"atomic_add({'bins' if shared else result}, {at}, {self._value()})")
        if not shared:
            return self.spread("scatter", total)
        self.w("syncthreads()")
        with self.strided("k", "threadIdx_x()", n, "blockDim_x()"):
            self.w(f"atomic_add({result}, k, bins[k])")
        return self.spread("scatter", total // EACH)

    def _value(self) -> str:
        return self.read(self.store.value)

    # -- floats -----------------------------------------------------------------------------------

    def ordered(self) -> KernelSource:
        across, w = self.count(self.kept), self.w
        self.invariants()
        total = across * self.owners * self.chunks
        n = self.int_arg("n", self.length)
        step = self.int_arg("step", -(-self.length // self.chunks))
        with self.strided("e", "grid()", self.int_arg("total", total), "gridsize()"):
            columns, owners = self.int_arg("across", across), self.int_arg("owners", self.owners)
            bits = "_u4" if total < 1 << 32 else ""
            w(f"kept = remainder{bits}(e, {columns})")
            w(f"rest = quotient{bits}(e, {columns})")
            w(f"owner = remainder{bits}(rest, {owners})")
            w(f"chunk = quotient{bits}(rest, {owners})")
            self.rows(self.kept, "kept")
            self.row_lines(0)
            with w.block(f"for r in range(chunk * {step}, min(chunk * {step} + {step}, {n})):"):
                self.rows(self.plan.reduced, "r")
                known = self.lines([*self.store.data.values()], set(), self.effects)
                if self.owners == 1:
                    self._add(known)
                else:
                    self.data = self.store.data
                    key = " + ".join([self.atom(d) for d in self.store.data])
                    with w.block(f"if remainder_u4({key}, {owners}) == owner:"):
                        self._add(known)
        return self.spread("scatter", total)

    def _add(self, known: set[Line]) -> None:
        self.lines([self.store.value], known, [])
        if self.chunks == 1:
            place = self.place(self.store.buffer)
        else:
            n = self.int_arg("size", self.size_of_result)
            self.partial[self.chunk_results.name] = self.chunks * self.size_of_result
            place = self.place(self.chunk_results, f"chunk * {n} + ")
        self.w(self.put(place, self._value()))

    def begun(self) -> KernelSource:
        """The kernel that clears the results of the chunks."""
        clear, total = self._small(), self.chunks * self.size_of_result
        chunks = clear.pointer(self.chunk_results, 0).name
        clear.partial[self.chunk_results.name] = total
        with clear.strided("k", "grid()", clear.int_arg("total", total), "gridsize()"):
            letters = short(self.dtype)
            zero = f"cast_{letters}(0)" if self.dtype.kind in "iu" else f"cast_{letters}(-0.0)"
            clear.w(f"{chunks}[k] = {zero}")
        return clear.spread("fill", total)

    def total(self) -> KernelSource:
        """The kernel that adds the results of the chunks to what was there."""
        sums, size = self._small(), self.size_of_result
        n, rows = sums.int_arg("n", size), sums.int_arg("rows", self.chunks)
        result = sums.pointer(self.store.buffer, 0).name
        chunks = sums.pointer(self.chunk_results, 0).name
        sums.partial[self.chunk_results.name] = self.chunks * size
        with (
            sums.strided("k", "grid()", n, "gridsize()"),
            sums.w.block(f"for row in range({rows}):"),
        ):
            sums.w(added(self.dtype, f"{result}[k]", f"{chunks}[row * {n} + k]"))
        return sums.spread("finish", size)

    def _small(self) -> CudaEmitter:
        return bare(SUMS, self.body.notes, self.limits)
