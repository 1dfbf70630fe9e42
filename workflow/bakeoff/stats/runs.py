"""A run folder, read for analysis: its samples, config.json, and what else the run has.

Entry point: `load_run`. Nothing is written. A planned cell that no journal holds is NOT_RUN.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd

from bakeoff.core.confine import WALLS
from bakeoff.files import read_json
from bakeoff.planned import read_plan
from bakeoff.profile import section as profile
from bakeoff.runs.journal import block_folder
from bakeoff.runs.published import yardstick
from bakeoff.runs.table import Journals
from bakeoff.schema.analysis_run import (
    AnalysedCell,
    AnalysedWorkload,
    Build,
    Check,
    Fact,
    RunHeader,
    VerificationSummary,
)
from bakeoff.schema.build import BuildRecord
from bakeoff.schema.host import Host
from bakeoff.schema.outcomes import Outcome
from bakeoff.schema.plan import Plan, PlannedWorkload
from bakeoff.schema.sample import CellResult, Manifest
from bakeoff.stats import environment
from bakeoff.stats.rundata import WRONG, OtherRun, RunData
from bakeoff.traces.models import Definition

Results = Mapping[tuple[str, str], CellResult]


def load_run(folder: Path, protocol: str | None = None, journals: Journals | None = None) -> RunData:
    """Read a run's folder; `protocol` picks the times of one of its protocols (default: the first). journals: those of
    the folder, where they were read before."""
    plan = journals.plan if journals else read_plan(folder)
    journals = journals or Journals.read(folder, plan)
    chosen = protocol or plan.protocols[0]
    measured = {name for name in plan.protocols if len(journals.measured(name))}
    manifests = _manifests(folder, plan)
    others = [name for name in plan.protocols if name != chosen and name in measured]
    results, host, shown = journals.results(chosen), read_json(folder / "host.json", Host), plan.backend != "cpu"
    cells = [_cell(who.name, what.id, results) for who in plan.solutions for what in plan.workloads]
    definition, gpu = environment.definition(plan), environment.hardware(host, plan.backend) if shown else None
    return RunData(
        header=_header(folder.resolve().name, [chosen, *others], plan, results, host, definition),
        participants=[who.model_copy(update={"build": None, "stages": []}) for who in plan.solutions],
        workloads=[_workload(workload, definition, gpu) for workload in plan.workloads],
        cells=cells,
        samples=journals.samples(chosen),
        provenance=[*environment.facts(host), *environment.plan_facts(plan), *_walls(manifests)],
        checks=_checks(results, shown),
        performance_shown=shown,
        verifications=_verifications(journals),
        gate_power=environment.read_gate_power(folder / "gate_power.json"),
        builds=list(_builds(folder / "build", plan, cells)),
        beside=[OtherRun(yardstick().id, "published")],
        profiles=profile.load(folder, plan),
        workload_digests={workload.id: workload.digest for workload in plan.workloads},
        journals=journals,
        block_gpus={block: one.gpu for block, one in manifests.items() if one.gpu} if shown else {},
        gpus=frozenset(gpu.uuid for gpu in host.gpus) if shown else frozenset(),
    )


def _manifests(folder: Path, plan: Plan) -> dict[int, Manifest]:
    paths = {block: block_folder(folder, block) / "manifest.json" for block in range(plan.blocks)}
    return {block: read_json(path, Manifest) for block, path in paths.items() if path.is_file()}


def _walls(manifests: dict[int, Manifest]) -> list[Fact]:
    """The walls around solutions that stood in every block; nothing of an older run, which did not record them."""
    stood = [found.walls for found in manifests.values()]
    if not stood or None in stood:
        return []
    standing = [wall for wall in WALLS if all(wall in walls for walls in stood if walls is not None)]
    open_ = [wall for wall in WALLS if wall not in standing]
    text = ", ".join(standing) or "none"
    return [
        Fact(group="run", key="walls around solutions", value=f"{text}; missing: {', '.join(open_)}" if open_ else text)
    ]


def _cell(solution: str, workload: str, results: Results) -> AnalysedCell:
    found = results.get((solution, workload))
    if found is None:
        return AnalysedCell(solution=solution, workload=workload, outcome=Outcome.NOT_RUN, reason="no_sample")
    return AnalysedCell(
        solution=solution,
        workload=workload,
        published_gate=found.gates.get("published"),
        strict_gate=found.gates.get("strict"),
        **{name: getattr(found, name) for name in ("outcome", "reason", "detail", "hint", "numerics", "discarded")},
        missing_tiers=found.missing_tiers,
        warnings=found.warnings,
    )


def _header(
    name: str, protocols: list[str], plan: Plan, results: Results, host: Host, definition: Definition | None
) -> RunHeader:
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
        blocks=plan.blocks_each,
        timeout_s=plan.timeout_s,
        image=plan.image,
        time_tier=", ".join(sorted({found.tier for found in results.values() if found.tier})) or None,
        **environment.published_tolerances(),
    )


def _workload(workload: PlannedWorkload, definition: Definition | None, gpu: str | None) -> AnalysedWorkload:
    return AnalysedWorkload(
        **{name: getattr(workload, name) for name in ("id", "seq_len", "offset", "uuid", "seed")},
        **asdict(workload.stats),
        **(environment.floor(definition, workload, gpu) if gpu else {}),
    )


def _checks(results: Results, shown: bool) -> list[Check]:
    cells = {"/".join(place): found for place, found in results.items()}
    lone = [
        name
        for name, found in cells.items()
        if found.outcome == Outcome.PASSED
        and any(entry.latency_us is not None and entry.reference_us is None for entry in found.per_block)
    ]
    discarded = [name for name, found in cells.items() if found.discarded]
    tiers = sorted({f"{tier}: {why}" for found in cells.values() for tier, why in found.missing_tiers.items()})
    counts = sum(found.discarded for found in cells.values()), len(tiers), len(lone)
    codes = (("samples_disturbed", "warning"), ("tiers_missing", "warning"), ("same_reference", "failed"))
    return [
        Check.over(items, code=code, status=(bad if items else "ok") if shown else "not_applicable", found=count)
        for (code, bad), items, count in zip(codes, (discarded, tiers, lone), counts, strict=True)
    ]


def _verifications(journals: Journals) -> list[VerificationSummary]:
    """One entry per solution, family and seed that the plan asks for."""
    plan, checks = journals.plan, journals.checks()
    places = list(dict.fromkeys((c.participant, c.family, c.seed) for c in plan.cells if c.participant != "reference"))
    groups = dict(list(checks.groupby(["participant", "family", "seed"], sort=False))) if len(checks) else {}
    ids = [what.id for what in plan.workloads]
    found = []
    for place in places:
        rows = groups.get(place, checks.iloc[:0]).set_index("workload").reindex(ids)
        far = (rows["scale"] - 1).abs()
        figures = (
            rows["relative_l2"].max(),
            rows["calc_diff"].max(),
            rows["matched_ratio_active"].min(),
            np.nan if far.isna().all() else rows.loc[far.idxmax(), "scale"],
        )
        passed, wrong = rows["outcome"] == Outcome.PASSED, rows["outcome"].isin(WRONG)
        found.append(
            VerificationSummary(
                *place,
                len(ids),
                int(passed.sum()),
                rows.index[~passed].tolist(),
                rows.index[wrong].tolist(),
                *(None if pd.isna(value) else float(value) for value in figures),
            )
        )
    return found


def _builds(folder: Path, plan: Plan, cells: list[AnalysedCell]) -> Iterator[Build]:
    """build.json of every solution and architecture, in the run's order; what ran here is marked so."""
    names = [who.name for who in plan.solutions]
    made = [read_json(path, BuildRecord) for path in sorted(folder.rglob("build.json"))]
    ran = {cell.solution for cell in cells if cell.outcome == Outcome.PASSED}
    known = (record for record in made if record.solution in names)
    for record in sorted(known, key=lambda record: (names.index(record.solution), record.arch)):
        yield Build(
            executed=record.arch == plan.backend and record.solution in ran,
            **{name: getattr(record, name) for name in ("solution", "arch", "status", "digest", "kernels")},
        )
