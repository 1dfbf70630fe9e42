"""Every two solutions against each other, and what follows for single cells and for the winner of a workload.

Entry points: `compare_pairs`, `winners`, `rivals`. The rule is docs/statistics.md.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from bakeoff.runs.intervals import LEVEL, BlockMeans, Floats, Interval, block_means, mean_interval
from bakeoff.runs.samples import Samples
from bakeoff.schema.analysis_figures import Pair, PairVerdict, Winner
from bakeoff.schema.base import Estimate, Verdict
from bakeoff.schema.plan import LEADING
from bakeoff.stats.verdicts import Decision, paired

# Speedups that agree to this share are one value: they come from the same printed or measured numbers.
EQUAL = 1e-9
# Solutions up to which all are compared with each other. Of more, the fastest ones are, and every one with the anchors.
MOST, ANCHORS = 20, 5
# What a lead is shown to be, from least to most; a winner's is the least over its rivals.
_SURENESS = [Verdict.FASTER_BELOW_2_PERCENT, Verdict.FASTER_OPEN, Verdict.FASTER_2_PERCENT]


@dataclass(frozen=True)
class PairDecision:
    """The decision of `a` against `b` (positions in `Samples.solutions`), and the block log ratios it rests on."""

    a: int
    b: int
    log_ratios: Floats
    decision: Decision


def compare_pairs(
    samples: Samples,
    contestants: Collection[int] = (),
    twins: Collection[frozenset[int]] = (),
    leading: int = LEADING,
    anchors: Collection[int] = (),
    selected: bool = False,
) -> list[PairDecision]:
    """Pairs in the run's order; positive log ratios mean that a is faster.

    All pairs of at most `MOST` solutions. Of more, whose pairs grow with their square, those that hold an anchor, of
    two of the `leading` fastest, and of a solution and its twin (`twins`). Where there are more, or a screening
    `selected` them, all that are compared with one anchor are one family of tests. anchors: those that are named.
    """
    pairs: Iterable[tuple[int, int]] = combinations(range(len(samples.solutions)), 2)
    many = len(samples.solutions) > MOST
    lead = fastest_first(samples) if many or selected else []
    held = set(anchors) or anchors_of(lead, contestants)
    if many:
        kept = set(lead[:leading])
        pairs = (
            pair for pair in pairs if not held.isdisjoint(pair) or kept.issuperset(pair) or frozenset(pair) in twins
        )
    ratios = {pair: log_ratios(samples, *pair) for pair in pairs}
    families: dict[object, list[tuple[int, int]]] = {}
    for pair in ratios:
        alone = not (many or selected) or len(held.intersection(pair)) != 1 or frozenset(pair) in twins
        families.setdefault(pair if alone else next(iter(held.intersection(pair))), []).append(pair)
    decided: dict[tuple[int, int], Decision] = {}
    for members in families.values():
        found, rows = paired(np.concatenate([ratios[pair] for pair in members])), len(samples.workloads)
        decided |= {pair: found.rows(at * rows, (at + 1) * rows) for at, pair in enumerate(members)}
    return [PairDecision(*pair, logs, decided[pair]) for pair, logs in ratios.items()]


def anchors_of(lead: Sequence[int], contestants: Collection[int]) -> set[int]:
    """Of many solutions those that every other one is compared with: the contestants, if they are few, else the
    fastest. lead: all, fastest first."""
    return set(contestants) if 0 < len(contestants) <= ANCHORS else set(lead[:1])


def fastest_first(samples: Samples) -> list[int]:
    """All solutions, those with a speedup at most workloads first, and of these the fastest by geometric mean."""
    speedups = block_means(samples.log_speedup).mean
    over_workloads = block_means(speedups)
    return list(np.lexsort((-np.nan_to_num(over_workloads.mean, nan=-np.inf), -over_workloads.count)))


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


def estimate_at(interval: Interval, *place: int) -> Estimate | None:
    """One `Estimate` of an interval of logs."""
    return ratio_estimate(interval.value[place], interval.low[place], interval.high[place])


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


def pair_model(samples: Samples, pair: PairDecision, outliers: NDArray[np.bool_]) -> Pair:
    """The document's form of a pair. outliers: (solutions, workloads, blocks)."""
    lone = outliers[pair.a] | outliers[pair.b]
    kept = mean_interval(np.where(lone, np.nan, pair.log_ratios))
    robust = [estimate_at(kept, row) if some else None for row, some in enumerate(lone.any(axis=1))]
    decision = pair.decision
    verdicts = [_pair_verdict(workload, decision, row, robust[row]) for row, workload in enumerate(samples.workloads)]
    counts = Counter(verdict for verdict in decision.verdicts if verdict)
    value = decision.ratio.value
    return Pair(
        a=samples.solutions[pair.a],
        b=samples.solutions[pair.b],
        ratio=overall_ratio(pair.log_ratios),
        workloads=int((~np.isnan(value)).sum()),
        a_ahead=int((value > 0).sum()),
        b_ahead=int((value < 0).sum()),
        counts={verdict: counts[verdict] for verdict in Verdict if counts[verdict]},
        verdicts=verdicts,
    )


