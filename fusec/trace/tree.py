"""Nested arguments and results: containers are structure, everything else is a leaf.

``flatten`` takes tuples, lists, dicts, named tuples, dataclass instances and None apart, by exact
type; a ``TreeDef`` is the structure without the leaves and can be compared, hashed and printed.
"""

import collections
import dataclasses
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

Writer = Callable[[Any, Sequence[Any], Sequence[Any], Sequence[Any]], None]
"""(container, keys that go, keys that are assigned, what is assigned); a list is replaced."""


class _Node(NamedTuple):
    """How one container type comes apart and together again."""

    flatten: Callable[[Any], tuple[Iterable[Any], Hashable]]
    unflatten: Callable[[Any, list[Any]], Any]
    steps: Callable[[Any, int], list[str]]  # (auxiliary data, n) -> how each child is written
    write: Writer | None = None  # changes an instance as an update says


class TreeDef:
    """The structure of a tree.

    cls: the container's type, ``LEAF`` or None. aux: what is needed besides the children (keys,
    field names). num_leaves: number of leaves below.

    >>> leaves, tree = flatten({"w": (1.0, 2.0), "b": None})
    >>> leaves, tree, tree.unflatten([3.0, 4.0])
    ([1.0, 2.0], {"w": (*, *), "b": None}, {'w': (3.0, 4.0), 'b': None})
    >>> tree.paths("args[0]")
    ['args[0]["w"][0]', 'args[0]["w"][1]']
    """

    __slots__ = ("_hash", "aux", "children", "cls", "num_leaves")

    def __init__(self, cls: Any, aux: Hashable = None, children: tuple["TreeDef", ...] = ()):
        self.cls = cls
        self.aux = aux
        self.children = children
        self.num_leaves: int = sum([c.num_leaves for c in children]) if cls is not LEAF else 1
        self._hash = hash((cls, aux, children))

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return (
            isinstance(other, TreeDef)
            and self._hash == other._hash
            and self.cls is other.cls
            and self.aux == other.aux
            and (self.cls is not dict or [*map(type, self.aux)] == [*map(type, other.aux)])
            and self.children == other.children
        )

    def unflatten(self, leaves: Iterable[Any]) -> Any:
        """The tree of this structure with ``leaves``; ValueError when their number differs."""
        items = list(leaves)
        if len(items) != self.num_leaves:
            raise ValueError(f"{self} has {self.num_leaves} leaves, {len(items)} were given")
        return self._build(iter(items))

    def _build(self, leaves: Iterator[Any]) -> Any:
        if self.cls is LEAF:
            return next(leaves)
        if self.cls is None:
            return None
        children = [next(leaves) if c is _LEAF else c._build(leaves) for c in self.children]
        if self.cls is tuple:
            return tuple(children)
        return children if self.cls is list else self._node().unflatten(self.aux, children)

    def steps(self) -> list[str]:
        """How each child is reached from here: ``[0]``, ``["w"]``, ``.field``."""
        return self._node().steps(self.aux, len(self.children)) if self.children else []

    def _node(self) -> _Node:
        return node_of(self.cls)

    def paths(self, root: str = "") -> list[str]:
        """How each leaf is written, starting from the expression ``root``."""
        if self.cls is LEAF:
            return [root]
        pairs = zip(self.steps(), self.children)
        return [path for step, child in pairs for path in child.paths(root + step)]

    def __repr__(self) -> str:
        if self.cls is LEAF or self.cls is None:
            return "*" if self.cls is LEAF else "None"
        children = [repr(c) for c in self.children]
        if self.cls is tuple:
            return f"({', '.join(children)}{',' if len(children) == 1 else ''})"
        if self.cls is list:
            return f"[{', '.join(children)}]"
        named = [_label(s, c) for s, c in zip(self.steps(), children)]
        if issubclass(self.cls, dict):
            body = "{" + ", ".join(named) + "}"
            return body if self.cls is dict else f"{self.cls.__name__}({body})"
        return f"{self.cls.__name__}({', '.join(named)})"


def _label(step: str, child: str) -> str:
    return f"{step[1:]}={child}" if step.startswith(".") else f"{step[1:-1]}: {child}"


