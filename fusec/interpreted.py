"""Traced functions that NumPy runs op by op: to look at them, or where kernels are switched off."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fusec.decided import Route
from fusec.dispatch import native_layout
from fusec.errors import UnsupportedError
from fusec.ir.graph import Graph, evaluate
from fusec.plan import Plan, inputs_of
from fusec.trace.run import Trace, trace
from fusec.trace.tree import flatten


class Asked:
    """Stands for the plan of a decision in a trace that is only looked at."""

    def __init__(self, trace: Trace, hidden: list[Any]) -> None:
        self.trace = trace

    def prepare(self) -> None:
        """There is nothing to compile."""

    def matches(self, leaves: Sequence[Any], handed: Sequence[Any]) -> None:
        """It is for one trace."""


def by_numpy(leaves: Sequence[Any], arrays: Sequence[Any]) -> Route:
    """A way whose decisions are found op by op, without kernels."""

    def run(plan: Any, hidden: list[Any]) -> list[np.ndarray]:
        return evaluate(plan.trace.graph, inputs_of(plan.trace, leaves, arrays, hidden))

    return Route([], leaves, Asked, run)


class _Interpreter:
    """Runs a graph op by op through NumPy: for exceptions, ``np.errstate`` and FUSEC_DISABLE."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    def run(self, inputs: Sequence[Any]) -> list[Any]:
        return evaluate(self.graph, inputs)


def interpreted(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """``fn(*args, **kwargs)``, traced and then run by NumPy."""
    leaves, tree = flatten((args, kwargs))
    arrays = [native_layout(x) for x in leaves]
    route = by_numpy(leaves, arrays)
    try:
        traced = trace(fn, arrays, tree, frozenset(), answer=route.answer)
    except UnsupportedError as error:
        raise error.__cause__ or error from None
    plan = Plan(traced)
    plan._executor = _Interpreter(traced.graph)  # type: ignore[assignment]
    held = plan.held((args, kwargs), leaves)
    hidden = traced.guards.arrays(leaves) + route.handed
    return plan.delivered(held, leaves, plan.run(leaves, arrays, hidden))
