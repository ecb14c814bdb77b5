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
    source_index,
    var,
)
from fusec.passes.groups import FEW_ROWS, Group, Idx, Partition, inputs_at, source_of

LOST = "?"  # in the names of variables that do not run through all of an axis


def partition(graph: Graph, again: bool = True, few_rows: int = FEW_ROWS) -> Partition:
    """As ``fuse.partition``, with twins of the checks that are not made on all elements."""
    left = [c for c in graph.checks if not _holds(c)]
    graph = Graph(graph.params, graph.outputs, left)
    while True:
        found = fuse.partition(graph, again, few_rows)
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
    left = dict.fromkeys(c for c in graph.checks if c.aval.size and c.key() not in twins)
    for group in found.groups:
        if left and group.kind in ("kernel", "scatter") and prod(group.shape):
            for node, idx, extents in _sites(found, group, members):
                if node in left and _complete(node, idx, extents):
                    del left[node]
    return list(left)


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


def _complete(node: Node, idx: Idx, extents: dict[str, int]) -> bool:
    """Whether a check made at ``idx`` in all loops is made for all elements."""
    expr = node.op.expr.get("!", "")
    read = [x for k, x in enumerate(node.inputs) if f"{{{k}}}" in expr and x.aval.size > 1]
    shape = node.shape
    if len(read) < 2:
        operand = read[0] if read else None
        shape = operand.shape if operand else ()
        idx = broadcast_index(idx, shape)
        while operand is not None and operand.op.name == "broadcast_to":
            idx, operand = source_index(operand, idx, extents), operand.inputs[0]
            shape = operand.shape
    return _reach(flatten(idx, shape), extents) == prod(shape)


def _reach(index: Index, extents: dict[str, int]) -> int:
    """n where the index takes all values from 0 to n - 1; 0 where it is not known to."""
    reach, low, used = 1, index.const, set[str]()
    for atom, c in sorted(index.terms, key=lambda term: abs(term[1])):
        if isinstance(atom, str):
            names, n = {atom}, 0 if LOST in atom else extents[atom]
        elif isinstance(atom, Data):
            return 0
        else:
            names, n = atom.value.variables(), _reach(atom.value, extents)
            whole = isinstance(atom, Quotient)
            n = (n - 1) // atom.divisor + 1 if whole else min(n, atom.divisor)
        if not n or abs(c) > reach or names & used:
            return 0
        used |= names
        low += min(0, c * (n - 1))
        reach += abs(c) * (n - 1)
    return reach if low == 0 else 0
