"""Python numbers of traced values: what ``float(x)``, ``x.item()`` or ``math.sqrt(x)`` give.

They are weak among arrays (``float32_array * float(x)`` is float32), and operators between them
are Python's: they give Python numbers and raise where Python does, by a check that hands the call
to NumPy. So does one where a Python int might need more than 64 bits.
"""

import math
import operator
from collections.abc import Callable, Iterator
from functools import reduce
from typing import Any

import numpy as np

from fusec.errors import UnsupportedError
from fusec.ir.aval import kind_of
from fusec.ir.graph import Node
from fusec.trace.hostcalls import host_call
from fusec.trace.scalars import NUMBERS, PyScalar
from fusec.trace.session import Session
from fusec.trace.tracer import Tracer, as_tracer, fresh
from fusec.trace.ufuncs import elementwise, weak_type

_WIDE = {"b": "?", "f": "f8", "c": "c16"}
_HIGH = 2**63
_SAFE = 9.2e18  # below 2**63 by far more than what is rounded in float64
EXACT = 2**53  # ints up to here are float64


def python_number(x: Tracer) -> Tracer:
    """A number that Python or NumPy hands over as a Python one: weak among arrays."""
    found = fresh(x._session, x.node, scalar=True)
    found._storage.item = True
    return found


def item(x: Tracer, *args: Any) -> Tracer:
    """``x.item()``: of the only element, or of the one at the place that ``args`` give."""
    if not args and x._like.size != 1:
        x._like.item()  # raises
    place = args[0] if len(args) == 1 else args
    chosen = (x[place] if isinstance(place, tuple) else x.ravel()[place]) if args else x
    if x.dtype.kind in "iu":
        return to_whole(chosen.reshape(()))
    return to_python(chosen, _WIDE[kind_of(x.dtype)])


def to_whole(x: Tracer) -> Tracer:
    """A number as a Python int; NumPy runs what has nan, infinities and more than 64 bits."""
    session = x._session
    node = session.cast(x.node, np.dtype(np.int64))
    if x.dtype.kind == "f" or x.dtype == np.uint64:
        node = session.make("check", node, (np.abs(x.astype(np.float64)) < 2.0**63).node)
    return python_number(fresh(session, node))


def rounded(x: Tracer, digits: Any) -> Any:
    """``round(x, digits)``: of decimal digits where ``x`` is a Python number."""
    if weak_type(x) is None:
        return np.round(x, digits)
    return python_number(host_call(x._session, round, (x, digits), {}))


def to_python(x: Tracer, dtype: Any) -> Tracer:
    return python_number(x.reshape(()).astype(dtype))


def _is_python(value: Any) -> bool:
    return type(value) in (PyScalar, *NUMBERS) or (type(value) is Tracer and value._storage.item)


def _python_operator(name: str) -> Callable[..., Any]:
    """An operator that gives Python numbers for Python numbers, and raises as Python does."""
    bare, repeats, plain = name.strip("_"), name.endswith("mul__"), getattr(Tracer, name)
    turned = bare[0] == "r" and bare != "rshift"
    bare = bare.removeprefix("r") if turned else bare
    if bare in _UFUNCS:
        plain = _direct(_UFUNCS[bare], plain, turned)
    if bare == "pow":
        plain = _power(plain, turned)

    def method(self: Tracer, *others: Any) -> Any:
        if repeats and self._scalar and isinstance(others[0], list | tuple):
            kinds = "iub" if self._storage.item else "iu"
            whole, real = self.dtype.kind in kinds, self.dtype.kind in "fc"
            if whole or real:  # NumPy's numbers repeat lists, as Python's do; floats raise
                return (self.__index__() if whole else self.__class__(1)) * others[0]
        number = self._storage.item and all(map(_is_python, others))
        if number and self.dtype.kind == "b" and bare not in _OF_BOOLS:
            return getattr(to_python(self, np.int64), name)(*others)
        pair = (*others, self) if turned else (self, *others)
        if number:
            refuse_large(self._session, bare, pair)
        undecided = [x._storage for x in pair if type(x) is Tracer and x._storage.choice]
        result = plain(self, *others)
        if any(s.choice is None for s in undecided):  # it was decided on the way
            return method(self, *others)
        if not number or type(result) is not Tracer:
            return result
        node, session = result.node, self._session
        fits = list(_conditions(bare, pair, result))
        if fits:
            node = session.make("check", node, reduce(operator.and_, fits).node)
        return python_number(fresh(session, node, scalar=True))

    return method


def refuse_large(session: Session, name: str, pair: tuple[Any, ...]) -> None:
    """Python's ints have any size; what is an int here has 64 bits."""
    values = [x._value if type(x) is PyScalar else x for x in pair if type(x) is not Tracer]
    most = EXACT if name in (*_COMPARISONS, "truediv") else _HIGH
    large = any(type(v) is int and not -most <= v < most for v in values)
    if large:
        kinds = {weak_type(x) for x in pair}
        large = kinds != {int} if name in _COMPARISONS else float not in kinds
    if len(pair) > 2 or large:
        for x in pair:  # smaller ones have a plan of their own
            if type(x) is PyScalar:
                x._concrete()
        what = "an int of more than 64 bits" if large else "pow() of three numbers"
        raise UnsupportedError(
            f"{session.location()}: {what} beside a number of an array: NumPy runs the function"
        )


