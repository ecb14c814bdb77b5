"""Calls of NumPy's own function in the middle of a program.

Their results' shapes and dtypes are found by calling the function on dummy arrays of the right
shape while tracing. Where those would be large, long axes are replaced by short ones, twice, and
the result's axes are read off from what moved with what. The real call checks that it is so.
"""

import contextlib
import itertools
import keyword
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fusec.errors import DataDependentShapeError, UnsupportedError
from fusec.ir.aval import Aval, is_number
from fusec.ops.host import HostCall
from fusec.trace.scalars import NUMBERS, PyScalar, is_sized
from fusec.trace.session import Session
from fusec.trace.standin import in_order, silent, stand_in
from fusec.trace.tracer import Tracer, as_tracer, fresh
from fusec.trace.tree import LEAF, TreeDef, flatten
from fusec.trace.ufuncs import weak_type

SMALL = 100_000  # elements up to which a dummy has the real shape
_LONG = 16  # an axis longer than this is replaced where the real shape is too large
_SIZES = ((17, 23, 37, 53, 79, 97), (19, 31, 47, 71, 101, 127))  # both rising, sums unlike

NEVER_RAISE = (
    np.sort, np.argsort, np.partition, np.argpartition, np.median, np.lexsort, np.searchsorted,
    np.convolve, np.correlate, np.interp, np.linalg.det, np.linalg.slogdet, np.linalg.qr,
)  # fmt: skip
"""Functions that take all values, and are not called where nobody reads what they give."""


class Slot:
    """Where the ``index``-th array of a host call goes among its arguments."""

    __slots__ = ("index", "kind")

    def __init__(self, index: int, kind: str) -> None:
        self.index = index
        self.kind = kind

    def text(self, ndim: int) -> str:
        """The array, NumPy scalar or Python number that NumPy's function is to see of ``a0``."""
        if self.kind == "array":
            return f"a{self.index}" if ndim else f"asarray(a{self.index})"
        return f"a{self.index}" + ("[()]" if self.kind == "scalar" else ".item()")


def host_call(
    session: Session,
    func: Any,
    args: Any,
    kwargs: dict[str, Any],
    likes: list[np.ndarray] | None = None,
) -> Any:
    """A call of ``func`` at run time.

    likes: stand-ins of the results where the caller knows them. Returns what ``func`` would: a
    tracer, or a tree of them.
    """
    out = kwargs.get("out")
    if out is not None:
        kwargs = {k: v for k, v in kwargs.items() if k != "out"}
    leaves, tree = _leaves(args, kwargs)
    operands, filled = _operands(session, leaves)
    name = _name(func)

    invoke = _invoker(func, tree, filled, [o._like.ndim for o in operands])

    def arguments(traced: Any) -> Any:
        return tree.unflatten([traced[v.index] if type(v) is Slot else v for v in filled])

    if likes is not None:
        result: Any = likes[0] if len(likes) == 1 else tuple(likes)
        kinds = ["array" if x.shape else "scalar" for x in likes]
    else:
        result, kinds = _probe(session, name, invoke, operands)
    parts, result_tree = flatten(result)
    if not parts:  # it is called for what it does to its arguments
        raise UnsupportedError(f"np.{name} gives no array: NumPy runs the function")
    avals = tuple(_avals(parts))
    runner, key = _runner(name, invoke, parts), _key(tree, filled)
    call = HostCall(name, runner, avals, source=func, arguments=arguments, key=key)
    node = session.make("host_call", *[o.node for o in operands], call=call)
    made = []
    for k, (like, kind) in enumerate(zip(parts, kinds)):
        part = session.make("host_out", node, index=k, aval=Aval(like.shape, like.dtype))
        made.append(fresh(session, part, like, scalar=kind != "array"))
        made[k]._storage.item = kind == "number"
    quiet = any(func is f for f in NEVER_RAISE) and "period" not in kwargs  # np.interp refuses 0
    if not quiet and getattr(func, "__module__", "") != "numpy.fft":
        session.checks.append(made[0].node)
    if out is not None:
        return _stored(session, made, out)
    return result_tree.unflatten(made)


def _invoker(func: Any, tree: TreeDef, filled: list[Any], ndims: list[int]) -> Any:
    """What calls ``func`` as the user does, given the arrays: ``lambda a0: func(a0, k1, axis=k2)``.

    ndims: of the arrays.
    """
    names = {f"k{i}": v for i, v in enumerate(filled)} | {"func": func, "asarray": np.asarray}
    texts = [v.text(ndims[v.index]) if type(v) is Slot else k for k, v in zip(names, filled)]
    positional, named = tree.children
    kinds = [c.cls for part in tree.children for c in part.children]
    sayable = all(k.isidentifier() and not keyword.iskeyword(k) for k in named.aux)
    if sayable and all(cls is LEAF or cls is None for cls in kinds):
        left = iter(texts)
        given = [next(left) if cls is LEAF else "None" for cls in kinds]
        count = len(positional.children)
        pairs = [f"{k}={v}" for k, v in zip(named.aux, given[count:])]
        call = f"func({', '.join([*given[:count], *pairs])})"
    else:
        names["unflatten"] = tree.unflatten
        call = f"(lambda given: func(*given[0], **given[1]))(unflatten([{', '.join(texts)}]))"
    every = ", ".join([f"a{i}" for i in range(len(ndims))])
    return eval(compile(f"lambda {every}: {call}", "<fusec host call>", "eval"), names)


