"""bfloat16 against ml_dtypes' own ufuncs: every value of unary ops and casts, and arithmetic."""

import subprocess
import sys
import warnings

import ml_dtypes
import numpy as np
import pytest
from test_ops_table import NAMES

import fusec

BF = np.dtype(ml_dtypes.bfloat16)
ALL = np.arange(1 << 16).astype("u2").view(BF)
_rng = np.random.default_rng(3)
SOME = (_rng.normal(size=5000) * 4).astype(BF)
OTHERS = (_rng.normal(size=5000) * 4).astype(BF)
SPECIAL = np.array([0, -0.0, 1, -1, np.inf, -np.inf, np.nan, 0.5, 3], BF)
LEFT = np.concatenate([_rng.choice(ALL, 9000), SOME, np.repeat(SPECIAL, len(SPECIAL))])
RIGHT = np.concatenate([_rng.choice(ALL, 9000), OTHERS, np.tile(SPECIAL, len(SPECIAL))])

UNARY = (
    "negative", "positive", "absolute", "sign", "sqrt", "square", "reciprocal", "floor", "ceil",
    "trunc", "rint", "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sin", "cos",
    "tan", "sinh", "cosh", "tanh", "arcsin", "arccos", "arctan", "arcsinh", "arccosh",
    "arctanh", "cbrt", "isnan", "isinf", "isfinite", "signbit", "logical_not", "deg2rad",
    "rad2deg", "spacing",
)  # fmt: skip
BINARY = (
    "add", "subtract", "multiply", "divide", "floor_divide", "remainder", "fmod", "power",
    "maximum", "minimum", "fmax", "fmin", "less", "less_equal", "greater", "equal", "not_equal",
    "arctan2", "hypot", "copysign", "logical_and", "logical_or", "logical_xor", "heaviside",
    "logaddexp", "logaddexp2", "nextafter",
)  # fmt: skip
ONE_ULP = {"exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sin", "cos", "tan", "sinh",
           "cosh", "tanh", "arcsin", "arccos", "arctan", "arcsinh", "arccosh", "arctanh", "cbrt",
           "power", "arctan2", "hypot", "logaddexp", "logaddexp2"}  # fmt: skip
"""Computed in float32 by another function: the rounding may fall on the other side."""


def bits(x):
    """Numbers in the order of the values, with one number for NaN."""
    number = x.view("i2").astype(int)
    number = np.where(number < 0, -(number & 0x7FFF) - 1, number)
    return np.where(np.isnan(x.astype("f4")), 99_999, number)


def check(function, *args, ulp=0):
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        want, got = function(*args), fusec.jit(function)(*args)
    for g, w in zip(got, want) if type(want) is tuple else [(got, want)]:
        assert type(g) is type(w)
        g, w = np.asarray(g), np.asarray(w)
        assert (g.dtype, g.shape) == (w.dtype, w.shape)
        if g.dtype == BF:
            assert np.abs(bits(g) - bits(w)).max(initial=0) <= ulp
        else:
            np.testing.assert_array_equal(g, w)


@pytest.mark.parametrize("name", UNARY)
def test_every_value(name):
    check(getattr(np, name), ALL, ulp=int(name in ONE_ULP))


@pytest.mark.parametrize("name", BINARY)
def test_pairs(name):
    check(getattr(np, name), LEFT, RIGHT, ulp=int(name in ONE_ULP))


@pytest.mark.parametrize("name", NAMES)
def test_casts(name):
    other = np.dtype("?" if name == "b1" else name)
    values = np.abs(SOME) if other.kind == "u" else SOME
    check(lambda x: x.astype(other), values if other.kind in "iu" else ALL)
    back = values.astype(other)
    if other.kind in "iu":
        info = np.iinfo(other)
        back = _rng.integers(info.min, info.max, 5000, other, endpoint=True)
    elif other.kind in "fc":
        wide = np.float64 if other.char in "dD" else np.float32
        near = np.spacing(wide(1)) * _rng.integers(-1, 2, 64)
        halfway = 1 + np.arange(64, dtype=wide) * 2.0**-9 + near
        with np.errstate(all="ignore"):
            back = np.concatenate([ALL.astype("f4"), halfway]).astype(other)
    check(lambda x: x.astype(BF), back)


