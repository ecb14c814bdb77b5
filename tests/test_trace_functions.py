"""NumPy's functions on traced values against NumPy: value, dtype, shape, scalar, strides, errors.

No kernel is compiled: each row is traced, its graph is run by the NumPy reference interpreter and
the result is compared with what the function gives on real arrays. A row that should be made of
ops alone fails when it needs a host call.
"""

import itertools
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

import fusec
from fusec.errors import DataDependentShapeError, FusecError, UnsupportedError
from fusec.ir.graph import Graph, evaluate, toposort
from fusec.ir.verify import verify
from fusec.ops.elementwise_math import erf
from fusec.trace.overrides import override
from fusec.trace.scalars import PyScalar
from fusec.trace.session import Session, Source
from fusec.trace.tracer import Tracer, as_tracer
from fusec.trace.tree import flatten


class Namespace:
    """A module as traced code sees it: overridden names first."""

    def __init__(self, session: Session, module: Any, name: str) -> None:
        self.__dict__.update(_session=session, _module=module, _name=name)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._module, name)
        if isinstance(value, ModuleType):
            return Namespace(self._session, value, f"{self._name}.{name}")
        found = override(self._session, f"{self._name}.{name}")
        return value if found is None else found


class Numbers:
    """Marks a Python number that is traced as an argument."""

    def __init__(self, value: Any) -> None:
        self.value = value


@dataclass(frozen=True)
class Row:
    """``fn(n, *args)`` with ``n`` the NumPy namespace; see the module for what is compared."""

    id: str
    fn: Callable[..., Any]
    args: tuple[Any, ...]
    host: bool = False
    ulp: float = 0.0
    error: Any = None
    strides: bool = True


ROWS: list[Row] = []


def row(id: str, fn: Callable[..., Any], *args: Any, **options: Any) -> None:
    ROWS.append(Row(id, fn, args, **options))


