"""Matrix products, which stay with BLAS, and what can be fused around them."""

import math

import numpy as np

from kernels.registry import column, kernel, normal

POINTS = {"S": (32, 3), "M": (316, 3), "L": (2000, 3)}
SAMPLES = {"S": (16, 8), "M": (800, 8), "L": (31_250, 8)}
CENTRES = {"S": (8, 8), "M": (16, 8), "L": (16, 8)}
BATCH = {"S": (16, 16), "M": (256, 128), "L": (4096, 256)}
HIDDEN = {"S": (16, 64), "M": (128, 400), "L": (256, 1024)}
OUTPUT = {"S": (64, 8), "M": (400, 10), "L": (1024, 64)}
BIAS1, BIAS2 = column(HIDDEN, 1), column(OUTPUT, 1)
TARGET, COEFFICIENTS = column(BATCH, 0), column(BATCH, 1)
HEADS = {"S": (1, 2, 22, 8), "M": (1, 4, 160, 32), "L": (2, 8, 512, 64)}
STACK = {"S": (4, 16, 16), "M": (100, 32, 32), "L": (4096, 32, 32)}


@kernel(
    name="mlp_forward",
    family="linalg",
    bound="blas",
    inputs={
        "x": normal(BATCH),
        "w1": normal(HIDDEN, 0.05),
        "b1": normal(BIAS1),
        "w2": normal(OUTPUT, 0.05),
        "b2": normal(BIAS2),
    },
    bytes=lambda x, w1, b1, w2, b2: (
        x.nbytes + w1.nbytes + w2.nbytes + len(x) * w2.shape[1] * x.itemsize
    ),
    flops=lambda x, w1, b1, w2, b2: 2 * len(x) * (w1.size + w2.size),
    teaches="bias and activation are one kernel behind the matrix product",
    rtol={"f4": 1e-4, "f8": 1e-11},
)
def mlp_forward(x, w1, b1, w2, b2):
    hidden = np.maximum(x @ w1 + b1, 0)
    return np.tanh(hidden @ w2 + b2)


@kernel(
    name="pairwise_distances",
    family="linalg",
    bound="arithmetic",
    inputs={"x": normal(POINTS), "y": normal(POINTS)},
    bytes=lambda x, y: len(x) * len(y) * x.itemsize,
    flops=lambda x, y: 3 * len(x) * y.size,
    teaches="broadcasting followed by a short reduction: the (n, m, 3) array is never made",
)
def pairwise_distances(x, y):
    return np.sqrt(np.sum((x[:, None, :] - y[None, :, :]) ** 2, axis=-1))


@kernel(
    name="kmeans_assign",
    family="linalg",
    bound="arithmetic",
    inputs={"points": normal(SAMPLES), "centres": normal(CENTRES)},
    bytes=lambda points, centres: points.nbytes + 8 * len(points),
    flops=lambda points, centres: 3 * len(points) * centres.size,
    teaches="a reduction inside a reduction, the outer one with an index",
    mismatch=1e-3,
)
def kmeans_assign(points, centres):
    distances = np.sum((points[:, None, :] - centres[None, :, :]) ** 2, axis=-1)
    return np.argmin(distances, axis=1)


@kernel(
    name="regression_gradient",
    family="linalg",
    bound="blas",
    inputs={"x": normal(BATCH), "y": normal(TARGET), "w": normal(COEFFICIENTS)},
    bytes=lambda x, y, w: x.nbytes,
    flops=lambda x, y, w: 4 * x.size,
    teaches="two products with one matrix, the second with its transpose: a view, not a copy",
    rtol={"f4": 2e-4, "f8": 1e-11},
)
def regression_gradient(x, y, w):
    return x.T @ (x @ w - y) * (2 / len(y))


@kernel(
    name="linear_relu",
    family="linalg",
    bound="blas",
    inputs={"x": normal(BATCH), "w": normal(HIDDEN, 0.05), "b": normal(BIAS1)},
    bytes=lambda x, w, b: x.nbytes + w.nbytes + len(x) * b.nbytes,
    flops=lambda x, w, b: 2 * len(x) * w.size,
    teaches="bias and activation work in the result of the product: no second array",
    rtol={"f4": 1e-4, "f8": 1e-11},
)
def linear_relu(x, w, b):
    return np.maximum(x @ w + b, 0)


@kernel(
    name="attention",
    family="linalg",
    bound="blas",
    inputs={"q": normal(HEADS), "k": normal(HEADS), "v": normal(HEADS)},
    bytes=lambda q, k, v: 4 * q.nbytes,
    flops=lambda q, k, v: 4 * q.size * k.shape[-2],
    teaches="two stacks of products with a softmax between them, which is one kernel",
    rtol={"f4": 1e-4, "f8": 1e-11},
)
def attention(q, k, v):
    scores = q @ np.swapaxes(k, -1, -2) / math.sqrt(q.shape[-1])
    e = np.exp(scores - np.max(scores, axis=-1, keepdims=True))
    return e / np.sum(e, axis=-1, keepdims=True) @ v


@kernel(
    name="batched_matmul",
    family="linalg",
    bound="blas",
    inputs={"x": normal(STACK), "y": normal(STACK)},
    bytes=lambda x, y: 3 * x.nbytes,
    flops=lambda x, y: 2 * x.size * y.shape[-1],
    teaches="many small products: the cost of a call counts, and threads can share the stack",
    rtol={"f4": 1e-4, "f8": 1e-11},
)
def batched_matmul(x, y):
    return x @ y
