"""The functions that are one instruction."""

from fusec.codegen.mathlib import dsl
from fusec.codegen.mathlib.dsl import Val
from fusec.codegen.mathlib.instructions import root


def sqrt(x: Val) -> Val:
    """The square root, correctly rounded."""
    return root(x)


def rint(x: Val) -> Val:
    """The nearest integer, halves to even."""
    return x.intrinsic("llvm.rint")


def floor(x: Val) -> Val:
    """The integer at or below."""
    return x.intrinsic("llvm.floor")


def ceil(x: Val) -> Val:
    """The integer at or above."""
    return x.intrinsic("llvm.ceil")


def trunc(x: Val) -> Val:
    """The integer towards zero."""
    return x.intrinsic("llvm.trunc")


def fabs(x: Val) -> Val:
    """The size."""
    return abs(x)


def copysign(x: Val, y: Val) -> Val:
    """|x| with the sign of y."""
    return x.copysign(y)


def fma(x: Val, y: Val, z: Val) -> Val:
    """x * y + z with one rounding."""
    return dsl.fma(x, y, z)
