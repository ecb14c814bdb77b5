"""A run on the terminal and in files: progress while it lasts, tables, JSON, comparison."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import harness, summary
from benchmarks.suite import Row, row_from_json

HEADERS = ("kernel", "size", "dtype", "bound", "fusec ms", "spread", "GB/s", "% copy", "kernels",
           "first ms")  # fmt: skip


@contextmanager
def progress(total: int) -> Iterator[Any]:
    """A live bar on the error stream; the block calls ``step(text)`` before each row."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn

    columns = ("{task.description:<32}", BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total)
        started = [False]

        def step(text: str) -> None:
            bar.update(task, description=text, advance=int(started[0]))
            started[0] = True

        yield step


def _peer_cell(row: Row, name: str) -> str:
    time = row.times.get(name)
    if time is None or time.error.startswith("none:"):
        return "-"
    if time.error:
        return "[red]wrong[/red]" if time.first_ms else "[red]error[/red]"
    colour = "green" if row.ratio(name) >= 1 else "yellow"
    return f"{time.ms:.3g} [{colour}]{row.ratio(name):.2f}x[/{colour}]"


def cells(row: Row, names: Sequence[str]) -> tuple[str, ...]:
    """A row of the table: fusec's figures, then each peer's time and how often fusec fits in."""
    ours = row.ours
    head = (row.kernel, row.size, row.dtype, row.bound)
    if ours.error:
        return (*head, f"[red]{ours.error.splitlines()[0][:60]}[/red]")
    figures = (
        f"{ours.ms:.3g}",
        f"{ours.spread:.0%}",
        f"{row.bandwidth:.1f}",
        f"{row.of_copy:.0f}" if row.of_copy else "",
        str(row.kernels),
        f"{ours.first_ms:.0f}",
    )
    return (*head, *figures, *(_peer_cell(row, n) for n in names))


def facts() -> dict[str, Any]:
    """What belongs to a run beside its rows: date, machine, versions and the machine's limits."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": harness.machine(),
        "roofs": harness.roofs(),
    }


def show(rows: Sequence[Row], about: Mapping[str, Any]) -> None:
    """Print every row, then the geometric means and the bars."""
    names = [n for n in rows[0].times if n != "fusec"]
    machine, copy = about["machine"], about["roofs"]["copy"]
    title = (
        f"{machine['processor']}, {machine['cpus']} CPUs, copy {copy / 1e9:.0f} GB/s. Per peer: "
        "its milliseconds, and its time over fusec's"
    )
    harness.print_table(title, (*HEADERS, *names), [cells(r, names) for r in rows], left=4)
    harness.print_table("Geometric means of the ratios", summary.group_headers(rows),
                        summary.group_cells(rows), left=2)  # fmt: skip
    if set(names) - {"numpy"}:
        found = [v.cells() for v in summary.verdicts(rows)]
        harness.print_table("Bars", ("what", "bar", "found", "", "below it"), found, left=1)


def save(rows: Sequence[Row], about: Mapping[str, Any], path: Path) -> None:
    """Write a run as JSON."""
    path.write_text(json.dumps({**about, "rows": [row.as_json() for row in rows]}, indent=1))


def load(path: Path) -> tuple[list[Row], dict[str, Any]]:
    """Rows and facts of a run that was written with ``--json``."""
    try:
        about = json.loads(path.read_text())
        return [row_from_json(r) for r in about.pop("rows")], about
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SystemExit(f"{path} is not a file written by --json: {error}") from None


def compare(old: Sequence[Row], new: Sequence[Row]) -> list[tuple[str, ...]]:
    """How each row changed, by its ratio to NumPy: what two machines or loads agree on.

    The slowest change first.
    """
    before = {(r.kernel, r.size, r.dtype): r for r in old}
    pairs = [(before.get((r.kernel, r.size, r.dtype)), r) for r in new]
    timed = [(was, now) for was, now in pairs if was is not None and was.ours.ms and now.ours.ms]
    found = [(now.ratio("numpy") / was.ratio("numpy"), was, now) for was, now in timed]
    return [
        (now.kernel, now.size, now.dtype, f"{was.ours.ms:.3g}", f"{now.ours.ms:.3g}",
         f"{was.ratio('numpy'):.2f}", f"{now.ratio('numpy'):.2f}", f"{change:.2f}",
         str(was.kernels), str(now.kernels))
        for change, was, now in sorted(found, key=lambda f: f[0])
    ]  # fmt: skip


COMPARED = ("kernel", "size", "dtype", "old ms", "new ms", "old x NumPy", "new x NumPy", "change",
            "old kernels", "new kernels")  # fmt: skip
