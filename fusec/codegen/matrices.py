"""Matrices of a product as they lie in memory, and the batches that they are part of."""

from typing import NamedTuple

import numpy as np

from fusec.codegen.writer import Writer

Layout = tuple[tuple[int, ...], tuple[int, ...]]
Axis = tuple[int, int, int, int]  # of the batch: size, then steps of a, b and the result
NO_TURN, TURN = 111, 112  # CBLAS_TRANSPOSE


class Matrix(NamedTuple):
    """rows, columns; down, across: elements from row to row and from column to column."""

    rows: int
    columns: int
    down: int
    across: int

    @property
    def turned(self) -> "Matrix":
        return Matrix(self.columns, self.rows, self.across, self.down)

    @property
    def lead(self) -> int:
        """The leading dimension where rows are contiguous, else 0."""
        if self.columns > 1 and self.across != 1:
            return 0
        if self.rows == 1:
            return self.columns
        return self.down if self.down >= self.columns else 0

    @property
    def told(self) -> tuple[int, int]:
        """Transposition flag and leading dimension; the latter is 0 where BLAS has no words."""
        return (NO_TURN, self.lead) if self.lead else (TURN, self.turned.lead)


class Problem(NamedTuple):
    """``result = first @ second`` for every place of a batch.

    order: which operands these are, "ab" or, both turned, "ba".
    """

    first: Matrix
    second: Matrix
    result: Matrix
    order: str
    batch: list[Axis]
    dtype: np.dtype

    @property
    def work(self) -> int:
        """Multiplications of one product."""
        return self.first.rows * self.first.columns * self.result.columns

    @property
    def products(self) -> int:
        """How many there are."""
        return int(np.prod([size for size, *_ in self.batch], dtype=np.int64))

    @property
    def batch_ints(self) -> list[tuple[str, int]]:
        """The int arguments of the batch axes."""
        sizes = [(f"batch{i}", axis[0]) for i, axis in enumerate(self.batch)]
        return sizes + [(f"{x}_batch{i}", axis[j]) for i, axis in enumerate(self.batch)
                        for j, x in enumerate("aby", 1)]  # fmt: skip


def problem(a: Layout, b: Layout, out: Layout, dtype: np.dtype) -> Problem:
    """a, b, out: shape and strides (in elements), all with as many axes, none of length 0."""
    batch = _batch(a, b, out)
    first, second, result = [Matrix(*x[0][-2:], *x[1][-2:]) for x in (a, b, out)]
    if batch and _tall(first, result, batch[-1]):
        rows = first.rows * batch.pop()[0]
        first, result = first._replace(rows=rows), result._replace(rows=rows)
    if result.rows == 1 or (result.columns > 1 and not result.lead):
        return Problem(second.turned, first.turned, result.turned, "ba", batch, dtype)
    return Problem(first, second, result, "ab", batch, dtype)


def _batch(a: Layout, b: Layout, out: Layout) -> list[Axis]:
    """The batch axes, joined where one step leads through both."""
    found: list[Axis] = []
    for axis, size in enumerate(out[0][:-2]):
        if size == 1:
            continue
        steps = [t[axis] if s[axis] > 1 else 0 for s, t in (a, b, out)]
        if found and all(last == step * size for last, step in zip(found[-1][1:], steps)):
            size *= found.pop()[0]
        found.append((size, *steps))  # type: ignore[arg-type]
    return found


def batch_places(w: Writer, axes: int) -> None:
    """Where the matrices of product ``number`` of a stack begin: ``a_at``, ``b_at``, ``y_at``."""
    w("rest = number")
    for name in "aby":
        w(f"{name}_at = 0")
    for axis in reversed(range(axes)):
        w(f"place = remainder(rest, batch{axis})")
        w(f"rest = quotient(rest, batch{axis})")
        for name in "aby":
            w(f"{name}_at += place * {name}_batch{axis}")


def _tall(first: Matrix, result: Matrix, axis: Axis) -> bool:
    """Whether a batch over one second matrix is just more rows of the first."""
    _, a, b, y = axis
    return b == 0 and a == first.rows * first.down and y == result.rows * result.down
