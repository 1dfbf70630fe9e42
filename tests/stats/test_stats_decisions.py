"""The decision rule: against scipy and statsmodels, by direction, and on degenerate data."""

from __future__ import annotations

import re

import numpy as np
import pytest
from bakeoff.files import PROJECT_ROOT
from bakeoff.schema.base import Verdict
from bakeoff.stats.verdicts import MARGIN, holm, paired, unpaired
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower
from statsmodels.stats.weightstats import CompareMeans, DescrStatsW

RANDOM = np.random.default_rng(11)
FASTER, SLOWER, SAME, OPEN = Verdict.FASTER_2_PERCENT, Verdict.SLOWER_2_PERCENT, Verdict.SAME, Verdict.OPEN
FASTER_OPEN, FASTER_BELOW = Verdict.FASTER_OPEN, Verdict.FASTER_BELOW_2_PERCENT
SLOWER_OPEN, SLOWER_BELOW = Verdict.SLOWER_OPEN, Verdict.SLOWER_BELOW_2_PERCENT


def ratios(*means: float, sd: float = 0.004, blocks: int = 10) -> np.ndarray:
    """Rows with exactly these means and this sample deviation."""
    row = np.sin(np.arange(blocks) * 2.3)
    row = (row - row.mean()) / row.std(ddof=1) * sd
    return np.asarray(means)[:, None] + row


def test_p_values_are_scipys_corrected_by_statsmodels():
    logs = ratios(*np.linspace(-0.03, 0.03, 19)) + 0.003 * RANDOM.standard_normal((19, 10))
    decision = paired(logs)
    difference = stats.ttest_1samp(logs, 0.0, axis=1).pvalue
    equivalence = [DescrStatsW(row).ttost_mean(-MARGIN, MARGIN)[0] for row in logs]
    assert decision.p_difference == pytest.approx(multipletests(difference, method="holm")[1], rel=1e-9)
    assert decision.p_equivalence == pytest.approx(multipletests(equivalence, method="holm")[1], rel=1e-9)
    for row, interval in zip(logs, zip(decision.ratio.low, decision.ratio.high, strict=True), strict=True):
        assert interval == pytest.approx(DescrStatsW(row).tconfint_mean(0.05))


def test_holm_equals_statsmodels_and_leaves_missing_tests_out():
    p_values = RANDOM.random(12) ** 3
    assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1])
    with_gaps = np.insert(p_values, [0, 5], np.nan)
    corrected = holm(with_gaps)
    assert np.isnan(corrected[[0, 6]]).all()
    assert corrected[~np.isnan(corrected)] == pytest.approx(holm(p_values))


@pytest.mark.parametrize(("blocks", "workloads"), [(5, 1), (10, 1), (10, 19), (20, 19), (20, 40)])
def test_the_minimum_detectable_effect_is_that_of_statsmodels(blocks, workloads):
    logs = ratios(*[0.0] * workloads, sd=0.01, blocks=blocks)
    expected = TTestPower().solve_power(nobs=blocks, alpha=0.05 / workloads, power=0.8) * 0.01
    assert np.log1p(paired(logs).mde[0]) == pytest.approx(expected, rel=1e-3)


def test_runs_are_compared_by_welchs_test_with_the_smaller_runs_degrees_of_freedom():
    old, new = 0.01 * RANDOM.standard_normal((6, 10)), 0.004 * RANDOM.standard_normal((6, 7)) + 0.01
    decision = unpaired(old, new)
    welch = stats.ttest_ind(new, old, axis=1, equal_var=False)
    difference = 2 * stats.t.sf(np.abs(welch.statistic), 6)
    error = (new.mean(axis=1) - old.mean(axis=1)) / welch.statistic
    equivalence = stats.t.sf((MARGIN - np.abs(new.mean(axis=1) - old.mean(axis=1))) / error, 6)
    assert decision.p_difference == pytest.approx(multipletests(difference, method="holm")[1], rel=1e-9)
    assert decision.p_equivalence == pytest.approx(multipletests(equivalence, method="holm")[1], rel=1e-9)


