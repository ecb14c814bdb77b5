"""Stacks of tiny matrices are written out: products, inverses, solutions and determinants."""

import itertools

import numpy as np
import pytest
from oracle import check

import fusec
import kernels
from fusec.passes.tiny import LONG_BATCH

RNG = np.random.default_rng(11)
N = 40
EPS = {"f4": 1.2e-7, "f8": 2.3e-16}


def values(shape, dtype):
    x = RNG.normal(size=shape) * 4
    if np.dtype(dtype).kind == "c":
        x = x + 1j * RNG.normal(size=shape)
    return np.abs(x).astype(dtype) if np.dtype(dtype).kind in "ub" else x.astype(dtype)


def steps(function, *args):
    low = fusec.jit(function).lower(*args)
    text = [row.split()[1] for row in str(low).splitlines() if row[2:3].isdigit()]
    return text.count("kernel"), text.count("call")


def same(function, *args, rtol=0.0):
    with np.errstate(all="ignore"):
        want = function(*args)
    got = fusec.jit(function)(*args)
    assert (got.dtype, got.shape, got.strides) == (want.dtype, want.shape, want.strides)
    scale = np.abs(want[np.isfinite(want)]).max(initial=0)
    np.testing.assert_allclose(got, want, rtol=rtol, atol=float(rtol * scale))


PRODUCTS = [
    ((N, 4, 4), (4, 2)), ((2, 4), (N, 4, 4)), ((N, 2, 2), (N, 2, 1)), ((N, 1, 3), (N, 3, 3)),
    ((N, 4), (4, 2)), ((N, 3), (3,)), ((5, 8, 3, 3), (8, 3, 3)), ((5, 1, 3, 3), (1, 8, 3, 2)),
    ((2, N, 3), (3,)), ((3, N, 3), (3, 2)), ((2, 1, N, 4), (1, 1, 4, 4)), ((2, 9, 4), (4, 4)),
    ((4, 3), (3, N)), ((2,), (2, N)), ((1, 4), (4, N)),
    ((N, 2, 8), (N, 8, 2)), ((N, 1, 1), (N, 1, 1)), ((N, 2, 3), (3,)), ((3,), (N, 3, 2)),
]  # fmt: skip
LAYOUTS = {
    "C": lambda x: x,
    "Fortran": np.asfortranarray,
    "strided": lambda x: np.repeat(x, 2, axis=-1)[..., ::2],
    "reversed": lambda x: x[::-1],
}


@pytest.mark.parametrize("dtype", ["f4", "f8", "c8", "c16", "i4", "u1", "i8", "?"])
@pytest.mark.parametrize("shapes", PRODUCTS, ids=str)
def test_products(shapes, dtype):
    x, y = (values(s, dtype) for s in shapes)
    stack = np.broadcast_shapes(*[s[:-2] for s in shapes])
    plain = np.prod(stack) >= LONG_BATCH or x.dtype.kind != "c"  # else BLAS is fast
    found = steps(np.matmul, x, y)
    assert found == (1, 0) if plain else found[1] == 1
    rtol = {"f4": 1e-6, "c8": 1e-6, "f8": 1e-14, "c16": 1e-14}.get(dtype, 0)
    for layout in LAYOUTS.values():
        same(lambda x, y: x @ y, layout(x), layout(y), rtol=rtol)


@pytest.mark.parametrize(
    "shapes",
    [((LONG_BATCH - 1, 2, 2),) * 2, ((N, 9, 9), (9, 9)), ((N, 64), (64, 2)), ((4, 4), (4, 4)),
     ((N, 8, 8), (8, 8)), ((N, 5, 3), (3, 5)), ((N, 2), (2, 8)),
     ((2, N, 3), (2, 3, 3)), ((5, 3), (3, N)), ((4, 5), (5, N)), ((2, 3, 3), (3, N))], ids=str,
)  # fmt: skip
def test_other_products_stay_with_blas(shapes):
    x, y = (values(s, "f4") for s in shapes)
    assert steps(np.matmul, x, y) == (0, 1)


@pytest.mark.parametrize("shapes", [((0, 2, 2), (2, 2)), ((N, 2, 0), (0, 3)), ((N, 0, 2), (2, 2)),
                                    ((0, 3, 3), (0, 3, 1))], ids=str)  # fmt: skip
def test_nothing_is_a_product_of_nothing(shapes):
    same(lambda x, y: x @ y, *[values(s, "f8") for s in shapes])


