"""Every two solutions against each other, and what follows for single cells and for the winner of a workload.

Entry points: `compare_pairs`, `winners`, `rivals`. The rule is docs/statistics.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy import special

from bakeoff.runs.intervals import LEVEL, BlockMeans, Floats, block_means
from bakeoff.runs.samples import Samples
from bakeoff.schema.analysis_figures import Pair, PairVerdict, Winner
from bakeoff.schema.base import Estimate, Verdict
from bakeoff.stats.verdicts import Decision, paired

# Speedups that agree to this share are one value: they come from the same printed or measured numbers.
EQUAL = 1e-9
_MIRROR = {Verdict.FASTER: Verdict.SLOWER, Verdict.SLOWER: Verdict.FASTER}


@dataclass(frozen=True)
class PairDecision:
    """The decision of `a` against `b` (positions in `Samples.solutions`), and the block log ratios it rests on."""

    a: int
    b: int
    log_ratios: Floats
    decision: Decision


def compare_pairs(samples: Samples) -> list[PairDecision]:
    """All pairs in the run's order; positive log ratios mean that a is faster."""
    pairs = combinations(range(len(samples.solutions)), 2)
    ratios = ((a, b, log_ratios(samples, a, b)) for a, b in pairs)
    return [PairDecision(a, b, logs, paired(logs)) for a, b, logs in ratios]


def log_ratios(samples: Samples, a: int, b: int) -> Floats:
    """b's log times minus a's, (workloads, blocks); positive means that a is faster. Times of different tiers are not
    compared."""
    alike = samples.tier[a] == samples.tier[b]
    return np.where(alike[:, None], samples.log_time[b] - samples.log_time[a], np.nan)


def number(value: float) -> float | None:
    """A float for the document: NaN is none."""
    return None if np.isnan(value) else float(value)


def estimate(value: float, low: float = np.nan, high: float = np.nan) -> Estimate | None:
    """An `Estimate`, or none if there is no value."""
    return None if np.isnan(value) else Estimate(value=float(value), low=number(low), high=number(high))


def ratio_estimate(log_value: float, low: float = np.nan, high: float = np.nan) -> Estimate | None:
    """An `Estimate` from logs."""
    return estimate(np.exp(log_value), np.exp(low), np.exp(high))


def overall_ratio(logs: Floats) -> Estimate | None:
    """Geometric mean over the workloads that have a value, from block logs (workloads, blocks); interval: t over
    blocks."""
    per_workload = block_means(logs)
    rows = ~np.isnan(per_workload.mean)
    if not rows.any():
        return None
    value = float(per_workload.mean[rows].mean())
    half = _overall_half(logs[rows], block_means(logs[rows]))
    return ratio_estimate(value, value - half, value + half)


def _overall_half(logs: Floats, means: BlockMeans) -> float:
    """Half the 95 % interval of the mean of `means`; NaN where no workload has two blocks. Every row of `logs` has a
    value.

    A block moves the result by the sum of what it moves each workload's mean by; the squares of these sums add up to
    the variance. With all samples there that is the variance of the block means over n, with n - 1 degrees of freedom.
    """
    repeated = means.count > 1
    if not repeated.any():
        return np.nan
    count, workloads = means.count[repeated][:, None], len(logs)
    # A deviation from a mean of n is short by (n - 1) / n in the square.
    moved = (logs[repeated] - means.mean[repeated][:, None]) * np.sqrt(count / (count - 1)) / (count * workloads)
    variance = float((np.nansum(moved, axis=0) ** 2).sum())
    # A lone block shows no deviation of its own; it is taken to scatter like the others' blocks.
    variance += float((~repeated).sum() * (means.sd[repeated] ** 2).mean()) / workloads**2
    freedom = min(_block_freedom(~np.isnan(logs[repeated])), _workload_freedom(means.error[repeated], count[:, 0]))
    return float(special.stdtrit(freedom, (1 + LEVEL) / 2) * np.sqrt(variance))


def _block_freedom(present: NDArray[np.bool_]) -> float:
    """Effective number of blocks less 1: where some blocks hold more of the samples than others, fewer count."""
    share = (present / present.sum(axis=1, keepdims=True)).sum(axis=0)
    weight = share**2
    return max(1.0, float(weight.sum() ** 2 / (weight**2).sum()) - 1)


def _workload_freedom(errors: Floats, count: NDArray[np.int64]) -> float:
    """Satterthwaite's degrees of freedom of the sum of the workloads' variances: few, where one noisy workload has few
    blocks."""
    variances = errors**2
    spread = float((variances**2 / (count - 1)).sum())
    return float(variances.sum() ** 2 / spread) if spread > 0 else 1.0


