"""The process that a profiler watches: it loads one packed solution as measure's worker does, and calls it on each
workload.

Run as `python -m bakeoff.profile.child JOB.json` by `capture`. Every workload gets warm-up calls, then marked calls
with a cold L2 each. With the tier `host` no profiler watches: the calls' host time is taken, which tracing would more
than double. One line per workload goes to the job's `progress` file as soon as it is done. No time limit of a call is
enforced here: `capture` ends the process. Unlike in a measurement the process is not confined, because the profilers
write files of their own: profile solutions that you would run yourself.
"""

import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from bakeoff.files import read_json
from bakeoff.profile.timeline import mark_name
from bakeoff.schema.base import Part

if TYPE_CHECKING:
    from bakeoff.core.worker.state import WorkerState

DETAIL = 2000  # characters of a traceback that are kept
WARMUPS = 3  # calls that compile, load modules and grow buffers
# Marked calls per cell; counters are replayed, so one call says it all.
MARKED = {"host": 20, "nsys": 5, "cupti": 5, "ncu": 1}
# The GPU is kept busy for this long before a marked call, while the host enqueues it: gaps are then the GPU's own.
# Longer than in a measurement, since a tracer makes the host take several times as long for a call.
LEAD_IN_US = 5000.0


class Job(Part):
    """What a profiled process is to do."""

    tier: Literal["host", "nsys", "cupti", "ncu"]
    worker: dict[str, Any]
    """What the supervisor tells a worker: participant, packed solution, scratch folder, inputs, backend, threads."""
    cache: Path
    gpu: str
    """The GPU's name, for the record."""
    family: str
    seed: int
    workloads: list[str]
    calls: int
    deadline_s: float | None
    """No workload is started later than this many seconds after the start; null for no limit."""
    output: Path
    """The recorder's file, for the tier cupti."""
    progress: Path


class ProfiledCall(Part):
    """One line of the progress file; the last one, without a workload, says that the process came to its end."""

    workload: str | None
    failed: str | None = None
    """What happened, if the workload could not be profiled."""
    host_us: list[float] | None = None
    """The host's time in each marked call, for the tier host."""


class Marker(Protocol):
    """Marks calls for the profiler that watches."""

    def mark(self, workload: str, call: int) -> AbstractContextManager[None]: ...

    def finish(self, workload: str) -> list[float] | None:
        """The host's time in each of a workload's calls, in microseconds, if that is what the marks are for."""
        return None

    def drop(self) -> None:
        """Forget a workload that failed. What a profiler records of it is left out by who reads the capture."""
        return None

    def close(self) -> None:
        """End marking: all workloads are done."""
        return None


class HostClock(Marker):
    """The host's time from a call's start to its return."""

    def __init__(self) -> None:
        self._times: dict[str, list[float]] = {}

    @contextmanager
    def mark(self, workload: str, call: int) -> Iterator[None]:
        start = time.perf_counter_ns()
        yield
        self._times.setdefault(workload, []).append((time.perf_counter_ns() - start) / 1000)

    def finish(self, workload: str) -> list[float]:
        return self._times[workload]


class NvtxMarker(Marker):
    """Ranges for Nsight; with `window`, only what is inside a range is profiled."""

    def __init__(self, window: bool) -> None:
        import torch

        self._nvtx, self._profiler, self._window = torch.cuda.nvtx, torch.cuda.profiler, window

    @contextmanager
    def mark(self, workload: str, call: int) -> Iterator[None]:
        if self._window:
            self._profiler.start()
        self._nvtx.range_push(mark_name(workload, call))
        try:
            yield
        finally:
            self._nvtx.range_pop()
            if self._window:
                self._profiler.stop()


def open_marker(job: Job) -> Marker:
    if job.tier == "host":
        return HostClock()
    if job.tier == "cupti":
        from bakeoff.profile.cupti import TimelineRecorder

        return TimelineRecorder(job.output, job.gpu)
    return NvtxMarker(window=job.tier == "ncu")


def prepare(job: Job) -> "WorkerState":
    """The worker's bench with the solution in it."""
    from bakeoff.core.device.opening import open_device
    from bakeoff.core.worker.sandbox import AuditHook
    from bakeoff.core.worker.state import WorkerState

    # Without tracing of its own, since only one user of CUPTI fits into a process.
    device = open_device(job.worker["backend"], job.worker["threads"], job.worker["participant"], trace=False)
    return WorkerState(job.worker, device, AuditHook([Path(job.worker["scratch"]), job.cache]))


def profile(job: Job, bench: "WorkerState", marker: Marker, begun: float) -> None:
    """All workloads of the job, until the deadline; a workload that fails is noted, and the next one is tried."""
    with job.progress.open("w") as progress:
        for workload in job.workloads:
            if job.deadline_s is not None and time.monotonic() - begun > job.deadline_s:
                break
            done = _one(job, bench, marker, workload)
            progress.write(done.model_dump_json() + "\n")
            progress.flush()
            if done.failed and bench.device.poisoned():
                return
        progress.write(ProfiledCall(workload=None).model_dump_json() + "\n")


def _one(job: Job, bench: "WorkerState", marker: Marker, workload: str) -> ProfiledCall:
    """One workload, and what came of it."""

    try:
        own = {"workload": workload, "family": job.family, "seed": job.seed}
        cell = bench.open_cell(own)
        inputs, output = cell.inputs, cell.output()
        output.poison()
        with cell.watch():
            for _ in range(WARMUPS):
                cell.call(inputs, output.view())
            bench.device.synchronize()
            for call in range(job.calls):
                if job.tier != "host":  # a solution that waits for the GPU would wait for these as well
                    bench.device.cold()
                    bench.device.lead_in(LEAD_IN_US)
                with marker.mark(workload, call):
                    cell.call(inputs, output.view())
                bench.device.synchronize()
        return ProfiledCall(workload=workload, host_us=marker.finish(workload))
    except Exception as error:  # noqa: BLE001 - whatever foreign code raises is its result
        bench.forget()
        if not bench.device.poisoned():
            marker.drop()
        return ProfiledCall(workload=workload, failed="".join(traceback.format_exception(error))[-DETAIL:])


def main(arguments: list[str]) -> int:
    begun = time.monotonic()
    job = read_json(Path(arguments[0]), Job)
    bench = prepare(job)
    marker = open_marker(job)
    profile(job, bench, marker, begun)
    marker.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
