"""Measures the largest error, in ULP, of every function of ``fusec.codegen.mathlib``.

    python benchmarks/math_accuracy.py                     # all functions, a Markdown table
    python benchmarks/math_accuracy.py sin pow_ --samples 20000000
    python benchmarks/math_accuracy.py --write docs/math.md

Arguments cover every exponent, both signs, subnormals, the edges of overflow and underflow, and
what is hard for the function (multiples of pi/2, the neighbourhood of 1 ...). The reference has
the next wider type, float64 for float32 and the C library's 80-bit ``long double`` for float64
(11 bits more: its own error is below 0.01 ULP); float64's erf is compared with mpmath. The worst
arguments found are computed again with mpmath.
"""

import argparse
import ctypes
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import llvmlite.binding as llvm
import mpmath as mp
import numpy as np
from llvmlite import ir

from fusec.codegen.mathlib.dsl import KINDS
from fusec.codegen.mathlib.emit import NAMES, arity, define
from fusec.codegen.mathlib.power import MOST_POWER, POWERS
from fusec.codegen.mathlib.rare import finish
from fusec.ops.registry import OPS

DTYPES = {"f32": np.dtype("f4"), "f64": np.dtype("f8")}
MEASURED = (*NAMES[: NAMES.index("sqrt") + 1], *POWERS)
WHOLE = {"whole_power_": 1, "inverse_power_": -1}
WIDER = {np.dtype("f4"): np.dtype("f8"), np.dtype("f8"): np.dtype(np.longdouble)}
# float32 is cheap to measure, and mpmath's erf is not.
SHARE = {"f32": 16, "f64": 1}
ERF_SAMPLES = 200_000
CHUNK = 1 << 19
LIMIT_ULP = 2.0


class Loop(NamedTuple):
    """A compiled ``out[i] = f(x[i], ...)``: the call, its LLVM, and milliseconds to compile."""

    call: Callable[..., np.ndarray]
    llvm: str
    emit_ms: float
    optimise_ms: float
    codegen_ms: float


def target_machine() -> llvm.TargetMachine:
    """The host, with its widest vectors."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    features = llvm.get_host_cpu_features()
    flags = features.flatten() + (",-prefer-256-bit" if features.get("avx512f") else "")
    target = llvm.Target.from_triple(llvm.get_process_triple())
    return target.create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=flags, opt=3, jit=True
    )


def loop_text(name: str, kind_name: str) -> str:
    """LLVM of a loop over one function."""
    kind, count = KINDS[kind_name], arity(name)
    module, i64 = ir.Module(name), ir.IntType(64)
    module.triple = llvm.get_process_triple()
    function = define(module, name, kind)
    pointers = [kind.real.as_pointer()] * (count + 1)
    loop = ir.Function(module, ir.FunctionType(ir.VoidType(), [i64, *pointers]), "loop")
    size, *inputs, out = loop.args
    for pointer in (*inputs, out):
        pointer.add_attribute("noalias")
    entry, body, done = (loop.append_basic_block() for _ in range(3))
    ir.IRBuilder(done).ret_void()
    b = ir.IRBuilder(entry)
    b.cbranch(b.icmp_signed(">", size, i64(0)), body, done)
    b = ir.IRBuilder(body)
    i = b.phi(i64)
    value = b.call(function, [b.load(b.gep(x, [i])) for x in inputs])
    b.store(value, b.gep(out, [i]))
    after = b.add(i, i64(1), flags=["nsw"])
    i.add_incoming(i64(0), entry)
    i.add_incoming(after, body)
    b.cbranch(b.icmp_signed("<", after, size), body, done)
    return str(module)


def optimised(text: str, machine: llvm.TargetMachine) -> llvm.ModuleRef:
    """The module after LLVM's O3 with loop vectorisation."""
    module = llvm.parse_assembly(text)
    module.verify()
    options = llvm.create_pipeline_tuning_options(speed_level=3)
    options.loop_vectorization = options.slp_vectorization = True
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)
    finish(module, machine)
    return module


