"""Stacks of tiny matrices are written out: every entry of a product is a value of its own.

A call of BLAS or LAPACK for each 4 by 4 matrix costs more than its arithmetic, and nothing fuses
with it. ``entries`` is a stack of arrays given by one node for each of their entries; products,
inverses and solutions become such nodes over the batch axes, elementwise ops and movements pass
through, and the kernel stores each entry where it belongs::

    (x @ y)[..., i, j]  ->  x[..., i, 0] * y[..., 0, j] + x[..., i, 1] * y[..., 1, j] + ...

``inv`` and ``solve`` are Gaussian elimination with partial pivoting, as LAPACK's. Where a pivot is
so small (or no number) that LAPACK might meet an exact zero, the kernel reports an error status, so
NumPy itself decides whether the matrix is singular.
"""

import math
from collections.abc import Callable
from itertools import product

import numpy as np

from fusec.ir.graph import Node
from fusec.ops import OPS
from fusec.ops.registry import MEDIUM
from fusec.passes.groups import fusable
from fusec.passes.nodes import const_of, node_of, spread

LONG_BATCH = 16  # matrices; fewer are not worth a kernel of their own
MOST_TERMS = 128  # multiplications of a product that is written out
MOST_ENTRIES = 16
MOST_ROWS = 4  # of a matrix that is inverted, or that many rows are multiplied with
WIDE = np.dtype("f8")

Place = tuple[int, ...]
Table = list[list[Node]]


def _places(core: Place) -> list[Place]:
    return list(product(*map(range, core)))


def _batch(node: Node) -> Place:
    """The shape of an ``entries`` node without that of its entries' places."""
    return node.shape[: node.aval.ndim - len(node.attrs["core"])]


def _entries(parts: list[Node], batch: Place, core: Place) -> Node:
    if not core:
        return spread(parts[0], batch)
    return node_of("entries", *[spread(p, batch) for p in parts], core=core)


def _entry(x: Node, place: Place) -> Node:
    """``x[..., *place]``; axes of length 1 are broadcast, and those that ``x`` lacks."""
    place = place[max(0, len(place) - x.aval.ndim) :]
    kept, own = x.shape[: x.aval.ndim - len(place)], x.shape[x.aval.ndim - len(place) :]
    place = tuple([0 if n == 1 else k for k, n in zip(place, own)])
    if x.op.name == "entries" and x.attrs["core"] == own:
        return x.inputs[_places(own).index(place)]
    part = node_of(
        "slice", x, start=(0,) * len(kept) + place, step=(1,) * x.aval.ndim,
        shape=kept + (1,) * len(place),
    )  # fmt: skip
    return node_of("reshape", part, shape=kept)


def _table(x: Node) -> Table:
    return [[_entry(x, (i, j)) for j in range(x.shape[-1])] for i in range(x.shape[-2])]


# -- products -------------------------------------------------------------------------------------


def tiny_product(node: Node) -> Node | None:
    """A stack of products of tiny matrices, or many rows or columns times one tiny matrix."""
    x, y = node.inputs
    (m, k), n = x.shape[-2:], y.shape[-1]
    if node.aval.size == 0 or k == 0 or not _computable(node):
        return None
    core: Place = (m, n)
    few = m * k * n <= MOST_TERMS and m * n <= MOST_ENTRIES
    if not few or math.prod(node.shape[:-2]) < LONG_BATCH:
        if node.dtype.kind == "c":
            return None
        if len(node.shape) == 2 and n >= LONG_BATCH and max(m, k) <= MOST_ROWS:
            return _wide_product(x, y)
        many = math.prod(y.shape[:-2]) == 1 and math.prod(node.shape[:-1]) >= LONG_BATCH
        if not many or max(k, n) > MOST_ROWS:
            return None
        core = (n,)
    batch = node.shape[: len(node.shape) - len(core)]
    rows = _table(x) if len(core) == 2 else [[_entry(x, (j,)) for j in range(k)]]
    right = _table(y)
    parts = [_sum_of_products(row, [r[j] for r in right]) for row in rows for j in range(n)]
    return _entries(parts, batch, core)


def _wide_product(x: Node, y: Node) -> Node:
    """A tiny matrix times many columns: a row for each of its own."""
    turned = node_of("transpose", y, perm=(1, 0))
    column = [_entry(turned, (j,)) for j in range(y.shape[0])]
    rows = [_sum_of_products(row, column) for row in _table(x)]
    return node_of("concatenate", *[_row(r) for r in rows], axis=0)


def _row(x: Node) -> Node:
    return node_of("reshape", x, shape=(1, *x.shape))


def _computable(node: Node) -> bool:
    kinds = [i.dtype for i in node.inputs]
    return fusable(node_of("multiply", *[const_of(0, d) for d in kinds])) and kinds[0] == kinds[1]


