"""Loops with branches on the place along them are cut into spans without one."""

import re

import numpy as np
import pytest

import fusec
from fusec.codegen.emit_spans import MAX_LINES

RNG = np.random.default_rng(3)


def flow(u):
    """A step of a flow: the inside, two columns of its own kind, and two rows."""
    v = u.copy()
    v[1:-1, 1:-1] = u[1:-1, 1:-1] * 0.5 + 0.25 * (u[1:-1, 2:] - u[2:, 1:-1] / 3)
    v[1:-1, -1] = u[1:-1, -1] - u[1:-1, -2] * 2
    v[1:-1, 0] = u[2:, 0] * u[1:-1, 0]
    v[0], v[-1] = 0, 1
    return v


def turned(x):
    return np.roll(x, 3, axis=1) - x


def joined(x):
    return np.concatenate([x, x * 2, 1 - x], axis=1)


def framed(x):
    return np.pad(x, ((1, 0), (2, 3)), constant_values=7) * 2


def every_third(x):
    y = x * 2
    y[1:, 2::20] = x[1:, 2::20] - 1
    return y


def windows(x):
    """An update at a corner of an update."""
    y = np.zeros_like(x)
    y[2:-1, 3:] = np.sqrt(x[2:-1, 3:] * x[2:-1, 3:] + 1)
    y[4:, :5] = x[:-4, 1:6]
    return y


MAPS = [flow, turned, joined, framed, every_third, windows]
FOLDS = {
    "all": lambda y: y.sum(), "rows": lambda y: y.sum(1), "columns": lambda y: y.sum(0),
    "largest": lambda y: np.abs(y).max(), "first": lambda y: y.argmax(1),
    "first of columns": lambda y: y.argmin(0), "running": lambda y: y.cumsum(1),
    "centred": lambda y: y - y.mean(1, keepdims=True),
    "whole numbers": lambda y: y.astype("i4").sum(),
}  # fmt: skip


@pytest.mark.parametrize("shape", [(6, 6), (7, 300), (40, 33), (3, 1000)])
@pytest.mark.parametrize("program", MAPS)
def test_what_is_folded_in_spans_is_numpys(program, shape):
    if shape[0] < 6 and program is windows:
        shape = (7, shape[1])
    x = RNG.normal(size=shape)
    for name, fold in {"itself": lambda y: y, **FOLDS}.items():
        wanted, found = fold(program(x)), fusec.jit(lambda x, f=fold: f(program(x)))(x)
        np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12, strict=True, err_msg=name)


@pytest.mark.parametrize("fold", [lambda y: y, *[FOLDS[k] for k in ("all", "rows", "columns")]])
@pytest.mark.parametrize("program", [flow, turned, joined, framed])
def test_no_loop_along_a_row_has_a_branch(program, fold):
    """However many edges there are: the span behind one is cut at the next."""
    text = fusec.jit(lambda x: fold(program(x))).lower(np.ones((301, 301))).kernels[0].source
    place = "i0" if program is not flow and "for i1" not in text else "i1"
    conditions = [x for x in re.findall(r"^ *if (.*):$", text, re.M) if re.search(r"\bi\d\b", x)]
    assert f"for {place} in" in text and not [x for x in conditions if place in x]


def test_updates_that_would_double_the_loops_again_and_again_do_not():
    """Each element in the middle of a row has a span on both sides of it."""

    def scattered(x):
        y = np.zeros_like(x)
        for k in range(12):
            y[k * k, k * k + 3] = x[k, k] * 2
        return y + x

    x = RNG.normal(size=(200, 200))
    (kernel,) = fusec.jit(scattered).lower(x).kernels
    assert len(kernel.source.splitlines()) < 3 * MAX_LINES
    np.testing.assert_array_equal(fusec.jit(scattered)(x), scattered(x))


def test_what_no_loop_changes_is_computed_before_them():
    """Also where a branch remains: LLVM computes both sides of it for every element."""

    def corner(x, y):
        y = y * 2
        for k in range(9):
            y[k // 3 + 1, k % 3 + 1] = np.cos(x[k, k]) + x[0, k]
        return y + x

    x, y = RNG.normal(size=(2, 50, 60))
    (kernel,) = fusec.jit(corner).lower(x, y).kernels
    before, loops = kernel.source.split("    for i0 in range(start, stop):")
    assert before.count("= cos(") == 9 and "= cos(" not in loops
    np.testing.assert_allclose(fusec.jit(corner)(x, y), corner(x, y), rtol=1e-14)


def ghosts(x):
    g = np.zeros((x.shape[0] + 2, x.shape[1] + 2))
    g[1:-1, 1:-1] = x
    g[0], g[-1] = g[1], g[-2]
    g[:, 0], g[:, -1] = g[:, 1], g[:, -2]
    return g


def periodic(x):
    g = np.empty((x.shape[0] + 2, x.shape[1] + 2))
    g[1:-1, 1:-1] = x * 2
    g[0, 1:-1], g[-1, 1:-1] = x[-1], x[0]
    g[:, 0] = g[:, -2]
    g[:, -1] = g[:, 1]
    return g


def reflected(x):
    u = x * 0.5
    u[0] = u[1]
    u[-1] = u[-2]
    u[:, 0] = u[:, 1]
    u[:, -1] = u[:, -2]
    return u


def odd_rows(x):
    u = x + 1
    u[::2] = u[1::2]
    u[3] = u[5]
    return u


def one_row_for_all(x):
    u = x + 1
    u[1:] = u[0]
    return u


def read_on_the_way(x):
    u = x + 1
    u[0] = u[1]
    total = u.sum()
    u[-1] = u[-2]
    return u, total


@pytest.mark.parametrize("shape", [(2, 2), (6, 7), (40, 301)])
@pytest.mark.parametrize(
    "program", [ghosts, periodic, reflected, odd_rows, one_row_for_all, read_on_the_way]
)
def test_rows_and_columns_put_elsewhere(program, shape):
    if program is odd_rows:
        shape = (max(shape[0], 6), shape[1])
    x = RNG.normal(size=shape)
    want, got = program(x), fusec.jit(program)(x)
    for w, g in zip(want, got):
        np.testing.assert_allclose(g, w, rtol=1e-13)


@pytest.mark.parametrize("program", [ghosts, periodic, reflected, odd_rows])
def test_they_are_read_from_where_they_come(program):
    assert len(fusec.jit(program).lower(np.ones((50, 60))).kernels) == 1
