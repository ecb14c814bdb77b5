"""fusec's way to a GPU on the stand-in for the driver; ``test_driver.py`` runs this in a process.

Nothing that is queued runs before somebody waits for it, so that these tests see missing waits.
"""

import gc
import os
import threading

import numpy as np
import pytest

import fusec
from fusec.errors import DeviceError

X = np.arange(1.0, 13.0).reshape(3, 4)


def cuda(x):
    return fusec.to_device(x, "cuda")


def layers(x, w):
    return np.sqrt(np.abs(np.maximum(x @ w, 0) @ w.T).sum(axis=0))


def test_programs_are_captured_and_replayed(driver):
    f, x, w = fusec.jit(layers), cuda(X), cuda(X.T * 0.1)
    want, before = layers(X, X.T * 0.1), driver.count("launch")
    calls = 20  # memory comes back at places of the host's choice; each pattern is captured once
    for _ in range(calls):
        np.testing.assert_allclose(np.asarray(f(x, w)), want, rtol=1e-14)
    assert driver.count("replays") >= calls // 4
    assert (driver.count("launch") - before) % calls == 0  # as many kernels in a replay
    host = np.asarray(x)
    x += 1  # the same memory, other values
    np.testing.assert_allclose(np.asarray(f(x, w)), layers(host + 1, X.T * 0.1), rtol=1e-14)


def test_all_memory_is_given_back(driver):
    gc.collect()
    fusec.synchronize("cuda")
    before = driver.live
    f = fusec.jit(lambda x: np.exp(x - x.max(axis=1, keepdims=True)).sum(axis=0))
    made = [f(cuda(X * k)) for k in range(5)]
    assert fusec.memory("cuda").live == driver.live > before
    del made, f
    gc.collect()
    fusec.synchronize("cuda")
    assert driver.live == before


def test_streams_wait_for_each_other(driver):
    host = fusec.pinned_empty((1000,), "f4")
    host[...] = np.arange(1000)
    waits = driver.count("wait")
    with fusec.stream("cuda") as first:
        x = fusec.to_device(host, "cuda", stream=first)
        y = x * 2
    with fusec.stream("cuda") as second:
        z = y + x
        out = fusec.pinned_empty((1000,), "f4")
        z.copy_to_host(out, stream=second)
    w = z - 1  # on the default stream
    assert driver.count("wait") == waits  # all that is still to come
    second.synchronize()
    np.testing.assert_array_equal(out, host * 3)
    np.testing.assert_array_equal(np.asarray(w), host * 3 - 1)
    assert driver.count("wait") > waits


def test_memory_of_one_stream_is_not_taken_while_another_reads_it():
    with fusec.stream("cuda") as first:
        x = cuda(X)
    with fusec.stream("cuda"):
        y = x * 2
    with first:
        del x
        others = [cuda(X * 0) for _ in range(20)]
    np.testing.assert_array_equal(np.asarray(y), X * 2)
    del others


def test_prefetch():
    batches = [np.full((10, 10), n, "f4") for n in range(8)]
    total = fusec.jit(lambda x: x.sum())
    found = [float(total(b)) for b in fusec.prefetch(iter(batches), "cuda", depth=3)]
    assert found == [n * 100.0 for n in range(8)]


def test_out_of_memory(driver):
    driver.library.stand_in_room(1 << 20)
    try:
        with pytest.raises(DeviceError, match="has no room for"):
            kept = [cuda(np.zeros(1 << 14)) for _ in range(99)]
    finally:
        driver.library.stand_in_room(1 << 30)
    kept = None
    assert kept is None and np.asarray(cuda(X) + 1).shape == X.shape


def test_an_error_of_numpy():
    take = fusec.jit(lambda x, i: x[i] * 2)
    for _ in range(4):  # launched, captured, replayed
        bad = take(cuda(X), cuda(np.array([1, 9])))
        with pytest.raises(IndexError, match="index 9 is out of bounds"):
            np.asarray(bad)
    good = take(cuda(X), cuda(np.array([1, 2])))
    np.testing.assert_array_equal(np.asarray(good), X[[1, 2]] * 2)


def test_arguments_are_changed_and_donated():
    def step(w, g):
        w[1:] -= 0.5 * g[1:]
        return w.sum()

    f, w = fusec.jit(step), cuda(X)
    for k in range(1, 5):
        total = f(w, cuda(X))
        want = np.vstack([X[:1], X[1:] * (1 - 0.5 * k)])
        np.testing.assert_allclose(np.asarray(w), want, rtol=1e-15)
        np.testing.assert_allclose(float(total), want.sum(), rtol=1e-14)
    donated = fusec.jit(lambda w, g: w - g, donate_argnums=0)
    address = w.buffer.address
    assert donated(w, cuda(X)).buffer.address == address


def test_a_function_of_numpy_in_between():
    f = fusec.jit(lambda x: np.sort(np.sin(x), axis=0) * 2)
    for k in range(4):
        np.testing.assert_allclose(np.asarray(f(cuda(X + k))), np.sort(np.sin(X + k), 0) * 2)


def test_arrays_of_others_are_shared():
    ours = cuda(X)

    class Theirs:
        __cuda_array_interface__ = ours.__cuda_array_interface__

    shared = fusec.to_device(Theirs(), "cuda")
    assert shared.buffer.address == ours.buffer.address
    again = fusec.from_dlpack(ours[1:, ::2])
    assert again.strides == ours[1:, ::2].strides
    shared += 1
    np.testing.assert_array_equal(np.asarray(again), (X + 1)[1:, ::2])
    np.testing.assert_array_equal(np.asarray(fusec.jit(lambda x: x * 3)(Theirs())), (X + 1) * 3)


def test_threads():
    f, device, failed = fusec.jit(lambda x, k: np.sqrt(x) * k), cuda(X), []

    def work(k):
        try:
            with fusec.stream("cuda"):
                for _ in range(4):
                    np.testing.assert_allclose(np.asarray(f(device, float(k))), np.sqrt(X) * k)
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failed


def test_transfers_are_counted():
    with fusec.transfers() as counted:
        np.asarray(fusec.jit(lambda x: x + 1, device="cuda")(X))
    assert (counted.to_device, counted.to_host) == (1, 1)


def test_what_is_not_there():
    with pytest.raises(DeviceError, match="no device cuda:1: the driver shows 1"):
        fusec.to_device(X, "cuda:1")


def test_a_child_after_fork():
    cuda(X)
    pid = os.fork()
    if not pid:
        try:
            cuda(X)
        except DeviceError as error:
            os._exit(0 if "fork" in str(error) else 1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
