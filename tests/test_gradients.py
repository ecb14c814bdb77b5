"""What differentiation means to a user: containers, nesting, in-place updates, rules, errors.

Values of single functions are compared in ``test_gradients_table``; kernels are counted in
``test_gradients_kernels``.
"""

import collections
import dataclasses

import numpy as np
import pytest

import fusec
from fusec.errors import DerivativeError, DTypeError, ShapeError

X = np.array([0.5, -1.5, 2.0])
W = np.arange(6.0).reshape(2, 3) - 2.5


def cube(x):
    return (x**3).sum()


def same(got, wanted, **tolerance):
    np.testing.assert_allclose(got, wanted, **{"rtol": 1e-12, "atol": 1e-12, **tolerance})


# -- forms ----------------------------------------------------------------------------------------


def test_grad_and_value():
    same(fusec.grad(cube)(X), 3 * X**2)
    value, grads = fusec.value_and_grad(cube)(X)
    assert value == cube(X)
    same(grads, 3 * X**2)


def test_argnums_and_keywords():
    def f(a, b, scale=1.0):
        return (a * b).sum() * scale

    same(fusec.grad(f, 1)(X, X + 1), X)
    same(fusec.grad(f, -1)(X, X + 1), X)
    both = fusec.grad(f, (1, 0))(X, X + 1, scale=2.0)
    assert type(both) is tuple
    same(both[0], 2 * X)
    same(both[1], 2 * (X + 1))


def test_has_aux():
    f = lambda x: (cube(x), {"twice": 2 * x})
    grads, aux = fusec.grad(f, has_aux=True)(X)
    same(grads, 3 * X**2)
    same(aux["twice"], 2 * X)
    (value, aux), grads = fusec.value_and_grad(f, has_aux=True)(X)
    assert value == cube(X)
    same(aux["twice"], 2 * X)


Point = collections.namedtuple("Point", "x y")


@dataclasses.dataclass
class Layer:
    w: np.ndarray
    b: np.ndarray


def test_containers_come_back_in_their_form():
    params = {"p": Point(X, 2.0), "l": [X, (X * 2,)], "d": Layer(W, X), "n": None}

    def f(p):
        d = p["d"]
        return (p["p"].x * p["p"].y).sum() + (p["l"][1][0] ** 2).sum() + (d.w @ X * 2).sum()

    g = fusec.grad(f)(params)
    assert type(g["p"]) is Point and type(g["d"]) is Layer and g["n"] is None
    same(g["p"].x, np.full(3, 2.0))
    same(g["p"].y, X.sum())
    same(g["l"][0], np.zeros(3))
    same(g["l"][1][0], 4 * X)
    same(g["d"].w, np.broadcast_to(2 * X, (2, 3)))
    same(g["d"].b, np.zeros(3))


def test_python_numbers_differentiate():
    g = fusec.grad(lambda x: np.sin(x) * x)(2.0)
    assert type(g) is np.float64
    same(g, np.sin(2.0) + 2 * np.cos(2.0))
    same(fusec.grad(lambda x, a: (a * x).sum())(3.0, X), X.sum())


def test_methods_and_captured_arrays():
    class Model:
        def __init__(self):
            self.w = W.copy()

        def loss(self, x):
            return ((self.w @ x) ** 2).sum()

    model = Model()
    gradient = fusec.grad(model.loss)
    same(gradient(X), 2 * model.w.T @ model.w @ X)
    model.w[...] = 1
    same(gradient(X), 2 * model.w.T @ model.w @ X)


def test_a_derivative_of_the_same_function_is_traced_once():
    assert fusec.grad(cube) is fusec.grad(cube)
    assert fusec.grad(cube) is not fusec.grad(cube, has_aux=True)


def test_gradients_have_the_layout_of_their_arguments():
    x = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    g = fusec.grad(lambda x: (x * x).sum())(x)
    assert g.flags.f_contiguous
    same(g, 2 * x)


def test_the_gradient_of_what_is_not_used_takes_no_memory():
    a, b = fusec.grad(lambda a, b: (a * a).sum(), (0, 1))(X, np.ones(1000))
    assert b.shape == (1000,) and not b.any()
    assert b.strides == (0,) and not b.flags.writeable
    same(a, 2 * X)


