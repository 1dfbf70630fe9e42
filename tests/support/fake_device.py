"""A test double of the GPU: tensors in host memory, times from a formula, and faults where a test wants them.

`FakeDevice` stands for `cuda.CudaDevice` in workers, `FakeMonitor` for `gpu_state.NvmlMonitor` in the supervisor. They
are found through BAKEOFF_TEST_DOUBLE, which names this file (core.device.opening), and read the JSON file that
BAKEOFF_FAKE_DEVICE names:

    {"faults": [{"kind": "hang", "participant": "x", "workload": "T1_o32"}, ...],   in workers, at the cell's first
                                                                                    timed call
     "looks": {"3": {"reasons": 8}, ...},                    what the monitor sees at its third look
     "missing": {"cupti_span_us": "why", ...}, "clocks": "why locking is refused",
     "factor": {"x": 1e9}, "lazy_after": {"x": 4}, "not_capturable": ["x"], "us": {"x": {"T1_o32": 30.0}},
     "protocols": {"robust": {"min_calls": 2}}, "waits": {"x": 2}, "wait_s": 0.02}

`factor` multiplies the times that a participant reports; `lazy_after` makes calls of a batch cost nothing after that
many; `us` are about the times of a participant by workload; `protocols` replaces settings of protocols; in that many of
the cells that a process begins, a warm-up included, the GPU `waits` for half of each call; `wait_s` is what a wait for
the device takes, in which late work has the time to show. Kinds: hang (ignores SIGTERM), segfault, killed,
illegal_address (poisons the context), out_of_memory, exit.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bakeoff.core.device.base import Device, NotCapturable
from bakeoff.core.device.gpu_state import Look, Monitor
from bakeoff.core.protocols import PROTOCOLS

VARIABLES = ("BAKEOFF_TEST_DOUBLE", "BAKEOFF_FAKE_DEVICE")


def open_device(participant: str) -> FakeDevice:
    """What core.device.opening asks for in a worker."""
    description = _description()
    for name, settings in description.get("protocols", {}).items():
        PROTOCOLS[name] = dataclasses.replace(PROTOCOLS[name], **settings)
    return FakeDevice(description, participant)


def open_monitor() -> FakeMonitor:
    """What core.device.opening asks for in the supervisor."""
    return FakeMonitor(_description())


def now() -> str:
    """The same at every moment, so that two runs leave the same bytes."""
    return "2000-01-01T00:00:00.000+00:00"


def variables(path: Path, description: dict[str, Any]) -> dict[str, str]:
    """Environment in which workers and supervisor use the double; writes the description to `path`."""
    path.write_text(json.dumps(description))
    return dict(zip(VARIABLES, (__file__, str(path)), strict=True))


def _description() -> dict[str, Any]:
    return dict(json.loads(Path(os.environ["BAKEOFF_FAKE_DEVICE"]).read_text()))


class FakeDevice(Device):
    """Counts calls; the time of a call depends on participant, workload and the call's number in the cell, and on
    nothing else."""

    repeats = True
    longest_row = 2

    def __init__(self, description: dict[str, Any], participant: str) -> None:
        self._faults = [fault for fault in description.get("faults", []) if fault["participant"] == participant]
        self._participant, self._workload, self._tokens = participant, "", 0
        self._number, self._calls, self._is_poisoned = 0, 0, False
        self._factor = float(description.get("factor", {}).get(participant, 1))
        self._us = description.get("us", {}).get(participant, {})
        self._spent_us, self._wait_s = 0.0, float(description.get("wait_s", 0))
        self._waits = int(description.get("waits", {}).get(participant, 0))
        self._not_capturable = description.get("not_capturable", [])
        self._lazy_after = int(description.get("lazy_after", {}).get(participant, 1 << 30))
        self.missing = dict(description.get("missing", {}))

    def enter(self, workload: str, tokens: int) -> None:
        self._workload, self._tokens, self._number = workload, tokens, 0
        self._waits -= 1

    def synchronize(self) -> None:
        time.sleep(self._wait_s)

    def seconds(self) -> float:
        """Made-up time, so that a busy host does not change how many calls a cell has."""
        return self._spent_us / 1e6

    def poisoned(self) -> bool:
        return self._is_poisoned

    def cold(self) -> None:
        """Nothing is cached."""

    def zero_cache(self, size: int) -> None:
        """Nothing is cached."""

    def lead_in(self, microseconds: float) -> None:
        """Nothing has to be hidden."""

    def trace(self, wanted: bool) -> None:
        """All tiers are made up anyway."""

    def begin(self) -> None:
        if self._number == 0:
            for fault in self._faults:
                if fault["workload"] == self._workload:
                    self._fail(fault["kind"])

    def end(self) -> None:
        self._calls += 1

    def capture(self, call: Callable[[], None]) -> Callable[[], None]:
        if self._participant in self._not_capturable:
            raise NotCapturable("operation not permitted when stream is capturing")
        return call

    def batch_us(self, call: Callable[[], None], count: int, lead_in_us: float) -> float:
        for _ in range(count):
            call()
        return sum(self._time(number) for number in range(min(count, self._lazy_after)))

    def harvest(self) -> dict[str, list[float]]:
        event = [self._time(self._number + index) for index in range(self._calls)]
        self._spent_us += sum(event)
        self._number, self._calls = self._number + self._calls, 0
        times = {
            "event_us": event,
            "cupti_span_us": [value - 2 for value in event],
            "cupti_busy_us": [value / 2 if self._waits >= 0 else value - 3 for value in event],
        }
        times["wall_us"] = [5.0 for _ in event]
        return {tier: values for tier, values in times.items() if tier not in self.missing}

    def _time(self, number: int) -> float:
        digest = hashlib.sha256(f"{self._participant}/{self._workload}/{number}".encode()).digest()
        drawn = 20 + self._tokens / 10 + hashlib.sha256(self._participant.encode()).digest()[0] / 16
        base = self._us.get(self._workload, drawn)
        return round(self._factor * base * (1 + digest[0] / 128000), 3)

    def _fail(self, kind: str) -> None:
        if kind == "hang":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            time.sleep(3600)
        elif kind in ("segfault", "killed"):
            os.kill(os.getpid(), signal.SIGSEGV if kind == "segfault" else signal.SIGKILL)
        elif kind == "illegal_address":
            self._is_poisoned = True
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        elif kind == "out_of_memory":
            import torch  # here alone: the supervisor, which has this module too, runs without it

            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 80.00 GiB")
        elif kind == "exit":
            os._exit(3)


class FakeMonitor(Monitor):
    """Sees a healthy GPU, but for the looks that the description overrides."""

    def __init__(self, description: dict[str, Any]) -> None:
        self._looks, self._refusal = description.get("looks", {}), description.get("clocks")
        self._count = 0
        self.locked: int | None = None

    def since(self, moment: float) -> list[Look]:
        self._count += 1
        seen = dict(self._looks.get(str(self._count), {}))
        for name in ("processes", "xids"):
            if name in seen:
                seen[name] = (frozenset if name == "processes" else tuple)(seen[name])
        return [dataclasses.replace(self.baseline(), **seen)]

    def baseline(self) -> Look:
        return Look(0.0, sm_mhz=1980, memory_mhz=2619, celsius=40, watts=300.0, ecc=0)

    def lock_clocks(self, mhz: int) -> str | None:
        self.locked = None if self._refusal else mhz
        return str(self._refusal) if self._refusal else None

    def unlock_clocks(self) -> None:
        self.locked = None
