"""What a traced function reads besides its arguments: a row per way of reaching a value.

Each row runs the user's function and its twin and compares; says which arrays became hidden inputs;
and changes something afterwards: either the guards must fail and a new trace must agree again
(``stale``), or they must hold and the arrays must be fetched anew (``fresh``).
"""

import abc
import argparse
import builtins
import collections
import contextlib
import dataclasses
import datetime
import enum
import functools
import importlib
import logging
import math
import operator
import os
import pprint
import random
import subprocess
import sys
import threading
import time
import timeit
import traceback
import types
import warnings
from typing import Any, NamedTuple
from warnings import warn

import numpy as np
import numpy as renamed_numpy
import pytest
from numpy import exp, zeros
from numpy.linalg import norm

import fusec
from fusec.errors import ImpureError, UnsupportedError
from fusec.trace import guards as guards_module
from fusec.trace.capture import finish, proxy_argument, twin
from fusec.trace.guards import Guards, same
from fusec.trace.locate import user_location
from fusec.trace.proxies import unwrap


class Tracer(np.lib.mixins.NDArrayOperatorsMixin):
    """Knows its value, so that a twin's result can be compared."""

    __fusec_tracer__ = True

    def __init__(self, value):
        self.value = value

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        out = kwargs.pop("out", None)
        result = getattr(ufunc, method)(*map(value_of, inputs), **kwargs)
        if out:
            out[0].value = result
            return out[0]
        return Tracer(result)

    def __array_function__(self, func, kinds, args, kwargs):
        return Tracer(func(*map(value_of, args), **kwargs))

    def __array__(self, *args, **kwargs):
        raise TypeError("a tracer has no value")

    def __getitem__(self, index):
        return Tracer(self.value[index])

    def sum(self):
        return Tracer(self.value.sum())


def value_of(x):
    return x.value if type(x) is Tracer else x


class Session:
    """Records what it is asked."""

    def __init__(self):
        self.guards = Guards()
        self.lifted = []
        self.overridden = []
        self.escaped = []

    def lift(self, array, path):
        self.lifted.append(str(path))
        return Tracer(array)

    def numpy_override(self, name):
        function = OVERRIDES.get(name)
        if function is None:
            return None

        def call(*args, **kwargs):
            self.overridden.append(name)
            return function(*args, **kwargs)

        return call

    def forbid(self, name):
        raise ImpureError(name)

    def escape(self, path, value):
        self.escaped.append(str(path))

    def noted(self, parts):
        pass


OVERRIDES = {
    "numpy.zeros": lambda *a, **k: Tracer(np.zeros(*a, **k)),
    "numpy.float32": lambda x: Tracer(np.float32(value_of(x))),
    "math.exp": lambda x: Tracer(math.exp(value_of(x))),
    "builtins.float": lambda x=0.0: Tracer(float(value_of(x))) if type(x) is Tracer else float(x),
    "builtins.len": lambda x: len(value_of(x)),
}
X = np.array([1.0, 2.0, 3.0])


def traced(fn, args=(X,), proxied=()):
    """The result of the twin, and the session."""
    session = Session()
    run = twin(fn, session)
    inputs = [Tracer(a) if isinstance(a, np.ndarray) else a for a in args]
    for i in proxied:
        path = session.guards.argument(i, fn.__code__.co_varnames[i])
        inputs[i] = proxy_argument(args[i], path, session)
    result = run(*inputs)
    finish(session)
    return result, session


def plain(result):
    if isinstance(result, list | tuple):
        return [plain(r) for r in result]
    return np.asarray(value_of(unwrap(result)))


def agree(fn, args, proxied=()):
    result, session = traced(fn, args, proxied)  # first: the function may change its arguments
    np.testing.assert_equal(plain(result), plain(fn(*args)))
    return session


# --- things for the rows to read -------------------------------------------------------------

W = np.array([10.0, 20.0, 30.0])
V = np.array([0.5, 0.5, 0.5])
scale = 3.0
counter = 0
cfg = {"lr": 0.1, "w": W, "deep": {"b": [V, 2.0]}, 7: "seven"}
HELPERS = """
import numpy as np
W = np.array([7.0, 8.0, 9.0])
gain = 2.0
def helper(x):
    return np.sin(x) * W * gain
class Layer:
    bias = np.array([1.0, 1.0, 1.0])
    def __call__(self, x):
        return x + self.bias * gain
"""
mod = types.ModuleType("captured_helpers")
exec(compile(HELPERS, "<captured_helpers>", "exec"), mod.__dict__)
sys.modules["captured_helpers"] = mod


def decorate(fn):
    @functools.wraps(fn)
    def wrapper(*args):
        return fn(*args) * scale

    return wrapper


@decorate
def decorated(x):
    return x + W


@functools.lru_cache
def cached(n):
    return n * scale


@functools.singledispatch
def dispatched(x):
    return x * scale


@contextlib.contextmanager
def context():
    yield scale


def power(x, n):
    return x if n == 1 else x * power(x, n - 1)


class Base:
    def forward(self, x):
        return x * scale


