"""Division of many floats by one: a multiplication and a correction, rounded as a division is.

A processor divides a vector of 16 floats in 6 cycles, multiplies one in 1. With ``r = 1 / y``,
computed once, and fused multiply-adds::

    q = x * r                      # float64: x * r + x * (1 - r * y) * r
    e = q * y - x                  # what is left, exactly
    q - e * r                      # x / y, correctly rounded

For float64, q is one of the two neighbours of x / y, and the last step rounds it correctly
(P. Markstein, "Computation of elementary functions on the IBM RISC System/6000 processor", 1990).
For float32 the simpler q may be farther away, but |e * r| errs by 3 * 2**-24 units in the last
place at most; all quotients so near to the middle of two floats, 93 million pairs of significands,
have been tried.

That holds for y > 0 that is neither tiny nor huge (y < 0 gives its sign to x), and unless something
overflows, underflows, or is not a number: the processor notes that, ``flagged`` tells, and the
kernel divides. So loops come in pairs::

    clear_flags()
    if apart(x0, y0):              # y0 may stand in the place of x0
        for i1 in range(n_i1):
            y0[i1] = fquotient(x0[i1], t)
    if (not apart(x0, y0)) | flagged():
        for i1 in range(n_i1):
            y0[i1] = x0[i1] / t
"""

import math
from typing import Any

from llvmlite import ir
from numba.core import types

from fusec.codegen.intrinsic import foreign, intrinsic, names_of
from fusec.codegen.target import host

_I32 = ir.IntType(32)
_BYTES = ir.IntType(8).as_pointer()
_FLAGS = 0b011111  # of MXCSR: invalid, denormal, division by zero, overflow, underflow
_USUAL = {32: 100, 64: 900}  # the largest exponents of a divisor


def _multiplies() -> bool:
    """Whether this machine has what it takes; if not, ``fquotient`` divides."""
    triple, _, features = host()
    return triple.startswith("x86_64") and "+fma," in features


def _state(b: Any, name: str, place: Any) -> None:
    """Store MXCSR in ``place``, or load it."""
    foreign(b, f"llvm.x86.sse.{name}", ir.VoidType(), place)


def _read(b: Any) -> tuple[Any, Any]:
    """MXCSR and the memory that it has been stored in."""
    with b.goto_entry_block():
        place = b.alloca(_I32)
    raw = b.bitcast(place, _BYTES)
    _state(b, "stmxcsr", raw)
    return b.load(place), raw


@intrinsic(2)
def fquotient(b: Any, t: Any, x: Any, y: Any) -> Any:
    """x / y, unless that is ``flagged``; for y that is the same all along a loop.

    What follows from y alone may be computed before the flags are cleared. So a y that something
    could go wrong with becomes infinities, of which each x gives one less the other.
    """
    if not _multiplies():
        return b.fdiv(x, y)
    x, y = _positive(b, t, x, y)
    inf, usual, inverse = y.type(math.inf), _usual(b, t, y), b.fdiv(y.type(1.0), y)
    if t.bitwidth == 64:
        high, low = _inverse(b, t, y, inverse)
        high, low = b.select(usual, high, inf), b.select(usual, low, y.type(-math.inf))
        first = b.fma(x, high, b.fmul(x, low))
    inverse, y = b.select(usual, inverse, inf), b.select(usual, y, inf)
    if t.bitwidth == 32:
        first = b.fmul(x, inverse)
    return _corrected(b, first, x, y, inverse)


@intrinsic(2)
def fquotient_short(b: Any, t: Any, x: Any, y: Any) -> Any:
    """x / y, unless that is ``flagged``; for a literal y > 0 of at most 40 bits (float32: 12).

    For y = Y * 2**k with an odd Y no quotient is nearer to the middle of two floats than 1 / (2 Y)
    of their distance, and the sum errs by less than 2**-21 (float64: 2**-50) of it.
    """
    if not _multiplies():
        return b.fdiv(x, y)
    high, low = _inverse(b, t, y, b.fdiv(y.type(1.0), y))
    return b.fma(x, high, b.fmul(x, low))


