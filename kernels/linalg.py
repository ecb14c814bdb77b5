"""Matrix products, which stay with BLAS, and what can be fused around them."""

import numpy as np

from kernels.registry import kernel, normal, uniform

POINTS = {"S": (32, 3), "M": (316, 3), "L": (2000, 3)}
SAMPLES = {"S": (16, 8), "M": (800, 8), "L": (31_250, 8)}
CENTRES = {"S": (8, 8), "M": (16, 8), "L": (16, 8)}
BATCH = {"S": (16, 16), "M": (256, 128), "L": (4096, 256)}
HIDDEN = {"S": (16, 64), "M": (128, 400), "L": (256, 1024)}
OUTPUT = {"S": (64, 8), "M": (400, 10), "L": (1024, 64)}
BIAS1 = {size: shape[1:] for size, shape in HIDDEN.items()}
BIAS2 = {size: shape[1:] for size, shape in OUTPUT.items()}
TARGET = {size: (BATCH[size][0],) for size in BATCH}
COEFFICIENTS = {size: (BATCH[size][1],) for size in BATCH}


@kernel(
    name="mlp_forward",
    family="linalg",
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
    name="cosine_similarity",
    family="linalg",
    inputs={"x": uniform(BATCH, 0, 1), "y": uniform(BATCH, 0, 1)},
    bytes=lambda x, y: x.nbytes + y.nbytes + len(x) * x.itemsize,
    flops=lambda x, y: 6 * x.size,
    teaches="three reductions of the same rows in one kernel",
)
def cosine_similarity(x, y):
    dots = np.einsum("ij,ij->i", x, y)
    return dots / (np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1))


@kernel(
    name="regression_gradient",
    family="linalg",
    inputs={"x": normal(BATCH), "y": normal(TARGET), "w": normal(COEFFICIENTS)},
    bytes=lambda x, y, w: x.nbytes,
    flops=lambda x, y, w: 4 * x.size,
    teaches="two products with one matrix, the second with its transpose: a view, not a copy",
    rtol={"f4": 2e-4, "f8": 1e-11},
)
def regression_gradient(x, y, w):
    return x.T @ (x @ w - y) * (2 / len(y))
