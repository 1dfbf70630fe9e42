"""`bakeoff verify RUN`: does the run have every block, journal and cell that its plan asks for, each cell once, typed
and PASSED?

Entry points: `verify_run`, `findings` (pure: documents in, sentences out), `profile_flaws`, `contradicted`. Nothing is
measured or judged again.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import ValidationError

from bakeoff.errors import CheckFailed
from bakeoff.files import read_json, read_jsonl
from bakeoff.planned import read_plan
from bakeoff.profile import due
from bakeoff.runs.coverage import gaps, stale
from bakeoff.schema.host import Host
from bakeoff.schema.outcomes import Outcome, Reason, fib_status
from bakeoff.schema.plan import Plan
from bakeoff.schema.profile import CellProfile, SolutionProfile
from bakeoff.schema.sample import CellResult, Record, Verification
from bakeoff.traces.models import Trace

if TYPE_CHECKING:
    from bakeoff.runs.table import Journals

Code = Literal["no_profile", "stale", "other_gpu", "not_profiled", "failed", "unmapped", "stage_sum", "span"]
MAPPED_AT_LEAST = 0.98  # share of GPU time in kernels that the solution's stage table names
SUM_WITHIN = 0.01  # of the busy time
SHOWN = 20  # findings that are printed; the rest is counted


def findings(plan: Plan, traces: dict[str, list[Trace]], verifications: list[Verification]) -> list[str]:
    """What is wrong with a run, a sentence each. traces: by protocol."""
    pairs = [(who.name, what.id) for who in plan.solutions for what in plan.workloads]
    elsewhere = {who.name for who in plan.solutions if who.elsewhere}
    found: list[str] = []
    for protocol in plan.protocols:
        by_uuid = {what.uuid: what.id for what in plan.workloads}
        places = [
            (str(trace.solution), by_uuid.get(trace.workload.uuid, trace.workload.uuid)) for trace in traces[protocol]
        ]
        due = {(cell.participant, cell.workload) for cell in plan.cells if cell.protocol == protocol}
        found += _coverage(f"{protocol}: ", [pair for pair in pairs if pair in due], places)
        for place, trace in zip(places, traces[protocol], strict=True):
            found += _trace_flaws(f"{protocol}: {' '.join(place)}", trace, place[0] in elsewhere)
    wanted = [(*pair, family, str(seed)) for pair in pairs for family in plan.families for seed in plan.seeds]
    found += _coverage(
        "verification: ", wanted, [(v.solution, v.workload, v.family, str(v.seed)) for v in verifications]
    )
    found += [
        f"verification: {v.solution} {v.workload} {v.family} seed {v.seed}: "
        f"{v.outcome}{f' ({v.reason})' if v.reason else ''}"
        for v in verifications
        if v.outcome != Outcome.PASSED and not (v.solution in elsewhere and v.reason == Reason.NO_BACKEND)
    ]
    return found


def _coverage(head: str, wanted: Iterable[tuple[str, ...]], found: Iterable[tuple[str, ...]]) -> list[str]:
    """Cells that are missing, there more than once, or not asked for."""
    expected, counts = list(wanted), Counter(found)
    missing = [f"{head}{' '.join(cell)}: missing" for cell in expected if not counts[cell]]
    repeated = [f"{head}{' '.join(cell)}: {count} times" for cell, count in counts.items() if count > 1]
    strange = [f"{head}{' '.join(cell)}: not in the plan" for cell in counts if cell not in set(expected)]
    return missing + repeated + strange


def _trace_flaws(name: str, trace: Trace, elsewhere: bool) -> list[str]:
    """A trace without a typed outcome, with one that does not stand or that its status contradicts, or that did not
    pass. elsewhere: of a peer that has no backend here."""
    if trace.evaluation is None:
        return [f"{name}: no evaluation"]
    try:
        found = CellResult.model_validate((trace.evaluation.model_extra or {}).get("bakeoff"))
    except ValidationError as error:
        flaw = error.errors()[0]
        return [f"{name}: no typed outcome that stands: {'.'.join(map(str, flaw['loc']))} {flaw['msg']}"]
    if trace.evaluation.status != fib_status(found.outcome):
        return [f"{name}: status {trace.evaluation.status} contradicts the outcome {found.outcome}"]
    reason = f" ({found.reason})" if found.reason else ""
    # Whether a solution can become a CUDA graph says nothing about its correctness, nor does a chip that a peer is not
    # made for.
    excused = {Reason.NOT_CAPTURABLE, *([Reason.NO_BACKEND] if elsewhere else [])}
    return [] if found.outcome == Outcome.PASSED or found.reason in excused else [f"{name}: {found.outcome}{reason}"]


def _wrong_reference(records: Iterable[Record], plan: Plan) -> list[str]:
    """What all speedups are over has to be right itself."""
    names = {who.name for who in plan.participants if who.role == "reference"}
    return [
        f"block {record.block}: {record.participant} {record.workload}: {record.outcome}"
        for record in records
        if record.participant in names and record.outcome != Outcome.PASSED
    ]


def _trace_files(run: Path, plan: Plan) -> dict[str, Path]:
    """Where the traces of each protocol are."""
    return {
        protocol: run / ("traces.jsonl" if number == 0 else f"traces.{protocol}.jsonl")
        for number, protocol in enumerate(plan.protocols)
    }


def contradicted(run: Path, journals: "Journals") -> list[str]:
    """What the run's traces and verifications, where there are any, say against its samples, a sentence each."""
    from bakeoff.runs.assemble import contradictions, verification

    there = {name: path for name, path in _trace_files(run, journals.plan).items() if path.is_file()}
    found = [flaw for name, path in there.items() for flaw in contradictions(journals, name, read_jsonl(path, Trace))]
    path = run / "verification.jsonl"
    if path.is_file() and read_jsonl(path, Verification) != [verification(one) for one in journals.verifications()]:
        found.append("verification.jsonl is not what the journals give")
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


