"""Loops of Python become loops of programs: what repeats in a trace is one node, and NumPy's answer
stays NumPy's."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fusec
from fusec.codegen.steps import Rounds
from fusec.compare import copied
from fusec.errors import FallbackWarning
from fusec.ir.graph import evaluate
from fusec.ir.verify import verify
from fusec.passes import recur, roll
from fusec.plan import executor
from fusec.runtime.repeated import Repeated
from fusec.trace.tree import flatten

RNG = np.random.default_rng(11)
LINE, IMAGE, TABLE = RNG.random(40), RNG.random((12, 17)), RNG.random((24, 6))
SQUARE, PLACES = RNG.random((8, 8)), RNG.integers(0, 40, 40)


@pytest.fixture(params=["kernels", "native", "python"])
def eager(request, monkeypatch):
    """Short loops are rolled, and run in kernels, native code, or one round after the other."""
    monkeypatch.setattr(roll, "LEAST", 16)
    monkeypatch.setattr(roll, "UNROLLED", 12)
    if request.param != "kernels":
        monkeypatch.setattr(recur, "MOST_ARRAYS", 0)
    if request.param == "python":
        made = Repeated.__init__

        def init(self, *args):
            made(self, *args)
            self.native = False

        monkeypatch.setattr(Repeated, "__init__", init)


def newton(x):
    y = x * 0 + 1
    for _ in range(30):
        y = 0.5 * (y + x / y)
    return y


def wave(u, v):
    for _ in range(12):
        lap = np.zeros_like(u)
        near = u[2:, 1:-1] + u[:-2, 1:-1] + u[1:-1, 2:] + u[1:-1, :-2]
        lap[1:-1, 1:-1] = near - 4 * u[1:-1, 1:-1]
        u, v = 2 * u - v + 0.1 * lap, u
    return u, v


def power(a, v):
    for _ in range(15):
        v = a @ v
        v = v / np.sqrt((v * v).sum())
    return v, v @ (a @ v)


def gathered(x, i):
    for _ in range(12):
        x = np.sin(x[i]) + 0.1 * x
    return x


def timed(x, n):
    for t in range(20):
        x = x * np.cos(t * 0.01) + t / n - np.float64(t) + np.roll(x, 1)
    return x


def nested(u):
    for t in range(8):
        p = u * 0
        for _ in range(10):
            p = 0.25 * (np.roll(p, 1, 0) + np.roll(p, -1, 0)) + u * 0.1
        u = u - p * 0.01 * t
    return u


def two(x):
    for _ in range(12):
        x = np.tanh(x * 1.1) + x[::-1] * 0.1
    s = x.sum()
    for _ in range(14):
        x = np.sort(x) * 0.5 + np.roll(x, 1) * 0.5
    return x, s


def history(x):
    sums = []
    for _ in range(15):
        x = np.tanh(x * 1.1) + x[::-1] * 0.1
        sums.append(x.sum())
    return x, np.array(sums)


def every_state(x):
    states = []
    for _ in range(15):
        x = np.tanh(x * 1.1) + x[::-1] * 0.1
        states.append(x)
    return np.stack(states, 1), np.concatenate(states)


def listed(x):
    states = []
    for _ in range(12):
        x = np.tanh(x * 0.9) + np.roll(x, 1)[0]
        states.append(x)
    return states


def descent(x, y):
    w = np.zeros(6)
    slope = fusec.grad(lambda w: ((x @ w - y) ** 2).mean())
    for _ in range(12):
        w = w - 0.1 * slope(w)
    return w


def collatz(n):
    for _ in range(20):
        n = np.where(n % 2 == 0, n // 2, 3 * n + 1)
    return n


def older(x):
    a, b, c = x, x + 1, x + 2
    for _ in range(25):
        a, b, c = b, c, (a + b * 0.5 + c * 0.2) * 0.5 + np.roll(a, 1) * 0.01
    return a, b, c


def in_place(x, y):
    for _ in range(12):
        x += y * 0.001
        y -= x * 0.001
        x[1:-1] = (x[2:] + x[:-2]) * 0.5


def members(p):
    for _ in range(12):
        p["a"] = p["a"] - 0.01 * p["b"]
        p["b"] = p["b"] + 0.01 * np.roll(p["a"], 1)
    return p["a"].sum()


def adam(x):
    m, v = np.zeros_like(x), np.zeros_like(x)
    for t in range(1, 13):
        g = 2 * x + np.roll(x, 1)
        m = 0.9 * m + 0.1 * g
        v = 0.99 * v + 0.01 * g * g
        x = x - 0.01 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.99**t)) + 1e-8)
    return x


def life(z):
    for _ in range(8):
        near = [np.roll(np.roll(z, i, 0), j, 1) for i in (-1, 0, 1) for j in (-1, 0, 1)]
        n = sum(x.astype(int) for x in near) - z
        z = (n == 3) | (z & (n == 2))
    return z


def recurrent(x, w, u):
    h, out = np.zeros(len(u)), np.zeros((len(x), len(u)))
    for t in range(len(x)):
        h = np.tanh(x[t] @ w + h @ u)
        out[t] = h
    return out, h


def average(x):
    y = np.empty_like(x)
    y[0] = x[0]
    for t in range(1, len(x)):
        y[t] = 0.9 * y[t - 1] + 0.1 * x[t]
    return y


def average_columns(x):
    y = x.copy()
    for t in range(1, x.shape[1]):
        y[:, t] = 0.9 * y[:, t - 1] + 0.1 * x[:, t]
    return y


def backwards(x, y):
    for t in range(len(x) - 2, -1, -1):
        y[t] = x[t] + 0.5 * y[t + 1]
    return y.sum()


def floyd(p):
    for k in range(len(p)):
        p[:] = np.minimum(p[:], np.add.outer(p[:, k], p[k, :]))


def sweeps(a):
    for _ in range(2):
        for i in range(1, len(a) - 1):
            a[i, 1:-1] = (a[i - 1, 1:-1] + a[i, 1:-1] + a[i + 1, 1:-1] + a[i, 2:] + a[i, :-2]) / 5


def overlapping(x):
    for t in range(12):
        x[t : t + 5] = x[t + 1 : t + 6] * 0.5 + x[t : t + 5]


def same_round(x):
    s = 0
    for t in range(1, len(x)):
        x[t] = x[t - 1] * 0.5 + x[t]
        s = s + x[t].sum()
    return s


def whole_numbers(n):
    for t in range(1, len(n)):
        n[t] = n[t - 1] * 0.5 + n[t]


def every_other(x, y):
    for t in range(12):
        y[t : t + 10 : 2] = x[2 * t : 2 * t + 10 : 2] + y[t : t + 10 : 2] * 0.5


def gauss_seidel(a, b):
    x = np.zeros(len(b))
    for i in range(len(b)):
        x[i] = (b[i] - a[i] @ x + a[i, i] * x[i]) / (a[i, i] + len(b))
    return x


def looked_up(x, i):
    s = x[0]
    for k in range(20):
        s = np.tanh(s * 0.9 + x[i[k] % 24])
    return s


def two_places(x):
    out = np.zeros_like(x)
    for t in range(1, len(x)):
        out[0] = out[0] + x[t]
        out[t] = x[t] * 2
    return out


def between(x):
    out, total = np.zeros_like(x), 0.0
    for t in range(1, len(x)):
        out[t] = x[t] * 2
        total = total + out.sum()
        out[t] = out[t] + total
    return out, total


def batches(x, w):
    h, means = np.zeros((4, 6)), []
    for t in range(x.shape[1]):
        h = np.tanh((x[:, t] + h) @ w)
        means.append(h.mean(-1, keepdims=True))
    return np.concatenate(means, -1), np.array(means)


def scalars(z, q):
    x, p, out = 0.0, 1.0, np.zeros(len(z))
    for t in range(len(z)):
        p = p + q
        k = p / (p + 1)
        x = x + k * (z[t] - x)
        p = (1 - k) * p
        out[t] = x
    return out, p


def sorted_first(x):
    y = x = x + 1
    for _ in range(15):
        y = np.sort(y) * 0.5 + x
    return y


def columns(a, w):
    """Columns that can't be computed where they lie: a product reads all of what it changes."""
    for t in range(20):
        a[:, t] = a[:, t] @ w
    return a


