"""Devices, memory, streams and programs on the null device: structure without a GPU."""

import gc
import os
import threading
import weakref
from types import SimpleNamespace

import numpy as np
import pytest

import fusec
from fusec.errors import DeviceError
from fusec.runtime.device import Buffer, get_device

try:
    from fusec.runtime.cuda import count

    HAS_GPU = count() > 0
except DeviceError:
    HAS_GPU = False


@pytest.fixture
def null(request):
    """A null device of its own for each test."""
    null.number = getattr(null, "number", 100) + 1
    return get_device(f"null:{null.number}")


def softmax(x):
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


# -- names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["tpu", "cuda:x", "", "cuda:-1", "null:"])
def test_names_that_are_none(name):
    with pytest.raises(DeviceError, match="no device"):
        fusec.to_device(np.ones(3), name)


def test_names_of_one_device():
    assert get_device("null") is get_device("null")
    assert get_device("null:3") is not get_device("null")


@pytest.mark.skipif(HAS_GPU, reason="there is a driver")
def test_without_a_driver():
    assert fusec.devices() == []
    with pytest.raises(DeviceError, match=r"driver|pip install"):
        fusec.to_device(np.ones(3))
    with pytest.raises(DeviceError, match=r"driver|pip install"):
        fusec.jit(device="cuda")(lambda x: x + 1)(np.ones(3))


@pytest.mark.skipif(bool(os.environ.get("NUMBA_ENABLE_CUDASIM")), reason="the simulator is there")
def test_the_simulator_says_how_to_start_it():
    with pytest.raises(DeviceError, match="NUMBA_ENABLE_CUDASIM=1"):
        fusec.to_device(np.ones(3), "simulator")


# -- programs -------------------------------------------------------------------------------------


def test_a_fused_function_is_one_launch_and_no_copy(null):
    x = fusec.to_device(np.ones((8, 64), "f4"), null)
    f = fusec.jit(softmax)
    f(x)
    null.log.clear()
    with fusec.transfers() as moved:
        y = f(x)
    assert (y.shape, y.dtype, y.device) == ((8, 64), np.float32, null.name)
    assert null.count("launch") == 1
    assert moved.to_device == moved.to_host == 0


def test_several_kernels_are_captured_and_replayed(null):
    x = fusec.to_device(np.ones((300, 200), "f4"), null)

    @fusec.jit
    def two(x, k):
        return (x * k).sum(axis=0) + 1, x.sum()

    for _ in range(6):
        two(x, 2.0)
    assert null.count("capture") >= 1
    assert null.count("replay") >= 3
    null.log.clear()
    two(x, 3.0)
    assert null.count("launch") == 0 and null.count("replay") == 1
    (numbers,) = [n for what, n in null.log if what == "upload"]
    assert numbers <= 64  # the number 3.0


def centred(x):
    for _ in range(5):
        x = x - x.mean()
    return x


def test_a_replayed_call_allocates_nothing(null):
    x, f = fusec.to_device(np.ones((1 << 15,), "f4"), null), fusec.jit(centred)
    for _ in range(4):
        y = f(x)
    null.log.clear()
    for _ in range(3):
        y = f(x)
    assert [what for what, _ in null.log] == ["replay"] * 3
    kept = [f(x) for _ in range(4)]  # results that are needed have memory of their own
    assert len({a.buffer.address for a in (*kept, y)}) == 5


def test_every_thread_that_launches_enters_the_device(null, monkeypatch):
    def update(w, g):
        w -= 0.1 * g

    seen, f = [], fusec.jit(update)
    w, g = (fusec.to_device(np.ones((8, 8), "f4"), null) for _ in range(2))
    f(w, g)
    monkeypatch.setattr(null, "enter", lambda: seen.append(threading.get_ident()))
    null.log.clear()
    other = threading.Thread(target=f, args=(w, g))  # allocates nothing that would enter for it
    other.start()
    other.join()
    assert seen == [other.ident] and [what for what, _ in null.log] == ["launch"]


def test_memory_of_earlier_results_is_given_back_when_it_is_needed(null):
    x, f = fusec.to_device(np.ones((1 << 15,), "f4"), null), fusec.jit(centred)
    for _ in range(4):
        f(x)
    null.log.clear()
    null.limit = null.live + 1000
    with pytest.raises(DeviceError, match="no room"):
        fusec.to_device(np.ones(1000), null)
    assert null.count("free") == 1
    null.limit = null.total
    null.log.clear()
    del f
    gc.collect()
    assert null.count("free") >= 1


