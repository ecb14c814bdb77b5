"""Integer primitives: wrapping arithmetic on one type; division and shifts as NumPy has them."""

from typing import Any

from llvmlite import ir
from numba.core import types

from fusec.codegen.intrinsic import call, intrinsic, names_of
from fusec.codegen.target import offers


def _instruction(name: str, arity: int, instruction: str, doc: str) -> Any:
    def emit(b: Any, t: Any, *args: Any) -> Any:
        return getattr(b, instruction)(*args)

    return intrinsic(arity, name=name, doc=doc)(emit)


iadd = _instruction("iadd", 2, "add", "x + y, wrapping.")
isub = _instruction("isub", 2, "sub", "x - y, wrapping.")
imul = _instruction("imul", 2, "mul", "x * y, wrapping.")
ineg = _instruction("ineg", 1, "neg", "-x, wrapping.")
iand = _instruction("iand", 2, "and_", "x & y.")
ior = _instruction("ior", 2, "or_", "x | y.")
ixor = _instruction("ixor", 2, "xor", "x ^ y.")
inot = _instruction("inot", 1, "not_", "~x.")


@intrinsic(1)
def iabs(b: Any, t: Any, x: Any) -> Any:
    """abs(x); that of the smallest integer is itself."""
    return b.select(b.icmp_signed("<", x, x.type(0)), b.neg(x), x) if t.signed else x


@intrinsic(1)
def isign(b: Any, t: Any, x: Any) -> Any:
    """-1, 0 or 1."""
    zero = x.type(0)
    above = b.zext(b.icmp_unsigned("!=", x, zero), x.type)
    return b.select(b.icmp_signed("<", x, zero), x.type(-1), above) if t.signed else above


@intrinsic(2)
def imaximum(b: Any, t: Any, x: Any, y: Any) -> Any:
    """The larger."""
    return b.select(compare(b, t, ">", x, y), x, y)


@intrinsic(2)
def iminimum(b: Any, t: Any, x: Any, y: Any) -> Any:
    """The smaller."""
    return b.select(compare(b, t, "<", x, y), x, y)


def compare(b: Any, t: Any, sign: str, x: Any, y: Any) -> Any:
    """``x sign y`` for two integers of one type."""
    return (b.icmp_signed if t.signed else b.icmp_unsigned)(sign, x, y)


@intrinsic(2)
def ipow(b: Any, t: Any, x: Any, y: Any) -> Any:
    """x ** y by repeated squaring, wrapping; for y < 0 see exponent_bad."""
    one, before = x.type(1), b.block
    loop, after = b.append_basic_block("ipow"), b.append_basic_block("ipow.end")
    b.branch(loop)
    b.position_at_end(loop)
    result, base, rest = b.phi(x.type), b.phi(x.type), b.phi(x.type)
    odd = b.trunc(rest, ir.IntType(1))
    product = b.select(odd, b.mul(result, base), result)
    left = b.lshr(rest, one)
    for phi, first, following in (
        (result, one, product),
        (base, x, b.mul(base, base)),
        (rest, y, left),
    ):
        phi.add_incoming(first, before)
        phi.add_incoming(following, loop)
    b.cbranch(b.icmp_unsigned("!=", left, x.type(0)), loop, after)
    b.position_at_end(after)
    return product


@intrinsic(1, to=types.boolean)
def exponent_bad(b: Any, t: Any, y: Any) -> Any:
    """Is y a negative integer, which NumPy refuses as an exponent of integers?"""
    if getattr(t, "signed", False):
        return b.icmp_signed("<", y, y.type(0))
    return ir.IntType(1)(0)


# Division by floats, which is vector code where integer division is not, and of which nothing but
# products is left where the divisor is the same all along a loop.
#
# Up to 32 bits the quotient of x and a half more by y is at least 1 / (2 |y|) from an integer,
# more than the rounding errors. Of 64 bits, x * (1 / y) errs by 2**-51 of its size at most, and
# its nearest integer leaves a rest of at most |y| / 2 + 2**14; the nearest integer to that rest
# over y leaves one smaller than |y|. Integer products wrap, they may be larger than what is left.
# That takes conversions that machines without AVX-512 do one by one; those divide integers.

_WIDE = ir.DoubleType()


def _quotient(b: Any, t: Any, x: Any, y: Any, rounding: str) -> Any:
    """x / y rounded by ``rounding`` (floor or trunc), for y neither 0 nor -1 against the least."""
    if t.bitwidth <= 32:
        wide = ir.FloatType() if t.bitwidth <= 16 else _WIDE
        to_float, to_int = (b.sitofp, b.fptosi) if t.signed else (b.uitofp, b.fptoui)
        number, divisor = to_float(x, wide), to_float(y, wide)
        side = divisor if rounding == "floor" else number
        more = b.fadd(number, call(b, "llvm.copysign", wide(0.5), side))
        quotient = b.fmul(more, b.fdiv(wide(1.0), divisor))
        return to_int(call(b, f"llvm.{rounding}", quotient), x.type)
    if not t.signed:
        return b.udiv(x, y)
    towards_zero = b.sdiv(x, y)
    if rounding == "trunc":
        return towards_zero
    rest = b.sub(x, b.mul(towards_zero, y))
    return b.add(towards_zero, b.sext(_opposed(b, rest, y), x.type))


