"""Row programs: a reduction along the last axis, with its producers and consumers.

Each is one kernel when it is compiled: an outer loop over rows, stages over the row inside.
"""

import numpy as np

from kernels.registry import ROWS, column, integers, kernel, normal

LABELS = column(ROWS, 0)
WEIGHTS = column(ROWS, 1)


@kernel(
    name="softmax",
    family="rows",
    inputs={"x": normal(ROWS, 3)},
    bytes=lambda x: 2 * x.nbytes,
    flops=lambda x: 5 * x.size,
    teaches="max, exp, sum and divide in one pass over memory",
)
def softmax(x):
    e = np.exp(x - np.max(x, axis=-1, keepdims=True))
    return e / np.sum(e, axis=-1, keepdims=True)


@kernel(
    name="log_softmax",
    family="rows",
    inputs={"x": normal(ROWS, 3)},
    bytes=lambda x: 2 * x.nbytes,
    flops=lambda x: 5 * x.size,
    teaches="the shifted row is recomputed instead of stored",
)
def log_softmax(x):
    shifted = x - np.max(x, axis=-1, keepdims=True)
    return shifted - np.log(np.sum(np.exp(shifted), axis=-1, keepdims=True))


@kernel(
    name="logsumexp",
    family="rows",
    inputs={"x": normal(ROWS, 3)},
    bytes=lambda x: x.nbytes + x.shape[0] * x.itemsize,
    flops=lambda x: 4 * x.size,
    teaches="two dependent reductions of a row; only one number per row is written",
)
def logsumexp(x):
    top = np.max(x, axis=-1, keepdims=True)
    return np.log(np.sum(np.exp(x - top), axis=-1)) + top[..., 0]


@kernel(
    name="layer_norm",
    family="rows",
    inputs={"x": normal(ROWS), "weight": normal(WEIGHTS), "bias": normal(WEIGHTS)},
    bytes=lambda x, weight, bias: 2 * x.nbytes,
    flops=lambda x, weight, bias: 8 * x.size,
    teaches="mean, variance and the affine map in one kernel",
    rtol={"f4": 1e-4, "f8": 1e-11},
)
def layer_norm(x, weight, bias):
    mean = np.mean(x, axis=-1, keepdims=True)
    variance = np.var(x, axis=-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + 1e-5) * weight + bias


@kernel(
    name="rms_norm",
    family="rows",
    inputs={"x": normal(ROWS), "weight": normal(WEIGHTS)},
    bytes=lambda x, weight: 2 * x.nbytes,
    flops=lambda x, weight: 4 * x.size,
    teaches="one reduction and its consumer",
)
def rms_norm(x, weight):
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + 1e-6) * weight


@kernel(
    name="l2_normalize",
    family="rows",
    inputs={"x": normal(ROWS)},
    bytes=lambda x: 2 * x.nbytes,
    flops=lambda x: 3 * x.size,
    teaches="np.linalg.norm is a reduction like any other",
)
def l2_normalize(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


@kernel(
    name="variance_rows",
    family="rows",
    inputs={"x": normal(ROWS)},
    bytes=lambda x: x.nbytes + x.shape[0] * x.itemsize,
    flops=lambda x: 4 * x.size,
    teaches="two passes over a row that stays in cache are one pass over memory",
)
def variance_rows(x):
    return np.var(x, axis=-1)


@kernel(
    name="cross_entropy",
    family="rows",
    inputs={"logits": normal(ROWS, 3), "labels": integers(LABELS, ROWS["S"][1])},
    bytes=lambda logits, labels: logits.nbytes + labels.nbytes + logits.shape[0] * logits.itemsize,
    flops=lambda logits, labels: 4 * logits.size,
    teaches="a gather from the row that is being reduced",
)
def cross_entropy(logits, labels):
    shifted = logits - np.max(logits, axis=-1, keepdims=True)
    total = np.log(np.sum(np.exp(shifted), axis=-1))
    return total - np.take_along_axis(shifted, labels[:, None], axis=-1)[:, 0]


@kernel(
    name="argmax_rows",
    family="rows",
    inputs={"x": normal(ROWS)},
    bytes=lambda x: x.nbytes + x.shape[0] * 8,
    flops=lambda x: x.size,
    teaches="a reduction that carries an index; NumPy's own is already good",
)
def argmax_rows(x):
    return np.argmax(x, axis=-1)
