"""A linear function with the numbers it needs: what ``vjp`` and ``linearize`` hand to the caller.

Outside a trace, the program of the primal run also gives the residuals, and the linear rest of the
graph becomes a program of its own, which may be applied many times.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fusec.autodiff.point import zero
from fusec.autodiff.vjp import undone
from fusec.errors import DTypeError, ShapeError
from fusec.ir.aval import Aval, kind_of
from fusec.ir.graph import Graph, Node, toposort
from fusec.ir.rewrite import rebuild
from fusec.ops import OPS
from fusec.trace.session import Session
from fusec.trace.tracer import Tracer, as_tracer, fresh
from fusec.trace.tree import TreeDef, flatten
from fusec.trace.ufuncs import weak_type


@dataclass(frozen=True, eq=False)
class Values:
    """What a tree of traced values looks like: enough to check others and to make new ones."""

    tree: TreeDef
    likes: tuple[np.ndarray, ...]
    scalars: tuple[bool, ...]

    @classmethod
    def of(cls, tree: TreeDef, values: Sequence[Tracer]) -> "Values":
        return cls(tree, tuple([v._like for v in values]), tuple([v._scalar for v in values]))

    def matched(self, session: Session, values: Any, name: str) -> list[Node]:
        """(Co)tangents of these values, as nodes; raises for others."""
        leaves, given = flatten(values)
        if given != self.tree:
            raise DTypeError(f"fusec.{name}: expected {self.tree}, got {given}")
        return [self._node(session, k, leaf, name) for k, leaf in enumerate(leaves)]

    def _node(self, session: Session, k: int, leaf: Any, name: str) -> Node:
        like = self.likes[k]
        node = as_tracer(session, leaf).node
        if node.shape != like.shape:
            raise ShapeError(
                f"fusec.{name}: {self.tree.paths('value')[k]} has shape {node.shape}; it is a "
                f"(co)tangent of something of shape {like.shape}"
            )
        if kind_of(node.dtype) not in "fc" and weak_type(leaf) is None:
            raise DTypeError(f"fusec.{name}: a (co)tangent is a float, not {node.dtype}")
        aval = Aval(like.shape, like.dtype)
        return undone(session, node, aval) if kind_of(like.dtype) in "fc" else node

    def made(self, session: Session, nodes: Sequence[Node | None]) -> Any:
        """The tree of ``nodes``; 0 where there is none."""
        return self.tree.unflatten([
            zero(session, like, scalar) if n is None else fresh(session, n, like, scalar)
            for n, like, scalar in zip(nodes, self.likes, self.scalars)
        ])  # fmt: skip


_PLAIN: dict[str, Any] = {
    "custom_out": [lambda node: node.inputs[0].inputs[node.attrs["index"]]],
}
"""Rules of the user's belong to the trace that they were made in."""


class Linear:
    """A linear function from ``takes`` to ``gives``, with residuals as its first argument.

    It is part of a plan: another trace runs it by rebuilding its nodes there.
    """

    def __init__(
        self,
        session: Session,
        name: str,
        takes: Values,
        gives: Values,
        variables: Sequence[Node],
        outputs: Sequence[Node | None],
    ) -> None:
        self.name, self.takes, self.gives = name, takes, gives
        self.known = [o is not None for o in outputs]
        params = [*session.params, *variables]
        rebuilt = rebuild(Graph(params, [o for o in outputs if o is not None]), _PLAIN)
        results = rebuilt.outputs
        order = toposort(results, variables)
        moving = set(variables)
        for node in order:
            if any(i in moving for i in node.inputs):
                moving.add(node)
        self.residuals = _residuals(order, moving, results)
        self.graph = _closed([*variables, *self.residuals], order, results)

    def __call__(self, session: Session, residuals: Sequence[Any], values: Any) -> Any:
        nodes = self.takes.matched(session, values, self.name)
        nodes += [as_tracer(session, r).node for r in residuals]
        found = iter(replay(self.graph, nodes))
        return self.gives.made(session, [next(found) if k else None for k in self.known])




def _residuals(order: Sequence[Node], moving: set[Node], results: Sequence[Node]) -> list[Node]:
    """The values that the moving part reads and that are no constants."""
    read = [i for n in order if n in moving for i in n.inputs if i not in moving]
    read += [r for r in results if r not in moving]
    return [n for n in dict.fromkeys(read) if not _constant(n)]


def _constant(node: Node) -> bool:
    while node.op.family == "movement" and len(node.inputs) == 1:
        node = node.inputs[0]
    return node.op.family == "create" and node.op.name != "param"


def _closed(inputs: Sequence[Node], order: Sequence[Node], results: Sequence[Node]) -> Graph:
    """The part of a graph that leads from ``inputs`` to ``results``, with params of its own."""
    params = [
        Node(OPS["param"], (), {"name": f"p{k}", "aval": n.aval}, n.aval)
        for k, n in enumerate(inputs)
    ]
    return Graph(params, _rebuilt(results, dict(zip(inputs, params))))


def replay(graph: Graph, values: Sequence[Node]) -> list[Node]:
    """The outputs of a graph at other nodes."""
    return _rebuilt(graph.outputs, dict(zip(graph.params, values)))


def _rebuilt(outputs: Sequence[Node], known: dict[Node, Node]) -> list[Node]:
    env = dict(known)
    for node in toposort(outputs, known):
        if node not in env:
            inputs = tuple([env[i] for i in node.inputs])
            same = all(a is b for a, b in zip(inputs, node.inputs))
            env[node] = node if same else node.replace(inputs)
    return [env[o] for o in outputs]
