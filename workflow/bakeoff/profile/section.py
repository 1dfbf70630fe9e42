"""Profiles as facts for the analysis: where time goes, what bounds each stage, and how far each is from its floor.

Entry point: `load`, a pure function of a run's profile/*.json and its plan. Times are microseconds, shares are ratios; null is
"there is none", never zero. The wording is the report's.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field

from bakeoff.build.spec import Backend, Stage
from bakeoff.config import under_root
from bakeoff.files import read_json
from bakeoff.moe import floors
from bakeoff.moe.floors import PEAKS, Peak
from bakeoff.moe.geometry import Geometry
from bakeoff.plan import Participant, Plan, PlannedWorkload
from bakeoff.profile.stage_floors import L2_BYTES, StageFloor, stage_floors
from bakeoff.profile.stages import STAGES
from bakeoff.profile.summary import Ceilings, CellProfile, Kernel, Part, SolutionProfile
from bakeoff.traces.store import TraceRoot

# From this share of a unit's peak on, the unit is what limits a kernel; below it for all units, latency does. The border is the one
# that the Nsight Compute profiling guide uses for its "speed of light" figures.
LIMIT_FROM = 0.60
Limit = Literal["memory", "tensor", "latency"]


class StageSection(Part):
    """One stage of one cell."""

    stage: Stage
    us: float
    """Busy time."""
    share: float
    """Of the cell's busy time."""
    floor_us: float | None
    """Least time as kernels of its own, at the sourced peaks; null for `other` and for GPUs without listed peaks."""
    floor_share: float | None
    """floor_us over us: 1 is as fast as can be."""
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
    """The host's own time to enqueue the call, under the tracer."""
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


def load(run: Path, plan: Plan) -> ProfileSection | None:
    """The section of a run, its explanations tested without speedups; None if nothing was profiled."""
    profiles = {}
    for who in plan.participants:
        path = run / "profile" / f"{who.name}.json"
        if path.is_file():
            profiles[who.name] = read_json(path, SolutionProfile)
    if not profiles:
        return None
    return explained(_section(plan, profiles), {})


def explained(section: ProfileSection, speedups: Mapping[tuple[str, str], float]) -> ProfileSection:
    """The section with the explanations tested; speedups: (solution, workload) -> over the reference, for those that rest on them."""
    from bakeoff.profile.explanations import judge_explanations

    return section.model_copy(update={"explanations": judge_explanations(section, speedups)})


def _section(plan: Plan, profiles: dict[str, SolutionProfile]) -> ProfileSection:
    geometry = Geometry.of(TraceRoot(under_root(plan.traces_root)).definition(plan.definition))
    first = next(iter(profiles.values()))
    peak = PEAKS.get(first.gpu)
    ceilings = next((one.ceilings for one in profiles.values() if one.ceilings), None)
    workloads = {workload.id: workload for workload in plan.workloads}
    cells = [
        _cell(cell, who, workloads[cell.workload], geometry, plan.backend, peak, ceilings)
        for who in plan.participants if who.name in profiles
        for cell in profiles[who.name].cells if cell.workload in workloads
    ]  # fmt: skip
    return ProfileSection(
        gpu=first.gpu, backend=plan.backend,
        workloads=[ProfiledWorkload(id=one.id, seq_len=one.seq_len, local_pairs=one.stats.local_pairs) for one in plan.workloads],
        stages=list(STAGES), peak_gbs=peak.bandwidth / 1e9 if peak else None, peak_tflops=peak.fp8 / 1e12 if peak else None,
        peak_source=peak.source if peak else None, ceilings=ceilings,
        tools={name: version for one in profiles.values() for name, version in one.tools.items()},
        tiers_missing={name: why for one in profiles.values() for name, why in one.tiers_missing.items()},
        coverage=_coverage(plan, profiles), cells=cells, worst=_worst(cells),
    )  # fmt: skip


