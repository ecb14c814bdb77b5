"""Python decisions on computed values: ``if np.any(x < 0): raise ValueError``.

The trace so far is a program that gives the value, an *ask*. ``Session.ask`` makes it and the
``Way`` runs it on the arrays of the call that is being traced, and tracing goes on with the answer:
what a trace tells holds for calls whose asks are answered alike. What an ask computes at some cost
(sums, products, NumPy's functions) it hands on, so that the program after the decision begins where
it ended.

A line that decides again and again may be that of a loop (``rounds``). Then NumPy computes value
after value, each from those of the rounds before, only to find the loop; it is given to the
``Way``, and the function is traced again, with the loop as a program that has found all answers.
"""

from __future__ import annotations

import functools
from collections import ChainMap, Counter
from collections.abc import Callable, Container, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from fusec.errors import UnsupportedError
from fusec.ir.aval import Aval
from fusec.ir.graph import Loc, Node, toposort
from fusec.trace.rounds import KEPT, LEAST, Cut, Found, search
from fusec.trace.rounds_build import Build, over, param

if TYPE_CHECKING:
    from fusec.trace.session import Session

Ask = Callable[[Sequence[Node]], Any]
"""``[what is decided, *what is handed on] -> the trace of a program for it``."""
COSTLY = frozenset(["reduce", "scan", "scatter", "matmul", "host_out"])
"""Ops, or families of them, whose results are not computed again."""
MOST_HANDED_ON = 16
MOST_ROUNDS = 10_000  # that are traced
MOST_NODES = 200_000  # of all rounds of a trace
MOST_LOOKS = 3  # decisions in a round
Run = tuple[int, int, int, list[Node]]
"""Number of the first and the last decision, how many a round makes; what to hand on, too."""
HOPE = 32  # decisions, and each time twice as many, after which they must look like loops
RECENT = 4  # decisions after which a value is forgotten that none of them has needed


class Decision(NamedTuple):
    """One that has been made: at which line, of what, the value, and the trace of its program.

    rounds: of the loop that ends with it, whose program that is.
    """

    loc: Loc | None
    node: Node
    value: np.ndarray
    trace: Any
    rounds: int = 0


class Pinned(NamedTuple):
    """An answer that a loop has found, of decisions number ``first`` on. trace: its program."""

    value: np.ndarray
    first: int
    pattern: Any
    trace: Any


class Way(Protocol):
    """Where the values of the call that is traced come from.

    most: how often a line may decide with programs of their own; loops: whether more is a loop.
    most_nodes: how many operations a program may have.
    failed: NumPy raises what the value of a decision depends on. again: what has been found says
    that the function is to be traced again.
    """

    loops: bool
    again: bool
    failed: bool
    most_nodes: float

    @property
    def most(self) -> int: ...

    def answer(self, number: int, trace: Any) -> np.ndarray:
        """The value of decision ``number``, the first result of its program."""

    def pinned(self, number: int, loc: Loc | None) -> Pinned | None:
        """The value of decision ``number``, where a loop has found it."""

    def inputs(self, trace: Any) -> list[Any]:
        """The values of a program's params in this call."""

    def found(self, found: Found, trace: Any) -> None:
        """There is a loop, and this is its program; the function is to be traced again."""

    def ended(self, number: int) -> None:
        """There are no more decisions; raises where a loop had found more answers."""

    def undecided(self, loc: Loc | None) -> None:
        """Raise that a line decides too often."""


def decided(session: Session, node: Node) -> np.ndarray | None:
    """The value of a node in this call; None where no call's values are at hand.

    Inside the body of a loop, or for one example of many, there are none.
    """
    if node in session.decided:
        return session.decided[node]
    if session.ask is None or session.way is None or not _closed(session, node):
        return None
    way, number, loc = session.way, len(session.decisions), session.location()
    pinned, trace, costly = way.pinned(number, loc), None, []
    if session.loop is not None and (pinned is None or pinned.first != session.loop.first):
        cut(session)
    again = way.loops and (session.values or session.lines[loc] >= way.most)
    if (pinned or again) and node.serial - session.decisions[0].node.serial > MOST_NODES:
        way.undecided(loc)
    if pinned is not None:
        value = np.full(node.shape, pinned.value)
        trace = session.ask([node]) if number == pinned.first else None
        session.loop = pinned
    elif again:
        value = _computed(session, node)
    else:
        roots = [*checks_of(session), node]
        resolve(session, roots)
        known = ChainMap[Node, Any](session.handed_on, session.decided)
        nodes = toposort(roots, known=known)  # all that is run
        found = [n for n in nodes if n.op.name in COSTLY or n.op.family in COSTLY]
        costly = [n for n in found if n is not node][-MOST_HANDED_ON:]
        trace = session.ask([node, *costly])
        value = way.answer(number, trace)
    session.lines[loc] += 1
    session.decisions.append(Decision(loc, node, value, trace))
    session.decided[node] = value
    for n in costly:
        session.handed_on[n] = hand_on(session, n.aval)
    return value


