"""Additions at places that data choose: NumPy's bits on the CPU, the same in every run on CUDA."""

import os

import numpy as np
import pytest
from simulated import check_assembled, has_ptxas, program, run

import fusec

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


def row(table, values):
    return pairs(table, np.array([3, 3]), slice(None), values)


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
