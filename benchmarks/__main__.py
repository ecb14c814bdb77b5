"""`python -m benchmarks`: the kernel suite under fusec, NumPy and its peers, checked and timed.

    python -m benchmarks --quick                      every kernel, fusec and NumPy, under a minute
    python -m benchmarks --suite --json out.json      every kernel, size, dtype and installed peer
    python -m benchmarks --kernel softmax --size L    one kernel against everyone
    python -m benchmarks --from out.json --plot out   tables and pictures of a run
    python -m benchmarks --quick --compare out.json   what changed since
    python -m benchmarks overhead                     calls, starts, compile times, memory
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import kernels
from benchmarks import contenders, harness, report, suite

#: Seconds of timing for each contender of a row: what keeps the quick run under a minute.
QUICK_SECONDS, FULL_SECONDS = 0.05, 0.5


def parse(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = parser.add_argument
    add("--quick", action="store_true", help="every kernel, large, float32, in under a minute")
    add("--suite", action="store_true", help="every kernel, all sizes and dtypes")
    add("--kernel", action="append", metavar="NAME", help="only this kernel (may be repeated)")
    add("--family", action="append", metavar="NAME", help="only this family (may be repeated)")
    add("--size", choices=kernels.SIZES, action="append", help="only this size (S M L)")
    add("--dtype", choices=kernels.DTYPES, action="append", help="only this dtype (f4 f8)")
    add("--device", default="cpu", help="where it runs: cpu (default) or cuda:0 ...")
    add("--against", metavar="A,B", help=f"of {', '.join(contenders.CONTENDERS)}; default: all "
        "that are installed, NumPy with --quick")  # fmt: skip
    add("--seconds", type=float, help="of timing for each contender of a row")
    add("--json", type=Path, metavar="FILE", help="write the figures to a file, too")
    add("--from", type=Path, metavar="FILE", dest="stored", help="show a run that was written")
    add("--plot", type=Path, metavar="DIR", help="write PNG pictures and a page into a folder")
    add("--compare", type=Path, metavar="OLD", help="compare with a run that was written")
    options = parser.parse_args(words)
    if not (options.quick or options.suite or options.kernel or options.family or options.stored):
        parser.error("say --quick, --suite, --family, --kernel NAME or --from FILE")
    return options


def selected(options: argparse.Namespace) -> list[tuple[kernels.Kernel, str, str]]:
    """Kernel, size and dtype of every row."""
    try:
        named = [kernels.get(n) for n in options.kernel or ()] or list(kernels.suite())
    except KeyError as error:
        raise SystemExit(error.args[0]) from None
    families = options.family or {k.family for k in named}
    sizes = options.size or (["L"] if options.quick else kernels.SIZES)
    dtypes = options.dtype or (["f4"] if options.quick else kernels.DTYPES)
    return [(k, size, dtype) for k in named if k.family in families
            for dtype in dtypes for size in sizes]  # fmt: skip


def run(options: argparse.Namespace, about: dict[str, Any]) -> list[suite.Row]:
    """Measure every row; what is there goes to the file each time, in case of an interruption."""
    names = options.against.split(",") if options.against else ["numpy"] if options.quick else None
    found = contenders.chosen(names, options.device)
    seconds = options.seconds or (QUICK_SECONDS if options.quick else FULL_SECONDS)
    todo = selected(options)
    rows = []
    with report.progress(len(todo)) as step:
        for kernel, size, dtype in todo:
            step(f"{kernel.name} {size} {dtype}")
            rows.append(suite.measure(kernel, size, dtype, found, seconds, options.device))
            if options.json:
                report.save(rows, about, options.json)
    return rows


def main(words: list[str] | None = None) -> int:
    """Measure and print; the exit status is 1 when fusec gave a wrong answer or failed."""
    words = sys.argv[1:] if words is None else words
    harness.require_rich()
    if words[:1] == ["overhead"]:
        from benchmarks import overhead

        return overhead.main(words[1:])
    options = parse(words)
    if options.stored:
        rows, about = report.load(options.stored)
    else:
        about = report.facts()
        rows = run(options, about)
    report.show(rows, about)
    if options.compare:
        old, _ = report.load(options.compare)
        lines = report.compare(old, rows)
        harness.print_table(f"Against {options.compare}", report.COMPARED, lines, left=3)
    if options.plot:
        from benchmarks import plot

        plot.write(rows, about, options.plot)
    return int(any(row.ours.error for row in rows))


if __name__ == "__main__":
    sys.exit(main())
