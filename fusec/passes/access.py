"""Index expressions, and where a movement op reads from.

An ``Index`` is ``const + sum(coefficient * atom)``, its atoms loop variables (strings) or the
quotient and remainder of another index. ``source_index`` takes one movement op and the index of an
element of its result, and says which element of its input that is. Whole chains become strides.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np

from fusec.ir.graph import Node

Extents = Mapping[str, int]


@dataclass(frozen=True)
class Quotient:
    """``value // divisor``, for a value that is never negative."""

    value: "Index"
    divisor: int


@dataclass(frozen=True)
class Remainder:
    """``value % divisor``, for a value that is never negative."""

    value: "Index"
    divisor: int


@dataclass(frozen=True)
class Data:
    """The value of an integer node at an index: not negative, less than ``extent``."""

    node: Node
    idx: "tuple[Index, ...]"
    extent: int


Atom: TypeAlias = "str | Quotient | Remainder | Data"


class Index(NamedTuple):
    """``const + sum(coefficient * atom)``; terms are sorted, so equal indices compare equal."""

    terms: tuple[tuple[Atom, int], ...] = ()
    const: int = 0

    def plus(self, other: "Index", factor: int = 1) -> "Index":
        if not other.terms:
            return Index(self.terms, self.const + other.const * factor)
        terms = dict(self.terms)
        for atom, c in other.terms:
            terms[atom] = terms.get(atom, 0) + c * factor
        return make(terms, self.const + other.const * factor)

    def times(self, factor: int) -> "Index":
        if factor == 1:
            return self
        return make({a: c * factor for a, c in self.terms}, self.const * factor)

    def variables(self) -> set[str]:
        found: set[str] = set()
        for atom, _ in self.terms:
            if isinstance(atom, str):
                found.add(atom)
            elif isinstance(atom, Data):
                found.update(*[i.variables() for i in atom.idx])
            else:
                found |= atom.value.variables()
        return found

    def data(self) -> "list[Data]":
        """The values of nodes that it depends on."""
        found: list[Data] = []
        for atom, _ in self.terms:
            if isinstance(atom, Data):
                found.append(atom)
            elif not isinstance(atom, str):
                found += atom.value.data()
        return found


ZERO = Index()


def make(terms: Mapping[Atom, int], const: int) -> Index:
    kept = [(a, c) for a, c in terms.items() if c]
    kept.sort(key=lambda t: (not isinstance(t[0], str), _order(t[0])))
    return Index(tuple(kept), const)


def _order(atom: Atom) -> str:
    return f"data{id(atom.node)}{atom.idx}" if isinstance(atom, Data) else str(atom)


def var(name: str) -> Index:
    return Index(((name, 1),))


def bounds(index: Index, extents: Extents) -> tuple[int, int]:
    """Smallest and largest value over the loop variables' ranges."""
    low = high = index.const
    for atom, c in index.terms:
        top = (
            extents[atom] - 1
            if isinstance(atom, str)
            else atom.extent - 1
            if isinstance(atom, Data)
            else atom.divisor - 1
            if isinstance(atom, Remainder)
            else bounds(atom.value, extents)[1] // atom.divisor
        )
        low += min(0, c * top)
        high += max(0, c * top)
    return low, high


