"""`bakeoff verify` also asks for the profile."""

from __future__ import annotations

from pathlib import Path

import pytest
from bakeoff import complete
from bakeoff.errors import CheckFailed
from support.profile_documents import WORKLOADS, cell, everyone, plan, write_run

V3 = "cutedsl_moe_fp8_v3"


@pytest.fixture
def no_other_findings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything but the profile is in order."""
    monkeypatch.setattr(complete, "read_jsonl", lambda *_: [])
    monkeypatch.setattr(complete, "findings", lambda *_: [])
    monkeypatch.setattr(complete, "gaps", lambda *_: [])


@pytest.mark.usefixtures("no_other_findings")
def test_a_run_with_a_whole_profile_says_so(tmp_path: Path) -> None:
    due = len(WORKLOADS) * len([who for who in plan().participants if who.role != "reference"])
    said = complete.verify_run(write_run(tmp_path, everyone()))
    assert f"{due} of {due} cells profiled, of each at least 100.0% of the GPU time mapped" in said
    apart = cell("T1_o32", busy_us=130.5, span_us=140.5, mapped_share=0.985)
    said = complete.verify_run(write_run(tmp_path / "b", everyone(**{V3: [apart, *map(cell, WORKLOADS[1:])]})))
    assert "at least 98.5% of the GPU time mapped, stages sum to it within 0.4%" in said


@pytest.mark.usefixtures("no_other_findings")
def test_a_run_with_an_unmapped_kernel_or_a_missing_cell_fails(tmp_path: Path) -> None:
    poor = [cell("T1_o32", mapped_share=0.5, unmapped=["stray"]), *(cell(workload) for workload in WORKLOADS[2:])]
    with pytest.raises(CheckFailed) as caught:
        complete.verify_run(write_run(tmp_path, everyone(**{V3: poor})))
    text = str(caught.value)
    assert (
        "2 findings" in text and "50.0%" in text and "stray" in text and f"profile {V3} T80_o96: not profiled" in text
    )


@pytest.mark.usefixtures("no_other_findings")
def test_the_cpu_backend_needs_no_profile(tmp_path: Path) -> None:
    run = write_run(tmp_path, [], plan().model_copy(update={"backend": "cpu"}))
    assert "profiled" not in complete.verify_run(run)


@pytest.mark.usefixtures("no_other_findings")
def test_a_run_need_only_have_the_profiles_that_its_configuration_names(tmp_path: Path) -> None:
    made = [profile for profile in everyone() if profile.solution == V3]
    with pytest.raises(CheckFailed, match=r"no \w+\.json"):
        complete.verify_run(write_run(tmp_path / "all", made))
    named = plan().profile.model_copy(update={"solutions": [V3]})
    run = write_run(tmp_path / "named", made, plan().model_copy(update={"profile": named}))
    assert f"{len(WORKLOADS)} of {len(WORKLOADS)} cells profiled" in complete.verify_run(run)
