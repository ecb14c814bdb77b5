"""What needs a GPU: ``pytest -m gpu tests/cuda``. Values, sharing, streams, memory, threads."""

import gc
import threading

import numpy as np
import oracle
import pytest
import test_arrays as tables
import test_cublas as products
import test_forms as forms
import test_op_table as ops
import test_scatter as scatters
from programs import Machine, generate

import fusec
import kernels
from fusec.compare import largest
from fusec.device_plan import device_executor
from fusec.errors import DeviceError
from fusec.runtime.device import get_device

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not fusec.devices(), reason="there is no CUDA device"),
]
DEVICE = "cuda"
X = tables.X
RNG = np.random.default_rng(1)


def cuda(x):
    return fusec.to_device(x, DEVICE)


def run(program, arrays):
    """The results of a program on the device."""
    device = get_device(DEVICE)
    runner = device_executor(program, device, False)
    return [np.asarray(y) for y in runner.run([*map(cuda, arrays)], device.current(), {})]


@pytest.mark.parametrize("name", ops.DTYPES)
def test_the_table_of_ops(name):
    made, cases, arrays = ops.whole(name, get_device(DEVICE).target)
    ops.check_all(cases, arrays, run(made, [x for given in arrays for x in given]))


@pytest.mark.parametrize(("name", "dtype", "k"), ops.OTHER_CASES, ids=str)
def test_other_families_of_ops(name, dtype, k):
    made, arrays = ops.other(name, dtype, k, get_device(DEVICE).target)
    ops.check_other(name, k, arrays, *run(made, arrays))


@pytest.mark.parametrize(("name", "shape"), forms.CASES, ids=str)
def test_forms_of_kernels(name, shape):
    function, _, dtype = forms.FORMS[name]
    x = forms.sample(shape, dtype)
    forms.check(name, x, np.asarray(fusec.jit(function)(cuda(x))))


@pytest.mark.parametrize("name", scatters.SCATTERS)
def test_scatters(name):
    function, args, _ = scatters.SCATTERS[name]
    want, compiled = function(*args), fusec.jit(function)
    first = np.asarray(compiled(*map(cuda, args)))
    for _ in range(3):  # the same bits in every run, replayed or not
        np.testing.assert_array_equal(np.asarray(compiled(*map(cuda, args))), first)
    assert first.dtype == want.dtype
    np.testing.assert_allclose(first, want, rtol=1e-5 if want.dtype == "f4" else 1e-13)


def test_a_large_histogram():
    x = RNG.integers(0, 256, 5_000_000)
    w = RNG.standard_normal(x.size)
    counts, sums = fusec.jit(lambda x, w: (np.bincount(x, None, 256), np.bincount(x, w, 256)))(
        cuda(x), cuda(w)
    )
    np.testing.assert_array_equal(np.asarray(counts), np.bincount(x, minlength=256))
    np.testing.assert_allclose(np.asarray(sums), np.bincount(x, w), rtol=0, atol=1e-8)


def table_and_rows(rows, n, columns, dtype):
    return (
        RNG.standard_normal((rows, columns)).astype(dtype),
        RNG.integers(-rows, rows, n),
        RNG.standard_normal((n, columns)).astype(dtype),
    )


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_a_million_rows_are_added_in_the_order_of_numpy(dtype):
    """Ordered by place: no row is added to more than a thousand times, so the bits are NumPy's."""
    table, places, values = args = table_and_rows(50_000, 1_000_000, 64, dtype)
    compiled = fusec.jit(scatters.added)
    given = [*map(cuda, args)]
    results = [np.asarray(compiled(*given)) for _ in range(3)]  # launched, captured, replayed
    want = table.copy()
    np.add.at(want, places, values)
    for result in results:
        np.testing.assert_array_equal(result, want)


@pytest.mark.parametrize(
    "places",
    [np.full(300_001, 777), RNG.permutation(300_001), RNG.zipf(1.3, 300_001) % 70_000],
    ids=["one place", "a place for each", "uneven"],
)
def test_additions_ordered_by_place_however_uneven(places):
    table, _, values = table_and_rows(300_001, 300_001, 3, "f8")
    compiled, given = fusec.jit(scatters.added), [*map(cuda, (table, places, values))]
    first = np.asarray(compiled(*given))
    for _ in range(3):
        np.testing.assert_array_equal(np.asarray(compiled(*given)), first)
    np.testing.assert_allclose(first, scatters.added(table, places, values), rtol=0, atol=1e-9)


def test_the_gradient_of_an_embedding():
    table, places, g = table_and_rows(30_000, 400_000, 16, "f8")
    grad = fusec.jit(fusec.grad(lambda t, i, g: (t[i] * g).sum()))
    want = scatters.added(np.zeros_like(table), places, g)
    np.testing.assert_allclose(np.asarray(grad(*map(cuda, (table, places, g)))), want, rtol=1e-12,
                               atol=1e-12)  # fmt: skip


