"""Arithmetic on LLVM values that reads like the formula.

A ``Val`` wraps an LLVM value and the builder that made it; operators emit instructions
(never contracted, never reassociated) and Python numbers become constants of the other operand's
type. ``fma`` is explicit. Values are scalars, vectors are the loop vectoriser's business; but what
it must not look into is written for vectors too (``instructions.kept``).

    z = x * x
    y = fma(z * x, polynomial(z, "sin"), x)
"""

import math
import struct
from dataclasses import dataclass

from llvmlite import ir

from fusec.codegen.mathlib.coefficients import CONSTANTS, POLYNOMIALS

Number = int | float
INF = math.inf
NAN = math.nan


@dataclass(frozen=True)
class Kind:
    """What the formulas need to know about a floating-point type.

    mantissa: stored bits of the mantissa; bias: of the exponent; code: of ``struct``.
    """

    name: str
    real: ir.Type
    integer: ir.IntType
    mantissa: int
    bias: int
    code: str

    def bits_of(self, value: float) -> int:
        """The bit pattern of a constant as a non-negative integer."""
        packed: bytes = struct.pack(self.code, value)
        return int.from_bytes(packed, "little")

    @property
    def magic(self) -> float:
        """Adding it rounds to an integer, which then stands in the low bits of the sum."""
        return 3.0 * float(1 << (self.mantissa - 1))

    @property
    def one(self) -> int:
        """Bits of 1.0: an integer n shifted by ``mantissa`` and added makes 2**n."""
        return self.bias << self.mantissa

    @property
    def sign(self) -> int:
        """The sign bit."""
        return 1 << int(self.integer.width - 1)

    @property
    def tiny(self) -> float:
        """The least normal number."""
        return math.ldexp(1.0, 1 - self.bias)


F32 = Kind("f32", ir.FloatType(), ir.IntType(32), 23, 127, "<f")
F64 = Kind("f64", ir.DoubleType(), ir.IntType(64), 52, 1023, "<d")
KINDS = {"f32": F32, "f64": F64}