@pytest.mark.parametrize("dtype", ["f4", "f8", "f2"])
def test_dtypes_stay(dtype):
    x = X.astype(dtype)
    value, g = fusec.value_and_grad(lambda x: (np.tanh(x * 2) + x / 3).mean())(x)
    assert g.dtype == x.dtype and value.dtype == x.dtype


# -- nesting --------------------------------------------------------------------------------------


def test_second_derivatives():
    same(fusec.grad(lambda x: fusec.grad(cube)(x).sum())(X), 6 * X)
    third = fusec.grad(fusec.grad(fusec.grad(lambda x: x**5)))
    same(third(1.5), 60 * 1.5**2)


def test_inner_variables_are_not_outer_ones():
    """d/dx (x * d/dy (x + y)) = 1."""
    same(fusec.grad(lambda x: x * fusec.grad(lambda y: x + y)(1.0))(3.0), 1.0)
    f = lambda x: fusec.grad(lambda y: x * y * y)(x)
    same(fusec.grad(f)(3.0), 12.0)


def test_jit_of_grad_and_grad_of_jit():
    jitted = fusec.jit(cube)
    same(fusec.jit(fusec.grad(jitted))(X), 3 * X**2)

    @fusec.jit
    def step(w, x):
        value, g = fusec.value_and_grad(lambda w: ((w @ x) ** 2).sum())(w)
        return w - 0.1 * g, value

    w, value = step(W, X)
    same(w, W - 0.2 * np.outer(W @ X, X))
    same(value, ((W @ X) ** 2).sum())


def test_derivatives_made_outside_and_used_inside():
    gradient = fusec.grad(cube)
    same(fusec.jit(lambda x: gradient(x) * 2)(X), 6 * X**2)
    pull_out = fusec.jit(lambda x: fusec.vjp(lambda v: v * x, x)[1](x)[0])
    same(pull_out(X), X * X)
    push_out = fusec.jit(lambda x: fusec.jvp(np.sin, (x,), (x,))[1])
    same(push_out(X), np.cos(X) * X)


def test_jacobian_of_grad_is_hessian():
    f = lambda x: np.sin(x[0]) * x[1] ** 2 + x[2] * x[0]
    h = fusec.hessian(f)(X)
    same(h, fusec.jacobian(fusec.grad(f))(X))
    a, b, _ = X
    wanted = [[-np.sin(a) * b * b, 2 * b * np.cos(a), 1], [2 * b * np.cos(a), 2 * np.sin(a), 0],
              [1, 0, 0]]  # fmt: skip
    same(h, wanted)


def test_jacobian_both_ways():
    wide = lambda x: np.outer(x, x)  # goes forwards
    tall = lambda x: x[:2] * x[2]  # goes backwards
    eye = np.eye(3)
    same(fusec.jacobian(wide)(X), X[:, None, None] * eye[None] + X[None, :, None] * eye[:, None])
    same(fusec.jacobian(tall)(X), [[X[2], 0, X[0]], [0, X[2], X[1]]])
    first, second = fusec.jacobian(lambda a, b: {"y": a * b}, (0, 1))(X, X + 1)["y"]
    same(first, np.diag(X + 1))
    same(second, np.diag(X))


def test_jacobian_of_complex_results():
    same(fusec.jacobian(lambda x: np.exp(1j * x))(X), np.diag(1j * np.exp(1j * X)))
    z = X + 1j
    same(fusec.jacobian(lambda z: z**2)(z), np.diag(2 * z))
    same(fusec.grad(lambda z: (abs(z) ** 2).sum())(z), 2 * np.conj(z))


# -- vjp, jvp, linearize --------------------------------------------------------------------------


def test_vjp_keeps_what_it_needs():
    x = X.copy()
    y, pull = fusec.vjp(lambda a: {"s": np.sin(a), "c": a * 2}, x)
    x[...] = 0  # a later change of the argument changes nothing
    same(y["s"], np.sin(X))
    for scale in (1.0, 2.0):
        (g,) = pull({"s": np.full(3, scale), "c": np.zeros(3)})
        same(g, scale * np.cos(X))


