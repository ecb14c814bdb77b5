"""A loop: a graph that runs again and again on what its last rounds gave."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from fusec.ir.aval import Aval
from fusec.ir.graph import Graph, evaluate
from fusec.ops.registry import COSTLY, Op, register
from fusec.ops.shape import c_strides, index_of

Shape = tuple[int, ...]


class Part(NamedTuple):
    """A part of an array, another one in each round. starts: where it begins, rounds x axes."""

    starts: np.ndarray
    step: Shape
    shape: Shape

    def at(self, turn: int) -> tuple[slice, ...]:
        """The part of one round, as an index."""
        return index_of(self.starts[turn].tolist(), self.step, self.shape)

    def strides(self, shape: Shape, itemsize: int) -> Shape:
        """Its strides in an array in C order."""
        return tuple([s * n for s, n in zip(self.step, c_strides(shape, itemsize))])

    def offsets(self, shape: Shape, itemsize: int) -> np.ndarray:
        """How many bytes lie before it in an array in C order, in each round."""
        found: np.ndarray = self.starts @ c_strides(shape, itemsize)
        return found

    def same(self, other: "Part | None") -> bool:
        """Whether the other is the same part in all rounds."""
        alike = other is not None and self[1:] == other[1:]
        return alike and np.array_equal(self.starts, other.starts)  # type: ignore[union-attr]

    def apart(self, other: "Part") -> bool:
        """Whether no round has an element in both; at worst not said of some where that is so."""
        (low, high), (least, most) = self._reach(), other._reach()
        steps, theirs = np.abs(self.step), np.abs(other.step)
        between = (steps == theirs) & ((self.starts - other.starts) % steps != 0)
        return bool(((high < least) | (most < low) | between).any(axis=1).all())

    def _reach(self) -> tuple[np.ndarray, np.ndarray]:
        """The lowest and the highest place along each axis, in each round."""
        ends = self.starts + (np.array(self.shape, int) - 1) * self.step
        return np.minimum(self.starts, ends), np.maximum(self.starts, ends)


class Read(NamedTuple):
    """Where a param of a round comes from: an array of the loop's, or in each round a part of it
    (part) or another one (each), or a number that is known (stream: one for each round)."""

    array: int = -1
    part: Part | None = None
    each: tuple[int, ...] = ()
    stream: np.ndarray | None = None

    def value(self, arrays: Sequence[Any], turn: int) -> Any:
        """What the param is in a round."""
        if self.stream is not None:
            return self.stream[turn, ...]
        if self.each:
            return arrays[self.each[turn]]
        return arrays[self.array][self.part.at(turn)] if self.part else arrays[self.array]


class Store(NamedTuple):
    """An output of a round that is stored in a part of an array."""

    output: int
    array: int
    part: Part


class Until(NamedTuple):
    """What ends a loop early: an output of a round that is a single boolean, where it is not
    ``going``. most: the number of the loop's array that says how many rounds there are at most.
    each: the outputs that are looked at one after the other, each with what it is where it goes on.
    """

    output: int
    going: bool
    most: int
    each: tuple[tuple[int, bool], ...]

    def looks(self, rounds: int, found: Any) -> int:
        """How many values have been looked at in so many rounds, less than 0 where none has ended
        the loop. found: the outputs of the last round, by number."""
        differs = [bool(found[n]) is not going for n, going in self.each]
        if True not in differs:
            return -rounds * len(differs)
        return (rounds - 1) * len(differs) + differs.index(True) + 1


@dataclass(frozen=True, eq=False)
class Loop:
    """What a loop does with its arrays, which are the inputs of its node first.

    body: one round. rounds: how often it runs, at least once. reads: one for each param of the
    body. carried: for each output of the body, the arrays that are its values of one, two, ...
    rounds ago. stores: see there; they happen after a round, in this order. results: what the loop
    gives: ("output", number) of the last round, or ("array", number) as it is then; ("turns", 0):
    as ``Until.looks``. until: then rounds is only how many there were once, and all reads are of
    whole arrays.
    """

    body: Graph
    rounds: int
    reads: tuple[Read, ...]
    carried: tuple[tuple[int, ...], ...]
    stores: tuple[Store, ...]
    results: tuple[tuple[str, int], ...]
    until: Until | None = None

    def __repr__(self) -> str:
        return f"rounds until a value says stop ({self.rounds} once)" if self.until else (
            f"{self.rounds} rounds")

    @cached_property
    def moving(self) -> frozenset[int]:
        """The arrays that change."""
        carried = [k for arrays in self.carried for k in arrays]
        return frozenset([*carried, *[s.array for s in self.stores]])


def in_place(loop: Loop, shapes: Sequence[Shape]) -> dict[int, tuple[Store, int | None]]:
    """The outputs that a round can compute where they are stored, which no part that it reads or
    stores meets, unless it reads this very part: then with the number of that read. shapes: of the
    arrays. One that the next round reads lies in one piece there."""
    found: dict[int, tuple[Store, int | None]] = {}
    for store in loop.stores:
        part, olds = store.part, loop.carried[store.output]
        reads = {k: r.part for k, r in enumerate(loop.reads) if r.array == store.array}
        old = next((k for k, theirs in reads.items() if part.same(theirs)), None)
        others = [(part, theirs) for k, theirs in reads.items() if k != old or olds]
        for s in loop.stores:
            if s.array == store.array:
                others += [(part, s.part)] * (s is not store)
                if loop.carried[s.output]:  # the next round reads it there
                    later = part._replace(starts=part.starts[1:])
                    others.append((later, s.part._replace(starts=s.part.starts[:-1])))
        alone = all(theirs is not None and mine.apart(theirs) for mine, theirs in others)
        alike = not olds and loop.body.outputs[store.output].shape == part.shape
        alike = alike or (len(olds) < 2 and _in_one_piece(part, shapes[store.array]))
        if alone and alike and store.output not in found:
            found[store.output] = store, old
    return found


def _in_one_piece(part: Part, shape: Shape) -> bool:
    """Whether a part of an array in C order lies there without gaps, in C order."""
    inner = True
    for step, size, n in zip(reversed(part.step), reversed(part.shape), reversed(shape)):
        if size > 1 and (not inner or step != 1):
            return False
        inner = inner and size == n
    return True


def _run(*inputs: Any, loop: Loop) -> tuple[Any, ...]:
    arrays = [np.array(a) if k in loop.moving else a for k, a in enumerate(inputs)]
    given: Sequence[Any] = []
    until, turns = loop.until, loop.rounds
    for turn in range(int(arrays[until.most]) if until else turns):
        found = evaluate(loop.body, [read.value(arrays, turn) for read in loop.reads])
        given = [np.array(x) for x in found]  # some may be parts of arrays that change now
        for store in loop.stores:
            part = arrays[store.array][store.part.at(turn)]
            part[...] = given[store.output].reshape(part.shape)
        for value, olds in zip(given, loop.carried):
            for k, newer in zip(olds, [value, *[arrays[k] for k in olds]]):
                arrays[k] = newer
        if until is not None:
            turns = until.looks(turn + 1, given)
            if turns > 0:
                break
    kinds = {"output": given, "array": arrays, "turns": [np.array(turns)]}
    return tuple([kinds[kind][k] for kind, k in loop.results])


loop = register(
    Op(
        name="loop",
        family="host",
        impl=_run,
        infer_aval=lambda *avals, loop: Aval((len(loop.results),), np.dtype("V")),
        cost=COSTLY,
    )
)
