"""``fusec.Array`` against NumPy: layout on the null device, values on the CPU
or, with NUMBA_ENABLE_CUDASIM=1, in the simulator."""

import copy
import os
import pickle

import numpy as np
import pytest

import fusec
from fusec.errors import DeviceError, UnsupportedError
from fusec.runtime.array import overlap
from fusec.runtime.device import Buffer

simulated = pytest.mark.skipif(
    not os.environ.get("NUMBA_ENABLE_CUDASIM"), reason="needs NUMBA_ENABLE_CUDASIM=1"
)
HOST = "simulator" if os.environ.get("NUMBA_ENABLE_CUDASIM") else "cpu"
RNG = np.random.default_rng(0)
X = RNG.standard_normal((5, 6)).astype("f4")


def on(x, device=HOST):
    return fusec.to_device(x, device)


# -- layout ---------------------------------------------------------------------------------------

INDEXES = [
    0, -1, np.int64(2), slice(1, 4), slice(None, None, -2), slice(4, 1), ..., None, (0, 1),
    (slice(None), 2), (..., -1), (slice(1, None, 2), slice(None, None, -1)), (None, 0, ..., None),
    (), (slice(0, 0), 3),
]  # fmt: skip


@pytest.mark.parametrize("index", INDEXES, ids=str)
def test_basic_indexing_gives_numpys_layout(index):
    x = on(X, "null")
    view, wanted = x[index], np.asarray(X[index])
    assert (view.shape, view.dtype, view.ndim) == (wanted.shape, wanted.dtype, wanted.ndim)
    assert view.strides == wanted.strides or wanted.size == 0
    assert view.buffer is x.buffer
    if wanted.size and wanted.base is not None:
        assert view.offset - x.offset == wanted.ctypes.data - X.ctypes.data


@pytest.mark.parametrize("index", [5, -6, (0, 0, 0), slice(0, 3, 0), "a", 1.5], ids=repr)
def test_wrong_indexes_raise_what_numpy_raises(index):
    with pytest.raises(Exception) as wanted:
        X[index]
    with pytest.raises(type(wanted.value)):
        on(X, "null")[index]


def test_metadata():
    x = on(X, "null")
    assert (len(x), x.size, x.nbytes, x.itemsize, x.T.shape) == (5, 30, 120, 4, (6, 5))
    assert x.reshape(3, -1).shape == x.reshape((3, 10)).shape == (3, 10)
    assert x.reshape(30).buffer is x.buffer
    assert x.T.reshape(30).buffer is not x.buffer
    assert (x.flags.c_contiguous, x.T.flags.c_contiguous, x.T.flags.f_contiguous) == (1, 0, 1)
    assert repr(x) == "<fusec.Array float32[5,6] on null>"


@pytest.mark.parametrize("layout", [X, X.T, np.asfortranarray(X), X[::-1, ::2]])
def test_the_order_of_axes_is_kept(layout):
    assert on(layout, "null").strides == layout.copy("K").strides


def test_wrong_uses():
    x = on(X, "null")
    with pytest.raises(ValueError, match="cannot reshape array of size 30"):
        x.reshape(7, 7)
    with pytest.raises(ValueError, match="ambiguous"):
        bool(x)
    with pytest.raises(TypeError, match="0-dimensional"):
        float(x)
    with pytest.raises(TypeError, match="unhashable"):
        hash(x)
    with pytest.raises(TypeError, match="unsized"):
        len(x[0, 0])
    with pytest.raises(ValueError, match="out is float64"):
        x.copy_to_host(out=np.empty(3))
    with pytest.raises(ValueError, match="copies"):
        np.asarray(x, copy=False)
    assert not hasattr(x, "__cuda_array_interface__")
    with pytest.raises(BufferError):
        x.__dlpack__()


@pytest.mark.parametrize("value", [np.array(["a"]), np.array([None]), np.longdouble(1)], ids=repr)
def test_dtypes_that_no_device_has(value):
    with pytest.raises(UnsupportedError, match="dtype"):
        on(value, "null")


def test_host_memory_by_dlpack():
    with pytest.raises(DeviceError, match="on the host"):
        fusec.from_dlpack(X)
    assert fusec.from_dlpack(X, "null").shape == (5, 6)


# -- values ---------------------------------------------------------------------------------------