def test_the_interval_between_runs_is_welchs():
    old, new = 0.01 * RANDOM.standard_normal((6, 10)), 0.004 * RANDOM.standard_normal((6, 7)) + 0.01
    decision = unpaired(old, new)
    for row in range(6):
        means = CompareMeans(DescrStatsW(new[row]), DescrStatsW(old[row]))
        expected = means.tconfint_diff(0.05, usevar="unequal")
        assert (decision.ratio.low[row], decision.ratio.high[row]) == pytest.approx(expected)


def test_each_verdict_has_its_place():
    found = [paired(ratios(mean, sd=sd)).verdicts for mean, sd in ((0.03, 0.002), (0.02, 0.01), (0.01, 0.002))]
    assert found == [[FASTER], [FASTER_OPEN], [FASTER_BELOW]]
    found = [paired(ratios(-mean, sd=sd)).verdicts for mean, sd in ((0.03, 0.002), (0.02, 0.01), (0.01, 0.002))]
    assert found == [[SLOWER], [SLOWER_OPEN], [SLOWER_BELOW]]
    assert paired(ratios(0.0)).verdicts == [SAME] and paired(ratios(0.03, sd=0.05)).verdicts == [OPEN]


def test_a_difference_shown_to_be_below_2_percent_says_which_way_if_that_is_shown_too():
    decision = paired(ratios(0.01, sd=0.002))
    assert decision.p_difference[0] < 1e-4 and decision.p_equivalence[0] < 1e-4
    assert decision.verdicts == [FASTER_BELOW] and FASTER_BELOW.within and FASTER_BELOW.direction == 1


def test_exactly_2_percent_is_neither_less_nor_more():
    assert paired(ratios(MARGIN, sd=0.002)).verdicts == [FASTER_OPEN]
    assert paired(ratios(-MARGIN, sd=0.002)).verdicts == [SLOWER_OPEN]


def test_swapping_the_two_solutions_mirrors_everything():
    logs = ratios(*np.linspace(-0.05, 0.05, 9), sd=0.015)
    straight, mirrored = paired(logs), paired(-logs)
    turned = {"FASTER": "SLOWER", "SLOWER": "FASTER"}
    expected = [re.sub("FASTER|SLOWER", lambda found: turned[found[0]], verdict) for verdict in straight.verdicts]
    assert mirrored.verdicts == expected and len(set(expected)) > 3
    assert mirrored.p_difference == pytest.approx(straight.p_difference)
    assert mirrored.ratio.low == pytest.approx(-straight.ratio.high)


def test_a_higher_time_of_b_means_that_a_is_faster():
    a, b = np.log(100.0), np.log(np.array([[110.0, 111.0, 109.0, 110.5, 109.5]]))
    assert paired(b - a).verdicts == [FASTER]


def test_in_two_runs_the_newer_ones_higher_speedup_is_faster():
    old, new = np.log([[10.0, 10.1, 9.9, 10.0, 10.05]]), np.log([[12.0, 12.1, 11.9, 12.0, 12.05]])
    assert unpaired(old, new).verdicts == [FASTER]
    assert unpaired(new, old).verdicts == [SLOWER]


def test_the_corrected_level_depends_on_the_number_of_workloads():
    row = ratios(0.02, sd=0.02)
    alone, among = paired(row), paired(np.concatenate([row, ratios(*[0.0] * 18, sd=0.02)]))
    assert alone.verdicts == [FASTER_OPEN] and among.verdicts[0] == OPEN
    assert among.mde[0] > alone.mde[0]


@pytest.mark.parametrize("blocks", [1, 2, 3, 4])
def test_fewer_than_five_blocks_give_a_range_and_no_verdict(blocks):
    decision = paired(ratios(0.5, 0.0, sd=0.001, blocks=5)[:, :blocks])
    assert decision.verdicts == [None, None]
    assert np.isnan(decision.p_difference).all() and np.isnan(decision.mde).all()
    assert np.isfinite(decision.ratio.low).all() == (blocks > 1)


