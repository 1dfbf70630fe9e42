"""A run against a published table, or against an earlier run, cell by cell.

Entry points: `Side.of`, `compare`, `between_runs`. The rules are docs/statistics.md, "Against the published run" and
"Between two runs".
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import special

from bakeoff.runs.intervals import LEVEL, Floats, block_means
from bakeoff.schema.analysis_outside import CellComparison, CompareVerdict, Comparison, RunScatter
from bakeoff.schema.analysis_run import Scalar
from bakeoff.schema.base import Estimate, Verdict
from bakeoff.stats.pairs import estimate_at, number
from bakeoff.stats.rundata import WRONG, RunData
from bakeoff.stats.verdicts import unpaired

Key = tuple[str, str]


# Tokens from which on published speedups move by 3 % between two runs; below it is 15 %.
LARGE_FROM = 900


# Share of its busy time that the GPU may be idle before a latency counts as the host's as well.
IDLE = 0.25
# Deviation of a cell's log time from GPU to GPU of a model, after what all cells share: 0.2 to 0.5 % between two H100s.
BETWEEN_GPUS = 0.005

# By whether a workload has `LARGE_FROM` tokens or more.
Scatter = Mapping[bool, RunScatter]


def between_runs(first: RunData, second: RunData) -> Scatter:
    """The scatter between two published runs, from all cells that both have, of small and of large workloads."""
    ours, theirs = _published_logs(first), _published_logs(second)
    large = {what.id: what.seq_len >= LARGE_FROM for what in first.workloads}
    found = {}
    for group in (False, True):
        moved = {key: ours[key] - theirs[key] for key in ours if key in theirs and large[key[1]] == group}
        rows = len({workload for _, workload in moved})
        if rows < 2:
            raise ValueError(
                f"{first.header.id} and {second.header.id} share {rows} rows; the scatter needs at least 2"
            )
        seq_lens = f"{'from' if group else 'below'} {LARGE_FROM} tokens"
        found[group] = RunScatter(seq_lens, sd=float(np.sqrt(np.mean(np.square(list(moved.values()))))), rows=rows)
    return found


def compare(old: RunData, new: RunData, between: Scatter | None = None) -> Comparison:
    """Every cell of the older run against the newer; `between` is needed where one of them is published."""
    published = "published" in (old.header.kind, new.header.kind)
    if published and between is None:
        raise ValueError("a comparison with a published table needs the scatter between published runs")
    reasons = _reasons(old, new)
    controls: list[str] = []
    if published and between:
        cells = _against_published(old, new, between, reasons)
    else:
        cells, controls = _against_run(old, new, reasons)
    counts = Counter(cell.verdict for cell in cells)
    slower = [f"{cell.solution}/{cell.workload}" for cell in cells if cell.verdict == "SLOWER"]
    return Comparison(
        old=old.header.id,
        new=new.header.id,
        rule="published" if published else "runs",
        not_comparable=reasons,
        scatter=list(between.values()) if published and between else [],
        counts=dict(sorted(counts.items())),
        regressions=slower,
        differs={} if published else _differs(old, new),
        controls=controls,
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
    def of(cls, data: RunData, keys: Sequence[Key]) -> "Side":
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


def _against_published(old: RunData, new: RunData, between: Scatter, reasons: list[str]) -> list[CellComparison]:
    """REPRODUCED if the log ratio lies in the 95 % prediction interval from the block variances and the variance
    between runs."""
    keys = _keys(old)
    before, after = Side.of(old, keys), Side.of(new, keys)
    sides = block_means(before.speedup), block_means(after.speedup)
    within = sum(np.nan_to_num(side.error**2) for side in sides)
    large = {what.id: what.seq_len >= LARGE_FROM for what in old.workloads}
    moved = [between[large[workload]] for _, workload in keys]
    variance, freedom = np.array([one.sd**2 for one in moved]), np.array([one.rows for one in moved])
    parts = [(variance, freedom), *((np.nan_to_num(side.error**2), side.count - 1) for side in sides)]
    half = _quantile(parts) * np.sqrt(variance + within)
    gap = sides[1].mean - sides[0].mean
    cells = []
    for row, (solution, workload) in enumerate(keys):
        why = reasons or _lacking(before, after, row)
        verdict: CompareVerdict = "NOT COMPARABLE" if why else "REPRODUCED" if abs(gap[row]) <= half[row] else "DIFFERS"
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


def _quantile(parts: list[tuple[Floats, NDArray[np.int64]]]) -> Floats:
    """t quantile with Satterthwaite's degrees of freedom for the sum of the variances."""
    total = sum(variance for variance, _ in parts)
    spread = sum(variance**2 / np.maximum(freedom, 1) for variance, freedom in parts)
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


