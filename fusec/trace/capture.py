"""What a traced function reads besides its arguments: closure cells, globals, ``self.w``, helpers.

Tracing runs a *twin* of the user's function: the same code over globals and closure cells that map
each value on its way in. Arrays become hidden inputs, functions become twins, modules and objects
become proxies, containers are copied, constants pass; each read leaves a guard. Nothing of the
user's is changed: what the twin assigns stays in the twin's copies, and ``finish`` reports it.

    twin_fn = twin(fn, session)
    result = twin_fn(*traced_arguments)
    finish(session)                        # raises if the function assigned anything outside

Not covered: what C code reads by itself (``os.environ``, a ``ContextVar``, ``str.format`` of a
captured object), class patterns of ``match`` on captured classes, objects of C classes (guarded by
identity only), order of the operands of a captured set.
"""

import builtins
import collections
import functools
import logging
import types
from collections.abc import Callable
from typing import Any, Never, Protocol

import numpy as np

from fusec.errors import UnsupportedError
from fusec.trace.copies import (
    CONSTANTS,
    IMMUTABLE,
    Ledger,
    copy_dict,
    copy_list,
    copy_set,
    copy_tuple,
    is_tracer,
)
from fusec.trace.guards import Guards, Path
from fusec.trace.library import (
    IMPURE,
    Forbidden,
    Log,
    generator_name,
    holds_data,
    named,
    refuse_iterator,
)
from fusec.trace.locate import (
    has_user_code,
    is_library_code,
    is_library_module,
    is_user_class,
    qualified_names,
)
from fusec.trace.proxies import ClassProxy, ModuleProxy, State, bind, lookup, proxy_class, store_of
from fusec.trace.twins import TwinGlobals, make_twin, single_dispatch, trace_code


class Session(Protocol):
    """What a tracer offers to the capture of one trace."""

    guards: Guards

    def lift(self, array: Any, path: Path) -> object:
        """The tracer for a captured array; the n-th call is the n-th of ``guards.arrays()``."""

    def numpy_override(self, qualified_name: str) -> object | None:
        """What traced code gets for "numpy.zeros", "math.exp", "builtins.float", or None."""

    def forbid(self, qualified_name: str) -> Never:
        """Raise ImpureError: randomness, clocks, files."""

    def escape(self, path: Path, value: object) -> None:
        """A tracer was stored outside the function, at ``path``."""

    def noted(self, parts: frozenset[str]) -> None:
        """Code is about to run that has these parts of a comparison of types."""


