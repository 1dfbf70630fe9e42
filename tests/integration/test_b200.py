"""The way of docs/b200.md, rehearsed: its three commands, verbatim, on a test double of the host.

support.b200_host says what stands in for what.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from pathlib import Path

import pytest
from bakeoff.files import PROJECT_ROOT
from support import b200_host
from support.once import once

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400 if b200_host.REAL_ENGINE in os.environ else 900)]
COMMANDS = re.findall(r"```sh\n(.*?)```", (PROJECT_ROOT / "docs/b200.md").read_text(), re.DOTALL)[0].splitlines()
RUN = "results/runs/b200"


def rehearse(folder: Path) -> None:
    made = b200_host.make_host(folder)
    for command in COMMANDS:
        done = made.run(command)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"


@pytest.fixture(scope="session")
def host(tmp_path_factory: pytest.TempPathFactory) -> b200_host.Host:
    """The host after the commands, once for all processes; tests must not change it."""
    return b200_host.Host(once(tmp_path_factory, "b200_host", rehearse))


@pytest.fixture(scope="session")
def analysis(host: b200_host.Host) -> dict:
    return json.loads((host.checkout / RUN / "analysis.json").read_text())


def test_every_cell_passes_under_both_protocols(host: b200_host.Host, analysis: dict) -> None:
    verdict = (host.checkout / "results/verdict.txt").read_text()
    assert verdict.startswith("76/76 cells PASSED") and "8 of 8 cells profiled" in verdict
    for name in ("traces", "traces.robust"):
        traces = [json.loads(line) for line in (host.checkout / RUN / f"{name}.jsonl").read_text().splitlines()]
        assert Counter(trace["evaluation"]["status"] for trace in traces) == {"PASSED": 76}
        assert {trace["evaluation"]["environment"]["hardware"] for trace in traces} == {"NVIDIA B200"}
    assert [analysis["run"][key] for key in ("backend", "protocol", "dataset")] == ["sm_100a", "fib-0.1.2", "public"]


def test_each_published_cell_is_reproduced_but_for_those_that_the_double_slows(analysis: dict) -> None:
    (comparison,) = analysis["comparisons"]
    assert comparison["old"] == b200_host.PUBLISHED and not comparison["not_comparable"]
    assert comparison["counts"] == {"DIFFERS": len(b200_host.SLOWED), "REPRODUCED": 76 - len(b200_host.SLOWED)}
    differ = {(cell["solution"], cell["workload"]) for cell in comparison["cells"] if cell["verdict"] == "DIFFERS"}
    assert differ == b200_host.SLOWED.keys()


def test_the_report_has_profile_comparison_and_audit(host: b200_host.Host, analysis: dict) -> None:
    page = (host.checkout / RUN / "report/report.html").read_text()
    assert page.count("REPRODUCED") >= 74 and "DIFFERS" in page
    assert len(analysis["profiles"]["cells"]) == 8 and analysis["profiles"]["gpu"] == "NVIDIA B200"
    assert analysis["profiles"]["ceilings"]["copy_gbs"] == 6000.0
    published = json.loads((host.checkout / f"results/rendered/{b200_host.PUBLISHED}/analysis.json").read_text())
    assert published["audit"]["figures"] > 0, "the published report is audited in the same run"
    assert "Latency over seq_len on B200" in (host.checkout / "results/index.html").read_text()


def test_the_container_gets_the_gpu_the_data_set_and_nothing_else(host: b200_host.Host) -> None:
    pulled, run = host.started()
    (asked,) = (host.root / "gh.log").read_text().splitlines()
    assert re.fullmatch(r"attestation verify oci://ghcr\.io/owner/bakeoff-cu130@sha256:\w{64} --owner owner", asked)
    assert "ghcr.io/owner/bakeoff-cu130@sha256:" in pulled and pulled.endswith(" true")
    for option in ("--read-only", "--network=none", "--cap-drop=all", "--device nvidia.com/gpu=all"):
        assert option in run
    assert f"{host.checkout / 'flashinfer-trace'}:/data/flashinfer-trace:ro" in run
    assert "gpu=all" not in pulled
    assert Path(host.checkout / "flashinfer-trace/blob").is_dir()
