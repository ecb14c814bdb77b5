"""Arrays that are made number by number: each number is stored where it belongs.

``path[t + 1] = s`` in a loop of Python leaves one update a round. A kernel that goes over ``path``
would ask at each place which update it belongs to: as many branches in each other. What a chain of
updates leaves is a node of all the numbers, which the kernel that computes them stores one after
the other::

    %4: f8[100] = slice_update(%2, %3, start=(1,), step=(1,))
    %6: f8[100] = slice_update(%4, %5, start=(2,), step=(1,))
    ...

    %4: f8[100] = entries(x0, %3, %5, ..., core=(100,))

So are ``np.array([a, b, ...])`` of many numbers, and short rows (``pos[t + 1] = ...``).
"""

from collections.abc import Iterator, Sequence
from itertools import product
from math import prod
from operator import mul

import numpy as np

from fusec.ir.graph import Graph, Node
from fusec.ops.shape import c_strides
from fusec.passes.access import MOVES
from fusec.passes.nodes import const_of, element, node_of, reshaped, scalar, spans, spread

LEAST = 8  # updates; fewer are soon chosen from where the array is read
FILLED = 4  # so many elements of an array that begins as one number are stored for each of ours
MOST = 512  # numbers that one kernel stores: LLVM takes more than twice as long for twice as many
ROW = 16  # elements of rows that may be stored one after the other
PARTS = 64  # of a concatenation; more are put together in two steps, SOME at a time
SOME = 16
Shape = tuple[int, ...]


def numbers_stored(graph: Graph) -> Graph:
    """The same graph with what is made of many numbers, or short rows, as one node of them."""
    order = graph.nodes()
    uses: dict[Node, int] = {}
    for node in [*graph.outputs, *graph.checks, *[i for n in order for i in n.inputs]]:
        uses[node] = uses.get(node, 0) + 1
    chains: dict[Node, list[Node]] = {}  # of updates, by the last of them
    for node in order:
        if node.op.name == "slice_update" and 0 < node.inputs[1].aval.size <= ROW:
            base = node.inputs[0]
            chains[node] = [*(chains.pop(base, []) if uses[base] == 1 else []), node]
    done: dict[Node, Node] = {}
    for node in order:
        inputs = tuple([done[i] for i in node.inputs])
        same = all(a is b for a, b in zip(inputs, node.inputs))
        done[node] = node if same else node.replace(inputs)
        chain = chains.get(node, [])
        found: Node | None = None
        if len(chain) >= LEAST:
            base = done[chain[0].inputs[0]]
            found = _updated(base, [(n, done[n.inputs[1]]) for n in chain])
        elif node.op.name == "concatenate" and len(inputs) >= LEAST:
            found = _joined(done[node]) or _nested(done[node])
        if found is not None:
            done[node] = _located(found, node)
    outputs, checks = ([done[n] for n in found] for found in (graph.outputs, graph.checks))
    return Graph(graph.params, outputs, checks)


def _updated(base: Node, chain: Sequence[tuple[Node, Node]]) -> Node | None:
    """What a chain of updates, each with its value, makes of ``base``; None if they are no rows."""
    rest: Shape = ()
    if not all(_splits(v) for _, v in chain):
        rest = base.shape[1:]
        whole = [range(n) for n in rest]
        if any(v.shape != (1, *rest) or spans(update)[1:] != whole for update, v in chain):
            return None
    lead = base.shape[: base.aval.ndim - len(rest)]
    steps = c_strides(lead, 1)
    values: dict[int, Node] = {}  # by their places among the rows, or numbers, in C order
    for update, value in chain:
        places = [sum(map(mul, at, steps)) for at in product(*spans(update)[: len(lead)])]
        values.update(zip(places, [value] if rest else _numbers(value)))
    known, size = scalar(base), prod(lead)
    if len(values) == size or (known is not None and size <= FILLED * len(values)):
        if len(values) < size:
            fill = spread(const_of(known, base.dtype), rest)
            values = {k: values.get(k, fill) for k in range(size)}
        parts = [reshaped(values[k], rest) for k in range(size)]
        return reshaped(rows_of(parts), base.shape)
    runs = list(_runs(np.array(np.unravel_index(sorted(values), lead)).T))
    if len(runs) * LEAST > len(values):
        return None
    for run in runs:
        parts = [reshaped(values[int(np.ravel_multi_index(at, lead))], rest) for at in run]
        moved = np.maximum(run[-1] - run[0], 1) // max(1, len(run) - 1)
        shape = np.where(run[-1] != run[0], len(run), 1).tolist()
        attrs = {"start": (*run[0].tolist(), *[0] * len(rest)),
                 "step": (*moved.clip(1).tolist(), *[1] * len(rest))}  # fmt: skip
        base = node_of("slice_update", base, reshaped(rows_of(parts), (*shape, *rest)), **attrs)
    return base


def _joined(node: Node) -> Node | None:
    """A concatenation of numbers or of short rows."""
    axis, rest = node.attrs["axis"], node.inputs[0].shape[1:]
    if any(i.shape != (1, *rest) for i in node.inputs) or axis or prod(rest) > ROW:
        return None
    return rows_of([reshaped(i, rest) for i in node.inputs])


def _nested(node: Node) -> Node | None:
    """A concatenation of many parts as one of concatenations: a kernel asks for the part at a place
    by as many branches in each other as there are parts."""
    parts, axis = node.inputs, node.attrs["axis"]
    if len(parts) <= PARTS:
        return None
    some = [parts[k : k + SOME] for k in range(0, len(parts), SOME)]
    joints = [node_of("concatenate", *x, axis=axis) if len(x) > 1 else x[0] for x in some]
    return node_of("concatenate", *joints, axis=axis)


def _splits(value: Node) -> bool:
    """Whether the numbers of a value are there without a kernel that computes all of them."""
    source = value
    while source.op.name in MOVES:
        source = source.inputs[0]
    apart = source.op.name == "concatenate" and all(i.aval.size == 1 for i in source.inputs)
    return value.aval.size == 1 or apart or source.op.name in ("param", "const")


def _numbers(value: Node) -> list[Node]:
    """The elements of a value in C order."""
    return [element(value, place) for place in np.ndindex(value.shape)]


def _runs(places: np.ndarray) -> Iterator[np.ndarray]:
    """Places that follow each other along an axis, all as far from the one before."""
    moves = np.diff(places, axis=0)
    along = (moves >= 0).all(1) & ((moves != 0).sum(1) == 1)
    first = 0
    for k in range(1, len(places)):
        straight = k == first + 1 or (moves[k - 1] == moves[k - 2]).all()
        if not (along[k - 1] and straight):
            yield places[first:k]
            first = k
    yield places[first:]


def rows_of(parts: Sequence[Node]) -> Node:
    """An array of all the parts, which have one shape."""
    count, found = len(parts), list[Node]()
    for k in range(0, count, MOST):
        some = parts[k : k + MOST]
        found.append(node_of("entries", *some, core=(len(some),), first=True))
    return node_of("concatenate", *found, axis=0) if count > MOST else found[0]


def _located(node: Node, like: Node) -> Node:
    """New nodes are found on the line of what they replace."""
    stack = [node]
    while stack:
        new = stack.pop()
        if new.loc is None and new.inputs:
            new.loc = like.loc
            stack += new.inputs
    return node
