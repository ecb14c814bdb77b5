"""The first place of a value in a row, which ``argmax`` looks for once it knows the extreme."""

from functools import partial
from typing import Any

from llvmlite import ir
from numba.core import types

from fusec.codegen.folds import Loop, below, internal, load, load_some, pick, real
from fusec.codegen.intrinsic import intrinsic, names_of
from fusec.codegen.loops import LANES

_I64, _I32, _I1 = ir.IntType(64), ir.IntType(32), ir.IntType(1)


def _search(b: Any, pointer: Any, n: Any, value: Any, t: Any) -> None:
    """Emit ``first_equal``: the lanes of a group are compared at once."""
    vector = ir.VectorType(value.type, LANES)
    one = b.insert_element(ir.Constant(vector, ir.Undefined), value, _I32(0))
    wanted = pick(b, one, [0] * LANES)

    def look(start: Any, found: Any) -> None:
        if real(t):
            nan = b.fcmp_unordered("uno", found, found)
            same = b.or_(b.fcmp_ordered("==", found, wanted), nan)
        else:
            same = b.icmp_signed("==", found, wanted)
        bits = b.bitcast(b.and_(same, mask), _I32)
        with b.if_then(b.icmp_unsigned("!=", bits, _I32(0))):
            b.ret(b.add(start, b.zext(b.cttz(bits, ir.Constant(_I1, 0)), _I64)))

    groups = b.udiv(n, _I64(LANES))
    mask = ir.Constant(ir.VectorType(_I1, LANES), [1] * LANES)
    with Loop(b, groups) as loop:
        start = b.mul(loop.index, _I64(LANES))
        look(start, load(b, t, b.gep(pointer, [start]), LANES)[0])
    start = b.mul(groups, _I64(LANES))
    rest = b.sub(n, start)
    with b.if_then(b.icmp_unsigned("!=", rest, _I64(0))):
        mask = below(b, rest, 0, LANES)
        zeros = (ir.Constant(vector, [0] * LANES),)
        look(start, load_some(b, t, b.gep(pointer, [start]), rest, zeros)[0])
    b.ret(n)


@intrinsic(3, to=types.int64, mixed=True)
def first_equal(b: Any, t: Any, pointer: Any, n: Any, value: Any) -> Any:
    """The first of n elements that equals ``value`` or is NaN; n if there is none."""
    kind = ir.FunctionType(_I64, [pointer.type, _I64, value.type])
    search = internal(b, f"fusec.first_equal.{t[0].dtype}", kind, partial(_search, t=t[0].dtype))
    return b.call(search, [pointer, n, value])


@intrinsic(3, to=types.boolean, mixed=True)
def all_within(b: Any, t: Any, pointer: Any, count: Any, n: Any) -> Any:
    """Are all of some integers in memory, ``count`` in the source, in [0, n)?"""
    kind, lanes = t[0].dtype, count.constant
    apart = b.asm(ir.FunctionType(pointer.type, [pointer.type]), "", "=r,0", [pointer], False)
    (places,) = load(b, kind, apart, lanes)
    wide = ir.VectorType(_I64, lanes)
    if kind.bitwidth < 64:
        places = b.sext(places, wide) if kind.signed else b.zext(places, wide)
    one = b.insert_element(ir.Constant(wide, ir.Undefined), n, ir.IntType(32)(0))
    inside = b.icmp_unsigned("<", places, pick(b, one, [0] * lanes))
    every = ir.IntType(lanes)
    return b.icmp_unsigned("==", b.bitcast(inside, every), every(-1))


__all__ = names_of(globals())
