"""What a trace has read besides its arguments, and whether it still is so.

A ``Path`` says how to reach a value again (``self.w``, ``cfg["lr"]``, a closure cell). ``Guards``
is the ordered list of what was expected at which path. It is compiled to one Python function over
pre-bound roots, because it runs before every call:

    def fetch(args):
        try:
            v0 = k0['scale']                              # k0: the module's globals
            if v0 is not k1 and not same(v0, k1): return None
            v1 = k0['W']
            return [v1]                                   # the arrays, in the order of lifting
        except Exception: return None

A value is compared by identity first; equality (which knows nan, the sign of zero and types) is
asked only where another object stands at the same path.
"""

import functools
import keyword
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np


class Path:
    """A way to a value: a root (a pinned object or an argument), then attributes and items.

    Paths with the same steps are the same object. ``str(path)`` is what the user would write.

    >>> str(Guards().argument(0, "self").attr("layers").item(2).attr("w"))
    'self.layers[2].w'
    """

    __slots__ = ("_children", "is_argument", "key", "kind", "parent", "text")

    def __init__(self, parent: "Path | None", kind: str, key: object, text: str):
        self.parent = parent
        self.kind = kind
        self.key = key
        self.text = text
        self.is_argument: bool = parent.is_argument if parent is not None else kind == "arg"
        self._children: dict[tuple[str, object, type], Path] = {}

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"Path({self.text})"

    def _child(self, kind: str, key: object, text: str) -> "Path":
        step = (kind, key, type(key))
        if step not in self._children:
            self._children[step] = Path(self, kind, key, text)
        return self._children[step]

    def attr(self, name: str, text: str | None = None) -> "Path":
        """The attribute ``name`` of the value here; ``text`` replaces how it prints."""
        return self._child("attr", name, f"{self.text}.{name}" if text is None else text)

    def item(self, key: object, text: str | None = None) -> "Path":
        """The item at ``key`` of the value here; ``text`` replaces how it prints."""
        return self._child("item", key, f"{self.text}{_subscript(key)}" if text is None else text)

    def through(self, function: Callable[[Any], Any]) -> "Path":
        """``function`` of the value here, printed as the value itself."""
        return self._child("call", function, self.text)

    def follow(self, args: Sequence[object]) -> Any:
        """The value that is at this path now; raises what Python raises when it is gone."""
        if self.parent is None:
            return args[self.key] if self.kind == "arg" else self.key  # type: ignore[call-overload]
        value = self.parent.follow(args)
        if self.kind == "attr":
            return getattr(value, str(self.key))
        return value[self.key] if self.kind == "item" else self.key(value)  # type: ignore[operator]


def _subscript(key: object) -> str:
    return f'["{key}"]' if isinstance(key, str) else f"[{key!r}]"


def same(a: object, b: object) -> bool:
    """Whether two constants have the same type and value, bit by bit for floats.

    >>> same(1, 1.0), same(float("nan"), float("nan")), same(0.0, -0.0), same((1, 2.5), (1, 2.5))
    (False, True, False, True)
    """
    if type(a) is not type(b):
        return False
    if isinstance(a, float) and isinstance(b, float):
        return (a == b and math.copysign(1, a) == math.copysign(1, b)) or (a != a and b != b)
    if isinstance(a, complex) and isinstance(b, complex):
        return same(a.real, b.real) and same(a.imag, b.imag)
    if isinstance(a, np.generic) and isinstance(b, np.generic):
        return a.dtype == b.dtype and a.tobytes() == b.tobytes()
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a is b or bool(a == b)


def same_items(a: Sequence[object], b: Sequence[object]) -> bool:
    """``same`` for each pair of two sequences; fast where the items are identical.

    >>> same_items([1, 2], (1, 2)), same_items([1, 2], (1, 2.0))
    (True, False)
    """
    return len(a) == len(b) and (all(map(operator.is_, a, b)) or all(map(same, a, b)))


class _Kind(NamedTuple):
    fails: str  # Python that is true where the guard fails; {v} the value, {k} what was expected
    holds: Callable[[Any, Any], bool]


