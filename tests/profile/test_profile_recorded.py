"""Captures that a Hopper GPU gave (tests/profile/recorded/, see its README): each reader on a good file, and on that
file cut short,
refused, or of another version.

Files are named <solution>.<format>; the stage tables are those of the solutions in this checkout.
"""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from bakeoff.build.spec import SolutionSpec, read_spec
from bakeoff.complete import MAPPED_AT_LEAST
from bakeoff.config import DEFINITIONS
from bakeoff.core.moe.floors import L2_BYTES, PEAKS, stage_floors
from bakeoff.core.moe.geometry import Geometry
from bakeoff.errors import InputError
from bakeoff.files import PROJECT_ROOT
from bakeoff.profile import cupti, ncu, nsys, stages
from bakeoff.profile.stages import cell_profile
from bakeoff.profile.timeline import calls
from bakeoff.schema.profile import CellProfile
from bakeoff.traces.store import TraceRoot
from support.profile_captures import timeline, write_cupti, write_ncu, write_nsys
from support.profile_runs import GPU
from support.profile_shrink import of_workloads, shrink_csv, shrink_jsonl, shrink_sqlite, without_folders

RECORDED = Path(__file__).parent / "recorded"
SOLUTIONS = ("deepgemm_moe", "triton_fused_moe_v2")
WORKLOADS = {"T1_o32", "T14107_o32"}
METRICS = ncu.wanted("sm_90a")
READERS: dict[str, Any] = {
    "nsys.sqlite": nsys.read,
    "cupti.jsonl": cupti.read,
    "ncu.csv": lambda path: ncu.read_csv(path, METRICS),
}
TIMELINES = [f"{solution}.{suffix}" for solution in SOLUTIONS for suffix in ("nsys.sqlite", "cupti.jsonl")]
FILES = [*TIMELINES, *(f"{solution}.ncu.csv" for solution in SOLUTIONS)]


def reader(path: Path) -> Any:
    return READERS[path.name.split(".", 1)[1]]


def refused(path: Path) -> InputError:
    with pytest.raises(InputError) as caught:
        reader(path)(path)
    assert caught.value.hint, "an error says what to do"
    return caught.value


def spec_of(name: str) -> SolutionSpec:
    return read_spec(PROJECT_ROOT / "solutions" / name.split(".")[0])


def read(name: str) -> dict[str, CellProfile]:
    """The call that stands for each workload of a recorded timeline."""
    rules, path = spec_of(name).stages, RECORDED / name
    recorded, found = calls(reader(path)(path)), {}
    for workload in WORKLOADS:
        mine = [call for call in recorded if call.mark.workload == workload]
        cell = cell_profile(mine, rules, solution=name.split(".")[0], workload=workload, key="k", tier="nsys")
        assert cell is not None and cell.calls == len(mine), f"{workload} started nothing"
        found[workload] = cell
    return found


def us(cell: CellProfile, stage: str) -> float:
    return next(one.us for one in cell.stages if one.stage == stage)


def floors_of(name: str, workload: str) -> dict[str, Any]:
    root = TraceRoot(PROJECT_ROOT / "traces")
    case = next(case for case in root.workloads(DEFINITIONS["full"]) if case.id == workload)
    rounding = spec_of(name).backends["sm_90a"].rounding
    return stage_floors(
        Geometry.of(root.definition(DEFINITIONS["full"])), case.seq_len, case.stats, rounding, L2_BYTES["sm_90a"]
    )


@pytest.mark.parametrize("name", TIMELINES)
def test_a_recorded_timeline_is_mapped_and_adds_up(name: str) -> None:
    found = read(name)
    for workload, one in found.items():
        assert one.mapped_share >= MAPPED_AT_LEAST, f"{workload}: {one.unmapped}"
        assert sum(stage.us for stage in one.stages) == pytest.approx(one.busy_us, abs=1e-3)
        assert us(one, "gemm1") > us(one, "gemm2") > 0 and us(one, "routing") > 0
        assert one.host_gap_share == 0 and one.busy_us < one.span_us < one.busy_us + 2 * one.launches
        assert one.launches == {"deepgemm_moe": 6, "triton_fused_moe_v2": 8}[name.split(".")[0]]


