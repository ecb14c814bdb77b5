"""Differentiation in a trace: each function here runs while a program is traced.

``fusec.gradients`` offers them to users. A derivative forward needs no rules of its own: what a
reverse sweep computes is linear in the cotangent, and the reverse sweep of that is the forward
derivative; what only led there is dead code.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fusec.autodiff.batch import Batch, variable
from fusec.autodiff.linear import Linear, Values
from fusec.autodiff.point import Point, Positions
from fusec.autodiff.vjp import pullback, zeros
from fusec.ir.aval import Aval, kind_of
from fusec.ir.graph import Node
from fusec.trace.session import Session
from fusec.trace.tracer import Tracer, fresh
from fusec.trace.tree import flatten


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
    one = session.const(1, result.dtype) if kind_of(result.dtype) == "f" else None
    found = point.packed(pullback(session, [result.node], [one], point.inputs))
    grads = found[0] if isinstance(argnums, int) else tuple(found)
    return ((point.value, point.aux) if has_aux else point.value), grads


def vjp(
    session: Session, fn: Callable[..., Any], primals: Sequence[Any], has_aux: bool = False
) -> tuple[Point, Callable[[Any], tuple[Any, ...]]]:
    """The point, and the function that takes cotangents of its result to those of ``primals``."""
    point = Point(session, fn, primals, {}, tuple(range(len(primals))), "vjp", has_aux)
    takes = Values.of(point.out_tree, point.results)

    def pull(cotangents: Any) -> tuple[Any, ...]:
        given = takes.matched(session, cotangents, "vjp")
        return tuple(point.packed(pullback(session, point.outputs, given, point.inputs)))

    return point, pull


def split_vjp(
    session: Session, fn: Callable[..., Any], has_aux: bool, primals: Sequence[Any], kwargs: Any
) -> Any:
    """(value, more, residuals, the linear function), all results of one program."""
    point = Point(session, fn, primals, {}, tuple(range(len(primals))), "vjp", has_aux)
    variables = [session.make("identity", zeros(session, r.node)) for r in point.results]
    found = pullback(session, point.outputs, variables, point.inputs)
    takes, gives = Values.of(point.out_tree, point.results), _values(point, primals)
    return _handed_out(session, point, Linear(session, "vjp", takes, gives, variables, found))


def split_linearize(
    session: Session, fn: Callable[..., Any], primals: Sequence[Any], kwargs: Any
) -> Any:
    """As ``split_vjp``, for tangents."""
    point = Point(session, fn, primals, {}, tuple(range(len(primals))), "linearize")
    variables = [session.make("identity", zeros(session, n)) for n in point.inputs]
    found = Transposed(session, point).push(variables)
    takes, gives = _values(point, primals), Values.of(point.out_tree, point.results)
    return _handed_out(session, point, Linear(session, "linearize", takes, gives, variables, found))


def _values(point: Point, primals: Sequence[Any]) -> Values:
    return Values.of(flatten(tuple(primals))[1], point.variables)


def _handed_out(session: Session, point: Point, linear: Linear) -> Any:
    return point.value, point.aux, [fresh(session, n) for n in linear.residuals], linear


class Transposed:
    """The linear function that is the derivative at ``point``, ready to be applied forward."""

    def __init__(self, session: Session, point: Point) -> None:
        self.session, self.point = session, point
        floats = [r for r in point.results if kind_of(r.dtype) in "fc"]
        self.cotangents = [session.make("identity", zeros(session, r.node)) for r in floats]
        self.linear = pullback(session, [r.node for r in floats], self.cotangents, point.inputs)

    def push(self, tangents: Sequence[Node | None]) -> list[Node | None]:
        """The tangent of each result; None for those that do not depend on the variables."""
        pairs = [(x, t) for x, t in zip(self.linear, tangents) if x is not None and t is not None]
        found = iter(pullback(
            self.session, [x for x, _ in pairs], [t for _, t in pairs], self.cotangents
        ))  # fmt: skip
        return [next(found) if kind_of(r.dtype) in "fc" else None for r in self.point.results]


def linearize(
    session: Session, fn: Callable[..., Any], primals: Sequence[Any], name: str = "linearize"
) -> tuple[Point, Callable[..., Any]]:
    """The point, and the function that takes tangents of ``primals`` to those of the result."""
    point = Point(session, fn, primals, {}, tuple(range(len(primals))), name)
    derivative = Transposed(session, point)
    takes, gives = _values(point, primals), Values.of(point.out_tree, point.results)

    def push(*tangents: Any) -> Any:
        return gives.made(session, derivative.push(takes.matched(session, tangents, name)))

    return point, push


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

    One batched sweep for the elements of whichever is smaller, result or arguments.
    """
    point = Point(session, fn, args, kwargs, argnums, name)
    results, variables = point.results, point.variables
    forward = _size(variables) < _size(results)
    if any(r.dtype.kind == "c" for r in results):
        forward = all(kind_of(v.dtype) == "f" for v in variables)
    if forward:
        derivative = Transposed(session, point)
        push = derivative.push
        columns = [_rows(session, v, k, variables, push) for k, v in enumerate(variables)]
        blocks = [[_swapped(c[r], v) for c, v in zip(columns, variables)]
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
    """``apply`` at each unit of ``seeded``, a first axis for its elements: one batched sweep."""
    count, shape = seeded._like.size, seeded._like.shape
    one = variable(Aval(shape, seeded.dtype))
    given: list[Node | None] = [None] * len(group)
    given[number] = one
    found = apply(given)
    lines = [session.make("iota", shape=(count, count), axis=k) for k in (0, 1)]
    units = session.cast(session.make("equal", *lines), seeded.dtype)
    wide = {one: session.reshape(units, (count, *shape))}
    return Batch(session, count, wide, unroll=True).stacked(found)


def _swapped(stack: Node | None, variable: Tracer) -> Node | None:
    """(elements of the variable, result) as (result, elements of the variable)."""
    if stack is None:
        return None
    moved: Any = fresh(variable._session, stack)
    found: Node = np.moveaxis(moved, 0, -1).node
    return found


def _block(session: Session, found: Node | None, result: Tracer, v: Tracer) -> Tracer:
    shape = (*result._like.shape, *v._like.shape)
    if found is None:
        dtype = np.result_type(result.dtype, v.dtype)
        return fresh(session, session.broadcast(session.const(0, dtype), shape))
    return fresh(session, session.reshape(found, shape), scalar=not shape)


def _packed(point: Point, leaves: Sequence[Any]) -> list[Any]:
    rest = iter(leaves)
    return [t.unflatten([next(rest) for _ in range(t.num_leaves)]) for t in point.trees]
