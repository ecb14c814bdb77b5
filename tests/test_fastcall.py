"""The short way of repeated calls: taken for every kind of argument, where it is right."""

import dataclasses
from typing import NamedTuple

import numpy as np
import pytest

import fusec
from fusec.runtime.native import MISS


class Pair(NamedTuple):
    a: object
    b: object


@dataclasses.dataclass
class Model:
    w: object
    rate: float = 0.5


X, Y = np.arange(4.0), np.ones(4)
W = np.full(4, 2.0)


def taken(compiled, *args, **kwargs):
    """Whether a call goes the short way."""
    for fetch, entry in compiled._fast:
        if fetch is None:
            found = entry(args, kwargs)
        elif kwargs or fetch(()) is None:
            continue
        else:
            found = entry(*args)
        if found is not MISS:
            return True
    return False


CALLS = [
    pytest.param(lambda x, y: x * 2 + y, (X, Y), {}, id="arrays"),
    pytest.param(lambda x, rate: x * (1 - rate), (X, 0.25), {}, id="computed number"),
    pytest.param(lambda x, n: x * n, (X.astype("f4"), 3), {}, id="integer"),
    pytest.param(lambda x, z: x * z, (X, 1 + 2j), {}, id="complex number"),
    pytest.param(lambda x, s: x * s, (X, np.float32(3)), {}, id="NumPy scalar"),
    pytest.param(lambda x, *, y: x - y, (X,), {"y": Y}, id="keyword"),
    pytest.param(lambda p: p[0] * p[1], ([X, Y],), {}, id="list"),
    pytest.param(lambda p: p["a"] + p["b"], ({"a": X, "b": Y},), {}, id="dict"),
    pytest.param(lambda p: Pair(p.b, p.a * 2), (Pair(X, Y),), {}, id="named tuple"),
    pytest.param(lambda m: {"w": m.w * m.rate, "none": None}, (Model(X),), {}, id="dataclass"),
    pytest.param(lambda x, how: x + 1 if how == "up" else x, (X, "up"), {}, id="text"),
    pytest.param(lambda x, none=None: x + 1, (X, None), {}, id="None"),
    pytest.param(lambda x: x * W, (X,), {}, id="captured array"),
    pytest.param(lambda x: [x.sum(), float(2), x[1:]], (X,), {}, id="several kinds of result"),
    pytest.param(lambda x: (x + 1, x), (X,), {}, id="argument as result"),
    pytest.param(lambda x, n: x[: int(n)] * 2, (X, 2), {}, id="number that is part of the program"),
    pytest.param(lambda x: np.sort(-x * 2) + x, (X,), {}, id="call of NumPy"),
    pytest.param(lambda p: (np.argsort(-p["x"], kind="stable"), np.lexsort((p["x"], -p["x"]))),
                 ({"x": X},), {}, id="calls of NumPy"),
    pytest.param(lambda x, q: {"m": np.median(x), "q": np.quantile(x, q=q), "x": x[::-1]},
                 (X, 0.5), {}, id="calls that give numbers"),
    pytest.param(lambda x: x[1:], (X,), {}, id="nothing to run"),
]  # fmt: skip


@pytest.mark.parametrize("function, args, kwargs", CALLS)
def test_short_way_is_taken_and_right(function, args, kwargs):
    compiled = fusec.jit(function)
    want = function(*args, **kwargs)
    for _ in range(3):
        got = compiled(*args, **kwargs)
        assert type(got) is type(want)
        assert repr(got) == repr(want)
    assert taken(compiled, *args, **kwargs)


VIEWS = {  # of a new array: whether all of it is seen, as it lies in memory
    "reshaped": (lambda x: (x * 2).reshape(4, 3), True),
    "flat": (lambda x: np.stack([x, x + 1], axis=-1).reshape(-1), True),
    "transposed": (lambda x: (x * 2).T, True),
    "two": (lambda x: ((x * 2).T, (x + 1).ravel()), True),
    "part": (lambda x: (x * 2)[1:], False),
    "reversed": (lambda x: (x * 2)[::-1], False),
    "read-only": (lambda x: np.broadcast_to(x * 2, (3, 4)), False),
    "twice": (lambda x: next((y, y.T) for y in [x * 2]), False),
    "real": (lambda x: (x * 2j).real, False),  # half of the memory that a kernel fills
    "windows": (lambda x: np.lib.stride_tricks.sliding_window_view(x * 2, (1, 1)), False),
}


