"""What the supervisor decides about a sample."""

from __future__ import annotations

import pytest
from bakeoff.core import policy


def test_changed_values_share_one_roll_of_the_weights_and_differ_in_the_rest() -> None:
    values = policy.changed_values(901, 32)
    assert len(values) == 2 and len({value.experts for value in values}) == 1 and 0 < values[0].experts < 32
    assert len({value.seed for value in values}) == 2 and all(0 < value.tokens < 901 for value in values)


def test_small_cells_are_probed_and_without_one_the_smallest() -> None:
    small = {"a": 1, "b": 128, "c": 129, "d": 7}
    drawn = [policy.choose_probes(small) for _ in range(200)]
    assert {len(probes) for probes in drawn} == {policy.PROBES} and set().union(*drawn) == {"a", "b", "d"}
    assert policy.choose_probes({"a": 901, "b": 500}) == {"b"}


def test_the_first_output_kept_is_one_on_changed_values_and_later_ones_are_left_to_chance() -> None:
    first = [policy.choose_call([0, 2, 0, 1], [], 3) for _ in range(200)]
    assert set(first) == {1, 3}, "neither the workload's own values nor the same call each time"
    later = [policy.choose_call([0, 2, 0, 1], [2], 3) for _ in range(400)]
    assert set(later) == {None, 0, 1, 2, 3} and 100 < later.count(None) < 300
    assert policy.choose_call([0, 2], [2, 1, 0], 3) is None, "every place is taken"
    assert {policy.choose_call([0, 0], [], 3) for _ in range(200)} == {None, 0, 1}


@pytest.mark.parametrize(("seconds", "more"), [(0.0031, False), (0.0029, True)])
def test_calls_cannot_have_taken_longer_than_the_cell(seconds: float, more: bool) -> None:
    assert policy.claims_more_than(seconds, [[1000.0, 1000.0, 1000.0], [5.0]]) is more
    assert not policy.claims_more_than(0.0, [])


def test_a_start_may_take_longer_than_a_cell() -> None:
    assert policy.start_limit_s(5, forked=False) == policy.START_S and policy.start_limit_s(1200, forked=False) == 1200
    assert policy.start_limit_s(5, forked=True) == policy.START_FORKED_S and policy.start_limit_s(60, forked=True) == 60
