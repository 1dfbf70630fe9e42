"""Timing protocols, and the order in which a block does its cells.

Entry points: `PROTOCOLS`, `primary_tier`, `per_process_latency`, `block_order`, `cell_order`. Pure functions.
"""

import random
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
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
class Timing:
    """What all protocols have."""

    name: str
    # Blocks of a run that measure it, unless the configuration says otherwise; none: all.
    blocks: int | None = None
    # Whether it keeps fewer guards than `robust`: a process may be timed so only after it has passed that on the cell.
    after_robust: bool = False
    # Whether inputs stay in their places, weights among them. The reference, which is nobody's rival, is not timed so.
    in_place: bool = False
    # Calls in a row that share their values.
    shared: int = 1
    # The value family that is timed; none: the run's first one.
    family: str | None = None
    # Fewest tokens of a workload that is timed so.
    least_tokens: int = 0


@dataclass(frozen=True)
class Calls(Timing):
    """Calls on inputs that change in secret; by default `robust`: cold L2, inputs at shifting addresses with new values
    in each call, adaptive stopping. Times are seconds unless named otherwise."""

    name: str = "robust"
    # Whether the L2 cache is written over before each call.
    flush: bool = True
    # Whether the call is captured as a CUDA graph, and the graph is what is timed.
    graph: bool = False
    # Length of the rows of calls, without a pause, of which one sample is the mean; 0: a sample is a call.
    row_s: float = 0.0
    # Whether CUPTI records, behind a lead-in for each call.
    trace: bool = True
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
class Fib(Timing):
    """FlashInfer-Bench 0.1.2: warm-up calls, then timed calls of each trial; mean of the trials' means."""

    name: str = "fib-0.1.2"
    after_robust: bool = True
    warmup_calls: int = 10
    timed_calls: int = 50
    trials: int = 3
    cache_bytes: int = 256 * 1024 * 1024


# The L2 cache stays warm only where calls share their values: the weights' rewritten part alone would fill it.
_LATER = Calls(
    blocks=5, after_robust=True, in_place=True, buffers=1, warmup_calls=2, min_calls=8, max_calls=8, budget_s=1.0
)
# 16 rows of an eighth of a second are the two seconds after which a GPU has found the clock that its power limit
# leaves.
_ROWS = replace(_LATER, row_s=0.125, trace=False, min_calls=16, max_calls=16, budget_s=60.0)
# In the order in which a process goes through them. What `robust` attaches to the process would slow the calls of
# FlashInfer-Bench's; two seconds of full load warm the GPU for whatever comes after them.
PROTOCOLS: dict[str, Calls | Fib] = {
    each.name: each
    for each in (
        Fib(),
        Calls(),
        Calls(name="realistic", blocks=5, family="realistic"),
        replace(_LATER, name="graph", graph=True, batch_calls=1),
        replace(_LATER, name="warm", flush=False, shared=8),
        replace(_ROWS, name="sustained", blocks=3, flush=False, least_tokens=901),
    )
}


def after_robust(protocol: str | None) -> bool:
    """Whether a process must have passed `robust` on a cell before it is timed under this protocol."""
    return protocol is not None and PROTOCOLS[protocol].after_robust


def attaches(protocol: str | None) -> bool:
    """Whether CUPTI may be attached to a process before it is timed under this protocol: `robust` then comes with as
    few calls as it has, and without."""
    return protocol is None or isinstance(PROTOCOLS[protocol], Calls)


def unattached(timing: Calls) -> Calls:
    """The protocol as a check alone: its guards but for CUPTI's records, and as few calls as it has."""
    return replace(timing, trace=False, max_calls=timing.min_calls)


def primary_tier(protocol: str, available: set[str] | frozenset[str]) -> str:
    """The tier that a cell's latency is read from. `robust`: what the GPU itself recorded, launch gaps included."""
    wanted = ("event_us", "wall_us") if protocol == "fib-0.1.2" else ("cupti_span_us", "event_us", "wall_us")
    return next(tier for tier in wanted if tier in available)


def per_process_latency(protocol: str, samples: list[float]) -> float:
    """One process's latency from its calls: their median, over the second half under `sustained`; the mean of trial
    means under `fib-0.1.2`."""
    if protocol == "fib-0.1.2":
        return sum(samples) / len(samples)  # trials have equal numbers of calls, so the mean of their means is the mean
    return statistics.median(samples[len(samples) // 2 :] if protocol == "sustained" else samples)


def block_order(run: str, block: int, names: Sequence[str], balanced: bool = True) -> list[str]:
    """The participants of a block in its order, seeded by the run's name.

    Balanced over blocks (Williams, 1949): in as many blocks as there are participants, each has every place once, and,
    if their number is even, comes once right after every other; if it is odd, twice in twice as many. Not balanced:
    each block's order is drawn by itself.
    """
    order, count = list(names), len(names)
    if not balanced:
        random.Random(f"{run}/{block}/participants").shuffle(order)
        return order
    random.Random(f"{run}/participants").shuffle(order)
    turns = list(range(count))
    random.Random(f"{run}/turns").shuffle(turns)
    cycle, turn = divmod(block, count)
    zigzag = [(place + 1) // 2 if place % 2 else -(place // 2) for place in range(count)]
    places = zigzag[::-1] if cycle % 2 else zigzag
    return [order[(place + turns[turn]) % count] for place in places]


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

    order: the participants, as `block_order` gives them. Cells without a protocol are only verified, and come first.
    All participants of a block meet the workloads in the same shuffled order.
    """
    shuffled = list(workloads)
    random.Random(f"{run}/{block}/workloads").shuffle(shuffled)

    def position(cell: C) -> tuple[int, ...]:
        protocol = [None, *PROTOCOLS].index(cell.protocol)
        values = (families.index(cell.family), seeds.index(cell.seed))
        return (order.index(cell.participant), protocol, *values, shuffled.index(cell.workload))

    return sorted(cells, key=position)
