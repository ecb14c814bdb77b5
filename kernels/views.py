"""Movement: elements change places and little is computed."""

import numpy as np

from kernels.registry import GRID, ROWS, kernel, normal

IMAGES = {"S": (1, 12, 12), "M": (3, 64, 64), "L": (7, 256, 256)}


@kernel(
    name="transpose_add",
    family="views",
    bound="memory",
    inputs={"x": normal(GRID)},
    bytes=lambda x: 2 * x.nbytes,
    flops=lambda x: x.size,
    teaches="one operand is read against the order of memory: by tiles that fit the cache",
)
def transpose_add(x):
    return x + x.T


@kernel(
    name="im2col",
    family="views",
    bound="memory",
    inputs={"images": normal(IMAGES)},
    bytes=lambda images: images.nbytes + 9 * images[:, 2:, 2:].size * images.itemsize,
    flops=lambda images: 9 * images[:, 2:, 2:].size,
    teaches="nine shifted views are gathered into rows, ready for a matrix product",
)
def im2col(images):
    height, width = images.shape[1:]
    shifted = [
        images[:, i : i + height - 2, j : j + width - 2] for i in range(3) for j in range(3)
    ]
    return np.stack(shifted, axis=-1).reshape(-1, 9)


@kernel(
    name="pad",
    family="views",
    bound="memory",
    inputs={"x": normal(GRID)},
    bytes=lambda x: x.nbytes + (x.shape[0] + 4) * (x.shape[1] + 4) * x.itemsize,
    flops=lambda x: x.size,
    teaches="inside the frame a copy, on the frame a constant; no test for each element",
)
def pad(x):
    return np.pad(x, 2)


@kernel(
    name="roll",
    family="views",
    bound="memory",
    inputs={"x": normal(GRID)},
    bytes=lambda x: 2 * x.nbytes,
    flops=lambda x: x.size,
    teaches="four rectangles are copied: no remainder for each element",
)
def roll(x):
    return np.roll(x, (3, -5), axis=(0, 1))


@kernel(
    name="downsample",
    family="views",
    bound="memory",
    inputs={"x": normal(GRID)},
    bytes=lambda x: x.nbytes + x.nbytes // 4,
    flops=lambda x: x.size,
    teaches="four views with a step of two read each pair of rows once",
)
def downsample(x):
    return (x[::2, ::2] + x[::2, 1::2] + x[1::2, ::2] + x[1::2, 1::2]) / 4


@kernel(
    name="concatenate",
    family="views",
    bound="memory",
    inputs={"x": normal(ROWS), "y": normal(ROWS)},
    bytes=lambda x, y: 2 * (x.nbytes + y.nbytes),
    flops=lambda x, y: x.size + y.size,
    teaches="each part is written to its place in the result, without a choice for each element",
)
def concatenate(x, y):
    return np.concatenate([x, y], axis=1)



