"""The memory of large results: kept for the next ones, given back when it is too much."""

import ctypes
import gc
import os
import pickle
import subprocess
import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import fusec
from fusec.config import config
from fusec.runtime import native
from fusec.runtime import native_build as build
from fusec.runtime.native_layout import KEPT, RESULTS
from fusec.runtime.threads import pool

N = KEPT // 8


@fusec.jit
def doubled(x):
    return x * 2


@pytest.fixture(autouse=True)
def _emptied(monkeypatch):
    """Nothing is kept from other tests, and of these as much as by default."""
    monkeypatch.setattr(config, "keep_bytes", 0)
    _drop()
    monkeypatch.setattr(config, "keep_bytes", 256 << 20)
    assert pool().kept == 0


def _drop():
    """Has the pool look at `config.keep_bytes`, and free what is more."""
    gc.collect()
    native.empty((N,), np.dtype("f8"))


def _handler(x):
    return np._core.multiarray.get_handler_name(x)


def _x(n=N):
    return np.arange(float(n))


@pytest.mark.parametrize("size", [6, KEPT])
def test_results_of_any_layout_own_their_memory_from_the_first_call_on(size):
    f, x = fusec.jit(lambda x: x + 1), np.ones((2, 3, size)).transpose(1, 2, 0)
    for y in (f(x), f(x)):
        assert y.flags.owndata and y.base is None and y.strides == (x + 1).strides
        np.testing.assert_array_equal(y, x + 1)


def test_memory_is_used_again():
    x = _x()
    doubled(x)
    y = doubled(x)  # by the native entry
    assert _handler(y) == "fusec" and y.flags.owndata and y.base is None
    place = y.ctypes.data
    assert place % 64 == 0
    del y
    assert pool().kept >= x.nbytes
    again = doubled(x)
    assert again.ctypes.data == place
    np.testing.assert_array_equal(again, x * 2)


def test_nobody_gets_what_is_in_use():
    x = _x()
    part = doubled(x)[::2]
    others = [doubled(x + k) for k in range(4)]
    np.testing.assert_array_equal(part, (x * 2)[::2])
    for k, other in enumerate(others):
        np.testing.assert_array_equal(other, (x + k) * 2)


def test_small_results_are_numpys():
    x = _x(N - 1)
    for _ in range(2):
        assert _handler(doubled(x)) == "default_allocator"


def test_how_much_is_kept(monkeypatch):
    results = [doubled(_x()) for _ in range(6)]
    monkeypatch.setattr(config, "keep_bytes", 3 * KEPT + 4096)
    results.append(doubled(_x()))
    results.clear()
    assert 0 < pool().kept <= 3 * KEPT + 4096
    monkeypatch.setattr(config, "keep_bytes", 0)
    _drop()
    assert pool().kept == 0


@pytest.mark.parametrize("wrong", [1e9, -1, None, 1 << 63, "8"])
def test_a_limit_that_is_none(wrong):
    with pytest.raises(ValueError, match="keep_bytes is a number of bytes"):
        config.keep_bytes = wrong
    assert config.keep_bytes == 256 << 20


def test_a_variable_that_is_no_number(monkeypatch):
    monkeypatch.setenv("FUSEC_KEEP_BYTES", "1 GB")
    with pytest.raises(ValueError, match="FUSEC_KEEP_BYTES should be a whole number, not '1 GB'"):
        type(config)()


def test_more_blocks_than_there_is_room_for(monkeypatch):
    monkeypatch.setattr(config, "keep_bytes", 1 << 40)
    held = [native.empty((N,), np.dtype("f8")) for _ in range(2 * RESULTS)]
    del held
    assert 0 < pool().kept <= RESULTS * (KEPT + 4096)


def test_a_block_much_larger_than_asked_is_left_alone():
    place = native.empty((4 * N,), np.dtype("f8")).ctypes.data
    assert pool().kept >= 4 * KEPT
    assert native.empty((N,), np.dtype("f8")).ctypes.data != place


def test_resize_and_pickle():
    """NumPy changes the size of such an array in place, through the same functions."""
    y = doubled(_x())
    wanted = y.copy()
    y.resize(3 * N, refcheck=False)
    np.testing.assert_array_equal(y[:N], wanted)
    assert not y[N:].any()
    y.resize(7, refcheck=False)
    np.testing.assert_array_equal(y, wanted[:7])
    y = doubled(_x())
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(y)), wanted)


def test_strided_results_and_temporaries():
    x = np.asfortranarray(_x(2 * N).reshape(2, -1))
    for _ in range(3):
        y = fusec.jit(lambda x: x + 1)(x)
        np.testing.assert_array_equal(y, x + 1)
        assert y.strides == (x + 1).strides


