"""Thread counts and the thread pool: every row once, from any thread, after fork, until exit."""

import multiprocessing
import os
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import native_kernels as kernels
import numpy as np
import pytest

from fusec.config import config
from fusec.runtime import native, threads
from fusec.runtime.native_layout import OUT_OF_MEMORY

ROOT = Path(__file__).parents[1]
forks = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


@contextmanager
def machine(monkeypatch, **environment):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    threads.machine_threads.cache_clear()
    yield
    monkeypatch.undo()
    threads.machine_threads.cache_clear()


# how many threads


@pytest.mark.parametrize(
    ("openmp", "cores", "quota", "expected"),
    [
        ("", 8, None, 8),
        ("3", 8, None, 3),
        ("4,2", 8, None, 4),
        ("banana", 8, None, 8),
        ("0", 8, None, 8),
        ("", 8, 1.5, 2),
        ("", 8, 0.1, 1),
        ("", 2, 6.0, 2),
    ],
)
def test_machine_threads(monkeypatch, openmp, cores, quota, expected):
    monkeypatch.setattr(threads, "_affinity", lambda: cores)
    monkeypatch.setattr(threads, "cpu_quota", lambda: quota)
    with machine(monkeypatch, OMP_NUM_THREADS=openmp):
        assert threads.machine_threads() == expected


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000", "a/cpu.max": "150000 100000"}, 1.5),
        ("0::/a/b\n", {"a/b/cpu.max": "50000 100000", "a/cpu.max": "150000 100000"}, 0.5),
        ("0::/\n", {"cpu.max": "max 100000"}, None),
        ("0::/\n", {"cpu.max": "400000 100000"}, 4.0),
        ("0::/gone\n", {}, None),
        ("3:cpu,cpuacct:/x\n1:memory:/y\n", {
            "cpu,cpuacct/x/cpu.cfs_quota_us": "250000", "cpu,cpuacct/x/cpu.cfs_period_us": "100000",
        }, 2.5),
        ("3:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ("", {"cpu.max": "200000 100000"}, 2.0),
    ],
)  # fmt: skip
def test_cpu_quota(tmp_path, groups, files, expected):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    (tmp_path / "cgroup").write_text(groups)
    assert threads.cpu_quota(tmp_path, tmp_path / "cgroup") == expected


def test_limits_in_python_and_in_native_code_agree(monkeypatch):
    """The pool reads the same settings without Python code."""
    monkeypatch.setattr(config, "num_threads", 1)
    assert threads.num_threads() == 1 and used_threads() == 1
    with threads.threads(3):
        assert threads.num_threads() == 3 and used_threads() > 1
        with threads.threads(1):
            assert threads.num_threads() == 1 and used_threads() == 1
        assert threads.num_threads() == 3
    assert threads.num_threads() == 1


def test_limit_belongs_to_its_context():
    seen = []
    with threads.threads(5):
        other = threading.Thread(target=lambda: seen.append(threads.num_threads()))
        other.start()
        other.join()
    assert seen == [threads.machine_threads()]


def test_no_threads_is_an_error():
    with pytest.raises(ValueError, match="at least 1"):
        threads.threads(0)


# launches


def visit(rows, chunk, work=200):
    """Launch a kernel that counts its visits; returns counts and thread ids per row."""
    counts, ids = np.zeros(rows + 1, "i8"), np.zeros(rows + 1, "i8")
    step = native.StepSpec(kernels.visit.address, rows, chunk, [work], [(0, 0), (1, 0)])
    program = native.prepare([step], 2, release_gil=True)
    assert native.launch(program, (counts, ids)) == 0
    return counts[:-1], ids[:-1]


def used_threads():
    """Most threads that took part in one of a few launches of a millisecond."""
    return max(len(set(visit(64, 1, 20_000)[1])) for _ in range(5))


@pytest.mark.parametrize("n", [1, 2, 3, 8])
@pytest.mark.parametrize(("rows", "chunk"), [(0, 1), (1, 1), (2, 1), (7, 3), (1000, 7), (64, 1000)])
def test_every_row_once(n, rows, chunk):
    with threads.threads(n):
        for _ in range(20):
            counts, _ids = visit(rows, chunk)
            assert (counts == 1).all()


def test_all_threads_take_part():
    with threads.threads(4):
        assert 2 <= used_threads() <= 4


def test_parts_of_thousands_of_rows_start_at_whole_cache_lines():
    with threads.threads(2):
        ids = visit(10_000, 16, 200)[1]
    changes = np.flatnonzero(np.diff(ids)) + 1
    assert (changes % 64 == 0).all()


def test_threads_begin_with_their_own_part():
    """The caller with the first rows, a worker in the middle, whenever both are there in time."""
    caller = threading.get_ident()
    with threads.threads(2):
        launches = [visit(64, 1, 20_000)[1] for _ in range(20)]
    assert any((ids[:16] == caller).all() and (ids[32:48] != caller).all() for ids in launches)


