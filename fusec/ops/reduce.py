"""Reductions over axes, and scans along one axis.

A reduction drops its axes (``keepdims`` is a reshape) and has the dtype of its input: the tracer
casts first, as NumPy's accumulators do. Whatever NumPy builds from these (mean, var, argmax, the
nan- variants) the tracer builds too, so that one kernel can hold all of it.

Derivatives: ties of an extreme share evenly; a running extreme belongs to the last of equals. A
product is never divided by, so that zeros have their derivatives of every order.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from fusec.ir.aval import Aval, kind_of
from fusec.ops.registry import CHEAP, NONDIFFERENTIABLE, Op, register
from fusec.ops.shape import positions

Axes = tuple[int, ...]


def _infer(x: Aval, axes: Axes) -> Aval:
    return Aval(tuple(n for k, n in enumerate(x.shape) if k not in axes), x.dtype)


def _reduction(name: str, ufunc: np.ufunc, vjp: Any) -> Op:
    """State a reduction. Its kernel pieces are named after it: ``fold_<name>``, ``tree_<name>``."""

    def impl(x: Any, axes: Axes) -> Any:
        identity = IDENTITY[name](x.dtype) if x.size == 0 else np._NoValue
        return np.asarray(ufunc.reduce(x, axis=axes, dtype=x.dtype, initial=identity))

    return register(
        Op(
            name=f"reduce_{name}",
            family="reduce",
            impl=impl,
            infer_aval=_infer,
            vjp=vjp,
            cost=CHEAP,
        )
    )


def _lowest(dtype: np.dtype) -> Any:
    if dtype.kind == "b":
        return False
    if dtype.kind == "c":
        return complex(-np.inf, -np.inf)
    return -np.inf if kind_of(dtype) == "f" else np.iinfo(dtype).min


def _highest(dtype: np.dtype) -> Any:
    if dtype.kind == "b":
        return True
    if dtype.kind == "c":
        return complex(np.inf, np.inf)
    return np.inf if kind_of(dtype) == "f" else np.iinfo(dtype).max


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


def _sum_vjp(g: Any, y: Any, x: Any, axes: Axes) -> Any:
    return np.broadcast_to(np.expand_dims(g, axes), x.shape)


def _extreme_vjp(g: Any, y: Any, x: Any, axes: Axes) -> Any:
    wins = x == np.expand_dims(y, axes)
    share = g / np.sum(wins, axis=axes).astype(g.dtype)
    return np.where(wins, np.expand_dims(share, axes), 0)


def _prod_vjp(g: Any, y: Any, x: Any, axes: Axes) -> Any:
    """Each element's is the product of those before it and of those behind it."""
    last = tuple(range(x.ndim - len(axes), x.ndim))
    moved = np.moveaxis(x, axes, last)
    line = moved.reshape((*moved.shape[: x.ndim - len(axes)], y.size and x.size // y.size))
    others = _before(line) * _before(line[..., ::-1])[..., ::-1]
    grad = np.expand_dims(g, -1) * others
    return np.moveaxis(grad.reshape(moved.shape), last, axes)


def _before(line: Any) -> Any:
    """The product of all elements in front of each, along the last axis."""
    return np.cumprod(np.concatenate([np.ones_like(line[..., :1]), line[..., :-1]], -1), -1)


reduce_sum = _reduction("sum", np.add, (_sum_vjp,))
reduce_prod = _reduction("prod", np.multiply, (_prod_vjp,))
reduce_max = _reduction("max", np.maximum, (_extreme_vjp,))
reduce_min = _reduction("min", np.minimum, (_extreme_vjp,))
reduce_fmax = _reduction("fmax", np.fmax, (_extreme_vjp,))
reduce_fmin = _reduction("fmin", np.fmin, (_extreme_vjp,))
reduce_any = _reduction("any", np.logical_or, NONDIFFERENTIABLE)
reduce_all = _reduction("all", np.logical_and, NONDIFFERENTIABLE)


def _scan(name: str, ufunc: np.ufunc, vjp: Any) -> Op:
    def impl(x: Any, axis: int) -> Any:
        return ufunc.accumulate(x, axis=axis, dtype=x.dtype)

    return register(
        Op(
            name=f"scan_{name}",
            family="scan",
            impl=impl,
            infer_aval=lambda x, axis: x,
            vjp=(vjp,),
        )
    )


def _scan_sum_vjp(g: Any, y: Any, x: Any, axis: int) -> Any:
    return np.flip(np.cumsum(np.flip(g, axis), axis, dtype=g.dtype), axis)


def _scan_prod_vjp(g: Any, y: Any, x: Any, axis: int) -> Any:
    """The elements before, times ``s[k] = g[k] + x[k+1] * s[k+1]``, which doubling solves."""
    line, s = np.moveaxis(x, axis, -1), np.moveaxis(g, axis, -1)
    n, step = int(line.shape[-1]), 1
    factor = _later(line, 1)
    while step < n:
        s = s + factor * _later(s, step)
        factor = factor * _later(factor, step)
        step *= 2
    return np.moveaxis(_before(line) * s, -1, axis)


def _later(x: Any, n: int) -> Any:
    """``x[k + n]`` at k, 0 beyond the end."""
    return np.concatenate([x[..., n:], np.zeros_like(x[..., :n])], -1)


def _scan_extreme_vjp(g: Any, y: Any, x: Any, axis: int) -> Any:
    taken = np.where(x == y, positions(x, axis), 0)
    index = [positions(x, k) for k in range(x.ndim)]
    index[axis] = np.maximum.accumulate(taken, axis)
    grad = np.zeros_like(g)
    np.add.at(grad, tuple(index), g)
    return grad


scan_sum = _scan("sum", np.add, _scan_sum_vjp)
scan_prod = _scan("prod", np.multiply, _scan_prod_vjp)
scan_max = _scan("max", np.maximum, _scan_extreme_vjp)
scan_min = _scan("min", np.minimum, _scan_extreme_vjp)
