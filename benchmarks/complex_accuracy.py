"""Measures the errors of the complex functions of ``fusec.codegen.mathlib``, and of NumPy's.

    python benchmarks/complex_accuracy.py                  # all functions, a Markdown table
    python benchmarks/complex_accuracy.py cexp --samples 100000
    python benchmarks/complex_accuracy.py --write docs/math.md

The truth is mpmath's. Arguments: bit patterns, ordinary numbers, the neighbourhoods of the unit
circle, of 0, 1, i and of multiples of pi/2, exact zeros and ones, and parts of unlike size. Two
errors are measured, in units in the last place: of the worse part, at that part, and of the
complex number, at its magnitude.
"""

import argparse
import ctypes
import itertools
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import llvmlite.binding as llvm
import mpmath as mp
import numpy as np
from llvmlite import ir

from benchmarks import math_accuracy as accuracy
from fusec.codegen.mathlib.dsl import KINDS
from fusec.codegen.mathlib.emit import COMPLEX, arity, define

DTYPES = {"f32": np.dtype("c8"), "f64": np.dtype("c16")}
EXACT: dict[str, Callable] = {
    "cexp2": lambda z: mp.power(2, z), "clog2": lambda z: mp.log(z) / mp.log(2),
    "clog10": lambda z: mp.log(z) / mp.log(10), "clog1p": lambda z: mp.log(1 + z),
    "cexpm1": lambda z: mp.exp(z) - 1, "cpow": mp.power,
}  # fmt: skip
# Where the real axis is a branch cut.
CUTS: dict[str, Callable[[float], bool]] = {
    **dict.fromkeys(("clog", "clog2", "clog10", "csqrt"), lambda x: x < 0),
    **dict.fromkeys(("casin", "cacos", "catanh"), lambda x: abs(x) > 1),
    "clog1p": lambda x: x < -1, "cacosh": lambda x: x < 1,
}  # fmt: skip
# Beyond, y * ln2 is rounded as in NumPy before its sine is taken.
MOST_EXP2 = 2.0**30
MEASURED = tuple(name for name in COMPLEX if name != "crint")


def loop_text(name: str, kind_name: str) -> str:
    """LLVM of a loop over one complex function."""
    kind, count = KINDS[kind_name], arity(name) // 2
    module, i64 = ir.Module(name), ir.IntType(64)
    module.triple = llvm.get_process_triple()
    function = define(module, name, kind)
    pointers = [ir.LiteralStructType([kind.real] * 2).as_pointer()] * (count + 1)
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
    numbers = [b.load(b.gep(x, [i])) for x in inputs]
    parts = [b.extract_value(z, k) for z in numbers for k in (0, 1)]
    b.store(b.call(function, parts), b.gep(out, [i]))
    after = b.add(i, i64(1), flags=["nsw"])
    i.add_incoming(i64(0), entry)
    i.add_incoming(after, body)
    b.cbranch(b.icmp_signed("<", after, size), body, done)
    return str(module)


