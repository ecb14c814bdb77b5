"""Casts between all dtypes, comparisons across types, and selection.

``cast_f4(x)`` and its siblings take a value of any type, also a literal, and give what NumPy's
``astype`` gives on x86-64: floats out of an integer's range become the "integer indefinite" value
of the conversion instruction (narrow integers are cut out of the 32-bit one). Into uint32 NumPy's
own results out of range depend on the position in the array; ours are those of its vector loop.
"""

from typing import Any

from llvmlite import ir
from numba.core import types

from fusec.codegen.complexes import ordered
from fusec.codegen.intrinsic import call, intrinsic, join, names_of, parts, value_type

TYPES: dict[str, Any] = {
    "b1": types.boolean,
    **{f"i{n}": getattr(types, f"int{8 * n}") for n in (1, 2, 4, 8)},
    **{f"u{n}": getattr(types, f"uint{8 * n}") for n in (1, 2, 4, 8)},
    "f4": types.float32,
    "f8": types.float64,
    "c8": types.complex64,
    "c16": types.complex128,
}
"""Numba's type of each dtype, by the dtype's two letters."""


def _float_to_signed(b: Any, x: Any, bits: int) -> Any:
    """Towards zero; the smallest integer where that is out of range or x is NaN."""
    limit, to = 2.0 ** (bits - 1), ir.IntType(bits)
    least = x.type(-limit)
    # -limit - 1 is no float of this width unless the format has the bits for it
    low = b.fcmp_ordered(">=", x, least)
    if x.type == ir.DoubleType() and bits == 32:
        low = b.fcmp_ordered(">", x, x.type(-limit - 1.0))
    inside = b.and_(low, b.fcmp_ordered("<", x, x.type(limit)))
    whole = b.fptosi(b.select(inside, x, x.type(0.0)), to)
    return b.select(inside, whole, to(-(1 << (bits - 1))))


def _float_to_int(b: Any, x: Any, t: Any) -> Any:
    to = ir.IntType(t.bitwidth)
    if t.bitwidth < 32:
        return b.trunc(_float_to_signed(b, x, 32), to)
    if t.signed:
        return _float_to_signed(b, x, t.bitwidth)
    top = t.bitwidth - 1
    half = x.type(2.0**top)
    large = b.fcmp_ordered(">=", x, half)
    whole = _float_to_signed(b, b.select(large, b.fsub(x, half), x), t.bitwidth)
    return b.select(large, b.xor(whole, to(1 << top)), whole)


def _int_to_int(b: Any, x: Any, of: Any, width: int) -> Any:
    to = ir.IntType(width)
    if x.type.width >= width:
        return x if x.type.width == width else b.trunc(x, to)
    return b.sext(x, to) if getattr(of, "signed", False) else b.zext(x, to)


def _to_float(b: Any, of: Any, x: Any, t: Any) -> Any:
    to = value_type(t)
    if isinstance(of, types.Float):
        if of.bitwidth == t.bitwidth:
            return x
        return b.fpext(x, to) if of.bitwidth < t.bitwidth else b.fptrunc(x, to)
    return (b.sitofp if getattr(of, "signed", False) else b.uitofp)(x, to)


def convert(b: Any, of: Any, x: Any, t: Any) -> Any:
    """``x`` of Numba type ``of`` as type ``t``."""
    if isinstance(of, types.Complex):
        re, im = parts(b, x)
        if t == types.boolean:
            return b.or_(*[convert(b, of.underlying_float, v, t) for v in (re, im)])
        if not isinstance(t, types.Complex):
            return convert(b, of.underlying_float, re, t)
        pair = of.underlying_float, t.underlying_float
        return join(b, *[_to_float(b, pair[0], v, pair[1]) for v in (re, im)])
    if isinstance(t, types.Complex):
        re = _to_float(b, of, x, t.underlying_float)
        return join(b, re, re.type(0.0))
    if t == types.boolean:
        if isinstance(of, types.Float):
            return b.fcmp_unordered("!=", x, x.type(0.0))
        return x if of == types.boolean else b.icmp_unsigned("!=", x, x.type(0))
    if isinstance(t, types.Float):
        return _to_float(b, of, x, t)
    if isinstance(of, types.Float):
        return _float_to_int(b, x, t)
    return _int_to_int(b, x, of, t.bitwidth)


def _cast(name: str, t: Any) -> Any:
    def emit(b: Any, of: Any, x: Any) -> Any:
        return convert(b, of, x, t)

    return intrinsic(1, to=t, name=f"cast_{name}", doc=f"x as {t}.")(emit)


@intrinsic(1, to=types.float32)
def from_half(b: Any, of: Any, x: Any) -> Any:
    """The float16 whose bits are x, as float32."""
    return b.fpext(b.bitcast(x, ir.HalfType()), ir.FloatType())


@intrinsic(1, to=types.uint16)
def cast_f2(b: Any, of: Any, x: Any) -> Any:
    """The bits of x as float16. NumPy's integers go through float32, its doubles do not."""
    if isinstance(of, types.Complex):
        of, x = of.underlying_float, parts(b, x)[0]
    single = convert(b, of, x, types.float32)
    if of == types.float64:
        single = _to_odd(b, x, single)
    return b.bitcast(b.fptrunc(single, ir.HalfType()), ir.IntType(16))


@intrinsic(1, to=types.float32)
def from_bfloat(b: Any, of: Any, x: Any) -> Any:
    """The bfloat16 whose bits are x, as float32."""
    word = ir.IntType(32)
    return b.bitcast(b.shl(b.zext(x, word), word(16)), ir.FloatType())


