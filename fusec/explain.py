"""What ``explain()`` says of a lowered program: ops by line, bytes moved, and every reason.

Bytes are counted from the program, not measured. The least possible for a program is to read its
inputs and to write its results once.
"""

from __future__ import annotations

import linecache
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from fusec.codegen.steps import Call, Launch, Program, Rounds
from fusec.ir.aval import short
from fusec.ir.graph import Loc, Node
from fusec.passes.groups import Group, source_of
from fusec.trace.decisions import Decision
from fusec.trace.run import Trace
from fusec.traffic import Printable, Traffic, amount, counted, peak, place

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
    launch: str
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


@dataclass(repr=False)
class Explanation(Printable):
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
    bytes_peak: int = 0

    @property
    def cuts(self) -> list[EdgeReport]:
        """Edges that only the size limit of a kernel keeps from being fused."""
        return [e for e in self.edges if e.reason.startswith(CUT)]

    def __str__(self) -> str:
        return "\n".join(_text(self))


# -- reasons --------------------------------------------------------------------------------------


def explain(
    name: str,
    program: Program | None,
    trace: Trace | None,
    fallback: str,
    copies: Sequence[str],
    names: Sequence[str],
    asked: Sequence[tuple[Decision, Explanation]] = (),
) -> Explanation:
    """Put together everything that is known of a lowered program.

    names: of the arguments. asked: the decisions before it, and what is known of their programs.
    """
    found = Explanation(name, fallback, copies=list(copies))
    if program is None or trace is None:
        return found
    _steps(found, program)
    _arguments(found, program, trace, names)
    for decision, ask in asked:
        what, by = f"decides: {decision.value} here", counted(len(ask.kernels), "kernel")
        if decision.rounds:
            what = f"ends a loop: after {counted(decision.rounds, 'round')} here"
        found.notes.append(
            f"{place(decision.loc)} {what}, found by {by}, {amount(ask.bytes_moved)} moved; what "
            "follows is a program for this answer"
        )
    found.bytes_least = Traffic(program).least()
    found.bytes_peak = peak(program)
    return found


def _steps(found: Explanation, program: Program, times: int = 1) -> None:
    """What the steps of a program do; times: how often it runs, if it is a round of a loop."""
    traffic = Traffic(program)
    for number, step in enumerate(program.steps):
        if isinstance(step, Launch):
            ops = [OpReport(m.op.name, repr(m.aval), m.loc) for m in step.members]
            moved, kernel = traffic.launches[number], step.kernel
            launch = kernel.launch_text + (f", {times} times" if times > 1 else "")
            found.kernels.append(KernelReport(kernel.name, launch, tuple(ops), *moved))
            found.bytes_moved += times * (moved[0] + moved[1])
            continue
        found.bytes_moved += times * traffic.call(step)
        if isinstance(step, Rounds):
            assert step.program is not None and step.node is not None
            rounds, one = step.loop.rounds, step.program
            found.notes.append(
                f"{place(step.node.loc)} repeats: {rounds} rounds of "
                f"{counted(len(one.kernels), 'kernel')} are one loop"
            )
            _steps(found, one, times * rounds)
        elif step.name == "ascontiguousarray":
            slot = program.slots[step.outputs[0]]
            found.copies.append(
                f"{short(slot.dtype)}{list(slot.shape)} is copied to C order for a gather"
            )
        elif not step.view:
            found.calls.append(_call_report(step, traffic))
    found.edges += _edges(traffic)


def _arguments(
    found: Explanation, program: Program, trace: Trace, names: Sequence[str]
) -> None:
    """Copies and guards that come from how the arguments are used."""
    for source, k in trace.writes:
        if program.graph.outputs[k] in program.inplace:
            continue
        nbytes = trace.graph.outputs[k].aval.nbytes
        found.copies.append(f"{source.label} is changed: {amount(nbytes)} are copied into it")
        found.bytes_moved += 2 * nbytes
    for label, nbytes in trace.checkpoints:
        found.notes.append(f"checkpoint {label}: {amount(nbytes)} less to keep for the gradient")
    for recipe, value in trace.scalar_guards.items():
        what = _recipe(recipe, names)
        found.notes.append(f"{what} = {value!r} is part of this program: another value traces anew")


