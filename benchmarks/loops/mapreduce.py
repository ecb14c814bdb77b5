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
        xs = x[c * CHUNK : (c + 1) * CHUNK]
        ys = y[c * CHUNK : (c + 1) * CHUNK]
        for i in range(xs.size):
            part += (xs[i] - ys[i]) * (xs[i] - ys[i])
        total += part
    return f(total / x.size)


@loop
def weighted_mean(x, weight):
    f = x.dtype.type
    total, weights = 0.0, 0.0
    for c in prange((x.size + CHUNK - 1) // CHUNK):
        part, some = f(0), f(0)
        ws = weight[c * CHUNK : (c + 1) * CHUNK]
        xs = x[c * CHUNK : (c + 1) * CHUNK]
        for i in range(ws.size):
            part += xs[i] * ws[i]
            some += ws[i]
        total += part
        weights += some
    return f(total / weights)


@loop
def masked_mean(x):
    f = x.dtype.type
    total, count = 0.0, 0
    for c in prange((x.size + CHUNK - 1) // CHUNK):
        part, some = f(0), 0
        xs = x[c * CHUNK : (c + 1) * CHUNK]
        for i in range(xs.size):
            part += max(xs[i], f(0))
            some += xs[i] > f(0)
        total += part
        count += some
    return f(total / count)


@loop
def kl_divergence(p, q):
    f = p.dtype.type
    total = 0.0
    for c in prange((p.size + CHUNK - 1) // CHUNK):
        part = f(0)
        ps = p[c * CHUNK : (c + 1) * CHUNK]
        qs = q[c * CHUNK : (c + 1) * CHUNK]
        for i in range(ps.size):
            part += ps[i] * math.log(ps[i] / qs[i])
        total += part
    return f(total)


@loop
def cosine_distance(x, y):
    f = x.dtype.type
    dot, x2, y2 = 0.0, 0.0, 0.0
    for c in prange((x.size + CHUNK - 1) // CHUNK):
        d, a, b = f(0), f(0), f(0)
        xs = x[c * CHUNK : (c + 1) * CHUNK]
        ys = y[c * CHUNK : (c + 1) * CHUNK]
        for i in range(xs.size):
            d += xs[i] * ys[i]
            a += xs[i] * xs[i]
            b += ys[i] * ys[i]
        dot += d
        x2 += a
        y2 += b
    return f(1 - dot / math.sqrt(x2 * y2))


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
