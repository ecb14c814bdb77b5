"""Longer programs: loops that unroll, state that is updated, several results."""

import numpy as np

from kernels.registry import (
    FLAT,
    GRID,
    column,
    integers,
    kernel,
    normal,
    scalar,
    several,
    uniform,
    zeros,
)

BODIES = {"S": (32, 3), "M": (316, 3), "L": (2000, 3)}
MASSES = column(BODIES, 0)
ITERATIONS = 20
PLANE = {**GRID, "L": (1024, 1024)}  # twenty steps for each point
SAMPLES = {"S": (64, 8), "M": (800, 8), "L": (31_250, 8)}
CENTRES = {"S": (4, 8), "M": (16, 8), "L": (16, 8)}
PAGES = {"S": (125,), "M": (12_500,), "L": (500_000,)}
LINKS = {size: (*shape, 8) for size, shape in PAGES.items()}
STATES = {"S": (32, 4), "M": (4_000, 4), "L": (150_000, 4)}
COVARIANCES = {size: (*shape, 4) for size, shape in STATES.items()}
MEASURED = {size: (shape[0], 2) for size, shape in STATES.items()}
#: Weights and biases of a perceptron with three layers.
LAYERS = (
    {"S": (16, 32), "M": (128, 400), "L": (1024, 2048)},
    {"S": (32,), "M": (400,), "L": (2048,)},
    {"S": (32, 16), "M": (400, 100), "L": (2048, 900)},
    {"S": (16,), "M": (100,), "L": (900,)},
    {"S": (16, 4), "M": (100, 40), "L": (900, 50)},
    {"S": (4,), "M": (40,), "L": (50,)},
)


def lattice(size, dtype, rng):
    """Particles near the points of a cube's lattice, so that none are on top of each other."""
    count = BODIES[size][0]
    edge = int(np.ceil(count ** (1 / 3)))
    places = np.stack(np.unravel_index(np.arange(count), (edge,) * 3), axis=-1)
    return (1.1 * places + rng.uniform(-0.1, 0.1, places.shape)).astype(dtype)


def covariances(size, dtype, rng):
    """A positive definite 4 by 4 matrix for each state."""
    root = rng.standard_normal(COVARIANCES[size]) * 0.3
    return (root @ np.swapaxes(root, -1, -2) + np.eye(4)).astype(dtype)


def observation(size, dtype, rng):
    """The matrix that takes a state (place and speed in a plane) to what is measured of it."""
    return np.eye(2, 4).astype(dtype)


def noise(size, dtype, rng):
    """The covariance of a measurement."""
    return (0.1 * np.eye(2)).astype(dtype)


@kernel(
    name="mandelbrot",
    family="programs",
    bound="arithmetic",
    inputs={"re": uniform(PLANE, -2, 0.6), "im": uniform(PLANE, -1.2, 1.2)},
    bytes=lambda re, im: re.nbytes + im.nbytes + 4 * re.size,
    flops=lambda re, im: 12 * ITERATIONS * re.size,
    teaches="a Python loop unrolls while tracing: masked iteration is one kernel, all in registers",
    mismatch=1e-4,
)
def mandelbrot(re, im):
    x, y = np.zeros_like(re), np.zeros_like(im)
    steps = np.zeros(re.shape, np.int32)
    for _ in range(ITERATIONS):
        inside = x * x + y * y <= 4
        steps += inside
        x, y = (
            np.where(inside, x * x - y * y + re, x),
            np.where(inside, 2 * x * y + im, y),
        )
    return steps


@kernel(
    name="adam_step",
    family="programs",
    bound="memory",
    inputs={
        "weight": normal(FLAT),
        "gradient": normal(FLAT),
        "mean": zeros(FLAT),
        "square": zeros(FLAT),
        "rate": scalar(1e-3),
    },
    bytes=lambda weight, gradient, mean, square, rate: 7 * weight.nbytes,
    flops=lambda weight, gradient, mean, square, rate: 13 * weight.size,
    teaches="three results and four inputs in one pass over memory",
)
def adam_step(weight, gradient, mean, square, rate):
    mean = 0.9 * mean + 0.1 * gradient
    square = 0.999 * square + 0.001 * gradient**2
    weight = weight - rate * (mean / 0.1) / (np.sqrt(square / 0.001) + 1e-8)
    return weight, mean, square


