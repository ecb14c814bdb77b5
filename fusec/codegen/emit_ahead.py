"""What sums read from beyond the L1 cache, and maps store to beyond the L2 cache, is asked for.

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
from itertools import product
from math import prod

from fusec.codegen.emit import Emitter
from fusec.codegen.emit_loop import LoopEmitter
from fusec.codegen.emit_streams import moved
from fusec.codegen.loops import LANES, Buffer, Line, Store, closure
from fusec.codegen.schedule import Schedule, is_inner
from fusec.ops.registry import COSTLY
from fusec.passes.access import Index
from fusec.passes.groups import CACHE

AHEAD = 8 << 10  # bytes; what is asked for stays in an L1 cache
SCAN = 4 << 10  # the same of a scan, which waits for itself besides
STORES = 1 << 10  # the same of what is stored
NEAR = 64 << 10  # bytes that no L1 cache holds
CHEAP = 40  # cost of an element, in additions, from which on computing takes longer than memory
LEAST = 128  # elements of a loop that are worth groups
WIDE = 4  # bytes of an element, at least: a group is a line or more
LONG = 32 << 20  # bytes of one row of which the processor asks too late


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
    size = prod(sizes) * sum(x.dtype.itemsize for x in loads)
    return size > (LONG if light else NEAR)


def ask_ahead(emitter: Emitter, plan: Schedule) -> None:
    """Ask for what the only loop of a row that adds something up reads soon."""
    need = closure([f.value for f in plan.body.folds], set())
    loads = [x for x in plan.body.lines if x in need and follows(x, plan)]
    if any(f.value.stage for f in plan.body.folds) or not worth_asking(plan, need, loads):
        return
    (axis,) = plan.reduced
    places = [(x.buffer, x.index) for x in loads if x.buffer and x.index]
    times = f" * crosses({emitter.address(*places[0])[0]})" if len(places) > 1 else ""
    for buffer, index in places:
        _ask(emitter, axis, buffer, index, AHEAD, times)


def asked_stores(emitter: LoopEmitter, stores: list[Store]) -> list[Store]:
    """The stores of a loop that moves more than L2 caches hold and computes little: it waits for
    the lines that it stores to, which the processor does not ask for by itself."""
    axis, body = emitter.vector_axis, emitter.body
    need = closure([s.value for s in stores], {*emitter.known})
    inner = [x for x in need if is_inner(x, emitter.plan)]
    plain = all(x.kind in ("op", "load", "index", "size") and not x.data for x in inner)
    cheap = all(x.cost < COSTLY for x in inner) and sum(x.cost for x in inner) < CHEAP
    if not (plain and cheap) or body.extents[axis] < LEAST or moved(emitter, stores) <= CACHE:
        return []
    along = [s for s in stores if dict(s.index.terms).get(axis) == 1 and not s.data]
    read = {x.buffer for x in inner}
    return [s for s in along if s.buffer.dtype.itemsize >= WIDE and s.buffer not in read]


def groups(
    emitter: LoopEmitter, stores: list[Store], first: str, last: str, element: Callable[[], None]
) -> None:
    """Write a loop over groups of lanes that asks for the lines it stores to soon::

    for g in range(start, stop - 31, 32):
        prefetch(at(y0, g + 128))
        for k in range(32):
            i0 = g + k
            y0[i0] = x0[i0] * c0
            write_out(k)
    """
    w, axis, emitter.grouped = emitter.w, emitter.vector_axis, True
    size = LANES * max(1, 8 // max(s.buffer.dtype.itemsize for s in stores))
    with w.block(f"for g in range({first}, {last} - {size - 1}, {size}):"):
        for store, k in product(stores, range(0, size, LANES)):
            ahead = STORES + k * store.buffer.dtype.itemsize
            _ask(emitter, axis, store.buffer, store.index, ahead)
        with w.block(f"for k in range({size}):"):
            w(f"{axis} = g + k")
            element()
            w("write_out(k)")
    count = last if first == "0" else f"({last} - {first})"
    with w.block(f"for {axis} in range({last} - ({count} & {size - 1}), {last}):"):
        element()
    emitter.grouped = False


def _ask(
    emitter: Emitter, axis: str, buffer: Buffer, index: Index, nbytes: int, times: str = ""
) -> None:
    """Ask for the lanes that stand so far behind those of group ``g``; times: a factor of that."""
    pointer, place = emitter.address(buffer, index)
    soon = re.sub(rf"\b{axis}\b", "g", place)
    emitter.w(f"prefetch(at({pointer}, {soon} + {nbytes // buffer.dtype.itemsize}{times}))")


def asked_scan(
    emitter: Emitter, plan: Schedule, stores: list[Store], last: str, element: Callable[[], None]
) -> bool:
    """Write the loop of a scan along one long row, which asks for what it reads and stores soon::

    for g in range(0, n_i0, LANES):
        prefetch(at(x0, g + 512))
        prefetch(at(y0, g + 512))
        for i0 in range(g, min(g + LANES, n_i0)):
            ...
    """
    (axis,), w = plan.reduced, emitter.w
    places = [(x.buffer, x.index) for x in plan.body.lines if follows(x, plan)]
    places += [(s.buffer, s.index) for s in stores if not s.data]
    size = sum(buffer.dtype.itemsize for buffer, _ in places if buffer)
    if plan.outer or plan.body.extents[axis] * size <= LONG:
        return False
    with w.block(f"for g in range(0, {last}, LANES):"):
        for buffer, index in places:
            assert buffer is not None and index is not None
            _ask(emitter, axis, buffer, index, SCAN)
        with w.block(f"for {axis} in range(g, min(g + LANES, {last})):"):
            element()
    return True
