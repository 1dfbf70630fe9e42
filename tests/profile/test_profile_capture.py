"""Capturing: one process per solution and tier, resumable, and nothing lost when a profiler fails."""

from __future__ import annotations

import json
import shutil
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
from bakeoff.complete import profile_flaws
from bakeoff.errors import InputError
from bakeoff.files import PROJECT_ROOT, read_json
from bakeoff.planned import read_plan
from bakeoff.profile import capture, child
from bakeoff.profile.child import MARKED, WARMUPS
from bakeoff.schema.profile import SolutionProfile
from support.profile_runs import CEILINGS, GPU, SOLUTION, WORKLOADS, install, make_run, write_plan

FAULTS = """
_honest = run


def run(*arguments, **named):
    if arguments[0].shape[0] == 7:
        raise RuntimeError("seven is too many")
    if arguments[0].shape[0] == 16:
        import os

        os._exit(9)
    return _honest(*arguments, **named)
"""


def profile(
    run: Path, requested: str | None = None, workloads: list[str] | None = None, limit_s: float | None = None
) -> tuple[int, list[str]]:
    said: list[str] = []
    left = capture.profile_run(run, None, workloads, requested, limit_s, said.append)
    return left, said


def summary(run: Path) -> SolutionProfile:
    return read_json(run / "profile" / f"{SOLUTION}.json", SolutionProfile)


def processes(run: Path) -> list[str]:
    """What was started under a profiler."""
    there = (path.name for path in (run / "profile" / "raw" / SOLUTION).iterdir())
    return sorted(name for name in there if not name.startswith("host-"))


def test_a_real_process_is_recorded_cell_by_cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, tmp_path, host=True)
    run = make_run(tmp_path, workloads=["T1_o32", "T7_o192"])
    left, said = profile(run)
    assert left == 0 and any("ncu" in line and "missing" in line for line in said)
    found = summary(run)
    assert [cell.workload for cell in found.cells] == ["T1_o32", "T7_o192"] and not found.failures
    assert found.gpu == GPU and found.ceilings == CEILINGS and "ncu is not installed" in found.tiers_missing["ncu"]
    cell = found.cells[0]
    assert (cell.tier, cell.calls, cell.busy_us, cell.launches) == ("cupti", MARKED["cupti"], 5.0, 1)
    assert (cell.stages[0].stage, cell.stages[0].us, cell.mapped_share) == ("routing", 5.0, 1.0)
    hosts = found.hosts
    assert [one.workload for one in hosts] == ["T1_o32", "T7_o192"] and all(
        one.calls == MARKED["host"] for one in hosts
    )
    assert all(1.0 < one.host_us < 1e6 for one in hosts), "a call takes the host longer than a microsecond"
    assert processes(run) == ["cupti-00"]
    assert profile_flaws(run, read_plan(run)) == [] and (run / "profile" / "manifest.json").is_file()


def test_a_workload_that_fails_or_ends_the_process_costs_itself_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """T7 raises; T16 ends its process after T7 was noted, so that what came before is read from a cut capture."""
    root = tmp_path / "solutions"
    shutil.copytree(PROJECT_ROOT / "solutions", root, ignore=shutil.ignore_patterns("__pycache__"))
    entry = root / SOLUTION / "solution.py"
    entry.write_text(entry.read_text() + FAULTS)
    install(monkeypatch, tmp_path, host=True)
    run = make_run(tmp_path, root=root, workloads=["T1_o32", "T7_o192", "T14_o0", "T16_o224", "T32_o32"])
    assert profile(run)[0] == 0
    found = summary(run)
    assert [cell.workload for cell in found.cells] == ["T1_o32", "T14_o0", "T32_o32"]
    assert [one.workload for one in found.hosts] == ["T1_o32", "T14_o0", "T32_o32"], (
        "the host's process died once as well"
    )
    reasons = found.failures
    assert sorted(reasons) == ["T16_o224", "T7_o192"]
    assert "seven is too many" in reasons["T7_o192"] and "the process ended during it" in reasons["T16_o224"]
    assert [(one.code, one.workload) for one in profile_flaws(run, read_plan(run))] == [
        ("failed", "T7_o192"),
        ("failed", "T16_o224"),
    ]
    assert processes(run) == ["cupti-00", "cupti-01"]


