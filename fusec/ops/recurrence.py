"""A loop whose elements need only their own past: what ``passes.recur`` makes of a ``Loop``."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from fusec.ir.aval import Aval
from fusec.ir.graph import Graph, Node, evaluate
from fusec.ops.registry import COSTLY, Op, register
from fusec.ops.shape import index_of


class Window(NamedTuple):
    """A part of an array, ``move`` further along each axis in every round."""

    start: tuple[int, ...]
    move: tuple[int, ...]
    step: tuple[int, ...]
    shape: tuple[int, ...]

    def at(self, turn: int) -> tuple[slice, ...]:
        """The part of one round, as an index."""
        start = tuple([b + m * turn for b, m in zip(self.start, self.move)])
        return index_of(start, self.step, self.shape)

    def span(self, rounds: int) -> list[range]:
        """All places of all rounds along each axis, or more than those."""
        found = []
        for first, move, step, n in zip(*self):
            last, end = first + move * (rounds - 1), first + step * (n - 1)
            places = first, last, end, last + end - first
            by = move if n == 1 and move else 1 if move else step
            found.append(range(min(places), max(places) + 1, abs(by)))
        return found

    def after(self, other: "Window") -> int | None:
        """How many rounds later another part is this one, if it is at all."""
        far = {
            divmod(a - b, m) if m else (0, a - b)
            for a, b, m in zip(self.start, other.start, self.move)
            if m or a != b
        }
        if self[1:] != other[1:] or len(far) != 1:
            return None
        ((rounds, rest),) = far
        return None if rest else rounds


class Carry(NamedTuple):
    """A value that one round hands to the next.

    output: of the body, which it is one round later; after: the carry that it is one round after,
    else -1; param: what rounds read it as; array, window: where its first value lies, if any.
    """

    output: int
    after: int
    param: Node
    array: int
    window: Window | None


class Memory(NamedTuple):
    """An array that rounds store into; source: the input that it is a copy of, or -1."""

    aval: Aval
    source: int


@dataclass(frozen=True, eq=False)
class Recurrence:
    """What a recurrence does with its inputs.

    body: one round. reads: of each param that is no carry, and of each constant that is no number,
    the array and the part of it; an array is the number of an input, or ~number of a memory.
    stores: (output, number of a memory, part).
    results: ("carry", number) or ("memory", number), as they are after the last round.
    """

    body: Graph
    rounds: int
    carries: tuple[Carry, ...]
    reads: dict[Node, tuple[int, Window]]
    memory: tuple[Memory, ...]
    stores: tuple[tuple[int, int, Window], ...]
    results: tuple[tuple[str, int], ...]

    def __repr__(self) -> str:
        return f"{self.rounds} rounds"

    def run(self, inputs: Sequence[Any]) -> tuple[Any, ...]:
        """The results, by NumPy."""
        memory = [
            np.array(inputs[m.source]) if m.source >= 0 else np.empty(m.aval.shape, m.aval.dtype)
            for m in self.memory
        ]

        def part(array: int, window: Window, turn: int) -> Any:
            return (inputs[array] if array >= 0 else memory[~array])[window.at(turn)]

        values = {
            c.param: part(c.array, c.window, 0) if c.window else np.zeros(c.param.shape)
            for c in self.carries
        }
        for turn in range(self.rounds):
            values |= {p: part(k, window, turn) for p, (k, window) in self.reads.items()}
            given = evaluate(
                self.body, [np.array(values[p]).reshape(p.shape) for p in self.body.params]
            )
            for n, m, window in self.stores:
                memory[m][window.at(turn)] = np.reshape(given[n], window.shape)
            olds = [values[c.param] for c in self.carries]
            for c in self.carries:
                values[c.param] = given[c.output] if c.after < 0 else olds[c.after]
        return tuple([
            memory[k] if kind == "memory" else self._shaped(self.carries[k], values)
            for kind, k in self.results
        ])  # fmt: skip

    def _shaped(self, carry: Carry, values: dict[Node, Any]) -> Any:
        return np.reshape(values[carry.param], self.body.outputs[carry.output].shape)


recurrence = register(
    Op(
        name="recurrence",
        family="host",
        impl=lambda *inputs, rounds: rounds.run(inputs),
        infer_aval=lambda *avals, rounds: Aval((len(rounds.results),), np.dtype("V")),
        cost=COSTLY,
    )
)
