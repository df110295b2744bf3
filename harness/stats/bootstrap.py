"""Means with intervals. Scores are 0..1; intervals are 95 % unless said otherwise."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from statistics import NormalDist
from typing import Any

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
    scores: Sequence[float], level: float = 0.95, clusters: Sequence[Hashable] | None = None
) -> tuple[float, float] | None:
    """An interval for the mean of `scores`: see `average_interval`, of which this is one stratum.

    Independent scores that are all 0 or 1 get Wilson's own interval. None below two samples, and below three
    for scores between 0 and 1, which are too few to know their spread.
    """
    values = np.asarray(scores, dtype=np.float64)
    if len(values) < 2:
        return None
    shared = None if clusters is None else [clusters]
    alone = len(set(*clustered([values.tolist()], shared))) == len(values)
    if np.isin(values, (0.0, 1.0)).all():
        if alone:
            return wilson(int(values.sum()), len(values), level)
    elif len(values) < 3:
        return None
    return average_interval([values.tolist()], None, level, shared)


def wilson(successes: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval for a proportion (Wilson 1927)."""
    return _wilson(successes / n, n, NormalDist().inv_cdf((1 + level) / 2))


def _wilson(share: float, n: float, z: float) -> tuple[float, float]:
    centre = share + z * z / (2 * n)
    spread = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low, high = (centre - spread) / (1 + z * z / n), (centre + spread) / (1 + z * z / n)
    # At the ends two terms cancel, but for their last digits.
    return (0.0 if share == 0 else max(0.0, low)), (1.0 if share == 1 else min(1.0, high))


def average_interval(
    strata: Sequence[Sequence[float]],
    weights: Sequence[float] | None = None,
    level: float = 0.95,
    clusters: Sequence[Sequence[Hashable]] | None = None,
    centre: float | None = None,
) -> tuple[float, float] | None:
    """An interval for a weighted sum of the strata's means, such as an average over data sets.

    Scores 0..1 get Wilson's interval at the number of samples that would give a share of right answers the
    spread that was seen (Korn and Graubard 1998), with Student's t in place of the normal distribution; others
    Student's interval. Its share of right intervals was simulated at 3 to 50 samples (`docs/concepts.md`).

    Parameters
    ----------
    weights
        What each stratum's mean counts; default: all the same, adding up to 1.
    clusters
        What each sample shares with others: questions on one text are no independent samples of what a method
        can do. The spread is that of whole clusters, across strata too, and never taken for less than that of
        independent samples. A stratum all of whose samples share one cluster is taken as independent: of other
        texts it says nothing.
    centre
        The value itself, if it is not the weighted sum.

    Returns
    -------
    tuple or None
        None with a stratum of less than two samples.
    """
    arrays = [np.asarray(s, dtype=np.float64) for s in strata]
    if not arrays or min(map(len, arrays)) < 2:
        return None
    factors = [1 / len(arrays)] * len(arrays) if weights is None else list(weights)
    value = sum(w * float(a.mean()) for w, a in zip(factors, arrays)) if centre is None else centre
    named = clustered(strata, clusters)
    variance, freedom = variance_of_mean(arrays, factors, named)
    reach = student(level, freedom)
    if value < -1e-9 or value > 1 + 1e-9 or any(a.min() < 0 or a.max() > 1 for a in arrays):
        return value - reach * math.sqrt(variance), value + reach * math.sqrt(variance)
    value = min(1.0, max(0.0, value))
    if variance <= 1e-15:  # samples that are all alike do not prove that all others are
        independent = len({c for mine in named for c in mine})
        return _wilson(value, independent, NormalDist().inv_cdf((1 + level) / 2))
    return _wilson(value, max(value * (1 - value), 1e-9) / variance, reach)


def clustered(
    strata: Sequence[Sequence[Any]], clusters: Sequence[Sequence[Hashable]] | None
) -> list[list[Hashable]]:
    """A name for the cluster of each sample; those of a stratum that is one cluster are each their own."""
    if clusters is None:
        clusters = [[None] * len(s) for s in strata]
    found: list[list[Hashable]] = []
    for number, mine in enumerate(clusters):
        one = len(set(mine)) < 2
        found.append([(number, place) for place in range(len(mine))] if one else list(mine))
    return found


