"""Threads share rows or planes; the inner loop runs along memory.

Shifted views stand for x[i + 1] in parallel loops: LLVM vectorises those.
"""

import math

import numpy as np

from benchmarks.loops.table import loop, prange


@loop
def difference(x, dx):
    factor = x.dtype.type(1 / dx)
    right = x[1:]
    out = np.empty(x.size - 1, x.dtype)
    for i in prange(out.size):
        out[i] = (right[i] - x[i]) * factor
    return out


@loop
def moving_average(x):
    fifth = x.dtype.type(0.2)
    b, c, d, e = x[1:], x[2:], x[3:], x[4:]
    out = np.empty(x.size - 4, x.dtype)
    for i in prange(out.size):
        out[i] = (x[i] + b[i] + c[i] + d[i] + e[i]) * fifth
    return out


@loop
def heat_step(u, rate):
    f = u.dtype.type
    rate, four = f(rate), f(4)
    rows, columns = u.shape
    out = np.empty_like(u)
    for i in prange(rows):
        if i == 0 or i == rows - 1:
            out[i] = u[i]
        else:
            out[i, 0], out[i, columns - 1] = u[i, 0], u[i, columns - 1]
            for j in range(1, columns - 1):
                around = u[i + 1, j] + u[i - 1, j] + u[i, j + 1] + u[i, j - 1]
                out[i, j] = u[i, j] + rate * (around - four * u[i, j])
    return out


@loop
def gradient_magnitude(image):
    half = image.dtype.type(0.5)
    rows, columns = image.shape[0] - 2, image.shape[1] - 2
    out = np.empty((rows, columns), image.dtype)
    for i in prange(rows):
        for j in range(columns):
            dx = image[i + 1, j + 2] - image[i + 1, j]
            dy = image[i + 2, j + 1] - image[i, j + 1]
            out[i, j] = math.sqrt(dx * dx + dy * dy) * half
    return out


@loop
def periodic_laplacian(u):
    four = u.dtype.type(4)
    rows, columns = u.shape
    end = columns - 1
    out = np.empty_like(u)
    for i in prange(rows):
        up, down = u[(i + rows - 1) % rows], u[(i + 1) % rows]
        here = u[i]
        out[i, 0] = up[0] + down[0] + here[end] + here[1] - four * here[0]
        for j in range(1, end):
            out[i, j] = up[j] + down[j] + here[j - 1] + here[j + 1] - four * here[j]
        out[i, end] = up[end] + down[end] + here[end - 1] + here[0] - four * here[end]
    return out


@loop
def nine_point_laplacian(u):
    f = u.dtype.type
    four, twenty, sixth = f(4), f(20), f(1 / 6)
    rows, columns = u.shape[0] - 2, u.shape[1] - 2
    out = np.empty((rows, columns), u.dtype)
    for i in prange(rows):
        up, here, down = u[i], u[i + 1], u[i + 2]
        for j in range(columns):
            sides = here[j] + here[j + 2] + up[j + 1] + down[j + 1]
            corners = up[j] + up[j + 2] + down[j] + down[j + 2]
            out[i, j] = (four * sides + corners - twenty * here[j + 1]) * sixth
    return out


@loop
def heat_3d(u, rate):
    f = u.dtype.type
    rate, six = f(rate), f(6)
    out = np.empty((u.shape[0] - 2, u.shape[1] - 2, u.shape[2] - 2), u.dtype)
    for i in prange(out.shape[0]):
        for j in range(out.shape[1]):
            here, up, down = u[i + 1, j + 1], u[i, j + 1], u[i + 2, j + 1]
            left, right = u[i + 1, j], u[i + 1, j + 2]
            for k in range(out.shape[2]):
                c = here[k + 1]
                around = up[k + 1] + down[k + 1] + left[k + 1] + right[k + 1]
                out[i, j, k] = c + rate * (around + here[k] + here[k + 2] - six * c)
    return out


@loop
def sobel(image):
    two = image.dtype.type(2)
    rows, columns = image.shape[0] - 2, image.shape[1] - 2
    out = np.empty((rows, columns), image.dtype)
    for i in prange(rows):
        up, here, down = image[i], image[i + 1], image[i + 2]
        for j in range(columns):
            left, right = up[j] + down[j], up[j + 2] + down[j + 2]
            dx = right - left + two * (here[j + 2] - here[j])
            below, above = down[j] + down[j + 2], up[j] + up[j + 2]
            dy = below - above + two * (down[j + 1] - up[j + 1])
            out[i, j] = math.sqrt(dx * dx + dy * dy)
    return out
