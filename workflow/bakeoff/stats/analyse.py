"""From a run's data to the analysis document.

Entry points: `analyse` (pure: the same data give the same document) and `other_protocol`. Comparisons with other runs
and the audit are added by the caller, who reads their files (`verbs`).
"""

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np

from bakeoff.runs.published import yardstick
from bakeoff.schema.analysis import Analysis
from bakeoff.schema.analysis_figures import Pair, ProfileCurve, ProtocolSummary, RankStability, Summary, Winner
from bakeoff.schema.analysis_run import AnalysedCell, AnalysedWorkload, Check, Status
from bakeoff.schema.profile import ProfileSection
from bakeoff.stats import findings
from bakeoff.stats.explanations import explanations_of
from bakeoff.stats.figures import Figures
from bakeoff.stats.pairs import (
    MOST,
    anchors_of,
    estimate_at,
    fastest_first,
    number,
    over_shared_blocks,
    overall_ratio,
    pair_model,
)
from bakeoff.stats.protocols import protocol_summary
from bakeoff.stats.rundata import RunData
from bakeoff.stats.summaries import count_wins, performance_profile, rank_stability, summarize
from bakeoff.stats.verdicts import BLOCKS


def analyse(data: RunData) -> Analysis:
    """The document of a run or published table, without comparisons and audit."""
    figures = Figures.of(data) if data.performance_shown else None
    won = figures.won if figures else []
    shown = _shown(data, figures)
    pairs = _pairs(data, figures) if figures else []
    return Analysis(
        run=data.header,
        performance_shown=data.performance_shown,
        validity=[*_completeness(data), *_twins(data, pairs), *data.checks],
        provenance=data.provenance,
        participants=data.participants,
        shown=shown,
        anchors=_anchors(data, fastest_first(figures.samples))
        if figures and (shown or data.selection)
        else data.anchors,
        selection=data.selection,
        workloads=_workloads(data, figures),
        cells=_cells(data, figures),
        verifications=data.verifications,
        summaries=_summaries(data, figures, won),
        winners=won,
        pairs=pairs,
        rank_stability=_ranks(figures, shown),
        profile=_performance_profile(data, figures) if figures else [],
        findings=findings.facts(figures, won, yardstick().versions) if figures else findings.Findings(),
        gate_power=data.gate_power,
        builds=data.builds,
        profiles=_profiles(data, figures),
    )


def other_protocol(first: RunData, data: RunData) -> ProtocolSummary:
    """What stands beside a run's figures from another of its protocols. first: under the run's first one."""
    figures = Figures.of(data)
    return protocol_summary(first, Figures.of(first), data, figures, _summaries(data, figures, figures.won))


def _profiles(data: RunData, figures: Figures | None) -> ProfileSection | None:
    """Where the time goes, with the published explanations tested against the speedups of this run."""
    if data.profiles is None:
        return None
    found: dict[tuple[str, str], float] = {}
    if figures is not None:
        cells = zip(
            product(figures.samples.solutions, figures.samples.workloads),
            np.exp(figures.cells.speedup.value).flat,
            strict=True,
        )
        found = {key: float(speedup) for key, speedup in cells if not np.isnan(speedup)}
    sizes = {one.id: {"seq_len": one.seq_len, "local_pairs": one.local_pairs or 0} for one in data.workloads}
    solutions = [who.name for who in data.participants]
    tested = explanations_of(data.profiles, sizes, solutions, found, yardstick().folder)
    return data.profiles.model_copy(update={"explanations": tested})


def _cells(data: RunData, figures: Figures | None) -> list[AnalysedCell]:
    """The cells with their figures; a cell that did not pass has none."""
    if figures is None:
        return [
            cell.model_copy(update={"blocks": count}) for cell, count in zip(data.cells, _blocks(data), strict=True)
        ]
    rows = {name: row for row, name in enumerate(figures.samples.solutions)}
    columns = {name: column for column, name in enumerate(figures.samples.workloads)}
    return [_cell(cell, rows[cell.solution], columns[cell.workload], data, figures) for cell in data.cells]


