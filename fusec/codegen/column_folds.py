"""Reductions of many columns at once, over rows of partial results that lie one after the other.

Column kernels keep ``LANES`` such rows for a block, and then one for every block::

    fill_sum(p, 32 * pitch)              # p[k] = -0.0, for k < 32 * pitch
    lanes_sum(p, x, stride, m, width)    # into lane l: rows l, l + 32, ... of m rows of x
    halves_sum(p, pitch)                 # lane l with l + 16, l + 8, ..., l + 1, into lane 0
    carry_sum(p, pitch, l)               # of that what is possible with the lanes up to l
    pairs_sum(p, n, pitch, wide)         # n blocks: adjacent pairs, an odd one carried up

``pitch``, from one row to the next, is ``width``, mostly rounded up to a multiple of 32: what lies
behind a row is combined, too, and read by nobody. ``wide``, a multiple of 32, is how much of each
block's row is combined. The orders are those of ``folds``. Each is an internal function of the
kernel's module, written with vectors: loops in the text would be most of what Numba and LLVM have
to work on in such a kernel.
"""
# mypy: disable-error-code="no-untyped-call"

from collections.abc import Callable
from functools import partial
from typing import Any

from llvmlite import ir
from numba.core import types

from fusec.codegen.folds import (
    _I64,
    FOLDS,
    Loop,
    Values,
    _combine,
    _identity,
    _join,
    internal,
    load,
    load_some,
)
from fusec.codegen.intrinsic import intrinsic, names_of
from fusec.codegen.loops import LANES
from fusec.codegen.pointers import prefetch

AHEAD = 1 << 10  # bytes; of the eight rows of a lane that is as much as an L1 cache has room for


def _wide(b: Any, n: Any, body: Callable[[Any], None]) -> None:
    """``body(k)`` for every LANES elements of n, which is a multiple of LANES."""
    with Loop(b, b.udiv(n, _I64(LANES))) as loop:
        body(b.mul(loop.index, _I64(LANES)))


def _store(b: Any, value: Any, place: Any) -> None:
    b.store(value, b.bitcast(place, value.type.as_pointer()), align=1)


def _add(b: Any, p: Any, q: Any, n: Any, *, t: Any, name: str) -> None:
    """``p[k] = p[k] op q[k]`` for k < n."""

    def some(k: Any) -> None:
        x, y = (load(b, t, b.gep(row, [k]), LANES) for row in (p, q))
        _store(b, _join(b, _combine(b, t, name, x, y)), b.gep(p, [k]))

    _wide(b, n, some)


def _function(b: Any, symbol: str, kinds: list[Any], emit: Callable[..., None]) -> Any:
    """The module's internal function of this name, made on first use."""

    def whole(inner: Any, *args: Any) -> None:
        emit(inner, *args)
        inner.ret_void()

    return internal(b, symbol, ir.FunctionType(ir.VoidType(), kinds), whole)


def _while(b: Any, first: Any, test: Callable[[Any], Any], body: Callable[[Any], Any]) -> None:
    """``k = first; while test(k): k = body(k)``."""
    before = b.block
    head, inside, end = (b.append_basic_block(name) for name in ("head", "inside", "end"))
    b.branch(head)
    b.position_at_end(head)
    k = b.phi(_I64)
    k.add_incoming(first, before)
    b.cbranch(test(k), inside, end)
    b.position_at_end(inside)
    following = body(k)
    k.add_incoming(following, b.block)
    b.branch(head)
    b.position_at_end(end)


def _add_function(b: Any, t: Any, name: str, p: Any) -> Any:
    kinds = [p.type, p.type, _I64]
    return _function(b, f"fusec.add_{name}.{t}", kinds, partial(_add, t=t, name=name))


def _fill(b: Any, p: Any, n: Any, *, t: Any, name: str) -> None:
    """``p[k] = identity`` for k < n."""
    _wide(b, n, lambda k: _store(b, _join(b, _identity(t, name)), b.gep(p, [k])))


def _lanes(b: Any, p: Any, x: Any, stride: Any, m: Any, width: Any, *, t: Any, name: str) -> None:
    """Each lane adds its rows in registers, then what it is combined with; the result is lane 0.

    Its rows lie apart, and the next lane's behind them: what is read soon is asked for.
    """
    whole, rest = b.udiv(width, _I64(LANES)), b.urem(width, _I64(LANES))
    tail = b.zext(b.icmp_unsigned("!=", rest, _I64(0)), _I64)
    pitch, first = b.mul(b.add(whole, tail), _I64(LANES)), _identity(t, name)
    loads = (
        (whole, partial(load, b, t, count=LANES)),
        (tail, partial(load_some, b, t, n=rest, identity=first)),
    )
    with Loop(b, _I64(LANES)) as lane:
        # as many rows as lane, lane + 32, ... are below m
        turns = b.udiv(b.sub(b.add(m, _I64(LANES - 1)), lane.index), _I64(LANES))
        done = _I64(0)
        for steps, fetch in loads:
            with Loop(b, steps) as columns:
                k = b.mul(b.add(done, columns.index), _I64(LANES))
                soon = _soon(b, t, k, width, stride)
                with Loop(b, turns, first) as loop:
                    row = b.add(lane.index, b.mul(loop.index, _I64(LANES)))
                    start = b.gep(x, [b.mul(row, stride)])
                    prefetch.emit(b, (types.CPointer(t),), b.gep(start, [soon]))
                    values = fetch(b.gep(start, [k]))
                    loop.next = _combine(b, t, name, loop.values, values)
                _carried(b, t, name, b.gep(p, [k]), pitch, lane.index, loop.values)
            done = whole


