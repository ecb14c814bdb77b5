"""Matrix products: every form is reshapes and transposes around one batched ``matmul``.

Products of two vectors are multiply and sum, so that they fuse. ``einsum`` takes its operands two
at a time: axes are shared by both and kept (batch), shared and summed, or free.
"""

from typing import Any

import numpy as np

from fusec.ir.aval import is_number
from fusec.ir.graph import Node
from fusec.trace.functions_reduce import tiny_shape
from fusec.trace.functions_shape import diagonal_view, ravel
from fusec.trace.hostcalls import host_call
from fusec.trace.session import Session
from fusec.trace.standin import in_order, result_like, stand_in
from fusec.trace.table import BOOL, ToHost, apply, implements, plain, wrap
from fusec.trace.tracer import Tracer, as_tracer
from fusec.trace.ufuncs import store_out


def _operands(session: Session, a: Any, b: Any) -> tuple[Tracer, Tracer, np.dtype]:
    x, y = as_tracer(session, a), as_tracer(session, b)
    return x, y, np.matmul.resolve_dtypes((x.dtype, y.dtype, None))[-1]


def _sum_last(session: Session, node: Node, keep: int = 0) -> Node:
    """Sum over the last axis, "or" for bools."""
    name = "reduce_any" if node.dtype == BOOL else "reduce_sum"
    return session.make(name, node, axes=(node.aval.ndim - 1,))


def _inner(session: Session, x: Node, y: Node) -> Node:
    """Products of vectors along the last axis."""
    return _sum_last(session, session.make("multiply", x, y))


def _stacked(session: Session, node: Node, x: Tracer, y: Tracer, core: int) -> Tracer:
    """A result with ``core`` axes of its own behind the stack's, which NumPy keeps in K order."""
    if node.aval.ndim <= core or 0 in (node.aval.size, x._like.size, y._like.size):
        return wrap(session, node)
    loops = node.shape[: node.aval.ndim - core]
    firsts = [t._like[(..., *(0,) * min(t._like.ndim, k))] for t, k in ((x, 2), (y, 2))]
    order = result_like(loops, node.dtype, [np.asarray(f) for f in firsts]).strides
    behind = tuple([0.5 / (k + 1) for k in range(core)])
    return wrap(session, node, in_order(node.shape, node.dtype, (*order, *behind)))


def product(session: Session, x: Node, y: Node) -> Node:
    """``x @ y`` of nodes of one dtype with at least two axes each."""
    if x.aval.size == 0 or y.aval.size == 0:
        shape = (*np.broadcast_shapes(x.shape[:-2], y.shape[:-2]), x.shape[-2], y.shape[-1])
        return session.broadcast(session.const(0, x.dtype), shape)
    return session.make("matmul", x, y)


def matmul(session: Session, a: Any, b: Any) -> Tracer:
    """``np.matmul``."""
    x, y, dtype = _operands(session, a, b)
    left, right = x._like.shape, y._like.shape
    if not left or not right or left[-1] != right[-2 if len(right) > 1 else 0]:
        np.matmul(*[np.broadcast_to(np.empty((), dtype), s) for s in (left, right)])
    np.broadcast_shapes(left[:-2], right[:-2])
    m, n = session.cast(x.node, dtype), session.cast(y.node, dtype)
    if len(left) == 1 and len(right) == 1:
        return wrap(session, _inner(session, m, n))
    if len(left) == 1:
        node = product(session, session.reshape(m, (1, *left)), n)
        return _stacked(session, session.reshape(node, (*node.shape[:-2], right[-1])), x, y, 1)
    if len(right) == 1:
        node = product(session, m, session.reshape(n, (*right, 1)))
        return _stacked(session, session.reshape(node, node.shape[:-1]), x, y, 1)
    return _stacked(session, product(session, m, n), x, y, 2)


def vecdot(session: Session, a: Any, b: Any) -> Tracer:
    """``np.vecdot``: the first vector is conjugated."""
    x, y, dtype = _operands(session, a, b)
    _core(np.vecdot, x, y)
    m, n = session.cast(x.node, dtype), session.cast(y.node, dtype)
    m = session.make("conjugate", m) if dtype.kind == "c" else m
    node = _inner(session, m, n)
    if node.aval.ndim < 2 or not node.aval.size:
        return wrap(session, node)
    order = result_like(node.shape, dtype, [np.asarray(t._like[..., 0]) for t in (x, y)])
    return wrap(session, node, order)


