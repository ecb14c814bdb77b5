"""``fusec.vmap``: realistic functions, what they compile to, and the errors.

The reference is the loop over the examples in NumPy, or over fusec's own derivatives of one.
"""

import collections

import numpy as np
import pytest

import fusec
from fusec.codegen.program import Call, Launch
from fusec.trace.tree import flatten

_rng = np.random.default_rng(4)


def normal(*shape):
    return _rng.normal(size=shape)


X, W, B, LABELS = normal(6, 3), normal(3, 4), normal(4), np.array([0, 3, 1, 1, 2, 0])
PAIRS, SEQUENCES = normal(6, 3, 2), normal(6, 5, 4)
SPD = np.einsum("nij,nkj->nik", SEQUENCES, SEQUENCES) + np.eye(5)
Params = collections.namedtuple("Params", "w b")


def softmax(x):
    e = np.exp(x - x.max())
    return e / e.sum()


def attention(q, k, v):
    s = q @ k.T / np.sqrt(q.shape[-1])
    e = np.exp(s - s.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True) @ v


def loss(p, x, label):
    z = np.tanh(x @ p["w"] + p["b"])
    return np.log(np.exp(z).sum()) - z[label]


def updated(x):
    y = np.zeros(4)
    y[1:] = x
    y[::2] += x[0]
    return y


def overwritten(x, places):
    y = np.arange(5.0)
    y[places] = x
    return y


def powers(x):
    found = []
    for k in range(3):
        found.append(x**k)
    return np.stack(found, axis=1)


def distance(a, b):
    return np.sqrt(((a - b) ** 2).sum())


@fusec.custom_vjp
def leaky(x):
    return np.maximum(x, 0)


