"""Imports go one way, and the run-time path stays light.

Every folder may import itself and those before it in `ORDER`; an import inside a function
counts like any other.
"""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FUSEC = ROOT / "fusec"
ORDER = (
    ("errors", "config"),
    ("ir",),
    ("ops",),
    ("trace",),
    ("autodiff",),
    ("passes",),
    ("codegen",),
    ("runtime",),
    ("jit", "stages", "verify", "__init__", "__main__"),
)
LEVEL = {name: level for level, names in enumerate(ORDER) for name in names}
SOURCES = sorted(FUSEC.rglob("*.py"))


def layer(path: Path) -> str:
    """The folder under fusec/ that a file is in, or its own name."""
    first = path.relative_to(FUSEC).parts[0]
    return first.removesuffix(".py")


def level(name: str) -> int:
    """Files beside jit.py that have no place of their own belong to the top."""
    return LEVEL.get(name, len(ORDER) - 1)


def imported(path: Path) -> list[tuple[int, str]]:
    """Line and layer of everything from fusec that a file imports."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            module = node.module or ""
            names = [f"fusec.{a.name}" for a in node.names] if module == "fusec" else [module]
        else:
            continue
        inside = [n.split(".") for n in names if n == "fusec" or n.startswith("fusec.")]
        found += [(node.lineno, parts[1] if len(parts) > 1 else "__init__") for parts in inside]
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(FUSEC)))
def test_imports_point_one_way(path):
    own = level(layer(path))
    wrong = [f"line {n}: {name}" for n, name in imported(path) if level(name) > own]
    assert not wrong, f"{path.relative_to(ROOT)} ({layer(path)}) imports {wrong}"


def test_runtime_knows_no_ops():
    for path in (FUSEC / "runtime").rglob("*.py"):
        names = {name for _, name in imported(path)}
        assert not names & {"ops", "trace", "passes", "autodiff"}, path


def test_kernels_do_not_import_fusec():
    for path in (ROOT / "kernels").glob("*.py"):  # those in lectures/ are programs
        assert not imported(path), path


def modules_after(code: str) -> set[str]:
    """The modules that are loaded after running `code` in a fresh process."""
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print('\\n'.join(sys.modules))"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return set(done.stdout.split())


def test_importing_fusec_loads_no_compiler():
    loaded = modules_after("import fusec")
    assert "fusec.config" in loaded
    assert not loaded & {"numba", "llvmlite", "llvmlite.binding", "rich", "matplotlib"}
