"""One signature of one function, made ready to run: trace, passes, kernels, executor.

``Plan`` belongs to the top layer: it knows traces and programs and drives the runtime.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from math import inf
from typing import Any, NamedTuple

import numpy as np

from fusec.codegen.backends import BACKENDS
from fusec.codegen.program import Oversize, build
from fusec.codegen.steps import Launch, Program, Rounds, Strides
from fusec.config import log
from fusec.errors import UnsupportedError
from fusec.ir.graph import Graph, Node, evaluate
from fusec.loaded import executor
from fusec.ops import OPS
from fusec.ops.control import Store, in_place
from fusec.ops.shape import c_strides
from fusec.passes.checks import partition
from fusec.passes.nodes import node_of
from fusec.passes.pipeline import optimise
from fusec.passes.updates import Overlap, choices, sequenced
from fusec.runtime.array import Array
from fusec.runtime.executor import Executor
from fusec.trace.run import Result, Trace
from fusec.trace.scalars import compute
from fusec.trace.session import oversized
from fusec.trace.steps import Step
from fusec.trace.writeback import containers

SMALLER = 16  # kernels hold one in so many of the ops that they might, where they grew too large


def lower_graph(
    trace: Trace, history: list[tuple[str, Graph]] | None = None, target: str = "cpu",
    most: float = inf,
) -> Program:  # fmt: skip
    """Optimise a trace's graph and cut it into kernels for a target of ``BACKENDS``.

    Raises UnsupportedError where expressions are too deep (loops over hundreds of rows), and where
    there are more than ``most`` operations.
    """
    places = {id(source): k for k, source in enumerate(trace.sources)}
    writes = [(places[id(source)], k) for source, k in trace.writes if target == "cpu"]
    layout = _Layout(trace.strides, trace.out_strides, writes)
    try:
        program = _lower(trace.graph, layout, target, history, most)
    except RecursionError:
        raise UnsupportedError("a chain of hundreds of steps, as of a loop over rows") from None
    log("plan", "%d kernels, %d steps", len(program.kernels), len(program.steps))
    return program


class _Layout(NamedTuple):
    """Strides of params and outputs; changed params with the outputs that are their new values."""

    params: Sequence[Strides]
    outputs: Sequence[Strides]
    writes: Sequence[tuple[int, int]]


def _lower(
    graph: Graph, layout: _Layout, target: str, history: list[tuple[str, Graph]] | None = None,
    most: float = inf,
) -> Program:  # fmt: skip
    backend = BACKENDS[target]
    graph = optimise(graph, history, backend.rules, backend.loops, backend.without)
    nodes = graph.nodes()
    if len(nodes) > most:
        (loc, count), *_ = Counter(n.loc for n in nodes).most_common()
        what = f"{len(nodes):,} operations that are no rounds of one loop"
        raise oversized(f"{what}, {count:,} of them at {loc}", len(nodes))
    program = _cut(graph, layout, target)
    for number, step in enumerate(program.steps):
        if isinstance(step, Rounds):
            assert step.node is not None
            step.program = _round(step, step.node.inputs, target, most)
            for kernel in step.program.kernels:
                kernel.name = f"k{number}.{kernel.name[1:]}"
    return program


def _round(step: Rounds, inputs: Sequence[Node], target: str, most: float) -> Program:
    """One round; a new value may lie where its oldest one does, which nothing needs any more."""
    loop = step.loop
    stored = in_place(loop, [n.shape for n in inputs])
    viewed = {read.array for read in loop.reads if read.part}
    whole = {read.array: k for k, read in enumerate(loop.reads) if not read.part}
    writes = [
        (whole[olds[-1]], k)
        for k, olds in enumerate(loop.carried)
        if olds and olds[-1] in whole and not viewed & {*olds} and k not in stored
    ]
    strides = [
        read.part.strides(inputs[read.array].shape, n.dtype.itemsize)
        if read.part
        else c_strides(n.shape, n.dtype.itemsize)
        for n, read in zip(loop.body.params, loop.reads)
    ]
    outputs = [c_strides(n.shape, n.dtype.itemsize) for n in loop.body.outputs]
    for k, (store, old) in stored.items():
        made = loop.body.outputs[k]
        if old is not None:
            writes.append((old, k))  # in C order if it can't be written over that part
        elif not loop.carried[k] and made.shape == store.part.shape:
            outputs[k] = store.part.strides(inputs[store.array].shape, made.dtype.itemsize)
    program = _lower(loop.body, _Layout(strides, outputs, writes), target, None, most)
    results = program.results
    step.stored = {
        n: store
        for n, (store, old) in stored.items()
        if (program.owns(n) if old is None else results[n] == program.inputs[old])
    }
    for store in loop.stores:
        if step.stored.get(store.output) is not store:
            if not _copied(program, store, inputs[store.array].shape, target):
                break  # what comes after it in the same place has to wait for it
            step.stored[len(results) - 1] = store
    return program


def _copied(program: Program, store: Store, shape: tuple[int, ...], target: str) -> bool:
    """Let a round copy an output to where it is stored, which is one more result, if it can."""
    made, slot = program.graph.outputs[store.output], program.slots[program.results[store.output]]
    if not (made in program.inplace or (slot.node is made and slot.role == "result")):
        return False  # it may be another part of the same array
    param = Node(OPS["param"], (), {"name": "made", "aval": made.aval}, made.aval)
    copied = node_of("identity", node_of("reshape", param, shape=store.part.shape))
    copied.loc = made.loc
    strides = store.part.strides(shape, made.dtype.itemsize)
    copy = _cut(Graph([param], [copied]), _Layout([slot.strides or ()], [strides], []), target)
    if [type(step) for step in copy.steps] != [Launch] or len(copy.slots) != 2:
        return False
    number = len(program.slots)
    (step,), places = copy.steps, {copy.inputs[0]: slot.number, copy.results[0]: number}
    step.arguments = [(places[k], offset) for k, offset in step.arguments]
    step.kernel.name, step.writes = f"k{len(program.steps)}", {number}
    program.slots.append(replace(copy.slots[copy.results[0]], number=number))
    program.steps.append(step)
    program.results.append(number)
    program.result_strides.append(strides)
    program.over[param] = made
    return True


def _cut(graph: Graph, layout: _Layout, target: str, again: bool = True, share: int = 1) -> Program:
    try:
        return _program(graph, layout, target, again, share)
    except Oversize:
        return _cut(graph, layout, target, False, share if again else SMALLER)


def _program(graph: Graph, layout: _Layout, target: str, again: bool, share: int) -> Program:
    for marked in choices(graph, layout.writes, layout.params):
        parts = partition(marked, again, BACKENDS[target].few_rows, share)
        for r in parts.refusals:
            log("fusion", "%r not fused into %r: %s", r.producer, r.consumer, r.reason)
        with suppress(Overlap, RecursionError):
            parts.groups = sequenced(parts)
            return build(parts, layout.params, layout.outputs, target, layout.writes)
    raise RecursionError


class Outline:
    """What a call of one signature takes and gives, without its kernels."""

    verified = False  # compared with NumPy (``FUSEC_VERIFY``)

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.fetch = trace.guards.compiled()
        self._hidden = self._captured(trace)

    def prepare(self) -> None:
        """There is nothing to compile."""

    def matches(
        self, leaves: Sequence[Any], handed: Sequence[Any] = ()
    ) -> list[np.ndarray] | None:
        """The hidden arrays of this call, or None when the plan is not for it.

        handed: arrays from the programs of earlier decisions; see ``decided``.
        """
        hidden: list[np.ndarray] | None = self.fetch(leaves)
        if hidden is None or not self.trace.holds(leaves):
            return None
        hidden += handed
        for source, param, written in self._hidden:
            array = hidden[source.ref]
            if array.shape != param[0] or array.dtype != param[1] or array.strides != param[2]:
                return None
            if written and type(array) is np.ndarray and not array.flags.writeable:
                return None
        return hidden

    @staticmethod
    def _captured(trace: Trace) -> list[tuple[Any, Any, bool]]:
        """Arrays from outside: source, (shape, dtype, strides), whether the function changes it."""
        written = [s for s, _ in trace.writes]
        return [
            (s, (p.shape, p.dtype, strides), any(s is w for w in written))
            for s, p, strides in zip(trace.sources, trace.graph.params, trace.strides)
            if s.kind == "captured"
        ]

    def inputs(
        self,
        leaves: Sequence[Any],
        arrays: Sequence[Any],
        hidden: Sequence[Any],
        constants: Mapping[int, Any] | None = None,
    ) -> list[Any]:
        """The value of every param of the graph for this call; constants: those on a device."""
        inputs = []
        for k, (source, param) in enumerate(zip(self.trace.sources, self.trace.graph.params)):
            if source.kind == "arg":
                inputs.append(arrays[source.ref])
            elif source.kind == "captured":
                inputs.append(hidden[source.ref])
            elif source.kind == "constant":
                inputs.append(constants.get(k, source.ref) if constants else source.ref)
            else:
                inputs.append(np.asarray(compute(source.ref, leaves), param.dtype))
        return [x if type(x) is Array else np.asarray(x) for x in inputs]

    def held(self, given: Any, leaves: Sequence[Any]) -> list[Any]:
        """The caller's containers, where the function changes some.

        Raises UnsupportedError where one of those can be reached in two ways.
        """
        update = self.trace.update
        return [] if update is None else update.held(containers(given), leaves)

    def delivered(self, held: list[Any], leaves: Sequence[Any], values: Any) -> Any:
        """Change the caller's containers; gives the user's result."""
        update = self.trace.update
        return values if update is None else update.finish(held, leaves, values)

    def finish(
        self, leaves: Sequence[Any], hidden: Sequence[np.ndarray], outputs: Sequence[np.ndarray]
    ) -> Any:
        """Write changed arrays back and put the user's result together."""
        for source, k in self.trace.writes:
            target = leaves[source.ref] if source.kind == "arg" else hidden[source.ref]
            if outputs[k] is not target:
                target[...] = outputs[k]
        return self.results(leaves, hidden, outputs)

    def results(
        self, leaves: Sequence[Any], hidden: Sequence[Any], outputs: Sequence[Any]
    ) -> Any:
        """The user's result, put together."""
        source: dict[str, Sequence[Any]] = {"arg": leaves, "captured": hidden, "output": outputs}
        made: list[Any] = []
        for r in self.trace.results:
            if r.kind == "same":
                made.append(made[r.ref])
            elif r.kind == "value":
                made.append(r.ref)
            elif r.kind == "python":
                made.append(compute(r.ref, leaves))
            else:
                made.append(self.seen(r, source[r.kind][r.ref]))
        return self.trace.tree.unflatten(made)

    def seen(self, result: Result, array: Any) -> Any:
        """An array as the function gives it."""
        for step in result.path:
            array = apply_view(array, step)
        if result.scalar:
            return array.item() if result.item else array[()]
        return array.view() if result.view and not result.path else array


