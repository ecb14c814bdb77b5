"""Pointer and index primitives of kernels: offsets, scratch arrays, unsigned division."""

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic
from numba.np import numpy_support


def _scratch(letters: str) -> Any:
    dtype = np.dtype(letters)
    element = numpy_support.from_dtype(dtype) if letters != "b1" else types.uint8

    def typer(context: Any, base: Any, offset: Any) -> Any:
        def build(ctx: Any, b: Any, sig: Any, args: Any) -> Any:
            raw = b.gep(b.bitcast(args[0], ir.IntType(8).as_pointer()), [args[1]])
            return b.bitcast(raw, ctx.get_value_type(sig.return_type))

        return types.CPointer(element)(base, types.int64), build  # type: ignore[no-untyped-call]

    typer.__name__ = f"scratch_{letters}"
    typer.__doc__ = f"The scratch array of {letters} that starts ``offset`` bytes after ``base``."
    return intrinsic(typer)


def _unsigned(name: str, instruction: str, bits: int = 64) -> Any:
    whole, part = ir.IntType(64), ir.IntType(bits)

    def typer(context: Any, a: Any, n: Any) -> Any:
        def build(ctx: Any, b: Any, sig: Any, args: Any) -> Any:
            return b.zext(getattr(b, instruction)(*[b.trunc(x, part) for x in args]), whole)

        return types.int64(types.int64, types.int64), build

    typer.__name__ = name
    typer.__doc__ = f"{name} of two int64 that are never negative and have {bits} bits."
    return intrinsic(typer)


def _in_floats(name: str) -> Any:
    """A division that a processor may make where its result is not needed: it can't fail."""

    def typer(context: Any, a: Any, n: Any) -> Any:
        def build(ctx: Any, b: Any, sig: Any, args: Any) -> Any:
            x, y = [b.sitofp(a, ir.DoubleType()) for a in args]
            x = b.fadd(x, x.type(0.5))  # so far from a whole result that x * (1 / y) will do
            whole = b.fptosi(b.fdiv(x, y), ir.IntType(64))
            return whole if name == "quotient_f8" else b.sub(args[0], b.mul(whole, args[1]))

        return types.int64(types.int64, types.int64), build

    typer.__name__ = name
    typer.__doc__ = f"{name} of two int64 that are never negative and less than 2**50."
    return intrinsic(typer)


@intrinsic
def low32(context: Any, x: Any) -> Any:
    """An int64 that fits in 32 bits, said so that it is computed in 32 bits."""

    def build(ctx: Any, b: Any, sig: Any, args: Any) -> Any:
        return b.sext(b.trunc(args[0], ir.IntType(32)), ir.IntType(64))

    return types.int64(types.int64), build


quotient = _unsigned("quotient", "udiv")
remainder = _unsigned("remainder", "urem")
quotient_u4 = _unsigned("quotient_u4", "udiv", 32)
remainder_u4 = _unsigned("remainder_u4", "urem", 32)
quotient_f8, remainder_f8 = _in_floats("quotient_f8"), _in_floats("remainder_f8")

_NAMES = ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f4", "f8", "c8", "c16")
globals().update({f"scratch_{n}": _scratch(n) for n in _NAMES})

_DIVISIONS = ("quotient", "remainder", "quotient_u4", "remainder_u4", "quotient_f8", "remainder_f8")
__all__ = ["low32", *_DIVISIONS, *[f"scratch_{n}" for n in _NAMES]]
