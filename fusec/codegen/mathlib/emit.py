"""Each function once per LLVM module, as ``internal alwaysinline``.

    define internal double @fusec.exp.f64(double %x) alwaysinline { ... }

``define`` finds a formula by its name in the modules of this package.
"""

import importlib
import inspect
from collections.abc import Callable
from functools import cache
from typing import Any

from llvmlite import ir

from fusec.codegen.mathlib.dsl import F32, F64, Kind, Val
from fusec.codegen.mathlib.power import POWERS
from fusec.codegen.mathlib.rare import new_function

MODULES = (
    "exponential", "logarithm", "trigonometric", "inverse", "power", "thin",
    "complex_exponential", "complex_logarithm", "complex_power",
)  # fmt: skip
NAMES = (
    "exp", "exp2", "expm1", "sinh", "cosh", "tanh", "erf",
    "log", "log2", "log10", "log1p", "asinh", "acosh", "atanh",
    "sin", "cos", "tan", "asin", "acos", "atan", "atan2",
    "pow_", "root_pow", "cbrt", "hypot", "sqrt", "rint", "floor", "ceil", "trunc", "fabs",
    "copysign", "fma", *POWERS,
)  # fmt: skip
COMPLEX = (
    "cexp", "cexp2", "cexpm1", "clog", "clog2", "clog10", "clog1p", "csqrt", "cpow",
    "csin", "ccos", "ctan", "csinh", "ccosh", "ctanh",
    "casin", "cacos", "catan", "casinh", "cacosh", "catanh", "crint",
)  # fmt: skip
"""Functions of complex numbers: of real and imaginary parts, and with a pair of them as result."""


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
    result = ir.LiteralStructType([kind.real] * 2) if name in COMPLEX else kind.real
    arguments = [kind.real] * arity(name)
    function = new_function(module, symbol, result, arguments, "alwaysinline")
    builder = ir.IRBuilder(function.append_basic_block())
    given = [Val(builder, a) for a in function.args]
    builder.ret(_pair(name, given) if name in COMPLEX else formula(name)(*given).v)
    return function


def _pair(name: str, given: list[Val]) -> ir.Value:
    """A complex function; float32 numbers are widened, and the results rounded to float32."""
    narrow, b = given[0].kind is F32, given[0].b
    wide = [x.convert("fpext", F64.real) for x in given] if narrow else given
    written: Any = formula(name)
    parts = [x.convert("fptrunc", F32.real) if narrow else x for x in written(*wide)]
    pair = ir.Constant(ir.LiteralStructType([x.v.type for x in parts]), ir.Undefined)
    return b.insert_value(b.insert_value(pair, parts[0].v, 0), parts[1].v, 1)
