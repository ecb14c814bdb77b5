"""Copies between host and device: counted by name, warned about, refused."""

import numpy as np
import pytest

import fusec
from fusec import config
from fusec.errors import DeviceError, TransferWarning

W = np.ones((4, 2), "f4")


@pytest.fixture
def x():
    return fusec.to_device(np.ones((3, 4), "f4"), "null")


@pytest.fixture(params=["warn", "fail"])
def policy(request, monkeypatch):
    monkeypatch.setattr(config, "transfers", request.param)
    return request.param


def counted(function, *args):
    with fusec.transfers() as moved:
        function(*args)
    return moved


def test_what_was_asked_for_is_not_hidden(x, monkeypatch):
    monkeypatch.setattr(config, "transfers", "fail")
    moved = counted(lambda: np.asarray(fusec.to_device(np.ones(5), "null")))
    assert (moved.to_device_bytes, moved.to_host_bytes, moved.hidden) == (40, 40, 0)
    moved = counted(lambda: (float(x[0, 0]), bool(x[0, 0]), x.tolist()))
    assert (moved.to_host, moved.hidden) == (3, 0)


#: name: (function, direction, what it is called, bytes, how to avoid it)
HIDDEN = {
    "argument": (
        lambda x: fusec.jit(lambda a, b: a * b)(x, np.ones(4, "f4")),
        "to device", "<lambda>: argument b", 16, "fusec.to_device",
    ),
    "captured": (lambda x: fusec.jit(lambda a: a * W[:, 0])(x), "to device", "W", 32, "outside"),
    "operator": (lambda x: x + np.ones(4, "f4"), "to device", "add: argument args[1]", 16, "null"),
    "host call": (
        lambda x: fusec.jit(lambda a: np.linalg.svd(a)[1] + 1)(x),
        "to host", "argument of svd", 48, "explain",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HIDDEN)
def test_hidden_copies_are_counted_by_name(x, name):
    function, direction, called, nbytes, _ = HIDDEN[name]
    moved = counted(function, x)
    assert moved.hidden >= 1
    assert moved.by_name[direction, called] == nbytes


@pytest.mark.parametrize("name", HIDDEN)
def test_hidden_copies_warn_or_fail(x, policy, name):
    function, _, called, _, advice = HIDDEN[name]
    catch = pytest.warns(TransferWarning) if policy == "warn" else pytest.raises(DeviceError)
    with catch as caught:
        function(x)
    message = str(caught[0].message if policy == "warn" else caught.value)
    assert called in message and "bytes" in message and advice in message


def test_numbers_are_no_transfers(x):
    f = fusec.jit(lambda a, k: a * k + 1)
    assert repr(counted(f, x, 2.5)) == (
        "Transfers(to device: 0 of 0 bytes, to host: 0 of 0 bytes, hidden: 0)"
    )


def test_a_numpy_argument_that_is_changed_comes_back(x):
    host = np.ones((3, 4), "f4")

    def update(a, b):
        b += a

    moved = counted(fusec.jit(update), x, host)
    assert moved.by_name["to host", "argument b"] == 48
    assert not host.any()  # the null device gives zeros


def test_persistent_arrays_are_not_moved_again(x):
    w = fusec.to_device(W, "null")
    f = fusec.jit(lambda a: np.exp(a[:, :2] + w[:3]))
    f(x)
    assert counted(f, x).to_device == 0
