"""What differentiated programs compile to: kernels, library calls, bytes; and their values.

The values are compared with the same graph run op by op by NumPy.
"""

import numpy as np
import pytest

import fusec
from fusec.codegen import matmul
from fusec.codegen.matrices import TURN
from fusec.codegen.steps import Call, Launch, Product
from fusec.trace.tree import flatten
from kernels.lectures import two_layer_net

_rng = np.random.default_rng(2)


def normal(*shape, dtype="f8"):
    return _rng.normal(size=shape).astype(dtype)


def program(fn, *args):
    """(kernels, names of the calls between them) of a program, whose results NumPy confirms."""
    jitted = fn if hasattr(fn, "lower") else fusec.jit(fn)
    copies = [np.copy(x) if isinstance(x, np.ndarray) else x for x in flatten(args)[0]]
    got = flatten(jitted(*args))[0]
    tree = flatten(args)[1]
    fusec.config.disable = True
    try:
        wanted = flatten(jitted(*tree.unflatten(copies)))[0]
    finally:
        fusec.config.disable = False
    for a, b in zip(got, wanted):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9 * (1 + np.abs(b).max()))
    steps = jitted.lower(*args).program.steps
    calls = [s.name for s in steps if isinstance(s, Call) and not s.view]
    return sum(isinstance(s, Launch) for s in steps), calls


def gelu(x):
    return 0.5 * x * (1 + np.tanh(0.79788456 * (x + 0.044715 * x * x * x)))


def both(fn):
    """The value and all gradients of an array function."""

    def run(g, *args):
        y, pull = fusec.vjp(fn, *args)
        return y, pull(g)

    return run


@pytest.mark.parametrize(
    "fn, count",
    [
        (gelu, 1),
        (lambda a, b: np.exp(-a * a) * b + np.sin(b) / (1 + a * a), 2),
        (lambda a, b, c: np.where(a > 0, np.log1p(b * b), np.maximum(a, c) ** 3), 3),
        (lambda a: np.sqrt(1 + a * a) * np.arctan(a) + np.abs(a) ** 1.5, 1),
    ],
)
def test_value_and_gradients_of_an_elementwise_function_are_one_kernel(fn, count):
    arrays = [normal(30, 40) for _ in range(count + 1)]
    assert program(both(fn), *arrays) == (1, [])
    assert program(lambda g, *a: fusec.vjp(fn, *a)[1](g), *arrays) == (1, [])
    assert program(fusec.jit(lambda *a: fusec.jvp(fn, a, a)), *arrays[1:]) == (1, [])


def log_softmax(z):
    z = z - z.max(axis=1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=1, keepdims=True))


LABELS = _rng.integers(0, 10, 64)


@pytest.mark.parametrize(
    "loss, target",
    [
        (lambda z, t: -(log_softmax(z) * t).sum(axis=1).mean(), np.eye(10)[LABELS]),
        (lambda z, y: -log_softmax(z)[np.arange(len(y)), y].mean(), LABELS),
        (lambda z, y: -np.take_along_axis(log_softmax(z), y[:, None], 1).mean(), LABELS),
    ],
    ids=["one-hot", "labels", "take-along-axis"],
)
def test_softmax_cross_entropy(loss, target):
    kernels, calls = program(fusec.value_and_grad(loss), normal(64, 10), target)
    assert kernels <= 3 and calls == []


def layer_norm(x, g, b):
    m = x.mean(axis=-1, keepdims=True)
    return (x - m) / np.sqrt(x.var(axis=-1, keepdims=True) + 1e-5) * g + b


def test_layer_norm():
    args = normal(64, 48), normal(64, 48), normal(48), normal(48)
    kernels, calls = program(lambda g, *a: fusec.vjp(layer_norm, *a)[1](g), *args)
    assert kernels <= 2 and calls == []
    kernels, _ = program(both(layer_norm), *args)
    assert kernels <= 3


def mse(p, x, y):
    h = np.maximum(x @ p["w1"] + p["b1"], 0)
    return ((h @ p["w2"] + p["b2"] - y) ** 2).mean()


def test_backward_pass_of_a_long_elementwise_function_is_one_kernel():
    def f(x):
        for k in range(60):
            x = (np.sin, np.tanh, np.sqrt, np.square)[k % 4](np.abs(x) + 0.1 * k)
        return x

    low = fusec.grad(lambda x: f(x).sum()).lower(fusec.ShapeDtype((100,), "f4"))
    assert len(low.kernels) == 1


def parameters():
    return {"w1": normal(20, 30), "b1": normal(30), "w2": normal(30, 5), "b2": normal(5)}


def test_perceptron_step():
    def step(p, x, y):
        loss, grads = fusec.value_and_grad(mse)(p, x, y)
        for name, g in grads.items():
            p[name] -= 0.01 * g
        return loss

    kernels, calls = program(step, parameters(), normal(16, 20), normal(16, 5))
    assert calls == ["matmul"] * 5 and kernels <= 6


def cross_entropy(p, x, labels):
    z = np.maximum(x @ p["w1"] + p["b1"], 0) @ p["w2"] + p["b2"]
    z = z - z.max(axis=1, keepdims=True)
    return (np.log(np.exp(z).sum(axis=1)) - z[np.arange(len(labels)), labels]).mean()


