"""Independent kernels of one row are one kernel, and nothing else changes."""

import numpy as np
import pytest

import fusec

X, Y, Z = np.arange(12.0), np.arange(20.0).reshape(4, 5), np.arange(7.0)
I = np.array([3, 1, 2])  # noqa: E741


def three_reductions(x, y, z, i):
    return x.sum(), np.sqrt(z).prod(), np.max(y)


def one_needs_the_other(x, y, z, i):
    s = x.sum()
    return s, (np.sqrt(z) * s).max(), (y + 1).min()


def changed_between(x, y, z, i):
    a = x.sum()
    x *= 2
    b = y.sum(axis=1)
    x[2:5] += b[:3]
    return a, b, x.max(), z.min()


def checked_between(x, y, z, i):
    return x.sum(), z[i], np.sqrt(z).prod()


def with_scratch(x, y, z, i):
    return x / x.sum(), z - z.max(), y / np.sqrt((y * y).sum())


def products_between(x, y, z, i):
    p = y[:, :4] @ y
    return x.sum(), p, p.max(), np.cos(z).sum()


def many(x, y, z, i):
    return [np.sum(np.abs(x) + k * x if k % 2 else np.exp(-x) * k) ** 0.5 for k in range(14)]


FUNCTIONS = {  # kernels
    three_reductions: 1, one_needs_the_other: 2, changed_between: 2, checked_between: 3,
    with_scratch: 1, products_between: 1,
}  # fmt: skip


@pytest.mark.parametrize("function", [*FUNCTIONS, many])
def test_values_and_changes_are_numpys(function):
    theirs, ours = ([a.copy() for a in (X, Y, Z, I)] for _ in range(2))
    want, got = function(*theirs), fusec.jit(function)(*ours)
    for a, b in zip([*got, *ours], [*want, *theirs]):
        np.testing.assert_allclose(a, b, rtol=1e-14)
        assert np.asarray(a).dtype == np.asarray(b).dtype


@pytest.mark.parametrize("function", FUNCTIONS)
def test_independent_kernels_of_one_row_are_one(function):
    assert len(fusec.jit(function).lower(X, Y, Z, I).kernels) == FUNCTIONS[function]


def test_no_kernel_moves_behind_one_that_writes_over_what_it_reads():
    def f(x, w, y, m):
        t = x @ w
        highest = t.max(axis=0)
        difference = (t - y) * 2  # lies where t did
        return highest, np.cos(difference @ m).sum(axis=0)

    normal = np.random.default_rng(0).standard_normal
    args = [normal(s) for s in ((64, 30), (30, 40), (64, 40), (40, 20))]
    assert len(fusec.jit(f).lower(*args).kernels) == 3
    for a, b in zip(fusec.jit(f)(*args), f(*args)):
        np.testing.assert_allclose(a, b, rtol=1e-12)


LARGE, LONG = np.arange(640.0).reshape(40, 16) - 300, np.arange(300.0)


@pytest.mark.parametrize(
    "function",
    [
        lambda x, y: (x.sum(axis=0), np.sqrt(y).std()),
        lambda x, y: (np.abs(y).sum(), np.sqrt(y).max(), x.sum(axis=0), x[:, 1:].max(axis=0)),
    ],
)
def test_columns_and_rows_in_one_kernel_keep_their_helpers_apart(function):
    assert len(fusec.jit(function).lower(LARGE, LONG).kernels) == 1
    for a, b in zip(fusec.jit(function)(LARGE, LONG), function(LARGE, LONG)):
        np.testing.assert_allclose(a, b, rtol=1e-14)


def test_explain_counts_what_all_parts_do():
    low = fusec.jit(three_reductions).lower(X, Y, Z, I)
    (report,) = low.explain().kernels
    assert {op.name for op in report.ops} >= {"reduce_sum", "reduce_prod", "sqrt", "reduce_max"}
    assert report.bytes_read == X.nbytes + Y.nbytes + Z.nbytes
    assert report.bytes_written == 3 * 8
    (kernel,) = low.kernels
    assert kernel.source.count("def kernel") == 1 and "reduce_prod" in kernel.source


def test_one_text_is_compiled_once():
    """Launches that share a text are not put together with others."""
    def losses(*xs):
        return [x.sum() for x in xs]

    low = fusec.jit(losses).lower(*[np.arange(float(n)) for n in range(3, 9)])
    assert len({k.source for k in low.kernels}) == 1


def test_an_error_is_raised_before_later_arguments_change():
    def f(x, z, i):
        a = z[i].sum()
        x += 1
        return a

    x = X.copy()
    with pytest.raises(IndexError):
        fusec.jit(f)(x, Z, I + 7)
    np.testing.assert_array_equal(x, X)


def test_a_part_of_a_concatenation_whose_view_is_a_result():
    def f(x, y):
        s = x.sum(axis=0, keepdims=True)
        return np.concatenate([x * 0 + y, s]), s

    x = np.arange(12.0).reshape(2, 2, 3) + 1
    for found, wanted in zip(fusec.jit(f)(x, 1.25), f(x, 1.25)):
        np.testing.assert_array_equal(found, wanted)
