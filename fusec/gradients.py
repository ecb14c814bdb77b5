"""Differentiation for users: ``grad`` and its relatives.

Inside a traced function they add to the program that is being traced. Called with real arrays they
are jitted functions: values and gradients are one program, compiled once for each signature.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fusec.autodiff import transform
from fusec.autodiff.point import Positions, session_of
from fusec.dispatch import JitFunction, native_layout
from fusec.ir.graph import Graph, evaluate
from fusec.plan import Plan
from fusec.trace.run import trace
from fusec.trace.session import Session
from fusec.trace.tree import flatten

Function = Callable[..., Any]


class Derived(JitFunction):
    """A function made from another one by ``run(session, fn, *options, args, kwargs)``."""

    def __init__(self, name: str, run: Function, fn: Function, *options: Any) -> None:
        def derived(*args: Any, **kwargs: Any) -> Any:
            session = session_of((args, kwargs), fn)
            if session is None or not session.active:
                return interpreted(derived, args, kwargs)
            return run(session, fn, *options, args, kwargs)

        derived.__name__ = derived.__qualname__ = f"{name}({getattr(fn, '__name__', 'function')})"
        derived.__doc__ = f"``fusec.{name}`` of ``{getattr(fn, '__name__', 'a function')}``."
        super().__init__(derived)
        self.__wrapped__ = fn

    def _call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        session = session_of((args, kwargs), self.__wrapped__)
        if session is not None and session.active:
            from fusec.trace.capture import twin

            return twin(self.fn, session)(*args, **kwargs)
        return super()._call(args, kwargs)


class _Interpreter:
    """Runs a graph op by op through NumPy: for exceptions, ``np.errstate`` and FUSEC_DISABLE."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    def run(self, inputs: Sequence[Any]) -> list[Any]:
        return evaluate(self.graph, inputs)


def interpreted(fn: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """``fn(*args, **kwargs)``, traced and then run by NumPy."""
    leaves, tree = flatten((args, kwargs))
    arrays = [native_layout(x) for x in leaves]
    traced = trace(fn, arrays, tree, frozenset())
    plan = Plan(traced)
    plan._executor = _Interpreter(traced.graph)  # type: ignore[assignment]
    return plan.run(leaves, arrays, traced.guards.arrays(leaves))


def _checked(fn: Any, name: str) -> Any:
    if not callable(fn):
        raise TypeError(f"fusec.{name} takes a function, not {type(fn).__name__}")
    return fn


def _grad(session: Session, fn: Function, argnums: Positions, has_aux: bool, *call: Any) -> Any:
    value, grads = transform.value_and_grad(session, fn, argnums, has_aux, *call, name="grad")
    return (grads, value[1]) if has_aux else grads


def grad(fn: Function, argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Function:
    """The function that gives the gradient of ``fn``, which returns one real number.

    argnums: positions of the arguments to differentiate in, each an array, a float or a container
        of them. One position gives one gradient, several a tuple.
    has_aux: ``fn`` returns (number, more), and the new function (gradients, more).

    A gradient has its argument's container, shape, dtype and memory order. Where nothing depends on
    an argument it is a read-only 0 that takes no memory. The gradient of a real number in a complex
    ``x + iy`` is ``d/dx - i d/dy``. Raises DTypeError for integers, ShapeError where ``fn`` returns
    more than a number, DerivativeError for a function of NumPy's that has no rule.

    >>> import numpy as np, fusec
    >>> fusec.grad(lambda x: (x ** 3).sum())(np.array([1.0, 2.0]))
    array([ 3., 12.])
    """
    argnums = argnums if isinstance(argnums, int) else tuple(argnums)
    return Derived("grad", _grad, _checked(fn, "grad"), argnums, has_aux)


def value_and_grad(
    fn: Function, argnums: int | Sequence[int] = 0, has_aux: bool = False
) -> Function:
    """As ``grad``, but the new function gives (value, gradients): one program computes both.

    With ``has_aux`` it gives ((value, more), gradients).

    >>> import numpy as np, fusec
    >>> fusec.value_and_grad(lambda x: (x * x).sum())(np.array([1.0, 2.0]))
    (np.float64(5.0), array([2., 4.]))
    """
    argnums = argnums if isinstance(argnums, int) else tuple(argnums)
    run = transform.value_and_grad
    return Derived("value_and_grad", run, _checked(fn, "value_and_grad"), argnums, has_aux)
