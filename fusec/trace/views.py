"""Views of traced arrays: NumPy makes the view of the stand-in, the graph gets the movement ops."""

from typing import Any

import numpy as np

from fusec.errors import UnsupportedError
from fusec.ir.graph import Node
from fusec.trace.standin import copy_like, stand_in
from fusec.trace.tracer import Tracer, fresh


def transpose(x: Tracer, axes: Any = None) -> Tracer:
    """``np.transpose``: a view with the axes permuted."""
    like = x._like.transpose(axes)
    ndim = x._like.ndim
    perm = tuple(range(ndim))[::-1] if axes is None else tuple(int(a) % ndim for a in axes)
    return x.step(like, ("transpose", {"perm": perm}), scalar=x._scalar)


def full_shape(x: Tracer, shape: Any) -> tuple[int, ...]:
    """The shape with -1 filled in; NumPy raises what it raises."""
    wanted = (shape,) if np.ndim(shape) == 0 else tuple(shape)
    wanted = tuple([int(n) for n in wanted])
    zero = np.broadcast_to(np.empty((), x.dtype), x._like.shape)
    if -1 not in wanted:
        if int(np.prod(wanted, dtype=object)) != x._like.size:
            raise ValueError(
                f"cannot reshape array of size {x._like.size} into shape {_text(wanted)}"
            )
        return wanted
    if x._like.size == 0:
        return np.reshape(zero, wanted).shape
    known = -int(np.prod(wanted, dtype=object))
    if wanted.count(-1) > 1:
        raise ValueError("can only specify one unknown dimension")
    if known == 0 or x._like.size % known:
        raise ValueError(f"cannot reshape array of size {x._like.size} into shape {_text(wanted)}")
    return tuple([x._like.size // known if n == -1 else n for n in wanted])


def _text(shape: tuple[int, ...]) -> str:
    known = ["newaxis" if n < 0 else str(n) for n in shape]  # as NumPy writes -1
    return "(" + ",".join(known) + ("," if len(shape) == 1 else "") + ")"


def reshape_view(x: Tracer, shape: Any) -> Tracer | None:
    """``x.reshape(shape)`` as a view, or None where NumPy would have to copy."""
    shape = full_shape(x, shape)
    like = x._like.view()
    try:
        with np.errstate(all="ignore"):
            like = _set_shape(like, shape)
    except AttributeError:
        return None
    return x.step(like, ("reshape", {"shape": shape}), scalar=x._scalar and not shape)


def _set_shape(like: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    if like.flags.c_contiguous:
        return stand_in(shape, like.dtype)
    strides = _no_copy_strides(like.shape, like.strides, shape)
    if strides is None:
        raise AttributeError
    return stand_in(shape, like.dtype, strides)


def _no_copy_strides(
    old: tuple[int, ...], strides: tuple[int, ...], new: tuple[int, ...]
) -> tuple[int, ...] | None:
    """Strides of the reshaped view: axes are matched in groups of equal size."""
    pairs = [(n, s) for n, s in zip(old, strides) if n != 1]
    found: list[int] = []
    i = j = 0
    while i < len(pairs) and j < len(new):
        have, want, i0, j0 = pairs[i][0], new[j], i, j
        i, j = i + 1, j + 1
        while have != want:
            if have < want:
                have, i = have * pairs[i][0], i + 1
            else:
                want, j = want * new[j], j + 1
        for k in range(i0, i - 1):
            if pairs[k][1] != pairs[k + 1][0] * pairs[k + 1][1]:
                return None
        step = pairs[i - 1][1]
        group = []
        for n in reversed(new[j0:j]):
            group.append(step)
            step *= n
        found += reversed(group)
    found += [found[-1] if found else 8] * (len(new) - len(found))
    return tuple(found)


def reshape(x: Tracer, shape: Any, order: str = "C") -> Tracer:
    """``np.reshape``: a view where NumPy gives one, else a copy."""
    if order == "A":
        order = "F" if x._like.flags.fnc else "C"
    if order == "F":
        wanted = full_shape(x, shape)
        return transpose(reshape(transpose(x), wanted[::-1]))
    found = reshape_view(x, shape)
    if found is not None:
        return found
    session = x._session
    return fresh(session, session.reshape(x.node, full_shape(x, shape)))


def with_shape(x: Tracer, like: np.ndarray) -> Tracer:
    """A view that adds or drops axes of length 1, given NumPy's view of the stand-in."""
    return x.step(like, ("reshape", {"shape": like.shape}), scalar=x._scalar)


def broadcast_to(x: Tracer, shape: tuple[int, ...], **writeable: bool) -> Tracer:
    """``np.broadcast_to``: a read-only view, unless NumPy only warns of what is written."""
    like = np.broadcast_to(x._like, shape)
    return x.step(like, ("broadcast_to", {"shape": like.shape, **writeable}))


def part(x: Tracer, name: str) -> Tracer:
    """``x.real`` or ``x.imag``: a view of complex arrays."""
    if x.dtype.kind == "c":
        return x.step(getattr(x._like, name), (name, {}), scalar=x._scalar)
    if name == "real":
        return x
    zero = x._session.broadcast(x._session.const(0, x.dtype), x._like.shape)
    made = fresh(x._session, zero, copy(x, "A")._like, scalar=x._scalar)
    made._storage.item = x._storage.item
    return made if x._scalar else broadcast_to(made, made._like.shape)  # read-only


def with_dtype(x: Tracer, dtype: Any) -> Tracer:
    """``x.view(dtype)``: the bits of numbers of the same width; NumPy runs all else."""
    new = np.dtype(dtype)
    alike = new.itemsize == x.dtype.itemsize and new.isnative
    if alike and new.kind in "iuf" and x.dtype.kind in "iuf":
        return x.step(x._like.view(new), ("bitcast", {"dtype": new}), scalar=x._scalar)
    return x._session.function(np.ndarray.view, (x, dtype), {})


def copy(x: Tracer, order: str = "K") -> Tracer:
    """Fresh memory with the same elements."""
    like = None
    if order == "K" or (order == "A" and x._like.flags.fnc):
        like = copy_like(x._like)
    elif order == "F":
        like = stand_in(x._like.shape[::-1], x.dtype).T
    return fresh(x._session, x.node, like)


def assign(target: Tracer, value: Any, node: Node) -> None:
    """Write ``node`` into a view, to which ``value`` is assigned.

    NumPy copies a vector into another one of the same memory element by element, unless they run
    in different directions. Raises UnsupportedError where it reads what it has assigned before.
    """
    if type(value) is Tracer and value._storage is target._storage:
        put, read = target._like, value._like
        while read.ndim > 1 and len(read) == 1:  # such axes do not count
            read = read[0]
        if put.ndim == read.ndim == 1 < len(read) and _overtakes(put, read):
            session = target._session
            raise UnsupportedError(f"{session.location()}: an assignment that reads what it wrote")
    target.write(node)


def _overtakes(put: np.ndarray, read: np.ndarray) -> bool:
    """Whether an element is read after it was assigned to, in NumPy's order."""
    (step,), (other,) = put.strides, read.strides
    if step == other or step * other <= 0:
        return False
    rounds = np.arange(len(put))
    first, second = (x.__array_interface__["data"][0] for x in (put, read))
    ends = len(put) - 1
    if (step < 0) != (second + min(other * ends, 0) < first + min(step * ends, 0)):
        first, second, step, other = first + step * ends, second + other * ends, -step, -other
    when, rest = np.divmod(second + other * rounds - first, step)
    return bool(((rest == 0) & (when >= 0) & (when < rounds)).any())
