"""Bars that need processes of their own: compile times, start, import, a very long chain."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.bar import Bar, rounds

ROOT = Path(__file__).parents[1]
COLD_RUNS, START_RUNS = 3, 7

COMPILE = """
import json, time
import numpy as np
import fusec, kernels

def seconds(fn, *args):
    start = time.perf_counter()
    fusec.jit(fn)(*args)
    return time.perf_counter() - start

x = np.linspace(0.1, 1, 1000, dtype="f4")
first = seconds(lambda x: np.sqrt(x), x)
print(json.dumps({
    "first": first,
    "3 operations": seconds(lambda x: (x * 2 + 1) / x, x),
    "gelu": seconds(kernels.get("gelu").function, x),
    "black-scholes": seconds(
        kernels.get("black_scholes").function, *kernels.get("black_scholes").args("S", "f4")
    ),
}))
"""

FIVE_OPS = """
import numpy as np
{header}
def five(x):
    return np.sqrt(x * x + 1) * 2 - x
print(float(five(np.ones(100))[0]))
import time
print(time.monotonic())
"""
HEADERS = {
    "fusec": "import fusec\n@fusec.jit",
    "NumPy": "",
    "Numba": "import numba\n@numba.njit(cache=True)",
    "JAX": (
        "import jax, jax.numpy as np\n"
        "jax.config.update('jax_compilation_cache_dir', {folder!r})\n"
        "jax.config.update('jax_persistent_cache_min_compile_time_secs', 0)\n@jax.jit"
    ),
}

IMPORT = """
import time
import numpy
start = time.perf_counter()
import fusec
print(time.perf_counter() - start)
"""

CHAIN = """
import json, sys, time
import numpy as np
import fusec

def chain(x):
    for i in range(2500):
        x = x * 0.999 + 0.001
    return x

x = np.linspace(0, 1, 1000)
f = fusec.jit(chain)
start = time.perf_counter()
y = f(x)
first = time.perf_counter() - start
low = f.lower(x)
print(json.dumps({
    "first": first, "right": bool(np.array_equal(y, chain(x))), "kernels": len(low.kernels),
    "said": "cut" in str(low.explain()).lower(),
}))
"""


def python(text: str | Path, folder: str) -> str:
    """The output of a script (a text or a file) in a process whose caches are in `folder`."""
    words = [str(text)] if isinstance(text, Path) else ["-c", text]
    env = {**os.environ, "FUSEC_CACHE_DIR": folder, "NUMBA_CACHE_DIR": folder,
           "PYTHONPATH": str(ROOT)}  # fmt: skip
    done = subprocess.run([sys.executable, *words], env=env, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return done.stdout


def cold_compile() -> Iterator[Bar]:
    """First calls of three functions with an empty cache, after another first call."""
    runs: list[dict[str, float]] = []
    for _ in range(COLD_RUNS):
        with tempfile.TemporaryDirectory() as folder:
            runs.append(json.loads(python(COMPILE, folder)))
    for name, limit in (("3 operations", 80), ("gelu", 110), ("black-scholes", 250)):
        middle, spread = rounds([run[name] * 1e3 for run in runs])
        yield Bar(f"cold compile, {name}", middle, limit, "ms", spread)
    middle, spread = rounds([run["first"] * 1e3 for run in runs])
    yield Bar("cold compile, the first of a process", middle, None, "ms", spread)


def fresh_process() -> Iterator[Bar]:
    """From process start to the first result of five operations, with a warm cache."""
    names = ["fusec", "NumPy", "Numba", *(["JAX"] if find_spec("jax") else [])]
    seconds: dict[str, list[float]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as folder:
        scripts = {name: _script(folder, name) for name in names}
        for path in scripts.values():
            python(path, folder)
        for _ in range(START_RUNS):
            for name, path in scripts.items():
                start = time.monotonic()
                seconds[name].append(float(python(path, folder).split()[-1]) - start)
    beside = ", ".join(f"{n} {rounds(seconds[n])[0]:.2f} s" for n in names if n != "fusec")
    middle, spread = rounds(seconds["fusec"])
    yield Bar("fresh process, warm cache, to the first result", middle, 0.35, "s", spread, beside)


def _script(folder: str, name: str) -> Path:
    path = Path(folder) / f"start_{name.lower()}.py"
    path.write_text(FIVE_OPS.format(header=HEADERS[name].replace("{folder!r}", repr(folder))))
    return path


def import_time() -> Iterator[Bar]:
    """`import fusec` in a process that has imported NumPy."""
    with tempfile.TemporaryDirectory() as folder:
        values = [float(python(IMPORT, folder)) * 1e3 for _ in range(START_RUNS)]
    middle, spread = rounds(values)
    yield Bar("import fusec beyond NumPy", middle, 50, "ms", spread)


def long_chain() -> Iterator[Bar]:
    """A chain of 5,000 elementwise operations: first call, and where it was cut."""
    with tempfile.TemporaryDirectory() as folder:
        facts: dict[str, Any] = json.loads(python(CHAIN, folder))
    beside = f"{facts['kernels']} kernels, result {'right' if facts['right'] else 'WRONG'}"
    yield Bar("chain of 5,000 operations: first call", facts["first"], 20, "s", 0, beside)
    missing = int(not facts["said"]) + int(not facts["right"])
    yield Bar("chain: wrong result, or no word on the cut", missing, 0)
