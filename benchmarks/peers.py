"""Other compilers of NumPy code, where they are installed: calls to time beside ours."""

from __future__ import annotations

import types
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np


def calls(fn: Callable[..., Any], args: tuple[Any, ...]) -> dict[str, Callable[[], Any]]:
    """The same function under each installed peer, compiled and called once already.

    The peers get arrays of their own and give arrays of their own: no conversion is timed.
    """
    found: dict[str, Callable[[], Any]] = {}
    for name, module, make in (("JAX", "jax", _jax), ("torch.compile", "torch", _torch)):
        if find_spec(module) is not None:
            found[name] = make(fn, args)
            found[name]()
    return found


def _with_numpy(fn: Callable[..., Any], namespace: Any) -> Callable[..., Any]:
    """The function with another module in place of `np`."""
    scope = {**fn.__globals__, "np": namespace}  # type: ignore[attr-defined]
    return types.FunctionType(fn.__code__, scope, fn.__name__)  # type: ignore[attr-defined]


def _jax(fn: Callable[..., Any], args: tuple[Any, ...]) -> Callable[[], Any]:
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    compiled = jax.jit(_with_numpy(fn, jnp))
    theirs = [jnp.asarray(a) if isinstance(a, np.ndarray) else a for a in args]
    return lambda: jax.block_until_ready(compiled(*theirs))


def _torch(fn: Callable[..., Any], args: tuple[Any, ...]) -> Callable[[], Any]:
    import torch

    torch.set_num_threads(max(1, torch.get_num_threads()))
    compiled = torch.compile(fn)
    return lambda: compiled(*args)
