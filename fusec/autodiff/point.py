"""A function at a point: run on variables of its own, with its results as nodes.

``Point`` is what every transformation starts from: the arguments to differentiate replaced by
``identity`` nodes, the function run on them, and the leaves of what it returned.
"""

import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from fusec.errors import DTypeError, ShapeError
from fusec.ir.aval import kind_of
from fusec.ir.graph import Node
from fusec.trace.capture import twin
from fusec.trace.run import positional_names
from fusec.trace.session import Session
from fusec.trace.standin import copy_like
from fusec.trace.tracer import Tracer, as_tracer, fresh
from fusec.trace.tree import TreeDef, flatten
from fusec.trace.ufuncs import weak_type
from fusec.trace.writeback import Watched, containers

Positions = int | Sequence[int]


class Point:
    """``fn(*args, **kwargs)`` with the arguments ``argnums`` as variables.

    name: of the transformation, for messages. has_aux: the function returns (result, more).
    """

    def __init__(
        self,
        session: Session,
        fn: Callable[..., Any],
        args: Sequence[Any],
        kwargs: dict[str, Any],
        argnums: Positions,
        name: str,
        has_aux: bool = False,
    ) -> None:
        self.session, self.name = session, name
        by_number = name not in ("vjp", "jvp", "linearize")
        self.leave_out = "leave it out of argnums" if by_number else "close over it in a lambda"
        self.called = getattr(fn, "__name__", "the function")
        names = argument_names(fn, len(args))
        self.given: list[Tracer] = []
        self.variables: list[Tracer] = []
        self.trees: list[TreeDef] = []
        args = list(args)
        at = positions(argnums, names, name)
        given = [args[k] for k in at]
        for k in at:
            leaves, tree = flatten(args[k])
            paths = tree.paths(names[k])
            made = [self._variable(x, path) for x, path in zip(leaves, paths)]
            self.trees.append(tree)
            args[k] = tree.unflatten(made)
        watched = Watched([args[k] for k in at], self.variables)
        value = twin(fn, session)(*args, **kwargs)
        update = watched.update(None)
        made = [self._outside(x) for x in update.values]
        update.finish(containers(given), flatten(given)[0], made)
        self.aux = None
        if has_aux:
            if not isinstance(value, tuple) or len(value) != 2:
                raise TypeError(f"fusec.{name}: has_aux=True takes a function of (result, more)")
            value, self.aux = value
        self.value = value
        for given, variable in zip(self.given, self.variables):
            if variable._storage.version:  # the function changed its argument
                given.write(variable.node)
        leaves, self.out_tree = flatten(value)
        self.results = [self._result(x) for x in leaves]

    @property
    def inputs(self) -> list[Node]:
        """The nodes to differentiate in."""
        return [v._storage.start for v in self.variables]

    @property
    def outputs(self) -> list[Node]:
        return [r.node for r in self.results]

    def _outside(self, value: Any) -> Any:
        """A new member of the caller's containers; a view of a variable is one of what it is of."""
        for given, variable in zip(self.given, self.variables):
            if type(value) is Tracer and value._storage is variable._storage:
                return given.step(value._like, *value._path, scalar=value._scalar)
        return value

    def _variable(self, leaf: Any, path: str) -> Tracer:
        given = self._number(leaf, path)
        kind = kind_of(given.dtype)
        if kind not in "fc":
            cast = "float(...)" if weak_type(leaf) else f"{path}.astype(float)"
            raise DTypeError(
                f"fusec.{self.name}: argument `{path}` is {given.dtype.name}, and only floats and "
                f"complex numbers have derivatives. Pass {cast}, or {self.leave_out}."
            )
        session = self.session
        weak = weak_type(leaf) is not None
        made = fresh(session, session.make("identity", given.node), given._like, given._scalar)
        made._scalar = given._scalar or weak
        made._storage.item = weak
        self.given.append(given)
        self.variables.append(made)
        return made

    def _number(self, leaf: Any, path: str) -> Tracer:
        if isinstance(leaf, np.ndarray | np.generic) or weak_type(leaf) is not None:
            return as_tracer(self.session, leaf)
        raise DTypeError(
            f"fusec.{self.name}: argument `{path}` is a {type(leaf).__name__}, which has no "
            "derivative. Differentiate in arrays, numbers and containers of them; where it "
            f"is none, {self.leave_out}."
        )

    def _result(self, leaf: Any) -> Tracer:
        if isinstance(leaf, np.ndarray | np.generic) or weak_type(leaf) is not None:
            return as_tracer(self.session, leaf)
        raise DTypeError(
            f"fusec.{self.name}: {self.called} returned a {type(leaf).__name__}, which has no "
            "derivative. Return it beside the result with has_aux=True."
        )

    def scalar(self) -> Tracer:
        """The one real number that the function returned, or an error that says what to do."""
        if len(self.results) != 1 or self.results[0]._like.ndim:
            shapes = ", ".join([f"shape {r._like.shape}" for r in self.results])
            raise ShapeError(
                f"fusec.{self.name} takes a function that returns one number; {self.called} "
                f"returned {shapes or 'nothing'}. Sum it up, return more with has_aux=True, or use "
                "fusec.vjp (one cotangent) or fusec.jacobian (all derivatives)."
            )
        (result,) = self.results
        if result.dtype.kind == "c":
            raise DTypeError(
                f"fusec.{self.name} takes a function that returns a real number; {self.called} "
                "returned a complex one. Return its .real or abs(), or use fusec.vjp."
            )
        return result

    def packed(self, cotangents: Sequence[Node | None]) -> list[Any]:
        """Cotangents of all variables in the containers of the arguments, one for each of them."""
        leaves = iter([
            gradient(self.session, g, x) for g, x in zip(cotangents, self.variables)
        ])  # fmt: skip
        return [
            tree.unflatten([next(leaves) for _ in range(tree.num_leaves)]) for tree in self.trees
        ]


