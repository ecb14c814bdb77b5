"""What is known of a value before it exists: its shape and dtype, and nothing more."""

import math
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
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    def __repr__(self) -> str:
        return f"{short(self.dtype)}[{','.join(map(str, self.shape))}]"


def short(dtype: np.dtype) -> str:
    """The dtype as two letters: ``f4``, ``i8``, ``b1``; ``bf2`` is bfloat16."""
    if is_bfloat(dtype):
        return "bf2"
    return dtype.str[1:] if dtype.kind in "biufcSUV" else dtype.name


def is_bfloat(dtype: np.dtype) -> bool:
    """Whether it is bfloat16, which NumPy knows from ``ml_dtypes``."""
    return dtype.kind == "V" and dtype.name == "bfloat16"


def kind_of(dtype: np.dtype) -> str:
    """The dtype's kind, as NumPy has it; ``f`` for bfloat16.

    >>> kind_of(np.dtype("u2"))
    'u'
    """
    return "f" if is_bfloat(dtype) else dtype.kind


def is_number(dtype: np.dtype) -> bool:
    """Whether kernels may know it: numbers and booleans, but no long doubles."""
    return kind_of(dtype) in "biufc" and dtype.char not in "gG"