_KINDS = {
    "same": _Kind("{v} is not {k} and not same({v}, {k})", lambda v, k: v is k or same(v, k)),
    "is": _Kind("{v} is not {k}", operator.is_),
    "type": _Kind("type({v}) is not {k}", lambda v, k: type(v) is k),
    "len": _Kind("len({v}) != {k}", lambda v, k: len(v) == k),
    "keys": _Kind("[*{v}] != {k}", lambda v, k: [*v] == k),
    "equal": _Kind("{v} != {k}", lambda v, k: bool(v == k)),
    "items": _Kind(
        "type({v}) is not list or not same_items({v}, {k})",
        lambda v, k: type(v) is list and same_items(v, k),
    ),
    "lacks": _Kind("{k} in {v}", lambda v, k: k not in v),
    "no_attr": _Kind("hasattr({v}, {k})", lambda v, k: not hasattr(v, k)),
    "alias": _Kind("{v} is not {k}", operator.is_),
}
Fetch = Callable[[Sequence[object]], list[Any] | None]


class Guards:
    """Everything one trace has read, in order.

    ``args`` below are the values that ``argument`` roots index: the call's opaque arguments.

    >>> g = {"scale": 3.0}
    >>> guards = Guards()
    >>> guards.add(guards.pin(g, "").item("scale", "scale"), "same", 3.0)
    >>> guards.check(), g.update(scale=4.0), guards.check(), guards.explain_failure()
    (True, None, False, 'scale was 3.0, is now 4.0')
    """

    def __init__(self) -> None:
        self._guards: dict[tuple[Path, str, object], object] = {}
        self._roots: dict[tuple[str, int], Path] = {}
        self._arrays: list[Path] = []
        self._fetch: Fetch | None = None

    def __len__(self) -> int:
        return len(self._guards)

    def __str__(self) -> str:
        return "\n".join(
            f"{p} {kind} {_short(want)}" for (p, kind, _), want in self._guards.items()
        )

    def pin(self, value: object, text: str) -> Path:
        """The root that is always this very object (a function, a cell, a module's globals)."""
        return self._roots.setdefault(("pin", id(value)), Path(None, "pin", value, text))

    def argument(self, index: int, text: str) -> Path:
        """The root that is ``args[index]`` of each call."""
        return self._roots.setdefault(("arg", index), Path(None, "arg", index, text))

    def add(self, path: Path, kind: str, expected: object) -> None:
        """Expect ``expected`` at ``path``; ``kind`` is a row of the table above."""
        if path.kind == "pin" and kind in ("is", "type"):
            return
        distinct = expected if kind in ("lacks", "no_attr") else None
        self._guards.setdefault((path, kind, distinct), expected)
        self._fetch = None

    def alias(self, path: Path, other: Path) -> None:
        """Expect the same object at both paths."""
        if path is not other:
            self._guards.setdefault((path, "alias", other), other)
            self._fetch = None

    def hide(self, path: Path) -> int:
        """Make the array at ``path`` the next hidden input; gives its index in ``arrays()``."""
        self._arrays.append(path)
        self._fetch = None
        return len(self._arrays) - 1

    @property
    def hidden(self) -> list[Path]:
        """The paths of the hidden inputs, in the order of ``arrays()``."""
        return list(self._arrays)

    def fetch(self, args: Sequence[object] = ()) -> list[Any] | None:
        """The current arrays behind the hidden inputs, or None when a guard fails."""
        return self.compiled()(args)

    def compiled(self) -> Fetch:
        """The generated function behind ``fetch``, to be called without a detour."""
        if self._fetch is None:
            self._fetch = _compile(self._guards, self._arrays)
        return self._fetch

    def copy(self) -> "Guards":
        """What has been read until now."""
        made = Guards()
        made._guards, made._arrays = dict(self._guards), list(self._arrays)
        return made

    def check(self, args: Sequence[object] = ()) -> bool:
        """Whether everything that was read is still what it was."""
        return self.compiled()(args) is not None

    def arrays(self, args: Sequence[object] = ()) -> list[Any]:
        """The current arrays behind the hidden inputs, whatever the guards say."""
        return [path.follow(args) for path in self._arrays]

    def explain_failure(self, args: Sequence[object] = ()) -> str:
        """The first guard that fails, in words; empty when all hold."""
        for (path, kind, _), want in self._guards.items():
            try:
                value = path.follow(args)
                expected = want.follow(args) if isinstance(want, Path) else want
                if not _KINDS[kind].holds(value, expected):
                    return _explain(path, kind, want, value)
            except Exception as error:
                return f"{path} cannot be read any more ({type(error).__name__}: {error})"
        return ""