def _sum_of_products(row: list[Node], column: list[Node]) -> Node:
    total = node_of("multiply", row[0], column[0])
    for a, b in zip(row[1:], column[1:]):
        total = node_of("multiply_add", a, b, total)
    return total


# -- what passes through --------------------------------------------------------------------------


def through_elementwise(node: Node) -> Node | None:
    """An op on entries is an op on each of them."""
    if node.op.cost > MEDIUM or not fusable(node):
        return None
    for x in node.inputs:
        if x.op.name != "entries" or x.aval.ndim != node.aval.ndim:
            continue
        batch, core = _batch(x), node.shape[len(_batch(x)) :]
        if node.shape[: len(batch)] == batch and math.prod(core) <= MOST_ENTRIES:
            parts = [
                node_of(OPS[node.op.name], *[_entry(i, at) for i in node.inputs], **node.attrs)
                for at in _places(core)
            ]
            return _entries(parts, batch, core)
    return None


def through_reshape(node: Node) -> Node | None:
    """A reshape that keeps the batch axes."""
    x = node.inputs[0]
    if x.op.name != "entries" or node.shape[: len(_batch(x))] != _batch(x):
        return None
    return _entries(list(x.inputs), _batch(x), node.shape[len(_batch(x)) :])


def through_move(node: Node) -> Node | None:
    """Any other movement of the entries of each matrix among themselves."""
    x = node.inputs[0]
    if x.op.name != "entries":
        return None
    batch, core = _batch(x), x.attrs["core"]
    b, attrs = len(batch), dict(node.attrs)
    if node.aval.ndim != x.aval.ndim or node.shape[:b] != batch:
        return None
    if node.op.name == "transpose" and attrs["perm"][:b] != tuple(range(b)):
        return None
    if node.op.name == "slice" and any(s != 1 for s in attrs["step"][:b]):
        return None
    numbers = np.arange(len(x.inputs)).reshape((1,) * b + core)
    for name in ("shape", "start"):
        if name in attrs:
            attrs[name] = (1 if name == "shape" else 0,) * b + attrs[name][b:]
    moved = node.op.impl(numbers, **attrs)
    if moved.size > MOST_ENTRIES:
        return None
    return _entries([x.inputs[k] for k in moved.ravel()], batch, moved.shape[b:])


# -- elimination ----------------------------------------------------------------------------------


def tiny_system(node: Node) -> Node | None:
    """``np.linalg.inv``, ``solve`` and ``det`` of a stack of tiny matrices."""
    if node.inputs[0].op.name != "host_call":
        return None
    call, inputs = node.inputs[0].attrs["call"], node.inputs[0].inputs
    rule, count = SYSTEMS.get(call.source, (None, 0))
    if rule is None or any(i.dtype.kind not in "biuf" or i.dtype.itemsize > 8 for i in inputs):
        return None
    args, kwargs = call.arguments(inputs)
    plain = len(args) == count and all(x is i for x, i in zip(args, inputs))
    if kwargs or not plain:
        return None
    a = inputs[0]
    tiny = 0 < a.shape[-1] <= MOST_ROWS
    if math.prod(a.shape[:-2]) < LONG_BATCH or not node.aval.size or not tiny:
        return None
    made = rule(*inputs)
    if made is None or made.op.name != "entries":
        return made and _cast(made, node.dtype)
    parts = [_cast(p, node.dtype) for p in made.inputs]
    return _entries(parts, _batch(made), made.attrs["core"])


def _wide(x: Node) -> Table:
    """NumPy computes in float64, whatever the dtype."""
    table = _table(x) if x.aval.ndim > 1 else [[_entry(x, (i,))] for i in range(x.shape[0])]
    return [[_cast(p, WIDE) for p in row] for row in table]


def _cast(x: Node, dtype: np.dtype) -> Node:
    return x if x.dtype == dtype else node_of("cast", x, dtype=dtype)


def _inverse(a: Node) -> Node:
    """Columns of ``inverse(P @ a) @ P``: the ones and zeros of the right side stay where they are.

    P holds the exchanges of rows, which are exchanges of the columns of the result.
    """
    n = a.shape[-1]
    rows, swaps = _eliminated(_wide(a))
    columns = []
    for j in range(n):
        y: list[Node | None] = [None] * j + [const_of(1, WIDE)]
        for i in range(j + 1, n):
            y.append(node_of("negative", rows[i][j]))
            for m in range(j + 1, i):
                y[i] = _less(y[i], rows[i][m], y[m])
        columns.append(_back_substituted(rows, y))
    for k, i, larger in reversed(swaps):
        columns[k], columns[i] = _exchanged(larger, columns[k], columns[i])
    parts = [columns[j][i] for i in range(n) for j in range(n)]
    return _entries(parts, a.shape[:-2], (n, n))


