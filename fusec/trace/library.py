"""Stand-ins for builtins and library functions that must not run as they are in traced code.

Three kinds: what has an effect (random numbers, clocks, files) refuses, or has NumPy run the
function at every call (printing, logging); builtins that look at types
(``type``, ``isinstance``, ``super``, ``import``) see through proxies; classes that the session
replaces (``float``, ``np.float32``) stay classes.
"""

import builtins
import contextlib
import dataclasses
import datetime
import importlib
import io
import logging
import operator
import random
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Never

import numpy as np

from fusec.errors import UnsupportedError
from fusec.trace.proxies import Holder, ObjectProxy, SuperProxy, unwrap

if TYPE_CHECKING:
    from fusec.trace.capture import Capture

IMPURE = (np.random.Generator, np.random.RandomState, random.Random, io.IOBase)
_IMPURE_MODULES = ("numpy.random.", "random.", "time.", "secrets.", "subprocess.", "shutil.")
_IMPURE_NAMES = {
    "builtins": ("open", "input"),
    "io": ("open",),
    "os": (
        *("urandom", "listdir", "scandir", "stat", "getenv", "environ", "system", "popen"),
        *("mkdir", "makedirs", "remove", "unlink", "rmdir", "rename", "replace", "putenv"),
    ),
    "uuid": ("uuid1", "uuid4"),
    "numpy": (
        *("load", "loadtxt", "genfromtxt", "fromfile", "fromregex", "memmap"),
        *("save", "savez", "savez_compressed", "savetxt"),
    ),
}


def generator_name(generator: Any) -> str:
    """How the kind of a random generator or file is written.

    >>> generator_name(np.random.default_rng(0)), generator_name(random.Random(0))
    ('numpy.random.Generator', 'random.Random')
    """
    cls = type(generator)
    package = cls.__module__.partition(".")[0]
    return f"numpy.random.{cls.__name__}" if package == "numpy" else f"{package}.{cls.__name__}"


def holds_data(value: Any) -> bool:
    """Whether NumPy would read arrays out of an object that is not an array.

    >>> holds_data(bytearray(2)), holds_data(np.ma.ones(2)), holds_data(len)
    (True, True, False)
    """
    names = ("__array__", "__array_interface__", "__dlpack__", "__buffer__")
    if any(hasattr(type(value), name) for name in names) and not isinstance(value, type):
        return True
    try:
        memoryview(value)
    except (TypeError, BufferError, ValueError):
        return False
    return True


def named(capture: "Capture", name: str, value: Any) -> Any:
    """What stands for the library's ``name`` in traced code, or None for ``value`` itself."""
    if name in _OWN:
        return _OWN[name](capture)
    override: Any = capture.session.numpy_override(name)
    if override is None and _is_impure(name, value):
        override = Forbidden(name, capture.session.forbid)
    if override is None or isinstance(override, type) or not isinstance(value, type):
        return override
    check = _inner(capture, "isinstance", isinstance)
    return type_stand_in(value, override, check, getattr(override, "attributes", None))


def _is_impure(name: str, value: Any) -> bool:
    module, _, own_name = name.rpartition(".")
    listed = own_name in _IMPURE_NAMES.get(module, ())
    return listed or (callable(value) and name.startswith(_IMPURE_MODULES))


def _inner(capture: "Capture", name: str, builtin: Any) -> Any:
    """The session's version of a builtin."""
    return capture.session.numpy_override(f"builtins.{name}") or builtin


def refuse_iterator(name: str) -> Never:
    raise UnsupportedError(
        f"`{name}` is an iterator made outside the traced function, which would use it up; "
        "pass a list"
    )


def _refuse_code(name: str) -> Never:
    raise UnsupportedError(f"{name} inside a traced function; call a function instead")


class Forbidden:
    """Stands for something that must not be used while tracing; says so when it is used."""

    def __init__(self, name: str, refuse: Callable[[str], Never], obj: object = None):
        self.__dict__["_fusec_name"] = name
        self.__dict__["_fusec_refuse"] = refuse
        self.__dict__["_fusec_obj"] = obj

    def __getattr__(self, name: str) -> Any:
        if name[:2] == name[-2:] == "__":
            raise AttributeError(name)
        return Forbidden(f"{self._fusec_name}.{name}", self._fusec_refuse)

    def __call__(self, *args: object, **kwargs: object) -> Never:
        refuse: Callable[[str], Never] = self._fusec_refuse
        refuse(self._fusec_name)

    __iter__ = __next__ = __enter__ = __getitem__ = __len__ = __setattr__ = __call__
    __setitem__ = __delitem__ = __contains__ = __call__

    def __exit__(self, *error: object) -> None:
        return None

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return Forbidden if self._fusec_obj is None else type(self._fusec_obj)