leaky.defvjp(lambda x: (leaky(x), x), lambda x, g: (np.where(x > 0, g, 0.1 * g),))
layer = fusec.checkpoint(lambda w, x: np.tanh(x @ w))
P = {"w": W, "b": B}
NONE_P = {"w": None, "b": None}
GRAD = fusec.grad
TABLE = {
    # name: (function of one example, in_axes, out_axes, arguments)
    "softmax": (softmax, 0, 0, X),
    "softmax-columns": (softmax, 1, 1, X),
    "softmax-negative-axis": (softmax, -1, -1, X),
    "layer-norm": (lambda x: (x - x.mean()) / np.sqrt(x.var() + 1e-5), 0, 0, X),
    "attention": (attention, 0, 0, SEQUENCES, SEQUENCES * 2, SEQUENCES + 1),
    "attention-shared-keys": (attention, (0, None, None), 0, SEQUENCES, SEQUENCES[0], SPD[0]),
    "linear": (lambda x: x @ W + B, 0, 0, X),
    "linear-columns": (lambda x: W.T @ x, 0, 1, X),
    "matrix-times-matrices": (lambda m: W.T @ m, 0, 0, PAIRS),
    "matrices-times-matrix": (lambda m: m.T @ W, 0, 2, PAIRS),
    "bilinear": (lambda x, m, y: x @ m @ y, 0, 0, X, PAIRS, PAIRS[:, 0]),
    "dot": (lambda x, y: x @ y, (0, None), 0, X, X[0]),
    "outer": (np.outer, 0, 0, X, X),
    "einsum": (lambda a, b: np.einsum("ij,kj->ik", a, b), (0, None), 0, PAIRS, PAIRS[1]),
    "kron": (np.kron, 0, 0, X, X),
    "trace": (lambda a: np.trace(a) + np.diagonal(a), 0, 0, SPD),
    "solve": (np.linalg.solve, 0, 0, SPD, SEQUENCES),
    "solve-shared-matrix": (np.linalg.solve, (None, 0), 0, SPD[0], SEQUENCES),
    "solve-vectors": (np.linalg.solve, (0, 1), 0, SPD, normal(5, 6)),
    "eigh": (lambda a: np.linalg.eigh(a)[0], 0, 0, SPD),
    "norm": (np.linalg.norm, 0, 0, PAIRS),
    "fft": (lambda x: np.abs(np.fft.rfft(x, axis=0)), 0, 0, SEQUENCES),
    "variance": (lambda x: (x.mean(axis=0), x.std(), np.median(x)), 0, 0, SEQUENCES),
    "arg-extremes": (lambda x: (x.argmax(), np.argmin(x, axis=1)), 0, 0, SEQUENCES),
    "cumulative": (lambda x: np.cumsum(np.cumprod(x, axis=1), axis=0), 0, 0, SEQUENCES),
    "sort": (lambda x: np.sort(x)[::-1], 0, 0, X),
    "reshape-transpose": (lambda x: x.T.reshape(2, -1)[:, ::-1], 0, 0, SEQUENCES),
    "pad-flip-roll": (lambda x: np.roll(np.flip(np.pad(x, 1)), 2), 0, 0, X),
    "concatenate": (lambda x: np.concatenate([x, B, x[:1] * 2]), 0, 0, X),
    "windows": (lambda x: x[2:] - 2 * x[1:-1] + x[:-2], 0, 0, SEQUENCES),
    "embedding": (lambda k: W.T[k], 0, 0, LABELS),
    "pick": (lambda x, k: x[k], 0, 0, normal(6, 4), LABELS),
    "take-rows": (lambda x: x[[2, 0, 2]], 0, 0, SEQUENCES),
    "masked-sum": (lambda x: x[x > 0].sum(), 0, 0, X),
    "where": (lambda x, k: np.where(x > 0, x, k), 0, 0, X, LABELS),
    "update": (updated, 0, 0, X),
    "scatter": (overwritten, (0, None), 0, X, np.array([4, 0, 4])),
    "scatter-batched-places": (overwritten, (None, 0), 0, 3.0, LABELS[:, None]),
    "loop": (powers, 0, -1, X),
    "integers": (lambda k: (k * 2 % 3, k > 1, -k), 0, 0, LABELS),
    "complex": (lambda x: (np.exp(1j * x) * (2 + x)).real, 0, 0, X),
    "half": (lambda x: x * 2 + np.float16(1), 0, 0, X.astype("f2")),
    "containers": (lambda p, x: {"y": x @ p.w + p.b, "n": (x,)}, (Params(None, 0), 0),
                   {"y": 1, "n": (0,)}, Params(W, normal(6, 4)), X),
    "dict": (lambda p: p["w"] @ p["x"], ({"x": 0, "w": None},), 0, {"w": W.T, "x": X}),
    "number": (lambda x, k: x * k, 0, 0, X, 2.5),
    "scalars": (lambda a, b: a / (1 + b), 0, 0, B, B**2),
    "pairwise": (fusec.vmap(distance, (None, 0)), (0, None), 0, X, X + 1),
    "nested-twice": (fusec.vmap(fusec.vmap(lambda a, b: a * b)), (2, 2), 0, SEQUENCES, SEQUENCES),
    "per-example-gradients": (GRAD(loss), (None, 0, 0), 0, P, X, LABELS),
    "values-and-gradients": (fusec.value_and_grad(loss), (NONE_P, 0, 0), 0, P, X, LABELS),
    "gradients-of-a-solve": (GRAD(lambda a, b: np.linalg.solve(a, b).sum()), 0, 0, SPD, SEQUENCES),
    "gradients-of-gathers": (GRAD(lambda w, k: (w.T[k] ** 2).sum()), (None, 0), 0, W, LABELS),
    "hessians": (fusec.hessian(lambda x: np.prod(x) + softmax(x)[0]), 0, 0, X),
    "jacobians": (fusec.jacobian(softmax), 0, 0, X),
    "forward": (lambda x, t: fusec.jvp(softmax, (x,), (t,)), 0, 0, X, X[::-1]),
    "backward": (lambda x, g: fusec.vjp(softmax, x)[1](g)[0], 0, 0, X, X[::-1]),
    "own-rule": (GRAD(lambda x: (leaky(x) * x).sum()), 0, 0, X),
    "checkpoint": (GRAD(lambda w, x: (layer(w, x) ** 2).sum()), (None, 0), 0, W, X),
    "jitted": (fusec.jit(softmax), 0, 0, X),
}  # fmt: skip


def per_argument(axes, args):
    return list(axes) if isinstance(axes, tuple) else [axes] * len(args)


