"""The short way of a repeated call: Python written for one plan, in front of native code.

It takes the arguments apart as their structure was, computes what follows from Python numbers, and
hands arrays and numbers to the plan's native entry, which checks and runs them. For
``step(params, x, rate)`` with a list of two arrays::

    def call(args, kwargs, handed=()):  # by the programs of decisions
        if len(args) != 3 or kwargs: return MISS
        t1 = args[0]
        if type(t1) is not list or len(t1) != 2: return MISS
        l0, l1, l2, l3 = t1[0], t1[1], args[1], args[2]
        if type(l3) is not float: return MISS
        return entry(l0, l1, l2, l3, asarray(neg(l3), d0))

Anything unusual is a MISS: the ordinary way then finds or makes the plan, or raises.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fusec.codegen.steps import Launch, Product
from fusec.plan import Plan, apply_view
from fusec.runtime.executor import RELEASE_GIL_NS, KernelError, LaunchSpec, step_specs
from fusec.runtime.native import (
    ERROR,
    MISS,
    ArraySpec,
    FloatSpec,
    NativePlan,
    OutSpec,
    make_entry,
)
from fusec.trace.run import Result
from fusec.trace.scalars import NUMBERS
from fusec.trace.standin import stand_in
from fusec.trace.tree import LEAF, TreeDef

Fast = tuple[Callable[..., Any] | None, Callable[..., Any]]
"""(guards, builtin that takes the arguments) or (None, ``call(args, kwargs, handed=())``)."""


def make(
    plan: Plan, tree: TreeDef, leaves: Sequence[Any], arrays: Sequence[Any], static: frozenset[int]
) -> Fast | None:
    """The short way of a plan for calls like this one.

    None for programs with steps in Python that change arguments, for outputs of others that are no
    fresh arrays, and for arguments that had to be copied into another layout.
    """
    program, direct = plan.program, _direct(plan)
    native = all(isinstance(s, Launch | Product) for s in program.steps) and program.steps
    if any(x is not y for x, y in zip(leaves, arrays)):
        return None
    if not native and not plan.trace.writes:
        return None, _Writer(plan, tree, leaves, static, *_stepwise(plan, leaves)).function()
    fresh = _fresh(plan, direct)
    roles = {program.slots[k].role for k in fresh}
    if not native or len(set(fresh)) != len(fresh) or roles - {"result"}:
        return None
    args, kwargs = tree.children
    flat = all(c.cls is LEAF for c in args.children) and not kwargs.children and not static
    places = [k for k, s in enumerate(plan.trace.sources) if s.kind != "constant"]
    plain = direct and not plan.trace.scalar_guards and plan.trace.update is None
    given = _given(plan, leaves) if flat and plain else None
    specs = [_input(plan, k, leaves) for k in given or places]
    entry = make_entry([_native(plan, given or places, specs, fresh, direct)])
    if given is not None:
        return plan.fetch, entry
    return None, _Writer(plan, tree, leaves, static, entry, places, direct).function()


def numpys(tree: TreeDef, leaves: Sequence[Any], matches: Callable[[Any], bool]) -> Fast | None:
    """The short way of calls that NumPy runs: ERROR. None where arguments are containers.

    matches: whether the arguments of a call are of that kind.
    """
    args, kwargs = tree.children
    plain = all(type(x) is np.ndarray or type(x) in NUMBERS for x in leaves)
    if kwargs.children or not plain or any(c.cls is not LEAF for c in args.children):
        return None
    facts = [_facts(x) for x in leaves]

    def call(args: Any, kwargs: Any, handed: Any = ()) -> Any:
        same = not kwargs and [_facts(x) for x in args] == facts
        return ERROR if same and matches(args) else MISS

    return None, call


def _facts(x: Any) -> Any:
    return (x.dtype, x.shape, x.strides, x.flags.writeable) if type(x) is np.ndarray else type(x)


def _stepwise(plan: Plan, leaves: Sequence[Any]) -> tuple[Callable[..., Any], list[int], bool]:
    """As ``make_entry``, of a program that Python drives; then as for ``_Writer``."""
    sources, run = plan.trace.sources, plan.executor.run
    places = [k for k, s in enumerate(sources) if s.kind != "constant"]
    specs = [_input(plan, k, leaves) for k in places]
    floats = [k for k, s in zip(places, specs) if isinstance(s, FloatSpec)]
    check = make_entry([NativePlan(inputs=specs, outputs=(), steps=())])
    given = [s.ref for s in sources]

    def entry(*args: Any) -> Any:
        if check(*args) is MISS:
            return MISS
        inputs = given.copy()
        for k, x in zip(places, args):
            inputs[k] = x
        for k in floats:
            inputs[k] = np.asarray(inputs[k])
        try:
            made = run(inputs)
        except KernelError:
            return ERROR
        if not direct:
            return made
        found = [made[k][()] if scalar else made[k] for k, scalar in order]
        return found[0] if single else (*found,)

    order = [(r.ref, r.scalar) for r in plan.trace.results]
    direct = bool(order) and _direct(plan) and not any(r.path for r in plan.trace.results)
    single = repr(plan.trace.tree) == "*"
    return entry, places, direct


def _direct(plan: Plan) -> bool:
    """Whether the native entry's result is the user's: an array, a tuple of them, or None."""
    trace, program = plan.trace, plan.program
    plain = all(_whole(plan, r) is not None for r in trace.results)
    order = [r.ref for r in trace.results]
    written = all(program.graph.outputs[k] in program.inplace for _, k in trace.writes)
    several = "(" + ", ".join("*" * len(order)) + ("," * (len(order) == 1)) + ")"
    shapes = ("*", several) if order else ("None",)
    return plain and written and len(set(order)) == len(order) and repr(trace.tree) in shapes


def _whole(plan: Plan, result: Result) -> np.ndarray | None:
    """A stand-in of a result that is a new array, or a view of all of it: made as it is seen."""
    if result.kind != "output" or result.item or (result.scalar and result.path):
        return None
    if any(name not in ("reshape", "transpose") for name, _ in result.path):
        return None
    slot = plan.executor.slots[plan.program.results[result.ref]]
    view = stand_in(slot.shape, slot.dtype, slot.strides)
    for step in result.path:
        view = apply_view(view, step)
    return view


def _fresh(plan: Plan, direct: bool) -> list[int]:
    """The slots that the native entry allocates, in the order of its results."""
    program = plan.program
    if direct:
        return [program.results[r.ref] for r in plan.trace.results]
    pairs = zip(program.results, program.graph.outputs)
    return [k for k, node in pairs if node not in program.inplace]


def _given(plan: Plan, leaves: Sequence[Any]) -> list[int] | None:
    """The params in the order of the arguments, where each argument is one of them as it is."""
    trace, found = plan.trace, dict[int, int]()
    for k, (source, param) in enumerate(zip(trace.sources, trace.graph.params)):
        if source.kind == "arg" and type(leaves[source.ref]) is np.ndarray:
            found[source.ref] = k
        elif source.kind == "scalar" and source.ref[0] == "arg" and param.dtype == np.float64:
            if type(leaves[source.ref[1]]) is not float:
                return None
            found[source.ref[1]] = k
        elif source.kind != "constant":
            return None
    complete = sorted(found) == list(range(len(leaves)))
    return [found[leaf] for leaf in range(len(leaves))] if complete else None


def _input(plan: Plan, k: int, leaves: Sequence[Any]) -> ArraySpec | FloatSpec:
    """What the native entry checks of a param."""
    trace = plan.trace
    source, param = trace.sources[k], trace.graph.params[k]
    if source.kind == "scalar" and param.dtype == np.float64:
        return FloatSpec()
    changed = any(s is source for s, _ in trace.writes)
    dtype, writeable = np.dtype(param.dtype.type), changed or None
    if source.kind == "arg" and isinstance(leaves[source.ref], np.ndarray):
        given = leaves[source.ref]  # the entry compares dtypes by identity
        dtype, writeable = given.dtype, given.flags.writeable
    return ArraySpec(dtype, param.shape, trace.strides[k], writeable, changed)


def _native(
    plan: Plan, places: list[int], inputs: list[ArraySpec | FloatSpec], results: list[int],
    direct: bool,
) -> NativePlan:  # fmt: skip
    """The native plan over buffers numbered: inputs, results, blocks, constants."""
    program, slots = plan.program, plan.executor.slots
    number = {program.inputs[k]: n for n, k in enumerate(places)}
    number |= {slot: len(inputs) + n for n, slot in enumerate(results)}
    base = len(inputs) + len(results)
    number |= {k: base + s.block for k, s in enumerate(slots) if s.block >= 0}
    constants = {k: s.value for k, s in enumerate(slots) if s.value is not None}
    sources = zip(program.inputs, plan.trace.sources)
    constants |= {slot: s.ref for slot, s in sources if s.kind == "constant"}
    base += len(program.blocks)
    number |= {slot: base + n for n, slot in enumerate(constants)}
    launches = [s for s in plan.executor.steps if isinstance(s, LaunchSpec)]
    outputs = [OutSpec(slots[k].dtype, slots[k].shape, slots[k].strides) for k in results]
    if direct:
        seen = [(r, _whole(plan, r)) for r in plan.trace.results]
        outputs = [OutSpec(v.dtype, v.shape, v.strides, r.scalar) for r, v in seen if v is not None]
    single = direct and repr(plan.trace.tree) == "*"
    return NativePlan(
        inputs=inputs,
        outputs=outputs,
        steps=step_specs(launches, number.__getitem__),
        result="single" if single else "tuple",
        temporaries=program.blocks,
        constants=list(constants.values()),
        release_gil=sum(x.work * x.rows for x in launches) > RELEASE_GIL_NS,
    )  # fmt: skip


class _Writer:
    """Writes ``call`` for one plan."""

    def __init__(
        self, plan: Plan, tree: TreeDef, leaves: Sequence[Any], static: frozenset[int],
        entry: Callable[..., Any], places: list[int], direct: bool,
    ) -> None:  # fmt: skip
        self.plan, self.tree, self.leaves, self.static = plan, tree, leaves, static
        self.places, self.direct = places, direct
        self.names: dict[str, Any] = {
            "MISS": MISS, "ERROR": ERROR, "asarray": np.asarray, "entry": entry,
            "fetch": plan.fetch, "holds": plan.trace.holds, "deliver": _deliverer(plan),
        }  # fmt: skip
        self.lines: list[str] = []
        self.held: list[str] = []  # the names of the containers
        self.count = 0

    def function(self) -> Callable[..., Any]:
        """Compile the text."""
        trace, update = self.plan.trace, self.plan.trace.update
        self._apart(self.tree.children[0], "args")
        self._apart(self.tree.children[1], "kwargs")
        for k, leaf in enumerate(self.leaves):
            self._check(k, leaf)
        every = "".join([f"l{k}, " for k in range(len(self.leaves))])
        self.lines.append(f"hidden = fetch(({every}))")
        self._miss("hidden is None")
        if trace.decisions:
            self.lines.append("hidden += handed")
        if trace.scalar_guards or trace.numbers:
            self._miss(f"not holds(({every}))")
        if update is not None:
            self.names |= {"held_by": update.held, "finish": update.finish}
            self.lines.append(f"held = held_by([None, {', '.join(self.held)}], ({every}))")
        inputs = ", ".join([self._input(k) for k in self.places])
        body = "\n        ".join([*self.lines, f"result = entry({inputs})"])
        text = (f"def call(args, kwargs, handed=()):\n    try:\n        {body}\n"
                "    except Exception:\n        return MISS\n")  # fmt: skip
        if not self.direct or update is not None:
            text += "    if result is MISS or result is ERROR: return result\n"
        if not self.direct:
            text += f"    result = deliver(({every}), hidden, result)\n"
        if update is not None:
            text += f"    result = finish(held, ({every}), result)\n"
        text += "    return result\n"
        exec(compile(text, "<fusec call>", "exec"), self.names)
        found: Callable[..., Any] = self.names["call"]
        return found

    def _miss(self, condition: str) -> None:
        self.lines.append(f"if {condition}: return MISS")

    def _constant(self, value: Any) -> str:
        name = f"k{len(self.names)}"
        self.names[name] = value
        return name

    def _apart(self, tree: TreeDef, text: str) -> None:
        """Take a container apart, or give a leaf its name."""
        if tree.cls is LEAF:
            self.lines.append(f"l{self.count} = {text}")
            self.count += 1
            return
        if tree.cls is None:
            return self._miss(f"{text} is not None")
        name = f"t{len(self.held)}"
        self.held.append(name)
        self.lines.append(f"{name} = {text}")
        cls, n = self._constant(tree.cls), len(tree.children)
        if issubclass(tree.cls, tuple | list):
            self._miss(f"type({name}) is not {cls} or len({name}) != {n}")
            parts = [f"{name}[{i}]" for i in range(n)]
        elif tree.cls is dict:
            keys: Any = tree.aux
            self._miss(f"type({name}) is not {cls} or (*{name},) != {self._constant(keys)}")
            if any(type(key) is not str for key in keys):  # 1, 1.0 and True are equal
                self._miss(f"(*map(type, {name}),) != {self._constant((*map(type, keys),))}")
            parts = [f"{name}[{self._constant(key)}]" for key in keys]
        else:
            self._miss(f"type({name}) is not {cls}")
            self.lines.append(f"p{name}, aux = {self._constant(tree._node().flatten)}({name})")
            self._miss(f"aux != {self._constant(tree.aux)}")
            self.lines.append(f"p{name} = (*p{name},)")
            parts = [f"p{name}[{i}]" for i in range(n)]
        for child, part in zip(tree.children, parts):
            self._apart(child, part)

    def _check(self, k: int, leaf: Any) -> None:
        """What of a leaf that is no array the plan depends on."""
        if k in self.static:
            known = self._constant(leaf)
            self._miss(f"type(l{k}) is not {self._constant(type(leaf))} or l{k} != {known}")
            if type(leaf) in (float, complex):
                self._miss(f"repr(l{k}) != {repr(leaf)!r}")  # the zeros are equal
        elif not isinstance(leaf, np.ndarray):
            self._miss(f"type(l{k}) is not {self._constant(type(leaf))}")
            if isinstance(leaf, str | bytes):
                self._miss(f"l{k} != {self._constant(leaf)}")

    def _input(self, k: int) -> str:
        """An argument of the native entry."""
        source, dtype = self.plan.trace.sources[k], self.plan.trace.graph.params[k].dtype
        if source.kind == "captured":
            return f"hidden[{source.ref}]"
        if source.kind == "arg":
            plain = isinstance(self.leaves[source.ref], np.ndarray)
            return f"l{source.ref}" if plain else f"asarray(l{source.ref})"
        value = self._recipe(source.ref)
        if dtype != np.float64:
            return f"asarray({value}, {self._constant(np.dtype(dtype.type))})"
        exact = source.ref[0] == "arg" and type(self.leaves[source.ref[1]]) is float
        return value if exact else f"float({value})"

    def _recipe(self, recipe: tuple[Any, ...]) -> str:
        if recipe[0] == "arg":
            return f"l{recipe[1]}"
        if recipe[0] == "lit":
            return self._constant(recipe[1])
        inner = ", ".join([self._recipe(r) for r in recipe[1:]])
        return f"{self._constant(recipe[0])}({inner})"


def _deliverer(plan: Plan) -> Callable[[Sequence[Any], Sequence[Any], Any], Any]:
    """``(leaves, hidden, made)`` -> the user's result, of what the native entry gave.

    The leaves are not kept.
    """
    sources = dict(zip(plan.trace.graph.params, plan.trace.sources))
    slots = [plan.program.inplace.get(node) for node in plan.program.graph.outputs]
    changed = [
        (k, s.kind == "arg", s.ref)
        for k, slot in enumerate(slots) if slot is not None
        for s in [sources[slot.node]]
    ]  # fmt: skip

    def deliver(leaves: Sequence[Any], hidden: Sequence[Any], made: Any) -> Any:
        outputs = list(made or ())
        for k, given, ref in changed:
            outputs.insert(k, leaves[ref] if given else hidden[ref])
        return plan.finish(leaves, hidden, outputs)

    return deliver