class Interpreted(Outline):
    """A program that NumPy runs, op by op."""

    def __init__(self, trace: Trace, hidden: Any = None) -> None:
        super().__init__(trace)

    def run(self, leaves: Sequence[Any], arrays: Sequence[Any], hidden: list[np.ndarray]) -> Any:
        """What the decision is about and what it hands on: new arrays, as kernels give them."""
        found = evaluate(self.trace.graph, self.inputs(leaves, arrays, hidden))
        return [np.array(x, order="C") for x in found]


class Asked(Interpreted):
    """Stands for the plan of a decision."""

    def matches(self, leaves: Sequence[Any], handed: Sequence[Any] = ()) -> None:
        """It is for one call."""


class Given(Asked):
    """Gives the values of a program's params."""

    def run(self, leaves: Sequence[Any], arrays: Sequence[Any], hidden: list[np.ndarray]) -> Any:
        return self.inputs(leaves, arrays, hidden)


class Plan(Outline):
    """What a call of one signature does. ``run`` does it."""

    def __init__(self, trace: Trace, fastmath: bool = False, most: float = inf) -> None:
        super().__init__(trace)
        self.fastmath = fastmath
        self.program = lower_graph(trace, most=most)
        self._executor: Executor | None = None
        self.hastened: list[Any] = []  # its short way, once made (None: it has none)

    def prepare(self) -> None:
        """Compile or load the kernels, once, before the plan runs."""
        if self._executor is None:
            self._executor = executor(self.program, self.fastmath)

    @property
    def executor(self) -> Executor:
        self.prepare()
        assert self._executor is not None
        return self._executor

    def run(self, leaves: Sequence[Any], arrays: Sequence[Any], hidden: list[np.ndarray]) -> Any:
        """The user's result. ``arrays``: the leaves with arrays in native layout.

        Raises KernelError before anything of the caller's is written.
        """
        return self.finish(leaves, hidden, self.executor.run(self.inputs(leaves, arrays, hidden)))


def apply_view(array: np.ndarray, step: Step) -> np.ndarray:
    """One movement step on a real array, as a view."""
    return OPS[step[0]].impl(array, **step[1])