def type_stand_in(
    original: type,
    convert: Callable[..., Any],
    check: Callable[[Any, Any], bool],
    attributes: dict[str, Any] | None = None,
) -> type:
    """A class to read where ``original`` (float, np.float32) was, whose call is ``convert``.

    ``isinstance``, ``np.dtype`` and comparison see the original. attributes: what replaces the
    original's own attributes.

    >>> F = type_stand_in(float, lambda x: ("traced", x), isinstance)
    >>> F(2), isinstance(2.0, F), np.zeros(1, dtype=F).dtype, F == float
    (('traced', 2), True, dtype('float64'), True)
    """
    known = attributes or {}
    members = {
        "__call__": lambda cls, *args, **kwargs: convert(*args, **kwargs),
        "__instancecheck__": lambda cls, value: check(value, original),
        "__subclasscheck__": lambda cls, sub: issubclass(sub, original),
        "__getattr__": lambda cls, name: known[name] if name in known else getattr(original, name),
        "__eq__": lambda cls, other: other is original or other is cls or NotImplemented,
        "__hash__": lambda cls: hash(original),
        "__repr__": lambda cls: repr(original),
        "__fusec_unwrap__": lambda cls: original,
    }
    body: dict[str, Any] = {"__module__": original.__module__}
    if issubclass(original, (np.generic, float, int, complex)) and original is not np.generic:
        body["dtype"] = np.dtype(original)
    made: type = type("Meta", (type,), members)(original.__name__, (), body)
    return made


# Builtins and library functions that have to know about proxies whatever the session says.


def _real_classes(capture: "Capture", classes: Any) -> Any:
    if isinstance(classes, tuple):
        return tuple(_real_classes(capture, c) for c in classes)
    return unwrap(classes)


def _type(capture: "Capture") -> Any:
    inner = _inner(capture, "type", type)

    def type_of(value: Any, *more: Any) -> Any:
        if more:
            return type(value, *more)
        if isinstance(value, Forbidden):
            return Forbidden
        return capture.class_(value.__class__ if isinstance(value, Holder) else inner(value))

    return type_stand_in(type, type_of, isinstance)


def _isinstance(capture: "Capture") -> Any:
    inner = _inner(capture, "isinstance", isinstance)
    return lambda value, classes: inner(value, _real_classes(capture, classes))


def _memoryview(capture: "Capture") -> Any:
    def memory_of(value: Any) -> memoryview:
        if isinstance(value, np.ndarray) and not issubclass(type(value), np.ndarray):
            raise UnsupportedError("memoryview() of an array: NumPy runs the function")
        return memoryview(value)

    return type_stand_in(memoryview, memory_of, isinstance)


def _issubclass(capture: "Capture") -> Any:
    return lambda cls, classes: issubclass(unwrap(cls), _real_classes(capture, classes))


def _super(capture: "Capture") -> Any:
    def super_of(cls: Any = None, obj: Any = None) -> Any:
        if cls is None:
            frame = sys._getframe(1)
            cls = frame.f_locals["__class__"]
            obj = frame.f_locals[frame.f_code.co_varnames[0]]
        is_object = issubclass(type(obj), ObjectProxy)
        return SuperProxy(obj, unwrap(cls)) if is_object else super(unwrap(cls), unwrap(obj))

    return super_of


def _import(capture: "Capture") -> Any:
    def import_(name: str, names: Any = None, here: Any = None, *more: Any) -> Any:
        real = names.real if hasattr(names, "real") else names
        return capture.module(__import__(name, real, here, *more))

    return import_


def _import_module(capture: "Capture") -> Any:
    return lambda *args: capture.module(importlib.import_module(*args))


def _build_class(capture: "Capture") -> Any:
    def build(body: Any, name: str, *bases: Any, **kwargs: Any) -> Any:
        for used in body.__code__.co_names:  # a class body reads globals around __missing__
            with contextlib.suppress(KeyError):
                body.__globals__[used]
        return builtins.__build_class__(body, name, *map(unwrap, bases), **kwargs)

    return build


