"""The graph around a loop that stands for nodes that repeat; see ``roll``."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from fusec.ir.aval import Aval
from fusec.ir.graph import Graph, Node
from fusec.ops import OPS
from fusec.passes.nodes import node_of

if TYPE_CHECKING:
    from fusec.passes.roll_build import _Body, _Roll


class Around:
    """The graph with the loop in it. ends: what is read after it."""

    def __init__(self, roll: "_Roll", body: "_Body", ends: dict[Node, tuple[int, int]]) -> None:
        self.roll, self.body, self.ends = roll, body, ends
        self.results: dict[tuple[str, int], int] = {}
        numbers = {j: k for k, j in enumerate(roll.chains)}
        self.where = {node: self._result(numbers, *end) for node, end in ends.items()}

    def _result(self, numbers: dict[int, int], j: int, ago: int) -> int:
        """The number of the result that a value is, or is a part of."""
        if j in self.body.stacks:
            key = "array", self.body.stacks[j]
        elif j in self.body.places:
            key = "array", self.body.places[j]
        else:
            key = ("array", self.body.old[j, ago + 1]) if ago else ("output", numbers[j])
        return self.results.setdefault(key, len(self.results))

    def graph(self) -> Graph:
        roll, body = self.roll, self.body
        loop = body.loop([*self.results])
        locs = [n.loc for n in roll.nodes if n.loc is not None]
        loc = min(locs, key=lambda loc: loc.line, default=None)
        aval = Aval((len(self.results),), np.dtype("V"))
        self.node = Node(OPS["loop"], tuple(body.arrays), {"loop": loop}, aval, loc)
        self.outs: dict[int, Node] = {}
        self.done = {n: self._given(n) for n in self.ends if not self._collected(n)}
        for node in roll.order[roll.end :]:
            inputs = self._joined(node) if node.op.name == "concatenate" else node.inputs
            self.done[node] = node.replace(tuple([self._after(i) for i in inputs]))
        some = self._out(0, next(iter(self.ends)))
        checks = [some if roll._inside(n) else self.done.get(n, n) for n in roll.whole.checks]
        outputs = [self._after(n) for n in roll.whole.outputs]
        return Graph(roll.whole.params, outputs, dict.fromkeys(checks))

    def _collected(self, node: Node) -> bool:
        return node in self.ends and self.ends[node][0] in self.body.stacks

    def _after(self, node: Node) -> Node:
        if node not in self.done and self._collected(node):
            self.done[node] = self._given(node)
        return self.done.get(node, node)

    def _out(self, index: int, node: Node) -> Node:
        """A result of the loop: the value of ``node``, or the stack that it is in."""
        if index not in self.outs:
            lead = (self.roll.found.rounds,) * self._collected(node)
            aval = Aval((*lead, *node.shape), node.dtype)
            attrs = {"index": index, "aval": aval}
            self.outs[index] = Node(OPS["host_out"], (self.node,), attrs, aval, node.loc)
        return self.outs[index]

    def _given(self, node: Node) -> Node:
        out = self._out(self.where[node], node)
        if not self._collected(node):
            return out
        return _located(node_of("reshape", self._rows(node, 1), shape=node.shape), node)

    def _rows(self, node: Node, count: int, step: int = 1) -> Node:
        """A value of a round in the stack of all, and those of the rounds after or before it."""
        out = self._out(self.where[node], node)
        first, zeros = self.roll.found.rounds - 1 - self.ends[node][1], (0,) * node.aval.ndim
        steps, shape = (step, *(1,) * node.aval.ndim), (count, *node.shape)
        return node_of("slice", out, start=(first, *zeros), step=steps, shape=shape)

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
            rows = self._rows(values[k - count], count, step)
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
            j, ago = self.ends[values[0]]
            while count < len(values) and self.ends.get(values[count]) == (j, ago - step * count):
                count += 1
        return count, step


def _located(node: Node, like: Node) -> Node:
    node.loc = like.loc
    return node
