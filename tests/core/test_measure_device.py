"""The device layer without a GPU: attribution of CUPTI records, stopping, disturbances, and faults on the fake
device."""

from __future__ import annotations

import contextlib
import json
import random
import statistics
import time
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
import torch
from bakeoff.core.device.activity import CuptiError
from bakeoff.core.device.cuda import CudaDevice, attribute, own_stream, strays
from bakeoff.core.device.gpu_state import Look, disturbance, locked_clocks, summary
from bakeoff.core.protocols import PROTOCOLS, Calls, per_process_latency, primary_tier
from bakeoff.core.worker.timing import (
    SCALING_TRIES,
    RuleBroken,
    _check_scaling,
    _is_enough,
    _ratio_scatter,
    relative_half_width,
)
from bakeoff.runs.assemble import assemble_run
from bakeoff.schema.outcomes import HINTS, SENTENCES, Outcome, Reason, fib_status
from bakeoff.traces.models import Status
from support.fake_device import FakeDevice, FakeMonitor
from support.measure_runs import bakeoff, fake_device, make_run, measure, only, plan_of, records

# Whole blocks take a second each, and much longer on a busy host.
pytestmark = pytest.mark.timeout(900)


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


def test_a_fake_gpu_gives_all_tiers_adaptive_calls_and_both_protocols(tmp_path: Path) -> None:
    run = make_run(tmp_path, {"honest": None}, workloads=["T1_o32"], protocols=["robust", "fib-0.1.2"])
    env = fake_device(tmp_path)
    assert measure(run, env=env).returncode == 0
    robust, fib = sorted(records(run, "honest"), key=lambda record: record.protocol or "", reverse=True)
    assert {tier for tier, times in robust.tiers.items() if times} == {
        "wall_us",
        "event_us",
        "cupti_busy_us",
        "cupti_span_us",
    }
    assert 16 <= len(robust.tiers["event_us"]) <= 96 and len(fib.tiers["event_us"]) == 150
    assert robust.gpu_state and robust.gpu_state["sm_mhz"]["median"] == 1980
    assemble_run(run)
    assert bakeoff("verify", str(run)).returncode == 0
    trace = json.loads((run / "traces.jsonl").read_text())["evaluation"]
    assert trace["bakeoff"]["tier"] == "cupti_span_us" and len(trace["bakeoff"]["per_block"]) == 1
    assert trace["performance"]["speedup_factor"] > 0
    other = json.loads((run / "traces.fib-0.1.2.jsonl").read_text())["evaluation"]
    assert other["bakeoff"]["tier"] == "event_us" and other["performance"] != trace["performance"]


WORKER_FAULTS = {
    "hang": (Outcome.TIMEOUT, Reason.HANG),
    "segfault": (Outcome.CRASHED, Reason.SIGNAL),
    "illegal_address": (Outcome.CRASHED, Reason.POISONED_CONTEXT),
    "out_of_memory": (Outcome.OUT_OF_MEMORY, Reason.ALLOCATION),
    "exit": (Outcome.CRASHED, Reason.EXITED),
}


def test_every_fault_in_a_worker_is_typed_and_costs_its_cell_only(tmp_path: Path) -> None:
    workloads = ["T1_o32", "T7_o192", "T14_o0", "T15_o32", "T16_o224", "T32_o32"]
    faults = [
        {"kind": kind, "participant": "honest", "workload": where}
        for kind, where in zip(WORKER_FAULTS, workloads[1:], strict=True)
    ]
    run = make_run(tmp_path, {"honest": None}, workloads=workloads, timeout_s=20)
    assert measure(run, env=fake_device(tmp_path, faults=faults)).returncode == 0
    found = {record.workload: record for record in records(run, "honest")}
    assert found.pop("T1_o32").outcome == Outcome.PASSED
    for kind, where in zip(WORKER_FAULTS, workloads[1:], strict=True):
        assert (found[where].outcome, found[where].reason) == WORKER_FAULTS[kind], found[where]
        assert found[where].hint


