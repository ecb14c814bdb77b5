"""Differentiation in a trace: each function here runs while a program is traced.

``fusec.gradients`` offers them to users. A derivative forward needs no rules of its own: what a
reverse sweep computes is linear in the cotangent, and the reverse sweep of that is the forward
derivative; what only led there is dead code.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fusec.autodiff.point import Point, Positions
from fusec.autodiff.vjp import pullback, undone
from fusec.errors import DTypeError, ShapeError
from fusec.ir.graph import Node
from fusec.trace.session import Session
from fusec.trace.tracer import Tracer, as_tracer, fresh
from fusec.trace.tree import TreeDef, flatten
from fusec.trace.ufuncs import weak_type


def value_and_grad(
    session: Session,
    fn: Callable[..., Any],
    argnums: Positions,
    has_aux: bool,
    args: Sequence[Any],
    kwargs: dict[str, Any],
    name: str = "value_and_grad",
) -> tuple[Any, Any]:
    """The number that ``fn`` returns (with what it returns beside) and its gradients."""
    point = Point(session, fn, args, kwargs, argnums, name, has_aux)
    result = point.scalar()
    one = session.const(1, result.dtype) if result.dtype.kind == "f" else None
    found = point.packed(pullback(session, [result.node], [one], point.inputs))
    grads = found[0] if isinstance(argnums, int) else tuple(found)
    return ((point.value, point.aux) if has_aux else point.value), grads


def vjp(
    session: Session, fn: Callable[..., Any], primals: Sequence[Any], has_aux: bool = False
) -> tuple[Point, Callable[[Any], tuple[Any, ...]]]:
    """The point, and the function that takes cotangents of its result to those of ``primals``."""
    point = Point(session, fn, primals, {}, tuple(range(len(primals))), "vjp", has_aux)

    def pull(cotangents: Any) -> tuple[Any, ...]:
        given = matched(session, cotangents, point.out_tree, point.results, "vjp")
        return tuple(point.packed(pullback(session, point.outputs, given, point.inputs)))

    return point, pull


def matched(
    session: Session, values: Any, tree: TreeDef, like: Sequence[Tracer], name: str
) -> list[Node]:
    """(Co)tangents as nodes of the shapes and dtypes of ``like``, in their containers."""
    leaves, given = flatten(values)
    if given != tree:
        raise DTypeError(f"fusec.{name}: expected {tree}, got {given}")
    nodes = []
    for k, (leaf, x) in enumerate(zip(leaves, like)):
        node = as_tracer(session, leaf).node
        if node.shape != x._like.shape:
            raise ShapeError(
                f"fusec.{name}: {tree.paths('value')[k]} has shape {node.shape}, and what it is "
                f"the (co)tangent of has shape {x._like.shape}"
            )
        if node.dtype.kind not in "fc" and weak_type(leaf) is None:
            raise DTypeError(f"fusec.{name}: a (co)tangent is a float, not {node.dtype}")
        nodes.append(undone(session, node, x.node) if x.dtype.kind in "fc" else node)
    return nodes


def variable(session: Session, x: Tracer) -> Node:
    """A variable at 0: linear functions may be differentiated there."""
    zero = session.broadcast(session.const(0, x.dtype), x._like.shape)
    return session.make("identity", zero)


class Transposed:
    """The linear function that is the derivative at ``point``, ready to be applied forward."""

    def __init__(self, session: Session, point: Point) -> None:
        self.session, self.point = session, point
        floats = [r for r in point.results if r.dtype.kind in "fc"]
        self.cotangents = [variable(session, r) for r in floats]
        self.linear = pullback(session, [r.node for r in floats], self.cotangents, point.inputs)

    def push(self, tangents: Sequence[Node]) -> list[Node | None]:
        """The tangent of each result; None for those that do not depend on the variables."""
        pairs = [(x, t) for x, t in zip(self.linear, tangents) if x is not None]
        found = iter(pullback(
            self.session, [x for x, _ in pairs], [t for _, t in pairs], self.cotangents
        ))  # fmt: skip
        return [next(found) if r.dtype.kind in "fc" else None for r in self.point.results]


def linearize(
    session: Session, fn: Callable[..., Any], primals: Sequence[Any], name: str = "linearize"
) -> tuple[Point, Callable[..., Any]]:
    """The point, and the function that takes tangents of ``primals`` to those of the result."""
    point = Point(session, fn, primals, {}, tuple(range(len(primals))), name)
    derivative = Transposed(session, point)
    tree = flatten(tuple(primals))[1]

    def push(*tangents: Any) -> Any:
        nodes = matched(session, tangents, tree, point.variables, name)
        found = derivative.push(nodes)
        made = [_tangent(session, t, r) for t, r in zip(found, point.results)]
        return point.out_tree.unflatten(made)

    return point, push


def _tangent(session: Session, t: Node | None, of: Tracer) -> Tracer:
    if t is None:
        dtype = of.dtype if of.dtype.kind in "fc" else np.dtype("f8")
        t = session.broadcast(session.const(0, dtype), of._like.shape)
    like = of._like if of._like.dtype == t.dtype else None
    return fresh(session, t, like, of._scalar)


def jvp(
    session: Session, fn: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any]
) -> tuple[Any, Any]:
    """The result at ``primals`` and its tangent."""
    point, push = linearize(session, fn, primals, "jvp")
    if len(tangents) != len(primals):
        raise TypeError(f"fusec.jvp: {len(primals)} primals, but {len(tangents)} tangents")
    return point.value, push(*tangents)


# -- all derivatives ------------------------------------------------------------------------------


def jacobian(
    session: Session,
    fn: Callable[..., Any],
    argnums: Positions,
    args: Sequence[Any],
    kwargs: dict[str, Any],
    name: str = "jacobian",
) -> Any:
    """For each result a container like the arguments; axes: the result's, then the argument's.

    One sweep for each element of whichever is smaller, result or arguments.
    """
    point = Point(session, fn, args, kwargs, argnums, name)
    results, variables = point.results, point.variables
    forward = _size(variables) < _size(results)
    if any(r.dtype.kind == "c" for r in results):
        forward = all(v.dtype.kind == "f" for v in variables)
    if forward:
        derivative = Transposed(session, point)
        columns = [_rows(session, v, k, variables, derivative.push) for k, v in enumerate(variables)]
        blocks = [[_swapped(columns[k][r], v) for k, v in enumerate(variables)]
                  for r in range(len(results))]  # fmt: skip
    else:
        def pull(cotangents: Sequence[Node]) -> list[Node | None]:
            return pullback(session, point.outputs, cotangents, point.inputs)

        blocks = [_rows(session, r, k, results, pull) for k, r in enumerate(results)]
    made = []
    for row, result in zip(blocks, results):
        filled = [_block(session, b, result, v) for b, v in zip(row, variables)]
        packed = _packed(point, filled)
        made.append(packed[0] if isinstance(argnums, int) else tuple(packed))
    return point.out_tree.unflatten(made)


def _size(values: Sequence[Tracer]) -> int:
    return sum(v._like.size for v in values)


def _rows(
    session: Session,
    seeded: Tracer,
    number: int,
    group: Sequence[Tracer],
    apply: Callable[[Sequence[Any]], list[Node | None]],
) -> list[Node | None]:
    """``apply`` at each unit of ``seeded``, stacked: one axis for its elements, then the other's."""
    count = seeded._like.size
    found: list[list[Node | None]] = []
    for k in range(count):
        given: list[Node | None] = [None] * len(group)
        given[number] = unit(session, seeded, k)
        found.append(apply(given))
    return [_stacked(session, [row[j] for row in found]) for j in range(len(found[0]))]


