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


# -- what is stored first, or computed as a whole


def shifted(t, v):
    t[1:-1] = t[:-2] + t[2:]


def of_the_whole(t, v):
    t[5:25] = v - t.max()


def read_after(t, v):
    t[5:25] = v
    return t.sum()


def turned(t, v):
    t[::-1] = t


def all_then_part(t, v):
    t *= 2
    t[5:25] = v


def with_a_call(t, v):
    t[5:25] = np.sort(v)


IN_PLACE = [part, add, ends, backwards, halves, maximum_of_the_part]
IN_ORDER = [twice, from_another_part, old_part_returned, old_part_elsewhere, returned]
OTHERS = [
    *IN_ORDER, steps, every_other, shifted, of_the_whole, read_after, all_then_part, with_a_call,
    turned,
]  # fmt: skip
LAYOUTS = {
    "C": lambda t: t,
    "strided": lambda t: np.repeat(t, 2, axis=-1)[..., ::2],
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


@pytest.mark.parametrize("function", IN_ORDER)
def test_parts_that_meet_are_changed_one_after_the_other(function):
    low = fusec.jit(function).lower(np.ones(1_000_000), np.ones(20))
    assert low.explain().bytes_moved <= 1000
    assert low.explain().bytes_peak <= 160  # the results


# -- what is computed of other elements that it changes: the loop runs towards them


def pushed(t):
    t[:-1] = t[1:]
    t[-1] = 7


def pushed_back(t):
    t[1:] = t[:-1]
    t[0] = 7


def pushed_by_three(t):
    t[3:] = t[:-3] * 2 + t[3:]


def differences(t):
    t[1:] -= t[:-1]


def every_second(t):
    t[2::2] = t[:-2:2]


def swapped(t):
    half = len(t) // 2
    old = t[:half].copy()
    t[:half] = t[half : 2 * half]
    t[half : 2 * half] = old


def columns(t):
    t[..., 1:] = t[..., :-1]
    t[..., 0] = 7


def turned_halves(t):
    t[1:] += t[-2::-1]


def three_points(t):
    t[1:-1] = t[:-2] + t[1:-1] + t[2:]


def across(t):
    t[1:, :-2] = t[:-1, 2:] + 1


def across_backwards(t):
    t[:-1, 3:] = t[1:, :-3] - t[:-1, 3:]


def all_sides(t):
    t[1:-1, 1:-1] = t[2:, 1:-1] + t[:-2, 1:-1] + t[1:-1, 2:] + t[1:-1, :-2]
    t[0] = t[1]
    t[:, -1] = t[:, -2]


def few_columns(t):
    t[1:, :3] = t[:-1, 1:4]


def sums_of_old_values(t):
    old = t[1:].sum(axis=1), t[1:].max(), t[2:].sum()
    t[1:] *= 2
    t[2:] += 1
    return old


def rows_normalised(t):
    t[1:] //= 1 + abs(t[1:]).max(axis=1, keepdims=True)
    t[:-1] = t[1:]


def eliminated(t):
    t[2:] -= np.outer(t[2:, 1], t[1])


SHIFTS = [pushed, pushed_back, pushed_by_three, differences, swapped, columns]
OF_LINES = [*SHIFTS, every_second, turned_halves, three_points]
OF_TABLES = [
    across, across_backwards, all_sides, few_columns, rows_normalised, eliminated,
    sums_of_old_values,
]  # fmt: skip


@pytest.mark.parametrize("dtype", ["f8", "f4", "i2", "c16"])
@pytest.mark.parametrize("shape", [(9,), (1000,), (5, 9), (9, 5), (70, 300), (300, 4)])
@pytest.mark.parametrize("function", OF_LINES + OF_TABLES)
def test_old_values_are_read_before_they_are_overwritten(function, shape, dtype):
    if function in OF_TABLES and (len(shape) == 1 or (dtype == "c16" and "norm" in str(function))):
        return
    start = RNG.integers(-9, 9, shape).astype(dtype)
    f = fusec.jit(function)
    for layout in (*LAYOUTS.values(), np.asfortranarray):
        mine, plain = (layout(start.copy()) for _ in range(2))
        with fusec.threads(2):
            for _ in range(2):
                for a, b in zip(f(mine) or (), function(plain) or ()):
                    np.testing.assert_array_equal(a, b)
                np.testing.assert_array_equal(mine, plain)


@pytest.mark.parametrize("function", SHIFTS)
@pytest.mark.parametrize("shape", [(100_000,), (300, 400)])
def test_shifts_need_no_memory(function, shape):
    low = fusec.jit(function).lower(np.ones(shape))
    assert low.explain().bytes_peak == 0
    assert low.explain().bytes_moved <= 3 * 8 * np.prod(shape)


STATEMENTS = [
    "{0} = {1} + 0", "{0} = {1} - {2}", "{0} += {1} * 2", "{0} -= {1} + {0}", "t[i] += 1",
    "{0} = np.sort({1})", "t[i] = t[i[::-1]] * 2", "r.append(t.sum())", "t[3] = t[-1]",
    "r.append({1} * 2)", "r.append({0}.sum()); {0} *= 2", "r.append(t.max()); t -= t.min()",
    "old = {1} + 0; {0} = {2} + 0; {2} = old", "np.add.at(t, i, 1.0)",
    "{0} -= {1}.max()", "t *= 2", "{0} = u[:len({0})] + {1}", "u[1:] = u[:-1] + t[1:]",
]  # fmt: skip


@pytest.mark.parametrize("seed", range(60))
def test_random_chains(seed):
    rng = np.random.default_rng(seed)

    def part(length):
        step = rng.choice([1, 1, 1, -1, 2]) if 2 * length < 40 else rng.choice([1, -1])
        first = rng.integers(0, 41 - abs(step) * (length - 1) - 1)
        last = first + abs(step) * (length - 1)
        if step > 0:
            return f"t[{first}:{last + 1}:{step}]"
        return f"t[{last}:{first - 1 if first else ''}:{step}]"

    lines = []
    for _ in range(rng.integers(1, 6)):
        length = int(rng.choice([1, 7, 19, 38, 39]))
        lines.append(rng.choice(STATEMENTS).format(*[part(length) for _ in range(3)]))
    text = "def f(t, u, i):\n    r = []\n" + "".join(f"    {x}\n" for x in lines)
    names = {"np": np}
    exec(text + "    return r", names)
    for i in (rng.integers(-40, 40, 6), np.array([3, 50]), rng.integers(-40, 40, 6)):
        mine = [rng.integers(-9, 9, 40).astype("f8") for _ in range(2)]
        plain = [x.copy() for x in mine]
        try:
            want = names["f"](*plain, i)
        except IndexError:
            with pytest.raises(IndexError):
                fusec.jit(names["f"])(*mine, i)
        else:
            np.testing.assert_equal(fusec.jit(names["f"])(*mine, i), want, err_msg=text)
        np.testing.assert_equal(mine, plain, err_msg=text)


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


# -- few elements that are computed of others: only they are read and stored


def boundary(u):
    u[0], u[-1] = u[1], u[-2]
    u[:, 0] = u[:, 1]
    u[:, -1] = 2 * u[:, -2] - u[:, -3]


def exchanged(u):
    u[0], u[-1] = u[-1], u[0]


def turned_corner(u):
    corner = u[:4, 1:5:2]
    corner[...] = corner[::-1].copy()


def again_and_again(u):
    u[2:5, 3:9] = u[4:7, 1:7]
    u[3:6, 5:7] += u[2:5, 4:6]
    u[6, ::-7] = u[3, ::7]


def old_one_returned(u):
    old = u[0] * 2
    u[0] = u[1]
    u[1] = u[0] + u[2]
    return old, u[3, 3]


def of_all(u):
    u[0] = u.max()
    u[1] = np.sort(u[2])


def with_a_check(u):
    u[0] = u[1]
    u[2] = u[np.argsort(u[:, 0])[3]]


SMALL_PARTS = [boundary, exchanged, turned_corner, old_one_returned]


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["f8", "i2", "?", "c8", "f2"])
@pytest.mark.parametrize("function", [*SMALL_PARTS, again_and_again, of_all, with_a_check])
def test_few_elements_as_numpy(function, dtype, order):
    if dtype == "?" and function in (boundary, again_and_again, old_one_returned):
        return  # NumPy subtracts no booleans, and adds no others to them in place
    u = np.asarray(RNG.integers(0, 99, (150, 140)).astype(dtype), order=order)
    plain, f = u.copy(order="K"), fusec.jit(function)
    for _ in range(3):
        got, want = f(u), function(plain)
        np.testing.assert_array_equal(u, plain)
        assert (got is None) == (want is None)
        for mine, numpys in zip(got or (), want or ()):
            np.testing.assert_array_equal(mine, numpys)


