"""Scans along rows: several rows side by side, so that no addition waits for the one before it.

Sixteen rows are taken in tiles of 16 x 16 elements, which are transposed in registers: what is at
one place in all of the rows is a vector. The last tile may have columns in common with the one
before; so may the second, so that the tiles behind the first begin where cache lines do::

    for part in range(-(16 - before_line(at(y0, first * y0_s0)) & 15), n_i1, 16):
        left = min(max(part, 0), n_i1 - 16)
        low = done - left                       # columns that the tile before has as well
        turn(tile_v0, at(x0, first * x0_s0 + left), x0_s0)
        ...                                     # what it has of tile_y0 is moved to the front
        for j in range(low, 16):
            for k in range(16):                 # a vector
                q0 = (held_q0[k] + tile_v0[j * 64 + k])
                held_q0[k] = q0
                tile_y0[j * 64 + k] = q0
                write_out(k)
        turn_back(at(y0, first * y0_s0 + left), tile_y0, y0_s0)
        done = left + 16

Fewer rows, or rows that are read at other places, are taken four at a time, then one at a time::

    for k in range(4):
        carry_q0[k] = cast_f4(-0.0)
    for i1 in range(n_i1):
        for k in range(4):                      # LLVM writes this loop out
            i0 = first + k
            q0 = (carry_q0[k] + x0[i0 * x0_s0 + i1])
            carry_q0[k] = q0
            y0[i0 * y0_s0 + i1] = q0
"""

from contextlib import nullcontext

from fusec.codegen.emit import KernelSource, cell, loaded, stored
from fusec.codegen.emit_loop import LoopEmitter
from fusec.codegen.emit_streams import LINE, moved, streams
from fusec.codegen.emit_tiles import MAX_BYTES, MOVED, PITCH, SIDE
from fusec.codegen.loops import Buffer, Line, Store
from fusec.codegen.schedule import Schedule, inner_stores, is_inner, stage_targets
from fusec.passes.access import Index

ROWS = 4


def side_by_side(plan: Schedule) -> bool:
    """Whether rows can run together: nothing but scans along one axis, nothing done once a row."""
    body = plan.body
    if body.folds or plan.column or len(plan.outer) != 1 or len(plan.reduced) != 1:
        return False
    a_row = [x for x in body.lines if x.variables and not is_inner(x, plan) and x.kind != "load"]
    return body.extents[plan.outer[0]] >= ROWS and not a_row


