"""One loop over all elements; `math` functions of one element at a time."""

import math

import numpy as np

from benchmarks.loops.table import helper, loop, prange


@loop
def axpby(a, x, b, y):
    f = x.dtype.type
    a, b = f(a), f(b)
    out = np.empty_like(x)
    for i in prange(x.size):
        out[i] = a * x[i] + b * y[i]
    return out


@loop
def polynomial(x):
    f = x.dtype.type
    c0, c1, c2, c3 = f(0.1), f(-0.3), f(0.7), f(1.1)
    c4, c5, c6 = f(-0.2), f(0.5), f(2.0)
    out = np.empty_like(x)
    for i in prange(x.size):
        v = x[i]
        out[i] = (((((c0 * v + c1) * v + c2) * v + c3) * v + c4) * v + c5) * v + c6
    return out


@loop
def gelu(x):
    f = x.dtype.type
    half, one, inner, outer = f(0.5), f(1), f(0.044715), f(0.79788456)
    out = np.empty_like(x)
    for i in prange(x.size):
        v = x[i]
        out[i] = half * v * (one + math.tanh(outer * (v + inner * v * v * v)))
    return out


@loop
def gelu_power(x):
    f = x.dtype.type
    half, one, inner, outer = f(0.5), f(1), f(0.044715), f(0.79788456)
    out = np.empty_like(x)
    for i in prange(x.size):
        v = x[i]
        out[i] = half * v * (one + math.tanh(outer * (v + inner * v * v * v)))
    return out


@loop
def swish(x):
    one = x.dtype.type(1)
    out = np.empty_like(x)
    for i in prange(x.size):
        out[i] = x[i] / (one + math.exp(-x[i]))
    return out


@loop
def mish(x):
    out = np.empty_like(x)
    for i in prange(x.size):
        out[i] = x[i] * math.tanh(math.log1p(math.exp(x[i])))
    return out


@loop
def softplus(x):
    zero = x.dtype.type(0)
    out = np.empty_like(x)
    for i in prange(x.size):
        out[i] = math.log1p(math.exp(-abs(x[i]))) + max(x[i], zero)
    return out


@loop
def huber(x, y, delta):
    f = x.dtype.type
    half, delta = f(0.5), f(delta)
    out = np.empty_like(x)
    for i in prange(x.size):
        error = abs(x[i] - y[i])
        out[i] = half * error * error if error <= delta else delta * (error - half * delta)
    return out


@helper
def normal_cdf(x, f):
    t = f(1) / (f(1) + f(0.2316419) * abs(x))
    series = f(1.781477937) + t * (f(-1.821255978) + t * f(1.330274429))
    series = t * (f(0.31938153) + t * (f(-0.356563782) + t * series))
    upper = f(0.3989422804014327) * math.exp(f(-0.5) * x * x) * series
    return f(1) - upper if x >= f(0) else upper


@loop
def black_scholes(spot, strike, years, rate, volatility):
    f = spot.dtype.type
    drift, rate, volatility = f(rate + 0.5 * volatility**2), f(rate), f(volatility)
    call, put = np.empty_like(spot), np.empty_like(spot)
    for i in prange(spot.size):
        spread = volatility * math.sqrt(years[i])
        d1 = (math.log(spot[i] / strike[i]) + drift * years[i]) / spread
        discounted = strike[i] * math.exp(-rate * years[i])
        value = spot[i] * normal_cdf(d1, f) - discounted * normal_cdf(d1 - spread, f)
        call[i] = value
        put[i] = value - spot[i] + discounted
    return call, put


@loop
def haversine(lat1, lon1, lat2, lon2):
    f = lat1.dtype.type
    radians, one, half, diameter = f(math.pi / 180), f(1), f(0.5), f(2 * 6371.0)
    out = np.empty_like(lat1)
    for i in prange(lat1.size):
        a, b = lat1[i] * radians, lat2[i] * radians
        s = math.sin((b - a) * half)
        t = math.sin((lon2[i] - lon1[i]) * radians * half)
        chord = s * s + math.cos(a) * math.cos(b) * t * t
        out[i] = diameter * math.asin(math.sqrt(min(chord, one)))
    return out


@loop
def lennard_jones(distance):
    f = distance.dtype.type
    one, four = f(1), f(4)
    out = np.empty_like(distance)
    for i in prange(distance.size):
        inverse2 = one / (distance[i] * distance[i])
        inverse6 = inverse2 * inverse2 * inverse2
        out[i] = four * (inverse6 * inverse6 - inverse6)
    return out


@loop
def lognormal_pdf(x, mu, sigma):
    f = x.dtype.type
    scale, factor = f(-1 / (2 * sigma**2)), f(sigma * math.sqrt(2 * math.pi))
    mu = f(mu)
    out = np.empty_like(x)
    for i in prange(x.size):
        d = math.log(x[i]) - mu
        out[i] = math.exp(d * d * scale) / (x[i] * factor)
    return out


@loop
def complex_multiply(x, y):
    out = np.empty_like(x)
    for i in prange(x.size):
        out[i] = x[i] * y[i]
    return out


@loop
def hash_mix(key):
    u = key.dtype.type
    c1, c2 = u(0x85EBCA6B), u(0xC2B2AE35)
    out = np.empty_like(key)
    for i in prange(key.size):
        k = key[i]
        k = u((k ^ (k >> u(16))) * c1)
        k = u((k ^ (k >> u(13))) * c2)
        out[i] = k ^ (k >> u(16))
    return out


@loop
def hamming_distance(x, y):
    u = np.uint64
    m1, m2, m4 = u(0x5555555555555555), u(0x3333333333333333), u(0x0F0F0F0F0F0F0F0F)
    ones = u(0x0101010101010101)
    out = np.empty(x.shape, np.uint8)
    for i in prange(x.size):
        v = u(x[i] ^ y[i])
        v = v - ((v >> u(1)) & m1)
        v = (v & m2) + ((v >> u(2)) & m2)
        v = (v + (v >> u(4))) & m4
        out[i] = (v * ones) >> u(56)
    return out


@loop
def soft_clip(x, gain):
    f = x.dtype.type
    gain, low, high, edge = f(gain), f(-4), f(4), f(2 / 3)
    one, third = f(1), f(1 / 3)
    out = np.empty_like(x)
    for i in prange(x.size):
        y = min(max(gain * x[i], low), high)
        inside = y - y * y * y * third
        out[i] = edge if y > one else (-edge if y < -one else inside)
    return out


@loop
def luma(rgb):
    f = rgb.dtype.type
    r, g, b = f(0.2126), f(0.7152), f(0.0722)
    out = np.empty(rgb.shape[:2], rgb.dtype)
    for i in prange(rgb.shape[0]):
        for j in range(rgb.shape[1]):
            out[i, j] = r * rgb[i, j, 0] + g * rgb[i, j, 1] + b * rgb[i, j, 2]
    return out


@loop
def srgb_gamma(linear):
    f = linear.dtype.type
    edge, slope, scale, power, shift = f(0.0031308), f(12.92), f(1.055), f(1 / 2.4), f(0.055)
    out = np.empty_like(linear)
    for i in prange(linear.size):
        v = linear[i]
        out[i] = slope * v if v <= edge else scale * v**power - shift
    return out
