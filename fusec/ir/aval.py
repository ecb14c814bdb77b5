"""What is known of a value before it exists: its shape and dtype, and nothing more."""

from typing import NamedTuple

import numpy as np


class Aval(NamedTuple):
    """Shape and dtype of a value. Device and layout belong to the plan.

    >>> Aval((4, 3), np.dtype("f4"))
    f4[4,3]
    """

    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        size = 1
        for n in self.shape:
            size *= n
        return size

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    def __repr__(self) -> str:
        return f"{short(self.dtype)}[{','.join(map(str, self.shape))}]"


def short(dtype: np.dtype) -> str:
    """The dtype as two letters: ``f4``, ``i8``, ``b1``."""
    return dtype.str[1:] if dtype.kind in "biufcSUV" else dtype.name
