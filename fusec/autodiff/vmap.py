"""``vmap`` while a program is traced: the function runs on one example, then come all of them."""

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from fusec.autodiff.batch import Batch, variable
from fusec.autodiff.point import argument_names
from fusec.errors import DTypeError, ShapeError, UnsupportedError
from fusec.ir.aval import Aval
from fusec.ir.graph import Node
from fusec.trace.capture import twin
from fusec.trace.session import Session, Storage
from fusec.trace.standin import stand_in
from fusec.trace.tracer import Tracer, as_tracer, fresh
from fusec.trace.tree import TreeDef, children, flatten
from fusec.trace.ufuncs import weak_type
from fusec.trace.writeback import Watched, containers

Axes = Any
"""An axis, None where nothing is batched, or a container of them."""


def vmap(
    session: Session,
    fn: Callable[..., Any],
    in_axes: Axes,
    out_axes: Axes,
    args: Sequence[Any],
    kwargs: dict[str, Any],
) -> Any:
    """``fn`` on all examples: what stacking its results would give."""
    examples = Examples(session, fn, in_axes, args)
    before = {s: s.version for s in examples.shared_storages()}
    first = len(session.checks)
    ones = [one for _, one in examples.pairs]
    watched, by_name = Watched(examples.args, ones), Watched(kwargs, [])
    value = twin(fn, session)(*examples.args, **kwargs)
    examples.check_writes(before)
    update = watched.update(None)
    if by_name.update(None).changes or (update.changes and not isinstance(in_axes, int)):
        raise UnsupportedError(
            "a function under fusec.vmap changes a list, dict or dataclass that examples share. "
            "Return the new value, or give one in_axes for all arguments: -1 or 0."
        )
    leaves, tree = flatten(value)
    axes = _spread(out_axes, tree, "out_axes", "result")
    paths = tree.paths("result")
    batch = Batch(session, examples.count, examples.wide)
    results = [_result(session, x, path) for x, path in zip(leaves, paths)]
    members = [_result(session, x, "what an argument is given") for x in update.values]
    nodes = [r.node for r in [*results, *members]]
    checks = [c for c in session.checks[first:] if c.checked]
    batch.run([*nodes, *examples.changed, *checks])
    examples.write_back(batch)
    stored = zip(members, nodes[len(results) :])
    new = [_moved(batch, x, n, in_axes, "what an argument is given") for x, n in stored]
    update.finish(containers(list(args)), examples.given, new)
    made = zip(leaves, nodes, axes, paths)
    return tree.unflatten([_moved(batch, *result) for result in made])


class Examples:
    """The arguments of a batched call, and one example of them.

    args: the arguments with variables for what is batched. wide: variable -> all examples, batch
    axis first. count: how many.
    """

    def __init__(
        self, session: Session, fn: Callable[..., Any], in_axes: Axes, args: Sequence[Any]
    ) -> None:
        self.session = session
        self.args: list[Any] = []
        self.wide: dict[Node, Node] = {}
        self.pairs: list[tuple[Tracer, Tracer]] = []  # all examples and one
        self.given: list[Any] = []  # all examples, as the arguments have them
        self.shared: list[Tracer] = []
        self.sizes: dict[str, tuple[int, int]] = {}
        each = _per_argument(in_axes, len(args))
        for axes, name, arg in zip(each, argument_names(fn, len(args)), args):
            leaves, tree = flatten(arg)
            spread = _spread(axes, tree, "in_axes", name)
            if axes is in_axes and len(leaves) == 1 and leaves[0] is arg and not _is_array(arg):
                spread = [None]
            found = zip(leaves, spread, tree.paths(name))
            self.args.append(tree.unflatten([self._example(*leaf) for leaf in found]))
        counts = {n for n, _ in self.sizes.values()}
        if len(counts) > 1:
            told = [f"`{p}` has {n} along axis {k}" for p, (n, k) in self.sizes.items()]
            raise ShapeError(f"fusec.vmap: different numbers of examples: {', '.join(told)}")
        if not counts:
            raise ValueError(
                f"fusec.vmap: nothing is batched: in_axes={in_axes!r} gives no array an axis. "
                "Call the function itself."
            )
        self.count = counts.pop()

    def _example(self, leaf: Any, axis: int | None, path: str) -> Any:
        if axis is None:
            if type(leaf) is Tracer:
                self.shared.append(leaf)
            return leaf
        if not _is_array(leaf):
            raise DTypeError(
                f"fusec.vmap: argument `{path}` is a {_kind(leaf)}, which has no axis to take "
                "examples from. Pass an array, or None for it in in_axes."
            )
        given: Any = as_tracer(self.session, leaf)
        like = given._like
        k = _axis(axis, like.ndim, f"argument `{path}`")
        self.sizes[path] = (like.shape[k], k)
        whole = np.moveaxis(given, k, 0)
        rest = whole._like
        node = variable(Aval(rest.shape[1:], rest.dtype))
        one = fresh(self.session, node, stand_in(node.shape, node.dtype, rest.strides[1:]),
                    scalar=not node.shape)  # fmt: skip
        one._storage.writeable = given._storage.writeable
        self.wide[node] = whole.node
        self.pairs.append((whole, one))
        self.given.append(leaf)
        return one

    @property
    def changed(self) -> list[Node]:
        """What the function wrote into its batched arguments."""
        return [one.node for _, one in self.pairs if one._storage.version]

    def write_back(self, batch: Batch) -> None:
        for whole, one in self.pairs:
            if one._storage.version:
                whole.write(batch.front(one.node))

    def shared_storages(self) -> list[Storage]:
        """The memory that all examples see: arguments and captured arrays known so far."""
        return [*self.session.storages, *[x._storage for x in self.shared]]

    def check_writes(self, before: Mapping[Storage, int]) -> None:
        """Raise UnsupportedError if the function wrote into what all examples share."""
        for storage in self.shared_storages():
            if storage.version != before.get(storage, 0):
                name = storage.source.label if storage.source else "an array"
                raise UnsupportedError(
                    f"{storage.node.loc}: a function under fusec.vmap changes {name}, which all "
                    "examples share. Copy it first, or return the new value."
                )


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray | np.generic) and weak_type(value) is None


