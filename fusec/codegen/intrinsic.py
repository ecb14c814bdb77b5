"""How a kernel primitive is made: one function that emits LLVM IR for values of one Numba type.

::

    @intrinsic(2)
    def iadd(b, t, x, y):
        return b.add(x, y)

``b`` is llvmlite's IRBuilder, ``t`` the Numba type of the first argument, the rest LLVM values.
The arguments of a primitive have one type, unless it is declared with ``mixed``: a mistake in a
generated kernel is then a typing error and never a silent promotion.
"""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.core.errors import TypingError
from numba.extending import intrinsic as numba_intrinsic

Emit = Callable[..., ir.Value]
unliteral: Callable[[Any], Any] = types.unliteral


def intrinsic(arity: int, to: Any = None, mixed: bool = False) -> Callable[[Emit], Any]:
    """A decorator: the emitter becomes a primitive that kernels call by its name.

    to: the result's Numba type, or a function of the argument types; by default the first's.
    mixed: arguments of several types, whose tuple is then the emitter's ``t``.
    """

    def signature(name: str, args: tuple[Any, ...]) -> Any:
        args = tuple(unliteral(a) for a in args)
        if not mixed and any(a != args[0] for a in args):
            raise TypingError(f"{name} takes arguments of one type, not {args}")
        result = args[0] if to is None else to if isinstance(to, types.Type) else to(*args)
        return result(*args), args

    def wrap(emit: Emit) -> Any:
        def define(args: tuple[Any, ...]) -> Any:
            sig, plain = signature(emit.__name__, args)
            t = plain if mixed else plain[0]
            return sig, lambda context, builder, _, values: emit(builder, t, *values)

        definition = _with_arity(arity, define)
        definition.__name__ = emit.__name__
        definition.__doc__ = emit.__doc__
        primitive: Any = numba_intrinsic(definition)
        primitive.emit = emit
        return primitive

    return wrap


def _with_arity(arity: int, define: Callable[[tuple[Any, ...]], Any]) -> Any:
    """Numba reads the number of arguments off the signature."""

    def none(context: Any) -> Any:
        return define(())

    def one(context: Any, x: Any) -> Any:
        return define((x,))

    def two(context: Any, x: Any, y: Any) -> Any:
        return define((x, y))

    def three(context: Any, x: Any, y: Any, z: Any) -> Any:
        return define((x, y, z))

    def four(context: Any, x: Any, y: Any, z: Any, v: Any) -> Any:
        return define((x, y, z, v))

    def five(context: Any, x: Any, y: Any, z: Any, v: Any, w: Any) -> Any:
        return define((x, y, z, v, w))

    return {0: none, 1: one, 2: two, 3: three, 4: four, 5: five}[arity]


def call(b: Any, name: str, *args: ir.Value) -> ir.Value:
    """Call LLVM's intrinsic ``name``, overloaded on the type of the first argument.

    ``call(b, "llvm.sqrt", x)`` emits ``call float @llvm.sqrt.f32(float %x)``.
    """
    function_type = ir.FunctionType(args[0].type, [a.type for a in args])
    function = b.module.declare_intrinsic(name, [args[0].type], function_type)
    return b.call(function, args)


def parts(b: Any, z: ir.Value) -> tuple[ir.Value, ir.Value]:
    """Real and imaginary part of a complex value, which is a struct of two floats."""
    return b.extract_value(z, 0), b.extract_value(z, 1)


def join(b: Any, re: ir.Value, im: ir.Value) -> ir.Value:
    """The complex value of two floats."""
    struct = ir.Constant(ir.LiteralStructType([re.type, im.type]), ir.Undefined)
    return b.insert_value(b.insert_value(struct, re, 0), im, 1)


def names_of(namespace: dict[str, Any]) -> list[str]:
    """The primitives in a module's globals: its ``__all__``."""
    return [name for name, value in namespace.items() if hasattr(value, "emit")]
