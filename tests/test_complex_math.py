"""Complex functions: special values, errors against mpmath, vector code, one kernel each."""

import itertools
import platform
import re

import llvmlite.binding as llvm
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llvmlite import ir
from oracle import check

import fusec
from benchmarks import complex_accuracy as accuracy
from fusec.codegen.mathlib import dsl
from fusec.codegen.mathlib.emit import COMPLEX, arity, define
from fusec.ops.registry import BY_UFUNC

KINDS = ("f32", "f64")
TABLE = [(name, kind) for name in COMPLEX for kind in KINDS]
MEASURED = [(name, kind) for name, kind in TABLE if name in accuracy.MEASURED]
POINTS, LIMIT_ULP = 400, 2.0
BY_SIZE = {"cexpm1": 3.0, "cpow": 64.0}
"""Functions whose parts may cancel, for complex128: the error allowed relative to the number."""
SPECIAL = (0.0, 1.0, 0.5, 2.0, 2.5, 3.0, 4.0, np.inf)
VALUES = (*SPECIAL, *(-x for x in SPECIAL), np.nan)
SIGNS_ARE_SPECIFIED = platform.libc_ver()[0] == "glibc"
"""C leaves the sign of some zeros and infinities open; kernels have the choices of glibc, which
NumPy calls on Linux. Elsewhere signs are compared only where both parts of z are finite."""


def special_arguments(name, kind):
    """All combinations of special parts."""
    z = np.array([complex(a, b) for a, b in itertools.product(VALUES, VALUES)])
    z = z.astype(accuracy.DTYPES[kind])
    if arity(name) == 2:
        return (z,)
    return tuple(np.ascontiguousarray(g.reshape(-1)) for g in np.meshgrid(z, z))


def is_numpys(got, want, size, near, finite):
    """Equal zeros, infinities and NaN of one part; other numbers within ``near`` of ``size``."""
    signs = (np.signbit(got) == np.signbit(want)) | ~(finite | SIGNS_ARE_SPECIFIED)
    same = (np.abs(got) == np.abs(want)) & signs | (np.isnan(got) & np.isnan(want))
    number = np.isfinite(want) & (want != 0)
    return same | (number & (np.abs(got - want) <= near * size))


@pytest.mark.parametrize(("name", "kind"), TABLE)
def test_special_values_are_numpys(name, kind):
    zs = special_arguments(name, kind)
    got = accuracy.compiled_loop(name, kind)(*zs)
    with np.errstate(all="ignore"):
        want = accuracy.numpy_function(name)(*zs)
        finite = np.all([np.isfinite(z) for z in zs], axis=0)
        numpys = 32 * np.finfo(want.dtype).eps  # of NumPy's own powers
        whole = np.where(np.isfinite(np.abs(want)), np.abs(want), 0)
        good = [
            is_numpys(g, w, np.maximum(whole, np.abs(w)), numpys, finite)
            for g, w in ((got.real, want.real), (got.imag, want.imag))
        ]
    bad = np.flatnonzero(~(good[0] & good[1]))
    assert not len(bad), [(*(z[i] for z in zs), got[i], want[i]) for i in bad[:8]]


@pytest.mark.parametrize(("name", "kind"), MEASURED)
def test_parts_are_within_two_ulp_of_the_truth(name, kind):
    row = accuracy.measure(name, kind, POINTS)
    error, limit = row.ours[0], LIMIT_ULP
    if kind == "f64" and name in BY_SIZE:
        error, limit = row.ours[1], BY_SIZE[name]
    assert error <= limit, row


PARTS = st.floats(1e-30, 30.0) | st.floats(-30.0, -1e-30)


@pytest.mark.parametrize("name", [n for n in accuracy.MEASURED if n not in BY_SIZE])
def test_any_number(name):
    @settings(max_examples=40, deadline=None)
    @given(x=PARTS, y=PARTS)
    def prove(x, y):
        z = np.array([complex(x, y)])
        got = accuracy.compiled_loop(name, "f64")(z)
        error, _ = accuracy.errors(got, accuracy.truth(name, z)[0])
        assert error[0] <= LIMIT_ULP
        mirrored = accuracy.compiled_loop(name, "f64")(z.conj())
        assert mirrored.tobytes() == got.conj().tobytes()

    prove()


def test_the_logarithm_keeps_its_digits_on_the_unit_circle():
    z = np.exp(1j * np.linspace(-3.1, 3.1, 501))
    error, _ = accuracy.errors(fusec.jit(np.log)(z), accuracy.truth("clog", z)[0])
    assert error.max() <= LIMIT_ULP


@pytest.mark.parametrize(("name", "kind"), TABLE)
def test_loops_are_vector_code_without_calls(name, kind):
    text = accuracy.compiled_loop(name, kind).llvm
    body = next(d for d in text.split("\ndefine") if "@loop(" in d.splitlines()[0])
    assert re.search(r"= fmul <\d+ x double>|@llvm.rint.v\d+f", body)
    declared = re.findall(r"^declare .*@([\w.]+)\(", text, re.MULTILINE)
    assert [d for d in declared if not d.startswith("llvm.")] == []


