"""Python decisions on computed values: ``if np.any(x < 0): raise ValueError``.

The trace so far is a program that gives the value, an *ask*. ``Session.ask`` runs it on the arrays
of the call that is being traced, and tracing goes on with the answer: what a trace tells holds for
calls whose asks are answered alike. What an ask computes at some cost (sums, products, NumPy's
functions) it hands on, so that the program after the decision begins where it ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fusec.ir.graph import Loc, Node, toposort
from fusec.ops import OPS

if TYPE_CHECKING:
    from fusec.trace.session import Session

Ask = Callable[[int, list[Node]], tuple[np.ndarray, Any]]
"""``(number of the decision, [what is decided, *what is handed on]) -> its value, its trace``."""
COSTLY = frozenset(["reduce", "scan", "scatter", "matmul", "host_out"])
"""Ops, or families of them, whose results are not computed again."""
MOST_HANDED_ON = 16


class Decision(NamedTuple):
    """One that has been made: at which line, of what, the value, and the trace of its program."""

    loc: Loc | None
    node: Node
    value: np.ndarray
    trace: Any


def decided(session: Session, node: Node) -> np.ndarray | None:
    """The value of a node in this call; None where no call's values are at hand.

    Inside the body of a loop, or for one example of many, there are none.
    """
    for made in session.decisions:
        if made.node is node:
            return made.value
    inputs, nodes = {*session.params}, toposort([node], known=session.handed_on)
    if session.ask is None or any(n.op.name == "param" and n not in inputs for n in nodes):
        return None
    nodes = toposort([*checks_of(session), node], known=session.handed_on)  # all that is run
    costly = [n for n in nodes if n.op.name in COSTLY or n.op.family in COSTLY]
    costly = [n for n in costly if n is not node][-MOST_HANDED_ON:]
    value, trace = session.ask(len(session.decisions), [node, *costly])
    session.decisions.append(Decision(session.location(), node, value, trace))
    for n in costly:
        attrs = {"name": f"known:{len(session.handed_on)}", "aval": n.aval}
        session.handed_on[n] = Node(OPS["param"], (), attrs, n.aval)
    return value


def checks_of(session: Session) -> list[Node]:
    """The checks of the function, but those of what stands for one example of many."""
    closed = set(session.params)
    for node in toposort(session.checks, session.params):
        if node.op.name != "param" and closed.issuperset(node.inputs):
            closed.add(node)
    return [c for c in session.checks if c in closed]


def after(session: Session, nodes: Iterable[Node]) -> dict[Node, Node]:
    """Each node, over what earlier decisions have found and handed on."""
    known = {**session.handed_on, **{d.node: session.const(d.value) for d in session.decisions}}
    for node in toposort(nodes, known=known):
        inputs = tuple([known[i] for i in node.inputs])
        same = all(map(lambda a, b: a is b, inputs, node.inputs))
        known[node] = node if same else node.replace(inputs)
    return known