class Val:
    """An LLVM value with operators; see the module."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, builder: ir.IRBuilder, value: ir.Value):
        self.b, self.v = builder, value

    @property
    def kind(self) -> Kind:
        """The kind of a real value, or of the reals as wide as an integer value."""
        return F64 if self._lane in (F64.real, F64.integer) else F32

    @property
    def _lane(self) -> ir.Type:
        return getattr(self.v.type, "element", self.v.type)

    @property
    def _real(self) -> bool:
        return isinstance(self._lane, (ir.FloatType, ir.DoubleType))

    def _like(self, lane: ir.Type) -> ir.Type:
        """As many lanes of another type."""
        vector = isinstance(self.v.type, ir.VectorType)
        return ir.VectorType(lane, self.v.type.count) if vector else lane

    def const(self, value: Number | bool) -> "Val":
        """A constant of this value's type (integers wrap)."""
        if isinstance(self._lane, ir.IntType):
            value = int(value) & ((1 << self._lane.width) - 1)
        lanes = getattr(self.v.type, "count", 0)
        one = ir.Constant(self._lane, value)
        return Val(self.b, ir.Constant(self.v.type, [one] * lanes) if lanes else one)

    def _with(self, other: "Val | Number") -> ir.Value:
        return other.v if isinstance(other, Val) else self.const(other).v

    def _op(self, real: str, whole: str, other: "Val | Number", swap: bool = False) -> "Val":
        pair = (self.v, self._with(other))
        emit = getattr(self.b, real if self._real else whole)
        return Val(self.b, emit(*(reversed(pair) if swap else pair)))

    def __add__(self, o: "Val | Number") -> "Val":
        return self._op("fadd", "add", o)

    def __sub__(self, o: "Val | Number") -> "Val":
        return self._op("fsub", "sub", o)

    def __rsub__(self, o: Number) -> "Val":
        return self._op("fsub", "sub", o, swap=True)

    def __mul__(self, o: "Val | Number") -> "Val":
        return self._op("fmul", "mul", o)

    def __truediv__(self, o: "Val | Number") -> "Val":
        return self._op("fdiv", "udiv", o)

    def __rtruediv__(self, o: Number) -> "Val":
        return self._op("fdiv", "udiv", o, swap=True)

    def __neg__(self) -> "Val":
        return Val(self.b, self.b.fneg(self.v) if self._real else self.b.neg(self.v))

    def __and__(self, o: "Val | Number") -> "Val":
        return self._op("and_", "and_", o)

    def __or__(self, o: "Val | Number") -> "Val":
        return self._op("or_", "or_", o)

    def __xor__(self, o: "Val | Number") -> "Val":
        return self._op("xor", "xor", o)

    def __invert__(self) -> "Val":
        return Val(self.b, self.b.not_(self.v))

    def __lshift__(self, o: "Val | Number") -> "Val":
        return self._op("shl", "shl", o)

    def __rshift__(self, o: "Val | Number") -> "Val":
        """The logical shift: AVX2 has no arithmetic one of 64 bits."""
        return self._op("lshr", "lshr", o)

    def _compare(self, op: str, o: "Val | Number") -> "Val":
        if self._real:
            emit = self.b.fcmp_unordered if op == "!=" else self.b.fcmp_ordered
        else:
            emit = self.b.icmp_signed
        return Val(self.b, emit(op, self.v, self._with(o)))

    def __lt__(self, o: "Val | Number") -> "Val":
        return self._compare("<", o)

    def __le__(self, o: "Val | Number") -> "Val":
        return self._compare("<=", o)

    def __gt__(self, o: "Val | Number") -> "Val":
        return self._compare(">", o)

    def __ge__(self, o: "Val | Number") -> "Val":
        return self._compare(">=", o)

    def __eq__(self, o: "Val | Number") -> "Val":  # type: ignore[override]
        return self._compare("==", o)

    def __ne__(self, o: "Val | Number") -> "Val":  # type: ignore[override]
        """True for nan, as in C."""
        return self._compare("!=", o)

    def __abs__(self) -> "Val":
        return self.intrinsic("llvm.fabs")

    def intrinsic(self, name: str, *others: "Val | Number") -> "Val":
        """An intrinsic of LLVM's that is one instruction everywhere."""
        given = [self.v, *[self._with(o) for o in others]]
        kind = ir.FunctionType(self.v.type, [v.type for v in given])
        lanes = getattr(self.v.type, "count", "")
        symbol = f"{name}.{f'v{lanes}' if lanes else ''}{self.kind.name}"
        known = self.b.module.globals.get(symbol)
        function = known or ir.Function(self.b.module, kind, symbol)
        return Val(self.b, self.b.call(function, given))

    def bits(self) -> "Val":
        """A real as an integer of its width."""
        return Val(self.b, self.b.bitcast(self.v, self._like(self.kind.integer)))

    def real(self) -> "Val":
        """The inverse of ``bits``."""
        return Val(self.b, self.b.bitcast(self.v, self._like(self.kind.real)))

    def signbit(self) -> "Val":
        """The sign bit of a real, alone in an integer."""
        return self.bits() & self.kind.sign

    def flip(self, sign: "Val") -> "Val":
        """A real, negated where the sign bit ``sign`` is set."""
        return (self.bits() ^ sign).real()

    def copysign(self, o: "Val") -> "Val":
        """|self| with the sign of ``o``."""
        return ((self.bits() & (self.kind.sign - 1)) | o.signbit()).real()

    def convert(self, op: str, to: ir.Type) -> "Val":
        """One of LLVM's conversion instructions: zext, trunc, fpext, uitofp ..."""
        return Val(self.b, getattr(self.b, op)(self.v, to))


def fma(a: Val, b: "Val | Number", c: "Val | Number") -> Val:
    """a * b + c with one rounding."""
    return a.intrinsic("llvm.fma", b, c)


def where(condition: Val, yes: "Val | Number", no: "Val | Number") -> Val:
    """LLVM's select; one of the branches may be a number."""
    model = yes if isinstance(yes, Val) else no
    assert isinstance(model, Val), "two numbers have no type: use like.const"
    chosen = condition.b.select(condition.v, model._with(yes), model._with(no))
    return Val(condition.b, chosen)


def at_most(x: Val, bound: Number) -> Val:
    """min(x, bound) that keeps nan."""
    return where(x > bound, bound, x)


def at_least(x: Val, bound: Number) -> Val:
    """max(x, bound) that keeps nan."""
    return where(x < bound, bound, x)


def horner(x: Val, coefficients: tuple[float, ...], out: Val | None = None) -> Val:
    """The polynomial, lowest power first; ``out`` is the sum of the higher powers."""
    for c in reversed(coefficients):
        out = x.const(c) if out is None else fma(out, x, c)
    assert out is not None
    return out


def polynomial(x: Val, name: str) -> Val:
    """A polynomial of the table; the high powers of a long one in two chains (latency).

    The three lowest powers stay in one chain, which keeps the rounding errors of Horner's rule.
    """
    table = POLYNOMIALS[name][x.kind.name]
    if len(table) < 8:
        return horner(x, table)
    z = x * x
    high = fma(horner(z, table[4::2]), x, horner(z, table[3::2]))
    return horner(x, table[:3], high)


def constant(x: Val, name: str) -> tuple[float, ...]:
    """Three numbers of x's type that add up to the constant, largest first."""
    return CONSTANTS[name][x.kind.name]


def fast_two_sum(a: Val, b: Val) -> tuple[Val, Val]:
    """a + b and its rounding error, exactly, if |a| >= |b| or a is 0."""
    s = a + b
    return s, (a - s) + b
