"""Profiles as facts for the analysis: where time goes, what bounds each stage, and how far each is from its floor.

Entry points: `load`, a pure function of a run's profile/*.json and its plan, and `stage_floors`, the least that each
stage can cost as kernels of its own. Times are microseconds, shares are ratios; null is "there is none", never zero.

Unlike the workload's floor, those of stages count what one stage hands to the next, in the format that the solution
declares, but only what the L2 cache cannot hold: a stage may find that much of what it reads there, and leave that much
of what it writes. Inputs and weights come from memory. The zero rows of tokens without a local expert stand in no
stage's floor, because any stage may write them. Counted with `moe.floors`' conventions.
"""

from pathlib import Path
from typing import Any

from bakeoff.config import under_root
from bakeoff.core.moe import floors
from bakeoff.core.moe.floors import PEAKS, LowerBound, Peak, Work
from bakeoff.core.moe.geometry import Geometry
from bakeoff.profile import due
from bakeoff.profile.stages import STAGES, bound, share
from bakeoff.schema.gates import Rounding
from bakeoff.schema.plan import Participant, Plan, PlannedWorkload
from bakeoff.schema.profile import (
    Ceilings,
    CellProfile,
    Limit,
    ProfileSection,
    SolutionProfile,
    StageProfile,
)
from bakeoff.traces.store import TraceRoot

# From this share of a unit's peak on, the unit is what limits a kernel; below it for all units, latency does. The
# border is the one that the Nsight Compute profiling guide uses for its "speed of light" figures.
LIMIT_FROM = 0.60
# Of H100 and H200 (NVIDIA H100 white paper: 50 MB), and of B200 as CUDA reports it (126 MB).
L2_BYTES = {"sm_90a": 50 << 20, "sm_100a": 126 << 20}


def load(run: Path, plan: Plan) -> ProfileSection | None:
    """The section of a run without explanations, which are tested in `stats`; None if nothing was profiled."""
    profiles = due.documents(run, plan)
    if not profiles:
        return None
    geometry = Geometry.of(TraceRoot(under_root(plan.traces_root)).definition(plan.definition))
    gpu = next(iter(profiles.values())).gpu
    peak, l2 = PEAKS.get(gpu), L2_BYTES[plan.backend]
    ceilings = next((one.ceilings for one in profiles.values() if one.ceilings), None)
    workloads = {workload.id: workload for workload in plan.workloads}
    cells = [
        _with_floors(_with_host(cell, profiles[who.name]), who, workloads[cell.workload], geometry, l2, peak, ceilings)
        for who in due.solutions(plan)
        if who.name in profiles
        for cell in profiles[who.name].cells
        if cell.workload in workloads
    ]
    return ProfileSection(
        gpu=gpu,
        backend=plan.backend,
        stages=list(STAGES),
        peak_gbs=peak.bandwidth / 1e9 if peak else None,
        peak_tflops=peak.fp8 / 1e12 if peak else None,
        peak_source=peak.source if peak else None,
        ceilings=ceilings,
        tools={name: version for one in profiles.values() for name, version in one.tools.items()},
        tiers_missing={name: why for one in profiles.values() for name, why in one.tiers_missing.items()},
        coverage=due.coverage(plan, profiles),
        cells=cells,
    )


def _with_host(cell: CellProfile, profile: SolutionProfile) -> CellProfile:
    """The cell with the host's time without a tracer, where there is one, and what that makes it bound by."""
    host = next((one.host_us for one in profile.hosts if one.workload == cell.workload), None)
    host_us = cell.host_us if host is None else host
    at = bound(host_us, cell.span_us, cell.host_gap_share)
    return cell.model_copy(update={"host_us": host_us, "host_traced": host is None, "bound": at})


def _with_floors(
    cell: CellProfile,
    who: Participant,
    workload: PlannedWorkload,
    geometry: Geometry,
    l2_bytes: int,
    peak: Peak | None,
    ceilings: Ceilings | None,
) -> CellProfile:
    """The cell beside the least that its workload costs, at the sourced peaks and at the rates measured on the host."""
    least = floors.floor(geometry, workload.seq_len, workload.stats)
    floor_us, ceiling_us = least.us(peak) if peak else None, _ceiling_us(least, cell.launches, ceilings)
    gbs = None if cell.dram_bytes is None or not cell.busy_us else cell.dram_bytes / cell.busy_us / 1e3
    tflops = least.flops / cell.busy_us / 1e6 if cell.busy_us else 0.0
    found = stage_floors(geometry, workload.seq_len, workload.stats, who.rounding, l2_bytes) if who.rounding else {}
    return cell.model_copy(
        update={
            "stages": [_stage(cell, one, found.get(one.stage), peak) for one in cell.stages],
            "flops": least.flops,
            "floor_bytes": least.bytes,
            "intensity": round(least.flops / least.bytes, 4),
            "tflops": round(tflops, 4),
            "tflops_share": share(tflops, peak.fp8 / 1e12) if peak else None,
            "tflops_ceiling_share": share(tflops, ceilings.fp8_tflops) if ceilings else None,
            "floor_us": _round(floor_us),
            "floor_share": share(floor_us, cell.span_us),
            "ceiling_us": _round(ceiling_us),
            "ceiling_share": share(ceiling_us, cell.span_us),
            "dram_over_floor": share(cell.dram_bytes, least.bytes),
            "bandwidth_gbs": _round(gbs),
            "bandwidth_share": share(gbs, peak.bandwidth / 1e9) if peak else None,
            "bandwidth_ceiling_share": share(gbs, ceilings.copy_gbs) if ceilings else None,
        }
    )


def _stage(cell: CellProfile, stage: StageProfile, floor: LowerBound | None, peak: Peak | None) -> StageProfile:
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
    return None if value is None else round(value, 4)


def stage_floors(
    geometry: Geometry, seq_len: int, stats: Work, rounding: Rounding, l2_bytes: int
) -> dict[str, LowerBound]:
    """Floors of the six named stages; `other` has none."""
    g, pairs, experts = geometry, stats.local_pairs, stats.active_experts
    hidden, inner = pairs * g.hidden, pairs * g.intermediate

    def moved(elements: float, cast: str) -> float:
        """Bytes of a tensor between a stage and memory: those that the cache cannot hold."""
        return max(0.0, elements * _element_bytes(cast, g.block) - l2_bytes)

    rows = moved(hidden, "fp8_block128")
    w1, w2 = 2 * g.intermediate * g.hidden, g.hidden * g.intermediate
    scale_bytes = 4 / g.block**2  # one float32 for a block of 128 x 128 weights
    first, *further = (moved(2 * inner, cast) for cast in rounding.gemm1_output)
    middle = moved(inner, rounding.intermediate[-1])
    last = moved(hidden, rounding.gemm2_output[-1])
    summed = moved(stats.active_tokens * g.hidden, "bfloat16")
    return {
        "routing": LowerBound(seq_len * g.experts * 4 + g.experts * 2, 0),
        "permute": LowerBound(stats.active_tokens * (g.hidden + 4 * g.hidden_blocks) + rows, 0),
        "gemm1": LowerBound(rows + experts * w1 * (1 + scale_bytes) + first, 2 * pairs * w1),
        "activation_quant": LowerBound(first + sum(2 * size for size in further) + middle, 0),
        "gemm2": LowerBound(middle + experts * w2 * (1 + scale_bytes) + last, 2 * pairs * w2),
        "combine": LowerBound(last + summed, 0),
    }


def _element_bytes(cast: str, block: int) -> float:
    return {"float32": 4.0, "bfloat16": 2.0, "fp8_block128": 1 + 4 / block}[cast]
