"""What a CUDA thread knows and shares: indices, barriers, shuffles within a warp, shared memory.

These are the primitives that only CUDA kernels call, as LLVM's NVPTX intrinsics. Names are CUDA's:
``threadIdx_x()``, ``syncthreads()``, ``shfl_xor(value, 16)``, ``shared_f4(256)``. The simulator has
twins of them in ``cuda_simulator``.
"""

# mypy: disable-error-code="no-untyped-call"

from typing import Any

from llvmlite import ir
from numba.core import types

from fusec.codegen.intrinsic import foreign, intrinsic, names_of, value_type
from fusec.codegen.pointers import LETTERS, array_type

WARP = 32

_I32, _I64, _NOTHING, _ALL = ir.IntType(32), ir.IntType(64), ir.VoidType(), ir.IntType(32)(-1)
_SHARED = 3  # LLVM's address space of shared memory
_REGISTERS = {"threadIdx": "tid", "blockIdx": "ctaid", "blockDim": "ntid", "gridDim": "nctaid"}


def _register(b: Any, name: str) -> Any:
    """The value of a special register as int64."""
    return b.zext(foreign(b, f"llvm.nvvm.read.ptx.sreg.{name}", _I32), _I64)


def _index(name: str, axis: str) -> Any:
    def emit(b: Any, t: Any) -> Any:
        return _register(b, f"{_REGISTERS[name]}.{axis}")

    doc = f"{name}.{axis} of CUDA."
    return intrinsic(0, to=types.int64, mixed=True, name=f"{name}_{axis}", doc=doc)(emit)


@intrinsic(0, to=types.int64, mixed=True)
def grid(b: Any, t: Any) -> Any:
    """This thread's number in the grid."""
    first = b.mul(_register(b, "ctaid.x"), _register(b, "ntid.x"))
    return b.add(first, _register(b, "tid.x"))


@intrinsic(0, to=types.int64, mixed=True)
def gridsize(b: Any, t: Any) -> Any:
    """Threads in the grid."""
    return b.mul(_register(b, "nctaid.x"), _register(b, "ntid.x"))


@intrinsic(0, to=types.int64, mixed=True)
def syncthreads(b: Any, t: Any) -> Any:
    """Waits for the threads of the block; gives 0."""
    foreign(b, "llvm.nvvm.barrier0", _NOTHING)
    return _I64(0)


@intrinsic(0, to=types.int64, mixed=True)
def syncwarp(b: Any, t: Any) -> Any:
    """Waits for the threads of the warp, and for what they write; gives 0."""
    foreign(b, "llvm.nvvm.bar.warp.sync", _NOTHING, _ALL)
    return _I64(0)


@intrinsic(1)
def match_any(b: Any, t: Any, value: Any) -> Any:
    """The lanes of the warp whose value (in 32 bits) is that of this one, as bits of an int64."""
    bits = b.trunc(value, _I32)
    return b.zext(foreign(b, "llvm.nvvm.match.any.sync.i32", _I32, _ALL, bits), _I64)


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
    def emit(b: Any, t: Any, value: Any, by: Any) -> Any:
        symbol, distance = f"llvm.nvvm.shfl.sync.{mode}.i32", b.trunc(by, _I32)
        moved = [
            foreign(b, symbol, _I32, _ALL, part, distance, _I32(clamp)) for part in _parts(b, value)
        ]
        return _whole(b, value.type, moved)

    return intrinsic(2, to=lambda value, by: value, mixed=True, name=name, doc=doc)(emit)


shfl_xor = _shuffle("shfl_xor", "bfly", 31, "The value of lane ``lane ^ by`` of the warp.")
shfl_up = _shuffle("shfl_up", "up", 0, "The value of lane ``lane - by``; its own where none is.")


def _shared(letters: str) -> Any:
    kind = array_type(letters)

    def emit(b: Any, t: Any, count: Any) -> Any:
        place = value_type(kind)
        array_kind = ir.ArrayType(place.pointee, count.constant)
        name = b.module.get_unique_name(f"shared_{letters}")
        array = ir.GlobalVariable(b.module, array_kind, name, addrspace=_SHARED)
        array.linkage = "internal"
        array.initializer = ir.Constant(array_kind, ir.Undefined)
        array.align = 16
        return b.addrspacecast(b.gep(array, [_I32(0), _I32(0)]), place)

    doc = f"An array of {letters} that the threads of a block share; its size is a number."
    return intrinsic(1, to=kind, name=f"shared_{letters}", doc=doc)(emit)


@intrinsic(3, to=types.int64, mixed=True)
def atomic_add(b: Any, t: Any, pointer: Any, place: Any, value: Any) -> Any:
    """``pointer[place] += value`` of integers, whatever other threads add there; gives 0."""
    b.atomic_rmw("add", b.gep(pointer, [place]), value, "monotonic")
    return _I64(0)


globals().update({f"{n}_{axis}": _index(n, axis) for n in _REGISTERS for axis in "xy"})
globals().update({f"shared_{n}": _shared(n) for n in LETTERS})

__all__ = names_of(globals())
