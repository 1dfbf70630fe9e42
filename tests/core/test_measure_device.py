"""The device layer without a GPU: attribution of CUPTI records, stopping, and disturbances."""

from __future__ import annotations

import contextlib
import random
from typing import Any
from unittest.mock import MagicMock

import pytest
import torch
from bakeoff.core.device.activity import CuptiError
from bakeoff.core.device.cuda import CudaDevice, attribute, own_stream, strays
from bakeoff.core.device.gpu_state import Look, disturbance, locked_clocks, summary
from bakeoff.core.protocols import PROTOCOLS, Calls, per_process_latency, primary_tier
from bakeoff.core.worker.timing import (
    _is_enough,
    relative_half_width,
)
from bakeoff.schema.outcomes import HINTS, SENTENCES, Outcome, Reason, fib_status
from bakeoff.traces.models import Status
from support.fake_device import FakeMonitor


def marked(*calls: list[tuple[int, int]]) -> list[tuple[int, int, bool, int]]:
    """Records of calls that start at 100_000 ns intervals, each between its two marks."""
    records = []
    for number, work in enumerate(calls):
        base = 100_000 * (number + 1)
        records += [(base, base + 5_000, True, 7), (base + 90_000, base + 91_000, True, 7)]
        records += [(base + start, base + end, False, 7) for start, end in work]
    return records


def test_work_counts_for_the_call_between_whose_marks_it_starts() -> None:
    records = marked([(6_000, 8_000), (7_000, 11_000)], [(10_000, 11_000), (14_000, 15_000)])
    outside = [(50_000, 60_000, False, 7), (195_000, 196_000, False, 7)]  # what the harness does between calls
    assert attribute([*reversed(records), *outside], 2, 7) == ([5.0, 2.0], [5.0, 5.0])


def test_concurrent_kernels_are_busy_once_and_gaps_are_in_the_span_only() -> None:
    assert attribute(marked([(6_000, 16_000), (8_000, 10_000), (36_000, 37_000)]), 1, 7) == ([11.0], [31.0])


def test_work_that_runs_ahead_during_the_delay_counts() -> None:
    assert attribute(marked([(1_000, 2_000), (6_000, 8_000)]), 1, 7) == ([3.0], [7.0])


def test_the_stream_of_the_calls_is_known_from_one_mark_or_not_at_all() -> None:
    one = [(1_000, 2_000, True, 7), (1_000, 2_000, False, 9)]
    assert own_stream(one) == 7
    for unclear in ([], [*one, (3_000, 4_000, True, 9)]):
        with pytest.raises(CuptiError, match="a mark was seen on"):
            own_stream(unclear)


def test_what_a_capture_puts_on_its_own_stream_is_no_work_between_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "stream", lambda _: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: (0, 1))
    device, trace = object.__new__(CudaDevice), MagicMock(enabled=True)
    device._graph, device._side, device._sync, device._trace = MagicMock, None, lambda: None, trace
    device.capture(lambda: trace.collect.assert_not_called())
    trace.collect.assert_called_once_with()


@pytest.mark.parametrize("times", [(0, 0), (230_000, 0), (230_000, 200_000), (0, 8_000)])
def test_a_record_without_its_times_makes_the_tier_missing(times: tuple[int, int]) -> None:
    """Dropped or counted as it is, it would make the call's time shorter."""
    assert attribute([*marked([(6_000, 8_000)]), (*times, False, 7)], 1, 7) is None


def test_marks_that_do_not_fit_or_a_call_without_work_give_no_cupti_tier() -> None:
    records = marked([(6_000, 8_000)])
    assert attribute(records, 1, 7) == ([2.0], [2.0])
    assert attribute(records, 2, 7) is None
    assert attribute([*records, (120_000, 121_000, True, 7)], 1, 7) is None
    assert attribute(marked([]), 1, 7) is None


def test_work_on_another_stream_counts_as_kept_only_where_it_begins_between_two_calls() -> None:
    records = marked([(6_000, 8_000)], [(6_000, 8_000)])
    within = [(110_000, 260_000, False, 9)]
    assert strays([*records, *within, (195_000, 196_000, False, 7)], 7) is None
    for start in (50_000, 195_000, 295_000):
        for delays in (False, True):  # it may be the kernel that marks are made of
            assert "1 pieces of work" in (strays([*records, *within, (start, start + 1_000, delays, 9)], 7) or "")
    assert attribute([*records, (107_000, 109_000, True, 9)], 2, 7) == ([3.0, 2.0], [3.0, 2.0])


