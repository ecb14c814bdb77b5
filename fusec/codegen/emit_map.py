"""Elementwise groups: range kernels over rows, with the last loop left to LLVM's vectoriser.

A map over one merged axis::

    for i0 in range(start, stop):
        v0 = x0[i0]
        y0[i0] = v0 * c0
"""

from collections.abc import Callable

from fusec.codegen.emit import KernelSource, loaded
from fusec.codegen.emit_ahead import asked_stores, groups
from fusec.codegen.emit_gathers import Gathers
from fusec.codegen.emit_quotients import ROWS
from fusec.codegen.emit_spans import SpanEmitter
from fusec.codegen.emit_streams import streamed, streams
from fusec.codegen.loops import Buffer, Line, Store, closure
from fusec.codegen.schedule import all_lines, inner_stores, stage_targets
from fusec.ops.registry import COSTLY
from fusec.passes.access import Index, make

PIECE = 4096  # elements of a loop whose divisions are tried together


class MapEmitter(SpanEmitter):
    """Elementwise groups."""

    most: int | None = None  # bytes that are moved without going past the caches, if not the usual
    in_pieces = True

    def emit(self) -> KernelSource:
        plan, w = self.plan, self.w
        self.invariants()
        if not plan.reduced:
            with w.block("for row in range(start, stop):"):
                self._element()
            return self.finish("map", 1, self.work())
        vector = plan.reduced[0]
        if not plan.outer:
            last, rows = "stop", self.body.extents[vector]
            if left := self.left():
                last = "whole"
                w(f"whole = min(stop, {self.int_arg('periods', rows)})")
            self.vectors("start", last)
            if left:
                with w.block("if stop > whole:"):
                    self.behind()
            return self.finish("map", rows + (left > 0), self.work())
        span = "0", self.size(vector)
        if self.count(plan.outer) >= ROWS and not self.past():
            self.share(0, vector, span, vector, self.body.extents[vector])
        quotients = frozenset() if self.past() else self.divided(0)
        self.pieces("start", "stop", quotients, self.body.extents[vector], self.each_row)
        return self.finish("map", self.count(plan.outer), self.work() * self.body.extents[vector])

    def each_row(self, first: str, last: str) -> None:
        plan, vector = self.plan, self.plan.reduced[0]
        row = plan.outer[0] if len(plan.outer) == 1 else "row"
        with self.w.block(f"for {row} in range({first}, {last}):"):
            self.rows(plan.outer, row)
            self.row_lines(0)
            self.places_by_row()
            self.vectors("0", self.size(vector))
            self.behind()

    def pieces(
        self, first: str, last: str, quotients: frozenset[Line], size: int,
        write: Callable[[str, str], None],
    ) -> None:  # fmt: skip
        """Write a loop, with quotients a few thousand elements at a time; size: of a round."""
        if not quotients:
            write(first, last)
            return
        step = str(PIECE) if size == 1 else self.int_arg("together", max(1, PIECE // size))
        self.w(f"piece = {first}")
        with self.w.block(f"while piece < {last}:"):
            self.w(f"limit = min(piece + {step}, {last})")
            self.attempts(0, quotients, lambda: write("piece", "limit"))
            self.w("piece = limit")

    def vectors(self, first: str, last: str) -> None:
        """The innermost loop."""
        element = None if self.cuts(stage_targets(self.plan, 0), self._loop) else self._element
        Gathers(self).write(first, last, element, self.spans)

    def left(self) -> int:
        """How many elements of a row stand behind its last whole period."""
        rest = self.plan.rest
        return 0 if rest is None else rest.body.extents[rest.reduced[0]] % self.plan.period

    def behind(self) -> None:
        """The elements behind the last whole period of a row, one by one."""
        plan, left = self.plan, self.left()
        if not left or plan.rest is None:
            return
        self.plan, self.body = plan.rest, plan.rest.body
        (vector,) = plan.reduced
        end = self.body.extents[vector]
        span = f"{self.int_arg('tail', end - left)}, {self.int_arg('end', end)}"
        with self.w.block(f"for {vector} in range({span}):"):
            self.inner(0, stage_targets(self.plan, 0))
            self.stores(0, inner=True)
            self.w(f"one_by_one({vector})")
        self.plan, self.body = plan, plan.body

    def places_by_row(self) -> None:
        """A choice between two places in one buffer by the row alone is made once for the row."""
        vector = self.plan.reduced[0]
        for line in self.body.lines:
            if line.kind != "branch" or line.data:
                continue
            assert line.blocks is not None
            (first, rest), (second, other) = [_beside(b.value, vector) for b in line.blocks]
            fixed = not any(vector in bound.index.variables() for bound in line.guard)
            if first is None or first is not second or not fixed:
                continue
            for head, index in ((f"if {self.condition(line.guard)}:", rest), ("else:", other)):
                with self.w.block(head):
                    self.w(f"at_{line.name} = {self.number(index)}")
            place = f"{self.pointer(first, 0).name}[at_{line.name} + {vector}]"
            self.known[line] = loaded(line.dtype, place)

    def _loop(self, first: str, last: str) -> None:
        """One loop."""
        stores = self.past()
        if stores:
            streamed(self, stores, first, last, self._element)
            return
        alone = self.plan.outer or self.few or self.far()
        quotients = frozenset() if alone else self.divided(0)
        self.pieces(first, last, quotients, 1, self._plain)

    def past(self) -> list[Store]:
        """The stores that go past the caches."""
        return [] if self.few or self.far() else streams(self, self.most)

    def _plain(self, first: str, last: str) -> None:
        fits = self.few or self.far() or self.most is not None  # a span, a row of a tile
        if asked := [] if fits else asked_stores(self, inner_stores(self.plan, 0)):
            groups(self, asked, first, last, self._element)
            return
        with self.w.block(f"for {self.plan.reduced[0]} in range({first}, {last}):"):
            self._element()

    def _element(self) -> None:
        self.inner(0, stage_targets(self.plan, 0))
        self.stores(0, inner=True)
        if self.lone or self.grouped:
            return
        if self.few or self.far():
            self.w(f"one_by_one({self.plan.reduced[0]})")
        elif self.plan.reduced:
            self.interleave(stage_targets(self.plan, 0), self.plan.reduced[0])

    def far(self) -> bool:
        """Whether most of the work is to read at places that are themselves far apart in memory.

        Vectors would be put together twice, and wait; scalars keep more reads under way.
        """
        lines = [x for x in all_lines(self.body) if x not in self.known]
        chosen = 0
        for line in lines:
            need = closure([*line.data.values()], set())
            places = [x.index for x in need if x.kind == "load" and x.index is not None]
            chosen += any(abs(dict(i.terms).get(self.vector_axis, 0)) > 1 for i in places)
        return sum(x.cost for x in lines) < COSTLY * chosen


def _beside(line: Line, vector: str) -> tuple[Buffer | None, Index]:
    """What a load reads along ``vector``, else None; its place without ``vector``."""
    index = line.index or Index()
    rest = make({a: c for a, c in index.terms if a != vector}, index.const)
    plain = line.kind == "load" and not line.data and dict(index.terms).get(vector) == 1
    return (line.buffer if plain and vector not in rest.variables() else None), rest
