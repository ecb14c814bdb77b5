"""What every emitter needs: arguments by name, index expressions and scalar lines as source.

Sizes, strides and offsets do not appear as numbers: they become int arguments, and the constant
part of an address moves into the pointer that the runtime passes. So one source serves every size.
A stride of a few elements along the vector axis (the channels of an image) is the exception::

    v0 = x0[i1 * 3]
    v1 = x0[i1 * 3 + 1]    # one pointer: LLVM reads whole vectors and shuffles

So are the distances of elements that stand next to each other, from the first of them.
"""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fusec.codegen.loops import TURN, Block, Bound, Buffer, Fold, Line
from fusec.codegen.schedule import Schedule, all_lines
from fusec.codegen.unroll import PAIRS
from fusec.codegen.writer import Writer
from fusec.ir.aval import is_bfloat, short
from fusec.ir.graph import Loc, Node
from fusec.ops import OPS
from fusec.ops.elementwise import expression
from fusec.ops.registry import COSTLY
from fusec.passes.access import Data, Index, Quotient, Remainder

HEADER = (
    "from numpy import inf, nan\n\n"
    "from fusec.codegen.pointers import *\nfrom fusec.codegen.primitives import *\n"
)
CUDA_HEADER = HEADER.replace("pointers", "cuda_threads")

GRAIN_NS = 40_000.0  # of work that is worth waking a thread for
SHORT_STRIDE = 4  # the longest stride that is written into the source
RECORD = 16  # the longest, where most of the elements between are read or written as well
PLAIN_RECORD = 8  # the longest where little is computed between reading and writing


@dataclass
class Pointer:
    """A pointer argument: ``offset`` elements into the memory of ``buffer``."""

    name: str
    buffer: Buffer
    offset: int

    @property
    def dtype(self) -> np.dtype:
        return self.buffer.dtype


@dataclass
class KernelSource:
    """A kernel as text with what to pass to it.

    rows: the grid; work: estimated nanoseconds a row; scratch: bytes a thread needs (the last
    pointer argument, when not 0); partial: elements of each array between two kernels. For CUDA:
    grid and block in (x, y); aligned: vector loads need pointers that are multiples of 16 bytes;
    product: shape and strides of the three matrices of a product, which a library may do instead;
    threads: a library that it calls has threads of its own; plan: the loops of a map.
    """

    name: str
    text: str
    ints: list[tuple[str, int]]
    pointers: list[Pointer]
    rows: int
    work: float
    scratch: int = 0
    partial: dict[str, int] = field(default_factory=dict)
    notes: list[tuple[str, Loc | None]] = field(default_factory=list)
    bytes_read: int = 0
    bytes_written: int = 0
    outputs: list[Node] = field(default_factory=list)
    grid: tuple[int, int] = (0, 0)
    block: tuple[int, int] = (0, 0)
    aligned: bool = False
    product: tuple[Any, Any, Any] | None = None
    threads: bool = False
    plan: Any = None

    @property
    def launch_text(self) -> str:
        """How it is launched: its rows, or its blocks and their threads; rounds inside."""
        rounds = dict(self.ints).get(f"n_{TURN}")
        inside = "" if rounds is None else f", {rounds} rounds"
        if not self.grid[0]:
            return ("1 row" if self.rows == 1 else f"{self.rows} rows") + inside
        (across, down), (x, y) = self.grid, self.block
        return f"{across} x {down} blocks of {x} x {y} threads{inside}"

    @property
    def int_names(self) -> tuple[str, ...]:
        return tuple([name for name, _ in self.ints])

    @property
    def ptr_types(self) -> tuple[tuple[str, str], ...]:
        types = [(p.name, "<u2" if is_bfloat(p.dtype) else p.dtype.str) for p in self.pointers]
        if self.scratch:
            types.append(("scratch", "|u1"))
        return tuple(types)