def test_a_bad_place_among_many():
    table, places, values = table_and_rows(30_000, 400_000, 1, "f8")
    places[123_456] = 30_000
    with pytest.raises(IndexError, match="index 30000 is out of bounds"):
        np.asarray(fusec.jit(scatters.added)(*map(cuda, (table, places, values))))


def test_bfloat16_of_torch():
    torch = pytest.importorskip("torch")
    theirs = torch.arange(12, dtype=torch.bfloat16, device="cuda").reshape(3, 4)
    ours = fusec.from_dlpack(theirs)
    assert (ours.dtype.name, ours.buffer.address) == ("bfloat16", theirs.data_ptr())
    result = fusec.jit(lambda x: x * x)(ours)
    back = torch.from_dlpack(result)
    assert back.dtype is torch.bfloat16 and torch.equal(back, theirs * theirs)
    product = torch.from_dlpack(fusec.jit(lambda x: x @ x.T)(ours))  # float32, as NumPy has it
    assert torch.equal(product, theirs.float() @ theirs.float().T)


def there(function):
    """A function of NumPy arrays that runs on the device, and brings everything back."""
    compiled = fusec.jit(function)

    def home(x):
        x = np.asarray(x) if type(x) is fusec.Array else x
        return x[()] if isinstance(x, np.ndarray) else x

    def call(*args):
        moved = [cuda(x) if isinstance(x, np.ndarray) else x for x in args]
        result = compiled(*moved)
        for x, y in zip(args, moved):
            if isinstance(x, np.ndarray):
                x[...] = np.asarray(y)
        return tuple(map(home, result)) if isinstance(result, tuple) else home(result)

    return call


@pytest.mark.parametrize("seed", range(100))
def test_random_programs(seed):
    """Values, dtypes and shapes; what is a view of what is the host's affair."""
    program = generate(seed)
    machine, function = Machine(program), program.function()
    want, got = (oracle.run(f, program.args(), ignore=True) for f in (function, there(function)))
    assert want.error is None and got.error is None
    for name, a, b in zip(program.results, want.result, got.result):
        assert (np.asarray(a).dtype, np.shape(a)) == (np.asarray(b).dtype, np.shape(b))
        near = machine.tolerance(name) * largest(a)
        np.testing.assert_allclose(b, a, rtol=0, atol=near)


@pytest.mark.parametrize("kernel", kernels.suite(), ids=lambda k: k.name)
def test_the_suite(kernel):
    args = [cuda(x) if isinstance(x, np.ndarray) else x for x in kernel.args("S", "f4")]
    report = fusec.verify(kernel.function, *args)
    assert report, str(report)


@pytest.mark.parametrize("dtype", ["?", "i1", "u2", "i8", "f2", "f4", "f8", "c8", "c16"])
@pytest.mark.parametrize("shape", [(), (0,), (1,), (7,), (3, 5), (257, 1025)])
def test_copies(dtype, shape):
    x = (RNG.standard_normal(shape) * 9).astype(dtype)
    for layout in (x, x.T, x[..., ::-1] if shape else x):
        device = cuda(layout)
        assert device.device == "cuda:0"
        np.testing.assert_array_equal(np.asarray(device), layout)


@pytest.mark.parametrize("name", tables.VALUES)
def test_values(name):
    function = tables.VALUES[name]
    wanted = np.asarray(function(X))
    for layout in (X, np.asfortranarray(X), np.repeat(X, 2, axis=0)[::2]):
        found = np.asarray(function(cuda(layout)))
        assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


UPDATES = [
    tables._set_block, tables._set_column, tables._set_masked_rows, tables._in_place, tables._out,
    tables._where, tables._from_view,
]  # fmt: skip


@pytest.mark.parametrize("update", UPDATES)
def test_updates(update):
    wanted, found = X.copy(), cuda(X)
    update(wanted)
    update(found)
    np.testing.assert_array_equal(np.asarray(found), wanted)


def test_views_that_are_not_aligned_for_vector_loads():
    x = RNG.standard_normal(100_003).astype("f4")
    f = fusec.jit(lambda x: x * 2 + 1)
    device = cuda(x)
    for first in range(5):
        np.testing.assert_array_equal(np.asarray(f(device[first:])), x[first:] * 2 + 1)


def test_a_program_of_several_kernels_is_replayed():
    x = RNG.standard_normal((300, 200)).astype("f4")
    f = fusec.jit(lambda x, k: ((x * k).sum(axis=0) + 1, x.sum()))
    device = cuda(x)
    for k in [1.0, 1.0, 1.0, 2.0, 3.0, 3.0] * 3:
        columns, total = f(device, k)
        np.testing.assert_allclose(np.asarray(columns), (x * np.float32(k)).sum(0) + 1, rtol=1e-3)
        np.testing.assert_allclose(float(total), x.sum(), rtol=1e-3, atol=1e-2)


def test_errors_are_numpys_and_the_device_stays_usable():
    take = fusec.jit(lambda x, i: x[i] * 2)
    bad = take(cuda(X), cuda(np.array([1, 9])))
    with pytest.raises(IndexError, match="index 9 is out of bounds"):
        np.asarray(bad)
    good = take(cuda(X), cuda(np.array([1, 2])))
    np.testing.assert_array_equal(np.asarray(good), X[[1, 2]] * 2)
    fusec.synchronize("cuda")


