"""Row programs: a reduction along the last axis, with its producers and consumers.

Each is one kernel when it is compiled: an outer loop over rows, stages over the row inside.
"""

import numpy as np

from kernels.registry import ROWS, column, integers, kernel, normal, scalar

LABELS = column(ROWS, 0)
WEIGHTS = column(ROWS, 1)
SCORES = {"S": (2, 22, 22), "M": (4, 160, 160), "L": (16, 512, 512)}


def causal(size, dtype, rng):
    """A mask that lets a position look at itself and at what came before."""
    return np.tril(np.ones(SCORES[size][1:], np.bool_))


@kernel(
    name="softmax",
    family="rows",
    bound="transcendental",
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
    bound="transcendental",
    inputs={"x": normal(ROWS, 3)},
    bytes=lambda x: 2 * x.nbytes,
    flops=lambda x: 5 * x.size,
    teaches="the shifted row is recomputed instead of stored",
)
def log_softmax(x):
    shifted = x - np.max(x, axis=-1, keepdims=True)
    return shifted - np.log(np.sum(np.exp(shifted), axis=-1, keepdims=True))


@kernel(
    name="layer_norm",
    family="rows",
    bound="memory",
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
    bound="memory",
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
    bound="memory",
    inputs={"x": normal(ROWS)},
    bytes=lambda x: 2 * x.nbytes,
    flops=lambda x: 3 * x.size,
    teaches="np.linalg.norm is a reduction like any other",
)
def l2_normalize(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


@kernel(
    name="cross_entropy",
    family="rows",
    bound="transcendental",
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
    name="attention_scores",
    family="rows",
    bound="transcendental",
    inputs={"scores": normal(SCORES, 4), "mask": causal, "scale": scalar(0.125)},
    bytes=lambda scores, mask, scale: 2 * scores.nbytes + mask.nbytes,
    flops=lambda scores, mask, scale: 7 * scores.size,
    teaches="scaling and a mask that all heads share are part of the softmax",
)
def attention_scores(scores, mask, scale):
    scores = np.where(mask, scores * scale, -np.inf)
    e = np.exp(scores - np.max(scores, axis=-1, keepdims=True))
    return e / np.sum(e, axis=-1, keepdims=True)
