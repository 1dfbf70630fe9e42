"""From a call's GPU activities to stages, gaps and bounds.

Entry points: `cell_profile` (from marked calls), `with_counters`, `assign` (kernels to stages by the solution's table),
`break_down` (one call), `representative` (one call out of several), `bound`. Pure functions; times in microseconds.
Overlapping activities share the time of their overlap equally, so that stages sum to the busy time, also with several
streams or programmatic launches. How long a stage runs counts the overlap in full: a kernel that starts early also
reads early, so only that time can be compared with the stage's floor.
"""

import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal, NamedTuple, get_args

from bakeoff.core.intervals import covered
from bakeoff.profile.ncu import Counted, summarize
from bakeoff.profile.timeline import Activity, Call, Launch, display_name
from bakeoff.schema.profile import CellProfile, Counters, KernelProfile, StageProfile
from bakeoff.schema.solution import Stage, StageRule

STAGES: tuple[Stage, ...] = get_args(Stage)  # in pipeline order
DIGITS = 4  # of a microsecond: timelines are in nanoseconds
LAUNCH_FIELDS = ("grid", "block", "registers", "shared_bytes", "local_bytes")
# Share of the span for which the GPU may wait for launches before a call counts as host-bound: calls are enqueued while
# the GPU is kept busy with other work, so more than this comes from a wait for the GPU inside the call.
HOST_BOUND_SHARE = 0.10
# Host calls that wait for the GPU; their time is not the host's own.
WAITS = ("Synchronize", "Memcpy", "memcpy")


Figures = Mapping[str, float | None]  # of `Counters`


class Placed(NamedTuple):
    """One activity of a call: its stage, whether a rule said so, and its time in us without what it shares."""

    activity: Activity
    stage: Stage
    mapped: bool
    us: float


def bound(host_us: float, span_us: float, host_gap_share: float) -> Literal["host", "device"]:
    """`host` if the host needs longer to enqueue a call than the GPU to execute it, or the GPU waited for launches for
    more than a tenth of the span; else `device`."""
    return "host" if host_us > span_us or host_gap_share > HOST_BOUND_SHARE else "device"


def assign(names: Sequence[str], rules: Sequence[StageRule]) -> list[tuple[Stage, bool]]:
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


def matching(name: str, rules: Sequence[StageRule]) -> list[StageRule]:
    """The rules that hold for a kernel: the first whose pattern occurs in its name, and all others with the very same
    pattern."""
    first = next((rule for rule in rules if _pattern(rule.kernel).search(name)), None)
    return [] if first is None else [rule for rule in rules if rule.kernel == first.kernel]


def cell_profile(found: Sequence[Call], rules: Sequence[StageRule], **about: Any) -> CellProfile | None:
    """A cell from its marked calls; None if none of them started work on the GPU. about: solution, workload, key, tier.

    All its figures are those of one call: parts of a call belong together, medians of parts would not.
    """
    broken_down = [one for one in (break_down(call, rules, **about) for call in found) if one is not None]
    if not broken_down:
        return None
    return representative(broken_down).model_copy(update={"calls": len(broken_down)})


def break_down(call: Call, rules: Sequence[StageRule], **about: Any) -> CellProfile | None:
    """Where one call's time went; None if it started nothing on the GPU."""
    if not call.activities:
        return None
    staged = assign([activity.name for activity in call.activities], rules)
    shares = zip(call.activities, staged, _own_times(call.activities), strict=True)
    placed = [Placed(activity, stage, mapped, us) for activity, (stage, mapped), us in shares]
    busy_us, span_us = _runs_us(call.activities), (max(one.end_ns for one in call.activities) - call.start_ns) / 1000
    waited_us, kernels = _host_gap(call.activities, call.launches), _by_kernel(placed)
    return CellProfile(
        calls=1,
        busy_us=round(busy_us, DIGITS),
        span_us=round(span_us, DIGITS),
        gap_share=share(max(span_us - busy_us, waited_us), span_us) or 0.0,
        host_gap_share=share(waited_us, span_us) or 0.0,
        launches=len(placed),
        syncs=sum("Synchronize" in launch.name for launch in call.launches),
        host_us=round(_host_time(call), DIGITS),
        mapped_share=share(sum(one.us for one in placed if one.mapped), busy_us) or 0.0,
        unmapped=sorted({kernel.name for kernel in kernels if not kernel.mapped}),
        stages=[_stage(stage, [one for one in placed if one.stage == stage], busy_us) for stage in STAGES],
        kernels=kernels,
        **about,
    )


