"""Whether a run's profile is there and can be believed: what `bakeoff verify` asks.

Entry points: `check` and `describe`, pure functions of the run's folder; `check_profile` judges one document. An empty
list means that all is well, or that the run has no profile to have (cpu backend, or `profile: {tier: none}`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bakeoff.files import read_json
from bakeoff.plan import read_plan
from bakeoff.schema.host import Host
from bakeoff.schema.plan import Participant, Plan
from bakeoff.schema.profile import CellProfile, SolutionProfile

MAPPED_AT_LEAST = 0.98  # share of GPU time in kernels that the solution's stage table names
SUM_WITHIN = 0.01  # of the busy time


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a profile."""

    code: Literal["no_profile", "stale", "other_gpu", "not_profiled", "failed", "unmapped", "stage_sum", "span"]
    solution: str
    workload: str | None
    text: str

    def __str__(self) -> str:
        return f"profile {self.solution}{f' {self.workload}' if self.workload else ''}: {self.text}"


def check(run: Path) -> list[Finding]:
    """Everything that is wrong with a run's profile, by solution and workload in the run's order."""
    plan = read_plan(run)
    if not _wanted(plan):
        return []
    due, gpus, findings = _due(plan), _gpus(run), []
    for who in _solutions(plan):
        path = run / "profile" / f"{who.name}.json"
        if not path.is_file():
            findings.append(Finding("no_profile", who.name, None, f"no {path.name}; run `bakeoff profile {run}`"))
            continue
        profile = read_json(path, SolutionProfile)
        if profile.digest != who.digest:
            findings.append(
                Finding("stale", who.name, None, "made from other sources than the run's; run `bakeoff profile` again")
            )
        if gpus and profile.gpu not in gpus:
            text = f"profiled on {profile.gpu}, but the run is of {', '.join(gpus)}; profile on the same model"
            findings.append(Finding("other_gpu", who.name, None, text))
        findings += check_profile(profile, due)
    return findings


def check_profile(profile: SolutionProfile, due: Sequence[str]) -> list[Finding]:
    """One solution's document against the cells that it must have."""
    cells = {cell.workload: cell for cell in profile.cells}
    failures = {failure.workload: failure.reason for failure in profile.failures}
    findings: list[Finding] = []
    for workload in due:
        if workload in cells:
            findings += [Finding(code, profile.solution, workload, text) for code, text in _flaws(cells[workload])]
        elif workload in failures:
            last = failures[workload].splitlines()[-1:]
            findings.append(Finding("failed", profile.solution, workload, f"could not be profiled: {''.join(last)}"))
        else:
            findings.append(Finding("not_profiled", profile.solution, workload, "not profiled"))
    return findings


def coverage(run: Path, plan: Plan) -> tuple[int, int, int]:
    """(profiled, failed, due) cells over all solutions of a run."""
    due, documents = set(_due(plan)), _documents(run, plan)
    profiled = sum(len({cell.workload for cell in document.cells} & due) for document in documents)
    failed = sum(len({failure.workload for failure in document.failures} & due) for document in documents)
    return profiled, failed, len(_solutions(plan)) * len(due)


def mapped_share(cell: CellProfile) -> float:
    """Share of the busy time in mapped kernels: the cell's own figure, or what its kernels give if that is less."""
    mapped = sum(kernel.us for kernel in cell.kernels if kernel.mapped)
    return min(cell.mapped_share, mapped / cell.busy_us) if cell.busy_us else cell.mapped_share


def describe(run: Path) -> str | None:
    """How far a run is profiled and how well its time adds up; None where it need not be profiled."""
    plan = read_plan(run)
    if not _wanted(plan):
        return None
    profiled, _, due = coverage(run, plan)
    cells = [cell for document in _documents(run, plan) for cell in document.cells]
    mapped = min((mapped_share(cell) for cell in cells), default=0.0)
    apart = max((abs(sum(cell.stages_us.values()) / cell.busy_us - 1) for cell in cells if cell.busy_us), default=0.0)
    return (
        f"{profiled} of {due} cells profiled, of each at least {mapped:.1%} of the GPU time mapped, stages sum to "
        f"it within {apart:.1%}"
    )


def _wanted(plan: Plan) -> bool:
    return plan.backend != "cpu" and plan.profile.tier != "none"


def _due(plan: Plan) -> list[str]:
    chosen = plan.profile.cells
    return [workload.id for workload in plan.workloads if chosen == "all" or workload.id in chosen]


def _solutions(plan: Plan) -> list[Participant]:
    return [who for who in plan.participants if who.role != "reference" and who.supported and who.twin_of is None]


def _documents(run: Path, plan: Plan) -> list[SolutionProfile]:
    paths = [run / "profile" / f"{who.name}.json" for who in _solutions(plan)]
    return [read_json(path, SolutionProfile) for path in paths if path.is_file()]


def _gpus(run: Path) -> list[str]:
    """Models of the host that the run was measured on; empty if that is not recorded."""
    path = run / "host.json"
    return [gpu.name for gpu in read_json(path, Host).gpus] if path.is_file() else []


def _flaws(cell: CellProfile) -> list[tuple[Literal["unmapped", "stage_sum", "span"], str]]:
    flaws: list[tuple[Literal["unmapped", "stage_sum", "span"], str]] = []
    mapped = mapped_share(cell)
    if mapped < MAPPED_AT_LEAST:
        names = ", ".join(cell.unmapped[:5]) or "the rest"
        flaws.append(
            (
                "unmapped",
                f"{mapped:.1%} of the GPU time is mapped to a stage, less than {MAPPED_AT_LEAST:.0%}; no rule names "
                f"{names}",
            )
        )
    for what, total in (
        ("stages", sum(cell.stages_us.values())),
        ("kernels", sum(kernel.us for kernel in cell.kernels)),
    ):
        if abs(total - cell.busy_us) > SUM_WITHIN * cell.busy_us:
            flaws.append(("stage_sum", f"{what} sum to {total:.1f} us, the busy time is {cell.busy_us:.1f} us"))
    if abs(cell.busy_us + cell.gap_us - cell.span_us) > SUM_WITHIN * cell.span_us:
        flaws.append(
            ("span", f"busy time and gaps give {cell.busy_us + cell.gap_us:.1f} us, the span is {cell.span_us:.1f} us")
        )
    return flaws
