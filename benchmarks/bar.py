"""A bar: something that must hold, with the figure that was measured for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

HEADERS = ("what", "bar", "figure", "spread", "", "beside it")


@dataclass(frozen=True)
class Bar:
    """One measured figure.

    limit: the most the figure may be, None for a figure that is only reported. unit: of both.
    spread: width of the middle half of the rounds, relative. beside: what else was measured.
    """

    what: str
    figure: float
    limit: float | None
    unit: str = ""
    spread: float = 0.0
    beside: str = ""

    @property
    def passed(self) -> bool:
        return self.limit is None or self.figure <= self.limit

    def cells(self) -> tuple[str, ...]:
        """The row of the table."""
        verdict = "" if self.limit is None else "pass" if self.passed else "FAIL"
        limit = "" if self.limit is None else f"<= {self.limit:g} {self.unit}"
        figure = f"{self.figure:.3g} {self.unit}"
        return (self.what, limit, figure, f"{self.spread:.0%}", verdict, self.beside)


def rounds(values: Sequence[float]) -> tuple[float, float]:
    """Median and relative spread of several figures.

    >>> rounds([1.0, 2.0, 3.0])
    (2.0, 0.5)
    """
    low, middle, high = np.percentile(values, [25, 50, 75])
    return float(middle), float((high - low) / middle) if middle else 0.0
