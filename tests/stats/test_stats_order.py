"""Who leads a workload where blocks are missing: what counts is the blocks that two solutions have in common."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from bakeoff.runs.intervals import mean_interval
from bakeoff.runs.samples import Samples, times_frame
from bakeoff.stats.pairs import Duels, compare_pairs, rivals, winners


def samples(times: dict[str, dict[int, float]], reference: dict[int, float]) -> Samples:
    """One workload. times: solution -> block -> microseconds."""
    found = [
        (name, "w", block, time, reference[block], "event_us")
        for name, blocks in times.items()
        for block, time in blocks.items()
    ]
    return Samples.of(times_frame(found), list(times), ["w"])


def decided(made: Samples):
    """The order of all solutions, and the winner."""
    duels, everyone = Duels(made, compare_pairs(made)), list(range(len(made.solutions)))
    order = [made.solutions[row] for row in rivals(made, everyone, duels)[0]]
    return order, winners(made, everyone, everyone, duels, set())[0]


SLOW_ONCE = {0: 1000.0, 1: 1000.0, 2: 1000.0, 3: 1200.0}  # a reference that is slow in the last block


def test_a_block_that_the_faster_one_lacks_does_not_give_the_lead_away():
    behind = dict.fromkeys(range(4), 101.0)
    ahead = dict.fromkeys(range(3), 100.0)
    made = samples({"behind": behind, "ahead": ahead}, SLOW_ONCE)
    speedups = mean_interval(made.log_speedup).value[:, 0]
    assert speedups[0] > speedups[1]  # over its own blocks, with the slow reference, the slower one looks faster
    order, winner = decided(made)
    assert order == ["ahead", "behind"] and winner.leader == "ahead" and winner.runner_up == "behind"
    assert winner.lead.value == pytest.approx(1.01) and winner.level == []


def test_equal_ones_keep_the_order_of_the_run_and_share_the_lead():
    same = dict.fromkeys(range(4), 100.0)
    order, winner = decided(samples({"one": same, "two": dict(list(same.items())[:3])}, SLOW_ONCE))
    assert order == ["one", "two"] and winner.level == ["two"] and winner.lead.value == pytest.approx(1)


def test_pairs_that_contradict_each_other_leave_nobody_behind_the_next():
    """Each pair meets in blocks of its own: a is ahead of b, b of c, and c of a."""
    times = {
        "a": {0: 100.0, 1: 100.0, 4: 103.0, 5: 103.0},
        "b": {0: 102.0, 1: 102.0, 2: 100.0, 3: 100.0},
        "c": {2: 104.0, 3: 104.0, 4: 100.0, 5: 100.0},
    }
    made = samples(times, dict.fromkeys(range(6), 1000.0))
    order, winner = decided(made)
    duels, rows = Duels(made, compare_pairs(made)), [made.solutions.index(name) for name in order]
    assert all(duels.lead(first, second, 0) > 0 for first, second in pairwise(rows))
    assert winner.lead.value > 1


def test_with_all_blocks_the_order_is_that_of_the_speedups():
    random = np.random.default_rng(3)
    reference = {block: float(1000 * random.uniform(0.9, 1.1)) for block in range(5)}
    for _ in range(50):
        times = {f"s{n}": {block: float(random.uniform(95, 105)) for block in range(5)} for n in range(5)}
        made = samples(times, reference)
        by_speed = np.argsort(-mean_interval(made.log_speedup).value[:, 0])
        order, winner = decided(made)
        assert order == [made.solutions[row] for row in by_speed]
        assert (winner.leader, winner.runner_up) == (order[0], order[1])


def test_solutions_without_a_common_block_are_ordered_by_their_speedups():
    order, winner = decided(samples({"low": {0: 110.0}, "high": {1: 100.0}}, dict.fromkeys(range(2), 1000.0)))
    assert order == ["high", "low"] and winner.lead is None and winner.level == []
