"""Additions at places that data choose: NumPy's bits on the CPU, the same in every run on CUDA."""

import os
from dataclasses import replace

import numpy as np
import pytest
from simulated import check_assembled, has_ptxas, program, run

import fusec
from fusec.codegen.backends import BACKENDS
from fusec.codegen.emit_cuda import CudaLimits, emit_cuda
from fusec.runtime.device import get_device

simulated = pytest.mark.skipif(
    not os.environ.get("NUMBA_ENABLE_CUDASIM"), reason="needs NUMBA_ENABLE_CUDASIM=1"
)
assembled = pytest.mark.skipif(
    bool(os.environ.get("NUMBA_ENABLE_CUDASIM")) or not has_ptxas(), reason="needs ptxas"
)
_rng = np.random.default_rng(5)


def count(places, *weights):
    return np.bincount(places, *weights, minlength=9)


def bins(x):
    return np.bincount(np.clip(np.floor(x * 2 + 4), 0, 8).astype(int), x * x, minlength=9)


def added(table, places, values):
    table = table.copy()
    np.add.at(table, places, values)
    return table


def pairs(table, i, j, values):
    return added(table, (i, j), values)


def diagonal(table, j, values):
    return pairs(table, np.arange(len(table)), j, values)


def across(table, places, values):
    return added(table.transpose(2, 0, 1), places, values)


def row(table, values):
    return pairs(table, np.array([3, 3]), slice(None), values)


def taken(table, places, values, which):
    return added(table, places, values[which] * 2)


def columns(table, places, values, which):
    return added(table, places, values[which, np.arange(values.shape[1])])


def three(table, i, k, values):
    return added(table, (i, np.arange(5)[:, None], k), values)


def turned(table, places, values):
    return pairs(table, np.arange(len(table))[::-1], places, values)


def upside_down(table, places, values):
    return added(table[::-1, ::2], places, values)


def masked(table, places, values):
    return added(table, places, np.where(values > 0, values, 0))


def in_place(table, places, values):
    np.add.at(table, places, values)
    return table


def less(table, places, values):
    table = table.copy()
    np.subtract.at(table, places, values)
    return table


def assigned(table, places, values):
    table = table.copy()
    table[places] = values
    return table


def shuffled_columns(table, places, values):
    table = table.copy()
    table[1:, places] = np.abs(values) + 1
    return table


def normal(*shape, dtype="f8"):
    return _rng.normal(size=shape).astype(dtype)


def whole(high, *shape, low=0, dtype="i8"):
    return _rng.integers(low, high, shape).astype(dtype)


#: name: (function, arguments, kernels in the simulator)
SCATTERS = {
    "counts": (count, (whole(9, 200),), 2),
    "counts of bytes": (count, (whole(9, 50, dtype="u1"),), 2),
    "counts in shared memory": (count, (whole(9, 2000),), 2),
    "counts of nothing": (count, (whole(9, 0),), 2),
    "weights": (count, (whole(9, 70), normal(70)), 2),
    "weights in chunks": (count, (whole(9, 800), normal(800)), 4),
    "integer weights": (count, (whole(9, 70), whole(9, 70)), 2),
    "computed places": (bins, (normal(90),), 2),
    "rows": (added, (normal(7, 5), whole(7, 20, low=-7), normal(20, 5)), 2),
    "rows in chunks": (added, (normal(3, 5, dtype="f4"), whole(3, 600), normal(600, 5, dtype="f4")),
                       4),
    "rows, Fortran order": (added, (np.asfortranarray(normal(7, 5)), whole(7, 20), normal(20, 5)),
                            2),
    "one column": (added, (normal(7, 1), whole(7, 20), normal(20, 1)), 2),
    "int16": (added, (whole(9, 7, dtype="i2"), whole(7, 30), whole(9, 30, dtype="i2")), 2),
    "uint32 rows": (added, (whole(9, 7, 3, dtype="u4"), whole(7, 30), whole(9, 30, 3, dtype="u4")),
                    2),
    "no values": (added, (normal(7, 5), whole(7, 0), normal(0, 5)), 2),
    "complex": (added, (normal(7) + 1j, whole(7, 20, 3), normal(20, 3) * 1j), 2),
    "two indices": (pairs, (normal(7, 5, 4), whole(7, 20, 1), whole(5, 1, 3), normal(20, 3, 4)), 2),
    "one row": (row, (normal(7, 5), normal(5)), 2),
    "a place in each row": (diagonal, (normal(7, 5), whole(5, 7), normal(7)), 2),
    "values at places": (taken, (normal(7, 5), whole(7, 20), normal(9, 5), whole(9, 20, low=-9)),
                         2),
    "ordered": (added, (normal(7, 5), whole(7, 450, low=-7), normal(450, 5)), 7),
    "assigned": (assigned, (normal(9), whole(9, 30, low=-9), normal(30)), 2),
    "assigned bytes": (assigned, (whole(9, 7, dtype="i1"), whole(7, 30), whole(9, 30, dtype="i1")),
                       2),
    "assigned booleans": (assigned, (normal(9) > 0, whole(9, 30), normal(30) > 0), 2),
    "assigned complex": (assigned, (normal(9, 2) + 1j, whole(9, 20), normal(20, 2) * 1j), 3),
    "assigned rows": (assigned, (normal(7, 5), whole(7, 20, low=-7), normal(20, 5)), 3),
    "assigned columns": (shuffled_columns, (normal(5, 7), whole(7, 20), normal(4, 20)), 3),
    "assigned one number": (assigned, (normal(7, 5), whole(7, 3), np.float64(4)), 3),
    "assigned, Fortran order": (assigned, (np.asfortranarray(normal(7, 5)), whole(7, 20),
                                           normal(20, 5)), 3),
    "assigned in the order of places": (assigned, (normal(40), whole(40, 900), normal(900)), 6),
}  # fmt: skip
every = pytest.mark.parametrize("name", SCATTERS)


