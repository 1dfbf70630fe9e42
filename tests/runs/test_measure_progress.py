"""The line that a finished cell prints: how many of the cells are done, and the time left."""

from __future__ import annotations

from pathlib import Path

import pytest
from bakeoff.runs import block_run as ledger
from bakeoff.runs.block_run import Progress
from bakeoff.schema.outcomes import Outcome
from bakeoff.schema.plan import PlannedCell
from bakeoff.schema.sample import Record
from support.measure_runs import PASSED_GATES, make_run, plan_of


def record(cell: PlannedCell) -> Record:
    return Record(
        key=cell.key,
        kind=cell.kind,
        participant=cell.participant,
        workload=cell.workload,
        protocol=cell.protocol,
        family=cell.family,
        seed=cell.seed,
        block=0,
        outcome=Outcome.PASSED,
        gates=PASSED_GATES,  # type: ignore[arg-type]
        started="",
        seconds=1.0,
    )


def test_time_left_counts_from_the_first_cell_and_minutes_have_sixty_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(make_run(tmp_path, {"honest": None}, workloads=["T1_o32", "T7_o192", "T14_o0", "T15_o32"]))
    cells = [cell for cell in plan.cells if cell.participant == "honest"]
    # Imports take 500 s before the first cell; then each takes 59.8 s.
    clock = iter([500.0, 559.8, 619.6, 679.4])
    monkeypatch.setattr(ledger.time, "monotonic", lambda: next(clock))
    told: list[str] = []
    progress = Progress(plan, 0, cells, cells, told.append)
    for cell in cells:
        progress.show(record(cell))
    assert [line.split("PASSED")[1].strip() for line in told] == ["", "2:00 left", "1:00 left", "0:00 left"]
    assert [line.split("  ")[2].strip() for line in told] == ["1/4", "2/4", "3/4", "4/4"]


def test_on_a_terminal_one_line_takes_the_place_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = plan_of(make_run(tmp_path, {"honest": None}, workloads=["T1_o32", "T7_o192", "T14_o0"]))
    cells = [cell for cell in plan.cells if cell.participant == "honest"]
    monkeypatch.setattr(ledger.sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "60")
    progress = Progress(plan, 0, cells, cells, ledger.say)
    for cell, outcome in zip(cells, (Outcome.PASSED, Outcome.TIMEOUT, Outcome.PASSED), strict=True):
        update = {} if outcome == Outcome.PASSED else {"outcome": outcome, "gates": {}}
        progress.show(record(cell).model_copy(update=update))
    written = capsys.readouterr().err
    assert [part[-1] for part in written.split("\x1b[2K")[1:]] == ["\r", "\n", "\n"], "a failure and the last one stay"
    assert max(map(len, written.replace("\r", "\n").splitlines())) < 60 + len("\x1b[2K")


def test_a_log_gets_a_line_for_each_tenth_of_the_work_and_for_what_did_not_pass(tmp_path: Path) -> None:
    plan = plan_of(make_run(tmp_path, {"honest": None}))
    cell = next(cell for cell in plan.cells if cell.participant == "honest")
    told: list[str] = []
    progress = Progress(plan, 0, [cell] * 200, [cell] * 200, told.append)
    for number in range(200):
        failed = {"outcome": Outcome.TIMEOUT, "gates": {}} if number == 33 else {}
        progress.show(record(cell).model_copy(update=failed))
    assert [line.split("  ")[2].strip() for line in told] == [f"{n}/200" for n in sorted([34, *range(20, 201, 20)])]
    assert all("left" in line for line in told)
