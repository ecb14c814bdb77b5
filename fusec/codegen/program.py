"""A program: the flat list of steps that runs one graph, over numbered buffers.

Each group becomes one or two launches; library and host calls become calls of NumPy. Movement ops
in front of a call are views that NumPy makes at run time. Intermediates share slots by lifetime.
"""

from collections.abc import Sequence

import numpy as np

from fusec.codegen.chains import chained
from fusec.codegen.emit import KernelSource
from fusec.codegen.emit_cpu import chunk_rows
from fusec.codegen.inplace import in_place, last_readers, written_over
from fusec.codegen.loops import Buffer, Place
from fusec.codegen.lower import Layout, lower
from fusec.codegen.lower_scatter import lower_scatter
from fusec.codegen.merge import merge
from fusec.codegen.recur_steps import Recurrences
from fusec.codegen.schedule import all_lines
from fusec.codegen.slots import bound, elements
from fusec.codegen.steps import (
    Call,
    Launch,
    Product,
    Program,
    Rounds,
    Slot,
    Step,
    Strides,
    fails,
    free_early,
    share_memory,
)
from fusec.config import log
from fusec.ir.graph import Node
from fusec.ops.shape import c_strides
from fusec.passes.groups import Group, Partition, is_joined
from fusec.passes.parts import home
from fusec.passes.updates import Overlap
from fusec.trace.standin import stand_in

MAX_LINES = 1200  # of one kernel; LLVM takes seconds beyond

MAX_TEXT = 8 * MAX_LINES  # of one kernel, in which the parts of arrays make many loops


class Oversize(Exception):
    """A kernel became too large: cut the graph without recomputation, then into smaller kernels."""


def build(
    partition: Partition,
    input_strides: Sequence[Strides],
    result_strides: Sequence[Strides],
    target: str = "cpu",
    writes: Sequence[tuple[int, int]] = (),
) -> Program:
    """Lower every group and number the buffers.

    input_strides, result_strides: in bytes, one for each param and each output of the graph.
    target: one of ``BACKENDS``. writes: changed params and the outputs that are their new values.
    """
    return _Builder(partition, input_strides, result_strides, target, writes).run()


