"""Who runs a kernel: fusec, NumPy and the peers that are installed, one row of a table each.

A contender compiles a kernel and binds it to arguments, which gives a call without any. Peers get
arrays of their own kind and give arrays of their own kind, so that no conversion is timed; what
they compile is compiled by the first call.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np

from benchmarks import peers_numba, peers_numexpr
from kernels import Kernel

Args = tuple[Any, ...]
Call = Callable[[], Any]
Bind = Callable[[Args], Call]

PAGE = 4096  # bytes


class Unable(Exception):
    """The contender has no form of this kernel; the text says why."""


@dataclass(frozen=True)
class Contender:
    """name: on the command line and in tables. module: what has to be installed.

    make: ``(kernel, device) -> bind`` and ``bind(args) -> call``, compiled once for all arguments;
    raises `Unable` where it has no form of the kernel.
    devices: kinds of device it runs on. strict: kept out of "best peer" where a relaxed form of
    the same peer is in it. apart: its products are made by SciPy's OpenBLAS, whose threads wait for
    cores that NumPy's then lacks: it is timed after the others where products are.
    """

    name: str
    module: str
    make: Callable[[Kernel, str], Bind]
    devices: tuple[str, ...] = ("cpu",)
    strict: bool = False
    apart: bool = False

    @property
    def installed(self) -> bool:
        return find_spec(self.module) is not None


def mapped(tree: Any, leaf: Callable[[Any], Any]) -> Any:
    """Nested tuples, lists and dicts with ``leaf`` of every array."""
    if isinstance(tree, (tuple, list)):
        return type(tree)(mapped(item, leaf) for item in tree)
    if isinstance(tree, dict):
        return {key: mapped(item, leaf) for key, item in tree.items()}
    return leaf(tree) if isinstance(tree, np.ndarray) else tree


def copies(args: Args) -> Args:
    """The same arguments in other memory."""
    return mapped(args, _placed)


def _placed(array: Any) -> Any:
    """A copy that lies where ``malloc`` puts large blocks: 16 bytes behind the start of a page.

    Small blocks begin at any multiple of 16 bytes. Vectors of 64 bytes are up to a sixth faster
    where none of them crosses a cache line: that is no contender's merit.
    """
    memory = np.empty(array.nbytes + 2 * PAGE, np.uint8)
    start = (16 - memory.ctypes.data) % PAGE
    order: Any = "F" if array.flags.fnc else "C"
    copy = np.ndarray(array.shape, array.dtype, memory, start, order=order)
    copy[...] = array
    return copy


def with_numpy(fn: Callable[..., Any], namespace: Any) -> Callable[..., Any]:
    """The function and its helpers with another module in place of ``np``."""
    scope: dict[str, Any] = {}
    for name, value in fn.__globals__.items():  # type: ignore[attr-defined]
        ours = isinstance(value, types.FunctionType) and value.__module__ == fn.__module__
        scope[name] = _rebound(value, scope) if ours else value
    scope["np"] = namespace
    return _rebound(fn, scope)


def _rebound(fn: Any, scope: dict[str, Any]) -> Any:
    return types.FunctionType(fn.__code__, scope, fn.__name__, fn.__defaults__, fn.__closure__)


def _numpy(kernel: Kernel, device: str) -> Bind:
    return lambda args: lambda: kernel.function(*args)


def _fusec(kernel: Kernel, device: str) -> Bind:
    import fusec

    compiled = fusec.jit(kernel.function)

    def bind(args: Args) -> Call:
        there = mapped(args, lambda a: fusec.to_device(a, device))

        def call() -> Any:
            result = compiled(*there)
            fusec.synchronize()
            return result

        return call

    return bind if device != "cpu" else lambda args: lambda: compiled(*args)


def _numexpr(kernel: Kernel, device: str) -> Bind:
    if kernel.name not in peers_numexpr.EXPRESSIONS:
        raise Unable("numexpr has no way to say it")
    return lambda args: peers_numexpr.call(kernel.name, args)


def _numba(fastmath: bool) -> Callable[[Kernel, str], Bind]:
    def make(kernel: Kernel, device: str) -> Bind:
        if kernel.name not in peers_numba.LOOPS:
            raise Unable("nobody wrote the loop")
        loop = peers_numba.compiled(kernel.name, fastmath=fastmath)
        return lambda args: lambda: loop(*args)

    return make


def _jax(kernel: Kernel, device: str) -> Bind:
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    place = jax.devices("gpu" if device.startswith("cuda") else "cpu")[0]
    compiled = jax.jit(with_numpy(kernel.function, jnp))

    def bind(args: Args) -> Call:
        theirs = mapped(args, lambda a: jax.device_put(a, place))
        return lambda: jax.block_until_ready(compiled(*theirs))

    return bind


def _torch(kernel: Kernel, device: str) -> Bind:
    import torch

    torch._dynamo.reset()
    compiled = torch.compile(kernel.function, dynamic=False)

    def bind(args: Args) -> Call:
        def call() -> Any:
            with torch.device("cuda"):
                result = compiled(*args)
            torch.cuda.synchronize()
            return result

        return call if device != "cpu" else lambda: compiled(*args)

    return bind


def _cupy(kernel: Kernel, device: str) -> Bind:
    import cupy

    function = with_numpy(kernel.function, cupy)

    def bind(args: Args) -> Call:
        theirs = mapped(args, cupy.asarray)

        def call() -> Any:
            result = function(*theirs)
            cupy.cuda.get_current_stream().synchronize()
            return result

        return call

    return bind


BOTH = ("cpu", "cuda")
CONTENDERS: dict[str, Contender] = {
    c.name: c
    for c in (
        Contender("fusec", "fusec", _fusec, BOTH),
        Contender("numpy", "numpy", _numpy),
        Contender("numexpr", "numexpr", _numexpr),
        Contender("numba", "numba", _numba(fastmath=True), apart=True),
        Contender("numba-strict", "numba", _numba(fastmath=False), strict=True, apart=True),
        Contender("jax", "jax", _jax, BOTH),
        Contender("torch", "torch", _torch, BOTH),
        Contender("cupy", "cupy", _cupy, ("cuda",)),
    )
}


def chosen(names: list[str] | None, device: str) -> list[Contender]:
    """fusec and the named contenders, or all that are installed and run on the device."""
    kind = device.partition(":")[0]
    there = [c for c in CONTENDERS.values() if c.installed and kind in c.devices]
    if names is None:
        return there
    for name in names:
        if name not in CONTENDERS:
            raise SystemExit(f"no contender {name!r}; there are {', '.join(CONTENDERS)}")
        if CONTENDERS[name] not in there:
            need = CONTENDERS[name].module
            raise SystemExit(f"{name} does not run here on {device}: is {need} installed?")
    return [c for c in there if c.name in {"fusec", *names}]
