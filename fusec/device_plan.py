"""One signature of one function on a device: where its inputs come from, and what is watched.

``Elsewhere`` and ``DevicePlan`` stand where ``Plan`` stands for the CPU. What a program cannot do
runs in NumPy on copies (``on_host``), and so does a run whose kernels reported an error, so that
the user sees NumPy's own exception.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fusec.codegen.inplace import elementwise
from fusec.codegen.steps import Call, Program
from fusec.errors import DeviceError
from fusec.loaded import slot_specs
from fusec.plan import Outline, apply_view, lower_graph
from fusec.runtime.array import (
    Array,
    dense_strides,
    empty,
    overlap,
    overwrite,
    same_device,
    upload,
)
from fusec.runtime.device import Device, Stream
from fusec.runtime.device_executor import DeviceExecutor
from fusec.runtime.executor import CallSpec
from fusec.trace.run import Result, Trace
from fusec.trace.tree import TreeDef
from fusec.trace.writeback import Watched, containers, rebuilt

ADVICE = "move it once with fusec.to_device"
_HOST = {np.ndarray, int, float, complex, bool, str, bytes, type(None)}


def is_remote(leaf: Any) -> bool:
    """Whether an argument lives on a device: ours, CuPy's, PyTorch's, Numba's."""
    kind = type(leaf)
    if kind in _HOST or kind is Array:
        return kind is Array
    shares = "__cuda_array_interface__"
    return hasattr(kind, shares) and hasattr(leaf, shares)


def adopt(leaf: Any) -> Any:
    """Somebody else's device array as ours, over the same memory."""
    if type(leaf) is Array or not is_remote(leaf):
        return leaf
    from fusec.runtime.cuda import adopt

    return adopt(leaf)


def on_host(
    fn: Callable[..., Any], device: Device, leaves: Sequence[Any], given: Any, why: str = ""
) -> Any:
    """Run the function in NumPy on copies of its arguments; its results go to the device.

    given: (args, kwargs), of which the leaves are.
    """
    from fusec.arrays import assign

    name = getattr(fn, "__qualname__", "the function")
    hidden = why or f"NumPy runs {name}; {name}.lower(...).explain() says why"
    hosts = host_copies(leaves, f"argument of {name}", hidden)
    before = [x.copy() if type(leaf) is Array else None for x, leaf in zip(hosts, leaves)]
    args, kwargs = used = rebuilt(given, iter(hosts))
    watched = Watched(used, hosts)
    try:
        update = watched.update(fn(*args, **kwargs))
    finally:  # also what it has changed when it raises
        for leaf, host, old in zip(leaves, hosts, before):
            if old is not None and host.tobytes() != old.tobytes():
                assign(leaf, upload(device, host, f"argument of {name}", hidden))
    same = {id(host): leaf for leaf, host in zip(leaves, hosts) if type(leaf) is Array}
    moved = [
        upload(device, x, f"result of {name}", hidden)
        if isinstance(x, np.ndarray | np.generic) and id(x) not in same
        else same.get(id(x), x)
        for x in update.values
    ]
    return update.finish(containers(given), leaves, moved)


def host_copies(leaves: Sequence[Any], name: str, hidden: str) -> list[Any]:
    """Copies on the host of the arrays among ``leaves``, sharing memory where those do."""
    copies: dict[int, np.ndarray] = {}
    for group, whole in _groups(leaves):
        if len(group) == 1:
            copies[id(group[0])] = group[0]._to_host(name, hidden)
            continue
        memory = whole._to_host(name, hidden)
        for x, at in _places(group, whole):
            copies[id(x)] = np.ndarray(x.shape, x.dtype, memory, at, x.strides)
    return [copies[id(x)] if type(x) is Array else x for x in leaves]


def device_copies(leaves: Sequence[Any]) -> list[Any]:
    """Copies of the device arrays among ``leaves``: same layout, sharing memory where those do."""
    copies: dict[int, Array] = {}
    for group, whole in _groups(leaves):
        twin = empty(whole.buffer.device, whole.shape, whole.dtype, whole.strides)
        overwrite(twin, whole, whole.buffer.device.current())
        for x, at in _places(group, whole):
            copies[id(x)] = Array(twin.buffer, at, x.shape, x.dtype, x.strides)
    return [copies[id(x)] if type(x) is Array else x for x in leaves]