def test_memory_of_earlier_results_is_used_where_it_was_last(null):
    x, f = fusec.to_device(np.ones((1 << 15,), "f4"), null), fusec.jit(centred)
    for _ in range(4):
        f(x)
    null.log.clear()
    with fusec.stream(null):
        f(x)
    assert null.log.count(("allocate", x.nbytes)) == 1
    f(x)
    assert null.log.count(("allocate", x.nbytes)) == 1


def test_device_keyword_moves_host_arrays_once(null):
    f = fusec.jit(lambda x, w: x @ w + 1, device=null.name)
    with fusec.transfers() as moved:
        y = f(np.ones((3, 4)), fusec.to_device(np.ones((4, 2)), null))
    assert type(y) is fusec.Array and y.shape == (3, 2)
    assert moved.by_name["to device", "<lambda>: argument x"] == 96


def test_arrays_on_two_devices(null):
    x, y = fusec.to_device(np.ones(3), null), fusec.to_device(np.ones(3), "null")
    with pytest.raises(DeviceError, match="move one of them"):
        fusec.jit(lambda a, b: a + b)(x, y)
    with pytest.raises(DeviceError, match="move one of them"):
        x + y
    with pytest.raises(DeviceError, match="is for null and got"):
        fusec.jit(lambda a: a + 1, device="null")(x)


def test_a_captured_device_array_decides_where(null):
    w = fusec.to_device(np.ones(4), null)
    y = fusec.jit(lambda x: x * w)(np.ones(4))
    assert type(y) is fusec.Array and y.device == null.name


def test_lower_takes_device_arrays_as_arguments(null):
    w = fusec.to_device(np.ones((4, 6), "f4"), null)
    f = fusec.jit(lambda x, y: x.T @ y + 1)
    low = f.lower(w, np.ones((4, 3), "f4"))
    assert [p.attrs["name"] for p in low.traced.graph.params] == ["x", "y"]
    assert (low.target, low.arch) == ("cuda", null.arch)
    assert f.lower(w, w, target="cpu").target == "cpu"
    assert fusec.jit(lambda x: x + 1, device=null.name).lower(np.ones(3)).target == "cuda"
    again = f(w, np.ones((4, 3), "f4"))
    assert low.compile()(w, np.ones((4, 3), "f4")).shape == again.shape


# -- donated memory -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, update, reused",
    [
        ("elementwise", lambda w, g: w - 0.1 * g, True),
        ("reversed", lambda w, g: w[::-1] - g, False),
        ("broadcast of itself", lambda w, g: w + w[0] + g, False),
        ("another dtype", lambda w, g: w > g, False),
    ],
)
def test_donated_memory_is_reused_where_it_can_be(null, name, update, reused):
    w = fusec.to_device(np.ones((4, 4), "f4"), null)
    g = fusec.to_device(np.ones((4, 4), "f4"), null)
    address = w.buffer.address
    new = fusec.jit(update, donate_argnums=0)(w, g)
    assert (new.buffer.address == address) is reused
    with pytest.raises(DeviceError, match="was donated"):
        w + 1


def test_changed_arguments_are_written_where_they_lie(null):
    def update(w, g):
        w -= 0.1 * g

    w, g = (fusec.to_device(np.ones((64, 64), "f4"), null) for _ in range(2))
    f = fusec.jit(update)
    f(w, g)
    null.log.clear()
    f(w, g)
    assert [what for what, _ in null.log] == ["launch"]
    f(w[:, ::2], g[:, ::2])  # with gaps: into other memory, then a kernel that copies
    assert null.count("launch") == 3


# -- memory ---------------------------------------------------------------------------------------


def test_live_and_peak(null):
    x = fusec.to_device(np.ones(1000), null)
    view = x[10:]
    del x
    gc.collect()
    assert fusec.memory(null).live == 8000  # the view keeps it
    del view
    gc.collect()
    assert fusec.memory(null)[:2] == (0, 8000)


def test_out_of_memory_names_lines_and_leaves_the_process_usable(null):
    null.limit = 10_000
    kept = fusec.to_device(np.ones(1000), null)
    with pytest.raises(
        DeviceError, match=r"no room for 4.00 kB(.|\n)*8.00 kB  made at .*:\d+"
    ) as e:
        fusec.to_device(np.ones(500), null)
    assert "test_devices.py" in str(e.value)
    del kept
    assert fusec.to_device(np.ones(500), null).shape == (500,)


