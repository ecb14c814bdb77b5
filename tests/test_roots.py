"""Square roots have every bit, whichever way they are computed."""

import numpy as np
import pytest

import fusec
from fusec.codegen.target import host, offers

ROOT = fusec.jit(np.sqrt)


def _roots_of_unity(square, bits):
    """The odd M below 2**bits with M * M = square modulo 2**bits, for square = 1 modulo 8."""
    m = 1
    for k in range(3, bits):
        if (m * m - square) >> k & 1:
            m += 1 << (k - 1)
    half = 1 << (bits - 1)
    return {n % (1 << bits) for n in (m, -m, m + half, -m + half)}


def _nearest_to_a_middle(most):
    """All float64 in [1, 4) whose roots are nearest to the middle of two floats.

    The middle is M / 2**53 with an odd M, and x = (M * M + k) / 2**106, abs(k) <= most, is a float.
    """
    found = set()
    for low in (0, 1):  # x below 2, which has 52 bits behind the point, or below 4
        unit = 54 + low
        for k in range(-most, most + 1):
            for m in _roots_of_unity(-k, unit) if -k % 8 == 1 else ():
                x, rest = divmod(m * m + k, 1 << unit)
                assert rest == 0
                if 1 << 53 <= m < 1 << 54 and 1 << 52 <= x < 1 << 53:
                    found.add(x * 2.0 ** (low - 52))
    return np.array(sorted(found))


def test_roots_nearest_to_the_middle_of_two_floats():
    x = _nearest_to_a_middle(1023)
    assert len(x) > 300
    for scale in (1.0, 2.0**-800, 2.0**900):
        y = np.resize(x * scale, 2048)
        np.testing.assert_array_equal(ROOT(y), np.sqrt(y))


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("rare", [0, 1, 50])
def test_every_kind_of_number(dtype, rare):
    """rare: one number in so many is special; zeros, subnormals and what is below 0 are."""
    rng, info = np.random.default_rng(rare), np.finfo(dtype)
    with np.errstate(all="ignore"):
        x = rng.integers(0, 1 << 63, 100_003, dtype="i8")
        x = (x >> (64 - info.bits)).astype(f"i{info.bits // 8}").view(dtype)
        x = x[np.isfinite(x)]
        special = [0.0, -0.0, np.inf, -np.inf, np.nan, -1.0, -1e-30, info.tiny / 8, info.tiny,
                   info.max, info.eps, -info.tiny / 4]  # fmt: skip
        if rare:
            x[::rare] = np.resize(np.array(special, dtype), len(x[::rare]))
        for y in (x, x[1:], x[:50000].reshape(-1, 50).T, x[:13]):
            found, wanted = ROOT(y), np.sqrt(y)
            assert found.dtype == wanted.dtype
            np.testing.assert_array_equal(found, wanted)
            zero = wanted == 0
            np.testing.assert_array_equal(np.signbit(found[zero]), np.signbit(wanted[zero]))


def test_where_the_instruction_is_slow_it_is_not_used_in_vectors():
    (kernel,) = ROOT.lower(fusec.ShapeDtype((10_000,), "f8")).compile().kernels
    slow = offers(host().triple, "avx512f", "avx512vl") and not host().cpu.startswith("znver")
    assert ("vrsqrt14pd" in kernel.asm) == slow
