"""The language of the runtime's own machine code: a few Python statements over ctypes structures.

The thread pool and the call entry have to be native, and no C compiler may be assumed where fusec
runs. Their source is `native_source`: ordinary, readable Python text that is never executed;
this module translates it to LLVM IR, once, when the object file is not in the cache yet.

What there is: integers (64 bits; narrower fields are sign-extended), doubles, pointers to
ctypes structures; assignment, ``if while for-range return break continue``; ``and or not`` with
short cuts; ``p.field``, ``p[i]``; calls of other functions of the text and through function
pointers held in fields. An embedded structure or array stands for its address. Besides those:
``atomic_load atomic_store atomic_add atomic_swap atomic_cas`` on a place, ``address(place)``,
``cast(value, type)``, ``stack(type, count)`` and ``pause()``.
"""

from __future__ import annotations

import ast
import ctypes
from typing import Any, NamedTuple

from llvmlite import ir

I1, I64, F64 = ir.IntType(1), ir.IntType(64), ir.DoubleType()
_BINARY = {
    ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul", ast.FloorDiv: "sdiv", ast.BitAnd: "and_",
    ast.Mod: "srem", ast.BitOr: "or_", ast.LShift: "shl", ast.RShift: "ashr",
}  # fmt: skip
_COMPARE = {
    ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=",
}  # fmt: skip
_PAUSE = {"x86_64": "llvm.x86.sse2.pause"}  # other processors just read the word again


class Value(NamedTuple):
    """An LLVM value (i64 or double) and the ctypes type that says what it means."""

    llvm: Any
    type: Any


def emit(text: str, symbol: str, names: dict[str, Any], triple: str) -> str:
    """Translate the functions of ``text``; returns the text of an LLVM module.

    symbol: what the first function is exported as; the others are internal to the module.
    names: what global names of the text mean: ctypes types and integer constants.
    triple: LLVM's name of the target.

    >>> from ctypes import c_int64
    >>> text = "def double(x: i64) -> i64:\\n    return x + x"
    >>> 'define i64 @"twice"' in emit(text, "twice", {"i64": c_int64}, "x86_64-linux-gnu")
    True
    """
    module = ir.Module("native")
    module.triple = triple
    trees = [node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)]
    known: dict[str, Function] = {}
    for tree in trees:
        name = symbol if tree is trees[0] else f"{symbol}.{tree.name}"
        known[tree.name] = Function(module, name, tree, names, known)
        if tree is not trees[0]:
            known[tree.name].llvm.linkage = "internal"
    for function in known.values():
        function.emit()
    return str(module)


def _annotated(node: ast.expr | None, names: dict[str, Any]) -> Any:
    return eval(compile(ast.Expression(node), "native", "eval"), dict(names)) if node else None


def _llvm_type(kind: Any) -> Any:
    return F64 if kind is ctypes.c_double else I64


def _stored_type(kind: Any) -> Any:
    return F64 if kind is ctypes.c_double else ir.IntType(8 * ctypes.sizeof(kind))


