"""Every check is made on all elements: NumPy computes a value even where nobody reads it.

A checked value (an index in bounds, a power of integers) is often computed again where it is read,
and a slice, an update or dead code leaves only some of its elements, or none. Such a value gets a
twin: a member of a kernel, over all elements, that is not stored::

    x[i][1:] * 2        k0: status of wrap_index(i[i0])     over all of i
                        k1: x[wrap_index(i[i0 + 1])] * 2

Where some kernel goes over all elements anyway, there is no twin.
"""

from collections.abc import Iterator
from math import prod

from fusec.ir.graph import Graph, Node
from fusec.passes import fuse
from fusec.passes.access import (
    MOVES,
    Data,
    Index,
    Quotient,
    broadcast_index,
    flatten,
    var,
)
from fusec.passes.groups import FEW_ROWS, Group, Idx, Partition, inputs_at, source_of

LOST = "?"  # in the names of variables that do not run through all of an axis


def partition(
    graph: Graph, again: bool = True, few_rows: int = FEW_ROWS, share: int = 1
) -> Partition:
    """As ``fuse.partition``, with twins of the checks that are not made on all elements."""
    left = [c for c in graph.checks if not _holds(c)]
    graph = Graph(graph.params, graph.outputs, left)
    while True:
        found = fuse.partition(graph, again, few_rows, share)
        missing = _missing(found)
        if not missing:
            return found
        twins = [node.replace(node.inputs) for node in missing]
        graph = Graph(graph.params, graph.outputs, (*graph.checks, *twins))


def _holds(node: Node) -> bool:
    """Whether a check of constants is known to find nothing."""
    name = node.op.name
    known = source_of(node.inputs[name == "power"]) if name in ("power", "wrap_index") else node
    if known.op.name != "const":
        return False
    values = known.attrs["value"].value
    if name == "power":
        return bool((values >= 0).all())
    n = node.inputs[1].attrs.get("value")
    return type(n) is int and bool(((values >= -n) & (values < n)).all())


def _missing(found: Partition) -> list[Node]:
    """The checks that no kernel makes on all elements. Those that are members are made."""
    graph = found.graph
    members = {m for g in found.groups for m in g.members}
    twins = {c.key() for c in graph.checks if c in members}
    spans: dict[Node, list[tuple[int, int]]] = {
        c: [] for c in graph.checks if c.aval.size and c.key() not in twins
    }
    for group in found.groups:
        if spans and group.kind in ("kernel", "scatter") and prod(group.shape):
            for node, idx, extents in _sites(found, group, members):
                if node in spans:
                    shape = _seen(node)
                    flat = flatten(broadcast_index(idx, shape), shape)
                    spans[node].append(_values(flat, extents))
    return [node for node, parts in spans.items() if not _whole(node, parts)]


def _whole(node: Node, parts: list[tuple[int, int]]) -> bool:
    """Whether spans of positions, one behind the other, are all that a check has to see."""
    end = 0
    for low, high in sorted(parts):
        end = max(end, high) if low <= end else end
    return end >= prod(_seen(node))


class _Loops(Group):
    """A group's loops, and variables for the parts of branches."""

    table: dict[str, int]

    @property
    def extents(self) -> dict[str, int]:
        return self.table


def _sites(
    found: Partition, group: Group, members: set[Node]
) -> Iterator[tuple[Node, Idx, dict[str, int]]]:
    """What a kernel computes beside its members, and the index of each."""
    loops = _Loops(group.number, group.shape)
    loops.table = dict(group.extents)
    stack: list[tuple[Node, Idx | None]] = []
    for node, idx in group.members.items():
        stack += _reads(node, group.reads.get(node, idx), loops)
    seen = set()
    while stack:
        node, at = stack.pop()
        inside = node in found.inline or (node.op.name in MOVES and node not in members)
        if at is not None and inside and (node, at) not in seen:
            seen.add((node, at))
            yield node, at, loops.table
            stack += _reads(node, at, loops)


def _reads(node: Node, idx: Idx, loops: _Loops) -> list[tuple[Node, Idx | None]]:
    """As ``inputs_at``, where each part of a branch has loops of its own.

    Parts that may be left out, because the loops do not run through all of ``node``, are not read.
    """
    inputs = inputs_at(node, idx, loops)
    if node.op.name not in ("concatenate", "pad", "slice_update"):
        return inputs
    parts = {"pad": node.inputs[:1], "slice_update": node.inputs[1:]}.get(
        node.op.name, tuple([x for x in node.inputs if x.aval.size]))
    cut = {k for x in parts for k, n in enumerate(node.shape) if n != x.shape[k]}
    for k in cut:
        others = set().union(*[i.variables() for j, i in enumerate(idx) if j != k])
        (name, *more) = idx[k].variables() or {LOST}
        if more or name in others or idx[k] != var(name) or loops.table[name] != node.shape[k]:
            return []
    found: list[tuple[Node, Idx | None]] = [(x, _part(idx, x.shape, cut, loops)) for x in parts]
    if cut and node.op.name == "pad":
        found.append(inputs[1])
    elif cut and node.op.name == "slice_update":
        found.append((node.inputs[0], _part(idx, node.shape, cut, loops, LOST)))
    return found


def _part(
    idx: Idx, shape: tuple[int, ...], cut: set[int], loops: _Loops, mark: str = "/"
) -> Idx:
    """The index of a part of a branch, with variables of its own along ``cut``."""
    made = list(idx)
    for k in cut:
        name = f"{next(iter(idx[k].variables()))}{mark}{shape[k]}"
        loops.table[name] = shape[k]
        made[k] = Index() if shape[k] == 1 else var(name)
    return tuple(made)


def _seen(node: Node) -> tuple[int, ...]:
    """The shape of what a check looks at: of one input, if that is all."""
    expr = node.op.expr.get("!", "")
    read = [x for k, x in enumerate(node.inputs) if f"{{{k}}}" in expr and x.aval.size > 1]
    return node.shape if len(read) > 1 else read[0].shape if read else ()


def _values(index: Index, extents: dict[str, int]) -> tuple[int, int]:
    """(low, high) where the index takes all values from ``low`` to ``high - 1``; else (0, 0)."""
    low, count, used = index.const, 1, set[str]()
    for atom, c in sorted(index.terms, key=lambda term: abs(term[1])):
        if isinstance(atom, str):
            names, n = {atom}, 0 if LOST in atom else extents[atom]
        elif isinstance(atom, Data):
            return 0, 0
        else:
            names, (first, last) = atom.value.variables(), _values(atom.value, extents)
            n = 0 if first else last
            n = (n - 1) // atom.divisor + 1 if isinstance(atom, Quotient) else min(n, atom.divisor)
        if not n or abs(c) > count or names & used:
            return 0, 0
        used |= names
        low += min(0, c * (n - 1))
        count += abs(c) * (n - 1)
    return low, low + count
