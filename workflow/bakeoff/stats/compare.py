"""A run against a published table, or against an earlier run, cell by cell.

Entry points: `Side.of`, `compare`, `between_runs`. The rules are docs/statistics.md, "Against the published run" and
"Between two runs".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import special

from bakeoff.runs.intervals import LEVEL, Floats, block_means
from bakeoff.schema.analysis_outside import CellComparison, Comparison
from bakeoff.schema.base import Estimate, Verdict
from bakeoff.stats.pairs import ratio_estimate
from bakeoff.stats.rundata import WRONG, RunData
from bakeoff.stats.verdicts import Decision, unpaired

Key = tuple[str, str]


@dataclass(frozen=True)
class Between:
    """How much a published cell moves between two runs: root mean square of log(run / other run), and over how many
    cells."""

    sd: float
    cells: int


def between_runs(first: RunData, second: RunData) -> Between:
    """The scatter between two published runs, from all cells that both have."""
    ours, theirs = _published_logs(first), _published_logs(second)
    moved = np.array([ours[key] - theirs[key] for key in ours if key in theirs])
    if len(moved) < 2:
        raise ValueError(
            f"{first.header.id} and {second.header.id} share {len(moved)} cells; the scatter needs at least 2"
        )
    return Between(sd=float(np.sqrt((moved**2).mean())), cells=len(moved))


def compare(old: RunData, new: RunData, between: Between | None = None) -> Comparison:
    """Every cell of the older run against the newer; `between` is needed where one of them is published."""
    published = "published" in (old.header.kind, new.header.kind)
    if published and between is None:
        raise ValueError("a comparison with a published table needs the scatter between published runs")
    reasons = _reasons(old, new)
    cells = _against_published(old, new, between, reasons) if published and between else _against_run(old, new, reasons)
    counts = Counter(cell.verdict for cell in cells)
    supported = [f"{cell.solution}/{cell.workload}" for cell in cells if _regressed(cell)]
    return Comparison(
        old=old.header.id,
        new=new.header.id,
        rule="published" if published else "runs",
        not_comparable=reasons,
        between_run_sd=between.sd if published and between else None,
        between_run_cells=between.cells if published and between else None,
        counts=dict(sorted(counts.items())),
        regressions=supported,
        wrong=wrong_outputs(new),
        cells=cells,
    )


def wrong_outputs(data: RunData) -> list[str]:
    """Cells with a wrong output, then the verifications of other values in which a cell that passed itself has one."""
    timed = [f"{cell.solution}/{cell.workload}" for cell in data.cells if cell.outcome in WRONG]
    others = [
        (f"{entry.solution}/{workload}", f" ({entry.family}, seed {entry.seed})")
        for entry in data.verifications
        for workload in entry.wrong
    ]
    return timed + [name + values for name, values in others if name not in timed]


def _reasons(old: RunData, new: RunData) -> list[str]:
    """What differs between the runs as a whole, so that no cell can be compared."""
    a, b = old.header, new.header
    different = {
        "performance": not (old.performance_shown and new.performance_shown),
        "device": a.backend != b.backend or a.hardware is None or a.hardware != b.hardware,
        "protocol": a.protocol is None or a.protocol != b.protocol,
        "inputs": a.dataset is None
        or a.dataset != b.dataset
        or a.definition != b.definition
        or any(workload.offset is None for side in (old, new) for workload in side.workloads),
    }
    return [reason for reason, found in different.items() if found]


def _published_logs(data: RunData) -> dict[Key, float]:
    """Log speedups of a published table."""
    return {
        key: float(value)
        for key, value in zip(_keys(data), data.samples.log_speedup[:, :, 0].ravel(), strict=True)
        if not np.isnan(value)
    }


def _keys(data: RunData) -> list[Key]:
    return [(solution, workload) for solution in data.samples.solutions for workload in data.samples.workloads]


@dataclass(frozen=True)
class Side:
    """One run's block log speedups, their means, and log latencies; rows in the order of the cells compared, NaN where
    it has none."""

    speedup: Floats
    level: Floats
    latency: Floats
    outcome: list[str | None]
    clock: list[str]
    """Which time it is; of another one neither latency nor speedup is compared."""

    @classmethod
    def of(cls, data: RunData, keys: Sequence[Key]) -> Side:
        place = {key: number for number, key in enumerate(_keys(data))}
        outcomes = {(cell.solution, cell.workload): cell.outcome for cell in data.cells}
        blank = np.full((1, len(data.samples.blocks)), np.nan)
        # Times of a run whose performance is not shown stay unseen; -1 is the blank row put at the end.
        rows = [place.get(key, -1) if data.performance_shown else -1 for key in keys]
        speedup = np.concatenate([data.samples.log_speedup.reshape(len(place), -1), blank])[rows]
        latency = np.concatenate([data.samples.log_time.reshape(len(place), -1), blank])[rows]
        clocks = dict(zip(place, data.samples.tier.ravel().tolist(), strict=True))
        return cls(
            speedup,
            block_means(speedup).mean,
            latency,
            [outcomes.get(key) for key in keys],
            [clocks.get(key, "") for key in keys],
        )

    def lacks(self, row: int) -> str | None:
        """Why there is no figure: `missing`, or `failed`; None if there is one."""
        if not np.isnan(self.speedup[row]).all():
            return None
        return "missing" if self.outcome[row] in (None, "NOT_RUN", "PASSED") else "failed"


def _against_published(old: RunData, new: RunData, between: Between, reasons: list[str]) -> list[CellComparison]:
    """REPRODUCED if the log ratio lies in the 95 % prediction interval from the block variances and the variance
    between runs."""
    keys = _keys(old)
    before, after = Side.of(old, keys), Side.of(new, keys)
    sides = block_means(before.speedup), block_means(after.speedup)
    within = sum(np.nan_to_num(side.error**2) for side in sides)
    half = _quantile(between, [(np.nan_to_num(side.error**2), side.count - 1) for side in sides]) * np.sqrt(
        between.sd**2 + within
    )
    gap = sides[1].mean - sides[0].mean
    cells = []
    for row, (solution, workload) in enumerate(keys):
        why = reasons or _lacking(before, after, row)
        verdict = "NOT COMPARABLE" if why else "REPRODUCED" if abs(gap[row]) <= half[row] else "DIFFERS"
        cells.append(
            CellComparison(
                solution=solution,
                workload=workload,
                verdict=verdict,
                reasons=why,
                old=_level(sides[0].mean[row]),
                new=_level(sides[1].mean[row]),
                ratio=_predicted(gap[row], half[row]) if not why else None,
            )
        )
    return cells


def _quantile(between: Between, parts: list[tuple[Floats, NDArray[np.int64]]]) -> Floats:
    """t quantile with Satterthwaite's degrees of freedom for the sum of the variances."""
    total = between.sd**2 + sum(variance for variance, _ in parts)
    spread = between.sd**4 / between.cells + sum(variance**2 / np.maximum(freedom, 1) for variance, freedom in parts)
    with np.errstate(invalid="ignore", divide="ignore"):
        # No scatter at all: every difference is one, whatever the quantile.
        return special.stdtrit(np.where(spread > 0, total**2 / spread, 1.0), (1 + LEVEL) / 2)


