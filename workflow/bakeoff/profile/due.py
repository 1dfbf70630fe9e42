"""What a run profiles, and what it has of that: all that reads or makes profiles asks here.

Entry points: `wanted`, `solutions`, `workloads`, `documents`, `coverage`, `wait_for_documents`.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from bakeoff.errors import InputError
from bakeoff.files import read_json
from bakeoff.options import chosen, closest
from bakeoff.schema.plan import Participant, Plan
from bakeoff.schema.profile import Coverage, SolutionProfile

LOOK_S = 0.5  # between two looks at what a file system shows late


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
    return [one for one in there.values() if one.supported and one.build and (not asked or one.name in wanted)]


def workloads(plan: Plan, names: Sequence[str] | None = None) -> list[str]:
    """Ids of the workloads to profile, in the run's order: those that are named, else what the configuration says."""
    there, cells = [workload.id for workload in plan.workloads], plan.profile.cells
    asked = names or (there if cells == "all" else cells)
    chosen("option --workload" if names else "config: profile.cells", asked, dict.fromkeys(there))
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


def wait_for_documents(run: Path, plan: Plan, wait_s: float, tell: Callable[[str], None]) -> None:
    """Wait until the profiles hold what the profile's manifest, written last, says of them, `wait_s` at most; an
    InputError then. On a shared file system another host may see the manifest first."""
    manifest, deadline, told = run / "profile" / "manifest.json", time.monotonic() + wait_s, False

    def late() -> list[str]:
        covered = coverage(plan, documents(run, plan)) if manifest.is_file() else []
        return [one.solution for one in covered if one.profiled + len(one.failures) < one.due]

    while names := late():
        if time.monotonic() > deadline:
            raise InputError(
                run / "profile" / f"{names[0]}.json",
                found=f"fewer cells after {wait_s:g} s than its manifest.json closed",
                expected="every due cell of a profile that is complete",
                hint="a shared file system may show it later: run the same command again, and raise `latency-wait` in "
                "profiles/slurm/profile.yaml; if it was changed, delete manifest.json, and what is owed is profiled",
            )
        if not told:
            tell(f"waiting up to {wait_s:g} s for the profile of {names[0]}: the manifest is here, and it is not whole")
        told = True
        list(manifest.parent.iterdir())  # asks a file server anew, which a look for one name need not
        time.sleep(LOOK_S)
