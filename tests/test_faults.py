"""Threads, processes, nesting and limits: correct, no hang, no abort."""

import json
import os
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest
from scripts import HEAD, ROOT, SECONDS, script

import fusec


def in_threads(work, n=16):
    """Run `work(i)` in n threads that start together; returns the exceptions."""
    failures, start = [], threading.Barrier(n)

    def one(i):
        try:
            start.wait()
            work(i)
        except BaseException as error:
            failures.append(error)

    crew = [threading.Thread(target=one, args=(i,)) for i in range(n)]
    for thread in crew:
        thread.start()
    for thread in crew:
        thread.join(SECONDS)
    assert not any(thread.is_alive() for thread in crew), "a thread hangs"
    return failures


# --- threads


def test_sixteen_threads_call_one_function():
    f = fusec.jit(lambda x, s: np.exp(-x * x) * s + np.abs(x).sum(axis=-1, keepdims=True))

    def work(i):
        x = np.full((64, 200), i / 10, "f4")
        want = np.exp(-x * x) * i + np.abs(x).sum(axis=-1, keepdims=True)
        for _ in range(30):
            np.testing.assert_allclose(f(x, i), want, rtol=1e-5)

    assert in_threads(work) == []


def test_sixteen_threads_trace_different_functions_at_once():
    def work(i):
        f = fusec.jit(lambda x: np.sqrt(x + i) * (i + 1))
        x = np.arange(1000.0)
        for n in (1000, 999, 10):
            np.testing.assert_array_equal(f(x[:n]), np.sqrt(x[:n] + i) * (i + 1))

    assert in_threads(work) == []


def test_sixteen_threads_with_different_shapes_of_one_function():
    f = fusec.jit(lambda x: (x - x.mean(axis=0)) * 2)

    def work(i):
        for n in range(2, 12):
            x = np.arange(n * (i + 2.0)).reshape(n, i + 2)
            np.testing.assert_allclose(f(x), (x - x.mean(axis=0)) * 2, rtol=1e-14)

    assert in_threads(work) == []


def test_two_threads_that_need_one_kernel_compile_it_once():
    from fusec.runtime.cache import cache

    f = fusec.jit(lambda x: np.cosh(x) * 0.123 + np.sinh(x) / 7.77 - np.arctan(x))
    before = cache.stats()["compiled"]
    assert in_threads(lambda i: f(np.linspace(0, 1, 500))) == []
    assert cache.stats()["compiled"] - before == 1


def test_one_threads_trace_is_invisible_to_others():
    tracing, finish = threading.Event(), threading.Event()

    def slow(x):
        tracing.set()
        finish.wait(30)
        return x + 1

    thread = threading.Thread(target=fusec.jit(slow), args=(np.ones(3),))
    thread.start()
    try:
        assert tracing.wait(30)
        result = np.zeros(3) + 1  # plain NumPy, while the other thread is tracing
        assert type(result) is np.ndarray
        assert type(fusec.jit(lambda x: x * 2)(np.ones(3))) is np.ndarray
    finally:
        finish.set()
        thread.join(30)


def test_large_arrays_in_many_threads():
    f = fusec.jit(lambda x: np.tanh(x) + 1)
    x = np.linspace(-2, 2, 400_000, dtype="f4")
    want = np.tanh(x) + 1

    def work(i):
        for _ in range(5):
            np.testing.assert_allclose(f(x), want, rtol=1e-5)

    assert in_threads(work) == []


# --- nesting


def test_a_jitted_function_inside_another_is_inlined():
    inner = fusec.jit(lambda x: np.exp(x) * 2)
    outer = fusec.jit(lambda x: inner(x) + inner(x + 1))
    x = np.linspace(0, 1, 100)
    np.testing.assert_allclose(outer(x), np.exp(x) * 2 + np.exp(x + 1) * 2, rtol=1e-14)
    assert len(outer.lower(x).kernels) == 1


def test_recursion_through_jit():
    @fusec.jit
    def power(x, n):
        return x if n == 1 else x * power(x, n - 1)

    f = fusec.jit(lambda x: power(x, 3), static_argnums=())
    x = np.arange(5.0)
    static = fusec.jit(power.__wrapped__, static_argnums=1)
    np.testing.assert_array_equal(static(x, 3), x**3)
    np.testing.assert_array_equal(f(x), x**3)


def test_a_call_from_a_host_callback():
    f = fusec.jit(lambda x: x * 2)

    def per_row(row):
        return f(row).sum()

    x = np.arange(12.0).reshape(3, 4)
    got = np.apply_along_axis(per_row, 1, x)
    np.testing.assert_array_equal(got, x.sum(axis=1) * 2)