def test_special_values_of_products():
    x = RNG.choice([0.0, -0.0, 1.0, np.inf, -np.inf, np.nan, 5e-324], (400, 2, 2))
    same(lambda x, y: x @ y, x, x[::-1], rtol=1e-15)


def test_a_product_with_its_transpose_is_symmetric():
    got = fusec.jit(lambda x: x @ x.transpose(0, 2, 1))(values((N, 4, 4), "f4"))
    np.testing.assert_array_equal(got, got.transpose(0, 2, 1))


def test_what_is_multiplied_with_points_is_computed_once_for_each():
    """Not for each row of the result."""
    low = fusec.jit(lambda r, p: r @ np.exp(p)).lower(np.eye(3), np.ones((3, N)))
    assert sum(k.source.count("exp(v") for k in low.kernels) == 1


CHAINS = {
    "rotations": (lambda x, y: (x @ y).transpose(0, 2, 1) @ x - y * 2, 1),
    "sum of a product": (lambda x, y: (x @ y).sum(), 2),
    "part of a product": (lambda x, y: (x @ y)[:, 1:, :2] + 1, 1),
    "one entry": (lambda x, y: (x @ y)[:, 2, 0], 1),
    "its exponential": (lambda x, y: np.exp(x @ y / 50), 2),
    "reshaped": (lambda x, y: (x @ y).reshape(-1, 9) @ np.ones((9, 1), x.dtype), 3),
    "batch reshaped": (lambda x, y: (x @ y).reshape(4, -1, 3, 3) + 1, 2),
    "reversed batch": (lambda x, y: (x @ y)[::-1] + y, 2),
    "both": (lambda x, y: np.where((x @ y) > 0, x @ y, -y), 1),
    "broadcast": (lambda x, y: (x @ y[:, :, :1]) * np.ones(3, x.dtype), 1),
    "diagonal": (lambda x, y: np.trace(x @ y, axis1=1, axis2=2), 2),
    "einsum": (lambda x, y: np.einsum("nij,njk,nk->ni", x, y, x[:, 0]), 1),
}


@pytest.mark.parametrize("name", CHAINS)
def test_what_surrounds_products_fuses(name):
    function, count = CHAINS[name]
    x, y = values((N, 3, 3), "f8"), values((N, 3, 3), "f8")
    same(function, x, y, rtol=1e-13)
    assert sum(steps(function, x, y)) <= count


# -- systems --------------------------------------------------------------------------------------


def matrices(n, dtype, scaled):
    rng = np.random.default_rng(n)
    a = rng.normal(size=(200, n, n))
    if scaled:
        a = a * 10.0 ** rng.integers(-6, 6, (200, 1, n))
    return a.astype(dtype)


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_systems_are_as_accurate_as_lapacks(n, dtype, scaled):
    """Backward errors: ``a @ inv(a) - 1`` and ``a @ x - b``, relative to what was added."""
    a, b = matrices(n, dtype, scaled), values((200, n, 2), dtype)
    exact = a.astype(np.longdouble)
    for right, function in (
        (np.eye(n), np.linalg.inv), (b.astype(np.longdouble), lambda a: np.linalg.solve(a, b)),
    ):
        if right.ndim == 2:
            assert steps(function, a)[1] == 0
        errors = []
        for x in (fusec.jit(function)(a), function(a)):
            x = x.astype(np.longdouble)
            size = np.abs(exact) @ np.abs(x) + np.abs(right)
            errors.append(np.max(np.abs(exact @ x - right) / size.max(-2, keepdims=True)))
        assert errors[0] <= max(2 * errors[1], 2 * n * EPS[dtype])


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_determinants(n, dtype):
    a = matrices(n, dtype, False)
    got, want = fusec.jit(np.linalg.det)(a), np.linalg.det(a.astype("f8"))
    assert (got.dtype, got.shape) == (a.dtype, (200,))
    scale = np.prod(np.linalg.norm(a.astype("f8"), axis=-1), axis=-1)
    assert np.max(np.abs(got - want) / scale) < 8 * EPS[dtype]
    assert steps(np.linalg.det, a) == (1, 0)


@pytest.mark.parametrize("shape", [(0, 3, 3), (N, 0, 0), (N, 3, 0)])
@pytest.mark.parametrize("function", [
    np.linalg.inv, np.linalg.det, lambda a: np.linalg.solve(a, a), lambda a: a @ a.mT])
