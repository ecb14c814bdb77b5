"""NumPy's own function, called in the middle of a program with real arrays.

``host_call`` runs ``call.function`` and gives all its arrays at once; ``host_out`` picks one. The
call's plain arguments are part of ``call``; its arrays are the node's inputs.
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fusec.ir.aval import Aval
from fusec.ops.registry import COSTLY, Op, register


@dataclass(frozen=True)
class HostCall:
    """A call of ``function`` on arrays, with its results' avals as seen when it was traced.

    name: as the user wrote it; function: takes the arrays in order and gives a tuple of arrays;
    why: the reason it is not fused, as ``explain()`` prints it; source: what the user called;
    arguments: ``(arrays) -> (args, kwargs)`` of that call, for its derivative; None: the arrays.
    key: equal for calls that do the same.
    """

    name: str
    function: Callable[..., tuple[Any, ...]] = field(compare=False)
    outputs: tuple[Aval, ...]
    why: str = "no kernel for this function: NumPy runs it"
    source: Any = None
    arguments: Callable[..., Any] | None = field(default=None, compare=False)
    key: Any = field(default_factory=object)

    def __repr__(self) -> str:
        return self.name

    def bound(self, arrays: Sequence[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of the call; arrays that were given by name are by position."""
        if self.arguments is None:
            return tuple(arrays), {}
        args, kwargs = self.arguments(arrays)
        if not any(x is a for x in kwargs.values() for a in arrays):
            return args, kwargs
        found = inspect.signature(self.source).bind(*args, **kwargs)
        found.apply_defaults()
        return found.args, {k: v for k, v in found.kwargs.items() if v is not np._NoValue}

    @property
    def full_name(self) -> str:
        """The name with its module: ``np.linalg.inv``."""
        module = getattr(self.source, "__module__", None)
        inside = module if module in ("numpy.linalg", "numpy.fft") else "numpy"
        return self.name if self.name.startswith("np.") else f"np{inside[5:]}.{self.name}"


def _call(*arrays: Any, call: HostCall) -> tuple[Any, ...]:
    return call.function(*arrays)


host_call = register(
    Op(
        name="host_call",
        family="host",
        impl=_call,
        infer_aval=lambda *avals, call: Aval((len(call.outputs),), np.dtype("V")),
        cost=COSTLY,
    )
)
host_out = register(
    Op(
        name="host_out",
        family="host",
        impl=lambda results, index, aval: results[index],
        infer_aval=lambda call, index, aval: aval,
    )
)


def put_mask(x: Any, mask: Any, values: Any) -> tuple[Any, ...]:
    """``x`` with ``values`` where ``mask`` is true, as the call of a program."""
    out = np.array(x)
    out[mask] = values
    return (out,)
