"""The kernel IR: scalar lines with what they depend on, before any loop is written.

``lower`` evaluates a group symbolically into a ``Body``: lines in single-assignment form, loads and
stores with index expressions, folds (reductions) and scans. ``schedule`` decides which loops there
are and which line stands in which of them; the emitters print that.
"""

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from fusec.ir.graph import Loc, Node
from fusec.passes.access import ZERO, Data, Extents, Index, bounds, make, rejoin

TURN = "turn"
"""The loop variable that counts the rounds of a recurrence, in which each waits for the last."""
BLOCK = 256
"""Elements of one fold; the order of every reduction depends on it."""
LANES = 32
"""Partial results of a block."""


@dataclass(eq=False)
class Line:
    """One scalar value of a kernel.

    kind: "op", "load", "index" (an index expression as int64), "fold" (the result of a
    reduction), "scan", "branch" (one of two blocks by a condition) or "size" (an int argument).
    text: expression with ``{0} {1}`` for ``args``; variables: the loop variables it depends on;
    stage: the number of folds that have to be finished before; cost: additions to compute it
    again from its arguments; dtype: of the value.
    """

    name: str
    kind: str
    dtype: np.dtype
    text: str = ""
    args: tuple["Line", ...] = ()
    variables: frozenset[str] = frozenset()
    stage: int = 0
    cost: int = 0
    index: Index | None = None
    buffer: "Buffer | None" = None
    data: dict[Data, "Line"] = field(default_factory=dict)  # values that its index depends on
    guard: list["Bound"] = field(default_factory=list)
    blocks: "tuple[Block, Block] | None" = None
    effect: bool = False  # sets the error status instead of giving a value


@dataclass(eq=False)
class Block:
    """The lines of one side of a branch, and the line that is its value."""

    lines: list[Line]
    value: Line


@dataclass(frozen=True)
class Bound:
    """``low <= index < high`` and, for a step other than 1, a multiple of the step."""

    index: Index
    low: int | None
    high: int | None
    step: int = 1


@dataclass(eq=False)
class Buffer:
    """Memory that a kernel reads or writes: a node's value, or scratch.

    strides: in elements, one an axis; role: "in", "out", "partial" or "scratch". near: what is
    stored there is read again soon.
    """

    name: str
    dtype: np.dtype
    strides: tuple[int, ...]
    role: str
    node: Node | None = None
    near: bool = False


class Place(NamedTuple):
    """Where a value lies in memory: that of ``node``, from element ``offset`` on.

    turn: how much further on in each round of a recurrence.
    """

    node: Node
    strides: tuple[int, ...]
    offset: int = 0
    turn: int = 0

    def at(self, idx: tuple[Index, ...]) -> Index:
        further = make({TURN: self.turn} if self.turn else {}, self.offset)
        return offset(idx, self.strides).plus(further)


@dataclass(eq=False)
class Store:
    """``buffer[index] = value``; ``adds``: ``buffer[index] += value``.

    before: it happens before the first round of a recurrence, not in each of them. inside: it is in
    a part of an argument, whose old elements the kernel may read.
    """

    buffer: Buffer
    index: Index
    value: Line
    data: dict[Data, Line] = field(default_factory=dict)  # values that its index depends on
    adds: bool = False
    before: bool = False
    inside: bool = False


@dataclass(eq=False)
class Fold:
    """A reduction of ``value`` over the variables ``axes``; ``result`` is its line."""

    op: str
    value: Line
    result: Line
    identity: str
    axes: frozenset[str]


def ordered(fold: Fold) -> bool:
    """Whether the order of the reduction shows in its bits."""
    return fold.op in ("sum", "prod") and fold.value.dtype.kind in "fc"


@dataclass(eq=False)
class Body:
    """All that a group computes, without loops. short: variables that are to be written out.

    first: what is stored before the additions of a scatter.
    """

    extents: dict[str, int]
    reduced: tuple[str, ...]
    lines: list[Line]
    stores: list[Store]
    folds: list[Fold]
    title: str = ""
    notes: list[tuple[str, Loc | None]] = field(default_factory=list)
    short: tuple[str, ...] = ()
    first: "Body | None" = None


def offset(idx: tuple[Index, ...], strides: tuple[int, ...]) -> Index:
    total = ZERO
    for i, s in zip(idx, strides):
        total = total.plus(i, s)
    return rejoin(total)


def closure(targets: list[Line], stop: set[Line]) -> set[Line]:
    """What has to be computed for ``targets``; lines in ``stop`` are known already."""
    found: set[Line] = set()
    stack = [t for t in targets if t not in stop]
    while stack:
        line = stack.pop()
        if line in found:
            continue
        found.add(line)
        stack += [a for a in operands(line) if a not in stop]
    return found


def operands(line: Line) -> list[Line]:
    """The lines that ``line`` reads; those of a branch with all that stands on its sides."""
    sides = [x for b in line.blocks or () for x in (*b.lines, b.value)]
    return [*line.args, *[a for x in sides for a in (*x.args, x)]]


def simplified(bound: Bound, index: Index, extents: Extents) -> Bound:
    """A bound of ``index``, without a step or a limit that always holds; of 0 if all of it does.

    >>> simplified(Bound(ZERO, 0, 7, 2), Index((("i0", 2),), 0), {"i0": 5})
    Bound(index=Index(terms=(('i0', 1),), const=0), low=None, high=4, step=1)
    """
    low, high = bound.low, bound.high
    common = math.gcd(bound.step, *[c for _, c in index.terms])
    if index.const % common:
        return Bound(ZERO, 1, None)  # never
    step = bound.step // common
    if common > 1:
        index = make({a: c // common for a, c in index.terms}, index.const // common)
        low, high = [None if x is None else -(-x // common) for x in (low, high)]
    if step == 1 and index.terms:
        each = math.gcd(*[c for _, c in index.terms])
        low, high = [None if x is None else -((index.const - x) // each) for x in (low, high)]
        index = make({a: c // each for a, c in index.terms}, 0)
    least, most = bounds(index, extents)
    most -= most % step
    if (low is not None and most < low) or (high is not None and least >= high):
        return Bound(ZERO, 1, None)
    low = None if low is None or least >= low else low
    high = None if high is None or most < high else high
    always = low is None and high is None and step == 1
    return Bound(ZERO if always else index, low, high, step)


def decided(guard: list[Bound]) -> int | None:
    """The side that a branch takes, where its places are all known or one says no."""
    known = [b for b in guard if not b.index.terms]
    inside = [
        (b.low is None or b.index.const >= b.low)
        and (b.high is None or b.index.const < b.high)
        and b.index.const % b.step == 0
        for b in known
    ]
    if not all(inside):
        return 1
    return 0 if len(known) == len(guard) else None
