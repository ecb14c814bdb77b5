"""The op table. Importing this package registers every op."""

from fusec.ops import (  # noqa: F401
    control,
    custom,
    elementwise,
    host,
    index,
    linalg,
    recurrence,
    reduce,
    shape,
)
from fusec.ops.registry import BY_UFUNC, OPS, Op

__all__ = ["BY_UFUNC", "OPS", "Op"]
