"""Arguments that are changed in part: what they are changed with is computed in their memory.

``t[5:25] = v * 2`` gives ``t`` a new value, all of which a kernel would compute and store. Here
only the part is computed, where it belongs::

    %1: f8[1000] = slice_update(t, %0, start=(5,), step=(1,))

    %1: f8[1000] = slice_update(t, identity(%0), start=(5,), step=(1,), joined=True)

Several updates (``t[:-1] = t[1:]; t[-1] = v; t[idx] += 1``) are a chain of versions of one memory.
Who reads a version has to run before the next one is stored, and what may report an error before
anything is (``sequenced``). What an update needs of other elements that it changes is read before
they are overwritten where the loop runs towards them: it runs backwards for ``t[1:] = t[:-1]``.
Where no order does, or the kernels can't be put in one, the new values are stored first, and
copied when all else is done; so is what is stored or added at places that data choose.
"""

from collections.abc import Iterator, Sequence

from fusec.ir.graph import Graph, Node, toposort
from fusec.passes.groups import Group, Partition, fusable, is_joined
from fusec.passes.nodes import distinct, elementwise, meet, node_of, spans
from fusec.passes.parts import copies, home

FEW = 16  # updates whose values are stored first are at most so many: each is two kernels
MANY = 64  # updates of a chain, each a kernel of its own
MOST = 4096  # of those that are too many for one kernel
LEAST = 4  # a part whose elements are not side by side is at most one in so many of all


class Overlap(Exception):
    """A kernel would overwrite what is still to be read: its results have to be stored first."""


def choices(
    graph: Graph, writes: Sequence[tuple[int, int]], strides: Sequence[tuple[int, ...]]
) -> Iterator[Graph]:
    """The graph with updates in the memory of params, and others to try where that can't be done.

    writes: numbers of changed params and of the outputs with their new values; strides: of the
    params, in bytes.
    """
    deep = False, MOST  # where the graph as it is was too deep
    for first, longest in ((False, MANY), (True, FEW), (None, 0), deep):
        marked = graph if first is None else _updated(graph, writes, strides, first, longest)
        if marked is not graph or first is None:
            yield marked


def _updated(
    graph: Graph,
    writes: Sequence[tuple[int, int]],
    strides: Sequence[tuple[int, ...]],
    first: bool,
    longest: int,
) -> Graph:
    """Mark the updates that are done in params; first: what they store is computed before that."""
    outputs, links = list(graph.outputs), dict[Node, Node]()
    for number, k in writes:
        param, result = graph.params[number], graph.outputs[k]
        chain = _chain(param, result, _plain(param, strides[number]))
        chain = chain or _whole(param, result, first)
        own = graph.outputs.count(result) == 1 and not {param, *chain[:-1]} & {*graph.outputs}
        apart = distinct(param.shape, strides[number], param.dtype.itemsize)
        if chain and own and apart and _worth(param, chain, first, longest):
            links.update(dict.fromkeys(chain, param))
            outputs[k] = chain[-1]
    if not links:
        return graph
    changed, done = {*links.values()}, dict[Node, Node]()
    for node in toposort([*outputs, *graph.checks]):
        inputs = tuple([done[i] for i in node.inputs])
        if is_joined(node):  # what lies in an argument is copied to where it is a part
            both = zip(inputs, node.inputs)
            inputs = tuple([next(copies([i], 0)) if home(x)[0] in links else i for i, x in both])
        if node in links:
            memory = {links[node], *[n for n, p in links.items() if p is links[node]]}
            done[node] = _marked(node, inputs, changed, None if first else _ways(node, memory))
            done[node].loc = node.loc
        else:
            same = all(a is b for a, b in zip(inputs, node.inputs))
            done[node] = node if same else node.replace(inputs)
    new = [[done[n] for n in found] for found in (outputs, graph.checks)]
    return Graph(graph.params, *new)


def _plain(param: Node, strides: tuple[int, ...]) -> bool:
    """Whether the elements of an argument lie side by side in C order."""
    step, plain = param.dtype.itemsize, True
    for n, stride in zip(reversed(param.shape), reversed(strides)):
        plain, step = plain and (stride == step or n == 1), step * n
    return plain


def _chain(param: Node, result: Node, plain: bool) -> list[Node]:
    """The updates that make ``result`` of ``param``, first to last; [] if anything else does."""
    chain: list[Node] = []
    while result is not param:
        if result.op.name == "reshape" and plain:
            result = result.inputs[0]
        elif result.op.name == "slice_update" or _scatters(result):
            chain.insert(0, result)
            result = result.inputs[0]
        else:
            return []
    return chain if all(n.inputs[1].aval.size for n in chain) else []


def _whole(param: Node, result: Node, first: bool) -> list[Node]:
    """``t -= t.mean()`` as an update of all elements; others are written over by themselves."""
    other = result.op.name not in ("param", "const") and not elementwise(param, result)
    if first or not other or result.aval != param.aval or not result.aval.size:
        return []
    start, step = (0,) * param.aval.ndim, (1,) * param.aval.ndim
    update = node_of("slice_update", param, result, start=start, step=step)
    update.loc = result.loc
    return [update] if _ways(update, {param}) else []


def _scatters(node: Node) -> bool:
    return node.op.family == "scatter" and fusable(node)


def _worth(param: Node, chain: list[Node], first: bool, longest: int) -> bool:
    """Whether to store the parts, one after the other, costs no more than to store all."""
    total, parts = param.aval.size, [n for n in chain if n.op.name == "slice_update"]
    sizes = [n.inputs[1].aval.size for n in parts]
    near = all(n.aval.ndim and abs(n.attrs["step"][-1]) == 1 for n in parts)
    few = sum(sizes) * LEAST <= total
    if len(chain) > longest or sum(sizes) > 2 * total or not (few or near):
        return False
    return not first or all(fusable(_stored_first(n, n.inputs, set())) for n in parts)


