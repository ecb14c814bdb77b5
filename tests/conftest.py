"""Options of the test run, and a kernel cache of its own for every session.

The folder is made before any test module imports fusec and removed at the end.  Workers of
pytest-xdist inherit it through the environment, so that they share compiled kernels.
"""

import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))  # kernels/ and benchmarks/ are not installed


def pytest_addoption(parser):
    parser.addoption(
        "--programs", type=int, default=200, help="how many random programs to run (default 200)"
    )
    parser.addoption(
        "--program-seed", type=int, default=0, help="seed of the first random program (default 0)"
    )
    parser.addoption(
        "--update-goldens", action="store_true", help="write the texts under tests/golden/ anew"
    )


def pytest_configure(config):
    if hasattr(config, "workerinput"):
        return
    config.fusec_cache_dir = tempfile.mkdtemp(prefix="fusec-tests-")
    os.environ["FUSEC_CACHE_DIR"] = config.fusec_cache_dir


def pytest_unconfigure(config):
    if folder := getattr(config, "fusec_cache_dir", None):
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def golden(request):
    """Compare a text with the file of that name under tests/golden/, or write it."""

    def check(name, text):
        path = Path(__file__).parent / "golden" / name
        if request.config.getoption("--update-goldens"):
            path.parent.mkdir(exist_ok=True)
            path.write_text(text.rstrip() + "\n")
        assert text.rstrip() + "\n" == path.read_text(), f"{path}: --update-goldens if intended"

    return check


@pytest.fixture
def fresh_cache(tmp_path, monkeypatch):
    """An empty cache folder for the subprocesses that one test starts."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("FUSEC_CACHE_DIR", str(folder))
    return folder