def _against_run(old: RunData, new: RunData, reasons: list[str]) -> tuple[list[CellComparison], list[str]]:
    """Verdicts new against old, one Holm family per solution, and the participants that they are relative to; a cell
    whose inputs changed is not comparable."""
    same_gpu, controls = bool(old.gpus and old.gpus == new.gpus), _Controls.of(old, new)
    cells = []
    for solution in old.samples.solutions:
        keys = [(solution, workload) for workload in old.samples.workloads]
        before, after = Side.of(old, keys), Side.of(new, keys)
        why = [
            reasons or _changed(old, new, key) or _lacking(before, after, row) or _other_clock(before, after, row)
            for row, key in enumerate(keys)
        ]
        if not same_gpu:  # another host: its CPU shows in what waits for it
            waiting = controls.waiting(solution, before, after, old.samples.workloads)
            why = [found or (["host"] if waits else []) for found, waits in zip(why, waiting, strict=True)]
        comparable = np.array([not found for found in why])[:, None]
        clocks = controls.clocks(solution, old.samples.workloads)
        first, second = (
            np.where(comparable, clock - side.latency, np.nan)
            for side, clock in zip((before, after), clocks, strict=True)
        )
        found = unpaired(first, second, 0.0 if same_gpu else float(np.sqrt(2)) * BETWEEN_GPUS)
        for row, key in enumerate(keys):
            verdict = _between(found.verdicts[row])
            cells.append(
                CellComparison(
                    solution=solution,
                    workload=key[1],
                    verdict=verdict or "NOT COMPARABLE",
                    reasons=why[row] or ([] if verdict else ["few_blocks"]),
                    old=_level(float(block_means(before.latency[row]).mean)),
                    new=_level(float(block_means(after.latency[row]).mean)),
                    ratio=estimate_at(found.ratio, row) if verdict else None,
                    p_difference=number(found.p_difference[row]),
                )
            )
    return cells, controls.names


def _between(verdict: Verdict | None) -> CompareVerdict | None:
    """What a verdict means between runs."""
    if verdict is None:
        return None
    if verdict.within:
        return "SAME"
    return {1: "FASTER", -1: "SLOWER", 0: "AMBIGUOUS"}[verdict.direction]  # type: ignore[return-value]


@dataclass(frozen=True)
class _Controls:
    """What shows the GPU's own speed: busy times of the reference and of solutions that did not change."""

    names: list[str]
    sides: "tuple[Busy, Busy]"

    @classmethod
    def of(cls, old: RunData, new: RunData) -> "_Controls":
        digests = [{who.name: who.digest for who in side.everyone} for side in (old, new)]
        unchanged = [name for name, digest in digests[0].items() if digests[1].get(name) == digest]
        first, second = old.busy(), new.busy()
        level = first.mean(axis=1)
        names = [name for name in unchanged if name in first.index and name in second.index]
        return cls(names, (Busy(first, level, old), Busy(second, level, new)))

    def clocks(self, solution: str, workloads: Sequence[str]) -> tuple[Floats, Floats]:
        """By how much the median control was slower than in the older run, (workloads, blocks) of either run. A
        solution is no control of itself; without any it is 0."""
        others = [name for name in self.names if name != solution]
        return self.sides[0].median(others, workloads), self.sides[1].median(others, workloads)

    def waiting(self, solution: str, before: Side, after: Side, workloads: Sequence[str]) -> NDArray[np.bool_]:
        """Workloads on which the GPU was idle for more than `IDLE` of its busy time in either run: host time shows."""
        gaps = (
            block_means(side.latency).mean - block_means(busy.of(solution, workloads)).mean
            for side, busy in zip((before, after), self.sides, strict=True)
        )
        return np.any([gap > np.log1p(IDLE) for gap in gaps], axis=0)


@dataclass(frozen=True)
class Busy:
    """Log busy times of a run by (participant, workload), a column per block, and their means in the older run."""

    logs: pd.DataFrame
    level: pd.Series
    run: RunData

    def of(self, solution: str, workloads: Sequence[str]) -> Floats:
        """A solution's own, (workloads, blocks)."""
        chosen = self.logs[self.logs.index.isin([solution], level=0)].droplevel(0)
        return chosen.reindex(index=workloads, columns=self.run.samples.blocks).to_numpy(dtype=float)

    def median(self, names: Sequence[str], workloads: Sequence[str]) -> Floats:
        """Median of some participants' less their means in the older run, (workloads, blocks of the run's samples); 0
        where none has a time."""
        chosen = self.logs[self.logs.index.isin(names, level=0)].sub(self.level, axis=0).groupby(level=1).median()
        return chosen.reindex(index=workloads, columns=self.run.samples.blocks).fillna(0.0).to_numpy(dtype=float)


def _changed(old: RunData, new: RunData, key: Key) -> list[str]:
    digests = [side.workload_digests.get(key[1]) for side in (old, new)]
    return ["inputs"] if None not in digests and digests[0] != digests[1] else []


def _differs(old: RunData, new: RunData) -> dict[str, tuple[Scalar, Scalar]]:
    """Facts that are not the same of both runs, old and new: host, GPU, software, harness, solutions."""
    sides = []
    for side in (old, new):
        facts: dict[str, Scalar] = {f"{fact.group}: {fact.key}": fact.value for fact in side.provenance}
        sides.append(facts | {f"solution: {who.name}": who.digest for who in side.participants})
    keys = [key for key in {**sides[0], **sides[1]} if not key.endswith("fingerprint")]
    found = {key: (sides[0].get(key), sides[1].get(key)) for key in keys if sides[0].get(key) != sides[1].get(key)}
    if old.gpus and new.gpus and old.gpus != new.gpus:
        found = {"gpu: unit": ("one", "another"), **found}
    return found
