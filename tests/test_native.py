"""The native call entry: what it accepts, what it refuses, and that it keeps and leaks nothing."""

import ast
import contextvars
import ctypes
import gc
import sys
import threading
import tracemalloc
import weakref

import native_kernels as kernels
import numpy as np
import pytest
from native_kernels import in_threads

from fusec.runtime import native_build, threads
from fusec.runtime.native import (
    ERROR,
    MISS,
    NOTHING,
    ArraySpec,
    FloatSpec,
    Guard,
    NativePlan,
    OutSpec,
    StepSpec,
    launch,
    make_entry,
    prepare,
    run,
)

X = np.arange(8.0)


def spec(array, writeable=None):
    return ArraySpec(array.dtype, array.shape, array.strides, writeable)


def out(array, scalar=False):
    return OutSpec(array.dtype, array.shape, array.strides, scalar)


def axpb(n, source=0, target=1, a=2, b=1, chunk=1 << 20):
    return StepSpec(kernels.axpb.address, n, chunk, [a, b], [(source, 0), (target, 0)])


def plan(x=X, **options):
    """y = 2 * x + 1 for arrays like ``x``."""
    return NativePlan([spec(x, options.pop("writeable", None))], [out(x)], [axpb(x.size)],
                      **options)  # fmt: skip


# what fits


@pytest.mark.parametrize("release_gil", [False, True])
@pytest.mark.parametrize("n", [1, 2])
def test_result(release_gil, n):
    entry = make_entry([plan(release_gil=release_gil)])
    with threads.threads(n):
        y = entry(X)
    assert type(y) is np.ndarray and y.flags.owndata and y.flags.writeable and y.base is None
    np.testing.assert_array_equal(y, 2 * X + 1)
    assert entry(X) is not y


def test_large_result_on_all_threads():
    x = np.random.rand(1 << 20)
    steps = [axpb(x.size, chunk=1 << 14)]
    entry = make_entry([NativePlan([spec(x)], [out(x)], steps, release_gil=True)])
    for n in (1, 2, 5):
        with threads.threads(n):
            np.testing.assert_array_equal(entry(x), 2 * x + 1)


LAYOUTS = {
    "0-d": np.array(3.0),
    "empty": np.zeros((0, 3)),
    "C": np.random.rand(3, 4, 5),
    "Fortran": np.asfortranarray(np.random.rand(3, 4, 5)),
    "K order": np.random.rand(3, 4, 5).transpose(1, 2, 0),
    "extent 1": np.random.rand(4, 1),
    "32 axes": np.random.rand(*[1] * 30, 2, 3),
}


@pytest.mark.parametrize("case", LAYOUTS)
def test_layout(case):
    x = LAYOUTS[case]
    expected = np.empty_like(x)
    y = make_entry([NativePlan([spec(x)], [out(expected)], [axpb(x.size)])])(x)
    assert (y.shape, y.strides, y.flags.num) == (x.shape, expected.strides, expected.flags.num)
    np.testing.assert_array_equal(y, 2 * x + 1)


def test_views_of_one_shape_share_a_plan():
    entry = make_entry([plan()])
    for x in (X, np.random.rand(100)[3:11], np.random.rand(2, 8)[1]):
        np.testing.assert_array_equal(entry(x), 2 * x + 1)


def test_float_argument():
    steps = [StepSpec(kernels.add.address, 8, 8, [3], [(0, 0), (1, 0), (2, 0)])]
    entry = make_entry([NativePlan([spec(X), FloatSpec()], [out(X)], steps)])
    for value in (0.5, -0.0, float("inf"), 1e300):
        np.testing.assert_array_equal(entry(X, value), X + value * 3)
    for other in (1, True, np.float64(1), None, X):
        assert entry(X, other) is MISS


SCALARS = [*"?bBhHiIqQefdgFDG", "m8[s]", "M8[s]"]


@pytest.mark.parametrize("dtype", SCALARS)
def test_scalar_result(dtype):
    """A 0-d result is of NumPy's scalar type, with all its bytes."""
    value = np.ones((), dtype) if dtype[0] not in "mM" else np.array(7, dtype)
    x = np.zeros(4)
    x.view("u1")[: value.itemsize] = np.frombuffer(value.tobytes(), "u1")
    steps = [StepSpec(kernels.copy.address, 4, 4, [], [(0, 0), (1, 0)])]
    result = make_entry([NativePlan([spec(x)], [out(value, scalar=True)], steps)])(x)
    assert type(result) is type(value[()]) and result.dtype == value.dtype
    assert result == value[()]


