"""From journals to traces: one FlashInfer-Bench Trace per cell, and one verification per cell and set of values.

Entry point: `assemble_run`. Writes traces.jsonl (the primary protocol), traces.<protocol>.jsonl (the others) and
verification.jsonl. A cell that no journal holds gets no line; `bakeoff verify` says which are missing. A damaged
journal is an InputError.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bakeoff.config import under_root
from bakeoff.core.protocols import per_process_latency, primary_tier
from bakeoff.errors import InputError
from bakeoff.files import canonical_json, read_json, write_atomic
from bakeoff.plan import read_plan
from bakeoff.runs.journal import journal_path, read_journal
from bakeoff.schema.host import Host
from bakeoff.schema.outcomes import Outcome, fib_status
from bakeoff.schema.plan import Plan
from bakeoff.schema.sample import Record, Verification
from bakeoff.traces.models import Correctness, Environment, Evaluation, Performance, Trace, Workload, line
from bakeoff.traces.store import TraceRoot


@dataclass(frozen=True)
class Cell:
    """A participant's records of one workload under one protocol (or, without one, one set of values), by block."""

    records: dict[int, Record]

    @property
    def worst(self) -> Record:
        """The first record that did not pass, else the first: a cell passes if it passed in every block."""
        ordered = [self.records[block] for block in sorted(self.records)]
        return next((record for record in ordered if record.outcome != Outcome.PASSED), ordered[0])

    def tier(self) -> str | None:
        """The tier that latencies are read from: the best one that every block has."""
        common = set.intersection(
            *({str(tier) for tier, times in record.tiers.items() if times} for record in self.records.values())
        )
        protocol = self.worst.protocol
        return primary_tier(protocol, common) if protocol and common else None

    def latencies(self, tier: str | None) -> dict[int, float]:
        """Microseconds by block, of the blocks that passed and have the tier."""
        return {
            block: per_process_latency(record.protocol or "", times)
            for block, record in sorted(self.records.items())
            for name, times in record.tiers.items()
            if record.outcome == Outcome.PASSED and name == tier
        }


Key = tuple[str, str, str | None, str, int]  # participant, workload, protocol, family, seed


def assemble_run(run: Path) -> None:
    """Write the run's traces and verifications from its journals."""
    plan = read_plan(run)
    cells = collect(run, plan)
    host = read_json(run / "host.json", Host)
    cases = {case.id: case for case in TraceRoot(under_root(plan.traces_root)).workloads(plan.definition)}
    for number, protocol in enumerate(plan.protocols):
        lines = [
            line(_trace(plan, protocol, cells, who.name, what.source or cases[what.id].trace.workload, what.id, host))
            for who in plan.participants
            if who.role != "reference"
            for what in plan.workloads
            if (who.name, what.id, protocol, plan.families[0], plan.seeds[0]) in cells
        ]
        write_atomic(run / ("traces.jsonl" if number == 0 else f"traces.{protocol}.jsonl"), b"".join(lines))
    write_atomic(run / "verification.jsonl", b"".join(_verifications(plan, cells)))


def collect(run: Path, plan: Plan) -> dict[Key, Cell]:
    """All records of the plan's cells, from every block that has a journal."""
    by_key = {cell.key: cell for cell in plan.cells}
    found: dict[Key, dict[int, Record]] = {}
    for block in range(plan.blocks):
        for who in plan.participants:
            for record in _finals(journal_path(run, block, who.name)):
                cell = by_key.get(record.key)
                if cell is not None:  # other keys belong to inputs that have changed since
                    place = (cell.participant, cell.workload, cell.protocol, cell.family, cell.seed)
                    found.setdefault(place, {})[block] = record
    return {place: Cell(records) for place, records in found.items()}


