"""The kernels of a lowered and of a compiled program, as users look at them."""

from __future__ import annotations

import html
from functools import cached_property
from typing import TYPE_CHECKING

from fusec.codegen.ptxas import Resources, assemble, disassemble
from fusec.codegen.steps import Launch
from fusec.runtime.cache import cache

if TYPE_CHECKING:
    from fusec.codegen.target import ObjectCode


class Kernel:
    """One kernel of a lowered program.

    name: as in the list of steps; source: the kernel as Python text; rows: the grid it is launched
    over; ints: its size and stride arguments with the values for this call; notes: (op, user's
    line) of everything it computes; chunk: rows that are worth one more thread. For CUDA, grid and
    block: (x, y) of its launch.
    """

    def __init__(self, step: Launch, read: int, written: int, fastmath: bool, arch: str) -> None:
        self._kernel = step.kernel
        self._fastmath = fastmath
        self.arch = arch
        self.grid, self.block = step.kernel.grid, step.kernel.block
        self.name = step.kernel.name
        self.source = step.kernel.text
        self.rows = step.kernel.rows
        self.ints = dict(step.kernel.ints)
        self.notes = list(step.kernel.notes)
        self.chunk = step.chunk
        self.bytes_read = read
        self.bytes_written = written

    @property
    def title(self) -> str:
        """The names of its ops."""
        names = list(dict.fromkeys([what.split()[0] for what, _ in self.notes]))
        return ", ".join(names[:8]) + (f", {len(names) - 8} more" if len(names) > 8 else "")

    def __repr__(self) -> str:
        return f"<kernel {self.name}: {self.title}>"

    def _repr_html_(self) -> str:
        return (
            f"<details><summary>{html.escape(f'{self.name}: {self.title}')}</summary>"
            f"<pre>{html.escape(self.source)}</pre></details>"
        )


class CompiledKernel(Kernel):
    """A kernel with its machine code. ``llvm`` and ``asm`` are texts, ``object`` an object file."""

    @cached_property
    def _code(self) -> ObjectCode:
        from fusec.codegen.numba_cpu import compile_kernel

        kernel = self._kernel
        return compile_kernel(
            kernel.text, kernel.int_names, kernel.ptr_types, fastmath=self._fastmath
        )

    @property
    def llvm(self) -> str:
        """The optimised LLVM module."""
        return self._code.llvm

    @property
    def asm(self) -> str:
        """The assembly for this machine."""
        return self._code.asm

    @property
    def object(self) -> bytes:
        """The object file that the cache keeps."""
        return self._code.object

    @property
    def object_size(self) -> int:
        """Bytes of the object file."""
        return len(self._code.object)


class CudaKernel(Kernel):
    """A CUDA kernel with its code. ``sass`` and ``resources`` need NVIDIA's ``ptxas``."""

    @cached_property
    def ptx(self) -> str:
        """The PTX, as the driver gets it."""
        kernel = self._kernel
        return cache.ptx(
            kernel.text,
            kernel.int_names,
            kernel.ptr_types,
            self.arch,
            fastmath=self._fastmath,
            aligned=kernel.aligned,
        )[1]

    @cached_property
    def _assembled(self) -> tuple[bytes, Resources]:
        return assemble(self.ptx, self.arch, self.block[0] * self.block[1])

    @property
    def cubin(self) -> bytes:
        """The machine code. Raises UnsupportedError where ``ptxas`` is missing."""
        return self._assembled[0]

    @property
    def resources(self) -> Resources:
        """Registers, shared memory, spills and occupancy."""
        return self._assembled[1]

    @cached_property
    def sass(self) -> str:
        """The machine code as text. Raises UnsupportedError where ``nvdisasm`` is missing."""
        return disassemble(self.cubin)
