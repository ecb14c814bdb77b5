"""The loop that stands for nodes that repeat; see ``roll``."""

from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from fusec.ir.aval import Aval
from fusec.ir.graph import Graph, Node
from fusec.ops import OPS
from fusec.ops.control import Loop, Part, Read, Store
from fusec.passes.nodes import const_of, node_of

KEPT = 4  # values of the last rounds are read after a loop; more are put into one array
LEAVES = ("param", "const", "dim")
PARTED = ("slice", "slice_update")  # ops that may go to another place in each round
CONST, SHARED, EACH, MOVED = -1, 0, -2, -4
Links = tuple[int, ...]
"""How a node comes by each input: a known number, the same value in all rounds, a number of its
own in each, a part of a leaf, or, above zero, how many nodes ago it was computed."""


@dataclass(frozen=True)
class Repeat:
    """order[first + k * period + j] is the same node for every round k; links: by j."""

    first: int
    period: int
    rounds: int
    links: list[Links]


class Unrollable(Exception):
    """What stands there is no loop after all."""


def _part(nodes: Sequence[Node], shape: tuple[int, ...]) -> Part:
    """The part that slices, or updates, of the rounds stand for."""
    starts = np.array([n.attrs["start"] for n in nodes], np.int64)
    return Part(starts, nodes[0].attrs["step"], shape)


class Roll:
    """chains: node of a round -> for how many rounds its value is kept.

    ends: what is read after the loop -> (node of a round, how many rounds ago); all_of: those that
    are read of more rounds than are kept.
    """

    def __init__(
        self, order: list[Node], found: Repeat, checks: Container[Node], last: Mapping[Node, int]
    ) -> None:
        self.order, self.found, self.checks = order, found, checks
        self.nodes = order[found.first : found.first + found.period]
        self.end = found.first + found.period * found.rounds
        self.chains: dict[int, int] = {}
        self.needed: dict[int, int] = {}  # of those, by the rounds themselves
        self.stored = dict(self._stored())
        self.updates = sorted(j for chain in self.stored.values() for j in chain)
        read = [n for n in order[found.first : self.end] if last.get(n, -1) >= self.end]
        self._finish(read or [order[self.end - 1]])

    # -- what there is --------------------------------------------------------------------------

    def source(self, j: int, slot: int) -> tuple[int, int] | None:
        """(rounds ago, node) of an input that a round computed; None for others."""
        link = self.found.links[j][slot]
        if link <= 0:
            return None
        back, at = divmod(j - link, self.found.period)
        return -back, at

    def every(self, j: int) -> list[Node]:
        """A node of all rounds."""
        return self.order[self.found.first + j : self.end : self.found.period]

    def part(self, j: int) -> Part:
        """The part of an array that a slice reads or an update changes."""
        node = self.nodes[j]
        shape = (node.inputs[1] if node.op.name == "slice_update" else node).shape
        return _part(self.every(j), shape)

    def moves(self, j: int) -> bool:
        """Whether a slice or an update goes to another place in some round."""
        parted = self.nodes[j].op.name in PARTED
        return parted and len({n.attrs["start"] for n in self.every(j)}) > 1

    def _stored(self) -> Iterator[tuple[int, list[int]]]:
        """Arrays that each round changes in places of its own: the last update, and all."""
        seen: set[int] = set()
        for j, node in enumerate(self.nodes):
            if node.op.name == "slice_update" and j not in seen and self.moves(j):
                chain = self._chain(j)
                seen.update(chain)
                yield max(chain), chain

    def _chain(self, j: int) -> list[int]:
        """The updates of one array in a round, first to last."""
        chain, rounds = [j], 0
        while True:
            base = self.source(chain[-1], 0)
            if base is None or self.nodes[base[1]].op.name != "slice_update":
                raise Unrollable
            rounds += base[0]
            if base[1] == j:
                break
            if base[1] in chain:
                raise Unrollable
            chain.append(base[1])
        if rounds != 1:
            raise Unrollable
        return sorted(chain)

    def _keep(self, j: int, rounds: int) -> None:
        self.chains[j] = max(self.chains.get(j, 0), rounds)

    def checked(self, j: int) -> bool:
        """Whether a node, or the same one of another round, may report an error."""
        return any(n in self.checks for n in self.every(j))

    # -- what is kept ---------------------------------------------------------------------------

    def _finish(self, read: list[Node]) -> None:
        found = self.found
        places = {n: k for k, n in enumerate(self.order[found.first : self.end])}
        ends: dict[Node, tuple[int, int]] = {}
        for node in read:
            k, j = divmod(places[node], found.period)
            ends[node] = j, found.rounds - 1 - k
        self.ends, self.all_of = ends, sorted({j for j, ago in ends.values() if ago >= KEPT})
        for j in range(found.period):
            for slot in range(len(found.links[j])):
                ago, at = self.source(j, slot) or (0, j)
                if ago and at not in self.updates:
                    self._keep(at, ago)
        self.needed = dict(self.chains)
        for j, ago in ends.values():
            if j in self.updates:
                if ago or j not in self.stored:
                    raise Unrollable
            elif j not in self.all_of:
                self._keep(j, ago + 1 if ago else 0)


