"""Python decisions on computed values (``if np.any(x < 0)``): every branch has NumPy's answer."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fusec
from fusec.decided import MOST_OF_A_LINE, MOST_VAIN, Decided, Fallback
from fusec.errors import (
    ConcreteValueError,
    DataDependentShapeError,
    FallbackWarning,
    TracerBoolError,
)

X = np.linspace(-2.0, 3.0, 101)
LIMIT = 1.0


def checked(x):
    if np.any(x < 0):
        raise ValueError(f"negative: {x.min()}")
    if not np.isfinite(x).all():
        raise ArithmeticError("not finite", x.max())
    return np.sqrt(x)


def normalised(x):
    s = x.sum()
    if s > 0:
        return x / s
    if np.isnan(s):
        return np.zeros_like(x)
    return -x


def chosen(x):
    return (x.max() > 2 and x * 2) or -x[:3]


def newton(x):
    x = np.abs(x) + 1
    steps = 0
    while np.abs(x * x - 2).max() > 1e-2:
        x = x - (x * x - 2) / (2 * x)
        steps += 1
    return x, steps


def halved(x):
    while np.abs(x).max() > 1e-4:
        x = x / 2
    return x


def wandering(x):
    for k in range(30):
        x = x / 2 if np.abs(x).max() > 1 + k % 3 else x * 3
    return x


def counted(x):
    total = np.zeros(3)
    for k in range(int((x > 2).sum())):
        total[k % 3] += x[k]
    return total


def updated(x):
    x[0] = 5.0
    if x.sum() > 10:
        x[1:3] = 7.0
    elif x[-1] < 0:
        raise RuntimeError(f"last is {x[-1]}")
    return x * 2


def reused(x):
    product = np.outer(x, x) @ np.ones((x.size, 2))
    if product[0, 0] > 0:
        return product
    return product.sum(axis=0), product


def extremes(x):
    return sorted(x)[:3], any(x > 2.5), all(x > -9), max(x), x.argmax() in (0, 100)


def nested(x):
    return inner(x) if x[0] > 0 else inner(-x)


@fusec.jit
def inner(x):
    if x.mean() > LIMIT:
        return x - x.mean()
    return x + 1


def appended(x, into):
    if x.max() > 2:
        into.append(x.max())
    return len(into)


def known(x):
    found = np.any(x > 2)
    if found:
        return x * found + found
    return np.where(found, x, -x)


def raised(x):
    return x / x[x.argmax() + 60] if x[np.int64(x[0]) + 3] > 0 else x


def twice(x):
    big = x.max() > 2
    y = x + 1 if big else x - 1
    return y * 3 if big else y * 4


FUNCTIONS = [checked, normalised, chosen, newton, halved, wandering, counted, updated, reused,
             extremes, nested, known, raised, twice]  # fmt: skip
INPUTS = [X, -X, X + 2, X * 0, X * np.nan, X[::-1], X.astype("f4"), np.arange(5), np.ones(1)]


def outcome(function, args):
    """What a call gives or raises, and what it leaves of its arguments."""
    args = [a.copy() if isinstance(a, np.ndarray | list) else a for a in args]
    try:
        return function(*args), None, args
    except Exception as error:
        return None, error, args


def same(got, want):
    if isinstance(want, tuple | list):
        assert type(got) is type(want) and len(got) == len(want)
        for g, w in zip(got, want):
            same(g, w)
        return
    assert type(got) is type(want)
    if isinstance(want, np.ndarray | np.generic):
        assert got.dtype == want.dtype and got.shape == want.shape
        tolerance = 1e-12 if want.dtype == np.float64 else 1e-5
        np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance)
    else:
        assert got == want


def compare(jitted, function, *args):
    (got, error, left), (want, expected, wanted) = outcome(jitted, args), outcome(function, args)
    assert type(error) is type(expected) and str(error) == str(expected)
    same(got, want)
    same(left, wanted)


@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::fusec.errors.FallbackWarning")
@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_every_branch_in_any_order(function):
    jitted = fusec.jit(function)
    for k in range(3):
        for x in INPUTS[k:] + INPUTS[:k]:
            compare(jitted, function, x)


def test_a_container_of_the_caller_is_changed_in_one_branch_only():
    jitted = fusec.jit(appended)
    for x in (X, -X * 0.5, X, -X * 0.5):
        compare(jitted, appended, x, [1.0])


def test_the_short_way_takes_every_branch():
    jitted = fusec.jit(normalised)
    for _ in range(3):
        for x in (X + 2, -X - 2, X * np.nan):
            compare(jitted, normalised, x)
    assert len(jitted._fast) == 1
    _, entry = jitted._fast[0]
    for x in (X + 2, -X - 2, X * np.nan):
        same(entry((x,), {}), normalised(x))


def test_what_a_decision_has_computed_is_not_computed_again():
    low = fusec.jit(normalised).lower(X + 2)
    assert [k.title for k in low.kernels] == ["divide"]
    ((decision, ask),) = low.decisions
    assert bool(decision.value) and len(ask.kernels) == 1
    assert ask.kernels[0].bytes_read == X.nbytes
    low = fusec.jit(reused).lower(X + 9)
    ((_, ask),) = low.decisions
    assert [sum(n.op.name == "matmul" for n in x.graph.nodes()) for x in (low, ask)] == [0, 1]


def spaced(x, t):
    n = int(x[-1])
    grid = np.arange(1, n + 1)
    if grid[-1] % 2:
        grid = grid[::-1]
    if not 0 < t <= grid.max():
        raise ValueError(f"{t} is outside of 1 to {grid[-1]}")
    return grid * x[0]


def test_what_follows_from_a_decision_is_no_other():
    low = fusec.jit(spaced).lower(X + 2, 3.0)
    assert [int(decision.value) for decision, _ in low.decisions] == [6]
    jitted = fusec.jit(spaced)
    for shift, t in [(2, 3.0), (2, 4.0), (1, 3.0), (3, 6.0), (2, 3.0), (1, -1.0)]:
        compare(jitted, spaced, X + shift, t)
    for shift, t in [(2, 6.0), (1, 4.5), (2, 6.0)]:
        with pytest.raises(ValueError, match="outside of 1 to"):
            jitted(X + shift, t)
    assert jitted(X + 2, 5.0).shape == (5,)


def test_types_of_extremes_are_decided_where_they_tell():
    low = fusec.jit(lambda x: x / max(x.sum(), 1, 2.5)).lower(X)
    assert (len(low.kernels), low.decisions) == (1, [])
    assert len(fusec.jit(lambda x: max(x.sum(), 1, 2.5)).lower(X).decisions) == 1


COUNTED = {
    "how-many": lambda x: (x * np.flatnonzero(x > 0).size, np.flatnonzero(x).size),
    "places": lambda x: (np.flatnonzero(x.reshape(1, -1) > 0).sum(), np.flatnonzero(x > 0).mean()),
    "size": lambda x: (x[x > 0].size, np.stack([x, x], 1)[x > 1].size / 2),
    "bins": lambda x: np.bincount(np.abs(x).astype(int)) / x.size,
    "weights": lambda x: np.bincount(np.abs(x).astype("u1"), x),
    "negative": lambda x: np.bincount(x.astype(int)),
}


@pytest.mark.parametrize("function", COUNTED.values(), ids=COUNTED)
def test_counts_of_what_data_choose(function):
    jitted = fusec.jit(function)
    for shift in (2.0, 0.0, 3.0, 2.0):
        compare(jitted, function, X + shift)
    (plans,) = jitted._plans.values()
    assert compiled(plans)


def test_explain_tells_of_decisions():
    text = str(fusec.jit(normalised).lower(-X - 2).explain())
    assert "decides: False here, found by 1 kernel" in text
    text = str(fusec.jit(wandering).lower(X).explain())
    assert f"NumPy runs it. It decides on values more than {MOST_OF_A_LINE} times at" in text


@pytest.mark.parametrize("limit, function, inputs", [
    ("MOST_DECISIONS", normalised, [-X - 2]),
    ("MOST_OF_A_LINE", newton, [X]),
    ("MOST_ANSWERS", lambda x: x[: int(x[0])], [X + 2, X + 3, X + 4]),
])  # fmt: skip
def test_each_limit_gives_the_function_to_numpy(monkeypatch, limit, function, inputs):
    monkeypatch.setattr(fusec.decided, limit, 1)
    jitted = fusec.jit(function)
    with pytest.warns(FallbackWarning, match="It decides on"):
        for x in inputs:
            compare(jitted, function, x)
    compare(jitted, function, inputs[0])
    (plans,) = jitted._plans.values()
    assert plans[0].reason.startswith("It decides on")


@pytest.mark.parametrize("function", [
    lambda x: np.unique(x * 2), lambda x: x[x > 0] + 1, lambda x: np.nonzero(x > 0),
    lambda x: np.flatnonzero(x)[-1],
])  # fmt: skip
def test_a_shape_that_depends_on_data(function):
    jitted = fusec.jit(function)
    with pytest.warns(FallbackWarning, match="shape of the result of .* depends on the data"):
        compare(jitted, function, X)
    compare(jitted, function, X - 1)
    assert "depends on the data" in jitted.lower(X).fallback
    with pytest.raises(DataDependentShapeError, match=r"np\.where"):
        jitted.lower(fusec.ShapeDtype(5, "f8"))


def labelled(x):
    """What it decides on is found by kernels, and again by NumPy."""
    for _ in range(20):
        x = x / 2
        if (x < 1).all():
            break
    if x.sum() > 100:
        return x
    return np.unique(x)


def test_decisions_that_lead_to_numpy_are_given_up():
    jitted = fusec.jit(labelled)
    with pytest.warns(FallbackWarning, match="unique"):
        compare(jitted, labelled, X + 20)
    (plans,) = jitted._plans.values()
    assert isinstance(plans[0], Decided)
    for k in range(MOST_VAIN):
        compare(jitted, labelled, X + 20 + k % 3)
    assert "unique" in plans[0].reason
    compare(jitted, labelled, X + 1000)


def test_decisions_that_lead_to_kernels_are_kept():
    jitted = fusec.jit(lambda x: x + 1 if x.sum() > 0 else np.unique(x))
    compare(jitted, jitted.__wrapped__, X + 100)
    with pytest.warns(FallbackWarning, match="unique"):
        compare(jitted, jitted.__wrapped__, X - 100)
    for _ in range(2 * MOST_VAIN):
        jitted(X - 100)
    (plans,) = jitted._plans.values()
    assert isinstance(plans[0], Decided)


@pytest.mark.parametrize("function", [
    lambda x: (x + 1).tolist(), lambda x: np.ma.getdata(np.ma.array(x + 1)), lambda x: range(x),
    lambda x: x * 2 if x.sum() > 0 else sorted(x.tolist()),
])  # fmt: skip
def test_code_that_needs_real_arrays(function):
    jitted = fusec.jit(function)
    with pytest.warns(FallbackWarning, match="needs the value"):
        compare(jitted, function, X - 9)
    compare(jitted, function, X)
    assert "test_decisions.py" in jitted.lower(X - 9).fallback
    with pytest.raises((ConcreteValueError, TracerBoolError), match="needs the value"):
        jitted.lower(fusec.ShapeDtype(5, "f8"))


def test_a_captured_value_that_changes():
    limit = np.array(1.0)

    def above(x):
        return x * 2 if x.max() > limit else x * LIMIT

    jitted = fusec.jit(above)
    for value in (1.0, 5.0, 1.0, 2.9):
        limit[...] = value
        compare(jitted, above, X)
    global LIMIT
    try:
        for LIMIT in (3.0, 1.0, 4.0):
            compare(jitted, above, X - 3)
            compare(fusec.jit(nested), nested, X)
    finally:
        LIMIT = 1.0


@dataclass
class Model:
    w: Any
    calls: int = 0

    def step(self, x):
        self.calls += 1
        error = (self.w * x).sum()
        if error > 0:
            self.w = self.w - 0.1 * x
        return error


def test_a_method_changes_its_object_in_one_branch_only():
    model, plain = Model(np.ones(3)), Model(np.ones(3))
    step = fusec.jit(Model.step)
    for sign in (1, -1, 1, 1, -1):
        x = sign * np.array([1.0, 2.0, 3.0])
        same(step(model, x), plain.step(x))
        same(model.w, plain.w)
        assert model.calls == plain.calls


def test_gradients_follow_the_branch():
    def loss(x):
        s = (x * x).sum()
        return s if x[0] > 0 else 3 * s

    for call in (fusec.grad(loss), fusec.jit(fusec.grad(loss))):
        for x in (X + 3, X - 3, X + 3):
            np.testing.assert_allclose(call(x), 2 * x if x[0] > 0 else 6 * x)
    with np.errstate(all="raise"):
        np.testing.assert_allclose(fusec.grad(loss)(X), 6 * X)


def test_on_the_device_of_the_host():
    jitted = fusec.jit(normalised)
    for x in (X + 2, -X - 2, X * np.nan, X + 2):
        got = jitted(fusec.to_device(x, "cpu"))
        assert type(got) is fusec.Array
        same(got.copy_to_host(), normalised(x))


@pytest.mark.parametrize("call", [
    lambda: fusec.jit(normalised).lower(fusec.ShapeDtype(5, "f8")),
    lambda: fusec.jit(normalised).lower(fusec.to_device(np.ones(3), "cpu")),
    lambda: fusec.vmap(normalised)(np.ones((2, 3))),
])  # fmt: skip
def test_where_no_values_are_at_hand_it_is_an_error(call):
    with pytest.raises(TracerBoolError, match=r"np\.where"):
        call()


def test_verify_and_disable(monkeypatch):
    report = fusec.verify(normalised, X + 2)
    assert report, str(report)
    monkeypatch.setattr(fusec.config, "verify", True)
    jitted = fusec.jit(normalised)
    for x in (X + 2, -X - 2, X * np.nan):
        compare(jitted, normalised, x)
    monkeypatch.setattr(fusec.config, "disable", True)
    compare(fusec.jit(normalised), normalised, X)


def test_threads_share_the_branches():
    jitted = fusec.jit(normalised)

    def work(seed):
        rng = np.random.default_rng(seed)
        for _ in range(50):
            x = rng.standard_normal(50) + rng.choice([-1, 1])
            same(jitted(x), normalised(x))

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(work, range(4)))


# -- what goes wrong inside -----------------------------------------------------------------------


def catches(x):
    try:
        return halved(x)
    except Exception:
        return "caught"


def catches_and_raises(x):
    try:
        return np.unique(x) * 2
    except Exception as error:
        raise KeyError("no") from error


def catches_shapes(x):
    try:
        return np.unique(x)
    except Exception:
        return x * 0


@pytest.mark.filterwarnings("ignore::fusec.errors.FallbackWarning")
@pytest.mark.parametrize("function", [catches, catches_and_raises, catches_shapes])
def test_what_fusec_refuses_is_no_error_that_a_function_can_catch(function):
    jitted = fusec.jit(function)
    for x in (X, -X, X):
        compare(jitted, function, x)


def raises_values(x, n):
    if n[0] > 2:
        raise ValueError(x, n[0], x.sum())
    if x.sum() > 0:
        raise ValueError("sum", x.sum(), n[0], x)
    raise KeyError(x[0]) from ValueError(n[0])


def test_exceptions_hold_values():
    jitted = fusec.jit(raises_values)
    for args in ((X, [1]), (-X, [2]), (X, [3])):
        (_, error, _), (_, expected, _) = outcome(jitted, args), outcome(raises_values, args)
        assert type(error) is type(expected)
        same(error.args, expected.args)
        if expected.__cause__ is not None:
            same(error.__cause__.args, expected.__cause__.args)


def test_a_derivative_raises_what_its_function_raises():
    gradient = fusec.grad(lambda x: checked(x).sum())
    for x in (X + 3, X, X + 3):
        if x[0] < 0:
            with pytest.raises(ValueError, match=r"^negative: -2.0$"):
                gradient(x)
        else:
            np.testing.assert_allclose(gradient(x), 0.5 / np.sqrt(x))


def compiled(plans):
    """The plans below a list of them that are not NumPy's."""
    found = [p for p in plans if not isinstance(p, Fallback)]
    inner = [a for p in found if isinstance(p, Decided) for a in p.answers.values()]
    return sum([compiled(a) for a in inner], found)


