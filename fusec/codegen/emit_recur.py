"""Kernels of recurrences: the loop over the rounds stands inside.

A few elements go through all rounds one after the other; what they carry stays in registers::

    for i0 in range(start, stop):
        v0 = x0[i0]
        x1[i0] = v0
        for turn in range(n_turn):
            v1 = x2[turn * x2_sturn + i0]
            v2 = x1[i0]
            ...
            x1[i0] = t2

Many go through them in blocks of vectors, whose state stays in a cache; on a GPU each thread has
one.
"""

from functools import partial

import numpy as np

from fusec.codegen.emit import GRAIN_NS, KernelSource
from fusec.codegen.emit_cuda import CudaEmitter
from fusec.codegen.emit_loop import LoopEmitter
from fusec.codegen.emit_streams import streamed, streams
from fusec.codegen.loops import TURN, Line, Store, closure
from fusec.codegen.schedule import is_inner, memory

FEW = 4  # elements that are too few for vectors
STATE = 1 << 14  # bytes of what goes from round to round, which stay in the first cache
LONG_STATE = 1 << 18  # where rows of arrays are read or stored, which should be long
MOVED = 8 << 20  # bytes, from which on rows that are stored go past the caches, if they have
LONG_ROW = 4000  # elements: what stands before a line and behind the last one shows in shorter ones
CHUNK = 64, 4096  # elements, between which a sixteenth of all is worth waking a thread for


class RoundsEmitter(LoopEmitter):
    """On a CPU."""

    def emit(self) -> KernelSource:
        plan = self.plan
        names = [*plan.outer, *plan.reduced]
        vector = names[-1] if names else ""
        least = float(np.clip(self.count(names) / 16, *CHUNK))
        work = min(self.work() * self.body.extents[TURN], GRAIN_NS / least)
        self.invariants()
        if not vector or self.body.extents[vector] < FEW:
            row = names[0] if len(names) == 1 else "row"
            with self.w.block(f"for {row} in range(start, stop):"):
                self.rows(names, row)
                self.lane()
            return self.finish("rounds", self.count(names), work)
        if not plan.outer:
            self._blocks("start", "stop")
            return self.finish("rounds", self.count(names), work)
        row = plan.outer[0] if len(plan.outer) == 1 else "row"
        with self.w.block(f"for {row} in range(start, stop):"):
            self.rows(plan.outer, row)
            self._blocks("0", self.size(vector))
        return self.finish("rounds", self.count(plan.outer), work * self.body.extents[vector])

    def _blocks(self, first: str, last: str) -> None:
        vector = self.plan.reduced[0]
        along = f"for {vector} in range(low, high):"
        stores = [s for s in self.chosen(False) if TURN not in s.index.variables()]
        rows = any(TURN in index.variables() for index in memory(self.body))
        size = max(sum([s.buffer.dtype.itemsize for s in stores]), 1)
        block = (LONG_STATE if rows else STATE) // size
        with self.w.block(f"for low in range({first}, {last}, {block}):"):
            self.w(f"high = min(low + {block}, {last})")
            self.step(before=True, inner=False)
            with self.w.block(along):
                self.step(before=True, inner=True)
            with self.w.block(f"for {TURN} in range({self.size(TURN)}):"):
                self.step(before=False, inner=False)
                self._round(along)

    def _round(self, along: str) -> None:
        """One round of a block of elements."""
        stores = self.chosen(False)
        past = streams(self, MOVED, stores)
        if past and self.body.extents[self.vector_axis] >= LONG_ROW:
            streamed(self, past, "low", "high", partial(self.step, before=False, inner=True))
            return
        with self.w.block(along):
            self.step(before=False, inner=True)
            self.interleave([s.value for s in stores], self.plan.reduced[0])

    def lane(self) -> None:
        """All rounds of one element."""
        self.step(before=True)
        with self.w.block(f"for {TURN} in range({self.size(TURN)}):"):
            self.step(before=False)

    def chosen(self, before: bool) -> list[Store]:
        """What is stored before the first round, or in each."""
        return [s for s in self.body.stores if s.before == before]

    def step(self, before: bool, inner: bool | None = None) -> None:
        """What is done before the first round, or in each. inner: only what changes along the
        vector axis, or only the rest."""
        stores = self.chosen(before)
        checks = [x for x in self.body.lines if x.effect and not before]
        need = closure([s.value for s in stores] + checks, set(self.known))
        for line in self.body.lines:
            if line in need and self._moves(line) and inner in (None, is_inner(line, self.plan)):
                self.line(line)
        for store in stores if inner is not False else ():
            self.keep(store)

    def _moves(self, line: Line) -> bool:
        """Whether it is not computed once, before all loops."""
        return bool(line.variables) or line.stage > 0


class CudaRoundsEmitter(CudaEmitter, RoundsEmitter):
    """On a GPU: one thread for each element."""

    def emit(self) -> KernelSource:
        names = [*self.plan.outer, *self.plan.reduced]
        total = self.count(names)
        self.invariants()
        with self.strided("e", "grid()", self.int_arg("total", total), "gridsize()"):
            self.rows(names, "e")
            self.lane()
        return self.spread("rounds", total)
