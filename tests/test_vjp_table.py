"""Derivative rules of the op table, on real NumPy arrays: no tracer is involved.

Every rule against central differences in float64 and complex128 at sampled points, and at the
edges: a zero cotangent gives a zero gradient, and the documented choices hold.
"""

import numpy as np
import pytest

from fusec.errors import DTypeError
from fusec.ops.elementwise_math import scaled
from fusec.ops.registry import NONDIFFERENTIABLE, OPS, loop_dtypes

F8, C16 = np.dtype("f8"), np.dtype("c16")
RULES = [o for o in OPS.values() if o.family == "elementwise" and o.vjp is not NONDIFFERENTIABLE]
STEP, TOLERANCE, POINTS = 1e-6, 1e-6, 40
OTHER_INPUTS = {
    "where": {0: np.bool_},
    "check": {1: np.bool_},
    "ldexp": {1: np.int32},
}
"""Inputs that are not floats, by position."""
NO_INPUTS_OF = {"real": F8, "imag": F8, "make_complex": C16, "cast": C16}


def takes(op, dtype):
    """Has the op a loop over this dtype?"""
    if op.ufunc is None:
        return NO_INPUTS_OF.get(op.name) != dtype and not (op.name == "erf" and dtype == C16)
    try:
        inputs = (dtype,) * op.ufunc.nin if op.name != "ldexp" else (dtype, np.dtype("i4"))
        loop = loop_dtypes(op.ufunc, inputs)
    except DTypeError:
        return False
    return loop[0] == dtype


def points(op, dtype, rng):
    ranges = op.sample if len(op.sample) > 1 else op.sample * len(op.vjp)
    values = []
    for k, (low, high) in enumerate(ranges):
        x = rng.uniform(low, high, POINTS)
        kind = OTHER_INPUTS.get(op.name, {}).get(k)
        if kind is np.bool_:
            x = np.ones(POINTS, bool) if op.name == "check" else x > 0
        elif kind is not None:
            x = x.astype(kind)
        elif dtype == C16:
            x = x + 1j * rng.uniform(0.1, 0.5, POINTS)
        values.append(x)
    return values


def attributes(op):
    return {"dtype": F8} if op.name == "cast" else {}


def slope(op, inputs, k, step):
    """Central difference of the op along ``step`` in input k."""
    up, down = list(inputs), list(inputs)
    up[k], down[k] = inputs[k] + step, inputs[k] - step
    attrs = attributes(op)
    return (op.impl(*up, **attrs) - op.impl(*down, **attrs)) / (2 * STEP)


CASES = [(op, d) for op in RULES for d in (F8, C16) if takes(op, d)]


@pytest.mark.parametrize("op, dtype", CASES, ids=lambda v: getattr(v, "name", str(v)))
def test_rule_against_central_differences(op, dtype):
    rng = np.random.default_rng(3)
    inputs = points(op, dtype, rng)
    y = op.impl(*inputs, **attributes(op))
    g = rng.normal(size=POINTS) + (1j * rng.normal(size=POINTS) if y.dtype == C16 else 0)
    for k, rule in enumerate(op.vjp):
        if rule is None:
            continue
        gradient = rule(g, y, *inputs, **attributes(op))
        for direction in (1.0, 1j)[: 2 if inputs[k].dtype == C16 else 1]:
            expected = np.real(g * slope(op, inputs, k, STEP * direction))
            got = np.real(gradient * direction)
            np.testing.assert_allclose(got, expected, rtol=TOLERANCE, atol=TOLERANCE * 10)


EDGES = np.array([0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 1e308, 1e-308])


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("op, dtype", CASES, ids=lambda v: getattr(v, "name", str(v)))
def test_zero_cotangent_gives_zero_gradient(op, dtype):
    grids = [g.reshape(-1) for g in np.meshgrid(*[EDGES] * len(op.vjp))]
    inputs = [x.astype(OTHER_INPUTS.get(op.name, {}).get(k, dtype)) for k, x in enumerate(grids)]
    if op.name == "check":
        inputs[1][:] = True
    y = op.impl(*inputs, **attributes(op))
    for rule in filter(None, op.vjp):
        gradient = rule(np.zeros_like(y), y, *inputs, **attributes(op))
        assert not np.count_nonzero(gradient), gradient


@pytest.mark.parametrize("op, dtype", CASES, ids=lambda v: getattr(v, "name", str(v)))
def test_float32_stays_float32(op, dtype):
    narrow = {F8: np.dtype("f4"), C16: np.dtype("c8")}
    if op.name in ("cast", "float_power"):
        pytest.skip("gives float64 on purpose")
    inputs = points(op, dtype, np.random.default_rng(3))
    inputs = [x.astype(narrow.get(x.dtype, x.dtype)) for x in inputs]
    y = op.impl(*inputs)
    for x, rule in zip(inputs, op.vjp):
        if rule is not None:
            assert rule(np.ones_like(y), y, *inputs).dtype == x.dtype


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(
    "name, inputs, expected",
    [
        ("absolute", [0.0], [0.0]),
        ("sqrt", [0.0], [np.inf]),
        ("maximum", [2.0, 2.0], [0.5, 0.5]),
        ("minimum", [2.0, 2.0], [0.5, 0.5]),
        ("fmax", [1.0, np.nan], [1.0, 0.0]),
        ("clip", [1.0, 1.0, 2.0], [1.0, 0.0, 0.0]),
        ("power", [0.0, 2.0], [0.0, 0.0]),
        ("power", [0.0, 1.0], [1.0, 0.0]),
        ("power", [0.0, 0.0], [0.0, 0.0]),
        ("arctan2", [0.0, 0.0], [0.0, 0.0]),
        ("hypot", [0.0, 0.0], [0.0, 0.0]),
        ("logaddexp", [-np.inf, -np.inf], [0.5, 0.5]),
        ("logaddexp", [np.inf, 0.0], [1.0, 0.0]),
    ],
)
def test_choices_at_the_edges(name, inputs, expected):
    op = OPS[name]
    inputs = [np.array([v]) for v in inputs]
    y = op.impl(*inputs)
    got = [rule(np.ones_like(y), y, *inputs).item() for rule in op.vjp]
    np.testing.assert_array_equal(got, expected)


def test_second_derivative_at_a_minimum_survives_a_zero_cotangent():
    """At g == 0 the derivative of ``scaled(g, d)`` in g is still d."""
    g, d = np.array([0.0]), np.array([3.0])
    rule = OPS["scaled"].vjp[0]
    np.testing.assert_array_equal(rule(np.array([2.0]), scaled(g, d), g, d), [6.0])
