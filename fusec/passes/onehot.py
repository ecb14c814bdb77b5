"""Additions at places given by data that are a comparison instead: they fuse.

The gradient of ``logp[np.arange(n), labels]`` adds row ``i`` of the cotangent at column
``labels[i]`` of row ``i``. No two additions meet, so the result is
``where(labels[:, None] == arange(columns), g[:, None] + 0, 0)``: each place gets one addition to
the 0 that stood there, which makes 0.0 of -0.0, or none.
"""

from fusec.ir.aval import kind_of
from fusec.ir.graph import Node
from fusec.passes.access import broadcast_index, index_value, var
from fusec.passes.halves import widened
from fusec.passes.nodes import const_of, node_of, scalar, spread


def separate_additions(node: Node) -> Node | None:
    """``scatter_add`` to zeros where every axis of what is added is an axis of the result."""
    x, v, *indices = node.inputs
    if scalar(x) != 0 or v.aval.size == 0 or len(indices) != x.aval.ndim:
        return None
    axis_of = _axes(v, indices, x.shape)
    lengths = [n for k, n in enumerate(v.shape) if k not in axis_of.values()]
    if any(n != 1 for n in lengths):
        return None
    zero = const_of(scalar(x), v.dtype)
    value = _placed(v, v, axis_of, x.shape)
    if kind_of(v.dtype) in "fc":
        added = node_of("add", value, zero)
        value = widened(added) or added
    value, zero = spread(value, x.shape), spread(zero, x.shape)
    for k, index in enumerate(indices):
        if k in axis_of:
            continue
        line = node_of("iota", shape=(x.shape[k],), axis=0)
        line = _reshaped(line, (x.shape[k],) + (1,) * (x.aval.ndim - k - 1))
        here = node_of("equal", line, _placed(index, v, axis_of, x.shape))
        value = node_of("where", spread(here, x.shape), value, zero)
    return value


def whole_rows(node: Node) -> Node | None:
    """``scatter_add`` whose last index is every place of the last axis needs no such index."""
    x, v, *indices = node.inputs
    axis = len(indices) - 1
    behind = x.aval.ndim - len(indices)
    place = v.aval.ndim - 1 - behind
    if axis < 1 or place < 0 or v.shape[place] != x.shape[axis]:
        return None
    if _axes(v, indices, x.shape).get(axis) != place:
        return None
    lead = v.shape[:place]
    rest = []
    for index in indices[:-1]:
        if index.aval.ndim and index.shape[-1] != 1:
            return None
        kept = index.shape[:-1]
        rest.append(spread(_reshaped(index, kept), lead))
    return node_of("scatter_add", x, v, *rest)


def _axes(v: Node, indices: list[Node], shape: tuple[int, ...]) -> dict[int, int]:
    """Axis of the result -> the axis of ``v`` that runs along all of it."""
    idx = tuple([var(f"i{k}") for k in range(v.aval.ndim - len(shape) + len(indices))])
    extents = {f"i{k}": n for k, n in enumerate(v.shape)}
    lines = {var(f"i{k}"): k for k in range(v.aval.ndim)}
    found: dict[int, int] = {}
    for axis, (index, n) in enumerate(zip(indices, shape)):
        place = index_value(index, broadcast_index(idx, index.shape), n, extents)
        along = lines.pop(place, None)
        if along is not None and v.shape[along] == n:
            found[axis] = along
    return found


def _placed(
    node: Node, v: Node, axis_of: dict[int, int], shape: tuple[int, ...]
) -> Node:
    """``node``, broadcast like ``v``, with its axes where they are in the result."""
    node = spread(node, v.shape)
    order = [axis_of[k] for k in sorted(axis_of)]
    order += [k for k in range(v.aval.ndim) if k not in order]
    if order != sorted(order):
        node = node_of("transpose", node, perm=tuple(order))
    return _reshaped(node, tuple([n if k in axis_of else 1 for k, n in enumerate(shape)]))


def _reshaped(node: Node, shape: tuple[int, ...]) -> Node:
    return node if node.shape == shape else node_of("reshape", node, shape=shape)


def stored_in_order(node: Node) -> Node | None:
    """``scatter_flat`` as a kernel that stores one value after the other."""
    x, index, v = node.inputs
    made = node_of("scatter_set", _reshaped(x, (x.aval.size,)), v, index)
    return _reshaped(made, x.shape) if v.aval.size and v.shape == index.shape else None
