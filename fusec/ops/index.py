"""Gather and scatter by data.

Every form of fancy indexing is index arithmetic (ordinary elementwise ops, bounds checked by
``wrap_index``) in front of one primitive: ``take_flat`` reads an array by its C-order position.
"""

from typing import Any

import numpy as np

from fusec.ir.aval import Aval
from fusec.ops.registry import MEDIUM, Op, register


def _take_flat(x: Any, index: Any) -> Any:
    return np.reshape(x, -1)[index] if np.size(x) else np.empty(np.shape(index), x.dtype)


def _scatter_flat(x: Any, index: Any, v: Any) -> Any:
    out = np.array(x, order="C")
    out.reshape(-1)[index] = v
    return out


take_flat = register(
    Op(
        name="take_flat",
        family="gather",
        impl=_take_flat,
        infer_aval=lambda x, index: Aval(index.shape, x.dtype),
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
