"""What ``explain()`` says of a lowered program: ops by line, bytes moved, and every reason.

Bytes are counted from the program, not measured: a kernel reads each element of a buffer that it
needs once (rows that it goes over several times stay in the processor's cache) and writes each
result once. The least possible for a program is to read its inputs and write its results once.
"""

from __future__ import annotations

import html
import linecache
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fusec.codegen.program import Call, Launch, Program, Slot
from fusec.ir.graph import Loc, Node
from fusec.passes.access import MOVES
from fusec.passes.fuse import Group
from fusec.trace.run import Trace

CUT = "the kernel already holds"  # how the reason for a cut by size begins
MAX_LINES = 16  # of the user's lines, kernels and edges that are printed; the fields have all
MAX_CODE = 56  # characters of the user's line


@dataclass(frozen=True)
class OpReport:
    """One op of a kernel: its name, result and the user's line."""

    name: str
    aval: str
    loc: Loc | None


@dataclass(frozen=True)
class KernelReport:
    """One kernel. least: bytes of the program's own inputs and results among read and written."""

    name: str
    rows: int
    ops: tuple[OpReport, ...]
    bytes_read: int
    bytes_written: int
    least: int


@dataclass(frozen=True)
class CallReport:
    """A call of NumPy between kernels. kind: "library", "host", or "copy" for one of our own."""

    name: str
    kind: str
    why: str
    loc: Loc | None
    bytes_moved: int


@dataclass(frozen=True)
class EdgeReport:
    """A value that is stored by one step and read by another, and why they are two."""

    producer: str
    consumer: str
    nbytes: int
    reason: str


@dataclass
class Explanation:
    """See the module. ``fallback``: why NumPy runs the whole function; empty when it does not."""

    name: str
    fallback: str = ""
    kernels: list[KernelReport] = field(default_factory=list)
    calls: list[CallReport] = field(default_factory=list)
    edges: list[EdgeReport] = field(default_factory=list)
    copies: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    bytes_moved: int = 0
    bytes_least: int = 0

    @property
    def cuts(self) -> list[EdgeReport]:
        """Edges that only the size limit of a kernel keeps from being fused."""
        return [e for e in self.edges if e.reason.startswith(CUT)]

    def __str__(self) -> str:
        return "\n".join(_text(self))

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"


def amount(nbytes: int) -> str:
    """Bytes for people.

    >>> amount(820), amount(24_576), amount(16_777_216)
    ('820 bytes', '24.6 kB', '16.8 MB')
    """
    if nbytes < 1000:
        return f"{nbytes} bytes"
    value = float(nbytes)
    for unit in ("kB", "MB", "GB", "TB"):
        value /= 1000
        if value < 999.5 or unit == "TB":
            break
    return f"{value:.3g} {unit}"


def place(loc: Loc | None) -> str:
    """``file.py:12``, or nothing."""
    return f"{Path(loc.filename).name}:{loc.line}" if loc else ""


# -- counting -------------------------------------------------------------------------------------


def touched(slot: Slot) -> int:
    """Bytes of the distinct elements of a buffer; a broadcast axis counts once."""
    size = slot.dtype.itemsize
    for n, stride in zip(slot.shape, slot.strides or slot.shape):
        size *= n if stride or n == 0 else 1
    return size