class Model(Base):
    k = 2.0

    def __init__(self, w=None):
        self.w = np.array([1.0, 2.0, 4.0]) if w is None else w
        self.lr = 0.5
        self.act = np.tanh
        self.parts = [np.ones(3), 3.0]

    def __call__(self, x):
        return self.forward(x) + self.half

    def forward(self, x):
        return super().forward(x) * self.w + self.k

    def __add__(self, other):
        return self.w + other * scale

    def __getitem__(self, i):
        return self.w[i]

    def __len__(self):
        return 3

    @property
    def half(self):
        return self.w / 2 * scale

    @functools.cached_property
    def doubled(self):
        return self.w * 2

    @staticmethod
    def twice(x):
        return x * 2 * scale

    @classmethod
    def times_k(cls, x):
        return x * cls.k

    def store(self, x):
        self.s = x * 2
        return x

    def count(self, x):
        self.lr += 1
        return x

    def add_to_w(self, x):
        self.w += x
        return self.w

    def add_part(self, x):
        self.parts.append(1)
        return x


class Slotted:
    __slots__ = ("w",)

    def __init__(self):
        self.w = np.ones(3)


class Lazy:
    def __getattr__(self, name):
        if name == "w":
            return W
        raise AttributeError(name)


class AttrDict(dict):
    def __getattr__(self, name):
        if name not in self:
            raise AttributeError(name)
        return self[name]


class Point(NamedTuple):
    a: Any
    b: Any


class RichPoint(NamedTuple):
    a: Any
    b: Any

    def mix(self, x):
        return self.a * x + self.b * scale


@dataclasses.dataclass
class Params:
    w: Any
    lr: float = 0.5

    def apply(self, x):
        return self.w * x * self.lr * scale


class Vector:
    def __init__(self, v):
        self.v = v

    def __add__(self, other):
        return self.__class__(self.v + other.v * scale)

    def __mul__(self, k):
        return type(self)(self.v * k)


class Settings:
    rate = 0.25


class Color(enum.Enum):
    RED = 1


class Shape(abc.ABC):
    @abc.abstractmethod
    def area(self, x): ...


class Square(Shape):
    def area(self, x):
        return x * x * scale


class Jitted:
    """Like the object that ``fusec.jit`` makes."""

    def __init__(self, fn):
        self.fn = fn

    @property
    def __fusec_inline__(self):
        return self.fn

    def __call__(self, *args):
        return self.fn(*args)


jitted = Jitted(lambda x: x * W)
model = Model()
rng = np.random.default_rng(0)
ROWS: list[Any] = []


def setting(target, name, value):
    """A change that ``pytest.MonkeyPatch`` takes back."""

    def change(patch):
        if isinstance(target, dict):
            patch.setitem(target, name, value)
        else:
            patch.setattr(target, name, value, raising=False)

    return change


HERE = sys.modules[__name__]
OTHER = np.array([5.0, 6.0, 7.0])


def row(name, fn, hidden="", stale=None, fresh=None, args=(X,), proxied=()):
    values = (fn, hidden.split(), stale, fresh, args, proxied)
    ROWS.append(pytest.param(*values, id=name))


def closure_rows():
    w, c = np.array([2.0, 2.0, 2.0]), 4.0

    def array(x):
        return x * w

    def constant(x):
        return x * c

    def nested(x):
        def inner(y):
            return y * w + scale

        return inner(x)

    def change_cell(fn, i, value):
        return setting(fn.__closure__[i], "cell_contents", value)

    row("closure array", array, "w", fresh=change_cell(array, 0, OTHER))
    row("closure constant", constant, stale=change_cell(constant, 0, 5.0))
    row("closure constant changes type", constant, stale=change_cell(constant, 0, 4))
    row("inner function", nested, "w", stale=setting(HERE, "scale", 4.0))

    def even(x, n):
        return x if n == 0 else odd(x, n - 1)

    def odd(x, n):
        return x * w if n == 0 else even(x, n - 1) + 1

    row("mutual recursion through cells", lambda x: even(x, 3) + odd(x, 2), "w")


def global_rows():
    row("global array", lambda x: x * W, "W", fresh=setting(HERE, "W", OTHER))
    row(
        "operations on captured arrays", lambda x: (W * 2) * x, "W", fresh=setting(HERE, "W", OTHER)
    )
    row("global constant", lambda x: x * scale, stale=setting(HERE, "scale", 4.0))
    row("global nan", lambda x: x * missing, stale=setting(HERE, "missing", 1.0))
    row("sign of zero", lambda x: np.copysign(x, zero), stale=setting(HERE, "zero", -0.0))
    row("comprehension and lambda", lambda x: [(lambda y: y * W * i)(x) for i in range(2)], "W")
    row("generator expression", lambda x: sum(x * scale for _ in range(3)))
    row("numpy under another name", lambda x: renamed_numpy.exp(x) * renamed_numpy.pi)
    row("from numpy import", lambda x: exp(x), stale=setting(HERE, "exp", np.sin))
    row("creation by name", lambda x: zeros(3) + np.zeros(3) + x)
    row("numpy.linalg", lambda x: norm(x) + np.linalg.norm(x))
    row("math.exp", lambda x: math.exp(2.0) * x)
    row("builtin shadowed later", lambda x: len(x) * x, stale=setting(HERE, "len", lambda x: 9))
    row("globals()", lambda x: x * globals()["W"], "W")
    row("import inside", import_inside, "captured_helpers.W", stale=setting(mod, "gain", 3.0))
    row("importlib", lambda x: x * importlib.import_module("captured_helpers").gain,
        stale=setting(mod, "gain", 3.0))  # fmt: skip
    row("module array", lambda x: x * mod.W, "captured_helpers.W", fresh=setting(mod, "W", OTHER))
    row("module constant", lambda x: x * mod.gain, stale=setting(mod, "gain", 5.0))
    row("same array by two names", lambda x: x * W + same_w, "W", stale=setting(HERE, "W", OTHER))


same_w, missing, zero = W, math.nan, 0.0


