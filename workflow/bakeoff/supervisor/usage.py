"""Where a block's time under the lock went, and how much of it the GPU had nothing to do.

Entry point: `Usage.spent`. Idle is what the GPU's owner pays for nothing: under the lock, no kernel running, nothing
being verified. Whether a kernel runs is sampled (`device.gpu_state`); when something is verified is known from those
who do it. Known limit: NVML's share of busy time is an average over up to the last second, so idleness is right over a
block, not at a moment.
"""

from __future__ import annotations

import bisect
import statistics
from dataclasses import dataclass, field

from bakeoff.schema.sample import Spent

Interval = tuple[float, float]  # begin and end, seconds of time.monotonic(), which all processes of a host share


def union(intervals: list[Interval], first: float, last: float) -> list[Interval]:
    """The intervals between `first` and `last`, in order, those that overlap made one."""
    found: list[Interval] = []
    for begin, end in sorted((max(begin, first), min(end, last)) for begin, end in intervals):
        if begin >= end:
            continue
        if found and begin <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((begin, end))
    return found


@dataclass
class Usage:
    """What a block notes while it runs."""

    taken: float | None = None  # when the lock was taken and released
    released: float = 0.0
    timed: float = 0.0  # seconds for which a worker was running a cell
    judged: float = 0.0  # seconds that the referee took for verdicts
    verifying: list[Interval] = field(default_factory=list)  # guarded calls, outputs on their way, answers and verdicts
    looks: list[tuple[float, float]] = field(default_factory=list)  # moment, share of the time around it with a kernel

    def spent(self) -> Spent:
        """The manifest's account; its total is for the caller to know."""
        lock = self.released - self.taken if self.taken is not None else 0.0
        verified = union(self.verifying, self.taken or 0.0, self.released)
        busy = statistics.fmean(share for _, share in self.looks) if self.looks else None
        return Spent(
            total=0,
            lock=round(lock, 3),
            timed=round(self.timed, 3),
            judged=round(self.judged, 3),
            gpu_busy=None if busy is None else round(busy, 3),
            verified=round(sum(end - begin for begin, end in verified), 3),
            idle=self._idle(verified),
        )

    def _idle(self, verified: list[Interval]) -> float | None:
        """Share of the looks' time with neither a kernel nor a verification; None without looks."""
        if not self.looks:
            return None
        begins = [begin for begin, _ in verified]

        def verifies(moment: float) -> bool:
            place = bisect.bisect_right(begins, moment) - 1
            return place >= 0 and moment < verified[place][1]

        return round(statistics.fmean(0.0 if verifies(moment) else 1 - share for moment, share in self.looks), 3)
