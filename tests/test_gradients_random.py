"""Random differentiable programs: the compiled gradient against NumPy's run of the same graph, and
forwards against backwards against differences (`fusec.check_grads`).
"""

import linecache

import numpy as np
import pytest

import fusec

ROWS, COLUMNS = 5, 6
SAME = (
    "np.tanh({a})", "{a} * {b}", "{a} + {b}", "{a} - 0.5 * {b}", "{a} / (1 + {b} * {b})",
    "np.sin({a}) * {r}", "{a} * {c}", "np.where({a} > 0.1, {a}, {b})", "np.exp(-{a} * {a})",
    "np.maximum({a}, {b})", "np.sqrt(1 + {a} ** 2)", "np.abs({a}) ** 1.5", "{a}[::-1]",
    "{a}[:, many]", "{a}[rows]", "np.roll({a}, 2, axis=1)", "({a}.T @ {b} @ w)[:5]",
    "np.cumsum({a}, axis=1)", "{a} - {a}.mean(axis=1, keepdims=True)", "np.clip({a}, -1, 1)",
    "{a} - {a}.max(axis=0)", "np.concatenate([{a}[1:], {b}[:1]])", "np.einsum('ij,kj->ik', {a}, "
    "{b}) @ {b}", "{a} * np.linalg.norm({b})", "np.pad({a}, 1)[1:-1, 2:]", "np.sort({a}, axis=0)",
    "fusec.checkpoint(lambda x: np.tanh(x * 2) * x)({a})", "np.log1p({a} ** 2)",
)  # fmt: skip
ROW = ("{a}.sum(axis=0)", "{a}.mean(axis=0)", "{r} * 2", "{a}[2]", "{a}.std(axis=0)")
COLUMN = ("{a}.sum(axis=1, keepdims=True)", "{a}.max(axis=1, keepdims=True)", "{a}[:, :1]")
UPDATES = ("{v}[1:3] *= 2", "{v}[:, ids] = {r}[:3]", "{v} += {a}", "{v}[{a} > 1] = 0.5",
           "{v}[rows, rows] = {a}[0, 0]")  # fmt: skip


def source(seed):
    """The text of one program of two arrays: a number."""
    rng = np.random.default_rng(seed)
    names = {"a": ["x", "y"], "r": ["x[0]"], "c": ["y[:, :1]"]}
    lines = []

    def filled(templates, **more):
        text = str(rng.choice(templates))
        picks = {k: str(rng.choice(v)) for k, v in names.items()}
        return text.format(**picks, b=str(rng.choice(names["a"])), **more)

    for k in range(int(rng.integers(6, 14))):
        kind, templates = (("a", SAME), ("a", SAME), ("r", ROW), ("c", COLUMN))[rng.integers(4)]
        lines.append(f"{kind}{k} = {filled(templates)}")
        names[kind].append(f"{kind}{k}")
        if kind == "a" and rng.random() < 0.3:
            lines.append(f"a{k} = a{k} * 1")
            lines.append(filled(UPDATES, v=f"a{k}"))
    terms = [f"(np.cos({n}) * (1 + {n})).sum()" for n in names["a"][-3:]]
    lines.append(f"return {' + '.join(terms)} + {names['r'][-1]}.sum()")
    return "def program(x, y):\n    " + "\n    ".join(lines) + "\n"


def compiled(text, seed):
    """The program as a function with source lines."""
    filename = f"<gradient program {seed}>"
    linecache.cache[filename] = (len(text), None, text.splitlines(True), filename)
    rng = np.random.default_rng(seed)
    names = {"np": np, "fusec": fusec, "ids": np.array([2, 0, 2]), "w": rng.normal(size=(6, 6)) / 9,
             "many": np.array([5, 0, 5, 1, 1, 3]), "rows": np.array([0, 3, 3, 1, 4])}  # fmt: skip
    exec(compile(text, filename, "exec"), names)
    return names["program"], (rng.normal(size=(ROWS, COLUMNS)), rng.normal(size=(ROWS, COLUMNS)))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("seed", range(12))
def test_random_program(seed, monkeypatch):
    text = source(seed)
    program, args = compiled(text, seed)
    gradient = fusec.value_and_grad(program, (0, 1))
    value, grads = gradient(*args)
    monkeypatch.setattr(fusec.config, "disable", True)
    wanted_value, wanted = gradient(*args)
    np.testing.assert_allclose(value, wanted_value, rtol=1e-10)
    for g, w in zip(grads, wanted):
        np.testing.assert_allclose(g, w, rtol=1e-8, atol=1e-9 * (1 + np.abs(w).max()), err_msg=text)
    fusec.check_grads(program, args, order=1, rtol=1e-5)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("seed", range(40, 52))
def test_random_program_on_many_examples(seed, monkeypatch):
    text = source(seed)
    program, args = compiled(text, seed)
    gradient = fusec.value_and_grad(program, (0, 1))
    many = [np.stack([x, x[::-1] * 0.5, x * 2 - 0.1], axis=1) for x in args]
    value, grads = fusec.vmap(gradient, 1, (0, 1))(*many)
    monkeypatch.setattr(fusec.config, "disable", True)
    for k in range(3):
        wanted_value, wanted = gradient(*[x[:, k].copy() for x in many])
        np.testing.assert_allclose(value[k], wanted_value, rtol=1e-10, err_msg=text)
        for g, w in zip(grads, wanted):
            tolerance = 1e-9 * (1 + np.abs(w).max())
            np.testing.assert_allclose(g[:, k], w, rtol=1e-8, atol=tolerance, err_msg=text)