class Body:
    """The nodes of a round on params, and where everything comes from and goes to.

    arrays: the inputs of the loop. old: (node, rounds ago) -> array.
    """

    def __init__(self, roll: Roll) -> None:
        self.roll, self.found = roll, roll.found
        self.arrays: list[Node] = []
        self.shared: dict[Node, int] = {}
        self.reads: dict[Node, Read] = {}
        self.known: dict[object, Node] = {}  # params by what they read
        self.made: dict[int, Node] = {}
        self.begun: dict[tuple[int, int] | None, Node] = {}  # what the first round finds
        for k, links in enumerate(self.found.links):
            for slot, x in enumerate(roll.order[self.found.first + k].inputs[: len(links)]):
                source = roll.source(k, slot)
                if source is not None and source[0] == 1:
                    self.begun.setdefault(source, x)
        self.old = {
            (j, ago): self._array(
                self._before(j, ago) if ago <= roll.needed.get(j, 0) else self._memory(j)
            )
            for j, rounds in roll.chains.items()
            for ago in range(1, rounds + 1)
        }
        self.places = {last: self._array(self._before(last, 1)) for last in roll.stored}
        self.stacks = {j: self._array(self._memory(j, roll.found.rounds)) for j in roll.all_of}
        for j, node in enumerate(roll.nodes):
            if j in roll.updates:
                continue
            param = self._part(j)
            if param is not None:
                self.made[j] = param
                continue
            inputs = [self._input(j, slot) for slot in range(len(node.inputs))]
            self.made[j] = node.replace(tuple(inputs))

    def _before(self, j: int, ago: int) -> Node:
        """What stands for the value of a round before the first one."""
        roll, first = self.roll, self.found.first
        node = self.begun.get((ago, j)) or roll.order[first + j - ago * self.found.period]
        if node.aval != self.roll.nodes[j].aval:
            raise Unrollable
        return node

    def _memory(self, j: int, *rounds: int) -> Node:
        """What has no value before the loop: one of a round, or those of so many rounds."""
        node = self.roll.nodes[j]
        shape = (*rounds, *node.shape)
        return node_of("broadcast_to", const_of(0, node.dtype), shape=shape)

    def _array(self, node: Node) -> int:
        self.arrays.append(node)
        return len(self.arrays) - 1

    def _param(self, key: object, letter: str, aval: Aval, read: Read) -> Node:
        if key not in self.known:
            name = f"{letter}{len(self.reads)}"
            param = Node(OPS["param"], (), {"name": name, "aval": aval}, aval)
            self.known[key], self.reads[param] = param, read
        return self.known[key]

    def _input(self, j: int, slot: int) -> Node:
        x, link = self.roll.nodes[j].inputs[slot], self.found.links[j][slot]
        if link == CONST:
            return self._constant(j, slot)
        if link == SHARED:
            return self._param(x, "x", x.aval, Read(self._shared(x)))
        if link == MOVED:
            return self._moved([n.inputs[slot] for n in self.roll.every(j)])
        if link == EACH:
            nodes = tuple([n.inputs[slot] for n in self.roll.every(j)])
            numbers = [self._shared(n) for n in nodes] if nodes not in self.known else ()
            return self._param(nodes, "n", x.aval, Read(each=tuple(numbers)))
        ago, at = self.roll.source(j, slot) or (0, 0)
        if at in self.roll.updates and (ago != 1 or at not in self.places):
            raise Unrollable  # an array as it is between two updates
        if ago == 0:
            return self.made[at]
        number = self.places[at] if at in self.places else self.old[at, ago]
        return self._param(number, "s", x.aval, Read(number))

    def _moved(self, nodes: Sequence[Node]) -> Node:
        """What a round reads of an argument or a constant: always the same, or another part."""
        first = nodes[0]
        if all(n is first for n in nodes):
            return self._param(first, "x", first.aval, Read(self._shared(first)))
        bases = {n.inputs[0] for n in nodes} if first.inputs else set()
        if len(bases) == 1 and first.op.name == "slice":
            (base,), part = bases, _part(nodes, first.shape)
            key = base, part.starts.tobytes(), *part[1:]
            return self._param(key, "p", first.aval, Read(self._shared(base), part))
        if not bases or first.op.name == "slice":
            stream = np.stack([_known(n) for n in nodes])
            return self._param(tuple(nodes), "c", first.aval, Read(stream=stream))
        return first.replace((self._moved([n.inputs[0] for n in nodes]),))

    def _shared(self, x: Node) -> int:
        """The array of a value that stays as it is, although a carried one may begin as it."""
        if x not in self.shared:
            self.shared[x] = self._array(x)
        return self.shared[x]

    def _constant(self, j: int, slot: int) -> Node:
        """A constant, or the param of one that varies."""
        values = tuple([n.inputs[slot] for n in self.roll.every(j)])
        if len({*values}) == 1:
            return values[0]
        known = [n.op.impl(**n.attrs) for n in values]
        return self._param(values, "c", values[0].aval, Read(stream=np.stack(known)))

    def _part(self, j: int) -> Node | None:
        """What a slice reads where it goes to other places, or of an array that is changed."""
        roll, node = self.roll, self.roll.nodes[j]
        ago, at = (roll.source(j, 0) if node.op.name == "slice" else None) or (0, -1)
        if at not in roll.updates and not roll.moves(j):
            return None
        part = roll.part(j)
        if at in roll.updates:
            if ago == 0 and part.same(roll.part(at)):
                return self._input(at, 1)
            number = self._place(ago, at, part)
        elif at >= 0:
            if ago == 0:
                raise Unrollable  # another part of what this very round computes
            number = self.old[at, ago]
        else:
            number = self._shared(node.inputs[0])
        return self._param((number, j), "p", node.aval, Read(number, part))

    def _place(self, ago: int, at: int, part: Part) -> int:
        """The array as a round finds it, of which a part is read after some updates."""
        (last,) = [last for last, chain in self.roll.stored.items() if at in chain]
        before = [j for j in self.roll.stored[last] if j <= at]
        if ago == 0 and all(part.apart(self.roll.part(j)) for j in before):
            return self.places[last]
        if ago != 1 or at != last:
            raise Unrollable
        return self.places[last]

    def loop(self, results: Sequence[tuple[str, int]]) -> Loop:
        roll = self.roll
        outputs = [self.made[j] for j in roll.chains]
        carried = [
            tuple([self.old[j, ago] for ago in range(1, n + 1)]) for j, n in roll.chains.items()
        ]
        numbers = {node: k for k, node in reversed([*enumerate(outputs)])}

        def number(value: Node) -> int:
            if value not in numbers:
                numbers[value] = len(outputs)
                outputs.append(value)
            return numbers[value]

        stores = []
        for last, chain in roll.stored.items():
            for j in chain:
                value = plain = self._input(j, 1)
                while plain.op.name == "reshape":
                    plain = plain.inputs[0]
                output = number(plain if plain in numbers else value)
                stores.append(Store(output, self.places[last], roll.part(j)))
        for j, array in self.stacks.items():
            shape = 1, *roll.nodes[j].shape
            starts = np.arange(self.found.rounds)[:, None] * [1, *[0] * (len(shape) - 1)]
            part = Part(starts, (1,) * len(shape), shape)
            stores.append(Store(number(self.made[j]), array, part))
        checks = [made for j, made in self.made.items() if roll.checked(j)]
        carried += [()] * (len(outputs) - len(carried))
        body = Graph([*self.reads], outputs, checks)
        reads = tuple(self.reads.values())
        return Loop(body, self.found.rounds, reads, tuple(carried), tuple(stores), tuple(results))


