"""Means with intervals. Scores are 0..1; intervals are 95 % unless said otherwise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 10_000
BLOCK = 100_000
"""Numbers drawn at a time, at most: so many stay in a core's cache, which halves the time."""
MANY = 4096
BINS = 256


def mean(scores: Sequence[float]) -> float | None:
    """The arithmetic mean; None of nothing."""
    return float(np.mean(scores)) if len(scores) else None


def confidence_interval(
    scores: Sequence[float], level: float = 0.95, seed: int = 0
) -> tuple[float, float] | None:
    """An interval for the mean of `scores`.

    Scores that are all 0 or 1 get Wilson's score interval, which is honest at few samples and at the ends;
    others the percentile bootstrap over samples (10,000 resamples, seeded). None below two samples, and
    below three for the bootstrap, where resampling says nothing.
    """
    values = np.asarray(scores, dtype=np.float64)
    if len(values) < 2:
        return None
    if np.isin(values, (0.0, 1.0)).all():
        return wilson(int(values.sum()), len(values), level)
    if len(values) < 3:
        return None
    return bootstrap([values.tolist()], level, seed)


def wilson(successes: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval for a proportion (Wilson 1927)."""
    z = NormalDist().inv_cdf((1 + level) / 2)
    share = successes / n
    centre = share + z * z / (2 * n)
    spread = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # At the ends the two cancel, but for their last digits.
    low = 0.0 if successes == 0 else (centre - spread) / (1 + z * z / n)
    high = 1.0 if successes == n else (centre + spread) / (1 + z * z / n)
    return low, high


def bootstrap(strata: Sequence[Sequence[float]], level: float = 0.95, seed: int = 0) -> tuple[float, float]:
    """Percentile bootstrap of the unweighted mean of the strata's means, resampling within each stratum.

    One stratum: the ordinary bootstrap of a mean. Several: an average over datasets.
    """
    found = percentiles(resampled_means(strata, seed).mean(axis=0), level)
    return widened(found, sum(map(len, strata)), level)


def widened(interval: tuple[float, float], n: int, level: float = 0.95) -> tuple[float, float]:
    """An interval of scores 0..1 that has a width: `n` samples that are all alike do not prove that all others are.

    Where resampling gives one number, a share of other samples that `n` would miss with a chance of 1 - level is
    reckoned with, on either side.
    """
    low, high = interval
    if high - low > 1e-12:
        return interval
    missed = 1 - (1 - level) ** (1 / n)
    return low - missed * low, high + missed * (1 - high)


def resampled_means(
    strata: Sequence[Sequence[float]], seed: int = 0, resamples: int = RESAMPLES
) -> NDArray[np.float64]:
    """``[strata, resamples]``: the mean of each stratum, resampled again and again within itself.

    Where few distinct values are shared by many samples (scores of right and wrong), it is drawn how often
    each value comes up, which is the same and takes far less time than drawing samples one by one. Of more
    than 4,096 samples, values are first rounded as `grouped` says.
    """
    rng = np.random.default_rng(seed)
    means = np.empty((len(strata), resamples))
    for row, stratum in zip(means, strata):
        values = np.asarray(stratum, dtype=np.float64)
        distinct, counts = grouped(values)
        by_value = 10 * len(distinct) < len(values)  # drawing a count takes about ten times as long
        step = max(1, BLOCK // (len(distinct) if by_value else len(values)))
        for start in range(0, resamples, step):
            size = min(step, resamples - start)
            if by_value:
                drawn = rng.multinomial(len(values), counts / len(values), size=size)
                row[start : start + size] = drawn @ distinct / len(values)
            else:
                places = rng.integers(len(values), size=(size, len(values)))
                row[start : start + size] = values[places].mean(axis=1)
    return means


def grouped(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Distinct values, in the order in which they first come, and how often each comes.

    More than 256 distinct values of more than 4,096 samples are put into bins of 1/128 of the largest one,
    each bin standing for its mean: the mean of all stays as it is, and their variance loses a share in the
    order of 1e-4. Values of the opposite sign give the opposite groups in the same order.
    """
    names = values
    if len(values) > MANY and len(np.unique(values)) > BINS:
        names = np.rint(values * (BINS / 2 / np.abs(values).max()))
    _, first, inverse, counts = np.unique(names, return_index=True, return_inverse=True, return_counts=True)
    means = np.bincount(inverse, weights=values) / counts if names is not values else values[first]
    order = np.argsort(first)
    return means[order], counts[order]


def percentiles(values: Sequence[float] | NDArray[np.float64], level: float = 0.95) -> tuple[float, float]:
    """The central interval that holds `level` of the resampled values."""
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