@pytest.mark.parametrize(("tier", "before"), [("nsys", ["cold", "lead_in"]), ("host", [])])
def test_only_calls_under_a_profiler_wait_behind_other_work(tier: str, before: list[str]) -> None:
    """A solution that waits for the GPU inside its call would wait for that work, and the host's time would not be its
    own."""
    did: list[str] = []
    device = SimpleNamespace(
        synchronize=lambda: None, cold=lambda: did.append("cold"), lead_in=lambda _: did.append("lead_in")
    )
    buffer = SimpleNamespace(poison=lambda: None, view=lambda: None)
    cell = SimpleNamespace(inputs=[], output=lambda: buffer, watch=nullcontext, call=lambda *_: did.append("call"))
    bench = SimpleNamespace(device=device, open_cell=lambda _: cell)
    job = SimpleNamespace(tier=tier, family="fib", seed=0, calls=2)
    done = child._one(job, bench, child.HostClock(), "T1_o32")  # type: ignore[arg-type]
    assert done.failed is None and did == [*["call"] * WARMUPS, *before, "call", *before, "call"]


def test_nsys_gives_the_timeline_and_ncu_the_counters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, tmp_path, nsys="nsys", ncu="ncu")
    run = make_run(tmp_path)
    assert profile(run)[0] == 0
    found = summary(run)
    assert [cell.workload for cell in found.cells] == WORKLOADS and found.tools == {"nsys": "1.2.3", "ncu": "1.2.3"}
    assert all(cell.tier == "nsys" and cell.counted for cell in found.cells)
    assert (found.cells[0].dram_bytes, found.cells[0].dram_share) == (10_000, 0.7), "five kernels"
    assert processes(run) == ["ncu-00", "nsys-00"]


def test_finished_cells_are_not_profiled_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, tmp_path, nsys="nsys", ncu="ncu")
    run = make_run(tmp_path)
    profile(run, workloads=["T7_o192"])
    first = summary(run).cells
    assert [(one.workload, one.host_us) for one in summary(run).hosts] == [("T7_o192", 7.0)]
    profile(run)
    assert processes(run) == ["ncu-00", "ncu-01", "nsys-00", "nsys-01"]
    second = json.loads((run / "profile/raw" / SOLUTION / "nsys-01" / "job.json").read_text())
    assert second["workloads"] == ["T1_o32", "T901_o96"]
    assert [cell.workload for cell in summary(run).cells] == WORKLOADS and summary(run).cells[1] == first[0]
    before = (run / "profile" / f"{SOLUTION}.json").read_bytes()
    profile(run)
    assert processes(run) == ["ncu-00", "ncu-01", "nsys-00", "nsys-01"]
    assert (run / "profile" / f"{SOLUTION}.json").read_bytes() == before


def test_a_timeline_that_is_taken_again_with_another_tool_keeps_its_counters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, tmp_path, nsys="nsys", ncu="ncu")
    run = make_run(tmp_path, workloads=["T1_o32"])
    profile(run)
    before = summary(run).cells[0]
    profile(run, requested="cupti")
    after = summary(run).cells[0]
    assert (before.tier, after.tier) == ("nsys", "cupti") and after.counted
    assert after.dram_bytes == before.dram_bytes == 10_000
    assert [one.dram_bytes for one in after.stages] == [one.dram_bytes for one in before.stages]


def test_a_tool_whose_cells_were_taken_again_with_another_is_not_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, tmp_path, nsys="nsys")
    run = make_run(tmp_path, workloads=["T1_o32"])
    profile(run, requested="cupti")
    assert summary(run).tools == {"cupti": "13.0.1"}
    profile(run, requested="nsys")
    assert summary(run).tools == {"nsys": "1.2.3"} and summary(run).cells[0].tier == "nsys"


def test_a_changed_stage_table_makes_a_profile_stale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, tmp_path, nsys="nsys")
    run = make_run(tmp_path)
    profile(run)
    plan = read_plan(run)
    changed = [one.model_copy(update={"stages": one.stages[:-1]}) for one in plan.participants]
    write_plan(run, plan.model_copy(update={"participants": changed}))
    profile(run)
    assert processes(run) == ["nsys-00", "nsys-01"]
    assert summary(run).cells[0].unmapped == ["[memset]", "stray_kernel"]