def test_what_numpy_will_run_is_not_compiled(monkeypatch):
    monkeypatch.setattr(fusec.plan, "executor", None)  # fails
    for function in (wandering, extremes, lambda x: [v for v in x if v > 0]):
        jitted = fusec.jit(function)
        with pytest.warns(FallbackWarning, match="It decides on"):
            compare(jitted, function, X)
        assert compiled(*jitted._plans.values()) == []


def test_only_the_branch_that_decides_too_often_is_numpys():
    def some(x):
        return x * 2 if x.max() < 100 else wandering(x)

    jitted = fusec.jit(some)
    compare(jitted, some, X)
    with pytest.warns(FallbackWarning):
        compare(jitted, some, X * 100)
    (plans,) = jitted._plans.values()
    assert len(compiled(plans)) == 2
    leaves, tree = fusec.trace.tree.flatten(((X,), {}))
    assert not isinstance(jitted.plan(leaves, tree)[0], Fallback)


def test_an_error_of_one_call_leaves_the_others_compiled():
    def solved(x):
        y = np.linalg.inv(x * 1) if x.sum() < 9 else x
        return y * 2 if y[0, 0] > 0 else y

    jitted = fusec.jit(solved)
    for x in (np.zeros((2, 2)), np.eye(2), np.zeros((2, 2)), -np.eye(2), np.eye(2)):
        compare(jitted, solved, x)
    (plans,) = jitted._plans.values()
    assert len(compiled(plans)) == 2 + 2  # two decisions, two ways


