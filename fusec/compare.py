"""Values of NumPy against values of fusec: how far apart they may be, and how far they are.

- bitwise, where everything behind a value is exact (arithmetic, comparisons, casts, integers);
- 4 ULP, where one transcendental function stands behind it, last;
- else 1e-5 in single, 1e-12 in double precision, relative to the largest magnitude of the array or
  to what was added up to it (see ``scales``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fusec.device_plan import device_copies
from fusec.ir.aval import kind_of, short
from fusec.ir.graph import Graph, Node
from fusec.ops.registry import COSTLY

ULPS = 4  # for one transcendental function: 2 of ours, 2 of NumPy's
RELATIVE = {4: 1e-5, 8: 1e-12}  # by bytes of a real number
LINEAR = frozenset({"add", "subtract", "cast", "negative", "where", "concatenate", "slice_update"})


@dataclass(frozen=True)
class Comparison:
    """One value of NumPy against fusec's. problem: what differs too much, or empty."""

    label: str
    aval: str
    allowed: str
    max_ulp: float
    max_abs: float
    problem: str


def allowed(node: Node) -> str:
    """The tolerance for a value: "bitwise", "4 ULP" or "relative"."""
    if all(exact(n) for n in Graph((), [node]).nodes() if n is not node):
        if exact(node):
            return "bitwise"
        if node.op.family == "elementwise" and kind_of(node.dtype) == "f":
            return f"{ULPS} ULP"
    return "relative"


def exact(node: Node) -> bool:
    """Whether kernels give NumPy's bits, given the same operands."""
    if node.op.name == "param":  # sums that a decision has handed on
        return not node.attrs["name"].startswith("known:")
    if node.op.family in ("library", "scatter"):  # a GPU adds in another order
        return node.dtype.kind in "biu"
    kinds = [kind_of(n.dtype) for n in (node, *node.inputs)]
    if "c" in kinds and node.op.family != "movement":
        return node.op.name in ("add", "subtract", "negative", "real", "imag", "conjugate")
    if node.op.family in ("reduce", "scan"):
        return "f" not in kinds or node.op.name.split("_")[-1] in ("max", "min", "fmax", "fmin")
    return node.op.cost < COSTLY or "f" not in kinds or node.op.family == "host"


def scales(graph: Graph, env: Mapping[Node, Any]) -> dict[Node, float]:
    """For each value the magnitude that its rounding errors are relative to.

    env: every value, computed by NumPy. Sums and differences keep the magnitude of what they add,
    also where it cancels; other ops keep the relative error of their operands.
    """
    found: dict[Node, float] = {}
    for node in graph.nodes():
        size = largest(env[node])
        if node.op.name in LINEAR or node.op.family in ("movement", "reduce", "scan", "scatter"):
            terms = max([1, *[i.aval.size for i in node.inputs]]) / max(1, node.aval.size)
            sums = node.op.family in ("reduce", "scan", "scatter")
            grown = max(1.0, terms) ** 0.5 if sums else 1.0
            found[node] = max([size, *[found[i] * grown for i in node.inputs]])
        else:
            ratios = [found[i] / (largest(env[i]) or 1.0) for i in node.inputs]
            found[node] = size * max([1.0, *ratios])
    return found


def largest(value: Any) -> float:
    """The largest finite magnitude in a value; 0 for what is no number."""
    if not isinstance(value, np.ndarray | np.generic) or kind_of(value.dtype) not in "biufc":
        return 0.0
    sizes = np.abs(np.asarray(value).astype(np.clongdouble))
    return float(sizes[np.isfinite(sizes)].max(initial=0.0))


def same(a: Any, b: Any) -> bool:
    """Whether two values have the same dtype, shape and bits (NaNs are equal)."""
    a, b = np.asarray(a), np.asarray(b)
    return a.dtype == b.dtype and a.shape == b.shape and not _differs(a, b).any()


