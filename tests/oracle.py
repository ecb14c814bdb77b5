"""The one comparison that every test against NumPy uses.

`check(fn, *args)` runs `fn` in NumPy and under `fusec.jit` on copies of the arguments that keep
strides, alignment, byte order, read-only flags and shared memory, and compares all that NumPy
promises: the exception, or the values, dtypes, shapes, strides, scalar-or-array, aliasing of
the results, and the arguments afterwards.  fusec runs twice, because the second call takes
another road (the native entry) than the first (trace, plan, compile).
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

GUARD = 64  #: bytes around every cloned buffer, which nothing may write to
GUARD_BYTE = 0xA5


@dataclass
class Region:
    """Memory that one or more arguments look at, with guards on both sides."""

    low: int
    high: int
    buffer: np.ndarray
    used: np.ndarray
    before: bytes

    def damaged(self) -> bool:
        """Whether bytes that belong to no element of any argument have changed."""
        now = np.frombuffer(self.buffer.tobytes(), np.uint8)
        then = np.frombuffer(self.before, np.uint8)
        return bool(np.any((now != then) & ~self.used))


@dataclass
class Outcome:
    """What one run did: its result or its exception, and the arguments it left behind."""

    result: Any = None
    error: BaseException | None = None
    args: tuple[Any, ...] = ()
    regions: list[Region] = field(default_factory=list)


def leaves(tree: Any, path: str = "result") -> list[tuple[str, Any]]:
    """The leaves of nested tuples, lists and dicts with their paths."""
    if isinstance(tree, dict):
        return [x for k, v in tree.items() for x in leaves(v, f"{path}[{k!r}]")]
    if isinstance(tree, (tuple, list)):
        return [x for i, v in enumerate(tree) for x in leaves(v, f"{path}[{i}]")]
    return [(path, tree)]


def structure(tree: Any) -> Any:
    """The containers of a tree, with every leaf replaced by None."""
    if isinstance(tree, dict):
        return dict, {k: structure(v) for k, v in tree.items()}
    if isinstance(tree, (tuple, list)):
        return type(tree), [structure(v) for v in tree]
    return None


def tree_map(fn: Callable[[Any], Any], tree: Any) -> Any:
    """Apply `fn` to every leaf of nested tuples, lists and dicts."""
    if isinstance(tree, dict):
        return {k: tree_map(fn, v) for k, v in tree.items()}
    if isinstance(tree, list):
        return [tree_map(fn, v) for v in tree]
    if isinstance(tree, tuple):
        made = [tree_map(fn, v) for v in tree]
        return type(tree)(*made) if hasattr(tree, "_fields") else tuple(made)
    return fn(tree)


def clone(args: tuple[Any, ...]) -> tuple[tuple[Any, ...], list[Region]]:
    """Copies of the arguments that keep everything NumPy can see of their memory."""
    arrays = [a for _, a in leaves(args) if _plain_memory(a)]
    regions = [_copy_region(low, high, arrays) for low, high in _merged_bounds(arrays)]
    memo: dict[int, Any] = {}

    def one(leaf: Any) -> Any:
        if id(leaf) not in memo:
            memo[id(leaf)] = _rebuild(leaf, regions)
        return memo[id(leaf)]

    return tree_map(one, args), regions


def _plain_memory(leaf: Any) -> bool:
    return (
        isinstance(leaf, np.ndarray)
        and leaf.size > 0
        and not leaf.dtype.hasobject
        and not isinstance(leaf, np.ma.MaskedArray)
    )


def _merged_bounds(arrays: list[np.ndarray]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for low, high in sorted(np.lib.array_utils.byte_bounds(a) for a in arrays):
        if merged and low < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
        else:
            merged.append((low, high))
    return merged


def _copy_region(low: int, high: int, arrays: list[np.ndarray]) -> Region:
    """A new buffer at the same place modulo 64, with the elements of `arrays` copied in."""
    raw = np.full(high - low + 2 * GUARD + 64, GUARD_BYTE, np.uint8)
    shift = (low - raw.ctypes.data - GUARD) % 64
    buffer = raw[shift : shift + high - low + 2 * GUARD]
    used = np.zeros(len(buffer), bool)
    region = Region(low, high, buffer, used, b"")
    for a in arrays:
        start = np.lib.array_utils.byte_bounds(a)[0]
        if low <= start < high:
            _bytes_of(buffer, a, region)[...] = np.lib.stride_tricks.as_strided(
                np.ndarray(1, np.uint8, buffer=_memory(a)),
                (*a.shape, a.itemsize), (*a.strides, 1),
            )
            _bytes_of(used.view(np.uint8), a, region)[...] = 1
    region.before = buffer.tobytes()
    return region


def _memory(a: np.ndarray) -> Any:
    import ctypes

    return (ctypes.c_uint8 * 1).from_address(a.ctypes.data)


def _bytes_of(buffer: np.ndarray, a: np.ndarray, region: Region) -> np.ndarray:
    offset = a.ctypes.data - region.low + GUARD
    shape, strides = (*a.shape, a.itemsize), (*a.strides, 1)
    return np.ndarray(shape, np.uint8, buffer=buffer, offset=offset, strides=strides)


def _rebuild(leaf: Any, regions: list[Region]) -> Any:
    if not isinstance(leaf, np.ndarray):
        return copy.deepcopy(leaf)
    if not _plain_memory(leaf):
        return leaf.copy(order="K")
    region = next(r for r in regions if r.low <= leaf.ctypes.data < r.high)
    made = np.ndarray(
        leaf.shape, leaf.dtype, buffer=region.buffer,
        offset=leaf.ctypes.data - region.low + GUARD, strides=leaf.strides,
    )
    made.flags.writeable = leaf.flags.writeable
    return made if type(leaf) is np.ndarray else made.view(type(leaf))


def run(fn: Callable[..., Any], args: tuple[Any, ...], ignore: bool) -> Outcome:
    """Call `fn` on copies of `args`; `ignore` silences NumPy's floating-point warnings."""
    copies, regions = clone(args)
    outcome = Outcome(args=copies, regions=regions)
    with warnings.catch_warnings(), np.errstate(all="ignore" if ignore else "warn"):
        warnings.simplefilter("ignore")
        try:
            outcome.result = fn(*copies)
        except Exception as error:
            outcome.error = error
    return outcome