def test_empty_matrices(function, shape):
    check(function, np.zeros(shape), ulp=0)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shapes", [
    ((N, 2, 2), (N, 2, 3)), ((N, 3, 3), (3, 1)), ((N, 3, 3), (3,)), ((5, 8, 2, 2), (8, 2, 2)),
    ((1, 2, 2), (N, 2, 2)), ((N, 4, 4), (N, 4, 8)),
])  # fmt: skip
def test_solutions_of_every_shape(shapes, layout):
    a, b = (LAYOUTS[layout](values(s, "f8")) for s in shapes)
    same(np.linalg.solve, a, b, rtol=1e-10)


@pytest.mark.parametrize("function", [np.linalg.inv, lambda a: np.linalg.solve(a, a)])
@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_singular_matrices_raise_what_numpy_raises(function, n):
    a = matrices(n, "f8", False)
    a[7, -1] = 0
    with pytest.raises(np.linalg.LinAlgError, match="Singular"):
        fusec.jit(function)(a)
    with pytest.raises(np.linalg.LinAlgError, match="Singular"):
        fusec.jit(lambda a: function(a)[:, 0, 0] * 0)(a)


@pytest.mark.parametrize("special", [np.nan, np.inf, 1e-320, 1e300, 0.0])
@pytest.mark.parametrize("function", [np.linalg.inv, np.linalg.det])
def test_special_values_are_numpys(function, special):
    function = np.errstate(all="ignore")(function)  # LAPACK's warnings are its own
    for n, place in itertools.product((2, 3), ((0, 0), (-1, 0), (0, -1), (-1, -1))):
        a = np.broadcast_to(np.eye(n) + 0.5, (N, n, n)).copy()
        a[(3, *place)] = special
        same(function, a, rtol=1e-12)


def test_nearly_singular_matrices_are_numpys():
    """Whether the last pivot is an exact zero depends on the rounding of every step."""
    a = np.broadcast_to(np.arange(1.0, 10).reshape(3, 3), (N, 3, 3)) * np.arange(1, N + 1)[
        :, None, None]
    for function in (np.linalg.inv, np.linalg.det):
        try:
            want = function(a)
        except np.linalg.LinAlgError:
            with pytest.raises(np.linalg.LinAlgError):
                fusec.jit(function)(a)
        else:
            np.testing.assert_array_equal(fusec.jit(function)(a), want)


@pytest.mark.parametrize(("dtype", "calls"), [("i4", 0), ("u1", 0), ("c16", 1), ("c8", 1)])
def test_other_dtypes_of_matrices(dtype, calls):
    a = (np.eye(3) * 3 + np.arange(9).reshape(3, 3) + np.zeros((N, 1, 1))).astype(dtype)
    same(np.linalg.inv, a, rtol=1e-13)
    assert steps(np.linalg.inv, a)[1] == calls


def test_gradients_agree_with_those_of_few_matrices():
    """Fewer matrices are calls of LAPACK, whose rules are the same."""

    def loss(a, b):
        return np.sum(np.linalg.inv(a) @ b * np.linalg.det(a)[:, None, None]) + np.sum(
            np.sin(np.linalg.solve(a, b)))

    a, b = matrices(3, "f8", False)[:N] + 4 * np.eye(3), values((N, 3, 2), "f8")
    got = fusec.grad(loss, argnums=(0, 1))(a, b)
    few = [fusec.grad(loss, argnums=(0, 1))(a[k : k + 8], b[k : k + 8]) for k in range(0, N, 8)]
    for g, w in zip(got, zip(*few)):
        np.testing.assert_allclose(g, np.concatenate(w), rtol=1e-9, atol=1e-9)


def test_vmap_of_products_and_inverses_is_one_kernel():
    def gain(a, b):
        return np.linalg.inv(a @ a.T + b) @ a

    a, b = values((N, 3, 3), "f8"), np.eye(3) * 5
    f = fusec.vmap(gain, in_axes=(0, None))
    np.testing.assert_allclose(f(a, b), np.stack([gain(x, b) for x in a]), rtol=1e-10, atol=1e-12)


def test_an_update_in_place_of_what_is_read():
    def update(p, h):
        p -= p @ h @ p
        return p[:, 0]

    p, h = values((N, 2, 2), "f8"), values((2, 2), "f8")
    q = p.copy()
    np.testing.assert_allclose(fusec.jit(update)(p, h), update(q, h), rtol=1e-13, atol=1e-12)
    np.testing.assert_allclose(p, q, rtol=1e-13, atol=1e-12)


def test_a_filter_is_one_kernel():
    kernel = kernels.get("kalman_update")
    low = fusec.jit(kernel.function).lower(*kernel.args("M", "f4"))
    assert [type(s).__name__ for s in low.program.steps] == ["Launch"]