def test_vjp_with_more_results():
    y, pull, aux = fusec.vjp(lambda a: (a * a, "text"), X, has_aux=True)
    assert aux == "text"
    same(y, X * X)
    same(pull(np.ones(3))[0], 2 * X)


def test_jvp_and_linearize_agree():
    f = lambda a, b: (np.tanh(a @ b), a.sum(axis=1))
    tangents = (W * 0.3, X * 0.7)
    y, t = fusec.jvp(f, (W, X), tangents)
    y2, push = fusec.linearize(f, W, X)
    for a, b in zip((*y, *t), (*y2, *push(*tangents))):
        same(a, b)
    step = 1e-6
    up = f(W + step * tangents[0], X + step * tangents[1])
    down = f(W - step * tangents[0], X - step * tangents[1])
    for got, u, d in zip(t, up, down):
        same(got, (u - d) / (2 * step), rtol=1e-7, atol=1e-8)


def test_integer_results_have_no_derivative():
    f = lambda x: (x * 2, np.argmax(x), x > 0)
    y, t = fusec.jvp(f, (X,), (np.ones(3),))
    assert y[1] == 2
    same(t[0], np.full(3, 2.0))
    same(t[1], 0.0)


def test_a_cotangent_must_fit():
    _, pull = fusec.vjp(lambda x: x * 2, X)
    with pytest.raises(ShapeError, match=r"shape \(2,\).*shape \(3,\)"):
        pull(np.ones(2))
    with pytest.raises(DTypeError, match=r"expected \*, got \(\*,\)"):
        pull((np.ones(3),))


# -- in place, indices, broadcasting --------------------------------------------------------------


def test_in_place_updates_differentiate():
    def f(x):
        y = np.zeros(5)
        y[1:4] = x
        y[::2] *= 2
        y += 1
        y[0] = x[0] * x[1]
        return (y * y).sum()

    values = []
    for k in range(3):
        e = np.eye(3)[k] * 1e-6
        values.append((f(X + e) - f(X - e)) / 2e-6)
    same(fusec.grad(f)(X), values, rtol=1e-8)


def test_an_argument_that_the_function_changes_is_changed():
    def f(x):
        x *= 2
        return (x**2).sum()

    x = X.copy()
    same(fusec.grad(f)(x), 8 * X)
    same(x, 2 * X)


def test_repeated_indices_add_up_in_order():
    ids = np.array([1, 0, 1, 1, -1])
    weights = np.arange(5.0)
    g = fusec.grad(lambda x: (x[ids] * weights).sum())(X)
    same(g, [1, 0 + 2 + 3, 4])
    rows = fusec.grad(lambda w: (w[np.array([1, 1, 0])] ** 2).sum())(W)
    same(rows, 2 * W * np.array([[1], [2]]))


def test_scatter_differentiates():
    ids = np.array([0, 2, 0])

    def f(x, v):
        y = x * 1
        y[ids] = v  # the last of the two at 0 stays
        return (y * np.array([1.0, 10.0, 100.0])).sum()

    gx, gv = fusec.grad(f, (0, 1))(X, X + 1)
    same(gx, [0, 10, 0])
    same(gv, [0, 100, 1])


def test_add_at_differentiates():
    ids = np.array([0, 2, 0])

    def f(v):
        y = np.zeros(3)
        np.add.at(y, ids, v)
        return (y**2).sum()

    y = np.zeros(3)
    np.add.at(y, ids, X)
    same(fusec.jit(f)(X), f(X))
    same(fusec.grad(f)(X), 2 * y[ids])


def test_masked_reductions():
    f = lambda x: (x[x > 0] ** 2).sum()
    same(fusec.grad(f)(X), np.where(X > 0, 2 * X, 0))


# -- edges ----------------------------------------------------------------------------------------

