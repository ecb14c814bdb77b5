"""LLVM for the machine we run on: from an LLVM module to an object file, and names for both.

Everything here goes through llvmlite, which is imported on first use; Numba is never needed.
The optimiser runs once, at O3, on the module as the front end left it.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import struct
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

from fusec.errors import FusecError

Pointers = tuple[tuple[str, str], ...]

# What a kernel must not call: these need the interpreter, or exist only where Numba is loaded.
_FORBIDDEN = ("Py", "_Py", "numba_", "NRT_", "_ZN5numba")

# LLVM's option for how many elements of a record are read by one shuffle, which it keeps in the
# process, and its default of 8.
_LONGEST_RECORD = "-max-interleave-group-factor"

# Numba's name for addresses of this process that it writes into code.
_ADDRESSES = "numba.dynamic.globals"


class KernelCompileError(FusecError, RuntimeError):
    """A generated kernel did not compile: always a fault of fusec, never of the user's function."""


class Host(NamedTuple):
    """What machine code depends on."""

    triple: str
    cpu: str
    features: str


@lru_cache(1)
def host() -> Host:
    """The processor that runs this process, as LLVM names it.

    LLVM prefers 256-bit vectors on processors with AVX-512; measured on streaming and on
    polynomial loops, the full width is as fast or faster, so the preference is taken back.
    It takes gather instructions for cheap, and prefers them to shuffles where records of 8 or
    more elements are read; single loads are as fast (Zen 5: a sum of 8 float64 2.8 times).

    >>> host().triple == host()[0]
    True
    """
    import llvmlite.binding as llvm

    found = llvm.get_host_cpu_features()
    features = found.flatten()
    if found.get("avx512f"):
        features += ",-prefer-256-bit,+prefer-no-gather,+prefer-no-scatter"
    return Host(llvm.get_process_triple(), llvm.get_host_cpu_name(), features)


@lru_cache
def offers(triple: str, *features: str) -> bool:
    """Whether ``triple`` is this processor's kind, and it has all the named features.

    >>> offers("nvptx64-nvidia-cuda", "avx2")
    False
    """
    return "nvptx" not in triple and {f"+{f}" for f in features} <= {*host().features.split(",")}


def wide() -> bool:
    """Whether this processor has vectors of 512 bits."""
    return offers(host().triple, "avx512f")


def side() -> int:
    """Rows of a tile of a matrix product: those for which there are registers."""
    return 8 if wide() else 4


def lanes_of(bits: int) -> int:
    """Elements of a vector, each of so many bits."""
    return (512 if wide() else 256) // bits


@lru_cache(1)
def machine() -> Any:
    """LLVM's target machine for ``host()``, made once.

    The loader may put the sections of an object anywhere, so addresses have their full width
    (LLVM's large code model where it loads code into a process). Measured against the small
    model: between 8 % slower and 6 % faster.
    """
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    triple, cpu, features = host()
    target = llvm.Target.from_triple(triple)
    reloc = "static" if target.name.startswith("x86") else "default"
    return target.create_target_machine(
        cpu=cpu, features=features, opt=3, reloc=reloc, codemodel="jitdefault", jit=True
    )


@dataclass(frozen=True)
class ObjectCode:
    """One compiled kernel.

    symbol: name of the entry, unique for the content the code was made from.
    object: bytes of an object file for this machine.
    bitcode: the optimised LLVM module.
    """

    symbol: str
    object: bytes
    bitcode: bytes

    @cached_property
    def llvm(self) -> str:
        """Text of the optimised LLVM module."""
        import llvmlite.binding as llvm

        return str(llvm.parse_bitcode(self.bitcode))

    @cached_property
    def asm(self) -> str:
        """Assembly of the object file, made from the LLVM module on demand."""
        import llvmlite.binding as llvm

        return str(machine().emit_assembly(llvm.parse_bitcode(self.bitcode)))