def test_there_are_not_more_plans_than_limits_allow(monkeypatch):
    monkeypatch.setattr(fusec.decided, "MAX_PLANS", 3)
    jitted = fusec.jit(lambda x, n: x[:n] if x.sum() > 0 else x)
    for n in range(6):
        same(jitted(X, n), X[:n])
    (plans,) = jitted._plans.values()
    assert len(compiled(plans)) == 1 + 3

    def ways(x):
        for k in range(4):
            x = x + 1 if x[k] > 0 else x * 2
        return x

    monkeypatch.setattr(fusec.decided, "MOST_WAYS", 5)
    jitted = fusec.jit(ways)
    with pytest.warns(FallbackWarning, match="in more than 5 ways"):
        for k in range(16):
            compare(jitted, ways, np.array([k & 1, k & 2, k & 4, k & 8]) * 99.0 - 50)
    (plans,) = jitted._plans.values()
    assert sum(not isinstance(p, Decided) for p in compiled(plans)) == 5


def test_a_device_array_that_is_changed_before_an_error():
    def changed(x):
        x[0] = 7.0
        if x.sum() > 0:
            raise ValueError("positive")
        return x

    x = fusec.to_device(X, "cpu")
    with pytest.raises(ValueError, match="positive"):
        fusec.jit(changed)(x)
    assert x.copy_to_host()[0] == 7.0


