"""The traced array: what a jitted function sees instead of an ``np.ndarray``.

A tracer is a view: a storage and a path of movement ops that leads to its elements. Reading
applies the path to the storage's current value; writing goes back along the path and replaces
that value, so every other view sees the update, as NumPy's views do.

``isinstance(x, np.ndarray)`` holds through ``__class__``; the type itself is no subclass, so no C
code mistakes it for memory.
"""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any
from weakref import ref

import numpy as np

from fusec.errors import ConcreteValueError, TracerBoolError, UnsupportedError
from fusec.ir.aval import is_number
from fusec.ir.graph import Node
from fusec.trace.decisions import decided
from fusec.trace.scalars import PyScalar, sized
from fusec.trace.session import Session, Storage, escaped
from fusec.trace.standin import result_like, stand_in
from fusec.trace.steps import Step, apply_step, undo_step
from fusec.trace.values import constant, guarded

ROWS = list | tuple | deque  # what NumPy reads as the rows of an array
PYTHON = {"b": bool, "i": int, "u": int, "f": float, "c": complex}


class Tracer(np.lib.mixins.NDArrayOperatorsMixin):
    """A traced array (``scalar`` False) or NumPy scalar (``scalar`` True)."""

    __slots__ = ("__weakref__", "_cache", "_path", "_sample", "_scalar", "_session", "_storage")
    __array_priority__ = 1000

    def __init__(
        self,
        session: Session,
        storage: Storage,
        path: tuple[Step, ...],
        like: np.ndarray,
        scalar: bool = False,
    ) -> None:
        self._session = session
        self._storage = storage
        self._path = path
        self._sample = like
        self._scalar = scalar
        self._cache: tuple[int, Node] | None = None

    # -- the graph behind it ------------------------------------------------------------------

    def _settled(self) -> "Tracer":
        """Itself, of the type it has: see ``extremes``."""
        if self._storage.choice is not None:
            from fusec.trace.extremes import settle

            settle([self])
        return self

    @property
    def _like(self) -> np.ndarray:
        """NumPy's stand-in for it."""
        return self._settled()._sample

    @property
    def node(self) -> Node:
        """The value now, as a node."""
        storage = self._settled()._storage
        if not self._session.active:
            raise escaped(storage.node.loc)
        if not self._path:
            return storage.node
        if self._cache is None or self._cache[0] != storage.version:
            node = storage.node
            for step in self._path:
                node = apply_step(self._session, node, step)
            self._cache = (storage.version, node)
        return self._cache[1]

    def write(self, value: Node) -> None:
        """Replace all elements; ``value`` has this tracer's shape and dtype."""
        storage, session = self._storage, self._session
        if not storage.writeable or self._scalar:
            raise ValueError("assignment destination is read-only")
        nodes, path = [storage.node], self._path
        if [name for name, _ in path[-2:]] == ["slice", "reshape"]:  # its shape is known
            value = session.reshape(value, path[-2][1]["shape"])
            path = path[:-1]
        for step in path[:-1]:
            nodes.append(apply_step(session, nodes[-1], step))
        for step in reversed(path):
            value = undo_step(session, nodes.pop(), step, value)
        storage.node = value
        storage.version += 1

    def view(self, *args: Any, **kwargs: Any) -> Any:
        given = [*args, *kwargs.values()]
        whole = given == [np.ndarray] and not isinstance(given[0], np.dtype)  # which equals "O"
        if not given or whole:
            return Tracer(self._session, self._storage, self._path, self._like, self._scalar)
        from fusec.trace.views import with_dtype

        if len(given) > 1 or "type" in kwargs:
            return self._session.function(np.ndarray.view, (self, *args), kwargs)
        return with_dtype(self, given[0])

    def step(self, like: np.ndarray, *steps: Step, scalar: bool = False) -> "Tracer":
        """The view that ``steps`` select, a copy of a NumPy number; ``like``: NumPy's stand-in."""
        if self._scalar and not scalar:
            return fresh(self._session, self.node, self._like).step(like, *steps)
        return Tracer(self._session, self._storage, self._path + steps, like, scalar)

    # -- what an array tells about itself -----------------------------------------------------

    @property
    def __class__(self) -> type:  # type: ignore[override]
        if not self._scalar:
            return np.ndarray
        dtype = self.dtype
        return PYTHON[dtype.kind] if self._storage.item else dtype.type

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple([sized(n, self._session) for n in self._like.shape])

    @shape.setter
    def shape(self, shape: Any) -> None:
        from fusec.trace.views import reshape_view

        new = reshape_view(self, shape)
        if new is None:
            raise AttributeError(
                "Incompatible shape for in-place modification. Use `.reshape()` to make a copy "
                "with the desired shape."
            )
        self.made_here("shape")
        self._path, self._sample, self._cache = new._path, new._like, None

    def made_here(self, name: str) -> None:
        """Refuse to set what an argument tells about itself: the caller's own array has it."""
        if self is self._storage.root() and self._storage.source is not None:
            raise UnsupportedError(f"it sets `{name}` of an argument: NumPy runs the function")

    @property
    def dtype(self) -> np.dtype:
        return self._like.dtype

    @property
    def size(self) -> int:
        return sized(self._like.size, self._session)

    @property
    def flags(self) -> Any:
        from fusec.trace.flags import Flags

        return Flags(self)

    @property
    def base(self) -> Any:
        from fusec.trace.flags import is_owner

        if is_owner(self, "base"):
            return None
        storage = self._storage
        root = storage.root()
        if root is None:
            root = Tracer(self._session, storage, (), storage.like)
            storage.root = ref(root)
        return root

    ndim = property(lambda self: self._like.ndim)
    strides = property(lambda self: self._like.strides)
    itemsize = property(lambda self: self._like.itemsize)
    nbytes = property(lambda self: sized(self._like.nbytes, self._session))

    def __len__(self) -> int:
        return len(self.__class__(0)) if self._scalar else len(self._like)  # or raises

    def _described(self) -> str:
        kind = "scalar" if self._scalar else "array"
        return f"<traced {kind} {self._storage.node.aval._replace(shape=self._like.shape)!r}>"

    def __format__(self, spec: str = "") -> str:
        text = f"{self._session.location()}: an array's text (str, f-string) needs its numbers"
        self._session.notes.append(text)  # loggers catch what is raised
        raise UnsupportedError(text)

    __str__ = __repr__ = __format__

    # -- where Python wants a value -------------------------------------------------------------

    def concrete(self) -> np.ndarray | None:
        """The value, if it depends on constants alone."""
        return constant(self._session, self.node)

    def _value(self, what: str, advice: str) -> Any:
        found = guarded(self._session, self.node)
        if found is None and self._like.size == 1:
            found = decided(self._session, self.node)
        if found is None and self._session.own_types:
            raise UnsupportedError(f"{what} beside a comparison of types: NumPy runs the function")
        if found is None:
            raise ConcreteValueError(self._message(what, advice))
        return found

    def _message(self, what: str, advice: str) -> str:
        where = self._session.location()
        made = self._storage.node.loc
        origin = f"\n  It was computed at {made}." if made else ""
        return f"{where}: {what} needs the value of a {self._described()}.{origin}\n  {advice}"

    def __bool__(self) -> bool:
        if self._like.size != 1:
            return bool(np.zeros(min(self._like.size, 2)))  # raises
        found = guarded(self._session, self.node)
        if found is None:
            found = decided(self._session, self._session.cast(self.node, np.dtype("?")))
        if found is None:
            raise TracerBoolError(
                self._message(
                    "`if`, `while`, `and`, `or` or `not`",
                    "Write np.where(condition, a, b) for a choice between arrays, pass the value "
                    "as a Python number, or do the test outside. A jitted function that is called "
                    "with arrays may decide; where none are known, or for one of many, it can't.",
                )
            )
        return bool(found)

    _OUT = (
        "Compute it outside and pass it as an argument named in static_argnames, or read it from "
        "a shape."
    )

    def __index__(self) -> int:
        return self._value("An integer (range, a shape, an index)", self._OUT).__index__()

    def __int__(self) -> int:
        return int(self._value("int()", self._OUT))

    def __float__(self) -> float:
        return float(self._value("float()", self._OUT))

    def __complex__(self) -> complex:
        return complex(self._value("complex()", self._OUT))

    def __array__(self, *args: Any, **kwargs: Any) -> np.ndarray:
        return self._value(
            "A function that takes only real arrays",
            "Use a NumPy function that fusec traces, or call this one outside the jitted function.",
        )

    def tolist(self) -> Any:
        return self._value("tolist()", self._OUT).tolist()

    def __iter__(self) -> Iterator[Any]:
        if self._like.ndim == 0:
            iter(self.__class__(0) if self._scalar else self._like)  # raises
        return iter([self[k] for k in range(self._like.shape[0])])

    def __contains__(self, value: Any) -> Any:
        return bool((self == value).any())

    def __hash__(self) -> int:
        if self._scalar:
            return hash(self._value("hash()", self._OUT).item())
        raise TypeError("unhashable type: 'numpy.ndarray'")

    def __deepcopy__(self, memo: Any) -> Any:
        return self.copy("K")

    def __copy__(self) -> Any:
        return self.copy("K")

    # -- NumPy's protocols ----------------------------------------------------------------------

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        return self._session.ufunc(ufunc, method, inputs, kwargs)

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        return self._session.function(func, args, kwargs)

    def __getattr__(self, name: str) -> Any:
        from fusec.trace.methods import METHODS

        method = METHODS.get(name)
        if method is not None:
            return lambda *args, **kwargs: method(self, *args, **kwargs)
        kind = self.__class__
        if hasattr(kind, name) and not name.startswith("__"):
            raise UnsupportedError(
                f"{self._session.location()}: fusec does not trace {kind.__name__}.{name}; use a "
                "NumPy function in its place, or call it outside the jitted function"
            )
        place = "" if self._storage.item else "numpy."
        raise AttributeError(f"'{place}{kind.__name__}' object has no attribute '{name}'")

    T = property(lambda self: self.transpose())
    mT = property(lambda self: self.swapaxes(-1, -2))
    flat = property(lambda self: _flat(self), lambda self, v: _flat(self).__setitem__(..., v))

    def _get_part(self, name: str) -> Any:
        from fusec.trace.views import part

        return part(self, name)

    def _set_part(self, name: str, value: Any) -> None:
        self._get_part(name)[...] = value

    real = property(lambda self: self._get_part("real"), lambda self, v: self._set_part("real", v))
    imag = property(lambda self: self._get_part("imag"), lambda self, v: self._set_part("imag", v))


