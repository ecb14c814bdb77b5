"""Gather and scatter by data.

Every form of fancy indexing is one primitive: ``gather`` reads an array at one index per axis. The
indices are ordinary nodes, their bounds checked by ``wrap_index``.
"""

from typing import Any

import numpy as np

from fusec.ir.aval import Aval
from fusec.ops.registry import MEDIUM, Op, register


def _gather(x: Any, *indices: Any, shape: tuple[int, ...]) -> Any:
    return np.broadcast_to(x[tuple(indices)], shape)


def _scatter_flat(x: Any, index: Any, v: Any) -> Any:
    out = np.array(x, order="C")
    out.reshape(-1)[index] = v
    return out


# One index per axis of x, broadcast together to ``shape``; in bounds (see ``wrap_index``). An index
# that is an ``iota`` is a loop variable, so slices and fancy indices mix at no cost.
gather = register(
    Op(
        name="gather",
        family="gather",
        impl=_gather,
        infer_aval=lambda x, *indices, shape: Aval(shape, x.dtype),
        cost=MEDIUM,
    )
)
# The last of equal positions wins, as in NumPy: it runs in order, as a step of its own.
scatter_flat = register(
    Op(
        name="scatter_flat",
        family="library",
        impl=_scatter_flat,
        infer_aval=lambda x, index, v: x,
    )
)
