"""``x[index]`` and ``x[index] = v`` on traced arrays.

A basic index is slices and reshapes, hence a view. Integer arrays become positions (checked and
wrapped) in front of ``gather``. A boolean mask is a ``where`` when it is assigned through, and
a ``Selection`` when it is read: good for reductions, since its own shape depends on the data.
"""

from typing import Any

import numpy as np

from fusec.errors import DataDependentShapeError
from fusec.ir.graph import Node
from fusec.ops.host import HostCall, put_mask
from fusec.ops.registry import broadcast_shape, shown_shape
from fusec.trace.standin import in_order, stand_in
from fusec.trace.steps import Step, flat_places
from fusec.trace.tracer import ROWS, Tracer, as_tracer, contains_traced, fresh
from fusec.trace.ufuncs import as_element, weak_type
from fusec.trace.views import assign
from fusec.trace.windows import windowed

INT = np.dtype(np.int64)


def getitem(x: Tracer, index: Any) -> Any:
    """``x[index]``."""
    x, index = windowed(x, index)
    items = normalise(x, index)
    if all(map(is_basic, items)):
        view = basic(x, items)
        if not view._scalar:
            return view
        if has_dots(index):
            return x.step(view._like, *view._path[len(x._path) :])
        return fresh(x._session, view.node, scalar=True)
    from fusec.trace.selection import Selection

    if len(items) == 1 and is_mask(items[0]) and items[0]._like.ndim == 0:
        return _literal_mask(x, items[0])
    if len(items) == 1 and is_mask(items[0]):
        return Selection(x, as_tracer(x._session, items[0]))
    masked = _mask_and_view(x, items)
    if masked is not None:
        return Selection(*masked)
    base, parts, shape = advanced(x, items)
    view = shape or has_dots(index)
    if view and all(is_basic(i) or i._scalar for i in items):  # a number selects a view
        like = x._like[(*[0 if type(i) is Tracer else i for i in items], ...)]
        attrs = {"parts": parts, "shape": shape, "of": x, "items": items}
        return base.step(like, ("gather", attrs))
    node = x._session.make("gather", base.node, *parts, shape=shape)
    return fresh(x._session, node, _gathered_like(x, items, node), scalar=node.aval.ndim == 0)


def _is_itself(x: Tracer, items: list[Any], value: Any) -> bool:
    """Whether ``value`` is ``x[items]`` itself, which ``x[i] += v`` has changed already."""
    if type(value) is not Tracer or not value._path or value._path[-1][0] != "gather":
        return False
    attrs = value._path[-1][1]
    return attrs["of"] is x and all(
        a is b if type(a) is Tracer else type(b) is not Tracer and a == b
        for a, b in zip(attrs["items"], items)
    )


def has_dots(index: Any) -> bool:
    """Whether an index has an Ellipsis: then its result is an array, never a NumPy scalar."""
    return index is ... or (isinstance(index, tuple) and any(i is ... for i in index))


def _literal_mask(x: Tracer, mask: Tracer) -> Tracer:
    """``x[True]`` and ``x[False]``: a new axis of length 1 or 0, and always a copy."""
    known = mask.concrete()
    if known is None:
        raise _refused(x)
    return x[None, ...].copy() if known else x[None, ...][:0].copy()


def _gathered_like(x: Tracer, items: list[Any], node: Node) -> np.ndarray:
    """The memory order that NumPy gives to ``x[items]``, seen on arrays with short axes."""
    if node.aval.size == 0:
        return stand_in(node.shape, node.dtype)
    tiny = in_order(tuple([min(n, 2) for n in x._like.shape]), np.dtype(bool), x._like.strides)
    index = [_short(i, n) for i, n in zip(items, _axis_lengths(x, items))]
    return in_order(node.shape, node.dtype, tiny[tuple(index)].strides)


def _short(item: Any, n: int) -> Any:
    """An index of the same kind as ``item`` for an axis of length 1 or 2."""
    if type(item) is Tracer:
        return item._like[(slice(2),) * item._like.ndim].astype(int, copy=False)
    if isinstance(item, slice):
        return slice(0, min(len(range(*item.indices(n))), 2))
    return item if item is None else 0