def _cell(cell: AnalysedCell, row: int, column: int, data: RunData, figures: Figures) -> AnalysedCell:
    samples = figures.samples
    present = ~np.isnan(samples.log_time[row, column])
    if not present.any():
        return cell
    winner, here = figures.won[column], samples.solutions[row]
    against = next((name for name in (winner.leader, winner.runner_up) if name and name != here), None)
    latency = estimate_at(figures.cells.latency, row, column) if samples.times_known else None
    floor_us = data.workloads[column].floor_us
    return cell.model_copy(
        update={
            "latency_us": latency,
            "median_us": estimate_at(figures.cells.median, row, column) if samples.times_known else None,
            "block_us": np.exp(samples.log_time[row, column][present]).tolist() if samples.times_known else [],
            "speedup": estimate_at(figures.cells.speedup, row, column),
            "busy_speedup": estimate_at(figures.busy_speedup, row, column),
            "host_us": number(np.exp(figures.host[row, column])),
            "blocks": int(figures.cells.blocks[row, column]),
            "mde": figures.duels.mde(row, samples.solutions.index(against), column) if against else None,
            "mde_against": against,
            "outlier_blocks": [samples.blocks[index] for index in np.flatnonzero(figures.outliers[row, column])],
            "floor_share": floor_us / latency.value if latency and floor_us else None,
        }
    )


def _workloads(data: RunData, figures: Figures | None) -> list[AnalysedWorkload]:
    """The workloads with the reference's latency, as it stands beside the first of the solutions with most blocks."""
    if figures is None or not data.samples.times_known:
        return data.workloads
    fullest = (~np.isnan(data.samples.log_reference)).sum(axis=2).argmax(axis=0)
    return [
        workload.model_copy(update={"reference_us": estimate_at(figures.cells.reference, fullest[column], column)})
        for column, workload in enumerate(data.workloads)
    ]


def _summaries(data: RunData, figures: Figures | None, won: list[Winner]) -> list[Summary]:
    return [_summary(row, data, figures, won) for row in range(len(data.participants))]


def _summary(row: int, data: RunData, figures: Figures | None, won: list[Winner]) -> Summary:
    who, workloads = data.participants[row], [workload.id for workload in data.workloads]
    passed = sum(cell.outcome == "PASSED" for cell in data.cells if cell.solution == who.name)
    if figures is None:
        return Summary(solution=who.name, cells=0, due=len(workloads), passed=passed)
    samples, speedups = figures.samples, np.exp(figures.cells.speedup.value[row])
    total = np.exp(figures.cells.latency.value[row]).sum() if samples.times_known else np.nan
    summary = summarize(
        who.name, speedups, samples.log_speedup[row], workloads, passed=passed, total_latency_us=number(total)
    )
    mix = data.journals.plan.mix if data.journals else {}
    weights = np.array([mix.get(workload, 0.0) for workload in workloads])
    if weights.any():
        latencies = np.exp(figures.cells.latency.value[row])
        mean = np.where(weights > 0, weights * latencies, 0.0).sum() / weights.sum()
        summary = summary.model_copy(update={"mix_latency_us": number(mean)})
    counts = figures.cells.blocks[row]
    least = int(counts[counts > 0].min(initial=data.header.blocks))
    summary = summary.model_copy(update={"blocks": least, "busy_geometric_mean": overall_ratio(figures.busy[row])})
    return summary.model_copy(update=count_wins(who.name, won)) if who.role == "contestant" else summary


def _shown(data: RunData, figures: Figures | None) -> list[str]:
    """Of many solutions those that a page shows; without figures, of which none leads, the contestants or the first."""
    names = data.samples.solutions
    if len(names) <= MOST:
        return []
    lead = fastest_first(figures.samples) if figures else list(range(len(names)))
    kept = {*(names[row] for row in lead[: data.leading]), *_anchors(data, lead)}
    return [who.name for who in data.participants if who.name in kept or who.twin_of in kept]


def _anchors(data: RunData, lead: Sequence[int]) -> list[str]:
    """What all others are compared with. lead: all solutions, fastest first."""
    names = data.samples.solutions
    rows = anchors_of(lead, [names.index(name) for name in data.contestants])
    return data.anchors or [names[row] for row in sorted(rows)]


def _ranks(figures: Figures | None, shown: list[str]) -> RankStability | None:
    """Under every baseline: of many contestants those that are shown, since these orders grow with their square."""
    if figures is None:
        return None
    samples = figures.samples
    rows = [row for row in figures.contestants if not shown or samples.solutions[row] in shown]
    names = [samples.solutions[row] for row in rows]
    latencies = np.exp(over_shared_blocks(samples, rows, samples.log_time)[rows]) if samples.times_known else None
    return rank_stability(names, np.exp(figures.shared[rows]), latencies)


def _originals(data: RunData) -> dict[str, str]:
    return {who.name: who.twin_of for who in data.participants if who.twin_of}


