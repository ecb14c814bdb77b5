"""``turn``, ``turn_back``: a tile of 16 x 16 elements is transposed in registers.

Rows are loaded as vectors, their elements are exchanged (``turned``), and the vectors are stored
as rows again::

    turn(tile, at(x, first), step)         # tile[k * 64 + j] = x[first + j * step + k]
    turn_back(at(y, first), tile, step)    # y[first + j * step + k] = tile[k * 64 + j]

``carried_f4(value)`` is what a loop over the rows of a tile carries, one element a column: an array
of 16 that LLVM keeps in registers, if all loops over it are written out (see ``lanes``) and need
no test for overlap. So the tiles of such a loop are arrays of the function: ``tile_f4()``.
"""

from typing import Any

from llvmlite import ir
from numba.core import types

from fusec.codegen.emit_tiles import PITCH, SIDE
from fusec.codegen.folds import scalar
from fusec.codegen.intrinsic import intrinsic, names_of
from fusec.codegen.pointers import array_type
from fusec.codegen.streams import store_past

LINE_BYTES = 64  # of a vector register, at most

GROUP_BITS = 128  # inside which all processors with vectors exchange elements

_I64 = ir.IntType(64)


@intrinsic(3, to=types.int64, mixed=True)
def turn(b: Any, t: Any, tile: Any, source: Any, step: Any) -> Any:
    """Transposes a tile; see the module. The result is 0."""
    _turn(b, t[0], tile, _I64(PITCH), source, step, past=False)
    return _I64(0)


@intrinsic(3, to=types.int64, mixed=True)
def turn_back(b: Any, t: Any, target: Any, tile: Any, step: Any) -> Any:
    """The inverse of `turn`; the result is 0."""
    _turn(b, t[0], target, step, tile, _I64(PITCH), past=False)
    return _I64(0)


@intrinsic(3, to=types.int64, mixed=True)
def stream_back(b: Any, t: Any, target: Any, tile: Any, step: Any) -> Any:
    """`turn_back` past the caches where the rows of the target begin a cache line.

    All of them do or none: the step is a multiple of a line.
    """
    low = b.and_(b.ptrtoint(target, _I64), _I64(LINE_BYTES - 1))
    with b.if_else(b.icmp_unsigned("==", low, _I64(0))) as (then, otherwise):
        for branch, past in ((then, True), (otherwise, False)):
            with branch:
                _turn(b, t[0], target, step, tile, _I64(PITCH), past)
    return _I64(0)


def _turn(b: Any, t: Any, target: Any, down: Any, source: Any, step: Any, past: bool) -> None:
    """target[k * down + j] = source[j * step + k]"""
    bits = int(t.dtype.bitwidth)
    side = min(SIDE, LINE_BYTES * 8 // bits)
    target, source = (b.bitcast(p, ir.IntType(bits).as_pointer()) for p in (target, source))

    def place(base: Any, step: Any, row: int, column: int) -> Any:
        return b.gep(base, [b.add(b.mul(step, _I64(row)), _I64(column))])

    for row in range(0, SIDE, side):
        for column in range(0, SIDE, side):
            lines = [_load(b, place(source, step, row + j, column), side) for j in range(side)]
            for k, line in enumerate(turned(b, lines, bits)):
                to = b.bitcast(place(target, down, column + k, row), line.type.as_pointer())
                if past:
                    store_past(b, line, to, side * bits // 8)
                else:
                    b.store(line, to, align=bits // 8)


def _carried(letters: str) -> Any:
    """The primitive ``carried_<letters>(value)``."""
    element = array_type(letters).dtype

    def emit(b: Any, t: Any, value: Any) -> Any:
        with b.goto_entry_block():
            lanes = b.alloca(ir.VectorType(scalar(element), SIDE))
        pointer = b.bitcast(lanes, scalar(element).as_pointer())
        for k in range(SIDE):
            b.store(value, b.gep(pointer, [_I64(k)]))
        return pointer

    known, doc = f"carried_{letters}", "SIDE values, in registers."
    return intrinsic(1, to=array_type(letters), name=known, doc=doc)(emit)


def _load(b: Any, place: Any, count: int) -> Any:
    kind = ir.VectorType(place.type.pointee, count)
    return b.load(b.bitcast(place, kind.as_pointer()), align=place.type.pointee.width // 8)


def turned(b: Any, lines: list[Any], bits: int) -> list[Any]:
    """The vectors of the columns, of elements of so many bits.

    Every step is one instruction of AVX: units of 1, 2, 4... elements of two vectors take turns
    inside each 128 bits, then whole 128 bits are dealt out.
    """
    side = len(lines)
    group, unit = min(side, GROUP_BITS // bits), 1
    while unit < group:
        units = [e - e % group + e % group // (2 * unit) * unit + e % unit for e in range(side)]
        low = [p + e // unit % 2 * side for e, p in enumerate(units)]
        high = [p + group // 2 for p in low]
        pairs = [(k + m, k + m + unit) for k in range(0, side, 2 * unit) for m in range(unit)]
        lines = [_shuffle(b, lines[i], lines[j], p) for i, j in pairs for p in (low, high)]
        unit *= 2
    columns = [_dealt(b, lines[c::group], group) for c in range(group)]
    return [column[k] for k in range(side // group) for column in columns]


def _dealt(b: Any, lines: list[Any], group: int) -> list[Any]:
    """Line k has group k of all the lines: those of even number of each two, then the others."""
    if len(lines) == 1:
        return lines
    side = lines[0].type.count
    even = [e // group * 2 * group + e % group for e in range(side)]
    pairs = list(zip(lines[::2], lines[1::2]))
    evens, odds = (
        _dealt(b, [_shuffle(b, i, j, p) for i, j in pairs], group)
        for p in (even, [e + group for e in even])
    )
    return [line for two in zip(evens, odds) for line in two]


def _shuffle(b: Any, first: Any, second: Any, places: list[int]) -> Any:
    mask = ir.Constant(ir.VectorType(ir.IntType(32), len(places)), places)
    return b.shuffle_vector(first, second, mask)


def _tile(letters: str) -> Any:
    """The primitive ``tile_<letters>()``."""
    element = array_type(letters).dtype

    def emit(b: Any, t: Any) -> Any:
        with b.goto_entry_block():
            cells = b.alloca(ir.ArrayType(scalar(element), SIDE * PITCH))
        cells.align = LINE_BYTES
        return b.bitcast(cells, scalar(element).as_pointer())

    known, doc = f"tile_{letters}", "SIDE rows of PITCH elements, which overlap no other array."
    return intrinsic(0, to=array_type(letters), mixed=True, name=known, doc=doc)(emit)


_NAMES = ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f4", "f8")
globals().update({f"carried_{n}": _carried(n) for n in _NAMES})
globals().update({f"tile_{n}": _tile(n) for n in _NAMES})

__all__ = names_of(globals())
