"""``x[mask]`` before anybody needs its shape.

How many elements a mask selects depends on the data. What can be said without knowing it can be
traced: reductions of the selection, elementwise functions of it, and its assignment through the
same mask. Everything else raises an error that says what to write.
"""

import functools
from typing import Any, Never

import numpy as np

from fusec.errors import DataDependentShapeError, UnsupportedError
from fusec.ir.graph import Graph, Node
from fusec.ir.rewrite import rebuild
from fusec.ops.reduce import IDENTITY
from fusec.trace.pynumbers import python_number
from fusec.trace.session import Session
from fusec.trace.table import check, data_dependent, iota
from fusec.trace.tracer import Tracer, fresh, power
from fusec.trace.ufuncs import weak_type


class Selection(np.lib.mixins.NDArrayOperatorsMixin):
    """The elements of ``source`` where ``mask``, which has its leading axes, is true.

    lead: axes of the selection in front of the selected one, 1 for ``x[:, mask]``; in ``source``
    they stand behind those of the mask.
    """

    __slots__ = ("_mask_node", "lead", "mask", "source")
    __array_priority__ = 1000

    def __init__(
        self, source: Tracer, mask: Tracer, lead: int = 0, mask_node: Node | None = None
    ) -> None:
        shape, wanted = source._like.shape, mask._like.shape
        if shape[: len(wanted)] != wanted:
            np.empty(shape, bool)[np.empty(wanted, bool)]
        self.mask, self.lead = mask, lead
        self._mask_node = mask.node if mask_node is None else mask_node
        self.source = fresh(source._session, source.node, source._like)

    def same_mask(self, mask: Tracer) -> bool:
        """Whether ``mask`` selects the same elements as this selection's own."""
        mine, other = self._mask_node, mask.node
        if mine is other:
            return True
        found = rebuild(Graph(self._session.params, (mine, other)))
        return found.outputs[0] is found.outputs[1]

    @property
    def __class__(self) -> type:  # type: ignore[override]
        return np.ndarray

    @property
    def _session(self) -> Session:
        return self.source._session

    @property
    def dtype(self) -> np.dtype:
        return self.source.dtype

    @property
    def ndim(self) -> int:
        return self.source._like.ndim - self.mask._like.ndim + 1

    @property
    def size(self) -> Tracer:
        """The number of selected elements, as a traced integer of Python's."""
        count = np.count_nonzero(self._mask())
        for n in self.source.shape[self.mask._like.ndim :]:
            count = count * n
        return python_number(count)

    def _mask(self) -> Tracer:
        return fresh(self._session, self._mask_node, self.mask._like)

    def _spread(self) -> Tracer:
        """The mask with the source's shape."""
        tail = (1,) * (self.source._like.ndim - self.mask._like.ndim)
        mask = self._mask().reshape(self.mask._like.shape + tail)
        return np.broadcast_to(mask, self.source._like.shape)

    def _refuse(self, name: str) -> DataDependentShapeError:
        return data_dependent(self._session, f"{name} of a selection x[mask]")

    def refuse(self, name: str) -> Never:
        """Raise the error that says what to do instead of what ``name`` says."""
        raise data_dependent(
            self._session, f"x[mask], which is {name},", loc=self._mask_node.loc
        )

    # -- reductions -------------------------------------------------------------------------------

    def _reduce(self, name: str, axis: Any = None, *more: Any, **kwargs: Any) -> Any:
        method = getattr(self.source, name)
        axes, single = self._axes(axis), not self.lead and self.mask._like.ndim == 1
        if axes is None or more or (kwargs.get("keepdims") and not single):
            raise self._refuse(f"{name}(axis={axis})")
        if kwargs.get("initial", 0) is None:
            raise self._refuse(f"{name}(initial=None)")
        if name not in ("max", "min"):
            return method(axis=axes, where=self._spread(), **kwargs)
        if "initial" in kwargs:
            return method(axis=axes, where=self._spread(), **kwargs)
        worst = IDENTITY[name](self.dtype)
        result = method(axis=axes, where=self._spread(), initial=worst, **kwargs)
        if self.source._like.size == 0:
            np.max(np.empty(0))
        return self._unless_empty(result)

    def _unless_empty(self, result: Tracer) -> Tracer:
        """NumPy says what there is of no elements."""
        node = check(self._session, result.node, self._mask().any().node)
        return fresh(self._session, node, result._like, scalar=result._scalar)

    def argmax(self, *args: Any, **kwargs: Any) -> Any:
        return self._position("max", args or kwargs)

    def argmin(self, *args: Any, **kwargs: Any) -> Any:
        return self._position("min", args or kwargs)

    def _position(self, name: str, options: Any) -> Any:
        """How many selected elements stand in front of the first that is extreme, or nan."""
        other = self.lead or self.dtype.kind == "c" or self.source._like.size == 0
        if other or options:
            raise self._refuse(f"arg{name}")
        x, chosen = self.source, self._spread()
        found = chosen & ((x == self._reduce(name)) | (x != x))
        places = iota(self._session, (x.size,), 0)
        before = fresh(self._session, places) < found.ravel().argmax()
        return (before & chosen.ravel()).sum()

    def _quantile(self, function: Any, *rest: Any) -> Any:
        """What NumPy's ``nan...`` function gives where all that is not selected is nan."""
        types = [q.dtype for q in rest if hasattr(q, "dtype")]  # a float64 is a float
        mixed = any(t.kind == "f" and t not in (self.dtype, np.float64) for t in types)
        if self.dtype.kind not in "iuf" or self.source._like.size == 0 or mixed:
            raise self._refuse(function.__name__[3:])
        bad = np.isnan(self).any()
        x = np.where(self._spread(), self.source, np.nan)
        found = function(np.where(bad | ~self._mask().any(), 0, x), *rest)
        return self._unless_empty(np.where(bad, np.nan, found)[()])

    def _axes(self, axis: Any) -> tuple[int, ...] | None:
        """The source's axes for the selection's, None if the selected one is not reduced."""
        selected = tuple(range(self.mask._like.ndim))
        if axis is None:
            return tuple(range(self.source._like.ndim))
        axes = np.lib.array_utils.normalize_axis_tuple(axis, self.ndim)
        if self.lead not in axes:
            return None
        others = [a - (a > self.lead) for a in axes if a != self.lead]
        return selected + tuple([a + len(selected) for a in others])

    def __getattr__(self, name: str) -> Any:
        if name in _REDUCTIONS:
            return functools.partial(self._reduce, name)
        if name in ("astype", "round", "clip", "conj", "conjugate"):
            return lambda *args, **kwargs: self._with(getattr(self.source, name)(*args, **kwargs))
        if name in ("copy", "ravel", "flatten") and (name == "copy" or self.ndim == 1):
            return lambda *args: self._with(self.source)
        if name in ("real", "imag"):
            return self._with(getattr(self.source, name))
        if name.startswith("_"):
            raise AttributeError(name)
        raise self._refuse(name)

    def _with(self, source: Tracer) -> "Selection":
        return Selection(source, self.mask, self.lead, self._mask_node)

    # -- elementwise ------------------------------------------------------------------------------

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if method == "reduce":
            return self._ufunc_reduce(ufunc, *inputs[1:], **kwargs)
        out = kwargs.pop("out", (None,))[0]
        if method != "__call__" or kwargs or ufunc.nout > 1 or ufunc.signature is not None:
            raise self._refuse(f"np.{ufunc.__name__}")
        values = [self._operand(v, ufunc) for v in inputs]
        if out is None:
            return self._with(ufunc(*values))
        if type(out) is not Selection:
            raise self._refuse(f"np.{ufunc.__name__}(out=)")
        out.source = ufunc(*values, out=out.source.copy())
        return out

    __pow__ = power

    def __ipow__(self, exponent: Any) -> Any:
        return power(self, exponent, out=self)

    def _operand(self, value: Any, ufunc: np.ufunc) -> Any:
        """What stands for an operand beside the source: another selection, or one value."""
        if type(value) is Selection:
            same = value.source._like.shape == self.source._like.shape
            if same and value.same_mask(self._mask()):
                return value.source
        elif weak_type(value) is not None or np.ndim(value) < (self.ndim if not self.lead else 1):
            return value
        raise self._refuse(f"np.{ufunc.__name__} with another array")

    def _ufunc_reduce(self, ufunc: np.ufunc, axis: Any = 0, dtype: Any = None, out: Any = None,
                      **kwargs: Any) -> Any:
        names = {np.add: "sum", np.multiply: "prod", np.maximum: "max", np.minimum: "min",
                 np.logical_or: "any", np.logical_and: "all"}  # fmt: skip
        if ufunc not in names or given_out(out) or kwargs.pop("keepdims", False):
            raise self._refuse(f"np.{ufunc.__name__}.reduce")
        extra = {} if dtype is None else {"dtype": dtype}
        return self._reduce(names[ufunc], axis, **extra, **kwargs)

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        name = {"amax": "max", "amin": "min"}.get(func.__name__, func.__name__)
        if args and args[0] is self:
            if name in _REDUCTIONS:
                return getattr(self, name)(*args[1:2], **_named(func, args, kwargs))
            if name in ("argmax", "argmin") and len(args) == 1 and not kwargs:
                return getattr(self, name)()
            if name == "ptp" and len(args) == 1 and not kwargs:
                return self.max() - self.min()
            needed = {"median": 1, "percentile": 2, "quantile": 2}.get(name)
            if len(args) == needed and not kwargs:
                return self._quantile(getattr(np, f"nan{name}"), *args[1:])
            if name == "count_nonzero" and len(args) == 1 and not kwargs:
                return (self != 0).sum()
            if name == "size" and len(args) == 1:
                return self.size
            if name in ("copy", "real", "imag", "ndim", "round", "around", "clip"):
                value = getattr(self, name.replace("around", "round"))
                return value if name in ("real", "imag", "ndim") else value(*args[1:], **kwargs)
            if name in ("nan_to_num", "isclose", "angle", "sinc", "fix"):
                rest = [self._operand(a, np.add) for a in args[1:]]
                return self._with(func(self.source, *rest, **kwargs))
        raise self._refuse(f"np.{name}")

    # -- what needs the length --------------------------------------------------------------------

    def __len__(self) -> int:
        raise self._refuse("len()")

    def __iter__(self) -> Any:
        raise self._refuse("iteration")

    def __bool__(self) -> bool:
        raise self._refuse("the truth")

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise self._refuse("the value")

    def __getitem__(self, index: Any) -> Any:
        if index is Ellipsis or (type(index) is tuple and not index):
            return self
        raise self._refuse("an element")

    def __setitem__(self, index: Any, value: Any) -> None:
        if index is not Ellipsis and not (type(index) is slice and index == slice(None)):
            raise self._refuse("an element")
        self.source = np.where(True, value, self.source).astype(self.dtype)

    def __repr__(self) -> str:
        return f"<traced selection of {self.source!r}>"


_REDUCTIONS = ("sum", "prod", "max", "min", "any", "all", "mean", "var", "std")


def _named(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    if len(args) > 2:
        raise UnsupportedError("give options of a reduction of x[mask] by keyword")
    return {k: v for k, v in kwargs.items() if v is not np._NoValue and v is not None}


def given_out(out: Any) -> bool:
    return out is not None and out != (None,)
