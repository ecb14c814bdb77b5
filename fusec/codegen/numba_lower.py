"""From kernel text to an LLVM module by Numba: for CUDA, and for what `front` does not know.

Of Numba's compiler only four steps run here: bytecode to IR, SSA, type inference, lowering.
Its rewrites and its two rounds of LLVM passes are left out: a kernel has nothing that they are
for (arrays, reference counts, closures, exceptions), and they take most of its compile time.
"""
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import linecache
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from types import FunctionType
from typing import Any, NamedTuple

import llvmlite.binding as llvm
import numba
import numpy as np
from llvmlite import ir
from numba.core import (
    bytecode,
    cgutils,
    codegen,
    compiler,
    funcdesc,
    interpreter,
    ir_utils,
    lowering,
    registry,
    ssa,
    transforms,
    typed_passes,
    types,
)
from numba.core.targetconfig import ConfigStack
from numba.np import numpy_support

from fusec.codegen.lanes import mark_loops
from fusec.codegen.target import KernelCompileError

# Characters of Numba's message that are shown above the kernel.
_CAUSE = 400


class Machine(NamedTuple):
    """What lowering has to know of a target: LLVM's triple, and how to make its machine."""

    triple: str
    machine: Callable[[], Any]


@contextmanager
def errors(symbol: str, text: str) -> Iterator[None]:
    """Turn whatever Numba or LLVM raise into one error that shows the kernel."""
    try:
        yield
    except KernelCompileError:
        raise
    except Exception as error:
        raise KernelCompileError(_message(symbol, text, error)) from None
    finally:
        linecache.cache.pop(_filename(symbol), None)


def _message(symbol: str, text: str, error: Exception) -> str:
    place = re.search(rf'{re.escape(_filename(symbol))}(?:", line | \()(\d+)', str(error))
    at = int(place[1]) if place else getattr(error, "lineno", 0)
    lines = [
        f"{'>' if number == at else ' '}{number:4} {line}"
        for number, line in enumerate(text.splitlines(), 1)
    ]
    plain = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    cause = " ".join(plain.split())[:_CAUSE]
    return "\n".join([f"{type(error).__name__} in {symbol}: {cause}", *lines])


def _filename(symbol: str) -> str:
    return f"<{symbol}>"


def load(symbol: str, text: str) -> FunctionType:
    """Execute the text; functions beside ``kernel`` become Numba functions that it can call."""
    filename = _filename(symbol)
    linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
    names: dict[str, Any] = {"__name__": "fusec.kernel"}
    exec(compile(text, filename, "exec"), names)
    for name, value in list(names.items()):
        if isinstance(value, FunctionType) and value.__globals__ is names and name != "kernel":
            names[name] = numba.njit(error_model="numpy", forceinline=True)(value)
    kernel: FunctionType = names["kernel"]
    return kernel


@lru_cache(None)
def pointer(dtype: str) -> Any:
    kind = np.dtype(dtype)
    if kind.kind == "b":
        return types.CPointer(types.uint8)
    if kind.kind in "mM":
        return types.CPointer(types.int64)
    if kind.kind == "f" and kind.itemsize == 2:
        return types.CPointer(types.uint16)
    return types.CPointer(numpy_support.from_dtype(kind))


class _Library(codegen.CodeLibrary):
    """Keeps what Numba lowers as it is: nothing is optimised, nothing is loaded."""

    def __init__(self, owner: Any, name: str) -> None:
        super().__init__(owner, name)
        self.modules: list[ir.Module] = []
        self.libraries: dict[Any, None] = {}

    def add_ir_module(self, ir_module: ir.Module) -> None:
        self.modules.append(ir_module)

    def add_linking_library(self, library: Any) -> None:
        self.libraries[library] = None

    def finalize(self) -> None:
        self._finalized = True

    def get_function(self, name: str) -> Any:
        return next(m.globals[name] for m in self.modules if name in m.globals)

    def get_llvm_str(self) -> str:
        return "\n".join(map(str, self.modules))

    def get_asm_str(self) -> str:
        return ""

    def reached(self) -> Iterator[Any]:
        """The libraries that this one calls, directly or not, each once."""
        todo, seen = [self], {self}
        while todo:
            for library in todo.pop().libraries:
                if library not in seen:
                    seen.add(library)
                    yield library
                    if isinstance(library, _Library):
                        todo.append(library)


