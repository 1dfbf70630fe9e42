"""From a call's GPU activities to stages, gaps and bounds.

Entry points: `assign` (kernels to stages by the solution's table), `break_down` (one call), `representative` (one call
out of several), `bound`. Pure functions; times in microseconds. Overlapping activities share the time of their overlap
equally, so that stages sum to the busy time exactly, also with several streams or programmatic launches. How long a
stage runs counts the overlap in full: a kernel that starts early also reads early, so only that time can be compared
with the stage's floor.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, Protocol

from bakeoff.profile.timeline import Activity, Call, Launch, display_name
from bakeoff.schema.solution import Stage

STAGES: tuple[Stage, ...] = ("routing", "permute", "gemm1", "activation_quant", "gemm2", "combine", "other")
# Share of the span for which the GPU may wait for launches before a call counts as host-bound: calls are enqueued while
# the GPU is kept busy with other work, so more than this comes from a wait for the GPU inside the call.
HOST_BOUND_SHARE = 0.10
# Host calls that wait for the GPU; their time is not the host's own.
WAITS = ("Synchronize", "Memcpy", "memcpy")


class Rule(Protocol):
    """A row of a solution's stage table."""

    @property
    def kernel(self) -> str: ...

    @property
    def stage(self) -> str: ...


@dataclass(frozen=True)
class KernelTime:
    """All launches of one kernel in a call."""

    name: str
    stage: Stage
    mapped: bool
    launches: int
    us: float
    grid: tuple[int, int, int] | None
    block: tuple[int, int, int] | None
    registers: int | None
    shared_bytes: int | None
    local_bytes: int | None


@dataclass(frozen=True)
class Breakdown:
    """Where the time of one call went."""

    kernels: list[KernelTime]
    stages_us: dict[Stage, float]
    stages_run_us: dict[Stage, float]
    busy_us: float
    span_us: float
    host_gap_us: float
    device_gap_us: float
    host_us: float
    mapped_us: float
    launches: int
    syncs: int

    @property
    def gap_us(self) -> float:
        return self.host_gap_us + self.device_gap_us


def bound(host_us: float, span_us: float, host_gap_us: float) -> Literal["host", "device"]:
    """`host` if the host needs longer to enqueue a call than the GPU to execute it, or the GPU waited for launches for
    more than a
    tenth of the span; else `device`."""
    return "host" if host_us > span_us or host_gap_us > HOST_BOUND_SHARE * span_us else "device"


def assign(names: Sequence[str], rules: Sequence[Rule]) -> list[tuple[Stage, bool]]:
    """(stage, whether a rule said so) of a call's kernels, given by name in the order of their start.

    One library kernel may serve both GEMMs: a kernel that rules of several stages match takes the first of them, in
    pipeline order, that does not lie before the stage reached so far. Without a rule it is `other`.
    """
    found: list[tuple[Stage, bool]] = []
    reached = 0
    for name in names:
        stages = sorted({STAGES.index(rule.stage) for rule in matching(name, rules)})
        if not stages:
            found.append(("other", False))
            continue
        index = next((stage for stage in stages if stage >= reached), stages[-1])
        found.append((STAGES[index], True))
        if STAGES[index] != "other":
            reached = index
    return found


def matching(name: str, rules: Sequence[Rule]) -> list[Rule]:
    """The rules that hold for a kernel: the first whose pattern occurs in its name, and all others with the very same
    pattern."""
    first = next((rule for rule in rules if _pattern(rule.kernel).search(name)), None)
    return [] if first is None else [rule for rule in rules if rule.kernel == first.kernel]