def import_inside(x):
    import numpy as inner_np
    from captured_helpers import helper

    return inner_np.zeros(3) + helper(x)


def container_rows():
    row(
        "dict constant",
        lambda x: x * cfg["lr"],
        'cfg["w"] cfg["deep"]["b"][0]',
        stale=setting(cfg, "lr", 0.2),
    )
    row("dict array", lambda x: x * cfg["w"], 'cfg["w"] cfg["deep"]["b"][0]',
        fresh=setting(cfg, "w", OTHER))  # fmt: skip
    row("dict new key", lambda x: x * len(cfg), 'cfg["w"] cfg["deep"]["b"][0]',
        stale=setting(cfg, "new", 1))  # fmt: skip
    row("nested list", lambda x: x * cfg["deep"]["b"][1], 'cfg["w"] cfg["deep"]["b"][0]',
        stale=setting(cfg, "deep", {"b": [V, 9.0]}))  # fmt: skip
    row("constant list", lambda x: [x * c for c in coefficients],
        stale=setting(HERE, "coefficients", [1.0, 2.0, 4.0]))  # fmt: skip
    row("tuple", lambda x: x * pair[0] + pair[1], "pair[0]", stale=setting(HERE, "pair", (V, 2.0)))
    row("named tuple", lambda x: x * point.a + point.b, "point[0]",
        fresh=setting(HERE, "point", Point(OTHER, 1.0)))  # fmt: skip
    row("named tuple with methods", lambda x: rich.mix(x) + rich[1] + sum(rich), "rich[0]",
        stale=setting(HERE, "scale", 9.0))  # fmt: skip
    row("set", lambda x: x * (2 in choices), stale=setting(HERE, "choices", {1}))
    row("ordered dict", lambda x: x * next(iter(ordered.values())), 'ordered["a"]',
        stale=setting(HERE, "ordered", collections.OrderedDict(b=W, a=V)))  # fmt: skip
    row("default dict", lambda x: x * defaults["w"], 'defaults["w"]')
    row("deque", lambda x: x * recent[0], "recent[0]")
    row("dict subclass", lambda x: x * attrs.w * attrs["lr"], 'attrs["w"]',
        stale=lambda patch: patch.setitem(attrs, "lr", 3.0))  # fmt: skip
    row("cyclic list", lambda x: x * cycle[0][0][0][1], "cycle[1]")


coefficients = [1.0, 2.0, 3.0]
pair = (W, 1.0)
point, rich = Point(W, 1.0), RichPoint(W, 2.0)
choices = {1, 2}
ordered = collections.OrderedDict(a=V, b=1.0)
defaults = collections.defaultdict(list, w=W)
recent = collections.deque([W, 1.0], maxlen=4)
attrs = AttrDict(w=W, lr=2.0)
cycle: list[Any] = [None, W]
cycle[0] = cycle


def function_rows():
    row("helper elsewhere", lambda x: mod.helper(x), "captured_helpers.W",
        stale=setting(mod, "gain", 3.0))  # fmt: skip
    row("helper replaced", lambda x: power(x, 2), stale=setting(HERE, "power", lambda x, n: x))
    row("recursion", lambda x: power(x, 3))
    row("decorated helper", lambda x: decorated(x), "W", stale=setting(HERE, "scale", 2.0))
    row("lru_cache", lambda x: x * cached(2), stale=setting(HERE, "cached", lambda n: n))
    row("singledispatch", lambda x: dispatched(2.0) * x, stale=setting(HERE, "scale", 2.0))
    row("context manager", in_context, stale=setting(HERE, "scale", 2.0))
    row("partial", functools.partial(operator.mul, W), "partial.args[0]")
    row("partial of a function", lambda x: powered(x), stale=setting(HERE, "powered", exp))
    row("default array", default_array, "w", stale=lambda p: p.setattr(
        default_array, "__defaults__", (W, 3.0)))  # fmt: skip
    row("keyword default", keyword_default, "w")
    row("code replaced", lambda x: replaced(x), stale=lambda p: p.setattr(
        replaced, "__code__", (lambda x: x * 5).__code__))  # fmt: skip
    row("function attribute", lambda x: x * tagged.gain, stale=setting(tagged, "gain", 8.0))
    row("jitted helper", lambda x: jitted(x), "W", stale=setting(HERE, "jitted", exp))
    row("reduce, map, sorted", lambda x: functools.reduce(lambda a, b: a + b * scale, [x, x, x]))
    row("bound method", lambda x: bound(x), "bound.__self__.w",
        stale=setting(HERE, "bound", exp))  # fmt: skip
    row("method of a captured dict", lambda x: x * getter("lr"),
        'getter["w"] getter["deep"]["b"][0]',
        stale=setting(cfg, "lr", 7.0))  # fmt: skip
    row("function argument", lambda f, x: f(x), args=((lambda x: x * scale), X), proxied=(0,),
        stale=setting(HERE, "scale", 8.0))  # fmt: skip


powered = functools.partial(power, n=2)


def in_context(x):
    with context() as c:
        return x * c


def default_array(x, w=W, c=2.0):
    return x * w * c


def keyword_default(x, *, w=W):
    return x * w


def replaced(x):
    return x


def tagged(x):
    return x


tagged.gain = 2.0
bound = model.forward
getter = cfg.get