def turned_columns(a):
    for t in range(20):
        a[:, t] = np.cumsum(a[:, t])[::-1]
    return a


def as_column(x, w):
    """The last value is a column, of which a row is stored."""
    out = np.zeros((20, 6))
    for t in range(20):
        h = np.tanh((w * x[t]).sum(axis=1, keepdims=True))
        out[t] = h.ravel()
    return out, h


def behind(h, w, out):
    """What is carried lies in a row that the next round changes."""
    for t in range(1, 20):
        g, h = h, np.tanh(h @ w)
        out[t] = h
        out[t - 1] = g[::-1] * 2
    return out


def table_of_numbers(u):
    """Another element of another constant in each round."""
    for t in range(20):
        c = np.array([t * 1.0, t + 1.0, t + 2.0])
        u = np.tanh(u) + c[t % 3]
    return u


def added_to(x):
    for t in range(1, 20):
        x[t] += np.tanh(x[t - 1]).sum() * 0.1
    return x


def backwards_list(x):
    states, s = [], x[-1]
    for t in range(19, -1, -1):
        s = np.tanh(s + x[t].sum())
        states.append(s)
    return np.stack(states[::-1]), np.concatenate(states)


def sweeps_of_rows(a, b):
    """Rounds of every sweep read the same rows, whose slices are traced once."""
    x = np.zeros_like(b)
    for _ in range(5):
        for i in range(len(b)):
            x[i] = (b[i] - a[i] @ x + a[i, i] * x[i]) / a[i, i]
    return x


