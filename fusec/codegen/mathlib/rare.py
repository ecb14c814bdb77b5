"""Slow paths for arguments that hardly occur, kept out of vector loops.

The loop vectoriser accepts no branch that it cannot turn into selects, but it accepts a call whose
vector forms are known (LLVM's ``vector-function-abi-variant``). So ``patched("sin", x, usual)`` is

    call double @fusec.patch_sin.f64(double %x, double %usual)

which returns ``usual`` unless |x| is beyond the formula's range; ``slow`` is given x and whatever
``more`` it needs. Its forms for 2 to 16 lanes test
all lanes at once; ``finish`` inlines that one test into the vector loop once LLVM is through.
On a GPU the scalar form is inlined from the start; on a CPU it has to stay a call until there are
vectors, so it is one that a linker might replace (``weak``). Then it is inlined, too, into loops
over what whole vectors leave.
"""

from collections.abc import Callable
from typing import Any

from llvmlite import ir

from fusec.codegen.mathlib.dsl import Kind, Val

LANES = {"f32": (4, 8, 16), "f64": (2, 4, 8)}
KEEP = "llvm.compiler.used"
# Of the slow functions: not optimised, which halves the time that they add to a compile.
OUTSIDE = ("noinline", "cold", "optnone")
I64 = ir.IntType(64)


def new_function(
    module: ir.Module, symbol: str, result: ir.Type, arguments: list[ir.Type], *attributes: str
) -> ir.Function:
    """An internal function without side effects."""
    function = ir.Function(module, ir.FunctionType(result, arguments), symbol)
    function.linkage = "internal"
    for attribute in ("nounwind", "readnone", *attributes):
        set.add(function.attributes, attribute)  # llvmlite does not know all of them
    return function


def patched(
    name: str, x: Val, usual: Val, slow: Callable[..., Val], most: float, more: tuple[Val, ...] = ()
) -> Val:
    """``usual`` where |x| <= most, else ``slow(x, *more)``; inf and nan are beyond."""
    module, kind = x.b.module, x.kind
    symbol = f"fusec.patch_{name}.{kind.name}"
    known = module.globals.get(symbol) or module.globals.get(symbol + ".one")  # on a GPU
    function = known or _scalar(module, symbol, kind, slow, most, 2 + len(more))
    return Val(x.b, x.b.call(function, [v.v for v in (x, usual, *more)]))


def _scalar(
    module: ir.Module, symbol: str, kind: Kind, slow: Callable[..., Val], most: float, arity: int
) -> ir.Function:
    """``symbol(x, usual, ...)``, with its vector forms where the target has vectors."""
    gpu = "nvptx" in str(module.triple)
    one = _one_lane(module, symbol, kind, slow, most, arity)
    if gpu:
        return one
    function = weak_function(module, symbol, kind, arity)
    builder = ir.IRBuilder(function.append_basic_block())
    builder.ret(builder.call(one, function.args))
    each = _each_lane(module, symbol + ".each", one)
    forms = [_vector(module, f"{symbol}.v{n}", each, kind, n, most) for n in LANES[kind.name]]
    name_forms(function, forms)
    return function


def weak_function(module: ir.Module, symbol: str, kind: Kind, arity: int) -> ir.Function:
    """A function of numbers of one kind that ``finish`` inlines; a branch may be made a select."""
    attributes = ("willreturn", "speculatable")
    function = new_function(module, symbol, kind.real, [kind.real] * arity, *attributes)
    function.linkage = "weak"
    return function


def _one_lane(
    module: ir.Module, symbol: str, kind: Kind, slow: Callable[..., Val], most: float, arity: int
) -> ir.Function:
    """The test and the slow path; nothing known of vectors, or ``each`` would call itself."""
    arguments = [kind.real] * arity
    function = new_function(module, symbol + ".one", kind.real, arguments, "alwaysinline")
    huge = new_function(module, symbol + ".huge", kind.real, arguments[1:], *OUTSIDE)
    builder = ir.IRBuilder(function.append_basic_block())
    x, usual, *more = function.args
    with builder.if_then((~(abs(Val(builder, x)) <= most)).v, likely=False):
        builder.ret(builder.call(huge, [x, *more]))
    builder.ret(usual)
    inner = ir.IRBuilder(huge.append_basic_block())
    inner.ret(slow(*[Val(inner, v) for v in huge.args]).v)
    return function


