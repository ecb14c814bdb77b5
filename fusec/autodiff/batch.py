"""Batching: nodes rebuilt with one more axis in front, by one rule for each family of ops.

A rule ``(batch, node) -> node`` makes what the op gives on all examples at once from the inputs of
one example. Nodes that do not depend on an example are left as they are, so a batched operand meets
one that is not by broadcasting.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from fusec.autodiff.batch_host import batched_call
from fusec.ir.aval import Aval
from fusec.ir.graph import Node, toposort
from fusec.ops import OPS
from fusec.ops.custom import Rule
from fusec.trace.session import Session


def variable(aval: Aval) -> Node:
    """One example's value: no number is known of it, and it is gone from the batched graph."""
    return Node(OPS["param"], (), {"name": "example", "aval": aval}, aval)


class Batch:
    """``count`` examples. ``wide`` maps nodes of one example to those of all, batch axis first.

    unroll: whether functions of NumPy's that take no stacks are called for each example.
    """

    def __init__(
        self, session: Session, count: int, wide: Mapping[Node, Node], unroll: bool = False
    ) -> None:
        self.session, self.count, self.unroll = session, count, unroll
        self.wide = dict(wide)
        self.same: dict[Node, Node] = {}  # rebuilt, but equal for all examples
        self.parts: dict[Node, list[Node]] = {}  # of calls with several results

    def run(self, outputs: Iterable[Node]) -> None:
        """Rebuild all that leads from what is in ``wide`` to ``outputs``."""
        outside = self.session.at
        try:
            for node in toposort(outputs, known=self):
                self.session.at = node.loc or outside
                self._visit(node)
        finally:
            self.session.at = outside

    def __contains__(self, node: object) -> bool:
        return node in self.wide or node in self.same or node in self.parts

    def _visit(self, node: Node) -> None:
        if any(i in self.wide or i in self.parts for i in node.inputs):
            rule = RULES.get(node.op.name) or RULES[node.op.family]
            made = rule(self, node)
            if made is not None:
                self.wide[node] = made
        elif any(i in self.same for i in node.inputs):
            self.same[node] = node.replace(tuple([self.at(i) for i in node.inputs]))

    def at(self, node: Node) -> Node:
        """What stands for ``node``, with or without a batch axis."""
        return self.wide.get(node) or self.same.get(node, node)

    def front(self, node: Node) -> Node:
        """``node`` with a batch axis, broadcast where it is equal for all examples."""
        found = self.wide.get(node)
        if found is not None:
            return found
        return self.session.broadcast(self.at(node), (self.count, *node.shape))

    def aligned(self, node: Node, ndim: int) -> Node:
        """``node`` such that it broadcasts with examples of ``ndim`` axes."""
        found = self.wide.get(node)
        if found is None:
            return self.at(node)
        filler = (1,) * (ndim - node.aval.ndim)
        return self.session.reshape(found, (self.count, *filler, *node.shape))

    def numbers(self, ndim: int) -> Node:
        """The number of the example, broadcasting with examples of ``ndim`` axes."""
        return self.make("iota", shape=(self.count, *(1,) * ndim), axis=0)

    def make(self, op: Any, *inputs: Node, **attrs: Any) -> Node:
        return self.session.make(op, *inputs, **attrs)

    def stacked(self, nodes: Sequence[Node | None]) -> list[Node | None]:
        """All examples of ``nodes``, which need not be known before; None stays."""
        self.run([n for n in nodes if n is not None])
        return [None if n is None else self.front(n) for n in nodes]

    def again(self, more: Mapping[Node, Node]) -> "Batch":
        """A batch that knows what this one does, and ``more``."""
        made = Batch(self.session, self.count, self.wide | dict(more), self.unroll)
        made.same, made.parts = dict(self.same), dict(self.parts)
        return made


Batching = Callable[[Batch, Node], Node | None]


def _broadcasting(batch: Batch, node: Node) -> Node:
    inputs = [batch.aligned(i, node.aval.ndim) for i in node.inputs]
    return batch.make(node.op, *inputs, **node.attrs)


