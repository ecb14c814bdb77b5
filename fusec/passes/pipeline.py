"""The passes, in order: each is ``graph -> graph`` and pure, named as it appears in logs."""

from collections.abc import Callable, Collection, Mapping, Sequence

from fusec.config import config, log
from fusec.ir.graph import Graph
from fusec.ir.rewrite import Rule, rebuild
from fusec.ir.text import format_graph
from fusec.passes.centred import centred
from fusec.passes.halves import HALVES
from fusec.passes.numbers import numbers_stored
from fusec.passes.parts import joined
from fusec.passes.recur import recurrences, worth
from fusec.passes.roll import rolled
from fusec.passes.rules import FOLD, SIMPLIFY, STORED
from fusec.passes.tiny import TINY

Pass = Callable[[Graph], Graph]


def cse(graph: Graph) -> Graph:
    """One node for each value, also where it has been stored and read again."""
    return rebuild(graph, STORED)


def dce(graph: Graph) -> Graph:
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
    ("numbers", numbers_stored),
    ("centre", centred),
    ("dce", dce),
    ("join", joined),
)


def optimise(
    graph: Graph,
    history: list[tuple[str, Graph]] | None = None,
    rules: Mapping[str, list[Rule]] | None = None,
    loops: bool = False,
    without: Collection[str] = (),
) -> Graph:
    """Run every pass; ``history`` receives the graph after each.

    rules: those of the target; nothing may be made one after "join", so they go before. loops:
    whether it can run them; if not, only kernels may have loops inside. without: passes to leave.
    """
    steps: list[tuple[str, Graph]] = []
    passes = tuple([p for p in PASSES if p[0] not in without])
    found = _run(graph, steps, rules, passes)
    if not loops and any(n.op.name == "loop" for n in found.nodes()):
        steps.clear()
        found = _run(graph, steps, rules, tuple([p for p in passes if p[0] != "roll"]))
    if history is not None:
        history += steps
    return found


def _run(
    graph: Graph,
    history: list[tuple[str, Graph]],
    rules: Mapping[str, list[Rule]] | None,
    passes: Sequence[tuple[str, Pass]],
) -> Graph:
    def inner(body: Graph) -> Graph:
        return _run(body, [], rules, passes)

    special: dict[str, Pass] = {
        "roll": lambda graph: rolled(graph, lambda loop: worth(loop, inner)),
        "join": lambda graph: joined(recurrences(graph, inner)),
    }
    for name, run in passes:
        run = special.get(name, run)
        graph = rebuild(graph, rules) if rules and name == "dce" else run(graph)
        history.append((name, graph))
        if "passes" in config.log:
            log("passes", "after %s\n%s", name, format_graph(graph))
    return graph
