"""One signature of one function on the device "cpu": NumPy's views of its arrays run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fusec.plan import Plan
from fusec.runtime.array import Array
from fusec.runtime.device import Device
from fusec.runtime.host import owners, shared
from fusec.trace.run import Trace
from fusec.trace.tree import TreeDef, flatten


class HostPlan(Plan):
    """Stands where ``DevicePlan`` stands; ``Plan`` does the work."""

    def __init__(self, trace: Trace, fastmath: bool, device: Device) -> None:
        super().__init__(trace, fastmath)
        self.device, self.verified = device, True

    def call(
        self,
        fn: Callable[..., Any],
        leaves: list[Any],
        tree: TreeDef,
        hidden: Sequence[Any],
        donated: Sequence[int],
    ) -> Any:
        """Run on arrays of the device; results are arrays of the device, over NumPy's memory.

        Raises KernelError before anything of the caller's is written.
        """
        given = [x for x in [*leaves, *hidden] if type(x) is Array]
        views = {id(x): x.host for x in given}
        same = {id(views[id(x)]): x for x in given}
        args = [views.get(id(x), x) for x in leaves]
        for source, _ in self.trace.writes:
            target = leaves[source.ref] if source.kind == "arg" else hidden[source.ref]
            if type(target) is Array:
                target.buffer.writing(self.device.current())
        result = self.run(args, args, [views.get(id(x), x) for x in hidden])
        known = owners(given)
        made, structure = flatten(result)
        return structure.unflatten([
            shared(self.device, np.asarray(x), known)
            if isinstance(x, np.ndarray | np.generic) and id(x) not in same
            else same.get(id(x), x)
            for x in made
        ])  # fmt: skip
