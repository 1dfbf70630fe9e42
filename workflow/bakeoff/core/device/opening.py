"""Which device a process gets: the CPU, the GPU, or the test double; on the supervisor's side, who watches it.

Entry points: `open_device` (in a worker), `open_monitor` (in the supervisor). What is not chosen is not imported: the
supervisor runs without torch, and a host without a GPU needs no NVML.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from bakeoff.core.device.base import Device
from bakeoff.core.device.gpu_state import Monitor, NvmlMonitor

# Names the file that describes a fake device; only tests set it.
FAKE_DEVICE = "BAKEOFF_FAKE_DEVICE"


def open_device(backend: str, threads: int, participant: str) -> Device:
    """The device of a backend, ready for work; on a GPU this creates the CUDA context."""
    import torch

    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    if os.environ.get(FAKE_DEVICE):
        from bakeoff.core.device.fake import FakeDevice

        return FakeDevice(_description(), participant)
    if backend == "cpu":
        return Device()
    from bakeoff.core.device.cuda import CudaDevice

    return CudaDevice()


def open_monitor(backend: str, uuid: str | None) -> Monitor:
    """The monitor of a backend; a fake one where a test asks for it."""
    if os.environ.get(FAKE_DEVICE):
        from bakeoff.core.device.fake import FakeMonitor

        return FakeMonitor(_description())
    return Monitor() if backend == "cpu" or uuid is None else NvmlMonitor(uuid)


def _description() -> dict[str, Any]:
    return dict(json.loads(Path(os.environ[FAKE_DEVICE]).read_text()))
