"""Arrays that are made number by number: a text that grows with them, without branches in it."""

import numpy as np
import pytest

import fusec
from fusec.compare import copied
from fusec.ir.graph import evaluate
from fusec.ir.verify import verify
from fusec.passes import numbers
from fusec.trace.tree import flatten

RNG = np.random.default_rng(21)
LINE, TABLE = RNG.normal(size=120), RNG.normal(size=(60, 4))


def wealth(r, w, n=20):
    """A number a round, behind a sum of a row."""
    path = np.empty(n + 1)
    path[0] = s = 1.0
    for t in range(n):
        growth = w * (1 + r[t])
        s = s * growth.sum()
        w = growth / growth.sum()
        path[t + 1] = s
    return path


def moving(x, n=20):
    """The rest stays what it was."""
    out = np.full(n + 4, np.nan)
    for t in range(4, n + 4):
        out[t] = x[t - 4 : t].mean()
    return out


def two_arrays(x, n=20):
    a, b = np.zeros(n), np.ones(n)
    for t in range(1, n):
        a[t] = x[:t].max()
        b[t] = b[t - 1] * x[t:].min() + a[t]
    return a, b


def pairs(x, n=12):
    out = np.zeros((n, 2))
    for t in range(n):
        out[t, 0] = x[: t + 1].sum()
        out[t, 1] = x[t:].sum() - out[t, 0]
    return out


def begun_as_a_list(x, n=10):
    s = np.zeros((n, 3))
    s[0] = [x[0], 2.0, x[1]]
    for t in range(n - 1):
        for k in range(3):
            s[t + 1, k] = s[t, k] + 0.5 * x[: k + t + 1].sum() * s[t, (k + 1) % 3]
    return s


def rows(x, n=12):
    pos = np.zeros((n, 4))
    pos[0] = x[0]
    for t in range(n - 1):
        pos[t + 1] = pos[t] - x[t] / np.sqrt((pos[t] * pos[t]).sum())
    return pos


def every_other_row(x):
    out = np.ones((30, 4))
    for t in range(12):
        out[2 * t + 1] = np.exp(x[t]) / x[t].sum()
    return out


def one_column(x, n=12):
    out = np.zeros((n, 10))
    for t in range(n):
        out[t, 3] = x[: t + 1].sum()
    return out


def far_apart(x):
    out = np.zeros(500)
    for t in range(12):
        out[7 * t + 5] = x[: t + 1].sum()
    return out


def stored_twice(x, n=12):
    out = np.zeros(n)
    for t in range(2 * n):
        out[t % n] = x[: t + 1].sum() - out[t % n]
    return out


def of_an_argument(x):
    for t in range(12):
        x[t + 40] = x[: t + 1].sum()
    return x[:10].max()


def of_its_own(x):
    for t in range(12):
        x[t] = x[t] * x[20 : t + 21].sum()


def array_of_numbers(x):
    return np.array([x[k : k + 9].mean() for k in range(12)])


def array_of_rows(x):
    return np.stack([x[k : k + 3] * k for k in range(9)]) + 1


def counted(x):
    out = np.zeros(12, np.int16)
    for t in range(12):
        out[t] = (x[: 9 * t] > 0).sum()
    return out


def halves(x):
    out = np.empty(12, "f2")
    for t in range(12):
        out[t] = x[t : t + 4].sum()
    return out


CASES = [
    (wealth, (TABLE, TABLE[0] ** 2)), (moving, (LINE,)), (two_arrays, (LINE,)), (pairs, (LINE,)),
    (begun_as_a_list, (LINE,)), (rows, (TABLE,)), (every_other_row, (TABLE,)),
    (one_column, (LINE,)), (far_apart, (LINE,)), (stored_twice, (LINE,)),
    (of_an_argument, (LINE,)), (of_its_own, (LINE,)), (array_of_numbers, (LINE,)),
    (array_of_rows, (LINE,)), (counted, (LINE,)), (halves, (LINE.astype("f2"),)),
]  # fmt: skip


