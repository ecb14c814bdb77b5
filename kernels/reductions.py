"""Full and column reductions: few numbers out of many."""

import numpy as np

from kernels.registry import FLAT, ROWS, kernel, normal, uniform


@kernel(
    name="mse",
    family="reductions",
    inputs={"x": normal(FLAT), "y": normal(FLAT)},
    bytes=lambda x, y: x.nbytes + y.nbytes,
    flops=lambda x, y: 3 * x.size,
    teaches="a full reduction with its producers: nothing but the result is written",
)
def mse(x, y):
    return np.mean((x - y) ** 2)


@kernel(
    name="weighted_mean",
    family="reductions",
    inputs={"x": normal(FLAT), "weight": uniform(FLAT, 0.5, 1.5)},
    bytes=lambda x, weight: x.nbytes + weight.nbytes,
    flops=lambda x, weight: 3 * x.size,
    teaches="two reductions over one iteration space share their loads",
    rtol={"f4": 1e-3, "f8": 1e-10},
)
def weighted_mean(x, weight):
    return np.sum(x * weight) / np.sum(weight)


@kernel(
    name="column_mean",
    family="reductions",
    inputs={"x": normal(ROWS)},
    bytes=lambda x: x.nbytes + x.shape[1] * x.itemsize,
    flops=lambda x: x.size,
    teaches="a column reduction is vectorised across the axis that stays",
    rtol={"f4": 1e-4, "f8": 1e-11},
)
def column_mean(x):
    return np.mean(x, axis=0)


@kernel(
    name="column_variance",
    family="reductions",
    inputs={"x": normal(ROWS)},
    bytes=lambda x: x.nbytes + x.shape[1] * x.itemsize,
    flops=lambda x: 4 * x.size,
    teaches="the second column reduction needs the first",
)
def column_variance(x):
    return np.var(x, axis=0)


@kernel(
    name="standardize",
    family="reductions",
    inputs={"x": normal(ROWS, 4)},
    bytes=lambda x: 2 * x.nbytes,
    flops=lambda x: 7 * x.size,
    teaches="column statistics followed by a map over the whole array",
    rtol={"f4": 1e-4, "f8": 1e-11},
)
def standardize(x):
    return (x - x.mean(axis=0)) / (x.std(axis=0) + 1e-8)


@kernel(
    name="masked_mean",
    family="reductions",
    inputs={"x": normal(FLAT)},
    bytes=lambda x: x.nbytes,
    flops=lambda x: 3 * x.size,
    teaches="a boolean selection that is reduced at once needs no array of selected values",
)
def masked_mean(x):
    return x[x > 0].mean()
