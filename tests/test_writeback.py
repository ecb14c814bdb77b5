"""Assignments into containers that are arguments: the caller's change as plain NumPy changes them.

Each row runs through NumPy and through fusec, several times on the same containers. Compared are
results, containers, types, key orders, and which object stands where: the arrays and containers
that were there before, those that are met twice, and what shares memory with what.
"""

import collections
import copy
import dataclasses
import gc
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_fastcall import taken

import fusec
from fusec.dispatch import MAX_GROWN
from fusec.errors import DerivativeError, DeviceError, UnsupportedError
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


@dataclasses.dataclass
class Counting:
    w: Any
    t: int = 0

    def __setattr__(self, name, value):
        object.__setattr__(self, name, value)
        object.__setattr__(self, "t", getattr(self, "t", 0) + 1)


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


for _name, _args in {
    "dict": lambda: (weights(),), "list": lambda: ([line(), 2.0],), "empty": lambda: ([],),
    "dataclass": lambda: (State(line()),), "tuple": lambda: ((line(), [3]),),
}.items():  # fmt: skip
    row(_args, f"returns_it_as_it_is_{_name}")(lambda p: p)
    row(_args, f"returns_it_twice_{_name}")(lambda p: [p, {"p": p}, (p,)])


@row(lambda: (weights(), [line()]))
def returns_a_changed_array_in_its_container(p, q):
    p["w"] += 1
    return p, q


@row(lambda: ({"in": [line()], "n": {"k": 1}},))
def returns_inner_containers(p):
    return p["in"], dict(p), p["in"][0] * 2


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


@row(lambda: (State(line()), np.ones(4)))
def dataclass_forgets(s, g):
    s.once = s.w * g
    if s.t:
        del s.once
    s.w, s.t = s.w + g, s.t + 1


@row(lambda: (Counting(line()), np.ones(4)))
def dataclass_with_its_own_setattr(s, g):
    s.w = s.w * g
    s.w = s.w + 1


@row(lambda: (weights(), line()))
def of_shapes(p, x):
    p["n"], p["shape"], p["size"] = len(x), x.shape, p["w"].size * 2
    p["mean"] = p["w"].sum() / p["n"]


@row(lambda: ([Pair(line(), 0)],))
def named_tuple_replaced(params):
    params[0] = params[0]._replace(b=params[0].a * 2)


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
        if isinstance(x, State | Slots | Frozen | Box | Counting):
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


def test_what_cannot_be_written_on_a_device_is_an_error():
    fn, args = ROWS["cannot_be_written"]
    with pytest.raises(UnsupportedError, match="a Box that is an argument was changed"):
        fusec.jit(fn)(*on_device(args(), "cpu"))


# -- programs of many assignments -----------------------------------------------------------------

KEYS = st.sampled_from("abcd")


def plain(x):
    """So that nothing comes to contain itself, which no call could be given."""
    return x if isinstance(x, np.ndarray) else 0


ACTIONS: dict[str, Callable[..., Any]] = {
    "new": lambda p, a, b: p.update({a: p[b] * 2 if isinstance(p[b], np.ndarray) else p[b]}),
    "move": lambda p, a, b: p.update({a: p[b]}),
    "rename": lambda p, a, b: p.update({a: p.pop(b)}),
    "append": lambda p, a, b: p["list"].append(plain(p[b])),
    "first": lambda p, a, b: p["list"].insert(0, plain(p[a])),
    "reverse": lambda p, a, b: p["list"].reverse(),
    "shorten": lambda p, a, b: p["list"].pop(),
    "view": lambda p, a, b: p.update({a: p[b][:2]}),
    "in place": lambda p, a, b: p[a].__iadd__(1),
    "nest": lambda p, a, b: p["inner"].update({a: plain(p[b]), b: [p["inner"].get("z")]}),
    "alias": lambda p, a, b: p.update({a: p["list"]}),
    "tuple": lambda p, a, b: p.update({a: (p[b], p["inner"])}),
    "state": lambda p, a, b: setattr(p["state"], a, plain(p[b])),
    "number": lambda p, a, b: p.update(t=p["t"] + 1),
}
PROGRAMS = st.lists(st.tuples(st.sampled_from(sorted(ACTIONS)), KEYS, KEYS), min_size=1, max_size=6)