@pytest.mark.parametrize("name", VIEWS)
def test_views_of_whole_results_are_made_by_the_entry(name):
    function, whole = VIEWS[name]
    compiled, x = fusec.jit(function), np.arange(12.0).reshape(3, 4)
    for _ in range(3):
        got, want = compiled(x), function(x)
        pairs = zip(got, want) if isinstance(want, tuple) else [(got, want)]
        for a, b in pairs:
            np.testing.assert_array_equal(a, b)
            assert (a.dtype, a.strides, a.flags.writeable) == (
                b.dtype, b.strides, b.flags.writeable)  # fmt: skip
    assert (compiled._fast[0][0] is not None) == whole


@pytest.mark.parametrize(
    "function, args, others",
    [
        (lambda p: p[0] + 1, ([X, Y],), [((X, Y),), ([X],), ([X, Y, X],), (X,)]),
        (lambda p: p["a"] + 1, ({"a": X},), [({"a": X, "b": Y},), ({"a": X.astype("f4")},)]),
        (lambda x, n: x * n, (X, 2), [(X, 2.5), (X, True), (X, 2**70), (X, np.int64(3))]),
        (lambda x, how: x * len(how), (X, "ab"), [(X, "abc"), (X, ("a",))]),
        (lambda x, n: x[: int(n)] * 2, (X, 2), [(X, 3), (X, 1.0)]),
        (lambda x, y=1.0: x + y, (X,), [(X, 2.0), (X, Y)]),
    ],
)
def test_other_arguments_are_noticed(function, args, others):
    compiled = fusec.jit(function)
    for _ in range(3):
        compiled(*args)
    for other in [*others, args, *others]:
        try:
            want = function(*other)
        except Exception as error:
            with pytest.raises(type(error)):
                compiled(*other)
        else:
            got = compiled(*other)
            assert repr(got) == repr(want)
            assert getattr(got, "dtype", None) == getattr(want, "dtype", None)


def test_what_the_function_reads_may_change():
    class Layer:
        def __init__(self):
            self.w, self.rate = np.ones(3), 2.0

        @fusec.jit
        def step(self, x):
            self.w *= self.rate
            return self.w @ x

    one, other = Layer(), Layer()
    for k in range(4):
        for layer in (one, other):
            assert layer.step(np.arange(3.0)) == 3.0 * 2 ** (k + 1)
    one.rate = 3.0
    assert one.step(np.arange(3.0)) == 3.0 * 2**4 * 3
    one.w = np.zeros(3)
    assert one.step(np.arange(3.0)) == 0.0


def test_updates_in_containers_reach_the_caller():
    @fusec.jit
    def update(params, grads, rate):
        for p, g in zip(params, grads):
            p -= rate * g
        return [p.sum() for p in params]

    params, grads = [np.ones(3), np.ones((2, 2))], [np.ones(3), np.full((2, 2), 2.0)]
    for k in range(1, 4):
        sums = update(params, grads, 0.5)
        np.testing.assert_array_equal(params[0], np.ones(3) - 0.5 * k)
        assert sums == [params[0].sum(), params[1].sum()]
    assert taken(update, params, grads, 0.5)
    shared = np.ones(3)
    update([shared, np.ones((2, 2))], [shared, np.ones((2, 2))], 0.5)  # overlap: NumPy runs it
    np.testing.assert_array_equal(shared, np.full(3, 0.5))


def test_static_arguments():
    compiled = fusec.jit(lambda x, n: x.reshape(n, -1).sum(axis=0), static_argnums=(1,))
    x = np.arange(12.0)
    for n in (2, 3, 2, 4, 3):
        np.testing.assert_array_equal(compiled(x, n), x.reshape(n, -1).sum(axis=0))
    assert taken(compiled, x, 3)


def test_python_errors_of_numbers_stay_pythons():
    compiled = fusec.jit(lambda x, a, b: x * (a / b))
    for _ in range(3):
        compiled(X, 1.0, 2.0)
    with pytest.raises(ZeroDivisionError):
        compiled(X, 1.0, 0.0)


def test_equal_static_values_of_other_types_are_other_programs():
    compiled = fusec.jit(lambda x, s: x * s, static_argnums=(1,))
    for _ in range(2):
        for x, s in [(np.ones(2, "i4"), 1), (np.ones(2, "i4"), 1.0), (X, 0.0), (X, -0.0)]:
            got, want = compiled(x, s), x * s
            assert (got.dtype, repr(got)) == (want.dtype, repr(want))


@pytest.mark.parametrize("first", [1, 1.0, True])
def test_equal_keys_of_other_types_are_other_programs(first):
    f = fusec.jit(lambda d: {key: x * 2 for key, x in d.items()})
    for key in (first, 1, 1.0, True, first):
        for _ in range(2):
            (found,) = f({key: np.ones(3)})
            assert type(found) is type(key)