def test_a_dump_has_the_programs_of_decisions(monkeypatch, tmp_path):
    monkeypatch.setattr(fusec.config, "dump", str(tmp_path))
    fusec.jit(normalised)(X + 2)
    (folder,) = tmp_path.iterdir()
    assert "reduce_sum" in (folder / "decision0.txt").read_text()
    assert "def " in (folder / "decision0-k0.py").read_text()


def added(x, y):
    x[3] += (x / 3).sum() * y
    return x, x[2:], (x, y)


def test_verify_allows_for_the_rounding_of_changed_arguments_that_are_results():
    allowed = {c.label: c.allowed for c in fusec.verify(added, X + 2, 3.0).comparisons}
    assert [allowed.pop("result[2][1]"), *{*allowed.values()}] == ["bitwise", "relative"]


def test_verify_allows_for_the_rounding_of_what_is_handed_on():
    x = np.random.default_rng(1).standard_normal(1001) + 1
    assert fusec.verify(lambda x: (x * x).sum() * 3 if (x * x).sum() > 0 else x, x)
    report = fusec.verify(normalised, x)
    assert report and report.comparisons[0].allowed == "relative"


STEPS = [  # exact, so that no rounding decides
    lambda x, y: x + y,
    lambda x, y: x * 0.5 if x.sum() > y.sum() else x - y,
    lambda x, y: y if np.any(x > 2) else x,
    lambda x, y: x * 2 if x.max() > 0 and y.min() < 0 else np.cumsum(y),
    lambda x, y: x @ y * x if bool((x == y).all()) else x[::-1],
    lambda x, y: x[: max(1, int(y.argmax()))].sum() * y,
]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(range(len(STEPS))), min_size=1, max_size=5), st.data())
def test_random_chains(steps, data):
    def chain(x, y):
        for k in steps:
            x, y = STEPS[k](x, y), x
        return x, y

    jitted = fusec.jit(chain)
    values = st.lists(st.integers(-3, 3), min_size=4, max_size=4)
    for _ in range(4):
        x, y = (np.array(data.draw(values), float) for _ in range(2))
        compare(jitted, chain, x, y)


