"""Captured containers are copied, so that the traced function may change its copy and be found out.

``Ledger`` remembers what every copy, proxy, cell and globals was given, and compares at the end.
"""

import collections
import datetime
import decimal
import enum
import fractions
import pathlib
import re
import types
import uuid
from typing import TYPE_CHECKING, Any

import numpy as np

from fusec.errors import UnsupportedError
from fusec.trace.guards import Path

if TYPE_CHECKING:
    from fusec.trace.capture import Capture

MISSING: Any = type("Missing", (), {"__repr__": lambda self: "nothing"})()
CONSTANTS = {
    type(None), bool, int, float, complex, str, bytes, slice, range, type(...),
    type(NotImplemented),
}  # fmt: skip
# Constants of these classes and those derived from them.
IMMUTABLE = (
    np.generic, np.dtype, enum.Enum, decimal.Decimal, fractions.Fraction, datetime.date,
    datetime.time, datetime.timedelta, datetime.tzinfo, pathlib.PurePath, uuid.UUID, re.Pattern,
    int, float, complex, str, bytes, np.finfo, np.iinfo,
)  # fmt: skip
# More guards than this cost more per call than tracing could save.
_MOST_LEAVES = 10_000


def _count(capture: "Capture", value: Any, path: Path) -> None:
    capture.leaves += len(value)
    if capture.leaves > _MOST_LEAVES:
        raise UnsupportedError(
            f"`{path}` brings the captured containers to more than {_MOST_LEAVES:,} items; "
            "make it an array or pass it as an argument"
        )


def copy_list(capture: "Capture", value: Any, path: Path) -> Any:
    """A list or deque with each item mapped; one guard for a list of constants."""
    copied = type(value)(()) if type(value) is list else type(value)((), value.maxlen)
    capture.remember(value, path, copied)
    if type(value) is list and all(type(v) in CONSTANTS for v in value):
        capture.guards.add(path, "items", tuple(value))
        copied.extend(value)
    else:
        _count(capture, value, path)
        capture.guards.add(path, "type", type(value))
        capture.guards.add(path, "len", len(value))
        copied.extend([capture.map(v, path.item(i)) for i, v in enumerate(value)])
    capture.ledger.copied(path, copied, list(copied))
    return copied


def copy_tuple(capture: "Capture", value: Any, path: Path) -> Any:
    """A tuple or named tuple with each item mapped; one guard for a tuple of constants."""
    if type(value) is tuple and all(type(v) in CONSTANTS for v in value):
        capture.guards.add(path, "same", value)
        return value
    _count(capture, value, path)
    capture.guards.add(path, "type", type(value))
    capture.guards.add(path, "len", len(value))
    items = [capture.map(v, path.item(i)) for i, v in enumerate(value)]
    return capture.remember(value, path, tuple.__new__(type(value), items))


def copy_dict(capture: "Capture", value: Any, path: Path) -> Any:
    """A dict with each value mapped; the keys and their order are guarded."""
    _count(capture, value, path)
    capture.guards.add(path, "type", type(value))
    capture.guards.add(path, "keys", [*value])
    copied = capture.remember(value, path, type(value)())
    if isinstance(copied, collections.defaultdict):
        factory = path.attr("default_factory")
        copied.default_factory = capture.map(value.default_factory, factory)
    for key, item in value.items():
        copied[key] = capture.map(item, path.item(key))
    capture.ledger.copied(path, copied, list(copied.items()))
    return copied


def copy_set(capture: "Capture", value: Any, path: Path) -> Any:
    """A set with the same items, guarded as a whole."""
    capture.guards.add(path, "type", type(value))
    capture.guards.add(path, "equal", frozenset(value))
    copied = capture.remember(value, path, type(value)(value))
    capture.ledger.copied(path, copied, frozenset(value))
    return copied


class Ledger:
    """What was given to the twins that they could assign to or change, as it was given."""

    def __init__(self) -> None:
        self._holders: list[tuple[Path, Any, dict[str, object]]] = []
        self._copies: list[tuple[Path, Any, Any]] = []

    def hold(self, path: Path, holder: Any, given: dict[str, object]) -> None:
        """A ``__dict__``, globals or a cell; ``given`` grows as names are read."""
        self._holders.append((path, holder, given))

    def copied(self, path: Path, container: Any, before: Any) -> None:
        """A copied container and its items."""
        self._copies.append((path, container, before))

    def escapes(self) -> list[tuple[Path, object]]:
        """The tracers that were assigned outside; UnsupportedError for any other change."""
        for path, container, before in self._copies:
            if not _unchanged(container, before):
                raise UnsupportedError(_outside(path, "changes"))
        found: list[tuple[Path, object]] = []
        for path, holder, given in self._holders:
            for name, value in _changes(holder, given):
                text = f"{path}.{name}" if str(path) else name
                at = path.attr(name, text) if name else path
                if not is_tracer(value):
                    raise UnsupportedError(
                        _outside(at, "deletes" if value is MISSING else "assigns")
                    )
                found.append((at, value))
        return found


def is_tracer(value: object) -> bool:
    """Whether a value stands for a traced array or number."""
    cls = type(value)
    traced = cls.__module__ in ("fusec.trace.tracer", "fusec.trace.scalars")
    return traced or hasattr(cls, "__fusec_tracer__")


def _outside(path: Path, does: str) -> str:
    return (
        f"the traced function {does} `{path}`, which lives outside it; return the new value and "
        "assign it where the function is called"
    )


def _unchanged(copied: Any, before: Any) -> bool:
    if isinstance(before, frozenset):
        return bool(copied == before)
    if isinstance(copied, dict):
        return len(copied) == len(before) and all(
            a[0] is b[0] and a[1] is b[1] for a, b in zip(copied.items(), before)
        )
    return len(copied) == len(before) and all(a is b for a, b in zip(copied, before))


def _changes(holder: Any, given: dict[str, object]) -> list[tuple[str, object]]:
    if isinstance(holder, types.CellType):
        try:
            now: dict[str, object] = {"": holder.cell_contents}
        except ValueError:
            now = {}
    else:
        now = {n: v for n, v in holder.items() if n != "__warningregistry__"}
    changed = [(n, v) for n, v in now.items() if given.get(n, MISSING) is not v]
    return changed + [(n, MISSING) for n in given if n not in now]