#: name: what is done to a NumPy array and to a device array alike
VALUES = {
    "itself": lambda x: x,
    "operators": lambda x: (x * 2 + 1) / (x * x + 1),
    "reflected": lambda x: 1 - x,
    "comparison": lambda x: x > 0,
    "negative strides": lambda x: x[::-1, ::-2] + 1,
    "transposed": lambda x: x.T * x.T,
    "broadcast": lambda x: x + x[:, :1],
    "ufunc method": lambda x: np.add.reduce(x, axis=1),
    "method": lambda x: x.mean(axis=0),
    "function": lambda x: np.sum(x, axis=1, keepdims=True),
    "several": lambda x: np.where(x > 0, np.sqrt(abs(x)), np.exp(x)),
    "list of arrays": lambda x: np.concatenate([x, x * 2]),
    "product": lambda x: x @ x.T,
    "index arrays": lambda x: x[np.array([3, 0, 0])],
    "reshape copies": lambda x: x.T.reshape(3, 10),
    "flat": lambda x: x.ravel(),
    "astype": lambda x: x.astype("i4"),
    "real": lambda x: x.real,
    "0-d": lambda x: x[1, 2] + 1,
    "empty": lambda x: x[:0] + 1,
    "mask": lambda x: x[x > 0],
    "unique": lambda x: np.unique(x),
    "copies": lambda x: copy.deepcopy(pickle.loads(pickle.dumps(x))) + 1,
    "host": lambda x: np.linalg.norm(x, ord=2),
}


@pytest.mark.parametrize("name", VALUES)
def test_values(name):
    function = VALUES[name]
    wanted = np.asarray(function(X))
    for layout in (X, np.asfortranarray(X), np.repeat(X, 2, axis=0)[::2]):
        made = function(on(layout))
        assert type(made) is fusec.Array
        found = np.asarray(made)
        assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def _set_block(x):
    x[1:3] = 7


def _set_column(x):
    x[:, 2] = np.arange(5)


def _set_masked_rows(x):
    x[np.array([0, 3])] = 9


def _in_place(x):
    x += 1
    x[:, ::2] *= 2


def _out(x):
    np.negative(x[::-1], out=x[::-1])


def _where(x):
    np.add(x, 1, out=x, where=x > 0)
    x[1:].fill(2)


def _from_view(x):
    x[:2] = x[3:]


def _from_itself(x):
    x[:] = x[::-1]
    x[:, 1:] = x[:, :-1]
    x[1:] = x[:-1]


@pytest.mark.parametrize(
    "update",
    [_set_block, _set_column, _set_masked_rows, _in_place, _out, _where, _from_view, _from_itself],
)
def test_updates(update):
    wanted, found = X.copy(), on(X)
    update(wanted)
    update(found)
    np.testing.assert_array_equal(np.asarray(found), wanted)


@pytest.mark.parametrize("view", [lambda w: w, lambda w: w.T, lambda w: w[1:, ::2]])
def test_a_jitted_function_changes_its_argument(view):
    def step(w, rate):
        w -= rate * w * w
        return w.sum()

    wanted, found = X.copy(), on(X)
    total = fusec.jit(step)(view(found), 0.5)
    np.testing.assert_allclose(float(total), step(view(wanted), 0.5), rtol=1e-4)
    np.testing.assert_allclose(np.asarray(found), wanted, rtol=1e-5)


def test_overlapping_arguments_that_are_changed():
    def shift(a, b):
        a[...] = b * 2
        return a + b

    for views in (lambda x: (x[1:], x[:-1]), lambda x: (x, x), lambda x: (x[::-1, :3], x[:, 2:5])):
        wanted, found = X.copy(), on(X)
        total = fusec.jit(shift)(*views(found))
        np.testing.assert_array_equal(np.asarray(total), shift(*views(wanted)))
        np.testing.assert_array_equal(np.asarray(found), wanted)


def test_somebody_elses_arrays_that_overlap():
    def shift(a, b):
        a += 1
        return b * 2

    x = on(X)
    memory = x.buffer  # as ``adopt`` sees memory of CuPy: another buffer each time
    own = Buffer(memory.device, memory.address, memory.nbytes, memory.owner, memory.writer)
    twin = fusec.Array(own, 0, x.shape, x.dtype, x.strides)
    assert overlap(x, twin) and not overlap(x, on(X))
    np.testing.assert_array_equal(np.asarray(fusec.jit(shift)(x, twin)), (X + 1) * 2)
    np.testing.assert_array_equal(np.asarray(x), X + 1)


def test_results_of_every_kind():
    @fusec.jit
    def several(x, k):
        y = x * k
        return {"y": y, "again": y, "view": y[::-1], "arg": x, "part": x.T, "n": 3, "k": k}

    x = on(X)
    made = several(x, 2.0)
    assert (
        made["arg"] is x and made["part"].buffer is x.buffer and (made["n"], made["k"]) == (3, 2.0)
    )
    assert made["view"].buffer is made["y"].buffer
    np.testing.assert_array_equal(np.asarray(made["view"]), (X * 2)[::-1])


