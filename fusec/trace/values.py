"""The values of traced numbers that Python needs: of constants, and of the call's own numbers.

The value of a constant belongs to the program. What a number argument (a Python one, or
``np.int64(3)``) decides, as a bound, a shape or the truth of ``n > 3``, is guarded: a call for
which it comes out differently is traced again. What earlier decisions decide needs no guard.
"""

from collections import ChainMap
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from fusec.ir.graph import Graph, Node, evaluate, evaluator, toposort

if TYPE_CHECKING:
    from fusec.trace.session import Session


def constant(session: "Session", node: Node) -> np.ndarray | None:
    """The value of a node that depends on constants and shapes alone."""
    return _evaluated(session.sized, node, _params(session, node))


def _evaluated(known: Mapping[Node, Any], node: Node, params: Any) -> np.ndarray | None:
    if params is None or any(p not in known for p in params):
        return None
    return np.asarray(evaluate(Graph(params, [node]), [known[p] for p in params])[0])


def guarded(session: "Session", node: Node) -> np.ndarray | None:
    """As ``constant``, also of a node that depends on numbers of the call; they are guarded.

    And on what Python has decided before.
    """
    if node in session.decided:
        return session.decided[node]
    if node in session.numbers:
        return np.array(session.numbers[node]._concrete(), node.dtype)
    params = _params(session, node)
    if params is None:
        return None
    numbers = {p: session.numbers[p] for p in params if p in session.numbers}
    if not numbers and session.decided.keys().isdisjoint(params):
        return _evaluated(session.sized, node, params)
    known = ChainMap(session.sized, session.decided)
    if not numbers:
        with suppress(Exception):  # then its program asks NumPy
            return _evaluated(known, node, params)
        return None
    run = evaluator(Graph(params, [node]), {p: known[p] for p in params if p not in numbers})
    last: list[Any] = [None, None]  # most calls have the numbers of the one before

    def number_of(*given: Any) -> Any:
        text, value = last
        if text != repr(given):  # which tells 2 from 2.0, and the zeros
            pairs = zip(numbers, given)
            value = np.asarray(run({p: np.array(now, p.dtype) for p, now in pairs})).tolist()
            last[:] = repr(given), value
        return value

    recipe = (number_of, *[n._recipe for n in numbers.values()])
    values = [n._value for n in numbers.values()]
    found = number_of(*values)
    session.guard_scalar(recipe, found)
    return np.array(found, node.dtype)


def _params(session: "Session", node: Node) -> list[Node] | None:
    """The params and decided nodes that a node depends on; None where one is no number.

    That is then remembered.
    """
    varying, decided = session.varying, session.decided
    nodes = toposort([node], known=ChainMap(varying, decided))
    params = [n for n in nodes if n.op.name == "param"]
    for n in nodes:
        number = n.op.name != "param" or n in session.sized or n in session.numbers
        if not (number and all(i in decided or i not in varying for i in n.inputs)):
            varying.add(n)
    found = {i: None for n in nodes for i in n.inputs if i in decided}
    return None if node in varying else [*params, *found]
