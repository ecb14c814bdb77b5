"""Calls with a derivative of their own: the user's rules, and recomputation.

The function itself is traced as any other; a ``custom`` node in front of its results says how to
go back. What a rule needs is traced when a derivative asks for it, never before.
"""

from collections.abc import Callable, Sequence
from typing import Any

from fusec.autodiff.vjp import Contributions, Sweep, pullback, zeros
from fusec.errors import DTypeError, ShapeError
from fusec.ir.aval import kind_of
from fusec.ir.graph import Node, toposort
from fusec.ops.custom import Rule
from fusec.trace.capture import twin
from fusec.trace.session import Session
from fusec.trace.standin import copy_like
from fusec.trace.tracer import Tracer, as_tracer, fresh
from fusec.trace.tree import TreeDef, flatten

Function = Callable[..., Any]


def _is_variable(leaf: Any) -> bool:
    return type(leaf) is Tracer and kind_of(leaf.dtype) in "fc"


class Call:
    """One call of a function with a derivative of its own."""

    def __init__(self, session: Session, fn: Function, args: Any, kwargs: dict[str, Any]) -> None:
        self.session, self.fn = session, fn
        self.given = args, kwargs
        self.name = getattr(fn, "__name__", "function")
        self.leaves, self.tree = flatten((tuple(args), kwargs))
        self.operands = [k for k, x in enumerate(self.leaves) if _is_variable(x)]
        self.results: list[int] = []
        self.out_tree: TreeDef

    def run(self, backward: Callable[..., Contributions], closed: bool = False) -> Any:
        """The function's value, with ``backward(sweep, node, cotangents)`` as its derivative."""
        session = self.session
        args, kwargs = self.given
        leaves, self.out_tree = flatten(twin(self.fn, session)(*args, **kwargs))
        self.results = [k for k, x in enumerate(leaves) if _is_variable(x)]
        made = [leaves[k] for k in self.results]
        nodes = [x.node for x in made] + [self.leaves[k].node for k in self.operands]
        rule = Rule(self.name, len(made), backward, closed)
        node = session.make("custom", *nodes, rule=rule)
        for n, (k, x) in enumerate(zip(self.results, made)):
            out = session.make("custom_out", node, index=n, aval=x.node.aval)
            leaves[k] = fresh(session, out, copy_like(x._like), x._scalar)
        return self.out_tree.unflatten(leaves)

    def arguments(self, operands: Sequence[Node]) -> tuple[Any, Any]:
        """The call's arguments with ``operands`` in the place of those that have derivatives."""
        leaves = list(self.leaves)
        for k, node in zip(self.operands, operands):
            old = self.leaves[k]
            leaves[k] = fresh(self.session, node, old._like, old._scalar)
            leaves[k]._storage.item = old._storage.item
        args, kwargs = self.tree.unflatten(leaves)
        return args, kwargs

    def cotangents(self, node: Node, gs: Sequence[Node | None]) -> Any:
        """The results' cotangents in their containers, None for what has none."""
        leaves: list[Any] = [None] * self.out_tree.num_leaves
        for k, g, y in zip(self.results, gs, node.inputs):
            leaves[k] = fresh(self.session, g or zeros(self.session, y), scalar=not y.shape)
        return self.out_tree.unflatten(leaves)


def custom_vjp(session: Session, fn: Function, forward: Any, backward: Any, *call: Any) -> Any:
    """``fn(*args)``; ``forward(*args)`` gives (value, residuals), ``backward`` takes both."""
    made = Call(session, fn, *call)

    def back(sweep: Sweep, node: Node, gs: Sequence[Node | None]) -> Contributions:
        operands = node.inputs[len(made.results) :]
        args, kwargs = made.arguments(operands)
        pair = twin(forward, session)(*args, **kwargs)
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise TypeError(
                f"the forward rule of {made.name} returned {_what(pair)}; it returns a pair "
                "(result, residuals), the residuals being what the backward rule needs"
            )
        residuals = pair[1]
        found = twin(backward, session)(residuals, made.cotangents(node, gs))
        if len(args) == 1 and not (isinstance(found, tuple) and len(found) == 1):
            found = (found,)
        if not isinstance(found, tuple) or len(found) != len(args):
            raise TypeError(
                f"the backward rule of {made.name} returned {_what(found)}; {made.name} was called "
                f"with {len(args)} arguments, so it returns a tuple of {len(args)} gradients, None "
                "for those that have none"
            )
        target = dict(zip(made.operands, operands))
        return list(_pairs(made, args, found, target))

    return made.run(back)