@pytest.mark.parametrize("function", SMALL_PARTS)
def test_few_elements_move_few_bytes(function):
    low = fusec.jit(function).lower(np.ones((1000, 1000)))
    assert low.explain().bytes_moved < 200_000


def test_parts_of_any_length_are_compared():
    """By their ends: going over all places took seconds."""
    low = fusec.jit(pushed).lower(fusec.ShapeDtype((10**12,), "f8"))
    assert low.explain().bytes_peak == 0


# -- old values that are read late


def copied_and_changed(t):
    old = t.copy()
    t[5:9] = 7
    old[:2] = t[5:7]
    return old * 2


def changed_by_itself(t):
    old = t * 1
    t[5:9] = t[1:5]
    old[:2] = t[5:7]
    return old, old.sum()


def put_beside(t):
    t[1:] = 0
    both = np.concatenate([t, np.sqrt(t)])
    t[0] = 5
    return both


def put_beside_old_ones(t):
    old = np.pad(t, 2)
    t[1:] = 0
    both = np.concatenate([t, old])
    t[0] = 5
    return both, old


def stacked(t):
    three = t * 3
    t[1:] = three[:-1]
    both = np.stack([t, three])
    t[0] += both[0, 3]
    return both


@pytest.mark.parametrize(
    "function",
    [copied_and_changed, changed_by_itself, put_beside, put_beside_old_ones, stacked],
)
def test_values_of_before_an_update_in_other_arrays(function):
    f, mine, plain = fusec.jit(function), np.arange(1.0, 41), np.arange(1.0, 41)
    for _ in range(2):
        got, want = f(mine), function(plain)
        np.testing.assert_equal(got, want)
        np.testing.assert_array_equal(mine, plain)


