"""One signature of one function, made ready to run: trace, passes, kernels, executor.

``Plan`` belongs to the top layer: it knows traces and programs and drives the runtime.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from fusec.codegen.program import Call, Launch, Program, build
from fusec.config import log
from fusec.ir.graph import Graph
from fusec.passes.fuse import partition
from fusec.passes.pipeline import optimise
from fusec.runtime.cache import cache
from fusec.runtime.executor import CallSpec, Executor, LaunchSpec, SlotSpec
from fusec.trace.run import Result, Trace
from fusec.trace.scalars import compute
from fusec.trace.tracer import Step


def lower_graph(
    trace: Trace, history: list[tuple[str, Graph]] | None = None
) -> Program:
    """Optimise a trace's graph and cut it into kernels."""
    graph = optimise(trace.graph, history)
    parts = partition(graph)
    for refusal in parts.refusals:
        log("fusion", "%r not fused into %r: %s", refusal.producer, refusal.consumer, refusal.reason)
    program = build(parts, trace.strides, trace.out_strides)
    log("plan", "%d kernels, %d steps", len(program.kernels), len(program.steps))
    return program


def executor(program: Program, fastmath: bool = False) -> Executor:
    """Compile (or load) every kernel of a program."""
    slots = []
    for slot in program.slots:
        value = None
        if slot.role == "const":
            assert slot.node is not None
            value = np.ascontiguousarray(slot.node.attrs["value"].value)
        slots.append(
            SlotSpec(slot.role, slot.dtype, slot.shape, slot.strides or (), value, slot.place)
        )
    steps: list[LaunchSpec | CallSpec] = []
    for step in program.steps:
        if isinstance(step, Call):
            steps.append(CallSpec(step.function, step.inputs, step.outputs, step.view))
        else:
            steps.append(_launch(step, fastmath))
    return Executor(slots, steps, program.inputs, program.results, program.blocks)


def _launch(step: Launch, fastmath: bool) -> LaunchSpec:
    kernel = step.kernel
    loaded = cache.kernel(kernel.text, kernel.int_names, kernel.ptr_types, fastmath)
    return LaunchSpec(
        loaded.address,
        kernel.rows,
        step.chunk,
        [value for _, value in kernel.ints],
        step.arguments,
        kernel.scratch,
        kernel.work,
    )


class Plan:
    """What a call of one signature does. ``run(leaves, hidden)`` does it."""

    def __init__(self, trace: Trace, fastmath: bool = False) -> None:
        self.trace = trace
        self.fastmath = fastmath
        self.program = lower_graph(trace)
        self.fetch = trace.guards.compiled()

    @cached_property
    def executor(self) -> Executor:
        return executor(self.program, self.fastmath)

    def matches(self, leaves: Sequence[Any]) -> list[np.ndarray] | None:
        """The hidden arrays of this call, or None when the plan is not for it."""
        hidden: list[np.ndarray] | None = self.fetch(leaves)
        if hidden is None or not self.trace.holds(leaves):
            return None
        for source, strides in self._hidden:
            array, param = hidden[source.ref], strides
            if array.shape != param[0] or array.dtype != param[1] or array.strides != param[2]:
                return None
        return hidden

    @cached_property
    def _hidden(self) -> list[tuple[Any, Any]]:
        trace = self.trace
        return [
            (s, (p.shape, p.dtype, strides))
            for s, p, strides in zip(trace.sources, trace.graph.params, trace.strides)
            if s.kind == "captured"
        ]

    def run(self, leaves: Sequence[Any], arrays: Sequence[Any], hidden: list[np.ndarray]) -> Any:
        """The user's result. ``arrays``: the leaves with arrays in native layout.

        Raises KernelError before anything of the caller's is written.
        """
        inputs = []
        for source, param in zip(self.trace.sources, self.trace.graph.params):
            if source.kind == "arg":
                inputs.append(arrays[source.ref])
            elif source.kind == "captured":
                inputs.append(hidden[source.ref])
            elif source.kind == "constant":
                inputs.append(source.ref)
            else:
                inputs.append(np.asarray(compute(source.ref, list(leaves)), param.dtype))
        outputs = self.executor.run([np.asarray(a) for a in inputs])
        for source, k in self.trace.writes:
            target = leaves[source.ref] if source.kind == "arg" else hidden[source.ref]
            target[...] = outputs[k]
        made = [_make(r, leaves, hidden, outputs) for r in self.trace.results]
        return self.trace.tree.unflatten(made)


def _make(
    result: Result, leaves: Sequence[Any], hidden: list[np.ndarray], outputs: list[np.ndarray]
) -> Any:
    if result.kind == "value":
        return result.ref
    if result.kind == "python":
        return compute(result.ref, list(leaves))
    source: dict[str, Sequence[Any]] = {"arg": leaves, "captured": hidden, "output": outputs}
    array = source[result.kind][result.ref]
    for step in result.path:
        array = apply_view(array, step)
    return array[()] if result.scalar else array


def apply_view(array: np.ndarray, step: Step) -> np.ndarray:
    """One movement step on a real array, as a view."""
    from fusec.ops import OPS

    return OPS[step[0]].impl(array, **step[1])


Runner = Callable[..., Any]
