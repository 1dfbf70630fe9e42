"""`bakeoff explain`: a solution's profile as text for a kernel developer.

Entry point: `explain_solution`. It words `section.load`'s facts and computes nothing of its own.
"""

from collections.abc import Sequence
from pathlib import Path

from bakeoff.build.names import workload_id
from bakeoff.errors import InputError
from bakeoff.files import PROJECT_ROOT
from bakeoff.planned import read_plan
from bakeoff.profile import due
from bakeoff.profile.section import load
from bakeoff.schema.plan import Participant
from bakeoff.schema.profile import CellProfile, ProfileSection
from bakeoff.tables import shared, text
from bakeoff.tables.table import Table, frame

STAGES = (
    *("stage", "us", "share", "run_us", "floor_us", "floor_share", "limit"),
    *("dram_share", "tensor_share", "occupancy", "launches"),
)
CEILINGS = ("rate", "peak", "measured", "unit")
KERNELS = ("us", "launches", "grid", "block", "registers", "shared_bytes", "local_bytes", "kernel")
RECORDED = "results/recorded"


def explain_solution(solution: str, folder: Path | None, workloads: Sequence[str] | None, as_json: bool = False) -> str:
    """The text, or JSON with a cell per line; a run without that solution's profile is an InputError."""
    run = (folder or newest_recorded(solution)).resolve()
    plan = read_plan(run)
    found, section = due.solutions(plan, [solution]), load(run, plan)
    solution = found[0].name if found else solution
    cells = [cell for cell in section.cells if cell.solution == solution] if section else []
    if section is None or not cells:
        raise InputError(
            f"profile of {solution} in {run}",
            found="none",
            expected="profile/<solution>.json with at least one cell",
            hint=f"bakeoff profile {run} --solution {solution}",
        )
    wanted = {workload_id(name, [cell.workload for cell in cells]) for name in workloads or ()}
    shown = [cell for cell in cells if not wanted or cell.workload in wanted]
    if as_json:
        return "\n".join(cell.model_dump_json() for cell in shown)
    return "\n".join(
        [
            *_head(found[0], section, run.name),
            *(line for cell in shown for line in [*_cell(cell), *(_kernels(cell) if workloads else [])]),
            *_tail(section, solution),
        ]
    )


def newest_recorded(solution: str) -> Path:
    """The recorded run whose name sorts last (names start with the date) of those with a profile of the solution, by
    its name or label; of those with any profile where none has."""
    plans = sorted((PROJECT_ROOT / RECORDED).glob("*/config.json"), reverse=True)
    found = {path.parent: names for path in plans if (names := _profiled(path))}
    if not found:
        raise InputError(
            RECORDED, "no recorded run with a profile", "a run with profile/", "name a run folder with --run"
        )
    return next((run for run, names in found.items() if solution in names), next(iter(found)))


def _profiled(plan: Path) -> set[str]:
    """Names and labels of the solutions that a run has profiles of."""
    there = {path.stem for path in (plan.parent / "profile").glob("*.json")}
    people = read_plan(plan.parent).participants if there else []
    return {name for who in people if who.name in there for name in (who.name, who.label)}


def _head(who: Participant, section: ProfileSection, run: str) -> list[str]:
    """What ran where, and what the GPU can give."""
    rates = Table("ceilings", frame(shared.ceiling_rows(section)), shared.ceilings())
    return [
        f"{who.name} on {section.gpu}, run {run}",
        *([f"design: {who.design}"] if who.design else []),
        *text.lines(rates, CEILINGS),
        *(f"missing tier {name}: {why}" for name, why in section.tiers_missing.items()),
    ]


def _cell(cell: CellProfile) -> list[str]:
    gaps = f"gaps {cell.gap_share:.0%} of the span ({cell.host_gap_share:.0%} waiting for the host)"
    traced = " under the tracer" if cell.host_traced else ""
    host = f"{cell.bound}-bound: the host needs {cell.host_us:.0f} µs{traced}"
    spills = [f"{one.stage} {one.local_accesses:,.0f}" for one in cell.stages if one.local_accesses]
    return [
        "",
        f"{cell.workload}: busy {cell.busy_us:.1f} µs of {cell.span_us:.1f} µs, {gaps}, {cell.launches} launches, "
        f"{host}",
        f"  {_distance(cell)}",
        f"  {_rates(cell)}",
        *text.lines(Table("stages", frame(shared.stage_rows([cell])), shared.stages()), STAGES),
        *([f"  instructions on local memory (spills, stacks): {', '.join(spills)}"] if spills else []),
    ]


def _kernels(cell: CellProfile) -> list[str]:
    """One line per kernel: what it takes, and its launch."""
    return ["", *text.lines(Table("kernels", frame(shared.kernel_rows([cell])), shared.kernels()), KERNELS)]


def _distance(cell: CellProfile) -> str:
    parts = []
    if cell.floor_us is not None and cell.floor_share is not None:
        parts.append(f"floor {cell.floor_us:.1f} µs, so at {cell.floor_share:.0%} of the sourced peaks")
    if cell.ceiling_us is not None and cell.ceiling_share is not None:
        parts.append(f"{cell.ceiling_share:.0%} of what this host reaches ({cell.ceiling_us:.1f} µs)")
    return "; ".join(parts) or "no floor: this GPU's peaks are not listed"


def _rates(cell: CellProfile) -> str:
    """What the call moved and multiplied while it was busy, of the sourced peak and of what this host reaches."""

    def of(peak: float | None, host: float | None) -> str:
        shares = [
            f"{share:.0%} {what}" for share, what in ((peak, "of peak"), (host, "of the host's")) if share is not None
        ]
        return f" ({', '.join(shares)})" if shares else ""

    flops = f"{cell.tflops:,.0f} TFLOP/s{of(cell.tflops_share, cell.tflops_ceiling_share)}"
    if cell.dram_over_floor is None or cell.bandwidth_gbs is None:
        return flops + (f"; no counters: {cell.counters_missing}" if cell.counters_missing else "")
    moved = f"{cell.bandwidth_gbs:,.0f} GB/s{of(cell.bandwidth_share, cell.bandwidth_ceiling_share)}"
    tensor = "" if cell.tensor_share is None else f", tensor pipe busy {cell.tensor_share:.0%}"
    return f"moved {cell.dram_over_floor:.2f} times the floor's bytes at {moved}; {flops}{tensor}"


def _tail(section: ProfileSection, solution: str) -> list[str]:
    worst = next((one for one in section.farthest if one.solution == solution), None)
    if worst is None or worst.floor_share is None:
        return []
    stage = worst.longest
    own = "" if stage.floor_share is None else f" at {stage.floor_share:.0%} of its own floor"
    bound = f", bound by {stage.limit}" if stage.limit else ""
    return [
        "",
        f"Farthest from its floor: {worst.workload}, at {worst.floor_share:.0%} of it; {stage.stage} takes "
        f"{stage.share:.0%} of the busy time{own}{bound}, and {worst.gap_share:.0%} of the span is gaps.",
    ]
