"""``argmax`` and ``argmin``: the first index at which the extreme stands, the first nan before all.

The extreme is found first, then the first element that is equal to it. Of one long array the
extremes of pieces are found first; then only the first piece with the best one is searched::

    best = np.append(x[:n - n % 1024].reshape(-1, 1024).max(1), x[-1024:].max())
    first = min(argmax(best) * 1024, n - 1024)
    return first + argmax(x[first:first + 1024])
"""

from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from fusec.ir.aval import kind_of
from fusec.ir.graph import Node
from fusec.trace.functions_reduce import finish, tiny_shape
from fusec.trace.session import Session
from fusec.trace.table import BOOL, INT, NoValue, ToHost, dim, implements, iota, zeros
from fusec.trace.tracer import as_tracer, fresh

LONG = 1 << 16  # elements from which one array is searched by pieces
PIECES = 1 << 13  # at most


def position(session: Session, name: str, a: Any, axis: Any, out: Any, keepdims: Any) -> Any:
    """See the module."""
    x = as_tracer(session, a)
    keepdims = keepdims is not NoValue and bool(keepdims)
    function = getattr(np, f"arg{name}")
    function(np.ones(tiny_shape(x._like.shape), x.dtype), axis=axis, keepdims=keepdims)
    if x.dtype.kind == "c":
        raise ToHost
    whole = x
    if axis is None:
        x, axis = x.reshape(-1), 0
    axes = normalize_axis_tuple(axis, x._like.ndim) if x._like.ndim else ()
    if not axes:
        return finish(session, zeros(session, (), INT), x, (), keepdims, out)
    kind = {"max": "any", "min": "all"}[name] if x.dtype == BOOL else name
    far = x._like.ndim == 1 and x._like.size >= LONG and _is_argument(x.node)
    search = _by_pieces if far else _search
    node = search(session, f"reduce_{kind}", x.node, axes[0])
    all_axes = tuple(range(whole._like.ndim)) if whole is not x else axes
    if whole is not x:
        node = session.reshape(node, ())
    made = finish(session, node, whole, all_axes, keepdims, out)
    return made if out is not None else fresh(session, made.node, scalar=made._scalar)


def _is_argument(node: Node) -> bool:
    """Whether the values are in memory: others would be computed twice, or be stored for it."""
    while node.op.name in ("reshape", "transpose", "slice"):
        node = node.inputs[0]
    return node.op.name == "param"


def _search(session: Session, reduction: str, x: Node, axis: int) -> Node:
    best = session.make(reduction, x, axes=(axis,))
    shape = tuple([1 if k == axis else n for k, n in enumerate(x.shape)])
    found = session.make("equal", x, session.reshape(best, shape))
    if kind_of(x.dtype) == "f":
        found = session.make("logical_or", found, session.make("isnan", x))
    length = x.shape[axis]
    small = np.dtype("i4" if length < 2**31 else "i8")  # twice as many in a vector
    index = session.cast(iota(session, x.shape, axis), small)
    index = session.make("where", found, index, session.cast(dim(session, length), small))
    return session.cast(session.make("reduce_min", index, axes=(axis,)), INT)


def _by_pieces(session: Session, reduction: str, x: Node, axis: int) -> Node:
    """The same for one long array."""
    (n,) = x.shape
    piece = 1024
    while n // piece > PIECES:
        piece *= 2
    many = n // piece
    head = _from(session, x, 0, many * piece)
    best = session.make(reduction, session.reshape(head, (many, piece)), axes=(1,))
    if n % piece:
        last = session.make(reduction, _from(session, x, n - piece, piece), axes=(0,))
        best = session.make("concatenate", best, session.reshape(last, (1,)), axis=0)
    number = _search(session, reduction, best, 0)
    first = session.make("multiply", number, dim(session, piece))
    first = session.make("minimum", first, dim(session, n - piece))
    places = session.make("add", first, iota(session, (piece,), 0))
    inside = _search(session, reduction, session.make("gather", x, places, shape=(piece,)), 0)
    return session.make("add", first, inside)


def _from(session: Session, x: Node, start: int, count: int) -> Node:
    return session.make("slice", x, start=(start,), step=(1,), shape=(count,))


def arg_reduction(position: Any, name: str) -> Any:
    def reduction(session: Session, a: Any, axis: Any = None, out: Any = None, *,
                  keepdims: Any = NoValue) -> Any:
        return position(session, name, a, axis, out, keepdims)

    return reduction


argmax = implements(np.argmax)(arg_reduction(position, "max"))
argmin = implements(np.argmin)(arg_reduction(position, "min"))