def wider_and_wider(x, w):
    """Parts of two sizes that begin at the same places."""
    for _ in range(5):
        for i in range(12):
            w = np.tanh(w + (x[i : i + 2] * w).sum(axis=0) * (x[i : i + 3] * w).sum(axis=0))
    return w


def epochs(x, y):
    w = np.zeros(6)
    for epoch in range(4):
        for k in range(0, 24, 4):
            xb, yb = x[k : k + 4], y[k : k + 4]
            w = w - 0.1 / (1 + epoch) * (xb.T @ (np.tanh(xb @ w) - yb))
    return w


def joined_parts(x, m):
    """A constant part and one that moves, put together in each round."""
    for t in range(14, 1, -1):
        x = x + np.sort(np.concatenate([m[0][2:], m[t % 6][:2]]))
    return x


def remembered(x):
    """What is carried is what was read of a row that then changes."""
    last = x[0]
    for t in range(1, 20):
        row = x[t].copy()
        x[t] = np.tanh(row) + last[::-1]
        last = row
    return last


def turned_rows(x):
    """What is stored was read elsewhere in the same part, and a second store meets the first."""
    for t in range(1, 20):
        y = np.tanh(x[t, ::-1]) + x[t - 1]
        x[t] = y
        x[t - 1 : t + 1] = y * 0.5
    return x


def sorted_rows(x):
    """What a call of NumPy gives is stored where other rounds read."""
    for t in range(1, 20):
        x[t : t + 2] = np.sort(x[t - 1]) * 0.5 + x[t]
        x[t - 1] = np.sort(x[t])
    return x


def interleaved(x):
    """What is stored lies between what is read."""
    for t in range(len(x)):
        x[t, ::2] = np.tanh(x[t, 1::2]) + x[t, 1::2].sum()
    return x


def swapped(x, y):
    for t in range(13):
        x, y = y, x * 0.5 if t else x
    return x, y


