"""Arguments that are changed in part: what they are changed with is computed in their memory.

``t[5:25] = v * 2`` gives ``t`` a new value, all of which a kernel would compute and store. Where
nothing else needs the old value, only the part is computed, where it belongs::

    %1: f8[1000] = slice_update(t, %0, start=(5,), step=(1,))

    %1: f8[1000] = slice_update(t, identity(%0), start=(5,), step=(1,), joined=True)

Several parts of an argument (``t[0] = 0; t[-1] = 1``) are a chain of such updates, if they are
apart. A part may be computed of its own old elements (``t[5:25] += v``), but of no others: what
few elements are changed with (``t[0] = t[1]``) is stored, and copied when all else is done.

What is stored or added at places that data choose is done where the argument lies, too, after all
else is: indices and values have been stored and checked by then (``t[idx] += v``).
"""

from collections.abc import Iterator, Sequence
from itertools import combinations, pairwise

from fusec.ir.graph import Graph, Node, toposort
from fusec.ir.rewrite import rebuild
from fusec.passes.groups import Group, fusable, is_call, is_joined
from fusec.passes.nodes import distinct, meet, node_of, spans
from fusec.passes.rules import slice_of_update

FEW = 16  # parts that are computed of others are at most so many, and one in so many elements
LEAST = 4  # a part whose elements are not side by side is at most one in so many of all


def updated(
    graph: Graph, writes: Sequence[tuple[int, int]], strides: Sequence[tuple[int, ...]]
) -> Graph:
    """Mark the updates that are to be done in the memory of params.

    writes: numbers of changed params and of the outputs with their new values; strides: of the
    params, in bytes. Programs that may raise an error change nothing before all else is done.
    """
    nodes = graph.nodes()
    raises = graph.checks or any(n.op.checked or is_call(n) for n in nodes)
    users: dict[Node, list[Node]] = {}
    for node in nodes:
        for child in node.inputs:
            users.setdefault(child, []).append(node)
    outputs = list(graph.outputs)
    changed = {graph.params[number] for number, _ in writes}
    for number, k in writes:
        param, result = graph.params[number], graph.outputs[k]
        once = graph.outputs.count(result) == 1 and param not in graph.outputs
        apart = distinct(param.shape, strides[number], param.dtype.itemsize)
        if not (once and apart) or result in users:
            continue
        scatter = _scatter(param, result, users, strides[number])
        if scatter is not None:
            outputs[k] = _stored_first(scatter, changed)
            continue
        chain = _chain(param, result)
        alone = not raises and all(users[a] == [b] for a, b in pairwise(chain))
        if chain and alone and _apart(chain) and _own(param, chain, users):
            base = param
            for node in chain:
                value = node_of("identity", node.inputs[1])
                base = node_of("slice_update", base, value, **node.attrs, joined=True)
                base.loc = value.loc = node.loc
            outputs[k] = base
        elif 0 < len(chain) <= FEW and _size(chain) * FEW <= param.aval.size:
            outputs[k] = _afterwards(graph, chain, changed) or result
    return Graph(graph.params, outputs, graph.checks)


def changes_arguments(group: Group) -> bool:
    """Whether it is a scatter to an argument, for which all else has to be done."""
    return group.kind == "scatter" and any(map(is_joined, group.members))


def _scatter(
    param: Node, result: Node, users: dict[Node, list[Node]], strides: tuple[int, ...]
) -> Node | None:
    """The scatter to ``param`` that ``result`` is, whatever their shapes."""
    node = result
    while node.op.name == "reshape":
        node = node.inputs[0]
        if len(users[node]) > 1:
            return None
    base = node.inputs[0] if node.op.family == "scatter" and fusable(node) else node
    flat = base.op.name == "reshape"
    while base.op.name == "reshape":
        base = base.inputs[0]
    step, plain = param.dtype.itemsize, True
    for n, stride in zip(reversed(param.shape), reversed(strides)):
        plain, step = plain and (stride == step or n == 1), step * n
    return node if base is param is not node and (plain or not flat) else None