class ScanEmitter(LoopEmitter):
    """See the module."""

    carry = "carry"  # the arrays that hold what goes from column to column

    def emit(self) -> KernelSource:
        (outer,), (vector,), w = self.plan.outer, self.plan.reduced, self.w
        self.invariants()
        self.scans = [x for x in self.body.lines if x.kind == "scan"]
        for line in self.scans:
            self.scratch(f"carry_{line.name}", line.dtype, ROWS)
        loads = [x for x in self.body.lines if x.kind == "load" and x.variables]
        tiled = self._fit(loads)
        rows = SIDE if tiled else ROWS
        with w.block("for block in range(start, stop):"):
            w(f"first = block * {rows}")
            w(f"last = min(first + {rows}, {self.size(outer)})")
            if tiled:
                with w.block(f"if last - first == {SIDE}:"):
                    self._tiles([x for x in loads if outer in x.variables])
            with w.block("else:") if tiled else nullcontext():
                self._few()
        work = self.work() * self.body.extents[vector] * rows
        return self.finish("scan", -(-self.body.extents[outer] // rows), work)

    def _few(self) -> None:
        with self.w.block(f"for four in range(first, last, {ROWS}):"):
            with self.w.block(f"if last - four >= {ROWS}:"):
                self._rows(f"range({ROWS})", "four + k")
            with self.w.block("else:"), self.w.block("for late in range(four, last):"):
                self._rows("range(1)", "late")

    def _rows(self, rows: str, row: str) -> None:
        with self.w.block(f"for k in {rows}:"):
            for line in self.scans:
                self.w(f"carry_{line.name}[k] = {_start(line)}")
        (vector,) = self.plan.reduced
        with (
            self.w.block(f"for {vector} in range({self.size(vector)}):"),
            self.w.block(f"for k in {rows}:"),
        ):
            self.w(f"{self.plan.outer[0]} = {row}")
            self._element()

    def _fit(self, loads: list[Line]) -> bool:
        """Whether all that is read and stored lies in tiles, or is the same for all rows.

        Of 8 bytes an element a tile has twice as many vectors to transpose: a sum of what lies in a
        cache is no faster, and short rows, whose tiles have much in common, are slower.
        """
        (outer,), (vector,), extents = self.plan.outer, self.plan.reduced, self.body.extents
        if min(extents[outer], extents[vector]) < SIDE:
            return False
        stores = inner_stores(self.plan, 0)
        wide = max(x.dtype.itemsize for x in self.scans) == 8
        light = not any(x.kind == "op" for x in self.body.lines) and moved(self, stores) <= MOVED
        if wide and (light or extents[vector] < 4 * SIDE):
            return False
        placed = [(x.buffer, x.index) for x in loads if outer in x.variables]
        placed += [(s.buffer, s.index) for s in stores]
        kinds = {x.kind for x in self.body.lines} <= {"load", "op", "scan", "index", "size"}
        plain = kinds and not any(x.effect or x.data for x in self.body.lines)
        size = sum(b.dtype.itemsize for b, _ in placed if b is not None)
        return (
            plain
            and len(stores) == len(self.body.stores)
            and size * SIDE * PITCH <= MAX_BYTES
            and all(_in_tiles(b, i, outer, vector) for b, i in placed)
            and not any(x.dtype.kind == "c" for x in self.scans)
        )

    def _tiles(self, loads: list[Line]) -> None:
        """Sixteen rows."""
        (outer,), (vector,), w = self.plan.outer, self.plan.reduced, self.w
        stores, size = inner_stores(self.plan, 0), self.size(vector)
        for line in self.scans:
            w(f"held_{line.name} = carried_{cell(line.dtype)}({_start(line)})")
        tiles = {x: f"tile_{x.name}" for x in loads}
        kept = {s: f"tile_{s.buffer.name}_{n}" for n, s in enumerate(stores)}
        dtypes = {tile: x.dtype for x, tile in tiles.items()}
        for name, dtype in (dtypes | {tile: s.buffer.dtype for s, tile in kept.items()}).items():
            w(f"{name} = tile_{cell(dtype)}()")
        past, begin = self._past(stores)
        w("done = 0")
        with w.block(f"for part in range({begin}, {size}, {SIDE}):"):
            w(f"left = min(max(part, 0), {size} - {SIDE})")
            w("low = done - left")
            for line, tile in tiles.items():
                assert line.buffer is not None and line.index is not None
                where, step = self._corner(line.buffer, line.index)
                w(f"turn({tile}, {where}, {step})")
            with w.block("for j in range(0, low):"), w.block(f"for k in range({SIDE}):"):
                for store, tile in kept.items():
                    earlier = _place(store.index, vector, f"{SIDE} - low + j")
                    w(f"{tile}[{_place(store.index, vector)}] = {tile}[{earlier}]")
                w("write_out(k)")
            with w.block(f"for j in range(low, {SIDE}):"):
                w(f"{vector} = left + j")
                with w.block(f"for k in range({SIDE}):"):
                    w(f"{outer} = first + k")
                    self._column(tiles, kept)
                    w("write_out(k)")
            for store, tile in kept.items():
                where, step = self._corner(store.buffer, store.index)
                back = "stream_back" if store in past else "turn_back"
                w(f"{back}({where}, {tile}, {step})")
            w(f"done = left + {SIDE}")

    def _column(self, tiles: dict[Line, str], kept: dict[Store, str]) -> None:
        """What one column of a tile computes, element k of sixteen."""
        (vector,), known = self.plan.reduced, dict(self.known)
        for line, tile in tiles.items():
            assert line.index is not None
            place = _place(line.index, vector)
            self.known[line] = loaded(line.dtype, f"{tile}[{place}]")
        self.gathered = {s: f"{tile}[{_place(s.index, vector)}]" for s, tile in kept.items()}
        self.carry = "held"
        self._element()
        self.carry, self.gathered, self.known = "carry", {}, known

    def _corner(self, buffer: Buffer, index: Index) -> tuple[str, str]:
        """The first element of a tile in memory, and the step from row to row."""
        (outer,), (vector,) = self.plan.outer, self.plan.reduced
        terms = dict(index.terms)
        self.w(f"{outer} = first")
        self.w(f"{vector} = left" if terms[vector] == 1 else f"{vector} = left + {SIDE - 1}")
        pointer, where = self.address(buffer, index)
        return f"at({pointer}, {where})", self._stride_of(buffer, outer, outer, terms[outer])

    def _past(self, stores: list[Store]) -> tuple[list[Store], str]:
        """The stores that go past the caches, and where the first tile would begin with them."""
        (outer,), (vector,) = self.plan.outer, self.plan.reduced
        whole = [
            s for s in stores
            if dict(s.index.terms)[outer] * s.buffer.dtype.itemsize % LINE == 0
            and s.buffer.dtype.itemsize * SIDE >= LINE and dict(s.index.terms)[vector] == 1
        ]  # fmt: skip
        if not whole:
            return [], "0"
        self.w(f"{outer} = first")
        self.w(f"{vector} = 0")
        pointer, place = self.address(whole[0].buffer, whole[0].index)
        past = [s for s in streams(self, MOVED) if s in whole]
        self.streamed = bool(past)
        return past, f"-(({SIDE} - before_line(at({pointer}, {place}))) & {SIDE - 1})"

    def _element(self) -> None:
        self.row_lines(0)
        self.inner(0, stage_targets(self.plan, 0))
        self.stores(0, inner=True)

    def line(self, line: Line) -> None:
        if line.kind != "scan":
            super().line(line)
            return
        carry = f"{self.carry}_{line.name}[k]"
        text = line.text.format(
            *[self.read(a) for a in line.args], carry=loaded(line.dtype, carry)
        )
        self.w(f"{line.name} = {text}")
        self.w(f"{carry} = {stored(line.dtype, line.name)}")


def _start(line: Line) -> str:
    assert line.buffer is not None
    return stored(line.dtype, line.buffer.name)


def _in_tiles(buffer: Buffer | None, index: Index | None, outer: str, vector: str) -> bool:
    terms = dict(index.terms) if index is not None else {}
    known = buffer is not None and buffer.dtype.kind != "c" and set(terms) == {outer, vector}
    return known and terms[vector] in (1, -1)


def _place(index: Index, vector: str, column: str = "j") -> str:
    """Where element k of a column of a tile stands."""
    if dict(index.terms)[vector] < 0:
        column = f"{SIDE - 1} - ({column})"
    return f"({column}) * {PITCH} + k"
