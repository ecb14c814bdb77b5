"""From a recurrence to scalar lines: one round, and what is stored before the first one.

What goes from round to round has a place in memory like any value: that of the result which it is
in the end, or of a temporary.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from fusec.codegen.loops import TURN, Body, Buffer, Line, Place, Store
from fusec.codegen.lower import Layout, Lowering
from fusec.ir.graph import Node
from fusec.ops.recurrence import Recurrence, Window
from fusec.passes.access import ZERO
from fusec.passes.groups import Idx
from fusec.passes.recur import group_of

T = TypeVar("T")
Places = Mapping[int, Place]


def lower_recurrence(rounds: Recurrence, arrays: Places, carried: Sequence[Place]) -> Body:
    """The scalar program. arrays: where inputs lie, by number, and memories, by ~number; carried:
    where the carries are kept, by the axes of the outputs that they are."""
    return _Rounds(rounds, arrays, carried).run()


class _Rounds(Lowering):
    def __init__(self, rounds: Recurrence, arrays: Places, carried: Sequence[Place]) -> None:
        self.rounds, self.arrays, self.carried = rounds, arrays, carried
        self.outputs = rounds.body.outputs
        places = {p: _part(arrays[k], at, p) for p, (k, at) in rounds.reads.items()}
        for carry, place in zip(rounds.carries, carried):
            strides = _fitted(place.strides, self.outputs[carry.output], carry.param, 0)
            places[carry.param] = place._replace(strides=strides)
        stored = [arrays[~m] for m in range(len(rounds.memory))]
        self.moving = {p.node for p in (*carried, *stored)}
        self.places = places
        super().__init__(group_of(rounds.body), Layout(self._at, lambda node: False, self._at))

    def _at(self, node: Node) -> Place:
        return self.places[node]

    def run(self) -> Body:
        rounds = self.rounds
        for node, idx in self.group.members.items():
            self.value(node, idx)
        stores = [
            self._store(_part(self.arrays[~m], at, self.outputs[n]), n, self._output(n))
            for n, m, at in rounds.stores
        ]
        for carry, place in zip(rounds.carries, self.carried):
            n = carry.output
            if carry.window is not None:
                first = Node(carry.param.op, (), carry.param.attrs, self.outputs[n].aval)
                self.places[first] = _part(self.arrays[carry.array], carry.window, first)
                value = self._load(first, self.group.members[self.outputs[n]])
                stores.append(self._store(place, n, value, before=True))
            value = self._output(n) if carry.after < 0 else self._carried(carry.after)
            stores.append(self._store(place, n, value))
        body = self.body(stores)
        body.title = f"rounds of {body.title}"
        body.extents = {**body.extents, TURN: rounds.rounds}
        return body

    def _output(self, n: int) -> Line:
        return self.value(self.outputs[n], self.group.members[self.outputs[n]])

    def _carried(self, number: int) -> Line:
        """What a carry is before the end of a round."""
        carry = self.rounds.carries[number]
        output = self.outputs[carry.output]
        idx = _fitted(self.group.members[output], output, carry.param, ZERO)
        return self.value(carry.param, idx)

    def _store(self, place: Place, n: int, value: Line, before: bool = False) -> Store:
        idx = self.group.members[self.outputs[n]]
        return Store(self._buffer(place.node), place.at(idx), value, before=before)

    def _buffer(self, node: Node) -> Buffer:
        if node not in self.buffers:
            self.buffers[node] = Buffer(self._name("x"), node.dtype, (), "in", node)
        return self.buffers[node]

    def _load(self, node: Node, idx: Idx) -> Line:
        line = super()._load(node, idx)
        if self.places[node].node in self.moving:
            line.variables |= {TURN}
        return line


def _part(whole: Place, at: Window, node: Node) -> Place:
    """A part of an array, by the axes of a node that has its elements."""
    strides = tuple([s * n for s, n in zip(whole.strides, at.step)])
    first, turn = (sum([s * n for s, n in zip(whole.strides, x)]) for x in (at.start, at.move))
    return Place(whole.node, _fitted(strides, at, node, 0), whole.offset + first, turn)


def _fitted(items: Iterable[T], shaped: Node | Window, target: Node, one: T) -> tuple[T, ...]:
    """What belongs to the axes of one shape, for another one that differs by ones only."""
    kept = iter([x for x, n in zip(items, shaped.shape) if n != 1])
    return tuple([one if n == 1 else next(kept) for n in target.shape])