def _replace(capture: "Capture") -> Any:
    return lambda obj, /, **changes: capture.adopt(dataclasses.replace(obj, **changes))


def _clock_class(name: str) -> Callable[["Capture"], Any]:
    original = getattr(datetime, name)

    def make(capture: "Capture") -> Any:
        clocks = {n: f"datetime.{name}.{n}" for n in ("now", "utcnow", "today")}
        refused = {n: Forbidden(text, capture.session.forbid) for n, text in clocks.items()}
        return type_stand_in(original, original, isinstance, refused)

    return make


def _effect(name: str) -> Callable[["Capture"], Forbidden]:
    def make(capture: "Capture") -> Forbidden:
        def refuse(used: str) -> Never:
            text = f"{used} has an effect at every call: NumPy runs the function"
            capture.session.notes.append(text)  # the function may catch what is raised
            raise UnsupportedError(text)

        return Forbidden(name, refuse)

    return make


class Log:
    """A logger: NumPy runs a function that logs, unless the logger drops the message.

    What else it is asked is answered as it is, and guarded; what might change it NumPy runs.
    """

    def __init__(self, capture: "Capture", real: Any) -> None:
        self.__dict__.update(_capture=capture, _real=real)

    def __getattr__(self, name: str) -> Any:
        if name in _LEVELS:
            return lambda *args, **kwargs: self.log(_LEVELS[name])
        if name in _QUESTIONS:
            return lambda *args: self._told(operator.methodcaller(name, *args))
        if not isinstance(getattr(self._real, name), str | int):
            self._changed(name)
        return self._told(operator.attrgetter(name))

    def _told(self, asked: Callable[[Any], Any]) -> Any:
        path = self._capture.guards.pin(self._real, f"the level of {self._real.name}")
        answer = asked(self._real)
        self._capture.guards.add(path.through(asked), "same", answer)
        return answer

    def _changed(self, name: str, *value: object) -> None:
        _effect(f"{name} of a logger")(self._capture)()

    __setattr__ = __delattr__ = _changed

    def log(self, level: int, *args: object, **kwargs: object) -> None:
        """A message, of which nothing is written while tracing."""
        if self.isEnabledFor(level):
            _effect("logging")(self._capture)()


_LEVELS = {
    "debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING,
    "warn": logging.WARNING, "error": logging.ERROR, "exception": logging.ERROR,
    "critical": logging.CRITICAL, "fatal": logging.CRITICAL,
}  # fmt: skip
_QUESTIONS = {"isEnabledFor", "getEffectiveLevel", "hasHandlers"}
_EFFECTS = (
    *("builtins.print", "builtins.breakpoint", "warnings.warn", "warnings.warn_explicit"),
    *("sys.stdout", "sys.stderr", "sys.__stdout__", "sys.__stderr__", "pprint.pprint", "pprint.pp"),
    *("traceback.print_exc", "traceback.print_exception", "traceback.print_stack"),
    *("numpy.seterr", "numpy.seterrcall", "numpy.set_printoptions"),
    *("logging.disable", "logging.basicConfig"),
)


def _logger(capture: "Capture") -> Callable[..., Log]:
    return lambda *name: Log(capture, logging.getLogger(*name))


_OWN: dict[str, Callable[["Capture"], Any]] = {
    "builtins.type": _type,
    "builtins.isinstance": _isinstance,
    "builtins.issubclass": _issubclass,
    "builtins.memoryview": _memoryview,
    "builtins.super": _super,
    "builtins.__import__": _import,
    "builtins.__build_class__": _build_class,
    "builtins.eval": lambda capture: Forbidden("eval", _refuse_code),
    "builtins.exec": lambda capture: Forbidden("exec", _refuse_code),
    "logging.getLogger": _logger,
    "logging.root": lambda capture: Log(capture, logging.root),
    "importlib.import_module": _import_module,
    "dataclasses.replace": _replace,
    "datetime.datetime": _clock_class("datetime"),
    "datetime.date": _clock_class("date"),
}
_OWN |= {name: _effect(name) for name in _EFFECTS}
for _name in (*_LEVELS, "log"):
    _OWN[f"logging.{_name}"] = lambda capture, n=_name: getattr(Log(capture, logging.root), n)  # type: ignore[misc]
