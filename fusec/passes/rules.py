"""Rewrite rules: constant folding and exact algebraic simplification.

A rule that holds for numbers may still change bits: ``x + 0`` loses -0.0, ``x * 0`` loses NaN. Only
what keeps every bit (or, for powers, stays within 2 ULP as the design allows) is here.
"""

import numpy as np

from fusec.ir.graph import Node
from fusec.ops import OPS
from fusec.ops.reduce import IDENTITY
from fusec.passes.access import index_value, var
from fusec.passes.groups import source_of
from fusec.passes.nodes import (
    const_of,
    element,
    meet,
    node_of,
    outside,
    reshaped,
    scalar,
    spans,
    spread,
)
from fusec.passes.onehot import separate_additions, whole_rows

MOST_POWER = 12  # the largest whole exponent that is written out; the math library has no more
FOLD_LIMIT = 64  # elements; larger constants are cheaper to compute again than to store


def fold_constants(node: Node) -> Node | None:
    """An op on constants alone becomes its value, computed by NumPy."""
    if not node.inputs or node.aval.size > FOLD_LIMIT or node.op.checked:
        return None
    if any(i.op.name != "const" or i.aval.size > FOLD_LIMIT for i in node.inputs):
        return None
    with np.errstate(all="ignore"):
        value = node.op.impl(*[i.attrs["value"].value for i in node.inputs], **node.attrs)
    return const_of(value, node.dtype)


def empty_reduction(node: Node) -> Node | None:
    """A reduction of nothing is its identity."""
    if node.inputs[0].aval.size or not node.aval.size:
        return None
    identity = IDENTITY[node.op.name.removeprefix("reduce_")](node.dtype)
    return spread(const_of(identity, node.dtype), node.shape)


def empty_inside(node: Node) -> Node | None:
    """Around nothing there is only padding."""
    x, fill = node.inputs
    return spread(fill, node.shape) if not x.aval.size else None


def same_cast(node: Node) -> Node | None:
    """A cast to the dtype it has, or a widening cast and back, is nothing."""
    x = node.inputs[0]
    if x.dtype == node.dtype:
        return x
    back = x.op.name == "cast" and x.inputs[0].dtype == node.dtype
    if node.dtype.kind in "iu" and node.dtype.itemsize == 8 and x.dtype.kind in "fc":
        return None  # "safe" for NumPy, but float64 has 53 bits
    return x.inputs[0] if back and np.can_cast(node.dtype, x.dtype, "safe") else None


def trivial_move(node: Node) -> Node | None:
    """A movement that moves nothing."""
    x = node.inputs[0]
    if node.op.name == "transpose":
        if node.attrs["perm"] == tuple(range(len(node.shape))):
            return x
        if x.op.name == "transpose":
            perm = tuple([x.attrs["perm"][p] for p in node.attrs["perm"]])
            return node_of("transpose", x.inputs[0], perm=perm)
        return None
    if node.op.name == "slice":
        whole = node.shape == x.shape and all(s == 1 for s in node.attrs["step"])
        return x if whole else _slice_of_slice(node, x)
    if node.shape == x.shape:
        return x
    if node.op.name == x.op.name:
        return node_of(node.op.name, x.inputs[0], shape=node.shape)
    return None


def _slice_of_slice(node: Node, x: Node) -> Node | None:
    if x.op.name != "slice":
        return None
    inner, outer = x.attrs, node.attrs
    start = tuple([b + s * o for b, s, o in zip(inner["start"], inner["step"], outer["start"])])
    step = tuple([s * o for s, o in zip(inner["step"], outer["step"])])
    return node_of("slice", x.inputs[0], start=start, step=step, shape=node.shape)


def whole_update(node: Node) -> Node | None:
    """An update of every element is the new value; of none, the old one."""
    x, v = node.inputs
    if v.aval.size == 0:
        return x
    if v.shape == x.shape and all(s == 1 for s in node.attrs["step"]):
        return v
    return None


def update_of_update(node: Node) -> Node | None:
    """A second update of the same region replaces the first."""
    x, v = node.inputs
    same = x.op.name == "slice_update" and dict(x.attrs) == dict(node.attrs)
    if same and x.inputs[1].shape == v.shape:
        return Node(node.op, (x.inputs[0], v), node.attrs, node.aval)
    return None


def slice_of_last_update(node: Node) -> Node | None:
    """Reading back exactly the region that was written last."""
    x = node.inputs[0]
    if x.op.name != "slice_update" or x.inputs[1].shape != node.shape:
        return None
    return x.inputs[1] if all(x.attrs[k] == node.attrs[k] for k in ("start", "step")) else None


