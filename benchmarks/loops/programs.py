"""Whole programs: what NumPy needs many passes for is one loop with local variables."""

import math

import numpy as np

from benchmarks.loops.table import helper, loop, prange

ITERATIONS = 20


@loop
def mandelbrot(re, im):
    f = re.dtype.type
    zero, two, four = f(0), f(2), f(4)
    out = np.empty(re.shape, np.int32)
    for i in prange(re.shape[0]):
        for j in range(re.shape[1]):
            x, y, steps = zero, zero, 0
            while steps < ITERATIONS and x * x + y * y <= four:
                x, y = x * x - y * y + re[i, j], two * x * y + im[i, j]
                steps += 1
            out[i, j] = steps
    return out


@loop
def adam_step(weight, gradient, mean, square, rate):
    f = weight.dtype.type
    rate, tiny = f(rate), f(1e-8)
    b1, g1, b2, g2 = f(0.9), f(0.1), f(0.999), f(0.001)
    unbias1, unbias2 = f(1 / 0.1), f(1 / 0.001)
    weights, means = np.empty_like(weight), np.empty_like(weight)
    squares = np.empty_like(weight)
    for i in prange(weight.size):
        g = gradient[i]
        m = b1 * mean[i] + g1 * g
        s = b2 * square[i] + g2 * g * g
        means[i], squares[i] = m, s
        weights[i] = weight[i] - rate * (m * unbias1) / (math.sqrt(s * unbias2) + tiny)
    return weights, means, squares


@loop
def momentum_inplace(weight, velocity, gradient, rate):
    f = weight.dtype.type
    rate, keep = f(rate), f(0.9)
    for i in prange(weight.size):
        v = keep * velocity[i] + gradient[i]
        velocity[i] = v
        weight[i] -= rate * v


@loop
def nbody_acceleration(position, mass):
    f = position.dtype.type
    soft = f(0.01)
    out = np.empty_like(position)
    for i in prange(position.shape[0]):
        ax, ay, az = f(0), f(0), f(0)
        for j in range(position.shape[0]):
            x = position[j, 0] - position[i, 0]
            y = position[j, 1] - position[i, 1]
            z = position[j, 2] - position[i, 2]
            distance2 = x * x + y * y + z * z + soft
            pull = mass[j] / (distance2 * math.sqrt(distance2))
            ax += pull * x
            ay += pull * y
            az += pull * z
        out[i, 0], out[i, 1], out[i, 2] = ax, ay, az
    return out


@helper
def lorenz_slope(x, y, z, f):
    return f(10) * (y - x), x * (f(28) - z) - y, x * y - f(8 / 3) * z


@loop
def lorenz_step(x, y, z, dt):
    f = x.dtype.type
    step, half, sixth, two = f(dt), f(dt / 2), f(dt / 6), f(2)
    xs, ys, zs = np.empty_like(x), np.empty_like(x), np.empty_like(x)
    for i in prange(x.size):
        p, q, r = x[i], y[i], z[i]
        a1, b1, c1 = lorenz_slope(p, q, r, f)
        a2, b2, c2 = lorenz_slope(p + half * a1, q + half * b1, r + half * c1, f)
        a3, b3, c3 = lorenz_slope(p + half * a2, q + half * b2, r + half * c2, f)
        a4, b4, c4 = lorenz_slope(p + step * a3, q + step * b3, r + step * c3, f)
        xs[i] = p + sixth * (a1 + two * a2 + two * a3 + a4)
        ys[i] = q + sixth * (b1 + two * b2 + two * b3 + b4)
        zs[i] = r + sixth * (c1 + two * c2 + two * c3 + c4)
    return xs, ys, zs


@loop
def kmeans_step(points, centres):
    f = points.dtype.type
    count, width = centres.shape
    rows = (points.shape[0] + 15) // 16
    sums = np.zeros((16, count, width), points.dtype)
    members = np.zeros((16, count), np.int64)
    for p in prange(16):
        for i in range(p * rows, min(points.shape[0], (p + 1) * rows)):
            best, nearest = f(0), 0
            for c in range(count):
                distance = f(0)
                for k in range(width):
                    d = points[i, k] - centres[c, k]
                    distance += d * d
                if c == 0 or distance < best:
                    best, nearest = distance, c
            members[p, nearest] += 1
            for k in range(width):
                sums[p, nearest, k] += points[i, k]
    total, size = sums.sum(axis=0), members.sum(axis=0)
    for c in range(count):
        for k in range(width):
            total[c, k] /= f(max(size[c], 1))
    return total


