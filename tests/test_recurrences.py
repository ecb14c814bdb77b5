"""Loops in which no element needs another one's past are kernels with the loop inside."""

import numpy as np
import pytest

import fusec
from fusec.compare import copied
from fusec.ir.graph import evaluate
from fusec.passes import recur, roll
from fusec.trace.tree import flatten

RNG = np.random.default_rng(12)


@pytest.fixture(autouse=True)
def eager(monkeypatch):
    """Short loops are rolled."""
    monkeypatch.setattr(roll, "LEAST", 16)
    monkeypatch.setattr(roll, "UNROLLED", 12)


def series(n, *shape, dtype="f8"):
    x = RNG.normal(size=(n, *shape))
    return (x * 20).astype(dtype) if np.dtype(dtype).kind in "iu" else x.astype(dtype)


def average(x, a=0.25):
    """Stores every round, and carries what it stores."""
    out, s = np.empty_like(x), x[0]
    for t in range(len(x)):
        s = a * x[t] + (1 - a) * s
        out[t] = s
    return out


def garch(x):
    """Reads what the last round has stored."""
    v = np.empty_like(x)
    v[0] = x[0] * x[0]
    for t in range(1, len(x)):
        v[t] = 0.1 + 0.2 * x[t - 1] * x[t - 1] + 0.7 * v[t - 1]
    return v


def third_order(x):
    """Reads what three rounds back have stored."""
    y = x.copy()
    for t in range(3, len(x)):
        y[t] = x[t] - 0.5 * y[t - 1] + 0.25 * y[t - 3]
    return y


def backwards(x):
    y = np.zeros_like(x)
    for t in range(len(x) - 2, -1, -1):
        y[t] = 0.5 * y[t + 1] + x[t]
    return y


def in_argument(x):
    """Changes the argument itself."""
    for t in range(1, len(x)):
        x[t] += 0.5 * x[t - 1]


def doubled_rows(x):
    """Reads the very part that it changes."""
    y = x * 1
    for t in range(len(x)):
        y[t] = y[t] * 2 + 1
    return y


def kalman(z):
    """Several carried values, Python numbers that differ from round to round."""
    x, p, found = z[0] * 0, z[0] * 0 + 1, []
    for t in range(len(z)):
        p = p + 0.01 * t
        gain = p / (p + 0.5)
        x = x + gain * (z[t] - x)
        p = (1 - gain) * p
        found.append(x)
    return np.stack(found), x, p


def older(x):
    """Carries values of the last three rounds, and gives them back."""
    a, b, c = x, x + 1, x * 2
    for _ in range(21):
        a, b, c = b, c, 0.5 * a - 0.25 * b + 0.125 * c
    return a, b, c


def escapes(c):
    """Masks and counts, of other dtypes than what is computed."""
    z, alive, count = c * 0, c == c, np.zeros(c.shape, "i4")
    for _ in range(20):
        z = np.where(alive, z * z + c, z)
        alive = alive & (np.abs(z) < 2)
        count = count + alive
    return z, alive, count


def hashes(n):
    for _ in range(30):
        n = (n * 5 + 3) ^ (n >> 2)
    return n


def newton(x):
    y = x * x + 1
    for _ in range(20):
        y = 0.5 * (y + (x * x) / y)
    return y


def every_other(x):
    """Stores parts that lie apart in each round."""
    out = np.zeros((2 * len(x), *x.shape[1:]))
    s = x[0]
    for t in range(len(x)):
        s = np.sqrt(s * s + x[t] * x[t])
        out[2 * t] = s
        out[2 * t + 1] = -s
    return out


def columns(x):
    """Rounds go along the last axis, elements along the first."""
    out = np.empty_like(x)
    s = x[:, 0] * 0
    for t in range(x.shape[1]):
        s = np.maximum(s * 0.9, x[:, t])
        out[:, t] = s
    return out


def reversed_list(x):
    rows, s = [], x[-1]
    for t in range(len(x) - 1, -1, -1):
        s = 0.9 * s + x[t]
        rows.append(s)
    return np.stack(rows[::-1])


def weighted(x, w):
    """Reads an element of a table of numbers in each round."""
    s = x * 0
    for t in range(len(w)):
        s = s * 0.5 + w[t] * x
    return s


def last_row(x):
    """What a product of triangles reads in its last row: nothing."""
    n = len(x)
    for t in range(x.shape[1]):
        x[-1, t] += np.dot(x[n:, 0], x[n:, t])
    return x


def constants(x):
    """Arrays that are known: the same in each round, one for each, one that rounds look up."""
    s, known, table = x[0], np.array([0.25, 0.5, 0.75]), np.array([1.0, 2.0, 4.0, 8.0, 16.0])
    for t in range(24):
        s = s * known + np.array([1, 2, 3]) * t + table[(x[t] > 0) * 4]
    return s


