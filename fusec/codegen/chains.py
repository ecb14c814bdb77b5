"""Chains: kernels that follow each other run together, a few rows at a time.

What a stencil computes of the result of another is read at several places, so the first one is a
kernel of its own, whose result would go through memory::

    d = x[1:] - x[:-1]                   # k0
    y = d[1:] - d[:-1]                   # k1: d[i] and d[i + 1]

A thread that has rows [start, stop) of the last kernel takes some of them at a time, ``each``. The
kernels before compute what these need into the thread's scratch, which stays in its cache; the rows
that two neighbours need are computed twice. The kernels, and their texts, stay what they are: only
pointers and ranges differ (``runtime/native_source.chain``). Where a result takes long to compute
the way through memory is hidden behind that. Kernels that can report an error come last: the others
compute no rows that nothing needs, of which NumPy would report errors too.
"""

from dataclasses import dataclass

from fusec.codegen.emit import GRAIN_NS
from fusec.codegen.loops import Line
from fusec.codegen.schedule import Schedule, all_lines
from fusec.codegen.steps import Launch, Program, Step, fails, slots_used
from fusec.ops.registry import COSTLY
from fusec.ops.shape import c_strides
from fusec.passes.access import Index, bounds, make
from fusec.passes.groups import CACHE

ROOM = 256 << 10  # bytes of scratch
TWICE = 4  # rows of which one is computed twice, at least
ALIGNMENT = 64
MOST_PARTS = 8  # of a chain; a program may have thousands of steps


