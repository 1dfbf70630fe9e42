"""The device under a worker: where tensors live, what can be timed there, and whether it is still sound.

Entry point: `open_device`. `Device` is also the CPU: tensors in host memory, wall time only. The GPU is in `cuda`, a test double
with injected faults in `fake`; both are imported only where they are asked for.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bakeoff.measure.records import TIERS

if TYPE_CHECKING:
    from bakeoff.measure.cell import Cell, Keeper

# The file that describes a fake device; only tests set it.
FAKE_DEVICE = "BAKEOFF_FAKE_DEVICE"


class Device:
    """The CPU. Subclasses override what their device does differently."""

    torch_name = "cpu"
    # Whether calls are repeated for timing. On the CPU one call proves the algorithm, and its time is never shown.
    repeats = False

    def __init__(self) -> None:
        self.missing: dict[str, str] = {tier: "the cpu backend has no GPU" for tier in TIERS if tier != "wall_us"}

    def synchronize(self) -> None:
        """Wait for all work; raises if any of it failed."""

    def poisoned(self) -> bool:
        """Whether nothing can run in this process any more."""
        return False

    def time(self, cell: Cell, protocol: str, keep: Keeper) -> dict[str, Any]:
        """Time the cell's calls under a protocol: {"tiers": ..., "discarded": ..., "warnings": ...}. Needs `repeats`."""
        raise NotImplementedError("the cpu backend times its one guarded call only")


def open_device(backend: str, threads: int) -> Device:
    """The device of a backend, ready for work; on a GPU this creates the CUDA context."""
    import torch

    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    description = os.environ.get(FAKE_DEVICE)
    if description:
        from bakeoff.measure.fake import FakeDevice

        return FakeDevice(json.loads(Path(description).read_text()))
    if backend == "cpu":
        return Device()
    from bakeoff.measure.cuda import CudaDevice

    return CudaDevice()
