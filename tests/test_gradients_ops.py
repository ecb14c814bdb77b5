"""Every op of the table that has a derivative, and every NumPy function with a rule of its own.

First and second order, forwards against backwards, and both against central differences in
float64: 1e-6 of the first, 1e-4 of the second (`fusec.check_grads`). NumPy runs the graphs: what
kernels compute is tested elsewhere.
"""

import numpy as np
import pytest

import fusec
from fusec.autodiff.host_equivalents import RULES
from fusec.ops.registry import NONDIFFERENTIABLE, OPS
from fusec.trace.tracer import fresh

POINTS = 7
_rng = np.random.default_rng(5)
LINE = _rng.normal(size=6)
TABLE = _rng.normal(size=(3, 4))
SQUARE = _rng.normal(size=(4, 4)) + 4 * np.eye(4)
PLACES = np.array([2, 0, 2])


@pytest.fixture(autouse=True)
def interpreted(monkeypatch):
    monkeypatch.setattr(fusec.config, "disable", True)


def op_call(name, **attrs):
    """The op as a function of traced arrays."""

    def call(*inputs):
        session = getattr(inputs[0], "_session", None)
        if session is None:
            return OPS[name].impl(*map(np.asarray, inputs), **attrs)
        nodes = [x.node if hasattr(x, "node") else session.const(x) for x in inputs]
        return fresh(session, session.make(name, *nodes, **attrs))

    return call


ATTRS = {
    "reduce": {"axes": (0,)}, "scan": {"axis": 1}, "slice": {"start": (2, 3), "step": (-1, -2),
    "shape": (3, 2)}, "transpose": {"perm": (1, 0)}, "reshape": {"shape": (2, 6)},
    "broadcast_to": {"shape": (2, 3, 4)}, "diagonal": {}, "concatenate": {"axis": 1},
    "windows": {"shape": (2,), "axes": (1,)},
    "pad": {"before": (1, 0), "after": (0, 2)}, "slice_update": {"start": (0, 3), "step": (2, -2)},
    "gather": {"shape": (3,)}, "cast": {"dtype": np.dtype("f8")},
}  # fmt: skip
INPUTS = {
    "diagonal": (SQUARE,),
    "concatenate": (TABLE, TABLE[:, :2] * 2),
    "pad": (TABLE, np.array(0.5)),
    "slice_update": (TABLE, TABLE[:2, :2] * 3),
    "gather": (LINE, PLACES),
    "scatter_flat": (LINE, PLACES, LINE[:3] * 2),
    "scatter_add": (LINE, LINE[:3] * 2, PLACES),
    "matmul": (TABLE, SQUARE),
    "where": (LINE > 0, LINE, LINE[::-1] * 2),
    "check": (LINE, LINE < 100),
    "ldexp": (LINE, np.arange(6, dtype="i4")),
    "real": (LINE + 1j * LINE[::-1],),
    "imag": (LINE + 1j * LINE[::-1],),
    "hold": (LINE, LINE * 2),
}


def inputs_of(op):
    if op.name in INPUTS:
        return INPUTS[op.name]
    if op.family != "elementwise":
        return (TABLE,)
    ranges = op.sample if len(op.sample) > 1 else op.sample * len(op.vjp)
    return tuple(_rng.uniform(low, high, POINTS) for low, high in ranges)


def attrs_of(op):
    if op.name in ("scatter_flat", "scatter_add", "matmul", "hold"):
        return {}
    return ATTRS.get(op.name, ATTRS.get(op.family, {}))


OPS_WITH_RULES = [
    op for op in OPS.values() if op.vjp is not None and op.vjp is not NONDIFFERENTIABLE
]


@pytest.mark.parametrize("op", OPS_WITH_RULES, ids=lambda op: op.name)
def test_op(op):
    fusec.check_grads(op_call(op.name, **attrs_of(op)), inputs_of(op), order=2)


def test_every_op_says_what_its_derivative_is():
    silent = [op.name for op in OPS.values() if op.vjp is None]
    assert sorted(silent) == [
        "const", "custom", "custom_out", "dim", "host_call", "host_out", "iota", "loop", "param",
        "recurrence",
    ]  # fmt: skip


SYMMETRIC = SQUARE + SQUARE.T
TALL = _rng.normal(size=(4, 3))
ABOVE = np.flatnonzero(TABLE[:, 0] > TABLE[:, 1])