def test_calls_that_may_raise_are_made_once():
    def steps(a, b):
        for k in range(3):
            x = np.linalg.solve(a + k * np.eye(3), b)
            if b[k] > 0:
                b = b + x
        return b

    args = np.eye(3) * 2, np.array([1.0, -1.0, 2.0])
    jitted = fusec.jit(steps)
    low = jitted.lower(*args)
    graphs = [made.graph for _, made in low.decisions] + [low.graph]
    assert [sum(n.op.name == "host_call" for n in g.nodes()) for g in graphs] == [1, 1, 1, 0]
    for a in (args[0], args[0], np.zeros((3, 3))):
        compare(jitted, steps, a, args[1])


def class_means(x, y):
    z = np.exp(x) * 2
    classes, inverse, counts = np.unique(y, return_inverse=True, return_counts=True)
    return np.array([z[y == k].mean() for k in classes]), classes, inverse * 2, counts


def all_of_unique(x):
    return np.unique(x, True, True, True)


@pytest.mark.filterwarnings("ignore::fusec.errors.FallbackWarning")
@pytest.mark.parametrize("home", [np.asarray, lambda x: fusec.to_device(x, "cpu")])
@pytest.mark.parametrize("most", [4, 20])
def test_how_many_are_unique_is_a_decision(most, home):
    """Of more than a few numbers of them NumPy runs the function, as it does for short arrays."""
    jitted, rng = fusec.jit(class_means), np.random.default_rng(0)
    for k in range(2, most):
        x, y = rng.normal(size=6000), rng.permutation(np.arange(6000) % k)
        for got, want in zip(jitted(home(x), home(y)), class_means(x, y)):
            np.testing.assert_allclose(np.asarray(got), want, rtol=1e-12)
    x, y = rng.normal(size=6000), np.arange(6000) % 3
    assert jitted.lower(x, y).kernels
    assert fusec.jit(class_means).lower(x[:99], y[:99]).fallback


@pytest.mark.parametrize("x", [
    np.arange(6000.0).reshape(60, 100) % 7, np.arange(5000) // 1, np.where(np.eye(70), np.nan, 1.0),
])  # fmt: skip
def test_all_that_unique_gives(x):
    for got, want in zip(fusec.jit(all_of_unique)(x), all_of_unique(x)):
        np.testing.assert_array_equal(got, want, strict=True)
    np.testing.assert_array_equal(np.unique(fusec.to_device(x, "cpu")), np.unique(x), strict=True)


def test_unique_of_devices_has_no_limit():
    for k in range(2, 14):
        x = np.arange(5000) % k
        np.testing.assert_array_equal(np.unique(fusec.to_device(x, "cpu")), np.unique(x))
