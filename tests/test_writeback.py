"""Assignments into containers that are arguments: the caller's change as plain NumPy changes them.

Each row runs through NumPy and through fusec, several times on the same containers. Compared are
results, containers, types, key orders, and which object stands where: the arrays and containers
that were there before, those that are met twice, and what shares memory with what.
"""

import collections
import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fusec
from fusec.trace.tree import flatten, register
from fusec.trace.writeback import rebuilt

ROWS: dict[str, tuple[Callable[..., Any], Callable[[], tuple[Any, ...]]]] = {}
FALLS_BACK = set()  # rows that NumPy runs


@dataclasses.dataclass
class State:
    w: Any
    t: Any = 0

    def step(self, g):
        self.w = self.w - 0.5 * g
        self.t += 1
        return self.w


@dataclasses.dataclass(frozen=True)
class Frozen:
    w: Any


@dataclasses.dataclass(slots=True)
class Slots:
    w: Any
    t: Any = 0


class Pair(collections.namedtuple("Pair", "a b")):
    __slots__ = ()


class Box:
    def __init__(self, w):
        self.w = w


register(Box, lambda box: ((box.w,), None), lambda _, parts: Box(*parts), lambda _: [".w"])


def line(n=4.0):
    return np.arange(n) + 1


def weights():
    return {"w": line(), "g": np.ones(4), "t": 0}


def row(args, name="", falls_back=False):
    def add(fn):
        key = name or fn.__name__
        ROWS[key] = (fn, args)
        if falls_back:
            FALLS_BACK.add(key)
        return fn

    return add


@row(lambda: (weights(),))
def step(p):
    p["w"] = p["w"] - 0.1 * p["g"]
    p["t"] += 1


@row(lambda: (weights(), 0.5))
def returns_what_it_stores(p, rate):
    p["w"] = p["w"] - rate * p["g"]
    return p["w"], (p["w"], p["w"] * 2)


@row(lambda: (weights(),))
def returns_the_container(p):
    p["w"] = p["w"] * 2
    return p


@row(lambda: (weights(), {"x": line()}))
def returns_all_containers(p, q):
    p["w"] = p["w"] * q["x"]
    return [q, {"p": p}, p["g"]]


@row(lambda: (weights(),))
def new_keys_stand_at_the_end(p):
    p["m"] = p["w"] * 0.5
    p["first"] = 1


@row(lambda: (weights(),))
def deleted_and_set_again(p):
    w = p.pop("w")
    p["w"] = w + 1


@row(lambda: (weights(),))
def renamed(p):
    if "w" in p:
        p["v"] = p.pop("w") * 1.5


@row(lambda: (weights(),))
def cleared(p):
    w = p["w"] + 1
    p.clear()
    p["w"] = w
    p["g"] = w * 2
    p["t"] = 5


@row(lambda: (collections.OrderedDict(weights()),))
def moved_to_the_end(p):
    p.move_to_end("w")
    p["g"] = p["g"] + 1


@row(lambda: (collections.defaultdict(list, weights()), line()))
def default_dict(p, x):
    p["hist"].append(x * 2)


@row(lambda: (weights(),))
def swapped(p):
    p["w"], p["g"] = p["g"], p["w"]
    p["t"] = p["t"] + 1


@row(lambda: (weights(), line()))
def stores_an_argument(p, x):
    p["x"] = x
    p["again"] = x
    p["sum"] = x.sum()


@row(lambda: (weights(), line()))
def stores_views_of_arguments(p, x):
    p["head"] = x[:2]
    p["last"] = p["w"][-1:]
    p["t"] = x[0]
    return p["head"]


@row(lambda: (weights(), line()))
def stores_a_view_and_changes_it(p, x):
    p["head"] = x[:2]
    x[0] += 1
    p["w"] = p["w"] + x


@row(lambda: (weights(),))
def views_of_one_new_array(p):
    new = p["w"] * 2
    p["a"], p["b"], p["w"] = new, new[1:], new


@row(lambda: (weights(),))
def constants(p):
    p.update(t=3, name="adam", none=None, big=1 << 70, eps=1e-8, tuple=(1, "a"))
    p["w"] = p["w"] + 1


