"""A kernel's text as an LLVM module, for every target, and errors that show the text."""
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba.core import types
from numba.np import numpy_support

from fusec.codegen.front import define
from fusec.codegen.lanes import mark_loops
from fusec.codegen.target import KernelCompileError

_CAUSE = 400  # characters of LLVM's message that are shown above the kernel


@contextmanager
def errors(symbol: str, text: str) -> Iterator[None]:
    """Turn whatever Python, Numba's types or LLVM raise into one error that shows the kernel."""
    try:
        yield
    except KernelCompileError:
        raise
    except Exception as error:
        raise KernelCompileError(_message(symbol, text, error)) from None


def _message(symbol: str, text: str, error: Exception) -> str:
    at = getattr(error, "lineno", 0)
    lines = [
        f"{'>' if number == at else ' '}{number:4} {line}"
        for number, line in enumerate(text.splitlines(), 1)
    ]
    plain = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    cause = " ".join(plain.split())[:_CAUSE]
    return "\n".join([f"{type(error).__name__} in {symbol}: {cause}", *lines])


@lru_cache(None)
def pointer(dtype: str) -> Any:
    """Numba's type of a buffer; bool is uint8, float16 and datetimes are integers."""
    kind = np.dtype(dtype)
    if kind.kind == "b":
        return types.CPointer(types.uint8)
    if kind.kind in "mM":
        return types.CPointer(types.int64)
    if kind.kind == "f" and kind.itemsize == 2:
        return types.CPointer(types.uint16)
    return types.CPointer(numpy_support.from_dtype(kind))


def lowered(symbol: str, text: str, kinds: Iterable[Any], triple: str, machine: Any) -> ir.Function:
    """``def kernel`` of a text as an internal function, in a module of its own.

    kinds: Numba types of its arguments. triple, machine: LLVM's names of the target.
    """
    module = ir.Module(symbol)
    module.triple, module.data_layout = triple, str(machine.target_data)
    names: dict[str, Any] = {}
    exec(compile(text, symbol, "exec"), names)
    kernel = define(module, text, names, kinds)
    kernel.linkage = "internal"
    mark_loops(kernel)
    return kernel


def parse(module: ir.Module) -> Any:
    """The module as LLVM itself has it."""
    return llvm.parse_assembly(str(module))
