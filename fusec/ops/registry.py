"""What an op is: one statement that everything else reads.

Interception of NumPy's functions, folding, gradients, code generation, the reference and the
generated tests all take their facts from here. ``OPS`` maps names to ops, ``BY_UFUNC`` NumPy's
ufuncs to elementwise ops.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

import numpy as np

from fusec.errors import DTypeError, ShapeError
from fusec.ir.aval import Aval

Infer = Callable[..., Aval]


class _Nondifferentiable:
    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        return "NONDIFFERENTIABLE"


NONDIFFERENTIABLE: Final = _Nondifferentiable()
"""Stands in an op's ``vjp`` where the derivative is zero or undefined everywhere, on purpose."""

Vjp = Callable[..., Any] | None
OPS: dict[str, "Op"] = {}
BY_UFUNC: dict[np.ufunc, "Op"] = {}

KNOWN = 1024  # combinations of operands whose result each elementwise op remembers
CHEAP, MEDIUM, COSTLY = 1, 8, 20
"""Cost of an op per element, in additions: adds; divisions and roots; exp and the like."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Op:
    """Everything about one op.

    name: as printed in graphs. family: elementwise, movement, reduce, scan, gather, scatter,
    create, library (BLAS and other whole-array calls) or host (NumPy's own function).
    impl: the NumPy implementation ``impl(*arrays, **attrs)``; it is the reference.
    infer_aval: ``(*avals, **attrs) -> Aval``.
    vjp: one function ``(g, y, *inputs, **attrs) -> gradient`` per input, None for an input that
    has no gradient; or a function of the input's number that gives it; or NONDIFFERENTIABLE.
    expr: for elementwise ops, the scalar expression by kind of the loop's first input dtype
    (b bool, i signed, u unsigned, f float, c complex), with {0} {1} for the operands.
    cost: see CHEAP. checked: the kinds for which the expression may set the
    kernel's error status.
    """

    name: str
    family: str
    impl: Callable[..., Any]
    infer_aval: Infer
    vjp: "tuple[Vjp, ...] | Callable[[int], Vjp] | _Nondifferentiable | None" = None
    expr: Mapping[str, str] = field(default_factory=dict)
    cost: int = CHEAP
    ufunc: np.ufunc | None = None
    checked: str = ""
    sample: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        if self.family not in ("create", "host") and self.vjp is None:
            raise AssertionError(f"op {self.name} states no derivative and no NONDIFFERENTIABLE")
        if self.name in OPS:
            raise AssertionError(f"op {self.name} is stated twice")

    def rule(self, k: int) -> Vjp:
        """The derivative rule of input ``k``, or None where that has no gradient."""
        if isinstance(self.vjp, tuple):
            return self.vjp[k]
        return self.vjp(k) if callable(self.vjp) else None

    def infer(self, avals: tuple[Aval, ...], attrs: Mapping[str, Any]) -> Aval:
        return self.infer_aval(*avals, **attrs)

    def __repr__(self) -> str:
        return f"<op {self.name}>"


def register(op: Op) -> Op:
    """Add ``op`` to the table."""
    OPS[op.name] = op
    if op.ufunc is not None:
        BY_UFUNC.setdefault(op.ufunc, op)
    return op


def loop_dtypes(ufunc: np.ufunc, dtypes: tuple[Any, ...]) -> tuple[np.dtype, ...]:
    """The dtypes of the loop NumPy would choose: inputs, then outputs.

    An entry of ``dtypes`` is a dtype, or one of the types int, float, complex for a weak scalar.

    >>> loop_dtypes(np.add, (np.dtype("i4"), np.dtype("f4")))
    (dtype('float64'), dtype('float64'), dtype('float64'))
    >>> loop_dtypes(np.add, (np.dtype("f4"), float))[-1]
    dtype('float32')
    """
    found = _LOOPS.get((ufunc, dtypes))
    if found is None:
        try:
            found = ufunc.resolve_dtypes((*dtypes, *(None,) * ufunc.nout))
        except TypeError as error:
            raise DTypeError(str(error)) from None
        _LOOPS[ufunc, dtypes] = found
    return found


_LOOPS: dict[tuple[Any, ...], tuple[np.dtype, ...]] = {}


def shown_shape(shape: tuple[int, ...]) -> str:
    """A shape as NumPy's messages have it: ``(3,4)``."""
    return str(shape).replace(" ", "")


def broadcast_shape(*shapes: tuple[int, ...]) -> tuple[int, ...]:
    """As ``np.broadcast_shapes``, with a quick way for equal shapes."""
    first = shapes[0]
    if all(s == first for s in shapes):
        return first
    ndim = max(map(len, shapes))
    full = [(1,) * (ndim - len(s)) + s for s in shapes]  # np.broadcast_shapes stops at 32 axes
    found = [{n for n in extents if n != 1} or {1} for extents in zip(*full)]
    if any(len(extents) > 1 for extents in found):
        shown = " ".join(map(shown_shape, shapes))
        raise ShapeError(f"operands could not be broadcast together with shapes {shown} ")
    return tuple([extents.pop() for extents in found])


def elementwise(
    name: str,
    ufunc: np.ufunc,
    *,
    vjp: tuple[Vjp, ...] | _Nondifferentiable,
    cost: int = CHEAP,
    checked: str = "",
    sample: tuple[tuple[float, float], ...] = ((-4.0, 4.0),),
    result: int = 0,
    **expr: str,
) -> Op:
    """State an elementwise op whose implementation and dtypes are ``ufunc``'s.

    The inputs of a node already have the loop's dtypes: the tracer puts casts in front of it.
    ``expr`` is per kind: ``b= i= u= f= c=`` and combined keys such as ``iu=``; ``x=`` means all.
    A ufunc of several results has an op for each: the ``result``-th.
    """

    @lru_cache(KNOWN)
    def infer(*avals: Aval) -> Aval:
        out = loop_dtypes(ufunc, tuple(a.dtype for a in avals))[ufunc.nin + result]
        return Aval(broadcast_shape(*[a.shape for a in avals]), out)

    return register(
        Op(
            name=name,
            family="elementwise",
            impl=ufunc if ufunc.nout == 1 else lambda *arrays: ufunc(*arrays)[result],
            infer_aval=infer,
            vjp=vjp,
            expr=by_kind(expr),
            cost=cost,
            ufunc=ufunc,
            checked=checked,
            sample=sample,
        )
    )


def by_kind(expr: Mapping[str, str]) -> dict[str, str]:
    """``{"iu": "a", "f": "b"}`` as one entry a kind; "x" fills what is not named."""
    table = {kind: text for kinds, text in expr.items() if kinds != "x" for kind in kinds}
    if "x" in expr:
        table = {k: table.get(k, expr["x"]) for k in "biufc"}
    return table
