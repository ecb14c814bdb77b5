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
    table: dict[tuple[Any, ...], Node] = {}
    done: dict[Node, Node] = {p: p for p in graph.params}

    def number(node: Node) -> Node:
        found = table.setdefault(node.key(), node)
        found.serial = min(found.serial, node.serial)
        return found

    def visit(node: Node) -> Node:
        inputs = tuple([done[i] for i in node.inputs])
        if any(a is not b for a, b in zip(inputs, node.inputs)):
            node = node.replace(inputs)
        return number(node)

    def settle(root: Node, rounds: int, loc: Loc | None) -> Node:
        """Number the nodes that a rule made, inputs first, applying rules to each."""
        for node in toposort([root], known=done):
            if node in done:
                continue
            if node.loc is None and node.op.name not in ("param", "const"):
                node.loc = loc
            done[node] = apply(visit(node), rounds)
        return done[root]

    def apply(node: Node, rounds: int = 0) -> Node:
        for rule in rules.get(node.op.name, ()) if rules else ():
            new = rule(node)
            if new is None or new is node:
                continue
            if new.aval != node.aval:
                raise AssertionError(f"rule {rule} changed {node!r} to {new!r}")
            if rounds > MAX_ROUNDS:
                raise AssertionError(f"rules do not settle at {node!r}")
            done.setdefault(node, node)
            new.serial = min(new.serial, node.serial)
            return settle(new, rounds + 1, node.loc)
        return node

    for node in graph.nodes():
        if node not in done:
            done[node] = apply(visit(node))
    return Graph(graph.params, [done[o] for o in graph.outputs], _checks(graph, done))


def _checks(graph: Graph, done: Mapping[Node, Node]) -> Iterable[Node]:
    """What became of the checks; of one that a rule replaced, those of what stands there now."""
    found: dict[Node, None] = {}
    for node in graph.checks:
        new = done[node]
        kept = new.checked or new.op.name == node.op.name == "host_out"
        found.update(dict.fromkeys([new] if kept else [n for n in toposort([new]) if n.checked]))
    return found