def _kind(value: Any) -> str:
    kind = weak_type(value)
    return (kind or type(value)).__name__


def _per_argument(in_axes: Axes, count: int) -> list[Axes]:
    parts = children(in_axes)
    if parts is None or in_axes is None:
        return [in_axes] * count
    if len(parts) != count or not isinstance(in_axes, tuple | list):
        raise ValueError(
            f"fusec.vmap: in_axes={in_axes!r} has an entry for each of {len(parts)} arguments; the "
            f"function was called with {count} positional ones"
        )
    return list(parts.values())


def _spread(axes: Axes, tree: TreeDef, name: str, path: str) -> list[int | None]:
    """``axes``, which may stop above the leaves of ``tree``, as one axis or None for each leaf."""
    if axes is None:
        return [None] * tree.num_leaves
    parts = children(axes)
    if parts is None:
        try:
            return [operator.index(axes)] * tree.num_leaves
        except TypeError:
            raise TypeError(f"fusec.vmap: {name} has {axes!r} for `{path}`: an axis is an int, or "
                            "None where nothing is batched") from None  # fmt: skip
    steps = tree.steps()
    if set(parts) != set(steps) or len(parts) != len(tree.children):
        raise ValueError(f"fusec.vmap: {name} has {axes!r} for `{path}`, which is {tree}")
    found: list[int | None] = []
    for step, child in zip(steps, tree.children):
        found += _spread(parts[step], child, name, path + step)
    return found


def _axis(axis: int, ndim: int, what: str) -> int:
    if not -ndim <= axis < ndim:
        advice = "" if ndim else "; give it None in in_axes if all examples share it"
        raise ShapeError(f"fusec.vmap: {what} has no axis {axis}: it has {ndim} axes{advice}")
    return axis % ndim


def _result(session: Session, leaf: Any, path: str) -> Tracer:
    if _is_array(leaf) or weak_type(leaf) is not None:
        return as_tracer(session, leaf)
    raise DTypeError(
        f"fusec.vmap: {path} is a {_kind(leaf)}; only arrays and numbers can be stacked"
    )


def _moved(batch: Batch, leaf: Any, node: Node, axis: int | None, path: str) -> Any:
    """All examples of a result, with the batch axis where it is wanted."""
    if axis is None:
        if node in batch.wide:
            raise ValueError(
                f"fusec.vmap: out_axes has None for `{path}`, which differs between examples"
            )
        return leaf
    whole: Any = fresh(batch.session, batch.front(node))
    k = _axis(axis, whole._like.ndim, f"`{path}` of all examples")
    moved: Node = np.moveaxis(whole, 0, k).node
    return fresh(batch.session, moved)