def _axis_lengths(x: Tracer, items: list[Any]) -> list[int]:
    """For each item the length of the axis it indexes, 0 for a new axis."""
    lengths = iter(x._like.shape)
    return [0 if i is None else next(lengths) for i in items]


def setitem(x: Tracer, index: Any, value: Any) -> None:
    """``x[index] = value``."""
    x, index = windowed(x, index)
    session = x._session
    items = normalise(x, index)
    if x._storage.writeable and _is_itself(x, items, value):
        return None
    if all(map(is_basic, items)):
        target = basic(x, items)
        if target._scalar:
            value = single(x, value)
            target = Tracer(session, target._storage, target._path, target._like)
        return assign(target, value, assigned(target, value, target._like.shape, item=True))
    if len(items) == 1 and is_mask(items[0]):
        return set_mask(x, as_tracer(session, items[0]), value)
    masked = _mask_and_view(x, items)
    if masked is not None:
        from fusec.trace.selection import Selection

        same = type(value) is Selection and value.lead == masked[2]
        if masked[2] == 0 or same or weak_type(value) or np.ndim(value) == 0:
            return set_mask(*masked[:2], value)
    base, where = _positions(x, items)
    node = session.make("scatter_flat", base.node, where, assigned(x, value, where.shape, said=AT))
    base.write(node)


Tracer.__getitem__, Tracer.__setitem__ = getitem, setitem  # type: ignore[attr-defined]


def single(x: Tracer, value: Any) -> Any:
    """``value`` for one element of ``x``, where NumPy takes no arrays, or raises."""
    if type(value) is Tracer and not value._like.ndim:
        return value
    made = np.zeros(1, x.dtype)
    if not contains_traced(value):
        made[0] = value
        return made[0]
    if type(value) is Tracer:
        made[0] = np.zeros(value._like.shape)
    elif isinstance(value, ROWS):
        made[0] = [0] * len(value)
    return value


INTO = "could not broadcast input array from shape {} into shape {}"
AT = "shape mismatch: value array of shape {} could not be broadcast to indexing result of shape {}"


def assigned(target: Tracer, value: Any, shape: Any, item: bool = False, said: str = INTO) -> Node:
    """``value`` as NumPy would put it into ``target``: converted, broadcast."""
    session = target._session
    node = as_element(session, value, target.dtype, item)
    if node.shape == shape:
        return node
    while node.aval.ndim > len(shape) and node.shape[0] == 1:
        node = session.reshape(node, node.shape[1:])
    try:
        fits = broadcast_shape(node.shape, shape) == shape
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(said.format(shown_shape(node.shape), shown_shape(shape)))
    return session.broadcast(node, shape)


def set_mask(x: Tracer, mask: Tracer, value: Any) -> None:
    """``x[mask] = value``: a ``where`` for one value, NumPy itself for as many as are true."""
    session, shape = x._session, x._like.shape
    if mask._like.shape != shape[: mask._like.ndim]:
        np.empty(shape, bool)[np.empty(mask._like.shape, bool)]
    extra = (1,) * (len(shape) - mask._like.ndim)
    single = weak_type(value) is not None or np.ndim(value) <= len(extra)
    from fusec.trace.selection import Selection

    if isinstance(value, Selection) and value.same_mask(mask):
        new = session.cast(value.source.node, x.dtype)
    elif single and not isinstance(value, Selection):
        new = session.broadcast(assigned(x, value, shape[mask._like.ndim :]), shape)
    else:
        values = fresh(session, as_element(session, value, x.dtype))
        call = HostCall("masked assignment", put_mask, (x.node.aval,), source=put_mask)
        result = session.make("host_call", x.node, mask.node, values.node, call=call)
        new = session.make("host_out", result, index=0, aval=x.node.aval)
        session.checks.append(new)
        return x.write(new)
    cond = session.broadcast(session.reshape(mask.node, mask._like.shape + extra), shape)
    return x.write(session.make("where", cond, new, x.node))