def check(fn: Callable[..., Any], *args: Any, ulp: float = 0, rel: float = 0, calls: int = 2,
          strides: bool = True, refuse: bool = False) -> None:
    """Assert that `fusec.jit(fn)` does what `fn` does.

    Bits are compared unless `ulp` (units in the last place of the result) or `rel` (relative
    to the largest finite element of the result) allows more.  With `refuse`, one of fusec's own
    errors is a good answer too.
    """
    import fusec

    compiled = fusec.jit(fn)
    want = run(fn, args, ignore=True)
    for call in range(calls):
        got = run(compiled, args, ignore=False)
        if refuse and _refused_clearly(got.error):
            return
        if problems := differences(got, want, ulp, rel, strides):
            raise AssertionError(f"call {call + 1}:\n  " + "\n  ".join(problems)) from got.error


def _refused_clearly(error: BaseException | None) -> bool:
    """Whether an error is one of fusec's own, or a TypeError that speaks of fusec."""
    import fusec

    return isinstance(error, fusec.errors.FusecError) or (
        isinstance(error, TypeError) and "fusec" in str(error)
    )


def differences(
    got: Outcome,
    want: Outcome,
    ulp: float = 0,
    rel: float | Mapping[str, float] = 0,
    strides: bool = True,
) -> list[str]:
    """Every way in which two outcomes differ, as lines of text.

    `rel` may give a tolerance for each path (`result[0]`, `args[1]`); the rest is exact.
    """

    def allowed(path: str) -> float:
        return rel.get(path, 0) if isinstance(rel, Mapping) else rel

    if want.error is not None or got.error is not None:
        found = _error_difference(got, want)
    elif structure(got.result) != structure(want.result):
        found = [f"containers differ: {structure(got.result)} for {structure(want.result)}"]
    else:
        both = zip(leaves(got.result), leaves(want.result))
        found = [d for (p, g), (_, w) in both for d in compare(p, g, w, ulp, allowed(p), strides)]
        found += _aliasing_differences(got, want)
    for (path, g), (_, w) in zip(leaves(got.args, "args"), leaves(want.args, "args")):
        if isinstance(w, np.ndarray):
            found += compare(f"afterwards {path}", g, w, ulp, allowed(path), True)
    if any(r.damaged() for r in got.regions):
        found.append("bytes outside the arguments were written")
    return found


def _error_difference(got: Outcome, want: Outcome) -> list[str]:
    if want.error is None:
        return [f"raised {type(got.error).__name__}: {got.error}"]
    if got.error is None:
        return [f"did not raise {type(want.error).__name__}: {want.error}"]
    if not isinstance(got.error, _public_class(want.error)):
        return [
            f"raised {type(got.error).__name__} ({got.error}), "
            f"NumPy {type(want.error).__name__} ({want.error})"
        ]
    return []


