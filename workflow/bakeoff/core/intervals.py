"""Intervals of time that may overlap. Entry points: `union` and `covered`."""

from collections.abc import Iterable

Interval = tuple[int, int]  # begin and end, in any one unit


def union(intervals: Iterable[Interval]) -> list[Interval]:
    """The intervals in order, those that overlap or touch made one; empty ones are left out."""
    found: list[Interval] = []
    for begin, end in sorted(intervals):
        if begin >= end:
            continue
        if found and begin <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((begin, end))
    return found


def covered(intervals: Iterable[Interval]) -> int:
    """How long at least one of the intervals lasts."""
    return sum(end - begin for begin, end in union(intervals))
