"""Computes every polynomial of ``fusec.codegen.mathlib`` and writes its table of coefficients.

Each row of ``FITS`` names a function, an interval and a weight. The polynomial is the weighted
minimax one (Remez exchange on a fine Chebyshev grid, in 50-digit arithmetic) of the least degree
whose error is below the row's target, rounded to the dtype.

    python benchmarks/math_coefficients.py                 # prints degrees and errors
    python benchmarks/math_coefficients.py --write         # rewrites coefficients.py
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import mpmath as mp
import numpy as np

mp.mp.dps = 50
OUT = Path(__file__).parent.parent / "fusec" / "codegen" / "mathlib" / "coefficients.py"
DTYPES = {"f32": np.float32, "f64": np.float64}


class Fit(NamedTuple):
    """``max |weight(x) * (p(x) - f(x))| <= 2**-bits`` over [lo, hi], per dtype that needs it."""

    f: Callable
    lo: float
    hi: float
    weight: Callable
    bits: tuple[float | None, float | None]


def _odd(f: Callable, lead: float = 1) -> Callable:
    """g with f(x) = lead*x + x**3 * g(x**2)."""

    def g(z: mp.mpf) -> mp.mpf:
        z = z or mp.mpf(10) ** -20
        with mp.workdps(100):
            x = mp.sqrt(z)
            return (f(x) - lead * x) / (x * z)

    return g


def _odd_weight(f: Callable) -> Callable:
    """Error of x**3 * g(x**2) relative to f(x)."""
    return lambda z: z * mp.sqrt(z) / f(mp.sqrt(z)) if z else mp.mpf(0)


def _precise(f: Callable) -> Callable:
    def g(x: mp.mpf) -> mp.mpf:
        with mp.workdps(100):
            return f(x or mp.mpf(10) ** -20)

    return g


def _log2_tail(z: mp.mpf) -> mp.mpf:
    """q with log2((1+s)/(1-s)) = 2/ln2 * (s + s**3/3) + s**5 * q(s**2)."""
    s = mp.sqrt(z)
    return (2 * (mp.atanh(s) - s - s**3 / 3) / mp.log(2)) / s**5


_LN2_2 = 0.3467  # half of ln 2, and a little for the rounding of the quotient
FITS = {
    "exp": Fit(
        _precise(lambda r: (mp.expm1(r) - r) / r**2), -_LN2_2, _LN2_2, lambda r: abs(r), (25.5, 55)
    ),
    "log": Fit(
        _precise(lambda f: (mp.log1p(f) - f + f * f / 2) / f**3),
        -0.25, 0.5,
        lambda f: f**3 / mp.log1p(f) if f else mp.mpf(0), (26.5, None),
    ),
    "log_ratio": Fit(
        _odd(lambda s: 2 * mp.atanh(s), 2),
        0, 0.04, _odd_weight(lambda s: 2 * mp.atanh(s)), (None, 55.5),
    ),
    "log2_tail": Fit(
        _precise(_log2_tail), 0, 0.04, lambda z: z * z, (35, 64.5)
    ),
    "sin": Fit(_odd(mp.sin), 0, 2.48, _odd_weight(mp.sin), (26.5, 56)),
    "sin_quarter": Fit(_odd(mp.sin), 0, 0.62, _odd_weight(mp.sin), (27, 57)),
    "cos_quarter": Fit(
        _precise(lambda z: (mp.cos(mp.sqrt(z)) - 1 + z / 2) / z**2),
        0, 0.62, lambda z: z * z, (27, 57),
    ),
    "asin": Fit(_odd(mp.asin), 0, 0.25, _odd_weight(mp.asin), (27, 56)),
    "atan": Fit(_odd(mp.atan), 0, 1, _odd_weight(mp.atan), (26.5, 55.5)),
    "tanh": Fit(_odd(mp.tanh), 0, 0.3001**2, _odd_weight(mp.tanh), (26, 56)),
    "sinh": Fit(_odd(mp.sinh), 0, 1, _odd_weight(mp.sinh), (27, 56)),
    "erf": Fit(
        _precise(lambda z: mp.erf(mp.sqrt(z)) / mp.sqrt(z) - 1),
        0, 1, lambda z: 1 / (1 + mp.mpf(1) / 8), (26.5, 56),
    ),
    "erf_tail": Fit(
        lambda x: (mp.log(mp.erfc(x)) + x * x) / x,
        1, 6, lambda x: x * mp.erfc(x), (26, 55),
    ),
}


def remez(fit: Fit, degree: int, grid: int) -> tuple[list[mp.mpf], mp.mpf]:
    """The weighted minimax polynomial on a Chebyshev grid, and its error."""
    xs, fs, ws = _sampled(fit, grid)
    half, mid = (mp.mpf(fit.hi) - fit.lo) / 2, (mp.mpf(fit.hi) + fit.lo) / 2
    keep = [i for i, w in enumerate(ws) if w != 0]
    ends = np.rint(np.linspace(0, len(keep) - 1, degree + 2)).astype(int)
    picks = [keep[i] for i in ends]
    for _ in range(30):
        coefficients, level = _level(xs, fs, ws, picks, degree, mid, half)
        errors = [
            w * (mp.polyval(coefficients[::-1], (x - mid) / half) - f)
            for x, f, w in zip(xs, fs, ws)
        ]
        worst = max(abs(e) for e in errors)
        if worst <= abs(level) * mp.mpf("1.01"):
            break
        picks = _alternation(errors, degree + 2)
    return _expanded(coefficients, mid, half), worst


_samples: dict = {}


def _sampled(fit: Fit, grid: int) -> tuple[list, list, list]:
    if (id(fit), grid) not in _samples:
        half, mid = (mp.mpf(fit.hi) - fit.lo) / 2, (mp.mpf(fit.hi) + fit.lo) / 2
        xs = [mid - half * mp.cos(mp.pi * i / (grid - 1)) for i in range(grid)]
        _samples[id(fit), grid] = xs, [fit.f(x) for x in xs], [mp.mpf(fit.weight(x)) for x in xs]
    return _samples[id(fit), grid]


def _level(
    xs: list, fs: list, ws: list, picks: list[int], degree: int, mid: mp.mpf, half: mp.mpf
) -> tuple[list, mp.mpf]:
    """Polynomial (in the variable scaled to [-1, 1]) with equal, alternating error at picks."""
    n = degree + 2
    a, b = mp.matrix(n, n), mp.matrix(n, 1)
    for row, i in enumerate(picks):
        t = (xs[i] - mid) / half
        for k in range(degree + 1):
            a[row, k] = t**k
        a[row, n - 1] = (-1) ** row / ws[i]
        b[row] = fs[i]
    solved = mp.lu_solve(a, b)
    return list(solved[: n - 1]), solved[n - 1]


def _alternation(errors: list[mp.mpf], count: int) -> list[int]:
    """Indices of the largest error in each run of one sign, trimmed to ``count`` of them."""
    peaks: list[int] = []
    for i, e in enumerate(errors):
        if e == 0:
            continue
        if peaks and (errors[peaks[-1]] > 0) == (e > 0):
            if abs(e) > abs(errors[peaks[-1]]):
                peaks[-1] = i
        else:
            peaks.append(i)
    while len(peaks) > count:
        drop = 0 if abs(errors[peaks[0]]) < abs(errors[peaks[-1]]) else -1
        peaks.pop(drop)
    if len(peaks) < count:
        raise ArithmeticError("too few alternations: raise the grid")
    return peaks


def _expanded(scaled: list[mp.mpf], mid: mp.mpf, half: mp.mpf) -> list[mp.mpf]:
    """Coefficients in x of a polynomial given in (x - mid) / half."""
    out = [mp.mpf(0)]
    for c in reversed(scaled):
        shifted = [mp.mpf(0), *out]
        out = [(s - mid * o) / half for s, o in zip(shifted, [*out, mp.mpf(0)])]
        out[0] += c
    return out[: len(scaled)]


def least_degree(fit: Fit, bits: float) -> tuple[list[mp.mpf], float]:
    """Coefficients of the first degree that reaches ``bits``, and the bits reached."""
    for degree in range(1, 32):
        coefficients, error = remez(fit, degree, 800)
        reached = -float(mp.log(error, 2))
        if reached >= bits:
            return coefficients, reached
    raise ArithmeticError(f"no degree reaches {bits} bits")


def tables() -> dict[str, dict[str, list[float]]]:
    """name -> dtype -> coefficients, lowest power first."""
    out: dict[str, dict[str, list[float]]] = {}
    for name, fit in FITS.items():
        out[name] = {}
        for (label, dtype), bits in zip(DTYPES.items(), fit.bits):
            if bits is None:
                continue
            exact, reached = least_degree(fit, bits)
            out[name][label] = [float(dtype(mp.nstr(c, 25))) for c in exact]
            print(f"{name:13} {label} degree {len(exact) - 1:2}  2^-{reached:.1f}", flush=True)
    return out


def _parts(value: mp.mpf, dtype: type, count: int, below: bool = False) -> tuple[float, ...]:
    """Numbers of the dtype, largest first, whose sum is the value to ``count`` precisions.

    below: the first one is at most the value, so that an infinity times the two has one sign.
    """
    first = dtype(mp.nstr(value, 30))
    if below and mp.mpf(float(first)) > value:
        first = np.nextafter(first, dtype(0))
    out = [float(first)]
    for _ in range(1, count):
        out.append(float(dtype(mp.nstr(value - sum(map(mp.mpf, out)), 30))))
    return tuple(out)


def constants() -> dict[str, dict[str, tuple[float, ...]]]:
    """name -> dtype -> parts of a constant, each the nearest to what is left."""
    ln2 = mp.log(2)
    exact = {
        "pi": mp.pi, "1/pi": 1 / mp.pi, "ln2": ln2, "log2(e)": 1 / ln2,
        "log10(e)": 1 / mp.log(10), "log10(2) below": mp.log10(2), "ln2 below": ln2,
        "2/ln2": 2 / ln2, "2/(3 ln2)": 2 / (3 * ln2),
    }
    return {
        name: {
            label: _parts(+value, dtype, 3, name.endswith(" below"))
            for label, dtype in DTYPES.items()
        }
        for name, value in exact.items()
    }


def inverse_pi_words(count: int = 20) -> list[int]:
    """64 zero bits, then the binary digits of 1/pi, in 64-bit words."""
    with mp.workdps(64 * count // 3):
        digits = int(mp.floor(mp.ldexp(1 / mp.pi, 64 * count)))
    return [0] + [(digits >> 64 * (count - 1 - i)) & (2**64 - 1) for i in range(count)]


HEADER = '''"""Minimax polynomials, lowest power first: written by benchmarks/math_coefficients.py.

