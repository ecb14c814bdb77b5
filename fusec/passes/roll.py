"""Loops of Python, found again in the graph that they left.

``for _ in range(1000): u = step(u)`` is traced as a thousand copies of the step, which all later
passes, the program and every call would go through. Where the same nodes repeat, each on the same
values as the round before or on what one of the last rounds gave, they become one node whose body
is a round (or several short ones)::

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

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from fusec.ir.graph import Graph, Node
from fusec.ir.rewrite import rebuild
from fusec.ops.registry import COSTLY
from fusec.passes.groups import COSTLY_SIZE
from fusec.passes.roll_around import Around, Made
from fusec.passes.roll_build import (
    CONST,
    EACH,
    LEAVES,
    MOVED,
    PARTED,
    SHARED,
    Links,
    Repeat,
    whole_arrays,
)

LEAST = 1024  # nodes below which unrolled rounds are compiled soon, and may fuse; ``exp`` is more
FEW = 48  # nodes below which that holds for recurrences that store what they compute, too
UNROLLED = 128  # nodes of a body of elementwise rounds: several are one, in registers
ROUNDS = 4  # a loop of fewer is not worth a step of its own
LAGS = 4  # rounds after which a value is forgotten
ANCHORS = 7  # places at which periods are looked for
GOLDEN = 0.6180339887498949  # how far apart, in parts of all: nowhere in step with an outer loop
RARE = 3  # lines that repeat least: those of an outer loop, however often inner ones repeat
MOST = 64  # periods that are tried from each
TRIED = 3  # periods whose inputs are compared, and places in one where rounds may begin
WHOLE = 1 << 48  # bytes that the results of a call count for before they are taken apart
NONE = -3  # beside the links of ``roll_build``: another way
SMALL = 16  # elements of constants that may vary


def rolled(graph: Graph, worth: Callable[[Node], bool] = lambda loop: False) -> Graph:
    """The same graph with its repetitions as loops. worth: whether a small loop may be one."""
    nodes = graph.nodes()
    count = len(nodes)
    while len(nodes) >= FEW:
        leaves: dict[Node, Any] = {}
        order = []
        for node in _in_turn(nodes):
            kind = _kind_of_leaf(node, leaves)
            if kind is None:
                order.append(node)
            else:
                leaves[node] = kind
        around = _looped(Around(graph, order), leaves, worth, count)
        if around is None:
            break
        graph = around.graph()
        nodes = graph.nodes()
    rolled_up = any(n.op.name == "loop" for n in nodes)
    return rebuild(graph, {"loop": [whole_arrays]}) if rolled_up else graph


def _looped(
    around: Around, leaves: dict[Node, Any], worth: Callable[[Node], bool], count: int
) -> Around | None:
    """Put all loops there are of one period into a graph; None where none is found."""
    order = around.order
    kinds, marks = _kinds(order)
    inputs, vain = _Inputs(order, leaves), list[int]()
    periods = _periods(marks)
    for period in periods:
        if len(vain) >= TRIED or any(period % p == 0 for p in vain if p > 0):
            continue
        known = {p: inputs.links(kinds, p) for p in sorted(periods) if period % p == 0}
        tried = False
        for start, stop in zip(*_runs(known[period][1], period)):
            # a multiple of the distance of one loop may be that of another
            p = next(p for p in known if known[p][1][start : stop + period - p].all())
            begin, end = max(start, around.end), stop + period - p
            for found in _ways(around, inputs, kinds, known[p][0], p, begin, end):
                tried = True
                made = around.built(found)
                if made is not None and _accepted(found, made, count, worth):
                    around.take(made)
                    break
        if around.end:
            return around
        vain.append(period if tried else -period)
    return None


def _in_turn(nodes: list[Node]) -> list[Node]:
    """Inputs before users, and otherwise in the order in which the function was traced.

    What passes have made comes right before the first node that needs it, and so do parts, which
    the sweep back through ``np.stack`` takes for all rounds at once.
    """
    turns: dict[Node, int] = {}
    for node in reversed(nodes):
        turn = turns.get(node, node.serial)
        turn = turns[node] = turn if node.op.name == "slice" else min(turn, node.serial)
        for i in node.inputs:
            turns[i] = min(turns.get(i, turn), turn)
    return sorted(nodes, key=turns.__getitem__)


def _accepted(found: Repeat, made: Made, count: int, worth: Callable[[Node], bool]) -> bool:
    """Whether a repetition should be a loop; count: how many nodes there were without loops."""
    one, size = made.roll.nodes, found.rounds * found.period
    costly = [n for n in one if n.op.family == "elementwise" and n.op.cost >= COSTLY]
    slow = found.rounds * len(costly) * (COSTLY_SIZE - 1)
    if count + slow >= LEAST and size + slow >= LEAST // 4:
        return True
    return size >= FEW and any(n.op.name == "slice_update" for n in one) and worth(made.node)


def _ways(
    around: Around, inputs: "_Inputs", kinds: np.ndarray, links: np.ndarray, period: int,
    start: int, stop: int,
) -> Iterator[Repeat]:  # fmt: skip
    """A repetition, with the rounds beginning here or there."""
    one = around.order[start : start + period]
    if stop - start < period or all(n.op.family == "movement" for n in one):
        return
    found = [inputs.of(links, k) for k in range(start, start + period)]
    within = slice(int(inputs.first[start]), int(inputs.first[start + period]))
    if ((links[within] == SHARED) & (inputs.at[within] >= start)).any():
        return  # a value of one round is shared by all
    many, middle = 1, around.order[(start + stop) // 2 :][:period]
    collected = any(around.last.get(n, 0) >= stop + period for n in middle)
    moved = collected or any(MOVED in x for x in found)
    if not moved and all(n.op.family == "elementwise" for n in one):
        many = max(1, UNROLLED // period)
    for begin in _boundaries(one, found, stop - start):
        first = start + begin
        turned = found[begin:] + found[:begin]
        earlier = inputs.begin_earlier(kinds, turned, first)
        for low in (first - period, first) if earlier else (first,):
            rounds = (stop + 2 * period - low) // (period * many)
            if rounds >= ROUNDS:
                yield Repeat(low, period * many, rounds, many * turned)


def _kinds(order: list[Node]) -> tuple[np.ndarray, np.ndarray]:
    """A number for what of each node can't differ from round to round, and one with its line."""
    table: dict[Any, int] = {}
    found = []
    for n in order:
        sign: Any = (n.loc, n.op, n.aval, len(n.inputs))
        if n.attrs:
            parted = n.op.name in PARTED
            sign += tuple([x for x in n.attrs.items() if not (parted and x[0] == "start")])
        found.append(table.setdefault(sign, len(table)))
    marks = np.array(found, int)
    alike: dict[Any, int] = {}
    kinds = [alike.setdefault(sign[1:], len(alike)) for sign in table]
    return np.array(kinds, int)[marks], marks


