"""Checks that a graph is well formed; tests run it after every pass."""

from fusec.errors import VerifyError
from fusec.ir.graph import Graph, Node
from fusec.ir.text import format_nodes


def verify(graph: Graph, after: str = "") -> Graph:
    """Return ``graph`` if it is closed, acyclic and every node's aval is what its op infers.

    Raises VerifyError that prints the neighbourhood of the first bad node and names the pass.
    """
    params = set(graph.params)
    for node in graph.nodes():
        problem = _problem(node, params)
        if problem:
            where = f" after {after}" if after else ""
            near = format_nodes([*node.inputs, node])
            raise VerifyError(f"bad graph{where}: {problem}\n{near}")
    return graph


def _problem(node: Node, params: set[Node]) -> str | None:
    if node.op.name == "param":
        return None if node in params else "a param that the graph does not list"
    try:
        hash(tuple(node.attrs.items()))
    except TypeError:
        return f"attrs of {node.op.name} are not hashable: {dict(node.attrs)}"
    inferred = node.op.infer(tuple(i.aval for i in node.inputs), node.attrs)
    if inferred != node.aval:
        return f"{node.op.name} gives {inferred!r} but the node says {node.aval!r}"
    return None
