"""profile/<solution>.json: what a run keeps of its captures.

Entry points: `SolutionProfile` (the document), `cell_profile`, `with_counters`, `host_time` (from parsed captures).
Pure functions. All times are microseconds on the GPU's clock under a profiler: they say where time goes, and are never
compared as latencies.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from bakeoff.build.spec import Backend, Stage
from bakeoff.profile import counters, stages
from bakeoff.profile.counters import Counted, Totals
from bakeoff.profile.stages import Breakdown, Rule
from bakeoff.profile.timeline import Call

SCHEMA = "bakeoff/profile/1"
DIGITS = 4  # of a microsecond: timelines are in nanoseconds
Share = Annotated[float, Field(ge=0)]
NOT_COUNTED = "no counters were captured"


class Part(BaseModel):
    """Base of all parts."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True, frozen=True)


class Kernel(Part):
    """All launches of one kernel in the call that stands for the cell."""

    name: str
    """Without template arguments and parameters."""
    stage: Stage
    mapped: bool
    """Whether a rule of the solution names it; otherwise its stage is `other`."""
    launches: int
    us: float
    """Its share of the busy time: what ran beside others counts in equal parts."""
    grid: tuple[int, int, int] | None = None
    """Blocks of its longest launch; null for copies and fills."""
    block: tuple[int, int, int] | None = None
    """Threads per block of its longest launch."""
    registers: int | None = None
    """Per thread."""
    shared_bytes: int | None = None
    """Per block, static and dynamic."""
    local_bytes: int | None = None
    """Local memory per thread (stack and spilled registers)."""


class Counters(Part):
    """Hardware counters over some kernels, with cold caches; null where the chip or the capture has no such metric."""

    kernels: int
    """Kernels that were counted; copies and fills by the memory engines are not kernels."""
    duration_us: float | None
    """Sum of the kernels' durations under the counter profiler, each alone on the GPU."""
    dram_bytes: float | None
    """Bytes read from and written to DRAM."""
    l2_bytes: float | None
    """Bytes through the L2 cache."""
    dram_share: Share | None
    """DRAM throughput over its peak, mean weighted by duration."""
    tensor_share: Share | None
    """Busy cycles of the tensor pipe over elapsed cycles, mean weighted by duration."""
    occupancy: Share | None
    """Active warps over the most that fit, while an SM is active; mean weighted by duration."""
    local_accesses: float | None
    """Instructions that load from or store to local memory: spills in use."""


class CellCounters(Part):
    """Counters of one call, whole and by stage."""

    total: Counters
    stages: dict[Stage, Counters]
    """Stages that have kernels."""
    missing: list[str]
    """Metrics that this chip lacks, by our names."""


class CellProfile(Part):
    """One (solution, workload), profiled."""

    workload: str
    key: str
    """Digest of what the profile depends on; equal keys are not profiled again."""
    tier: Literal["nsys", "cupti"]
    """Source of the timeline."""
    calls: int
    """Marked calls; the figures are of the one with the median busy time."""
    busy_range_us: tuple[float, float]
    """Least and greatest busy time over the calls."""
    busy_us: float
    """Time at which the GPU did anything for the call."""
    span_us: float
    """From the start of its first GPU work to the end of its last."""
    host_gap_us: float
    """Idle within the span while the host had not yet launched what came next."""
    device_gap_us: float
    """Idle within the span although the next work was launched."""
    launches: int
    """Kernels, copies and fills."""
    syncs: int
    """Host calls that wait for the GPU, within the call."""
    host_us: float
    """The host's own time in the call, without API calls that may wait for the GPU; under the tracer, which can double
    it."""
    mapped_share: Share
    """Share of the busy time in kernels that the solution's stage table names."""
    unmapped: list[str]
    """Names of the others."""
    stages_us: dict[Stage, float]
    """Busy time by stage, all seven; sums to `busy_us`."""
    stages_run_us: dict[Stage, float]
    """Time at which any kernel of the stage runs; more than its busy time where other stages run beside it."""
    kernels: list[Kernel]
    """In the order of their first launch."""
    counters: CellCounters | None = None
    counters_missing: str | None = NOT_COUNTED
    """Why there are no counters; null if there are."""

    @property
    def kernel_launches(self) -> int:
        """Launches that are kernels: not copies and fills by the memory engines, whose names stand in brackets."""
        return sum(kernel.launches for kernel in self.kernels if not kernel.name.startswith("["))

    @property
    def gap_us(self) -> float:
        return self.host_gap_us + self.device_gap_us

    @property
    def gap_share(self) -> float:
        return self.gap_us / self.span_us if self.span_us else 0.0


class HostTime(Part):
    """How long the host takes to enqueue a workload's call, in a process without a profiler."""

    workload: str
    key: str
    """As a cell's."""
    calls: int
    host_us: float
    """Median over the calls, from a call's start to its return, with the GPU idle before; waits for the GPU within it
    count."""


