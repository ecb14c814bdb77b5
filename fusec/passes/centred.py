"""Variances and covariances of what no fast cache holds, from one reading of it.

``sum((x - m) * (y - n))``, where the mean m needs all of x first, would read x twice. Cut into
blocks that a cache holds it is read once: with a centre of its own for each block, c of x and d of
y, what its k elements add is ::

    sum((x - c) * (y - d)) + (c - m) * (sum(y - d) + k/2 * (d - n))
                           + (d - n) * (sum(x - c) + k/2 * (c - m))

for any four numbers. With the means of the block, which are rounded, the sums of ``x - c`` and
``y - d`` are nearly 0, and nothing large cancels: this is as exact as two passes over all (Chan,
Golub and LeVeque, "Algorithms for computing the sample variance", The American Statistician 37,
1983). The sums behind the means are those of the blocks.

A block is a piece of a row, or several rows that follow one another. Columns stay as they are: what
their sums store and read again takes as long as the second reading.
"""

import math
from collections.abc import Iterator
from functools import reduce
from typing import NamedTuple

from fusec.ir.graph import Graph, Node, toposort
from fusec.passes.nodes import const_of, node_of, spread

FAR = 2 << 20  # bytes of an array that is worth it; smaller ones are read twice from a fast cache
SIZES = range(256, 4097)  # elements of a block


class Cut(NamedTuple):
    """Blocks along an axis. rows: of a block; a shorter one is left over where they don't fit."""

    axis: int
    rows: int


def centred(graph: Graph) -> Graph:
    """Sums of products of centred arrays, by blocks. Assumes CSE has run."""
    order = graph.nodes()
    sums = {(n.inputs[0], n.attrs["axes"]): n for n in order if n.op.name == "reduce_sum"}
    cuts: dict[Node, Cut] = {}  # of the products, and of the sums that their centres need
    for node in order:
        pairs = [(m, sums.get((x, node.attrs["axes"]))) for x, m in _factors(node)]
        totals = [total for m, total in pairs if total is not None and _follows(m, total)]
        cut = _cut(node) if pairs and len(totals) == len(pairs) else None
        if cut:
            cuts.update(dict.fromkeys([node, *totals], cut))
    if not cuts:
        return graph
    done: dict[Node, Node] = {}
    for node in order:
        inputs = tuple([done[i] for i in node.inputs])
        same = all(a is b for a, b in zip(inputs, node.inputs))
        done[node] = new = node if same else node.replace(inputs)
        if node in cuts:
            done[node] = _by_blocks(new, cuts[node])
            for made in toposort([done[node]], known={*inputs}):
                made.loc = made.loc or node.loc
    outputs, checks = ([done[n] for n in found] for found in (graph.outputs, graph.checks))
    return Graph(graph.params, outputs, checks)


def _follows(m: Node, total: Node) -> bool:
    """Whether a centre is a sum but for a factor: then it is finite only if all elements are."""
    found = {total}
    for node in toposort([m], known={total}):
        through = {"reshape": 1, "broadcast_to": 1, "divide": 1, "multiply": 2}.get(node.op.name, 0)
        found |= {node} if found & {*node.inputs[:through]} else set()
    return m in found


def _factors(node: Node) -> list[tuple[Node, Node]]:
    """Of a sum of products of two centred arrays, or squares of one: the arrays and centres."""
    if node.op.name != "reduce_sum" or node.dtype.kind != "f":
        return []
    product, axes = node.inputs[0], node.attrs["axes"]
    if product.op.name not in ("multiply", "square"):
        return []
    found: list[tuple[Node, Node]] = []
    for factor in product.inputs:
        if factor.op.name != "subtract" or factor.dtype != node.dtype:
            return []
        x, m = factor.inputs
        while m.op.name == "broadcast_to":
            m = m.inputs[0]
        full = x.shape == product.shape and x.dtype == m.dtype == node.dtype
        if not full or any(_aligned(m, x)[k] != 1 for k in axes):
            return []
        found.append((x, m))
    return list(dict.fromkeys(found))


def _aligned(m: Node, x: Node) -> tuple[int, ...]:
    """The shape of ``m`` with as many axes as ``x`` has."""
    return (1,) * (x.aval.ndim - m.aval.ndim) + m.shape


