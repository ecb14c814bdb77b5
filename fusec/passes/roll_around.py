"""The graph around loops that stand for nodes that repeat; see ``roll``."""

from collections.abc import Sequence

import numpy as np

from fusec.ir.aval import Aval
from fusec.ir.graph import Graph, Node
from fusec.ops import OPS
from fusec.passes.nodes import node_of
from fusec.passes.roll_build import Body, Repeat, Roll, Unrollable


class Around:
    """A graph with loops in it, made from its first node to its last.

    end: so many nodes are done. given: what is read after a loop -> the loop. last: the place of
    the last node that reads a value.
    """

    def __init__(self, whole: Graph, order: list[Node]) -> None:
        self.whole, self.order, self.end = whole, order, 0
        self.checks = {*whole.checks}
        self.done: dict[Node, Node] = {}
        self.given: dict[Node, Made] = {}
        self.failing: dict[Node, Made] = {}  # checks inside loops
        self.last = {i: k for k, node in enumerate(order) for i in node.inputs}
        self.last.update(dict.fromkeys(whole.outputs, len(order)))

    def built(self, found: Repeat) -> "Made | None":
        """A repetition as one node; None where its values are used in other ways."""
        if found.first < self.end:
            return None
        try:
            return Made(Roll(self.order, found, self.checks, self.last))
        except Unrollable:
            return None

    def take(self, made: "Made") -> None:
        """Let a loop stand for its rounds, which come after those of all loops before it."""
        roll = made.roll
        self._copy(roll.found.first)
        made.node = made.node.replace(tuple([self._after(i) for i in made.node.inputs]))
        self.given.update(dict.fromkeys(roll.ends, made))
        rounds = self.order[roll.found.first : roll.end]
        self.failing.update({n: made for n in rounds if n in self.checks})
        self.end = roll.end

    def graph(self) -> Graph:
        self._copy(len(self.order))
        some = {n: made.out(0, next(iter(made.roll.ends))) for n, made in self.failing.items()}
        checks = [some[n] if n in some else self.done.get(n, n) for n in self.whole.checks]
        outputs = [self._after(n) for n in self.whole.outputs]
        return Graph(self.whole.params, outputs, dict.fromkeys(checks))

    def _copy(self, stop: int) -> None:
        """Go on to a node with what stands there as it is."""
        for node in self.order[self.end : stop]:
            inputs = self._joined(node) if node.op.name == "concatenate" else node.inputs
            new = tuple([self._after(i) for i in inputs])
            self.done[node] = node if new == node.inputs else node.replace(new)

    def _after(self, node: Node) -> Node:
        if node not in self.done and node in self.given:
            self.done[node] = self.given[node].value(node)
        return self.done.get(node, node)

    def _collected(self, node: Node) -> bool:
        return node in self.given and self.given[node].collected(node)

    def _joined(self, node: Node) -> list[Node]:
        """The inputs of a concatenation, with rounds that follow each other as one."""
        axis, found, k = node.attrs["axis"], [], 0
        values = [self._unshaped(i) for i in node.inputs]
        while k < len(node.inputs):
            first, shape = node.inputs[k], node.inputs[k].shape
            count, step = max(self._following(values[k:], step) for step in (1, -1))
            k += count
            if count == 1:
                found.append(first)
                continue
            some = values[k - count]
            rows = self.given[some].rows(some, count, step)
            rows = _located(node_of("reshape", rows, shape=(count, *shape)), node)
            order = (*range(1, axis + 1), 0, *range(axis + 1, len(shape) + 1))
            shape = (*shape[:axis], count * shape[axis], *shape[axis + 1 :])
            turned = _located(node_of("transpose", rows, perm=order), node)
            found.append(_located(node_of("reshape", turned, shape=shape), node))
        return found

    def _unshaped(self, node: Node) -> Node:
        """What ``np.stack`` and its like have given another axis."""
        while node.op.name == "reshape" and not self._collected(node):
            node = node.inputs[0]
        return node

    def _following(self, values: Sequence[Node], step: int) -> tuple[int, int]:
        """How many of the first values are those of rounds one ``step`` apart; the step."""
        count = 1
        if self._collected(values[0]):
            ends = self.given[values[0]].roll.ends
            j, ago = ends[values[0]]
            while count < len(values) and ends.get(values[count]) == (j, ago - step * count):
                count += 1
        return count, step


class Made:
    """The loop that stands for a repetition, and what is read after it. It comes where the last
    round was."""

    def __init__(self, roll: Roll) -> None:
        self.roll, self.body = roll, Body(roll)
        self.results: dict[tuple[str, int], int] = {}
        numbers = {j: k for k, j in enumerate(roll.chains)}
        self.where = {node: self._result(numbers, *end) for node, end in roll.ends.items()}
        self.outs: dict[int, Node] = {}
        locs = [n.loc for n in roll.nodes if n.loc is not None]
        loc = min(locs, key=lambda loc: loc.line, default=None)
        aval = Aval((len(self.results),), np.dtype("V"))
        attrs = {"loop": self.body.loop([*self.results])}
        self.serial = roll.order[roll.end - 1].serial
        inputs = tuple(self.body.arrays)
        self.node = Node(OPS["loop"], inputs, attrs, aval, loc, self.serial)

    def _result(self, numbers: dict[int, int], j: int, ago: int) -> int:
        """The number of the result that a value is, or is a part of."""
        if j in self.body.stacks:
            key = "array", self.body.stacks[j]
        elif j in self.body.places:
            key = "array", self.body.places[j]
        else:
            key = ("array", self.body.old[j, ago + 1]) if ago else ("output", numbers[j])
        return self.results.setdefault(key, len(self.results))

    def collected(self, node: Node) -> bool:
        """Whether a value is a part of the stack of those of all rounds."""
        return self.roll.ends[node][0] in self.body.stacks

    def out(self, index: int, node: Node) -> Node:
        """A result of the loop: the value of ``node``, or the stack that it is in."""
        if index not in self.outs:
            lead = (self.roll.found.rounds,) * self.collected(node)
            aval = Aval((*lead, *node.shape), node.dtype)
            attrs = {"index": index, "aval": aval}
            out = Node(OPS["host_out"], (self.node,), attrs, aval, node.loc, self.serial)
            self.outs[index] = out
        return self.outs[index]

    def value(self, node: Node) -> Node:
        out = self.out(self.where[node], node)
        if not self.collected(node):
            return out
        return _located(node_of("reshape", self.rows(node, 1), shape=node.shape), node)

    def rows(self, node: Node, count: int, step: int = 1) -> Node:
        """A value of a round in the stack of all, and those of the rounds after or before it."""
        out = self.out(self.where[node], node)
        first, zeros = self.roll.found.rounds - 1 - self.roll.ends[node][1], (0,) * node.aval.ndim
        steps, shape = (step, *(1,) * node.aval.ndim), (count, *node.shape)
        return node_of("slice", out, start=(first, *zeros), step=steps, shape=shape)


def _located(node: Node, like: Node) -> Node:
    node.loc = like.loc  # not its turn: it comes before the first node that needs it
    return node