EDGES = {
    "where-log": (lambda x: np.where(x > 0, np.log(x), 0), [0.0, -1.0, 2.0], [0, 0, 0.5]),
    "where-divide": (lambda x: np.where(x == 0, 0, 1 / x), [0.0, 2.0], [0, -0.25]),
    "where-sqrt": (lambda x: np.where(x > 0, np.sqrt(x), 0), [0.0, 4.0], [0, 0.25]),
    "sqrt": (np.sqrt, [0.0, 4.0], [np.inf, 0.25]),
    "norm": (np.linalg.norm, [0.0, 0.0], [0, 0]),
    "norm-1": (lambda x: np.linalg.norm(x, 1), [0.0, -2.0], [0, -1]),
    "norm-inf": (lambda x: np.linalg.norm(x, np.inf), [2.0, -2.0], [0.5, -0.5]),
    "std": (lambda x: np.std(x), [1.0, 1.0], [0, 0]),
    "abs": (np.abs, [0.0, -2.0], [0, -1]),
    "hypot": (lambda x: np.hypot(x, x), [0.0], [0]),
    "arctan2": (lambda x: np.arctan2(x, x), [0.0], [0]),
    "power-0": (lambda x: x**0.0, [0.0, 2.0], [0, 0]),
    "power-1": (lambda x: x**1.0, [0.0], [1]),
    "power-2": (lambda x: x**2.0, [0.0], [0]),
    "power-self": (lambda x: x**x, [1.0], [1]),
    "base-0": (lambda x: 0.0**x, [2.0, 0.0], [0, 0]),
    "maximum": (lambda x: np.maximum(x, 1.0), [1.0, 2.0, 0.0], [0.5, 1, 0]),
    "max": (np.max, [3.0, 3.0, 1.0], [0.5, 0.5, 0]),
    "min": (np.min, [3.0, 1.0, 1.0, 1.0], [0, 1 / 3, 1 / 3, 1 / 3]),
    "clip": (lambda x: np.clip(x, 0.0, 1.0), [0.0, 1.0, 2.0, -1.0], [1, 1, 0, 0]),
    "sinc": (np.sinc, [0.0], [0]),
    "prod": (np.prod, [0.0, 3.0, 2.0], [6, 0, 0]),
    "prod-two-zeros": (np.prod, [0.0, 0.0, 2.0], [0, 0, 0]),
    "cumprod": (np.cumprod, [2.0, 0.0, 3.0], [1, 2 + 6, 0]),
    "running-max": (np.maximum.accumulate, [1.0, 3.0, 2.0, 3.0], [1, 2, 0, 1]),
    "sign": (np.sign, [0.0, 2.0], [0, 0]),
    "floor": (np.floor, [0.0, 2.5], [0, 0]),
    "relu": (lambda x: np.maximum(x, 0) ** 2, [0.0, -1.0], [0, 0]),
    "empty": (np.sum, [], []),
    "number-with-empty": (lambda x: np.append(x[2:] / x[0] - x[:1], x), [2.0, 3.0], [1, 1]),
    "row-with-empty": (lambda x: x[None, 2:] * x[:, None] + x.sum(), [2.0, 3.0], [0, 0]),
}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", EDGES)
def test_edges(name):
    f, x, wanted = EDGES[name]
    g = fusec.grad(lambda x: np.sum(f(x)))(np.array(x))
    np.testing.assert_allclose(g, wanted, rtol=1e-12)


def test_products_with_zeros_have_second_derivatives():
    h = fusec.hessian(np.prod)(np.array([0.0, 3.0, 2.0, 5.0]))
    wanted = np.zeros((4, 4))
    wanted[0, 1:] = wanted[1:, 0] = [10, 15, 6]
    same(h, wanted)


# -- rules of the user's --------------------------------------------------------------------------


def relu_with_rule():
    @fusec.custom_vjp
    def relu(x):
        return np.maximum(x, 0)

    relu.defvjp(lambda x: (np.maximum(x, 0), x), lambda x, g: (np.where(x > 0, 10 * g, 0),))
    return relu


def test_custom_vjp():
    relu = relu_with_rule()
    same(relu(X), np.maximum(X, 0))
    same(fusec.grad(lambda x: relu(x * 2).sum())(X), np.where(X > 0, 20, 0))
    same(fusec.jit(relu)(X), np.maximum(X, 0))
    _, t = fusec.jvp(relu, (X,), (np.ones(3),))  # the rule, transposed
    same(t, np.where(X > 0, 10, 0))
    _y, pull = fusec.vjp(lambda x: relu(x) * 3, X)
    same(pull(np.ones(3))[0], np.where(X > 0, 30, 0))


