"""`python -m benchmarks overhead`: everything but the arithmetic, beside the same peers.

Calls on tiny arrays, import, start with an empty and a warm cache, new lengths, compile times and
memory, each in fresh processes. fusec's figures have bars; the exit status is 1 when one is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from benchmarks import harness, report
from benchmarks.bar import rounds

ROOT = Path(__file__).parents[1]
PEERS = ("fusec", "numpy", "numba", "jax", "torch")
RUNS = 3
#: Most that fusec's figure may be.
BARS = {
    "call, 1 arrays of 8, us": 1.0,
    "call, 2 arrays of 8, us": 1.0,
    "call, 4 arrays of 8, us": 1.5,
    "import, ms": 50.0,
    "first result, warm cache, s": 0.35,
    "each new length, ms": 3.0,
    "compile three_operations, ms": 80.0,
    "compile gelu, ms": 110.0,
    "compile black_scholes, ms": 250.0,
    "chain of 5,000 operations, s": 20.0,
    "suite, compiled, warm cache": 0.0,
    "two threads: more than half of one's, us": 5.0,
}
#: Least that fusec's figure may be.
LEAST = {"two threads: times as fast": 1.8}
#: Measures that only some contenders can finish in reasonable time.
ONLY = {"chain": ("fusec", "numpy"), "suite": ("fusec", "jax"), "threads": ("fusec",)}
MEASURES = ("start", "calls", "lengths", "compile", "suite", "threads", "chain")
ONCE = ("chain",)
Figures = dict[str, list[float]]


def child(peer: str, measure: str, folder: str) -> dict[str, float]:
    """The figures of one measure from a process whose caches are in ``folder``.

    Python keeps compiled modules, whatever the environment says: installed packages have theirs.
    """
    env = {
        **{k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"},
        "PYTHONPATH": str(ROOT),
        "FUSEC_CACHE_DIR": f"{folder}/fusec",
        "NUMBA_CACHE_DIR": f"{folder}/numba",
        "JAX_COMPILATION_CACHE_DIR": f"{folder}/jax",
        "TORCHINDUCTOR_CACHE_DIR": f"{folder}/torch",
    }
    words = ["-m", "benchmarks.overhead_child", peer, measure, repr(time.monotonic())]
    done = subprocess.run([sys.executable, *words], env=env, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().rpartition("\n")[2])
    found: dict[str, float] = json.loads(done.stdout)
    return found


def starts(peer: str, folder: str) -> dict[str, float]:
    """Start with an empty cache, then with the warm one it left behind."""
    cold, warm = child(peer, "start", folder), child(peer, "start", folder)
    first = {f"first result, {kind} cache, s": run.pop("first result, s")
             for kind, run in (("empty", cold), ("warm", warm))}  # fmt: skip
    return {**first, **warm}


def suites(peer: str, folder: str) -> dict[str, float]:
    """The first calls of all kernels, with an empty cache and with the warm one it left behind."""
    cold, warm = child(peer, "suite", folder), child(peer, "suite", folder)
    return {f"{what}, {kind} cache" if "kernels" not in what else what: figure
            for kind, run in (("empty", cold), ("warm", warm))
            for what, figure in run.items()}  # fmt: skip


#: Measures of two processes, the second of which finds what the first has left.
TWICE = {"start": starts, "suite": suites}


def measured(peers: Sequence[str], runs: int) -> dict[str, Figures]:
    """Figures by what they are, then by contender; contenders take turns."""
    todo = [(m, peer) for m in MEASURES for _ in range(runs if m not in ONCE else 1)
            for peer in peers if peer in ONLY.get(m, peers)]  # fmt: skip
    found: dict[str, Figures] = {}
    with report.progress(len(todo)) as step:
        for measure, peer in todo:
            step(f"{measure} {peer}")
            with tempfile.TemporaryDirectory() as folder:
                twice = TWICE.get(measure)
                one = twice(peer, folder) if twice else child(peer, measure, folder)
            for what, figure in one.items():
                found.setdefault(what, {}).setdefault(peer, []).append(figure)
    return found


def cells(what: str, figures: Figures, peers: Sequence[str]) -> tuple[str, ...]:
    """A line of the table: the bar, fusec's figure with its spread, the others."""
    bar = BARS.get(what)
    ours, spread = rounds(figures["fusec"])
    least = LEAST.get(what)
    missed = (bar is not None and ours > bar) or (least is not None and ours < least)
    verdict = "FAIL" if missed else "" if bar is least is None else "pass"
    beside = [figures.get(p) for p in peers if p != "fusec"]
    others = [f"{rounds(values)[0]:.3g}" if values else "-" for values in beside]
    limit = "" if bar is least is None else f">= {least:g}" if bar is None else f"<= {bar:g}"
    return (what, limit, f"{ours:.3g}", f"{spread:.0%}", verdict, *others)


def main(words: list[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks overhead", description=__doc__)
    parser.add_argument("--against", metavar="A,B", help=f"of {', '.join(PEERS)}")
    parser.add_argument("--runs", type=int, default=RUNS, help="processes for each figure")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures, too")
    options = parser.parse_args(words)
    named = ["fusec", *options.against.split(",")] if options.against else list(PEERS)
    if unknown := set(named) - set(PEERS):
        parser.error(f"no contender {', '.join(unknown)}; there are {', '.join(PEERS)}")
    peers = [p for p in PEERS if p in named and find_spec(p) is not None]
    found = measured(peers, options.runs)
    facts = harness.machine()
    title = f"{facts['processor']}, {facts['cpus']} CPUs; medians of {options.runs} processes"
    headers = ("what", "bar", "fusec", "spread", "", *(p for p in peers if p != "fusec"))
    lines = [cells(what, figures, peers) for what, figures in found.items()]
    harness.print_table(title, headers, lines)
    if options.json:
        options.json.write_text(json.dumps({"machine": facts, "figures": found}, indent=1))
    return int(any("FAIL" in line for line in lines))


if __name__ == "__main__":
    sys.exit(main())
