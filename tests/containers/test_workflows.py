"""The workflows of .github: pinned, without rights that they do not need, and made of steps that run anywhere."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from bakeoff.files import PROJECT_ROOT

WORKFLOWS = {
    path.stem: yaml.safe_load(path.read_text()) for path in sorted((PROJECT_ROOT / ".github/workflows").glob("*.yml"))
}
TRIGGERS = True  # YAML 1.1 reads the key `on` as this


def steps(workflow: dict[str, Any], job: str) -> list[dict[str, Any]]:
    return list(workflow["jobs"][job]["steps"])


def commands(workflow: dict[str, Any], job: str) -> list[str]:
    return [step["run"] for step in steps(workflow, job) if "run" in step]


ALL_STEPS = [
    (name, step) for name, workflow in WORKFLOWS.items() for job in workflow["jobs"] for step in steps(workflow, job)
]


def make_targets() -> set[str]:
    text = "".join((PROJECT_ROOT / name).read_text() for name in ("Makefile", "containers/images.mk"))
    return {target for line in re.findall(r"^([a-z][a-z -]*):(?!=)", text, re.MULTILINE) for target in line.split()}


def test_the_three_workflows_are_there() -> None:
    assert set(WORKFLOWS) == {"ci", "containers", "bench-b200"}


def test_every_action_is_pinned_by_commit_and_says_its_version() -> None:
    for path in (PROJECT_ROOT / ".github/workflows").glob("*.yml"):
        for line in re.findall(r"uses: .*", path.read_text()):
            assert re.fullmatch(r"uses: [\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line), f"{path.name}: {line}"


def test_one_action_has_one_commit() -> None:
    pins = {step["uses"].split("@")[0]: step["uses"] for _, step in ALL_STEPS if "uses" in step}
    assert all(step["uses"] == pins[step["uses"].split("@")[0]] for _, step in ALL_STEPS if "uses" in step)


@pytest.mark.parametrize("name", WORKFLOWS)
def test_rights_are_given_job_by_job(name: str) -> None:
    assert WORKFLOWS[name]["permissions"] == {}
    for job in WORKFLOWS[name]["jobs"].values():
        rights = set(job["permissions"].items())
        allowed = (
            {("packages", "write"), ("id-token", "write"), ("attestations", "write")} if name == "containers" else set()
        )
        assert rights <= {("contents", "read")} | allowed


def test_every_run_step_is_one_make_target() -> None:
    for name, step in ALL_STEPS:
        if "run" in step:
            word, target = step["run"].split()
            assert word == "make" and target in make_targets(), f"{name}: {step['run']}"


def test_the_checkout_leaves_no_token_behind() -> None:
    checkouts = [step for _, step in ALL_STEPS if step.get("uses", "").startswith("actions/checkout@")]
    assert len(checkouts) == 4
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


def test_the_gpu_job_never_runs_a_pull_requests_code_and_holds_no_secret() -> None:
    workflow = WORKFLOWS["bench-b200"]
    assert set(workflow[TRIGGERS]) == {"workflow_dispatch", "schedule", "push"}
    assert set(workflow[TRIGGERS]["push"]) == {"tags"}
    (job,) = workflow["jobs"].values()
    assert job["runs-on"] == ["self-hosted", "linux", "x64", "b200"]
    assert job["environment"] == "b200" and job["permissions"] == {"contents": "read"}
    assert workflow["concurrency"] == {"group": "bench-b200", "cancel-in-progress": False}
    text = (PROJECT_ROOT / ".github/workflows/bench-b200.yml").read_text()
    assert "secrets." not in text and "github.token" not in text


def test_hosted_ci_makes_what_the_local_ci_makes_in_the_same_order() -> None:
    script = (PROJECT_ROOT / ".ci/run").read_text()
    local = list(dict.fromkeys(re.findall(r"^step .*; *(make .*)$", script, re.MULTILINE)))
    hosted = [*commands(WORKFLOWS["ci"], "check"), *commands(WORKFLOWS["ci"], "container")]
    assert len(local) >= 5
    assert [command for command in hosted if command in local] == local


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif("CI" in os.environ, reason="CI runs these very steps in a clean clone: .ci/run")
@pytest.mark.skipif(
    "BAKEOFF_IMAGE" in os.environ,
    reason="sets up an environment, which needs a network: run make test outside of the image",
)
def test_the_hosted_steps_succeed_in_a_clean_clone(tmp_path: Path) -> None:
    clone, summary = tmp_path / "clone", tmp_path / "summary.md"
    subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", str(PROJECT_ROOT), str(clone)], check=True)
    # The tests themselves run in the session that this test is part of; here the step has to find all of them.
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith(("PYTEST", "PYTHONPATH", "MAKE"))},
        "CI": "true",
        "GITHUB_STEP_SUMMARY": str(summary),
        "PYTEST_ADDOPTS": "--collect-only --quiet",
    }
    for command in commands(WORKFLOWS["ci"], "check"):
        done = subprocess.run(command.split(), cwd=clone, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}: exit {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    assert "76/76 cells PASSED" in summary.read_text()
