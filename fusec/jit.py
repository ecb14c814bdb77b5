"""``fusec.jit``: the decorator.

Importing this module imports nothing else of the compiler; decorating a function does.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar, overload

from fusec.errors import UnsupportedError

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
    fastmath: allow contraction and reciprocals, which change last bits.

    >>> import numpy as np, fusec
    >>> @fusec.jit
    ... def axpy(a, x, y):
    ...     return a * x + y
    >>> axpy(2.0, np.arange(3.0), np.ones(3))
    array([1., 3., 5.])
    """
    if device not in (None, "cpu"):
        raise UnsupportedError(f"device={device!r}: this version compiles for the CPU")
    numbers = (static_argnums,) if isinstance(static_argnums, int) else tuple(static_argnums)
    names = (static_argnames,) if isinstance(static_argnames, str) else tuple(static_argnames)
    from fusec.dispatch import JitFunction

    if fn is None:
        return lambda f: JitFunction(f, numbers, names, fastmath, device)
    if not callable(fn):
        raise TypeError(f"fusec.jit takes a function, not {type(fn).__name__}")
    return JitFunction(fn, numbers, names, fastmath, device)
