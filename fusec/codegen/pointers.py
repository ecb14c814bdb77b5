"""Pointer and index primitives of kernels: offsets, scratch arrays, unsigned division."""
# mypy: disable-error-code="no-untyped-call"

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.np import numpy_support

from fusec.codegen.intrinsic import intrinsic, names_of, value_type
from fusec.codegen.loops import LANES

_I32, _I64, _WIDE = ir.IntType(32), ir.IntType(64), ir.DoubleType()
CACHE_LINE = 64  # bytes
LETTERS = ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f4", "f8", "c8", "c16")


def array_type(letters: str) -> Any:
    """Numba's type of an array of a dtype; booleans are uint8."""
    return types.CPointer(numpy_support.from_dtype(np.dtype(letters.replace("b1", "u1"))))


def _scratch(letters: str) -> Any:
    kind = array_type(letters)

    def emit(b: Any, t: Any, base: Any, offset: Any) -> Any:
        raw = b.gep(b.bitcast(base, ir.IntType(8).as_pointer()), [offset])
        return b.bitcast(raw, value_type(kind))

    doc = f"The scratch array of {letters} that starts ``offset`` bytes after ``base``."
    return intrinsic(2, to=kind, mixed=True, name=f"scratch_{letters}", doc=doc)(emit)


def _unsigned(name: str, instruction: str, bits: int = 64) -> Any:
    def emit(b: Any, t: Any, a: Any, n: Any) -> Any:
        numbers = [b.trunc(x, ir.IntType(bits)) for x in (a, n)]
        return b.zext(getattr(b, instruction)(*numbers), _I64)

    doc = f"{name} of two int64 that are never negative and have {bits} bits."
    return intrinsic(2, name=name, doc=doc)(emit)


def _in_floats(name: str) -> Any:
    """A division that a processor may make where its result is not needed: it can't fail."""

    def emit(b: Any, t: Any, a: Any, n: Any) -> Any:
        x, y = b.sitofp(a, _WIDE), b.sitofp(n, _WIDE)
        x = b.fadd(x, _WIDE(0.5))  # so far from a whole result that x * (1 / y) will do
        whole = b.fptosi(b.fdiv(x, y), _I64)
        return whole if name == "quotient_f8" else b.sub(a, b.mul(whole, n))

    doc = f"{name} of two int64 that are never negative and less than 2**50."
    return intrinsic(2, name=name, doc=doc)(emit)


@intrinsic(1, to=types.int64, mixed=True)
def prefetch(b: Any, t: Any, pointer: Any) -> Any:
    """Ask for the LANES elements from a pointer on, which are read soon; they need not exist."""
    ask_for(b, pointer, LANES * np.dtype(str(t[0].dtype)).itemsize, writes=False)
    return _I64(0)


def ask_for(b: Any, pointer: Any, nbytes: int, writes: bool, near: int = 3) -> None:
    """Ask for the cache lines from a pointer on, to be read or written soon.

    near: 3 for the cache next to the processor, 2 for the one behind it.
    """
    memory = ir.IntType(8).as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [memory, _I32, _I32, _I32])
    ask = b.module.declare_intrinsic("llvm.prefetch", [memory], kind)
    start = b.bitcast(pointer, memory)
    for k in range(0, nbytes, CACHE_LINE):
        b.call(ask, [b.gep(start, [_I64(k)]), _I32(int(writes)), _I32(near), _I32(1)])


@intrinsic(1, to=types.int64, mixed=True)
def crosses(b: Any, t: Any, pointer: Any) -> Any:
    """1 if the vectors from a pointer on cross the borders of cache lines, else 0."""
    place = b.and_(b.ptrtoint(pointer, _I64), _I64(CACHE_LINE - 1))
    return b.zext(b.icmp_unsigned("!=", place, _I64(0)), _I64)


@intrinsic(1)
def low32(b: Any, t: Any, x: Any) -> Any:
    """An int64 that fits in 32 bits, said so that it is computed in 32 bits."""
    return b.sext(b.trunc(x, _I32), _I64)


quotient, quotient_u4 = _unsigned("quotient", "udiv"), _unsigned("quotient_u4", "udiv", 32)
remainder, remainder_u4 = _unsigned("remainder", "urem"), _unsigned("remainder_u4", "urem", 32)
quotient_f8, remainder_f8 = _in_floats("quotient_f8"), _in_floats("remainder_f8")
globals().update({f"scratch_{n}": _scratch(n) for n in LETTERS})

__all__ = names_of(globals())
