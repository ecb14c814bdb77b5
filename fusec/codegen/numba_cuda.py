"""From kernel text to PTX: the same lowering as for the CPU, and LLVM's NVPTX back end.

llvmlite has that back end, so PTX is made on any machine, without a GPU and without CUDA's own
compiler. The driver, or ``ptxas``, turns it into machine code. LLVM contracts ``a * b + c`` only
where an instruction says ``contract``, keeps subnormal numbers and divides and takes square roots
correctly rounded. The entry is::

    .entry symbol(ints as .s64 ..., pointers as .u64 ..., status as .u64)

where ``status`` is the address of one int64 that a thread sets when it finds an error.
"""
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from llvmlite import ir
from numba.core import fastmathpass, types
from numba.core.compiler_lock import global_compiler_lock

from fusec.codegen import target
from fusec.codegen.emit_cuda import MAX_PARAMETERS
from fusec.codegen.intrinsic import foreign, value_type
from fusec.codegen.kernel_module import errors, lowered, parse, pointer
from fusec.codegen.numba_cpu import FASTMATH
from fusec.codegen.target import KernelCompileError, Pointers
from fusec.errors import UnsupportedError

TRIPLE = "nvptx64-nvidia-cuda"

# The oldest version of PTX that knows the architecture; a newer driver reads older versions.
PTX_VERSIONS = {
    "sm_70": "ptx63", "sm_75": "ptx63", "sm_80": "ptx71", "sm_86": "ptx71", "sm_87": "ptx74",
    "sm_89": "ptx78", "sm_90": "ptx78", "sm_100": "ptx86", "sm_103": "ptx88", "sm_120": "ptx87",
}  # fmt: skip

_I8, _I64 = ir.IntType(8), ir.IntType(64)
_GLOBAL = ir.PointerType(_I8, addrspace=1)
_ALIGN = 16  # bytes that pointers of kernels with vector loads are multiples of


@dataclass(frozen=True)
class PtxCode:
    """One compiled kernel: the name of its entry and its PTX."""

    symbol: str
    ptx: str


@lru_cache(None)
def machine(arch: str) -> Any:
    """LLVM's target machine for ``arch``.

    >>> machine("sm_90").triple
    'nvptx64-nvidia-cuda'
    """
    import llvmlite.binding as llvm

    if arch not in PTX_VERSIONS:
        raise UnsupportedError(
            f"no CUDA architecture {arch!r}; there are {', '.join(PTX_VERSIONS)}"
        )
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    return llvm.Target.from_triple(TRIPLE).create_target_machine(
        cpu=arch, features=f"+{PTX_VERSIONS[arch]}", opt=3
    )


def compile_ptx(
    text: str,
    ints: tuple[str, ...],
    ptrs: Pointers,
    *,
    arch: str = "sm_90",
    aligned: bool = False,
    fastmath: bool = False,
) -> PtxCode:
    """Compile ``def kernel(<ints>, <ptrs>)`` to PTX.

    text, ints, ptrs, fastmath: as for ``numba_cpu.compile_kernel``.
    aligned: pointers are multiples of 16 bytes, so neighbouring loads become vector loads.
    Raises KernelCompileError; UnsupportedError for an unknown architecture or too many arguments.

    >>> head = "from fusec.codegen.cuda_threads import *\\n"
    >>> text = head + "def kernel(y):\\n y[grid()] = 1\\n return 0"
    >>> compile_ptx(text, (), (("y", "<i8"),)).ptx.count(".visible .entry")
    1
    """
    if len(ints) + len(ptrs) + 1 > MAX_PARAMETERS:
        raise UnsupportedError(f"a kernel of {len(ints) + len(ptrs)} arguments: CUDA takes 511")
    symbol = "fusec_" + target.content_hash(text, ints, ptrs, fastmath)[:16]
    with global_compiler_lock, errors(symbol, text):
        kinds = [types.int64] * len(ints) + [pointer(dtype) for _, dtype in ptrs]
        kernel = lowered(symbol, text, kinds, TRIPLE, machine("sm_80"))
        _add_entry(kernel, symbol, kinds, aligned)
        if fastmath:
            fastmathpass.FastFloatBinOpVisitor(FASTMATH).visit_Function(kernel)
        return PtxCode(symbol, _emit(symbol, parse(kernel.module), arch))


def _emit(symbol: str, module: Any, arch: str) -> str:
    module.verify()
    target.optimise(module, unroll=True, machine=machine(arch))
    ptx = str(machine(arch).emit_assembly(module))
    if ".extern .func" in ptx:
        line = next(x for x in ptx.splitlines() if ".extern .func" in x)
        raise KernelCompileError(f"{symbol} calls what no GPU has: {line.strip()}")
    return ptx


def _add_entry(kernel: ir.Function, symbol: str, kinds: list[Any], aligned: bool) -> None:
    """Add the function that CUDA launches, of which the kernel becomes a part."""
    kernel.attributes.add("alwaysinline")
    given = [_I64 if kind == types.int64 else _GLOBAL for kind in kinds]
    entry = ir.Function(kernel.module, ir.FunctionType(ir.VoidType(), [*given, _GLOBAL]), symbol)
    entry.calling_convention = "ptx_kernel"
    builder = ir.IRBuilder(entry.append_basic_block())
    args = []
    for parameter, kind in zip(entry.args, kinds):
        if kind == types.int64:
            args.append(parameter)
            continue
        parameter.add_attribute("noalias")
        generic = builder.addrspacecast(parameter, _I8.as_pointer())
        if aligned:
            _assume_aligned(builder, generic)
        args.append(builder.bitcast(generic, value_type(kind)))
    result, status = builder.call(kernel, args), entry.args[-1]
    status.add_attribute("noalias")
    with builder.if_then(builder.icmp_signed("!=", result, _I64(0)), False):
        place = builder.addrspacecast(status, _I8.as_pointer())
        builder.store(result, builder.bitcast(place, _I64.as_pointer()))
    builder.ret_void()


def _assume_aligned(builder: Any, pointer: Any) -> None:
    """LLVM does not carry an argument's alignment through the cast of its address space."""
    low = builder.and_(builder.ptrtoint(pointer, _I64), _I64(_ALIGN - 1))
    foreign(builder, "llvm.assume", ir.VoidType(), builder.icmp_unsigned("==", low, _I64(0)))
