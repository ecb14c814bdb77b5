"""Python numbers in a trace: run-time values with Python's own arithmetic.

A Python argument ``lr`` is a ``PyScalar``: it knows the value of this call, how to compute it at
the next one, and meets arrays as NumPy's weak scalars do. When Python needs its value (``if``,
``range``), the value is used and guarded: another value traces again. A number that comes from
shapes alone is ``sized``: it belongs to the signature and needs no guard, but it stays an argument
of the kernels, so that a new length compiles nothing.
"""

import math
import operator
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

MOST = 64  # operations of a recipe, each use of a number with all its own; then it is guarded

Recipe = tuple[Any, ...]
"""``("arg", leaf)``, ``("lit", value, text)`` or ``(function, recipe, ...)``, done at each call."""


def compute(recipe: Recipe, leaves: Sequence[Any]) -> Any:
    """The value of a recipe for the flat arguments ``leaves``."""
    head = recipe[0]
    if head == "arg":
        return leaves[recipe[1]]
    if head == "lit":
        return recipe[1]
    return head(*[compute(r, leaves) for r in recipe[1:]])


class PyScalar:
    """A Python int, float, complex or bool of this call, as a traced function sees it."""

    __slots__ = ("_recipe", "_session", "_size", "_value")
    __array_priority__ = 1000

    def __init__(self, value: Any, recipe: Recipe, session: Any, size: int = 1) -> None:
        self._value = value
        self._recipe = recipe
        self._session = session
        self._size = size

    @property
    def __class__(self) -> type:  # type: ignore[override]
        return type(self._value)

    def _concrete(self) -> Any:
        """The value, from now on a guard of this trace."""
        if self._recipe[0] != "lit":
            self._session.guard_scalar(self._recipe, self._value)
        return self._value

    def _known(self) -> Recipe:
        """The recipe; of a value that is guarded anyway the value itself."""
        guarded = self._recipe in self._session.scalar_guards
        return _literal(self._value) if guarded else self._recipe

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        return self._session.ufunc(ufunc, method, inputs, kwargs)

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        return self._session.function(func, args, kwargs)

    def __array__(self, *args: Any, **kwargs: Any) -> np.ndarray:
        return np.asarray(self._concrete())

    def __bool__(self) -> bool:
        return bool(self._concrete())

    def __index__(self) -> int:
        return operator.index(self._concrete())

    def __int__(self) -> int:
        return int(self._concrete())

    def __float__(self) -> float:
        return float(self._concrete())

    def __complex__(self) -> complex:
        return complex(self._concrete())

    def __hash__(self) -> int:
        return hash(self._concrete())

    def __repr__(self) -> str:
        return repr(self._concrete())

    def __format__(self, spec: str) -> str:
        return format(self._concrete(), spec)

    def __copy__(self, memo: Any = None) -> "PyScalar":
        return self

    __deepcopy__ = __copy__

    def __getattr__(self, name: str) -> Any:
        return getattr(self._concrete(), name)


NUMBERS = (bool, int, float, complex)


def sized(value: Any, session: Any) -> Any:
    """A number that follows from the shapes of the arguments (see the module)."""
    return value if type(value) is bool else PyScalar(value, _literal(value), session)


def _literal(value: Any) -> Recipe:
    """The text keeps 2, 2.0 and True apart, and the zeros."""
    return ("lit", value, repr(value))


def is_sized(value: Any) -> bool:
    return type(value) is PyScalar and value._recipe[0] == "lit"


