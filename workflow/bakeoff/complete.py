"""`bakeoff verify RUN`: does the run have every block, journal and cell that its plan asks for, each cell once, typed
and PASSED?

Entry points: `verify_run`, `findings` (pure: documents in, sentences out), `contradicted`. Nothing is measured or
judged again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from bakeoff.errors import CheckFailed
from bakeoff.files import read_jsonl
from bakeoff.plan import read_plan
from bakeoff.profile import due
from bakeoff.runs.coverage import gaps, stale
from bakeoff.schema.outcomes import Outcome, Reason, fib_status
from bakeoff.schema.plan import Plan
from bakeoff.schema.sample import CellResult, Record, Verification
from bakeoff.traces.models import Trace

if TYPE_CHECKING:
    from bakeoff.runs.table import Journals

SHOWN = 20  # findings that are printed; the rest is counted


def findings(plan: Plan, traces: dict[str, list[Trace]], verifications: list[Verification]) -> list[str]:
    """What is wrong with a run, a sentence each. traces: by protocol."""
    pairs = [(who.name, what.id) for who in plan.solutions for what in plan.workloads]
    found: list[str] = []
    for protocol in plan.protocols:
        by_uuid = {what.uuid: what.id for what in plan.workloads}
        places = [
            (str(trace.solution), by_uuid.get(trace.workload.uuid, trace.workload.uuid)) for trace in traces[protocol]
        ]
        due = {(cell.participant, cell.workload) for cell in plan.cells if cell.protocol == protocol}
        found += _coverage(f"{protocol}: ", [pair for pair in pairs if pair in due], places)
        for place, trace in zip(places, traces[protocol], strict=True):
            found += _trace_flaws(f"{protocol}: {' '.join(place)}", trace)
    wanted = [(*pair, family, str(seed)) for pair in pairs for family in plan.families for seed in plan.seeds]
    found += _coverage(
        "verification: ", wanted, [(v.solution, v.workload, v.family, str(v.seed)) for v in verifications]
    )
    found += [
        f"verification: {v.solution} {v.workload} {v.family} seed {v.seed}: "
        f"{v.outcome}{f' ({v.reason})' if v.reason else ''}"
        for v in verifications
        if v.outcome != Outcome.PASSED
    ]
    return found


def _coverage(head: str, wanted: Iterable[tuple[str, ...]], found: Iterable[tuple[str, ...]]) -> list[str]:
    """Cells that are missing, there more than once, or not asked for."""
    expected, counts = list(wanted), Counter(found)
    missing = [f"{head}{' '.join(cell)}: missing" for cell in expected if not counts[cell]]
    repeated = [f"{head}{' '.join(cell)}: {count} times" for cell, count in counts.items() if count > 1]
    strange = [f"{head}{' '.join(cell)}: not in the plan" for cell in counts if cell not in set(expected)]
    return missing + repeated + strange


def _trace_flaws(name: str, trace: Trace) -> list[str]:
    """A trace without a typed outcome, with one that does not stand or that its status contradicts, or that did not
    pass."""
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
    # Whether a solution can become a CUDA graph says nothing about its correctness.
    return (
        []
        if found.outcome == Outcome.PASSED or found.reason == Reason.NOT_CAPTURABLE
        else [f"{name}: {found.outcome}{reason}"]
    )


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


def contradicted(run: Path, journals: Journals) -> list[str]:
    """What the run's traces and verifications, where there are any, say against its samples, a sentence each."""
    from bakeoff.runs.assemble import contradictions, verification

    there = {name: path for name, path in _trace_files(run, journals.plan).items() if path.is_file()}
    found = [flaw for name, path in there.items() for flaw in contradictions(journals, name, read_jsonl(path, Trace))]
    path = run / "verification.jsonl"
    if path.is_file() and read_jsonl(path, Verification) != [verification(one) for one in journals.verifications()]:
        found.append("verification.jsonl is not what the journals give")
    return found


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
        *map(str, due.check(run)),
        *stale(run),
    ]
    if found:
        more = [f"and {len(found) - SHOWN} more"] if len(found) > SHOWN else []
        raise CheckFailed(
            "\n  ".join([f"{len(found)} finding{'s' if len(found) > 1 else ''} in {run}", *found[:SHOWN], *more])
        )
    contestants = sum(who.role == "contestant" for who in plan.participants)
    peers = sum(who.role == "peer" for who in plan.participants)
    count, values = len(plan.workloads), len(plan.families) * len(plan.seeds)
    cells = (contestants or peers) * count
    extra = f" (and {peers * count}/{peers * count} of peers)" if peers and contestants else ""
    sets = f", each on {values} sets of values" if values > 1 else ""
    only = "; cpu backend: correctness only" if plan.backend == "cpu" else ""
    described = due.describe(run)
    profile = f"; {described}" if described else ""
    return f"{cells}/{cells} cells PASSED{extra}{sets}{only}{profile}"
