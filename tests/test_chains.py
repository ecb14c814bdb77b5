"""Kernels that follow each other run together, a few rows at a time (`codegen/chains.py`)."""

import numpy as np
import pytest

import fusec
from fusec.codegen import chains
from fusec.ops.registry import MEDIUM

RNG = np.random.default_rng(3)


def smooth(x, axis):
    """Weights 1, 2, 1; enough work to be stored rather than computed again."""
    a, b, c = ([slice(None)] * x.ndim for _ in range(3))
    a[axis], b[axis], c[axis] = slice(None, -2), slice(1, -1), slice(2, None)
    return (x[tuple(a)] + 2 * x[tuple(b)] + x[tuple(c)]) * 0.25 + x[tuple(b)] * 0.5


def blur(x):
    return smooth(smooth(x, 0), 1)


def sobel(x):
    down, across = smooth(x, 0), smooth(x, 1)
    return np.sqrt((down[:, 2:] - down[:, :-2]) ** 2 + (across[2:] - across[:-2]) ** 2)


def fluxes(u):
    flux = (u[1:] - u[:-1]) * (u[1:] + u[:-1]) * 0.5 * u[1:]
    return u[1:-1] + 0.1 * (flux[1:] - flux[:-1])


def life(board):
    rows = board + np.roll(board, 1, axis=0) + np.roll(board, -1, axis=0)
    around = rows + np.roll(rows, 1, axis=1) + np.roll(rows, -1, axis=1) - board
    return ((around == 3) | ((board == 1) & (around == 2))).astype(np.uint8)


def several(x):
    for axis in (0, 1, 0, 1):
        x = smooth(x, axis)
    return x


def halves(x):
    y = smooth(x, 0)
    return y[::2] * y[1::2]


def grid(*shape, dtype="f8"):
    return RNG.normal(size=shape).astype(dtype)


#: function, an argument of which each array is larger than a core's cache, kernels in the chain
CASES = {
    "rows, then columns": (blur, grid(400, 500), 2),
    "two that one reads": (sobel, grid(700, 701, dtype="f4"), 3),
    "one axis": (fluxes, grid(200_003), 2),
    "rows of a table": (fluxes, grid(20_000, 9), 2),
    "planes": (fluxes, grid(70, 50, 60), 2),
    "the other end of the row": (life, RNG.integers(0, 2, (1200, 1111)).astype("u1"), 2),
    "four": (several, grid(400, 500), 4),
    "every other row": (halves, grid(1000, 300), 2),
}


def chain_of(low):
    steps = low.program.steps
    found = {id(s.chain): s.chain for s in steps if getattr(s, "chain", None)}
    return [*found.values()]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", CASES)
def test_what_lies_between_stays_in_the_cache(name, threads):
    f, x, parts = CASES[name]
    jitted = fusec.jit(f)
    with fusec.threads(threads):
        for _ in range(2):
            np.testing.assert_array_equal(jitted(x), f(x))
    low = jitted.lower(x)
    (chain,) = chain_of(low)
    assert len(chain.parts) == parts == len(low.kernels)
    assert low.explain().bytes_peak < 1.01 * f(x).nbytes  # the result, and no temporaries
    assert "at a time for" in str(low)


@pytest.mark.parametrize(
    "f",
    [
        lambda x: (smooth(x, 0), smooth(smooth(x, 0), 1)),  # what lies between is a result
        lambda x: smooth(x, 0) * smooth(x, 0)[::-1],  # needs rows from the other end
        lambda x: smooth(np.sort(smooth(x, 0), axis=0), 1),
        lambda x: smooth(smooth(x, 0), 1).sum(axis=1),
        lambda x: smooth(np.exp(np.sin(smooth(x, 0))), 1),  # takes longer than memory does
    ],
)
def test_other_programs_are_as_before(f):
    x = grid(600, 400)
    np.testing.assert_allclose(fusec.jit(f)(x)[0], f(x)[0], rtol=1e-12, atol=1e-14)
    assert not chain_of(fusec.jit(f).lower(x))


def test_small_arrays_have_no_chain():
    assert not chain_of(fusec.jit(blur).lower(grid(40, 50)))