class Traced:
    """One traced call, ready to be run on real arrays."""

    def __init__(self, fn: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self.args = args
        self.session = session = Session()
        inputs = [self._input(k, a) for k, a in enumerate(args)]
        session.n = Namespace(session, np, "numpy")
        names = SimpleNamespace(
            np=Namespace(session, np, "numpy"),
            math=Namespace(session, math, "math"),
            py=Namespace(
                session,
                __builtins__
                if not isinstance(__builtins__, dict)
                else SimpleNamespace(**__builtins__),
                "builtins",
            ),
        )
        self.result = fn(names, *inputs)

    def _input(self, k: int, arg: Any) -> Any:
        if isinstance(arg, np.ndarray):
            return self.session.array_param(arg, Source("arg", k, f"x{k}"))
        if isinstance(arg, Numbers):
            return PyScalar(arg.value, ("arg", k), self.session)
        return arg

    def run(self) -> tuple[list[Any], Any, list[tuple[int, Any]]]:
        """The results as a flat list, their tree, and the new values of changed arguments."""
        leaves, tree = flatten(self.result)
        nodes = [x.node if isinstance(x, Tracer) else None for x in leaves]
        changed = [s for s in self.session.storages if s.mutated and s.source.kind == "arg"]
        outputs = [n for n in nodes if n is not None] + [s.node for s in changed]
        graph = verify(Graph(self.session.params, outputs))
        values = iter(
            evaluate(
                graph,
                [self._value(p, s) for p, s in zip(self.session.params, self.session.sources)],
            )
        )
        found = [next(values) if n is not None else x for n, x in zip(nodes, leaves)]
        return found, tree, [(s.source.ref, next(values)) for s in changed]

    def _value(self, param: Any, source: Source) -> Any:
        if source.kind == "arg":
            return self.args[source.ref]
        if source.kind == "constant":
            return source.ref
        plain = [a.value if isinstance(a, Numbers) else a for a in self.args]
        from fusec.trace.scalars import compute

        return np.asarray(compute(source.ref, plain), param.dtype)

    def host_calls(self) -> list[str]:
        leaves = [x.node for x in flatten(self.result)[0] if isinstance(x, Tracer)]
        leaves += [s.node for s in self.session.storages]
        return [str(n.attrs["call"]) for n in toposort(leaves) if n.op.name == "host_call"]


REAL = SimpleNamespace(
    np=np,
    math=math,
    py=SimpleNamespace(**(__builtins__ if isinstance(__builtins__, dict) else vars(__builtins__))),
)


def real_strides(a: np.ndarray) -> tuple[int, ...]:
    return tuple(s for s, n in zip(a.strides, a.shape) if n > 1) if a.size else ()


def same(got: Any, want: Any, ulp: float) -> bool:
    got, want = np.asarray(got), np.asarray(want)
    if want.dtype.kind not in "fc":
        return bool(np.all(got == want))
    if ulp:
        scale = ulp * np.finfo(want.dtype).eps
        return bool(np.allclose(got, want, rtol=scale, atol=scale, equal_nan=True))
    signs = True
    if want.dtype.kind == "f":
        signs = np.all((np.signbit(got) == np.signbit(want)) | np.isnan(want))
    return bool(np.array_equal(got, want, equal_nan=True) and signs)


def compare(traced: Any, got: Any, want: Any, row: Row) -> None:
    """One leaf of a result."""
    if not isinstance(traced, Tracer):
        assert np.array_equal(traced, want), f"{traced!r} for {want!r}"
        return
    python = isinstance(want, (bool, int, float, complex)) and not isinstance(want, np.generic)
    if not python:
        assert traced.dtype == want.dtype, f"{traced.dtype} for {want.dtype}"
        assert traced._scalar == isinstance(want, np.generic), f"scalar: {traced._scalar}"
    assert traced._like.shape == np.shape(want), f"{traced._like.shape} for {np.shape(want)}"
    assert np.shape(got) == np.shape(want), f"interpreted: {np.shape(got)} for {np.shape(want)}"
    assert same(got, want, row.ulp), f"{got!r}\nfor {want!r}"
    if row.strides and isinstance(want, np.ndarray):
        assert real_strides(traced._like) == real_strides(want), (
            f"strides {traced._like.strides} for {want.strides}"
        )


def call_real(row: Row) -> tuple[Any, Any, list[Any]]:
    args = [
        a.copy(order="K")
        if isinstance(a, np.ndarray) and a.flags.forc
        else a.value
        if isinstance(a, Numbers)
        else a
        for a in row.args
    ]
    try:
        return row.fn(REAL, *args), None, args
    except Exception as error:
        return None, error, args


def check_error(row: Row, want: Exception) -> None:
    """The same class while tracing, or any error from a check when the graph runs."""
    try:
        Traced(row.fn, row.args).run()
    except Exception as got:
        public = next(c for c in type(want).__mro__ if not c.__name__.startswith("_"))
        checked = "checked condition" in str(got)
        assert isinstance(got, public) or checked, f"{got!r} for {want!r}"
        return
    raise AssertionError(f"did not raise {want!r}")


@pytest.mark.filterwarnings("ignore")
def check(row: Row) -> None:
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        if row.error is not None:
            with pytest.raises(row.error):
                Traced(row.fn, row.args).run()
            return
        want, error, args = call_real(row)
        if error is not None:
            check_error(row, error)
            return
        traced = Traced(row.fn, row.args)
        found, tree, changed = traced.run()
        leaves, wanted_tree = flatten(want)
        assert tree == wanted_tree, f"{tree} for {wanted_tree}"
        for t, g, w in zip(flatten(traced.result)[0], found, leaves):
            compare(t, g, w, row)
        assert bool(traced.host_calls()) == row.host, f"host calls: {traced.host_calls()}"
        after = dict(changed)
        for k, arg in enumerate(args):
            if isinstance(arg, np.ndarray):
                assert same(after.get(k, row.args[k]), arg, row.ulp), f"argument {k} afterwards"


INTS = ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8")
FLOATS = ("f4", "f8")
ALL = ("?", *INTS, "f2", *FLOATS, "c8", "c16")


def ramp(dtype: str, *shape: int) -> np.ndarray:
    n = math.prod(shape)
    kind = np.dtype(dtype).kind
    values = (np.arange(n) * 7 + 3) % 23 - (0 if kind in "ub" else 11)
    if kind in "fc":
        values = values * 0.25
    if kind == "c":
        values = values + 1j * values[::-1] * 0.5
    if kind == "b":
        values = values % 3 == 0
    return values.astype(dtype).reshape(shape)


A = ramp("f8", 3, 4)
B = ramp("f8", 2, 3, 4)
F = np.asfortranarray(B)
V = ramp("f8", 6)
W = ramp("f4", 5)
I = ramp("i4", 3, 4)  # noqa: E741
M = np.abs(ramp("f8", 4, 4)) + np.eye(4) * 30
N = np.array([[1.0, np.nan, 3.0, -0.0], [np.nan, np.nan, 2.0, 5.0], [4.0, 0.5, np.nan, 1.0]])
Z = ramp("c16", 3, 4)
E = np.empty((0, 3))
MASK = ramp("?", 3, 4)
IDX = np.array([2, 0, -1, 1])

# --- reductions
for name in (
    "sum",
    "prod",
    "max",
    "min",
    "any",
    "all",
    "mean",
    "var",
    "std",
    "argmax",
    "argmin",
    "ptp",
    "count_nonzero",
):
    for axis in (None, 0, -1):
        row(
            f"{name}-{axis}",
            lambda k, x, name=name, axis=axis: getattr(k.np, name)(x, axis=axis),
            B,
            ulp=4,
        )
    row(
        f"{name}-keepdims",
        lambda k, x, name=name: getattr(k.np, name)(x, axis=1, keepdims=True),
        B,
        ulp=4,
    )
    row(f"{name}-fortran", lambda k, x, name=name: getattr(k.np, name)(x, axis=1), F, ulp=4)
    row(f"{name}-0d", lambda k, x, name=name: getattr(k.np, name)(x), np.array(2.5))
    row(f"{name}-bad-axis", lambda k, x, name=name: getattr(k.np, name)(x, axis=5), A)
    row(f"{name}-empty", lambda k, x, name=name: getattr(k.np, name)(x, axis=0), E)
    row(f"{name}-empty-ok", lambda k, x, name=name: getattr(k.np, name)(x, axis=1), E)
    for d in ALL:
        host = d in ("c8", "c16") and name in ("max", "min", "ptp", "argmax", "argmin")
        if not (d == "?" and name == "ptp"):
            row(
                f"{name}-{d}",
                lambda k, x, name=name: getattr(k.np, name)(x),
                ramp(d, 3, 4),
                host=host,
                ulp=8,
            )
for name in ("sum", "prod", "max", "min", "any", "all", "mean", "var", "std"):
    row(f"{name}-axes", lambda k, x, name=name: getattr(k.np, name)(x, axis=(0, 2)), B, ulp=4)
    row(f"{name}-no-axes", lambda k, x, name=name: getattr(k.np, name)(x, axis=()), B, ulp=4)
    row(f"{name}-twice-axes", lambda k, x, name=name: getattr(k.np, name)(x, axis=(0, 0)), B)
    row(
        f"{name}-out",
        lambda k, x, o, name=name: getattr(k.np, name)(x, axis=0, out=o),
        A,
        np.zeros(4),
        ulp=4,
    )
    row(f"{name}-method", lambda k, x, name=name: getattr(x, name)(axis=1), A, ulp=4)
    row(f"{name}-float-axis", lambda k, x, name=name: getattr(k.np, name)(x, axis=1.0), A)
for name in ("sum", "prod", "any", "all", "mean", "var", "std"):
    row(
        f"{name}-where",
        lambda k, x, m, name=name: getattr(k.np, name)(x, axis=0, where=m),
        A,
        MASK,
        ulp=4,
    )
row("max-where", lambda k, x, m: k.np.max(x, axis=0, where=m, initial=-5), A, MASK)
row("max-where-no-initial", lambda k, x, m: k.np.max(x, where=m), A, MASK)
row("max-initial", lambda k, x: (k.np.max(x, initial=100), k.np.min(x, axis=0, initial=0)), A)
row("max-initial-empty", lambda k, x: k.np.max(x, initial=-3.0), E)
row("sum-initial", lambda k, x: (k.np.sum(x, initial=10), k.np.prod(x, axis=1, initial=2)), A)
row("sum-initial-scalar", lambda k, x, s: k.np.sum(x, initial=s), A, Numbers(3.5))
row("sum-dtype", lambda k, x: (x.sum(dtype="f4"), x.sum(dtype=int), x.mean(dtype="f4")), A)
row("sum-int-out", lambda k, x, o: k.np.sum(x, axis=0, out=o), ramp("u1", 3, 4), np.zeros(4, "u1"))
row("max-nan", lambda k, x: (x.max(), x.min(), x.max(0), x.argmax(0), x.argmin(1)), N)
row("argmax-ties", lambda k, x: (x.argmax(), x.argmax(1), x.argmin(0)), np.ones((3, 4)))
row("argmax-bool", lambda k, x: (x.argmax(), x.argmin(1)), MASK)
row(
    "argmax-keep-all",
    lambda k, x: (k.np.argmax(x, keepdims=True), k.np.argmin(x, 1, keepdims=True)),
    A,
)
row("argmax-fortran-all", lambda k, x: x.argmax(), F)
row("var-ddof", lambda k, x: (x.var(ddof=1), x.std(0, ddof=2), x.var(1, ddof=4)), A, ulp=4)
row("var-correction", lambda k, x: k.np.var(x, correction=1), A, ulp=4)
row("var-complex", lambda k, x: (x.var(), x.std(0), x.mean(1)), Z, ulp=8)
row("var-mean", lambda k, x: k.np.var(x, axis=0, mean=x.mean(0, keepdims=True)), A, ulp=4)
row("mean-half", lambda k, x: (x.mean(), x.mean(0)), ramp("f2", 3, 4))
row("mean-int-dtype", lambda k, x: x.mean(0, dtype=int), I)
row("mean-out-f4", lambda k, x, o: k.np.mean(x, 0, out=o), A, np.zeros(4, "f4"))
row("sum-bad-out", lambda k, x, o: k.np.sum(x, axis=0, out=o), A, np.zeros(3))
for name in (
    "nansum",
    "nanprod",
    "nanmax",
    "nanmin",
    "nanmean",
    "nanvar",
    "nanstd",
    "nancumsum",
    "nancumprod",
):
    row(name, lambda k, x, name=name: getattr(k.np, name)(x), N, ulp=4)
    row(f"{name}-0", lambda k, x, name=name: getattr(k.np, name)(x, axis=0), N, ulp=4)
    row(f"{name}-int", lambda k, x, name=name: getattr(k.np, name)(x, axis=1), I, ulp=4)
    row(
        f"{name}-all-nan", lambda k, x, name=name: getattr(k.np, name)(x, axis=1), N * np.nan, ulp=4
    )
row("nanvar-ddof", lambda k, x: k.np.nanvar(x, axis=1, ddof=2, keepdims=True), N, ulp=4)
row("nanargmax", lambda k, x: (k.np.nanargmax(x), k.np.nanargmax(x, 1), k.np.nanargmin(x, 1)), N)
row("nanargmax-all-nan", lambda k, x: k.np.nanargmax(x, axis=0), N * np.nan)
row(
    "average",
    lambda k, x, w: (k.np.average(x), k.np.average(x, 0), k.np.average(x, weights=w)),
    A,
    np.abs(A),
    ulp=4,
)
row(
    "average-axis",
    lambda k, x, w: k.np.average(x, axis=1, weights=w, returned=True),
    A,
    np.arange(4.0),
    ulp=4,
)
row("average-int", lambda k, x, w: k.np.average(x, axis=1, weights=w), I, np.arange(4), ulp=4)
row("average-zero-weights", lambda k, x, w: k.np.average(x, weights=w), V, V * 0)
row("average-bad-weights", lambda k, x, w: k.np.average(x, weights=w), A, np.arange(4.0))
for name in ("cumsum", "cumprod"):
    for d in ALL:
        row(f"{name}-{d}", lambda k, x, name=name: getattr(k.np, name)(x), ramp(d, 4), ulp=2)
    row(
        f"{name}-axes", lambda k, x, name=name: (getattr(k.np, name)(x, 1), getattr(x, name)(-1)), B
    )
    row(f"{name}-fortran", lambda k, x, name=name: getattr(k.np, name)(x, 1), F)
    row(f"{name}-0d", lambda k, x, name=name: getattr(k.np, name)(x), np.array(3))
    row(f"{name}-bad-axis", lambda k, x, name=name: getattr(k.np, name)(x, 4), A)
    row(
        f"{name}-out",
        lambda k, x, o, name=name: getattr(k.np, name)(x, 0, out=o),
        I,
        np.zeros((3, 4)),
    )
row("cumsum-dtype", lambda k, x: k.np.cumsum(x, dtype="f4"), I)
row("cumulative_sum", lambda k, x: k.np.cumulative_sum(x, axis=0, include_initial=True), A)
row("ptp-unsigned", lambda k, x: k.np.ptp(x, axis=0), ramp("u1", 3, 4))

# --- methods of ufuncs
row("add-reduce", lambda k, x: (k.np.add.reduce(x), k.np.add.reduce(x, axis=None)), A)
row("maximum-reduce", lambda k, x: k.np.maximum.reduce(x, axis=1, keepdims=True), A)
row("fmax-reduce", lambda k, x: (k.np.fmax.reduce(x, axis=1), k.np.fmin.reduce(x)), N)
row("logical-reduce", lambda k, x: (k.np.logical_and.reduce(x), k.np.logical_or.reduce(x, 1)), I)
row("bitwise-reduce", lambda k, x: k.np.bitwise_or.reduce(x), I, host=True)
row("subtract-reduce", lambda k, x: k.np.subtract.reduce(x), V, host=True)
row("maximum-accumulate", lambda k, x: k.np.maximum.accumulate(x, axis=1), A)
row("logaddexp-accumulate", lambda k, x: k.np.logaddexp.accumulate(x), V, host=True)
row("multiply-outer", lambda k, x, y: k.np.multiply.outer(x, y), A, W)
row("subtract-outer-number", lambda k, x: k.np.subtract.outer(x, 2), A)
row("add-reduceat", lambda k, x: k.np.add.reduceat(x, [0, 2, 4]), V, host=True)
row("add-at", lambda k, x, i: k.np.add.at(x, i, 1.0), V, IDX)
row("accumulate-0d", lambda k, x: k.np.add.accumulate(x), np.array(1.0))

# --- special ufuncs
row("divmod", lambda k, x, y: k.np.divmod(x, y), I, np.array([3, -2, 0, 5], "i4"))
row("divmod-float", lambda k, x, y: divmod(x, y), A, np.array([3.0, -2.0, 0.0, 0.7]))
row("modf", lambda k, x: k.np.modf(x), np.array([1.5, -2.25, np.inf, -np.inf, np.nan, -0.0, 3]))
row("modf-int", lambda k, x: k.np.modf(x), I)
row("frexp", lambda k, x: k.np.frexp(x), A)
row("clip-ufunc", lambda k, x: np._core.umath.clip(x, -1, 1), A)
row("erf", lambda k, x: erf(x), A, ulp=2)
row("where-out", lambda k, x, o, m: k.np.add(x, 1, out=o, where=m), A, A * 2, MASK)

# --- where, clip, rounding, comparison
row("where", lambda k, m, x, y: k.np.where(m, x, y), MASK, A, I)
row(
    "where-weak",
    lambda k, m, x: (k.np.where(m, x, 0), k.np.where(m, 1, 2.5), k.np.where(m, x, 1.5)),
    MASK[0],
    W[:4],
)
row("where-broadcast", lambda k, m, x: k.np.where(m[:, None], x, x.T[:3, :1]), MASK[0, :3], A)
row("where-fortran", lambda k, x: k.np.where(x > 0, x, -x), F)
row("where-0d", lambda k, x: k.np.where(x > 0, x, 1), np.array(2.0))
row("where-overflow", lambda k, m, x: k.np.where(m, x, 300), MASK[0], ramp("u1", 4))
row("where-one", lambda k, m: k.np.where(m), MASK, error=DataDependentShapeError)
row("where-two", lambda k, m: k.np.where(m, 1), MASK)
row("where-number-condition", lambda k, x: k.np.where(x, x, 7), I)
for d in INTS:
    row(f"clip-{d}", lambda k, x: k.np.clip(x, 2, 5), ramp(d, 12))
    row(f"clip-outside-{d}", lambda k, x: k.np.clip(x, -1000, 1000), ramp(d, 12))
row(
    "clip",
    lambda k, x: (k.np.clip(x, -1, 1), x.clip(0), x.clip(max=0.5), x.clip(x.T[:3, :1], 2)),
    A,
)
row("clip-none", lambda k, x: k.np.clip(x, None, None), A)
row("clip-min-max", lambda k, x: k.np.clip(x, min=-1, max=1), A)
row("clip-out", lambda k, x: k.np.clip(x, -1, 1, out=x), A)
row("clip-nan", lambda k, x: (k.np.clip(x, 0, 2), k.np.clip(x, np.nan, 1)), N)
row("clip-scalar", lambda k, x, s: k.np.clip(x, -s, s), W, Numbers(1.5))
row("clip-missing", lambda k, x: k.np.clip(x, a_min=1), A)
for d in ("i4", "f4", "f8", "c16"):
    for places in (0, 1, 2, -1):
        row(
            f"round-{d}-{places}", lambda k, x, p=places: k.np.round(x * 3, p), ramp(d, 3, 4), ulp=2
        )
row("round-method", lambda k, x: (x.round(1), k.np.around(x), k.np.round(x, decimals=1, out=x)), A)
row("fix", lambda k, x: k.np.fix(x), np.array([1.5, -1.5, -0.5, np.nan, np.inf]))
row("nan_to_num", lambda k, x: (k.np.nan_to_num(x), k.np.nan_to_num(x, nan=7.0)), N)
row(
    "nan_to_num-inf",
    lambda k, x: k.np.nan_to_num(x, posinf=1, neginf=2),
    np.array([np.inf, -np.inf]),
)
row("nan_to_num-int", lambda k, x: k.np.nan_to_num(x), I)
row("nan_to_num-in-place", lambda k, x: k.np.nan_to_num(x, copy=False), N)
row("nan_to_num-complex", lambda k, x: k.np.nan_to_num(x), np.array([1 + 2j, np.nan * 1j]))
row(
    "isclose", lambda k, x, y: (k.np.isclose(x, y), k.np.isclose(x, y, atol=1, rtol=0)), A, A + 1e-9
)
row("isclose-nan", lambda k, x: (k.np.isclose(x, x), k.np.isclose(x, x, equal_nan=True)), N)
row("isclose-number", lambda k, x: k.np.isclose(x, 1), I)
row("allclose", lambda k, x, y: (k.np.allclose(x, y), k.np.allclose(x, y + 1)), A, A + 1e-9)
row(
    "array_equal", lambda k, x, y: (k.np.array_equal(x, y), k.np.array_equal(x, x[:2])), A, A.copy()
)
row(
    "array_equal-nan",
    lambda k, x: (k.np.array_equal(x, x), k.np.array_equal(x, x, equal_nan=True)),
    N,
)
row("array_equiv", lambda k, x: (k.np.array_equiv(x, x[0]), k.np.array_equiv(x, x[:2])), A)
for name in ("isneginf", "isposinf", "iscomplex", "isreal", "angle", "sinc", "real", "imag"):
    row(name, lambda k, x, name=name: getattr(k.np, name)(x), N, ulp=4)
row(
    "complex-parts",
    lambda k, z: (k.np.real(z), z.imag, k.np.angle(z), z.conj(), k.np.iscomplex(z)),
    Z,
)
row("real-of-real", lambda k, x: (x.real, x.imag, x.conj(), k.np.conj(x)), A)
row("unwrap", lambda k, x: k.np.unwrap(x), V * 3, ulp=2)
row("select", lambda k, x: k.np.select([x > 1, x < -1], [x, -x], 7), A)
row("select-weak", lambda k, x: k.np.select([x > 1], [1], default=0.5), A)
row("select-bad", lambda k, x: k.np.select([x], [x]), A)
row("select-lengths", lambda k, x: k.np.select([x > 0], [x, x]), A)
row("choose", lambda k, i, x: k.np.choose(i, [x, x * 2, 3]), np.array([0, 1, 2, 1]), A[0])
row(
    "choose-clip",
    lambda k, i, x: k.np.choose(i, [x, x * 2], mode="clip"),
    np.array([0, 5, -2, 1]),
    A[0],
)
row("choose-wrap", lambda k, i, x: i.choose([x, x * 2], mode="wrap"), np.array([0, 5, -2, 1]), A[0])
row("choose-bad", lambda k, i, x: k.np.choose(i, [x, x * 2]), np.array([0, 5, -2, 1]), A[0])
row("piecewise", lambda k, x: k.np.piecewise(x, [x < -1, x > 1], [-1, lambda v: v * v, 0.5]), A)
row("piecewise-else", lambda k, x: k.np.piecewise(x, [x > 0], [lambda v: v + 1, lambda v: -v]), A)
row("astype", lambda k, x: (x.astype("f4"), x.astype(int), x.astype(bool), k.np.astype(x, "c8")), A)
row("astype-order", lambda k, x: (x.astype("f4"), x.astype("f4", order="C"), x.astype("i8")), F)
row("astype-copy", lambda k, x: x.astype("f8", copy=False), A)
row("astype-casting", lambda k, x: x.astype("i4", casting="safe"), A)
row("astype-0d", lambda k, x: (x.astype("f4"), x[()].astype("f4")), np.array(2.5))
row("astype-text", lambda k, x: x.astype("U5"), A, error=UnsupportedError)

# --- shape and movement
row(
    "reshape",
    lambda k, x: (k.np.reshape(x, (4, 3)), x.reshape(2, -1), x.reshape(12), x.T.reshape(-1)),
    A,
)
row("reshape-f", lambda k, x: (k.np.reshape(x, (4, 3), order="F"), x.reshape((6, 2), order="A")), A)
row(
    "reshape-f-of-f",
    lambda k, x: (x.reshape((6, 4), order="A"), x.reshape(6, 4), x.reshape((8, 3), order="F")),
    F,
)
row("reshape-bad", lambda k, x: x.reshape(5, 3), A)
row("reshape-bad-2", lambda k, x: x.reshape(-1, -1), A)
row("reshape-bad-3", lambda k, x: x.reshape(-1, 5), A)
row(
    "ravel",
    lambda k, x: (k.np.ravel(x), x.ravel("F"), x.T.ravel(), x.T.ravel("K"), x[:, ::2].ravel()),
    A,
)
row("ravel-f", lambda k, x: (x.ravel(), x.ravel("K"), x.ravel("A"), x.ravel("F")), F)
row("flatten", lambda k, x: (x.flatten(), x.flatten("F")), A)
row("transpose", lambda k, x: (x.T, k.np.transpose(x, (1, 0, 2)), x.transpose(2, 0, 1), x.mT), B)
row("transpose-bad", lambda k, x: x.transpose(0, 0, 1), B)
row("swapaxes", lambda k, x: (k.np.swapaxes(x, 0, -1), x.swapaxes(1, 2)), B)
row("swapaxes-bad", lambda k, x: k.np.swapaxes(x, 0, 3), B)
row("moveaxis", lambda k, x: (k.np.moveaxis(x, 0, -1), k.np.moveaxis(x, [0, 1], [2, 0])), B)
row("moveaxis-bad", lambda k, x: k.np.moveaxis(x, 0, 5), B)
row("rollaxis", lambda k, x: k.np.rollaxis(x, 2), B)
row(
    "expand_dims",
    lambda k, x: (k.np.expand_dims(x, 0), k.np.expand_dims(x, (0, -1)), x[:, None]),
    A,
)
row("expand_dims-bad", lambda k, x: k.np.expand_dims(x, 5), A)
row("squeeze", lambda k, x: (k.np.squeeze(x), x.squeeze(0), x[:, :, :1].squeeze(2)), B[:1])
row("squeeze-bad", lambda k, x: x.squeeze(1), B)
row("broadcast_to", lambda k, x: k.np.broadcast_to(x, (2, 3, 4)), A)
row("broadcast_to-bad", lambda k, x: k.np.broadcast_to(x, (2, 4, 4)), A)
row("broadcast_arrays", lambda k, x, y: list(k.np.broadcast_arrays(x, y)), A, V[:4])
row(
    "concatenate",
    lambda k, x, y: (k.np.concatenate([x, y]), k.np.concatenate((x, y), axis=1)),
    A,
    I,
)
row("concatenate-none", lambda k, x: k.np.concatenate([x, x[0]], axis=None), A)
row("concatenate-fortran", lambda k, x: k.np.concatenate([x, x], axis=1), F)
row("concatenate-mixed", lambda k, x, y: k.np.concatenate([x, y], axis=1), F, B)
row("concatenate-dtype", lambda k, x: k.np.concatenate([x, x], dtype="f4", casting="same_kind"), A)
row("concatenate-bad-cast", lambda k, x: k.np.concatenate([x, x], dtype="i4"), A)
row("concatenate-bad", lambda k, x, y: k.np.concatenate([x, y]), A, A.T.copy())
row("concatenate-ndim", lambda k, x: k.np.concatenate([x, x[0]]), A)
row("concatenate-0d", lambda k, x: k.np.concatenate([x, x]), np.array(1.0))
row("concatenate-empty", lambda k, x, y: k.np.concatenate([x, y]), E, np.ones((2, 3), "f4"))
row("concatenate-out", lambda k, x, o: k.np.concatenate([x, x], out=o), W, np.zeros(10))
row("stack", lambda k, x, y: (k.np.stack([x, y]), k.np.stack([x, y], axis=-1)), A, I)
row("stack-bad", lambda k, x: k.np.stack([x, x[0]]), A)
for name in ("vstack", "hstack", "dstack", "column_stack"):
    row(name, lambda k, x, y, name=name: getattr(k.np, name)([x, y]), V, V * 2)
    row(f"{name}-2d", lambda k, x, y, name=name: getattr(k.np, name)((x, y)), A, I)
row("block", lambda k, x, y: k.np.block([[x, y], [y, x]]), A, I, strides=False)
row("append", lambda k, x: (k.np.append(x, 3.0), k.np.append(x, x, axis=0)), A)
row("insert", lambda k, x: k.np.insert(x, 1, 9.0, axis=0), A)
row("delete", lambda k, x: (k.np.delete(x, 1, axis=0), k.np.delete(x, slice(0, 2), axis=1)), A)
row("resize", lambda k, x: k.np.resize(x, (5, 3)), A)
row(
    "split",
    lambda k, x: (k.np.split(x, 2, axis=1), k.np.array_split(x, 3, 1), k.np.split(x, [1], 0)),
    A,
)
row("split-bad", lambda k, x: k.np.split(x, 3, axis=1), A)
row("hsplit", lambda k, x: (k.np.hsplit(x, 2), k.np.vsplit(x, 3), k.np.dsplit(x[..., None], 1)), A)
row("unstack", lambda k, x: k.np.unstack(x, axis=1), A)
row(
    "flip",
    lambda k, x: (
        k.np.flip(x),
        k.np.flip(x, 1),
        k.np.flip(x, (0, 1)),
        k.np.fliplr(x),
        k.np.flipud(x),
    ),
    A,
)
row("flip-bad", lambda k, x: k.np.flip(x, 3), A)
row("rot90", lambda k, x: (k.np.rot90(x), k.np.rot90(x, 2), k.np.rot90(x, -1)), A)
row(
    "roll",
    lambda k, x: (
        k.np.roll(x, 2),
        k.np.roll(x, -1, 1),
        k.np.roll(x, (1, 2), (0, 1)),
        k.np.roll(x, 7, 0),
    ),
    A,
)
row("roll-fortran", lambda k, x: k.np.roll(x, 1, 2), F)
row("roll-empty", lambda k, x: k.np.roll(x, 1, 0), E)
row("roll-traced", lambda k, x, s: k.np.roll(x, s, 1), A, np.array(2), strides=False)
row("roll-bad", lambda k, x: k.np.roll(x, 1, 2), A)
row(
    "tile",
    lambda k, x: (k.np.tile(x, 2), k.np.tile(x, (2, 1)), k.np.tile(x, (2, 1, 3)), k.np.tile(x, 1)),
    A,
)
row(
    "repeat", lambda k, x: (k.np.repeat(x, 2), x.repeat(3, 1), k.np.repeat(x, [1, 0, 2], axis=0)), A
)
row("repeat-bad", lambda k, x: k.np.repeat(x, [1, 2], axis=0), A)
row(
    "repeat-traced",
    lambda k, x, i: k.np.repeat(x, i),
    V[:4],
    np.abs(IDX),
    error=DataDependentShapeError,
)
for mode in ("constant", "edge", "reflect", "symmetric", "wrap"):
    row(
        f"pad-{mode}",
        lambda k, x, m=mode: (k.np.pad(x, 2, m), k.np.pad(x, ((0, 1), (2, 0)), mode=m)),
        A,
    )
    row(f"pad-{mode}-wide", lambda k, x, m=mode: k.np.pad(x, (9, 11), m), V)
    row(f"pad-{mode}-one", lambda k, x, m=mode: k.np.pad(x, 3, m), V[:1])
    row(f"pad-{mode}-empty", lambda k, x, m=mode: k.np.pad(x, 1, m), E)
row(
    "pad-value",
    lambda k, x: (k.np.pad(x, 1, constant_values=7), k.np.pad(x, 1, constant_values=(1, 2))),
    A,
)
row("pad-int", lambda k, x: k.np.pad(x, 1, constant_values=2.7), I)
row("pad-mean", lambda k, x: k.np.pad(x, 1, mode="mean"), A, host=True)
row("pad-negative", lambda k, x: k.np.pad(x, -1), A)
row("pad-fortran", lambda k, x: k.np.pad(x, 1), np.asfortranarray(A))
row(
    "diagonal",
    lambda k, x: (k.np.diagonal(x), x.diagonal(1), k.np.diagonal(x, -1), x.diagonal(9)),
    A,
)
row("diagonal-3d", lambda k, x: (x.diagonal(0, 1, 2), x.diagonal(1, 2, 0)), B)
row("trace", lambda k, x: (k.np.trace(x), x.trace(1), x.trace(dtype="f4")), A)
row("trace-3d", lambda k, x: k.np.trace(x, axis1=1, axis2=2), B)
row(
    "diag",
    lambda k, x, v: (
        k.np.diag(x),
        k.np.diag(x, 1),
        k.np.diag(v),
        k.np.diag(v, 2),
        k.np.diag(v, -1),
    ),
    A,
    V,
)
row("diag-bad", lambda k, x: k.np.diag(x), B)
row("diagflat", lambda k, x: k.np.diagflat(x, 1), A)
row("tril", lambda k, x: (k.np.tril(x), k.np.triu(x), k.np.tril(x, -1), k.np.triu(x, 2)), A)
row("tril-3d", lambda k, x: (k.np.tril(x), k.np.triu(x, 1)), B)
row("tril-1d", lambda k, x: (k.np.tril(x), k.np.triu(x)), V)
row("tril-nan", lambda k, x: k.np.tril(x), N)
row(
    "atleast",
    lambda k, x, v: (
        k.np.atleast_1d(v[0]),
        k.np.atleast_2d(v),
        k.np.atleast_3d(x),
        k.np.atleast_1d(x, v),
    ),
    A,
    V,
)
row(
    "meshgrid",
    lambda k, x, y: (k.np.meshgrid(x, y), k.np.meshgrid(x, y, indexing="ij", sparse=True)),
    V,
    W,
)
row("meshgrid-views", lambda k, x, y: k.np.meshgrid(x, y, copy=False), V, W)
row("vander", lambda k, x: (k.np.vander(x), k.np.vander(x, 3, increasing=True)), V, ulp=4)
row(
    "diff", lambda k, x: (k.np.diff(x), k.np.diff(x, 2, axis=0), k.np.diff(x, prepend=0, axis=1)), A
)
row("diff-bool", lambda k, x: k.np.diff(x), MASK)
row("ediff1d", lambda k, x: (k.np.ediff1d(x), k.np.ediff1d(x, to_begin=0.0, to_end=[1.0, 2.0])), V)
row(
    "gradient",
    lambda k, x: (k.np.gradient(x), k.np.gradient(x, axis=0), k.np.gradient(x, 2.0, axis=1)),
    A,
    ulp=2,
)
row("gradient-edge", lambda k, x: k.np.gradient(x, edge_order=2), V, ulp=4)
row("gradient-int", lambda k, x: k.np.gradient(x, axis=1), I)
row("gradient-short", lambda k, x: k.np.gradient(x), V[:1])
row(
    "trapezoid",
    lambda k, y, x: (k.np.trapezoid(y), k.np.trapezoid(y, x), k.np.trapezoid(y, dx=0.5, axis=0)),
    A,
    np.arange(4.0),
    ulp=4,
)
row("views", lambda k, x: _update(x.T[1:]), A)
row("views-reshape", lambda k, x: _update(x.reshape(4, 3)[::2]), A)
row("views-moveaxis", lambda k, x: _update(k.np.moveaxis(x, 0, 2)[0]), B)
row("views-split", lambda k, x: _update(k.np.split(x, 2, axis=1)[1]), A)
row("views-squeeze", lambda k, x: _update(k.np.expand_dims(x, 1).squeeze()), A)
row("views-ravel", lambda k, x: _update(x.ravel()), A)
row("views-flip", lambda k, x: _update(k.np.flip(x, 0)[:2]), A)
row("views-einsum", lambda k, x: _update(k.np.einsum("ii->i", x)), M)
row("views-real", lambda k, z: _update(z.imag[0]), Z)
row("copies-flatten", lambda k, x: _update(x.flatten()), A)
row("read-only-diagonal", lambda k, x: _update(x.diagonal()), M)
row("read-only-broadcast", lambda k, x: _update(k.np.broadcast_to(x, (2, 3, 4))), A)


def _update(view: Any) -> Any:
    view[...] = 5.0
    return view + 1


# --- creation
for name in ("zeros", "ones", "empty"):
    if name != "empty":
        row(
            name,
            lambda k, x, name=name: [
                getattr(k.np, name)(x.shape),
                getattr(k.np, name)(3, int),
                getattr(k.np, name)((2, 3), order="F"),
            ],
            A,
        )
    row(f"{name}-write", lambda k, x, name=name: _filled(getattr(k.np, name)(6), x), V)
    row(f"{name}-negative", lambda k, x, name=name: getattr(k.np, name)(-1), A)


def _filled(out: Any, x: Any) -> Any:
    out[1:] = x[:-1]
    out[0] = 7
    out[::2] *= 2
    return out


row(
    "full", lambda k, x: (k.np.full(3, 2), k.np.full((2, 2), 1.5, "f4"), k.np.full((2, 4), x[0])), A
)
row(
    "likes",
    lambda k, x: (k.np.zeros_like(x), k.np.ones_like(x, dtype="i4"), k.np.full_like(x, 3)),
    F,
)
row("likes-order", lambda k, x: (k.np.zeros_like(x, order="C"), k.np.ones_like(x, shape=(2, 5))), F)
row("full_like-int", lambda k, x: k.np.full_like(x, 2.7), I)
row("full_like-overflow", lambda k, x: k.np.full_like(x, 300), ramp("u1", 4))
for args in (
    (5,),
    (2, 9),
    (1, 9, 3),
    (9, 1, -2),
    (0.5, 3.0, 0.3),
    (3.0,),
    (1, 2, 0.25),
    (0,),
    (5, 1),
):
    row(f"arange-{args}", lambda k, x, a=args: k.np.arange(*a), A)
row(
    "arange-dtype",
    lambda k, x: (
        k.np.arange(5, dtype="f4"),
        k.np.arange(0, 1, 0.1, dtype="f4"),
        k.np.arange(4, dtype="u1"),
    ),
    A,
)
row("arange-length", lambda k, x: k.np.arange(x.shape[1]) * x, A)
row("arange-zero-step", lambda k, x: k.np.arange(1, 5, 0), A)
row("arange-named", lambda k, x: k.np.arange(start=1, stop=6, step=2), A)
row("arange-long", lambda k, x: k.np.arange(0.0, 1e5, 0.1), A)
row(
    "linspace",
    lambda k, x: (
        k.np.linspace(0, 1, 7),
        k.np.linspace(2, 3, 5, endpoint=False),
        k.np.linspace(0, 1, 1),
    ),
    A,
)
row("linspace-step", lambda k, x: k.np.linspace(0, 1, 5, retstep=True), A)
row("linspace-dtype", lambda k, x: (k.np.linspace(0, 10, 4, dtype=int), k.np.linspace(-3, 3, 4)), A)
row("linspace-complex", lambda k, x: (np.linspace(x, 0, 1), np.linspace(x, 0, 3)), Z, strides=False)
row("dtype-class", lambda k, x: np.add(x, 1, dtype=np.dtypes.Float32DType), W)
row(
    "delete-traced",
    lambda k, x, i: k.np.sort(k.np.delete(x, i)),
    V,
    IDX,
    error=DataDependentShapeError,
)
row("linspace-traced", lambda k, x: k.np.linspace(x[0], x[1], 5), A, ulp=2, strides=False)
row("logspace", lambda k, x: (k.np.logspace(0, 2, 5), k.np.geomspace(1, 100, 5)), A, ulp=4)
row(
    "eye",
    lambda k, x: (k.np.eye(3), k.np.eye(3, 4, 1, int), k.np.identity(3, "f4"), k.np.eye(2, k=-1)),
    A,
)
row("tri", lambda k, x: (k.np.tri(3), k.np.tri(3, 5, 1, int), k.np.tri(4, 2, -1)), A)
row(
    "indices",
    lambda k, x: (
        k.np.indices((2, 3)),
        k.np.indices((2, 3), sparse=True),
        k.np.indices((2,), "f4"),
    ),
    A,
)
row("fromfunction", lambda k, x: k.np.fromfunction(lambda i, j: i * 10 + j, (3, 4)) + x, A)
row(
    "array",
    lambda k, x: (
        k.np.array([x[0], x[1]]),
        k.np.array([x[0, 0], 2, 3.5]),
        k.np.array([[1, x[0, 1]], [2, 3]]),
    ),
    A,
)
row(
    "array-copy", lambda k, x: (k.np.array(x), k.np.array(x, dtype="f4"), k.np.array(x, ndmin=4)), F
)
row(
    "array-int",
    lambda k, x: (k.np.array([x[0, 0], 2]), k.np.array([1, 2]) + x[0, :2], k.np.array([])),
    I,
)
row("array-ragged", lambda k, x: k.np.array([x[0], x[0, :2]]), A)
row(
    "array-scalar",
    lambda k, x, s: (k.np.array([s, 1]), k.np.array(s), k.np.asarray([x[0], s])),
    V,
    Numbers(2.5),
)
row("array-large", lambda k, x: k.np.array(list(range(100))) + x[0], V)
row(
    "asarray",
    lambda k, x: (
        k.np.asarray(x),
        k.np.asarray(x, "f4"),
        k.np.ascontiguousarray(x),
        k.np.asfortranarray(x),
    ),
    F,
)
row("asarray-view", lambda k, x: _update(k.np.asarray(x)[0]), A)
row("array-no-copy", lambda k, x: k.np.array(x, dtype="f4", copy=False), A)
row("copy", lambda k, x: (k.np.copy(x), x.copy(), x.copy("F"), x.copy("K")), F)
row("copy-fresh", lambda k, x: (_update(x.copy()), x), A)
row("r_", lambda k, x: (k.np.r_[x, 1.0, 0:3], k.np.c_[x, x * 2], k.np.r_[1:3]), V)
row("mgrid", lambda k, x: (k.np.mgrid[0:2, 0:3], k.np.ogrid[0:2, 0:3], k.np.mgrid[0:4]), A)
row("hanning", lambda k, x: k.np.hanning(6) * x, V)
row("fftfreq", lambda k, x: k.np.fft.fftfreq(6) * x, V)
row("tril_indices", lambda k, x: x[k.np.tril_indices(3)], A)

# --- take and put
row(
    "take",
    lambda k, x, i: (
        k.np.take(x, i),
        x.take(i, axis=1),
        k.np.take(x, [[0, 1], [2, 0]], 0),
        k.np.take(x, 1, 0),
    ),
    A,
    IDX,
)
row(
    "take-modes",
    lambda k, x, i: (k.np.take(x, i, mode="wrap"), k.np.take(x, i, mode="clip")),
    A,
    IDX * 9,
)
row("take-bad", lambda k, x, i: k.np.take(x, i), V, IDX * 9)
row("take-float", lambda k, x, i: k.np.take(x, i), V, V)
row("take-fortran", lambda k, x, i: x.take(i, 1), F, np.array([0, 2]))
row("take-empty", lambda k, x: k.np.take(x, [], axis=0), A)
row("take-from-empty", lambda k, x: k.np.take(x, [0], axis=0), E)
row(
    "take_along_axis",
    lambda k, x, i: (k.np.take_along_axis(x, i, 1), k.np.take_along_axis(x, i[:, :1], axis=1)),
    A,
    np.argsort(A, 1),
)
row("put_along_axis", lambda k, x, i: k.np.put_along_axis(x, i, 7.0, 1), A, np.argsort(A, 1)[:, :2])
row("put", lambda k, x, i: (k.np.put(x, i, [1.0, 2.0]), x.put([0], 5)), A, IDX)
row("put-nothing", lambda k, x, i: (k.np.put(x, i, x[:0]), k.np.put(x[:0], i[:0], 1)), A, IDX)
row("put-to-nothing", lambda k, x, i: k.np.put(x[:0], i, x[:0]), A, IDX)
row("put-modes", lambda k, x, i: k.np.put(x, i, 3, mode="clip"), V, IDX * 9)
row("copyto", lambda k, x, y, m: (k.np.copyto(x, y, where=m), k.np.copyto(y, 2)), A, I, MASK)
row("copyto-cast", lambda k, x, y: k.np.copyto(y, x), A, I)
row("putmask", lambda k, x, m: (k.np.putmask(x, m, 3), k.np.putmask(x, ~m, x * 2)), A, MASK)
row("putmask-cycle", lambda k, x, m: k.np.putmask(x, m, [1, 2, 3, 4, 5]), A, MASK)
row("place", lambda k, x, m: (k.np.place(x, m, 3), k.np.place(x, ~m, [1.0, 2.0, 3.0])), A, MASK)
row("fill_diagonal", lambda k, x: k.np.fill_diagonal(x, 9), A)
row("fill_diagonal-array", lambda k, x: k.np.fill_diagonal(x, x[0] * 2), A)
row("fill_diagonal-short", lambda k, x: k.np.fill_diagonal(x, [7, 8]), A)
row("fill_diagonal-wrap", lambda k, x: k.np.fill_diagonal(x.T, x[0, :2] * 2, wrap=True), A)
row("fill_diagonal-empty", lambda k, x: k.np.fill_diagonal(x, x[0, :0]), A)
row("fill", lambda k, x: x.fill(3), A)
row("ix_", lambda k, x, i: x[k.np.ix_(i[:2], i)], A, np.array([2, 0, 1, 3]))
row(
    "masks-known",
    lambda k, x: (x[k.np.array([True, False, True])], x[True], x[False], x[[False, True, False]]),
    A,
    strides=False,
)
row("ellipsis", lambda k, x: (x[0, 0, ...], x[...], x[0, ...], x[0, 0]), A)
row("ellipsis-view", lambda k, x: _update(x[0, 0, ...]), A)
row("scalar-is-a-copy", lambda k, x: (x[0, 0], x.fill(3), x[0, 0]), A)
row(
    "separated",
    lambda k, x, i: x.__setitem__((i[:2], slice(None), i[:2]), 7.0),
    B,
    np.array([0, 1]),
)
row("flat", lambda k, x: (x.T.flat[3], x.T.flat.__setitem__(slice(0, 5), 1.0), _flat_update(x)), A)
row("complex-max", lambda k, z: (z.max(), z.min(0), z.argmax(), z.clip(0, 1)), Z, host=True)
row(
    "fancy",
    lambda k, x, i: (x[i], x[:, i[:2]], x[i[:3], i[1:]], x[i[:, None], i[:2]]),
    A[:3],
    np.array([2, 0, -1, 1]),
)


def _flat_update(x: Any) -> Any:
    x.flat = [1.0, 2.0, 3.0]
    x.T.flat[4:6] = 9


# --- linear algebra
for d in ("?", "i4", "u8", "f4", "f8", "c16"):
    row(f"matmul-{d}", lambda k, x, y: x @ y, ramp(d, 3, 4), ramp(d, 4, 2), ulp=8)
    row(f"dot-vectors-{d}", lambda k, x, y: k.np.dot(x, y), ramp(d, 5), ramp(d, 5), ulp=8)
row("matmul-vectors", lambda k, x, y: (x @ y, y[:3] @ x, k.np.matmul(y, y)), A, V[:4], ulp=8)
row(
    "matmul-stacks",
    lambda k, x, y: (x @ y, x @ y[0], y[0].T @ x.swapaxes(1, 2)),
    B,
    ramp("f8", 2, 4, 5),
    ulp=8,
)
row("matmul-broadcast", lambda k, x, y: x[:, None] @ y, B, ramp("f8", 3, 4, 2), ulp=8)
row("matmul-mixed", lambda k, x, y: x @ y, I, ramp("f4", 4, 2), ulp=8)
row("matmul-bad", lambda k, x: x @ x, A)
row("matmul-0d", lambda k, x: k.np.matmul(x, 2.0), A)
row("matmul-out", lambda k, x, o: k.np.matmul(x, x.T, out=o), A, np.zeros((3, 3)), ulp=8)
row("matmul-empty", lambda k, x, y: x @ y, np.ones((3, 0)), np.ones((0, 2)))
row("vecdot", lambda k, x, y: (k.np.vecdot(x, y), k.np.vecdot(x, y[0])), Z, Z * 1j, ulp=8)
row("matvec", lambda k, x, y: (k.np.matvec(x, y), k.np.vecmat(y[:3], x)), A, V[:4], ulp=8)
row(
    "dot",
    lambda k, x, y: (k.np.dot(x, y), x.dot(2), k.np.dot(x, y[:, 0])),
    A,
    ramp("f8", 4, 2),
    ulp=8,
)
row(
    "dot-nd",
    lambda k, x, y: (k.np.dot(x, y), k.np.dot(y, x.T)),
    B,
    ramp("f8", 4, 2),
    ulp=8,
    error=None,
)
row("dot-nd-nd", lambda k, x, y: k.np.dot(x, y), B, ramp("f8", 5, 4, 2), ulp=8)
row("dot-bad", lambda k, x: k.np.dot(x, x), A)
row("dot-out", lambda k, x, o: k.np.dot(x, x.T, out=o), A, np.zeros((3, 3)), ulp=8)
row("dot-bad-out", lambda k, x, o: k.np.dot(x, x.T, out=o), A, np.zeros((3, 3), "f4"))
row("vdot", lambda k, x, y: (k.np.vdot(x, y), k.np.vdot(x.real, y.real)), Z, Z + 1, ulp=8)
row(
    "inner",
    lambda k, x, y: (k.np.inner(x, y), k.np.inner(x[0], y[0]), k.np.inner(x, 2.0)),
    A,
    A + 1,
    ulp=8,
)
row("inner-bad", lambda k, x: k.np.inner(x, x[:, :2]), A)
row("outer", lambda k, x, y: (k.np.outer(x, y), k.np.linalg.outer(x[0], y)), A, W)
row(
    "tensordot",
    lambda k, x, y: (
        k.np.tensordot(x, y),
        k.np.tensordot(x, y, 1),
        k.np.tensordot(x, y, ([0], [1])),
    ),
    A,
    ramp("f8", 3, 4),
    ulp=8,
)
row(
    "tensordot-ok",
    lambda k, x, y: (k.np.tensordot(x, y), k.np.tensordot(x, y, ((1,), (1,)))),
    A,
    A + 1,
    ulp=8,
)
row("kron", lambda k, x, y: (k.np.kron(x, y), k.np.kron(x[0], y)), A, ramp("f8", 2, 2))
row(
    "cross",
    lambda k, x, y: (k.np.cross(x, y), k.np.cross(x.T, y.T, axisa=0, axisb=0, axisc=0)),
    ramp("f8", 4, 3),
    ramp("f8", 4, 3) + 1,
)
row(
    "cross-strides",
    lambda k, x, y: k.np.cross(x, y, axis=0),
    ramp("f8", 3, 4),
    ramp("f8", 3, 4) + 1,
)
for text, shapes in {
    "ij,jk->ik": ((3, 4), (4, 2)),
    "ij,kj->ik": ((3, 4), (5, 4)),
    "ij,ij->": ((3, 4), (3, 4)),
    "ij,ij->i": ((3, 4), (3, 4)),
    "i,j->ij": ((3,), (4,)),
    "bij,bjk->bik": ((2, 3, 4), (2, 4, 5)),
    "bhqd,bhkd->bhqk": ((2, 2, 3, 4), (2, 2, 5, 4)),
    "ij->": ((3, 4),),
    "ij->j": ((3, 4),),
    "ij->ji": ((3, 4),),
    "ii": ((4, 4),),
    "ii->i": ((4, 4),),
    "ijj->i": ((2, 3, 3),),
    "ij,j": ((3, 4), (4,)),
    "...ij,...jk->...ik": ((2, 3, 4), (4, 5)),
    "...i,...i": ((2, 3), (2, 3)),
    "ij,jk,kl->il": ((2, 3), (3, 4), (4, 5)),
    "i,i,i->i": ((3,), (3,), (3,)),
    "ij,jk": ((3, 4), (4, 2)),
    "ba": ((3, 4),),
    "i...->...": ((3, 4),),
    "ij,ik->jk": ((3, 4), (3, 2)),
    "i,i": ((5,), (5,)),
    "ijk,ijl->kl": ((2, 3, 4), (2, 3, 5)),
    "ab,cd->": ((2, 3), (4, 5)),
    "ij,jk->ki": ((3, 4), (4, 2)),
}.items():
    row(
        f"einsum-{text}",
        lambda k, *xs, t=text: k.np.einsum(t, *xs),
        *[ramp("f8", *s) for s in shapes],
        ulp=16,
        strides=False,
    )
row(
    "einsum-lists",
    lambda k, x, y: k.np.einsum(x, [0, 1], y, [1, 2], [0, 2]),
    A,
    ramp("f8", 4, 2),
    ulp=8,
    strides=False,
)
row("einsum-int", lambda k, x, y: k.np.einsum("ij,j->i", x, y), ramp("i1", 3, 4), ramp("i1", 4))
row("einsum-mixed", lambda k, x, y: k.np.einsum("ij,j->i", x, y), I, W[:4], ulp=8)
row("einsum-bool", lambda k, x: k.np.einsum("ij,kj->ik", x, x), MASK)
row("einsum-dtype", lambda k, x: k.np.einsum("ij->i", x, dtype="f4", casting="same_kind"), A, ulp=8)
row("einsum-bad", lambda k, x: k.np.einsum("ij,jk", x, x), A)
row("einsum-bad-text", lambda k, x: k.np.einsum("ijk", x), A)
row("einsum-out", lambda k, x, o: k.np.einsum("ij,kj->ik", x, x, out=o), A, np.zeros((3, 3)), ulp=8)
row(
    "einsum-optimize",
    lambda k, x, y: k.np.einsum("ij,jk->ik", x, y, optimize=True),
    A,
    ramp("f8", 4, 2),
    ulp=8,
    strides=False,
)
row(
    "norm",
    lambda k, x: (
        k.np.linalg.norm(x),
        k.np.linalg.norm(x, axis=1),
        k.np.linalg.norm(x, axis=0, keepdims=True),
    ),
    A,
    ulp=8,
)
row(
    "norm-orders",
    lambda k, x: [k.np.linalg.norm(x[0], o) for o in (1, 2, 3, 0, np.inf, -np.inf, 0.5)],
    A,
    ulp=8,
)
row(
    "norm-matrix",
    lambda k, x: [k.np.linalg.norm(x, o) for o in ("fro", 1, -1, np.inf, -np.inf)],
    A,
    ulp=8,
)
row("norm-2", lambda k, x: k.np.linalg.norm(x, 2), A, ulp=8, host=True)
row("norm-int", lambda k, x: k.np.linalg.norm(x), I, ulp=8)
row("norm-complex", lambda k, x: (k.np.linalg.norm(x), k.np.linalg.norm(x, axis=1)), Z, ulp=8)
row("norm-f4", lambda k, x: (k.np.linalg.norm(x), k.np.linalg.vector_norm(x)), W, ulp=8)
row("multi_dot", lambda k, x, y: k.np.linalg.multi_dot([x, y, x]), A, A.T.copy(), ulp=16)
row(
    "matrix_power",
    lambda k, x: (k.np.linalg.matrix_power(x, 3), k.np.linalg.matrix_power(x, 0)),
    M,
    ulp=16,
)
row("cov", lambda k, x: (k.np.cov(x), k.np.corrcoef(x)), A, ulp=64)
row("polyval", lambda k, p, x: k.np.polyval(p, x), W, A, ulp=8)

# --- host calls
for name in (
    "inv",
    "cholesky",
    "det",
    "eigvalsh",
    "slogdet",
    "eigh",
    "svd",
    "qr",
    "pinv",
    "matrix_rank",
    "cond",
):
    row(
        name,
        lambda k, x, name=name: getattr(k.np.linalg, name)(x),
        M @ M.T,
        host=True,
        strides=False,
        ulp=1e7,
    )
row(
    "solve",
    lambda k, a, b: (k.np.linalg.solve(a, b[0]), k.np.linalg.solve(a, b.T)),
    M,
    A,
    host=True,
    strides=False,
)
for name in ("fft", "ifft", "rfft", "fft2", "ihfft"):
    row(name, lambda k, x, name=name: getattr(k.np.fft, name)(x), A, host=True)
row("irfft", lambda k, x: k.np.fft.irfft(x, 6), Z, host=True)
row("fftshift", lambda k, x: k.np.fft.fftshift(x, axes=0), A)
row(
    "sort",
    lambda k, x: (k.np.sort(x), k.np.argsort(x, axis=0), k.np.partition(x, 2), x.argsort()),
    A,
    host=True,
)
row(
    "host-fortran",
    lambda k, x: (k.np.sort(x), k.np.fft.fft(x, axis=0), k.np.median(x, axis=0), k.np.frexp(x)),
    F,
    host=True,
)
row(
    "matmul-fortran", lambda k, x, y: (x @ y, k.np.vecdot(x, x), x.imag), F, ramp("f8", 4, 2), ulp=8
)
row("sort-in-place", lambda k, x: (x.sort(), x[0].sort()), A, host=True)
row(
    "searchsorted",
    lambda k, x, y: (k.np.searchsorted(x, y), x.searchsorted(0.5, side="right")),
    np.sort(V),
    A,
    host=True,
)
row("digitize", lambda k, x: k.np.digitize(x, [-1.0, 0.0, 1.0]), A, host=True)
row("interp", lambda k, x, p: k.np.interp(x, p, p * 2), A, np.arange(6.0), host=True)
row(
    "convolve",
    lambda k, x, y: (k.np.convolve(x, y), k.np.convolve(x, y, "same"), k.np.correlate(x, y)),
    V,
    W,
    host=True,
)
row("histogram", lambda k, x: k.np.histogram(x, bins=5, range=(-2, 2)), A, host=True)
row(
    "median",
    lambda k, x: (
        k.np.median(x),
        k.np.median(x, axis=0),
        k.np.percentile(x, [10, 50], axis=1),
        k.np.quantile(x, 0.3),
    ),
    A,
    host=True,
)
row("nanmedian", lambda k, x: k.np.nanmedian(x, axis=1), N, host=True)
row("isin", lambda k, x: k.np.isin(x, [1, 3]), I, host=True)
row("lexsort", lambda k, x: k.np.lexsort((x[0], x[1])), A, host=True)
row("host-number", lambda k, x, q: k.np.quantile(x, q), V, Numbers(0.25), host=True)
row("packbits", lambda k, x: k.np.packbits(x), MASK)
for _axis, _order in itertools.product((None, 0, -1), ("big", "little")):
    row(f"packbits-{_axis}-{_order}", lambda k, x, axis=_axis, order=_order: (
        k.np.packbits(x, axis, order), k.np.packbits(x.T, axis, bitorder=order),
        k.np.packbits(x[:0], axis, order), k.np.unpackbits(x, axis, None, order),
        k.np.unpackbits(x.T, axis, bitorder=order)), np.arange(60, dtype="u1").reshape(5, 12))
row("packbits-none", lambda k, x: (k.np.packbits(x[0, 0]), k.np.unpackbits(x[0, 0])),
    np.full((1, 1), 5, "u1"))
row("unpackbits-count", lambda k, x: k.np.unpackbits(x, count=5), np.arange(3, dtype="u1"),
    host=True)
row("packbits-floats", lambda k, x: k.np.packbits(x), V, error=TypeError)
row("unpackbits-bools", lambda k, x: k.np.unpackbits(x), MASK, error=TypeError)
row("gcd", lambda k, x: k.np.gcd(x, 4), I)
row("sort-long", lambda k, x: k.np.sort(x), np.arange(200_000)[::-1].copy(), host=True)
row("rfft-long", lambda k, x: (k.np.fft.rfft(x), k.np.fft.fft(x)), np.arange(150_000.0), host=True)
row(
    "convolve-long",
    lambda k, x, y: (k.np.convolve(x, y), k.np.convolve(x, y, "valid")),
    np.arange(150_000.0),
    np.ones(40),
    host=True,
)
row(
    "solve-long",
    lambda k, a, b: k.np.linalg.solve(a, b),
    np.eye(400) * 2,
    np.ones((400, 3)),
    host=True,
    strides=False,
)
row("host-out", lambda k, x, o: k.np.median(x, axis=0, out=o), A, np.zeros(4), host=True)

# --- refused
for name in ("unique", "nonzero", "flatnonzero", "argwhere", "trim_zeros"):
    row(name, lambda k, x, name=name: getattr(k.np, name)(x), V, error=DataDependentShapeError)
row("union1d", lambda k, x: k.np.union1d(x, x), V, error=DataDependentShapeError)
row("extract", lambda k, x: k.np.extract(x > 0, x), V, error=DataDependentShapeError)
row("nonzero-method", lambda k, x: x.nonzero(), V, error=DataDependentShapeError)
row("tobytes", lambda k, x: x.tobytes(), V, error=UnsupportedError)
row("save", lambda k, x: k.np.save("/nowhere", x), V, error=FusecError)
row("array2string", lambda k, x: k.np.array2string(x), V, error=FusecError)
row(
    "lists",
    lambda k, x: (
        k.np.sum([x[0], x[1]]),
        k.np.max([x[0, 0], 1.0]),
        k.np.mean([x[0], x[1]], axis=0),
        k.np.exp([x[0, 0], 1.0]),
    ),
    A,
    ulp=4,
)
row(
    "lists-reduce",
    lambda k, x: (
        k.np.maximum.reduce([x[0], x[1], x[2]]),
        k.np.add.reduce([x[0], x[1]]),
        k.np.add([x[0, 0], 1], 2),
    ),
    A,
)
row(
    "lists-host",
    lambda k, x: (k.np.sort([x[0, 0], x[0, 1]]), k.np.median([x[0], x[1]], axis=0)),
    A,
    host=True,
)
row("out-no-array", lambda k, x: k.np.add(x, 1, out=3), A)
row("no-such-method", lambda k, x: x.nothing, V)

# --- facts
row(
    "facts",
    lambda k, x: (
        k.np.shape(x),
        k.np.ndim(x),
        k.np.size(x),
        k.np.size(x, 1),
        x.nbytes,
        x.itemsize,
        k.py.len(x),
    ),
    A,
)
row(
    "facts-dtype",
    lambda k, x, i: (
        k.np.result_type(x, i).str,
        k.np.can_cast(i.dtype, x.dtype),
        k.np.iscomplexobj(x),
        k.np.isrealobj(x),
    ),
    A,
    I,
)
row("facts-memory", lambda k, x: (k.np.may_share_memory(x, x[0]), k.np.shares_memory(x, x + 1)), A)
row(
    "facts-isinstance",
    lambda k, x: (
        isinstance(x, np.ndarray),
        isinstance(x[0, 0], np.float64),
        k.py.type(x) is np.ndarray,
    ),
    A,
)

# --- selections
for name in ("sum", "prod", "mean", "max", "min", "any", "all", "var", "std"):
    row(
        f"selection-{name}",
        lambda k, x, m, name=name: (getattr(x[m], name)(), getattr(k.np, name)(x[m])),
        A,
        MASK,
        ulp=4,
    )
    row(f"selection-{name}-none", lambda k, x, name=name: getattr(x[x > 99], name)(), A)
row("selection-complex", lambda k, x: (x[x.real > 0].max(), x[x.imag > 0].min(0)), Z, host=True)
row(
    "selection-rows",
    lambda k, x, m: (x[m].sum(axis=0), x[m].mean(), x[m].max(0)),
    A,
    MASK[:, 1],
    ulp=4,
)
row(
    "selection-math",
    lambda k, x: (k.np.exp(x[x > 0] * 2).sum(), (x[x > 0] + x[x > 0]).sum()),
    A,
    ulp=4,
)
row("selection-same-mask", lambda k, x, y, m: (x[m] * y[m]).sum(), A, A + 1, MASK, ulp=4)
row(
    "selection-size",
    lambda k, x, m: (x[m].size, k.np.count_nonzero(x[m]), k.np.size(x[m])),
    A,
    MASK,
)
row("selection-update", lambda k, x, m: _masked_update(x, m), A, MASK)
row("selection-update-int", lambda k, x, m: _masked_update(x, m), I, MASK)
row("selection-assign", lambda k, x, y, m: _masked_assign(x, y, m), A, A * 10, MASK)
row(
    "selection-assign-values",
    lambda k, x, v, m: _masked_values(x, v, m),
    A,
    V[: MASK.sum()],
    MASK,
    host=True,
)
row(
    "selection-changed-mask",
    lambda k, x, m: _changed_mask(x, m),
    A,
    MASK,
    error=(FusecError, ValueError),
)
row("selection-in-place-cast", lambda k, x, m: _masked_divide(x, m), I, MASK)
row("selection-len", lambda k, x: len(x[x > 0]), A, error=DataDependentShapeError)
row("selection-free", lambda k, x: k.np.sort(x[x > 0]), A, error=DataDependentShapeError)
row("selection-other", lambda k, x, m: x[m] + x[:, 0], A, MASK, error=DataDependentShapeError)
row("selection-index", lambda k, x, m: x[m][0], A, MASK, error=DataDependentShapeError)
row("selection-shape", lambda k, x, m: x[m].shape, A, MASK, error=DataDependentShapeError)
row("selection-wrong-mask", lambda k, x, m: x[m[:2]].sum(), A, MASK)
row("selection-argmax-axis", lambda k, x: x[x > 0].argmax(0), A, error=DataDependentShapeError)
for name, fn in {
    "argmax-keepdims": lambda k, x: x[x > 0].argmax(keepdims=True),
    "argmax-out": lambda k, x: x[x > 0].argmax(None, None),
    "median-axis": lambda k, x: k.np.median(x[x > 0], 0),
    "quantile-short": lambda k, x: k.np.quantile(x[x > 0].astype(int), k.np.float32(0.3)),
    "sum-out": lambda k, x: x[x > 0].sum(0, None),
    "sum-keepdims": lambda k, x: x[x > 0].sum(keepdims=True),
    "max-keepdims": lambda k, x: k.np.max(x[x > 0], axis=0, keepdims=True),
    "max-initial": lambda k, x: x[x > 0].max(initial=None),
    "of-selected-rows": lambda k, x: x[x[:, 0] > 0][x[x[:, 0] > 0] > 1].sum(),
}.items():
    row(f"selection-refused-{name}", fn, A, error=DataDependentShapeError)
row("selection-row-keepdims", lambda k, x: x[0][x[0] > 0].max(keepdims=True), A)
for name, values in {
    "plain": A, "ints": I, "float32": A.astype("f4"), "nan": np.where(A.max() == A, np.nan, A),
    "all nan": A * np.nan,
}.items():  # fmt: skip
    for chosen, mask in {"some": MASK, "rows": MASK[:, 1], "none": MASK & False}.items():
        row(f"selection-place-{name}-{chosen}", lambda k, x, m: (x[m].argmax(), k.np.argmin(x[m])),
            values, mask)
        row(f"selection-ptp-{name}-{chosen}", lambda k, x, m: k.np.ptp(x[m]), values, mask)
        row(f"selection-initial-{name}-{chosen}", lambda k, x, m: x[m].max(initial=0), values, mask)
        row(f"selection-quantiles-{name}-{chosen}",
            lambda k, x, m: (k.np.median(x[m]), k.np.percentile(x[m], 30),
                             k.np.quantile(x[m], [0.1, 0.5])), values, mask, host=True)


def _masked_update(x: Any, m: Any) -> Any:
    x[m] += 2
    x[m] *= x[m]
    x[x > 3] = 3
    x[~m] -= 1
    return x.sum()


def _masked_assign(x: Any, y: Any, m: Any) -> None:
    x[m] = y[m]
    x[~m] = 0.5


def _masked_values(x: Any, v: Any, m: Any) -> None:
    x[m] = v


def _changed_mask(x: Any, m: Any) -> None:
    part = x[m]
    m[0] = True
    x[m] = part


def _masked_divide(x: Any, m: Any) -> None:
    x[m] /= 2


# --- Python's own functions
row("py-sum", lambda k, x: (k.py.sum(x), k.py.sum([x[0], x[1]]), k.py.sum(x, start=x[1])), I)
row("py-sum-0d", lambda k, x: k.py.sum(x), np.array(1.0))
row(
    "py-min",
    lambda k, v: (
        k.py.min(v[0], v[1]),
        k.py.max(v[0], v[1], v[2]),
        k.py.max(v),
        k.py.min([v[0], v[3]]),
    ),
    V,
)
row(
    "py-min-nan", lambda k, v: (k.py.min(v[0], v[1]), k.py.max(v[1], v[0])), np.array([np.nan, 1.0])
)
row("py-abs", lambda k, x: (abs(x), divmod(x, 2), pow(x, 2), -x, +x, x**2), A)
row("py-float", lambda k, x, v: k.py.float(x.sum()) * v, A, V, ulp=8)
row("py-float-array", lambda k, x: k.py.float(x), A)
row("py-float-complex", lambda k, x: k.py.float(x[0, 0]), Z)
row("py-int", lambda k, x: k.py.int(x[0, 0] * 3) + k.np.arange(3), A)
row("py-int-nan", lambda k, x: k.py.int(x[0, 1]), N)
row("py-complex", lambda k, x: k.py.complex(x[0, 0], x[0, 1]) * x, A)
row("py-round", lambda k, x: (k.py.round(x[0, 0], 1), k.py.round(x[0, 1]) * x), A)
row(
    "py-numbers",
    lambda k, x, s: (x * k.py.float(s), x + k.py.int(s), x * k.py.round(s)),
    W,
    Numbers(2.75),
)
row("math", lambda k, x: k.math.exp(x[0, 0]) * x + k.math.sqrt(x[0, 3] + 9), A, ulp=4)
row(
    "math-two",
    lambda k, x: (k.math.atan2(x[0, 0], x[0, 1]) * x, k.math.pow(x[1, 1], 2) * x),
    A,
    ulp=4,
)
row(
    "math-log", lambda k, x: (k.math.log(x[0, 0] + 9) * x, k.math.log(x[0, 0] + 9, 2) * x), A, ulp=4
)
row("math-domain", lambda k, x: k.math.sqrt(x[0, 0]) * x, -np.abs(A) - 1)
row("math-overflow", lambda k, x: k.math.exp(x[0]) * x, np.array([1e4]))
row("math-inf", lambda k, x: k.math.exp(x[0]) * x, np.array([np.inf]))
row(
    "math-plain",
    lambda k, x, s: (x * k.math.sin(0.5), x * k.math.sin(s), x * k.math.floor(s)),
    W,
    Numbers(2.75),
)
row("math-floor", lambda k, x: k.math.floor(x[0, 1]) * x, A)
row(
    "scalar-types",
    lambda k, x, s: (k.np.float32(x[0, 0]), k.np.int64(s) + x, k.np.float32(2) * x),
    A,
    Numbers(2.75),
)
row("scalar-types-array", lambda k, x: k.np.float32(x), A)
row("vectorize", lambda k, x: k.np.vectorize(lambda a: a * 2)(x), A, error=UnsupportedError)
row(
    "apply_along_axis",
    lambda k, x: (
        k.np.apply_along_axis(lambda v: v.sum(), 0, x),
        k.np.apply_along_axis(lambda v: v - v.mean(), 1, x),
    ),
    A,
    ulp=4,
)
row("apply_over_axes", lambda k, x: k.np.apply_over_axes(np.sum, x, (0, 2)), B, ulp=4)
row("i0", lambda k, x: k.np.i0(x), A, ulp=8)
row(
    "scalar-methods",
    lambda k, x: (
        x[0, 0].sum(),
        x[0, 0].astype("f4"),
        x[0, 0].round(1),
        x[0, 0].reshape(1),
        x[0, 0].copy(),
    ),
    A,
)
row("byteswap", lambda k, x: x.byteswap(), I, host=True)
row("powers", lambda k, x, m: (x**2, x**2.0, m**2, m**3), ramp("i1", 3, 4), MASK)
row("bad-orders", lambda k, x: x.copy(2), A)
row("setflags", lambda k, x: (lambda y: (y.setflags(write=False), _update(y)))(x * 2), A)
row("setflags-of-argument", lambda k, x: x.setflags(write=False), A, error=UnsupportedError)


@pytest.mark.parametrize("row", ROWS, ids=[r.id for r in ROWS])
def test_as_numpy(row: Row) -> None:
    check(row)


def test_ids_are_unique() -> None:
    assert len({r.id for r in ROWS}) == len(ROWS) >= 300


def test_lengths_are_arguments() -> None:
    """No value of the graph holds a length: sums, means and ranges of other sizes are alike."""

    def program(k: Any, x: Any) -> Any:
        return (
            x.mean()
            + x.std(0)
            + x.argmax(1)[0]
            + k.np.arange(x.shape[1])
            + k.np.linspace(0, 1, 3)[0]
        )

    texts = []
    for n in (50, 60):
        traced = Traced(program, (ramp("f8", 7, n),))
        nodes = toposort([traced.result.node])
        texts.append([repr(x.attrs["value"]) for x in nodes if x.op.name == "const"])
    assert texts[0] == texts[1]


def test_constants_are_params() -> None:
    session = Session()
    tracer = as_tracer(session, np.arange(1000.0))
    assert session.sources[0].kind == "constant" and tracer.node is session.params[0]
    assert as_tracer(session, np.arange(3.0)).node.op.name == "const"


@pytest.mark.parametrize(
    "fn",
    [
        lambda o, z: o.__setitem__(..., z),
        lambda o, z: o.__setitem__([0, 1], z[:2]),
        lambda o, z: o.__setitem__(o > 0, z[0]),
        lambda o, z: o.fill(z[0]),
        lambda o, z: np.add(o, z, out=o, casting="unsafe"),
        lambda o, z: np.copyto(o, z, casting="unsafe"),
        lambda o, z: z.astype("i4"),
        lambda o, z: z.astype("?"),
        lambda o, z: np.array([z[0], 1], dtype="f4"),
        lambda o, z: np.sum(z, dtype="f8"),
        lambda o, z: np.cumsum(z, dtype="f8"),
        lambda o, z: np.where(o > 0, z, 0).real.astype("f4"),
    ],
)
def test_imaginary_parts_get_lost_with_one_warning(fn):
    found = []
    for run in (fn, fusec.jit(fn)):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            run(np.ones(6), np.ones(6) + 1j)
        found.append([(w.category, str(w.message)) for w in caught])
    assert found[0] == found[1]
    assert all(w.filename == __file__ for w in caught)


@pytest.mark.parametrize(
    "fn",
    [
        lambda x, y: x + y,
        lambda x, y: np.broadcast_to(x, (3,)).__iadd__(1),
        lambda x, y: np.add(x, 1, out=frozen(x)),
    ],
)
def test_messages_are_numpys(fn):
    said = []
    for run in (fn, fusec.jit(fn)):
        with pytest.raises(ValueError) as caught:
            run(np.ones(3), np.ones((4, 2)))
        said.append(str(caught.value))
    assert said[0] == said[1]


def frozen(x):
    y = x * 2
    y.flags.writeable = False
    return y
