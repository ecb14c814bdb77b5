"""Traced functions that NumPy runs op by op: to look at them, or where kernels are switched off."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fusec.errors import UnsupportedError
from fusec.ir.graph import evaluate
from fusec.plan import Interpreted, Outline
from fusec.route import Route
from fusec.signature import native_layout
from fusec.trace.run import trace
from fusec.trace.tree import flatten


def by_numpy(
    leaves: Sequence[Any], arrays: Sequence[Any], plans: list[Any], loops: bool = False
) -> Route:
    """A way whose decisions are found op by op, without kernels. plans, loops: see ``Route``."""

    def run(plan: Any, hidden: list[Any]) -> list[np.ndarray]:
        made: list[np.ndarray] = plan.run(leaves, arrays, hidden)
        return made

    return Route(plans, leaves, Interpreted, run, loops=loops)


def interpreted(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """``fn(*args, **kwargs)``, traced and then run by NumPy."""
    leaves, tree = flatten((args, kwargs))
    arrays = [native_layout(x) for x in leaves]
    route = by_numpy(leaves, arrays, [])
    try:
        traced = trace(fn, arrays, tree, frozenset(), way=route)
    except UnsupportedError as error:
        if route.steps and hasattr(fn, "__wrapped__"):
            fn.__wrapped__(*args, **kwargs)  # raises what the trace of its derivative can't
        raise error.__cause__ or error from None
    plan = Outline(traced)
    held = plan.held((args, kwargs), leaves)
    hidden = traced.guards.arrays(leaves) + route.handed
    outputs = evaluate(traced.graph, plan.inputs(leaves, arrays, hidden))
    return plan.delivered(held, leaves, plan.finish(leaves, hidden, outputs))