Never edited by hand. ``POLYNOMIALS[name][dtype]`` holds values that are exact in the dtype,
``CONSTANTS[name][dtype]`` three numbers of the dtype that add up to the constant, and
``INVERSE_PI`` 64 zero bits and the binary digits of 1/pi.
"""

POLYNOMIALS: dict[str, dict[str, tuple[float, ...]]] = {
'''


def text(all_tables: dict[str, dict[str, list[float]]]) -> str:
    """The module's source."""
    out = [HEADER]
    for name, by_dtype in all_tables.items():
        out.append(f'    "{name}": {{\n')
        for label, values in by_dtype.items():
            rows = "".join(f"            {v!r},\n" for v in values)
            out.append(f'        "{label}": (\n{rows}        ),\n')
        out.append("    },\n")
    out.append("}\n\nCONSTANTS: dict[str, dict[str, tuple[float, ...]]] = {\n")
    for name, parts in constants().items():
        rows = "".join(f'        "{label}": {values!r},\n' for label, values in parts.items())
        out.append(f'    "{name}": {{\n{rows}    }},\n')
    words = "".join(f"    0x{word:016X},\n" for word in inverse_pi_words())
    out.append(f"}}\n\nINVERSE_PI = (\n{words})\n")
    return "".join(out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    result = tables()
    if arguments.write:
        OUT.write_text(text(result))