def _opposed(b: Any, rest: Any, y: Any) -> Any:
    """Is ``rest`` not 0 and of another sign than y?"""
    zero = y.type(0)
    return b.and_(b.icmp_signed("!=", rest, zero), b.icmp_signed("<", b.xor(rest, y), zero))


def _nearest(b: Any, signed: bool, x: Any, inverse: Any) -> Any:
    """An integer near x / y: it may be 2**63 (unsigned 2**64), which is made a little less."""
    number = (b.sitofp if signed else b.uitofp)(x, _WIDE)
    part = call(b, "llvm.rint", b.fmul(number, inverse))
    most = _WIDE(2.0**63 - 2**10 if signed else 2.0**64 - 2**11)
    part = b.select(b.fcmp_ordered("<", part, most), part, most)
    return (b.fptosi if signed else b.fptoui)(part, x.type)


def _divide_in_floats(b: Any, t: Any, x: Any, y: Any, rounding: str) -> tuple[Any, Any]:
    """Quotient and remainder of 64 bits, y neither 0 nor 2**63 or more; least / -1 wraps."""
    inverse = b.fdiv(_WIDE(1.0), (b.sitofp if t.signed else b.uitofp)(y, _WIDE))
    first = _nearest(b, t.signed, x, inverse)
    rest = b.sub(x, b.mul(first, y))
    second = _nearest(b, True, rest, inverse)
    quotient, rest = b.add(first, second), b.sub(rest, b.mul(second, y))
    wrong = _opposed(b, rest, y if rounding == "floor" or not t.signed else x)
    step = b.select(_opposed(b, rest, y), x.type(-1), x.type(1))
    step = b.select(wrong, step, x.type(0))
    return b.add(quotient, step), b.sub(rest, b.mul(step, y))


def _divide_long(b: Any, t: Any, x: Any, y: Any, rounding: str) -> tuple[Any, Any]:
    """``_divide`` of 64 bits by floats; a y of 2**63 or more goes into x once or not at all."""
    zero, huge = b.icmp_unsigned("==", y, y.type(0)), b.icmp_signed("<", y, y.type(0))
    other = zero if t.signed else b.or_(zero, huge)
    quotient, rest = _divide_in_floats(b, t, x, b.select(other, y.type(1), y), rounding)
    if not t.signed:
        once = b.zext(b.icmp_unsigned(">=", x, y), x.type)
        quotient = b.select(huge, once, quotient)
        rest = b.select(huge, b.sub(x, b.mul(once, y)), rest)
    return b.select(zero, x.type(0), quotient), rest


def _divide(b: Any, t: Any, x: Any, y: Any, rounding: str) -> tuple[Any, Any]:
    """Quotient and remainder; both 0 for y == 0, and the wrapped x and 0 for least / -1."""
    if t.bitwidth == 64 and offers(str(b.module.triple), "avx512dq"):
        return _divide_long(b, t, x, y, rounding)
    zero = b.icmp_unsigned("==", y, y.type(0))
    unsafe = zero
    if t.signed:
        least = b.icmp_signed("==", x, x.type(-(1 << (t.bitwidth - 1))))
        unsafe = b.or_(zero, b.and_(least, b.icmp_signed("==", y, y.type(-1))))
    divisor = b.select(unsafe, y.type(1), y)
    quotient = _quotient(b, t, x, divisor, rounding)
    rest = b.sub(x, b.mul(quotient, divisor))
    return b.select(zero, x.type(0), quotient), rest


@intrinsic(2)
def ifloordiv(b: Any, t: Any, x: Any, y: Any) -> Any:
    """x // y rounded down; 0 for y == 0."""
    return _divide(b, t, x, y, "floor")[0]


@intrinsic(2)
def iremainder(b: Any, t: Any, x: Any, y: Any) -> Any:
    """x % y with the sign of y; 0 for y == 0."""
    return _divide(b, t, x, y, "floor")[1]


@intrinsic(2)
def ifmod(b: Any, t: Any, x: Any, y: Any) -> Any:
    """C's x % y, with the sign of x; 0 for y == 0."""
    return _divide(b, t, x, y, "trunc")[1]


# Divisors.


def _zeros_below(b: Any, x: Any) -> Any:
    """How many zeros the binary digits of x end with; 0 for x == 0, so that a shift is defined."""
    count = call(b, "llvm.cttz", x, ir.IntType(1)(0))
    return b.and_(count, x.type(x.type.width - 1))


