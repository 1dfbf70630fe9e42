"""Profiles: profile/<solution>.json, what a run keeps of its captures, and their section in analysis.json.

Times are microseconds on the GPU's clock under a profiler: they say where time goes, and are never compared as
latencies. Shares are ratios; null is "there is none", never zero.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from bakeoff.schema.solution import Backend, Stage

SCHEMA = "bakeoff/profile/1"
NOT_COUNTED = "no counters were captured"


Share = Annotated[float, Field(ge=0)]


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


Limit = Literal["memory", "tensor", "latency"]


class StageSection(Part):
    """One stage of one cell."""

    stage: Stage
    us: float
    """Busy time, in which kernels of several stages that run at once have equal parts."""
    run_us: float
    """Time at which any of its kernels runs."""
    share: float
    """us of the cell's busy time."""
    floor_us: float | None
    """Least time as kernels of its own, at the sourced peaks; null for `other` and for GPUs without listed peaks."""
    floor_share: float | None
    """floor_us over run_us: 1 is as fast as can be."""
    limit: Limit | None
    """What bounds it: the unit that is at 60 % of its peak or more (by counters, else by the floor), else `latency`."""
    limit_from: Literal["counters", "floor"] | None
    """What `limit` rests on."""
    launches: int
    dram_bytes: float | None
    """Measured DRAM traffic."""
    dram_share: float | None
    """DRAM throughput over its peak."""
    tensor_share: float | None
    """Busy cycles of the tensor pipe over elapsed cycles."""
    occupancy: float | None
    """Active warps over the most that fit."""
    local_accesses: float | None
    """Instructions on local memory: spilled registers in use, where it is not 0."""


class CellSection(Part):
    """One (solution, workload)."""

    solution: str
    workload: str
    tier: Literal["nsys", "cupti"]
    """Source of the timeline."""
    busy_us: float
    span_us: float
    gap_share: float
    """Idle share of the span: launch gaps."""
    host_gap_share: float
    """The part of it during which the host had not launched what came next."""
    launches: int
    """Kernels, copies and fills in a call."""
    syncs: int
    """Waits for the GPU inside the call."""
    host_us: float
    """The host's own time to enqueue the call."""
    host_traced: bool
    """Whether that was taken under the tracer, which can double it, for lack of a process without one."""
    bound: Literal["host", "device"]
    """`host` if that exceeds the span, or the GPU waited for launches for more than a tenth of the span."""
    mapped_share: float
    """Share of the busy time in kernels that the solution names."""
    stages: list[StageSection]
    """All seven, in pipeline order."""
    flops: int
    """Least FLOPs of the workload."""
    floor_bytes: int
    """Least bytes of the workload."""
    intensity: float
    """FLOPs per byte of the two."""
    floor_us: float | None
    """The workload's floor at the sourced peaks."""
    floor_share: float | None
    """floor_us over span_us."""
    ceiling_us: float | None
    """The floor at the ceilings measured on this host, and no less than the launches cost; null without ceilings."""
    ceiling_share: float | None
    """ceiling_us over span_us."""
    dram_bytes: float | None
    """Measured DRAM traffic of all kernels; null without counters."""
    dram_over_floor: float | None
    """Measured traffic over the floor's bytes."""
    bandwidth_gbs: float | None
    """Measured traffic over the busy time."""
    bandwidth_share: float | None
    """Of the sourced peak."""
    bandwidth_ceiling_share: float | None
    """Of the measured copy bandwidth."""
    tensor_share: float | None
    """Busy cycles of the tensor pipe over elapsed cycles, mean over all kernels by duration."""
    tflops: float
    """The workload's FLOPs over the busy time, TFLOP/s."""
    tflops_share: float | None = None
    """Of the sourced dense FP8 peak."""
    tflops_ceiling_share: float | None = None
    """Of the FP8 rate measured on this host."""
    counters_missing: str | None
    """Why there are no counters."""
    kernels: list[Kernel]
    """In launch order."""


class Worst(Part):
    """The cell of a solution that is farthest from its floor, with what its sentence needs."""

    solution: str
    workload: str
    floor_share: float
    stage: Stage
    """Its longest stage."""
    stage_share: float
    stage_floor_share: float | None
    limit: Limit | None
    gap_share: float
    launches: int
    dram_over_floor: float | None


class Explanation(Part):
    """A published explanation, tested on this run's profile."""

    id: str
    place: str
    """Section of the published report."""
    text: str
    """The explanation in the report's words."""
    test: str
    """What is compared with what."""
    verdict: Literal["CONFIRMED", "CONTRADICTED", "NOT TESTABLE"]
    numbers: dict[str, float]
    """What the verdict rests on, by name; empty if nothing could be computed."""
    needs: str | None
    """The command or data that would test it; set exactly for NOT TESTABLE."""


class Coverage(Part):
    """How much of a run is profiled."""

    solution: str
    due: int
    profiled: int
    counted: int
    """Cells with counters."""
    mapped_least: float | None
    """Least mapped share over its cells."""
    failures: dict[str, str]
    """Workload: why it could not be profiled."""


class ProfiledWorkload(Part):
    """A workload of the run, as the explanations need it."""

    id: str
    seq_len: int
    local_pairs: int
    """(token, local expert) pairs by its own routing."""


class ProfileSection(Part):
    """The profiles of a run."""

    gpu: str
    backend: Backend
    workloads: list[ProfiledWorkload]
    """In the run's order."""
    stages: list[str]
    """Names in pipeline order."""
    peak_gbs: float | None
    """Sourced DRAM bandwidth, GB/s; null for GPUs that are not listed."""
    peak_tflops: float | None
    """Sourced dense FP8 rate, TFLOP/s."""
    peak_source: str | None
    ceilings: Ceilings | None
    """What simple programs reached on this host."""
    tools: dict[str, str]
    """Tier: version."""
    tiers_missing: dict[str, str]
    """Tier: why this host lacks it."""
    coverage: list[Coverage]
    """One per solution that should be profiled."""
    cells: list[CellSection]
    """By solution, then workload, in the run's order; only profiled ones."""
    worst: list[Worst]
    """One per solution that has a floor."""
    explanations: list[Explanation] = Field(default_factory=list)
