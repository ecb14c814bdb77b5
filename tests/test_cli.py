"""The command line: what each command prints, its exit status, and what it says of mistakes."""

import subprocess
import sys
from pathlib import Path

import pytest

import fusec
from fusec.__main__ import main
from fusec.config import config
from fusec.runtime.cache import cache

ROOT = Path(__file__).parents[1]
GELU = "kernels.elementwise:gelu"


def command(capsys, *words):
    """Exit status, output and errors of one command."""
    status = main(words)
    out, err = capsys.readouterr()
    return status, out, err


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def test_info(capsys):
    status, out, _ = command(capsys, "info")
    assert status == 0
    words = ("numpy", "numba", "llvmlite", "threads", str(cache.folder), "FUSEC_DISABLE")
    for word in (fusec.__version__, *words):
        assert word in out


def test_doctor_is_content(capsys):
    status, out, _ = command(capsys, "doctor")
    assert status == 0, out
    assert "all checks passed" in out
    assert out.count("ok ") == 6


def test_doctor_says_what_to_do(capsys, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(config, "cache_dir", tmp_path / "file")
    status, out, _ = command(capsys, "doctor")
    assert status == 1
    assert "FAIL  cache folder" in out
    assert "FUSEC_CACHE_DIR" in out


def test_cache(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(config, "cache_dir", tmp_path)
    assert command(capsys, "cache", "path")[1].strip() == str(tmp_path / "objects")
    assert "0 kernels" in command(capsys, "cache", "list")[1]
    text = "# only here\ndef kernel(start, stop, x):\n    x[0] = 1234567\n    return 0\n"
    cache.kernel(text, (), (("x", "<i8"),))
    listed = command(capsys, "cache", "list")[1]
    assert "only here" in listed
    assert "1 kernel," in listed
    assert "removed 1 kernel" in command(capsys, "cache", "clear")[1]
    assert "0 kernels" in command(capsys, "cache", "list")[1]


def test_inspect(capsys):
    status, out, _ = command(capsys, "inspect", GELU, "f4[1000]")
    assert status == 0
    for word in ("as written", "optimised", "def kernel(", "elementwise.py:", "least possible"):
        assert word in out


@pytest.mark.parametrize(
    "part, word",
    [
        ("--graph", "graph(x: f4[8])"),
        ("--source", "def kernel("),
        ("--explain", "1 kernel"),
        ("--llvm", "define"),
        ("--asm", ".size"),
        ("--dot", "digraph"),
    ],
)
def test_parts_of_inspect(capsys, part, word):
    status, out, _ = command(capsys, "inspect", GELU, "f4[8]", part)
    assert status == 0
    assert word in out


def test_inspect_reads_numbers_keywords_and_containers(capsys, tmp_path, monkeypatch):
    (tmp_path / "mine_to_inspect.py").write_text(
        "class Box:\n    @staticmethod\n    def f(p, n, k=1):\n        return p['w'] * n + k\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    words = ("mine_to_inspect:Box.f", '{"w": "f8[3,2]"}', "2.5", "k=4", "--graph")
    status, out, err = command(capsys, "inspect", *words)
    assert status == 0, err
    assert 'p["w"]: f8[3,2]' in out


@pytest.mark.parametrize(
    "words, said",
    [
        (("kernels.elementwise", "1"), "write pkg.module:function"),
        (("no_such_module:f", "1"), "no module 'no_such_module'"),
        (("kernels.elementwise:gely", "1"), "it has"),
        (("kernels.elementwise:FLAT", "1"), "not a function"),
        ((GELU, "f4(3)"), 'write "f4[1024,256]"'),
        ((GELU, "q9[3]"), "no dtype"),
        ((GELU, "1.0", "2.0"), "takes 1 positional argument"),
    ],
)
def test_mistakes_are_explained(capsys, words, said):
    status, _, err = command(capsys, "inspect", *words)
    assert status == 2
    assert said in err
    assert "Traceback" not in err


def test_unknown_commands_leave_with_2(capsys):
    with pytest.raises(SystemExit) as left:
        main(["nothing"])
    assert left.value.code == 2
    assert "invalid choice" in capsys.readouterr().err


def test_python_m_fusec():
    done = subprocess.run(
        [sys.executable, "-m", "fusec", "cache", "path"], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0
    assert done.stdout.strip().endswith("objects")
