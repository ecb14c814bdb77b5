"""The kernel cache: memory, then a folder on disk, then the compiler.

An entry is one object file under the hash of everything it depends on; nothing looks at times
to decide whether it is valid. Any number of processes may use one folder: a writer renames a
finished file into place, a reader checks the hash of what it reads, and whatever goes wrong with
the folder is a miss, never an error. The folder is private to its owner, because what is in it
is executed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import struct
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from fusec.codegen import target
from fusec.config import config, log
from fusec.errors import CacheWarning
from fusec.runtime import cpu

_MAGIC, _VERSION = b"fusecobj", 1
# magic, version, length of the symbol, length of the object, SHA-256 of key, symbol and object
_HEADER = struct.Struct("<8sHHQ32s")
# What eviction and clearing may touch, in folders named by two digits; somebody may have pointed
# FUSEC_CACHE_DIR at a folder of their own.
_FOLDER, _OURS = re.compile("[0-9a-f]{2}"), re.compile(r"[0-9a-f]{32,}\.(o|py)|fusec-\w+\.tmp")
# One write in so many looks at the size of the folder, which takes a scan of it.
_EVICT_EVERY = 32
# Evict down to this part of the limit, so that the next writes have room.
_LOW_WATER = 0.9
# A temporary file older than this (seconds) was left by a writer that died.
_STALE = 3600.0


class LoadedKernel(NamedTuple):
    """Code in this process: the address of ``symbol``, or PTX, and where it came from."""

    address: int
    symbol: str
    origin: str  # "compiled" or "disk"
    ptx: str = ""


Load = Callable[[str, bytes, str], LoadedKernel]


def _machine_code(symbol: str, data: bytes, origin: str) -> LoadedKernel:
    return LoadedKernel(cpu.load(symbol, data), symbol, origin)


def _ptx(symbol: str, data: bytes, origin: str) -> LoadedKernel:
    return LoadedKernel(0, symbol, origin, data.decode())


class Entry(NamedTuple):
    """One object file in the folder; ``used`` is when a process last asked for it."""

    key: str
    size: int
    used: float
    path: Path


class KernelCache:
    """Finds machine code by key, and makes and stores what is missing.

    folder: where entries are kept; None means ``config.cache_dir / "objects"``, read on each use.
    limit: size in bytes that eviction aims at; None means ``config.cache_bytes``.

    >>> from fusec.codegen.numba_cpu import compile_kernel
    >>> import tempfile
    >>> cache = KernelCache(Path(tempfile.mkdtemp()))
    >>> def produce():
    ...     code = compile_kernel("def kernel(start, stop): return 7", (), ())
    ...     return code.symbol, code.object
    >>> first, again = cache.get(bytes(32), produce), cache.get(bytes(32), produce)
    >>> first is again, cache.stats()
    (True, {'compiled': 1, 'disk_hits': 0, 'memory_hits': 1})
    """

    def __init__(self, folder: Path | None = None, limit: int | None = None) -> None:
        self._folder, self._limit = folder, limit
        self._loaded: dict[bytes, LoadedKernel] = {}
        self._compiled = self._disk_hits = self._memory_hits = 0
        self._warned = False

    @property
    def folder(self) -> Path:
        """Where the entries are."""
        return self._folder or config.cache_dir / "objects"

    def kernel(
        self, text: str, ints: tuple[str, ...], ptrs: target.Pointers, fastmath: bool = False
    ) -> LoadedKernel:
        """The entry of a kernel text; arguments as for ``compile_kernel``.

        Numba is imported only if the kernel is neither in memory nor on disk.
        Raises KernelCompileError.
        """

        def produce() -> tuple[str, bytes]:
            from fusec.codegen.numba_cpu import compile_kernel

            code = compile_kernel(text, ints, ptrs, fastmath=fastmath)
            return code.symbol, code.object

        return self.get(kernel_key(text, ints, ptrs, fastmath), produce, text)

    def ptx(
        self,
        text: str,
        ints: tuple[str, ...],
        ptrs: target.Pointers,
        arch: str,
        *,
        fastmath: bool = False,
        aligned: bool = False,
    ) -> tuple[str, str]:
        """The entry's name and the PTX of a kernel text; arguments as for ``compile_ptx``.

        Raises KernelCompileError, UnsupportedError.
        """

        def produce() -> tuple[str, bytes]:
            from fusec.codegen.numba_cuda import compile_ptx

            code = compile_ptx(text, ints, ptrs, arch=arch, aligned=aligned, fastmath=fastmath)
            return code.symbol, code.ptx.encode()

        plain = kernel_key(text, ints, ptrs, fastmath)
        key = hashlib.sha256(plain + f"{arch} {aligned}".encode()).digest()
        found = self.get(key, produce, text, _ptx)
        return found.symbol, found.ptx

    def get(
        self,
        key: bytes,
        produce: Callable[[], tuple[str, bytes]],
        text: str = "",
        load: Load = _machine_code,
    ) -> LoadedKernel:
        """Loaded code for ``key``; threads that ask for one key produce it once.

        key: hash of everything the code depends on, at least 16 bytes.
        produce: returns (symbol, object file or PTX); called when the key is not known.
        text: what the object was made from, kept beside it for people to read.
        load: makes a kernel of (symbol, data, origin).
        """
        found = self._loaded.get(key)
        if found is not None:
            self._memory_hits += 1
            return found
        with cpu.native_lock:
            found = self._loaded.get(key)
            if found is None:
                found = self._from_disk(key, load) or self._make(key, produce, text, load)
                self._loaded[key] = found
        return found

    def stats(self) -> dict[str, int]:
        """How often this process compiled, loaded from disk, and found in memory."""
        return {
            "compiled": self._compiled,
            "disk_hits": self._disk_hits,
            "memory_hits": self._memory_hits,
        }

    def list_entries(self) -> list[Entry]:
        """The entries on disk, least recently used first."""
        found = [Entry(p.name[:-2], size, used, p) for p, size, used in self._files(".o")]
        return sorted(found, key=lambda entry: entry.used)

    def clear(self) -> int:
        """Remove all entries from disk, not from memory; returns how many there were."""
        entries = self.list_entries()
        for path, _size, _used in self._files():
            _unlink(path)
        return len(entries)

    def path(self, key: bytes) -> Path:
        """Where the entry of ``key`` is, or would be."""
        name = key.hex()
        return self.folder / name[:2] / f"{name}.o"

    def _from_disk(self, key: bytes, load: Load) -> LoadedKernel | None:
        path = self.path(key)
        try:
            data = path.read_bytes()
        except OSError:
            return None
        unpacked = _unpack(key, data)
        if unpacked is None:
            return None
        try:
            found = load(*unpacked, "disk")
        except RuntimeError:  # of another format or machine, under our key: make it again
            return None
        with contextlib.suppress(OSError):
            os.utime(path)
        self._disk_hits += 1
        return found

    def _make(
        self, key: bytes, produce: Callable[[], tuple[str, bytes]], text: str, load: Load
    ) -> LoadedKernel:
        start = time.perf_counter()
        symbol, data = produce()
        made = load(symbol, data, "compiled")
        self._compiled += 1
        log("recompile", "%s compiled in %.0f ms", symbol, 1e3 * (time.perf_counter() - start))
        try:
            self._write(key, symbol, data, text)
        except OSError as error:
            self._warn(error)
        return made

    def _write(self, key: bytes, symbol: str, data: bytes, text: str) -> None:
        path = self.path(key)
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        _replace(path, _pack(key, symbol, data))
        if text:
            _replace(path.with_suffix(".py"), text.encode())
        if key[-1] % _EVICT_EVERY == 0:
            self.evict()

    def evict(self) -> None:
        """Remove the entries used longest ago until the folder is within its limit."""
        limit = config.cache_bytes if self._limit is None else self._limit
        files = {path: (size, used) for path, size, used in self._files()}
        total = sum(size for size, _used in files.values())
        goal = _LOW_WATER * limit if total > limit else total
        oldest = time.time() - _STALE
        for path, (size, used) in sorted(files.items(), key=lambda item: item[1][1]):
            if path.suffix == ".tmp" and used < oldest:
                _unlink(path)
            elif path.suffix == ".o" and total > goal:
                text = path.with_suffix(".py")
                total -= size + files.get(text, (0, 0))[0]
                _unlink(path)
                _unlink(text)

    def _files(self, suffix: str = "") -> Iterator[tuple[Path, int, float]]:
        """(path, bytes, time of last use) of the files in the folder that end in ``suffix``."""
        for folder in _scan(self.folder, _FOLDER):
            for item in _scan(folder.path, _OURS):
                if item.name.endswith(suffix):
                    with contextlib.suppress(OSError):
                        facts = item.stat()
                        yield Path(item.path), facts.st_size, facts.st_mtime

    def _warn(self, error: OSError) -> None:
        if not self._warned:
            self._warned = True
            message = f"{self.folder} cannot be written ({error}); set FUSEC_CACHE_DIR"
            warnings.warn(message, CacheWarning, stacklevel=2)


def kernel_key(
    text: str, ints: tuple[str, ...], ptrs: target.Pointers, fastmath: bool = False
) -> bytes:
    """Hash of everything that a kernel's machine code depends on.

    >>> len(kernel_key("def kernel(start, stop): return 0", (), ()))
    32
    """
    content = target.content_hash(text, ints, ptrs, fastmath)
    return hashlib.sha256(_toolchain() + content.encode()).digest()


@lru_cache(1)
def _toolchain() -> bytes:
    """What kernels have in common: processor, versions, and the code that is inlined in them."""
    import llvmlite

    spec = find_spec("numba")  # finds the package without importing it
    version = Path(spec.origin).with_name("_version.py") if spec and spec.origin else None
    facts = [*target.host(), sys.platform, str(struct.calcsize("P")), llvmlite.__version__]
    digest = hashlib.sha256("\0".join(facts).encode())
    sources = sorted(Path(target.__file__).parent.rglob("*.py"))
    for path in [version, *sources]:
        if path is not None and path.exists():
            digest.update(path.read_bytes() + b"\0")
    return digest.digest()


def _pack(key: bytes, symbol: str, data: bytes) -> bytes:
    name = symbol.encode()
    check = hashlib.sha256(key + name + data).digest()
    return _HEADER.pack(_MAGIC, _VERSION, len(name), len(data), check) + name + data


def _unpack(key: bytes, blob: bytes) -> tuple[str, bytes] | None:
    """(symbol, object) of an intact entry, else None."""
    if len(blob) < _HEADER.size:
        return None
    magic, version, length, size, check = _HEADER.unpack_from(blob)
    body = blob[_HEADER.size :]
    if magic != _MAGIC or version != _VERSION or len(body) != length + size:
        return None
    if hashlib.sha256(key + body).digest() != check:
        return None
    return body[:length].decode(), body[length:]


def _replace(path: Path, data: bytes) -> None:
    """Write a file so that readers see the old one, the new one or none, never a part."""
    number, name = tempfile.mkstemp(prefix="fusec-", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(number, "wb") as file:
            file.write(data)
        os.replace(name, path)  # noqa: PTH105
    except OSError:
        _unlink(Path(name))
        raise


def _unlink(path: Path) -> None:
    """Remove a file that somebody else may be removing too."""
    with contextlib.suppress(OSError):
        path.unlink()


def _scan(folder: Path | str, wanted: re.Pattern[str]) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as items:
            return [item for item in items if wanted.fullmatch(item.name)]
    except OSError:
        return []


cache = KernelCache()
