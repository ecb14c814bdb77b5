"""fusec compiles NumPy functions into fused CPU and CUDA kernels.

>>> import numpy as np, fusec
>>> @fusec.jit
... def scale(x):
...     return x * 2 + 1
>>> scale(np.arange(3.0))
array([1., 3., 5.])
"""

import importlib
from typing import TYPE_CHECKING, Any

from fusec import errors
from fusec.config import config
from fusec.jit import jit

if TYPE_CHECKING:
    from fusec.arrays import (
        Array,
        devices,
        from_dlpack,
        memory,
        pinned_empty,
        prefetch,
        stream,
        synchronize,
        to_device,
    )
    from fusec.checking import verify
    from fusec.gradcheck import check_grads
    from fusec.gradients import (
        checkpoint,
        custom_jvp,
        custom_vjp,
        grad,
        hessian,
        jacobian,
        jvp,
        linearize,
        stop_gradient,
        value_and_grad,
        vjp,
        vmap,
    )
    from fusec.runtime.threads import threads
    from fusec.runtime.transfers import transfers
    from fusec.stages import ShapeDtype
    from fusec.tape import Tape

__version__ = "0.1.0"
__all__ = [
    "Array", "ShapeDtype", "Tape", "check_grads", "checkpoint", "config", "custom_jvp",
    "custom_vjp", "devices", "errors", "from_dlpack", "grad", "hessian", "jacobian", "jit", "jvp",
    "linearize", "memory", "pinned_empty", "prefetch", "stop_gradient", "stream", "synchronize",
    "threads", "to_device", "transfers", "value_and_grad", "verify", "vjp", "vmap",
]  # fmt: skip

_LATER = {  # loaded on first use
    "check_grads": "fusec.gradcheck",
    "ShapeDtype": "fusec.stages",
    "Tape": "fusec.tape",
    "threads": "fusec.runtime.threads",
    "transfers": "fusec.runtime.transfers",
    "verify": "fusec.checking",
} | dict.fromkeys(
    ("Array", "devices", "from_dlpack", "memory", "pinned_empty", "prefetch", "stream",
     "synchronize", "to_device"),
    "fusec.arrays",
) | dict.fromkeys(
    ("checkpoint", "custom_jvp", "custom_vjp", "grad", "hessian", "jacobian", "jvp", "linearize",
     "stop_gradient", "value_and_grad", "vjp", "vmap"),
    "fusec.gradients",
)  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'fusec' has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_LATER[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})
