"""Products of matrices, summed up in registers.

A tile of the result, some rows of two vectors each, takes a column of the first matrix and a row of
the second at a time, in their order: each element is one chain of fused multiply-adds::

    pack_strips(packed, b, depth, n, b_down, b_across)    # packed[p * pitch + j] = b[p, j]
    pack_rows(left, a, depth, m, a_across, a_down)        # left[p * 8 + i] = a[i, p]
    add_tiles(m, width, depth, left, 8 * (depth + 1), 1, 8, packed, pitch, y, y_down, begin != 0)

``down``, ``across``: elements from row to row and from column to column; those from tile to tile of
``a`` come before. ``width`` is at most ``pitch``, two vectors; the last argument says whether the
result is added to what is there. Strips and tiles are packed one behind the other, with as much as
a row between: else those of 256 rows would lie in the same sets of a cache.
"""
# mypy: disable-error-code="no-untyped-call"

from collections.abc import Callable
from functools import partial
from typing import Any

from llvmlite import ir
from numba.core import types

from fusec.codegen.folds import Loop, below, internal, pick, scalar
from fusec.codegen.intrinsic import foreign, intrinsic, names_of
from fusec.codegen.pointers import CACHE_LINE, ask_for
from fusec.codegen.target import lanes_of, side
from fusec.codegen.tiles import turned

STEPS = 8  # columns of the first matrix; after so many others lines are asked for
SOON = 12  # columns until a packed one is read from the cache behind the first
_I64, _I32 = ir.IntType(64), ir.IntType(32)


def _vector(t: Any, lanes: int = 0) -> Any:
    return ir.VectorType(scalar(t), lanes or lanes_of(t.bitwidth))


def _place(b: Any, t: Any, pointer: Any, v: int, lanes: int = 0) -> Any:
    """Where vector ``v`` of a row is."""
    kind = _vector(t, lanes)
    return b.bitcast(b.gep(pointer, [_I64(v * kind.count)]), kind.as_pointer())


def _suffix(t: Any, lanes: int = 0) -> str:
    return f"v{lanes or lanes_of(t.bitwidth)}f{t.bitwidth}"