def object_rows():
    me = {"args": (model, X), "proxied": (0,)}
    ready = Model()
    assert ready.doubled.shape == (3,)
    row("callable instance", lambda x: model(x), "model.w", fresh=setting(model, "w", OTHER))
    row("attribute", lambda x: x * model.lr, stale=setting(model, "lr", 0.7))
    row("self argument", Model.forward, "self.w", stale=setting(HERE, "scale", 2.0), **me)
    row("attribute of self", lambda self, x: x * self.lr, stale=setting(model, "lr", 1.5), **me)
    row("class attribute", lambda self, x: x * self.k, stale=setting(Model, "k", 5.0), **me)
    row("class attribute shadowed", lambda self, x: x * self.k, stale=shadow_k, **me)
    row(
        "property", lambda self, x: x * self.half, "self.w", stale=setting(HERE, "scale", 2.0), **me
    )
    row("cached property", lambda self, x: x * self.doubled, "self.doubled",
        args=(ready, X), proxied=(0,))  # fmt: skip
    row("static method", lambda self, x: self.twice(x), stale=setting(HERE, "scale", 2.0), **me)
    row("class method", lambda self, x: self.times_k(x), stale=setting(Model, "k", 5.0), **me)
    row("operator", lambda self, x: self + x, "self.w", stale=setting(HERE, "scale", 2.0), **me)
    row("getitem and len", lambda self, x: x * self[0] * len(self), "self.w", **me)
    row("method replaced", Model.__call__, "self.w", stale=setting(
        Model, "forward", lambda self, x: x), **me)  # fmt: skip
    row("method shadowed", Model.__call__, "self.w", stale=setting(
        model, "forward", lambda x: x), **me)  # fmt: skip
    row("list of self", lambda self, x: x * self.parts[0] * self.parts[1], "self.parts[0]", **me)
    row("function attribute of self", lambda self, x: self.act(x), stale=setting(
        model, "act", np.sin), **me)  # fmt: skip
    row(
        "in-place on an array of self",
        Model.add_to_w,
        "self.w",
        args=(Model(), X * 0),
        proxied=(0,),
    )
    row("getattr default", lambda self, x: x * getattr(self, "nope", 2), stale=setting_new, **me)
    row("vars", lambda self, x: x * len(vars(self)), "self.w self.parts[0]",
        stale=setting_new, **me)  # fmt: skip
    row("slots", lambda x: x * slotted.w, "slotted.w", fresh=setting(slotted, "w", OTHER))
    row("__getattr__", lambda x: x * lazy.w, "W", fresh=setting(HERE, "W", OTHER))
    row(
        "simple namespace", lambda x: x * space.w * space.c, "space.w", stale=setting(space, "c", 5)
    )
    row("dataclass", lambda x: params.apply(x), "params.w", stale=setting(params, "lr", 0.1))
    row("dataclass made inside", lambda x: Params(x, 2.0).apply(x), stale=setting(
        HERE, "scale", 2.0))  # fmt: skip
    row("dataclasses.replace", lambda x: dataclasses.replace(params, lr=1.0).apply(x), "params.w")
    row("objects made inside", lambda x: ((Vector(x) + Vector(x)) * 2.0).v, stale=setting(
        HERE, "scale", 2.0))  # fmt: skip
    row("class constant", lambda x: x * Settings.rate, stale=setting(Settings, "rate", 0.5))
    row("abstract base", lambda x: Square().area(x), stale=setting(HERE, "scale", 2.0))
    row("enum", lambda x: x * (color is Color.RED), stale=setting(HERE, "color", None))
    row("class of another module", lambda x: mod.Layer()(x), "Layer.bias",
        fresh=setting(mod.Layer, "bias", OTHER))  # fmt: skip
    row("class defined inside", class_inside, "W")
    row("isinstance", isinstance_inside, 'cfg["w"] cfg["deep"]["b"][0]')
    row(
        "two objects are one", lambda x: x * (model is alias), stale=setting(HERE, "alias", Model())
    )


slotted, lazy, params, alias, color = Slotted(), Lazy(), Params(W), model, Color.RED
space = types.SimpleNamespace(w=W, c=2)


def shadow_k(patch):
    patch.setattr(model, "k", 9.0, raising=True)


def setting_new(patch):
    patch.setattr(model, "nope", 3, raising=False)


def class_inside(x):
    class Local(Base):
        gain = scale

        def run(self, y):
            return self.forward(y) * W * self.gain

    return Local().run(x)


def isinstance_inside(x):
    checks = [
        isinstance(model, Model), isinstance(model, Base), isinstance(2.0, float),
        isinstance(cfg, dict), isinstance(3, (int, np.ndarray)), float is float,
        type(model) is Model, model.__class__ is Model, issubclass(Model, Base),
        isinstance(Model, type), isinstance(1, int | str), np.dtype(float) == np.float64,
        isinstance(np.float32, type), type(cfg["w"]) is type(cfg["w"]), callable(model),
    ]  # fmt: skip
    return x * sum(checks) * len(np.arange(3, dtype=float))


class Scaled:
    """A descriptor of the user's."""

    def __get__(self, obj, cls):
        return obj.w * scale

    def __set__(self, obj, value):
        obj.w = value


class Unusual:
    scaled = Scaled()
    doubled = functools.partialmethod(lambda self, k, x: x * k * scale, 2.0)
    picked = property(operator.attrgetter("w"))
    both = staticmethod(functools.partial(operator.mul, W))

    def __init__(self):
        self.w = V

    @functools.lru_cache
    def cached(self, n):
        return n * scale

    @property
    def half(self):
        return self.w / 2

    @half.setter
    def half(self, value):
        self.w = value * 2


class Doubling(Unusual):
    def __init__(self, x):
        super().__init__()
        self.half = x
        self.scaled = self.w * 3


unusual = Unusual()
options = argparse.Namespace(w=W, k=2.0)


