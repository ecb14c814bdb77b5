"""`python -m benchmarks`: the kernel suite, NumPy against fusec, checked and timed.

    python -m benchmarks --quick                      every kernel once, under a minute
    python -m benchmarks --suite --json out.json      all sizes and dtypes
    python -m benchmarks --kernel softmax --size L    one kernel
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import kernels
from benchmarks import harness, suite

#: Seconds of timing for one row: what keeps the quick run under a minute.
QUICK_SECONDS, FULL_SECONDS = 0.2, 2.0


def parse(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = parser.add_argument
    add("--quick", action="store_true", help="every kernel, large, float32, in under a minute")
    add("--suite", action="store_true", help="every kernel, all sizes and dtypes")
    add("--kernel", action="append", metavar="NAME", help="only this kernel (may be repeated)")
    add("--size", choices=kernels.SIZES, action="append", help="only this size (S M L)")
    add("--dtype", choices=kernels.DTYPES, action="append", help="only this dtype (f4 f8)")
    add("--json", type=Path, metavar="FILE", help="write the figures to a file, too")
    options = parser.parse_args(words)
    if not (options.quick or options.suite or options.kernel):
        parser.error("say --quick, --suite or --kernel NAME")
    return options


def chosen(options: argparse.Namespace) -> list[tuple[kernels.Kernel, str, str]]:
    """Kernel, size and dtype of every row."""
    try:
        named = [kernels.get(n) for n in options.kernel or ()] or list(kernels.suite())
    except KeyError as error:
        raise SystemExit(error.args[0]) from None
    sizes = options.size or (["L"] if options.quick else kernels.SIZES)
    dtypes = options.dtype or (["f4"] if options.quick else kernels.DTYPES)
    return [(k, size, dtype) for k in named for dtype in dtypes for size in sizes]


def main(words: list[str] | None = None) -> int:
    """Measure and print; the exit status is 1 when a kernel gave a wrong answer or failed."""
    options = parse(words)
    rows = chosen(options)
    harness.require_rich()
    copy = harness.copy_bandwidth()
    seconds = QUICK_SECONDS if options.quick else FULL_SECONDS
    results = []
    for number, (kernel, size, dtype) in enumerate(rows, 1):
        print(f"\r{number}/{len(rows)} {kernel.name:<24}", end="", file=sys.stderr, flush=True)
        results.append(suite.measured(kernel, size, dtype, seconds))
    copy = max(copy, harness.copy_bandwidth())
    for result in results:
        result.of_copy = 100 * result.bandwidth * 1e9 / copy
    print("\r" + " " * 40 + "\r", end="", file=sys.stderr)
    facts = harness.machine()
    title = (
        f"{facts['processor']}, {facts['cpus']} CPUs, NumPy {facts['versions']['numpy']}, "
        f"copy {copy / 1e9:.0f} GB/s; {suite.geometric_mean(results):.2f} times NumPy's speed "
        "(geometric mean)"
    )
    harness.print_table(title, suite.HEADERS, [r.cells() for r in results], left=3)
    if options.json:
        figures = [r.as_json() for r in results]
        text = json.dumps({"machine": facts, "copy": copy, "results": figures}, indent=1)
        options.json.write_text(text)
    return int(any(r.error for r in results))


if __name__ == "__main__":
    sys.exit(main())
