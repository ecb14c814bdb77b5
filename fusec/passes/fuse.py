"""Cuts a graph into groups; every group becomes one kernel (or one library or host call).

Nodes are visited in order, and each joins a group it reads from if it may. A group has a domain,
the shape it loops over, and possibly reduced axes; its members are computed once per element (or,
for values without the reduced axes, once per row). Legality (``_may_join``) is kept apart from
judgement (``_should_join``); every refusal has a reason, which ``explain()`` prints.

Movement ops and cheap or singly used values that are read at another index are no members: they
are computed again inside whichever group reads them.
"""

from collections.abc import Iterator
from functools import cache
from typing import Any

from fusec.ir.graph import Graph, Node
from fusec.passes.access import MOVES, source_index
from fusec.passes.groups import (
    FEW_ROWS,
    LEAVES,
    MAX_COPIES,
    Group,
    Idx,
    Partition,
    Refusal,
    changing,
    copies,
    inputs_at,
    is_call,
    is_free,
    is_joined,
    is_short,
    level_indices,
    looped,
    most,
    reduced_names,
    runs_through,
    scans,
    size,
    stepped,
    too_many,
)
from fusec.passes.inline import MAX_RECOMPUTE, cheap, placing, recomputed, stored_values

MAX_AGAIN = 64  # values that one node may have computed again at other indices
MAX_ALIKE = 4  # groups with the same reduction that one is tried with


def partition(graph: Graph, again: bool, few_rows: int = FEW_ROWS, share: int = 1) -> Partition:
    """Cut ``graph`` into groups. Assumes CSE has run; computes nothing.

    again: whether values may be computed a second time at another index.
    few_rows: a reduction to fewer long rows than that takes two kernels. share: kernels hold one in
    so many of the ops that they might.
    """
    return _Fuser(graph, again, few_rows, share).run()