ROWS = [
    (fn, (series(24, *shape),))
    for fn in (average, garch, third_order, backwards, in_argument, doubled_rows, kalman,
               every_other, reversed_list)
    for shape in ((), (1,), (3,), (40,), (2, 3), (5, 40))
]  # fmt: skip
ROWS += [(fn, (series(n),)) for fn in (older, newton) for n in (1, 2, 9, 2500)]
ROWS += [
    (average, (series(24, 7, dtype="f4"),)), (kalman, (series(24, 65, dtype="f4"),)),
    (average, (series(24, 6)[::-1],)), (average, (np.asfortranarray(series(24, 6)),)),
    (garch, (series(24, 12)[:, ::2],)), (third_order, (series(24, 3, 4).transpose(0, 2, 1),)),
    (hashes, (series(33, dtype="i8"),)), (hashes, (series(33, dtype="u4"),)),
    (escapes, (series(17) + 1j * series(17),)), (escapes, (series(3, 5),)),
    (last_row, (series(9, 40),)), (columns, (series(9, 24),)), (columns, (series(24, 9).T,)),
    (weighted, (series(11), series(24))), (weighted, (series(11), series(48)[::-2])),
    (weighted, (series(3, 4).T, series(24, dtype="f4"))), (constants, (series(24, 2, 3),)),
]  # fmt: skip


def fresh(args):
    """The same arguments in memory of their own."""
    leaves, tree = flatten(args)
    return tree.unflatten(copied(leaves))


def rounds(low):
    """How many rounds each recurrence has."""
    return [n.attrs["rounds"].rounds for n in low.graph.nodes() if n.op.name == "recurrence"]


@pytest.mark.parametrize(
    ("fn", "args"), ROWS, ids=[f"{f.__name__}-{a[0].shape}-{a[0].dtype}" for f, a in ROWS]
)
def test_a_recurrence_is_numpys_bit_for_bit(fn, args):
    theirs = fresh(args)
    wanted = flatten((fn(*theirs), theirs))[0]
    jitted = fusec.jit(fn)
    low = jitted.lower(*fresh(args))
    assert rounds(low), "it is no recurrence"
    for k in range(2):
        ours = fresh(args)
        jitted.fn = None if k else fn  # NumPy does not stand in for it
        found = flatten((jitted(*ours), ours))[0]
        for a, b in zip(wanted, found, strict=True):
            assert type(a) is type(b)
            if a is not None:
                assert a.dtype == b.dtype and a.shape == b.shape
                assert np.allclose(a, b, 1e-13) if a.dtype.kind == "c" else np.array_equal(a, b)
    leaves = flatten((fresh(args), {}))[0]
    sources = low.traced.trace.sources
    if all(s.kind == "arg" for s in sources):
        results = evaluate(low.graph, [leaves[s.ref] for s in sources])
        direct = evaluate(low.traced.graph, [leaves[s.ref] for s in sources])
        assert all(np.array_equal(a, b) for a, b in zip(results, direct, strict=True))


def neighbours(u):
    for _ in range(20):
        u = u + 0.1 * (np.roll(u, 1) - u)
    return u


def shared_sum(u):
    for _ in range(20):
        u = u - 0.1 * u.sum()
    return u


def diagonal(y):
    """Element i of one round is element i + 1 of the next one."""
    for t in range(1, 20):
        y[t : t + 3] = y[t - 1 : t + 2] * 0.5 + 1
    return y


def looked_up(u, i):
    for _ in range(20):
        u = u[i] * 0.5
    return u


@pytest.mark.parametrize(
    ("fn", "args"),
    [(neighbours, (series(9),)), (shared_sum, (series(9),)), (diagonal, (series(24),)),
     (looked_up, (series(9), RNG.integers(0, 9, 9)))],
)  # fmt: skip
def test_elements_that_need_others_are_no_recurrence(fn, args):
    wanted = fn(*fresh(args))
    low = fusec.jit(fn).lower(*fresh(args))
    assert not rounds(low)
    assert np.allclose(fusec.jit(fn)(*fresh(args)), wanted, 1e-12)


def test_a_recurrence_is_one_launch_that_stores_where_its_results_lie():
    low = fusec.jit(kalman).lower(series(24, 50))
    (kernel,) = [k for k in low.program.kernels if "n_turn" in k.text]
    assert len(low.program.steps) == len(low.program.kernels)  # nothing is left to NumPy
    writes = {s.node.op.name for s in low.program.slots if s.role == "result"}
    assert writes == {"concatenate", "host_out", "reshape"}  # the last estimate is a copy
    assert not any("concatenate" in k.text for k in low.program.kernels if k.rows > 100)
    assert low.explain().bytes_moved < 4 * 24 * 50 * 8
    assert kernel.text.startswith("# rounds of add, ")
    assert "rounds" in str(low)


def some_rows(x):
    s = x[0] * 1
    for t in range(24):
        s = s * 0.5 + x[t]
    return s


