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


def element(x: Node, place: tuple[int, ...]) -> Node:
    """What computes one element of a value, also where that has been put together of others."""
    while x.aval.size > 1:
        name, inner = x.op.name, x.inputs[0] if x.inputs else x
        if name == "reshape":
            flat = np.ravel_multi_index(place, x.shape)
            place = tuple(map(int, np.unravel_index(flat, inner.shape)))
        elif name == "slice":
            place = tuple([part[k] for part, k in zip(spans(x), place)])
        elif name == "slice_update":
            parts = spans(x)
            if all(k in part for part, k in zip(parts, place)):
                inner = x.inputs[1]
                place = tuple([part.index(k) for part, k in zip(parts, place)])
        elif name == "concatenate":
            axis, inputs = x.attrs["axis"], iter(x.inputs)
            inner = next(inputs)
            while place[axis] >= inner.shape[axis]:
                moved = place[axis] - inner.shape[axis]
                place, inner = (*place[:axis], moved, *place[axis + 1 :]), next(inputs)
        else:
            ones = (1,) * x.aval.ndim
            return node_of("slice", x, start=place, step=ones, shape=ones)
        x = inner
    return x


def reshaped(node: Node, shape: tuple[int, ...]) -> Node:
    """The same elements in another shape."""
    while node.op.name == "reshape" and node.shape != shape:
        node = node.inputs[0]
    return node if node.shape == shape else node_of("reshape", node, shape=shape)


def meet(first: list[range], second: list[range]) -> bool:
    """Whether two parts of an array have an element in common; at worst said of some that don't."""

    def along(a: range, b: range) -> bool:
        if not (a and b):
            return False
        (first, last), (least, most) = (sorted((part[0], part[-1])) for part in (a, b))
        near = first <= most and least <= last
        return near and (abs(a.step) != abs(b.step) or (a.start - b.start) % a.step == 0)

    return all(along(a, b) for a, b in zip(first, second))


def outside(update: Node, part: list[range]) -> bool:
    """Whether an update ends before a part begins, or the other way round, along some axis.

    That is soon told, and of the updates of a loop there may be many.
    """
    places = zip(update.attrs["start"], update.attrs["step"], update.inputs[1].shape, part)
    for start, step, n, span in places:
        if step > 0 < span.step and (start >= span.stop or start + (n - 1) * step < span.start):
            return True
    return False


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
