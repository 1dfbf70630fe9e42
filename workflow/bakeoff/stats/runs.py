"""A run folder, read for analysis: config.json, traces.jsonl, and what else the run has.

Entry point: `load_run`. Nothing is written. A planned cell without a trace is NOT_RUN; a trace that was not planned, a
second one for a cell, or one that contradicts itself is an InputError that names file and line.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bakeoff.errors import InputError
from bakeoff.files import parse_json, read_bytes, read_json, validate
from bakeoff.plan import read_plan
from bakeoff.profile import section as profile
from bakeoff.runs.published import yardstick
from bakeoff.runs.samples import Samples, times_frame
from bakeoff.schema.analysis_run import (
    AnalysedCell,
    AnalysedParticipant,
    AnalysedWorkload,
    Build,
    Check,
    RunHeader,
    VerificationSummary,
)
from bakeoff.schema.build import BuildRecord
from bakeoff.schema.host import Host
from bakeoff.schema.outcomes import Outcome
from bakeoff.schema.plan import Plan, PlannedWorkload
from bakeoff.schema.sample import CellResult, Verification
from bakeoff.stats import environment
from bakeoff.stats.rundata import WRONG, OtherRun, RunData
from bakeoff.traces.models import Definition, Evaluation, Trace


def load_run(folder: Path, protocol: str | None = None) -> RunData:
    """Read a run's folder; `protocol` picks the times of one of its protocols (default: the first)."""
    plan = read_plan(folder)
    chosen = protocol or plan.protocols[0]
    notes = dict(_notes(_traces(folder, plan, chosen), plan))
    others = [name for name in plan.protocols if name != chosen and _traces(folder, plan, name).is_file()]
    solutions = [who for who in plan.participants if who.role != "reference"]
    workloads = sorted(plan.workloads, key=lambda workload: (workload.seq_len, workload.offset))
    cells = [_cell(who.name, workload.id, notes) for who in solutions for workload in workloads]
    host = read_json(folder / "host.json", Host)
    shown = plan.backend != "cpu"
    definition, gpu = environment.definition(plan), environment.hardware(host, plan.backend) if shown else None
    return RunData(
        header=_header(folder.resolve().name, [chosen, *others], plan, notes, host, definition),
        participants=[_participant(who) for who in solutions],
        workloads=[_workload(workload, definition, gpu) for workload in workloads],
        cells=cells,
        samples=Samples.of(
            times_frame(_times(notes)), [who.name for who in solutions], [workload.id for workload in workloads]
        ),
        provenance=[*environment.facts(host), *environment.plan_facts(plan)],
        checks=_checks(plan, folder, notes, shown),
        performance_shown=shown,
        verifications=_verifications(folder / "verification.jsonl", plan),
        gate_power=environment.read_gate_power(folder / "gate_power.json"),
        builds=list(_builds(folder / "build", plan, solutions, cells)),
        beside=[OtherRun(yardstick().id, "published")],
        profiles=profile.load(folder, plan),
        workload_digests={workload.id: workload.digest for workload in workloads},
    )


def _traces(folder: Path, plan: Plan, protocol: str) -> Path:
    """The file of one protocol's traces: the first planned one is the run's own."""
    return folder / ("traces.jsonl" if protocol == plan.protocols[0] else f"traces.{protocol}.jsonl")