class Capture:
    """The state of one trace: which twin, proxy or tracer stands for which of the user's values."""

    def __init__(self, session: Session):
        self.session = session
        self.guards = session.guards
        self._memo: dict[int, tuple[object, Path, Any]] = {}
        self.stand_ins: dict[int, tuple[object, Any]] = {}
        self.globals: dict[int, TwinGlobals] = {}
        self.ledger = Ledger()
        self.leaves = 0
        self.builtins = dict(vars(builtins))
        for name in ("__import__", "__build_class__"):  # the interpreter itself looks these up
            self.builtins[name] = self.library(self.builtins[name], f"builtins.{name}")

    # Values.

    def map(self, value: Any, path: Path) -> Any:
        """What traced code sees instead of ``value``, which was read at ``path``; leaves guards."""
        kind = type(value)
        if kind in CONSTANTS:
            self.guards.add(path, "same", value)
            return value
        if is_tracer(value) or trace_code(value) is not None:
            return value
        if id(value) in self._memo:
            _, first, mapped = self._memo[id(value)]
            self.guards.alias(path, first)
            return mapped
        return _HANDLERS.get(kind, Capture._other)(self, value, path)

    def remember(self, value: object, path: Path, mapped: Any) -> Any:
        self._memo[id(value)] = (value, path, mapped)
        return mapped

    def _other(self, value: Any, path: Path) -> Any:
        cls = type(value)
        if issubclass(cls, np.memmap) or hasattr(cls, "__fusec_array__"):
            return self._array(value, path)
        if issubclass(cls, type):
            return self._by_identity(value, path)
        if hasattr(cls, "__fusec_inline__") or issubclass(cls, types.FunctionType):
            return self._function(value, path)
        if issubclass(cls, IMMUTABLE):
            self.guards.add(path, "same", value)
            return value
        if issubclass(cls, tuple) and not has_user_code(cls):
            return copy_tuple(self, value, path)
        if is_user_class(cls):
            return self._object(value, path)
        return self._opaque(value, path)

    def _array(self, array: Any, path: Path) -> Any:
        self.guards.hide(path)
        return self.remember(array, path, self.session.lift(array, path))

    def _opaque(self, value: Any, path: Path) -> Any:
        """Objects that C code made: by identity, unless they hold data or have an effect."""
        if isinstance(value, types.BuiltinMethodType) and not qualified_names(value):
            return self._c_method(value, path)
        if isinstance(value, logging.Logger | logging.LoggerAdapter):
            self.guards.add(path, "is", value)
            return Log(self, value)
        if issubclass(type(value), IMPURE):
            self.guards.add(path, "is", value)
            return Forbidden(generator_name(value), self.session.forbid, value)
        if hasattr(type(value), "__next__"):
            return Forbidden(str(path), refuse_iterator)
        if holds_data(value):
            raise UnsupportedError(
                f"`{path}` is a {type(value).__name__}, whose data tracing cannot follow; "
                "make it a plain array with np.asarray outside the function"
            )
        return self._by_identity(value, path)

    def _c_method(self, value: Any, path: Path) -> Any:
        """A method of C code that was read with its object: ``cfg.get``, ``w.sum``."""
        holder = value.__self__
        owns = getattr(holder, value.__name__, None) == value  # pybind11's functions have others
        if not owns or isinstance(holder, types.ModuleType | type):
            return self._by_identity(value, path)
        self.guards.add(path.attr("__name__"), "same", value.__name__)
        return getattr(self.map(holder, path.attr("__self__", f"{path}")), value.__name__)

    def _by_identity(self, value: Any, path: Path) -> Any:
        self.guards.add(path, "is", value)
        return self.class_(value) if isinstance(value, type) else self.library(value)

    # Functions.

    def inlined(self, value: Any) -> Any:
        """The function inside a jitted one; anything else as it is."""
        while hasattr(type(value), "__fusec_inline__") or (
            isinstance(value, types.FunctionType) and "__fusec_inline__" in value.__dict__
        ):
            value = value.__fusec_inline__
        return value

    def _function(self, value: Any, path: Path) -> Any:
        function = self.inlined(value)
        by_parts = path.is_argument and function is value and id(function) not in self.stand_ins
        if by_parts and not is_library_code(function.__code__):  # a lambda made for each call
            self.guards.add(path, "type", types.FunctionType)
            self.guards.add(path.attr("__globals__"), "is", function.__globals__)
            return self.remember(value, path, self.twin(function, path))
        self.guards.add(path, "is", value)
        return self._whole(function, str(path))

    def _whole(self, function: Any, name: str) -> Any:
        """The stand-in of a callable whose identity is guarded already."""
        if isinstance(function, types.FunctionType):
            return self.twin(function)
        return self.map(function, self.guards.pin(function, name))

    def twin(self, fn: types.FunctionType, path: Path | None = None) -> Any:
        """The same code over mapped globals, cells and defaults; library functions as they are."""
        if id(fn) in self.stand_ins:
            return self.stand_ins[id(fn)][1]
        if is_library_code(fn.__code__):
            known = self.library(fn)
            if known is not fn or fn.__closure__ is None:
                return known
            if "dispatch" in fn.__dict__:  # functools.singledispatch
                return single_dispatch(self, fn)
        return make_twin(self, fn, path)

    def _method(self, value: Any, path: Path) -> Any:
        self.guards.add(path, "type", types.MethodType)
        function = self.map(value.__func__, path.attr("__func__", str(path)))
        return types.MethodType(function, self.map(value.__self__, path.attr("__self__")))

    def _partial(self, value: Any, path: Path) -> Any:
        self.guards.add(path, "type", functools.partial)
        function = self.map(value.func, path.attr("func"))
        args = self.map(value.args, path.attr("args"))
        return functools.partial(function, *args, **self.map(value.keywords, path.attr("keywords")))

    def _cached(self, value: Any, path: Path) -> Any:
        self.guards.add(path, "is", value)
        return self.map(value.__wrapped__, self.guards.pin(value, str(path)).attr("__wrapped__"))

    # Modules and library names.

    def module(self, module: types.ModuleType) -> Any:
        """The proxy for a module; fusec itself as it is."""
        if module.__name__.partition(".")[0] == "fusec":
            return module
        if id(module) not in self.stand_ins:
            path = self.guards.pin(module, module.__name__)
            made = ModuleProxy(State(self, module, path))
            self.stand_ins[id(module)] = (module, made)
            self.ledger.hold(path, made.__dict__, made._fusec.given)
        return self.stand_ins[id(module)][1]

    def _module(self, value: types.ModuleType, path: Path) -> Any:
        self.guards.add(path, "is", value)
        return self.module(value)

    def module_attribute(self, state: State, name: str) -> Any:
        """An attribute of a proxied module: guarded for user modules, by name for libraries."""
        module, path = state.obj, state.path
        if path is not None and not is_library_module(module):
            if not hasattr(module, name):
                self.guards.add(path, "no_attr", name)
            return self.map(getattr(module, name), path.attr(name))
        value = getattr(module, name)
        if isinstance(value, types.ModuleType):
            return self.module(value)
        return self.library(value, f"{module.__name__}.{name}")

    def library(self, value: Any, name: str | None = None) -> Any:
        """What stands for a function, class or object of a library, by its public names."""
        if (name is None or isinstance(value, type)) and id(value) in self.stand_ins:
            return self.stand_ins[id(value)][1]
        names = ([name] if name else []) + qualified_names(value)
        made = next((o for n in names if (o := named(self, n, value)) is not None), value)
        if made is not value and not isinstance(value, int | float):
            self.stand_ins[id(value)] = (value, made)
            self.stand_ins[id(made)] = (made, made)
        return made

    # Objects and classes.

    def _object(self, value: Any, path: Path) -> Any:
        self.guards.add(path, "type", type(value))
        made = self._new_proxy(value, path)
        self.ledger.hold(path, store_of(made), made._fusec.given)
        return self.remember(value, path, made)

    def _new_proxy(self, value: Any, path: Path | None) -> Any:
        made: Any = object.__new__(proxy_class(type(value)))
        object.__setattr__(made, "_fusec", State(self, value, path))
        return made

    def local(self, value: Any) -> Any:
        """The proxy for an object that was made inside the trace."""
        if id(value) not in self.stand_ins:
            self.stand_ins[id(value)] = (value, self._new_proxy(value, None))
        return self.stand_ins[id(value)][1]

    def adopt(self, value: Any) -> Any:
        """``local(value)`` for an instance of a user's class with methods, else ``value``."""
        cls = type(value)
        if hasattr(cls, "__fusec_proxy__") or is_tracer(value):
            return value
        return self.local(value) if is_user_class(cls) and has_user_code(cls) else value

    def class_(self, cls: type) -> Any:
        """The proxy for a user's class; other classes as they are or as the session wants."""
        if id(cls) in self.stand_ins:
            return self.stand_ins[id(cls)][1]
        plain_call = lookup(type(cls), "__call__") is vars(type)["__call__"]
        if not is_user_class(cls) or not plain_call:
            return self.library(cls)
        made: Any = object.__new__(ClassProxy)
        path = self.guards.pin(cls, cls.__qualname__.rpartition(".<locals>.")[2])
        object.__setattr__(made, "_fusec", State(self, cls, path))
        self.stand_ins[id(cls)] = (cls, made)
        self.ledger.hold(path, store_of(made), made._fusec.given)
        return made

    def construct(self, cls: type, args: Any, kwargs: Any) -> Any:
        """An instance of a user's class made by traced code."""
        if not has_user_code(cls):
            return cls(*args, **kwargs)
        plain = lookup(cls, "__new__") is vars(object)["__new__"]
        made = object.__new__(cls) if plain else cls.__new__(cls, *args, **kwargs)
        if not isinstance(made, cls):
            return made
        proxy = self.local(made)
        init = lookup(cls, "__init__")
        if init is not vars(object)["__init__"]:
            bind(proxy, init, "__init__")(*args, **kwargs)
        return proxy

    def member(self, cls: type, name: str, raw: object, function: Any) -> Any:
        """The twin of a function found on a class as ``raw``."""
        self.guards.add(self.member_path(cls, name), "is", raw)
        return self._whole(self.inlined(function), name)

    def member_path(self, cls: type, name: str) -> Path:
        """The path to the raw attribute of a class."""
        pinned = self.class_path(cls)
        if type(lookup(cls, name)) in (types.FunctionType, property):
            return pinned.attr(name)
        owner = next((c for c in cls.__mro__ if name in vars(c)), cls)
        return self.class_path(owner).attr("__dict__", str(pinned)).item(name, f"{pinned}.{name}")

    def class_path(self, cls: type) -> Path:
        """The root for a class."""
        return self.guards.pin(cls, cls.__qualname__.rpartition(".<locals>.")[2])

    # The end of a trace.

    def finish(self) -> None:
        """Report what the function assigned outside itself; see the module's docstring."""
        for path, value in self.ledger.escapes():
            self.session.escape(path, value)


