"""Sums of two numbers, for formulas that must not lose what cancels later.

A ``Two`` stands for hi + lo, where lo is about half an ULP of hi, or less, and None for 0. The
operators lose some 2**-100 of the result (T. J. Dekker, Numer. Math. 18, 1971), so that
``rounded`` rounds once; an infinity leaves a nan in ``lo``, hence special values come last.

    size = (x * x + y * y).sqrt()
"""

from typing import NamedTuple

from fusec.codegen.mathlib.dsl import Number, Val, fast_two_sum, fma, where


def two_sum(a: Val, b: Val) -> tuple[Val, Val]:
    """a + b and its rounding error, exactly."""
    s = a + b
    v = s - a
    return s, (a - (s - v)) + (b - v)


def two_product(a: Val, b: Val) -> tuple[Val, Val]:
    """a * b and its rounding error, exactly but for underflow."""
    p = a * b
    return p, fma(a, b, -p)


class Two(NamedTuple):
    """hi + lo; see the module."""

    hi: Val
    lo: Val | None = None

    def rounded(self) -> Val:
        """The nearest number, with the sign of a zero."""
        return self.hi if self.lo is None else where(self.hi == 0.0, self.hi, self.hi + self.lo)

    def low(self) -> Val:
        """``lo`` as a number."""
        return self.hi.const(0.0) if self.lo is None else self.lo

    def __neg__(self) -> "Two":
        return Two(-self.hi, None if self.lo is None else -self.lo)

    def __add__(self, o: "Two") -> "Two":  # type: ignore[override]
        s, rest = two_sum(self.hi, o.hi)
        for lo in (self.lo, o.lo):
            rest = rest if lo is None else rest + lo
        return Two(*fast_two_sum(s, rest))

    def __sub__(self, o: "Two") -> "Two":
        return self + -o

    def __mul__(self, o: "Two") -> "Two":  # type: ignore[override]
        p, rest = two_product(self.hi, o.hi)
        for hi, lo in ((self.hi, o.lo), (o.hi, self.lo)):
            rest = rest if lo is None else fma(hi, lo, rest)
        return Two(p, rest)

    def __truediv__(self, o: "Two") -> "Two":
        q = self.hi / o.hi
        rest = fma(-q, o.hi, self.hi)
        rest = rest if self.lo is None else rest + self.lo
        rest = rest if o.lo is None else fma(-q, o.lo, rest)
        return Two(q, rest / o.hi)

    def sqrt(self) -> "Two":
        """The square root of a positive number."""
        r = self.hi.intrinsic("llvm.sqrt")
        rest = fma(-r, r, self.hi)
        rest = rest if self.lo is None else rest + self.lo
        return Two(r, rest / (r + r))

    def scaled(self, by: "Val | Number") -> "Two":
        """Times a power of two."""
        return Two(self.hi * by, None if self.lo is None else self.lo * by)

    def flip(self, sign: Val) -> "Two":
        """Negated where the sign bit ``sign`` is set."""
        return Two(self.hi.flip(sign), None if self.lo is None else self.lo.flip(sign))


def choose(condition: Val, yes: Two, no: Two) -> Two:
    """``where`` for two sums."""
    return Two(where(condition, yes.hi, no.hi), where(condition, yes.low(), no.low()))
