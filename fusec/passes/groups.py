"""What a fused kernel is: groups of nodes, where their values are read, and what may be in one.

``inputs_at`` says which elements of its inputs an element of a node needs. It is what both the
fusion pass and code generation know about movement, regions and gathers.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import prod

from fusec.ir.aval import is_number, kind_of
from fusec.ir.graph import Graph, Node
from fusec.ops.elementwise import OF_BITS, is_narrow
from fusec.ops.registry import COSTLY
from fusec.passes.access import (
    MOVES,
    Index,
    Quotient,
    broadcast_index,
    index_value,
    make,
    source_index,
    var,
)

Idx = tuple[Index, ...]
POINTWISE = frozenset({"elementwise", "gather", "update"})
LEAVES = frozenset({"const", "dim", "iota"})
FEW_ROWS = 16  # below this, rows alone cannot keep all threads of a CPU busy
MAX_COPIES = 16  # of what depends on axes that are written out
SHORT_REDUCED = 16  # elements of a reduction that is written out
LONG_ROW = 1 << 14  # elements from which one row is worth several threads
MAX_SIZE = 256  # of kernels with loops along rows, which LLVM takes apart more than once
MAX_MAP = 4096  # of plain maps: as quick to compile as several, and values stay in registers
COSTLY_SIZE = 3  # of an op such as exp, which is a few dozen instructions; others have 1
STRIP = 128  # columns of one strip that is read again
CACHE = 1 << 20  # bytes that a core keeps to itself


@dataclass(eq=False)
class Group:
    """Nodes that one kernel computes.

    extents: loop variable -> size; reduced: the variables that reductions and scans run along;
    short: variables of reductions that are written out (`is_short`), on top of those;
    members: node -> its index in loop variables; reads: of a reduction, the index of its input;
    outputs: members that are stored. kind: "kernel"; "scatter" for a kernel that adds at places
    which data choose, and that no other op joins; "call" for a step of its own; "join" for memory
    that other groups fill.
    """

    number: int
    shape: tuple[int, ...]
    kind: str = "kernel"
    reduced: frozenset[str] = frozenset()
    short: frozenset[str] = frozenset()
    members: dict[Node, Idx] = field(default_factory=dict)
    reads: dict[Node, Idx] = field(default_factory=dict)
    outputs: list[Node] = field(default_factory=list)
    ancestors: int = 0
    results: set[Node] = field(default_factory=set)  # members without the reduced axes
    few_rows: int = FEW_ROWS

    @property
    def extents(self) -> dict[str, int]:
        return {f"i{k}": n for k, n in enumerate(self.shape)}

    @property
    def indices(self) -> Idx:
        return tuple([Index() if n == 1 else var(f"i{k}") for k, n in enumerate(self.shape)])

    @property
    def rows(self) -> int:
        rows = 1
        for name, n in self.extents.items():
            rows *= 1 if name in self.reduced or name in self.short else n
        return rows

    @property
    def split(self) -> bool:
        """Few long rows: a first kernel reduces blocks in parallel, a second one finishes."""
        length = 1
        for name, n in self.extents.items():
            length *= n if name in self.reduced else 1
        long = bool(self.reduced) and length > LONG_ROW
        return long and self.rows < self.few_rows and not scans(self)

    @property
    def tall(self) -> bool:
        """Columns so long that a strip of them has left the cache before it is read again."""
        loops = [name for name, n in self.extents.items() if n != 1]
        found = [m for m in self.members if m.op.family == "reduce" and self.reads[m]]
        if not found or not self.reduced or loops[-1] in self.reduced:
            return False
        sizes = [n for name, n in self.extents.items() if name in self.reduced]
        return prod(sizes) * STRIP * max(m.inputs[0].dtype.itemsize for m in found) > CACHE


@dataclass(frozen=True)
class Refusal:
    """An edge that was not fused, and why."""

    producer: Node
    consumer: Node
    reason: str


@dataclass
class Partition:
    """The groups in an order that can be executed, with the refusals on the way."""

    graph: Graph
    groups: list[Group]
    refusals: list[Refusal]
    inline: set[Node]
    again: bool = True  # whether values may be computed a second time
    share: int = 1  # kernels hold one in so many of the ops that they might


def runs_through(idx: Idx, group: Group) -> bool:
    """Whether an index has every loop of the group but those that are written out."""
    loops = {f"i{k}" for k, n in enumerate(group.shape) if n != 1}
    return loops - group.short <= set().union(*[i.variables() for i in idx])


def scans(group: Group) -> bool:
    return any(m.op.family == "scan" for m in group.members)


def copies(group: Group, names: frozenset[str]) -> int:
    """How often a body is written when these variables are written out."""
    return prod([group.extents[name] for name in names])


def size(group: Group) -> int:
    """What the members cost LLVM, in simple ops; each update is one more loop for all before it,
    and each number that is stored on its own is compared with all others."""
    updates = sum([m.op.family == "update" for m in group.members])
    plain = sum([COSTLY_SIZE if m.op.cost >= COSTLY else 1 for m in group.members])
    stores = sum([len(m.inputs) for m in group.members if m.attrs.get("first")])
    return plain + updates * (updates - 1) // 2 + stores * stores // MAX_SIZE


def most(group: Group) -> int:
    """The largest size of its kernel."""
    return MAX_SIZE if group.reduced or group.short else MAX_MAP


def fusable(node: Node) -> bool:
    """Whether a kernel can compute ``node``."""
    op = node.op
    if is_joined(node):
        return op.family == "scatter"
    if op.family == "elementwise":
        kinds = [i.dtype for i in node.inputs] + [node.dtype]
        if any(not is_number(d) or (is_narrow(d) and op.name not in OF_BITS) for d in kinds):
            return False
        return kind_of(node.inputs[0].dtype) in op.expr
    if op.family in ("reduce", "scan"):
        return (node.dtype.kind in "biuf" and node.dtype != "f2") or (
            node.dtype.kind == "c" and op.name in ("reduce_sum", "reduce_prod")
        )
    if op.family == "scatter":
        computed = node.dtype.char in ("bBhHiIlLqQfdFD" if node.op.name == "scatter_add" else
                                       "?bBhHiIlLqQfdFD")  # fmt: skip
        return computed and node.inputs[1].dtype == node.dtype and node.aval.ndim > 0
    return (
        op.family in POINTWISE
        or op.name in LEAVES
        or op.name in MOVES
        or op.name in ("concatenate", "pad", "entries")
    )


def is_joined(node: Node) -> bool:
    """Whether its parts are computed in its memory: a concatenation's, a changed argument's."""
    return bool(node.attrs.get("joined"))


def changing(nodes: Iterable[Node]) -> set[Node]:
    """The updates of arguments where they lie, and the values that are computed there."""
    found = {n for n in nodes if is_joined(n) and n.op.name != "concatenate"}
    return found | {n.inputs[1] for n in found if n.op.name == "slice_update"}


def is_free(node: Node) -> bool:
    return node.op.name in MOVES or node.op.name in LEAVES or node.op.name == "param"


def is_call(node: Node) -> bool:
    return node.op.family in ("library", "host") or not (node.op.name == "param" or fusable(node))


def looped(node: Node) -> Node:
    """The node whose shape is that of the loops that compute ``node``."""
    if node.op.family == "scatter":
        return node.inputs[1]
    inside = node.op.family in ("reduce", "scan") or node.op.name == "entries"
    return node.inputs[0] if inside else node


def is_short(node: Node) -> bool:
    """Whether a reduction is over so few elements that it is written out for each of its results.

    It then needs no loop, and shares a kernel with reductions over other axes.
    """
    if node.op.family != "reduce" or node.aval.size < 2:
        return False
    return 1 < node.inputs[0].aval.size // node.aval.size <= SHORT_REDUCED


def stepped(node: Node) -> bool:
    """Whether an update changes every other element, or fewer, of a row."""
    return node.op.name == "slice_update" and abs(node.attrs["step"][-1]) > 1


def reduced_names(node: Node, idx: Idx) -> frozenset[str]:
    """The loop variables that a reduction or scan runs along, for its input at ``idx``."""
    if node.op.family not in ("reduce", "scan"):
        return frozenset()
    axes = node.attrs["axes"] if node.op.family == "reduce" else (node.attrs["axis"],)
    return frozenset().union(*[idx[k].variables() for k in axes])


def level_indices(shape: tuple[int, ...], group: Group) -> list[Idx]:
    """The indices that a value of ``shape`` may have in the group's loops.

    Every variable, or all but the reduced ones, the short ones, or both.
    """
    found = [group.indices] if shape == group.shape else []
    wanted, extents = [n for n in shape if n != 1], group.extents
    loops = [f"i{k}" for k, n in enumerate(group.shape) if n != 1]
    for without in (group.reduced, group.short, group.reduced | group.short):
        kept = [name for name in loops if name not in without]
        if without and [extents[k] for k in kept] == wanted:
            names = iter(kept)
            idx = tuple([Index() if n == 1 else var(next(names)) for n in shape])
            found += [idx] if idx not in found else []
    return found


def inputs_at(node: Node, idx: Idx, group: Group) -> list[tuple[Node, Idx | None]]:
    """The inputs of ``node`` and the index of each that the element at ``idx`` needs."""
    name = node.op.name
    if name in MOVES:
        return [(node.inputs[0], source_index(node, idx, group.extents))]
    if name == "concatenate":
        return _parts(node, idx)
    if name == "slice_update":
        return [(node.inputs[0], idx), (node.inputs[1], region_index(node, idx))]
    if name == "pad":
        start = tuple([i.plus(Index((), -b)) for i, b in zip(idx, node.attrs["before"])])
        return [(node.inputs[0], start), (node.inputs[1], ())]
    if node.op.family == "gather":
        return _gathered(node, idx, group)
    if node.op.family == "scatter":
        values = [(d.node, d.idx) for i in scatter_index(node, idx, group) for d in i.data()]
        return [(node.inputs[0], None), (node.inputs[1], idx), *values]
    return [(i, broadcast_index(idx, i.shape)) for i in node.inputs]


def _gathered(node: Node, idx: Idx, group: Group) -> list[tuple[Node, Idx | None]]:
    """The array at symbolic indices, then the index nodes whose values are needed."""
    x = node.inputs[0]
    at = tuple(
        [
            index_value(i, broadcast_index(idx, i.shape), n, group.extents)
            for i, n in zip(node.inputs[1:], x.shape)
        ]
    )
    values = [(d.node, d.idx) for i in at for d in i.data()]
    return [(x, at), *values]


def scatter_index(node: Node, idx: Idx, group: Group) -> Idx:
    """Where in the result of a scatter the element at ``idx`` of its values belongs."""
    indices, shape = node.inputs[2:], node.shape
    lead = idx[: len(idx) - len(shape) + len(indices)]
    places = [
        index_value(i, broadcast_index(lead, i.shape), n, group.extents)
        for i, n in zip(indices, shape)
    ]
    return (*places, *idx[len(lead) :])


def _parts(node: Node, idx: Idx) -> list[tuple[Node, Idx | None]]:
    axis, begin, found = node.attrs["axis"], 0, []
    for part in node.inputs:
        at = list(idx)
        at[axis] = idx[axis].plus(Index((), -begin))
        found.append((part, tuple(at)))
        begin += part.shape[axis]
    return found  # type: ignore[return-value]


def region_index(node: Node, idx: Idx) -> Idx:
    """The element of the new values that stands at ``idx``; exact where the step is 1."""
    start, step = node.attrs["start"], node.attrs["step"]
    moved = [i.plus(Index((), -b)) for i, b in zip(idx, start)]
    return tuple(
        [
            m
            if s == 1
            else m.times(-1)
            if s == -1
            else make({Quotient(m.times(1 if s > 0 else -1), abs(s)): 1}, 0)
            for m, s in zip(moved, step)
        ]
    )


def source_of(node: Node) -> Node:
    while node.op.name in MOVES:
        node = node.inputs[0]
    return node


def path_kind(child: Node, user: Node) -> tuple[Node, str]:
    """The source that ``user`` reads through ``child``, and whether the same element ("same"),
    each element at most once ("moved"), or some several times ("spread")."""
    how = "same"
    if user.op.name in ("concatenate", "slice_update", "pad") or user.op.name in MOVES:
        how = "moved"
    if user.op.family == "elementwise" and child.aval.size < user.aval.size:
        how = "spread"
    if user.op.family == "scatter":
        how = "moved" if child.aval.size >= user.inputs[1].aval.size else "spread"
    if user.op.family == "gather":
        how = "moved" if user.aval.size <= child.aval.size else "spread"
    while child.op.name in MOVES:
        if child.op.name in ("broadcast_to", "windows"):
            how = "spread"
        elif how == "same":
            how = "moved"
        child = child.inputs[0]
    return child, how


def too_many(group: Group, axes: frozenset[str]) -> str | None:
    """Why a reduction over short axes can't be written out in a group."""
    if scans(group):
        return "a scan and a reduction that is written out"
    if axes & group.reduced:
        return "the group has a loop over them"
    times = copies(group, group.short | axes)
    if times > MAX_COPIES or size(group) * times > MAX_SIZE * 2:
        return f"the kernel already holds {len(group.members)} ops, {times} times each"
    return None