def whole_arrays(node: Node) -> Node | None:
    """The loop that reads arrays whole of which it read most in parts; its rounds take the parts.

    What is the same in all rounds of an outer loop, such as what an inner one divides by, is in
    one array then, whose parts the inner loop finds.
    """
    loop: Loop = node.attrs["loop"]
    named = Counter([r.array for r in loop.reads] + [k for r in loop.reads for k in r.each])
    named.update([*loop.moving, *[k for kind, k in loop.results if kind == "array"]])
    found = {
        param: _base(node.inputs[read.array])
        for param, read in zip(loop.body.params, loop.reads)
        if named[read.array] == 1 and read.array >= 0 and read.part is None
    }
    sizes = Counter[Node]()
    for param, base in found.items():
        sizes[base] += param.aval.size
    arrays, reads, done = [*node.inputs], dict[Node, Read](), dict[Node, Node]()
    params: dict[Node, Node] = {}
    for param, read in zip(loop.body.params, loop.reads):
        base = found.get(param, param)
        if base in (param, arrays[read.array]) or 2 * sizes[base] < base.aval.size:
            reads[param], done[param] = read, param
            continue
        if base not in params:
            attrs = {**param.attrs, "aval": base.aval}
            params[base] = Node(OPS["param"], (), attrs, base.aval)
            reads[params[base]] = read
        done[param] = _taken(arrays[read.array], base, params[base])
        arrays[read.array] = base
    if not params:
        return None
    for n in loop.body.nodes():
        done[n] = done.get(n) or n.replace(tuple([done[i] for i in n.inputs]))
    outputs, checks = ([done[n] for n in x] for x in (loop.body.outputs, loop.body.checks))
    loop = replace(loop, body=Graph([*reads], outputs, checks), reads=tuple(reads.values()))
    return Node(node.op, tuple(arrays), {"loop": loop}, node.aval, node.loc, node.serial)


def _base(node: Node) -> Node:
    """The array that a node is a part of."""
    while node.op.name in ("slice", "reshape"):
        node = node.inputs[0]
    return node


def _taken(part: Node, base: Node, array: Node) -> Node:
    """The same part of another array."""
    return array if part is base else part.replace((_taken(part.inputs[0], base, array),))


def _known(node: Node) -> np.ndarray:
    """The value of a part of a constant."""
    if node.op.name == "param":
        raise Unrollable
    found: np.ndarray = node.op.impl(*[_known(i) for i in node.inputs], **node.attrs)
    return found