def test_custom_vjp_of_containers_and_other_arguments():
    @fusec.custom_vjp
    def f(p, n):
        return {"y": p["w"] * n, "k": n}

    def backward(residuals, g):
        assert g["k"] is None
        return {"w": g["y"] * residuals * 100}, None

    f.defvjp(lambda p, n: (f(p, n), n), backward)
    g = fusec.grad(lambda p: f(p, 3)["y"].sum())({"w": X})
    same(g["w"], np.full(3, 300.0))


def test_custom_rules_differentiate_again():
    @fusec.custom_vjp
    def square(x):
        return x * x

    square.defvjp(lambda x: (x * x, x), lambda x, g: (2 * x * g,))
    same(fusec.grad(fusec.grad(square))(3.0), 2.0)
    same(fusec.hessian(lambda x: square(x).sum())(X), 2 * np.eye(3))


def test_custom_jvp_both_ways():
    @fusec.custom_jvp
    def f(x, y):
        return np.sin(x) * y

    @f.defjvp
    def f_jvp(primals, tangents):
        (x, y), (dx, dy) = primals, tangents
        return f(x, y), 10 * np.cos(x) * y * dx + np.sin(x) * dy

    gx, gy = fusec.grad(lambda x, y: f(x, y).sum(), (0, 1))(X, X + 1)
    same(gx, 10 * np.cos(X) * (X + 1))
    same(gy, np.sin(X))
    _, t = fusec.jvp(f, (X, X + 1), (np.ones(3), np.zeros(3)))
    same(t, gx)


def test_another_rule_traces_again():
    @fusec.custom_vjp
    def f(x):
        return x * x

    d = fusec.grad(f)
    inside = fusec.jit(lambda x: fusec.grad(lambda y: f(y) + y)(x))
    for factor in (1.0, 2.0, 3.0):
        f.defvjp(lambda x: (f(x), factor), lambda factor, g: (factor * g,))
        assert (d(3.0), inside(3.0)) == (factor, factor + 1)

    @fusec.custom_jvp
    def h(x):
        return x

    d = fusec.grad(h)
    for factor in (1.0, 2.0):
        h.defjvp(lambda x, dx, factor=factor: (x[0], factor * dx[0]))
        assert d(3.0) == factor


def test_wrong_rules_are_named():
    @fusec.custom_vjp
    def f(x, y):
        return x * y

    with pytest.raises(TypeError, match="no rule yet: call its defvjp"):
        fusec.grad(lambda x: f(x, x).sum())(X)
    for forward, what in ((lambda x, y: x * y, "one array"), (lambda x, y: (x, y, y), "3 values"),
                          (lambda x, y: None, "a NoneType")):  # fmt: skip
        f.defvjp(forward, lambda r, g: (g, g))
        for point in (X, X[:2], 1.0):
            message = rf"forward rule of f returned {what}; it returns a pair \(result, residuals"
            with pytest.raises(TypeError, match=message):
                fusec.grad(lambda x: np.sum(f(x, x)))(point)
    f.defvjp(lambda x, y: (x * y, (x, y)), lambda r, g: (g,))
    with pytest.raises(TypeError, match=r"returned 1 values; f was called with 2 arguments"):
        fusec.grad(lambda x: f(x, x).sum())(X)
    f.defvjp(lambda x, y: (x * y, (x, y)), lambda r, g: (g[:2], g))
    with pytest.raises(ShapeError, match=r"shape \(2,\) for argument 0, which has shape \(3,\)"):
        fusec.grad(lambda x: f(x, x).sum())(X)


STOPPED = {
    "sum": np.sum, "mean": np.mean, "max": np.max, "norm": np.linalg.norm, "sort": np.sort,
    "inner": lambda v: v @ v, "matrix": lambda v: np.eye(3) @ v, "power": lambda v: v**v,
    "divide": lambda v: 1 / (v * 0), "prod-of-where": lambda v: np.prod(np.where(v > 1, v, 1)),
}  # fmt: skip