@kernel(
    name="momentum_inplace",
    family="programs",
    bound="memory",
    inputs={
        "weight": normal(FLAT),
        "velocity": zeros(FLAT),
        "gradient": normal(FLAT),
        "rate": scalar(1e-3),
    },
    bytes=lambda weight, velocity, gradient, rate: 5 * weight.nbytes,
    flops=lambda weight, velocity, gradient, rate: 4 * weight.size,
    teaches="arguments that are updated in place change for the caller",
)
def momentum_inplace(weight, velocity, gradient, rate):
    velocity *= 0.9
    velocity += gradient
    weight -= rate * velocity


@kernel(
    name="nbody_acceleration",
    family="programs",
    bound="arithmetic",
    inputs={"position": normal(BODIES), "mass": uniform(MASSES, 0.1, 1)},
    bytes=lambda position, mass: 2 * position.nbytes + mass.nbytes,
    flops=lambda position, mass: 18 * len(mass) ** 2,
    teaches="all pairs of bodies, reduced to one vector each: no n by n array is needed",
    rtol={"f4": 2e-4, "f8": 1e-11},
)
def nbody_acceleration(position, mass):
    offset = position[None, :, :] - position[:, None, :]
    distance2 = np.sum(offset * offset, axis=-1) + 0.01
    pull = mass / (distance2 * np.sqrt(distance2))
    return np.sum(pull[:, :, None] * offset, axis=1)


@kernel(
    name="lorenz_step",
    family="programs",
    bound="arithmetic",
    inputs={"x": normal(FLAT), "y": normal(FLAT), "z": normal(FLAT), "dt": scalar(0.01)},
    bytes=lambda x, y, z, dt: 6 * x.nbytes,
    flops=lambda x, y, z, dt: 75 * x.size,
    teaches="four stages of Runge-Kutta over three arrays, with a helper called four times",
)
def lorenz_step(x, y, z, dt):
    def slope(x, y, z):
        return 10 * (y - x), x * (28 - z) - y, x * y - 8 / 3 * z

    def moved(state, k, by):
        return tuple(s + by * d for s, d in zip(state, k))

    state = (x, y, z)
    k1 = slope(*state)
    k2 = slope(*moved(state, k1, dt / 2))
    k3 = slope(*moved(state, k2, dt / 2))
    k4 = slope(*moved(state, k3, dt))
    return tuple(
        s + dt / 6 * (a + 2 * b + 2 * c + d) for s, a, b, c, d in zip(state, k1, k2, k3, k4)
    )


@kernel(
    name="adam_parameters",
    family="programs",
    bound="memory",
    inputs={
        "weights": several([normal(shapes) for shapes in LAYERS]),
        "gradients": several([normal(shapes) for shapes in LAYERS]),
        "means": several([zeros(shapes) for shapes in LAYERS]),
        "squares": several([zeros(shapes) for shapes in LAYERS]),
        "rate": scalar(1e-3),
    },
    bytes=lambda weights, gradients, means, squares, rate: 7 * sum(w.nbytes for w in weights),
    flops=lambda weights, gradients, means, squares, rate: 13 * sum(w.size for w in weights),
    teaches="a list of arrays as an argument: small ones should not cost a launch each",
)
def adam_parameters(weights, gradients, means, squares, rate):
    means = [0.9 * m + 0.1 * g for m, g in zip(means, gradients)]
    squares = [0.999 * s + 0.001 * g**2 for s, g in zip(squares, gradients)]
    weights = [
        w - rate * (m / 0.1) / (np.sqrt(s / 0.001) + 1e-8)
        for w, m, s in zip(weights, means, squares)
    ]
    return weights, means, squares


