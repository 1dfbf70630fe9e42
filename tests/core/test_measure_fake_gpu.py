"""Whole blocks on the fake GPU: what is timed, faults in a worker, disturbed cells, and times that do not add up."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from bakeoff.runs.assemble import assemble_run
from bakeoff.schema.outcomes import Outcome, Reason
from support.measure_runs import bakeoff, fake_device, make_run, measure, only, plan_of, records

# Whole blocks take a second each, and much longer on a busy host.
pytestmark = pytest.mark.timeout(900)


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
            frame.f_globals["Values"].make = lambda self, drawn, into: into
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