def test_missing_tiers_are_named_and_not_replaced_silently(tmp_path: Path) -> None:
    run = make_run(tmp_path, {"honest": None}, workloads=["T1_o32"])
    missing = {"cupti_busy_us": "CUPTI is denied", "cupti_span_us": "CUPTI is denied"}
    assert measure(run, env=fake_device(tmp_path, missing=missing)).returncode == 0
    assert only(run, "honest").missing_tiers == missing and "cupti_span_us" not in only(run, "honest").tiers
    assemble_run(run)
    note = json.loads((run / "traces.jsonl").read_text())["evaluation"]["bakeoff"]
    assert note["tier"] == "event_us" and note["missing_tiers"] == missing


def test_a_disturbed_cell_runs_again_and_its_calls_are_counted_as_discarded(tmp_path: Path) -> None:
    run = make_run(tmp_path, {"honest": None}, workloads=["T1_o32"])
    assert (
        measure(run, env=fake_device(tmp_path, looks={"1": {"reasons": 8}, "3": {"processes": [99]}})).returncode == 0
    )
    found = [only(run, "honest"), only(run, "reference")]
    assert {record.outcome for record in found} == {Outcome.PASSED} and sum(
        record.discarded > 0 for record in found
    ) >= 1


@pytest.mark.parametrize(("waits", "discarded", "remarks"), [(2, 1, 0), (9, 2, 1)])
def test_a_cell_in_which_the_gpu_waited_for_the_host_runs_again(
    tmp_path: Path, waits: int, discarded: int, remarks: int
) -> None:
    run = make_run(tmp_path, {"honest": None}, workloads=["T1_o32"])
    env = fake_device(tmp_path, us={"honest": {"T1_o32": 200.0}}, waits={"honest": waits})
    assert measure(run, env=env).returncode == 0
    found = only(run, "honest")
    assert found.outcome == Outcome.PASSED and found.discarded == discarded * len(found.tiers["event_us"])
    told = [text for text in found.warnings if "waited for the host" in text]
    assert len(told) == remarks and (not told or "the GPU worked for 100 of 198 us" in told[0])


def test_a_cell_that_is_always_disturbed_ends_typed_and_the_next_run_takes_it_up(tmp_path: Path) -> None:
    """With the driver's errors; the other causes differ in `disturbance` only, which is tested above."""
    run = make_run(tmp_path, {"honest": None}, workloads=["T1_o32"])
    assert measure(run, env=fake_device(tmp_path, looks={str(n): {"xids": [79]} for n in range(1, 20)})).returncode == 0
    assert (only(run, "honest").outcome, only(run, "honest").reason) == (Outcome.DISTURBED, Reason.XID_ERROR)
    assert only(run, "honest").hint and not only(run, "honest").tiers
    assert measure(run, env=fake_device(tmp_path)).returncode == 0
    assert [record.outcome for record in records(run, "honest")] == [Outcome.DISTURBED, Outcome.PASSED]
    assemble_run(run)
    assert bakeoff("verify", str(run)).returncode == 0


def test_refused_clocks_run_nothing_and_say_so(tmp_path: Path) -> None:
    run = make_run(tmp_path, {"honest": None}, workloads=["T1_o32"], lock_clocks_mhz=1200)
    assert measure(run, env=fake_device(tmp_path, clocks="no permission")).returncode == 0
    assert (only(run, "honest").outcome, only(run, "honest").reason) == (Outcome.NOT_RUN, Reason.CLOCK_LOCK_REFUSED)
    assert plan_of(run).lock_clocks_mhz == 1200


def test_times_that_add_up_to_more_than_the_cell_took_are_rejected(tmp_path: Path) -> None:
    run = make_run(tmp_path, {"honest": None}, workloads=["T1_o32"])
    assert measure(run, env=fake_device(tmp_path, factor={"honest": 1e9})).returncode == 0
    assert (only(run, "honest").outcome, only(run, "honest").reason) == (Outcome.REJECTED, Reason.FORGED_TIME)