@pytest.mark.parametrize("library", ["torch", "cupy"])
def test_sharing_without_a_copy(library):
    other = pytest.importorskip(library)
    theirs = other.ones((3, 4), **({"device": "cuda"} if library == "torch" else {})) * 2
    pointer = theirs.data_ptr() if library == "torch" else theirs.data.ptr
    ours = fusec.from_dlpack(theirs)
    assert ours.buffer.address == fusec.to_device(theirs, "cuda").buffer.address == pointer
    result = fusec.jit(lambda x: x * 3)(theirs)
    assert type(result) is fusec.Array
    back = other.from_dlpack(result)
    assert float(back.sum()) == 72.0
    ours += 1
    assert float(theirs.sum()) == 36.0
    strided = other.from_dlpack(cuda(X)[1:, ::2])
    assert strided.shape == (4, 3)


def test_streams_and_pinned_memory():
    host = fusec.pinned_empty((1 << 20,), "f4")
    host[...] = np.arange(1 << 20)
    out = fusec.pinned_empty((1 << 20,), "f4")
    with fusec.stream("cuda") as s:
        x = fusec.to_device(host, "cuda", stream=s)
        y = x * 2
    z = y + 1  # on the default stream, which waits
    z.copy_to_host(out, stream=s)
    s.synchronize()
    np.testing.assert_array_equal(out, host * 2 + 1)


def test_prefetch():
    batches = [np.full((1000, 100), n, "f4") for n in range(8)]
    total = fusec.jit(lambda x: x.sum())
    found = [float(total(b)) for b in fusec.prefetch(iter(batches), "cuda", depth=3)]
    assert found == [n * 100_000.0 for n in range(8)]


def test_out_of_memory_leaves_the_process_usable():
    (device, *_) = fusec.devices()
    with pytest.raises(DeviceError, match="has no room for"):
        kept = [fusec.to_device(np.zeros(8), "cuda")]
        step = np.zeros(device.total // 16, np.uint8)
        while True:
            kept.append(fusec.to_device(step, "cuda"))
    del kept
    gc.collect()
    assert np.asarray(cuda(X) + 1).shape == X.shape


def test_donated_memory():
    f = fusec.jit(lambda w, g: w - 0.5 * g, donate_argnums=0)
    w, g = cuda(X), cuda(X)
    address = w.buffer.address
    new = f(w, g)
    assert new.buffer.address == address
    np.testing.assert_allclose(np.asarray(new), X * 0.5, rtol=1e-6)


def test_sixteen_threads():
    f = fusec.jit(lambda x, k: np.tanh(x) * k)
    x = RNG.standard_normal((500, 500)).astype("f4")
    device, failed = cuda(x), []

    def work(k):
        try:
            with fusec.stream("cuda"):
                for _ in range(20):
                    found = np.asarray(f(device, float(k)))
                    np.testing.assert_allclose(found, np.tanh(x) * k, rtol=1e-5, atol=1e-6)
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(16)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failed


@pytest.mark.parametrize("dtype", ["f4", "f8", "c8", "i4"])
@pytest.mark.parametrize("name", products.LAYOUTS)
def test_matrix_products(name, dtype):
    a, b = products.LAYOUTS[name][0]()
    a, b = np.asarray(a.real, dtype), np.asarray(b.real, dtype)
    found = np.asarray(fusec.jit(lambda a, b: a @ b)(cuda(a), cuda(b)))
    np.testing.assert_array_equal(found, a @ b)  # of small integers: exact in any order


def test_float32_products_are_not_rounded_to_tf32():
    x = RNG.standard_normal((300, 300)).astype("f4")
    found = np.asarray(cuda(x) @ cuda(x.T))
    np.testing.assert_allclose(found, x.astype("f8") @ x.T.astype("f8"), rtol=0, atol=1e-4)


def test_products_are_replayed_on_several_streams():
    x = RNG.standard_normal((200, 200)).astype("f8")
    f = fusec.jit(lambda x: (x @ x.T) @ x / 200)
    device, wanted = cuda(x), (x @ x.T) @ x / 200
    for stream in [fusec.stream("cuda"), fusec.stream("cuda")] * 4:
        with stream:
            found = f(device)
        np.testing.assert_allclose(np.asarray(found), wanted, rtol=1e-12, atol=1e-9)


def test_streams_of_torch():
    torch = pytest.importorskip("torch")
    theirs = torch.cuda.Stream()
    with torch.cuda.stream(theirs):
        x = torch.ones(1 << 20, device="cuda") * 3
    with fusec.stream("cuda", of=theirs):
        y = fusec.jit(lambda x: x * 2)(x)
    assert float(y.sum()) == 6.0 * (1 << 20)


def test_verify():
    report = fusec.verify(lambda x: np.exp(x - x.max(axis=1, keepdims=True)), cuda(X))
    assert report, str(report)
