"""How a kernel primitive is made: one function that emits LLVM IR for values of one Numba type.

::

    @intrinsic(2)
    def iadd(b, t, x, y):
        return b.add(x, y)

``b`` is llvmlite's IRBuilder, ``t`` the Numba type of the first argument, the rest LLVM values.
The arguments of a primitive have one type, unless it is declared with ``mixed``: a mistake in a
generated kernel is then a typing error and never a silent promotion.
"""
# mypy: disable-error-code="no-untyped-call"

from collections.abc import Callable
from inspect import Parameter, Signature
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.core.datamodel.registry import default_manager
from numba.core.errors import TypingError
from numba.extending import intrinsic as numba_intrinsic

Emit = Callable[..., ir.Value]


def intrinsic(
    arity: int, to: Any = None, mixed: bool = False, name: str = "", doc: str = ""
) -> Callable[[Emit], Any]:
    """A decorator: the emitter becomes a primitive that kernels call by its name.

    to: the result's Numba type, or a function of the argument types; by default the first's.
    mixed: arguments of several types, whose tuple is then the emitter's ``t``.
    name, doc: where they are not the emitter's own.
    """

    def wrap(emit: Emit) -> Any:
        known = name or emit.__name__

        def define(context: Any, *args: Any) -> Any:
            args = tuple(types.unliteral(a) for a in args)
            if not mixed and any(a != args[0] for a in args):
                raise TypingError(f"{known} takes arguments of one type, not {args}")
            result = args[0] if to is None else to if isinstance(to, types.Type) else to(*args)
            t = args if mixed else args[0]
            return result(*args), lambda context, builder, _, values: emit(builder, t, *values)

        definition: Any = define
        names = ["context", *[f"x{k}" for k in range(arity)]]  # Numba counts them
        parameters = [Parameter(n, Parameter.POSITIONAL_OR_KEYWORD) for n in names]
        definition.__signature__ = Signature(parameters)
        definition.__name__, definition.__doc__ = known, doc or emit.__doc__
        primitive: Any = numba_intrinsic(definition)
        primitive.emit = emit
        return primitive

    return wrap


def value_type(kind: Any) -> Any:
    """LLVM's type of a value of a Numba type."""
    return default_manager.lookup(kind).get_value_type()


def call(b: Any, name: str, *args: ir.Value) -> ir.Value:
    """Call LLVM's intrinsic ``name``, overloaded on the type of the first argument.

    ``call(b, "llvm.sqrt", x)`` emits ``call float @llvm.sqrt.f32(float %x)``.
    """
    function_type = ir.FunctionType(args[0].type, [a.type for a in args])
    function = b.module.declare_intrinsic(name, [args[0].type], function_type)
    return b.call(function, args)


def foreign(b: Any, name: str, result: Any, *args: ir.Value) -> ir.Value:
    """Call what LLVM has under this very name: a processor's own instruction, say."""
    kind = ir.FunctionType(result, [a.type for a in args])
    return b.call(b.module.declare_intrinsic(name, (), kind), args)


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
