"""Cuts a graph into groups; every group becomes one kernel (or one library or host call).

Nodes are visited in order, and each joins a group it reads from if it may. A group has a domain,
the shape it loops over, and possibly reduced axes; its members are computed once per element (or,
for values without the reduced axes, once per row). Legality (``_may_join``) is kept apart from
judgement (``_should_join``); every refusal has a reason, which ``explain()`` prints.

Movement ops and cheap or singly used values that are read at another index are no members: they
are computed again inside whichever group reads them.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from fusec.ir.graph import Graph, Node
from fusec.ops.registry import COSTLY, MEDIUM
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
MAX_MEMBERS = 96  # a larger kernel costs LLVM more than linear time and spills registers
MAX_RECOMPUTE = 4  # additions that are cheaper to do again than a store and a load
FEW_ROWS = 16  # below this, rows alone cannot keep all threads busy
LONG_ROW = 1 << 14  # elements from which one row is worth several threads


@dataclass(eq=False)
class Group:
    """Nodes that one kernel computes.

    extents: loop variable -> size; reduced: the variables that reductions and scans run along;
    members: node -> its index in loop variables; outputs: members that are stored.
    kind: "kernel", or "call" for a node that is a step of its own.
    """

    number: int
    shape: tuple[int, ...]
    kind: str = "kernel"
    reduced: frozenset[str] = frozenset()
    members: dict[Node, Idx] = field(default_factory=dict)
    outputs: list[Node] = field(default_factory=list)
    ancestors: int = 0
    results: set[Node] = field(default_factory=set)  # members without the reduced axes

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
            rows *= 1 if name in self.reduced else n
        return rows

    @property
    def split(self) -> bool:
        """Few long rows: a first kernel reduces blocks in parallel, a second one finishes."""
        length = 1
        for name, n in self.extents.items():
            length *= n if name in self.reduced else 1
        has_scan = any(m.op.family == "scan" for m in self.members)
        return bool(self.reduced) and self.rows < FEW_ROWS and length > LONG_ROW and not has_scan


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


def partition(graph: Graph) -> Partition:
    """Cut ``graph`` into groups. Assumes CSE has run; computes nothing."""
    return _Fuser(graph).run()


def fusable(node: Node) -> bool:
    """Whether a kernel can compute ``node``."""
    op = node.op
    if op.family == "elementwise":
        kinds = [i.dtype for i in node.inputs] + [node.dtype]
        if any(d.kind not in "biufc" or (d.itemsize == 2 and d.kind == "f") for d in kinds):
            return False
        if any(d.itemsize > (16 if d.kind == "c" else 8) for d in kinds):
            return False
        return node.inputs[0].dtype.kind in op.expr
    if op.family in ("reduce", "scan"):
        return (node.dtype.kind in "biuf" and node.dtype != "f2") or (
            node.dtype.kind == "c" and op.name in ("reduce_sum", "reduce_prod")
        )
    return (
        op.family in POINTWISE
        or op.name in LEAVES
        or op.name in MOVES
        or op.name in ("concatenate", "pad")
    )


class _Fuser:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.order = graph.nodes()
        self.group_of: dict[Node, Group] = {}
        self.groups: list[Group] = []
        self.count = 0
        self.readers: dict[Node, Group] = {}
        self.refusals: list[Refusal] = []
        self.roots = self._roots()
        self.inline = self._inline()

    def run(self) -> Partition:
        for node in self.order:
            if node.op.name == "param" and node not in self.roots:
                continue
            if node in self.inline or (self._is_free(node) and node not in self.roots):
                continue
            if node.op.name == "param" and node not in self.graph.outputs:
                continue
            self._place(node)
        for node in self.order:
            if node in self.group_of:
                self._mark_outputs(node)
        for out in self.graph.outputs:
            self._output(out)
        ordered = _topological(self.groups)
        return Partition(self.graph, ordered, self.refusals, self.inline)

    # -- what is not a member of any group ------------------------------------------------------

    @staticmethod
    def _is_free(node: Node) -> bool:
        return node.op.name in MOVES or node.op.name in LEAVES or node.op.name == "param"

    def _roots(self) -> set[Node]:
        """Nodes that must have a buffer: results, and what calls and gathers read."""
        roots = set(self.graph.outputs)
        for node in self.order:
            for child in node.inputs if is_call(node) else ():
                while child.op.name in MOVES:
                    child = child.inputs[0]
                if child.op.name != "param":
                    roots.add(child)
        return roots

    def _inline(self) -> set[Node]:
        """Values that are computed again where they are read (see ``MAX_RECOMPUTE``)."""
        uses: dict[Node, list[str]] = {}
        for node in self.order:
            if node.op.name in MOVES and node not in self.roots:
                continue
            for child in node.inputs:
                source, how = _path_kind(child, node)
                uses.setdefault(source, []).append(how)
        inline: set[Node] = set()
        made: set[Node] = set()  # read no arrays
        cost: dict[Node, int] = {}

        def unread(source: Node) -> bool:
            return source.op.name in LEAVES or source in made or source.aval.size == 1

        for node in self.order:
            if not fusable(node) or node.op.family not in POINTWISE | {"movement"}:
                continue
            if self._is_free(node):
                continue
            price = node.op.cost + sum(cost.get(_source(i), 0) for i in node.inputs)
            how = uses.get(node, [])
            if node in self.roots or not how:
                continue
            # Numbers, and values of nothing but positions, are no work for a kernel of their own.
            if all(map(unread, map(_source, node.inputs))):
                made.add(node)
            if price <= 2 * COSTLY and (node.aval.size == 1 or node in made):
                inline.add(node)
                cost[node] = price
                continue
            if all(h == "same" for h in how):
                continue
            once = len(how) == 1 and how[0] == "moved"
            cheap = price <= MAX_RECOMPUTE and node.op.family == "elementwise"
            if once or cheap:
                inline.add(node)
                cost[node] = price
        self._swallow(inline)
        return inline

    def _swallow(self, inline: set[Node]) -> None:
        """What only one inlined value needs is computed where that value is."""
        readers: dict[Node, set[Node]] = {}
        home: dict[Node, Node] = {}
        for node in reversed(self.order):
            users = readers.get(node, set())
            homes = {home.get(u) for u in users}
            movable = fusable(node) and node.op.family in POINTWISE and node not in self.roots
            if node in inline:
                home[node] = node
            elif movable and len(homes) == 1 and None not in homes and users <= inline:
                inline.add(node)
                home[node] = next(iter(homes))  # type: ignore[assignment]
            if node.op.name in MOVES and node not in self.roots:
                continue
            for child in node.inputs:
                readers.setdefault(_source(child), set()).add(node)

    def _sources(self, node: Node, idx: Idx, g: Group) -> Iterator[tuple[Node, Idx | None]]:
        """The buffers and members that computing ``node`` at ``idx`` reads, and where."""
        stack: list[tuple[Node, Idx | None]] = list(reversed(inputs_at(node, idx, g)))
        seen = set()
        while stack:
            child, at = stack.pop()
            if (child, at) in seen or child.op.name in LEAVES:
                continue
            seen.add((child, at))
            is_move = child.op.name in MOVES and child not in self.group_of
            if at is None and is_move:
                stack.append((child.inputs[0], None))
            elif is_move:
                assert at is not None
                stack.append((child.inputs[0], source_index(child, at, g.extents)))
            elif child in self.inline or self._again(child, at, g):
                assert at is not None
                stack += reversed(inputs_at(child, at, g))
            else:
                yield child, at

    def _again(self, child: Node, at: Idx | None, g: Group) -> bool:
        """Whether a cheap member of ``g`` is computed a second time, at another index."""
        if child.op.family != "elementwise" or g.members.get(child, at) == at:
            return False
        return child.op.cost <= MAX_RECOMPUTE

    # -- placing a node --------------------------------------------------------------------------

    def _place(self, node: Node) -> None:
        if is_call(node):
            return self._open(node, "call")
        reading = node.inputs[0] if node.op.family in ("reduce", "scan") else node
        trial = Group(-1, reading.shape)
        sources = list(self._sources(node, trial.indices, trial))
        near = [self.group_of[s] for s, _ in sources if s in self.group_of]
        near += [self.readers[s] for s, _ in sources if s in self.readers]
        self._unite(near)
        near = [self.group_of[s] for s, _ in sources if s in self.group_of]
        near += [self.readers[s] for s, _ in sources if s in self.readers]
        tried: set[int] = set()
        for group in sorted(near, key=lambda g: -g.number):
            if group.number in tried or group.kind != "kernel":
                continue
            tried.add(group.number)
            reason = self._join(node, reading, group)
            if reason is None:
                return None
            for s, _ in sources:
                if self.group_of.get(s) is group:
                    self.refusals.append(Refusal(s, node, reason))
        return self._open(node, "kernel")

    # -- merging groups that a node brings together ------------------------------------------------

    def _unite(self, near: list[Group]) -> None:
        """Merge the groups that a new node reads from, pair by pair, where they may be one."""
        left = sorted({g for g in near if g.kind == "kernel"}, key=lambda g: g.number)
        while len(left) > 1:
            last = left.pop()
            for k, other in enumerate(left):
                if self._may_unite(other, last):
                    left[k] = self._merge(other, last)
                    break

    def _may_unite(self, a: Group, b: Group) -> bool:
        """Whether two groups may be one kernel, and whether its size allows it."""
        if a.shape != b.shape or len(a.members) + len(b.members) > MAX_MEMBERS:
            return False
        if a.reduced and b.reduced and a.reduced != b.reduced:
            return False
        if (a.results and not a.reduced) or (b.results and not b.reduced):
            return False
        for g in self.groups:
            for one, two in ((a, b), (b, a)):
                if g.ancestors >> one.number & 1 and two.ancestors >> g.number & 1 and g is not two:
                    return False
        return all(self._aligned(m, b, a) for m in b.members) and all(
            self._aligned(m, a, b) for m in a.members
        )

    def _aligned(self, node: Node, group: Group, other: Group) -> bool:
        """Whether ``node`` reads members of ``other`` only at their own index."""
        idx = group.indices if node.op.family == "reduce" else group.members[node]
        full = idx == group.indices
        for source, at in self._sources(node, idx, group):
            if source in other.members:
                if other.members[source] != at:
                    return False
                if source in other.results and other.split and full:
                    return False
        return True

    def _merge(self, a: Group, b: Group) -> Group:
        """Put ``b``'s members into ``a``."""
        a.members.update(b.members)
        a.results |= b.results
        a.reduced = a.reduced or b.reduced
        bit, gone = 1 << a.number, 1 << b.number
        a.ancestors = (a.ancestors | b.ancestors) & ~bit & ~gone
        self.groups.remove(b)
        for g in self.groups:
            if g is not a and g.ancestors & (bit | gone):
                g.ancestors = (g.ancestors & ~gone) | bit | a.ancestors
        for table in (self.group_of, self.readers):
            for node, g in table.items():
                if g is b:
                    table[node] = a
        return a

    def _open(self, node: Node, kind: str) -> None:
        shape = node.inputs[0].shape if node.op.family in ("reduce", "scan") else node.shape
        group = Group(self.count, shape, kind)
        self.count += 1
        self.groups.append(group)
        sources = (
            [(s, None) for s in map(_source, node.inputs)]
            if kind == "call"
            else list(self._sources(node, group.indices, group))
        )
        self._add(node, group, group.indices, sources)

    def _join(self, node: Node, reading: Node, group: Group) -> str | None:
        """Put ``node`` into ``group``, or say why not."""
        idx = level_index(reading.shape, group)
        if idx is None:
            return "another shape to loop over"
        if node.op.family in ("reduce", "scan") and idx != group.indices:
            return "reduces values that are themselves results of the group's reduction"
        sources = list(self._sources(node, idx, group))
        reason = self._may_join(node, idx, group, sources)
        reason = reason or self._should_join(node, idx, group, sources)
        if reason is None:
            self._add(node, group, idx, sources)
        return reason

    def _may_join(
        self, node: Node, idx: Idx, group: Group, sources: list[tuple[Node, Idx | None]]
    ) -> str | None:
        for source, at in sources:
            owner = self.group_of.get(source)
            if owner is group and group.members[source] != at:
                return "read at another index than the one it is computed at"
            if owner is not None and owner is not group and owner.ancestors >> group.number & 1:
                return "depends on the group through another kernel"
        axes = reduced_names(node)
        if axes and group.reduced and axes != group.reduced:
            return "reduces other axes"
        if axes and any(m in group.results for m in group.members) and not group.reduced:
            return "the group already has results of another shape"
        return None

    def _should_join(
        self, node: Node, idx: Idx, group: Group, sources: list[tuple[Node, Idx | None]]
    ) -> str | None:
        if len(group.members) >= MAX_MEMBERS:
            return f"the kernel already holds {MAX_MEMBERS} ops"
        if group.split and idx == group.indices and group.rows * len(group.shape) != 0:
            late = [s for s, _ in sources if s in group.results]
            if late:
                return "the reduction is over few long rows: all threads finish it first"
        return None

    def _add(
        self, node: Node, group: Group, idx: Idx, sources: list[tuple[Node, Idx | None]]
    ) -> None:
        axes = reduced_names(node)
        if axes:
            group.reduced = axes
        if node.op.family == "reduce":
            idx = tuple([i for k, i in enumerate(idx) if k not in node.attrs["axes"]])
        group.members[node] = idx
        if node.op.family == "reduce" or (group.reduced and idx != group.indices):
            group.results.add(node)
        self.group_of[node] = group
        before = group.ancestors
        for source, _ in sources:
            owner = self.group_of.get(source)
            if owner is None:
                self.readers[source] = group
            elif owner is not group:
                group.ancestors |= 1 << owner.number | owner.ancestors
        if group.ancestors != before:
            for other in self.groups:
                if other.ancestors >> group.number & 1:
                    other.ancestors |= group.ancestors

    # -- what has to be stored ---------------------------------------------------------------------

    def _mark_outputs(self, node: Node) -> None:
        group = self.group_of[node]
        if group.kind == "call":
            for child in node.inputs:
                self._output(_source(child))
            return
        idx = group.members[node]
        if node.op.family == "reduce":
            idx = group.indices
        for source, _ in self._sources(node, idx, group):
            if self.group_of.get(source) is not group:
                self._output(source)

    def _output(self, node: Node) -> None:
        group = self.group_of.get(node)
        if group is not None and group.kind == "kernel" and node not in group.outputs:
            group.outputs.append(node)


