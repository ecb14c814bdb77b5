"""Looking inside: `trace`, `lower`, `explain`, `compile`, `ShapeDtype`, `verify`, `FUSEC_DUMP`."""

import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

import fusec
from fusec.compare import compare
from fusec.config import config
from fusec.ops import OPS
from fusec.traffic import amount

X = np.linspace(-2, 2, 60, dtype="f4").reshape(6, 10)
HERE = Path(__file__).name


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def layer(params, x, lr=0.5):
    h = np.tanh(x @ params["w"] + params["b"])
    return np.sort(h, axis=-1) * lr, h.sum()


def update(x, g):
    x -= 0.1 * g


LAYER = ({"w": np.ones((10, 4), "f4"), "b": np.zeros(4, "f4")}, X)


# -- trace and lower ------------------------------------------------------------------------------


def test_the_traced_graph_is_what_was_written():
    traced = fusec.jit(layer).trace(*LAYER, lr=0.1)
    names = [p.attrs["name"] for p in traced.graph.params]
    assert names == ['params["w"]', 'params["b"]', "x", "lr"]
    assert "tanh" in str(traced)
    assert f"{HERE}:" in str(traced)
    assert traced.dot().startswith("digraph")
    assert traced._repr_html_().startswith("<pre>")


def test_history_has_every_pass_and_the_graph_before_the_first():
    low = fusec.jit(lambda x: (x * 1 + np.exp(x), np.exp(x))).lower(X)
    passes = [name for name, _ in low.history]
    assert passes[0] == "as written"
    assert {"cse", "fold", "simplify", "dce"} <= set(passes)
    before, after = len(low.history[0][1].nodes()), len(low.graph.nodes())
    assert after < before, "exp is computed once and x * 1 is gone"


def test_lower_names_kernels_steps_and_buffers():
    low = fusec.jit(layer).lower(*LAYER)
    text = str(low)
    for word in ("kernel k1", "matmul(x, params", "sort(", "out0: ", "bytes moved"):
        assert word in text, text
    kernel = low.kernels[0]
    assert kernel.name in text
    assert kernel.rows >= 1
    assert all(isinstance(v, int) for v in kernel.ints.values())
    assert any(what.startswith("tanh") and loc.line for what, loc in kernel.notes)
    assert "def kernel(start, stop" in kernel.source


def test_every_kernel_knows_its_bytes():
    (kernel,) = fusec.jit(softmax).lower(X).kernels
    assert (kernel.bytes_read, kernel.bytes_written) == (X.nbytes, X.nbytes)


def test_only_what_is_needed_is_counted():
    def first_row(x):
        return x[:1] * 2 + np.broadcast_to(x[:1, :1], (1, 10))

    low = fusec.jit(first_row).lower(X)
    found = low.explain()
    assert found.bytes_moved <= 40 + 4 + 40
    assert found.bytes_least <= found.bytes_moved


@pytest.mark.parametrize("target", ["cuda:sm_1", "tpu"])
def test_other_targets_are_refused(target):
    with pytest.raises(fusec.errors.UnsupportedError, match="'cpu' or one of cuda:sm_70"):
        fusec.jit(softmax).lower(X, target=target)


def test_the_cpu_may_be_named():
    assert fusec.jit(softmax).lower(X, target="cpu").kernels


# -- explain --------------------------------------------------------------------------------------


def test_explain_has_fields_and_text():
    found = fusec.jit(layer).lower(*LAYER).explain()
    assert {c.kind for c in found.calls} == {"library", "host"}
    assert {"matmul", "sort"} == {c.name for c in found.calls}
    assert all(e.reason and e.nbytes for e in found.edges)
    assert found.bytes_moved >= found.bytes_least > 0
    ops = [op for kernel in found.kernels for op in kernel.ops]
    assert "tanh" in [op.name for op in ops]
    assert all(op.loc.filename == __file__ for op in ops)
    for word in ("not fused", "library call matmul", "host call sort", f"{HERE}:"):
        assert word in str(found), str(found)
    assert found._repr_html_().startswith("<pre>")


def test_explain_says_why_numpy_runs_a_function():
    kept = []

    def leak(x):
        kept.append(x)
        return x + 1

    low = fusec.jit(leak).lower(X)
    assert low.kernels == []
    assert "NumPy runs it" in str(low)
    assert "kept" in low.explain().fallback
    assert np.array_equal(low.compile()(X), X + 1)


def test_explain_says_that_overlapping_arguments_run_in_numpy():
    x = np.arange(9.0)
    low = fusec.jit(update).lower(x[1:], x[:-1])
    assert "memory" in low.explain().fallback
    assert not low.kernels


def test_byte_swapped_arrays_run_in_numpy_and_are_no_precedent():
    f = fusec.jit(lambda x: x + 1)
    swapped, native = np.ones(4, ">f8"), np.ones(4)
    assert "byte-swapped" in f.lower(swapped).fallback
    f(swapped), f(native)
    assert len(f._plans) == 2


