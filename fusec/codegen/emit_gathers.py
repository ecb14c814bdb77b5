"""Loops that read at places which data choose: places are checked eight at a time.

Nearly always they are in bounds and not negative. Then one after the other is taken as it is, since
vectors of places would be taken apart for the reads, and what was read be put together. ``x[i]``::

    for g in range(start, stop - 7, 8):
        i0 = g
        if all_within(at(x0, i0), 8, d0):
            for k in range(8):
                i0 = g + k
                v0 = x0[i0]
                t0 = v0
                v1 = x1[t0]
                y0[i0] = v1
                copied_out(k)
        else:
            ...                          # the same with t0 = wrap_index(v0, d0)
    for i0 in range(stop - ((stop - start) & 7), stop):
        ...

The farthest one is found of places that are computed, or lie apart (``farther``). Where much is
computed of what is read, these loops only read and store it, for one with vectors.
"""

from collections.abc import Callable

from fusec.codegen.emit import loaded, stored
from fusec.codegen.emit_loop import LoopEmitter
from fusec.codegen.loops import Line, closure
from fusec.codegen.schedule import is_inner
from fusec.ops.registry import COSTLY

GROUP = 8  # places that are checked together
BLOCK = 256  # elements that are read before they are computed with
ROOM = 16 << 10  # bytes of what is read for a block, which stays in the L1 cache
MOST = 200  # lines of a group that are written out
LEAST = 32  # elements of a loop that is worth it
PLACES = {
    "wrap_index({0}, {1})": "index_bad({0}, {1})",
    "count_index({0}, {1})": "count_bad({0}, {1})",
}
"""Lines that make a place of a number, and those that report that it is none."""

Write = Callable[[str, str], None]
"""Writes a loop between two ends."""


