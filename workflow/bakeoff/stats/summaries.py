"""Figures over all workloads: per solution, performance profile, rank stability.

`speedups` is an array (solutions, workloads) of speedups over the reference, NaN where a cell has none.
"""

from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np

from bakeoff.runs.intervals import Floats
from bakeoff.schema.analysis_figures import Aggregate, ProfileCurve, Ranked, Ranking, RankStability, Summary, Winner
from bakeoff.schema.base import Verdict
from bakeoff.stats.pairs import EQUAL, overall_ratio


def summarize(
    solution: str,
    row: Floats,
    log_speedup: Floats,
    workloads: Sequence[str],
    *,
    passed: int,
    total_latency_us: float | None,
) -> Summary:
    """Figures of one solution: `row` (workloads,) speedups, `log_speedup` (workloads, blocks)."""
    present = np.flatnonzero(~np.isnan(row))
    summary = Summary(solution=solution, cells=len(present), due=len(workloads), passed=passed)
    if len(present) == 0:
        return summary
    values = row[present]
    mean, sample, population = float(values.mean()), deviation(values), deviation(values, taken=0)
    least, most = int(present[values.argmin()]), int(present[values.argmax()])
    return summary.model_copy(
        update={
            "geometric_mean": overall_ratio(log_speedup),
            "arithmetic_mean": mean,
            "median": float(np.median(values)),
            "minimum": float(row[least]),
            "minimum_at": workloads[least],
            "maximum": float(row[most]),
            "maximum_at": workloads[most],
            "std_sample": sample,
            "std_population": population,
            "cv_sample": None if sample is None else sample / mean,
            "cv_population": None if population is None else population / mean,
            "total_latency_us": total_latency_us,
        }
    )


def deviation(values: Floats, taken: int = 1) -> float | None:
    """Standard deviation of a sample, or with `taken` 0 of a population; none of fewer values than that needs."""
    return float(values.std(ddof=taken)) if len(values) > taken else None


def count_wins(solution: str, winners: Sequence[Winner]) -> dict[str, int]:
    """Leads (shared ones count for everyone who shares them), supported wins and ties of one contestant."""
    leads = [winner for winner in winners if winner.leader == solution or solution in winner.level]
    ties = [
        w for w in winners if w.basis == "blocks" and not w.supported and (w.leader == solution or solution in w.tied)
    ]
    return {
        "leads": len(leads),
        "wins": sum(winner.supported and winner.leader == solution for winner in leads),
        "clear_wins": sum(w.verdict is Verdict.FASTER_2_PERCENT and w.leader == solution for w in leads),
        "ties": len(ties),
    }


def performance_profile(solutions: Sequence[str], speedups: Floats) -> list[ProfileCurve]:
    """One curve per solution with a value: the share of workloads within each factor of the workload's best (Dolan and
    Moré, 2002)."""
    measured = ~np.isnan(speedups).all(axis=0)
    if not measured.any():
        return []
    table = speedups[:, measured]
    factors = np.nanmax(table, axis=0) / table
    return [
        _curve(solution, np.sort(row[~np.isnan(row)]), int(measured.sum()))
        for solution, row in zip(solutions, factors, strict=True)
        if not np.isnan(row).all()
    ]


def _curve(solution: str, factors: Floats, workloads: int) -> ProfileCurve:
    steps, counts = np.unique(np.round(factors, 9), return_counts=True)
    return ProfileCurve(solution=solution, factors=steps.tolist(), shares=(counts.cumsum() / workloads).tolist())


_MEANS: dict[Aggregate, Callable[[Floats], Floats]] = {
    "geometric_mean": lambda table: np.exp(np.log(table).mean(axis=1)),
    "arithmetic_mean": lambda table: table.mean(axis=1),
    "harmonic_mean": lambda table: 1 / (1 / table).mean(axis=1),
    "median": lambda table: np.median(table, axis=1),
}


def rank_stability(solutions: Sequence[str], speedups: Floats, latencies: Floats | None) -> RankStability | None:
    """Order of the contestants under each aggregate and baseline; None with fewer than two that share a workload.

    `latencies`: (solutions, workloads) in microseconds, or None where times are unknown.
    """
    ranked = np.flatnonzero(~np.isnan(speedups).all(axis=1))
    common = ~np.isnan(speedups[ranked]).any(axis=0)
    if len(ranked) < 2 or not common.any():
        return None
    names, table = [solutions[int(row)] for row in ranked], speedups[ranked][:, common]
    rankings = [
        _ranking(aggregate, baseline, names, mean(table / over))
        for aggregate, mean in _MEANS.items()
        for baseline, over in [("reference", 1.0), *zip(names, table, strict=True)]
    ]
    leads = (table >= table.max(axis=0) * (1 - EQUAL)).sum(axis=1)
    rankings.append(_ranking("leads", "reference", names, leads.astype(float)))
    if latencies is not None:
        total = latencies[ranked][:, common].sum(axis=1)
        rankings.append(_ranking("total_latency", "reference", names, total, ascending=True))
    return _stability(names, rankings, int(common.sum()))


def _ranking(
    aggregate: Aggregate, baseline: str, names: Sequence[str], values: Floats, *, ascending: bool = False
) -> Ranking:
    keys = values if ascending else -values
    # A rank is one more than the number of solutions that are better by more than rounding.
    ranks = [1 + int((keys < key - EQUAL * abs(key)).sum()) for key in keys]
    order = sorted(range(len(names)), key=lambda row: (ranks[row], row))
    places = [Ranked(solution=names[row], value=float(values[row]), rank=ranks[row]) for row in order]
    return Ranking(aggregate=aggregate, baseline=baseline, order=places)


def _stability(names: Sequence[str], rankings: list[Ranking], workloads: int) -> RankStability:
    ranks = [{place.solution: place.rank for place in ranking.order} for ranking in rankings]
    firsts = {frozenset(name for name, rank in found.items() if rank == 1) for found in ranks}
    first = next(iter(firsts)) if len(firsts) == 1 else frozenset()
    swaps = [
        (a, b)
        for a, b in combinations(names, 2)
        if any(found[a] < found[b] for found in ranks) and any(found[a] > found[b] for found in ranks)
    ]
    return RankStability(
        workloads=workloads,
        rankings=rankings,
        orders=len({tuple(sorted(found.items())) for found in ranks}),
        always_first=next(iter(first)) if len(first) == 1 else None,
        swaps=swaps,
    )


def geometric_mean(values: Floats) -> float:
    """Geometric mean of positive numbers, NaN left out; NaN if none is left."""
    kept = values[~np.isnan(values)]
    return float(np.exp(np.log(kept).mean())) if len(kept) else float("nan")