def test_the_interval_of_the_median_narrows_with_calls_and_covers_it() -> None:
    chance = random.Random(1)
    draw = lambda n: [100 + chance.gauss(0, 1) for _ in range(n)]  # noqa: E731
    assert relative_half_width(draw(16)) > relative_half_width(draw(400)) > 0
    assert relative_half_width([5.0] * 16) == 0
    covered = 0
    for _ in range(400):
        ordered = sorted(draw(32))
        width = relative_half_width(ordered) * (ordered[15] + ordered[16]) / 2
        covered += abs((ordered[15] + ordered[16]) / 2 - 100) <= 1.6 * width
    assert covered >= 370


@pytest.mark.parametrize(
    ("times", "spent_s", "enough"),
    [
        ([100.0] * 8, 0.1, False),  # precise, but too few
        ([100.0] * 16, 0.1, True),
        ([100.0, 101.0] * 8, 0.1, False),  # many enough, not precise
        ([100.0, 101.0] * 48, 0.1, True),  # no more than this
        ([100.0, 110.0] * 4, 0.1, False),  # will hardly become precise, but too few to tell
        ([100.0, 110.0] * 8, 0.1, True),  # will not become precise
        ([100.0, 110.0] * 4, 0.5, True),  # the budget is spent
    ],
)
def test_calls_end_when_precise_or_when_the_budget_is_spent(times: list[float], spent_s: float, enough: bool) -> None:
    assert _is_enough(times, spent_s, Calls()) is enough


def test_latency_is_a_median_under_robust_and_a_mean_under_fib() -> None:
    times = [1.0, 2.0, 9.0]
    assert per_process_latency("robust", times) == 2.0 and per_process_latency("fib-0.1.2", times) == 4.0
    everything = {"wall_us", "event_us", "cupti_busy_us", "cupti_span_us"}
    assert primary_tier("robust", everything) == "cupti_span_us" and primary_tier("fib-0.1.2", everything) == "event_us"
    assert primary_tier("robust", {"wall_us", "event_us"}) == "event_us"
    assert PROTOCOLS["fib-0.1.2"].trials * PROTOCOLS["fib-0.1.2"].timed_calls == 150  # type: ignore[union-attr]


def test_every_outcome_has_a_sentence_and_a_status_and_every_reason_a_hint() -> None:
    assert set(SENTENCES) == set(Outcome) and set(HINTS) == set(Reason)
    assert {fib_status(outcome) for outcome in Outcome} <= set(Status)


HEALTHY = Look(0.0, sm_mhz=1980, celsius=40, watts=300.0, ecc=2, processes=frozenset({10, 11}))


@pytest.mark.parametrize(
    ("changes", "blamed", "expected"),
    [
        ({}, False, None),
        ({"reasons": 0x4}, False, None),
        ({"reasons": 0x8}, False, Reason.THROTTLED),
        ({"reasons": 0x40}, False, Reason.THROTTLED),
        ({"ecc": 3}, False, Reason.ECC_ERROR),
        ({"xids": (79,)}, False, Reason.XID_ERROR),
        ({"xids": (31,)}, False, Reason.XID_ERROR),
        ({"xids": (31,)}, True, None),
        ({"xids": (79,)}, True, Reason.XID_ERROR),
        ({"processes": frozenset({10, 99})}, False, Reason.FOREIGN_PROCESS),
        ({"processes": frozenset({101, 102})}, False, None),  # ids of another namespace, no more than the run's own
        ({"processes": frozenset({101, 102, 103})}, False, Reason.FOREIGN_PROCESS),
    ],
)
def test_a_disturbance_is_named(changes: dict[str, Any], blamed: bool, expected: Reason | None) -> None:
    sample = Look(**{**HEALTHY.__dict__, **changes})
    found = disturbance([HEALTHY, sample] if "processes" not in changes else [sample], {10, 11}, HEALTHY, blamed)
    assert (found and found[0]) == expected


def test_the_summary_keeps_ranges_and_reasons() -> None:
    kept = summary([HEALTHY, Look(1.0, sm_mhz=1500, reasons=0x4)])
    assert kept and kept["sm_mhz"] == {"min": 1500, "median": 1740, "max": 1980} and kept["reasons"] == ["sw_power_cap"]
    assert summary([]) is None


def test_locked_clocks_are_restored_whatever_happens() -> None:
    monitor = FakeMonitor({})
    with pytest.raises(KeyError), locked_clocks(monitor, 1200) as refused:
        assert refused is None and monitor.locked == 1200
        raise KeyError
    assert monitor.locked is None
    with locked_clocks(FakeMonitor({"clocks": "no permission"}), 1200) as refused:
        assert refused == "no permission"
