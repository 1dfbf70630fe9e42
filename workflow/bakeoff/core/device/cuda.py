"""The GPU under a worker: CUDA events, CUPTI activity records, a cold L2 cache.

`CudaDevice` needs a CUDA build of torch and one visible GPU. CUPTI (cupti-python) gives what the GPU itself recorded of
each kernel; where it is missing or denied, its two tiers are named as missing, with the reason, and nothing stands in
for them. CUPTI is attached when the first traced call is near, not before: an attached CUPTI slows every API call of
the process, and a protocol without it must not pay for that.
"""

import bisect
import contextlib
import ctypes
from collections.abc import Callable
from typing import Any

import torch

from bakeoff.core.device.activity import ActivityRecorder, CuptiError, DeviceRecord, open_recorder
from bakeoff.core.device.base import Device, NotCapturable, now_us
from bakeoff.core.intervals import covered

CUPTI_TIERS = ("cupti_busy_us", "cupti_span_us")
# torch's delay kernel. One runs before each call and one after it on the call's stream, so they mark it on the GPU's
# own clock.
MARKER = "spin_kernel"
PERSISTING_L2 = 6  # CU_LIMIT_PERSISTING_L2_CACHE_SIZE: bytes of the cache that a stream's access window may hold on to
ACCESS_WINDOW = 1  # CU_STREAM_ATTRIBUTE_ACCESS_POLICY_WINDOW: a CUaccessPolicyWindow, in a union of 64 bytes