def _what(value: Any) -> str:
    if isinstance(value, tuple):
        return f"{len(value)} values"
    return "one array" if isinstance(value, Tracer) else f"a {type(value).__name__}"


def _pairs(call: Call, args: Any, found: Any, target: dict[int, Node]) -> Contributions:
    first = 0
    for k, (arg, grad) in enumerate(zip(args, found)):
        tree = flatten(arg)[1]
        leaves, given = flatten(grad)
        if grad is not None and given != tree:
            raise DTypeError(f"the backward rule of {call.name} returned {given} for argument {k}, "
                             f"which is {tree}")  # fmt: skip
        for n, leaf in enumerate(leaves):
            node = target.get(first + n)
            if node is None:
                continue
            g = as_tracer(call.session, leaf).node
            if g.shape != node.shape:
                raise ShapeError(f"the backward rule of {call.name} returned shape {g.shape} for "
                                 f"argument {k}, which has shape {node.shape}")  # fmt: skip
            yield node, g
        first += tree.num_leaves


def custom_jvp(session: Session, fn: Function, rule: Any, *call: Any) -> Any:
    """``fn(*args)``; ``rule(primals, tangents) -> (value, tangent)``, linear in the tangents.

    Backwards, that linear function is transposed.
    """
    made = Call(session, fn, *call)

    def back(sweep: Sweep, node: Node, gs: Sequence[Node | None]) -> Contributions:
        operands = node.inputs[len(made.results) :]
        variables = [session.make("identity", zeros(session, o)) for o in operands]
        args, kwargs = made.arguments(operands)
        tangents, _ = made.arguments(variables)
        _, tangent = twin(rule, session)(args, tangents, **kwargs)
        leaves = flatten(tangent)[0]
        nodes = [as_tracer(session, leaves[k]).node for k in made.results]
        found = pullback(session, nodes, list(gs), variables)
        return [(o, g) for o, g in zip(operands, found) if g is not None]

    return made.run(back)


def checkpoint(session: Session, fn: Function, *call: Any) -> Any:
    """``fn(*args)``, computed again from its arguments where the backward pass needs its inside."""
    made = Call(session, fn, *call)

    def back(sweep: Sweep, node: Node, gs: Sequence[Node | None]) -> Contributions:
        after = next(g for g in gs if g is not None)
        operands = node.inputs[len(made.results) :]
        held = [session.make("hold", o, after) for o in operands]
        args, kwargs = made.arguments(held)
        leaves = flatten(twin(fn, session)(*args, **kwargs))[0]
        outputs = [leaves[k].node for k in made.results]
        again = toposort(outputs, sweep.order)[len(sweep.order) :]
        inside = {i for n in again for i in n.inputs if i in sweep.active}
        inputs = [n for n in sweep.order if n in inside]
        found = pullback(session, outputs, list(gs), inputs)
        pairs = [(i, g) for i, g in zip(inputs, found) if g is not None]
        session.checkpoints.append((f"{made.name} ({node.loc})", _saved(again, pairs, sweep.order)))
        return pairs

    return made.run(back, closed=True)


def _saved(again: Sequence[Node], pairs: Contributions, before: Sequence[Node]) -> int:
    """Bytes of what is computed again and read on the way back: else it would be kept."""
    inner = {n for n in again if n.op.family not in ("movement", "create") and n.op.name != "hold"}
    known = [*before, *again]
    later = toposort([g for _, g in pairs], known)[len(known) :]
    read = {source(i) for n in later for i in n.inputs}
    return sum([n.aval.nbytes for n in inner & read])


def source(node: Node) -> Node:
    """What a chain of views looks at."""
    while node.op.family == "movement" and len(node.inputs) == 1:
        node = node.inputs[0]
    return node


def stop_gradient(value: Any) -> Any:
    """The same tree, whose arrays are constants to differentiation."""
    leaves, tree = flatten(value)
    return tree.unflatten([_stopped(x) if _is_variable(x) else x for x in leaves])


def _stopped(x: Tracer) -> Tracer:
    made = fresh(x._session, x._session.make("stop_gradient", x.node), x._like, x._scalar)
    made._storage.item = x._storage.item
    return made


