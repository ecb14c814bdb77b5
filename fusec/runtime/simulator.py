"""The CUDA simulator as a device: host memory, and kernels run thread by thread in Python.

Slow, but it runs the very text that becomes PTX. The process must have been started with
``NUMBA_ENABLE_CUDASIM=1``, because Numba reads it when it is imported.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from fusec.errors import DeviceError
from fusec.runtime.device import Buffer, Device, Launcher, Place, Stream
from fusec.runtime.host import HostDevice


class SimulatorDevice(HostDevice):
    """See the module."""

    arch = Device.arch
    target = "simulator"
    native = False

    def __init__(self) -> None:
        if os.environ.get("NUMBA_ENABLE_CUDASIM") != "1":
            raise DeviceError(
                "the simulator works only in a process that was started with "
                "NUMBA_ENABLE_CUDASIM=1: set it and start Python again"
            )
        super().__init__()
        self._launching = threading.Lock()  # not ``lock``: its threads may free buffers

    def prepare(self, kernel: Any, fastmath: bool) -> Launcher:
        from fusec.codegen.cuda_simulator import simulate

        values = [value for _, value in kernel.ints]

        def launch(pointers: Sequence[Place], status: Buffer, stream: Stream) -> None:
            memory = [(buffer.owner, offset) for buffer, offset in pointers]
            with self._launching:  # the simulator's threads share module-level state
                simulate(
                    kernel.text, values, memory, kernel.ptr_types, kernel.grid, kernel.block,
                    status.owner[:8].view(np.int64),
                )  # fmt: skip

        return launch
