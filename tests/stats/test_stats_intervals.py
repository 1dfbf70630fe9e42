"""Intervals: against independent implementations, under simulation, and at the edges of the data."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from bakeoff.files import PROJECT_ROOT
from bakeoff.runs.intervals import MEDIAN_BLOCKS, block_means, mean_interval, median_interval, outliers
from bakeoff.stats.pairs import overall_ratio
from scipy import stats

REPEATS = 6000
COUNTS = [2, 3, 5, 6, 8, 10, 20]


def noise(kind: str, shape: tuple[int, ...], seed: int = 7) -> np.ndarray:
    """Log times around 0: normal with 1 %, or quiet with 5 % of processes 3-6 % slow or fast."""
    random = np.random.default_rng(seed)
    if kind == "normal":
        return 0.01 * random.standard_normal(shape)
    off = random.uniform(0.03, 0.06, shape) * random.choice([-1, 1], shape)
    return 0.003 * random.standard_normal(shape) + np.where(random.random(shape) < 0.05, off, 0.0)


def coverage(interval) -> float:
    return float(((interval.low <= 0) & (interval.high >= 0)).mean())


@cache
def covered(kind: str, blocks: int) -> tuple[float, float]:
    """Of the mean's interval and of the median's."""
    logs = noise(kind, (REPEATS, blocks))
    return coverage(mean_interval(logs)), coverage(median_interval(logs))


@pytest.mark.parametrize("blocks", COUNTS)
def test_mean_and_median_intervals_cover_the_truth_in_95_percent_of_normal_runs(blocks):
    assert covered("normal", blocks) == pytest.approx((0.95, 0.95), abs=0.02)


@pytest.mark.parametrize("blocks", COUNTS)
def test_outlier_processes_leave_the_median_interval_at_95_percent_and_the_mean_interval_on_the_safe_side(blocks):
    mean, median = covered("outliers", blocks)
    assert mean >= 0.93
    assert median == pytest.approx(0.95, abs=0.02) if blocks >= MEDIAN_BLOCKS else True


def test_the_page_holds_the_coverage_that_is_simulated():
    page = (PROJECT_ROOT / "docs/statistics.md").read_text()
    spans = [
        [
            f"{100 * min(each):.1f}–{100 * max(each):.1f} %"
            for each in zip(*(covered(kind, n) for n in COUNTS), strict=True)
        ]
        for kind in ("normal", "outliers")
    ]
    (mean, median), (mean_off, median_off) = spans
    assert f"| 95 ± 2 % | {median} / {median_off} |" in page
    assert f"| 95 ± 2 % / ≥ 93 % | {mean} / {mean_off} |" in page


def test_an_interval_of_half_the_width_fails_the_coverage_test():
    interval = mean_interval(noise("normal", (REPEATS, 10)))
    half = (interval.high - interval.low) / 4
    covered = (np.abs(interval.value) <= half).mean()
    assert covered != pytest.approx(0.95, abs=0.02)


def gaps(share: float):
    """Samples missing at random."""
    return lambda random, logs: np.where(random.random(logs.shape) < share, np.nan, logs)


def short(workloads: int, blocks: int, noise: float = 1.0):
    """The first workloads have only the first blocks, and `noise` times the others' noise."""

    def made(random, logs):
        logs[:workloads] *= noise
        logs[:workloads, blocks:] = np.nan
        return logs

    return made


@pytest.mark.parametrize(
    ("blocks", "missing", "most"),
    [
        (5, gaps(0.0), 0.97),
        (10, gaps(0.0), 0.97),
        (10, gaps(0.15), 0.97),
        (10, gaps(0.4), 0.97),
        (10, short(5, 5), 0.97),
        (10, short(9, 2), 1.0),
        (20, short(9, 2), 1.0),
        (10, short(1, 4, noise=20), 0.97),
        (10, short(1, 1), 0.97),
    ],
)
def test_the_interval_of_the_geometric_mean_covers_with_and_without_missing_samples(blocks, missing, most):
    """Where two blocks carry much of the result, the interval is wider than it need be; it is never too short."""
    random = np.random.default_rng(3)
    found = []
    for _ in range(1000):
        drift = 0.004 * random.standard_normal(blocks)  # what a block does to all workloads
        ratio = overall_ratio(missing(random, drift + 0.01 * random.standard_normal((19, blocks))))
        found.append(ratio.low <= 1 <= ratio.high)
    assert 0.93 <= np.mean(found) <= most