@pytest.mark.parametrize("name", STOPPED)
def test_a_branch_that_was_not_taken_lets_no_nan_through(name):
    """As the README says; also that it does get through a product of all of it."""
    beyond = np.array([-1.0, 0.0, 2.0])
    f = lambda of: fusec.grad(lambda x: np.where(x > 3, of(np.log(x)), x).sum())
    with np.errstate(all="ignore"):
        same(f(STOPPED[name])(beyond), np.ones(3))
        assert np.isnan(f(np.prod)(beyond)).all()


def test_stop_gradient():
    f = lambda x: (x * fusec.stop_gradient(x)).sum()
    same(fusec.grad(f)(X), X)
    same(f(X), (X * X).sum())
    tree = {"a": X, "n": 3}
    assert fusec.stop_gradient(tree)["n"] == 3


def test_checkpoint_gives_the_same_gradient():
    def layer(w, x):
        return np.tanh(x @ w) * 2

    def loss(layer):
        return lambda ws, x: (layer(ws[1], layer(ws[0], x)) ** 2).sum()

    ws = [np.eye(3) * 0.7, W[:, :3].T @ W / 10]
    plain = fusec.grad(loss(layer))(ws, W)
    again = fusec.grad(loss(fusec.checkpoint(layer)))
    for a, b in zip(plain, again(ws, W)):
        same(a, b)
    text = str(again.lower(ws, W).explain())
    assert "checkpoint layer" in text and "less to keep" in text


def test_checkpoint_differentiates_what_the_function_closes_over():
    def f(w):
        block = fusec.checkpoint(lambda x: np.sin(x @ w))
        return block(block(np.ones((2, 3)))).sum()

    def plain(w):
        return np.sin(np.sin(np.ones((2, 3)) @ w) @ w).sum()

    w = np.eye(3) * 0.5 + 0.1
    same(fusec.grad(f)(w), fusec.grad(plain)(w))
    same(fusec.hessian(f)(w), fusec.hessian(plain)(w))


# -- errors ---------------------------------------------------------------------------------------


def test_integers_are_refused_by_name():
    with pytest.raises(DTypeError, match=r"argument `x` is int64.*Pass x\.astype\(float\)"):
        fusec.grad(cube)(np.arange(3))
    with pytest.raises(DTypeError, match=r'argument `p\["n"\]` is bool'):
        fusec.grad(lambda p: p["w"].sum())({"w": X, "n": X > 0})
    with pytest.raises(DTypeError, match=r"Pass float"):
        fusec.grad(lambda n: n * 2.0)(3)
    with pytest.raises(DTypeError, match=r"argument `s` is a str"):
        fusec.grad(lambda s: 1.0)("text")


def test_results_that_are_no_number_are_refused():
    with pytest.raises(ShapeError, match=r"returned shape \(3,\).*fusec\.vjp.*fusec\.jacobian"):
        fusec.grad(lambda x: x * 2)(X)
    with pytest.raises(DTypeError, match="complex"):
        fusec.grad(lambda x: (x * 1j).sum())(X)
    with pytest.raises(DTypeError, match=r"returned a str.*has_aux"):
        fusec.grad(lambda x: "text")(X)
    with pytest.raises(TypeError, match="has_aux"):
        fusec.grad(cube, has_aux=True)(X)


def test_hessian_of_several_numbers():
    f = lambda p: {"a": np.stack([p["x"][0] ** 2 * p["y"], p["x"].sum()]), "b": p["y"] ** 3}
    h = fusec.hessian(f)({"x": np.array([2.0, 3.0]), "y": 5.0})
    same(h["a"]["x"]["x"], [[[10, 0], [0, 0]], np.zeros((2, 2))])
    same(h["a"]["x"]["y"], [[4, 0], [0, 0]])
    same(h["b"]["y"]["y"], 30)


def test_argnums_out_of_range():
    with pytest.raises(ValueError, match=r"argnums=2.*1 positional"):
        fusec.grad(cube, 2)(X)