def is_call(node: Node) -> bool:
    return node.op.family in ("library", "host") or not (node.op.name == "param" or fusable(node))


def reduced_names(node: Node) -> frozenset[str]:
    """The loop variables that a reduction or scan runs along."""
    if node.op.family == "reduce":
        return frozenset(f"i{k}" for k in node.attrs["axes"])
    if node.op.family == "scan":
        return frozenset([f"i{node.attrs['axis']}"])
    return frozenset()


def level_index(shape: tuple[int, ...], group: Group) -> Idx | None:
    """The index of a value of ``shape`` in the group's loops: every variable, or the kept ones."""
    if shape == group.shape:
        return group.indices
    kept = [f"i{k}" for k, n in enumerate(group.shape) if n != 1]
    kept = [name for name in kept if name not in group.reduced]
    extents = group.extents
    if not group.reduced or [extents[k] for k in kept] != [n for n in shape if n != 1]:
        return None
    names = iter(kept)
    return tuple([Index() if n == 1 else var(next(names)) for n in shape])


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


def _source(node: Node) -> Node:
    while node.op.name in MOVES:
        node = node.inputs[0]
    return node


def _path_kind(child: Node, user: Node) -> tuple[Node, str]:
    """The source that ``user`` reads through ``child``, and whether the same element ("same"),
    each element at most once ("moved"), or some several times ("spread")."""
    how = "same"
    if user.op.name in ("concatenate", "slice_update", "pad") or user.op.name in MOVES:
        how = "moved"
    if user.op.family == "elementwise" and child.aval.size < user.aval.size:
        how = "spread"
    if user.op.family == "gather":
        how = "moved" if user.aval.size <= child.aval.size else "spread"
    while child.op.name in MOVES:
        if child.op.name == "broadcast_to":
            how = "spread"
        elif how == "same":
            how = "moved"
        child = child.inputs[0]
    return child, how


def _topological(groups: list[Group]) -> list[Group]:
    return sorted(groups, key=lambda g: (g.ancestors.bit_count(), g.number))


assert MEDIUM > MAX_RECOMPUTE
