"""Which values have a buffer in any case, and which are computed again where they are read.

A value that is read once, at another index, costs nothing more inside its reader; a cheap one costs
less than a store and a load. Neither becomes a member of a group.
"""

import numpy as np

from fusec.ir.graph import Graph, Node
from fusec.ops.registry import COSTLY
from fusec.passes.access import MOVES
from fusec.passes.groups import (
    LEAVES,
    POINTWISE,
    changing,
    fusable,
    is_call,
    is_free,
    is_joined,
    path_kind,
    source_of,
)
from fusec.trace.standin import stand_in

MAX_RECOMPUTE = 4  # additions that are cheaper to do again than a store and a load


def stored_values(graph: Graph, order: list[Node]) -> set[Node]:
    """Nodes that must have a buffer of the program's own: results, and what calls read.

    Where arguments are changed where they lie, what is checked is stored before that.
    """
    roots = set(graph.outputs)
    if changing(order):
        roots |= {node for node in order if node.op.checked}
    for node in order:
        every = is_call(node) or is_joined(node)  # a joined scatter runs when all else is done
        whole = node.inputs if every else node.inputs[: node.op.family == "scatter"]
        for child in whole:
            if not (node.op.name == "matmul" and node.dtype.kind == "f" and copied(child)):
                child = source_of(child)
            if child.op.name not in ("param", "const", "iota" if is_joined(node) else "const"):
                roots.add(child)
    return roots