@pytest.mark.parametrize("argnums", [(0, 0), (0, -2), [1, 0, 0]])
@pytest.mark.parametrize("derivative", [fusec.grad, fusec.jacobian, fusec.hessian])
def test_argnums_repeated(derivative, argnums):
    with pytest.raises(ValueError, match=r"argnums=.*the argument a twice"):
        derivative(lambda a, b: (a * b).sum(), argnums)(X, X)


@pytest.mark.parametrize("argnums", ["a", ("a", "b"), 1.0, None, (0, None)])
def test_argnums_that_are_no_positions(argnums):
    with pytest.raises(TypeError, match=r"argnums is the position of an argument.*, not "):
        fusec.grad(cube, argnums)


def test_argnums_of_numpy():
    f = lambda a, b: (a * b).sum()
    same(fusec.grad(f, np.int64(1))(X, X), X)
    same(fusec.grad(f, np.arange(2))(X, 2 * X)[0], 2 * X)


@pytest.mark.parametrize(
    "fn, name",
    [
        (lambda x: np.pad(x, 1, mode="mean"), "np.pad"),
        (lambda x: np.histogram([1, 2, 2], weights=x[0])[0], "np.histogram"),
        (lambda x: np.linalg.qr(x[:, :2], "complete")[1], "np.linalg.qr"),
    ],
)
def test_functions_without_a_rule_are_named(fn, name):
    with pytest.raises(DerivativeError, match=name):
        fusec.grad(lambda x: np.abs(fn(x)).sum())(np.eye(3))


def test_functions_without_a_rule_show_how_to_give_one():
    with pytest.raises(DerivativeError) as error:
        fusec.grad(lambda x: np.pad(x, 1, mode="mean").sum())(np.eye(3))
    text = str(error.value)
    assert "fusec has no derivative of np.pad" in text
    assert "test_gradients.py:" in text
    assert "@fusec.custom_vjp" in text and "defvjp" in text


SHOWN = {
    "logaddexp.reduce": (lambda x: np.logaddexp.reduce(x), "def logaddexp_reduce(x): "
                         "return np.logaddexp.reduce(x)"),
    "add.reduceat": (lambda x: np.add.reduceat(x, [0, 2]), "return np.add.reduceat(x, [0, 2])"),
    "places": (lambda x: np.add.reduceat(x, np.array([0, 2]), axis=0),
               "def add_reduceat(x, y): return np.add.reduceat(x, y, axis=0)"),
    "pad": (lambda x: np.pad(x, 1, mode="mean"), "return np.pad(x, 1, mode='mean')"),
    "two": (lambda x: np.linalg.tensorsolve(x, x[0]), "def linalg_tensorsolve(x, y): "
            "return np.linalg.tensorsolve(x, y)"),
}  # fmt: skip


@pytest.mark.parametrize("name", SHOWN)
def test_the_rule_that_is_shown_can_be_typed(name):
    """What the error prints runs, and with a gradient in it differentiates."""
    function, call = SHOWN[name]
    with pytest.raises(DerivativeError) as error:
        fusec.grad(lambda x: function(x).sum())(np.eye(3))
    text = str(error.value)
    assert call in text
    lines = [line.removeprefix("  ") for line in text.splitlines() if line.startswith("  ")]
    names = {"np": np, "fusec": fusec}
    exec("\n".join(lines).replace("(...,)", "tuple([2 * r for r in residuals])"), names)
    typed = names[call.partition("(")[0].removeprefix("def ")] if "def " in call else None
    if typed is not None and name != "places":  # which are integers
        given = [np.eye(3), np.ones(3)] if name == "two" else [np.eye(3)]
        same(fusec.grad(lambda *a: typed(*a).sum())(*given), 2 * np.eye(3))


def test_arrays_given_by_name_have_gradients():
    q = np.array([[4.0, 1.0], [2.0, 3.0]])
    same(fusec.grad(lambda q: np.linalg.det(a=q))(q), fusec.grad(np.linalg.det)(q))
    solve = lambda q, b: np.linalg.solve(b=b, a=q).sum()
    same(fusec.grad(solve, 1)(q, q[0]), np.linalg.inv(q).sum(axis=0))