def test_calls_that_skip_their_work_are_rejected_and_honest_ones_scale(tmp_path: Path) -> None:
    run = make_run(
        tmp_path,
        {"honest": None, "lazy": "def run_with(honest, *arguments):\n    honest(*arguments)\n", "tired": None},
        workloads=["T7_o192"],
    )
    assert measure(run, env=fake_device(tmp_path, lazy_after={"lazy": 4, "tired": 7})).returncode == 0
    lazy, tired, honest = only(run, "lazy"), only(run, "tired"), only(run, "honest")
    assert (lazy.outcome, lazy.reason) == (Outcome.REJECTED, Reason.SKIPPED_CALLS)
    assert lazy.detail == "8 calls in a row took 1.00 times as long as 4"
    assert tired.outcome == Outcome.PASSED and any("not twice as long" in warning for warning in tired.warnings)
    assert honest.outcome == Outcome.PASSED and not any("in a row" in warning for warning in honest.warnings)


CREEPS = """
calls = []
def run_with(honest, *arguments):
    honest(*arguments)
    calls.append(arguments[-1])
    if len(calls) > 8:  # the guarded calls are over
        beyond = arguments[-1].storage_offset() + arguments[-1].numel()
        arguments[-1].as_strided((1,), (1,), beyond).fill_(0)
"""


def test_a_timed_call_that_writes_outside_its_output_is_rejected(tmp_path: Path) -> None:
    run = make_run(tmp_path, {"creeps": CREEPS}, workloads=["T7_o192"])
    assert measure(run, env=fake_device(tmp_path)).returncode == 0
    assert (only(run, "creeps").outcome, only(run, "creeps").reason) == (Outcome.REJECTED, Reason.WROTE_OUTSIDE_OUTPUT)
    assert "around the outputs were overwritten" in (only(run, "creeps").detail or "")


LOADS_THE_HARNESS_DICE = """
import sys
def run_with(honest, *arguments):
    frame = sys._getframe()
    while frame:
        if "_InputPool" in frame.f_globals:
            frame.f_globals["new_values"] = lambda own, variant, into: own
        frame = frame.f_back
    honest(*arguments)
"""


def test_a_worker_whose_calls_never_had_changed_values_is_rejected(tmp_path: Path) -> None:
    run = make_run(tmp_path, {"dice": LOADS_THE_HARNESS_DICE}, workloads=["T7_o192"])
    assert measure(run, env=fake_device(tmp_path)).returncode == 0
    # What is judged is what the supervisor drew; which rule the output broke depends on how the weights were rolled.
    assert only(run, "dice").outcome in (Outcome.REJECTED, Outcome.INCORRECT_NUMERICAL)


EDITS_THE_PLAN = """
import ctypes
libc = ctypes.CDLL(None)
def run_with(honest, *arguments):
    honest(*arguments)
    place = libc.open({path!r}, 0o2001)  # to write, at the end; native code, of which Python's audit hooks hear nothing
    libc.write(place, b" ", 1)
    libc.close(place)
"""


def test_an_edited_plan_is_noticed_where_nothing_keeps_a_solution_from_editing_it(tmp_path: Path) -> None:
    source = EDITS_THE_PLAN.format(path=str(tmp_path / "run/config.json").encode())
    run = make_run(tmp_path, {"edits": source}, workloads=["T7_o192"])
    assert measure(run, env={"BAKEOFF_UNCONFINED": "1"}).returncode == 0
    assert (only(run, "edits").outcome, only(run, "edits").reason) == (Outcome.REJECTED, Reason.EDITED_RUN)
    assert "files of the run changed during the cell: config.json" in (only(run, "edits").detail or "")


STEADY = {"wall_us": [50.0] * 16, "event_us": [100.0] * 16}
WILD = {"wall_us": [50.0] * 16, "event_us": [60.0, 80.0, 120.0, 160.0] * 4}


class _Hiccup:
    """A device on which the first intervals of four calls last as long as those of eight, or all of them."""

    def __init__(self, slow: int, power: float = 1.0) -> None:
        self.slow, self.power, self.tries = slow, power, 0

    def batch_us(self, call: object, count: int, lead_in_us: float) -> float:
        self.tries += count == 4
        return 800.0 if count == 4 and self.tries <= self.slow else 100.0 * count**self.power


