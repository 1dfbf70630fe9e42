"""Recorded runs: what `bakeoff record` writes, and that the committed ones still follow from their own samples."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import pytest
from bakeoff.complete import findings
from bakeoff.errors import InputError
from bakeoff.files import PROJECT_ROOT, pretty_json, read_jsonl
from bakeoff.planned import read_plan
from bakeoff.runs.assemble import assemble_run
from bakeoff.runs.journal import journal_path, read_journal
from bakeoff.runs.recording import record_run
from bakeoff.schema.sample import Verification
from bakeoff.traces.models import Trace
from support.measure_runs import bakeoff_here

RECORDED = sorted(path.parent for path in (PROJECT_ROOT / "results/recorded").glob("*/config.json"))
# Kept as it was measured; docs/measurement.md says why it is wrong.
REJECTED_WRONGLY = {"2026-11-23_h200_2": [("flashinfer_moe", "T1_o32", 6, "skipped_calls")]}
# Protocols that a guard rejected wrongly, kept in the journals and not in the plan; docs/kernels.md says why.
GIVEN_UP = {"2026-12-01_h200": {"graph"}}


def unpacked(folder: Path, target: Path) -> Path:
    """A recorded run as `measure` left it."""
    shutil.copytree(
        folder, target, ignore=shutil.ignore_patterns("*.gz", "traces*.jsonl", "verification.jsonl", "analysis.json")
    )
    for path in folder.rglob("*.jsonl.gz"):
        (target / path.relative_to(folder)).with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
    return target


def test_there_is_a_recorded_run() -> None:
    assert RECORDED


@pytest.mark.parametrize("folder", RECORDED, ids=lambda path: path.name)
def test_traces_and_analysis_of_a_recorded_run_follow_from_its_samples(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / folder.name
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("traces*.jsonl", "verification.jsonl", "analysis.json"))
    assemble_run(copy)
    for path in [*folder.glob("traces*.jsonl"), folder / "verification.jsonl"]:
        assert (copy / path.name).read_bytes() == path.read_bytes(), f"{path.name}: run `make recorded`"
    result = bakeoff_here("analyse", str(copy), "-o", str(copy / "analysis.json"))
    assert result.returncode == 0, result.stderr
    assert (copy / "analysis.json").read_bytes() == (folder / "analysis.json").read_bytes(), "run `make recorded`"


@pytest.mark.parametrize("folder", RECORDED, ids=lambda path: path.name)
def test_every_planned_cell_of_a_recorded_run_passed_in_every_block(folder: Path) -> None:
    plan = read_plan(folder)
    assert len(plan.workloads) == 19 and plan.backend != "cpu"
    published = {"flashinfer_moe", "cutedsl_moe_fp8_v3", "cutedsl_moe_fp8_v3_2", "triton_fused_moe_v2"}
    assert published <= {who.name for who in plan.participants if who.role == "contestant"}
    found = {
        (record.participant, record.workload, record.protocol, record.family, record.seed, block): record
        for block in range(plan.blocks)
        for who in plan.participants
        for record in read_journal(journal_path(folder, block, who.name))
    }
    due = {
        (cell.participant, cell.workload, cell.protocol, cell.family, cell.seed, block)
        for cell in plan.cells
        for block in range(plan.blocks_of(cell.protocol))
    }
    unplanned = {place[2] for place in found} - {None, *plan.protocols}
    assert unplanned == GIVEN_UP.get(folder.name, set())
    found = {place: record for place, record in found.items() if place[2] not in unplanned}
    elsewhere = {who.name for who in plan.participants if who.role == "peer" and not who.supported}
    failed = [
        (*place[:2], place[-1], record.reason)
        for place, record in found.items()
        if record.outcome != "PASSED" and record.reason != "not_capturable" and place[0] not in elsewhere
    ]
    assert set(found) == due and failed == REJECTED_WRONGLY.get(folder.name, [])


def test_a_peer_that_is_not_made_for_the_chip_is_no_finding_and_such_a_contestant_is() -> None:
    folder = PROJECT_ROOT / "results/recorded/2026-12-01_h200_2"
    plan, verifications = read_plan(folder), read_jsonl(folder / "verification.jsonl", Verification)
    files = ["traces.jsonl", *(f"traces.{name}.jsonl" for name in plan.protocols[1:])]
    traces = {name: read_jsonl(folder / file, Trace) for name, file in zip(plan.protocols, files, strict=True)}
    assert findings(plan, traces, verifications) == []
    people = [
        who.model_copy(update={"role": "contestant"}) if who.name == "flashinfer_alphamoe" else who
        for who in plan.participants
    ]
    found = findings(plan.model_copy(update={"participants": people}), traces, verifications)
    timed = sum(cell.participant == "flashinfer_alphamoe" and cell.protocol is not None for cell in plan.cells)
    verified = len(plan.workloads) * len(plan.families) * len(plan.seeds)
    assert len(found) == timed + verified and all(one.endswith("UNSUPPORTED (no_backend)") for one in found)


@pytest.mark.parametrize("folder", RECORDED, ids=lambda path: path.name)
def test_a_recorded_run_unpacked_and_recorded_again_is_the_same(folder: Path, tmp_path: Path) -> None:
    record_run(unpacked(folder, tmp_path / "run"), tmp_path / "again")
    kept = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file() and path.name != "analysis.json"}
    assert {path.relative_to(tmp_path / "again") for path in (tmp_path / "again").rglob("*") if path.is_file()} == kept
    for path in kept:
        old, new = (folder / path).read_bytes(), (tmp_path / "again" / path).read_bytes()
        if path.suffix == ".gz":  # another zlib may compress otherwise
            old, new = gzip.decompress(old), gzip.decompress(new)
        assert new == old, path


def test_profiles_builds_and_gate_power_come_along_and_compiled_code_does_not(tmp_path: Path) -> None:
    run = unpacked(RECORDED[-1], tmp_path / "run")
    beside = {
        "profile/a.json": b"1",
        "build/a/sm_90a/build.json": b"2",
        "gate_power.json": b"3",
        "build/a/sm_90a/kernel.cubin": b"4",
        "cache/x": b"5",
    }
    for name, content in beside.items():
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_bytes(content)
    record_run(run, tmp_path / "target")
    found = {
        name: (tmp_path / "target" / name).read_bytes() for name in beside if (tmp_path / "target" / name).exists()
    }
    assert found == {name: beside[name] for name in list(beside)[:3]}


def test_an_incomplete_run_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    run = unpacked(RECORDED[-1], tmp_path / "run")
    journal = run / "samples/block-01/deepgemm_moe.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    gone = json.loads(lines.pop())["workload"]
    journal.write_bytes(b"".join(lines))
    with pytest.raises(InputError, match=f"deepgemm_moe/{gone} in block 1"):
        record_run(run, tmp_path / "target")
    assert not (tmp_path / "target").exists()


def test_a_cpu_run_and_a_used_name_are_refused(tmp_path: Path) -> None:
    run = unpacked(RECORDED[-1], tmp_path / "run")
    (tmp_path / "taken").mkdir()
    with pytest.raises(InputError, match="a folder that exists"):
        record_run(run, tmp_path / "taken")
    plan = json.loads((run / "config.json").read_text())
    (run / "config.json").write_bytes(pretty_json({**plan, "backend": "cpu"}))
    with pytest.raises(InputError, match="backend cpu"):
        record_run(run, tmp_path / "target")


def test_damage_to_a_compressed_journal_is_named(tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(RECORDED[-1], copy)
    path = copy / "samples/block-00/reference.jsonl.gz"
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    with pytest.raises(InputError, match=r"(?s)reference\.jsonl\.gz.*no whole gzip"):
        assemble_run(copy)
    path.write_bytes(gzip.compress(gzip.decompress(whole).replace(b'"PASSED"', b'"PASSES"', 1)))
    with pytest.raises(InputError, match=r"reference\.jsonl\.gz:1"):
        assemble_run(copy)


def test_traces_of_a_data_set_run_carry_the_data_sets_own_workload(tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(RECORDED[-1], copy)
    plan = json.loads((copy / "config.json").read_text())
    traces = [json.loads(line) for line in (copy / "traces.jsonl").read_text().splitlines()]
    theirs = {**traces[0]["workload"], "uuid": "theirs"}
    (what,) = (one for one in plan["workloads"] if one["uuid"] == traces[0]["workload"]["uuid"])
    what.update(uuid="theirs", source=theirs)
    (copy / "config.json").write_bytes(pretty_json(plan))
    assemble_run(copy)
    again = [json.loads(line)["workload"] for line in (copy / "traces.jsonl").read_text().splitlines()]
    assert again[0] == theirs and [one for one in again if one["uuid"] != "theirs"] == [
        trace["workload"] for trace in traces if trace["workload"]["uuid"] != traces[0]["workload"]["uuid"]
    ]
