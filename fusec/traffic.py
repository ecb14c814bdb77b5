"""Which step of a program moves how many bytes, counted from the program.

A kernel reads each element of a buffer that it needs once (rows that it goes over several times
stay in the processor's cache) and writes each result once.
"""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Iterable, Iterator
from math import prod
from pathlib import Path

from fusec.codegen.emit import Pointer
from fusec.codegen.steps import Call, Launch, Program, Rounds, Slot, slots_used
from fusec.ir.graph import Loc, Node
from fusec.ops.recurrence import Recurrence
from fusec.passes.access import MOVES
from fusec.passes.groups import Group, is_joined


class Printable:
    """What prints as its ``str``, in notebooks too."""

    def __repr__(self) -> str:
        return str(self)

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


def counted(n: int, what: str) -> str:
    return f"{n} {what}" + ("" if n == 1 else "s")


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
        self.slot_of = {s.node: s for s in program.slots if s.node is not None} | program.inplace
        self.slot_of |= {n: self.slot_of[p.node] for n, p in program.parts.items()}
        for node, source in program.over.items():
            self.slot_of[node] = self.slot_of[source]
        self.owner = {m: g for g in program.partition.groups for m in g.members}
        self.step_of: dict[int, str] = {}
        for step in program.steps:
            for part in step.each() if isinstance(step, Launch) else ():
                self.step_of.setdefault(id(part.group), step.kernel.name)
        self._reads: dict[int, dict[Node, tuple[int, list[Node]]]] = {}
        self.launches: dict[int, tuple[int, int, int]] = {}  # by step: bytes read, written, least
        self._filled: set[int] = set()  # slots between launches that have been written
        seen: set[int] = set()
        for number, step in enumerate(program.steps):
            for part in step.each() if isinstance(step, Launch) else ():
                moved = self.launch(part, id(part.group) not in seen)
                before = self.launches.get(number, (0, 0, 0))
                self.launches[number] = tuple([a + b for a, b in zip(before, moved)])
                seen.add(id(part.group))

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
        seen: set[tuple[Node, int, Node | None]] = set()  # the last: a part of the buffer
        for member in group.members:
            table = member.op.family == "gather"
            stack = [
                (i, min(i.aval.size, member.aval.size) if table and k == 0 else i.aval.size, None)
                for k, i in enumerate(member.inputs)
                if k or not is_joined(member)  # which reads nothing of the argument it changes
            ]
            while stack:
                found = node, count, part = stack.pop()
                if node in group.members:
                    continue
                if node in self.slot_of:
                    yield node, member, 0 if found in seen else count
                    seen.add(found)
                elif found not in seen:
                    seen.add(found)
                    moved = node.op.name in MOVES
                    part = node if node.op.name == "slice" else part
                    stack += [
                        (i, min(count, i.aval.size) if moved else i.aval.size, part)
                        for i in node.inputs
                    ]

    def launch(self, step: Launch, first: bool) -> tuple[int, int, int]:
        """Bytes a launch reads and writes, and how many of them belong to the caller.

        first: of the launches of its group. What they hand to each other is written by the first
        that has it.
        """
        if step.group.kind == "call" and not step.kernel.product:
            return self._rounds(next(iter(step.group.members)))
        read = written = least = 0
        reads, placed = self.reads(step.group), self.placed(step.group.outputs)
        for buffer, number in {p.buffer: s for p, (s, _) in _bound(step)}.items():
            slot = self.program.slots[number]
            if slot.role == "tile" or (buffer.role == "out" and buffer.node in placed):
                continue
            if buffer.role == "out":
                mine = [n.aval.nbytes for n in step.group.outputs if self._whole(n) is buffer.node]
                new = sum(mine) or touched(slot)
                written += new
                least += new if slot.role == "result" else 0
            elif buffer.role == "partial":
                fresh = number not in self._filled
                read, written = read + slot.nbytes * (not fresh), written + slot.nbytes * fresh
                self._filled.add(number)
            else:
                assert buffer.node is not None
                mine = [n for source, (n, _) in reads.items() if self._whole(source) is buffer.node]
                stored = any(self._whole(n) is buffer.node for n in placed)
                nbytes = sum(mine) or touched(slot) * (not stored)
                read += nbytes
                least += nbytes if slot.role == "input" else 0
        whole = [n for n in step.group.outputs if n not in placed]
        changed = [self.program.inplace[n] for n in whole if n in self.program.inplace]
        new = sum([touched(slot) for slot in changed]) + sum(map(_changed, placed))
        over = [n.aval.nbytes for n in step.group.outputs if n in self.program.over and first]
        return read, written + new + sum(over), least + new

    def _rounds(self, node: Node) -> tuple[int, int, int]:
        """As ``launch``, of a recurrence: the parts that all rounds read and store, each once."""
        rounds: Recurrence = node.attrs["rounds"]
        moved = self._rounds_read(node)
        made = {("carry", k): rounds.body.outputs[c.output].aval.nbytes
                for k, c in enumerate(rounds.carries)}  # fmt: skip
        for n, m, window in rounds.stores:
            count = prod(map(len, window.span(rounds.rounds)))
            nbytes = count * rounds.body.outputs[n].dtype.itemsize
            made["memory", m] = made.get(("memory", m), 0) + nbytes
        outs = [n for n in self.slot_of if n.op.name == "host_out" and n.inputs[0] is node]
        given = {rounds.results[n.attrs["index"]] for n in outs if self.slot_of[n].role == "result"}
        least = [n for slot, n in moved if slot is not None and slot.role == "input"]
        least += [n for k, n in made.items() if k in given]
        return sum([n for _, n in moved]), sum(made.values()), sum(least)

    def _rounds_read(self, node: Node) -> list[tuple[Slot | None, int]]:
        """Bytes that a recurrence reads, of buffers and (None) of what it changes itself."""
        rounds: Recurrence = node.attrs["rounds"]
        firsts = [(c.array, c.window) for c in rounds.carries if c.window is not None]
        read: Counter[int] = Counter()
        for array, window in [*rounds.reads.values(), *firsts]:
            read[array] += prod(map(len, window.span(rounds.rounds)))
        found: list[tuple[Slot | None, int]] = []
        for k, count in read.items():
            base = node if k < 0 else node.inputs[k]
            aval = rounds.memory[~k].aval if k < 0 else base.aval
            while k >= 0 and base not in self.slot_of:
                base = base.inputs[0]
            nbytes = min(count, aval.size) * aval.dtype.itemsize
            found.append((self.slot_of[base] if k >= 0 else None, nbytes))
        return found

    def placed(self, nodes: Iterable[Node]) -> list[Node]:
        """Those that are parts of a changed argument."""
        parts = self.program.parts
        return [n for n in nodes if n in parts and parts[n].node.op.name == "param"]

    def _whole(self, node: Node) -> Node:
        """The value in whose memory ``node`` lies."""
        return self.program.parts[node].node if node in self.program.parts else node

    def call(self, step: Call) -> int:
        """Bytes a call of NumPy reads and writes."""
        if step.view and step.name != "ascontiguousarray":
            return 0
        slots = self.program.slots
        moved = sum([touched(slots[k]) for k in {*step.inputs, *step.outputs}])
        if isinstance(step, Rounds):  # what goes from round to round is copied first
            moved += sum([touched(slots[step.inputs[k]]) for k in step.loop.moving])
        if step.node is not None and step.node.op.name == "host_call":
            moved += sum([aval.nbytes for aval in step.node.attrs["call"].outputs])
        return moved

    def least(self) -> int:
        """Bytes to read every needed input and to write every result once."""
        need: dict[int, int] = {}
        for group in self.program.partition.groups:
            if group.kind not in ("call", "join"):
                for node, (nbytes, _) in self.reads(group).items():
                    number = self.slot_of[node].number
                    need[number] = max(need.get(number, 0), nbytes)
        for step in self.program.steps:
            product = isinstance(step, Launch) and step.group.kind == "call"
            if product and not step.kernel.product:
                for slot, nbytes in self._rounds_read(next(iter(step.group.members))):
                    if slot is not None:
                        need[slot.number] = max(need.get(slot.number, 0), nbytes)
                continue
            for number in slots_used(step) if isinstance(step, Call) or product else ():
                need[number] = touched(self.program.slots[number])
        slots = self.program.slots
        inputs = sum(n for k, n in need.items() if slots[k].role == "input")
        results = {k for k in self.program.results if slots[k].role != "input"}
        changed = [s for n, s in self.program.inplace.items() if not is_joined(n)]
        parts = sum(map(_changed, self.placed(self.program.parts)))
        return inputs + parts + sum(touched(s) for s in [*changed, *[slots[k] for k in results]])


