"""How much of the time under the lock the GPU had nothing to do: no kernel running, nothing being verified."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from bakeoff.core.device.gpu_state import NvmlMonitor
from bakeoff.supervisor.usage import Usage, union
from support.measure_runs import fake_device, make_run, measure

LOOKS = [(0.5, 0.0), (1.5, 0.4), (2.5, 1.0), (3.5, 0.0)]


def test_overlapping_intervals_count_once_and_only_under_the_lock() -> None:
    assert union([(5, 7), (1, 3), (2, 4), (9, 20), (8, 8)], 2, 10) == [(2, 4), (5, 7), (9, 10)]


@pytest.mark.parametrize(
    ("verifying", "idle"),
    [([], 0.65), ([(0, 1)], 0.4), ([(0, 1), (3, 4)], 0.15), ([(2, 3)], 0.65), ([(0, 4)], 0.0), ([(-5, 0.4)], 0.65)],
)
def test_idle_is_without_kernel_and_without_verification(verifying: list[tuple[float, float]], idle: float) -> None:
    spent = Usage(taken=0.0, released=4.0, verifying=verifying, looks=LOOKS).spent()
    assert spent.idle == pytest.approx(idle)
    assert spent.gpu_busy == pytest.approx(0.35) and spent.lock == 4.0


def test_where_nobody_tells_of_kernels_nothing_is_said_of_idleness() -> None:
    spent = Usage(taken=0.0, released=4.0, verifying=[(1, 2)]).spent()
    assert spent.idle is None and spent.gpu_busy is None and spent.verified == 1.0


def test_a_block_on_the_test_double_counts_both_parts(tmp_path: Path) -> None:
    """Half of the time a kernel runs there, so that half of what is not verification is idle."""
    run = make_run(tmp_path, {"honest": None})
    done = measure(run, env=fake_device(tmp_path, busy=0.5))
    assert done.returncode == 0, done.stderr
    spent = json.loads((run / "samples/block-00/manifest.json").read_text())["spent"]
    assert 0 < spent["verified"] < spent["lock"] and spent["gpu_busy"] == 0.5
    assert spent["idle"] == pytest.approx(0.5 * (1 - spent["verified"] / spent["lock"]), abs=0.02)
    again = measure(run, env=fake_device(tmp_path, busy=0.5))
    assert again.returncode == 0
    assert json.loads((run / "samples/block-00/manifest.json").read_text())["spent"] == spent


def test_nvml_tells_of_kernels_with_the_moment_of_each_look(monkeypatch: pytest.MonkeyPatch) -> None:
    class NVMLError(Exception):
        pass

    def refuse(*_: Any) -> Any:
        raise NVMLError

    known: dict[str, Any] = {
        "NVMLError": NVMLError,
        "nvmlInit": lambda: None,
        "nvmlDeviceGetHandleByUUID": lambda uuid: uuid,
        "nvmlDeviceGetUtilizationRates": lambda handle: SimpleNamespace(gpu=25),
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
    while len(monitor.looks()) < 2:
        assert time.monotonic() - begun < 30
        time.sleep(0.01)
    monitor.stop()
    moments = [moment for moment, _ in monitor.looks()]
    assert begun <= moments[0] < moments[1] and {share for _, share in monitor.looks()} == {0.25}
