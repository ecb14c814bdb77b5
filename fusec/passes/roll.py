"""Loops of Python, found again in the graph that they left.

``for _ in range(1000): u = step(u)`` is traced as a thousand copies of the step, which all later
passes, the program and every call would go through. Where the same nodes repeat, each on the same
values as the round before or on what one of the last rounds gave, they become one node whose body
is a round::

    %9: V[1] = loop(%3, k, loop=992 rounds)
      graph(s0: f8[64], k: f8[64]):
        %0: f8[64] = multiply(s0, k)
        ...
    %10: f8[64] = host_out(%9, index=0)

Nothing is guessed: a loop stands for exactly the nodes that were there. From round to round may
differ: constants (``t * dt``), numbers among the arguments, which part of an array is read
(``x[t]``) or changed (``y[t] = ...``). The first rounds and the last stay outside where they begin
or end in another way. ``roll_build`` makes the node.
"""

from collections.abc import Iterator
from heapq import heapify, heappop, heappush
from typing import Any

import numpy as np

from fusec.ir.graph import Graph, Node
from fusec.ir.rewrite import rebuild
from fusec.passes.roll_build import CONST, EACH, LEAVES, PARTED, SHARED, Links, Repeat, built
from fusec.passes.rules import slice_of_last_update, update_of_update

LEAST = 1024  # nodes below which unrolled rounds are compiled soon, and may fuse
ROUNDS = 4  # a loop of fewer is not worth a step of its own
LAGS = 4  # rounds after which a value is forgotten
ANCHORS = 7  # places at which periods are looked for
MOST = 64  # periods that are tried from each
TRIED = 3  # periods whose inputs are compared, and places in one where rounds may begin
WHOLE = 1 << 48  # bytes that the results of a call count for before they are taken apart
SMALL = 16  # elements of constants that may vary
AGAIN = {"slice": [slice_of_last_update], "slice_update": [update_of_update]}
"""``x[t] += 1`` is two updates for Python."""


def rolled(graph: Graph) -> Graph:
    """The same graph with its repetitions as loops."""
    nodes = graph.nodes()
    if len(nodes) >= LEAST:
        graph = rebuild(graph, AGAIN)
        nodes = graph.nodes()
    while len(nodes) >= LEAST:
        order = [n for n in _in_turn(nodes) if n.op.name not in LEAVES]
        made = (built(graph, order, found) for found in _repeats(order))
        new = next((g for g in made if g is not None), None)
        if new is None:
            break
        graph, nodes = new, new.nodes()
    return graph


def _in_turn(nodes: list[Node]) -> list[Node]:
    """Inputs before users, and otherwise in the order in which the function was traced."""
    waiting = {node: len(node.inputs) for node in nodes}
    users: dict[Node, list[Node]] = {}
    for node in nodes:
        for child in node.inputs:
            users.setdefault(child, []).append(node)
    ready = [(node.serial, k) for k, node in enumerate(nodes) if not node.inputs]
    numbers = {node: k for k, node in enumerate(nodes)}
    heapify(ready)
    order = []
    while ready:
        node = nodes[heappop(ready)[1]]
        order.append(node)
        for user in users.get(node, ()):
            waiting[user] -= 1
            if not waiting[user]:
                heappush(ready, (user.serial, numbers[user]))
    return order


def _repeats(order: list[Node]) -> Iterator[Repeat]:
    """The repetition that saves most nodes, with the rounds beginning here or there."""
    at = {node: k for k, node in enumerate(order)}
    for period in _periods(order)[:TRIED]:
        links = [_link(a, b, k, at, period) for k, (a, b) in enumerate(zip(order, order[period:]))]
        table: dict[Links | None, int] = {None: -1}
        kinds = np.array([table.setdefault(x, len(table)) for x in links])
        same = (kinds[period:] == kinds[:-period]) & (kinds[period:] >= 0)
        start, stop = _longest(same)
        moved = all(n.op.family == "movement" for n in order[start : start + period])
        if stop - start < period or moved:
            continue
        found = [links[k] or () for k in range(start, start + period)]
        if any(_within(order[start + j], x, at, start) for j, x in enumerate(found)):
            continue
        for begin in _boundaries(order[start : start + period], found, stop - start):
            first = start + begin
            rounds = (stop + 2 * period - first) // period
            if rounds >= ROUNDS and rounds * period >= LEAST // 4:
                yield Repeat(first, period, rounds, found[begin:] + found[:begin])
        return


