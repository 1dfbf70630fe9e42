"""profile/<solution>.json: what a run keeps of its captures.

Entry points: `SolutionProfile` (the document), `cell_profile`, `with_counters`, `host_time` (from parsed captures).
Pure functions. All times are microseconds on the GPU's clock under a profiler: they say where time goes, and are never
compared as latencies.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Literal

from bakeoff.profile import counters, stages
from bakeoff.profile.counters import Counted, Totals
from bakeoff.profile.stages import Breakdown, Rule
from bakeoff.profile.timeline import Call
from bakeoff.schema.profile import (
    CellCounters,
    CellProfile,
    Counters,
    HostTime,
    Kernel,
)
from bakeoff.schema.solution import Stage

DIGITS = 4  # of a microsecond: timelines are in nanoseconds


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
