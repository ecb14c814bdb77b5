"""The primitives that call BLAS: an address and the arguments of its C interface, row-major.

Both overwrite ``y`` (the factors are 1 and 0) and give 0, a status of no error.
"""

from typing import Any

from llvmlite import ir
from numba.core import types

from fusec.codegen.intrinsic import intrinsic, value_type

ROW_MAJOR = 101  # CBLAS_ORDER
_I32, _I64 = ir.IntType(32), ir.IntType(64)


def _call(b: Any, where: Any, turns: list[Any], args: list[Any]) -> Any:
    """turns: transposition flags, which have 32 bits."""
    args = [_I32(ROW_MAJOR), *[b.trunc(turn, _I32) for turn in turns], *args]
    kind = ir.FunctionType(ir.VoidType(), [a.type for a in args])
    b.call(b.inttoptr(where, kind.as_pointer()), args)
    return _I64(0)


def _gemm(b: Any, t: Any, *args: Any) -> Any:
    """y = a @ x of matrices."""
    where, turn_a, turn_b, m, n, k, a, a_at, lead_a, x, x_at, lead_x, y, y_at, lead_y = args
    real = value_type(t[6].dtype)
    a, x, y = b.gep(a, [a_at]), b.gep(x, [x_at]), b.gep(y, [y_at])
    return _call(b, where, [turn_a, turn_b],
                 [m, n, k, real(1.0), a, lead_a, x, lead_x, real(0.0), y, lead_y])  # fmt: skip


def _gemv(b: Any, t: Any, *args: Any) -> Any:
    """y = a @ x of a matrix and a vector."""
    where, turn, m, k, a, a_at, lead, x, x_at, step, y, y_at, y_step = args
    real = value_type(t[4].dtype)
    a, x, y = b.gep(a, [a_at]), b.gep(x, [x_at]), b.gep(y, [y_at])
    return _call(b, where, [turn], [m, k, real(1.0), a, lead, x, step, real(0.0), y, y_step])


__all__ = []
for _name, _arity, _emit in (("gemm", 15, _gemm), ("gemv", 13, _gemv)):
    for _letters in ("f4", "f8"):
        _known = f"{_name}_{_letters}"
        globals()[_known] = intrinsic(_arity, to=types.int64, mixed=True, name=_known)(_emit)
        __all__ += [_known]
