"""Which loops of NumPy's ufuncs a kernel holds, written down: every other one is a call of NumPy.

Datetimes have no kernels, nor have the loops of float16 (among them those that bool, int8 and uint8
take) that look at its bits. For complex numbers the table is that of ``test_ops_table.py``.
"""

import operator

import numpy as np
import pytest

import fusec
from fusec.codegen.steps import Call
from fusec.ops.registry import loop_dtypes

REAL = ("?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")
UFUNCS = {u.__name__: u for u in vars(np).values() if isinstance(u, np.ufunc)}
ELEMENTWISE = {name: u for name, u in UFUNCS.items() if u.signature is None}

OF_BITS = frozenset(["?", "i1", "u1", "f2"])
HOST = dict.fromkeys(("frexp", "ldexp", "nextafter", "spacing"), OF_BITS)
"""The (ufunc, dtype) pairs that NumPy runs; all others are one kernel."""


def arguments(ufunc, name):
    """Operands for ``ufunc`` of one dtype, or None if it has no such loop."""
    dtypes = [np.dtype(name)] * ufunc.nin
    if ufunc is np.ldexp:
        dtypes[1] = np.dtype("i4")
    try:
        loop_dtypes(ufunc, tuple(dtypes))
    except TypeError:
        return None
    return [fusec.ShapeDtype((5,), d) for d in dtypes]


def runs_in_numpy(ufunc, args):
    steps = fusec.jit(lambda *xs: ufunc(*xs)).lower(*args).program.steps
    return any(isinstance(step, Call) and not step.view for step in steps)


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_what_runs_in_numpy_is_known(name):
    ufunc = ELEMENTWISE[name]
    cases = {d: arguments(ufunc, d) for d in REAL}
    host = {d for d, args in cases.items() if args and runs_in_numpy(ufunc, args)}
    assert host == HOST.get(name, set())


def test_the_rest_are_products_over_whole_arrays():
    assert UFUNCS.keys() - ELEMENTWISE.keys() == {"matmul", "vecdot", "matvec", "vecmat"}


def raised(x, k):
    return x**k


def raised_in_place(x, k):
    x **= k
    return x


def selected(x, k):
    x[x != 9] = x[x != 9] ** k
    return x


def selected_in_place(x, k):
    x[x != 9] **= k
    return x


@pytest.mark.parametrize("program", [raised, raised_in_place, selected, selected_in_place])
@pytest.mark.parametrize(
    ("dtype", "k"),
    [*[(dtype, k) for dtype in ("f4", "f8") for k in (2, 1, -1, 0.5, 2.0)],
     ("c8", 2), ("c16", 2), ("c16", -1), ("i4", 2), ("i4", -1), ("i4", 3)],
)  # fmt: skip
def test_a_few_powers_are_ufuncs_of_their_own(program, dtype, k):
    """``x ** 0.5`` is a square root, of -inf and -0.0 too, which ``np.power(x, 0.5)`` is not."""
    x = np.array([4, -0.0, -np.inf, 9, np.nan, 2, -1.7] * 5)
    x = np.arange(1, 9, dtype=dtype) if dtype == "i4" else x.astype(dtype)
    if x.dtype.kind == "c":
        x = x[np.isfinite(x)] * (1.37 + 0.73j)

    def run(function):
        try:
            with np.errstate(all="ignore"):
                return function(x.copy(), k)
        except (TypeError, ValueError) as error:
            return type(error)

    wanted, found = run(program), run(fusec.jit(program, static_argnums=1))
    if isinstance(wanted, type):
        assert found is wanted
        return
    np.testing.assert_array_equal(found, wanted, strict=True)
    np.testing.assert_array_equal(np.signbit(found.real), np.signbit(wanted.real))


@pytest.mark.parametrize("exponent", [0.5, 2, -1, 1, 2.0, -1.0, np.float64(0.5), [0.5, 2, 1]])
@pytest.mark.parametrize("dtype", ["f8", "f4", "c16"])
def test_powers_on_a_device(dtype, exponent):
    """There ``x ** n`` is one program for all exponents but those with a ufunc of their own."""
    x = np.array([-0.0, -np.inf, 2.25], dtype)
    exponent = np.array(exponent) if isinstance(exponent, list) else exponent
    for fn in (operator.pow, operator.ipow):
        with np.errstate(all="ignore"):
            got, want = (np.asarray(fn(v, exponent)) for v in (fusec.to_device(x, "cpu"), x.copy()))
        np.testing.assert_allclose(got, want, 1e-6)
        assert np.array_equal(np.signbit(got.real[:1]), np.signbit(want.real[:1]))
