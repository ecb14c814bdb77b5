"""Many additions at places that data choose on CUDA: ordered by place first, then added up.

The places become keys, and a stable sort (``cuda_sort``) puts the additions of each place side by
side, in the order of the values. A thread then takes one place and one element of the kept axes,
along which neighbouring threads are neighbours in memory::

    begin = cast_i8(starts[key])
    end = cast_i8(starts[key + 1])
    if begin < end:
        place = key * pitch + i1
        acc = y0[place]
        for k in range(begin, min(begin + piece, end)):
            r = cast_i8(order2[k])
            v1 = x1[r * x1_s0 + i1]
            acc = (acc + v1)
        window = quotient_u4(begin, piece)
        for k in range(window + 1, window + quotient_u4(end - begin + piece - 1, piece)):
            acc = (acc + pieces[k * across + kept])
        y0[place] = acc

Of what is assigned, a thread stores the last value of its place, ``order2[end - 1]``.

So the bits of sums are NumPy's where at most ``piece`` are added at a place. More additions are cut
into pieces, counted from the place's first, which a kernel before adds up: no thread has long to
go, however uneven the places are. At most one piece behind the first begins in each window of
``piece`` ordered additions, so the sums of the pieces have a place each.
"""

from dataclasses import dataclass
from functools import cached_property
from math import gcd, isqrt

from fusec.codegen.cuda_sort import LIMIT, RadixSort
from fusec.codegen.emit import KernelSource
from fusec.codegen.emit_cuda import CudaEmitter, CudaLimits
from fusec.codegen.emit_cuda_scatter import CudaAdditions, bare
from fusec.codegen.emit_scatter import added
from fusec.codegen.loops import Buffer
from fusec.codegen.schedule import Schedule
from fusec.ir.aval import short
from fusec.passes.access import Index, Quotient, Remainder, bounds


@dataclass(frozen=True)
class Keys:
    """What the additions are sorted by.

    items: the loop variables that number them; columns: the others, along which each is added.
    key: of an addition; count: keys are less than it. An addition's element of the result is
    ``key * step + rest``.
    """

    items: list[str]
    columns: list[str]
    key: Index
    count: int
    step: int
    rest: Index


