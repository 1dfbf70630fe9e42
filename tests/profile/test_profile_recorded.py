"""Captures that a Hopper GPU gave (tests/profile/recorded/), cut to a few workloads by profile_shrink: they read as the constructed ones do.

Each file is named <solution>.<tier>.<format>; the stage tables are those of the solutions in this checkout.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from bakeoff.build.spec import read_spec
from bakeoff.errors import InputError
from bakeoff.files import PROJECT_ROOT
from bakeoff.profile import counters, cupti, ncu, nsys
from bakeoff.profile.check import MAPPED_AT_LEAST
from bakeoff.profile.stages import Breakdown, break_down, representative
from bakeoff.profile.timeline import calls
from profile_captures import timeline, write_cupti, write_ncu, write_nsys
from profile_shrink import of_workloads, shrink_csv, shrink_jsonl, shrink_sqlite

RECORDED = Path(__file__).parent / "recorded"
READERS = {"nsys.sqlite": nsys.read, "cupti.jsonl": cupti.read}


def recorded(*patterns: str) -> list[Any]:
    """The recorded files; none yet is a skip that says how to get them."""
    found = sorted(path for pattern in patterns for path in RECORDED.glob(pattern))
    reason = f"no {patterns[0]} in tests/profile/recorded: `bakeoff profile` on a Hopper GPU, then tests/profile/profile_shrink.py"
    return list(found) or [pytest.param(None, marks=pytest.mark.skip(reason=reason), id=patterns[0])]


TIMELINES = recorded(*(f"*.{suffix}" for suffix in READERS))
METRICS = counters.wanted("sm_90a")


def named(path: Path | None) -> str | None:
    return path.name if path else None


def solution_of(path: Path) -> str:
    return path.name.split(".")[0]


def read(path: Path) -> dict[str, Breakdown]:
    """The call that stands for each workload of a recorded timeline."""
    rules = read_spec(PROJECT_ROOT / "solutions" / solution_of(path)).stages
    found: dict[str, list[Breakdown]] = {}
    for call in calls(READERS[path.name.split(".", 1)[1]](path)):
        one = break_down(call, rules)
        assert one is not None, f"{call.mark} started nothing"
        found.setdefault(call.mark.workload, []).append(one)
    return {workload: representative(each) for workload, each in found.items()}


@pytest.mark.parametrize("path", TIMELINES, ids=named)
def test_a_recorded_timeline_is_mapped_and_adds_up(path: Path) -> None:
    for workload, one in read(path).items():
        assert one.mapped_us >= MAPPED_AT_LEAST * one.busy_us, (
            f"{workload}: {[k.name for k in one.kernels if not k.mapped]}"
        )
        assert sum(one.stages_us.values()) == pytest.approx(one.busy_us, rel=1e-9)
        assert one.stages_us["gemm1"] > one.stages_us["gemm2"] > 0 and one.stages_us["routing"] > 0
        assert one.span_us < 1.5 * one.busy_us + 100


@pytest.mark.parametrize("path", TIMELINES, ids=named)
def test_a_cut_recorded_timeline_is_refused(path: Path, tmp_path: Path) -> None:
    cut = tmp_path / path.name
    cut.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(InputError):
        READERS[path.name.split(".", 1)[1]](cut)


@pytest.mark.parametrize("path", recorded("*.nsys.sqlite"), ids=named)
def test_both_recorded_timelines_tell_the_same_story(path: Path) -> None:
    other = RECORDED / f"{solution_of(path)}.cupti.jsonl"
    if not other.is_file():
        pytest.skip(f"no {other.name}; record it on a Hopper GPU with `bakeoff profile RUN --tier cupti`")
    ours, theirs = read(path), read(other)
    for workload in set(ours) & set(theirs):
        assert [kernel.name for kernel in ours[workload].kernels] == [
            kernel.name for kernel in theirs[workload].kernels
        ]
        assert ours[workload].busy_us == pytest.approx(theirs[workload].busy_us, rel=0.1)


@pytest.mark.parametrize("path", recorded("*.ncu.csv"), ids=named)
def test_recorded_counters_are_whole(path: Path) -> None:
    found = ncu.read_csv(path, METRICS)
    for workload in {kernel.workload for kernel in found}:
        total = counters.summarize([kernel for kernel in found if kernel.workload == workload])
        assert (
            total.dram_bytes
            and total.dram_bytes > 0
            and total.tensor_share is not None
            and total.dram_share is not None
        )
        assert 0 <= total.tensor_share <= 1 and 0 <= total.dram_share <= 1


@pytest.mark.parametrize("path", recorded("*.ncu-rep"), ids=named)
def test_a_recorded_report_reads_as_its_table(path: Path, tmp_path: Path) -> None:
    pytest.importorskip("ncu_report", reason="needs NVIDIA's package: pip install ncu-report")
    found = {(one.workload, one.kernel): one.metrics["dram_read_bytes"] for one in ncu.read_report(path, METRICS)}
    table = ncu.read_csv(path.with_suffix(".csv"), METRICS)
    assert table and all(found[one.workload, one.kernel] is not None for one in table)
    cut = tmp_path / path.name
    cut.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match="without kernels"):
        ncu.read_report(cut, METRICS)


@pytest.mark.parametrize("path", recorded("denied*.log"), ids=named)
def test_a_recorded_refusal_is_recognized(path: Path) -> None:
    assert ncu.refusal(path.read_text())


@pytest.mark.parametrize("path", recorded("query_*.txt"), ids=named)
def test_every_metric_that_is_asked_for_is_listed_for_its_chip(path: Path) -> None:
    backend = next(backend for backend, chip in counters.CHIPS.items() if chip in path.name)
    asked = counters.wanted(backend)
    assert set(counters.supported(asked, path.read_text())) == set(asked)


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
