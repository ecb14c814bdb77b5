"""Every op of the table under ``fusec.vmap``: the result is the stack of single results.

NumPy runs the graphs: what kernels compute is tested elsewhere. Each op is batched in all of its
inputs, and in each of them alone.
"""

import numpy as np
import pytest

import fusec
from fusec.autodiff.batch_host import FIRST, STACKED
from fusec.ops.registry import OPS
from fusec.trace.tracer import fresh

COUNT = 3
_rng = np.random.default_rng(11)


@pytest.fixture(autouse=True)
def interpreted(monkeypatch):
    monkeypatch.setattr(fusec.config, "disable", True)


def normal(*shape):
    return _rng.normal(size=shape)


def whole(*shape, high=4):
    return _rng.integers(0, high, size=shape)


def op_call(name, attrs):
    """The op as a function of arrays, traced or not."""

    def call(*inputs):
        session = next((x._session for x in inputs if hasattr(x, "_session")), None)
        if session is None:
            return OPS[name].impl(*map(np.asarray, inputs), **attrs)
        nodes = [x.node if hasattr(x, "node") else session.const(x) for x in inputs]
        return fresh(session, session.make(name, *nodes, **attrs))

    return call


# Inputs of all examples, then attributes; the inputs of one example are those without the axis.
LINES, TABLES = normal(COUNT, 4), normal(COUNT, 4, 5)
CASES = {
    "slice": [((TABLES,), {"start": (3, 4), "step": (-1, -2), "shape": (3, 2)})],
    "transpose": [((normal(COUNT, 2, 3, 4),), {"perm": (2, 0, 1)})],
    "reshape": [((TABLES,), {"shape": (2, 10)}), ((LINES,), {"shape": (4, 1)})],
    "broadcast_to": [((LINES,), {"shape": (2, 3, 4)}), ((normal(COUNT, 4, 1),),
                     {"shape": (4, 5)}), ((normal(COUNT),), {"shape": (2,)})],
    "diagonal": [((normal(COUNT, 2, 4, 4),), {})],
    "concatenate": [((TABLES, TABLES[:, :, :2] * 2), {"axis": 1})],
    "pad": [((TABLES, normal(COUNT)), {"before": (1, 0), "after": (0, 2)})],
    "slice_update": [((TABLES, normal(COUNT, 2, 2)), {"start": (0, 3), "step": (2, -2)})],
    "gather": [((LINES, whole(COUNT, 3)), {"shape": (3,)}),
               ((TABLES, whole(COUNT, 6, 1), whole(COUNT, 2)), {"shape": (6, 2)})],
    "scatter_flat": [((TABLES, np.array([[7, 1, 7], [0, 19, 4], [5, 5, 5]]), normal(COUNT, 3)),
                      {})],
    "scatter_set": [((LINES, normal(COUNT, 3), whole(COUNT, 3)), {})],
    "scatter_add": [((LINES, normal(COUNT, 3), whole(COUNT, 3)), {}),
                    ((TABLES, normal(COUNT, 3, 5), whole(COUNT, 3)), {}),
                    ((TABLES, normal(COUNT, 2, 3), whole(COUNT, 2, 1), whole(COUNT, 3)), {})],
    "matmul": [((TABLES, normal(COUNT, 5, 2)), {}), ((normal(COUNT, 2, 4, 5),
               normal(COUNT, 5, 3)), {}), ((normal(COUNT, 1, 5), normal(COUNT, 5, 3)), {}),
               ((TABLES, normal(COUNT, 5, 1)), {}), ((normal(COUNT, 4, 5),
               normal(COUNT, 2, 1, 5, 3)), {}), ((normal(COUNT, 1, 5), normal(COUNT, 5, 1)), {}),
               ((normal(COUNT, 4, 0), normal(COUNT, 0, 3)), {})],
    "windows": [((TABLES,), {"shape": (2,), "axes": (1,)}),
                ((TABLES,), {"shape": (2, 3), "axes": (0, 1)})],
    "whole_power_": [((TABLES,), {"n": 3})],
    "inverse_power_": [((TABLES + 9,), {"n": 2})],
    "bitcast": [((TABLES,), {"dtype": np.dtype("i8")})],
    "cast": [((TABLES,), {"dtype": np.dtype("f4")})],
    "hold": [((TABLES, LINES), {})],
    "real": [((LINES + 1j * LINES[::-1],), {})],
    "imag": [((LINES + 1j * LINES[::-1],), {})],
    "check": [((LINES, LINES < 100), {})],
    "where": [((LINES > 0, TABLES, normal(COUNT, 5, 1, 1)), {})],
    "ldexp": [((LINES, whole(COUNT, 4).astype("i4")), {})],
    "wrap_index": [((whole(COUNT, 5), np.full((COUNT, 2, 1), 4)), {})],
    "count_index": [((whole(COUNT, 3), np.full((COUNT, 2, 1), 4)), {})],
    "invert": [((whole(COUNT, 5),), {})],
    "bitwise_count": [((whole(COUNT, 5),), {})],
}  # fmt: skip
FAMILIES = {"reduce": [((TABLES,), {"axes": (1,)}), ((TABLES,), {"axes": (0, 1)})],
            "scan": [((TABLES,), {"axis": 0})]}  # fmt: skip
