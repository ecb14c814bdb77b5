"""What all forms of CPU and CUDA kernels share: rows, the lines of a loop, and stores."""

from collections.abc import Iterable, Mapping

from fusec.codegen.emit import Emitter, KernelSource, stored
from fusec.codegen.loops import Line, Store, closure
from fusec.codegen.schedule import inner_stores, is_inner, row_stores, turns
from fusec.ops.registry import COSTLY

LONG = 512  # bytes of a row whose vectors take turns; of a shorter one too many would be left over
VECTOR = 64  # bytes of a vector under a mask, which a row of less is
LEFT = 4  # costly elements behind the last whole vector of a row that are worth a mask


class LoopEmitter(Emitter):
    """Rows, levels and stores, shared by all forms of kernels."""

    inside: frozenset[Line] = frozenset()  # places of the loop that are in bounds, and their checks
    lone: frozenset[Line] = frozenset()  # numbers of the loop that are no part of a vector
    gathered: Mapping[Store, str] = {}  # stores of the loop whose lanes are gathered: where
    grouped = False  # whether the loop is one over groups of elements, which says how it runs
    streamed = False  # whether some of its stores go past the caches

    @property
    def nested(self) -> bool:
        """Whether the loop that LLVM makes vectors of runs again and again."""
        return bool(self.plan.outer)

    def rows(self, names: list[str], row: str = "row") -> None:
        """Take the row number apart into its loop variables, fastest last."""
        if not names:
            return
        if len(names) == 1:
            if names[0] != row:
                self.w(f"{names[0]} = {row}")
            return
        rest, bits = row, self.division(names)
        for name in reversed(names[1:]):
            self.w(f"{name} = remainder{bits}({rest}, {self.size(name)})")
            self.w(f"rest = quotient{bits}({rest}, {self.size(name)})")
            rest = "rest"
        self.w(f"{names[0]} = rest")

    def division(self, names: list[str]) -> str:
        """Which divisions take a number below ``count(names)`` apart: "" or "_u4"."""
        return ""

    def count(self, names: Iterable[str]) -> int:
        total = 1
        for name in names:
            total *= self.body.extents[name]
        return total

    def invariants(self) -> None:
        for line in self.body.lines:
            if not line.variables and line.stage == 0 and not is_inner(line, self.plan):
                self.line(line)

    def row_lines(self, stage: int) -> None:
        """Values that change with the row only, once their folds are done."""
        self.outside({*self.plan.reduced, self.plan.column}, stage)

    def outside(self, axes: set[str], stage: int | None = None) -> None:
        """Values of the row that stay the same along some axes, of one stage or of all."""
        for line in self.body.lines:
            launch = not line.variables and line.stage == 0
            if stage in (None, line.stage) and not launch and not line.variables & axes:
                self.line(line)

    def inner(self, stage: int, targets: list[Line]) -> None:
        """The lines inside the loop of ``stage``."""
        need = closure(targets, set(self.known))
        for line in self.body.lines:
            if is_inner(line, self.plan) and (line in need or (line.effect and line in targets)):
                self.line(line)

    def stores(self, stage: int, inner: bool) -> None:
        for store in (inner_stores if inner else row_stores)(self.plan, stage):
            self.keep(store)

    def keep(self, store: Store) -> None:
        value = stored(store.buffer.dtype, self.read(store.value))
        if store in self.gathered:
            self.w(f"{self.gathered[store]} = {value}")
            return
        pointer, where = self.address(store.buffer, store.index)
        self.w(f"{pointer}[{where}] = {value}")

    def keep_row(self, line: Line, length: int) -> None:
        """Room for what later loops read of a row."""
        self.scratch(f"w_{line.name}", line.dtype, length)

    def interleave(self, targets: list[Line], axis: str) -> None:
        """The last statements of a loop: how its vectors run, where LLVM should be told."""
        need = closure(targets, set(self.known))
        lines = [x for x in self.body.lines if x in need and is_inner(x, self.plan)]
        length, widest = self.body.extents[axis], max([x.dtype.itemsize for x in lines], default=0)
        count = turns(lines, targets)
        if count > 1 and (length * widest >= LONG or not self.nested):
            self.w(f"interleave({axis}, {count})")
        plain = all(x.kind in ("op", "load", "index", "size") for x in lines)
        group = VECTOR // widest if plain and widest else 0
        apart = any(abs(dict(x.index.terms).get(axis, 0)) > 1 for x in lines if x.index)
        if group and length % group >= LEFT and sum(x.cost for x in lines) >= COSTLY:
            few = self.nested and not apart
        else:
            few = bool(self.plan.outer) and length < group
        if few:
            self.w(f"few({axis}, {group})")

    def work(self) -> float:
        """Estimated nanoseconds of one pass of the innermost loops of a row."""
        ops = sum(x.cost for x in self.body.lines if x.kind not in ("fold", "scan"))
        memory = sum(x.dtype.itemsize for x in self.body.lines if x.kind == "load")
        memory += sum(s.buffer.dtype.itemsize for s in self.body.stores)
        return 0.05 * ops + 0.1 * memory

    def line(self, line: Line) -> None:
        if not (line.effect and line in self.inside):
            super().line(line)

    def expression(self, line: Line) -> str:
        if line in self.inside:
            return self.read(line.args[0])
        text = super().expression(line)
        return f"taken({text})" if line in self.lone else text

    def finish(self, name: str, rows: int, work: float) -> KernelSource:
        if self.streamed:
            self.w("end_of_streams()")
        made = super().finish(name, rows, work)
        made.plan = self.plan if name == "map" else None
        return made