@every
def test_the_cpu_adds_in_the_order_of_numpy(name):
    function, args, _ = SCATTERS[name]
    want = function(*args)
    for n in (1, 3):
        with fusec.threads(n):
            got = fusec.jit(function)(*args)
        assert (got.dtype, got.strides) == (want.dtype, want.strides)
        np.testing.assert_array_equal(got, want)
    assert not fusec.jit(function).lower(*args).explain().calls


@simulated
@every
def test_the_simulator_agrees(name):
    function, args, kernels = SCATTERS[name]
    want, (got,) = function(*args), run(function, *args)
    assert got.dtype == want.dtype
    np.testing.assert_allclose(got, want, rtol=1e-5 if want.dtype == "f4" else 1e-13)
    assert len(program(function, *args).kernels) == kernels
    np.testing.assert_array_equal(run(function, *args)[0], got)  # the same bits again


@assembled
@every
def test_they_assemble(name):
    function, args, _ = SCATTERS[name]
    for kernel in program(function, *args, target="cuda").kernels:
        check_assembled(kernel)


# -- ordered by place -----------------------------------------------------------------------------

#: name: (function, arguments, passes of the sort with 32 digits at most, whether the bits are
#: NumPy's because no place is added to more often than 32 times)
ORDERED = {
    "one value": (added, (normal(7), whole(7, 1), normal(1)), 0, True),
    "no values": (added, (normal(7), whole(7, 0), normal(0)), 0, True),
    "an odd number": (added, (normal(7), whole(7, 37, low=-7), normal(37)), 1, False),
    "one place": (added, (normal(1), whole(1, 40), normal(40)), 1, False),
    "all at one place": (added, (normal(7, 3), np.full(150, 4), normal(150, 3)), 1, False),
    "a place for each": (added, (normal(65), _rng.permutation(65), normal(65)), 2, True),
    "more places than values": (added, (normal(1100), whole(1100, 70), normal(70)), 3, True),
    "rows": (added, (normal(7, 5), whole(7, 137, low=-7), normal(137, 5)), 1, False),
    "rows of float32": (added, (normal(70, 5, dtype="f4"), whole(70, 99, dtype="i4"),
                                normal(99, 5, dtype="f4")), 2, True),
    "Fortran order": (added, (np.asfortranarray(normal(7, 5)), whole(7, 40), normal(40, 5)), 1,
                      True),
    "strides": (upside_down, (normal(7, 6), whole(7, 40), normal(40, 3)), 1, True),
    "complex": (added, (normal(7) + 1j, whole(7, 20, 3), normal(20, 3) * 1j), 1, False),
    "int16": (added, (whole(9, 7, dtype="i2"), whole(7, 70), whole(9, 70, dtype="i2")), 1, True),
    "two indices": (pairs, (normal(7, 5, 4), whole(7, 20, 1), whole(5, 1, 3), normal(20, 3, 4)), 2,
                    True),
    "all of a row": (across, (normal(7, 2, 5), whole(5, 30), normal(30, 7, 2)), 1, True),
    "a place in each row": (diagonal, (normal(7, 5), whole(5, 3, 7), normal(3, 7)), 2, True),
    "rows from the last": (turned, (normal(7, 5), whole(5, 3, 7), normal(3, 7)), 2, True),
    "weights": (count, (whole(9, 70), normal(70)), 1, False),
    "computed places": (bins, (normal(90),), 1, False),
    "values at places": (taken, (normal(7, 5), whole(7, 40), normal(9, 5), whole(9, 40, low=-9)),
                         1, True),
    "values at a place of each column": (columns, (normal(7, 5), whole(7, 40), normal(9, 5),
                                                   whole(9, 40, 5, low=-9)), 1, True),
    "places in each row of three": (three, (normal(3, 5, 4), whole(3, 20, 1, 1), whole(4, 20, 5, 2),
                                            normal(20, 5, 2)), 2, True),
    "a batch": (fusec.vmap(count), (whole(9, 4, 20), normal(4, 20)), 2, True),
    "a mask": (masked, (normal(7), whole(7, 40), normal(40)), 1, True),
    "in place": (in_place, (normal(7, 3), whole(7, 40), normal(40, 3)), 1, True),
    "assigned": (assigned, (normal(7), whole(7, 40, low=-7), normal(40)), 1, True),
    "assigned often": (assigned, (normal(7), np.full(150, 4), normal(150)), 1, True),
    "assigned rows": (assigned, (normal(7, 3), whole(7, 90), normal(90, 3)), 1, True),
    "assigned columns": (shuffled_columns, (normal(5, 7), whole(7, 40), normal(4, 40)), 1, True),
    "subtracted": (less, (normal(7, 3), whole(7, 40), normal(40, 3)), 1, True),
}  # fmt: skip


