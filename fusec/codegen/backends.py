"""What differs between the targets of a program."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from fusec.codegen import matmul
from fusec.codegen.cuda_matmul import matmul_kernel
from fusec.codegen.emit import KernelSource
from fusec.codegen.emit_cpu import emit
from fusec.codegen.emit_cuda import MAX_PARAMETERS, CudaLimits, emit_cuda
from fusec.codegen.loops import Body
from fusec.ir.rewrite import Rule
from fusec.passes.groups import FEW_ROWS
from fusec.passes.halves import narrow_product
from fusec.passes.onehot import stored_in_order


@dataclass(frozen=True)
class Backend:
    """few_rows: fewer long rows are split over threads; emit: a group's body to its kernels.

    matmul: the kernel of a matrix product, or None where NumPy has to do it. library: it
    may call a library, and counts as a call. rules: rewriting before the graph is cut. loops:
    whether its programs have steps that repeat others. arguments: of a kernel, at most. without:
    passes that are not for it.
    """

    name: str
    few_rows: int
    emit: Callable[[Body, bool], list[KernelSource]]
    matmul: Callable[..., KernelSource | None] | None = None
    library: bool = False
    rules: Mapping[str, list[Rule]] = field(default_factory=dict)
    loops: bool = False
    arguments: int = 10_000
    without: frozenset[str] = frozenset()


def _cuda(name: str, limits: CudaLimits, few_rows: int) -> Backend:
    def write(body: Body, split: bool) -> list[KernelSource]:
        return emit_cuda(body, split, limits)

    rules: Mapping[str, list[Rule]] = {**SCATTERS, "matmul": [narrow_product]}
    return Backend(
        name, few_rows, write, matmul_kernel, rules=rules, arguments=MAX_PARAMETERS - 1,
        without=frozenset({"centre"}),  # a block keeps its row
    )  # fmt: skip


SCATTERS: Mapping[str, list[Rule]] = {"scatter_flat": [stored_in_order]}
BACKENDS = {
    "cpu": Backend("cpu", FEW_ROWS, emit, matmul.product, True, SCATTERS, True),
    "cuda": _cuda("cuda", CudaLimits(), few_rows=264),  # two blocks for each multiprocessor
    "simulator": _cuda("simulator", CudaLimits(64, serial=400, each=4, blocks=4), few_rows=4),
}
"""``simulator``: CUDA kernels of small blocks, since each of its threads is one of Python's."""
