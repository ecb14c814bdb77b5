"""Functions of one element at a time: what fusion and vector math gain first."""

import math

import numpy as np

from kernels.registry import FLAT, bits, complex_normal, kernel, normal, scalar, uniform

IMAGE = {"S": (16, 20, 3), "M": (160, 208, 3), "L": (1080, 1280, 3)}


@kernel(
    name="axpby",
    family="elementwise",
    bound="memory",
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
    bound="memory",
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
    bound="transcendental",
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
    bound="transcendental",
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
    bound="transcendental",
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
    bound="transcendental",
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
    bound="memory",
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
    bound="transcendental",
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
    bound="transcendental",
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
    bound="memory",
    inputs={"distance": uniform(FLAT, 0.9, 3)},
    bytes=lambda distance: 2 * distance.nbytes,
    flops=lambda distance: 7 * distance.size,
    teaches="powers of one value share their products",
)
def lennard_jones(distance):
    inverse6 = (1 / distance) ** 6
    return 4 * (inverse6 * inverse6 - inverse6)


@kernel(
    name="mish",
    family="elementwise",
    bound="transcendental",
    inputs={"x": normal(FLAT, 3)},
    bytes=lambda x: 2 * x.nbytes,
    flops=lambda x: 4 * x.size,
    teaches="three dependent math functions for each element",
)
def mish(x):
    return x * np.tanh(np.log1p(np.exp(x)))


@kernel(
    name="lognormal_pdf",
    family="elementwise",
    bound="transcendental",
    inputs={"x": uniform(FLAT, 0.05, 5), "mu": scalar(0.2), "sigma": scalar(0.7)},
    bytes=lambda x, mu, sigma: 2 * x.nbytes,
    flops=lambda x, mu, sigma: 8 * x.size,
    teaches="what depends on scalars alone is computed once, not once for each element",
)
def lognormal_pdf(x, mu, sigma):
    exponent = -((np.log(x) - mu) ** 2) / (2 * sigma**2)
    return np.exp(exponent) / (x * sigma * math.sqrt(2 * math.pi))


@kernel(
    name="complex_multiply",
    family="elementwise",
    bound="memory",
    inputs={"x": complex_normal(FLAT), "y": complex_normal(FLAT)},
    bytes=lambda x, y: 3 * x.nbytes,
    flops=lambda x, y: 6 * x.size,
    teaches="complex numbers are pairs of floats that lie side by side in memory",
)
def complex_multiply(x, y):
    return x * y


@kernel(
    name="hash_mix",
    family="elementwise",
    bound="memory",
    inputs={"key": bits(FLAT)},
    bytes=lambda key: 2 * key.nbytes,
    flops=lambda key: 8 * key.size,
    teaches="unsigned integers wrap around; a constant has the dtype of the array",
)
def hash_mix(key):
    key = (key ^ (key >> 16)) * 0x85EBCA6B
    key = (key ^ (key >> 13)) * 0xC2B2AE35
    return key ^ (key >> 16)


@kernel(
    name="hamming_distance",
    family="elementwise",
    bound="memory",
    inputs={"x": bits(FLAT), "y": bits(FLAT)},
    bytes=lambda x, y: 2 * x.nbytes + x.size,
    flops=lambda x, y: 2 * x.size,
    teaches="counting bits, into a result of one byte for each element",
)
def hamming_distance(x, y):
    return np.bitwise_count(x ^ y)


@kernel(
    name="soft_clip",
    family="elementwise",
    bound="memory",
    inputs={"x": normal(FLAT), "gain": scalar(1.5)},
    bytes=lambda x, gain: 2 * x.nbytes,
    flops=lambda x, gain: 10 * x.size,
    teaches="clip and a chain of where are selects in registers",
)
def soft_clip(x, gain):
    y = np.clip(gain * x, -4, 4)
    return np.where(y > 1, 2 / 3, np.where(y < -1, -2 / 3, y - y**3 / 3))


@kernel(
    name="luma",
    family="elementwise",
    bound="memory",
    inputs={"rgb": uniform(IMAGE, 0, 1)},
    bytes=lambda rgb: rgb.nbytes * 4 // 3,
    flops=lambda rgb: rgb.size * 5 // 3,
    teaches="three views with a stride of three elements are one pass over the image",
)
def luma(rgb):
    return 0.2126 * rgb[..., 0] + 0.7152 * rgb[..., 1] + 0.0722 * rgb[..., 2]


@kernel(
    name="srgb_gamma",
    family="elementwise",
    bound="transcendental",
    inputs={"linear": uniform(FLAT, 0, 1)},
    bytes=lambda linear: 2 * linear.nbytes,
    flops=lambda linear: 6 * linear.size,
    teaches="a vectorised power with a fractional exponent",
)
def srgb_gamma(linear):
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