_HANDLERS: dict[type, Callable[[Capture, Any, Path], Any]] = {
    np.ndarray: Capture._array,
    list: copy_list,
    collections.deque: copy_list,
    tuple: copy_tuple,
    dict: copy_dict,
    collections.OrderedDict: copy_dict,
    collections.defaultdict: copy_dict,
    collections.Counter: copy_dict,
    set: copy_set,
    frozenset: copy_set,
    types.FunctionType: Capture._function,
    types.MethodType: Capture._method,
    functools.partial: Capture._partial,
    type(functools.lru_cache(lambda: 0)): Capture._cached,
    types.ModuleType: Capture._module,
    type: Capture._by_identity,
}


def _capture_of(session: Any) -> Capture:
    if not hasattr(session, "_fusec_capture"):
        session._fusec_capture = Capture(session)
    capture: Capture = session._fusec_capture
    return capture


def twin(fn: Callable[..., Any], session: Session) -> Callable[..., Any]:
    """A callable that runs ``fn``'s code with everything it reads mapped through ``session``.

    fn: a Python function, or anything that a traced function may call (partial, method, object).
    """
    capture = _capture_of(session)
    made: Callable[..., Any] = capture.map(fn, capture.guards.pin(fn, _name(fn)))
    return made


def _name(fn: Any) -> str:
    return str(getattr(fn, "__name__", type(fn).__name__))


def proxy_argument(value: object, root_path: Path, session: Session) -> Any:
    """What stands for an argument that is neither array, scalar nor container (often ``self``).

    root_path: ``session.guards.argument(index, name)``; guards then go through the argument, so
    that another instance with equal attributes needs no new trace.
    """
    return _capture_of(session).map(value, root_path)


def finish(session: Session) -> None:
    """Raise UnsupportedError if the traced function changed anything outside itself.

    Tracers that it stored outside are handed to ``session.escape`` instead.
    """
    _capture_of(session).finish()


def seen(session: Session) -> list[tuple[object, Path, Any]]:
    """The user's values that have stand-ins, the paths to them, and those."""
    return list(_capture_of(session)._memo.values())
