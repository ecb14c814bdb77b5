"""float16: computed in float32 and rounded after every op, as NumPy's loops do.

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

from fusec.ir.graph import Node
from fusec.ops import OPS
from fusec.ops.elementwise import HALF, NOT_WIDE, OF_BITS
from fusec.ops.registry import Op
from fusec.passes.nodes import node_of

WIDE = np.dtype("f4")
TIES = frozenset({"maximum", "minimum", "fmax", "fmin"})
"""Of 0.0 and -0.0 NumPy takes the first in float16 and the second in float32."""
_REDUCED = ("sum", "max", "min", "fmax", "fmin")


def widened(node: Node) -> Node | None:
    """The same op in float32, between casts."""
    if HALF not in [i.dtype for i in node.inputs]:
        return None
    inputs = [node_of("cast", i, dtype=WIDE) if i.dtype == HALF else i for i in node.inputs]
    inputs = inputs[::-1] if node.op.name in TIES else inputs
    made = node_of(OPS[node.op.name], *inputs, **node.attrs)
    return node_of("cast", made, dtype=HALF) if node.dtype == HALF else made


def _computes(op: Op) -> bool:
    """Whether kernels have the op over float32."""
    return op.family == "elementwise" and "f" in op.expr and op.name not in OF_BITS | NOT_WIDE


HALVES = {
    **{name: [widened] for name, op in OPS.items() if _computes(op)},
    **{f"reduce_{name}": [widened] for name in _REDUCED},
}