def hand_on(session: Session, aval: Aval) -> Node:
    """The param of what follows that has a value which is known by then."""
    made = param(f"known:{len(session.handed)}", aval)
    session.handed.append(made)
    return made


def _closed(session: Session, node: Node) -> bool:
    """Whether a node depends on nothing but the params of the function."""
    nodes, inputs = toposort([node], known=session.closed), {*session.params}
    if any(n.op.name == "param" and n not in inputs for n in nodes):
        return False
    session.closed.update(nodes)
    return True


def _computed(session: Session, node: Node) -> np.ndarray:
    """The value of a decision, which NumPy computes from those of the decisions before."""
    assert session.way is not None and session.ask is not None
    values, number = session.values, len(session.decisions)
    look = number >= HOPE and number & (number - 1) == 0
    if number >= MOST_ROUNDS or (look and not _hope(session)):
        session.way.undecided(session.location())
    nodes = toposort([*session.checks[session.checked :], node], known=values)
    session.checked = len(session.checks)
    if not values or any(n.op.name == "param" for n in nodes):
        trace = session.ask([node])
        given = zip([*session.params, *session.handed], session.way.inputs(trace))
        by_param = dict(given)
        values.update({p: (by_param[p], MOST_ROUNDS) for p in session.params})
        values.update({n: (by_param[p], number) for n, p in session.handed_on.items()})
        nodes = toposort(nodes, known=values)
    try:
        for n in nodes:
            inputs = [values[i][0] for i in n.inputs]
            values.update({i: (v, max(values[i][1], number)) for i, v in zip(n.inputs, inputs)})
            values[n] = n.op.impl(*inputs, **n.attrs), number
    except Exception as error:
        session.way.failed = True
        raise UnsupportedError("NumPy raises what a decision depends on") from error
    found = np.asarray(values[node][0])
    for n in [n for n, (_, used) in values.items() if used < number - RECENT]:
        del values[n]
    return found


def checks_of(session: Session) -> list[Node]:
    """The checks of the function, but those of what stands for one example of many."""
    closed = set(session.params)
    for node in toposort(session.checks, session.params):
        if node.op.name != "param" and closed.issuperset(node.inputs):
            closed.add(node)
    return [
        c for c in session.checks if c in closed and not any(x.proven(c) for x in session.cuts)
    ]


def after(session: Session, nodes: list[Node]) -> list[Node]:
    """These nodes, over what earlier decisions have found and handed on."""
    resolve(session, nodes)
    return over(nodes, _known(session, session.handed_on))


def _known(session: Session, handed_on: dict[Node, Node], number: int | None = None) -> Any:
    values = [(d.node, d.value) for d in session.decisions[:number]]
    return {**handed_on, **{node: session.const(value) for node, value in values}}


def told(session: Session) -> list[Decision]:
    """The decisions and the loops, without what they are about: the nodes of all rounds."""
    inside = {k for found in session.cuts for k in range(found.first, found.last)}
    found = [d for k, d in enumerate(session.decisions) if k not in inside and d.trace is not None]
    return [d._replace(node=d.trace.graph.outputs[0]) for d in found]


# -- loops ----------------------------------------------------------------------------------------


def resolve(session: Session, nodes: Sequence[Node]) -> None:
    """Let these nodes begin with what loops before them have handed on."""
    for found in session.cuts:
        known = ChainMap[Node, Any](session.handed_on, session.decided)
        read = found.read(nodes, known)
        if read is None or not found.handed.keys() >= {*read.values()}:
            session.missing = found, nodes
            raise UnsupportedError("it reads other values of a loop after so many rounds")
        for node, place in read.items():
            session.handed_on[node] = found.handed[place]


