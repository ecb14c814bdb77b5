"""What a program is made of: buffers, and the steps that run over them.

Intermediates whose lives do not overlap share a block of memory.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fusec.codegen.emit import KernelSource
from fusec.codegen.loops import Place
from fusec.ir.graph import Graph, Node
from fusec.ops.control import Loop, Store
from fusec.passes.groups import Group, Partition

Strides = tuple[int, ...]


@dataclass
class Slot:
    """One buffer: an input (param), a result, a temporary, a constant or the value of a call.

    strides: bytes, as kernels see them; node: None for the partial results of a split reduction.
    """

    number: int
    role: str
    dtype: np.dtype
    shape: tuple[int, ...]
    strides: tuple[int, ...] | None = None
    node: Node | None = None
    place: int = -1  # which temporary block holds it

    @property
    def nbytes(self) -> int:
        size = self.dtype.itemsize
        for n in self.shape:
            size *= n
        return size


@dataclass
class Launch:
    """Run a kernel over its rows. arguments: for each pointer a slot and a byte offset.

    writes: the slots that it changes; parts: the launches that this one was put together from.
    chain: it runs together with others, see ``chains``; near: kernel and arguments for that.
    """

    kernel: KernelSource
    arguments: list[tuple[int, int]]
    chunk: int
    group: Group
    writes: set[int]
    parts: list["Launch"] = field(default_factory=list)
    chain: Any = None
    near: tuple[KernelSource, list[tuple[int, int]]] | None = None

    def each(self) -> list["Launch"]:
        """The launches whose work this is."""
        return self.parts or [self]

    @property
    def members(self) -> list[Node]:
        """The operations that it computes."""
        return [node for part in self.each() for node in part.group.members]


@dataclass
class Call:
    """``outputs = function(*inputs)`` in NumPy; a view when it moves no data."""

    name: str
    function: Callable[..., Any]
    inputs: list[int]
    outputs: list[int]
    view: bool = False
    why: str = ""
    node: Node | None = None


@dataclass
class Product(Call):
    """A matrix product that runs inside the program: machine code, which may call BLAS.

    kernel, arguments, chunk: as of a launch.
    """

    kernel: KernelSource | None = None
    arguments: list[tuple[int, int]] = field(default_factory=list)
    chunk: int = 1


@dataclass
class Rounds(Call):
    """A loop: a program of its own that runs again and again. program: one round; stored: the
    results that lie where they are stored; outputs of the loop's body come before others."""

    program: "Program | None" = None
    stored: dict[int, Store] = field(default_factory=dict)

    @property
    def loop(self) -> Loop:
        assert self.node is not None
        found: Loop = self.node.attrs["loop"]
        return found


Step = Launch | Call


def slots_used(step: Step) -> list[int]:
    """The buffers that a step is given; a call of NumPy makes its own results."""
    if isinstance(step, Launch | Product):
        return [number for number, _ in step.arguments]
    return step.inputs


def written(step: Step) -> set[int]:
    """The buffers that a step changes."""
    return step.writes if isinstance(step, Launch) else {*step.outputs}


def fails(step: Step) -> bool:
    """Whether it can end the program: what came after it has not happened then."""
    if isinstance(step, Launch):
        return "status |=" in step.kernel.text
    return not isinstance(step, Product)


def apart(a: Step, b: Step) -> bool:
    """Whether two steps may change places."""
    return not (written(a) & {*slots_used(b), *written(b)} or written(b) & {*slots_used(a)})


