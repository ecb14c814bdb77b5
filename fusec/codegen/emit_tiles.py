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

Where one square array is read both ways (``x + x.T``), and no cache holds it, a tile is followed by
the one across the diagonal, which needs the same elements: memory is read once. A row of the grid,
a band, has its tile on the diagonal, then two of each of half of the other bands, as if the first
followed the last::

    for pair in range(1, tiles + 1):
        there = remainder(band + (pair >> 1), tiles)
        swap = (there - band) * (pair & 1)
        part = begin + (band + swap) * 64
        ...                                         # first_i0 and last_i0
        part = begin + (there - swap) * 64
        ...                                         # first_i1 and last_i1
"""

import sys

from fusec.codegen.emit import KernelSource, loaded, stored
from fusec.codegen.emit_map import MapEmitter
from fusec.codegen.emit_streams import LINE, streams
from fusec.codegen.loops import Line
from fusec.codegen.schedule import Schedule, stage_targets, turned
from fusec.passes.access import make

SIDE = 16
PITCH = 64  # elements of a row of the tile, and rows
BANDS = 16  # of full width that are enough for the threads to end together
MAX_BYTES = 32 << 10  # of tiles, which stay in the first-level cache
MOVED = 8 << 20  # bytes, from which on results go past the caches
HELD = 24 << 20  # bytes of an array that the last cache may hold beside all else


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
        length, paired = self.body.extents[axis], self._paired()
        wide = PITCH if paired or length >= BANDS * PITCH else SIDE
        tiles = -(-length // wide) + paired  # the first may be cut off before a line
        others = [name for name in plan.outer if name != axis]
        for line in self.loads:
            self.scratch(f"tile_{line.name}", line.dtype, PITCH * PITCH)
        size = self.size(vector)
        with w.block("for row in range(start, stop):"):
            name = self.int_arg("tiles", tiles)
            w(f"band = remainder(row, {name})")
            w(f"other = quotient(row, {name})")
            self.rows(others, "other")
            if paired:
                w(f"first_{axis} = 0")
                w(f"begin = {self._before(vector)}")
                with w.block(f"for pair in range(1, {name} + 1):"):
                    self._pair(name)
                    self._tile()
            else:
                step = self.int_arg("wide", wide)
                w(f"first_{axis} = band * {step}")
                w(f"last_{axis} = min(first_{axis} + {step}, {self.size(axis)})")
                with w.block(f"for part in range({self._before(vector)}, {size}, {PITCH}):"):
                    w(f"first_{vector} = max(part, 0)")
                    w(f"last_{vector} = min(part + {PITCH}, {size})")
                    self._tile()
        work = self.work() * wide * self.body.extents[vector]
        return self.finish("tiles", self.count(others) * tiles, work)

    def _tile(self) -> None:
        axis, vector = self.axis, self.plan.reduced[0]
        for line in self.loads:
            self._fill(line)
        with self.w.block(f"for {axis} in range(first_{axis}, last_{axis}):"):
            self.row_lines(0)
            self.cuts(stage_targets(self.plan, 0), self._loop)
            self.spans(f"first_{vector}", f"last_{vector}")

    def _paired(self) -> bool:
        """Whether a tile across the diagonal needs the same elements of an array."""
        axis, vector = self.axis, self.plan.reduced[0]
        other, extents = {axis: vector, vector: axis}, self.body.extents
        places = [(x.buffer, x.index) for x in self.body.lines if x.kind == "load" and not x.data]
        across = []
        for line in self.loads:
            assert line.index is not None
            terms = {other.get(str(atom), atom): c for atom, c in line.index.terms}
            across.append((line.buffer, make(terms, line.index.const)))
        square = extents[axis] == extents[vector]
        size = extents[axis] ** 2 * max([line.dtype.itemsize for line in self.loads])
        return square and size > HELD and any(place in places for place in across)

    def _pair(self, bands: str) -> None:
        """The tile of this turn: one of the band, or the same elements the other way round."""
        w = self.w
        w(f"there = remainder(band + (pair >> 1), {bands})")
        w("swap = (there - band) * (pair & 1)")
        for name, place in ((self.axis, "band + swap"), (self.plan.reduced[0], "there - swap")):
            size = self.size(name)
            w(f"part = begin + ({place}) * {PITCH}")
            w(f"first_{name} = min(max(part, 0), {size})")
            w(f"last_{name} = max(first_{name}, min(part + {PITCH}, {size}))")

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
