"""What `overhead` measures, in a process of its own: ``python -m benchmarks.overhead_child``.

Arguments: a contender, a measure, and the monotonic time at which the process was started. The
figures go to the standard output as JSON. Only the contender is imported.
"""

from __future__ import annotations

import json
import resource
import sys
import time

started = float(sys.argv[3]) if len(sys.argv) > 3 else 0.0
import_start = time.perf_counter()

import types  # noqa: E402
from collections.abc import Callable  # noqa: E402
from typing import Any  # noqa: E402

import numpy as np  # noqa: E402

numpy_seconds = time.perf_counter() - import_start
LENGTHS = range(1000, 1020)
CHAIN = 2500
ROUNDS, CALLS = 15, 20_000
SHORT, LONG = 40_000, 400_000


def five_operations(x):  # type: ignore[no-untyped-def]
    return np.sqrt(x * x + 1) * 2 - x


def three_operations(x):  # type: ignore[no-untyped-def]
    return (x * 2 + 1) / x


def gelu(x):  # type: ignore[no-untyped-def]
    return 0.5 * x * (1 + np.tanh(0.79788456 * (x + 0.044715 * x * x * x)))


def black_scholes(spot, strike, years):  # type: ignore[no-untyped-def]
    """A call's price with the normal distribution of Abramowitz and Stegun, formula 26.2.17."""
    spread = 0.3 * np.sqrt(years)
    d1 = (np.log(spot / strike) + 0.065 * years) / spread
    d2 = d1 - spread
    t1, t2 = 1 / (1 + 0.2316419 * np.abs(d1)), 1 / (1 + 0.2316419 * np.abs(d2))
    upper1 = 0.3989423 * np.exp(-0.5 * d1 * d1) * t1 * (0.3193815 + t1 * (
        -0.3565638 + t1 * (1.781478 + t1 * (-1.821256 + t1 * 1.330274))))
    upper2 = 0.3989423 * np.exp(-0.5 * d2 * d2) * t2 * (0.3193815 + t2 * (
        -0.3565638 + t2 * (1.781478 + t2 * (-1.821256 + t2 * 1.330274))))
    first = np.where(d1 >= 0, 1 - upper1, upper1)
    return spot * first - strike * np.exp(-0.02 * years) * np.where(d2 >= 0, 1 - upper2, upper2)


def one(a):  # type: ignore[no-untyped-def]
    return a * 2 + 1


def two(a, b):  # type: ignore[no-untyped-def]
    return a * 2 + b


def four(a, b, c, d):  # type: ignore[no-untyped-def]
    return a * b + c * d


def bell(x, y):  # type: ignore[no-untyped-def]
    return np.exp(-x * x) * y + np.tanh(y) / (1 + np.abs(x))


def chain(x):  # type: ignore[no-untyped-def]
    for _ in range(CHAIN):
        x = x * 0.999 + 0.001
    return x


def compiler(name: str) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """(decorator, how an array is handed over) of a contender, which is imported here."""
    if name == "fusec":
        import fusec

        return fusec.jit, lambda a: a
    if name == "numba":
        import numba

        return numba.njit(cache=True), lambda a: a
    if name == "torch":
        import torch

        return torch.compile, lambda a: a
    if name == "jax":
        import jax
        import jax.numpy as jnp

        jax.config.update("jax_enable_x64", True)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)

        def decorate(fn: Any) -> Any:
            traced = types.FunctionType(fn.__code__, {**globals(), "np": jnp}, fn.__name__)
            compiled = jax.jit(traced)
            return lambda *args: jax.block_until_ready(compiled(*args))

        return decorate, jnp.asarray
    return lambda fn: fn, lambda a: a


def start(decorate: Any, array: Any, seconds: float) -> dict[str, float]:
    """From the start of the process to the first result, and what it took."""
    result = decorate(five_operations)(array(np.ones(100)))
    float(result[0])
    took = time.monotonic() - started
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"import, ms": seconds * 1e3, "first result, s": took, "memory, MB": memory}