def test_large_temporaries():
    """Their memory is kept with that of results."""

    @fusec.jit
    def f(x):
        c = np.cumsum(x)
        return (c[::-1] * c).sum()

    x = _x(2 * N)
    assert sum(f.lower(x).program.blocks) >= x.nbytes
    for _ in range(3):
        f(x)
    kept = pool().kept
    assert x.nbytes <= kept < 3 * x.nbytes
    f(x)
    assert pool().kept == kept


def test_no_memory_at_all():
    with pytest.raises(MemoryError):
        native.empty((1 << 60,), np.dtype("u1"))
    assert native.empty((N,), np.dtype("f8")).shape == (N,)


SHAPES = [(N,), (N, 1), (1, N), (1, 1, N), (2, N), (N // 8, 4, 2)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_flags_are_numpys(shape):
    """In both orders, by the native entry and without it."""
    for x in (np.ones(shape), np.ones(shape, order="F")):
        doubled(x)
        got, want = doubled(x), x * 2
        assert (str(got.flags), got.strides) == (str(want.flags), want.strides)
    assert str(native.empty(shape, np.dtype("f8")).flags) == str(np.empty(shape).flags)


def test_tracemalloc_sees_results():
    x = _x()
    doubled(x)
    tracemalloc.start()
    try:
        result = doubled(x)
        assert tracemalloc.get_traced_memory()[0] >= x.nbytes
        del result
        assert tracemalloc.get_traced_memory()[0] < x.nbytes
    finally:
        tracemalloc.stop()


def test_a_call_leaves_nothing_to_collect():
    native.empty((N,), np.dtype("f8"))
    gc.collect()
    for _ in range(10):
        native.empty((N,), np.dtype("f8"))
    assert gc.collect() == 0


def test_results_of_many_threads():
    x = _x()
    wanted, wrong = x * 2, []

    def work(k):
        for turn in range(30):
            y = doubled(x) if (k + turn) % 3 else doubled(x[: N - k])
            if not np.array_equal(y, wanted[: len(y)]):
                wrong.append((k, turn))

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(8)))
    assert not wrong
    assert 0 < pool().kept <= config.keep_bytes


def _run(text):
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=120)
    return done.returncode, done.stdout, done.stderr


HEAD = """
import atexit, sys, threading
import numpy as np, fusec
f = fusec.jit(lambda x: x * 2)
x = np.ones(2_000_000)
f(x)
"""


@pytest.mark.parametrize("rest", [
    "y = f(x)",
    "sys.modules['kept'] = f(x); np.kept = f(x); atexit.register(lambda y=f(x): print(y[0]))",
    "y = [f(x) for _ in range(9)]; y.append(y); del f, fusec",
    "t = threading.Thread(target=lambda: [f(x) for _ in range(50)], daemon=True); t.start()",
    "class A:\n  def __del__(self): self.y.sum()\na = A(); a.y = f(x); a.me = a; np.a = a",
])  # fmt: skip
def test_arrays_that_outlive_the_interpreter(rest):
    code, _, error = _run(HEAD + rest)
    assert (code, error) == (0, "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_after_a_fork():
    code, out, error = _run(HEAD + """
import os, warnings
warnings.simplefilter("ignore")  # Python 3.12 warns of threads
y = f(x); z = f(x); del z
pid = os.fork()
if not pid:
    a, b = f(x), f(x + 1)
    del y
    c = f(x + 2)
    assert a[0] == 2 and b[0] == 4 and c[-1] == 6
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
assert f(x + 3)[0] == 8 and y[0] == 2
print("fine")
""")  # fmt: skip
    assert (code, out.strip(), error) == (0, "fine", "")


def test_a_handler_of_the_users_own_is_kept():
    """Who has set a memory handler of NumPy's wants to see all arrays."""
    names = ("new_memory", "zeroed_memory", "other_memory", "free_memory")
    functions = [build.functions()[name] for name in names]
    own = build.layout.Handler(b"mine", 1, ctypes.addressof(pool()), *functions)
    new = ctypes.pythonapi.PyCapsule_New
    capsule = new(ctypes.addressof(own), b"mem_handler", None)
    build.immortal((own, capsule))
    exchange = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.py_object)(build._array_table()[304])
    x = _x()
    doubled(x)
    before = exchange(capsule)
    try:
        assert _handler(doubled(x)) == _handler(native.empty((N,), np.dtype("f8"))) == "mine"
    finally:
        exchange(before)
    assert _handler(doubled(x)) == "fusec"