def _key(tree: TreeDef, filled: list[Any]) -> Any:
    """What is equal for two calls that do the same; unique where that can't be told."""
    found: list[Any] = [tree]
    for value in filled:
        if type(value) is Slot:
            found.append((value.index, value.kind))
        elif type(value) in (str, type(None), *NUMBERS) or isinstance(value, np.dtype):
            found.append((type(value), repr(value)))
        else:
            return object()
    return tuple(found)


def _name(func: Any) -> str:
    """What the user calls ``func``: ``add.reduceat`` for a method of a ufunc."""
    owner = getattr(func, "__self__", None)
    if isinstance(owner, np.ufunc):
        return f"{owner.__name__}.{func.__name__}"
    return str(getattr(func, "__qualname__", getattr(func, "__name__", func)))


def _stored(session: Session, made: list[Tracer], out: Any) -> Any:
    from fusec.trace.ufuncs import store_out

    targets = out if isinstance(out, tuple) else (out,)
    for result, target in zip(made, targets):
        store_out(session, result.node, target, True, [], "unsafe")
    return out if not isinstance(out, tuple) or len(out) > 1 else out[0]


def _avals(likes: list[np.ndarray]) -> list[Aval]:
    return [Aval(x.shape, x.dtype) for x in likes]


def _leaves(args: Any, kwargs: dict[str, Any]) -> tuple[list[Any], TreeDef]:
    return flatten((tuple(args), dict(kwargs)))


def _operands(session: Session, leaves: list[Any]) -> tuple[list[Tracer], list[Any]]:
    """The traced leaves, and all leaves with slots in the place of the traced ones."""
    operands: list[Tracer] = []
    filled: list[Any] = []
    for leaf in leaves:
        if type(leaf) is PyScalar and (is_sized(leaf) or type(leaf._value) is not float):
            filled.append(leaf._concrete())  # shapes may depend on it
        elif type(leaf) is Tracer or type(leaf) is PyScalar:
            kind = "number" if weak_type(leaf) else "scalar" if leaf._scalar else "array"
            filled.append(Slot(len(operands), kind))
            operands.append(as_tracer(session, leaf))
        else:
            filled.append(leaf)
    return operands, filled


def _runner(name: str, invoke: Callable[..., Any], likes: list[np.ndarray]) -> Any:
    """What the program calls: it gives all results as arrays, in order.

    Raises DataDependentShapeError where the data make it another result (``np.emath.sqrt``), or
    one that lies in memory of the program's: then NumPy runs the user's function.
    """
    expected = [(x.shape, x.dtype) for x in likes]

    def run(*arrays: Any) -> tuple[Any, ...]:
        result = invoke(*arrays)
        if (
            type(result) is np.ndarray
            and [(result.shape, result.dtype)] == expected
            and result.base is None
            and _is_new(result, arrays)
        ):
            return (result,)
        leaves = flatten(result)[0]
        found = [np.asarray(x) for x in leaves]
        made = [(x.shape, x.dtype) for x in found]
        if made != expected:
            raise DataDependentShapeError(f"{name} gave {made} where {expected} was planned")
        if not all(_is_plain(x, arrays) for x in leaves):
            raise DataDependentShapeError(f"{name} gave a view of its argument, or a subclass")
        return tuple(found)

    run.__name__ = name
    return run


def _is_new(result: Any, arrays: Sequence[Any]) -> bool:
    """Whether it is none of the arguments."""
    for array in arrays:  # noqa: SIM110  (a generator takes three times as long)
        if result is array:
            return False
    return True


def _is_plain(leaf: Any, arrays: Sequence[Any]) -> bool:
    """Whether it is a number, or an array of no other class that lies apart from the arguments."""
    if type(leaf) is not np.ndarray or (leaf.base is None and _is_new(leaf, arrays)):
        return not isinstance(leaf, np.ndarray) or type(leaf) is np.ndarray
    return not any(np.may_share_memory(leaf, a) for a in arrays)


# -- shapes of results ----------------------------------------------------------------------------


def _probe(
    session: Session, name: str, invoke: Callable[..., Any], operands: list[Tracer]
) -> tuple[Any, list[str]]:
    """Stand-ins for the results, in the tree that ``invoke`` gives, and their kinds."""
    shapes = [o._like.shape for o in operands]
    if sum(math.prod(s) for s in shapes) > SMALL:
        try:
            return _probe_short(session, name, invoke, operands, shapes)
        except UnsupportedError:
            raise
        except Exception:  # it may want lengths that fit together, or a place far behind
            pass
    result = _dummy_call(session, name, invoke, operands, shapes)
    leaves, tree = flatten(result)
    likes = [stand_in(x.shape, x.dtype, x.strides) for x in map(np.asarray, leaves)]
    return tree.unflatten(likes), [_kind(x) for x in leaves]


