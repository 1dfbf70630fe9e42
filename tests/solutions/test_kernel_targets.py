"""benchmarks/kernel_targets.py: the figures of the speed table, and which targets they meet."""

from __future__ import annotations

import gzip
import importlib.util
import json
import re
import statistics
import sys

import pytest
from bakeoff.files import PROJECT_ROOT

FILE = PROJECT_ROOT / "benchmarks" / "kernel_targets.py"
_spec = importlib.util.spec_from_file_location("kernel_targets", FILE)
kernel_targets = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(kernel_targets)

V3, V3_2, TRITON, DEEPGEMM = "cutedsl_moe_fp8_v3", "cutedsl_moe_fp8_v3_2", "triton_fused_moe_v2", "deepgemm_moe"
TOKENS = {"T16_o0": 16, "T901_o96": 901}


def analysis(latency=None, stages=None, verdict="SLOWER_2_PERCENT"):
    """Two workloads, four solutions; v3 against v3.2 is slower by 2 % or more, that is, v3.2 faster."""
    latency = {V3: 110.0, V3_2: 100.0, TRITON: 120.0, DEEPGEMM: 80.0} | (latency or {})
    gemms = {V3: 60.0, V3_2: 58.0, TRITON: 66.0, DEEPGEMM: 57.0} | (stages or {})
    cells = [
        {"solution": s, "workload": w, "outcome": "PASSED", "latency_us": {"value": us}}
        for s, us in latency.items()
        for w in TOKENS
    ]

    def profiled(solution, workload):
        parts = [
            {"stage": "routing", "us": 10.0, "run_us": 10.0},
            {"stage": "gemm1", "us": gemms[solution] - 22, "run_us": gemms[solution] - 20},
            {"stage": "gemm2", "us": 18.0, "run_us": 20.0},
        ]
        return {
            "solution": solution,
            "workload": workload,
            "busy_us": gemms[solution] + 10,
            "launches": 8,
            "stages": parts,
        }

    return {
        "participants": [{"name": name, "supported": True} for name in latency],
        "workloads": [
            {"id": name, "seq_len": tokens, "floor_us": None, "floor_bound": None}
            for name, tokens in reversed(TOKENS.items())
        ],
        "cells": cells,
        "pairs": [{"a": V3, "b": V3_2, "verdicts": [{"workload": name, "verdict": verdict} for name in TOKENS]}],
        "profiles": {"cells": [profiled(solution, workload) for solution in gemms for workload in TOKENS]},
    }


def lines(made):
    run = kernel_targets.Run(made)
    return kernel_targets.tables(run), kernel_targets.targets(run)


def test_figures_come_in_order_of_tokens_with_verdicts_turned_to_v3_2():
    tables, targets = lines(analysis())
    assert "| 16 | 110.0 | 100.0 | 120.0 | 80.0 | 1.250 | FASTER_2_PERCENT |" in tables
    assert "| 901 | 60.0 | 58.0 | 66.0 | 57.0 | 0.95 | 10.0 | 13.2% | 8 |" in tables
    assert [row.split(" |")[0] for row in tables if row[:3] in ("| 1", "| 9")] == ["| 16", "| 901"] * 2
    assert len(targets) == 6 and not any("MISSED" in one for one in targets)


def test_a_twin_is_no_solution_of_its_own():
    made = analysis(latency={f"{V3_2}.twin": 50.0})
    made["participants"][-1]["twin_of"] = V3_2
    tables, _ = lines(made)
    assert "| 16 | 110.0 | 100.0 | 120.0 | 80.0 | 1.250 | FASTER_2_PERCENT |" in tables and not any(
        "twin" in row for row in tables
    )


@pytest.mark.parametrize(
    ("change", "missed"),
    [
        ({"latency": {V3_2: 101.0}}, "geometric mean: 1.262"),
        ({"verdict": "FASTER_2_PERCENT"}, "FASTER than v3 at T ≥ 901: MISSED; SLOWER nowhere: MISSED 16 901"),
        ({"verdict": "OPEN"}, "FASTER than v3 at T ≥ 901: MISSED; SLOWER nowhere: met"),
        ({"stages": {DEEPGEMM: 53.0}}, "0.88 at T = 16"),
        ({"stages": {TRITON: 56.0, DEEPGEMM: 60.0}}, "15.2% at T = 901"),
    ],
)
def test_a_missed_target_says_so(change, missed):
    (found,) = [one for one in lines(analysis(**change))[1] if "MISSED" in one]
    assert missed in found


def test_a_run_without_a_profile_tells_what_it_can():
    tables, targets = lines({**analysis(), "profiles": None})
    assert len(targets) == 2 and not any("DeepGEMM" in one for one in tables)


def test_the_document_has_its_place(tmp_path, monkeypatch):
    copy, file = tmp_path / "kernels.md", tmp_path / "analysis.json"
    copy.write_text(kernel_targets.DOCUMENT.read_text())
    file.write_text(json.dumps(analysis()))
    monkeypatch.setattr(kernel_targets, "DOCUMENT", copy)
    monkeypatch.setattr(sys, "argv", ["kernel_targets.py", str(file), "--write"])
    kernel_targets.main()
    once = copy.read_text()
    assert "| 901 | 110.0 |" in once and once.count(f"<!-- {kernel_targets.MARK} -->") == 1
    kernel_targets.main()
    assert copy.read_text() == once