class Traffic:
    """Which step of a program moves how many bytes of which buffer."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.slot_of = {s.node: s for s in program.slots if s.node is not None}
        self.owner = {m: g for g in program.partition.groups for m in g.members}
        self.step_of: dict[int, str] = {}
        for step in program.steps:
            if isinstance(step, Launch):
                self.step_of.setdefault(id(step.group), step.kernel.name)
        self._reads: dict[int, dict[Node, tuple[int, list[Node]]]] = {}

    def reads(self, group: Group) -> dict[Node, tuple[int, list[Node]]]:
        """For each buffer that a kernel loads from: bytes, and the ops that need them."""
        if id(group) not in self._reads:
            self._reads[id(group)] = self._count(group)
        return self._reads[id(group)]

    def _count(self, group: Group) -> dict[Node, tuple[int, list[Node]]]:
        found: dict[Node, tuple[int, list[Node]]] = {}
        for source, member, count in self._paths(group):
            nbytes, members = found.get(source, (0, []))
            total = min(nbytes + count * source.dtype.itemsize, touched(self.slot_of[source]))
            found[source] = (total, members if member in members else [*members, member])
        return found

    def _paths(self, group: Group) -> Iterator[tuple[Node, Node, int]]:
        """(buffer, op that needs it, elements) for each way from the group's ops to memory."""
        seen: dict[tuple[Node, int], None] = {}
        for member in group.members:
            table = member.op.family == "gather"
            stack = [
                (i, min(i.aval.size, member.aval.size) if table and k == 0 else i.aval.size)
                for k, i in enumerate(member.inputs)
            ]
            while stack:
                node, count = stack.pop()
                if node in group.members:
                    continue
                if node in self.slot_of:
                    yield node, member, 0 if (node, count) in seen else count
                    seen[node, count] = None
                elif (node, count) not in seen:
                    seen[node, count] = None
                    moved = node.op.name in MOVES
                    stack += [
                        (i, min(count, i.aval.size) if moved else i.aval.size)
                        for i in node.inputs
                    ]

    def launch(self, step: Launch, first: bool) -> tuple[int, int, int]:
        """Bytes a launch reads and writes, and how many of them belong to the caller.

        first: of the launches of its group, it writes what they hand to each other.
        """
        read = written = least = 0
        reads = self.reads(step.group)
        for buffer, number in {p.buffer: s for p, (s, _) in _bound(step)}.items():
            slot = self.program.slots[number]
            if buffer.role == "out":
                written += touched(slot)
                least += touched(slot) if slot.role == "result" else 0
            elif buffer.role == "partial":
                read, written = read + slot.nbytes * (not first), written + slot.nbytes * first
            else:
                assert buffer.node is not None
                nbytes = reads.get(buffer.node, (touched(slot),))[0]
                read += nbytes
                least += nbytes if slot.role == "input" else 0
        return read, written, least

    def call(self, step: Call) -> int:
        """Bytes a call of NumPy reads and writes."""
        if step.view and step.name != "ascontiguousarray":
            return 0
        slots = self.program.slots
        moved = sum([touched(slots[k]) for k in {*step.inputs, *step.outputs}])
        if step.node is not None and step.node.op.name == "host_call":
            moved += sum([aval.nbytes for aval in step.node.attrs["call"].outputs])
        return moved

    def least(self) -> int:
        """Bytes to read every needed input and to write every result once."""
        need: dict[int, int] = {}
        for group in self.program.partition.groups:
            if group.kind == "kernel":
                for node, (nbytes, _) in self.reads(group).items():
                    number = self.slot_of[node].number
                    need[number] = max(need.get(number, 0), nbytes)
        for step in self.program.steps:
            for number in step.inputs if isinstance(step, Call) else ():
                need[number] = touched(self.program.slots[number])
        slots = self.program.slots
        inputs = sum(n for k, n in need.items() if slots[k].role == "input")
        results = {k for k in self.program.results if slots[k].role != "input"}
        return inputs + sum(touched(slots[k]) for k in results)


def _bound(step: Launch) -> Iterable[tuple[object, tuple[int, int]]]:  # type: ignore[type-arg]
    return zip(step.kernel.pointers, step.arguments)


# -- reasons --------------------------------------------------------------------------------------


def explain(
    name: str,
    program: Program | None,
    trace: Trace | None,
    fallback: str,
    copies: Sequence[str],
    names: Sequence[str],
) -> Explanation:
    """Put together everything that is known of a lowered program; names: of the arguments."""
    found = Explanation(name, fallback, copies=list(copies))
    if program is None or trace is None:
        return found
    traffic = Traffic(program)
    seen: set[int] = set()
    for step in program.steps:
        if isinstance(step, Launch):
            read, written, least = traffic.launch(step, id(step.group) not in seen)
            seen.add(id(step.group))
            ops = [OpReport(m.op.name, repr(m.aval), m.loc) for m in step.group.members]
            kernel = step.kernel
            found.kernels.append(
                KernelReport(kernel.name, kernel.rows, tuple(ops), read, written, least)
            )
            found.bytes_moved += read + written
        elif step.name == "ascontiguousarray":
            slot = program.slots[step.outputs[0]]
            found.copies.append(
                f"{slot.dtype.str[1:]}{list(slot.shape)} is copied to C order for a gather"
            )
            found.bytes_moved += traffic.call(step)
        elif not step.view:
            found.calls.append(_call_report(step, traffic))
            found.bytes_moved += traffic.call(step)
    found.edges = list(_edges(traffic))
    _arguments(found, trace, names)
    found.bytes_least = traffic.least()
    return found


def _arguments(found: Explanation, trace: Trace, names: Sequence[str]) -> None:
    """Copies and guards that come from how the arguments are used."""
    for source, k in trace.writes:
        nbytes = trace.graph.outputs[k].aval.nbytes
        found.copies.append(f"{source.label} is changed: {amount(nbytes)} are copied into it")
        found.bytes_moved += 2 * nbytes
    for recipe, value in trace.scalar_guards.items():
        what = _recipe(recipe, names)
        found.notes.append(f"{what} = {value!r} is part of this program: another value traces anew")


def _recipe(recipe: tuple[Any, ...], names: Sequence[str]) -> str:
    """A recipe over Python numbers as it would be written."""
    if recipe[0] == "arg":
        return names[recipe[1]]
    if recipe[0] == "lit":
        return repr(recipe[1])
    inner = ", ".join([_recipe(r, names) for r in recipe[1:]])
    return f"{getattr(recipe[0], '__name__', 'f')}({inner})"


def _call_report(step: Call, traffic: Traffic) -> CallReport:
    node = step.node
    library = node is not None and node.op.family == "library"
    loc = node.loc if node is not None else None
    kind = "library" if library else "host"
    return CallReport(step.name, kind, step.why, loc, traffic.call(step))


