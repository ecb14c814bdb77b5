"""``fusec.Tape`` against ``fusec.grad``, and the device "cpu" that it may run on."""

import numpy as np
import pytest

import fusec
from fusec import tape as implementation
from fusec.dispatch import JitFunction
from fusec.errors import DerivativeError, DTypeError, ShapeError, TapeError

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((6, 5)), RNG.standard_normal((6, 2))
W1, W2 = RNG.standard_normal((5, 4)), RNG.standard_normal((4, 2))


def on(x):
    return fusec.to_device(np.array(x), "cpu")


def net(w1, w2, x=X, y=Y):
    return ((np.maximum(x @ w1, 0) @ w2 - y) ** 2).mean()


@fusec.jit
def jitted_net(w1, w2):
    return net(w1, w2)


@fusec.custom_vjp
def leaky(x):
    return np.maximum(x, 0)


leaky.defvjp(lambda x: (leaky(x), x > 0), lambda mask, g: (np.where(mask, g, 0.1 * g),))

PROGRAMS = {
    "net": net,
    "operators": lambda a, b: (2.5 * a @ b / (1 + (a @ b) ** 2)).sum(),
    "views": lambda a, b: (a.T[1:3, ::2].reshape(-1)[:2] * b[0]).sum() + a.transpose(1, 0)[0, 0],
    "indexing": lambda a, b: a[np.array([0, 0, 2])].sum() * b[1, 1],
    "functions": lambda a, b: np.concatenate([np.exp(a).sum(axis=1), np.ravel(b)]).max(),
    "methods": lambda a, b: a.sum(axis=0).mean() + b.var() - a.astype("f4").min(),
    "NumPy arrays": lambda a, b: (np.ones(5) @ a @ b * np.arange(2.0)).sum(),
    "linalg": lambda a, b: np.linalg.slogdet(a.T @ a)[1] + np.linalg.norm(b),
    "jitted": lambda a, b: jitted_net(a, b) * 2,
    "a rule of the user's": lambda a, b: leaky(a).sum() + (fusec.stop_gradient(b) * b).sum(),
    "unused": lambda a, b: (a * a).sum(),
    "a gradient": lambda a, b: (fusec.grad(net)(a, b) ** 2).sum(),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_against_the_function(name):
    f = PROGRAMS[name]
    w = {"hidden": on(W1), "out": (on(W2),)}
    with fusec.Tape() as tape:
        loss = f(w["hidden"], w["out"][0])
    grads = tape.gradient(loss, w)
    value, (g1, g2) = fusec.value_and_grad(f, (0, 1))(W1, W2)
    np.testing.assert_allclose(float(loss), value, rtol=1e-12)
    np.testing.assert_allclose(np.asarray(grads["hidden"]), g1, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(np.asarray(grads["out"][0]), g2, rtol=1e-9, atol=1e-12)


def test_a_second_pass_traces_and_compiles_nothing(monkeypatch):
    traces, plans = [], []
    traced, make = JitFunction.traced, JitFunction._make

    def count_trace(self, *args, **kwargs):
        traces.append(self.__name__)
        return traced(self, *args, **kwargs)

    def count_plan(self, *args):
        plans.append(self.__name__)
        return make(self, *args)

    monkeypatch.setattr(JitFunction, "traced", count_trace)
    monkeypatch.setattr(JitFunction, "_make", count_plan)
    implementation._program.cache_clear()
    w1, w2, x = on(W1), on(W2), on(X)
    losses = []
    for number in range(4):
        with fusec.Tape() as tape:
            hidden = np.maximum(x @ w1, 0)
            loss = ((hidden @ w2 - Y) ** 2).mean()
        g1, g2 = tape.gradient(loss, [w1, w2])
        assert plans == ["tape"] * (number == 0)  # one program, forward and backward
        w1 -= 0.1 * g1
        w2 -= 0.1 * g2
        losses.append(float(loss))
        if number == 0:
            assert traces
        traces.clear()
        plans.clear()
        if number:
            assert not traces
    assert losses == sorted(losses, reverse=True)


def test_the_program_is_that_of_value_and_grad():
    w1, w2 = on(W1), on(W2)
    implementation._program.cache_clear()
    made = []
    with fusec.Tape() as tape, pytest.MonkeyPatch.context() as patch:
        loss = net(w1, w2)
        program = implementation._program
        patch.setattr(
            implementation, "_program", lambda *a: made.append(program(*a)) or made[-1]
        )
        grads = tape.gradient(loss, [w1, w2])
        float(loss)
    (run,) = made
    assert grads[0].shape == W1.shape
    ((plan,),) = run._plans.values()
    functional = fusec.jit(lambda a, b: fusec.value_and_grad(net, (0, 1))(a, b)).lower(W1, W2)
    assert len(plan.program.kernels) == len(functional.kernels)


def test_second_derivatives_by_a_tape_in_a_tape():
    x = on([1.0, 2.0])
    with fusec.Tape() as outer:
        with fusec.Tape() as inner:
            y = (x**3).sum()
        slope = inner.gradient(y, x)
        total = slope.sum()
    np.testing.assert_allclose(np.asarray(outer.gradient(total, x)), [6, 12])
    np.testing.assert_allclose(np.asarray(slope), [3, 12])
    assert float(y) == 9


def test_values_are_there_in_the_block():
    x = on(X)
    with fusec.Tape(persistent=True) as tape:
        loss = (x * x).sum()
        seen = float(loss)
        if loss > 0:
            loss = loss * 2
    assert seen == pytest.approx((X * X).sum())
    for _ in range(2):
        np.testing.assert_allclose(np.asarray(tape.gradient(loss, x)), 4 * X)


def test_sources_may_have_been_computed_in_the_block():
    w1, w2 = on(W1), on(W2)
    with fusec.Tape() as tape:
        hidden = np.maximum(X @ w1, 0)
        loss = ((hidden @ w2 - Y) ** 2).mean()
    of_hidden, of_w1 = tape.gradient(loss, [hidden, w1])
    g = fusec.grad(lambda h: ((h @ W2 - Y) ** 2).mean())(np.maximum(X @ W1, 0))
    np.testing.assert_allclose(np.asarray(of_hidden), g)
    np.testing.assert_allclose(np.asarray(of_w1), fusec.grad(net)(W1, W2))


def test_what_is_still_referred_to_keeps_its_value():
    w = on([1.0, 2.0])
    with fusec.Tape() as tape:
        double = 2 * w
        loss = (double * w).sum()
    grad = tape.gradient(loss, w)
    w -= grad
    assert (double.tolist(), float(loss), w.tolist()) == ([2, 4], 10, [-3, -6])


def test_layouts_are_those_that_numpy_gives():
    x = on(np.asfortranarray(X))
    with fusec.Tape() as tape:
        y, z = x * 2, (x + 1).T
        loss = (y @ z).sum()
        layouts = [a.strides for a in (y, z)]
    grad = tape.gradient(loss, x)
    assert layouts == [(np.asfortranarray(X) * 2).strides, (np.asfortranarray(X) + 1).T.strides]
    np.testing.assert_allclose(np.asarray(y[1:].T), (X * 2)[1:].T)
    np.testing.assert_allclose(
        np.asarray(grad), fusec.grad(lambda a: (a * 2 @ (a + 1).T).sum())(X)
    )


def test_what_an_abandoned_tape_recorded_is_an_input_of_the_next():
    x = on(X)
    with fusec.Tape():
        y = x * 2
    with fusec.Tape() as tape:
        loss = (np.ones(5) * y).sum()
    of_y, of_x = tape.gradient(loss, [y, x])
    np.testing.assert_array_equal(np.asarray(of_y), np.ones_like(X))
    np.testing.assert_array_equal(np.asarray(of_x), np.zeros_like(X))  # x is in no step of this one


ERRORS = [
    (TapeError, "was not recorded", lambda t, loss, x: t.gradient(x.sum(), x)),
    (TapeError, "was not recorded", lambda t, loss, x: t.gradient(3.0, x)),
    (TapeError, "nothing was recorded", lambda t, loss, x: fusec.Tape().gradient(loss, x)),
    (TapeError, "a source is a ndarray", lambda t, loss, x: t.gradient(loss, X)),
    (TapeError, "persistent=True", lambda t, loss, x: [t.gradient(loss, x) for _ in "12"]),
    (ShapeError, r"shape \(5,\): sum it up", lambda t, loss, x: t.gradient(more, x)),
    (DTypeError, "int64, and only floats", lambda t, loss, x: t.gradient(loss, on([1, 2]))),
    (TapeError, "changed in place", lambda t, loss, x: (x.fill(1), t.gradient(loss, x))),
    (TapeError, "changed in place", lambda t, loss, x: (x.fill(1), float(loss))),
]


@pytest.mark.parametrize(("error", "match", "act"), ERRORS)
def test_errors(error, match, act):
    global more
    x = on(X)
    with fusec.Tape() as tape:
        loss = (x * x).sum()
        more = x.sum(axis=0)
    with pytest.raises(error, match=match):
        act(tape, loss, x)


def test_updates_in_place_belong_in_a_jitted_function():
    @fusec.jit
    def cut(h):
        h = h.copy()
        h[1:2] = 0
        return h

    x = on(X)
    advice = r"x\[1:2\] = 0 call a function under fusec.jit"
    with fusec.Tape(), pytest.raises(TapeError, match=advice):
        h = x * 1
        h[1:2] = 0
    with fusec.Tape() as tape:
        loss = (cut(x * 1) ** 2).sum()
    np.testing.assert_array_equal(np.asarray(tape.gradient(loss, x)), 2 * cut(X))


def test_what_a_tape_cannot_record():
    x = on(X)

    @fusec.jit
    def reads_outside(y):
        return (x * y).sum()

    with fusec.Tape() as tape:
        with pytest.raises(DerivativeError, match="depends on the data"):
            x[x > 0]
        with pytest.raises(TapeError, match="x = x \\+ 1"):
            y = x + 1
            y += 1
            y * 2
        loss = reads_outside(x + 1)
    with pytest.raises(DerivativeError, match="reads this source from outside"):
        tape.gradient(loss, x)


def test_arrays_on_the_cpu_share_memory_with_what_runs():
    x = on(X)
    with fusec.transfers() as moved:
        y = x * 2 + 1
        part = fusec.jit(lambda a: a[1:])(y)
        part[...] = 0
    assert moved.to_device == moved.to_host == 0
    np.testing.assert_array_equal(np.from_dlpack(y)[1:], 0)
    np.testing.assert_array_equal(np.from_dlpack(y)[0], X[0] * 2 + 1)
    assert (x.device, fusec.jit(lambda a: a)(x) is x) == ("cpu", True)