ROWS = [
    (newton, (LINE,)), (wave, (IMAGE, IMAGE * 0.9)), (power, (SQUARE, LINE[:8])),
    (gathered, (LINE, PLACES)), (timed, (LINE, 7)), (nested, (IMAGE,)), (two, (LINE,)),
    (history, (LINE,)), (every_state, (LINE,)), (descent, (TABLE, LINE[:24])),
    (collatz, (PLACES,)), (older, (LINE,)), (in_place, (LINE, LINE * 2)),
    (members, ({"a": LINE, "b": LINE * 2},)), (adam, (LINE,)), (life, (IMAGE > 0.5,)),
    (recurrent, (TABLE, SQUARE[:6], SQUARE)), (average, (TABLE,)), (average_columns, (TABLE.T,)),
    (average_columns, (np.asfortranarray(TABLE.T),)), (backwards, (TABLE, TABLE * 2)),
    (floyd, (SQUARE,)), (sweeps, (IMAGE,)), (overlapping, (TABLE,)), (same_round, (TABLE,)),
    (whole_numbers, (np.arange(90).reshape(15, 6),)), (every_other, (LINE, LINE * 2)),
    (gauss_seidel, (RNG.random((24, 24)), LINE[:24])), (looked_up, (TABLE, PLACES)),
    (batches, (RNG.random((4, 12, 6)), SQUARE[:6, :6])), (scalars, (LINE, 0.3)),
    (newton, (LINE.astype("f4"),)), (adam, (LINE.astype("f4"),)), (older, (LINE[::2],)),
    (columns, (RNG.random((6, 24)), SQUARE[:6, :6])), (turned_columns, (RNG.random((6, 24)),)),
    (as_column, (TABLE, SQUARE[:6, :6])), (behind, (LINE[:6], SQUARE[:6, :6], TABLE[:20] * 0)),
    (sweeps_of_rows, (SQUARE + 9 * np.eye(8), LINE[:8])), (epochs, (TABLE, LINE[:24])),
    (wider_and_wider, (TABLE, LINE[:6])),
    (table_of_numbers, (LINE,)), (added_to, (TABLE,)), (backwards_list, (TABLE,)),
    (average, (TABLE[::-1],)), (listed, (LINE,)), (two_places, (TABLE,)), (sorted_first, (LINE,)),
    (remembered, (TABLE,)), (interleaved, (TABLE,)), (turned_rows, (TABLE,)),
    (sorted_rows, (TABLE,)), (overlapping, (TABLE.astype("f2"),)), (turned_rows, (TABLE + 1j,)),
]  # fmt: skip
STRAIGHT = [
    (swapped, (LINE, LINE * 2)), (between, (TABLE,)), (joined_parts, (LINE[:6], TABLE)),
]  # fmt: skip
"""No loops, because a round would read an array between two of its updates, or computes nothing."""


def named(rows):
    return [f"{k}-{fn.__name__}" for k, (fn, _) in enumerate(rows)]


def fresh(args):
    """The same arguments in memory of their own."""
    leaves, tree = flatten(args)
    return tree.unflatten(copied(leaves))


def loops(low):
    nodes = [n for n in low.graph.nodes() if n.op.name in ("loop", "recurrence")]
    return [n.attrs.get("loop") or n.attrs["rounds"] for n in nodes]


def check(fn, args, tolerance=1e-12):
    """NumPy's results and effects, also at the second call; how many rounds each loop has."""
    theirs = fresh(args)
    wanted = flatten((fn(*theirs), theirs))[0]
    jitted = fusec.jit(fn)
    low = jitted.lower(*fresh(args))
    for k in range(2):
        ours = fresh(args)
        jitted.fn = None if k else fn  # NumPy does not stand in for a loop that fails
        found = flatten((jitted(*ours), ours))[0]
        for a, b in zip(wanted, found, strict=True):
            assert type(a) is type(b)
            if isinstance(a, np.ndarray | np.generic):
                assert a.dtype == b.dtype and a.shape == b.shape
                single = np.asarray(a).dtype.itemsize == 4
                np.testing.assert_allclose(b, a, 1e-5 if single else tolerance, tolerance)
    verify(low.graph)
    return low


