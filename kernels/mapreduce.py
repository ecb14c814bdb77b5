"""Reductions of computed values: nothing but the result is written."""

import numpy as np

from kernels.registry import FLAT, ROWS, distribution, kernel, normal, uniform


@kernel(
    name="mse",
    family="mapreduce",
    bound="memory",
    inputs={"x": normal(FLAT), "y": normal(FLAT)},
    bytes=lambda x, y: x.nbytes + y.nbytes,
    flops=lambda x, y: 3 * x.size,
    teaches="a full reduction with its producers: nothing but the result is written",
)
def mse(x, y):
    return np.mean((x - y) ** 2)


@kernel(
    name="weighted_mean",
    family="mapreduce",
    bound="memory",
    inputs={"x": normal(FLAT), "weight": uniform(FLAT, 0.5, 1.5)},
    bytes=lambda x, weight: x.nbytes + weight.nbytes,
    flops=lambda x, weight: 3 * x.size,
    teaches="two reductions over one iteration space share their loads",
    rtol={"f4": 1e-3, "f8": 1e-10},
)
def weighted_mean(x, weight):
    return np.sum(x * weight) / np.sum(weight)


@kernel(
    name="masked_mean",
    family="mapreduce",
    bound="memory",
    inputs={"x": normal(FLAT)},
    bytes=lambda x: x.nbytes,
    flops=lambda x: 3 * x.size,
    teaches="a boolean selection that is reduced at once needs no array of selected values",
)
def masked_mean(x):
    return x[x > 0].mean()


@kernel(
    name="cosine_similarity",
    family="mapreduce",
    bound="memory",
    inputs={"x": uniform(ROWS, 0, 1), "y": uniform(ROWS, 0, 1)},
    bytes=lambda x, y: x.nbytes + y.nbytes + len(x) * x.itemsize,
    flops=lambda x, y: 6 * x.size,
    teaches="three reductions of the same rows in one kernel",
)
def cosine_similarity(x, y):
    dots = np.einsum("ij,ij->i", x, y)
    return dots / (np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1))


@kernel(
    name="kl_divergence",
    family="mapreduce",
    bound="transcendental",
    inputs={"p": distribution(FLAT), "q": distribution(FLAT)},
    bytes=lambda p, q: p.nbytes + q.nbytes,
    flops=lambda p, q: 4 * p.size,
    teaches="a math function inside a full reduction keeps its vectors",
    rtol={"f4": 1e-4, "f8": 1e-11},
)
def kl_divergence(p, q):
    return np.sum(p * np.log(p / q))


@kernel(
    name="cosine_distance",
    family="mapreduce",
    bound="memory",
    inputs={"x": uniform(FLAT, 0, 1), "y": uniform(FLAT, 0, 1)},
    bytes=lambda x, y: x.nbytes + y.nbytes,
    flops=lambda x, y: 6 * x.size,
    teaches="an inner product and two norms read both vectors once",
    rtol={"f4": 1e-4, "f8": 1e-11},
)
def cosine_distance(x, y):
    return 1 - x @ y / (np.linalg.norm(x) * np.linalg.norm(y))