def matvec(session: Session, a: Any, b: Any) -> Tracer:
    """``np.matvec``."""
    x, y, _ = _operands(session, a, b)
    _core(np.matvec, x, y)
    return matmul(session, x, y.reshape((*y._like.shape, 1)))[..., 0]


def vecmat(session: Session, a: Any, b: Any) -> Tracer:
    """``np.vecmat``: the vector is conjugated."""
    x, y, _ = _operands(session, a, b)
    _core(np.vecmat, x, y)
    x = x.conj() if x.dtype.kind == "c" else x
    return matmul(session, x.reshape((*x._like.shape[:-1], 1, x._like.shape[-1])), y)[..., 0, :]


def _core(ufunc: np.ufunc, x: Tracer, y: Tracer) -> None:
    """Raise what NumPy raises for core axes that do not fit."""
    shapes = [x._like.shape, y._like.shape]
    if sum(np.prod(s, dtype=object) for s in shapes) <= 10_000 or ufunc is np.vecdot:
        ufunc(*[np.empty(s, bool) for s in shapes] if ufunc is not np.vecdot else [
            np.broadcast_to(np.empty((), bool), s) for s in shapes])


@implements(np.dot)
def dot(session: Session, a: Any, b: Any, out: Any = None) -> Any:
    """``np.dot``: the last axis of ``a`` with the second last of ``b``."""
    x, y, _ = _operands(session, a, b)
    left, right = x._like.shape, y._like.shape
    dtype = np.dot(np.ones((1, 1), x.dtype), np.ones(1, y.dtype)).dtype  # bfloat16 of two
    if not is_number(dtype):
        raise ToHost
    if not left or not right:
        result = apply(session, np.multiply, x, y)
    elif len(right) <= 2:
        axis = len(right) - 2 if len(right) > 1 else 0
        if left[-1] != right[axis]:
            np.dot(*[np.empty(s[-2:], bool) for s in (left, right)])
        rows = x if len(left) <= 2 else x.reshape((-1, left[-1]) if x._like.size else (
            int(np.prod(left[:-1])), left[-1]))
        result = matmul(session, rows, y)
        if len(left) > 2:
            result = result.reshape(left[:-1] + right[:axis] + right[axis + 1 :])
    else:
        result = np.tensordot(x, y, (x._like.ndim - 1, y._like.ndim - 2))
    result = result.astype(dtype)
    if out is None:
        return wrap(session, result.node, result._like)
    if out.shape != result.shape or out.dtype != dtype or not out.flags.c_contiguous:
        raise ValueError(
            "output array is not acceptable (must have the right datatype, number of dimensions, "
            "and be a C-Array)"
        )
    return store_out(session, result.node, out, True, [])


@implements(np.vdot)
def vdot(session: Session, a: Any, b: Any, /) -> Any:
    """``np.vdot``."""
    x, y, _ = _operands(session, a, b)
    if x._like.size != y._like.size:
        raise ValueError("cannot reshape array of size 1 into shape (2,)")
    x = x.conj() if x.dtype.kind == "c" else x
    return dot(session, ravel(session, x), ravel(session, y))


@implements(np.inner)
def inner(session: Session, a: Any, b: Any, /) -> Any:
    """``np.inner``: the last axes of both."""
    x, y, _ = _operands(session, a, b)
    if not x._like.ndim or not y._like.ndim:
        return apply(session, np.multiply, x, y)
    if x._like.shape[-1] != y._like.shape[-1]:
        np.inner(*[np.empty(s[-1:], bool) for s in (x._like.shape, y._like.shape)])
    if x._like.ndim == y._like.ndim == 1:
        return dot(session, x, y)
    return np.tensordot(x, y, (-1, -1))


# -- einsum ---------------------------------------------------------------------------------------


