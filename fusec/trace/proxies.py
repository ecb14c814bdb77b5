"""Stand-ins for the modules, objects and classes that a traced function reads.

A proxy maps an attribute when it is read: arrays become hidden inputs, methods twins, constants
guarded values. What the function assigns stays in the proxy's own ``__dict__`` and never reaches
the real object; ``Capture.finish`` compares that ``__dict__`` with what was given out.

An ``ObjectProxy`` without a path is local: it stands for an object that was made inside the trace,
so that its methods are twins too. ``unwrap`` gives the real object back.
"""

import copy
import dataclasses
import functools
import sys
import types
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Never

from fusec.errors import UnsupportedError
from fusec.trace.copies import MISSING
from fusec.trace.guards import Path

if TYPE_CHECKING:
    from fusec.trace.capture import Capture


class State:
    """What a proxy knows: its capture, the real object, the path to it, what it gave out."""

    __slots__ = ("_contents", "capture", "given", "obj", "path")

    def __init__(self, capture: "Capture", obj: Any, path: Path | None):
        self.capture = capture
        self.obj = obj
        self.path = path
        self.given: dict[str, object] = {}
        self._contents: Any = MISSING

    def contents(self) -> Any:
        """The built-in container inside an object whose class extends dict, list, tuple, set."""
        if self.path is None:
            return self.obj
        if self._contents is MISSING:
            plain = next((f for base, f in _PLAIN.items() if isinstance(self.obj, base)), None)
            if plain is None:
                return self.obj
            self._contents = self.capture.map(plain(self.obj), self.path.through(plain))
        return self._contents


_PLAIN: dict[type, Callable[[Any], Any]] = {
    dict: dict.copy,
    list: lambda v: list.__getitem__(v, slice(None)),
    tuple: lambda v: tuple.__getitem__(v, slice(None)),
    set: set,
    frozenset: frozenset,
}


class Holder:
    """Base of the proxies for objects and classes: mapped attributes live in ``__dict__``."""

    __slots__ = ("__dict__", "__weakref__", "_fusec")
    _fusec: State


store_of: Callable[[Any], dict[str, object]] = vars(Holder)["__dict__"].__get__


def lookup(cls: type, name: str) -> Any:
    """The raw attribute in ``cls`` and its bases, or MISSING."""
    return next((vars(c)[name] for c in cls.__mro__ if name in vars(c)), MISSING)


def unwrap(value: Any) -> Any:
    """The real object behind a proxy; anything else as it is."""
    method = getattr(type(value), "__fusec_unwrap__", None)
    return value if method is None else method(value)


class ObjectProxy(Holder):
    """Stands for an instance of a user's class."""

    __slots__ = ()
    __fusec_proxy__ = True

    def __getattr__(self, name: str) -> Any:
        return read(self, name)

    def __setattr__(self, name: str, value: object) -> None:
        cls, capture = type(self._fusec.obj), self._fusec.capture
        raw = lookup(cls, name)
        if isinstance(raw, property):
            if raw.fset is None:
                raise AttributeError(f"property {name!r} has no setter")
            capture.member(cls, name, raw, raw.fset)(self, value)
        elif isinstance(raw, _SLOTS) or not hasattr(type(raw), "__set__"):
            object.__setattr__(self, name, value)
        else:
            capture.map(raw, capture.member_path(cls, name)).__set__(self, value)

    def __delattr__(self, name: str) -> None:
        getattr(self, name)
        object.__delattr__(self, name)

    def __hash__(self) -> int:
        return hash(self._fusec.obj)

    def __eq__(self, other: object) -> Any:
        same = isinstance(other, ObjectProxy) and other._fusec.obj is self._fusec.obj
        return same or other is self._fusec.obj or NotImplemented

    def __repr__(self) -> str:
        return repr(self._fusec.obj)

    def __copy__(self) -> Any:
        twin = self._fusec.capture.local(copy.copy(self._fusec.obj))
        store_of(twin).update(self.__dict__)
        return twin

    def __deepcopy__(self, memo: object) -> Never:
        raise UnsupportedError("copy.deepcopy of a captured object inside a traced function")

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        """The real class; the class's own proxy where the traced code itself asks."""
        state = self._fusec
        asks = type(sys._getframe(1).f_globals).__name__ == "TwinGlobals"
        return state.capture.class_(type(state.obj)) if asks else type(state.obj)

    @property
    def __dict__(self) -> dict[str, object]:  # type: ignore[override]
        state = self._fusec
        names = list(getattr(state.obj, "__dict__", ()))
        if state.path is not None and names:
            state.capture.guards.add(state.path.attr("__dict__", state.path.text), "keys", names)
        for name in names:
            getattr(self, name)
        return store_of(self)

    def __fusec_unwrap__(self) -> Any:
        """The real object; for a captured dataclass a copy that holds the mapped fields."""
        obj, path = self._fusec.obj, self._fusec.path
        if path is not None and not dataclasses.is_dataclass(obj):
            return obj
        result = obj if path is None else copy.copy(obj)
        for name, value in self.__dict__.items():
            object.__setattr__(result, name, unwrap(value))
        return result


