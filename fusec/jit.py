"""``fusec.jit``: the decorator.

Importing this module imports nothing else of the compiler; decorating a function does.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar, overload

from fusec.errors import DeviceError

F = TypeVar("F", bound=Callable[..., Any])


@overload
def jit(fn: F) -> F: ...
@overload
def jit(
    fn: None = None,
    *,
    device: str | None = None,
    static_argnums: int | Sequence[int] = (),
    static_argnames: str | Sequence[str] = (),
    donate_argnums: int | Sequence[int] = (),
    fastmath: bool = False,
) -> Callable[[F], F]: ...
def jit(
    fn: Any = None,
    *,
    device: str | None = None,
    static_argnums: int | Sequence[int] = (),
    static_argnames: str | Sequence[str] = (),
    donate_argnums: int | Sequence[int] = (),
    fastmath: bool = False,
) -> Any:
    """Compile a NumPy function.

    fn: a function, lambda or method of arrays, numbers and containers of them.
    static_argnums, static_argnames: arguments that are part of the program: another value compiles
        another one.
    device: "cuda" or "cuda:1": arguments are moved there, results are ``fusec.Array``. Without it,
        a call with a ``fusec.Array`` runs where that is, and others run on the CPU.
    donate_argnums: arguments on a device that the caller gives up: results may take their memory.
    fastmath: allow contraction and reciprocals, which change last bits.

    Raises DeviceError for arrays on two devices, and for a device that is not there when it is
    first called.

    >>> import numpy as np, fusec
    >>> @fusec.jit
    ... def axpy(a, x, y):
    ...     return a * x + y
    >>> axpy(2.0, np.arange(3.0), np.ones(3))
    array([1., 3., 5.])
    """
    kind = str(device or "cpu").partition(":")[0]
    if kind not in ("cpu", "cuda", "simulator", "null"):
        raise DeviceError(f'no device {device!r}: write "cuda", "cuda:1", or leave it out')
    device = None if kind == "cpu" else device
    donated = (donate_argnums,) if isinstance(donate_argnums, int) else tuple(donate_argnums)
    numbers = (static_argnums,) if isinstance(static_argnums, int) else tuple(static_argnums)
    names = (static_argnames,) if isinstance(static_argnames, str) else tuple(static_argnames)
    from fusec.dispatch import JitFunction

    if fn is None:
        return lambda f: JitFunction(f, numbers, names, fastmath, device, donated)
    if not callable(fn):
        raise TypeError(f"fusec.jit takes a function, not {type(fn).__name__}")
    return JitFunction(fn, numbers, names, fastmath, device, donated)
