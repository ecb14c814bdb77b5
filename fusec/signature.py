"""What of a call's arguments a plan depends on."""

from __future__ import annotations

from typing import Any

import numpy as np

from fusec.runtime.array import Array
from fusec.trace.scalars import NUMBERS
from fusec.trace.standin import is_native
from fusec.trace.tree import TreeDef


def native_layout(x: Any) -> Any:
    """An array that kernels can read: aligned, native byte order, strides of whole elements."""
    if not isinstance(x, np.ndarray):
        return x
    if type(x) is not np.ndarray and type(x) is not np.memmap:
        raise TypeError(
            f"fusec takes plain NumPy arrays, not {type(x).__name__}: pass np.asarray(x)"
        )
    if is_native(x):
        return x
    made = x.astype(x.dtype.newbyteorder("="), order="K", copy=True)
    made.flags.writeable = x.flags.writeable
    return made


def signature(leaf: Any, x: Any, static: bool) -> Any:
    """What of a leaf, and of its form in native layout, a plan depends on."""
    if static:
        return ("static", type(x), repr(x) if type(x) in NUMBERS else x)  # 1, 1.0 and True; -0.0
    if isinstance(x, np.ndarray):
        return (leaf.dtype, x.shape, x.strides, x.flags.writeable)
    if type(x) in NUMBERS:
        return type(x)
    if isinstance(x, np.generic):
        return (x.dtype, "scalar")
    if isinstance(x, str | bytes | type(None)):
        return ("value", x)
    return type(x)


def device_key(name: str, leaves: list[Any], tree: TreeDef, static: frozenset[int]) -> Any:
    """What a plan on a device depends on."""
    signatures = [
        (x.dtype, x.shape, x.strides) if type(x) is Array else signature(x, x, k in static)
        for k, x in enumerate(leaves)
    ]
    return name, tree, tuple(signatures)
