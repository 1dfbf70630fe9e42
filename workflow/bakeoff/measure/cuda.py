"""The GPU under a worker: CUDA events, CUPTI activity records, a cold L2 cache.

`CudaDevice` needs a CUDA build of torch and one visible GPU. CUPTI (cupti-python) gives what the GPU itself recorded of each kernel;
where it is missing or denied, its two tiers are named as missing, with the reason, and nothing stands in for them.
"""

from __future__ import annotations

import bisect
from typing import Any

import torch

from bakeoff.measure.device import Device
from bakeoff.measure.timing import now_us

CUPTI_TIERS = ("cupti_busy_us", "cupti_span_us")
CUPTI_BUFFER = 8 << 20


class CudaDevice(Device):
    """The first visible GPU, on the current stream."""

    torch_name = "cuda"
    repeats = True

    def __init__(self, trace: bool = True) -> None:
        """`trace`: record with CUPTI, which only one user per process can; a profiler may be another one."""
        torch.cuda.init()
        self._event, self._current_stream, self._sync = (
            torch.cuda.Event,
            torch.cuda.current_stream,
            torch.cuda.synchronize,
        )
        properties = torch.cuda.get_device_properties(0)
        # Twice the cache: the flush must evict everything, whatever the replacement policy.
        self._flush = torch.zeros(2 * properties.L2_cache_size // 4, dtype=torch.int32, device="cuda")
        self._cache: torch.Tensor | None = None
        self._cycles_per_us = _sm_clock_mhz(properties)
        self.missing: dict[str, str] = {}
        self._trace = _open_trace(self.missing) if trace else None
        self._calls: list[dict[str, Any]] = []
        self._sync()

    def synchronize(self) -> None:
        self._sync()

    def poisoned(self) -> bool:
        try:
            self._sync()
            torch.zeros(1, device="cuda").item()
        except RuntimeError:
            return True
        return False

    def cold(self) -> None:
        self._flush.add_(1)

    def zero_cache(self, size: int) -> None:
        if self._cache is None or self._cache.numel() * 4 != size:
            self._cache = torch.empty(size // 4, dtype=torch.int32, device="cuda")
        self._cache.zero_()

    def lead_in(self, microseconds: float) -> None:
        torch.cuda._sleep(int(microseconds * self._cycles_per_us))

    def begin(self, trace: bool = True) -> None:
        call: dict[str, Any] = {"start": self._event(enable_timing=True), "end": self._event(enable_timing=True)}
        call["traced"] = trace and self._trace is not None
        if self._trace is not None:
            self._trace.enable(trace)
        call["start"].record()
        if call["traced"] and self._trace is not None:
            call["window"] = self._trace.now()
        call["host"] = now_us()
        self._calls.append(call)

    def end(self) -> None:
        call = self._calls[-1]
        call["host"] = now_us() - call["host"]
        if call["traced"] and self._trace is not None:
            call["window"] = (call["window"], self._trace.now())
        call["end"].record()

    def harvest(self) -> dict[str, list[float]]:
        """wall_us is the host's time inside the call: what the caller waits for, not how long the GPU works."""
        calls, self._calls = self._calls, []
        times = {
            "wall_us": [call["host"] for call in calls],
            "event_us": [call["start"].elapsed_time(call["end"]) * 1000 for call in calls],
        }
        if self._trace is not None and calls and all(call["traced"] for call in calls):
            traced = self._trace.collect([call["window"] for call in calls])
            if traced is None:
                self._trace = None
                self.missing |= {tier: "CUPTI lost the records of a call" for tier in CUPTI_TIERS}
            else:
                times["cupti_busy_us"], times["cupti_span_us"] = traced
        return times


class Trace:
    """Kernel, copy and fill records from CUPTI, attributed to calls by the host time of the API call that caused them."""

    def __init__(self, cupti: Any) -> None:
        self._cupti = cupti
        kinds = cupti.ActivityKind
        self._api = (kinds.RUNTIME, kinds.DRIVER)
        self._work = (kinds.CONCURRENT_KERNEL, kinds.MEMCPY, kinds.MEMSET)
        self._enabled = False
        self._api_records: list[tuple[int, int]] = []  # host start, ns; correlation id
        self._work_records: list[tuple[int, int, int]] = []  # correlation id; device start and end, ns
        cupti.activity_register_callbacks(lambda: (CUPTI_BUFFER, 0), self._completed)
        self.enable(True)
        self.enable(False)

    def now(self) -> int:
        return int(self._cupti.get_timestamp())

    def enable(self, wanted: bool) -> None:
        if wanted == self._enabled:
            return
        switch = self._cupti.activity_enable if wanted else self._cupti.activity_disable
        for kind in (*self._api, *self._work):
            switch(kind)
        self._enabled = wanted

    def collect(self, windows: list[tuple[int, int]]) -> tuple[list[float], list[float]] | None:
        """(busy, span) in microseconds of the work caused within each window; None if a window has no record."""
        self._cupti.activity_flush_all(0)
        api, work = self._api_records, self._work_records
        self._api_records, self._work_records = [], []
        return attribute(api, work, windows)

    def _completed(self, activities: list[Any]) -> None:
        for activity in activities:
            if activity.kind in self._work:
                self._work_records.append((activity.correlation_id, activity.start, activity.end))
            elif activity.kind in self._api:
                self._api_records.append((activity.start, activity.correlation_id))


def attribute(
    api: list[tuple[int, int]], work: list[tuple[int, int, int]], windows: list[tuple[int, int]]
) -> tuple[list[float], list[float]] | None:
    """Busy time and span, in microseconds, of the device work that API calls inside each window caused.

    api: (host start ns, correlation id); work: (correlation id, device start ns, device end ns); windows: (start, end) ns in order,
    without overlap. Busy is the union of the intervals, so concurrent kernels do not count twice. None if a window caused nothing.
    """
    starts = [start for start, _ in windows]
    window_of: dict[int, int] = {}
    for moment, correlation in api:
        index = bisect.bisect_right(starts, moment) - 1
        if index >= 0 and moment <= windows[index][1]:
            window_of[correlation] = index
    intervals: list[list[tuple[int, int]]] = [[] for _ in windows]
    for correlation, start, end in work:
        if correlation in window_of:
            intervals[window_of[correlation]].append((start, end))
    if not all(intervals):
        return None
    return [_union(each) / 1000 for each in intervals], [
        (max(end for _, end in each) - min(start for start, _ in each)) / 1000 for each in intervals
    ]


def _union(intervals: list[tuple[int, int]]) -> int:
    total, reached = 0, 0
    for start, end in sorted(intervals):
        total += max(0, end - max(start, reached))
        reached = max(reached, end)
    return total


def _open_trace(missing: dict[str, str]) -> Trace | None:
    try:
        from cupti import cupti
    except ImportError as error:
        missing |= {
            tier: f"cupti-python cannot be imported ({error}); install cupti-python==13.0.1" for tier in CUPTI_TIERS
        }
        return None
    try:
        return Trace(cupti)
    except cupti.cuptiError as error:
        missing |= {tier: f"CUPTI is denied ({error}); end other profilers" for tier in CUPTI_TIERS}
        return None


def _sm_clock_mhz(properties: Any) -> float:
    """Cycles per microsecond that the delay kernel counts in; kHz in torch's properties, where they have it."""
    return float(getattr(properties, "clock_rate", 1_700_000)) / 1000
