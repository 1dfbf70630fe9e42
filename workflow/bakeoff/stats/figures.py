"""Everything that is computed from a run's samples once, and shared by the parts of the document.

Entry point: `Figures.of`. Arrays are (solutions, workloads) and hold logs: of microseconds, or of ratios.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bakeoff.runs.intervals import Floats, block_means, outliers
from bakeoff.runs.samples import CellFigures, Samples
from bakeoff.stats.pairs import Duels, PairDecision, compare_pairs
from bakeoff.stats.rundata import RunData


@dataclass(frozen=True)
class Figures:
    """Point estimates, intervals and decisions of a run whose performance is shown."""

    samples: Samples
    seq_lens: NDArray[np.int64]
    """Tokens of each workload."""
    contestants: list[int]
    """Rows that can win."""
    cells: CellFigures
    speed: Floats
    """What solutions are ordered by at a workload: speedups, or where one lacks its reference the times themselves."""
    outliers: NDArray[np.bool_]
    """(solutions, workloads, blocks)."""
    pairs: list[PairDecision]
    duels: Duels

    @classmethod
    def of(cls, data: RunData) -> Figures:
        samples = data.samples
        pairs, cells = compare_pairs(samples), CellFigures.of(samples)
        return cls(
            samples=samples,
            seq_lens=np.array([workload.seq_len for workload in data.workloads]),
            contestants=[samples.solutions.index(name) for name in data.contestants],
            cells=cells,
            speed=_speed(samples, cells.speedup.value),
            outliers=outliers(samples.log_time),
            pairs=pairs,
            duels=Duels(pairs),
        )


def _speed(samples: Samples, speedup: Floats) -> Floats:
    times = -block_means(samples.log_time).mean
    unreferenced = (np.isnan(speedup) & ~np.isnan(times)).any(axis=0)
    return np.where(unreferenced, times, speedup)
