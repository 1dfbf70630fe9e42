"""Preflight: which tiers a host has, why one is missing, and the fix."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from bakeoff.errors import InputError
from bakeoff.profile import tiers
from bakeoff.profile.tiers import Facts, choose, offered

FULL = Facts(
    gpu="NVIDIA H100 80GB HBM3",
    gpu_uuid="GPU-1",
    nsys="/usr/bin/nsys",
    nsys_version="2025.3.1",
    ncu="/usr/bin/ncu",
    ncu_version="2025.3.1",
    cupti_version="13.0.1",
    admin_only=True,
    privileged=True,
)


def names(requested: str, facts: Facts) -> list[str]:
    return [tier.name for tier in choose(requested, offered(facts))]


def test_auto_takes_the_best_that_the_host_permits() -> None:
    assert names("auto", FULL) == ["nsys", "ncu"]
    assert names("auto", replace(FULL, privileged=False)) == ["nsys"]
    assert names("auto", replace(FULL, nsys=None)) == ["cupti", "ncu"]
    assert names("auto", replace(FULL, nsys_trial="importer failed", ncu=None)) == ["cupti"]


def test_a_named_timeline_is_taken_alone() -> None:
    assert names("nsys", FULL) == ["nsys"]
    assert names("cupti", FULL) == ["cupti"]


def test_counters_that_are_asked_for_must_be_possible() -> None:
    assert names("ncu", FULL) == ["nsys", "ncu"]
    with pytest.raises(InputError) as caught:
        choose("ncu", offered(replace(FULL, privileged=False)))
    assert "ERR_NVGPUCTRPERM" in caught.value.found and "NVreg_RestrictProfilingToAdminUsers=0" in caught.value.hint


@pytest.mark.parametrize(
    ("change", "tier", "why", "fix"),
    [
        ({"gpu": None}, "nsys", "no NVIDIA GPU", "nvidia-smi"),
        ({"gpu": None}, "cupti", "no NVIDIA GPU", "nvidia-smi"),
        ({"nsys": None}, "nsys", "not installed", "nsight-systems-cli"),
        ({"nsys_trial": "importer failed"}, "nsys", "importer failed", "libdw1 libelf1"),
        ({"cupti_version": None}, "cupti", "cupti-python is not installed", "pip install"),
        ({"ncu": None}, "ncu", "not installed", "nsight-compute"),
        ({"privileged": False}, "ncu", "ERR_NVGPUCTRPERM", "run as root"),
        ({"privileged": False, "container": True}, "ncu", "ERR_NVGPUCTRPERM", "--cap-add=SYS_ADMIN"),
    ],
)
def test_a_missing_tier_says_why_and_what_to_do(
    change: dict[str, object], tier: tiers.Name, why: str, fix: str
) -> None:
    found = offered(replace(FULL, **change))[tier]
    assert not found.usable and why in (found.missing or "") and fix in (found.fix or "")


def test_counters_are_open_where_the_driver_keeps_them_to_nobody() -> None:
    assert offered(replace(FULL, admin_only=False, privileged=False))["ncu"].usable


def test_a_host_without_any_timeline_is_an_input_error() -> None:
    with pytest.raises(InputError, match="cupti-python"):
        choose("auto", offered(replace(FULL, nsys=None, cupti_version=None)))


def test_the_drivers_switch_and_the_process_capabilities_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parameters = tmp_path / "params"
    monkeypatch.setattr(tiers, "DRIVER_PARAMETERS", parameters)
    assert tiers._admin_only() is False
    parameters.write_text("ResmanDebugLevel: 4294967295\nRmProfilingAdminOnly: 1\n")
    assert tiers._admin_only() is True
    parameters.write_text("RmProfilingAdminOnly: 0\n")
    assert tiers._admin_only() is False


def test_a_trial_capture_that_leaves_no_report_is_told_by_its_last_line(tmp_path: Path) -> None:
    tool = tmp_path / "nsys"
    tool.write_text("#!/bin/sh\necho collecting\necho 'Importer error status: Importation failed.' >&2\nexit 1\n")
    tool.chmod(0o755)
    assert tiers._trial(str(tool)) is not None
    working = "#!/bin/sh\nfor word; do case $word in --output=*) touch ${word#--output=}.nsys-rep;; esac; done\n"
    tool.write_text(working)
    assert tiers._trial(str(tool)) is None


@pytest.mark.parametrize(
    ("printed", "number"),
    [
        (
            "Copyright (c) 2018-2025 NVIDIA Corporation\nVersion 2025.3.1.0 (build 36398880) (public-release)",
            "2025.3.1.0",
        ),
        ("NVIDIA Nsight Systems version 2025.3.1.90-253135822126v0", "2025.3.1.90"),
        ("no number", None),
    ],
)
def test_a_tools_version_is_its_number(printed: str, number: str | None, tmp_path: Path) -> None:
    tool = tmp_path / "tool"
    tool.write_text(f"#!/bin/sh\ncat <<'EOF'\n{printed}\nEOF\n")
    tool.chmod(0o755)
    assert tiers._version(str(tool)) == number


def test_the_first_gpu_that_is_left_to_this_process_is_profiled(monkeypatch: pytest.MonkeyPatch) -> None:
    left = [SimpleNamespace(name="NVIDIA H100", uuid=uuid) for uuid in ("GPU-b", "GPU-a")]
    monkeypatch.setattr(tiers.host, "probe", lambda: SimpleNamespace(gpus=left, packages={}))
    facts = tiers.gather(trial=False)
    assert (facts.gpu, facts.gpu_uuid) == ("NVIDIA H100", "GPU-b")


def test_this_host_can_be_asked() -> None:
    facts = tiers.gather(trial=False)
    if facts.gpu is None:
        assert all(not tier.usable for tier in offered(facts).values())
