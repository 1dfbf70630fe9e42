"""A B200's floors in the reports of other GPUs: from bytes and FLOPs, labelled, and apart from what was measured."""

from __future__ import annotations

import pytest
from bakeoff.core.moe.floors import PEAKS, LowerBound, b200_range
from bakeoff.files import PROJECT_ROOT, read_json
from bakeoff.report.evidence import b200_floors
from bakeoff.report.render import render
from bakeoff.report.view import RunView
from bakeoff.schema.analysis import Analysis

RECORDED = PROJECT_ROOT / "results/recorded/2026-11-24_h100/analysis.json"


def test_the_range_lies_around_the_data_sheets_floor_and_each_bound_counts() -> None:
    for least in (LowerBound(8e9, 1.0), LowerBound(1.0, 4.5e12)):  # at the memory's rate, at the tensor cores'
        low, high = b200_range(least)
        floor = least.us(PEAKS["NVIDIA B200"])
        assert floor == pytest.approx(1000) and low <= floor <= high and low < high
    assert b200_range(LowerBound(7.7e9, 1.0))[1] == pytest.approx(1000)
    assert b200_range(LowerBound(1.0, 5e12))[0] == pytest.approx(1000)


def test_a_report_of_another_gpu_has_each_workloads_floor_on_a_b200_without_a_measured_value() -> None:
    given = read_json(RECORDED, Analysis)
    table = b200_floors(RunView(given))
    rows = table.csv().decode().splitlines()
    assert len(rows) == 1 + len(given.workloads)
    assert rows[0].split(",")[-3:] == ["floor_us", "range_low", "range_high"] and "latency" not in rows[0]
    for line, workload in zip(rows[1:], given.workloads, strict=True):
        floor, low, high = (float(value) for value in line.split(",")[-3:])
        assert floor == pytest.approx(1e6 * max(workload.floor_bytes / 8e12, workload.floor_flops / 4.5e15), rel=1e-6)
        assert low <= floor <= high
    page = render(given)["report.html"].decode()
    assert "A B200’s floors, none of which was measured" in page and "From, estimated" in page


def test_a_b200s_own_report_has_no_second_floor() -> None:
    given = read_json(RECORDED, Analysis)
    own = given.model_copy(update={"run": given.run.model_copy(update={"hardware": "NVIDIA B200"})})
    assert not len(b200_floors(RunView(own)))