INTEGERS = {"bitwise_and", "bitwise_or", "bitwise_xor", "left_shift", "right_shift", "gcd", "lcm"}
CASES["where"] = [((LINES[:, :1] > 0, TABLES, normal(COUNT, 2, 1, 1)), {})]
CASES |= {name: [((whole(COUNT, 4, 1), whole(COUNT, 5)), {})] for name in INTEGERS}


def cases_of(op):
    found = CASES.get(op.name) or FAMILIES.get(op.family)
    if found is None:
        assert op.family == "elementwise", f"{op.name} has no case"
        count = getattr(op.impl, "nin", len(op.sample))
        ranges = op.sample if len(op.sample) == count else op.sample * count
        shapes = [(COUNT, 4, 1), (COUNT, 5), (COUNT,)]
        found = [([_rng.uniform(*r, size=s) for r, s in zip(ranges, shapes)], {})]
    if op.name in ("reduce_any", "reduce_all"):
        found = [([x > 0 for x in inputs], attrs) for inputs, attrs in found]
    return found


NAMES = [op.name for op in OPS.values() if op.family not in ("create", "host")]


@pytest.mark.parametrize("name", NAMES)
def test_op(name):
    for inputs, attrs in cases_of(OPS[name]):
        n = len(inputs)
        call = op_call(name, attrs)
        for axes in {(0,) * n, *[tuple([0 if k == j else None for k in range(n)])
                                 for j in range(n)]}:  # fmt: skip
            given = [x if k == 0 else x[0] for x, k in zip(inputs, axes)]
            got = fusec.vmap(call, axes)(*given)
            wanted = np.stack([
                call(*[x if k is None else x[i] for x, k in zip(given, axes)]) for i in range(COUNT)
            ])  # fmt: skip
            assert got.dtype == wanted.dtype
            np.testing.assert_allclose(got, wanted, rtol=1e-13)


def assigned(x, mask, values):
    y = x * 2
    y[mask] = values
    return y


