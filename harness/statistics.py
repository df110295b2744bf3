"""Means with intervals. Scores are 0..1; intervals are 95 % unless said otherwise."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 10_000


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
    from scipy.stats import binomtest

    found = binomtest(successes, n).proportion_ci(confidence_level=level, method="wilson")
    return float(found.low), float(found.high)


def bootstrap(strata: Sequence[Sequence[float]], level: float = 0.95, seed: int = 0) -> tuple[float, float]:
    """Percentile bootstrap of the unweighted mean of the strata's means, resampling within each stratum.

    One stratum: the ordinary bootstrap of a mean. Several: an average over datasets.
    """
    return percentiles(resampled_means(strata, seed).mean(axis=0), level)


def resampled_means(strata: Sequence[Sequence[float]], seed: int = 0) -> NDArray[np.float64]:
    """``[strata, RESAMPLES]``: the mean of each stratum, resampled again and again within itself."""
    rng = np.random.default_rng(seed)
    means = np.empty((len(strata), RESAMPLES))
    for row, stratum in zip(means, strata):
        values = np.asarray(stratum, dtype=np.float64)
        step = max(1, 2_000_000 // len(values))  # bounds memory: a block of resamples at a time
        for start in range(0, RESAMPLES, step):
            stop = min(start + step, RESAMPLES)
            picked = rng.integers(len(values), size=(stop - start, len(values)))
            row[start:stop] = values[picked].mean(axis=1)
    return means


def percentiles(values: Sequence[float] | NDArray[np.float64], level: float = 0.95) -> tuple[float, float]:
    """The central interval that holds `level` of the resampled values."""
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