class _Codegen(codegen.Codegen):
    """Numba's idea of a code generator, without an optimiser and without an engine."""

    _library_class = _Library

    def __init__(self, machine: Machine) -> None:
        self._triple = machine.triple
        self._target_data = machine.machine().target_data
        self._data_layout = str(self._target_data)

    def _create_empty_module(self, name: str) -> ir.Module:
        module = ir.Module(cgutils.normalize_ir_text(name))
        module.triple = self._triple
        module.data_layout = self._data_layout
        return module

    def _add_module(self, module: Any) -> None:
        raise NotImplementedError("kernels are loaded by fusec.runtime")


class _Lower(lowering.Lower):
    """Numba's lowering without the Python environment that its own wrappers need."""

    def lower(self) -> None:
        self.genlower = None
        self.lower_normal_function(self.fndesc)


class Lowered:
    """A lowered kernel: its LLVM module, Numba's description of it, what it calls."""

    def __init__(self, context: Any, descriptor: Any, library: _Library, module: ir.Module):
        self.context, self.descriptor = context, descriptor
        self.library, self.module = library, module
        self.kernel = module.globals[descriptor.mangled_name]

    def link(self) -> Any:
        """One parsed module with everything that is called."""
        mark_loops(self.kernel)
        linked = parse(self.module)
        for library in self.library.reached():
            for other in _parsed(library):
                linked.link_in(other)
        return linked


def parse(module: ir.Module) -> Any:
    return llvm.parse_assembly(cgutils.normalize_ir_text(str(module)))


def _parsed(library: Any) -> list[Any]:
    if not isinstance(library, _Library):
        return [library._get_module_for_linking().clone()]
    parsed = [parse(module) for module in library.modules]
    for module in parsed:
        for function in module.functions:
            if not function.is_declaration:
                function.linkage = "linkonce_odr"
    return parsed


@lru_cache(1)
def _flags() -> Any:
    flags: Any = compiler.Flags()
    flags.error_model = "numpy"
    flags.nrt = False
    flags.boundscheck = False
    flags.no_compile = True
    flags.no_cpython_wrapper = True
    flags.no_cfunc_wrapper = True
    return flags


class _Typing:
    """Numba's typing context, which remembers what operators and primitives give for numbers.

    Numba tries all their templates at every use; a kernel uses a few of them hundreds of times.
    """

    def __init__(self, shared: Any) -> None:
        self._shared = shared
        self._known: dict[Any, Any] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._shared, name)

    def resolve_function_type(self, func: Any, args: Any, kws: Any) -> Any:
        if kws or not all(isinstance(a, _PLAIN) for a in args):
            return self._shared.resolve_function_type(func, args, kws)
        key = (func, tuple(args))
        if key not in self._known:
            self._known[key] = self._shared.resolve_function_type(func, args, kws)
        return self._known[key]


_PLAIN = (types.Number, types.Boolean, types.CPointer)


@lru_cache(1)
def _typing() -> Any:
    return _Typing(registry.cpu_target.typing_context)


@lru_cache(None)
def _base_context(machine: Machine) -> Any:
    """Numba's CPU context, sharing its tables, with our code generator."""
    shared = registry.cpu_target.target_context
    shared.refresh()
    return shared.subtarget(_internal_codegen=_Codegen(machine))


def lower(kernel: FunctionType, args: tuple[Any, ...], machine: Machine) -> Lowered:
    typing, base = _typing(), _base_context(machine)
    typing.refresh()
    base.refresh()
    context = compiler._make_subtarget(base, _flags())
    with ConfigStack().enter(_flags().copy()):
        func_ir = _ssa_form(kernel)
        typed = typed_passes.type_inference_stage(typing, context, func_ir, args, types.int64)
        typed_passes.PreLowerStripPhis()._strip_phi_nodes(func_ir)
        descriptor = funcdesc.PythonFunctionDescriptor.from_specialized_function(
            func_ir,
            typed.typemap,
            typed.return_type,
            typed.calltypes,
            mangler=context.mangler,
            inline=True,
            noalias=False,
            abi_tags=(),
        )
        library = context.codegen().create_library(kernel.__name__)
        with context.push_code_library(library):
            lower = _Lower(context, library, descriptor, func_ir, metadata={})
            lower.lower()
    return Lowered(context, descriptor, library, lower.module)


def _ssa_form(kernel: FunctionType) -> Any:
    """Numba's IR without its analysis of lifetimes: numbers and pointers need no deleting."""
    identity = bytecode.FunctionIdentity.from_function(kernel)
    func_ir = interpreter.Interpreter(identity).interpret(bytecode.ByteCode(identity))
    func_ir.blocks = transforms.canonicalize_cfg(func_ir.blocks)
    func_ir.generator_info = None
    ssa.reconstruct_ssa(func_ir)
    func_ir._definitions = ir_utils.build_definitions(func_ir.blocks)
    return func_ir


