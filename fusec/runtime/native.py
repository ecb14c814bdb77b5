"""Native calls: a plan goes in, a CPython builtin comes out that checks, allocates and launches.

A plan says what the arguments must look like, what to allocate, and which kernels run over which
buffers. Buffers are numbered: inputs, outputs, temporaries, constants. `make_entry` turns plans
into one builtin that takes the user's arguments and answers with the result, with `MISS` when the
arguments (or what a `Guard` watches) are not those of any plan, or with `ERROR` when a kernel
returned a status: the caller then takes its ordinary Python path. `prepare` makes the program
alone, for callers that mix kernels with other work and own all buffers.

Not here: keyword arguments, arguments that are changed and share memory with others, subclasses of
ndarray, other byte orders, Python ints. All of them are a MISS, never an error.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from types import CellType
from typing import Any, Literal

import numpy as np

from fusec.runtime import native_layout as layout
from fusec.runtime.native_build import ERROR, MISS, Sentinel, builtin, functions
from fusec.runtime.threads import pool

__all__ = [
    "ERROR", "MISS", "NOTHING", "ArraySpec", "FloatSpec", "Guard", "NativePlan", "OutSpec",
    "Prepared", "StepSpec", "empty", "launch", "make_entry", "prepare", "run",
]  # fmt: skip

NOTHING = Sentinel("NOTHING")
ALIGNMENT = 64  # bytes; of temporaries and scratch, one cache line or AVX-512 register
_ALIGNED, _WRITEABLE = 0x100, 0x400  # NPY_ARRAY_ALIGNED, NPY_ARRAY_WRITEABLE


@dataclass(frozen=True)
class ArraySpec:
    """An argument that is exactly an ndarray, aligned, of this dtype object, shape and strides.

    writeable: whether it is (None: either). changed: the program writes it; arguments that share
    its memory are a MISS.
    """

    dtype: Any
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    writeable: bool | None = None
    changed: bool = False


@dataclass(frozen=True)
class FloatSpec:
    """An argument that is exactly a Python float; its buffer holds one double."""


@dataclass(frozen=True)
class OutSpec:
    """A result to allocate; `scalar`: one item, handed over as a NumPy scalar."""

    dtype: Any
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    scalar: bool = False


@dataclass(frozen=True)
class PartSpec:
    """One of the kernels of a chain; see `layout.Part`.

    ptrs: for each pointer argument, the step's pointer, or -1, byte offset and bytes an index.
    """

    address: int
    count: int
    rows: int
    window: tuple[int, int, int]
    ints: Sequence[int]
    ptrs: Sequence[tuple[int, int, int]]


@dataclass(frozen=True)
class StepSpec:
    """One launch of the kernel at `address` over rows [0, total).

    chunk: rows that are worth waking a thread for; a launch of one chunk is serial. Threads take
        any ranges of rows.
    ints: the kernel's integer arguments. ptrs: for each pointer argument, buffer and byte offset.
    scratch_bytes, scratch_slot: size of the memory private to a thread, and the pointer argument
        that receives it (whose entry in `ptrs` is ignored), or -1.
    spin: False when what follows is a library that has threads of its own.
    parts, each: of a chain, in place of a kernel; outer indices of the last part at a time.
    """

    address: int
    total: int
    chunk: int
    ints: Sequence[int]
    ptrs: Sequence[tuple[int, int]]
    scratch_bytes: int = 0
    scratch_slot: int = -1
    spin: bool = True
    parts: Sequence[PartSpec] = ()
    each: int = 0


@dataclass(frozen=True)
class Guard:
    """An object that a plan relies on, compared by identity before each call.

    holder: a dict (with `key`), a closure cell or a context variable.
    expected: what it held when the plan was made, or `NOTHING` where there was nothing.
    """

    holder: dict[Any, Any] | CellType | ContextVar[Any]
    expected: Any
    key: Any = None


@dataclass(frozen=True)
class NativePlan:
    """Everything a native call does for one signature.

    temporaries: their sizes in bytes. constants: captured arrays, checked on each call to be where
        and what they were, or bare addresses, which are not.
    release_gil: other Python threads may run meanwhile; worth it from some 10 microseconds of work.
    """

    inputs: Sequence[ArraySpec | FloatSpec]
    outputs: Sequence[OutSpec]
    steps: Sequence[StepSpec]
    result: Literal["single", "tuple"] = "single"  # without outputs: None
    temporaries: Sequence[int] = ()
    constants: Sequence[np.ndarray[Any, Any] | int] = ()
    release_gil: bool = False


class Prepared:
    """A program over caller-owned buffers; ``run(*buffers)`` returns the status of its steps.

    ``run`` is a builtin that takes exactly ``pointers`` arguments, each an array or an address.
    ``rounds(table, count, watched, going, *arrays)`` runs it for ``count`` rows that lie at the
    address ``table``, up to the first status that is not 0, or until the buffer ``watched`` (-1:
    none) is a byte that is not ``going``: then it returns STOPPED times the rounds that it ran. A
    row: of each buffer, in which array it lies and at which offset in bytes.
    """

    __slots__ = ("rounds", "run")

    def __init__(self, program: layout.Program) -> None:
        self.run: Callable[..., int] = builtin("runner", program)
        self.rounds: Callable[..., int] = builtin("rounds", program)


def prepare(
    steps: Sequence[StepSpec], pointers: int, temporaries: Sequence[int] = (),
    constants: Sequence[np.ndarray[Any, Any] | int] = (), release_gil: bool = False,
) -> Prepared:  # fmt: skip
    """Make a program of ``steps`` whose first ``pointers`` buffers come with each run.

    Raises ValueError when a step names a buffer that does not exist.
    """
    return Prepared(_program(steps, pointers, temporaries, constants, release_gil))


def run(program: Prepared, pointers: Sequence[np.ndarray[Any, Any] | int]) -> int:
    """Run a program on buffers (arrays or addresses); 0, or the first status that is not."""
    return program.run(*pointers)


launch = run  # a program of one step is a launch


def make_entry(plans: Sequence[NativePlan], guards: Sequence[Guard] = ()) -> Callable[..., Any]:
    """A builtin that tries ``plans`` in turn on its positional arguments.

    Returns the plan's result, or `MISS`, or `ERROR`; raises only MemoryError.
    Raises ValueError when a plan names a buffer that does not exist.
    """
    entry = layout.Entry(pool=_pointer(pool()), nguards=len(guards), nplans=len(plans))
    made = [_plan(plan) for plan in plans]
    entry.plans = (layout.PlanPtr * max(1, len(plans)))(*[_pointer(plan) for plan in made])
    entry.guards = _structs(layout.Guard, [_guard(guard) for guard in guards])
    entry.kept = (made, tuple(guards))
    call: Callable[..., Any] = builtin("entry", entry)
    return call


def empty(
    shape: tuple[int, ...], dtype: np.dtype[Any], strides: tuple[int, ...] | None = None
) -> np.ndarray[Any, Any]:
    """``np.empty`` whose memory is kept for later results, if it is large (`config.keep_bytes`).

    strides: in bytes, where they are not those of C order; without gaps.
    """
    return maker(shape, dtype, strides)()


@lru_cache(4096)
def maker(
    shape: tuple[int, ...], dtype: np.dtype[Any], strides: tuple[int, ...] | None = None
) -> Callable[[], np.ndarray[Any, Any]]:
    """What gives `empty` arrays."""
    size = math.prod(shape) * dtype.itemsize
    if size < layout.KEPT:
        whole = partial(np.empty, shape, dtype)
        return partial(np.ndarray, shape, dtype, None, 0, strides) if strides else whole
    spec = _array(dtype, shape, strides)
    spec.high = size
    return partial(_maker(), ctypes.addressof(pool()), ctypes.byref(spec))


@cache
def _maker() -> Any:
    """The native `new_array`."""
    kind = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.POINTER(layout.Spec))
    return kind(functions()["new_array"])


def _pointer(structure: Any) -> Any:
    return ctypes.pointer(structure)


def _words(values: Sequence[int]) -> Any:
    return (ctypes.c_int64 * max(1, len(values)))(*values)


def _structs(kind: Any, items: Sequence[Any]) -> Any:
    return (kind * max(1, len(items)))(*items)


def _program(
    steps: Sequence[StepSpec], nargs: int, temporaries: Sequence[int],
    constants: Sequence[Any], release_gil: bool,
) -> layout.Program:  # fmt: skip
    count = nargs + len(temporaries) + len(constants)
    offsets, arena = [], 0
    for size in temporaries:
        offsets.append(arena)
        arena += (size // ALIGNMENT + 1) * ALIGNMENT
    program = layout.Program(
        pool=_pointer(pool()), nsteps=len(steps), nargs=nargs, nbuffers=count,
        nptrs=max([len(step.ptrs) for step in steps], default=0), arena_bytes=arena,
        ntemporaries=len(offsets), nconstants=len(constants),
        parallel=any(step.total > step.chunk for step in steps), release_gil=release_gil,
    )  # fmt: skip
    program.steps = _structs(layout.Step, [_step(step, count) for step in steps])
    program.temporaries = _words(offsets)
    addresses = [c if isinstance(c, int) else c.ctypes.data for c in constants]
    program.constants = (ctypes.c_void_p * max(1, count))(*addresses)
    program.kept = tuple(constants)
    return program


def _step(spec: StepSpec, count: int) -> layout.Step:
    refs = [
        (0, 0) if slot == spec.scratch_slot else (int(buffer), int(offset))
        for slot, (buffer, offset) in enumerate(spec.ptrs)
    ]
    if any(not 0 <= buffer < max(1, count) for buffer, _ in refs):
        raise ValueError(f"a step names buffers {refs} of a program that has {count}")
    if spec.scratch_slot >= len(refs):
        raise ValueError(f"scratch slot {spec.scratch_slot} of {len(refs)} pointers")
    kernel, ints = layout.Kernel(spec.address), _words(spec.ints)
    if spec.parts:
        kernel, ints = layout.Kernel(functions()["chain"]), _chain(spec)
    return layout.Step(
        kernel, spec.total, max(1, spec.chunk), ints, _structs(layout.Ref, refs),
        len(refs), spec.scratch_bytes, spec.scratch_slot, spec.spin,
    )  # fmt: skip


def _chain(spec: StepSpec) -> Any:
    """The parts of a chain, as what stands where a kernel has its integers."""
    parts = [
        layout.Part(
            layout.Kernel(p.address), p.count, p.rows, *p.window, _words(p.ints),
            _structs(layout.PartRef, p.ptrs), len(p.ptrs),
        )
        for p in spec.parts
    ]  # fmt: skip
    most = max([len(p.ptrs) for p in spec.parts])
    chain = layout.Chain(spec.each, len(parts), most, spec.scratch_slot)
    chain.parts = _structs(layout.Part, parts)
    return ctypes.cast(ctypes.pointer(chain), layout.i64s)


def _plan(spec: NativePlan) -> layout.Plan:
    arrays = [c for c in spec.constants if not isinstance(c, int)]
    inputs = [*map(_input, spec.inputs), *map(_captured, arrays)]
    nargs = len(spec.inputs)
    program = _program(
        spec.steps, nargs + len(spec.outputs), spec.temporaries, spec.constants, spec.release_gil
    )
    plan = layout.Plan(
        program=_pointer(program), nargs=nargs, ninputs=len(inputs), noutputs=len(spec.outputs),
        as_tuple=spec.result == "tuple",
    )  # fmt: skip
    plan.inputs = _structs(layout.Spec, inputs)
    outputs = [_output(out) for out in spec.outputs]
    plan.outputs = _structs(layout.Spec, outputs)
    plan.kept = (program, inputs, outputs, spec)
    return plan


def _array(dtype: Any, shape: Sequence[int], strides: Sequence[int] | None) -> layout.Spec:
    kind = layout.Descr.from_address(id(dtype)).kind if dtype.kind in "biufc" else 0
    made = layout.Spec(descr=id(dtype), kind=kind, nd=len(shape), dims=_words(shape))
    if strides is not None:
        made.strides = _words(strides)
        reach = [(n - 1) * step for n, step in zip(shape, strides)]
        made.low = sum([r for r in reach if r < 0])
        made.high = sum([r for r in reach if r > 0]) + dtype.itemsize
    made.kept = dtype
    return made


def _input(spec: ArraySpec | FloatSpec) -> layout.Spec:
    if isinstance(spec, FloatSpec):
        return layout.Spec()
    made = _array(np.dtype(spec.dtype), spec.shape, spec.strides)
    made.checked, made.flags = _ALIGNED, _ALIGNED | _WRITEABLE * bool(spec.writeable)
    if spec.writeable is not None:
        made.checked |= _WRITEABLE
    made.changed = spec.changed
    return made


def _captured(array: np.ndarray[Any, Any]) -> layout.Spec:
    made = _array(array.dtype, array.shape, array.strides)
    made.object, made.data, made.checked = id(array), array.ctypes.data, _ALIGNED
    made.flags = array.flags.num & _ALIGNED
    return made


def _output(spec: OutSpec) -> layout.Spec:
    """A spec whose strides are left to NumPy when they are those of C order."""
    dtype = np.dtype(spec.dtype)
    row_major: list[int] = []
    size = dtype.itemsize
    for extent in reversed(spec.shape):
        row_major.insert(0, size)
        size *= max(extent, 1)
    same = row_major == list(spec.strides)
    made = _array(dtype, spec.shape, None if same else spec.strides)
    made.scalar, made.low, made.high = spec.scalar, 0, size
    return made


def _guard(spec: Guard) -> layout.Guard:
    kinds = ((dict, layout.DICT_ITEM), (CellType, layout.CELL), (ContextVar, layout.CONTEXT_VAR))
    kind = next(number for type_, number in kinds if isinstance(spec.holder, type_))
    expected = 0 if spec.expected is NOTHING else id(spec.expected)
    return layout.Guard(kind, id(spec.holder), id(spec.key), expected)
