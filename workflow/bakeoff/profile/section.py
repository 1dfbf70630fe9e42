"""Profiles as facts for the analysis: where time goes, what bounds each stage, and how far each is from its floor.

Entry point: `load`, a pure function of a run's profile/*.json and its plan. Times are microseconds, shares are ratios;
null is "there is none", never zero.
"""

from pathlib import Path
from typing import Any

from bakeoff.config import under_root
from bakeoff.core.moe import floors
from bakeoff.core.moe.floors import L2_BYTES, PEAKS, LowerBound, Peak, stage_floors
from bakeoff.core.moe.geometry import Geometry
from bakeoff.profile import due
from bakeoff.profile.stages import DIGITS, STAGES, bound, share
from bakeoff.schema.plan import Participant, Plan, PlannedWorkload
from bakeoff.schema.profile import (
    Ceilings,
    CellProfile,
    Limit,
    ProfileSection,
    StageProfile,
)
from bakeoff.traces.store import TraceRoot

# From this share of a unit's peak on, the unit is what limits a kernel; below it for all units, latency does. The
# border is the one that the Nsight Compute profiling guide uses for its "speed of light" figures.
LIMIT_FROM = 0.60


def load(run: Path, plan: Plan) -> ProfileSection | None:
    """The section of a run without explanations, which are tested in `stats`; None if nothing was profiled."""
    profiles = due.documents(run, plan)
    if not profiles:
        return None
    gpu = next(iter(profiles.values())).gpu
    peak = PEAKS.get(gpu)
    section = ProfileSection(
        gpu=gpu,
        backend=plan.backend,
        stages=list(STAGES),
        peak_gbs=peak.bandwidth / 1e9 if peak else None,
        peak_tflops=peak.fp8 / 1e12 if peak else None,
        peak_source=peak.source if peak else None,
        ceilings=next((one.ceilings for one in profiles.values() if one.ceilings), None),
        tools={name: version for one in profiles.values() for name, version in one.tools.items()},
        tiers_missing={name: why for one in profiles.values() for name, why in one.tiers_missing.items()},
        coverage=due.coverage(plan, profiles),
        cells=[],
    )
    geometry = Geometry.of(TraceRoot(under_root(plan.traces_root)).definition(plan.definition))
    workloads = {workload.id: workload for workload in plan.workloads}
    hosts = {(name, one.workload): one.host_us for name, profile in profiles.items() for one in profile.hosts}
    cells = [
        _with_floors(cell, hosts.get((who.name, cell.workload)), who, workloads[cell.workload], geometry, section)
        for who in due.solutions(plan)
        if who.name in profiles
        for cell in profiles[who.name].cells
        if cell.workload in workloads
    ]
    return section.model_copy(update={"cells": cells})


def _with_floors(
    cell: CellProfile,
    untraced_us: float | None,
    who: Participant,
    workload: PlannedWorkload,
    geometry: Geometry,
    section: ProfileSection,
) -> CellProfile:
    """The cell with the host's time without a tracer, where there is one, beside the least that its workload costs, at
    the sourced peaks and at the rates measured on the host."""
    work, peak, here = (geometry, workload.seq_len, workload.stats), PEAKS.get(section.gpu), section.ceilings
    least = floors.floor(*work)
    host_us = cell.host_us if untraced_us is None else untraced_us
    floor_us, ceiling_us = least.us(peak) if peak else None, _ceiling_us(least, cell.launches, here)
    gbs = None if cell.dram_bytes is None or not cell.busy_us else cell.dram_bytes / cell.busy_us / 1e3
    tflops = least.flops / cell.busy_us / 1e6 if cell.busy_us else 0.0
    found = stage_floors(*work, who.rounding, L2_BYTES[section.backend]) if who.rounding else {}
    return cell.model_copy(
        update={
            "host_us": host_us,
            "host_traced": untraced_us is None,
            "bound": bound(host_us, cell.span_us, cell.host_gap_share),
            "stages": [_stage(one, found.get(one.stage), peak) for one in cell.stages],
            "flops": least.flops,
            "floor_bytes": least.bytes,
            "intensity": round(least.flops / least.bytes, DIGITS),
            "tflops": round(tflops, DIGITS),
            "tflops_share": share(tflops, section.peak_tflops),
            "tflops_ceiling_share": share(tflops, here.fp8_tflops if here else None),
            "floor_us": _round(floor_us),
            "floor_share": share(floor_us, cell.span_us),
            "ceiling_us": _round(ceiling_us),
            "ceiling_share": share(ceiling_us, cell.span_us),
            "dram_over_floor": share(cell.dram_bytes, least.bytes),
            "bandwidth_gbs": _round(gbs),
            "bandwidth_share": share(gbs, section.peak_gbs),
            "bandwidth_ceiling_share": share(gbs, here.copy_gbs if here else None),
        }
    )


def _stage(stage: StageProfile, floor: LowerBound | None, peak: Peak | None) -> StageProfile:
    """The stage beside its floor, and what bounds it: by counters, or without them by the floor."""
    floor_us = floor.us(peak) if floor and peak else None
    floor_share = share(floor_us, stage.run_us)
    limit: dict[str, Any] = {}
    if stage.us and stage.dram_share is not None and stage.tensor_share is not None:
        limit = {"limit": _limit(stage.dram_share, stage.tensor_share), "limit_from": "counters"}
    elif stage.us and floor and peak and floor_share is not None:
        shares = (floor_share, 0.0) if floor.at_memory(peak) else (0.0, floor_share)
        limit = {"limit": _limit(*shares), "limit_from": "floor"}
    return stage.model_copy(update={"floor_us": _round(floor_us), "floor_share": floor_share, **limit})


def _limit(memory: float, tensor: float) -> Limit:
    if max(memory, tensor) < LIMIT_FROM:
        return "latency"
    return "memory" if memory >= tensor else "tensor"


def _ceiling_us(least: LowerBound, launches: int, ceilings: Ceilings | None) -> float | None:
    if ceilings is None:
        return None
    arithmetic = least.flops / ceilings.fp8_tflops / 1e6 if ceilings.fp8_tflops else 0.0
    return max(least.bytes / ceilings.copy_gbs / 1e3, arithmetic, launches * ceilings.launch_us)


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, DIGITS)