def _gcd(b: Any, t: Any, x: Any, y: Any) -> Any:
    """Of abs(x) and abs(y), unsigned, by halving and subtracting: shifts are cheap, divisions not.

    x becomes and stays odd; the common factors of two come back at the end.
    """
    x, y = iabs.emit(b, t, x), iabs.emit(b, t, y)
    x = b.select(b.icmp_unsigned("==", x, x.type(0)), y, x)
    twos = _zeros_below(b, b.or_(x, y))
    first, before = b.lshr(x, _zeros_below(b, x)), b.block
    loop, step, after = (b.append_basic_block(f"gcd.{n}") for n in ("loop", "step", "end"))
    b.branch(loop)
    b.position_at_end(loop)
    odd, rest = b.phi(x.type), b.phi(x.type)
    b.cbranch(b.icmp_unsigned("!=", rest, x.type(0)), step, after)
    b.position_at_end(step)
    other = b.lshr(rest, _zeros_below(b, rest))
    below = b.icmp_unsigned("<", odd, other)
    smaller, larger = b.select(below, odd, other), b.select(below, other, odd)
    for phi, start, following in ((odd, first, smaller), (rest, y, b.sub(larger, smaller))):
        phi.add_incoming(start, before)
        phi.add_incoming(following, step)
    b.branch(loop)
    b.position_at_end(after)
    return b.shl(odd, twos)


@intrinsic(2)
def gcd(b: Any, t: Any, x: Any, y: Any) -> Any:
    """The greatest common divisor; gcd(0, y) is abs(y), and that of the least integer is itself."""
    return _gcd(b, t, x, y)


@intrinsic(2)
def lcm(b: Any, t: Any, x: Any, y: Any) -> Any:
    """The least common multiple, wrapping; 0 if one is 0."""
    divisor = _gcd(b, t, x, y)
    safe = b.select(b.icmp_unsigned("==", divisor, x.type(0)), x.type(1), divisor)
    return b.mul(b.udiv(iabs.emit(b, t, x), safe), iabs.emit(b, t, y))


# Bits.


@intrinsic(2)
def ishl(b: Any, t: Any, x: Any, y: Any) -> Any:
    """x << y; 0 where y is negative or at least the width."""
    fits = b.icmp_unsigned("<", y, y.type(t.bitwidth))
    return b.select(fits, b.shl(x, b.select(fits, y, y.type(0))), x.type(0))


@intrinsic(2)
def ishr(b: Any, t: Any, x: Any, y: Any) -> Any:
    """x >> y; where y is negative or at least the width, -1 for negative x and 0 otherwise."""
    fits = b.icmp_unsigned("<", y, y.type(t.bitwidth))
    if t.signed:
        return b.ashr(x, b.select(fits, y, y.type(t.bitwidth - 1)))
    return b.select(fits, b.lshr(x, b.select(fits, y, y.type(0))), x.type(0))


@intrinsic(1, to=types.uint8)
def popcount(b: Any, t: Any, x: Any) -> Any:
    """The number of ones in abs(x), as uint8."""
    count = call(b, "llvm.ctpop", iabs.emit(b, t, x))
    return count if t.bitwidth == 8 else b.trunc(count, ir.IntType(8))


# Indices.


@intrinsic(2)
def wrap_index(b: Any, t: Any, i: Any, n: Any) -> Any:
    """An index with negative ones wrapped once; 0 where index_bad."""
    wrapped = b.select(b.icmp_signed("<", i, i.type(0)), b.add(i, n), i)
    return b.select(b.icmp_unsigned("<", wrapped, n), wrapped, i.type(0))


@intrinsic(2, to=types.boolean)
def index_bad(b: Any, t: Any, i: Any, n: Any) -> Any:
    """Is i out of range for an axis of n elements?"""
    wrapped = b.select(b.icmp_signed("<", i, i.type(0)), b.add(i, n), i)
    return b.icmp_unsigned(">=", wrapped, n)


@intrinsic(2)
def count_index(b: Any, t: Any, i: Any, n: Any) -> Any:
    """An index in [0, n); 0 where count_bad."""
    return b.select(b.icmp_unsigned("<", i, n), i, i.type(0))


@intrinsic(2, to=types.boolean)
def count_bad(b: Any, t: Any, i: Any, n: Any) -> Any:
    """Is i negative or not less than n?"""
    return b.icmp_unsigned(">=", i, n)


@intrinsic(2)
def farther(b: Any, t: Any, i: Any, k: Any) -> Any:
    """The larger of two places; negative ones are larger than all others."""
    return b.select(b.icmp_unsigned(">", k, i), k, i)


@intrinsic(1)
def taken(b: Any, t: Any, i: Any) -> Any:
    """An index as it is, in a register of its own: LLVM makes no vectors of it."""
    return b.asm(ir.FunctionType(i.type, [i.type]), "", "=r,0", [i], False)


@intrinsic(2, to=types.boolean)
def within(b: Any, t: Any, i: Any, n: Any) -> Any:
    """Is i in [0, n)?"""
    return b.icmp_unsigned("<", i, n)


__all__ = names_of(globals())
