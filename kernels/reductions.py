"""Few numbers out of many: whole arrays, rows and columns."""

import numpy as np

from kernels.registry import FLAT, ROWS, kernel, normal, with_nans


@kernel(
    name="variance_rows",
    family="reductions",
    bound="memory",
    inputs={"x": normal(ROWS)},
    bytes=lambda x: x.nbytes + x.shape[0] * x.itemsize,
    flops=lambda x: 4 * x.size,
    teaches="two passes over a row that stays in cache are one pass over memory",
)
def variance_rows(x):
    return np.var(x, axis=-1)


@kernel(
    name="argmax_rows",
    family="reductions",
    bound="memory",
    inputs={"x": normal(ROWS)},
    bytes=lambda x: x.nbytes + x.shape[0] * 8,
    flops=lambda x: x.size,
    teaches="a reduction that carries an index; NumPy's own is already good",
)
def argmax_rows(x):
    return np.argmax(x, axis=-1)


@kernel(
    name="logsumexp",
    family="reductions",
    bound="transcendental",
    inputs={"x": normal(ROWS, 3)},
    bytes=lambda x: x.nbytes + x.shape[0] * x.itemsize,
    flops=lambda x: 4 * x.size,
    teaches="two dependent reductions of a row; only one number per row is written",
)
def logsumexp(x):
    top = np.max(x, axis=-1, keepdims=True)
    return np.log(np.sum(np.exp(x - top), axis=-1)) + top[..., 0]


@kernel(
    name="column_mean",
    family="reductions",
    bound="memory",
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
    bound="memory",
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
    bound="memory",
    inputs={"x": normal(ROWS, 4)},
    bytes=lambda x: 2 * x.nbytes,
    flops=lambda x: 7 * x.size,
    teaches="column statistics followed by a map over the whole array",
    rtol={"f4": 1e-4, "f8": 1e-11},
)
def standardize(x):
    return (x - x.mean(axis=0)) / (x.std(axis=0) + 1e-8)


@kernel(
    name="sum_all",
    family="reductions",
    bound="memory",
    inputs={"x": normal(FLAT)},
    bytes=lambda x: x.nbytes,
    flops=lambda x: x.size,
    teaches="parts summed by several threads, always in the same order",
    rtol={"f4": 1e-4, "f8": 1e-11},
)
def sum_all(x):
    return np.sum(x)


@kernel(
    name="sum_rows",
    family="reductions",
    bound="memory",
    inputs={"x": normal(ROWS)},
    bytes=lambda x: x.nbytes + x.shape[0] * x.itemsize,
    flops=lambda x: x.size,
    teaches="one sum for each row: threads share the rows",
    rtol={"f4": 1e-4, "f8": 1e-11},
)
def sum_rows(x):
    return np.sum(x, axis=1)


@kernel(
    name="sum_columns",
    family="reductions",
    bound="memory",
    inputs={"x": normal(ROWS)},
    bytes=lambda x: x.nbytes + x.shape[1] * x.itemsize,
    flops=lambda x: x.size,
    teaches="columns are summed in the order of memory, a strip of them at a time",
    rtol={"f4": 1e-4, "f8": 1e-11},
)
def sum_columns(x):
    return np.sum(x, axis=0)


@kernel(
    name="argmax_all",
    family="reductions",
    bound="memory",
    inputs={"x": normal(FLAT)},
    bytes=lambda x: x.nbytes,
    flops=lambda x: x.size,
    teaches="threads find candidates; of equal ones the first wins",
)
def argmax_all(x):
    return np.argmax(x)


@kernel(
    name="nanmean",
    family="reductions",
    bound="memory",
    inputs={"x": with_nans(normal(FLAT), 0.1)},
    bytes=lambda x: x.nbytes,
    flops=lambda x: 3 * x.size,
    teaches="a sum and a count of what is not NaN, in one pass and without a copy",
    rtol={"f4": 1e-4, "f8": 1e-11},
)
def nanmean(x):
    return np.nanmean(x)


@kernel(
    name="variance_all",
    family="reductions",
    bound="memory",
    inputs={"x": normal(FLAT)},
    bytes=lambda x: x.nbytes,
    flops=lambda x: 4 * x.size,
    teaches="the second pass needs the mean: twice over memory where the array exceeds the cache",
)
def variance_all(x):
    return np.var(x)


@kernel(
    name="norm",
    family="reductions",
    bound="memory",
    inputs={"x": normal(FLAT)},
    bytes=lambda x: x.nbytes,
    flops=lambda x: 2 * x.size,
    teaches="squares are summed without an array of squares",
)
def norm(x):
    return np.linalg.norm(x)
