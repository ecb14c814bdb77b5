"""Derivatives of functions that NumPy runs, by functions that give the same and have derivatives.

Only what the derivative needs of the other function is computed: the value is NumPy's own.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from fusec.autodiff.host_rules import RULES
from fusec.autodiff.vjp import pullback
from fusec.errors import DerivativeError
from fusec.ir.aval import kind_of
from fusec.trace.tracer import Tracer, as_tracer, fresh
from fusec.trace.tree import flatten

__all__ = ["RULES"]


def _like(*functions: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The decorated function has the arguments of ``functions``, and their derivative."""

    def add(equivalent: Callable[..., Any]) -> Callable[..., Any]:
        RULES.update(dict.fromkeys(functions, _through(equivalent)))
        return equivalent

    return add


def _through(equivalent: Callable[..., Any]) -> Callable[..., Any]:
    def rule(g: Any, y: Any, *args: Any, **kwargs: Any) -> Any:
        session = flatten(y)[0][0]._session
        cotangents = g if isinstance(g, list) else [g]
        results = flatten(equivalent(*args, **kwargs))[0]
        pairs = [(r.node, d.node) for r, d in zip(results, cotangents) if d is not None]
        arrays = [k for k, x in enumerate(args) if type(x) is Tracer and kind_of(x.dtype) in "fc"]
        outputs, gs = zip(*pairs) if pairs else ((), ())
        found = pullback(session, outputs, gs, [args[k].node for k in arrays])
        made = {k: fresh(session, d) for k, d in zip(arrays, found) if d is not None}
        return tuple([made.get(k) for k in range(len(args))])

    return rule


def _refuse(function: str, what: str) -> DerivativeError:
    return DerivativeError(f"fusec has no derivative of np.{function} with {what}")


# -- linear algebra -------------------------------------------------------------------------------


@_like(np.linalg.eigvalsh)
def _eigvalsh(a: Any, UPLO: str = "L") -> Any:
    return np.linalg.eigh(a, UPLO)[0]


@_like(np.linalg.eigvals)
def _eigvals(a: Any) -> Any:
    return np.linalg.eig(a)[0]


@_like(np.linalg.lstsq)
def _lstsq(a: Any, b: Any, rcond: Any = None) -> Any:
    """Of matrices of one rank; the residuals are there where the columns are independent."""
    smallest = np.finfo(a.dtype).eps * max(a.shape) if rcond is None else rcond
    x = np.linalg.pinv(a, smallest) @ b
    apart = np.abs(b - a @ x) ** 2
    return x, np.atleast_1d(apart.sum(axis=0)), x * 0, np.linalg.svdvals(a)


@_like(np.linalg.cond)
def _cond(x: Any, p: Any = None) -> Any:
    if p in (None, 2, -2):
        s = np.linalg.svdvals(x)
        return s[..., -1] / s[..., 0] if p == -2 else s[..., 0] / s[..., -1]
    norm = lambda m: np.linalg.norm(m, p, axis=(-2, -1))  # noqa: E731
    return norm(x) * norm(np.linalg.inv(x))


def _qr(a: Any, mode: str = "reduced") -> Any:
    """A wide matrix is a square one and ``q`` times the rest of ``r``."""
    rows, columns = a.shape[-2:]
    if mode == "raw" or (mode == "complete" and rows > columns):
        raise _refuse("linalg.qr", f"mode={mode!r}")
    q, r = np.linalg.qr(a[..., :rows])
    if columns > rows:
        r = np.concatenate([r, np.conjugate(np.swapaxes(q, -1, -2)) @ a[..., rows:]], axis=-1)
    return r if mode == "r" else (q, r)


_qr_rules = RULES[np.linalg.qr], _through(_qr)


def _any_qr(g: Any, y: Any, a: Any, mode: str = "reduced") -> Any:
    rows, columns = a.shape[-2:]
    return _qr_rules[mode != "reduced" or rows < columns](g, y, a, mode)


RULES[np.linalg.qr] = _any_qr


@_like(np.polyfit)
def _polyfit(x: Any, y: Any, deg: Any, rcond: Any = None, full: bool = False, w: Any = None,
             cov: bool = False) -> Any:
    if full or cov or rcond is not None:
        raise _refuse("polyfit", "full, cov or rcond")
    if w is None:
        return np.linalg.pinv(np.vander(x, deg + 1)) @ y
    wide = w[:, None] if y.ndim > 1 else w
    return np.linalg.pinv(np.vander(x, deg + 1) * w[:, None]) @ (y * wide)


# -- Fourier transforms: one axis after the other -------------------------------------------------


def _sizes(a: Any, s: Any, axes: Any, default: Any) -> list[tuple[int, Any]]:
    """(axis, length or None) of each transform."""
    if axes is None:
        axes = default if default else range(-(a.ndim if s is None else len(s)), 0)
    lengths = [None] * len(axes) if s is None else [None if n == -1 else n for n in s]
    return list(zip(axes, lengths))


def _real_transforms(forward: Any, backward: Any, default: Any) -> None:
    @_like(forward)
    def to(a: Any, s: Any = None, axes: Any = default, norm: Any = None, out: Any = None) -> Any:
        *others, (axis, n) = _sizes(a, s, axes, default)
        a = np.fft.rfft(a, n, axis, norm)
        for axis, n in reversed(others):
            a = np.fft.fft(a, n, axis, norm)
        return a

    @_like(backward)
    def back(a: Any, s: Any = None, axes: Any = default, norm: Any = None, out: Any = None) -> Any:
        *others, (last, length) = _sizes(a, s, axes, default)
        for axis, n in others:
            a = np.fft.ifft(a, n, axis, norm)
        return np.fft.irfft(a, length, last, norm)


