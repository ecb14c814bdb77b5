"""Arguments and temporaries that a kernel may write over, instead of into memory of its own.

That holds where the last step that reads the value is the kernel that writes over it, and element
i of everything that kernel stores needs no element of the value but i, and no later loop of that
kernel reads the value again. Of a temporary the kernel may also store reductions, if they reduce
what the loop that writes has computed.
"""

from collections.abc import Sequence

from fusec.ir.graph import Node, toposort
from fusec.passes.groups import Group, Partition, scans
from fusec.passes.nodes import distinct, elementwise


def in_place(
    partition: Partition,
    writes: Sequence[tuple[int, int]],
    strides: Sequence[tuple[int, ...]],
) -> dict[Node, Node]:
    """New values that lie in the memory of their arguments: result -> param.

    writes: numbers of changed params and of the graph's outputs with their new values; strides: of
    the params, in bytes. Programs whose kernels can report an error change nothing before all of
    them are done.
    """
    graph = partition.graph
    if not writes or graph.checks or any(n.op.checked for n in graph.nodes()):
        return {}
    found: dict[Node, Node] = {}
    for number, k in writes:
        param, result = graph.params[number], graph.outputs[k]
        same = param.dtype == result.dtype and param.shape == result.shape
        once = graph.outputs.count(result) == 1 and param not in graph.outputs
        computed = result.op.name not in ("param", "const")  # others lie where they are
        alone = computed and distinct(param.shape, strides[number], param.dtype.itemsize)
        if same and once and alone and _last_reader(partition, param, result):
            found[result] = param
    return found


def _last_reader(partition: Partition, param: Node, result: Node) -> bool:
    groups = partition.groups
    at = next((k for k, g in enumerate(groups) if result in g.outputs), None)
    if at is None:
        return False
    group, later = groups[at], groups[at + 1 :]
    if group.kind != "kernel" or group.split or any(g.kind == "call" for g in later):
        return False
    stored = {n for g in groups for n in g.outputs}
    if any(param in _reached(g, stored) for g in later):
        return False
    stages = _stages(group)
    late = [out for out in group.outputs if stages[out] > stages[result]]
    if any(param in toposort([out]) for out in late):
        return False
    return all(elementwise(param, out) for out in group.outputs)


def _stages(group: Group) -> dict[Node, int]:
    """How many reductions of the group stand before a value: the loop that computes it."""
    stages: dict[Node, int] = {}
    for node in toposort(group.outputs):
        stages[node] = max([stages[i] for i in node.inputs], default=0)
        stages[node] += node.op.family == "reduce" and node in group.members
    return stages


def _reached(group: Group, stored: set[Node]) -> set[Node]:
    """What a group computes with, back to what is stored."""
    stack = [i for m in group.members for i in m.inputs] + list(group.outputs)
    seen: set[Node] = set()
    while stack:
        node = stack.pop()
        if node not in seen:
            seen.add(node)
            stack += node.inputs if node not in stored or node in group.members else ()
    return seen


def last_readers(partition: Partition, stored: set[Node]) -> dict[Node, int]:
    """The number of the last group that reads a value; of calls that give views, none is later."""
    last: dict[Node, int] = {}
    for k, g in enumerate(partition.groups):
        views = g.kind == "call" and not any(m.op.family == "library" for m in g.members)
        for node in _reached(g, stored):
            last[node] = max(last.get(node, 0), len(partition.groups) if views else k)
    return last


def written_over(group: Group, source: Node, stored: set[Node]) -> set[Node]:
    """The stored values of a kernel that may lie where a temporary does that it reads last.

    stored: the outputs of all groups.
    """
    if group.short or scans(group) or group.kind != "kernel":
        return set()
    uses = _uses(group, source, stored)
    if any(uses[out] == "again" for out in group.outputs):
        return set()
    return {out for out in group.outputs if uses[out] == "same"}


def _uses(group: Group, source: Node, stored: set[Node]) -> dict[Node, str]:
    """How the values of a kernel need ``source``: "" not at all, "same" in the first loop and at
    their own index, "reduced" by reductions of such values only, or "again"."""
    found, stages = {source: "same"}, {source: 0}
    for node in _computed(group, source, stored):
        ways = {found.get(i, "") for i in node.inputs}
        late = max([stages.get(i, 0) for i in node.inputs], default=0)
        stages[node] = late + (node.op.family == "reduce")
        direct = node.op.family == "elementwise" and node.shape == source.shape
        if ways <= {""}:
            found[node] = ""
        elif ways <= {"", "reduced"}:
            found[node] = "reduced"
        elif node.op.family == "reduce" and source not in node.inputs and not late:
            found[node] = "reduced" if ways == {"same"} else "again"
        else:
            found[node] = "same" if direct and ways <= {"", "same"} and not late else "again"
    return found


def _computed(group: Group, source: Node, stored: set[Node]) -> list[Node]:
    """What a kernel computes for its outputs, inputs first."""
    order: dict[Node, None] = {}
    stack = [(out, False) for out in group.outputs]
    while stack:
        node, done = stack.pop()
        if done:
            order[node] = None
        elif node not in order and node is not source:
            stack.append((node, True))
            if node in group.members or node not in stored:
                stack += [(i, False) for i in node.inputs]
    return list(order)