def build(symbol: str, module: Any, unroll: bool = True) -> ObjectCode:
    """Optimise a parsed LLVM module and emit it.

    symbol: the function that is called from outside; everything else should be internal.
    module: llvmlite ``ModuleRef``; optimised in place.
    unroll: see ``optimise``.
    Raises KernelCompileError when the object refers to anything but the C library, RuntimeError
    when the module is not valid.

    >>> import llvmlite.binding as llvm
    >>> module = llvm.parse_assembly("define i64 @one() { ret i64 1 }")
    >>> build("one", module).symbol
    'one'
    """
    module.verify()  # on a module that is not valid the optimiser crashes
    optimise(module, unroll, machine())
    bitcode = module.as_bitcode()  # before emission, which rewrites the module
    data = machine().emit_object(module)
    missing = [name for name in undefined_symbols(data) if not _resolves(name)]
    missing += [g.name for g in module.global_variables if g.name.startswith(_ADDRESSES)]
    if missing:
        raise KernelCompileError(f"{symbol} refers to {', '.join(missing)}")
    return ObjectCode(symbol, data, bitcode)


def optimise(module: Any, unroll: bool, machine: Any) -> None:
    """Run LLVM's O3 pipeline on ``module``, in place, with both vectorisers.

    machine: LLVM's target machine.
    unroll: wanted for inner loops with a constant count. Loops of unknown count are as fast
    without it (the vectoriser interleaves on its own) and take up to half the time to compile.
    """
    import llvmlite.binding as llvm

    from fusec.codegen.mathlib.rare import finish

    options = llvm.create_pipeline_tuning_options(speed_level=3)
    options.loop_vectorization = True
    options.slp_vectorization = True
    options.loop_interleaving = True
    options.loop_unrolling = unroll
    builder = llvm.create_pass_builder(machine, options)
    llvm.set_option("fusec", f"{_LONGEST_RECORD}=16")
    builder.getModulePassManager().run(module, builder)
    llvm.set_option("fusec", f"{_LONGEST_RECORD}=8")
    finish(module, machine)


def content_hash(text: str, ints: tuple[str, ...], ptrs: Pointers, fastmath: bool) -> str:
    """Hash of what a kernel computes: its source without the comments on top, its ABI, its flags.

    >>> key = content_hash("def kernel(start, stop): return 0", (), (), False)
    >>> key == content_hash("# fused: add\\ndef kernel(start, stop): return 0", (), (), False)
    True
    """
    facts = repr((strip_comments(text), ints, ptrs, fastmath))
    return hashlib.sha256(facts.encode()).hexdigest()


def strip_comments(text: str) -> str:
    """``text`` from its first line that is neither a comment nor empty.

    >>> strip_comments("# fused: add\\n\\ndef kernel(): pass")
    'def kernel(): pass'
    """
    lines = text.splitlines(keepends=True)
    first = 0
    while first < len(lines) and lines[first].lstrip()[:1] in ("", "#"):
        first += 1
    return "".join(lines[first:])


def undefined_symbols(data: bytes) -> list[str]:
    """Names that a 64-bit little-endian ELF object takes from elsewhere; [] for other formats.

    Layout: System V gABI, sections "ELF Header", "Section Header", "Symbol Table".
    """
    if data[:6] != b"\x7fELF\x02\x01":
        return []
    (offset,) = struct.unpack_from("<Q", data, 0x28)
    size, count = struct.unpack_from("<HH", data, 0x3A)
    # per section: name, type, flags, address, offset, size, link, info, alignment, entry size
    sections = [struct.unpack_from("<IIQQQQIIQQ", data, offset + size * i) for i in range(count)]
    names: list[str] = []
    for section in sections:
        if section[1] == 2:  # SHT_SYMTAB
            strings = sections[section[6]]
            names += _undefined(data, section[4], section[5], strings[4])
    return names


def _undefined(data: bytes, start: int, size: int, strings: int) -> list[str]:
    found = []
    for place in range(start + 24, start + size, 24):  # the first symbol is the null symbol
        name, _info, _other, section = struct.unpack_from("<IBBH", data, place)
        if section == 0 and name:
            end = data.index(b"\0", strings + name)
            found.append(data[strings + name : end].decode())
    return found


def _resolves(name: str) -> bool:
    if name.startswith(_FORBIDDEN):
        return False
    return name == "_GLOBAL_OFFSET_TABLE_" or hasattr(_process(), name)


@lru_cache(1)
def _process() -> Any:
    return ctypes.CDLL(None) if os.name == "posix" else ctypes.cdll.msvcrt