@dataclass
class Program:
    """Steps over slots. ``inputs`` follow the graph's params, ``results`` its outputs.

    inplace: new values of arguments that are written where the arguments lie. over: values that
    are written over a temporary that the same kernel reads last. parts: values that lie in the
    memory of a concatenation, or of an argument that they change. on_device: its arrays lie in the
    memory of a GPU, or are said to.
    """

    graph: Graph
    partition: Partition
    slots: list[Slot] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    inputs: list[int] = field(default_factory=list)
    results: list[int] = field(default_factory=list)
    blocks: list[int] = field(default_factory=list)
    result_strides: list[Strides] = field(default_factory=list)
    inplace: dict[Node, Slot] = field(default_factory=dict)
    over: dict[Node, Node] = field(default_factory=dict)
    parts: dict[Node, Place] = field(default_factory=dict)
    on_device: bool = False

    def owns(self, n: int) -> bool:
        """Whether a result has memory of its own."""
        number = self.results[n]
        return self.slots[number].role == "result" and number not in self.results[:n]

    @property
    def kernels(self) -> list[KernelSource]:
        """What is launched, once for each round of a loop; not what only calls a library."""
        launches = [s.kernel for s in self.steps if isinstance(s, Launch)]
        return launches + [kernel for inner in self.loops for kernel in inner.kernels]

    @property
    def sources(self) -> list[KernelSource]:
        """Everything that has to be compiled."""
        steps = [s for s in self.steps if isinstance(s, Launch | Product)]
        found = [s.kernel for s in steps if s.kernel is not None]
        return found + [kernel for inner in self.loops for kernel in inner.sources]

    @property
    def loops(self) -> list["Program"]:
        """One round of each loop."""
        steps = [s for s in self.steps if isinstance(s, Rounds)]
        return [s.program for s in steps if s.program is not None]


def free_early(program: Program) -> None:
    """Let steps that end the life of temporaries go before those that only begin others."""
    steps = program.steps
    temporary = {s.number: s.nbytes for s in program.slots if s.role == "temp"}
    begins: dict[int, Step] = {}
    ends: dict[int, Step] = {}
    for step in steps:
        for number in slots_used(step):
            begins.setdefault(number, step)
            ends[number] = step

    def grows(step: Step, without: Step | None = None) -> int:
        """Bytes that are alive after a step and were not before it."""
        shared = {*slots_used(without)} if without is not None else set()
        own = {*slots_used(step)} & temporary.keys() - {*program.results}
        new = sum([temporary[n] for n in own if begins[n] is step])
        return new - sum([temporary[n] for n in own - shared if ends[n] is step])

    for k in range(1, len(steps)):
        while k and apart(early := steps[k - 1], late := steps[k]):
            if fails(early) or fails(late) or not grows(late, early) < 0 <= grows(early):
                break
            for number in {*slots_used(early)} & {*slots_used(late)}:
                ends[number] = early if ends[number] is late else ends[number]
            steps[k - 1], steps[k] = late, early
            k -= 1


def share_memory(program: Program) -> None:
    """Give temporaries whose lives do not overlap the same block."""
    last: dict[int, int] = {}
    for k, step in enumerate(program.steps):
        for number in _alive(step):
            last[number] = k
    for step in reversed(program.steps):  # a view keeps what it looks at alive
        if isinstance(step, Call) and step.view:
            end = max([last.get(o, 0) for o in step.outputs], default=0)
            for number in step.inputs:
                last[number] = max(last.get(number, 0), end)
    free: list[int] = []
    ending: dict[int, list[int]] = {}
    for k, step in enumerate(program.steps):
        for number in _alive(step):
            slot = program.slots[number]
            if slot.role == "temp" and slot.place < 0:
                slot.place = _block(program.blocks, free, slot.nbytes)
                if number not in program.results:
                    ending.setdefault(last[number], []).append(slot.place)
        free += ending.pop(k, [])
    for slot in program.slots:  # nothing is launched for values without elements
        if slot.role == "temp" and slot.place < 0:
            slot.place = _block(program.blocks, free, slot.nbytes)


def _alive(step: Step) -> list[int]:
    """The buffers of a step, or of all those that it runs together with."""
    chain = step.chain.parts if isinstance(step, Launch) and step.chain else [step]
    return [number for part in chain for number in slots_used(part)]


def _block(blocks: list[int], free: list[int], nbytes: int) -> int:
    """A free block of about that size, or a new one."""
    fitting = sorted(free, key=lambda p: abs(blocks[p] - nbytes))
    if fitting:
        free.remove(fitting[0])
        blocks[fitting[0]] = max(blocks[fitting[0]], nbytes)
        return fitting[0]
    blocks.append(nbytes)
    return len(blocks) - 1
