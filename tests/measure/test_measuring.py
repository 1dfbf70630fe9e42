"""benchmarks/measuring.py: the figures of docs/measurement.md come from the recorded runs, and are current."""

from __future__ import annotations

import json
import re
import shutil
import statistics
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from bakeoff.errors import InputError
from bakeoff.files import PROJECT_ROOT, replace_marked
from bakeoff.measure.samples.journal import journal_path, read_journal
from bakeoff.measure.samples.records import Record
from measure_runs import environment

RECORDED = sorted(path.parent for path in (PROJECT_ROOT / "results/recorded").glob("*/config.json"))
NEWEST = RECORDED[-1]
PAGE = " ".join((PROJECT_ROOT / "docs/measurement.md").read_text().split())
H100, H200, AGAIN = (PROJECT_ROOT / "results/recorded" / f"2026-11-23_{name}" for name in ("h100", "h200", "h200_2"))


def printed(*runs: Path) -> str:
    script = str(PROJECT_ROOT / "benchmarks/measuring.py")
    return subprocess.run(
        [sys.executable, script, *map(str, runs)], env=environment(), capture_output=True, text=True, check=True
    ).stdout


def spent(run: Path, what: str) -> list[float]:
    return [json.loads(path.read_text())["spent"][what] for path in run.glob("samples/*/manifest.json")]


def spans(values: list[float]) -> str:
    return f"{min(values):.0f} to {max(values):.0f}"


def planned(run: Path) -> dict[str, Any]:
    return json.loads((run / "config.json").read_text())


def twins(run: Path) -> dict[str, Any]:
    pairs = json.loads((run / "analysis.json").read_text())["pairs"]
    (pair,) = (one for one in pairs if one["b"] == f"{one['a']}.twin")
    return pair


def composition(run: Path) -> list[Record]:
    """flashinfer_moe's timed cells at one token, block by block."""
    found = [record for block in range(10) for record in read_journal(journal_path(run, block, "flashinfer_moe"))]
    return [record for record in found if (record.kind, record.workload) == ("measure", "T1_o32")]


def test_the_page_holds_the_recorded_runs_figures() -> None:
    page = PROJECT_ROOT / "docs/measurement.md"
    text = page.read_text()
    assert replace_marked(text, "measured", printed().rstrip("\n"), page) == text


def test_details_are_those_of_the_newest_run_in_which_every_cell_passed() -> None:
    assert f"Of `{H200.name}`, by participant" in printed(H100, H200, AGAIN)
    assert f"Of `{H100.name}`, by participant" in printed(AGAIN, H100)
    assert f"Of `{AGAIN.name}`, by participant" in printed(AGAIN)


def test_what_the_page_says_of_idle_time_follows_from_the_runs() -> None:
    idle = {run: [100 * one for one in spent(run, "idle")] for run in (H100, H200, AGAIN)}
    first, second = (f"{statistics.fmean(idle[run]) - 30:.1f}" for run in (H200, AGAIN))
    assert f"by {first} and {second} points in the mean; 3 of 10 blocks meet it in each H200 run" in PAGE
    assert [sum(one <= 30 for one in idle[run]) for run in (H200, AGAIN)] == [3, 3]
    assert f"| `{H100.name}` | {spans(spent(H100, 'lock'))} s | {spans(idle[H100])} % |" in PAGE
    later = f"{spans(spent(H200, 'lock') + spent(AGAIN, 'lock'))} s | {spans(idle[H200] + idle[AGAIN])} %"
    assert f"| `{H200.name}`, `{AGAIN.name}` | {later} |" in PAGE


def test_what_the_page_says_of_the_last_changes_follows_from_the_runs() -> None:
    plans = [planned(run)["participants"] for run in (H100, H200, AGAIN)]
    assert len({tuple((who["name"], who["digest"]) for who in plan) for plan in plans}) == 1
    before, after = (
        next(line for line in printed(run).splitlines() if line.startswith("| flashinfer_moe |")).split(" | ")
        for run in (H100, H200)
    )
    assert f"takes {after[1]} s with {after[-2]} timed calls, where it took {before[1]} s with {before[-2]}" in PAGE


