"""One function rebuilds a graph: with no rules it is CSE and DCE, with rules it is the rewriter."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from fusec.ir.graph import Graph, Loc, Node, toposort

Rule = Callable[[Node], Node | None]
"""Looks at a node whose inputs are already rebuilt; gives what replaces it, or None."""

MAX_ROUNDS = 64  # a node that is rewritten more often than this has rules that undo each other


def rebuild(graph: Graph, rules: Mapping[str, Iterable[Rule]] | None = None) -> Graph:
    """Walk from the outputs with local value numbering, applying ``rules[op name]`` bottom up.

    Nodes that compute the same value become one (CSE); nodes that no output needs are not visited
    (DCE). A replacement has the aval of what it replaces, and is itself looked at again.
    """
    made = _Rebuilt(graph.params, rules or {})
    done = made.done
    for node in graph.nodes():
        if node not in done:
            new = made.visit(node)
            done[node] = made.apply(new) if new.op.name in made.rules else new
    return Graph(graph.params, [done[o] for o in graph.outputs], _checks(graph, done))


class _Rebuilt:
    """done: what became of each node; table: the nodes there are now, by what they compute."""

    def __init__(self, params: Iterable[Node], rules: Mapping[str, Iterable[Rule]]) -> None:
        self.rules = rules
        self.table: dict[tuple[Any, ...], Node] = {}
        self.done: dict[Node, Node] = {p: p for p in params}

    def visit(self, node: Node) -> Node:
        done = self.done
        inputs = tuple([done[i] for i in node.inputs])
        if inputs != node.inputs:
            node = node.replace(inputs)
        found = self.table.setdefault(node.key(), node)
        if found is not node:
            found.serial = min(found.serial, node.serial)
        return found

    def settle(self, root: Node, rounds: int, loc: Loc | None) -> Node:
        """Number the nodes that a rule made, inputs first, applying rules to each."""
        for node in toposort([root], known=self.done):
            if node in self.done:
                continue
            if node.loc is None and node.op.name not in ("param", "const"):
                node.loc = loc
            self.done[node] = self.apply(self.visit(node), rounds)
        return self.done[root]

    def apply(self, node: Node, rounds: int = 0) -> Node:
        for rule in self.rules.get(node.op.name, ()):
            new = rule(node)
            if new is None or new is node:
                continue
            if new.aval != node.aval:
                raise AssertionError(f"rule {rule} changed {node!r} to {new!r}")
            if rounds > MAX_ROUNDS:
                raise AssertionError(f"rules do not settle at {node!r}")
            self.done.setdefault(node, node)
            new.serial = min(new.serial, node.serial)
            return self.settle(new, rounds + 1, node.loc)
        return node


def _checks(graph: Graph, done: Mapping[Node, Node]) -> Iterable[Node]:
    """What became of the checks; of one that a rule replaced, those of what stands there now."""
    found: dict[Node, None] = {}
    for node in graph.checks:
        new = done[node]
        kept = new.checked or new.op.name == node.op.name == "host_out"
        found.update(dict.fromkeys([new] if kept else [n for n in toposort([new]) if n.checked]))
    return found
