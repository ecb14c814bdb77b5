"""CPU maps of which some arrays lie the other way round: tiles are transposed in registers.

What is contiguous along an outer axis would be read one element from a cache line at a time. A tile
of 64 x 64 elements is transposed into scratch first, and read from there along the inner axis::

    for row in range(start, stop):
        first_i0 = row * wide
        last_i0 = min(first_i0 + wide, n_i0)
        for part in range(0, n_i1, 64):
            first_i1 = max(part, 0)
            last_i1 = min(part + 64, n_i1)
            ...                                     # fill tile_v0 by turn()
            for i0 in range(first_i0, last_i0):
                for i1 in range(first_i1, last_i1):
                    y0[i0 * y0_s0 + i1] = tile_v0[(i0 - first_i0) * 64 + i1 - first_i1] * c0

Rows of a tile that are stored lie apart in memory: results of a few MB already go past the caches,
if all rows begin at the same place in a line. The parts begin where lines do, then.
"""

import sys

from fusec.codegen.emit import KernelSource, loaded, stored
from fusec.codegen.emit_map import MapEmitter
from fusec.codegen.emit_streams import LINE, streams
from fusec.codegen.loops import Line
from fusec.codegen.schedule import Schedule, stage_targets, turned

SIDE = 16
PITCH = 64  # elements of a row of the tile, and rows
BANDS = 16  # of full width that are enough for the threads to end together
MAX_BYTES = 32 << 10  # of tiles, which stay in the first-level cache
MOVED = 8 << 20  # bytes, from which on results go past the caches


def turnable(plan: Schedule) -> tuple[str, list[Line]]:
    """The outer axis along which loads are contiguous, and those of them that ``turn`` takes."""
    axis, loads = turned(plan, PITCH * PITCH, MAX_BYTES)
    return axis, [line for line in loads if _fits(line, axis, plan.reduced[0])]


def _fits(line: Line, axis: str, vector: str) -> bool:
    assert line.index is not None
    terms = dict(line.index.terms)
    return terms[axis] == 1 and abs(terms[vector]) >= SIDE and line.dtype.kind != "c"


class TileEmitter(MapEmitter):
    """See the module. axis, loads: from ``turnable``."""


    def __init__(self, plan: Schedule, axis: str, loads: list[Line]) -> None:
        super().__init__(plan)
        self.axis, self.loads = axis, loads

    def emit(self) -> KernelSource:
        plan, w, axis, vector = self.plan, self.w, self.axis, self.plan.reduced[0]
        self.invariants()
        length = self.body.extents[axis]
        wide = PITCH if length >= BANDS * PITCH else SIDE
        tiles = -(-length // wide)
        others = [name for name in plan.outer if name != axis]
        for line in self.loads:
            self.scratch(f"tile_{line.name}", line.dtype, PITCH * PITCH)
        size = self.size(vector)
        with w.block("for row in range(start, stop):"):
            name, step = self.int_arg("tiles", tiles), self.int_arg("wide", wide)
            w(f"first_{axis} = remainder(row, {name}) * {step}")
            w(f"last_{axis} = min(first_{axis} + {step}, {self.size(axis)})")
            w(f"other = quotient(row, {name})")
            self.rows(others, "other")
            with w.block(f"for part in range({self._before(vector)}, {size}, {PITCH}):"):
                w(f"first_{vector} = max(part, 0)")
                w(f"last_{vector} = min(part + {PITCH}, {size})")
                for line in self.loads:
                    self._fill(line)
                with w.block(f"for {axis} in range(first_{axis}, last_{axis}):"):
                    self.row_lines(0)
                    self.cuts(stage_targets(self.plan, 0), self._loop)
                    self.spans(f"first_{vector}", f"last_{vector}")
        work = self.work() * wide * self.body.extents[vector]
        return self.finish("tiles", self.count(others) * tiles, work)

    def _before(self, vector: str) -> str:
        """Where the first part begins, so that the others do where a line of the result does."""
        places = [(s.buffer.dtype.itemsize, s.index.terms) for s in self.body.stores]
        whole = all(size * c % LINE == 0 for size, terms in places for a, c in terms if a != vector)
        self.most = MOVED if whole and self._cuttable() is None else sys.maxsize
        stores = streams(self, self.most)
        if not stores:
            return "0"
        self.w(f"{self.axis} = first_{self.axis}")
        self.w(f"{vector} = 0")
        pointer, place = self.address(stores[0].buffer, stores[0].index)
        self.w(f"begin = before_line(at({pointer}, {place}))")
        return f"begin - {PITCH}"

    def _fill(self, line: Line) -> None:
        """Transpose what a tile needs of one array: whole squares, then the rest singly."""
        axis, vector, tile = self.axis, self.plan.reduced[0], f"tile_{line.name}"
        assert line.buffer is not None and line.index is not None
        pointer, where = self.address(line.buffer, line.index)
        step = self.stride(f"{line.buffer.name}_step", dict(line.index.terms)[vector])
        w, (top, bottom) = self.w, (f"first_{axis}", f"last_{axis}")
        first, last = f"first_{vector}", f"last_{vector}"
        place = f"({axis} - {top}) * {PITCH} + {vector} - {first}"
        w(f"right = {first} + (({last} - {first}) & -{SIDE})")
        w(f"below = {top} + (({bottom} - {top}) & -{SIDE})")
        with (
            w.block(f"for {vector} in range({first}, right, {SIDE}):"),
            w.block(f"for {axis} in range({top}, below, {SIDE}):"),
        ):
            w(f"turn(at({tile}, {place}), at({pointer}, {where}), {step})")
        for ends in (f"{first}, right", f"below, {bottom}"), (f"right, {last}", f"{top}, {bottom}"):
            with (
                w.block(f"for {vector} in range({ends[0]}):"),
                w.block(f"for {axis} in range({ends[1]}):"),
            ):
                w(f"{tile}[{place}] = {stored(line.dtype, self.expression(line))}")
        self.known[line] = loaded(line.dtype, f"{tile}[{place}]")
