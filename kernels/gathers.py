"""Indices that are data: reading and counting in places that only the values tell."""

import numpy as np

from kernels.registry import FLAT, integers, kernel, normal

VOCABULARY = {"S": 50, "M": 1_000, "L": 50_000}
TOKENS = {"S": (4, 16), "M": (8, 200), "L": (32, 1024)}
WIDTH = {"S": 16, "M": 64, "L": 128}
TABLE = {size: (VOCABULARY[size], WIDTH[size]) for size in WIDTH}
POSITIONS = {size: (TOKENS[size][1], WIDTH[size]) for size in WIDTH}
BINS = 256


@kernel(
    name="embedding",
    family="gathers",
    bound="memory",
    inputs={
        "tokens": integers(TOKENS, VOCABULARY),
        "table": normal(TABLE),
        "positions": normal(POSITIONS),
    },
    bytes=lambda tokens, table, positions: (
        tokens.nbytes + positions.nbytes + 2 * tokens.size * table.shape[1] * table.itemsize
    ),
    flops=lambda tokens, table, positions: tokens.size * table.shape[1],
    teaches="rows of a table are read where the tokens say, and used at once",
)
def embedding(tokens, table, positions):
    return table[tokens] + positions


@kernel(
    name="histogram",
    family="gathers",
    bound="arithmetic",
    inputs={"bins": integers(FLAT, BINS)},
    bytes=lambda bins: bins.nbytes + BINS * 8,
    flops=lambda bins: bins.size,
    teaches="counters that several threads need: each has its own, added up at the end",
)
def histogram(bins):
    return np.bincount(bins, minlength=BINS)