@pytest.mark.parametrize("fn, args", ROWS, ids=named(ROWS))
@pytest.mark.usefixtures("eager")
def test_a_loop_gives_numpys_answer(fn, args):
    low = check(fn, args)
    assert loops(low), "no loop was found"
    sources = low.traced.trace.sources
    if all(s.kind == "arg" for s in sources):
        leaves = flatten((fresh(args), {}))[0]
        given = [leaves[s.ref] for s in sources]
        results = [evaluate(g, given) for g in (low.graph, low.traced.graph)]
        assert all(np.allclose(a, b, 1e-6, 1e-6) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize("fn, args", STRAIGHT, ids=named(STRAIGHT))
@pytest.mark.usefixtures("eager")
def test_what_is_no_loop_stays_as_it_is(fn, args):
    assert not loops(check(fn, args))


def test_short_loops_stay_unrolled():
    assert not loops(fusec.jit(history).lower(LINE))


def long_wave(u, v):
    for _ in range(400):
        u, v = 2 * u - v + 0.1 * (np.roll(u, 1) + np.roll(u, -1) - 2 * u), u
    return u, v


def sums_of_rows(x):
    out, s = np.zeros_like(x), x[0]
    for t in range(1, len(x)):
        s = np.roll(s, 1) * 0.5 + x[t]
        out[t] = s - s[::-1]
    return out[1:3].sum()


def test_memory_of_a_loop_is_counted():
    """An array that rounds store into is copied first."""
    x = RNG.random((400, 300))
    low = check(sums_of_rows, (x,))
    (loop,) = loops(low)
    assert loop.moving and x.nbytes * 2 <= low.explain().bytes_peak < x.nbytes * 2.1


def tridiagonal(a, b, c, d):
    """Thomas's algorithm: the second loop reads what the first one stored, last row first."""
    c, d = c.copy(), d.copy()
    c[0] /= b[0]
    d[0] /= b[0]
    for i in range(1, len(d)):
        m = 1 / (b[i] - a[i] * c[i - 1])
        c[i] *= m
        d[i] = (d[i] - a[i] * d[i - 1]) * m
    for i in range(len(d) - 2, -1, -1):
        d[i] -= c[i] * d[i + 1]
    return d


def test_a_loop_reads_what_another_one_stored():
    a, b, c, d = RNG.random((4, 200, 6))
    low = check(tridiagonal, (a, b + 3, c, d))
    assert [loop.rounds for loop in loops(low)] == [199, 199] and len(low.kernels) <= 5


def implicit(u, a, b, c):
    for _ in range(30):
        u = tridiagonal(a, b, c, u) + 0.01
    return u


def test_many_short_rounds_do_not_hide_the_loop_around_them():
    u, a, b, c = RNG.random((4, 150))
    low = check(implicit, (u, a, b + 3, c))
    assert [loop.rounds for loop in loops(low)] == [149, 149, 29]
    assert len(low.kernels) <= 15 and len(low.program.steps) <= 15


def walk(x, noise):
    for z in noise:
        x = np.exp(-0.1 * np.log(1 + x * x)) + np.tanh(z)
    return x


def test_slow_operations_count_for_more():
    low = fusec.jit(walk).lower(LINE, RNG.random((120, 40)))
    assert [loop.rounds for loop in loops(low)] == [120]


def test_a_long_loop_is_a_few_kernels():
    low = check(long_wave, (LINE, LINE), 1e-9)
    (loop,) = loops(low)
    assert loop.rounds >= 395 and len(low.kernels) <= 8
    assert "rounds" in str(low) and "repeats" in str(low.explain())
    assert low.explain().bytes_moved > 400 * 2 * LINE.nbytes
    assert len({k.name for k in low.kernels}) == len(low.kernels)
    unrolled = fusec.jit(long_wave).lower(LINE, LINE, target="cuda")
    assert not loops(unrolled)


def test_values_lie_where_their_old_ones_did(monkeypatch):
    """A value that is read at its own place only needs no second array."""
    monkeypatch.setattr(roll, "LEAST", 16)
    monkeypatch.setattr(recur, "MOST_ARRAYS", 0)
    low = fusec.jit(adam).lower(LINE)
    (step,) = [s for s in low.program.steps if isinstance(s, Rounds)]
    assert len({*step.program.results} & {*step.program.inputs}) == 2  # m and v


def carried_too(x):
    s, out = x[0] * 0.5, np.zeros_like(x)
    for t in range(len(x)):
        s = s * 0.9 + x[t]
        out[t] = s
    return out


STORED = [carried_too, average, same_round, interleaved, overlapping, turned_rows, sorted_rows]


@pytest.mark.parametrize("fn", STORED)
def test_values_are_computed_where_they_are_stored(fn, monkeypatch):
    """Also over the part that they are computed of, or copied there; Python does no rounds then."""
    monkeypatch.setattr(roll, "LEAST", 16)
    monkeypatch.setattr(recur, "MOST_ARRAYS", 0)
    runs = executor(fusec.jit(fn).lower(TABLE).program).runs
    (loop,) = [r.function for r in runs if isinstance(getattr(r, "function", None), Repeated)]
    assert loop.native == (fn is not sorted_rows)


@pytest.mark.usefixtures("eager")
def test_an_error_in_a_round_is_numpys():
    def walk(x, i, out):
        for k in range(12):
            x = x[i + k] + 1
            out[k] = x.sum()
        return x

    out = np.zeros(12)
    with pytest.raises(IndexError, match="out of bounds"):
        fusec.jit(walk)(LINE, np.arange(35), out)
    wanted = np.zeros(12)
    with pytest.raises(IndexError):
        walk(LINE, np.arange(35), wanted)
    assert np.allclose(out, wanted) and out.any()


@pytest.mark.usefixtures("eager")
def test_the_same_call_of_numpy_is_made_once():
    def medians(x):
        return np.median(x) + np.median(x) * 2 + np.sort(x)[0] + np.sort(x, kind="stable")[1]

    low = check(medians, (LINE,))
    assert [c.name for c in low.explain().calls] == ["median", "sort", "sort"]


def test_numbers_of_many_operations_are_guarded():
    """A Python number that a loop goes on computing, which would take twice as long each round."""

    def decayed(x, rate):
        for _ in range(200):
            rate = rate * (1 - rate * 1e-4)
            x = x * rate + np.roll(x, 1)
        return x

    jitted = fusec.jit(decayed)
    for rate in (0.5, 0.5, 0.6):
        np.testing.assert_allclose(jitted(LINE, rate), decayed(LINE, rate), 1e-12)


# -- loops of any kind ----------------------------------------------------------------------------

def triangular(a, b):
    for i in range(len(b)):
        for j in range(b.shape[1]):
            b[i, j] += a[i + 1 :, i] @ b[i + 1 :, j]
    return b


def rank(a, c):
    for i in range(len(a)):
        c[i, : i + 1] *= 0.5
        for k in range(a.shape[1]):
            c[i, : i + 1] += a[i, k] * a[: i + 1, k]


def swept(u):
    for _ in range(2):
        for i in range(1, len(u) - 1):
            u[i, 1:-1] += u[i - 1, :-2] + u[i + 1, 2:]
            for j in range(1, u.shape[1] - 1):
                u[i, j] = (u[i, j] + u[i, j - 1]) / 3


@pytest.mark.parametrize(
    ("function", "args", "loops"),
    [
        (triangular, (RNG.random((14, 14)), RNG.random((14, 40))), 14),
        (rank, (RNG.random((12, 60)), RNG.random((12, 12))), 12),
        (swept, (RNG.random((8, 60)),), 12),
    ],
)
def test_inner_loops_are_all_found_at_once(function, args, loops, monkeypatch):
    looks, looped = [], roll._looped

    def look(*args):
        looks.append(args)
        return looped(*args)

    monkeypatch.setattr(roll, "_looped", look)
    found = fusec.jit(function).lower(*args).graph.nodes()
    assert sum(n.op.name in ("loop", "recurrence") for n in found) == loops
    assert len([a for a in looks if len(a[0].order) > 200]) <= 3
    check(function, args, 1e-11)


def test_long_chains_of_updates_lie_in_the_argument():
    args = RNG.random((180, 6)), RNG.random((180, 180))
    low = fusec.jit(rank).lower(*args)
    assert low.program is not None
    assert len(low.program.inplace) >= 180
    check(rank, args, 1e-12)


def cholesky(a):
    for i in range(len(a)):
        for j in range(i):
            a[i, j] = (a[i, j] - a[i, :j] @ a[j, :j]) / a[j, j]
        a[i, i] = np.sqrt(a[i, i] - a[i, :i] @ a[i, :i])


def test_numpy_runs_what_makes_too_many_operations(monkeypatch):
    definite = SQUARE @ SQUARE.T + np.eye(8)
    line = cholesky.__code__.co_firstlineno + 3
    monkeypatch.setattr(fusec.config, "most_nodes", 100)
    told = rf"operations that are no rounds of one loop, \d+ of them at .*test_rolled.py:{line},.*"
    compiled, (want, got) = fusec.jit(cholesky), (definite.copy(), definite.copy())
    cholesky(want)
    with pytest.warns(FallbackWarning, match=told + r"fusec\.config\.most_nodes = \d+"):
        compiled(got)
    assert (want == got).all()
    got = definite.copy()
    compiled(got)  # tells nothing more
    assert (want == got).all()
    assert "operations that are no rounds" in compiled.lower(definite).fallback
    assert not compiled.lower(fusec.to_device(definite, "cpu")).fallback
    monkeypatch.setattr(fusec.config, "most_nodes", 10_000)
    check(cholesky, (definite,), 1e-12)


def test_a_trace_that_is_too_long_ends(monkeypatch):
    monkeypatch.setattr(fusec.config, "most_nodes", 2)
    with pytest.warns(FallbackWarning, match="more than 128 operations, the last of them at"):
        got = fusec.jit(timed)(LINE, 3.0)
    np.testing.assert_array_equal(got, timed(LINE, 3.0))
    fusec.grad(lambda x: newton(x).sum())(LINE)  # has no NumPy code, and no limit


UPDATES = [
    "a = b * 0.5 + a * 0.25",
    "b = np.roll(a, 1) - b * 0.1",
    "a, b = b, a + 0.01 * t",
    "c = a",
    "a = np.where(b > c, a, c * 0.9)",
    "s = s * 0.5 + a.mean()",
    "a = a + s",
    "b = np.sin(b[places])",
    "a[1:-1] = (a[2:] + a[:-2]) * 0.5",
    "b = b + table[t]",
    "out[t] = a",
    "out[t, 1:] = b[1:] + out[t - 1, 1:]",
    "a = a * 0.5 + out[t - 1]",
    "out[t] = out[t] + c",
    "sums.append(b.sum())",
    "states.append(a)",
    "b = np.sort(b)",
    "c = m @ a",
    "a -= table[t] * 0.1",
    "c = np.cumsum(b) * 0.1",
]


@pytest.mark.usefixtures("eager")
@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(UPDATES), min_size=1, max_size=7), st.integers(6, 14))
def test_any_loop(lines, rounds):
    body = "\n        ".join(lines)
    text = f"""
def program(a, b, table, out, places, m):
    c, s, sums, states = a * 0.5, b[0] * 1.0, [], []
    for t in range(1, {rounds}):
        {body}
    return a, b, c, s, sums, np.array(states)
"""
    names = {"np": np}
    exec(text, names)
    args = (
        RNG.random(6), RNG.random(6), RNG.random((14, 6)), RNG.random((14, 6)),
        RNG.integers(0, 6, 6), RNG.random((6, 6)) * 0.3,
    )  # fmt: skip
    check(names["program"], args, 1e-9)