def _cell(cell: CellProfile, who: Participant, workload: PlannedWorkload, geometry: Geometry, backend: str, peak: Peak | None,
          ceilings: Ceilings | None) -> CellSection:  # fmt: skip
    least = floors.floor(geometry, workload.seq_len, workload.stats)
    floor_us = floors.floor_us(least, peak) if peak else None
    ceiling_us = _ceiling_us(least, cell.launches, ceilings)
    total = cell.counters.total if cell.counters else None
    dram = total.dram_bytes if total else None
    rate = None if dram is None or not cell.busy_us else dram / cell.busy_us / 1e3
    stage_floor = (
        stage_floors(geometry, workload.seq_len, workload.stats, who.rounding, L2_BYTES[backend])
        if who.rounding
        else {}
    )
    return CellSection(
        solution=who.name, workload=cell.workload, tier=cell.tier, busy_us=cell.busy_us, span_us=cell.span_us,
        gap_share=_ratio(cell.gap_us, cell.span_us) or 0.0, host_gap_share=_ratio(cell.host_gap_us, cell.span_us) or 0.0,
        launches=cell.launches, syncs=cell.syncs,
        host_us=cell.host_us, bound=cell.bound, mapped_share=cell.mapped_share,
        stages=[_stage(cell, stage, stage_floor.get(stage), peak) for stage in STAGES],
        flops=least.flops, floor_bytes=least.bytes, intensity=round(least.flops / least.bytes, 4),
        floor_us=_round(floor_us), floor_share=_ratio(floor_us, cell.span_us),
        ceiling_us=_round(ceiling_us), ceiling_share=_ratio(ceiling_us, cell.span_us),
        dram_bytes=dram, dram_over_floor=_ratio(dram, least.bytes), bandwidth_gbs=_round(rate),
        bandwidth_share=_ratio(rate, peak.bandwidth / 1e9) if peak else None,
        bandwidth_ceiling_share=_ratio(rate, ceilings.copy_gbs) if ceilings else None,
        tensor_share=total.tensor_share if total else None, tflops=round(least.flops / cell.busy_us / 1e6, 4) if cell.busy_us else 0.0,
        counters_missing=cell.counters_missing, kernels=cell.kernels,
    )  # fmt: skip


def _stage(cell: CellProfile, stage: Stage, floor: StageFloor | None, peak: Peak | None) -> StageSection:
    us = cell.stages_us[stage]
    counted = cell.counters.stages.get(stage) if cell.counters else None
    floor_us = floor.us(peak) if floor and peak else None
    floor_share = _ratio(floor_us, us)
    limit: Limit | None = None
    limit_from: Literal["counters", "floor"] | None = None
    if us and counted and counted.dram_share is not None and counted.tensor_share is not None:
        limit_from = "counters"
        limit = _limit(counted.dram_share, counted.tensor_share)
    elif us and floor and peak and floor_share is not None:
        limit_from = "floor"
        at_memory = floor.limit(peak) == "memory"
        limit = _limit(floor_share if at_memory else 0.0, 0.0 if at_memory else floor_share)
    return StageSection(
        stage=stage, us=us, share=_ratio(us, cell.busy_us) or 0.0, floor_us=_round(floor_us), floor_share=floor_share, limit=limit,
        limit_from=limit_from, launches=sum(kernel.launches for kernel in cell.kernels if kernel.stage == stage),
        dram_bytes=counted.dram_bytes if counted else None, dram_share=counted.dram_share if counted else None,
        tensor_share=counted.tensor_share if counted else None, occupancy=counted.occupancy if counted else None,
    )  # fmt: skip


def _limit(memory: float, tensor: float) -> Limit:
    if max(memory, tensor) < LIMIT_FROM:
        return "latency"
    return "memory" if memory >= tensor else "tensor"


def _ceiling_us(least: floors.Floor, launches: int, ceilings: Ceilings | None) -> float | None:
    if ceilings is None:
        return None
    arithmetic = least.flops / ceilings.fp8_tflops / 1e6 if ceilings.fp8_tflops else 0.0
    return max(least.bytes / ceilings.copy_gbs / 1e3, arithmetic, launches * ceilings.launch_us)


def _coverage(plan: Plan, profiles: dict[str, SolutionProfile]) -> list[Coverage]:
    due = [
        workload.id for workload in plan.workloads if plan.profile.cells == "all" or workload.id in plan.profile.cells
    ]
    found = []
    for who in plan.participants:
        if who.role == "reference" or not who.supported:
            continue
        profile = profiles.get(who.name)
        cells = profile.cells if profile else []
        found.append(Coverage(
            solution=who.name, due=len(due), profiled=len({cell.workload for cell in cells} & set(due)),
            counted=sum(cell.counters is not None for cell in cells),
            mapped_least=min((cell.mapped_share for cell in cells), default=None),
            failures={failure.workload: failure.reason.splitlines()[-1] for failure in profile.failures} if profile else {},
        ))  # fmt: skip
    return found


def _worst(cells: list[CellSection]) -> list[Worst]:
    """Per solution the cell with the least floor share; the first in the run's order if several."""
    worst: dict[str, CellSection] = {}
    for cell in cells:
        if cell.floor_share is None:
            continue
        before = worst.get(cell.solution)
        if before is None or before.floor_share is None or cell.floor_share < before.floor_share:
            worst[cell.solution] = cell
    return [_worst_facts(cell) for cell in worst.values()]


def _worst_facts(cell: CellSection) -> Worst:
    longest = max(cell.stages, key=lambda stage: stage.us)
    return Worst(
        solution=cell.solution, workload=cell.workload, floor_share=cell.floor_share or 0.0, stage=longest.stage,
        stage_share=longest.share, stage_floor_share=longest.floor_share, limit=longest.limit, gap_share=cell.gap_share,
        launches=cell.launches, dram_over_floor=cell.dram_over_floor,
    )  # fmt: skip


def _ratio(part: float | None, whole: float | None) -> float | None:
    return None if part is None or not whole else round(part / whole, 6)


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