def spread(axes, value):
    """The axis of each leaf."""
    if axes is None or isinstance(axes, int):
        return [axes] * len(flatten(value)[0])
    if isinstance(axes, dict):
        return [a for k in value for a in spread(axes[k], value[k])]
    return [a for part, v in zip(axes, value) for a in spread(part, v)]


def by_loop(fn, in_axes, out_axes, args):
    axes = [a for part, x in zip(per_argument(in_axes, args), args) for a in spread(part, x)]
    leaves, tree = flatten(tuple(args))
    axes = [None if not np.ndim(x) else a for x, a in zip(leaves, axes)]
    count = next(x.shape[a] for x, a in zip(leaves, axes) if a is not None)
    found = []
    for k in range(count):
        one = [x if a is None else np.take(x, k, a) for x, a in zip(leaves, axes)]
        found.append(fn(*tree.unflatten(one)))
    outs = [flatten(y)[0] for y in found]
    where = spread(out_axes, found[0])
    return [np.stack(column, a) for column, a in zip(zip(*outs), where)]


@pytest.mark.parametrize("name", TABLE)
def test_is_the_stack_of_single_results(name):
    fn, in_axes, out_axes, *args = TABLE[name]
    got = flatten(fusec.vmap(fn, in_axes, out_axes)(*args))[0]
    wanted = by_loop(fn, in_axes, out_axes, args)
    assert len(got) == len(wanted)
    for a, b in zip(got, wanted):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


DERIVATIVES = (
    "softmax-columns", "layer-norm", "attention", "attention-shared-keys", "linear", "bilinear",
    "matrix-times-matrices", "solve", "embedding", "pick", "take-rows", "update", "scatter", "fft",
    "sort", "own-rule", "checkpoint", "per-example-gradients", "pairwise",
)  # fmt: skip


@pytest.mark.parametrize("name", DERIVATIVES)
def test_the_derivative_of_a_batch_is_that_of_the_loop(name):
    fn, in_axes, out_axes, *args = TABLE[name]
    leaves, tree = flatten(tuple(args))
    places = [k for k, x in enumerate(leaves) if np.asarray(x).dtype.kind == "f"]
    if not places:  # the embedding: in its table
        fn, in_axes, args = (lambda w, k: w.T[k]), (None, 0), [W, LABELS]
        (leaves, tree), places = flatten(tuple(args)), [0]
    floats = [leaves[k] for k in places]

    def summed(batched):
        def run(*floats):
            given = list(leaves)
            for k, x in zip(places, floats):
                given[k] = x
            results = batched(*tree.unflatten(given))
            return sum([(np.sin(r) * r).sum() for r in flatten(results)[0]])

        return fusec.grad(run, tuple(range(len(floats))))

    got = summed(fusec.vmap(fn, in_axes, out_axes))(*floats)
    wanted = summed(lambda *args: by_loop(fn, in_axes, out_axes, args))(*floats)
    for a, b in zip(got, wanted):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-10)


# -- what it compiles to --------------------------------------------------------------------------


def program(fn, *args):
    """(kernels, names of the calls between them)."""
    steps = fn.lower(*args).program.steps
    calls = [s.name for s in steps if isinstance(s, Call) and not s.view]
    return sum(isinstance(s, Launch) for s in steps), calls


ROWS = normal(6, 8)
BY_HAND = {
    "elementwise": (lambda x, y: np.tanh(x) * y + 1, lambda x, y: np.tanh(x) * y + 1, ROWS, ROWS),
    "softmax": (softmax, lambda x: (lambda e: e / e.sum(axis=1, keepdims=True))(
        np.exp(x - x.max(axis=1, keepdims=True))), ROWS),
    "dots": (lambda x, y: x @ y, lambda x, y: (x * y).sum(axis=1), ROWS, ROWS),
    "distance": (distance, lambda a, b: np.sqrt(((a - b) ** 2).sum(axis=1)), ROWS, ROWS),
    "linear": (lambda x: x @ ROWS.T, lambda x: x @ ROWS.T, ROWS),
    "other-side": (lambda x: ROWS @ x, lambda x: x @ ROWS.T, ROWS),
    "pick": (lambda x, k: x[k], lambda x, k: x[np.arange(6), k], ROWS, LABELS),
    "gradient": (GRAD(lambda x: (np.tanh(x) ** 2).sum()),
                 lambda x: GRAD(lambda x: (np.tanh(x) ** 2).sum())(x), ROWS),
    "windows": (lambda x: x[1:] - x[:-1], lambda x: x[:, 1:] - x[:, :-1], ROWS),
}  # fmt: skip


