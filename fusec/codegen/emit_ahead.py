"""What a sum reads from beyond the L2 cache is asked for before.

Where lanes ``g`` of a block are added up, those 8 kB further on are on their way::

    for g in range(b, b + m - 31, LANES):
        prefetch(at(x0, g + 2048 * crosses(x0)))
        prefetch(at(x1, g + 2048 * crosses(x0)))
        for k in range(LANES):
            ...

A vector that crosses the border of two cache lines waits for both and asks twice for each; NumPy's
large arrays begin 16 bytes behind a border. Where they don't, two arrays arrive faster unasked.
"""

import re
from collections.abc import Callable
from math import prod

from fusec.codegen.emit import Emitter
from fusec.codegen.loops import Line, Store, closure
from fusec.codegen.schedule import Schedule
from fusec.passes.groups import CACHE

AHEAD = 8 << 10  # bytes; what is asked for stays in an L1 cache
SCAN = 4 << 10  # the same of a scan, which waits for itself besides
LAST_CACHE = 32 << 20  # bytes


def follows(line: Line, plan: Schedule) -> bool:
    """Whether a load goes through memory as it lies, row after row."""
    if line.kind != "load" or line.index is None or line.data:
        return False
    terms, size = dict(line.index.terms), 1
    for axis in (*plan.reduced, *reversed(plan.outer)):
        if terms.get(axis) != size:
            return False
        size *= plan.body.extents[axis]
    return True


def worth_asking(plan: Schedule, need: set[Line], loads: list[Line]) -> bool:
    """Whether the processor does not look so far ahead by itself.

    It does in one long row of which little is computed, unless even the last cache is too small.
    """
    sizes = [plan.body.extents[axis] for axis in (*plan.reduced, *plan.outer)]
    work = sum(x.cost for x in need if x.kind == "op") + len(plan.body.folds)
    light = not plan.outer and work < 3 * len(loads)
    moved = prod(sizes) * sum(x.dtype.itemsize for x in loads)
    return moved > (LAST_CACHE if light else CACHE)


def ask_ahead(emitter: Emitter, plan: Schedule) -> None:
    """Ask for what the only loop of a row that adds something up reads soon."""
    need = closure([f.value for f in plan.body.folds], set())
    loads = [x for x in plan.body.lines if x in need and follows(x, plan)]
    if any(f.value.stage for f in plan.body.folds) or not worth_asking(plan, need, loads):
        return
    (axis,) = plan.reduced
    places = [emitter.address(x.buffer, x.index) for x in loads if x.buffer and x.index]
    lines = f" * crosses({places[0][0]})" if len(places) > 1 else ""
    for line, (pointer, place) in zip(loads, places):
        soon = re.sub(rf"\b{axis}\b", "g", place)
        emitter.w(f"prefetch(at({pointer}, {soon} + {AHEAD // line.dtype.itemsize}{lines}))")


def asked_scan(
    emitter: Emitter, plan: Schedule, stores: list[Store], last: str, element: Callable[[], None]
) -> bool:
    """Write the loop of a scan along one long row, which asks for what it reads and stores soon."""
    (axis,), w = plan.reduced, emitter.w
    places = [(x.buffer, x.index) for x in plan.body.lines if follows(x, plan)]
    places += [(s.buffer, s.index) for s in stores if not s.data]
    size = sum(buffer.dtype.itemsize for buffer, _ in places if buffer)
    if plan.outer or plan.body.extents[axis] * size <= LAST_CACHE:
        return False
    with w.block(f"for g in range(0, {last}, LANES):"):
        for buffer, index in places:
            assert buffer is not None and index is not None
            pointer, place = emitter.address(buffer, index)
            soon = re.sub(rf"\b{axis}\b", "g", place)
            w(f"prefetch(at({pointer}, {soon} + {SCAN // buffer.dtype.itemsize}))")
        with w.block(f"for {axis} in range(g, min(g + LANES, {last})):"):
            element()
    return True
