"""Reductions of contiguous blocks in an order that the source fixes.

A block has at most ``BLOCK`` elements. ``LANES`` lanes accumulate element e in lane e % LANES, in
increasing e; missing elements contribute the identity, exactly neutral (-0.0 for sums, 1 for
products). The lanes are then combined by halves: lane l with l + 16, l + 8, l + 4, l + 2, l + 1.
The results of blocks are combined by ``tree_<op>``: adjacent pairs, repeatedly, an odd one carried
up. So the bits of a sum depend on nothing but its elements, and its rounding error grows like the
pairwise sum's.

Each fold is one internal function of the kernel's LLVM module, over explicit vectors::

    x = fold_sum(at(ptr, start), n)     # n <= 256 elements from ptr[start]
    y = tree_sum(partials, blocks)      # overwrites the partials
    z = row_sum(at(ptr, start), n, partials)  # both, for any n; partials: room for the blocks

A row that lies in memory is one call: a loop over its blocks around calls would need more registers
than a call leaves alone, and where the next row begins would wait, in memory, behind this one.

Buffers of booleans are uint8 pointers of 0 and 1; ``any`` and ``all`` give booleans. ``max`` and
``min`` of floats give NaN if there is one, ``fmax`` and ``fmin`` only if there is nothing else.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from llvmlite import ir
from numba.core import types

from fusec.codegen.floats import ignore, propagate
from fusec.codegen.intrinsic import foreign, intrinsic, join, names_of, value_type
from fusec.codegen.loops import BLOCK, LANES

KINDS = "fold", "tree", "row"

_I64, _I32, _I1 = ir.IntType(64), ir.IntType(32), ir.IntType(1)
Pair = Callable[[Any, Any, Any, Any], Any]


class Fold(NamedTuple):
    """pair: emits the combination of two vectors; identity: its neutral value, per Numba type."""

    pair: Pair
    identity: Callable[[Any], float | int]


def real(t: Any) -> bool:
    return isinstance(t, types.Float | types.Complex)


def _add(b: Any, t: Any, x: Any, y: Any) -> Any:
    return b.fadd(x, y) if real(t) else b.add(x, y)


def _mul(b: Any, t: Any, x: Any, y: Any) -> Any:
    return b.fmul(x, y) if real(t) else b.mul(x, y)


def _choose(sign: str, keep_nan: bool) -> Pair:
    """x if ``x sign y``, else y; NaN wins or loses."""

    def pair(b: Any, t: Any, x: Any, y: Any) -> Any:
        if not real(t):
            compare = b.icmp_signed if t.signed else b.icmp_unsigned
            return b.select(compare(sign, x, y), x, y)
        # the order of the operands leaves the test for NaN out of the chain over x
        return propagate(b, sign, y, x) if keep_nan else ignore(b, sign, x, y)

    return pair


def _least(t: Any) -> float | int:
    return -float("inf") if real(t) else t.minval


def _greatest(t: Any) -> float | int:
    return float("inf") if real(t) else t.maxval


def _nan_or(integer: Callable[[Any], float | int]) -> Callable[[Any], float | int]:
    return lambda t: float("nan") if real(t) else integer(t)


FOLDS: dict[str, Fold] = {
    "sum": Fold(_add, lambda t: -0.0 if real(t) else 0),
    "prod": Fold(_mul, lambda t: 1),
    "max": Fold(_choose(">", True), _least),
    "min": Fold(_choose("<", True), _greatest),
    "fmax": Fold(_choose(">", False), _nan_or(_least)),
    "fmin": Fold(_choose("<", False), _nan_or(_greatest)),
    "any": Fold(lambda b, t, x, y: b.or_(x, y), lambda t: 0),
    "all": Fold(lambda b, t, x, y: b.and_(x, y), lambda t: 1),
}
"""The reductions by name; ``ops.reduce`` has the same names."""


# Values: a tuple of vectors, (numbers,) or (real parts, imaginary parts).

Values = tuple[Any, ...]


def scalar(t: Any) -> Any:
    return value_type(t.underlying_float if isinstance(t, types.Complex) else t)


def _width(t: Any) -> int:
    return 2 if isinstance(t, types.Complex) else 1


def pick(b: Any, v: Any, indices: list[int], other: Any = None) -> Any:
    """The vector of these elements of v, or of v and other behind it."""
    mask = ir.Constant(ir.VectorType(_I32, len(indices)), indices)
    return b.shuffle_vector(v, ir.Constant(v.type, ir.Undefined) if other is None else other, mask)


def _split(b: Any, t: Any, raw: Any) -> Values:
    """A vector as it lies in memory, as values."""
    if _width(t) == 1:
        return (raw,)
    count = raw.type.count
    return pick(b, raw, list(range(0, count, 2))), pick(b, raw, list(range(1, count, 2)))


def _join(b: Any, values: Values) -> Any:
    """Values as a vector that can be stored."""
    if len(values) == 1:
        return values[0]
    count = values[0].type.count
    return pick(b, values[0], [k + part for k in range(count) for part in (0, count)], values[1])


def _combine(b: Any, t: Any, name: str, x: Values, y: Values) -> Values:
    if name == "prod" and len(x) == 2:
        re = b.fsub(b.fmul(x[0], y[0]), b.fmul(x[1], y[1]))
        return re, b.fadd(b.fmul(x[0], y[1]), b.fmul(x[1], y[0]))
    return tuple(FOLDS[name].pair(b, t, v, w) for v, w in zip(x, y))


def _select(b: Any, condition: Any, x: Values, y: Values) -> Values:
    return tuple(b.select(condition, v, w) for v, w in zip(x, y))


def below(b: Any, n: Any, first: int, count: int, each: int = 1) -> Any:
    """The mask of lanes with ``first + lane < n``, every lane ``each`` times."""
    lanes = ir.VectorType(_I32, count * each)
    ids = ir.Constant(lanes, [first + k // each for k in range(count * each)])
    spread = b.insert_element(ir.Constant(lanes, ir.Undefined), b.trunc(n, _I32), _I32(0))
    return b.icmp_unsigned("<", ids, pick(b, spread, [0] * (count * each)))


def load(b: Any, t: Any, pointer: Any, count: int) -> Values:
    wide = ir.VectorType(scalar(t), count * _width(t)).as_pointer()
    return _split(b, t, b.load(b.bitcast(pointer, wide), align=_bytes(t)))


def _bytes(t: Any) -> int:
    return max(1, int(t.bitwidth) // 8 // _width(t))


def load_some(b: Any, t: Any, pointer: Any, n: Any, identity: Values) -> Values:
    """The first n elements and the identity behind them, as many as identity has."""
    otherwise = _join(b, identity)
    vector = otherwise.type
    mask = below(b, n, 0, LANES, _width(t))
    place = b.bitcast(pointer, vector.as_pointer())
    name = f"llvm.masked.load.v{vector.count}{_suffix(vector.element)}.p0"
    return _split(b, t, foreign(b, name, vector, place, _I32(_bytes(t)), mask, otherwise))


def _suffix(scalar: Any) -> str:
    return {"float": "f32", "double": "f64"}.get(str(scalar), str(scalar))


def _identity(t: Any, name: str) -> Values:
    kind = ir.VectorType(scalar(t), LANES)
    first = FOLDS[name].identity(t)
    rest = -0.0 if name == "sum" else 0.0
    return tuple(ir.Constant(kind, [v] * LANES) for v in (first, rest)[: _width(t)])


class Loop:
    """``with Loop(b, count, initial) as loop``: emits a loop over 0 <= loop.index < count.

    In the body ``loop.values`` are the values so far and ``loop.next`` is set to the new ones;
    behind the loop ``loop.values`` are the last.
    """

    def __init__(self, b: Any, count: Any, initial: Values = ()) -> None:
        self.b, self.count, self.initial = b, count, initial
        self.values: Values = ()
        self.next: Values = ()

    def __enter__(self) -> "Loop":
        b = self.b
        self.before = b.block
        self.body, self.end = b.append_basic_block("body"), b.append_basic_block("end")
        b.cbranch(b.icmp_unsigned("!=", self.count, _I64(0)), self.body, self.end)
        b.position_at_end(self.body)
        self.index = b.phi(_I64)
        self.values = tuple(b.phi(v.type) for v in self.initial)
        return self

    def __exit__(self, *exception: object) -> None:
        b, last = self.b, self.b.block
        index = b.add(self.index, _I64(1))
        b.cbranch(b.icmp_unsigned("<", index, self.count), self.body, self.end)
        b.position_at_end(self.end)
        results = tuple(b.phi(v.type) for v in self.initial)
        self.index.add_incoming(_I64(0), self.before)
        self.index.add_incoming(index, last)
        for phi, result, initial, following in zip(self.values, results, self.initial, self.next):
            for target, block in ((phi, self.before), (result, self.before)):
                target.add_incoming(initial, block)
            phi.add_incoming(following, last)
            result.add_incoming(following, last)
        self.values = results


# The two functions.


def _block_fold(b: Any, t: Any, name: str, pointer: Any, n: Any) -> Values:
    """Emit the fold of one block: whole groups of lanes, the rest, then the lanes by halves."""
    # 1 * z is not z for an infinite complex z, so its products skip what is missing
    skip = name == "prod" and _width(t) == 2
    identity = _identity(t, name)
    groups = b.udiv(n, _I64(LANES))
    with Loop(b, groups, identity) as loop:
        x = load(b, t, b.gep(pointer, [b.mul(loop.index, _I64(LANES))]), LANES)
        both = _combine(b, t, name, loop.values, x)
        first = b.icmp_unsigned("==", loop.index, _I64(0))
        loop.next = _select(b, first, x, both) if skip else both
    start = b.mul(groups, _I64(LANES))
    rest = b.sub(n, start)
    with Loop(b, b.zext(b.icmp_unsigned("!=", rest, _I64(0)), _I64), loop.values) as tail:
        x = load_some(b, t, b.gep(pointer, [start]), rest, identity)
        both = _combine(b, t, name, tail.values, x)
        if skip:
            both = _select(b, b.icmp_unsigned("==", groups, _I64(0)), x, both)
            both = _select(b, below(b, rest, 0, LANES), both, tail.values)
        tail.next = both
    return halves(b, t, name, tail.values, n if skip else None)


def halves(b: Any, t: Any, name: str, values: Values, n: Any) -> Values:
    """Combine the upper half of the lanes into the lower one until one is left."""
    half = LANES // 2
    while half:
        low = tuple(pick(b, v, list(range(half))) for v in values)
        high = tuple(pick(b, v, list(range(half, 2 * half))) for v in values)
        values = _combine(b, t, name, low, high)
        if n is not None:
            values = _select(b, below(b, n, half, half), values, low)
        half //= 2
    return values


def _tree_fold(b: Any, t: Any, name: str, pointer: Any, n: Any) -> Values:
    """Emit the pairwise tree in place, level by level, with vectors and then the rest singly."""
    before, level, end = b.block, b.append_basic_block("level"), b.append_basic_block("root")
    b.cbranch(b.icmp_unsigned(">", n, _I64(1)), level, end)
    b.position_at_end(level)
    count = b.phi(_I64)
    half = b.udiv(count, _I64(2))
    done = _I64(0)
    for lanes in (LANES // 2, 1):
        steps = b.udiv(b.sub(half, done), _I64(lanes))
        with Loop(b, steps) as loop:
            at = b.add(done, b.mul(loop.index, _I64(lanes)))
            _add_pairs(b, t, name, pointer, at, lanes)
        done = b.add(done, b.mul(steps, _I64(lanes)))
    odd = b.and_(count, _I64(1))
    last = b.sub(count, _I64(1))
    place = b.select(b.icmp_unsigned("!=", odd, _I64(0)), half, last)
    b.store(b.load(b.gep(pointer, [last])), b.gep(pointer, [place]))
    left = b.add(half, odd)
    count.add_incoming(n, before)
    count.add_incoming(left, b.block)
    b.cbranch(b.icmp_unsigned(">", left, _I64(1)), level, end)
    b.position_at_end(end)
    return load(b, t, pointer, 1)


def _add_pairs(b: Any, t: Any, name: str, pointer: Any, at: Any, lanes: int) -> None:
    """``p[at + k] = p[2 * (at + k)] op p[2 * (at + k) + 1]`` for k < lanes."""
    first = b.mul(at, _I64(2))
    if lanes == 1:  # a wide load would wait until the two stores before it have left the core
        even, odd = [load(b, t, b.gep(pointer, [i]), 1) for i in (first, b.add(first, _I64(1)))]
    else:
        pairs = load(b, t, b.gep(pointer, [first]), 2 * lanes)
        even = tuple(pick(b, v, list(range(0, 2 * lanes, 2))) for v in pairs)
        odd = tuple(pick(b, v, list(range(1, 2 * lanes, 2))) for v in pairs)
    result = _join(b, _combine(b, t, name, even, odd))
    place = b.bitcast(b.gep(pointer, [at]), result.type.as_pointer())
    b.store(result, place, align=_bytes(t))


def internal(b: Any, symbol: str, kind: Any, emit: Callable[..., Any]) -> Any:
    """The module's function of this name, whose body ``emit(builder, *arguments)`` makes once."""
    function = b.module.globals.get(symbol)
    if function is None:
        function = ir.Function(b.module, kind, symbol)
        function.linkage = "internal"
        function.attributes.add("noinline")
        function.attributes.add("nounwind")
        emit(ir.IRBuilder(function.append_basic_block()), *function.args)
    return function


