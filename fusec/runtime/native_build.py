"""Compile, cache and load the runtime's own machine code, and fill in the table it calls through.

The object file depends on nothing but the text of the `native_*` modules it comes from and
the target, so that it is compiled once per machine and then loaded from the disk cache.
"""

from __future__ import annotations

import ctypes
import hashlib
import sys
from ctypes import POINTER, c_void_p, cast, pythonapi
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from fusec.runtime import native_layout as layout

SYMBOL = "fusec_native"
EXPORTS = (
    "worker_loop", "stop", "entry", "runner", "rounds", "chain",
    "new_memory", "zeroed_memory", "other_memory", "free_memory", "new_array",
)  # fmt: skip


class Sentinel:
    """A unique object that a native entry returns in place of a result."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name


MISS = Sentinel("MISS")
ERROR = Sentinel("ERROR")


def _text(name: str) -> str:
    path = Path(__file__).with_name(name + ".py")
    return path.read_text(encoding="utf-8")


def _source() -> str:
    return "".join(map(_text, ("native_source", "native_source_memory", "native_source_call")))


def triple() -> str:
    """LLVM's name of this process's kind of machine."""
    import llvmlite.binding as llvm

    return str(llvm.get_process_triple())


def compile_object() -> bytes:
    """Translate `native_source` and return the bytes of an object file for this machine."""
    import llvmlite.binding as llvm

    from fusec.runtime.native_lang import emit

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_triple(triple()).create_target_machine(opt=2, jit=True)
    module = llvm.parse_assembly(emit(_source(), SYMBOL, vars(layout), triple()))
    module.verify()
    builder = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(2))
    builder.getModulePassManager().run(module, builder)
    return bytes(machine.emit_object(module))


def _key() -> bytes:
    import llvmlite

    facts = [
        llvmlite.__version__,
        triple(),
        _source(),
        _text("native_lang"),
        _text("native_layout"),
    ]
    return hashlib.sha256("\0".join(facts).encode()).digest()


@lru_cache(1)
def functions() -> dict[str, int]:
    """Addresses of the native functions, loaded (and compiled, if it must be) on the first call."""
    from fusec.runtime.cache import cache

    loaded = cache.get(_key(), lambda: (SYMBOL, compile_object()))
    table = (ctypes.c_int64 * len(EXPORTS))()
    ctypes.CFUNCTYPE(ctypes.c_int64, c_void_p)(loaded.address)(ctypes.addressof(table))
    return dict(zip(EXPORTS, table))


def has_threads() -> bool:
    """Does this platform have what the pool is built on?"""
    return sys.platform in ("linux", "darwin")


def _c_library() -> Any:
    return ctypes.CDLL(None) if has_threads() else ctypes.cdll.msvcrt


def _array_table() -> Any:
    """NumPy's table of C functions, which is part of its binary interface."""
    capsule = np._core._multiarray_umath._ARRAY_API  # type: ignore[attr-defined]
    get = ctypes.PYFUNCTYPE(c_void_p, ctypes.py_object, c_void_p)(
        ("PyCapsule_GetPointer", pythonapi)
    )
    return cast(get(capsule, None), POINTER(c_void_p))


@lru_cache(1)
def api() -> layout.Api:
    """The table of C, Python and NumPy functions; never freed, parked threads read it."""
    table, c, numpy_table = layout.Api(), _c_library(), _array_table()
    sources = [(layout.C_FUNCTIONS, c), (layout.PYTHON_FUNCTIONS, pythonapi)]
    if has_threads():
        sources.append((layout.THREAD_FUNCTIONS, c))
    if sys.platform == "linux":
        sources.append((layout.LINUX_FUNCTIONS, c))
    for declared, library in sources:
        for name, kind in declared:
            setattr(table, name, cast(getattr(library, name), kind))
    for name, kind, place in layout.ARRAY_FUNCTIONS:
        setattr(table, name, kind(numpy_table[place]))
    table.array_type, table.float_type = numpy_table[layout.ARRAY_TYPE], id(float)
    table.none, table.type_error = id(None), id(TypeError)
    table.miss, table.error = id(MISS), id(ERROR)
    table.default_handler = cast(numpy_table[layout.DEFAULT_HANDLER], POINTER(c_void_p))[0]
    immortal(table)
    return table


def set_handler(pool: layout.Pool) -> None:
    """Make the capsule through which NumPy has the memory of results from us (NEP 49).

    Arrays that outlive everything else of the interpreter still free their memory by it.
    """
    names = ("new_memory", "zeroed_memory", "other_memory", "free_memory")
    functions_ = [functions()[name] for name in names]
    handler = layout.Handler(b"fusec", 1, ctypes.addressof(pool), *functions_)
    new = pythonapi.PyCapsule_New
    new.argtypes, new.restype = (c_void_p, ctypes.c_char_p, c_void_p), ctypes.py_object
    name = b"mem_handler"
    capsule = new(ctypes.addressof(handler), name, None)
    for kept in (handler, name, capsule):
        immortal(kept)
    api().handler = id(capsule)


def immortal(thing: object) -> None:
    """Keep ``thing`` until the process ends, whatever becomes of this module's globals."""
    pythonapi.Py_IncRef(ctypes.py_object(thing))


class _MethodDef(ctypes.Structure):
    """CPython's PyMethodDef."""

    _fields_ = (
        ("name", ctypes.c_char_p), ("function", c_void_p), ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    )  # fmt: skip


_METH_FASTCALL = 0x80


@lru_cache(None)
def _method(name: str) -> _MethodDef:
    definition = _MethodDef(name.encode(), functions()[name], _METH_FASTCALL, None)
    immortal(definition)
    return definition


def builtin(name: str, memory: ctypes.Structure) -> Any:
    """A CPython builtin that runs the native function ``name`` on the structure ``memory``.

    The builtin keeps ``memory`` alive, and with it whatever hangs on its attributes.
    """
    new = pythonapi.PyCFunction_NewEx
    new.argtypes, new.restype = (c_void_p, ctypes.py_object, c_void_p), ctypes.py_object
    head = layout.Object.from_address(id(memory))
    if head.data != ctypes.addressof(memory):
        raise RuntimeError("this Python lays out ctypes objects differently")
    return new(ctypes.addressof(_method(name)), memory, None)
