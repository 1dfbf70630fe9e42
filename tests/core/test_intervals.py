"""Intervals that overlap, against a count of single points."""

from __future__ import annotations

import random

import pytest
from bakeoff.core.intervals import covered, union


def test_overlapping_and_touching_intervals_are_one_and_empty_ones_none() -> None:
    assert union([(5, 7), (1, 3), (2, 4), (4, 5), (9, 12), (8, 8)]) == [(1, 7), (9, 12)]
    assert union([]) == [] and covered([]) == 0


@pytest.mark.parametrize("seed", range(20))
def test_each_moment_counts_once(seed: int) -> None:
    chance = random.Random(seed)
    intervals = [(begin, begin + chance.randrange(9)) for begin in chance.choices(range(60), k=12)]
    points = {point for begin, end in intervals for point in range(begin, end)}
    assert covered(intervals) == len(points)
    assert {point for begin, end in union(intervals) for point in range(begin, end)} == points