def test_calls_on_the_host_in_the_middle():
    def mixed(x, k):
        y = x * k
        return np.linalg.svd(y)[1] + k, np.sort(y.T, axis=0)

    for found, wanted in zip(fusec.jit(mixed)(on(X), 2.0), mixed(X, 2.0)):
        np.testing.assert_allclose(np.asarray(found), wanted, rtol=1e-5)


def test_what_cannot_be_traced_runs_in_numpy():
    seen = []

    @fusec.jit
    def note(x):
        x[0] = 0
        seen.append(1)
        return x, x * 2

    x, wanted = on(X), X.copy()
    wanted[0] = 0
    same, double = note(x)
    assert same is x and seen == [1] and type(double) is fusec.Array
    np.testing.assert_array_equal(np.asarray(x), wanted)
    np.testing.assert_array_equal(np.asarray(double), wanted * 2)


@simulated
def test_an_error_of_a_kernel_is_numpys_and_names_nobody_else():
    take = fusec.jit(lambda x, i: x[i] * 2)
    x = on(X)
    good, bad = take(x, on(np.array([1, 2]))), take(x, on(np.array([1, 9])))
    later = bad + 1
    np.testing.assert_array_equal(np.asarray(good), X[[1, 2]] * 2)
    for array in (bad, later, bad):
        with pytest.raises(IndexError, match="index 9 is out of bounds for axis 0 with size 5"):
            np.asarray(array)
    fusec.synchronize("simulator")
    take(x, on(np.array([7])))
    with pytest.raises(IndexError, match="index 7"):
        fusec.synchronize("simulator")


@simulated
@pytest.mark.parametrize("how", [lambda x, i: x[i][1:] * 2, lambda x, i: (x[i], x * 2)[1]])
def test_an_error_of_an_element_that_nobody_reads(how):
    function = fusec.jit(how)
    np.testing.assert_array_equal(function(on(X), on(np.array([0, 1]))), how(X, np.array([0, 1])))
    with pytest.raises(IndexError, match="index 9"):
        np.asarray(function(on(X), on(np.array([9, 1]))))


@simulated
def test_an_error_leaves_arguments_as_they_were():
    def update(w, i):
        w += 1
        return w[i]

    x = on(X)
    with pytest.raises(IndexError):
        fusec.jit(update)(x, on(np.array([9])))
    np.testing.assert_array_equal(np.asarray(x), X)


def _reversed_and_sums(x, y):
    x[...] = x[::-1] * 2
    return x.sum(axis=0), np.cumsum(y, axis=1)


def _view_and_sums(x, y):
    return x[1:], np.cumsum(y, axis=1)


def _doubled_and_root(x, y):
    return x * 2, np.emath.sqrt(y)  # complex when there are negative numbers: NumPy starts again


@pytest.mark.parametrize("function", [_reversed_and_sums, _view_and_sums, _doubled_and_root])
def test_donated_memory_is_taken_when_nothing_needs_it(function):
    found = fusec.jit(function, donate_argnums=0)(on(X), on(X - 1))
    for one, wanted in zip(found, function(X.copy(), X - 1)):
        np.testing.assert_allclose(np.asarray(one), wanted, rtol=1e-4, atol=1e-6)


def test_shared_memory():
    x = on(X)
    host = np.from_dlpack(x)
    x += 1
    np.testing.assert_array_equal(host, X + 1)
    assert fusec.from_dlpack(x) is x


def test_to_and_from_python():
    x = on(X)
    assert float(x[0, 0]) == float(X[0, 0]) and x[:1, :1].item() == X[0, 0]
    assert x.tolist() == X.tolist() and [len(row) for row in x] == [6] * 5
    out = np.empty_like(X)
    assert x.copy_to_host(out) is out
    np.testing.assert_array_equal(out, X)
    assert on(np.arange(3))[on(np.array(1))].item() == 1
    assert list(range(on(np.array(3)))) == [0, 1, 2]
    assert X[0, 0] in x and 99.0 not in x and x.tobytes() == X.tobytes()


def test_compiling_switched_off(monkeypatch):
    monkeypatch.setattr(fusec.config, "disable", True)
    x = on(X)
    np.testing.assert_array_equal(np.asarray(fusec.jit(lambda x: x * 2 + 1)(x)), X * 2 + 1)