@pytest.mark.parametrize("solution", SOLUTIONS)
def test_both_recorded_timelines_tell_the_same_story(solution: str) -> None:
    ours, theirs = read(f"{solution}.nsys.sqlite"), read(f"{solution}.cupti.jsonl")
    for workload in WORKLOADS:
        assert [kernel.name for kernel in ours[workload].kernels] == [
            kernel.name for kernel in theirs[workload].kernels
        ]
        assert ours[workload].busy_us == pytest.approx(theirs[workload].busy_us, rel=0.05)
        assert [kernel.registers for kernel in ours[workload].kernels] == [
            kernel.registers for kernel in theirs[workload].kernels
        ]


@pytest.mark.parametrize("name", TIMELINES)
def test_no_recorded_stage_beats_its_floor(name: str) -> None:
    for workload, one in read(name).items():
        runs = {stage.stage: stage.run_us for stage in one.stages}
        for stage, floor in floors_of(name, workload).items():
            assert floor.us(PEAKS[GPU]) <= runs[stage], f"{workload} {stage}"


@pytest.mark.parametrize("solution", SOLUTIONS)
def test_recorded_counters_are_whole_and_no_stage_moves_less_than_its_floor(solution: str) -> None:
    found = ncu.read_csv(RECORDED / f"{solution}.ncu.csv", METRICS)
    assert {kernel.workload for kernel in found} == WORKLOADS
    for workload in WORKLOADS:
        mine = [kernel for kernel in found if kernel.workload == workload]
        staged = stages.assign([kernel.kernel for kernel in mine], spec_of(solution).stages)
        assert all(mapped for _, mapped in staged), (
            "counters name kernels otherwise than timelines, but are mapped as well"
        )
        floors = floors_of(solution, workload)
        for stage, floor in floors.items():
            total = ncu.summarize([kernel for kernel, (own, _) in zip(mine, staged, strict=True) if own == stage])
            assert None not in (total["dram_bytes"], total["dram_share"], total["tensor_share"])
            assert total["dram_bytes"] >= floor.bytes, f"{workload} {stage}"
            assert 0 <= total["tensor_share"] <= 1 and 0 <= total["dram_share"] <= 1
            assert total["local_accesses"] is None, "a metric that was not counted is n/a"


@pytest.mark.parametrize("kept", [0.02, 0.5, 0.95])
@pytest.mark.parametrize("name", FILES)
def test_a_truncated_recorded_file_is_refused(name: str, kept: float, tmp_path: Path) -> None:
    cut = tmp_path / name
    cut.write_bytes((RECORDED / name).read_bytes()[: int((RECORDED / name).stat().st_size * kept)])
    refused(cut)


def altered(name: str, folder: Path, **changes: bytes) -> Path:
    """A copy of a recorded file with bytes exchanged."""
    path = folder / name
    path.write_bytes((RECORDED / name).read_bytes().replace(changes["old"], changes["new"]))
    assert path.read_bytes() != (RECORDED / name).read_bytes()
    return path


def sql(name: str, folder: Path, script: str) -> Path:
    path = folder / name
    shutil.copyfile(RECORDED / name, path)
    with closing(sqlite3.connect(path)) as database:
        database.executescript(script)
    return path


def test_recorded_files_of_another_version_are_refused(tmp_path: Path) -> None:
    newer = "UPDATE META_DATA_EXPORT SET value = '4.0.0' WHERE name = 'EXPORT_SCHEMA_VERSION'"
    assert "4.0.0" in refused(sql(TIMELINES[0], tmp_path, newer)).found
    assert (
        "bakeoff/cupti/9"
        in refused(altered(TIMELINES[1], tmp_path, old=b"bakeoff/cupti/1", new=b"bakeoff/cupti/9")).found
    )
    before_nvtx = altered("deepgemm_moe.ncu.csv", tmp_path, old=b"Push/Pop_Range", new=b"NVTX")
    assert "columns ID" in refused(before_nvtx).found


