"""From journals to traces: one FlashInfer-Bench Trace per cell, and one verification per cell and set of values.

Entry points: `assemble_run`, and `contradictions` for traces that were changed since. Writes traces.jsonl (the primary
protocol), traces.<protocol>.jsonl (the others) and verification.jsonl. A cell that no journal holds gets no line;
`bakeoff verify` says which are missing. A damaged journal is an InputError.
"""

import math
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pandas as pd

from bakeoff.config import under_root
from bakeoff.files import canonical_json, read_json, write_atomic
from bakeoff.planned import read_plan
from bakeoff.runs.coverage import stale, tampered
from bakeoff.runs.samples import printed
from bakeoff.runs.table import Journals
from bakeoff.schema.gates import Numerics
from bakeoff.schema.host import Host
from bakeoff.schema.outcomes import Outcome, fib_status
from bakeoff.schema.plan import Plan
from bakeoff.schema.sample import CellResult, Record, Verification
from bakeoff.traces.models import Correctness, Environment, Evaluation, Performance, Trace, Workload, line
from bakeoff.traces.store import TraceRoot

APART = 1e-9  # share by which a trace's figure may be off: it has ten digits


def assemble_run(run: Path) -> None:
    """Write the run's traces and verifications from its journals. Samples that are not as they were measured, and an
    analysis of others, are named on standard error, and `verify` refuses them: what they give is shown even so."""
    plan = read_plan(run)
    kinds = {"samples are not as they were measured": tampered(run, plan), "the analysis is of others": stale(run)}
    for what, flaws in kinds.items():
        if flaws:
            print("\n  ".join([f"bakeoff assemble: {run}: {what}", *flaws[:20]]), file=sys.stderr)
    journals = Journals.read(run, plan)
    host = read_json(run / "host.json", Host)
    cases = {case.id: case for case in TraceRoot(under_root(plan.traces_root)).workloads(plan.definition, further=True)}
    workloads = {what.id: what.source or cases[what.id].trace.workload for what in plan.workloads}
    for number, protocol in enumerate(plan.protocols):
        lines = [line(trace) for trace in _traces(journals, protocol, workloads, host)]
        write_atomic(run / ("traces.jsonl" if number == 0 else f"traces.{protocol}.jsonl"), b"".join(lines))
    made = [verification(record).model_dump(mode="json") for record in journals.verifications()]
    verified = [canonical_json(one) + b"\n" for one in made]
    write_atomic(run / "verification.jsonl", b"".join(verified))


def contradictions(journals: Journals, protocol: str, traces: Iterable[Trace]) -> list[str]:
    """What traces say against the samples that they should be made from, a sentence for each such latency."""
    said = [
        (trace.solution, trace.workload.uuid, trace.evaluation.performance.latency_ms * 1000)
        for trace in traces
        if trace.evaluation is not None and trace.evaluation.performance is not None
    ]
    uuids = {what.id: what.uuid for what in journals.plan.workloads}
    cells = journals.cells(protocol).assign(uuid=lambda frame: frame["workload"].map(uuids))
    both = cells.merge(pd.DataFrame(said, columns=["solution", "uuid", "said_us"]), on=["solution", "uuid"])
    apart = both[(both["said_us"] / both["latency_us"] - 1).abs() > APART]
    return [
        f"{protocol}: {row.solution} {row.workload}: the trace says {row.said_us:.6g} us, its samples give "
        f"{row.latency_us:.6g} us; run `bakeoff assemble` again"
        for row in apart.itertuples()
    ]


def _traces(journals: Journals, protocol: str, workloads: dict[str, Workload], host: Host) -> Iterator[Trace]:
    """One trace per measured cell of one protocol, in the plan's order."""
    started = journals.measured(protocol).groupby(["participant", "workload"])["started"].max()
    figures = journals.cells(protocol).set_index(["solution", "workload"])
    environment = Environment(hardware=_hardware(journals.plan, host), libs=host.packages)
    for place, found in journals.results(protocol).items():
        evaluation = Evaluation(
            status=fib_status(found.outcome),
            environment=environment,
            timestamp=started[place],
            log=found.detail or "",
            correctness=_correctness(found),
            performance=_performance(found, figures.loc[place]),
            bakeoff=found.model_dump(mode="json"),
        )
        yield Trace(
            definition=journals.plan.definition,
            workload=workloads[place[1]],
            solution=place[0],
            evaluation=evaluation,
        )


def _correctness(record: CellResult) -> Correctness | None:
    if record.outcome not in (Outcome.PASSED, Outcome.INCORRECT_NUMERICAL):
        return None
    numerics = record.numerics or Numerics()
    relative, absolute = (math.nan if value is None else value for value in (numerics.max_rel, numerics.max_abs))
    return Correctness(max_relative_error=relative, max_absolute_error=absolute, extra=numerics.model_dump())


def _performance(record: CellResult, figures: pd.Series) -> Performance | None:
    """The cell's figures; without a reference in the run its time and the speedup are 0, the format's default."""
    if record.outcome != Outcome.PASSED:
        return None
    return Performance(
        latency_ms=printed(figures["latency_us"] / 1000),
        reference_latency_ms=printed(figures["reference_us"] / 1000),
        speedup_factor=printed(figures["speedup"]),
    )


def _hardware(plan: Plan, host: Host) -> str:
    return host.gpus[0].name if plan.backend != "cpu" and host.gpus else host.cpu


def verification(record: Record) -> Verification:
    """What one set of values says of a solution, from the record that decides it."""
    judged = ("workload", "family", "seed", "outcome", "reason", "gates", "numerics")
    return Verification(solution=record.participant, **{name: getattr(record, name) for name in judged})
