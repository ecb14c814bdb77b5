"""Batching of functions that NumPy runs: those that take a stack of examples by themselves.

A form ``(function, args, kwargs) -> result`` calls the function on arguments with the batch axis in
front. A function without a form is refused by name.
"""

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from fusec.errors import UnsupportedError
from fusec.ir.graph import Node
from fusec.trace.indexing import put_mask
from fusec.trace.tracer import fresh
from fusec.trace.tree import flatten


def _stacked(function: Any, args: Any, kwargs: Any) -> Any:
    return function(*args, **kwargs)


def _solve(function: Any, args: Any, kwargs: Any) -> Any:
    """A right-hand side of one axis is a vector; a stack of them must not look like a matrix."""
    a, b = args
    return function(a, b) if b.ndim == a.ndim else function(a, b[..., None])[..., 0]


def _along(function: Any, args: Any, kwargs: Any) -> Any:
    """Axes count from the second one on; None means all of them, or one example made flat."""
    signature = inspect.signature(function)
    bound = signature.bind(*args, **kwargs)
    name = "axes" if "axes" in signature.parameters else "axis"
    axis = bound.arguments.get(name, signature.parameters[name].default)
    x, sizes = args[0], bound.arguments.get("s")
    if axis is not None:
        one = np.ndim(axis) == 0
        many = tuple([k + 1 if k >= 0 else k for k in np.ravel(axis).tolist()])
        bound.arguments[name] = many[0] if one else many
    elif sizes is not None:
        bound.arguments[name] = tuple(range(-len(sizes), 0))
    elif "kind" in signature.parameters:  # sorting
        first = next(iter(signature.parameters))
        bound.arguments |= {first: x.reshape((x.shape[0], -1)), name: -1}
    else:
        bound.arguments[name] = tuple(range(1, x.ndim))
    return function(*bound.args, **bound.kwargs)


def _quantiles(function: Any, args: Any, kwargs: Any) -> Any:
    """The axes of the probabilities come first in the result."""
    q = args[1] if len(args) > 1 else kwargs["q"]
    return np.moveaxis(_along(function, args, kwargs), np.ndim(q), 0)


