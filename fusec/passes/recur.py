"""Loops in which no element needs another one's past: recurrences, each of them one kernel.

A round of ``y = y + a * (x[t] - y); rows.append(y)`` computes element i of ``y`` from element i of
the round before. So the loop over the rounds may stand inside the kernel, where what goes from
round to round stays in registers or in the first cache::

    %9: V[1] = recurrence(%3, x, loop=255 rounds)

What a round reads of arrays must move by the same distance in every round. An array that rounds
change (``v[t] = f(v[t - 1])``) may be read where one of the last rounds has stored. Rows that
follow each other become an array of their own, put together with the rest of the old one::

    %12: f8[1] = slice(v, start=(0,), step=(1,), shape=(1,))
    %13: f8[99] = host_out(%9, index=0)
    %14: f8[100] = concatenate(%12, %13, axis=0)

Other arrays that are changed are copied first, by ``identity``. All other loops stay ``loop``.
"""

from collections.abc import Callable, Iterator, Sequence
from math import prod
from typing import NamedTuple

import numpy as np

from fusec.ir.aval import Aval
from fusec.ir.graph import Graph, Node
from fusec.ops import OPS
from fusec.ops.control import Loop, Part, Read, Store
from fusec.ops.recurrence import Carry, Memory, Recurrence, Window
from fusec.passes.access import MOVES, ZERO
from fusec.passes.groups import Group, fusable, is_free
from fusec.passes.nodes import const_of, elementwise, meet, node_of, spans
from fusec.passes.numbers import MOST, rows_of
from fusec.passes.roll import LAGS

MOST_ARRAYS = 128  # that a kernel is given
STORED = 8  # rounds that each store something, from which on they are not unrolled


class Rows(NamedTuple):
    """Rows of an array, along an axis from ``first`` on, that the rounds store."""

    axis: int
    first: int
    aval: Aval


def recurrences(graph: Graph, optimised: Callable[[Graph], Graph]) -> Graph:
    """The same graph with recurrences where loops are ones. optimised: a body after all passes."""
    done: dict[Node, Node] = {}
    made: dict[Node, _Finder] = {}
    for node in graph.nodes():
        inputs = tuple([done[i] for i in node.inputs])
        same = all(a is b for a, b in zip(inputs, node.inputs))
        done[node] = node if same else node.replace(inputs)
        if node.op.name == "loop" and node.attrs["loop"].until is None:
            found = _Finder(node.attrs["loop"], inputs, optimised(node.attrs["loop"].body))
            try:
                done[node] = found.recurrence(node)
                made[done[node]] = found
            except _Not:
                pass
        elif inputs and inputs[0] in made:
            done[node] = made[inputs[0]].result(done[node])
    outputs, checks = ([done[n] for n in found] for found in (graph.outputs, graph.checks))
    return Graph(graph.params, outputs, checks)


def worth(node: Node, optimised: Callable[[Graph], Graph]) -> bool:
    """Whether a loop of few nodes should be a kernel of its own, not unrolled and fused."""
    loop: Loop = node.attrs["loop"]
    try:
        found = _Finder(loop, node.inputs, optimised(loop.body)).recurrence(node)
    except _Not:
        return False
    made: Recurrence = found.attrs["rounds"]
    return bool(made.memory) and made.rounds >= STORED


class _Not(Exception):
    """The loop is no recurrence."""


def _is_view(node: Node) -> bool:
    """Whether what moves data on the way to a value is a view of memory in any layout."""
    while node.op.name in MOVES:
        inner = node.inputs[0]
        if node.op.name == "reshape" and squeezed(node.shape) != squeezed(inner.shape):
            return False
        node = inner
    return True


