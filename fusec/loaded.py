"""Programs made ready to run: every kernel compiled, or loaded, for an executor."""

from __future__ import annotations

import numpy as np

from fusec.codegen.chains import Chain, outermost
from fusec.codegen.steps import Call, Launch, Product, Program, Rounds
from fusec.ops.shape import c_strides
from fusec.runtime.cache import cache
from fusec.runtime.executor import CallSpec, Executor, LaunchSpec, SlotSpec
from fusec.runtime.native import PartSpec
from fusec.runtime.repeated import Repeated


def slot_specs(program: Program) -> list[SlotSpec]:
    """The buffers of a program as an executor takes them, constants with their values."""
    slots = []
    for slot in program.slots:
        value = None
        if slot.role == "const":
            assert slot.node is not None
            value = np.asarray(slot.node.attrs["value"].value, order="C")
        slots.append(
            SlotSpec(slot.role, slot.dtype, slot.shape, slot.strides or (), value, slot.place)
        )
    return slots


def executor(program: Program, fastmath: bool = False) -> Executor:
    """Compile (or load) every kernel of a program."""
    slots = slot_specs(program)
    steps: list[LaunchSpec | CallSpec] = []
    taken: set[int] = set()
    for step in program.steps:
        if isinstance(step, Rounds):
            assert step.program is not None
            assert step.node is not None
            avals = [n.aval for n in step.node.inputs]
            inner = executor(step.program, fastmath)
            repeated = Repeated(inner, step.loop, step.stored, avals)
            outs = _outs(program, step)
            taken |= {*outs}
            made = CallSpec(repeated, step.inputs, outs or step.outputs, False, "", bool(outs))
            steps.append(made)
        elif isinstance(step, Call) and taken.issuperset(step.outputs):
            continue
        elif isinstance(step, Call) and not isinstance(step, Product):
            steps.append(CallSpec(step.function, step.inputs, step.outputs, step.view))
        elif isinstance(step, Launch) and step.chain is not None:
            if step is step.chain.parts[-1]:
                steps.append(_chain(step.chain, fastmath))
        else:
            steps.append(_launch(step, fastmath))
    return Executor(
        slots, steps, program.inputs, program.results, program.blocks, program.result_strides
    )


def _outs(program: Program, loop: Rounds) -> list[int]:
    """For each result of a loop its slot, or -1; empty where one has to be copied."""
    steps = [s for s in program.steps if isinstance(s, Call) and s.inputs == loop.outputs]
    found = [-1] * len(loop.loop.results)
    for step in steps:
        slot = program.slots[step.outputs[0]]
        index = step.node.attrs["index"] if step.node is not None else -1
        if found[index] >= 0 or slot.strides != c_strides(slot.shape, slot.dtype.itemsize):
            return []
        found[index] = slot.number
    return found


def _launch(step: Launch | Product, fastmath: bool) -> LaunchSpec:
    kernel = step.kernel
    assert kernel is not None
    loaded = cache.kernel(kernel.text, kernel.int_names, kernel.ptr_types, fastmath)
    return LaunchSpec(
        loaded.address,
        kernel.rows,
        step.chunk,
        [value for _, value in kernel.ints],
        step.arguments,
        kernel.scratch,
        kernel.work,
        kernel.threads,
    )


def _chain(chain: Chain, fastmath: bool) -> LaunchSpec:
    """The launches of a chain as one."""
    pointers: dict[tuple[int, int], int] = {}
    parts: list[PartSpec] = []
    for launch, window in zip(chain.parts, chain.windows):
        spec, plan = _launch(launch, fastmath), launch.kernel.plan
        count = plan.body.extents[outermost(plan)]
        refs = [
            (-1, *chain.place(slot, offset))
            if slot in chain.tiles
            else (pointers.setdefault((slot, offset), len(pointers)), 0, 0)
            for slot, offset in spec.pointers
        ]
        bounds = window.factor, window.low, window.high
        parts.append(PartSpec(spec.address, count, spec.rows // count, bounds, spec.ints, refs))
    work = sum([p.kernel.work * p.kernel.rows for p in chain.parts]) / spec.rows
    return LaunchSpec(
        0, spec.rows, chain.chunk, [], [*pointers], chain.scratch, work, False, parts, chain.each
    )