def test_first_status_wins_and_ends_the_job():
    with threads.threads(2):
        for row in (0, 500, 99_999):
            counts = np.zeros(100_000, "i8")
            step = native.StepSpec(kernels.fail_at.address, counts.size, 10, [row], [(0, 0)])
            assert native.prepare([step], 1, release_gil=True).run(counts) == 7
            assert counts.max() == 1
        assert visit(100, 1)[0].all()  # and the pool is fit for the next


@pytest.mark.parametrize("n", [1, 2, 4])
def test_scratch_is_private(n):
    x = np.random.rand(400, 50)
    y = np.empty_like(x)
    step = native.StepSpec(
        kernels.reversed_by_scratch.address, 400, 5, [50], [(0, 0), (-1, 0), (1, 0)], 400, 1
    )
    program = native.prepare([step], 2, release_gil=True)
    with threads.threads(n):
        for _ in range(50):
            y[:] = 0
            assert program.run(x, y) == 0
            assert (y == x[:, ::-1]).all()


def test_no_memory_is_a_status():
    x = np.zeros((4, 2))
    refs = [(0, 0), (0, 0), (0, 0)]
    for n in (1, 2):
        step = native.StepSpec(kernels.reversed_by_scratch.address, 4, 1, [2], refs, 1 << 60, 1)
        with threads.threads(n):
            assert native.prepare([step], 1).run(x) == OUT_OF_MEMORY
    program = native.prepare([step], 1, temporaries=[1 << 60])
    assert program.run(x) == OUT_OF_MEMORY


def test_sixteen_callers_at_once():
    def work(number):
        with threads.threads(1 + number % 3):
            for _ in range(100):
                counts, _ids = visit(200 + number, 10, 50)
                assert (counts == 1).all()

    kernels.in_threads(16, work)


def test_beside_blas():
    """Products and launches in turn: neither side's threads hold up the other's for long."""
    a = np.random.rand(300, 300)
    with threads.threads(2):
        visit(256, 8)
        start = time.perf_counter()
        for _ in range(50):
            a @ a
            visit(256, 8)
        assert time.perf_counter() - start < 5


def test_idle_workers_use_no_time():
    with threads.threads(2):
        visit(100, 1)
    time.sleep(0.3)  # OpenBLAS's threads spin for 0.1 s after the product of another test
    before = time.process_time()
    time.sleep(0.5)
    assert time.process_time() - before < 0.02


# processes


def _child(queue):
    with threads.threads(2):
        counts, _ids = visit(500, 5)
    queue.put((bool((counts == 1).all()), threads.pool().workers))


@forks
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_multiprocessing(method):
    with threads.threads(2):
        visit(500, 5)
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    children = [context.Process(target=_child, args=(queue,)) for _ in range(2)]
    for child in children:
        child.start()
    assert [queue.get(timeout=60) for _ in children] == [(True, 1)] * 2
    for child in children:
        child.join(30)
        assert child.exitcode == 0


@forks
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_fork_while_others_launch():
    """Children of a busy process find a working pool, whatever its threads were doing."""
    done = threading.Event()

    def busy(number):
        if number:
            while not done.is_set():
                assert (visit(300, 3)[0] == 1).all()
            return
        try:
            for _ in range(10):
                _fork_and_launch()
        finally:
            done.set()

    with threads.threads(2):
        visit(300, 3)
    kernels.in_threads(3, busy)


def _fork_and_launch():
    child = os.fork()
    if child == 0:
        code = 1
        try:
            with threads.threads(2):
                code = 0 if (visit(300, 3)[0] == 1).all() else 2
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0


EXITS = {
    "plain": "",
    "at exit": "import atexit; atexit.register(launch)\n",
    "daemon": "threading.Thread(target=forever, daemon=True).start(); time.sleep(0.05)\n",
    "thread": "threading.Thread(target=lambda: (time.sleep(0.2), launch())).start()\n",
    "system exit": "sys.exit(0)\n",
    "child": "import os\nif os.fork(): os.wait()\nelse: launch()\n",
}


@pytest.mark.parametrize("case", EXITS)
def test_exit(case):
    """The interpreter ends at once and without a crash, whoever is in native code."""
    text = (
        "import sys, threading, time, warnings; sys.path.insert(0, 'tests')\n"
        "warnings.simplefilter('ignore', DeprecationWarning)\n"
        "import test_threads as t\n"
        "def launch():\n    with t.threads.threads(3): assert t.visit(500, 5)[0].all()\n"
        "def forever():\n    while True: launch()\n"
        "launch()\n" + EXITS[case]
    )
    command = [sys.executable, "-X", "faulthandler", "-c", text]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=60)
    assert (done.returncode, done.stderr.decode()) == (0, "")