def test_tuple_result():
    total = StepSpec(kernels.total.address, 1, 1, [8], [(1, 0), (2, 0)])
    outputs = [out(X), out(np.float64(0), scalar=True)]
    for count in (1, 2):
        made = NativePlan([spec(X)], outputs[:count], [axpb(8), total][:count], "tuple")
        result = make_entry([made])(X)
        assert type(result) is tuple and len(result) == count
        np.testing.assert_array_equal(result[0], 2 * X + 1)
    assert type(result[1]) is np.float64 and result[1] == (2 * X + 1).sum()


def test_temporaries_and_offsets():
    """x -> t -> s -> y over two temporaries, then the second half of y once more."""
    steps = [axpb(8, 0, 2), axpb(8, 2, 3), axpb(8, 3, 1),
             StepSpec(kernels.axpb.address, 4, 4, [0, 5], [(0, 32), (1, 32)])]  # fmt: skip
    entry = make_entry([NativePlan([spec(X)], [out(X)], steps, temporaries=[64, 100])])
    expected = 8 * X + 7
    expected[4:] = 5
    np.testing.assert_array_equal(entry(X), expected)


def test_entry_tries_its_plans_in_turn():
    shapes = [(8,), (3,), (2, 4), ()]
    entry = make_entry([plan(np.zeros(shape)) for shape in shapes])
    for shape in shapes:
        x = np.random.rand(*shape)
        np.testing.assert_array_equal(entry(np.asarray(x)), 2 * x + 1)
    assert entry(np.zeros(4)) is MISS and make_entry([])(X) is MISS


# what does not fit


class Subclass(np.ndarray):
    pass


def misaligned():
    return np.zeros(8 * 8 + 1, "u1")[1:].view("f8")


def read_only():
    x = X.copy()
    x.flags.writeable = False
    return x


MISSES = {
    "no argument": (),
    "two arguments": (X, X),
    "list": ([1.0] * 8,),
    "float": (1.0,),
    "None": (None,),
    "NumPy scalar": (np.float64(1),),
    "subclass": (X.view(Subclass),),
    "masked": (np.ma.array(X),),
    "float32": (X.astype("f4"),),
    "integers": (X.astype("i8"),),
    "other byte order": (X.astype(X.dtype.newbyteorder()),),
    "longer": (np.zeros(9),),
    "more axes": (X.reshape(8, 1),),
    "0-d": (np.array(1.0),),
    "strided": (np.zeros(16)[::2],),
    "reversed": (X[::-1],),
    "broadcast": (np.broadcast_to(np.float64(1), 8),),
    "misaligned": (misaligned(),),
}


@pytest.mark.parametrize("case", MISSES)
def test_miss(case):
    entry = make_entry([plan()])
    assert entry(*MISSES[case]) is MISS
    assert repr(entry(*MISSES[case])) == "MISS"


def test_writeable_only_where_the_plan_says():
    assert make_entry([plan()])(read_only()) is not MISS
    strict = make_entry([plan(writeable=True)])
    assert strict(read_only()) is MISS and strict(X) is not MISS


def test_keywords_are_for_the_caller():
    with pytest.raises(TypeError, match="keyword"):
        make_entry([plan()])(x=X)


def test_status_is_an_error():
    x = np.zeros(8, "i8")
    steps = [StepSpec(kernels.fail_at.address, 8, 8, [3], [(1, 0)])]
    for release_gil in (False, True):
        made = NativePlan([spec(x)], [out(x), out(x)], steps, "tuple", release_gil=release_gil)
        assert make_entry([made])(x) is ERROR
    assert repr(ERROR) == "ERROR"


def test_no_memory_is_numpys_exception():
    huge = OutSpec(X.dtype, (1 << 58,), (8,))
    entry = make_entry([NativePlan([spec(X)], [out(X), huge], [axpb(8)], "tuple")])
    with pytest.raises(MemoryError):
        entry(X)
    no_temporary = make_entry([plan(temporaries=[1 << 60])])
    assert no_temporary(X) is ERROR


@pytest.mark.parametrize("buffer", [-1, 2, 100])
def test_unknown_buffer_is_refused(buffer):
    with pytest.raises(ValueError, match="buffers"):
        make_entry([NativePlan([spec(X)], [out(X)], [axpb(8, 0, buffer)])])
    with pytest.raises(ValueError, match="scratch slot 3"):
        prepare([StepSpec(kernels.axpb.address, 1, 1, [], [(0, 0)], 8, 3)], 1)


