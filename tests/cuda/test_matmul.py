"""The tiled matrix product in the simulator: sizes around a tile, layouts, batches, dtypes."""

import os

import numpy as np
import pytest

from fusec.codegen.cuda_matmul import matmul_kernel
from fusec.codegen.cuda_simulator import simulate

pytestmark = pytest.mark.skipif(
    not os.environ.get("NUMBA_ENABLE_CUDASIM"), reason="needs NUMBA_ENABLE_CUDASIM=1"
)


def layout(x):
    return x.shape, tuple([s // x.itemsize for s in x.strides])


def product(a, b):
    """``a @ b`` by the kernel."""
    out = np.empty((*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1]),
                   a.dtype)  # fmt: skip
    axes = out.ndim
    a, b = (x.reshape((1,) * (axes - x.ndim) + x.shape) for x in (a, b))
    kernel = matmul_kernel(layout(a), layout(b), layout(out), a.dtype)
    memory = [x.base if x.base is not None else x for x in (a, b, out)]
    flat = [np.ascontiguousarray(x).reshape(-1).view(np.uint8) for x in memory[:2]]
    result = np.zeros(out.nbytes, np.uint8)
    simulate(kernel.text, [n for _, n in kernel.ints], [(flat[0], 0), (flat[1], 0), (result, 0)],
             kernel.ptr_types, kernel.grid, kernel.block, np.zeros(1, np.int64))  # fmt: skip
    return result.view(a.dtype).reshape(out.shape)


def sample(shape, dtype):
    return np.asarray(np.random.default_rng(1).normal(size=shape) * 4).astype(dtype)


@pytest.mark.parametrize("dtype", ["f4", "f8", "i4", "u1", "c16"])
def test_dtypes(dtype):
    a, b = sample((5, 7), dtype), sample((7, 3), dtype)
    np.testing.assert_allclose(product(a, b), a @ b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("m", "k", "n"), [(1, 1, 1), (1, 17, 1), (65, 16, 3), (3, 33, 66)])
def test_sizes(m, k, n):
    a, b = sample((m, k), "f8"), sample((k, n), "f8")
    np.testing.assert_allclose(product(a, b), a @ b, rtol=1e-12, atol=1e-12)


def test_transposed_operands_are_read_where_they_lie():
    a, b = sample((6, 9), "f8").T, sample((4, 6), "f8").T
    np.testing.assert_allclose(product(a, b), a @ b, rtol=1e-12, atol=1e-12)


def test_batches_are_broadcast():
    a, b = sample((2, 1, 3, 4), "f8"), sample((3, 4, 5), "f8")
    np.testing.assert_allclose(product(a, b), a @ b, rtol=1e-12, atol=1e-12)
