"""Runs the text of a CUDA kernel in Numba's CUDA simulator: Python threads, no GPU.

The simulator knows no pointers and none of our primitives, so they are given twins: a pointer is an
array with bounds that are checked, a primitive is compiled for the CPU and called on NumPy scalars,
a shuffle goes through memory that the warp shares. Needs numba-cuda and a process that was started
with ``NUMBA_ENABLE_CUDASIM=1``.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import threading
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from fusec.codegen import cuda_threads, primitives
from fusec.codegen.target import Pointers
from fusec.errors import UnsupportedError

WARP = 32
_SWITCH = "NUMBA_ENABLE_CUDASIM"


class Pointer:
    """``memory[offset + i]`` as a kernel's pointer has it, with an error outside of the memory."""

    def __init__(self, memory: np.ndarray, offset: int = 0) -> None:
        self.memory, self.offset = memory, offset

    def _place(self, i: Any) -> int:
        place = self.offset + int(i)
        if not 0 <= place < self.memory.size:
            raise IndexError(f"element {place} of memory with {self.memory.size}")
        return place

    def __getitem__(self, i: Any) -> Any:
        return self.memory[self._place(i)]

    def __setitem__(self, i: Any, value: Any) -> None:
        self.memory[self._place(i)] = value


def simulate(
    text: str,
    ints: Sequence[int],
    pointers: Sequence[tuple[np.ndarray, int]],
    types: Pointers,
    grid: tuple[int, int],
    block: tuple[int, int],
    status: np.ndarray,
) -> None:
    """Run one kernel.

    text: as for ``compile_ptx``; ints: the values of its int arguments.
    pointers: for each pointer its whole buffer (uint8) and an offset in bytes.
    types: (name, dtype) of each pointer.
    grid, block: (x, y). status: int64 array of one element, set when a thread finds an error.
    Raises IndexError for an access outside of a buffer.
    """
    cuda = simulator()
    arguments: list[Any] = [int(n) for n in ints]
    for (memory, offset), (_, dtype) in zip(pointers, types):
        kind = np.dtype(dtype)
        kind = np.dtype({"b": "u1", "m": "i8", "M": "i8"}.get(kind.kind, kind))
        kind = np.dtype("u2") if kind == np.float16 else kind
        whole = memory[: memory.size // kind.itemsize * kind.itemsize]
        arguments.append(Pointer(whole.view(kind), offset // kind.itemsize))
    _rehearse(text, grid, block, arguments)
    kernel = _kernel(text, _twins())

    def thread(*args: Any) -> None:
        with np.errstate(all="ignore"):
            result = kernel(*args)
        if result:
            status[0] = result

    cuda.jit(thread)[grid, block](*arguments)


def simulator() -> Any:
    """Numba's ``cuda`` module in its simulated form, or UnsupportedError."""
    if importlib.util.find_spec("numba_cuda") is None or not os.environ.get(_SWITCH):
        raise UnsupportedError(
            f"the CUDA simulator: install numba-cuda and start Python with {_SWITCH}=1"
        )
    return importlib.import_module("numba.cuda")


def _rehearse(
    text: str, grid: tuple[int, int], block: tuple[int, int], arguments: Sequence[Any]
) -> None:
    """Compile the primitives that a kernel calls, by running one thread of it on copies.

    With the simulator's threads polling beside it, compiling takes twenty times as long.
    """
    alone = _twins() | {f"blockIdx_{axis}": lambda: 0 for axis in "xy"}
    alone |= {f"threadIdx_{axis}": lambda: 0 for axis in "xy"}
    for k, axis in enumerate("xy"):
        alone[f"blockDim_{axis}"] = lambda k=k: block[k]
        alone[f"gridDim_{axis}"] = lambda k=k: grid[k]
    for name in alone:
        if name.startswith("shared_"):
            dtype = np.dtype("u1" if name == "shared_b1" else name.removeprefix("shared_"))
            alone[name] = lambda count, dtype=dtype: Pointer(np.zeros(count, dtype))
    alone |= {"grid": lambda: 0, "gridsize": lambda: grid[0] * block[0], "syncthreads": lambda: 0}
    alone |= {"shfl_xor": lambda value, by: value, "shfl_up": lambda value, by: value}
    alone |= {"match_any": lambda value: 1, "syncwarp": lambda: 0}
    copies = [Pointer(a.memory.copy(), a.offset) if type(a) is Pointer else a for a in arguments]
    with np.errstate(all="ignore"):
        _kernel(text, alone)(*copies)


def _kernel(text: str, threads: dict[str, Any]) -> Callable[..., Any]:
    lines = [x for x in text.splitlines() if not x.startswith("from fusec")]
    names: dict[str, Any] = dict(_primitives()) | threads
    exec(compile("\n".join(lines), "<cuda kernel>", "exec"), names)
    kernel: Callable[..., Any] = names["kernel"]
    return kernel


# -- primitives -----------------------------------------------------------------------------------


@lru_cache(1)
def _primitives() -> dict[str, Any]:
    found = {n: _scalar(n) for n in dir(primitives) if not n.startswith("_")}
    return {n: f for n, f in found.items() if f is not None}


_COMPILING = threading.Lock()


def _scalar(name: str) -> Callable[..., Any] | None:
    """A primitive as a function of NumPy scalars, compiled for the types that it is called with."""
    primitive = getattr(primitives, name)
    if type(primitive).__name__ != "_Intrinsic":
        return None
    compiled: dict[tuple[Any, ...], tuple[Any, Any]] = {}

    def call(*args: Any) -> Any:
        args = tuple([np.uint64(a) if type(a) is int and a >= 1 << 63 else a for a in args])
        key = tuple([type(a) for a in args])
        if key not in compiled:
            with _COMPILING:
                compiled[key] = _compile(primitive, name, args)
        function, kind = compiled[key]
        return kind(function(*args))

    call.__name__ = name
    return call


def _compile(primitive: Any, name: str, args: tuple[Any, ...]) -> tuple[Any, Any]:
    import numba
    from numba.np import numpy_support

    compiler: Any = numba

    letters = ", ".join("abc"[: len(args)])
    names = {"primitive": primitive}
    exec(f"def {name}({letters}):\n    return primitive({letters})", names)
    function = compiler.njit(error_model="numpy")(names[name])
    kinds = tuple([compiler.typeof(a) for a in args])
    function.compile(kinds)
    result = function.overloads[kinds].signature.return_type
    return function, numpy_support.as_dtype(result).type


# -- threads --------------------------------------------------------------------------------------


def _here() -> Any:
    return threading.current_thread()


def _block() -> Any:
    return _here()._manager


class _Common:
    """What the threads of a block or a warp share, made by the first that asks."""

    def __init__(self) -> None:
        self.made: dict[Any, Any] = {}
        self.guard = threading.Lock()

    def get(self, key: Any, make: Callable[[], Any]) -> Any:
        with self.guard:
            if key not in self.made:
                self.made[key] = make()
            return self.made[key]


def _index(name: str, axis: str) -> Callable[[], int]:
    if name in ("threadIdx", "blockIdx"):
        return lambda: int(getattr(getattr(_here(), name), axis))
    number = "xy".index(axis)
    place = {"blockDim": "_block_dim", "gridDim": "_grid_dim"}[name]
    return lambda: int(getattr(_block(), place)[number])


def _shuffle(common: _Common, source: Callable[[int, int], int]) -> Callable[[Any, int], Any]:
    return _exchange(common, lambda slots, lane, by: slots[source(lane, by)])


def _exchange(common: _Common, choose: Callable[[list[Any], int, int], Any]) -> Callable[..., Any]:
    """Every lane leaves its value, waits for the warp, and takes what it needs of all values."""

    def move(value: Any = 0, by: int = 0) -> Any:
        number, lane = divmod(_here().thread_id, WARP)
        size = int(np.prod(_block()._block_dim)) - number * WARP
        barrier, slots = common.get(
            (_block(), "warp", number),
            lambda: (threading.Barrier(min(WARP, size)), [None] * WARP),
        )
        slots[lane] = value
        barrier.wait()
        found = choose(slots, lane, int(by))
        barrier.wait()
        return found

    return move


def _shared(common: _Common, letters: str) -> Callable[[int], Any]:
    dtype = np.dtype("u1" if letters == "b1" else letters)

    def make(count: int) -> Any:
        declared = _here().__dict__.setdefault("declared", [])  # threads declare in one order
        declared.append(letters)
        key = (_block(), "array", len(declared))
        return common.get(key, lambda: Pointer(np.zeros(count, dtype)))

    return make


def _peers(slots: list[Any], lane: int, by: int) -> int:
    return sum([1 << k for k, value in enumerate(slots) if value == slots[lane]])


_ADDING = threading.Lock()


def _atomic_add(pointer: Pointer, place: Any, value: Any) -> int:
    with _ADDING:
        pointer[place] = pointer[place] + value
    return 0


def _syncthreads() -> int:
    _here().syncthreads()
    return 0


def _twins() -> dict[str, Any]:
    """What ``cuda_threads`` has, for one launch."""
    common = _Common()
    twins: dict[str, Any] = {
        f"{name}_{axis}": _index(name, axis)
        for name in ("threadIdx", "blockIdx", "blockDim", "gridDim")
        for axis in "xy"
    }
    block, threads, thread = (twins[n] for n in ("blockIdx_x", "blockDim_x", "threadIdx_x"))
    twins |= {
        name: _shared(common, name.removeprefix("shared_"))
        for name in cuda_threads.__all__
        if name.startswith("shared_")
    }
    twins |= {
        "grid": lambda: block() * threads() + thread(),
        "gridsize": lambda: twins["gridDim_x"]() * threads(),
        "syncthreads": _syncthreads,
        "atomic_add": _atomic_add,
        "shfl_xor": _shuffle(common, lambda lane, by: lane ^ by),
        "shfl_up": _shuffle(common, lambda lane, by: lane - by if lane >= by else lane),
        "match_any": _exchange(common, _peers),
        "syncwarp": _exchange(common, lambda slots, lane, by: 0),
    }
    return twins
