"""A program that runs again and again on what its last rounds gave, in memory of its own."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import cycle, islice
from math import lcm
from typing import Any

import numpy as np

from fusec.ir.aval import Aval
from fusec.runtime import native
from fusec.runtime.executor import Executor, KernelError, Native
from fusec.runtime.native_layout import STOPPED

PIECE_NS = 1e6  # of work between two looks of the interpreter
MOST_ROUNDS = 1024  # between two such looks
ROWS = 120  # rounds, about, whose places are known; then those of the first come again


class Repeated:
    """The rounds of a loop, called like a function.

    Each value that goes from round to round has an array for every round that it is kept, and one
    more where a round can't write it over the oldest: no round takes memory. So where everything
    lies in every round is known before any call. Where a round is one native program, native code
    does the rounds.

    rings: the arrays that a value goes through, from the newest to the spare one; ages: of the
    array of an old value, the output and how many rounds ago it was.
    """

    def __init__(
        self,
        executor: Executor,
        loop: Any,
        direct: Mapping[int, Any],
        avals: Sequence[Aval],
    ) -> None:
        """loop: an ``ops.control.Loop``; avals: of its arrays. direct: stores of the results that
        the program has there itself. Those behind the body's outputs are all of that kind."""
        self.executor, self.loop, self.direct, self.avals = executor, loop, direct, avals
        inputs, results, slots = executor.inputs, executor.results, executor.slots
        own = [slots[k].role == "result" and k not in results[:n] for n, k in enumerate(results)]
        self.ages = {k: (n, ago) for n, ks in enumerate(loop.carried) for ago, k in enumerate(ks)}
        self.rings = [[*olds] for olds in loop.carried] + [[] for _ in results[len(loop.carried) :]]
        self.spares: list[tuple[Any, Any]] = []
        self.placed: list[bool] = []  # whether the program computes an output where it belongs
        whole = {r.array: k for r, k in zip(loop.reads, inputs) if r.array >= 0 and r.part is None}
        for n, (slot, ring) in enumerate(zip(results, self.rings)):
            over = bool(ring) and slot == whole.get(ring[-1])  # it lies where its oldest did
            self.placed.append(own[n] or over or n in direct)
            if not over and n not in direct:
                ring.append(len(avals) + len(self.spares))
                self.spares.append((slots[slot].shape, slots[slot].dtype))
        self.copied = [True if k in loop.moving else None for k in range(len(avals))]
        self.streams = [read.stream for read in loop.reads]
        self.later = [s for s in loop.stores if all(s is not d for d in direct.values())]
        period = lcm(*[len(ring) for ring in self.rings if ring])
        self.rows = loop.rounds if loop.until is None else period * max(1, ROWS // period)
        alone = len(executor.runs) == 1 and type(executor.runs[0]) is Native
        self.native = alone and all(self.placed) and not self.later

    def __call__(self, *inputs: np.ndarray) -> tuple[Any, ...]:
        """The results, given the arrays as they are before the first round.

        Raises KernelError where a round reports an error.
        """
        memory: list[Any] = [
            np.array(a, order="C", copy=copy) for a, copy in zip(inputs, self.copied)
        ]
        memory += [native.empty(shape, dtype) for shape, dtype in self.spares]
        memory += self.streams
        until, run = self.loop.until, self._run if self.native else self._turns
        most = self.rows if until is None else inputs[until.most].item()
        rounds = run(memory, self.executor.memory(), most)
        return tuple([self._result(memory, rounds, *result) for result in self.loop.results])

    def _result(self, memory: list[Any], rounds: int, kind: str, k: int) -> Any:
        if kind == "turns":
            until = self.loop.until
            found = {n: self._result(memory, rounds, "output", n) for n, _ in until.each}
            return np.array(until.looks(rounds, found))
        n, ago = (k, 0) if kind == "output" else self.ages.get(k, (-1, 0))
        if n in self.direct:
            store = self.direct[n]
            part = np.array(memory[store.array][store.part.at(-1)], order="C")
            return part.reshape(self.loop.body.outputs[n].shape)
        ring = self.rings[n] if n >= 0 else [k]
        return memory[ring[(ago - rounds) % len(ring)]]

    # -- where everything lies: (number in memory, offset in bytes) for each round ---------------

    @cached_property
    def _table(self) -> np.ndarray:
        """Rounds x columns x 2; columns: params, outputs and stores, or what native code takes."""
        reads, executor = self.loop.reads, self.executor
        first = len(self.avals) + len(self.spares)
        columns = [self._read(read, first + i) for i, read in enumerate(reads)]
        columns += [self._made(n) for n in range(len(self.rings))]
        columns += [self._within(store) for store in self.later]
        if self.native:
            known = dict(zip([*executor.inputs, *executor.results], columns))
            fixed = {k: first + len(reads) + i for i, k in enumerate(executor.runs[0].used)}
            columns = [known[k] if k in known else self._places([fixed[k]]) for k in fixed]
        return np.stack(columns, axis=1)

    def _places(self, ring: Sequence[int], ago: int = 0) -> np.ndarray:
        """Where a value of some rounds ago lies that goes through these arrays."""
        numbers = np.array(ring)[(ago - np.arange(self.rows)) % len(ring)]
        return np.stack([numbers, np.zeros_like(numbers)], axis=1)

    def _made(self, n: int) -> np.ndarray:
        return self._within(self.direct[n]) if n in self.direct else self._places(self.rings[n], -1)

    def _read(self, read: Any, stream: int) -> np.ndarray:
        """Where a param is; ``stream``: the number of its own array."""
        if read.stream is not None:
            found = self._places([stream])
            found[:, 1] = np.arange(len(found)) * read.stream.strides[0]
            return found
        if read.each:
            return self._places(read.each[::-1], -1)
        return self._old(read.array) if read.part is None else self._within(read)

    def _old(self, k: int) -> np.ndarray:
        """Where one of the loop's arrays is."""
        n, ago = self.ages.get(k, (-1, 0))
        if n in self.direct:
            return np.concatenate([[(k, 0)], self._made(n)[:-1]])
        return self._places(self.rings[n] if n >= 0 else [k], ago)

    def _within(self, of: Any) -> np.ndarray:
        """Where a part of an array is that is read or stored."""
        found, aval = self._old(of.array), self.avals[of.array]
        found[:, 1] += of.part.offsets(aval.shape, aval.dtype.itemsize)
        return found

    # -- rounds ---------------------------------------------------------------------------------

    def _run(self, memory: list[Any], values: list[Any], most: int) -> int:
        """All rounds, in native code; how many there were."""
        (native,), (address, size, piece, watched, going) = self.executor.runs, self._native
        memory += [values[k] for k in native.used]
        start = 0
        while start < most:
            row = start % self.rows
            count = min(piece, most - start, self.rows - row)
            status = native.rounds(address + row * size, count, watched, going, *memory)
            if status >= STOPPED:
                return start + status // STOPPED
            if status:
                raise KernelError
            start += count
        return most

    @cached_property
    def _native(self) -> tuple[int, int, int, int, int]:
        """Where the table is, bytes in a row, rounds in a piece, what is watched, and for what."""
        (native,), table, until = self.executor.runs, self._table, self.loop.until
        piece, watched = int(min(max(PIECE_NS // max(native.work, 1), 1), MOST_ROUNDS)), -1
        if until is not None:
            watched = native.used.index(self.executor.results[until.output])
        going = until is not None and until.going
        return table.ctypes.data, table.strides[0], piece, watched, int(going)

    def _turns(self, memory: list[Any], values: list[Any], most: int) -> int:
        """As ``_run``, one by one."""
        executor, made = self.executor, len(self.executor.inputs)
        slots, placed = [*executor.inputs, *executor.results], [True] * made + self.placed
        specs = [executor.slots[k] for k in slots]
        views = [(s.shape, s.dtype, s.strides if p else None) for s, p in zip(specs, placed)]
        for store in self.later:
            array = memory[store.array]
            strides = store.part.strides(array.shape, array.itemsize)
            views.append((store.part.shape, array.dtype, strides))
        for turn, row in enumerate(islice(cycle(self._table), most), 1):
            found = [
                np.ndarray(shape, dtype, memory[k], offset, strides)
                for (shape, dtype, strides), (k, offset) in zip(views, row.tolist())
            ]
            for slot, array, there in zip(slots, found, placed):
                if there:
                    values[slot] = array
            executor.step(values)
            for slot, array, there in zip(slots, found, placed):
                if not there:
                    array[...] = values[slot]
            for store, part in zip(self.later, found[len(slots) :]):
                part[...] = found[made + store.output].reshape(part.shape)
            until = self.loop.until
            if until is not None and bool(found[made + until.output]) is not until.going:
                return turn
        return most