@given(PROGRAMS, st.sampled_from([*"abcd", "list", "inner", "state"]))
@settings(max_examples=60, deadline=None)
def test_many_assignments(program, returned):
    def run(p):
        for name, a, b in program:
            ACTIONS[name](p, a, b)
        p["t"] = p["t"] + 1
        return p[returned]

    def args():
        p = {"a": line(), "t": 1, "list": [line(3.0)], "b": line(5.0), "c": np.ones(2)}
        return ({**p, "inner": {"z": line(2.0)}, "state": State(line()), "d": np.zeros(3)},)

    assert told(run, args(), calls=2) == told(fusec.jit(run), args(), calls=2)


# -- ways of calling ------------------------------------------------------------------------------

OUTSIDE_DICT, OUTSIDE_STATE = {"w": line()}, State(line())


@pytest.mark.parametrize("read", [lambda: OUTSIDE_DICT["w"] * 10, lambda: OUTSIDE_STATE.w * 10])
def test_a_container_that_is_read_from_outside_too(read):
    def f(p, s):
        p["w"] = p["w"] + 1
        s.w = s.w + 1
        return read()

    jitted = fusec.jit(f)
    for _ in range(3):
        jitted({"w": line()}, State(line()))
    for p, s in [(OUTSIDE_DICT, State(line())), ({"w": line()}, OUTSIDE_STATE)]:
        np.testing.assert_array_equal(jitted(p, s), read())


def test_the_short_way_is_taken_and_left():
    fn = ROWS["returns_what_it_stores"][0]
    jitted = fusec.jit(lambda p, q, rate: fn(p, rate))
    p, q = weights(), weights()
    for _ in range(2):
        jitted(p, q, 0.5)
    assert taken(jitted, p, q, 0.5) and not taken(jitted, p, p, 0.5)
    want = copy.deepcopy(p)
    fn(want, 0.5)
    jitted(p, p, 0.5)
    np.testing.assert_equal(p, want)


def test_an_exception_of_a_kernel_leaves_what_numpy_leaves():
    def f(p, i):
        p["a"] = p["w"] + 1
        p["b"] = p["w"][i]
        p["c"] = 1

    told = []
    for each in (f, fusec.jit(f)):
        p = weights()
        for i in (1, 2):
            each(p, np.array([i]))
        with pytest.raises(IndexError):
            each(p, np.array([9]))
        told.append(snapshot([p], []))
    assert told[0] == told[1]


def loss(p, x):
    p["t"] = p["t"] + 1
    p["seen"] = [p["w"][1:], x]
    p["w"] = p["w"] * 2
    p["w"][0] = 0
    return (p["w"] * x).sum()


@pytest.mark.parametrize("of", [
    fusec.grad, fusec.value_and_grad, fusec.jacobian, fusec.hessian,
    lambda f: fusec.jit(fusec.grad(f)), lambda f: lambda p, x: fusec.vjp(lambda q: f(q, x), p)[0],
    lambda f: fusec.grad(fusec.checkpoint(f)), lambda f: fusec.grad(fusec.jit(f)),
])  # fmt: skip
def test_differentiated_functions(of):
    def args():
        return {"w": line(), "t": 1.0}, line()

    (want, x), (got, y) = args(), args()
    known_want, known = [want["w"], x], [got["w"], y]
    for disabled in (False, False, True):
        fusec.config.disable = disabled
        try:
            of(loss)(got, y)
        finally:
            fusec.config.disable = False
        loss(want, x)
        got.pop("seen", None) if disabled else None
        want.pop("seen", None) if disabled else None
        assert snapshot([want], known_want) == snapshot([got], known)
        for p in (want, got):
            p["w"] = p["w"].copy()
            p.pop("seen", None)


def test_vmap_stacks_what_each_example_would_be_given():
    def f(p, c):
        p["w"] = p["w"] * c
        p["sum"], p["g"] = p["w"].sum(), p["c"]
        return p["w"] + 1

    for axis in (0, -1):
        p = {"w": np.arange(6.0).reshape(2, 3), "c": np.ones((2, 3))}
        c = p["c"]
        many = np.moveaxis(p["w"], axis, 0)
        each = [{"w": w, "c": w * 0 + 1} for w in many]
        results = [f(one, 3.0) for one in each]
        got = fusec.vmap(f, axis)(p, 3.0)
        np.testing.assert_array_equal(got, np.stack(results))
        assert list(p) == list(each[0]) and p["g"] is c
        for key in p:
            np.testing.assert_array_equal(p[key], np.stack([one[key] for one in each], axis))
    with pytest.raises(UnsupportedError, match="that examples share"):
        fusec.vmap(lambda p: f(p, 3.0), ({"w": -1, "c": -1, "sum": None, "g": -1},))(p)
    with pytest.raises(UnsupportedError, match="that examples share"):
        fusec.vmap(lambda c, p: f(p, c))(line(), p=p)


