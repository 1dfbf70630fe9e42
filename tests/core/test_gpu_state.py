"""The GPU's state as NVML tells it."""

from __future__ import annotations

import sys
import time
from types import SimpleNamespace
from typing import Any

import pytest
from bakeoff.core.device.gpu_state import NvmlMonitor


def test_the_monitor_looks_by_itself_and_what_nvml_refuses_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    class NVMLError(Exception):
        pass

    def refuse(*_: Any) -> Any:
        raise NVMLError

    known: dict[str, Any] = {
        "NVMLError": NVMLError,
        "nvmlInit": lambda: None,
        "nvmlDeviceGetHandleByUUID": lambda uuid: uuid,
        "nvmlDeviceGetPowerUsage": lambda handle: 250_000,
        "nvmlDeviceGetTemperature": refuse,
        "nvmlEventSetCreate": refuse,
    }
    names = (
        "NVML_CLOCK_SM",
        "NVML_CLOCK_MEM",
        "NVML_TEMPERATURE_GPU",
        "NVML_MEMORY_ERROR_TYPE_UNCORRECTED",
        "NVML_VOLATILE_ECC",
    )
    monkeypatch.setitem(sys.modules, "pynvml", SimpleNamespace(**known, **dict.fromkeys(names, 0)))
    monitor = NvmlMonitor("GPU-a")
    begun = time.monotonic()
    monitor.start()
    while len(monitor.since(begun)) < 3:
        assert time.monotonic() - begun < 30
        time.sleep(0.01)
    monitor.stop()
    looks = monitor.since(begun)
    assert begun <= looks[0].moment < looks[1].moment
    assert {(look.watts, look.celsius, look.sm_mhz) for look in looks} == {(250.0, None, None)}
