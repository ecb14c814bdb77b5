"""The kernel cache seen from a user's processes: shared, damaged, blocked, or cut off."""

import os

import numpy as np
import pytest
from scripts import script

import fusec

WARM = """
assert right()
print(json.dumps([counted(), sorted(m for m in ("numba", "llvmlite") if m in sys.modules)]))
"""


def test_a_second_process_compiles_nothing_and_never_imports_numba(fresh_cache):
    first, modules = script(WARM, fresh_cache)
    assert first["compiled"] >= 2
    assert "numba" in modules
    second, modules = script(WARM, fresh_cache)
    assert second["compiled"] == 0
    assert second["disk_hits"] == first["compiled"]
    assert "numba" not in modules


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "garbage", "folder"])
def test_a_damaged_entry_is_compiled_again(fresh_cache, damage):
    script(WARM, fresh_cache)
    for path in [p for p in fresh_cache.rglob("*.o") if p.is_file()]:
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 0xFF
        new = {"truncated": bytes(data[: len(data) // 2]), "flipped": bytes(data), "empty": b""}
        path.unlink()
        if damage == "folder":
            path.mkdir()
        else:
            path.write_bytes(new.get(damage, b"garbage" * 100))
    stats, _ = script(WARM, fresh_cache)
    assert stats["compiled"] >= 2


def test_processes_that_share_an_empty_folder(fresh_cache):
    body = """
    import multiprocessing
    def child(queue):
        queue.put(right())
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    crew = [context.Process(target=child, args=(queue,)) for _ in range(4)]
    [p.start() for p in crew]
    print(json.dumps([queue.get(timeout=100) for _ in crew]))
    """
    assert script(body, fresh_cache) == [True] * 4
    assert script(WARM, fresh_cache)[0]["compiled"] == 0


def test_a_writer_killed_half_way(fresh_cache):
    script(WARM, fresh_cache)
    entry = next(p for p in fresh_cache.rglob("*.o"))
    half = entry.read_bytes()[:100]
    entry.unlink()
    (entry.parent / "fusec-half.tmp").write_bytes(half)
    stats, _ = script(WARM, fresh_cache)
    assert stats["compiled"] == 1
    assert script(WARM, fresh_cache)[0]["compiled"] == 0


def test_a_folder_that_cannot_be_made(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    stats, _ = script(WARM, blocked / "cache", PYTHONWARNINGS="ignore")
    assert stats["compiled"] >= 2


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write to any folder")
def test_a_read_only_folder(tmp_path):
    tmp_path.chmod(0o500)
    try:
        stats, _ = script(WARM, tmp_path / "cache", PYTHONWARNINGS="ignore")
    finally:
        tmp_path.chmod(0o700)
    assert stats["compiled"] >= 2


def test_fifty_lengths_compile_one_kernel():
    from fusec.runtime.cache import cache

    fusec.jit(np.negative)(np.ones(3))  # the runtime's own code is compiled by now
    f = fusec.jit(lambda x: np.tanh(x) * 0.321 + np.log1p(x * x) / 3.21)
    before = cache.stats()["compiled"]
    for n in range(10, 60):
        assert f(np.ones(n)).shape == (n,)
    assert cache.stats()["compiled"] - before <= 1