def _soon(b: Any, t: Any, k: Any, width: Any, stride: Any) -> Any:
    """What is read AHEAD after column k of a row; behind its last column comes the next row."""
    far = _I64(AHEAD * 8 // int(t.bitwidth))
    far = b.select(b.icmp_unsigned("<", far, width), far, width)
    soon = b.add(k, far)
    return b.select(b.icmp_unsigned("<", soon, width), soon, b.add(b.sub(soon, width), stride))


def _carried(b: Any, t: Any, name: str, p: Any, pitch: Any, lane: Any, values: Values) -> None:
    """Combine values of a lane with those 16, 8, ... lanes before, while it is in an upper half.

    Lane 31 combines five times, and lane 0 is done: no pass over all lanes comes behind them.
    """
    top = 64 - (LANES - 1).bit_length()
    absent = b.not_(b.shl(lane, _I64(top)))
    times = b.ctlz(absent, ir.IntType(1)(1))
    with Loop(b, times, values) as up:
        low = b.and_(lane, b.lshr(_I64(LANES // 2 - 1), up.index))
        up.next = _combine(b, t, name, load(b, t, b.gep(p, [b.mul(low, pitch)]), LANES), up.values)
    place = b.and_(lane, b.lshr(_I64(LANES - 1), times))
    _store(b, _join(b, up.values), b.gep(p, [b.mul(place, pitch)]))


def _carry(b: Any, p: Any, pitch: Any, lane: Any, *, t: Any, name: str) -> None:
    """What ``_carried`` does, for a lane that has been stored."""

    def some(k: Any) -> None:
        column = b.gep(p, [k])
        values = load(b, t, b.gep(column, [b.mul(lane, pitch)]), LANES)
        _carried(b, t, name, column, pitch, lane, values)

    wide = b.and_(b.add(pitch, _I64(LANES - 1)), _I64(-LANES))
    with b.if_then(b.icmp_unsigned(">=", lane, _I64(LANES // 2))):
        _wide(b, wide, some)


def _halves(b: Any, p: Any, pitch: Any, *, t: Any, name: str) -> None:
    add = _add_function(b, t, name, p)

    def body(half: Any) -> Any:
        n = b.mul(half, pitch)
        wide = b.and_(b.add(n, _I64(LANES - 1)), _I64(-LANES))
        b.call(add, [p, b.gep(p, [n]), wide])
        return b.lshr(half, _I64(1))

    _while(b, _I64(LANES // 2), lambda half: b.icmp_unsigned("!=", half, _I64(0)), body)


def _pairs(b: Any, p: Any, n: Any, pitch: Any, wide: Any, *, t: Any, name: str) -> None:
    add = _add_function(b, t, name, p)

    def level(step: Any) -> Any:
        twice = b.shl(step, _I64(1))

        def body(row: Any) -> Any:
            x, y = (b.gep(p, [b.mul(k, pitch)]) for k in (row, b.add(row, step)))
            b.call(add, [x, y, wide])
            return b.add(row, twice)

        _while(b, _I64(0), lambda row: b.icmp_unsigned("<", b.add(row, step), n), body)
        return twice

    _while(b, _I64(1), lambda step: b.icmp_unsigned("<", step, n), level)


def _primitive(kind: str, name: str, arity: int, emit: Callable[..., None]) -> Any:
    """The primitive ``<kind>_<name>``; it gives 0."""

    def call(b: Any, t: Any, *args: Any) -> Any:
        of = t[0].dtype
        kinds = [a.type for a in args]
        function = _function(b, f"fusec.{kind}_{name}.{of}", kinds, partial(emit, t=of, name=name))
        b.call(function, args)
        return _I64(0)

    doc = f"{kind} of a {name}; see the module."
    return intrinsic(arity, to=types.int64, mixed=True, name=f"{kind}_{name}", doc=doc)(call)


_KINDS: dict[str, tuple[int, Callable[..., None]]] = {
    "fill": (2, _fill),
    "lanes": (5, _lanes),
    "carry": (3, _carry),
    "halves": (2, _halves),
    "pairs": (4, _pairs),
}
globals().update(
    {f"{kind}_{op}": _primitive(kind, op, *how) for kind, how in _KINDS.items() for op in FOLDS}
)

__all__ = names_of(globals())