def break_down(call: Call, rules: Sequence[Rule]) -> Breakdown | None:
    """One call's breakdown; None if it started nothing on the GPU."""
    if not call.activities:
        return None
    own_us = _own_times(call.activities)
    busy_us = sum(own_us)
    span_us = (max(activity.end_ns for activity in call.activities) - call.activities[0].start_ns) / 1000
    staged = assign([activity.name for activity in call.activities], rules)
    stages_us = dict.fromkeys(STAGES, 0.0)
    for (stage, _), us in zip(staged, own_us, strict=True):
        stages_us[stage] += us
    runs_us = {
        stage: _any_runs([one for one, (its, _) in zip(call.activities, staged, strict=True) if its == stage])
        for stage in STAGES
    }
    host_gap_us = _host_gap(call.activities, call.launches)
    return Breakdown(
        kernels=_by_kernel(call.activities, staged, own_us),
        stages_us=stages_us,
        stages_run_us=runs_us,
        busy_us=busy_us,
        span_us=span_us,
        host_gap_us=host_gap_us,
        device_gap_us=max(0.0, span_us - busy_us - host_gap_us),
        host_us=_host_time(call),
        mapped_us=sum(us for (_, mapped), us in zip(staged, own_us, strict=True) if mapped),
        launches=len(call.activities),
        syncs=sum("Synchronize" in launch.name for launch in call.launches),
    )


def representative(found: Sequence[Breakdown]) -> Breakdown:
    """The call with the median busy time (the lower one of two): its parts belong together, medians of parts would not.

    Calls in which the GPU waited for the host longer than in the best of them, by a tenth of the span, stand aside:
    what the tracer or another process costs the host comes on top of a call's own waits, and is not the solution's.
    """
    least_us = min(one.host_gap_us for one in found)
    steady = [one for one in found if one.host_gap_us - least_us <= HOST_BOUND_SHARE * one.span_us]
    return sorted(steady, key=lambda one: one.busy_us)[(len(steady) - 1) // 2]


@functools.cache
def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text)


def _own_times(activities: Sequence[Activity]) -> list[float]:
    """Each activity's time in us, where n that run at once get 1/n each; sums to the time at which any runs."""
    edges = sorted({edge for activity in activities for edge in (activity.start_ns, activity.end_ns)})
    own = [0.0] * len(activities)
    for left, right in pairwise(edges):
        running = [index for index, one in enumerate(activities) if one.start_ns <= left and one.end_ns >= right]
        for index in running:
            own[index] += (right - left) / len(running) / 1000
    return own


def _any_runs(activities: Sequence[Activity]) -> float:
    """Time in us at which any of the activities runs, whatever else runs beside it."""
    return sum(_own_times(activities))


def _host_gap(activities: Sequence[Activity], launches: Sequence[Launch]) -> float:
    """Idle time between activities, in us, during which the host had not yet finished launching the next one."""
    returned: dict[int, int] = {}
    for launch in launches:
        returned[launch.correlation] = max(launch.end_ns, returned.get(launch.correlation, launch.end_ns))
    idle_ns, reached = 0, activities[0].end_ns
    for activity in activities[1:]:
        enqueued = returned.get(activity.correlation, 0)
        idle_ns += max(0, min(activity.start_ns, enqueued) - reached)
        reached = max(reached, activity.end_ns)
    return idle_ns / 1000


def _host_time(call: Call) -> float:
    """The host's own time in the call, in us: from its start to its return, without API calls that may wait for the
    GPU."""
    waited = sum(one.end_ns - one.start_ns for one in call.launches if any(word in one.name for word in WAITS))
    return max(0, call.mark.end_ns - call.mark.start_ns - waited) / 1000


def _by_kernel(
    activities: Sequence[Activity], staged: Sequence[tuple[Stage, bool]], own_us: Sequence[float]
) -> list[KernelTime]:
    """Activities of one display name and stage together, in the order of their first launch."""
    groups: dict[tuple[str, Stage], list[int]] = {}
    for index, activity in enumerate(activities):
        groups.setdefault((display_name(activity.name), staged[index][0]), []).append(index)
    found = []
    for (name, stage), members in groups.items():
        longest = activities[max(members, key=lambda index: own_us[index])]
        found.append(
            KernelTime(
                name=name,
                stage=stage,
                mapped=staged[members[0]][1],
                launches=len(members),
                us=sum(own_us[index] for index in members),
                grid=longest.grid,
                block=longest.block,
                registers=longest.registers,
                shared_bytes=longest.shared_bytes,
                local_bytes=longest.local_bytes,
            )
        )
    return found
