"""A stand-in for NVIDIA's driver: all of fusec's way to a GPU runs, but for the GPU.

``fusec.runtime.cuda``, cuda.core and cuda.bindings call a library of the driver's name
(``driver.c``), whose memory is the host's and whose kernels Numba's simulator runs. It must be
loaded before CUDA is looked for, in a process that simulates.
"""

import contextlib
import ctypes
import gc
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fusec.codegen.cuda_simulator import simulate
from fusec.runtime.cache import cache

SOURCE = Path(__file__).with_name("driver.c")
RUNS = ctypes.CFUNCTYPE(
    None, ctypes.c_char_p, ctypes.POINTER(ctypes.c_uint), ctypes.POINTER(ctypes.c_int64)
)
KINDS = ("copy", "fill", "launch", "record", "wait", "free")


class Driver:
    """The library, loaded for the whole process; ``errors`` of kernels that it ran."""

    def __init__(self) -> None:
        made = Path(tempfile.mkdtemp()) / "libcuda.so.1"
        command = ["gcc", "-O1", "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "-o", made, SOURCE]
        subprocess.run([*command, "-lpthread"], check=True)
        self.library = ctypes.CDLL(str(made), mode=ctypes.RTLD_GLOBAL)
        self.library.stand_in_live.restype = ctypes.c_size_t
        self.library.stand_in_room.argtypes = [ctypes.c_size_t]
        self.library.stand_in_block.argtypes = [ctypes.c_size_t, ctypes.c_void_p]
        self.library.stand_in_block.restype = ctypes.c_size_t
        self.kernels: dict[str, tuple] = {}
        self.symbols: dict[tuple, str] = {}
        self.errors: list[BaseException] = []
        self.running = threading.Lock()  # the simulator's threads share module-level state
        self._runs = RUNS(self.run)
        self.library.stand_in_runs(self._runs)
        cache.ptx = self.ptx  # type: ignore[method-assign]

    def ptx(self, text, ints, pointers, arch, *, fastmath=False, aligned=False):
        """What names the kernel and tells how many arguments it has."""
        key = text, ints, pointers
        symbol = self.symbols.setdefault(key, f"kernel_{len(self.symbols)}")
        self.kernels[symbol] = key
        params = ", ".join([".param .b64 p"] * (len(ints) + len(pointers) + 1))
        return symbol, f".version 8.0\n.target {arch}\n.visible .entry {symbol}({params})\n"

    def run(self, name, shape, values) -> None:
        try:
            text, ints, pointers = self.kernels[name.decode()]
            given = [values[k] for k in range(len(ints) + len(pointers) + 1)]
            memory = [self.memory(address) for address in given[len(ints) : -1]]
            grid, block = (shape[0], shape[1]), (shape[3], shape[4])
            status = self.memory(given[-1])[0][:8].view(np.int64)
            with self.running, _uncollected():
                simulate(text, given[: len(ints)], memory, pointers, grid, block, status)
        except BaseException as error:
            self.errors.append(error)

    def count(self, kind: str) -> int:
        """How many operations of a kind have run, or ``replays`` of graphs were asked for."""
        return self.library.stand_in_count(KINDS.index(kind) if kind in KINDS else -1)

    @property
    def live(self) -> int:
        """Bytes of the device's memory that are taken."""
        return self.library.stand_in_live()

    def memory(self, address: int) -> tuple[np.ndarray, int]:
        """The block of the device's memory that an address belongs to, and where it leads there."""
        start = ctypes.c_size_t()
        count = self.library.stand_in_block(address, ctypes.byref(start))
        if not start.value:
            raise MemoryError(f"{address:#x} is no address of the device")
        block = (ctypes.c_uint8 * count).from_address(start.value)
        return np.ctypeslib.as_array(block), address - start.value


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Without collections, which may free buffers and wait for streams."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


_DRIVER: list[Driver] = []


def pytest_configure() -> None:
    _DRIVER.append(Driver())


@pytest.fixture
def driver() -> Driver:
    return _DRIVER[0]


@pytest.fixture(autouse=True)
def _no_errors(driver):
    """A kernel that fails has told the driver, which has no words for it."""
    yield
    assert not driver.errors, driver.errors[0]
