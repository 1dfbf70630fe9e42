"""A run's further timing protocols beside its first one: who is fast under which, and who overtakes whom.

Entry point: `protocol_summary`. Solutions are ordered by the geometric mean of their latencies over the workloads that
all of them have under both protocols, so that neither order rests on other workloads than the other.
"""

from collections.abc import Iterator
from itertools import permutations

import numpy as np

from bakeoff.runs.intervals import Floats, mean_interval
from bakeoff.schema.analysis_figures import Overtaking, ProtocolCell, ProtocolSummary, Ranked, Summary
from bakeoff.stats.figures import Figures
from bakeoff.stats.pairs import estimate_at, log_ratios, number
from bakeoff.stats.rundata import RunData

# Of the interval on either side that an overtaking takes: among hundreds of pairs of cells few must be one by chance.
LEVEL = 0.99


def protocol_summary(
    first: RunData, under: Figures, data: RunData, figures: Figures, summaries: list[Summary]
) -> ProtocolSummary:
    """What stands beside a run's figures from another of its protocols. first, under: the run and its figures under
    the first one; data, figures, summaries: under the other one."""
    own, before = figures.cells.latency.value, under.cells.latency.value
    twins = {who.name for who in data.participants if who.twin_of}
    rows = [
        row
        for row, name in enumerate(data.samples.solutions)
        if name not in twins and not np.isnan(own[row] + before[row]).all()
    ]
    shared = np.flatnonzero(~np.isnan(own[rows] + before[rows]).any(axis=0)).tolist()
    names = [data.samples.solutions[row] for row in rows]
    return ProtocolSummary(
        protocol=data.header.protocol or "",
        time_tier=data.header.time_tier,
        blocks=len(data.samples.blocks),
        summaries=summaries,
        workloads=[data.samples.workloads[column] for column in shared],
        order=_order(names, own[rows][:, shared]),
        first_order=_order(names, before[rows][:, shared]),
        cells=list(_cells(first, under, data, figures)),
        overtakings=list(_overtakings(under, figures, rows)),
    )


def _order(names: list[str], logs: Floats) -> list[Ranked]:
    """Solutions by mean log time, each with its time over the fastest's."""
    if not logs.size:
        return []
    means = logs.mean(axis=1)
    ordered = sorted(zip(means.tolist(), names, strict=True))
    return [
        Ranked(solution=name, value=float(np.exp(mean - ordered[0][0])), rank=place)
        for place, (mean, name) in enumerate(ordered, 1)
    ]


def _cells(first: RunData, under: Figures, data: RunData, figures: Figures) -> Iterator[ProtocolCell]:
    state, first_state = _states(data), _states(first)
    for row, solution in enumerate(data.samples.solutions):
        for column, workload in enumerate(data.samples.workloads):
            latency = estimate_at(figures.cells.latency, row, column)
            if latency is None:
                continue
            sm_mhz, watts = state.get((solution, workload), (None, None))
            first_sm_mhz, first_watts = first_state.get((solution, workload), (None, None))
            yield ProtocolCell(
                solution=solution,
                workload=workload,
                latency_us=latency,
                first_us=estimate_at(under.cells.latency, row, column),
                sm_mhz=sm_mhz,
                watts=watts,
                first_sm_mhz=first_sm_mhz,
                first_watts=first_watts,
            )


def _states(data: RunData) -> dict[tuple[str, str], tuple[float | None, float | None]]:
    """Clock (MHz) and power (W) during the timed calls, means over a cell's processes."""
    if data.journals is None:
        return {}
    frame = data.journals.measured(data.header.protocol or "")
    means = frame[frame["state_of_calls"]].groupby(["participant", "workload"])[["sm_mhz", "watts"]].mean()
    figures = zip(means.index, means.to_numpy(dtype=float).tolist(), strict=True)
    return {place: (number(sm_mhz), number(watts)) for place, (sm_mhz, watts) in figures}


def _overtakings(under: Figures, figures: Figures, rows: list[int]) -> Iterator[Overtaking]:
    """Pairs that stand the other way round than under the first protocol, beyond the noise of both."""
    names = figures.samples.solutions
    for a, b in permutations(rows, 2):
        now, before = (mean_interval(log_ratios(each.samples, a, b), LEVEL) for each in (figures, under))
        for column in np.flatnonzero((now.low > 0) & (before.high < 0)).tolist():
            ratio, first_ratio = estimate_at(now, column), estimate_at(before, column)
            assert ratio is not None and first_ratio is not None
            workload = figures.samples.workloads[column]
            yield Overtaking(workload=workload, faster=names[a], slower=names[b], ratio=ratio, first_ratio=first_ratio)
