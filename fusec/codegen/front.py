"""From kernel text to LLVM IR in one walk over its syntax tree.

Kernels are a small part of Python: they assign names and elements, loop over ranges, branch, and
call primitives. The type of every value is known where it is written, so nothing is inferred, and
a kernel is IR in a tenth of the time that Numba's compiler takes for the same text. Types and
primitives are Numba's; what else Python has (`Foreign`) no kernel is made of.
"""
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from typing import Any, NamedTuple

from llvmlite import ir
from numba.core import types

from fusec.codegen.intrinsic import value_type
from fusec.codegen.target import host

_I1, _I64 = ir.IntType(1), ir.IntType(64)
_ARITHMETIC = {ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul"}
_LOGIC = {ast.BitAnd: "and_", ast.BitOr: "or_", ast.BitXor: "xor"}
_BITS = {**_LOGIC, ast.LShift: "shl", ast.RShift: "ashr"}
_TESTS = {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!="}


class Foreign(Exception):
    """Python that kernels are not known to be made of."""


class Typed(NamedTuple):
    """A value and its Numba type."""

    value: Any
    type: Any


class _Context:
    """What primitives ask of Numba's target context."""

    get_value_type = staticmethod(value_type)


def define(
    module: ir.Module, text: str, names: dict[str, Any], kinds: Iterable[Any]
) -> ir.Function:
    """Add ``def kernel`` of ``text`` to a module, as an internal function that gives an int64.

    names: what the text imports, by name. kinds: Numba types of the arguments.
    Raises Foreign, and Numba's TypingError for primitives with arguments of other types; both
    know the line.
    """
    kernel, *others = [x for x in ast.parse(text).body if isinstance(x, ast.FunctionDef)]
    if others:
        raise Foreign("another function")
    kinds = [*kinds]
    signature = ir.FunctionType(_I64, [value_type(kind) for kind in kinds])
    function = ir.Function(module, signature, "kernel")
    # a loop stays a loop: rows are often too short for memcpy
    set.add(function.attributes, '"no-builtins"')
    walk = _Walk(function, names)
    vectors = module.triple == host().triple
    for parameter, value, kind in zip(kernel.args.args, function.args, kinds):
        if "_s" in parameter.arg and kind == types.int64 and vectors:
            value = _any_stride(walk.b, value)
        walk.assign(parameter.arg, Typed(value, kind))
    walk.statements(kernel.body)
    return function


class _Walk:
    """Every name is a place on the stack, which LLVM makes a register."""

    def __init__(self, function: ir.Function, names: dict[str, Any]) -> None:
        self.entry = function.append_basic_block("entry")
        self.b = ir.IRBuilder(function.append_basic_block("body"))
        self.places = ir.IRBuilder(self.entry)
        self.places.branch(self.b.block)
        self.names = names
        self.variables: dict[str, Typed] = {}
        self.ends: list[Any] = []  # of the loops around

    # -- statements -------------------------------------------------------------------------------

    def statements(self, body: list[ast.stmt]) -> None:
        for statement in body:
            write = getattr(self, f"s_{type(statement).__name__}", None)
            try:
                if write is None or self.b.block.is_terminated:
                    raise Foreign(ast.unparse(statement))
                write(statement)
            except Exception as error:
                error.__dict__.setdefault("lineno", statement.lineno)
                raise

    def s_Assign(self, node: ast.Assign) -> None:
        (target,) = node.targets
        value = self.value(node.value)
        if isinstance(target, ast.Name):
            return self.assign(target.id, value)
        place, kind = self.element(target)
        if value.type != kind:
            raise Foreign(f"{value.type} in an array of {kind}")
        self.b.store(value.value, place)
        return None

    def assign(self, name: str, value: Typed) -> None:
        found = self.variables.get(name)
        if found is None:
            self.places.position_before(self.entry.terminator)
            found = Typed(self.places.alloca(value.value.type, name=name), value.type)
            self.variables[name] = found
        if found.type != value.type:
            raise Foreign(f"{name} is {found.type} and {value.type}")
        self.b.store(value.value, found.value)

    def s_AugAssign(self, node: ast.AugAssign) -> None:
        if not isinstance(node.target, ast.Name):
            raise Foreign(ast.unparse(node))
        name = ast.Name(node.target.id, ast.Load())
        self.assign(node.target.id, self.value(ast.BinOp(name, node.op, node.value)))

    def s_Expr(self, node: ast.Expr) -> None:
        self.value(node.value)

    def s_Pass(self, node: ast.Pass) -> None:
        """Nothing."""

    def s_Return(self, node: ast.Return) -> None:
        if node.value is None:
            raise Foreign("return")
        self.b.ret(self.number(node.value))

    def s_Break(self, node: ast.Break) -> None:
        self.b.branch(self.ends[-1])

    def s_If(self, node: ast.If) -> None:
        test = self.condition(node.test)
        names = ("then", "else", "next") if node.orelse else ("then", "next")
        then, *other, following = [self.b.append_basic_block(name) for name in names]
        self.b.cbranch(test, then, other[0] if other else following)
        for block, body in zip((then, *other), (node.body, node.orelse)):
            self.b.position_at_end(block)
            self.statements(body)
            self.go(following)
        self.b.position_at_end(following)

    def s_While(self, node: ast.While) -> None:
        with self.loop(lambda: self.condition(node.test)):
            self.statements(node.body)

    def s_For(self, node: ast.For) -> None:
        call = node.iter
        if not (isinstance(call, ast.Call) and ast.unparse(call.func) == "range"):
            raise Foreign(ast.unparse(call))
        if node.orelse or not isinstance(node.target, ast.Name):
            raise Foreign(ast.unparse(node))
        args = [self.number(a) for a in call.args]
        first, last = (_I64(0), args[0]) if len(args) == 1 else args[:2]
        step = args[2] if len(args) == 3 else _I64(1)
        if not isinstance(step, ir.Constant) or step.constant <= 0:
            raise Foreign(ast.unparse(call))
        name, group = node.target.id, _group(node)

        def body() -> None:
            self.statements(node.body)

        def masked() -> None:
            with self.b.if_then(self.b.icmp_signed("<", self.number(node.target), last)):
                body()

        if group:  # whole vectors, of which there are none, as the text promises, and the rest
            count = self.b.sub(last, first)
            count = self.b.select(self.b.icmp_signed(">", count, _I64(0)), count, _I64(0))
            whole = self.b.add(first, self.b.and_(count, _I64(-group)))
            self.counted(name, first, whole, step, body)
            with self.b.if_then(self.b.icmp_signed("<", whole, last)):
                self.counted(name, whole, self.b.add(whole, _I64(group)), step, masked)
        else:
            self.counted(name, first, last, step, body)

    def counted(
        self, name: str, first: Any, last: Any, step: Any, body: Callable[[], None]
    ) -> None:
        """A loop over first <= name < last."""
        self.places.position_before(self.entry.terminator)
        counter = self.places.alloca(_I64)
        self.b.store(first, counter)
        with self.loop(lambda: self.b.icmp_signed("<", self.b.load(counter), last)):
            self.assign(name, Typed(self.b.load(counter), types.int64))
            body()
            if not self.b.block.is_terminated:
                self.b.store(self.b.add(self.b.load(counter), step, flags=["nsw"]), counter)

    @contextmanager
    def loop(self, test: Callable[[], Any]) -> Any:
        head, body, end = (self.b.append_basic_block(name) for name in ("head", "loop", "end"))
        self.b.branch(head)
        self.b.position_at_end(head)
        self.b.cbranch(test(), body, end)
        self.b.position_at_end(body)
        self.ends.append(end)
        yield
        self.ends.pop()
        self.go(head)
        self.b.position_at_end(end)

    def go(self, block: Any) -> None:
        if not self.b.block.is_terminated:
            self.b.branch(block)

    # -- expressions ------------------------------------------------------------------------------

    def value(self, node: ast.expr) -> Typed:
        write = getattr(self, f"v_{type(node).__name__}", None)
        if write is None:
            raise Foreign(ast.unparse(node))
        found: Typed = write(node)
        return found

    def number(self, node: ast.expr) -> Any:
        """An int64."""
        found = self.value(node)
        if found.type != types.int64:
            raise Foreign(f"{ast.unparse(node)} is no int64")
        return found.value

    def condition(self, node: ast.expr) -> Any:
        """A bit."""
        found = self.value(node)
        if found.type == types.int64:
            return self.b.icmp_signed("!=", found.value, _I64(0))
        if found.type != types.boolean:
            raise Foreign(f"{ast.unparse(node)} is no condition")
        return found.value

    def v_Name(self, node: ast.Name) -> Typed:
        if node.id in self.variables:
            place, kind = self.variables[node.id]
            return Typed(self.b.load(place), kind)
        if node.id not in self.names:
            raise Foreign(f"{node.id} is not defined")
        return _constant(self.names[node.id])

    def v_Constant(self, node: ast.Constant) -> Typed:
        return _constant(node.value)

    def v_Subscript(self, node: ast.Subscript) -> Typed:
        place, kind = self.element(node)
        return Typed(self.b.load(place), kind)

    def element(self, node: ast.expr) -> Typed:
        """The address of an element, with the element's type."""
        if not isinstance(node, ast.Subscript):
            raise Foreign(ast.unparse(node))
        array = self.value(node.value)
        if not isinstance(array.type, types.CPointer):
            raise Foreign(ast.unparse(node))
        return Typed(self.b.gep(array.value, [self.number(node.slice)]), array.type.dtype)

    def v_UnaryOp(self, node: ast.UnaryOp) -> Typed:
        if isinstance(node.op, ast.Not):
            return Typed(self.b.not_(self.condition(node.operand)), types.boolean)
        if not isinstance(node.op, ast.USub):
            raise Foreign(ast.unparse(node))
        if isinstance(node.operand, ast.Constant):
            return _constant(ast.literal_eval(node))
        x = self.value(node.operand)
        if x.type not in (types.int64, *types.real_domain):
            raise Foreign(ast.unparse(node))
        return Typed((self.b.neg if x.type == types.int64 else self.b.fneg)(x.value), x.type)

    def v_BinOp(self, node: ast.BinOp) -> Typed:
        x, y = self.value(node.left), self.value(node.right)
        kind, op = x.type, type(node.op)
        if op in _BITS and {x.type, y.type} == {types.int64, types.boolean}:
            x, y = (Typed(self.b.zext(v, _I64), types.int64) for v, _ in (x, y))
            kind = types.int64
        real = kind in types.real_domain
        if x.type != y.type:
            raise Foreign(f"{ast.unparse(node)} of {x.type} and {y.type}")
        if real and op in _ARITHMETIC:
            return Typed(getattr(self.b, "f" + _ARITHMETIC[op])(x.value, y.value), kind)
        if real and op is ast.Div:
            return Typed(self.b.fdiv(x.value, y.value), kind)
        if kind == types.int64 and op in _ARITHMETIC:
            return Typed(getattr(self.b, _ARITHMETIC[op])(x.value, y.value, flags=["nsw"]), kind)
        if op in _BITS and (kind == types.int64 or (kind == types.boolean and op in _LOGIC)):
            return Typed(getattr(self.b, _BITS[op])(x.value, y.value), kind)
        raise Foreign(ast.unparse(node))

    def v_Compare(self, node: ast.Compare) -> Typed:
        x, (y,) = self.value(node.left), [self.value(other) for other in node.comparators]
        (test,) = [_TESTS.get(type(op), "") for op in node.ops]
        if x.type != y.type or not test:
            raise Foreign(ast.unparse(node))
        if x.type in types.real_domain:
            compare = self.b.fcmp_unordered if test == "!=" else self.b.fcmp_ordered
        elif x.type in types.integer_domain:
            signed = x.type in types.signed_domain
            compare = self.b.icmp_signed if signed else self.b.icmp_unsigned
        else:
            raise Foreign(ast.unparse(node))
        return Typed(compare(test, x.value, y.value), types.boolean)

    def v_Call(self, node: ast.Call) -> Typed:
        if not isinstance(node.func, ast.Name) or node.keywords:
            raise Foreign(ast.unparse(node))
        name, args = node.func.id, [self.value(a) for a in node.args]
        if name in ("min", "max") and [a.type for a in args] == [types.int64] * 2:
            order = "<" if name == "min" else ">"
            x, y = (a.value for a in args)
            return Typed(self.b.select(self.b.icmp_signed(order, x, y), x, y), types.int64)
        primitive: Any = self.names.get(name)
        if not hasattr(primitive, "_defn"):
            raise Foreign(ast.unparse(node))
        signature, build = primitive._defn(None, *[a.type for a in args])
        if [*signature.args] != [a.type for a in args]:
            raise Foreign(f"{ast.unparse(node)} of {[a.type for a in args]}")
        value = build(_Context, self.b, signature, [a.value for a in args])
        return Typed(value, signature.return_type)


def _any_stride(b: Any, stride: Any) -> Any:
    """The same number, of which LLVM does not expect that it is 1.

    Of an argument it does (``LoopAccessAnalysis``, symbolic strides), and has scalars otherwise.
    """
    least = _I64(-(1 << 62))
    return b.select(b.icmp_signed(">", stride, least), stride, least)


def _group(node: ast.For) -> int:
    """How many elements are a vector under a mask (``lanes.few``), if the processor has masks.

    Not integer divisions: LLVM makes one that is the same for a whole vector where the mask takes
    the first element only.
    """
    mark, calls = ast.unparse(node.body[-1]), [x for x in ast.walk(node) if isinstance(x, ast.Call)]
    divides = any(ast.unparse(x.func).startswith(("quotient", "remainder")) for x in calls)
    masks = mark.startswith("few(") and "+avx512bw," in host().features
    return int(mark.rpartition(",")[2].rstrip(")")) if masks and not divides else 0


def _constant(value: Any) -> Typed:
    """A number as Numba types it."""
    if isinstance(value, bool):
        return Typed(_I1(value), types.boolean)
    if isinstance(value, int) and -(1 << 63) <= value < 1 << 64:
        return Typed(_I64(value), types.int64 if value < 1 << 63 else types.uint64)
    if isinstance(value, float):
        return Typed(ir.DoubleType()(value), types.float64)
    raise Foreign(repr(value))
