"""Profiles as facts for the analysis: where time goes, what bounds each stage, and how far each is from its floor.

Entry point: `load`, a pure function of a run's profile/*.json and its plan. Times are microseconds, shares are ratios;
null is "there is none", never zero. The wording is the report's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from bakeoff.config import under_root
from bakeoff.core.moe import floors
from bakeoff.core.moe.floors import PEAKS, Peak
from bakeoff.core.moe.geometry import Geometry
from bakeoff.files import read_json
from bakeoff.profile.stage_floors import L2_BYTES, StageFloor, stage_floors
from bakeoff.profile.stages import STAGES, bound
from bakeoff.schema.plan import Participant, Plan, PlannedWorkload
from bakeoff.schema.profile import (
    Ceilings,
    CellProfile,
    CellSection,
    Coverage,
    HostTime,
    Limit,
    ProfiledWorkload,
    ProfileSection,
    SolutionProfile,
    StageSection,
    Worst,
)
from bakeoff.schema.solution import Stage
from bakeoff.traces.store import TraceRoot

# From this share of a unit's peak on, the unit is what limits a kernel; below it for all units, latency does. The
# border is the one that the Nsight Compute profiling guide uses for its "speed of light" figures.
LIMIT_FROM = 0.60


def load(run: Path, plan: Plan) -> ProfileSection | None:
    """The section of a run without explanations, which are tested in `stats`; None if nothing was profiled."""
    profiles = {}
    for who in plan.participants:
        path = run / "profile" / f"{who.name}.json"
        if path.is_file():
            profiles[who.name] = read_json(path, SolutionProfile)
    if not profiles:
        return None
    return _section(plan, profiles)


def _section(plan: Plan, profiles: dict[str, SolutionProfile]) -> ProfileSection:
    geometry = Geometry.of(TraceRoot(under_root(plan.traces_root)).definition(plan.definition))
    first = next(iter(profiles.values()))
    peak = PEAKS.get(first.gpu)
    ceilings = next((one.ceilings for one in profiles.values() if one.ceilings), None)
    workloads = {workload.id: workload for workload in plan.workloads}
    hosts = {name: {one.workload: one for one in profile.hosts} for name, profile in profiles.items()}
    cells = [
        _cell(
            cell,
            hosts[who.name].get(cell.workload),
            who,
            workloads[cell.workload],
            geometry,
            plan.backend,
            peak,
            ceilings,
        )
        for who in plan.participants
        if who.name in profiles
        for cell in profiles[who.name].cells
        if cell.workload in workloads
    ]
    return ProfileSection(
        gpu=first.gpu,
        backend=plan.backend,
        workloads=[
            ProfiledWorkload(id=one.id, seq_len=one.seq_len, local_pairs=one.stats.local_pairs)
            for one in plan.workloads
        ],
        stages=list(STAGES),
        peak_gbs=peak.bandwidth / 1e9 if peak else None,
        peak_tflops=peak.fp8 / 1e12 if peak else None,
        peak_source=peak.source if peak else None,
        ceilings=ceilings,
        tools={name: version for one in profiles.values() for name, version in one.tools.items()},
        tiers_missing={name: why for one in profiles.values() for name, why in one.tiers_missing.items()},
        coverage=_coverage(plan, profiles),
        cells=cells,
        worst=_worst(cells),
    )


def _cell(
    cell: CellProfile,
    host: HostTime | None,
    who: Participant,
    workload: PlannedWorkload,
    geometry: Geometry,
    backend: str,
    peak: Peak | None,
    ceilings: Ceilings | None,
) -> CellSection:
    least = floors.floor(geometry, workload.seq_len, workload.stats)
    floor_us = floors.floor_us(least, peak) if peak else None
    ceiling_us = _ceiling_us(least, cell.launches, ceilings)
    host_us = host.host_us if host else cell.host_us
    total = cell.counters.total if cell.counters else None
    dram = total.dram_bytes if total else None
    rate = None if dram is None or not cell.busy_us else dram / cell.busy_us / 1e3
    tflops = least.flops / cell.busy_us / 1e6 if cell.busy_us else 0.0
    stage_floor = (
        stage_floors(geometry, workload.seq_len, workload.stats, who.rounding, L2_BYTES[backend])
        if who.rounding
        else {}
    )
    return CellSection(
        solution=who.name,
        workload=cell.workload,
        tier=cell.tier,
        busy_us=cell.busy_us,
        span_us=cell.span_us,
        gap_share=_ratio(cell.gap_us, cell.span_us) or 0.0,
        host_gap_share=_ratio(cell.host_gap_us, cell.span_us) or 0.0,
        launches=cell.launches,
        syncs=cell.syncs,
        host_us=host_us,
        host_traced=host is None,
        bound=bound(host_us, cell.span_us, cell.host_gap_us),
        mapped_share=cell.mapped_share,
        stages=[_stage(cell, stage, stage_floor.get(stage), peak) for stage in STAGES],
        flops=least.flops,
        floor_bytes=least.bytes,
        intensity=round(least.flops / least.bytes, 4),
        floor_us=_round(floor_us),
        floor_share=_ratio(floor_us, cell.span_us),
        ceiling_us=_round(ceiling_us),
        ceiling_share=_ratio(ceiling_us, cell.span_us),
        dram_bytes=dram,
        dram_over_floor=_ratio(dram, least.bytes),
        bandwidth_gbs=_round(rate),
        bandwidth_share=_ratio(rate, peak.bandwidth / 1e9) if peak else None,
        bandwidth_ceiling_share=_ratio(rate, ceilings.copy_gbs) if ceilings else None,
        tensor_share=total.tensor_share if total else None,
        tflops=round(tflops, 4),
        tflops_share=_ratio(tflops, peak.fp8 / 1e12) if peak else None,
        tflops_ceiling_share=_ratio(tflops, ceilings.fp8_tflops) if ceilings else None,
        counters_missing=cell.counters_missing,
        kernels=cell.kernels,
    )


def _stage(cell: CellProfile, stage: Stage, floor: StageFloor | None, peak: Peak | None) -> StageSection:
    us, run_us = cell.stages_us[stage], cell.stages_run_us[stage]
    counted = cell.counters.stages.get(stage) if cell.counters else None
    floor_us = floor.us(peak) if floor and peak else None
    floor_share = _ratio(floor_us, run_us)
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
        stage=stage,
        us=us,
        run_us=run_us,
        share=_ratio(us, cell.busy_us) or 0.0,
        floor_us=_round(floor_us),
        floor_share=floor_share,
        limit=limit,
        limit_from=limit_from,
        launches=sum(kernel.launches for kernel in cell.kernels if kernel.stage == stage),
        dram_bytes=counted.dram_bytes if counted else None,
        dram_share=counted.dram_share if counted else None,
        tensor_share=counted.tensor_share if counted else None,
        occupancy=counted.occupancy if counted else None,
        local_accesses=counted.local_accesses if counted else None,
    )


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
        if who.role == "reference" or not who.supported or who.twin_of is not None:
            continue
        profile = profiles.get(who.name)
        cells = profile.cells if profile else []
        found.append(
            Coverage(
                solution=who.name,
                due=len(due),
                profiled=len({cell.workload for cell in cells} & set(due)),
                counted=sum(cell.counters is not None for cell in cells),
                mapped_least=min((cell.mapped_share for cell in cells), default=None),
                failures={failure.workload: failure.reason.splitlines()[-1] for failure in profile.failures}
                if profile
                else {},
            )
        )
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
        solution=cell.solution,
        workload=cell.workload,
        floor_share=cell.floor_share or 0.0,
        stage=longest.stage,
        stage_share=longest.share,
        stage_floor_share=longest.floor_share,
        limit=longest.limit,
        gap_share=cell.gap_share,
        launches=cell.launches,
        dram_over_floor=cell.dram_over_floor,
    )


def _ratio(part: float | None, whole: float | None) -> float | None:
    return None if part is None or not whole else round(part / whole, 6)


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