def test_the_time_limit_leaves_cells_for_the_next_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, tmp_path, nsys="nsys")
    run = make_run(tmp_path)
    left, said = profile(run, limit_s=0.0)
    assert left == len(WORKLOADS) and "time limit" in said[-1]
    assert profile(run)[0] == 0 and len(summary(run).cells) == len(WORKLOADS)


def test_denied_counters_cost_the_counters_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, tmp_path, nsys="nsys", ncu="ncu-denied")
    run = make_run(tmp_path)
    assert profile(run)[0] == 0
    found = summary(run)
    assert len(found.cells) == len(WORKLOADS) and "ERR_NVGPUCTRPERM" in found.tiers_missing["ncu"]
    assert all("ERR_NVGPUCTRPERM" in (cell.counters_missing or "") for cell in found.cells)
    with pytest.raises(InputError, match="ERR_NVGPUCTRPERM"):
        profile(run, requested="ncu")


def test_a_cell_with_fewer_counted_kernels_than_it_launches_has_no_counters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, tmp_path, nsys="nsys", ncu="ncu-short")
    run = make_run(tmp_path)
    assert profile(run)[0] == 0
    assert {cell.counters_missing for cell in summary(run).cells} == {"4 of 5 kernels were counted"}


def test_a_profiler_that_dies_costs_its_cells_and_is_told_by_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, tmp_path, nsys="nsys")
    run = make_run(tmp_path)
    profile(run, workloads=["T1_o32"])
    kept = summary(run).cells
    assert not (run / "profile" / "manifest.json").exists()
    install(monkeypatch, tmp_path, nsys="nsys-dead")
    left, said = profile(run)
    assert left == 0 and any("Segmentation fault" in line for line in said)
    assert summary(run).cells == kept and list(summary(run).failures) == WORKLOADS[1:]
    assert "Segmentation fault" in summary(run).failures[WORKLOADS[1]]
    assert json.loads((run / "profile" / "manifest.json").read_text()) == {
        "schema": "bakeoff/profiled/1",
        "due": 3,
        "profiled": 1,
        "failed": 2,
    }
    install(monkeypatch, tmp_path, nsys="nsys")
    profile(run)
    assert not summary(run).failures and len(summary(run).cells) == 3


def test_a_dry_run_prints_the_commands_and_runs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, tmp_path, nsys="nsys", ncu="ncu")
    run = make_run(tmp_path)
    commands = capture.planned(run, None, None, None)
    first, *commands = commands
    assert first[1:4] == ["-P", "-m", "bakeoff.profile.child"], (
        "a process without a profiler compiles and gives the host's time"
    )
    assert [Path(command[0]).name for command in commands] == ["nsys", "nsys", "ncu", "ncu"]
    assert "--trace=cuda,nvtx" in commands[0] and commands[1][1] == "export" and "--clock-control=none" in commands[2]
    assert not (run / "profile" / "raw").exists() and not (run / "profile" / f"{SOLUTION}.json").exists()


@pytest.mark.parametrize(("backend", "tier"), [("cpu", "auto"), ("sm_90a", "none")])
def test_nothing_is_profiled_on_the_cpu_backend_or_where_the_configuration_says_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str, tier: str
) -> None:
    run = make_run(tmp_path, tier=tier)
    write_plan(run, read_plan(run).model_copy(update={"backend": backend}))
    monkeypatch.setattr(capture, "gather", lambda trial=True: pytest.fail("the host was asked"))
    left, said = profile(run)
    assert (
        left == 0
        and "nothing to do" in said[0]
        and capture.planned(run, None, None, None) == []
        and profile_flaws(run, read_plan(run)) == []
    )


def test_unknown_names_are_input_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, tmp_path, nsys="nsys")
    run = make_run(tmp_path)
    with pytest.raises(InputError, match="T9_o9"):
        profile(run, workloads=["T9_o9"])
    with pytest.raises(InputError, match="nobody"):
        capture.profile_run(run, ["nobody"], None, None, None, lambda _: None)
