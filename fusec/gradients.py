"""Differentiation for users: ``grad`` and its relatives.

Inside a traced function they add to the program that is being traced. Called with real arrays they
are jitted functions: values and gradients are one program, compiled once for each signature.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from fusec.arrays import _jitted
from fusec.autodiff import custom, transform
from fusec.autodiff.linear import Linear
from fusec.autodiff.point import Positions, as_positions
from fusec.autodiff.vmap import vmap as batched
from fusec.dispatch import JitFunction
from fusec.errors import ShapeError
from fusec.interpreted import interpreted
from fusec.runtime.array import recording
from fusec.trace.run import session_of
from fusec.trace.session import Session
from fusec.trace.tree import flatten
from fusec.trace.twins import trace_code

Function = Callable[..., Any]
MAX_KNOWN = 256  # functions whose derivatives are kept, so that `fusec.grad(f)(x)` traces once


class Derived(JitFunction):
    """A function made from another one by ``run(session, fn, *options, args, kwargs)``."""

    bounded = False  # what it has NumPy do is traced at each call

    def __init__(self, name: str, run: Function, fn: Any, *options: Any) -> None:
        def derived(*args: Any, **kwargs: Any) -> Any:
            session = _tracing(fn, (args, kwargs))
            if session is None:
                return interpreted(derived, args, kwargs)
            return run(session, fn, *options, args, kwargs)

        of = getattr(fn, "__name__", type(fn).__name__)
        derived.__name__ = derived.__qualname__ = f"{name}({of})"
        derived.__doc__ = f"``fusec.{name}`` of ``{of}``."
        if name != "jvp" and type(fn) is not Linear:
            derived.__wrapped__ = fn  # type: ignore[attr-defined]  # it has the same arguments
        super().__init__(derived)
        self.__wrapped__ = fn

    @property
    def _inner(self) -> Function:
        return self.__wrapped__  # type: ignore[no-any-return]


@functools.lru_cache(maxsize=MAX_KNOWN)
def _known(name: str, run: Function, fn: Function, *options: Any) -> Derived:
    return Derived(name, run, fn, *options)


def _derived(name: str, run: Function, fn: Any, *options: Any) -> Derived:
    """The derived function; the same one for the same function."""
    if not callable(fn):
        raise TypeError(f"fusec.{name} takes a function, not {type(fn).__name__}")
    try:
        return (_known if trace_code(fn) is None else Derived)(name, run, fn, *options)
    except TypeError:  # a callable that can't be hashed
        return Derived(name, run, fn, *options)


def _tracing(fn: Any, values: Any) -> Session | None:
    return session_of(flatten(values)[0], fn)


# -- gradients ------------------------------------------------------------------------------------


def _grad(
    session: Session, fn: Function, argnums: Positions, has_aux: bool, args: Any, kwargs: Any
) -> Any:
    name = "grad"
    value, grads = transform.value_and_grad(session, fn, argnums, has_aux, args, kwargs, name)
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
    return _derived("grad", _grad, fn, as_positions(argnums), has_aux)


def value_and_grad(
    fn: Function, argnums: int | Sequence[int] = 0, has_aux: bool = False
) -> Function:
    """As ``grad``, but the new function gives (value, gradients): one program computes both.

    With ``has_aux`` it gives ((value, more), gradients).

    >>> import numpy as np, fusec
    >>> fusec.value_and_grad(lambda x: (x * x).sum())(np.array([1.0, 2.0]))
    (np.float64(5.0), array([2., 4.]))
    """
    run = transform.value_and_grad
    return _derived("value_and_grad", run, fn, as_positions(argnums), has_aux)


def jacobian(fn: Function, argnums: int | Sequence[int] = 0) -> Function:
    """The function that gives all first derivatives of ``fn``.

    argnums: as for ``grad``. For each array that ``fn`` returns there is a container like the
    argument, whose arrays have the axes of the result and then those of the argument. The program
    is one sweep backwards, batched over the elements of the results, or forwards over those of the
    arguments if those are fewer. Its memory grows with their number: meant for small ones.

    >>> import numpy as np, fusec
    >>> fusec.jacobian(lambda x: x[1:] * x[0])(np.array([1.0, 2.0, 3.0]))
    array([[2., 1., 0.],
           [3., 0., 1.]])
    """
    return _derived("jacobian", transform.jacobian, fn, as_positions(argnums))


def hessian(fn: Function, argnums: int | Sequence[int] = 0) -> Function:
    """The function that gives all second derivatives of ``fn``.

    argnums: as for ``grad``. The result is that of ``jacobian(jacobian(fn))``.

    >>> import numpy as np, fusec
    >>> fusec.hessian(lambda x: x[0] ** 2 * x[1])(np.array([1.0, 2.0]))
    array([[4., 2.],
           [2., 0.]])
    """
    return _derived("hessian", _second, fn, as_positions(argnums))


def _second(session: Session, fn: Function, argnums: Any, args: Any, kwargs: Any) -> Any:
    try:
        return transform.jacobian(session, grad(fn, argnums), argnums, args, kwargs)
    except ShapeError:
        return transform.jacobian(session, jacobian(fn, argnums), argnums, args, kwargs)


def vmap(fn: Function, in_axes: Any = 0, out_axes: Any = 0) -> Function:
    """The function that runs ``fn`` on many examples at once, written for one.

    in_axes: the axis of each positional argument along which its examples lie, negative ones
        counted from the end, or None where all examples share it; one for all arguments, or one for
        each, which may be a container like the argument. Numbers and keyword arguments are shared.
    out_axes: the same for the result: where the axis of the examples is put.

    The result is that of ``np.stack([fn(x) for x in xs], out_axes)``, but there is no loop: every
    operation takes all examples, and they fuse as if written so. Derivatives of it, and it of
    derivatives, are what they should be. Raises ShapeError where arguments differ in the number of
    examples, UnsupportedError for a function of NumPy's that takes no stacks.

    >>> import numpy as np, fusec
    >>> distance = lambda a, b: np.sqrt(((a - b) ** 2).sum())
    >>> points = np.array([[0.0, 0.0], [3.0, 4.0]])
    >>> fusec.vmap(fusec.vmap(distance, in_axes=(None, 0)), in_axes=(0, None))(points, points)
    array([[0., 5.],
           [5., 0.]])
    """
    return _derived("vmap", batched, fn, in_axes, out_axes)


# -- products with the derivative -----------------------------------------------------------------


def _apply(session: Session, linear: Linear, args: Any, kwargs: Any) -> Any:
    return linear(session, *args)


class _Applied:
    """A linear function outside of a trace: its program and its residuals."""

    def __init__(self, linear: Linear, residuals: Sequence[Any], name: str) -> None:
        self._run = _known(name, _apply, linear)
        self._residuals = list(residuals)
        self._many = name == "linearize"

    def __call__(self, *values: Any) -> Any:
        return self._run(self._residuals, values if self._many else values[0])


def vjp(fn: Function, *primals: Any, has_aux: bool = False) -> tuple[Any, ...]:
    """``fn(*primals)`` and the function that takes a cotangent of it to those of ``primals``.

    has_aux: ``fn`` returns (result, more), and ``vjp`` (result, function, more). A cotangent has
    the result's containers and shapes. The function may be called many times: what it needs of the
    primal run is kept in it. Raises DTypeError for integer primals.

    >>> import numpy as np, fusec
    >>> y, pull = fusec.vjp(lambda a, b: a * b, np.array([1.0, 2.0]), np.array([3.0, 4.0]))
    >>> pull(np.array([1.0, 10.0]))
    (array([ 3., 40.]), array([ 1., 20.]))
    """
    session = _tracing(fn, primals)
    if session is not None:
        point, pull = transform.vjp(session, fn, primals, has_aux)
        return (point.value, pull, point.aux) if has_aux else (point.value, pull)
    run = _derived("vjp", transform.split_vjp, fn, has_aux)
    value, aux, residuals, linear = run(*primals)
    back = _Applied(linear, residuals, "vjp")
    return (value, back, aux) if has_aux else (value, back)


def linearize(fn: Function, *primals: Any) -> tuple[Any, Function]:
    """``fn(*primals)`` and its derivative there, a linear function of tangents.

    >>> import numpy as np, fusec
    >>> y, push = fusec.linearize(np.sin, np.array([0.0, np.pi]))
    >>> push(np.array([1.0, 1.0])), push(np.array([0.0, 5.0]))
    (array([ 1., -1.]), array([ 0., -5.]))
    """
    session = _tracing(fn, primals)
    if session is not None:
        point, push = transform.linearize(session, fn, primals)
        return point.value, push
    value, _, residuals, linear = _derived("linearize", transform.split_linearize, fn)(*primals)
    return value, _Applied(linear, residuals, "linearize")


def _jvp(session: Session, fn: Function, args: Any, kwargs: Any) -> Any:
    return transform.jvp(session, fn, *args)


def jvp(fn: Function, primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """``fn(*primals)`` and its derivative in the direction ``tangents``, in one forward pass.

    >>> import numpy as np, fusec
    >>> fusec.jvp(lambda x: x * x, (np.array([1.0, 2.0]),), (np.array([1.0, 0.5]),))
    (array([1., 4.]), array([2., 2.]))
    """
    primals, tangents = tuple(primals), tuple(tangents)
    session = _tracing(fn, (primals, tangents))
    if session is not None:
        return transform.jvp(session, fn, primals, tangents)
    return _derived("jvp", _jvp, fn)(primals, tangents)  # type: ignore[no-any-return]


# -- rules of the user's --------------------------------------------------------------------------


class _Custom:
    """A function with a derivative of its own. Called with real arrays it is the function."""

    def __init__(self, fn: Function) -> None:
        functools.update_wrapper(self, fn)
        self._fn = fn
        self._rules: tuple[Function, ...] = ()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        session = _tracing(self._fn, (args, kwargs))
        if session is None:
            taped = recording.get() is not None
            return (_jitted(self) if taped else self._fn)(*args, **kwargs)
        if not self._rules:
            raise TypeError(f"{self} has no rule yet: {self._advice}")
        rules = session.guards.pin(self, repr(self)).attr("_rules")
        session.guards.add(rules, "is", self._rules)  # another rule traces again
        return self._traced(session, args, kwargs)

    def __repr__(self) -> str:
        return f"<fusec.{type(self).__name__} of {getattr(self, '__name__', 'function')}>"

    _advice = ""

    def _traced(self, session: Session, args: Any, kwargs: Any) -> Any:
        raise NotImplementedError


class custom_vjp(_Custom):
    """A function whose derivative backwards is written by hand.

    ``defvjp(forward, backward)``: ``forward(*args)`` gives (result, residuals), and
    ``backward(residuals, cotangent)`` the gradient in each argument: a tuple, None where there is
    none. They are traced when a derivative needs them, and may be differentiated themselves. What
    the function reads besides its arguments has no derivative.

    >>> import numpy as np, fusec
    >>> @fusec.custom_vjp
    ... def clipped(x):
    ...     return x
    >>> clipped.defvjp(lambda x: (x, None), lambda _, g: (np.clip(g, -1, 1),))
    >>> fusec.grad(lambda x: (3 * clipped(x)).sum())(np.ones(2))
    array([1., 1.])
    """

    _advice = "call its defvjp(forward, backward)"

    def defvjp(self, forward: Function, backward: Function) -> None:
        """Set the rule."""
        self._rules = (forward, backward)

    def _traced(self, session: Session, args: Any, kwargs: Any) -> Any:
        return custom.custom_vjp(session, self._fn, *self._rules, args, kwargs)


class custom_jvp(_Custom):
    """A function whose derivative forwards is written by hand.

    ``defjvp(rule)``: ``rule(primals, tangents)`` takes two tuples and gives (result, tangent), the
    tangent linear in the tangents. Backwards it is transposed.

    >>> import numpy as np, fusec
    >>> @fusec.custom_jvp
    ... def root(x):
    ...     return np.sqrt(x)
    >>> @root.defjvp
    ... def root_jvp(primals, tangents):
    ...     y = root(*primals)
    ...     return y, tangents[0] / (2 * y + 1e-9)
    >>> bool(np.isfinite(fusec.grad(root)(0.0)))
    True
    """

    _advice = "call its defjvp(rule)"

    def defjvp(self, rule: Function) -> Function:
        """Set the rule; gives it back, so that it may decorate."""
        self._rules = (rule,)
        return rule

    def _traced(self, session: Session, args: Any, kwargs: Any) -> Any:
        return custom.custom_jvp(session, self._fn, *self._rules, args, kwargs)


class _Checkpoint(_Custom):
    """See ``checkpoint``."""

    def __init__(self, fn: Function) -> None:
        super().__init__(fn)
        self._rules = (fn,)

    def _traced(self, session: Session, args: Any, kwargs: Any) -> Any:
        return custom.checkpoint(session, self._fn, args, kwargs)


def checkpoint(fn: Function) -> Function:
    """``fn``, of which the backward pass keeps only the arguments and computes the rest again.

    ``explain()`` of the differentiated function says how many bytes are not kept.

    >>> import numpy as np, fusec
    >>> layer = fusec.checkpoint(lambda w, x: np.tanh(x @ w))
    >>> step = fusec.grad(lambda w, x: layer(w, layer(w, x)).sum())
    >>> step(np.eye(2), np.ones((3, 2))).shape
    (2, 2)
    """
    if not callable(fn):
        raise TypeError(f"fusec.checkpoint takes a function, not {type(fn).__name__}")
    return _Checkpoint(fn)


def stop_gradient(value: Any) -> Any:
    """``value``, an array or a container of them, as a constant to differentiation.

    >>> import numpy as np, fusec
    >>> fusec.grad(lambda x: (x * fusec.stop_gradient(x)).sum())(np.array([2.0, 3.0]))
    array([2., 3.])
    """
    if recording.get() is not None:
        return _jitted(custom.stop_gradient)(value)
    return custom.stop_gradient(value)