def _fronted(shift: Callable[[Batch, Mapping[str, Any]], Mapping[str, Any]]) -> Batching:
    """Every input has the batch axis; ``shift`` says what that does to the attributes."""

    def rule(batch: Batch, node: Node) -> Node:
        inputs = [batch.front(i) for i in node.inputs]
        return batch.make(node.op, *inputs, **shift(batch, node.attrs))

    return rule


def _up(axes: Iterable[int]) -> tuple[int, ...]:
    return tuple([k + 1 for k in axes])


def _sliced(batch: Batch, attrs: Mapping[str, Any]) -> dict[str, Any]:
    fronts = {"start": 0, "step": 1, "shape": batch.count}
    return {name: (fronts[name], *value) for name, value in attrs.items()}


def _broadcast(batch: Batch, node: Node) -> Node:
    (x,) = node.inputs
    return batch.session.broadcast(batch.aligned(x, node.aval.ndim), (batch.count, *node.shape))


def _pad(batch: Batch, node: Node) -> Node:
    """Values of their own for each example go where a padded mask says."""
    x, value = node.inputs
    session = batch.session
    sides = {k: (0, *v) for k, v in node.attrs.items()}
    if value not in batch.wide:
        return batch.make("pad", batch.front(x), batch.at(value), **sides)
    padded = batch.make("pad", batch.front(x), session.const(0, x.dtype), **sides)
    true = session.broadcast(session.const(True), x.shape)
    inside = batch.make("pad", true, session.const(False), **node.attrs)
    return batch.make("where", inside, padded, batch.aligned(value, x.aval.ndim))


def _gather(batch: Batch, node: Node) -> Node:
    x, *indices = node.inputs
    ndim, shape = node.aval.ndim, (batch.count, *node.shape)
    places = [batch.aligned(i, ndim) for i in indices]
    if x not in batch.wide:
        return batch.make("gather", batch.at(x), *places, shape=shape)
    return batch.make("gather", batch.wide[x], batch.numbers(ndim), *places, shape=shape)


def _scatter_flat(batch: Batch, node: Node) -> Node:
    x, index, v = node.inputs
    return _stored(batch, x, index, v)


def _scatter_set(batch: Batch, node: Node) -> Node:
    x, v, index = node.inputs
    return _stored(batch, x, index, v)


def _stored(batch: Batch, x: Node, index: Node, v: Node) -> Node:
    size = batch.session.cast(batch.make("dim", value=x.aval.size), index.dtype)
    first = batch.session.cast(batch.numbers(index.aval.ndim), index.dtype)
    places = batch.make("add", batch.front(index), batch.make("multiply", first, size))
    values = batch.session.broadcast(batch.aligned(v, index.aval.ndim), places.shape)
    return batch.make("scatter_flat", batch.front(x), places, values)


def _scatter_add(batch: Batch, node: Node) -> Node:
    x, v, *indices = node.inputs
    ndim = v.aval.ndim - (x.aval.ndim - len(indices))
    places = [batch.numbers(ndim), *[batch.aligned(i, ndim) for i in indices]]
    return batch.make("scatter_add", batch.front(x), batch.front(v), *places)


def _matmul(batch: Batch, node: Node) -> Node:
    """One product where one side is a single matrix: the examples are more rows of the other."""
    a, b = node.inputs
    wide = (a in batch.wide, b in batch.wide)
    if a.aval.ndim == b.aval.ndim == 2:
        if wide == (True, False):
            return _many_rows(batch, batch.wide[a], batch.at(b), node)
        if wide == (False, True) and node.shape[1] == 1:
            turned = batch.make("transpose", batch.at(a), perm=(1, 0))
            vectors = batch.session.reshape(batch.wide[b], (batch.count, 1, b.shape[0]))
            return _many_rows(batch, vectors, turned, node)
        if wide == (True, True) and node.shape == (1, 1) and node.dtype.kind != "b":
            return _dots(batch, batch.wide[a], batch.wide[b])
    ndim = node.aval.ndim
    return batch.make("matmul", batch.aligned(a, ndim), batch.aligned(b, ndim))