def keys_of(adding: CudaAdditions) -> Keys | None:
    """The keys of additions; None where there are too many of either to be sorted."""
    body, store, kept = adding.body, adding.store, adding.kept
    moving = {v for line in store.data.values() for v in line.variables}
    for atom, _ in store.index.terms:
        moving |= atom.value.variables() if isinstance(atom, Quotient | Remainder) else set()
    columns = [v for v in kept if v not in moving]
    items = [*[v for v in kept if v in moving], *adding.plan.reduced]
    terms = [(a, c) for a, c in store.index.terms if a not in columns]
    low, high = bounds(Index(tuple(terms)), body.extents)
    step = gcd(*[c for _, c in terms]) or 1
    key = Index(tuple([(a, c // step) for a, c in terms]), -low // step)
    rest = Index(tuple([(a, c) for a, c in store.index.terms if a in columns]),
                 store.index.const + low)  # fmt: skip
    count = (high - low) // step + 1
    found = Keys(items, columns, key, count, step, rest)
    return found if max(adding.count(items), count) < LIMIT else None


def emit_cuda_sorted(adding: CudaAdditions, keys: Keys) -> list[KernelSource]:
    """The kernels after the one that stores what is there first."""
    plan = Schedule(adding.body, keys.columns, keys.items)
    limits, notes = adding.limits, adding.body.notes

    def make() -> CudaEmitter:
        return bare("order of the additions of scatter_add", notes, limits)

    sort = RadixSort(adding.count(keys.items), keys.count, limits, make)
    first = _KeyEmitter(plan, limits)
    first.invariants()
    kernels = sort.kernels(first, lambda item: first.key(keys, item))
    sums = Buffer("pieces", adding.dtype, (), "partial")
    pieces, total = (_SumEmitter(plan, limits, keys, sort, sums) for _ in range(2))
    cut = adding.store.adds and adding.length > pieces.piece
    if cut:
        kernels.append(pieces.pieces())
    return [*kernels, total.total(cut)]


class _KeyEmitter(CudaAdditions):
    """Computes the keys, with the checks that all columns share."""

    def key(self, keys: Keys, item: str) -> str:
        self.rows(keys.items, item)
        shared = [x for x in self.effects if not x.variables & {*keys.columns}]
        self.lines([*self.store.data.values()], set(), shared)
        self.data = self.store.data
        return self.number(keys.key)


class _SumEmitter(CudaAdditions):
    """See the module."""

    def __init__(
        self, plan: Schedule, limits: CudaLimits, keys: Keys, sort: RadixSort, sums: Buffer
    ) -> None:
        super().__init__(plan, limits)
        self.keys, self.sort, self.sums = keys, sort, sums
        # the longest way of a thread is that of one place with all: a piece and all pieces
        self.piece = max(limits.threads, isqrt(sort.n))
        self.windows = -(-sort.n // self.piece)
        sort.sizes[sums.name] = self.windows * self.count(keys.columns)

    @cached_property
    def step(self) -> str:
        return self.int_arg("piece", self.piece)

    def _threads(self, total: int) -> str:
        """A thread for each of ``total``, of which the columns are the innermost."""
        across = self.int_arg("across", self.count(self.keys.columns))
        bits = "_u4" if total < 1 << 32 else ""
        self.w(f"kept = remainder{bits}(e, {across})")
        self.rows(self.keys.columns, "kept")
        self.row_lines(0)
        return f"quotient{bits}(e, {across})"

    def _segment(self) -> None:
        starts = self.sort.pointer(self, "starts")
        self.w(f"begin = cast_i8({starts}[key])")
        self.w(f"end = cast_i8({starts}[key + 1])")

    def _added(self, first: str) -> None:
        """One piece of ordered additions, to ``acc``; of what is assigned, the last."""
        order = self.sort.pointer(self, self.sort.order)
        mine = [x for x in self.effects if x.variables & {*self.keys.columns}]
        adds = self.store.adds
        span = f"{first}, min({first} + {self.step}, end)" if adds else "end - 1, end"
        with self.w.block(f"for k in range({span}):"):
            self.w(f"r = cast_i8({order}[k])")
            self.rows(self.keys.items, "r")
            self.lines([self.store.value], set(), mine)
            self.w(self.put("acc", self.read(self.store.value)))

    def pieces(self) -> KernelSource:
        """The sums of all pieces but the first of each place."""
        w, total = self.w, self.windows * self.count(self.keys.columns)
        self.invariants()
        with self.strided("e", "grid()", self.int_arg("total", total), "gridsize()"):
            w(f"window = {self._threads(total)}")
            keys = self.sort.pointer(self, self.sort.sorted_keys)
            w(f"key = cast_i8({keys}[window * {self.step}])")
            self._segment()
            gone = f"window * {self.step} - begin + {self.step} - 1"
            w(f"first = begin + quotient_u4({gone}, {self.step}) * {self.step}")
            with w.block("if (first > begin) & (first < end):"):
                letters = short(self.dtype)
                zero = "0" if self.dtype.kind in "iu" else "-0.0"
                w(f"acc = cast_{letters}({zero})")
                self._added("first")
                w(f"{self.pointer(self.sums, 0).name}[e] = acc")
        return self.spread("pieces", total)

    def total(self, pieces: bool) -> KernelSource:
        w, total = self.w, self.keys.count * self.count(self.keys.columns)
        self.invariants()
        with self.strided("e", "grid()", self.int_arg("total", total), "gridsize()"):
            w(f"key = {self._threads(total)}")
            self._segment()
            with w.block("if begin < end:"):
                result, where = self.address(self.store.buffer, self.keys.rest)
                pitch = self.int_arg("pitch", self.keys.step)
                w(f"place = key * {pitch} + {where}")
                w(f"acc = {result}[place]")
                self._added("begin")
                if pieces:
                    sums, step = self.pointer(self.sums, 0).name, self.step
                    w(f"window = quotient_u4(begin, {step})")
                    last = f"window + quotient_u4(end - begin + {step} - 1, {step})"
                    with w.block(f"for k in range(window + 1, {last}):"):
                        w(added(self.dtype, "acc", f"{sums}[k * across + kept]"))
                w(f"{result}[place] = acc")
        return self.spread("sums", total)
