"""Products by BLAS, as Numba calls it, with loops before and behind them."""

import math

import numpy as np

from benchmarks.loops.table import highest, loop, prange


@loop
def linear_relu(x, w, b):
    out = x @ w
    zero = x.dtype.type(0)
    for i in prange(out.shape[0]):
        for j in range(out.shape[1]):
            out[i, j] = max(out[i, j] + b[j], zero)
    return out


@loop
def mlp_forward(x, w1, b1, w2, b2):
    hidden = x @ w1
    zero = x.dtype.type(0)
    for i in prange(hidden.shape[0]):
        for j in range(hidden.shape[1]):
            hidden[i, j] = max(hidden[i, j] + b1[j], zero)
    out = hidden @ w2
    for i in prange(out.shape[0]):
        for j in range(out.shape[1]):
            out[i, j] = math.tanh(out[i, j] + b2[j])
    return out


@loop
def batched_matmul(x, y):
    out = np.empty((x.shape[0], x.shape[1], y.shape[2]), x.dtype)
    for i in prange(x.shape[0]):
        np.dot(x[i], y[i], out[i])
    return out


@loop
def pairwise_distances(x, y):
    out = np.empty((x.shape[0], y.shape[0]), x.dtype)
    for i in prange(x.shape[0]):
        for j in range(y.shape[0]):
            a, b, c = x[i, 0] - y[j, 0], x[i, 1] - y[j, 1], x[i, 2] - y[j, 2]
            out[i, j] = math.sqrt(a * a + b * b + c * c)
    return out


@loop
def kmeans_assign(points, centres):
    f = points.dtype.type
    out = np.empty(points.shape[0], np.int64)
    for i in prange(points.shape[0]):
        best, nearest = f(np.inf), 0
        for c in range(centres.shape[0]):
            distance = f(0)
            for k in range(points.shape[1]):
                d = points[i, k] - centres[c, k]
                distance += d * d
            if c == 0 or distance < best:
                best, nearest = distance, c
        out[i] = nearest
    return out


@loop
def attention(q, k, v):
    f = q.dtype.type
    batch, heads, length, width = q.shape
    scale = f(1 / math.sqrt(width))
    out = np.empty_like(q)
    for pair in prange(batch * heads):
        b, h = pair // heads, pair % heads
        scores = np.dot(q[b, h], k[b, h].T)
        for i in range(length):
            top, total = highest(scores[i]) * scale, f(0)
            for j in range(length):
                scores[i, j] = math.exp(scores[i, j] * scale - top)
                total += scores[i, j]
            factor = f(1) / total
            for j in range(length):
                scores[i, j] *= factor
        np.dot(scores, v[b, h], out[b, h])
    return out