def _conditions(name: str, pair: tuple[Any, ...], result: Tracer) -> Iterator[Tracer]:
    """What has to hold for Python's operator to give ``result``."""
    session, first, last = result._session, pair[0], pair[-1]
    whole = all(weak_type(x) in (int, bool) for x in pair)
    if name in _QUOTIENTS:
        yield np.not_equal(as_tracer(session, last), 0)
    if name in ("lshift", "rshift"):
        yield np.greater_equal(as_tracer(session, last), 0)
    if name == "lshift":
        yield result >> last == first
    if name == "floordiv" and whole and (type(last) is Tracer or last == -1):
        least = np.equal(as_tracer(session, first), -_HIGH)
        yield ~least | np.not_equal(as_tracer(session, last), -1)
    if name == "pow" and not whole:
        yield np.isfinite(result) | ~np.isfinite(first + last)
    if whole and name in _GROWING and _bits_of(result.node) > 63:
        yield np.abs(_GROWING[name](*[_real(session, x) for x in pair])) < _SAFE
    if (name == "truediv" and whole) or (name in _COMPARISONS and _mixed(pair)):
        for x in pair:
            traced = type(x) is Tracer and x.dtype.kind == "i" and _bits(x.node) > 53
            if traced or (type(x) is PyScalar and weak_type(x) is int):
                yield np.abs(_real(session, x)) < EXACT


def _mixed(pair: tuple[Any, ...]) -> bool:
    """Whether an int is compared with a float that may be so large that ints are none."""
    known = [x for x in pair if type(x) is float and (abs(x) <= EXACT or not math.isfinite(x))]
    return {weak_type(x) for x in pair} == {int, float} and not known


def _real(session: Session, x: Any) -> Tracer:
    return as_tracer(session, x).astype(np.float64)


def _bits(node: Node, depth: int = 6) -> int:
    """The least known b with all values between -2**b and 2**b - 1, of integers."""
    if node.dtype.kind == "i":
        return min(8 * node.dtype.itemsize - 1, _bits_of(node, depth))
    return 8 * node.dtype.itemsize if node.dtype.kind in "bu" else 64


def _bits_of(node: Node, depth: int = 6) -> int:
    """The same of the operator's result, if it had room for it."""
    if node.op.name == "const":
        values = node.attrs["value"].value.ravel().tolist()
        return max([max(v, ~v).bit_length() for v in values], default=0)
    if node.op.name not in _GROWTH or not depth:
        return 64
    return _GROWTH[node.op.name](*[_bits(i, depth - 1) for i in node.inputs])


_GROWTH: dict[str, Callable[..., int]] = {
    "add": lambda a, b: max(a, b) + 1, "subtract": lambda a, b: max(a, b) + 1,
    "multiply": lambda a, b: a + b + 1, "negative": lambda a: a + 1, "absolute": lambda a: a + 1,
    "remainder": lambda a, b: b, "cast": lambda a: a, "check": lambda a, holds: a,
}  # fmt: skip
_GROWING = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "pow": np.power, "neg": np.negative,
    "abs": np.abs,
}  # fmt: skip
_COMPARISONS = ("lt", "le", "gt", "ge", "eq", "ne")


def _direct(ufunc: np.ufunc, plain: Any, swaps: bool) -> Callable[..., Any]:
    """The operator, where NumPy would only hand the ufunc on to us; it has its costs."""

    def method(self: Tracer, other: Any) -> Any:
        if type(other) not in _OURS:
            return plain(self, other)
        return elementwise(self._session, ufunc, (other, self) if swaps else (self, other))

    return method


def _power(plain: Any, swaps: bool) -> Callable[..., Any]:
    """``x ** y``; of two numbers it is C's ``pow``, and inf for the infinite ``x ** 0.5``."""

    def method(self: Tracer, other: Any) -> Any:
        if not (self._scalar and isinstance(other, (*NUMBERS, np.generic))):
            return plain(self, other)
        pair = (other, self) if swaps else (self, other)
        return elementwise(self._session, np.power, pair, roots=False)

    return method


_OURS = (Tracer, PyScalar, float, int)
_UFUNCS = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "truediv": np.true_divide,
    "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal,
}  # fmt: skip
_OF_BOOLS = ("and", "or", "xor", *_COMPARISONS)
_QUOTIENTS = ("truediv", "floordiv", "mod")


for _name in ["add", "sub", "mul", "pow", *_QUOTIENTS, "lshift", "rshift", "and", "or", "xor"]:
    for _side in (f"__{_name}__", f"__r{_name}__"):
        setattr(Tracer, _side, _python_operator(_side))
for _name in ["neg", "pos", "abs", "invert", *_COMPARISONS]:
    setattr(Tracer, f"__{_name}__", _python_operator(f"__{_name}__"))


def _divmod(first: Any, second: Any) -> Any:
    """As two operators where Python's own is meant."""
    if weak_type(first) and weak_type(second):
        return first // second, first % second
    return np.divmod(first, second)


Tracer.__divmod__ = _divmod  # type: ignore[method-assign]
Tracer.__rdivmod__ = lambda self, other: _divmod(other, self)  # type: ignore[method-assign]
