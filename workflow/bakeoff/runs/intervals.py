"""Point estimates and 95 % intervals from one number per block.

Arrays hold blocks in the last axis and anything before it (cells, pairs); NaN marks a missing block, as `Samples` makes
it after it has refused real NaNs. All functions are vectorised over the leading axes and work on logarithms of times.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import special

Floats = NDArray[np.float64]

LEVEL = 0.95
# From this many blocks on, the two extreme blocks cover the median with more than 95 % (1 - 2/2^6 = 96.9 %).
MEDIAN_BLOCKS = 6
# Deviations below this are rounding of equal numbers: no clock resolves 1e-12 of a measured time.
ZERO = 1e-12


@dataclass(frozen=True)
class Interval:
    """Value and interval per leading index; low and high are NaN where fewer than two blocks are there, value where
    none is."""

    value: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True)
class BlockMeans:
    """Count, mean, sample standard deviation and standard error over blocks; NaN where they do not exist."""

    count: NDArray[np.int64]
    mean: Floats
    sd: Floats
    error: Floats


def block_means(logs: Floats) -> BlockMeans:
    """Moments over the last axis, missing blocks left out. A deviation that is only rounding is exactly 0."""
    present = ~np.isnan(logs)
    count = present.sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(present, logs, 0.0).sum(axis=-1) / np.where(count > 0, count, np.nan)
        squares = np.where(present, (logs - mean[..., None]) ** 2, 0.0).sum(axis=-1)
        sd = np.sqrt(squares / np.where(count > 1, count - 1, np.nan))
        sd = np.where(sd < ZERO, 0.0, sd)
        return BlockMeans(count, mean, sd, sd / np.sqrt(count))


def mean_interval(logs: Floats, level: float = LEVEL) -> Interval:
    """Student's t interval of the mean; in the unit of `logs`."""
    means = block_means(logs)
    with np.errstate(invalid="ignore"):
        half = special.stdtrit(np.where(means.count > 1, means.count - 1, np.nan), (1 + level) / 2) * means.error
    return Interval(means.mean, means.mean - half, means.mean + half)


def median_interval(logs: Floats, level: float = LEVEL) -> Interval:
    """Median with an interval from order statistics, or from Student's t where there are too few blocks for that."""
    ordered = np.sort(logs, axis=-1)  # NaN last
    count = (~np.isnan(logs)).sum(axis=-1)
    few = mean_interval(logs, level)
    value, low, high = np.full(count.shape, np.nan), few.low.copy(), few.high.copy()
    for n in np.unique(count[count > 0]):
        rows = count == n
        kept = ordered[rows][:, :n]
        value[rows] = np.median(kept, axis=-1)
        if n >= MEDIAN_BLOCKS:
            low[rows], high[rows] = _order_statistics(kept, level)
    return Interval(value, low, high)


def _order_statistics(ordered: Floats, level: float) -> tuple[Floats, Floats]:
    """Interpolated order-statistic interval of the median (Hettmansperger and Sheather, 1986); rows are sorted, at
    least 6 wide."""
    n = ordered.shape[-1]
    depth, share = _depth(n, level)
    weight = (n - depth) * share / (depth + (n - 2 * depth) * share)
    low = (1 - weight) * ordered[:, depth - 1] + weight * ordered[:, depth]
    high = (1 - weight) * ordered[:, n - depth] + weight * ordered[:, n - depth - 1]
    return low, high


@lru_cache
def _depth(n: int, level: float) -> tuple[int, float]:
    """The outer order statistic (from 1) whose interval covers at least `level`, and the share of the way to the next
    one."""
    coverage = [1 - 2 * special.bdtr(k - 1, n, 0.5) for k in range(1, n // 2 + 2)]
    depth = max(k for k, covered in enumerate(coverage[:-1], 1) if covered >= level)
    outer, inner = coverage[depth - 1], coverage[depth]
    return depth, float((outer - level) / (outer - inner))


def outliers(logs: Floats, share: float = 0.03, deviations: float = 5.0) -> NDArray[np.bool_]:
    """Blocks that are both more than `share` and more than `deviations` robust standard deviations off their median."""
    with np.errstate(all="ignore"):
        away = np.abs(logs - _nanmedian(logs)[..., None])
        robust = (
            1.4826 * _nanmedian(away)[..., None]
        )  # of a normal distribution, 1.4826 times the median deviation is the sd
        return (away > np.log1p(share)) & (away > deviations * robust)


def _nanmedian(values: Floats) -> Floats:
    """Median over the last axis, NaN left out; NaN where nothing is left."""
    count = (~np.isnan(values)).sum(axis=-1)
    ordered = np.sort(values, axis=-1)  # NaN last
    middle = np.stack([np.maximum(count - 1, 0) // 2, count // 2], axis=-1)
    picked = np.take_along_axis(ordered, np.minimum(middle, values.shape[-1] - 1), axis=-1).mean(axis=-1)
    return np.where(count > 0, picked, np.nan)