@kernel(
    name="kmeans_step",
    family="programs",
    bound="arithmetic",
    inputs={"points": normal(SAMPLES), "centres": normal(CENTRES)},
    bytes=lambda points, centres: points.nbytes + 2 * centres.nbytes,
    flops=lambda points, centres: 5 * len(points) * centres.size,
    teaches="labels decide which sums a point belongs to: a product with ones and zeros",
    rtol={"f4": 1e-4, "f8": 1e-11},
)
def kmeans_step(points, centres):
    distances = np.sum((points[:, None, :] - centres[None, :, :]) ** 2, axis=-1)
    nearest = np.argmin(distances, axis=1)
    member = (nearest[:, None] == np.arange(len(centres))).astype(points.dtype)
    return member.T @ points / np.maximum(np.sum(member, axis=0), 1)[:, None]


@kernel(
    name="lennard_jones_forces",
    family="programs",
    bound="arithmetic",
    inputs={"position": lattice, "cutoff": scalar(2.5)},
    bytes=lambda position, cutoff: 2 * position.nbytes,
    flops=lambda position, cutoff: 25 * len(position) ** 2,
    teaches="pairs beyond a distance count as zero: a select inside a reduction, no n by n array",
    rtol={"f4": 1e-3, "f8": 1e-11},
)
def lennard_jones_forces(position, cutoff):
    offset = position[:, None, :] - position[None, :, :]
    distance2 = np.sum(offset * offset, axis=-1)
    near = (distance2 > 0) & (distance2 < cutoff * cutoff)
    inverse2 = np.where(near, 1 / np.where(near, distance2, 1), 0)
    inverse6 = inverse2 * inverse2 * inverse2
    strength = 24 * inverse2 * inverse6 * (2 * inverse6 - 1)
    return np.sum(strength[:, :, None] * offset, axis=1)


@kernel(
    name="game_of_life",
    family="programs",
    bound="memory",
    inputs={"board": integers(GRID, 2, "u1")},
    bytes=lambda board: 2 * board.nbytes,
    flops=lambda board: 11 * board.size,
    teaches="bytes: four times as many elements in a vector as of float32",
)
def game_of_life(board):
    rows = board + np.roll(board, 1, axis=0) + np.roll(board, -1, axis=0)
    around = rows + np.roll(rows, 1, axis=1) + np.roll(rows, -1, axis=1) - board
    return ((around == 3) | ((board == 1) & (around == 2))).astype(np.uint8)


@kernel(
    name="pagerank_step",
    family="programs",
    bound="latency",
    inputs={
        "rank": uniform(PAGES, 0.5, 1.5),
        "degree": uniform(PAGES, 1, 16),
        "sources": integers(LINKS, {size: shape[0] for size, shape in PAGES.items()}),
        "damping": scalar(0.85),
    },
    bytes=lambda rank, degree, sources, damping: 3 * rank.nbytes + sources.nbytes,
    flops=lambda rank, degree, sources, damping: sources.size + 3 * rank.size,
    teaches="a gather inside a reduction: what is gathered is computed once, not once for a link",
)
def pagerank_step(rank, degree, sources, damping):
    share = rank / degree
    received = np.sum(share[sources], axis=1)
    return (1 - damping) / len(rank) + damping * received


@kernel(
    name="kalman_update",
    family="programs",
    bound="arithmetic",
    inputs={
        "state": normal(STATES),
        "covariance": covariances,
        "measured": normal(MEASURED),
        "observe": observation,
        "noise": noise,
    },
    bytes=lambda state, covariance, measured, observe, noise: (
        2 * state.nbytes + 2 * covariance.nbytes + measured.nbytes
    ),
    flops=lambda state, covariance, measured, observe, noise: 500 * len(state),
    teaches="stacks of tiny matrices: a call of BLAS for each would cost more than its arithmetic",
    rtol={"f4": 1e-4, "f8": 1e-11},
)
def kalman_update(state, covariance, measured, observe, noise):
    across = covariance @ observe.T
    gain = across @ np.linalg.inv(observe @ across + noise)
    surprise = measured - state @ observe.T
    state = state + (gain @ surprise[:, :, None])[:, :, 0]
    return state, covariance - gain @ (observe @ covariance)
