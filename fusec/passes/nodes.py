"""Nodes as rewrite rules make them."""

from typing import Any

import numpy as np

from fusec.ir.aval import Aval
from fusec.ir.graph import Literal, Node, toposort
from fusec.ops import OPS
from fusec.ops.registry import Op


def node_of(op: str | Op, *inputs: Node, **attrs: object) -> Node:
    """A node without a location: the rewriter gives it that of the node it replaces."""
    op = OPS[op] if isinstance(op, str) else op
    return Node(op, inputs, attrs, op.infer_aval(*[i.aval for i in inputs], **attrs))


def const_of(value: object, dtype: np.dtype) -> Node:
    literal = Literal(np.array(value, dtype))
    return Node(OPS["const"], (), {"value": literal}, Aval(literal.value.shape, dtype))


def scalar(node: Node) -> Any:
    """The value of a constant that is one number spread over a shape, else None."""
    while node.op.name in ("broadcast_to", "reshape"):
        node = node.inputs[0]
    if node.op.name == "const" and node.aval.size == 1:
        return node.attrs["value"].value.reshape(())[()]
    return None


def spread(node: Node, shape: tuple[int, ...]) -> Node:
    return node if node.shape == shape else node_of("broadcast_to", node, shape=shape)


def spans(node: Node) -> list[range]:
    """The places that a slice reads, or an update changes, along each axis."""
    shape = node.inputs[1].shape if node.op.name == "slice_update" else node.shape
    places = zip(node.attrs["start"], node.attrs["step"], shape)
    return [range(b, b + n * s, s) for b, s, n in places]


def meet(first: list[range], second: list[range]) -> bool:
    """Whether two parts of an array have an element in common; at worst said of some that don't."""

    def along(a: range, b: range) -> bool:
        apart = not (a and b) or max(min(a), min(b)) > min(max(a), max(b))
        return not apart and (abs(a.step) != abs(b.step) or (a.start - b.start) % a.step == 0)

    return all(along(a, b) for a, b in zip(first, second))


def distinct(shape: tuple[int, ...], strides: tuple[int, ...], itemsize: int) -> bool:
    """Whether no two elements of an array share memory."""
    reach = itemsize
    for step, n in sorted((abs(s), n) for s, n in zip(strides, shape) if n > 1):
        if step < reach:
            return False
        reach = step * (n - 1) + reach
    return True


def elementwise(param: Node, result: Node) -> bool:
    """Whether element i of ``result``, in C order, needs no element of ``param`` but i."""
    needing: set[Node] = {param}
    for node in toposort([result]):
        if any(i in needing for i in node.inputs):
            alike = node.op.family == "elementwise" or node.op.name in ("reshape", "broadcast_to")
            if not alike or node.aval.size != param.aval.size:
                return False
            needing.add(node)
    return True
