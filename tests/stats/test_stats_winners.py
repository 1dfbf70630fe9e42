"""Who leads and who wins, on constructed runs: support, ties, peers, rivals that were not measured."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from bakeoff.schema.base import Verdict
from bakeoff.stats.analyse import analyse
from bakeoff.stats.runs import load_run
from support.found import pair
from support.make import FOUR, PAIRS, Made, analysed, named, write


def test_winners_are_supported_where_the_truth_is_clear(four):
    found = {winner.workload: winner for winner in four.winners}
    assert found["T80_o96"].leader == "triton_fused_moe_v2" and found["T80_o96"].supported
    assert found["T14107_o32"].leader == "flashinfer_moe" and found["T14107_o32"].lead.low > 1.2
    assert sum(summary.wins for summary in four.summaries) == sum(winner.supported for winner in four.winners)


def test_a_close_race_has_a_leader_and_a_tie_and_no_winner():
    close = {"one": (30.0, 30.0), "two": (30.1, 30.1), "slow": (10.0, 10.0)}
    analysis = analysed(Made(speed=close, noise=0.01, outliers=0.0))
    for winner in analysis.winners:
        assert winner.basis == "blocks" and not winner.supported
        assert set(winner.tied) == {"one", "two"} - {winner.leader}
    assert [summary.wins for summary in analysis.summaries] == [0, 0, 0]
    assert [summary.ties for summary in analysis.summaries] == [19, 19, 0]


def test_a_lead_below_2_percent_wins_and_one_over_an_unmeasured_rival_does_not():
    close = {"one": (30.0, 30.0), "two": (30.2, 30.2), "three": (30.1, 30.1)}
    gaps = {("three", PAIRS[3][0]): list(range(9))}
    made = Made(speed=close, noise=0.001, outliers=0.0, missing_blocks=gaps)
    for index, winner in enumerate(analysed(made).winners):
        assert winner.leader == "two" and winner.same == [] and winner.blocks == (1 if index == 3 else 10)
        assert winner.supported == (index != 3) and winner.tied == (["three"] if index == 3 else [])
        assert winner.verdict == (None if index == 3 else Verdict.FASTER_BELOW_2_PERCENT)


def test_equal_contestants_are_tied_and_shown_to_be_less_than_2_percent_apart():
    made = Made(speed={"one": (30.0, 30.0), "two": (30.0, 30.0)}, noise=0.001, outliers=0.0)
    assert all(not winner.supported and winner.same == winner.tied != [] for winner in analysed(made).winners)


@pytest.mark.parametrize(("outcome", "supported"), [("DISTURBED", False), ("NOT_WRITTEN", False), ("CRASHED", True)])
def test_nobody_wins_where_the_host_kept_a_contestant_from_being_measured(outcome, supported):
    made = named("four", outcomes={("flashinfer_moe", 901): (outcome, None)})
    winner = next(one for one in analysed(made).winners if one.workload == "T901_o96")
    assert winner.leader == "cutedsl_moe_fp8_v3_2" and winner.supported == supported and not winner.tied
    assert winner.unmeasured == ([] if supported else ["flashinfer_moe"])


def test_the_fastest_of_all_that_ran_may_be_a_peer():
    speed = {**FOUR, "deepgemm_moe": (20.0, 90.0)}
    found = {one.workload: one for one in analysed(named("with_peer", speed=speed)).winners}
    assert found["T80_o96"].fastest == found["T80_o96"].leader and found["T80_o96"].fastest_lead is None
    large = found["T14107_o32"]
    assert large.fastest == "deepgemm_moe" and large.leader == "flashinfer_moe" and large.supported
    assert large.fastest_lead.value == pytest.approx(90 / 15.8, rel=0.02) and large.fastest_lead.low > 5


def test_aggregates_of_contestants_rest_on_the_blocks_that_they_share(tmp_path):
    """Without its five slow blocks a solution would look faster than it is beside the others."""
    made = Made(speed={"one": (30.0, 30.0), "two": (29.7, 29.7)}, noise=0.0, outliers=0.0)
    data = load_run(write(made, tmp_path / "run"))
    slow = np.where(np.arange(10) < 5, np.log(1.1), 0.0)
    time, reference = data.samples.log_time + slow, data.samples.log_reference
    time[1, :, :5] = np.nan  # `two` was not measured while the GPU was slow
    found = analyse(replace(data, samples=replace(data.samples, log_time=time, log_reference=reference)))
    assert [one.leader for one in found.winners] == ["one"] * 19
    assert [place.solution for place in found.findings.ranking.order] == ["one", "two"]
    firsts = {ranking.order[0].solution for ranking in found.rank_stability.rankings}
    assert firsts == {"one"} and found.profile[0].shares[0] == 1.0
    assert found.summaries[0].geometric_mean.value < found.summaries[1].geometric_mean.value
    assert [one.blocks for one in found.summaries] == [10, 5]


def test_the_leader_must_beat_every_rival_not_only_the_second():
    rivals = {"one": (30.0, 30.0), "two": (29.0, 29.0), "three": (28.9, 28.9)}
    gaps = {("three", PAIRS[3][0]): list(range(9))}  # one block left: undecided against it
    analysis = analysed(Made(speed=rivals, noise=0.001, outliers=0.0, missing_blocks=gaps))
    winner = analysis.winners[3]
    assert winner.leader == "one" and not winner.supported and winner.tied == ["three"]
    assert all(entry.supported for index, entry in enumerate(analysis.winners) if index != 3)


def test_peers_are_compared_but_never_win():
    analysis = analysed(named("with_peer", speed={**FOUR, "deepgemm_moe": (90.0, 90.0)}))
    peer = next(summary for summary in analysis.summaries if summary.solution == "deepgemm_moe")
    assert peer.leads is None and peer.geometric_mean.value > 60
    assert all(winner.leader != "deepgemm_moe" for winner in analysis.winners)
    counts = pair(analysis, "deepgemm_moe", "flashinfer_moe").counts
    assert sum(count for verdict, count in counts.items() if verdict.direction) == 19
    assert all(entry.mde_against != "deepgemm_moe" for entry in analysis.cells)
    names = {place.solution for ranking in analysis.rank_stability.rankings for place in ranking.order}
    assert "deepgemm_moe" not in names and all(
        place.solution != "deepgemm_moe" for place in analysis.findings.ranking.order
    )


def test_direction_of_pairs_follows_their_names(four):
    found = pair(four, "cutedsl_moe_fp8_v3", "flashinfer_moe")
    assert (found.a, found.b) == ("cutedsl_moe_fp8_v3", "flashinfer_moe")
    assert found.ratio.value < 0.5 and found.counts == {Verdict.SLOWER_2_PERCENT: 19} and found.b_ahead == 19
    assert {entry.verdict for entry in found.verdicts} == {Verdict.SLOWER_2_PERCENT}