def compiled_loop(name: str, kind_name: str) -> Loop:
    """Compile the loop over one function; the engine lives as long as the call."""
    machine = target_machine()
    times = [time.perf_counter()]
    text = loop_text(name, kind_name)
    times.append(time.perf_counter())
    module = optimised(text, machine)
    times.append(time.perf_counter())
    code = machine.emit_object(module)
    times.append(time.perf_counter())
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), target_machine())
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    pointers = [ctypes.c_void_p] * (arity(name) + 1)
    native = ctypes.CFUNCTYPE(None, ctypes.c_int64, *pointers)(engine.get_function_address("loop"))
    dtype = DTYPES[kind_name]

    def call(*xs: np.ndarray, out: np.ndarray | None = None, keep: object = engine) -> np.ndarray:
        xs = tuple(np.ascontiguousarray(x, dtype) for x in xs)
        out = np.empty_like(xs[0]) if out is None else out
        native(out.size, *(x.ctypes.data for x in xs), out.ctypes.data)
        return out

    return Loop(call, str(module), *(1e3 * np.diff(times)))


LONG = {
    "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan, "atan2": np.arctan2,
    "asinh": np.arcsinh, "acosh": np.arccosh, "atanh": np.arctanh, "pow_": np.power,
    "root_pow": OPS["scalar_power"].impl,
}  # fmt: skip
LONG |= {f"{name}{n}": lambda x, k=sign * n: np.power(x, x.dtype.type(k))
         for n in range(2, MOST_POWER + 1) for name, sign in WHOLE.items()}  # fmt: skip
EXACT = {"pow_": mp.power, "root_pow": mp.power, "log2": lambda x: mp.log(x, 2),
         "exp2": lambda x: mp.power(2, x)}  # fmt: skip


def numpy_function(name: str) -> Callable[..., np.ndarray] | None:
    """NumPy's function of this meaning (None: erf and fma)."""
    return LONG.get(name) or getattr(np, name, None)


def exact(name: str, *xs: float) -> np.longdouble:
    """The value to 64 bits, by mpmath."""
    with mp.workdps(400 if abs(xs[0]) > 1e3 or abs(xs[0]) < 1e-3 else 60):
        y = EXACT.get(name, getattr(mp, name.rstrip("_"), None))(*(mp.mpf(float(x)) for x in xs))
        if isinstance(y, mp.mpc):
            return np.longdouble("nan")
        return np.longdouble(mp.nstr(y, 25))


def reference(name: str, *xs: np.ndarray) -> np.ndarray:
    """Values in the next wider type."""
    function = numpy_function(name)
    wide = WIDER[xs[0].dtype]
    if function is not None:
        with np.errstate(all="ignore"):
            return function(*(x.astype(wide) for x in xs))
    if name == "erf" and wide == np.float64:
        return np.array([math.erf(x) for x in xs[0].tolist()])
    return np.array([exact(name, *x) for x in zip(*xs)], np.longdouble)


def ulp_errors(got: np.ndarray, want: np.ndarray) -> np.ndarray:
    """|got - want| in units of the last place of ``got``'s dtype at ``want``.

    An infinite ``got`` counts as the number one step beyond the largest; nan must meet nan.
    """
    info, wide = np.finfo(got.dtype), want.dtype.type
    _, exponent = np.frexp(want)
    finite = np.isfinite(want)
    exponent = np.clip(np.where(finite, exponent - 1, 0), info.minexp, info.maxexp - 1)
    ulp = np.ldexp(wide(1), exponent - info.nmant)
    beyond = np.ldexp(wide(1), info.maxexp)
    with np.errstate(invalid="ignore"):
        value = np.where(np.isinf(got), np.copysign(beyond, got), got.astype(wide))
        target = np.where(np.abs(want) > beyond, np.copysign(beyond, want), want)
        error = np.abs(value - target) / ulp
    both = np.isnan(got) & np.isnan(want)
    return np.where(both, 0, np.where(np.isnan(error), np.inf, error)).astype(np.float64)


