"""Longer programs: loops that unroll, state that is updated, several results."""

import numpy as np

from kernels.registry import FLAT, GRID, kernel, normal, scalar, uniform, zeros

BODIES = {"S": (32, 3), "M": (316, 3), "L": (2000, 3)}
MASSES = {size: shape[:1] for size, shape in BODIES.items()}
ITERATIONS = 20


@kernel(
    name="mandelbrot",
    family="programs",
    inputs={"re": uniform(GRID, -2, 0.6), "im": uniform(GRID, -1.2, 1.2)},
    bytes=lambda re, im: re.nbytes + im.nbytes + 4 * re.size,
    flops=lambda re, im: 12 * ITERATIONS * re.size,
    teaches="a Python loop unrolls while tracing: masked iteration is one kernel, all in registers",
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