def test_with_all_samples_the_interval_of_the_geometric_mean_is_the_t_interval_of_the_block_means():
    logs = noise("normal", (19, 10)) + noise("normal", (1, 10), seed=9)
    means = logs.mean(axis=0)
    expected = stats.t.interval(0.95, 9, loc=means.mean(), scale=stats.sem(means))
    ratio = overall_ratio(logs)
    assert np.log([ratio.low, ratio.high]) == pytest.approx(expected)


def test_a_geometric_mean_without_a_repeated_block_has_no_interval():
    logs = np.full((2, 3), np.nan)
    logs[0, 0], logs[1, 2] = 0.1, 0.3
    ratio = overall_ratio(logs)
    assert ratio.value == pytest.approx(np.exp(0.2)) and ratio.low is None and ratio.high is None


def test_a_workload_with_one_block_widens_the_interval_of_the_geometric_mean():
    logs = noise("normal", (4, 10))
    lone = logs.copy()
    lone[0, 1:] = np.nan
    deviations = logs[1:].std(axis=1, ddof=1)
    ratio = overall_ratio(lone)
    others = stats.sem(logs[1:].sum(axis=0) / 4)
    half = stats.t.ppf(0.975, 9) * np.sqrt(others**2 + (deviations**2).mean() / 16)
    assert np.log(ratio.high / ratio.low) / 2 == pytest.approx(half)


def test_the_mean_interval_is_scipys_t_interval():
    logs = noise("normal", (3, 8))
    interval = mean_interval(logs)
    for row in range(3):
        low, high = stats.t.interval(0.95, 7, loc=logs[row].mean(), scale=stats.sem(logs[row]))
        assert (interval.low[row], interval.high[row]) == pytest.approx((low, high))


@pytest.mark.parametrize("blocks", [6, 7, 10, 15, 30])
def test_the_median_interval_lies_inside_scipys_conservative_one(blocks):
    for logs in noise("outliers", (20, blocks)):
        outer = stats.quantile_test(logs, q=0, p=0.5).confidence_interval(0.95)
        interval = median_interval(logs[None])
        assert outer.low <= interval.low[0] <= interval.value[0] <= interval.high[0] <= outer.high


def test_the_median_interval_contains_the_median_at_every_number_of_blocks():
    for blocks in range(2, 25):
        interval = median_interval(noise("outliers", (500, blocks), seed=blocks))
        assert ((interval.low <= interval.value) & (interval.value <= interval.high)).all()


def test_one_block_has_a_value_and_no_interval_and_no_block_has_nothing():
    interval = median_interval(np.array([[0.5, np.nan], [np.nan, np.nan]]))
    assert interval.value[0] == 0.5 and np.isnan(interval.low[0]) and np.isnan(interval.high[0])
    assert np.isnan(interval.value[1])


def test_missing_blocks_do_not_change_the_answer_of_those_that_are_there():
    logs = noise("normal", (1, 9))
    with_gaps = np.insert(logs, [2, 5], np.nan, axis=1)
    for function in (mean_interval, median_interval):
        full, gaps = function(logs), function(with_gaps)
        assert (full.value, full.low, full.high) == pytest.approx((gaps.value, gaps.low, gaps.high))


def test_rows_of_unequal_length_are_each_their_own():
    rows = [noise("normal", (n,), seed=n) for n in (2, 4, 7, 10)]
    table = np.full((4, 10), np.nan)
    for index, row in enumerate(rows):
        table[index, : len(row)] = row
    together = median_interval(table)
    for index, row in enumerate(rows):
        alone = median_interval(row[None])
        assert (together.low[index], together.high[index]) == pytest.approx((alone.low[0], alone.high[0]))


def test_equal_blocks_have_exactly_no_deviation():
    levels = np.log(np.linspace(3.0, 4000.0, 400))[:, None]
    for blocks in range(2, 13):  # binary fractions: without care some of these means are one rounding off
        assert (block_means(np.repeat(levels, blocks, axis=1)).sd == 0.0).all()
    interval = mean_interval(np.full((1, 5), np.log(123.456)))
    assert interval.low == interval.value == interval.high


def test_only_a_block_that_is_both_far_and_unusual_is_an_outlier():
    quiet = np.log(100 + np.array([0.0, 0.1, -0.1, 0.05, 4.5, 0.0, -0.05, 0.1]))
    assert outliers(quiet).tolist() == [False] * 4 + [True] + [False] * 3
    noisy = np.log(100 + np.array([0.0, 3.0, -3.0, 2.0, 4.5, -2.0, 1.0, -4.0]))
    assert not outliers(noisy).any()
    small = np.log(100 + np.array([0.0, 0.01, -0.01, 0.0, 2.0, 0.01]))
    assert not outliers(small).any()
