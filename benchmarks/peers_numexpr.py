"""numexpr beside fusec: the kernels that it can express, elementwise ones and full sums.

    python -m benchmarks.peers_numexpr      # evaluates all of them and checks them

numexpr is imported when a call is made, not before.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

import kernels

__all__ = ["EXPRESSIONS", "call", "difference"]

#: Cumulative normal distribution as an expression.
CDF = (
    "where({x} >= 0, 1 - {upper}, {upper})",
    "0.3989422804014327 * exp(-0.5 * {x} * {x}) * {t} * (0.31938153 + {t} * (-0.356563782"
    " + {t} * (1.781477937 + {t} * (-1.821255978 + {t} * 1.330274429))))",
)

#: What numexpr evaluates, by name of the kernel, over the kernel's arguments and its `VIEWS`.
#: Lines before the last are `name = expression`; the last is an expression or names of results.
#: Its sums of millions of float32 lose digits: they are added up one after the other.
EXPRESSIONS: dict[str, str] = {
    "axpby": "a * x + b * y",
    "polynomial": "(((((0.1 * x - 0.3) * x + 0.7) * x + 1.1) * x - 0.2) * x + 0.5) * x + 2",
    "gelu": "0.5 * x * (1 + tanh(0.79788456 * (x + 0.044715 * x * x * x)))",
    "gelu_power": "0.5 * x * (1 + tanh(0.79788456 * (x + 0.044715 * x**3)))",
    "swish": "x / (1 + exp(-x))",
    "mish": "x * tanh(log1p(exp(x)))",
    "softplus": "log1p(exp(-abs(x))) + where(x > 0, x, 0)",
    "huber": "where(abs(x - y) <= delta, 0.5 * (x - y)**2, delta * (abs(x - y) - 0.5 * delta))",
    "black_scholes": "\n".join((
        "d1 = (log(spot / strike) + (rate + 0.5 * volatility**2) * years)"
        " / (volatility * sqrt(years))",
        "d2 = d1 - volatility * sqrt(years)",
        "t1 = 1 / (1 + 0.2316419 * abs(d1))",
        "t2 = 1 / (1 + 0.2316419 * abs(d2))",
        "u1 = " + CDF[1].format(x="d1", t="t1"),
        "u2 = " + CDF[1].format(x="d2", t="t2"),
        "discounted = strike * exp(-rate * years)",
        f"call = spot * {CDF[0].format(x='d1', upper='u1')}"
        f" - discounted * {CDF[0].format(x='d2', upper='u2')}",
        "put = call - spot + discounted",
        "call, put",
    )),
    "haversine": "12742.0 * arcsin(sqrt(sin((lat2 - lat1) * 0.008726646259971648)**2"
    " + cos(lat1 * 0.017453292519943295) * cos(lat2 * 0.017453292519943295)"
    " * sin((lon2 - lon1) * 0.008726646259971648)**2))",
    "lennard_jones": "4 * ((1 / distance)**12 - (1 / distance)**6)",
    "lognormal_pdf": "exp(-(log(x) - mu)**2 / (2 * sigma**2)) / (x * sigma * 2.5066282746310002)",
    "soft_clip": "y = where(gain * x > 4, 4, where(gain * x < -4, -4, gain * x))\n"
    "where(y > 1, 0.6666666666666666, where(y < -1, -0.6666666666666666, y - y**3 / 3))",
    "luma": "0.2126 * r + 0.7152 * g + 0.0722 * b",
    "srgb_gamma": "where(linear <= 0.0031308, 12.92 * linear,"
    " 1.055 * linear ** 0.4166666666666667 - 0.055)",
    "sum_all": "sum(x)",
    "norm": "sum(x * x)",
    "mse": "sum((x - y)**2)",
    "kl_divergence": "sum(p * log(p / q))",
    "difference": "(right - left) / dx",
    "moving_average": "(a + b + c + d + e) / 5",
    "gradient_magnitude": "sqrt((east - west)**2 + (south - north)**2) / 2",
    "nine_point_laplacian": "(4 * (n + s + w + e) + (nw + ne + sw + se) - 20 * c) / 6",
    "heat_3d": "c + rate * (a + b + n + s + w + e - 6 * c)",
    "transpose_add": "x + t",
    "downsample": "(a + b + c + d) / 4",
    "adam_step": "m = 0.9 * mean + 0.1 * gradient\n"
    "s = 0.999 * square + 0.001 * gradient**2\n"
    "w = weight - rate * (m / 0.1) / (sqrt(s / 0.001) + 0.00000001)\n"
    "w, m, s",
}

#: Views that an expression needs, from the kernel's arguments.
VIEWS: dict[str, Callable[..., dict[str, Any]]] = {
    "luma": lambda rgb: {"r": rgb[..., 0], "g": rgb[..., 1], "b": rgb[..., 2]},
    "difference": lambda x, dx: {"left": x[:-1], "right": x[1:]},
    "moving_average": lambda x: {
        "a": x[:-4], "b": x[1:-3], "c": x[2:-2], "d": x[3:-1], "e": x[4:],
    },
    "gradient_magnitude": lambda image: {
        "east": image[1:-1, 2:], "west": image[1:-1, :-2],
        "south": image[2:, 1:-1], "north": image[:-2, 1:-1],
    },
    "nine_point_laplacian": lambda u: {
        "nw": u[:-2, :-2], "n": u[:-2, 1:-1], "ne": u[:-2, 2:],
        "w": u[1:-1, :-2], "c": u[1:-1, 1:-1], "e": u[1:-1, 2:],
        "sw": u[2:, :-2], "s": u[2:, 1:-1], "se": u[2:, 2:],
    },
    "heat_3d": lambda u, rate: {
        "a": u[:-2, 1:-1, 1:-1], "b": u[2:, 1:-1, 1:-1], "c": u[1:-1, 1:-1, 1:-1],
        "n": u[1:-1, :-2, 1:-1], "s": u[1:-1, 2:, 1:-1],
        "w": u[1:-1, 1:-1, :-2], "e": u[1:-1, 1:-1, 2:],
    },
    "transpose_add": lambda x: {"t": x.T},
    "downsample": lambda x: {
        "a": x[::2, ::2], "b": x[::2, 1::2], "c": x[1::2, ::2], "d": x[1::2, 1::2],
    },
}  # fmt: skip

#: What is left to do with a sum.
FINISH: dict[str, Callable[..., Any]] = {
    "norm": lambda total, x: np.sqrt(total),
    "mse": lambda total, x, y: total / x.size,
}


def numbers_as_names(text: str, dtype: np.dtype) -> tuple[str, dict[str, Any]]:
    """The expression with names for its fractional literals, and their values in the dtype.

    A literal alone is float64 to numexpr and takes the arithmetic with it.

    >>> import numpy as np
    >>> numbers_as_names("0.5 * x + 2", np.dtype("f4"))
    ('k0 * x + 2', {'k0': np.float32(0.5)})
    """
    found: dict[str, str] = {}
    pattern = re.compile(r"\b\d+\.\d+\b")
    named = pattern.sub(lambda m: found.setdefault(m.group(), f"k{len(found)}"), text)
    return named, {name: dtype.type(literal) for literal, name in found.items()}


def call(name: str, args: tuple[Any, ...]) -> Callable[[], Any]:
    """A function without arguments that has numexpr compute the kernel for these arguments."""
    import numexpr

    dtype = next(a.dtype for a in args if isinstance(a, np.ndarray))
    weak = {
        n: dtype.type(a) if isinstance(a, float) else a
        for n, a in zip(kernels.get(name).inputs, args)
    }
    text, constants = numbers_as_names(EXPRESSIONS[name], dtype)
    *steps, last = text.splitlines()
    pairs = [step.split(" = ", 1) for step in steps]
    several = re.fullmatch(r"\w+(, \w+)+", last)

    def run() -> Any:
        scope = {**constants, **weak, **VIEWS.get(name, lambda *_: {})(*args)}
        for target, expression in pairs:
            scope[target] = numexpr.evaluate(expression, scope, {})
        if several:
            return tuple(scope[n] for n in last.split(", "))
        result = numexpr.evaluate(last, scope, {})
        return FINISH[name](result, *args) if name in FINISH else result

    return run


def difference(name: str, size: str, dtype: str) -> str:
    """How far numexpr is from the kernel's own function, or '' when all is within bounds.

    Relative to the largest value, ten times what the kernel allows fusec.
    """
    kernel = kernels.get(name)
    args = kernel.args(size, dtype)
    got, want = call(name, args)(), kernel.function(*args)
    for g, w in zip(got, want) if isinstance(want, tuple) else [(got, want)]:
        if (g.shape, g.dtype) != (w.shape, w.dtype):
            return f"{g.dtype}{g.shape} for {w.dtype}{w.shape}"
        error = float(np.max(np.abs(g - w)) / np.max(np.abs(w)))
        if not error <= 10 * kernel.rtol[dtype]:
            return f"off by {error:.2g} of the largest value"
    return ""


def main(names: list[str]) -> int:
    """Check expressions at two sizes and print what is wrong."""
    failed = 0
    for name in names or EXPRESSIONS:
        found = [
            f"{size} {dtype}: {problem}"
            for size in "SM" for dtype in kernels.DTYPES
            if (problem := difference(name, size, dtype))
        ]  # fmt: skip
        failed += bool(found)
        print(f"{name:24} {'; '.join(found) or 'ok'}")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
