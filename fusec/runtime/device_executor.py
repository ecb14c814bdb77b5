"""Runs a program on a device: kernels on one stream, NumPy's calls on the host in between.

Inputs, results and temporaries are ``Array``s. A call that has no kernel copies its arguments to
the host, runs NumPy and copies its result back, which is counted as hidden transfers. A program
that is kernels alone, run again over the same addresses, is captured once and replayed.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np

from fusec.config import log
from fusec.errors import DeviceError
from fusec.runtime.array import Array, empty, extent, overwrite, shadow, upload
from fusec.runtime.device import SPARED, Buffer, Device, Spare, Stream
from fusec.runtime.executor import CallSpec, SlotSpec

ALIGNMENT = 256  # bytes; of temporaries, one memory transaction
SCALAR = 16  # bytes kept for a number
MAX_REPLAYS = 8  # captured address patterns of one program
_ADVICE = "a step has no kernel and NumPy runs it on the host; f.lower(...).explain() says which"


class Check:
    """A run whose kernels may have reported an error. ``retry`` raises what NumPy raises."""

    def __init__(self, executor: DeviceExecutor, stream: Stream, retry: Callable[[], None]) -> None:
        self.executor, self.stream = executor, stream
        self.retry: Callable[[], None] | None = retry
        self.error: BaseException | None = None
        self.judging = threading.RLock()

    def settle(self) -> None:
        """Read the status word, if that was not done since the run."""
        if self.retry is not None:
            self.executor.settle(self.stream)

    def resolve(self) -> None:
        """Raise the run's error, if it had one."""
        self.settle()
        self.executor.device.forget(self)
        with self.judging:
            error = self.error
        if error is not None:
            raise error

    def judge(self) -> None:
        """Run what may have failed in NumPy, which raises if it was this run."""
        retry, self.retry = self.retry, None
        try:
            if retry is not None:
                retry()
        except BaseException as error:
            self.error = error