@dataclass(frozen=True)
class Window:
    """The outer indices of a part that those of the last kernel, [first, last), need.

    From first * factor + low to (last - 1) * factor + high.
    """

    factor: int = 1
    low: int = 0
    high: int = 0

    def within(self, outer: "Window", unit: int) -> "Window | None":
        """For elements that indices need, and which indices there are: indices of ``unit``."""
        q = self.factor
        low, high = outer.low * q + self.low, outer.high * q + self.high
        if outer.factor * q % unit:
            return None
        return Window(outer.factor * q // unit, low // unit, high // unit)

    def along(self, each: int) -> int:
        return (each - 1) * self.factor + self.high - self.low + 1


@dataclass
class Chain:
    """parts: the launches, in order; windows: theirs; tiles: for a slot where it lies in scratch,
    bytes for an outer index of the kernel that stores it, and the window of that; each: outer
    indices of the last at a time.
    """

    parts: list[Launch]
    windows: list[Window]
    tiles: dict[int, tuple[int, int, Window]]
    each: int
    scratch: int

    def place(self, slot: int, offset: int) -> tuple[int, int]:
        """Where element 0 of a slot would lie in scratch at outer index 0, and bytes an index."""
        start, size, window = self.tiles[slot]
        return start + offset - window.low * size, window.factor * size

    @property
    def chunk(self) -> int:
        """Rows of the last kernel that are worth waking a thread for: no less than at a time."""
        last = self.parts[-1].kernel
        work = sum([p.kernel.work * p.kernel.rows for p in self.parts]) / last.rows
        least: int = self.each * last.rows // last.plan.body.extents[outermost(last.plan)]
        return max(1, min(last.rows, max(least, int(GRAIN_NS / max(work, 1e-3)))))


def chained(program: Program) -> None:
    """Find chains: steps that follow each other, each but the last only for those behind it."""
    steps, taken = program.steps, set[int]()
    for end in reversed(range(1, len(steps))):
        best = None
        for start in reversed(range(max(0, end + 1 - MOST_PARTS), end)):
            if end in taken or start in taken or not _between(program, steps[start]):
                break
            best = _chain(program, start, end + 1) or best
        if best is not None:
            taken.update(range(end - len(best.parts) + 1, end + 1))
            for part in best.parts:
                part.chain = best
            for part in best.parts[:-1]:
                if part.near is not None:
                    part.kernel, part.arguments = part.near
            for slot in best.tiles:
                program.slots[slot].role = "tile"


def _chain(program: Program, start: int, end: int) -> Chain | None:
    """The steps [start, end) as a chain, if they can be one."""
    parts = [s for s in program.steps[start:end] if _plain(s)]
    others = program.steps[:start] + program.steps[end:]
    launches = [p for p in parts if isinstance(p, Launch)]
    if len(launches) < end - start:
        return None
    tiles = set[int]().union(*[p.writes for p in launches[:-1]])
    read_after = {k for s in others for k in slots_used(s)}
    slots = program.slots
    for tile in tiles:
        slot, writers = slots[tile], [p for p in launches if tile in p.writes]
        whole = slot.strides == c_strides(slot.shape, slot.dtype.itemsize)
        if not whole or len(writers) > 1 or tile in read_after or tile in program.results:
            return None
    results = launches[-1].writes
    if any(slots[k].role not in ("temp", "result") for k in results) or results & tiles:
        return None
    if any(results & {*slots_used(p)} for p in launches[:-1]):
        return None
    windows = _windows(launches, tiles)
    return _sized(program, launches, windows, tiles) if windows else None


def _plain(step: Step) -> bool:
    """Whether a step is one map, whose rows may be computed in any order, and twice."""
    if not isinstance(step, Launch) or step.kernel.plan is None or step.parts:
        return False
    plan = step.kernel.plan
    return plan.rest is None and plan.period == 1 and not step.kernel.scratch


def _between(program: Program, step: Step) -> bool:
    """Whether a step may have others of its chain behind it: it makes large temporaries only."""
    if not isinstance(step, Launch) or not _plain(step) or fails(step) or _dear(step):
        return False
    slots = [program.slots[k] for k in step.writes]
    return all(slot.role == "temp" and slot.nbytes >= CACHE for slot in slots)


def _dear(part: Launch) -> bool:
    return any(line.cost >= COSTLY for line in all_lines(part.kernel.plan.body))


def outermost(plan: Schedule) -> str:
    return [*plan.outer, *plan.reduced][0] if plan.outer or plan.reduced else ""


def _windows(parts: list[Launch], tiles: set[int]) -> list[Window] | None:
    """What each part computes for those behind it, or None where that is no matter of rows."""
    units: dict[int, int] = {}  # elements of a tile for an outer index of its kernel
    for part in parts[:-1]:
        for slot, index in _stores(part):
            units[slot] = unit = dict(index.terms).get(outermost(part.kernel.plan), 0)
            low, high = bounds(_rest(part, index), part.kernel.plan.body.extents)
            if unit <= 0 or low < 0 or high >= unit:
                return None
    found: dict[int, Window] = {len(parts) - 1: Window()}
    for k in reversed(range(1, len(parts))):
        if k not in found:
            return None
        for slot, line in _loads(parts[k]):
            if slot not in tiles:
                continue
            maker = next(n for n, p in enumerate(parts) if slot in p.writes)
            elements = _needed(parts[k], line)
            window = elements.within(found[k], units[slot]) if elements and maker < k else None
            known = found.get(maker)
            if window is None:
                return None
            if known is not None:
                if known.factor != window.factor:
                    return None
                low, high = min(known.low, window.low), max(known.high, window.high)
                window = Window(known.factor, low, high)
            found[maker] = window
    return [found[k] for k in range(len(parts))] if 0 in found else None


def _needed(part: Launch, line: Line) -> Window | None:
    """The elements of a tile that an outer index of a kernel reads."""
    assert line.index is not None
    step = dict(line.index.terms).get(outermost(part.kernel.plan), 0)
    if line.data or step <= 0:
        return None
    return Window(step, *bounds(_rest(part, line.index), part.kernel.plan.body.extents))


def _rest(part: Launch, index: Index) -> Index:
    outer = outermost(part.kernel.plan)
    return make({a: c for a, c in index.terms if a != outer}, index.const)


def _slots(part: Launch) -> dict[object, int]:
    """The slot of each buffer of a kernel."""
    return {p.buffer: slot for p, (slot, _) in zip(part.kernel.pointers, part.arguments)}


def _stores(part: Launch) -> list[tuple[int, Index]]:
    slots = _slots(part)
    return [(slots[s.buffer], s.index) for s in part.kernel.plan.body.stores]


def _loads(part: Launch) -> list[tuple[int, Line]]:
    slots = _slots(part)
    lines = [x for x in all_lines(part.kernel.plan.body) if x.buffer is not None]
    return [(slots[x.buffer], x) for x in lines if x.buffer in slots]


def _sized(
    program: Program, parts: list[Launch], windows: list[Window], tiles: set[int]
) -> Chain | None:
    """As many rows at a time as have room, if few of them are computed twice."""
    sizes: dict[int, tuple[Window, int]] = {}  # of tiles: window, bytes for an outer index
    for part, window in zip(parts[:-1], windows):
        for slot, index in _stores(part):
            unit = dict(index.terms)[outermost(part.kernel.plan)]
            sizes[slot] = window, unit * program.slots[slot].dtype.itemsize
    steady = sum([w.along(1) * size - w.factor * size for w, size in sizes.values()])
    a_row = sum([w.factor * size for w, size in sizes.values()])
    each = (ROOM - steady) // a_row
    more = max([(w.along(1) - w.factor) / w.factor for w in windows])
    if each < max(1, TWICE * more):
        return None
    places: dict[int, tuple[int, int, Window]] = {}
    scratch = 0
    for slot, (window, size) in sizes.items():
        places[slot] = scratch, size, window
        scratch += -(-window.along(each) * size // ALIGNMENT) * ALIGNMENT
    return Chain(parts, windows, places, each, scratch)
