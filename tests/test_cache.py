"""The kernel cache: memory, disk, compiler; every way a folder can be damaged is a miss."""

import ctypes
import errno
import json
import os
import subprocess
import sys
import threading
import time
import warnings

import numpy as np
import pytest

import fusec
from fusec.codegen.numba_cpu import compile_kernel
from fusec.config import config
from fusec.errors import CacheWarning
from fusec.runtime import cache as cache_module
from fusec.runtime import cpu
from fusec.runtime.cache import KernelCache, kernel_key

ENTRY = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * 4)


def kernel_text(k):
    return f"# a comment\ndef kernel(start, stop):\n    return stop - start + {k}\n"


def call(kernel):
    return ENTRY(kernel.address)(2, 5, 0, 0)


def counts(cache):
    return tuple(cache.stats().values())  # compiled, disk_hits, memory_hits


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "objects"


def test_memory_then_disk_then_compiler(folder):
    first = KernelCache(folder)
    assert call(first.kernel(kernel_text(1), (), ())) == 4
    assert first.kernel(kernel_text(1), (), ()).origin == "compiled"
    assert counts(first) == (1, 0, 1)
    second = KernelCache(folder)
    assert call(second.kernel(kernel_text(1), (), ())) == 4
    assert second.kernel(kernel_text(1), (), ()).origin == "disk"
    assert counts(second) == (0, 1, 1)
    [entry] = second.list_entries()
    assert entry.key == kernel_key(kernel_text(1), (), ()).hex()
    assert entry.size == entry.path.stat().st_size > 500
    assert entry.path.with_suffix(".py").read_text() == kernel_text(1)
    assert entry.path.parent.name == entry.key[:2]


def test_the_key_depends_on_content_and_nothing_else(monkeypatch):
    text, ptrs = kernel_text(1), (("x", "<f4"),)
    key = kernel_key(text, ("n",), ptrs)
    assert key == kernel_key("# other\n" + text, ("n",), ptrs)
    others = {
        kernel_key(kernel_text(2), ("n",), ptrs),
        kernel_key(text, (), ptrs),
        kernel_key(text, ("n",), (("x", "<f8"),)),
        kernel_key(text, ("n",), ptrs, fastmath=True),
    }
    cache_module._toolchain.cache_clear()
    host = cache_module.target.host()
    monkeypatch.setattr(cache_module.target, "host", lambda: host._replace(features="-avx"))
    others.add(kernel_key(text, ("n",), ptrs))
    cache_module._toolchain.cache_clear()
    assert len(others | {key}) == 6


