"""The primitives that call BLAS: an address and the arguments of its C interface, row-major.

Both overwrite ``y`` (the factors are 1 and 0) and give 0, a status of no error.
"""

from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

ROW_MAJOR = 101  # CBLAS_ORDER
_I32, _I64 = ir.IntType(32), ir.IntType(64)
_FLOATS = {"f4": (types.float32, ir.FloatType()), "f8": (types.float64, ir.DoubleType())}


def _call(b: Any, where: Any, args: list[Any]) -> Any:
    kind = ir.FunctionType(ir.VoidType(), [a.type for a in args])
    b.call(b.inttoptr(where, kind.as_pointer()), args)
    return _I64(0)


def _flag(b: Any, value: Any) -> Any:
    return b.trunc(value, _I32)


def _gemm(letters: str) -> Any:
    numba, real = _FLOATS[letters]

    def typer(  # type: ignore[no-untyped-def]
        context, where, turn_a, turn_b, m, n, k, a, a_at, lead_a, x, x_at, lead_x, y, y_at, lead_y
    ):
        def build(ctx: Any, b: Any, sig: Any, args: Any) -> Any:
            where, turn_a, turn_b, m, n, k, a, a_at, lead_a, x, x_at, lead_x, y, y_at, lead_y = args
            a, x, y = b.gep(a, [a_at]), b.gep(x, [x_at]), b.gep(y, [y_at])
            return _call(b, where, [
                _I32(ROW_MAJOR), _flag(b, turn_a), _flag(b, turn_b), m, n, k, real(1.0),
                a, lead_a, x, lead_x, real(0.0), y, lead_y,
            ])  # fmt: skip

        i, p = types.int64, types.CPointer(numba)  # type: ignore[no-untyped-call]
        return i(i, i, i, i, i, i, p, i, i, p, i, i, p, i, i), build

    typer.__name__ = f"gemm_{letters}"
    typer.__doc__ = f"y = a @ x of matrices of {letters}."
    return intrinsic(typer)


def _gemv(letters: str) -> Any:
    numba, real = _FLOATS[letters]

    def typer(  # type: ignore[no-untyped-def]
        context, where, turn, m, k, a, a_at, lead, x, x_at, step, y, y_at, y_step
    ):
        def build(ctx: Any, b: Any, sig: Any, args: Any) -> Any:
            where, turn, m, k, a, a_at, lead, x, x_at, step, y, y_at, y_step = args
            a, x, y = b.gep(a, [a_at]), b.gep(x, [x_at]), b.gep(y, [y_at])
            return _call(b, where, [
                _I32(ROW_MAJOR), _flag(b, turn), m, k, real(1.0), a, lead, x, step, real(0.0),
                y, y_step,
            ])  # fmt: skip

        i, p = types.int64, types.CPointer(numba)  # type: ignore[no-untyped-call]
        return i(i, i, i, i, p, i, i, p, i, i, p, i, i), build

    typer.__name__ = f"gemv_{letters}"
    typer.__doc__ = f"y = a @ x of a matrix and a vector of {letters}."
    return intrinsic(typer)


globals().update({f"gemm_{n}": _gemm(n) for n in _FLOATS})
globals().update({f"gemv_{n}": _gemv(n) for n in _FLOATS})
__all__ = [f"{routine}_{n}" for routine in ("gemm", "gemv") for n in _FLOATS]
