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


def pytest_configure(config):
    if hasattr(config, "workerinput"):
        return
    config.fusec_cache_dir = tempfile.mkdtemp(prefix="fusec-tests-")
    os.environ["FUSEC_CACHE_DIR"] = config.fusec_cache_dir


def pytest_unconfigure(config):
    if folder := getattr(config, "fusec_cache_dir", None):
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def fresh_cache(tmp_path, monkeypatch):
    """An empty cache folder for the subprocesses that one test starts."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("FUSEC_CACHE_DIR", str(folder))
    return folder