def _finals(path: Path) -> list[Record]:
    """The newest record of each key; a second one after a pass is an InputError, since no finished cell is measured
    twice."""
    newest: dict[str, Record] = {}
    for number, record in enumerate(read_journal(path), 1):
        earlier = newest.get(record.key)
        if earlier is not None and earlier.outcome == Outcome.PASSED:
            raise InputError(
                f"{path}:{number}",
                found=f"a second record of {record.participant} {record.workload}, which had PASSED",
                expected="one final record per cell",
                hint="delete one of the two lines",
            )
        newest[record.key] = record
    return list(newest.values())


def _trace(
    plan: Plan, protocol: str, cells: dict[Key, Cell], name: str, workload: Workload, workload_id: str, host: Host
) -> Trace:
    values = (plan.families[0], plan.seeds[0])
    cell, baseline = (
        cells[name, workload_id, protocol, *values],
        cells.get(("reference", workload_id, protocol, *values)),
    )
    record, tier = cell.worst, cell.tier()
    own, reference = cell.latencies(tier), baseline.latencies(tier) if baseline else {}
    note = {
        "outcome": record.outcome,
        "reason": record.reason,
        "detail": record.detail,
        "hint": record.hint,
        "tier": tier,
        "backend": plan.backend,
        "per_block": [
            {"block": block, "latency_us": own.get(block), "reference_us": reference.get(block)}
            for block in sorted({*own, *reference})
        ],
        "gates": {gate: found.model_dump(mode="json") for gate, found in record.gates.items()},
        "numerics": record.numerics,
        "missing_tiers": record.missing_tiers,
        "discarded": sum(each.discarded for each in cell.records.values()),
        "warnings": list(dict.fromkeys(text for each in cell.records.values() for text in each.warnings)),
    }
    return Trace(
        definition=plan.definition,
        workload=workload,
        solution=name,
        evaluation=Evaluation(
            status=fib_status(record.outcome),
            environment=Environment(hardware=_hardware(plan, host), libs=host.packages),
            timestamp=max(each.started for each in cell.records.values()),
            log=record.detail or "",
            correctness=_correctness(record),
            performance=_performance(record, own, reference),
            bakeoff=note,
        ),
    )


def _correctness(record: Record) -> Correctness | None:
    if record.outcome not in (Outcome.PASSED, Outcome.INCORRECT_NUMERICAL):
        return None
    largest = {name: record.numerics.get(name) for name in ("max_rel", "max_abs")}
    relative, absolute = (math.nan if value is None else float(value) for value in largest.values())
    return Correctness(max_relative_error=relative, max_absolute_error=absolute, extra=dict(record.numerics))


def _performance(record: Record, own: dict[int, float], reference: dict[int, float]) -> Performance | None:
    """Medians over blocks; without a reference in the run its time and the speedup are 0, the format's default."""
    if record.outcome != Outcome.PASSED:
        return None
    latency = statistics.median(own.values()) / 1000 if own else 0.0
    baseline = statistics.median(reference.values()) / 1000 if reference else 0.0
    return Performance(
        latency_ms=latency, reference_latency_ms=baseline, speedup_factor=baseline / latency if latency else 0.0
    )


def _hardware(plan: Plan, host: Host) -> str:
    return host.gpus[0].name if plan.backend != "cpu" and host.gpus else host.cpu


def _verifications(plan: Plan, cells: dict[Key, Cell]) -> list[bytes]:
    lines = []
    for who in plan.participants:
        for what in plan.workloads:
            for family in plan.families:
                for seed in plan.seeds:
                    timed = (family, seed) == (plan.families[0], plan.seeds[0])
                    cell = cells.get((who.name, what.id, plan.protocols[0] if timed else None, family, seed))
                    if who.role != "reference" and cell is not None:
                        lines.append(canonical_json(_verification(who.name, what.id, cell.worst)) + b"\n")
    return lines


def _verification(solution: str, workload: str, record: Record) -> dict[str, Any]:
    return Verification(
        solution=solution,
        workload=workload,
        family=record.family,
        seed=record.seed,
        outcome=record.outcome,
        reason=record.reason,
        gates=record.gates,
        numerics=record.numerics,
    ).model_dump(mode="json")