class DeviceExecutor:
    """A program made ready for one device; any thread may run it.

    slots, inputs, results, blocks: as for ``Executor``. steps: a ``CallSpec``, or a kernel with
    its pointers as (slot, byte offset).
    """

    def __init__(
        self,
        device: Device,
        slots: Sequence[SlotSpec],
        steps: Sequence[CallSpec | tuple[Any, list[tuple[int, int]]]],
        inputs: Sequence[int],
        results: Sequence[int],
        blocks: Sequence[int],
        fastmath: bool = False,
    ) -> None:
        self.device, self.slots = device, list(slots)
        self.inputs, self.results = list(inputs), list(results)
        self.lock = threading.RLock()
        self.steps: list[Any] = [
            s if isinstance(s, CallSpec) else (device.prepare(s[0], fastmath), s[1]) for s in steps
        ]
        blocks = self._with_workspace(blocks)
        kernels = [s[0] for s in steps if not isinstance(s, CallSpec)]
        self.raises = any("status |=" in kernel.text for kernel in kernels)
        self.pending: list[Check] = []
        self.sent: tuple[bytes, Buffer] | None = None  # the numbers of the last run
        self.fresh = sorted({k for k in self.results if self.slots[k].role == "result"})
        self.extents = {k: extent(s.shape, s.strides, s.dtype) for k, s in enumerate(self.slots)}
        self.places, self.arena_bytes = self._lay_out(blocks)
        self.replayable = device.replays and len(steps) > 1 and len(kernels) == len(steps)
        self.replays: OrderedDict[Any, Any] = OrderedDict()
        small = [k for k in self.fresh if self.replayable and self.extents[k][1] <= SPARED]
        self.spares = {k: Spare(device) for k in small}
        stream = device.default_stream
        self.status = device.allocate(8, stream)
        device._zero(self.status, stream)
        self.constants = {
            k: upload(device, s.value, "constant")
            for k, s in enumerate(slots)
            if s.value is not None
        }

    def _with_workspace(self, blocks: Sequence[int]) -> Sequence[int]:
        """Give the steps that are a library's one more temporary, the memory it works in."""
        needs = {k: getattr(s[0], "workspace", 0) for k, s in enumerate(self.steps)
                 if not isinstance(s, CallSpec)}  # fmt: skip
        room, number = max(needs.values(), default=0), len(self.slots)
        if not room:
            return blocks
        self.slots.append(SlotSpec("temp", np.dtype("u1"), (room,), (1,), None, len(blocks)))
        for k in [k for k, need in needs.items() if need]:
            launcher, pointers = self.steps[k]
            self.steps[k] = launcher, [*pointers, (number, 0)]
        return [*blocks, room]

    def _lay_out(self, blocks: Sequence[int]) -> tuple[dict[int, int], int]:
        """Where temporaries lie in one allocation, and its size."""
        starts, total = [], 0
        for nbytes in blocks:
            starts.append(total)
            total += -(-nbytes // ALIGNMENT) * ALIGNMENT
        places = {k: starts[s.block] for k, s in enumerate(self.slots) if s.block >= 0}
        return places, total

    # -- a run ----------------------------------------------------------------------------------

    def run(
        self, inputs: Sequence[Array | np.ndarray], stream: Stream, into: dict[int, Array]
    ) -> list[Array]:
        """Run on one value per input: arrays of the device, or NumPy's for numbers.

        into: slot -> memory that a result goes to, laid out as the slot. Returns an array per
        result, each with memory of its own.
        """
        self.device.enter()
        values: dict[int, Array] = dict(self.constants)
        hosts: dict[int, Any] = {}
        for slot, value in zip(self.inputs, inputs):
            if isinstance(value, Array):
                values[slot] = value
                value.buffer.reading(stream)
            else:
                hosts[slot] = value
        for slot in self.fresh:
            spec = self.slots[slot]
            made = into.get(slot)
            if made is None:
                low, span = self.extents[slot]
                buffer = self.device.allocate(span, stream, self.spares.get(slot))
                made = Array(buffer, -low, spec.shape, spec.dtype, spec.strides)
            else:
                made.buffer.writing(stream)
            values[slot] = made
        with self.lock:
            values |= self._numbers(hosts, stream)
            if self.raises:
                self.status.writing(stream)
            if self.replayable:
                self._replay(values, stream)
            else:
                self._run_steps(values, hosts, None, stream)
        return [
            values[k] if k not in self.results[:n] else self._again(values[k], stream)
            for n, k in enumerate(self.results)
        ]

    def _again(self, array: Array, stream: Stream) -> Array:
        """One value that is two results is two arrays."""
        made = empty(self.device, array.shape, array.dtype, array.strides, stream)
        overwrite(made, array, stream)
        return made

    def _numbers(self, hosts: dict[int, Any], stream: Stream) -> dict[int, Array]:
        """The numbers among the inputs on the device, sent in one copy when they changed."""
        if not hosts:
            return {}
        content = b"".join([value.tobytes() for value in hosts.values()])
        if self.sent is None or self.sent[0] != content:
            packed = np.zeros(SCALAR * len(hosts), np.uint8)
            for at, value in enumerate(hosts.values()):
                end = SCALAR * at + value.nbytes
                packed[SCALAR * at : end] = value.reshape(1).view(np.uint8)
            if self.sent is None or not self.replayable:
                self.sent = (content, self.device.allocate(packed.nbytes, stream))
            buffer = self.sent[1]  # replayed kernels read it, so it stays where it is
            buffer.writing(stream)
            self.device._upload((buffer, 0), packed, stream)
            self.sent = (content, buffer)
        buffer = self.sent[1]
        buffer.reading(stream)
        return {
            slot: Array(buffer, SCALAR * at, (), self.slots[slot].dtype, ())
            for at, slot in enumerate(hosts)
        }

    def _temporaries(self, arena: Buffer) -> dict[int, Array]:
        found = {}
        for slot, at in self.places.items():
            spec = self.slots[slot]
            found[slot] = Array(arena, at, spec.shape, spec.dtype, spec.strides)
        return found

    def _run_steps(
        self, values: dict[int, Array], hosts: dict[int, Any], arena: Buffer | None, stream: Stream
    ) -> None:
        """values, hosts: what is on the device and what on the host, by slot."""
        if arena is None and self.arena_bytes:
            arena = self.device.allocate(self.arena_bytes, stream)
        if arena is not None:
            values |= self._temporaries(arena)
        for step in self.steps:
            if isinstance(step, CallSpec):
                self._call(step, values, hosts)
                continue
            launcher, pointers = step
            places = []
            for slot, offset in pointers:
                array = self._on_device(values, hosts, slot)
                places.append((array.buffer, array.offset + offset))
            launcher(places, self.status, stream)
        for slot in self.results:
            self._on_device(values, hosts, slot)

    def _replay(self, values: dict[int, Array], stream: Stream) -> None:
        """Run kernels alone: the second time over one set of addresses captures them."""
        key = tuple([a.buffer.address + a.offset for a in values.values()])
        known = self.replays.get(key)
        if known is None:
            self._run_steps(values, {}, None, stream)
            self.replays[key] = ()
            if len(self.replays) > MAX_REPLAYS:
                self.replays.popitem(last=False)
            return
        self.replays.move_to_end(key)
        if not known:
            arena = self.device.allocate(self.arena_bytes, stream)
            try:
                work = self.device.capture(lambda on: self._run_steps(dict(values), {}, arena, on))
            except DeviceError as error:
                log("launch", "not captured: %s", error)
                self.replayable = False
                self._run_steps(values, {}, arena, stream)
                return
            known = self.replays[key] = (arena, work)
        arena, work = known
        arena.writing(stream)
        work(stream)

    # -- calls on the host ----------------------------------------------------------------------

    def _call(self, step: CallSpec, values: dict[int, Array], hosts: dict[int, Any]) -> None:
        (out,) = step.outputs
        first = values.get(step.inputs[0]) if step.view else None
        if first is not None:
            of = first.like
            viewed = first.view_as(np.asarray(step.function(of)), of)
            if viewed is not None:
                values[out] = viewed
                return
        arrays = [self._on_host(values, hosts, k, step.name) for k in step.inputs]
        result = step.function(*arrays)
        hosts[out] = result if isinstance(result, tuple) else np.asarray(result)

    def _on_host(
        self, values: dict[int, Array], hosts: dict[int, Any], slot: int, name: str
    ) -> Any:
        if slot not in hosts:
            hosts[slot] = values[slot]._to_host(f"argument of {name}", _ADVICE)
        return hosts[slot]

    def _on_device(self, values: dict[int, Array], hosts: dict[int, Any], slot: int) -> Array:
        if slot not in values:
            spec = self.slots[slot]
            host = np.empty_like(shadow(spec.shape, spec.dtype, spec.strides))
            host[...] = hosts[slot]
            values[slot] = upload(self.device, host, "result of a NumPy call", _ADVICE)
        return values[slot]

    # -- errors ---------------------------------------------------------------------------------

    def watch(self, stream: Stream, retry: Callable[[], None]) -> Check:
        """Remember the run that was just submitted."""
        check = Check(self, stream, retry)
        with self.lock:
            self.pending.append(check)
        self.device.owes(check)
        return check

    def settle(self, stream: Stream) -> None:
        """Read the status word and tell all runs since the last time.

        Runs are judged outside of our lock: NumPy may ask other executors on the way. Who wants a
        verdict waits for the run's own lock, and runs depend on earlier ones only.
        """
        with ExitStack() as judging:
            checks = self._suspects(stream, judging)
            for check in checks:
                check.judge()
            if checks and not any(check.error for check in checks):
                for check in checks:
                    check.error = DeviceError("a kernel reported an error that NumPy does not find")

    def _suspects(self, stream: Stream, judging: ExitStack) -> list[Check]:
        """The runs since the last time, with their locks held, when one of them failed."""
        with self.lock:
            checks, self.pending = self.pending, []
            word = np.zeros(8, np.uint8)
            self.status.reading(stream)
            self.device._download(word, (self.status, 0), stream)
            self.device._sync(stream)
            if not word.any():
                for check in checks:
                    check.retry = None
                return []
            self.status.writing(stream)
            self.device._zero(self.status, stream)
            for check in checks:
                judging.enter_context(check.judging)
            return checks
