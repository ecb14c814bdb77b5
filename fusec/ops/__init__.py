"""The op table. Importing this package registers every op."""

from fusec.ops import control, custom, elementwise, host, index, linalg, reduce, shape  # noqa: F401
from fusec.ops.registry import BY_UFUNC, OPS, Op

__all__ = ["BY_UFUNC", "OPS", "Op"]
