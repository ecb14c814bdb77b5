"""Calls of jitted functions on a device: arguments are moved there, results stay there.

A call runs on the device of its device arrays, or on the one that ``jit(device=...)`` names. NumPy
arguments, and NumPy arrays that the function reads from outside, are copied there at every call:
they may have been changed in place since the last one, and no check of their content would be
cheaper than the copy. Give such weights as ``fusec.Array`` and they stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fusec.config import config
from fusec.device_plan import ADVICE, DevicePlan, adopt, on_host, shares
from fusec.errors import DeviceError, UnsupportedError
from fusec.host_plan import HostPlan
from fusec.runtime.array import Array, dense_strides, recording, same_device, upload
from fusec.runtime.device import Device, get_device
from fusec.runtime.executor import KernelError
from fusec.runtime.shadow import shadow
from fusec.trace.run import Trace, labels
from fusec.trace.tree import TreeDef

if TYPE_CHECKING:
    from fusec.dispatch import JitFunction


def call(
    function: JitFunction,
    leaves: list[Any],
    tree: TreeDef,
    given: tuple[Any, Any],
    home: Device | None = None,
) -> Any:
    """Run a call some of whose arguments are on a device, or that names a device.

    given: (args, kwargs), of which the leaves are. home: where the arrays are that the function
    reads from outside.
    """
    own, leaves = leaves, [x if type(x) is Array else adopt(x) for x in leaves]
    tape = recording.get()
    if tape is not None:
        return tape.record(function, leaves, tree)
    device = device_of(function, leaves) or home
    assert device is not None
    static = function._static_leaves(tree)
    plan, captured, there = function.device_plan(device, leaves, tree, static)
    if not isinstance(plan, DevicePlan | HostPlan) or shares(plan.trace, leaves, captured):
        return on_host(function.fn, device, leaves, given)
    if config.verify and not plan.verified:
        from fusec.checking import check_first_call

        check_first_call(function, *tree.unflatten(leaves))
    moved = there()
    paths = tree.paths("") if function.donated else ()
    kept = [id(own[k]) for k in plan.trace.update.kept] if plan.trace.update is not None else []
    donated = [
        k
        for k, path in enumerate(paths)
        if path.startswith(function.donated) and id(own[k]) not in kept
    ]
    try:
        held = plan.held(given, leaves)
        result = plan.call(function.fn, moved, tree, captured, donated)
    except (KernelError, UnsupportedError):
        return on_host(function.fn, device, leaves, given)
    for k in donated:
        if type(leaves[k]) is Array:
            leaves[k].buffer = Donated(labels(function.fn, tree)[k])
    _back(plan.trace, leaves, moved)
    return plan.delivered(held, own, result)


def device_of(function: JitFunction, leaves: Sequence[Any]) -> Device | None:
    """The device of the function, or of its arguments. Raises DeviceError for two devices."""
    found = same_device([x for x in leaves if type(x) is Array])
    device = get_device(function.device) if function.device else found
    if device is not None and found is not None and found is not device:
        raise DeviceError(
            f"{function.__qualname__} is for {device.name} and got an array on {found.name}: "  # type: ignore[attr-defined]
            f'move it, fusec.to_device(x, "{device.name}")'
        )
    return device


def on_device(
    function: JitFunction,
    device: Device,
    leaves: list[Any],
    tree: TreeDef,
    static: frozenset[int],
) -> list[Any]:
    """The arguments with NumPy's arrays copied to the device."""
    if not any(isinstance(x, np.ndarray) for x in leaves):
        return leaves
    names = labels(function.fn, tree)
    hidden = "" if function.device else f"other arguments are on {device.name}; {ADVICE}"
    called = function.__name__  # type: ignore[attr-defined]
    return [
        upload(device, x, f"{called}: argument {names[k]}", hidden)
        if isinstance(x, np.ndarray) and k not in static
        else x
        for k, x in enumerate(leaves)
    ]


def layout(x: Any) -> Any:
    """What tracing sees of an argument: its layout on the device."""
    if type(x) is Array:
        return x.like
    if not isinstance(x, np.ndarray):
        return x
    return shadow(x.shape, x.dtype.newbyteorder("="), dense_strides(x)[1])


class Donated:
    """Stands for the memory of an array that was given away."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        raise DeviceError(
            f"argument {self._name} was donated: its memory belongs to a result. Use the result, "
            "or leave it out of donate_argnums"
        )


def _back(trace: Trace, given: Sequence[Any], moved: Sequence[Any]) -> None:
    """NumPy arguments that the function changed, changed."""
    for source, _ in trace.writes:
        if source.kind == "arg" and isinstance(given[source.ref], np.ndarray):
            hidden = "the function changes it and it is a NumPy array"
            given[source.ref][...] = moved[source.ref]._to_host(f"argument {source.label}", hidden)
