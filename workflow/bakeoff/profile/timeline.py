"""What every timeline source is read into: marked calls, host API calls and GPU activities, in nanoseconds of one
clock.

Entry points: `Timeline`, `calls` (activities by marked call), `mark_name` and `parse_mark`, `display_name`. Pure
functions.
"""

import re
from bisect import bisect_left
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from bakeoff.errors import InputError

# A mark's name survives as an NVTX message, a column of a CSV and a JSON string: no colon, quote, comma or space in it.
MARK = "bakeoff"
# Kinds of copies (CUpti_ActivityMemcpyKind), in the words that a stage table can match.
COPY_KINDS = {1: "HtoD", 2: "DtoH", 8: "DtoD", 10: "PtoP"}
# What stands in a demangled name and says nothing: an arrow of an expression ends no argument list.
_NOISE, _ARGUMENTS = re.compile(r"^void |\(anonymous namespace\)::|<unnamed>::"), re.compile(r"<(?:->|[^<>])*>")
_MARK_PATTERN = re.compile(rf"{MARK}\|(?P<workload>[A-Za-z0-9._-]+)\|(?P<call>\d+)")


@dataclass(frozen=True)
class Mark:
    """One marked call of the solution; start and end are the host's, so the GPU may still be at work at the end."""

    workload: str
    call: int
    start_ns: int
    end_ns: int


@dataclass(frozen=True)
class Launch:
    """One CUDA API call on the host."""

    correlation: int
    name: str
    start_ns: int
    end_ns: int


@dataclass(frozen=True)
class Activity:
    """One piece of work on the GPU: a kernel, or a copy or fill by its memory engines."""

    kind: Literal["kernel", "memcpy", "memset"]
    name: str
    start_ns: int
    end_ns: int
    correlation: int
    stream: int = 0
    grid: tuple[int, int, int] | None = None
    block: tuple[int, int, int] | None = None
    registers: int | None = None
    shared_bytes: int | None = None
    local_bytes: int | None = None
    """Local memory per thread: its stack and what registers were spilled to; null where the source does not say."""


@dataclass(frozen=True)
class Timeline:
    """Everything that one capture recorded."""

    source: str
    marks: list[Mark]
    launches: list[Launch]
    activities: list[Activity]

    def timed(self, path: Path) -> "Timeline":
        """Itself; InputError for work without its times, which could be anywhere: no figure of a cell would be
        whole."""
        lost = [one for one in self.activities if not 0 < one.start_ns <= one.end_ns]
        if lost:
            raise InputError(
                path,
                found=f"{len(lost)} records without their times, {lost[0].name[:60]} the first",
                expected="start and end of everything that ran on the GPU",
                hint="profile the solution again; with `--tier`, by another tool",
            )
        return self


@dataclass(frozen=True)
class Call:
    """One marked call with the host calls made in it and the GPU work that they started."""

    mark: Mark
    launches: list[Launch] = field(default_factory=list)
    activities: list[Activity] = field(default_factory=list)

    @property
    def start_ns(self) -> int:
        """Start of its first work on the GPU."""
        return self.activities[0].start_ns


def calls(timeline: Timeline) -> list[Call]:
    """The marked calls, by time. Work belongs to a call through the host call that started it, not through its own
    time: the GPU may begin it after the mark has ended, and work enqueued before the call may still run inside it."""
    launches = sorted(timeline.launches, key=lambda launch: launch.start_ns)
    starts = [launch.start_ns for launch in launches]
    by_correlation: dict[int, list[Activity]] = {}
    for activity in timeline.activities:
        by_correlation.setdefault(activity.correlation, []).append(activity)
    found = []
    for mark in sorted(timeline.marks, key=lambda mark: mark.start_ns):
        inside = launches[bisect_left(starts, mark.start_ns) : bisect_left(starts, mark.end_ns)]
        # A runtime call and the driver call below it may carry the same correlation.
        started = [
            activity
            for key in dict.fromkeys(launch.correlation for launch in inside)
            for activity in by_correlation.get(key, [])
        ]
        found.append(Call(mark, inside, sorted(started, key=lambda activity: (activity.start_ns, activity.end_ns))))
    return found


def copy_name(kind: int) -> str:
    return f"[memcpy {COPY_KINDS.get(kind, kind)}]"


def mark_name(workload: str, call: int) -> str:
    return f"{MARK}|{workload}|{call}"


def parse_mark(text: str | None) -> tuple[str, int] | None:
    """(workload, call) of the first mark in a text; None if it holds none."""
    match = _MARK_PATTERN.search(text or "")
    return (match["workload"], int(match["call"])) if match else None


def display_name(name: str, width: int = 80) -> str:
    """A kernel's name for people: no return type, template arguments, parameters or anonymous namespaces; at most
    `width` characters."""
    bare = _outer_name(name) or _NOISE.sub("", name)
    while (shorter := _ARGUMENTS.sub("", bare)) != bare:  # the innermost ones first
        bare = shorter
    short = re.split(r"[<(]", bare, maxsplit=1)[0].strip() or name
    return short if len(short) <= width else short[: width - 1] + "…"


def _outer_name(symbol: str) -> str | None:
    """The name in front of the template arguments of a C++ symbol, for those that the C++ library cannot demangle
    (CUTLASS's)."""
    found = re.match(r"_ZN?(?=\d)", symbol)
    rest, parts = symbol[found.end() :] if found else "", []
    while length := re.match(r"\d+", rest):
        end = length.end() + int(length[0])
        parts.append(rest[length.end() : end])
        rest = rest[end:]
    return "::".join(parts) or None