def profile_flaws(run: Path, plan: Plan) -> list[ProfileFlaw]:
    """Everything that is wrong with a run's profile, by solution and workload in the run's order; nothing where it need
    not be profiled."""
    if not due.wanted(plan):
        return []
    gpus, profiles, found = _gpus(run), due.documents(run, plan), []
    for who in due.solutions(plan):
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
        found += document_flaws(profile, due.workloads(plan))
    return found


def document_flaws(profile: SolutionProfile, workloads: Sequence[str]) -> list[ProfileFlaw]:
    """One solution's document against the cells that it must have."""
    cells, found = {cell.workload: cell for cell in profile.cells}, []
    for name in workloads:
        if name in cells:
            found += [ProfileFlaw(code, profile.solution, text, name) for code, text in _cell_flaws(cells[name])]
        elif name in profile.failures:
            text = f"could not be profiled: {''.join(profile.failures[name].splitlines()[-1:])}"
            found.append(ProfileFlaw("failed", profile.solution, text, name))
        else:
            found.append(ProfileFlaw("not_profiled", profile.solution, "not profiled", name))
    return found


def _cell_flaws(cell: CellProfile) -> Iterator[tuple[Code, str]]:
    mapped, whole_us = _mapped_share(cell), cell.busy_us + cell.gap_share * cell.span_us
    if mapped < MAPPED_AT_LEAST:
        names, least = ", ".join(cell.unmapped[:5]) or "the rest", f"{MAPPED_AT_LEAST:.0%}"
        yield "unmapped", f"{mapped:.1%} of the GPU time is mapped to a stage, less than {least}; no rule names {names}"
    for what, parts in (("stages", cell.stages), ("kernels", cell.kernels)):
        total = sum(part.us for part in parts)
        if abs(total - cell.busy_us) > SUM_WITHIN * cell.busy_us:
            yield "stage_sum", f"{what} sum to {total:.1f} us, the busy time is {cell.busy_us:.1f} us"
    if abs(whole_us - cell.span_us) > SUM_WITHIN * cell.span_us:
        yield "span", f"busy time and gaps give {whole_us:.1f} us, the span is {cell.span_us:.1f} us"


def _mapped_share(cell: CellProfile) -> float:
    """Share of the busy time in mapped kernels: the cell's own figure, or what its kernels give if that is less."""
    mapped = sum(kernel.us for kernel in cell.kernels if kernel.mapped)
    return min(cell.mapped_share, mapped / cell.busy_us) if cell.busy_us else cell.mapped_share


def _gpus(run: Path) -> list[str]:
    """Models of the host that the run was measured on; empty if that is not recorded."""
    path = run / "host.json"
    return [gpu.name for gpu in read_json(path, Host).gpus] if path.is_file() else []


def _profiled(run: Path, plan: Plan) -> str:
    """How far a run is profiled and how well its time adds up; empty where it need not be profiled."""
    if not due.wanted(plan):
        return ""
    profiles = due.documents(run, plan)
    covered = due.coverage(plan, profiles)
    cells = [cell for profile in profiles.values() for cell in profile.cells]
    mapped = min((_mapped_share(cell) for cell in cells), default=0.0)
    apart = max(
        (abs(sum(one.us for one in cell.stages) / cell.busy_us - 1) for cell in cells if cell.busy_us), default=0.0
    )
    profiled, asked = sum(one.profiled for one in covered), sum(one.due for one in covered)
    return (
        f"; {profiled} of {asked} cells profiled, of each at least {mapped:.1%} of the GPU time mapped, stages sum to "
        f"it within {apart:.1%}"
    )


def verify_run(run: Path) -> str:
    """Check a run folder; returns one line on success, raises CheckFailed with the findings otherwise."""
    from bakeoff.runs.assemble import contradictions  # these two import pandas, which no --help waits for
    from bakeoff.runs.table import Journals

    plan = read_plan(run)
    traces = {protocol: read_jsonl(path, Trace) for protocol, path in _trace_files(run, plan).items()}
    journals = Journals.read(run, plan)
    found = [
        *gaps(run, journals),
        *_wrong_reference(journals.records, plan),
        *findings(plan, traces, read_jsonl(run / "verification.jsonl", Verification)),
        *(flaw for name in plan.protocols for flaw in contradictions(journals, name, traces[name])),
        *map(str, profile_flaws(run, plan)),
        *stale(run),
    ]
    if found:
        more = [f"and {len(found) - SHOWN} more"] if len(found) > SHOWN else []
        raise CheckFailed(
            "\n  ".join([f"{len(found)} finding{'s' if len(found) > 1 else ''} in {run}", *found[:SHOWN], *more])
        )
    contestants = sum(who.role == "contestant" for who in plan.participants)
    peers = sum(who.role == "peer" and not who.elsewhere for who in plan.participants)
    count, values = len(plan.workloads), len(plan.families) * len(plan.seeds)
    cells = (contestants or peers) * count
    extra = f" (and {peers * count}/{peers * count} of peers)" if peers and contestants else ""
    sets = f", each on {values} sets of values" if values > 1 else ""
    only = "; cpu backend: correctness only" if plan.backend == "cpu" else ""
    return f"{cells}/{cells} cells PASSED{extra}{sets}{only}{_profiled(run, plan)}"
