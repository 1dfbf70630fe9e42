"""Which device a process gets, the CPU or the GPU; on the supervisor's side, who watches it.

Entry points: `open_device` (in a worker), `open_monitor` (in the supervisor), `double`. What is not chosen is not
imported: the supervisor runs without torch, and a host without a GPU needs no NVML.
"""

import importlib.util
import os
from types import ModuleType

from bakeoff.core.device.base import Device
from bakeoff.core.device.gpu_state import Monitor, NvmlMonitor

# Names a Python file with `open_device(participant)`, `open_monitor()` and `now()`, which stand in for a GPU and the
# clock. The tests set it, nothing else does; `bakeoff measure` refuses it where a GPU is asked for.
TEST_DOUBLE = "BAKEOFF_TEST_DOUBLE"


def open_device(backend: str, threads: int, participant: str, *, trace: bool = True) -> Device:
    """The device of a backend, ready for work; on a GPU this creates the CUDA context. trace: record what it does."""
    import torch

    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    stand_in = double()
    if stand_in:
        device: Device = stand_in.open_device(participant)
        return device
    if backend == "cpu":
        return Device()
    from bakeoff.core.device.cuda import CudaDevice

    return CudaDevice(trace)


def open_monitor(backend: str, uuid: str | None) -> Monitor:
    """The monitor of a backend."""
    stand_in = double()
    if stand_in:
        monitor: Monitor = stand_in.open_monitor()
        return monitor
    return Monitor() if backend == "cpu" or uuid is None else NvmlMonitor(uuid)


def double() -> ModuleType | None:
    """The module that stands in for a GPU, if a test asks for one."""
    path = os.environ.get(TEST_DOUBLE)
    if not path:
        return None
    spec = importlib.util.spec_from_file_location("double", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