def _marked(
    node: Node, inputs: tuple[Node, ...], changed: set[Node], ways: list[int] | None
) -> Node:
    """An update in the memory of a param; ways: along each axis 1, or -1 for backwards."""
    if node.op.family == "scatter" or ways is None:
        return _stored_first(node, inputs, changed)
    base, value = inputs
    ends = [n - 1 if way < 0 else 0 for n, way in zip(value.shape, ways)]
    places = zip(node.attrs["start"], node.attrs["step"], ends)
    start, step = tuple([b + s * n for b, s, n in places]), tuple(ways)
    if -1 in ways:
        value = node_of("slice", value, start=tuple(ends), step=step, shape=value.shape)
    value = node_of("identity", value)
    value.loc = node.loc
    step = tuple([s * way for s, way in zip(node.attrs["step"], ways)])
    return node_of("slice_update", base, value, start=start, step=step, joined=True)


def _stored_first(node: Node, inputs: tuple[Node, ...], changed: set[Node]) -> Node:
    """The update as a scatter; what it reads of changed params is no view of them, but stored."""
    base, *others = inputs
    others = [node_of("identity", x) if changed & {*toposort([x])} else x for x in others]
    name, places = node.op.name, list[Node]()
    if name == "slice_update":
        name, places = "scatter_set", list(_places(node))
    return node_of(name, base, *others, *places, joined=True)


def _places(node: Node) -> Iterator[Node]:
    """An index for each axis of what an update changes, as a scatter takes them."""
    for k, (n, part) in enumerate(zip(node.shape, spans(node))):
        line = node_of("iota", shape=(n,), axis=0)
        row = node_of("slice", line, start=(part.start,), step=(part.step,), shape=(len(part),))
        yield node_of("reshape", row, shape=(len(part),) + (1,) * (len(node.shape) - k - 1))


def _ways(update: Node, memory: set[Node]) -> list[int] | None:
    """Along each axis, the way in which a loop reads old values before it overwrites them.

    None where there is none, as far as one can see: whether it holds is for the kernel to say.
    """
    ways = [0] * update.aval.ndim
    if update.op.name != "slice_update":
        return None
    part, value = spans(update), update.inputs[1]
    for node in toposort([value]):
        for base in memory & {*node.inputs}:
            read = node if node.op.name == "slice" else None
            here = spans(read) if read is not None else [range(n) for n in base.shape]
            if base.shape != update.shape or node in memory or not meet(here, part):
                continue
            if [len(a) for a in here] != [len(b) for b in part]:
                continue
            for k, (a, b) in enumerate(zip(here, part)):
                far = (a.start - b.start) * b.step
                if a.step != b.step or far * ways[k] < 0:
                    return None
                ways[k] = ways[k] or (far > 0) - (far < 0)
    return [way or 1 for way in ways]


def sequenced(partition: Partition) -> list[Group]:
    """The groups in an order in which each reads the versions that it should.

    Whatever may report an error comes before the first group that changes an argument. Raises
    Overlap where there is no such order.
    """
    groups = partition.groups
    updates = [n for g in groups for n in g.members if is_joined(n) and n.op.name != "concatenate"]
    if not updates:
        return groups
    maker = {out: g for g in groups for out in (*g.outputs, *g.members)}
    home = {n: maker[n if n.op.family == "scatter" else n.inputs[1]] for n in updates}
    older = {n: _older(n) for n in updates}
    before = {g: {h for h in groups if g.ancestors >> h.number & 1} for g in groups}
    stored = {out for g in groups for out in (*g.outputs, *[m for m in g.members if is_joined(m)])}
    for group in groups:
        if group.kind == "join":
            continue
        reads = _reads(group, stored)
        fails = group.kind == "call" or any(node.op.checked for _, node in reads)
        for update, writer in home.items():
            late = any(base in older[update] and _meet(node, update) for base, node in reads)
            if fails or late:
                before[writer].add(group)
    for update, writer in home.items():
        before[writer] |= {home[n] for n in older[update] if n in home and _meet(n, update)}
    order: list[Group] = []
    left = dict.fromkeys(groups)
    while left:
        ready = next((g for g in left if not (before[g] - {g}) & left.keys()), None)
        if ready is None:
            raise Overlap
        order.append(ready)
        del left[ready]
    return order


def _older(update: Node) -> set[Node]:
    """The versions of its memory before an update."""
    found, node = set[Node](), update
    while node.op.name != "param":
        node = node.inputs[0]
        found.add(node)
    return found


def _reads(group: Group, stored: set[Node]) -> list[tuple[Node, Node]]:
    """What a kernel reads, or computes on the way, and the node that reads it."""
    found = [(i, m) for m in group.members for i in m.inputs]
    found += [(out, out) for out in group.outputs if out.op.name == "param"]
    seen = {*group.members}
    for base, _ in found:
        if base not in seen and base not in stored:
            seen.add(base)
            found += [(i, base) for i in base.inputs]
    return found


def _meet(node: Node, update: Node) -> bool:
    """Whether what a node reads, or changes, of a memory may be what an update changes."""
    known = node.op.name == "slice" and node.inputs[0].shape == update.shape
    changes = node.op.name == "slice_update" and is_joined(node)  # others read all that they leave
    known = known or (changes and node.shape == update.shape)
    return not (known and update.op.name == "slice_update") or meet(spans(node), spans(update))
