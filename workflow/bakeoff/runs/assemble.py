"""From journals to traces: one FlashInfer-Bench Trace per cell, and one verification per cell and set of values.

Entry points: `assemble_run`, and `contradictions` for traces that were changed since. Writes traces.jsonl (the primary
protocol), traces.<protocol>.jsonl (the others) and verification.jsonl. A cell that no journal holds gets no line;
`bakeoff verify` says which are missing. A damaged journal is an InputError.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd

from bakeoff.config import under_root
from bakeoff.files import canonical_json, read_json, write_atomic
from bakeoff.plan import read_plan
from bakeoff.runs.samples import printed
from bakeoff.runs.table import Journals, worst
from bakeoff.schema.gates import Numerics
from bakeoff.schema.host import Host
from bakeoff.schema.outcomes import Outcome, fib_status
from bakeoff.schema.plan import Plan
from bakeoff.schema.sample import BlockTimes, CellResult, Record, Verification
from bakeoff.traces.models import Correctness, Environment, Evaluation, Performance, Trace, Workload, line
from bakeoff.traces.store import TraceRoot

APART = 1e-9  # share by which a trace's figure may be off: it has ten digits


def assemble_run(run: Path) -> None:
    """Write the run's traces and verifications from its journals."""
    plan = read_plan(run)
    journals = Journals.read(run, plan)
    host = read_json(run / "host.json", Host)
    cases = {case.id: case for case in TraceRoot(under_root(plan.traces_root)).workloads(plan.definition)}
    workloads = {what.id: what.source or cases[what.id].trace.workload for what in plan.workloads}
    for number, protocol in enumerate(plan.protocols):
        lines = [line(trace) for trace in _traces(journals, protocol, workloads, host)]
        write_atomic(run / ("traces.jsonl" if number == 0 else f"traces.{protocol}.jsonl"), b"".join(lines))
    verified = [canonical_json(_verification(record)) + b"\n" for record in journals.verifications()]
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
    rows = journals.measured(protocol).groupby(["participant", "workload"], sort=False).groups
    figures = journals.cells(protocol).set_index(["solution", "workload"])
    times = dict(list(journals.times(protocol).groupby(["solution", "workload"])))
    for place in product([who.name for who in journals.plan.participants if who.role != "reference"], workloads):
        if place in rows:
            yield _trace(journals, place, rows[place], figures.loc[place], times.get(place), workloads, host)


def _trace(
    journals: Journals,
    place: tuple[str, str],
    rows: Iterable[int],
    figures: pd.Series,
    times: pd.DataFrame | None,
    workloads: dict[str, Workload],
    host: Host,
) -> Trace:
    records = journals.of(rows)
    record = worst(records)
    note = CellResult(
        outcome=record.outcome,
        reason=record.reason,
        detail=record.detail,
        hint=record.hint,
        tier=None if times is None else times["tier"].iloc[0],
        backend=journals.plan.backend,
        per_block=[] if times is None else _per_block(times),
        gates=record.gates,
        numerics=record.numerics,
        missing_tiers=record.missing_tiers,
        discarded=sum(each.discarded for each in records),
        warnings=list(dict.fromkeys(text for each in records for text in each.warnings)),
    )
    return Trace(
        definition=journals.plan.definition,
        workload=workloads[place[1]],
        solution=place[0],
        evaluation=Evaluation(
            status=fib_status(record.outcome),
            environment=Environment(hardware=_hardware(journals.plan, host), libs=host.packages),
            timestamp=max(each.started for each in records),
            log=record.detail or "",
            correctness=_correctness(record),
            performance=_performance(record, figures),
            bakeoff=note.model_dump(mode="json"),
        ),
    )


def _per_block(times: pd.DataFrame) -> list[BlockTimes]:
    found = times.sort_values("block")[["block", "latency_us", "reference_us"]].astype(object)
    return [BlockTimes(**row) for row in found.where(found.notna(), None).to_dict("records")]


def _correctness(record: Record) -> Correctness | None:
    if record.outcome not in (Outcome.PASSED, Outcome.INCORRECT_NUMERICAL):
        return None
    numerics = record.numerics or Numerics()
    relative, absolute = (math.nan if value is None else value for value in (numerics.max_rel, numerics.max_abs))
    return Correctness(max_relative_error=relative, max_absolute_error=absolute, extra=numerics.model_dump())


def _performance(record: Record, figures: pd.Series) -> Performance | None:
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


def _verification(record: Record) -> dict[str, Any]:
    return Verification(
        solution=record.participant,
        workload=record.workload,
        family=record.family,
        seed=record.seed,
        outcome=record.outcome,
        reason=record.reason,
        gates=record.gates,
        numerics=record.numerics,
    ).model_dump(mode="json")
