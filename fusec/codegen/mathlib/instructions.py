"""Steps that AVX-512 has as one instruction, and other machines as a handful.

LLVM's vectoriser does not know these instructions, but it accepts calls whose vector forms are
known (see ``rare``). A loop over ``log`` calls ``fusec.near_significand.f64``, whose form for 8
lanes is::

    vgetmantpd zmm1, zmm0, 11

The form for one lane, for what whole vectors leave, is the formula that other machines have in
its place; both give the same bits.
"""

from collections.abc import Callable
from typing import Any

from llvmlite import ir

from fusec.codegen.mathlib.dsl import F64, INF, NAN, Kind, Val, fma, where
from fusec.codegen.mathlib.rare import LANES, name_forms, new_function, splat, weak_function
from fusec.codegen.target import host, offers

_I32 = ir.IntType(32)
_NOW = _I32(4)  # the rounding mode that the processor is in
_NEAR_ONE = 0b1011  # for vgetmant: from 3/4 to 3/2, and nan for what is below 0
_AMD = "znver"  # what LLVM's names of its processors with AVX-512 begin with
Form = Callable[[ir.IRBuilder, Kind, list[Any]], Any]


def _instruction(name: str, portable: Callable[..., Val], form: Form, xs: list[Val]) -> Val:
    """``portable(*xs)``, whose vector form is written by ``form``."""
    b, kind = xs[0].b, xs[0].kind
    if not offers(str(b.module.triple), "avx512f", "avx512vl"):
        return portable(*xs)
    symbol = f"fusec.{name}.{kind.name}"
    function = b.module.globals.get(symbol)
    if function is None:
        function = weak_function(b.module, symbol, kind, len(xs))
        inner = ir.IRBuilder(function.append_basic_block())
        inner.ret(portable(*[Val(inner, v) for v in function.args]).v)
        name_forms(function, [_vector(function, kind, n, form) for n in LANES[kind.name]])
    return Val(b, b.call(function, [x.v for x in xs]))


def _vector(scalar: ir.Function, kind: Kind, lanes: int, form: Form) -> ir.Function:
    vector, symbol = ir.VectorType(kind.real, lanes), f"{scalar.name}.v{lanes}"
    given = [vector] * len(scalar.args)
    function = new_function(scalar.module, symbol, vector, given, "alwaysinline")
    b = ir.IRBuilder(function.append_basic_block())
    b.ret(form(b, kind, list(function.args)))
    return function


def _avx512(
    b: ir.IRBuilder, name: str, operands: list[Any], chosen: Any = None, rounds: bool = True
) -> Any:
    """One instruction on the lanes of ``operands``, the first of which is a vector.

    chosen: a condition a lane; the other lanes are 0, and nothing is computed for them.
    rounds: whether it rounds as the processor does now.
    """
    vector = operands[0].type
    wide = vector.count * (64 if isinstance(vector.element, ir.DoubleType) else 32)
    letters = "pd" if isinstance(vector.element, ir.DoubleType) else "ps"
    mask = ir.IntType(max(vector.count, 8))
    which, others = mask(-1), vector(ir.Undefined)
    if chosen is not None:
        none = chosen.type([0] * vector.count)
        places = [min(k, vector.count) for k in range(mask.width)]
        lanes = ir.Constant(ir.VectorType(_I32, mask.width), places)
        which = b.bitcast(b.shuffle_vector(chosen, none, lanes), mask)
        others = splat(vector, 0.0)
    given = [*operands, others, which, *([_NOW] if rounds and wide == 512 else [])]
    symbol = f"llvm.x86.avx512.{name}.{letters}.{wide}"
    kind = ir.FunctionType(vector, [x.type for x in given])
    return b.call(b.module.globals.get(symbol) or ir.Function(b.module, kind, symbol), given)


def _significand(b: ir.IRBuilder, kind: Kind, xs: list[Any]) -> Any:
    return _avx512(b, "mask.getmant", [xs[0], _I32(_NEAR_ONE)])


def _near_exponent(b: ir.IRBuilder, kind: Kind, xs: list[Any]) -> Any:
    """The exponent is one more where the significand is below 1."""
    rest = _avx512(b, "mask.getexp", [_significand(b, kind, xs)])
    return b.fsub(_avx512(b, "mask.getexp", xs), rest)


def _scaled(b: ir.IRBuilder, kind: Kind, xs: list[Any]) -> Any:
    magic = splat(xs[0].type, kind.magic)
    return _avx512(b, "mask.scalef", [xs[0], b.fsub(xs[1], magic)])


def _scaled_or_none(b: ir.IRBuilder, kind: Kind, xs: list[Any]) -> Any:
    """As an instruction under a mask."""
    last = splat(xs[0].type, kind.magic + _gone(kind))
    exponent = b.fsub(xs[1], splat(xs[0].type, kind.magic))
    return _avx512(b, "mask.scalef", [xs[0], exponent], b.fcmp_unordered(">", xs[1], last))


