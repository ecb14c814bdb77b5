"""fusec compiles NumPy functions into fused CPU and CUDA kernels.

>>> import numpy as np, fusec
>>> @fusec.jit
... def scale(x):
...     return x * 2 + 1
>>> scale(np.arange(3.0))
array([1., 3., 5.])
"""

from fusec import errors
from fusec.config import config
from fusec.jit import jit
from fusec.runtime.threads import threads
from fusec.stages import ShapeDtype

__version__ = "0.1.0"
__all__ = ["ShapeDtype", "config", "errors", "jit", "threads"]
