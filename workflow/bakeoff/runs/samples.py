"""The times that everything is decided from, and a cell's figures: one definition for traces, analysis and pages.

Entry points: `Samples.of`, which refuses what is no time (NaN, infinity, zero, negative) and what is there twice, and
`CellFigures.of`. Inside, a missing block is NaN in arrays of shape (solutions, workloads, blocks); logs are natural.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bakeoff.errors import InputError
from bakeoff.runs.intervals import Floats, Interval, mean_interval, median_interval
from bakeoff.schema.analysis import DIGITS

# One solution's time on one workload in one block, and the reference's in the same block (missing if it has none), both
# of the named tier.
COLUMNS = ["solution", "workload", "block", "latency_us", "reference_us", "tier"]


def printed(value: float) -> float:
    """The value as documents print it; 0 where there is none, as in a trace."""
    return float(f"{value:.{DIGITS}g}") if np.isfinite(value) else 0.0


def times_frame(rows: Iterable[Sequence[Any]]) -> pd.DataFrame:
    """A frame of rows in the order of `COLUMNS`."""
    return pd.DataFrame(list(rows), columns=COLUMNS)


@dataclass(frozen=True)
class Samples:
    """Log times of solutions and of the reference, (solutions, workloads, blocks), NaN where missing; `tier`
    (solutions, workloads).

    The reference's time stands beside each solution's, because it is read from the same tier as the solution's. Times
    of different tiers are never compared.
    """

    solutions: list[str]
    workloads: list[str]
    blocks: list[int]
    log_time: Floats
    log_reference: Floats
    tier: NDArray[np.str_]
    times_known: bool
    """False for a published table: only ratios to the reference are known, and its time counts as 1."""

    @property
    def log_speedup(self) -> Floats:
        return self.log_reference - self.log_time

    @classmethod
    def of(
        cls, times: pd.DataFrame, solutions: Sequence[str], workloads: Sequence[str], *, times_known: bool = True
    ) -> "Samples":
        """Arrange a frame of `COLUMNS`; solutions and workloads without any stay as NaN rows. Flaws are InputErrors."""
        _refuse_flaws(times)
        blocks = sorted(times["block"].unique().tolist()) or [0]
        shape = len(solutions), len(workloads), len(blocks)
        place = tuple(
            pd.Index(names).get_indexer(times[column])
            for column, names in (("solution", solutions), ("workload", workloads), ("block", blocks))
        )
        time, reference, tier = np.full(shape, np.nan), np.full(shape, np.nan), np.full(shape[:2], "", dtype="U32")
        time[place] = np.log(times["latency_us"].to_numpy(dtype=float))
        reference[place] = np.log(times["reference_us"].to_numpy(dtype=float))
        tier[place[:2]] = times["tier"].to_numpy(dtype=str)
        return cls(list(solutions), list(workloads), blocks, time, reference, tier, times_known)


@dataclass(frozen=True)
class CellFigures:
    """What a cell is said to be, (solutions, workloads) each, as logs: over the blocks that the cell and the reference
    share, or over the cell's own where the reference has none."""

    latency: Interval
    """Geometric mean of the processes' values."""
    median: Interval
    """Their median: a lone slow process does not move it."""
    reference: Interval
    """The reference's latency, from the same tier and blocks."""
    speedup: Interval
    """The quotient of the two latencies, paired by block."""
    blocks: NDArray[np.int64]
    """How many blocks that is."""

    @classmethod
    def of(cls, samples: Samples) -> "CellFigures":
        timed = ~np.isnan(samples.log_time)
        shared = timed & ~np.isnan(samples.log_reference)
        counted = np.where(shared.any(axis=-1, keepdims=True), shared, timed)
        own = np.where(counted, samples.log_time, np.nan)
        return cls(
            latency=mean_interval(own),
            median=median_interval(own),
            reference=mean_interval(np.where(shared, samples.log_reference, np.nan)),
            speedup=mean_interval(samples.log_speedup),
            blocks=counted.sum(axis=-1),
        )


def _refuse_flaws(times: pd.DataFrame) -> None:
    """InputError for the first value that is no time, or for a block that a cell has twice."""
    for field in ("latency_us", "reference_us"):
        numbers = times[field].map(lambda value: np.nan if isinstance(value, bool | str) else value).astype(float)
        wrong = ~(np.isfinite(numbers) & (numbers > 0)).to_numpy()
        if field == "reference_us":
            wrong &= times[field].notna().to_numpy()
        if wrong.any():
            entry = times.iloc[int(wrong.argmax())]
            raise InputError(
                f"{entry['solution']}/{entry['workload']}: {field} of block {entry['block']}",
                found=str(entry[field]),
                expected="a finite time above 0, in microseconds",
                hint="a cell without a valid time must not be PASSED: delete its line, and measure the block again",
            )
    twice = times[times.duplicated(["solution", "workload", "block"])]
    if len(twice):
        entry = twice.iloc[0]
        raise InputError(
            f"{entry['solution']}/{entry['workload']}: block {entry['block']}",
            found="a second time for this block",
            expected="one time per solution, workload and block",
            hint="delete one of the two",
        )
