"""The functions as Numba intrinsics: ``exp(x0[i])`` in a kernel's text.

Arguments are all float32 or all float64 and the result has their type; anything else is a typing
error when the kernel is compiled. This module imports numba.
"""

from typing import Any

from numba.core import types
from numba.core.errors import TypingError

from fusec.codegen.intrinsic import intrinsic
from fusec.codegen.mathlib.dsl import KINDS
from fusec.codegen.mathlib.emit import NAMES, arity, define

_KIND_OF = {types.float32: KINDS["f32"], types.float64: KINDS["f64"]}


def _intrinsic(name: str) -> Any:
    def real(t: Any, *others: Any) -> Any:
        if t not in _KIND_OF:
            raise TypingError(f"{name} takes float32 or float64, not {t}")
        return t

    def emit(b: Any, t: Any, *args: Any) -> Any:
        return b.call(define(b.module, name, _KIND_OF[t]), args)

    return intrinsic(arity(name), to=real, name=name)(emit)


globals().update({name: _intrinsic(name) for name in NAMES})
__all__ = list(NAMES)
