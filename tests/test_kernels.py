"""The kernel suite under fusec: every kernel, two dtypes, against its own NumPy function."""

import re
from pathlib import Path

import numpy as np
import pytest
from oracle import leaves, run

import kernels

CASES = [
    pytest.param(k, d, id=f"{k.name}-{d}") for k in kernels.suite() for d in kernels.DTYPES
]


def agree(kernel, dtype, got, want):
    """Integers equal but for the share a kernel allows; floats within its tolerance."""
    assert type(got) is type(want)
    if not isinstance(want, (np.ndarray, np.generic)):
        assert got == want
        return
    assert (got.dtype, got.shape) == (want.dtype, want.shape)
    if want.dtype.kind in "iub":
        assert np.mean(got != want) <= kernel.mismatch
    else:
        scale = float(np.nanmax(np.abs(want)))
        np.testing.assert_allclose(got, want, rtol=kernel.rtol[dtype],
                                   atol=kernel.rtol[dtype] * scale)  # fmt: skip


@pytest.mark.parametrize("kernel, dtype", CASES)
def test_kernel_gives_numpys_answer(kernel, dtype):
    import fusec

    args = kernel.args("S", dtype)
    want = run(kernel.function, args, ignore=True)
    compiled = fusec.jit(kernel.function)
    for _ in range(2):
        got = run(compiled, args, ignore=False)
        assert got.error is None, got.error
        for left, right in zip(leaves((got.result, got.args)), leaves((want.result, want.args))):
            agree(kernel, dtype, left[1], right[1])


#: Kernels that threads share at size M, in every way that there is.
THREADED = (
    "gelu", "complex_multiply", "hamming_distance", "luma", "sum_all", "argmax_all", "nanmean",
    "column_variance", "mse", "softmax", "attention_scores", "cumsum", "cumsum_rows", "heat_step",
    "heat_3d", "transpose_add", "im2col", "roll", "embedding", "attention", "adam_parameters",
    "kmeans_step", "game_of_life", "pagerank_step",
)  # fmt: skip


@pytest.mark.parametrize("name", THREADED)
def test_kernel_of_medium_size_uses_threads_and_agrees(name):
    import fusec

    kernel = kernels.get(name)
    args = kernel.args("M", "f4")
    want = run(kernel.function, args, ignore=True)
    got = run(fusec.jit(kernel.function), args, ignore=False)
    assert got.error is None, got.error
    for left, right in zip(leaves(got.result), leaves(want.result)):
        agree(kernel, "f4", left[1], right[1])


#: Kernels and calls of NumPy that a function becomes; what is not listed is one kernel and no call.
#: More than stated is a lost fusion; fewer is an improvement, and then the row is to be changed.
STEPS = {
    "histogram": (2, 0),  # zeros, then the counts
    "mlp_forward": (2, 2),
    "regression_gradient": (2, 2),
    "linear_relu": (1, 1),
    "attention": (1, 2),
    "batched_matmul": (0, 1),
    "adam_parameters": (6, 0),  # one for each array of the list
    "kmeans_step": (3, 1),
    "game_of_life": (2, 0),  # sums of columns are stored before rows are summed
    "pagerank_step": (2, 0),  # shares are computed once, not once for a link
    "heat_equation": (3, 0),  # the first step, the loop, what follows it
    "low_pass": (4, 0),
    "recurrent_network": (1, 2),
    "logistic_regression": (5, 4),
}
#: Full reductions of long arrays: parts and their sum, twice where two passes are needed.
STEPS_OF_MANY = dict.fromkeys(
    ("sum_all", "nanmean", "norm", "mse", "weighted_mean", "masked_mean", "kl_divergence",
     "cosine_distance"), (2, 0),
) | {"argmax_all": (4, 0), "variance_all": (4, 0), "histogram": (3, 0)}  # fmt: skip


@pytest.mark.parametrize("size", ["S", "M"])
@pytest.mark.parametrize("kernel", kernels.suite(), ids=lambda k: k.name)
def test_number_of_steps(kernel, size):
    import fusec

    table = STEPS if size == "S" else STEPS | STEPS_OF_MANY
    low = fusec.jit(kernel.function).lower(*kernel.args(size, "f4"))
    calls = sum(row.split()[1] == "call" for row in str(low).splitlines() if row[2:3].isdigit())
    assert (len(low.kernels), calls) == table.get(kernel.name, (1, 0)), low.explain()


def test_tables_name_kernels_of_the_suite():
    assert {*THREADED, *STEPS, *STEPS_OF_MANY} <= {k.name for k in kernels.suite()}


def widths(tree):
    """The real dtypes of all floats and complex numbers of a tree."""
    arrays = [a for _, a in leaves(tree) if isinstance(a, (np.ndarray, np.generic))]
    return {a.real.dtype for a in arrays if a.dtype.kind in "fc"}


@pytest.mark.parametrize("kernel, dtype", CASES)
def test_statement_is_complete(kernel, dtype):
    args = kernel.args("S", dtype)
    assert kernel.bytes(*args) > 0
    assert kernel.flops(*args) > 0
    assert kernel.teaches
    assert widths(args) <= {np.dtype(dtype)}
    pairs = zip(leaves(args), leaves(kernel.args("S", dtype)))
    assert all(np.array_equal(a, b, equal_nan=True) for (_, a), (_, b) in pairs), "another value"


@pytest.mark.parametrize("kernel, dtype", CASES)
def test_numpy_keeps_the_dtype(kernel, dtype):
    assert widths(kernel.function(*kernel.args("S", dtype))) <= {np.dtype(dtype)}


def test_suite():
    assert [k.family for k in kernels.suite()] == sorted(
        (k.family for k in kernels.suite()), key=kernels.FAMILIES.index
    )
    assert {k.family for k in kernels.suite()} == set(kernels.FAMILIES)
    assert {k.bound for k in kernels.suite()} == set(kernels.BOUNDS)
    assert kernels.get("gelu") in kernels.suite("elementwise")
    assert kernels.suite("no such family") == ()
    with pytest.raises(KeyError, match="softmax"):
        kernels.get("sofmax")


@pytest.mark.parametrize("change, message", [
    ({}, "twice"),
    ({"name": "new", "family": "elementary"}, "elementary"),
    ({"name": "new", "bound": "luck"}, "luck"),
])  # fmt: skip
def test_a_wrong_statement_is_refused(change, message):
    gelu = kernels.get("gelu")
    statement = {f: getattr(gelu, f) for f in ("name", "family", "bound", "inputs", "bytes",
                                               "flops", "teaches")}  # fmt: skip
    with pytest.raises(ValueError, match=message):
        kernels.kernel(**(statement | change))(gelu.function)


def test_the_suite_does_not_know_the_compiler():
    for path in Path(kernels.__file__).parent.glob("*.py"):
        assert not re.search(r"^\s*(import|from) fusec", path.read_text(), re.M), path
