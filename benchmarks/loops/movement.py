"""Views and gathers: loops that mostly copy."""

import numpy as np

from benchmarks.loops.table import loop, prange

BINS = 256


@loop
def transpose_add(x):
    n = x.shape[0]
    out = np.empty_like(x)
    for tile in prange((n + 15) // 16):
        low, high = tile * 16, min(n, tile * 16 + 16)
        for start in range(0, n, 16):
            for i in range(low, high):
                for j in range(start, min(n, start + 16)):
                    out[i, j] = x[i, j] + x[j, i]
    return out


@loop
def im2col(images):
    n, height, width = images.shape[0], images.shape[1] - 2, images.shape[2] - 2
    out = np.empty((n * height * width, 9), images.dtype)
    for row in prange(n * height):
        image, i = row // height, row % height
        for j in range(width):
            for a in range(3):
                for b in range(3):
                    out[row * width + j, 3 * a + b] = images[image, i + a, j + b]
    return out


@loop
def pad(x):
    rows, columns = x.shape
    zero = x.dtype.type(0)
    out = np.empty((rows + 4, columns + 4), x.dtype)
    for i in prange(rows + 4):
        if i < 2 or i >= rows + 2:
            out[i] = zero
        else:
            out[i, :2], out[i, columns + 2 :] = zero, zero
            out[i, 2 : columns + 2] = x[i - 2]
    return out


@loop
def roll(x):
    rows, columns = x.shape
    out = np.empty_like(x)
    for i in prange(rows):
        source = x[(i + rows - 3) % rows]
        out[i, : columns - 5] = source[5:]
        out[i, columns - 5 :] = source[:5]
    return out


@loop
def downsample(x):
    quarter = x.dtype.type(0.25)
    out = np.empty((x.shape[0] // 2, x.shape[1] // 2), x.dtype)
    for i in prange(out.shape[0]):
        upper, lower = x[2 * i], x[2 * i + 1]
        for j in range(out.shape[1]):
            pair = upper[2 * j] + upper[2 * j + 1]
            out[i, j] = (pair + lower[2 * j] + lower[2 * j + 1]) * quarter
    return out


@loop
def concatenate(x, y):
    left = x.shape[1]
    out = np.empty((x.shape[0], left + y.shape[1]), x.dtype)
    for i in prange(x.shape[0]):
        out[i, :left] = x[i]
        out[i, left:] = y[i]
    return out


@loop
def embedding(tokens, table, positions):
    batch, length = tokens.shape
    width = table.shape[1]
    out = np.empty((batch, length, width), table.dtype)
    for r in prange(batch * length):
        b, t = r // length, r % length
        row = table[tokens[b, t]]
        for j in range(width):
            out[b, t, j] = row[j] + positions[t, j]
    return out


@loop
def histogram(bins):
    size = 65536
    chunks = (bins.size + size - 1) // size
    counts = np.zeros((chunks, BINS), np.int64)
    for c in prange(chunks):
        some = bins[c * size : (c + 1) * size]
        for i in range(some.size):
            counts[c, some[i]] += 1
    return counts.sum(axis=0)
