"""Size is a budget: functions, files and the whole library (`style.md`)."""

import ast
import io
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FUSEC = ROOT / "fusec"
FUNCTION_LINES = 60
FILE_LINES = 400
LIBRARY_LINES = 32_824
SOURCES = sorted(p for d in ("fusec", "kernels") for p in (ROOT / d).rglob("*.py"))
SKIPPED = {
    tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT,
    tokenize.ENCODING, tokenize.ENDMARKER,
}  # fmt: skip


def docstring_lines(tree: ast.AST) -> set[int]:
    """The lines of every docstring of a module."""
    lines: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            first = node.body[0] if node.body else None
            if ast.get_docstring(node, clean=False) is not None:
                lines.update(range(first.lineno, first.end_lineno + 1))
    return lines


def code_lines(text: str) -> int:
    """Lines that hold code."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in SKIPPED:
            lines.update(range(token.start[0], token.end[0] + 1))
    return len(lines - docstring_lines(ast.parse(text)))


def functions(path: Path) -> list[tuple[str, int]]:
    """Name and length in lines of every function of a file."""
    return [
        (node.name, node.end_lineno - node.lineno + 1)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    ]


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_functions_and_files_are_short(path):
    long = [f"{name}: {n} lines" for name, n in functions(path) if n > FUNCTION_LINES]
    assert not long
    assert len(path.read_text().splitlines()) <= FILE_LINES


def test_most_functions_are_very_short():
    lengths = sorted(n for path in SOURCES for _, n in functions(path))
    assert lengths[len(lengths) // 2] <= 12


def test_the_library_keeps_its_budget():
    total = sum(code_lines(p.read_text()) for p in FUSEC.rglob("*.py"))
    assert total <= LIBRARY_LINES, f"{total} lines of code"


def test_lines_of_code_are_counted_right():
    text = (
        '"""Doc\nstring."""\n\n# comment\nx = 1  # more\n\n'
        'def f():\n    """Doc."""\n    return (\n        1\n    )\n'
    )
    assert code_lines(text) == 5
