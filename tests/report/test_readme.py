"""What README says of committed results is what those results say."""

from __future__ import annotations

import re

from bakeoff.files import PROJECT_ROOT, read_json
from bakeoff.schema.analysis import Analysis
from bakeoff.schema.analysis_outside import ClaimVerdict
from bakeoff.stats.audit import audit_report

README = " ".join((PROJECT_ROOT / "README.md").read_text().split())
RECORDED = sorted((PROJECT_ROOT / "results/recorded").glob("*_h100/analysis.json"))[-1]
PUBLISHED = PROJECT_ROOT / "results/published/2026-02-26_4way"


def test_the_recorded_run_says_what_the_first_screen_says() -> None:
    analysis = read_json(RECORDED, Analysis)
    ranking = analysis.findings.ranking
    assert ranking is not None
    first, second = ranking.order[:2]
    leads, wins = ranking.leads[first.solution], ranking.wins[first.solution]
    same = sum(bool(winner.tied) and winner.tied == winner.same for winner in analysis.winners)
    ahead = f"{(ranking.steps[0].value - 1) * 100:.1f} % ahead of `{second.solution}`"
    assert f"`{first.solution}` leads all {leads} workloads: {first.value:.2f}× the reference" in README
    assert leads == len(analysis.workloads) and ahead in README
    assert f"On {wins} workloads the lead is beyond the noise, on {same} it is shown to be below 2 %" in README
    (pair,) = (one for one in analysis.pairs if {one.a, one.b} == {first.solution, second.solution})
    (open_one,) = (one.workload for one in pair.verdicts if one.verdict == "AMBIGUOUS")
    assert (
        wins + same + 1 == leads and open_one == "T14_o0" and "on one (14 tokens) the host disturbed a block" in README
    )


def test_the_runs_on_another_gpu_say_what_the_first_screen_says() -> None:
    runs = [
        read_json(path, Analysis) for path in sorted((PROJECT_ROOT / "results/recorded").glob("*_h200*/analysis.json"))
    ]
    rankings = [run.findings.ranking for run in runs]
    orders = [[place.solution for place in ranking.order] for ranking in rankings if ranking is not None]
    assert len(runs) == 2 and orders[0] == orders[1] and orders[0][:2] == ["cutedsl_moe_fp8_v3_2", "cutedsl_moe_fp8_v3"]
    ranking = rankings[0]
    assert ranking is not None and ranking.leads[orders[0][0]] == len(runs[0].workloads) == 19
    ahead = f"{(ranking.steps[0].value - 1) * 100:.1f} % ahead"
    beyond = f"on {ranking.wins[orders[0][0]]} beyond the noise"
    assert f"leads all 19 again: {ranking.order[0].value:.2f}×, {ahead}, {beyond};" in README
    (peer,) = (pair for pair in runs[0].pairs if (pair.a, pair.b) == (orders[0][0], "deepgemm_moe"))
    (behind,) = (verdict for verdict in peer.verdicts if verdict.verdict == "SLOWER")
    assert behind.workload == "T11948_o128" and behind.ratio is not None
    assert f"is {(1 / behind.ratio.value - 1) * 100:.1f} % faster at 11,948 tokens there" in README


def test_the_audit_says_what_the_first_screen_says() -> None:
    claims = audit_report(PUBLISHED, PUBLISHED / "claims.yaml").claims
    wrong = [claim for claim in claims if claim.verdict is ClaimVerdict.CONTRADICTED]
    figures = sum(claim.kind == "figure" for claim in wrong)
    said = re.search(r"(\d+) of its figures and one conclusion contradict its own table", README)
    assert said and int(said[1]) == figures == len(wrong) - 1