@pytest.mark.parametrize(("slow", "tries"), [(0, 1), (2, 3), (4, 5), (6, 7)])
def test_a_hiccup_of_the_host_is_not_taken_for_skipped_calls(slow: int, tries: int) -> None:
    device = _Hiccup(slow)
    assert _check_scaling(device, MagicMock(), Calls(), STEADY) == []
    assert device.tries == tries, "calls that look skipped are tried again, others are not"


def test_calls_that_wait_for_the_host_are_remarked_on_after_a_few_tries() -> None:
    device = _Hiccup(0, power=0.85)
    (warning,) = _check_scaling(device, MagicMock(), Calls(), STEADY)
    assert "not twice as long" in warning and device.tries == SCALING_TRIES


def test_calls_that_scatter_themselves_are_not_remarked_on_when_their_sums_do() -> None:
    device = _Hiccup(0, power=0.9)
    assert _check_scaling(device, MagicMock(), Calls(), WILD) == [] and device.tries == 1


def test_the_scatter_of_the_ratio_follows_from_that_of_single_calls() -> None:
    chance = random.Random(4)
    draw = lambda n: [chance.gauss(100, 10) for _ in range(n)]  # noqa: E731
    ratios = [sum(draw(8)) / sum(draw(4)) for _ in range(4000)]
    assert _ratio_scatter(draw(4000), 4) == pytest.approx(statistics.stdev(ratios) / 2, rel=0.08)
    assert _ratio_scatter([5.0], 4) == 0 == _ratio_scatter([5.0] * 9, 4)


@pytest.mark.parametrize("samples", [STEADY, WILD], ids=["steady", "wild"])
def test_calls_that_stay_skipped_are_rejected_however_often_they_are_tried(samples: dict[str, list[float]]) -> None:
    device = _Hiccup(1000)
    with pytest.raises(RuleBroken) as broken:
        _check_scaling(device, MagicMock(), Calls(), samples)
    assert broken.value.finding[1] == Reason.SKIPPED_CALLS and device.tries == 23


# Microseconds that 4 and 8 calls in a row of FlashInfer's composition took at T = 1 on an H100: the host launches GEMM
# by GEMM.
FOUR = (3401, 3772, 3484, 3249, 3120, 10945, 6958, 3665, 3419, 3451, 7500, 4359, 12425, 4154, 8570, 3470, 3184, 10019)
FOUR = (*FOUR, 3568, 4003, 10016, 2956, 7562, 3757, 3147, 8733, 8727, 9302)
EIGHT = (6688, 6570, 10870, 5817, 5836, 17649, 7596, 6939, 6944, 12487, 13957, 6660, 7398, 9349, 12333, 5625, 13704)
EIGHT = (*EIGHT, 8015, 6247, 6620, 7106, 10354, 12364, 7176, 5976, 7101, 7324, 10757)


class _HostBound:
    """A device on which intervals are drawn from those measured."""

    def __init__(self, seed: int) -> None:
        self.chance, self.tries = random.Random(seed), 0

    def batch_us(self, call: object, count: int, lead_in_us: float) -> float:
        self.tries += count == 4
        return self.chance.choice(FOUR if count == 4 else EIGHT)


def test_honest_calls_that_wait_for_the_host_are_never_taken_for_skipped_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    devices = [_HostBound(seed) for seed in range(5000)]
    for device in devices:
        _check_scaling(device, MagicMock(), Calls(), WILD)
    assert sum(device.tries > 7 for device in devices) >= 5, "seven tries would have convicted some"


def test_a_busy_host_does_not_change_how_many_calls_the_test_double_makes() -> None:
    device = FakeDevice({}, "somebody")
    device.enter("T1_o32", 1)
    time.sleep(0.02)
    assert device.seconds() == 0
    for _ in range(3):
        device.begin()
        device.end()
    assert device.seconds() == 0
    spent = sum(device.harvest()["event_us"]) / 1e6
    assert device.seconds() == pytest.approx(spent) and spent > 0
