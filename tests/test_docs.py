"""The documents' examples run, and their printed output is what they say.

A `python` block followed by a `text` block is a program, shown whole, and its output. A `python`
block that begins with `>>>` is a session, checked as `doctest` does.

    python tests/test_docs.py        writes the output of every program into the documents
"""

import doctest
import importlib
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = ("README.md", "ARCHITECTURE.md")
PROGRAM = re.compile(r"```python\n(?!>>>)(.*?)```\n(.*?)```text\n(.*?)```", re.DOTALL)
SESSION = re.compile(r"```python\n(>>>.*?)```", re.DOTALL)
FORBIDDEN = re.compile(r"/(?:work|home|root|tmp)\b|\.venv|localhost", re.IGNORECASE)


def programs(document: str) -> list[tuple[str, str]]:
    """(program, output) for every program of a document."""
    text = (ROOT / document).read_text()
    return [(found[1], found[3]) for found in PROGRAM.finditer(text)]


def output(program: str, folder: Path) -> str:
    """What a program prints when it stands in a file named example.py."""
    (folder / "example.py").write_text(program)
    done = subprocess.run(
        [sys.executable, "example.py"], cwd=folder, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return "\n".join(line.rstrip() for line in done.stdout.rstrip().splitlines()) + "\n"


CASES = [(d, k) for d in DOCUMENTS for k in range(len(programs(d)))]


@pytest.mark.parametrize("document, number", CASES)
def test_programs_print_what_the_document_says(document, number, tmp_path):
    program, expected = programs(document)[number]
    said = output(program, tmp_path)
    assert said == expected, f"run `python {Path(__file__).relative_to(ROOT)}`"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_sessions(document):
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    runner = doctest.DocTestRunner(optionflags=flags)
    names: dict[str, object] = {}
    for number, found in enumerate(SESSION.finditer((ROOT / document).read_text())):
        test = doctest.DocTestParser().get_doctest(
            found[1], names, f"{document}[{number}]", document, 0
        )
        runner.run(test, clear_globs=False)
        names = test.globs
    assert runner.summarize(verbose=False).failed == 0


@pytest.mark.parametrize("module", ["fusec.gradients", "fusec.gradcheck"])
def test_examples_of_docstrings(module):
    assert doctest.testmod(importlib.import_module(module)).failed == 0


def test_the_readme_shows_a_program_and_both_commands():
    text = (ROOT / "README.md").read_text()
    assert programs("README.md")
    assert "pip install -e '.[bench]' && python -m benchmarks --quick" in text
    assert "pip install -e '.[test]' && pytest" in text


@pytest.mark.parametrize("document", [*DOCUMENTS, "CHANGELOG.md"])
def test_documents_name_no_machine(document):
    assert not FORBIDDEN.search((ROOT / document).read_text())


def test_every_setting_is_documented():
    from dataclasses import fields

    from fusec.config import config

    text = (ROOT / "README.md").read_text()
    assert [f.name for f in fields(config) if f"FUSEC_{f.name.upper()}" not in text] == []


def write_outputs() -> None:
    """Put the programs' output into the documents."""
    for document in DOCUMENTS:
        path = ROOT / document

        def replaced(found: re.Match[str]) -> str:
            with tempfile.TemporaryDirectory() as folder:
                said = output(found[1], Path(folder))
            return f"```python\n{found[1]}```\n{found[2]}```text\n{said}```"

        path.write_text(PROGRAM.sub(replaced, path.read_text()))


if __name__ == "__main__":
    write_outputs()