@row(lambda: (weights(),))
def no_kernel(p):
    p["t"] = 3
    p["none"] = None


@row(lambda: ({"t": 0, "lr": 0.5, "on": True},))
def numbers_alone(p):
    p["t"] += 1
    p["lr"] *= 0.5
    p["on"] = not p["on"]
    return p["lr"] * p["t"]


@row(lambda: ({"s": np.float32(2), "i": np.int64(3)}, line()))
def numpy_scalars(p, x):
    p["s"] += 1
    p["old"] = p["i"]
    p["i"] = x.argmax()
    return p["s"]


@row(lambda: ([line(), line() * 2], 0.5))
def list_items(params, rate):
    for k in range(len(params)):
        params[k] = params[k] * rate


@row(lambda: ([line(), line() * 2],))
def list_order(params):
    params.reverse()
    params[0] = params[0] + params[1]


@row(lambda: ([line()],))
def list_grows(params):
    params.append(params[-1] * 2)
    params.insert(0, 0)


@row(lambda: ([line(), 1, line() * 3],))
def list_shrinks(params):
    if len(params) > 1:
        del params[0]
    params[-1] = params[-1] / 2


@row(lambda: ({"layers": [{"w": line()}, {"w": line() * 2}], "opt": (State(line()), [])}, line()))
def nested(p, g):
    for layer in p["layers"]:
        layer["w"] = layer["w"] - 0.1 * g
    p["opt"][0].w = p["layers"][0]["w"]
    p["opt"][1].append(p["opt"][0].t)


@row(lambda: ({"a": {"w": line()}, "b": {"w": line() * 2}},))
def swaps_containers(p):
    p["a"], p["b"] = p["b"], p["a"]
    p["a"]["w"] = p["a"]["w"] + 1


@row(lambda: ({"a": {"w": line()}, "b": [line()]},))
def container_in_two_places(p):
    p["c"] = p["a"]
    p["c"]["w"] = p["c"]["w"] * 2
    p["d"] = (p["b"], p["b"])


@row(lambda: ({"a": {"w": line()}},))
def container_in_itself(p):
    p["a"]["up"] = p
    p["w"] = p["a"]["w"] * 2
    del p["a"]["up"]


@row(lambda: (weights(),))
def one_new_container_twice(p):
    new = {"w": p["w"] * 2, "list": [p["t"]]}
    p["a"], p["b"] = new, [new, new["list"]]
    p["w"] = new["w"]
    return new


@row(lambda: (State(line()), np.ones(4)))
def dataclass(s, g):
    s.w = s.w - g
    s.t += 1
    return s.w


@row(lambda: (State(line()), np.ones(4)))
def dataclass_by_a_method(s, g):
    return s.step(g) * 2


@row(lambda: (State(line()), np.ones(4)))
def dataclass_grows(s, g):
    s.extra = s.w * g
    s.w = State(g, s.t)
    s.w, s.t = s.w.w, s.w.t + 1


@row(lambda: (Slots(line()), np.ones(4)))
def dataclass_with_slots(s, g):
    s.w = s.w * 2 - g
    return s


@row(lambda: (Frozen(line()), np.ones(4)))
def frozen_dataclass(s, g):
    object.__setattr__(s, "w", s.w - g)


@row(lambda: (Pair({"w": line()}, [line()]),))
def inside_a_named_tuple(p):
    p.a["w"] = p.a["w"] + p.b[0]
    p.b[0] = p.a["w"]
    p.a["pair"] = Pair(p.a["w"], 1)


@row(lambda: (weights(),))
def array_and_container(p):
    p["w"] += 1
    p["g"] = p["g"] + p["w"]
    p["w"][:2] = 0


@row(lambda: (weights(),))
def branch_on_a_value(p):
    p["t"] += 1
    if p["t"] % 2:
        p["w"] = p["w"] * 2
    else:
        p["even"] = p["t"]


@row(lambda: (weights(), weights()))
def two_containers(p, q):
    p["w"] = p["w"] + q["w"]
    q["w"] = p["w"]
    q["t"] = p["t"] + 1


@row(lambda: (1.0, {"k": line()}))
def number_by_name(x, p):
    p["k"] = p["k"] * x
    return x


