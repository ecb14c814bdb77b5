"""float16 and bfloat16: computed in float32 and rounded after every op, as NumPy's loops do.

A node over float16 becomes casts around the same op over float32::

    %0: f2[8] = multiply(x, y)

    %0: f4[8] = cast(x)
    %1: f4[8] = cast(y)
    %2: f4[8] = multiply(%0, %1)
    %3: f2[8] = cast(%2)

Products and running sums along an axis are left to NumPy, which rounds after every element; a sum
is rounded once, like the rows that NumPy adds in pairs. Matrix products keep their dtype: NumPy and
the GPU's kernels add them up in float32.
"""

import numpy as np

from fusec.ir.aval import is_bfloat, kind_of
from fusec.ir.graph import Node
from fusec.ops import OPS
from fusec.ops.elementwise import NOT_WIDE, OF_BITS, is_narrow
from fusec.ops.registry import Op
from fusec.passes.access import MOVES
from fusec.passes.nodes import node_of

WIDE = np.dtype("f4")
TIES = frozenset({"maximum", "minimum", "fmax", "fmin"})
"""Of 0.0 and -0.0 NumPy takes the first in float16, the second in float32 and bfloat16."""
_REDUCED = ("sum", "max", "min", "fmax", "fmin")


def widened(node: Node) -> Node | None:
    """The same op in float32, between casts."""
    if not any(is_narrow(i.dtype) for i in node.inputs):
        return None
    inputs = [node_of("cast", i, dtype=WIDE) if is_narrow(i.dtype) else i for i in node.inputs]
    name, bfloat = node.op.name, is_bfloat(node.dtype)
    inputs = inputs[::-1] if name in TIES and not bfloat else inputs
    made = node_of(OPS[name], *inputs, **node.attrs)
    if name == "sign" and bfloat:
        made = node_of("copysign", made, *inputs)  # ml_dtypes keeps the sign of -0.0
    return node_of("cast", made, dtype=node.dtype) if is_narrow(node.dtype) else made


def bound_wins(node: Node) -> Node | None:
    """``clip`` as it chooses between 0.0 and -0.0: x, but the bound if that is an array.

    In float16 it is always x, as the ties of ``maximum`` and ``minimum`` are there.
    """
    x, low, high = node.inputs
    size = max(low.aval.size, high.aval.size)
    shapes = {i.shape for i in node.inputs if i.shape}  # NumPy has a short way for one element
    arrays = size > 1 or (node.aval.size == len(shapes) == 1 and low.aval.ndim + high.aval.ndim > 0)
    if kind_of(node.dtype) != "f" or not (arrays or is_narrow(node.dtype)):
        return None
    return node_of("minimum", node_of("maximum", x, low), high)


def narrow_product(node: Node) -> Node | None:
    """A product of bfloat16 reads it: its elements multiply exactly, and sums are float32 anyway.

    For targets that have such products.
    """
    found = [_unwidened(i) for i in node.inputs]
    return None if None in found else node_of("matmul", *found)  # type: ignore[arg-type]


def _unwidened(node: Node) -> Node | None:
    """The bfloat16 that ``node`` was cast from, with the same axes."""
    if node.op.name == "cast" and is_bfloat(node.inputs[0].dtype):
        return node.inputs[0]
    inner = _unwidened(node.inputs[0]) if node.op.name in MOVES else None
    return None if inner is None else node_of(node.op.name, inner, **node.attrs)


def _computes(op: Op) -> bool:
    """Whether kernels have the op over float32."""
    return op.family == "elementwise" and "f" in op.expr and op.name not in OF_BITS | NOT_WIDE


HALVES = {
    **{name: [widened] for name, op in OPS.items() if _computes(op)},
    "clip": [bound_wins, widened],
    **{f"reduce_{name}": [widened] for name in _REDUCED},
}
