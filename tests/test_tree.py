"""Trees: every container comes back as it was, with its leaves in order and named as written."""

import collections
import dataclasses
import timeit
import types
from typing import Any, NamedTuple

import numpy as np
import pytest

import fusec
from fusec.trace.tree import flatten, register


class Point(NamedTuple):
    x: Any
    y: Any


@dataclasses.dataclass
class Params:
    w: Any
    b: Any = 0.0


@dataclasses.dataclass(frozen=True)
class Frozen:
    w: Any
    n: dataclasses.InitVar[int]

    def __post_init__(self, n):
        object.__setattr__(self, "total", n)


@dataclasses.dataclass(slots=True)
class Slotted:
    w: Any


class Pair:
    def __init__(self, a, b):
        self.a, self.b = a, b

    def __eq__(self, other):
        return (self.a, self.b) == (other.a, other.b)


class Opaque:
    pass


class SubDict(dict):
    pass


register(Pair, lambda p: ((p.a, p.b), "aux"), lambda aux, c: Pair(*c))
opaque = Opaque()
TREES = [
    (1, "*", [1], [""]),
    (None, "None", [], []),
    ((), "()", [], []),
    ((1,), "(*,)", [1], ["[0]"]),
    ((1, 2.0, "s"), "(*, *, *)", [1, 2.0, "s"], ["[0]", "[1]", "[2]"]),
    ([1, (2, None), []], "[*, (*, None), []]", [1, 2], ["[0]", "[1][0]"]),
    ({"b": 1, "a": [2]}, '{"b": *, "a": [*]}', [1, 2], ['["b"]', '["a"][0]']),
    ({3: 1, ("k", 1): 2}, "{3: *, ('k', 1): *}", [1, 2], ["[3]", "[('k', 1)]"]),
    (Point(1, (2,)), "Point(x=*, y=(*,))", [1, 2], [".x", ".y[0]"]),
    (Params(1), "Params(w=*, b=*)", [1, 0.0], [".w", ".b"]),
    (Frozen(1, 5), "Frozen(w=*, total=*)", [1, 5], [".w", ".total"]),
    (Slotted([1]), "Slotted(w=[*])", [1], [".w[0]"]),
    (
        collections.OrderedDict(b=1, a=2),
        'OrderedDict({"b": *, "a": *})',
        [1, 2],
        ['["b"]', '["a"]'],
    ),
    (collections.defaultdict(list, a=1), 'defaultdict({"a": *})', [1], ['["a"]']),
    (Pair(1, (2, 3)), "Pair(0: *, 1: (*, *))", [1, 2, 3], ["[0]", "[1][0]", "[1][1]"]),
    (opaque, "*", [opaque], [""]),
    ([SubDict(a=1), Point], "[*, *]", [SubDict(a=1), Point], ["[0]", "[1]"]),
]


@pytest.mark.parametrize("tree, text, leaves, paths", TREES, ids=[t[1] for t in TREES])
def test_round_trip(tree, text, leaves, paths):
    found, structure = flatten(tree)
    assert found == leaves and structure.num_leaves == len(leaves)
    assert repr(structure) == text and structure.paths() == paths
    rebuilt = structure.unflatten(found)
    assert type(rebuilt) is type(tree) and rebuilt == tree
    again = flatten(rebuilt)[1]
    assert again == structure and hash(again) == hash(structure)


def test_structures_differ():
    trees = [1, None, (), [], {}, (1,), [1], {"a": 1}, {"b": 1}, (1, 1), ((1,), 1), (1, (1,)),
             Point(1, 1), Params(1, 1), collections.OrderedDict(a=1)]  # fmt: skip
    structures = [flatten(t)[1] for t in trees]
    assert len(set(structures)) == len(trees)
    assert flatten(((1, 2), {"a": None}))[1] == flatten(((3, 4), {"a": None}))[1]
    assert structures[0] != "a tree"


def test_details_survive():
    made = flatten(collections.defaultdict(list, a=1))[1].unflatten([2])
    assert made["new"] == [] and made["a"] == 2
    assert list(flatten({"b": 1, "a": 2})[1].unflatten([1, 2])) == ["b", "a"]
    assert flatten(Frozen(1, 5))[1].unflatten([7, 8]).total == 8


def test_wrong_number_of_leaves():
    with pytest.raises(ValueError, match="has 2 leaves, 1 were given"):
        flatten((1, 2))[1].unflatten([1])


def test_paths_start_from_a_root():
    tree = ({"w": [np.ones(2), None]}, Point(1, 2))
    assert flatten(tree)[1].paths("args") == ['args[0]["w"][0]', "args[1].x", "args[1].y"]


def test_registered_names():
    register(Opaque, lambda o: ((), None), lambda aux, c: Opaque(), lambda aux: [])
    assert flatten(Opaque())[1].paths("o") == []


def test_flat_tuples_are_fast_and_shared():
    arrays = tuple(np.ones((4, 2)))
    assert flatten(arrays)[1] is flatten((1, 2.0, arrays[0], 3))[1]
    best = min(timeit.repeat(lambda: flatten(arrays), number=2000, repeat=7)) / 2000
    assert best < 5e-6  # 0.3 us on a quiet machine


# --- arguments that the function changes
def assigned(params, x):
    params["w"] = params["w"] + x


def grown(params, x):
    params["more"] = [x * 2]
    params["list"].append(x)


def of_a_dataclass(params, x):
    params["p"].b += 1
    params["p"].w = x * params["p"].b


def of_a_namespace(params, x):
    params["n"].w = params["n"].w + x


def of_nothing(params, x):
    params["list"].append(None)
    params["w"] += x


@pytest.mark.parametrize("fn", [assigned, grown, of_a_dataclass, of_a_namespace, of_nothing])
def test_containers_of_the_caller_change_as_in_python(fn):
    seen = []
    for each in (fn, fusec.jit(fn)):
        space = types.SimpleNamespace(w=np.ones(2))
        params = {"w": np.ones(2), "list": [], "p": Params(np.ones(2), 2), "n": space}
        for x in (np.arange(2.0), np.arange(2.0) + 5):
            each(params, x)
        seen.append(repr(params))
    assert seen[0] == seen[1]


def test_containers_that_stay_as_they_are_are_compiled():
    def update(params, x):
        params["p"].w += x
        params["list"][0] *= 2

    params = {"p": Params(np.ones(2)), "list": [np.ones(2)]}
    assert fusec.jit(update).lower(params, np.ones(2)).kernels
