"""From kernel text to machine code: Numba types and lowers it, LLVM does the rest.

The compiled entry has one C signature for all kernels::

    int64_t entry(int64_t start, int64_t stop, const int64_t *ints, void *const *ptrs)

Importing this module imports Numba; a process that finds its kernels in the cache never does.
"""
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import re
from typing import Any

from llvmlite import ir
from numba.core import fastmathpass, types
from numba.core.compiler_lock import global_compiler_lock

from fusec.codegen import target
from fusec.codegen.numba_lower import Lowered, Machine, errors, load, lower, pointer
from fusec.codegen.target import KernelCompileError, ObjectCode, Pointers

__all__ = ["KernelCompileError", "ObjectCode", "compile_kernel"]

# `reassoc`, `nnan` and `ninf` are left out on purpose: the error-free transformations and the
# special cases of inlined primitives would be optimised away. A reduction that may be
# reassociated says so at its own addition. Functions that the kernel calls get no flags.
FASTMATH = ("contract", "arcp", "nsz")

# A loop whose number of turns is written in the text.
_COUNTED = re.compile(r"^[^#\n]*\brange\(\s*(\d+\s*,\s*)?\d+\s*(,\s*\d+\s*)?\)", re.MULTILINE)

_I64 = ir.IntType(64)
_BYTES = ir.IntType(8).as_pointer()
_ENTRY = ir.FunctionType(_I64, [_I64, _I64, _I64.as_pointer(), _BYTES.as_pointer()])
# What the entry returns when Numba's own code raised, which no kernel text asks for.
_RAISED = -1


def compile_kernel(
    text: str, ints: tuple[str, ...], ptrs: Pointers, *, fastmath: bool = False
) -> ObjectCode:
    """Compile ``def kernel(start, stop, <ints>, <ptrs>)`` and its entry to an object file.

    text: Python source; other functions it defines are compiled when ``kernel`` calls them.
    ints: names of the int64 arguments, in order.
    ptrs: (name, dtype) of the buffers; bool is uint8, float16 and datetimes are integers.
    fastmath: allow contraction, reciprocals, and zeros without sign.
    Raises KernelCompileError.

    >>> text = "def kernel(start, stop, y):\\n for i in range(start, stop): y[i] = i\\n return 0"
    >>> code = compile_kernel(text, (), (("y", "<i8"),))
    >>> code.symbol[:6], code.object[:4]
    ('fusec_', b'\\x7fELF')
    """
    symbol = "fusec_" + target.content_hash(text, ints, ptrs, fastmath)[:16]
    with global_compiler_lock, errors(symbol, text):
        kernel = load(symbol, text)
        args = (types.int64,) * (2 + len(ints)) + tuple(pointer(dtype) for _, dtype in ptrs)
        lowered = lower(kernel, args, Machine(target.host().triple, target.machine))
        _add_entry(lowered, symbol, len(ints))
        if fastmath:
            fastmathpass.FastFloatBinOpVisitor(FASTMATH).visit_Function(lowered.kernel)
        return target.build(symbol, lowered.link(), unroll=bool(_COUNTED.search(text)))


def _add_entry(lowered: Lowered, symbol: str, nints: int) -> None:
    """Add the function that unpacks its arguments and calls the kernel, which becomes internal."""
    descriptor, context = lowered.descriptor, lowered.context
    lowered.kernel.linkage = "internal"
    _apart(lowered, nints)
    entry = ir.Function(lowered.module, _ENTRY, symbol)
    builder = ir.IRBuilder(entry.append_basic_block())
    start, stop, ints, ptrs = entry.args
    args = [start, stop]
    args += [_item(builder, ints, k) for k in range(nints)]
    for k, kind in enumerate(descriptor.argtypes[2 + nints :]):
        args.append(builder.bitcast(_item(builder, ptrs, k), context.get_value_type(kind)))
    status, result = context.call_conv.call_function(
        builder, lowered.kernel, descriptor.restype, descriptor.argtypes, args
    )
    builder.ret(builder.select(status.is_ok, result, _I64(_RAISED)))


def _apart(lowered: Lowered, nints: int) -> None:
    """Say that an element that the kernel writes through one pointer is reached through no other.

    A result lies in fresh memory, or in that of a value whose elements are read and written through
    one pointer. Parts of one concatenation share no element, though they may lie between each
    other's. So a loop over many buffers needs no tests whether they overlap.
    """
    ours = lowered.kernel.args[-len(lowered.descriptor.argtypes) :]
    for parameter in ours[2 + nints :]:
        parameter.add_attribute("noalias")


def _item(builder: Any, array: Any, index: int) -> Any:
    return builder.load(builder.gep(array, [_I64(index)]))