def copied(operand: Node) -> bool:
    """Whether NumPy's BLAS would be given a copy: a kernel stores it, and the program calls BLAS.

    ``A @ np.zeros(n)`` has a vector of one number, ``windows.reshape(-1, 9) @ w`` is no view.
    """
    source, moves = operand, list[Node]()
    while source.op.name in MOVES:
        moves.append(source)
        source = source.inputs[0]
    base = view = stand_in(source.shape, source.dtype)
    for move in reversed(moves):
        view = move.op.impl(view, **move.attrs)
    axes = sorted([a for a in zip(view.strides[-2:], view.shape[-2:]) if a[1] > 1])
    steps = [s // view.itemsize for s, _ in axes]
    rows = len(axes) == 2
    fits = steps[0] == 1 and steps[1] >= axes[0][1] if rows else min(steps, default=1) > 0
    return bool(moves) and not (fits and np.may_share_memory(view, base))


def cheap(node: Node, inline: set[Node]) -> bool:
    """Whether a value and what is computed again for it are a few additions."""
    if node.op.family != "elementwise":
        return False
    price, stack = 0, [node]
    while stack and price <= MAX_RECOMPUTE:
        last = stack.pop()
        price += last.op.cost
        again = [s for s in map(source_of, last.inputs) if s in inline]
        stack += [s for s in again if s.aval.size > 1]  # a number is computed once
    return price <= MAX_RECOMPUTE


def placing(order: list[Node], roots: set[Node]) -> list[Node]:
    """``order``, with reductions of what is stored anyway, and what needs them, at the end.

    A kernel takes reductions over the same axes only: first come those that save a buffer.
    """
    late: dict[Node, None] = {}
    for node in order:
        source = source_of(node.inputs[0]) if node.op.family == "reduce" else None
        if (source in roots and not is_call(source)) or any(i in late for i in node.inputs):
            late[node] = None
    return [n for n in order if n not in late] + list(late)


def recomputed(order: list[Node], roots: set[Node], again: bool = True) -> set[Node]:
    """Values that are computed again where they are read (see ``MAX_RECOMPUTE``).

    again: False keeps this to numbers and positions, for programs that would grow too large.
    """
    uses: dict[Node, list[str]] = {}
    users: dict[Node, set[Node]] = {}
    for node in order:
        if node.op.name in MOVES and node not in roots:
            continue
        for child in node.inputs:
            source, how = path_kind(child, node)
            uses.setdefault(source, []).append(how)
            users.setdefault(source, set()).add(node)
    inline: set[Node] = set()
    made: set[Node] = set()  # read no arrays
    cost: dict[Node, int] = {}
    results: set[Node] = set()  # of reductions, and what is made of them element by element

    def unread(source: Node) -> bool:
        return source.op.name in LEAVES or source in made or source.aval.size == 1

    for node in order:
        wide = (s for s in map(source_of, node.inputs) if s.aval.size == node.aval.size)
        if node.op.family == "reduce" or any(s in results for s in wide):
            results.add(node)
        if not fusable(node) or node.op.family not in POINTWISE | {"movement"}:
            continue
        if is_free(node):
            continue
        price = node.op.cost + sum(cost.get(source_of(i), 0) for i in node.inputs)
        ways = uses.get(node, [])
        if node in roots or not ways:
            continue
        # Numbers, and values of nothing but positions, are no work for a kernel of their own.
        if all(map(unread, map(source_of, node.inputs))):
            made.add(node)
        if price <= 2 * COSTLY and (node.aval.size == 1 or node in made):
            inline.add(node)
            cost[node] = price
            continue
        if not again or all(w == "same" for w in ways):
            continue
        once = (len(ways) == 1 and ways[0] == "moved") or _rearranged(node, ways, users[node])
        once = once or (price < COSTLY and _shifted(node, ways, users))
        cheap = price <= MAX_RECOMPUTE and node.op.family == "elementwise"
        own = {s for s in map(source_of, node.inputs) if users[s] == {node} and fusable(s)}
        own = {s for s in own - inline - roots if not is_free(s)}
        cheap = cheap and len(own) < 2  # else one store instead of several
        kernel = node in results and "spread" in ways  # that reduces can make it, once
        whole, price_of_all = _alone(node, own, users, inline | roots, cost)
        if not kernel and price_of_all * max(1, len(ways) - 1) <= MAX_RECOMPUTE:
            inline |= whole
            cost[node] = price_of_all
        elif once or (cheap and not kernel):
            inline.add(node)
            cost[node] = price
    if again:
        _swallow(order, roots, inline, uses)
    return inline


def _alone(
    node: Node,
    own: set[Node],
    users: dict[Node, set[Node]],
    apart: set[Node],
    cost: dict[Node, int],
) -> tuple[set[Node], int]:
    """A value with all that is computed for it alone, element by element, and what that costs.

    own: what only it reads; apart: what is computed elsewhere, or where it is read.
    """
    found, price, stack = {node}, 0, [node]
    dear = MAX_RECOMPUTE + 1
    while stack and price <= MAX_RECOMPUTE:
        last = stack.pop()
        price += last.op.cost + sum(cost.get(source_of(i), 0) for i in last.inputs)
        if last.op.family != "elementwise":
            return found, dear
        for child in last.inputs:
            alone = child in own if last is node else users.get(child) == {last}
            if alone and child not in apart and not is_free(child):
                found.add(child)
                stack.append(child)
        if last is node and own - found:  # read at another place
            return found, dear
    return found, price


def _rearranged(node: Node, ways: list[str], users: set[Node]) -> bool:
    """Whether all reads are the parts of one concatenation that is no larger (``np.roll``)."""
    if len(users) != 1 or any(w != "moved" for w in ways):
        return False
    (user,) = users
    return user.op.name == "concatenate" and user.aval.size <= node.aval.size


def _shifted(node: Node, ways: list[str], users: dict[Node, set[Node]]) -> bool:
    """Whether all reads are a chain of updates with its own parts: one for each element.

    ``g[0] = g[1]; g[-1] = g[-2]``: the last of the chain is ``g`` with rows in other places.
    """
    chain, readers = [node], users[node]
    if "spread" in ways or any(u.op.name != "slice_update" or is_joined(u) for u in readers):
        return False
    while len(found := [u for u in readers if u.inputs[0] is chain[-1]]) == 1:
        if chain[-1] is not node and users[chain[-1]] != {*found}:
            return False
        chain += found
    return len(chain) == len(readers) + 1


def _swallow(
    order: list[Node], roots: set[Node], inline: set[Node], uses: dict[Node, list[str]]
) -> None:
    """What only one inlined value needs is computed where that value is.

    Only values that are read at one index: else each level of a nest would double the work.
    """
    readers: dict[Node, set[Node]] = {}
    home: dict[Node, Node] = {}
    for node in reversed(order):
        users = readers.get(node, set())
        homes = {home.get(u) for u in users}
        ways = uses.get(node, [])
        single = len(ways) == 1 or all(w == "same" for w in ways)
        movable = single and fusable(node) and node.op.family in POINTWISE and node not in roots
        if node in inline and (len(ways) == 1 or _shifted(node, ways, readers)):
            home[node] = node
        elif (
            movable
            and node not in inline
            and len(homes) == 1
            and None not in homes
            and users <= inline
        ):
            inline.add(node)
            home[node] = next(iter(homes))  # type: ignore[assignment]
        if node.op.name in MOVES and node not in roots:
            continue
        for child in node.inputs:
            readers.setdefault(source_of(child), set()).add(node)
