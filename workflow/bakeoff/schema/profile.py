"""Profiles: profile/<solution>.json, what a run keeps of its captures, and their section in analysis.json.

A cell has one form: captures give its measured fields, and the analysis sets the ones that compare it with its floor.
Times are microseconds on the GPU's clock under a profiler: they say where time goes, and are never compared as
latencies. Shares are ratios; null is "there is none", never zero.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from bakeoff.schema.analysis_outside import ClaimResult
from bakeoff.schema.base import Part
from bakeoff.schema.solution import Backend, Stage

NOT_COUNTED = "no counters were captured"

Share = Annotated[float, Field(ge=0)]
Limit = Literal["memory", "tensor", "latency"]


@dataclass(frozen=True)
class KernelProfile:
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

    dram_bytes: float | None = None
    """Bytes read from and written to DRAM."""
    dram_share: Share | None = None
    """DRAM throughput over its peak, mean weighted by duration."""
    tensor_share: Share | None = None
    """Busy cycles of the tensor pipe over elapsed cycles, mean weighted by duration."""
    occupancy: Share | None = None
    """Active warps over the most that fit, while an SM is active; mean weighted by duration."""
    local_accesses: float | None = None
    """Instructions that load from or store to local memory: spilled registers and stacks in use, where it is not 0."""


class StageProfile(Counters):
    """One stage of one cell."""

    stage: Stage
    us: float
    """Busy time, in which kernels of several stages that run at once have equal parts."""
    run_us: float
    """Time at which any of its kernels runs; more than its busy time where other stages run beside it."""
    share: float
    """us of the cell's busy time."""
    launches: int
    floor_us: float | None = None
    """Least time as kernels of its own, at the sourced peaks; null for `other` and for GPUs without listed peaks."""
    floor_share: float | None = None
    """floor_us over run_us: 1 is as fast as can be."""
    limit: Limit | None = None
    """What bounds it: the unit that is at 60 % of its peak or more (by counters, else by the floor), else `latency`."""
    limit_from: Literal["counters", "floor"] | None = None
    """What `limit` rests on."""


class CellProfile(Counters):
    """One (solution, workload), profiled. Counters are those of all kernels of a call."""

    solution: str
    workload: str
    key: str = ""
    """Digest of what the profile depends on; equal keys are not profiled again."""
    tier: Literal["nsys", "cupti"]
    """Source of the timeline."""
    calls: int = 0
    """Marked calls; the figures are of the one with the median busy time."""
    busy_us: float
    """Time at which the GPU did anything for the call."""
    span_us: float
    """From the start of its first GPU work to the end of its last."""
    gap_share: float
    """Idle share of the span: launch gaps."""
    host_gap_share: float
    """The part of it during which the host had not launched what came next."""
    launches: int
    """Kernels, copies and fills in a call."""
    syncs: int
    """Host calls that wait for the GPU, within the call."""
    host_us: float
    """The host's own time to enqueue the call, without API calls that may wait for the GPU."""
    host_traced: bool = True
    """Whether that was taken under the tracer, which can double it, for lack of a process without one."""
    mapped_share: Share
    """Share of the busy time in kernels that the solution's stage table names."""
    unmapped: list[str] = Field(default_factory=list)
    """Names of the others."""
    stages: list[StageProfile]
    """All seven, in pipeline order; their busy times sum to `busy_us`."""
    kernels: list[KernelProfile]
    """In the order of their first launch."""
    counters_missing: str | None = NOT_COUNTED
    """Why there are no counters; null if there are."""
    bound: Literal["host", "device"] = "device"
    """`host` if the host's time exceeds the span, or the GPU waited for launches for more than a tenth of the span.
    This and what follows is set by the analysis."""
    flops: int = 0
    """Least FLOPs of the workload."""
    floor_bytes: int = 0
    """Least bytes of the workload."""
    intensity: float = 0.0
    """FLOPs per byte of the two."""
    tflops: float = 0.0
    """The workload's FLOPs over the busy time, TFLOP/s."""
    tflops_share: float | None = None
    """Of the sourced dense FP8 peak."""
    tflops_ceiling_share: float | None = None
    """Of the FP8 rate measured on this host."""
    floor_us: float | None = None
    """The workload's floor at the sourced peaks."""
    floor_share: float | None = None
    """floor_us over span_us."""
    ceiling_us: float | None = None
    """The floor at the ceilings measured on this host, and no less than the launches cost; null without ceilings."""
    ceiling_share: float | None = None
    """ceiling_us over span_us."""
    dram_over_floor: float | None = None
    """Measured traffic over the floor's bytes."""
    bandwidth_gbs: float | None = None
    """Measured traffic over the busy time."""
    bandwidth_share: float | None = None
    """Of the sourced peak."""
    bandwidth_ceiling_share: float | None = None
    """Of the measured copy bandwidth."""

    @property
    def counted(self) -> bool:
        """Whether it has counters."""
        return self.counters_missing is None

    @property
    def kernel_launches(self) -> int:
        """Launches that are kernels: not copies and fills by the memory engines, whose names stand in brackets."""
        return sum(kernel.launches for kernel in self.kernels if not kernel.name.startswith("["))

    @property
    def longest(self) -> StageProfile:
        """The stage with the most busy time."""
        return max(self.stages, key=lambda stage: stage.us)

    @property
    def span_tflops(self) -> float:
        """The workload's FLOPs over the span, TFLOP/s."""
        return self.flops / self.span_us / 1e6


@dataclass(frozen=True)
class HostTime:
    """How long the host takes to enqueue a workload's call, in a process without a profiler."""

    workload: str
    key: str
    """As a cell's."""
    calls: int
    host_us: float
    """Median over the calls, from a call's start to its return, with the GPU idle before; waits for the GPU within it
    count."""


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

    schema_: Literal["bakeoff/profile/2"] = Field("bakeoff/profile/2", alias="schema")
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
    failures: dict[str, str]
    """Workload that could not be profiled: why."""
    hosts: list[HostTime] = Field(default_factory=list)
    """Host times without a profiler, in the run's order; a cell without one has its tracer's."""


@dataclass(frozen=True)
class Coverage:
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


class ProfileSection(Part):
    """The profiles of a run."""

    gpu: str
    backend: Backend
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
    cells: list[CellProfile]
    """By solution, then workload, in the run's order; only profiled ones."""
    explanations: list[ClaimResult] = Field(default_factory=list)
    """Those of the published report, in its order."""

    @property
    def farthest(self) -> list[CellProfile]:
        """Of each solution that has a floor the cell that is farthest from it; the first in the run's order if
        several."""
        own: dict[str, list[CellProfile]] = {}
        for cell in self.cells:
            if cell.floor_share is not None:
                own.setdefault(cell.solution, []).append(cell)
        return [min(cells, key=lambda cell: cell.floor_share or 0.0) for cells in own.values()]
