"""Products of matrices, summed up in registers.

A tile of the result, some rows of two vectors each, takes a column of the first matrix and a row of
the second at a time, in their order: each element is one chain of fused multiply-adds::

    pack_strip(packed, b, depth, width, b_down, b_across)    # packed[p * pitch + j] = b[p, j]
    add_tiles(m, width, depth, a, a_down, a_across, packed, pitch, y, y_down, begin != 0)

``down``, ``across``: elements from row to row and from column to column. ``width`` is at most
``pitch``, two vectors; the last argument says whether the result is added to what is there.
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
from fusec.codegen.target import lanes_of, wide
from fusec.codegen.tiles import turned

_I64, _I32 = ir.IntType(64), ir.IntType(32)


def _vector(t: Any) -> Any:
    return ir.VectorType(scalar(t), lanes_of(t.bitwidth))


def _place(b: Any, t: Any, pointer: Any, v: int) -> Any:
    """Where vector ``v`` of a row is."""
    kind = _vector(t)
    return b.bitcast(b.gep(pointer, [_I64(v * kind.count)]), kind.as_pointer())


def _suffix(t: Any) -> str:
    return f"v{lanes_of(t.bitwidth)}f{t.bitwidth}"


def _some(b: Any, t: Any, pointer: Any, v: int, mask: Any) -> Any:
    """Vector ``v`` of a row under a mask."""
    kind = _vector(t)
    zero = ir.Constant(kind, [0.0] * kind.count)
    name, size = f"llvm.masked.load.{_suffix(t)}.p0", _I32(t.bitwidth // 8)
    return foreign(b, name, kind, _place(b, t, pointer, v), size, mask, zero)


def _tile(
    b: Any, t: Any, rows: int, count: int, width: Any, k: Any, a: Any, down: Any, across: Any,
    x: Any, step: Any, y: Any, y_step: Any, more: Any,
) -> None:  # fmt: skip
    """``rows`` x ``width`` elements, in ``count`` vectors a row."""
    kind, size = _vector(t), _I32(t.bitwidth // 8)
    masks = [below(b, width, v * kind.count, kind.count) for v in range(count)]
    zero = ir.Constant(kind, [0.0] * kind.count)
    for r in range(rows):  # which lie apart, and are written when the sums are done
        ask_for(b, b.gep(y, [b.mul(_I64(r), y_step)]), 2 * CACHE_LINE, writes=True)
    with Loop(b, k, (zero,) * (rows * count)) as loop:
        row = b.gep(x, [b.mul(loop.index, step)])
        given = [_some(b, t, row, v, mask) for v, mask in enumerate(masks)]
        column = b.gep(a, [b.mul(loop.index, across)])
        found = []
        for r in range(rows):
            one = b.load(b.gep(column, [b.mul(_I64(r), down)]))
            single = b.insert_element(ir.Constant(kind, ir.Undefined), one, _I32(0))
            spread = pick(b, single, [0] * kind.count)
            for v in range(count):
                old = loop.values[r * count + v]
                found.append(foreign(b, f"llvm.fma.{_suffix(t)}", kind, spread, given[v], old))
        loop.next = tuple(found)
    none = ir.Constant(ir.VectorType(ir.IntType(1), kind.count), None)
    before = [b.select(more, mask, none) for mask in masks]
    name = f"llvm.masked.store.{_suffix(t)}.p0"
    for number, value in enumerate(loop.values):
        line = b.gep(y, [b.mul(_I64(number // count), y_step)])
        v = number % count
        value = b.fadd(_some(b, t, line, v, before[v]), value)
        foreign(b, name, ir.VoidType(), value, _place(b, t, line, v), size, masks[v])


def _tiles(
    b: Any, m: Any, n: Any, k: Any, a: Any, down: Any, across: Any, x: Any, step: Any, y: Any,
    y_step: Any, more: Any, *, t: Any,
) -> None:  # fmt: skip
    """Emit the function: tiles of the result, from the top down."""
    lanes, most = lanes_of(t.bitwidth), 8 if wide() else 4  # rows for which there are registers

    def strip(count: int) -> None:
        def tile(rows: int, row: Any) -> None:
            place = b.gep(y, [b.mul(row, y_step)])
            first = b.gep(a, [b.mul(row, down)])
            _tile(b, t, rows, count, n, k, first, down, across, x, step, place, y_step, more)

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


@intrinsic(11, to=types.int64, mixed=True)
def add_tiles(b: Any, t: Any, *args: Any) -> Any:
    """y = a @ b, or y += a @ b; see the module. The result is 0."""
    return _call(b, t[3].dtype, "tiles", _tiles, args)


def _pack(
    b: Any, packed: Any, x: Any, rows: Any, columns: Any, down: Any, across: Any, *, t: Any
) -> None:
    """Emit the function: rows as they lie, squares of columns turned, or all one by one."""
    lanes, size = lanes_of(t.bitwidth), t.bitwidth // 8
    pitch = _I64(2 * lanes)

    def singly(row: Any, column: Any) -> None:
        value = b.load(b.gep(x, [b.add(b.mul(row, down), b.mul(column, across))]))
        b.store(value, b.gep(packed, [b.add(b.mul(row, pitch), column)]))

    with b.if_then(b.icmp_unsigned("==", across, _I64(1))):
        masks = [below(b, columns, v * lanes, lanes) for v in range(2)]
        with Loop(b, rows) as loop:
            source = b.gep(x, [b.mul(loop.index, down)])
            to = b.gep(packed, [b.mul(loop.index, pitch)])
            for v, mask in enumerate(masks):
                b.store(_some(b, t, source, v, mask), _place(b, t, to, v), align=size)
        b.ret(_I64(0))
    squares = b.select(b.icmp_unsigned("==", down, _I64(1)), _I64(-lanes), _I64(0))
    whole, wide = b.and_(rows, squares), b.and_(columns, squares)
    with Loop(b, b.udiv(wide, _I64(lanes))) as right, Loop(b, b.udiv(whole, _I64(lanes))) as loop:
        row, column = b.mul(loop.index, _I64(lanes)), b.mul(right.index, _I64(lanes))
        places = [b.mul(b.add(column, _I64(j)), across) for j in range(lanes)]
        starts = [b.gep(x, [b.add(at, row)]) for at in places]
        lines = [b.load(_place(b, t, start, 0), align=size) for start in starts]
        for j, line in enumerate(turned(b, lines, t.bitwidth)):
            at = b.add(b.mul(b.add(row, _I64(j)), pitch), column)
            b.store(line, _place(b, t, b.gep(packed, [at]), 0), align=size)
    with Loop(b, wide) as right, Loop(b, b.sub(rows, whole)) as loop:
        singly(b.add(whole, loop.index), right.index)
    with Loop(b, b.sub(columns, wide)) as right, Loop(b, rows) as loop:
        singly(loop.index, b.add(wide, right.index))
    b.ret(_I64(0))


@intrinsic(6, to=types.int64, mixed=True)
def pack_strip(b: Any, t: Any, *args: Any) -> Any:
    """Copy a strip of the second matrix, row after row; see the module. The result is 0."""
    return _call(b, t[0].dtype, "pack", _pack, args)


__all__ = names_of(globals())
