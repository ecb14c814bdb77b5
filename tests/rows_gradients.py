"""Functions whose gradients are compared with autograd's and JAX's: ``fn(np, *arrays)``.

``np`` is numpy, autograd.numpy or jax.numpy. A row names the libraries that can't run it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as onp


@dataclass(frozen=True)
class Row:
    """One function, differentiated in all its arguments; without: libraries that lack it."""

    id: str
    fn: Callable[..., Any]
    args: tuple[Any, ...]
    without: frozenset[str] = frozenset()


ROWS: list[Row] = []
_rng = onp.random.default_rng(11)
X = onp.array([0.3, -1.2, 0.8, 2.1, -0.4, 1.7])
P = onp.array([0.3, 1.2, 0.8, 2.1, 0.4, 1.7])  # positive
U = onp.array([0.3, -0.9, 0.8, 0.1, -0.4, 0.7])  # within (-1, 1)
Y = onp.array([1.5, 0.7, -0.6, 0.9, 1.1, -2.0])
A = _rng.normal(size=(3, 4))
B = _rng.normal(size=(4, 5))
C = _rng.normal(size=(2, 3, 4))
D = _rng.normal(size=(2, 4, 3))
Q = _rng.normal(size=(4, 4)) + 4 * onp.eye(4)
S = Q @ Q.T
V = _rng.normal(size=4)
PLACES = onp.array([2, 0, 2, 5])


def row(id: str, fn: Callable[..., Any], *args: Any, without: str = "") -> None:
    ROWS.append(Row(id, fn, args, frozenset(without.split())))


# -- elementwise
for _name in ("exp", "expm1", "sin", "cos", "tan", "tanh", "sinh", "cosh", "arctan", "arcsinh",
              "square", "negative", "abs", "exp2", "sinc"):  # fmt: skip
    row(_name, lambda np, x, f=_name: getattr(np, f)(x), X)
for _name in ("log", "log2", "log10", "log1p", "sqrt", "reciprocal"):
    row(_name, lambda np, x, f=_name: getattr(np, f)(x), P)
row("cbrt", lambda np, x: np.cbrt(x), P, without="autograd")
for _name in ("arcsin", "arccos", "arctanh"):
    row(_name, lambda np, x, f=_name: getattr(np, f)(x), U)
row("arccosh", lambda np, x: np.arccosh(x + 1), P)
for _name in ("add", "subtract", "multiply", "divide", "maximum", "minimum", "arctan2",
              "logaddexp"):  # fmt: skip
    row(_name, lambda np, x, y, f=_name: getattr(np, f)(x, y), X, Y)
row("power", lambda np, x, y: x**y, P, Y)
row("power-2", lambda np, x: x**2, X)
row("power-3", lambda np, x: x**3, X)
row("power-half", lambda np, x: x**0.5, P)
row("power-minus", lambda np, x: x**-1.5, P)
row("rpower", lambda np, x: 2.0**x, X)
row("hypot", lambda np, x, y: np.hypot(x, y), X, Y, without="autograd")
row("remainder", lambda np, x, y: x % y, X, Y, without="autograd")
row("fabs", lambda np, x: np.fabs(x), X)
row("deg2rad", lambda np, x: np.deg2rad(x), X)
row("rad2deg", lambda np, x: np.rad2deg(x), X)
row("sign", lambda np, x: np.sign(x), X, without="autograd")
row("clip", lambda np, x: np.clip(x, -0.5, 1.0), X)
row("where", lambda np, x, y: np.where(x > 0, x * y, y), X, Y)
row("where-scalar", lambda np, x: np.where(x > 0, x, 0.1 * x), X)
row("sigmoid", lambda np, x: 1 / (1 + np.exp(-x)), X)
row("softplus", lambda np, x: np.log1p(np.exp(-np.abs(x))) + np.maximum(x, 0), X)
row("gelu", lambda np, x: 0.5 * x * (1 + np.tanh(0.79788456 * (x + 0.044715 * x**3))), X)
row("nan-to-num", lambda np, x: np.nan_to_num(x) * x, X)
row("floor", lambda np, x: np.floor(x) * x, X)
row("logistic-loss", lambda np, x, y: np.log1p(np.exp(-x * y)), X, Y)
row("polynomial", lambda np, x: np.polyval(np.array([1.0, -2.0, 0.5]), x), X, without="autograd")
row("float-step", lambda np, x: (x > 0) * x, X)
row("i0", lambda np, x: np.i0(x), X, without="autograd jax")

# -- broadcasting
row("outer-sum", lambda np, x, y: x[:, None] + y[None, :] * x[:, None], X, Y)
row("row-and-column", lambda np, a, v: a * v + v, A, V)
row("scalar-times-array", lambda np, a, s: a * s, A, onp.array(1.3))
row("broadcast-to", lambda np, v: np.broadcast_to(v, (3, 4)) ** 2, V, without="autograd")

# -- reductions
for _axis in (None, 0, -1):
    for _name in ("sum", "mean", "prod", "max", "min", "var", "std"):
        row(f"{_name}-{_axis}", lambda np, a, f=_name, k=_axis: getattr(np, f)(a, axis=k), A)
row("sum-two-axes", lambda np, c: np.sum(c, axis=(0, 2)), C)
row("mean-keepdims", lambda np, a: a - np.mean(a, axis=1, keepdims=True), A)
row("var-ddof", lambda np, a: np.var(a, axis=0, ddof=1), A)
row("std-ddof", lambda np, a: np.std(a, ddof=1), A)
row("prod-two-axes", lambda np, c: np.prod(c, axis=(0, 2)), C, without="autograd")
row("cumsum", lambda np, a: np.cumsum(a, axis=1), A)
row("cumsum-flat", lambda np, a: np.cumsum(a), A)
row("cumprod", lambda np, a: np.cumprod(a, axis=1), A, without="autograd")
row("nansum", lambda np, a: np.nansum(np.where(a > 1, np.nan, a)), A, without="autograd")
row("nanmean", lambda np, a: np.nanmean(np.where(a > 1, np.nan, a), axis=0), A, without="autograd")
row("ptp", lambda np, a: np.ptp(a, axis=1), A, without="autograd")
row("average", lambda np, a, v: np.average(a, axis=1, weights=np.exp(v)), A, V, without="autograd")
row("logsumexp", lambda np, a: np.log(np.sum(np.exp(a - np.max(a)), axis=1)) + np.max(a), A)


def softmax(np, a):
    e = np.exp(a - np.max(a, axis=-1, keepdims=True))
    return e / np.sum(e, axis=-1, keepdims=True)


def layer_norm(np, a, v):
    m = np.mean(a, axis=-1, keepdims=True)
    s = np.mean((a - m) ** 2, axis=-1, keepdims=True)
    return (a - m) / np.sqrt(s + 1e-5) * v


row("softmax", softmax, A)
row("layer-norm", layer_norm, A, V)
row("norm", lambda np, a: np.linalg.norm(a), A)
row("norm-axis", lambda np, a: np.linalg.norm(a, axis=1), A)
row("norm-1", lambda np, v: np.linalg.norm(v, 1), V, without="autograd")

# -- movement
row("reshape", lambda np, a: np.reshape(a, (2, 6)) ** 2, A)
row("transpose", lambda np, c: np.transpose(c, (2, 0, 1)) ** 2, C)
row("swapaxes", lambda np, c: np.swapaxes(c, 0, 2) ** 2, C)
row("moveaxis", lambda np, c: np.moveaxis(c, 0, -1) ** 2, C)
row("T", lambda np, a: a.T @ a, A)
row("ravel", lambda np, a: np.ravel(a) ** 2, A)
row("slice", lambda np, a: a[1:, ::2] ** 2, A)
row("negative-step", lambda np, x: x[::-1] * x, X)
row("difference", lambda np, x: (x[1:] - x[:-1]) ** 2, X)
row("diff", lambda np, x: np.diff(x) ** 2, X)
row("index", lambda np, a: a[1] * a[2, 3], A)
row("newaxis", lambda np, v: v[:, None] * v[None], V)
row("concatenate", lambda np, a, v: np.concatenate([a, v[None], a * 2]), A, V)
row("stack", lambda np, x, y: np.stack([x, y, x * y], axis=1), X, Y)
row("hstack", lambda np, x, y: np.hstack([x, y]) ** 2, X, Y)
row("vstack", lambda np, x, y: np.vstack([x, y]) ** 2, X, Y)
row("split", lambda np, a: np.split(a, 2, axis=1)[0] * np.split(a, 2, axis=1)[1], A)
row("pad", lambda np, a: np.pad(a, ((1, 2), (0, 1)), mode="constant") ** 2, A)
row("roll", lambda np, x: np.roll(x, 2) * x, X)
row("flip", lambda np, a: np.flip(a, 1) * a, A, without="autograd")
row("repeat", lambda np, x: np.repeat(x, 3) ** 2, X)
row("tile", lambda np, x: np.tile(x, (2, 3)) ** 2, X)
row("diag", lambda np, q: np.diag(q) ** 2, Q)
row("diag-of", lambda np, v: np.diag(v) @ np.diag(v), V)
row("trace", lambda np, q: np.trace(q @ q), Q)
row("tril", lambda np, q: np.tril(q) @ q, Q)
row("triu", lambda np, q: np.triu(q, 1) ** 2, Q)
row("squeeze", lambda np, v: np.squeeze(v[None, :, None]) ** 2, V)
row("rot90", lambda np, a: np.rot90(a) ** 2, A)
row("gradient", lambda np, x: np.gradient(x), X)

# -- indexing by arrays
row("fancy", lambda np, x: x[PLACES] ** 2, X)
row("fancy-rows", lambda np, a: a[onp.array([0, 2, 0])] ** 2, A)
row("fancy-pairs", lambda np, a: a[onp.array([0, 2, 0]), onp.array([1, 3, 1])] ** 2, A)
row("fancy-columns", lambda np, a: a[:, onp.array([3, 3, 0])] ** 2, A)
row("fancy-negative", lambda np, x: x[onp.array([-1, -1, 0])] ** 2, X)
row("take", lambda np, x: np.take(x, PLACES) ** 2, X, without="autograd")
row("window", lambda np, x: x[np.argmax(x) - 1 : np.argmax(x) + 2] ** 3, X, without="jax")
row("take-along-axis", lambda np, a: np.take_along_axis(a, onp.array([[1, 0], [3, 3], [2, 2]]), 1),
    A, without="autograd")  # fmt: skip
row("sort", lambda np, x: np.sort(x) * P, X)
row("mask-where", lambda np, x: np.sum(np.where(x > 0, x, 0.0) ** 2), X)
row("median", lambda np, x: np.median(x), X, without="autograd")

row("partition", lambda np, a: np.sort(np.partition(a, 2, axis=1)[:, :2]), A, without="autograd")
row("quantile", lambda np, a: np.quantile(a, onp.array([0.3, 0.9]), axis=1), A, without="autograd")
row("percentile", lambda np, a: np.percentile(a, 30.0), A, without="autograd")
row("nanquantile", lambda np, a: np.nanquantile(np.where(a > 1, np.nan, a), 0.3, axis=1), A,
    without="autograd")  # fmt: skip
row("nanmedian", lambda np, a: np.nanmedian(np.where(a > 1, np.nan, a)), A, without="autograd")
row("interp", lambda np, x, y: np.interp(x, onp.linspace(-2, 3, 6), y), X, Y, without="autograd")
row("bincount", lambda np, x: np.bincount(onp.array([0, 1, 1, 2, 0, 4]), x, 5), X,
    without="autograd")  # fmt: skip
row("select", lambda np, x, y: np.select([x > 1, x > 0], [x * y, np.sqrt(np.abs(x))], y), X, Y)
row("trapezoid", lambda np, x, y: np.trapezoid(y, x), X, Y, without="autograd")
row("unwrap", lambda np, x: np.unwrap(4 * x), X, without="autograd")
row("logaddexp2", lambda np, x, y: np.logaddexp2(x, y), X, Y)
row("cov", lambda np, a: np.cov(a), A, without="autograd")
row("corrcoef", lambda np, a: np.corrcoef(a), A, without="autograd")
row("vander", lambda np, x: np.vander(x, 4), X, without="autograd")

# -- products
row("dot", lambda np, x, y: np.dot(x, y), X, Y)
row("dot-matrix", lambda np, a, b: np.dot(a, b), A, B)
row("matmul", lambda np, a, b: a @ b, A, B)
row("matrix-vector", lambda np, a, v: a @ v, A, V)
row("vector-matrix", lambda np, b, v: v @ b, B, V)
row("batched", lambda np, c, d: c @ d, C, D)
row("batched-broadcast", lambda np, c, b: c @ b, C, B)
row("batched-left", lambda np, a, d: a @ d, A, D)
row("inner", lambda np, a, v: np.inner(a, v), A, V)
row("outer", lambda np, x, y: np.outer(x, y), X, Y)
row("vdot", lambda np, x, y: np.vdot(x, y), X, Y, without="autograd")
row("tensordot", lambda np, c, a: np.tensordot(c, a, axes=([1, 2], [0, 1])), C, A)
row("einsum", lambda np, c, d: np.einsum("bij,bjk->bik", c, d), C, D)
row("einsum-sum", lambda np, a, b: np.einsum("ij,jk->", a, b), A, B)
row("einsum-trace", lambda np, q: np.einsum("ii->i", q) ** 2, Q, without="autograd")
row("einsum-bilinear", lambda np, v, q: np.einsum("i,ij,j->", v, q, v), V, Q)
row("convolve", lambda np, x, v: np.convolve(x, v), X, V, without="autograd")
row("correlate", lambda np, x, v: np.correlate(x, v, mode="full"), X, V, without="autograd")
row("multi-dot", lambda np, a, b: np.linalg.multi_dot([a, b, b.T]), A, B, without="autograd")
row("kron", lambda np, x, y: np.kron(x, y), X, Y)
row("cross", lambda np, x, y: np.cross(x.reshape(2, 3), y.reshape(2, 3)), X, Y, without="autograd")
row("quadratic", lambda np, v, q: v @ q @ v, V, Q)
row("convolution", lambda np, x: x[2:] * 0.25 + x[1:-1] * 0.5 + x[:-2] * 0.25, X)

# -- linear algebra
row("inv", lambda np, q: np.linalg.inv(q), Q)
row("solve", lambda np, q, v: np.linalg.solve(q, v), Q, V)
row("solve-matrix", lambda np, q, b: np.linalg.solve(q, b), Q, B)
row("det", lambda np, q: np.linalg.det(q), Q)
row("slogdet", lambda np, q: np.linalg.slogdet(q)[1], Q)
row("cholesky", lambda np, q: np.linalg.cholesky(q @ q.T), Q)
row("eigh-values", lambda np, q: np.linalg.eigh(q + q.T)[0], Q)
row("eigh-vectors", lambda np, q: np.linalg.eigh(q + q.T)[1] ** 2, Q)
row("eigvalsh", lambda np, q: np.linalg.eigvalsh(q + q.T), Q, without="autograd")
row("svd-values", lambda np, a: np.linalg.svd(a, full_matrices=False)[1], A)
row("svd-vectors", lambda np, a: np.linalg.svd(a, full_matrices=False)[0] ** 2, A)
row("pinv", lambda np, a: np.linalg.pinv(a), A)
row("qr", lambda np, q: np.linalg.qr(q)[1] ** 2, Q, without="autograd")
row("lstsq", lambda np, a, v: np.linalg.lstsq(a.T, v)[0], A, V, without="autograd")
row("cond", lambda np, a: np.linalg.cond(a), A, without="autograd")
row("qr-tall", lambda np, a: np.linalg.qr(a.T)[0] ** 2, A, without="autograd")
row("norm-nuclear", lambda np, a: np.linalg.norm(a, "nuc"), A)
row("norm-spectral", lambda np, a: np.linalg.norm(a, 2), A, without="autograd")
row("polyfit", lambda np, x, y: np.polyfit(x, y, 2), X, Y, without="autograd")
row("matrix-power", lambda np, q: np.linalg.matrix_power(q, 3), Q, without="autograd")
row("inv-stack", lambda np, q: np.linalg.inv(np.stack([q, q @ q])), Q)

# -- Fourier transforms, through real numbers
row("fft", lambda np, x: np.abs(np.fft.fft(x)) ** 2, X)
row("ifft", lambda np, x: np.real(np.fft.ifft(x * (1 + 2j))), X)
row("rfft", lambda np, x: np.abs(np.fft.rfft(x)) ** 2, X, without="autograd")
row("irfft", lambda np, x: np.fft.irfft(np.fft.rfft(x) ** 2), X, without="autograd")
row("fft2", lambda np, a: np.abs(np.fft.fft2(a)) ** 2, A)
row("fft-n", lambda np, x: np.imag(np.fft.fft(x, 4)), X, without="autograd")
row("fftshift", lambda np, x: np.fft.fftshift(x) * x, X)

row("hfft", lambda np, x, y: np.fft.hfft(x + 1j * y), X, Y, without="autograd")
row("ihfft", lambda np, x: np.abs(np.fft.ihfft(x)) ** 2, X, without="autograd")
row("rfft2-s", lambda np, a: np.abs(np.fft.rfft2(a, (2, 5))) ** 2, A, without="autograd")
row("irfftn-s", lambda np, a: np.fft.irfftn(a * (1 + 2j), (4, 5), (0, 1)), A, without="autograd")

# -- complex numbers between real ones
row("complex-abs", lambda np, x, y: np.abs(x + 1j * y), X, Y)
row("complex-exp", lambda np, x: np.real(np.exp(1j * x) * (2 + 1j)), X)
row("complex-product", lambda np, x, y: np.imag((x + 1j * y) ** 2), X, Y)
row("angle", lambda np, x, y: np.angle(x + 1j * y), X, Y)
row("conjugate", lambda np, x, y: np.real(np.conj(x + 1j * y) * (x - 2j)), X, Y)

# -- programs
def mlp(np, w1, w2, v):
    return np.tanh(v @ w1) @ w2


def newton(np, x):
    y = x
    for _ in range(5):
        y = y - (y**3 - x) / (3 * y**2 + 1)
    return y


row("mlp", mlp, Q, B, V)
row("newton", newton, P)
row("attention", lambda np, c: softmax(np, c @ np.swapaxes(c, 1, 2)) @ c, C)
row("gaussian", lambda np, x, y: np.exp(-((x[:, None] - y) ** 2)), X, Y)
row("black-scholes", lambda np, x, y: x * np.exp(-y) / (1 + np.sqrt(x) * np.exp(y)), P, Y)


def weighted(module, fn):
    """A number from the result: the same for every library."""

    def loss(*arrays):
        y = fn(module, *arrays)
        weights = onp.cos(onp.arange(y.size) * 0.7 + 0.3).reshape(y.shape)
        return (y * weights).sum()

    return loss