def two_changed(a, b):
    a[0], b[0] = b[1], a[1]
    b[-1] = a[0] + b[0]


def test_two_arguments_of_each_other():
    mine = [RNG.normal(size=400), RNG.normal(size=400)]
    plain = [x.copy() for x in mine]
    f = fusec.jit(two_changed)
    for _ in range(3):
        f(*mine)
        two_changed(*plain)
        np.testing.assert_array_equal(mine, plain)


def test_an_argument_whose_elements_share_memory_is_numpys():
    shared = np.lib.stride_tricks.as_strided(np.zeros(10), (30,), (0,))
    plain = np.lib.stride_tricks.as_strided(np.zeros(10), (30,), (0,))
    f = fusec.jit(part)
    for first in range(3):
        f(shared, np.arange(first, first + 20.0))
        part(plain, np.arange(first, first + 20.0))
        np.testing.assert_array_equal(shared, plain)


def test_values_that_overlap_the_argument():
    t, plain = np.arange(50.0), np.arange(50.0)
    fusec.jit(part)(t, t[:20])
    part(plain, plain[:20])
    np.testing.assert_array_equal(t, plain)


# -- places that data choose


def assign(t, i, v):
    t[i] = v


def augment(t, i, v):
    t[i] += v


def add_at(t, i, v):
    np.add.at(t, i, v)


def exchange(t, i, v):
    t[i] = t[i[::-1]] * 2


def one(t, i, v):
    t[i[0]] = v[0]


def of_one_value(t, i, v):
    """Places to read at are checked, although all that is there is the same."""
    t[:] = v[0]
    t[i] = t[i[::-1] + 1]