@intrinsic(1, to=types.uint16)
def cast_bf2(b: Any, of: Any, x: Any) -> Any:
    """The bits of x as bfloat16: of float32, to the nearest, ties to even; a NaN keeps its sign."""
    word = ir.IntType(32)
    bits = b.bitcast(convert(b, of, x, types.float32), word)
    last = b.and_(b.lshr(bits, word(16)), word(1))
    rounded = b.lshr(b.add(bits, b.add(last, word(0x7FFF))), word(16))
    nan = b.icmp_unsigned(">", b.and_(bits, word(0x7FFFFFFF)), word(0x7F800000))
    quiet = b.or_(b.and_(b.lshr(bits, word(16)), word(0x8000)), word(0x7FC0))
    return b.trunc(b.select(nan, quiet, rounded), ir.IntType(16))


def _to_odd(b: Any, x: Any, single: Any) -> Any:
    """The float32 next to x towards zero, with its last bit set if it is not x.

    Rounded again, to float16, it gives what x itself gives (Boldo and Melquiond, 2008).
    """
    bits, back = b.bitcast(single, ir.IntType(32)), b.fpext(single, x.type)
    apart = b.fcmp_ordered("!=", back, x)
    sizes = [call(b, "llvm.fabs", v) for v in (back, x)]
    beyond = b.zext(b.fcmp_ordered(">", *sizes), bits.type)
    odd = b.or_(b.sub(bits, beyond), bits.type(1))
    return b.bitcast(b.select(apart, odd, bits), single.type)


cast_b1 = _cast("b1", TYPES["b1"])
cast_i1, cast_i2, cast_i4, cast_i8 = (_cast(n, TYPES[n]) for n in ("i1", "i2", "i4", "i8"))
cast_u1, cast_u2, cast_u4, cast_u8 = (_cast(n, TYPES[n]) for n in ("u1", "u2", "u4", "u8"))
cast_f4, cast_f8 = (_cast(n, TYPES[n]) for n in ("f4", "f8"))
cast_c8, cast_c16 = (_cast(n, TYPES[n]) for n in ("c8", "c16"))


def _bits(name: str, t: Any) -> Any:
    def emit(b: Any, of: Any, x: Any) -> Any:
        return b.bitcast(x, value_type(t))

    return intrinsic(1, to=t, name=f"bits_{name}", doc=f"The bits of x as {t}.")(emit)


bits_i1, bits_i2, bits_i4, bits_i8 = (_bits(n, TYPES[n]) for n in ("i1", "i2", "i4", "i8"))
bits_u1, bits_u2, bits_u4, bits_u8 = (_bits(n, TYPES[n]) for n in ("u1", "u2", "u4", "u8"))
bits_f4, bits_f8 = (_bits(n, TYPES[n]) for n in ("f4", "f8"))


# Comparisons: exact between any two integer types, lexicographic for complex numbers.


def _compare_ints(b: Any, t: Any, sign: str, x: Any, y: Any) -> Any:
    left, right = (getattr(u, "signed", False) for u in t)
    width = max(x.type.width, y.type.width)
    x, y = (_int_to_int(b, v, of, width) for v, of in ((x, t[0]), (y, t[1])))
    if left == right:
        return (b.icmp_signed if left else b.icmp_unsigned)(sign, x, y)
    compared = b.icmp_unsigned(sign, x, y)
    negative = b.icmp_signed("<", x if left else y, x.type(0))
    # a negative number is below every unsigned one, and never equal to one
    below = sign in ("<", "<=") if left else sign in (">", ">=")
    return b.select(negative, ir.IntType(1)(below or sign == "!="), compared)


def _compare(b: Any, t: Any, sign: str, x: Any, y: Any) -> Any:
    if isinstance(t[0], types.Float):
        return (b.fcmp_unordered if sign == "!=" else b.fcmp_ordered)(sign, x, y)
    if not isinstance(t[0], types.Complex):
        return _compare_ints(b, t, sign, x, y)
    if sign not in ("==", "!="):
        return ordered(b, sign, x, y)
    each = [_compare(b, (t[0].underlying_float,), sign, *p) for p in zip(parts(b, x), parts(b, y))]
    return (b.and_ if sign == "==" else b.or_)(*each)


def _comparison(name: str, sign: str) -> Any:
    def emit(b: Any, t: Any, x: Any, y: Any) -> Any:
        return _compare(b, t, sign, x, y)

    doc = f"x {sign} y."
    return intrinsic(2, to=types.boolean, mixed=True, name=name, doc=doc)(emit)


lt, le, gt, ge = (_comparison(*p) for p in (("lt", "<"), ("le", "<="), ("gt", ">"), ("ge", ">=")))
eq, ne = _comparison("eq", "=="), _comparison("ne", "!=")


@intrinsic(3, to=lambda condition, x, y: x, mixed=True)
def select(b: Any, t: Any, condition: Any, x: Any, y: Any) -> Any:
    """x where the condition holds, else y; both are evaluated and there is no branch."""
    if t[1] != t[2]:
        raise TypeError(f"select takes two values of one type, not {t[1]} and {t[2]}")
    if isinstance(t[1], types.Complex):
        return join(b, *[b.select(condition, *p) for p in zip(parts(b, x), parts(b, y))])
    return b.select(condition, x, y)


__all__ = names_of(globals())
