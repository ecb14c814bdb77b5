"""Timing: alternating rounds, median and spread, and the machine's own copy speed.

Times drift on a shared machine, so that what is compared is timed in turns, in one process,
round after round; a figure is the median of its rounds and the spread their middle half.
"""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np

#: A round calls a function until this much time has gone by, so that short ones are not noise.
ROUND_SECONDS = 0.01
#: Rounds that one call has to fill to be timed alone, without a call to warm up.
SLOW = 2
#: Between two functions that are timed in turns, threads of the one before come to rest: until the
#: process takes next to no time while it sleeps this long, or for so long at most. OpenBLAS's spin
#: for 2**28 ticks after a product or a dot, some 60 ms.
REST_SECONDS, MOST_REST_SECONDS = 0.004, 0.3
#: Calls before those that are timed, so that their data lie where they will lie.
WARM_SECONDS = 0.004
#: Rows of the matrices whose product is timed.
PRODUCT = 1024
#: Bytes of the array whose copy is timed: far beyond any cache.
COPY_BYTES = 128 << 20


@dataclass(frozen=True)
class Timing:
    """Seconds per call, one for each round."""

    rounds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.rounds)

    @property
    def best(self) -> float:
        return min(self.rounds)

    @property
    def spread(self) -> float:
        """Width of the middle half of the rounds, relative to the median."""
        low, high = np.percentile(self.rounds, [25, 75])
        return float((high - low) / self.median)


def calls_per_round(call: Callable[[], Any], seconds: float = ROUND_SECONDS) -> int:
    """How many calls fill one round, judged by calls that are thrown away.

    The first one is only looked at when it fills a round: it may have had to warm up.
    """
    start = time.perf_counter()
    call()
    if time.perf_counter() - start > SLOW * seconds:
        return 1
    count = 1
    while True:
        start = time.perf_counter()
        for _ in range(count):
            call()
        took = time.perf_counter() - start
        if took >= seconds / 4:
            return max(1, round(count * seconds / took))
        count *= 4


def rest() -> None:
    """Wait until no thread of this process is busy."""
    end = time.perf_counter() + MOST_REST_SECONDS
    while time.perf_counter() < end:
        before = time.process_time()
        time.sleep(REST_SECONDS)
        if time.process_time() - before < REST_SECONDS / 4:
            return


def alternate(
    calls: Mapping[str, Callable[[], Any]], budget: float = 1.0, least: int = 3, most: int = 15
) -> dict[str, Timing]:
    """Time several functions in turns, each after a rest and calls that are not timed.

    The rest lets the threads of the one before go to sleep: OpenMP's and OpenBLAS's spin for
    milliseconds after their work and would take a core from whoever comes next. Meanwhile the
    caches fill with what others on the machine use, so that a few calls come first. After products
    that Numba's threads have made, OpenBLAS's next call takes up to 100 ms longer, whoever makes
    it. Of two (beside "copy"), slow calls are timed at once.

    calls: functions without arguments, by name. budget: seconds for all rounds together, rests too,
    though there are at least `least` rounds; most: the most rounds.

    >>> times = alternate({"a": lambda: sum(range(9)), "b": lambda: None}, budget=0.1)
    >>> times["a"].median > times["b"].median
    True
    """
    counts = {name: calls_per_round(call) for name, call in calls.items()}
    rounds: dict[str, list[float]] = {name: [] for name in calls}
    end = time.perf_counter() + budget
    for number in range(most):
        if number >= least and time.perf_counter() > end:
            break
        for name, call in calls.items():
            rest()
            if counts[name] > 1 or len({*calls} - {"copy"}) > 2:
                start = time.perf_counter()
                call()
                while time.perf_counter() - start < WARM_SECONDS:
                    call()
            start = time.perf_counter()
            for _ in range(counts[name]):
                call()
            rounds[name].append((time.perf_counter() - start) / counts[name])
    return {name: Timing(tuple(values)) for name, values in rounds.items()}


def cpus() -> int:
    """CPUs this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def _copiers() -> ThreadPoolExecutor:
    """A thread for each CPU; they sleep between copies, as OpenMP's would not."""
    return ThreadPoolExecutor(cpus())


def copy_of(moved: int, fresh: bool) -> Callable[[], Any]:
    """A copy that reads and writes ``moved`` bytes altogether, with all CPUs.

    fresh: into a new array each time, as a function that returns its result writes it; else
    always into the same one.
    """
    source = np.ones(max(1, moved // 16))
    reused, parts = np.empty_like(source), np.array_split(source, cpus())

    def copy() -> Any:
        target = np.empty_like(source) if fresh else reused
        list(_copiers().map(np.copyto, np.array_split(target, cpus()), parts))
        return target

    return copy


def copy_bandwidth() -> float:
    """Bytes read plus written in a second by a large copy: the roof of a kernel.

    The best of several rounds, as nothing can be faster than the memory.
    """
    call = copy_of(2 * COPY_BYTES, fresh=False)
    return 2 * COPY_BYTES / alternate({"copy": call}, budget=0.5, least=5)["copy"].best


def product_flops(dtype: str) -> float:
    """Operations in a second of a large matrix product: the other roof of a kernel."""
    a = np.ones((PRODUCT, PRODUCT), dtype)
    return 2 * PRODUCT**3 / alternate({"product": lambda: a @ a}, budget=0.5)["product"].best


def roofs() -> dict[str, float]:
    """Bytes in a second of a copy, and operations in a second of a product of either dtype."""
    return {"copy": copy_bandwidth(), **{d: product_flops(d) for d in ("f4", "f8")}}


def machine() -> dict[str, Any]:
    """What a reader needs to know about where the figures come from."""
    from importlib.metadata import PackageNotFoundError, version

    versions = {}
    for name in ("numpy", "numba", "llvmlite", "numexpr", "jax", "torch", "cupy"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "processor": _processor(),
        "cpus": cpus(),
        "python": platform.python_version(),
        "versions": versions,
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as lines:  # noqa: PTH123
            return next(x.split(":", 1)[1].strip() for x in lines if x.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def require_rich() -> None:
    """Leave with the way out, before anything is measured, where rich is not installed."""
    if find_spec("rich") is None:
        raise SystemExit("python -m benchmarks prints with rich: pip install 'fusec[bench]'")


def print_table(
    title: str, headers: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1
) -> None:
    """Print a table with rich; the first `left` columns hold text, the others figures.

    Only the last column wraps where the terminal is narrow.
    """
    require_rich()
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for number, header in enumerate(headers):
        last = number == len(headers) - 1
        justify: Any = "left" if number < left or (last and left == 1) else "right"
        table.add_column(header, justify=justify, no_wrap=not last)
    for row in rows:
        table.add_row(*row)
    console = Console()
    console = console if console.is_terminal else Console(width=200)
    console.print(table)