def read(proxy: Any, name: str) -> Any:
    """An attribute that the proxy has not given out yet, found as Python finds it."""
    state: State = proxy._fusec
    obj, path = state.obj, state.path
    raw = lookup(type(obj), name)
    descriptor = type(raw)
    own = name in getattr(obj, "__dict__", ())
    if own and not hasattr(descriptor, "__set__"):
        return _own_value(proxy, name)
    if descriptor in _SLOTS:
        return _own_value(proxy, name)
    if raw is MISSING:
        return _missing(proxy, name)
    if path is not None and not hasattr(descriptor, "__set__") and hasattr(obj, "__dict__"):
        state.capture.guards.add(path.attr("__dict__", path.text), "lacks", name)
    return bind(proxy, raw, name)


def _own_value(proxy: Any, name: str) -> Any:
    state: State = proxy._fusec
    value = object.__getattribute__(state.obj, name)
    if state.path is None:
        mapped = state.capture.adopt(value)
    else:
        mapped = state.capture.map(value, state.path.attr(name))
    store_of(proxy)[name] = state.given[name] = mapped
    return mapped


def _missing(proxy: Any, name: str) -> Any:
    state: State = proxy._fusec
    fallback = lookup(type(state.obj), "__getattr__")
    if state.path is not None and hasattr(state.obj, "__dict__"):
        state.capture.guards.add(state.path.attr("__dict__", state.path.text), "lacks", name)
    if fallback is not MISSING:
        return bind(proxy, fallback, "__getattr__")(name)
    raise AttributeError(f"{type(state.obj).__name__!r} object has no attribute {name!r}")


_LRU_CACHE = type(functools.lru_cache(print))
_SLOTS = (types.MemberDescriptorType, types.GetSetDescriptorType)
_C_MEMBERS = (
    types.WrapperDescriptorType,
    types.MethodDescriptorType,
    types.ClassMethodDescriptorType,
)


def bind(proxy: Any, raw: Any, name: str, found_on: type | None = None) -> Any:
    """A class attribute as it is seen through an instance: methods become bound twins.

    found_on: the class it was looked up on, if that is not the instance's own.
    """
    state: State = proxy._fusec
    capture, cls = state.capture, found_on or type(state.obj)
    if isinstance(raw, property):
        return capture.member(cls, name, raw, raw.fget)(proxy)
    if isinstance(raw, functools.cached_property):
        value = capture.member(cls, name, raw, raw.func)(proxy)
        store_of(proxy)[name] = state.given[name] = value
        return value
    if isinstance(raw, classmethod):
        owner = capture.class_(type(state.obj))
        return types.MethodType(capture.member(cls, name, raw, raw.__func__), owner)
    if isinstance(raw, staticmethod):
        return capture.member(cls, name, raw, raw.__func__)
    function = capture.inlined(raw)
    function = function.__wrapped__ if isinstance(raw, _LRU_CACHE) else function
    if isinstance(function, types.FunctionType):
        return types.MethodType(capture.member(cls, name, raw, function), proxy)
    if isinstance(raw, _C_MEMBERS):
        owner = getattr(raw, "__objclass__", object)
        return raw.__get__(proxy if owner is object else state.contents())
    if type(raw).__name__ == "_tuplegetter":
        return raw.__get__(state.contents())
    if isinstance(raw, functools.partialmethod):
        method = types.MethodType(capture.member(cls, name, raw, raw.func), proxy)
        return functools.partial(method, *raw.args, **raw.keywords)
    mapped = capture.map(raw, capture.member_path(cls, name))
    if not hasattr(type(raw), "__get__"):
        return mapped
    if not isinstance(mapped, ObjectProxy):
        raise UnsupportedError(f"`{cls.__qualname__}.{name}` is a {type(raw).__qualname__}")
    return mapped.__get__(proxy, cls)


_PLAIN_DUNDERS = {
    "__class__", "__new__", "__dict__", "__getattribute__", "__getattr__", "__weakref__",
    "__init_subclass__", "__subclasshook__", "__class_getitem__", "__del__", "__copy__",
    "__reduce__", "__reduce_ex__", "__getstate__", "__setstate__", "__sizeof__", "__dir__",
    "__deepcopy__", "__repr__", "__str__", "__format__", "__slots__",
}  # fmt: skip
_SETTERS = ("__setattr__", "__delattr__")  # those of SimpleNamespace would reach the real object
_proxy_classes: dict[frozenset[str], type] = {}


