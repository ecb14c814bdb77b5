"""Cotangents of parts of an array, put together once all have arrived.

A loop that reads ``x[t]`` gives a cotangent of one row in each round. As arrays of zeros with a row
in them, added up, they would be as much work a round as there are rows. Those of one part are added
up by themselves, and those of parts that lie apart become one array at the end::

    g = zeros; g[2] = g2; g += zeros with g1 + h1 in row 1 ...

    g = concatenate([g0, g1 + h1, g2])
"""

from bisect import bisect, insort

from fusec.ir.aval import Aval
from fusec.ir.graph import Node
from fusec.ops.shape import Shape, c_strides
from fusec.trace.session import Session
from fusec.trace.table import zeros

Part = tuple[Shape, Shape, Shape]  # start, step, shape, as a slice has them


class Pieces:
    """What has arrived at parts of an array of ``aval`` that have no element in common.

    closed: whether what arrives now is added to the array itself.
    """

    def __init__(self, aval: Aval) -> None:
        self.aval, self.closed = aval, False
        self.found: dict[Part, Node] = {}
        lines = c_strides(aval.shape, 1), c_strides(aval.shape[::-1], 1)[::-1]
        self.orders = [(strides, list[tuple[int, int]]()) for strides in lines]

    def take(self, session: Session, part: Part, g: Node) -> bool:
        """Let a cotangent arrive; False where its part meets another one, or may do so."""
        before = self.found.get(part)
        if before is None and (self.closed or not self._apart(part)):
            return False
        self.found[part] = g if before is None else session.make("add", before, g)
        return True

    def _apart(self, part: Part) -> bool:
        """Whether a part, which is noted then, ends before others begin in C or Fortran order."""
        kept = []
        for strides, taken in self.orders:
            ends = [sorted((b, b + s * (n - 1))) for b, s, n in zip(*part)]
            span = tuple([sum(e[k] * s for e, s in zip(ends, strides)) for k in (0, 1)])
            at = bisect(taken, span)
            before = at == 0 or taken[at - 1][1] < span[0]
            if before and (at == len(taken) or span[1] < taken[at][0]):
                kept.append((strides, taken, span))
        if kept:
            self.orders = [(strides, taken) for strides, taken, _ in kept]
            for _, taken, span in kept:
                insort(taken, span)
        return bool(kept)

    def total(self, session: Session) -> Node:
        """All that has arrived, as an array."""
        axis = self._axis()
        if axis is not None:
            return self._rows(session, axis)
        whole = zeros(session, self.aval.shape, self.aval.dtype)
        for (start, step, _), g in self.found.items():
            whole = session.make("slice_update", whole, g, start=start, step=step)
        return whole

    def _axis(self) -> int | None:
        """The axis along which the pieces are most of the array's rows, if they are rows."""
        shape, sizes = self.aval.shape, [g.aval.size for g in self.found.values()]
        steps = [zip(range(len(shape)), *part[1:], shape) for part in self.found]
        axes = {k for step in steps for k, s, n, size in step if n != size or s != 1}
        plain = all(s == 1 or n == 1 for part in self.found for s, n in zip(*part[1:]))
        return axes.pop() if plain and len(axes) == 1 and 2 * sum(sizes) > self.aval.size else None

    def _rows(self, session: Session, axis: int) -> Node:
        """The pieces one after the other, with zeros where there is none."""
        rows, end = list[Node](), 0
        shape, places = self.aval.shape, {part[0][axis]: g for part, g in self.found.items()}
        for start, g in [*sorted(places.items()), (shape[axis], None)]:
            if start > end:
                gap = (*shape[:axis], start - end, *shape[axis + 1 :])
                rows.append(zeros(session, gap, self.aval.dtype))
            if g is not None:
                rows.append(g)
                end = start + g.shape[axis]
        return session.make("concatenate", *rows, axis=axis) if len(rows) > 1 else rows[0]