@pytest.mark.parametrize("name", BY_HAND)
def test_has_the_kernels_of_the_function_written_by_hand(name):
    one, batched, *args = BY_HAND[name]
    assert program(fusec.vmap(one), *args) == program(fusec.jit(batched), *args)


def test_all_pairs_are_one_kernel():
    pairs = fusec.vmap(fusec.vmap(distance, (None, 0)), (0, None))
    assert program(pairs, ROWS, ROWS) == (1, [])


def test_a_shared_matrix_is_one_product_forwards_and_backwards():
    def total(w, xs):
        return np.sum(fusec.vmap(lambda x: np.tanh(x @ w).sum())(xs))

    _, calls = program(fusec.grad(total, (0, 1)), W, X)
    assert calls == ["matmul"] * 3


@pytest.mark.parametrize(
    "make",
    [lambda: fusec.jacobian(lambda x: np.cumsum(np.sin(x)) * x),
     lambda: fusec.jacobian(lambda x: x[:2] * x.sum()),
     lambda: fusec.jacobian(lambda x: np.outer(x, x[:3])),
     lambda: fusec.hessian(lambda x: (np.sin(x) * x).sum() + x[0] * x[1] ** 3)],
)  # fmt: skip
def test_all_derivatives_are_one_sweep_whatever_the_length(make):
    def size(n):
        low = make().lower(np.ones(n))
        return len(low.traced.graph.nodes()), len(low.program.steps)

    assert size(5) == size(50)


def test_jacobian_calls_a_function_without_stacks_for_each_element():
    @fusec.custom_vjp
    def smooth(x):
        return np.correlate(x, np.arange(3.0), "same")

    smooth.defvjp(lambda x: (smooth(x), x), lambda x, g: np.correlate(g, np.arange(2.0, -1, -1),
                                                                      "same"))  # fmt: skip
    x = normal(5)
    wanted = np.stack([smooth(e) for e in np.eye(5)], axis=1)
    np.testing.assert_allclose(fusec.jacobian(smooth)(x), wanted)


def test_one_compiled_kernel_serves_every_number_of_examples():
    texts = {fusec.vmap(softmax).lower(normal(n, 8)).kernels[0].source for n in (2, 7, 1000)}
    assert len(texts) == 1


# -- edges ----------------------------------------------------------------------------------------


def test_writing_into_an_example_writes_into_the_argument():
    x = X.copy()
    first = fusec.vmap(lambda row: row.__setitem__(0, row.sum()))(x)
    assert first is None
    np.testing.assert_allclose(x[:, 0], X.sum(axis=1))
    np.testing.assert_array_equal(x[:, 1:], X[:, 1:])


def test_shared_arrays_that_were_written_before():
    @fusec.jit
    def run(x, w):
        w = w.copy()
        w[0] = 2
        x += 1
        return fusec.vmap(lambda r, s: (r * s).sum() + x[0, 0], (0, None))(x, w)

    w = np.array([2.0, 5.0, 7.0])
    np.testing.assert_allclose(run(X.copy(), np.array([0.0, 5, 7])), (X + 1) @ w + X[0, 0] + 1)


def test_what_depends_on_no_example_is_repeated_or_left_single():
    a, b, c = fusec.vmap(lambda x: (x[0], np.ones(2), 1.5), out_axes=(0, 1, None))(X)
    assert (a.shape, b.shape, c) == ((6,), (2, 6), 1.5)


def test_no_examples_and_one():
    assert fusec.vmap(np.sum)(np.empty((0, 3))).shape == (0,)
    np.testing.assert_array_equal(fusec.vmap(np.cumsum)(np.ones((1, 3))), [[1, 2, 3]])