def order_all(monkeypatch, threads, each=2):
    """Let the simulator sort whatever can be sorted."""
    limits = CudaLimits(threads=threads, serial=0, each=each)
    backend = replace(BACKENDS["simulator"], emit=lambda *given: emit_cuda(*given, limits))
    monkeypatch.setitem(BACKENDS, "simulator", backend)


@simulated
@pytest.mark.parametrize("name", ORDERED)
def test_additions_ordered_by_place(name, monkeypatch):
    function, args, passes, exact = ORDERED[name]
    order_all(monkeypatch, threads=32)
    (got,), made = run(function, *args), program(function, *args)
    want = np.asarray(function(*[a.copy(order="K") for a in args]))
    assert (got.dtype, got.shape) == (want.dtype, want.shape)
    near = 0 if exact else 1e-5 if want.dtype == "f4" else 1e-13
    np.testing.assert_allclose(got, want, rtol=near, atol=near)
    assert sum("match_any" in k.text for k in made.kernels) == passes


@simulated
def test_blocks_of_many_warps_order_additions(monkeypatch):
    """More than one warp a block, and more than one block."""
    order_all(monkeypatch, threads=64)
    args = normal(14), whole(14, 333), normal(333)
    np.testing.assert_allclose(run(added, *args)[0], added(*args), rtol=1e-13)
    assert program(added, *args).kernels[1].grid == (3, 1)


@simulated
@pytest.mark.parametrize("places", [[1, 9], [-8, 0]])
@pytest.mark.parametrize("function", [in_place, added])
def test_places_out_of_range_when_ordered(function, places, monkeypatch):
    order_all(monkeypatch, threads=32)
    args = normal(7), np.tile(places, 30), normal(60)
    table, *rest = [fusec.to_device(a, "simulator") for a in args]
    with pytest.raises(IndexError, match=f"index {places[places[1] == 9]} is out of bounds"):
        np.asarray(fusec.jit(function)(table, *rest))
    np.testing.assert_array_equal(np.asarray(table), args[0])


@simulated
def test_checks_of_single_columns_when_ordered(monkeypatch):
    order_all(monkeypatch, threads=32)
    which = whole(9, 40, 5)
    which[7, 3] = -10
    args = normal(7, 5), whole(7, 40), normal(9, 5), which
    with pytest.raises(IndexError, match="index -10 is out of bounds"):
        np.asarray(fusec.jit(columns)(*[fusec.to_device(a, "simulator") for a in args]))


def values(n, rows, *columns, dtype="f8"):
    shapes = ((rows, *columns), dtype), (n, "i8"), ((n, *columns), dtype)
    return [fusec.ShapeDtype(*given) for given in shapes]


#: (values, rows and columns of the table): kernels and most bytes of temporary memory on a GPU
FORMS = {
    (1_000_000, 50_000, 64): (10, 21e6),  # 16 MB of keys and numbers, before and after a pass
    (1_000_000, 50_000): (10, 21e6),
    (1_000_000, 200): (4, 7e6),  # few places: the chunks' results are smaller than the values
    (1_000_000, 1): (4, 4e4),
    (20_000, 50_000): (10, 1e6),
    (1_000, 50_000, 64): (2, 0),
    (1_500, 1_000_000): (13, 5e6),
    (100_000, 10_000, 64): (10, 3e6),
    (2_000, 100_000_000): (2, 0),  # looking at every place would take longer
    (0, 50_000, 64): (2, 0),
}


@pytest.mark.parametrize("shape", FORMS, ids=str)
def test_the_size_chooses_the_form(shape):
    kernels, room = FORMS[shape]
    made = program(added, *values(*shape), target="cuda")
    assert len(made.kernels) == kernels
    assert sum(made.blocks) <= room


