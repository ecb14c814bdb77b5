"""Derivatives of functions that NumPy runs: rules ``(g, y, *args, **kwargs) -> gradients``.

A rule gives one gradient, or a tuple for the first array arguments. Where the function has several
results ``g`` and ``y`` are lists, and a cotangent that is missing is None. Formulas:

[1] M. Giles, An extended collection of matrix derivative results for forward and reverse mode
    algorithmic differentiation, 2008: inv, solve, det.
[2] I. Murray, Differentiation of the Cholesky decomposition, arXiv:1602.07527, 2016.
[3] J. Townsend, Differentiating the singular value decomposition, 2016; eigh by the same argument.
[4] G. Golub, V. Pereyra, The differentiation of pseudo-inverses, 1973, equation 4.12: pinv.
[5] S. Walter, L. Lehmann, Algorithmic differentiation of linear algebra functions, arXiv:1009.6112,
    2010: qr.

They are written for the inner product that conjugates; :func:`_conj` goes there and back (see
``ops/elementwise_math`` for the convention). A matrix that is taken to be Hermitian has a Hermitian
gradient. Equal eigenvalues and singular values give each other nothing.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from fusec.autodiff.vjp import pullback
from fusec.errors import DerivativeError
from fusec.ir.aval import kind_of
from fusec.trace.tracer import Tracer, fresh

RULES: dict[Any, Callable[..., Any]] = {}
_function: Any  # for the loops below, which state several rules at once


def _rule(*functions: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def add(rule: Callable[..., Any]) -> Callable[..., Any]:
        RULES.update(dict.fromkeys(functions, rule))
        return rule

    return add


def _through(equivalent: Callable[..., Any]) -> Callable[..., Any]:
    """The rule of a function that is ``equivalent``, whose inside has derivatives."""

    def rule(g: Any, y: Any, *args: Any, **kwargs: Any) -> Any:
        session = g._session
        out = equivalent(*args, **kwargs)
        arrays = [k for k, x in enumerate(args) if type(x) is Tracer and kind_of(x.dtype) in "fc"]
        found = pullback(session, [out.node], [g.node], [args[k].node for k in arrays])
        made = {k: fresh(session, d) for k, d in zip(arrays, found) if d is not None}
        return tuple([made.get(k) for k in range(len(args))])

    return rule


def _conj(x: Any) -> Any:
    return np.conjugate(x) if x.dtype.kind == "c" else x


def _t(x: Any) -> Any:
    return np.swapaxes(x, -1, -2)


def _h(x: Any) -> Any:
    return _conj(_t(x))


def _hermitian(x: Any) -> Any:
    return (x + _h(x)) * 0.5


def _diagonal_only(x: Any) -> Any:
    """A stack of vectors as diagonal matrices."""
    return x[..., None] * np.eye(x.shape[-1], dtype=x.dtype)


def _real_only(name: str, x: Any) -> None:
    if x.dtype.kind == "c":
        raise DerivativeError(f"fusec has no derivative of np.linalg.{name} of complex matrices")


def _inverse_gaps(x: Any) -> Any:
    """``1 / (x[j] - x[i])`` at (i, j), 0 where they are equal."""
    gaps = x[..., None, :] - x[..., :, None]
    return np.where(gaps == 0, 0, 1 / np.where(gaps == 0, 1, gaps))


# -- linear algebra -------------------------------------------------------------------------------


@_rule(np.linalg.inv)
def _inv(g: Any, y: Any, a: Any) -> Any:
    return -(_t(y) @ g @ _t(y))


@_rule(np.linalg.solve)
def _solve(g: Any, y: Any, a: Any, b: Any) -> Any:
    right = np.linalg.solve(_t(a), g)
    if b.ndim == 1:
        return -(right[..., :, None] * y[..., None, :]), right
    return -(right @ _t(y)), right


@_rule(np.linalg.det)
def _det(g: Any, y: Any, a: Any) -> Any:
    return (g * y)[..., None, None] * _t(np.linalg.inv(a))


@_rule(np.linalg.slogdet)
def _slogdet(g: Any, y: Any, a: Any) -> Any:
    factor = 0 * y[1] if g[1] is None else g[1]
    if a.dtype.kind == "c" and g[0] is not None:
        factor = factor - 1j * np.real(1j * g[0] * y[0])
    return factor[..., None, None] * _t(np.linalg.inv(a))


@_rule(np.linalg.cholesky)
def _cholesky(g: Any, y: Any, a: Any, *, upper: bool = False) -> Any:
    g, low = (_h(_conj(g)), _h(y)) if upper else (_conj(g), y)
    inner = np.tril(_h(low) @ g)
    inner = inner - _diagonal_only(np.diagonal(inner, 0, -2, -1)) * 0.5
    left = np.linalg.solve(_h(low), inner)
    return _conj(_hermitian(_h(np.linalg.solve(_h(low), _h(left)))))


@_rule(np.linalg.eigh)
def _eigh(g: Any, y: Any, a: Any, UPLO: str = "L") -> Any:
    values, vectors = y
    inner = 0
    if g[0] is not None:
        inner = _diagonal_only(g[0].astype(vectors.dtype))
    if g[1] is not None:
        inner = inner + _inverse_gaps(values) * (_h(vectors) @ _conj(g[1]))
    return _conj(_hermitian(vectors @ inner @ _h(vectors)))


RULES[np.linalg.eigvalsh] = _through(lambda a, UPLO="L": np.linalg.eigh(a, UPLO)[0])


@_rule(np.linalg.svd)
def _svd(g: Any, y: Any, a: Any, full_matrices: bool = True, compute_uv: bool = True,
         hermitian: bool = False) -> Any:
    if not compute_uv:
        return _singular_values(g, y, a)
    rows, columns = a.shape[-2:]
    if g[0] is None and g[2] is None:
        return _singular_values(g[1], y[1], a)
    _real_only("svd", a)
    if full_matrices and rows != columns:
        raise DerivativeError(
            "fusec has a derivative of singular vectors with full_matrices=False only"
        )
    u, s, vh = y
    v = _t(vh)
    gap = _inverse_gaps(s * s)
    inner = 0 if g[1] is None else _diagonal_only(g[1])
    rest = 0
    if g[0] is not None:
        turn = _t(u) @ g[0]
        inner = inner + gap * (turn - _t(turn)) * s[..., None, :]
        rest = (g[0] - u @ turn) / s[..., None, :] @ vh
    if g[2] is not None:
        gv = _t(g[2])
        turn = _t(v) @ gv
        inner = inner + s[..., :, None] * gap * (turn - _t(turn))
        rest = rest + u @ (_t(gv - v @ turn) / s[..., :, None])
    return u @ inner @ vh + rest


@_rule(np.linalg.svdvals)
def _singular_values(g: Any, y: Any, a: Any) -> Any:
    u, _, vh = np.linalg.svd(a, full_matrices=False)
    return _conj(u * g[..., None, :] @ vh)


@_rule(np.linalg.pinv)
def _pinv(g: Any, y: Any, a: Any, *options: Any, **more: Any) -> Any:
    g = _conj(g)
    left = _h(g) - a @ (y @ _h(g))
    right = _h(g) - (_h(g) @ y) @ a
    return _conj(left @ y @ _h(y) + _h(y) @ y @ right - _h(y) @ g @ _h(y))


@_rule(np.linalg.qr)
def _qr(g: Any, y: Any, a: Any, mode: str = "reduced") -> Any:
    _real_only("qr", a)
    rows, columns = a.shape[-2:]
    if mode not in ("reduced", "r") or rows < columns:
        raise DerivativeError(
            "fusec has a derivative of np.linalg.qr with mode='reduced' (or 'r') of matrices with "
            "at least as many rows as columns only"
        )
    if mode == "r":
        g, y = (None, g), np.linalg.qr(a)
    q, r = y
    inner = 0 if g[1] is None else r @ _t(g[1])
    inner = inner if g[0] is None else inner - _t(g[0]) @ q
    whole = q @ (np.tril(inner) + _t(np.tril(inner, -1)))
    whole = whole if g[0] is None else whole + g[0]
    return _t(np.linalg.solve(r, _t(whole)))


# -- Fourier transforms: symmetric linear maps, hence their own transposes ------------------------


def _fit(x: Any, n: Any, axis: int) -> Any:
    """``x`` cut off or filled up with zeros to length ``n`` of ``axis``."""
    have = x.shape[axis]
    if have >= n:
        return x[(slice(None),) * (axis % x.ndim) + (slice(0, n),)]
    shape = list(x.shape)
    shape[axis] = n - have
    return np.concatenate([x, np.zeros_like(x, shape=tuple(shape))], axis)


def _fourier(function: Any, many: bool) -> None:
    def one(g: Any, y: Any, a: Any, n: Any = None, axis: int = -1, norm: Any = None) -> Any:
        return _fit(function(g, None, axis, norm), a.shape[axis], axis)

    def several(g: Any, y: Any, a: Any, s: Any = None, axes: Any = None, norm: Any = None) -> Any:
        axes = _axes(function, a, s, axes)
        g = function(g, None, axes, norm)
        for axis in axes:
            g = _fit(g, a.shape[axis], axis)
        return g

    RULES[function] = several if many else one


def _axes(function: Any, a: Any, s: Any, axes: Any) -> tuple[int, ...]:
    if axes is None:
        count = a.ndim if s is None else len(s)
        axes = (-2, -1) if function.__name__.endswith("2") else range(a.ndim - count, a.ndim)
    return tuple(axes)


for _function in (np.fft.fft, np.fft.ifft):
    _fourier(_function, False)
for _function in (np.fft.fft2, np.fft.ifft2, np.fft.fftn, np.fft.ifftn):
    _fourier(_function, True)


@_rule(np.fft.rfft)
def _rfft(g: Any, y: Any, a: Any, n: Any = None, axis: int = -1, norm: Any = None) -> Any:
    length = a.shape[axis] if n is None else n
    return _fit(np.real(np.fft.fft(_fit(g, length, axis), None, axis, norm)), a.shape[axis], axis)


@_rule(np.fft.irfft)
def _irfft(g: Any, y: Any, a: Any, n: Any = None, axis: int = -1, norm: Any = None) -> Any:
    """All but the first number (and the last of an even length) stand for two of the spectrum."""
    length = y.shape[axis]
    found = _fit(np.fft.ifft(g, None, axis, norm), length // 2 + 1, axis)
    twice = np.moveaxis(found * 2, axis, -1)
    twice[..., 0] *= 0.5
    if length % 2 == 0:
        twice[..., -1] *= 0.5
    return _fit(np.moveaxis(twice, -1, axis), a.shape[axis], axis)


def _real_fourier(function: Any, line: Any, rest: Any, forward: bool) -> None:
    """A transform of several axes is one of the last axis and a complex one of the others."""

    def rule(g: Any, y: Any, a: Any, s: Any = None, axes: Any = None, norm: Any = None) -> Any:
        *others, last = _axes(function, a, s, axes)
        if s is not None:
            raise DerivativeError(f"fusec has no derivative of np.fft.{function.__name__} with s=")
        if forward:
            g = rest(g, None, others, norm)
            return RULES[line](g, y, a, axis=last, norm=norm)
        return rest(RULES[line](g, y, a, axis=last, norm=norm), None, others, norm)

    RULES[function] = rule


for _function in (np.fft.rfft2, np.fft.rfftn):
    _real_fourier(_function, np.fft.rfft, np.fft.fftn, True)
for _function in (np.fft.irfft2, np.fft.irfftn):
    _real_fourier(_function, np.fft.irfft, np.fft.ifftn, False)

# -- order and convolution ------------------------------------------------------------------------


@_rule(np.sort)
def _sort(g: Any, y: Any, a: Any, axis: Any = -1, *options: Any, **more: Any) -> Any:
    flat = a.reshape(-1) if axis is None else a
    axis = -1 if axis is None else axis
    place = np.argsort(np.argsort(flat, axis=axis, kind="stable"), axis=axis, kind="stable")
    return np.take_along_axis(g, place, axis).reshape(a.shape)


def _median(a: Any, axis: Any = None, out: Any = None, overwrite_input: bool = False,
            keepdims: bool = False) -> Any:
    """The mean of the middle of what is sorted: the two in the middle of an even number."""
    axes = range(a.ndim) if axis is None else np.atleast_1d(axis).tolist()
    axes = [int(k) % a.ndim for k in axes]
    last = tuple(range(a.ndim - len(axes), a.ndim))
    kept = tuple([a.shape[k] for k in range(a.ndim) if k not in axes])
    line = np.sort(np.moveaxis(a, axes, last).reshape((*kept, -1)), -1)
    n = int(line.shape[-1])
    middle = line[..., (n - 1) // 2 : n // 2 + 1].mean(axis=-1)
    return np.expand_dims(middle, tuple(axes)) if keepdims else middle


def _interp(x: Any, xp: Any, fp: Any, left: Any = None, right: Any = None,
            period: Any = None) -> Any:
    """The line through the two nearest points, constant beyond the first and the last."""
    if any(option is not None for option in (left, right, period)):
        raise DerivativeError("fusec has a derivative of np.interp without options only")
    k = np.clip(np.searchsorted(xp, x, side="right") - 1, 0, xp.shape[0] - 2)
    part = np.clip((x - xp[k]) / (xp[k + 1] - xp[k]), 0, 1)
    return fp[k] + part * (fp[k + 1] - fp[k])


RULES[np.median] = _through(_median)
RULES[np.interp] = _through(_interp)


@_rule(np.convolve)
def _convolve(g: Any, y: Any, a: Any, v: Any, mode: str = "full") -> Any:
    m, n = sorted((int(a.shape[0]), int(v.shape[0])))
    first = {"full": 0, "same": (m - 1) // 2, "valid": m - 1}[mode]
    whole = np.zeros_like(g, shape=(m + n - 1,))
    whole[first : first + g.shape[0]] = g
    return np.convolve(whole, v[::-1], "valid"), np.convolve(whole, a[::-1], "valid")
