"""A loop: a graph that runs again and again on what its last rounds gave."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from fusec.ir.aval import Aval
from fusec.ir.graph import Graph, evaluate
from fusec.ops.registry import COSTLY, Op, register

Part = tuple[slice, ...]
"""A part of an array, as an index."""


class Read(NamedTuple):
    """Where a param of a round comes from: an array of the loop's, or in each round a part of it
    (parts) or another one (each), or a number that is known (stream: one for each round)."""

    array: int = -1
    parts: tuple[Part, ...] = ()
    each: tuple[int, ...] = ()
    stream: np.ndarray | None = None

    def value(self, arrays: Sequence[Any], turn: int) -> Any:
        """What the param is in a round."""
        if self.stream is not None:
            return self.stream[turn, ...]
        if self.each:
            return arrays[self.each[turn]]
        return arrays[self.array][self.parts[turn]] if self.parts else arrays[self.array]


class Store(NamedTuple):
    """An output of a round that is stored in a part of an array, another one in each round."""

    output: int
    array: int
    parts: tuple[Part, ...]


@dataclass(frozen=True, eq=False)
class Loop:
    """What a loop does with its arrays, which are the inputs of its node first.

    body: one round. rounds: how often it runs, at least once. reads: one for each param of the
    body. carried: for each output of the body, the arrays that are its values of one, two, ...
    rounds ago. stores: see there; they happen after a round, in this order. results: what the loop
    gives: ("output", number) of the last round, or ("array", number) as it is then.
    """

    body: Graph
    rounds: int
    reads: tuple[Read, ...]
    carried: tuple[tuple[int, ...], ...]
    stores: tuple[Store, ...]
    results: tuple[tuple[str, int], ...]

    def __repr__(self) -> str:
        return f"{self.rounds} rounds"

    @cached_property
    def moving(self) -> frozenset[int]:
        """The arrays that change."""
        carried = [k for arrays in self.carried for k in arrays]
        return frozenset([*carried, *[s.array for s in self.stores]])

    def params(self, arrays: Sequence[Any], turn: int) -> list[Any]:
        """The params of a round."""
        return [read.value(arrays, turn) for read in self.reads]

    def turn(self, arrays: list[Any], given: Sequence[Any], turn: int) -> None:
        """Put what a round has given in its place for the next one."""
        for store in self.stores:
            part = arrays[store.array][store.parts[turn]]
            part[...] = np.reshape(given[store.output], part.shape)
        for value, olds in zip(given, self.carried):
            for newer, older in reversed([*pairwise(olds)]):
                arrays[older] = arrays[newer]
            for newest in olds[:1]:
                arrays[newest] = value

    def last(self, arrays: Sequence[Any], given: Sequence[Any]) -> tuple[Any, ...]:
        """The results, after the last round."""
        return tuple([(given if kind == "output" else arrays)[k] for kind, k in self.results])


def in_place(loop: Loop, shapes: Sequence[tuple[int, ...]]) -> dict[int, Store]:
    """The outputs that a round can compute where they are stored, which no part that it reads or
    stores meets, unless it reads this very part (see ``old_part``). shapes: of the arrays. One
    that the next round reads lies in one piece there."""
    found = {}
    for store in loop.stores:
        old, olds = old_part(loop.reads, store), loop.carried[store.output]
        others = [
            (store.parts, r.parts)
            for k, r in enumerate(loop.reads)
            if r.array == store.array and (k != old or olds)
        ]
        for s in loop.stores:
            if s.array == store.array:
                others += [(store.parts, s.parts)] * (s is not store)
                others += [(store.parts[1:], s.parts[:-1])] * bool(loop.carried[s.output])
        alone = all(theirs and apart(mine, theirs) for mine, theirs in others)
        part, shape = store.parts[0], loop.body.outputs[store.output].shape
        alike = not olds and shape == tuple(map(length, part))
        alike = alike or (len(olds) < 2 and _in_one_piece(part, shapes[store.array]))
        if alone and alike and store.output not in found:
            found[store.output] = store
    return found


def old_part(reads: Sequence[Read], store: Store) -> int | None:
    """The number of the read of the part that a store changes."""
    same = [k for k, r in enumerate(reads) if (r.array, r.parts) == (store.array, store.parts)]
    return same[0] if same else None


def apart(first: Sequence[Part], second: Sequence[Part]) -> bool:
    """Whether two parts of an array have no element in common in any round."""
    away = np.zeros(len(first), bool)
    for one, other in zip(zip(*first), zip(*second)):
        (low, high), (start, stop) = _reach(one), _reach(other)
        away |= (high < start) | (stop < low)
    return bool(away.all())


def _reach(slices: Sequence[slice]) -> tuple[np.ndarray, np.ndarray]:
    """The lowest and the highest place along one axis, in each round."""
    starts = np.array([s.start for s in slices])
    ends = starts + (length(slices[0]) - 1) * slices[0].step
    return np.minimum(starts, ends), np.maximum(starts, ends)


def length(s: slice) -> int:
    """How many elements a slice with known ends has."""
    return len(range(s.start, -1 if s.stop is None else s.stop, s.step))


def _in_one_piece(part: Part, shape: Sequence[int]) -> bool:
    """Whether a part of an array in C order lies there without gaps, in C order."""
    sizes, inner = [length(s) for s in part], True
    for s, size, n in zip(reversed(part), reversed(sizes), reversed(shape)):
        if size > 1 and (not inner or s.step != 1):
            return False
        inner = inner and size == n
    return True


def _run(*inputs: Any, loop: Loop) -> tuple[Any, ...]:
    arrays = [np.array(a) if k in loop.moving else a for k, a in enumerate(inputs)]
    given: list[Any] = []
    for turn in range(loop.rounds):
        given = evaluate(loop.body, loop.params(arrays, turn))
        loop.turn(arrays, given, turn)
    return loop.last(arrays, given)


loop = register(
    Op(
        name="loop",
        family="host",
        impl=_run,
        infer_aval=lambda *avals, loop: Aval((len(loop.results),), np.dtype("V")),
        cost=COSTLY,
    )
)