def test_an_argument_that_is_changed_is_read_first():
    def step(u):
        u[1:-1, 1:-1] += 0.1 * smooth(smooth(u, 0), 1)

    mine, numpys = (grid(500, 400) for _ in range(2))
    numpys[:] = mine
    step(numpys)
    fusec.jit(step)(mine)
    np.testing.assert_array_equal(mine, numpys)


def test_temporaries_share_no_memory_with_what_the_chain_still_reads():
    def f(x, w):
        a = np.sort(x * w, axis=1)  # in memory, read by the first part only
        return smooth(smooth(a, 0), 1), (smooth(smooth(a * 2, 0), 1) * w[2:, 2:]).sum()

    x, w = grid(500, 600), grid(500, 600)
    for got, want in zip(fusec.jit(f)(x, w), f(x, w)):
        np.testing.assert_allclose(got, want, rtol=1e-12)


def test_errors_are_numpys():
    def f(k, n):
        y = (k[:-1] * k[1:] + k[1:] * 3 - k[:-1] * 5) * k[1:]
        return (y[:, 1:] - y[:, :-1]) ** n[1:, 1:]

    k = RNG.integers(3, 9, (600, 500))
    n = np.ones_like(k)
    jitted = fusec.jit(f)
    np.testing.assert_array_equal(jitted(k, n), f(k, n))
    assert chain_of(jitted.lower(k, n))
    n[300, 77] = -1
    with pytest.raises(ValueError, match="negative integer powers"):
        jitted(k, n)


def test_errors_of_rows_that_nothing_needs_are_numpys():
    def f(k, n):
        y = (k * 3 + k) ** n * k + k * 5
        return y[2:] * y[1:-1] - y[2:]

    k = RNG.integers(3, 9, (600, 500))
    n = np.ones_like(k)
    jitted = fusec.jit(f)
    np.testing.assert_array_equal(jitted(k, n), f(k, n))
    n[0, 77] = -1
    with pytest.raises(ValueError, match="negative integer powers"):
        jitted(k, n)


def moved(x, kind):
    """The array at other places."""
    n = x.shape[0]
    if kind == "step":
        return x[1:] - x[:-1] * 0.5 + x[1:] * x[:-1] * 0.25
    if kind == "wide":
        return x[min(3, n - 1) :] * x[: n - min(3, n - 1)] + x[min(3, n - 1) :] * 0.5
    if kind == "even":
        return x[: n // 2 * 2 : 2] * 0.5 + x[1 : n // 2 * 2 : 2]
    if kind == "around":
        return x * 0.5 + np.roll(x, 1, axis=-1) * np.roll(x, -2, axis=-1) + x * x
    if kind == "edge":
        return np.pad(x, [(0, 0)] * (x.ndim - 1) + [(2, 1)], mode="edge")[..., 1:] * x[..., :1] + 1
    return x[..., ::-1] * 0.5 + x * x + x[..., :1]


@pytest.mark.parametrize("seed", range(60))
def test_random_chains(seed, monkeypatch):
    monkeypatch.setattr(chains, "CACHE", 0)
    monkeypatch.setattr(chains, "ROOM", 3000)
    monkeypatch.setattr(chains, "COSTLY", 10 * MEDIUM)
    rng = np.random.default_rng(seed)
    shape = [(700,), (60, 17), (40, 5, 6)][seed % 3]
    known = ["step", "wide", "even", "around", "edge", "back"]
    kinds = [known[k] for k in rng.integers(0, len(known), rng.integers(2, 6))]

    def f(x):
        made = [x]
        for kind in kinds:
            x = moved(x, kind)
            made.append(x)
        rest, before = made[-1], made[-2]
        if seed % 2 and rest.shape[1:] == before.shape[1:] and len(rest) <= len(before):
            rest = rest + before[: len(rest)]
        return rest

    x = rng.normal(size=shape).astype(rng.choice(["f4", "f8"]))
    if rng.random() < 0.3:
        x = np.asfortranarray(x)
    with fusec.threads(1 + seed % 2), np.errstate(all="ignore"):
        got, want = fusec.jit(f)(x), f(x)
    np.testing.assert_allclose(got, want, rtol=1e-6 if x.dtype == "f4" else 1e-13)