def test_recorded_files_of_a_refused_capture_say_who_refused(tmp_path: Path) -> None:
    """Made from recorded ones: what is left when kernels may not be traced or counted. The host that recorded refused
    nothing."""
    said = "CUPTI_ERROR_INSUFFICIENT_PRIVILEGES"
    script = f"""DROP TABLE {nsys.KERNELS};
        CREATE TABLE DIAGNOSTIC_EVENT (timestamp INTEGER, severity INTEGER, text TEXT);
        INSERT INTO DIAGNOSTIC_EVENT VALUES (0, 3, '{said}')"""
    assert said in refused(sql(TIMELINES[0], tmp_path, script)).found
    header = (RECORDED / TIMELINES[1]).read_text().splitlines()[0]
    (tmp_path / TIMELINES[1]).write_text(f'{header}\n{{"error": "{said}"}}\n')
    assert said in refused(tmp_path / TIMELINES[1]).found
    denied = RECORDED / "denied.documented.log"
    assert "ERR_NVGPUCTRPERM" in str(ncu.refusal(denied.read_text()))
    with pytest.raises(InputError, match="ERR_NVGPUCTRPERM"):
        ncu.read_csv(denied, METRICS)


@pytest.mark.parametrize(("backend", "chip"), ncu.CHIPS.items())
def test_every_metric_that_is_asked_for_is_listed_for_its_chip(backend: str, chip: str) -> None:
    asked, listing = ncu.wanted(backend), (RECORDED / f"query_{chip}.txt").read_text()
    assert set(ncu.supported(asked, listing)) == set(asked)
    other = ncu.wanted("sm_100a" if backend == "sm_90a" else "sm_90a")["tensor_share"]
    assert (other.split(".")[0] in ncu.available(listing)) == (chip == "gb100"), "Hopper has no pipe for tcgen05"


def test_a_shrunk_capture_keeps_the_workloads_that_are_asked_for(tmp_path: Path) -> None:
    made, kept = timeline(("T1_o32", "T7_o192", "T901_o96")), ["T7_o192"]
    shrink_sqlite(write_nsys(tmp_path / "a.sqlite", made), tmp_path / "b.sqlite", kept)
    shrink_jsonl(write_cupti(tmp_path / "a.jsonl", made), tmp_path / "b.jsonl", kept)
    for found in (nsys.read(tmp_path / "b.sqlite"), cupti.read(tmp_path / "b.jsonl")):
        assert {mark.workload for mark in found.marks} == set(kept)
        assert of_workloads(found, kept) == of_workloads(made, kept)
    kernels = [(workload, "k", {"duration_ns": "1"}) for workload in ("T1_o32", "T7_o192")]
    shrink_csv(write_ncu(tmp_path / "a.csv", METRICS, kernels), tmp_path / "b.csv", kept)
    assert [one.workload for one in ncu.read_csv(tmp_path / "b.csv", METRICS)] == kept
    assert "python3" not in (tmp_path / "b.csv").read_text()


def test_recorded_files_name_no_machine_and_are_small() -> None:
    files = [path for path in RECORDED.iterdir() if path.suffix != ".md"]
    assert sum(path.stat().st_size for path in files) < 2e6
    for path in files:
        data = path.read_bytes()
        assert without_folders(data) == data, path.name


def test_folders_are_struck_out_and_nothing_else() -> None:
    data = b'\x05/data/a_b/c.so "/mnt/x.json" /usr/lib/x bakeoff/cupti/1 https://a.b/c/d /HGMMA/QGMMA/ 3/4'
    expected = b'\x05/xxxx/xxx/c.so "/xxx/x.json" /usr/lib/x bakeoff/cupti/1 https://a.b/c/d /HGMMA/QGMMA/ 3/4'
    assert without_folders(data) == expected