def updated(x, mask, values):
    y = x * 2
    y[mask] = values
    return y * x


HOST = {
    "inv": (np.linalg.inv, SQUARE), "solve": (np.linalg.solve, SQUARE, TALL),
    "det": (np.linalg.det, SQUARE), "slogdet": (lambda a: np.linalg.slogdet(a)[1], SQUARE),
    "cholesky": (lambda a: np.linalg.cholesky(a @ a.T), SQUARE),
    "eigh": (lambda a: np.linalg.eigh(a + a.T)[0], SQUARE),
    "eigvalsh": (lambda a: np.linalg.eigvalsh(a + a.T), SQUARE),
    "eigh-vectors": (lambda a: np.linalg.eigh(a + a.T)[1] ** 2, SQUARE),
    "svd": (lambda a: np.linalg.svd(a)[1], TALL),
    "svd-u": (lambda a: np.linalg.svd(a, full_matrices=False)[0] ** 2, TALL),
    "svd-v": (lambda a: np.linalg.svd(a.T, full_matrices=False)[2] ** 2, TALL),
    "svdvals": (lambda a: np.linalg.svd(a, compute_uv=False), TALL),
    "pinv": (np.linalg.pinv, TALL), "qr": (lambda a: np.linalg.qr(a)[0] ** 2, TALL),
    "qr-r": (lambda a: np.linalg.qr(a, mode="r") ** 2, TALL),
    "fft": (lambda x: np.abs(np.fft.fft(x, 8, norm="ortho")) ** 2, LINE),
    "ifft": (lambda x: np.real(np.fft.ifft(x * 1j, 4)), LINE),
    "fft2": (lambda x: np.imag(np.fft.fft2(x, (2, 6))), TABLE),
    "ifft2": (lambda x: np.imag(np.fft.ifft2(x)), TABLE),
    "fftn": (lambda x: np.abs(np.fft.fftn(x, axes=(0,))) ** 2, TABLE),
    "ifftn": (lambda x: np.imag(np.fft.ifftn(x, norm="forward")), TABLE),
    "rfft": (lambda x: np.abs(np.fft.rfft(x, 5)) ** 2, LINE),
    "irfft": (lambda x: np.fft.irfft(x * (1 + 2j), 5, norm="ortho"), LINE),
    "irfft-even": (lambda x: np.fft.irfft(x * (1 + 2j)), LINE),
    "rfft2": (lambda x: np.abs(np.fft.rfft2(x)) ** 2, TABLE),
    "rfftn": (lambda x: np.abs(np.fft.rfftn(x)) ** 2, TABLE),
    "irfft2": (lambda x: np.fft.irfft2(x * (1 - 1j)), TABLE),
    "irfftn": (lambda x: np.fft.irfftn(x * (1 - 1j)) ** 2, TABLE),
    "sort": (lambda x: np.sort(x, axis=0) ** 2, TABLE),
    "sort-flat": (lambda x: np.sort(x, None), TABLE),
    "median": (lambda x: np.median(x, axis=1) ** 2, TABLE),
    "median-all": (lambda x: np.median(x, keepdims=True) ** 2, TABLE),
    "interp": (np.interp, np.array([-1.0, 0.2, 0.7, 2.5, 4.0]), np.array([0.0, 0.5, 1.0, 3.0]),
               LINE[:4]),
    "convolve": (np.convolve, LINE, TABLE[0]),
    "convolve-same": (lambda a, v: np.convolve(a, v, "same"), LINE, TABLE[0]),
    "convolve-valid": (lambda a, v: np.convolve(v, a, "valid"), LINE, TABLE[0]),
    "convolve-list": (lambda a: np.convolve(a, [1.0, 2.0, 3.0], "same"), LINE),
    "solve-list": (lambda b: np.linalg.solve([[1.0, 2.0], [3.0, 5.0]], b), LINE[:2]),
    "solve-lists": (lambda a: np.linalg.solve(a, [1.0, 2.0, 3.0, 4.0]), SQUARE),
    "lstsq-list": (lambda a: np.linalg.lstsq(a, [1.0, 2.0, 3.0, 4.0])[0], TALL),
    "correlate-list": (lambda a: np.correlate([1.0, 2.0, 3.0], a), LINE),
    "correlate": (np.correlate, LINE, TABLE[0]),
    "correlate-same-even": (lambda a, v: np.correlate(a, v, "same"), LINE[:4], TABLE.ravel()[:8]),
    "correlate-same-odd": (lambda a, v: np.correlate(a, v, "same"), LINE[:4], TABLE.ravel()[:9]),
    "convolve-same-even": (lambda a, v: np.convolve(a, v, "same"), LINE[:4], TABLE.ravel()[:8]),
    "correlate-same": (lambda a, v: np.correlate(v=v[:3], a=a[:4], mode="same"), LINE, TABLE[0]),
    "interp-options": (
        lambda x, f: np.interp(x, [0.0, 0.5, 1.0, 3.0], f, left=f[1] ** 2, right=f[0]),
        np.array([-1.0, 0.2, 0.7, 2.5, 4.0]), LINE[:4]),
    "interp-period": (
        lambda x, f: np.interp(x, np.array([0.0, 2.5, 1.0, 3.0]), f, period=4.0),
        np.array([-0.8, 0.2, 0.7, 2.6, 7.3]), LINE[:4]),
    "lstsq": (lambda a, b: np.linalg.lstsq(a, b)[0], TALL, SQUARE),
    "lstsq-residuals": (lambda a, b: np.linalg.lstsq(a, b)[1], TALL, SQUARE[0]),
    "lstsq-wide": (lambda a, b: np.linalg.lstsq(a.T, b)[0], TALL, LINE[:3]),
    "cond": (np.linalg.cond, TALL), "cond-1": (lambda a: np.linalg.cond(a, 1), SQUARE),
    "cond-2": (lambda a: np.linalg.cond(a, -2), TALL),
    "eigvals": (lambda a: np.abs(np.linalg.eigvals(a + 0j)) ** 2, SQUARE),
    "eig": (lambda a: np.abs(np.linalg.eig(a + 0j)[1]) ** 2, SQUARE),
    "qr-wide": (lambda a: np.linalg.qr(a.T)[1] ** 2, TALL),
    "qr-complete": (lambda a: np.linalg.qr(a, "complete")[0] ** 2, SQUARE),
    "polyfit": (lambda y: np.polyfit(LINE, y, 2), LINE**3),
    "polyfit-w": (lambda x, y, w: np.polyfit(x, y, 2, w=w), LINE, LINE**3, LINE**2 + 1),
    "hfft": (lambda x: np.fft.hfft(x * (1 + 2j), 7, norm="forward"), LINE),
    "ihfft": (lambda x: np.abs(np.fft.ihfft(x)) ** 2, LINE),
    "rfft2-s": (lambda x: np.abs(np.fft.rfft2(x, (2, 5))) ** 2, TABLE),
    "rfftn-s": (lambda x: np.abs(np.fft.rfftn(x, (4,), (0,))) ** 2, TABLE),
    "irfft2-s": (lambda x: np.fft.irfft2(x * (1 - 1j), (4, 5)), TABLE),
    "irfftn-s": (lambda x: np.fft.irfftn(x * (1 - 1j), (2, 7), (0, 1), "ortho"), TABLE),
    "median-name": (lambda x: np.median(axis=0, a=x), TABLE),
    "nanmedian": (lambda x: np.nanmedian(np.where(x > 1, np.nan, x), axis=0), TABLE),
    "quantile": (lambda x: np.quantile(x, [0.0, 0.3, 1.0], axis=1) ** 2, TABLE),
    "quantile-q": (lambda x, q: np.quantile(x, q, keepdims=True), TABLE, np.array([[0.3, 0.6]])),
    "quantile-nearest": (lambda x: np.quantile(x, 0.3, axis=0, method="nearest"), TABLE),
    "quantile-hazen": (lambda x: np.quantile(x, 0.3, method="hazen"), TABLE),
    "percentile": (lambda x: np.percentile(x, 30, axis=(0, 1)), TABLE),
    "percentile-higher": (lambda x: np.percentile(x, [30, 40], method="higher"), TABLE),
    "nanquantile": (
        lambda x: np.nanquantile(np.where(x > 1, np.nan, x), [0.3, 0.7], axis=1), TABLE),
    "nanpercentile": (lambda x: np.nanpercentile(np.where(x > 1, np.nan, x), 30.0), TABLE),
    "partition": (lambda x: np.partition(x, 2, axis=1)[:, :2] ** 2, TABLE),
    "partition-flat": (lambda x: np.partition(x, 3, None)[3], TABLE),
    "bincount": (lambda w: np.bincount([0, 1, 1, 2, 0, 4], w, minlength=6) ** 2, LINE),
    "put_mask": (lambda x, v: updated(x, x > 0.5, v), TABLE, LINE[: np.sum(TABLE > 0.5)]),
    "put_mask-one": (lambda x, v: updated(x, x > 0.5, v[:1]), TABLE, LINE),
    "put_mask-rows": (
        lambda x, v: updated(x, x[:, 0] > x[:, 1], v), TABLE, SQUARE[: len(ABOVE)]),
}  # fmt: skip


