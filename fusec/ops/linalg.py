"""Matrix products: whole-array calls that go to the BLAS NumPy was built with."""

from typing import Any

import numpy as np

from fusec.ir.aval import Aval, is_bfloat
from fusec.ops.registry import COSTLY, Op, register


def _infer_matmul(a: Aval, b: Aval) -> Aval:
    """Operands have at least two axes; the tracer reshapes vectors.

    NumPy multiplies bfloat16 as float32.
    """
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    dtype = np.dtype("f4") if is_bfloat(a.dtype) else a.dtype
    return Aval((*batch, a.shape[-2], b.shape[-1]), dtype)


def _matmul(a: Any, b: Any) -> Any:
    return np.matmul(a, b)


def _product(a: Any, b: Any) -> Any:
    """``a @ b``; outer products are elementwise, so that they fuse."""
    return a * b if a.shape[-1] == 1 else np.matmul(a, b)


def _left_vjp(g: Any, y: Any, a: Any, b: Any) -> Any:
    return _product(g, np.swapaxes(b, -1, -2))


def _right_vjp(g: Any, y: Any, a: Any, b: Any) -> Any:
    """One product where ``b`` is a single matrix: what is stacked are more rows of ``a``."""
    if b.ndim == 2 and a.ndim > 2:
        a, g = a.reshape((-1, a.shape[-1])), g.reshape((-1, g.shape[-1]))
    return _product(np.swapaxes(a, -1, -2), g)


matmul = register(
    Op(
        name="matmul",
        family="library",
        impl=_matmul,
        infer_aval=_infer_matmul,
        vjp=(_left_vjp, _right_vjp),
        cost=COSTLY,
    )
)