def pair_model(samples: Samples, pair: PairDecision) -> Pair:
    """The document's form of a pair."""
    decision = pair.decision
    verdicts = [_pair_verdict(workload, decision, row) for row, workload in enumerate(samples.workloads)]
    counts = {verdict: sum(entry.verdict == verdict for entry in verdicts) for verdict in Verdict}
    value = decision.ratio.value
    return Pair(
        a=samples.solutions[pair.a],
        b=samples.solutions[pair.b],
        ratio=overall_ratio(pair.log_ratios),
        workloads=int((~np.isnan(value)).sum()),
        a_ahead=int((value > 0).sum()),
        b_ahead=int((value < 0).sum()),
        faster=counts[Verdict.FASTER],
        slower=counts[Verdict.SLOWER],
        same=counts[Verdict.SAME],
        ambiguous=counts[Verdict.AMBIGUOUS],
        verdicts=verdicts,
    )


def _pair_verdict(workload: str, decision: Decision, row: int) -> PairVerdict:
    blocks = int(decision.blocks[row])
    verdict = decision.verdicts[row]
    return PairVerdict(
        workload=workload,
        verdict=verdict,
        blocks=blocks,
        undecided=None if verdict else "one_block" if blocks else "not_measured",
        ratio=ratio_estimate(decision.ratio.value[row], decision.ratio.low[row], decision.ratio.high[row]),
        sd=number(decision.sd[row]),
        p_difference=number(decision.p_difference[row]),
        p_equivalence=number(decision.p_equivalence[row]),
        mde=number(decision.mde[row]),
    )


class Duels:
    """Look-up of decisions in either direction."""

    def __init__(self, pairs: list[PairDecision]) -> None:
        self._pairs = {(pair.a, pair.b): pair.decision for pair in pairs}

    def verdict(self, a: int, b: int, workload: int) -> Verdict | None:
        if (a, b) in self._pairs:
            return self._pairs[a, b].verdicts[workload]
        found = self._pairs[b, a].verdicts[workload]
        return None if found is None else _MIRROR.get(found, found)

    def lead(self, a: int, b: int, workload: int) -> float:
        """Log ratio of a's speed to b's over the blocks that hold both; NaN where there is none."""
        straight = (a, b) in self._pairs
        value = float(self._pairs[(a, b) if straight else (b, a)].ratio.value[workload])
        return value if straight else -value

    def ratio(self, a: int, b: int, workload: int) -> Estimate | None:
        straight = (a, b) in self._pairs
        ratio = self._pairs[(a, b) if straight else (b, a)].ratio
        value, low, high = ratio.value[workload], ratio.low[workload], ratio.high[workload]
        return ratio_estimate(value, low, high) if straight else ratio_estimate(-value, -high, -low)

    def p_difference(self, a: int, b: int, workload: int) -> float | None:
        return number(self._pairs[(min(a, b), max(a, b))].p_difference[workload])

    def mde(self, a: int, b: int, workload: int) -> float | None:
        return number(self._pairs[(min(a, b), max(a, b))].mde[workload])


def rivals(values: Floats, contestants: list[int], workload: int, duels: Duels) -> list[int]:
    """Contestants with a value at a workload, fastest first; equal ones in the run's order. `values`: (solutions,
    workloads) log speeds.

    Where blocks are missing, a speed over a solution's own blocks has their noise, so what counts is the pair's common
    blocks: each is put before the first one that it is ahead of there. So nobody is behind the next one in the order,
    even if the pairs, each over other blocks, should contradict each other.
    """
    present = [row for row in contestants if not np.isnan(values[row, workload])]
    order: list[int] = []
    for row in sorted(present, key=lambda row: -values[row, workload]):
        ahead = (place for place, other in enumerate(order) if duels.lead(row, other, workload) > EQUAL)
        order.insert(next(ahead, len(order)), row)
    return order


def winners(samples: Samples, values: Floats, contestants: list[int], duels: Duels) -> list[Winner]:
    """Leader and, where supported, winner of every workload."""
    return [
        _winner(samples, values[:, index], rivals(values, contestants, index, duels), index, duels)
        for index in range(len(samples.workloads))
    ]


def _winner(samples: Samples, speeds: Floats, order: list[int], workload: int, duels: Duels) -> Winner:
    names = samples.solutions
    if not order:
        return Winner(workload=samples.workloads[workload], leader=None, supported=False, basis="none")
    leader, others = order[0], order[1:]
    verdicts = {other: duels.verdict(leader, other, workload) for other in others}
    decided = any(verdicts.values())

    def level(other: int) -> bool:
        lead = duels.lead(leader, other, workload)
        return abs(speeds[leader] - speeds[other] if np.isnan(lead) else lead) <= EQUAL

    tied = [names[other] for other, verdict in verdicts.items() if decided and verdict != Verdict.FASTER]
    return Winner(
        workload=samples.workloads[workload],
        leader=names[leader],
        level=[names[other] for other in others if level(other)],
        runner_up=names[others[0]] if others else None,
        lead=duels.ratio(leader, others[0], workload) if others else None,
        p_difference=duels.p_difference(leader, others[0], workload) if others else None,
        supported=decided and not tied,
        tied=tied,
        same=[names[other] for other, verdict in verdicts.items() if verdict == Verdict.SAME],
        basis="blocks" if decided else "none",
    )
