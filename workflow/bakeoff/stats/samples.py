"""The numbers that everything is decided from: one time per solution, workload and block.

Entry point: `Samples.collect`, which refuses what is no time (NaN, infinity, zero, negative) and what is there twice.
Inside, a missing block is NaN in arrays of shape (solutions, workloads, blocks); logs are natural.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

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


@dataclass(frozen=True)
class Samples:
    """Log times: `log_time` (solutions, workloads, blocks), `log_reference` (workloads, blocks); NaN where missing."""

    solutions: list[str]
    workloads: list[str]
    blocks: list[int]
    log_time: Floats
    log_reference: Floats
    times_known: bool
    """False for a published table: only ratios to the reference are known, and its time counts as 1."""

    @property
    def log_speedup(self) -> Floats:
        return self.log_reference[None] - self.log_time

    @classmethod
    def collect(
        cls, solutions: Sequence[str], workloads: Sequence[str], samples: Iterable[Sample], *, times_known: bool = True
    ) -> Samples:
        """Arrange samples; solutions and workloads without any stay as NaN rows. Flaws are InputErrors."""
        entries = list(samples)
        blocks = sorted({entry.block for entry in entries}) or [0]
        rows, columns, depth = (_positions(names) for names in (solutions, workloads, blocks))
        time = np.full((len(rows), len(columns), len(depth)), np.nan)
        reference = np.full((len(columns), len(depth)), np.nan)
        for entry in entries:
            place = columns[entry.workload], depth[entry.block]
            _put(time, (rows[entry.solution], *place), _log(entry.latency_us, "latency_us", entry), entry, shared=False)
            if entry.reference_us is not None:
                _put(reference, place, _log(entry.reference_us, "reference_us", entry), entry, shared=True)
        return cls(list(solutions), list(workloads), blocks, time, reference, times_known)


def _positions(names: Sequence) -> dict:
    return {name: index for index, name in enumerate(names)}


def _log(value: float, field: str, entry: Sample) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
        raise InputError(
            f"{entry.where}: {field} of block {entry.block}",
            found=repr(value), expected="a finite time above 0, in microseconds",
            hint="a cell without a valid time must not be PASSED: run `bakeoff assemble` again, or measure the block again",
        )  # fmt: skip
    return math.log(value)


def _put(array: Floats, place: tuple[int, ...], value: float, entry: Sample, *, shared: bool) -> None:
    """Store a value once; the reference's time comes with every solution and must be the same each time."""
    known = array[place]
    if np.isnan(known):
        array[place] = value
    elif not shared or known != value:
        raise InputError(
            f"{entry.where}: block {entry.block} of {entry.solution}/{entry.workload}",
            found="another reference time than beside the solutions before it" if shared else "a second time for this block",
            expected="one reference time per workload and block" if shared else "one time per solution, workload and block",
            hint="run `bakeoff assemble` again",
        )  # fmt: skip