def representative(found: Sequence[CellProfile]) -> CellProfile:
    """The call with the median busy time (the lower one of two).

    Calls in which the GPU waited for the host longer than in the best of them, by a tenth of the span, stand aside:
    what the tracer or another process costs the host comes on top of a call's own waits, and is not the solution's.
    """
    least_us = min(one.host_gap_share * one.span_us for one in found)
    steady = [one for one in found if one.host_gap_share * one.span_us - least_us <= HOST_BOUND_SHARE * one.span_us]
    return sorted(steady, key=lambda one: one.busy_us)[(len(steady) - 1) // 2]


def with_counters(cell: CellProfile, counted: Sequence[Counted], rules: Sequence[StageRule]) -> CellProfile:
    """The cell with its counters; `counted` are the kernels of one call in launch order, mapped by the same rules."""
    staged = [stage for stage, _ in assign([kernel.kernel for kernel in counted], rules)]
    own = ([kernel for kernel, at in zip(counted, staged, strict=True) if at == stage] for stage in STAGES)
    return _counted(cell, summarize(counted), map(summarize, own), None)


def keep_counters(cell: CellProfile, before: CellProfile) -> CellProfile:
    """A cell with the counters of another capture of it."""
    total, *stages = (part.model_dump(include=set(Counters.model_fields)) for part in (before, *before.stages))
    return _counted(cell, total, stages, before.counters_missing)


def _counted(cell: CellProfile, total: Figures, by_stage: Iterable[Figures], missing: str | None) -> CellProfile:
    stages = [one.model_copy(update=own) for one, own in zip(cell.stages, by_stage, strict=True)]
    return cell.model_copy(update={**total, "stages": stages, "counters_missing": missing})


def share(part: float | None, whole: float | None) -> float | None:
    """part over whole, with as many digits as a profile keeps; None where there is none."""
    return None if part is None or not whole else round(part / whole, 6)


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


def _runs_us(activities: Sequence[Activity]) -> float:
    """Time in us at which any of the activities runs, whatever else runs beside it."""
    return covered((one.start_ns, one.end_ns) for one in activities) / 1000


def _stage(stage: Stage, placed: Sequence[Placed], busy_us: float) -> StageProfile:
    us, run_us = sum(one.us for one in placed), _runs_us([one.activity for one in placed])
    return StageProfile(
        stage=stage,
        us=round(us, DIGITS),
        run_us=round(run_us, DIGITS),
        share=share(us, busy_us) or 0.0,
        launches=len(placed),
    )


def _host_gap(activities: Sequence[Activity], launches: Sequence[Launch]) -> float:
    """Idle time between activities, in us, during which the host had not yet finished launching the next one."""
    returned = dict(sorted((one.correlation, one.end_ns) for one in launches))  # the last of several
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


def _by_kernel(placed: Sequence[Placed]) -> list[KernelProfile]:
    """Activities of one display name and stage together, in the order of their first launch."""
    groups: dict[tuple[str, Stage], list[Placed]] = {}
    for one in placed:
        groups.setdefault((display_name(one.activity.name), one.stage), []).append(one)
    found = []
    for (name, stage), members in groups.items():
        longest = max(members, key=lambda one: one.us).activity
        launch = {field: getattr(longest, field) for field in LAUNCH_FIELDS}
        us, mapped = round(sum(one.us for one in members), DIGITS), members[0].mapped
        found.append(KernelProfile(name=name, stage=stage, mapped=mapped, launches=len(members), us=us, **launch))
    return found
