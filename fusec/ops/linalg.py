"""Matrix products: whole-array calls that go to the BLAS NumPy was built with."""

from typing import Any

import numpy as np

from fusec.ir.aval import Aval
from fusec.ops.registry import COSTLY, Op, register


def _infer_matmul(a: Aval, b: Aval) -> Aval:
    """Operands have at least two axes; the tracer reshapes vectors."""
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    return Aval((*batch, a.shape[-2], b.shape[-1]), a.dtype)


def _matmul(a: Any, b: Any) -> Any:
    return np.matmul(a, b)


matmul = register(
    Op(name="matmul", family="library", impl=_matmul, infer_aval=_infer_matmul, cost=COSTLY)
)
