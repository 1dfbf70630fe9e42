"""Facts for the key findings, apart from their wording: the report's templates hold the words.

Entry points: `facts` (of one run) and `against` (beside another run). A finding is absent where its cells are.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from bakeoff.stats.intervals import Floats, block_means
from bakeoff.stats.model import (
    Analysis,
    Comparison,
    ConsistencyFinding,
    ConsistencyRow,
    Findings,
    LargeBatchFinding,
    LargeBatchRow,
    PreviousFinding,
    PreviousRow,
    Ranked,
    RankingFinding,
    Verdict,
    VersionFinding,
    Winner,
)
from bakeoff.stats.pairs import overall_ratio
from bakeoff.stats.summaries import count_wins, geometric_mean
from bakeoff.stats.verdicts import paired

if TYPE_CHECKING:
    from bakeoff.stats.analyse import Figures

# The benchmark's workloads fall into three groups: decoding batches (80 tokens at most), one of 901, and prefill batches.
SMALL_BELOW = 512
LARGE_FROM = 4096
NEW, OLD = "cutedsl_moe_fp8_v3_2", "cutedsl_moe_fp8_v3"


def facts(figures: Figures, won: list[Winner]) -> Findings:
    """Findings that a run supports by itself."""
    speedups = np.exp(figures.speedup.value)
    return Findings(
        ranking=_ranking(figures, speedups, won),
        large_batch=_large_batch(figures, speedups),
        version=_version(figures, speedups),
        consistency=_consistency(figures, speedups),
    )


def _complete(figures: Figures, speedups: Floats) -> tuple[list[int], Floats]:
    """Contestants with values, and the workloads (a mask) that all of them have."""
    rows = [row for row in figures.contestants if not np.isnan(speedups[row]).all()]
    return rows, ~np.isnan(speedups[rows]).any(axis=0) if rows else np.zeros(speedups.shape[1], bool)


def _ranking(figures: Figures, speedups: Floats, won: list[Winner]) -> RankingFinding | None:
    rows, common = _complete(figures, speedups)
    if len(rows) < 2 or not common.any():
        return None
    names, logs = figures.samples.solutions, figures.samples.log_time[:, common]
    means = {row: geometric_mean(speedups[row, common]) for row in rows}
    order = sorted(rows, key=lambda row: -means[row])
    steps = [overall_ratio(logs[after] - logs[before]) for before, after in itertools.pairwise(order)]
    counts = {names[row]: count_wins(names[row], won) for row in rows}
    return RankingFinding(
        order=[Ranked(solution=names[row], value=means[row], rank=place) for place, row in enumerate(order, 1)],
        steps=[step for step in steps if step is not None],
        leads={name: count["leads"] for name, count in counts.items()},
        wins={name: count["wins"] for name, count in counts.items()},
        undecided=sum(not winner.supported for winner in won),
    )  # fmt: skip


def _large_batch(figures: Figures, speedups: Floats) -> LargeBatchFinding | None:
    rows, common = _complete(figures, speedups)
    sizes = figures.seq_lens
    small, large = common & (sizes < SMALL_BELOW), common & (sizes >= LARGE_FROM)
    if not rows or not small.any() or not large.any():
        return None
    names, workloads = figures.samples.solutions, figures.samples.workloads
    parts = [(names[row], geometric_mean(speedups[row, small]), geometric_mean(speedups[row, large])) for row in rows]
    found = [LargeBatchRow(solution=name, small=few, large=many, kept=many / few) for name, few, many in parts]
    return LargeBatchFinding(
        small=[workloads[index] for index in np.flatnonzero(small)], large=[workloads[index] for index in np.flatnonzero(large)],
        small_below=SMALL_BELOW, large_from=LARGE_FROM, rows=found,
        leader_small=max(found, key=lambda row: row.small).solution, leader_large=max(found, key=lambda row: row.large).solution,
    )  # fmt: skip


def _version(figures: Figures, speedups: Floats) -> VersionFinding | None:
    names = figures.samples.solutions
    if NEW not in names or OLD not in names:
        return None
    new, old = names.index(NEW), names.index(OLD)
    logs = figures.samples.log_time[old] - figures.samples.log_time[new]
    both = ~np.isnan(speedups[new]) & ~np.isnan(speedups[old])
    ratio = overall_ratio(logs)
    if ratio is None or not both.any():
        return None
    gain, verdicts = block_means(logs).mean, paired(logs).verdicts
    return VersionFinding(
        new=NEW, old=OLD, ratio=ratio, mean_ratio=float(speedups[new, both].mean() / speedups[old, both].mean()),
        ahead=int((gain > 0).sum()), behind=int((gain < 0).sum()), workloads=int(both.sum()),
        faster=verdicts.count(Verdict.FASTER), slower=verdicts.count(Verdict.SLOWER),
        std_new=_std(speedups[new, both]), std_old=_std(speedups[old, both]),
    )  # fmt: skip


def _std(values: Floats) -> float | None:
    return float(values.std(ddof=1)) if len(values) > 1 else None


def _consistency(figures: Figures, speedups: Floats) -> ConsistencyFinding | None:
    rows, common = _complete(figures, speedups)
    if common.sum() < 2:
        return None
    found = []
    for row in rows:
        values = speedups[row, common]
        mean = values.mean()
        found.append(ConsistencyRow(
            solution=figures.samples.solutions[row], cv_sample=float(values.std(ddof=1) / mean),
            cv_population=float(values.std() / mean), spread=float(values.max() / values.min()),
        ))  # fmt: skip
    return ConsistencyFinding(rows=sorted(found, key=lambda row: row.cv_sample))


def against(new: Analysis, old: Analysis, relation: str, comparison: Comparison) -> PreviousFinding:
    """What changed between two runs; rows are empty where they cannot be compared."""
    pairs = {
        (cell.solution, cell.workload): cell
        for cell in comparison.cells
        if cell.verdict != "NOT COMPARABLE" and cell.ratio is not None
    }
    solutions = [who.name for who in new.participants if any(name == who.name for name, _ in pairs)]
    reasons = comparison.not_comparable or ([] if pairs else ["missing"])
    return PreviousFinding(
        id=old.run.id, relation=relation, comparable=bool(pairs), reasons=reasons,  # type: ignore[arg-type]
        rows=[_previous_row(name, [cell for (who, _), cell in pairs.items() if who == name]) for name in solutions],
        flipped=_flipped(new, old, sorted({workload for _, workload in pairs})),
    )  # fmt: skip


def _previous_row(solution: str, cells: Sequence) -> PreviousRow:
    ratios = np.array([cell.ratio.value for cell in cells])
    kept = sum(cell.verdict in ("REPRODUCED", "SAME") for cell in cells)
    moved = sum(cell.verdict in ("DIFFERS", "FASTER", "SLOWER") for cell in cells)
    return PreviousRow(
        solution=solution, workloads=len(cells), ratio=geometric_mean(ratios), least=float(ratios.min()),
        greatest=float(ratios.max()), reproduced=kept, differs=moved,
    )  # fmt: skip


def _flipped(new: Analysis, old: Analysis, workloads: Sequence[str]) -> list[str]:
    """Workloads whose leader changed among the contestants with a value on both sides, in the new run's order."""
    sides = [_speedups(new), _speedups(old)]
    contestants = [who.name for who in new.participants if who.role == "contestant"]
    flipped = []
    for workload in (entry.id for entry in new.workloads if entry.id in workloads):
        names = [name for name in contestants if all((name, workload) in side for side in sides)]
        leaders = {max(names, key=lambda name: side[name, workload]) for side in sides if names}
        if len(leaders) > 1:
            flipped.append(workload)
    return flipped


def _speedups(analysis: Analysis) -> dict[tuple[str, str], float]:
    return {(cell.solution, cell.workload): cell.speedup.value for cell in analysis.cells if cell.speedup}
