"""Arithmetic, comparisons, logic and bits: elementwise ops.

Exponentials, powers and trigonometry are in ``elementwise_math``, whose docstring states the
convention of derivative rules; casts and selection are in ``elementwise_casts``. Choices made here:
ties of ``maximum`` and ``minimum`` share evenly and a NaN gets nothing; ``absolute`` and
``copysign`` have 0 at 0; ``clip`` passes the gradient to ``x`` on both bounds.

How a scalar expression is read (:func:`expression`): ``{0} {1} {2}`` are the operands, each a name
or a literal because it may occur twice; ``{to}`` is the result's dtype as two letters. The entry
``"!"`` of a checked op is a boolean expression that is true where the kernel must report an error.
float16 and bfloat16 are kept as their bits, which kernels move, choose and cast;
``passes/halves.py`` puts casts around what computes with them.
"""

import operator
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from fusec.ir.aval import is_bfloat, kind_of, short
from fusec.ir.graph import OpLike
from fusec.ops import elementwise_casts  # noqa: F401  (its import states the ops)
from fusec.ops.elementwise_math import crossed, erf, scaled
from fusec.ops.registry import COSTLY, MEDIUM, NONDIFFERENTIABLE, elementwise

HALF = np.dtype("f2")
OF_BITS = frozenset({"cast", "where", "check", "identity"})
"""Ops that kernels do with float16 or bfloat16 itself; all others compute in float32."""
WIDENING = {"f2": "from_half", "bf2": "from_bfloat"}
"""The primitive that makes a float32 of the bits."""
NOT_WIDE = frozenset(
    {"nextafter", "spacing", "ldexp", "frexp_mantissa", "frexp_exponent", "bitcast"}
)
"""Ops that mean something else in float32: NumPy does them in float16."""


def is_narrow(dtype: np.dtype) -> bool:
    """Whether it is float16 or bfloat16."""
    return dtype == HALF or is_bfloat(dtype)


def expression(
    op: OpLike, operands: Sequence[str], dtypes: Sequence[np.dtype], to: np.dtype, key: str = "",
    attrs: Mapping[str, Any] = MappingProxyType({}),
) -> str | None:  # fmt: skip
    """The scalar expression of ``op`` over inputs of ``dtypes``, or None when it has none.

    attrs: the node's, which the expression may name. ``key="!"`` asks for the check of a checked op
    instead; a power needs none unless its exponent is a signed integer.

    >>> from fusec.ops.registry import OPS
    >>> expression(OPS["add"], ("a", "b"), (np.dtype("i4"),) * 2, np.dtype("i4"))
    'iadd(a, b)'
    """
    if op.name not in OF_BITS and any(is_narrow(d) for d in (*dtypes, to)):
        return None
    if op.name == "cast" and is_narrow(dtypes[0]):
        operands = [f"{WIDENING[short(dtypes[0])]}({operands[0]})"]
        dtypes = [np.dtype("f4")]
        if to == dtypes[0]:
            return operands[0]
    template = op.expr.get(kind_of(dtypes[0]))
    if template is not None and key:
        template = op.expr.get(key) if kind_of(dtypes[0]) in op.checked else None
    return None if template is None else template.format(*operands, **{**attrs, "to": short(to)})


# Arithmetic.

_ufunc: np.ufunc  # for the loops below, which state several ops at once
_name: str
_PAIR = ((-4.0, 4.0), (-4.0, 4.0))
_QUOTIENT = ((-4.0, 4.0), (0.5, 4.0))