def test_explain_reports_copies():
    unaligned = np.zeros(33, np.uint8)[1:].view("f8")
    found = fusec.jit(update).lower(np.ones(4), unaligned).explain()
    assert any("argument g is copied" in c for c in found.copies), found
    assert not any(c.startswith("x is changed") for c in found.copies), found

    def turn(x):
        x[:] = x[::-1]

    found = fusec.jit(turn).lower(np.ones(4)).explain()
    assert any(c.startswith("x is changed") for c in found.copies), found


def test_explain_reports_numbers_that_are_part_of_the_program():
    def power(x, n):
        for _ in range(n):
            x = x * x
        return x

    assert any("n" in text and "3" in text for text in fusec.jit(power).lower(X, 3).explain().notes)


def test_explain_says_where_a_long_chain_was_cut():
    odd = np.random.default_rng(3).integers(0, 2, 5000).tolist()  # else it would be a loop

    def chain(x):
        for i in range(5000):
            x = x + 1 if odd[i] else x * 0.5
        return x

    found = fusec.jit(chain).lower(X).explain()
    assert len(found.kernels) > 1
    assert len(found.cuts) == len(found.kernels) - 1
    assert "cut for size" in str(found)
    assert len(str(found).splitlines()) < 80


@pytest.mark.parametrize(
    "nbytes, text", [(0, "0 bytes"), (999, "999 bytes"), (999_999, "1 MB"), (2 * 10**9, "2 GB")]
)
def test_amounts(nbytes, text):
    assert amount(nbytes) == text


# -- ShapeDtype and compile -----------------------------------------------------------------------


def test_shape_dtype_stands_for_arrays_in_containers():
    args = ({"w": fusec.ShapeDtype((10, 4), "f4"), "b": fusec.ShapeDtype(4, "f4")}, X)
    low = fusec.jit(layer).lower(*args)
    assert [k.source for k in low.kernels] == [
        k.source for k in fusec.jit(layer).lower(*LAYER).kernels
    ]


def test_shape_dtype_needs_no_memory():
    low = fusec.jit(lambda x: x * 2).lower(fusec.ShapeDtype((1 << 20, 1 << 20), "f8"))
    assert low.explain().bytes_moved == 2 * 8 << 40


@pytest.mark.parametrize("shape", [-1, (2.5,), ("a",)])
def test_shape_dtype_refuses_what_is_no_shape(shape):
    with pytest.raises(fusec.errors.ShapeError):
        fusec.ShapeDtype(shape, "f4")


def test_shape_dtypes_compare_and_hash():
    a, b = fusec.ShapeDtype((2,), "f4"), fusec.ShapeDtype([2], np.float32)
    assert a == b
    assert len({a, b, fusec.ShapeDtype((2,), "f8")}) == 2
    assert repr(a) == "ShapeDtype((2,), 'float32')"


def test_compiled_runs_and_shows_machine_code():
    exe = fusec.jit(softmax).lower(fusec.ShapeDtype(X.shape, "f4")).compile()
    assert np.allclose(exe(X), softmax(X))
    (kernel,) = exe.kernels
    assert "define" in kernel.llvm
    assert len(kernel.asm.splitlines()) > 10
    assert kernel.object_size == len(kernel.object) > 100


def test_compiled_refuses_other_arguments():
    exe = fusec.jit(softmax).lower(X).compile()
    with pytest.raises(fusec.errors.ShapeError, match=r"argument x of float32\[6, 10\]"):
        exe(X[:2])
    with pytest.raises(fusec.errors.DTypeError, match="float64"):
        exe(X.astype("f8"))
    with pytest.raises(fusec.errors.DTypeError, match="compiled for arguments like"):
        exe(X, X)
    assert np.allclose(exe(np.asfortranarray(X)), softmax(X))


# -- verify ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fn, args, allowed",
    [
        (lambda x: x * 2 + 1, (X,), "bitwise"),
        (np.tanh, (X,), "4 ULP"),
        (softmax, (X,), "relative"),
        (lambda x: x.sum(), (X,), "relative"),
        (lambda x: x.max(), (X,), "bitwise"),
    ],
)
def test_verify_agrees(fn, args, allowed):
    report = fusec.verify(lambda *a: fn(*a), *args)
    assert report, report
    assert report.comparisons[0].allowed == allowed
    assert "agrees" in str(report)


def test_verify_allows_for_cancellation():
    x = np.random.default_rng(0).standard_normal(1000).astype("f4")
    x -= x.mean()
    for fn in (lambda x: x.sum(), lambda x: x.mean() * 3, lambda x: np.exp(x - x.mean()).sum()):
        assert fusec.verify(fn, x), fusec.verify(fn, x)


def test_verify_looks_at_changed_arguments_and_changes_none():
    x = np.ones(4)
    report = fusec.verify(update, x, np.ones(4))
    assert report, report
    assert "x (changed)" in [c.label for c in report.comparisons]
    assert np.array_equal(x, np.ones(4))


def test_verify_of_what_catches_an_error():
    def careful(x, m):
        try:
            np.linalg.cholesky(m)
        except np.linalg.LinAlgError:
            return x + 1
        return x

    report = fusec.verify(careful, np.ones(4), np.zeros((3, 3)))
    assert report, report


