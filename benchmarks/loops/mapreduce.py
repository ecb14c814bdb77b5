"""Sums of computed values, by chunks."""

import math

import numpy as np

from benchmarks.loops.table import CHUNK, loop, prange


@loop
def mse(x, y):
    f = x.dtype.type
    total = 0.0
    for c in prange((x.size + CHUNK - 1) // CHUNK):
        part = f(0)
        for i in range(c * CHUNK, min(x.size, (c + 1) * CHUNK)):
            part += (x[i] - y[i]) * (x[i] - y[i])
        total += part
    return f(total / x.size)


@loop
def weighted_mean(x, weight):
    f = x.dtype.type
    total, weights = 0.0, 0.0
    for c in prange((x.size + CHUNK - 1) // CHUNK):
        part, some = f(0), f(0)
        for i in range(c * CHUNK, min(x.size, (c + 1) * CHUNK)):
            part += x[i] * weight[i]
            some += weight[i]
        total += part
        weights += some
    return f(total / weights)


@loop
def masked_mean(x):
    f = x.dtype.type
    total, count = 0.0, 0
    for c in prange((x.size + CHUNK - 1) // CHUNK):
        part, some = f(0), 0
        for i in range(c * CHUNK, min(x.size, (c + 1) * CHUNK)):
            part += max(x[i], f(0))
            some += x[i] > f(0)
        total += part
        count += some
    return f(total / count)


@loop
def kl_divergence(p, q):
    f = p.dtype.type
    total = 0.0
    for c in prange((p.size + CHUNK - 1) // CHUNK):
        part = f(0)
        for i in range(c * CHUNK, min(p.size, (c + 1) * CHUNK)):
            part += p[i] * math.log(p[i] / q[i])
        total += part
    return f(total)


@loop
def cosine_distance(x, y):
    f = x.dtype.type
    dot, xs, ys = 0.0, 0.0, 0.0
    for c in prange((x.size + CHUNK - 1) // CHUNK):
        d, a, b = f(0), f(0), f(0)
        for i in range(c * CHUNK, min(x.size, (c + 1) * CHUNK)):
            d += x[i] * y[i]
            a += x[i] * x[i]
            b += y[i] * y[i]
        dot += d
        xs += a
        ys += b
    return f(1 - dot / math.sqrt(xs * ys))


@loop
def cosine_similarity(x, y):
    f = x.dtype.type
    out = np.empty(x.shape[0], x.dtype)
    for i in prange(x.shape[0]):
        dot, xs, ys = f(0), f(0), f(0)
        for j in range(x.shape[1]):
            dot += x[i, j] * y[i, j]
            xs += x[i, j] * x[i, j]
            ys += y[i, j] * y[i, j]
        out[i] = dot / (math.sqrt(xs) * math.sqrt(ys))
    return out
