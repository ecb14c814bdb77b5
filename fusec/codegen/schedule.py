"""Decides the loops of a kernel: their order, which merge, which axis is vectorised, what is kept.

The choice depends on strides only through what can be merged and which axis is contiguous, so all
sizes of one layout share a kernel.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from fusec.codegen.loops import TURN, Body, Bound, Line, Store, closure, operands, ordered
from fusec.codegen.unroll import unroll_kept, unroll_period, unroll_short
from fusec.ir.aval import short
from fusec.ops.registry import COSTLY, MEDIUM
from fusec.passes.access import Index, Quotient, Remainder, make, var

SMALL = 16  # shorter axes are not worth a tile
SHORT_ROW = 256  # elements of rows that may be one long row in spite of a branch between them
SHORT_AXIS = 4  # a contiguous axis shorter than this is no axis to vectorise along
CHAIN = 16  # operations, each of which waits for the one before, that a processor can't hide
VALUES = 48  # of all vectors that take turns: somewhat more than there are registers
FEW_TERMS = 64  # of a reduction whose values may be kept for a strip of columns


@dataclass
class Schedule:
    """The loops of one kernel.

    outer: kept variables that make up the rows, slowest first; reduced: variables of the inner
    loops, in logical order; column: the kept variable that is vectorised, or "" when the reduced
    ones are; stages: how many loops over the reduced axes there are; saved: values that a later
    stage reads back from scratch instead of computing them again; period: how many elements an
    element of the inner loop stands for; rest: the loops for those behind the last whole period.
    """

    body: Body
    outer: list[str]
    reduced: list[str]
    column: str = ""
    stages: int = 1
    saved: list[Line] = field(default_factory=list)
    period: int = 1
    rest: "Schedule | None" = None


def schedule(body: Body) -> Schedule:
    """Order and merge the loops of ``body`` (which is changed) and choose the vector axis."""
    unroll_short(body)
    loops = [v for v in body.extents if v != TURN and body.extents[v] != 1]
    kept = [v for v in loops if v not in body.reduced]
    reduced = [v for v in body.reduced if body.extents[v] != 1] or list(body.reduced[-1:])
    kept = _order(body, kept)
    pinned = _pinned(body)
    kept = _merge(body, kept, pinned)
    if not any(map(ordered, body.folds)) and all(x.kind != "scan" for x in body.lines):
        reduced = _order(body, reduced)
    reduced = _merge(body, reduced, pinned)
    if kept and len(kept) + len(reduced) > 1 and unroll_kept(body, kept[-1]):
        kept.pop()
    plan = Schedule(body, kept, reduced)
    if reduced:
        column = _column(body, kept, reduced[-1]) or _crossed(body, kept, reduced)
        if column:
            plan.outer = [v for v in kept if v != column]
            plan.column = column
    elif kept:
        plan.reduced, plan.outer = kept[-1:], kept[:-1]
    plan.stages = 1 + max(
        [s.value.stage for s in body.stores]
        + [f.value.stage for f in body.folds]
        + [x.stage for x in body.lines if x.effect]
    )
    plan.saved = _saved(plan)
    return plan


def in_periods(plan: Schedule) -> Schedule:
    """A map whose inner loop is written out over a period, where its places repeat."""
    if not plan.reduced:
        return plan
    body = plan.body
    before = replace(
        body, lines=[*body.lines], stores=[*body.stores], extents={**body.extents}
    )
    period = unroll_period(body, plan.reduced[0])
    return replace(plan, period=period, rest=replace(plan, body=before) if period > 1 else None)


def schedule_scatter(body: Body) -> Schedule:
    """The loops of additions at places that data choose; the order along ``reduced`` stays.

    The loop along rows that are added whole is the vectorised one.
    """
    (store,) = body.stores
    kept = [v for v in body.extents if v not in body.reduced and body.extents[v] != 1]
    kept.sort(key=lambda v: -abs(_coefficient(store.index, v)))
    pinned = _pinned(body)
    kept = _merge(body, kept, pinned)
    reduced = _merge(body, [v for v in body.reduced if body.extents[v] != 1], pinned)
    column = kept[-1] if kept and _coefficient(store.index, kept[-1]) == 1 else ""
    return Schedule(body, [v for v in kept if v != column], reduced, column)


def all_lines(body: Body) -> Iterator[Line]:
    """Every line, those inside branches too."""
    stack = list(body.lines)
    while stack:
        line = stack.pop()
        yield line
        for block in line.blocks or ():
            stack += block.lines


def memory(body: Body) -> list[Index]:
    """Where all loads and stores go."""
    lines = [x.index for x in all_lines(body) if x.kind == "load" and x.index is not None]
    return [s.index for s in body.stores] + lines


def _coefficient(index: Index, name: str) -> int:
    return dict(index.terms).get(name, 0)


def _order(body: Body, kept: list[str]) -> list[str]:
    """Slowest first, by the largest store; else by the largest load."""
    places = memory(body)
    if not places:
        return kept
    main = max(places, key=lambda i: len(i.variables()))
    return sorted(kept, key=lambda v: (_coefficient(main, v) != 0, -abs(_coefficient(main, v))))


def _pinned(body: Body) -> set[str]:
    """Variables that are used as numbers, not only in addresses: these loops stay apart."""
    pinned: set[str] = set()
    for line in all_lines(body):
        if line.kind == "index" and line.index is not None:
            pinned |= line.index.variables()
        for bound in line.guard:
            pinned |= bound.index.variables() if not _edge(bound) else set()
    for place in memory(body):
        for atom, _ in place.terms:
            if isinstance(atom, Quotient | Remainder):
                pinned |= atom.value.variables()
    return pinned


def _edge(bound: Bound) -> bool:
    """Whether the places inside a bound are some neighbours along one axis."""
    return bound.step == 1 and [(type(a), c) for a, c in bound.index.terms] == [(str, 1)]


def _merge(body: Body, names: list[str], pinned: set[str]) -> list[str]:
    """Merge neighbours whose strides fit in every access; the faster name stands for both.

    Short rows that a branch tells apart (``np.concatenate``) are one long row as well.
    """
    names = list(names)
    k = len(names) - 1
    while k > 0:
        slow, fast = names[k - 1], names[k]
        n = body.extents[fast]
        guards = set().union(*[b.index.variables() for x in all_lines(body) for b in x.guard])
        edges = slow in guards and n > SHORT_ROW
        fits = not ({slow, fast} & pinned or fast in guards or edges) and all(
            _coefficient(i, slow) == _coefficient(i, fast) * n for i in memory(body)
        )
        if fits:
            _scale_guards(body, slow, fast, n)
            body.extents[fast] = n * body.extents[slow]
            _forget(body, slow)
            names.pop(k - 1)
        k -= 1
    return names


def _scale_guards(body: Body, slow: str, fast: str, n: int) -> None:
    """Say of elements what guards say of rows of ``n``."""

    def scaled(bound: Bound) -> Bound:
        low, high = (None if x is None else x * n for x in (bound.low, bound.high))
        return Bound(var(fast).plus(Index((), bound.index.const * n)), low, high)

    for line in all_lines(body):
        line.guard = [scaled(b) if slow in b.index.variables() else b for b in line.guard]
        if slow in line.variables:  # if only for a guard, of its own or of what it is computed from
            line.variables |= {fast}


def _forget(body: Body, name: str) -> None:
    def drop(index: Index) -> Index:
        return make({a: c for a, c in index.terms if a != name}, index.const)

    for line in all_lines(body):
        line.variables = line.variables - {name}
        if line.kind == "load" and line.index is not None:
            line.index = drop(line.index)
    for store in body.stores:
        store.index = drop(store.index)


def _column(body: Body, kept: list[str], inner: str) -> str:
    """The kept axis to vectorise along, when it is contiguous and the reduced one is not."""
    places = [i for i in memory(body) if _coefficient(i, inner)]
    rows = sum(abs(_coefficient(i, inner)) == 1 for i in places)
    best, score = "", rows
    for name in kept:
        unit = sum(abs(_coefficient(i, name)) == 1 for i in places)
        if unit > score and body.extents[name] >= SHORT_AXIS:
            best, score = name, unit
    return best


def _crossed(body: Body, kept: list[str], reduced: list[str]) -> str:
    """The kept axis to vectorise along when each value combines a column's with a term's.

    The nearest of a few centres: what a column reads is read once, what a term reads is the same
    for all columns, and the smallest distance so far is a vector. Sums keep their own order.
    """
    if not kept or len(reduced) != 1 or any(x.kind == "scan" for x in body.lines):
        return ""
    name, terms = kept[-1], body.extents[reduced[0]]
    loads = [x.index for x in all_lines(body) if x.kind == "load" and x.index is not None]
    both = [i for i in loads if {name, reduced[0]} <= i.variables()]
    sums = any(f.op in ("sum", "prod") for f in body.folds)
    long = 1 < terms <= FEW_TERMS <= body.extents[name]
    return name if long and not both and not sums else ""


def is_inner(line: Line, plan: Schedule) -> bool:
    """Whether the line changes inside the inner loops."""
    return bool(line.variables & {*plan.reduced, plan.column})


def stage_targets(plan: Schedule, stage: int) -> list[Line]:
    """The inner values that the loop of ``stage`` exists for."""
    body = plan.body
    found = [f.value for f in body.folds if f.value.stage == stage]
    found += [s.value for s in inner_stores(plan, stage)]
    found += [x for x in body.lines if x.effect and x.stage == stage and is_inner(x, plan)]
    return found + [x for x in plan.saved if x.stage == stage]


def one_loop(plan: Schedule) -> bool:
    """Whether a reduction may take two kernels: its results are in no later loop of this one."""
    bound = any(x.kind == "scan" or x.effect for x in plan.body.lines)
    later = any(stage_targets(plan, k) for k in range(1, plan.stages))
    return bool(plan.body.folds) and not (bound or later or plan.saved)


def inner_stores(plan: Schedule, stage: int) -> list[Store]:
    """The stores inside the loop of ``stage``: those that move with the reduced axes."""
    along = set(plan.reduced)
    return [
        s
        for s in plan.body.stores
        if s.value.stage == stage
        and ((s.index.variables() | s.value.variables) & along or not plan.body.reduced)
    ]


def row_stores(plan: Schedule, stage: int) -> list[Store]:
    inner = inner_stores(plan, stage)
    return [s for s in plan.body.stores if s.value.stage == stage and s not in inner]


def _price(line: Line, known: set[Line]) -> int:
    return sum(x.cost for x in closure([line], known))


def _saved(plan: Schedule) -> list[Line]:
    """Costly values of an earlier stage that a later one reads: kept in scratch."""
    saved: list[Line] = []
    along = set(plan.reduced)
    for stage in range(1, plan.stages):
        known = set(saved)
        needed = closure(stage_targets(plan, stage), known)
        targets = set(stage_targets(plan, stage))
        direct = {a for x in needed if x.stage == stage for a in x.args} | targets
        for line in plan.body.lines:
            old = line in direct and line.stage < stage and line not in known
            if old and line.variables & along and line.kind not in ("load", "index", "fold"):
                rows = {x for x in closure([line], known) if not x.variables & along}
                if _price(line, known | rows | {*saved}) >= MEDIUM:
                    saved.append(line)
    return saved


def count_in_32_bits(body: Body) -> None:
    """Sums of conditions and of short integers add a block in 32 bits, where none overflows."""
    read = {a for x in all_lines(body) for a in (*operands(x), *x.data.values())}
    read |= {s.value for s in body.stores} | {f.value for f in body.folds if f.op != "sum"}
    for fold in body.folds:
        value = fold.value
        whole = fold.op == "sum" and value.dtype.kind in "iu" and value.dtype.itemsize == 8
        cast = whole and value.args and value.text.startswith("cast_") and value not in read
        if cast and value.args[0].dtype.kind in "biu" and value.args[0].dtype.itemsize <= 2:
            value.dtype = np.dtype(f"{value.dtype.kind}4")
            value.text = f"cast_{short(value.dtype)}({{0}})"


def turned(plan: Schedule, cells: int, most: int) -> tuple[str, list[Line]]:
    """The outer axis along which loads are contiguous, and these loads; "" when there are none.

    cells, most: elements of the tile of one load, bytes of all tiles.
    """
    if not plan.reduced or not plan.outer:
        return "", []
    vector, extents = plan.reduced[0], plan.body.extents
    found: dict[str, list[Line]] = {}
    need = closure(stage_targets(plan, 0), set())
    for line in plan.body.lines:
        if line.kind != "load" or line not in need or line.data or line.index is None:
            continue
        terms = dict(line.index.terms)
        if not all(isinstance(atom, str) for atom in terms) or terms.get(vector, 0) in (0, 1, -1):
            continue
        for name in plan.outer:
            if terms.get(name) in (1, -1) and min(extents[name], extents[vector]) >= SMALL:
                found.setdefault(name, []).append(line)
    if not found:
        return "", []
    name = max(found, key=lambda n: len(found[n]))
    kept, size = [], 0
    for line in found[name]:
        size += cells * line.dtype.itemsize
        if size <= most:
            kept.append(line)
    return name, kept


def turns(lines: list[Line], targets: list[Line]) -> int:
    """How many vectors of a loop should pass through it side by side.

    Where each operation waits for the one before, those of another vector fill the time. LLVM
    sees to that in short loops only; a processor looks ahead a hundred operations or so, which is
    less than one ``exp``. ``targets``: what the loop is for. 1: leave it to LLVM.
    """
    depth: dict[Line, int] = {}
    last = {line: k for k, line in enumerate(lines)}
    for k, line in enumerate(lines):
        before = max([depth.get(a, 0) for a in line.args], default=0)
        depth[line] = before + (line.cost if line.cost >= COSTLY else line.kind == "op")
        last.update((a, k) for a in line.args if a in last)
    last.update((t, len(lines)) for t in targets if t in last)
    ends = Counter(last.values())
    alive = most = 0
    for k in range(len(lines)):
        alive += 1
        most = max(most, alive)
        alive -= ends[k]
    waits = max(depth.values(), default=0) >= CHAIN and all(x.kind != "scan" for x in lines)
    return next((n for n in (4, 2) if n * most <= VALUES), 1) if waits else 1
