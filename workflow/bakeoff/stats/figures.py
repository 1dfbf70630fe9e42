"""Everything that is computed from a run's samples once, and shared by the parts of the document.

Entry point: `Figures.of`. Arrays are (solutions, workloads) and hold logs: of microseconds, or of ratios.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bakeoff.runs.intervals import Floats, Interval, block_means, mean_interval, outliers
from bakeoff.runs.samples import CellFigures, Samples
from bakeoff.schema.analysis_figures import Winner
from bakeoff.schema.outcomes import UNFINISHED
from bakeoff.stats.pairs import Duels, PairDecision, compare_pairs, over_shared_blocks, winners
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
    shared: Floats
    """Log speedups over the blocks that all contestants with a value share, which comparisons between them rest on;
    NaN for others, and at a workload where they share none."""
    busy: Floats
    """Block log speedups from busy times (solutions, workloads, blocks): without what the GPU waits for the host."""
    host: Floats
    """Log microseconds that the host spends in a call, (solutions, workloads)."""
    outliers: NDArray[np.bool_]
    """(solutions, workloads, blocks)."""
    pairs: list[PairDecision]
    duels: Duels
    won: list[Winner]
    """Leader and winner of each workload."""

    @cached_property
    def busy_speedup(self) -> Interval:
        return mean_interval(self.busy)

    @classmethod
    def of(cls, data: RunData) -> "Figures":
        samples, twins = data.samples, {who.name for who in data.participants if who.twin_of}
        contestants = [samples.solutions.index(name) for name in data.contestants]
        everyone = [row for row, name in enumerate(samples.solutions) if name not in twins]
        unmeasured = {(cell.solution, cell.workload) for cell in data.cells if cell.outcome in UNFINISHED}
        place = samples.solutions.index
        copies = {frozenset((place(who.name), place(who.twin_of))) for who in data.participants if who.twin_of}
        pairs = compare_pairs(
            samples, contestants, copies, data.leading, list(map(place, data.anchors)), data.selection is not None
        )
        duels = Duels(samples, pairs)
        return cls(
            samples=samples,
            seq_lens=np.array([workload.seq_len for workload in data.workloads]),
            contestants=contestants,
            cells=CellFigures.of(samples),
            shared=over_shared_blocks(samples, contestants, samples.log_speedup),
            busy=_cube(data, "cupti_busy_us", ratio=True),
            host=block_means(_cube(data, "wall_us")).mean,
            outliers=outliers(samples.log_time),
            pairs=pairs,
            duels=duels,
            won=winners(
                samples, contestants, everyone, duels, {one for one in unmeasured if one[0] in data.contestants}
            ),
        )


def _cube(data: RunData, tier: str, *, ratio: bool = False) -> Floats:
    """Log times of a tier (solutions, workloads, blocks), or the reference's less these; NaN where the cell has no
    sample, and without journals."""
    samples, logs = data.samples, data.busy(tier)
    if logs.empty:
        return np.full(samples.log_time.shape, np.nan)
    names = ["reference", *samples.solutions]
    places = pd.MultiIndex.from_product([names, samples.workloads])
    cube = logs.reindex(index=places, columns=samples.blocks).to_numpy(dtype=float)
    reference, *own = cube.reshape(len(names), len(samples.workloads), len(samples.blocks))
    found = reference - np.array(own) if ratio else np.array(own)
    return np.where(np.isnan(samples.log_time), np.nan, found)
