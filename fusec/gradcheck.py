"""``fusec.check_grads``: derivatives of a user's function against central differences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fusec.errors import DTypeError, VerifyError
from fusec.gradients import jvp, vjp
from fusec.jit import jit
from fusec.trace.tree import TreeDef, flatten

# Of a central difference the error is about step**2 + eps / step, for float64 and for float32.
STEP = {8: 1e-5, 4: 1e-2}
TOLERANCE = {8: (1e-6, 1e-4), 4: (1e-2, 1e-1)}  # of first derivatives, of all others


def check_grads(
    fn: Callable[..., Any], args: Sequence[Any], order: int = 2, rtol: float | None = None
) -> None:
    """Compare the derivatives of ``fn`` at ``args`` with central differences.

    Each order up to ``order`` forwards against differences, and forwards against backwards, along
    one random direction. rtol: allowed, relative to the largest number compared; by default 1e-6
    for first and 1e-4 for higher derivatives, of float64. Integers among ``args`` stay as they
    are. Raises VerifyError that names the order, the result and the size of the difference.

    >>> import numpy as np, fusec
    >>> fusec.check_grads(lambda x, n: np.sin(x) ** n, (np.array([0.5, 1.5]), 2))
    """
    leaves, tree = flatten(tuple(args))
    places = [k for k, x in enumerate(leaves) if _is_float(x)]
    if not places:
        raise DTypeError("fusec.check_grads: no argument is a float array or number")
    point = [np.asarray(leaves[k])[()] for k in places]
    current = jit(_of_floats(fn, leaves, tree, places))
    rng = np.random.default_rng(0)
    for level in range(1, order + 1):
        weights = _check(current, point, level, rng, rtol)
        current = jit(_pulled(current, weights))


def _is_float(x: Any) -> bool:
    return np.asarray(x).dtype.kind in "fc" if isinstance(x, np.ndarray | np.generic) else (
        type(x) in (float, complex))  # fmt: skip


def _of_floats(
    fn: Callable[..., Any], leaves: list[Any], tree: TreeDef, places: list[int]
) -> Callable[..., Any]:
    def called(*floats: Any) -> Any:
        filled = list(leaves)
        for k, x in zip(places, floats):
            filled[k] = x
        return fn(*tree.unflatten(filled))

    return called


def _pulled(fn: Callable[..., Any], weights: Any) -> Callable[..., Any]:
    return lambda *floats: vjp(fn, *floats)[1](weights)


def _check(
    fn: Callable[..., Any], point: list[Any], level: int, rng: Any, rtol: float | None
) -> Any:
    size = min(np.finfo(x.dtype).dtype.itemsize for x in point)
    step = STEP.get(size, 0.1)
    allowed = TOLERANCE.get(size, (0.1, 0.5))[level > 1] if rtol is None else rtol
    along = [_random(x, rng) for x in point]
    up, down = (
        flatten(fn(*[_as(x + s * step * t, x) for x, t in zip(point, along)]))[0] for s in (1, -1)
    )
    value, tangent = jvp(fn, tuple(point), tuple(along))
    results, tree = flatten(value)
    tangents = flatten(tangent)[0]
    for k, (y, t) in enumerate(zip(results, tangents)):
        if _is_float(y):
            wanted = (np.asarray(up[k]) - np.asarray(down[k])) / (2 * step)
            what = f"derivative of order {level} of {tree.paths('result')[k]}"
            _compare(what, t, wanted, allowed)
    weights = tree.unflatten([_random(np.asarray(y), rng) for y in results])
    _, pull = vjp(fn, *point)
    forward = _product(flatten(weights)[0], tangents)
    backward = _product(flatten(pull(weights))[0], along)
    _compare(f"backward derivative of order {level}", backward, forward, max(allowed / 100, 1e-12))
    return weights


def _random(x: Any, rng: Any) -> Any:
    made = rng.normal(size=x.shape) + (1j * rng.normal(size=x.shape) if x.dtype.kind == "c" else 0)
    return _as(made, x)


def _as(value: Any, like: Any) -> Any:
    """``value`` in a float dtype like that of ``like``."""
    return np.asarray(value).astype(like.dtype if like.dtype.kind in "fc" else np.float64)[()]


def _product(cotangents: Sequence[Any], tangents: Sequence[Any]) -> float:
    pairs = zip(cotangents, tangents)
    return float(sum([np.real(np.sum(np.asarray(g) * t)) for g, t in pairs]))


def _compare(what: str, got: Any, wanted: Any, rtol: float) -> None:
    got, wanted = np.asarray(got), np.asarray(wanted)
    scale = 1 + np.max(np.abs(wanted), initial=0)
    apart = np.max(np.abs(got - wanted), initial=0)
    if not apart <= rtol * scale:
        raise VerifyError(
            f"fusec.check_grads: the {what} is {apart:.3g} away from what it should be (numbers up "
            f"to {scale - 1:.3g}, allowed {rtol:g} of that); is the function smooth there?"
        )
