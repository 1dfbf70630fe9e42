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
        lines.append(
            {
                "solution": solution,
                "workload": {"uuid": f"u{tokens}", "axes": {"seq_len": tokens}},
                "evaluation": {"status": status, "performance": performance},
            }
        )
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


KEPT = PROJECT_ROOT / "results/interop/fib-0.1.2/2026-11-24_h100"
PAGE = " ".join((PROJECT_ROOT / "docs/measurement.md").read_text().split())
COPIED = "cutedsl_moe_fp8_v3_2"


def theirs() -> dict[str, dict[str, dict[str, float]]]:
    """FlashInfer-Bench's figures, by solution and workload."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for line in (KEPT / "flashinfer-bench.traces.jsonl").read_text().splitlines():
        trace = json.loads(line)
        assert trace["evaluation"]["status"] == "PASSED"
        found.setdefault(trace["solution"], {})[trace["workload"]["uuid"]] = trace["evaluation"]["performance"]
    return found


def test_flashinfer_bench_passed_every_solution_on_every_workload() -> None:
    found = theirs()
    assert len(found) == 6 and all(len(cells) == 19 for cells in found.values())
    assert "| all five solutions PASSED | 19 of 19 workloads | 19 of 19 workloads |" in PAGE


def test_what_the_page_says_of_both_harnesses_on_a_solution_and_its_copy_follows_from_the_kept_files() -> None:
    found = theirs()
    own, copy = found[COPIED], found[f"{COPIED}_twin"]
    latency = [copy[cell]["latency_ms"] / own[cell]["latency_ms"] for cell in own]
    speedup = [copy[cell]["speedup_factor"] / own[cell]["speedup_factor"] for cell in own]
    analysis = json.loads(sorted((PROJECT_ROOT / "results/recorded").glob("*_h100/analysis.json"))[-1].read_text())
    ours = {(cell["solution"], cell["workload"]): cell for cell in analysis["cells"]}
    pairs = [(ours[f"{COPIED}.twin", what["id"]], ours[COPIED, what["id"]]) for what in analysis["workloads"]]
    our_latency = [a["latency_us"]["value"] / b["latency_us"]["value"] for a, b in pairs]
    our_speedup = [a["speedup"]["value"] / b["speedup"]["value"] for a, b in pairs]
    for first, second in ((our_latency, latency), (our_speedup, speedup)):
        assert f"| {min(first):.3f} to {max(first):.3f}" in PAGE and f"| {min(second):.3f} to {max(second):.3f}" in PAGE
    apart = [abs(one - 1) for one in latency]
    assert (
        f"other, {100 * statistics.median(apart):.1f} % apart in the median and {100 * max(apart):.0f} % in one cell"
        in PAGE
    )
    for values in (our_latency, latency):
        assert f"median deviation {100 * statistics.median(abs(one - 1) for one in values):.1f} % over 19" in PAGE
    (verdicts,) = (pair for pair in analysis["pairs"] if {pair["a"], pair["b"]} == {COPIED, f"{COPIED}.twin"})
    assert (verdicts["counts"], verdicts["workloads"]) == (
        {"SAME": 19},
        19,
    ) and "verdicts other than SAME | 0 of 19 |" in PAGE


def test_what_the_page_says_of_wall_times_and_latencies_follows_from_the_kept_files() -> None:
    ours = json.loads((KEPT / "robust.manifest.json").read_text())
    assert f"included: {ours['spent']['total']:.0f} s, 5 solutions" in PAGE and ours["outcomes"] == {"PASSED": 6 * 19}
    took = re.search(r"flashinfer-bench run .*rc=0 (\d+) s", (KEPT / "timing.txt").read_text())
    assert took and f"`flashinfer-bench run`: {took[1]} s, 6 solutions" in PAGE
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(KEPT / "bakeoff.traces.jsonl"), str(KEPT / "flashinfer-bench.traces.jsonl")],
        capture_output=True,
        text=True,
    )
    assert done.stdout == (KEPT / "crosscheck.txt").read_text()
    said = re.search(r"median deviation ([\d.]+)%.*tokens and more ([\d.]+)%", done.stdout)
    assert (
        said and f"is {float(said[1]):.1f} % (goal 3 %), the largest from 901 tokens on {float(said[2]):.1f} %" in PAGE
    )
    rows = [line.split() for line in done.stdout.splitlines()]
    device_bound = [
        abs(float(row[4]) - 1) for row in rows if row[0] in (COPIED, "deepgemm_moe") and row[1] in ("11948", "14107")
    ]
    assert f"differ by {100 * min(device_bound):.1f} to {100 * max(device_bound):.1f} %" in PAGE


def test_what_the_page_says_of_the_hosts_time_follows_from_the_recorded_profile() -> None:
    profiles = sorted((PROJECT_ROOT / "results/recorded").glob("*_h100"))[-1].glob("profile/*_moe*.json")
    found = [json.loads(path.read_text()) for path in profiles]
    hosts = [host["host_us"] for one in found if one["solution"] != "flashinfer_moe" for host in one["hosts"]]
    assert len(hosts) == 4 * 19 and f"takes the host {min(hosts):.0f} to {max(hosts):.0f} µs" in PAGE


LOOPS = PROJECT_ROOT / "benchmarks/fib_loops.py"
IN_TURNS = PROJECT_ROOT / "results/interop/fib-0.1.2/2026-11-23_h100_in_turns/calls.json"


def compare(path: Path) -> str:
    return subprocess.run([sys.executable, str(LOOPS), "compare", str(path)], capture_output=True, text=True).stdout


def test_loops_are_compared_with_themselves_and_with_each_other(tmp_path: Path) -> None:
    def row(loop: str, *event_us: float) -> dict[str, object]:
        return {"solution": "a", "seq_len": 1, "loop": loop, "event_us": list(event_us)}

    first, second = row("flashinfer-bench", 10, 10, 40), row("flashinfer-bench", 10, 20, 30)
    rows = [first, second, row("bakeoff", 11, 11, 11), row("bakeoff", 11, 11, 22)]
    rows += [row("no collector", 10, 15, 35), row("one core", 20, 30, 70)]
    (tmp_path / "calls.json").write_text(json.dumps(rows))
    lines = [
        [cell.strip() for cell in line.strip("| ").split("|")] for line in compare(tmp_path / "calls.json").splitlines()
    ]
    assert lines[0] == ["deviation", "mean", "median", "tenth percentile"]
    found = {line[0]: line[1:] for line in lines[2:]}
    assert found["flashinfer-bench from itself"] == ["0.0 %", "50.0 %", "0.0 %"]
    assert found["bakeoff from itself"] == ["25.0 %", "0.0 %", "0.0 %"]
    assert found["bakeoff from flashinfer-bench"] == ["35.8 %", "26.7 %", "10.0 %"]
    assert found["one core from flashinfer-bench"] == ["100.0 %", "100.0 %", "100.0 %"]


def test_the_pages_table_of_loops_in_turns_follows_from_the_kept_calls() -> None:
    assert compare(IN_TURNS).strip() in (PROJECT_ROOT / "docs/measurement.md").read_text()
