"""Parts of arguments that are changed: done in their memory, whatever else the function reads."""

import numpy as np
import pytest

import fusec

RNG = np.random.default_rng(3)


def part(t, v):
    t[5:25] = v


def add(t, v):
    t[5:25] += v * 2


def ends(t, v):
    t[0] = v[0]
    t[-1] = t[-1] * 2


def backwards(t, v):
    t[24:4:-1] = v


def steps(t, v):
    t[: 3 * len(v) : 3] = v


def every_other(t, v):
    t[::2] = v[0]
    t[1::2] += 1


def halves(t, v):
    t[:20] = v
    t[20:40] -= v
    return v.sum()


# -- what needs old values elsewhere, or changes elements twice: all of the new value is computed


def shifted(t, v):
    t[1:-1] = t[:-2] + t[2:]


def of_the_whole(t, v):
    t[5:25] = v - t.max()


def twice(t, v):
    t[5:25] = v
    t[20:30] *= 2


def from_another_part(t, v):
    t[:20] = v
    t[30:50] = t[20:40]


def old_part_returned(t, v):
    old = t[5:25] + 1
    t[5:25] = v
    return old


def old_part_elsewhere(t, v):
    t[5:25], t[30:50] = t[30:50] + v, t[5:25] + v


def maximum_of_the_part(t, v):
    t[5:25] -= t[5:25].max()


def returned(t, v):
    t[5:25] = v
    return t


def read_after(t, v):
    t[5:25] = v
    return t.sum()


def all_then_part(t, v):
    t *= 2
    t[5:25] = v


def with_a_call(t, v):
    t[5:25] = np.sort(v)


IN_PLACE = [part, add, ends, backwards, halves]
OTHERS = [
    steps, every_other, shifted, of_the_whole, twice, from_another_part, old_part_returned,
    old_part_elsewhere, maximum_of_the_part, returned, read_after, all_then_part, with_a_call,
]  # fmt: skip
LAYOUTS = {
    "C": lambda t: t,
    "strided": lambda t: np.repeat(t, 2)[::2],
    "reversed": lambda t: t[::-1].copy()[::-1],
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["f8", "f4", "i2"])
@pytest.mark.parametrize("function", IN_PLACE + OTHERS)
def test_as_numpy(function, dtype, layout):
    t = RNG.integers(-9, 9, 300).astype(dtype)
    v = RNG.integers(-9, 9, 20).astype(dtype)
    mine, plain = LAYOUTS[layout](t.copy()), LAYOUTS[layout](t.copy())
    f = fusec.jit(function)
    for _ in range(3):
        with np.errstate(all="ignore"):
            try:
                want = function(plain, v)
            except Exception as e:
                with pytest.raises(type(e)):
                    f(mine, v)
                return
        got = f(mine, v)
        assert (got is mine) == (want is plain)
        if want is not plain:
            np.testing.assert_array_equal(got, want)
        np.testing.assert_array_equal(mine, plain)


@pytest.mark.parametrize("function", IN_PLACE)
def test_only_the_part_is_moved(function):
    low = fusec.jit(function).lower(np.ones(1_000_000), np.ones(20))
    assert low.explain().bytes_moved <= 1000
    assert low.explain().bytes_moved == low.explain().bytes_least
    assert low.explain().bytes_peak <= 8  # the results


def rows(t, v):
    t[3] = v
    t[1] += v * t[1]
    t[0, 2] = np.sqrt(t[0, 2] ** 2)
    t[5:7, 1:] *= 2


def column(t, v):
    t[:, 2] = 1
    t[-1, ::-1] = v


def box(t, v):
    t[2:-2, 2:-2] += v[2:-2]


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("function", [rows, column, box])
@pytest.mark.parametrize("shape", [(9, 5), (200, 70), (3000, 40)])
def test_tables(function, shape, order):
    t = np.asarray(RNG.normal(size=shape), order=order)
    v, plain = RNG.normal(size=shape[1]), t.copy(order="K")
    with fusec.threads(2):
        fusec.jit(function)(t, v)
    function(plain, v)
    np.testing.assert_array_equal(t, plain)


def test_an_argument_whose_elements_share_memory_is_numpys():
    shared = np.lib.stride_tricks.as_strided(np.zeros(10), (30,), (0,))
    plain = np.lib.stride_tricks.as_strided(np.zeros(10), (30,), (0,))
    fusec.jit(part)(shared, np.arange(20.0))
    part(plain, np.arange(20.0))
    np.testing.assert_array_equal(shared, plain)


def test_values_that_overlap_the_argument():
    t, plain = np.arange(50.0), np.arange(50.0)
    fusec.jit(part)(t, t[:20])
    part(plain, plain[:20])
    np.testing.assert_array_equal(t, plain)