def _flat(x: Tracer) -> Any:
    from fusec.trace.flat import Flat

    return Flat(x)


def _inplace(name: str) -> Callable[[Tracer, Any], Any]:
    """``x += y``: into the same memory for arrays, a new value for NumPy scalars."""
    mixin = getattr(np.lib.mixins.NDArrayOperatorsMixin, name)

    def method(self: Tracer, other: Any) -> Any:
        if name == "__imatmul__" and np.ndim(other) < 2:
            raise ValueError("x @= y needs a y of at least two dimensions")
        if name == "__ipow__" and not self._scalar:
            return power(self, other, out=self)
        return NotImplemented if self._scalar else mixin(self, other)

    return method


FAST_POWERS: Any = {int: {2: np.square, -1: np.reciprocal}, float: {0.5: np.sqrt}}


def power(x: Any, exponent: Any, **out: Any) -> Any:
    """``x ** n``, with ``out=x`` ``x **= n``: for a few Python exponents of arrays other ufuncs."""
    table = FAST_POWERS.get(type(exponent))
    known = table and table.get(exponent)
    fast = x.dtype.kind in "fc" or known is np.square
    array = type(x) is not Tracer or not x._scalar
    return known(x, **out) if known and fast and array else np.power(x, exponent, **out)


Tracer.__pow__ = power  # type: ignore[method-assign]