def test_what_a_number_decides_is_part_of_the_program():
    """Not the number itself: another one that decides alike compiles nothing."""
    choose = fusec.jit(lambda x, t: x * 2 if t * 2 > 1 else x * 3)
    x = np.arange(3.0)
    for t in np.linspace(0, 1, 21):
        np.testing.assert_array_equal(choose(x, t), x * 2 if t * 2 > 1 else x * 3)
        np.testing.assert_array_equal(choose(x, float(t)), x * 2 if t * 2 > 1 else x * 3)
    assert [len(plans) for plans in choose._plans.values()] == [2, 2]


FROZEN_SOMETIMES = np.ones(3)


@pytest.mark.parametrize("order", ["wwrrww", "rrwwrr"])
@pytest.mark.parametrize("where", ["argument", "misaligned", "captured"])
def test_writeable_is_asked_at_every_call(order, where):
    odd = np.frombuffer(bytearray(25), np.uint8)[1:].view("f8")
    x = {"argument": np.ones(3), "misaligned": odd, "captured": FROZEN_SOMETIMES}[where]

    def program(x):
        asked = FROZEN_SOMETIMES if where == "captured" else x
        return x * 2 if asked.flags.writeable else x + 3

    jitted = fusec.jit(program)
    for letter in order:
        x.flags.writeable = letter == "w"
        np.testing.assert_array_equal(jitted(x), program(x))
    x.flags.writeable = True


def test_exceptions_of_calls_are_numpys():
    solve = fusec.jit(lambda a, b: np.linalg.solve(a, b) * 2)
    regular, b = np.eye(3) * 2, np.ones(3)
    for _ in range(2):
        np.testing.assert_array_equal(solve(regular, b), b)
    assert taken(solve, regular, b)
    with pytest.raises(np.linalg.LinAlgError, match="Singular"):
        solve(np.zeros((3, 3)), b)
    np.testing.assert_array_equal(solve(regular, b), b)


def test_what_numpy_runs_is_found_the_short_way():
    first = fusec.jit(lambda x, n: np.unique(x)[:n] if x.dtype == "f8" else x * n)
    with pytest.warns(fusec.errors.FallbackWarning, match="unique"):
        first(X, 3)
    assert taken(first, X, 3)
    for others in ((X.astype("f4"), 3), (X[::2], 3), (X, 3.0), ([*X], 3), (X, 3, 3)):
        assert not taken(first, *others)
    np.testing.assert_array_equal(first(X, 2), X[:2])
    np.testing.assert_array_equal(first(X.astype("f4"), 2), X * 2)
    assert first.lower(X.astype("f4"), 2).kernels


# -- signatures of which NumPy runs some calls ---------------------------------------------------


def _fallbacks(compiled):
    return [type(p).__name__ for plans in compiled._plans.values() for p in plans]


def test_a_call_that_prints_leaves_others_alone(capsys):
    def f(x, verbose):
        y = np.exp(x) - x
        if verbose:
            print("largest", y.max())  # noqa: T201
        return y / (1 + y)

    for order in ((True, False), (False, True)):
        compiled = fusec.jit(f)
        for verbose in order * 3:
            np.testing.assert_allclose(compiled(X, verbose), f(X, verbose), rtol=1e-15)
        assert sorted(_fallbacks(compiled)) == ["Fallback", "Plan"]
        assert capsys.readouterr().out.count("largest") == 6
        compiled(X, False)
        assert taken(compiled, X, False)


DEBUG = True


def test_a_flag_outside_the_function(capsys, monkeypatch):
    @fusec.jit
    def f(x):
        if DEBUG:
            print("debug")  # noqa: T201
        return x + 1

    f(X)
    f(X)
    assert _fallbacks(f) == ["Fallback"] and taken(f, X)
    monkeypatch.setitem(globals(), "DEBUG", False)
    for _ in range(3):
        np.testing.assert_array_equal(f(X), X + 1)
    assert sorted(_fallbacks(f)) == ["Fallback", "Plan"] and taken(f, X)
    assert capsys.readouterr().out == "debug\n" * 2


def test_numbers_that_are_new_each_time_are_not_traced_each_time(capsys):
    @fusec.jit
    def f(x, n):
        print(n)  # noqa: T201
        return x * n

    for n in range(1, 12):
        np.testing.assert_array_equal(f(X, n), X * n)
    assert _fallbacks(f).count("Fallback") <= 5
    assert capsys.readouterr().out.split() == [str(n) for n in range(1, 12)]
