"""From a group of nodes to scalar lines: movement ops vanish here.

Every node is evaluated at an index; a movement op turns that index into its input's, an
elementwise op becomes one line, a buffer becomes a load at ``sum(stride * index)``.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from fusec.codegen.loops import (
    Block,
    Body,
    Bound,
    Buffer,
    Fold,
    Line,
    Place,
    Store,
    decided,
    simplified,
)
from fusec.ir.aval import short
from fusec.ir.graph import Node
from fusec.ops import OPS
from fusec.ops.elementwise import expression, is_narrow
from fusec.ops.registry import COSTLY, MEDIUM
from fusec.passes.access import ZERO, Data, Index, flatten
from fusec.passes.groups import Group, Idx, inputs_at, reduced_names, region_index

INT = np.dtype(np.int64)
IDENTITY: dict[str, Callable[[np.dtype], str]] = {
    "sum": lambda d: "-0.0" if d.kind == "f" else "0",
    "prod": lambda d: "1",
    "max": lambda d: "-inf" if d.kind == "f" else str(_limits(d)[0]),
    "fmax": lambda d: "nan" if d.kind == "f" else str(_limits(d)[0]),
    "min": lambda d: "inf" if d.kind == "f" else str(_limits(d)[1]),
    "fmin": lambda d: "nan" if d.kind == "f" else str(_limits(d)[1]),
    "any": lambda d: "0",
    "all": lambda d: "1",
}
SCANS = {"sum": "add", "prod": "multiply", "max": "maximum", "min": "minimum"}


def _limits(dtype: np.dtype) -> tuple[int, int]:
    if dtype.kind == "b":
        return 0, 1
    info = np.iinfo(dtype)
    return int(info.min), int(info.max)


@dataclass
class Layout:
    """Where values lie (elements), before the group runs and when it stores them.

    replaces: the param in whose memory an output lies, if any.
    """

    place: Callable[[Node], Place]
    stored: Callable[[Node], bool]
    out_place: Callable[[Node], Place]
    replaces: Callable[[Node], Node | None] = lambda node: None


def lower(group: Group, layout: Layout) -> Body:
    """The scalar program of ``group``. Loads come from values that ``layout`` says are stored."""
    return Lowering(group, layout).run()


class Lowering:
    def __init__(self, group: Group, layout: Layout) -> None:
        self.group = group
        self.layout = layout
        self.lines: list[Line] = []
        self.memo: list[dict[tuple[Node, Idx | None], Line]] = [{}]
        self.loads: dict[tuple[Node, Index], Line] = {}
        self.buffers: dict[Node, Buffer] = {}
        self.folds: list[Fold] = []
        self.numbers: dict[str, int] = {}

    def run(self) -> Body:
        group = self.group
        stores = []
        outs: dict[Node, Buffer] = {}
        for node in group.members:
            if node.op.name != "entries":
                self.value(node, group.members[node])
        for node in group.outputs:
            place = self.layout.out_place(node)
            replaced = self.layout.replaces(node)
            if replaced is not None:
                buffer = self._buffer(replaced)
            else:
                if place.node not in outs:
                    name = self._name("y")
                    outs[place.node] = Buffer(name, node.dtype, place.strides, "out", place.node)
                buffer = outs[place.node]
            stores += [
                Store(buffer, place.at(idx), self.value(x, at), inside=place.node is replaced)
                for x, at, idx in self._parts(node)
            ]
        return self.body(stores)

    def body(self, stores: list[Store]) -> Body:
        """The lines so far with what is stored of them."""
        group = self.group
        reduced = tuple([v for v in group.extents if v in group.reduced])
        short = tuple([v for v in group.extents if v in group.short])
        names = list(dict.fromkeys(m.op.name for m in group.members))
        notes = [(_describe(m), m.loc) for m in group.members]
        title = ", ".join(names[:12]) + (" ..." if len(names) > 12 else "")
        return Body(group.extents, reduced, self.lines, stores, self.folds, title, notes, short)

    def _parts(self, node: Node) -> Iterator[tuple[Node, Idx, Idx]]:
        """What is stored for ``node``: a value, its index, and its place in the buffer."""
        idx = self.group.members[node]
        if node.op.name != "entries":
            yield node, idx, idx
            return
        for part, place in zip(node.inputs, np.ndindex(node.attrs["core"])):
            at = [Index((), k) for k in place]
            yield part, idx, (*at, *idx) if node.attrs.get("first") else (*idx, *at)

    # -- helpers ------------------------------------------------------------------------------

    def _name(self, prefix: str) -> str:
        number = self.numbers.get(prefix, 0)
        self.numbers[prefix] = number + 1
        return f"{prefix}{number}"

    def _add(self, line: Line) -> Line:
        line.variables = line.variables.union(*[a.variables for a in line.args])
        line.stage = max([line.stage, *[a.stage for a in line.args]])
        self.lines.append(line)
        return line

    def _op(
        self, text: str, args: Iterable[Line], dtype: np.dtype, cost: int, effect: bool = False
    ) -> Line:
        name = "" if effect else self._name("t")
        return self._add(Line(name, "op", dtype, text, tuple(args), cost=cost, effect=effect))

    def value(self, node: Node, idx: Idx) -> Line:
        """The line that holds ``node`` at ``idx``."""
        key = (node, idx)
        for scope in reversed(self.memo):
            if key in scope:
                return scope[key]
        line = self._compute(node, idx)
        self.memo[-1][key] = line
        return line

    def _compute(self, node: Node, idx: Idx) -> Line:
        op = node.op
        if node not in self.group.members and self.layout.stored(node):
            return self._load(node, idx)
        if op.name == "param":
            return self._load(node, idx)
        if op.name == "const":
            return self._const(node, idx)
        if op.name == "dim":
            return self._add(Line(self._name("d"), "size", INT, str(node.attrs["value"])))
        if op.name == "iota":
            return self._index(idx[node.attrs["axis"]])
        if op.family == "reduce":
            return self._reduce(node)
        if op.family == "scan":
            return self._scan(node, idx)
        if op.name in ("concatenate", "slice_update", "pad"):
            return self._regions(node, idx)
        if op.family == "gather":
            array, *places = inputs_at(node, idx, self.group)
            for place in places:  # checked even where all elements of the array are one
                self.value(*place)  # type: ignore[arg-type]
            return self.value(*array)  # type: ignore[arg-type]
        args = [self.value(i, at) for i, at in inputs_at(node, idx, self.group) if at is not None]
        if op.family == "movement":
            return args[0]
        return self._elementwise(node, args)

    # -- one method for each kind of node ---------------------------------------------------------

    def _elementwise(self, node: Node, args: list[Line]) -> Line:
        dtypes = [i.dtype for i in node.inputs]
        holes = [f"{{{k}}}" for k in range(len(args))]
        if node.op.checked:
            bad = expression(OPS[node.op.name], holes, dtypes, node.dtype, key="!")
            if bad:
                self._op(bad, args, np.dtype(bool), 1, effect=True)
        text = expression(OPS[node.op.name], holes, dtypes, node.dtype, attrs=node.attrs)
        assert text is not None, node
        return self._op(text, args, node.dtype, node.op.cost)

    def _const(self, node: Node, idx: Idx) -> Line:
        array = node.attrs["value"].value
        if array.size != 1:
            return self._load(node, idx)
        value = array.reshape(())
        if value.dtype == np.float64 and np.isfinite(value):  # what Numba takes a literal for
            return Line(repr(float(value)), "literal", node.dtype)
        return self._add(Line(self._name("c"), "op", node.dtype, literal(value)))

    def _index(self, index: Index) -> Line:
        line = Line(self._name("k"), "index", INT, index=index, cost=1)
        line.variables = frozenset(index.variables())
        line.data = self.data(index)
        line.args = tuple(line.data.values())
        return self._add(line)

    def _buffer(self, node: Node) -> Buffer:
        if node not in self.buffers:
            strides = self.layout.place(node).strides
            self.buffers[node] = Buffer(self._name("x"), node.dtype, strides, "in", node)
        return self.buffers[node]

    def _load(self, node: Node, idx: Idx) -> Line:
        place = self.layout.place(node)
        buffer = self._buffer(place.node)
        index = place.at(idx)
        found = self.loads.get((place.node, index)) if len(self.memo) == 1 else None
        if found is not None:
            return found
        data = self.data(index)
        line = Line(
            self._name("v"),
            "load",
            node.dtype,
            args=tuple(data.values()),
            index=index,
            buffer=buffer,
            cost=MEDIUM if data else 1,
            variables=frozenset(index.variables()),
            data=data,
        )
        if len(self.memo) == 1:
            self.loads[place.node, index] = line
        return self._add(line)

    def data(self, index: Index) -> dict[Data, Line]:
        """The lines of the values that an index depends on."""
        return {d: self.value(d.node, d.idx) for d in index.data()}

    def _reduce(self, node: Node) -> Line:
        idx = self.group.reads[node]
        value, axes = self.value(node.inputs[0], idx), reduced_names(node, idx)
        if not axes:
            return value  # of one element
        result = Line(
            self._name("r"),
            "fold",
            node.dtype,
            variables=frozenset().union(*[i.variables() for i in self.group.members[node]]),
            stage=value.stage + 1,
            cost=10 * COSTLY,
        )
        self.lines.append(result)
        op = node.op.name.removeprefix("reduce_")
        self.folds.append(Fold(op, value, result, _start(op, node.dtype), axes))
        return result

    def _scan(self, node: Node, idx: Idx) -> Line:
        value = self.value(node.inputs[0], idx)
        if not reduced_names(node, idx):
            return value  # along one element
        op = node.op.name.removeprefix("scan_")
        text = expression(OPS[SCANS[op]], ("{carry}", "{0}"), [node.dtype] * 2, node.dtype)
        assert text is not None
        line = Line(self._name("q"), "scan", node.dtype, text, (value,), cost=10 * COSTLY)
        line.index = Index((), 0)
        line.variables = frozenset(self.group.extents)
        line.buffer = Buffer(_start(op, node.dtype), node.dtype, (), "carry")
        return self._add(line)

    def _regions(self, node: Node, idx: Idx) -> Line:
        """A value that comes from different inputs in different regions of the result."""
        if node.op.name == "slice_update":
            base, new = node.inputs
            bounds = _update_bounds(node, idx)
            return self._branch(
                bounds,
                lambda: self.value(new, _clean(region_index(node, idx), new.shape)),
                lambda: self.value(base, idx),
                node.dtype,
            )
        if node.op.name == "pad":
            (x, at), (fill, _) = inputs_at(node, idx, self.group)
            assert at is not None
            limits = [Bound(i, 0, n) for i, n in zip(at, x.shape)]
            return self._branch(
                limits,
                lambda: self.value(x, _clean(at, x.shape)),
                lambda: self.value(fill, ()),
                node.dtype,
            )
        parts = list(inputs_at(node, idx, self.group))
        return self._concatenated(node, [p for p in parts if p[0].aval.size] or parts[:1])

    def _concatenated(self, node: Node, parts: list[tuple[Node, Idx | None]]) -> Line:
        part, at = parts[0]
        assert at is not None
        first = _clean(at, part.shape)
        if len(parts) == 1:
            return self.value(part, first)
        axis = node.attrs["axis"]
        limit = Bound(at[axis], None, part.shape[axis])
        return self._branch(
            [limit],
            lambda: self.value(part, first),
            lambda: self._concatenated(node, parts[1:]),
            node.dtype,
        )

    def _branch(
        self,
        bounds: list[Bound],
        then: Callable[[], Line],
        other: Callable[[], Line],
        dtype: np.dtype,
    ) -> Line:
        bounds = [simplified(b, b.index, self.group.extents) for b in bounds]
        side = decided(bounds)
        if side is not None:
            return (then, other)[side]()
        bounds = [b for b in bounds if b.index.terms]
        data = {d: x for b in bounds for d, x in self.data(b.index).items()}
        blocks = (self._block(then), self._block(other))
        line = Line(self._name("w"), "branch", dtype, guard=bounds, blocks=blocks, data=data)
        line.args = tuple(data.values())
        inner = [*blocks[0].lines, *blocks[1].lines, blocks[0].value, blocks[1].value]
        names = frozenset().union(*[b.index.variables() for b in bounds])
        line.variables = names.union(*[x.variables for x in inner])
        line.stage = max(x.stage for x in inner)
        line.cost = 2 + max(sum(x.cost for x in b.lines) for b in blocks)
        self.lines.append(line)
        return line

    def _block(self, build: Callable[[], Line]) -> Block:
        outer, self.lines = self.lines, []
        self.memo.append({})
        value = build()
        lines, self.lines = self.lines, outer
        self.memo.pop()
        # Reductions and their arguments are computed in loops of their own, never in a branch.
        if any(x.kind in ("fold", "scan") for x in lines):
            self.lines += lines
            lines = []
        return Block(lines, value)


def _start(op: str, dtype: np.dtype) -> str:
    return f"cast_{short(dtype)}({IDENTITY[op](dtype)})"


def _clean(idx: Idx, shape: tuple[int, ...]) -> Idx:
    return tuple([ZERO if n == 1 else i for i, n in zip(idx, shape)])


def _update_bounds(node: Node, idx: Idx) -> list[Bound]:
    found = []
    for i, b, s, n in zip(idx, node.attrs["start"], node.attrs["step"], node.inputs[1].shape):
        last = b + (n - 1) * s
        low, high = min(b, last), max(b, last) + 1
        found.append(Bound(i.plus(Index((), -low)), 0, high - low, abs(s)))
    return found


def literal(value: np.ndarray) -> str:
    """A 0-d constant as kernel source."""
    kind = value.dtype.kind
    if kind == "c":
        part = "f4" if value.dtype.itemsize == 8 else "f8"
        re, im = float(value.real), float(value.imag)
        return f"cmake(cast_{part}({re!r}), cast_{part}({im!r}))"
    if is_narrow(value.dtype):  # moved as bits, never computed with
        return f"cast_u2({int(value.view(np.uint16))})"
    item = int(value) if kind in "iub" else float(value)
    return f"cast_{short(value.dtype)}({item!r})"


def _describe(node: Node) -> str:
    return f"{node.op.name} {short(node.dtype)}"  # no shape: one text serves all sizes


__all__ = ["Layout", "flatten", "literal", "lower"]
