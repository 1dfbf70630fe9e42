"""The GPU's state while cells run: clocks, temperature, power, event reasons, error counts, and who else is on it.

Entry points: `NvmlMonitor` (looks in a thread), `summary` and `disturbance` (pure). `locked_clocks`
sets the SM clock for the length of a block and restores it. Known limit: NVML counts power and clocks over some
milliseconds, so a shorter disturbance is not seen here.
"""

import contextlib
import statistics
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bakeoff.schema.outcomes import Reason

PERIOD_S = 0.05  # a look takes about a millisecond of the driver's time
# Clock event reasons (nvml.h). A power cap is how a GPU works under full load and is recorded; the others mean a sick
# host.
REASONS = {
    0x4: "sw_power_cap",
    0x8: "hw_slowdown",
    0x20: "sw_thermal_slowdown",
    0x40: "hw_thermal_slowdown",
    0x80: "hw_power_brake",
}
THROTTLING = 0x8 | 0x20 | 0x40 | 0x80
# Xid errors that a faulty kernel causes itself: 13 graphics exception, 31 page fault, 43 stopped channel, 45 its
# clean-up.
XIDS_OF_KERNELS = frozenset({13, 31, 43, 45})


@dataclass(frozen=True)
class Look:
    """One look at the GPU; None where this GPU does not tell."""

    moment: float  # time.monotonic()
    sm_mhz: int | None = None
    memory_mhz: int | None = None
    celsius: int | None = None
    watts: float | None = None
    reasons: int = 0
    ecc: int | None = None  # uncorrected errors since the driver was loaded
    processes: frozenset[int] = frozenset()
    xids: tuple[int, ...] = ()  # reported since the look before


def summary(looks: list[Look], of_calls: bool = False) -> dict[str, Any] | None:
    """What is kept of a cell's looks; None without looks. of_calls: they are of its timed calls alone."""
    if not looks:
        return None
    seen: dict[str, Any] = {"samples": len(looks), "of_calls": of_calls}
    for name in ("sm_mhz", "memory_mhz", "celsius", "watts"):
        values = [value for look in looks if (value := getattr(look, name)) is not None]
        if values:
            seen[name] = {"min": min(values), "median": statistics.median(values), "max": max(values)}
    reasons = 0
    for look in looks:
        reasons |= look.reasons
    seen["reasons"] = [name for bit, name in REASONS.items() if reasons & bit]
    seen["ecc"] = max((look.ecc for look in looks if look.ecc is not None), default=None)
    seen["xids"] = sorted({xid for look in looks for xid in look.xids})
    return seen


def disturbance(looks: list[Look], own: set[int], baseline: Look, blamed: bool) -> tuple[Reason, str] | None:
    """Why a cell's looks cannot be trusted, or None. own: process ids of the run; blamed: the solution itself failed
    on the GPU."""
    if not looks:
        return None
    xids = {xid for look in looks for xid in look.xids} - (XIDS_OF_KERNELS if blamed else frozenset())
    if xids:
        return Reason.XID_ERROR, f"the driver reported Xid {', '.join(map(str, sorted(xids)))}"
    ecc = [look.ecc for look in looks if look.ecc is not None]
    if ecc and baseline.ecc is not None and max(ecc) > baseline.ecc:
        return Reason.ECC_ERROR, f"uncorrected memory errors rose from {baseline.ecc} to {max(ecc)}"
    foreign = _foreign(looks, own)
    if foreign:
        return Reason.FOREIGN_PROCESS, foreign
    throttled = [look for look in looks if look.reasons & THROTTLING]
    if throttled:
        names = [
            name for bit, name in REASONS.items() if bit & THROTTLING and any(look.reasons & bit for look in throttled)
        ]
        return Reason.THROTTLED, f"{len(throttled)} of {len(looks)} looks at the GPU saw {', '.join(names)}"
    return None


def _foreign(looks: list[Look], own: set[int]) -> str | None:
    """Processes on the GPU that are not the run's. In a container NVML's ids may be the host's; then only their number
    tells."""
    seen = {process for look in looks for process in look.processes}
    if seen & own:
        strangers = seen - own
        return f"processes {', '.join(map(str, sorted(strangers)))} use the GPU" if strangers else None
    most = max(len(look.processes) for look in looks)
    return f"{most} processes use the GPU, {len(own)} of them are the run's" if most > len(own) else None


