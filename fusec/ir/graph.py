"""Nodes and graphs: immutable values that every pass reads and none changes.

``Node(op, inputs, attrs, aval)`` has its arrays in ``inputs`` and its metadata in ``attrs``;
``Graph(params, outputs)`` is closed: every path from an output ends in a param or a constant.
"""

from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping
from itertools import count
from typing import Any, NamedTuple, Protocol

import numpy as np

from fusec.ir.aval import Aval, kind_of


class Loc(NamedTuple):
    """A line of the user's code."""

    filename: str
    line: int
    function: str

    def __str__(self) -> str:
        return f"{self.filename}:{self.line}"


class OpLike(Protocol):
    """What the graph needs to know of an op; ``ops.registry.Op`` says the rest."""

    @property
    def name(self) -> str: ...

    @property
    def family(self) -> str: ...

    @property
    def cost(self) -> int: ...

    @property
    def checked(self) -> str: ...

    @property
    def expr(self) -> Mapping[str, str]: ...

    @property
    def impl(self) -> Callable[..., Any]: ...

    def infer(self, avals: tuple[Aval, ...], attrs: Mapping[str, Any]) -> Aval: ...


class Literal:
    """A constant array, compared and hashed by dtype, shape and bytes (so -0.0 is not 0.0)."""

    __slots__ = ("_key", "value")

    def __init__(self, value: Any) -> None:
        array = np.array(value)
        array.setflags(write=False)
        self.value = array
        self._key = (array.dtype.str, array.shape, array.tobytes())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Literal) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __repr__(self) -> str:
        if self.value.ndim == 0:
            return repr(self.value.item())
        return np.array2string(self.value, threshold=6, separator=",").replace("\n", "")


_SERIAL = count()
NONE: Mapping[str, Any] = {}  # of the many nodes without metadata


class Node:
    """One operation on arrays. Compared by identity; ``key()`` is what value numbering compares.

    op: the op; inputs: nodes; attrs: hashable metadata by name; aval: shape and dtype of the
    result; loc: the user's line, which is no part of the node's value; serial: grows from node to
    node as they are traced.
    """

    __slots__ = ("__weakref__", "attrs", "aval", "inputs", "loc", "op", "serial")

    def __init__(
        self,
        op: OpLike,
        inputs: tuple["Node", ...],
        attrs: Mapping[str, Any],
        aval: Aval,
        loc: Loc | None = None,
        serial: int | None = None,
    ) -> None:
        self.op = op
        self.inputs = inputs
        self.attrs = attrs or NONE
        self.aval = aval
        self.loc = loc
        self.serial = next(_SERIAL) if serial is None else serial

    @property
    def shape(self) -> tuple[int, ...]:
        return self.aval.shape

    @property
    def dtype(self) -> np.dtype:
        return self.aval.dtype

    @property
    def checked(self) -> bool:
        """Whether computing it may report an error."""
        return self.op.checked != "" and kind_of(self.inputs[0].dtype) in self.op.checked

    def key(self) -> tuple[Any, ...]:
        """Equal keys compute equal values (params are keyed by identity)."""
        if self.op.name == "param":
            return (self,)
        return (self.op, self.inputs, tuple(self.attrs.items()))

    def replace(self, inputs: tuple["Node", ...]) -> "Node":
        return Node(self.op, inputs, self.attrs, self.aval, self.loc, self.serial)

    def __repr__(self) -> str:
        attrs = "".join(f", {k}={v!r}" for k, v in self.attrs.items())
        return f"<{self.op.name}({len(self.inputs)} inputs{attrs}) -> {self.aval!r}>"


class Graph:
    """A closed program: params in, outputs out.

    checks: nodes that may report an error, which is a result too, even where nobody reads them.
    """

    __slots__ = ("checks", "outputs", "params")

    def __init__(
        self, params: Iterable[Node], outputs: Iterable[Node], checks: Iterable[Node] = ()
    ) -> None:
        self.params = tuple(params)
        self.outputs = tuple(outputs)
        self.checks = tuple(checks)

    def nodes(self) -> list[Node]:
        """Every node that is needed, inputs before users, params of the graph first."""
        return toposort((*self.outputs, *self.checks), self.params)

    def __repr__(self) -> str:
        from fusec.ir.text import format_graph

        return format_graph(self)

    def _repr_html_(self) -> str:
        from fusec.ir.text import graph_html

        return graph_html(self)

    def dot(self, clusters: Mapping[str, Collection["Node"]] | None = None) -> str:
        """The graph in Graphviz' DOT language; clusters: nodes inside one frame, by its title."""
        from fusec.ir.text import graph_dot

        return graph_dot(self, clusters)

    def mermaid(self, clusters: Mapping[str, Collection["Node"]] | None = None) -> str:
        """The graph as a Mermaid flowchart; clusters as in `dot`."""
        from fusec.ir.text import graph_mermaid

        return graph_mermaid(self, clusters)


def toposort(
    outputs: Iterable[Node], first: Iterable[Node] = (), known: Container[Node] = ()
) -> list[Node]:
    """Nodes reachable from ``outputs``, each after its inputs; iterative, for deep chains.

    first: nodes to begin with; known: nodes that are left out, with what only they need.
    """
    order: list[Node] = list(first)
    done = set(order)
    stack: list[tuple[Node, Iterator[Node]]] = []
    for root in outputs:
        if root in done or root in known:
            continue
        done.add(root)
        stack.append((root, iter(root.inputs)))
        while stack:
            node, rest = stack[-1]
            for child in rest:
                if child not in done and child not in known:
                    done.add(child)
                    stack.append((child, iter(child.inputs)))
                    break
            else:
                order.append(node)
                stack.pop()
    return order


def evaluate(graph: Graph, values: Iterable[Any]) -> list[Any]:
    """Run a graph op by op through each op's NumPy implementation: the reference."""
    env: dict[Node, Any] = dict(zip(graph.params, values))
    _run(graph.nodes()[len(graph.params) :], env)
    return [env[o] for o in graph.outputs]


def _run(nodes: Iterable[Node], env: dict[Node, Any]) -> None:
    for node in nodes:
        env[node] = node.op.impl(*[env[i] for i in node.inputs], **node.attrs)


def evaluator(graph: Graph, fixed: Mapping[Node, Any]) -> Callable[[Mapping[Node, Any]], Any]:
    """What evaluates the only output for many values of the params that have no fixed one."""
    env, varying = dict(fixed), {p for p in graph.params if p not in fixed}
    steps: list[Node] = []
    for node in graph.nodes()[len(graph.params) :]:
        if varying.isdisjoint(node.inputs):
            _run([node], env)
        else:
            varying.add(node)
            steps.append(node)
    used = {i for node in steps for i in node.inputs} | {*graph.outputs}
    known = {node: value for node, value in env.items() if node in used}

    def run(values: Mapping[Node, Any]) -> Any:
        env = {**known, **values}
        _run(steps, env)
        return env[graph.outputs[0]]

    return run