@pytest.mark.parametrize("name", HOST)
def test_host_function(name):
    function, *args = HOST[name]
    fusec.check_grads(function, tuple(args), order=2)


def test_every_host_rule_has_a_row():
    names = {f.__name__ for f in RULES if f is not None}
    assert names <= {n.partition("-")[0] for n in HOST}


COMPLEX = {
    "inv": (np.linalg.inv, SQUARE + 1j), "pinv": (np.linalg.pinv, TALL + 1j * TALL**2),
    "cholesky": (lambda a: np.linalg.cholesky(a @ np.conj(a.T)), SQUARE + 1j * SQUARE**2),
    "eigh": (lambda a: np.linalg.eigh(a + np.conj(a.T))[0], SQUARE + 1j * SQUARE**2),
    "svd": (lambda a: np.linalg.svd(a)[1], TALL + 1j * TALL**2),
    "svd-parts": (lambda a: np.log(np.linalg.svd(a, False)[1]) * np.linalg.svd(a, False)[0]
                  @ np.linalg.svd(a, False)[2], TALL + 1j * TALL**2),
    "qr": (np.linalg.qr, TALL + 1j * TALL**2), "qr-wide": (np.linalg.qr, TALL.T + 1j * TALL.T**2),
    "eig": (lambda a: np.abs(np.linalg.eig(a)[1]) ** 2, SQUARE + 1j * SQUARE**2),
    "lstsq": (lambda a, b: np.linalg.lstsq(a, b)[:2], TALL + 1j * TALL**2, SQUARE[0] + 1j),
    "correlate": (np.correlate, LINE + 1j * LINE**2, LINE[:3] - 1j),
    "slogdet": (np.linalg.slogdet, SQUARE + 1j), "det": (np.linalg.det, SQUARE + 1j),
    "abs": (np.abs, LINE + 1j), "matmul": (np.matmul, SQUARE + 1j, TALL - 1j),
    "conjugate": (lambda z: np.conj(z) * z**2, LINE + 1j), "fft": (np.fft.fft, LINE + 1j),
    "sum": (lambda z: np.sum(z * z, axis=0), TABLE + 1j), "prod": (np.prod, LINE + 1j),
    "exp": (np.exp, LINE + 1j), "var": (np.var, LINE + 1j * LINE**2),
    "gather": (lambda z: z[PLACES] ** 2, LINE + 1j), "sqrt": (np.sqrt, LINE + 1j),
    "parts": (lambda z: z.real * z.imag, LINE + 1j), "cumsum": (np.cumsum, LINE + 1j),
}  # fmt: skip


@pytest.mark.parametrize("name", COMPLEX)
def test_complex(name):
    function, *args = COMPLEX[name]
    fusec.check_grads(function, tuple(args), order=2)


def test_check_grads_finds_a_wrong_rule():
    @fusec.custom_vjp
    def f(x):
        return x * x

    f.defvjp(lambda x: (x * x, x), lambda x, g: (3 * x * g,))
    with pytest.raises(fusec.errors.VerifyError, match="derivative of order 1 of result"):
        fusec.check_grads(lambda x: f(x), (LINE,))


def test_check_grads_takes_containers_and_float32():
    f = lambda p, n: {"y": np.tanh(p["w"]) * n, "k": n}
    fusec.check_grads(f, ({"w": LINE, "k": 3}, 2))
    fusec.check_grads(lambda x: np.sin(x), (LINE.astype("f4"),), order=1)
