"""A program that runs again and again on what its last rounds gave, in memory of its own."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from fusec.runtime.executor import Executor, KernelError, Native

PIECE_NS = 1e6  # of work between two looks of the interpreter
MOST_ROUNDS = 1024  # of one table of addresses


class LoopLike(Protocol):
    """What is repeated; ``ops.control.Loop`` says what each means."""

    @property
    def rounds(self) -> int: ...

    @property
    def reads(self) -> Sequence[Any]: ...

    @property
    def carried(self) -> tuple[tuple[int, ...], ...]: ...

    @property
    def stores(self) -> Sequence[Any]: ...

    @property
    def results(self) -> tuple[tuple[str, int], ...]: ...

    @property
    def moving(self) -> frozenset[int]: ...

    def params(self, arrays: Sequence[Any], turn: int) -> list[Any]: ...

    def turn(self, arrays: list[Any], given: Sequence[Any], turn: int) -> None: ...

    def last(self, arrays: Sequence[Any], given: Sequence[Any]) -> tuple[Any, ...]: ...


class Repeated:
    """The rounds of a loop, called like a function.

    Each value that goes from round to round has an array for every round that it is kept, and one
    more where a round can't write it over the oldest: no round takes memory. Where a round is one
    native program, the addresses of all its arrays in all rounds are known beforehand: they make a
    table, and native code does the rounds.
    """

    def __init__(
        self, executor: Executor, loop: LoopLike, direct: Mapping[int, tuple[Any, int | None]]
    ) -> None:
        """direct: the outputs that may be computed where they are stored: the store of each, and
        the number of the read of the part that it changes, which it has to be written over."""
        self.executor, self.loop, self.direct = executor, loop, direct
        self.inputs, self.results = executor.inputs, executor.results
        places = {read.array: slot for read, slot in zip(loop.reads, self.inputs)
                  if read.array >= 0 and not read.parts}  # fmt: skip
        self.over = [  # whether a new value lies where its oldest did
            bool(olds) and slot == places.get(olds[-1])
            for slot, olds in zip(self.results, loop.carried)
        ]
        self.own = [
            executor.slots[slot].role == "result" and self.results.index(slot) == n
            for n, slot in enumerate(self.results)
        ]
        self.direct = {
            n: store
            for n, (store, old) in direct.items()
            if (self.own[n] if old is None else self.results[n] == self.inputs[old])
        }
        known = all(self.own[n] or self.over[n] or n in self.direct for n in range(len(self.own)))
        alone = len(executor.runs) == 1 and type(executor.runs[0]) is Native
        self.native = known and alone and len(self.direct) == len(loop.stores)
        self._offsets: dict[int, np.ndarray] = {}

    def __call__(self, *inputs: np.ndarray) -> tuple[Any, ...]:
        """The results, given the arrays as they are before the first round.

        Raises KernelError where a round reports an error.
        """
        moving = self.loop.moving
        arrays = [
            np.array(a, order="C", copy=True if k in moving else None)
            for k, a in enumerate(inputs)
        ]
        spare = [self._spare(n) for n in range(len(self.results))]
        run = _Table(self, arrays, spare).run if self.native else _Turns(self, arrays, spare).run
        return tuple([np.array(x) if x.base is not None else x for x in run()])

    def _spare(self, n: int) -> np.ndarray | None:
        spec = self.executor.slots[self.results[n]]
        return None if self.over[n] or n in self.direct else np.empty(spec.shape, spec.dtype)

    def offsets(self, parts: Sequence[tuple[slice, ...]], array: np.ndarray) -> np.ndarray:
        """Where parts of an array begin, in bytes from its first element."""
        if id(parts) not in self._offsets:
            starts = np.fromiter((s.start for part in parts for s in part), np.int64)
            starts = starts.reshape(len(parts), array.ndim)
            self._offsets[id(parts)] = starts @ np.array(array.strides, np.int64)
        return self._offsets[id(parts)]


class _Turns:
    """Rounds that Python does, one by one."""

    def __init__(self, whole: Repeated, arrays: list[Any], spare: list[Any]) -> None:
        self.whole, self.arrays, self.spare, self.loop = whole, arrays, spare, whole.loop
        self.values = whole.executor.memory()

    def run(self) -> tuple[Any, ...]:
        loop, values, results = self.loop, self.values, range(len(self.spare))
        given: list[Any] = []
        for turn in range(loop.rounds):
            for slot, array in zip(self.whole.inputs, loop.params(self.arrays, turn)):
                values[slot] = array
            for n in results:
                self._place(n, turn)
            self.whole.executor.step(values)
            given = [self._kept(n) for n in results]
            loop.turn(self.arrays, given, turn)
        return loop.last(self.arrays, given)

    def _place(self, n: int, turn: int) -> None:
        """Where a round writes an output."""
        slot = self.whole.results[n]
        if n in self.whole.direct:
            store = self.whole.direct[n]
            part = self.arrays[store.array][store.parts[turn]]
            self.values[slot] = part.reshape(self.whole.executor.slots[slot].shape)
        elif self.whole.own[n]:
            self.values[slot] = self.spare[n]

    def _kept(self, n: int) -> np.ndarray:
        """What a round gave, in an array that is the value's own; its oldest one gets free."""
        oldest, value = self.loop.carried[n][-1:], self.spare[n]
        given: np.ndarray = self.values[self.whole.results[n]]
        if n in self.whole.direct:
            return given
        if value is None:
            return self.arrays[oldest[0]]  # type: ignore[no-any-return]
        if not self.whole.own[n]:
            value[...] = given
        for k in oldest:
            self.spare[n] = self.arrays[k]
        return value  # type: ignore[no-any-return]