def group_of(body: Graph) -> Group:
    """The kernel of one round. Values of one element are computed where they are read."""
    shape = squeezed(body.outputs[0].shape)
    group = Group(0, shape)
    for node in body.nodes():
        wanted = node in body.outputs or node in body.checks
        if wanted or (squeezed(node.shape) == shape and not is_free(node)):
            axes = iter(group.indices)
            group.members[node] = tuple([ZERO if n == 1 else next(axes) for n in node.shape])
    return group


class _Finder:
    """memory: of arrays that the rounds store into, by the numbers of the loop's: its number."""

    def __init__(self, loop: Loop, inputs: Sequence[Node], body: Graph) -> None:
        self.loop, self.arrays, self.body = loop, inputs, body
        self.inputs: dict[Node, int] = {}
        self.carries: list[Carry] = []
        self.numbers: dict[tuple[int, int, int], int] = {}  # see ``_carry``
        self.reads: dict[Node, tuple[int, Window]] = {}
        self.own: list[Node] = []  # params that hold what an earlier round has made
        self.memory = {k: m for m, k in enumerate(dict.fromkeys(s.array for s in loop.stores))}
        self.places = {
            k: (n, ago) for n, olds in enumerate(loop.carried) for ago, k in enumerate(olds)
        }

    def recurrence(self, node: Node) -> Node:
        """The node for that of the loop. Raises _Not where it is no recurrence."""
        loop, body = self.loop, self.body
        shapes = {squeezed(n.shape) for n in body.outputs}
        if len(shapes) != 1 or not prod(*shapes) or not self._plain(*shapes):
            raise _Not
        self.rows = dict(self._rows())
        memory = [self._memory(k) for k in self.memory]
        for n, olds in enumerate(loop.carried):
            for ago, k in enumerate(olds):
                self._carry(n, ago, self._input(self.arrays[k]), _all_of(self.arrays[k].shape))
        for param, read in zip(body.params, loop.reads):
            self._read(param, read)
        constants = [n for n in body.nodes() if n.op.name == "const" and n.aval.size > 1]
        self.reads |= {n: (self._input(n), _all_of(n.shape)) for n in constants}
        results = tuple([self._result(*r) for r in loop.results])
        stores = tuple([(s.output, self.memory[s.array], self._stored(s)) for s in loop.stores])
        parts = [*[p.shape for p in self.own], *[at.shape for _, _, at in stores]]
        if any(squeezed(shape) not in shapes for shape in parts):
            raise _Not
        if len(self.inputs) + len(self.carries) + len(memory) > MOST_ARRAYS:
            raise _Not
        if not all(elementwise(p, out) for p in self.own for out in body.outputs):
            raise _Not
        given = [*self.reads, *[c.param for c in self.carries]]
        round_ = Graph([p for p in given if p.op.name == "param"], body.outputs, body.checks)
        made = Recurrence(round_, loop.rounds, tuple(self.carries), self.reads, tuple(memory),
                          stores, results)  # fmt: skip
        inputs = tuple([x if _is_view(x) else node_of("identity", x) for x in self.inputs])
        return Node(OPS["recurrence"], inputs, {"rounds": made}, node.aval, node.loc, node.serial)

    def result(self, node: Node) -> Node:
        """A result: rows that the recurrence stores, among those that it does not."""
        kind, number = self.loop.results[node.attrs["index"]]
        rows = self.rows.get(number) if kind == "array" else None
        if rows is None:
            return node
        base, axis, _ = self.arrays[number], rows.axis, rows.aval
        attrs = {"index": node.attrs["index"], "aval": rows.aval}
        made = Node(node.op, node.inputs, attrs, rows.aval, node.loc, node.serial)
        last = rows.first + rows.aval.shape[axis]
        before, after = (
            node_of("slice", base, step=(1,) * base.aval.ndim,
                    start=tuple([begin * (k == axis) for k in range(base.aval.ndim)]),
                    shape=(*base.shape[:axis], end - begin, *base.shape[axis + 1 :]))
            for begin, end in ((0, rows.first), (last, base.shape[axis]))
        )  # fmt: skip
        parts = [n for n in (before, made, after) if n.aval.size]
        return node_of("concatenate", *parts, axis=axis) if len(parts) > 1 else made

    def _plain(self, shape: tuple[int, ...]) -> bool:
        """Whether a kernel without loops of its own can compute all nodes of a round."""
        nodes = [n for n in self.body.nodes() if n.op.name != "param"]
        plain = all(
            fusable(n) and n.op.family not in ("reduce", "scan", "scatter") for n in nodes
        )
        seen = all(squeezed(n.shape) == shape or n.aval.size == 1 for n in self.body.checks)
        return plain and seen

    def _memory(self, array: int) -> Memory:
        """The memory of an array that is changed: its rows, or all of it, a copy."""
        if array in self.rows:
            return Memory(self.rows[array].aval, -1)
        copied = node_of("identity", self.arrays[array])
        return Memory(copied.aval, self._input(copied))

    def _carry(
        self, n: int, ago: int, array: int, window: Window | None, stored: int = -1
    ) -> int:
        """The carry that is output ``n`` of ``ago`` rounds before the last one.

        stored: the array in which it was stored, if what was there before the loop goes before it.
        """
        key = n, ago, stored
        if key not in self.numbers:
            after = self.numbers[n, ago - 1, stored] if ago else -1
            self.numbers[key] = len(self.carries)
            aval = self.body.outputs[n].aval
            param = Node(OPS["param"], (), {"name": f"h{len(self.numbers)}", "aval": aval}, aval)
            self.carries.append(Carry(n, after, param, array, window))
        return self.numbers[key]

    def _hold(self, param: Node, number: int) -> None:
        """Let a round read a carry as ``param``."""
        carry = self.carries[number]
        if carry.param in self.own or squeezed(param.shape) != squeezed(carry.param.shape):
            raise _Not
        self.carries[number] = carry._replace(param=param)
        self.own.append(param)

    def _read(self, param: Node, read: Read) -> None:
        if read.each or read.stream is not None:
            known = self._known(read)
            window = _all_of(known.shape)
            first = window._replace(move=(1, *window.move[1:]), shape=(1, *window.shape[1:]))
            self.reads[param] = self._input(known), first
        elif read.array in self.places:
            if read.part:
                raise _Not
            n, ago = self.places[read.array]
            self._hold(param, self.numbers[n, ago, -1])
        elif any(s.array == read.array for s in self.loop.stores):
            self._of_stored(param, read)
        elif read.part:
            self.reads[param] = self._source(read.array, _window(read.part))
        else:
            self.reads[param] = self._source(read.array, _all_of(self.arrays[read.array].shape))

    def _known(self, read: Read) -> Node:
        """What rounds read in turn that has been known before: constants, or numbers given."""
        if read.stream is not None:
            return const_of(read.stream, read.stream.dtype)
        if len(read.each) > MOST:
            raise _Not  # LLVM would take seconds to put them into an array
        return rows_of([self.arrays[k] for k in read.each])

    def _of_stored(self, param: Node, read: Read) -> None:
        """A part of an array that the rounds change: what an earlier round stored, or none did."""
        if not read.part:
            raise _Not
        window, rounds, own = _window(read.part), self.loop.rounds, False
        for store in self.loop.stores:
            stored = _window(store.part)
            if store.array != read.array or not meet(stored.span(rounds), window.span(rounds)):
                continue
            later = window.after(stored)
            if later is None or not -LAGS <= later <= (rounds if store.array in self.rows else 0):
                raise _Not
            if later < 0:
                self._remember(param, store, window, -later)
                return
            own = store.array not in self.rows
        self.own += [param] * own
        changed = read.array not in self.rows
        number = ~self.memory[read.array]
        self.reads[param] = (number, window) if changed else self._source(read.array, window)

    def _remember(self, param: Node, store: Store, window: Window, lag: int) -> None:
        """What was stored ``lag`` rounds ago; ``window``: where, from the first round on."""
        others = [s for s in self.loop.stores if s.array == store.array and s is not store]
        spans = [_window(s.part).span(self.loop.rounds) for s in others]
        if any(meet(span, window.span(self.loop.rounds)) for span in spans):
            raise _Not
        for ago in range(lag):  # before any round its place is that many moves back
            back = lag - 1 - ago
            start = tuple([b + back * m for b, m in zip(window.start, window.move)])
            first = self._source(store.array, window._replace(start=start, move=(0,) * len(start)))
            number = self._carry(store.output, ago, *first, store.array)
        self._hold(param, number)

    def _source(self, array: int, window: Window) -> tuple[int, Window]:
        """Where what is in a part of an array comes from, behind the updates of other parts."""
        node, part = self.arrays[array], window.span(self.loop.rounds)
        while node.op.name == "slice_update" and not meet(spans(node), part):
            node = node.inputs[0]
        if node.op.name == "slice_update" and spans(node) == part and not any(window.move):
            node, window = node.inputs[1], _all_of(node.inputs[1].shape)
        return self._input(node), window

    def _input(self, node: Node) -> int:
        return self.inputs.setdefault(node, len(self.inputs))

    def _rows(self) -> Iterator[tuple[int, Rows]]:
        """The arrays of which the rounds store rows that follow each other, each of them once."""
        for store in self.loop.stores:
            array, window = self.arrays[store.array].aval, _window(store.part)
            axes = [k for k, m in enumerate(window.move) if abs(m) == 1 and window.shape[k] == 1]
            alone = sum(s.array == store.array for s in self.loop.stores) == 1
            if not alone or len(axes) != 1 or sum(map(abs, window.move)) != 1:
                continue
            (axis,), rounds = axes, self.loop.rounds
            shape = (*array.shape[:axis], 1, *array.shape[axis + 1 :])
            steps = [s for s, n in zip(window.step, shape) if n != 1]
            if window.shape == shape and set(steps) <= {1}:
                first = window.span(rounds)[axis].start
                shape = (*shape[:axis], rounds, *shape[axis + 1 :])
                yield store.array, Rows(axis, first, Aval(shape, array.dtype))

    def _stored(self, store: Store) -> Window:
        """Where a store goes. Elements of all stores in an array stay apart from each other."""
        window, kept = _window(store.part), None
        if store.array in self.rows:
            axis, first, _ = self.rows[store.array]
            start = [s - first * (k == axis) for k, s in enumerate(window.start)]
            return window._replace(start=tuple(start))
        for other in self.loop.stores:
            if other.array == store.array:
                theirs = _window(other.part)
                spans = [w.span(self.loop.rounds) for w in (window, theirs)]
                lanes = [x for x in zip(*theirs) if x[3] != 1]
                kept = lanes if kept is None else kept
                moves = any(move for _, move, _, _ in lanes)
                if lanes != kept or moves or (other is not store and meet(*spans)):
                    raise _Not
        return window

    def _result(self, kind: str, number: int) -> tuple[str, int]:
        if kind == "array" and number not in self.places:
            return "memory", self.memory[number]
        n, ago = (number, 0) if kind == "output" else self.places[number]
        return "carry", self._carry(n, ago, -1, None)


def squeezed(shape: Sequence[int]) -> tuple[int, ...]:
    """A shape without its ones."""
    return tuple([n for n in shape if n != 1])


def _all_of(shape: Sequence[int]) -> Window:
    zeros = (0,) * len(shape)
    return Window(zeros, zeros, (1,) * len(shape), tuple(shape))


def _window(part: Part) -> Window:
    moves = np.diff(part.starts, axis=0)
    if (moves != moves[:1]).any():
        raise _Not
    move = moves[0].tolist() if len(moves) else [0] * len(part.step)
    return Window(tuple(part.starts[0].tolist()), tuple(move), part.step, part.shape)
