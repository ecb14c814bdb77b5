"""The table of the kernel suite: one statement per kernel.

A kernel is an ordinary NumPy function, so that the function that gets compiled is also the
reference it is checked against.  The decorator adds what a test or a benchmark needs besides:
how to make inputs of three sizes, the bytes and flops that can't be avoided, and the one thing
the kernel teaches about a compiler.  Nothing in this folder imports fusec.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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

#: One file of this folder each, in the order in which the suite lists them.
FAMILIES = (
    "elementwise", "reductions", "mapreduce", "rows", "scans", "stencils", "views", "gathers",
    "linalg", "programs", "recurrences",
)  # fmt: skip

#: What limits a perfect implementation at size L, float32, on a desktop processor.
BOUNDS = {
    "memory": "fewer than two operations for each byte that must move, and no math function, "
    "or less than one for every eight bytes",
    "arithmetic": "more operations than that, but of one instruction each",
    "transcendental": "one exp, log, tanh, pow or the like for every eight bytes or fewer",
    "latency": "operations of which each needs the one before (sums in NumPy's order), or reads at "
    "places that data choose all over an array",
    "blas": "nearly all operations are those of matrix products",
}

FLAT: Shapes = {"S": (1_000,), "M": (100_000,), "L": (4_000_000,)}
ROWS: Shapes = {"S": (16, 64), "M": (400, 256), "L": (4096, 1024)}
GRID: Shapes = {"S": (32, 32), "M": (320, 320), "L": (2048, 2048)}

_SUITE: dict[str, Kernel] = {}


@dataclass(frozen=True)
class Kernel:
    """A NumPy function with its inputs and its least possible cost.

    `bytes` and `flops` take the same arguments as the function.  Bytes count every input read
    once and every result written once; flops count one per arithmetic operation or math function.
    `bound` names what limits a perfect implementation (`BOUNDS`).
    `rtol` maps a dtype to the relative error allowed against the float64 reference;
    `mismatch` is the share of integer results that rounding may move to a neighbour.
    """

    name: str
    family: str
    bound: str
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
    bound: str,
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
        if family not in FAMILIES or bound not in BOUNDS:
            raise ValueError(f"kernel {name!r}: no family {family!r} or no bound {bound!r}")
        _SUITE[name] = Kernel(
            name=name,
            family=family,
            bound=bound,
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
    """All kernels, family by family, or those of one family."""
    families = FAMILIES if family is None else (family,)
    return tuple(k for name in families for k in _SUITE.values() if k.family == name)


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


def complex_normal(shapes: Shapes) -> Maker:
    """Complex numbers whose two parts have the dtype and a normal distribution."""

    def make(size: str, dtype: np.dtype, rng: np.random.Generator) -> Any:
        parts = rng.standard_normal((*shapes[size], 2)).astype(dtype)
        return parts.view(np.result_type(dtype, np.complex64))[..., 0]

    return make


def distribution(shapes: Shapes) -> Maker:
    """Positive floats whose sum is one."""

    def make(size: str, dtype: np.dtype, rng: np.random.Generator) -> Any:
        weight = rng.uniform(0.1, 1, shapes[size])
        return (weight / weight.sum()).astype(dtype)

    return make


def with_nans(make: Maker, share: float) -> Maker:
    """The floats of another maker, that share of them replaced by NaN."""

    def spoilt(size: str, dtype: np.dtype, rng: np.random.Generator) -> Any:
        values = make(size, dtype, rng)
        values[rng.random(values.shape) < share] = np.nan
        return values

    return spoilt


def integers(shapes: Shapes, high: int | Mapping[str, int], dtype: DTypeLike = "i8") -> Maker:
    """Integers from 0 to `high - 1` of one dtype; `high` may depend on the size."""

    def make(size: str, _: np.dtype, rng: np.random.Generator) -> Any:
        return rng.integers(0, high if isinstance(high, int) else high[size], shapes[size], dtype)

    return make


def bits(shapes: Shapes) -> Maker:
    """Random unsigned integers as wide as the dtype: uint32 for float32, uint64 for float64."""

    def make(size: str, dtype: np.dtype, rng: np.random.Generator) -> Any:
        unsigned = np.dtype(f"u{dtype.itemsize}")
        return rng.integers(0, np.iinfo(unsigned).max, shapes[size], unsigned, endpoint=True)

    return make


def several(makers: Sequence[Maker]) -> Maker:
    """A list with one array of each maker: a container as an argument."""
    return lambda size, dtype, rng: [make(size, dtype, rng) for make in makers]


def zeros(shapes: Shapes) -> Maker:
    """Zeros, for state that a step function starts from."""
    return lambda size, dtype, rng: np.zeros(shapes[size], dtype)


def scalar(value: float) -> Maker:
    """A Python number: weakly typed, as a user passes a rate or a step."""
    return lambda size, dtype, rng: value


def column(shapes: Shapes, axis: int) -> Shapes:
    """One axis of other shapes, as the shape of a vector: weights and biases."""
    return {size: (shape[axis],) for size, shape in shapes.items()}