def truncate(blob):
    return blob[: len(blob) // 2]


def flip(blob):
    return blob[:-100] + bytes([blob[-100] ^ 4]) + blob[-99:]


DAMAGE = {
    "truncated": truncate,
    "one bit": flip,
    "empty": lambda blob: b"",
    "shorter than a header": lambda blob: blob[:20],
    "header alone": lambda blob: blob[:52],
    "longer": lambda blob: blob + b"\0",
    "magic": lambda blob: b"FUSECOBJ" + blob[8:],
    "version": lambda blob: blob[:8] + b"\xff\xff" + blob[10:],
    "length": lambda blob: blob[:10] + b"\xff" + blob[11:],
    "garbage": lambda blob: os.urandom(3000),
    "an object alone": lambda blob: blob[blob.index(b"\x7fELF") :],
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_entry_is_a_miss_and_is_written_again(folder, damage):
    KernelCache(folder).kernel(kernel_text(1), (), ())
    path = KernelCache(folder).list_entries()[0].path
    good = path.read_bytes()
    path.write_bytes(DAMAGE[damage](good))
    again = KernelCache(folder)
    assert call(again.kernel(kernel_text(1), (), ())) == 4
    assert counts(again) == (1, 0, 0)
    assert path.read_bytes() == good


def test_an_entry_under_another_key_is_a_miss(folder):
    cache = KernelCache(folder)
    cache.kernel(kernel_text(1), (), ())
    other = cache.path(kernel_key(kernel_text(2), (), ()))
    other.parent.mkdir(exist_ok=True)
    cache.path(kernel_key(kernel_text(1), (), ())).rename(other)
    again = KernelCache(folder)
    assert call(again.kernel(kernel_text(2), (), ())) == 5
    assert counts(again) == (1, 0, 0)


def test_an_entry_that_is_a_folder(folder):
    cache = KernelCache(folder)
    cache.path(kernel_key(kernel_text(1), (), ())).mkdir(parents=True)
    with pytest.warns(CacheWarning):
        assert call(cache.kernel(kernel_text(1), (), ())) == 4


def test_a_folder_below_a_file_warns_once_and_stays_in_memory(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    cache = KernelCache(tmp_path / "file" / "objects")
    with pytest.warns(CacheWarning, match="FUSEC_CACHE_DIR") as caught:
        assert [call(cache.kernel(kernel_text(k), (), ())) for k in (1, 2, 1)] == [4, 5, 4]
    assert len(caught) == 1 and counts(cache) == (2, 0, 1)
    assert cache.list_entries() == [] and cache.clear() == 0


def test_a_full_disk(folder, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    cache = KernelCache(folder)
    with monkeypatch.context() as patch, pytest.warns(CacheWarning, match="No space left"):
        patch.setattr(os, "replace", full)
        assert call(cache.kernel(kernel_text(1), (), ())) == 4
    assert [p.name for p in folder.rglob("*") if p.is_file()] == []
    assert call(cache.kernel(kernel_text(2), (), ())) == 5
    assert len(cache.list_entries()) == 1


def test_the_folder_is_removed_while_we_run(folder):
    cache = KernelCache(folder)
    cache.kernel(kernel_text(1), (), ())
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    folder.rmdir()
    assert call(cache.kernel(kernel_text(1), (), ())) == 4
    assert call(cache.kernel(kernel_text(2), (), ())) == 5
    assert len(cache.list_entries()) == 1


def test_what_a_killed_writer_left_is_ignored_and_removed_when_old(folder):
    cache = KernelCache(folder)
    cache.kernel(kernel_text(1), (), ())
    place = cache.list_entries()[0].path.parent
    old, new = place / "fusec-abc.tmp", place / "fusec-def.tmp"
    for path in (old, new):
        path.write_bytes(b"half of an object")
    os.utime(old, (time.time() - 7200,) * 2)
    assert len(cache.list_entries()) == 1
    assert KernelCache(folder).kernel(kernel_text(1), (), ()).origin == "disk"
    cache.evict()
    assert new.exists() and not old.exists() and len(cache.list_entries()) == 1


def test_eviction_removes_what_was_used_longest_ago(folder):
    cache = KernelCache(folder)
    for k in range(10):
        cache.kernel(kernel_text(k), (), ())
        path = cache.path(kernel_key(kernel_text(k), (), ()))
        for name in (path, path.with_suffix(".py")):
            os.utime(name, (1e9 + k, 1e9 + k))
    KernelCache(folder).kernel(kernel_text(0), (), ())  # used now
    sizes = [p.stat().st_size for p in folder.rglob("*") if p.is_file()]
    KernelCache(folder, limit=sum(sizes) // 2).evict()
    left = {entry.key for entry in cache.list_entries()}
    names = {k for k in range(10) if kernel_key(kernel_text(k), (), ()).hex() in left}
    assert names == {0, 9, 8, 7} and len(list(folder.rglob("*.py"))) == 4


def test_writing_keeps_the_folder_within_its_limit(folder, monkeypatch):
    monkeypatch.setattr(cache_module, "_EVICT_EVERY", 1)
    code = compile_kernel(kernel_text(1), (), ())
    cache = KernelCache(folder, limit=10 * len(code.object))
    for k in range(50):
        cache.get(bytes([k] * 32), lambda: (code.symbol, code.object))
    assert 5 <= len(cache.list_entries()) <= 10


def test_clear_touches_nothing_but_entries(folder):
    mine = [folder / "notes.txt", folder / "aa" / "thesis.o", folder / "src" / f"{'a' * 64}.o"]
    for path in mine:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
    cache = KernelCache(folder, limit=1 << 20)
    cache.kernel(kernel_text(1), (), ())
    assert cache.clear() == 1 and cache.list_entries() == []
    cache.evict()
    assert sorted(p for p in folder.rglob("*") if p.is_file()) == sorted(mine)
    assert call(cache.kernel(kernel_text(1), (), ())) == 4  # loaded code stays


def test_other_machine_code_shares_the_class(folder):
    code = compile_kernel(kernel_text(3), (), ())
    made = []

    def produce():
        made.append(1)
        return code.symbol, code.object

    for cache in (KernelCache(folder), KernelCache(folder)):
        assert call(cache.get(b"n" * 32, produce)) == 6
        assert call(cache.get(b"n" * 32, produce)) == 6
    assert len(made) == 1


def test_a_failing_producer_leaves_nothing_behind(folder):
    cache = KernelCache(folder)

    def fail():
        raise ValueError("no")

    with pytest.raises(ValueError):
        cache.get(b"k" * 32, fail)
    code = compile_kernel(kernel_text(1), (), ())
    assert call(cache.get(b"k" * 32, lambda: (code.symbol, code.object))) == 4


def test_the_folder_follows_the_config(tmp_path, monkeypatch):
    cache = KernelCache()
    monkeypatch.setattr(config, "cache_dir", tmp_path / "a")
    assert cache.folder == tmp_path / "a" / "objects"
    monkeypatch.setattr(config, "cache_dir", tmp_path / "b")
    cache.kernel(kernel_text(1), (), ())
    assert len(list((tmp_path / "b").rglob("*.o"))) == 1
    assert (tmp_path / "b" / "objects").stat().st_mode & 0o777 == 0o700


def test_threads_that_want_one_kernel_compile_it_once(folder):
    cache, results = KernelCache(folder), []
    barrier = threading.Barrier(8)

    def work():
        barrier.wait()
        results.append(cache.kernel(kernel_text(11), (), ()))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert cache.stats()["compiled"] == 1 and len(set(results)) == 1 and len(results) == 8


SECOND = """
import ctypes, json, sys
from pathlib import Path
from fusec.runtime.cache import KernelCache
cache = KernelCache(Path(sys.argv[1]))
texts = json.loads(sys.argv[2])
entry = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * 4)
answers = [entry(cache.kernel(text, (), ()).address)(2, 5, 0, 0) for text in texts]
print(json.dumps([answers, cache.stats(), "numba" in sys.modules]))
"""


def start(folder, texts):
    command = [sys.executable, "-W", "error", "-c", SECOND, str(folder), json.dumps(texts)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process):
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return json.loads(out)


def test_a_second_process_compiles_nothing_and_never_imports_numba(folder):
    texts = [kernel_text(k) for k in range(3)]
    cache = KernelCache(folder)
    for text in texts:
        cache.kernel(text, (), ())
    answers, stats, numba = finish(start(folder, texts))
    assert answers == [3, 4, 5] and not numba
    assert stats == {"compiled": 0, "disk_hits": 3, "memory_hits": 0}


def test_four_processes_write_the_same_keys_at_once(folder):
    texts = [kernel_text(k) for k in range(8)]
    for process in [start(folder, texts) for _ in range(4)]:
        answers, stats, _ = finish(process)
        assert answers == list(range(3, 11))
        assert stats["compiled"] + stats["disk_hits"] == 8
    assert len(KernelCache(folder).list_entries()) == 8
    assert not list(folder.rglob("*.tmp"))
    assert finish(start(folder, texts))[1]["disk_hits"] == 8


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_forked_while_a_thread_compiles(folder):
    cache = KernelCache(folder)
    inside, leave = threading.Event(), threading.Event()
    code = compile_kernel(kernel_text(1), (), ())

    def produce():
        inside.set()
        leave.wait(1)
        return code.symbol, code.object

    thread = threading.Thread(target=lambda: cache.get(b"f" * 32, produce))
    thread.start()
    inside.wait()
    threading.Timer(0.1, leave.set).start()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()  # waits for the thread to leave the compiler
    if pid == 0:
        fine = call(cache.get(b"f" * 32, produce)) == 4
        fine = fine and call(cache.kernel(kernel_text(2), (), ())) == 5
        os._exit(0 if fine else 1)
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    with cpu.native_lock:
        pass


def test_folders_may_be_given_as_text(monkeypatch, tmp_path):
    monkeypatch.setattr(config, "cache_dir", str(tmp_path / "cache"))
    monkeypatch.setattr(config, "dump", str(tmp_path / "dump"))
    assert fusec.jit(lambda x: x * 2.5 - 0.125)(np.ones(3))[0] == 2.375
    assert any((tmp_path / "cache").rglob("*.o")) and any((tmp_path / "dump").iterdir())