def _convolve(function: Any, args: Any, kwargs: Any) -> Any:
    """Windows of the longer operand times the other one backwards, summed: one kernel."""
    bound = inspect.signature(function).bind(*args, **kwargs)
    bound.apply_defaults()
    a, v, mode = bound.args
    a, v = (a, v) if a.shape[1] >= v.shape[1] else (v, a)
    n, m = int(a.shape[1]), int(v.shape[1])
    first, count = {"full": (0, n + m - 1), "same": ((m - 1) // 2, n),
                    "valid": (m - 1, n - m + 1)}[mode]  # fmt: skip
    around = np.pad(a, ((0, 0), (m - 1, m - 1)))[:, first : first + count + m - 1]
    windows = np.lib.stride_tricks.sliding_window_view(around, m, axis=1)
    return np.sum(windows * v[:, None, ::-1], axis=-1, dtype=np.result_type(a, v))


def _masked(function: Any, args: Any, kwargs: Any) -> Any:
    """The values of all examples, one after the other, are those of the whole mask."""
    x, mask, values = args
    tail = values.shape[2:]
    if values.shape[1] == 1:
        ones = (1,) * (mask.ndim - 1)
        chosen = values.reshape((values.shape[0], *ones, *tail))
        return np.where(mask.reshape(mask.shape + (1,) * len(tail)), chosen, x)
    y = x.copy()
    y[mask] = values.reshape((-1, *tail))
    return y


_F, _L = np.fft, np.linalg
STACKED: dict[Any, Callable[..., Any]] = {
    _L.solve: _solve, np.convolve: _convolve, put_mask: _masked,
} | dict.fromkeys(
    (_L.inv, _L.det, _L.slogdet, _L.cholesky, _L.eig, _L.eigh, _L.eigvals, _L.eigvalsh, _L.svd,
     _L.svdvals, _L.pinv, _L.qr, _L.matrix_rank, _L.cond),
    _stacked,
)  # fmt: skip
"""All of their array arguments have the batch axis."""

FIRST: dict[Any, Callable[..., Any]] = {np.interp: _stacked, np.digitize: _stacked} | dict.fromkeys(
    (_F.fft, _F.ifft, _F.fft2, _F.ifft2, _F.fftn, _F.ifftn, _F.rfft, _F.irfft, _F.rfft2,
     _F.irfft2, _F.rfftn, _F.irfftn, _F.hfft, _F.ihfft, np.sort, np.argsort, np.partition,
     np.argpartition, np.median, np.nanmedian),
    _along,
) | dict.fromkeys(
    (np.quantile, np.percentile, np.nanquantile, np.nanpercentile), _quantiles
)  # fmt: skip
"""Only their first argument may differ between examples."""


EACH = {np.searchsorted, np.bincount, np.correlate, np.digitize, np.interp, np.lexsort, np.polyfit,
        _L.lstsq}  # fmt: skip
"""Called for each example, where no other form fits: as many calls of NumPy as examples."""


WINDOWS = {np.hanning, np.hamming, np.bartlett, np.blackman}


def batched_call(batch: Any, node: Node) -> list[Node]:
    """The results of a ``host_call`` on all examples, batch axis first.

    A function that takes no stacks is called for each example where ``batch.unroll`` or ``EACH``
    says so, else it is an UnsupportedError.
    """
    session, call = batch.session, node.attrs["call"]
    wide = [k for k, i in enumerate(node.inputs) if i in batch.wide]
    ndim = max([i.aval.ndim for i in node.inputs])
    if call.source in STACKED:
        form, nodes = STACKED[call.source], [batch.front(i) for i in node.inputs]
    elif call.source in FIRST and wide == [0] and _leads(call, node):
        form, nodes = FIRST[call.source], [batch.at(i) for i in node.inputs]
    elif isinstance(call.source, np.ufunc) and call.source.signature is None:
        form, nodes = _stacked, [batch.aligned(i, ndim) for i in node.inputs]
    elif call.source is np.searchsorted and not _searched(call, node) & {*batch.wide}:
        form, nodes = _stacked, [batch.at(i) for i in node.inputs]
    elif batch.unroll or call.source in EACH:
        return _each(batch, node)
    else:
        raise _refused(call.full_name, node)
    traced = [fresh(session, n) for n in nodes]
    args, kwargs = call.bound(traced)
    return [x.node for x in flatten(form(call.source, args, kwargs))[0]]


def _leads(call: Any, node: Node) -> bool:
    """Whether the first array is the first argument: a list of numbers may stand before it."""
    args, _ = call.bound(node.inputs)
    return bool(args) and args[0] is node.inputs[0]


def _searched(call: Any, node: Node) -> set[Any]:
    """The array, or the numbers of the list, in which ``np.searchsorted`` looks."""
    return {*flatten(call.bound(node.inputs)[0][0])[0]}


def _each(batch: Any, node: Node) -> list[Node]:
    call: Any = node.attrs["call"]
    wide: list[Any] = [fresh(batch.session, batch.front(i)) for i in node.inputs]
    rows = []
    for k in range(batch.count):
        args, kwargs = call.arguments([x[k] for x in wide])
        rows.append(flatten(call.source(*args, **kwargs))[0])
    columns: list[Any] = [np.stack(column) for column in zip(*rows)]
    return [x.node for x in columns]


def _refused(name: str, node: Node) -> UnsupportedError:
    advice = "Write the loop over the examples in its place: np.stack([f(x) for x in xs])."
    if node.attrs["call"].source in WINDOWS:
        advice = "Its length has to be one for all examples: a Python number, or of a shape."
    return UnsupportedError(
        f"{node.loc}: fusec.vmap can't hand a stack of these arguments to {name}, which NumPy "
        f"runs. {advice}"
    )