def test_donated_members_are_taken_and_the_others_stay():
    @fusec.jit(donate_argnums=(0, 1))
    def f(p, x):
        p["w"] = p["w"] - x
        p["x"] = x

    p, x = on_device((weights(), line()), "cpu")
    w, g = p["w"], p["g"]
    f(p, x)
    f(p, p["x"])
    assert p["x"] is x and p["g"] is g
    np.testing.assert_array_equal(p["w"], line() - 2 * line())
    with pytest.raises(DeviceError, match="was donated"):
        np.asarray(w)


def test_a_tape_refuses_what_it_could_not_repeat():
    (p,) = on_device((weights(),), "cpu")
    with fusec.Tape(), pytest.raises(DerivativeError, match="changes a container"):
        fusec.jit(step)(p)


def test_methods_of_dataclasses():
    @dataclasses.dataclass
    class Model:
        w: Any
        t: int = 0

        def step(self, g):
            self.w = self.w - 0.5 * g
            self.t += 1
            return self.w

    class Jitted(Model):
        step = fusec.jit(Model.step)

    one, other, w = Model(line()), Jitted(line()), None
    for _ in range(3):
        one.step(np.ones(4))
        w = other.step(np.ones(4))
    assert other.w is w and repr(one).split("(")[1:] == repr(other).split("(")[1:]
    assert not Jitted.step.lower(other, np.ones(4)).fallback


def test_verify_compares_containers():
    fn, args = ROWS["returns_what_it_stores"]
    given = args()
    report = fusec.verify(fn, *given)
    assert report and 'p["w"]' in str(report) and snapshot(given, []) == snapshot(args(), [])


def test_an_opaque_argument_that_is_returned_is_that_of_the_call():
    class Thing:
        def __init__(self):
            self.a = 2.0

    f = fusec.jit(lambda thing, x: (thing, x * thing.a))
    for thing in (Thing(), Thing()):
        assert f(thing, line())[0] is thing


def test_a_list_that_grows_at_each_call_is_not_compiled_at_each():
    def f(p, x):
        p["hist"].append((p["w"] * x).sum())

    jitted, traced = fusec.jit(f), []
    original = jitted.traced
    jitted.traced = lambda *args, **kw: traced.append(1) or original(*args, **kw)
    want, got = ({"w": line(), "hist": []} for _ in range(2))
    for k in range(20):
        f(want, line() + k)
        jitted(got, line() + k)
    assert len(traced) == MAX_GROWN and snapshot([got], []) == snapshot([want], [])
    jitted({"hist": [], "w": line()}, line())  # another structure is another program
    assert len(traced) == MAX_GROWN + 1


def _divides_numbers(p, x):
    p["w"] = x * 2
    p["n"] = 1 / p["z"]


def _divides_arrays(p, x):
    x[0] = 5
    p["t"] = p["z"]
    return 1 / p["z"], x.sum()


def _divides_half_way(p, x):
    x[0] = 5
    y = x * (1 / p["z"])
    x[1] = 6
    return y


@pytest.mark.parametrize("fn", [_divides_numbers, _divides_arrays, _divides_half_way])
def test_a_number_that_raises_at_a_later_call_leaves_what_numpy_leaves(fn):
    compiled = fusec.jit(fn)
    for z in (1, 2, 4, 0, 2, 0):
        ours, numpys = ({"z": z}, line()), ({"z": z}, line())
        with np.errstate(all="ignore"):
            raised = [_raises(f, *given) for f, given in ((compiled, ours), (fn, numpys))]
        assert raised[0] is raised[1] is (None if z else ZeroDivisionError)
        assert repr(ours) == repr(numpys)


def _raises(fn, *args):
    try:
        fn(*args)
    except ArithmeticError as error:
        return type(error)
    return None


def test_a_list_that_contains_itself():
    x = [line()]
    x.append(x)
    total = fusec.jit(lambda x: x[1][0].sum())
    assert total(x) == total(x) == x[0].sum()


def test_arguments_are_not_kept_alive():
    def fn(p, x):
        p["w"] = x * 2
        return x.sum()

    compiled, x = fusec.jit(fn), line()
    for _ in range(3):
        compiled({}, x)
    known = weakref.ref(x)
    del x
    gc.collect()
    assert known() is None
