"""Stores that go around the caches, for results that no cache would keep.

A processor that stores to a line of memory reads the line first, unless all of it is written past
the caches. Lanes of a loop's results are gathered in vector registers (see ``lanes``)::

    head = min(start + before_line(at(y0, start)), stop)
    o_y0 = lanes_f4()
    for g in range(head, stop - 31, LANES):
        for k in range(LANES):
            i0 = g + k
            o_y0[k] = x0[i0] * c0
            write_out(k)
        stream(at(y0, g), o_y0)
    end_of_streams()
"""

from typing import Any

from llvmlite import ir
from numba.core import types

from fusec.codegen.emit_streams import LINE
from fusec.codegen.folds import load, scalar
from fusec.codegen.intrinsic import foreign, intrinsic, names_of
from fusec.codegen.loops import LANES
from fusec.codegen.pointers import array_type
from fusec.codegen.target import host

_I64, _I32 = ir.IntType(64), ir.IntType(32)


def _lanes(letters: str) -> Any:
    """The primitive ``lanes_<letters>()``."""
    element = array_type(letters).dtype

    def emit(b: Any, t: Any) -> Any:
        with b.goto_entry_block():
            lanes = b.alloca(ir.VectorType(scalar(element), LANES))
        return b.bitcast(lanes, scalar(element).as_pointer())

    known, doc = f"lanes_{letters}", "LANES results, in registers."
    return intrinsic(0, to=array_type(letters), mixed=True, name=known, doc=doc)(emit)


@intrinsic(1, to=types.int64, mixed=True)
def before_line(b: Any, t: Any, pointer: Any) -> Any:
    """How many elements stand before the next border of a cache line."""
    size = int(t[0].dtype.bitwidth) // 8
    at = b.ptrtoint(pointer, _I64)
    return b.udiv(b.and_(b.neg(at), _I64(LINE - 1)), _I64(size))


@intrinsic(2, to=types.int64, mixed=True)
def stream(b: Any, t: Any, pointer: Any, lanes: Any) -> Any:
    """Store LANES results past the caches, if they begin a cache line; else as usual."""
    kind = t[0].dtype
    (vector,) = load(b, kind, lanes, LANES)
    place = b.bitcast(pointer, vector.type.as_pointer())
    size = min(int(kind.bitwidth) // 8 * LANES, LINE)
    begins = b.icmp_unsigned("==", b.and_(b.ptrtoint(pointer, _I64), _I64(size - 1)), _I64(0))
    with b.if_else(begins) as (then, otherwise):
        with then:
            store_past(b, vector, place, size)
        with otherwise:
            b.store(vector, place, align=int(kind.bitwidth) // 8)
    return _I64(0)


def store_past(b: Any, value: Any, place: Any, align: int) -> None:
    """A store past the caches."""
    found = b.store(value, place, align=align)
    found.set_metadata("nontemporal", b.module.add_metadata([_I32(1)]))


@intrinsic(0, to=types.int64, mixed=True)
def end_of_streams(b: Any, t: Any) -> Any:
    """The last statement of a kernel with streams: later stores come after them."""
    if host()[0].startswith("x86_64"):
        foreign(b, "llvm.x86.sse.sfence", ir.VoidType())
    return _I64(0)


_NAMES = ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f4", "f8")
globals().update({f"lanes_{n}": _lanes(n) for n in _NAMES})

__all__ = names_of(globals())