@loop
def lennard_jones_forces(position, cutoff):
    f = position.dtype.type
    limit, zero, one, two, strength = f(cutoff * cutoff), f(0), f(1), f(2), f(24)
    out = np.empty_like(position)
    for i in prange(position.shape[0]):
        fx, fy, fz = zero, zero, zero
        for j in range(position.shape[0]):
            x = position[i, 0] - position[j, 0]
            y = position[i, 1] - position[j, 1]
            z = position[i, 2] - position[j, 2]
            distance2 = x * x + y * y + z * z
            near = distance2 > zero and distance2 < limit
            inverse2 = one / (distance2 if near else one)
            inverse6 = inverse2 * inverse2 * inverse2
            force = strength * inverse2 * inverse6 * (two * inverse6 - one) if near else zero
            fx += force * x
            fy += force * y
            fz += force * z
        out[i, 0], out[i, 1], out[i, 2] = fx, fy, fz
    return out


@loop
def game_of_life(board):
    u = np.uint8
    one, two, three = u(1), u(2), u(3)
    rows, columns = board.shape
    out = np.empty_like(board)
    for i in prange(rows):
        up, here, down = board[(i + rows - 1) % rows], board[i], board[(i + 1) % rows]
        for j in range(1, columns - 1):
            above = up[j - 1] + up[j] + up[j + 1]
            below = down[j - 1] + down[j] + down[j + 1]
            around = u(above + here[j - 1] + here[j + 1] + below)
            out[i, j] = (around == three) | ((here[j] == one) & (around == two))
        for j in (0, columns - 1):
            a, b = (j + columns - 1) % columns, (j + 1) % columns
            around = u(up[a] + up[j] + up[b] + here[a] + here[b] + down[a] + down[j] + down[b])
            out[i, j] = (around == three) | ((here[j] == one) & (around == two))
    return out


@loop
def pagerank_step(rank, degree, sources, damping):
    f = rank.dtype.type
    base, damping = f((1 - damping) / rank.size), f(damping)
    share, out = np.empty_like(rank), np.empty_like(rank)
    for i in prange(rank.size):
        share[i] = rank[i] / degree[i]
    for i in prange(rank.size):
        received = f(0)
        for k in range(sources.shape[1]):
            received += share[sources[i, k]]
        out[i] = base + damping * received
    return out


@loop
def kalman_update(state, covariance, measured, observe, noise):
    """Four states, two of them seen: the inverse of a 2 by 2 matrix is written out."""
    f = state.dtype.type
    count, n = state.shape
    states, covariances = np.empty_like(state), np.empty_like(covariance)
    for s in prange(count):
        across, gain = np.empty((4, 2), state.dtype), np.empty((4, 2), state.dtype)
        inner, surprise = np.empty((2, 2), state.dtype), np.empty(2, state.dtype)
        for i in range(n):
            for a in range(2):
                total = f(0)
                for k in range(n):
                    total += covariance[s, i, k] * observe[a, k]
                across[i, a] = total
        for a in range(2):
            seen = f(0)
            for k in range(n):
                seen += observe[a, k] * state[s, k]
            surprise[a] = measured[s, a] - seen
            for b in range(2):
                total = noise[a, b]
                for k in range(n):
                    total += observe[a, k] * across[k, b]
                inner[a, b] = total
        factor = f(1) / (inner[0, 0] * inner[1, 1] - inner[0, 1] * inner[1, 0])
        for i in range(n):
            gain[i, 0] = (across[i, 0] * inner[1, 1] - across[i, 1] * inner[1, 0]) * factor
            gain[i, 1] = (across[i, 1] * inner[0, 0] - across[i, 0] * inner[0, 1]) * factor
            states[s, i] = state[s, i] + gain[i, 0] * surprise[0] + gain[i, 1] * surprise[1]
        for j in range(n):
            seen0, seen1 = f(0), f(0)
            for k in range(n):
                seen0 += observe[0, k] * covariance[s, k, j]
                seen1 += observe[1, k] * covariance[s, k, j]
            for i in range(n):
                removed = gain[i, 0] * seen0 + gain[i, 1] * seen1
                covariances[s, i, j] = covariance[s, i, j] - removed
    return states, covariances
