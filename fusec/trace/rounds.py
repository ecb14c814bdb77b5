"""Loops that Python ends when a value says so: ``while err > tol``.

A trace of such a loop has decided at one line in every round, each time alike but the last. What
was computed from one decision to the next is a round; where the rounds do the same, each on what
the rounds before gave or on values from before the loop, a ``Pattern`` says what. ``Pattern.match``
proves that a trace has so many rounds of it: no more than that is ever concluded, so what Python
does after each number of rounds comes from a trace of just that many.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from fusec.ir.graph import Loc, Node, toposort

if TYPE_CHECKING:
    from fusec.trace.session import Session

LEAST = 3  # rounds in which a loop can be told
KEPT = 4  # values of the last rounds are kept
LEAVES = ("param", "const", "dim")
Links = tuple[tuple[int, int], ...]
"""For each input of an op (the op of a round, how many rounds ago) or (-1, value of before)."""
Place = tuple[int, int]
"""The op of a round, and the round, from 1 on; after the loop how many rounds ago that was."""


class Values:
    """Numbers for values from before a loop: equal ones have the same in any trace of a function.

    known: what decisions before it have handed on, with numbers.
    """

    def __init__(self, session: Session, known: Mapping[Node, int], numbers: dict[Any, int]):
        self.numbers, self.grows = numbers, not numbers
        self.params = {p: k for k, p in enumerate(session.params)}
        self.memo = {node: self._number(("known", k)) for node, k in known.items()}

    def _number(self, key: Any) -> int:
        return self.numbers.setdefault(key, len(self.numbers)) if self.grows else (
            self.numbers.get(key, -1))  # fmt: skip

    def of(self, node: Node, inside: Mapping[Node, Any]) -> int:
        """The number of a value, -1 for those that were not there or depend on nodes ``inside``."""
        if node in inside:
            return -1
        for n in toposort([node], known=_Either(self.memo, inside)):
            inputs = tuple([self.memo.get(i, -1) for i in n.inputs])
            key = ("param", self.params.get(n, n.attrs["name"])) if n.op.name == "param" else ()
            found = -1 in inputs
            self.memo[n] = -1 if found else self._number((*key, *_deed(n), inputs))
        return self.memo[node]


class _Either:
    """Two collections as one."""

    def __init__(self, *parts: Mapping[Node, Any]) -> None:
        self.parts = parts

    def __contains__(self, node: object) -> bool:
        return any(node in part for part in self.parts)


def _deed(node: Node) -> tuple[Any, ...]:
    """What a node does with its inputs."""
    attrs = () if node.op.name == "param" else tuple(node.attrs.items())
    return node.op, attrs, node.aval


@dataclass(eq=False)
class Pattern:
    """A round of a loop.

    ops: what each does, and its inputs. stops: those that are decided on, one after the other: op,
    line, and the answer as long as the loop goes on. checks: those that may
    report an error. first: what stands for the value of an op so many rounds before the first.
    numbers: see ``Values``. handed: values that are read after the loop.
    """

    ops: list[tuple[Any, Links]]
    stops: list[tuple[int, Loc | None, bool]]
    checks: frozenset[int]
    first: dict[Place, int]
    numbers: dict[Any, int]
    handed: list[Place] = field(default_factory=list)

    def decision(self, number: int) -> tuple[int, Loc | None, bool]:
        """The stop of decision ``number`` of a loop."""
        return self.stops[number % len(self.stops)]

    def rounds(self, decisions: int) -> int:
        """In how many rounds so many decisions are made."""
        return -(-decisions // len(self.stops))

    @cached_property
    def fixed(self) -> set[int]:
        """Ops whose values are the same in every round."""
        found: set[int] = set()
        for op, (_, links) in enumerate(self.ops):
            if all(x < 0 or (x in found and not ago) for x, ago in links):
                found.add(op)
        return found

    def aval(self, op: int) -> Any:
        """What the value of an op is like."""
        return self.ops[op][0][2]

    def match(self, decided: Sequence[Node], values: Values) -> dict[Node, Place] | None:
        """Where each node stands of which these decisions are made; None if that differs."""
        at: dict[Node, Place] = {}
        nothing: dict[Node, Any] = {}
        ops = [self.decision(k)[0] for k in range(len(decided))]
        turns = [self.rounds(k + 1) for k in range(len(decided))]
        stack = [*zip(decided, ops, turns)][::-1]
        while stack:
            node, op, turn = stack.pop()
            if turn < 1:
                if values.of(node, nothing) != self.first.get((op, 1 - turn), -2):
                    return None
                continue
            if node in at:
                if at[node] != (op, turn):
                    return None
                continue
            deed, links = self.ops[op]
            if deed != _deed(node):
                return None
            at[node] = op, turn
            for x, (source, ago) in zip(node.inputs, links):
                if source >= 0:
                    stack.append((x, source, turn - ago))
                elif values.of(x, nothing) != ago:
                    return None
        return at

    def extend(
        self, at: dict[Node, Place], last: int, nodes: Iterable[Node], values: Values
    ) -> None:
        """Find nodes of the rounds that no decision depends on. nodes: inputs before users."""
        same: dict[Any, list[int]] = {}
        for op, (deed, _) in enumerate(self.ops):
            same.setdefault(deed, []).append(op)
        for node in nodes:
            for op in same.get(_deed(node), ()) if node not in at else ():
                links = self.ops[op][1]
                used = [(at[x][1], *link) for x, link in zip(node.inputs, links) if x in at]
                turns = [turn + ago for turn, source, ago in used if source not in self.fixed]
                turn = turns[0] if turns else last if op in self.fixed else 1
                if 1 <= turn <= last and self._stands(node, links, turn, at, values):
                    at[node] = op, turn
                    break

    def _stands(
        self, node: Node, links: Links, turn: int, at: dict[Node, Place], values: Values
    ) -> bool:
        for x, (op, ago) in zip(node.inputs, links):
            if op >= 0 and turn > ago:
                found = at.get(x, (-1, 0))
                if found != (op, turn - ago) and (op != found[0] or op not in self.fixed):
                    return False
            elif values.of(x, at) != (self.first.get((op, 1 - turn + ago), -2) if op >= 0 else ago):
                return False
        return True


@dataclass(eq=False)
class Found:
    """A loop in a trace: decisions number ``first`` to ``last`` are those of its rounds.

    nodes: one for each op of the pattern. shared: values from before the loop, by number; begun:
    as ``Pattern.first``.
    """

    pattern: Pattern
    first: int
    last: int
    nodes: list[Node]
    shared: dict[int, Node]
    begun: dict[Place, Node]

    @property
    def rounds(self) -> int:
        return self.pattern.rounds(self.last - self.first + 1)


class _Differs(Exception):
    """The rounds are not alike."""


class Chains:
    """Nodes that stand for each other in rounds that follow each other. earlier: one round before.

    nodes: that are decided on, ``period`` in each round. start: the first round that may be one of
    a loop. roots: what else is computed, which may depend on what no decision does.
    """

    def __init__(self, nodes: Sequence[Node], period: int, roots: Sequence[Node]) -> None:
        self.nodes, self.start = nodes, 1
        self.ends = [n.serial for n in nodes[period - 1 :: period]]
        if len(nodes) % period:
            self.ends.append(nodes[-1].serial)
        self.earlier: dict[Node, Node] = {}
        self.later: dict[Node, Node] = {}
        for here, before in zip(nodes[2 * period :], nodes[period:]):
            self._pair(here, before)
        by_round: list[dict[Any, Node]] = [{} for _ in self.ends]
        count = Counter[Any]()
        for node in toposort(roots, known=_Either(self.earlier, self.later)):
            turn = self.round_of(node)
            if node.op.name not in LEAVES and 0 < turn < len(self.ends):
                key = turn, node.loc, _deed(node)
                count[key] += 1
                by_round[turn][(*key[1:], count[key])] = node
        for earlier, later in pairwise(by_round):
            for key in [key for key in later if key in earlier]:
                self._pair(later[key], earlier[key])

    def round_of(self, node: Node) -> int:
        """0: before the loop."""
        return bisect_left(self.ends, node.serial)

    def _pair(self, here: Node, before: Node) -> None:
        stack = [(here, before)]
        while stack:
            a, b = stack.pop()
            if self.earlier.get(a) is b:
                continue
            if not self._alike(a, b):
                self.start = max(self.start, self.round_of(b) + 1)
                continue
            self.earlier[a], self.later[b] = b, a
            for x, y in zip(a.inputs, b.inputs):
                if x.op.name in LEAVES and y.op.name in LEAVES:
                    if x is not y and (x.op.name == "param" or _deed(x) != _deed(y)):
                        self.start = max(self.start, self.round_of(b) + 1)
                elif x is y:
                    self.start = max(self.start, self.round_of(x) + 1)
                else:
                    stack.append((x, y))

    def _alike(self, a: Node, b: Node) -> bool:
        """Whether a may be to its round what b is to the one before."""
        same = _deed(a) == _deed(b) and len(a.inputs) == len(b.inputs)
        step = self.round_of(a) - self.round_of(b) == 1
        return same and step and a not in self.earlier and b not in self.later

    def classes(self, start: int) -> list[dict[int, Node]]:
        """For each op of a round the nodes by rounds, in order."""
        numbers: dict[Node, int] = {}
        found: list[dict[int, Node]] = []
        for a in sorted(self.earlier, key=lambda n: n.serial):
            b = self.earlier[a]
            if self.round_of(b) >= start:
                if b not in numbers:
                    numbers[b] = len(found)
                    found.append({self.round_of(b): b})
                numbers[a] = numbers[b]
                found[numbers[a]][self.round_of(a)] = a
        self.numbers = numbers
        return found


def search(
    session: Session, first: int, last: int, period: int, roots: Sequence[Node],
    known: Callable[[int], Mapping[Node, int]],
) -> Iterator[Found]:  # fmt: skip
    """The loops that decisions number first to last may be, with the first of them before it.

    period: of them in a round. roots: what is computed after it. known: what the decisions before
    one have handed on.
    """
    made = session.decisions[first : last + 1]
    nodes = [d.node for d in made]
    if len(nodes) <= LEAST * period or any(a.serial >= b.serial for a, b in pairwise(nodes)):
        return
    chains = Chains(nodes, period, roots)
    for start in range(chains.start, chains.start + 3):
        if len(chains.ends) - start >= LEAST:
            low = start * period
            try:
                found = _pattern(session, chains, start, known(first + low))
            except _Differs:
                continue
            found.first, found.last = first + low, last
            for d in made[low + period : low + 2 * period]:
                op = chains.numbers.get(d.node, -1)
                if op < 0 or found.nodes[op].aval.size != 1 or found.nodes[op].dtype.kind != "b":
                    return
                found.pattern.stops.append((op, d.loc, bool(d.value)))
            yield found


def _pattern(session: Session, chains: Chains, start: int, known: Mapping[Node, int]) -> Found:
    classes, values = chains.classes(start), Values(session, known, {})
    nodes = [members[max(members)] for members in classes]
    shared: dict[int, Node] = {}
    inside: dict[Node, Any] = {}
    ops: list[tuple[Any, Links]] = []
    for node in nodes:
        links = []
        for x in node.inputs:
            if x.op.name not in LEAVES and chains.round_of(x) >= start:
                if x not in chains.numbers:
                    raise _Differs
                links.append((chains.numbers[x], chains.round_of(node) - chains.round_of(x)))
            else:
                links.append((-1, values.of(x, inside)))
                shared[links[-1][1]] = x
        if any(ago > KEPT for op, ago in links if op >= 0):
            raise _Differs
        ops.append((_deed(node), tuple(links)))
    begun: dict[Place, Node] = {}
    for (_, links), members in zip(ops, classes):
        for turn in range(start, start + KEPT):
            for slot, (op, ago) in enumerate(links):
                if op >= 0 and turn in members and turn - ago < start:
                    x = members[turn].inputs[slot]
                    begun.setdefault((op, start - turn + ago), x)
                    if x.aval != nodes[op].aval:
                        raise _Differs
    first = {place: values.of(x, inside) for place, x in begun.items()}
    checks = frozenset([chains.numbers[c] for c in session.checks if c in chains.numbers])
    pattern = Pattern(ops, [], checks, first, values.numbers)
    return Found(pattern, 0, 0, nodes, shared, begun)


class Cut:
    """So many rounds of a loop in a trace, which a program has run. handed: params for its results.

    fits: whether the decisions are those of such rounds.
    """

    def __init__(
        self, session: Session, pattern: Pattern, first: int, last: int, known: Mapping[Node, int]
    ) -> None:
        self.pattern, self.first, self.last = pattern, first, last
        self.values = Values(session, known, pattern.numbers)
        self.values.grows = False
        nodes = [d.node for d in session.decisions[first : last + 1]]
        self.begin = session.decisions[first - 1].node.serial
        self.rounds, found = pattern.rounds(len(nodes)), pattern.match(nodes, self.values)
        before = first + (self.rounds - 1) * len(pattern.stops) - 1
        self.end = session.decisions[before].node.serial  # of all rounds but the last
        self.fits, self.at = found is not None, found or {}
        self.handed: dict[Place, Node] = {}

    def proven(self, node: Node) -> bool:
        """Whether the rounds have made sure that a node reports no error."""
        return node in self.at and self.at[node][0] in self.pattern.checks

    def read(self, roots: Sequence[Node], known: Mapping[Node, Any]) -> dict[Node, Place] | None:
        """What of the rounds these nodes depend on, None if on more. known: what they end with."""
        order = toposort(roots, known=_Either(self.at, known))
        self.pattern.extend(self.at, self.rounds, order, self.values)
        rest = toposort(roots, known=_Either(self.at, known))
        if any(self.begin < n.serial <= self.end and n.op.name not in LEAVES for n in rest):
            return None
        used = [*roots, *[x for n in rest for x in n.inputs]]
        return {x: self.ago(x) for x in used if x in self.at and x not in known}

    def ago(self, node: Node) -> Place:
        op, turn = self.at[node]
        return op, self.rounds - turn