for _name in (
    "add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "lshift", "rshift", "and", "or",
    "xor", "matmul",
):  # fmt: skip
    setattr(Tracer, f"__i{_name}__", _inplace(f"__i{_name}__"))


def fresh(
    session: Session, node: Node, like: np.ndarray | None = None, scalar: bool = False
) -> Tracer:
    """A tracer with memory of its own that holds ``node``; C order unless ``like`` says."""
    if like is None:
        like = stand_in(node.shape, node.dtype)
    storage = Storage(node, like)
    tracer = Tracer(session, storage, (), like, scalar)
    storage.root = ref(tracer)
    return tracer


def as_tracer(session: Session, value: Any, dtype: Any = None) -> Tracer:
    """Any array-like as a tracer: traced values as they are, others as constants."""
    if type(value) is Tracer:
        return value
    if type(value) is PyScalar:
        wanted = dtype or np.array(value._value).dtype
        return fresh(session, session.scalar_param(value, np.dtype(wanted)))
    if isinstance(value, ROWS) and contains_traced(value):
        from fusec.trace.create import array

        return array(session, value, dtype=dtype)
    if type(value) is np.ndarray and value.ndim > 0:
        from fusec.trace.create import constant

        return constant(session, value if dtype is None else value.astype(dtype))
    concrete = np.array(value, dtype)
    if not is_number(concrete.dtype):
        raise UnsupportedError(f"fusec does not trace values of dtype {concrete.dtype}")
    scalar = isinstance(value, np.generic)
    return fresh(session, session.const(concrete), scalar=scalar)


def contains_traced(value: Any) -> bool:
    if isinstance(value, ROWS):
        return any(contains_traced(v) for v in value)
    return type(value) in (Tracer, PyScalar)


def k_like(node: Node, operands: list[Tracer]) -> np.ndarray:
    """The stand-in of an elementwise result over ``operands``."""
    return result_like(node.shape, node.dtype, [o._like for o in operands])
