"""Reductions over axes, and scans along one axis.

A reduction drops its axes (``keepdims`` is a reshape) and has the dtype of its input: the tracer
casts first, as NumPy's accumulators do. Whatever NumPy builds from these (mean, var, argmax, the
nan- variants) the tracer builds too, so that one kernel can hold all of it.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from fusec.ir.aval import Aval
from fusec.ops.registry import CHEAP, Op, register

Axes = tuple[int, ...]


def _infer(x: Aval, axes: Axes) -> Aval:
    return Aval(tuple(n for k, n in enumerate(x.shape) if k not in axes), x.dtype)


def _reduction(name: str, ufunc: np.ufunc) -> Op:
    """State a reduction. Its kernel pieces are named after it: ``fold_<name>``, ``tree_<name>``."""

    def impl(x: Any, axes: Axes) -> Any:
        identity = IDENTITY[name](x.dtype) if x.size == 0 else np._NoValue
        return np.asarray(ufunc.reduce(x, axis=axes, dtype=x.dtype, initial=identity))

    return register(
        Op(name=f"reduce_{name}", family="reduce", impl=impl, infer_aval=_infer, cost=CHEAP)
    )


def _lowest(dtype: np.dtype) -> Any:
    if dtype.kind == "b":
        return False
    return -np.inf if dtype.kind == "f" else np.iinfo(dtype).min


def _highest(dtype: np.dtype) -> Any:
    if dtype.kind == "b":
        return True
    return np.inf if dtype.kind == "f" else np.iinfo(dtype).max


IDENTITY: dict[str, Callable[[np.dtype], Any]] = {
    "sum": lambda dtype: 0,
    "prod": lambda dtype: 1,
    "max": _lowest,
    "min": _highest,
    "fmax": _lowest,
    "fmin": _highest,
    "any": lambda dtype: False,
    "all": lambda dtype: True,
}
"""What a reduction of nothing gives."""

reduce_sum = _reduction("sum", np.add)
reduce_prod = _reduction("prod", np.multiply)
reduce_max = _reduction("max", np.maximum)
reduce_min = _reduction("min", np.minimum)
reduce_fmax = _reduction("fmax", np.fmax)
reduce_fmin = _reduction("fmin", np.fmin)
reduce_any = _reduction("any", np.logical_or)
reduce_all = _reduction("all", np.logical_and)


def _scan(name: str, ufunc: np.ufunc) -> Op:
    def impl(x: Any, axis: int) -> Any:
        return ufunc.accumulate(x, axis=axis, dtype=x.dtype)

    return register(Op(name=f"scan_{name}", family="scan", impl=impl, infer_aval=lambda x, axis: x))


scan_sum = _scan("sum", np.add)
scan_prod = _scan("prod", np.multiply)
scan_max = _scan("max", np.maximum)
scan_min = _scan("min", np.minimum)