def _explain(path: Path, kind: str, want: object, value: Any) -> str:
    if kind == "alias":
        return f"{path} and {want} were one object, now they are two"
    if kind == "type":
        return f"{path} was of {want!r}, is now of {type(value)!r}"
    if kind == "len":
        return f"{path} had {want} items, has now {len(value)}"
    if kind == "keys":
        return f"{path} had the keys {_short(want)}, has now {_short([*value])}"
    if kind in ("lacks", "no_attr"):
        return f"{path.text or 'the module'} has now {want!r}, which it had not"
    return f"{path} was {_short(want)}, is now {_short(value)}"


def _short(value: object, limit: int = 80) -> str:
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."


class _Writer:
    """Lines of ``fetch`` and the constants that they name."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.constants: list[object] = []
        self._names: dict[Path, str] = {}

    def constant(self, value: object) -> str:
        self.constants.append(value)
        return f"k{len(self.constants) - 1}"

    def value(self, path: Path) -> str:
        """The variable that holds the value at ``path``, assigned before its first use."""
        missing: list[Path] = []
        step: Path | None = path
        while step is not None and step not in self._names:
            missing.append(step)
            step = step.parent
        for node in reversed(missing):
            self._names[node] = self._assign(node, len(self._names))
        return self._names[path]

    def _assign(self, path: Path, number: int) -> str:
        if path.kind == "pin":
            self.constants.append(path.key)
            return f"k{len(self.constants) - 1}"
        self.lines.append(f"v{number} = {self._expression(path)}")
        return f"v{number}"

    def _expression(self, path: Path) -> str:
        if path.parent is None:
            return f"args[{path.key}]"
        holder = self._names[path.parent]
        if path.kind == "call":
            return f"{self.constant(path.key)}({holder})"
        if path.kind == "item":
            literal = type(path.key) in (str, int)
            return f"{holder}[{repr(path.key) if literal else self.constant(path.key)}]"
        name = str(path.key)
        if name.isidentifier() and not keyword.iskeyword(name) and name.isascii():
            return f"{holder}.{name}"
        return f"getattr({holder}, {name!r})"


def _compile(guards: dict[tuple[Path, str, object], object], arrays: list[Path]) -> Fetch:
    writer = _Writer()
    for (path, kind, _), want in guards.items():
        value = writer.value(path)
        k = writer.value(want) if isinstance(want, Path) else writer.constant(want)
        writer.lines.append(f"if {_KINDS[kind].fails.format(v=value, k=k)}: return None")
    results = ", ".join([writer.value(path) for path in arrays])
    writer.lines.append(f"return [{results}]")
    names = "".join(f"k{i}, " for i in range(len(writer.constants)))
    body = "\n            ".join(writer.lines)
    source = (
        f"def bind(constants):\n    ({names}) = constants\n"
        f"    def fetch(args):\n        try:\n            {body}\n"
        "        except Exception:\n            return None\n    return fetch\n"
    )
    return _bind(source)(writer.constants)


@functools.lru_cache(maxsize=256)
def _bind(source: str) -> Callable[[list[object]], Fetch]:
    """The function that ``source`` defines; one text serves all traces that read alike."""
    namespace: dict[str, Any] = {"same": same, "same_items": same_items}
    exec(compile(source, "<fusec guards>", "exec"), namespace)
    bind: Callable[[list[object]], Fetch] = namespace["bind"]
    return bind
