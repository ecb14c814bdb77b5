"""The math library: error at hard points, NumPy's special values, vector code without calls."""

import itertools
import re
import subprocess
import sys
from functools import cache

import llvmlite.binding as llvm
import numpy as np
import pytest
from llvmlite import ir

from benchmarks import math_accuracy as accuracy
from fusec.codegen import mathlib, target
from fusec.codegen.mathlib import dsl
from fusec.codegen.mathlib.emit import NAMES, arity, define

KINDS = ("f32", "f64")
TABLE = [(name, kind) for name in NAMES for kind in KINDS]
MEASURED = [(name, kind) for name, kind in TABLE if name in accuracy.MEASURED]
POINTS = 6_000
SPECIAL = (
    0.0, 1.0, 0.5, 2.0, 3.0, 8.0, 2.5, 1e-3, 710.0, 1e10, 2.0**24 + 2, 2.0**53 + 2, np.inf,
)  # fmt: skip
ALLOWED = re.compile(r"llvm\.|fusec\..*\.(each|huge)$|loop$")
"""Calls of a loop: LLVM's instructions and slow paths."""


@cache
def loop(name: str, kind: str) -> accuracy.Loop:
    return accuracy.compiled_loop(name, kind)


def special_arguments(name: str, kind: str) -> tuple[np.ndarray, ...]:
    """All combinations of the special numbers, of both signs, and the edges of the dtype."""
    dtype = accuracy.DTYPES[kind]
    info = np.finfo(dtype)
    positive = [*SPECIAL, info.max, info.tiny, info.smallest_subnormal]
    values = np.array([*positive, *(-x for x in positive), np.nan], dtype)
    grid = itertools.product(values, repeat=arity(name))
    return tuple(np.array(column, dtype) for column in zip(*grid))


def numpy_values(name: str, xs: tuple[np.ndarray, ...]) -> np.ndarray:
    function = accuracy.numpy_function(name)
    with np.errstate(all="ignore"):
        if name == "fma":
            wide = [x.astype(np.longdouble) for x in xs]
            return wide[0] * wide[1] + wide[2]
        if function is None:
            return accuracy.reference(name, *xs).astype(xs[0].dtype)
        return function(*xs)


@pytest.mark.parametrize(("name", "kind"), MEASURED)
def test_error_is_at_most_two_ulp(name: str, kind: str) -> None:
    xs = accuracy.arguments(name, kind, POINTS if name != "erf" else 300)
    if name == "erf":
        xs = tuple(x[::40] for x in xs)
    got = loop(name, kind).call(*xs)
    error = accuracy.ulp_errors(got, accuracy.reference(name, *xs))
    worst = int(np.argmax(error))
    assert error[worst] <= accuracy.LIMIT_ULP, [x[worst] for x in xs]


@pytest.mark.parametrize(("name", "kind"), [row for row in TABLE if row[0] not in ("fma", "erf")])
def test_special_values_are_numpys(name: str, kind: str) -> None:
    xs = special_arguments(name, kind)
    got, want = loop(name, kind).call(*xs), numpy_values(name, xs)
    exact = ~np.isfinite(want) | (want == 0) | np.any([x == 0 for x in xs], axis=0)
    if name not in accuracy.MEASURED:
        exact[:] = True
    same = (got == want) & (np.signbit(got) == np.signbit(want)) | (np.isnan(got) & np.isnan(want))
    close = accuracy.ulp_errors(got, want.astype(np.longdouble)) <= 2 * accuracy.LIMIT_ULP
    bad = ~np.where(exact, same, close)
    rows = [(*(x[i] for x in xs), got[i], want[i]) for i in np.flatnonzero(bad)[:8]]
    assert not rows, rows


@pytest.mark.parametrize("kind", KINDS)
def test_erf_and_fma(kind: str) -> None:
    x = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 7.0, -7.0], accuracy.DTYPES[kind])
    got = loop("erf", kind).call(x)
    want = np.array([0.0, -0.0, 1.0, -1.0, np.nan, 1.0, -1.0])
    assert np.array_equal(got, want, equal_nan=True)
    assert np.array_equal(np.signbit(got[:4]), np.signbit(want[:4]))
    eps = np.finfo(x.dtype).eps
    a, b, c = (np.array([v], x.dtype) for v in (1 + eps, 1 - eps, -1))
    assert loop("fma", kind).call(a, b, c)[0] == -(float(eps) ** 2)