def cut(session: Session) -> None:
    """Let what follows begin with what a loop has handed on, whose rounds the trace has made."""
    loop = session.loop
    assert loop is not None
    session.loop, last = None, len(session.decisions) - 1
    session.lines.clear()
    found = Cut(session, loop.pattern, loop.first, last, _numbers(session))
    if not found.fits:
        raise UnsupportedError("its rounds are others than those of the loop that was found")
    session.decisions[last] = session.decisions[last]._replace(
        trace=loop.trace, rounds=found.rounds
    )
    for op, ago in loop.pattern.handed:
        found.handed[op, ago] = hand_on(session, loop.pattern.aval(op))
    known = {node: found.handed.get(found.ago(node)) for node in found.at}
    session.handed_on.update({node: p for node, p in known.items() if p is not None})
    session.cuts.append(found)


def _numbers(session: Session, params: Container[Node] | None = None) -> dict[Node, int]:
    """What has been handed on, with numbers; params: of the program that is meant."""
    numbers = {p: k for k, p in enumerate(session.handed) if params is None or p in params}
    return {n: numbers[p] for n, p in session.handed_on.items() if p in numbers}


def looped(session: Session, outputs: Sequence[Node]) -> tuple[Found, Build, list[Node]] | None:
    """A loop among the decisions: what its program is to compute, to be read after it."""
    runs, made = [*_runs(session)], session.decisions
    if not _few(session, runs):
        return None
    for first, last, period, extra in runs:
        later = [d.node for d in made[last + 1 :]]
        roots = [*outputs, *later, *extra, *session.checks]
        resolve(session, [*roots, *[d.node for d in made[first : last + 1]]])

        known = functools.partial(_known_at, session)
        for found in search(session, first, last, period, roots, known):
            if made[found.first].trace is None:
                continue
            handed_on = _known_at(session, found.first)
            seen = Cut(session, found.pattern, found.first, found.last, handed_on)
            here = [n for n in roots if not seen.proven(n)]
            read = seen.read(here, ChainMap[Node, Any](handed_on, session.decided))
            if seen.fits and read is not None and all(ago < KEPT for _, ago in read.values()):
                found.pattern.handed = list(dict.fromkeys(read.values()))
                params = {n: session.handed[k] for n, k in handed_on.items()}
                build = Build(session, found, params)
                return found, build, over(build.results, _known(session, params, found.first))
    return None


def _few(session: Session, runs: Sequence[Run]) -> bool:
    """Whether decisions are few enough, if those that are alike are loops."""
    lines, done = Counter[Loc | None](), 0
    for first, last, period, _ in runs:
        if first >= done:
            done = last + 1
            alone = done if done - first <= LEAST * period else first + 2 * period
            lines.update(d.loc for d in session.decisions[first:alone])
    return session.way is not None and max(lines.values(), default=0) <= session.way.most


def _hope(session: Session) -> bool:
    """Whether the first decisions of those that are alike are of a loop, before all are known."""
    runs = [*_runs(session)]
    known = functools.partial(_known_at, session)
    long = [run[:3] for run in runs if run[1] - run[0] >= LEAST * run[2]]
    some = (x for run in long if run[0] == long[0][0] for x in search(session, *run, [], known))
    return _few(session, runs) and any(session.decisions[x.first].trace for x in some)


def _known_at(session: Session, number: int) -> dict[Node, int]:
    """What had been handed on when this was decided."""
    trace = session.decisions[number].trace
    return _numbers(session, {*trace.graph.params} if trace is not None else ())


def _runs(session: Session) -> Iterator[Run]:
    """Decisions that may be those of loops, longest first where they begin with the same one."""
    done = 0
    if session.missing is not None:
        found = session.missing[0]
        session.cuts.remove(found)
        params = {*found.handed.values()}
        session.handed_on = {n: p for n, p in session.handed_on.items() if p not in params}
        period = len(found.pattern.stops)
        handed = [n for n in found.at if found.ago(n) in found.handed]
        yield found.first - period, found.last, period, handed
        return
    for found in session.cuts:
        done = max(done, found.last + 1)
    made = session.decisions
    while done < len(made):
        ends = [(_end(made, done, period), period) for period in range(1, MOST_LOOKS + 1)]
        ends = ends[:1] + [(k, period) for k, period in ends[1:] if k - done >= LEAST * period]
        for last, period in sorted(ends, key=lambda end: (-end[0], end[1])):
            yield done, last, period, []
        done = max(ends)[0] + 1


def _end(made: Sequence[Decision], first: int, period: int) -> int:
    """The last decision from ``first`` on such that all before it are as one period earlier."""
    last = first
    while last + 1 < len(made):
        here, before = made[last + 1], made[max(last + 1 - period, first)]
        if last + 1 - period >= first and here.loc != before.loc:
            break
        last += 1
        if last - period >= first and here.value != before.value:
            break
    return last
