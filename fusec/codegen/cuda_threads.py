"""What a CUDA thread knows and shares: indices, barriers, shuffles within a warp, shared memory.

These are the primitives that only CUDA kernels call, as LLVM's NVPTX intrinsics. Names are CUDA's:
``threadIdx_x()``, ``syncthreads()``, ``shfl_xor(value, 16)``, ``shared_f4(256)``. The simulator has
twins of them in ``cuda_simulator``.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic
from numba.np import numpy_support

from fusec.codegen.intrinsic import unliteral

WARP = 32

_I32, _I64 = ir.IntType(32), ir.IntType(64)
_SHARED = 3  # LLVM's address space of shared memory
_REGISTERS = {"threadIdx": "tid", "blockIdx": "ctaid", "blockDim": "ntid", "gridDim": "nctaid"}
_LETTERS = ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f4", "f8", "c8", "c16")


def _register(b: Any, name: str) -> Any:
    """The value of a special register as int64."""
    symbol = f"llvm.nvvm.read.ptx.sreg.{name}"
    kind = ir.FunctionType(_I32, [])
    function = b.module.globals.get(symbol) or ir.Function(b.module, kind, symbol)
    return b.zext(b.call(function, []), _I64)


def _without_arguments(name: str, doc: str, result: Any, emit: Callable[[Any], Any]) -> Any:
    def typer(context: Any) -> Any:
        return result(), lambda ctx, b, sig, args: emit(b)

    typer.__name__, typer.__doc__ = name, doc
    return intrinsic(typer)


def _index(name: str, axis: str) -> Any:
    place = f"{_REGISTERS[name]}.{axis}"
    return _without_arguments(
        f"{name}_{axis}", f"{name}.{axis} of CUDA.", types.int64, lambda b: _register(b, place)
    )


def _barrier(b: Any) -> Any:
    symbol, kind = "llvm.nvvm.barrier0", ir.FunctionType(ir.VoidType(), [])
    function = b.module.globals.get(symbol) or ir.Function(b.module, kind, symbol)
    b.call(function, [])
    return ir.Constant(_I64, 0)


def _grid(b: Any) -> Any:
    first = b.mul(_register(b, "ctaid.x"), _register(b, "ntid.x"))
    return b.add(first, _register(b, "tid.x"))


grid = _without_arguments("grid", "This thread's number in the grid.", types.int64, _grid)
gridsize = _without_arguments(
    "gridsize",
    "Threads in the grid.",
    types.int64,
    lambda b: b.mul(_register(b, "nctaid.x"), _register(b, "ntid.x")),
)
syncthreads = _without_arguments(
    "syncthreads", "Waits for the threads of the block; gives 0.", types.int64, _barrier
)


def _warp_barrier(b: Any) -> Any:
    symbol, kind = "llvm.nvvm.bar.warp.sync", ir.FunctionType(ir.VoidType(), [_I32])
    function = b.module.globals.get(symbol) or ir.Function(b.module, kind, symbol)
    b.call(function, [_I32(-1)])
    return ir.Constant(_I64, 0)


syncwarp = _without_arguments(
    "syncwarp",
    "Waits for the threads of the warp, and for what they write; gives 0.",
    types.int64,
    _warp_barrier,
)


@intrinsic
def match_any(context: Any, value: Any) -> Any:
    """The lanes of the warp whose value (in 32 bits) is that of this one, as bits of an int64."""

    def build(ctx: Any, b: Any, sig: Any, args: Any) -> Any:
        symbol, kind = "llvm.nvvm.match.any.sync.i32", ir.FunctionType(_I32, [_I32] * 2)
        function = b.module.globals.get(symbol) or ir.Function(b.module, kind, symbol)
        return b.zext(b.call(function, [_I32(-1), b.trunc(args[0], _I32)]), _I64)

    return types.int64(types.int64), build


# Shuffles move 32 bits; other values go in parts.


def _parts(b: Any, v: Any) -> list[Any]:
    if isinstance(v.type, ir.LiteralStructType):
        return [p for k in range(2) for p in _parts(b, b.extract_value(v, k))]
    kinds = {"float": _I32, "double": _I64}
    bits = b.bitcast(v, kinds[str(v.type)]) if str(v.type) in kinds else v
    if bits.type.width < 32:
        return [b.zext(bits, _I32)]
    if bits.type.width == 32:
        return [bits]
    return [b.trunc(bits, _I32), b.trunc(b.lshr(bits, _I64(32)), _I32)]


def _whole(b: Any, kind: Any, parts: list[Any]) -> Any:
    if isinstance(kind, ir.LiteralStructType):
        half = len(parts) // 2
        made = ir.Constant(kind, ir.Undefined)
        for k in range(2):
            value = _whole(b, kind.elements[k], parts[k * half : (k + 1) * half])
            made = b.insert_value(made, value, k)
        return made
    if len(parts) == 2:
        high = b.shl(b.zext(parts[1], _I64), _I64(32))
        bits = b.or_(b.zext(parts[0], _I64), high)
    else:
        bits = parts[0]
    if isinstance(kind, ir.IntType):
        return b.trunc(bits, kind) if kind.width < bits.type.width else bits
    return b.bitcast(bits, kind)


def _shuffle(name: str, mode: str, clamp: int, doc: str) -> Any:
    def typer(context: Any, value: Any, by: Any) -> Any:
        def build(ctx: Any, b: Any, sig: Any, args: Any) -> Any:
            symbol = f"llvm.nvvm.shfl.sync.{mode}.i32"
            kind = ir.FunctionType(_I32, [_I32] * 4)
            function = b.module.globals.get(symbol) or ir.Function(b.module, kind, symbol)
            distance = b.trunc(args[1], _I32)
            moved = [
                b.call(function, [_I32(-1), p, distance, _I32(clamp)]) for p in _parts(b, args[0])
            ]
            return _whole(b, args[0].type, moved)

        plain = unliteral(value)
        return plain(plain, types.int64), build

    typer.__name__, typer.__doc__ = name, doc
    return intrinsic(typer)


shfl_xor = _shuffle("shfl_xor", "bfly", 31, "The value of lane ``lane ^ by`` of the warp.")
shfl_up = _shuffle("shfl_up", "up", 0, "The value of lane ``lane - by``; its own where none is.")


def _shared(letters: str) -> Any:
    dtype = np.dtype(letters)
    element = numpy_support.from_dtype(dtype) if letters != "b1" else types.uint8

    def typer(context: Any, count: Any) -> Any:
        def build(ctx: Any, b: Any, sig: Any, args: Any) -> Any:
            kind = ir.ArrayType(ctx.get_value_type(element), args[0].constant)
            name = b.module.get_unique_name(f"shared_{letters}")
            array = ir.GlobalVariable(b.module, kind, name, addrspace=_SHARED)
            array.linkage = "internal"
            array.initializer = ir.Constant(kind, ir.Undefined)
            array.align = 16
            first = b.gep(array, [_I32(0), _I32(0)])
            return b.addrspacecast(first, ctx.get_value_type(sig.return_type))

        return types.CPointer(element)(types.int64), build  # type: ignore[no-untyped-call]

    typer.__name__ = f"shared_{letters}"
    typer.__doc__ = f"An array of {letters} that the threads of a block share."
    return intrinsic(typer)


@intrinsic
def atomic_add(context: Any, pointer: Any, place: Any, value: Any) -> Any:
    """``pointer[place] += value`` of integers, whatever other threads add there; gives 0."""

    def build(ctx: Any, b: Any, sig: Any, args: Any) -> Any:
        b.atomic_rmw("add", b.gep(args[0], [args[1]]), args[2], "monotonic")
        return ir.Constant(_I64, 0)

    return types.int64(pointer, types.int64, pointer.dtype), build


_names = ["grid", "gridsize", "syncthreads", "syncwarp", "match_any", "shfl_xor", "shfl_up"]
_names.append("atomic_add")
for _name in _REGISTERS:
    for _axis in "xy":
        globals()[f"{_name}_{_axis}"] = _index(_name, _axis)
        _names.append(f"{_name}_{_axis}")
for _letter in _LETTERS:
    globals()[f"shared_{_letter}"] = _shared(_letter)
    _names.append(f"shared_{_letter}")

__all__ = list(_names)
