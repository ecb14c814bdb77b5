"""Python numbers of traced values: what ``float(x)``, ``x.item()`` or ``math.sqrt(x)`` give.

They are weak among arrays (``float32_array * float(x)`` is float32), and operators between them
are Python's: they give Python numbers and raise where Python does, by a check that hands the call
to NumPy.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from fusec.ir.aval import kind_of
from fusec.trace.hostcalls import host_call
from fusec.trace.scalars import NUMBERS, PyScalar
from fusec.trace.tracer import Tracer, as_tracer, fresh
from fusec.trace.ufuncs import elementwise

_WIDE = {"b": "?", "i": "i8", "u": "u8", "f": "f8", "c": "c16"}


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
    return to_python(chosen, _WIDE[kind_of(x.dtype)])


def rounded(x: Tracer, digits: Any) -> Any:
    """``round(x, digits)``: of decimal digits where ``x`` is a Python number."""
    if not x._storage.item:
        return np.round(x, digits)
    return python_number(host_call(x._session, round, (x, digits), {}))


def to_python(x: Tracer, dtype: Any) -> Tracer:
    return python_number(x.reshape(()).astype(dtype))


def _is_python(value: Any) -> bool:
    return type(value) in (PyScalar, *NUMBERS) or (type(value) is Tracer and value._storage.item)


def _python_operator(name: str) -> Callable[..., Any]:
    """An operator that gives Python numbers for Python numbers, and raises as Python does."""
    bare, repeats, plain = name.strip("_"), name.endswith("mul__"), getattr(Tracer, name)
    if bare.removeprefix("r") in _UFUNCS:
        plain = _direct(_UFUNCS[bare.removeprefix("r")], plain, bare not in _UFUNCS)

    def method(self: Tracer, *others: Any) -> Any:
        if repeats and self._scalar and isinstance(others[0], list | tuple):
            kinds = "iub" if self._storage.item else "iu"
            whole, real = self.dtype.kind in kinds, self.dtype.kind in "fc"
            if whole or real:  # NumPy's numbers repeat lists, as Python's do; floats raise
                return (self.__index__() if whole else self.__class__(1)) * others[0]
        number = self._storage.item and all(map(_is_python, others))
        if number and self.dtype.kind == "b" and bare not in _OF_BOOLS:
            return getattr(to_python(self, np.int64), name)(*others)
        result = plain(self, *others)
        if not number or type(result) is not Tracer:
            return result
        node = result.node
        if bare in _QUOTIENTS:
            divisor = self if name[2] == "r" else others[0]
            fits = np.not_equal(as_tracer(self._session, divisor), 0)
            node = self._session.make("check", node, fits.node)
        elif name in ("__pow__", "__rpow__"):
            fits = np.isfinite(result) | ~np.isfinite(self + others[0])
            node = self._session.make("check", node, fits.node)
        elif bare in ("lshift", "rlshift"):
            bits = self if name[2] == "r" else others[0]
            back = result >> bits == (others[0] if name[2] == "r" else self)
            node = self._session.make("check", node, as_tracer(self._session, back).node)
        return python_number(fresh(self._session, node, scalar=True))

    return method


def _direct(ufunc: np.ufunc, plain: Any, swaps: bool) -> Callable[..., Any]:
    """The operator, where NumPy would only hand the ufunc on to us; it has its costs."""

    def method(self: Tracer, other: Any) -> Any:
        if type(other) not in _OURS:
            return plain(self, other)
        return elementwise(self._session, ufunc, (other, self) if swaps else (self, other))

    return method


_OURS = (Tracer, PyScalar, float, int)
_UFUNCS = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "truediv": np.true_divide,
    "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal,
}  # fmt: skip
_OF_BOOLS = ("and", "rand", "or", "ror", "xor", "rxor", "lt", "le", "gt", "ge", "eq", "ne")
_QUOTIENTS = ("truediv", "floordiv", "mod", "rtruediv", "rfloordiv", "rmod")


for _name in ["add", "sub", "mul", "pow", *_QUOTIENTS[:3], "lshift", "rshift", "and", "or", "xor"]:
    for _side in (f"__{_name}__", f"__r{_name}__"):
        setattr(Tracer, _side, _python_operator(_side))
for _name in ["neg", "pos", "abs", "invert", "lt", "le", "gt", "ge", "eq", "ne"]:
    setattr(Tracer, f"__{_name}__", _python_operator(f"__{_name}__"))


def _divmod(self: Tracer, other: Any) -> Any:
    """As two operators where Python's own is meant."""
    if self._storage.item and _is_python(other):
        return self // other, self % other
    return np.divmod(self, other)


Tracer.__divmod__ = _divmod  # type: ignore[method-assign]
