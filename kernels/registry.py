"""The table of the kernel suite: one statement per kernel.

A kernel is an ordinary NumPy function, so that the function that gets compiled is also the
reference it is checked against.  The decorator adds what a test or a benchmark needs besides:
how to make inputs of three sizes, the bytes and flops that can't be avoided, and the one thing
the kernel teaches about a compiler.  Nothing in this folder imports fusec.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]
Maker = Callable[[str, np.dtype, np.random.Generator], Any]

#: Sizes by name: about 1e3, 1e5 and 4e6 elements of work.
SIZES = ("S", "M", "L")
DTYPES = ("f4", "f8")

FLAT: Shapes = {"S": (1_000,), "M": (100_000,), "L": (4_000_000,)}
ROWS: Shapes = {"S": (16, 64), "M": (400, 256), "L": (4096, 1024)}
GRID: Shapes = {"S": (32, 32), "M": (320, 320), "L": (2048, 2048)}

_SUITE: dict[str, Kernel] = {}


@dataclass(frozen=True)
class Kernel:
    """A NumPy function with its inputs and its least possible cost.

    `bytes` and `flops` take the same arguments as the function.  Bytes count every input read
    once and every result written once; flops count one per arithmetic operation or math function.
    `rtol` maps a dtype to the relative error allowed against the float64 reference;
    `mismatch` is the share of integer results that rounding may move to a neighbour.
    """

    name: str
    family: str
    function: Callable[..., Any]
    inputs: Mapping[str, Maker]
    bytes: Callable[..., int]
    flops: Callable[..., int]
    teaches: str
    rtol: Mapping[str, float]
    mismatch: float = 0.0

    def args(self, size: str = "S", dtype: DTypeLike = "f4", seed: int = 0) -> tuple[Any, ...]:
        """Fresh arguments: the same size, dtype and seed always give the same values.

        >>> import kernels
        >>> kernels.get("gelu").args("S", "f4")[0].shape
        (1000,)
        """
        rng = np.random.default_rng(seed)
        return tuple(make(size, np.dtype(dtype), rng) for make in self.inputs.values())


def kernel(
    *,
    name: str,
    family: str,
    inputs: Mapping[str, Maker],
    bytes: Callable[..., int],
    flops: Callable[..., int],
    teaches: str,
    rtol: Mapping[str, float] | None = None,
    mismatch: float = 0.0,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register the decorated NumPy function; the function itself is returned unchanged."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        if name in _SUITE:
            raise ValueError(f"kernel {name!r} is registered twice")
        _SUITE[name] = Kernel(
            name=name,
            family=family,
            function=function,
            inputs=dict(inputs),
            bytes=bytes,
            flops=flops,
            teaches=teaches,
            rtol=rtol or {"f4": 2e-5, "f8": 1e-12},
            mismatch=mismatch,
        )
        return function

    return register


def suite(family: str | None = None) -> tuple[Kernel, ...]:
    """All kernels in the order of the files, or those of one family."""
    return tuple(k for k in _SUITE.values() if family is None or k.family == family)


def get(name: str) -> Kernel:
    """The kernel of that name; KeyError lists the names there are."""
    if name not in _SUITE:
        raise KeyError(f"no kernel {name!r}; there are: {', '.join(_SUITE)}")
    return _SUITE[name]


def normal(shapes: Shapes, scale: float = 1.0) -> Maker:
    """Normally distributed floats."""
    return lambda size, dtype, rng: (rng.standard_normal(shapes[size]) * scale).astype(dtype)


def uniform(shapes: Shapes, low: float, high: float) -> Maker:
    """Floats between `low` and `high`."""
    return lambda size, dtype, rng: rng.uniform(low, high, shapes[size]).astype(dtype)


def integers(shapes: Shapes, high: int) -> Maker:
    """Integers (int64) from 0 to `high - 1`."""
    return lambda size, dtype, rng: rng.integers(0, high, shapes[size])


def zeros(shapes: Shapes) -> Maker:
    """Zeros, for state that a step function starts from."""
    return lambda size, dtype, rng: np.zeros(shapes[size], dtype)


def scalar(value: float) -> Maker:
    """A Python number: weakly typed, as a user passes a rate or a step."""
    return lambda size, dtype, rng: value


def column(shapes: Shapes, axis: int) -> Shapes:
    """One axis of other shapes, as the shape of a vector: weights and biases."""
    return {size: (shape[axis],) for size, shape in shapes.items()}