def unit(session: Session, x: Tracer, k: int) -> Node:
    """1 at element ``k``, 0 elsewhere; ``k`` is no part of the kernels' text."""
    line = session.make("iota", shape=(x._like.size,), axis=0)
    here = session.make("equal", line, session.make("dim", value=k))
    one, zero = session.const(1, x.dtype), session.const(0, x.dtype)
    return session.reshape(session.make("where", here, session.broadcast(one, line.shape), zero),
                           x._like.shape)  # fmt: skip


def _stacked(session: Session, rows: Sequence[Node | None]) -> Node | None:
    known = [r for r in rows if r is not None]
    if not known:
        return None
    zero = session.broadcast(session.const(0, known[0].dtype), known[0].shape)
    tall = [session.reshape(r or zero, (1, *known[0].shape)) for r in rows]
    return session.make("concatenate", *tall, axis=0) if len(tall) > 1 else tall[0]


def _swapped(stack: Node | None, variable: Tracer) -> Node | None:
    """(elements of the variable, result) as (result, elements of the variable)."""
    if stack is None:
        return None
    moved = np.moveaxis(fresh(variable._session, stack), 0, -1)
    return moved.node


def _block(session: Session, found: Node | None, result: Tracer, v: Tracer) -> Tracer:
    shape = (*result._like.shape, *v._like.shape)
    if found is None:
        dtype = np.result_type(result.dtype, v.dtype)
        return fresh(session, session.broadcast(session.const(0, dtype), shape))
    return fresh(session, session.reshape(found, shape), scalar=not shape)


def _packed(point: Point, leaves: Sequence[Any]) -> list[Any]:
    rest = iter(leaves)
    return [t.unflatten([next(rest) for _ in range(t.num_leaves)]) for t in point.trees]