# Where each function changes its formula or its result's kind; random arguments fill these.
BANDS: dict[str, tuple[tuple[float, float], ...]] = {
    "exp": ((-1, 1), (-104, 89), (-746, 710), (709, 710), (88, 89), (-745.2, -708)),
    "exp2": ((-1, 1), (-150, 128), (-1075, 1024), (-1075, -1021)),
    "expm1": ((-1, 1), (-40, 89), (-1e-5, 1e-5), (0.3, 0.4), (700, 710)),
    "sinh": ((-1.1, 1.1), (-90, 90), (-711, 711)), "cosh": ((-1, 1), (-90, 90), (-711, 711)),
    "tanh": ((-1, 1), (-20, 20), (0.5, 0.6)), "erf": ((-1.1, 1.1), (-6, 6), (0.9, 1.1)),
    "log": ((0.5, 2), (0.99, 1.01), (1, 100)), "log2": ((0.5, 2), (0.99, 1.01), (1, 100)),
    "log10": ((0.5, 2), (0.99, 1.01), (1, 1000)), "log1p": ((-1, 1), (-0.1, 0.1), (0, 10)),
    "asinh": ((-2, 2), (-1e4, 1e4)), "acosh": ((1, 2), (1, 1.001), (1, 1e4)),
    "atanh": ((-1, 1), (-0.1, 0.1), (0.9, 1)), "asin": ((-1, 1), (0.49, 0.51), (0.9, 1)),
    "acos": ((-1, 1), (0.49, 0.51), (0.9, 1), (-0.51, -0.49)), "atan": ((-2, 2), (-100, 100)),
    "sin": ((-4, 4), (-100, 100), (-7e4, 7e4), (-2e9, 2e9)),
    "cos": ((-4, 4), (-100, 100), (-7e4, 7e4), (-2e9, 2e9)),
    "tan": ((-4, 4), (-100, 100), (-7e4, 7e4), (-2e9, 2e9)),
}  # fmt: skip
# The float64 that is nearest to a multiple of pi/2 for its size, and its like in float32.
NEAR_PI = (6381956970095103.0 * 2.0**797, 16367173.0 * 2.0**72, 355.0, 103993.0, 1e22)


def _any_bits(rng: np.random.Generator, dtype: np.dtype, count: int) -> np.ndarray:
    """Uniform over bit patterns: every exponent, subnormals, some inf and nan."""
    whole = np.dtype(f"u{dtype.itemsize}")
    return rng.integers(0, 2 ** (8 * dtype.itemsize), count, whole, endpoint=False).view(dtype)


def _around(values: np.ndarray, dtype: np.dtype, steps: int = 3) -> np.ndarray:
    """The numbers nearest to the values and a few steps to both sides."""
    values = values.astype(dtype)
    whole = values.view(f"i{dtype.itemsize}")
    near = np.concatenate([whole + k for k in range(-steps, steps + 1)]).view(dtype)
    return near


def hard_points(name: str, dtype: np.dtype, rng: np.random.Generator) -> np.ndarray:
    """Neighbours of multiples of pi/2, of powers of two, of ln2 multiples and of the edges."""
    info = np.finfo(dtype)
    ranges = 2.0 ** np.arange(info.minexp, info.maxexp)
    multiples = np.concatenate([np.arange(1, 2000), rng.integers(1, 2**31, 2000)])
    logs = np.array([1023.5, 1024, 127.5, 128, 1074, 1075, 149, 150, 0.5, 1]) * np.log(2)
    edges = [b for band in BANDS.get(name, ()) for b in band]
    special = np.concatenate([
        multiples * (np.pi / 2), ranges, ranges * 1.5, logs, edges, np.array(NEAR_PI[2:]),
        [float(info.max), float(info.tiny), float(info.smallest_subnormal) * 5, 0.5, 1, 2],
        [0.55, np.sqrt(0.5), np.sqrt(2), 1024, 1e3, 1e6, 8192.0, 2.0**28, 2.0**16, 2.0**30],
    ])  # fmt: skip
    with np.errstate(over="ignore"):
        near = _around(special, dtype)
        near = np.concatenate([near, np.array(NEAR_PI).astype(dtype)])
    return np.concatenate([near, -near])