def _groups(leaves: Sequence[Any]) -> list[tuple[list[Array], Array]]:
    """The device arrays in groups that share memory, each with all bytes of its group."""
    groups: list[list[Array]] = []
    for x in leaves:
        if type(x) is Array:
            x.resolve()
            apart, joined = [], [x]
            for group in groups:
                if any(x.buffer is y.buffer or overlap(x, y) for y in group):
                    joined += group
                else:
                    apart.append(group)
            groups = [*apart, joined]
    found = []
    for group in groups:
        begin = group[0].buffer.address
        places = [x.buffer.address + x.offset - begin + x.extent[0] for x in group]
        span = max([at + x.extent[1] for x, at in zip(group, places)]) - min(places)
        found.append((group, Array(group[0].buffer, min(places), (span,), np.dtype("u1"), (1,))))
    return found


def _places(group: Sequence[Array], whole: Array) -> list[tuple[Array, int]]:
    """Each array of a group with the place of its first element among the group's bytes."""
    begin = whole.buffer.address + whole.offset
    return [(x, x.buffer.address + x.offset - begin) for x in group]


class Elsewhere(Outline):
    """Stands for a plan where the arrays that a function reads from outside are on a device."""

    def __init__(self, trace: Trace, hidden: Sequence[Any]) -> None:
        super().__init__(trace)
        found = same_device([adopt(x) for x in hidden if is_remote(x)])
        assert found is not None
        self.device = found


class DevicePlan(Outline):
    """What a call of one signature does on one device."""

    def __init__(self, trace: Trace, fastmath: bool, device: Device, hidden: Sequence[Any]) -> None:
        from fusec.arrays import assign  # which also gives arrays their operators

        super().__init__(trace)
        self._assign = assign
        for k, source in enumerate(trace.sources):
            if source.kind == "captured" and isinstance(hidden[source.ref], np.ndarray):
                trace.strides[k] = dense_strides(hidden[source.ref])[1]  # as it will be uploaded
        self.fastmath = fastmath
        self.device = device
        self.program = lower_graph(trace, target=device.target)
        self._runner: DeviceExecutor | None = None
        self._constants: dict[int, Array] = {}

    def prepare(self) -> None:
        if self._runner is None:
            self._runner = device_executor(self.program, self.device, self.fastmath)
            self._constants = {
                k: upload(self.device, s.ref, "constant")
                for k, s in enumerate(self.trace.sources)
                if s.kind == "constant" and s.ref.ndim
            }
            self._in_place = self._written_in_place(self._runner)

    def call(
        self,
        fn: Callable[..., Any],
        leaves: list[Any],
        tree: TreeDef,
        hidden: Sequence[Any],
        donated: Sequence[int],
    ) -> Any:
        """Run on arrays of the device; results are arrays of the device."""
        runner = self._runner
        assert runner is not None
        stream = self.device.current()
        moved = [self._moved(k, x) for k, x in enumerate(hidden)]
        inputs = self.inputs(leaves, leaves, moved, self._constants)
        into = self._taken(inputs, donated)
        for number, slot in self._in_place:
            into[slot] = inputs[number]
        if into:
            self.device.learn()
        outputs = runner.run(inputs, stream, into)
        self._watch(fn, leaves, tree, inputs, outputs, stream)
        for output in outputs if self.trace.update or self.trace.writes else ():
            output.resolve()  # before anything of the caller's is written
        for source, k in self.trace.writes:
            target = leaves[source.ref] if source.kind == "arg" else hidden[source.ref]
            if type(target) is Array:
                if self.program.results[k] not in into:
                    self._assign(target, outputs[k])
            else:
                target[...] = outputs[k]._to_host(source.label, "the function changes it")
        return self.results(leaves, hidden, outputs)

    def seen(self, result: Result, array: Any) -> Any:
        """An array as the function gives it: one of the device, or the caller's own."""
        if type(array) is not Array:
            return array
        for step in result.path:
            of = array.like
            array = array.view_as(apply_view(of, step), of)
        return array.item() if result.item else array

    def _written_in_place(self, runner: DeviceExecutor) -> list[tuple[int, int]]:
        """Changed inputs whose new value a kernel may write over the old one: (input, slot)."""
        program, found = self.program, []
        for source, k in self.trace.writes:
            number = next(n for n, s in enumerate(self.trace.sources) if s is source)
            old, new = program.slots[program.inputs[number]], program.slots[program.results[k]]
            same = (old.shape, old.dtype, old.strides) == (new.shape, new.dtype, new.strides)
            once = program.results.count(new.number) == 1 and new.number in runner.fresh
            safe = source.kind == "arg" and not runner.raises
            if same and once and safe and free_before(program, old.number, new.number):
                found.append((number, new.number))
        return found

    def _moved(self, k: int, x: Any) -> Array:
        x = adopt(x)
        if type(x) is Array:
            if x.buffer.device is not self.device:
                raise DeviceError(
                    f"{self.device.name} runs the function, which reads an array on {x.device} "
                    "from outside: move it with fusec.to_device"
                )
            return x
        name = next(s.label for s in self.trace.sources if s.kind == "captured" and s.ref == k)
        hidden = f"it is read from outside the function at every call; {ADVICE}"
        return upload(self.device, x, name, hidden)

    def _watch(
        self,
        fn: Callable[..., Any],
        leaves: list[Any],
        tree: TreeDef,
        inputs: Sequence[Any],
        outputs: Sequence[Array],
        stream: Stream,
    ) -> None:
        """Let the results remember which runs may still turn out to have failed."""
        checks = {c for x in inputs if type(x) is Array for c in x.buffer.checks}
        assert self._runner is not None
        if self._runner.raises:
            checks.add(self._runner.watch(stream, lambda: _retry(fn, leaves, tree)))
        if checks:
            for output in outputs:
                output.buffer.checks = tuple(checks | set(output.buffer.checks))

    def _taken(self, inputs: Sequence[Any], donated: Sequence[int]) -> dict[int, Array]:
        """Results that take the memory of donated arguments: slot -> that array."""
        assert self._runner is not None
        if not donated or self._runner.raises:
            return {}
        into: dict[int, Array] = {}
        taken: set[int] = set()
        kept = {s.ref for s, _ in self.trace.writes if s.kind == "arg"}
        kept |= {r.ref for r in self.trace.results if r.kind == "arg"}
        for k, (source, slot, array) in enumerate(
            zip(self.trace.sources, self.program.inputs, inputs)
        ):
            given = source.kind == "arg" and source.ref in donated and source.ref not in kept
            if not given or type(array) is not Array:
                continue
            others = [x for n, x in enumerate(inputs) if n != k and type(x) is Array]
            if any(x.buffer is array.buffer or overlap(x, array) for x in others):
                continue
            for result in self._runner.fresh:
                spec = self.program.slots[result]
                same = (spec.shape, spec.dtype, spec.strides)
                if same != (array.shape, array.dtype, array.strides) or result in taken:
                    continue
                if free_before(self.program, slot, result):
                    into[result] = Array(array.buffer, array.offset, *same)
                    taken.add(result)
                    break
        return into


