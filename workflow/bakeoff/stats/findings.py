"""Facts for the key findings, apart from their wording: the report's templates hold the words.

Entry points: `facts` (of one run) and `against` (beside another run). A finding is absent where its cells are; one that
names solutions says which of them the run lacks.
"""

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bakeoff.runs.intervals import Floats, block_means
from bakeoff.schema.analysis_figures import Ranked, Winner
from bakeoff.schema.analysis_findings import (
    ConsistencyRow,
    Findings,
    LargeBatchFinding,
    LargeBatchRow,
    PreviousFinding,
    PreviousRow,
    RankingFinding,
    Relation,
    VersionFinding,
    Versions,
)
from bakeoff.schema.analysis_outside import CellComparison, Comparison
from bakeoff.schema.base import Verdict
from bakeoff.stats.figures import Figures
from bakeoff.stats.pairs import EQUAL, log_ratios, overall_ratio
from bakeoff.stats.summaries import count_wins, deviation, geometric_mean
from bakeoff.stats.verdicts import paired

# The benchmark's workloads fall into three groups: decoding batches (80 tokens at most), one of 901, and prefill
# batches.
SMALL_BELOW = 512
LARGE_FROM = 4096


def facts(figures: Figures, won: list[Winner], versions: Versions | None = None) -> Findings:
    """Findings that a run supports by itself; `versions` are the two solutions of the version finding."""
    speedups = np.exp(figures.shared)
    version, lacking = _version(figures, speedups, versions) if versions else (None, None)
    return Findings(
        ranking=_ranking(figures, speedups, won),
        large_batch=_large_batch(figures, speedups),
        version=version,
        not_testable={"version": lacking} if lacking else {},
        consistency=_consistency(figures, speedups),
    )


def _complete(figures: Figures, speedups: Floats) -> tuple[list[int], NDArray[np.bool_]]:
    """Contestants with values, and the workloads (a mask) that all of them have."""
    rows = [row for row in figures.contestants if not np.isnan(speedups[row]).all()]
    missing = np.atleast_1d(np.isnan(speedups[rows]).any(axis=0))
    return rows, ~missing & bool(rows)


def _ranking(figures: Figures, speedups: Floats, won: list[Winner]) -> RankingFinding | None:
    rows, common = _complete(figures, speedups)
    if len(rows) < 2 or not common.any():
        return None
    names = figures.samples.solutions
    means = {row: geometric_mean(speedups[row, common]) for row in rows}
    order = sorted(rows, key=lambda row: -means[row])
    # Two neighbours timed by different clocks have no ratio. The steps after it would stand beside the wrong names.
    ratios = (
        overall_ratio(log_ratios(figures.samples, before, after)[common]) for before, after in itertools.pairwise(order)
    )
    steps = [step for step in itertools.takewhile(lambda step: step is not None, ratios) if step is not None]
    counts = {names[row]: count_wins(names[row], won) for row in rows}
    return RankingFinding(
        order=[Ranked(solution=names[row], value=means[row], rank=place) for place, row in enumerate(order, 1)],
        steps=steps,
        leads={name: count["leads"] for name, count in counts.items()},
        wins={name: count["wins"] for name, count in counts.items()},
        undecided=sum(not winner.supported for winner in won),
    )


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
        small=[workloads[index] for index in np.flatnonzero(small)],
        large=[workloads[index] for index in np.flatnonzero(large)],
        small_below=SMALL_BELOW,
        large_from=LARGE_FROM,
        rows=found,
        leader_small=max(found, key=lambda row: row.small).solution,
        leader_large=max(found, key=lambda row: row.large).solution,
    )