def _many_rows(batch: Batch, x: Node, single: Node, node: Node) -> Node:
    n, rows, inner = x.shape
    found = batch.make("matmul", batch.session.reshape(x, (n * rows, inner)), single)
    return batch.session.reshape(found, (n, *node.shape))


def _dots(batch: Batch, a: Node, b: Node) -> Node:
    """A product of two vectors for each example: a sum that fuses."""
    shape = (batch.count, a.shape[-1])
    both = [batch.session.reshape(x, shape) for x in (a, b)]
    found = batch.make("reduce_sum", batch.make("multiply", *both), axes=(1,))
    return batch.session.reshape(found, (batch.count, 1, 1))


def _hold(batch: Batch, node: Node) -> Node | None:
    x, after = map(batch.at, node.inputs)
    made = batch.make("hold", x, after)
    if node.inputs[0] in batch.wide:
        return made
    batch.same[node] = made
    return None


def _custom(batch: Batch, node: Node) -> None:
    """The rule runs on one example, with the cotangents as variables, and is batched in turn."""
    rule = node.attrs["rule"]

    def backward(sweep: Any, _: Node, gs: Sequence[Node | None]) -> list[tuple[Node, Node]]:
        session = batch.session
        seeds = [None if g is None else variable(Aval(g.shape[1:], g.dtype)) for g in gs]
        inner = batch.again({v: g for v, g in zip(seeds, gs) if v is not None and g is not None})
        known = [*inner.wide, *inner.same]
        active = {n for n in known if inner.at(n) in sweep.active} | sweep.active
        seen = SimpleNamespace(session=session, order=[*known, *sweep.order], active=active)
        before = len(session.checkpoints)
        pairs = list(rule.backward(seen, node, seeds))
        session.checkpoints[before:] = [
            (name, saved * batch.count) for name, saved in session.checkpoints[before:]
        ]
        inner.run([g for _, g in pairs])
        return [(inner.at(target), inner.front(g)) for target, g in pairs]

    results = [batch.front(i) for i in node.inputs[: rule.results]]
    operands = [batch.at(i) for i in node.inputs[rule.results :]]
    wide = Rule(rule.name, rule.results, backward, rule.closed)
    made = batch.make("custom", *results, *operands, rule=wide)
    batch.parts[node] = [
        batch.make("custom_out", made, index=k, aval=y.aval) for k, y in enumerate(results)
    ]


def _host_call(batch: Batch, node: Node) -> None:
    batch.parts[node] = batched_call(batch, node)


def _part(batch: Batch, node: Node) -> Node:
    index: int = node.attrs["index"]
    return batch.parts[node.inputs[0]][index]


RULES: dict[str, Batching] = {
    "elementwise": _broadcasting,
    "reduce": _fronted(lambda batch, attrs: {"axes": _up(attrs["axes"])}),
    "scan": _fronted(lambda batch, attrs: {"axis": attrs["axis"] + 1}),
    "slice": _fronted(_sliced),
    "slice_update": _fronted(_sliced),
    "transpose": _fronted(lambda batch, attrs: {"perm": (0, *_up(attrs["perm"]))}),
    "reshape": _fronted(lambda batch, attrs: {"shape": (batch.count, *attrs["shape"])}),
    "diagonal": _fronted(lambda batch, attrs: attrs),
    "windows": _fronted(lambda batch, attrs: {**attrs, "axes": _up(attrs["axes"])}),
    "concatenate": _fronted(lambda batch, attrs: {"axis": attrs["axis"] + 1}),
    "broadcast_to": _broadcast,
    "pad": _pad,
    "gather": _gather,
    "scatter_flat": _scatter_flat,
    "scatter_set": _scatter_set,
    "scatter_add": _scatter_add,
    "matmul": _matmul,
    "hold": _hold,
    "custom": _custom,
    "host_call": _host_call,
    "custom_out": _part,
    "host_out": _part,
}
"""By the op's name or its family's. Loops are made of whole graphs, after derivatives."""

LOOPS = ("loop", "recurrence")
_without = [
    op.name for op in OPS.values()
    if op.family != "create" and op.name not in LOOPS and not {op.name, op.family} & {*RULES}
]
if _without:
    raise AssertionError(f"ops without a batching rule: {_without}")
