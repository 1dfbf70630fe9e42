"""benchmarks/crosscheck.py: which cells two harnesses share, and whether they agree."""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
from bakeoff.files import PROJECT_ROOT

SCRIPT = PROJECT_ROOT / "benchmarks/crosscheck.py"
OURS = {("a", 1): 0.1, ("a", 80): 0.5, ("a", 901): 0.6, ("a", 14107): 1.4, ("b", 1): 0.2}


def write(path: Path, cells: dict[tuple[str, int], float], failed: str | None = None) -> Path:
    lines = []
    for (solution, tokens), milliseconds in cells.items():
        status = "RUNTIME_ERROR" if solution == failed else "PASSED"
        performance = {"latency_ms": milliseconds} if status == "PASSED" else None
        lines.append({"solution": solution, "workload": {"uuid": f"u{tokens}", "axes": {"seq_len": tokens}},
                      "evaluation": {"status": status, "performance": performance}})  # fmt: skip
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def crosscheck(tmp_path: Path, factors: dict[tuple[str, int], float], failed: str | None = None) -> tuple[int, str]:
    theirs = {cell: value * factors.get(cell, 1.01) for cell, value in OURS.items()}
    words = [
        sys.executable,
        str(SCRIPT),
        str(write(tmp_path / "ours", OURS)),
        str(write(tmp_path / "theirs", theirs, failed)),
    ]
    done = subprocess.run(words, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("factors", "code", "text"),
    [
        ({}, 0, "median deviation 1.00%"),
        ({("a", 1): 1.5}, 0, "median deviation 1.00%"),  # one small cell may be off
        ({("a", 901): 0.94}, 1, "largest at 901 tokens and more 6.00%"),
        ({("a", 1): 1.04, ("a", 80): 1.04, ("b", 1): 0.95}, 1, "median deviation 4.00%"),
    ],
)
def test_agreement_is_judged_by_the_median_and_by_every_large_cell(
    tmp_path: Path, factors: dict[tuple[str, int], float], code: int, text: str
) -> None:
    status, printed = crosscheck(tmp_path, factors)
    assert (status, text in printed) == (code, True), printed


def test_a_cell_that_failed_in_one_is_left_out_and_counted(tmp_path: Path) -> None:
    status, printed = crosscheck(tmp_path, {}, failed="b")
    assert status == 0 and "4 cells, 1 in one file only" in printed


def test_files_without_a_common_cell_are_no_agreement(tmp_path: Path) -> None:
    ours, theirs = write(tmp_path / "ours", OURS), write(tmp_path / "theirs", {("c", 1): 1.0})
    done = subprocess.run([sys.executable, str(SCRIPT), str(ours), str(theirs)], capture_output=True, text=True)
    assert done.returncode == 2 and "no cell in common" in done.stderr


def test_what_the_page_says_of_flashinfer_bench_follows_from_the_kept_files() -> None:
    kept = PROJECT_ROOT / "results/interop/fib-0.1.2/2026-11-23_h100"
    page = (PROJECT_ROOT / "docs/measurement.md").read_text()
    lines = re.findall(r"'(\w+)' for workload (\S+): (\w+) with ([\d.]+)x", (kept / "flashinfer-bench.log").read_text())
    assert {status for _, _, status, _ in lines} == {"PASSED"}
    speedups = {(solution, workload): float(value) for solution, workload, _, value in lines}
    name = "cutedsl_moe_fp8_v3_2"
    workloads = sorted({workload for _, workload in speedups})
    ratios = [speedups[f"{name}_twin", workload] / speedups[name, workload] for workload in workloads]
    assert (
        f"| {min(ratios):.2f} to {max(ratios):.2f}, median {statistics.median(ratios):.2f} over {len(ratios)} workloads |"
        in page
    )
    assert f"{len(ratios)} of {len(ratios)} that it reached" in page
    ours = json.loads((kept / "robust.manifest.json").read_text())
    assert f"included: {ours['spent']['total']:.0f} s, 5 solutions" in page and ours["outcomes"] == {"PASSED": 6 * 19}
    assert "rc=137 188 s" in (kept / "timing.txt").read_text() and "cut off at 188 s" in page
