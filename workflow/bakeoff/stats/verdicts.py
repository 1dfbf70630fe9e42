"""The decision rule of docs/statistics.md: which way two solutions differ, whether by 2 %, and what could be found.

Entry points: `paired` (two solutions of one run), `unpaired` (the same solution in two runs). The last axis holds
blocks, NaN where a block is missing; the one before it the rows of one family of tests, say workloads; families may
stand in axes before that. A positive log ratio means that a is faster.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from bakeoff.runs.intervals import BlockMeans, Floats, Interval, block_means
from bakeoff.schema.base import Verdict

ALPHA = 0.05
MARGIN = float(np.log(1.02))
POWER = 0.8
# With fewer blocks there is a range and no verdict: processes that are fast or slow by turns deceive 4 of them in one
# run of seven, 5 in one of twenty.
BLOCKS = 5
# A minimum detectable effect above this is none: with so few blocks no kernel could differ enough. It also keeps exp()
# finite.
LARGEST_EFFECT = 1e3


@dataclass(frozen=True)
class Decision:
    """Per row: verdict (None with fewer than `BLOCKS` blocks), blocks, log ratio with interval, deviation,
    Holm-corrected p-values and MDE (NaN without a verdict).

    The three p-values ask the same mean and error whether there is a difference, whether it is below the margin, and
    whether it is above it. `mde` is a ratio minus 1: 0.03 means that a true difference of 3 % is found with power 0.8.
    NaN between runs, where nothing asks.
    """

    verdicts: list[Verdict | None]
    blocks: NDArray[np.int64]
    ratio: Interval
    sd: Floats
    p_difference: Floats
    p_equivalence: Floats
    p_margin: Floats
    mde: Floats

    def rows(self, first: int, end: int) -> "Decision":
        """Some rows, decided as they are among all."""
        ratio = Interval(*(part[first:end] for part in (self.ratio.value, self.ratio.low, self.ratio.high)))
        others = ("verdicts", "blocks", "sd", "p_difference", "p_equivalence", "p_margin", "mde")
        return Decision(ratio=ratio, **{name: getattr(self, name)[first:end] for name in others})


def paired(log_ratios: Floats) -> Decision:
    """Decide each row from block log ratios (rows, blocks); Holm over the rows that have enough blocks."""
    means = block_means(log_ratios)
    freedom = np.where(means.count > 1, means.count - 1.0, np.nan)
    tests = int((means.count >= BLOCKS).sum())
    return _decide(
        means, freedom, freedom, detectable(np.where(means.count >= BLOCKS, means.error, np.nan), freedom, tests)
    )


def unpaired(old: Floats, new: Floats, scatter: float = 0.0) -> Decision:
    """Decide each row from two runs' block logs of speed, (rows, blocks) each: Welch's t; positive is new faster.
    scatter: standard deviation by which rows differ between the runs for reasons that no block shows.

    Two degrees of freedom: Satterthwaite's for the 95 % interval, the smaller run's n - 1 for the tests.
    Satterthwaite's are an estimate, which is good at 95 % and far too bold in the tails that Holm's correction asks
    about.
    """
    first, second = block_means(old), block_means(new)
    parts = first.error**2, second.error**2
    with np.errstate(invalid="ignore", divide="ignore"):
        freedom = (parts[0] + parts[1]) ** 2 / (parts[0] ** 2 / (first.count - 1) + parts[1] ** 2 / (second.count - 1))
    # Without any deviation Satterthwaite's formula is 0/0; the quantile then multiplies 0 and does not matter.
    freedom = np.where(np.isnan(freedom) & (np.minimum(first.count, second.count) > 1), 1.0, freedom)
    error = np.sqrt(parts[0] + parts[1] + scatter**2)
    count = np.minimum(first.count, second.count)
    least = np.where(count > 1, count - 1.0, np.nan)
    means = BlockMeans(count, second.mean - first.mean, error * np.sqrt(count), error)
    return _decide(means, least, freedom, np.full(count.shape, np.nan))


def _decide(means: BlockMeans, freedom: Floats, interval_freedom: Floats, mde: Floats) -> Decision:
    names, difference, equivalence, margin = verdicts(means, freedom)
    with np.errstate(invalid="ignore"):
        half = special.stdtrit(interval_freedom, 1 - ALPHA / 2) * means.error
    return Decision(
        verdicts=[Verdict(name) if name else None for name in names.tolist()],
        blocks=means.count,
        ratio=Interval(means.mean, means.mean - half, means.mean + half),
        sd=means.sd,
        p_difference=difference,
        p_equivalence=equivalence,
        p_margin=margin,
        mde=mde,
    )


def verdicts(means: BlockMeans, freedom: Floats) -> tuple[NDArray[np.str_], Floats, Floats, Floats]:
    """Names of verdicts ("" with too few blocks), and the corrected p-values that they follow from: of "mean = 0", of
    "|mean| >= MARGIN" (two one-sided tests) and of "|mean| <= MARGIN"."""
    away = np.abs(means.mean)
    tests = (
        2 * special.stdtr(freedom, -_studentized(away, means.error)),
        special.stdtr(freedom, -_studentized(MARGIN - away, means.error)),
        2 * special.stdtr(freedom, -np.maximum(_studentized(away - MARGIN, means.error), 0.0)),
    )
    difference, equivalence, margin = (holm(np.where(means.count >= BLOCKS, found, np.nan)) for found in tests)
    differs, within, beyond = (found <= ALPHA for found in (difference, equivalence, margin))
    names = np.select(
        [np.isnan(difference), differs & beyond, differs & within, differs, within],
        ["", Verdict.FASTER_2_PERCENT, Verdict.FASTER_BELOW_2_PERCENT, Verdict.FASTER_OPEN, Verdict.SAME],
        Verdict.OPEN,
    )
    turned = np.char.replace(names, "FASTER", "SLOWER") if names.size else names
    return np.where(means.mean < 0, turned, names), difference, equivalence, margin


def _studentized(distance: Floats, error: Floats) -> Floats:
    """distance / error, where rounding is no distance: 0/0 is 0, x/0 is infinite with x's sign."""
    distance = np.where(np.abs(distance) < 1e-12, 0.0, distance)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where((error == 0) & (distance == 0), 0.0, distance / error)


def holm(p_values: Floats) -> Floats:
    """Holm's step-down correction over the last axis; NaN entries are not part of the family and stay NaN."""
    order = np.argsort(p_values, axis=-1, kind="stable")  # NaN last
    left = (~np.isnan(p_values)).sum(axis=-1, keepdims=True) - np.arange(p_values.shape[-1])
    if not p_values.size:
        return p_values.copy()
    steps = np.maximum.accumulate(np.take_along_axis(p_values, order, axis=-1) * np.maximum(left, 1), axis=-1)
    corrected = np.empty_like(steps)
    np.put_along_axis(corrected, order, np.minimum(1.0, steps), axis=-1)
    return corrected


def detectable(error: Floats, freedom: Floats, tests: int) -> Floats:
    """Least effect (ratio - 1) found with power 0.8 by the first of `tests` steps; `error` is the standard error of a
    log ratio.

    NaN where there is none: nothing to test, or an effect beyond any that could be.
    """
    if tests == 0:
        return np.full(np.shape(error), np.nan)
    limit = special.stdtrit(freedom, 1 - ALPHA / (2 * tests))
    # Noncentrality at which a t statistic exceeds the limit with probability POWER. Exceeding it on the wrong side is
    # no find.
    effect = special.nctdtrinc(freedom, 1 - POWER, limit) * error
    return np.expm1(np.where(effect <= np.log1p(LARGEST_EFFECT), effect, np.nan))