def nodes_of(low, name):
    return [n for n in low.graph.nodes() if n.op.name == name]


@pytest.mark.parametrize("fn, args", CASES, ids=[fn.__name__ for fn, _ in CASES])
def test_as_numpy(fn, args):
    mine, theirs, seen = copied(args), copied(args), copied(args)
    found, expected = fusec.jit(fn)(*mine), fn(*theirs)
    for a, b in zip(flatten((found, mine))[0], flatten((expected, theirs))[0], strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=1e-12 if a.dtype == "f8" else 1e-3)
    low = fusec.jit(fn).lower(*seen)
    verify(low.graph)
    assert nodes_of(low, "entries")


def recorded(n):
    @fusec.jit
    def run(x):
        out = np.empty(n)
        for t in range(n):
            out[t] = x[t : t + 8].mean()
        return out

    (kernel,) = run.lower(RNG.normal(size=n + 8)).kernels
    return kernel.source.splitlines()


def test_texts_grow_with_the_numbers_and_have_no_branches():
    short, long = recorded(20), recorded(40)
    assert len(long) < 2 * len(short)
    assert not [line for line in long if line.lstrip().startswith("else")]


def test_the_numbers_of_a_loop_are_stored_by_the_kernel_that_computes_them():
    low = fusec.jit(wealth).lower(TABLE, TABLE[0] ** 2)
    assert len(low.kernels) == 1 and not nodes_of(low, "slice_update")
    text = low.kernels[0].source
    assert text.count("y0[") == 21


def test_few_numbers_are_chosen_from_where_the_array_is_read():
    def ends(x):
        out = np.zeros(50)
        for t in range(numbers.LEAST - 1):
            out[t] = x[t]
        return np.exp(out)

    low = fusec.jit(ends).lower(LINE)
    assert len(low.kernels) == 1 and not nodes_of(low, "entries")


def test_numbers_that_lie_all_over_an_array_stay_updates():
    def scattered(x):
        out = np.zeros(5000)
        for t in range(12):
            out[t * t * t] = x[t]
        return out

    low = fusec.jit(scattered).lower(LINE)
    assert not nodes_of(low, "entries") and len(nodes_of(low, "slice_update")) == 12


def test_an_array_that_is_read_in_between_is_there():
    def snapshots(x):
        out, kept = np.zeros(24), []
        for t in range(24):
            out[t] = x[: t + 1].sum()
            if t == 11:
                kept.append(out.copy())
        return out, kept

    found, expected = fusec.jit(snapshots)(LINE), snapshots(LINE)
    for a, b in zip(flatten(found)[0], flatten(expected)[0], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def test_no_kernel_stores_more_numbers_than_llvm_compares_soon(monkeypatch):
    monkeypatch.setattr(numbers, "MOST", 16)
    low = fusec.jit(moving).lower(LINE, 40)
    assert [len(n.inputs) for n in nodes_of(low, "entries")] == [16, 16, 12]
    np.testing.assert_allclose(evaluate(low.graph, [LINE])[0], moving(LINE, 40), rtol=1e-12)


def test_an_element_is_that_of_what_was_put_there():
    def first(x):
        row = np.concatenate([x[2:4], np.array([x[0] * 2, 5.0, x[1]]), x[:2]])
        row[1:3] = x[5:7] * 3
        return row[4] + row.reshape(7, 1)[3:, 0][0] + row[0] + row[2] + row[::-1][1]

    low = fusec.jit(first).lower(LINE)
    assert not nodes_of(low, "concatenate") and not nodes_of(low, "slice_update")
    np.testing.assert_allclose(fusec.jit(first)(LINE), first(LINE), rtol=1e-15)


def test_the_rest_of_an_array_costs_nothing():
    """However large it is: its places were listed for each of the numbers."""

    def some(x, s):
        for k in range(20):
            x[3 * k] = s * k

    low = fusec.jit(some).lower(fusec.ShapeDtype((10**12,), "f8"), 2.0)
    assert low.explain().bytes_moved < 2000
