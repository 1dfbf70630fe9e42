"""Timing protocols, and the order in which a block does its cells.

Entry points: `PROTOCOLS`, `primary_tier`, `per_process_latency`, `block_order`, `cell_order`. Pure functions.
"""

import random
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar


class Due(Protocol):
    """A cell, as far as its place in a block depends on it."""

    @property
    def participant(self) -> str: ...

    @property
    def workload(self) -> str: ...

    @property
    def protocol(self) -> str | None: ...

    @property
    def family(self) -> str: ...

    @property
    def seed(self) -> int: ...


C = TypeVar("C", bound=Due)


@dataclass(frozen=True)
class Robust:
    """Cold L2, inputs at shifting addresses with changed values, adaptive stopping. Times are seconds unless named
    otherwise."""

    name: str = "robust"
    warmup_calls: int = 3
    batch_calls: int = 8
    min_calls: int = 16
    max_calls: int = 96
    # Half of the 95 % interval of the median, as a share of the median, at which a cell is precise enough: blocks
    # differ by
    # 0.3 % and more, so that sharper cells would not sharpen a verdict.
    precision: float = 0.002
    # The same share, beyond which calls wait for the host rather than for the GPU: such a cell's blocks differ by far
    # more, and no number of calls that a block has time for would make it precise.
    hopeless: float = 0.02
    # Wall time of a cell's timed calls after which no further batch starts, precise or not: the reference needs 20 ms
    # and more a call, and a composition of hundreds of kernels makes as many records.
    budget_s: float = 0.25
    # Calls in a row that are timed as one, and as many again: the time must scale with their number.
    scaling_calls: int = 4
    # Buffers (addresses) for activations that calls draw from; values are new in each.
    buffers: int = 3


@dataclass(frozen=True)
class Fib:
    """FlashInfer-Bench 0.1.2: warm-up calls, then timed calls of each trial; mean of the trials' means."""

    name: str = "fib-0.1.2"
    warmup_calls: int = 10
    timed_calls: int = 50
    trials: int = 3
    cache_bytes: int = 256 * 1024 * 1024


PROTOCOLS: dict[str, Robust | Fib] = {"robust": Robust(), "fib-0.1.2": Fib()}


def primary_tier(protocol: str, available: set[str] | frozenset[str]) -> str:
    """The tier that a cell's latency is read from. `robust`: what the GPU itself recorded, launch gaps included."""
    wanted = ("event_us", "wall_us") if protocol == "fib-0.1.2" else ("cupti_span_us", "event_us", "wall_us")
    return next(tier for tier in wanted if tier in available)


def per_process_latency(protocol: str, samples: list[float]) -> float:
    """One process's latency from its calls: the median under `robust`, the mean of trial means under `fib-0.1.2`."""
    if protocol == "fib-0.1.2":
        return sum(samples) / len(samples)  # trials have equal numbers of calls, so the mean of their means is the mean
    return statistics.median(samples)


def block_order(run: str, block: int, names: Sequence[str]) -> list[str]:
    """The participants of a block in its seeded random order."""
    order = list(names)
    random.Random(f"{run}/{block}/participants").shuffle(order)
    return order


def cell_order(
    cells: Iterable[C],
    run: str,
    block: int,
    order: Sequence[str],
    workloads: Sequence[str],
    families: Sequence[str],
    seeds: Sequence[int],
) -> list[C]:
    """The cells of a block in the order in which they run: by participant, then protocol, then values, then workload.

    order: the participants, as `block_order` gives them. Cells without a protocol are only verified: they are due in
    block 0 only, and come first; `robust` comes last, because what it attaches to the process would slow the calls of
    another protocol. All participants of a block meet the workloads in the same shuffled order.
    """
    shuffled = list(workloads)
    random.Random(f"{run}/{block}/workloads").shuffle(shuffled)

    def position(cell: C) -> tuple[int, ...]:
        protocol = (cell.protocol is not None) + (cell.protocol == "robust")
        values = (families.index(cell.family), seeds.index(cell.seed))
        return (order.index(cell.participant), protocol, *values, shuffled.index(cell.workload))

    return sorted((cell for cell in cells if cell.protocol is not None or block == 0), key=position)