def _version(figures: Figures, speedups: Floats, versions: Versions) -> tuple[VersionFinding, None] | tuple[None, str]:
    """The later version against the earlier one, or what the run lacks for it."""
    names = figures.samples.solutions
    absent = [name for name in (versions.new, versions.old) if name not in names]
    if absent:
        return None, f"solution {absent[0]} is not in this run"
    new, old = names.index(versions.new), names.index(versions.old)
    logs = log_ratios(figures.samples, new, old)
    both = ~np.isnan(speedups[new]) & ~np.isnan(speedups[old])
    ratio = overall_ratio(logs)
    if ratio is None or not both.any():
        return None, f"a workload on which {versions.new} and {versions.old} both have a value of one clock"
    gain, verdicts = block_means(logs).mean, paired(logs).verdicts
    found = VersionFinding(
        new=versions.new,
        old=versions.old,
        ratio=ratio,
        mean_ratio=float(speedups[new, both].mean() / speedups[old, both].mean()),
        ahead=int((gain > 0).sum()),
        behind=int((gain < 0).sum()),
        workloads=int(both.sum()),
        faster=sum(one is not None and one.direction > 0 for one in verdicts),
        clearly_faster=verdicts.count(Verdict.FASTER_2_PERCENT),
        slower=sum(one is not None and one.direction < 0 for one in verdicts),
        std_new=deviation(speedups[new, both]),
        std_old=deviation(speedups[old, both]),
    )
    return found, None


def _consistency(figures: Figures, speedups: Floats) -> list[ConsistencyRow]:
    rows, common = _complete(figures, speedups)
    if common.sum() < 2:
        return []
    found = []
    for row in rows:
        values = speedups[row, common]
        mean = values.mean()
        found.append(
            ConsistencyRow(
                solution=figures.samples.solutions[row],
                cv_sample=float(values.std(ddof=1) / mean),
                cv_population=float(values.std() / mean),
                spread=float(values.max() / values.min()),
            )
        )
    return sorted(found, key=lambda row: row.cv_sample)


def against(comparison: Comparison, relation: Relation, contestants: Sequence[str]) -> PreviousFinding:
    """What changed between two runs, from their comparable cells; rows are empty where there are none."""
    cells = [cell for cell in comparison.cells if cell.verdict != "NOT COMPARABLE" and cell.ratio is not None]
    solutions = [name for name in contestants if any(cell.solution == name for cell in cells)]
    reasons = comparison.not_comparable or sorted({why for cell in comparison.cells for why in cell.reasons})
    return PreviousFinding(
        id=comparison.old,
        relation=relation,
        comparable=bool(cells),
        reasons=[] if cells else reasons,
        rows=[_previous_row(name, [cell for cell in cells if cell.solution == name]) for name in solutions],
        flipped=_flipped(
            [cell for cell in cells if cell.solution in contestants], 1 if comparison.rule == "published" else -1
        ),
    )


def _previous_row(solution: str, cells: Sequence[CellComparison]) -> PreviousRow:
    ratios = np.array([cell.ratio.value for cell in cells if cell.ratio])
    kept = sum(cell.verdict in ("REPRODUCED", "SAME") for cell in cells)
    moved = sum(cell.verdict in ("DIFFERS", "FASTER", "SLOWER") for cell in cells)
    return PreviousRow(
        solution=solution,
        workloads=len(cells),
        ratio=geometric_mean(ratios),
        least=float(ratios.min()),
        greatest=float(ratios.max()),
        reproduced=kept,
        differs=moved,
    )


def _flipped(cells: Sequence[CellComparison], power: int) -> list[str]:
    """Workloads whose leader changed among the contestants that both runs have there. power: 1 for speedups, -1 for
    times."""
    rows: dict[str, list[tuple[float, float]]] = {}
    for cell in cells:
        if cell.old is not None and cell.new is not None:
            rows.setdefault(cell.workload, []).append((cell.old**power, cell.new**power))
    return [workload for workload, pairs in rows.items() if not _shared_leader(np.array(pairs))]


def _shared_leader(pairs: Floats) -> bool:
    """Whether one row of (old, new) is highest in both columns; equal values lead together."""
    return bool((pairs >= pairs.max(axis=0) * (1 - EQUAL)).all(axis=1).any())
