"""Functions of one element at a time: what fusion and vector math gain first."""

import numpy as np

from kernels.registry import FLAT, kernel, normal, scalar, uniform


@kernel(
    name="axpby",
    family="elementwise",
    inputs={"a": scalar(2.5), "x": normal(FLAT), "b": scalar(-0.5), "y": normal(FLAT)},
    bytes=lambda a, x, b, y: 3 * x.nbytes,
    flops=lambda a, x, b, y: 3 * x.size,
    teaches="Python scalars are run-time values: a new one compiles nothing",
)
def axpby(a, x, b, y):
    return a * x + b * y


@kernel(
    name="polynomial",
    family="elementwise",
    inputs={"x": uniform(FLAT, -1, 1)},
    bytes=lambda x: 2 * x.nbytes,
    flops=lambda x: 12 * x.size,
    teaches="a chain of cheap operations is bound by memory once it is fused",
)
def polynomial(x):
    y = np.full_like(x, 0.1)
    for coefficient in (-0.3, 0.7, 1.1, -0.2, 0.5, 2.0):
        y = y * x + coefficient
    return y


@kernel(
    name="gelu",
    family="elementwise",
    inputs={"x": normal(FLAT)},
    bytes=lambda x: 2 * x.nbytes,
    flops=lambda x: 9 * x.size,
    teaches="a vectorised tanh",
)
def gelu(x):
    return 0.5 * x * (1 + np.tanh(0.79788456 * (x + 0.044715 * x * x * x)))


@kernel(
    name="gelu_power",
    family="elementwise",
    inputs={"x": normal(FLAT)},
    bytes=lambda x: 2 * x.nbytes,
    flops=lambda x: 9 * x.size,
    teaches="a small integer power is not a call to pow",
)
def gelu_power(x):
    return 0.5 * x * (1 + np.tanh(0.79788456 * (x + 0.044715 * x**3)))


@kernel(
    name="swish",
    family="elementwise",
    inputs={"x": normal(FLAT, 3)},
    bytes=lambda x: 2 * x.nbytes,
    flops=lambda x: 4 * x.size,
    teaches="a vectorised exp and a division",
)
def swish(x):
    return x / (1 + np.exp(-x))


@kernel(
    name="softplus",
    family="elementwise",
    inputs={"x": normal(FLAT, 10)},
    bytes=lambda x: 2 * x.nbytes,
    flops=lambda x: 6 * x.size,
    teaches="the stable form uses log1p, exp, abs and maximum, all vectorised",
)
def softplus(x):
    return np.log1p(np.exp(-np.abs(x))) + np.maximum(x, 0)


@kernel(
    name="huber",
    family="elementwise",
    inputs={"x": normal(FLAT, 2), "y": normal(FLAT), "delta": scalar(1.5)},
    bytes=lambda x, y, delta: 3 * x.nbytes,
    flops=lambda x, y, delta: 8 * x.size,
    teaches="where becomes a select: both sides are computed and no branch is taken",
)
def huber(x, y, delta):
    error = np.abs(x - y)
    return np.where(error <= delta, 0.5 * error**2, delta * (error - 0.5 * delta))


def normal_cdf(x):
    """Distribution of the standard normal: Abramowitz and Stegun, formula 26.2.17."""
    t = 1 / (1 + 0.2316419 * np.abs(x))
    series = t * (0.31938153 + t * (-0.356563782 + t * (1.781477937 + t * (
        -1.821255978 + t * 1.330274429))))
    upper = 0.3989422804014327 * np.exp(-0.5 * x * x) * series
    return np.where(x >= 0, 1 - upper, upper)


@kernel(
    name="black_scholes",
    family="elementwise",
    inputs={
        "spot": uniform(FLAT, 10, 100),
        "strike": uniform(FLAT, 10, 100),
        "years": uniform(FLAT, 0.2, 2),
        "rate": scalar(0.02),
        "volatility": scalar(0.3),
    },
    bytes=lambda spot, strike, years, rate, volatility: 5 * spot.nbytes,
    flops=lambda spot, strike, years, rate, volatility: 60 * spot.size,
    teaches="two results over one iteration space are one kernel; a helper is inlined",
    rtol={"f4": 1e-4, "f8": 1e-12},
)
def black_scholes(spot, strike, years, rate, volatility):
    spread = volatility * np.sqrt(years)
    d1 = (np.log(spot / strike) + (rate + 0.5 * volatility**2) * years) / spread
    d2 = d1 - spread
    discounted = strike * np.exp(-rate * years)
    call = spot * normal_cdf(d1) - discounted * normal_cdf(d2)
    return call, call - spot + discounted


@kernel(
    name="haversine",
    family="elementwise",
    inputs={
        "lat1": uniform(FLAT, -90, 90),
        "lon1": uniform(FLAT, -180, 180),
        "lat2": uniform(FLAT, -90, 90),
        "lon2": uniform(FLAT, -180, 180),
    },
    bytes=lambda lat1, lon1, lat2, lon2: 5 * lat1.nbytes,
    flops=lambda lat1, lon1, lat2, lon2: 21 * lat1.size,
    teaches="trigonometry: sin, cos and arcsin within 2 ULP, vectorised",
    rtol={"f4": 1e-3, "f8": 1e-10},
)
def haversine(lat1, lon1, lat2, lon2):
    lat1, lon1, lat2, lon2 = map(np.deg2rad, (lat1, lon1, lat2, lon2))
    chord = (
        np.sin((lat2 - lat1) / 2) ** 2
        + np.cos(lat1) * np.cos(lat2) * np.sin((lon2 - lon1) / 2) ** 2
    )
    return 6371.0 * 2 * np.arcsin(np.sqrt(np.minimum(chord, 1)))


@kernel(
    name="lennard_jones",
    family="elementwise",
    inputs={"distance": uniform(FLAT, 0.9, 3)},
    bytes=lambda distance: 2 * distance.nbytes,
    flops=lambda distance: 7 * distance.size,
    teaches="powers of one value share their products",
)
def lennard_jones(distance):
    inverse6 = (1 / distance) ** 6
    return 4 * (inverse6 * inverse6 - inverse6)
