"""``np.vectorize`` and ``np.fromfunction``: functions of one element, traced once.

The function is traced on scalars that stand for one element of each argument. If what it made is
elementwise, the same nodes over whole arrays are the answer.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from fusec.errors import UnsupportedError
from fusec.ir.aval import Aval
from fusec.ir.graph import Node, toposort
from fusec.trace.create import as_shape, grid
from fusec.trace.session import Session
from fusec.trace.tracer import as_tracer, fresh

_WIDE = {"b": "?", "i": "i8", "u": "u8", "f": "f8", "c": "c16"}


def fromfunction(session: Session, function: Callable[..., Any], shape: Any, *, dtype: Any = float,
                 like: Any = None, **kwargs: Any) -> Any:
    """``np.fromfunction``: the function sees whole index arrays, as in NumPy."""
    return function(*grid(session, as_shape(shape), dtype=dtype), **kwargs)


class Vectorized:
    """``np.vectorize(pyfunc)``; the function computes with wide numbers, as Python's are."""

    def __init__(self, session: Session, pyfunc: Any = None, otypes: Any = None, doc: Any = None,
                 excluded: Any = None, cache: bool = False, signature: Any = None) -> None:
        if excluded or signature is not None or pyfunc is None:
            raise UnsupportedError(
                f"{session.location()}: np.vectorize with excluded= or signature= is not traced; "
                "write the function for whole arrays"
            )
        self._session = session
        self._otypes = otypes
        self.pyfunc = pyfunc

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        session = self._session
        if not args:
            raise ValueError("np.vectorize needs positional arguments")
        function = functools.partial(self.pyfunc, **kwargs)
        arrays = [as_tracer(session, a) for a in args]
        if any(x._like.size == 0 for x in arrays) and self._otypes is None:
            raise ValueError("cannot call `vectorize` on size 0 inputs unless `otypes` is set")
        kinds = [x.dtype for x in arrays]
        wide = [np.dtype(_WIDE[k.kind]) for k in kinds]
        results = self._element(function, wide)
        types = [np.dtype(t) for t in self._otypes] if self._otypes is not None else [
            r[1].dtype for r in self._element(function, kinds)]
        shape = np.broadcast_shapes(*[x._like.shape for x in arrays])
        inputs = [session.cast(x.node, w) for x, w in zip(arrays, wide)]
        made = []
        for (params, node), dtype in zip(results, types):
            whole = _over_arrays(session, node, dict(zip(params, inputs)))
            whole = session.broadcast(session.cast(whole, dtype), shape)
            made.append(fresh(session, whole, scalar=False))
        return made[0] if len(made) == 1 else tuple(made)

    def _element(self, function: Any, dtypes: list[np.dtype]) -> list[tuple[list[Node], Node]]:
        """The nodes of one element: the stand-ins for the arguments, and the results."""
        session = self._session
        params = [
            Node(_param(), (), {"name": f"element{k}", "aval": Aval((), t)}, Aval((), t))
            for k, t in enumerate(dtypes)
        ]
        value = function(*[fresh(session, p, scalar=True) for p in params])
        values = value if isinstance(value, tuple) else (value,)
        return [(params, as_tracer(session, v).node) for v in values]


def _param() -> Any:
    from fusec.ops.shape import param

    return param


def _over_arrays(session: Session, root: Node, table: dict[Node, Node]) -> Node:
    """The node ``root`` with arrays for the element's stand-ins."""
    reached: set[Node] = set(table)
    done = dict(table)
    for node in toposort([root]):
        if node in done:
            continue
        if not any(i in reached for i in node.inputs):
            done[node] = node
            continue
        reached.add(node)
        if node.op.family != "elementwise":
            raise UnsupportedError(
                f"{session.location()}: np.vectorize of a function that uses {node.op.name}; "
                "write it for whole arrays"
            )
        done[node] = session.make(node.op, *[done[i] for i in node.inputs], **node.attrs)
    return done[root]