def _cut(node: Node) -> Cut | None:
    """How the input of a sum is cut; None where a cache holds it, or all that one result needs."""
    x, axes = node.inputs[0], node.attrs["axes"]
    if x.aval.size * x.dtype.itemsize < FAR:
        return None
    inner = 1
    for axis in range(x.aval.ndim - 1, -1, -1):
        n = x.shape[axis]
        if axis not in axes:
            if n == 1:
                continue
            first = max([k for k in axes if k < axis], default=None)  # rows of blocks
            return Cut(first, 1) if inner in SIZES and first is not None else None
        if inner * n in range(SIZES.stop):
            inner *= n
            continue
        most = max(1, SIZES[-1] // inner)
        whole = [r for r in range(most, 0, -1) if n % r == 0 and inner * r in SIZES]
        return Cut(axis, (whole or [most])[0])
    return None


def _by_blocks(node: Node, cut: Cut) -> Node:
    """A sum over blocks: of products of centred arrays, or of anything else."""
    factors = _factors(node)
    if factors:
        parts = zip(*[_parts(x, cut) for x, _ in factors])
        sums = [_product(list(p), factors, node, cut) for p in parts]
    else:
        sums = [_outer(_inner(p, node, cut), node, cut) for p in _parts(node.inputs[0], cut)]
    return reduce(lambda a, b: node_of("add", a, b), sums)


def _parts(x: Node, cut: Cut) -> Iterator[Node]:
    """The array with an axis for blocks in front of the cut one; what is left over as one block."""
    axis, rows = cut
    n, before, behind = x.shape[axis], x.shape[:axis], x.shape[axis + 1 :]
    for start, blocks, length in ((0, n // rows, rows), (n - n % rows, 1, n % rows)):
        if not length:
            continue
        part = x
        if blocks * length < n:
            first = (*(0,) * axis, start, *(0,) * len(behind))
            shape = (*before, blocks * length, *behind)
            part = node_of("slice", x, start=first, step=(1,) * len(shape), shape=shape)
        yield node_of("reshape", part, shape=(*before, blocks, length, *behind))


def _product(parts: list[Node], factors: list[tuple[Node, Node]], node: Node, cut: Cut) -> Node:
    """The sum over the blocks of one part of the arrays."""
    within = _within(node, cut)
    length = math.prod([parts[0].shape[k] for k in within])
    count = node_of("cast", node_of("dim", value=length), dtype=node.dtype)
    found: list[tuple[Node, Node, Node, Node]] = []  # of a factor: x - c, sum(x - c), c - m, m
    for part, (x, m) in zip(parts, factors):
        centre = node_of("divide", _inner(part, node, cut), count)
        around = tuple([1 if k in within else n for k, n in enumerate(part.shape)])
        apart = node_of("subtract", part, node_of("reshape", centre, shape=around))
        shape = _aligned(m, x)
        shape = (*shape[: cut.axis], 1, *shape[cut.axis :])
        kept = tuple([n for k, n in enumerate(shape) if k not in within])
        middle = node_of("reshape", m, shape=kept)
        off = node_of("subtract", centre, middle)
        found.append((apart, _inner(apart, node, cut), off, middle))
    (apart, left, off, m), (other, right, far, n) = found[0], found[-1]
    half = node_of("multiply", count, const_of(0.5, node.dtype))
    more = [node_of("multiply", a, node_of("add", b, node_of("multiply", half, c)))
            for a, b, c in ((off, right, far), (far, left, off))]  # fmt: skip
    rest = node_of("add", *more)
    finite = node_of("logical_or", node_of("isfinite", off), node_of("isfinite", far))
    most = spread(node_of("multiply", m, n), rest.shape)  # of distances from means that overflow
    rest = node_of("where", finite, rest, most)
    total = _inner(node_of("multiply", apart, other), node, cut)
    return _outer(node_of("add", total, rest), node, cut)


def _within(node: Node, cut: Cut) -> tuple[int, ...]:
    """The axes of a block, of an array that has an axis for blocks."""
    return tuple([k + 1 for k in sorted(node.attrs["axes"]) if k >= cut.axis])


def _inner(x: Node, node: Node, cut: Cut) -> Node:
    return node_of("reduce_sum", x, axes=_within(node, cut))


def _outer(x: Node, node: Node, cut: Cut) -> Node:
    outer = [k for k in sorted(node.attrs["axes"]) if k <= cut.axis]
    return node_of("reduce_sum", x, axes=tuple(outer))