class _Leaf:
    def __repr__(self) -> str:
        return "*"


LEAF = _Leaf()
_LEAF = TreeDef(LEAF)
_NONE = TreeDef(None)


class _Flat(dict[int, TreeDef]):
    """n -> the tuple of n leaves."""

    def __missing__(self, n: int) -> TreeDef:
        self[n] = TreeDef(tuple, None, (_LEAF,) * n)
        return self[n]


# Structures seen lately, found without hashing them deeply; a structure keeps its children alive,
# so that their ids stay theirs. Cleared when full: equal structures need not be one object.
_KNOWN: dict[tuple[Any, ...], TreeDef] = {}
_MOST_KNOWN = 4096
_FLAT_TUPLES = _Flat()


def flatten(tree: Any) -> tuple[list[Any], TreeDef]:
    """The leaves of ``tree`` from left to right, and its structure.

    >>> flatten([1, (2, 3), {"b": 4, "a": 5}])
    ([1, 2, 3, 4, 5], [*, (*, *), {"b": *, "a": *}])
    """
    if type(tree) is tuple:
        for item in tree:
            if _NODES[type(item)] is not None:
                break
        else:
            return list(tree), _FLAT_TUPLES[len(tree)]
    leaves: list[Any] = []
    return leaves, _flatten(tree, leaves)


def _flatten(tree: Any, leaves: list[Any]) -> TreeDef:
    node = _NODES[type(tree)]
    if node is None:
        leaves.append(tree)
        return _LEAF
    if tree is None:
        return _NONE
    if node is _UNWRAP:
        return _flatten(tree.__fusec_unwrap__(), leaves)
    items, aux = node.flatten(tree)
    children: list[TreeDef] = []
    for item in items:
        if _NODES[type(item)] is None:
            leaves.append(item)
            children.append(_LEAF)
        else:
            children.append(_flatten(item, leaves))
    kinds = (*map(type, aux),) if type(tree) is dict else None  # 1, 1.0 and True are equal keys
    key = (type(tree), aux, kinds, *map(id, children))
    known = _KNOWN.get(key)
    if known is None:
        if len(_KNOWN) >= _MOST_KNOWN:
            _KNOWN.clear()
        known = _KNOWN[key] = TreeDef(type(tree), aux, tuple(children))
    return known


def children(value: Any) -> dict[str, Any] | None:
    """The parts of a container by how each is written after it; None for a leaf.

    >>> children({"w": 1, "b": None}), children(2)
    ({'["w"]': 1, '["b"]': None}, None)
    """
    node = _NODES[type(value)]
    if node is None:
        return None
    if node is _UNWRAP:
        return children(value.__fusec_unwrap__())
    items, aux = node.flatten(value)
    found = list(items)
    return dict(zip(node.steps(aux, len(found)), found))


def apart(value: Any) -> tuple[list[Any], Any] | None:
    """The parts of a container, and its keys or names; None for a leaf.

    >>> apart({"w": 1, "b": [2]}), apart(2)
    (([1, [2]], ('w', 'b')), None)
    """
    node = _NODES[type(value)]
    if node is None:
        return None
    if node is _UNWRAP:
        return apart(value.__fusec_unwrap__())
    items, aux = node.flatten(value)
    return list(items), aux


def node_of(cls: type) -> _Node:
    """How a type of containers comes apart, together again, and is changed."""
    node = _NODES[cls]
    assert node is not None, "only containers have parts"
    return node


def outline(tree: TreeDef) -> tuple[Any, ...]:
    """A structure but for the lengths of lists, and what is in those."""
    if tree.cls is list:
        return (list,)
    return (tree.cls, tree.aux, *map(outline, tree.children))


