"""The second kernel of a reduction whose rows are split: what the blocks gave is combined."""

from fusec.codegen.emit import KernelSource, loaded
from fusec.codegen.emit_loop import LoopEmitter
from fusec.codegen.loops import BLOCK, Buffer, Fold
from fusec.codegen.schedule import Schedule


class FinishEmitter(LoopEmitter):
    """Trees over the blocks, then the values of the row."""

    def __init__(self, plan: Schedule, partials: dict[Fold, Buffer]) -> None:
        super().__init__(plan)
        self.partials = partials

    def emit(self) -> KernelSource:
        kept = [*self.plan.outer, *([self.plan.column] if self.plan.column else [])]
        length = self.count(self.plan.reduced)
        self.invariants()
        blocks = self.int_arg("blocks", -(-length // BLOCK))
        for name in kept:
            self.size(name)
        with self.w.block("for kept in range(start, stop):"):
            self.rows(kept, "kept")
            for fold, buffer in self.partials.items():
                pointer = self.pointer(buffer, 0).name
                text = f"tree_{fold.op}(at({pointer}, kept * {blocks}), {blocks})"
                self.w(f"{fold.result.name} = {loaded(fold.result.dtype, text)}")
            self.outside({*self.plan.reduced})
            for stage in range(self.plan.stages):
                self.stores(stage, inner=False)
        return self.finish("finish", self.count(kept), 10.0 * length / BLOCK)
