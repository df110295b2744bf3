"""Paired comparisons: the same samples under two conditions, their differences tested and given an interval.

Everything here works on differences sample by sample, arranged in strata (data sets); the statistic is a
weighted sum of the strata's mean differences. One stratum of weight 1 is an ordinary mean.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .bootstrap import BLOCK, MANY, RESAMPLES, clustered, grouped, summed

EXACT = 20
"""Up to so many differences that are not 0, every one of their signs is tried."""
HALVED = 14
"""Up to so many differences all halves of them are tried for an interval."""


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
    spread: float = 1.0,
    clusters: Sequence[Sequence[Hashable]] | None = None,
) -> tuple[float, float] | None:
    """What the difference may be: every shift of the samples that the sign-flip test would not reject.

    Under a shift the flipped statistic lies beyond the one observed just where the shift lies between the
    weighted means of the two halves that a flip makes (Hartigan 1969), so that the bounds are quantiles of those
    means. The interval holds 0 if and only if `sign_flips` gives a p of 1 - level or more, but for what is drawn;
    of several strata, each is first shifted to the mean of all, for only what varies within them is chance.

    Parameters
    ----------
    strata
        The differences of each stratum.
    weights
        What each stratum's mean counts; default: all the same, adding up to 1.
    spread
        How far a single difference can lie from 0: differences that are all equal get the interval of a sample
        that may have missed others, up to so far.
    clusters
        What each sample shares with others (see `harness.stats.average_interval`): whole clusters are flipped.

    Returns
    -------
    tuple or None
        None with a stratum of less than two differences, or with so few that nothing could be rejected.
    """
    arrays = [np.asarray(s, dtype=np.float64) for s in strata]
    named = [c for mine in clustered(strata, clusters) for c in mine]
    count = len(set(named))
    alpha = round(1 - level, 12)
    if not arrays or min(map(len, arrays)) < 2 or smallest_p(count) >= alpha:
        return None
    factors = [1 / len(arrays)] * len(arrays) if weights is None else list(weights)
    parts = contributions(strata, factors)
    centre, total = float(parts.sum()), spread * float(np.abs(factors).sum())
    if all((a == a[0]).all() for a in arrays):
        missed = 1 - alpha ** (
            1 / count
        )  # so large a share of others is missed by all with a chance of alpha
        return centre - missed * (total + centre), min(total, centre + missed * (total - centre))
    if count > MANY:  # the means of so many halves are normal
        residuals = np.concatenate([(a - a.mean()) * (w / len(a)) for a, w in zip(arrays, factors)])
        apart = float(np.square(summed(residuals, named)).sum())
        reach = NormalDist().inv_cdf(1 - alpha / 2) * math.sqrt(apart)
        return centre - reach, centre + reach
    if len(arrays) > 1:  # that data sets differ from one another is no uncertainty of their average
        arrays = [a - a.mean() + centre / sum(factors) for a in arrays]
        parts = contributions([a.tolist() for a in arrays], factors)
    sizes = np.concatenate([np.full(len(a), w / len(a)) for a, w in zip(arrays, factors)])
    low, high = _halves(summed(parts, named), summed(sizes, named), resamples, seed)
    place = max(0, int(np.ceil(alpha * len(low) - 1e-9)) - 1)
    return max(-total, float(np.sort(low)[place])), min(total, float(-np.sort(-high)[place]))


def _halves(
    parts: NDArray[np.float64], sizes: NDArray[np.float64], flips: int, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The smaller and the larger of the two halves' means under each flip; endless where a half is empty."""
    n = len(parts)
    rng = np.random.default_rng(seed)
    every = n <= HALVED
    total = 2**n if every else flips
    low, high = np.empty(total), np.empty(total)
    step = max(1, 4 * BLOCK // n)
    for start in range(0, total, step):
        rows = min(step, total - start)
        signs: NDArray[np.integer[Any]]
        if every:
            signs = (np.arange(start, start + rows)[:, None] >> np.arange(n)) & 1
        else:
            drawn = np.frombuffer(rng.bytes(rows * -(-n // 8)), np.uint8).reshape(rows, -1)
            signs = np.unpackbits(drawn, axis=1, count=n)
        taken, weight = signs @ parts, signs @ sizes
        with np.errstate(divide="ignore", invalid="ignore"):
            one, other = taken / weight, (parts.sum() - taken) / (sizes.sum() - weight)
        whole = (signs.all(axis=1)) | ~signs.any(axis=1)
        low[start : start + rows] = np.where(whole, -np.inf, np.minimum(one, other))
        high[start : start + rows] = np.where(whole, np.inf, np.maximum(one, other))
    return low, high


def contributions(
    strata: Sequence[Sequence[float]],
    weights: Sequence[float] | None = None,
    clusters: Sequence[Sequence[Hashable]] | None = None,
) -> NDArray[np.float64]:
    """What each sample adds to the weighted sum of the strata's means, or each cluster; their sum is the statistic."""
    factors = [1 / len(strata)] * len(strata) if weights is None else weights
    found = np.concatenate([np.asarray(s, dtype=np.float64) * (w / len(s)) for s, w in zip(strata, factors)])
    if clusters is None:
        return found
    return summed(found, [c for mine in clustered(strata, clusters) for c in mine])


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


def tarone(smallest: Sequence[float], alpha: float) -> float:
    """Below which smallest p a test can be significant at all, with a correction for so many of them (Tarone 1990).

    Of the tests whose smallest possible p is below alpha / K there are at most K: only these are made, and
    corrected for; the others could be significant under no outcome, which must be said of them.
    """
    k = 1
    while sum(p < alpha / k for p in smallest) > k:
        k += 1
    return alpha / k


def holm(ps: Sequence[float]) -> list[float]:
    """p-values corrected for their number by Holm's step-down (Holm 1979), in the order given."""
    values = np.asarray(ps, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    steps = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    corrected = np.empty_like(values)
    corrected[order] = np.minimum(steps, 1.0)
    return [float(p) for p in corrected]
