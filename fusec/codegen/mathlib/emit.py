"""Each function once per LLVM module, as ``internal alwaysinline``.

    define internal double @fusec.exp.f64(double %x) alwaysinline { ... }

``define`` finds a formula by its name in the modules of this package.
"""

import importlib
import inspect
from collections.abc import Callable
from functools import cache

from llvmlite import ir

from fusec.codegen.mathlib.dsl import Kind, Val
from fusec.codegen.mathlib.rare import new_function

MODULES = ("exponential", "logarithm", "trigonometric", "inverse", "power", "thin")
NAMES = (
    "exp", "exp2", "expm1", "sinh", "cosh", "tanh", "erf",
    "log", "log2", "log10", "log1p", "asinh", "acosh", "atanh",
    "sin", "cos", "tan", "asin", "acos", "atan", "atan2",
    "pow_", "cbrt", "hypot", "sqrt", "rint", "floor", "ceil", "trunc", "fabs", "copysign", "fma",
)  # fmt: skip


@cache
def formula(name: str) -> Callable[..., Val]:
    """The Python function that writes ``name``."""
    for module in MODULES:
        found = getattr(importlib.import_module(f"{__package__}.{module}"), name, None)
        if found is not None and found.__module__.endswith(module):
            out: Callable[..., Val] = found
            return out
    raise KeyError(name)


@cache
def arity(name: str) -> int:
    """How many arguments ``name`` takes."""
    return len(inspect.signature(formula(name)).parameters)


def define(module: ir.Module, name: str, kind: Kind) -> ir.Function:
    """The LLVM function of ``name`` for a kind, written into the module on first use."""
    symbol = f"fusec.{name}.{kind.name}"
    known = module.globals.get(symbol)
    if known is not None:
        return known
    arguments = [kind.real] * arity(name)
    function = new_function(module, symbol, kind.real, arguments, "alwaysinline")
    builder = ir.IRBuilder(function.append_basic_block())
    builder.ret(formula(name)(*(Val(builder, a) for a in function.args)).v)
    return function