def summed(values: NDArray[np.float64], clusters: Sequence[Hashable]) -> NDArray[np.float64]:
    """The sum of each cluster's values, in the order in which the clusters first come."""
    places: dict[Hashable, int] = {}
    found = [places.setdefault(c, len(places)) for c in clusters]
    return np.asarray(np.bincount(found, weights=values), dtype=np.float64)


def variance_of_mean(
    arrays: Sequence[NDArray[np.float64]], factors: Sequence[float], named: Sequence[Sequence[Hashable]]
) -> tuple[float, float]:
    """The variance of the weighted sum of means; and its degrees of freedom (Welch and Satterthwaite), at least 1."""
    own = [w * w * float(a.var(ddof=1)) / len(a) for w, a in zip(factors, arrays)]
    residuals = [(a - a.mean()) * (w / len(a)) for w, a in zip(factors, arrays)]
    counts = [len(set(mine)) for mine in named]
    flat = [c for mine in named for c in mine]
    whole = len(set(flat))
    parts = own
    if whole < len(flat):  # some samples share something
        parts = [
            float(np.square(summed(r, mine)).sum()) * k / (k - 1)
            for r, mine, k in zip(residuals, named, counts)
        ]
    inside = [max(a, b) for a, b in zip(own, parts)]
    across = float(np.square(summed(np.concatenate(residuals), flat)).sum()) * whole / max(1, whole - 1)
    variance = max(sum(inside), across if whole < sum(counts) else 0.0)  # sets that repeat each other's texts
    shares = sum(v * v / (k - 1) for v, k in zip(inside, counts))
    freedom = sum(inside) ** 2 / shares if shares > 0 else float(whole - 1)
    return variance, max(1.0, min(freedom, whole - 1))


def student(level: float, freedom: float) -> float:
    """How many standard errors the central `level` of Student's distribution reaches to either side."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, (1 + level) / 2))


def drawn_means(
    strata: Sequence[Sequence[float]],
    clusters: Sequence[Sequence[Hashable]] | None = None,
    seed: int = 0,
    draws: int = RESAMPLES,
) -> NDArray[np.float64]:
    """``[strata, draws]``: what the strata's means may be, drawn, for intervals of what is made of several.

    Of scores 0..1 each mean is drawn from the Beta distribution of a share (Jeffreys' prior) at the number of
    samples that `average_interval` would give it; of others from Student's distribution. Strata that share
    clusters are drawn together, as far apart or alike as their clusters are.

    Parameters
    ----------
    strata
        At least two scores each.
    clusters
        What each sample shares with others: see `average_interval`.
    """
    from scipy.special import betaincinv, ndtr, stdtrit

    arrays = [np.asarray(s, dtype=np.float64) for s in strata]
    named = clustered(strata, clusters)
    ranks = ndtr(_alike(arrays, named) @ np.random.default_rng(seed).standard_normal((len(arrays), draws)))
    means = np.empty((len(arrays), draws))
    for row, rank, values, mine in zip(means, ranks, arrays, named):
        value, count = float(values.mean()), len(set(mine))
        variance, freedom = variance_of_mean([values], [1.0], [mine])
        if values.min() < 0 or values.max() > 1:
            row[:] = value + stdtrit(freedom, rank) * math.sqrt(variance)
            continue
        n = float(count)
        if variance > 1e-15 and not (count == len(mine) and np.isin(values, (0.0, 1.0)).all()):
            n = value * (1 - value) / variance * (student(0.95, 1e9) / student(0.95, freedom)) ** 2
        row[:] = betaincinv(value * n + 0.5, (1 - value) * n + 0.5, rank)
    return means


def _alike(arrays: Sequence[NDArray[np.float64]], named: Sequence[Sequence[Hashable]]) -> NDArray[np.float64]:
    """A matrix that makes independent normal draws, a row a stratum, as alike as the strata are by shared clusters."""
    flat = [c for mine in named for c in mine]
    rows = []
    for number in range(len(arrays)):
        own = [a - a.mean() if i == number else np.zeros(len(a)) for i, a in enumerate(arrays)]
        rows.append(summed(np.concatenate(own), flat))
    sums = np.array(rows)
    norms = np.sqrt(np.square(sums).sum(axis=1))
    shape = sums @ sums.T / np.where(np.outer(norms, norms) > 0, np.outer(norms, norms), 1.0)
    np.fill_diagonal(shape, 1.0)
    values, vectors = np.linalg.eigh(shape)
    return np.asarray(vectors * np.sqrt(np.clip(values, 0, None)), dtype=np.float64)


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
