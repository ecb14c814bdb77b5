"""Recurrences along an axis: each element needs the one before it."""

import numpy as np

from kernels.registry import FLAT, ROWS, kernel, normal, scalar

SERIES = {"S": (16, 64), "M": (16, 6_250), "L": (16, 250_000)}


@kernel(
    name="cumsum",
    family="scans",
    bound="latency",
    inputs={"x": normal(FLAT)},
    bytes=lambda x: 2 * x.nbytes,
    flops=lambda x: x.size,
    teaches="a running sum of one long vector: each waits for the one before, to have NumPy's bits",
    rtol={"f4": 1e-4, "f8": 1e-11},
)
def cumsum(x):
    return np.cumsum(x)


@kernel(
    name="cumsum_rows",
    family="scans",
    bound="memory",
    inputs={"x": normal(ROWS)},
    bytes=lambda x: 2 * x.nbytes,
    flops=lambda x: x.size,
    teaches="rows run side by side, so that no addition waits for the one before it",
    rtol={"f4": 1e-4, "f8": 1e-11},
)
def cumsum_rows(x):
    return np.cumsum(x, axis=-1)


@kernel(
    name="exponential_average",
    family="scans",
    bound="memory",
    inputs={"x": normal(SERIES), "alpha": scalar(0.2)},
    bytes=lambda x, alpha: 2 * x.nbytes,
    flops=lambda x, alpha: 3 * x.size,
    teaches="a loop over a short axis unrolls: all time steps of one series stay in registers",
)
def exponential_average(x, alpha):
    average = x[0]
    averages = [average]
    for now in x[1:]:
        average = alpha * now + (1 - alpha) * average
        averages.append(average)
    return np.stack(averages)



