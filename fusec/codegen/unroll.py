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

A long axis whose places are told apart by their remainder is written out over one period, and what
is left behind the last whole period stays a loop with branches. ``y[::2] = a; y[1::2] = b``::

    for i0 in range(start, stop):
        v0_0 = x0[i0]
        v1_1 = x1[i0]
        y0[i0 * 2] = v0_0
        y0[i0 * 2 + 1] = v1_1
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import reduce

import numpy as np

from fusec.codegen.loops import Block, Body, Fold, Line, Store, decided, simplified
from fusec.ops import OPS
from fusec.ops.elementwise import expression
from fusec.passes.access import Atom, Data, Extents, Index, Quotient, Remainder, divide, make, var

SHORT_KEPT = 4
SHORT_STACK = 16  # of a kept axis along which a branch decides: the branch goes
SHORT_TURN = 3  # of a reduced axis that is taken apart, at most
LONGEST_PERIOD = 16  # of places along a long axis that are told apart
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


def unroll_period(body: Body, name: str) -> int:
    """Write the loop over a long axis out over one period of its places; gives it, or 1."""
    period, size = _period(body, name), body.extents[name]
    if period == 1 or size < 2 * period or count(body.lines) * period > MOST_LINES:
        return 1
    body.extents[name] = size // period
    _Unrolling(body, name, period).run()
    return period


def unroll_turns(body: Body) -> None:
    """Axes whose places count turns of one length (``np.tile``) become a loop of loops."""
    if any(x.kind == "scan" for x in _everything(body.lines)):
        return
    least = SHORT_TURN if body.reduced else LONGEST_PERIOD
    for name in [v for v in body.extents if body.extents[v] > least]:
        atoms = [a for a in _atoms(body) if name in a.value.variables()]
        turns = {a.divisor for a in atoms if a.value == var(name)}
        size = body.extents[name]
        if len(turns) != 1 or any(a.value != var(name) for a in atoms):
            continue
        (turn,) = turns
        if least < turn < size and size % turn == 0:
            around = f"{name}_{turn}"
            body.extents = {around: size // turn, **body.extents, name: turn}
            pairs = [(around, v) if v == name else (v,) for v in body.reduced]
            body.reduced = tuple([v for pair in pairs for v in pair])
            _Turning(body, name, around).run()
            _depend(body.lines, name, around)


def _atoms(body: Body) -> Iterable[Quotient | Remainder]:
    """The quotients and remainders in places and limits."""
    for line in _everything(body.lines):
        indices = [b.index for b in line.guard] + [i for d in line.data for i in d.idx]
        for index in indices + ([] if line.index is None else [line.index]):
            yield from [a for a, _ in index.terms if isinstance(a, Quotient | Remainder)]


def _depend(lines: list[Line], name: str, around: str) -> None:
    """Say anew which loop variables each line depends on."""
    for line in lines:
        if line.kind == "fold":
            line.variables |= {around} if name in line.variables else set()
            continue
        found = set().union(*[a.variables for a in (*line.args, *line.data.values())])
        found |= line.index.variables() if line.index is not None else set()
        for block in line.blocks or ():
            _depend(block.lines, name, around)
            found |= set(block.value.variables).union(*[x.variables for x in block.lines])
        line.variables = frozenset(found.union(*[b.index.variables() for b in line.guard]))


def _period(body: Body, name: str) -> int:
    """After how many neighbours places that are told apart by a remainder repeat; 1: none are."""
    found = {1}
    for line in _everything(body.lines):
        found |= {b.step for b in line.guard if name in b.index.variables()}
        for atom, _ in line.index.terms if line.index is not None else ():
            if isinstance(atom, Quotient | Remainder) and name in atom.value.variables():
                found.add(atom.divisor)
    return math.lcm(*[n for n in found if n <= LONGEST_PERIOD])


class _Unrolling:
    """Replaces one loop variable by each of its values, or by each place in a period."""

    def __init__(self, body: Body, name: str, period: int = 0) -> None:
        self.body, self.name, self.period = body, name, period
        self.size = period or body.extents[name]
        self.copies: dict[Line, list[Line]] = {}
        self.lines: list[Line] = []

    def value(self, k: int) -> Index:
        """What stands for the variable in copy ``k``."""
        return Index(((self.name, self.period),) if self.period else (), k)

    def variables(self, line: Line) -> frozenset[str]:
        """What a copy of the line depends on."""
        return line.variables if self.period else line.variables - {self.name}

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
        if not self.period:
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

        value, extents = self.value(k), self.body.extents
        data = {_data(d, self.name, value, extents): at(x) for d, x in line.data.items()}
        new = replace(
            line,
            name=f"{line.name}_{k}" if line.name else "",
            args=tuple([at(a) for a in line.args]),
            variables=self.variables(line),
            index=None if line.index is None else fixed(line.index, self.name, value, extents),
            data=data,
        )
        if line.blocks is None:
            into.append(new)
            return new
        places = [fixed(b.index, self.name, value, extents) for b in line.guard]
        new.guard = [simplified(b, i, extents) for b, i in zip(line.guard, places)]
        side = decided(new.guard)
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
            result = replace(fold.result, name=name, variables=self.variables(fold.result))
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
            replace(
                store,
                index=fixed(store.index, self.name, self.value(k), self.body.extents),
                value=self._of(store.value, k, {}),
            )
            for k in (range(self.size) if moves else (0,))
        ]


class _Turning(_Unrolling):
    """One loop variable becomes two."""

    def __init__(self, body: Body, name: str, around: str) -> None:
        super().__init__(body, name, 1)
        self.around = around

    def value(self, k: int) -> Index:
        return make({self.around: self.body.extents[self.name], self.name: 1}, 0)

    def _fold(self, fold: Fold) -> None:
        axes = fold.axes | ({self.around} if self.name in fold.axes else set())
        self.lines.append(fold.result)
        self.body.folds.append(replace(fold, value=self._of(fold.value, 0, {}), axes=axes))


def _combined(values: list[Line], pair: Callable[[Line, Line], Line]) -> Line:
    if len(values) < PAIRWISE:
        return reduce(pair, values)
    half = len(values) // 2
    return pair(_combined(values[:half], pair), _combined(values[half:], pair))


def fixed(index: Index, name: str, value: Index, extents: Extents) -> Index:
    """An index with ``value`` for a loop variable; extents: of the variables in ``value``, too.

    >>> fixed(Index((("i0", 3), ("i1", 1)), 2), "i1", Index((), 4), {"i0": 5})
    Index(terms=(('i0', 3),), const=6)
    """
    found = Index((), index.const)
    for atom, c in index.terms:
        found = found.plus(_fixed_atom(atom, name, value, extents), c)
    return found


def _fixed_atom(atom: Atom, name: str, value: Index, extents: Extents) -> Index:
    if isinstance(atom, str):
        return value if atom == name else Index(((atom, 1),))
    if isinstance(atom, Data):
        return Index(((_data(atom, name, value, extents), 1),))
    inner = fixed(atom.value, name, value, extents)
    return divide(inner, atom.divisor, extents)[isinstance(atom, Remainder)]


def _data(data: Data, name: str, value: Index, extents: Extents) -> Data:
    return replace(data, idx=tuple([fixed(i, name, value, extents) for i in data.idx]))
