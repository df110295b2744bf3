"""Intervals of costs: every cost of a task, and its score, resampled together, so that one draw serves all."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from harness.stats import percentiles

RESAMPLES = 1_000
"""Fewer than for scores: a table has many costs, and nobody reads their third digit."""
MANY = 4096
"""From so many samples on means are drawn from their normal distribution, which the bootstrap then equals."""
BLOCK = 4_000_000


def resampled(columns: Mapping[str, NDArray[np.float64]], seed: int = 0) -> dict[str, NDArray[np.float64]]:
    """``[RESAMPLES]`` means of each column, all over the same resampled rows.

    Parameters
    ----------
    columns
        Values of the same samples, in the same order.
    """
    values = np.array(list(columns.values()), dtype=np.float64)
    n = values.shape[1]
    rng = np.random.default_rng(seed)
    if n > MANY:
        spread = np.atleast_2d(np.cov(values, bias=True)) / n
        drawn = rng.multivariate_normal(values.mean(axis=1), spread, RESAMPLES, method="eigh")
        return dict(zip(columns, drawn.T))
    means = np.empty((RESAMPLES, len(values)))
    step = max(1, BLOCK // n)
    for start in range(0, RESAMPLES, step):
        rows = min(step, RESAMPLES - start)
        places = rng.integers(n, size=(rows, n)) + n * np.arange(rows)[:, None]
        times = np.bincount(places.ravel(), minlength=rows * n).reshape(rows, n)
        means[start : start + rows] = times @ values.T / n
    return dict(zip(columns, means.T))


def interval(means: NDArray[np.float64], n: int) -> tuple[float, float] | None:
    """The 95 % interval of resampled means over `n` samples; None below three, where resampling says nothing."""
    return percentiles(means) if n >= 3 else None
