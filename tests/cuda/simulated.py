"""Runs programs for CUDA in Numba's simulator, kernel by kernel, on buffers with guards around."""

from types import SimpleNamespace

import numpy as np

import fusec
from fusec.codegen.cuda_simulator import simulate
from fusec.codegen.numba_cuda import compile_ptx
from fusec.codegen.ptxas import assemble, tool
from fusec.codegen.slots import c_strides
from fusec.codegen.steps import Call, Launch, Program
from fusec.errors import UnsupportedError
from fusec.ir.graph import Graph
from fusec.plan import lower_graph
from fusec.stages import Traced


def program(function, *args, target="simulator") -> Program:
    trace = Traced.of(fusec.jit(function), args, {}).trace
    return lower_graph(trace, None, target)


def graph_program(params, outputs, target="simulator") -> Program:
    """The program of a graph whose arrays are all in C order."""
    strides = [
        [c_strides(n.shape, n.dtype.itemsize) for n in nodes] for nodes in (params, outputs)
    ]
    trace = SimpleNamespace(
        graph=Graph(params, outputs), sources=[], writes=[], strides=strides[0],
        out_strides=strides[1],
    )  # fmt: skip
    return lower_graph(trace, None, target)


def run(function, *args) -> list[np.ndarray]:
    """The results of ``function``, all of whose arguments are arrays, by way of the simulator."""
    return run_program(program(function, *args), args)


def run_program(made: Program, args) -> list[np.ndarray]:
    """The results of a program, of which NumPy runs what has no kernel."""
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
    """The memory of an array without gaps, as it lies."""
    order = sorted(range(array.ndim), key=lambda k: -abs(array.strides[k]))
    return np.ascontiguousarray(array.transpose(order)).reshape(-1).view(np.uint8).copy()


def _array(made: Program, memory: dict[int, np.ndarray], k: int) -> np.ndarray:
    slot = made.slots[k]
    return np.ndarray(slot.shape, slot.dtype, memory[k], 0, slot.strides)


def has_ptxas() -> bool:
    try:
        return bool(tool("ptxas"))
    except UnsupportedError:
        return False


def check_assembled(kernel, arch="sm_90") -> None:
    """Make machine code of a kernel's text, which must keep its values in registers."""
    ptx = compile_ptx(
        kernel.text, kernel.int_names, kernel.ptr_types, arch=arch, aligned=kernel.aligned
    ).ptx
    cubin, found = assemble(ptx, arch, kernel.block[0] * kernel.block[1])
    assert len(cubin) > 500
    assert (found.stack, found.spill_stores, found.spill_loads) == (0, 0, 0), kernel.text