def _pairs(data: RunData, figures: Figures) -> list[Pair]:
    """Every two solutions. A twin meets its original alone: against all others it would only say the same again."""
    originals, names = _originals(data), data.samples.solutions
    met = [
        pair
        for pair in figures.pairs
        for a, b in [(names[pair.a], names[pair.b])]
        if (a not in originals and b not in originals) or originals.get(a) == b or originals.get(b) == a
    ]
    return [pair_model(data.samples, pair, figures.outliers) for pair in met]


def _performance_profile(data: RunData, figures: Figures) -> list[ProfileCurve]:
    """Without twins, which would share the first place with their originals by chance."""
    originals, names = _originals(data), data.samples.solutions
    rows = [row for row, name in enumerate(names) if name not in originals]
    return performance_profile(
        [names[row] for row in rows], np.exp(over_shared_blocks(data.samples, rows, data.samples.log_speedup)[rows])
    )


def _twins(data: RunData, pairs: list[Pair]) -> list[Check]:
    """What the rules make of pure noise: a solution under two names must not be told apart."""
    originals = _originals(data)
    verdicts = [
        (pair.a, each) for pair in pairs if pair.a in originals or pair.b in originals for each in pair.verdicts
    ]
    if not verdicts:
        return []
    told = [f"{name}/{each.workload}" for name, each in verdicts if each.verdict and each.verdict.direction]
    return [Check.over(told, code="twins_same", status="warning" if told else "ok", found=len(told), of=len(verdicts))]


def _gate_power(data: RunData) -> list[Check]:
    """The strict gate has to kill nearly every wrong output, and no right one."""
    power = data.gate_power
    if power is None:
        return []
    status: Status = "ok" if power.sufficient else "failed"
    return [Check(code="gate_power", status=status, found=power.killed_strict, of=power.counted)]


def _completeness(data: RunData) -> list[Check]:
    """Conditions that every run has to meet, from its cells. A solution that declares no such backend owes none."""
    absent = {who.name for who in data.participants if not who.supported}
    due = [cell for cell in data.cells if cell.solution not in absent]
    missing = [f"{cell.solution}/{cell.workload}" for cell in due if cell.outcome == "NOT_RUN"]
    failed = [f"{cell.solution}/{cell.workload}" for cell in due if cell.outcome not in ("PASSED", "NOT_RUN")]
    passed = len(due) - len(missing) - len(failed)
    sampled = ~np.isnan(data.samples.log_time).all(axis=(0, 1))
    blocks = int(sampled.sum()) if data.performance_shown else 0
    decided: Status = ("ok" if blocks >= BLOCKS else "warning") if data.performance_shown else "not_applicable"
    return [
        _all_good("cells_complete", missing, len(due) - len(missing), len(due)),
        _all_good("cells_passed", failed, passed, len(due)),
        *_verified(data),
        *_gate_power(data),
        Check(code="blocks_enough", status=decided, found=blocks, of=BLOCKS),
        *_blocks_complete(data),
    ]


def _blocks(data: RunData) -> list[int]:
    """Blocks with a time, of each of the data's cells."""
    samples = data.samples
    found = (~np.isnan(samples.log_time)).sum(axis=2)
    places = ((samples.solutions.index(cell.solution), samples.workloads.index(cell.workload)) for cell in data.cells)
    return [int(found[place]) for place in places]


def _blocks_complete(data: RunData) -> list[Check]:
    """Cells with figures from fewer blocks than planned; no condition of a run in which none is missing."""
    counts = {f"{cell.solution}/{cell.workload}": count for cell, count in zip(data.cells, _blocks(data), strict=True)}
    measured = {name: count for name, count in counts.items() if count}
    short = [name for name, count in measured.items() if count < data.header.blocks]
    if not short:
        return []
    whole = len(measured) - len(short)
    return [Check.over(short, code="blocks_complete", status="warning", found=whole, of=len(measured))]


def _verified(data: RunData) -> list[Check]:
    """The other value families and seeds: outputs that were judged and not timed."""
    absent = {who.name for who in data.participants if not who.supported}
    due = [entry for entry in data.verifications if entry.solution not in absent]
    if not due:
        return []
    failed = [
        f"{entry.solution}/{workload} ({entry.family}, seed {entry.seed})" for entry in due for workload in entry.failed
    ]
    total = sum(entry.due for entry in due)
    return [_all_good("verifications_passed", failed, total - len(failed), total)]


def _all_good(code: Any, bad: list[str], found: int, of: int) -> Check:
    return Check.over(bad, code=code, status="failed" if bad else "ok", found=found, of=of)
