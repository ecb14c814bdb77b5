"""Loops whose results outgrow the caches store them past these (see ``streams``)."""

import sys
from collections.abc import Callable

from fusec.codegen.emit import cell
from fusec.codegen.emit_loop import LoopEmitter
from fusec.codegen.loops import LANES, Buffer, Line, Store, closure
from fusec.codegen.schedule import all_lines, inner_stores, is_inner
from fusec.ops.registry import COSTLY

LAST_CACHE = 40 << 20  # bytes: a loop that moves less still gains from a cache of 32 MB
LINE = 64  # bytes
LINED = 64  # elements of a loop whose results are whole lines, at least
SHORT = 512  # elements of a loop in which what stands before a line would show


def streams(
    emitter: LoopEmitter, most: int | None = None, stores: list[Store] | None = None
) -> list[Store]:
    """The stores of a loop that go past the caches: those of results, one after the other.

    most: bytes that it may move without. stores: all that it has, if not those of a map.
    """
    axis, body = emitter.vector_axis, emitter.body
    loads = _loads(emitter)
    stores = inner_stores(emitter.plan, 0) if stores is None else stores
    need = closure([s.value for s in stores], {*emitter.known})
    dear = any(x.cost >= COSTLY for x in need if is_inner(x, emitter.plan) and x.kind != "scan")
    most = LAST_CACHE if most is None else most
    lined = all(_rows_begin_lines(s, axis) for s in stores)
    if moved(emitter, stores) <= most or dear or body.extents[axis] < (LINED if lined else SHORT):
        return []
    read = {x.buffer for x in loads}
    plain = [s for s in stores if dict(s.index.terms).get(axis) == 1 and not s.data]
    plain = [s for s in plain if s.buffer not in read and not s.buffer.near]
    return [s for s in plain if s.buffer.dtype.kind in "biuf"]


def moved(emitter: LoopEmitter, stores: list[Store]) -> int:
    """Bytes that a loop reads and stores in all; of what data choose, all of an array at most."""
    spans: dict[Buffer, list[tuple[int, int]]] = {}
    for buffer, index, variables in [
        *[(x.buffer, x.index, x.variables if x.data else None) for x in _loads(emitter)],
        *[(s.buffer, s.index, None) for s in stores],
    ]:
        assert buffer is not None and index is not None
        elements = emitter.count(index.variables() if variables is None else variables)
        spans.setdefault(buffer, []).append((index.const, index.const + elements))
    return sum(
        min(_covered(found), _elements(buffer)) * buffer.dtype.itemsize
        for buffer, found in spans.items()
    )


def _rows_begin_lines(store: Store, axis: str) -> bool:
    """Whether rows of a result that begins a cache line do so, too."""
    steps = [c for atom, c in store.index.terms if atom != axis] + [store.index.const]
    return all(c * store.buffer.dtype.itemsize % LINE == 0 for c in steps)


def _elements(buffer: Buffer) -> int:
    return sys.maxsize if buffer.node is None else buffer.node.aval.size


def _covered(spans: list[tuple[int, int]]) -> int:
    """How many numbers lie in at least one of the spans."""
    total, end = 0, min(first for first, _ in spans)
    for first, last in sorted(spans):
        total += max(0, last - max(first, end))
        end = max(end, last)
    return total


def _loads(emitter: LoopEmitter) -> list[Line]:
    return [x for x in all_lines(emitter.body) if x.kind == "load"]


def streamed(
    emitter: LoopEmitter, stores: list[Store], first: str, last: str, element: Callable[[], None]
) -> None:
    """A loop from ``first`` to ``last`` whose vectors are stored past the caches."""
    w, axis, emitter.streamed, emitter.grouped = emitter.w, emitter.vector_axis, True, True
    places = {s: emitter.address(s.buffer, s.index) for s in stores}
    lanes = {s: f"o_{s.buffer.name}_{k}" for k, s in enumerate(stores)}
    for store, name in lanes.items():
        w(f"{name} = lanes_{cell(store.buffer.dtype)}()")
    pointer, place = places[stores[0]]
    w(f"{axis} = {first}")
    w(f"head = min({first} + before_line(at({pointer}, {place})), {last})")
    with w.block(f"for {axis} in range({first}, head):"):
        element()
        w(f"one_by_one({axis})")
    with w.block(f"for g in range(head, {last} - {LANES - 1}, LANES):"):
        with w.block("for k in range(LANES):"):
            w(f"{axis} = g + k")
            emitter.gathered = {s: f"{name}[k]" for s, name in lanes.items()}
            element()
            emitter.gathered = {}
            w("write_out(k)")
        w(f"{axis} = g")
        for store, name in lanes.items():
            pointer, place = places[store]
            w(f"stream(at({pointer}, {place}), {name})")
    with w.block(f"for {axis} in range({last} - (({last} - head) & {LANES - 1}), {last}):"):
        element()
    emitter.grouped = False
