"""The kernel suite under fusec: every kernel, two dtypes, against its own NumPy function."""

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
        scale = float(np.max(np.abs(want)))
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


@pytest.mark.parametrize("name", ["gelu", "softmax", "column_variance", "mse", "heat_step"])
def test_kernel_of_medium_size_uses_threads_and_agrees(name):
    import fusec

    kernel = kernels.get(name)
    args = kernel.args("M", "f4")
    want = run(kernel.function, args, ignore=True)
    got = run(fusec.jit(kernel.function), args, ignore=False)
    assert got.error is None, got.error
    agree(kernel, "f4", got.result, want.result)


@pytest.mark.parametrize("kernel, dtype", CASES)
def test_statement_is_complete(kernel, dtype):
    args = kernel.args("S", dtype)
    assert kernel.bytes(*args) > 0
    assert kernel.flops(*args) > 0
    assert kernel.teaches
    arrays = [a for a in args if isinstance(a, np.ndarray) and a.dtype.kind == "f"]
    assert all(a.dtype == dtype for a in arrays)
    again = kernel.args("S", dtype)
    assert all(np.array_equal(a, b) for a, b in zip(args, again)), "the same seed, other values"


@pytest.mark.parametrize("kernel, dtype", CASES)
def test_numpy_keeps_the_dtype(kernel, dtype):
    for _, leaf in leaves(kernel.function(*kernel.args("S", dtype))):
        if isinstance(leaf, (np.ndarray, np.generic)) and leaf.dtype.kind == "f":
            assert leaf.dtype == dtype


def test_suite():
    assert len(kernels.suite()) >= 12
    families = {k.family for k in kernels.suite()}
    assert families == {"elementwise", "rows", "reductions", "stencils", "linalg", "programs"}
    assert kernels.get("gelu") in kernels.suite("elementwise")
    with pytest.raises(KeyError, match="softmax"):
        kernels.get("sofmax")


def test_a_name_is_registered_once():
    gelu = kernels.get("gelu")
    again = kernels.kernel(name="gelu", family="elementwise", inputs=gelu.inputs,
                           bytes=gelu.bytes, flops=gelu.flops, teaches="")  # fmt: skip
    with pytest.raises(ValueError, match="twice"):
        again(gelu.function)
