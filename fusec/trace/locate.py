"""Where code comes from: the user's line behind a node, and what counts as library code.

A traced function is followed through the user's own code and third-party Python code. NumPy, the
standard library and fusec itself are "library": their functions are called as they are.
"""

import os
import sys
import sysconfig
import types
from pathlib import Path
from typing import Any

import numpy as np

from fusec.ir.graph import Loc


def _folder(path: str | Path) -> str:
    return str(Path(path)) + os.sep


_FUSEC = _folder(Path(__file__).parent.parent)
_NUMPY = _folder(Path(np.__file__).parent)
_STDLIB = tuple({_folder(sysconfig.get_path(k)) for k in ("stdlib", "platstdlib")})
_INSTALLED = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")


class _Hidden(dict[str, bool]):
    """filename -> is it fusec's, NumPy's or the import system's own; computed once each."""

    def __missing__(self, filename: str) -> bool:
        hidden = filename.startswith((_FUSEC, _NUMPY, "<frozen ", "<__array_function__"))
        self[filename] = hidden
        return hidden


class _Library(dict[str, bool]):
    """filename -> is it hidden or a part of the standard library."""

    def __missing__(self, filename: str) -> bool:
        stdlib = filename.startswith(_STDLIB) and not any(p in filename for p in _INSTALLED)
        self[filename] = stdlib or _hidden[filename]
        return self[filename]


_hidden = _Hidden()
_library = _Library()


def user_location(known: dict[Any, Any] | None = None) -> Loc | None:
    """The innermost line that is neither fusec's nor NumPy's, or None.

    known: what remembers lines that are asked for again and again.

    >>> user_location() is not None
    True
    """
    frame: types.FrameType | None = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if not _hidden[code.co_filename]:
            known = {} if known is None else known
            key = id(code), frame.f_lasti
            if key not in known:  # the code stays, and so does its identity
                known[key] = Loc(code.co_filename, frame.f_lineno, code.co_qualname), code
            found: Loc = known[key][0]
            return found
        frame = frame.f_back
    return None


def is_library_code(code: types.CodeType) -> bool:
    """Whether a function with this code belongs to NumPy, the standard library or fusec.

    >>> is_library_code(os.path.join.__code__), is_library_code((lambda: 0).__code__)
    (True, False)
    """
    return _library[code.co_filename]


def is_library_module(module: types.ModuleType) -> bool:
    """Whether a module's attributes are taken as constant (NumPy, standard library, fusec)."""
    filename = module.__dict__.get("__file__")
    if filename:
        return _library[filename]
    return module.__name__.partition(".")[0] in sys.stdlib_module_names


def is_user_class(cls: type) -> bool:
    """Whether a class is written in Python by the user or a third party.

    Classes over C types other than object and the built-in containers are not: nothing outside
    can see what their instances hold.

    >>> is_user_class(dict), is_user_class(Loc)
    (False, False)
    """
    if _is_library_class(cls) and cls.__module__ not in _OPEN:
        return False
    base: type | None = cls
    while base is not None and _is_python_class(base):
        base = base.__base__
    return base in _CONTAINERS or base is object or base is types.SimpleNamespace


def _is_library_class(cls: type) -> bool:
    """Whether a library's module holds this class; one made for the user may only say so."""
    found: Any = sys.modules.get(cls.__module__)
    if found is None or not is_library_module(found):
        return False
    for name in cls.__qualname__.split("."):
        found = getattr(found, "__dict__", {}).get(name)
    return found is cls or not cls.__flags__ & _HEAP_TYPE


def has_user_code(cls: type) -> bool:
    """Whether a class has methods that somebody wrote, other than what ``@dataclass`` generates.

    >>> has_user_code(Loc), has_user_code(_Hidden)
    (False, False)
    """
    return any(_is_user_code(raw) for c in cls.__mro__[:-1] for raw in vars(c).values())


def _is_user_code(raw: object) -> bool:
    for inner in ("__func__", "fget", "func", "__fusec_inline__"):
        raw = getattr(raw, inner, raw)
    filename = raw.__code__.co_filename if isinstance(raw, types.FunctionType) else _FUSEC
    return not _library[filename] and not filename.startswith(("<string>", "<generated"))


def _is_python_class(cls: type) -> bool:
    marks = {"__dict__", "__weakref__", "__slots__"}
    if cls is object or not cls.__flags__ & _HEAP_TYPE:
        return False
    return not marks.isdisjoint(vars(cls)) or any(map(_is_python_class, cls.__bases__))


_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE, set for classes that Python code made
_CONTAINERS = (dict, list, tuple, set, frozenset)
_OPEN = ("types", "argparse", "collections")  # modules whose classes hold the user's settings


# Modules whose functions are known by name however the user got hold of them.
_NAMED = (
    "builtins", "math", "cmath", "numpy", "numpy.linalg", "numpy.fft", "numpy.random", "numpy.ma",
    "time", "random", "secrets", "datetime", "dataclasses", "importlib", "io", "os", "uuid",
    "functools", "itertools", "operator", "numpy.lib.stride_tricks", "warnings",
    "logging", "pprint", "traceback", "subprocess", "shutil",
)  # fmt: skip
_names: dict[tuple[str, ...], dict[int, tuple[object, list[str]]]] = {}


def qualified_names(value: object) -> list[str]:
    """The public names of a library function or class, its own name first.

    >>> qualified_names(np.linalg.norm), qualified_names(np.abs), qualified_names(print)
    (['numpy.linalg.norm'], ['numpy.absolute', 'numpy.abs'], ['builtins.print'])
    """
    loaded = tuple(name for name in _NAMED if name in sys.modules)
    if loaded not in _names:
        _names[loaded] = _table(loaded)
    known, names = _names[loaded].get(id(value), (None, []))
    return names if known is value else []


def _table(modules: tuple[str, ...]) -> dict[int, tuple[object, list[str]]]:
    table: dict[int, tuple[object, list[str]]] = {}
    for module in modules:
        for name, value in vars(sys.modules[module]).items():
            if callable(value) and not name.startswith("_"):
                own_name = getattr(value, "__name__", "") == name
                names = table.setdefault(id(value), (value, []))[1]
                names.insert(0 if own_name else len(names), f"{module}.{name}")
    return table