@cache
def compiled_loop(name: str, kind_name: str) -> Callable[..., np.ndarray]:
    """The compiled loop; its optimised LLVM is the attribute ``llvm``."""
    machine = accuracy.target_machine()
    module = accuracy.optimised(loop_text(name, kind_name), machine)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), accuracy.target_machine())
    engine.add_object_file(llvm.ObjectFileRef.from_data(machine.emit_object(module)))
    engine.finalize_object()
    pointers = [ctypes.c_void_p] * (arity(name) // 2 + 1)
    native = ctypes.CFUNCTYPE(None, ctypes.c_int64, *pointers)(engine.get_function_address("loop"))

    def call(*zs: np.ndarray, keep: object = engine) -> np.ndarray:
        zs = tuple(np.ascontiguousarray(z, DTYPES[kind_name]) for z in zs)
        out = np.empty_like(zs[0])
        native(out.size, *(z.ctypes.data for z in zs), out.ctypes.data)
        return out

    call.llvm = str(module)
    return call


def numpy_function(name: str) -> Callable[..., np.ndarray]:
    """NumPy's function of this meaning."""
    plain = {"cpow": "power"}.get(name, name[1:])
    return getattr(np, plain)


def exact(name: str, *zs: complex) -> mp.mpc:
    """The value to more digits than are compared."""
    parts = [abs(v) for z in zs for v in (z.real, z.imag) if v]
    wild = any(not 1e-6 < v < 1e6 for v in parts)
    extreme = any(not 1e-40 < v < 1e40 for v in parts)
    with mp.workdps(1500 if extreme else 160 if wild else 60):
        function = EXACT.get(name) or getattr(mp, name[1:])
        y = mp.mpc(function(*(mp.mpc(z.real, z.imag) for z in zs)))
        return on_the_cut(name, zs[0], y)


def on_the_cut(name: str, z: complex, y: mp.mpc) -> mp.mpc:
    """mpmath has no signed zeros: their side of the branch cut is put in."""
    if z.imag == 0 and name in CUTS and CUTS[name](z.real):
        sign = -1 if (np.copysign(1.0, z.imag) < 0) == (name != "cacos") else 1
        return mp.mpc(abs(y.real) if name == "cacosh" else y.real, sign * abs(y.imag))
    if z.real == 0 and name in ("casinh", "catan") and abs(z.imag) > 1:
        return mp.mpc(-abs(y.real) if np.copysign(1.0, z.real) < 0 else abs(y.real), y.imag)
    return y


def to_long(y: mp.mpf) -> np.longdouble:
    """mpmath's number as a long double."""
    if 1e-280 < abs(y) < 1e300:
        high = float(y)
        return np.longdouble(high) + np.longdouble(float(y - high))
    with np.errstate(over="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.longdouble(mp.nstr(y, 25))


def _signs(rng: np.random.Generator, count: int) -> np.ndarray:
    return rng.choice([-1.0, 1.0], count)


def numbers(rng: np.random.Generator, dtype: np.dtype, count: int) -> np.ndarray:
    """Complex numbers from every region; see the module."""
    real, n = np.dtype(f"f{dtype.itemsize // 2}"), count // 8
    turn, size = rng.uniform(-np.pi, np.pi, n), np.exp2(-rng.uniform(0, 60, n))
    tiny, tiny_too = (np.exp2(-rng.uniform(0, 60, n)) * _signs(rng, n) for _ in range(2))
    spread = [np.exp2(rng.uniform(-60, 60, n)) * _signs(rng, n) for _ in range(2)]
    points = rng.choice([0, 1, -1, 1j, -1j, np.pi / 2, 1j * np.pi / 2, np.pi], n)
    with np.errstate(invalid="ignore"):
        bits = [accuracy._any_bits(rng, real, n).astype("f8") for _ in range(2)]
    few = rng.choice([0.0, -0.0, 1.0, -1.0, 0.5, 2.0], n)
    ordinary = rng.uniform(-10, 10, n)
    mixed = np.where(rng.random(n) < 0.5, ordinary, few), np.where(rng.random(n) < 0.5, few, tiny)
    parts = [
        bits,
        spread,
        (rng.uniform(-10, 10, n), rng.uniform(-10, 10, n)),
        (rng.uniform(-800, 800, n), rng.uniform(-100, 100, n)),
        (np.cos(turn) * (1 + size), np.sin(turn) * (1 + size)),
        (points.real + tiny, points.imag + tiny_too),
        (np.cos(turn), np.sin(turn)),
        mixed,
    ]
    with np.errstate(all="ignore"):
        x, y = (np.concatenate(v).astype(real) for v in zip(*parts))
    out = np.empty(x.size, dtype)
    out.real, out.imag = x, y
    return out[np.isfinite(out)]


def arguments(name: str, kind_name: str, count: int, seed: int = 1) -> tuple[np.ndarray, ...]:
    """Arguments for one function; those of a power are of moderate size."""
    rng = np.random.default_rng(seed)
    if name != "cpow":
        return (numbers(rng, DTYPES[kind_name], count),)
    both = [rng.normal(0, s, count) + 1j * rng.normal(0, s, count) for s in (4, 3)]
    some = rng.random(count) < 0.2
    both[1] = np.where(some, rng.integers(-9, 10, count), both[1])
    return tuple(z.astype(DTYPES[kind_name]) for z in both)


def errors(got: np.ndarray, want: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The larger error of a part at that part, and that of the number at its magnitude."""
    parts = [accuracy.ulp_errors(g, w) for g, w in zip((got.real, got.imag), want)]
    size = np.maximum(np.abs(want[0]), np.abs(want[1]))
    info = np.finfo(got.real.dtype)
    _, exponent = np.frexp(size)
    exponent = np.clip(np.where(np.isfinite(size), exponent - 1, 0), info.minexp, info.maxexp - 1)
    unit = np.ldexp(np.longdouble(1), exponent - info.nmant)
    with np.errstate(all="ignore"):
        off = [np.abs(g - w) / unit for g, w in zip((got.real, got.imag), want)]
        both = np.hypot(*(np.where(p == 0, 0, o) for p, o in zip(parts, off)))
    both = np.where(np.isnan(both) | np.isinf(both), np.maximum(*parts), both)
    return np.maximum(*parts), both.astype(np.float64)


class Row(NamedTuple):
    """One line of the table: errors of ours and NumPy's, of a part and of the number."""

    name: str
    kind: str
    ours: tuple[float, float]
    numpys: tuple[float, float]
    where: tuple[complex, ...]
    samples: int


def truth(name: str, *zs: np.ndarray) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
    """Real and imaginary parts of the true values, and where there are such."""
    points = list(zip(*(z.tolist() for z in zs)))
    keep = np.array([regular(name, *point) for point in points])
    values = [exact(name, *point) for point, good in zip(points, keep) if good]
    parts = zip(*((y.real, y.imag) for y in values))
    return tuple(np.array([to_long(v) for v in part], np.longdouble) for part in parts), keep


def measure(name: str, kind_name: str, count: int) -> Row:
    """The largest errors over ``count`` arguments whose result is a number."""
    zs = arguments(name, kind_name, count)
    want, keep = truth(name, *zs)
    zs = tuple(z[keep] for z in zs)
    got = errors(compiled_loop(name, kind_name)(*zs), want)
    with np.errstate(all="ignore"):
        numpys = errors(numpy_function(name)(*zs), want)
    worst = int(np.argmax(got[0]))
    return Row(
        name, kind_name, (got[0].max(), got[1].max()), (numpys[0].max(), numpys[1].max()),
        tuple(z[worst].item() for z in zs), len(zs[0]),
    )  # fmt: skip


def regular(name: str, *zs: complex) -> bool:
    """No pole, and no exponential beyond what mpmath can hold."""
    z = zs[0]
    poles = {"clog1p": (-1,), "catanh": (1, -1), "catan": (1j, -1j)}
    poles.update(dict.fromkeys(("clog", "clog2", "clog10", "cpow"), (0,)))
    if z in poles.get(name, ()) or (name == "cexp2" and abs(z.imag) > MOST_EXP2):
        return False
    grows = {"cexp": z.real, "cexp2": z.real, "cexpm1": z.real, "csinh": z.real, "ccosh": z.real,
             "ctanh": z.real, "csin": z.imag, "ccos": z.imag, "ctan": z.imag}  # fmt: skip
    return abs(grows.get(name, 0.0)) < 1e5


def table(rows: list[Row]) -> str:
    """The rows as Markdown."""
    lines = [
        "| function | dtype | a part | NumPy | the number | NumPy | at | samples |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        cells = [f"{v:.3g}" for v in itertools.chain(*zip(row.ours, row.numpys))]
        at = ", ".join(f"{z:.9g}" if row.kind == "f32" else f"{z:.17g}" for z in row.where)
        dtype = {"f32": "complex64", "f64": "complex128"}[row.kind]
        lines.append(
            f"| {row.name[1:]} | {dtype} | {' | '.join(cells)} | {at} | {row.samples:,} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=MEASURED)
    parser.add_argument("--samples", type=int, default=20_000)
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    rows = []
    for name, kind_name in itertools.product(options.names, ("f32", "f64")):
        rows.append(measure(name, kind_name, options.samples))
        print(table(rows[-1:]).splitlines()[-1], flush=True)
    if options.write:
        before = options.write.read_text().partition(accuracy.COMPLEX_HEADING)[0]
        options.write.write_text(before + accuracy.COMPLEX_HEADING + PAGE + table(rows))


PAGE = """
Largest errors found with mpmath as the truth, ours and those of the installed NumPy. "A part" is
the worse of the real and the imaginary part, in units in its own last place; "the number" is the
distance in the complex plane, in units in the last place of the larger part. Written by
`python -m benchmarks.complex_accuracy --write docs/math.md`, whose docstring says how arguments are
chosen. complex64 is computed in float64 and rounded, so that a part is off by half an ULP.

Each part is within 2 ULP, also near the unit circle, zeros and branch points, but for:

- `expm1`, complex128: where e**x cos(y) is near 1 the real part cancels, and the number is within
  2 ULP.
- `power` with integer exponents below 100 multiplies, as NumPy does, and other exponents are
  `exp(b * log(a))`, whose error grows with the size of `b * log(a)`, though less than NumPy's.
- `exp2` beyond an imaginary part of 2**30: `y * ln2` is rounded, as in NumPy. Not measured.

Infinities, NaN, signed zeros and branch cuts are NumPy's (C99, Annex G, with glibc's choice of
signs where C leaves them open). NumPy's own `log1p`, `expm1` and `exp2` lose digits by cancellation
and for large arguments, so a comparison with it may show more than the errors of this table.

"""

if __name__ == "__main__":
    main()