# what a plan relies on besides its arguments


def test_captured_array():
    w = np.arange(8.0)
    steps = [StepSpec(kernels.add.address, 8, 8, [1], [(0, 0), (2, 8), (1, 0)])]
    entry = make_entry([NativePlan([spec(X)], [out(X)], steps, constants=[w])])
    np.testing.assert_array_equal(entry(X), X + w[1])
    w[1] = 50  # read when called, not when planned
    np.testing.assert_array_equal(entry(X), X + 50)
    w.resize(4, refcheck=False)
    assert entry(X) is MISS


def test_bare_address():
    w = np.arange(8.0)
    steps = [StepSpec(kernels.add.address, 8, 8, [1], [(0, 0), (2, 8), (1, 0)])]
    entry = make_entry([NativePlan([spec(X)], [out(X)], steps, constants=[w.ctypes.data])])
    np.testing.assert_array_equal(entry(X), X + w[1])


def test_guards():
    variable = contextvars.ContextVar("variable", default=None)
    scale, names = "old", {"scale": 2.5}
    cell = (lambda: scale).__closure__[0]
    guards = [Guard(names, names["scale"], "scale"), Guard(cell, scale), Guard(variable, None)]
    entry = make_entry([plan()], guards)

    def hit():
        return entry(X) is not MISS

    assert hit()
    names["scale"] = 3.5
    assert not hit()
    names["scale"] = guards[0].expected
    cell.cell_contents = "new"
    assert not hit()
    del cell.cell_contents
    assert not hit()
    cell.cell_contents = guards[1].expected
    assert hit()
    del names["scale"]
    assert not hit()


def test_guard_on_a_context_variable():
    """As NumPy's errstate does it: a default, and something else inside a block."""
    variable = contextvars.ContextVar("variable", default=X)
    entry = make_entry([plan()], [Guard(variable, X)])
    assert entry(X) is not MISS
    token = variable.set(None)
    assert entry(X) is MISS
    variable.reset(token)
    assert entry(X) is not MISS
    unset = contextvars.ContextVar("unset")
    entry = make_entry([plan()], [Guard(unset, NOTHING)])
    assert entry(X) is not MISS
    assert contextvars.copy_context().run(lambda: (unset.set(1), entry(X)))[1] is MISS


# programs without an entry


def test_program_takes_arrays_and_addresses():
    x, y = X.view(Subclass), np.zeros(8)
    program = prepare([axpb(8, 0, 2), axpb(8, 2, 1)], 2, temporaries=[64])
    for buffers in ((x, y), (x.ctypes.data, y), (X, y.ctypes.data)):
        y[:] = 0
        assert run(program, buffers) == 0
        np.testing.assert_array_equal(y, 4 * X + 3)
    assert launch(prepare([axpb(8)], 2), (X, y)) == 0
    np.testing.assert_array_equal(y, 2 * X + 1)


def test_program_refuses_other_arguments():
    program = prepare([axpb(8)], 2)
    for wrong in ((), (X,), (X, X, X), (X, None), (X, 1.5), (X, "y"), (X, 1 << 70)):
        with pytest.raises((TypeError, OverflowError)):
            program.run(*wrong)


def test_large_temporaries_are_kept_within_bounds():
    n = 1 << 21
    x, y = np.random.rand(n), np.empty(n)
    program = prepare([axpb(n, 0, 2), axpb(n, 2, 1)], 2, temporaries=[8 * n], release_gil=True)
    small = prepare([axpb(8, 0, 2), axpb(8, 2, 1)], 2, temporaries=[64])
    for _ in range(3):
        assert program.run(x, y) == 0 and small.run(X, y) == 0
    kept = [block for block in threads.pool().arenas if block]
    assert len(kept) <= 4
    sizes = [ctypes.c_int64.from_address(block + 8).value for block in kept]
    assert sum(sizes) <= threads.KEEP_BYTES


# lifetimes


def counts(*objects):
    return [sys.getrefcount(thing) for thing in objects]


