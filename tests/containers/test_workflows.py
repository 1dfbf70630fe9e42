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
from bakeoff.schema.evidence import Statement

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


# Beyond reading the repository.
RIGHTS = {
    "bench-b200": {("id-token", "write"), ("attestations", "write")},
    "containers": {("packages", "write"), ("id-token", "write"), ("attestations", "write")},
    "nightly-b200": {("contents", "write"), ("issues", "write")},
    "nightly-watch": {("actions", "read"), ("issues", "write")},
    "pages": {("pages", "write"), ("id-token", "write")},
}


def make_targets() -> set[str]:
    text = "".join((PROJECT_ROOT / name).read_text() for name in ("Makefile", "containers/images.mk"))
    return {target for line in re.findall(r"^([a-z][a-z -]*):(?!=)", text, re.MULTILINE) for target in line.split()}


def test_the_workflows_are_there() -> None:
    assert set(WORKFLOWS) == {"ci", "containers", "bench-b200", "nightly-b200", "nightly-watch", "pages", "submissions"}


def test_every_action_is_pinned_by_commit_and_says_its_version() -> None:
    for path in (PROJECT_ROOT / ".github/workflows").glob("*.yml"):
        for line in re.findall(r"uses: .*", path.read_text()):
            assert re.fullmatch(r"uses: [\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line), f"{path.name}: {line}"


def test_an_image_is_pushed_after_its_packages_were_looked_up() -> None:
    steps = [
        step.get("uses", step.get("run", "")).split("@")[0]
        for step in WORKFLOWS["containers"]["jobs"]["image"]["steps"]
    ]
    order = ["make sbom", "aquasecurity/trivy-action", "make push-image", "actions/attest"]
    assert [step for step in dict.fromkeys(steps) if step in order] == order


def test_one_action_has_one_commit() -> None:
    pins = {step["uses"].split("@")[0]: step["uses"] for _, step in ALL_STEPS if "uses" in step}
    assert all(step["uses"] == pins[step["uses"].split("@")[0]] for _, step in ALL_STEPS if "uses" in step)


@pytest.mark.parametrize("name", WORKFLOWS)
def test_rights_are_given_job_by_job(name: str) -> None:
    assert WORKFLOWS[name]["permissions"] == {}
    for job in WORKFLOWS[name]["jobs"].values():
        rights = set(job["permissions"].items())
        assert rights <= {("contents", "read")} | RIGHTS.get(name, set())
        # Where something may be written, nothing that a run made is executed.
        if any(level == "write" for _, level in rights) and name != "containers":
            assert job["runs-on"] == "ubuntu-24.04"
            assert [step["run"] for step in job["steps"] if "run" in step] in (
                ["make nightly-publish"],
                ["make nightly-watch"],
                [],  # pages, statements: what another job made is published, or signed
            )


def test_every_run_step_is_one_make_target() -> None:
    for name, step in ALL_STEPS:
        if "run" in step:
            word, target = step["run"].split()
            assert word == "make" and target in make_targets(), f"{name}: {step['run']}"


def test_the_checkout_leaves_no_token_behind() -> None:
    checkouts = [step for _, step in ALL_STEPS if step.get("uses", "").startswith("actions/checkout@")]
    jobs = [job for workflow in WORKFLOWS.values() for job in workflow["jobs"].values()]
    # One for each job that runs something, and the submissions beside what judges them.
    assert len(checkouts) == 1 + sum(any("run" in step for step in job["steps"]) for job in jobs)
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


@pytest.mark.parametrize(
    ("name", "triggers", "environment", "cancels"),
    [
        ("bench-b200", {"workflow_dispatch", "push"}, "b200", False),
        ("nightly-b200", {"schedule"}, "b200-nightly", True),
    ],
)
def test_the_gpu_job_never_runs_a_pull_requests_code_and_holds_no_secret(
    name: str, triggers: set[str], environment: str, cancels: bool
) -> None:
    workflow = WORKFLOWS[name]
    assert set(workflow[TRIGGERS]) == triggers
    assert set(workflow[TRIGGERS].get("push", {"tags": 0})) == {"tags"}
    job = workflow["jobs"]["bench"]
    assert job["runs-on"] == ["self-hosted", "linux", "x64", "b200"]
    assert job["environment"] == environment and job["permissions"] == {"contents": "read"}
    # A night replaces one that no runner took; what a person started is never thrown away; neither waits for the other.
    assert workflow["concurrency"] == {"group": name, "cancel-in-progress": cancels}
    assert "secrets." not in str(job) and "github.token" not in str(job)
    assert sum("self-hosted" in other["runs-on"] for other in workflow["jobs"].values()) == 1


def test_the_job_that_signs_runs_nothing_and_signs_what_a_reading_job_stated() -> None:
    jobs = WORKFLOWS["bench-b200"]["jobs"]
    assert jobs["statement"]["permissions"] == {"contents": "read"} and jobs["statement"]["needs"] == "bench"
    sign = next(step for step in jobs["attest"]["steps"] if "actions/attest@" in step["uses"])
    parts = {Path(sign["with"][name]).name for name in ("subject-checksums", "predicate-path")}
    assert parts == {"subjects.sha256", "predicate.json"}
    assert sign["with"]["predicate-type"] == Statement.model_fields["predicate_type"].default


def test_submissions_are_judged_by_the_branch_that_they_go_to_and_nothing_of_them_is_run() -> None:
    workflow = WORKFLOWS["submissions"]
    assert workflow[TRIGGERS] == {"pull_request": {"paths": ["results/submissions/**"]}}
    job = workflow["jobs"]["judge"]
    judge, submitted = (step["with"] for step in job["steps"] if "actions/checkout@" in step.get("uses", ""))
    assert judge["ref"] == "${{ github.event.pull_request.base.sha }}" and "path" not in judge
    assert submitted["sparse-checkout"] == "results/submissions" and submitted["path"] == "submitted"
    assert job["env"] == {"SUBMISSIONS": "submitted/results/submissions"}
    assert [step["run"] for step in job["steps"] if "run" in step] == ["make setup", "make judge"]
    assert job["permissions"] == {"contents": "read"} and "secrets." not in str(job)


def test_nights_run_from_main_alone() -> None:
    assert WORKFLOWS["nightly-b200"]["jobs"]["bench"]["if"] == "github.ref == 'refs/heads/main'"


def test_a_run_with_a_wrong_cell_is_compared_and_uploaded_alone() -> None:
    for name in ("bench-b200", "nightly-b200"):
        upload = next(step for step in steps(WORKFLOWS[name], "bench") if "upload-artifact@" in step.get("uses", ""))
        assert upload["with"]["path"] == "results/runs/b200/" and upload["if"] == "always()"
    compare = next(step for step in steps(WORKFLOWS["bench-b200"], "bench") if step.get("run") == "make bench-compare")
    assert compare["if"] == "always()"
    assert "!cancelled()" in WORKFLOWS["nightly-b200"]["jobs"]["compare"]["if"]


HOSTED = [command for job in ("check", "pipeline", "tests", "container") for command in commands(WORKFLOWS["ci"], job)]


def test_hosted_ci_sets_up_from_cached_downloads_on_every_python_of_the_locks() -> None:
    jobs = WORKFLOWS["ci"]["jobs"]
    for job in ("pipeline", "tests"):
        assert jobs[job]["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13"]
        (python,) = (step for step in jobs[job]["steps"] if "setup-python@" in step.get("uses", ""))
        assert python["with"]["cache"] == "pip"


def test_hosted_ci_makes_what_the_local_ci_makes_in_the_same_order() -> None:
    script = (PROJECT_ROOT / ".ci/run").read_text()
    local = list(dict.fromkeys(re.findall(r"^step .*; *(make .*)$", script, re.MULTILINE)))
    assert len(local) >= 5
    assert [command for command in dict.fromkeys(HOSTED) if command in local] == local


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
    once = list(dict.fromkeys(HOSTED))
    for command in once[: once.index("make test") + 1]:
        done = subprocess.run(command.split(), cwd=clone, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}: exit {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    assert re.search(r"\b(\d+)/\1 cells PASSED", summary.read_text()), summary.read_text()