@implements(np.einsum)
def einsum(session: Session, *operands: Any, out: Any = None, optimize: Any = False,
           dtype: Any = None, order: str = "K", casting: str = "safe") -> Any:
    """``np.einsum``."""
    subscripts, values = _parsed(operands)
    tracers = [as_tracer(session, v) for v in values]
    kinds = [t.dtype for t in tracers]
    wanted = np.dtype(dtype) if dtype is not None else np.result_type(*kinds)
    tiny = [np.ones(tiny_shape(t._like.shape), t.dtype) for t in tracers]
    with np.errstate(all="ignore"):
        np.einsum(subscripts, *tiny, dtype=dtype, casting=casting, order=order)  # raises
    terms, result = _explicit(subscripts, [t._like.ndim for t in tracers])
    sizes = _sizes(terms, tracers)
    if len(tracers) == 1 and set(terms[0]) == set(result) and out is None and dtype is None:
        return _as_view(tracers[0], terms[0], result)
    parts = []
    for term, tracer in zip(terms, tracers):
        single, names = _diagonals(tracer, term)
        parts.append((names, session.cast(single.node, wanted)))
    while len(parts) > 1:
        later = set(result).union(*[p[0] for p in parts[2:]])
        parts[:2] = [_pair(session, parts[0], parts[1], later, sizes)]
    names, node = parts[0]
    node = _arranged(session, _summed(session, parts[0], set(result)), result)
    if out is not None:
        return store_out(session, node, out, True, [], "unsafe")
    if len(result) < 2:
        return wrap(session, node)
    if order == "A":
        order = "F" if all(t._like.flags.f_contiguous for t in tracers) else "C"
    short = [in_order(_short_axes(t._like.shape), np.dtype(bool), t._like.strides) for t in tracers]
    layout = np.asarray(np.einsum(subscripts, *short, optimize=optimize, order=order)).strides
    return wrap(session, node, in_order(node.shape, node.dtype, layout))