def sum_before(t, i, v):
    s = t.sum()
    t[i] = v
    return s


def places_of_itself(t, i, v):
    t[np.argsort(t)[:3]] = v[:3]


def checked_elsewhere(t, i, v):
    t[i] = v
    return v[i % 40]


def called_elsewhere(t, i, v):
    t[i] = v
    return np.sort(v)


def assign_twice(t, i, v):
    t[i] = v
    t[i + 1] *= 2


def assign_and_read(t, i, v):
    t[i] = v
    return t[i].sum()


def two_arguments(t, i, v):
    t[i] = v
    v[i % 20] += 1


def from_a_changed_one(t, i, v):
    t[i] = v
    v[i % 20] = 0


def into_a_changed_one(t, i, v):
    v[i % 20] += t[i]
    t[i] = 7


SCATTERED = [
    from_a_changed_one, into_a_changed_one, assign, augment, add_at, exchange, one, sum_before,
    places_of_itself, checked_elsewhere, called_elsewhere, assign_twice, assign_and_read,
    two_arguments, of_one_value,
]  # fmt: skip
LAST = {"inside": 250, "outside": 300, "far below": -301}


@pytest.mark.parametrize("last", LAST)
@pytest.mark.parametrize("dtype", ["f8", "i4", "c16"])
@pytest.mark.parametrize("function", SCATTERED)
def test_scattered(function, dtype, last):
    """Equal places, and places outside: then nothing has been changed."""
    t = RNG.integers(-9, 9, 300).astype(dtype)
    v, i = RNG.integers(-9, 9, 20).astype(dtype), RNG.integers(-9, 9, 20)
    i[-1] = LAST[last]
    mine, plain = [t.copy(), v.copy()], [t.copy(), v.copy()]
    f = fusec.jit(function)
    for _ in range(3):
        try:
            want = function(plain[0], i, plain[1])
        except IndexError as e:
            with pytest.raises(IndexError, match=str(e)[:30]):
                f(mine[0], i, mine[1])
        else:
            got = f(mine[0], i, mine[1])
            np.testing.assert_allclose(got, want) if want is not None else None
        for a, b in zip(mine, plain):
            np.testing.assert_array_equal(a, b)


def test_a_changed_argument_is_read_before_it_is_changed():
    """Whichever of the two comes first among the arguments."""

    def move(u, t, i, j):
        t[i] = u
        u[j] = 0

    mine, plain = [[np.arange(20.0) + 100, np.arange(50.0)] for _ in range(2)]
    i, j = np.arange(20) * 3 % 50, np.arange(20)
    fusec.jit(move)(*mine, i, j)
    move(*plain, i, j)
    for a, b in zip(mine, plain):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("function", [assign, augment, add_at])
@pytest.mark.parametrize("view", ["C", "F", "strided", "rows"])
def test_scattered_rows(function, view):
    def made():
        t = np.arange(60 * 8.0).reshape(60, 8)
        return {"C": t, "F": np.asfortranarray(t), "strided": t[:, ::2], "rows": t[::3]}[view]

    mine, plain, i = made(), made(), RNG.integers(-9, 9, 20)
    v = RNG.normal(size=(20, mine.shape[1]))
    fusec.jit(function)(mine, i, v)
    function(plain, i, v)
    np.testing.assert_array_equal(mine, plain)


@pytest.mark.parametrize("function", [assign, augment, add_at, exchange, one])
def test_only_the_places_are_moved(function):
    low = fusec.jit(function).lower(np.ones((1000, 1000)), np.arange(4), np.ones((4, 1000)))
    assert low.explain().bytes_moved < 500_000


@pytest.mark.parametrize("call", [lambda x: x.sort(), lambda x: x.partition(2)])
def test_sorting_a_read_only_array_says_what_numpy_says(call):
    x = np.arange(5.0)
    x.flags.writeable = False
    with pytest.raises(ValueError) as wanted:
        call(x)
    with pytest.raises(ValueError, match=f"^{wanted.value}$"):
        fusec.jit(call)(x)
