"""Kernel text -> object file -> callable address, without NumPy semantics (those are tested above).

Machine code is called through ctypes here; the runtime has a faster way.
"""

import ctypes
import re
import subprocess
import sys
import threading

import numba
import numpy as np
import pytest

import fusec
from fusec.codegen import target
from fusec.codegen.numba_cpu import KernelCompileError, compile_kernel
from fusec.runtime import cpu

ENTRY = ctypes.CFUNCTYPE(
    ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p
)


def run(text, start, stop, ints=(), arrays=(), fastmath=False):
    """Compile ``text`` for named ints and arrays, run it, return its status."""
    names, ptrs = tuple(n for n, _ in ints), tuple((n, a.dtype.str) for n, a in arrays)
    code = compile_kernel(text, names, ptrs, fastmath=fastmath)
    numbers = np.array([value for _, value in ints], dtype=np.int64)
    places = np.array([a.ctypes.data for _, a in arrays], dtype=np.uintp)
    entry = ENTRY(cpu.load(code.symbol, code.object))
    return entry(start, stop, numbers.ctypes.data, places.ctypes.data)


MAP = """
def kernel(start, stop, x, y):
    for i in range(start, stop):
        {}
    return 0
"""


def test_the_entry_unpacks_its_arguments_in_order():
    text = """
def kernel(start, stop, n, s, t, x, y):
    for i in range(start, stop):
        for j in range(n):
            y[i * t + j] = x[i * s + j] + 0.5
    return 7
"""
    x, y = np.arange(12.0), np.zeros((3, 4))
    assert run(text, 1, 3, [("n", 3), ("s", 4), ("t", 4)], [("x", x), ("y", y)]) == 7
    want = np.zeros((3, 4))
    want[1:, :3] = x.reshape(3, 4)[1:, :3] + 0.5
    assert np.array_equal(y, want)


@pytest.mark.parametrize(
    "dtype",
    ["?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16", "M8[s]"],
)
def test_every_dtype_has_a_pointer(dtype):
    x = np.array([1, 0, 1, 1]).astype(dtype)
    y = np.zeros_like(x)
    assert run(MAP.format("y[i] = x[i]"), 0, 4, (), [("x", x), ("y", y)]) == 0
    assert x.tobytes() == y.tobytes()


def test_variables_that_change_in_branches_and_loops():
    text = """
def kernel(start, stop, x, y):
    for i in range(start, stop):
        total = 0.0
        k = i
        while k > 0:
            if k & 1:
                total = total + x[k]
            else:
                total = total - x[k]
            k = k - 1
        y[i] = total
    return 0
"""
    x, y = np.random.default_rng(0).random(50), np.zeros(50)
    run(text, 0, 50, (), [("x", x), ("y", y)])
    signs = np.where(np.arange(1, 50) % 2, 1, -1)
    assert np.allclose(y[1:], np.cumsum(signs * x[1:]))


def test_a_loop_may_become_a_call_of_the_c_library():
    y = np.ones(300)
    run(MAP.format("y[i] = 0.0"), 0, 300, (), [("x", y), ("y", y)])  # becomes memset
    assert not y.any()


def test_division_by_zero_is_ieee():
    x, y = np.array([1.0, 0.0, -1.0]), np.zeros(3)
    run(MAP.format("y[i] = x[i] / 0.0"), 0, 3, (), [("x", x), ("y", y)])
    assert np.array_equal(y, [np.inf, np.nan, -np.inf], equal_nan=True)


def test_a_loop_over_many_buffers_is_vectorised_without_tests_for_overlap():
    names = [f"{letter}{k}" for k in range(8) for letter in "xy"]
    body = "; ".join([f"y{k}[i] = x{k}[i]" for k in range(8)])
    text = f"def kernel(start, stop, {', '.join(names)}):\n" \
        f"    for i in range(start, stop): {body}\n    return 0\n"
    lines = compile_kernel(text, (), tuple((n, "<f4") for n in names)).llvm.splitlines()
    assert sum("store <" in line for line in lines) >= 8
    assert not any("icmp ult ptr" in line for line in lines)


