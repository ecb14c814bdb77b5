"""The step of a recurrence: one launch, whose kernel stores all that the recurrence gives."""

from fusec.codegen.emit_cpu import chunk_rows
from fusec.codegen.loops import Place
from fusec.codegen.lower_recur import lower_recurrence
from fusec.codegen.slots import Slots
from fusec.codegen.steps import Launch
from fusec.ir.aval import Aval
from fusec.ir.graph import Node
from fusec.ops import OPS
from fusec.ops.recurrence import Recurrence
from fusec.passes.groups import Group


class Recurrences(Slots):
    """Builds these steps."""

    def _results(self, node: Node) -> dict[tuple[str, int], Node]:
        """The values that a recurrence gives, by what they are."""
        calls = [n for g in self.partition.groups if g.kind == "call" for n in g.members]
        outs = [n for n in calls if n.op.name == "host_out" and n.inputs[0] is node]
        rounds: Recurrence = node.attrs["rounds"]
        return {rounds.results[n.attrs["index"]]: n for n in outs}

    def _memory(self, aval: Aval, result: Node | None) -> Place:
        """Where something lies that a recurrence computes: as its result, or else by itself."""
        if result is None:
            result = Node(OPS["param"], (), {}, aval)  # stands for it
            self.out_of[result] = self._slot("temp", aval.dtype, aval.shape, None, result)
        elif result not in self.program.parts and result not in self.out_of:
            role = "result" if result in self.partition.graph.outputs else "temp"
            wanted = self.wanted.get(result)
            self.out_of[result] = self._slot(role, aval.dtype, aval.shape, wanted, result)
        return self._out_place(result)

    def keep(self, node: Node) -> None:
        """Let the copies of arrays that a recurrence changes lie where it leaves its results."""
        outs = self._results(node)
        for m, memory in enumerate(node.attrs["rounds"].memory):
            if memory.source >= 0:
                base = node.inputs[memory.source]
                place = self._memory(memory.aval, outs.get(("memory", m)))
                if place.node in self.out_of:
                    self.slot_of[base] = self.out_of[base] = self.slot_of[place.node]
                else:
                    self.program.parts[base] = place

    def recurrence(self, group: Group, node: Node) -> bool:
        """Launch a node that is a recurrence; whether it is one."""
        if node.op.name != "recurrence":
            return False
        rounds: Recurrence = node.attrs["rounds"]
        outs = self._results(node)
        stored = [
            self._out_place(node.inputs[m.source])
            if m.source >= 0
            else self._memory(m.aval, outs.get(("memory", k)))
            for k, m in enumerate(rounds.memory)
        ]
        carried = [
            self._memory(rounds.body.outputs[c.output].aval, outs.get(("carry", k)))
            for k, c in enumerate(rounds.carries)
        ]
        read = {k for k, _ in rounds.reads.values()} | {c.array for c in rounds.carries}
        places = {k: self._array(node.inputs[k]) for k in sorted(read) if k >= 0}
        places |= {~m: place for m, place in enumerate(stored)}
        (kernel,) = self.backend.emit(lower_recurrence(rounds, places, carried), False)
        arguments = [
            (self.source(p.buffer.node).number, p.offset * p.dtype.itemsize)
            for p in kernel.pointers
            if p.buffer.node is not None
        ]
        written = {self.slot_of[p.node].number for p in (*carried, *stored)}
        self.program.steps.append(Launch(kernel, arguments, chunk_rows(kernel), group, written))
        self.ready.update(outs.values())
        return True

    def _array(self, node: Node) -> Place:
        """Where an array lies that a recurrence reads."""
        found = self._placed(node)
        assert found is not None, node
        slot, offset, view = found
        assert slot.node is not None
        steps = tuple([s // view.itemsize for s in view.strides])
        return Place(slot.node, steps, offset // view.itemsize)