elementwise(
    "add",
    np.add,
    vjp=(lambda g, y, a, b: g, lambda g, y, a, b: g),
    sample=_PAIR,
    b="({0} | {1})",
    iu="iadd({0}, {1})",
    f="({0} + {1})",
    c="cadd({0}, {1})",
)
elementwise(
    "subtract",
    np.subtract,
    vjp=(lambda g, y, a, b: g, lambda g, y, a, b: -g),
    sample=_PAIR,
    iu="isub({0}, {1})",
    f="({0} - {1})",
    c="csub({0}, {1})",
)
elementwise(
    "multiply",
    np.multiply,
    vjp=(lambda g, y, a, b: scaled(g, b), lambda g, y, a, b: scaled(g, a)),
    sample=_PAIR,
    b="({0} & {1})",
    iu="imul({0}, {1})",
    f="({0} * {1})",
    c="cmul({0}, {1})",
)
elementwise(
    "divide",
    np.divide,
    vjp=(lambda g, y, a, b: scaled(g, 1 / b), lambda g, y, a, b: scaled(g, -y / b)),
    cost=MEDIUM,
    sample=_QUOTIENT,
    f="({0} / {1})",
    c="cdiv({0}, {1})",
)
elementwise(
    "floor_divide",
    np.floor_divide,
    vjp=NONDIFFERENTIABLE,
    cost=MEDIUM,
    sample=_QUOTIENT,
    iu="ifloordiv({0}, {1})",
    f="ffloordiv({0}, {1})",
)
elementwise(
    "remainder",
    np.remainder,
    vjp=(lambda g, y, a, b: g, lambda g, y, a, b: scaled(g, -np.floor_divide(a, b))),
    cost=MEDIUM,
    sample=_QUOTIENT,
    iu="iremainder({0}, {1})",
    f="fremainder({0}, {1})",
)
elementwise(
    "fmod",
    np.fmod,
    vjp=(lambda g, y, a, b: g, lambda g, y, a, b: scaled(g, -np.trunc(a / b))),
    cost=MEDIUM,
    sample=_QUOTIENT,
    iu="ifmod({0}, {1})",
    f="ffmod({0}, {1})",
)
elementwise(
    "negative",
    np.negative,
    vjp=(lambda g, y, x: -g,),
    iu="ineg({0})",
    f="(-{0})",
    c="cneg({0})",
)
elementwise("positive", np.positive, vjp=(lambda g, y, x: g,), iufc="{0}")
elementwise(
    "absolute",
    np.absolute,
    vjp=(lambda g, y, x: scaled(g, np.conjugate(np.sign(x))),),
    bu="{0}",
    i="iabs({0})",
    f="fabs({0})",
    c="cabs({0})",
)
elementwise("fabs", np.fabs, vjp=(lambda g, y, x: scaled(g, np.sign(x)),), f="fabs({0})")


def _sign_vjp(g: Any, y: Any, x: Any) -> Any:
    if x.dtype.kind != "c":
        return np.zeros_like(g)
    radius = np.abs(x)
    along = scaled(np.real(scaled(g, y)), np.conjugate(y))
    return scaled(g - along, 1 / np.where(radius == 0, 1, radius))


elementwise("sign", np.sign, vjp=(_sign_vjp,), iu="isign({0})", f="fsign({0})", c="csign({0})")
elementwise(
    "heaviside",
    np.heaviside,
    vjp=(None, lambda g, y, x, h: np.where(x == 0, g, 0)),
    sample=_PAIR,
    f="heaviside({0}, {1})",
)
for _ufunc in (np.rint, np.floor, np.ceil, np.trunc):
    _whole: dict[str, Any] = {"c": "crint({0})"} if _ufunc is np.rint else {"biu": "{0}"}
    elementwise(
        _ufunc.__name__, _ufunc, vjp=NONDIFFERENTIABLE, f=f"{_ufunc.__name__}({{0}})", **_whole
    )
elementwise(
    "copysign",
    np.copysign,
    vjp=(lambda g, y, a, b: scaled(g, np.sign(a) * np.copysign(np.ones_like(b), b)), None),
    sample=_PAIR,
    f="copysign({0}, {1})",
)
elementwise(
    "nextafter", np.nextafter, vjp=NONDIFFERENTIABLE, sample=_PAIR, f="nextafter({0}, {1})"
)
elementwise("spacing", np.spacing, vjp=NONDIFFERENTIABLE, f="spacing({0})")
elementwise(
    "ldexp",
    np.ldexp,
    vjp=(lambda g, y, x, n: np.ldexp(g, n), None),
    sample=((-4.0, 4.0), (-8.0, 8.0)),
    f="ldexp({0}, {1})",
)
elementwise(
    "frexp_mantissa",
    np.frexp,
    vjp=(lambda g, y, x: scaled(g, np.where(x == 0, 0, y / x)),),
    f="frexp_mantissa({0})",
)
elementwise("frexp_exponent", np.frexp, vjp=NONDIFFERENTIABLE, result=1, f="frexp_exponent({0})")
elementwise(
    "conjugate", np.conjugate, vjp=(lambda g, y, z: np.conjugate(g),), iuf="{0}", c="conj({0})"
)

# Larger and smaller.


def _share(g: Any, a: Any, b: Any, wins: Any) -> Any:
    return np.where(a == b, g * 0.5, np.where(wins, g, 0))


for _ufunc, _sign, _logic in (
    (np.maximum, operator.gt, "|"),
    (np.minimum, operator.lt, "&"),
):
    _name = _ufunc.__name__
    elementwise(
        _name,
        _ufunc,
        vjp=(
            lambda g, y, a, b, wins=_sign: _share(g, a, b, wins(a, b)),
            lambda g, y, a, b, wins=_sign: _share(g, a, b, wins(b, a)),
        ),
        sample=_PAIR,
        b=f"({{0}} {_logic} {{1}})",
        iu=f"i{_name}({{0}}, {{1}})",
        f=f"f{_name}({{0}}, {{1}})",
        c=f"c{_name}({{0}}, {{1}})",
    )