class Gathers:
    """The lines of a loop that read at places which data choose for each element, and ``places``
    among them: those that follow from what is read in order, and so can be checked before."""

    def __init__(self, emitter: LoopEmitter) -> None:
        self.emitter, self.axis = emitter, emitter.vector_axis
        self.inner = [x for x in emitter.body.lines if is_inner(x, emitter.plan)]
        chosen = [x for x in self.inner if any(self.axis in a.variables for a in x.data.values())]
        self.loads = [x for x in chosen if x.kind == "load" and x not in emitter.known]
        data = [a for x in self.loads for a in x.data.values()]
        data += [a for x in emitter.body.stores for a in x.data.values()]
        self.places = [x for x in dict.fromkeys(data) if self._checkable(x)]
        wrapped = {(PLACES[x.text], x.args) for x in self.places}
        self.checks = [x for x in self.inner if x.effect and (x.text, x.args) in wrapped]
        most = max(min(GROUP // max(len(self.places), 1), MOST // max(len(self.inner), 1)), 1)
        self.group = 1 << (most.bit_length() - 1)

    def _checkable(self, line: Line) -> bool:
        if line.text not in PLACES or self.axis not in line.variables or line.args[1].variables:
            return False
        need = closure([line], {*self.emitter.known})
        plain = all(x.kind in ("op", "size", "index") or _in_order(x) for x in need)
        return plain and sum(x.cost for x in need) < COSTLY

    @property
    def cheap(self) -> bool:
        """Whether so little is computed of what is read that vectors are not worth it."""
        chosen = len(self.loads) + sum([bool(x.data) for x in self.emitter.body.stores])
        return sum(x.cost for x in self.inner if x.kind == "op") < COSTLY * chosen

    def write(self, first: str, last: str, element: Callable[[], None] | None, loop: Write) -> None:
        """Write a loop; element: what it does for one, if that is all; loop: it without this."""
        emitter, w = self.emitter, self.emitter.w
        if not self.places or emitter.body.extents[self.axis] < LEAST:
            loop(first, last)
        elif self.cheap and element is not None:
            self.groups(first, last, element)
        elif BLOCK * sum(x.dtype.itemsize for x in self.loads) > ROOM:
            loop(first, last)
        else:
            for x in self.loads:
                emitter.scratch(f"k_{x.name}", x.dtype, BLOCK)
            known = {x: loaded(x.dtype, f"k_{x.name}[{self.axis} - chunk]") for x in self.loads}
            with w.block(f"for chunk in range({first}, {last}, {BLOCK}):"):
                w(f"end = min(chunk + {BLOCK}, {last})")
                self.groups("chunk", "end", self._read)
                emitter.known |= known | dict.fromkeys(self.checks, "")
                loop("chunk", "end")
            for line in (*known, *self.checks):
                del emitter.known[line]

    def _read(self) -> None:
        self._lines([*self.loads, *self.checks])
        for x in self.loads:
            self.emitter.w(f"k_{x.name}[{self.axis} - chunk] = {stored(x.dtype, x.name)}")

    def groups(self, first: str, last: str, element: Callable[[], None]) -> None:
        """A loop over groups of elements, and one over those that are left."""
        emitter, w, axis, group = self.emitter, self.emitter.w, self.axis, self.group

        def each(what: Callable[[], None], end: str = "copied_out") -> None:
            if group == 1:
                what()
                return
            with w.block(f"for k in range({group}):"):
                w(f"{axis} = g + k")
                what()
                w(f"{end}(k)")

        emitter.lone = frozenset([x.args[0] for x in self.places])
        head = f"for g in range({first}, {last} - {group - 1}, {group}):"
        with w.block(head if group > 1 else f"for {axis} in range({first}, {last}):"):
            with w.block(f"if {' & '.join(self._tests(each))}:"):
                emitter.inside = frozenset([*self.places, *self.checks])
                each(element)
                emitter.inside = frozenset()
            with w.block("else:"):
                each(element, "one_by_one")
        if group > 1:
            count = f"({last} - {first})" if first != "0" else last
            with w.block(f"for {axis} in range({last} - ({count} & {group - 1}), {last}):"):
                element()
                w(f"one_by_one({axis})")
        emitter.lone = frozenset()

    def _tests(self, each: Callable[[Callable[[], None]], None]) -> list[str]:
        """Whether the places of a group are in bounds, and none is negative, as source."""
        emitter, tests, runs = self.emitter, list[str](), self._runs()
        done = [x for _, _, places in runs for x in places]
        others = [x for x in self.places if x not in done]
        names = {x.args[1]: f"far_{x.args[1].name}" for x in others}

        def note() -> None:
            self._lines([x.args[0] for x in others])
            for number, size in [x.args for x in others]:
                far = names[size]
                emitter.w(f"{far} = farther({far}, {emitter.read(number)})")

        for far in names.values():
            emitter.w(f"{far} = 0")
        if others:
            each(note)
        if self.group > 1 and runs:
            emitter.w(f"{self.axis} = g")
        for load, count, places in runs:
            assert load.buffer is not None and load.index is not None
            pointer, at = emitter.address(load.buffer, load.index)
            size = emitter.read(places[0].args[1])
            tests.append(f"all_within(at({pointer}, {at}), {count * self.group}, {size})")
        return [*tests, *[f"within({far}, {emitter.read(x)})" for x, far in names.items()]]

    def _runs(self) -> list[tuple[Line, int, list[Line]]]:
        """Places that lie one after the other in memory: the first, how many, for each element."""
        found: dict[object, list[tuple[int, Line, Line]]] = {}
        for place in self.places:
            number, size = place.args
            load = number.args[0] if number.text == "cast_i8({0})" else number
            if _in_order(load) and load.index is not None and load.dtype.kind in "iu":
                key = (load.buffer, load.index.terms, size)
                found.setdefault(key, []).append((load.index.const, load, place))
        runs = []
        for terms in found.values():
            consts, loads, places = zip(*sorted(terms, key=lambda x: x[0]))
            step = dict(loads[0].index.terms)[self.axis]
            if step == len(consts) == consts[-1] - consts[0] + 1:
                runs.append((loads[0], step, [*places]))
        return runs

    def _lines(self, targets: list[Line]) -> None:
        """What leads to these, for one element."""
        need = closure(targets, {*self.emitter.known})
        for line in self.inner:
            if line in need:
                self.emitter.line(line)


def _in_order(line: Line) -> bool:
    return line.kind == "load" and not line.data