class Function:
    """One function of the text on its way to LLVM: statements `s_*`, expressions `e_*`."""

    def __init__(
        self, module: Any, name: str, tree: ast.FunctionDef, names: dict[str, Any],
        known: dict[str, Function],
    ) -> None:  # fmt: skip
        self.tree, self.names, self.known = tree, names, known
        self.arguments = [_annotated(a.annotation, names) for a in tree.args.args]
        self.result = _annotated(tree.returns, names)
        signature = ir.FunctionType(
            _llvm_type(self.result), [_llvm_type(kind) for kind in self.arguments]
        )
        self.llvm = ir.Function(module, signature, name)
        self.llvm.attributes.add("nounwind")
        self.locals: dict[str, tuple[Any, Any]] = {}
        self.loops: list[tuple[Any, Any]] = []

    def emit(self) -> None:
        """Emit the body; a function that falls off its end returns 0."""
        self.b = ir.IRBuilder(self.llvm.append_basic_block("entry"))
        for argument, kind, value in zip(self.tree.args.args, self.arguments, self.llvm.args):
            self.assign_local(argument.arg, Value(value, kind))
        body = self.llvm.append_basic_block("body")
        self.entry_end = self.b.branch(body)
        self.b.position_at_end(body)
        self.block(self.tree.body)
        if not self.b.block.is_terminated:
            self.b.ret(ir.Constant(_llvm_type(self.result), 0))

    # statements

    def block(self, statements: list[ast.stmt]) -> None:
        for statement in statements:
            getattr(self, "s_" + type(statement).__name__)(statement)

    def branch(self, target: Any) -> None:
        if not self.b.block.is_terminated:
            self.b.branch(target)

    def enter(self, block: Any) -> None:
        self.b.position_at_end(block)

    def after_jump(self) -> None:
        """What follows a return, break or continue is unreachable but has to live somewhere."""
        self.enter(self.llvm.append_basic_block("unreachable"))

    def s_Expr(self, node: ast.Expr) -> None:
        if not (isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)):
            self.expr(node.value)

    def s_Return(self, node: ast.Return) -> None:
        self.b.ret(self.expr(node.value).llvm if node.value else ir.Constant(I64, 0))
        self.after_jump()

    def s_Assign(self, node: ast.Assign) -> None:
        value = self.expr(node.value)
        target = node.targets[0]
        if isinstance(target, ast.Name):
            self.assign_local(target.id, value)
        else:
            self.store(self.place(target), value)

    def s_AugAssign(self, node: ast.AugAssign) -> None:
        load = ast.copy_location(ast.BinOp(node.target, node.op, node.value), node)
        self.s_Assign(ast.copy_location(ast.Assign([node.target], load), node))

    def s_If(self, node: ast.If) -> None:
        then, other, end = (self.llvm.append_basic_block(n) for n in ("then", "else", "endif"))
        self.b.cbranch(self.condition(node.test), then, other)
        for block, body in ((then, node.body), (other, node.orelse)):
            self.enter(block)
            self.block(body)
            self.branch(end)
        self.enter(end)

    def s_While(self, node: ast.While) -> None:
        self.loop(node.test, node.body, [])

    def s_For(self, node: ast.For) -> None:
        """``for i in range(n)`` or ``range(start, n)``; the bound is computed every time."""
        assert isinstance(node.target, ast.Name) and isinstance(node.iter, ast.Call)
        i, bounds = node.target.id, node.iter.args
        start = self.expr(bounds[0]) if len(bounds) == 2 else self.constant(0)
        self.assign_local(i, start)
        load = ast.Name(i, ast.Load())
        test = ast.Compare(load, [ast.Lt()], [bounds[-1]])
        self.loop(test, node.body, [ast.AugAssign(load, ast.Add(), ast.Constant(1))])

    def loop(self, test: ast.expr, body: list[ast.stmt], step: list[Any]) -> None:
        head, inside, next_, end = (
            self.llvm.append_basic_block(n) for n in ("head", "loop", "next", "end")
        )
        self.b.branch(head)
        self.enter(head)
        self.b.cbranch(self.condition(test), inside, end)
        self.loops.append((next_, end))
        for block, statements, target in ((inside, body, next_), (next_, step, head)):
            self.enter(block)
            self.block(statements)
            self.branch(target)
        self.loops.pop()
        self.enter(end)

    def s_Break(self, node: ast.Break) -> None:
        self.b.branch(self.loops[-1][1])
        self.after_jump()

    def s_Continue(self, node: ast.Continue) -> None:
        self.b.branch(self.loops[-1][0])
        self.after_jump()

    # places: an address (i64) and the ctypes type found there

    def place(self, node: ast.expr) -> Value:
        assert isinstance(node, ast.Attribute | ast.Subscript), ast.unparse(node)
        base = self.expr(node.value)
        held = base.type._type_
        if isinstance(node, ast.Attribute):
            offset = ir.Constant(I64, getattr(held, node.attr).offset)
            return Value(self.b.add(base.llvm, offset), dict(held._fields_)[node.attr])
        size = ir.Constant(I64, ctypes.sizeof(held))
        index = self.expr(node.slice).llvm
        return Value(self.b.add(base.llvm, self.b.mul(index, size)), held)

    def pointer(self, place: Value) -> Any:
        return self.b.inttoptr(place.llvm, _stored_type(place.type).as_pointer())

    def load(self, place: Value) -> Value:
        if hasattr(place.type, "_fields_"):
            return Value(place.llvm, ctypes.POINTER(place.type))
        if hasattr(place.type, "_length_"):
            return Value(place.llvm, ctypes.POINTER(place.type._type_))
        value = self.b.load(self.pointer(place), typ=_stored_type(place.type))
        return self.widened(value, place.type)

    def widened(self, value: Any, kind: Any) -> Value:
        if kind is not ctypes.c_double and value.type.width < 64:
            return Value(self.b.sext(value, I64), ctypes.c_int64)
        return Value(value, kind)

    def narrowed(self, value: Any, kind: Any) -> Any:
        stored = _stored_type(kind)
        return value if stored == value.type else self.b.trunc(value, stored)

    def store(self, place: Value, value: Value) -> None:
        self.b.store(self.narrowed(value.llvm, place.type), self.pointer(place))

    def assign_local(self, name: str, value: Value) -> None:
        if name not in self.locals:
            with self.b.goto_entry_block():
                self.locals[name] = (self.b.alloca(_llvm_type(value.type), name=name), value.type)
        self.b.store(value.llvm, self.locals[name][0])

    # expressions

    def expr(self, node: ast.expr) -> Value:
        value: Value = getattr(self, "e_" + type(node).__name__)(node)
        return value

    def constant(self, value: int) -> Value:
        return Value(ir.Constant(I64, value), ctypes.c_int64)

    def truth(self, value: Any) -> Value:
        return Value(self.b.zext(value, I64), ctypes.c_int64)

    def condition(self, node: ast.expr) -> Any:
        return self.b.icmp_signed("!=", self.expr(node).llvm, ir.Constant(I64, 0))

    def e_Constant(self, node: ast.Constant) -> Value:
        return self.constant(int(node.value))  # type: ignore[arg-type]

    def e_Name(self, node: ast.Name) -> Value:
        if node.id in self.known:
            return Value(self.b.ptrtoint(self.known[node.id].llvm, I64), ctypes.c_int64)
        if node.id not in self.locals:
            return self.constant(self.names[node.id])
        slot, kind = self.locals[node.id]
        return Value(self.b.load(slot, typ=_llvm_type(kind)), kind)

    def e_Attribute(self, node: ast.Attribute | ast.Subscript) -> Value:
        return self.load(self.place(node))

    e_Subscript = e_Attribute

    def e_BinOp(self, node: ast.BinOp) -> Value:
        left, right = self.expr(node.left), self.expr(node.right)
        operation = getattr(self.b, _BINARY[type(node.op)])
        return Value(operation(left.llvm, right.llvm), ctypes.c_int64)

    def e_Compare(self, node: ast.Compare) -> Value:
        left, right = self.expr(node.left), self.expr(node.comparators[0])
        sign = _COMPARE[type(node.ops[0])]
        return self.truth(self.b.icmp_signed(sign, left.llvm, right.llvm))

    def e_UnaryOp(self, node: ast.UnaryOp) -> Value:
        value = self.expr(node.operand).llvm
        if isinstance(node.op, ast.USub):
            return Value(self.b.neg(value), ctypes.c_int64)
        return self.truth(self.b.icmp_signed("==", value, ir.Constant(I64, 0)))

    def e_BoolOp(self, node: ast.BoolOp) -> Value:
        with self.b.goto_entry_block():
            slot = self.b.alloca(I64)
        end = self.llvm.append_basic_block("decided")
        for operand in node.values:
            test = self.condition(operand)
            self.b.store(self.truth(test).llvm, slot)
            more = self.llvm.append_basic_block("more")
            self.b.cbranch(test, *((more, end) if isinstance(node.op, ast.And) else (end, more)))
            self.enter(more)
        self.b.branch(end)
        self.enter(end)
        return Value(self.b.load(slot, typ=I64), ctypes.c_int64)

    def e_Call(self, node: ast.Call) -> Value:
        if isinstance(node.func, ast.Name) and hasattr(self, "c_" + node.func.id):
            known: Value = getattr(self, "c_" + node.func.id)(*node.args)
            return known
        values = [self.expr(argument).llvm for argument in node.args]
        if isinstance(node.func, ast.Name):
            callee = self.known[node.func.id]
            return Value(self.b.call(callee.llvm, values), callee.result)
        place = self.place(node.func)
        kind = place.type
        result = ir.VoidType() if kind._restype_ is None else _stored_type(kind._restype_)
        signature = ir.FunctionType(result, [_stored_type(a) for a in kind._argtypes_])
        address = self.b.load(self.pointer(place), typ=I64)
        target = self.b.inttoptr(address, signature.as_pointer())
        values = [self.narrowed(v, a) for v, a in zip(values, kind._argtypes_, strict=True)]
        value = self.b.call(target, values)
        return self.constant(0) if kind._restype_ is None else self.widened(value, kind._restype_)

    # what the language knows by name

    def c_cast(self, value: ast.expr, kind: ast.expr) -> Value:
        return Value(self.expr(value).llvm, _annotated(kind, self.names))

    def c_address(self, place: ast.expr) -> Value:
        return Value(self.place(place).llvm, ctypes.POINTER(self.place(place).type))

    def c_stack(self, kind: ast.expr, count: ast.expr) -> Value:
        held = _annotated(kind, self.names)
        memory = self.b.alloca(_stored_type(held), self.expr(count).llvm)
        memory.align = 16
        return Value(self.b.ptrtoint(memory, I64), ctypes.POINTER(held))

    def c_pause(self) -> Value:
        name = _PAUSE.get(self.llvm.module.triple.split("-")[0])
        if name:
            module = self.llvm.module
            self.b.call(module.declare_intrinsic(name, (), ir.FunctionType(ir.VoidType(), [])), [])
        return self.constant(0)

    def c_atomic_load(self, place: ast.expr) -> Value:
        target = self.place(place)
        return Value(self.b.load_atomic(self.pointer(target), "seq_cst", 8, typ=I64), target.type)

    def c_atomic_store(self, place: ast.expr, value: ast.expr) -> Value:
        pointer = self.pointer(self.place(place))
        self.b.store_atomic(self.expr(value).llvm, pointer, "seq_cst", 8)
        return self.constant(0)

    def exchanged(self, operation: str, place: ast.expr, value: ast.expr) -> Value:
        target = self.place(place)
        new = self.expr(value).llvm
        old = self.b.atomic_rmw(operation, self.pointer(target), new, "seq_cst")
        return Value(old, target.type)

    def c_atomic_add(self, place: ast.expr, value: ast.expr) -> Value:
        return self.exchanged("add", place, value)

    def c_atomic_swap(self, place: ast.expr, value: ast.expr) -> Value:
        return self.exchanged("xchg", place, value)

    def c_atomic_cas(self, place: ast.expr, old: ast.expr, new: ast.expr) -> Value:
        """True when the place held ``old`` and now holds ``new``."""
        pointer = self.pointer(self.place(place))
        pair = self.b.cmpxchg(pointer, self.expr(old).llvm, self.expr(new).llvm, "seq_cst")
        return self.truth(self.b.extract_value(pair, 1))