@pytest.mark.parametrize(("name", "kind"), TABLE)
def test_loops_are_vector_code_without_calls(name: str, kind: str) -> None:
    text = loop(name, kind).llvm
    body = next(d for d in text.split("\ndefine") if "@loop(" in d.splitlines()[0])
    scalar = {"f32": "float", "f64": "double"}[kind]
    assert re.search(rf"store <\d+ x {scalar}>", body)
    declared = re.findall(r"^declare .*@([\w.]+)\(", text, re.MULTILINE)
    assert [d for d in declared if not d.startswith("llvm.")] == []
    called = re.findall(r"call [^@\n]*@([\w.]+)\(", body)
    assert [c for c in called if not ALLOWED.match(c)] == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["exp", "exp2", "pow_"])
@pytest.mark.skipif(not target.wide(), reason="no vscalef")
def test_powers_that_round_to_0_are_not_computed(name: str, kind: str) -> None:
    call = r"call [^\n]*avx512\.mask\.scalef[^\n]*, i\d+ ([^,]+),"
    masks = re.findall(call, loop(name, kind).llvm)
    assert masks
    assert "-1" not in masks


def test_vector_code_agrees_with_scalar_code_beyond_the_fast_range() -> None:
    x = np.linspace(0.0, 6.0, 1003)
    x[[3, 500, 1001]] = 1e22, np.inf, -1e300
    for name, function in (("sin", np.sin), ("cos", np.cos), ("tan", np.tan)):
        with np.errstate(invalid="ignore"):
            want = function(x.astype(np.longdouble))
        assert np.max(accuracy.ulp_errors(loop(name, "f64").call(x), want)) <= 2


@pytest.mark.parametrize(("name", "kind"), TABLE)
def test_a_vector_has_the_bits_of_its_elements_one_by_one(name: str, kind: str) -> None:
    rng = np.random.default_rng(1)
    hard = special_arguments(name, kind)
    picked = rng.permutation(hard[0].size)[:600]
    scale = np.exp2(rng.integers(-40, 40, 400).astype(hard[0].dtype))
    ordinary = [(rng.normal(size=400) * scale).astype(x.dtype) for x in hard]
    xs = [np.concatenate([x[picked], more]) for x, more in zip(hard, ordinary)]
    together = loop(name, kind).call(*xs)
    alone = [loop(name, kind).call(*(x[k : k + 1] for x in xs))[0] for k in range(xs[0].size)]
    same = np.array(alone).view(f"i{together.itemsize}") == together.view(f"i{together.itemsize}")
    bad = np.flatnonzero(~(same | (np.isnan(together) & np.isnan(alone))))
    rows = [(*(x[k] for x in xs), together[k], alone[k]) for k in bad[:8]]
    assert not rows, rows


def test_everything_compiles_to_ptx_without_calls_out_of_the_module() -> None:
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    triple = "nvptx64-nvidia-cuda"
    module = ir.Module("gpu")
    module.triple = triple
    for (name, kind), n in zip(TABLE, itertools.count()):
        function = define(module, name, dsl.KINDS[kind])
        public = ir.Function(module, function.ftype, f"f{n}")
        builder = ir.IRBuilder(public.append_basic_block())
        builder.ret(builder.call(function, public.args))
    machine = llvm.Target.from_triple(triple).create_target_machine(cpu="sm_80", opt=3)
    ptx = machine.emit_assembly(llvm.parse_assembly(str(module)))
    assert ptx.count(".visible .func") == len(TABLE)
    assert ".extern" not in ptx


def test_intrinsics_run_in_numba() -> None:
    import numba

    exp, pow_, sin = mathlib.exp, mathlib.pow_, mathlib.sin

    @numba.njit
    def kernel(x, y, out):
        for i in range(x.size):
            out[i] = exp(x[i]) + pow_(x[i], y[i]) * sin(y[i])

    for dtype in (np.float32, np.float64):
        x, y = np.linspace(0.5, 2, 100).astype(dtype), np.linspace(-3, 3, 100).astype(dtype)
        out = np.empty_like(x)
        kernel(x, y, out)
        np.testing.assert_allclose(out, np.exp(x) + x**y * np.sin(y), rtol=1e-5)
    with pytest.raises(numba.TypingError):
        kernel(np.arange(3), np.arange(3), np.empty(3))


def test_code_hash_needs_no_numba() -> None:
    code = (
        "import sys; from fusec.codegen import mathlib; "
        "print(mathlib.code_hash(), 'numba' in sys.modules or 'llvmlite' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.split() == [mathlib.code_hash(), "False"]