def gradient(session: Session, g: Node | None, of: Tracer) -> Tracer:
    """The gradient in a variable, laid out like it; 0 without memory where there is none."""
    if g is None:
        return zero(session, of._like, of._scalar)
    return fresh(session, g, copy_like(of._like), of._scalar)


def zero(session: Session, like: np.ndarray, scalar: bool) -> Tracer:
    """0 in a read-only array without memory."""
    dtype = like.dtype if kind_of(like.dtype) in "fc" else np.dtype(np.float64)
    nothing = fresh(session, session.const(0, dtype), scalar=scalar)
    view = np.broadcast_to(nothing._like, like.shape)
    step = ("broadcast_to", {"shape": like.shape})
    return nothing.step(view, step) if like.shape else nothing


def as_positions(argnums: Any) -> Positions:
    """What the user gave, as a number or a tuple of them."""
    try:
        if isinstance(argnums, Iterable):
            return tuple([operator.index(n) for n in argnums])
        return operator.index(argnums)
    except TypeError:
        raise TypeError(
            "argnums is the position of an argument, such as 0, or a tuple of positions, such as "
            f"(0, 1), not {argnums!r}"
        ) from None


def positions(argnums: Positions, names: Sequence[str], name: str) -> list[int]:
    """``argnums`` as positions in ``names``, negative ones counted from the end."""
    found: list[int] = []
    count = len(names)
    for n in argnums if isinstance(argnums, Sequence) else (argnums,):
        if not -count <= n < count:
            raise ValueError(
                f"fusec.{name}: argnums={n}, but the function was called with {count} positional "
                "arguments. Pass what is differentiated by position."
            )
        if n % count in found:
            raise ValueError(
                f"fusec.{name}: argnums={argnums} names the argument {names[n]} twice. Give each "
                "position once."
            )
        found.append(n % count)
    return found


def argument_names(fn: Any, count: int) -> list[str]:
    """What the user calls the positional arguments."""
    names = positional_names(fn)
    return [names[k] if k < len(names) else f"args[{k}]" for k in range(count)]
