"""Runs a program: launches of machine code and calls of NumPy over numbered buffers.

The executor knows no ops. It is given launches (an address and where its pointers come from) and
calls (a Python function); runs of launches become one native program.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from fusec.runtime import native
from fusec.runtime.native import PartSpec, StepSpec, prepare

Maker = Callable[[], np.ndarray]
RELEASE_GIL_NS = 20_000.0  # work from which other Python threads may run meanwhile


@dataclass
class SlotSpec:
    """Memory of one slot: strides in bytes; block: which temporary block it lies in."""

    role: str
    dtype: np.dtype
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    value: np.ndarray | None = None
    block: int = -1


@dataclass
class LaunchSpec:
    """One kernel launch; pointers: (slot, byte offset). library: it calls one with own threads.

    parts, each: of a chain, see ``StepSpec``; it has no address.
    """

    address: int
    rows: int
    chunk: int
    ints: list[int]
    pointers: list[tuple[int, int]]
    scratch: int
    work: float
    library: bool = False
    parts: Sequence[PartSpec] = ()
    each: int = 0


@dataclass
class CallSpec:
    """One call of a Python function on slots. several: it gives one array for each output, ready
    to be used, which -1 says is not needed."""

    function: Callable[..., Any]
    inputs: list[int]
    outputs: list[int]
    view: bool
    name: str = ""
    several: bool = False


class Native(NamedTuple):
    """Launches that follow each other. used: the slots that it takes; work: ns on one thread."""

    run: Callable[..., int]
    used: list[int]
    rounds: Callable[..., int]
    work: float


BYTE = np.dtype("u1")


class KernelError(Exception):
    """A kernel or a call reported an error; the caller runs NumPy to learn which."""


def step_specs(
    launches: Sequence[LaunchSpec], number: Callable[[int], int], spin: bool = True
) -> list[StepSpec]:
    """Launches for the native runtime; ``number`` maps slots to its buffer indices.

    spin: nothing that has threads of its own comes after them.
    """
    libraries = [launch.library for launch in launches]
    calm = [not (ours or following) for ours, following in zip(libraries, [*libraries[1:], False])]
    calm[-1:] = [calm[-1] and spin] if calm else []
    return [_step_spec(launch, number, c) for launch, c in zip(launches, calm)]


def _step_spec(launch: LaunchSpec, number: Callable[[int], int], spin: bool) -> StepSpec:
    pointers = [(number(slot), offset) for slot, offset in launch.pointers]
    slot = -1
    if launch.scratch:
        slot = len(pointers)
        pointers.append((0, 0))
    return StepSpec(
        address=launch.address,
        total=launch.rows,
        chunk=launch.chunk,
        ints=launch.ints,
        ptrs=pointers,
        scratch_bytes=launch.scratch,
        scratch_slot=slot,
        spin=spin,
        parts=launch.parts,
        each=launch.each,
    )


def maker(shape: tuple[int, ...], dtype: np.dtype, strides: tuple[int, ...]) -> Maker:
    """What gives fresh memory with the axes in the order of ``strides``."""
    order = sorted(range(len(shape)), key=lambda k: -abs(strides[k]))
    if order == list(range(len(shape))):
        return native.maker(shape, dtype)
    packed, step = list(shape), dtype.itemsize
    for k in reversed(order):
        packed[k], step = step, step * shape[k]
    return native.maker(shape, dtype, tuple(packed))


class Executor:
    """A program made ready to run many times, from many threads."""

    def __init__(
        self,
        slots: Sequence[SlotSpec],
        steps: Sequence[LaunchSpec | CallSpec],
        inputs: Sequence[int],
        results: Sequence[int],
        blocks: Sequence[int],
        strides: Sequence[tuple[int, ...]],
    ) -> None:
        self.slots = list(slots)
        self.steps = list(steps)
        self.inputs = list(inputs)
        self.results = list(results)
        self.blocks = [native.maker((n,), BYTE) for n in blocks]
        self.start = [s.value for s in slots]
        fresh = sorted({k for k in results if slots[k].role == "result"})
        self.fresh = [(k, maker(s.shape, s.dtype, s.strides)) for k in fresh for s in [slots[k]]]
        self.temps = [(k, s.block) for k, s in enumerate(slots) if s.block >= 0]
        # one value that is two results is two arrays, as it would be in NumPy
        self.delivered = [
            (k, wanted if k in self.results[:n] else None)
            for n, (k, wanted) in enumerate(zip(self.results, strides))
        ]
        self.runs = list(self._runs(steps))
        self.done = self._last_uses()

    def _last_uses(self) -> list[list[int]]:
        """For each run the results of calls that nothing reads after it."""
        last: dict[int, int] = {}
        for n, run in enumerate(self.runs):
            used = [*run.inputs, *run.outputs] if isinstance(run, CallSpec) else run.used
            last.update(dict.fromkeys([slot for slot in used if slot >= 0], n))
        done: list[list[int]] = [[] for _ in self.runs]
        for slot, n in last.items():
            if self.slots[slot].role in ("call", "view") and slot not in self.results:
                done[n].append(slot)
        return done

    def _runs(self, steps: Sequence[LaunchSpec | CallSpec]) -> Any:
        pending: list[LaunchSpec] = []
        for step in steps:
            if isinstance(step, LaunchSpec):
                pending.append(step)
                continue
            if pending:
                yield self._prepare(pending, spin=False)
            pending = []
            yield step
        if pending:
            yield self._prepare(pending, spin=True)

    @staticmethod
    def _prepare(launches: list[LaunchSpec], spin: bool) -> "Native":
        used = sorted({slot for launch in launches for slot, _ in launch.pointers})
        number = {slot: k for k, slot in enumerate(used)}
        steps = step_specs(launches, number.__getitem__, spin)
        work = sum(launch.work * launch.rows for launch in launches)
        program = prepare(steps, pointers=len(used), release_gil=work > RELEASE_GIL_NS)
        return Native(program.run, used, program.rounds, work)

    def run(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Run on one array per input; returns one array per result.

        Raises KernelError where one reports an error; nothing of the caller's was written.
        """
        values = self.memory()
        for slot, array in zip(self.inputs, arrays):
            values[slot] = array
        for slot, new in self.fresh:
            values[slot] = new()
        self.step(values)
        return [
            values[k] if again is None else _copied(values[k], again) for k, again in self.delivered
        ]

    def memory(self) -> list[Any]:
        """A value for each slot: constants and temporaries so far."""
        values = self.start.copy()
        if self.temps:
            blocks = [new() for new in self.blocks]
            for slot, block in self.temps:
                values[slot] = blocks[block]
        return values

    @cached_property
    def step(self) -> Callable[[list[Any]], None]:
        """Runs all steps on the values of inputs and results: Python written for this program.

        Raises KernelError where one reports an error. For a kernel and a sort of what it gives::

            def step(v):
                if f0(v[0], v[1]): raise KernelError
                a1 = ndarray(s1, d1, v[1], 0, t1)
                try: x = f1(a1)
                except Exception: raise KernelError from None
                if type(x) is not ndarray or x.dtype is not d2 or x.strides != t2 or \
                    x.base is not None or x is a1: x = settled(2, x, a1)
                v[2] = x
        """
        names: dict[str, Any] = {"KernelError": KernelError, "ndarray": np.ndarray}
        names["settled"] = self._settled
        for k, spec in enumerate(self.slots):
            names |= {f"s{k}": spec.shape, f"d{k}": spec.dtype, f"t{k}": spec.strides}
        lines = ["def step(v):", "pass"]
        for n, (step, done) in enumerate(zip(self.runs, self.done)):
            if isinstance(step, CallSpec):
                names[f"f{n}"] = step.function
                lines += self._call(n, step)
            else:
                names[f"f{n}"] = step.run
                used = ", ".join([f"v[{k}]" for k in step.used])
                lines += [f"if f{n}({used}): raise KernelError"]
            lines += [f"x = v[{slot}] = None" for slot in done]
        exec(compile("\n    ".join(lines), "<fusec step>", "exec"), names)
        found: Callable[[list[Any]], None] = names["step"]
        return found

    def _call(self, n: int, step: CallSpec) -> list[str]:
        """The lines of a call. What it raises, the user's function may catch."""
        blocks = [k for k in step.inputs if self.slots[k].block >= 0]
        lines = [f"a{k} = ndarray(s{k}, d{k}, v[{k}], 0, t{k})" for k in blocks]
        given = [f"a{k}" if k in blocks else f"v[{k}]" for k in step.inputs]
        lines += [f"try: x = f{n}({', '.join(given)})"]
        lines += ["except Exception: raise KernelError from None"]
        if step.several:
            outs = enumerate(step.outputs)
            return lines + [f"v[{out}] = x[{i}]" for i, out in outs if out >= 0]
        (out,) = step.outputs
        if self.slots[out].role != "view" and self.slots[out].dtype.kind != "V":  # not several
            others = [] if step.view else given
            odd = [f"type(x) is not ndarray or x.dtype is not d{out} or x.strides != t{out}"]
            odd += [] if step.view else ["x.base is not None", *[f"x is {a}" for a in others]]
            lines += [f"if {' or '.join(odd)}: x = settled({', '.join([str(out), 'x', *others])})"]
        return [*lines, f"v[{out}] = x"]

    def _settled(self, out: int, result: Any, *others: Any) -> Any:
        """What a call gave as the steps after it expect it; it shares no memory with others."""
        spec = self.slots[out]
        array = np.asarray(result, spec.dtype)
        if any(np.may_share_memory(array, i) for i in others if isinstance(i, np.ndarray)):
            array = array.copy()
        if array.strides != spec.strides and array.size:
            array = _copied(array, spec.strides)
        return array


def _copied(array: np.ndarray, strides: tuple[int, ...]) -> np.ndarray:
    new = maker(array.shape, array.dtype, strides)()
    new[...] = array
    return new