def one_column(x):
    for t in range(1, 24):
        x[t, 0] = x[t - 1, 0] * 0.5 + x[t, 1]


@pytest.mark.parametrize(("fn", "read", "written"), [(some_rows, 25, 2), (one_column, 1, 1)])
def test_bytes_are_those_of_the_parts_that_rounds_read_and_store(fn, read, written):
    found = fusec.jit(fn).lower(series(1000, 50)).explain()
    (kernel,) = [k for k in found.kernels if "rounds" in k.launch]
    assert 22 * 8 <= kernel.bytes_read <= read * 50 * 8
    assert 22 * 8 <= kernel.bytes_written <= written * 50 * 8
    assert read == 1 or 24 * 50 * 8 <= found.bytes_least <= 26 * 50 * 8


def test_the_text_of_a_recurrence_is_the_same_for_all_sizes():
    texts = {
        tuple(k.text for k in fusec.jit(average).lower(series(n, m)).program.kernels)
        for n, m in ((24, 50), (60, 70))
    }
    assert len(texts) == 1


def test_an_error_in_a_round_is_numpys():
    def powers(n, k):
        for _ in range(20):
            n = (n ** k) % 1000
            k = k - 1
        return n

    args = np.arange(5), np.full(5, 30)
    assert rounds(fusec.jit(powers).lower(*args))
    assert np.array_equal(fusec.jit(powers)(*args), powers(*args))
    with pytest.raises(ValueError, match="negative integer powers"):
        fusec.jit(powers)(np.arange(5), np.array([30, 30, 10, 30, 30]))


def test_threads_share_the_elements_of_a_recurrence():
    x = series(40, 20_000, dtype="f4")
    for n in (1, 2, 3):
        with fusec.threads(n):
            assert np.array_equal(fusec.jit(average)(x), average(x))


def test_gradients_of_recurrences():
    def loss(x):
        s = x[0]
        for t in range(1, len(x)):
            s = 0.9 * s + np.tanh(x[t])
        return (s * s).sum()

    x, step = series(24, 3), 1e-6
    slope = fusec.jit(fusec.grad(loss))(x)
    moved = x.copy()
    moved[5, 1] += step
    assert np.isclose(slope[5, 1], (loss(moved) - loss(x)) / step, 1e-4)


@pytest.mark.parametrize("arch", ["sm_80", "sm_90"])
@pytest.mark.parametrize("fn", [average, garch, kalman, in_argument])
def test_recurrences_are_one_cuda_kernel(fn, arch):
    low = fusec.jit(fn).lower(series(24, 500, dtype="f4"), target=f"cuda:{arch}")
    assert rounds(low)
    (made,) = [k for k in low.compile().kernels if "n_turn" in k.source]
    assert ".local" not in made.ptx and ".f64" not in made.ptx
    assert not [s for s in low.program.steps if not hasattr(s, "kernel")]


def test_loops_that_are_no_recurrences_are_unrolled_for_a_gpu():
    low = fusec.jit(neighbours).lower(series(9), target="cuda:sm_90")
    assert not any(n.op.name in ("loop", "recurrence") for n in low.graph.nodes())


def test_small_loops_are_recurrences_where_rounds_store(monkeypatch):
    """Unrolled, they are a chain of updates; those that only compute stay in registers."""
    monkeypatch.setattr(roll, "LEAST", 1024)
    for fn, args, count in (
        (average, (series(12),), 1), (garch, (series(12, 5),), 1), (average, (series(6),), 0),
        (newton, (series(9),), 0), (kalman, (series(24, 5),), 0), (diagonal, (series(24),), 0),
    ):  # fmt: skip
        low = fusec.jit(fn).lower(*fresh(args))
        assert len(rounds(low)) == count
        assert not any(n.op.name == "loop" for n in low.graph.nodes())
        assert np.array_equal(fusec.jit(fn)(*fresh(args)), fn(*fresh(args))) or fn is kalman


def driven(p, dt, n=40):
    """Numbers of Python that differ from round to round, known when the function is called."""
    y = np.zeros(n)
    y[0] = p[0]
    for i in range(n - 1):
        y[i + 1] = y[i] + dt * (p[1] * np.sin(p[2] * (i * dt)) - y[i])
    return y


def test_numbers_of_rounds_are_an_array_of_the_recurrence(monkeypatch):
    p = series(3)
    low = fusec.jit(driven).lower(p, 0.01)
    ops = [n.op.name for n in low.graph.nodes()]
    assert ops.count("recurrence") == 1 and ops.count("entries") == 1
    fn = fusec.jit(driven)
    for dt in (0.01, 0.25):
        np.testing.assert_allclose(fn(p, dt), driven(p, dt), rtol=1e-12)
    monkeypatch.setattr(recur, "MOST", 16)
    low = fusec.jit(driven).lower(p, 0.01)
    assert not any(n.op.name == "recurrence" for n in low.graph.nodes())