def _recipe(recipe: tuple[Any, ...], names: Sequence[str]) -> str:
    """A recipe over Python numbers as it would be written."""
    if recipe[0] == "arg":
        return str(names[recipe[1]])
    if recipe[0] == "lit":
        return repr(recipe[1])
    inner = ", ".join([_recipe(r, names) for r in recipe[1:]])
    return f"{getattr(recipe[0], '__name__', 'f')}({inner})"


def _call_report(step: Call, traffic: Traffic) -> CallReport:
    node = step.node
    library = node is not None and node.op.family == "library"
    loc = node.loc if node is not None else None
    kind = "library" if library else "host"
    away = "; the GPU waits while its arrays are copied to the host and back"
    why = step.why + away * traffic.program.on_device
    return CallReport(step.name, kind, why, loc, traffic.call(step))


def _edges(traffic: Traffic) -> Iterator[EdgeReport]:
    partition = traffic.program.partition
    reasons = {(r.producer, r.consumer): r.reason for r in partition.refusals}
    for group in partition.groups:
        if group.kind != "call":
            reads = traffic.reads(group)
        else:
            reads = {source_of(i): (i.aval.nbytes, [*group.members]) for m in group.members
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
            name, own = _call_name(next(iter(side.members))), id(side) in traffic.step_of
            how = "cuBLAS or a tiled kernel of ours computes it" if own else "NumPy runs it"
            how = "a program of its own runs in it" if name == "loop" else how
            how = "its kernel has the loop inside" if name == "recurrence" else how
            return f"{name} {verb} whole arrays: {how}"
    if owner.kind == "scatter":
        return f"{_call_name(next(iter(owner.members)))} is finished when it has added everything"
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
    yield f"memory: at most {amount(x.bytes_peak)} at once besides the arguments"
    yield from _few(x.kernels, _kernel_text, "more kernels")
    yield from _few(x.calls, _call_text, "more calls")
    if x.edges:
        yield "not fused:"
        yield from _few(x.edges, _edge_text, "more edges")
    if x.cuts:
        yield f"cut for size: {counted(len(x.cuts), 'edge')}, because {x.cuts[0].reason}"
    yield from _few(x.copies, lambda text: [f"copy: {text}"], "more copies")
    yield from _few(x.notes, lambda text: [f"note: {text}"], "more notes")


def _few(items: list, text: Callable[..., Iterable[str]], more: str) -> Iterator[str]:  # type: ignore[type-arg]
    for item in items[:MAX_LINES]:
        yield from text(item)
    if len(items) > MAX_LINES:
        yield f"  ... {len(items) - MAX_LINES} {more}"


def _kernel_text(kernel: KernelReport) -> Iterator[str]:
    between = kernel.bytes_read + kernel.bytes_written - kernel.least
    extra = f", {amount(between)} of them between steps" if between else ""
    yield (
        f"kernel {kernel.name}: {counted(len(kernel.ops), 'op')}, {kernel.launch}; "
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
    counts = {op: ops.count(op) for op in dict.fromkeys(ops)}
    names = [op if n == 1 else f"{op} x{n}" for op, n in counts.items()]
    where = place(loc) or "(made by a pass)"
    yield f"  {where}: {', '.join(names)}" + (f"    | {code}" if code else "")


def _call_text(call: CallReport) -> Iterator[str]:
    where = f" ({place(call.loc)})" if call.loc else ""
    yield f"{call.kind} call {call.name}{where}: {call.why}; moves {amount(call.bytes_moved)}"


def _edge_text(edge: EdgeReport) -> Iterator[str]:
    yield f"  {edge.producer} -> {edge.consumer}, {amount(edge.nbytes)}: {edge.reason}"
