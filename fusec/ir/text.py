"""Graphs as text, DOT, Mermaid, HTML. One line a node: ``%3 f4[8] = multiply(%1, 2.0)  # f:12``."""

import html
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from textwrap import indent

from fusec.ir.graph import Graph, Node


def names(nodes: Iterable[Node]) -> dict[Node, str]:
    """``%0 %1 ...`` in order; params have their own names, 0-d constants their values."""
    table: dict[Node, str] = {}
    count = 0
    for node in nodes:
        if node.op.name == "param":
            table[node] = str(node.attrs["name"])
        elif node.op.name == "const" and node.aval.ndim == 0:
            table[node] = repr(node.attrs["value"])
        elif node.op.name == "dim":
            table[node] = f"dim({node.attrs['value']})"
        else:
            table[node] = f"%{count}"
            count += 1
    return table


def format_node(node: Node, table: dict[Node, str]) -> str:
    args = [table.get(i, "?") for i in node.inputs]
    args += [f"{k}={v!r}" for k, v in node.attrs.items()]
    text = f"{table[node]}: {node.aval!r} = {node.op.name}({', '.join(args)})"
    return f"{text:<64}  # {_where(node)}" if node.loc else text


def _where(node: Node) -> str:
    return f"{Path(node.loc.filename).name}:{node.loc.line}" if node.loc else ""


def format_nodes(nodes: Iterable[Node]) -> str:
    nodes = list(nodes)
    table = names(nodes)
    return "\n".join(format_node(n, table) for n in nodes if table[n].startswith("%"))


def format_graph(graph: Graph) -> str:
    """The whole graph, readable from top to bottom."""
    nodes = graph.nodes()
    table = names(nodes)
    params = ", ".join(f"{table[p]}: {p.aval!r}" for p in graph.params)
    lines = [f"graph({params}):"]
    for node in nodes:
        if table[node].startswith("%"):
            lines += ["  " + format_node(node, table), *_bodies(node)]
    lines.append("  return " + ", ".join(table[o] for o in graph.outputs))
    return "\n".join(lines)


def _bodies(node: Node) -> Iterator[str]:
    """The graphs that a node runs, indented below it."""
    for attr in node.attrs.values():
        body = getattr(attr, "body", None)
        if isinstance(body, Graph):
            yield indent(format_graph(body), "    ")


def graph_html(graph: Graph) -> str:
    return f"<pre>{html.escape(format_graph(graph))}</pre>"


Clusters = Mapping[str, Collection[Node]]
"""Nodes that are drawn inside one box, by its title."""


def _inside(nodes: Sequence[Node], clusters: Clusters) -> Iterator[tuple[str, list[Node]]]:
    """The nodes of each box, those outside all boxes first; a node is drawn once."""
    left = dict.fromkeys(nodes)
    boxes = []
    for title, members in clusters.items():
        boxes.append((title, [n for n in nodes if n in members and n in left]))
        for node in boxes[-1][1]:
            del left[node]
    yield "", list(left)
    yield from boxes


def graph_dot(graph: Graph, clusters: Clusters | None = None) -> str:
    """The graph for Graphviz: boxes are ops, ellipses are params, frames are clusters."""
    nodes = graph.nodes()
    table = names(nodes)
    ids = {n: f"n{i}" for i, n in enumerate(nodes)}
    lines = ["digraph fusec {", '  node [shape=box, fontname="monospace"];']
    for number, (title, inside) in enumerate(_inside(nodes, clusters or {})):
        if title:
            lines.append(f'  subgraph cluster{number} {{ label="{title}";')
        for node in inside:
            shape = ", shape=ellipse" if node.op.name == "param" else ""
            tip = str(node.loc) if node.loc else ""
            label = f"{_label(node, table)}\\n{node.aval!r}".replace('"', "'")
            lines.append(f'  {ids[node]} [label="{label}", tooltip="{tip}"{shape}];')
        lines += ["  }"] * bool(title)
    lines += [f"  {ids[i]} -> {ids[node]};" for node in nodes for i in node.inputs]
    for k, out in enumerate(graph.outputs):
        lines.append(f'  out{k} [label="result {k}", shape=ellipse];  {ids[out]} -> out{k};')
    return "\n".join([*lines, "}"])


def graph_mermaid(graph: Graph, clusters: Clusters | None = None) -> str:
    """The graph as a Mermaid flowchart, which many pages draw by themselves::

        flowchart TD
          n0(["x f4[7]"])
          subgraph g1 ["k0"]
            n1["tanh f4[7]"]
          end
          n0 --> n1
          n1 --> out0(["result 0"])
    """
    nodes = graph.nodes()
    table = names(nodes)
    ids = {n: f"n{i}" for i, n in enumerate(nodes)}
    lines = ["flowchart TD"]
    for number, (title, inside) in enumerate(_inside(nodes, clusters or {})):
        lines += [f'  subgraph g{number} ["{title}"]'] * bool(title)
        for node in inside:
            left, right = ("([", "])") if node.op.name == "param" else ("[", "]")
            label = f"{_label(node, table)} {node.aval!r}".replace('"', "'")
            lines.append(f'  {ids[node]}{left}"{label}"{right}')
        lines += ["  end"] * bool(title)
    lines += [f"  {ids[i]} --> {ids[node]}" for node in nodes for i in node.inputs]
    lines += [f'  {ids[o]} --> out{k}(["result {k}"])' for k, o in enumerate(graph.outputs)]
    return "\n".join(lines)


def _label(node: Node, table: Mapping[Node, str]) -> str:
    return table[node] if node.op.name in ("param", "const", "dim") else node.op.name