def one_argument(name: str, dtype: np.dtype, count: int, seed: int) -> np.ndarray:
    """A third of all bit patterns, the rest in the function's bands, and hard points (seed 1)."""
    rng = np.random.default_rng(seed)
    bands = BANDS.get(name, ((-10, 10),))
    each = 2 * count // (3 * len(bands))
    parts = [_any_bits(rng, dtype, count // 3)]
    parts += [hard_points(name, dtype, rng)] if seed == 1 else []
    parts += [rng.uniform(a, b, each).astype(dtype) for a, b in bands]
    return np.concatenate(parts)


def two_arguments(
    name: str, dtype: np.dtype, count: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Bit patterns, moderate values, and (pow) results near overflow, underflow and 1."""
    x = [_any_bits(rng, dtype, count // 4), rng.uniform(-10, 10, count // 4)]
    y = [_any_bits(rng, dtype, count // 4), rng.uniform(-10, 10, count // 4)]
    size = np.exp2(rng.uniform(-30, 30, count // 4))
    x.append(size * rng.choice([-1, 1], count // 4))
    y.append(size * np.exp2(rng.uniform(-3, 3, count // 4)))
    with np.errstate(invalid="ignore"):
        base = np.abs(_any_bits(rng, dtype, count // 4).astype(np.float64))
    base = np.where(rng.random(base.size) < 0.5, base, rng.uniform(0.9, 1.1, base.size))
    with np.errstate(all="ignore"):
        power = rng.uniform(-1080, 1030, base.size) / np.log2(base)
        x.append(base)
        y.append(np.where(rng.random(base.size) < 0.3, np.rint(power), power))
        return np.concatenate([p.astype(dtype) for p in x]), np.concatenate(
            [p.astype(dtype) for p in y]
        )


def arguments(name: str, kind_name: str, count: int, seed: int = 1) -> tuple[np.ndarray, ...]:
    """Arguments for one function."""
    dtype = DTYPES[kind_name]
    if arity(name) == 1:
        return (one_argument(name, dtype, count, seed),)
    return two_arguments(name, dtype, count, np.random.default_rng(seed))


class Row(NamedTuple):
    """One line of the table."""

    name: str
    kind: str
    ulp: float
    where: tuple[float, ...]
    samples: int


def measure(name: str, kind_name: str, count: int) -> Row:
    """The largest error over ``count`` arguments; the worst ones are confirmed by mpmath."""
    loop = compiled_loop(name, kind_name)
    worst, place, done, seed = 0.0, (np.nan,), 0, 0
    count = count * SHARE[kind_name] if name != "erf" else min(count, ERF_SAMPLES)
    while done < count:
        seed += 1
        xs = arguments(name, kind_name, min(CHUNK, count), seed)
        got = loop.call(*xs)
        error = ulp_errors(got, reference(name, *xs))
        for i in np.argsort(error)[-3:][::-1]:
            if error[i] <= worst:
                break
            point = tuple(x[i].item() for x in xs)
            sure = ulp_errors(got[i : i + 1], np.array([confirmed(name, *point)]))[0]
            if sure > worst:
                worst, place = float(sure), point
        done += xs[0].size
    return Row(name, kind_name, worst, place, done)


def confirmed(name: str, *point: float) -> np.longdouble:
    """mpmath's value where it is an ordinary number, else the long double's."""
    value = reference(name, *(np.array([x], np.float64) for x in point))[0]
    if not 1e-330 < abs(value) < 1e330 or name in ("hypot", "atan2", "sqrt", "cbrt"):
        return value
    return exact(name, *point)


def table(rows: list[Row]) -> str:
    """The rows as Markdown."""
    lines = ["| function | dtype | max ULP | at | samples |", "| --- | --- | --- | --- | --- |"]
    for row in rows:
        at = ", ".join(f"{x:.9g}" if row.kind == "f32" else f"{x:.17g}" for x in row.where)
        dtype = {"f32": "float32", "f64": "float64"}[row.kind]
        lines.append(
            f"| {row.name.rstrip('_')} | {dtype} | {row.ulp:.3f} | {at} | {row.samples:,} |"
        )
    return "\n".join(lines) + "\n"


PAGE = """# Errors of the math functions

Largest error found, in units in the last place of the result, of the functions that kernels call
in place of NumPy's. Written by `python benchmarks/math_accuracy.py --write docs/math.md`, whose
docstring says how arguments are chosen. The bound that fusec promises is 2 ULP.

"""
COMPLEX_HEADING = "\n## Complex functions\n"  # what follows is complex_accuracy's


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=MEASURED[: -len(POWERS)])
    parser.add_argument("--samples", type=int, default=4_000_000)
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    rows = []
    for name in options.names:
        for kind_name in DTYPES:
            rows.append(measure(name, kind_name, options.samples))
            print(table(rows[-1:]).splitlines()[-1], flush=True)
    if options.write:
        kept = options.write.read_text().partition(COMPLEX_HEADING)
        options.write.write_text(PAGE + table(rows) + "".join(kept[1:]))
    beyond = [r for r in rows if not r.ulp <= LIMIT_ULP]
    if beyond:
        raise SystemExit("beyond the bound:\n" + table(beyond))


if __name__ == "__main__":
    main()