def _stored_first(node: Node, changed: set[Node]) -> Node:
    """The scatter, marked; what it reads of changed params is no view of them, but stored."""
    _, *others = node.inputs
    others = [node_of("identity", x) if changed & {*toposort([x])} else x for x in others]
    made = node_of(node.op.name, node.inputs[0], *others, joined=True)
    made.loc = node.loc
    return made


def _afterwards(graph: Graph, chain: list[Node], changed: set[Node]) -> Node | None:
    """The updates as scatters, which store one after the other when all else is done."""
    values = Graph(graph.params, [node.inputs[1] for node in chain])
    base = chain[0].inputs[0]
    for node, value in zip(chain, rebuild(values, PARTS).outputs):
        made = node_of("scatter_set", base, value, *_places(node))
        if not fusable(made):
            return None
        made.loc = node.loc
        base = _stored_first(made, changed)
    return base


def _places(node: Node) -> Iterator[Node]:
    """An index for each axis of what an update changes, as a scatter takes them."""
    for k, (n, part) in enumerate(zip(node.shape, spans(node))):
        line = node_of("iota", shape=(n,), axis=0)
        row = node_of("slice", line, start=(part.start,), step=(part.step,), shape=(len(part),))
        yield node_of("reshape", row, shape=(len(part),) + (1,) * (len(node.shape) - k - 1))


def _part_of_update(node: Node) -> Node | None:
    """A part of an array that is changed in part: that part, changed in part."""
    x, part, ones = node.inputs[0], spans(node), (1,) * node.aval.ndim
    if x.op.name != "slice_update" or not x.attrs["step"] == node.attrs["step"] == ones:
        return None
    old, value = x.inputs
    both = [range(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(part, spans(x))]
    inside = tuple([r.start - at for r, at in zip(both, x.attrs["start"])])
    place = tuple([r.start - at.start for r, at in zip(both, part)])
    kept = node_of("slice", old, **node.attrs)
    new = node_of("slice", value, start=inside, step=ones, shape=tuple(map(len, both)))
    return node_of("slice_update", kept, new, start=place, step=ones)


PARTS = {"slice": [slice_of_update, _part_of_update]}  # only what is read is computed


def _size(chain: list[Node]) -> int:
    return sum([n.inputs[1].aval.size for n in chain])


def _chain(param: Node, result: Node) -> list[Node]:
    """The updates that make ``result`` of ``param``, first to last; [] if anything else does."""
    chain: list[Node] = []
    while result.op.name == "slice_update":
        chain.insert(0, result)
        result = result.inputs[0]
    real = result is param and all(n.inputs[1].aval.size for n in chain)
    return chain if real else []


def _apart(chain: list[Node]) -> bool:
    """Whether no element is changed twice, and storing them costs no more than storing all."""
    if any(meet(spans(a), spans(b)) for a, b in combinations(chain, 2)):
        return False
    few = _size(chain) * LEAST <= chain[0].aval.size
    return few or all(n.aval.ndim and abs(n.attrs["step"][-1]) == 1 for n in chain)


def _own(param: Node, chain: list[Node], users: dict[Node, list[Node]]) -> bool:
    """Whether the old value is read by its updates only, each at the elements that it changes."""
    readers = [*users[param]]
    readers.remove(chain[0])  # which may read it as what is stored as well
    for node in chain:
        needing = {n for n in readers if _same_part(n, node)}
        for inner in toposort([node.inputs[1]]):
            if needing & {*inner.inputs}:
                plain = inner.op.family == "elementwise" or inner.op.name == "reshape"
                if not plain or _axes(inner) != _axes(node.inputs[1]):
                    return False
                needing.add(inner)
        mine = {n for n in needing if n.op.name == "slice"}
        if any(u not in needing and u is not node for n in needing for u in users.get(n, [])):
            return False
        readers = [n for n in readers if n not in mine]
    return not readers


def _axes(node: Node) -> list[int]:
    return [n for n in node.shape if n != 1]


def _same_part(part: Node, update: Node) -> bool:
    """Whether ``part`` is a slice of just the elements that ``update`` changes."""
    same = part.op.name == "slice" and part.shape == update.inputs[1].shape
    return same and all(part.attrs[name] == update.attrs[name] for name in ("start", "step"))
