"""Short axes become straight lines: the last axis of points ``(n, 3)`` is no loop.

A reduction over at most ``passes.groups.SHORT_REDUCED`` elements is written out, up to seven in
NumPy's order, more in pairs, and the loop that remains runs along a longer axis, where LLVM makes
vectors of it::

    for i1 in range(n_i1):
        v0 = x0[i1 * 3]
        v1 = x0[i1 * 3 + 1]
        v2 = x0[i1 * 3 + 2]
        t2 = ((v0 * v0) + (v1 * v1)) + (v2 * v2)

So is a kept axis of at most ``SHORT_KEPT`` elements that merges with no other: what does not
depend on it is computed once. Places that a branch asks for are then known, and the branch is gone
(``np.stack`` along the last axis).
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import reduce

import numpy as np

from fusec.codegen.loops import Block, Body, Bound, Fold, Line, Store
from fusec.ops import OPS
from fusec.ops.elementwise import expression
from fusec.passes.access import Atom, Data, Index, Quotient, Remainder

SHORT_KEPT = 4
SHORT_STACK = 16  # of a kept axis along which a branch decides: the branch goes
MOST_LINES = 400  # of the unrolled body
PAIRWISE = 8  # from this length on NumPy adds in pairs

PAIRS = {
    "sum": "add", "prod": "multiply", "max": "maximum", "min": "minimum", "fmax": "fmax",
    "fmin": "fmin", "any": "logical_or", "all": "logical_and",
}  # fmt: skip
"""The op that a reduction of two elements is."""


def count(lines: Iterable[Line]) -> int:
    """Scalar lines, those inside branches too."""
    return sum(1 + sum(count(b.lines) for b in x.blocks or ()) for x in lines)


def unroll_short(body: Body) -> None:
    """Write out the reductions over axes that the fusion pass found short."""
    for name in reversed(body.short):
        _Unrolling(body, name).run()
    if body.short:
        _restage(body)


def _restage(body: Body) -> None:
    """Count anew which folds have to be finished before each line."""
    folds = {f.result: f for f in body.folds}
    for line in _everything(body.lines):
        before = [*line.args, *[b.value for b in line.blocks or ()]]
        line.stage = max([x.stage for x in before], default=0)
        if line in folds:
            line.stage = folds[line].value.stage + 1


def unroll_kept(body: Body, name: str) -> bool:
    """Write the loop over a kept axis out when it is short; says whether it did."""
    size = body.extents[name]
    scans = any(x.kind == "scan" for x in body.lines)
    decides = any(name in b.index.variables() for x in _everything(body.lines) for b in x.guard)
    limit = SHORT_STACK if decides else SHORT_KEPT
    if scans or not 1 < size <= limit or count(body.lines) * size > MOST_LINES:
        return False
    _Unrolling(body, name).run()
    return True


def _everything(lines: Iterable[Line]) -> Iterable[Line]:
    for line in lines:
        for block in line.blocks or ():
            yield from _everything(block.lines)
        yield line


class _Unrolling:
    """Replaces one loop variable by each of its values."""

    def __init__(self, body: Body, name: str) -> None:
        self.body, self.name, self.size = body, name, body.extents[name]
        self.copies: dict[Line, list[Line]] = {}
        self.lines: list[Line] = []

    def run(self) -> None:
        """Change the body: its lines, folds, stores and axes."""
        body = self.body
        folds = {f.result: f for f in body.folds}
        body.folds = []
        for line in body.lines:
            if line in folds:
                self._fold(folds[line])
            elif self.name in line.variables:
                self.copies[line] = [self._copy(line, k, {}, self.lines) for k in range(self.size)]
            else:
                self.lines.append(self._mapped(line))
        body.lines = self.lines
        body.stores = [new for store in body.stores for new in self._stores(store)]
        body.reduced = tuple([v for v in body.reduced if v != self.name])
        body.extents = {v: n for v, n in body.extents.items() if v != self.name}

    def _mapped(self, line: Line) -> Line:
        """A line that does not depend on the variable, over the results that were replaced."""
        line.args = tuple([self._of(a, 0, {}) for a in line.args])
        line.data = {d: self._of(x, 0, {}) for d, x in line.data.items()}
        for block in line.blocks or ():
            block.lines = [self._mapped(x) for x in block.lines]
            block.value = self._of(block.value, 0, {})
        return line

    def _of(self, line: Line, k: int, local: dict[Line, Line]) -> Line:
        found = self.copies.get(line)
        return local.get(line, line) if found is None else found[k]

    def _copy(self, line: Line, k: int, local: dict[Line, Line], into: list[Line]) -> Line:
        """The line with the variable at ``k``, added to ``into``; local: copies inside a branch."""

        def at(other: Line) -> Line:
            return self._of(other, k, local)

        data = {_data(d, self.name, k): at(x) for d, x in line.data.items()}
        new = replace(
            line,
            name=f"{line.name}_{k}" if line.name else "",
            args=tuple([at(a) for a in line.args]),
            variables=line.variables - {self.name},
            index=None if line.index is None else fixed(line.index, self.name, k),
            data=data,
        )
        if line.blocks is None:
            into.append(new)
            return new
        new.guard = [replace(b, index=fixed(b.index, self.name, k)) for b in line.guard]
        side = _decided(new.guard)
        if side is not None:
            inner = dict(local)
            for x in line.blocks[side].lines:
                inner[x] = self._copy(x, k, inner, into)
            return self._of(line.blocks[side].value, k, inner)
        new.guard = [b for b in new.guard if b.index.terms]
        new.blocks = (self._block(line.blocks[0], k, local), self._block(line.blocks[1], k, local))
        into.append(new)
        return new

    def _block(self, block: Block, k: int, local: dict[Line, Line]) -> Block:
        inner, lines = dict(local), list[Line]()
        for x in block.lines:
            inner[x] = self._copy(x, k, inner, lines)
        return Block(lines, self._of(block.value, k, inner))

    def _fold(self, fold: Fold) -> None:
        if self.name in fold.axes:
            self._combine(fold)
            return
        moves = self.name in fold.result.variables
        made = []
        for k in range(self.size) if moves else (0,):
            name = f"{fold.result.name}_{k}" if moves else fold.result.name
            result = replace(fold.result, name=name, variables=fold.result.variables - {self.name})
            made.append(result)
            self.lines.append(result)
            value = self._of(fold.value, k, {})
            self.body.folds.append(replace(fold, value=value, result=result))
        self.copies[fold.result] = made if moves else made * self.size

    def _combine(self, fold: Fold) -> None:
        values = [self._of(fold.value, k, {}) for k in range(self.size)]
        total = _combined(values, lambda x, y: self._pair(fold, x, y))
        left = fold.axes - {self.name}
        if not left:
            self.copies[fold.result] = [total] * self.size
            return
        self.lines.append(fold.result)
        self.body.folds.append(replace(fold, value=total, axes=left))

    def _pair(self, fold: Fold, x: Line, y: Line) -> Line:
        op, dtype = OPS[PAIRS[fold.op]], fold.value.dtype
        to = np.dtype(bool) if fold.op in ("any", "all") else dtype
        text = expression(op, ("{0}", "{1}"), [dtype] * 2, to)
        assert text is not None, fold.op
        line = Line(f"{fold.result.name}_{self.name}_{len(self.lines)}", "op", dtype, text, (x, y),
                    x.variables | y.variables, max(x.stage, y.stage), op.cost)  # fmt: skip
        self.lines.append(line)
        return line

    def _stores(self, store: Store) -> list[Store]:
        moves = self.name in store.index.variables()
        return [
            Store(store.buffer, fixed(store.index, self.name, k), self._of(store.value, k, {}))
            for k in (range(self.size) if moves else (0,))
        ]


def _combined(values: list[Line], pair: Callable[[Line, Line], Line]) -> Line:
    if len(values) < PAIRWISE:
        return reduce(pair, values)
    half = len(values) // 2
    return pair(_combined(values[:half], pair), _combined(values[half:], pair))


def _decided(guard: list[Bound]) -> int | None:
    """The side that a branch takes, where its places are all known or one says no."""
    known = [b for b in guard if not b.index.terms]
    inside = [
        (b.low is None or b.index.const >= b.low)
        and (b.high is None or b.index.const < b.high)
        and b.index.const % b.step == 0
        for b in known
    ]
    if not all(inside):
        return 1
    return 0 if len(known) == len(guard) else None


def fixed(index: Index, name: str, k: int) -> Index:
    """An index with a loop variable at ``k``.

    >>> fixed(Index((("i0", 3), ("i1", 1)), 2), "i1", 4)
    Index(terms=(('i0', 3),), const=6)
    """
    found = Index((), index.const)
    for atom, c in index.terms:
        found = found.plus(_fixed_atom(atom, name, k), c)
    return found


def _fixed_atom(atom: Atom, name: str, k: int) -> Index:
    if isinstance(atom, str):
        return Index((), k) if atom == name else Index(((atom, 1),))
    if isinstance(atom, Data):
        return Index(((_data(atom, name, k), 1),))
    inner = fixed(atom.value, name, k)
    if not inner.terms:
        quotient = isinstance(atom, Quotient)
        return Index((), inner.const // atom.divisor if quotient else inner.const % atom.divisor)
    kind = Quotient if isinstance(atom, Quotient) else Remainder
    return Index(((kind(inner, atom.divisor), 1),))


def _data(data: Data, name: str, k: int) -> Data:
    return replace(data, idx=tuple([fixed(i, name, k) for i in data.idx]))
