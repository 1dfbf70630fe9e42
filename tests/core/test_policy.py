"""What the supervisor decides about a sample."""

from __future__ import annotations

from collections import Counter

import pytest
from bakeoff.core import policy


def test_small_cells_are_probed_and_without_one_the_smallest() -> None:
    small = {"a": 1, "b": 128, "c": 129, "d": 7}
    drawn = [policy.choose_probes(small) for _ in range(200)]
    assert {len(probes) for probes in drawn} == {policy.PROBES} and set().union(*drawn) == {"a", "b", "d"}
    assert policy.choose_probes({"a": 901, "b": 500}) == {"b"}


def test_of_each_kind_of_call_one_output_is_kept_and_any_of_them_may_be_it() -> None:
    kinds = [False, True, False, False, False, True, False, False]
    last: dict[bool, Counter[int]] = {False: Counter(), True: Counter()}
    for _ in range(600):
        seen: Counter[bool] = Counter()
        kept: dict[bool, int] = {}
        for batch in range(3):
            kept |= {kind: 8 * batch + call for kind, call in policy.choose_calls(kinds, seen).items()}
            seen.update(kinds)
        for kind, call in kept.items():
            last[kind][call] += 1
    assert last[False].total() == last[True].total() == 600, "one of each kind in every cell"
    assert len(last[False]) == 18 and len(last[True]) == 6, "every call has been kept once"
    assert all(kinds[call % 8] == kind for kind, calls in last.items() for call in calls)
    assert max(last[True].values()) < 200, "about 100 each"


@pytest.mark.parametrize(("seconds", "more"), [(0.0031, False), (0.0029, True)])
def test_calls_cannot_have_taken_longer_than_the_cell(seconds: float, more: bool) -> None:
    assert policy.claims_more_than(seconds, [[1000.0, 1000.0, 1000.0], [5.0]]) is more
    assert not policy.claims_more_than(0.0, [])


def test_a_start_may_take_longer_than_a_cell() -> None:
    assert policy.start_limit_s(5, forked=False) == policy.START_S and policy.start_limit_s(1200, forked=False) == 1200
    assert policy.start_limit_s(5, forked=True) == policy.START_FORKED_S and policy.start_limit_s(60, forked=True) == 60


@pytest.mark.parametrize(
    ("span", "busy", "host", "waited"),
    [
        (340.0, 212.0, 640.0, True),  # v3 at T14_o0 on an H100, the one recorded cell of this kind
        (340.0, 212.0, 2900.0, False),  # the host cannot be hidden: such a solution waits in every call
        (60.0, 45.0, 170.0, False),  # gaps between the kernels of a short call
        (900.0, 830.0, 170.0, False),
    ],
)
def test_host_time_in_a_gpu_figure_is_told_from_launch_gaps(
    span: float, busy: float, host: float, waited: bool
) -> None:
    tiers = {"cupti_span_us": [span] * 3, "cupti_busy_us": [busy] * 3, "wall_us": [host] * 3}
    assert (policy.host_time(tiers) is not None) == waited
    assert policy.host_time({**tiers, "cupti_busy_us": []}) is None
