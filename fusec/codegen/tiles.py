"""``turn``: a tile of 16 x 16 elements is transposed in registers.

Rows are loaded as vectors, neighbours are exchanged in blocks of 1, 2, 4 and 8 elements, and the
vectors are stored as rows again::

    turn(tile, at(x, first), step)    # tile[k * 64 + j] = x[first + j * step + k]
"""

from typing import Any

from llvmlite import ir
from numba.core import types

from fusec.codegen.emit_tiles import PITCH, SIDE
from fusec.codegen.intrinsic import intrinsic, names_of

LINE_BYTES = 64  # of a vector register, at most

_I64 = ir.IntType(64)


@intrinsic(3, to=types.int64, mixed=True)
def turn(b: Any, t: Any, tile: Any, source: Any, step: Any) -> Any:
    """Transposes a tile; see the module. The result is 0."""
    bits = int(t[0].dtype.bitwidth)
    side = min(SIDE, LINE_BYTES * 8 // bits)
    word = ir.IntType(bits)
    tile, source = (b.bitcast(p, word.as_pointer()) for p in (tile, source))
    for row in range(0, SIDE, side):
        for column in range(0, SIDE, side):
            places = [b.mul(step, _I64(row + j)) for j in range(side)]
            lines = [_load(b, b.gep(source, [b.add(p, _I64(column))]), side) for p in places]
            for k, line in enumerate(turned(b, lines)):
                place = b.gep(tile, [_I64((column + k) * PITCH + row)])
                b.store(line, b.bitcast(place, line.type.as_pointer()), align=bits // 8)
    return _I64(0)


def _load(b: Any, place: Any, count: int) -> Any:
    kind = ir.VectorType(place.type.pointee, count)
    return b.load(b.bitcast(place, kind.as_pointer()), align=place.type.pointee.width // 8)


def turned(b: Any, lines: list[Any]) -> list[Any]:
    """The vectors of the columns: line k trades with line k + half, for ever larger halves."""
    side, half = len(lines), 1
    while half < side:
        low = [e if not e & half else e - half + side for e in range(side)]
        high = [e + half if not e & half else e + side for e in range(side)]
        for k in range(side):
            if not k & half:
                first, second = lines[k], lines[k + half]
                lines[k] = _shuffle(b, first, second, low)
                lines[k + half] = _shuffle(b, first, second, high)
        half *= 2
    return lines


def _shuffle(b: Any, first: Any, second: Any, places: list[int]) -> Any:
    mask = ir.Constant(ir.VectorType(ir.IntType(32), len(places)), places)
    return b.shuffle_vector(first, second, mask)


__all__ = names_of(globals())
