"""Threads that run kernels: how many, and the pool they wait in.

Workers are ordinary Python daemon threads inside one native call (`native_source.worker_loop`) with
the interpreter lock released. They start when the first step that is worth more than one thread is
launched, spin for a few microseconds after a job, then sleep in a condition variable. A forked
child starts with an empty pool; at exit the workers are told to leave.
"""

from __future__ import annotations

import atexit
import ctypes
import math
import os
import sys
import threading
import time
from contextvars import ContextVar, Token
from functools import lru_cache
from pathlib import Path
from types import TracebackType

from fusec.config import config
from fusec.runtime import native_build as build
from fusec.runtime.native_layout import CPU_WORDS, PLACED, Pool

SPIN_US = 20  # waking a sleeper costs 5-50 us; longer spinning would hold up BLAS's threads
KEEP_BYTES = 256 << 20  # of small temporaries and scratch of finished calls kept for the next
MOST_WORKERS = 511
_SYNC = ("mutex", "work", "done")

_wanted: ContextVar[int] = ContextVar("fusec_threads")


class threads:
    """Use ``n`` threads inside a ``with`` block, in this context only.

    n: number of threads, at least 1; it overrides every other limit.
    Raises ValueError when ``n`` is less than 1.

    >>> with threads(1):
    ...     num_threads()
    1
    """

    def __init__(self, n: int) -> None:
        if n < 1:
            raise ValueError(f"fusec.threads needs at least 1 thread, not {n}")
        self.n = int(n)
        self._tokens: list[Token[int]] = []

    def __enter__(self) -> threads:
        self._tokens.append(_wanted.set(self.n))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        _wanted.reset(self._tokens.pop())


def num_threads() -> int:
    """Threads that a kernel launched here may use: `threads`, else `config` and the machine.

    >>> num_threads() >= 1
    True
    """
    wanted = _wanted.get(None)
    if wanted is not None:
        return wanted
    return max(1, min(config.num_threads or machine_threads(), machine_threads()))


@lru_cache(1)
def machine_threads() -> int:
    """Threads the process was granted: OMP_NUM_THREADS, affinity, the container's CPU quota."""
    grants = [_affinity()]
    openmp = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if openmp.isdigit() and int(openmp):
        grants.append(int(openmp))
    quota = cpu_quota()
    if quota is not None:
        grants.append(max(1, math.ceil(quota)))
    return min(grants) if build.has_threads() else 1


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_quota(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> (
    float | None
):  # fmt: skip
    """CPUs that the control groups of this process allow, or None without a limit.

    root: where the control groups are mounted. own: the file that names the process's groups.
    Reads version 2 (``cpu.max``) and version 1 (``cpu.cfs_quota_us``), and every parent group.
    """
    quotas: list[float] = []
    for line in _lines(own) or ["0::/"]:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            quotas += _quotas(root, path, "cpu.max")
        elif "cpu" in controllers.split(","):
            for mount in (controllers, "cpu"):
                quotas += _quotas(root / mount, path, "cpu.cfs_quota_us", "cpu.cfs_period_us")
    return min(quotas, default=None)


def _quotas(mount: Path, path: str, *files: str) -> list[float]:
    group = mount / path.strip("/")
    found: list[float] = []
    for folder in (group, *group.parents):
        words = [word for name in files for line in _lines(folder / name) for word in line.split()]
        if len(words) == 2 and words[0].isdigit() and words[1].isdigit() and int(words[1]):
            found.append(int(words[0]) / int(words[1]))
        if folder == mount:
            break
    return found


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


# The pool. Its memory is never freed: threads may be asleep in it while the interpreter ends.

_lock = threading.Lock()
_workers: list[threading.Thread] = []
_pool: Pool | None = None


def pool() -> Pool:
    """The process's pool, made on first use; it has no workers until a launch needs them."""
    global _pool
    with _lock:
        if _pool is None:
            made = _new_pool()
            atexit.register(_shut_down)
            if hasattr(os, "register_at_fork"):
                os.register_at_fork(after_in_child=_forget_workers)
            _pool = made
    return _pool


def _new_pool() -> Pool:
    build.functions()
    memory = (ctypes.c_char * (ctypes.sizeof(Pool) + 64))()
    made = Pool.from_buffer(memory, -ctypes.addressof(memory) % 64)
    made.api = ctypes.pointer(build.api())
    name, keep = "num_threads", "keep_bytes"
    for kept in (made, _grow, _wanted, config, name, keep):
        build.immortal(kept)
    made.grow, made.thread_var = id(_grow), id(_wanted)
    made.config, made.name, made.keep_name = id(config), id(name), id(keep)
    build.set_handler(made)
    made.keep_results = config.keep_bytes
    made.keep_bytes, made.clock = KEEP_BYTES, getattr(time, "CLOCK_MONOTONIC", 0)
    _reset(made)
    return made


def _reset(made: Pool) -> None:
    """Bring the pool to its state before the first worker."""
    made.state = made.busy = made.waiting = made.parked = made.workers = made.stopping = 0
    made.entered = 0
    made.machine = machine_threads()
    made.room = MOST_WORKERS if build.has_threads() else 0
    made.spin_ns = spin_ns()
    _read_cpus(made)
    if build.has_threads():
        base = ctypes.addressof(made)
        made.api.contents.pthread_mutex_init(base + Pool.mutex.offset, None)
        made.api.contents.pthread_cond_init(base + Pool.work.offset, None)
        made.api.contents.pthread_cond_init(base + Pool.done.offset, None)


def _read_cpus(made: Pool) -> None:
    cpus = os.sched_getaffinity(0) if sys.platform == "linux" else set()
    made.placing = 2 <= len(cpus) <= PLACED + 1 and max(cpus) < 64 * CPU_WORDS
    made.avoided = -1
    for word in range(CPU_WORDS):
        bits = sum(1 << cpu % 64 for cpu in cpus if cpu // 64 == word)
        made.cpus[word] = ctypes.c_int64(bits).value


def spin_ns() -> int:
    """How long an idle worker spins before it sleeps: not at all on a single core."""
    return SPIN_US * 1000 if _affinity() > 1 else 0


def _grow() -> None:
    """Start the workers that the current context may use and that do not run yet."""
    made = pool()
    with _lock:
        try:
            while made.workers < min(num_threads() - 1, made.room):
                _start_worker(made)
        except RuntimeError:  # no more threads can be started
            made.room = made.workers


def _start_worker(made: Pool) -> None:
    loop = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p)(build.functions()["worker_loop"])
    name = f"fusec-worker-{made.workers + 1}"
    worker = threading.Thread(target=loop, args=(ctypes.addressof(made),), name=name, daemon=True)
    worker.start()
    if made.workers < PLACED:
        made.ids[made.workers] = worker.native_id or 0
    _workers.append(worker)
    made.workers += 1
    made.avoided = -1


def _shut_down() -> None:
    """At exit: workers leave, and what is launched afterwards runs on its caller alone."""
    if _pool is not None:
        _pool.room = _pool.workers = 0
        ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p)(build.functions()["stop"])(
            ctypes.addressof(_pool)
        )
        for worker in _workers:
            worker.join(1.0)


def _forget_workers() -> None:
    """In a forked child no worker exists, and whoever held the lock may be gone."""
    global _lock
    _lock = threading.Lock()
    _workers.clear()
    machine_threads.cache_clear()
    if _pool is not None:
        _reset(_pool)