def _inverse(b: Any, t: Any, y: Any, inverse: Any) -> tuple[Any, Any]:
    """1 / y as high + low; low is never below 0, so that zeros keep their signs."""
    bits, one = ir.IntType(t.bitwidth), y.type(1.0)
    below = b.bitcast(b.sub(b.bitcast(inverse, bits), bits(1)), y.type)
    over = b.fcmp_ordered("<", b.fma(b.fneg(inverse), y, one), y.type(0.0))
    high = b.select(over, below, inverse)
    return high, b.fmul(b.fma(b.fneg(high), y, one), inverse)


@intrinsic(1)
def usual_divisor(b: Any, t: Any, y: Any) -> Any:
    """y; infinity where ``fquotient_by`` must not succeed."""
    size, _ = _positive(b, t, y, y)
    return b.select(_usual(b, t, size), y, y.type(math.inf)) if _multiplies() else y


@intrinsic(1)
def usual_inverse(b: Any, t: Any, y: Any) -> Any:
    """1 / abs(y), or infinity."""
    size, _ = _positive(b, t, y, y)
    return b.select(_usual(b, t, size), b.fdiv(y.type(1.0), size), y.type(math.inf))


@intrinsic(3)
def fquotient_by(b: Any, t: Any, x: Any, y: Any, inverse: Any) -> Any:
    """x / y, unless that is ``flagged``; for what ``usual_divisor`` and its like give of y."""
    if not _multiplies():
        return b.fdiv(x, y)
    x, y = _positive(b, t, x, y)
    first = b.fmul(x, inverse)
    if t.bitwidth == 64:  # within two units in the last place, and then one of the neighbours
        first = _corrected(b, first, x, y, inverse)
    return _corrected(b, first, x, y, inverse)


def _positive(b: Any, t: Any, x: Any, y: Any) -> tuple[Any, Any]:
    """x / sign(y), and abs(y)."""
    bits = ir.IntType(t.bitwidth)
    sign = b.and_(b.bitcast(y, bits), bits(1 << (t.bitwidth - 1)))
    return tuple([b.bitcast(b.xor(b.bitcast(v, bits), sign), y.type) for v in (x, y)])


def _usual(b: Any, t: Any, y: Any) -> Any:
    least, most = [y.type(2.0 ** (sign * _USUAL[t.bitwidth])) for sign in (-1, 1)]
    return b.and_(b.fcmp_ordered(">", y, least), b.fcmp_ordered("<", y, most))


def _corrected(b: Any, first: Any, x: Any, y: Any, inverse: Any) -> Any:
    """A quotient and what is left of x; zeros keep their signs."""
    left = b.fma(first, y, b.fneg(x))
    return b.fma(b.fneg(left), inverse, first)


@intrinsic(0, to=types.boolean, mixed=True)
def clear_flags(b: Any, t: Any) -> Any:
    """Forget what has been noted; always true."""
    if _multiplies():
        state, place = _read(b)
        b.store(b.and_(state, _I32(~_FLAGS)), b.bitcast(place, _I32.as_pointer()))
        _state(b, "ldmxcsr", place)
    return ir.IntType(1)(1)


@intrinsic(0, to=types.boolean, mixed=True)
def flagged(b: Any, t: Any) -> Any:
    """Whether a result since ``clear_flags`` may be wrong, and the division has to be done."""
    if not _multiplies():
        return ir.IntType(1)(0)
    return b.icmp_unsigned("!=", b.and_(_read(b)[0], _I32(_FLAGS)), _I32(0))


@intrinsic(2, to=types.boolean, mixed=True)
def apart(b: Any, t: Any, x: Any, y: Any) -> Any:
    """Whether two pointers differ: of two that are the same, one may overwrite the other."""
    return b.icmp_unsigned("!=", *[b.ptrtoint(p, ir.IntType(64)) for p in (x, y)])


__all__ = names_of(globals())