def _short_axes(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape with the same axes, of length 2 at most: enough to see a memory order."""
    return tuple([min(n, 2) for n in shape])


def _parsed(operands: tuple[Any, ...]) -> tuple[str, list[Any]]:
    """Subscripts as a string, and the operands, from both of ``einsum``'s forms."""
    if isinstance(operands[0], str):
        return operands[0].replace(" ", ""), list(operands[1:])
    arrays, lists = list(operands[: len(operands) // 2 * 2 : 2]), operands[1::2]
    last = operands[-1] if len(operands) % 2 else None
    text = ",".join([_letters(s) for s in lists])
    return text if last is None else f"{text}->{_letters(last)}", arrays


def _letters(items: Any) -> str:
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    return "".join(["..." if i is Ellipsis else alphabet[plain(i)] for i in items])


def _explicit(subscripts: str, ndims: list[int]) -> tuple[list[str], str]:
    """Subscripts of the operands and of the result with ellipses spelled out by own letters."""
    left, arrow, right = subscripts.partition("->")
    terms = left.split(",")
    widths = [n - len(t.replace("...", "")) if "..." in t else 0 for t, n in zip(terms, ndims)]
    dots = "".join([chr(0x3B1 + k) for k in range(max(widths))])
    terms = [t.replace("...", dots[len(dots) - w :]) for t, w in zip(terms, widths)]
    if arrow:
        return terms, right.replace("...", dots)
    letters = sorted(set("".join(terms)) - set(dots))
    return terms, dots + "".join([c for c in letters if left.count(c) == 1])


def _sizes(terms: list[str], tracers: list[Tracer]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for term, tracer in zip(terms, tracers):
        for name, n in zip(term, tracer._like.shape):
            if sizes.setdefault(name, n) != n:
                if 1 not in (n, sizes[name]):
                    raise ValueError(
                        "operands could not be broadcast together with remapped shapes "
                        f"[original->remapped]: axis '{name}' has lengths {sizes[name]} and {n}"
                    )
                sizes[name] = max(n, sizes[name]) if 0 not in (n, sizes[name]) else 0
    return sizes


def _as_view(x: Tracer, term: str, result: str) -> Any:
    view, names = _diagonals(x, term)
    if not result:
        return view[()]
    return view.transpose([names.index(c) for c in result])


def _diagonals(x: Tracer, term: str) -> tuple[Tracer, str]:
    """Repeated subscripts of one operand become diagonals."""
    for name in dict.fromkeys(term):
        while term.count(name) > 1:
            first = term.index(name)
            second = term.index(name, first + 1)
            if x._like.shape[first] != x._like.shape[second]:
                raise ValueError(
                    f"dimensions in single operand for collapsing index '{name}' don't match"
                )
            x = diagonal_view(x, 0, first, second)
            term = term[:first] + term[first + 1 : second] + term[second + 1 :] + name
    return x, term


_Part = tuple[str, Node]


def _summed(session: Session, part: _Part, keep: set[str]) -> _Part:
    """Sum away the axes that nobody needs any more."""
    names, node = part
    axes = tuple([k for k, c in enumerate(names) if c not in keep])
    if not axes:
        return part
    name = "reduce_any" if node.dtype == BOOL else "reduce_sum"
    rest = "".join([c for c in names if c in keep])
    return rest, session.make(name, node, axes=axes)


def _arranged(session: Session, part: _Part, order: str) -> Node:
    names, node = part
    perm = tuple([names.index(c) for c in order])
    return node if perm == tuple(range(len(perm))) else session.make("transpose", node, perm=perm)


def _spread(session: Session, part: _Part, order: str, sizes: dict[str, int]) -> Node:
    """A part with the axes of ``order``, length 1 where it lacks one."""
    names, node = part
    held = "".join([c for c in order if c in names])
    node = _arranged(session, part, held)
    shape = tuple([node.shape[held.index(c)] if c in held else 1 for c in order])
    return session.reshape(node, shape)


def _pair(
    session: Session, a: _Part, b: _Part, later: set[str], sizes: dict[str, int]
) -> _Part:
    """The product of two parts, summed over what no later part and not the result needs."""
    a = _summed(session, a, later | set(b[0]))
    b = _summed(session, b, later | set(a[0]))
    shared = [c for c in a[0] if c in b[0]]
    gone = [c for c in shared if c not in later]
    batch = [c for c in shared if c in later]
    rows, columns = [c for c in a[0] if c not in shared], [c for c in b[0] if c not in shared]
    ones = any(part[1].shape[part[0].index(c)] != sizes[c] for part in (a, b) for c in gone)
    if not gone or ones or not (rows or columns) or (rows == [] and columns == []):
        order = "".join(batch + rows + columns + gone)
        left, right = [_spread(session, part, order, sizes) for part in (a, b)]
        full = tuple([sizes[c] for c in order])
        left, right = session.broadcast(left, full), session.broadcast(right, full)
        node = session.make("multiply", left, right)
        return _summed(session, (order, node), later)
    return _matrix_pair(session, a, b, (batch, rows, columns, gone), sizes)


def _matrix_pair(
    session: Session, a: _Part, b: _Part, kinds: tuple[list[str], ...], sizes: dict[str, int]
) -> _Part:
    """(batch, rows, gone) @ (batch, gone, columns)."""
    batch, rows, columns, gone = kinds
    size = {c: sizes[c] for c in sizes}
    left = _arranged(session, a, "".join(batch + rows + gone))
    right = _arranged(session, b, "".join(batch + gone + columns))

    def lengths(names: list[str]) -> tuple[int, ...]:
        return tuple([size[c] for c in names])

    def count(names: list[str]) -> int:
        return int(np.prod(lengths(names), dtype=object))

    k = count(gone)
    left = session.reshape(left, (*left.shape[: len(batch)], count(rows), k))
    right = session.reshape(right, (*right.shape[: len(batch)], k, count(columns)))
    node = product(session, left, right)
    names = batch + rows + columns
    return "".join(names), session.reshape(node, lengths(names))


# -- products of three axes -----------------------------------------------------------------------


@implements(np.cross)
def cross(session: Session, a: Any, b: Any, axisa: int = -1, axisb: int = -1, axisc: int = -1,
          axis: Any = None) -> Tracer:
    """``np.cross`` of vectors with three components."""
    if axis is not None:
        axisa = axisb = axisc = axis
    x, y = as_tracer(session, a), as_tracer(session, b)
    if not x._like.ndim or not y._like.ndim:
        raise ValueError("At least one array has zero dimension")
    x, y = np.moveaxis(x, axisa, -1), np.moveaxis(y, axisb, -1)
    if {x._like.shape[-1], y._like.shape[-1]} != {3}:
        raise ToHost
    first = [x[..., k] for k in range(3)]
    second = [y[..., k] for k in range(3)]
    parts = [
        first[i] * second[j] - first[j] * second[i] for i, j in ((1, 2), (2, 0), (0, 1))
    ]
    return np.moveaxis(np.stack(parts, axis=-1), -1, axisc)


@implements(np.linalg.lstsq)
def lstsq(session: Session, a: Any, b: Any, rcond: Any = None) -> Any:
    """``np.linalg.lstsq``, planned for independent columns: else there are no residuals."""
    x, y = as_tracer(session, a), as_tracer(session, b)
    if x._like.ndim != 2 or y._like.ndim not in (1, 2) or 0 in x._like.shape + y._like.shape:
        raise ToHost
    (rows, columns), behind = x._like.shape, y._like.shape[1:]
    some = np.linalg.lstsq(np.ones((1, 1), x.dtype), np.ones(1, y.dtype))
    residuals = (behind or (1,)) if rows > columns else (0,)
    shapes = ((columns, *behind), residuals, (), (min(rows, columns),))
    likes = [stand_in(shape, np.asarray(z).dtype) for shape, z in zip(shapes, some)]
    return host_call(session, np.linalg.lstsq, (x, y, rcond), {}, likes)
