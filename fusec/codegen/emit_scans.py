"""Scans along rows: several rows side by side, so that no addition waits for the one before it.

::

    for block in range(start, stop):
        first = block * 4
        last = min(first + 4, n_i0)
        if last - first == 4:
            for k in range(4):
                carry_q0[k] = cast_f4(-0.0)
            for i1 in range(n_i1):
                for k in range(4):              # LLVM writes this loop out
                    i0 = first + k
                    v0 = x0[i0 * x0_s0 + i1]
                    q0 = (carry_q0[k] + v0)
                    carry_q0[k] = q0
                    y0[i0 * y0_s0 + i1] = q0
        else:
            ...                                 # the same, a row at a time
"""

from fusec.codegen.emit import KernelSource, loaded, stored
from fusec.codegen.emit_loop import LoopEmitter
from fusec.codegen.loops import Line
from fusec.codegen.schedule import Schedule, is_inner, stage_targets

ROWS = 4


def side_by_side(plan: Schedule) -> bool:
    """Whether rows can run together: nothing but scans along one axis, nothing done once a row."""
    body = plan.body
    if body.folds or plan.column or len(plan.outer) != 1 or len(plan.reduced) != 1:
        return False
    a_row = [x for x in body.lines if x.variables and not is_inner(x, plan) and x.kind != "load"]
    return body.extents[plan.outer[0]] >= ROWS and not a_row


class ScanEmitter(LoopEmitter):
    """See the module."""

    def emit(self) -> KernelSource:
        (outer,), (vector,), w = self.plan.outer, self.plan.reduced, self.w
        self.invariants()
        scans = [x for x in self.body.lines if x.kind == "scan"]
        for line in scans:
            self.scratch(f"carry_{line.name}", line.dtype, ROWS)
        with w.block("for block in range(start, stop):"):
            w(f"first = block * {ROWS}")
            w(f"last = min(first + {ROWS}, {self.size(outer)})")
            with w.block(f"if last - first == {ROWS}:"):
                self._rows(f"range({ROWS})", "first + k", vector, scans)
            with w.block("else:"), w.block("for late in range(first, last):"):
                self._rows("range(1)", "late", vector, scans)
        work = self.work() * self.body.extents[vector] * ROWS
        return self.finish("scan", -(-self.body.extents[outer] // ROWS), work)

    def _rows(self, rows: str, row: str, vector: str, scans: list[Line]) -> None:
        with self.w.block(f"for k in {rows}:"):
            for line in scans:
                assert line.buffer is not None
                start = stored(line.dtype, line.buffer.name)
                self.w(f"carry_{line.name}[k] = {start}")
        with (
            self.w.block(f"for {vector} in range({self.size(vector)}):"),
            self.w.block(f"for k in {rows}:"),
        ):
            self.w(f"{self.plan.outer[0]} = {row}")
            self.row_lines(0)
            self.inner(0, stage_targets(self.plan, 0))
            self.stores(0, inner=True)

    def line(self, line: Line) -> None:
        if line.kind != "scan":
            super().line(line)
            return
        carry = f"carry_{line.name}[k]"
        text = line.text.format(
            *[self.read(a) for a in line.args], carry=loaded(line.dtype, carry)
        )
        self.w(f"{line.name} = {text}")
        self.w(f"{carry} = {stored(line.dtype, line.name)}")