def unusual_rows():
    stale = setting(HERE, "scale", 7.0)
    row("descriptor", lambda x: x * unusual.scaled, "unusual.w", stale=stale)
    row("partialmethod", lambda x: unusual.doubled(x), stale=stale)
    row("lru_cache on a method", lambda x: x * unusual.cached(2))
    row("property of a C function", lambda x: x * unusual.picked, "unusual.w")
    row("staticmethod of a partial", lambda x: unusual.both(x), "both.args[0]")
    row(
        "setters of an object made inside",
        lambda x: Doubling(x).w,
        "V",
        fresh=setting(HERE, "V", OTHER),
    )
    row(
        "argparse", lambda x: x * options.w * options.k, "options.w", stale=setting(options, "k", 3)
    )
    row(
        "absent from a module", lambda x: x * getattr(mod, "nope", 2), stale=setting(mod, "nope", 3)
    )
    row("absent from a class", lambda x: x * getattr(Settings, "nope", 2),
        stale=setting(Settings, "nope", 3))  # fmt: skip
    row("counter", lambda x: x * counts["a"], stale=setting(counts, "a", 3))
    row("memory map", lambda x: x * mapped, "mapped")
    row("method of a captured array", lambda x: x * total(), "total")
    row("function argument that is a global too", lambda f, x: f(x) + mutual(x), "W",
        args=((lambda: mutual)(), X), proxied=(0,), stale=setting(HERE, "mutual", exp))  # fmt: skip


counts = collections.Counter("aab")
mapped = np.asarray(W).view(np.memmap)
total = W.sum


def mutual(x):
    return x * W


closure_rows()
unusual_rows()
global_rows()
container_rows()
function_rows()
object_rows()


@pytest.mark.parametrize("fn, hidden, stale, fresh, args, proxied", ROWS)
def test_capture(fn, hidden, stale, fresh, args, proxied, monkeypatch):
    session = agree(fn, args, proxied)
    assert session.lifted == hidden
    assert [str(p) for p in session.guards.hidden] == hidden
    assert session.guards.check(args), session.guards.explain_failure(args)
    if stale is not None:
        stale(monkeypatch)
        assert not session.guards.check(args)
        assert session.guards.explain_failure(args)
        assert agree(fn, args, proxied).guards.check(args)
    if fresh is not None:
        fresh(monkeypatch)
        assert session.guards.check(args), session.guards.explain_failure(args)
        arrays = session.guards.fetch(args)
        assert any(a is OTHER for a in arrays)
        assert all(a is b for a, b in zip(arrays, session.guards.arrays(args)))


def test_an_uncached_property_is_computed_and_not_stored():
    fresh_model = Model()
    result, session = traced(lambda self, x: self.doubled * x, (fresh_model, X), (0,))
    assert session.lifted == ["self.w"] and "doubled" not in vars(fresh_model)
    np.testing.assert_equal(plain(result), fresh_model.w * 2 * X)


@pytest.mark.parametrize("kind", [np.float32, np.float64, float])
def test_a_type_is_the_same_however_it_is_read(kind):
    """From a closure, as a module's attribute, as a builtin."""

    def program(x):
        same = (kind is np.float64, kind == np.float64, kind in (np.float32,), kind is float)
        return [x * (k + 1) if yes else -x for k, yes in enumerate(same)]

    x = np.ones(2)
    np.testing.assert_array_equal(fusec.jit(program)(x), program(x))


def test_another_instance_needs_no_new_trace():
    _, session = traced(Model.__call__, (model, X), (0,))
    other = Model(OTHER)
    assert session.guards.check((other, X)) and session.guards.fetch((other, X))[0] is OTHER
    other.k = 7.0
    assert not session.guards.check((other, X))
    assert session.guards.explain_failure((other, X)) == "self has now 'k', which it had not"


def test_a_new_lambda_with_equal_closure_needs_no_new_trace():
    def make(w):
        return lambda x: x * w

    _, session = traced(lambda f, x: f(x), (make(W), X), (0,))
    assert session.guards.fetch((make(OTHER), X))[0] is OTHER
    assert not session.guards.check((lambda x: x, X))


# --- errors and side effects -----------------------------------------------------------------


def assigns_global(x):
    global counter
    counter += 1
    return x


def stores_global(x):
    global counter
    counter = x * 2
    return x


def make_nonlocal():
    n, kept = 0, None

    def assigns(x):
        nonlocal n
        n += 1
        return x

    def keeps(x):
        nonlocal kept
        kept = x * 2
        return x

    return assigns, keeps


