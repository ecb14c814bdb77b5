"""Loops that Python ends when a value says so are native, and have NumPy's answer."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from test_decisions import compare, same

import fusec
from fusec.decided import Decided, Fallback, Until
from fusec.errors import FallbackWarning
from fusec.runtime.cache import cache

RNG = np.random.default_rng(0)
X = np.linspace(0.5, 3.0, 40)
A = RNG.random((12, 12)) + 12 * np.eye(12)
S = A @ A.T
B = RNG.random(12)
TOL = np.array(1e-8)


def power(a, x):
    last = 0.0
    for k in range(500):
        y = a @ x
        n = np.sqrt((y * y).sum())
        x = y / n
        if np.abs(n - last) < 1e-10:
            break
        last = n
    return x, n, k


def jacobi(u, tol):
    k = 0
    while True:
        new = u.copy()
        new[1:-1] = (u[:-2] + u[2:]) / 2
        err = np.abs(new - u).max()
        u = new
        k += 1
        if err < tol:
            return u, err, k


def conjugate(a, b):
    x = np.zeros_like(b)
    r = b - a @ x
    p = r.copy()
    rs = r @ r
    k = 0
    while rs > 1e-16:
        ap = a @ p
        alpha = rs / (p @ ap)
        x = x + alpha * p
        r = r - alpha * ap
        new = r @ r
        p = r + new / rs * p
        rs = new
        k += 1
    return x, k


def roots(x):
    y = np.ones_like(x)
    for _ in range(50):
        step = (y * y - x) / (2 * y)
        y = y - step
        if np.all(np.abs(step) < 1e-12):
            break
    return y


def roots_max(x):
    y = x
    while np.max(np.abs(y * y - x)) > 1e-11:
        y = (y + x / y) / 2
    return y


def bisection(x):
    low, high = np.zeros_like(x), x + 1
    for k in range(30):
        middle = (low + high) / 2
        above = middle * middle > x
        high = np.where(above, middle, high)
        low = np.where(above, low, middle)
        if (high - low).max() < 1e-5:
            break
    else:
        return None
    return middle, k


def collatz(n):
    steps = np.zeros_like(n)
    while np.any(n > 1):
        odd = n % 2 == 1
        steps = steps + (n > 1)
        n = np.where(n > 1, np.where(odd, 3 * n + 1, n // 2), n)
    return steps


def damped(x):
    y, k = np.ones_like(x), 0
    while np.abs(y * y - x).max() > 1e-9:
        step = (y * y - x) / (2 * y)
        y = y - (step if k < 10 else 0.5 * step)
        k += 1
    return y, k


def patient(x):
    for k in range(20):
        x = x * 0.5
        if x.max() < 1e-3:
            break
    else:
        raise ArithmeticError(f"not after {k}", x.max())
    if k > 14:
        raise ValueError(k)
    return x, k


def in_place(x):
    k = 0
    while x.max() > 0.01:
        x *= 0.7
        x[0] = x[-1]
        k += 1
    return k


def in_place_then_raises(x):
    k = 0
    while x.max() > 0.01:
        x *= 0.7
        k += 1
        if k > 12:
            raise RuntimeError(str(k))


def fibonacci(x):
    a, b = x * 0, x
    while b.sum() < 1000:
        a, b = b, a + b
    return a, b


def two_loops(x):
    y = x
    while y.max() > 1:
        y = y / 2
    k = 0
    while y.sum() < 1000:
        y = y * 3
        k += 1
    return y, k


def then_decides(x):
    k = 0
    while x.max() > 1e-3:
        x = x / 2
        k += 1
    return x * 2 if x.sum() > 0.01 else (x, k)


def captured(x):
    while x.max() > TOL:
        x = x / 4
    return x


def nothing_else(x):
    total = x.sum()
    while total > 1e-3:
        total = total / 3
    return total, x


def limited_by(x, most):
    k = 0
    while x.max() > 1e-3 and k < most:
        x = x / 2
        k += 1
    return x, k


def powers(x):
    y, k = x, 1
    while y.max() > 1e-3:
        y = y * x / (x + 1)
        k += 1
    return y / k


def read_at(table, x):
    k = 0
    while x.sum() > 0:
        x = np.where(table[x] > 0, x - 1, x - 2).clip(0)
        k += 1
    return x, k


def nested(x):
    total = x * 0
    for n in range(3):
        y = x + n
        while y.max() > 1e-2:
            y = y / 2
        total = total + y
    return total


def kept_old(x):
    old, y = x, x
    while np.abs(y).max() > 1e-2:
        old, y = y, y / 2
    return old - y, old


def two_conditions(x, y):
    k = 0
    while x.max() > 1e-3 and y.max() > 1e-3:
        x, y = x * 0.5, y * 0.7
        k += 1
    return x, y, k


def finite(x):
    for k in range(40):
        x = x * 0.5 + 1e-4
        if not np.isfinite(x).all():
            raise FloatingPointError(k)
        if x.max() < 1e-2:
            break
    else:
        return None
    return x, k


def three_conditions(x):
    k = 0
    while x.max() > 1e-3 and x.sum() > 1e-2:
        k += 1
        if x.min() < -5:
            break
        x = x * 0.5 - 0.01
    return x, k


DESCENDING = [X * 4.0**k for k in (0, 5, 1, 0, -9, 5)]
LOOPS = {
    power: [(a, np.ones(12)) for a in (S, A, S, A + S, A)],
    jacobi: [(u, tol) for u in (np.sin(3 * X), X**2) for tol in (1e-3, 1e-4, 1e-3)],
    conjugate: [(S, B), (S, B * 1e3), (A @ S, B), (S, B), (np.eye(12), B)],
    roots: [(X,), (X * 1e6,), (X,), (X * 0 + 1,)],
    roots_max: [(X,), (X * 100,), (X,), (X * 0 + 1,)],
    bisection: [(X,), (X * 10,), (X * 1e9,), (X,), (X * 0,)],
    collatz: [(np.arange(1, n),) for n in (10, 30, 10, 28)] + [(np.ones(9, int),)],
    damped: [(X,), (X * 1e4,), (X * 1e6,), (X,), (X * 1e4,)],
    patient: [(x,) for x in DESCENDING] + [(X * 1e9,), (X * 80,)],
    in_place: [(x,) for x in DESCENDING],
    in_place_then_raises: [(X,), (X / 10,), (X * 100,), (X / 9,)],
    fibonacci: [(x,) for x in (X, X * 3, X, X * 1e4)],
    two_loops: [(x,) for x in DESCENDING],
    then_decides: [(x,) for x in DESCENDING] + [(X + 1,), (X * 3,)],
    captured: [(x,) for x in DESCENDING],
    nothing_else: [(x,) for x in DESCENDING],
    limited_by: [(X, m) for m in (9, 20, 5, 9, 0, 20)] + [(X, np.int64(7))],
    powers: [(X / 9,), (X / 7,), (X / 9,)],
    nested: [(x,) for x in DESCENDING],
    kept_old: [(x,) for x in DESCENDING],
    two_conditions: [(X, X * y) for y in (1, 30, 1e-3, 1)] + [(X * 99, X), (X / 1e4, X)],
    finite: [(X * x,) for x in (1, 100, np.nan, 1, 1e12, np.inf, 100)],
    three_conditions: [(X,), (X * 5,), (X,), (X - 6,), (X * 9 - 9,)],
}
SINGLE = ("f4", "i8", ">f8")


def plans_of(jitted):
    """All plans, also those behind decisions."""
    todo, found = [p for plans in jitted._plans.values() for p in plans], []
    while todo:
        plan = todo.pop()
        found.append(plan)
        if isinstance(plan, Decided):
            todo += [p for plans in plan.answers.values() for p in plans]
    return found


def loops_of(jitted):
    return [p for p in plans_of(jitted) if isinstance(p, Until)]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("function", LOOPS, ids=lambda f: f.__name__)
def test_a_loop_gives_numpys_answer(function):
    jitted = fusec.jit(function)
    for _ in range(2):
        for args in LOOPS[function]:
            compare(jitted, function, *args)
    assert loops_of(jitted)


@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::fusec.errors.FallbackWarning")
@pytest.mark.parametrize("dtype", ["f4", "f2", "i8", "u1", "c16", ">f8"])
@pytest.mark.parametrize("function", [in_place, fibonacci, two_loops, kept_old, nested, patient])
def test_other_dtypes(function, dtype):
    jitted = fusec.jit(function)
    for scale in (1, 30, 1, 4):
        compare(jitted, function, np.round(X * scale).astype(dtype))


def test_most_rounds_are_a_limit_that_a_trace_shows():
    def limited(x):
        for k in range(50):
            x = x * 0.9
            if x.max() < 1e-3:
                break
        return x, k

    jitted = fusec.jit(limited)
    for scale in (0.01, 0.02, 1e9, 1e8, 0.01, 1e9):
        compare(jitted, limited, X * scale)
    (loop,) = loops_of(jitted)
    assert loop.limit == 49
    assert not any(isinstance(p, Fallback) for p in plans_of(jitted))


def test_what_is_read_after_a_loop_may_grow():
    def grows(x):
        old, k = x, 0
        while x.max() > 1e-3:
            old, x = x, x / 2
            k += 1
        return (x, k) if k < 13 else (old - x, x.sum())

    jitted = fusec.jit(grows)
    for scale in (1, 8, 1, 8, 64, 0.5, 1e-4):
        compare(jitted, grows, X * scale)
    assert len(loops_of(jitted)) == 1
    assert not any(isinstance(p, Fallback) for p in plans_of(jitted))


def descent(a, b):
    x, last = np.zeros_like(b), np.inf
    for k in range(400):
        r = a @ x - b
        loss = (r * r).mean()
        x = x - 1e-3 * (2 * a.T @ r)
        if last - loss < 1e-3:
            break
        last = loss
    return x, loss, k


def reads_the_first_loop(x, y):
    while x.max() > 1e-2:
        x = x * 0.5
    k = 0
    while y.max() > 1e-2:
        y = y * 0.5 + x.max() * 0.1
        k += 1
    return x, y, k


@pytest.mark.parametrize(
    "function, calls",
    [
        (descent, [(A, B * k) for k in (1, 3, 0.3, 1, 2)]),
        (reads_the_first_loop, [(X, X * k) for k in (1, 8, 0.1, 1, 9)]),
    ],
)
def test_a_loop_found_once_fits_other_counts(function, calls):
    jitted = fusec.jit(function)
    for args in calls:
        compare(jitted, function, *args)
    assert loops_of(jitted)
    assert not any(isinstance(p, Fallback) for p in plans_of(jitted))


def test_new_counts_compile_nothing():
    jitted = fusec.jit(kept_old)
    compare(jitted, kept_old, X)
    before = cache.stats()
    for k in (3, 7, 2, 30, 90):
        compare(jitted, kept_old, X * 2.0**k)
    (loop,) = loops_of(jitted)
    assert len(loop.answers) >= 6
    assert [cache.stats()[k] - before[k] for k in ("compiled", "disk_hits")] == [0, 0]


def test_later_calls_go_the_short_way(monkeypatch):
    jitted = fusec.jit(kept_old)
    calls = [X, X * 2.0**4, X * 2.0**9]
    for x in calls:
        compare(jitted, kept_old, x)
    monkeypatch.setattr(jitted, "_call", None)  # fails
    for x in calls:
        compare(jitted, kept_old, x)


def test_counts_that_never_come_again_are_numpys_in_the_end(monkeypatch):
    monkeypatch.setattr(fusec.decided, "MOST_NEW", 3)
    jitted = fusec.jit(kept_old)
    with pytest.warns(FallbackWarning, match="new in each call"):
        for k in range(8):
            compare(jitted, kept_old, X * 2.0 ** (3 * k))
    compare(jitted, kept_old, X * 2.0**50)


def test_fewer_new_counts_are_traced_where_rounds_are_many():
    def slow(x):
        while x.max() > 1e-2:
            x = x * 0.995
        return x

    jitted = fusec.jit(slow)
    with pytest.warns(FallbackWarning, match="new in each call"):
        for k in range(7):
            compare(jitted, slow, X * 1.1**k)


def test_limits_that_change_in_each_call_are_numpys_in_the_end():
    jitted = fusec.jit(limited_by)
    with pytest.warns(FallbackWarning, match="new again and again"):
        for k in range(80):
            compare(jitted, limited_by, X, 6 + k % 2)


@pytest.mark.parametrize("most, limit", [("ROUNDS", 5), ("ROUNDS", 40), ("NODES", 200)])
def test_a_loop_of_too_many_rounds_is_numpys(monkeypatch, most, limit):
    monkeypatch.setattr(fusec.trace.decisions, f"MOST_{most}", limit)
    monkeypatch.setattr(fusec.route, "MOST_ROUNDS", limit)
    traces, trace = [], fusec.dispatch.trace
    monkeypatch.setattr(fusec.dispatch, "trace", lambda *args: traces.append(1) or trace(*args))

    def slow(x):
        while x.max() > 1e-3:
            x = x * 0.8
        return x

    jitted = fusec.jit(slow)
    with pytest.warns(FallbackWarning, match="more than 8 times"):
        compare(jitted, slow, X * 1e9)
    assert len(traces) == 1
    compare(jitted, slow, X * 1e9)


def history(x):
    errors = []
    while x.max() > 1e-2:
        x = x / 2
        errors.append(x.max())
    return x, errors


def branching(x):
    k = 0
    while x.max() > 1e-2:
        x = x / 2 if x[k % 3] > 0.3 else x / 3
        k += 1
    return x, k


def sign(x):
    k = 0
    while k < 3000:
        k += 1
        x = x - 0.3 if x[0] > 0 else x + 1
    return x


def one_element(x):
    while x[:1] > 1e-3:
        x = x / 2
    return x, bool(x[:1] > 0)


def changing(x):
    k = 0
    while x.max() > 1e-2:
        k += 1
        x = x / (1 + k)
    return x, k


@pytest.mark.filterwarnings("ignore::fusec.errors.FallbackWarning")
@pytest.mark.parametrize("function", [history, branching, changing, sign, one_element])
def test_what_is_no_such_loop_has_numpys_answer(function):
    jitted = fusec.jit(function)
    for _ in range(2):
        for x in DESCENDING:
            compare(jitted, function, x)


def test_arguments_that_share_memory():
    def update(x, y):
        while y.max() > 1e-2:
            x *= 0.5
            y = y * 0.7
        return y

    jitted = fusec.jit(update)
    for _ in range(3):
        x, plain = X.copy(), X.copy()
        same(jitted(x, x), update(plain, plain))
        same(x, plain)
        x, plain = X.copy(), X.copy()
        same(jitted(x[1:], x[:-1]), update(plain[1:], plain[:-1]))
        same(x, plain)


def test_a_captured_array_that_changes():
    jitted = fusec.jit(captured)
    global TOL
    try:
        for value in (1e-8, 1e-3, 1e-8):
            TOL[...] = value
            compare(jitted, captured, X)
        TOL = np.array(1e-5)
        compare(jitted, captured, X)
    finally:
        TOL = np.array(1e-8)


def test_an_index_out_of_bounds_in_a_round_is_numpys_error():
    jitted = fusec.jit(read_at)
    table = np.arange(9) - 2
    for x in (np.arange(9), np.arange(5), np.arange(9), np.array([8, 40]), np.arange(5)):
        compare(jitted, read_at, table, x)


def test_empty_arrays():
    def summed(x):
        total = x.sum()
        while total < 20:
            x = x + 1
            total = total + 1 + x.sum()
        return x, total

    jitted = fusec.jit(summed)
    for _ in range(3):
        for shape in ((0,), (3, 0), (1,)):
            compare(jitted, summed, np.zeros(shape))
    assert len(loops_of(jitted)) == 3


def test_threads_share_a_loop():
    jitted = fusec.jit(kept_old)

    def work(k):
        for n in range(30):
            compare(jitted, kept_old, X * 2.0 ** ((n + k) % 7))

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(work, range(4)))


def test_a_program_whose_rounds_python_drives(monkeypatch):
    monkeypatch.setattr(fusec.runtime.repeated.Repeated, "_run", None)

    def solved(a, b):
        x = b * 0
        k = 0
        while np.abs(a @ x - b).max() > 1e-10 and k < 40:
            x = x + np.linalg.solve(a + np.eye(12), b - a @ x)
            k += 1
        return x, k

    jitted = fusec.jit(solved)
    for scale in (1, 1e-3, 1e2, 1):
        compare(jitted, solved, S, B * scale)
    assert loops_of(jitted)


def test_verify():
    assert fusec.verify(kept_old, X)


# -- random loops ---------------------------------------------------------------------------------

STEPS = [
    "{a} = {a} * 0.5 + {b} * 0.25", "{a}, {b} = {b}, {a} * 0.5", "{a} = np.tanh({a}) * 0.8",
    "{a} = np.where({a} > {b}, {a} * 0.5, {b} * 0.5)", "{a} = {a} - {b} * ({a} @ {b}) * 0.01",
    "{a} = np.roll({a}, 1) * 0.6", "old, {a} = {a}, {a} * 0.75", "{a} = {a} + (old - {a}) * 0.5",
    "{a}[1:] = {a}[:-1] * 0.5 + {b}[1:] * 0.1", "{a} *= 0.5", "last = {a}.max()",
    "{a} = np.cumsum({a}) / 50", "{a} = {a} - {a}.mean() * 0.3", "k += 1",
    "{b} = {b} / (1 + np.abs({b}).max())", "{a} = {a} * 0.5 if k < 6 else {a} * 0.25",
    "{a} = c * {a} * 0.3", "{a} = {a} + z * 0.001", "{b} = {a} * 0.9", "m[n % 7] = {a}[0]",
    "old = {a}", "{a} = {a} * m[0] * 0.1", "k = k + {a}.size",
    "{a} = np.where({a} > t, {a} * 0.5, {a} * 0.7)", "t = t * 0.5", "{a} = {a}[::-1].copy() * 0.5",
    "{a} = np.sort({a}) * 0.6",
    "{a} = {a} / (n + 2)", "x = x / 2 if n % 2 else x / 3",
    "if not np.isfinite({a}).all():\n            return n",
    "if {b}.max() > 200:\n            break",
]  # fmt: skip
TESTS = ["np.abs({a}).max() < {tol}", "np.all(np.abs({a}) < {tol})", "np.abs({a}).sum() < {tol}",
         "not np.any(np.abs({a}) >= {tol})", "np.abs({a} - old).max() < {tol}"]  # fmt: skip
ENDS = ["return x, y", "return x * 2, k", "return y - old, last", "return old, x.sum(), n",
        "if x.sum() > 0.01:\n        return x\n    return y, k",
        "if n > 9:\n        raise ValueError(n)\n    return x + y"]  # fmt: skip
BEGINS = ["", "x = x - x.min()", "z = x @ y\n    x = x * 0.1 + z * 0.01", "x += 1",
          "if x.sum() > 50:\n        x = x * 0.5", "y = y + np.outer(x, y)[0]"]  # fmt: skip
KINDS = [
    "for n in range({most}):\n        {before}\n        if {test}:\n            break\n"
    "        {after}",
    "while not ({test}) and n < {most}:\n        n += 1\n        {before}\n        {after}",
]


def random_loop(rng):
    """The text of a function with loops that end when values say so."""

    def text(of):
        a, b = rng.permutation(["x", "y"])
        return str(rng.choice(of)).format(a=a, b=b, tol=10.0 ** -rng.integers(1, 6))

    def lines(low, high):
        return "\n        ".join([text(STEPS) for _ in range(rng.integers(low, high))] or ["pass"])

    def loop():
        kind, most = str(rng.choice(KINDS)), rng.choice([12, 25, 40])
        return kind.format(most=most, before=lines(1, 4), after=lines(0, 3), test=text(TESTS))

    parts = [text(BEGINS), *[loop() for _ in range(rng.integers(1, 3))], text(ENDS)]
    return (
        "def loop(x, y, c):\n"
        "    old, last, k, n, z, m, t = x, 0.0, 0, 0, x[0], np.zeros(7), x.sum()\n    "
        + "\n    ".join(parts) + "\n"
    )  # fmt: skip


@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::fusec.errors.FallbackWarning")
@pytest.mark.parametrize("seed", range(40))
def test_random_loops(seed, tmp_path):
    rng = np.random.default_rng(seed)
    text = random_loop(rng)
    file = tmp_path / "loop.py"
    file.write_text(text)
    names = {"np": np}
    exec(compile(text, str(file), "exec"), names)
    function = names["loop"]
    jitted = fusec.jit(function)
    (x, y), c = rng.random((2, 7)), rng.random(7)
    for scale in (1.0, 100.0, 1.0, 1e-3, 7.0, 100.0):
        compare(jitted, function, x * scale, y * scale, c)
