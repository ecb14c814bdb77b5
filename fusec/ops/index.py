"""Gather and scatter by data.

Every form of fancy indexing is one primitive: ``gather`` reads an array at one index per axis. The
indices are ordinary nodes, their bounds checked by ``wrap_index``. Its derivative is
``scatter_add``, which adds in the order of the elements, so that its bits are always the same.
"""

from typing import Any

import numpy as np

from fusec.ir.aval import Aval
from fusec.ops.registry import MEDIUM, NONDIFFERENTIABLE, Op, register
from fusec.ops.shape import positions


def _gather(x: Any, *indices: Any, shape: tuple[int, ...]) -> Any:
    return np.broadcast_to(x[tuple(indices)], shape)


def _scatter_flat(x: Any, index: Any, v: Any) -> Any:
    out = np.array(x, order="C")
    out.reshape(-1)[index] = v
    return out


def _scatter_set(x: Any, v: Any, indices: Any) -> Any:
    out = np.array(x, order="C")
    out[indices] = v
    return out


def _scatter_add(x: Any, v: Any, *indices: Any, joined: bool = False) -> Any:
    out = np.array(x, order="C")
    lead, tail = x.shape[: len(indices)], x.shape[len(indices) :]
    places = np.broadcast_to(np.ravel_multi_index(np.broadcast_arrays(*indices), lead),
                             v.shape[: v.ndim - len(tail)])  # fmt: skip
    np.add.at(out.reshape(-1, *tail), places.reshape(-1), v.reshape(-1, *tail))
    return out


def _gather_vjp(k: int) -> Any:
    def rule(g: Any, y: Any, x: Any, *indices: Any, shape: tuple[int, ...]) -> Any:
        grad = np.zeros_like(g, shape=x.shape)
        np.add.at(grad, indices, g)
        return grad

    return rule if k == 0 else None


def _added_vjp(k: int) -> Any:
    if k == 0:
        return lambda g, y, *inputs: g
    return (lambda g, y, x, v, *indices: g[indices]) if k == 1 else None


def _overwritten(g: Any, y: Any, x: Any, index: Any, v: Any) -> Any:
    kept = g.copy()
    kept.reshape(-1)[index] = 0
    return kept


def _written(g: Any, y: Any, x: Any, index: Any, v: Any) -> Any:
    """What was written last at a position, and is therefore seen."""
    number = np.reshape(positions(np.reshape(v, -1), 0), v.shape)
    last = np.zeros_like(number, shape=(x.size,))
    last[index] = number
    return np.where(last[index] == number, np.reshape(g, -1)[index], 0)


# One index per axis of x, broadcast together to ``shape``; in bounds (see ``wrap_index``). An index
# that is an ``iota`` is a loop variable, so slices and fancy indices mix at no cost.
gather = register(
    Op(
        name="gather",
        family="gather",
        impl=_gather,
        infer_aval=lambda x, *indices, shape: Aval(shape, x.dtype),
        vjp=_gather_vjp,
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
        vjp=(_overwritten, None, _written),
    )
)
# The same as a kernel in order, with one index for each axis of x: what it becomes on a CPU.
scatter_set = register(
    Op(
        name="scatter_set",
        family="scatter",
        impl=lambda x, v, *indices, joined=False: _scatter_set(x, v, indices),
        infer_aval=lambda x, v, *indices, joined=False: x,
        vjp=NONDIFFERENTIABLE,
    )
)
# ``x`` with every element of ``v`` added at its indices, one for each axis of x, in bounds. The
# last axes may have none: then whole rows are added. A kernel loops over ``v``.
scatter_add = register(
    Op(
        name="scatter_add",
        family="scatter",
        impl=_scatter_add,
        infer_aval=lambda x, v, *indices, joined=False: x,
        vjp=_added_vjp,
    )
)