def test_everything_compiles_to_ptx_without_calls_out_of_the_module():
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    module = ir.Module("gpu")
    module.triple = "nvptx64-nvidia-cuda"
    for n, (name, kind) in enumerate(TABLE):
        function = define(module, name, dsl.KINDS[kind])
        public = ir.Function(module, function.ftype, f"f{n}")
        builder = ir.IRBuilder(public.append_basic_block())
        builder.ret(builder.call(function, public.args))
    target = llvm.Target.from_triple(module.triple)
    machine = target.create_target_machine(cpu="sm_80", opt=3)
    ptx = machine.emit_assembly(llvm.parse_assembly(str(module)))
    assert ptx.count(".visible .func") == len(TABLE)
    assert ".extern" not in ptx


# Through fusec.

UFUNCS = sorted(
    {
        u
        for u in vars(np).values()
        if isinstance(u, np.ufunc) and u.nout == 1 and u.signature is None
        if any(t.split("->")[0].strip("D") == "" for t in u.types)
    },
    key=lambda u: u.__name__,
)
LAYOUTS = {
    "contiguous": lambda z: z,
    "strided": lambda z: z[::2, 1::3],
    "reversed": lambda z: z[::-1, ::-1],
    "Fortran": lambda z: z.T,
    "broadcast": lambda z: np.broadcast_to(z[:1], z.shape),
    "0-d": lambda z: z[0, 0, ...],
    "empty": lambda z: z[:0],
}


def arguments(ufunc, dtype):
    rng = np.random.default_rng(5)
    shape = (ufunc.nin, 6, 20)
    return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(dtype)


@pytest.mark.parametrize("ufunc", UFUNCS, ids=lambda u: u.__name__)
def test_every_ufunc_of_complex_numbers_is_one_kernel(ufunc):
    assert ufunc in BY_UFUNC
    zs = arguments(ufunc, "c16")
    low = fusec.jit(lambda *zs: ufunc(*zs)).lower(*zs)
    assert str(low).splitlines()[0].endswith("1 kernel, 1 step")
    assert "0 calls of NumPy" in str(low.explain())


@pytest.mark.parametrize("dtype", ["c8", "c16"])
@pytest.mark.parametrize("ufunc", UFUNCS, ids=lambda u: u.__name__)
def test_layouts(ufunc, dtype):
    def f(*zs):
        return ufunc(*zs)

    close = 1e-5 if dtype == "c8" else 1e-13
    for view in LAYOUTS.values():
        zs = [view(z) for z in arguments(ufunc, dtype)]
        check(f, *zs, rel=close, calls=1)


def test_a_rotation_times_a_root_is_one_kernel():
    x = np.linspace(0, 3, 1000)
    z = x - 1j * x[::-1]

    def f(x, z):
        return np.exp(1j * x) * np.sqrt(z)

    low = fusec.jit(f).lower(x, z)
    assert len(low.kernels) == 1
    assert "1 kernel, 0 calls of NumPy" in str(low.explain())
    check(f, x, z, rel=1e-14)


HELPERS = {
    "angle": np.angle,
    "degrees": lambda z: np.angle(z, deg=True),
    "unwrap": lambda z: np.unwrap(np.angle(z)),
    "sinc": np.sinc,
    "integer powers": lambda z: z**3 + z**-2,
    "log-sum-exp": lambda z: np.log(np.exp(z).sum(axis=1)),
    "clip": lambda z: np.clip(z, -1 - 1j, 1 + 1j),
}


@pytest.mark.parametrize("name", HELPERS)
def test_functions_of_ufuncs_call_no_numpy(name):
    z = arguments(np.exp, "c16")[0]
    assert "0 calls of NumPy" in str(fusec.jit(HELPERS[name]).lower(z).explain())
    check(HELPERS[name], z, rel=1e-12)


def test_a_cuda_kernel_of_complex_functions():
    def f(z):
        return np.exp(z) * np.log(z) + np.arcsin(z) ** (1 + 2j)

    low = fusec.jit(f).lower(fusec.ShapeDtype((1000,), "c16"), target="cuda:sm_90")
    (kernel,) = low.compile().kernels
    assert "st.global" in kernel.ptx
    assert ".extern" not in kernel.ptx


@pytest.mark.parametrize("dtype", ["c8", "c16"])
@pytest.mark.parametrize(
    "product",
    [lambda z, w: z * w, lambda z, w: z**2 + w, lambda z, w: np.square(z), lambda z, w: z * w[3],
     lambda z, w: z * (1.3 + 0.7j), lambda z, w: np.multiply.outer(z[:30], w),
     lambda z, w: z * w.real, lambda z, w: z[:40].cumprod()],
)  # fmt: skip
def test_products_are_numpys_bit_for_bit(product, dtype):
    """An orbit of Mandelbrot's set shows a last bit after a few rounds."""
    rng = np.random.default_rng(8)
    z, w = (rng.normal(size=(2, 1001)) + 1j * rng.normal(size=(2, 1001))).astype(dtype)
    np.testing.assert_array_equal(fusec.jit(product)(z, w), product(z, w), strict=True)