ticks = iter(range(3))
mean = dataclasses.make_dataclass("Mean", ["total"])(0.0)
nested_state = {"seen": []}
REFUSED = [
    ("np.random", lambda x: x * np.random.rand(), ImpureError, "numpy.random.rand"),
    ("default_rng", lambda x: np.random.default_rng(), ImpureError, "numpy.random.default_rng"),
    ("captured generator", lambda x: x * rng.normal(), ImpureError,
     "numpy.random.Generator.normal"),
    ("random", lambda x: x * random.random(), ImpureError, "random.random"),
    ("time", lambda x: x * time.perf_counter(), ImpureError, "time.perf_counter"),
    ("datetime", lambda x: datetime.datetime.now(), ImpureError, "datetime.datetime.now"),
    ("open", lambda x: open("x"), ImpureError, "builtins.open"),  # noqa: PTH123, SIM115
    ("np.load", lambda x: np.load("x.npy"), ImpureError, "numpy.load"),
    ("np.memmap", lambda x: np.memmap("x.npy"), ImpureError, "numpy.memmap"),
    ("generator made inside", lambda x: random.Random(0), ImpureError, "random.Random"),
    ("environment", lambda x: os.environ["HOME"], ImpureError, "os.environ"),
    ("masked array", lambda x: x * masked, UnsupportedError, "`masked` is a MaskedArray"),
    ("buffer", lambda x: x * np.asarray(memory), UnsupportedError, "`memory` is a memoryview"),
    ("singledispatchmethod", lambda x: odd.run(x), UnsupportedError, "`Odd.run`"),
    ("__getattribute__", lambda x: watched.w, UnsupportedError, "Watched defines"),
    ("eval", lambda x: eval("x"), UnsupportedError, "eval"),
    ("iterator", lambda x: x * next(ticks), UnsupportedError, "`ticks` is an iterator"),
    ("global", assigns_global, UnsupportedError, "assigns `counter`"),
    ("nonlocal", make_nonlocal()[0], UnsupportedError, "assigns `n`"),
    ("globals()", lambda x: globals().update(new=1), UnsupportedError, "assigns `new`"),
    ("list", lambda x: coefficients.append(1), UnsupportedError, "changes `coefficients`"),
    ("list of a dict", lambda x: nested_state["seen"].append(x), UnsupportedError,
     'changes `nested_state["seen"]`'),
    ("dict", lambda x: cfg.update(lr=2.0), UnsupportedError, "changes `cfg`"),
    ("dict order", lambda x: cfg.setdefault("lr", cfg.pop("lr")), UnsupportedError,
     "changes `cfg`"),
    ("set", lambda x: choices.add(5), UnsupportedError, "changes `choices`"),
    ("attribute", lambda x: model.count(x), UnsupportedError, "assigns `model.lr`"),
    ("attribute by setattr", lambda x: setattr(mean, "total", 1.0), UnsupportedError,
     "assigns `mean.total`"),
    ("attribute deleted", lambda x: delattr(model, "lr"), UnsupportedError, "deletes `model.lr`"),
    ("list of an attribute", lambda x: model.add_part(x), UnsupportedError,
     "changes `model.parts`"),
    ("class attribute", lambda x: setattr(Settings, "rate", 1), UnsupportedError,
     "`Settings.rate`"),
    ("module attribute", lambda x: setattr(mod, "gain", 1), UnsupportedError,
     "`captured_helpers.gain`"),
    ("function attribute", lambda x: setattr(tagged, "gain", 1), UnsupportedError, "`tagged.gain`"),
    ("too many items", lambda x: large, UnsupportedError, "`large` brings"),
]  # fmt: skip
masked, memory = np.ma.ones(3), memoryview(W)


class Odd:
    run = functools.singledispatchmethod(lambda self, x: x)


class Watched:
    def __getattribute__(self, name):
        return 1


odd, watched = Odd(), Watched()
large = [(i, W) for i in range(10_001)]


@pytest.mark.parametrize("fn, error, message", [pytest.param(*r[1:], id=r[0]) for r in REFUSED])
def test_refused(fn, error, message):
    before = (
        counter,
        list(coefficients),
        str(cfg),
        model.lr,
        Settings.rate,
        mod.gain,
        choices | set(),
    )
    with pytest.raises(error, match=message.replace("(", ".").replace("[", ".")):
        traced(fn)
    after = (
        counter,
        list(coefficients),
        str(cfg),
        model.lr,
        Settings.rate,
        mod.gain,
        choices | set(),
    )
    assert after == before


ESCAPES = [
    ("attribute", lambda x: model.store(x), ["model.s"]),
    ("global", stores_global, ["counter"]),
    ("nonlocal", make_nonlocal()[1], ["kept"]),
    ("nothing: in place", lambda x: model.add_to_w(x), []),
    ("nothing: object made inside", lambda x: Model(x).store(x), []),
]


@pytest.mark.parametrize("fn, where", [pytest.param(*r[1:], id=r[0]) for r in ESCAPES])
def test_escapes(fn, where):
    _, session = traced(fn)
    assert session.escaped == where and counter == 0 and not hasattr(model, "s")


def test_results_are_unwrapped():
    returned, _ = traced(lambda x: model)
    assert unwrap(returned) is model
    returned, _ = traced(lambda x: Vector(x) * 2.0)
    assert type(unwrap(returned)) is Vector and isinstance(unwrap(returned).v, Tracer)
    returned, _ = traced(lambda x: params)
    assert type(unwrap(returned)) is Params and isinstance(unwrap(returned).w, Tracer)


def test_overrides_reach_every_spelling():
    def spellings(x):
        return np.zeros(1), zeros(1), renamed_numpy.zeros(1), np.float32(x[0]), float(x[0])

    _, session = traced(spellings)
    assert session.overridden == ["numpy.zeros"] * 3 + ["numpy.float32", "builtins.float"]


def test_nothing_of_the_user_is_changed():
    before = dict(vars(HERE)), dict(vars(model)), dict(vars(Model)), dict(vars(mod))
    traced(lambda x: model(x) + mod.helper(x) + decorated(x) + mod.Layer()(x))
    after = dict(vars(HERE)), dict(vars(model)), dict(vars(Model)), dict(vars(mod))
    assert all(a.keys() == b.keys() for a, b in zip(before, after))
    assert all(a[k] is b[k] for a, b in zip(before, after) for k in a)
    assert builtins.float is (2.0).__class__ and model(X).dtype == float


