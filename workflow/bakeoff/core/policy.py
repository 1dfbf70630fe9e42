"""What the supervisor decides about a sample, apart from its order: changed values, verified outputs, time limits, and
what the end of a worker means.

Pure functions and constants, apart from secret chance. The supervisor imports them and has no such rule of its own, so
that a cell's key covers them.
"""

import secrets
import signal
import statistics
from collections.abc import Iterable, Mapping, Sequence

from bakeoff.schema.outcomes import Outcome, Reason

# A T up to which the extra correctness calls on changed values cost little (its weight traffic dominates).
SMALL_TOKENS = 128
PROBES = 2  # cells of each participant that run a second time on changed values, where no call is timed
RETRIES = 2  # times that a disturbed cell runs again
STARTS = 3  # attempts to start a worker before its participant is given up
BATCHES = 1000  # of timed calls that a cell may have
KILL_GRACE_S = 1.0  # time for a hanging worker to print its stack
# Gaps of the GPU's own making, between the kernels of a call, are below this share of the span, or these microseconds:
# of 5,889 recorded cells one exceeds them with a host whose part is short. A longer one no lead-in can hide.
GAP_SHARE, GAP_LEAST_US, HIDDEN_HOST_US = 0.1, 20.0, 650.0
# A start imports torch and kernel libraries and may compile; on a busy host that takes longer than a short time limit
# for cells.
START_S, START_FORKED_S = 300.0, 15.0


def start_limit_s(timeout_s: float, forked: bool) -> float:
    """Seconds within which a worker must be ready. timeout_s: the limit of a cell; forked: from a process that has
    imported torch."""
    return max(START_FORKED_S if forked else START_S, timeout_s)


def choose_probes(tokens: Mapping[str, int]) -> set[str]:
    """Which cells run again on changed values: some of the small ones, else the smallest. tokens: by the cell's key."""
    small = [key for key, count in tokens.items() if count <= SMALL_TOKENS] or [
        min(tokens, key=lambda key: tokens[key])
    ]
    return set(secrets.SystemRandom().sample(small, min(PROBES, len(small))))


def choose_calls(repeats: Sequence[bool], seen: Mapping[bool, int]) -> dict[bool, int]:
    """The calls of a batch whose outputs are to be kept, by kind, in place of those kept before; nobody could know them
    beforehand.

    repeats: of each call, whether it has the values of the one before (its kind); seen: calls of earlier batches by
    kind. At the end of a cell, the kept one of each kind is any of its calls with the same probability.
    """
    chosen = {}
    for kind in (False, True):
        calls = [call for call, repeat in enumerate(repeats) if repeat == kind]
        if calls and secrets.randbelow(seen.get(kind, 0) + len(calls)) < len(calls):
            chosen[kind] = secrets.choice(calls)
    return chosen


def claims_more_than(seconds: float, tiers: Iterable[Iterable[float]]) -> bool:
    """Whether the calls' reported times (us, by tier) exceed what has really passed: they came one after the other."""
    return max((sum(times) for times in tiers), default=0.0) / 1e6 > seconds


def host_time(tiers: Mapping[str, Sequence[float]]) -> str | None:
    """A sentence if a cell's GPU times (us, by tier) hold time in which the GPU waited for the host, although the
    host's part of a call is short enough to pass while the GPU is kept busy."""
    names = ("cupti_span_us", "cupti_busy_us", "wall_us")
    if not all(tiers.get(name) for name in names):
        return None
    span, busy, host = (statistics.median(tiers[name]) for name in names)
    if span - busy <= max(GAP_SHARE * span, GAP_LEAST_US) or host >= HIDDEN_HOST_US:
        return None
    return f"the GPU worked for {busy:.0f} of {span:.0f} us and waited for the host, whose part takes {host:.0f} us"


def meaning_of_end(status: int, out_of_memory: bool) -> tuple[Outcome, Reason]:
    """What it means that a worker ended by itself. status: its exit code, or minus the signal."""
    if status == -signal.SIGKILL and out_of_memory:
        return Outcome.OUT_OF_MEMORY, Reason.OOM_KILLER
    return Outcome.CRASHED, Reason.SIGNAL if status < 0 else Reason.EXITED
