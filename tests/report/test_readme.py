"""What README says of committed results is what those results say."""

from __future__ import annotations

import re

from bakeoff.files import PROJECT_ROOT, read_json
from bakeoff.report import readme
from bakeoff.schema.analysis import Analysis
from bakeoff.schema.analysis_outside import ClaimVerdict
from bakeoff.stats.audit import audit_report

README = " ".join((PROJECT_ROOT / "README.md").read_text().split())
PUBLISHED = PROJECT_ROOT / "results/published/2026-02-26_4way"


def test_the_first_screen_shows_a_picture_a_table_and_two_commands() -> None:
    lines = (PROJECT_ROOT / "README.md").read_text().splitlines()
    first = "\n".join(lines[:32])
    assert len(lines) <= 90 and "docs/fastest.svg" in first and "make reproduce" in first and "make test" in first
    assert "LICENSE" in first and "GB of disk" in first


def test_the_table_is_that_of_the_newest_run_on_each_gpu() -> None:
    runs = [read_json(path, Analysis) for path in sorted((PROJECT_ROOT / "results/recorded").glob("*/analysis.json"))]
    newest = {run.run.hardware: run for run in runs if run.findings.ranking}
    for run in newest.values():
        first, second = run.findings.ranking.order[:2]  # type: ignore[union-attr]
        (pair,) = (one for one in run.pairs if {one.a, one.b} == {first.solution, second.solution})
        assert pair.ratio is not None and pair.ratio.low is not None and pair.ratio.high is not None
        times = (pair.ratio.value, pair.ratio.low, pair.ratio.high)
        value, *ends = times if pair.a == first.solution else [1 / time for time in times]
        assert f"{value:.3f}× ({min(ends):.3f}–{max(ends):.3f})" in README


def test_what_is_generated_for_the_first_screen_is_current() -> None:
    assert all(path.read_bytes() == content for path, content in readme.generated())


def test_the_audit_says_what_the_first_screen_says() -> None:
    claims = audit_report(PUBLISHED, PUBLISHED / "claims.yaml").claims
    wrong = [claim for claim in claims if claim.verdict is ClaimVerdict.CONTRADICTED and not claim.other_table]
    figures = sum(claim.kind == "figure" for claim in wrong)
    said = re.search(r"(\d+) of its figures and one conclusion contradict its own table", README)
    assert said and int(said[1]) == figures == len(wrong) - 1