def test_references_of_every_path():
    """No path of a call changes the reference count of anything it touches."""
    w, value = np.arange(8.0), 1.25
    x = np.zeros(8, "i8")
    fail = StepSpec(kernels.fail_at.address, 8, 8, [3], [(1, 0)])
    total = StepSpec(kernels.total.address, 1, 1, [8], [(1, 0), (2, 0)])
    variable = contextvars.ContextVar("variable", default=w)
    names = {"w": w}
    cell = (lambda: w).__closure__[0]
    guards = [Guard(names, w, "w"), Guard(cell, w), Guard(variable, w)]
    entry = make_entry([
        NativePlan([spec(x)], [out(x), out(x)], [fail], "tuple"),
        NativePlan([spec(X)], [out(X), out(np.float64(0), True)], [axpb(8), total], "tuple",
                   constants=[w]),
        NativePlan([spec(X), FloatSpec()], [out(X)], [axpb(8, 0, 2)]),
    ], guards)  # fmt: skip
    watched = (w, value, x, X, X.dtype, x.dtype, MISS, ERROR, entry, names, cell, variable, float)
    for call in ((x,), (X,), (X, value), (X, X), (None,)):
        entry(*call)
        before = counts(*watched)
        for _ in range(1000):
            entry(*call)
        assert max(abs(a - b) for a, b in zip(counts(*watched), before)) < 5, call


def test_results_are_released():
    entry = make_entry([plan(np.zeros(1000), release_gil=True)])
    x = np.zeros(1000)
    entry(x)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(2000):
            entry(x)
            entry(X)
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] - before < 20_000
        with threads.threads(2):  # the tracer takes the lock wherever Python memory is allocated
            big = np.zeros(1 << 16)
            prepared = prepare([axpb(big.size, 0, 2, chunk=1 << 10), axpb(big.size, 2, 1)], 2,
                               temporaries=[big.nbytes])  # fmt: skip
            assert all(prepared.run(big, big.copy()) == 0 for _ in range(50))
    finally:
        tracemalloc.stop()


def test_entry_keeps_what_it_needs_and_no_longer():
    x = np.arange(8.0).astype(np.dtype("f8", metadata={"unit": "m"}))
    held = weakref.ref(w := np.arange(8.0))
    steps = [StepSpec(kernels.add.address, 8, 8, [1], [(0, 0), (2, 8), (1, 0)])]
    entry = make_entry([NativePlan([spec(x)], [out(X)], steps, constants=[w])])
    del w
    gc.collect()
    assert held() is not None
    np.testing.assert_array_equal(entry(x), np.arange(8.0) + 1)
    structure = weakref.ref(entry.__self__)
    del entry
    gc.collect()
    assert held() is None and structure() is None


def test_cycle_through_a_guard_is_collected():
    names = {}
    names["entry"] = entry = make_entry([plan()], [Guard(names, MISS, "sentinel")])
    structure = weakref.ref(entry.__self__)
    assert entry(X) is MISS
    del names, entry
    gc.collect()
    assert structure() is None


def test_sixteen_threads_call_one_entry():
    x = np.random.rand(1000)
    scratch = [StepSpec(kernels.reversed_by_scratch.address, 10, 1, [100],
                        [(0, 0), (0, 0), (2, 0)], 800, 1), axpb(1000, 2, 1)]  # fmt: skip
    made = [plan(x, release_gil=True), plan(X),
            NativePlan([spec(x.reshape(10, 100))], [out(x)], scratch, temporaries=[8000],
                       release_gil=True)]  # fmt: skip
    entry = make_entry(made)
    expected = 2 * x.reshape(10, 100)[:, ::-1].ravel() + 1

    def work(number):
        with threads.threads(1 + number % 3):
            for _ in range(1000):
                assert entry(x)[number] == 2 * x[number] + 1
                assert entry(X)[number % 8] == 2 * X[number % 8] + 1
                assert (entry(x.reshape(10, 100)) == expected).all()
                assert entry(None) is MISS

    in_threads(16, work)


def test_plan_may_be_replaced_while_it_runs():
    x = np.random.rand(1 << 16)
    holder = [make_entry([plan(x, release_gil=True)])]
    done = threading.Event()

    def work(number):
        if number == 0:
            for _ in range(300):
                holder[0] = make_entry([plan(x, release_gil=True)])
            done.set()
        while not done.is_set():
            assert holder[0](x)[-1] == 2 * x[-1] + 1

    in_threads(4, work)


# the machine code itself


def test_native_text_is_whole():
    """Every function of the text is called by another or exported."""
    trees = ast.parse(native_build._source()).body
    functions = [tree.name for tree in trees if isinstance(tree, ast.FunctionDef)]
    named = {node.id for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert set(functions) - named == {"exports"}
    assert set(native_build.EXPORTS) <= set(functions)