def _periods(order: list[Node]) -> list[int]:
    """After how many nodes the same ops may follow again, most saving first."""
    table: dict[Any, int] = {}
    signs = [(n.op.name, *_fixed(n).items(), n.aval, n.loc) for n in order]
    marks = np.array([table.setdefault(sign, len(table)) for sign in signs])
    tried: set[int] = set()
    for k in range(1, ANCHORS + 1 if order else 1):
        anchor = k * len(marks) // (ANCHORS + 1)
        again = np.flatnonzero(marks[anchor + 1 :] == marks[anchor])[:MOST] + 1
        tried.update(again.tolist())
    saved = {}
    for period in tried:
        start, stop = _longest(marks[period:] == marks[:-period])
        saved[period] = (stop - start) // period * period
    found = [p for p in tried if saved[p] >= p * (ROUNDS - 1)]
    return sorted(found, key=lambda p: (-saved[p], p))


def _fixed(node: Node) -> dict[str, Any]:
    """What of a node can't differ from round to round."""
    parted = node.op.name in PARTED
    return {k: v for k, v in node.attrs.items() if not (parted and k == "start")}


def _longest(flags: np.ndarray) -> tuple[int, int]:
    """Where the longest run of True begins and ends."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]])))
    if not edges.size:
        return 0, 0
    k = int(np.argmax(edges[1::2] - edges[::2]))
    return int(edges[2 * k]), int(edges[2 * k + 1])


def _link(a: Node, b: Node, k: int, at: dict[Node, int], period: int) -> Links | None:
    """How a node comes by its inputs, if the node one period on does the same."""
    if a.op is not b.op or a.aval != b.aval or _fixed(a) != _fixed(b):
        return None
    found = []
    for x, y in zip(a.inputs, b.inputs):
        leaf, other = x.op.name, y.op.name
        small = x is y or (x.aval == y.aval and x.aval.size <= SMALL)
        if leaf == other and leaf in ("const", "dim") and small:
            found.append(CONST)
        elif x is y:
            found.append(SHARED)
        elif leaf == other == "param" and x.aval == y.aval and x.aval.ndim == 0:
            found.append(EACH)
        elif x in at and at.get(y) == at[x] + period and k - at[x] <= LAGS * period:
            found.append(k - at[x])
        else:
            return None
    return tuple(found)


def _within(node: Node, links: Links, at: dict[Node, int], start: int) -> bool:
    """Whether a node shares what is computed within the repetition."""
    found = zip(node.inputs, links)
    return any(link == SHARED and at.get(x, -1) >= start for x, link in found)


def _boundaries(nodes: list[Node], links: list[Links], length: int) -> list[int]:
    """Where to begin a round, so that fewest bytes go from one to the next, then the next best.

    Fewest nodes should be left behind the last round: an update there copies a whole array.
    """
    period = len(nodes)
    reach = [0] * period
    for j, distances in enumerate(links):
        for d in distances:
            if d > 0:
                reach[(j - d) % period] = max(reach[(j - d) % period], d)
    ends = np.zeros(period + 1, np.int64)  # what more is alive from one node to the next
    for j, far in enumerate(reach):
        size = WHOLE if nodes[j].dtype.kind == "V" else nodes[j].aval.nbytes
        whole, rest = divmod(far, period)
        ends[0] += whole * size
        for low, high in ((j + 1, min(j + rest, period - 1)), (0, j + rest - period)):
            if low <= high:
                ends[low] += size
                ends[high + 1] -= size
    moved = np.cumsum(ends[:-1]) * (length // period + 2)
    for j in range(period):
        left = [nodes[(j + k) % period] for k in range((length - j) % period)]
        moved[j] += sum([n.aval.nbytes for n in left if n.op.name == "slice_update"])
    return sorted(range(period), key=lambda j: (moved[j], (length - j) % period))[:TRIED]