def _mask_and_view(x: Tracer, items: list[Any]) -> tuple[Tracer, Tracer, int] | None:
    """What ``x[1, mask, 2:4]`` selects from: the view whose first axes the mask has, and the mask.

    None for other indices. The number says how many axes stood before those of the mask.
    """
    place = [k for k, i in enumerate(items) if is_mask(i) and i._like.ndim]
    if len(place) != 1 or not all(type(i) in (int, slice) or is_mask(i) for i in items):
        return None
    k, mask = place[0], items[place[0]]
    ndim = mask._like.ndim
    view = basic(x, [*items[:k], *[slice(None)] * ndim, *items[k + 1 :]])
    before = sum(isinstance(i, slice) for i in items[:k])
    view = np.moveaxis(view, range(before, before + ndim), range(ndim)) if before else view
    return view, mask, before


# -- basic indices ------------------------------------------------------------------------------


def is_basic(item: Any) -> bool:
    return item is None or type(item) in (int, slice)


def is_mask(item: Any) -> bool:
    return getattr(item, "dtype", None) == np.dtype(bool)


def normalise(x: Tracer, index: Any) -> list[Any]:
    """The index as a list of int, slice, None and arrays, one for each axis, no Ellipsis."""
    items = list(index) if isinstance(index, tuple) else [index]
    items = [_item(x, i) for i in items]
    ndim = x._like.ndim
    if len(items) <= ndim and {*map(type, items)} <= {int, slice}:
        return items + [slice(None)] * (ndim - len(items))
    used = sum(1 if not is_mask(i) else i.ndim for i in items if i is not None and i is not ...)
    if used > ndim:
        raise IndexError(
            f"too many indices for array: array is {ndim}-dimensional, but {used} were indexed"
        )
    fill = [slice(None)] * (ndim - used)
    dots = [k for k, i in enumerate(items) if i is ...]
    if len(dots) > 1:
        raise IndexError("an index can only have a single ellipsis ('...')")
    if dots:
        items[dots[0] : dots[0] + 1] = fill
    elif not (len(items) == 1 and is_mask(items[0]) and _known_mask(items[0]) is None):
        items += fill
    return _without_known_masks(x, items)


def _known_mask(item: Any) -> np.ndarray | None:
    return item.concrete() if is_mask(item) and item._like.ndim else None


def _without_known_masks(x: Tracer, items: list[Any]) -> list[Any]:
    """A mask whose values are known is the positions at which it is true."""
    made: list[Any] = []
    axis = 0
    for item in items:
        known = _known_mask(item)
        width = 0 if item is None else item._like.ndim if is_mask(item) else 1
        if known is not None and x._like.shape[axis : axis + width] != known.shape:
            np.empty(x._like.shape, bool)[(*[slice(None)] * axis, known)]
        axis += width
        made += [item] if known is None else [as_tracer(x._session, i) for i in np.nonzero(known)]
    return made


def _item(x: Tracer, item: Any) -> Any:
    if item is None or item is ... or type(item) is int:
        return item
    if isinstance(item, slice):
        ends = (item.start, item.stop, item.step)
        if not all(p is None or hasattr(p, "__index__") for p in ends):
            np.empty(0)[item]  # raises
        return slice(*[None if p is None else p.__index__() for p in ends])
    if type(item) is Tracer:
        return _index_tracer(item)
    if isinstance(item, bool | np.bool_):
        return as_tracer(x._session, np.asarray(item))
    if isinstance(item, list | tuple | range):
        if contains_traced(item):
            return as_tracer(x._session, item)
        array = np.asarray(item)
        item = array.astype(INT) if array.size == 0 else array
    if isinstance(item, np.ndarray):
        if item.dtype.kind not in "iub":
            np.empty(0)[item]
        return as_tracer(x._session, item)
    if hasattr(item, "__index__"):
        return int(item.__index__())
    raise IndexError(
        "only integers, slices (`:`), ellipsis (`...`), numpy.newaxis (`None`) and integer or "
        "boolean arrays are valid indices"
    )


def _index_tracer(item: Tracer) -> Any:
    if item.dtype.kind not in "iub":
        raise IndexError("arrays used as indices must be of integer (or boolean) type")
    if item._like.ndim == 0:
        known = item.concrete()
        if known is not None and item.dtype.kind != "b":
            return int(known)
    return item