def proxy_class(cls: type) -> type:
    """ObjectProxy with the operators that ``cls`` defines, each calling the user's method."""
    if isinstance(lookup(cls, "__getattribute__"), types.FunctionType):
        raise UnsupportedError(f"{cls.__qualname__} defines __getattribute__")
    names = {n for c in cls.__mro__[:-1] for n in vars(c) if n[:2] == n[-2:] == "__"}
    offered = {n for n in names - _PLAIN_DUNDERS if callable(lookup(cls, n))}
    offered -= {n for n in _SETTERS if type(lookup(cls, n)) is types.WrapperDescriptorType}
    data = {n for n in names if n in ("__dataclass_fields__", "__dataclass_params__")}
    unhashable = {"unhashable"} if lookup(cls, "__hash__") is None else set()
    key = frozenset(offered | unhashable)
    if data or key not in _proxy_classes:
        members: dict[str, Any] = {n: _operator(n) for n in offered}
        members.update({n: lookup(cls, n) for n in data}, __slots__=())
        if unhashable:
            members["__hash__"] = None
        made = type("ObjectProxy", (ObjectProxy,), members)
        return made if data else _proxy_classes.setdefault(key, made)
    return _proxy_classes[key]


def _operator(name: str) -> Callable[..., Any]:
    def operate(self: Any, *args: Any, **kwargs: Any) -> Any:
        return bind(self, lookup(type(self._fusec.obj), name), name)(*args, **kwargs)

    return operate


class SuperProxy:
    """``super()`` inside a twin: the methods of the next classes, as twins."""

    __slots__ = ("_parts",)

    def __init__(self, proxy: Any, after: type):
        self._parts = (proxy, after)

    def __getattribute__(self, name: str) -> Any:
        proxy, after = object.__getattribute__(self, "_parts")
        order = type(proxy._fusec.obj).__mro__
        for cls in order[order.index(after) + 1 :]:
            if name in vars(cls):
                return bind(proxy, vars(cls)[name], name, cls)
        raise AttributeError(f"'super' object has no attribute {name!r}")


_METHODS = (types.FunctionType, types.WrapperDescriptorType)


class ClassProxy(Holder):
    """Stands for a user's class: attributes are guarded, methods and new instances traced."""

    __slots__ = ()
    __fusec_proxy__ = True

    def __getattribute__(self, name: str) -> Any:
        """``Base.__init__(self)``: methods that every object has, stand-ins too."""
        if name[:2] == name[-2:] == "__" and type(lookup(self._fusec.obj, name)) in _METHODS:
            return self.__getattr__(name)
        return super().__getattribute__(name)

    def __getattr__(self, name: str) -> Any:
        state: State = self._fusec
        cls, capture = state.obj, state.capture
        raw = lookup(cls, name)
        if raw is MISSING and not hasattr(cls, name):
            capture.guards.add(capture.class_path(cls), "no_attr", name)
        special = name[:2] == name[-2:] == "__" and type(raw) is not types.FunctionType
        if raw is MISSING or special:
            return getattr(cls, name)
        if isinstance(raw, classmethod):
            return types.MethodType(capture.member(cls, name, raw, raw.__func__), self)
        function = raw.__func__ if isinstance(raw, staticmethod) else capture.inlined(raw)
        if isinstance(function, types.FunctionType):
            return capture.member(cls, name, raw, function)
        if hasattr(type(raw), "__get__"):
            return getattr(cls, name)
        mapped = capture.map(raw, capture.member_path(cls, name))
        store_of(self)[name] = state.given[name] = mapped
        return mapped

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._fusec.capture.construct(self._fusec.obj, args, kwargs)

    def __instancecheck__(self, value: object) -> bool:
        return isinstance(value, self._fusec.obj)

    def __subclasscheck__(self, cls: Any) -> bool:
        return issubclass(unwrap(cls), self._fusec.obj)

    def __mro_entries__(self, bases: object) -> tuple[type, ...]:
        return (self._fusec.obj,)

    def __eq__(self, other: object) -> bool:
        return unwrap(other) is self._fusec.obj

    def __hash__(self) -> int:
        return hash(self._fusec.obj)

    def __repr__(self) -> str:
        return repr(self._fusec.obj)

    def __getitem__(self, key: object) -> Any:
        return self._fusec.obj[key]

    def __or__(self, other: object) -> Any:
        return self._fusec.obj | unwrap(other)

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return type

    def __fusec_unwrap__(self) -> Any:
        return self._fusec.obj


class ModuleProxy(types.ModuleType):
    """Stands for a module; attributes are mapped once and then found like a module's own."""

    __slots__ = ("_fusec",)
    _fusec: State

    def __init__(self, state: State):
        super().__init__(state.obj.__name__)
        self.__dict__.clear()
        object.__setattr__(self, "_fusec", state)

    def __getattr__(self, name: str) -> Any:
        state = self._fusec
        value = state.capture.module_attribute(state, name)
        self.__dict__[name] = state.given[name] = value
        return value

    def __dir__(self) -> list[str]:
        return dir(self._fusec.obj)

    def __repr__(self) -> str:
        return repr(self._fusec.obj)

    def __fusec_unwrap__(self) -> Any:
        return self._fusec.obj