def _function(b: Any, t: Any, kind: str, name: str, pointer: Any) -> Any:
    """The internal function ``<kind>_<name>`` for elements of this type."""
    given = [pointer.type, _I64] + [pointer.type] * (kind == "row")

    def emit(inner: Any, *args: Any) -> None:
        if kind == "row":
            _row(inner, t, name, *args)
            return
        values = (_block_fold if kind == "fold" else _tree_fold)(inner, t, name, *args)
        first = [inner.extract_element(v, _I32(0)) for v in values]
        inner.ret(first[0] if len(first) == 1 else join(inner, *first))

    result = ir.FunctionType(pointer.type.pointee, given)
    return internal(b, f"fusec.{kind}_{name}.{t}", result, emit)


def _row(b: Any, t: Any, name: str, pointer: Any, n: Any, partials: Any) -> None:
    """Emit the folds of a row's blocks and the tree over them; a row of one block needs none."""
    fold, tree = [_function(b, t, kind, name, pointer) for kind in ("fold", "tree")]
    with b.if_then(b.icmp_unsigned("<=", n, _I64(BLOCK))):
        b.ret(b.call(fold, [pointer, n]))
    blocks = b.udiv(b.add(n, _I64(BLOCK - 1)), _I64(BLOCK))
    with Loop(b, blocks) as loop:
        start = b.mul(loop.index, _I64(BLOCK))
        rest = b.sub(n, start)
        count = b.select(b.icmp_unsigned("<", rest, _I64(BLOCK)), rest, _I64(BLOCK))
        result = b.call(fold, [b.gep(pointer, [start]), count])
        b.store(result, b.gep(partials, [loop.index]))
    b.ret(b.call(tree, [partials, blocks]))


def _fold(kind: str, name: str) -> Any:
    """The primitive ``<kind>_<name>(pointer, n)``, for rows ``(pointer, n, partials)``."""
    logical = name in ("any", "all")

    def emit(b: Any, t: Any, *args: Any) -> Any:
        function = _function(b, t[0].dtype, kind, name, args[0])
        if kind == "tree":
            with b.if_then(b.icmp_unsigned(">", args[1], _I64(1)), likely=False):
                b.call(function, args)
            result = b.load(args[0])
        else:
            result = b.call(function, args)
        return b.icmp_unsigned("!=", result, result.type(0)) if logical else result

    return intrinsic(
        3 if kind == "row" else 2,
        to=lambda p, *_: types.boolean if logical else p.dtype,
        mixed=True,
        name=f"{kind}_{name}",
        doc=f"The {name} of n elements; see the module.",
    )(emit)


@intrinsic(2, to=lambda p, i: p, mixed=True)
def at(b: Any, t: Any, pointer: Any, i: Any) -> Any:
    """The pointer to element i."""
    return b.gep(pointer, [i])


globals().update({f"{kind}_{name}": _fold(kind, name) for kind in KINDS for name in FOLDS})

__all__ = names_of(globals())