def test_linear_functions_of_vjp_and_linearize():
    _, pull = fusec.vjp(softmax, X[0])
    _, push = fusec.linearize(softmax, X[0])
    wanted = fusec.jacobian(softmax)(X[0])
    np.testing.assert_allclose(fusec.vmap(pull)(np.eye(3))[0], wanted, atol=1e-15)
    np.testing.assert_allclose(fusec.vmap(push, out_axes=1)(np.eye(3)), wanted, atol=1e-15)


def test_a_checkpoint_that_reads_a_variable_from_outside():
    def total(w):
        return fusec.vmap(fusec.checkpoint(lambda x: np.tanh(x @ w).sum()))(X).sum()

    wanted = fusec.grad(lambda w: np.tanh(X @ w).sum())(W)
    np.testing.assert_allclose(fusec.grad(total)(W), wanted)
    low = fusec.grad(total).lower(W)
    assert "checkpoint" in str(low.explain())


def test_without_compiling(monkeypatch):
    monkeypatch.setattr(fusec.config, "disable", True)
    np.testing.assert_allclose(fusec.vmap(softmax)(X).sum(axis=1), np.ones(6))


def test_keyword_arguments_are_shared():
    total = fusec.vmap(lambda x, *, scale: (x * scale).sum())(X, scale=np.arange(3.0))
    np.testing.assert_allclose(total, X @ np.arange(3.0))


def keep(x):
    kept = []
    fusec.vmap(lambda row: kept.append(row * 2))(x)
    return kept[0] + 1


def add_to(total, x):
    total += x


ERRORS = [
    (lambda: fusec.vmap(np.add)(X, X[:4]), fusec.errors.ShapeError,
     r"`\w+(\[0\])?` has 6 along axis 0, `\w+(\[1\])?` has 4 along axis 0"),
    (lambda: fusec.vmap(np.sum)([1.0, 2.0]), fusec.errors.DTypeError, "is a float.*Pass an array"),
    (lambda: fusec.vmap(np.sum, None)(X), ValueError, "nothing is batched"),
    (lambda: fusec.vmap(np.sum)(2.0), ValueError, "nothing is batched"),
    (lambda: fusec.vmap(softmax, (0, 0))(X), ValueError, "each of 2 arguments; .* 1 positional"),
    (lambda: fusec.vmap(softmax, ({"w": 0},))({"v": X}), ValueError, r"in_axes has .* for `x`"),
    (lambda: fusec.vmap(softmax, 2)(X), fusec.errors.ShapeError, "`x` has no axis 2"),
    (lambda: fusec.vmap(np.multiply)(X, np.float64(2)), fusec.errors.ShapeError, "give it None"),
    (lambda: fusec.vmap(lambda x: np.maximum.at(x, LABELS[:1], 9.0))(X),
     fusec.errors.UnsupportedError, r"np\.maximum\.at, which NumPy"),
    (lambda: fusec.vmap(softmax, "x")(X), TypeError, "an axis is an int, or None"),
    (lambda: fusec.vmap(lambda x: "text")(X), fusec.errors.DTypeError, "result is a str"),
    (lambda: fusec.vmap(softmax, 0, None)(X), ValueError, "differs between examples"),
    (lambda: fusec.vmap(softmax, 0, 3)(X), fusec.errors.ShapeError, "`result`.* no axis 3"),
    (lambda: fusec.vmap(softmax, 0, (0, 1))(X), ValueError, "out_axes has .* for `result`"),
    (lambda: fusec.vmap(add_to, (None, 0))(np.zeros(3), X), fusec.errors.UnsupportedError,
     "changes total, which all examples share"),
    (lambda: fusec.jit(keep)(X), fusec.errors.EscapedTracerError, "stored"),
    (lambda: fusec.vmap(lambda x: x if x[0] > 0 else -x)(X), fusec.errors.TracerBoolError, "where"),
    (lambda: fusec.vmap(lambda x: np.hamming(x[0]))(X), fusec.errors.UnsupportedError,
     r"np\.hamming, which NumPy.*length has to be one for all examples"),
    (lambda: fusec.vmap(3), TypeError, "takes a function, not int"),
]  # fmt: skip


@pytest.mark.parametrize("call, error, message", ERRORS)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()