def test_two_threads_trace_apart():
    seen = []

    def work():
        for _ in range(20):
            result, session = traced(lambda x: model(x) + mod.helper(x))
            seen.append((session.lifted, plain(result)[0]))

    threads = [threading.Thread(target=work) for _ in range(4)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert len(seen) == 80 and all(s == seen[0] for s in seen)


# --- guards ----------------------------------------------------------------------------------

SAME = [
    (1, 1, True), (1, True, False), (1, 1.0, False), (0.0, -0.0, False), (math.nan, math.nan, True),
    (complex(0.0, math.nan), complex(0.0, math.nan), True), ("a", "a", True), (b"a", "a", False),
    (np.float32(1), np.float32(1), True), (np.float32(1), np.float64(1), False),
    (np.datetime64("NaT", "s"), np.datetime64("NaT", "s"), True), ((1, (2.0,)), (1, (2.0,)), True),
    ((1,), (1, 2), False), (slice(1, 2), slice(1, 2), True), (None, None, True),
]  # fmt: skip


@pytest.mark.parametrize("a, b, expected", SAME)
def test_same(a, b, expected):
    assert same(a, b) is expected and same(b, a) is expected


def test_paths_print_as_written():
    _, session = traced(lambda x: [cfg["deep"]["b"][0], model.parts, mod.W, params.w])
    assert session.lifted == [
        'cfg["w"]', 'cfg["deep"]["b"][0]', "model.parts[0]", "captured_helpers.W",
    ]  # fmt: skip


def test_a_broken_path_fails_and_is_explained():
    holder = {"a": {"b": 1.0}}
    guards = Guards()
    guards.add(guards.pin(holder, "holder").item("a").item("b"), "same", 1.0)
    assert guards.check()
    del holder["a"]
    assert not guards.check()
    assert guards.explain_failure() == 'holder["a"]["b"] cannot be read any more (KeyError: \'a\')'


def test_checks_are_fast():
    _, session = traced(lambda x: model(x) + mod.helper(x) + x * cfg["lr"])
    fetch, n = session.guards.compiled(), len(session.guards)
    best = min(timeit.repeat(lambda: fetch(()), number=2000, repeat=7)) / 2000
    assert best / n < 300e-9  # 40 ns on a quiet machine
    assert guards_module.same_items([1, 2], (1, 2))


def test_user_location():
    here = user_location()
    assert here.filename == __file__ and here.function == "test_user_location"
    located = np.frompyfunc(lambda i: user_location().line, 1, 1)(np.arange(1))[0]
    assert located == here.line + 2
    best = min(timeit.repeat(user_location, number=2000, repeat=7)) / 2000
    assert best < 5e-6  # 0.3 us on a quiet machine


def _prints_known(x):
    print("length", len(x))  # noqa: T201
    return x + 1


def _prints_traced(x):
    print("start")  # noqa: T201
    print("sum", x.sum(), sep=": ", end="!")  # noqa: T201
    return x + 1


def _prints_if_it_can(x):
    with contextlib.suppress(Exception):
        print("start")  # noqa: T201
    return x + 1


def _warns(x):
    warnings.warn("careful", stacklevel=1)
    return x + 1


def _warns_by_name(x):
    warn("careful", stacklevel=1)
    return x + 1


def _logs(x):
    logging.getLogger("test").warning("mean %s", x.mean())
    return x + 1


@pytest.mark.parametrize(
    "fn", [_prints_known, _prints_traced, _prints_if_it_can, _warns, _warns_by_name]
)
def test_what_is_printed_is_printed_once_at_every_call(fn, capsys):
    compiled = fusec.jit(fn)
    for k in (3, 3, 4):
        seen = []
        for f in (fn, compiled):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                f(np.arange(float(k)))
            seen.append((capsys.readouterr(), [str(w.message) for w in caught]))
        assert seen[0] == seen[1] != ""


def test_logged_arrays_are_not_lost(caplog):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logging, "raiseExceptions", False)
        compiled = fusec.jit(_logs)
        compiled(np.arange(3.0))
        caplog.clear()
        compiled(np.arange(3.0))
    assert [r.getMessage() for r in caplog.records] == ["mean 1.0"]


def test_partial_objects_are_functions():
    total = fusec.jit(functools.partial(np.sum, axis=0))
    np.testing.assert_array_equal(total(np.ones((2, 3))), [2, 2, 2])


@pytest.mark.parametrize("text", [str, repr, "{}".format, "%s".__mod__, lambda k: f"{k!r}"])
def test_texts_of_numbers_are_not_baked_in(text):
    named = fusec.jit(lambda x, k: (text(k), x * k))
    for k in (2.5, 1.5, 3, 4, True, -0.0, 0.0):
        assert named(np.ones(1), k)[0] == text(k)


LOGGER = logging.getLogger("fusec.tests")
ADAPTER = logging.LoggerAdapter(LOGGER, {})
SAYS = {
    "print": lambda x: print(x.shape),  # noqa: T201
    "print-to": lambda x: print(x.sum(), file=sys.stderr),  # noqa: T201
    "stdout": lambda x: sys.stdout.write("here\n"),
    "stderr": lambda x: sys.stderr.write("here\n"),
    "pprint": lambda x: pprint.pprint({"n": len(x)}),  # noqa: T203
    "stack": lambda x: traceback.print_stack(limit=1),
    "warning": lambda x: LOGGER.warning("n is %d", len(x)),
    "warning-of-values": lambda x: LOGGER.warning("sum is %s", x.sum()),
    "log": lambda x: LOGGER.log(logging.ERROR, "here"),
    "adapter": lambda x: ADAPTER.error("here"),
    "root": lambda x: logging.error("here"),
    "named": lambda x: logging.getLogger("fusec.tests").critical("here"),
    "if-enabled": lambda x: LOGGER.isEnabledFor(30) and LOGGER.warning("here"),
    "caught": lambda x: contextlib.suppress(Exception).__exit__(None, None, LOGGER.error("here")),
}


