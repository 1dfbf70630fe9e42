"""The night's hosted jobs (.ci/nightly.sh), with doubles of GitHub's command line and of the verbs."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
from bakeoff.files import PROJECT_ROOT

REGRESSION = "A B200 night: regression or wrong output"
IDLE = "A B200 night: no runner took the job"

# Keeps open issues as files named by number, and a release as a folder; says to GitHub's calls what GitHub would.
GH = r"""#!/usr/bin/env bash
set -euo pipefail
cd "$GITHUB_DOUBLE"
echo "$*" >> calls
case "$1 $2" in
    "release download") [ -d "$3" ] || { echo "release not found" >&2; exit 1; }; cp "$3/$5" "$OLDPWD/$7/" ;;
    "release view") [ -d "$3" ] ;;
    "release create") mkdir "$3" ;;
    "release upload") cp "$OLDPWD/$4" "$3/" ;;
    "run list") cat state ;;
    "issue list") title=${6#*\"}; grep -rlxF "${title%\"}" issues | xargs -r -n 1 basename || true ;;
    "issue create") n=$(ls issues | wc -l); echo "$4" > "issues/$((n + 1))" ;;
    "issue comment") [ -f "issues/$3" ] ;;
    "issue close") rm "issues/$3" ;;
    *) echo "unknown: $*" >&2; exit 64 ;;
esac
"""
VERBS = """#!/usr/bin/env bash
echo "$1: said"; exit "$(cat "$GITHUB_DOUBLE/exit_$1" 2> /dev/null || echo 0)"
"""


class Night:
    def __init__(self, root: Path) -> None:
        self.root, self.github = root / "checkout", root / "github"
        for folder in (self.root / ".ci", self.root / "results/runs/b200/report", self.github / "issues", root / "bin"):
            folder.mkdir(parents=True)
        shutil.copy2(PROJECT_ROOT / ".ci/nightly.sh", self.root / ".ci/nightly.sh")
        self.bin = root / "bin"
        for name, text in (("gh", GH), ("bakeoff", VERBS)):
            (self.bin / name).write_text(text)
            (self.bin / name).chmod(0o755)
        (self.root / "results/runs/b200/traces.jsonl").write_text("{}\n")
        (self.root / "results/runs/b200/report/page.html").write_text("page")

    def __call__(self, *words: str) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": f"{self.bin}:/usr/bin:/bin", "GITHUB_DOUBLE": str(self.github)}
        return subprocess.run([self.root / ".ci/nightly.sh", *words], env=environment, capture_output=True, text=True)

    def whole(self) -> tuple[str, int]:
        """Compare and publish; the outcome and publish's exit code."""
        done = self("compare", str(self.bin))
        assert done.returncode == 0, done.stderr
        return self.outcome, self("publish").returncode

    @property
    def outcome(self) -> str:
        return (self.root / "results/nightly/outcome").read_text().strip()

    def exits(self, **codes: int) -> None:
        for verb, code in codes.items():
            (self.github / f"exit_{verb}").write_text(str(code))

    @property
    def issues(self) -> list[str]:
        return [path.read_text().strip() for path in (self.github / "issues").iterdir()]

    @property
    def kept(self) -> set[str]:
        archive = self.github / "baseline-b200/baseline.tar.gz"
        if not archive.exists():
            return set()
        with tarfile.open(archive) as files:
            return {name.removeprefix("./") for name in files.getnames()} - {"."}


@pytest.fixture
def night(tmp_path: Path) -> Night:
    return Night(tmp_path)


def test_the_first_night_says_so_and_becomes_the_baseline_without_its_report(night: Night) -> None:
    assert night.whole() == ("first", 0)
    assert night.kept == {"traces.jsonl"} and not night.issues
    assert night.whole() == ("same", 0)


def test_a_first_night_that_does_not_verify_is_no_baseline(night: Night) -> None:
    night.exits(verify=1)
    assert night.whole() == ("regression", 1)
    assert not night.kept and night.issues == [REGRESSION]


@pytest.mark.parametrize(("codes", "outcome"), [({"compare": 1}, "regression"), ({"compare": 3}, "incomparable")])
def test_a_bad_night_keeps_the_baseline_and_opens_one_issue(night: Night, codes: dict[str, int], outcome: str) -> None:
    night.whole()
    night.exits(**codes)
    (night.root / "results/runs/b200/traces.jsonl").write_text("slower\n")
    assert night.whole() == (outcome, 1)
    assert night.whole() == (outcome, 1)
    assert night.issues == [REGRESSION] and "issue comment 1" in (night.github / "calls").read_text()
    with tarfile.open(night.github / "baseline-b200/baseline.tar.gz") as files:
        stored = files.extractfile("./traces.jsonl")
        assert stored is not None and stored.read() == b"{}\n"


def test_the_issue_closes_when_the_regression_is_gone(night: Night) -> None:
    night.whole()
    night.exits(compare=1)
    night.whole()
    night.exits(compare=0)
    assert night.whole() == ("same", 0) and not night.issues


def test_an_equal_run_with_a_wrong_cell_is_no_baseline(night: Night) -> None:
    night.whole()
    night.exits(verify=1)
    assert night.whole() == ("regression", 1)


def test_a_night_without_traces_opens_the_issue(night: Night) -> None:
    (night.root / "results/runs/b200/traces.jsonl").unlink()
    assert night.whole() == ("no-run", 1) and night.issues == [REGRESSION]


def test_a_comparison_that_broke_off_opens_the_issue(night: Night) -> None:
    night.whole()
    night.exits(compare=2)
    shutil.rmtree(night.root / "results/nightly")
    assert night("compare", str(night.bin)).returncode == 2
    assert night("publish").returncode == 1 and night.issues == [REGRESSION]


def test_github_out_of_reach_is_no_first_night(night: Night) -> None:
    (night.bin / "gh").write_text("#!/bin/sh\necho 'HTTP 502' >&2; exit 1\n")
    done = night("compare", str(night.bin))
    assert done.returncode == 1 and "HTTP 502" in done.stderr


@pytest.mark.parametrize(
    ("state", "issues"), [("queued", [IDLE]), ("none", [IDLE]), ("in_progress", []), ("completed", [])]
)
def test_a_job_that_no_runner_took_opens_an_alert(night: Night, state: str, issues: list[str]) -> None:
    (night.github / "state").write_text(state)
    assert night("watch").returncode == bool(issues) and night.issues == issues


def test_the_alert_closes_once_a_runner_is_back(night: Night) -> None:
    (night.github / "state").write_text("queued")
    night("watch")
    (night.github / "state").write_text("completed")
    assert night("watch").returncode == 0 and not night.issues


def test_the_summary_of_a_huge_comparison_stays_small(night: Night) -> None:
    (night.bin / "bakeoff").write_text("#!/bin/sh\nyes | head -c 3000000\n")
    assert night("compare", str(night.bin)).returncode == 0
    assert (night.root / "results/nightly/body.md").stat().st_size < 65_536