def test_no_nan_from_a_branch_not_taken_in_any_order():
    f = lambda x: np.where(x > 0, np.sqrt(x), 3 * x).sum()
    x = np.array([0.25, -1.5])
    for _ in range(3):
        f = (lambda g: lambda x: g(x).sum())(fusec.grad(f))
        assert np.isfinite(fusec.grad(f)(x)).all()
    h = lambda x: np.where(x > 0, np.sqrt(x), 3 * x).sum()
    same(fusec.jvp(fusec.grad(h), (x,), (np.ones(2),))[1], [-2.0, 0.0])


def test_the_exception_is_numpys():
    ids = np.array([0, 7])
    with pytest.raises(IndexError):
        fusec.grad(lambda x: x[ids].sum())(X)
    for unread in (lambda x: x[ids][:1].sum(), lambda x: (x[ids], x.sum())[1]):
        with pytest.raises(IndexError):
            fusec.grad(unread)(X)
        with pytest.raises(IndexError):
            fusec.jit(fusec.vmap(unread))(np.stack([X, X]))
    with pytest.raises(FloatingPointError), np.errstate(divide="raise"):
        fusec.grad(lambda x: (1 / x).sum())(np.zeros(2))


def test_what_is_no_function_is_refused():
    with pytest.raises(TypeError, match=r"fusec\.grad takes a function, not ndarray"):
        fusec.grad(X)


def test_without_compiling(monkeypatch):
    monkeypatch.setattr(fusec.config, "disable", True)
    same(fusec.grad(cube)(X), 3 * X**2)
    _y, pull = fusec.vjp(np.sin, X)
    same(pull(np.ones(3))[0], np.cos(X))


# -- size -----------------------------------------------------------------------------------------


def test_a_chain_of_2000_ops(monkeypatch):
    monkeypatch.setattr(fusec.config, "disable", True)

    def f(x):
        for _ in range(1000):
            x = np.sin(x) * 1.01
        return x.sum()

    def slope(x):
        factor = np.ones(3)
        for _ in range(1000):
            x, factor = np.sin(x) * 1.01, factor * np.cos(x) * 1.01
        return factor

    same(fusec.grad(f)(X), slope(X), rtol=1e-9)


def test_50000_nodes_do_not_overflow_the_stack():
    from fusec.autodiff.vjp import pullback
    from fusec.ir.aval import Aval
    from fusec.trace.session import Session, Source

    session = Session()
    x = session.param(Aval((3,), np.dtype("f8")), Source("arg", 0, "x"))
    node = x
    for _ in range(50_000):
        node = session.make("negative", node)
    (g,) = pullback(session, [node], [session.broadcast(session.const(1.0), (3,))], [x])
    assert g.shape == (3,)


def test_closures_over_traced_arrays_without_traced_arguments():
    inner = fusec.jit(lambda x: fusec.grad(lambda v: (v * x).sum())(2.0))
    same(inner(X), X.sum())
    same(fusec.jit(lambda x: fusec.jit(lambda: x * 2)())(X), 2 * X)


@pytest.mark.parametrize("wrap", [lambda f: f, fusec.checkpoint], ids=["plain", "checkpoint"])
def test_parameters_updated_in_place(wrap):
    layer = wrap(lambda w, x: np.tanh(x * w) * w)

    @fusec.jit
    def step(ws, x):
        loss, grads = fusec.value_and_grad(lambda ws: layer(ws[1], layer(ws[0], x)).sum())(ws)
        for w, g in zip(ws, grads):
            w -= 0.1 * g
        return loss

    ws = [X.copy(), X + 1]
    for _ in range(3):
        a, b = ws[0].copy(), ws[1].copy()
        inner = np.tanh(X * a) * a
        same(step(ws, X), (np.tanh(inner * b) * b).sum())
        outer = (1 - np.tanh(inner * b) ** 2) * b
        first = outer * b * ((1 - np.tanh(X * a) ** 2) * X * a + np.tanh(X * a))
        same(ws[0], a - 0.1 * first)
        same(ws[1], b - 0.1 * (outer * inner + np.tanh(inner * b)))