class _Fuser:
    def __init__(self, graph: Graph, again: bool, few_rows: int, share: int) -> None:
        self.graph = graph
        self.again = again
        self.share = share
        self.few_rows = few_rows
        self.order = graph.nodes()
        self.group_of: dict[Node, Group] = {}
        self.groups: list[Group] = []
        self.count = 0
        self.readers: dict[Node, Group] = {}
        self.refusals: list[Refusal] = []
        self.roots = stored_values(graph, self.order)
        self.late = changing(self.order)
        self.inline = recomputed(self.order, self.roots, again)

    def run(self) -> Partition:
        for node in placing(self.order, self.roots):
            if node in self.inline or (is_free(node) and node not in self.roots):
                continue
            if node.op.name == "param" and node not in self.graph.outputs:
                continue
            self._place(node)
        self._unite_reductions()
        if self.again:
            self._recompute()
        for node in self.order:
            if node in self.group_of:
                self._mark_outputs(node)
        for out in self.graph.outputs:
            self._output(out)
        ordered = sorted(self.groups, key=lambda g: (g.ancestors.bit_count(), g.number))
        return Partition(self.graph, ordered, self.refusals, self.inline, self.again, self.share)

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
            elif child in self.inline or (
                self.again and len(seen) < MAX_AGAIN and self._again(child, at, g)
            ):
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
            return self._open(node, "join" if is_joined(node) else "call")
        if node.op.family == "scatter":
            return self._open(node, "scatter")
        reading = looped(node)
        trial = Group(-1, reading.shape)
        sources = list(self._sources(node, trial.indices, trial))
        near = [self.group_of[s] for s, _ in sources if s in self.group_of]
        near += [self.readers[s] for s, _ in sources if s in self.readers]
        self._unite(near)
        near = [self.group_of[s] for s, _ in sources if s in self.group_of]
        near += [self.readers[s] for s, _ in sources if s in self.readers]
        for group in sorted({*near}, key=lambda g: -g.number):
            if group.kind != "kernel":
                continue
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

    def _unite_reductions(self) -> None:
        """Merge groups that reduce the same axes of one shape, as gradients of parameters do."""
        alike: dict[Any, list[Group]] = {}
        for g in self.groups:
            if g.reduced and g.kind == "kernel":
                alike.setdefault((g.shape, g.reduced), []).append(g)
        near = cache(self._near)  # until groups become one
        for groups in alike.values():
            kept: list[Group] = []
            for g in groups:
                tried = [k for k in kept[-MAX_ALIKE:] if near(k) & near(g)]
                home = next((k for k in tried if self._may_unite(k, g)), None)
                if home is None:
                    kept.append(g)
                else:
                    self._merge(home, g)
                    near.cache_clear()

    def _near(self, group: Group) -> set[Node]:
        """The buffers that a group reads, and those that the kernels read which wrote them."""
        found = self._reads(group)
        for owner in {self.group_of[s] for s in found if s in self.group_of}:
            if owner.kind == "kernel":
                found = found | self._reads(owner)
        return found

    def _reads(self, group: Group) -> set[Node]:
        found: set[Node] = set()
        for node, at in group.members.items():
            idx = group.reads.get(node, at)
            found.update([s for s, _ in self._sources(node, idx, group)])
        return found - group.members.keys()

    def _may_unite(self, a: Group, b: Group) -> bool:
        """Whether two groups may be one kernel, and whether its size allows it."""
        crossed = a.reduced and b.reduced and a.reduced != b.reduced
        if a.shape != b.shape or size(a) + size(b) > min(most(a), most(b)) // self.share or crossed:
            return False
        if (a.short or b.short) and (scans(a) or scans(b)):
            return False
        if copies(a, a.short | b.short) > MAX_COPIES:
            return False
        if (a.short | b.short) & (a.reduced | b.reduced):
            return False
        late = self._checks_late([*a.members, *b.members], [a, b])
        if late or any(g.results and not g.reduced for g in (a, b)):
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
        idx = group.reads.get(node, group.members[node])
        full = idx == group.indices
        for source, at in self._sources(node, idx, group):
            if source in other.members:
                if other.members[source] != at:
                    return False
                if source in other.results and (other.split or other.tall) and full:
                    return False
        return True

    def _merge(self, a: Group, b: Group) -> Group:
        """Put ``b``'s members into ``a``."""
        a.members.update(b.members)
        a.results |= b.results
        a.reads.update(b.reads)
        a.reduced, a.short = a.reduced or b.reduced, a.short | b.short
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
        group = Group(self.count, looped(node).shape, kind, few_rows=self.few_rows)
        self.count += 1
        self.groups.append(group)
        sources: list[tuple[Node, Idx | None]] = [(self._stored(i), None) for i in node.inputs]
        if kind in ("kernel", "scatter"):
            sources = list(self._sources(node, group.indices, group))
        self._add(node, group, group.indices, sources)

    def _join(self, node: Node, reading: Node, group: Group) -> str | None:
        """Put ``node`` into ``group``, or say why not."""
        reason: str | None = "another shape to loop over"
        for idx in level_indices(reading.shape, group):
            if reduced_names(node, idx) and not runs_through(idx, group):
                reason = "reduces values that are themselves results of the group's reduction"
                continue
            sources = list(self._sources(node, idx, group))
            reason = self._may_join(node, idx, group, sources)
            reason = reason or self._should_join(node, idx, group, sources)
            if reason is None:
                self._add(node, group, idx, sources)
                return None
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
        near = [self.group_of.get(s, group) for s, _ in sources]
        if self._checks_late([*group.members, node], [group, *near]):
            return "errors are found before any argument is changed"
        axes = reduced_names(node, idx)
        if is_short(node):
            many = too_many(group, axes)
            if many is None or axes & group.short or scans(group):
                return many
        if axes and group.reduced and axes != group.reduced:
            return "reduces other axes"
        if node.op.family == "scan" and group.short:
            return "a scan and a reduction that is written out"
        if axes and any(m in group.results for m in group.members) and not group.reduced:
            return "the group already has results of another shape"
        return None

    def _checks_late(self, members: list[Node], groups: list[Group]) -> bool:
        """Whether a kernel might find an error when arguments have been changed."""
        if not self.late or not any(m.op.checked for m in members):
            return False
        late = {self.group_of[n].number for n in self.late if n in self.group_of}
        after = any(g.number in late or any(g.ancestors >> k & 1 for k in late) for g in groups)
        return after or not self.late.isdisjoint(members)

    def _should_join(
        self, node: Node, idx: Idx, group: Group, sources: list[tuple[Node, Idx | None]]
    ) -> str | None:
        if size(group) >= most(group) // self.share:
            return f"the kernel already holds {len(group.members)} ops"
        late = idx == group.indices and any(s in group.results for s, _ in sources)
        if late and group.split and group.rows * len(group.shape) != 0:
            return "the reduction is over few long rows: all threads finish it first"
        steps = stepped(node) or any(map(stepped, group.members))
        if steps and (group.reduced or (reduced_names(node, idx) and not is_short(node))):
            return "elements at every other place: a loop that only maps has no branch for them"
        if late and group.tall:
            return "the columns are too long to stay in the cache until they are read again"
        return None

    def _add(
        self, node: Node, group: Group, idx: Idx, sources: list[tuple[Node, Idx | None]]
    ) -> None:
        axes = reduced_names(node, idx)
        if is_short(node) and not too_many(group, axes):
            group.short |= axes
        elif axes:
            group.reduced = axes
        if node.op.family == "reduce":
            group.reads[node] = idx
            idx = tuple([i for k, i in enumerate(idx) if k not in node.attrs["axes"]])
        elif group.kind == "scatter":
            group.reads[node], idx = idx, ()  # read by none of its own kernel
        group.members[node] = idx
        if group.reduced and not any(i.variables() & group.reduced for i in idx):
            group.results.add(node)
        self.group_of[node] = group
        before = group.ancestors
        for source, _ in sources:
            owner = self.group_of.get(source)
            if owner is None:
                self.readers |= {source: group} if group.kind != "join" else {}
            elif owner is not group:
                group.ancestors |= 1 << owner.number | owner.ancestors
        if group.ancestors != before:
            for other in self.groups:
                if other.ancestors >> group.number & 1:
                    other.ancestors |= group.ancestors

    # -- values that are cheaper to compute than to store ------------------------------------------

    def _recompute(self) -> None:
        """Compute a cheap value again in every kernel that reads it, where that moves less memory.

        ``(x - x.mean()) / x.std()``: the kernel that divides reads ``x`` and the mean, not the
        differences, which the kernel before it then needs not store.
        """
        readers = self._readers()
        for node in self.order:
            groups, home = readers.get(node, set()), self.group_of.get(node)
            mine = home is not None and home.kind == "kernel" and node not in self.roots
            if home is None or not mine or not groups or not cheap(node, self.inline):
                continue
            sources = {s for s, _ in self._sources(node, home.members[node], home)}
            stored = sum(s.aval.nbytes for s in sources & home.members.keys() - self.roots)
            read = sum(s.aval.nbytes for g in groups for s in sources - self._reads(g))
            calls = any(g.kind != "kernel" for g in groups)
            if not calls and stored + read < node.aval.nbytes * (1 + len(groups)):
                del home.members[node], self.group_of[node]
                home.results.discard(node)
                self.inline.add(node)

    def _readers(self) -> dict[Node, set[Group]]:
        """The other groups that read a member of a group."""
        found: dict[Node, set[Group]] = {}
        for group in self.groups:
            for node in self._reads(group) if group.kind != "call" else ():
                if node in self.group_of:
                    found.setdefault(node, set()).add(group)
        return found

    # -- what has to be stored ---------------------------------------------------------------------

    def _mark_outputs(self, node: Node) -> None:
        group = self.group_of[node]
        if group.kind in ("call", "join"):
            for child in node.inputs:
                self._output(self._stored(child))
            return
        idx = group.reads.get(node, group.members[node])
        for source, _ in self._sources(node, idx, group):
            if self.group_of.get(source) is not group:
                self._output(source)

    def _stored(self, node: Node) -> Node:
        """What a call reads, or reads a view of."""
        while node.op.name in MOVES and node not in self.group_of:
            node = node.inputs[0]
        return node

    def _output(self, node: Node) -> None:
        group = self.group_of.get(node)
        if group is not None and group.kind in ("kernel", "scatter"):
            group.outputs += [node] if node not in group.outputs else []
