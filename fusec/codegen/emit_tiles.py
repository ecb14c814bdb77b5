"""CPU maps of which some arrays lie the other way round: tiles are transposed in registers.

What is contiguous along an outer axis would be read one element from a cache line at a time. A tile
of 16 x 64 elements is transposed into scratch first, and read from there along the inner axis::

    for row in range(start, stop):
        first_i0 = row * 16
        last_i0 = min(first_i0 + 16, n_i0)
        for first_i1 in range(0, n_i1, 64):
            last_i1 = min(first_i1 + 64, n_i1)
            ...                                     # fill tile_v0 by turn()
            for i0 in range(first_i0, last_i0):
                for i1 in range(first_i1, last_i1):
                    y0[i0 * y0_s0 + i1] = tile_v0[(i0 - first_i0) * 64 + i1 - first_i1] * c0
"""

from fusec.codegen.emit import KernelSource, loaded, stored
from fusec.codegen.emit_map import MapEmitter
from fusec.codegen.loops import Line
from fusec.codegen.schedule import Schedule, turned

SIDE = 16
PITCH = 64  # elements of a row of the tile
MAX_BYTES = 32 << 10  # of tiles, which stay in the first-level cache


def turnable(plan: Schedule) -> tuple[str, list[Line]]:
    """The outer axis along which loads are contiguous, and those of them that ``turn`` takes."""
    axis, loads = turned(plan, SIDE * PITCH, MAX_BYTES)
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
        tiles = -(-self.body.extents[axis] // SIDE)
        others = [name for name in plan.outer if name != axis]
        for line in self.loads:
            self.scratch(f"tile_{line.name}", line.dtype, SIDE * PITCH)
        with w.block("for row in range(start, stop):"):
            name = self.int_arg("tiles", tiles)
            w(f"first_{axis} = remainder(row, {name}) * {SIDE}")
            w(f"last_{axis} = min(first_{axis} + {SIDE}, {self.size(axis)})")
            w(f"other = quotient(row, {name})")
            self.rows(others, "other")
            with w.block(f"for first_{vector} in range(0, {self.size(vector)}, {PITCH}):"):
                w(f"last_{vector} = min(first_{vector} + {PITCH}, {self.size(vector)})")
                for line in self.loads:
                    self._fill(line)
                with w.block(f"for {axis} in range(first_{axis}, last_{axis}):"):
                    self.row_lines(0)
                    self.spans(f"first_{vector}", f"last_{vector}", self.copies())
        work = self.work() * SIDE * self.body.extents[vector]
        return self.finish("tiles", self.count(others) * tiles, work)

    def _fill(self, line: Line) -> None:
        """Transpose what a tile needs of one array: whole squares, then the rest singly."""
        axis, vector, tile = self.axis, self.plan.reduced[0], f"tile_{line.name}"
        assert line.buffer is not None and line.index is not None
        pointer, where = self.address(line.buffer, line.index)
        step = self.stride(f"{line.buffer.name}_step", dict(line.index.terms)[vector])
        first, last, w = f"first_{vector}", f"last_{vector}", self.w
        w(f"begin = {first}")
        with w.block(f"if last_{axis} - first_{axis} == {SIDE}:"):
            w(f"{axis} = first_{axis}")
            with w.block(f"for {vector} in range({first}, {last} - {SIDE - 1}, {SIDE}):"):
                w(f"turn(at({tile}, {vector} - {first}), at({pointer}, {where}), {step})")
            w(f"begin += ({last} - {first}) >> 4 << 4")
        with (
            w.block(f"for {vector} in range(begin, {last}):"),
            w.block(f"for {axis} in range(first_{axis}, last_{axis}):"),
        ):
            place = f"({axis} - first_{axis}) * {PITCH} + {vector} - {first}"
            w(f"{tile}[{place}] = {stored(line.dtype, self.expression(line))}")
        self.known[line] = loaded(line.dtype, f"{tile}[{place}]")