@pytest.mark.parametrize("says", SAYS.values(), ids=SAYS)
def test_what_a_function_says_it_says_at_every_call(says, capfd, caplog):
    def program(x):
        says(x)
        return x * 2

    said = []
    for run in (program, fusec.jit(program)):
        for _ in range(3):
            caplog.clear()
            np.testing.assert_array_equal(run(X), X * 2)
            out, err = (text.replace(__file__, "") for text in capfd.readouterr())
            said.append((bool(out), bool(err), [r.getMessage() for r in caplog.records]))
    assert len({repr(s) for s in said}) == 1
    assert any(said[0])


def test_a_message_that_a_logger_drops_costs_nothing(caplog):
    def program(x):
        LOGGER.debug("shape %s", x.shape)
        return x * (3 if LOGGER.isEnabledFor(logging.DEBUG) else 2)

    jitted = fusec.jit(program)
    assert not jitted.lower(X).fallback
    jitted(X)
    assert not caplog.records
    with caplog.at_level(logging.DEBUG, "fusec.tests"):
        np.testing.assert_array_equal([jitted(X), jitted(X)], [X * 3, X * 3])
    assert [r.getMessage() for r in caplog.records] == ["shape (3,)"] * 2


ASKED = {
    "level": lambda: LOGGER.level <= logging.DEBUG,
    "effective": lambda: LOGGER.getEffectiveLevel() <= logging.DEBUG,
    "adapter": lambda: ADAPTER.getEffectiveLevel() <= logging.DEBUG,
    "disabled": lambda: LOGGER.disabled,
    "handlers": lambda: not LOGGER.handlers,
    "has-handlers": lambda: LOGGER.hasHandlers(),
    "root": lambda: logging.root.level <= logging.DEBUG,
    "named": lambda: logging.getLogger().isEnabledFor(logging.DEBUG),
}


@pytest.mark.parametrize("asked", ASKED.values(), ids=ASKED)
def test_what_a_logger_tells_is_asked_at_every_call(asked, monkeypatch):
    def program(x):
        return x * (3 if asked() else 2)

    jitted = fusec.jit(program)
    told = []
    for logger, level, disabled, handlers in [
        (LOGGER, 30, False, []), (LOGGER, 10, True, [logging.NullHandler()]),
        (LOGGER, 30, False, []), (logging.root, 10, False, []), (logging.root, 30, False, []),
    ]:  # fmt: skip
        monkeypatch.setattr(LOGGER, "propagate", False)
        monkeypatch.setattr(LOGGER, "disabled", disabled)
        monkeypatch.setattr(LOGGER, "handlers", handlers)
        logger.setLevel(level)
        np.testing.assert_array_equal(jitted(X), program(X))
        told.append(asked())
    LOGGER.setLevel(logging.NOTSET)
    logging.root.setLevel(logging.WARNING)
    assert len({*map(bool, told)}) == 2


def test_a_logger_is_changed_at_every_call():
    def program(x):
        LOGGER.setLevel(logging.ERROR)
        LOGGER.propagate = False
        return x * 2

    jitted = fusec.jit(program)
    for _ in range(2):
        LOGGER.setLevel(logging.NOTSET)
        LOGGER.propagate = True
        jitted(X)
        assert (LOGGER.level, LOGGER.propagate) == (logging.ERROR, False)
    LOGGER.setLevel(logging.NOTSET)
    LOGGER.propagate = True


def _sets_environ():
    os.environ["A"] = "1"


@pytest.mark.parametrize(
    "effect",
    [_sets_environ, lambda: os.environ.update(A="1"), lambda: subprocess.run(["true"], check=True),
     lambda: os.mkdir("made"), lambda: os.system("true")],  # noqa: PTH102
)  # fmt: skip
def test_effects_on_the_system_raise(effect):
    with pytest.raises(ImpureError, match=r"test_capture\.py"):
        fusec.jit(lambda x: (effect(), x)[1])(X)


RECORDS = np.zeros(10, [("x", "f8"), ("flag", "i4")])


@pytest.mark.parametrize("layout", ["byte-swapped", "field of records", "misaligned"])
@pytest.mark.parametrize("place", ["attribute", "closure"])
def test_captured_memory_that_kernels_cannot_read_is_numpys(place, layout):
    def made():
        memory = {
            "byte-swapped": np.zeros(10, np.dtype("f8").newbyteorder()),
            "field of records": RECORDS.copy()["x"],
            "misaligned": np.zeros(81, "u1")[1:].view("f8"),
        }[layout]
        memory[...] = np.arange(10.0)
        return types.SimpleNamespace(memory=memory)

    def program(captured):
        def change(box, t):
            memory = box.memory if place == "attribute" else captured.memory
            memory[2:4] += t[2:4]
            memory[t[:2].astype("i8")] = 7
            return memory * t

        return change

    t, mine, plain = np.arange(10.0), made(), made()
    change = fusec.jit(program(mine))
    for _ in range(2):
        np.testing.assert_array_equal(change(mine, t), program(plain)(plain, t))
        np.testing.assert_array_equal(mine.memory, plain.memory)
    with pytest.raises(UnsupportedError, match="pass a copy"):
        fusec.grad(lambda x: (mine.memory * x).sum())(t)