def calls(decorate: Any, array: Any, seconds: float) -> dict[str, float]:
    """A call on arrays of eight elements, in microseconds: the best of several rounds."""
    found = {}
    for fn, count in ((one, 1), (two, 2), (four, 4)):
        compiled = decorate(fn)
        args = [array(np.arange(8.0) + i) for i in range(count)]
        compiled(*args)
        best = float("inf")
        for _ in range(ROUNDS):
            begin = time.perf_counter()
            for _ in range(CALLS):
                compiled(*args)
            best = min(best, (time.perf_counter() - begin) / CALLS)
        found[f"call, {count} arrays of 8, us"] = best * 1e6
    return found


def lengths(decorate: Any, array: Any, seconds: float) -> dict[str, float]:
    """What each new length of one function costs, after the first call."""
    compiled = decorate(bell)
    compiled(array(np.ones(500)), array(np.ones(500)))
    begin = time.perf_counter()
    for n in LENGTHS:
        compiled(array(np.ones(n)), array(np.ones(n)))
    return {"each new length, ms": (time.perf_counter() - begin) / len(LENGTHS) * 1e3}


def compile_times(decorate: Any, array: Any, seconds: float) -> dict[str, float]:
    """The first call of three functions, after another function's first call."""
    x = array(np.linspace(0.1, 1, 1000, dtype="f4"))
    found = {}
    for fn, args in ((five_operations, 1), (three_operations, 1), (gelu, 1), (black_scholes, 3)):
        begin = time.perf_counter()
        decorate(fn)(*[x] * args)
        found[f"compile {fn.__name__}, ms"] = (time.perf_counter() - begin) * 1e3
    del found["compile five_operations, ms"]
    return found


def long_chain(decorate: Any, array: Any, seconds: float) -> dict[str, float]:
    """The first call of a chain of five thousand operations."""
    begin = time.perf_counter()
    decorate(chain)(array(np.linspace(0, 1, 1000)))
    return {"chain of 5,000 operations, s": time.perf_counter() - begin}


def whole_suite(decorate: Any, array: Any, seconds: float) -> dict[str, float]:
    """The first calls of all kernels of the suite that a contender can run, at size S."""
    import kernels
    from benchmarks.contenders import CONTENDERS

    found = {"suite, first calls, s": 0.0, "suite, kernels": 0.0}
    for kernel in kernels.suite():
        args = kernel.args("S", "f4")
        begin = time.perf_counter()
        try:
            CONTENDERS[sys.argv[1]].make(kernel, "cpu")(args)()
        except Exception:  # what a peer can't run is not counted
            continue
        found["suite, first calls, s"] += time.perf_counter() - begin
        found["suite, kernels"] += 1
    if sys.argv[1] == "fusec":
        from fusec.runtime.cache import cache

        found["suite, compiled"] = cache.stats()["compiled"]
    return found


def sharing(decorate: Any, array: Any, seconds: float) -> dict[str, float]:
    """What a second thread costs a short kernel, and how much it helps a long one."""
    import fusec

    compiled, times = decorate(black_scholes), {}
    for size in (SHORT, LONG):
        args = [np.linspace(0.5, 2, size) + k for k in range(3)]
        for threads in (1, 2):
            with fusec.threads(threads):
                compiled(*args)
                times[size, threads] = min(timed(compiled, args) for _ in range(300))
    extra = times[SHORT, 2] - times[SHORT, 1] / 2
    return {
        "two threads: more than half of one's, us": extra * 1e6,
        "two threads: times as fast": times[LONG, 1] / times[LONG, 2],
    }


def timed(call: Any, args: list[Any]) -> float:
    begin = time.perf_counter()
    call(*args)
    return time.perf_counter() - begin


MEASURES = {"start": start, "suite": whole_suite, "threads": sharing, "calls": calls,
            "lengths": lengths, "compile": compile_times, "chain": long_chain}  # fmt: skip

if __name__ == "__main__":
    begin = time.perf_counter()
    prepared = compiler(sys.argv[1])
    figures = MEASURES[sys.argv[2]](*prepared, time.perf_counter() - begin)
    sys.stdout.write(json.dumps(figures))
