"""A function with a derivative of its own: ``custom_vjp``, ``custom_jvp`` and ``checkpoint``.

``custom`` holds the function's results and then its arguments, so that differentiation finds both;
``custom_out`` is one result. The passes take both away.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fusec.ir.aval import Aval
from fusec.ops.registry import Op, register


@dataclass(frozen=True, eq=False)
class Rule:
    """How to differentiate one call.

    name: of the user's function; results: how many of the node's inputs are results; backward:
    ``(node, cotangents of the results or None) -> (node, cotangent) pairs``; closed: whether what
    the function read besides its arguments has derivatives too.
    """

    name: str
    results: int
    backward: Callable[..., Any]
    closed: bool = False

    def __repr__(self) -> str:
        return self.name


custom = register(
    Op(
        name="custom",
        family="host",
        impl=lambda *inputs, rule: inputs,
        infer_aval=lambda *avals, rule: Aval((rule.results,), np.dtype("V")),
    )
)
custom_out = register(
    Op(
        name="custom_out",
        family="host",
        impl=lambda results, index, aval: results[index],
        infer_aval=lambda call, index, aval: aval,
    )
)
# ``x``, but not before ``after`` is known: what ``checkpoint`` computes again begins here.
hold = register(
    Op(
        name="hold",
        family="library",
        impl=lambda x, after=None: x,
        infer_aval=lambda x, after: x,
        vjp=(lambda g, y, x, after: g, None),
    )
)
