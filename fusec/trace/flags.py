"""``x.flags`` of traced arrays."""

from typing import TYPE_CHECKING, Any, Never

import numpy as np

from fusec.errors import UnsupportedError

if TYPE_CHECKING:
    from fusec.trace.tracer import Tracer

_OF_LAYOUT = ("c_contiguous", "f_contiguous", "contiguous", "fortran", "fnc", "forc")
_SHORT = {
    "C": "c_contiguous", "F": "f_contiguous", "O": "owndata", "A": "aligned", "W": "writeable",
    "X": "writebackifcopy", "B": "behaved", "CA": "carray", "FA": "farray",
}  # fmt: skip


class Flags:
    """What NumPy's flags tell; which memory an argument has tracing does not know."""

    __slots__ = ("_x",)
    _x: "Tracer"

    def __init__(self, x: "Tracer") -> None:
        object.__setattr__(self, "_x", x)

    def __getattr__(self, name: str) -> Any:
        x, layout = self._x, self._x._like.flags
        if x._scalar:
            return getattr(np.zeros(1, x.dtype)[0].flags, name)
        if name in _OF_LAYOUT or not hasattr(layout, name):
            return getattr(layout, name)
        writeable, source = is_writeable(x), x._storage.source
        if name == "writeable" and (source is None or source.kind == "arg"):
            return writeable
        own, c, f = is_owner(x, "flags"), layout.c_contiguous, layout.f_contiguous
        return {
            "owndata": own, "aligned": True, "writebackifcopy": False, "behaved": writeable,
            "carray": writeable and c, "farray": not c,  # any of its bits
            "num": c | f << 1 | own << 2 | 1 << 8 | writeable << 10,
        }[name]  # fmt: skip

    def __getitem__(self, key: str) -> Any:
        name = _SHORT.get(key, key.lower())
        if not key.isupper() or not hasattr(self._x._like.flags, name):
            raise KeyError("Unknown flag")
        return getattr(self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name != "writeable":
            raise UnsupportedError(f"it sets `{name}` of an array: NumPy runs the function")
        set_writeable(self._x, value)

    def __setitem__(self, key: str, value: Any) -> None:
        setattr(self, _SHORT.get(key, key.lower()), value)

    def __fusec_unwrap__(self, spec: str = "") -> Never:
        raise UnsupportedError("an array's flags leave the function: NumPy runs it")

    __str__ = __repr__ = __format__ = __fusec_unwrap__


def is_writeable(x: "Tracer") -> bool:
    """Whether what ``x`` looks at may be written through it."""
    broadcasts = [attrs for name, attrs in x._path if name == "broadcast_to"]
    if not x._storage.writeable or any("writeable" not in attrs for attrs in broadcasts):
        return False
    if broadcasts:
        raise UnsupportedError("what np.broadcast_arrays gave is written: NumPy runs and warns")
    return True


def set_writeable(x: "Tracer", value: Any) -> None:
    """``x.flags.writeable = value``: views that are made of ``x`` from now on have it too.

    A broadcast to the shape that ``x`` has already is the step that no update gets through.
    """
    x.made_here("writeable")
    if bool(value) == is_writeable(x):
        return
    step = ("broadcast_to", {"shape": x._like.shape})
    path = (*x._path, step)
    if value:
        path = x._path[:-1]
        if x._path[-1:] != (step,) or not x._storage.writeable or len(x._path) > 1:
            raise UnsupportedError("it makes an array writeable: NumPy runs the function")
    x._path, x._cache = path, None


def is_owner(x: "Tracer", name: str) -> bool:
    """Whether ``x`` is the array that its memory belongs to."""
    if x._storage.source is not None:
        raise UnsupportedError(f"it asks for `{name}` of an argument: NumPy runs the function")
    return x._scalar or x is x._storage.root()
