"""The passes, in order: each is ``graph -> graph`` and pure, named as it appears in logs."""

from collections.abc import Callable, Mapping

from fusec.config import config, log
from fusec.ir.graph import Graph
from fusec.ir.rewrite import Rule, rebuild
from fusec.ir.text import format_graph
from fusec.passes.halves import HALVES
from fusec.passes.parts import joined
from fusec.passes.roll import rolled
from fusec.passes.rules import FOLD, SIMPLIFY
from fusec.passes.tiny import TINY

Pass = Callable[[Graph], Graph]


def cse(graph: Graph) -> Graph:
    """One node for each value; nodes that no output needs are gone."""
    return rebuild(graph)


def fold(graph: Graph) -> Graph:
    """Ops on constants become constants."""
    return rebuild(graph, FOLD)


def simplify(graph: Graph) -> Graph:
    """Exact algebraic simplification."""
    return rebuild(graph, SIMPLIFY)


def write_out(graph: Graph) -> Graph:
    """Stacks of tiny matrices become values of their own."""
    return rebuild(graph, TINY)


def widen(graph: Graph) -> Graph:
    """float16 is computed in float32."""
    return rebuild(graph, HALVES)


PASSES: tuple[tuple[str, Pass], ...] = (
    ("cse", cse),
    ("roll", rolled),
    ("widen", widen),
    ("fold", fold),
    ("simplify", simplify),
    ("write_out", write_out),
    ("dce", cse),
    ("join", joined),
)


def optimise(
    graph: Graph,
    history: list[tuple[str, Graph]] | None = None,
    rules: Mapping[str, list[Rule]] | None = None,
    loops: bool = False,
) -> Graph:
    """Run every pass; ``history`` receives the graph after each.

    rules: those of the target; nothing may be made one after "join", so they go before. loops:
    whether it can run them.
    """
    for name, run in PASSES:
        if name == "roll" and not loops:
            continue
        graph = rebuild(graph, rules) if rules and name == "dce" else run(graph)
        if history is not None:
            history.append((name, graph))
        if "passes" in config.log:
            log("passes", "after %s\n%s", name, format_graph(graph))
    return graph