def _differs(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    if kind_of(a.dtype) in "fc":
        a, b = _reals(a), _reals(b)
        other = (a != b) & ~(np.isnan(a) & np.isnan(b))
        signs = (a == 0) & (b == 0) & (np.signbit(a) != np.signbit(b))
        return np.asarray(other | signs)
    return np.asarray(a != b)


def _reals(a: np.ndarray) -> np.ndarray:
    """Complex numbers as pairs of reals."""
    return np.stack([a.real, a.imag], -1) if a.dtype.kind == "c" else a


def compare(label: str, a: Any, b: Any, tolerance: str, scale: float = 0.0) -> Comparison:
    """NumPy's value ``a`` against ours; see ``allowed`` and ``scales``."""
    numeric = isinstance(a, np.ndarray | np.generic)
    kinds = (isinstance(a, np.ndarray), isinstance(b, np.ndarray))
    x, y = np.asarray(a), np.asarray(b)
    aval = f"{short(x.dtype)}[{','.join(map(str, x.shape))}]"
    problem, ulp, gap = "", 0.0, 0.0
    if kinds[0] != kinds[1] or (not numeric and type(a) is not type(b)):
        problem = f"NumPy gives {type(a).__name__}, fusec {type(b).__name__}"
    elif x.dtype != y.dtype:
        problem = f"NumPy gives {x.dtype}, fusec {y.dtype}"
    elif x.shape != y.shape:
        problem = f"NumPy gives shape {x.shape}, fusec {y.shape}"
    elif kind_of(x.dtype) not in "biufc":
        problem = "" if bool(np.all(x == y)) else "values differ"
    else:
        ulp, gap, problem = _distance(x, y, tolerance, scale)
    return Comparison(label, aval, tolerance, ulp, gap, problem)


def _distance(
    x: np.ndarray, y: np.ndarray, tolerance: str, scale: float
) -> tuple[float, float, str]:
    """(largest ULP, largest difference, problem) of two arrays of one dtype and shape."""
    x, y = _reals(x), _reals(y)
    wrong = _differs(x, y)
    if not wrong.any():
        return 0.0, 0.0, ""
    ulps, gaps = _ulps(x, y), np.abs(x.astype(np.longdouble) - y.astype(np.longdouble))
    gaps = np.where(wrong, gaps, 0)
    if tolerance != "bitwise" and kind_of(x.dtype) == "f":
        limit = RELATIVE.get(x.dtype.itemsize, 1e-2) * max(scale, largest(x))
        near = (gaps <= limit) if tolerance == "relative" else (ulps <= ULPS)
        wrong = wrong & ~(near | ((x == 0) & (y == 0)))
    ulp, gap = float(np.where(gaps > 0, ulps, 0).max()), float(np.nanmax(gaps, initial=0.0))
    if not wrong.any():
        return ulp, gap, ""
    at = np.unravel_index(int(np.argmax(wrong)), wrong.shape)
    where = f"[{', '.join(map(str, at))}]" if at else ""
    text = f"{int(wrong.sum())} of {wrong.size} differ, up to {ulp:g} ULP and {gap:.3g}; "
    return ulp, gap, f"{text}at {where}: NumPy {x[at]!r}, fusec {y[at]!r}"


def _ulps(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Distance in units of the last place of the larger; integers: the difference."""
    if kind_of(x.dtype) != "f":
        return np.abs(x.astype(np.longdouble) - y.astype(np.longdouble))
    with np.errstate(all="ignore"):
        unit = np.spacing(np.maximum(np.abs(x), np.abs(y)))
        return np.asarray(np.abs(x.astype(np.longdouble) - y.astype(np.longdouble)) / unit)


def copied(leaves: list[Any]) -> list[Any]:
    """The leaves with arrays copied: same layout, and views of one memory stay views of one."""
    memory: dict[int, np.ndarray] = {}
    leaves = device_copies(leaves)
    return [_copy(x, memory) if isinstance(x, np.ndarray) else x for x in leaves]


def _copy(array: np.ndarray, memory: dict[int, np.ndarray]) -> np.ndarray:
    root = array
    while isinstance(root.base, np.ndarray):
        root = root.base
    if id(root) not in memory:
        memory[id(root)] = root.copy("K")
    twin = memory[id(root)]
    if twin.strides != root.strides or root.size == 0 or root.dtype.hasobject:
        return array.copy("K")
    start = array.__array_interface__["data"][0] - root.__array_interface__["data"][0]
    made = np.ndarray(array.shape, array.dtype, twin.ravel("K"), start, array.strides)
    made.flags.writeable = array.flags.writeable
    return made