def register(
    cls: type,
    flatten: Callable[[Any], tuple[Iterable[Any], Hashable]],
    unflatten: Callable[[Any, list[Any]], Any],
    names: Callable[[Any], Sequence[str]] | None = None,
) -> None:
    """Make instances of exactly ``cls`` structure instead of leaves.

    flatten: instance -> (children, auxiliary data that can be hashed).
    unflatten: (auxiliary data, children) -> instance.
    names: auxiliary data -> how each child is written after the instance (``.x``, ``[0]``).

    >>> class Pair:
    ...     def __init__(self, a, b): self.a, self.b = a, b
    >>> register(Pair, lambda p: ((p.a, p.b), None), lambda _, c: Pair(*c), lambda _: [".a", ".b"])
    >>> flatten(Pair(1, 2))[1].paths("p")
    ['p.a', 'p.b']
    """
    steps = _indexed if names is None else (lambda aux, n: list(names(aux)))
    _NODES[cls] = _Node(flatten, unflatten, steps)


def _indexed(aux: Any, n: int) -> list[str]:
    return [f"[{i}]" for i in range(n)]


def _keyed(keys: Any, n: int) -> list[str]:
    return [f'["{k}"]' if isinstance(k, str) else f"[{k!r}]" for k in keys]


def _dict(cls: type) -> _Node:
    return _Node(
        lambda d: (d.values(), tuple(d)), lambda keys, c: cls(zip(keys, c)), _keyed, _write_items
    )


def _write_items(target: Any, gone: Sequence[Any], keys: Sequence[Any], items: Any) -> None:
    for key in gone:
        del target[key]
    target.update(zip(keys, items))


def _write_fields(target: Any, gone: Sequence[Any], names: Sequence[Any], items: Any) -> None:
    """Past ``__setattr__``, which has run on the rebuilt instance, and frozen or not."""
    for name in gone:
        object.__delattr__(target, name)
    for name, item in zip(names, items):
        object.__setattr__(target, name, item)


def _write_list(target: Any, gone: Sequence[Any], keys: Sequence[Any], items: Any) -> None:
    target[:] = items


def _named_tuple(cls: Any) -> _Node:
    fields = [f".{name}" for name in cls._fields]
    return _Node(lambda t: (t, None), lambda _, c: cls._make(c), lambda aux, n: fields)


def _dataclass(cls: type) -> _Node:
    """Fields and whatever ``__post_init__`` added; neither ``__init__`` nor it runs again."""
    fields = tuple(f.name for f in dataclasses.fields(cls))

    def take_apart(x: Any) -> tuple[list[Any], tuple[str, ...]]:
        extra = getattr(x, "__dict__", {})
        names = tuple([n for n in fields if hasattr(x, n)] + [n for n in extra if n not in fields])
        return [getattr(x, n) for n in names], names

    def put_together(names: Any, children: list[Any]) -> Any:
        made: Any = object.__new__(cls)
        for name, child in zip(names, children):
            object.__setattr__(made, name, child)
        return made

    steps = lambda names, n: [f".{name}" for name in names]  # noqa: E731
    return _Node(take_apart, put_together, steps, _write_fields)


def _default_dict() -> _Node:
    def put_together(aux: Any, children: list[Any]) -> Any:
        return collections.defaultdict(aux[0], zip(aux[1], children))

    return _Node(
        lambda d: (d.values(), (d.default_factory, tuple(d))),
        put_together,
        lambda aux, n: _keyed(aux[1], n),
        _write_items,
    )


_UNWRAP = _Node(lambda x: ((), None), lambda aux, c: None, _indexed, _write_fields)


class _Nodes(dict[type, _Node | None]):
    """type -> its node, or None for leaves; a type is looked at once."""

    def __missing__(self, cls: type) -> _Node | None:
        node: _Node | None = None
        if hasattr(cls, "__fusec_proxy__"):
            node = _UNWRAP
        elif issubclass(cls, tuple) and hasattr(cls, "_fields"):
            node = _named_tuple(cls)
        elif dataclasses.is_dataclass(cls):
            node = _dataclass(cls)
        self[cls] = node
        return node


_NODES = _Nodes(
    {
        np.ndarray: None,
        int: None,
        float: None,
        type(None): _Node(lambda x: ((), None), lambda aux, c: None, _indexed),
        tuple: _Node(lambda t: (t, None), lambda _, c: tuple(c), _indexed),
        list: _Node(lambda t: (t, None), lambda _, c: c, _indexed, _write_list),
        dict: _dict(dict),
        collections.OrderedDict: _dict(collections.OrderedDict),
        collections.defaultdict: _default_dict(),
    }
)
