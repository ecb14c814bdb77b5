"""``searchsorted`` and ``digitize`` of many numbers: each is looked for by halves, all at once.

What is left of the table is as long for every number, whichever half it goes to, so the steps of a
table are known, and no place is out of bounds::

    base, length = 0, n
    while length > 1:
        base = where(a[base + length // 2 - 1] < v, base + length // 2, base)
        length -= length // 2
    return base + (a[base] < v)

What NumPy finds in a table that is not sorted depends on the number before: a check of the table
has NumPy run the function then.
"""

from typing import Any

import numpy as np

from fusec.ir.aval import is_bfloat
from fusec.ir.graph import Node
from fusec.trace.session import Session
from fusec.trace.table import INT, ToHost, dim, implements, zeros
from fusec.trace.tracer import Tracer, as_tracer, fresh

MANY = 1000  # numbers that are worth a kernel


@implements(np.searchsorted)
def searchsorted(
    session: Session, a: Any, v: Any, side: Any = "left", sorter: Any = None
) -> Tracer:
    """See the module."""
    if sorter is not None or side not in ("left", "right"):
        raise ToHost
    table, keys = as_tracer(session, a), as_tracer(session, v)
    if table._like.ndim != 1 or not table._like.size or keys._like.size < MANY:
        raise ToHost
    kind = np.promote_types(table.dtype, keys.dtype)
    kinds = {x.dtype.kind for x in (table, keys)} <= set("iuf") and kind.itemsize in (4, 8)
    if not kinds or is_bfloat(table.dtype) or is_bfloat(keys.dtype):
        raise ToHost
    _check_order(session, table.node)
    node = _found(session, session.cast(table.node, kind), session.cast(keys.node, kind), side)
    return fresh(session, node)


@implements(np.digitize)
def digitize(session: Session, x: Any, bins: Any, right: Any = False) -> Tracer:
    """The same, with the other side by default; NumPy takes descending bins."""
    return searchsorted(session, bins, x, "left" if right else "right")


def _found(session: Session, table: Node, keys: Node, side: str) -> Node:
    (length,) = table.shape
    before = "less" if side == "left" else "less_equal"

    def goes_on(place: Node) -> Node:
        return session.make(before, session.make("gather", table, place, shape=keys.shape), keys)

    base = zeros(session, keys.shape, INT)
    while length > 1:
        half = length // 2
        on = goes_on(session.make("add", base, dim(session, half - 1)))
        base = session.make("where", on, session.make("add", base, dim(session, half)), base)
        length -= half
    found = session.make("add", base, session.cast(goes_on(base), INT))
    if keys.dtype.kind != "f":
        return found
    number = session.make("logical_not", session.make("isnan", table))
    numbers = session.make("reduce_sum", session.cast(number, INT), axes=(0,))
    last = numbers if side == "left" else dim(session, table.shape[0])  # nan stands behind all
    return session.make("where", session.make("isnan", keys), last, found)


def _check_order(session: Session, table: Node) -> None:
    """Have the table checked: ascending, nan behind all numbers."""
    count = table.shape[0] - 1
    if not count:
        return
    here, there = [
        session.make("slice", table, start=(start,), step=(1,), shape=(count,)) for start in (0, 1)
    ]
    wrong = session.make("less", there, here)
    if table.dtype.kind == "f":
        back = session.make("greater", *[session.make("isnan", x) for x in (here, there)])
        wrong = session.make("logical_or", wrong, back)
    session.make("check", there, session.make("logical_not", wrong))
