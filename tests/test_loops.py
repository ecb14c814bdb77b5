"""Hand-written peers: the loops for Numba run as plain Python; a few are compiled, elsewhere."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import kernels
from benchmarks import peers_numba, peers_numexpr
from benchmarks.loops import HELPERS, LOOPS

ROOT = Path(__file__).parents[1]
#: Compiled in the tests: helpers with and without parallel loops, and arrays that hold NaN.
COMPILED = ("black_scholes", "column_variance", "nanmean")


@pytest.mark.parametrize("dtype", kernels.DTYPES)
@pytest.mark.parametrize("name", LOOPS)
def test_loop_gives_numpys_answer(name, dtype, monkeypatch):
    monkeypatch.setattr(peers_numba, "compiled", lambda name, fastmath: LOOPS[name])
    with np.errstate(all="ignore"):
        assert peers_numba.difference(name, "S", dtype) == ""


def test_a_wrong_loop_is_found(monkeypatch):
    monkeypatch.setattr(peers_numba, "compiled", lambda name, fastmath: lambda x: x * 1.001)
    assert "off by" in peers_numba.difference("gelu", "S", "f4")
    monkeypatch.setattr(peers_numba, "compiled", lambda name, fastmath: lambda x: x[1:])
    assert "float32(999,)" in peers_numba.difference("gelu", "S", "f4")


def test_tables_name_kernels_of_the_suite():
    names = {k.name for k in kernels.suite()}
    assert {*LOOPS, *peers_numexpr.EXPRESSIONS} <= names
    assert {*peers_numexpr.VIEWS, *peers_numexpr.FINISH} <= {*peers_numexpr.EXPRESSIONS}
    assert not {*HELPERS} & names
    assert len(LOOPS) >= 70


def checked(module, names=()):
    """What `python -m benchmarks.<module>` prints of the kernels that are wrong."""
    done = subprocess.run([sys.executable, "-m", f"benchmarks.{module}", *names], cwd=ROOT,
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return [line for line in done.stdout.splitlines() if not line.endswith(" ok")]


def test_compiled_loops_agree():
    assert checked("peers_numba", COMPILED) == []


@pytest.mark.skipif(find_spec("numexpr") is None, reason="needs numexpr")
def test_expressions_agree():
    assert checked("peers_numexpr") == []


def test_peers_are_imported_late():
    code = "import sys, benchmarks.peers_numba, benchmarks.peers_numexpr;" \
           "sys.exit(any(m in sys.modules for m in ('numba', 'numexpr', 'fusec')))"  # fmt: skip
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
