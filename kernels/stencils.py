"""Neighbours: slices of one array at several offsets, which become index arithmetic."""

import numpy as np

from kernels.registry import FLAT, GRID, kernel, normal, scalar

VOLUME = {"S": (10, 10, 10), "M": (46, 46, 46), "L": (160, 160, 160)}


@kernel(
    name="difference",
    family="stencils",
    bound="memory",
    inputs={"x": normal(FLAT), "dx": scalar(0.5)},
    bytes=lambda x, dx: 2 * x.nbytes,
    flops=lambda x, dx: 2 * x.size,
    teaches="two views of one array are one read",
)
def difference(x, dx):
    return (x[1:] - x[:-1]) / dx


@kernel(
    name="moving_average",
    family="stencils",
    bound="memory",
    inputs={"x": normal(FLAT)},
    bytes=lambda x: 2 * x.nbytes,
    flops=lambda x: 5 * x.size,
    teaches="a window of five views",
)
def moving_average(x):
    return (x[:-4] + x[1:-3] + x[2:-2] + x[3:-1] + x[4:]) / 5


@kernel(
    name="heat_step",
    family="stencils",
    bound="memory",
    inputs={"u": normal(GRID), "rate": scalar(0.1)},
    bytes=lambda u, rate: 2 * u.nbytes,
    flops=lambda u, rate: 7 * u.size,
    teaches="an update through a view of a fresh array fuses with the copy",
)
def heat_step(u, rate):
    new = u.copy()
    new[1:-1, 1:-1] += rate * (
        u[2:, 1:-1] + u[:-2, 1:-1] + u[1:-1, 2:] + u[1:-1, :-2] - 4 * u[1:-1, 1:-1]
    )
    return new


@kernel(
    name="gradient_magnitude",
    family="stencils",
    bound="memory",
    inputs={"image": normal(GRID)},
    bytes=lambda image: 2 * image.nbytes,
    flops=lambda image: 6 * image.size,
    teaches="two stencils along different axes meet in one kernel",
)
def gradient_magnitude(image):
    dx = image[1:-1, 2:] - image[1:-1, :-2]
    dy = image[2:, 1:-1] - image[:-2, 1:-1]
    return np.sqrt(dx * dx + dy * dy) / 2


@kernel(
    name="periodic_laplacian",
    family="stencils",
    bound="memory",
    inputs={"u": normal(GRID)},
    bytes=lambda u: 2 * u.nbytes,
    flops=lambda u: 5 * u.size,
    teaches="roll is a view too: two ranges of indices instead of a copy",
)
def periodic_laplacian(u):
    return (
        np.roll(u, 1, axis=0) + np.roll(u, -1, axis=0)
        + np.roll(u, 1, axis=1) + np.roll(u, -1, axis=1) - 4 * u
    )


@kernel(
    name="nine_point_laplacian",
    family="stencils",
    bound="memory",
    inputs={"u": normal(GRID)},
    bytes=lambda u: 2 * u.nbytes,
    flops=lambda u: 12 * u.size,
    teaches="nine views of three rows: every element is loaded from memory once",
)
def nine_point_laplacian(u):
    sides = u[1:-1, 2:] + u[1:-1, :-2] + u[2:, 1:-1] + u[:-2, 1:-1]
    corners = u[2:, 2:] + u[2:, :-2] + u[:-2, 2:] + u[:-2, :-2]
    return (4 * sides + corners - 20 * u[1:-1, 1:-1]) / 6


@kernel(
    name="heat_3d",
    family="stencils",
    bound="memory",
    inputs={"u": normal(VOLUME), "rate": scalar(0.1)},
    bytes=lambda u, rate: 2 * u.nbytes,
    flops=lambda u, rate: 9 * u.size,
    teaches="planes above and below stay in cache while the middle one is computed",
)
def heat_3d(u, rate):
    c = u[1:-1, 1:-1, 1:-1]
    around = (
        u[2:, 1:-1, 1:-1] + u[:-2, 1:-1, 1:-1]
        + u[1:-1, 2:, 1:-1] + u[1:-1, :-2, 1:-1]
        + u[1:-1, 1:-1, 2:] + u[1:-1, 1:-1, :-2]
    )
    return c + rate * (around - 6 * c)


@kernel(
    name="sobel",
    family="stencils",
    bound="memory",
    inputs={"image": normal(GRID)},
    bytes=lambda image: 2 * image.nbytes,
    flops=lambda image: 14 * image.size,
    teaches="filters along each axis, as they are taught: a sum is computed again, not stored",
)
def sobel(image):
    down = image[:-2] + 2 * image[1:-1] + image[2:]
    across = image[:, :-2] + 2 * image[:, 1:-1] + image[:, 2:]
    dx, dy = down[:, 2:] - down[:, :-2], across[2:] - across[:-2]
    return np.sqrt(dx * dx + dy * dy)