def _notes(path: Path, plan: Plan) -> Iterator[tuple[tuple[str, str], tuple[str, CellResult]]]:
    """(solution, workload) -> (file:line, note) of every trace."""
    ids = {workload.uuid: workload.id for workload in plan.workloads}
    names = {who.name for who in plan.participants if who.role != "reference"}
    seen: dict[tuple[str, str], str] = {}
    for number, line in enumerate(read_bytes(path).split(b"\n"), 1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        trace = parse_json(line, Trace, where)
        key = (trace.solution or "", ids.get(trace.workload.uuid, ""))
        if key[0] not in names or not key[1] or trace.evaluation is None:
            raise _flaw(
                where, f"solution {trace.solution!r} on workload {trace.workload.uuid}", "a cell that config.json lists"
            )
        if key in seen:
            raise _flaw(where, f"a second trace of {key[0]}/{key[1]}, after {seen[key]}", "one trace per cell")
        seen[key] = where
        note = _note(trace.evaluation, where)
        unplanned = [entry.block for entry in note.per_block if not 0 <= entry.block < plan.blocks]
        if unplanned:
            raise _flaw(
                where,
                f"block {unplanned[0]} of {key[0]}/{key[1]}",
                f"blocks 0 to {plan.blocks - 1}, as config.json says",
            )
        yield key, (where, note)


def _note(evaluation: Evaluation, where: str) -> CellResult:
    extra = (evaluation.model_extra or {}).get("bakeoff")
    note = validate(extra, CellResult, f"{where}: evaluation.bakeoff")
    if (note.outcome == Outcome.PASSED) != (evaluation.status == "PASSED"):
        raise _flaw(where, f"status {evaluation.status} beside outcome {note.outcome}", "two that agree")
    return note


def _times(notes: dict[tuple[str, str], tuple[str, CellResult]]) -> Iterator[tuple[Any, ...]]:
    """Times of the cells that PASSED, without the blocks in which the cell could not be measured."""
    for (solution, workload), (where, note) in notes.items():
        if note.outcome == Outcome.PASSED:
            for entry in note.per_block:
                if entry.latency_us is not None:
                    yield (
                        *(solution, workload, entry.block, entry.latency_us, entry.reference_us),
                        *(note.tier or "", where),
                    )


def _cell(solution: str, workload: str, notes: dict[tuple[str, str], tuple[str, CellResult]]) -> AnalysedCell:
    if (solution, workload) not in notes:
        return AnalysedCell(solution=solution, workload=workload, outcome=Outcome.NOT_RUN, reason="no_trace")
    note = notes[solution, workload][1]
    return AnalysedCell(
        solution=solution,
        workload=workload,
        outcome=note.outcome,
        reason=note.reason,
        detail=note.detail,
        hint=note.hint,
        published_gate=note.gates.get("published"),
        strict_gate=note.gates.get("strict"),
        numerics=note.numerics,
        discarded=note.discarded,
        missing_tiers=note.missing_tiers,
        warnings=note.warnings,
    )


def _header(
    name: str,
    protocols: list[str],
    plan: Plan,
    notes: dict[tuple[str, str], tuple[str, CellResult]],
    host: Host,
    definition: Definition | None,
) -> RunHeader:
    tiers = sorted({note.tier for _, note in notes.values() if note.tier})
    return RunHeader(
        kind="run",
        id=name,
        title=plan.title,
        backend=plan.backend,
        hardware=environment.hardware(host, plan.backend),
        definition=plan.definition,
        definition_axes=environment.axes(definition),
        dataset="synthetic" if plan.dataset == "synthetic" else "public",
        protocol=protocols[0],
        other_protocols=protocols[1:],
        families=list(plan.families),
        seeds=plan.seeds,
        blocks=plan.blocks,
        timeout_s=plan.timeout_s,
        image=plan.image,
        time_tier=", ".join(tiers) or None,
        **environment.published_tolerances(),
    )


def _participant(who: Any) -> AnalysedParticipant:
    return AnalysedParticipant(
        name=who.name,
        role=who.role,
        label=who.label,
        description=who.description,
        design=who.design,
        digest=who.digest,
        supported=who.supported,
        twin_of=who.twin_of,
        rounding=who.rounding,
    )


def _workload(workload: PlannedWorkload, definition: Definition | None, gpu: str | None) -> AnalysedWorkload:
    stats = workload.stats
    return AnalysedWorkload(
        id=workload.id,
        seq_len=workload.seq_len,
        offset=workload.offset,
        uuid=workload.uuid,
        seed=workload.seed,
        local_pairs=stats.local_pairs,
        active_tokens=stats.active_tokens,
        active_experts=stats.active_experts,
        floor=environment.floor(definition, workload, gpu) if gpu else None,
    )


def _checks(plan: Plan, folder: Path, notes: dict[tuple[str, str], tuple[str, CellResult]], shown: bool) -> list[Check]:
    cells = {f"{solution}/{workload}": note for (solution, workload), (_, note) in notes.items()}
    discarded = [name for name, note in cells.items() if note.discarded]
    tiers = sorted({f"{tier}: {why}" for note in cells.values() for tier, why in note.missing_tiers.items()})
    lone = [
        name
        for name, note in cells.items()
        if note.outcome == Outcome.PASSED
        and any(entry.latency_us is not None and entry.reference_us is None for entry in note.per_block)
    ]
    return [
        Check.over(
            discarded,
            code="samples_disturbed",
            status=("warning" if discarded else "ok") if shown else "not_applicable",
            found=sum(note.discarded for note in cells.values()),
        ),
        Check.over(
            tiers,
            code="tiers_missing",
            status=("warning" if tiers else "ok") if shown else "not_applicable",
            found=len(tiers),
        ),
        Check.over(
            lone,
            code="same_reference",
            status=("failed" if lone else "ok") if shown else "not_applicable",
            found=len(lone),
        ),
    ]


def _verifications(path: Path, plan: Plan) -> list[VerificationSummary]:
    """One entry per solution, family and seed that the plan asks for."""
    found: dict[tuple[str, str, int], dict[str, Verification]] = {}
    for number, line in enumerate(read_bytes(path).split(b"\n"), 1):
        if line.strip():
            entry = parse_json(line, Verification, f"{path}:{number}")
            found.setdefault((entry.solution, entry.family, entry.seed), {})[entry.workload] = entry
    due: dict[tuple[str, str, int], list[str]] = {}
    for cell in plan.cells:
        if cell.participant != "reference":
            workloads = due.setdefault((cell.participant, cell.family, cell.seed), [])
            if cell.workload not in workloads:
                workloads.append(cell.workload)
    return [_verification(key, workloads, found.get(key, {})) for key, workloads in due.items()]


def _verification(key: tuple[str, str, int], due: list[str], found: dict[str, Verification]) -> VerificationSummary:
    passed = [name for name in due if name in found and found[name].outcome == Outcome.PASSED]
    numerics = [found[name].numerics for name in due if name in found]

    def column(name: str) -> list[float]:
        return [getattr(entry, name) for entry in numerics if entry and getattr(entry, name) is not None]

    return VerificationSummary(
        solution=key[0],
        family=key[1],
        seed=key[2],
        due=len(due),
        passed=len(passed),
        failed=[name for name in due if name not in passed],
        wrong=[name for name in due if name in found and found[name].outcome in WRONG],
        worst_relative_l2=max(column("relative_l2"), default=None),
        worst_calc_diff=max(column("calc_diff"), default=None),
        least_matched_active=min(column("matched_ratio_active"), default=None),
        widest_scale=max(column("scale"), key=lambda scale: abs(scale - 1), default=None),
    )


def _builds(folder: Path, plan: Plan, solutions: list[Any], cells: list[AnalysedCell]) -> Iterator[Build]:
    """build.json of every solution and architecture, in the run's order; what ran here is marked so."""
    names = [who.name for who in solutions]
    made = [read_json(path, BuildRecord) for path in sorted(folder.rglob("build.json"))]
    ran = {cell.solution for cell in cells if cell.outcome == Outcome.PASSED}
    for record in sorted(
        (made for made in made if made.solution in names), key=lambda made: (names.index(made.solution), made.arch)
    ):
        yield Build(
            solution=record.solution,
            arch=record.arch,
            status=record.status,
            digest=record.digest,
            executed=record.arch == plan.backend and record.solution in ran,
            kernels=record.kernels,
        )


def _flaw(where: str, found: str, expected: str) -> InputError:
    return InputError(
        where, found=found, expected=expected, hint="run `bakeoff assemble` again; it makes the file from the journals"
    )