def slice_of_update(node: Node) -> Node | None:
    """Reading back exactly the region that was written, or nothing of it."""
    x, part = node.inputs[0], spans(node)
    if x.op.name != "slice_update":
        return None
    while x.op.name == "slice_update" and (outside(x, part) or not meet(spans(x), part)):
        x = x.inputs[0]
    if x is not node.inputs[0]:
        return Node(node.op, (x,), node.attrs, node.aval)
    return slice_of_last_update(node)


def slice_of_element(node: Node) -> Node | None:
    """One element of what has been put together: the value that was put there."""
    if node.aval.size != 1:
        return None
    found = element(node.inputs[0], node.attrs["start"])
    itself = found.op.name == "slice" and found.inputs[0] is node.inputs[0]
    return None if itself else reshaped(found, node.shape)


def multiply_by_one(node: Node) -> Node | None:
    """``x * 1`` and ``x / 1`` are x, bit for bit."""
    a, b = node.inputs
    if scalar(b) == 1 and a.dtype == node.dtype and a.shape == node.shape and a.dtype.kind != "c":
        return a
    if node.op.name == "multiply" and scalar(a) == 1 and b.shape == node.shape:
        return b if b.dtype == node.dtype and b.dtype.kind != "c" else None
    return None


def small_power(node: Node) -> Node | None:
    """``x ** n`` for small whole n as products and quotients (within 2 ULP)."""
    x, n = node.inputs[0], scalar(node.inputs[1])
    if n is None or x.dtype != node.dtype or x.shape != node.shape or x.dtype.kind not in "fiu":
        return None
    if n == 1:
        return x
    if n == 0.5 and node.op.name == "scalar_power":
        return node_of("sqrt", x)
    if n == 2:
        return node_of("square", x)
    if n == 3:
        return node_of("multiply", node_of("square", x), x)
    if x.dtype.kind == "f" and n == -1:
        return node_of("reciprocal", x)
    if x.dtype.kind == "f" and 2 <= abs(n) <= MOST_POWER and n == int(n):
        name = "whole_power_" if n > 0 else "inverse_power_"
        return node_of(name, x, n=abs(int(n)))
    return None


def where_same(node: Node) -> Node | None:
    """Both choices equal, or a constant condition."""
    cond, a, b = node.inputs
    if a is b and a.shape == node.shape:
        return a
    known = scalar(cond)
    if known is not None:
        chosen = a if known else b
        return spread(chosen, node.shape)
    return None


def double_negation(node: Node) -> Node | None:
    x = node.inputs[0]
    return x.inputs[0] if x.op.name == node.op.name else None


def same_value(node: Node) -> Node | None:
    """What only differentiation told apart."""
    return node.inputs[0]


def custom_result(node: Node) -> Node | None:
    number: int = node.attrs["index"]
    return node.inputs[0].inputs[number]


def plain_product(node: Node) -> Node | None:
    """``scaled`` by a finite number that is not 0 is a product (up to the sign of a zero)."""
    g, d = node.inputs
    if g.dtype != d.dtype or node.dtype != d.dtype:
        return None
    for number in (scalar(g), scalar(d)):
        if number is not None and 0 < abs(number) < np.inf:
            return node_of("multiply", g, d)
    return None


def wrapped_twice(node: Node) -> Node | None:
    """An index in bounds stays what it is: checked before, or known."""
    index, n = node.inputs
    checked = source_of(index)
    if checked.op.name == "wrap_index" and checked.inputs[1] is n:
        return index
    idx = tuple([var(f"i{k}") for k in range(node.aval.ndim)])
    known = index_value(node, idx, 0, {f"i{k}": n for k, n in enumerate(node.shape)})
    return None if known.data() or node.shape != index.shape else index


FOLD = {name: [fold_constants] for name, op in OPS.items() if op.family == "elementwise"}
STORED = {
    "slice": [slice_of_last_update], "slice_update": [update_of_update], "identity": [same_value],
}  # fmt: skip
"""``x[t] += 1`` is two updates for Python, and reads in between; variables are identities."""
SIMPLIFY = {
    "cast": [same_cast],
    "transpose": [trivial_move],
    "reshape": [trivial_move],
    "broadcast_to": [trivial_move],
    "slice": [trivial_move, slice_of_update, slice_of_element],
    "pad": [empty_inside],
    "slice_update": [whole_update, update_of_update],
    "multiply": [multiply_by_one],
    "divide": [multiply_by_one],
    "power": [small_power],
    "scalar_power": [small_power],
    "where": [where_same],
    "negative": [double_negation],
    "invert": [double_negation],
    "logical_not": [],
    "identity": [same_value],
    "stop_gradient": [same_value],
    "custom_out": [custom_result],
    "scaled": [plain_product],
    "crossed": [plain_product],
    "wrap_index": [wrapped_twice],
    "scatter_add": [separate_additions, whole_rows],
    **{name: [empty_reduction] for name in OPS if name.startswith("reduce_")},
}
