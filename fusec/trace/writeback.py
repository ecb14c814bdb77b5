"""Assignments into containers that are arguments: what changed, done to the caller's containers.

A function is run on rebuilt containers: of tracers while it is traced, of copies where NumPy runs
it for a device. ``Watched`` remembers how they were; the difference is an ``Update``: what the
function made (values), and where that goes. A traced function gives the flat values, one program's
results, and the update of each call does the rest::

    def step(p, g):                       containers  0: (args, kwargs)  1: args  2: p  3: g  ...
        p["w"] = p["w"] - g["w"]          values      the new w
        p["last"] = [g["w"], p["w"]]      made        [leaf 1, value 0], the next container
        return p["w"]                     result      value 0
                                          changes     2: "w" is value 0, "last" that container

So identities are Python's: a member that is an argument is the caller's own array, and what is
stored and returned is one object.
"""

import collections
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from fusec.errors import UnsupportedError
from fusec.trace.copies import CONSTANTS, IMMUTABLE, is_tracer
from fusec.trace.tree import TreeDef, apart, flatten, node_of

VALUE, LEAF, HELD, NOTHING = range(4)
Ref = tuple[int, int]
"""Which value, leaf of the arguments or container; (NOTHING, 0) is None."""
PENDING: Ref = (-1, 0)


class Change(NamedTuple):
    """One container's: keys that go first, and what is then assigned. A list is replaced."""

    number: int
    gone: tuple[Any, ...]
    keys: tuple[Any, ...]
    refs: tuple[Ref, ...]


class Update:
    """What a function did to the containers of its arguments, and how its result is made.

    values: the new leaves, each once. made: (type, keys, parts) of new containers, in order.
    """

    def __init__(self) -> None:
        self.values: list[Any] = []
        self.made: list[tuple[type, Any, list[Ref]]] = []
        self.changes: list[Change] = []
        self.result: Ref = (NOTHING, 0)
        self.outside: list[Any] = []  # paths to the containers that the function read elsewhere
        self.kept: set[int] = set()  # leaves that containers of the arguments still hold
        self.needed = False  # there are changes, or the result holds containers of the arguments
        self.grows = False  # a list has another length: the next call another signature

    def held(self, held: list[Any], leaves: Sequence[Any]) -> list[Any]:
        """The caller's ``containers``, if there is one way only to each that changes."""
        ids = [id(c) for c in held]
        ids += [id(path.follow(leaves)) for path in self.outside]
        if any(ids.count(ids[change.number]) > 1 for change in self.changes):
            raise UnsupportedError("a list, dict or dataclass that is changed is in two places")
        return held

    def finish(self, held: list[Any], leaves: Sequence[Any], values: Sequence[Any]) -> Any:
        """Change the containers ``held`` as the function did; gives its result."""
        pools = (values, leaves, held, (None,))
        for cls, aux, refs in self.made:
            held.append(node_of(cls).unflatten(aux, [pools[pool][k] for pool, k in refs]))
        for number, gone, keys, sources in self.changes:
            write = node_of(type(held[number])).write
            assert write is not None
            write(held[number], gone, keys, [pools[pool][k] for pool, k in sources])
        return pools[self.result[0]][self.result[1]]


