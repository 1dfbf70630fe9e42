"""Timing protocols, and the order in which a block does its cells.

Entry points: `PROTOCOLS`, `primary_tier`, `block_order`, `block_cells`. Pure functions of the plan.
"""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass
from typing import Any

from bakeoff.errors import InputError
from bakeoff.schema.plan import Cell, Plan

# A T up to which the extra correctness calls on changed values cost little (its weight traffic dominates).
SMALL_TOKENS = 128


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
    # Variants of the inputs (values) and buffers (addresses) that calls draw from.
    variants: int = 3
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


def settings(name: str) -> dict[str, Any]:
    """The protocol's parameters, for the record."""
    return asdict(PROTOCOLS[name])


def primary_tier(protocol: str, available: set[str] | frozenset[str]) -> str:
    """The tier that a cell's latency is read from. `robust`: what the GPU itself recorded, launch gaps included."""
    wanted = ("event_us", "wall_us") if protocol == "fib-0.1.2" else ("cupti_span_us", "event_us", "wall_us")
    return next(tier for tier in wanted if tier in available)


def per_process_latency(protocol: str, samples: list[float]) -> float:
    """One process's latency from its calls: the median under `robust`, the mean of trial means under `fib-0.1.2`."""
    if protocol == "fib-0.1.2":
        return sum(samples) / len(samples)  # trials have equal numbers of calls, so the mean of their means is the mean
    ordered = sorted(samples)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def block_order(plan: Plan, block: int) -> list[str]:
    """The participants of a block in its seeded random order."""
    names = [participant.name for participant in plan.participants]
    random.Random(f"{plan.run}/{block}/participants").shuffle(names)
    return names


def block_cells(plan: Plan, block: int) -> list[Cell]:
    """The cells of a block in the order in which they run: by participant, then protocol, then values, then workload.

    Verify cells are due in block 0 only, and come first; `robust` comes last, because what it attaches to the process
    would slow the calls of another protocol. All participants of a block meet the workloads in the same shuffled order.
    """
    if not 0 <= block < plan.blocks:
        raise InputError(
            "option --block",
            found=str(block),
            expected=f"a block of this run: 0 to {plan.blocks - 1}",
            hint="correct the number, or raise `blocks` in the configuration and plan again",
        )
    workloads = [workload.id for workload in plan.workloads]
    random.Random(f"{plan.run}/{block}/workloads").shuffle(workloads)
    families, order = list(plan.families), block_order(plan, block)

    def position(cell: Cell) -> tuple[int, ...]:
        protocol = (cell.protocol is not None) + (cell.protocol == "robust")
        values = (families.index(cell.family), plan.seeds.index(cell.seed))
        return (order.index(cell.participant), protocol, *values, workloads.index(cell.workload))

    due = [cell for cell in plan.cells if cell.kind == "measure" or block == 0]
    return sorted(due, key=position)
