"""Object files in memory become callable addresses, through llvmlite alone.

llvmlite is imported on first use. The code of a loaded object stays for the life of the process:
plans, threads and other caches hold bare addresses into it.
"""

from __future__ import annotations

import ctypes
import gc
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

# One lock for all native code work of the process. LLVM runs one call at a time anyway, so
# finer locks would win nothing; and a fork waits until nobody is inside LLVM or Numba.
native_lock = threading.RLock()

YOUNG = 100_000  # objects that a collection of the youngest takes milliseconds for


def _forked() -> None:
    global native_lock
    native_lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=lambda: native_lock.acquire(),
        after_in_parent=lambda: native_lock.release(),
        after_in_child=_forked,
    )


@contextmanager
def making() -> Iterator[None]:
    """Holds the lock while a plan is made, and keeps Python's cycle collector from running.

    Its passes over all that Numba holds would take a tenth of the time, and find nothing. Of a long
    trace what is left is not young any more: the next full collection goes over it, as over all
    that is old.
    """
    with native_lock:
        collects = gc.isenabled()
        gc.disable()
        try:
            yield
        finally:
            if gc.get_count()[0] > YOUNG and not gc.get_freeze_count():
                gc.freeze()
                gc.unfreeze()  # into the oldest generation
            if collects:
                gc.enable()


def load(symbol: str, data: bytes) -> int:
    """Load an object file and return the address of ``symbol`` in it.

    symbol: must not be defined by an object with other content in this process.
    data: bytes of a relocatable object for this machine; it may use the C library.
    Raises RuntimeError if LLVM cannot load it or the symbol is not in it.

    >>> from fusec.codegen.numba_cpu import compile_kernel
    >>> code = compile_kernel("def kernel(start, stop): return stop - start", (), ())
    >>> import ctypes
    >>> entry = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * 4)
    >>> entry(load(code.symbol, code.object))(2, 5, 0, 0)
    3
    """
    with native_lock:
        import llvmlite.binding as llvm

        engine = _engine()
        engine.add_object_file(llvm.ObjectFileRef.from_data(data))
        address = engine.get_function_address(symbol)
    if not address:
        raise RuntimeError(f"object file does not define {symbol}")
    return int(address)


@lru_cache(1)
def _engine() -> Any:
    """LLVM's loader, without a module of its own."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_triple(llvm.get_process_triple()).create_target_machine(jit=True)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(engine))  # arrays free their memory at the very end
    return engine
