"""`python -m benchmarks.bars`: what must hold, measured and compared with its bar.

Every section yields figures with their bars.  Peers (JAX, torch, Numba's own cache) are timed
in the same run where they are installed.  All of it uses a kernel cache of its own that starts
empty; the exit status is 1 when a bar is missed.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Iterator

from benchmarks import bars_calls, bars_processes, harness
from benchmarks.bar import HEADERS, Bar

SECTIONS: dict[str, Callable[[], Iterator[Bar]]] = {
    "overhead": bars_calls.overhead,
    "compile": bars_processes.cold_compile,
    "start": bars_processes.fresh_process,
    "import": bars_processes.import_time,
    "lengths": bars_calls.lengths,
    "gelu": bars_calls.gelu,
    "rows": bars_calls.row_programs,
    "chain": bars_processes.long_chain,
}


def measured(name: str) -> list[Bar]:
    """The figures of one section; a section that fails becomes a bar that is missed."""
    try:
        return list(SECTIONS[name]())
    except Exception as error:
        message = f"{type(error).__name__}: {str(error).strip().splitlines()[-1:]}"
        return [Bar(name, float("nan"), 0.0, beside=message[:80])]


def main(words: list[str] | None = None) -> int:
    """Measure the sections that are named, or all, and print them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bars", description=__doc__)
    parser.add_argument("section", nargs="*", help=f"of {', '.join(SECTIONS)} (default: all)")
    names = parser.parse_args(words).section or list(SECTIONS)
    if unknown := set(names) - set(SECTIONS):
        parser.error(f"no section {', '.join(unknown)}; there are {', '.join(SECTIONS)}")
    harness.require_rich()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["FUSEC_CACHE_DIR"] = folder  # read when fusec is imported, in the sections
        found = []
        for name in names:
            print(f"\r{name:<12}", end="", file=sys.stderr, flush=True)
            found += measured(name)
    facts = harness.machine()
    title = f"{facts['processor']}, {facts['cpus']} CPUs, {facts['versions']}"
    harness.print_table(title, HEADERS, [bar.cells() for bar in found], left=2)
    return int(not all(bar.passed for bar in found))


if __name__ == "__main__":
    sys.exit(main())
