"""What a run profiles, what it has of that, and whether it can be believed.

Entry points: `wanted`, `solutions`, `workloads`, `documents`, `coverage`; and what `bakeoff verify` asks: `check`,
`check_profile` (of one document) and `describe`, where an empty list means that all is well, or that the run has no
profile to have. All that reads or makes profiles asks here.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bakeoff.errors import InputError
from bakeoff.files import read_json
from bakeoff.options import closest
from bakeoff.plan import read_plan
from bakeoff.schema.host import Host
from bakeoff.schema.plan import Participant, Plan
from bakeoff.schema.profile import CellProfile, Coverage, SolutionProfile

Code = Literal["no_profile", "stale", "other_gpu", "not_profiled", "failed", "unmapped", "stage_sum", "span"]
MAPPED_AT_LEAST = 0.98  # share of GPU time in kernels that the solution's stage table names
SUM_WITHIN = 0.01  # of the busy time


def wanted(plan: Plan, tier: str | None = None) -> bool:
    """Whether there is anything to profile: a GPU, and a tier (`tier`, or else the configuration's) but `none`."""
    return plan.backend != "cpu" and (tier or plan.profile.tier) != "none"


def solutions(plan: Plan, names: Sequence[str] | None = None) -> list[Participant]:
    """The solutions to profile, in the run's order: those whose name or label is given, else what the configuration
    says; a name of none is an InputError.

    The reference is not among them, nor a twin, which is its original once more, nor what this backend does not run.
    """
    there = {one.name: one for one in plan.participants if one.role != "reference" and one.twin_of is None}
    labels = {one.label: one.name for one in there.values()}
    asked = names or (() if plan.profile.solutions == "all" else plan.profile.solutions)
    wanted = {labels.get(name, name) for name in asked}
    for name in sorted(wanted - there.keys()):
        original = next((one.twin_of for one in plan.participants if one.name == name), None)
        hint = f"name {original}: this one is an exact copy of it" if original else closest(name, [*there, *labels])
        raise InputError("solution", name, f"a solution that the run profiles: {', '.join(there)}", hint)
    return [one for one in there.values() if one.supported and (not asked or one.name in wanted)]


def workloads(plan: Plan, names: Sequence[str] | None = None) -> list[str]:
    """Ids of the workloads to profile, in the run's order: those that are named, else what the configuration says."""
    there, chosen = [workload.id for workload in plan.workloads], plan.profile.cells
    asked = names or (there if chosen == "all" else chosen)
    unknown = [name for name in asked if name not in there]
    if unknown:
        where = "option --workload" if names else "config: profile.cells"
        raise InputError(where, ", ".join(unknown), f"workloads of this run: {', '.join(there)}", "correct the name")
    return [name for name in there if name in asked]


def documents(run: Path, plan: Plan) -> dict[str, SolutionProfile]:
    """Solution -> its profile, in the run's order; those without one are left out."""
    paths = {one.name: run / "profile" / f"{one.name}.json" for one in solutions(plan)}
    return {name: read_json(path, SolutionProfile) for name, path in paths.items() if path.is_file()}


def coverage(plan: Plan, profiles: Mapping[str, SolutionProfile]) -> list[Coverage]:
    """How much of each solution that should be profiled is."""
    names = set(workloads(plan))
    found = []
    for who in solutions(plan):
        profile = profiles.get(who.name)
        cells, failures = (profile.cells, profile.failures) if profile else ([], {})
        found.append(
            Coverage(
                solution=who.name,
                due=len(names),
                profiled=len({cell.workload for cell in cells} & names),
                counted=sum(cell.counted for cell in cells),
                mapped_least=min((cell.mapped_share for cell in cells), default=None),
                failures={name: why.splitlines()[-1] for name, why in failures.items() if name in names},
            )
        )
    return found


@dataclass(frozen=True)
class ProfileFlaw:
    """One thing that is wrong with a profile."""

    code: Code
    solution: str
    text: str
    workload: str | None = None

    def __str__(self) -> str:
        return f"profile {self.solution}{f' {self.workload}' if self.workload else ''}: {self.text}"


def check(run: Path) -> list[ProfileFlaw]:
    """Everything that is wrong with a run's profile, by solution and workload in the run's order."""
    plan = read_plan(run)
    if not wanted(plan):
        return []
    gpus, profiles, found = _gpus(run), documents(run, plan), []
    for who in solutions(plan):
        profile = profiles.get(who.name)
        if profile is None:
            found.append(ProfileFlaw("no_profile", who.name, f"no {who.name}.json; run `bakeoff profile {run}`"))
            continue
        if profile.digest != who.digest:
            text = "made from other sources than the run's; run `bakeoff profile` again"
            found.append(ProfileFlaw("stale", who.name, text))
        if gpus and profile.gpu not in gpus:
            text = f"profiled on {profile.gpu}, but the run is of {', '.join(gpus)}; profile on the same model"
            found.append(ProfileFlaw("other_gpu", who.name, text))
        found += check_profile(profile, workloads(plan))
    return found


def check_profile(profile: SolutionProfile, workloads: Sequence[str]) -> list[ProfileFlaw]:
    """One solution's document against the cells that it must have."""
    cells, found = {cell.workload: cell for cell in profile.cells}, []
    for name in workloads:
        if name in cells:
            found += [ProfileFlaw(code, profile.solution, text, name) for code, text in _flaws(cells[name])]
        elif name in profile.failures:
            text = f"could not be profiled: {''.join(profile.failures[name].splitlines()[-1:])}"
            found.append(ProfileFlaw("failed", profile.solution, text, name))
        else:
            found.append(ProfileFlaw("not_profiled", profile.solution, "not profiled", name))
    return found


def mapped_share(cell: CellProfile) -> float:
    """Share of the busy time in mapped kernels: the cell's own figure, or what its kernels give if that is less."""
    mapped = sum(kernel.us for kernel in cell.kernels if kernel.mapped)
    return min(cell.mapped_share, mapped / cell.busy_us) if cell.busy_us else cell.mapped_share


def describe(run: Path) -> str | None:
    """How far a run is profiled and how well its time adds up; None where it need not be profiled."""
    plan = read_plan(run)
    if not wanted(plan):
        return None
    profiles = documents(run, plan)
    covered = coverage(plan, profiles)
    cells = [cell for profile in profiles.values() for cell in profile.cells]
    mapped = min((mapped_share(cell) for cell in cells), default=0.0)
    apart = max(
        (abs(sum(one.us for one in cell.stages) / cell.busy_us - 1) for cell in cells if cell.busy_us), default=0.0
    )
    profiled, asked = sum(one.profiled for one in covered), sum(one.due for one in covered)
    return (
        f"{profiled} of {asked} cells profiled, of each at least {mapped:.1%} of the GPU time mapped, stages sum to "
        f"it within {apart:.1%}"
    )


def _gpus(run: Path) -> list[str]:
    """Models of the host that the run was measured on; empty if that is not recorded."""
    path = run / "host.json"
    return [gpu.name for gpu in read_json(path, Host).gpus] if path.is_file() else []


def _flaws(cell: CellProfile) -> Iterator[tuple[Code, str]]:
    mapped, whole_us = mapped_share(cell), cell.busy_us + cell.gap_share * cell.span_us
    if mapped < MAPPED_AT_LEAST:
        names, least = ", ".join(cell.unmapped[:5]) or "the rest", f"{MAPPED_AT_LEAST:.0%}"
        yield "unmapped", f"{mapped:.1%} of the GPU time is mapped to a stage, less than {least}; no rule names {names}"
    for what, parts in (("stages", cell.stages), ("kernels", cell.kernels)):
        total = sum(part.us for part in parts)
        if abs(total - cell.busy_us) > SUM_WITHIN * cell.busy_us:
            yield "stage_sum", f"{what} sum to {total:.1f} us, the busy time is {cell.busy_us:.1f} us"
    if abs(whole_us - cell.span_us) > SUM_WITHIN * cell.span_us:
        yield "span", f"busy time and gaps give {whole_us:.1f} us, the span is {cell.span_us:.1f} us"
