"""Intervals of costs: every cost of a task, and its score, resampled together, so that one draw serves all."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from harness.stats import clustered, percentiles, student
from harness.stats.bootstrap import summed

RESAMPLES = 1_000
"""Fewer than for scores: a table has many costs, and nobody reads their third digit."""
MANY = 4096
"""From so many samples on means are drawn from their normal distribution, which the bootstrap then equals."""
BLOCK = 4_000_000


def resampled(
    columns: Mapping[str, NDArray[np.float64]], contexts: Sequence[Hashable], seed: int = 0
) -> dict[str, NDArray[np.float64]]:
    """``[RESAMPLES]`` means of each column, all over the same resampled contexts with all their rows.

    Parameters
    ----------
    columns
        Values of the same samples, in the same order.
    contexts
        What each sample shares with others.
    """
    values = np.array(list(columns.values()), dtype=np.float64)
    [named] = clustered([contexts], [contexts])
    sums = np.array([summed(column, named) for column in values])
    sizes = summed(np.ones(values.shape[1]), named)
    mean, n, k = values.mean(axis=1), values.shape[1], len(sizes)
    rng = np.random.default_rng(seed)
    if k > MANY:
        residuals = (sums - mean[:, None] * sizes) / n
        drawn = rng.multivariate_normal(
            mean, np.atleast_2d(residuals @ residuals.T), RESAMPLES, method="eigh"
        )
        return dict(zip(columns, drawn.T))
    means = np.empty((RESAMPLES, len(values)))
    step = max(1, BLOCK // k)
    for start in range(0, RESAMPLES, step):
        rows = min(step, RESAMPLES - start)
        places = rng.integers(k, size=(rows, k)) + k * np.arange(rows)[:, None]
        times = np.bincount(places.ravel(), minlength=rows * k).reshape(rows, k)
        means[start : start + rows] = times @ sums.T / (times @ sizes)[:, None]
    return dict(zip(columns, means.T))


def interval(value: float, means: NDArray[np.float64], contexts: int) -> tuple[float, float] | None:
    """The 95 % interval of a cost from its resampled values; None below three contexts, where they say nothing.

    Of few contexts resampled means lie too close together: they are spread as Student's t is against the normal
    distribution (Hesterberg 2015). No cost is below 0.
    """
    if contexts < 3:
        return None
    wider = student(0.95, contexts - 1) / NormalDist().inv_cdf(0.975) * math.sqrt(contexts / (contexts - 1))
    low, high = percentiles(means)
    return max(0.0, value + (low - value) * wider), value + (high - value) * wider