SQUARES = normal(COUNT, 4, 4) + 4 * np.eye(4)
HOST = {
    **{f.__name__: (f, SQUARES + SQUARES.swapaxes(1, 2)) for f in STACKED},
    "convolve": (np.convolve, LINES, normal(COUNT, 3)),
    "convolve-longer": (lambda a, v: np.convolve(a, v, "same"), LINES, normal(COUNT, 7)),
    "convolve-even": (lambda a, v: np.convolve(a, v, mode="same"), LINES, normal(COUNT, 2)),
    "convolve-valid": (lambda a, v: np.convolve(a, v, "valid"), LINES, normal(COUNT, 3)),
    "solve": (np.linalg.solve, SQUARES, normal(COUNT, 4)),
    "solve-many": (np.linalg.solve, SQUARES, normal(COUNT, 4, 2)),
    **{f.__name__: (f, TABLES) for f in FIRST},
    **{f"{f.__name__}-axis": (lambda x, f=f: f(x, axis=0), TABLES)
       for f in (np.fft.fft, np.fft.irfft, np.sort, np.argsort, np.median)},
    **{f"{f.__name__}-flat": (lambda x, f=f: f(x, axis=None), TABLES)
       for f in (np.sort, np.argsort, np.median)},
    **{f.__name__: (lambda x, f=f: f(x, 2, axis=0), TABLES)
       for f in (np.partition, np.argpartition)},
    **{f.__name__: (lambda x, f=f: f(x, [0.25, 0.5], axis=1), TABLES)
       for f in (np.quantile, np.percentile, np.nanquantile, np.nanpercentile)},
    "quantile-all": (lambda x: np.quantile(x, 0.3), TABLES),
    "fftn-axes": (lambda x: np.fft.fftn(x, axes=(0,)), TABLES),
    "fftn-sizes": (lambda x: np.fft.fftn(x, (2, 3), axes=(0, 1)), TABLES),
    "cholesky": (lambda a: np.linalg.cholesky(a @ a.T), SQUARES),
    "interp": (lambda x: np.interp(x, np.arange(3.0), np.array([0.0, 2.0, 1.0])), TABLES),
    "svd-thin": (lambda a: np.linalg.svd(a, full_matrices=False)[1], TABLES),
    "nextafter-half": (np.nextafter, LINES.astype("f2"), normal(COUNT, 5, 1).astype("f2")),
    "sort-method": (lambda x: (x.sort(axis=0), x)[1], TABLES.copy()),
    "searchsorted": (lambda x: np.searchsorted(np.arange(-2.0, 3), x, side="right"), TABLES),
    "searchsorted-list": (lambda x: np.searchsorted([-1.0, 0.0, 1.0], x), TABLES),
    "searchsorted-of-numbers": (lambda x: np.searchsorted([x[0], x[0] + 1], x), LINES),
    "searchsorted-named": (lambda x: np.searchsorted(v=x, a=[-1.0, 0.0, 1.0]), LINES),
    "digitize": (lambda x: np.digitize(x, [-1.0, 0.5]), TABLES),
    "digitize-each": (lambda x: np.digitize([0.0, 1.0], np.sort(x), right=True), LINES),
    "interp-between": (lambda x: np.interp([0.0, 1.0], np.sort(x), np.arange(x.size)), LINES),
    "searchsorted-each": (lambda a, v: np.searchsorted(np.sort(a), v), LINES, normal(COUNT, 2, 2)),
    "bincount": (lambda x: np.bincount(np.arange(len(x)) % 3, x, minlength=4), LINES),
    "lstsq": (lambda a, b: np.linalg.lstsq(a, b)[0], normal(COUNT, 5, 3), normal(COUNT, 5)),
    "correlate": (lambda x: np.correlate(x, x[:2]), LINES),
    "interp-all": (lambda x: np.interp(0.5, np.arange(len(x)), x), LINES),
    "polyfit": (lambda y: np.polyfit(np.arange(len(y)), y, 2), LINES),
    "put_mask": (lambda x: assigned(x, np.arange(len(x)) % 2 == 0, x[::2] * 2), LINES),
    "mask-data": (lambda x: assigned(x, x >= np.sort(x)[2], x[2:] * 2), LINES),
    "mask-one": (lambda x: assigned(x, x > 0, x[:1] * 2), LINES),
    "mask-rows": (lambda x: assigned(x, x[:, 0] >= np.sort(x[:, 0])[1], x[1:] * 2), TABLES),
    "inv-shared": (lambda x: np.linalg.inv(SQUARES[0]) @ x, LINES),
}  # fmt: skip


@pytest.mark.parametrize("name", HOST)
def test_function_that_numpy_runs(name):
    function, *args = HOST[name]
    got = fusec.vmap(function)(*[x.copy() for x in args])
    single = [function(*[x[i].copy() for x in args]) for i in range(COUNT)]
    many = isinstance(single[0], tuple)
    for k in range(len(single[0]) if many else 1):
        wanted = np.stack([s[k] if many else s for s in single])
        np.testing.assert_allclose(got[k] if many else got, wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "function, name",
    [(lambda x: np.pad(x, 1, mode="mean"), "np.pad"),
     (lambda x: np.histogram(x, [-9, 0, 9])[0], "np.histogram")],
)  # fmt: skip
def test_what_takes_no_stacks_is_named(function, name):
    with pytest.raises(fusec.errors.UnsupportedError, match=f"{name}.*\n?.*np.stack"):
        fusec.vmap(function)(LINES)