def test_a_device_launches_what_was_planned():
    device = get_device("null:77")
    function, args = fusec.jit(added), [np.zeros(a.shape, a.dtype) for a in values(9000, 50_000)]
    given = [fusec.to_device(a, device) for a in args]
    function(*given)
    assert device.count("launch") == 10
    for _ in range(3):
        function(*given)
    assert device.count("capture") and device.count("replay")


@assembled
@pytest.mark.parametrize("arch", ["sm_80", "sm_90"])
@pytest.mark.parametrize("dtype", ["f4", "f8", "c16", "i1"])
def test_ordered_additions_assemble(dtype, arch):
    for kernel in program(added, *values(200_000, 5000, 30, dtype=dtype), target="cuda").kernels:
        check_assembled(kernel, arch)


def test_one_text_orders_all_sizes():
    sizes = [(5000, 30_000), (1_000_000, 50_000), (77_777, 20_000)]
    texts = [[k.text for k in program(added, *values(*s, 3), target="cuda").kernels] for s in sizes]
    assert texts[0] == texts[1] == texts[2]


def test_few_counters_are_shared_by_a_block():
    low = fusec.jit(lambda x: np.bincount(x, minlength=256)).lower(
        fusec.ShapeDtype((1 << 20,), "i8"), target="cuda:sm_90"
    )
    ptx = low.compile().kernels[1].ptx
    assert ("atom.shared.add.u64" in ptx, "atom.global.add.u64" in ptx) == (True, True)


def test_large_counts_are_made_in_chunks():
    """Counters of many threads, the same for any number of them; the sum is exact."""
    places = whole(100, 300_000, dtype="u2")
    f = fusec.jit(lambda x: np.bincount(x, minlength=100))
    assert len(f.lower(places).kernels) == 3
    for n in (1, 2, 5):
        with fusec.threads(n):
            np.testing.assert_array_equal(f(places), np.bincount(places, minlength=100))


@pytest.mark.parametrize(
    "places, weights",
    [
        (np.array([1, -1]), None), (np.array([1.0]), None), (np.array([2], "u8"), None),
        (np.array([[1]]), None), (np.array([1, 2]), np.ones(3)), (np.array([1]), np.ones(1) * 1j),
        (np.array([1]), np.ones(1, "g")), (np.array([1]), np.ones(1, "f2")), (np.array([]), None),
        (np.array([3, 4]), None), (np.array([3, 40]), np.ones(2)), (np.array([True, False]), None),
    ],
)  # fmt: skip
def test_what_numpy_refuses_or_makes_longer(places, weights):
    def outcome(f):
        try:
            return f(places, weights)
        except (ValueError, TypeError) as error:
            return type(error), str(error)

    want = outcome(lambda x, w: np.bincount(x, w, 4))
    got = outcome(fusec.jit(lambda x, w: np.bincount(x, w, 4)))
    np.testing.assert_equal(got, want)
    assert not isinstance(want, np.ndarray) or got.dtype == want.dtype


DTYPES = ["f4 f8", "f4 f4", "f4 i8", "f2 f4", "f2 f2", "f8 i8", "c8 f8", "c16 f8", "i4 i8", "i2 i4",
          "u1 u1", "i4 ?", "u4 u8"]  # fmt: skip


@pytest.mark.parametrize("ufunc", [np.add, np.subtract], ids=lambda f: f.__name__)
@pytest.mark.parametrize("pair", DTYPES)
def test_dtypes(ufunc, pair):
    """NumPy adds in the common dtype, and rounds to that of the table after each addition."""
    of, given = (np.dtype(d) for d in pair.split())
    table, values = (_rng.integers(0, 200, (n, 3)) for n in (5, 60))
    table, values = table.astype(of), values.astype(given)
    if given.kind in "fc":
        values = values / given.type(7)
    wanted, found, places = table.copy(), table.copy(), whole(5, 60, low=-5)
    ufunc.at(wanted, places, values)
    fusec.jit(ufunc.at)(found, places, values)
    np.testing.assert_array_equal(found, wanted)


def test_they_are_verified():
    args = whole(9, 70), normal(70)
    assert fusec.verify(lambda i, w: np.bincount(i, w * 2, 9), *args)
    assert fusec.verify(lambda i: np.bincount(i, minlength=9), args[0])


def test_weights_have_a_gradient():
    places, w = whole(5, 30), normal(30)
    got = fusec.grad(lambda w: (np.bincount(places, w, 5) ** 2).sum())(w)
    np.testing.assert_allclose(got, 2 * np.bincount(places, w, 5)[places], rtol=1e-13)


def test_counts_of_a_batch():
    places = whole(5, 6, 30)
    got = fusec.vmap(lambda x: np.bincount(x, minlength=5))(places)
    np.testing.assert_array_equal(got, [np.bincount(x, minlength=5) for x in places])