def _pair_verdict(workload: str, decision: Decision, row: int, robust: Estimate | None) -> PairVerdict:
    blocks = int(decision.blocks[row])
    verdict = decision.verdicts[row]
    return PairVerdict(
        workload=workload,
        verdict=verdict,
        blocks=blocks,
        undecided=None if verdict else "few_blocks" if blocks else "not_measured",
        ratio=estimate_at(decision.ratio, row),
        without_outliers=robust,
        sd=number(decision.sd[row]),
        p_difference=number(decision.p_difference[row]),
        p_equivalence=number(decision.p_equivalence[row]),
        p_margin=number(decision.p_margin[row]),
        mde=number(decision.mde[row]),
    )


class Duels:
    """Look-up of ratios and decisions of any two solutions, in either direction."""

    def __init__(self, samples: Samples, pairs: list[PairDecision]) -> None:
        self._samples = samples
        self._decisions = {(pair.a, pair.b): pair.decision for pair in pairs}

    def logs(self, a: int, b: int | list[int], workload: int) -> Floats:
        """Block log ratios of a's speed to b's; NaN where a block does not hold both. A row for each of several b."""
        samples = self._samples
        alike = np.asarray(samples.tier[a, workload] == samples.tier[b, workload])[..., None]
        return np.where(alike, samples.log_time[b, workload] - samples.log_time[a, workload], np.nan)

    def lead(self, a: int, b: int | list[int], workload: int) -> Floats:
        """Mean log ratio of a's speed to b's over the blocks that hold both; NaN where there is none."""
        return block_means(self.logs(a, b, workload)).mean

    def mde(self, a: int, b: int, workload: int) -> float | None:
        pair = min(a, b), max(a, b)
        if pair not in self._decisions:
            self._decisions[pair] = paired(log_ratios(self._samples, *pair))
        return number(self._decisions[pair].mde[workload])


def over_shared_blocks(samples: Samples, rows: list[int], logs: Floats) -> Floats:
    """Means of some logs (solutions, workloads, blocks), say speedups, over the blocks of a workload that all of `rows`
    with a value there share; NaN for other rows, and where none is shared."""
    timed = ~np.isnan(samples.log_time[rows])
    absent = ~np.asarray(timed.any(axis=-1))[..., None]
    common = (timed | absent).all(axis=0) & timed
    means = np.full(samples.log_time.shape[:2], np.nan)
    means[rows] = block_means(np.where(common, logs[rows], np.nan)).mean
    return means