class Failure(Part):
    """A cell that could not be profiled."""

    workload: str
    reason: str


class Ceilings(Part):
    """What this host's GPU reached in the simplest programs: the measured ceilings."""

    copy_gbs: float
    """Device-to-device copy, bytes read plus bytes written, GB/s (10^9)."""
    fp8_tflops: float | None
    """Dense FP8 matrix product with per-tensor scales, TFLOP/s; null if this torch has none."""
    launch_us: float
    """Time from one empty kernel's start to the next one's, when launched back to back."""


class SolutionProfile(Part):
    """profile/<solution>.json."""

    model_config = ConfigDict(
        extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True, frozen=True, populate_by_name=True
    )

    schema_: Literal["bakeoff/profile/1"] = Field("bakeoff/profile/1", alias="schema")
    solution: str
    digest: str
    """sha256 of the packed solution."""
    backend: Backend
    gpu: str
    """Name of the GPU."""
    tools: dict[str, str]
    """Tier: version of the tool."""
    tiers_missing: dict[str, str]
    """Tier that this host could not give: why."""
    ceilings: Ceilings | None
    """Null if they could not be measured."""
    cells: list[CellProfile]
    """In the run's order."""
    failures: list[Failure]
    """Cells that could not be profiled."""
    hosts: list[HostTime] = Field(default_factory=list)
    """Host times without a profiler, in the run's order; a cell without one has its tracer's."""


def cell_profile(
    workload: str, key: str, tier: Literal["nsys", "cupti"], found: Sequence[Call], rules: Sequence[Rule]
) -> CellProfile | None:
    """A cell from its marked calls; None if none of them started work on the GPU."""
    broken_down = [one for one in (stages.break_down(call, rules) for call in found) if one is not None]
    if not broken_down:
        return None
    best = stages.representative(broken_down)
    busy = [one.busy_us for one in broken_down]
    return CellProfile(
        workload=workload,
        key=key,
        tier=tier,
        calls=len(broken_down),
        busy_range_us=(_us(min(busy)), _us(max(busy))),
        busy_us=_us(best.busy_us),
        span_us=_us(best.span_us),
        host_gap_us=_us(best.host_gap_us),
        device_gap_us=_us(best.device_gap_us),
        launches=best.launches,
        syncs=best.syncs,
        host_us=_us(best.host_us),
        mapped_share=round(best.mapped_us / best.busy_us, 6) if best.busy_us else 0.0,
        unmapped=sorted({kernel.name for kernel in best.kernels if not kernel.mapped}),
        stages_us={stage: _us(us) for stage, us in best.stages_us.items()},
        stages_run_us={stage: _us(us) for stage, us in best.stages_run_us.items()},
        kernels=_kernels(best),
    )


def host_time(workload: str, key: str, times_us: Sequence[float]) -> HostTime:
    return HostTime(workload=workload, key=key, calls=len(times_us), host_us=_us(statistics.median(times_us)))


def with_counters(
    cell: CellProfile, counted: Sequence[Counted], rules: Sequence[Rule], missing: Sequence[str]
) -> CellProfile:
    """The cell with its counters; `counted` are the kernels of one call in launch order, mapped by the same rules."""
    staged: dict[Stage, list[Counted]] = {}
    for kernel, (stage, _) in zip(counted, stages.assign([kernel.kernel for kernel in counted], rules), strict=True):
        staged.setdefault(stage, []).append(kernel)
    found = CellCounters(
        total=_counters(counters.summarize(counted)),
        stages={stage: _counters(counters.summarize(staged[stage])) for stage in sorted(staged)},
        missing=sorted(missing),
    )
    return cell.model_copy(update={"counters": found, "counters_missing": None})


def _kernels(best: Breakdown) -> list[Kernel]:
    return [
        Kernel(
            name=one.name,
            stage=one.stage,
            mapped=one.mapped,
            launches=one.launches,
            us=_us(one.us),
            grid=one.grid,
            block=one.block,
            registers=one.registers,
            shared_bytes=one.shared_bytes,
            local_bytes=one.local_bytes,
        )
        for one in best.kernels
    ]


def _counters(totals: Totals) -> Counters:
    def rounded(value: float | None, digits: int) -> float | None:
        return None if value is None else round(value, digits)

    return Counters(
        kernels=totals.kernels,
        duration_us=rounded(totals.duration_us, DIGITS),
        dram_bytes=rounded(totals.dram_bytes, 0),
        l2_bytes=rounded(totals.l2_bytes, 0),
        dram_share=rounded(totals.dram_share, 6),
        tensor_share=rounded(totals.tensor_share, 6),
        occupancy=rounded(totals.occupancy, 6),
        local_accesses=rounded(totals.local_accesses, 0),
    )


def _us(value: float) -> float:
    return round(value, DIGITS)