def _kind(value: Any) -> str:
    """What a result is, in the words of ``Slot``."""
    if isinstance(value, np.ndarray):
        return "array"
    return "number" if type(value) in NUMBERS else "scalar"


def _probe_short(
    session: Session,
    name: str,
    invoke: Callable[..., Any],
    operands: list[Tracer],
    shapes: list[tuple[int, ...]],
) -> tuple[Any, list[str]]:
    """The same from calls with short axes."""
    lengths = sorted({n for s in shapes for n in s if n > _LONG})[: len(_SIZES[0])]
    tables = [dict(zip(lengths, sizes)) for sizes in _SIZES]
    found = []
    for table in tables:
        small = [tuple([table.get(n, n) for n in s]) for s in shapes]
        found.append(flatten(_dummy_call(session, name, invoke, operands, small)))
    likes = [
        in_order(_scaled_up(session, name, a.shape, b.shape, tables), a.dtype, a.strides)
        for a, b in zip(*[map(np.asarray, leaves) for leaves, tree in found])
    ]
    return found[0][1].unflatten(likes), [_kind(x) for x in found[0][0]]


def _scaled_up(
    session: Session,
    name: str,
    first: tuple[int, ...],
    second: tuple[int, ...],
    tables: list[dict[int, int]],
) -> tuple[int, ...]:
    """The result's real shape: an axis that followed a replaced axis has that axis' length.

    An axis may also be that length plus a constant, or half of it plus one (``rfft``), or the sum
    or the difference of two lengths plus a constant (``convolve``).
    """
    shape = []
    for a, b in zip(first, second):
        rules: list[int] = [a] if a == b else []
        for n in tables[0]:
            x, y = tables[0][n], tables[1][n]
            rules += [n + a - x] if a - x == b - y else []
            rules += [n // 2 + 1] if (a, b) == (x // 2 + 1, y // 2 + 1) else []
            for m in tables[0]:
                u, v = x + tables[0][m], y + tables[1][m]
                rules += [n + m + a - u] if a - u == b - v else []
                u, v = x - tables[0][m], y - tables[1][m]
                rules += [n - m + a - u] if a - u == b - v else []
        if not rules:
            raise _unknown(session, name)
        shape.append(rules[0])
    return tuple(shape)


def _dummy_call(
    session: Session,
    name: str,
    invoke: Callable[..., Any],
    operands: list[Tracer],
    shapes: list[tuple[int, ...]],
) -> Any:
    arrays = [(shape, o.dtype, o._like.strides) for shape, o in zip(shapes, operands)]
    result, given = _first_result(invoke, arrays)
    found = [np.asanyarray(x) for x in flatten(result)[0]]
    if any(not is_number(x.dtype) for x in found):
        raise _unknown(session, name)
    odd = [type(x).__name__ for x in found if type(x) is not np.ndarray]
    odd += [str(x.dtype) for x in found if not x.dtype.isnative]
    pairs = itertools.combinations([*given, *found], 2)
    odd += ["view of its argument" for a, b in pairs if np.may_share_memory(a, b, max_work=1000)]
    if odd:
        raise UnsupportedError(
            f"{session.location()}: {name} gives a {odd[0]}, which fusec does not trace: NumPy "
            "runs the function"
        )
    return result


def _first_result(
    invoke: Callable[..., Any], arrays: list[Any]
) -> tuple[Any, list[np.ndarray]]:
    """``invoke`` on harmless values, or on others where those are not; and the values.

    ``tensorinv`` wants an array that is a regular matrix in another shape: mixed values are.
    """
    with silent():
        given = [_arranged(_dummy(a[0], a[1]), a[2]) for a in arrays]
        try:
            return invoke(*given), given
        except Exception as error:
            for fill in (np.ones, np.zeros, _mixed):
                given = [_arranged(fill(a[0], a[1]), a[2]) for a in arrays]
                with contextlib.suppress(Exception):
                    return invoke(*given), given
            raise error


def _arranged(array: np.ndarray, strides: tuple[int, ...]) -> np.ndarray:
    """A copy whose axes lie in memory in the order that ``strides`` have."""
    made = np.empty_like(in_order(array.shape, array.dtype, strides))
    made[...] = array
    return made


def _dummy(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Harmless values: the identity for square matrices, increasing numbers otherwise."""
    if len(shape) >= 2 and shape[-1] == shape[-2]:
        return np.broadcast_to(np.eye(shape[-1], dtype=dtype), shape).copy()
    n = math.prod(shape)
    if dtype.kind in "fc":
        return np.linspace(0.25, 0.75, n).astype(dtype).reshape(shape)
    return (np.arange(n) % 2).astype(dtype).reshape(shape)


def _mixed(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    return (np.random.default_rng(0).random(shape) * 99).astype(dtype)


def _unknown(session: Session, name: str) -> UnsupportedError:
    return UnsupportedError(
        f"{session.location()}: fusec does not trace {name}, and the shape of its result is not "
        "known before it runs. Call it outside the jitted function and pass its result."
    )