def _periods(marks: np.ndarray) -> list[int]:
    """After how many nodes the same ops may follow again, most saving first."""
    tried: set[int] = set()
    counts = np.bincount(marks)
    rare = np.argsort(np.where(counts < ROUNDS, len(marks), counts), kind="stable")[:RARE]
    anchors = [int(len(marks) * (k * GOLDEN % 1)) for k in range(1, ANCHORS + 1)]
    anchors += [int(np.flatnonzero(marks == mark)[counts[mark] // 2]) for mark in rare]
    for anchor in anchors if len(marks) else ():
        again = np.flatnonzero(marks[anchor + 1 :] == marks[anchor])[:MOST] + 1
        tried.update(again.tolist())
    saved = {}
    for period in tried:
        start, stop = _longest(marks[period:] == marks[:-period])
        saved[period] = (stop - start) // period * period
    found = [p for p in tried if saved[p] >= p * (ROUNDS - 1)]
    found.sort(key=lambda p: (-saved[p], p))
    first = [p for k, p in enumerate(found) if all(p % q for q in found[:k])]
    return [*first, *[p for p in found if p not in first]]  # the others are rounds of several loops


def _longest(flags: np.ndarray) -> tuple[int, int]:
    """Where the longest run of True begins and ends."""
    starts, stops = _runs(flags, 1)
    if not starts:
        return 0, 0
    k = int(np.argmax(np.subtract(stops, starts)))
    return starts[k], stops[k]


def _runs(flags: np.ndarray, least: int) -> tuple[list[int], list[int]]:
    """Where runs of at least so many True begin, and where they end."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]])))
    long = edges[1::2] - edges[::2] >= least
    return edges[::2][long].tolist(), edges[1::2][long].tolist()


class _Inputs:
    """The inputs of all nodes, one after the other: those of node k begin at ``first[k]``.

    owner: the node that has each. at: the place of what was computed; less than 0, a number of
    each leaf. alike: by number, what leaves have that may stand for each other in other rounds;
    links: how they are come by then.
    """

    def __init__(self, order: list[Node], leaves: dict[Node, Any]) -> None:
        places = {node: k for k, node in enumerate(leaves, -len(leaves))}
        places.update({node: k for k, node in enumerate(order)})
        counts = [len(n.inputs) for n in order]
        self.first = np.append(0, np.cumsum(counts, dtype=np.int64))
        self.owner = np.repeat(np.arange(len(order)), counts)
        self.at = np.array([places[x] for n in order for x in n.inputs], np.int64)
        kinds: dict[Any, int] = {}
        self.alike = np.array([kinds.setdefault(x, len(kinds)) for x in leaves.values()], int)
        ways = [CONST if x.op.name in ("const", "dim") else EACH if not x.inputs else MOVED
                for x in leaves]  # fmt: skip
        self.ways = np.array(ways, int)

    def links(self, kinds: np.ndarray, period: int) -> tuple[np.ndarray, np.ndarray]:
        """How nodes come by their inputs, if the node one period on does the same; and for each
        node whether one period on that is so in the same way."""
        count, links = len(kinds), np.full(len(self.at), NONE)
        alike = np.append(kinds[period:] == kinds[:-period], np.zeros(period, bool))
        here = np.flatnonzero(alike[self.owner])
        node = self.owner[here]
        there = here + self.first[node + period] - self.first[node]
        x, y = self.at[here], self.at[there]
        far = (x >= 0) & (y == x + period) & (node - x <= LAGS * period)
        links[here[far]] = (node - x)[far]
        leaf = np.flatnonzero((x < 0) & (y < 0))
        leaf = leaf[self.alike[x[leaf]] == self.alike[y[leaf]]]
        same = x == y
        links[here[leaf]] = self.ways[x[leaf]]
        links[here[same & (self.ways[np.minimum(x, -1)] == EACH)]] = SHARED
        links[here[same & (x >= 0)]] = SHARED
        good = alike & (np.bincount(self.owner[links == NONE], minlength=count) == 0)
        other = np.bincount(node[links[here] != links[there]], minlength=count) > 0
        return links, (good & ~other)[:-period] & good[period:]

    def begin_earlier(self, kinds: np.ndarray, links: list[Links], first: int) -> bool:
        """Whether the round before the first differs only in what it finds: arguments or constants,
        where all others read what the round before them gave."""
        period = len(links)
        low = first - period
        if low < 0 or (kinds[low:first] != kinds[first : first + period]).any():
            return False
        begun: dict[int, int] = {}
        for j, found in enumerate(links):
            for slot, link in enumerate(found):
                here, there = (int(self.at[self.first[k + j] + slot]) for k in (low, first))
                if link > j:
                    same = here < low and link <= j + period
                    same = same and begun.setdefault(j - link + period, here) == here
                elif link > 0 or link == SHARED:
                    same = here == (low + j - link if link else there)
                else:
                    same = here < 0 and self.alike[here] == self.alike[there]
                if not same:
                    return False
        return True

    def of(self, values: np.ndarray, k: int) -> tuple[int, ...]:
        """What is known of each input of a node."""
        return tuple(values[self.first[k] : self.first[k + 1]].tolist())


def _kind_of_leaf(x: Node, leaves: Mapping[Node, Any]) -> Any:
    """What leaves have in common that may stand for each other in other rounds; None of others.

    Constants may vary if they are small, and so may numbers. A part of a leaf is one as well, and
    may be another part in each round: ``x[t]``, also where other loops read it, too.
    """
    if x.op.name in LEAVES:
        varies = x.aval.ndim == 0 if x.op.name == "param" else x.aval.size <= SMALL
        return (x.op, x.aval) if varies else x
    kinds = [leaves.get(i) for i in x.inputs]
    if x.op.family != "movement" or len(kinds) != 1 or None in kinds:
        return None
    fixed = [a for a in x.attrs.items() if not (x.op.name == "slice" and a[0] == "start")]
    return (x.op, x.aval, *fixed, *kinds)


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
    copied = [n.aval.nbytes if n.op.name == "slice_update" else 0 for n in (*nodes, *nodes)]
    before = np.cumsum([0, *copied])
    for j in range(period):
        moved[j] += before[j + (length - j) % period] - before[j]
    return sorted(range(period), key=lambda j: (moved[j], (length - j) % period))[:TRIED]