def shares(trace: Trace, leaves: Sequence[Any], hidden: Sequence[Any]) -> bool:
    """Whether a changed array shares memory with another input."""
    if not trace.writes:
        return False
    used = [x for x in [*leaves, *hidden] if isinstance(x, Array | np.ndarray)]
    for source, _ in trace.writes:
        target = leaves[source.ref] if source.kind == "arg" else hidden[source.ref]
        if sum(_overlap(target, x) for x in used) > 1:
            return True
    return False


def _overlap(a: Any, b: Any) -> bool:
    if type(a) is Array and type(b) is Array:
        return overlap(a, b)
    return isinstance(a, np.ndarray) and isinstance(b, np.ndarray) and np.may_share_memory(a, b)


def _retry(fn: Callable[..., Any], leaves: list[Any], tree: TreeDef) -> None:
    """Let NumPy raise what a kernel reported, on copies."""
    hidden = "a kernel reported an error, which NumPy names"
    hosts = host_copies(leaves, "argument", hidden)
    args, kwargs = tree.unflatten(hosts)
    fn(*args, **kwargs)


def free_before(program: Program, read: int, written: int) -> bool:
    """Whether slot ``written`` may lie in the memory of slot ``read``.

    So it is when all reading steps come before the writing one, or when that is one elementwise
    kernel with a single result, which reads element i before it writes element i. No call of NumPy
    may follow: where it raises, nothing has been written.
    """
    reads: list[int] = []
    writes: list[int] = []
    for k, step in enumerate(program.steps):
        if isinstance(step, Call):
            if read in step.inputs or written in step.outputs or (writes and not step.view):
                return False
            continue
        used = {slot for slot, _ in step.arguments}
        reads += [k] * (read in used)
        writes += [k] * (written in used)
    if not writes or any(r > writes[0] for r in reads):
        return False
    if writes[0] not in reads:
        return True
    param, result = program.slots[read].node, program.slots[written].node
    step = program.steps[writes[0]]
    alone = not isinstance(step, Call) and len(step.group.outputs) == 1
    return alone and param is not None and result is not None and elementwise(param, result)


def device_executor(program: Program, device: Device, fastmath: bool) -> DeviceExecutor:
    """A program made ready for a device."""
    slots = slot_specs(program)
    steps: list[Any] = []
    for step in program.steps:
        if isinstance(step, Call):
            steps.append(CallSpec(step.function, step.inputs, step.outputs, step.view, step.name))
        else:
            steps.append((step.kernel, step.arguments))
    return DeviceExecutor(
        device, slots, steps, program.inputs, program.results, program.blocks, fastmath
    )
