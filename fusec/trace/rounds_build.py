"""The program of a loop that a trace has found: how often it runs, and what is read after it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from fusec.ir.aval import Aval
from fusec.ir.graph import Graph, Node, toposort
from fusec.ops import OPS
from fusec.ops.control import Loop, Read, Until
from fusec.trace.rounds import Found

if TYPE_CHECKING:
    from fusec.trace.session import Session

INT = Aval((), np.dtype(np.int64))


def param(name: str, aval: Aval) -> Node:
    return Node(OPS["param"], (), {"name": name, "aval": aval}, aval)


class Build:
    """A loop as a node. known: what is not looked into. most: a param, see ``ops.control.Until``.

    results: how many rounds there were, and what the pattern hands on.
    """

    def __init__(self, session: Session, found: Found, known: Mapping[Node, Node]) -> None:
        self.session, self.found, self.known = session, found, known
        self.most = param("most", INT)
        self.arrays: list[Node] = [self.most]
        self.reads: dict[Node, Read] = {}
        self.outside: dict[Node, Node] = {}
        pattern = found.pattern
        self.depths: dict[int, int] = {}
        kept = [(op, ago + 1) for op, ago in pattern.handed if ago]
        for op, ago in [link for _, links in pattern.ops for link in links] + kept:
            if op >= 0 and ago:
                self.depths[op] = max(self.depths.get(op, 0), ago)
        self.old = {
            (op, ago): self._array(self._begun(op, ago))
            for op, depth in self.depths.items()
            for ago in range(1, depth + 1)
        }
        self.before: dict[int, Node] = {}  # params of the body for arrays that change
        self.made: dict[int, Node] = {}
        for op in range(len(found.nodes)):
            self._make(op)
        self.results = self._results()

    def _array(self, node: Node) -> int:
        self.arrays.append(node)
        return len(self.arrays) - 1

    def _begun(self, op: int, ago: int) -> Node:
        """What stands for a value of a round before the first; nothing reads what is not known."""
        node = self.found.begun.get((op, ago))
        if node is None:
            like = self.found.nodes[op].aval
            node = self.session.broadcast(self.session.const(0, like.dtype), like.shape)
        return node

    def _make(self, op: int) -> None:
        stack = [op]
        while stack:
            op = stack[-1]
            links = self.found.pattern.ops[op][1]
            missing = [x for x, ago in links if x >= 0 and not ago and x not in self.made]
            if missing and op not in self.made:
                stack += missing
                continue
            if op not in self.made:
                inputs = [self._input(*link) for link in links]
                self.made[op] = self.found.nodes[op].replace(tuple(inputs))
            stack.pop()

    def _input(self, op: int, ago: int) -> Node:
        if op < 0:
            return self._shared(self.found.shared[ago])
        if not ago:
            return self.made[op]
        number = self.old[op, ago]
        if number not in self.before:
            made = self.before[number] = param(f"s{len(self.reads)}", self.found.nodes[op].aval)
            self.reads[made] = Read(number)
        return self.before[number]

    def _shared(self, x: Node) -> Node:
        """A value from before the loop; views of it, and constants, belong to the round."""
        if x not in self.outside:
            inside = x.op.name in ("const", "dim") or (
                x.op.family == "movement" and x not in self.known and len(x.inputs) == 1
            )
            if inside:
                self.outside[x] = x.replace(tuple(map(self._shared, x.inputs))) if x.inputs else x
            else:
                made = self.outside[x] = param(f"x{len(self.reads)}", x.aval)
                self.reads[made] = Read(self._array(x))
        return self.outside[x]

    def _results(self) -> list[Node]:
        pattern, nodes = self.found.pattern, self.found.nodes
        plain = [op for op, ago in pattern.handed if not ago]
        order = list(dict.fromkeys([*[s[0] for s in pattern.stops], *self.depths, *plain]))
        numbers = {op: k for k, op in enumerate(order)}
        outputs = [self.made[op] for op in order]
        carried = [
            tuple([self.old[op, ago] for ago in range(1, self.depths.get(op, 0) + 1)])
            for op in order
        ]
        each = [(numbers[op], going) for op, _, going in pattern.stops]
        output, going = each[0]
        if len(each) > 1:
            output, going = len(outputs), True
            outputs.append(self._all([(outputs[k], wanted) for k, wanted in each]))
            carried.append(())
        body = Graph([*self.reads], outputs, [self.made[c] for c in pattern.checks])
        kinds = [("turns", 0)] + [
            ("array", self.old[op, ago + 1]) if ago else ("output", numbers[op])
            for op, ago in pattern.handed
        ]
        until, loc = Until(output, going, 0, tuple(each)), pattern.stops[-1][1]
        reads, rounds = (*self.reads.values(),), self.found.rounds
        loop = Loop(body, rounds, reads, tuple(carried), (), tuple(kinds), until)
        aval = Aval((len(kinds),), np.dtype("V"))
        node = Node(OPS["loop"], tuple(self.arrays), {"loop": loop}, aval, loc)
        avals = [INT, *[nodes[op].aval for op, _ in pattern.handed]]
        locs = [loc, *[nodes[op].loc for op, _ in pattern.handed]]
        return [
            Node(OPS["host_out"], (node,), {"index": k, "aval": aval}, aval, loc)
            for k, (aval, loc) in enumerate(zip(avals, locs))
        ]


    def _all(self, values: list[tuple[Node, bool]]) -> Node:
        """Whether all of these are as they should be."""
        make, found = self.session.make, None
        for value, wanted in values:
            value = self.session.reshape(value if wanted else make("logical_not", value), ())
            found = value if found is None else make("logical_and", found, value)
        assert found is not None
        return found


def over(nodes: list[Node], known: dict[Node, Node]) -> list[Node]:
    """These nodes over what stands for some others."""
    for node in toposort(nodes, known=known):
        inputs = tuple([known[i] for i in node.inputs])
        same = all(map(lambda a, b: a is b, inputs, node.inputs))
        known[node] = node if same else node.replace(inputs)
    return [known[n] for n in nodes]


