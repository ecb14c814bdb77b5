"""Every elementwise op on every dtype: inferred dtypes, and kernel expressions against NumPy.

All expressions of one input dtype are compiled into one kernel, a loop for each. The inputs are
all pairs of edge values followed by random ones. Results are bitwise NumPy's except for the ops in
``CLOSE``; every NaN counts as equal.
"""

import ctypes
import functools
import itertools

import numpy as np
import pytest

import fusec
from fusec.codegen.numba_cpu import compile_kernel
from fusec.codegen.steps import Call
from fusec.errors import DTypeError
from fusec.ir.aval import Aval, short
from fusec.ops.elementwise import NOT_WIDE, expression
from fusec.ops.registry import OPS, loop_dtypes
from fusec.runtime.cpu import load

NAMES = ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16")
DTYPES = {name: np.dtype("?" if name == "b1" else name) for name in NAMES}
ELEMENTWISE = [op for op in OPS.values() if op.family == "elementwise"]
RANDOM = 500

CLOSE = {
    *("exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "logaddexp", "logaddexp2"),
    *("power", "float_power", "cbrt", "hypot", "sin", "cos", "tan", "arcsin", "arccos", "arctan"),
    *("whole_power_", "inverse_power_", "scalar_power"),
    *("arctan2", "sinh", "cosh", "tanh", "arcsinh", "arccosh", "arctanh", "erf"),
}
"""Within MAX_ULP of NumPy, which has an error of its own."""
MAX_ULP = 4
CANCELS = {"logaddexp", "logaddexp2"}
"""The result may cancel to nearly 0: the error is measured against the operands too."""
COMPLEX_CLOSE = {"multiply", "multiply_add", "divide", "reciprocal", "square", "sign", "scaled",
                 "crossed", "absolute"}  # fmt: skip
"""For complex numbers close in norm; NumPy's own bits depend on its vector path."""
COMPLEX_MATH = (CLOSE | {"sqrt"}) - {"logaddexp", "logaddexp2", "cbrt", "hypot", "arctan2", "erf"}
COMPLEX_ULP = 8
NUMPY_IS_FAR = {"exp2", "expm1", "log1p", "power", "float_power"}
"""NumPy's own error grows with the argument or where a part cancels; test_complex_math.py compares
ours with the truth. Here they agree to a tenth where NumPy has digits left at all."""


# Inputs.


def edges(dtype):
    """Values at which implementations differ."""
    if dtype.kind == "b":
        return np.array([False, True])
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        near = [info.min, info.min + 1, info.max, info.max - 1, info.max // 2 + 1]
        return np.array(
            [*near, 0, 1, 2, 3, 5, 7, 31, 63, 100, *([-1, -2, -7] * (info.min < 0))], dtype
        )
    real = DTYPES["f4"] if dtype == "c8" else DTYPES["f8"] if dtype == "c16" else dtype
    info = np.finfo(real)
    some = [0.0, -0.0, 1.0, -1.0, 0.5, -1.5, 2.5, 3.0, np.inf, -np.inf, np.nan]
    if dtype.kind == "c":
        few = [0.0, -0.0, 1.0, -2.5, np.inf, -np.inf, np.nan]
        return np.array([complex(a, b) for a in few for b in few], dtype)
    some += [float(info.max), float(info.tiny), float(info.smallest_subnormal), -float(info.tiny)]
    return np.array([*some, 127.5, -300.25, 70000.0, 3e9, -3e9, 1e19, 2.0**63, 1e-3], dtype)


def randoms(dtype, rng):
    if dtype.kind == "b":
        return rng.random(RANDOM) < 0.5
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        small = rng.integers(0 if info.min == 0 else -20, 20, RANDOM // 2)
        large = rng.integers(info.min, info.max, RANDOM // 2, dtype=dtype, endpoint=True)
        return np.concatenate([small.astype(dtype), large])
    values = np.concatenate([rng.normal(0, 2, RANDOM // 2), np.exp(rng.normal(0, 8, RANDOM // 2))])
    if dtype.kind == "c":
        return (values + 1j * rng.permutation(values)).astype(dtype)
    return values.astype(dtype)


@functools.cache
def operands(dtype, count):
    """``count`` arrays of all combinations of edge values, then random ones."""
    rng = np.random.default_rng(7)
    with np.errstate(over="ignore"):
        values = edges(dtype)
    if count == 3:
        values = values[:: 1 + len(values) // 12]
    grid = np.meshgrid(*[values] * count, indexing="ij")
    with np.errstate(over="ignore"):
        return [np.concatenate([g.reshape(-1), rng.permutation(randoms(dtype, rng))]) for g in grid]


# Cases: what can be applied to which dtype.


def input_dtypes(op, dtype):
    """The inputs of ``op`` whose operands are of ``dtype``; None if it is not for them."""
    name = op.name
    if op.ufunc is not None:
        inputs = (dtype,) * op.ufunc.nin
        if name == "ldexp":
            inputs = (dtype, DTYPES["i4"])
        try:
            loop = loop_dtypes(op.ufunc, inputs)
        except DTypeError:
            return None
        return inputs if loop[: len(inputs)] == inputs else None
    kinds = {"scaled": "fc", "erf": "f", "real": "c", "imag": "c", "make_complex": "f"}
    kinds |= {"crossed": "fc", "scalar_power": "f", "bitcast": "iuf", **dict.fromkeys(ATTRS, "f")}
    if name in ("wrap_index", "count_index"):
        return (dtype,) * 2 if dtype == "i8" else None
    if dtype.kind not in kinds.get(name, "biufc") or (dtype == "f2" and name in kinds):
        return None
    return {
        "scaled": (dtype,) * 2,
        "crossed": (dtype,) * 2,
        "scalar_power": (dtype,) * 2,
        "make_complex": (dtype,) * 2,
        "multiply_add": (dtype,) * 3,
        "where": (np.dtype(bool), dtype, dtype),
        "check": (dtype, np.dtype(bool)),
    }.get(name, (dtype,))


def inputs_of(op, dtypes):
    arrays = [operands(d, len(dtypes))[k] for k, d in enumerate(dtypes)]
    n = max(len(operands(d, len(dtypes))[0]) for d in (*dtypes, DTYPES["f8"]))
    arrays = [np.resize(a, n) for a in arrays]
    if op.name == "wrap_index":
        arrays = [arrays[0] % 40 - 20, np.full(n, 20)]
    if op.name == "count_index":
        arrays = [arrays[0] % 20, np.full(n, 20)]
    if op.name == "check":
        arrays[1] = np.ones(n, bool)
    if op.name == "power" and dtypes[1].kind == "i":
        arrays[1] = np.where(arrays[1] < 0, 3, arrays[1]).astype(dtypes[1])
    return arrays


def cases(attribute="expr"):
    for op, (name, dtype) in itertools.product(ELEMENTWISE, DTYPES.items()):
        inputs = input_dtypes(op, dtype)
        if inputs is not None:
            for to in targets(op, dtype):
                yield op, name, inputs, ({"dtype": DTYPES[to]} if to else ATTRS.get(op.name, {}))


ATTRS = {"whole_power_": {"n": 5}, "inverse_power_": {"n": 3}}


def targets(op, dtype):
    """What ``op`` can make of ``dtype``, for ops that are given a dtype."""
    if op.name == "bitcast":
        sizes = [n for n, d in DTYPES.items() if d.itemsize == dtype.itemsize]
        return [n for n in sizes if DTYPES[n].kind in "iuf" and n != "f2"]
    return DTYPES if op.name == "cast" else ("",)


CASES = list(cases())


def case_id(case):
    op, name, _, attrs = case
    return f"{op.name}-{name}" + (f"-{short(attrs['dtype'])}" if "dtype" in attrs else "")


def reference(op, arrays, attrs):
    with np.errstate(all="ignore"):
        return np.asarray(op.impl(*arrays, **attrs))


# Kernels.


def read(dtype, text):
    return f"cast_b1({text})" if dtype.kind == "b" else text


def output(op, inputs, attrs):
    return op.infer(tuple(Aval((3,), d) for d in inputs), attrs).dtype


@functools.cache
def compiled(name):
    """Results of all expressions whose dtype is ``name``, by case id, from one kernel."""
    lines, pointers, arrays, results = [], [], [], {}
    for case in CASES:
        op, of, inputs, attrs = case
        to = output(op, inputs, attrs)
        texts = [read(d, f"{'abc'[k]}[i]") for k, d in enumerate(inputs)]
        text = expression(op, texts, inputs, to, attrs=attrs)
        if of != name or text is None:
            continue
        number, values = len(results), inputs_of(op, inputs)
        args = [f"x{number}_{k}" for k in range(len(values))]
        texts = [read(d, f"{a}[i]") for a, d in zip(args, inputs)]
        text = expression(op, texts, inputs, to, attrs=attrs)
        lines.append(f"    for i in range(n{number}):\n        y{number}[i] = {store(to, text)}\n")
        results[case_id(case)] = np.empty(len(values[0]), to)
        pointers += [(a, d.str) for a, d in zip(args, inputs)] + [(f"y{number}", to.str)]
        arrays += [*values, results[case_id(case)]]
    counts = {f"n{k}": len(y) for k, y in enumerate(results.values())}
    run("".join(lines), counts, pointers, arrays)
    return results


def store(dtype, text):
    return f"cast_u1({text})" if dtype.kind == "b" else text


def run(body, ints, pointers, arrays):
    """Compile ``body`` over the integers and pointers, run it on the arrays, give the status."""
    entry = built(body, tuple(ints), tuple(pointers))
    numbers = (ctypes.c_int64 * len(ints))(*ints.values())
    addresses = (ctypes.c_void_p * len(arrays))(*[a.ctypes.data for a in arrays])
    return entry(0, 0, numbers, addresses)


@functools.cache
def built(body, ints, pointers):
    head = f"def kernel({', '.join(['start', 'stop', *ints, *[p for p, _ in pointers]])}):\n"
    text = f"from fusec.codegen.primitives import *\n{head}{body}    return 0\n"
    code = compile_kernel(text, ints, pointers)
    entry = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * 2, *[ctypes.c_void_p] * 2)
    return entry(load(code.symbol, code.object))


# Comparison.


def same_bits(got, want):
    """Equal bits, or both NaN (for complex numbers part by part)."""
    if got.dtype.kind == "c":
        return same_bits(got.real, want.real) & same_bits(got.imag, want.imag)
    if got.dtype.kind != "f":
        return got == want
    bits = f"i{got.dtype.itemsize}"
    equal = np.ascontiguousarray(got).view(bits) == np.ascontiguousarray(want).view(bits)
    return equal | (np.isnan(got) & np.isnan(want))


def close(got, want, scale):
    """Within MAX_ULP at the magnitude of ``scale``; infinities and NaNs as they are."""
    unit = np.spacing(np.abs(scale).astype(got.real.dtype))
    with np.errstate(all="ignore"):
        near = np.abs(got - want) <= MAX_ULP * unit
    return near | same_bits(got, want) | ((got == 0) & (want == 0))


def complex_close(name, arrays, got, want):
    """Within COMPLEX_ULP at the magnitude of the number, part by part."""
    size = np.abs(want)
    size = np.where(np.isfinite(size), size, 0)
    good = np.ones(len(got), bool)
    for g, w in ((got.real, want.real), (got.imag, want.imag)):
        scale = np.maximum(size, np.abs(w)).astype(g.dtype)
        allowed = 0.1 * scale if name in NUMPY_IS_FAR else COMPLEX_ULP * np.spacing(scale)
        good &= same_bits(g, w) | (np.abs(g - w) <= allowed)
    lost = np.isfinite(arrays[0]) & (np.abs(arrays[0]) > 2.0**20)
    return good | (lost & (name == "exp2"))


def failures(op, arrays, got, want):
    with np.errstate(all="ignore"):
        if op.name in COMPLEX_MATH and got.dtype.kind == "c":
            good = complex_close(op.name, arrays, got, want)
        elif op.name in CANCELS:
            big = np.maximum(*[np.abs(np.where(np.isfinite(a), a, 0)) for a in arrays])
            good = close(got, want, np.maximum(big, np.abs(want)))
        elif op.name in CLOSE:
            good = close(got, want, want)
        elif op.name in COMPLEX_CLOSE and arrays[0].dtype.kind == "c":
            finite = np.isfinite(want) & np.all([np.isfinite(a) for a in arrays], axis=0)
            size = np.abs(want)
            if op.name == "multiply_add":
                size = size + np.abs(arrays[0]) * np.abs(arrays[1]) + np.abs(arrays[2])
            good = close(got, want, size) | ~finite
        else:
            good = same_bits(got, want)
        if op.name == "cast" and got.dtype == "u4" and arrays[0].dtype.kind in "fc":
            x = arrays[0].real  # NumPy's vector loop and its remainder differ out of range
            good |= ~((x > -(2.0**31)) & (x < 2.0**32))
    return np.flatnonzero(~good)


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_dtype_is_numpys(case):
    op, _, inputs, attrs = case
    arrays = [a[:4] for a in inputs_of(op, inputs)]
    assert output(op, inputs, attrs) == reference(op, arrays, attrs).dtype


def has_expression(case):
    op, _, inputs, attrs = case
    to = output(op, inputs, attrs)
    return expression(op, ["a"] * len(inputs), inputs, to, attrs=attrs) is not None


HOST: dict[str, str] = {}
"""What NumPy runs although it takes these kinds."""
HALF_CASES = [c for c in CASES if c[1] == "f2" and getattr(c[0].ufunc, "nout", 0) == 1]


def test_what_runs_in_numpy_is_known():
    host = {
        (c[0].name, c[2][0].kind) for c in CASES if not has_expression(c) and "f2" not in case_id(c)
    }
    assert host == {(name, kind) for name, kinds in HOST.items() for kind in kinds}


def test_every_ufunc_of_one_result_is_stated():
    ufuncs = [u for u in vars(np).values() if isinstance(u, np.ufunc)]
    missing = {u.__name__ for u in ufuncs if u.nout == 1 and u.signature is None} - OPS.keys()
    assert missing == {"isnat"}


@pytest.mark.parametrize("case", list(filter(has_expression, CASES)), ids=case_id)
def test_expression_is_numpys(case):
    op, name, inputs, attrs = case
    arrays = inputs_of(op, inputs)
    got, want = compiled(name)[case_id(case)], reference(op, arrays, attrs)
    wrong = failures(op, arrays, got, want)
    shown = [([a[k] for a in arrays], got[k], want[k]) for k in wrong[:5]]
    assert not len(wrong), f"{len(wrong)} differ, such as (inputs, ours, NumPy's) {shown}"


# float16, which a pass surrounds with casts.


@pytest.mark.parametrize("case", HALF_CASES, ids=case_id)
def test_float16_is_numpys(case):
    op, _, inputs, attrs = case
    arrays, function = inputs_of(op, inputs), fusec.jit(lambda *arrays: op.ufunc(*arrays))
    steps = function.lower(*arrays).program.steps
    assert any(isinstance(step, Call) for step in steps) == (op.name in NOT_WIDE)
    want = reference(op, arrays, attrs)
    with np.errstate(all="ignore"):
        got = function(*arrays)
    assert got.dtype == want.dtype
    wrong = failures(op, arrays, got, want)
    shown = [([a[k] for a in arrays], got[k], want[k]) for k in wrong[:5]]
    assert not len(wrong), f"{len(wrong)} differ, such as (inputs, ours, NumPy's) {shown}"


@pytest.mark.filterwarnings("ignore::numpy.exceptions.ComplexWarning")
def test_every_float16_is_rounded_as_numpy_does():
    halves = np.arange(65536).astype("u2").view("f2")
    known = np.sort(halves[np.isfinite(halves)].astype("f8"))
    between = (known[:-1] + known[1:]) / 2
    exact = np.concatenate([known, between, np.nextafter(between, 9), np.nextafter(between, -9)])
    exact = np.concatenate([exact, [65519.9, 65520, 1e300, np.inf, -np.inf, np.nan, 5e-324]])
    with np.errstate(all="ignore"):
        for dtype in ("f8", "f4", "c16"):
            x = exact.astype(dtype)
            got = fusec.jit(lambda x: x.astype("f2"))(x)
            assert same_bits(got, x.real.astype("f2")).all()
        for dtype in ("f8", "f4", "c8", "i4", "u1", "?"):
            got = fusec.jit(lambda x, dtype: x.astype(dtype), static_argnums=1)(halves, dtype)
            assert same_bits(got, halves.astype(dtype)).all()


def test_float16_is_rounded_after_every_op():
    def function(x, y):
        return ((x * y + x) / y - x).sum(axis=1), np.where(x > y, x, -y).max(axis=0)

    x, y = (np.random.default_rng(k).normal(3, 1, (50, 70)).astype("f2") for k in (0, 1))
    kernels = fusec.jit(function).lower(x, y).kernels
    assert kernels and all("cast_f2" in k.source for k in kernels)
    for got, want in zip(fusec.jit(function)(x, y), function(x, y)):
        np.testing.assert_array_equal(got, want)


# What the loop over dtypes does not reach.


@pytest.mark.parametrize(
    "name", ["less", "less_equal", "greater", "greater_equal", "equal", "not_equal"]
)
@pytest.mark.parametrize("pair", ["i8 u8", "u8 i8"])
def test_comparison_across_signs(name, pair):
    dtypes = [DTYPES[d] for d in pair.split()]
    values = [0, 1, 2**62, 2**63 - 1, -1, -(2**63), 2**63, 2**64 - 1]
    grids = np.meshgrid(*[np.array([v % 2**64 for v in values], "u8").astype(d) for d in dtypes])
    x0, x1 = [np.ascontiguousarray(g).reshape(-1) for g in grids]
    y = np.empty(len(x0), bool)
    text = expression(OPS[name], ["x0[i]", "x1[i]"], dtypes, y.dtype)
    body = f"    for i in range(n):\n        y[i] = cast_u1({text})\n"
    pointers = [("x0", dtypes[0].str), ("x1", dtypes[1].str), ("y", "|b1")]
    run(body, {"n": len(y)}, pointers, [x0, x1, y])
    np.testing.assert_array_equal(y, getattr(np, name)(x0, x1))


@pytest.mark.parametrize(
    "name, dtypes, good, bad, error",
    [
        ("power", ("i4", "i4"), (2, 3), (2, -1), ValueError),
        ("wrap_index", ("i8", "i8"), (-5, 5), (-6, 5), IndexError),
        ("wrap_index", ("i8", "i8"), (4, 5), (5, 5), IndexError),
        ("count_index", ("i8", "i8"), (0, 5), (-1, 5), ValueError),
        ("count_index", ("i8", "i8"), (4, 5), (5, 5), IndexError),
        ("check", ("f8", "b1"), (1.5, True), (1.5, False), ValueError),
    ],
)
def test_checked_ops_report_what_numpy_raises(name, dtypes, good, bad, error):
    op, inputs = OPS[name], [DTYPES[d] for d in dtypes]
    texts = [read(d, f"x{k}[0]") for k, d in enumerate(inputs)]
    check = expression(op, texts, inputs, inputs[0], key="!")
    pointers = [("x0", inputs[0].str), ("x1", inputs[1].str), ("y", "|b1")]
    for values, expected in ((good, False), (bad, True)):
        arrays = [np.array([v], d) for v, d in zip(values, inputs)]
        y = np.zeros(1, bool)
        run(f"    y[0] = cast_u1({check})\n", {}, pointers, [*arrays, y])
        assert y[0] == expected
        if expected:
            with pytest.raises(error):
                op.impl(*arrays)
        else:
            op.impl(*arrays)


def test_powers_of_floats_need_no_check():
    for dtype, checked in (("f8", False), ("u4", False), ("i4", True)):
        inputs = [DTYPES[dtype]] * 2
        assert bool(expression(OPS["power"], ["a", "b"], inputs, inputs[0], key="!")) == checked
