"""What the supervisor decides about a sample, apart from its order: changed values, verified outputs, time limits, and
what the end of a worker means.

Pure functions and constants, apart from secret chance. The supervisor imports them and has no such rule of its own, so
that a cell's key covers them.
"""

import secrets
import signal
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from bakeoff.core.protocols import Robust
from bakeoff.core.variants import Variant
from bakeoff.schema.outcomes import Outcome, Reason

# A T up to which the extra correctness calls on changed values cost little (its weight traffic dominates).
SMALL_TOKENS = 128
PROBES = 2  # cells of each participant that run a second time on changed values, where no call is timed
RETRIES = 2  # times that a disturbed cell runs again
STARTS = 3  # attempts to start a worker before its participant is given up
BATCHES = 1000  # of timed calls that a cell may have
KILL_GRACE_S = 1.0  # time for a hanging worker to print its stack
# A start imports torch and kernel libraries and may compile; on a busy host that takes longer than a short time limit
# for cells.
START_S, START_FORKED_S = 300.0, 15.0


def start_limit_s(timeout_s: float, forked: bool) -> float:
    """Seconds within which a worker must be ready. timeout_s: the limit of a cell; forked: from a process that has
    imported torch."""
    return max(START_FORKED_S if forked else START_S, timeout_s)


def changed_values(tokens: int, experts: int) -> list[Variant]:
    """Values that a timed cell's calls draw from beside its own: the same for all participants of a block.

    One roll of the weights for all: a worker holds two sets of weights, not one for each variant.
    """
    made = [Variant.secret(tokens, experts) for _ in range(Robust().variants - 1)]
    return [replace(variant, experts=made[0].experts) for variant in made]


def choose_probes(tokens: Mapping[str, int]) -> set[str]:
    """Which cells run again on changed values: some of the small ones, else the smallest. tokens: by the cell's key."""
    small = [key for key, count in tokens.items() if count <= SMALL_TOKENS] or [
        min(tokens, key=lambda key: tokens[key])
    ]
    return set(secrets.SystemRandom().sample(small, min(PROBES, len(small))))


def choose_call(variants: Sequence[int], kept: Sequence[int], places: int) -> int | None:
    """The call of a batch whose output is to be verified, or None; nobody could know it beforehand.

    variants: of each call, 0 for the workload's own values; kept: those of the outputs kept so far; places: how many
    can be kept. Each cell has one with changed values; later batches have one or none, as chance will.
    """
    if len(kept) >= places:
        return None
    changed = [call for call, variant in enumerate(variants) if variant != 0]
    if changed and not any(kept):
        return secrets.choice(changed)
    return secrets.randbelow(len(variants)) if secrets.randbelow(2) else None


def claims_more_than(seconds: float, tiers: Iterable[Iterable[float]]) -> bool:
    """Whether the calls' reported times (us, by tier) exceed what has really passed: they came one after the other."""
    return max((sum(times) for times in tiers), default=0.0) / 1e6 > seconds


def meaning_of_end(status: int, out_of_memory: bool) -> tuple[Outcome, Reason]:
    """What it means that a worker ended by itself. status: its exit code, or minus the signal."""
    if status == -signal.SIGKILL and out_of_memory:
        return Outcome.OUT_OF_MEMORY, Reason.OOM_KILLER
    return Outcome.CRASHED, Reason.SIGNAL if status < 0 else Reason.EXITED
