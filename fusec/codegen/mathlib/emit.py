"""Each function once per LLVM module, as ``internal alwaysinline``.

    define internal double @fusec.exp.f64(double %x) alwaysinline { ... }

``define`` finds a formula by its name in the modules of this package.
"""

import importlib
import inspect
from collections.abc import Callable
from functools import cache

from llvmlite import ir

from fusec.codegen.mathlib.dsl import F32, F64, Kind, Val
from fusec.codegen.mathlib.rare import new_function

MODULES = (
    "exponential", "logarithm", "trigonometric", "inverse", "power", "thin",
    "complex_exponential", "complex_logarithm", "complex_power",
)  # fmt: skip
NAMES = (
    "exp", "exp2", "expm1", "sinh", "cosh", "tanh", "erf",
    "log", "log2", "log10", "log1p", "asinh", "acosh", "atanh",
    "sin", "cos", "tan", "asin", "acos", "atan", "atan2",
    "pow_", "cbrt", "hypot", "sqrt", "rint", "floor", "ceil", "trunc", "fabs", "copysign", "fma",
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
    paired = name in COMPLEX
    result = ir.LiteralStructType([kind.real] * 2) if paired else kind.real
    arguments = [kind.real] * arity(name)
    function = new_function(module, symbol, result, arguments, "alwaysinline")
    builder = ir.IRBuilder(function.append_basic_block())
    given = [Val(builder, a) for a in function.args]
    if not paired:
        builder.ret(formula(name)(*given).v)
        return function
    value = ir.Constant(result, ir.Undefined)
    for k, part in enumerate(_in_float64(formula(name), given)):
        value = builder.insert_value(value, part.v, k)
    builder.ret(value)
    return function


def _in_float64(written: Callable[..., tuple[Val, Val]], given: list[Val]) -> tuple[Val, ...]:
    """A complex function; float32 numbers are widened, and the results rounded to float32."""
    if given[0].kind is F64:
        return written(*given)
    parts = written(*[x.convert("fpext", F64.real) for x in given])
    return tuple(part.convert("fptrunc", F32.real) for part in parts)
