"""From kernel text to machine code: `front` makes LLVM IR of it, LLVM the rest.

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
from fusec.codegen.intrinsic import value_type
from fusec.codegen.kernel_module import errors, lowered, parse, pointer
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


def compile_kernel(
    text: str, ints: tuple[str, ...], ptrs: Pointers, *, fastmath: bool = False
) -> ObjectCode:
    """Compile ``def kernel(start, stop, <ints>, <ptrs>)`` and its entry to an object file.

    text: Python source of what ``front`` knows, and of imports.
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
    kinds = [types.int64] * (2 + len(ints)) + [pointer(dtype) for _, dtype in ptrs]
    with global_compiler_lock, errors(symbol, text):
        kernel = lowered(symbol, text, kinds, target.host().triple, target.machine())
        _add_entry(kernel, symbol, kinds)
        _apart([x for x, kind in zip(kernel.args, kinds) if kind != types.int64])
        if fastmath:
            fastmathpass.FastFloatBinOpVisitor(FASTMATH).visit_Function(kernel)
        return target.build(symbol, parse(kernel.module), unroll=bool(_COUNTED.search(text)))


def _add_entry(kernel: ir.Function, symbol: str, kinds: list[Any]) -> None:
    """Add the function that unpacks its arguments and calls the kernel."""
    entry = ir.Function(kernel.module, _ENTRY, symbol)
    set.add(entry.attributes, '"no-builtins"')
    builder = ir.IRBuilder(entry.append_basic_block())
    start, stop, ints, ptrs = entry.args
    args, numbers = [start, stop], [k for k in kinds[2:] if k == types.int64]
    args += [_item(builder, ints, k) for k in range(len(numbers))]
    for k, kind in enumerate(kinds[2 + len(numbers) :]):
        args.append(builder.bitcast(_item(builder, ptrs, k), value_type(kind)))
    builder.ret(builder.call(kernel, args))


def _apart(pointers: list[Any]) -> None:
    """Say that an element that the kernel writes through one pointer is reached through no other.

    A result lies in fresh memory, or in that of a value whose elements are read and written through
    one pointer. Parts of one concatenation share no element, though they may lie between each
    other's. So a loop over many buffers needs no tests whether they overlap.
    """
    for parameter in pointers:
        parameter.add_attribute("noalias")


def _item(builder: Any, array: Any, index: int) -> Any:
    return builder.load(builder.gep(array, [_I64(index)]))
