"""Partial results of a reduction that stay in registers while a loop computes what is reduced.

A block of a row is reduced in ``LANES`` lanes, as ``folds`` says. Where a loop computes the
elements first, lane k is one element of an array of ``LANES``::

    a = start_sum(t)                      # t: scratch of LANES elements
    for g in range(b, b + m - 31, 32):
        for k in range(LANES):
            i0 = g + k
            a[k] = a[k] + x[i0] * x[i0]
            write_out(k)
    if m & 31:
        copy_lanes(t, a)                  # the rest of a last block goes through memory
        ...
        copy_lanes(a, t)
    p = total_sum(a)

LLVM turns the loop over k into vectors, writes it out, and keeps the array in vector registers: a
variable of the function that is only ever copied whole or touched at fixed places comes apart
(LLVM's pass SROA). ``t`` is memory, which the rest of a block may touch anywhere.
"""

from typing import Any

from llvmlite import ir
from numba.core import types

from fusec.codegen.folds import FOLDS, LANES, halves, load, scalar
from fusec.codegen.intrinsic import intrinsic, names_of

_I1, _I64 = ir.IntType(1), ir.IntType(64)
_BYTES = ir.IntType(8).as_pointer()
_MARK, _PLAIN, _TURNS = "write out", "one by one", "interleave "


def _copy(b: Any, t: Any, target: Any, source: Any) -> None:
    """Copy LANES elements of Numba type t."""
    function = b.module.declare_intrinsic("llvm.memcpy", [_BYTES, _BYTES, _I64])
    places = [b.bitcast(p, _BYTES) for p in (target, source)]
    b.call(function, [*places, _I64(LANES * max(1, t.bitwidth // 8)), _I1(0)])


def _started(name: str) -> Any:
    """The primitive ``start_<name>(t)``."""

    def emit(b: Any, t: Any, scratch: Any) -> Any:
        kind = ir.ArrayType(scalar(t[0].dtype), LANES)
        symbol = f"fusec.start_{name}.{t[0].dtype}"
        if symbol not in b.module.globals:
            initial = ir.GlobalVariable(b.module, kind, symbol)
            initial.linkage, initial.global_constant = "internal", True
            initial.initializer = ir.Constant(kind, [FOLDS[name].identity(t[0].dtype)] * LANES)
        with b.goto_entry_block():
            lanes = b.bitcast(b.alloca(kind), scratch.type)
        _copy(b, t[0].dtype, lanes, b.module.globals[symbol])
        return lanes

    emit.__name__ = f"start_{name}"
    emit.__doc__ = f"LANES partial results of a {name}, in registers; t gives the type."
    return intrinsic(1, mixed=True)(emit)


def _ended(name: str) -> Any:
    """The primitive ``total_<name>(t)``."""
    logical = name in ("any", "all")

    def emit(b: Any, t: Any, scratch: Any) -> Any:
        dtype = t[0].dtype
        (result,) = halves(b, dtype, name, load(b, dtype, scratch, LANES), None)
        value = b.extract_element(result, ir.IntType(32)(0))
        return b.icmp_unsigned("!=", value, value.type(0)) if logical else value

    emit.__name__ = f"total_{name}"
    emit.__doc__ = f"The {name} of LANES partial results, the upper half into the lower one."
    return intrinsic(1, to=lambda p: types.boolean if logical else p.dtype, mixed=True)(emit)


@intrinsic(2, mixed=True)
def copy_lanes(b: Any, t: Any, target: Any, source: Any) -> Any:
    """Copy LANES elements from memory or into it."""
    _copy(b, t[0].dtype, target, source)
    return target


@intrinsic(1)
def write_out(b: Any, t: Any, k: Any) -> Any:
    """The last statement of a loop over lanes: has it written out once there are vectors."""
    b.comment(_MARK)
    return k


@intrinsic(1)
def one_by_one(b: Any, t: Any, k: Any) -> Any:
    """The last statement of a loop over a few elements: vectors would only take time to compile."""
    b.comment(_PLAIN)
    return k


@intrinsic(2, to=lambda k, count: k, mixed=True)
def interleave(b: Any, t: Any, k: Any, count: Any) -> Any:
    """The last statement of a loop over k: ``count`` vectors of k pass through it side by side."""
    b.comment(f"{_TURNS}{count.constant}")
    return k


def mark_loops(function: Any) -> None:
    """Tell LLVM what the last statement of a loop of a lowered kernel says about it.

    Written out before there are vectors, loops would never be vectors; so that wish is stated for
    what the vectoriser makes of the loop (LLVM's "Transformation Metadata").
    """
    for block in function.blocks:
        texts = [getattr(x, "text", "") for x in block.instructions]
        for text in texts:
            if text in (_MARK, _PLAIN) or text.startswith(_TURNS):
                block.terminator.set_metadata("llvm.loop", _loop(function.module, text))


def _loop(module: Any, mark: str) -> Any:
    """Metadata of a loop; its first operand is itself, which keeps loops apart."""

    def node(*operands: Any) -> Any:
        return module.add_metadata(operands)

    if mark.startswith(_TURNS):
        facts = [node("llvm.loop.interleave.count", ir.IntType(32)(int(mark.split()[1])))]
    else:
        facts = [node("llvm.loop.unroll.disable"), node("llvm.loop.vectorize.enable", _I1(0))]
    if mark == _MARK:
        facts[1] = node("llvm.loop.vectorize.followup_vectorized", node("llvm.loop.unroll.full"))
    found = ir.MDValue(module, tuple(facts), name=str(len(module.metadata)))
    found.operands = (found, *facts)
    return found


start_sum, total_sum = _started("sum"), _ended("sum")
start_prod, total_prod = _started("prod"), _ended("prod")
start_max, total_max = _started("max"), _ended("max")
start_min, total_min = _started("min"), _ended("min")
start_fmax, total_fmax = _started("fmax"), _ended("fmax")
start_fmin, total_fmin = _started("fmin"), _ended("fmin")
start_any, total_any = _started("any"), _ended("any")
start_all, total_all = _started("all"), _ended("all")

__all__ = ["LANES", *names_of(globals())]
