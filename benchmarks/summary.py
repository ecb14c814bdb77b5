"""What a run says as a whole: geometric means by what bounds the kernels, and the bars."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.suite import Row

#: Left out of "best peer" beside the strict form of Numba, which fastmath's form stands for.
RELAXED, STRICT = ("numba-strict",), ("numba",)
SMALL_OPERATIONS = 3
#: Families of which no kernel may be much slower than its best peer.
STEADY = ("elementwise", "reductions", "mapreduce", "rows", "stencils")
LARGE = ("M", "L")


def geometric_mean(values: Iterable[float]) -> float:
    """Of those that are numbers; nan for none.

    >>> float(round(geometric_mean([1.0, 4.0, float("nan")]), 3))
    2.0
    """
    kept = [v for v in values if v == v]
    return float(np.exp(np.mean(np.log(kept)))) if kept else float("nan")


def against_best(row: Row, but: Sequence[str] = RELAXED) -> float:
    """Time of the fastest peer over fusec's."""
    return row.ratio(row.best_peer(but))


@dataclass(frozen=True)
class Verdict:
    """One bar of a run: what was asked, what was found, and the rows that hold it back."""

    what: str
    least: float
    found: float
    worst: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        return not self.found < self.least

    def cells(self) -> tuple[str, ...]:
        found = "not measured" if self.found != self.found else f"{self.found:.2f}"
        word = "" if self.found != self.found else "pass" if self.passed else "FAIL"
        return self.what, f">= {self.least:g}", found, word, ", ".join(self.worst)


def _label(row: Row, value: float) -> str:
    return f"{row.kernel} {row.size} {row.dtype} {value:.2f}"


def _lowest(rows: Sequence[Row], value: Callable[[Row], float], below: float) -> tuple[str, ...]:
    """The rows under the bar, the lowest first."""
    found = sorted((value(row), row.kernel, row) for row in rows if value(row) < below)
    return tuple(_label(row, v) for v, _, row in found[:8])


def _mean(rows: Sequence[Row], what: str, least: float, *bounds: str) -> Verdict:
    kept = [r for r in rows if r.size in LARGE and (not bounds or r.bound in bounds)]
    found = geometric_mean(against_best(r) for r in kept)
    return Verdict(what, least, found, _lowest(kept, against_best, least / 1.5))


def _every(what: str, least: float, rows: Sequence[Row], value: Callable[[Row], float]) -> Verdict:
    values = [v for v in map(value, rows) if v == v]
    lowest = min(values, default=float("nan"))
    return Verdict(what, least, lowest, _lowest(rows, value, least))


def verdicts(rows: Sequence[Row]) -> list[Verdict]:
    """Every bar that these rows can speak of: ratios to the best peer, at M and L or as said."""
    steady = [r for r in rows if r.family in STEADY and r.size in LARGE]
    copies = [r for r in rows if r.bound == "memory" and r.copy_ms]
    small = [r for r in rows if r.size == "S" and r.operations >= SMALL_OPERATIONS]
    products = [r for r in rows if r.bound == "blas" and r.size in LARGE]
    return [
        _mean(rows, "arithmetic: geomean over best peer", 1.5, "arithmetic"),
        _mean(rows, "transcendental: geomean", 2.0, "transcendental"),
        _mean(rows, "memory, latency, BLAS: geomean", 0.97, "memory", "latency", "blas"),
        _mean(rows, "whole suite: geomean", 1.3),
        _every("each, but views, gathers, linalg, programs", 0.9, steady, against_best),
        _every("memory, L: share of a copy's bandwidth", 0.85, copies,
               lambda r: r.of_copy / 100),
        _every("S: each of 3 operations, but for Numba's", 1.0, small,
               lambda r: against_best(r, ("numba", "numba-strict"))),
        _every("matrix products: each, but for Numba's", 0.95, products,
               lambda r: against_best(r, ("numba", "numba-strict", "numexpr"))),
    ]  # fmt: skip


def group_cells(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """A line a size and dtype: geometric means against each contender and the best of them."""
    names = sorted({n for r in rows for n in r.times} - {"fusec"})
    lines = []
    for dtype in sorted({r.dtype for r in rows}):
        for size in sorted({r.size for r in rows}, key="SML".index):
            kept = [r for r in rows if (r.size, r.dtype) == (size, dtype)]
            means = [geometric_mean(r.ratio(n) for r in kept) for n in names]
            best = [geometric_mean(against_best(r, but) for r in kept) for but in (RELAXED, STRICT)]
            lines.append((size, dtype, str(len(kept)), *(f"{m:.2f}" for m in [*means, *best])))
    return lines


def group_headers(rows: Sequence[Row]) -> tuple[str, ...]:
    """Headers of `group_cells`."""
    names = sorted({n for r in rows for n in r.times} - {"fusec"})
    return "size", "dtype", "kernels", *names, "best peer", "best, strict Numba"