def test_garbage_is_collected_before_giving_up(null):
    null.limit = 10_000
    cycle = [fusec.to_device(np.ones(1000), null)]
    cycle.append(cycle)
    del cycle
    assert fusec.to_device(np.ones(1000), null).shape == (1000,)


# -- streams --------------------------------------------------------------------------------------


def test_another_stream_waits_for_the_first(null):
    x = fusec.to_device(np.ones(3), null)
    null.log.clear()
    with fusec.stream(null) as other:
        y = x + 1
    assert ("wait", (other, null.default_stream)) in null.log
    null.log.clear()
    y.copy_to_host()
    assert ("wait", (null.default_stream, other)) in null.log


class Protocol:
    def __cuda_stream__(self):
        return 0, 4096


#: name: (what is given for a stream, its handle)
FOREIGN = {
    "the protocol": (Protocol(), 4096),
    "the protocol as an attribute": (SimpleNamespace(__cuda_stream__=(0, 4096)), 4096),
    "PyTorch's": (SimpleNamespace(cuda_stream=8192), 8192),
    "CuPy's": (SimpleNamespace(ptr=8192), 8192),
    "a number": (12288, 12288),
    "PyTorch's default": (SimpleNamespace(cuda_stream=0), 0),
    "the legacy default": (1, 0),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_streams_of_other_libraries(null, name):
    given, handle = FOREIGN[name]
    x = fusec.to_device(np.ones(3), null)
    null.log.clear()
    on = fusec.stream(null, of=given)
    assert fusec.stream(null, of=given) is on
    assert (on is null.default_stream) is (handle == 0)
    with on:
        y = x + 1
    assert y.buffer.writer is on
    assert (("wait", (on, null.default_stream)) in null.log) is (handle != 0)
    out = np.empty(3)
    assert y.copy_to_host(out, stream=given) is out
    assert fusec.to_device(np.ones(3), null, stream=given).buffer.writer is on


def test_a_foreign_stream_is_kept_alive_while_ours_is(null):
    theirs = Protocol()
    alive = weakref.ref(theirs)
    on = fusec.stream(null, of=theirs)
    del theirs
    assert alive() is not None
    del on
    gc.collect()
    assert alive() is None


@pytest.mark.parametrize("given", ["s", 1.5, True, None.__class__, 2], ids=repr)
def test_what_is_no_stream(null, given):
    with pytest.raises(DeviceError, match="stream"):
        fusec.stream(null, of=given)
    with pytest.raises(DeviceError, match="a stream of null for work on"):
        fusec.to_device(np.ones(3), null, stream=fusec.stream("null"))


def test_somebody_elses_memory_is_left_in_order(null):
    memory = Buffer(null, 4096, 0, "theirs", null.default_stream)
    x = fusec.Array(memory, 0, (3,), np.dtype("f8"), (8,))
    with fusec.stream(null) as other:
        x + 1
    null.log.clear()
    del x, memory
    assert null.log == [("wait", (null.default_stream, other))]


def test_memory_is_freed_behind_its_last_reader(null):
    x = fusec.to_device(np.ones(3), null)
    with fusec.stream(null) as other:
        x + 1
    null.log.clear()
    del x
    assert null.log[:1] == [("wait", (null.default_stream, other))]
    assert null.count("free") == 1


def test_prefetch_keeps_order_and_structure(null):
    batches = [{"x": np.full((n, 3), n, "f4"), "name": str(n)} for n in range(1, 6)]
    found = list(fusec.prefetch(batches, null, depth=2))
    assert [(b["x"].shape, b["name"]) for b in found] == [((n, 3), str(n)) for n in range(1, 6)]


def test_pinned_memory(null):
    x = fusec.pinned_empty((2, 3), "i4", null)
    x[...] = 7
    assert x.dtype == np.int32 and x.sum() == 42


def test_sixteen_threads(null):
    f = fusec.jit(lambda x, k: np.tanh(x) * k)
    x = fusec.to_device(np.ones((50, 50), "f4"), null)
    failed = []

    def work(k, x=x):
        try:
            for _ in range(20):
                assert f(x, float(k)).shape == (50, 50)
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(16)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failed
    del x, work, threads, t
    gc.collect()
    assert fusec.memory(null).live <= 128  # status words and the last number


def test_the_benchmark_of_devices_runs(monkeypatch):
    from benchmarks import device

    monkeypatch.setattr(device, "SECONDS", 0.01)
    monkeypatch.setattr(device, "ROUNDS", 1)
    found = list(device.measure("null", scale=4096))
    assert len(found) == len(device.TABLE) + 3
    assert all(bar.figure > 0 for bar in found)