def _changed(node: Node) -> int:
    """Bytes of an argument that a part of it changes; the versions of all of it are no parts."""
    if node.op.family == "scatter":
        return node.inputs[1].aval.nbytes
    return 0 if is_joined(node) else node.aval.nbytes


def launches(program: Program) -> Iterator[tuple[Launch, int, int]]:
    """Every launch with the bytes that it reads and writes; of a loop those of one round."""
    moved = Traffic(program).launches
    for number, step in enumerate(program.steps):
        if isinstance(step, Launch):
            yield step, *moved[number][:2]
        elif isinstance(step, Rounds) and step.program is not None:
            yield from launches(step.program)


def peak(program: Program) -> int:
    """Bytes of temporaries, results and results of calls at most alive at once.

    Temporaries share their memory and have it for the whole run, as results have. A loop has copies
    of the arrays that it changes.
    """
    last: dict[int, int] = {}
    for k, step in enumerate(program.steps):
        used = [s for s, _ in step.arguments] if isinstance(step, Launch) else step.inputs
        last.update(dict.fromkeys(used, k))
    for step in reversed(program.steps):  # a view keeps what it looks at alive
        if isinstance(step, Call) and step.view:
            end = max([last.get(k, 0) for k in step.outputs], default=0)
            last.update({k: max(last[k], end) for k in step.inputs[:1]})
    results = {k for k in program.results if program.slots[k].role != "input"}
    steady = sum(program.blocks) + sum([touched(program.slots[k]) for k in results])
    alive: dict[int, int] = {}
    most = 0
    for k, step in enumerate(program.steps):
        alive = {slot: n for slot, n in alive.items() if last.get(slot, -1) >= k}
        if isinstance(step, Call) and not step.view:
            slots = [program.slots[n] for n in step.outputs if n not in results]
            alive.update({s.number: s.nbytes for s in slots if s.role != "temp"})
        if isinstance(step, Rounds) and step.program is not None:
            copies = [step.inputs[n] for n in step.loop.moving]
            views = [v for v in program.steps if isinstance(v, Call) and v.inputs == step.outputs]
            given = results & {n for v in views for n in v.outputs}  # some of those arrays
            moved, counted = (sum(touched(program.slots[n]) for n in k) for k in (copies, given))
            alive[step.outputs[0]] = moved + peak(step.program) - counted
        most = max(most, sum(alive.values()))
    return steady + most


def _bound(step: Launch) -> Iterable[tuple[Pointer, tuple[int, int]]]:
    return zip(step.kernel.pointers, step.arguments)
