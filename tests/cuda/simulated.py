"""Runs programs for CUDA in Numba's simulator, kernel by kernel, on buffers with guards around."""

import numpy as np

import fusec
from fusec.codegen.cuda_simulator import simulate
from fusec.codegen.steps import Call, Launch, Program
from fusec.plan import lower_graph
from fusec.stages import Traced


def program(function, *args, target="simulator") -> Program:
    trace = Traced.of(fusec.jit(function), args, {}).trace
    return lower_graph(trace, None, target)


def run(function, *args) -> list[np.ndarray]:
    """The results of ``function``, all of whose arguments are arrays, by way of the simulator."""
    made = program(function, *args)
    memory: dict[int, np.ndarray] = {}
    first = dict(zip(made.inputs, args))
    for slot in made.slots:
        if slot.number in first:
            memory[slot.number] = _bytes(first[slot.number])
        elif slot.role == "const":
            memory[slot.number] = _bytes(slot.node.attrs["value"].value)
        else:
            memory[slot.number] = np.full(slot.nbytes, 0xA5, np.uint8)
    status = np.zeros(1, np.int64)
    for step in made.steps:
        if isinstance(step, Call):
            inputs = [_array(made, memory, k) for k in step.inputs]
            for k in step.outputs:
                memory[k] = _bytes(np.asarray(step.function(*inputs), made.slots[k].dtype))
        else:
            _launch(step, memory, status)
    assert not status[0]
    return [_array(made, memory, k) for k in made.results]


def _launch(step: Launch, memory: dict[int, np.ndarray], status: np.ndarray) -> None:
    kernel = step.kernel
    simulate(
        kernel.text,
        [n for _, n in kernel.ints],
        [(memory[slot], offset) for slot, offset in step.arguments],
        kernel.ptr_types,
        kernel.grid,
        kernel.block,
        status,
    )


def _bytes(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).copy()


def _array(made: Program, memory: dict[int, np.ndarray], k: int) -> np.ndarray:
    slot = made.slots[k]
    return np.ndarray(slot.shape, slot.dtype, memory[k], 0, slot.strides)
