"""Threads share the rows; a row stays in cache from one loop over it to the next."""

import math

import numpy as np

from benchmarks.loops.table import highest, loop, prange


@loop
def softmax(x):
    f = x.dtype.type
    out = np.empty_like(x)
    for i in prange(x.shape[0]):
        top, total = highest(x[i]), f(0)
        for j in range(x.shape[1]):
            e = math.exp(x[i, j] - top)
            out[i, j] = e
            total += e
        factor = f(1) / total
        for j in range(x.shape[1]):
            out[i, j] *= factor
    return out


@loop
def log_softmax(x):
    f = x.dtype.type
    out = np.empty_like(x)
    for i in prange(x.shape[0]):
        top, total = highest(x[i]), f(0)
        for j in range(x.shape[1]):
            total += math.exp(x[i, j] - top)
        shift = top + math.log(total)
        for j in range(x.shape[1]):
            out[i, j] = x[i, j] - shift
    return out


@loop
def layer_norm(x, weight, bias):
    f = x.dtype.type
    count = f(x.shape[1])
    out = np.empty_like(x)
    for i in prange(x.shape[0]):
        total, squares = f(0), f(0)
        for j in range(x.shape[1]):
            total += x[i, j]
        mean = total / count
        for j in range(x.shape[1]):
            squares += (x[i, j] - mean) * (x[i, j] - mean)
        factor = f(1) / math.sqrt(squares / count + f(1e-5))
        for j in range(x.shape[1]):
            out[i, j] = (x[i, j] - mean) * factor * weight[j] + bias[j]
    return out


@loop
def rms_norm(x, weight):
    f = x.dtype.type
    count = f(x.shape[1])
    out = np.empty_like(x)
    for i in prange(x.shape[0]):
        squares = f(0)
        for j in range(x.shape[1]):
            squares += x[i, j] * x[i, j]
        factor = f(1) / math.sqrt(squares / count + f(1e-6))
        for j in range(x.shape[1]):
            out[i, j] = x[i, j] * factor * weight[j]
    return out


@loop
def l2_normalize(x):
    f = x.dtype.type
    out = np.empty_like(x)
    for i in prange(x.shape[0]):
        squares = f(0)
        for j in range(x.shape[1]):
            squares += x[i, j] * x[i, j]
        factor = f(1) / math.sqrt(squares)
        for j in range(x.shape[1]):
            out[i, j] = x[i, j] * factor
    return out


@loop
def cross_entropy(logits, labels):
    f = logits.dtype.type
    out = np.empty(logits.shape[0], logits.dtype)
    for i in prange(logits.shape[0]):
        top, total = highest(logits[i]), f(0)
        for j in range(logits.shape[1]):
            total += math.exp(logits[i, j] - top)
        out[i] = math.log(total) - (logits[i, labels[i]] - top)
    return out


@loop
def attention_scores(scores, mask, scale):
    f = scores.dtype.type
    scale, zero = f(scale), f(0)
    heads, height, width = scores.shape
    out = np.empty_like(scores)
    for r in prange(heads * height):
        h, i = r // height, r % height
        top, total = f(-1e30), zero
        for j in range(width):
            top = max(top, scores[h, i, j] * scale if mask[i, j] else top)
        for j in range(width):
            e = math.exp(scores[h, i, j] * scale - top) if mask[i, j] else zero
            out[h, i, j] = e
            total += e
        factor = f(1) / total
        for j in range(width):
            out[h, i, j] *= factor
    return out


@loop
def cumsum(x):
    f = x.dtype.type
    size = 65536
    chunks = (x.size + size - 1) // size
    before = np.zeros(chunks + 1)
    for c in prange(chunks):
        part = f(0)
        xs = x[c * size : (c + 1) * size]
        for i in range(xs.size):
            part += xs[i]
        before[c + 1] = part
    for c in range(chunks):
        before[c + 1] += before[c]
    out = np.empty_like(x)
    for c in prange(chunks):
        running = f(before[c])
        xs = x[c * size : (c + 1) * size]
        outs = out[c * size : (c + 1) * size]
        for i in range(xs.size):
            running += xs[i]
            outs[i] = running
    return out


@loop
def cumsum_rows(x):
    f = x.dtype.type
    out = np.empty_like(x)
    for i in prange(x.shape[0]):
        running = f(0)
        for j in range(x.shape[1]):
            running += x[i, j]
            out[i, j] = running
    return out


@loop
def exponential_average(x, alpha):
    f = x.dtype.type
    now, past = f(alpha), f(1 - alpha)
    steps, series = x.shape
    out = np.empty_like(x)
    for c in prange((series + 1023) // 1024):
        out[0, c * 1024 : (c + 1) * 1024] = x[0, c * 1024 : (c + 1) * 1024]
        for t in range(1, steps):
            before = out[t - 1, c * 1024 : (c + 1) * 1024]
            after = out[t, c * 1024 : (c + 1) * 1024]
            xs = x[t, c * 1024 : (c + 1) * 1024]
            for i in range(xs.size):
                after[i] = now * xs[i] + past * before[i]
    return out