def test_an_effect_beyond_any_that_could_be_is_none():
    logs = ratios(*[0.0] * 19, sd=0.01, blocks=5)
    logs[0, 4] = 20.0  # one process slower by a factor of 5e8
    decision = paired(logs)
    assert decision.verdicts[0] == OPEN and np.isnan(decision.mde[0])
    assert np.isfinite(decision.mde[1:]).all() and np.isfinite(np.exp(decision.ratio.high)).all()


@pytest.mark.parametrize(
    ("ratio", "verdict"), [(0.4, FASTER), (-0.4, SLOWER), (0.0, SAME), (0.01, FASTER_BELOW), (MARGIN, FASTER_OPEN)]
)
def test_without_any_deviation_the_ratio_itself_decides(ratio, verdict):
    decision = paired(np.full((1, 5), ratio))
    assert decision.verdicts == [verdict]
    assert decision.sd[0] == 0 and decision.mde[0] == 0
    assert np.isfinite([decision.p_difference[0], decision.p_equivalence[0]]).all()


def test_a_workload_without_data_leaves_the_family():
    logs = ratios(0.05, 0.0, 0.0, sd=0.01)
    gaps = np.concatenate([logs, np.full((2, 10), np.nan)])
    decision = paired(gaps)
    assert decision.verdicts[3:] == [None, None]
    assert decision.p_difference[:3] == pytest.approx(paired(logs).p_difference)


def test_a_missing_block_uses_the_degrees_of_freedom_that_are_left():
    logs = ratios(0.02, sd=0.01)
    gap = logs.copy()
    gap[0, 3] = np.nan
    kept = np.delete(logs, 3, axis=1)
    assert paired(gap).p_difference == pytest.approx(stats.ttest_1samp(kept, 0.0, axis=1).pvalue)
    assert paired(gap).blocks[0] == 9


def test_an_empty_family_is_no_error():
    decision = paired(np.full((3, 6), np.nan))
    assert decision.verdicts == [None] * 3 and np.isnan(decision.mde).all()


def test_two_runs_without_deviation_are_decided_by_their_values():
    old, new = np.full((2, 5), 1.0), np.array([[1.0] * 5, [0.5] * 5])
    assert unpaired(old, new).verdicts == [SAME, SLOWER]


def smallest_p_values(old_blocks: int, new_blocks: int, old_noise: float, new_noise: float, effect: float) -> tuple:
    """Least corrected p-values of difference and equivalence in 800 comparisons of 19 workloads between two runs."""
    random = np.random.default_rng(8)
    found = []
    for _ in range(800):
        old = old_noise * random.standard_normal((19, old_blocks))
        new = effect + new_noise * random.standard_normal((19, new_blocks))
        decision = unpaired(old, new)
        found.append((decision.p_difference.min(), decision.p_equivalence.min()))
    return tuple(np.array(found).T)


@pytest.mark.parametrize(("old_blocks", "new_blocks"), [(5, 10), (5, 5), (10, 10)])
@pytest.mark.parametrize(("old_noise", "new_noise"), [(0.004, 0.004), (0.003, 0.001)])
def test_false_verdicts_between_runs_stay_below_5_percent_whatever_their_blocks(
    old_blocks, new_blocks, old_noise, new_noise
):
    """With Satterthwaite's degrees of freedom equal runs of 2 and 10 blocks would show a difference in up to 64 %."""
    difference, _ = smallest_p_values(old_blocks, new_blocks, old_noise, new_noise, 0.0)
    _, equivalence = smallest_p_values(old_blocks, new_blocks, old_noise, new_noise, MARGIN)
    assert np.mean(difference <= 0.05) <= 0.05 and np.mean(equivalence <= 0.05) <= 0.05


def test_satterthwaites_degrees_of_freedom_would_fail_that():
    random = np.random.default_rng(8)
    old, new = 0.004 * random.standard_normal((800, 19, 2)), 0.004 * random.standard_normal((800, 19, 10))
    p_values = stats.ttest_ind(new, old, axis=2, equal_var=False).pvalue
    wrong = np.mean(p_values.min(axis=1) * 19 <= 0.05)
    assert wrong > 0.25
    assert (
        f"Satterthwaite's degrees of freedom | – | {100 * wrong:.1f} % |"
        in (PROJECT_ROOT / "docs/statistics.md").read_text()
    )