_real_transforms(np.fft.rfft2, np.fft.irfft2, (-2, -1))
_real_transforms(np.fft.rfftn, np.fft.irfftn, None)
_SWAPPED = {None: "forward", "backward": "forward", "forward": "backward", "ortho": "ortho"}


@_like(np.fft.hfft)
def _hfft(a: Any, n: Any = None, axis: int = -1, norm: Any = None) -> Any:
    return np.fft.irfft(np.conjugate(a), n, axis, _SWAPPED[norm])


@_like(np.fft.ihfft)
def _ihfft(a: Any, n: Any = None, axis: int = -1, norm: Any = None) -> Any:
    return np.conjugate(np.fft.rfft(a, n, axis, _SWAPPED[norm]))


# -- order statistics, interpolation, correlation -------------------------------------------------


def _sorted_lines(a: Any, axis: Any) -> tuple[Any, tuple[int, ...]]:
    """``a`` sorted along ``axis``, several of them as one, in the last place; and these axes."""
    axes = range(a.ndim) if axis is None else np.atleast_1d(axis).tolist()
    axes = tuple([int(k) % a.ndim for k in axes])
    kept = tuple([a.shape[k] for k in range(a.ndim) if k not in axes])
    last = tuple(range(a.ndim - len(axes), a.ndim))
    return np.sort(np.moveaxis(a, axes, last).reshape((*kept, -1)), -1), axes


def _at(line: Any, place: Any) -> Any:
    """Between the two sorted elements next to ``place``, which may differ from line to line."""
    place = np.broadcast_to(place, line.shape[:-1])[..., None]
    low = np.clip(np.floor(place), 0, line.shape[-1] - 1)
    below = low.astype(np.int64)
    above = np.minimum(below + 1, line.shape[-1] - 1)
    part = place - low
    first, second = (np.take_along_axis(line, k, -1) for k in (below, above))
    return (first + np.where(part == 0, 0, part * (second - first)))[..., 0]


def _quantiles(name: str, percent: float, nan: bool) -> Callable[..., Any]:
    def equivalent(a: Any, q: Any, axis: Any = None, out: Any = None, overwrite: bool = False,
                   method: str = "linear", keepdims: Any = False, **more: Any) -> Any:
        if any(v is not None for v in more.values()) or (
            method != "linear" and (nan or type(q) is Tracer)
        ):
            raise _refuse(name, "weights, or with another method than 'linear' here")
        line, axes = _sorted_lines(a, axis)
        q = q if type(q) is Tracer else np.asarray(q, a.dtype)
        shape, n = np.shape(q), int(line.shape[-1])
        # among the numbers 0, 1, 2 ... a quantile is its own place
        known = None if method == "linear" else np.quantile(
            np.arange(n), np.asarray(q) / percent, method=method
        ).reshape(-1)
        count = (line == line).sum(axis=-1) if nan else n
        parts = [
            _at(line, p / percent * (count - 1) if known is None else known[k])
            for k, p in enumerate(q.reshape(-1))
        ]
        whole = np.stack(parts).reshape(shape + line.shape[:-1])
        if keepdims is True:
            whole = np.expand_dims(whole, tuple([k + len(shape) for k in axes]))
        return whole

    return equivalent


for _nan in ("", "nan"):
    for _name, _percent in (("quantile", 1.0), ("percentile", 100.0)):
        _like(getattr(np, _nan + _name))(_quantiles(_nan + _name, _percent, bool(_nan)))


@_like(np.median)
def _median(a: Any, axis: Any = None, out: Any = None, overwrite: bool = False,
            keepdims: Any = False) -> Any:
    return _quantiles("median", 1.0, False)(a, 0.5, axis, keepdims=keepdims)


@_like(np.nanmedian)
def _nanmedian(a: Any, axis: Any = None, out: Any = None, overwrite: bool = False,
               keepdims: Any = False) -> Any:
    return _quantiles("nanmedian", 1.0, True)(a, 0.5, axis, keepdims=keepdims)


@_like(np.interp)
def _interp(x: Any, xp: Any, fp: Any, left: Any = None, right: Any = None,
            period: Any = None) -> Any:
    """The line through the two nearest points, constant beyond the first and the last."""
    (session,) = {v._session for v in (x, xp, fp) if type(v) is Tracer}
    x, xp, fp = (as_tracer(session, v) for v in (x, xp, fp))
    if period is not None:
        if type(period) is not Tracer and period == 0:
            raise ValueError("period must be a non-zero value")
        period = abs(period)
        x, xp = x % period, xp % period
        order = np.argsort(xp)
        xp, fp = xp[order], fp[order]
        xp = np.concatenate([xp[-1:] - period, xp, xp[:1] + period])
        fp = np.concatenate([fp[-1:], fp, fp[:1]])
    k = np.clip(np.searchsorted(xp, x, side="right") - 1, 0, xp.shape[0] - 2)
    part = np.clip((x - xp[k]) / (xp[k + 1] - xp[k]), 0, 1)
    y = fp[k] + part * (fp[k + 1] - fp[k])
    if period is None and left is not None:
        y = np.where(x < xp[0], left, y)
    return y if period is not None or right is None else np.where(x > xp[-1], right, y)


@_like(np.correlate)
def _correlate(a: Any, v: Any, mode: str = "valid") -> Any:
    if len(a) < len(v):  # NumPy's own exchange, which moves the middle of even lengths
        return np.conjugate(_correlate(v, a, mode))[::-1]
    return np.convolve(a, np.conjugate(v[::-1]), mode)
