"""``x.flat``: what NumPy's flat iterator does, on a traced array; and its other iterators.

Reading copies, and what is written is repeated until it is enough: both unlike a view. Where it
is handed to something that has no rule here, NumPy runs the function.
"""

import operator
from typing import Any

import numpy as np

from fusec.errors import UnsupportedError
from fusec.trace.scalars import PyScalar
from fusec.trace.session import Session
from fusec.trace.standin import stand_in
from fusec.trace.tracer import Tracer, as_tracer, fresh
from fusec.trace.ufuncs import as_element


class Flat:
    """See the module. ``index``: how many elements ``next`` has given."""

    __slots__ = ("base", "index")

    def __init__(self, x: Tracer) -> None:
        self.base = x
        self.index = 0

    @property
    def __class__(self) -> type:  # type: ignore[override]
        return np.flatiter

    @property
    def coords(self) -> tuple[int, ...]:
        return tuple(map(int, np.unravel_index(self.index, self.base._like.shape)))

    def _view(self) -> Tracer:
        shape = (len(self),)
        like = stand_in(shape, self.base.dtype)
        return self.base.step(like, ("reshape", {"shape": shape}))

    def __len__(self) -> int:
        return int(self.base._like.size)

    def __iter__(self) -> "Flat":
        return self

    def __next__(self) -> Any:
        if self.index == len(self):
            raise StopIteration
        self.index += 1
        return self._view()[self.index - 1]

    def __getitem__(self, index: Any) -> Any:
        found = self._view()[index]
        return found.copy() if type(found) is Tracer and not found._scalar else found

    def __setitem__(self, index: Any, value: Any) -> None:
        view = self._view()
        if hasattr(index, "__index__") and not np.ndim(index):
            try:
                view[index] = value
            except (TypeError, ValueError, OverflowError):
                raise ValueError("Error setting single item of array.") from None
            return
        session = view._session
        values = fresh(session, as_element(session, value, view.dtype)).ravel()
        chosen = view[index]
        if values._like.size == 1:
            values = values.reshape(())
        elif type(chosen) is Tracer and values._like.size:
            if type(value) is Tracer and value._storage is view._storage:
                _refuse()  # it reads what it wrote
            values = np.resize(values, chosen._like.size).reshape(chosen._like.shape)
        else:
            _refuse()
        view[index] = values

    def copy(self) -> Tracer:
        return self._view().copy()

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *args: Any, **kwargs: Any) -> Any:
        return getattr(ufunc, method)(*map(_array, args), **kwargs)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        return function(*map(_array, args), **kwargs)

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        _refuse()

    def __fusec_unwrap__(self) -> Any:
        _refuse()


def _array(value: Any) -> Any:
    return value.copy() if type(value) is Flat else value


def _refuse() -> None:
    raise UnsupportedError("x.flat is used as a whole: NumPy runs the function")


def _comparison(name: str) -> Any:
    return lambda self, other: getattr(operator, name)(self.copy(), _array(other))


for _name in ("lt", "le", "eq", "ne", "gt", "ge"):
    setattr(Flat, f"__{_name}__", _comparison(_name))


def vectorize(session: Session, *args: Any, **kwargs: Any) -> Any:
    """``np.vectorize`` calls Python for each element, with Python's numbers: not traced."""
    raise UnsupportedError(
        f"{session.location()}: np.vectorize calls a Python function for each element; write the "
        "function for whole arrays"
    )


def nditer(session: Session, *args: Any, **kwargs: Any) -> Any:
    """``np.nditer`` gives parts of memory, to be read and written: not traced."""
    raise UnsupportedError(f"{session.location()}: np.nditer: NumPy runs the function")


def moment(kind: type, session: Session, *args: Any) -> Any:
    """``np.datetime64`` and ``np.timedelta64``: of known numbers only."""
    if any(type(a) is Tracer for a in args):
        raise UnsupportedError(f"{session.location()}: np.{kind.__name__} of a number of an array")
    return kind(*[a._concrete() if type(a) is PyScalar else a for a in args])


def ndenumerate(session: Session, arr: Any) -> Any:
    """``np.ndenumerate``: each place of an array and what stands there."""
    x = as_tracer(session, arr)
    return ((place, x[place]) for place in np.ndindex(x._like.shape))