def rivals(samples: Samples, rows: list[int], duels: Duels) -> list[list[int]]:
    """Of each workload those of `rows` that have a value there, fastest first; equal ones in the run's order.

    They are ordered over the blocks that all of them share; where there is none over their own, and where one lacks its
    reference by the times themselves. Then each is put before the first one that it is ahead of in the blocks that both
    have, so that nobody is behind the next one in the order.
    """
    kinds = [
        over_shared_blocks(samples, rows, samples.log_speedup),
        block_means(samples.log_speedup).mean,
        -block_means(samples.log_time).mean,
    ]
    orders = []
    for workload in range(len(samples.workloads)):
        present = [row for row in rows if not np.isnan(kinds[-1][row, workload])]
        values = next(kind[:, workload] for kind in kinds if not np.isnan(kind[present, workload]).any())
        order: list[int] = []
        for row in sorted(present, key=lambda row: -values[row]):
            ahead = np.flatnonzero(duels.lead(row, order, workload) > EQUAL)
            order.insert(int(ahead[0]) if len(ahead) else len(order), row)
        orders.append(order)
    return orders


def winners(
    samples: Samples, contestants: list[int], everyone: list[int], duels: Duels, unmeasured: Collection[tuple[str, str]]
) -> list[Winner]:
    """Leader and, where supported, winner of every workload, and the fastest of all that ran.

    A winner has to be faster than several rivals on several workloads, so the correction goes over both: the leaders'
    leads over all their rivals are one family of tests. everyone: contestants and peers, without twins. unmeasured:
    (solution, workload) of contestants that the host kept from being measured; nobody wins there.
    """
    orders = rivals(samples, contestants, duels)
    leads = [(order[0], rival, index) for index, order in enumerate(orders) for rival in order[1:]]
    logs = np.array([duels.logs(*lead) for lead in leads]).reshape(len(leads), len(samples.blocks))
    decision, first, found = paired(logs), 0, []
    for index, (order, overall) in enumerate(zip(orders, rivals(samples, everyone, duels), strict=True)):
        rows = list(range(first, first := first + max(0, len(order) - 1)))
        winner = _winner(samples, order, index, decision, rows, unmeasured)
        fastest: dict[str, Any] = {"fastest": samples.solutions[overall[0]]} if overall else {}
        if order and overall[0] != order[0]:
            fastest |= {"fastest_lead": estimate_at(mean_interval(duels.logs(overall[0], order[0], index)))}
        found.append(winner.model_copy(update=fastest))
    return found


def _winner(
    samples: Samples,
    order: list[int],
    workload: int,
    decision: Decision,
    rows: list[int],
    unmeasured: Collection[tuple[str, str]],
) -> Winner:
    """rows: of the decision, the leader's leads at this workload over `order[1:]`."""
    names, place = samples.solutions, samples.workloads[workload]
    absent = [name for name, at in unmeasured if at == place]
    if not order:
        return Winner(workload=place, leader=None, supported=False, unmeasured=absent, basis="none")
    others, verdicts = [names[row] for row in order[1:]], [decision.verdicts[row] for row in rows]
    decided = any(verdicts)
    tied = [name for name, one in zip(others, verdicts, strict=True) if decided and not (one and one.direction > 0)]
    level = np.abs(decision.ratio.value[rows]) <= EQUAL
    second: dict[str, Any] = {}
    if rows:
        second = {
            "runner_up": others[0],
            "lead": estimate_at(decision.ratio, rows[0]),
            "p_difference": number(decision.p_difference[rows[0]]),
        }
    supported = decided and not tied and not absent
    return Winner(
        workload=place,
        leader=names[order[0]],
        level=[name for name, one in zip(others, level, strict=True) if one],
        **second,
        supported=supported,
        verdict=min((one for one in verdicts if one), key=_SURENESS.index) if supported else None,
        blocks=int(min(decision.blocks[rows], default=0)),
        tied=tied,
        same=[name for name, one in zip(others, verdicts, strict=True) if one is Verdict.SAME],
        unmeasured=absent,
        basis="blocks" if decided else "none",
    )