@pytest.mark.parametrize("primitive", ["fmaximum", "fminimum"])
def test_a_constant_bound_is_one_comparison(primitive):
    args, predicates = ((), (("x", "<f4"), ("y", "<f4"))), []
    for bound in ("cast_f4(2.0)", "y[i]"):
        text = MAP.format(f"y[i] = {primitive}(x[i], {bound})")
        code = compile_kernel(f"from fusec.codegen.primitives import *\n\n{text}", *args)
        predicates.append({*re.findall(r"fcmp (\w+) <\d+ x float>", code.llvm)})
    assert [len(p) for p in predicates] == [1, 2]  # the second is for NaN


def test_only_the_comments_on_top_are_not_part_of_the_kernel():
    body = MAP.format("y[i] = x[i]")
    args = ((), (("x", "<f4"), ("y", "<f4")))
    symbol = compile_kernel(body, *args).symbol
    assert compile_kernel("# fused: copy\n\n# line 3\n" + body, *args).symbol == symbol
    assert compile_kernel(body + "# end", *args).symbol != symbol
    assert compile_kernel(body, *args, fastmath=True).symbol != symbol
    assert compile_kernel(body, (), (("x", "<f8"), ("y", "<f8"))).symbol != symbol


def test_fastmath_contracts_and_nothing_else_does():
    args = (MAP.format("y[i] = x[i] * x[i] + 0.3"), (), (("x", "<f8"), ("y", "<f8")))
    assert "vfmadd" not in compile_kernel(*args).asm
    if "+fma" in target.host().features:
        assert "vfmadd" in compile_kernel(*args, fastmath=True).asm


def test_elements_that_stand_apart_are_vectors_of_single_loads():
    text = MAP.format("y[i] = x[i * x_s0] * x[i * x_s0]").replace("stop, ", "stop, x_s0, ")
    code = compile_kernel(text, ("x_s0",), (("x", "<f4"), ("y", "<f4")))
    if "+avx512f" in target.host().features:
        assert re.search(r"fmul <16 x float>", code.llvm) and "vgather" not in code.asm
    assert "ident.check" not in code.llvm  # LLVM's test whether the stride is 1


def test_vectors_have_the_full_width():
    code = compile_kernel(MAP.format("y[i] = x[i] * x[i]"), (), (("x", "<f4"), ("y", "<f4")))
    assert re.search(r"fmul <\d+ x float>", code.llvm)
    if "+avx512f" in target.host().features:
        assert "zmm" in code.asm
    assert code.symbol + ":" in code.asm and "numba" not in code.asm


