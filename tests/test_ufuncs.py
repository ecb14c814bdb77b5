"""Which loops of NumPy's ufuncs a kernel holds, written down: every other one is a call of NumPy.

Loops of float16 (among them those that bool, int8 and uint8 take in float functions) have no
kernels, nor have datetimes. For complex numbers the table is that of ``test_ops_table.py``.
"""

import numpy as np
import pytest

import fusec
from fusec.ir.graph import toposort
from fusec.ops.registry import loop_dtypes
from fusec.passes.groups import is_call

REAL = ("?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")
UFUNCS = {u.__name__: u for u in vars(np).values() if isinstance(u, np.ufunc)}
ELEMENTWISE = {name: u for name, u in UFUNCS.items() if u.signature is None}

HALF = frozenset(["?", "i1", "u1", "f2"])
"""What gives float16 in functions of floats."""
FLOAT_FUNCTIONS = (
    *("exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "logaddexp", "logaddexp2"),
    *("sqrt", "cbrt", "hypot", "sin", "cos", "tan", "arcsin", "arccos", "arctan", "arctan2"),
    *("sinh", "cosh", "tanh", "arcsinh", "arccosh", "arctanh"),
    *("deg2rad", "rad2deg", "degrees", "radians", "fabs", "rint", "modf", "frexp", "ldexp"),
    *("copysign", "signbit", "heaviside", "nextafter", "spacing"),
)
OF_FLOAT16 = (
    *("add", "subtract", "multiply", "divide", "floor_divide", "remainder", "fmod", "divmod"),
    *("power", "square", "reciprocal", "negative", "positive", "absolute", "sign", "conjugate"),
    *("floor", "ceil", "trunc", "maximum", "minimum", "fmax", "fmin", "isfinite", "isinf"),
    *("isnan", "greater", "greater_equal", "less", "less_equal", "equal", "not_equal"),
    *("logical_and", "logical_or", "logical_xor", "logical_not", "float_power"),
)
HOST = {
    **dict.fromkeys(FLOAT_FUNCTIONS, HALF),
    **dict.fromkeys(OF_FLOAT16, HALF & {"f2"}),
}
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
    graph = fusec.jit(lambda *xs: ufunc(*xs)).trace(*args).graph
    return any(is_call(node) for node in toposort(graph.outputs))


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_what_runs_in_numpy_is_known(name):
    ufunc = ELEMENTWISE[name]
    cases = {d: arguments(ufunc, d) for d in REAL}
    host = {d for d, args in cases.items() if args and runs_in_numpy(ufunc, args)}
    assert host == HOST.get(name, set())


def test_the_rest_are_products_over_whole_arrays():
    assert UFUNCS.keys() - ELEMENTWISE.keys() == {"matmul", "vecdot", "matvec", "vecmat"}