class Watched:
    """The containers of rebuilt arguments, before a function runs on them.

    leaves: the leaves they were built of. seen: for a trace, what it has read besides: values,
    paths to them, and what stands for them. Its update is for later calls, too.
    """

    def __init__(
        self, given: Any, leaves: Sequence[Any], seen: Callable[[], list[Any]] | None = None
    ) -> None:
        self._given = given
        self._before = [(c, apart(c)) for c in containers(given)]
        self._leaves = {id(x): (LEAF, k) for k, x in enumerate(leaves)}
        self._kept = list(leaves)  # what ids belong to must stay alive
        self._seen = seen
        self._refs: dict[int, Ref] = {}

    def changed(self) -> dict[int, tuple[int, Any]]:
        """The containers that changed, by identity: their numbers, and how they were."""
        found: dict[int, tuple[int, Any]] = {}
        for number, (container, before) in enumerate(self._before):
            if not _same(before, apart(container)):
                found.setdefault(id(container), (number, before))
        return found

    def update(self, result: Any) -> Update:
        """What became of them, with what the function returned. Call it once."""
        made, changed = Update(), self.changed()
        outer = {id(()), id(self._given), *map(id, self._given)}
        own = {id(c) for c, _ in self._before} - outer
        made.needed = bool(changed) or any(id(c) in own for c in containers(result, once=True))
        if made.needed:
            for number, (container, _) in reversed([*enumerate(self._before)]):
                self._refs[id(container)] = (HELD, number)
        if changed and self._seen is not None:
            made.outside = [path for x, path, _ in self._seen() if apart(x) is not None]
        made.changes = [self._change(made, *change) for change in changed.values()]
        made.result = self._ref(made, result, member=False)
        inner = [apart(c) for c in containers(self._given, once=True) if id(c) not in outer]
        members = [id(x) for parts, _ in inner for x in parts]  # type: ignore[misc]
        made.kept = {self._leaves[x][1] for x in members if x in self._leaves}
        return made

    def _change(self, made: Update, number: int, before: Any) -> Change:
        container = self._before[number][0]
        if node_of(type(container)).write is None:
            raise UnsupportedError(f"a {type(container).__name__} that is an argument was changed")
        items, aux = apart(container)  # type: ignore[misc]
        if type(container) is list:
            made.grows |= len(items) != len(before[0])
            return Change(number, (), (), tuple([self._ref(made, x) for x in items]))
        factory, keys = _keys(container, aux)
        known, old = _keys(container, before[1])
        if factory is not known:
            raise UnsupportedError("the default_factory of an argument was changed")
        kept = next((k for k, (a, b) in enumerate(zip(old, keys)) if a is not b), len(keys))
        pairs = [
            (key, self._ref(made, x))
            for k, (key, x) in enumerate(zip(keys, items))
            if k >= min(kept, len(old)) or x is not before[0][k]
        ]
        gone = old[kept:]
        return Change(number, gone, tuple([k for k, _ in pairs]), tuple([r for _, r in pairs]))

    def _ref(self, made: Update, value: Any, member: bool = True) -> Ref:
        """Where a value comes from at a call; new leaves and containers are noted in ``made``."""
        if value is None:
            return (NOTHING, 0)
        found = self._refs.get(id(value)) or (self._leaves.get(id(value)) if member else None)
        if found is PENDING:
            raise UnsupportedError("a container that contains itself was made")
        if found is not None:
            return found
        if member and self._seen is not None:
            _check(value, self._seen())
        self._kept.append(value)
        self._refs[id(value)] = PENDING
        parts = apart(value)
        inner = getattr(type(value), "__fusec_unwrap__", None)
        if parts is None:
            found = (VALUE, len(made.values))
            made.values.append(value)
        elif inner is not None:
            found = self._ref(made, inner(value), member)
        else:
            refs = [self._ref(made, x, member) for x in parts[0]]
            made.made.append((type(value), parts[1], refs))
            found = (HELD, len(self._before) + len(made.made) - 1)
        self._refs[id(value)] = found
        return found


def _check(value: Any, seen: list[Any]) -> None:
    """Raise UnsupportedError for what the caller's containers can't be given at each call.

    They are to be given the user's own objects, and those at the time of the call.
    """
    kind = type(value)
    if apart(value) is None:
        fit = is_tracer(value) or kind in CONSTANTS or issubclass(kind, IMMUTABLE)
    else:
        fit = issubclass(kind, tuple) or all(mapped is not value for _, _, mapped in seen)
    if not fit:
        raise UnsupportedError(f"a {kind.__name__} was put into an argument: NumPy runs it")


def containers(tree: Any, once: bool = False) -> list[Any]:
    """The containers of a tree, each before its parts, None not among them.

    once: also if it is in several places, or contains itself.
    """
    found: list[Any] = []
    seen: set[int] = set()
    waiting = [tree]
    while waiting:
        value = waiting.pop()
        parts = apart(value)
        if parts is not None and value is not None and not (once and id(value) in seen):
            found.append(value)
            seen.add(id(value))
            waiting += reversed(parts[0])
    return found


def rebuilt(tree: Any, leaves: Iterator[Any], known: dict[int, Any] | None = None) -> Any:
    """A tree with other leaves, in which a container that was in two places is in two places."""
    known = {} if known is None else known
    parts = apart(tree)
    if parts is None or tree is None:
        return next(leaves) if parts is None else None
    made = node_of(type(tree)).unflatten(parts[1], [rebuilt(x, leaves, known) for x in parts[0]])
    return known.setdefault(id(tree), made)


def origins(update: Update | None, tree: TreeDef, count: int) -> list[int]:
    """Which of ``count`` values each leaf of the result is, and of (args, kwargs) afterwards.

    -1: none of them. Without an update they are the leaves of the result.
    """
    if update is None:
        return [*range(count)]
    leaves = [-1] * tree.num_leaves
    given = tree.unflatten(leaves)
    result = update.finish(containers(given), leaves, range(count))
    return [x if type(x) is int else -1 for x in flatten((result, *given))[0]]


def _same(before: Any, after: Any) -> bool:
    same = before[1] == after[1] and len(before[0]) == len(after[0])
    return same and all(a is b for a, b in zip(before[0], after[0]))


def _keys(container: Any, aux: Any) -> tuple[Any, tuple[Any, ...]]:
    """The default factory and the keys, or names of fields."""
    return aux if type(container) is collections.defaultdict else (None, aux)