def test_an_exception_while_tracing_leaves_nothing_behind():
    def broken(x):
        x = x + 1
        raise RuntimeError("mine")

    for _ in range(2):
        with pytest.raises(RuntimeError, match="mine"):
            fusec.jit(broken)(np.ones(3))
    np.testing.assert_array_equal(fusec.jit(lambda x: x + 1)(np.ones(3)), 2)
    assert type(np.ones(3) + 1) is np.ndarray


# --- processes


@pytest.mark.parametrize("warm", [True, False], ids=["after-calls", "before-calls"])
def test_call_after_fork(warm):
    body = f"""
    import multiprocessing
    if {warm}:
        assert right(3)
    def child(queue):
        queue.put(right(3))
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    crew = [context.Process(target=child, args=(queue,)) for _ in range(4)]
    [p.start() for p in crew]
    answers = [queue.get(timeout=60) for _ in crew]
    [p.join(60) for p in crew]
    print(json.dumps([answers, [p.exitcode for p in crew], right(3)]))
    """
    assert script(body) == [[True] * 4, [0] * 4, True]


def test_fork_of_a_fork():
    body = """
    assert right()
    reader, writer = os.pipe()
    if os.fork() == 0:
        assert right()
        if os.fork() == 0:
            os.write(writer, b"y" if right() else b"n")
            os._exit(0)
        os.wait()
        os._exit(0)
    os.wait()
    print(json.dumps([os.read(reader, 1).decode(), right()]))
    """
    assert script(body) == ["y", True]


def test_fork_while_threads_call():
    body = """
    stop = threading.Event()
    def busy():
        while not stop.is_set():
            assert right()
    crew = [threading.Thread(target=busy) for _ in range(3)]
    [t.start() for t in crew]
    codes = []
    for _ in range(5):
        pid = os.fork()
        if pid == 0:
            os._exit(0 if right() else 1)
        codes.append(os.waitpid(pid, 0)[1])
    stop.set()
    [t.join() for t in crew]
    print(json.dumps(codes))
    """
    assert script(body) == [0] * 5


def test_spawned_processes(tmp_path):
    path = tmp_path / "spawned.py"
    path.write_text(HEAD + textwrap.dedent("""
    def child(i):
        return right()
    if __name__ == "__main__":
        import multiprocessing
        with multiprocessing.get_context("spawn").Pool(2) as pool:
            print(json.dumps(pool.map(child, range(4))))
    """))
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, cwd=ROOT,
                          timeout=SECONDS, env={**os.environ, "PYTHONPATH": str(ROOT)})  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout.splitlines()[-1]) == [True] * 4


def test_thread_pools_inside_a_process_pool():
    body = """
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
    def child(i):
        with ThreadPoolExecutor(4) as pool:
            return all(pool.map(lambda j: right(2), range(4)))
    assert right()
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        print(json.dumps(list(pool.map(child, range(4)))))
    """
    assert script(body) == [True] * 4


def test_exit_with_a_daemon_thread_in_a_call():
    body = """
    def busy():
        while True:
            right()
    threading.Thread(target=busy, daemon=True).start()
    assert right()
    print(json.dumps("leaving"))
    """
    assert script(body) == "leaving"


# --- limits


def test_thread_limit_as_a_context():
    f = fusec.jit(lambda x: np.tanh(x).sum(axis=1))
    x = np.linspace(-1, 1, 400_000).reshape(400, 1000)
    free = f(x)
    with fusec.threads(1):
        one = f(x)
    np.testing.assert_array_equal(one, free, "the bits depend on the number of threads")


@pytest.mark.parametrize("variable", ["FUSEC_NUM_THREADS", "OMP_NUM_THREADS"])
def test_thread_limits_of_the_environment(variable):
    body = """
    ours = lambda: len(os.listdir("/proc/self/task"))
    import numpy; before = ours()
    assert right(3)
    print(json.dumps(ours() - before))
    """
    assert script(body, **{variable: "1"}) == 0


def test_affinity_is_honoured():
    body = """
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    before = len(os.listdir("/proc/self/task"))
    assert right(3)
    print(json.dumps(len(os.listdir("/proc/self/task")) - before))
    """
    assert script(body) == 0


def test_disable_runs_numpy():
    body = """
    assert right()
    print(json.dumps([counted(), "llvmlite" in sys.modules]))
    """
    stats, llvm = script(body, FUSEC_DISABLE="1")
    assert stats["compiled"] == 0
    assert not llvm