def py_apply(function: Callable[..., Any], session: Any, *operands: Any) -> Any:
    """``function`` on Python scalars, some of them traced: computed now and at each later call."""
    values = [o._value if type(o) is PyScalar else o for o in operands]
    size = 1 + sum([o._size for o in operands if type(o) is PyScalar])
    if size > MOST:
        for operand in operands:
            if type(operand) is PyScalar:
                operand._concrete()
    recipes = [o._known() if type(o) is PyScalar else _literal(o) for o in operands]
    value = function(*values)
    if type(value) is tuple:  # divmod, math.frexp
        nth = [partial(_item, function, k) for k in range(len(value))]
        return tuple([py_apply(part, session, *operands) for part in nth])
    if type(value) not in NUMBERS:
        for operand in operands:
            if type(operand) is PyScalar:
                operand._concrete()
        return value
    if all(r[0] == "lit" for r in recipes):
        return sized(value, session)
    if function is operator.pow and _may_turn(values, recipes):
        function = _POWERS[type(value)]
    return PyScalar(value, (function, *recipes), session, size)


def _may_turn(values: Sequence[Any], recipes: Sequence[Recipe]) -> bool:
    """Whether a power may be of another type: complex of negative floats, float of 2 ** -1. For
    arrays it has to stay what it is; where it does not NumPy runs."""
    base, exponent = [v if r[0] == "lit" else -1 for v, r in zip(values, recipes)]
    if type(values[1]) is float:
        return base < 0 and type(values[0]) is not complex
    return type(values[0]) is int and exponent < 0


def _power(kind: type) -> Callable[..., Any]:
    def power(base: Any, exponent: Any) -> Any:
        value = base**exponent
        if type(value) is not kind:
            raise OverflowError(f"{base!r} ** {exponent!r} is no {kind.__name__}")
        return value

    return power


_POWERS = {kind: _power(kind) for kind in (int, float, complex)}


def returned(recipe: Recipe) -> Recipe:
    """The recipe of a result, which may be of any type."""
    if recipe[0] in ("arg", "lit"):
        return recipe
    head = operator.pow if recipe[0] in _POWERS.values() else recipe[0]
    return (head, *map(returned, recipe[1:]))


def type_of(value: Any) -> type:
    """Its type as Python sees it, which is guarded where another call may give another one."""
    if type(value) is PyScalar:
        recipe = returned(value._recipe)
        if recipe != value._recipe:
            value._session.guard_scalar((_type_name, recipe), _type_name(value._value))
    return value.__class__  # type: ignore[no-any-return]


def is_instance(value: Any, classes: Any) -> bool:
    type_of(value)
    return isinstance(value, classes)


def _type_name(value: Any) -> str:
    return type(value).__name__


def _item(function: Callable[..., Any], k: int, *operands: Any) -> Any:
    return function(*operands)[k]


def _binary(function: Callable[..., Any], swap: bool = False) -> Callable[..., Any]:
    def method(self: PyScalar, other: Any) -> Any:
        if type(other) is not PyScalar and type(other) not in NUMBERS:
            return NotImplemented
        pair = (other, self) if swap else (self, other)
        return py_apply(function, self._session, *pair)

    return method


def _unary(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self: py_apply(function, self._session, self)


for _name in ("add", "sub", "mul", "floordiv", "mod", "truediv", "pow", "divmod"):
    _f = getattr(operator, _name, divmod)
    setattr(PyScalar, f"__{_name}__", _binary(_f))
    setattr(PyScalar, f"__r{_name}__", _binary(_f, swap=True))
for _name in ("lt", "le", "gt", "ge", "eq", "ne", "and_", "or_", "xor", "lshift", "rshift"):
    _f = getattr(operator, _name)
    setattr(PyScalar, f"__{_name.strip('_')}__", _binary(_f))
    if _name in ("and_", "or_", "xor", "lshift", "rshift"):
        setattr(PyScalar, f"__r{_name.strip('_')}__", _binary(_f, swap=True))
for _name in ("neg", "pos", "abs", "invert"):
    setattr(PyScalar, f"__{_name}__", _unary(getattr(operator, _name)))
for _name in ("floor", "ceil", "trunc"):
    setattr(PyScalar, f"__{_name}__", _unary(getattr(math, _name)))
PyScalar.__hash__ = lambda self: hash(self._concrete())  # type: ignore[method-assign]
