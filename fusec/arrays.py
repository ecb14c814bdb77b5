"""Device arrays for users: moving them, sharing them, and computing with them outside ``jit``.

``Array`` itself knows metadata and copies. Here it gets its operators, NumPy's functions and
methods: each is a jitted function of one op, kept for the next use.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from fusec.config import config
from fusec.decided import Undecided
from fusec.device_plan import adopt, device_executor, on_host
from fusec.dispatch import JitFunction, _raises
from fusec.errors import DataDependentShapeError, DeviceError, UnsupportedError
from fusec.ir.aval import is_number
from fusec.ops.registry import shown_shape
from fusec.plan import lower_graph
from fusec.runtime.array import Array, is_basic, overlap, overwrite, recording, same_device, upload
from fusec.runtime.device import Device, Memory, Stream, get_device, known_devices
from fusec.runtime.device_executor import DeviceExecutor
from fusec.runtime.shadow import shadow
from fusec.trace.scalars import PyScalar
from fusec.trace.tracer import Tracer, power
from fusec.trace.tree import flatten

# -- devices, streams, memory ---------------------------------------------------------------------


def devices() -> list[Device]:
    """The GPUs of this machine, each with ``name``, ``arch``, ``multiprocessors``, ``total``.

    Empty without a driver; ``fusec doctor`` says what is missing.

    >>> import fusec
    >>> isinstance(fusec.devices(), list)
    True
    """
    from fusec.runtime.cuda import count

    try:
        found = count()
    except DeviceError:
        return []
    return [get_device(f"cuda:{k}") for k in range(found)]


def synchronize(device: str | Device | None = None) -> None:
    """Wait until all work on ``device`` (default: every device used so far) is done.

    Raises what kernels found wrong since the last time, and DeviceError when the device failed.

    >>> import fusec
    >>> fusec.synchronize("null")
    """
    for one in known_devices() if device is None else [get_device(device)]:
        one.synchronize()


def stream(device: str | Device = "cuda", of: Any = None) -> Stream:
    """A new stream; see ``Stream``. Raises DeviceError when there is no such device.

    of: another library's stream, to be used as ours: PyTorch's, CuPy's, anything that has
        ``__cuda_stream__``, or a handle as a number. ``stream=`` elsewhere takes these as well.
    """
    target = get_device(device)
    return target.new_stream() if of is None else target.stream(of)


def memory(device: str | Device = "cuda") -> Memory:
    """Bytes that fusec holds on ``device`` now (``live``), at most (``peak``), in ``buffers``.

    Not counted is memory that programs keep of earlier results for their next ones.

    >>> import numpy as np, fusec
    >>> x = fusec.to_device(np.ones(1000), "null:7")
    >>> fusec.memory("null:7").live
    8000
    """
    return get_device(device).memory()


def pinned_empty(
    shape: int | tuple[int, ...], dtype: DTypeLike = float, device: str | Device = "cuda"
) -> np.ndarray:
    """A NumPy array without values in page-locked memory, which copies need not stage.

    Raises DeviceError when there is no such device.

    >>> import fusec
    >>> fusec.pinned_empty((2, 3), "f4", "null").shape
    (2, 3)
    """
    kind = np.dtype(dtype)
    sizes = (shape,) if isinstance(shape, int) else tuple(shape)
    count = int(np.prod(sizes, dtype=np.int64))
    return get_device(device).pinned(count * kind.itemsize).view(kind).reshape(sizes)


# -- moving and sharing ---------------------------------------------------------------------------


def to_device(
    x: ArrayLike | Array, device: str | Device = "cuda", stream: Any = None
) -> Array:
    """``x`` as an array on ``device``.

    x: anything NumPy makes an array of, of booleans, integers, floats or complex numbers; the order
        of its axes is kept. An array that is there already comes back as it is; CuPy's, PyTorch's,
        JAX's and Numba's device arrays are shared without a copy.
    device: "cuda", "cuda:1", or "cpu" for the host's memory.
    stream: the stream that copies, ours or another library's. Without it the values are taken when
        this returns. With it the copy of pinned memory (``pinned_empty``) only starts: leave ``x``
        as it is until ``stream.synchronize()``.

    Raises DeviceError when there is no such device or no memory, UnsupportedError for other dtypes.

    >>> import numpy as np, fusec
    >>> fusec.to_device(np.ones((2, 3), "f4"), "null")
    <fusec.Array float32[2,3] on null>
    """
    target = get_device(device)
    shared = adopt(x)
    if type(shared) is Array:
        if shared.buffer.device is target:
            return shared
        x = shared._to_host("to_device", "")
    return upload(
        target, x, "to_device", stream=None if stream is None else target.stream(stream)
    )


def from_dlpack(x: Any, device: str | Device | None = None) -> Array:
    """The memory of another library's array as an Array, without a copy.

    x: has ``__dlpack__`` and ``__dlpack_device__``. device: where the array is wanted; memory of
    the host is copied there.
    Raises DeviceError for memory of the host without ``device``.

    >>> import numpy as np, fusec
    >>> fusec.from_dlpack(np.ones(3), "null").shape
    (3,)
    """
    if type(x) is not Array:
        if x.__dlpack_device__()[0] != 1:
            from fusec.runtime.cuda import adopt as share

            x = share(x)
        elif device is None:
            raise DeviceError(f'{type(x).__name__} is on the host: say device="cuda" for a copy')
        else:
            try:
                x = np.from_dlpack(x)
            except RuntimeError as error:
                raise UnsupportedError(
                    f"{type(x).__name__} is on the host and has a dtype that NumPy does not read "
                    f"({error}); bfloat16 can be shared on a GPU, or as x.view(torch.uint16), of "
                    "which np.from_dlpack(...).view(ml_dtypes.bfloat16) makes it again"
                ) from None
    return x if device is None else to_device(x, device)


def prefetch(
    batches: Iterable[Any], device: str | Device = "cuda", depth: int = 2
) -> Iterator[Any]:
    """Batches on a device, copied while the ones before are used.

    batches: arrays, or containers of arrays (tuples, dicts, ...); what is no array stays as it is.
    depth: how many batches are on their way, each of which takes memory.
    Copies go through pinned memory on a stream of their own; using a batch waits for its copy.

    >>> import numpy as np, fusec
    >>> [b["x"].shape for b in fusec.prefetch(({"x": np.ones(n)} for n in (1, 2, 3)), "null")]
    [(1,), (2,), (3,)]
    """
    target = get_device(device)
    copying = target.new_stream()
    ring: list[tuple[np.ndarray, Callable[[], None]]] = []
    ready: list[Any] = []
    for number, batch in enumerate(batches):
        leaves, tree = flatten(batch)
        arrays = [x for x in leaves if isinstance(x, np.ndarray)]
        needed = sum([x.nbytes + 255 for x in arrays])
        slot = number % (depth + 1)
        if slot < len(ring):
            ring[slot][1]()  # the copy that used this memory last
        room = ring[slot][0] if slot < len(ring) else np.empty(0, np.uint8)
        if room.nbytes < needed:
            room = target.pinned(needed)
        moved = iter(_staged(target, arrays, room, copying))
        ring[slot : slot + 1] = [(room, target.mark(copying))]
        ready.append(
            tree.unflatten([next(moved) if isinstance(x, np.ndarray) else x for x in leaves])
        )
        if len(ready) > depth - 1:
            yield ready.pop(0)
    yield from ready


def _staged(device: Device, arrays: list[np.ndarray], room: np.ndarray, on: Stream) -> list[Array]:
    at, made = 0, []
    for x in arrays:
        like = np.empty_like(shadow(x.shape, x.dtype, x.strides)) if x.nbytes == 0 else x
        staged: Any = like
        if x.nbytes and is_number(x.dtype):
            order = sorted(range(x.ndim), key=lambda k: -abs(x.strides[k]))
            flat = room[at : at + x.nbytes].view(x.dtype)
            staged = flat.reshape([x.shape[k] for k in order]).transpose(np.argsort(order))
            staged[...] = x
            at += (x.nbytes | 255) + 1
        made.append(upload(device, staged, "prefetch", stream=on))
    return made


# -- computing ------------------------------------------------------------------------------------


@lru_cache(1024)
def _jitted(function: Callable[..., Any]) -> JitFunction:
    """A jitted function that calls ``function``, found again for the same one."""

    def run(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    run.__name__ = run.__qualname__ = getattr(function, "__name__", "function")
    made = JitFunction(run)
    made.falls_back = False
    return made


@lru_cache(1024)
def _method(name: str) -> Callable[..., Any]:
    def run(x: Any, *args: Any, **kwargs: Any) -> Any:
        return getattr(x, name)(*args, **kwargs)

    run.__name__ = run.__qualname__ = name
    return run


def _apply(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """One op on the device; by NumPy on copies where the shape of its result depends on data.

    So it is, too, where compiling is switched off and where ``np.errstate`` asks for exceptions.
    """
    leaves = flatten((args, kwargs))[0]
    if any(type(x) in (Tracer, PyScalar) for x in leaves):
        return NotImplemented
    if not (config.disable or _raises()):
        try:
            return _jitted(function)(*args, **kwargs)
        except (DataDependentShapeError, Undecided):
            pass
    leaves = [adopt(x) for x in leaves]
    device = same_device([x for x in leaves if type(x) is Array])
    assert device is not None
    name = getattr(function, "__name__", "this function")
    return on_host(function, device, leaves, (args, kwargs), f"NumPy runs {name} on the host")


def _ufunc(self: Array, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
    out = kwargs.pop("out", None)
    function = ufunc if method == "__call__" else getattr(ufunc, method)
    result = _apply(function, inputs, kwargs)
    if out is None or result is NotImplemented:
        return result
    results = result if isinstance(result, tuple) else (result,)
    for target, value in zip(out, results):
        if target is not None:
            if kwargs.get("where", True) is not True:
                value = _apply(np.where, (kwargs["where"], value, target), {})
            _into(target, value, kwargs.get("casting", "same_kind"), ufunc.__name__)
    made = tuple([r if t is None else t for t, r in zip(out, results)])
    return made if isinstance(result, tuple) else made[0]


def _into(target: Any, value: Array, casting: Any, name: str) -> None:
    if not np.can_cast(value.dtype, target.dtype, casting):
        raise TypeError(
            f"Cannot cast ufunc '{name}' output from {value.dtype!r} to {target.dtype!r} "
            f"with casting rule '{casting}'"
        )
    if value.shape != target.shape:
        raise ValueError(
            f"non-broadcastable output operand with shape {shown_shape(target.shape)} doesn't "
            f"match the broadcast shape {shown_shape(value.shape)}"
        )
    target[...] = value if type(target) is Array else value.copy_to_host()


def _function(self: Array, func: Any, types: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    out = kwargs.get("out")
    result = _apply(func, args, {k: v for k, v in kwargs.items() if k != "out"})
    if out is None or result is NotImplemented:
        return result
    _into(out, result, "same_kind", func.__name__)
    return out


def _store(target: Any, value: Any) -> None:
    target[...] = value


def _store_at(target: Any, index: Any, value: Any) -> None:
    target[index] = value


def _setitem(self: Array, index: Any, value: Any) -> None:
    items = index if isinstance(index, tuple) else (index,)
    if not all(is_basic(i) for i in items):
        _apply(_store_at, (self, index, value), {})
        return
    target = self[index]
    value = adopt(value)
    if type(value) is not Array and not isinstance(value, int | float | complex):
        value = upload(target.buffer.device, value, "value that is assigned")
    if type(value) is Array and (value.shape, value.dtype) == (target.shape, target.dtype):
        assign(target, value)
    else:
        _apply(_store, (target, value), {})


def assign(target: Array, source: Array) -> None:
    """``target[...] = source`` for arrays of one shape and dtype on one device."""
    device = target.buffer.device
    if overlap(target, source):
        source = source.copy("K")  # type: ignore[attr-defined]
    device.learn()
    stream = device.current()
    if target.size and not overwrite(target, source, stream):
        runner = _copier(device, target.shape, target.dtype, source.strides, target.strides)
        target.buffer.writing(stream)
        runner.run([source], stream, {runner.results[0]: target})


@lru_cache(256)
def _copier(
    device: Device,
    shape: tuple[int, ...],
    dtype: np.dtype,
    source: tuple[int, ...],
    target: tuple[int, ...],
) -> DeviceExecutor:
    """A program that copies between two layouts."""
    leaves, tree = flatten(((shadow(shape, dtype, source),), {}))
    trace = JitFunction(lambda x: x.copy()).traced(leaves, leaves, tree, frozenset())
    trace.out_strides = [target]
    return device_executor(lower_graph(trace, target=device.target), device, False)


def _reshape(self: Array, *shape: Any, order: Any = "C", copy: bool | None = None) -> Any:
    """A view where NumPy gives one, else a copy."""
    wanted = shape[0] if len(shape) == 1 else shape
    if not copy and recording.get() is None:
        of = self.like
        try:
            return self.view_as(of.reshape(wanted, order=order, copy=False), of)
        except ValueError:
            pass  # it takes a copy, or the shape is wrong, which NumPy says below
    return _apply(_method("reshape"), (self, wanted), {"order": order})


#: Methods of ndarray that are one op each.
METHODS = (
    "all", "any", "argmax", "argmin", "argsort", "astype", "choose", "clip", "conj", "conjugate",
    "copy", "cumprod", "cumsum", "diagonal", "dot", "flatten", "max", "mean", "min", "prod",
    "ravel", "repeat", "round", "searchsorted", "sort", "squeeze", "std", "sum", "swapaxes", "take",
    "trace", "var",
)  # fmt: skip


def _attach(name: str) -> None:
    def method(self: Array, *args: Any, **kwargs: Any) -> Any:
        return _apply(_method(name), (self, *args), kwargs)

    method.__name__ = method.__qualname__ = name
    method.__doc__ = f"``ndarray.{name}``, on the device."
    setattr(Array, name, method)


for _name in METHODS:
    _attach(_name)
_hooks: Any = Array
_hooks.__array_ufunc__, _hooks.__array_function__ = _ufunc, _function
_hooks.__setitem__, _hooks.reshape, _hooks.__pow__ = _setitem, _reshape, power
_hooks.__ipow__ = lambda self, exponent: power(self, exponent, out=self)
_hooks.fill = lambda self, value: self.__setitem__(..., value)
_hooks.tobytes = lambda self, order="C": np.asarray(self).tobytes(order)
_hooks.__contains__ = lambda self, value: bool((self == value).any())
_hooks.__reduce__ = lambda self: (to_device, (np.asarray(self), self.device))
_hooks.__copy__ = _hooks.__deepcopy__ = lambda self, memo=None: self.copy("K")
_hooks._method = lambda self, name, *args: _apply(_method(name), (self, *args), {})
_hooks._select = lambda self, index: _apply(operator.getitem, (self, index), {})
_hooks.real = property(lambda self: _apply(np.real, (self,), {}))
_hooks.imag = property(lambda self: _apply(np.imag, (self,), {}))
