"""Derivatives of functions that NumPy runs: rules ``(g, y, *args, **kwargs) -> gradients``.

A rule gives one gradient, or a tuple for the first array arguments. Where the function has several
results ``g`` and ``y`` are lists, and a cotangent that is missing is None. Formulas:

[1] M. Giles, An extended collection of matrix derivative results for forward and reverse mode
    algorithmic differentiation, 2008: inv, solve, det.
[2] I. Murray, Differentiation of the Cholesky decomposition, arXiv:1602.07527, 2016.
[3] J. Townsend, Differentiating the singular value decomposition, 2016; eigh by the same argument.
[4] G. Golub, V. Pereyra, The differentiation of pseudo-inverses, 1973, equation 4.12: pinv.
[5] S. Walter, L. Lehmann, Algorithmic differentiation of linear algebra functions, arXiv:1009.6112,
    2010: qr, eig.

They are written for the inner product that conjugates; :func:`_conj` goes there and back (see
``ops/elementwise_math`` for the convention). A matrix that is taken to be Hermitian has a Hermitian
gradient. Equal eigenvalues and singular values give each other nothing.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from fusec.errors import DerivativeError
from fusec.ops.host import put_mask
from fusec.trace.tracer import as_tracer

RULES: dict[Any, Callable[..., Any]] = {}
_function: Any  # for the loops below, which state several rules at once


def _rule(*functions: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def add(rule: Callable[..., Any]) -> Callable[..., Any]:
        RULES.update(dict.fromkeys(functions, rule))
        return rule

    return add


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
    if np.ndim(b) == 1:
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


@_rule(np.linalg.svd)
def _svd(g: Any, y: Any, a: Any, full_matrices: bool = True, compute_uv: bool = True,
         hermitian: bool = False) -> Any:
    if not compute_uv:
        return _singular_values(g, y, a)
    rows, columns = a.shape[-2:]
    if g[0] is None and g[2] is None:
        return _singular_values(g[1], y[1], a)
    if full_matrices and rows != columns:
        raise DerivativeError(
            "fusec has a derivative of singular vectors with full_matrices=False only"
        )
    u, s, vh = y
    v = _h(vh)
    gap = _inverse_gaps(s * s)
    inner = 0 if g[1] is None else _diagonal_only(g[1])
    rest = 0
    if g[0] is not None:
        gu = _conj(g[0])
        turn = _h(u) @ gu
        inner = inner + gap * (turn - _h(turn)) * s[..., None, :]
        if a.dtype.kind == "c":  # the phases, which the left and the right vectors share
            turned = np.imag(np.diagonal(turn, 0, -2, -1)) / s
            inner = inner + 1j * _diagonal_only(turned)
        rest = (gu - u @ turn) / s[..., None, :] @ vh
    if g[2] is not None:
        gv = _h(_conj(g[2]))
        turn = _h(v) @ gv
        inner = inner + s[..., :, None] * gap * (turn - _h(turn))
        rest = rest + u @ (_h(gv - v @ turn) / s[..., :, None])
    return _conj(u @ inner @ vh + rest)


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
    """Of at least as many rows as columns; the diagonal of ``r`` is real."""
    q, r = y
    inner = 0 if g[1] is None else r @ _h(_conj(g[1]))
    inner = inner if g[0] is None else inner - _h(_conj(g[0])) @ q
    diagonal = np.real(np.diagonal(inner, 0, -2, -1)).astype(a.dtype)
    whole = q @ (np.tril(inner, -1) + _h(np.tril(inner, -1)) + _diagonal_only(diagonal))
    whole = whole if g[0] is None else whole + _conj(g[0])
    return _conj(_h(np.linalg.solve(r, _h(whole))))


@_rule(np.linalg.eig)
def _eig(g: Any, y: Any, a: Any) -> Any:
    """Vectors have length 1; their phases are chosen by nobody, so nothing may depend on them."""
    values, vectors = y
    inner = 0 * vectors
    if g[1] is not None:
        turn = _h(vectors) @ _conj(g[1])
        length = np.real(np.diagonal(turn, 0, -2, -1))[..., None, :]
        inner = _conj(_inverse_gaps(values)) * (turn - _h(vectors) @ vectors * length)
    if g[0] is not None:
        inner = inner + _diagonal_only(_conj(g[0]))
    return _conj(np.linalg.solve(_h(vectors), inner @ _h(vectors)))


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


# -- order and convolution ------------------------------------------------------------------------


@_rule(np.sort)
def _sort(g: Any, y: Any, a: Any, axis: Any = -1, *options: Any, **more: Any) -> Any:
    flat = a.reshape(-1) if axis is None else a
    axis = -1 if axis is None else axis
    place = np.argsort(np.argsort(flat, axis=axis, kind="stable"), axis=axis, kind="stable")
    return np.take_along_axis(g, place, axis).reshape(a.shape)


@_rule(np.partition)
def _partition(g: Any, y: Any, a: Any, kth: Any, axis: Any = -1, *options: Any) -> Any:
    order = np.argsort(y, axis=-1 if axis is None else axis, kind="stable")
    return _sort(np.take_along_axis(g, order, -1 if axis is None else axis), y, a, axis)


@_rule(np.bincount)
def _bincount(g: Any, y: Any, x: Any, weights: Any, minlength: Any = 0) -> Any:
    return None, g[x]


@_rule(put_mask)
def _put_mask(g: Any, y: Any, x: Any, mask: Any, values: Any) -> Any:
    """The n-th value went to the n-th true element of the mask; a single one to all of them."""
    tail = x.shape[mask.ndim :]
    if values.ndim != 1 + len(tail):
        raise DerivativeError("fusec has no derivative of x[mask] = values with more axes than it")
    inside = mask.reshape(mask.shape + (1,) * len(tail))
    if values.shape[0] == 1:
        taken = np.where(inside, g, 0).sum(axis=tuple(range(mask.ndim)))[None]
    else:
        places = np.argsort(~mask.reshape(-1), kind="stable")[: values.shape[0]]
        taken = g.reshape((-1, *tail))[places]
    return np.where(inside, 0, g), None, taken


@_rule(np.convolve)
def _convolve(g: Any, y: Any, a: Any, v: Any, mode: str = "full") -> Any:
    a, v = (as_tracer(g._session, x) for x in (a, v))
    m, n = sorted((int(a.shape[0]), int(v.shape[0])))
    first = {"full": 0, "same": (m - 1) // 2, "valid": m - 1}[mode]
    whole = np.zeros_like(g, shape=(m + n - 1,))
    whole[first : first + g.shape[0]] = g
    return np.convolve(whole, v[::-1], "valid"), np.convolve(whole, a[::-1], "valid")
