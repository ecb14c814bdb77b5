"""A stable radix sort on CUDA: items ordered by integer keys, digit by digit from the lowest.

Every warp has a span of the items. A pass over one digit is three kernels. The first counts how
often each digit stands in each span, the second makes running sums of each digit's counts over the
spans, and the third moves: it begins with the places of the digits' first items, and the lanes that
hold the same digit find each other, so that items keep their order::

    peers = match_any(digit)
    before = cast_i8(popcount(cast_u4(peers & ((1 << lane) - 1))))
    at = tally[warp * digits + digit]
    syncwarp()
    if before == 0:
        count = cast_i8(popcount(cast_u4(peers)))
        tally[warp * digits + digit] = cast_u4(at + count)
    keys1[at + before] = keys0[r]
    order1[at + before] = r
    syncwarp()

Nothing depends on which warp is first. The number of spans has a limit, so the counts stay small
beside the items; only as many digits are visited as the keys can have.
"""

from collections.abc import Callable

import numpy as np

from fusec.codegen.emit import KernelSource
from fusec.codegen.emit_cuda import WARP, CudaEmitter, CudaLimits
from fusec.codegen.loops import Buffer

SPANS = 2048  # at most: warps that keep a GPU busy and whose places for 256 digits fit its L2 cache
LIMIT = 1 << 31  # items and keys at most
U4 = np.dtype("u4")


