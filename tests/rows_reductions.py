"""Rows of `numpy_faithfulness.md` about reductions, scans, searches and matrix products."""

import numpy as np
from table import COMPLEX, FLOATS, INTS, SUM, Table, extremes, positive, ramp, special

ROWS = Table()
row = ROWS.row

# --- accumulator dtypes
for d in (*INTS, "?"):
    a = extremes(d) if d != "?" else ramp("?")
    row(f"accumulators-{d}", lambda x: (np.sum(x), np.prod(x), np.cumsum(x), np.cumprod(x)), a)
    row(f"accumulators-axis-{d}", lambda x: (x.sum(axis=0), x.prod(axis=1), x.cumsum(axis=1)),
        ramp(d, 3, 4))
    row(f"means-{d}", lambda x: (np.mean(x), np.var(x), np.std(x), x.mean(axis=0)),
        ramp(d, 3, 4), rel=1e-14)
    row(f"any-all-{d}", lambda x: (np.any(x), np.all(x), x.any(axis=0), x.all(axis=1),
        np.count_nonzero(x)), ramp(d, 3, 4))
    row(f"minmax-{d}", lambda x: (x.min(), x.max(), x.min(axis=0), x.max(axis=1), np.ptp(x)
        if x.dtype != bool else x.max()), ramp(d, 3, 4))
    row(f"argminmax-{d}", lambda x: (x.argmin(), x.argmax(), x.argmin(axis=0), x.argmax(axis=1)),
        ramp(d, 3, 4) // 4 if d != "?" else ramp("?", 3, 4))
    row(f"sum-dtype-{d}", lambda x: (x.sum(dtype=np.float32), x.sum(dtype=np.int8)), ramp(d))
    row(f"diff-{d}", lambda x: (np.diff(x), np.diff(x, n=2)), ramp(d))
for d in (*FLOATS, "f2"):
    rel = SUM[d]
    row(f"sums-{d}", lambda x: (x.sum(), x.sum(axis=0), x.sum(axis=1), x.sum(axis=(0, 1))),
        ramp(d, 13, 17), rel=rel)
    row(f"means-{d}", lambda x: (x.mean(), x.mean(axis=0), x.var(axis=1), x.std()),
        ramp(d, 13, 17), rel=4 * rel)
    row(f"prod-cumsum-{d}", lambda x: (x.prod(), x.cumsum(), x.cumprod(axis=1)),
        positive(d, 3, 4) / 2, rel=4 * rel)
    row(f"minmax-{d}", lambda x: (x.min(), x.max(), x.min(axis=0), x.max(axis=1)),
        ramp(d, 13, 17))

def far(d, n, *places):
    """A long array whose extremes stand at ``places``, the largest and the smallest in turns."""
    x = ramp(d, 11).repeat(-(-n // 11))[:n].copy()
    for k, place in enumerate(places):
        x[place] = (x.max(), x.min())[k % 2]
    return x


# One long array is searched by pieces, the last of which may overlap the one before.
for d in ("?", "i1", "u8", "f2", "f4", "f8"):
    for n in (1 << 16, 70_001):
        row(f"argminmax-far-{d}-{n}", lambda x: (x.argmax(), x.argmin(), x[::-1].argmax(),
            x.reshape(1, -1).argmin(), np.argmax(x, keepdims=True), x[:-1].argmin()),
            far(d, n, n - 1, n - 2, n - 1024, 1023))
        row(f"argminmax-equal-{d}-{n}", lambda x: (x.argmax(), x.argmin()), np.ones(n, d))
        if d[0] == "f":
            late, none = far(d, n), np.full(n, -np.inf, d)
            late[[n - 7, n - 5]] = np.nan
            row(f"argminmax-far-nan-{d}-{n}", lambda x, y: (x.argmax(), x[::-1].argmin(),
                np.nanargmax(x), y.argmax(), y.argmin()), late, none)

# A search for the first place ends early, but not over positions that a narrow dtype has wrapped.
for d in ("i1", "u1", "i2", "u2", "?"):
    most = np.full((3, 70_001), np.iinfo(d).max if d != "?" else True, d)
    row(f"sum-long-{d}", lambda x: (np.sum(x), np.sum(x, axis=1), np.count_nonzero(x, axis=1),
        np.sum(x.astype("i8"), axis=1), (x > 0).mean(axis=1), np.sum(-x.astype("i4"))), most)
    row(f"sum-prod-{d}", lambda x: (np.sum(x, axis=1), np.prod(x, axis=1), np.sum(x), np.prod(x)),
        most[:, :300])
for d in ("i1", "u1", "i2", "f4"):
    row(f"first-place-{d}", lambda x, d=d: np.where(x > 0, np.arange(1000).astype(d),
        np.full((), 127, d)).min(), np.isin(np.arange(1000), (100, 200, 261, 400)) * 2.0 - 1)

for d in FLOATS:
    v, grid = special(d), np.resize(special(d), (5, 7))
    small = np.where(np.isfinite(grid), np.sign(grid) * 1.5, np.nan).astype(d)
    row(f"nan-minmax-{d}", lambda x: (x.min(), x.max(), x.min(axis=0), x.max(axis=1)), grid)
    row(f"nan-argminmax-{d}", lambda x: (x.argmin(), x.argmax(), x.argmax(axis=0), x.argmin(1)),
        grid)
    row(f"nan-functions-{d}",
        lambda x: (np.nanmax(x), np.nanmin(x, axis=0), np.nansum(x > 0), np.nanargmax(x)), grid)
    row(f"nan-sums-{d}", lambda x: (np.nansum(x), np.nanmean(x, axis=0), np.nanprod(x),
        np.nanstd(x), np.nanvar(x, axis=1)), small, rel=1e-5 if d == "f4" else 1e-13)
    row(f"nan-cumsum-{d}", lambda x: (np.nancumsum(x), np.nancumprod(x)), v[:13], rel=SUM[d])
    row(f"all-nan-{d}", lambda x: (np.nanmax(x), np.nanmean(x)), np.full(3, np.nan, d))
    row(f"nan-sum-{d}", lambda x: (x.sum(), x.mean(), x.prod(), x.any(), x.all()), v)
    row(f"inf-minus-inf-{d}", lambda x: (x - x).sum(), np.array([np.inf, 1], d))
    row(f"sort-nan-{d}", lambda x: (np.sort(x), np.argsort(x, kind="stable")), np.delete(v, 3))
    row(f"first-of-equals-{d}", lambda x: (x.argmax(), x.argmin(), x.argmax(axis=1)),
        np.array([[1, 3, 3, 1], [0, 0, 0, 0], [2, 1, 2, 1]], d))
    row(f"argmax-first-nan-{d}", lambda x: (x.argmax(), x.argmin()),
        np.array([1, np.nan, 5, np.nan, -9], d))
    row(f"order-statistics-{d}", lambda x: (np.median(x), np.percentile(x, 30),
        np.quantile(x, 0.7), np.average(x)), ramp(d), rel=1e-6)
    row(f"order-statistics-axis-{d}", lambda x: (np.median(x, axis=0), np.percentile(x, 30, axis=1),
        np.quantile(x, [0.2, 0.7])), ramp(d, 3, 4), rel=1e-6)
    row(f"average-weights-{d}", lambda x, w: np.average(x, weights=w), ramp(d), positive(d),
        rel=1e-5)
    row(f"norms-{d}", lambda x: (np.linalg.norm(x), np.linalg.norm(x, axis=0),
        np.linalg.norm(x, ord=1, axis=1), np.linalg.norm(x, ord=np.inf, axis=1)), ramp(d, 3, 4),
        rel=1e-6)
    row(f"long-rows-{d}", lambda x: (x.sum(axis=1), x.max(axis=1), x.mean(axis=0)),
        ramp(d, 3, 2000), rel=4 * SUM[d])
for d in COMPLEX:
    row(f"complex-reductions-{d}", lambda x: (x.sum(), x.mean(axis=0), x.prod(), x.any()),
        ramp(d, 3, 4) / 4, rel=1e-5 if d == "c8" else 1e-13)
    row(f"complex-var-{d}", lambda x: (x.var(), x.std(axis=0)), ramp(d, 3, 4), rel=1e-5)
    row(f"complex-minmax-{d}", lambda x: (x.max(), x.argmax(), x.min(axis=0)), ramp(d, 3, 4))

# --- empty arrays
for name, fn in {
    "sum": lambda x: x.sum(), "prod": lambda x: x.prod(), "any": lambda x: x.any(),
    "all": lambda x: x.all(), "max": lambda x: x.max(), "argmax": lambda x: x.argmax(),
    "mean": lambda x: x.mean(), "var": lambda x: x.var(), "median": lambda x: np.median(x),
    "cumsum": lambda x: x.cumsum(), "norm": lambda x: np.linalg.norm(x),
    "max-initial": lambda x: x.max(initial=3), "nanmax": lambda x: np.nanmax(x),
    "sum-axis": lambda x: x.sum(axis=0), "mean-axis": lambda x: x.mean(axis=-1),
    "elementwise": lambda x: np.exp(x) + 1, "count": lambda x: np.count_nonzero(x),
    "nansum": lambda x: np.nansum(x), "dot": lambda x: x @ x, "ptp": lambda x: np.ptp(x),
}.items():
    row(f"empty-{name}", fn, np.zeros(0, "f4"))
for shape in ((0, 3), (3, 0), (0, 0)):
    row(f"empty-sum-{shape}", lambda x: (x.sum(), x.sum(axis=0), x.sum(axis=1, keepdims=True),
        x.prod(axis=(0, 1)), x * 2, x.T, x.any(axis=1)), np.zeros(shape))
    row(f"empty-max-axis-0-{shape}", lambda x: x.max(axis=0), np.zeros(shape))
    row(f"empty-max-axis-1-{shape}", lambda x: x.max(axis=1), np.zeros(shape))
    row(f"empty-matmul-{shape}", lambda x: (x @ x.T, x.T @ x), np.zeros(shape))
    row(f"empty-argmin-{shape}", lambda x: x.argmin(axis=1), np.zeros(shape))

# --- axis, keepdims, where, initial, dtype, out, ddof
cube = ramp("f8", 3, 4, 5)
for axis in (0, 1, -1, -2, (0, 1), (0, 2), (-1, 0), (), (0, 1, 2), None):
    row(f"axis-{axis}", lambda x, axis=axis: (x.sum(axis=axis), x.max(axis=axis, keepdims=True),
        x.mean(axis, keepdims=True), np.all(x, axis=axis)), cube, rel=4e-15)
for axis in (3, -4, (0, 0), (0, 3), 1.0, "x"):
    row(f"bad-axis-{axis}", lambda x, axis=axis: x.sum(axis=axis), cube)
row("bad-axis-cumsum", lambda x: x.cumsum(axis=5), cube)
row("tuple-axis-argmax", lambda x: x.argmax(axis=(0, 1)), cube)
row("argmax-keepdims", lambda x: np.argmax(x, axis=1, keepdims=True), cube)
row("where-sum", lambda x, m: (x.sum(where=m), x.max(where=m, initial=0), x.mean(where=m)), cube,
    ramp("?", 3, 4, 5), rel=4e-15)
row("where-broadcast", lambda x, m: x.sum(axis=0, where=m), cube, ramp("?", 5), rel=4e-15)
row("where-max-without-initial", lambda x, m: x.max(where=m), cube, ramp("?", 3, 4, 5))
row("where-nothing", lambda x, m: (x.sum(where=m), x.mean(where=m)), cube, np.zeros((3, 4, 5), "?"))
row("initial", lambda x: (x.sum(initial=5), x.prod(initial=0), x.min(initial=-100)), cube,
    rel=4e-15)
row("initial-float-on-int", lambda x: x.sum(initial=1.5), ramp("i4"))
row("dtype", lambda x: (x.sum(dtype="f4"), x.mean(dtype="f4"), np.cumsum(x, dtype="f4")), cube,
    rel=1e-6)
row("mean-f2-of-many", lambda x: x.mean(), np.full(70_000, 3, "f2"), rel=1e-3)
row("sum-dtype-of-f4", lambda x: x.sum(dtype=np.float64), ramp("f4", 1000), rel=1e-14)
row("var-ddof", lambda x: (x.var(ddof=1), x.std(axis=0, ddof=1), np.var(x, axis=(0, 1), ddof=2)),
    cube, rel=1e-14)
row("var-ddof-too-large", lambda x: x.var(ddof=3), ramp("f8", 3))
row("var-correction", lambda x: np.var(x, correction=1), ramp("f8"), rel=1e-14)
row("var-mean", lambda x: np.var(x, axis=0, mean=x.mean(axis=0, keepdims=True)), cube, rel=1e-14)


def sum_into(x, out):
    return np.sum(x, axis=0, out=out)


row("out-sum", sum_into, cube, np.zeros((4, 5)), rel=4e-15)
row("out-sum-f4", sum_into, cube, np.zeros((4, 5), "f4"), rel=1e-6)
row("out-sum-wrong-shape", sum_into, cube, np.zeros((4, 4)))
row("out-sum-strided", sum_into, cube, np.zeros((8, 10))[::2, ::2], rel=4e-15)
row("out-cumsum", lambda x: np.cumsum(x, axis=0, out=x), ramp("f8", 3, 4), rel=4e-15)
row("initial-text", lambda x: x.max(initial="a"), ramp("f8"))
row("initial-list", lambda x: np.sum(x, initial=[1, 2]), ramp("f8"))
row("ufunc-reduce", lambda x: (np.add.reduce(x), np.maximum.reduce(x, axis=1),
    np.multiply.reduce(x, axis=None), np.logical_or.reduce(x)), ramp("f8", 3, 4), rel=1e-14)
row("ufunc-accumulate", lambda x: (np.add.accumulate(x), np.maximum.accumulate(x)), ramp("i8"))
for _axis in (None, (0,), (-1,), (), (0, 1), 2):
    row(f"accumulate-axis-{_axis}", lambda x, a=_axis: np.add.accumulate(x, axis=a), ramp("i8"))
    row(f"cumsum-axis-{_axis}", lambda x, a=_axis: np.cumsum(x, axis=a), ramp("i8"))
row("ufunc-outer", lambda x, y: (np.add.outer(x, y), np.less.outer(x, y)), ramp("f4"), ramp("i4"))
row("cummax-through-minimum", lambda x: np.minimum.accumulate(x, axis=1), ramp("f4", 3, 4))
row("scalars-not-arrays", lambda x: (x.sum(), x[0] @ x[0], x.max(), np.trace(x), x.argmax(),
    np.linalg.norm(x), np.vdot(x, x), np.any(x)), ramp("f4", 4, 4), rel=1e-5)
row("reduce-0-d", lambda x: (x.sum(), x.max(), np.mean(x), x.argmax(), x.cumsum()), np.array(2.5))
row("reduce-numpy-scalar", lambda x: (np.sum(x), np.max(x), x.mean()), np.float32(2.5))
row("builtin-sum-min-max", lambda x: (sum(x), sum([x[0], x[1]])), ramp("f8"))
row("reduce-32-axes", lambda x: (x.sum(), x.sum(axis=(0, 31)), x + 1),
    ramp("f4", *([1, 2] * 4 + [1] * 24)), rel=1e-6)
row("reduced-rows-then-columns", lambda x: x.sum(axis=0).max() + x.max(axis=1).sum(), cube[0],
    rel=1e-14)
row("masked-sum", lambda x: (x[x > 0].sum(), x[x > 0].max(), x[x > 1].mean()), cube, rel=4e-15)
row("masked-max-of-nothing", lambda x: x[x > 100].max(), cube)
row("diff-axis", lambda x: (np.diff(x, axis=0), np.diff(x, axis=-1), np.diff(x, n=0)), cube)
row("diff-prepend", lambda x: np.diff(x, prepend=0, append=x[-1:]), ramp("f4"))
row("trapezoid", lambda x, y: np.trapezoid(y, x), np.sort(ramp("f8")), ramp("f8"), rel=1e-14)
row("gradient", lambda x: np.gradient(x), ramp("f8"), rel=1e-15)
row("cross", lambda x, y: np.cross(x, y), ramp("f8", 4, 3), ramp("f8", 3), rel=1e-15)
row("cov", lambda x: np.cov(x), ramp("f8", 3, 9), rel=1e-14)
for period in (0, 0.0, -4.0, 3):
    row(f"interp-period-{period}", lambda x, p: np.interp(x, p, p * 2, period=period) * 0 + 1,
        ramp("f8"), ramp("f8"))
    row(f"interp-unread-{period}", lambda x, p, q: (np.interp(x, p, p, period=q), x)[1],
        ramp("f8"), ramp("f8"), period)
row("interp", lambda x, p, f: np.interp(x, p, f), ramp("f8"), np.sort(ramp("f8")), ramp("f8"),
    rel=1e-14)
row("searchsorted", lambda p, x: np.searchsorted(p, x), np.sort(ramp("f8")), ramp("f8"))
row("digitize", lambda x, p: np.digitize(x, p), ramp("f8"), np.array([-1.0, 0, 2]))
row("sort-functions", lambda x: (np.sort(x, axis=0), np.argsort(x, axis=1, kind="stable"),
    np.partition(x, 1, axis=1)), ramp("f8", 3, 4))
row("sort-functions-large", lambda x: (np.partition(x, -50, axis=1)[:, -50],
    np.argpartition(x, 900, axis=1)[:, 900]), ramp("f8", 110, 1000))
row("partition-too-far", lambda x: np.partition(x, 1000), ramp("f8", 110, 1000))
row("bincount-minlength", lambda x: np.histogram(x, bins=4, range=(-5, 5))[0], ramp("f8"))
row("allclose", lambda x, y: (np.allclose(x, y), np.array_equal(x, x)), ramp("f4"), ramp("f4"))

# --- matrix products
LINEAR = {"f4": 1e-5, "f8": 1e-13, "c8": 1e-5, "c16": 1e-13}
for d in (*INTS, "?", *LINEAR):
    allowed = {"rel": LINEAR[d]} if d in LINEAR else {}
    x, y, v = ramp(d, 3, 4), ramp(d, 4, 5), ramp(d, 4)
    row(f"matmul-{d}", lambda x, y: x @ y, x, y, **allowed)
    row(f"matmul-vectors-{d}", lambda x, v: (x @ v, v @ x.T, v @ v), x, v, **allowed)
    row(f"matmul-stack-{d}", lambda x, y: x @ y, ramp(d, 2, 1, 3, 4), ramp(d, 5, 4, 2), **allowed)
    row(f"dot-{d}", lambda x, y, v: (np.dot(x, y), np.dot(v, v), np.dot(x, v), np.inner(v, v)), x,
        y, v, **allowed)
    row(f"outer-trace-{d}", lambda x, v: (np.outer(v, v), np.trace(x), np.vdot(v, v)), x, v,
        **allowed)
row("matmul-mixed", lambda x, y: x @ y, ramp("i4", 3, 4), ramp("f4", 4, 5), rel=1e-13)
row("matmul-layouts", lambda x, y: (x.T @ y.T, x[::-1] @ x[:, ::-1].T, y[::2] @ x[::-1]),
    ramp("f8", 4, 3), ramp("f8", 4, 4), rel=1e-13)
row("matmul-layouts-wrong", lambda x, y: x @ y, ramp("f8", 3, 4), ramp("f8", 3, 4))
row("matmul-0-d", lambda x, s: x @ s, ramp("f8", 3, 4), np.array(2.0))
row("matmul-scalar", lambda x: x @ 2.0, ramp("f8", 3, 4))
row("matmul-batch-mismatch", lambda x, y: x @ y, ramp("f8", 2, 3, 4), ramp("f8", 3, 4, 2))
row("matmul-overflow", lambda x, y: x @ y, ramp("i1", 3, 4) * 9, ramp("i1", 4, 5) * 9)
row("dot-stack", lambda x, y: np.dot(x, y), ramp("f8", 2, 3, 4), ramp("f8", 5, 4, 2), rel=1e-13)
row("dot-with-scalar", lambda x: (np.dot(x, 2), np.inner(x, 3)), ramp("f4", 3, 4))
row("inner-2d", lambda x, y: np.inner(x, y), ramp("f8", 3, 4), ramp("f8", 5, 4), rel=1e-13)
row("tensordot", lambda x, y: (np.tensordot(x, y, 1), np.tensordot(x, y, ([1], [1])),
    np.tensordot(x, y, 0)), ramp("f8", 4, 4), ramp("f8", 4, 4), rel=1e-13)
for spec, *shapes in (
    ("ij,jk->ik", (3, 4), (4, 5)), ("ii->i", (4, 4)), ("ii", (4, 4)), ("ij->ji", (3, 4)),
    ("ij,ij->", (3, 4), (3, 4)), ("...i,...i->...", (2, 3, 4), (3, 4)), ("i,j", (3,), (4,)),
    ("...ij->...ji", (2, 3, 4)), ("bij,bjk->bik", (2, 3, 4), (2, 4, 5)), ("ij->j", (3, 4)),
    ("ij,kj,k->i", (3, 4), (5, 4), (5,)), ("ba", (3, 4)), ("ij->", (3, 4)), ("ii->", (4, 4)),
    ("ij,j", (3, 4), (4,)), ("iij->j", (3, 3, 4)), ("ik,kj", (3, 4), (3, 4)), ("ij->k", (3, 4)),
):
    row(f"einsum {spec} {shapes}", lambda *a, spec=spec: np.einsum(spec, *a),
        *(ramp("f8", *s) for s in shapes), rel=1e-13)
for order in ("C", "F", "A", "K", None, "X"):
    for name, y in (("c", ramp("f8", 4, 3)), ("f", np.asfortranarray(ramp("f8", 4, 3)))):
        row(f"einsum-order-{order}-{name}", lambda x, y, order=order: [
            np.einsum(spec, x, y, order=order) for spec in ("ij,jk->ik", "ij,jk->kij", "ij,kl->il")
        ], np.asfortranarray(ramp("f8", 3, 4)), y, rel=1e-14)
        row(f"einsum-order-of-one-{order}-{name}", lambda x, order=order: (
            np.einsum("ij->ji", x, order=order), np.einsum("ij->j", x, order=order)), y, rel=1e-14)
row("einsum-ints", lambda x, y: np.einsum("ij,jk->ik", x, y), ramp("i1", 3, 4), ramp("i1", 4, 3))
row("einsum-lists", lambda x: np.einsum(x, [0, 1], [1, 0]), ramp("f8", 3, 4))
row("kron-triangles", lambda x, y: (np.kron(x, y), np.tril(x), np.triu(x, 1)), ramp("f8", 3, 3),
    ramp("f8", 2, 2))
row("linalg-host", lambda x: (np.linalg.inv(x), np.linalg.det(x), np.linalg.solve(x, x[0])),
    ramp("f8", 3, 3) + 9 * np.eye(3), rel=1e-12)
_NEAR_EYE = ramp("f8", 4, 4) + 99 * np.eye(4)
row("linalg-tensors", lambda x: (
    np.linalg.tensorinv(x), np.linalg.tensorinv(x.reshape(4, 2, 2), 1),
    np.linalg.tensorsolve(x, np.ones((2, 2)))), _NEAR_EYE.reshape(2, 2, 4), rel=1e-12)
row("linalg-tensors-permuted", lambda x, b: np.linalg.tensorsolve(x, b, axes=(0, 2)),
    np.random.default_rng(1).random((2, 2, 2, 2)), np.ones((2, 2)), rel=1e-12)
row("linalg-tensors-large", lambda x: np.linalg.tensorinv(x).sum(axis=0),
    ramp("f8", 18, 18, 324) + 99 * np.eye(324).reshape(18, 18, 324), rel=1e-10)
row("linalg-singular", lambda x: np.linalg.inv(x), np.zeros((3, 3)))
row("linalg-not-square", lambda x: np.linalg.inv(x), np.zeros((3, 2)))
row("fft-host", lambda x: np.abs(np.fft.rfft(x)), ramp("f8"), rel=1e-13)

row("min-of-chosen-f4", lambda x: np.where(x > 2, np.float32(1.5), x).min(), ramp("f4"))
