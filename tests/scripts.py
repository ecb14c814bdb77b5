"""Scripts that run in a process of their own: what could hang or abort must not take pytest along.

All begin with `HEAD`: a function of one kernel, one with a reduction, and their answers.
"""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[1]
SECONDS = 120
HEAD = """
import json, os, sys, threading
import numpy as np
import fusec

@fusec.jit
def curve(x):
    return np.tanh(x) * 2 + x

@fusec.jit
def normal(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)

X = np.linspace(-3, 3, 600_000, dtype="f4").reshape(600, 1000)
E = np.exp(X - X.max(axis=-1, keepdims=True))
CURVE, NORMAL = np.tanh(X) * 2 + X, E / E.sum(axis=-1, keepdims=True)

def right(n=1):
    return all(
        np.allclose(curve(X), CURVE, rtol=1e-5) and np.allclose(normal(X), NORMAL, rtol=1e-5)
        for _ in range(n)
    )

def counted():
    from fusec.runtime.cache import cache
    return cache.stats()
"""


def script(body, folder=None, **env):
    """Run `HEAD` and `body` in a fresh process; what it prints last is JSON."""
    text = HEAD + textwrap.dedent(body)
    everything = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}", **env}
    if folder is not None:
        everything["FUSEC_CACHE_DIR"] = str(folder)
    done = subprocess.run([sys.executable, "-X", "faulthandler", "-c", text], env=everything,
                          capture_output=True, text=True, timeout=SECONDS)  # fmt: skip
    assert done.returncode == 0, f"exit {done.returncode}\n{done.stderr[-3000:]}"
    return json.loads(done.stdout.splitlines()[-1])
