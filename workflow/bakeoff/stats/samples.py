"""The numbers that everything is decided from: one time per solution, workload and block.

Entry point: `Samples.collect`, which refuses what is no time (NaN, infinity, zero, negative) and what is there twice.
Inside, a missing block is NaN in arrays of shape (solutions, workloads, blocks); logs are natural.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bakeoff.errors import InputError
from bakeoff.stats.intervals import Floats


@dataclass(frozen=True)
class Sample:
    """One solution's time on one workload in one block, and the reference's in the same block (None if it has none)."""

    solution: str
    workload: str
    block: int
    latency_us: float
    reference_us: float | None
    where: str
    """What an error about this sample names first, e.g. `traces.jsonl:12`."""
    tier: str = ""
    """Which time both are (`cupti_span_us`, `event_us`, ...); times of different tiers are never compared."""


@dataclass(frozen=True)
class Samples:
    """Log times of solutions and of the reference, (solutions, workloads, blocks), NaN where missing; `tier`
    (solutions, workloads).

    The reference's time stands beside each solution's, because it is read from the same tier as the solution's.
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
    def collect(
        cls, solutions: Sequence[str], workloads: Sequence[str], samples: Iterable[Sample], *, times_known: bool = True
    ) -> Samples:
        """Arrange samples; solutions and workloads without any stay as NaN rows. Flaws are InputErrors."""
        entries = list(samples)
        blocks = sorted({entry.block for entry in entries}) or [0]
        rows, columns, depth = (
            {name: index for index, name in enumerate(names)} for names in (solutions, workloads, blocks)
        )
        time, reference = (np.full((len(rows), len(columns), len(depth)), np.nan) for _ in range(2))
        tier = np.full(time.shape[:2], "", dtype="U32")
        for entry in entries:
            cell = rows[entry.solution], columns[entry.workload]
            place = (*cell, depth[entry.block])
            if not np.isnan(time[place]):
                raise _twice(entry)
            time[place], tier[cell] = _log(entry.latency_us, "latency_us", entry), entry.tier
            if entry.reference_us is not None:
                reference[place] = _log(entry.reference_us, "reference_us", entry)
        return cls(list(solutions), list(workloads), blocks, time, reference, tier, times_known)


def _log(value: float, field: str, entry: Sample) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
        raise InputError(
            f"{entry.where}: {field} of block {entry.block}",
            found=repr(value),
            expected="a finite time above 0, in microseconds",
            hint="a cell without a valid time must not be PASSED: run `bakeoff assemble` again, or measure the block "
            "again",
        )
    return math.log(value)


def _twice(entry: Sample) -> InputError:
    return InputError(
        f"{entry.where}: block {entry.block} of {entry.solution}/{entry.workload}",
        found="a second time for this block",
        expected="one time per solution, workload and block",
        hint="run `bakeoff assemble` again",
    )
