"""NVIDIA's tools on PTX, without a GPU: ``ptxas`` assembles, ``nvdisasm`` shows machine code.

They are looked for in CUDA's wheels, on the PATH and in CUDA_HOME. Everything but this inspection
works without them.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from fusec.codegen.target import KernelCompileError
from fusec.errors import UnsupportedError

WHEELS = {"ptxas": "nvidia-cuda-nvcc", "nvdisasm": "nvidia-cuda-nvdisasm"}
WARP = 32


@dataclass(frozen=True)
class Processor:
    """A multiprocessor's limits: CUDA C++ Programming Guide, table of compute capabilities."""

    warps: int
    blocks: int
    shared: int  # bytes
    registers: int = 65_536


PROCESSORS = {
    "sm_70": Processor(64, 32, 96 << 10), "sm_75": Processor(32, 16, 64 << 10),
    "sm_80": Processor(64, 32, 164 << 10), "sm_86": Processor(48, 16, 100 << 10),
    "sm_87": Processor(48, 16, 164 << 10), "sm_89": Processor(48, 24, 100 << 10),
    "sm_90": Processor(64, 32, 228 << 10), "sm_100": Processor(64, 32, 228 << 10),
    "sm_103": Processor(64, 32, 228 << 10), "sm_120": Processor(48, 24, 100 << 10),
}  # fmt: skip


@dataclass(frozen=True)
class Resources:
    """What a kernel takes of a multiprocessor.

    registers: of a thread; shared, stack, spill_stores, spill_loads: bytes; occupancy: estimated
    share of the multiprocessor's warps that can be resident.
    """

    registers: int
    shared: int
    stack: int
    spill_stores: int
    spill_loads: int
    occupancy: float


def tool(name: str) -> str:
    """The path of ``ptxas`` or ``nvdisasm``. Raises UnsupportedError with what to install."""
    places = [Path(p) for p in sys.path if p and "site-packages" in p]
    found = [hit for p in places for hit in sorted(p.glob(f"nvidia/*/bin/{name}"))]
    home = os.environ.get("CUDA_HOME")
    if home and (Path(home) / "bin" / name).exists():
        found.append(Path(home) / "bin" / name)
    path = str(found[0]) if found else shutil.which(name)
    if path is None:
        raise UnsupportedError(f"{name} is not installed: pip install {WHEELS[name]}")
    return path


def assemble(ptx: str, arch: str, threads: int = 256) -> tuple[bytes, Resources]:
    """The machine code (cubin) of a PTX text, and what it takes.

    threads: of a block, for the occupancy. Raises KernelCompileError, UnsupportedError.
    """
    with tempfile.TemporaryDirectory() as folder:
        source, cubin = Path(folder) / "kernel.ptx", Path(folder) / "kernel.cubin"
        source.write_text(ptx)
        said = _run([tool("ptxas"), f"-arch={arch}", "-v", "-o", str(cubin), str(source)])
        return cubin.read_bytes(), _resources(said, arch, threads)


def disassemble(cubin: bytes) -> str:
    """The machine code as text (SASS)."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(cubin)
        return _run([tool("nvdisasm"), "-c", str(path)])


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise KernelCompileError(f"{Path(command[0]).name}: {done.stderr.strip()[:2000]}")
    return done.stdout + done.stderr


def _resources(said: str, arch: str, threads: int) -> Resources:
    def number(pattern: str) -> int:
        found = re.search(pattern, said)
        return int(found[1]) if found else 0

    registers, shared = number(r"Used (\d+) registers"), number(r"(\d+) bytes smem")
    return Resources(
        registers,
        shared,
        number(r"(\d+) bytes stack frame"),
        number(r"(\d+) bytes spill stores"),
        number(r"(\d+) bytes spill loads"),
        occupancy(registers, shared, threads, arch),
    )


def occupancy(registers: int, shared: int, threads: int, arch: str) -> float:
    """The share of a multiprocessor's warps that fit, by registers, shared memory and blocks.

    Registers are given to warps in units of 256, shared memory to blocks in units of 1 KiB, of
    which each block takes one more (CUDA's occupancy calculator).

    >>> occupancy(32, 0, 256, "sm_90"), occupancy(128, 0, 256, "sm_90")
    (1.0, 0.25)
    """
    limits, warps = PROCESSORS[arch], -(-threads // WARP)
    of_warp = -(-max(registers, 1) * WARP // 256) * 256
    blocks = min(limits.blocks, limits.warps // warps, limits.registers // of_warp // warps)
    blocks = min(blocks, limits.shared // ((-(-shared // 1024) + 1) * 1024))
    return blocks * warps / limits.warps