def root(x: Val) -> Val:
    """The square root, correctly rounded.

    Intel's processors take 24 cycles for the roots of 8 float64, the formula takes 10. For float32
    the instruction is as fast; AMD's have not been measured.
    """
    if x.kind is F64 and not host().cpu.startswith(_AMD):
        return _instruction("root", _root, _roots, [x])
    return _root(x)


def _root(x: Val) -> Val:
    return x.intrinsic("llvm.sqrt")


def _roots(b: ir.IRBuilder, kind: Kind, xs: list[Any]) -> Any:
    """R. E. Goldschmidt's iteration from 14 bits, then P. Markstein's correction.

    g and h, near to sqrt(x) and 1 / (2 sqrt(x)), become twice as exact in each round; at the end
    both err by 2.4 * 2**-53, and the fused ``g + (x - g * g) * h`` by less than 2**-49 units in the
    last place before it is rounded. A root so near to the middle m of two floats has a square
    within 2**7 of the last bits of m * m: the tests try all of these. Zeros stay as they are.
    """
    x, packed = Val(b, xs[0]), ir.IntType(xs[0].type.count)
    least, most = [kind.bits_of(2.0**k) for k in (-900, 1000)]
    size = x.bits() & (kind.sign - 1)
    beyond = b.icmp_unsigned(">", (size - least).v, size.const(most - least).v)
    rare = b.bitcast(b.and_(beyond, (size != 0).v), packed)
    with b.if_then(b.icmp_unsigned("!=", rare, packed(0)), likely=False):
        b.ret(_root(x).v)
    about = Val(b, _avx512(b, "rsqrt14", [x.v], (size != 0).v, rounds=False))
    g, h = x * about, about * 0.5
    for _ in range(2):
        e = fma(-g, h, 0.5)
        g, h = fma(g, e, g), fma(h, e, h)
    return fma(fma(-g, g, x), h, g).v


def kept(name: str, formula: Callable[[Val], Val], x: Val) -> Val:
    """``formula(x)`` as a call until loops are vectors.

    What is the same all along a loop stays a number so: LLVM would make conditions of it, and a
    vector that depends on one condition is a branch, which vectors side by side then wait for.
    """
    return _instruction(name, formula, lambda b, kind, xs: formula(Val(b, xs[0])).v, [x])


def split(x: Val) -> tuple[Val, Val]:
    """(e, m) with x = 2**e * m and m in [3/4, 3/2).

    e is -inf for 0, inf for inf; e or m is nan for nan and for what is below 0; else m is finite.
    """
    return (
        _instruction("near_exponent", lambda x: _split(x)[0], _near_exponent, [x]),
        _instruction("near_significand", lambda x: _split(x)[1], _significand, [x]),
    )


def _split(x: Val) -> tuple[Val, Val]:
    kind = x.kind
    lift, base, least = kind.mantissa + 1, 2.0**kind.mantissa, kind.bits_of(0.75)
    subnormal = x < kind.tiny
    shifted = where(subnormal, x * 2.0**lift, x).bits() + (kind.one - least)
    m = ((shifted & ((1 << kind.mantissa) - 1)) + least).real()
    bias = where(subnormal, x.const(base + kind.bias + lift), base + kind.bias)
    e = ((shifted >> kind.mantissa) | kind.bits_of(base)).real() - bias
    e = where(x < INF, e, x)
    e = where(x < 0.0, NAN, e)
    return where(x == 0.0, -INF, e), m


def scaled(y: Val, n: Val) -> Val:
    """y * 2**n rounded once, for an integer with n in its low bits as ``exp_reduced`` makes it.

    |n| is at most twice the range of exponents.
    """
    return _instruction("scaled", _in_two_steps, _scaled, [y, n.real()])


def exponential(y: Val, n: Val) -> Val:
    """``scaled`` for 1/2 < y < 3/2, where n may be as low as it likes, and y nan there.

    Intel's processors take some 160 cycles for a vector of which one result underflows: so what
    rounds to 0, as e**-1000 does, is not computed. 102,400 float32 of which half are
    -infinity, one thread of a Xeon: ``exp`` 211 -> 14 us.
    """
    return _instruction("exponential", _exponential, _scaled_or_none, [y, n.real()])


def _gone(kind: Kind) -> int:
    """3/2 times two to this power rounds to 0."""
    return -kind.bias - kind.mantissa - 1


def _exponential(y: Val, n: Val) -> Val:
    least = n.const(n.kind.magic + _gone(n.kind))
    return _in_two_steps(where(n <= least, 0.0, y), where(n <= least, least, n))


def _in_two_steps(y: Val, n: Val) -> Val:
    kind, bits = y.kind, n.bits()
    whole = bits << kind.mantissa
    half = (bits >> 1) << kind.mantissa
    return (y * (half + kind.one).real()) * (whole - half + kind.one).real()