def _solution(a: Node, b: Node) -> Node | None:
    """Rows of ``a`` with the right sides behind them are eliminated together."""
    n, single = a.shape[-1], b.aval.ndim == 1
    count = 1 if single else b.shape[-1]
    if n * count > MOST_ENTRIES or not count:
        return None
    rows, _ = _eliminated([x + y for x, y in zip(_wide(a), _wide(b))])
    columns = [_back_substituted(rows, [r[n + j] for r in rows]) for j in range(count)]
    batch = a.shape[:-2] if single else np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    parts = [columns[j][i] for i in range(n) for j in range(count)]
    return _entries(parts, batch, (n,) if single else (n, count))


def _determinant(a: Node) -> Node:
    """The pivots' product, with the sign of the exchanges."""
    rows, swaps = _eliminated(_wide(a))
    total = rows[-1][a.shape[-1] - 1]
    for k in range(a.shape[-1] - 1):
        total = node_of("multiply", total, rows[k][k])
    for _, _, larger in swaps:
        total = node_of("where", larger, node_of("negative", total), total)
    size = node_of("absolute", total)
    info = np.finfo(WIDE)  # NumPy takes the exponential of a sum of logarithms
    inside = node_of("logical_and", *[node_of("greater", p, q) for p, q in (
        (size, const_of(info.tiny, WIDE)), (const_of(info.max, WIDE), size))])
    return node_of("check", total, inside)


def _eliminated(rows: Table) -> tuple[Table, list[tuple[int, int, Node]]]:
    """Rows whose upper triangle is U, with the factors below, and the exchanges on the way.

    The last pivot, on which all that follows depends, checks all pivots.
    """
    n, swaps, rows = len(rows), [], list(rows)
    limits = [_limit([r[k] for r in rows]) for k in range(n)]
    for k in range(n):
        for i in range(k + 1, n):
            sizes = [node_of("absolute", rows[m][k]) for m in (i, k)]
            larger = node_of("greater", *sizes)
            rows[k], rows[i] = _exchanged(larger, rows[k], rows[i])
            swaps.append((k, i, larger))
        for i in range(k + 1, n):
            factor = node_of("divide", rows[i][k], rows[k][k])
            behind = [_less(q, factor, p) for p, q in zip(rows[k][k + 1 :], rows[i][k + 1 :])]
            rows[i] = [*rows[i][:k], factor, *behind]
    fine = [node_of("greater", node_of("absolute", rows[k][k]), limits[k]) for k in range(n)]
    all_fine = fine[0]
    for one in fine[1:]:
        all_fine = node_of("logical_and", all_fine, one)
    last = rows[-1]
    rows[-1] = [*last[: n - 1], node_of("check", last[n - 1], all_fine), *last[n:]]
    return rows, swaps


def _limit(column: list[Node]) -> Node:
    """Below this a pivot may be nothing but rounding errors of its column."""
    largest = node_of("absolute", column[0])
    for x in column[1:]:
        largest = node_of("maximum", largest, node_of("absolute", x))
    part = 16 * len(column) * np.finfo(WIDE).eps
    return node_of("multiply", largest, const_of(part, WIDE))


def _exchanged(swap: Node, x: list[Node], y: list[Node]) -> tuple[list[Node], list[Node]]:
    return (
        [node_of("where", swap, q, p) for p, q in zip(x, y)],
        [node_of("where", swap, p, q) for p, q in zip(x, y)],
    )


def _less(total: Node | None, a: Node, b: Node | None) -> Node:
    """``total - a * b``, where None is an exact zero."""
    assert b is not None
    a = node_of("negative", a)
    return node_of("multiply", a, b) if total is None else node_of("multiply_add", a, b, total)


def _back_substituted(rows: Table, y: "list[Node | None] | list[Node]") -> list[Node]:
    n = len(rows)
    found: list[Node] = []
    for i in reversed(range(n)):
        total = y[i]
        for k, x in zip(range(n - 1, i, -1), found):
            total = _less(total, rows[i][k], x)
        assert total is not None
        found.append(node_of("divide", total, rows[i][i]))
    return found[::-1]


SYSTEMS: dict[object, tuple[Callable[..., Node | None], int]] = {
    np.linalg.inv: (_inverse, 1), np.linalg.solve: (_solution, 2), np.linalg.det: (_determinant, 1),
}  # fmt: skip
TINY = {
    "matmul": [tiny_product],
    "host_out": [tiny_system],
    "reshape": [through_reshape],
    "transpose": [through_move],
    "slice": [through_move],
    "broadcast_to": [through_move],
    **{name: [through_elementwise] for name, op in OPS.items() if op.family == "elementwise"},
}
