"""Sums by chunks, so that threads share them and float32 stays accurate; columns by strips."""

import math

import numpy as np

from benchmarks.loops.table import CHUNK, helper, highest, loop, prange


@loop
def sum_all(x):
    f = x.dtype.type
    total = 0.0
    for c in prange((x.size + CHUNK - 1) // CHUNK):
        part = f(0)
        xs = x[c * CHUNK : (c + 1) * CHUNK]
        for i in range(xs.size):
            part += xs[i]
        total += part
    return f(total)


@loop
def norm(x):
    f = x.dtype.type
    total = 0.0
    for c in prange((x.size + CHUNK - 1) // CHUNK):
        part = f(0)
        xs = x[c * CHUNK : (c + 1) * CHUNK]
        for i in range(xs.size):
            part += xs[i] * xs[i]
        total += part
    return f(math.sqrt(total))


@loop
def nanmean(x):
    f = x.dtype.type
    total, count = 0.0, 0
    for c in prange((x.size + CHUNK - 1) // CHUNK):
        part, some = f(0), 0
        xs = x[c * CHUNK : (c + 1) * CHUNK]
        for i in range(xs.size):
            known = xs[i] == xs[i]
            part += xs[i] if known else f(0)
            some += known
        total += part
        count += some
    return f(total / count)


@loop
def variance_all(x):
    f = x.dtype.type
    total = 0.0
    for c in prange((x.size + CHUNK - 1) // CHUNK):
        part = f(0)
        xs = x[c * CHUNK : (c + 1) * CHUNK]
        for i in range(xs.size):
            part += xs[i]
        total += part
    mean = f(total / x.size)
    squares = 0.0
    for c in prange((x.size + CHUNK - 1) // CHUNK):
        part = f(0)
        xs = x[c * CHUNK : (c + 1) * CHUNK]
        for i in range(xs.size):
            part += (xs[i] - mean) * (xs[i] - mean)
        squares += part
    return f(squares / x.size)


@loop
def argmax_all(x):
    chunks = (x.size + CHUNK - 1) // CHUNK
    tops = np.empty(chunks, x.dtype)
    for c in prange(chunks):
        tops[c] = highest(x[c * CHUNK : (c + 1) * CHUNK])
    first = np.argmax(tops)
    at = first * CHUNK
    while x[at] != tops[first]:
        at += 1
    return at


@loop
def sum_rows(x):
    f = x.dtype.type
    out = np.empty(x.shape[0], x.dtype)
    for i in prange(x.shape[0]):
        total = f(0)
        for j in range(x.shape[1]):
            total += x[i, j]
        out[i] = total
    return out


@loop
def variance_rows(x):
    f = x.dtype.type
    count = f(x.shape[1])
    out = np.empty(x.shape[0], x.dtype)
    for i in prange(x.shape[0]):
        total, squares = f(0), f(0)
        for j in range(x.shape[1]):
            total += x[i, j]
        mean = total / count
        for j in range(x.shape[1]):
            squares += (x[i, j] - mean) * (x[i, j] - mean)
        out[i] = squares / count
    return out


@loop
def argmax_rows(x):
    out = np.empty(x.shape[0], np.int64)
    for i in prange(x.shape[0]):
        top, at = highest(x[i]), 0
        while x[i, at] != top:
            at += 1
        out[i] = at
    return out


@loop
def logsumexp(x):
    f = x.dtype.type
    out = np.empty(x.shape[0], x.dtype)
    for i in prange(x.shape[0]):
        top, total = highest(x[i]), f(0)
        for j in range(x.shape[1]):
            total += math.exp(x[i, j] - top)
        out[i] = math.log(total) + top
    return out


@helper
def column_sums(x, middle, square):
    """Sums of columns of x - middle, or of its squares: rows in 32 parts, added up at the end."""
    f = x.dtype.type
    rows = (x.shape[0] + 31) // 32
    parts = np.zeros((32, x.shape[1]), x.dtype)
    for p in prange(32):
        for i in range(p * rows, min(x.shape[0], (p + 1) * rows)):
            for j in range(x.shape[1]):
                d = x[i, j] - middle[j]
                parts[p, j] += d * d if square else d
    out = np.empty(x.shape[1], x.dtype)
    for j in prange(x.shape[1]):
        total = f(0)
        for p in range(32):
            total += parts[p, j]
        out[j] = total
    return out


@loop
def sum_columns(x):
    return column_sums(x, np.zeros(x.shape[1], x.dtype), False)


@loop
def column_mean(x):
    f = x.dtype.type
    return column_sums(x, np.zeros(x.shape[1], x.dtype), False) / f(x.shape[0])


@loop
def column_variance(x):
    f = x.dtype.type
    mean = column_sums(x, np.zeros(x.shape[1], x.dtype), False) / f(x.shape[0])
    return column_sums(x, mean, True) / f(x.shape[0])


@loop
def standardize(x):
    f = x.dtype.type
    mean = column_sums(x, np.zeros(x.shape[1], x.dtype), False) / f(x.shape[0])
    variance = column_sums(x, mean, True) / f(x.shape[0])
    factor = f(1) / (np.sqrt(variance) + f(1e-8))
    out = np.empty_like(x)
    for i in prange(x.shape[0]):
        for j in range(x.shape[1]):
            out[i, j] = (x[i, j] - mean[j]) * factor[j]
    return out