@pytest.mark.parametrize("rows", [64, 1024])
@pytest.mark.parametrize(("loss", "classes"), [(mse, 1000), (mse, 10), (cross_entropy, 10)])
def test_perceptron_step_with_biases_of_any_size(loss, classes, rows):
    spec = {"w1": (784, 100), "b1": (100,), "w2": (100, classes), "b2": (classes,)}
    p = {name: fusec.ShapeDtype(shape, "f4") for name, shape in spec.items()}
    y = ((rows, classes), "f4") if loss is mse else ((rows,), "i8")

    def step(p, x, y, rate):
        value, grads = fusec.value_and_grad(loss)(p, x, y)
        return {name: p[name] - rate * grads[name] for name in p}, value

    args = p, fusec.ShapeDtype((rows, 784), "f4"), fusec.ShapeDtype(*y), 0.01
    low = fusec.jit(step).lower(*args)
    calls = [s.name for s in low.program.steps if isinstance(s, Call) and not s.view]
    assert calls == ["matmul"] * 5 and len(low.kernels) <= 6


def test_no_dead_gradient_is_computed():
    """The gradient of the last layer alone needs one product more than the forward pass."""
    args = parameters(), normal(16, 20), normal(16, 5)

    def last(p, x, y):
        return fusec.grad(lambda w: mse({**p, "w2": w}, x, y))(p["w2"])

    assert program(last, *args)[1] == ["matmul"] * 3


def test_transposes_of_products_are_views(monkeypatch):
    monkeypatch.setattr(matmul, "_narrow_blas", lambda: False)
    monkeypatch.setattr(matmul, "SMALL", 0)
    low = fusec.grad(mse).lower(parameters(), normal(16, 20), normal(16, 5))
    products = [s for s in low.program.steps if isinstance(s, Product)]
    turned = [s for s in products if dict(s.kernel.ints).get("turn_a") == TURN
              or dict(s.kernel.ints).get("turn_b") == TURN]  # fmt: skip
    assert (len(products), len(turned)) == (5, 3)
    assert not [k for k in low.kernels if "transpose" in k.source]


def test_a_gather_of_rows_adds_up_in_a_kernel():
    ids = _rng.integers(0, 8, 20)
    kernels, calls = program(
        fusec.grad(lambda w, ids: (w[ids] ** 2).sum()), normal(8, 4), ids
    )
    assert calls == [] and kernels == 2


def test_a_stencil_gathers_in_one_kernel():
    f = lambda u: ((u[2:] - 2 * u[1:-1] + u[:-2]) ** 2).sum()
    kernels, calls = program(fusec.grad(f), normal(200))
    assert kernels <= 2 and calls == []


def perceptron(ws, x):
    for w in ws:
        x = np.tanh(x @ w)
    return (x * x).mean()


def biased(layers, x):
    for w, b in layers:
        x = np.maximum(x @ w + b, 0)
    return (x * x).mean()


def test_twenty_layers_compile_little_more_than_forward():
    """Kernels with the same text are compiled once; here all but the first and last are."""
    ws, x = [normal(16, 16) for _ in range(20)], normal(8, 16)
    forward = fusec.jit(perceptron).lower(ws, x)
    whole = fusec.value_and_grad(perceptron).lower(ws, x)
    texts = [len({k.source for k in low.kernels}) for low in (forward, whole)]
    assert texts[1] <= 3 * texts[0]
    assert len(whole.kernels) <= 3 * len(forward.kernels)
    assert len(whole.graph.nodes()) <= 6 * len(forward.graph.nodes())
    calls = [s.name for s in whole.program.steps if isinstance(s, Call) and not s.view]
    assert calls == ["matmul"] * 59


def test_backward_kernels_are_hardly_longer_than_forward_ones():
    """Compile time goes with the text: at most three times the forward one's."""
    layers, x = [(normal(16, 16), normal(16)) for _ in range(20)], normal(64, 16)
    lows = fusec.jit(biased).lower(layers, x), fusec.value_and_grad(biased).lower(layers, x)
    texts = [{k.text.partition("def ")[2] for k in low.program.sources} for low in lows]
    forward, whole = (sum(len(t.splitlines()) for t in each) for each in texts)
    assert whole <= 2.5 * forward


@pytest.mark.parametrize("n", [64, 1024])
def test_a_training_step_keeps_no_more_than_it_must(n):
    """By hand, in bytes of float32: what lives besides the arguments."""
    d, h = 1000, 100
    args = [normal(*s, dtype="f4") for s in ((d, h), (h, d), (n, d), (n, d))]
    found = fusec.jit(two_layer_net.step).lower(*args).explain().bytes_peak
    weights = 4 * 2 * d * h  # as many new ones, and their gradients
    kept = 4 * (2 * n * h + n * d)  # the hidden layer, before and after the ReLU; the difference
    one_gradient, losses, loss = 4 * d * h, 4 * n, 4
    assert found <= 2 * weights + kept
    assert found <= weights + one_gradient + kept + losses + loss


def test_checkpoints_keep_less():
    ws, x = [normal(32, 32) / 4 for _ in range(12)], normal(256, 32)

    def deep(layer):
        def loss(ws, x):
            for w in ws:
                x = layer(w, x)
            return (x * x).mean()

        return fusec.grad(loss)

    layer = lambda w, x: np.tanh(np.sin(x @ w) @ w)
    plain = deep(layer).lower(ws, x)
    held = deep(fusec.checkpoint(layer)).lower(ws, x)
    notes = [n for n in held.explain().notes if n.startswith("checkpoint")]
    assert len(notes) == 12 and all("262 kB less to keep" in n for n in notes)
    kept = [low.explain().bytes_peak for low in (plain, held)]
    assert kept[1] < 0.7 * kept[0]