def basic(x: Tracer, items: list[Any]) -> Tracer:
    """The view of a basic index."""
    like = x._like[tuple(items)]
    scalar = not isinstance(like, np.ndarray)
    if scalar:
        like = stand_in((), x.dtype)
    start, step, shape = [], [], []
    axes = [i for i in items if i is not None]
    for n, item in zip(x._like.shape, axes):
        if isinstance(item, slice):
            first, last, stride = item.indices(n)
            count = len(range(first, last, stride))
            start.append(first if count else 0)
            step.append(stride)
            shape.append(count)
        else:
            start.append(item % n)
            step.append(1)
            shape.append(1)
    steps: list[Step] = []
    whole = shape == list(x._like.shape) and all(s == 1 for s in step)
    if not whole:
        attrs = {"start": tuple(start), "step": tuple(step), "shape": tuple(shape)}
        steps.append(("slice", attrs))
    if tuple(shape) != like.shape:
        steps.append(("reshape", {"shape": like.shape}))
    return x.step(like, *steps, scalar=scalar)


# -- integer arrays -----------------------------------------------------------------------------


def advanced(x: Tracer, items: list[Any]) -> tuple[Tracer, list[Node], tuple[int, ...]]:
    """The array to read, an index for each of its axes, and the shape of ``x[items]``.

    The result's axes follow NumPy: the broadcast index axes stand where the index arrays were, or
    first when a slice separates them.
    """
    session = x._session
    if any(is_mask(i) for i in items):
        raise _refused(x)
    if any(i is None for i in items):
        x = basic(x, [i if i is None else slice(None) for i in items])
        items = [slice(None) if i is None else i for i in items]
    arrays = [k for k, i in enumerate(items) if type(i) in (Tracer, int)]
    slices = [k for k, i in enumerate(items) if isinstance(i, slice)]
    x = basic(x, [i if isinstance(i, slice) else slice(None) for i in items])
    shape = x._like.shape
    shapes = [i._like.shape for i in items if type(i) is Tracer]
    try:
        index_shape = np.broadcast_shapes(*shapes)
    except ValueError:
        shown = " ".join(map(shown_shape, shapes))
        raise IndexError(
            f"shape mismatch: indexing arrays could not be broadcast together with shapes {shown} "
        ) from None
    together = arrays == list(range(arrays[0], arrays[0] + len(arrays)))
    before = [k for k in slices if together and k < arrays[0]]
    after = [k for k in slices if k not in before]
    out_shape = (*[shape[k] for k in before], *index_shape, *[shape[k] for k in after])
    parts = []
    for k, item in enumerate(items):
        if isinstance(item, slice):
            later = len(before) + len(index_shape)
            place = before.index(k) if k in before else later + after.index(k)
            part = _along(session, out_shape, place)
        else:
            part = _wrapped(session, item, shape[k])
            part = session.reshape(part, part.shape + (1,) * len(after))
        parts.append(part)
    return x, parts, out_shape


def _positions(x: Tracer, items: list[Any]) -> tuple[Tracer, Node]:
    """The array to write and the flat C-order positions that ``x[items]`` selects."""
    base, parts, shape = advanced(x, items)
    return base, flat_places(x._session, parts, base._like.shape, shape)


def _refused(x: Tracer) -> DataDependentShapeError:
    return DataDependentShapeError(
        f"{x._session.location()}: a boolean mask among other indices selects a number of elements "
        "that depends on the data. Use np.where(mask, x, other), or reduce at once: x[mask].sum()"
    )


def _along(session: Any, shape: tuple[int, ...], axis: int) -> Node:
    line = session.make("iota", shape=(shape[axis],), axis=0)
    return session.reshape(line, (shape[axis],) + (1,) * (len(shape) - axis - 1))


def _wrapped(session: Any, item: Any, n: int) -> Node:
    if type(item) is int and -n <= item < n:
        return session.const(item % n, INT)
    if type(item) is int:
        raise IndexError(f"index {item} is out of bounds for axis with size {n}")
    if n == 0 and item._like.size:
        raise IndexError("an index is out of bounds for an axis with size 0")
    size = session.make("dim", value=int(n))
    return session.make("wrap_index", session.cast(item.node, INT), size)