FUNCTIONS = {
    "weak int": lambda x: x * 2 + 1,
    "weak float": lambda x: x * 2.5,
    "where": lambda x: np.where(x > 1, x, -x),
    "clip": lambda x: np.clip(x, BF.type(-1), BF.type(1)),
    "max": lambda x: x.reshape(50, 100).max(axis=1),
    "argmin": lambda x: x.reshape(50, 100).argmin(axis=0),
    "views": lambda x: np.ascontiguousarray(x.reshape(50, 100)[::-1].T) - x[:1],
    "gather": lambda x: x[np.array([3, 1, -1])],
    "pad": lambda x: np.pad(np.concatenate([x, x[::2]]), 2),
    "zeros": lambda x: np.zeros(x.shape, BF) + x,
    "product": lambda x: x[:64].reshape(8, 8) @ np.eye(8, dtype=BF),
    "cumsum": lambda x: np.cumsum(x[:50]),
}


WITH_NAN = np.where(np.arange(70_000) == 41_003, np.nan, np.arange(70_000) % 300).astype(BF)
FUNCTIONS |= {
    "extremes at nan": lambda x: (WITH_NAN[41_000:41_007].argmax(), WITH_NAN.argmin()),
    "dot": lambda x: (np.dot(x[:4], x[:4]), np.dot(x[:6].reshape(2, 3), x[:12].reshape(3, 4))),
    "dot vector": lambda x: np.dot(x[:6].reshape(2, 3), x[:3]),
    "dot wider": lambda x: np.dot(x[:6].reshape(2, 3), np.arange(3, dtype="f4")),
    "inner": lambda x: (np.inner(x[:4], x[:4]), np.vdot(x[:4], x[:4])),
    "tensordot": lambda x: np.tensordot(x[:6].reshape(2, 3), x[:12].reshape(3, 4), 1),
    "item": lambda x: (x.max().item(), x.item(3) * 2.5),
    "equal": lambda x: np.array_equal(WITH_NAN, WITH_NAN, equal_nan=True),
    "chosen": lambda x: (x[x > 3].max(), np.min(x, where=x < 3, initial=BF.type(5))),
}


def changed(x):
    x[1:-1] += x[2:]
    x[0] = 2.5
    return x


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name):
    check(FUNCTIONS[name], SOME)


def test_changed_arguments():
    wanted, found = SOME.copy(), SOME.copy()
    changed(wanted)
    fusec.jit(changed)(found)
    np.testing.assert_array_equal(bits(found), bits(wanted))


def test_it_fuses():
    low = fusec.jit(lambda x: (np.tanh(x * x) + x).sum()).lower(SOME)
    assert len(low.kernels) == 1 and not low.explain().calls


def test_a_sum_is_rounded_once():
    """ml_dtypes rounds after every element, and a sum of ones ends at 256."""
    ones = np.ones(1000, BF)
    assert float(ones.sum()) == 256 and float(fusec.jit(np.sum)(ones)) == 1000


def test_numbers_gradients_and_checks():
    assert type(fusec.jit(lambda x, s: (x * s).max())(SOME, BF.type(3))) is BF.type
    got = fusec.grad(lambda x: (x * x * x).sum())(SOME)
    assert got.dtype == BF
    np.testing.assert_allclose(got.astype("f4"), 3 * SOME.astype("f4") ** 2, rtol=0.02)
    assert fusec.verify(lambda x: np.exp(x) * x, SOME)
    assert fusec.verify(lambda x: (x / (1 + np.abs(x).max())).sum(), SOME[:64])


def test_device_arrays():
    x = fusec.to_device(SOME, "cpu")
    y = np.tanh(x) * 2
    assert (x.dtype, y.dtype) == (BF, BF)
    np.testing.assert_array_equal(bits(np.asarray(y)), bits(np.tanh(SOME) * 2))


def test_ml_dtypes_is_the_users_choice():
    """It is imported by nothing of ours."""
    code = "import fusec, numpy as np, sys; fusec.jit(np.sin)(np.ones(3)); print([*sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "ml_dtypes" not in ran.stdout


def test_sharing_with_torch():
    """What cuda.core exports as integers says bfloat16 to PyTorch; memory of the host shows it."""
    torch = pytest.importorskip("torch")
    views = pytest.importorskip("cuda.core.utils").StridedMemoryView
    from fusec.runtime.cuda import as_bfloat

    given = torch.arange(6, dtype=torch.bfloat16)
    assert views.from_dlpack(given, stream_ptr=-1).dtype == BF

    class Shared:
        def __init__(self, newest):
            self.newest = newest

        def __dlpack_device__(self):
            return (1, 0)

        def __dlpack__(self, **options):
            options["max_version"] = (1, 0) if self.newest else None
            view = views.from_dlpack(given.view(torch.uint16), stream_ptr=-1)
            return as_bfloat(view.__dlpack__(**options))

    for newest in (False, True):
        again = torch.from_dlpack(Shared(newest))
        assert again.dtype is torch.bfloat16 and torch.equal(again, given)
    with pytest.raises(fusec.errors.UnsupportedError, match="ml_dtypes"):
        fusec.from_dlpack(given, "cpu")