class CudaDevice(Device):
    """The first visible GPU, on the current stream."""

    torch_name = "cuda"
    repeats = True

    def __init__(self, trace: bool = True) -> None:
        """`trace`: CUPTI may be used, which only one user per process can; a profiler may be another one."""
        torch.cuda.init()
        self._event, self._sync, self._spin = torch.cuda.Event, torch.cuda.synchronize, torch.cuda._sleep
        self._graph, self._side = torch.cuda.CUDAGraph, torch.cuda.Stream()
        properties = torch.cuda.get_device_properties(0)
        # Twice the cache: the flush must evict everything, whatever the replacement policy.
        self._flush = torch.zeros(2 * properties.L2_cache_size // 4, dtype=torch.int32, device="cuda")
        self._cache: torch.Tensor | None = None
        self._driver = ctypes.CDLL("libcuda.so.1")
        self._stream = torch.cuda.current_stream()
        self._kept: str | None = None
        self._own = 0  # CUPTI's number of that stream
        self._cycles_per_us = _sm_clock_mhz(properties)
        self.missing: dict[str, str] = {}
        self._may_trace = trace
        self._trace: ActivityRecorder | None = None
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

    def trim(self) -> None:
        torch.cuda.empty_cache()

    def cold(self) -> None:
        if not self._calls:  # before each call it would take as long as half of all that a call costs
            self._let_go()
        self._flush.add_(1)

    def _let_go(self) -> None:
        """What would outlive the flush, or fill the cache again after it: work on any stream comes to its end, lines
        that a call made persist become ordinary ones, and no later line can persist."""
        self._sync()
        self._driver.cuCtxResetPersistingL2Cache()
        if self._held_lines():
            self._driver.cuCtxSetLimit(PERSISTING_L2, ctypes.c_size_t(0))
        if self._window_bytes():
            self._driver.cuStreamSetAttribute(self._handle(), ACCESS_WINDOW, (ctypes.c_uint64 * 8)())

    def _held_lines(self) -> int:
        """Bytes of the cache that persisting lines may take."""
        held = ctypes.c_size_t()
        self._driver.cuCtxGetLimit(ctypes.byref(held), PERSISTING_L2)
        return held.value

    def _window_bytes(self) -> int:
        """Bytes of the access window of the stream that calls are timed on."""
        window = (ctypes.c_uint64 * 8)()
        self._driver.cuStreamGetAttribute(self._handle(), ACCESS_WINDOW, window)
        return int(window[1])

    def _handle(self) -> ctypes.c_void_p:
        return ctypes.c_void_p(self._stream.cuda_stream)

    def kept(self) -> str | None:
        """What a batch has left set, asked of the driver once: it would take as long after each call as the rest of
        what is done around one."""
        kept, self._kept = self._kept, None
        if kept is None and self._held_lines():
            return "lines of the L2 cache may persist after the calls"
        if kept is None and self._window_bytes():
            return "the calls' stream has an access window after them"
        return kept

    def zero_cache(self, size: int) -> None:
        if self._cache is None or self._cache.numel() * 4 != size:
            self._cache = torch.empty(size // 4, dtype=torch.int32, device="cuda")
        if not self._calls:
            self._let_go()
        self._cache.zero_()

    def lead_in(self, microseconds: float) -> None:
        self._spin(int(microseconds * self._cycles_per_us))

    def trace(self, wanted: bool) -> None:
        if wanted and self._may_trace and self._trace is None:
            self._trace = _open_recorder(self.missing)
            self._may_trace = self._trace is not None
        if self._trace is not None:
            try:
                self._trace.enable(wanted)
                if wanted:
                    # What a cell left behind that ended in the middle of a batch.
                    self._calls = []
                    self._sync()
                    self._trace.collect()
                    self._spin(1)
                    self._sync()
                    self._own = own_stream(self._trace.collect())
            except CuptiError as error:
                self._stop_tracing(str(error))

    def begin(self) -> None:
        call = {"start": self._event(enable_timing=True), "end": self._event(enable_timing=True)}
        self._calls.append(call)
        call["start"].record()
        call["host"] = now_us()

    def end(self) -> None:
        call = self._calls[-1]
        call["host"] = now_us() - call["host"]
        call["end"].record()
        if self._trace is not None and self._trace.enabled:
            self._spin(1)
        if torch.cuda.current_stream() != self._stream:
            self._kept = "another stream is the current one after the call"

    def capture(self, call: Callable[[], None]) -> Callable[[], None]:
        graph, pool, refused = self._graph(), torch.cuda.graph_pool_handle(), None
        self._sync()
        with torch.cuda.stream(self._side):
            call()  # scratch buffers of a stream are made in its first call, which no graph can hold
            self._sync()
            graph.capture_begin(pool=pool, capture_error_mode="thread_local")
            try:
                call()
            except Exception as error:  # noqa: BLE001 - the same call has returned when nothing was captured
                refused = error
            try:
                graph.capture_end()
            except RuntimeError as error:
                refused = refused or error
        if refused is not None:
            # torch leaves its allocator in the state of a capture when the driver has called one off.
            with contextlib.suppress(Exception):
                torch._C._cuda_endAllocateToPool(torch.cuda.current_device(), pool)
        self._sync()  # raises where more than the capture has failed
        self._drop_records()  # of what ran, or a capture put by itself, on the other stream: it belongs to no call
        if refused is not None:
            raise NotCapturable(f"{type(refused).__name__}: {str(refused).splitlines()[0] if str(refused) else ''}")
        return graph.replay

    def _drop_records(self) -> None:
        if self._trace is not None and self._trace.enabled:
            try:
                self._trace.collect()
            except CuptiError as error:
                self._stop_tracing(str(error))

    def batch_us(self, call: Callable[[], None], count: int, lead_in_us: float) -> float:
        start, end = self._event(enable_timing=True), self._event(enable_timing=True)
        self.lead_in(lead_in_us)
        start.record()
        for _ in range(count):
            call()
        end.record()
        self._sync()
        return float(start.elapsed_time(end)) * 1000

    def harvest(self) -> dict[str, list[float]]:
        """wall_us is the host's time inside the call: what the caller waits for, not how long the GPU works."""
        calls, self._calls = self._calls, []
        times = {
            "wall_us": [call["host"] for call in calls],
            "event_us": [call["start"].elapsed_time(call["end"]) * 1000 for call in calls],
        }
        if self._trace is not None and self._trace.enabled:
            try:
                records = self._trace.collect()
                self._kept = self._kept or strays(records, self._own)
                traced = attribute(records, len(calls), self._own)
            except CuptiError as error:
                self._stop_tracing(str(error))
                return times
            if traced is None:
                self._stop_tracing("CUPTI's records do not show every call between its two marks")
            else:
                times["cupti_busy_us"], times["cupti_span_us"] = traced
        return times

    def _stop_tracing(self, why: str) -> None:
        if self._trace is not None:
            with contextlib.suppress(CuptiError):
                self._trace.enable(False)
        self._trace, self._may_trace = None, False
        self.missing |= dict.fromkeys(CUPTI_TIERS, why)


def attribute(records: list[DeviceRecord], calls: int, own: int) -> tuple[list[float], list[float]] | None:
    """Busy time and span, in microseconds, of the device work of each call.

    records: (device start ns, device end ns, whether it is a mark, stream), in any order; each call stands between two
    marks on the stream `own`.
    What starts after the first mark has started counts, so work that runs ahead on another stream counts as well. Busy
    is the union of the intervals: concurrent kernels do not count twice. None if the marks do not pair up with the
    calls, a call caused nothing, or a record has no times.
    """
    if any(start <= 0 or end < start for start, end, *_ in records):
        return None  # a kernel without its times could be anywhere: no call's time would be whole
    marks = _marks(records, own)
    if len(marks) != 2 * calls:
        return None
    intervals: list[list[tuple[int, int]]] = [[] for _ in range(calls)]
    for start, end, is_mark, stream in records:
        place = bisect.bisect_right(marks, start) - 1
        if not (is_mark and stream == own) and place >= 0 and place % 2 == 0:
            intervals[place // 2].append((start, end))
    if not all(intervals):
        return None
    spans = [max(end for _, end in each) - min(start for start, _ in each) for each in intervals]
    return [covered(each) / 1000 for each in intervals], [span / 1000 for span in spans]


def own_stream(records: list[DeviceRecord]) -> int:
    """The stream that calls are timed on, from the records of one mark on it. A solution may launch the delay kernel as
    well, but not on another stream while none of its calls runs."""
    streams = {stream for _, _, is_mark, stream in records if is_mark}
    if len(streams) != 1:
        raise CuptiError(f"a mark was seen on {len(streams)} streams")
    return streams.pop()


def strays(records: list[DeviceRecord], own: int) -> str | None:
    """A sentence if work began between two calls on another stream than `own`: only the harness works there."""
    marks = _marks(records, own)
    found = sum(stream != own and bisect.bisect_right(marks, start) % 2 == 0 for start, _, _, stream in records)
    return f"{found} pieces of work began on other streams between the calls" if marks and found else None


def _marks(records: list[DeviceRecord], own: int) -> list[int]:
    return sorted(start for start, _, is_mark, stream in records if is_mark and stream == own)


def _open_recorder(missing: dict[str, str]) -> ActivityRecorder | None:
    try:
        return open_recorder(MARKER)
    except ImportError as error:
        why = f"cupti-python cannot be imported ({error}); install cupti-python==13.0.1"
    except CuptiError as error:
        why = f"CUPTI does not record ({error}); end other profilers"
    missing |= dict.fromkeys(CUPTI_TIERS, why)
    return None


def _sm_clock_mhz(properties: Any) -> float:
    """Cycles per microsecond that the delay kernel counts in; kHz in torch's properties, where they have it."""
    return float(getattr(properties, "clock_rate", 1_700_000)) / 1000
