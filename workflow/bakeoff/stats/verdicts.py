"""The decision rule of docs/statistics.md: FASTER, SLOWER, SAME or AMBIGUOUS, and what could have been found.

Entry points: `paired` (two solutions of one run), `unpaired` (the same solution in two runs). Rows are the workloads of
one family of tests; the last axis holds blocks, NaN where a block is missing. A positive log ratio means that a is
faster.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from bakeoff.runs.intervals import BlockMeans, Floats, Interval, block_means
from bakeoff.schema.base import Verdict

ALPHA = 0.05
MARGIN = float(np.log(1.02))
POWER = 0.8
# A minimum detectable effect above this is none: with so few blocks no kernel could differ enough. It also keeps exp()
# finite.
LARGEST_EFFECT = 1e3


@dataclass(frozen=True)
class Decision:
    """Per row: verdict (None if untestable), blocks, log ratio with interval, deviation, Holm-corrected p-values and
    MDE (NaN if untestable).

    `mde` is a ratio minus 1: 0.03 means that a true difference of 3 % is found with power 0.8. NaN between runs, where
    nothing asks.
    """

    verdicts: list[Verdict | None]
    blocks: NDArray[np.int64]
    ratio: Interval
    sd: Floats
    p_difference: Floats
    p_equivalence: Floats
    mde: Floats


def paired(log_ratios: Floats) -> Decision:
    """Decide each row from block log ratios (rows, blocks); Holm over the rows that have at least two blocks."""
    means = block_means(log_ratios)
    freedom = np.where(means.count > 1, means.count - 1.0, np.nan)
    mde = detectable(means.error, freedom, int((means.count > 1).sum()))
    return _decide(means, freedom, freedom, mde)


def unpaired(old: Floats, new: Floats) -> Decision:
    """Decide each row from two runs' block logs of speedup, (rows, blocks) each: Welch's t; positive is new faster.

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
    error = np.sqrt(parts[0] + parts[1])
    count = np.minimum(first.count, second.count)
    least = np.where(count > 1, count - 1.0, np.nan)
    means = BlockMeans(count, second.mean - first.mean, error * np.sqrt(count), error)
    return _decide(means, least, freedom, np.full(count.shape, np.nan))


def _decide(means: BlockMeans, freedom: Floats, interval_freedom: Floats, mde: Floats) -> Decision:
    testable = means.count > 1
    difference = holm(np.where(testable, _two_sided(means, freedom), np.nan))
    equivalence = holm(np.where(testable, _equivalent(means, freedom), np.nan))
    with np.errstate(invalid="ignore"):
        half = special.stdtrit(interval_freedom, 1 - ALPHA / 2) * means.error
    return Decision(
        verdicts=[_verdict(*row) for row in zip(testable, means.mean, difference, equivalence, strict=True)],
        blocks=means.count,
        ratio=Interval(means.mean, means.mean - half, means.mean + half),
        sd=means.sd,
        p_difference=difference,
        p_equivalence=equivalence,
        mde=mde,
    )


def _verdict(testable: bool, mean: float, difference: float, equivalence: float) -> Verdict | None:
    if not testable:
        return None
    if equivalence <= ALPHA:
        return Verdict.SAME
    if difference <= ALPHA:
        return Verdict.FASTER if mean > 0 else Verdict.SLOWER
    return Verdict.AMBIGUOUS


def _two_sided(means: BlockMeans, freedom: Floats) -> Floats:
    """p-values of "mean = 0". Without deviation the mean itself decides: 1 if it is 0, else 0."""
    return 2 * special.stdtr(freedom, -np.abs(_studentized(means.mean, means.error)))


def _equivalent(means: BlockMeans, freedom: Floats) -> Floats:
    """p-values of two one-sided t tests of "|mean| >= MARGIN"; without deviation 0 inside the margin and at least 0.5
    elsewhere."""
    return special.stdtr(freedom, -_studentized(MARGIN - np.abs(means.mean), means.error))


def _studentized(distance: Floats, error: Floats) -> Floats:
    """distance / error, where rounding is no distance: 0/0 is 0, x/0 is infinite with x's sign."""
    distance = np.where(np.abs(distance) < 1e-12, 0.0, distance)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where((error == 0) & (distance == 0), 0.0, distance / error)


def holm(p_values: Floats) -> Floats:
    """Holm's step-down correction over one axis; NaN entries are not part of the family and stay NaN."""
    corrected = np.full(p_values.shape, np.nan)
    present = np.flatnonzero(~np.isnan(p_values))
    order = present[np.argsort(p_values[present], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(p_values[order] * factors))
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
