"""Paired comparisons: the same samples under two conditions, their differences tested and given an interval.

Everything here works on differences sample by sample, arranged in strata (data sets); the statistic is a
weighted sum of the strata's mean differences. One stratum of weight 1 is an ordinary mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .bootstrap import BLOCK, RESAMPLES, grouped, percentiles, resampled_means

EXACT = 20
"""Up to so many differences that are not 0, every one of their signs is tried."""


@dataclass(frozen=True)
class SignFlips:
    """What a permutation test found.

    Attributes
    ----------
    p
        Two-sided: the share of sign flips whose statistic is at least as far from 0 as the one observed. If
        flips were drawn, (k + 1) / (flips + 1), so never 0.
    flips
        How many there were: all of them if `exact`, else how many were drawn.
    exact
        Whether all possible flips were tried.
    """

    p: float
    flips: int
    exact: bool


def difference_interval(
    strata: Sequence[Sequence[float]],
    weights: Sequence[float] | None = None,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
    means: NDArray[np.float64] | None = None,
) -> tuple[float, float] | None:
    """Percentile bootstrap of the weighted sum of the strata's mean differences, resampled within each.

    Parameters
    ----------
    strata
        The differences of each stratum.
    weights
        What each stratum's mean counts; default: all the same, adding up to 1.
    means
        ``[strata, resamples]``: `resampled_means` of the strata, where they were drawn already. Rows of one
        drawing are independent, so any of them may be put together.

    Returns
    -------
    tuple or None
        None where resampling says nothing: a stratum with less than two differences, or none in which two
        differ. (Ten samples that are all equal do not prove that all others are.)
    """
    arrays = [np.asarray(s, dtype=np.float64) for s in strata]
    if not arrays or min(map(len, arrays)) < 2 or all((a == a[0]).all() for a in arrays):
        return None
    factors = np.full(len(arrays), 1 / len(arrays)) if weights is None else np.asarray(weights)
    if means is None:
        means = resampled_means(arrays, seed, resamples)  # type: ignore[arg-type]
    return percentiles(factors @ means, level)


def contributions(
    strata: Sequence[Sequence[float]], weights: Sequence[float] | None = None
) -> NDArray[np.float64]:
    """What each sample adds to the weighted sum of the strata's means; their sum is the statistic."""
    factors = [1 / len(strata)] * len(strata) if weights is None else weights
    return np.concatenate([np.asarray(s, dtype=np.float64) * (w / len(s)) for s, w in zip(strata, factors)])


def sign_flips(parts: Sequence[float], flips: int = RESAMPLES, seed: int = 0) -> SignFlips:
    """Paired permutation test that the sum of `parts` is 0: under the null each sign may as well be the other.

    Parameters
    ----------
    parts
        Differences, or `contributions` of samples in strata.
    flips
        How many to draw where there are more than `EXACT` parts that are not 0.
    """
    values = np.asarray(parts, dtype=np.float64)
    sizes = np.abs(values[values != 0])
    observed = abs(float(values.sum())) - 1e-9 * float(
        sizes.sum()
    )  # equal sums may differ in their last digits
    if len(sizes) <= EXACT:
        sums = np.zeros(1)
        for size in sizes:
            sums = np.concatenate([sums + size, sums - size])
        return SignFlips(float(np.mean(np.abs(sums) >= observed)), len(sums), True)
    hits = int((np.abs(_flipped_sums(sizes, flips, seed)) >= observed).sum())
    return SignFlips((hits + 1) / (flips + 1), flips, False)


def _flipped_sums(sizes: NDArray[np.float64], flips: int, seed: int) -> NDArray[np.float64]:
    """``[flips]`` sums of `sizes` (> 0) with random signs; equal sizes are drawn together."""
    rng = np.random.default_rng(seed)
    distinct, counts = grouped(sizes)
    total = float(sizes.sum())
    sums = np.empty(flips)
    together = 40 * len(distinct) < len(sizes)  # a binomial takes about forty times as long as a bit
    width = len(distinct) if together else len(sizes)
    step = max(1, BLOCK // width)
    for start in range(0, flips, step):
        rows = min(step, flips - start)
        if together:
            positive = rng.binomial(counts, 0.5, size=(rows, width)) @ distinct
        else:
            drawn = np.frombuffer(rng.bytes(rows * -(-width // 8)), np.uint8).reshape(rows, -1)
            positive = np.unpackbits(drawn, axis=1, count=width) @ sizes
        sums[start : start + rows] = 2 * positive - total
    return sums


def mcnemar(a: Sequence[float], b: Sequence[float]) -> float | None:
    """McNemar's exact test, two-sided, of scores that are all 0 or 1; None for others.

    It is the sign-flip test of such scores with every flip counted, at any number of samples.
    """
    from scipy.special import bdtr

    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if not (np.isin(x, (0.0, 1.0)).all() and np.isin(y, (0.0, 1.0)).all()):
        return None
    only_a, only_b = int((x > y).sum()), int((y > x).sum())
    # Under the null either side is as likely: twice the tail of a binomial of one half.
    return min(1.0, 2 * float(bdtr(min(only_a, only_b), only_a + only_b, 0.5)))


def smallest_p(n: int) -> float:
    """The smallest p that the sign flips of `n` differences can give: all differences on one side."""
    return min(1.0, 2.0 ** (1 - n))


def holm(ps: Sequence[float]) -> list[float]:
    """p-values corrected for their number by Holm's step-down (Holm 1979), in the order given."""
    values = np.asarray(ps, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    steps = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    corrected = np.empty_like(values)
    corrected[order] = np.minimum(steps, 1.0)
    return [float(p) for p in corrected]
