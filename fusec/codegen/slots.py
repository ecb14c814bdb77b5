"""The buffers of a program while it is built: where each value of the graph lies."""

from collections.abc import Callable, Sequence
from functools import partial
from operator import itemgetter
from typing import Any

import numpy as np

from fusec.codegen.backends import BACKENDS
from fusec.codegen.loops import Place
from fusec.codegen.steps import Program, Slot, Strides
from fusec.ir.graph import Node
from fusec.ops.shape import c_strides
from fusec.passes.groups import Partition
from fusec.trace.standin import stand_in


class Slots:
    """slot_of: the buffer of a value; out_of: of one that a kernel stores; views: numbers of the
    slots of views that NumPy makes; ready: what the steps so far have computed."""

    def __init__(
        self, partition: Partition, target: str, result_strides: Sequence[Strides]
    ) -> None:
        graph = partition.graph
        self.partition, self.backend = partition, BACKENDS[target]
        self.program = Program(graph, partition, on_device=self.backend.name != "cpu")
        self.program.result_strides = list(result_strides)
        self.wanted = dict(zip(reversed(graph.outputs), reversed(result_strides)))
        self.slot_of: dict[Node, Slot] = {}
        self.out_of: dict[Node, Slot] = {}
        self.views: dict[Node, int] = {}
        self.ready: set[Node] = set(graph.params)

    def _slot(
        self,
        role: str,
        dtype: np.dtype,
        shape: tuple[int, ...],
        strides: Strides | None = None,
        node: Node | None = None,
    ) -> Slot:
        strides = c_strides(shape, dtype.itemsize) if strides is None else strides
        slot = Slot(len(self.program.slots), role, dtype, shape, strides, node)
        self.program.slots.append(slot)
        if node is not None:
            self.slot_of[node] = slot
        return slot

    def _place(self, node: Node) -> Place:
        """Where a value that a kernel reads lies."""
        return self.program.parts.get(node) or Place(node, elements(self.source(node)))

    def _out_place(self, node: Node) -> Place:
        return self.program.parts.get(node) or Place(node, elements(self.out_of[node]))

    def _stored(self, node: Node) -> bool:
        """Whether a value stands in memory by now; views of others may be stored later."""
        return (node in self.slot_of or node in self.program.parts) and node in self.ready

    def source(self, node: Node) -> Slot:
        """The slot of a value, made now for constants."""
        if node not in self.slot_of and node.op.name == "const":
            self._slot("const", node.dtype, node.shape, None, node)
        return self.slot_of[node]

    def _placed(self, node: Node) -> tuple[Slot, int, np.ndarray] | None:
        """The buffer that a value is a view of, its first byte there, a stand-in of the view."""
        if self._stored(node) or node.op.name == "const":
            slot = self.source(node)
            return slot, 0, stand_in(slot.shape, slot.dtype, slot.strides)
        inner = self._placed(node.inputs[0]) if node.op.family == "movement" else None
        if inner is None:
            return None
        slot, offset, base = inner
        view = bound(node)(base)
        if not view.size:
            return slot, 0, view  # which shares no memory with anything
        if not np.may_share_memory(view, base):
            return None
        return slot, offset + view.ctypes.data - base.ctypes.data, view


def elements(slot: Slot) -> Strides:
    """The strides of a buffer, in elements."""
    return tuple([s // slot.dtype.itemsize for s in slot.strides or ()])


def bound(node: Node) -> Callable[..., Any]:
    """The NumPy function of a node, with its attributes."""
    if node.op.name == "host_call":
        found: Callable[..., Any] = node.attrs["call"].function
        return found
    if node.op.name == "host_out":
        return itemgetter(node.attrs["index"])
    impl: Callable[..., Any] = node.op.impl
    return partial(impl, **dict(node.attrs)) if node.attrs else impl