def _predicted(gap: float, half: float) -> Estimate:
    """The ratio, with the interval in which it would be called reproduced."""
    return Estimate(value=float(np.exp(gap)), low=float(np.exp(-half)), high=float(np.exp(half)))


def _level(log_value: float | np.floating) -> float | None:
    return None if np.isnan(log_value) else float(np.exp(log_value))


def _lacking(before: Side, after: Side, row: int) -> list[str]:
    return sorted({why for why in (before.lacks(row), after.lacks(row)) if why})


def _other_clock(before: Side, after: Side, row: int) -> list[str]:
    return [] if before.clock[row] == after.clock[row] else ["clock"]


def _against_run(old: RunData, new: RunData, reasons: list[str]) -> list[CellComparison]:
    """Verdicts new against old, one Holm family per solution; a cell whose inputs changed is not comparable."""
    cells = []
    for solution in old.samples.solutions:
        keys = [(solution, workload) for workload in old.samples.workloads]
        before, after = Side.of(old, keys), Side.of(new, keys)
        why = [
            reasons or _changed(old, new, key) or _lacking(before, after, row) or _other_clock(before, after, row)
            for row, key in enumerate(keys)
        ]
        blank = np.array([bool(found) for found in why])
        speedup = unpaired(*(np.where(blank[:, None], np.nan, side.speedup) for side in (before, after)))
        latency = unpaired(*(np.where(blank[:, None], np.nan, -side.latency) for side in (before, after)))
        cells += [_cell(key, row, why[row], before, after, speedup, latency) for row, key in enumerate(keys)]
    return cells


def _changed(old: RunData, new: RunData, key: Key) -> list[str]:
    digests = [side.workload_digests.get(key[1]) for side in (old, new)]
    return ["inputs"] if None not in digests and digests[0] != digests[1] else []


def _cell(
    key: Key, row: int, why: list[str], before: Side, after: Side, speedup: Decision, latency: Decision
) -> CellComparison:
    verdict: Verdict | Literal["NOT COMPARABLE"] | None = speedup.verdicts[row]
    if verdict is None:
        verdict, why = "NOT COMPARABLE", why or ["one_block"]
    # A clock that ran lower slows everything, reference included; only what both measures show is the solution's own.
    alike = verdict == latency.verdicts[row] or verdict not in (Verdict.FASTER, Verdict.SLOWER)
    ratios = [
        ratio_estimate(found.ratio.value[row], found.ratio.low[row], found.ratio.high[row])
        for found in (speedup, latency)
    ]
    return CellComparison(
        solution=key[0],
        workload=key[1],
        verdict=verdict if alike else Verdict.AMBIGUOUS,
        reasons=why,
        old=_level(before.level[row]),
        new=_level(after.level[row]),
        ratio=ratios[0],
        latency_ratio=ratios[1],
        p_difference=None if np.isnan(speedup.p_difference[row]) else float(speedup.p_difference[row]),
    )


def _regressed(cell: CellComparison) -> bool:
    return cell.verdict == Verdict.SLOWER
