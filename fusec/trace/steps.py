"""The steps from a storage to a view of it: read with ``apply_step``, written with ``undo_step``.

All are ops without values but "gather", the row that a traced number chooses: ``parts`` has an
index for each axis of what it reads, ``of`` and ``items`` tell which index made it.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fusec.errors import UnsupportedError
from fusec.ir.graph import Node
from fusec.trace.session import Session

Step = tuple[str, dict[str, Any]]


def apply_step(session: Session, node: Node, step: Step) -> Node:
    if step[0] == "gather":
        return session.make("gather", node, *step[1]["parts"], shape=step[1]["shape"])
    if step[0] == "broadcast_to":
        return session.broadcast(node, step[1]["shape"])
    return session.make(step[0], node, **step[1])


def undo_step(session: Session, whole: Node, step: Step, part: Node) -> Node:
    """``whole`` with the elements that ``step`` selects replaced by ``part``."""
    name, attrs = step
    if name == "slice":
        return session.make("slice_update", whole, part, start=attrs["start"], step=attrs["step"])
    if name == "gather":
        where = flat_places(session, attrs["parts"], whole.shape, part.shape)
        return session.make("scatter_flat", whole, where, part)
    if name == "transpose":
        return session.make("transpose", part, perm=tuple(np.argsort(attrs["perm"]).tolist()))
    if name == "reshape":
        return session.reshape(part, whole.shape)
    if name == "diagonal":
        batch, n = part.shape[:-1], part.shape[-1]
        flat = session.reshape(whole, (*batch, n * n))
        attrs = {"start": (0,) * part.aval.ndim, "step": (*(1 for _ in batch), n + 1)}
        return session.reshape(session.make("slice_update", flat, part, **attrs), whole.shape)
    if name in ("real", "imag"):
        other = session.make("imag" if name == "real" else "real", whole)
        pair = (part, other) if name == "real" else (other, part)
        return session.make("make_complex", *pair)
    if name == "bitcast":
        return session.make("bitcast", part, dtype=whole.dtype)
    if attrs.get("writeable"):
        raise UnsupportedError("views that overlap are written: NumPy runs the function")
    raise ValueError("assignment destination is read-only")


def flat_places(
    session: Session, parts: Sequence[Node], lengths: Sequence[int], shape: tuple[int, ...]
) -> Node:
    """The flat C-order places that an index for each axis selects."""
    position = session.const(0, np.dtype(np.int64))
    for part, n in zip(parts, lengths):
        size = session.make("dim", value=int(n))
        position = session.make("add", session.make("multiply", position, size), part)
    return session.broadcast(position, shape)