def divide(index: Index, n: int, extents: Extents) -> tuple[Index, Index]:
    """``index // n`` and ``index % n``, without a division where the terms allow it."""
    if n == 1:
        return index, ZERO
    even = make({a: c // n for a, c in index.terms if c % n == 0}, index.const // n)
    rest = make({a: c for a, c in index.terms if c % n}, index.const % n)
    low, high = bounds(rest, extents)
    if low >= 0 and high < n:
        return even, rest
    return Index(((Quotient(index, n), 1),)), Index(((Remainder(index, n), 1),))


def rejoin(index: Index) -> Index:
    """Put ``(e // n) * n * c + (e % n) * c`` together again as ``e * c``."""
    terms = dict(index.terms)
    for atom in list(terms):
        if isinstance(atom, Remainder) and atom in terms:
            whole = Quotient(atom.value, atom.divisor)
            c = terms[atom]
            if terms.get(whole) == c * atom.divisor:
                del terms[atom], terms[whole]
                return rejoin(make(terms, index.const).plus(atom.value, c))
    return index


def flatten(idx: tuple[Index, ...], shape: tuple[int, ...]) -> Index:
    """The C-order position of an element."""
    flat, stride = ZERO, 1
    for i, n in zip(reversed(idx), reversed(shape)):
        flat, stride = flat.plus(i, stride), stride * n
    return rejoin(flat)


def unflatten(flat: Index, shape: tuple[int, ...], extents: Extents) -> tuple[Index, ...]:
    found: list[Index] = []
    for n in reversed(shape[1:]):
        flat, rest = divide(flat, n, extents)
        found.append(rest if n != 1 else ZERO)
    found.append(flat if shape[0] != 1 else ZERO)
    return tuple(reversed(found))


def reshape_index(
    idx: tuple[Index, ...], new: tuple[int, ...], old: tuple[int, ...], extents: Extents
) -> tuple[Index, ...]:
    """The element of ``old`` that stands at ``idx`` of ``new``; axes of equal size stay apart."""
    if 0 in old:
        return (ZERO,) * len(old)  # there is nothing to read
    found: list[Index] = []
    i = j = 0
    while i < len(old):
        if old[i] == 1:
            found.append(ZERO)
            i += 1
            continue
        while new[j] == 1:
            j += 1
        i0, j0, have, want = i, j, old[i], new[j]
        i, j = i + 1, j + 1
        while have != want:
            if have < want:
                have, i = have * old[i], i + 1
            else:
                want, j = want * new[j], j + 1
        found += unflatten(flatten(idx[j0:j], new[j0:j]), old[i0:i], extents)
    return tuple(found)


MOVES = frozenset({"slice", "transpose", "reshape", "broadcast_to", "diagonal", "windows"})


def source_index(node: Node, idx: tuple[Index, ...], extents: Extents) -> tuple[Index, ...]:
    """The element of ``node``'s input that ``node`` has at ``idx``."""
    name, attrs, shape = node.op.name, node.attrs, node.inputs[0].shape
    if name == "transpose":
        found = [ZERO] * len(shape)
        for axis, p in enumerate(attrs["perm"]):
            found[p] = idx[axis]
    elif name == "slice":
        found = [
            i.times(s).plus(Index((), b)) for i, s, b in zip(idx, attrs["step"], attrs["start"])
        ]
    elif name == "diagonal":
        found = [*idx, idx[-1]]
    elif name == "windows":
        found = list(idx[: len(shape)])
        for axis, i in zip(attrs["axes"], idx[len(shape) :]):
            found[axis] = found[axis].plus(i)
    elif name == "broadcast_to":
        return broadcast_index(idx, shape)
    else:
        return reshape_index(idx, node.shape, shape, extents)
    return tuple([i if n != 1 or i.const else ZERO for i, n in zip(found, shape)])


def keeps(dtype: np.dtype, index: Index, extents: Extents) -> bool:
    """Whether an integer dtype holds every value of ``index``."""
    low, high = bounds(index, extents)
    return dtype.kind in "iu" and low >= np.iinfo(dtype).min and high <= np.iinfo(dtype).max


def broadcast_index(idx: tuple[Index, ...], shape: tuple[int, ...]) -> tuple[Index, ...]:
    """The element of an operand of ``shape`` that meets ``idx`` under broadcasting."""
    tail = idx[len(idx) - len(shape) :] if shape else ()
    return tuple([ZERO if n == 1 else i for i, n in zip(tail, shape)])


def index_value(node: Node, idx: tuple[Index, ...], n: int, extents: Extents) -> Index:
    """An integer node at ``idx``, used as an index of an axis of length ``n``.

    Loop variables, constants and what is computed from them stay symbolic; all else is ``Data``.
    """
    found = _symbolic(node, idx, extents)
    return Index(((Data(node, idx, n), 1),)) if found is None else found


def _symbolic(node: Node, idx: tuple[Index, ...], extents: Extents) -> Index | None:
    name = node.op.name
    if name == "iota":
        return idx[int(node.attrs["axis"])]
    if name == "dim":
        return Index((), int(node.attrs["value"]))
    if name == "const" and node.aval.size == 1:
        return Index((), int(node.attrs["value"].value.reshape(())))
    if name in MOVES:
        return _symbolic(node.inputs[0], source_index(node, idx, extents), extents)
    if name == "cast" and node.inputs[0].dtype.kind in "iu":
        inner = _symbolic(node.inputs[0], idx, extents)
        return inner if inner is not None and keeps(node.dtype, inner, extents) else None
    if name == "wrap_index":
        inner = _symbolic(node.inputs[0], broadcast_index(idx, node.inputs[0].shape), extents)
        size = _symbolic(node.inputs[1], (), extents)
        if inner is not None and size is not None:
            low, high = bounds(inner, extents)
            if low >= 0 and high < size.const:
                return inner
    return None
