"""Every form of CUDA kernel in Numba's simulator against NumPy, at small, odd and empty sizes."""

import os

import ml_dtypes  # noqa: F401  (NumPy knows bfloat16 from it)
import numpy as np
import pytest
from simulated import check_assembled, has_ptxas, program, run

from fusec.codegen.cuda_simulator import simulate

simulated = pytest.mark.skipif(
    not os.environ.get("NUMBA_ENABLE_CUDASIM"), reason="needs NUMBA_ENABLE_CUDASIM=1"
)
assembled = pytest.mark.skipif(
    bool(os.environ.get("NUMBA_ENABLE_CUDASIM")) or not has_ptxas(), reason="needs ptxas"
)


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def layer_norm(x):
    m = x.mean(axis=-1, keepdims=True)
    return (x - m) / np.sqrt(((x - m) ** 2).mean(axis=-1, keepdims=True) + 1e-5)


def over_largest_sum(x, axis):
    c = np.cumsum(x, axis=axis)
    return c / np.abs(c).max(axis=axis, keepdims=True)


def sums_of_sums(x):
    e = np.exp(x - x.max(axis=1, keepdims=True))
    c = np.cumsum(e, axis=1)
    return np.cumsum(c, axis=1) / c.sum(axis=1, keepdims=True) + e


def shifted(x):
    y = x.copy()
    y[1:-1] = x[:-2] + x[2:]
    return y


def average_so_far(x):
    out, s = np.empty_like(x), x[0]
    for t in range(len(x)):
        s = 0.25 * x[t] + 0.75 * s
        out[t] = s
    return out


def number_by_number(x):
    out = np.zeros(12)
    for t in range(12):
        out[t] = x[t:].max()
    return out


def row_by_row(x):
    out = np.ones((24, 3))
    for t in range(12):
        out[2 * t] = x[t] / x[t:].max()
    return out


