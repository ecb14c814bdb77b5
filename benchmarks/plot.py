"""Pictures of a run, as PNG files and as one page that needs nothing else."""

from __future__ import annotations

import html
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import summary
from benchmarks.suite import Row

COLOURS = {"memory": "#4878a8", "arithmetic": "#e08a3c", "transcendental": "#b04a5a",
           "latency": "#8a8a8a", "blas": "#6a9a58"}  # fmt: skip
TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500)
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; font-size: 13px; }
td, th { padding: 2px 10px; text-align: right; border-bottom: 1px solid #ddd; }
td:first-child, th:first-child { text-align: left; }
svg { max-width: 100%; height: auto; }
"""


def _pyplot() -> Any:
    try:
        import matplotlib
    except ImportError:
        raise SystemExit("--plot draws with matplotlib: pip install 'fusec[bench]'") from None
    matplotlib.use("agg")
    from matplotlib import pyplot

    return pyplot


def _legend(axes: Any) -> None:
    for bound, colour in COLOURS.items():
        axes.scatter([], [], color=colour, label=bound)
    axes.legend(loc="lower right", frameon=False)


def ratios(rows: Sequence[Row], title: str) -> Any:
    """A bar per kernel: the best peer's time over fusec's, and who that is."""
    pyplot = _pyplot()
    kept = sorted((r for r in rows if r.best_peer(summary.RELAXED)), key=summary.against_best)
    figure, axes = pyplot.subplots(figsize=(10, 1.5 + 0.23 * len(kept)), layout="constrained")
    values = [summary.against_best(r) for r in kept]
    lengths = [v - 1 for v in values]
    axes.barh([r.kernel for r in kept], lengths, left=1, color=[COLOURS[r.bound] for r in kept])
    for place, (row, value) in enumerate(zip(kept, values)):
        who = f" {value:.2f} ({row.best_peer(summary.RELAXED)})"
        axes.text(max(value, 1), place, who, va="center", fontsize=7)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xscale("log")
    ticks = [t for t in TICKS if min(values, default=1) / 2 < t < max(values, default=1) * 2]
    axes.set_xticks(ticks, [f"{t:g}" for t in ticks])
    axes.minorticks_off()
    axes.margins(x=0.2, y=0.01)
    axes.set_xlabel("time of the best peer / time of fusec (right of the line: fusec is faster)")
    axes.set_title(title, loc="left")
    _legend(axes)
    return figure


def roofline(rows: Sequence[Row], roofs: Mapping[str, float], title: str) -> Any:
    """Operations a second over operations a byte, under the machine's two roofs."""
    pyplot = _pyplot()
    figure, axes = pyplot.subplots(figsize=(10, 6), layout="constrained")
    kept = [r for r in rows if r.ours.ms and r.flops and r.bytes]
    copy, peak = roofs["copy"] / 1e9, roofs[kept[0].dtype] / 1e9
    for row in kept:
        intensity, speed = row.flops / row.bytes, row.flops / row.ours.ms / 1e6
        axes.scatter(intensity, speed, color=COLOURS[row.bound], s=18)
        axes.annotate(row.kernel, (intensity, speed), fontsize=6, xytext=(3, 2),
                      textcoords="offset points")  # fmt: skip
    ends = [min(r.flops / r.bytes for r in kept) / 2, max(r.flops / r.bytes for r in kept) * 2]
    ridge = peak / copy
    points = sorted({*ends, min(max(ridge, ends[0]), ends[1])})
    axes.plot(points, [min(p * copy, peak) for p in points], color="black", linewidth=1,
              label=f"copy {copy:.0f} GB/s; matrix product {peak:.0f} Gflop/s")  # fmt: skip
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("operations per byte that has to move")
    axes.set_ylabel("Gflop/s (a math function counts as one)")
    axes.set_title(title, loc="left")
    _legend(axes)
    return figure


def pictures(rows: Sequence[Row], roofs: Mapping[str, float]) -> Iterator[tuple[str, Any]]:
    """Name and figure of every picture: two for each size and dtype of the run."""
    for size, dtype in sorted({(r.size, r.dtype) for r in rows}):
        kept = [r for r in rows if (r.size, r.dtype) == (size, dtype) and r.ours.ms]
        if kept:
            title = f"Size {size}, {np.dtype(dtype)}"
            yield f"ratios-{size}-{dtype}", ratios(kept, title)
            yield f"roofline-{size}-{dtype}", roofline(kept, roofs, title)


def _table(headers: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{html.escape(h)}</th>" for h in headers)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in line) + "</tr>" for line in lines
    )
    return f"<table><tr>{head}</tr>{body}</table>"


def page(rows: Sequence[Row], about: Mapping[str, Any], drawn: Sequence[str]) -> str:
    """One HTML page with the machine, the means, the pictures and every figure."""
    facts, copy = about["machine"], about["roofs"]["copy"]
    names = sorted({n for r in rows for n in r.times} - {"fusec"})
    lines = [
        (r.kernel, r.size, r.dtype, r.bound, f"{r.ours.ms:.4g}", f"{r.ours.spread:.0%}",
         f"{r.bandwidth:.1f}", str(r.kernels),
         *(f"{r.times[n].ms:.4g}" if n in r.times and r.times[n].ms else "-" for n in names))
        for r in rows
    ]  # fmt: skip
    headers = ("kernel", "size", "dtype", "bound", "fusec ms", "spread", "GB/s", "kernels",
               *(f"{n} ms" for n in names))  # fmt: skip
    versions = ", ".join(f"{n} {v}" for n, v in facts["versions"].items())
    return "\n".join([
        "<!doctype html><html lang='en'><meta charset='utf-8'><title>fusec: benchmarks</title>",
        f"<style>{STYLE}</style><h1>fusec: benchmarks</h1>",
        f"<p>{html.escape(facts['processor'])}, {facts['cpus']} CPUs, Python {facts['python']}, "
        f"{html.escape(versions)}; copy {copy / 1e9:.0f} GB/s; {about['date']}.</p>",
        "<h2>Geometric means of peer's time over fusec's</h2>",
        _table(summary.group_headers(rows), summary.group_cells(rows)),
        *drawn, "<h2>Every figure</h2>", _table(headers, lines), "</html>",
    ])  # fmt: skip


def write(rows: Sequence[Row], about: Mapping[str, Any], folder: Path) -> None:
    """Write every picture as PNG and all of them into ``folder/index.html``."""
    folder.mkdir(parents=True, exist_ok=True)
    pyplot, drawn = _pyplot(), []
    for name, figure in pictures(rows, about["roofs"]):
        figure.savefig(folder / f"{name}.png", dpi=130)
        text = io.StringIO()
        figure.savefig(text, format="svg")
        pyplot.close(figure)
        drawn.append(f"<h2>{name}</h2>" + text.getvalue().partition("<svg")[1]
                     + text.getvalue().partition("<svg")[2])  # fmt: skip
    (folder / "index.html").write_text(page(rows, about, drawn))