class RadixSort:
    """See the module. n: items; keys: they are less than it; bare: makes an empty kernel."""

    def __init__(
        self, n: int, keys: int, limits: CudaLimits, bare: Callable[[], CudaEmitter]
    ) -> None:
        self.n, self.keys, self.limits, self.bare = n, keys, limits, bare
        widest = limits.threads.bit_length() - 1  # a block scans the totals of all digits at once
        bits = max(1, (keys - 1).bit_length())
        self.passes = -(-bits // widest)
        self.bits = -(-bits // self.passes)
        wanted = -(-n // (limits.each * limits.threads))
        self.blocks = max(1, min(wanted, SPANS // limits.warps))
        self.spans = self.blocks * limits.warps
        self.buffers: dict[str, Buffer] = {}
        self.sizes: dict[str, int] = {}

    def kernels(self, emitter: CudaEmitter, key: Callable[[str], str]) -> list[KernelSource]:
        """All kernels. The first one computes the keys: ``key("r")`` writes the lines of item r."""
        found = []
        for number in range(self.passes):
            counting = self.bare() if number else emitter
            found += [self._counts(counting, number, key), self._sums(number), self._moves(number)]
        return [*found, self._starts()]

    def pointer(self, kernel: CudaEmitter, name: str) -> str:
        """``keys0`` and the like as an argument of ``kernel``."""
        stem = name.rstrip("0123456789")
        digits = 1 << self.bits
        size = {"counts": digits * self.spans, "ranks": digits * self.spans, "totals": digits}
        buffer = self.buffers.setdefault(name, Buffer(name, U4, (), "partial"))
        self.sizes[name] = size.get(stem, self.keys + 1 if stem == "starts" else self.n)
        kernel.partial = self.sizes
        return kernel.pointer(buffer, 0).name

    @property
    def sorted_keys(self) -> str:
        return f"keys{self.passes}"

    @property
    def order(self) -> str:
        """The numbers of the items in their new order."""
        return f"order{self.passes}"

    # -- parts of kernels -------------------------------------------------------------------------

    def _digits(self, kernel: CudaEmitter, number: int) -> str:
        """How to read the digit of ``key``; declares what the spans of a block share."""
        kernel.scratches.append(("tally", f"shared_u4({self.limits.threads * self.limits.warps})"))
        kernel.w("warp = threadIdx_x() >> 5")
        kernel.w("lane = threadIdx_x() & 31")
        mask = kernel.int_arg("mask", (1 << self.bits) - 1)
        return f"(key >> {kernel.int_arg('shift', number * self.bits)}) & {mask}"

    def _span(self, kernel: CudaEmitter) -> None:
        """The items of a warp."""
        share = -(-self.n // (self.spans * WARP)) * WARP  # whole lines of memory
        name, n = kernel.int_arg("share", share), kernel.int_arg("n", self.n)
        kernel.w(f"first = (blockIdx_x() * {self.limits.warps} + warp) * {name}")
        kernel.w(f"last = min(first + {name}, {n})")

    def _cells(self, kernel: CudaEmitter) -> tuple[str, str, str]:
        """How many counts a block has; where the k-th lies in memory, and in ``tally``."""
        warps = self.limits.warps
        digits = kernel.int_arg("digits", 1 << self.bits)
        spans = kernel.int_arg("spans", self.spans)
        digit, warp = f"(k >> {warps.bit_length() - 1})", f"(k & {warps - 1})"
        there = f"{digit} * {spans} + blockIdx_x() * {warps} + {warp}"
        return kernel.int_arg("cells", warps << self.bits), there, f"{warp} * {digits} + {digit}"

    def _scan(self, kernel: CudaEmitter) -> None:
        """Running sums of what the threads of a block have put into ``sums``."""
        w = kernel.w
        w("syncthreads()")
        w("by = 1")
        with w.block(f"while by < {self.limits.threads}:"):
            w("other = cast_i8(0)")
            with w.block("if thread >= by:"):
                w("other = sums[thread - by]")
            w("syncthreads()")
            w("sums[thread] = sums[thread] + other")
            w("syncthreads()")
            w("by += by")

    # -- kernels ----------------------------------------------------------------------------------

    def _counts(self, kernel: CudaEmitter, number: int, key: Callable[[str], str]) -> KernelSource:
        w, keys = kernel.w, self.pointer(kernel, f"keys{number}")
        counts = self.pointer(kernel, f"counts{number}")
        digit = self._digits(kernel, number)
        cells, there, here = self._cells(kernel)
        with kernel.strided("k", "threadIdx_x()", cells, "blockDim_x()"):
            w("tally[k] = cast_u4(0)")
        w("syncthreads()")
        self._span(kernel)
        with kernel.strided("r", "first + lane", "last", str(WARP)):
            w(f"key = cast_i8({f'{keys}[r]' if number else key('r')})")
            if not number:
                w(f"{keys}[r] = cast_u4(key)")
            w(f"atomic_add(tally, warp * digits + ({digit}), cast_u4(1))")
        w("syncthreads()")
        with kernel.strided("k", "threadIdx_x()", cells, "blockDim_x()"):
            w(f"{counts}[{there}] = tally[{here}]")
        return kernel.launch("count", (self.blocks, 1), (self.limits.threads, 1))

    def _sums(self, number: int) -> KernelSource:
        """A block for each digit: how often it stands in the spans before, and in all."""
        kernel, threads = self.bare(), self.limits.threads
        w, spans = kernel.w, kernel.int_arg("spans", self.spans)
        counts, ranks, totals = (
            self.pointer(kernel, f"{name}{number}") for name in ("counts", "ranks", "totals")
        )
        kernel.scratches.append(("sums", f"shared_i8({threads})"))
        w("thread = threadIdx_x()")
        w(f"row = blockIdx_x() * {spans}")
        w("carried = cast_i8(0)")
        with w.block(f"for first in range(0, {spans}, {threads}):"):
            w("span = first + thread")
            w("count = cast_i8(0)")
            with w.block(f"if span < {spans}:"):
                w(f"count = cast_i8({counts}[row + span])")
            w("sums[thread] = count")
            self._scan(kernel)
            with w.block(f"if span < {spans}:"):
                w(f"{ranks}[row + span] = cast_u4(carried + sums[thread] - count)")
            w(f"carried += sums[{threads - 1}]")
            w("syncthreads()")
        with w.block("if thread == 0:"):
            w(f"{totals}[blockIdx_x()] = cast_u4(carried)")
        return kernel.launch("scan", (1 << self.bits, 1), (threads, 1))

    def _moves(self, number: int) -> KernelSource:
        kernel = self.bare()
        w, digit = kernel.w, self._digits(kernel, number)
        cells, there, here = self._cells(kernel)
        totals, ranks = (self.pointer(kernel, f"{name}{number}") for name in ("totals", "ranks"))
        kernel.scratches.append(("sums", f"shared_i8({self.limits.threads})"))
        w("thread = threadIdx_x()")
        w("count = cast_i8(0)")
        with w.block("if thread < digits:"):
            w(f"count = cast_i8({totals}[thread])")
        w("sums[thread] = count")
        self._scan(kernel)
        w("sums[thread] = sums[thread] - count")
        w("syncthreads()")
        with kernel.strided("k", "thread", cells, "blockDim_x()"):
            begin = f"sums[k >> {self.limits.warps.bit_length() - 1}]"
            w(f"tally[{here}] = cast_u4({begin} + cast_i8({ranks}[{there}]))")
        w("syncthreads()")
        self._span(kernel)
        self._ranked(kernel, number, digit)
        return kernel.launch("move", (self.blocks, 1), (self.limits.threads, 1))

    def _ranked(self, kernel: CudaEmitter, number: int, digit: str) -> None:
        """A warp's items, 32 at a time; every lane takes part, with an item or without."""
        w = kernel.w
        keys, order = (
            self.pointer(kernel, f"{name}{number}") if number or name == "keys" else ""
            for name in ("keys", "order")
        )
        new_keys, new_order = (
            self.pointer(kernel, f"{name}{number + 1}") for name in ("keys", "order")
        )
        with kernel.strided("base", "first", "last", str(WARP)):
            w("r = base + lane")
            w("key = cast_i8(0)")
            w("digit = digits")  # no item has it
            with w.block("if r < last:"):
                w(f"key = cast_i8({keys}[r])")
                w(f"digit = {digit}")
            w("peers = match_any(digit)")
            w("before = cast_i8(popcount(cast_u4(peers & ((1 << lane) - 1))))")
            w("at = cast_i8(0)")
            with w.block("if r < last:"):
                w("at = cast_i8(tally[warp * digits + digit])")
            w("syncwarp()")
            with w.block("if r < last:"):
                with w.block("if before == 0:"):
                    w("count = cast_i8(popcount(cast_u4(peers)))")
                    w("tally[warp * digits + digit] = cast_u4(at + count)")
                w(f"{new_keys}[at + before] = cast_u4(key)")
                w(f"{new_order}[at + before] = {f'{order}[r]' if order else 'cast_u4(r)'}")
            w("syncwarp()")

    def _starts(self) -> KernelSource:
        """Where the items of each key begin, found by halving; one more for the end of all."""
        kernel = self.bare()
        w, keys = kernel.w, self.pointer(kernel, self.sorted_keys)
        starts, n = self.pointer(kernel, "starts"), kernel.int_arg("n", self.n)
        total = self.keys + 1
        with kernel.strided("e", "grid()", kernel.int_arg("total", total), "gridsize()"):
            w("low = cast_i8(0)")
            w(f"high = {n}")
            with w.block("while low < high:"):
                w("middle = (low + high) >> 1")
                with w.block(f"if cast_i8({keys}[middle]) < e:"):
                    w("low = middle + 1")
                with w.block("else:"):
                    w("high = middle")
            w(f"{starts}[e] = cast_u4(low)")
        return kernel.spread("starts", total)
