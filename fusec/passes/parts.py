"""Concatenations without a copy: their parts are written where they belong.

A concatenation that is stored anyway and has a part that is stored anyway becomes a piece of
memory; whoever computes a part stores it there. What is read from elsewhere (an argument, the
result of a call) is copied there by ``identity``::

    %3: f4[2,8] = concatenate(%1, %2, axis=0)

    %1': f4[1,8] = reshape(identity(x), shape=(1, 8))
    %3: f4[2,8] = concatenate(%1', %2, axis=0, joined=True)

All other concatenations are branches on the place, inside the kernels that read them.
"""

from collections.abc import Iterator

from fusec.ir.graph import Graph, Node
from fusec.passes.access import ZERO, Index, reshape_index, var
from fusec.passes.groups import fusable, is_call, is_free, source_of
from fusec.passes.inline import stored_values
from fusec.passes.nodes import node_of

KEPT = frozenset({"reduce", "scan"})  # families whose values are stored before they are moved


def home(part: Node) -> tuple[Node, tuple[Index, ...]]:
    """The value that ``part`` holds whole, and where in ``part`` its element (i0, i1, ...) is."""
    chain: list[Node] = []
    found, node = (part, _indices(part)), part
    while node.op.name in ("reshape", "transpose"):
        chain.append(node)
        node = node.inputs[0]
        idx, extents = _indices(node), {f"i{k}": n for k, n in enumerate(node.shape)}
        for move in reversed(chain):
            if move.op.name == "transpose":
                idx = tuple([idx[p] for p in move.attrs["perm"]])
            else:
                idx = reshape_index(idx, move.inputs[0].shape, move.shape, extents)
        if all(isinstance(atom, str) for i in idx for atom, _ in i.terms):
            found = node, idx
    return found


def _of_recurrence(node: Node) -> bool:
    """Whether the kernel of a recurrence stores a value, wherever that may be."""
    return node.op.name == "host_out" and node.inputs[0].op.name == "recurrence"


def _indices(node: Node) -> tuple[Index, ...]:
    return tuple([ZERO if n == 1 else var(f"i{k}") for k, n in enumerate(node.shape)])


def joined(graph: Graph) -> Graph:
    """Mark the concatenations whose parts are to be written into them. Assumes CSE has run."""
    plan = _Plan(graph)
    done: dict[Node, Node] = {}
    for node in graph.nodes():
        inputs = tuple([done[i] for i in node.inputs])
        same = all(a is b for a, b in zip(inputs, node.inputs))
        if node in plan.parts:
            done[node] = plan.joined(node, inputs)
        else:
            done[node] = node if same else node.replace(inputs)
    outputs, checks = ([done[n] for n in found] for found in (graph.outputs, graph.checks))
    return Graph(graph.params, outputs, checks)


class _Plan:
    """parts: of each concatenation that is joined, whether each part is computed in its place."""

    def __init__(self, graph: Graph) -> None:
        order = graph.nodes()
        self.fixed = {*graph.outputs, *[home(x)[0] for x in graph.outputs]}  # have their own memory
        self.users: dict[Node, set[Node]] = {}
        for node in order:
            for child in node.inputs:
                self.users.setdefault(source_of(child), set()).add(node)
                if is_call(node):
                    self.fixed.add(source_of(child))
        joints = [node for node in order if node.op.name == "concatenate"]
        worth: set[Node] = set()
        for node in joints:
            sources = [home(p)[0] for p in node.inputs]
            worth.update([node] if any(self._kept(s, worth) for s in sources) else [])
        self.parts: dict[Node, list[bool]] = {}
        stored, taken = stored_values(graph, order), set[Node]()
        for node in reversed(joints):
            if (node in stored and node in worth) or node in taken:
                mine = [self._placed(p, taken) for p in node.inputs]
                if any(mine):
                    self.parts[node] = mine

    def _placed(self, part: Node, taken: set[Node]) -> bool:
        source = home(part)[0]
        free = self._free(source) and source not in taken
        taken.update([source] if free else [])
        return free

    def _free(self, source: Node) -> bool:
        """Whether a kernel computes a value, and may put it anywhere."""
        called = is_call(source) and not _of_recurrence(source)
        made = not (is_free(source) or called) and source.op.family != "scatter"
        made = made and source.aval.size > 0
        return made and source not in self.fixed and fusable(node_of("identity", source))

    def _kept(self, source: Node, worth: set[Node]) -> bool:
        """Whether a part would have to be stored before it is copied."""
        if not self._free(source):
            return False
        kept = source.op.family in KEPT or _of_recurrence(source)
        return kept or len(self.users[source]) > 1 or source in worth

    def joined(self, node: Node, inputs: tuple[Node, ...]) -> Node:
        axis = node.attrs["axis"]
        parts = list(self._copied(inputs, self.parts[node], axis))
        new = node_of("concatenate", *parts, axis=axis, joined=True)
        new.loc = node.loc
        return new

    def _copied(self, inputs: tuple[Node, ...], mine: list[bool], axis: int) -> Iterator[Node]:
        """The parts, with neighbours that are copied as one."""
        run: list[Node] = []
        for part, placed in zip(inputs, mine):
            if placed:
                yield from copies(run, axis)
                run = []
                yield part
            elif part.aval.size:
                run.append(part)
        yield from copies(run, axis)


def copies(run: list[Node], axis: int) -> Iterator[Node]:
    """A part that holds neighbours which are stored elsewhere."""
    if len(run) > 1:
        yield node_of("concatenate", *run, axis=axis)
    elif run:
        (part,) = run
        short = node_of("reshape", part, shape=tuple([n for n in part.shape if n != 1]))
        yield node_of("reshape", node_of("identity", short), shape=part.shape)