class _Builder(Recurrences):
    def __init__(
        self,
        partition: Partition,
        input_strides: Sequence[Strides],
        result_strides: Sequence[Strides],
        target: str,
        writes: Sequence[tuple[int, int]],
    ) -> None:
        super().__init__(partition, target, result_strides)
        graph = partition.graph
        inplace = in_place(partition, writes, input_strides)
        self.stored = {
            out
            for g in partition.groups
            for out in (g.members if g.kind in ("call", "join") else g.outputs)
        }
        self.last = last_readers(partition, self.stored)
        for node, strides in zip(graph.params, input_strides):
            slot = self._slot("input", node.dtype, node.shape, strides, node)
            self.program.inputs.append(slot.number)
        for group in reversed(partition.groups):
            for node in filter(is_joined, group.members):
                (self._join if node.op.name == "concatenate" else self._updated)(node)
            for node in [n for n in group.members if n.op.name == "recurrence"]:
                self.keep(node)
        for node in self.stored & {*inplace}:
            slot = self.slot_of[inplace[node]]
            self.out_of[node] = self.slot_of[node] = self.program.inplace[node] = slot

    def _outputs(self, group: Group, number: int) -> None:
        """Slots for what a kernel stores; over those of temporaries that it reads last."""
        self._write_over(group, number)
        for node in group.outputs:
            if node in self.program.parts or node in self.out_of:
                continue
            role = "result" if node in self.partition.graph.outputs else "temp"
            copied = node.op.name in ("param", "const")  # what others read stays where it is
            self.out_of[node] = self._slot(
                role, node.dtype, node.shape, self.wanted.get(node), None if copied else node
            )

    def run(self) -> Program:
        for number, group in enumerate(self.partition.groups):
            if group.kind in ("kernel", "scatter"):
                self._launch(group, number)
                self.ready.update(group.outputs)
                continue
            node = next(iter(group.members))
            taken = self._product(group, node) or self.recurrence(group, node)
            if group.kind == "call" and not taken and node not in self.ready:
                self._call(node)
            self.ready.add(node)
        for node in self.partition.graph.outputs:
            self.program.results.append((self.out_of.get(node) or self.slot_of[node]).number)
        if not self.program.on_device:
            self.program.steps = merge(self.program.steps)
            free_early(self.program)
            chained(self.program)
        share_memory(self.program)
        for number, step in enumerate(self.program.steps):
            if isinstance(step, Launch | Product) and step.kernel is not None:
                step.kernel.name = f"k{number}"
                log("source", "kernel %d\n%s", number, step.kernel.text)
        return self.program

    # -- groups ---------------------------------------------------------------------------------

    def _updated(self, node: Node) -> None:
        """Give what an argument is changed with its place in the argument."""
        part, param = node.inputs[1], node
        while param.op.name != "param":
            param = param.inputs[0]
        slot = self.slot_of[param]
        self.out_of[node] = self.slot_of[node] = self.program.inplace[node] = slot
        within = elements(slot) if node.shape == slot.shape else c_strides(node.shape, 1)
        self.program.parts[node] = Place(param, within)
        if node.op.family != "scatter":
            start, step = node.attrs["start"], node.attrs["step"]
            steps = tuple([s * n for s, n in zip(within, step)])
            offset = sum([s * n for s, n in zip(within, start)])
            self.program.parts[part] = Place(param, steps, offset)

    def _join(self, node: Node) -> None:
        """Give the parts of a concatenation their places in it."""
        if node not in self.program.parts:
            role = "result" if node in self.partition.graph.outputs else "temp"
            self._slot(role, node.dtype, node.shape, self.wanted.get(node), node)
        whole, axis = self._place(node), node.attrs["axis"]
        offset = whole.offset
        for part in node.inputs:
            source, idx = home(part)
            steps = dict(Place(node, whole.strides).at(idx).terms)
            strides = tuple([steps.get(f"i{k}", 0) for k in range(len(source.shape))])
            self.program.parts[source] = Place(whole.node, strides, offset)
            offset += part.shape[axis] * whole.strides[axis]

    def _replaced(self, node: Node) -> Node | None:
        place = self.program.parts.get(node)
        if place is not None:
            return place.node if place.node.op.name == "param" else None
        slot = self.program.inplace.get(node)
        return slot.node if slot is not None else self.program.over.get(node)

    def _write_over(self, group: Group, number: int) -> None:
        """Let results of a kernel lie where temporaries do that nothing reads after it."""
        reads = dict.fromkeys(i for m in group.members for i in m.inputs)
        outputs = {*self.partition.graph.outputs, *self.program.parts, *self.out_of}
        joined = {place.node for place in self.program.parts.values()}  # others lie within
        here = [n for n in reads if n in self.ready and n in self.slot_of and n not in joined]
        free = [n for n in here if self.last[n] <= number]
        for source in free:
            slot = self.slot_of[source]
            alike = [
                n for n in group.outputs
                if n.aval == source.aval and n not in outputs and n.op.name != "const"
            ]  # fmt: skip
            plain = slot.strides == c_strides(source.shape, source.dtype.itemsize)
            if alike and slot.role == "temp" and plain and source not in self.program.parts:
                over = written_over(group, source, self.stored)
                for out in [n for n in alike if n in over][:1]:
                    self.out_of[out] = self.slot_of[out] = slot
                    self.program.over[out] = source
                    outputs.add(out)

    def _launch(self, group: Group, number: int) -> None:
        self._outputs(group, number)
        checks = self.partition.graph.checks
        if not any(n.aval.size for n in (*group.outputs, *group.members.keys() & {*checks})):
            return
        layout = Layout(self._place, self._stored, self._out_place, self._replaced)
        body = (lower_scatter if group.kind == "scatter" else lower)(group, layout)
        again, smaller = self.partition.again, self.partition.share == 1
        if again and sum(1 for _ in all_lines(body)) > MAX_LINES:
            raise Oversize(f"a kernel of more than {MAX_LINES} lines")
        partials: dict[Buffer, Slot] = {}
        outputs = [self._replaced(n) or n for n in group.outputs]
        placed = [self.out_of.get(n) or self.slot_of.get(n) for n in outputs]
        results = {slot.number for slot in placed if slot is not None}
        for kernel in self.backend.emit(body, group.split):
            many = len(kernel.ints) + len(kernel.pointers) > self.backend.arguments
            if smaller and (many or kernel.text.count("\n") > MAX_TEXT):
                raise Oversize(f"a kernel of more than {MAX_TEXT} lines, or too many arguments")
            arguments, writes = [], set()
            for pointer in kernel.pointers:
                slot = self._bind(pointer.buffer, partials, kernel)
                arguments.append((slot, pointer.offset * pointer.dtype.itemsize))
                if pointer.buffer.role in ("out", "partial") or slot in results:
                    writes.add(slot)
            launch = Launch(kernel, arguments, chunk_rows(kernel), group, writes)
            inside = [n for n in group.outputs if n in self.program.parts and self._replaced(n)]
            if inside and fails(launch):
                raise Overlap
            self.program.steps.append(launch)
            alone = kernel.plan is not None and group.kind != "scatter"
            if alone and "stream(" in kernel.text:
                launch.near = self._near(group, layout)

    def _near(self, group: Group, layout: Layout) -> tuple[KernelSource, list[tuple[int, int]]]:
        """A map that leaves its results in the cache."""
        body = lower(group, layout)
        for store in body.stores:
            store.buffer.near = True
        (kernel,) = self.backend.emit(body, group.split)
        places = [(self._bind(p.buffer, {}, kernel), p) for p in kernel.pointers]
        return kernel, [(slot, p.offset * p.dtype.itemsize) for slot, p in places]

    def _bind(
        self, buffer: Buffer, partials: dict[Buffer, Slot], kernel: KernelSource
    ) -> int:
        if buffer.role == "partial":
            if buffer not in partials:
                partials[buffer] = self._slot("temp", buffer.dtype, (kernel.partial[buffer.name],))
            return partials[buffer].number
        assert buffer.node is not None
        if buffer.role == "out":
            return (self.out_of.get(buffer.node) or self.slot_of[buffer.node]).number
        return self.source(buffer.node).number

    # -- calls ----------------------------------------------------------------------------------

    def _view(self, node: Node) -> int:
        """The slot of a call's input; movement ops become views that NumPy makes."""
        if self._stored(node) or node.op.name == "const":
            return self.source(node).number
        if node not in self.views:
            inputs = [self._view(i) for i in node.inputs]
            slot = self._slot("view", node.dtype, node.shape)
            self.views[node] = slot.number
            step = Call(node.op.name, bound(node), inputs, [slot.number], view=True, node=node)
            self.program.steps.append(step)
        return self.views[node]

    def _call(self, node: Node) -> None:
        if node.op.name == "host_out":
            call = self.slot_of[node.inputs[0]]
            slot = self._slot("call", node.dtype, node.shape, self.wanted.get(node), node)
            self.program.steps.append(
                Call("result", bound(node), [call.number], [slot.number], view=True, node=node)
            )
            return
        inputs = [self._view(i) for i in node.inputs]
        slot = self._slot("call", node.dtype, node.shape, self.wanted.get(node), node)
        name, why = _named(node)
        view, kind = node.op.name == "hold", Rounds if node.op.name == "loop" else Call
        self.program.steps.append(
            kind(name, bound(node), inputs, [slot.number], view=view, why=why, node=node)
        )

    # -- matrix products --------------------------------------------------------------------------

    def _product(self, group: Group, node: Node) -> bool:
        """A matrix product without NumPy, where the target has a way that fits the strides."""
        if node.op.name != "matmul" or self.backend.matmul is None:
            return False
        a, b = (self._placed(i) for i in node.inputs)
        strides = self.wanted.get(node) or c_strides(node.shape, node.dtype.itemsize)
        if a is None or b is None or (self.backend.library and _symmetric(a, b)):
            return False
        layouts = []
        for x in (a[2], b[2], stand_in(node.shape, node.dtype, strides)):
            lead = node.aval.ndim - x.ndim
            steps = tuple([s // x.itemsize for s in x.strides])
            layouts.append(((1,) * lead + x.shape, (0,) * lead + steps))
        kernel = self.backend.matmul(*layouts, node.inputs[0].dtype)
        if kernel is None:
            return False
        role = "result" if node in self.partition.graph.outputs else "temp"
        out = self._slot(role, node.dtype, node.shape, strides, node)
        for pointer, source in zip(kernel.pointers, (a[0].node, b[0].node, node)):
            pointer.buffer.node = source
        kernel.notes = [("matmul", node.loc)]
        arguments = [(a[0].number, a[1]), (b[0].number, b[1]), (out.number, 0)]
        step: Step = Launch(kernel, arguments, 1, group, {out.number})
        if self.backend.library:
            inputs = [a[0].number, b[0].number]
            why = "a part of the program itself, which calls NumPy's BLAS where that is fastest"
            chunk = kernel.rows if kernel.threads else chunk_rows(kernel)
            step = Product("matmul", bound(node), inputs, [out.number], False, why, node,
                           kernel, arguments, chunk)  # fmt: skip
        self.program.steps.append(step)
        return True

def _symmetric(a: tuple[Slot, int, np.ndarray], b: tuple[Slot, int, np.ndarray]) -> bool:
    """``x @ x.T``: NumPy computes half of it, and its result is exactly symmetric."""
    turned = np.swapaxes(b[2], -1, -2)
    return a[:2] == b[:2] and (a[2].shape, a[2].strides) == (turned.shape, turned.strides)


def _named(node: Node) -> tuple[str, str]:
    if node.op.name == "host_call":
        return node.attrs["call"].name, node.attrs["call"].why
    if node.op.name == "loop":
        return "loop", f"{node.attrs['loop'].rounds} rounds of one program"
    if node.op.family == "library":
        return node.op.name, "a whole-array call of NumPy"
    kind = node.inputs[0].dtype.name
    return node.op.name, f"no kernel expression for {kind}: NumPy runs it"
