"""All of fusec's way to a GPU, but for the GPU: cuda.core on a stand-in for the driver."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("cuda.core")
pytestmark = pytest.mark.skipif(not shutil.which("gcc"), reason="builds a library")

HERE = Path(__file__).parent
SMALL = "test_values or test_updates or test_copies or test_verify or (test_matrix_products and f8)"


@pytest.mark.parametrize(
    "chosen",
    [["driver/on_the_driver.py"], ["test_gpu.py", "-m", "gpu", "-k", SMALL]],
    ids=["order and memory", "tests of a GPU"],
)
def test_on_a_stand_in_for_the_driver(chosen):
    """In a process that finds the stand-in when it looks for the driver."""
    places = [str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH", "")]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(places), "NUMBA_ENABLE_CUDASIM": "1"}
    for name in [n for n in env if n.startswith("PYTEST_")]:
        del env[name]
    command = [sys.executable, "-m", "pytest", "-p", "driver", "-p", "no:cacheprovider", *chosen]
    done = subprocess.run(command, cwd=HERE, env=env, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert " passed" in done.stdout and "skipped" not in done.stdout, done.stdout
