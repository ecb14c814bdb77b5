"""The reverse sweep: cotangents of inputs from cotangents of outputs, by the op table's rules.

Rules are NumPy code; they run on tracers, so what they compute lands in the same graph, where it is
simplified, fused and compiled with everything else. Only what leads from an input that is asked
for to an output is visited: no gradient is made that nobody reads.

``identity`` nodes are what inputs are differentiated at. Each differentiation makes its own, so
that one inside another can't take the other's inputs for its own.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from fusec.autodiff.pieces import Pieces
from fusec.errors import DerivativeError
from fusec.ir.aval import Aval, kind_of
from fusec.ir.graph import Node, toposort
from fusec.ops.host import HostCall
from fusec.ops.registry import NONDIFFERENTIABLE, broadcast_shape
from fusec.ops.shape import summed_to
from fusec.trace.session import Session
from fusec.trace.tracer import fresh

FEW = 4  # a part of more than one in so many elements is added as an array of zeros around it
Contributions = Iterable[tuple[Node, Node]]


def pullback(
    session: Session,
    outputs: Sequence[Node],
    cotangents: Sequence[Node | None],
    inputs: Sequence[Node],
) -> list[Node | None]:
    """The cotangents of ``inputs``; None where no output depends on one.

    Raises DerivativeError for an op on the way that has no rule.
    """
    sweep = Sweep(session, outputs, inputs)
    for node, g in zip(outputs, cotangents):
        if g is not None and node in sweep.active:
            sweep.add(node, g)
    first = len(session.checks)
    sweep.run()
    found = [sweep.total(x) for x in inputs]
    del session.checks[first:]  # NumPy makes those of the function
    return found


def dependent(order: Iterable[Node], inputs: Iterable[Node]) -> set[Node]:
    """The nodes of ``order`` through which a derivative flows back to ``inputs``."""
    active = set(inputs)
    for node in order:
        if node not in active and any(i in active for i in node.inputs) and _passes(node, active):
            active.add(node)
    return active


def _passes(node: Node, active: set[Node]) -> bool:
    op = node.op
    if op.name in ("host_call", "host_out", "custom_out"):
        return node.dtype.kind in "fcV"
    if op.name == "custom":
        rule = node.attrs["rule"]
        return rule.closed or any(i in active for i in node.inputs[rule.results :])
    if op.vjp is NONDIFFERENTIABLE or kind_of(node.dtype) not in "fc":  # type: ignore[attr-defined]
        return False
    rules = [op.rule(k) for k, i in enumerate(node.inputs) if i in active]  # type: ignore[attr-defined]
    return any(rule is not None for rule in rules)


class Sweep:
    """One walk from outputs to inputs. What has arrived at each node so far is in ``cotangents``,
    and in ``pieces`` what has at parts of it."""

    def __init__(
        self, session: Session, outputs: Sequence[Node], inputs: Sequence[Node]
    ) -> None:
        self.session = session
        self.inputs = set(inputs)
        self.order = toposort(outputs, inputs)
        self.active = dependent(self.order, inputs)
        self.cotangents: dict[Node, Node] = {}
        self.pieces: dict[Node, Pieces] = {}
        self.parts: dict[Node, dict[int, Node]] = {}  # of nodes with several results

    def add(self, node: Node, g: Node) -> None:
        """One more use of ``node`` has the cotangent ``g``, broadcast or of another dtype."""
        g = undone(self.session, g, node.aval)
        before = self.cotangents.get(node)
        self.cotangents[node] = g if before is None else self.session.make("add", before, g)

    def _add_part(self, read: Node, g: Node) -> None:
        """One more use of a part of an array, which ``read`` is, has the cotangent ``g``."""
        node = read.inputs[0]
        pieces = self.pieces.setdefault(node, Pieces(node.aval))
        start, step, shape = [read.attrs[k] for k in ("start", "step", "shape")]
        if pieces.take(self.session, (start, step, shape), g):
            return
        pieces.closed = pieces.closed or g.aval.size * FEW <= node.aval.size
        whole = self.total(node) if pieces.closed else None
        if whole is None:
            whole = zeros(self.session, node)
        else:
            g = self.session.make("add", self.session.make("slice", whole, **read.attrs), g)
        whole = self.session.make("slice_update", whole, g, start=start, step=step)
        if pieces.closed:
            self.cotangents[node] = whole
        else:
            self.add(node, whole)

    def total(self, node: Node) -> Node | None:
        """All that has arrived at ``node``, which has no pieces then; None where nothing has."""
        if node in self.pieces and self.pieces[node].found:
            g = self.pieces[node].total(self.session)
            self.pieces[node].found.clear()
            self.add(node, g)
        return self.cotangents.get(node)

    def run(self) -> None:
        outside = self.session.at
        try:
            for node in reversed(self.order):
                if node in self.active and node not in self.inputs:
                    self.session.at = node.loc or outside
                    self._visit(node)
        finally:
            self.session.at = outside

    def _visit(self, node: Node) -> None:
        if node in self.parts:
            for target, g in self._several(node, self.parts.pop(node)):
                if target in self.active:
                    self.add(target, g)
            return
        g = self.total(node)
        if g is None:
            return
        del self.cotangents[node]
        if node.op.name in ("host_out", "custom_out"):
            parts, index = self.parts.setdefault(node.inputs[0], {}), node.attrs["index"]
            parts[index] = self.session.make("add", parts[index], g) if index in parts else g
            return
        if node.op.name == "slice":
            self._add_part(node, g)
            return
        traced = [fresh(self.session, n) for n in (g, node, *node.inputs)]
        for k, child in enumerate(node.inputs):
            rule = node.op.rule(k) if child in self.active else None  # type: ignore[attr-defined]
            if rule is not None:
                self.add(child, rule(*traced, **node.attrs).node)

    def _several(self, node: Node, parts: dict[int, Node]) -> Contributions:
        if node.op.name == "custom":
            rule = node.attrs["rule"]
            known = rule.backward(self, node, [parts.get(k) for k in range(rule.results)])
            return list(known)
        return self._host(node, parts)

    def _host(self, node: Node, parts: dict[int, Node]) -> Contributions:
        from fusec.autodiff.host_equivalents import RULES

        session, call = self.session, node.attrs["call"]
        rule = RULES.get(call.source)
        if rule is None:
            raise without_rule(call, node)
        outs = [
            session.make("host_out", node, index=k, aval=a) for k, a in enumerate(call.outputs)
        ]
        ys = [fresh(session, y) for y in outs]
        gs = [fresh(session, parts[k]) if k in parts else None for k in range(len(ys))]
        traced = [fresh(session, i) for i in node.inputs]
        args, kwargs = call.bound(traced)
        single = len(ys) == 1
        found = rule(gs[0] if single else gs, ys[0] if single else ys, *args, **kwargs)
        target = {id(t): i for t, i in zip(traced, node.inputs)}
        pairs = zip(args, found if isinstance(found, tuple) else (found,))
        known = [(x, d) for x, d in pairs if id(x) in target and d is not None]
        return [(target[id(x)], d.node) for x, d in known]


def undone(session: Session, g: Node, aval: Aval) -> Node:
    """``g`` as a cotangent of something of ``aval``: summed to its shape, in its dtype."""
    if g.shape != aval.shape:
        if broadcast_shape(g.shape, aval.shape) == aval.shape:
            g = session.broadcast(g, aval.shape)
        else:
            g = summed_to(fresh(session, g), aval.shape).node
    if g.dtype.kind == "c" and aval.dtype.kind != "c":
        g = session.make("real", g)
    return session.cast(g, aval.dtype)


def without_rule(call: HostCall, node: Node) -> DerivativeError:
    """The error for ``call``, with the user's line and what to type."""
    name = call.full_name
    short = name.removeprefix("np.").replace(".", "_")
    names = list("xyzuvw"[: len(node.inputs)])
    names += [f"x{k}" for k in range(len(names), len(node.inputs))]
    letters = ", ".join(names)
    return DerivativeError(
        f"{node.loc}: fusec has no derivative of {name}. Write it as a function with a rule:\n"
        "  @fusec.custom_vjp\n"
        f"  def {short}({letters}): return {name}({_as_typed(call, names)})\n"
        f"  def forward({letters}): return {short}({letters}), ({letters},)  # result, residuals\n"
        "  def backward(residuals, g): return (...,)  # the gradient in each argument, or None\n"
        f"  {short}.defvjp(forward, backward)\n"
        "or cut it off with fusec.stop_gradient."
    )


class _Letter:
    """An array in a call that is shown."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name


def _as_typed(call: HostCall, names: Sequence[str]) -> str:
    """The arguments of ``call``: ``names`` for its arrays, ... for what is long."""
    arrays = [_Letter(x) for x in names]
    args, kwargs = call.arguments(arrays) if call.arguments else (arrays, {})
    given = [("", x) for x in args] + [(f"{k}=", x) for k, x in kwargs.items()]
    texts = [(k, repr(x)) for k, x in given if x is not np._NoValue]
    return ", ".join([k + ("..." if len(t) > 60 or {"\n", "<"} & {*t} else t) for k, t in texts])


def zeros(session: Session, node: Node) -> Node:
    """0 like ``node``."""
    return session.broadcast(session.const(0, node.dtype), node.shape)