def name_forms(scalar: ir.Function, forms: list[ir.Function]) -> None:
    """Names vector forms in an attribute of the scalar function and keeps them alive."""
    letters = "v" * len(scalar.args)
    mangled = ",".join(
        f"_ZGV_LLVM_N{form.args[0].type.count}{letters}_{scalar.name}({form.name})"
        for form in forms
    )
    set.add(scalar.attributes, f'"vector-function-abi-variant"="{mangled}"')
    _keep(scalar.module, forms)


def _keep(module: ir.Module, functions: list[ir.Function]) -> None:
    """Adds to the module's list of functions that must survive until ``finish``."""
    pointer = ir.IntType(8).as_pointer()
    used = module.globals.get(KEEP)
    kept = [] if used is None else list(used.initializer.constant)
    kept += [function.bitcast(pointer) for function in functions]
    array = ir.ArrayType(pointer, len(kept))
    if used is None:
        used = ir.GlobalVariable(module, array, KEEP)
        used.linkage, used.section = "appending", "llvm.metadata"
    used.value_type, used.initializer = array, ir.Constant(array, kept)


def _vector(
    module: ir.Module, symbol: str, each: ir.Function, kind: Kind, lanes: int, most: float
) -> ir.Function:
    """The form for ``lanes`` lanes: one test, and the lanes through memory behind it."""
    vector, count = ir.VectorType(kind.real, lanes), I64(lanes)
    arity = len(each.args) - 1
    function = new_function(module, symbol, vector, [vector] * arity, "alwaysinline")
    builder = ir.IRBuilder(function.append_basic_block())
    slots = [builder.alloca(vector) for _ in range(arity)]
    whole = ir.VectorType(kind.integer, lanes)
    size = builder.and_(builder.bitcast(function.args[0], whole), splat(whole, kind.sign - 1))
    beyond = builder.icmp_unsigned(">", size, splat(whole, kind.bits_of(most)))
    packed = ir.IntType(lanes)
    some = builder.icmp_unsigned("!=", builder.bitcast(beyond, packed), packed(0))
    with builder.if_then(some, likely=False):
        for value, slot in zip(function.args, slots):
            builder.store(value, slot)
        pointers = [builder.bitcast(slot, kind.real.as_pointer()) for slot in slots]
        builder.call(each, [*pointers, count])
        builder.ret(builder.load(slots[1]))
    builder.ret(function.args[1])
    return function


def splat(vector: ir.VectorType, value: float) -> ir.Constant:
    """The constant in every lane."""
    return ir.Constant(vector, [ir.Constant(vector.element, value)] * vector.count)


def _each_lane(module: ir.Module, symbol: str, one: ir.Function) -> ir.Function:
    """``symbol(x, y, ..., n)``: y[i] = one(x[i], y[i], ...) for i below n."""
    pointers = [x.type.as_pointer() for x in one.args]
    signature = ir.FunctionType(ir.VoidType(), [*pointers, I64])
    function = ir.Function(module, signature, symbol)
    function.linkage = "internal"
    for attribute in ("nounwind", *OUTSIDE):
        function.attributes.add(attribute)
    entry, loop, out = (function.append_basic_block() for _ in range(3))
    ir.IRBuilder(entry).branch(loop)
    builder = ir.IRBuilder(loop)
    i = builder.phi(I64)
    places = [builder.gep(p, [i]) for p in function.args[:-1]]
    builder.store(builder.call(one, [builder.load(p) for p in places]), places[1])
    following = builder.add(i, I64(1))
    i.add_incoming(I64(0), entry)
    i.add_incoming(following, loop)
    builder.cbranch(builder.icmp_unsigned("<", following, function.args[-1]), loop, out)
    ir.IRBuilder(out).ret_void()
    return function


def finish(module: Any, target_machine: Any) -> None:
    """Inline the tests into the optimised loops of an ``llvmlite.binding`` module.

    Run it once after the optimiser. Without it kernels are correct, but make a call per vector.
    """
    from llvmlite import binding

    kept = [g for g in module.global_variables if g.name == KEEP]
    if not kept:
        return
    kept[0].linkage, kept[0].name = "internal", "fusec.vector_forms"
    for function in module.functions:
        if function.linkage == binding.Linkage.weak_any:
            function.linkage = "internal"
            function.add_function_attribute("alwaysinline")
    options = binding.create_pipeline_tuning_options(speed_level=3)
    passes = binding.create_pass_builder(target_machine, options)
    manager = binding.create_new_module_pass_manager()
    manager.add_always_inliner_pass()
    manager.add_global_dead_code_eliminate_pass()
    manager.add_simplify_cfg_pass()
    manager.run(module, passes)