#: name: (function, shapes, dtype)
FORMS = {
    "numbers": (number_by_number, [(40,), (300,)], "f8"),
    "short rows": (row_by_row, [(40, 3)], "f8"),
    "recurrence": (average_so_far, [(260, 1), (260, 7), (230, 2, 3)], "f4"),
    "map": (lambda x: x * 2 + 1, [(0,), (1,), (7,), (300,)], "f4"),
    "map f8": (lambda x: np.exp(-x * x), [(1,), (130,)], "f8"),
    "map bool": (lambda x: (x > 0) & (x < 2), [(37,)], "f4"),
    "map f2": (lambda x: np.sqrt(x * x + 1) / 3, [(1,), (133,)], "f2"),
    "softmax f2": (softmax, [(3, 40), (2, 600)], "f2"),
    "tiles f2": (lambda x: x.T + x, [(40, 40)], "f2"),
    "columns f2": (lambda x: x - x.mean(axis=0), [(37, 45)], "f2"),
    "tiny products": (lambda x: x @ x.transpose(0, 2, 1) + x[:, :1], [(33, 3, 3)], "f4"),
    "inverses": (lambda x: np.linalg.inv(x + 9 * np.eye(3)), [(33, 3, 3)], "f8"),
    "nearest": (lambda x: ((x[:, None] - x[:6]) ** 2).sum(-1).argmin(1), [(70, 3)], "f4"),
    "matrix product f2": (lambda x: x @ x.T + 1, [(5, 7)], "f2"),
    "map bf2": (lambda x: np.sqrt(x * x + 1) / x, [(1,), (133,)], "bfloat16"),
    "softmax bf2": (softmax, [(3, 40), (2, 600)], "bfloat16"),
    "tiles bf2": (lambda x: x.T + x, [(40, 40)], "bfloat16"),
    "columns bf2": (lambda x: x - x.max(axis=0), [(37, 45)], "bfloat16"),
    "matrix product bf2": (lambda x: (x @ x.T).astype(x.dtype) + x[:, :1], [(5, 7)], "bfloat16"),
    "map int8": (lambda x: x * x + 3, [(1,), (133,)], "i1"),
    "map uint8 shift": (lambda x: (x << 1) ^ x, [(70,)], "u1"),
    "map int64 division": (lambda x: x // 3 + x % 5, [(70,)], "i8"),
    "map complex": (lambda x: x * x + 1, [(33,)], "c16"),
    "map complex functions": (lambda x: np.exp(x) * np.log(x) + np.sqrt(x) ** 1.5j, [(33,)], "c16"),
    "map complex64 functions": (lambda x: np.tanh(x) + np.arcsin(x) ** 3, [(33,)], "c8"),
    "map rows": (lambda x: x + x[:, :1], [(1, 1), (3, 40), (5, 257)], "f4"),
    "map short rows": (lambda x: x + x[:1], [(2, 3), (40, 5)], "f4"),
    "map transposed": (lambda x: np.ascontiguousarray(x.T) * 2, [(3, 40), (33, 65)], "f4"),
    "tiles": (lambda x: x.T + 1, [(33, 20), (64, 64)], "f4"),
    "tiles both ways": (lambda x: x + x.T, [(40, 40)], "f8"),
    "tiles of a batch": (lambda x: np.exp(x).swapaxes(1, 2) * 2, [(2, 20, 35)], "f4"),
    "tiles bool": (lambda x: np.ascontiguousarray((x > 0).T), [(20, 35)], "f4"),
    "map scalar": (lambda x: x * 2, [()], "f8"),
    "map branches": (shifted, [(3,), (70,)], "f4"),
    "concatenate": (lambda x: np.concatenate([x, x * 2]), [(1,), (45,)], "f4"),
    "roll": (lambda x: np.roll(x, 3), [(5,), (64,)], "f4"),
    "gather": (lambda x: x[np.array([2, 0, 1])] + 1, [(3,), (9,)], "f4"),
    "arange": (lambda x: x + np.arange(x.shape[0]), [(40,)], "f8"),
    "rows": (lambda x: x.sum(axis=1), [(1, 1), (3, 5), (9, 200), (2, 700)], "f4"),
    "rows int": (lambda x: x.max(axis=1) - x.min(axis=1), [(4, 33)], "i4"),
    "rows uint64": (lambda x: x.max(axis=1) - x.min(axis=1), [(4, 33)], "u8"),
    "rows bool": (lambda x: (x > 0).any(axis=1), [(4, 33)], "f4"),
    "rows many axes": (lambda x: x.sum(axis=(1, 2)), [(2, 3, 5), (3, 9, 31)], "f4"),
    "softmax": (softmax, [(1, 1), (3, 40), (2, 600)], "f4"),
    "softmax f8": (softmax, [(3, 41)], "f8"),
    "layer norm": (layer_norm, [(2, 33), (2, 600)], "f4"),
    "variance": (lambda x: x.var(axis=1), [(3, 65)], "f4"),
    "argmax": (lambda x: x.argmax(axis=1), [(3, 65), (2, 600)], "f4"),
    "full": (lambda x: x.sum(), [(1,), (70,), (33_000,)], "f4"),
    "full mean": (lambda x: ((x - 1) ** 2).mean(), [(33_000,)], "f8"),
    "full max": (lambda x: x.max(), [(20_000,)], "f4"),
    "columns": (lambda x: x.sum(axis=0), [(1, 40), (33, 40), (70, 100)], "f4"),
    "columns split": (lambda x: x.sum(axis=0), [(17_000, 3)], "f4"),
    "columns mean": (lambda x: x - x.mean(axis=0), [(37, 45)], "f4"),
    "columns max": (lambda x: x.max(axis=0), [(9, 33)], "i2"),
    "scan": (lambda x: np.cumsum(x), [(1,), (5,), (150,), (700,)], "i8"),
    "scan rows": (lambda x: np.cumsum(x, axis=1), [(3, 40), (2, 600)], "f8"),
    "scan columns": (lambda x: np.cumsum(x, axis=0), [(40, 35)], "f8"),
    "scan product": (lambda x: np.cumprod(x, axis=-1), [(2, 45)], "f8"),
    "scan read again": (lambda x: over_largest_sum(x, 1), [(3, 40), (2, 600)], "f8"),
    "scan columns read again": (lambda x: over_largest_sum(x, 0), [(40, 35)], "f8"),
    "scans after a row": (sums_of_sums, [(3, 40), (2, 600)], "f8"),
    "matrix product of views": (lambda x: x[1:].T @ x[:-1, ::2] * 2, [(9, 6)], "f8"),
    "matrix product int": (lambda x: x @ x, [(5, 5)], "i4"),
    "matrix product": (lambda x: np.maximum(x @ x.T + 1, 0), [(5, 7)], "f4"),
}
CASES = [(name, shape) for name, (_, shapes, _) in FORMS.items() for shape in shapes]


def sample(shape, dtype):
    values = np.random.default_rng(0).normal(size=shape) * 3
    if np.dtype(dtype).kind == "c":
        values = values + 1j * values[..., ::-1]
    return np.asarray(values).astype(dtype)


@assembled
@pytest.mark.parametrize("arch", ["sm_80", "sm_90"])
@pytest.mark.parametrize("name", FORMS)
def test_form_assembles(name, arch):
    function, shapes, dtype = FORMS[name]
    for shape in shapes[-1:]:
        for kernel in program(function, sample(shape, dtype), target="cuda").kernels:
            check_assembled(kernel, arch)


@simulated
@pytest.mark.parametrize(("name", "shape"), CASES, ids=lambda v: str(v))
def test_form(name, shape):
    function, _, dtype = FORMS[name]
    x = sample(shape, dtype)
    check(name, x, *run(function, x))


def check(name, x, got):
    """Compare a form's result with NumPy's."""
    function = FORMS[name][0]
    want = np.asarray(function(x.copy()))
    assert got.dtype == want.dtype
    assert got.shape == want.shape
    if got.dtype == "bfloat16":
        want = np.asarray(function(x.astype("f4")))  # ml_dtypes rounds every partial sum
        np.testing.assert_allclose(got.astype("f4"), want, rtol=0.02, atol=0.1)
    elif want.dtype.kind in "fc":
        wide = {"f": "f8", "F": "c16"}.get(want.dtype.char)
        want = np.asarray(function(x.astype(wide))) if wide else want
        near = 2e-3 if got.dtype == np.float16 else 3e-6 if wide else 1e-12
        np.testing.assert_allclose(got, want, rtol=near, atol=near * np.sqrt(x.size))
    else:
        np.testing.assert_array_equal(got, want)


@simulated
def test_an_access_outside_of_a_buffer_is_found():
    made = program(lambda x: x + 1, sample((8,), "f4"))
    kernel = made.kernels[0]
    short = np.zeros(16, np.uint8)
    with pytest.raises(IndexError, match="element 4 of memory with 4"):
        simulate(kernel.text, [8], [(short, 0), (short.copy(), 0)], kernel.ptr_types,
                 kernel.grid, kernel.block, np.zeros(1, np.int64))  # fmt: skip


@simulated
def test_a_kernel_reports_errors_in_its_status():
    with pytest.raises(AssertionError):
        run(lambda x, i: x[i], sample((4,), "f4"), np.array([1, 9]))
