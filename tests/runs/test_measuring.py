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
from bakeoff.runs.journal import journal_path, read_journal
from bakeoff.schema.sample import Record
from support.measure_runs import environment

RECORDED = sorted(path.parent for path in (PROJECT_ROOT / "results/recorded").glob("*/config.json"))
NEWEST = RECORDED[-1]
PAGE = " ".join((PROJECT_ROOT / "docs/measurement.md").read_text().split())
H200, AGAIN, H100 = (
    PROJECT_ROOT / "results/recorded" / name for name in ("2026-11-23_h200", "2026-11-23_h200_2", "2026-11-24_h100")
)


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
    assert f"Of `{H200.name}`, by participant" in printed(AGAIN, H200)
    assert f"Of `{H100.name}`, by participant" in printed(AGAIN, H100)
    assert f"Of `{AGAIN.name}`, by participant" in printed(AGAIN)


def test_what_the_page_says_of_idle_time_follows_from_the_runs() -> None:
    idle = {run: [100 * one for one in spent(run, "idle")] for run in (H100, H200, AGAIN)}
    mean = {run: statistics.fmean(idle[run]) for run in idle}
    first, second, third = (f"{mean[run] - 30:.1f}" for run in (H200, AGAIN, H100))
    assert f"by {first} and {second} points in the mean on the H200, where 3 of 10 blocks meet it" in PAGE
    assert f"and by {third} points on the H100, where none does" in PAGE
    assert [sum(one <= 30 for one in idle[run]) for run in (H200, AGAIN, H100)] == [3, 3, 0]
    lock, rest = spans(spent(H100, "lock")), f"mean {mean[H100]:.1f}"
    assert f"| `{H100.name}` | {lock} s | {spans(idle[H100])} %, {rest} %" in PAGE
    both = spent(H200, "lock") + spent(AGAIN, "lock")
    assert f"| `{H200.name}`, `{AGAIN.name}` | {spans(both)} s | {spans(idle[H200] + idle[AGAIN])} % |" in PAGE


def test_what_the_page_says_of_the_guards_follows_from_the_recorded_runs() -> None:
    from benchmarks.guards_cost import cells_of, recorded

    runs = [
        PROJECT_ROOT / "results/recorded" / name
        for name in ("2026-11-23_h200", "2026-11-30_h200", "2026-12-01_h200", "2026-12-01_h200_2")
    ]
    rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in recorded(runs).splitlines()[2:]]
    for name, first, second, third, fourth, fifth, sixth, total in rows:
        assert f"`{name.strip('`')}`:" in PAGE
        assert f"| {first} | {second} | {third} | {fourth} | {fifth} | {sixth} | {total} s |" in PAGE
    before, same, waiting, once = (float(row[-1]) for row in rows)
    assert f"a block takes {100 * (waiting / same - 1):.0f} % longer, and {100 * (once / same - 1):.0f} %" in PAGE
    assert f"the first two differ by {100 * (same / before - 1):.0f} %" in PAGE
    cells = cells_of([runs[1], runs[3]])
    assert " ".join(cells.split()) in PAGE
    old, _, new, _ = ([float(cell) for cell in line.split("|")[3:-1]] for line in cells.splitlines()[2:])
    assert f"{new[-1] - old[-1]:.0f} ms a cell" in PAGE
    records = [read_journal(journal_path(runs[3], block, "reference")) for block in range(8)]
    times = [statistics.median(one.tiers["event_us"]) for each in records for one in each if one.protocol == "robust"]
    assert f"({statistics.mean(times) / 1000:.0f} ms a call in the mean" in PAGE
    millis = [float(row[2].split(", ")[1].removesuffix(" ms")) for row in rows]
    assert f"about {millis[3] - millis[1]:.0f} ms each" in PAGE
    assert {planned(run)["harness"] for run in runs[:1]} != {planned(runs[1])["harness"]}


def test_nothing_waits_for_the_device_between_two_timed_calls_of_a_batch() -> None:
    from benchmarks import guard_parts

    table = guard_parts.table(tokens=57)
    assert all(line in PAGE for line in table.splitlines()[2:])
    found: dict[str, tuple[float, ...]] = {}
    for part in guard_parts.parts(57, "meta"):
        with guard_parts.Counted() as counted:
            part.run()
        found[part.name] = counted.launches, counted.waits, part.calls
        found[f"{part.name}, bytes"] = (counted.bytes / part.calls,)
    assert found["new values"] == (4, 0, 1) and found["weights rewritten and back"] == (4, 0, 1)
    assert found["digest of the output"] == (2, 0, 1) and found["the output poisoned"] == (1, 0, 1)
    assert found["secret values and weights drawn"] == (0, 1, 8)  # one copy to the device, before the first call
    four = ("new values", "weights rewritten and back", "digest of the output", "fences")
    launches = sum(found[name][0] / found[name][2] for name in four)
    moved_mb = sum(found[f"{name}, bytes"][0] for name in four) / 1e6
    waits = sum(found[name][1] / found[name][2] for name in (*four, "secret values and weights drawn"))
    assert f"now {launches:.0f} launches, {moved_mb:.0f} MB and {waits:.1f} waits" in PAGE


def test_what_the_page_says_of_the_last_changes_follows_from_the_runs() -> None:
    assert planned(H200)["participants"] == planned(AGAIN)["participants"]
    row = next(line for line in printed(H100).splitlines() if line.startswith("| flashinfer_moe |")).split(" | ")
    assert f"cell of flashinfer_moe takes {row[1]} s with {row[-2]} timed calls on the H100" in PAGE


def test_what_the_page_says_of_cells_in_which_the_host_fell_behind_follows_from_the_runs() -> None:
    waits = ("flashinfer_moe", "reference")
    names = {
        run: [one["name"] for one in planned(run)["participants"] if one["name"] not in waits]
        for run in (H200, AGAIN, H100)
    }
    cells = [
        (run, block, record)
        for run in names
        for block in range(10)
        for name in names[run]
        for record in read_journal(journal_path(run, block, name))
        if record.kind == "measure"
    ]
    medians = [[statistics.median(one.tiers[tier]) for tier in ("cupti_span_us", "cupti_busy_us")] for *_, one in cells]
    # Launch gaps of the GPU's own making are below 2 us each; of a tenth of the span only where a call is as short as T
    # = 1's.
    behind = [at for at, (span, busy) in enumerate(medians) if span - busy > max(0.1 * span, 20)]
    assert len(behind) == 1 and f"in 1 of the {len(cells):,} recorded cells" in PAGE
    (run, block, record), (span, busy) = cells[behind[0]], medians[behind[0]]
    assert (run, record.participant) == (H100, "cutedsl_moe_fp8_v3")
    assert (
        f"(v3 at `{record.workload}`, block {block} of `{run.name}`: {span:.0f} µs, of which kernels ran for "
        f"{busy:.0f})" in PAGE
    )


def test_what_the_page_says_of_twins_follows_from_the_runs() -> None:
    pairs = [twins(run) for run in (H100, H200, AGAIN)]  # the last one is what the second sentence is about
    same, workloads = sum(pair["counts"]["SAME"] for pair in pairs), sum(pair["workloads"] for pair in pairs)
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