class _Table:
    """Where every array of every round lies.

    rings: arrays that a value goes through in turn, from the newest to the spare one; places: of
    the array of an old value, the output and how many rounds ago it was.
    """

    def __init__(self, whole: Repeated, arrays: list[Any], spare: list[Any]) -> None:
        self.whole, self.arrays, self.loop = whole, arrays, whole.loop
        self.turns = np.arange(self.loop.rounds)
        self.kept: list[np.ndarray] = []  # numbers that differ from round to round, side by side
        self.rings = [
            [arrays[k] for k in olds] + ([own] if own is not None else [])
            for olds, own in zip(self.loop.carried, spare)
        ]
        self.places = {
            k: (n, ago) for n, olds in enumerate(self.loop.carried) for ago, k in enumerate(olds)
        }

    def run(self) -> tuple[Any, ...]:
        executor, whole = self.whole.executor, self.whole
        values, (native,) = executor.memory(), executor.runs
        columns = {slot: self._read(read) for slot, read in zip(whole.inputs, self.loop.reads)}
        columns |= {slot: self._made(n) for n, slot in enumerate(whole.results)}
        count, width = len(self.turns), len(native.used)
        table = np.empty((count, width), np.int64)
        for k, slot in enumerate(native.used):
            table[:, k] = columns[slot] if slot in columns else _address(values[slot])
        piece = int(min(max(PIECE_NS // max(native.work, 1), 1), MOST_ROUNDS))
        for start in range(0, count, piece):
            if native.rounds(_address(table[start:]), min(piece, count - start)):
                raise KernelError
        return tuple([self._last(kind, k) for kind, k in self.loop.results])

    def _read(self, read: Any) -> Any:
        """The addresses of a param."""
        stream = read.stream
        if read.each:
            stream = np.stack([self.arrays[k] for k in read.each])
            self.kept.append(stream)
        if stream is not None:
            return _address(stream) + self.turns * stream.strides[0]
        begin, whole = self._old(read.array), self.arrays[read.array]
        return begin + self.whole.offsets(read.parts, whole) if read.parts else begin

    def _old(self, k: int) -> Any:
        """The addresses of one of the loop's arrays."""
        if k not in self.places:
            return _address(self.arrays[k])
        n, ago = self.places[k]
        if n in self.whole.direct:
            return np.append(_address(self.arrays[k]), self._made(n)[:-1])
        return _addresses(self.rings[n])[(ago - self.turns) % len(self.rings[n])]

    def _made(self, n: int) -> Any:
        """The addresses of an output."""
        if n in self.whole.direct:
            store = self.whole.direct[n]
            array = self.arrays[store.array]
            return _address(array) + self.whole.offsets(store.parts, array)
        return _addresses(self.rings[n])[(-1 - self.turns) % len(self.rings[n])]

    def _last(self, kind: str, k: int) -> Any:
        n, ago = (k, -1) if kind == "output" else self.places.get(k, (-1, 0))
        if n in self.whole.direct:
            store, slot = self.whole.direct[n], self.whole.results[n]
            part = self.arrays[store.array][store.parts[-1]]
            return part.reshape(self.whole.executor.slots[slot].shape)
        if n < 0:
            return self.arrays[k]
        return self.rings[n][(max(ago, 0) - len(self.turns)) % len(self.rings[n])]


def _address(array: np.ndarray) -> int:
    return array.ctypes.data


def _addresses(arrays: Sequence[np.ndarray]) -> np.ndarray:
    return np.array([_address(a) for a in arrays], np.int64)
