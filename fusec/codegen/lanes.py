"""Partial results of a reduction that stay in registers while a loop computes what is reduced.

A block of a row is reduced in ``LANES`` lanes, as ``folds`` says. Where a loop computes the
elements first, lane k is one element of an array of ``LANES``::

    a = start_sum_f4()
    for g in range(0, n - 31, 32):
        for k in range(LANES):
            i0 = g + k
            a[k] = a[k] + x[i0] * x[i0]
            write_out(k)
    if n & 31:                            # the rest of the last block, under a mask
        for k in range(LANES):
            i0 = (n & -32) + k
            one = a[k]
            if i0 < n:
                one = one + x[i0] * x[i0]
            a[k] = one
            write_out(k)
    p = total_sum(a)

LLVM turns the loop over k into vectors, writes it out, and keeps the array in vector registers: a
variable of the function that is only ever copied whole or touched at fixed places comes apart
(LLVM's pass SROA).
"""

from typing import Any

from llvmlite import ir
from numba.core import types

from fusec.codegen.folds import FOLDS, halves, load, scalar
from fusec.codegen.intrinsic import intrinsic, names_of
from fusec.codegen.loops import LANES
from fusec.codegen.pointers import array_type

_I1 = ir.IntType(1)
_MARK, _PLAIN, _TURNS, _COPIES = "write out", "one by one", "interleave ", "copies"


def _started(name: str, letters: str) -> Any:
    """The primitive ``start_<name>_<letters>()``."""
    element = array_type(letters).dtype

    def emit(b: Any, t: Any) -> Any:
        kind = ir.VectorType(scalar(element), LANES)
        with b.goto_entry_block():
            lanes = b.alloca(kind)
        b.store(ir.Constant(kind, [FOLDS[name].identity(element)] * LANES), lanes)
        return b.bitcast(lanes, scalar(element).as_pointer())

    known, doc = f"start_{name}_{letters}", f"LANES partial results of a {name}, in registers."
    return intrinsic(0, to=array_type(letters), mixed=True, name=known, doc=doc)(emit)


def _ended(name: str) -> Any:
    """The primitive ``total_<name>(t)``."""
    logical = name in ("any", "all")

    def emit(b: Any, t: Any, scratch: Any) -> Any:
        dtype = t[0].dtype
        (result,) = halves(b, dtype, name, load(b, dtype, scratch, LANES), None)
        value = b.extract_element(result, ir.IntType(32)(0))
        return b.icmp_unsigned("!=", value, value.type(0)) if logical else value

    def result(p: Any) -> Any:
        return types.boolean if logical else p.dtype

    doc = f"The {name} of LANES partial results, the upper half into the lower one."
    return intrinsic(1, to=result, mixed=True, name=f"total_{name}", doc=doc)(emit)


@intrinsic(1)
def write_out(b: Any, t: Any, k: Any) -> Any:
    """The last statement of a loop over lanes: has it written out once there are vectors."""
    b.comment(_MARK)
    return k


@intrinsic(1)
def copied_out(b: Any, t: Any, k: Any) -> Any:
    """The last statement of a loop of a few rounds: has each written out, and no vectors."""
    b.comment(_COPIES)
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


@intrinsic(2, to=lambda k, group: k, mixed=True)
def few(b: Any, t: Any, k: Any, group: Any) -> Any:
    """The last statement of a loop over k, less than ``group`` times: one vector under a mask.

    So the walk over the text makes it (``front``), where the processor has masks.
    """
    return k


def mark_loops(function: Any) -> None:
    """Tell LLVM what the last statement of a loop of a lowered kernel says about it.

    Written out before there are vectors, loops would never be vectors; so that wish is stated for
    what the vectoriser makes of the loop (LLVM's "Transformation Metadata").
    """
    for block in function.blocks:
        texts = [getattr(x, "text", "") for x in block.instructions]
        for text in texts:
            if text in (_MARK, _PLAIN, _COPIES) or text.startswith(_TURNS):
                block.terminator.set_metadata("llvm.loop", _loop(function.module, text))


def _loop(module: Any, mark: str) -> Any:
    """Metadata of a loop; its first operand is itself, which keeps loops apart."""

    def node(*operands: Any) -> Any:
        return module.add_metadata(operands)

    if mark.startswith(_TURNS):
        facts = [node("llvm.loop.interleave.count", ir.IntType(32)(int(mark.split()[1])))]
    else:
        facts = [node("llvm.loop.unroll.disable"), node("llvm.loop.vectorize.enable", _I1(0))]
    if mark == _COPIES:
        facts[0] = node("llvm.loop.unroll.full")
    if mark == _MARK:
        facts[1] = node("llvm.loop.vectorize.followup_vectorized", node("llvm.loop.unroll.full"))
    found = ir.MDValue(module, tuple(facts), name=str(len(module.metadata)))
    found.operands = (found, *facts)
    return found


_NAMES = ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f4", "f8")
for _fold in FOLDS:
    globals()[f"total_{_fold}"] = _ended(_fold)
    globals().update({f"start_{_fold}_{n}": _started(_fold, n) for n in _NAMES})

__all__ = ["LANES", *names_of(globals())]