class Emitter:
    """Names the arguments and prints scalar lines; subclasses write the loops around them."""

    imports = HEADER
    grid_args: tuple[str, ...] = ("start", "stop")
    short_strides = True

    def __init__(self, plan: Schedule) -> None:
        self.plan = plan
        self.body = plan.body
        self.ints: dict[str, int] = {}
        self.pointers: dict[tuple[Buffer, int], Pointer] = {}
        self.strides: dict[tuple[Buffer, str, int], str] = {}
        self.places: dict[tuple[Buffer, Any], set[int]] = {}  # that are used: offsets by terms
        self.scratch_bytes = 0
        self.scratches: list[tuple[str, str]] = []
        self.w = Writer()
        self.data: dict[Data, Line] = {}  # of the line that is being written
        self.sides: dict[Line, int] = {}  # branches whose side (0 then, 1 else) the loop fixes
        self.depth = 0  # branches around the line that is being written
        self.partial: dict[str, int] = {}
        self.records = self._records()
        self.known: dict[Line, str] = {}  # lines whose value stands in scratch: how to read it

    # -- arguments --------------------------------------------------------------------------------

    def int_arg(self, stem: str, value: int) -> str:
        """The name of an int argument; ``n_i0``-like stems are shared, others are numbered."""
        if stem in self.ints and self.ints[stem] == value:
            return stem
        name, k = stem, 1
        while name in self.ints:
            name, k = f"{stem}_{k}", k + 1
        self.ints[name] = int(value)
        return name

    def size(self, name: str) -> str:
        stem = f"n_{name}"
        self.ints[stem] = self.body.extents[name]
        return stem

    def pointer(self, buffer: Buffer, offset: int) -> Pointer:
        found = self.pointers.get((buffer, offset))
        if found is None:
            others = sum(b is buffer for b, _ in self.pointers)
            name = buffer.name if not others else f"{buffer.name}_{others}"
            found = self.pointers[buffer, offset] = Pointer(name, buffer, offset)
        return found

    def scratch(self, name: str, dtype: np.dtype, count: int) -> str:
        """A private array of ``count`` elements; its place is an int argument."""
        place = self.int_arg(f"at_{name}", self.scratch_bytes)
        letters = cell(dtype)
        self.scratches.append((name, f"scratch_{letters}(scratch, {place})"))
        self.scratch_bytes += -(-max(count, 1) * dtype.itemsize // 64) * 64
        return name

    # -- index expressions ------------------------------------------------------------------------

    def address(self, buffer: Buffer, index: Index) -> tuple[str, str]:
        """``(pointer, position)`` of an element."""
        short = self._short_stride(buffer, index)
        inside = index.const % short if short else self._neighbours(buffer, index)
        pointer = self.pointer(buffer, index.const - inside)
        parts = []
        for atom, c in index.terms:
            text = self.atom(atom)
            if short and atom == self.vector_axis:
                text = f"{text} * {c}"
            elif c != 1:
                text = f"{text} * {self._stride_of(buffer, atom, text, c)}"
            parts.append((text, c != 1))
        parts += [(str(inside), False)] * bool(inside)
        return pointer.name, self.position(parts) or "0"

    def position(self, parts: list[tuple[str, bool]]) -> str:
        """The sum of an address' terms, each with whether it is a product."""
        return " + ".join([text for text, _ in parts])

    def _neighbours(self, buffer: Buffer, index: Index) -> int:
        """How many elements that stand directly in front of this one the kernel uses as well.

        They have one pointer, so that LLVM sees what is next to each other.
        """
        if not self.short_strides:
            return 0
        if not self.places:
            for line in all_lines(self.body):
                self._note(line.buffer, line.index)
            for store in self.body.stores:
                self._note(store.buffer, store.index)
        used, count = self.places.get((buffer, index.terms), set()), 0
        while index.const - count - 1 in used:
            count += 1
        return count

    def _note(self, buffer: Buffer | None, index: Index | None) -> None:
        if buffer is not None and index is not None:
            self.places.setdefault((buffer, index.terms), set()).add(index.const)

    @property
    def vector_axis(self) -> str:
        """The loop variable along which LLVM makes vectors."""
        return self.plan.column or next(iter(self.plan.reduced[-1:]), "")

    def _short_stride(self, buffer: Buffer, index: Index) -> int:
        """The stride along the vector axis where it is written as a number, else 0."""
        stride = dict(index.terms).get(self.vector_axis, 1)
        record = 1 < stride <= RECORD and 2 * self.records[buffer, stride] > stride
        short = abs(stride) <= SHORT_STRIDE or (record and self._worth_turning(stride))
        return stride if self.short_strides and stride not in (0, 1) and short else 0

    def _worth_turning(self, stride: int) -> bool:
        """Whether vectors of records pay for their shuffles: else LLVM makes vectors of a record.

        Measured for up to 3 and from 5 operations an element.
        """
        lines = [x for x in all_lines(self.body) if x.kind == "op"]
        ops = sum(x.cost if x.cost >= COSTLY else 1 for x in lines)
        roles = {b.role for b, s in self.records if b is not None and s == stride}
        return stride <= PLAIN_RECORD or len(roles) < 2 or ops >= 4 * stride

    def _records(self) -> Counter[tuple[Buffer | None, int]]:
        """How many elements are read or written at each stride along the vector axis."""
        places = [(x.buffer, x.index) for x in all_lines(self.body) if x.kind == "load" and x.index]
        places += [(s.buffer, s.index) for s in self.body.stores]
        return Counter([(b, dict(i.terms).get(self.vector_axis, 1)) for b, i in places])

    def _stride_of(self, buffer: Buffer, atom: object, text: str, value: int) -> str:
        key = (buffer, text, value)
        if key not in self.strides:
            named = f"{buffer.name}_s{text.removeprefix('i')}"
            self.strides[key] = self.stride(named if isinstance(atom, str) else "s", value)
        return self.strides[key]

    def stride(self, stem: str, value: int) -> str:
        """A stride as source."""
        return self.int_arg(stem, value)

    def atom(self, atom: object) -> str:
        if isinstance(atom, str):
            return atom
        if isinstance(atom, Data):
            return self.read(self.data[atom])
        assert isinstance(atom, Quotient | Remainder)
        call = "quotient" if isinstance(atom, Quotient) else "remainder"
        value = self.number(atom.value)
        return f"{call}{self.bits(atom.value)}({value}, {self.int_arg('q', atom.divisor)})"

    def bits(self, value: Index) -> str:
        """Which division takes ``value`` apart: "", "_u4" in 32 bits, or "_f8" in a branch.

        An integer division there LLVM makes for the first element of a vector only, if the branch
        takes that one, although the others read the result (``LoopVectorize``, uniform values).
        """
        return "_f8" if self.depth else ""

    def number(self, index: Index) -> str:
        """An index expression as an int64 value."""
        parts = []
        for atom, c in index.terms:
            text = self.atom(atom)
            parts.append(
                text if c == 1 else f"-{text}" if c == -1 else f"{text} * {self.int_arg('a', c)}"
            )
        if index.const or not parts:
            parts.append("0" if index.const == 0 else self.int_arg("o", index.const))
        return " + ".join(parts)

    # -- scalar lines -----------------------------------------------------------------------------

    def read(self, line: Line) -> str:
        return self.known.get(line, line.name)

    def line(self, line: Line) -> None:
        """Write one line of the body."""
        if line in self.known or (line.kind == "fold"):
            return
        if line.effect:
            self.w(f"status |= {self.expression(line)}")
        elif line.kind == "branch":
            self.branch(line)
        elif line.kind == "scan":
            carry = f"carry_{line.name}"
            args = [self.read(a) for a in line.args]
            self.w(f"{carry} = {line.text.format(*args, carry=carry)}")
            self.w(f"{line.name} = {carry}")
        else:
            self.w(f"{line.name} = {self.expression(line)}")

    def expression(self, line: Line) -> str:
        self.data = line.data
        if line.kind == "load":
            assert line.buffer is not None and line.index is not None
            pointer, where = self.address(line.buffer, line.index)
            return loaded(line.dtype, f"{pointer}[{where}]")
        if line.kind == "index":
            assert line.index is not None
            return f"cast_i8({self.number(line.index)})"
        if line.kind == "size":
            return self.int_arg("d", int(line.text))
        return line.text.format(*[self.read(a) for a in line.args])

    def branch(self, line: Line) -> None:
        assert line.blocks is not None
        if line in self.sides:
            block = line.blocks[self.sides[line]]
            for inner in block.lines:
                self.line(inner)
            self.w(f"{line.name} = {self.read(block.value)}")
            return
        self.data = line.data
        with self.w.block(f"if {self.condition(line.guard)}:"):
            self.side(line, line.blocks[0])
        with self.w.block("else:"):
            self.side(line, line.blocks[1])

    def side(self, line: Line, block: Block) -> None:
        self.depth += 1
        for inner in block.lines:
            self.line(inner)
        self.w(f"{line.name} = {self.read(block.value)}")
        self.depth -= 1

    def condition(self, bounds: list[Bound]) -> str:
        tests = []
        for bound in bounds:
            text = self.number(bound.index)
            if bound.low is not None:
                tests.append(f"({text} >= {self.int_arg('lo', bound.low)})")
            if bound.high is not None:
                tests.append(f"({text} < {self.int_arg('hi', bound.high)})")
            if bound.step != 1:
                step = self.int_arg("step", bound.step)
                bits = self.bits(bound.index) if self.depth else ""
                tests.append(f"(remainder{bits}({text}, {step}) == 0)")
        return " & ".join(tests)

    def header(self) -> str:
        """The first lines: what is fused, from which lines of the user."""
        notes = [f"# {self.body.title}"]
        for what, loc in self.body.notes[:24]:
            where = f"  ({Path(loc.filename).name}:{loc.line})" if loc else ""
            notes.append(f"#   {what}{where}")
        return "\n".join([*notes, self.imports])

    def finish(self, name: str, rows: int, work: float) -> KernelSource:
        """Put the arguments in front of what has been written."""
        pointers = list(self.pointers.values())
        names = [*self.ints, *[p.name for p in pointers]]
        if self.scratch_bytes:
            names.append("scratch")
        lines = [f"def kernel({', '.join([*self.grid_args, *names])}):", "    status = 0"]
        lines += [f"    {scratch} = {text}" for scratch, text in self.scratches]
        lines += ["    " + x for x in self.w.lines]
        lines.append("    return status")
        text = self.header() + "\n\n" + "\n".join(lines) + "\n"
        return KernelSource(
            name,
            text,
            list(self.ints.items()),
            pointers,
            rows,
            work,
            self.scratch_bytes,
            self.partial,
            notes=self.body.notes,
        )


def cell(dtype: np.dtype) -> str:
    """How an array of ``dtype`` lies in memory, as two letters: float16 as its bits."""
    return {"b1": "u1", "f2": "u2", "bf2": "u2"}.get(short(dtype), short(dtype))


def loaded(dtype: np.dtype, text: str) -> str:
    return f"cast_b1({text})" if dtype.kind == "b" else text


def stored(dtype: np.dtype, text: str) -> str:
    return f"cast_u1({text})" if dtype.kind == "b" else text


def pair(fold: Fold, a: str, b: str) -> str:
    """The combination of two partial results."""
    dtype = fold.value.dtype
    out = np.dtype(bool) if fold.op in ("any", "all") else dtype
    text = expression(OPS[PAIRS[fold.op]], (a, b), (dtype, dtype), out)
    assert text is not None
    return text