def test_what_the_page_says_of_twins_follows_from_the_runs() -> None:
    pairs = [twins(run) for run in (H100, H200, AGAIN)]
    same, workloads = (sum(pair[what] for pair in pairs) for what in ("same", "workloads"))
    assert same == workloads and f"every verdict on the twin is SAME: {same} of {workloads}" in PAGE
    apart = {abs(one["ratio"]["value"] - 1): one["workload"] for pair in pairs for one in pair["verdicts"]}
    assert f"at most {100 * max(apart):.2f} % apart (`{apart[max(apart)]}`" in PAGE
    last, ratio = pairs[-1], pairs[-1]["ratio"]
    ahead = f"ahead on {last['b_ahead']} of {last['workloads']} workloads, by {100 * (1 - ratio['value']):.2f} % in the"
    assert ahead in PAGE and ratio["low"] < 1 < ratio["high"]


def test_what_the_page_says_of_the_rejected_cell_follows_from_the_runs() -> None:
    cells = {run: composition(run) for run in (H100, H200, AGAIN)}
    every = [record for found in cells.values() for record in found]
    (rejected,) = (record for record in every if record.outcome != "PASSED")
    assert rejected is cells[AGAIN][6] and rejected.detail == "8 calls in a row took 1.42 times as long as 4"
    assert "found that 8 calls in a row took 1.42 times as long as 4 and asks for 1.5 times" in PAGE
    assert f"passed this cell in the other {len(every) - 1} blocks" in PAGE
    times = [statistics.median(record.tiers["cupti_span_us"]) for record in every if record is not rejected]
    assert f"lies between {min(times):.0f} and {max(times):.0f} µs from process to process" in PAGE
    manifests = [json.loads(path.read_text()) for run in cells for path in run.glob("samples/*/manifest.json")]
    outcomes = sum((Counter(one["outcomes"]) for one in manifests), Counter())
    verified = sum(cell["kind"] == "verify" for run in cells for cell in planned(run)["cells"])
    assert set(outcomes) == {"PASSED", "REJECTED"} and outcomes["REJECTED"] == 1
    assert f"of {outcomes.total() - verified:,} cells measured" in PAGE


def test_figures_follow_the_run(tmp_path: Path) -> None:
    run = tmp_path / NEWEST.name
    shutil.copytree(NEWEST, run)
    before = printed(run)
    path = run / "samples/block-00/manifest.json"
    manifest = json.loads(path.read_text())
    manifest["spent"] |= {"total": manifest["spent"]["total"] + 100, "lock": 999.0, "gpu_busy": 0.9}
    path.write_text(json.dumps(manifest))
    after = printed(run)
    assert "to 999 s" in after and "to 90 %" in after and before != after
    first = [int(text.split("first 5 blocks | ")[1].split()[0]) for text in (before, after)]
    assert first[1] - first[0] == 100
    manifest["spent"] |= {"lock": 100.0, "verified": 61.0, "idle": 0.21}
    path.write_text(json.dumps(manifest))
    counted = printed(run)
    assert re.search(r"idle, neither of the two \| 21 to \d+ %", counted) and re.search(
        r"being verified \| \d+ to 61 %", counted
    )


def test_marks_that_are_missing_or_there_twice_are_refused() -> None:
    page = "a\n<!-- x -->\nold\n<!-- end x -->\nb\n"
    assert replace_marked(page, "x", "new", Path("p")) == page.replace("old", "new")
    for wrong in ("a\n", "<!-- x -->", "<!-- end x -->\n<!-- x -->", page + page):
        with pytest.raises(InputError, match="not exactly one"):
            replace_marked(wrong, "x", "new", Path("p"))