def _some(b: Any, t: Any, pointer: Any, v: int, mask: Any) -> Any:
    """Vector ``v`` of a row under a mask."""
    lanes = mask.type.count
    kind = _vector(t, lanes)
    zero = ir.Constant(kind, [0.0] * kind.count)
    name, size = f"llvm.masked.load.{_suffix(t, lanes)}.p0", _I32(t.bitwidth // 8)
    return foreign(b, name, kind, _place(b, t, pointer, v, lanes), size, mask, zero)


def _tile(
    b: Any, t: Any, rows: int, count: int, width: Any, k: Any, a: Any, down: Any, across: Any,
    x: Any, step: Any, y: Any, y_step: Any, more: Any, ahead: Any, ahead_step: Any,
) -> None:  # fmt: skip
    """``rows`` x ``width`` elements, in ``count`` vectors a row.

    The lines of the result lie apart, and those from ``ahead`` on are the next strip: they are
    asked for one by one, since a processor waits for a dozen lines at a time and no more.
    """
    kind, size = _vector(t), _I32(t.bitwidth // 8)
    masks = [below(b, width, v * kind.count, kind.count) for v in range(count)]
    zero = ir.Constant(kind, [0.0] * kind.count)
    last = _I64(rows - 1)

    def add(at: Any, sums: Any) -> Any:
        """The sums, and a column of the first matrix times a row of the second."""
        row = b.gep(x, [b.mul(at, step)])
        given = [_some(b, t, row, v, mask) for v, mask in enumerate(masks)]
        column = b.gep(a, [b.mul(at, across)])
        ask_for(b, b.gep(column, [b.mul(across, _I64(SOON))]), CACHE_LINE, writes=False)
        found = []
        for r in range(rows):
            one = b.load(b.gep(column, [b.mul(_I64(r), down)]))
            single = b.insert_element(ir.Constant(kind, ir.Undefined), one, _I32(0))
            spread = pick(b, single, [0] * kind.count)
            for v in range(count):
                old = sums[r * count + v]
                found.append(foreign(b, f"llvm.fma.{_suffix(t)}", kind, spread, given[v], old))
        return tuple(found)

    turns = b.udiv(k, _I64(STEPS))
    with Loop(b, turns, (zero,) * (rows * count)) as turn:
        first = b.mul(turn.index, _I64(STEPS))
        line = b.select(b.icmp_unsigned("<", turn.index, last), turn.index, last)
        for column in (0, kind.count, 2 * kind.count - 1):  # rows may begin inside of a line
            place = b.gep(y, [b.add(b.mul(line, y_step), _I64(column))])
            ask_for(b, place, CACHE_LINE, writes=True)
        ask_for(b, b.gep(ahead, [b.mul(first, ahead_step)]), 2 * CACHE_LINE, writes=False, near=2)
        with Loop(b, _I64(STEPS), turn.values) as loop:
            loop.next = add(b.add(first, loop.index), loop.values)
        turn.next = loop.values
    first = b.mul(turns, _I64(STEPS))
    with Loop(b, b.sub(k, first), turn.values) as loop:
        loop.next = add(b.add(first, loop.index), loop.values)
    with b.if_else(more) as (adds, writes):
        for branch, old in ((adds, True), (writes, False)):
            with branch:
                for number, value in enumerate(loop.values):
                    r, v = divmod(number, count)
                    line = b.gep(y, [b.mul(_I64(r), y_step)])
                    value = b.fadd(_some(b, t, line, v, masks[v]), value) if old else value
                    name, place = f"llvm.masked.store.{_suffix(t)}.p0", _place(b, t, line, v)
                    foreign(b, name, ir.VoidType(), value, place, size, masks[v])


def _tiles(
    b: Any, m: Any, n: Any, k: Any, a: Any, tile_step: Any, down: Any, across: Any, x: Any,
    step: Any, y: Any, y_step: Any, more: Any, *, t: Any,
) -> None:  # fmt: skip
    """Emit the function: tiles of the result, from the top down."""
    lanes, most = lanes_of(t.bitwidth), side()
    packed = b.icmp_unsigned("==", step, _I64(2 * lanes))
    beyond = b.select(packed, b.mul(b.add(k, _I64(1)), step), _I64(0))
    following = b.bitcast(b.gep(x, [beyond]), ir.IntType(8).as_pointer())
    share = b.udiv(_I64(2 * CACHE_LINE), b.add(b.udiv(m, _I64(most)), _I64(1)))
    share = b.select(packed, share, _I64(0))  # bytes for a column of a tile

    def strip(count: int) -> None:
        def tile(rows: int, row: Any) -> None:
            place = b.gep(y, [b.mul(row, y_step)])
            number, inside = b.udiv(row, _I64(most)), b.urem(row, _I64(most))
            first = b.gep(a, [b.add(b.mul(number, tile_step), b.mul(inside, down))])
            ahead = b.gep(following, [b.mul(b.mul(number, k), share)])
            _tile(b, t, rows, count, n, k, first, down, across, x, step, place, y_step, more,
                  ahead, share)  # fmt: skip

        with Loop(b, b.udiv(m, _I64(most))) as loop:
            tile(most, b.mul(loop.index, _I64(most)))
        rows = most // 2
        while rows:
            with b.if_then(b.icmp_unsigned("!=", b.and_(m, _I64(rows)), _I64(0))):
                tile(rows, b.and_(m, _I64(-2 * rows)))
            rows //= 2

    with b.if_else(b.icmp_unsigned(">", n, _I64(lanes))) as (two, one):
        with two:
            strip(2)
        with one:
            strip(1)
    b.ret(_I64(0))


def _call(b: Any, t: Any, name: str, emit: Callable[..., None], args: tuple[Any, ...]) -> Any:
    """Call the module's function that ``emit`` makes for elements of this type."""
    kind = ir.FunctionType(_I64, [x.type for x in args])
    return b.call(internal(b, f"fusec.{name}.{t}", kind, partial(emit, t=t)), args)


@intrinsic(12, to=types.int64, mixed=True)
def add_tiles(b: Any, t: Any, *args: Any) -> Any:
    """y = a @ b, or y += a @ b; see the module. The result is 0."""
    return _call(b, t[3].dtype, "tiles", _tiles, args)


def _pack(
    b: Any, packed: Any, x: Any, rows: Any, columns: Any, down: Any, across: Any, *, t: Any,
    lanes: int, vectors: int,
) -> None:  # fmt: skip
    """Emit the function: rows as they lie, squares of columns turned, or all one by one."""
    size, width = t.bitwidth // 8, vectors * lanes
    pitch = _I64(width)
    step = b.mul(b.add(rows, _I64(1)), pitch)

    def to(row: Any, column: Any) -> Any:
        strip, inside = b.udiv(column, pitch), b.urem(column, pitch)
        return b.gep(packed, [b.add(b.add(b.mul(strip, step), inside), b.mul(row, pitch))])

    def singly(row: Any, column: Any) -> None:
        value = b.load(b.gep(x, [b.add(b.mul(row, down), b.mul(column, across))]))
        b.store(value, to(row, column))

    with b.if_then(b.icmp_unsigned("==", across, _I64(1))):
        whole, strips = b.udiv(columns, pitch), b.udiv(b.add(columns, _I64(width - 1)), pitch)
        every = ir.Constant(ir.VectorType(ir.IntType(1), lanes), [1] * lanes)
        for begin, count in ((_I64(0), whole), (whole, b.sub(strips, whole))):
            with Loop(b, rows) as loop, Loop(b, count) as strip:
                row, first = loop.index, b.mul(b.add(begin, strip.index), pitch)
                source, target = b.gep(x, [b.add(b.mul(row, down), first)]), to(row, first)
                for v in range(vectors):
                    some = below(b, b.sub(columns, first), v * lanes, lanes)
                    line = _some(b, t, source, v, some if begin is whole else every)
                    b.store(line, _place(b, t, target, v, lanes), align=size)
        b.ret(_I64(0))
    squares = b.select(b.icmp_unsigned("==", down, _I64(1)), _I64(-lanes), _I64(0))
    whole, wide = b.and_(rows, squares), b.and_(columns, squares)
    with Loop(b, b.udiv(wide, _I64(lanes))) as right, Loop(b, b.udiv(whole, _I64(lanes))) as loop:
        row, column = b.mul(loop.index, _I64(lanes)), b.mul(right.index, _I64(lanes))
        places = [b.mul(b.add(column, _I64(j)), across) for j in range(lanes)]
        starts = [b.gep(x, [b.add(at, row)]) for at in places]
        lines = [b.load(_place(b, t, start, 0, lanes), align=size) for start in starts]
        for start in starts:
            ask_for(b, b.gep(start, [b.mul(across, _I64(lanes))]), CACHE_LINE, writes=False)
        for j, line in enumerate(turned(b, lines, t.bitwidth)):
            b.store(line, _place(b, t, to(b.add(row, _I64(j)), column), 0, lanes), align=size)
    with Loop(b, wide) as right, Loop(b, b.sub(rows, whole)) as loop:
        singly(b.add(whole, loop.index), right.index)
    with Loop(b, b.sub(columns, wide)) as right, Loop(b, rows) as loop:
        singly(loop.index, b.add(wide, right.index))
    b.ret(_I64(0))


@intrinsic(6, to=types.int64, mixed=True)
def pack_strips(b: Any, t: Any, *args: Any) -> Any:
    """Copy strips of the second matrix, row after row; see the module. The result is 0."""
    emit = partial(_pack, lanes=lanes_of(t[0].dtype.bitwidth), vectors=2)
    return _call(b, t[0].dtype, "pack", emit, args)


@intrinsic(6, to=types.int64, mixed=True)
def pack_rows(b: Any, t: Any, *args: Any) -> Any:
    """Copy tiles of the first matrix, column after column; see the module. The result is 0."""
    return _call(b, t[0].dtype, "turn", partial(_pack, lanes=side(), vectors=1), args)


__all__ = names_of(globals())