@row(lambda: ((weights(),) * 2), falls_back=True)
def aliased(p, q):
    p["w"] = p["w"] + 1
    q["w"] = q["w"] * 2


def _shared():
    inner = [line()]
    return ({"a": inner, "b": inner},)


@row(_shared, falls_back=True)
def aliased_inside(p):
    p["a"][0] = p["a"][0] + 1
    return p["b"][0] * 2


@row(lambda: (Box(line()), weights()), falls_back=True)
def cannot_be_written(box, p):
    box.w = box.w + 1
    p["w"] = box.w


@row(lambda: (weights(), line()), falls_back=True)
def stores_other_objects(p, x):
    p["made"] = Box, {1, 2}
    p["w"] = p["w"] + x


CONFIG = {"rate": 0.5, "table": [1.0, 2.0]}


@row(lambda: (weights(),), falls_back=True)
def stores_what_lies_outside(p):
    p["config"] = CONFIG
    p["w"] = p["w"] * CONFIG["rate"]


@row(lambda: (weights(),))
def stores_an_array_from_outside(p):
    p["outside"] = OUTSIDE
    p["w"] = p["w"] * OUTSIDE


OUTSIDE = line()


@row(lambda: (weights(), {"x": {1}}), falls_back=True)
def stores_a_function(p, q):
    p["f"] = nested
    p["w"] = p["w"] * 2


def snapshot(roots, known, device=False):
    """What a user can tell of values, containers and objects; ``known``: those met before, kept.

    device: do without what arrays there don't tell: views, strides, numbers from arrays.
    """

    def seen(x):
        found = next((k for k, y in enumerate(known) if y is x), len(known))
        if found == len(known):
            known.append(x)
        return found

    def of(x):
        if isinstance(x, np.generic | fusec.Array) and x.ndim == 0 and device:
            return (x.dtype, np.asarray(x).tolist())
        if isinstance(x, np.ndarray | fusec.Array):
            arrays = [y for y in known if isinstance(y, np.ndarray)]
            near = [seen(y) for y in arrays if not device and np.shares_memory(x, y)]
            strides = None if device else x.strides
            return ("array", seen(x), near, x.dtype, x.shape, strides, np.asarray(x).tolist())
        if isinstance(x, list | tuple):
            return (type(x), seen(x) if type(x) is list else None, [of(y) for y in x])
        if isinstance(x, dict):
            return (type(x), seen(x), [(k, of(v)) for k, v in x.items()])
        if isinstance(x, State | Slots | Frozen | Box):
            names = [n for n in ("w", "t", *getattr(x, "__dict__", ())) if hasattr(x, n)]
            return (type(x), seen(x), [(n, of(getattr(x, n))) for n in names])
        return (type(x), x)

    return [of(x) for x in roots]


def told(fn, args, device=False, calls=4):
    """``snapshot`` after each of some calls."""
    known = []
    found = [snapshot(args, known, device)]
    for _ in range(calls):
        try:
            result = fn(*args)
        except Exception as error:
            result = type(error)
        found.append(snapshot([result, *args], known, device))
    return found


@pytest.mark.parametrize("name", ROWS)
def test_as_numpy(name):
    fn, args = ROWS[name]
    jitted = fusec.jit(fn)
    assert told(fn, args()) == told(jitted, args())
    if name not in ("aliased", "aliased_inside"):  # the trace can't see it
        given = args()
        assert bool(jitted.lower(*given).fallback) == (name in FALLS_BACK)
        assert snapshot(given, []) == snapshot(args(), [])


def on_device(args, device):
    """Arguments with arrays of a device, and containers where they are."""
    leaves, _ = flatten(args)
    moved = {id(x): fusec.to_device(x, device) for x in leaves if isinstance(x, np.ndarray)}
    return rebuilt(args, iter([moved.get(id(x), x) for x in leaves]))


# On a device: an error, a copy on the device, a copy.
REFUSED = {"cannot_be_written", "stores_an_array_from_outside", "stores_what_lies_outside"}


@pytest.mark.parametrize("name", [name for name in ROWS if name not in REFUSED])
def test_on_arrays_of_a_device(name):
    fn, args = ROWS[name]
    assert told(fn, args(), True) == told(fusec.jit(fn), on_device(args(), "cpu"), True)