def _edges(traffic: Traffic) -> Iterator[EdgeReport]:
    partition = traffic.program.partition
    reasons = {(r.producer, r.consumer): r.reason for r in partition.refusals}
    for group in partition.groups:
        if group.kind == "kernel":
            reads = traffic.reads(group)
        else:
            reads = {_source(i): (i.aval.nbytes, [*group.members]) for m in group.members
                     for i in m.inputs}  # fmt: skip
        for source, (nbytes, members) in reads.items():
            owner = traffic.owner.get(source)
            if owner is None or owner is group or source.op.name == "param":
                continue
            if "host_out" in (source.op.name, members[0].op.name) and owner.kind == group.kind:
                continue
            given = [reasons[source, m] for m in members if (source, m) in reasons]
            reason = given[0] if given else _default(owner, group, traffic)
            member = next((m for m in members if (source, m) in reasons), members[0])
            yield EdgeReport(_value(source), _value(member), nbytes, reason)


def _default(owner: Group, group: Group, traffic: Traffic) -> str:
    for side, verb in ((group, "reads"), (owner, "gives")):
        if side.kind == "call":
            return f"{_call_name(next(iter(side.members)))} {verb} whole arrays: NumPy runs it"
    return f"its reader belongs to {traffic.step_of.get(id(group), 'another kernel')} already"


def _call_name(node: Node) -> str:
    while node.op.name == "host_out":
        node = node.inputs[0]
    return str(node.attrs["call"].name) if node.op.name == "host_call" else node.op.name


def _value(node: Node) -> str:
    where = place(node.loc)
    if node.op.name == "host_call":
        return f"{_call_name(node)}" + (f" ({where})" if where else "")
    return f"{_call_name(node)} {node.aval!r}" + (f" ({where})" if where else "")


def _source(node: Node) -> Node:
    while node.op.name in MOVES:
        node = node.inputs[0]
    return node


# -- text -----------------------------------------------------------------------------------------


def _text(x: Explanation) -> Iterator[str]:
    if x.fallback:
        yield f"{x.name}: NumPy runs it. {x.fallback}"
        return
    yield f"{x.name}: {counted(len(x.kernels), 'kernel')}, {counted(len(x.calls), 'call')} of NumPy"
    ratio = f" ({x.bytes_moved / x.bytes_least:.2f} times)" if x.bytes_least else ""
    yield (
        f"bytes: moves {amount(x.bytes_moved)}, least possible {amount(x.bytes_least)}{ratio}"
    )
    yield from _few(x.kernels, _kernel_text, "more kernels")
    yield from _few(x.calls, _call_text, "more calls")
    if x.edges:
        yield "not fused:"
        yield from _few(x.edges, _edge_text, "more edges")
    if x.cuts:
        yield f"cut for size: {counted(len(x.cuts), 'edge')}, because {x.cuts[0].reason}"
    yield from _few(x.copies, lambda text: [f"copy: {text}"], "more copies")
    yield from _few(x.notes, lambda text: [f"note: {text}"], "more notes")


def counted(n: int, what: str) -> str:
    return f"{n} {what}" + ("" if n == 1 else "s")


def _few(items: list, text: Callable[..., Iterable[str]], more: str) -> Iterator[str]:  # type: ignore[type-arg]
    for item in items[:MAX_LINES]:
        yield from text(item)
    if len(items) > MAX_LINES:
        yield f"  ... {len(items) - MAX_LINES} {more}"


def _kernel_text(kernel: KernelReport) -> Iterator[str]:
    between = kernel.bytes_read + kernel.bytes_written - kernel.least
    extra = f", {amount(between)} of them between steps" if between else ""
    yield (
        f"kernel {kernel.name}: {counted(len(kernel.ops), 'op')}, {counted(kernel.rows, 'row')}; "
        f"reads {amount(kernel.bytes_read)}, writes {amount(kernel.bytes_written)}{extra}"
    )
    lines: dict[Loc | None, list[str]] = {}
    for op in kernel.ops:
        lines.setdefault(op.loc, []).append(op.name)
    yield from _few(list(lines.items()), _line_text, "more lines")


def _line_text(item: tuple[Loc | None, list[str]]) -> Iterator[str]:
    loc, ops = item
    code = linecache.getline(loc.filename, loc.line).strip() if loc else ""
    code = code if len(code) <= MAX_CODE else code[: MAX_CODE - 3] + "..."
    names = ", ".join(ops[:12]) + (f" and {len(ops) - 12} more" if len(ops) > 12 else "")
    yield f"  {place(loc) or '(made by a pass)'}: {names}" + (f"    | {code}" if code else "")


def _call_text(call: CallReport) -> Iterator[str]:
    where = f" ({place(call.loc)})" if call.loc else ""
    yield f"{call.kind} call {call.name}{where}: {call.why}; moves {amount(call.bytes_moved)}"


def _edge_text(edge: EdgeReport) -> Iterator[str]:
    yield f"  {edge.producer} -> {edge.consumer}, {amount(edge.nbytes)}: {edge.reason}"