for _ufunc, _sign, _logic, _name in (
    (np.fmax, operator.gt, "|", "imaximum"),
    (np.fmin, operator.lt, "&", "iminimum"),
):
    elementwise(
        _ufunc.__name__,
        _ufunc,
        vjp=(
            lambda g, y, a, b, wins=_sign: _share(g, a, b, wins(a, b) | np.isnan(b)),
            lambda g, y, a, b, wins=_sign: _share(g, a, b, wins(b, a) | np.isnan(a)),
        ),
        sample=_PAIR,
        b=f"({{0}} {_logic} {{1}})",
        iu=f"{_name}({{0}}, {{1}})",
        f=f"{_ufunc.__name__}({{0}}, {{1}})",
        c=f"c{_ufunc.__name__}({{0}}, {{1}})",
    )
elementwise(
    "clip",
    np._core.umath.clip,  # type: ignore[attr-defined]
    vjp=(
        lambda g, y, x, lo, hi: np.where((x >= lo) & (x <= hi), g, 0),
        lambda g, y, x, lo, hi: np.where((x < lo) & (lo <= hi), g, 0),
        lambda g, y, x, lo, hi: np.where((x > hi) | (lo > hi), g, 0),
    ),
    sample=((-4.0, 4.0), (-2.0, -1.0), (1.0, 2.0)),
    b="(({0} | {1}) & {2})",
    iu="iminimum(imaximum({0}, {1}), {2})",
    f="fminimum({2}, fmaximum({1}, {0}))",  # x where it equals a bound
    c="cclip({0}, {1}, {2})",
)

# Comparisons and logic.

for _ufunc, _symbol, _name in (
    (np.greater, ">", "gt"),
    (np.greater_equal, ">=", "ge"),
    (np.less, "<", "lt"),
    (np.less_equal, "<=", "le"),
    (np.equal, "==", "eq"),
    (np.not_equal, "!=", "ne"),
):
    elementwise(
        _ufunc.__name__,
        _ufunc,
        vjp=NONDIFFERENTIABLE,
        sample=_PAIR,
        biuc=f"{_name}({{0}}, {{1}})",
        f=f"({{0}} {_symbol} {{1}})",
    )
for _ufunc, _symbol in ((np.logical_and, "&"), (np.logical_or, "|"), (np.logical_xor, "^")):
    elementwise(
        _ufunc.__name__,
        _ufunc,
        vjp=NONDIFFERENTIABLE,
        sample=_PAIR,
        b=f"({{0}} {_symbol} {{1}})",
        iufc=f"(cast_b1({{0}}) {_symbol} cast_b1({{1}}))",
    )
elementwise("logical_not", np.logical_not, vjp=NONDIFFERENTIABLE, x="(not cast_b1({0}))")
for _ufunc, _constant in ((np.isfinite, "True"), (np.isinf, "False"), (np.isnan, "False")):
    elementwise(
        _ufunc.__name__,
        _ufunc,
        vjp=NONDIFFERENTIABLE,
        biu=_constant,
        fc=f"{_ufunc.__name__}({{0}})",
    )
elementwise("signbit", np.signbit, vjp=NONDIFFERENTIABLE, f="signbit({0})")

# Bits and integers.

for _ufunc, _symbol, _name in (
    (np.bitwise_and, "&", "iand"),
    (np.bitwise_or, "|", "ior"),
    (np.bitwise_xor, "^", "ixor"),
):
    elementwise(
        _ufunc.__name__,
        _ufunc,
        vjp=NONDIFFERENTIABLE,
        sample=((0.0, 100.0),) * 2,
        b=f"({{0}} {_symbol} {{1}})",
        iu=f"{_name}({{0}}, {{1}})",
    )
elementwise("invert", np.invert, vjp=NONDIFFERENTIABLE, b="(not {0})", iu="inot({0})")
elementwise(
    "left_shift",
    np.left_shift,
    vjp=NONDIFFERENTIABLE,
    sample=((0.0, 100.0), (0.0, 8.0)),
    iu="ishl({0}, {1})",
)
elementwise(
    "right_shift",
    np.right_shift,
    vjp=NONDIFFERENTIABLE,
    sample=((-100.0, 100.0), (0.0, 8.0)),
    iu="ishr({0}, {1})",
)
elementwise("bitwise_count", np.bitwise_count, vjp=NONDIFFERENTIABLE, iu="popcount({0})")
for _ufunc in (np.gcd, np.lcm):
    _name = _ufunc.__name__
    elementwise(
        _name,
        _ufunc,
        vjp=NONDIFFERENTIABLE,
        cost=COSTLY,
        sample=((0.0, 100.0),) * 2,
        iu=f"{_name}({{0}}, {{1}})",
    )

FUNCTIONS: dict[Callable[..., Any], str] = {
    np.where: "where",
    np.real: "real",
    np.imag: "imag",
    scaled: "scaled",
    crossed: "crossed",
    erf: "erf",
}
"""Functions that stand for one op each: what derivative rules call beside NumPy's ufuncs."""