PRIMITIVES = "from fusec.codegen.primitives import *\n"
ERRORS = {
    "typing": ('z = "a"\n        y[i] = z + 1', "Foreign .* 'a'"),
    "another type": ("y[i] = i\n        y[i] = y[i] + i", "float64 and int64|int64 in"),
    "a primitive": ("y[i] = fmaximum(x[i], i)", "one type, not .*float64, int64"),
    "no value": ("y[i] = z", "z is not defined"),
    "name": ("y[i] = unknown(x[i])", r"unknown\(x\[i\]\)"),
    "syntax": ("y[i] = ", "SyntaxError"),
    "a list": ("y[i] = len([x[i]])", "Foreign"),
    "printing": ("print(x[i])", "Foreign"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_what_does_not_compile_is_one_error_that_shows_the_kernel(case):
    body, words = ERRORS[case]
    with pytest.raises(KernelCompileError) as info:
        compile_kernel(PRIMITIVES + MAP.format(body).lstrip(), (), (("x", "<f8"), ("y", "<f8")))
    message = str(info.value)
    assert re.search(words, message) and info.value.__cause__ is None
    assert ">   4 " in message
    assert "def kernel(start, stop, x, y):" in message


def test_a_module_that_is_not_valid_is_an_error_and_not_a_crash():
    import llvmlite.binding as llvm

    target.machine()
    text = """
declare float @llvm.copysign.f32(float)
define float @f(float %x) {
  %y = call float @llvm.copysign.f32(float %x)
  ret float %y
}
"""
    with pytest.raises(RuntimeError):
        target.build("f", llvm.parse_assembly(text))


def test_an_object_without_the_symbol():
    code = compile_kernel("def kernel(start, stop): return 3", (), ())
    with pytest.raises(RuntimeError, match="nothing"):
        cpu.load("nothing", code.object)


def test_threads_compile_different_kernels_at_once():
    results = {}

    def work(k):
        y = np.zeros(10)
        run(MAP.format(f"y[i] = {k}.0"), 0, 10, (), [("x", y), ("y", y)])
        results[k] = y

    threads = [threading.Thread(target=work, args=(k,)) for k in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all((results[k] == k).all() for k in range(6))


def test_many_objects_can_be_loaded():
    entries = []
    for k in range(30):
        code = compile_kernel(f"def kernel(start, stop): return start + {k}", (), ())
        entries.append(ENTRY(cpu.load(code.symbol, code.object)))
    assert [entry(100, 0, None, None) for entry in entries] == list(range(100, 130))


def test_undefined_symbols_reads_elf():
    import llvmlite.binding as llvm

    def build(called):
        text = "declare double @{0}(double)\ndefine double @f(double %x) {{\n"
        text += "  %y = call double @{0}(double %x)\n  ret double %y\n}}\n"
        return target.build("f", llvm.parse_assembly(text.format(called)))

    target.machine()
    if sys.platform == "linux":
        assert "sin" in target.undefined_symbols(build("sin").object)
        with pytest.raises(KernelCompileError, match="refers to PyFloat_FromDouble"):
            build("PyFloat_FromDouble")
    assert target.undefined_symbols(b"not an object") == []


def test_neither_numba_nor_llvmlite_is_imported_by_the_runtime_modules():
    script = (
        "import sys, fusec.runtime.cache, fusec.runtime.cpu, fusec.codegen.target;"
        "print([m for m in ('numba', 'llvmlite') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


CORNERS = """
def kernel(start, stop, n, y):
    status = 0
    for row in range(start, stop):
        last = 0 - 1
        for i in range(n):
            if i == 5:
                break
            last = i
        y[row * 7] = last
        for j in range(2, n + 3, 3):
            y[row * 7 + 1] = j
        y[row * 7 + 2] = min(n, row) + max(n, row) * 100
        k = n
        while k > 3:
            k = k - 2
        y[row * 7 + 3] = k
        y[row * 7 + 4] = ((row - 7) >> 1) + (-row & 31)
        if (row > 2) & (n < 9):
            y[row * 7 + 5] = 1
        else:
            y[row * 7 + 5] = 2
        for q in range(n):
            q = q + 100
        y[row * 7 + 6] = q
    return status
"""


def test_kernels_do_what_numba_makes_of_them():
    names = {}
    exec(CORNERS, names)
    for n in (1, 4, 9, 12):
        y, want = np.zeros(70, int), np.zeros(70, int)
        run(CORNERS, 0, 10, [("n", n)], [("y", y)])
        numba.njit(names["kernel"])(0, 10, n, want)
        assert y.tolist() == want.tolist()


@pytest.mark.parametrize("op", [np.remainder, np.fmod, np.floor_divide])
def test_remainders_of_floats_are_computed_in_vectors(op):
    (kernel,) = fusec.jit(lambda x, y: op(x, y)).lower(np.ones(9), np.ones(9)).compile().kernels
    assert re.search(r"fdiv <\d+ x double>", kernel.llvm)
