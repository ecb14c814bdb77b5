"""The functions as Numba intrinsics: ``exp(x0[i])`` in a kernel's text.

Arguments are all float32 or all float64 and the result has their type; anything else is a typing
error when the kernel is compiled. This module imports numba.
"""

from typing import Any

from numba import types
from numba.core.errors import TypingError
from numba.core.extending import intrinsic

from fusec.codegen.mathlib.dsl import KINDS
from fusec.codegen.mathlib.emit import NAMES, arity, define

_KIND_OF = {types.float32: KINDS["f32"], types.float64: KINDS["f64"]}


def _typed(name: str, given: tuple[Any, ...]) -> tuple[Any, Any]:
    """Signature and code generator for the given argument types."""
    kind = _KIND_OF.get(given[0])
    if kind is None or any(g != given[0] for g in given):
        raise TypingError(f"{name} takes {arity(name)} float32 or float64 of one type, not {given}")

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.call(define(builder.module, name, kind), args)

    return given[0](*given), codegen


_TEMPLATES: dict[int, Any] = {
    1: lambda name: lambda typingctx, x: _typed(name, (x,)),
    2: lambda name: lambda typingctx, x, y: _typed(name, (x, y)),
    3: lambda name: lambda typingctx, x, y, z: _typed(name, (x, y, z)),
}


def _intrinsic(name: str) -> Any:
    template = _TEMPLATES[arity(name)](name)
    template.__name__ = template.__qualname__ = name
    return intrinsic(template)


globals().update({name: _intrinsic(name) for name in NAMES})
__all__ = list(NAMES)