def _public_class(error: BaseException) -> type[BaseException]:
    """The first class of the error that a user can name in an `except`."""
    public = ("builtins", "numpy.exceptions", "numpy.linalg")
    return next(c for c in type(error).__mro__ if c.__module__ in public)


def compare(path: str, got: Any, want: Any, ulp: float, rel: float, strides: bool) -> list[str]:
    """The differences of two leaves."""
    if type(got) is not type(want):
        return [f"{path}: {type(got).__name__} {got!r:.80} for {type(want).__name__} {want!r:.80}"]
    if not isinstance(want, (np.ndarray, np.generic)):
        same = got == want or (got != got and want != want)
        return [] if same else [f"{path}: {got!r:.80} for {want!r:.80}"]
    if got.dtype != want.dtype or got.shape != want.shape:
        return [f"{path}: {got.dtype}{got.shape} for {want.dtype}{want.shape}"]
    found = []
    if isinstance(want, np.ndarray):
        if strides and _real_strides(got) != _real_strides(want):
            found.append(f"{path}: strides {got.strides} for {want.strides}")
        if got.flags.writeable != want.flags.writeable:
            found.append(f"{path}: writeable {got.flags.writeable} for {want.flags.writeable}")
    bad = ~close(np.asarray(got), np.asarray(want), ulp, rel)
    if bad.any():
        where = tuple(int(i) for i in np.argwhere(np.atleast_1d(bad))[0])[: bad.ndim]
        g, w = np.asarray(got)[where], np.asarray(want)[where]
        found.append(f"{path}{list(where)}: {g!r} for {w!r} ({int(bad.sum())} of {bad.size})")
    return found


def _real_strides(a: np.ndarray) -> tuple[int, ...]:
    """Strides of the axes that have any meaning."""
    return tuple(s for s, n in zip(a.strides, a.shape) if n > 1) if a.size else ()


def close(got: np.ndarray, want: np.ndarray, ulp: float = 0, rel: float = 0) -> np.ndarray:
    """Element by element: equal bits (any nan equals any nan), or within the tolerance."""
    if want.dtype.kind not in "fc":
        return np.asarray(got == want)
    if want.dtype.kind == "c" and not (ulp or rel):
        return close(got.real, want.real) & close(got.imag, want.imag)
    with np.errstate(all="ignore"):
        if want.dtype.kind == "c":
            nans = np.isnan(got) & np.isnan(want)
            equal = (got == want) | nans
        else:
            same_sign = np.signbit(got) == np.signbit(want)
            equal = (np.isnan(got) & np.isnan(want)) | ((got == want) & same_sign)
            if ulp or rel:
                equal |= (got == want) & (want != 0)
        if not (ulp or rel):
            return np.asarray(equal)
        return np.asarray(equal | (_distance(got, want) <= _allowed(want, ulp, rel)))


def _distance(got: np.ndarray, want: np.ndarray) -> np.ndarray:
    wide = np.complex128 if want.dtype.kind == "c" else np.float64
    return np.abs(got.astype(wide) - want.astype(wide))


def _allowed(want: np.ndarray, ulp: float, rel: float) -> np.ndarray:
    size = np.abs(want)
    finite = size[np.isfinite(size)]
    scale = float(finite.max()) if finite.size else 0.0
    step = np.spacing(size.astype(size.dtype.newbyteorder("="))).astype(np.float64)
    return np.where(np.isfinite(size), ulp * np.abs(step) + rel * scale, -1.0)


def _aliasing_differences(got: Outcome, want: Outcome) -> list[str]:
    """Results that are arguments, look into them or share memory must do so on both sides."""
    found = []
    g, w = _alias_facts(got), _alias_facts(want)
    found += [f"{p}: {g[p]}, NumPy: {w[p]}" for p in w if p in g and g[p] != w[p]]
    return found


def _alias_facts(outcome: Outcome) -> dict[str, str]:
    results = [(p, r) for p, r in leaves(outcome.result) if isinstance(r, np.ndarray)]
    args = [(p, a) for p, a in leaves(outcome.args, "args") if isinstance(a, np.ndarray)]
    facts = {}
    for i, (path, result) in enumerate(results):
        same = [p for p, a in args + results[:i] if a is result]
        place = [
            f"{n}+{result.ctypes.data - r.buffer.ctypes.data}"
            for n, r in enumerate(outcome.regions)
            if result.size and 0 <= result.ctypes.data - r.buffer.ctypes.data < len(r.buffer)
        ]
        shared = [p for p, r in results[:i] if np.may_share_memory(r, result)]
        facts[path] = f"is {same}, at {place}, shares with {shared}"
    return facts