def test_a_latency_is_split_into_a_fixed_time_and_a_multiple_of_the_floor():
    made = analysis()
    floors = {1: 10.0, 16: 100.0, 80: 400.0, 901: 420.0, 11948: 500.0}
    made["workloads"] = [
        {"id": f"T{t}", "seq_len": t, "floor_us": us, "floor_bound": "memory" if t < 1000 else "compute"}
        for t, us in floors.items()
    ]
    made["profiles"] = None
    extra = {16: 1.5, 901: 30.0}  # a residual, and what the largest memory-bound cell takes beyond the line
    made["cells"] = [
        {
            "solution": V3_2,
            "workload": f"T{t}",
            "outcome": "PASSED",
            "latency_us": {"value": 40 + 1.2 * us + extra.get(t, 0)},
        }
        for t, us in floors.items()
    ]
    fixed, slope, worst, above = kernel_targets.Run(made).against_floor(V3_2)
    assert (fixed, slope) == (pytest.approx(40.7, abs=0.2), pytest.approx(1.199, abs=0.001))
    assert 0.5 < worst < 1.5 and above == {901: pytest.approx(30, abs=0.5)}
    row = next(one for one in lines(made)[0] if one.startswith(f"| {V3_2} | 4"))
    assert row == f"| {V3_2} | {fixed:.1f} | {slope:.3f} | {worst:.1f} | {above[901]:.1f} |"
    assert kernel_targets.Run(made).against_floor(V3) is None, "no cells of it"
    assert kernel_targets.floor_table(kernel_targets.Run(analysis())) == []


def test_the_page_holds_the_newest_recorded_runs_table(tmp_path, monkeypatch) -> None:
    run = sorted((PROJECT_ROOT / "results/recorded").glob("*_h100"))[-1]
    page = PROJECT_ROOT / "docs" / "kernels.md"
    copy = tmp_path / "kernels.md"
    copy.write_text(page.read_text())
    monkeypatch.setattr(kernel_targets, "DOCUMENT", copy)
    monkeypatch.setattr(sys, "argv", ["kernel_targets.py", str(run / "analysis.json"), "--write"])
    kernel_targets.main()
    assert copy.read_text() == page.read_text(), "run benchmarks/kernel_targets.py as the page says"


@pytest.mark.parametrize(
    ("name", "mark", "altered"),
    [("2026-12-01_h200_2", "v4_targets", "| 0.90, met |"), ("2026-11-30_h200", "v4_stages", "| 9.99 |")],
)
def test_the_page_holds_what_the_recorded_run_says_of_v4(name, mark, altered, tmp_path, monkeypatch) -> None:
    run = PROJECT_ROOT / "results/recorded" / name
    copy = tmp_path / "kernels.md"
    page = kernel_targets.DOCUMENT.read_text()
    changed = page.replace("| 0.90, MISSED |" if mark == "v4_targets" else "| 2.45 |", altered)
    assert changed != page
    copy.write_text(changed)  # to be put right again
    monkeypatch.setattr(kernel_targets, "DOCUMENT", copy)
    arguments = [str(run / "analysis.json"), "--v4", "--only", mark, "--write"]
    monkeypatch.setattr(sys, "argv", ["kernel_targets.py", *arguments])
    kernel_targets.main()
    assert copy.read_text() == page, "run benchmarks/kernel_targets.py as the page says"


def test_how_far_the_composition_waits_for_the_host_follows_from_the_recorded_samples() -> None:
    """What docs/kernels.md says of flashinfer_moe beside its tables: CUPTI's busy time, the median over blocks of the
    processes' medians."""
    run = sorted((PROJECT_ROOT / "results/recorded").glob("*_h100"))[-1]
    page = " ".join((PROJECT_ROOT / "docs" / "kernels.md").read_text().split())
    said = re.search(r"at T = 80 its kernels take (\d+) of \d+ µs, at T = 14107 (\d+) of \d+ µs", page)
    assert said
    for busy, workload in zip(said.groups(), ("T80_o96", "T14107_o32"), strict=True):
        medians = [
            statistics.median(record["tiers"]["cupti_busy_us"])
            for journal in run.glob("samples/block-*/flashinfer_moe.jsonl.gz")
            for record in map(json.loads, gzip.decompress(journal.read_bytes()).splitlines())
            if (record["workload"], record["kind"]) == (workload, "measure")
        ]
        assert len(medians) > 1 and abs(statistics.median(medians) - int(busy)) <= 0.51


def test_the_stages_at_large_t_are_those_of_the_recorded_profile() -> None:
    """The table of docs/kernels.md under "Where the time goes at large T": megabytes, microseconds and their ratio."""
    run = sorted((PROJECT_ROOT / "results/recorded").glob("*_h100"))[-1]
    profile = json.loads((run / "profile" / f"{TRITON}.json").read_text())
    (cell,) = (one for one in profile["cells"] if one["workload"] == "T14107_o32")
    page = (PROJECT_ROOT / "docs" / "kernels.md").read_text().split("### Where the time goes at large T")[1]
    rows = re.findall(r"^\| (\w+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", page.split("###")[0], re.MULTILINE)
    stages = {one["stage"]: one for one in cell["stages"] if one["us"]}
    assert {row[0] for row in rows} == set(stages) - {"gemm1", "gemm2"}
    for stage, megabytes, microseconds, rate in rows:
        moved, took = stages[stage]["dram_bytes"], stages[stage]["us"]
        assert float(megabytes) == pytest.approx(moved / 1e6, abs=0.051)
        assert float(microseconds) == pytest.approx(took, abs=0.051)
        assert float(rate) == pytest.approx(moved / took / 1e6, abs=0.0051)
    others = sum(stages[row[0]]["us"] for row in rows)
    assert (
        f"they take {others:.0f} of the call's {cell['busy_us']:.0f} µs of busy time, "
        f"{others / cell['busy_us'] * 100:.1f} %" in page
    )