class Monitor:
    """No GPU: nothing to see. Subclasses look at one."""

    def start(self) -> None:
        """Begin to look."""

    def stop(self) -> None:
        """End sampling."""

    def since(self, moment: float) -> list[Look]:
        """Looks from `moment` (time.monotonic()) on, at least one."""
        return []

    def baseline(self) -> Look:
        """The state before the first cell."""
        return Look(time.monotonic())

    def lock_clocks(self, mhz: int) -> str | None:
        """Lock the SM clock; returns why it was refused, or None."""
        return "this device has no clocks"

    def unlock_clocks(self) -> None:
        """Restore what `lock_clocks` changed."""


class NvmlMonitor(Monitor):
    """One GPU, seen through NVML."""

    def __init__(self, uuid: str) -> None:
        import pynvml

        self._nvml = pynvml
        pynvml.nvmlInit()
        self._handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
        self._looks: list[Look] = []
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._events = self._register_xids()
        self._baseline = self._look()
        self._thread = threading.Thread(target=self._run, name="gpu-state", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def since(self, moment: float) -> list[Look]:
        now = self._look()
        with self._lock:
            looks = [look for look in self._looks if look.moment >= moment] + [now]
            # Cells come one after the other: what is older is not asked for again.
            self._looks = [look for look in self._looks if look.moment >= moment - 60]
        return looks

    def baseline(self) -> Look:
        return self._baseline

    def lock_clocks(self, mhz: int) -> str | None:
        try:
            self._nvml.nvmlDeviceSetGpuLockedClocks(self._handle, mhz, mhz)
        except self._nvml.NVMLError as error:
            return str(error)
        return None

    def unlock_clocks(self) -> None:
        with contextlib.suppress(self._nvml.NVMLError):
            self._nvml.nvmlDeviceResetGpuLockedClocks(self._handle)

    def _run(self) -> None:
        while not self._ended.wait(PERIOD_S):
            look = self._look()
            with self._lock:
                self._looks.append(look)

    def _look(self) -> Look:
        nvml, moment = self._nvml, time.monotonic()
        power = self._ask("nvmlDeviceGetPowerUsage")
        reasons = self._ask("nvmlDeviceGetCurrentClocksEventReasons")
        if reasons is None:
            reasons = self._ask("nvmlDeviceGetCurrentClocksThrottleReasons") or 0
        processes = self._ask("nvmlDeviceGetComputeRunningProcesses") or []
        return Look(
            moment,
            self._ask("nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_SM),
            self._ask("nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_MEM),
            self._ask("nvmlDeviceGetTemperature", nvml.NVML_TEMPERATURE_GPU),
            None if power is None else power / 1000,
            reasons,
            self._ask("nvmlDeviceGetTotalEccErrors", nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, nvml.NVML_VOLATILE_ECC),
            frozenset(process.pid for process in processes),
            self._xids(),
        )

    def _ask(self, function: str, *arguments: Any) -> Any:
        """NVML's answer, or None where this GPU or driver has no such thing."""
        try:
            return getattr(self._nvml, function)(self._handle, *arguments)
        except (self._nvml.NVMLError, AttributeError):
            return None

    def _register_xids(self) -> Any:
        try:
            events = self._nvml.nvmlEventSetCreate()
            self._nvml.nvmlDeviceRegisterEvents(self._handle, self._nvml.nvmlEventTypeXidCriticalError, events)
        except self._nvml.NVMLError:
            return None
        return events

    def _xids(self) -> tuple[int, ...]:
        found: list[int] = []
        while self._events is not None:
            try:
                found.append(int(self._nvml.nvmlEventSetWait_v2(self._events, 0).eventData))
            except (self._nvml.NVMLError, AttributeError):
                break
        return tuple(found)


@contextlib.contextmanager
def locked_clocks(monitor: Monitor, mhz: int | None) -> Iterator[str | None]:
    """Lock the clock if asked to; yields why that was refused, or None. Restored at the end, whatever happens."""
    refused = monitor.lock_clocks(mhz) if mhz is not None else None
    try:
        yield refused
    finally:
        if mhz is not None and refused is None:
            monitor.unlock_clocks()
