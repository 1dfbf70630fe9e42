"""The shape of a run's profiles in analysis.json: facts without wording.

Times are microseconds, shares are ratios; null is "there is none", never zero. `section.load` makes the document.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from bakeoff.build.spec import Backend, Stage
from bakeoff.profile.summary import Ceilings, Kernel, Part

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
