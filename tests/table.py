"""Rows of the NumPy comparison, and the arrays they use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

INTS = ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8")
FLOATS = ("f4", "f8")
COMPLEX = ("c8", "c16")

#: Allowed of a sum of values of both signs; `test_sums_are_as_accurate_as_pairwise` is the measure.
SUM = {"f2": 1e-2, "f4": 2e-5, "f8": 5e-14, "c8": 2e-5, "c16": 5e-14}


@dataclass(frozen=True)
class Row:
    """One comparison with NumPy.

    `ulp` and `rel` allow a distance (see `oracle.check`), `refuse` allows one of fusec's own
    errors.
    """

    id: str
    fn: Callable[..., Any]
    args: tuple[Any, ...]
    ulp: float = 0
    rel: float = 0
    refuse: bool = False


class Table(list[Row]):
    """A list of rows that is filled by statements."""

    def row(self, id: str, fn: Callable[..., Any], *args: Any, **allowed: Any) -> None:
        """Add one row; ids are unique within a table."""
        if any(r.id == id for r in self):
            raise ValueError(f"row {id!r} is there already")
        self.append(Row(id, fn, args, **allowed))


def ramp(dtype: str, *shape: int) -> np.ndarray:
    """Different values of both signs (where there are any), in no special order."""
    shape = shape or (12,)
    n = int(np.prod(shape, dtype=int))
    values = (np.arange(n) * 7 + 3) % 23 - (0 if np.dtype(dtype).kind in "ub" else 11)
    if np.dtype(dtype).kind in "fc":
        values = values * 0.37
    if np.dtype(dtype).kind == "c":
        values = values + 1j * values[::-1] * 0.5
    if np.dtype(dtype).kind == "b":
        values = values % 3 == 0
    return values.astype(dtype).reshape(shape)


def positive(dtype: str, *shape: int) -> np.ndarray:
    """As `ramp`, but between 0.2 and 4."""
    return (np.abs(ramp("f8", *shape)) + 0.2).astype(dtype)


def extremes(dtype: str) -> np.ndarray:
    """Values near the ends of an integer type, and around zero."""
    info = np.iinfo(dtype)
    middle = [0, 1, 2, 3, 7, 100]
    if info.min < 0:
        middle += [-1, -2, -3, -7, -100]
    return np.array([info.min, info.min + 1, info.max, info.max - 1, *middle], dtype)


def near_multiples(dtype: str, count: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """(x, y) of all sizes, with x next to a multiple of y: where a quotient is rounded wrongly."""
    rng, info = np.random.default_rng(5), np.iinfo(dtype)
    drawn = rng.integers(info.min, info.max, (2, count), dtype, endpoint=True)
    x, y = drawn >> rng.integers(0, info.bits, (2, count)).astype(dtype)
    y = np.where(y == 0, np.array(1, dtype), y)
    with np.errstate(over="ignore"):
        return (x // y) * y + rng.integers(0, 3, count).astype(dtype) - np.array(1, dtype), y


def special(dtype: str) -> np.ndarray:
    """nan, infinities, both zeros, subnormals and the largest values, besides plain ones."""
    info = np.finfo(dtype)
    values = [
        np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 0.5, -2.5, 1.5, 3.0, 10.0, -8.0,
        info.tiny, -info.tiny, info.smallest_subnormal, -info.smallest_subnormal,
        info.max, info.min, info.eps,
    ]  # fmt: skip
    return np.array(values, dtype)


def pairs(values: np.ndarray, others: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Every value with each of the others (its own by default): two equally long arrays."""
    others = values if others is None else others
    return np.repeat(values, len(others)), np.tile(others, len(values))


def read_only(a: np.ndarray) -> np.ndarray:
    """A copy that can't be written."""
    a = a.copy()
    a.flags.writeable = False
    return a


def misaligned(a: np.ndarray) -> np.ndarray:
    """A copy that starts at an odd address."""
    raw = np.empty(a.nbytes + 1, np.uint8)
    out = raw[1:].view(a.dtype).reshape(a.shape)
    out[...] = a
    return out


def layouts(dtype: str, *shape: int) -> dict[str, np.ndarray]:
    """The same values in every memory layout NumPy has; `shape` has two axes."""
    a = ramp(dtype, *shape)
    m, n = shape
    wide = np.zeros((2 * m, 3 * n), dtype)
    wide[::2, 1::3] = a
    return {
        "contiguous": a,
        "strided": wide[::2, 1::3],
        "reversed": a[::-1, ::-1].copy()[::-1, ::-1],
        "negative-rows": a[::-1].copy()[::-1],
        "fortran": np.asfortranarray(a),
        "stride-0-rows": np.broadcast_to(a[0], shape),
        "stride-0-columns": np.broadcast_to(a[:, :1], shape),
        "byte-swapped": a.astype(a.dtype.newbyteorder("S")),
        "misaligned": misaligned(a),
        "read-only": read_only(a),
        "size-0": a[:0],
    }