def test_verify_keeps_views_of_one_memory():
    x = np.arange(9.0)
    report = fusec.verify(update, x[1:], x[:-1])
    assert report, report
    assert np.array_equal(x, np.arange(9.0))


def test_verify_leaves_captured_arrays_alone():
    weights = np.ones(3)

    def bump(x):
        weights[1:] += x
        return weights * 2

    assert fusec.verify(bump, 2.0)
    assert np.array_equal(weights, np.ones(3))


def test_verify_compares_exceptions():
    report = fusec.verify(lambda x: x.reshape(7), X)
    assert report, report
    assert "ValueError" in str(report)


@pytest.fixture
def wrong_cos(monkeypatch):
    """A compiler whose cosine is a sine."""
    monkeypatch.setitem(OPS["cos"].expr, "f", "(sin({0}))")


def wrong(x):
    y = x * 2
    z = np.cos(y) + 1
    return np.exp(z).sum()


def test_verify_names_the_first_op_that_differs(wrong_cos):
    report = fusec.verify(wrong, X)
    assert not report
    assert report.first.startswith("cos(")
    assert report.loc.line == wrong.__code__.co_firstlineno + 2
    assert "DIFFERS" in str(report)
    with pytest.raises(fusec.errors.VerifyError, match="cos"):
        fusec.verify(wrong, X, raise_on_difference=True)


def test_first_calls_are_checked_when_asked_for(wrong_cos, monkeypatch):
    monkeypatch.setattr(config, "verify", True)
    f = fusec.jit(wrong)
    with pytest.warns(fusec.errors.VerifyWarning, match="first op that differs: cos"):
        f(X)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        f(X)
        fusec.jit(softmax)(X)


@pytest.mark.parametrize(
    "a, b, tolerance, fine",
    [
        (np.float32(1), np.nextafter(np.float32(1), np.float32(2)), "bitwise", False),
        (np.float32(1), np.nextafter(np.float32(1), np.float32(2)), "4 ULP", True),
        (np.array([np.nan, 1.0]), np.array([np.nan, 1.0]), "bitwise", True),
        (np.array([0.0]), np.array([-0.0]), "bitwise", False),
        (np.array([1.0]), np.array([np.inf]), "relative", False),
        (np.array([1.0, 1e9]), np.array([1.0001, 1e9]), "relative", True),
        (np.array([1]), np.array([2]), "relative", False),
        (np.array([1]), np.array([1.0]), "relative", False),
        (np.array(1.0), np.float64(1.0), "bitwise", False),
        (np.array([1 + 1j]), np.array([1 - 1j]), "relative", False),
        (np.zeros((0, 2)), np.zeros((0, 2)), "bitwise", True),
        (np.zeros((0, 2)), np.zeros((0, 3)), "bitwise", False),
        (1, 1.0, "bitwise", False),
    ],
)
def test_comparisons(a, b, tolerance, fine):
    found = compare("x", a, b, tolerance)
    assert bool(found.problem) is not fine, found


# -- FUSEC_DUMP -----------------------------------------------------------------------------------


def test_dump_writes_graphs_kernels_and_explanation(tmp_path, monkeypatch):
    monkeypatch.setattr(config, "dump", tmp_path / "dump")
    f = fusec.jit(softmax)
    f(X)
    f(X[:3])
    folders = sorted((tmp_path / "dump").iterdir())
    assert len(folders) == 2
    names = {p.name for p in folders[0].iterdir()}
    assert {"0-as-written.txt", "1-cse.txt", "k0.py", "program.txt", "explain.txt"} <= names
    assert "def kernel(" in (folders[0] / "k0.py").read_text()


def test_dump_into_a_folder_that_cannot_be_made_is_no_error(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(config, "dump", tmp_path / "file")
    assert np.allclose(fusec.jit(softmax)(X), softmax(X))


def test_the_stages_are_loaded_on_first_use():
    code = "import fusec, sys; print('fusec.stages' in sys.modules, fusec.ShapeDtype)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ
    )
    assert done.stdout.startswith("False")
    assert "verify" in dir(fusec)
    with pytest.raises(AttributeError):
        fusec.nothing


@pytest.mark.parametrize("g", [fusec.ShapeDtype((8,), "f4"), np.ones(8, "f4")])
def test_a_shape_may_stand_for_an_array_that_is_changed(g):
    def update(x, g):
        x -= 0.1 * g

    low = fusec.jit(update).lower(fusec.ShapeDtype((8,), "f4"), g)
    assert not low.fallback
    assert len(low.kernels) == 1


def test_strides_of_results_that_are_larger_than_the_memory():
    """They are what small arrays of the same layout have, and nothing is allocated."""
    big, small = (
        fusec.jit(lambda x: (x[1:, ::2].T + 1, x.T.copy("K"))).lower(fusec.ShapeDtype(n, "f4"))
        for n in ((1 << 21, 1 << 13), (5, 6))
    )

    def order(strides):
        return sorted(range(len(strides)), key=lambda k: strides[k])

    for a, b in zip(big.program.result_strides, small.program.result_strides):
        assert order(a) == order(b) and min(a) == 4
